//! Appending: many blocks, one tree hash, one signature, one commit.

use bytes::Bytes;

use super::Core;
use crate::error::Error;
use crate::events::CoreEvent;
use crate::manifest::Manifest;
use crate::signing::KeyPair;
use crate::tree::{TreeBatch, TreeHead};
use crate::verifier::{SignError, Verifier};

/// Largest block (npm `hypercore` 11, `MAX_SUGGESTED_BLOCK_SIZE`): a block travels as one message.
pub const MAX_BLOCK_SIZE: usize = 15 * 1024 * 1024;

/// How to append.
#[derive(Debug, Clone, Default)]
pub struct AppendOptions {
    /// Signs instead of the key pairs that the core holds.
    pub key_pair: Option<KeyPair>,
    /// A signature that was made elsewhere over exactly the tree that will result.
    pub signature: Option<Bytes>,
    /// Append nothing when the log would become longer than this.
    pub max_length: Option<u64>,
}

/// How long the log is after an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Blocks.
    pub length: u64,
    /// Bytes in all blocks together.
    pub byte_length: u64,
}

impl Core {
    /// Appends blocks: all of them or, on error, none.
    pub fn append(&mut self, blocks: &[Bytes]) -> Result<Appended, Error> {
        self.append_with(blocks, &AppendOptions::default())
    }

    /// Appends blocks, with options.
    pub fn append_with(&mut self, blocks: &[Bytes], options: &AppendOptions) -> Result<Appended, Error> {
        let now = self.appended();
        let length = now.length.saturating_add(blocks.len() as u64);
        if blocks.is_empty() || options.max_length.is_some_and(|max| length > max) {
            return Ok(now);
        }
        self.extend(blocks, options)?;
        let appended = self.appended();
        self.journal.event(appended.event());
        Ok(appended)
    }

    /// Makes several appends one commit; each gets its own length and its own event.
    pub fn append_group(&mut self, groups: &[Vec<Bytes>]) -> Result<Vec<Appended>, Error> {
        let mut at = self.appended();
        let blocks: Vec<Bytes> = groups.iter().flatten().cloned().collect();
        if !blocks.is_empty() {
            self.extend(&blocks, &AppendOptions::default())?;
        }
        let steps: Vec<Appended> = groups
            .iter()
            .map(|group| {
                at.length += group.len() as u64;
                at.byte_length += group.iter().map(|block| block.len() as u64).sum::<u64>();
                at
            })
            .collect();
        for (step, _) in steps.iter().zip(groups).filter(|(_, group)| !group.is_empty()) {
            self.journal.event(step.event());
        }
        Ok(steps)
    }

    fn extend(&mut self, blocks: &[Bytes], options: &AppendOptions) -> Result<(), Error> {
        self.check_changeable()?;
        if self.recovering() {
            return Err(Error::Recovering(self.key));
        }
        if let Some(block) = blocks.iter().find(|block| block.len() > MAX_BLOCK_SIZE) {
            return Err(Error::BlockTooLarge { size: block.len(), limit: MAX_BLOCK_SIZE });
        }
        let start = self.head.length;
        let found_verifier = self.own_verifier(options.key_pair.as_ref());
        let verifier = found_verifier.as_deref().or(self.verifier.as_deref());
        let verifier = verifier.ok_or(Error::NotWritable(self.key))?;

        let mut tree = TreeBatch::from_head(&self.head);
        tree.append(blocks)?;
        check_prologue(verifier, tree.head(), "this append ends before it")?;
        let pairs = options.key_pair.as_ref().map_or(&*self.key_pairs, std::slice::from_ref);
        let signature = sign(verifier, tree.head(), pairs, options.signature.as_ref())?;
        tree.set_signature(signature);

        let mut batch = self.store.batch();
        for (index, block) in (start..).zip(blocks) {
            batch.put_block(index, block.clone());
        }
        for node in tree.nodes() {
            batch.put_node(node);
        }
        self.write_head(&mut batch, tree.head())?;
        if let Some(verifier) = &found_verifier {
            self.write_manifest(&mut batch, verifier.manifest())?;
        }
        let end = tree.head().length;
        let mut bits = self.bitfield.stage(&self.store);
        bits.set_length(end)?;
        bits.set(start, end)?;
        let (change, hints) = self.write_bits(&mut batch, bits, self.remote_contiguous);

        self.store.commit(&batch)?;

        self.bitfield.apply(change);
        self.hints = hints;
        self.head = tree.into_head();
        if found_verifier.is_some() {
            self.verifier = found_verifier;
            self.journal.manifest();
        }
        self.journal.head_changed();
        self.journal.appended(start..end);
        Ok(())
    }

    fn appended(&self) -> Appended {
        Appended { length: self.head.length, byte_length: self.head.byte_length }
    }

    /// When a log was opened by its key alone, a key pair whose default manifest leads to that key tells the
    /// manifest.
    pub(super) fn own_verifier(&self, given: Option<&KeyPair>) -> Option<Box<Verifier>> {
        if self.verifier.is_some() {
            return None;
        }
        self.key_pairs.iter().chain(given).find_map(|pair| {
            let manifest = Manifest::default_signer(pair.public());
            manifest.belongs_to(&self.key).then(|| Box::new(Verifier::new(self.key, manifest)))
        })
    }
}

impl Appended {
    fn event(self) -> CoreEvent {
        CoreEvent::Append { length: self.length, byte_length: self.byte_length }
    }
}

/// A log with a prologue is never shorter than it.
pub(super) fn check_prologue(verifier: &Verifier, head: &TreeHead, what: &'static str) -> Result<(), Error> {
    match verifier.prologue() {
        Some(prologue) if head.length < prologue.length => {
            Err(Error::Prologue { length: prologue.length, what })
        }
        _ => Ok(()),
    }
}

/// A signature over `head`: the given one, if it is good, or one by the key pairs. A log that is its prologue and
/// nothing else needs none.
pub(super) fn sign(
    verifier: &Verifier,
    head: &TreeHead,
    pairs: &[KeyPair],
    given: Option<&Bytes>,
) -> Result<Option<Bytes>, Error> {
    if let Some(signature) = given {
        if !verifier.verify_signature(head, Some(signature)) {
            return Err(Error::Signature("the given signature is not valid for the resulting tree".into()));
        }
        return Ok(Some(signature.clone()));
    }
    if verifier.prologue().is_some() && verifier.verify_signature(head, None) {
        return Ok(None);
    }
    match verifier.sign_with(head, pairs) {
        Ok(signature) => Ok(Some(signature)),
        Err(SignError::NotASigner | SignError::Quorum { held: 0, .. }) => {
            Err(Error::NotWritable(*verifier.key()))
        }
        Err(error) => Err(Error::Signature(error.to_string())),
    }
}
