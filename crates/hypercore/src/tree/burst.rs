use super::{NodeSource, ProofError, TreeBatch, TreeHead, Verified};
use crate::proof::Proof;

/// The outcome of a burst of proofs.
#[derive(Debug)]
pub struct Burst {
    /// Everything that was proven, to be stored in one commit.
    pub batch: TreeBatch,
    /// One per proof, in their order.
    pub results: Vec<Result<Verified, ProofError>>,
}

/// Verifies many proofs in one pass: block hashes are computed four at a time, nodes and upgrades of earlier proofs
/// count for later ones. `is_signed` is asked about every upgrade (with the proof, whose manifest may be needed);
/// those that it denies fail with [`ProofError::Signature`].
pub fn verify_burst(
    head: &TreeHead,
    source: &dyn NodeSource,
    proofs: &[Proof],
    is_signed: &mut dyn FnMut(&TreeHead, &Proof) -> bool,
) -> Burst {
    let _ = (head, source, proofs, is_signed);
    unimplemented!()
}
