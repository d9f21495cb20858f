//! A log as one plain, synchronous struct: the only owner and writer of its state. No locks, no tasks, no network.
//!
//! Every change is one commit over blocks, tree nodes, bitfield and head; the state in memory changes only after
//! storage has taken the commit, so an error leaves everything as it was.

mod append;
mod conflict;
mod cut;
mod open;
mod prove;
mod receive;
mod reorg;
mod updates;

use std::ops::Range;

use bytes::Bytes;

use crate::bitfield::{Bitfield, PageSource, Stage};
use crate::error::Error;
use crate::events::CoreEvent;
use crate::info::Info;
use crate::key::{DiscoveryKey, Key};
use crate::manifest::Manifest;
use crate::proof::Node;
use crate::signing::KeyPair;
use crate::storage::{Claim, CoreBatch, CoreStore, Head, Hints, PAGE_BYTES, StorageError};
use crate::tree::{self, ByteSeeker, TreeError, TreeHead};
use crate::verifier::Verifier;

pub use append::{AppendOptions, Appended, MAX_BLOCK_SIZE};
pub use conflict::{Conflict, SignedTree};
pub use cut::TruncateOptions;
pub use open::CoreOptions;
pub use receive::Received;
pub use reorg::Reorg;
pub use updates::{Arrivals, HaveRange, Truncated, Updates};

use updates::Journal;

/// A log.
#[derive(Debug)]
pub struct Core {
    store: CoreStore,
    key: Key,
    discovery_key: DiscoveryKey,
    verifier: Option<Box<Verifier>>,
    key_pairs: Vec<KeyPair>,
    head: TreeHead,
    /// As they are stored.
    hints: Hints,
    remote_contiguous: u64,
    bitfield: Bitfield,
    frozen: bool,
    /// Node has put it into a group.
    grouped: bool,
    journal: Journal,
    /// None once the core was closed.
    claim: Option<Claim>,
}

/// Where a byte offset lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// In this block, `offset` bytes from its start. The very end of the log is block `length`, offset 0.
    Found {
        /// Block index.
        index: u64,
        /// Offset in the block.
        offset: u64,
    },
    /// In one of the blocks `start..end`; the tree nodes that would tell more are not here.
    Between {
        /// First block.
        start: u64,
        /// One past the last block.
        end: u64,
    },
    /// Beyond the end of the log as it is known here.
    Beyond,
}

/// Who it is.
impl Core {
    /// The key; whoever knows it may read.
    pub fn key(&self) -> Key {
        self.key
    }

    /// Hash of the key, under which peers find one another.
    pub fn discovery_key(&self) -> DiscoveryKey {
        self.discovery_key
    }

    /// Who may sign, as far as it is known.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.verifier.as_deref().map(Verifier::manifest)
    }

    /// Whether the manifest is known. Without it nothing can be verified, so peers are asked for it.
    pub fn has_manifest(&self) -> bool {
        self.verifier.is_some()
    }

    /// Checks and makes signatures, once the manifest is known.
    pub fn verifier(&self) -> Option<&Verifier> {
        self.verifier.as_deref()
    }

    /// True for the old form, in which the key is the public key of the only signer.
    pub fn is_compat(&self) -> bool {
        self.verifier.as_deref().is_some_and(Verifier::is_compat)
    }

    /// The key pairs that sign here.
    pub fn key_pairs(&self) -> &[KeyPair] {
        &self.key_pairs
    }

    /// Lends another signer's key pair for this session of the process; it is not stored.
    pub fn add_signer(&mut self, key_pair: KeyPair) {
        let public = key_pair.public();
        if !self.key_pairs.iter().any(|held| held.public() == public) {
            // Ten thousand open logs have one each: no room for four.
            self.key_pairs.reserve_exact(1);
            self.key_pairs.push(key_pair);
        }
    }

    /// Whether the key pairs held here suffice to append.
    pub fn writable(&self) -> bool {
        if self.frozen {
            return false;
        }
        match self.verifier.as_deref() {
            None => {
                let is_key = |pair: &KeyPair| pair.public() == *self.key.as_bytes();
                self.key_pairs.iter().any(is_key) || self.own_verifier(None).is_some()
            }
            Some(verifier) => {
                let manifest = verifier.manifest();
                let held = manifest
                    .signers
                    .iter()
                    .filter(|signer| self.key_pairs.iter().any(|pair| pair.public() == signer.public_key));
                let needed = if verifier.is_compat() { 1 } else { manifest.quorum.max(1) };
                held.count() as u64 >= needed
            }
        }
    }

    /// True once two histories were signed for one length and fork: nothing is accepted any more.
    pub fn frozen(&self) -> bool {
        self.frozen
    }

    /// The records of this log in the database.
    pub fn store(&self) -> &CoreStore {
        &self.store
    }
}

