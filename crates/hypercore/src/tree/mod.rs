//! The Merkle tree of a log: growing it, proving parts of it, and believing the proofs of others.
//!
//! Nothing here does I/O or knows where nodes are kept: stored nodes come in through [`NodeSource`], new ones go
//! out in a [`TreeBatch`]. The shape of the tree, and of every proof, is that of npm `hypercore` 11
//! (`lib/merkle-tree.js`).

mod batch;
mod burst;
mod error;
mod head;
mod locate;
mod path;
mod prove;
mod reorg;
mod source;
#[cfg(test)]
mod tests;
mod upgrade;
mod verify;

pub use batch::{RemovedNodes, TreeBatch};
pub use burst::{Burst, verify_burst};
pub use error::{ProofError, ProofErrorKind, TreeError};
pub use head::TreeHead;
pub use locate::{
    ByteSeeker, byte_offset, byte_range, max_missing_nodes, missing_nodes, upgrade_length, upgradeable,
};
pub(crate) use prove::extension;
pub use prove::{prove, prove_many};
pub use reorg::{Reorg, ReorgWant};
pub use source::{CachedNodes, MemoryNodes, NodeSource};
pub(crate) use upgrade::extended;
pub use verify::{Verified, same_roots, verify, verify_fully_remote};
