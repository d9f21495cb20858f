//! Whether a tree is signed as the manifest demands, and signing it so.

use std::collections::HashMap;

use bytes::Bytes;

use crate::crypto;
use crate::flat_tree::MAX_LENGTH;
use crate::key::Key;
use crate::manifest::{Manifest, Prologue, Signer};
use crate::multisig::{self, MultiSignature, PartialSignature};
use crate::proof::{DataUpgrade, Node};
use crate::signing::{self, KeyPair};
use crate::tree::{self, TreeHead};

/// Why a tree could not be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The key pair is of none of the signers.
    #[error("the key pair is of none of the signers that the manifest declares")]
    NotASigner,
    /// More signers have to sign.
    #[error("the manifest demands {quorum} signatures, only {held} of its signers' key pairs are here")]
    Quorum {
        /// Signatures demanded.
        quorum: u64,
        /// Key pairs of signers that are here.
        held: usize,
    },
}

/// Checks and makes signatures for one core.
#[derive(Debug, Clone)]
pub struct Verifier {
    key: Key,
    manifest: Manifest,
    compat: bool,
}

impl Verifier {
    /// For the core with this key. The caller has made sure that the manifest belongs to it
    /// ([`Manifest::belongs_to`]).
    pub fn new(key: Key, manifest: Manifest) -> Self {
        let compat = manifest.is_compat(&key);
        Self { key, manifest, compat }
    }

    /// The key of the core.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// True when the key is the public key of the only signer.
    pub fn is_compat(&self) -> bool {
        self.compat
    }

    /// The fixed start of the log.
    pub fn prologue(&self) -> Option<Prologue> {
        if self.compat { None } else { self.manifest.prologue }
    }

    /// Whether `tree` carries the signature that the manifest demands. The start that a prologue fixes needs none.
    pub fn verify(&self, tree: &TreeHead) -> bool {
        self.verify_signature(tree, tree.signature.as_ref())
    }

    /// Whether `signature` signs `tree` as the manifest demands.
    pub fn verify_signature(&self, tree: &TreeHead, signature: Option<&Bytes>) -> bool {
        let manifest = &self.manifest;
        if let Some(prologue) = manifest.prologue.filter(|_| self.version() > 0)
            && tree.length <= prologue.length
        {
            return tree.length == prologue.length && tree.hash() == prologue.hash;
        }
        let Some(signature) = signature else {
            return false;
        };
        match manifest.signers.as_slice() {
            [signer] if self.takes_bare_signature() => <[u8; 64]>::try_from(signature.as_ref())
                .is_ok_and(|bare| signing::verify(&self.signable(tree, signer), &bare, &signer.public_key)),
            _ => self.verify_multi(tree, signature.clone()),
        }
    }

    /// What one signer contributes: complete when the manifest has one signer, otherwise a bare signature of 64
    /// bytes that goes into [`Verifier::assemble`].
    pub fn sign(&self, tree: &TreeHead, key_pair: &KeyPair) -> Result<Bytes, SignError> {
        let public_key = key_pair.public();
        let signer = self.manifest.signers.iter().find(|signer| signer.public_key == public_key);
        let signature = key_pair.sign(&self.signable(tree, signer.ok_or(SignError::NotASigner)?));
        if self.manifest.signers.len() != 1 || self.version() == 0 {
            return Ok(Bytes::copy_from_slice(&signature));
        }
        Ok(self.assemble(&[PartialSignature { signer: 0, signature, patch: 0, nodes: Vec::new() }]))
    }

