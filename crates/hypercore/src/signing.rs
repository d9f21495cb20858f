//! Ed25519 key pairs and signatures, in the forms that libsodium gives them.

use dryoc::classic::crypto_sign::crypto_sign_detached;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

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
    /// What is computed from these takes four times the memory, and there may be very many key pairs.
    seed: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl KeyPair {
    /// A fresh key pair, from the randomness of the operating system.
    ///
    /// # Panics
    /// When the operating system has no randomness to give.
    pub fn generate() -> Self {
        let mut seed = Zeroizing::new([0u8; 32]);
        getrandom::fill(&mut *seed).expect("the operating system provides randomness");
        Self::from_seed(&seed)
    }

    /// The key pair of a seed (libsodium `crypto_sign_seed_keypair`).
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self::of(&SigningKey::from_bytes(seed))
    }

    /// The key pair of a libsodium secret key: 32 bytes of seed, 32 bytes of public key.
    pub fn from_secret_bytes(secret: &[u8]) -> Result<Self, KeyPairError> {
        let bytes = secret.try_into().map_err(|_| KeyPairError::Length { length: secret.len() })?;
        SigningKey::from_keypair_bytes(bytes).map(|key| Self::of(&key)).map_err(|_| KeyPairError::Mismatch)
    }

    fn of(key: &SigningKey) -> Self {
        Self { seed: Zeroizing::new(key.to_bytes()), public: key.verifying_key().to_bytes() }
    }

    /// The public key.
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// The libsodium secret key: 32 bytes of seed, 32 bytes of public key.
    pub fn secret_bytes(&self) -> Zeroizing<[u8; 64]> {
        let mut secret = Zeroizing::new([0; 64]);
        secret[..32].copy_from_slice(&*self.seed);
        secret[32..].copy_from_slice(&self.public);
        secret
    }

    /// Signs a message (libsodium `crypto_sign_detached`).
    ///
    /// A signature is most of what an append costs, and dryoc takes a quarter less time for it than dalek. Both take the
    /// same steps whatever the key is, and make the same signature: there is only one.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        match crypto_sign_detached(&mut signature, message, &self.secret_bytes()) {
            Ok(()) => signature,
            Err(_) => SigningKey::from_bytes(&self.seed).sign(message).to_bytes(),
        }
    }
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPair")
            .field("public", &crate::key::Key::from(self.public()))
            .finish_non_exhaustive()
    }
}

/// Whether `signature` signs `message` under `public_key`, exactly as `crypto_sign_verify_detached` of libsodium judges
/// it: numbers must be reduced, points of small order are refused, and the equation holds without a cofactor.
///
/// Batch verification would take half the time, but its equation is another one: it lets a signer make signatures that
/// pass here and fail at JavaScript peers, who would then drop whoever hands them on. So there is none.
pub fn verify(message: &[u8], signature: &[u8; 64], public_key: &[u8; 32]) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(public_key) else {
        return false;
    };
    key.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secret_keys_round_trip() {
        let pair = KeyPair::generate();
        let again = KeyPair::from_secret_bytes(&*pair.secret_bytes()).unwrap();
        assert_eq!(again.public(), pair.public());
        assert!(verify(b"message", &again.sign(b"message"), &pair.public()));
        assert!(!verify(b"massage", &again.sign(b"message"), &pair.public()));
        assert_ne!(KeyPair::generate().public(), pair.public());
    }

    proptest! {
        #[test]
        fn there_is_one_signature(seed: [u8; 32], message in proptest::collection::vec(any::<u8>(), 0..400)) {
            let pair = KeyPair::from_seed(&seed);
            let signature = pair.sign(&message);
            prop_assert_eq!(signature, SigningKey::from_bytes(&seed).sign(&message).to_bytes());
            prop_assert!(verify(&message, &signature, &pair.public()));
        }
    }

    #[test]
    fn what_is_no_secret_key_is_refused() {
        let mut secret = KeyPair::from_seed(&[1; 32]).secret_bytes();
        assert_eq!(
            KeyPair::from_secret_bytes(&secret[..32]).unwrap_err(),
            KeyPairError::Length { length: 32 }
        );
        secret[40] ^= 1;
        assert_eq!(KeyPair::from_secret_bytes(&*secret).unwrap_err(), KeyPairError::Mismatch);
    }

    #[test]
    fn secrets_are_not_printed() {
        let pair = KeyPair::from_seed(&[7; 32]);
        let printed = format!("{pair:?}");
        assert!(printed.contains(&crate::Key::from(pair.public()).to_hex()));
        assert!(!printed.contains("0707"));
    }
}
