//! Signatures of several signers in one, and the patches that let them have signed different lengths.
//!
//! Encodings: `multiSignature` and `multiSignaturev0` of npm `hypercore` 11.37.1 (`lib/messages.js`,
//! `lib/multisig.js`).

use bytes::Bytes;
use compact_codec::DecodeError;

use crate::proof::Node;

/// What one signer contributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialSignature {
    /// Place of the signer in the manifest.
    pub signer: u64,
    /// Its signature.
    pub signature: [u8; 64],
    /// How many blocks further than the log this signature reaches; 0 for none.
    pub patch: u64,
    /// Nodes that lead from the length of the log to the length that was signed, as an upgrade proof has them.
    pub nodes: Vec<Node>,
}

/// Taken apart: signatures, and the nodes that their patches share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MultiSignature {
    /// Signatures, in the order in which they count towards the quorum.
    pub proofs: Vec<SignerProof>,
    /// Nodes of all patches.
    pub patch: Vec<Node>,
}

/// One signature of a [`MultiSignature`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignerProof {
    /// Place of the signer in the manifest.
    pub signer: u64,
    /// Its signature.
    pub signature: [u8; 64],
    /// How many blocks further than the log this signature reaches; 0 for none.
    pub patch: u64,
}

/// Takes a signature of a manifest of version 1 or later apart.
pub fn inflate(_signature: Bytes) -> Result<MultiSignature, DecodeError> {
    unimplemented!()
}

/// Takes a signature of a manifest of version 0 apart.
pub fn inflate_v0(_signature: Bytes) -> Result<MultiSignature, DecodeError> {
    unimplemented!()
}

/// Puts a signature for a manifest of version 1 or later together.
pub fn assemble(_inputs: &[PartialSignature]) -> Bytes {
    unimplemented!()
}

/// Puts a signature for a manifest of version 0 together.
pub fn assemble_v0(_inputs: &[PartialSignature]) -> Bytes {
    unimplemented!()
}

/// The longest length that `quorum` of the signers have signed, given the length of each; 0 when there are too few.
pub fn signable_length(lengths: &[u64], quorum: u64) -> u64 {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    let place = usize::try_from(quorum.max(1) - 1).unwrap_or(usize::MAX);
    sorted.get(place).copied().unwrap_or(0)
}
