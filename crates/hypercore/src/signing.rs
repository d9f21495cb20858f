//! Ed25519 key pairs and signatures, in the forms that libsodium gives them.

use ed25519_dalek::{Signer, SigningKey};

/// Why bytes are not a key pair.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyPairError {
    /// A secret key has 64 bytes: the seed and the public key.
    #[error("a secret key has 64 bytes (seed and public key), this one has {length}")]
    Length {
        /// Bytes found.
        length: usize,
    },
    /// The public half does not belong to the secret half.
    #[error("the public key does not belong to the secret key")]
    Mismatch,
}

/// An Ed25519 key pair. The secret half is wiped from memory when it is dropped and never printed.
#[derive(Clone)]
pub struct KeyPair {
    key: SigningKey,
}

impl KeyPair {
    /// A fresh key pair, from the randomness of the operating system.
    ///
    /// # Panics
    /// When the operating system has no randomness to give.
    pub fn generate() -> Self {
        let mut seed = zeroize::Zeroizing::new([0u8; 32]);
        getrandom::fill(&mut *seed).expect("the operating system provides randomness");
        Self::from_seed(&seed)
    }

    /// The key pair of a seed (libsodium `crypto_sign_seed_keypair`).
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self { key: SigningKey::from_bytes(seed) }
    }

    /// The key pair of a libsodium secret key: 32 bytes of seed, 32 bytes of public key.
    pub fn from_secret_bytes(secret: &[u8]) -> Result<Self, KeyPairError> {
        let bytes = secret.try_into().map_err(|_| KeyPairError::Length { length: secret.len() })?;
        let key = SigningKey::from_keypair_bytes(bytes).map_err(|_| KeyPairError::Mismatch)?;
        Ok(Self { key })
    }

    /// The public key.
    pub fn public(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// The libsodium secret key: 32 bytes of seed, 32 bytes of public key.
    pub fn secret_bytes(&self) -> zeroize::Zeroizing<[u8; 64]> {
        zeroize::Zeroizing::new(self.key.to_keypair_bytes())
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPair")
            .field("public", &crate::key::Key::from(self.public()))
            .finish_non_exhaustive()
    }
}

/// Whether `signature` signs `message` under `public_key`.
pub fn verify(message: &[u8], signature: &[u8; 64], public_key: &[u8; 32]) -> bool {
    let Ok(key) = ed25519_dalek::VerifyingKey::from_bytes(public_key) else {
        return false;
    };
    key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
}

/// One signature of a [`verify_batch`].
#[derive(Debug, Clone, Copy)]
pub struct SignedMessage<'a> {
    /// What was signed.
    pub message: &'a [u8],
    /// The signature.
    pub signature: &'a [u8; 64],
    /// Whose it is.
    pub public_key: &'a [u8; 32],
}

/// Whether all of the signatures are valid. About half the cost of one [`verify`] each.
pub fn verify_batch(signed: &[SignedMessage<'_>]) -> bool {
    signed.iter().all(|one| verify(one.message, one.signature, one.public_key))
}
