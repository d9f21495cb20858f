use super::head::add_size;
use super::{NodeSource, ProofError, TreeError, TreeHead};
use crate::flat_tree::{self, MAX_LENGTH, Position};
use crate::proof::{DataUpgrade, Node};

/// Where a node (of a block: twice its index) starts, in bytes.
pub fn byte_offset(head: &TreeHead, source: &dyn NodeSource, index: u64) -> Result<u64, TreeError> {
    let block = Position::new(index).first_block();
    if block == head.length {
        return Ok(head.byte_length);
    }
    let target = Position::leaf(block);
    let mut offset = 0;
    for root in &head.roots {
        let mut position = Position::new(root.index);
        if position.end_block() <= block {
            offset = add_size(offset, root.size)?;
            continue;
        }
        while position != target && !position.is_leaf() {
            if target.index() < position.index() {
                position = position.left_child();
            } else {
                let left = position.left_child().index();
                let left = source.node(left)?.ok_or(TreeError::MissingNode { index: left })?;
                offset = add_size(offset, left.size)?;
                position = position.right_child();
            }
        }
        return Ok(offset);
    }
    Err(TreeError::OutOfBounds { what: "block", value: block, limit: head.length })
}

/// Where a node (of a block: twice its index) starts, and its size, in bytes.
pub fn byte_range(head: &TreeHead, source: &dyn NodeSource, index: u64) -> Result<(u64, u64), TreeError> {
    let end = Position::new(index).end_block();
    if end > head.length {
        let value = end.saturating_sub(1);
        return Err(TreeError::OutOfBounds { what: "block", value, limit: head.length });
    }
    let offset = byte_offset(head, source, index)?;
    let node = match head.root(index) {
        Some(root) => *root,
        None => source.node(index)?.ok_or(TreeError::MissingNode { index })?,
    };
    Ok((offset, node.size))
}

/// How many nodes on the path of a flat-tree index are not stored: the `nodes` of a request. 0 beyond the log, where
/// that is not known.
pub fn missing_nodes(source: &dyn NodeSource, index: u64, length: u64) -> Result<u64, TreeError> {
    let mut position = Position::new(index);
    let mut count = 0;
    // Nodes that reach beyond the log do not exist yet; below them is a root, which is stored.
    while position.end_block() <= length {
        if source.node(position.index())?.is_some() {
            break;
        }
        count += 1;
        position = position.parent();
    }
    Ok(count)
}

/// How many nodes somebody who knows only the roots of a log of `length` lacks on the path of a flat-tree index.
pub fn max_missing_nodes(index: u64, length: u64) -> u64 {
    let mut position = Position::new(index);
    let mut count = 0;
    while position.parent() != position && position.parent().end_block() <= length {
        count += 1;
        position = position.parent();
    }
    count
}

/// True when the roots of a log of `length` blocks are stored, so that a peer of that length can be upgraded.
pub fn upgradeable(source: &dyn NodeSource, length: u64) -> Result<bool, TreeError> {
    match TreeHead::roots_at(source, length) {
        Ok(_) => Ok(true),
        Err(TreeError::MissingNode { .. } | TreeError::OutOfBounds { .. }) => Ok(false),
        Err(err) => Err(err),
    }
}

/// The length that an upgrade leads to.
pub fn upgrade_length(upgrade: &DataUpgrade) -> u64 {
    match upgrade.additional_nodes.last() {
        Some(last) => Position::new(last.index).end_block(),
        None => upgrade.start.saturating_add(upgrade.length),
    }
}

/// Looks for the block that holds a byte.
#[derive(Debug, Clone)]
pub struct ByteSeeker {
    bytes: u64,
    padding: u64,
    start: u64,
    end: u64,
}

impl ByteSeeker {
    /// Looks for byte `bytes`; each block is taken for `padding` bytes shorter than it is stored.
    pub fn new(head: &TreeHead, bytes: u64, padding: u64) -> Self {
        let size = i128::from(head.byte_length) - i128::from(head.length) * i128::from(padding);
        let inside = i128::from(bytes) < size;
        let (start, end) = if inside { (0, head.length) } else { (head.length, 0) };
        Self { bytes, padding, start, end }
    }

    /// The blocks among which the byte is, as far as is known; `end` is 0 when it lies beyond the log.
    pub fn range(&self) -> (u64, u64) {
        (self.start, self.end)
    }

