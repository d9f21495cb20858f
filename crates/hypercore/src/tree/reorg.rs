use super::{NodeSource, ProofError, TreeBatch, TreeHead};
use crate::proof::{Node, Proof};

/// A move to another fork: finds the longest common start of both logs, asking for nodes as it goes.
#[derive(Debug, Clone)]
pub struct Reorg {
    batch: TreeBatch,
    diff: Option<Node>,
    want: Option<ReorgWant>,
}

/// What to ask peers of the new fork for: the path of any block in `start..end` with `nodes` nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReorgWant {
    /// First block of the range in which the logs diverge.
    pub start: u64,
    /// End of it.
    pub end: u64,
    /// Levels from a block up to the node that differs.
    pub nodes: u64,
}

impl Reorg {
    /// Starts from a proof with an upgrade of the other fork. The signature of [`Reorg::head`] is for the caller to
    /// verify before anything else is done.
    pub fn begin(head: &TreeHead, source: &dyn NodeSource, proof: &Proof) -> Result<Self, ProofError> {
        let _ = (head, source, proof);
        unimplemented!()
    }

    /// The tree of the other fork.
    pub fn head(&self) -> &TreeHead {
        self.batch.head()
    }

    /// What to ask for next; none when the common start is found.
    pub fn want(&self) -> Option<ReorgWant> {
        self.want
    }

    /// True when the common start is found.
    pub fn is_finished(&self) -> bool {
        self.want.is_none()
    }

    /// How many blocks are known to be in both logs.
    pub fn ancestors(&self) -> u64 {
        self.batch.ancestors()
    }

    /// Goes on with the answer to [`Reorg::want`]. True when the common start is found.
    pub fn update(&mut self, source: &dyn NodeSource, proof: &Proof) -> Result<bool, ProofError> {
        let _ = (source, proof, &mut self.diff);
        unimplemented!()
    }

    /// The changes to store; everything from [`TreeBatch::ancestors`] on is void.
    pub fn into_batch(self) -> TreeBatch {
        self.batch
    }

    /// The changes so far.
    pub fn batch(&self) -> &TreeBatch {
        &self.batch
    }
}
