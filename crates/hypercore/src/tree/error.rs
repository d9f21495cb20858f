use crate::storage::StorageError;

/// Why the local tree could not be read or changed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// Storage refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A node that is needed is not stored: the log is sparse here.
    #[error("tree node {index} is not stored here; fetch it from a peer first")]
    MissingNode {
        /// Flat-tree index.
        index: u64,
    },
    /// An index or length lies outside the log.
    #[error("{what} {value} is out of bounds, the log ends at {limit}")]
    OutOfBounds {
        /// What is out of bounds.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The bound.
        limit: u64,
    },
    /// Lengths or sizes exceed what Hypercore can count (2^53 - 1).
    #[error("the log would exceed the 2^53 - 1 {what} that Hypercore can count")]
    Full {
        /// What is being counted.
        what: &'static str,
    },
}

/// Why a proof was not made, or not believed. [`ProofError::kind`] says what to do about it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The request makes no sense for any log of this length.
    #[error("the request cannot be answered: {reason}")]
    BadRequest {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The nodes of a proof are not those that the path needs.
    #[error("the proof needs node {expected} next, but brings {found:?}")]
    UnexpectedNode {
        /// Flat-tree index that is due.
        expected: u64,
        /// Flat-tree index that came, if any.
        found: Option<u64>,
    },
    /// The proof leads to a node that differs from the one we trust.
    #[error("the proof contradicts the known node {index}")]
    Checksum {
        /// Flat-tree index.
        index: u64,
    },
    /// The proof is incomplete or malformed.
    #[error("the proof is malformed: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The upgrade does not carry the prologue that the manifest promises.
    #[error("the upgrade does not match the prologue of the manifest")]
    Prologue,
    /// The signature, or the manifest it is checked against, is not valid for this key.
    #[error("the upgrade to length {length} is not signed as the manifest demands")]
    Signature {
        /// Length that was claimed.
        length: u64,
    },
    /// The proof is about another fork.
    #[error("the proof is for fork {proof}, the log is at fork {local}")]
    OtherFork {
        /// Fork of the proof.
        proof: u64,
        /// Fork of the log.
        local: u64,
    },
    /// The proof was made for a length that the log no longer has.
    #[error("the upgrade starts at length {start}, the log is at length {local}")]
    OtherLength {
        /// Where the upgrade starts.
        start: u64,
        /// Length of the log.
        local: u64,
    },
    /// A node that the proof builds on is not stored here.
    #[error("tree node {index} is not stored here")]
    MissingNode {
        /// Flat-tree index.
        index: u64,
    },
    /// Local storage refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What a [`ProofError`] says about the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProofErrorKind {
    /// The peer lies or is broken.
    Invalid,
    /// Nobody is to blame: the log moved on, or a node is not here. Ask again, or answer "no data".
    Stale,
    /// Our own storage failed.
    Local,
}

impl ProofError {
    /// What this error says about the peer.
    pub fn kind(&self) -> ProofErrorKind {
        match self {
            Self::BadRequest { .. }
            | Self::UnexpectedNode { .. }
            | Self::Checksum { .. }
            | Self::Malformed { .. }
            | Self::Prologue
            | Self::Signature { .. } => ProofErrorKind::Invalid,
            Self::OtherFork { .. } | Self::OtherLength { .. } | Self::MissingNode { .. } => {
                ProofErrorKind::Stale
            }
            Self::Storage(_) => ProofErrorKind::Local,
        }
    }
}

impl From<TreeError> for ProofError {
    fn from(err: TreeError) -> Self {
        match err {
            TreeError::Storage(err) => Self::Storage(err),
            TreeError::MissingNode { index } => Self::MissingNode { index },
            TreeError::OutOfBounds { .. } => Self::BadRequest { reason: "it reaches beyond the log" },
            TreeError::Full { .. } => Self::Malformed { reason: "its sizes exceed what can be counted" },
        }
    }
}
