use super::{NodeSource, TreeError, TreeHead};
use crate::proof::DataUpgrade;

/// Where a node (of a block: twice its index) starts, in bytes.
pub fn byte_offset(head: &TreeHead, source: &dyn NodeSource, index: u64) -> Result<u64, TreeError> {
    let _ = (head, source, index);
    unimplemented!()
}

/// Where a node (of a block: twice its index) starts, and its size, in bytes.
pub fn byte_range(head: &TreeHead, source: &dyn NodeSource, index: u64) -> Result<(u64, u64), TreeError> {
    let _ = (head, source, index);
    unimplemented!()
}

/// How many nodes on the path of a flat-tree index are not stored: the `nodes` of a request.
pub fn missing_nodes(source: &dyn NodeSource, index: u64, length: u64) -> Result<u64, TreeError> {
    let _ = (source, index, length);
    unimplemented!()
}

/// How many nodes somebody who knows only the roots of a log of `length` lacks on the path of a flat-tree index.
pub fn max_missing_nodes(index: u64, length: u64) -> u64 {
    let _ = (index, length);
    unimplemented!()
}

/// True when the roots of a log of `length` blocks are stored, so that a peer of that length can be upgraded.
pub fn upgradeable(source: &dyn NodeSource, length: u64) -> Result<bool, TreeError> {
    let _ = (source, length);
    unimplemented!()
}

/// The length that an upgrade leads to.
pub fn upgrade_length(upgrade: &DataUpgrade) -> u64 {
    let _ = upgrade;
    unimplemented!()
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
        let _ = head;
        Self { bytes, padding, start: 0, end: 0 }
    }

    /// The blocks among which the byte is, as far as is known; `end` is 0 when it lies beyond the log.
    pub fn range(&self) -> (u64, u64) {
        (self.start, self.end)
    }

    /// Looks again, with the nodes that are stored now: the block and the offset in it, or none when more nodes are
    /// needed (then [`ByteSeeker::range`] says of where).
    pub fn update(
        &mut self,
        head: &TreeHead,
        source: &dyn NodeSource,
    ) -> Result<Option<(u64, u64)>, TreeError> {
        let _ = (head, source, self.bytes, self.padding);
        unimplemented!()
    }
}
