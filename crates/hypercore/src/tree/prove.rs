use super::{NodeSource, ProofError, TreeHead};
use crate::proof::{Proof, ProofRequest};

/// Answers a request. The value of a block and the manifest are for the caller to fill in.
pub fn prove(head: &TreeHead, source: &dyn NodeSource, request: &ProofRequest) -> Result<Proof, ProofError> {
    let _ = (head, source, request);
    unimplemented!()
}

/// Answers many requests with one read of all the nodes that they need.
pub fn prove_many(
    head: &TreeHead,
    source: &dyn NodeSource,
    requests: &[ProofRequest],
) -> Vec<Result<Proof, ProofError>> {
    let _ = (head, source, requests);
    unimplemented!()
}
