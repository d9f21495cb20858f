//! Taking away: truncating the log to a new fork, and clearing blocks while the log stays as long as it is.

use std::ops::Range;

use bytes::Bytes;

use super::Core;
use super::append::{check_prologue, sign};
use crate::bitfield::Change;
use crate::error::Error;
use crate::events::CoreEvent;
use crate::signing::KeyPair;
use crate::storage::{CoreBatch, Hints};
use crate::tree::TreeBatch;

/// How to truncate.
#[derive(Debug, Clone, Default)]
pub struct TruncateOptions {
    /// The new fork; one more than the present one unless given.
    pub fork: Option<u64>,
    /// Signs instead of the key pairs that the core holds.
    pub key_pair: Option<KeyPair>,
    /// A signature that was made elsewhere over exactly the tree that will result.
    pub signature: Option<Bytes>,
}

/// The last fork: numbers beyond it are neither stored nor sent (npm `compact-encoding`, `uint`).
const MAX_FORK: u64 = (1 << 53) - 1;

impl Core {
    /// Cuts the log to `length` blocks and moves it to the next fork, so that peers follow.
    pub fn truncate(&mut self, length: u64) -> Result<(), Error> {
        self.truncate_with(length, &TruncateOptions::default())
    }

    /// Cuts the log, with options.
    pub fn truncate_with(&mut self, length: u64, options: &TruncateOptions) -> Result<(), Error> {
        self.check_changeable()?;
        let old_length = self.head.length;
        if length > old_length {
            return Err(Error::OutOfBounds { what: "truncate", index: length, length: old_length });
        }
        let found_verifier = self.own_verifier(options.key_pair.as_ref());
        let verifier = found_verifier.as_deref().or(self.verifier.as_deref());
        let verifier = verifier.ok_or(Error::NotWritable(self.key))?;
        let fork = options.fork.unwrap_or(self.head.fork.saturating_add(1));
        if fork > MAX_FORK {
            return Err(Error::Full(format!("{fork} is no fork: the last one is {MAX_FORK}")));
        }

        let mut tree = TreeBatch::from_head(&self.head);
        tree.truncate(&self.store, length, fork)?;
        check_prologue(verifier, tree.head(), "the truncation would cut into them")?;
        let pairs = options.key_pair.as_ref().map_or(&*self.key_pairs, std::slice::from_ref);
        let signature = sign(verifier, tree.head(), pairs, options.signature.as_ref())?;
        tree.set_signature(signature);

        let mut batch = self.store.batch();
        if let Some(verifier) = &found_verifier {
            self.write_manifest(&mut batch, verifier.manifest())?;
        }
        let (change, hints) = self.write_cut(&mut batch, &tree)?;
        self.store.commit(&batch)?;
        if found_verifier.is_some() {
            self.verifier = found_verifier;
            self.journal.manifest();
        }
        self.apply_cut(tree, change, hints);
        Ok(())
    }

    /// Removes the blocks of a range and gives their space back. The tree stays, so that peers that are behind can
    /// still be brought up to date (JS removes some of its nodes). Returns how many blocks were here.
    pub fn clear(&mut self, range: Range<u64>) -> Result<u64, Error> {
        self.check_open()?;
        let range = range.start..range.end.min(self.head.length);
        if range.start >= range.end {
            return Ok(0);
        }
        let mut bits = self.bitfield.stage(&self.store);
        let cleared = bits.clear(range.start, range.end)?;
        if cleared == 0 {
            return Ok(0);
        }
        let mut batch = self.store.batch();
        if range.end - range.start == 1 {
            batch.delete_block(range.start);
        } else {
            batch.delete_blocks(range.clone());
        }
        let (change, hints) = self.write_bits(&mut batch, bits, self.remote_contiguous);
        self.store.commit(&batch)?;
        self.bitfield.apply(change);
        self.hints = hints;
        self.journal.have(range, true);
        Ok(cleared)
    }

    /// Writes a tree that keeps only the first [`TreeBatch::ancestors`] blocks of the present one.
    pub(super) fn write_cut(
        &self,
        batch: &mut CoreBatch,
        tree: &TreeBatch,
    ) -> Result<(Change, Hints), Error> {
        let ancestors = tree.ancestors();
        if ancestors < self.head.length {
            batch.delete_blocks(ancestors..self.head.length);
        }
        if let Some(removed) = tree.removed() {
            batch.delete_nodes(removed.range);
            for index in removed.parents {
                batch.delete_node(index);
            }
        }
        for node in tree.nodes() {
            batch.put_node(node);
        }
        self.write_head(batch, tree.head())?;
        let mut bits = self.bitfield.stage(&self.store);
        bits.set_length(ancestors)?;
        bits.set_length(tree.head().length)?;
        let remote = self.remote_contiguous.min(tree.head().length);
        Ok(self.write_bits(batch, bits, remote))
    }

    pub(super) fn apply_cut(&mut self, tree: TreeBatch, change: Change, hints: Hints) {
        let (ancestors, old_length) = (tree.ancestors(), self.head.length);
        self.bitfield.apply(change);
        self.remote_contiguous = hints.remote_contiguous_length;
        self.hints = hints;
        self.head = tree.into_head();
        self.journal.truncated(ancestors, old_length);
        let (byte_length, fork) = (self.head.byte_length, self.head.fork);
        self.journal.event(CoreEvent::Truncate { length: ancestors, byte_length, fork });
        if self.head.length > ancestors {
            let Self { head, journal, .. } = self;
            journal.event(CoreEvent::Append { length: head.length, byte_length: head.byte_length });
        }
    }
}
