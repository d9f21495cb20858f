//! Two histories signed for one length and fork: the writer's key was used twice, or stolen. Both are kept as
//! evidence, the log is frozen, nothing is deleted.

use std::sync::Arc;

use bytes::Bytes;
use compact_codec::{DecodeError, Reader, Writer};

use super::Core;
use super::receive::Signatures;
use crate::crypto;
use crate::error::{Error, ReceiveError};
use crate::events::CoreEvent;
use crate::proof::{Node, Proof};
use crate::storage::{CoreStore, StorageError};
use crate::tree::{self, TreeHead};

/// Where the evidence is kept, beside the records that JS knows.
const RECORD: &[u8] = b"hyperspace/conflict";
const VERSION: u64 = 0;
/// A log of 2^53 blocks has no more roots than this.
const MAX_ROOTS: u64 = 64;

/// A tree that was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedTree {
    /// Blocks that the signature covers.
    pub length: u64,
    /// The roots.
    pub roots: Vec<Node>,
    /// The signature, in the form that the manifest demands.
    pub signature: Option<Bytes>,
}

/// The evidence: two trees, both signed, that differ within the first `length` blocks of one fork.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Fork of both.
    pub fork: u64,
    /// A length at which they differ.
    pub length: u64,
    /// What is stored here.
    pub local: SignedTree,
    /// What a peer has shown.
    pub remote: SignedTree,
    /// Tree hash of the local tree at `length`.
    pub local_hash: [u8; 32],
    /// Tree hash of the other tree at `length`.
    pub remote_hash: [u8; 32],
}

impl Core {
    /// Compares a peer's signed roots (an upgrade from length 0) with the ones here. When both are signed and
    /// differ, the log is frozen and the evidence stored.
    pub fn check_conflict(&mut self, proof: &Proof) -> Result<Option<Arc<Conflict>>, ReceiveError> {
        let Some(upgrade) = &proof.upgrade else {
            return Err(ReceiveError::Stale("there is no upgrade to compare".into()));
        };
        let alone = proof.block.is_none() && proof.hash.is_none() && proof.seek.is_none();
        if upgrade.start != 0 || !alone {
            return Err(ReceiveError::Stale("only an upgrade from length 0 can be compared".into()));
        }
        if self.frozen {
            return Ok(None);
        }
        let (length, fork) = (upgrade.length, proof.fork);
        if length > self.head.length || fork != self.head.fork || self.verifier.is_none() {
            return Ok(None);
        }
        let remote = tree::verify_fully_remote(&self.head, proof)?;
        let mut signatures = Signatures::new(self.key, self.verifier.as_deref());
        if !signatures.is_signed(&remote, proof.manifest.as_deref()) {
            return Err(ReceiveError::BadPeer("its roots are not signed as the manifest demands".into()));
        }
        let local_roots = TreeHead::roots_at(&self.store, length).map_err(Error::from)?;
        // Not the tree hashes: a peer could bend the sizes of two siblings against each other, and freeze us.
        if tree::same_roots(&local_roots, &upgrade.nodes) {
            return Ok(None);
        }
        let remote_hash = crypto::tree_hash(&upgrade.nodes);
        let local_hash = crypto::tree_hash(&local_roots);
        let conflict = Arc::new(Conflict {
            fork,
            length,
            local: SignedTree::from_head(&self.head),
            remote: SignedTree::from_head(&remote),
            local_hash,
            remote_hash,
        });
        self.check_open()?;
        let mut batch = self.store.batch();
        batch.put_local(RECORD, &conflict.encode())?;
        self.store.commit(&batch)?;
        self.frozen = true;
        self.journal.frozen();
        self.journal.event(CoreEvent::Conflict(conflict.clone()));
        Ok(Some(conflict))
    }

    /// The evidence of a frozen log.
    pub fn conflict(&self) -> Result<Option<Conflict>, StorageError> {
        match self.store.read().local(RECORD)? {
            Some(record) => Conflict::decode(record).map(Some).map_err(|error| StorageError::Corrupt {
                record: "evidence of a conflict",
                reason: error.to_string(),
            }),
            None => Ok(None),
        }
    }
}

pub(super) fn is_recorded(store: &CoreStore) -> Result<bool, StorageError> {
    Ok(store.read().local(RECORD)?.is_some())
}

impl SignedTree {
    fn from_head(head: &TreeHead) -> Self {
        Self { length: head.length, roots: head.roots.clone(), signature: head.signature.clone() }
    }

    fn encode(&self, out: &mut Writer) {
        out.uint(self.length);
        out.list(&self.roots, |out, node| {
            out.uint(node.index);
            out.uint(node.size);
            out.raw(&node.hash);
        });
        out.optional_buffer(self.signature.as_deref());
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let length = input.uint()?;
        let roots = input.list("roots", 34, |input| {
            Ok(Node { index: input.uint()?, size: input.uint()?, hash: input.array("node hash")? })
        })?;
        if roots.len() as u64 > MAX_ROOTS {
            return Err(DecodeError::TooLarge { what: "roots", value: roots.len() as u64, limit: MAX_ROOTS });
        }
        Ok(Self { length, roots, signature: input.optional_buffer()? })
    }
}

impl Conflict {
    fn encode(&self) -> Bytes {
        let mut out = Writer::new();
        out.uint(VERSION);
        out.uint(self.fork);
        out.uint(self.length);
        self.local.encode(&mut out);
        self.remote.encode(&mut out);
        out.raw(&self.local_hash);
        out.raw(&self.remote_hash);
        out.finish()
    }

    pub(super) fn decode(record: Bytes) -> Result<Self, DecodeError> {
        let mut input = Reader::new(record);
        input.uint_at_most("version of the evidence", VERSION)?;
        Ok(Self {
            fork: input.uint()?,
            length: input.uint()?,
            local: SignedTree::decode(&mut input)?,
            remote: SignedTree::decode(&mut input)?,
            local_hash: input.array("tree hash")?,
            remote_hash: input.array("tree hash")?,
        })
    }
}
