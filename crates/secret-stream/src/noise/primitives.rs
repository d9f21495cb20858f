//! Curve, hash and cipher for `snow`.

use curve25519_dalek::edwards::CompressedEdwardsY;
use dryoc::classic::crypto_aead_chacha20poly1305_ietf as aead;
use dryoc::classic::crypto_core::crypto_core_ed25519_is_valid_point;
use dryoc::classic::crypto_hash::crypto_hash_sha512;
use dryoc::classic::crypto_sign::crypto_sign_seed_keypair;
use snow::Error;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use zeroize::{Zeroize, Zeroizing};

const TAG: usize = 16;
const HASH: usize = 64;
const BLOCK: usize = 128;

pub(super) struct Resolver;

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(SystemRandom))
    }

    fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(Ed25519 { public: [0; 32], secret: Zeroizing::new([0; 64]) }))
    }

    fn resolve_hash(&self, _: &HashChoice) -> Option<Box<dyn Hash>> {
        Some(Box::new(Blake2b(blake2b_simd::State::new())))
    }

    fn resolve_cipher(&self, _: &CipherChoice) -> Option<Box<dyn Cipher>> {
        Some(Box::new(ChaChaPoly(Zeroizing::new([0; 32]))))
    }
}

struct SystemRandom;

impl Random for SystemRandom {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        dryoc::rng::copy_randombytes(dest);
        Ok(())
    }
}

/// Diffie-Hellman on Ed25519 points as npm `noise-curve-ed` 2.1 does it: libsodium's
/// `crypto_scalarmult_ed25519_noclamp` with the clamped scalar that the signing key hides.
struct Ed25519 {
    public: [u8; 32],
    secret: Zeroizing<[u8; 64]>,
}

impl Ed25519 {
    fn scalar(&self) -> Zeroizing<[u8; 32]> {
        let mut digest = [0; 64];
        crypto_hash_sha512(&mut digest, &self.secret[..32]);
        let mut scalar = Zeroizing::new([0; 32]);
        scalar.copy_from_slice(&digest[..32]);
        digest.zeroize();
        scalar
    }
}

impl Dh for Ed25519 {
    fn name(&self) -> &'static str {
        "Ed25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        64
    }

    fn set(&mut self, privkey: &[u8]) {
        // Only a `KeyPair` comes here, which is always 64 bytes: seed, then public key.
        if let (Some(secret), Some(public)) = (privkey.first_chunk::<64>(), privkey.last_chunk::<32>()) {
            self.secret.copy_from_slice(secret);
            self.public = *public;
        }
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        let mut seed = Zeroizing::new([0; 32]);
        rng.try_fill_bytes(seed.as_mut())?;
        let (public, secret) = crypto_sign_seed_keypair(&seed);
        self.public = public;
        self.secret = Zeroizing::new(secret);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        self.secret.as_ref()
    }

    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let remote = pubkey.first_chunk::<32>().ok_or(Error::Dh)?;
        // libsodium refuses encodings that are not canonical, points of small order and points outside the
        // prime-order group; so must this, or a handshake would succeed here and fail there.
        if !crypto_core_ed25519_is_valid_point(remote) {
            return Err(Error::Dh);
        }
        let point = CompressedEdwardsY(*remote).decompress().ok_or(Error::Dh)?;
        let shared = Zeroizing::new(point.mul_clamped(*self.scalar()).compress().to_bytes());
        out.get_mut(..32).ok_or(Error::Dh)?.copy_from_slice(shared.as_ref());
        Ok(())
    }
}

struct Blake2b(blake2b_simd::State);

impl Hash for Blake2b {
    fn name(&self) -> &'static str {
        "BLAKE2b"
    }

    fn block_len(&self) -> usize {
        BLOCK
    }

    fn hash_len(&self) -> usize {
        HASH
    }

    fn reset(&mut self) {
        self.0 = blake2b_simd::State::new();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        if let Some(out) = out.first_chunk_mut::<HASH>() {
            out.copy_from_slice(self.0.finalize().as_bytes());
        }
        self.reset();
    }
}

struct ChaChaPoly(Zeroizing<[u8; 32]>);

impl ChaChaPoly {
    fn nonce(counter: u64) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_le_bytes());
        nonce
    }
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; 32]) {
        *self.0 = *key;
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let len = plaintext.len().saturating_add(TAG);
        let Some(out) = out.get_mut(..len) else {
            return 0;
        };
        // Fails only for a length mismatch, which the line above rules out.
        match aead::crypto_aead_chacha20poly1305_ietf_encrypt(
            out,
            plaintext,
            Some(authtext),
            &Self::nonce(nonce),
            &self.0,
        ) {
            Ok(()) => len,
            Err(_) => 0,
        }
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let len = ciphertext.len().checked_sub(TAG).ok_or(Error::Decrypt)?;
        let out = out.get_mut(..len).ok_or(Error::Decrypt)?;
        aead::crypto_aead_chacha20poly1305_ietf_decrypt(
            out,
            ciphertext,
            Some(authtext),
            &Self::nonce(nonce),
            &self.0,
        )
        .map_err(|_| Error::Decrypt)?;
        Ok(len)
    }
}
