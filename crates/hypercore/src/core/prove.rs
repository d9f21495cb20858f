//! Answering peers: proofs with blocks and manifest in them.

use super::Core;
use crate::proof::{Proof, ProofRequest};
use crate::tree::{self, ProofError};

impl Core {
    /// Answers a request, with the block and, when it was asked for, the manifest.
    pub fn prove(&self, request: &ProofRequest) -> Result<Proof, ProofError> {
        let mut proofs = self.prove_many(std::slice::from_ref(request));
        proofs.pop().unwrap_or(Err(ProofError::BadRequest { reason: "there is no request" }))
    }

    /// Answers many requests with shared reads.
    pub fn prove_many(&self, requests: &[ProofRequest]) -> Vec<Result<Proof, ProofError>> {
        let mut proofs = tree::prove_many(&self.head, &self.store, requests);
        if let Err(error) = self.fill_blocks(&mut proofs) {
            // One read serves all: when it fails, all fail.
            proofs.fill_with(|| Err(error.clone()));
        }
        for (proof, request) in proofs.iter_mut().zip(requests) {
            if let Ok(proof) = proof
                && request.manifest
            {
                proof.manifest = self.manifest().cloned().map(Box::new);
            }
        }
        proofs
    }

    fn fill_blocks(&self, proofs: &mut [Result<Proof, ProofError>]) -> Result<(), ProofError> {
        let mut wanted = Vec::new();
        for proof in proofs.iter_mut() {
            let Ok(Proof { block: Some(block), .. }) = proof else { continue };
            let index = block.index;
            if self.has(index)? {
                wanted.push(index);
            } else {
                *proof = Err(ProofError::MissingNode { index: index.saturating_mul(2) });
            }
        }
        let mut values = self.store.read().blocks(&wanted)?.into_iter();
        for proof in proofs.iter_mut() {
            let Ok(Proof { block: Some(block), .. }) = proof else { continue };
            match values.next().flatten() {
                Some(value) => block.value = value,
                None => *proof = Err(ProofError::MissingNode { index: block.index.saturating_mul(2) }),
            }
        }
        Ok(())
    }
}