    /// Looks again, with the nodes that are stored now: the block and the offset in it, or none when more nodes are
    /// needed (then [`ByteSeeker::range`] says of where) or the byte lies beyond the log.
    pub fn update(
        &mut self,
        head: &TreeHead,
        source: &dyn NodeSource,
    ) -> Result<Option<(u64, u64)>, TreeError> {
        if self.bytes == 0 {
            return Ok(Some((0, 0)));
        }
        let mut left = i128::from(self.bytes);
        for root in &head.roots {
            let size = unpadded(root, self.padding);
            if left == size {
                return Ok(Some((Position::new(root.index).end_block(), 0)));
            }
            if left > size {
                left -= size;
                continue;
            }
            let found = descend(source, Position::new(root.index), left, self.padding)?;
            return Ok(match found {
                Descent::Between(position) => Some((position.end_block(), 0)),
                Descent::Leaf(position, offset) => {
                    u64::try_from(offset).ok().map(|offset| (position.first_block(), offset))
                }
                Descent::Unknown(position) => {
                    (self.start, self.end) = (position.first_block(), position.end_block());
                    None
                }
            });
        }
        Ok(None)
    }
}

/// The node that a seek below `root` leads to, for a proof; fails when the byte is not below `root`.
pub(super) fn seek_below(
    head: &TreeHead,
    source: &dyn NodeSource,
    root: u64,
    bytes: u64,
    padding: u64,
) -> Result<u64, ProofError> {
    let position = Position::new(root);
    let outside = ProofError::BadRequest { reason: "the byte that is sought lies outside of the path" };
    let offset = i128::from(byte_offset(head, source, root)?)
        - i128::from(padding) * i128::from(position.first_block());
    let left = i128::from(bytes) - offset;
    if left < 0 {
        return Err(outside);
    }
    if left == 0 {
        return Ok(root);
    }
    let node = match head.root(root) {
        Some(node) => *node,
        None => source.node(root)?.ok_or(ProofError::MissingNode { index: root })?,
    };
    if unpadded(&node, padding) <= left {
        return Err(outside);
    }
    Ok(descend(source, position, left, padding)?.proven())
}

/// The node that a seek in a log of half of `to` leads to, for a proof; `to` when it lies beyond.
pub(super) fn seek_roots(
    source: &dyn NodeSource,
    to: u64,
    bytes: u64,
    padding: u64,
) -> Result<u64, ProofError> {
    let mut left = i128::from(bytes);
    for root in flat_tree::full_roots(to.min(2 * MAX_LENGTH)) {
        let node = source.node(root)?.ok_or(ProofError::MissingNode { index: root })?;
        let size = unpadded(&node, padding);
        if left == size {
            return Ok(root);
        }
        if left > size {
            left -= size;
            continue;
        }
        if left == 0 {
            return Ok(root);
        }
        return Ok(descend(source, Position::new(root), left, padding)?.proven());
    }
    Ok(to)
}

enum Descent {
    /// The byte is the first one behind this node.
    Between(Position),
    /// The byte is in this block, at this offset.
    Leaf(Position, i128),
    /// The byte is below this node, whose children are not stored.
    Unknown(Position),
}

impl Descent {
    /// The node whose path proves it.
    fn proven(self) -> u64 {
        match self {
            Self::Between(position) | Self::Leaf(position, _) | Self::Unknown(position) => position.index(),
        }
    }
}

/// Goes down to the block that holds a byte, which is known to be below `position`.
fn descend(
    source: &dyn NodeSource,
    mut position: Position,
    mut left: i128,
    padding: u64,
) -> Result<Descent, TreeError> {
    while !position.is_leaf() {
        let child = position.left_child();
        let Some(node) = source.node(child.index())? else {
            return Ok(Descent::Unknown(position));
        };
        let size = unpadded(&node, padding);
        if size == left {
            return Ok(Descent::Between(child));
        }
        if size > left {
            position = child;
        } else {
            left -= size;
            position = position.right_child();
        }
    }
    Ok(Descent::Leaf(position, left))
}

/// The size of a node without the padding of its blocks. Negative when somebody asks with a padding that the blocks
/// do not have.
fn unpadded(node: &Node, padding: u64) -> i128 {
    i128::from(node.size) - i128::from(padding) * i128::from(Position::new(node.index).leaves())
}