/// How long it is, and which blocks are here.
impl Core {
    /// Roots, length and signature.
    pub fn head(&self) -> &TreeHead {
        &self.head
    }

    /// Blocks.
    pub fn length(&self) -> u64 {
        self.head.length
    }

    /// Bytes in all blocks together.
    pub fn byte_length(&self) -> u64 {
        self.head.byte_length
    }

    /// How often history was rewritten.
    pub fn fork(&self) -> u64 {
        self.head.fork
    }

    /// All blocks below this one are here.
    pub fn contiguous_length(&self) -> u64 {
        self.bitfield.contiguous_length()
    }

    /// The longest contiguous length that a peer has shown.
    pub fn remote_contiguous_length(&self) -> u64 {
        self.remote_contiguous.min(self.head.length)
    }

    /// Remembers the longest contiguous length that a peer has shown. It is stored with the next commit.
    pub fn set_remote_contiguous_length(&mut self, length: u64) {
        self.remote_contiguous = length;
    }

    /// Hash over the whole tree.
    pub fn tree_hash(&self) -> [u8; 32] {
        self.head.hash()
    }

    /// Hash over the tree as it was at a smaller length.
    pub fn tree_hash_at(&self, length: u64) -> Result<[u8; 32], Error> {
        self.check_below("tree hash", length, self.head.length.saturating_add(1))?;
        Ok(crate::crypto::tree_hash(&TreeHead::roots_at(&self.store, length)?))
    }

    /// Whether a block is here.
    pub fn has(&self, index: u64) -> Result<bool, StorageError> {
        self.bitfield.has(&self.store, index)
    }

    /// The first block of `from..to` that is not here. What lies beyond the length is not here.
    pub fn first_missing(&self, from: u64, to: u64) -> Result<Option<u64>, StorageError> {
        self.bitfield.first_missing(&self.store, from, to)
    }

    /// The first block of `from..to` that is here.
    pub fn first_present(&self, from: u64, to: u64) -> Result<Option<u64>, StorageError> {
        self.bitfield.first_present(&self.store, from, to)
    }

    /// The last block of `from..to` that is not here.
    pub fn last_missing(&self, from: u64, to: u64) -> Result<Option<u64>, StorageError> {
        self.bitfield.last_missing(&self.store, from, to)
    }

    /// How many blocks of a range are here.
    pub fn count(&self, range: Range<u64>) -> Result<u64, StorageError> {
        self.bitfield.count(&self.store, range)
    }

    /// Which blocks of `start..start + bits` are here, as pieces of 32-bit little-endian words for the wire. The
    /// start is rounded down and the end up to whole words. Stretches without any block are left out.
    pub fn wire_bitfield(&self, start: u64, bits: u64) -> Result<Vec<(u64, Bytes)>, StorageError> {
        self.bitfield.wire(&self.store, start, bits)
    }

    /// The log at a glance.
    pub fn info(&self) -> Info {
        Info {
            key: self.key,
            discovery_key: self.discovery_key,
            length: self.length(),
            byte_length: self.byte_length(),
            contiguous_length: self.contiguous_length(),
            remote_contiguous_length: self.remote_contiguous_length(),
            fork: self.fork(),
            tree_hash: self.tree_hash(),
            writable: self.writable(),
            frozen: self.frozen,
            peers: 0,
        }
    }
}

