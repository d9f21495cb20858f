//! What can go wrong, and what to do about it.

use crate::key::{DiscoveryKey, Key};
use crate::storage::StorageError;

/// Why an operation on a log failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Storage could not do what was asked; the log is as it was before.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// No log with this discovery key is stored, and it cannot be made from the discovery key alone.
    #[error("no hypercore with discovery key {0} is stored here; open it by its key to create it")]
    NotFound(DiscoveryKey),
    /// The log is open already: there is one owner at a time.
    #[error("the hypercore with discovery key {0} is open already; use another session of it")]
    InUse(DiscoveryKey),
    /// The options contradict each other or what is stored.
    #[error("cannot open the hypercore: {0}")]
    Conflicting(String),
    /// The log has no secret key that may write here, or the session is read-only.
    #[error("hypercore {0} is not writable: its secret key is not here (or the session is read-only)")]
    NotWritable(Key),
    /// Two different trees were signed for one length and fork.
    #[error(
        "hypercore {0} is frozen: two different histories were signed for the same length, so neither can be trusted; \
         the evidence is kept"
    )]
    Frozen(Key),
    /// The database lost its latest commits, so the log may be shorter than what peers have of it: appending now could
    /// sign a second history.
    #[error(
        "hypercore {0} may have lost its last blocks when Node had to repair the database after a crash; connect to a \
         peer that has them and wait until its length is reached again, then call end_recovery (or append with Node, \
         which waits for peers by itself)"
    )]
    Recovering(Key),
    /// A block is larger than JS peers accept.
    #[error("block of {size} bytes is larger than the {limit} bytes that peers accept; split it")]
    BlockTooLarge {
        /// Size of the refused block.
        size: usize,
        /// Largest size.
        limit: usize,
    },
    /// The index or range lies outside the log or is not a range.
    #[error("{what}: {index} is out of bounds, the length is {length}")]
    OutOfBounds {
        /// What was being done.
        what: &'static str,
        /// The index that is too large.
        index: u64,
        /// The length of the log.
        length: u64,
    },
    /// The log starts with a fixed prologue that this change would break.
    #[error("the first {length} blocks are fixed by the manifest: {what}")]
    Prologue {
        /// Length of the prologue.
        length: u64,
        /// What was refused.
        what: &'static str,
    },
    /// The signature or the signer does not fit the manifest.
    #[error("not signed as the manifest demands: {0}")]
    Signature(String),
    /// Tree nodes that are needed are not stored (a sparse copy, or a damaged one).
    #[error("the Merkle tree lacks node {0}; it has to be fetched from a peer first")]
    MissingNode(u64),
    /// The log would become longer than can be counted.
    #[error("the log is full: {0}")]
    Full(String),
    /// The block is not here and the caller did not want to wait.
    #[error("block {0} is not stored here and no connected peer has it")]
    NotAvailable(u64),
    /// The block of a snapshot was truncated away before it was fetched.
    #[error("block {0} of this snapshot no longer exists: the log was truncated")]
    SnapshotLost(u64),
    /// The session or the log was closed.
    #[error("the session is closed")]
    Closed,
    /// The request was cancelled.
    #[error("the request was cancelled")]
    Cancelled,
    /// Too many requests are waiting already.
    #[error("{0} requests are waiting already; wait for some of them")]
    TooManyRequests(usize),
    /// A log that lives elsewhere could not be reached or refused.
    #[error("{0}")]
    Remote(String),
}

/// Why a proof was not taken over. The three kinds ask for different answers: leave the peer, ask again, or tell
/// the operator.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The proof is wrong in itself: a hash, a signature or a manifest that does not fit. No honest peer sends it.
    #[error("the peer sent a wrong proof: {0}")]
    BadPeer(String),
    /// The proof does not connect to what is here: another fork, a length that has passed, a path that ends at an
    /// unknown node. Nobody is to blame.
    #[error("the proof does not connect to the log as it is now: {0}")]
    Stale(String),
    /// The log is frozen, see [`Error::Frozen`].
    #[error("the hypercore is frozen")]
    Frozen,
    /// Storage failed; nothing of the burst was taken over.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl ReceiveError {
    /// True when no honest peer sends such a proof.
    pub fn is_bad_peer(&self) -> bool {
        matches!(self, Self::BadPeer(_))
    }

    /// True when the same thing may be asked again.
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Stale(_))
    }
}
