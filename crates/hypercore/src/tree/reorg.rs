use std::collections::BTreeMap;

use super::verify::replay_from_start;
use super::{NodeSource, ProofError, TreeBatch, TreeHead, path};
use crate::flat_tree::Position;
use crate::proof::{Node, Proof};

/// A move to another fork: finds the longest common start of both logs, asking for nodes as it goes.
///
/// It compares the trees from the first root that differs downwards: below a node that differs, either the left child
/// differs, or the left half is common and the right child differs.
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
    /// Starts from a proof with an upgrade of the other fork from length 0. The signature of [`Reorg::head`] is for
    /// the caller to verify before anything else is done.
    pub fn begin(head: &TreeHead, source: &dyn NodeSource, proof: &Proof) -> Result<Self, ProofError> {
        let (upgraded, nodes) = replay_from_start(head, proof)?;

        let mut batch = TreeBatch::from_head(head);
        batch.head = upgraded.head;
        batch.upgraded = true;
        batch.ancestors = 0;
        let mut reorg = Self { batch, diff: None, want: None };
        reorg.compare_roots(head, source)?;
        reorg.add(nodes);
        reorg.descend(source)?;
        Ok(reorg)
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
    ///
    /// An answer to an earlier question, which is of no use any more, is passed over.
    pub fn update(&mut self, source: &dyn NodeSource, proof: &Proof) -> Result<bool, ProofError> {
        let (Some(diff), Some(_)) = (self.diff, self.want) else {
            return Ok(true);
        };
        if proof.fork != self.head().fork {
            return Err(ProofError::OtherFork { proof: proof.fork, local: self.head().fork });
        }
        let mut nodes = Vec::new();
        match path::climb(proof, None, &BTreeMap::new(), &mut nodes)?.unproven() {
            Some(root) if root == diff => {}
            Some(root) if root.index == diff.index => return Err(ProofError::Checksum { index: root.index }),
            _ => return Ok(false),
        }
        self.add(nodes);
        self.descend(source)?;
        Ok(self.is_finished())
    }

    /// The changes to store; everything from [`TreeBatch::ancestors`] on is void.
    pub fn into_batch(self) -> TreeBatch {
        self.batch
    }

    /// The changes so far.
    pub fn batch(&self) -> &TreeBatch {
        &self.batch
    }

    fn add(&mut self, nodes: Vec<Node>) {
        self.batch.nodes.extend(nodes.into_iter().map(|node| (node.index, node)));
    }

    /// Finds the first root that differs.
    fn compare_roots(&mut self, local: &TreeHead, source: &dyn NodeSource) -> Result<(), ProofError> {
        for root in self.batch.head.roots.clone() {
            if !self.is_local(source, &root)? {
                self.narrow(root);
                return Ok(());
            }
        }
        // All of the other log is the start of ours.
        self.batch.ancestors = self.batch.head.length.min(local.length);
        Ok(())
    }

    /// Follows the difference down as far as nodes of the other log are known.
    fn descend(&mut self, source: &dyn NodeSource) -> Result<(), ProofError> {
        while let (Some(diff), Some(_)) = (self.diff, self.want) {
            let position = Position::new(diff.index);
            let children = (position.left_child().index(), position.right_child().index());
            let (Some(left), Some(right)) =
                (self.batch.nodes.get(&children.0).copied(), self.batch.nodes.get(&children.1).copied())
            else {
                return Ok(());
            };
            let next = if self.is_local(source, &left)? { right } else { left };
            self.narrow(next);
        }
        Ok(())
    }

    /// Takes down that the logs differ at `diff` and are the same left of it.
    fn narrow(&mut self, diff: Node) {
        let position = Position::new(diff.index);
        let start = position.first_block();
        let end = position.end_block().min(self.batch.base_length);
        self.batch.ancestors = start.min(self.batch.base_length);
        self.diff = Some(diff);
        let done = position.is_leaf() || start >= end;
        self.want = (!done).then(|| ReorgWant { start, end, nodes: u64::from(position.depth()) });
    }

    /// Whether our log has the same node.
    fn is_local(&self, source: &dyn NodeSource, node: &Node) -> Result<bool, ProofError> {
        if Position::new(node.index).end_block() > self.batch.base_length {
            return Ok(false);
        }
        Ok(source.node(node.index)?.is_some_and(|local| local == *node))
    }
}