/// Reading.
impl Core {
    /// A block, if it is here.
    pub fn get(&self, index: u64) -> Result<Option<Bytes>, Error> {
        if !self.has(index)? {
            return Ok(None);
        }
        Ok(self.store.read().block(index)?)
    }

    /// The blocks from `start` on that are here without a gap: at most `limit`, and about `max_bytes` in all.
    pub fn get_run(&self, start: u64, limit: usize, max_bytes: u64) -> Result<Vec<Bytes>, Error> {
        let to = start.saturating_add(limit as u64).min(self.length());
        let end = self.first_missing(start, to)?.unwrap_or(to).max(start);
        let average = self.byte_length() / self.length().max(1);
        let affordable = (max_bytes / average.max(1)).max(1);
        let indexes: Vec<u64> = (start..end.min(start.saturating_add(affordable))).collect();
        // A block that the bitfield promises and storage lacks ends the run.
        Ok(self.store.read().blocks(&indexes)?.into_iter().map_while(|block| block).collect())
    }

    /// The block that holds a byte offset, counting `padding` bytes less for each block.
    pub fn seek(&self, bytes: u64, padding: u64) -> Result<Seek, Error> {
        let mut seeker = ByteSeeker::new(&self.head, bytes, padding);
        if let Some((index, offset)) = seeker.update(&self.head, &self.store)? {
            return Ok(Seek::Found { index, offset });
        }
        let (start, end) = seeker.range();
        Ok(if end == 0 { Seek::Beyond } else { Seek::Between { start, end } })
    }

    /// Offset and size of a block, in bytes.
    pub fn byte_range(&self, index: u64) -> Result<(u64, u64), Error> {
        self.check_below("byte range", index, self.head.length)?;
        Ok(tree::byte_range(&self.head, &self.store, index.saturating_mul(2))?)
    }

    /// Whether a tree node is here.
    pub fn has_node(&self, index: u64) -> Result<bool, StorageError> {
        Ok(self.node(index)?.is_some())
    }

    /// A tree node, by flat-tree index.
    pub fn node(&self, index: u64) -> Result<Option<Node>, StorageError> {
        if let Some(root) = self.head.root(index) {
            return Ok(Some(*root));
        }
        self.store.read().node(index)
    }

    /// How many nodes of the path from a node to a known one are not here: the `nodes` of a request.
    pub fn missing_nodes(&self, index: u64) -> Result<u64, Error> {
        Ok(tree::missing_nodes(&self.store, index, self.head.length)?)
    }

    /// A named value that the user stored beside the log.
    pub fn user_data(&self, name: &str) -> Result<Option<Bytes>, Error> {
        Ok(self.store.read().user_data(name)?)
    }

    /// Stores or removes a named value beside the log.
    pub fn set_user_data(&mut self, name: &str, value: Option<&[u8]>) -> Result<(), Error> {
        self.check_open()?;
        let mut batch = self.store.batch();
        match value {
            Some(value) => batch.put_user_data(name, value),
            None => batch.delete_user_data(name),
        }
        Ok(self.store.commit(&batch)?)
    }
}

/// Telling others.
impl Core {
    /// True when the database lost its latest commits (npm `hypercore-storage` notes that in the hints): nothing is
    /// appended until [`Core::end_recovery`], as peers may have blocks that are missing here.
    pub fn recovering(&self) -> bool {
        self.hints.recovering != 0
    }

    /// Allows appending again, once the log is known to be as long as it ever was.
    pub fn end_recovery(&mut self) -> Result<(), Error> {
        self.check_open()?;
        let hints = Hints { recovering: 0, ..self.hints };
        let mut batch = self.store.batch();
        batch.set_hints(&hints);
        self.store.commit(&batch)?;
        self.hints = hints;
        Ok(())
    }

    /// Counts a block that was sent to a peer.
    pub fn note_upload(&mut self, index: u64, bytes: usize) {
        self.journal.event(CoreEvent::Upload { index, bytes });
    }

