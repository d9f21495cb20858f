//! From known roots to the roots of a longer log.

use super::path::{NodeQueue, check_bounds, parent_node};
use super::{ProofError, TreeHead};
use crate::flat_tree::{self, MAX_LENGTH, Position};
use crate::proof::{DataUpgrade, Node};

/// The outcome of an upgrade: the tree that it claims, and what was seen on the way.
pub(super) struct Upgraded {
    pub(super) head: TreeHead,
    pub(super) nodes: Vec<Node>,
    /// Whether the node that another part of the proof led to is among the nodes of the upgrade. If so, it is as
    /// trustworthy as the signature.
    pub(super) used_computed: bool,
    /// Whether nodes were left over.
    pub(super) left_over: bool,
}

impl Upgraded {
    /// Whether the roots changed at all.
    pub(super) fn changed(&self, from: &TreeHead) -> bool {
        self.head.length != from.length || self.head.roots != from.roots
    }
}

/// Replays an upgrade on the roots of `head`. The signature of the result is for the caller to verify.
pub(super) fn replay(
    head: &TreeHead,
    fork: u64,
    upgrade: &DataUpgrade,
    computed: Option<Node>,
) -> Result<Upgraded, ProofError> {
    check_prologue_covered(head, upgrade)?;
    let to = end_of(upgrade)?;
    let mut queue = NodeQueue::new(&upgrade.nodes, computed);
    let mut growth = Growth { head: head.clone(), nodes: Vec::new() };

    let mut kept = 0;
    let mut grow = !head.roots.is_empty();
    for root in flat_tree::full_roots(2 * to) {
        if growth.head.roots.get(kept).is_some_and(|known| known.index == root) {
            kept += 1;
            continue;
        }
        let last = growth.head.roots.last().filter(|_| kept < growth.head.roots.len()).copied();
        if std::mem::take(&mut grow)
            && let Some(last) = last
        {
            let mut position = Position::new(last.index);
            while position.index() != root {
                // Each turn takes a node that was sent, or fails.
                let sibling = position.sibling();
                position = growth.append(sibling, queue.next(sibling.index())?)?;
            }
            continue;
        }
        growth.append(Position::new(root), queue.next(root)?)?;
    }
    check_prologue_hash(&growth.head)?;

    growth.append_additional(&upgrade.additional_nodes)?;
    growth.head.fork = fork;
    growth.head.signature.clone_from(&upgrade.signature);
    Ok(Upgraded {
        head: growth.head,
        nodes: growth.nodes,
        used_computed: queue.used_computed(),
        left_over: !queue.is_empty(),
    })
}

/// The tree that `head` becomes with the nodes of an upgrade; none when they do not fit.
pub(crate) fn extended(head: &TreeHead, upgrade: &DataUpgrade) -> Option<TreeHead> {
    replay(head, head.fork, upgrade, None).ok().map(|upgraded| upgraded.head)
}

/// The length that the nodes of an upgrade lead to, without the additional ones.
pub(super) fn end_of(upgrade: &DataUpgrade) -> Result<u64, ProofError> {
    let end = upgrade.start.checked_add(upgrade.length).filter(|end| (1..=MAX_LENGTH).contains(end));
    end.ok_or(ProofError::Malformed { reason: "its upgrade is empty or reaches beyond what can be counted" })
}

/// An upgrade may not end inside the prologue, as it could not be compared with it.
fn check_prologue_covered(head: &TreeHead, upgrade: &DataUpgrade) -> Result<(), ProofError> {
    match head.prologue {
        Some(prologue)
            if upgrade.start < prologue.length
                && (upgrade.start != 0 || upgrade.length < prologue.length) =>
        {
            Err(ProofError::Prologue)
        }
        _ => Ok(()),
    }
}

fn check_prologue_hash(head: &TreeHead) -> Result<(), ProofError> {
    match head.prologue {
        Some(prologue) if head.length == prologue.length && head.hash() != prologue.hash => {
            Err(ProofError::Prologue)
        }
        _ => Ok(()),
    }
}

struct Growth {
    head: TreeHead,
    nodes: Vec<Node>,
}

impl Growth {
    /// Adds a root at the right edge and merges as far as possible; where the last root is then.
    fn append(&mut self, at: Position, node: Node) -> Result<Position, ProofError> {
        let full = ProofError::Malformed { reason: "its sizes exceed what can be counted" };
        self.head.byte_length = self.head.byte_length.checked_add(node.size).ok_or(full)?;
        self.head.length = self.head.length.saturating_add(at.leaves());
        self.nodes.push(node);
        let mut last = node;
        let mut position = at;
        while let Some(left) = self.head.roots.pop_if(|left| left.index == position.sibling().index()) {
            position = position.parent();
            last = parent_node(position, &left, &last)?;
            self.nodes.push(last);
        }
        self.head.roots.push(last);
        Ok(position)
    }

    /// Adds the roots from the length of the upgrade to the length that was signed.
    fn append_additional(&mut self, additional: &[Node]) -> Result<(), ProofError> {
        let Some(last) = self.head.roots.last() else {
            return Err(ProofError::Malformed { reason: "its upgrade leads nowhere" });
        };
        let mut next = Position::new(last.index).sibling();
        let mut growing = true;
        for node in additional {
            check_bounds(node)?;
            growing = growing && node.index == next.index();
            if !growing {
                // The last root is as large as it gets; the others follow, each smaller than the one before.
                while next.index() != node.index {
                    if next.is_leaf() {
                        return Err(ProofError::UnexpectedNode {
                            expected: next.index(),
                            found: Some(node.index),
                        });
                    }
                    next = next.left_child();
                }
            }
            next = self.append(next, *node)?.sibling();
        }
        if self.head.length > MAX_LENGTH {
            return Err(ProofError::Malformed { reason: "its upgrade reaches beyond what can be counted" });
        }
        Ok(())
    }
}
