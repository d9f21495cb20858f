//! An encrypted connection between two peers.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Sink, Stream};
use secret_stream::noise::HandshakeResult;

/// An encrypted connection to a peer whose public key is proven.
///
/// By itself it is a stream and a sink of messages of up to 16 MiB. Those who run the encryption in a loop of their
/// own take it apart with [`Connection::into_parts`] instead.
#[derive(Debug)]
pub struct Connection {}

/// What a [`Connection`] is made of.
#[derive(Debug)]
#[non_exhaustive]
pub struct ConnectionParts {
    /// Keys of the encryption and who is at the other end.
    pub handshake: HandshakeResult,
    /// True on the side that called.
    pub is_initiator: bool,
}

/// Why a connection ended.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The stream below broke.
    #[error("connection lost: {0}")]
    Io(std::sync::Arc<std::io::Error>),
    /// What came does not decrypt.
    #[error(transparent)]
    SecretStream(#[from] secret_stream::Error),
}

impl Connection {
    /// The remote's public key.
    pub fn remote_public_key(&self) -> &[u8; 32] {
        unimplemented!()
    }

    /// Our public key.
    pub fn public_key(&self) -> &[u8; 32] {
        unimplemented!()
    }

    /// True on the side that called.
    pub fn is_initiator(&self) -> bool {
        unimplemented!()
    }

    /// The same on both sides and different for every connection.
    pub fn handshake_hash(&self) -> &[u8; 64] {
        unimplemented!()
    }

    /// Where the other side is now: its own address, or that of the relay between.
    pub fn remote_addr(&self) -> SocketAddr {
        unimplemented!()
    }

    /// The next message; `None` when the remote has ended.
    pub async fn recv(&mut self) -> Option<Result<Bytes, ConnectionError>> {
        unimplemented!()
    }

    /// Sends a message: waits while too much is on the way.
    pub async fn send(&mut self, message: Bytes) -> Result<(), ConnectionError> {
        let _ = message;
        unimplemented!()
    }

    /// Takes the connection apart.
    pub fn into_parts(self) -> ConnectionParts {
        unimplemented!()
    }
}

impl Stream for Connection {
    type Item = Result<Bytes, ConnectionError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        unimplemented!()
    }
}

impl Sink<Bytes> for Connection {
    type Error = ConnectionError;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        unimplemented!()
    }

    fn start_send(self: Pin<&mut Self>, _: Bytes) -> Result<(), Self::Error> {
        unimplemented!()
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        unimplemented!()
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        unimplemented!()
    }
}
