//! How a connection is set up.

use std::time::Duration;

use secret_stream::noise::HandshakeResult;
use secret_stream::{KeyPair, Pattern};

/// The keep-alive that npm `hypercore` 11.37.1 sets.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// How a [`Connection`](crate::Connection) is set up.
#[derive(Debug, Clone)]
pub struct ConnectionOptions {
    /// Whether the transport carries plain bytes, to be encrypted here, or messages that are encrypted elsewhere.
    pub transport: TransportOptions,
    /// How many channels may be open from this side.
    pub max_channels: usize,
    /// How many cores that the remote opened may wait for [`Connection::open`](crate::Connection::open) or
    /// [`Connection::reject`](crate::Connection::reject); the remote's further ones are rejected.
    pub max_unpaired: usize,
}

impl ConnectionOptions {
    /// A Noise XX connection over a transport of plain bytes, with the keep-alive that npm `hypercore`
    /// 11.37.1 sets (5 seconds).
    pub fn new(is_initiator: bool, key_pair: KeyPair) -> Self {
        Self::with_transport(TransportOptions::Noise(NoiseOptions::new(is_initiator, key_pair)))
    }

    /// A connection over a stream that is already encrypted and that keeps messages apart.
    pub fn framed(handshake: SecretHandshake) -> Self {
        Self::with_transport(TransportOptions::Framed(handshake))
    }

    /// A connection over plain bytes whose Noise handshake was run elsewhere, as the DHT runs it on the way to a
    /// peer: the encryption starts at once. Keep-alive as in [`ConnectionOptions::new`].
    pub fn handshaken(is_initiator: bool, handshake: HandshakeResult) -> Self {
        Self::with_transport(TransportOptions::Handshaken(HandshakenOptions::new(is_initiator, handshake)))
    }

    /// A connection over this transport.
    pub fn with_transport(transport: TransportOptions) -> Self {
        Self { transport, max_channels: 65_536, max_unpaired: 16_384 }
    }
}

/// What is below a connection.
#[derive(Debug, Clone)]
pub enum TransportOptions {
    /// Plain bytes: the connection does the Noise handshake and encrypts.
    Noise(NoiseOptions),
    /// Plain bytes, with the Noise handshake done elsewhere: the connection only encrypts.
    Handshaken(HandshakenOptions),
    /// Messages over a stream that is encrypted already.
    Framed(SecretHandshake),
}

/// How the encrypted stream is set up.
#[derive(Debug, Clone)]
pub struct NoiseOptions {
    /// True for the side that dialled.
    pub is_initiator: bool,
    /// Identity of this side.
    pub key_pair: KeyPair,
    /// Handshake pattern.
    pub pattern: Pattern,
    /// Send an empty message when nothing was sent for this long.
    pub keep_alive: Option<Duration>,
    /// Give the connection up when nothing arrived for this long.
    pub timeout: Option<Duration>,
}

impl NoiseOptions {
    /// Noise XX, a keep-alive of 5 seconds, no timeout.
    pub fn new(is_initiator: bool, key_pair: KeyPair) -> Self {
        Self { is_initiator, key_pair, pattern: Pattern::XX, keep_alive: Some(KEEP_ALIVE), timeout: None }
    }
}

/// How an encrypted stream goes on from a handshake that was run elsewhere.
#[derive(Debug, Clone)]
pub struct HandshakenOptions {
    /// True for the side that dialled.
    pub is_initiator: bool,
    /// What the handshake came to: the stream's keys, and who is at the other end.
    pub handshake: HandshakeResult,
    /// Send an empty message when nothing was sent for this long.
    pub keep_alive: Option<Duration>,
    /// Give the connection up when nothing arrived for this long.
    pub timeout: Option<Duration>,
}

impl HandshakenOptions {
    /// A keep-alive of 5 seconds, no timeout.
    pub fn new(is_initiator: bool, handshake: HandshakeResult) -> Self {
        Self { is_initiator, handshake, keep_alive: Some(KEEP_ALIVE), timeout: None }
    }
}

/// The outcome of a handshake that was done elsewhere, on a stream that is encrypted elsewhere, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretHandshake {
    /// True for the side that dialled.
    pub is_initiator: bool,
    /// Identity of the other side.
    pub remote_public_key: [u8; 32],
    /// Hash of the handshake; both sides have the same one and nobody else has. Channels prove with it that they
    /// know a key.
    pub handshake_hash: [u8; 64],
}
