use bytes::Bytes;

use super::{NodeSource, TreeError};
use crate::crypto;
use crate::flat_tree;
use crate::manifest::Prologue;
use crate::proof::Node;

/// The state of a tree at one moment: its roots and what was signed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TreeHead {
    /// How many times the log was truncated.
    pub fork: u64,
    /// Blocks.
    pub length: u64,
    /// Bytes of all blocks.
    pub byte_length: u64,
    /// Roots of the full subtrees, left to right.
    pub roots: Vec<Node>,
    /// Signature of this state, in the form that the manifest demands.
    pub signature: Option<Bytes>,
    /// What the manifest says the log starts with.
    pub prologue: Option<Prologue>,
}

impl TreeHead {
    /// An empty log.
    pub fn empty(prologue: Option<Prologue>) -> Self {
        Self { prologue, ..Self::default() }
    }

    /// The state of a stored tree: `fork`, `length` and `signature` as the stored head says, roots from `source`.
    pub fn load(
        source: &dyn NodeSource,
        fork: u64,
        length: u64,
        signature: Option<Bytes>,
        prologue: Option<Prologue>,
    ) -> Result<Self, TreeError> {
        let roots = Self::roots_at(source, length)?;
        let byte_length = total_size(&roots)?;
        Ok(Self { fork, length, byte_length, roots, signature, prologue })
    }

    /// The stored roots of a log of `length` blocks.
    pub fn roots_at(source: &dyn NodeSource, length: u64) -> Result<Vec<Node>, TreeError> {
        if length > flat_tree::MAX_LENGTH {
            return Err(TreeError::OutOfBounds {
                what: "length",
                value: length,
                limit: flat_tree::MAX_LENGTH,
            });
        }
        let indexes: Vec<u64> = flat_tree::full_roots(2 * length).collect();
        let nodes = source.nodes(&indexes)?;
        indexes.iter().zip(nodes).map(|(&index, node)| node.ok_or(TreeError::MissingNode { index })).collect()
    }

    /// The tree hash: what signatures are about.
    pub fn hash(&self) -> [u8; 32] {
        crypto::tree_hash(&self.roots)
    }

    /// What a signer of a manifest signs; `context` is the key of the core (manifest version 1 and later) or the
    /// namespace of the signer (version 0).
    pub fn signable(&self, context: &[u8; 32]) -> [u8; 112] {
        crypto::tree_signable(context, &self.hash(), self.length, self.fork)
    }

    /// The root with this flat-tree index.
    pub fn root(&self, index: u64) -> Option<&Node> {
        self.roots
            .binary_search_by_key(&index, |root| root.index)
            .ok()
            .and_then(|place| self.roots.get(place))
    }
}

/// Sum of sizes, within what Hypercore can count.
pub(super) fn total_size(nodes: &[Node]) -> Result<u64, TreeError> {
    nodes.iter().try_fold(0, |sum, node| add_size(sum, node.size))
}

/// Sum of two sizes, within what Hypercore can count.
pub(super) fn add_size(a: u64, b: u64) -> Result<u64, TreeError> {
    a.checked_add(b).filter(|sum| *sum <= flat_tree::MAX_INTEGER).ok_or(TreeError::Full { what: "bytes" })
}
