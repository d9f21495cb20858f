use super::{NodeSource, ProofError, TreeBatch, TreeHead};
use crate::proof::{Node, Proof};

/// What a proof proves, as long as its upgrade (if it has one) is signed: check [`Verified::upgrade`] with a
/// [`crate::Verifier`], then [`TreeBatch::accept`] it.
#[derive(Debug, Clone)]
pub struct Verified {
    pub(super) nodes: Vec<Node>,
    pub(super) upgrade: Option<TreeHead>,
}

impl Verified {
    /// The longer tree that the proof claims. Not to be believed before its signature is verified.
    pub fn upgrade(&self) -> Option<&TreeHead> {
        self.upgrade.as_ref()
    }

    /// Nodes that become known.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }
}

impl TreeBatch {
    /// Takes over what a proof has proven.
    pub fn accept(&mut self, verified: Verified) {
        let _ = verified;
        unimplemented!()
    }
}

/// Checks a proof against the tree as `batch` will leave it; nodes that earlier proofs brought into `batch` count
/// as known. Signatures are not checked here.
pub fn verify(batch: &TreeBatch, source: &dyn NodeSource, proof: &Proof) -> Result<Verified, ProofError> {
    let _ = (batch, source, proof);
    unimplemented!()
}

/// The tree that an upgrade from length 0 claims, whatever the local log holds: for conflict checks and proofs
/// that arrive out of context. The signature is for the caller to verify.
pub fn verify_fully_remote(head: &TreeHead, proof: &Proof) -> Result<TreeHead, ProofError> {
    let _ = (head, proof);
    unimplemented!()
}
