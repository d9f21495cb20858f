use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use super::head::{add_size, total_size};
use super::{NodeSource, TreeError, TreeHead};
use crate::crypto;
use crate::flat_tree::{self, MAX_LENGTH, Position};
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

    /// Adds blocks, hashing them side by side. The signature is gone until a new one is set.
    pub fn append<B: AsRef<[u8]>>(&mut self, blocks: &[B]) -> Result<(), TreeError> {
        if blocks.is_empty() {
            return Ok(());
        }
        let full = TreeError::Full { what: "blocks" };
        let length = self.head.length.checked_add(blocks.len() as u64);
        let length = length.filter(|length| *length <= MAX_LENGTH).ok_or(full)?;
        let byte_length = blocks
            .iter()
            .try_fold(self.head.byte_length, |sum, block| add_size(sum, block.as_ref().len() as u64))?;

        let leaves = crypto::leaf_hashes(blocks).into_iter().zip(blocks).zip(self.head.length..).map(
            |((hash, block), place)| Node {
                index: Position::leaf(place).index(),
                size: block.as_ref().len() as u64,
                hash,
            },
        );
        let new = self.grow(leaves.collect());
        let new = new.into_iter().map(|node| (node.index, node));
        if self.nodes.is_empty() {
            // All at once, which is much faster than one by one.
            self.nodes = new.collect();
        } else {
            self.nodes.extend(new);
        }

        self.head.length = length;
        self.head.byte_length = byte_length;
        self.head.signature = None;
        self.upgraded = true;
        Ok(())
    }

    /// Builds the tree over new neighbouring leaves, a level at a time. Returns them and all nodes above them.
    fn grow(&mut self, mut level: Vec<Node>) -> Vec<Node> {
        let mut depth = 0;
        // As many leaves and almost as many parents; with an old root's help, one a level more.
        let mut new = Vec::with_capacity(2 * level.len() + 64);
        new.extend_from_slice(&level);
        let mut new_roots: Vec<Node> = Vec::new();
        while !level.is_empty() {
            // The new nodes of a level begin right of what was complete; an old root of this depth is their sibling.
            let meets_root = self.head.roots.last().is_some_and(|root| flat_tree::depth(root.index) == depth);
            if meets_root && let Some(root) = self.head.roots.pop() {
                level.insert(0, root);
            }
            let pairs: Vec<(Node, Node)> = level
                .chunks_exact(2)
                .filter_map(|pair| match pair {
                    [left, right] => Some((*left, *right)),
                    _ => None,
                })
                .collect();
            if level.len() % 2 == 1 {
                new_roots.extend(level.last());
            }
            level = crypto::parent_hashes(&pairs)
                .into_iter()
                .zip(&pairs)
                .map(|(hash, (left, right))| Node {
                    index: flat_tree::parent(left.index),
                    size: left.size.saturating_add(right.size),
                    hash,
                })
                .collect();
            new.extend_from_slice(&level);
            depth += 1;
        }
        new_roots.reverse();
        self.head.roots.extend(new_roots);
        new
    }

    /// Cuts the log to `length` and moves it to `fork`. The signature is gone until a new one is set.
    pub fn truncate(&mut self, source: &dyn NodeSource, length: u64, fork: u64) -> Result<(), TreeError> {
        if length > self.head.length {
            let limit = self.head.length;
            return Err(TreeError::OutOfBounds { what: "length", value: length, limit });
        }
        let roots = flat_tree::full_roots(2 * length)
            .map(|index| self.known(source, index)?.ok_or(TreeError::MissingNode { index }))
            .collect::<Result<Vec<_>, _>>()?;

        self.nodes.retain(|&index, _| Position::new(index).end_block() <= length);
        self.head.byte_length = total_size(&roots)?;
        self.head.roots = roots;
        self.head.length = length;
        self.head.fork = fork;
        self.head.signature = None;
        self.ancestors = self.ancestors.min(length);
        self.upgraded = true;
        Ok(())
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

    /// A node of the tree as it will be: new, or stored and not cut off.
    pub fn node(&self, source: &dyn NodeSource, index: u64) -> Result<Option<Node>, TreeError> {
        if Position::new(index).end_block() > self.head.length {
            return Ok(None);
        }
        self.known(source, index)
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

    /// True when the changes still fit on `head`: for changed roots it must be what the batch started from, nodes
    /// alone fit on longer logs of the same fork too.
    pub fn is_committable(&self, head: &TreeHead) -> bool {
        self.base_fork == head.fork
            && if self.upgraded { self.base_length == head.length } else { self.base_length <= head.length }
    }

    /// Stored nodes that must go, when the log gets cut.
    pub fn removed(&self) -> Option<RemovedNodes> {
        if !self.upgraded || self.ancestors >= self.base_length {
            return None;
        }
        let cut = 2 * self.ancestors;
        let mut parents = Vec::new();
        if self.ancestors > 0 {
            // Parents over the last block that stays and the first that goes; those right of the cut are in the range.
            let mut position = Position::leaf(self.ancestors - 1);
            while position.offset() > 0 || position.index() < cut {
                if position.contains(cut) && position.index() < cut {
                    parents.push(position.index());
                }
                position = position.parent();
            }
        }
        Some(RemovedNodes { range: cut..2 * self.base_length, parents })
    }

    /// A node that this batch brings or that is stored and stays.
    pub(super) fn known(&self, source: &dyn NodeSource, index: u64) -> Result<Option<Node>, TreeError> {
        if let Some(node) = self.nodes.get(&index) {
            return Ok(Some(*node));
        }
        if let Some(root) = self.head.root(index) {
            return Ok(Some(*root));
        }
        if Position::new(index).end_block() > self.ancestors {
            return Ok(None);
        }
        Ok(source.node(index)?)
    }
}
