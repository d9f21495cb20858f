use std::fmt;

use dryoc::classic::crypto_sign::crypto_sign_seed_keypair;
use zeroize::Zeroizing;

/// An Ed25519 key pair: the identity of one side.
///
/// The secret half is libsodium's `seed || public key` (64 bytes) and is wiped when the pair is dropped.
#[derive(Clone)]
pub struct KeyPair {
    /// The public key, which the remote sees as `remote_public_key`.
    pub public: [u8; 32],
    secret: Zeroizing<[u8; 64]>,
}

impl KeyPair {
    /// A fresh pair from the random numbers of the operating system.
    pub fn generate() -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        dryoc::rng::copy_randombytes(seed.as_mut());
        Self::from_seed(&seed)
    }

    /// The pair that belongs to `seed` (`crypto_sign_seed_keypair`).
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let (public, secret) = crypto_sign_seed_keypair(seed);
        Self { public, secret: Zeroizing::new(secret) }
    }

    /// Takes libsodium's 64-byte secret key; `None` when its second half is not the public key of its first.
    pub fn from_secret_bytes(secret: &[u8; 64]) -> Option<Self> {
        let seed = Zeroizing::new(*secret.first_chunk::<32>()?);
        let pair = Self::from_seed(&seed);
        (pair.public[..] == secret[32..]).then_some(pair)
    }

    /// libsodium's 64-byte secret key.
    pub fn secret(&self) -> &[u8; 64] {
        &self.secret
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").field("public", &self.public).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_bytes_round_trip_and_are_checked() {
        let pair = KeyPair::from_seed(&[7; 32]);
        let again = KeyPair::from_secret_bytes(pair.secret()).unwrap();
        assert_eq!(again.public, pair.public);
        let mut wrong = *pair.secret();
        wrong[40] ^= 1;
        assert!(KeyPair::from_secret_bytes(&wrong).is_none());
    }

    #[test]
    fn debug_shows_no_secret() {
        let text = format!("{:?}", KeyPair::from_seed(&[7; 32]));
        assert!(text.contains("public") && !text.contains("secret"));
    }
}