    /// A complete signature by as many of `key_pairs` as the quorum demands.
    pub fn sign_with(&self, tree: &TreeHead, key_pairs: &[KeyPair]) -> Result<Bytes, SignError> {
        let held = |signer: &Signer| key_pairs.iter().find(|pair| pair.public() == signer.public_key);
        let mut inputs = Vec::new();
        for (place, signer) in (0..).zip(&self.manifest.signers) {
            if let Some(pair) = held(signer) {
                let signature = pair.sign(&self.signable(tree, signer));
                inputs.push(PartialSignature { signer: place, signature, patch: 0, nodes: Vec::new() });
            }
        }
        let quorum = self.quorum();
        let enough = usize::try_from(quorum).ok().filter(|quorum| (1..=inputs.len()).contains(quorum));
        match (inputs.as_slice(), enough) {
            ([], _) => Err(SignError::NotASigner),
            ([only, ..], Some(_)) if self.takes_bare_signature() => {
                Ok(Bytes::copy_from_slice(&only.signature))
            }
            (inputs, Some(enough)) => Ok(self.assemble(inputs.get(..enough).unwrap_or(inputs))),
            (inputs, None) => Err(SignError::Quorum { quorum, held: inputs.len() }),
        }
    }

    /// Puts the contributions of several signers together.
    pub fn assemble(&self, inputs: &[PartialSignature]) -> Bytes {
        if self.version() == 0 { multisig::assemble_v0(inputs) } else { multisig::assemble(inputs) }
    }

    fn version(&self) -> u64 {
        if self.compat { 0 } else { self.manifest.version }
    }

    fn quorum(&self) -> u64 {
        if self.compat { 1 } else { self.manifest.quorum }
    }

    fn allows_patch(&self) -> bool {
        !self.compat && self.manifest.allow_patch
    }

    /// Early manifests with a single signer have its signature as it stands.
    fn takes_bare_signature(&self) -> bool {
        self.compat || (self.version() == 0 && !self.allows_patch() && self.manifest.signers.len() == 1)
    }

    /// What a signer signs.
    fn signable(&self, tree: &TreeHead, signer: &Signer) -> Vec<u8> {
        if self.compat {
            return crypto::tree_signable_compat(&tree.hash(), tree.length, tree.fork).to_vec();
        }
        let context = if self.version() == 0 { &signer.namespace } else { self.key.as_bytes() };
        tree.signable(context).to_vec()
    }

    fn verify_multi(&self, tree: &TreeHead, signature: Bytes) -> bool {
        let inflated =
            if self.version() == 0 { multisig::inflate_v0(signature) } else { multisig::inflate(signature) };
        let Ok(MultiSignature { proofs, patch }) = inflated else {
            return false;
        };
        // A quorum that cannot be met, or of none, is never reached.
        let quorum = usize::try_from(self.quorum()).unwrap_or(usize::MAX);
        let Some(counted) = proofs.get(..quorum).filter(|counted| !counted.is_empty()) else {
            return false;
        };
        let patch: HashMap<u64, Node> = patch.into_iter().map(|node| (node.index, node)).collect();
        let mut tried = vec![false; self.manifest.signers.len()];
        for proof in counted {
            let place = usize::try_from(proof.signer).unwrap_or(usize::MAX);
            let (Some(signer), Some(tried)) = (self.manifest.signers.get(place), tried.get_mut(place)) else {
                return false;
            };
            if std::mem::replace(tried, true) {
                return false;
            }
            let signable = if proof.patch > 0 && self.allows_patch() {
                match patched(tree, proof.patch, &patch) {
                    Some(longer) => self.signable(&longer, signer),
                    None => return false,
                }
            } else {
                self.signable(tree, signer)
            };
            if !signing::verify(&signable, &proof.signature, &signer.public_key) {
                return false;
            }
        }
        true
    }
}

/// The tree `length` blocks further, by the nodes that came with a signature.
fn patched(tree: &TreeHead, length: u64, nodes: &HashMap<u64, Node>) -> Option<TreeHead> {
    let end = tree.length.checked_add(length).filter(|end| *end <= MAX_LENGTH)?;
    let path = tree::extension(2 * tree.length, 2 * end);
    let nodes =
        path.iter().map(|position| nodes.get(&position.index()).copied()).collect::<Option<Vec<_>>>()?;
    let upgrade =
        DataUpgrade { start: tree.length, length, nodes, additional_nodes: Vec::new(), signature: None };
    tree::extended(tree, &upgrade)
}
