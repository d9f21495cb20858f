//! A log at a glance.

use crate::key::{DiscoveryKey, Key};

/// What [`Hypercore::info`](crate::Hypercore::info) tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The key; whoever knows it may read.
    pub key: Key,
    /// Hash of the key, under which peers find one another.
    pub discovery_key: DiscoveryKey,
    /// Blocks.
    pub length: u64,
    /// Bytes in all blocks together.
    pub byte_length: u64,
    /// All blocks below this one are held.
    pub contiguous_length: u64,
    /// The longest contiguous length that a peer has shown.
    pub remote_contiguous_length: u64,
    /// How often history was rewritten.
    pub fork: u64,
    /// Hash over the whole tree.
    pub tree_hash: [u8; 32],
    /// Whether blocks can be appended here.
    pub writable: bool,
    /// Two histories were signed for one length: nothing is accepted any more.
    pub frozen: bool,
    /// Peers that replicate it with us now.
    pub peers: usize,
}
