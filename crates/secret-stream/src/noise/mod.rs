//! The Noise handshake of the Hyperswarm stack, usable without a stream.
//!
//! It is standard Noise (npm `noise-handshake` 4.2) with one change: the Diffie-Hellman function works on
//! Ed25519 points (npm `noise-curve-ed` 2.1), so that the key that signs also identifies a connection. The
//! protocol names are `Noise_XX_Ed25519_ChaChaPoly_BLAKE2b` and `Noise_IK_Ed25519_ChaChaPoly_BLAKE2b`.
//!
//! The pattern machinery is the reviewed one of the `snow` crate; `primitives.rs` gives it this curve, and the
//! same BLAKE2b and ChaCha20-Poly1305 implementations that the rest of the stack uses. `snow` ends in its own
//! transport messages, which this stack does not use, so the two keys are taken from it (`risky-raw-split`)
//! and go to the secretstream.

mod primitives;

use std::fmt;

use snow::params::NoiseParams;
use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

use crate::KeyPair;
use primitives::Resolver;

/// The longest Noise message, and so the longest handshake frame (Noise specification, section 3).
pub const MAX_MESSAGE: usize = 65535;

/// Which handshake both sides run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Three messages; both sides learn each other's public key.
    XX,
    /// Two messages; the initiator knows the responder's public key beforehand.
    IK {
        /// The responder's key. The initiator must give it; the responder gives `None`.
        remote_public_key: Option<[u8; 32]>,
    },
}

/// What a finished handshake leaves: the keys of the encrypted stream and who is at the other end.
#[derive(Clone)]
pub struct HandshakeResult {
    /// Encrypts what this side sends.
    pub tx: Zeroizing<[u8; 32]>,
    /// Decrypts what this side receives.
    pub rx: Zeroizing<[u8; 32]>,
    /// The handshake hash, the same on both sides and different for every connection.
    pub hash: [u8; 64],
    /// The remote's static public key, which it has proven to own.
    pub remote_public_key: [u8; 32],
}

/// One side of a running handshake.
pub struct Handshake {
    state: HandshakeState,
    initiator: bool,
}

/// Why a handshake message was refused or could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoiseError {
    /// The initiator of an IK handshake does not know whom to call.
    #[error("an IK initiator needs the remote's public key")]
    MissingRemoteKey,
    /// A message is too short or too long for its place in the pattern.
    #[error("handshake message has the wrong length")]
    Length,
    /// A public key is no point of the prime-order group.
    #[error("a public key is not a valid Ed25519 point")]
    InvalidPublicKey,
    /// A part of a message did not authenticate.
    #[error("handshake message did not authenticate")]
    Authentication,
    /// The operating system gave no random bytes, or the message came out of turn.
    #[error("handshake message out of turn")]
    OutOfTurn,
}

impl Handshake {
    /// Starts a handshake. `prologue` is empty for secret streams; other users of the handshake (the DHT) bind
    /// their context with it.
    pub fn new(
        initiator: bool,
        key_pair: &KeyPair,
        pattern: Pattern,
        prologue: &[u8],
    ) -> Result<Self, NoiseError> {
        Self::start(initiator, key_pair, pattern, prologue, None)
    }

    /// A handshake with a known ephemeral key, for known answers.
    #[cfg(test)]
    pub(crate) fn with_ephemeral(
        initiator: bool,
        key_pair: &KeyPair,
        pattern: Pattern,
        prologue: &[u8],
        ephemeral: &KeyPair,
    ) -> Result<Self, NoiseError> {
        Self::start(initiator, key_pair, pattern, prologue, Some(ephemeral))
    }

    fn start(
        initiator: bool,
        key_pair: &KeyPair,
        pattern: Pattern,
        prologue: &[u8],
        ephemeral: Option<&KeyPair>,
    ) -> Result<Self, NoiseError> {
        let mut builder = Builder::with_resolver(params(pattern)?, Box::new(Resolver))
            .local_private_key(key_pair.secret())?
            .prologue(prologue)?;
        if let (true, Pattern::IK { remote_public_key }) = (initiator, &pattern) {
            let key = remote_public_key.as_ref().ok_or(NoiseError::MissingRemoteKey)?;
            builder = builder.remote_public_key(key)?;
        }
        if let Some(ephemeral) = ephemeral {
            builder = builder.fixed_ephemeral_key_for_testing_only(ephemeral.secret());
        }
        let state = if initiator { builder.build_initiator()? } else { builder.build_responder()? };
        Ok(Self { state, initiator })
    }

