//! Whether a tree is signed as the manifest demands, and signing it so.

use bytes::Bytes;

use crate::key::Key;
use crate::manifest::{Manifest, Prologue};
use crate::multisig::PartialSignature;
use crate::signing::KeyPair;
use crate::tree::TreeHead;

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

    /// Whether `tree` is signed as the manifest demands (a static core needs no signature). The signature is taken
    /// as an argument, so that `tree.signature` can be the one that is being replaced.
    pub fn verify(&self, tree: &TreeHead, signature: Option<&Bytes>) -> bool {
        let _ = (tree, signature);
        unimplemented!()
    }

    /// What one signer contributes: complete when the manifest has one signer, otherwise a bare signature of 64
    /// bytes that goes into [`Verifier::assemble`].
    pub fn sign(&self, tree: &TreeHead, key_pair: &KeyPair) -> Result<Bytes, SignError> {
        let _ = (tree, key_pair);
        unimplemented!()
    }

    /// A complete signature by as many of `key_pairs` as the quorum demands.
    pub fn sign_with(&self, tree: &TreeHead, key_pairs: &[KeyPair]) -> Result<Bytes, SignError> {
        let _ = (tree, key_pairs);
        unimplemented!()
    }

    /// Puts the contributions of several signers together.
    pub fn assemble(&self, inputs: &[PartialSignature]) -> Bytes {
        let _ = inputs;
        unimplemented!()
    }
}
