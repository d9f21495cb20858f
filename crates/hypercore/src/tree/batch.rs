use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use super::{NodeSource, TreeError, TreeHead};
use crate::proof::Node;

/// Changes to a tree that are not stored yet: appended blocks, verified nodes, a truncation.
#[derive(Debug, Clone)]
pub struct TreeBatch {
    pub(super) head: TreeHead,
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) upgraded: bool,
    pub(super) ancestors: u64,
    pub(super) base_length: u64,
    pub(super) base_fork: u64,
}

/// Stored nodes that a truncation or reorganisation makes void. They go before the batch's own nodes are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedNodes {
    /// All flat-tree indexes in here.
    pub range: Range<u64>,
    /// Parents left of it that reach into it.
    pub parents: Vec<u64>,
}

impl TreeBatch {
    /// No changes to `head` yet.
    pub fn from_head(head: &TreeHead) -> Self {
        Self {
            nodes: BTreeMap::new(),
            upgraded: false,
            ancestors: head.length,
            base_length: head.length,
            base_fork: head.fork,
            head: head.clone(),
        }
    }

    /// Adds blocks. Their hashes are computed four at a time.
    pub fn append(&mut self, blocks: &[Bytes]) -> Result<(), TreeError> {
        let _ = blocks;
        unimplemented!()
    }

    /// Cuts the log to `length` and moves it to `fork`. Only for batches without other changes.
    pub fn truncate(&mut self, source: &dyn NodeSource, length: u64, fork: u64) -> Result<(), TreeError> {
        let _ = (source, length, fork);
        unimplemented!()
    }

    /// The tree as it will be.
    pub fn head(&self) -> &TreeHead {
        &self.head
    }

    /// The tree as it will be.
    pub fn into_head(self) -> TreeHead {
        self.head
    }

    /// Sets the signature of the tree as it will be.
    pub fn set_signature(&mut self, signature: Option<Bytes>) {
        self.head.signature = signature;
    }

    /// New nodes to store, in the order of their index.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Node> {
        self.nodes.values()
    }

    /// True when roots change (and with them the stored head), not only nodes below them.
    pub fn upgraded(&self) -> bool {
        self.upgraded
    }

    /// How many blocks of the log that the batch started from stay as they are.
    pub fn ancestors(&self) -> u64 {
        self.ancestors
    }

    /// Length of the log that the batch started from.
    pub fn base_length(&self) -> u64 {
        self.base_length
    }

    /// Fork of the log that the batch started from.
    pub fn base_fork(&self) -> u64 {
        self.base_fork
    }

    /// True when `head` is still what the batch started from, as far as this batch cares.
    pub fn is_committable(&self, head: &TreeHead) -> bool {
        self.base_fork == head.fork
            && if self.upgraded { self.base_length == head.length } else { self.base_length <= head.length }
    }

    /// Stored nodes that must go, when the log gets cut.
    pub fn removed(&self) -> Option<RemovedNodes> {
        unimplemented!()
    }
}