    /// Whether changes are to be recorded for [`Core::take_updates`]. Starts with a resync.
    pub fn track_updates(&mut self, tracking: bool) {
        self.journal.track(tracking);
    }

    /// What changed since the last call, for a replicator.
    pub fn take_updates(&mut self) -> Updates {
        self.journal.take_updates()
    }

    /// What arrived since the last call, for [`Demand::settle`](crate::demand::Demand::settle).
    pub fn take_arrivals(&mut self) -> Arrivals {
        self.journal.take_arrivals()
    }

    /// What happened since the last call, for whoever listens.
    pub fn take_events(&mut self) -> Vec<CoreEvent> {
        self.journal.take_events()
    }

    /// Gives the log up, so that it can be opened again: whoever still holds this core can not change it any more.
    pub fn close(&mut self) {
        self.claim = None;
    }

    /// Lets go of memory that only makes things faster.
    pub fn release_memory(&mut self) {
        self.bitfield.release();
    }
}

/// What all changes share.
impl Core {
    fn check_open(&self) -> Result<(), StorageError> {
        if self.claim.is_some() { Ok(()) } else { Err(StorageError::Closed) }
    }

    fn check_changeable(&self) -> Result<(), Error> {
        self.check_open()?;
        if self.frozen { Err(Error::Frozen(self.key)) } else { Ok(()) }
    }

    fn check_below(&self, what: &'static str, index: u64, limit: u64) -> Result<(), Error> {
        if index >= limit {
            return Err(Error::OutOfBounds { what, index, length: self.head.length });
        }
        Ok(())
    }

    /// Writes the head. A log that Node put into a group becomes the last one there (npm `hypercore` 11.37.1,
    /// `lib/session-state.js`).
    fn write_head(&self, batch: &mut CoreBatch, head: &TreeHead) -> Result<(), StorageError> {
        let record = Head {
            fork: head.fork,
            length: head.length,
            root_hash: head.hash(),
            signature: head.signature.clone(),
            timestamp: now(),
        };
        if self.grouped {
            // Read again rather than kept: few logs are in a group, and thousands may be open.
            let stored = self.store.read();
            if let Some(group) = stored.group()? {
                let before = stored.head()?.map_or(0, |head| head.timestamp);
                batch.move_in_group(&group, before, record.timestamp, &self.key);
            }
        }
        batch.set_head(&record);
        Ok(())
    }

    /// Writes changed pages, and the hints when the contiguous length changed. Returns both as they will be.
    fn write_bits(
        &self,
        batch: &mut CoreBatch,
        bits: Stage<'_>,
        remote_contiguous: u64,
    ) -> (crate::bitfield::Change, Hints) {
        let change = bits.finish();
        if let Some(from) = change.dropped_from {
            batch.delete_pages(from..u64::MAX);
        }
        let mut buffer = [0; PAGE_BYTES];
        for (index, page) in &change.pages {
            let used = page.encode_into(&mut buffer);
            batch.put_page(*index, buffer.get(..used).unwrap_or(&buffer));
        }
        let hints = Hints {
            contiguous_length: change.contiguous,
            remote_contiguous_length: remote_contiguous,
            ..self.hints
        };
        if hints != self.hints {
            batch.set_hints(&hints);
        }
        (change, hints)
    }
}

impl PageSource for CoreStore {
    fn page(&self, index: u64) -> Result<Option<Bytes>, StorageError> {
        self.read().page(index)
    }

    fn next_page(&self, range: Range<u64>) -> Result<Option<u64>, StorageError> {
        let mut found = None;
        if range.start < range.end {
            self.read().pages(range, &mut |index, _| {
                found = Some(index);
                std::ops::ControlFlow::Break(())
            })?;
        }
        Ok(found)
    }
}

impl From<TreeError> for Error {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Storage(error) => Self::Storage(error),
            TreeError::MissingNode { index } => Self::MissingNode(index),
            TreeError::OutOfBounds { what, value, limit } => {
                Self::OutOfBounds { what, index: value, length: limit }
            }
            error => Self::Full(error.to_string()),
        }
    }
}

/// Milliseconds since 1970, which the head records for JS.
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