    /// True when the next step is [`Handshake::write`].
    pub fn is_my_turn(&self) -> bool {
        !self.is_complete() && self.state.is_my_turn()
    }

    /// True when all messages were exchanged.
    pub fn is_complete(&self) -> bool {
        self.state.is_handshake_finished()
    }

    /// Makes the next message, with `payload` (empty for secret streams) inside.
    pub fn write(&mut self, payload: &[u8]) -> Result<Vec<u8>, NoiseError> {
        // At most two keys and two tags go with the payload.
        let capacity = payload.len().saturating_add(128);
        if capacity > MAX_MESSAGE {
            return Err(NoiseError::Length);
        }
        let mut message = vec![0; capacity];
        let len = self.state.write_message(payload, &mut message)?;
        message.truncate(len);
        Ok(message)
    }

    /// Reads the remote's next message and gives its payload.
    pub fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, NoiseError> {
        if message.len() > MAX_MESSAGE {
            return Err(NoiseError::Length);
        }
        let mut payload = vec![0; message.len()];
        let len = self.state.read_message(message, &mut payload)?;
        payload.truncate(len);
        Ok(payload)
    }

    /// The remote's static public key, as soon as a message of the remote has proven it (or it was given).
    pub fn remote_public_key(&self) -> Option<[u8; 32]> {
        self.state.get_remote_static().and_then(|key| key.first_chunk::<32>()).copied()
    }

    /// The keys, once [`Handshake::is_complete`].
    pub fn finish(mut self) -> Result<HandshakeResult, NoiseError> {
        if !self.is_complete() {
            return Err(NoiseError::OutOfTurn);
        }
        let hash = self.state.get_handshake_hash().try_into().map_err(|_| NoiseError::OutOfTurn)?;
        let remote = self.state.get_remote_static().and_then(|key| key.first_chunk::<32>());
        let remote_public_key = *remote.ok_or(NoiseError::OutOfTurn)?;
        let (initiator_key, responder_key) = self.state.dangerously_get_raw_split();
        let (initiator_key, responder_key) = (Zeroizing::new(initiator_key), Zeroizing::new(responder_key));
        let (tx, rx) =
            if self.initiator { (initiator_key, responder_key) } else { (responder_key, initiator_key) };
        Ok(HandshakeResult { tx, rx, hash, remote_public_key })
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("initiator", &self.initiator).finish_non_exhaustive()
    }
}

impl fmt::Debug for HandshakeResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeResult")
            .field("remote_public_key", &self.remote_public_key)
            .finish_non_exhaustive()
    }
}

impl From<snow::Error> for NoiseError {
    fn from(error: snow::Error) -> Self {
        match error {
            snow::Error::Input => Self::Length,
            snow::Error::Dh => Self::InvalidPublicKey,
            snow::Error::Decrypt => Self::Authentication,
            snow::Error::Prereq(_) => Self::MissingRemoteKey,
            _ => Self::OutOfTurn,
        }
    }
}

/// `snow` does not know the name of this curve, but takes any name: the choice of 25519 only decides what the
/// resolver is asked for, while the name is what both sides hash.
fn params(pattern: Pattern) -> Result<NoiseParams, NoiseError> {
    let (known, name) = match pattern {
        Pattern::XX => ("Noise_XX_25519_ChaChaPoly_BLAKE2b", "Noise_XX_Ed25519_ChaChaPoly_BLAKE2b"),
        Pattern::IK { .. } => ("Noise_IK_25519_ChaChaPoly_BLAKE2b", "Noise_IK_Ed25519_ChaChaPoly_BLAKE2b"),
    };
    let mut params: NoiseParams = known.parse()?;
    params.name = name.to_owned();
    Ok(params)
}
