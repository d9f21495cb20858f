//! Signatures of several signers in one, and the patches that let them have signed different lengths.
//!
//! Encodings: `multiSignature` and `multiSignaturev0` of npm `hypercore` 11.37.1 (`lib/messages.js`,
//! `lib/multisig.js`).

use std::collections::HashSet;

use bytes::Bytes;
use compact_codec::{DecodeError, Reader, Writer};

use crate::flat_tree::Position;
use crate::proof::{Node, ProofRequest, RequestUpgrade};
use crate::tree::{self, NodeSource, ProofError, TreeHead};

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

/// Takes a signature of a manifest of version 1 or later apart. Bytes behind it are ignored, as JS peers do.
pub fn inflate(signature: Bytes) -> Result<MultiSignature, DecodeError> {
    let mut reader = Reader::new(signature);
    let proofs = reader.list("signatures", 66, |reader| {
        Ok(SignerProof {
            signer: reader.uint()?,
            signature: reader.array("signature")?,
            patch: reader.uint()?,
        })
    })?;
    let patch = reader.list("patch nodes", Node::MIN_ENCODED, Node::decode_from)?;
    Ok(MultiSignature { proofs, patch })
}

/// Takes a signature of a manifest of version 0 apart.
pub fn inflate_v0(signature: Bytes) -> Result<MultiSignature, DecodeError> {
    let mut reader = Reader::new(signature);
    let proofs = reader.list("signatures", 66, |reader| {
        let has_patch = reader.uint()? & 1 != 0;
        let signer = reader.uint()?;
        let signature = reader.array("signature")?;
        let mut patch = 0;
        if has_patch {
            let _start = reader.uint()?;
            patch = reader.uint()?;
            let _nodes = reader.list("patch", 1, Reader::uint)?;
        }
        Ok(SignerProof { signer, signature, patch })
    })?;
    let patch = reader.list("patch nodes", Node::MIN_ENCODED, Node::decode_from)?;
    Ok(MultiSignature { proofs, patch })
}

/// Puts a signature for a manifest of version 1 or later together.
pub fn assemble(inputs: &[PartialSignature]) -> Bytes {
    let mut seen = HashSet::new();
    let nodes = inputs.iter().flat_map(|input| &input.nodes);
    let patch: Vec<Node> = nodes.filter(|node| seen.insert(node.index)).copied().collect();

    let mut writer = Writer::new();
    writer.list(inputs, |writer, input| {
        writer.uint(input.signer);
        writer.raw(&input.signature);
        writer.uint(input.patch);
    });
    writer.list(&patch, |writer, node| node.encode_to(writer));
    writer.finish()
}

/// Puts a signature for a manifest of version 0 together.
pub fn assemble_v0(inputs: &[PartialSignature]) -> Bytes {
    let mut patch: Vec<Node> = Vec::new();
    let mut writer = Writer::new();
    writer.list(inputs, |writer, input| {
        let last = input.nodes.last().filter(|_| input.patch > 0);
        writer.uint(u64::from(last.is_some()));
        writer.uint(input.signer);
        writer.raw(&input.signature);
        if let Some(last) = last {
            writer.uint(Position::new(last.index).end_block());
            writer.uint(input.patch);
            // Each signer's nodes are given by their place among the nodes of all.
            writer.list(&input.nodes, |writer, node| {
                let place = patch.iter().position(|known| known == node).unwrap_or_else(|| {
                    patch.push(*node);
                    patch.len() - 1
                });
                writer.uint(place as u64);
            });
        }
    });
    writer.list(&patch, |writer, node| node.encode_to(writer));
    writer.finish()
}

/// What a signer contributes to a signature of length `from`, when it has signed the tree of `head` cut to length
/// `to`: `signature` as it is stored there, bare or assembled. None when the log is shorter than `from`.
pub fn partial_signature(
    head: &TreeHead,
    source: &dyn NodeSource,
    signer: u64,
    from: u64,
    to: u64,
    signature: &Bytes,
) -> Result<Option<PartialSignature>, PartialSignatureError> {
    if from > head.length {
        return Ok(None);
    }
    let (patch, nodes) = if to > from {
        let upgrade = Some(RequestUpgrade { start: from, length: to - from });
        let proof = tree::prove(head, source, &ProofRequest { upgrade, ..ProofRequest::default() })?;
        (to - from, proof.upgrade.map(|upgrade| upgrade.nodes).unwrap_or_default())
    } else {
        (0, Vec::new())
    };
    let signature = match <[u8; 64]>::try_from(signature.as_ref()) {
        Ok(bare) => bare,
        Err(_) => match inflate(signature.clone())?.proofs.first() {
            Some(first) => first.signature,
            None => return Err(PartialSignatureError::Empty),
        },
    };
    Ok(Some(PartialSignature { signer, signature, patch, nodes }))
}

/// Why a contribution to a signature could not be made.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PartialSignatureError {
    /// The nodes between both lengths are not all here.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The signature is not one.
    #[error("the signature cannot be decoded: {0}")]
    Decode(#[from] DecodeError),
    /// The signature holds none of any signer.
    #[error("the signature holds no signer's signature")]
    Empty,
}

/// The longest length that `quorum` of the signers have signed, given the length of each; 0 when there are too few.
pub fn signable_length(lengths: &[u64], quorum: u64) -> u64 {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    let place = usize::try_from(quorum.max(1) - 1).unwrap_or(usize::MAX);
    sorted.get(place).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn contributions()(
            signer in 0u64..1 << 53,
            signature in proptest::collection::vec(any::<u8>(), 64),
            patch in 0u64..1 << 53,
            nodes in proptest::collection::vec((0u64..20, 0u64..1 << 53, any::<[u8; 32]>()), 0..4),
        ) -> PartialSignature {
            let nodes = nodes.into_iter().map(|(index, size, hash)| Node { index, size, hash });
            PartialSignature {
                signer,
                signature: signature.try_into().unwrap(),
                patch,
                nodes: nodes.collect(),
            }
        }
    }

    #[test]
    fn the_quorum_decides_how_far_a_log_can_be_signed() {
        assert_eq!(signable_length(&[5, 9, 7], 1), 9);
        assert_eq!(signable_length(&[5, 9, 7], 2), 7);
        assert_eq!(signable_length(&[5, 9, 7], 0), 9);
        assert_eq!(signable_length(&[5, 9, 7], 4), 0);
        assert_eq!(signable_length(&[], u64::MAX), 0);
    }

    proptest! {
        #[test]
        fn what_was_put_together_comes_apart(inputs in proptest::collection::vec(contributions(), 0..5)) {
            let parts = |inflated: &MultiSignature| -> Vec<_> {
                inflated.proofs.iter().map(|proof| (proof.signer, proof.signature)).collect()
            };
            let expected: Vec<_> = inputs.iter().map(|input| (input.signer, input.signature)).collect();
            let inflated = inflate(assemble(&inputs)).unwrap();
            prop_assert_eq!(parts(&inflated), expected.clone());
            let inflated = inflate_v0(assemble_v0(&inputs)).unwrap();
            prop_assert_eq!(parts(&inflated), expected);
            for (input, proof) in inputs.iter().zip(&inflated.proofs) {
                prop_assert_eq!(proof.patch, if input.nodes.is_empty() { 0 } else { input.patch });
            }
        }

        #[test]
        fn garbage_is_a_signature_or_an_error(input in proptest::collection::vec(prop_oneof![0u8..3, any::<u8>()], 0..400)) {
            let _ = inflate(Bytes::from(input.clone()));
            let _ = inflate_v0(Bytes::from(input));
        }
    }
}
