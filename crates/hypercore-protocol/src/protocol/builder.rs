//! How a protocol is set up.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::io::{AsyncRead, AsyncWrite};
use futures::sink::Sink;
use futures::stream::Stream;
use secret_stream::{KeyPair, Pattern};

use super::Protocol;
use super::wire::{ByteWire, MessageWire};
use crate::connection::{ConnectionOptions, NoiseOptions, SecretHandshake, TransportOptions};
use crate::error::Error;

/// Sets up a [`Protocol`].
#[derive(Debug, Clone)]
pub struct ProtocolBuilder {
    noise: NoiseOptions,
}

impl ProtocolBuilder {
    /// A protocol with a fresh identity, a keep-alive of 5 seconds and no timeout. The side that dialled is the
    /// initiator.
    pub fn new(is_initiator: bool) -> Self {
        Self { noise: NoiseOptions::new(is_initiator, KeyPair::generate()) }
    }

    /// The identity of this side.
    pub fn key_pair(mut self, key_pair: KeyPair) -> Self {
        self.noise.key_pair = key_pair;
        self
    }

    /// The handshake pattern.
    pub fn pattern(mut self, pattern: Pattern) -> Self {
        self.noise.pattern = pattern;
        self
    }

    /// Send an empty message when nothing was sent for this long.
    pub fn keep_alive(mut self, interval: Option<Duration>) -> Self {
        self.noise.keep_alive = interval;
        self
    }

    /// Give the connection up when nothing arrived for this long. The remote has to keep alive within it.
    pub fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.noise.timeout = timeout;
        self
    }

    /// Runs over a transport of plain bytes, such as a TCP connection (tokio's through `tokio_util::compat`).
    pub fn connect<IO>(self, io: IO) -> Result<Protocol, Error>
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut options = ConnectionOptions::new(self.noise.is_initiator, self.noise.key_pair.clone());
        options.transport = TransportOptions::Noise(self.noise);
        Protocol::new(options, Box::new(ByteWire::new(io)))
    }

    /// Runs over a stream that is already encrypted and that keeps messages apart. `handshake` is what its
    /// handshake came to; identity, pattern and timers of this builder are not used.
    pub fn connect_framed<S>(self, stream: S, handshake: SecretHandshake) -> Result<Protocol, Error>
    where
        S: Stream<Item = io::Result<Bytes>> + Sink<Bytes, Error = io::Error> + Send + Unpin + 'static,
    {
        Protocol::new(ConnectionOptions::framed(handshake), Box::new(MessageWire::new(stream)))
    }
}
