use bytes::Bytes;

use super::verify::verify_hashed;
use super::{NodeSource, ProofError, TreeBatch, TreeHead, Verified};
use crate::crypto;
use crate::proof::Proof;

/// The outcome of a burst of proofs.
#[derive(Debug)]
pub struct Burst {
    /// Everything that was proven, to be stored in one commit.
    pub batch: TreeBatch,
    /// One per proof, in their order: the tree that it upgraded to, if it did.
    pub results: Vec<Result<Option<TreeHead>, ProofError>>,
}

/// Verifies many proofs in one pass: block hashes are computed side by side, nodes and upgrades of earlier proofs
/// count for later ones. `is_signed` is asked about every upgrade (with the proof, whose manifest may be needed);
/// those that it denies fail with [`ProofError::Signature`].
///
/// The order of the proofs is kept; one that fails changes nothing for the others.
pub fn verify_burst(
    head: &TreeHead,
    source: &dyn NodeSource,
    proofs: &[Proof],
    is_signed: &mut dyn FnMut(&TreeHead, &Proof) -> bool,
) -> Burst {
    let blocks: Vec<&Bytes> =
        proofs.iter().filter_map(|proof| proof.block.as_ref()).map(|b| &b.value).collect();
    let mut leaves = crypto::leaf_hashes(&blocks).into_iter();

    let mut batch = TreeBatch::from_head(head);
    let mut results = Vec::with_capacity(proofs.len());
    for proof in proofs {
        let leaf = proof.block.as_ref().and_then(|_| leaves.next());
        let outcome = verify_hashed(&batch, source, proof, leaf).and_then(|verified| {
            check_signed(&verified, proof, is_signed)?;
            let upgrade = verified.upgrade.clone();
            batch.accept(verified);
            Ok(upgrade)
        });
        results.push(outcome);
    }
    Burst { batch, results }
}

fn check_signed(
    verified: &Verified,
    proof: &Proof,
    is_signed: &mut dyn FnMut(&TreeHead, &Proof) -> bool,
) -> Result<(), ProofError> {
    match verified.upgrade() {
        Some(head) if !is_signed(head, proof) => Err(ProofError::Signature { length: head.length }),
        _ => Ok(()),
    }
}
