//! From a block, a node or a byte offset up to a node that is already trusted.

use std::collections::BTreeMap;

use super::ProofError;
use crate::crypto;
use crate::flat_tree::{MAX_INTEGER, MAX_LENGTH, Position};
use crate::proof::{Node, Proof};

/// Nodes of a proof, in the order in which they are needed. One more node, computed from another part of the proof,
/// may stand in for one of them.
pub(super) struct NodeQueue<'a> {
    nodes: std::slice::Iter<'a, Node>,
    computed: Option<Node>,
}

impl<'a> NodeQueue<'a> {
    pub(super) fn new(nodes: &'a [Node], computed: Option<Node>) -> Self {
        Self { nodes: nodes.iter(), computed }
    }

    /// True when no node is left.
    pub(super) fn is_empty(&self) -> bool {
        self.computed.is_none() && self.nodes.len() == 0
    }

    /// True when the computed node was needed.
    pub(super) fn used_computed(&self) -> bool {
        self.computed.is_none()
    }

    pub(super) fn next(&mut self, expected: u64) -> Result<Node, ProofError> {
        if let Some(node) = self.computed.take_if(|node| node.index == expected) {
            return Ok(node);
        }
        match self.nodes.next() {
            Some(node) if node.index == expected => {
                check_bounds(node)?;
                Ok(*node)
            }
            other => Err(ProofError::UnexpectedNode { expected, found: other.map(|node| node.index) }),
        }
    }
}

/// Where the path of a proof ends.
pub(super) enum Climb {
    /// The proof has no path.
    Nothing,
    /// At a node that is not to be trusted before it is compared with a known one.
    Unproven(Node),
    /// At a node that is known to be right, before all of the path was walked.
    Proven,
}

impl Climb {
    /// The node that has yet to be compared.
    pub(super) fn unproven(self) -> Option<Node> {
        match self {
            Self::Unproven(node) => Some(node),
            Self::Nothing | Self::Proven => None,
        }
    }
}

/// Climbs the block, hash and seek parts of a proof. The nodes on the way are added to `nodes`. `leaf` is the hash of
/// the block, when it is known already. Nodes in `proven` are known to be right: a path that meets one ends there,
/// and what the proof brings beyond it is of no interest.
pub(super) fn climb(
    proof: &Proof,
    leaf: Option<[u8; 32]>,
    proven: &BTreeMap<u64, Node>,
    nodes: &mut Vec<Node>,
) -> Result<Climb, ProofError> {
    // Seeks and upgrades need the node at the end of the path.
    let nothing = BTreeMap::new();
    let proven = if proof.seek.is_some() || proof.upgrade.is_some() { &nothing } else { proven };

    let seek = match proof.seek.as_ref().and_then(|seek| seek.nodes.first().map(|first| (first, seek))) {
        Some((first, seek)) => {
            let start = Position::new(first.index);
            climb_from(start, None, NodeQueue::new(&seek.nodes, None), proven, nodes)?
        }
        None => Climb::Nothing,
    };
    if let Some(block) = &proof.block {
        if block.index >= MAX_LENGTH {
            return Err(ProofError::Malformed { reason: "its block index exceeds what can be counted" });
        }
        let start = Position::leaf(block.index);
        let hash = leaf.unwrap_or_else(|| crypto::leaf_hash(&block.value));
        let leaf = Node { index: start.index(), size: block.value.len() as u64, hash };
        return climb_from(start, Some(leaf), NodeQueue::new(&block.nodes, seek.unproven()), proven, nodes);
    }
    if let Some(hash) = &proof.hash {
        let start = Position::new(hash.index);
        return climb_from(start, None, NodeQueue::new(&hash.nodes, seek.unproven()), proven, nodes);
    }
    Ok(seek)
}

fn climb_from(
    start: Position,
    leaf: Option<Node>,
    mut queue: NodeQueue<'_>,
    proven: &BTreeMap<u64, Node>,
    nodes: &mut Vec<Node>,
) -> Result<Climb, ProofError> {
    let mut position = start;
    let mut root = match leaf {
        Some(leaf) => leaf,
        None => queue.next(position.index())?,
    };
    loop {
        if let Some(known) = proven.get(&root.index) {
            return match *known == root {
                true => Ok(Climb::Proven),
                false => Err(ProofError::Checksum { index: root.index }),
            };
        }
        nodes.push(root);
        if queue.is_empty() {
            return Ok(Climb::Unproven(root));
        }
        let sibling = queue.next(position.sibling().index())?;
        position = position.parent();
        root = parent_node(position, &root, &sibling)?;
        nodes.push(sibling);
    }
}

/// The parent of two siblings.
pub(super) fn parent_node(position: Position, a: &Node, b: &Node) -> Result<Node, ProofError> {
    let size = a.size.checked_add(b.size);
    let node = Node {
        index: position.index(),
        size: size.ok_or(ProofError::Malformed { reason: "its sizes exceed what can be counted" })?,
        hash: crypto::parent_hash(a, b),
    };
    check_bounds(&node)?;
    Ok(node)
}

/// Nodes count leaves and bytes within what Hypercore can count.
pub(super) fn check_bounds(node: &Node) -> Result<(), ProofError> {
    if node.index > MAX_INTEGER || Position::new(node.index).end_block() > MAX_LENGTH {
        return Err(ProofError::Malformed { reason: "a node lies beyond what can be counted" });
    }
    if node.size > MAX_INTEGER {
        return Err(ProofError::Malformed { reason: "its sizes exceed what can be counted" });
    }
    Ok(())
}
