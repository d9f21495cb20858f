//! An encrypted connection between two peers.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use futures::{Sink, Stream};
use secret_stream::noise::HandshakeResult;
use secret_stream::{Config, Event, SecretStream};
use tokio::io::AsyncWrite;
use tokio::time::Sleep;
use udx::{UdxHandle, UdxStream};

/// Encrypted bytes that may wait for the stream below before senders wait.
const MAX_UNSENT: usize = 256 * 1024;

/// An encrypted connection to a peer whose public key is proven.
///
/// By itself it is a stream and a sink of messages of up to 16 MiB, which says every few seconds that it lives. It works
/// while it is polled: one that is neither read nor written sends nothing.
///
/// Those who run the encryption in a loop of their own take it apart with [`Connection::into_parts`] instead.
///
/// Dropping it sends what was written, then cuts the connection; [`SinkExt::close`](futures::SinkExt::close) ends it in
/// order.
#[derive(Debug)]
pub struct Connection {
    parts: ConnectionParts,
    secret: Option<SecretStream>,
    timer: Pin<Box<Sleep>>,
    deadline: Option<Instant>,
    /// What the stream below takes next.
    unsent: Bytes,
    read_ended: bool,
    failed: Option<ConnectionError>,
}

/// What a [`Connection`] is made of.
#[derive(Debug)]
#[non_exhaustive]
pub struct ConnectionParts {
    /// The stream below. Nothing was written to it or read from it, unless the connection was used before.
    pub stream: UdxStream,
    /// Keys of the encryption and who is at the other end.
    pub handshake: HandshakeResult,
    /// True on the side that called.
    pub is_initiator: bool,
    /// Our public key.
    pub public_key: [u8; 32],
    /// How often a silent connection should say that it lives.
    pub keep_alive: Option<Duration>,
}

/// Why a connection ended.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The stream below broke.
    #[error("connection lost: {0}")]
    Io(Arc<io::Error>),
    /// What came does not decrypt, or what is to be sent is too long.
    #[error(transparent)]
    SecretStream(#[from] secret_stream::Error),
}

impl From<io::Error> for ConnectionError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl Connection {
    pub(crate) fn new(parts: ConnectionParts) -> Self {
        // Shows the way to a remote that waits for a first packet, whenever the user of this side begins. The JS peers
        // do so to confirm a way (npm `hyperdht` 6.34, `confirmDirectUpgrade`); all ignore it otherwise.
        let _ = parts.stream.send_message(Bytes::new());
        Self {
            parts,
            secret: None,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            deadline: None,
            unsent: Bytes::new(),
            read_ended: false,
            failed: None,
        }
    }

    /// The remote's public key.
    pub fn remote_public_key(&self) -> &[u8; 32] {
        &self.parts.handshake.remote_public_key
    }

    /// Our public key.
    pub fn public_key(&self) -> &[u8; 32] {
        &self.parts.public_key
    }

    /// True on the side that called.
    pub fn is_initiator(&self) -> bool {
        self.parts.is_initiator
    }

    /// The same on both sides and different for every connection.
    pub fn handshake_hash(&self) -> &[u8; 64] {
        &self.parts.handshake.hash
    }

    /// Where the other side is now: its own address, or that of the relay between. `None` when the stream is closed.
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.raw().remote_addr()
    }

    /// Where the other side is, once that is not `known`: a connection leaves its relay when a direct way is open. `None`
    /// when the stream closes.
    pub async fn remote_addr_other_than(&self, known: Option<SocketAddr>) -> Option<SocketAddr> {
        self.raw().remote_addr_other_than(known).await
    }

    /// The stream below: its round trip time, its address, its end.
    pub fn raw(&self) -> UdxHandle {
        self.parts.stream.handle()
    }

    /// The next message; `None` when the remote has ended.
    pub async fn recv(&mut self) -> Option<Result<Bytes, ConnectionError>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Sends a message: waits while too much is on the way, and until all of it is given to the stream below.
    pub async fn send(&mut self, message: Bytes) -> Result<(), ConnectionError> {
        poll_fn(|cx| self.poll_room(cx)).await?;
        self.queue(&message)?;
        poll_fn(|cx| self.poll_drain(cx)).await
    }

    /// Takes the connection apart. Meant for one that was not used yet: what was read or written before stays behind.
    pub fn into_parts(self) -> ConnectionParts {
        self.parts
    }

    /// How often it says that it lives; before its first use.
    pub(crate) fn set_keep_alive(&mut self, interval: Option<Duration>) {
        self.parts.keep_alive = interval;
    }

    fn secret(&mut self) -> Result<&mut SecretStream, ConnectionError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match &mut self.secret {
            Some(secret) => Ok(secret),
            empty => {
                // Only what concerns an encryption that is there already counts; the key pair is a stand-in.
                let key_pair = secret_stream::KeyPair::from_seed(&[0; 32]);
                let config = Config {
                    keep_alive: self.parts.keep_alive,
                    // Also a side that sends no keep-alives may get them.
                    filter_empty_messages: true,
                    ..Config::new(self.parts.is_initiator, key_pair)
                };
                let handshake = self.parts.handshake.clone();
                Ok(empty.insert(SecretStream::with_handshake(&config, handshake, Instant::now())?))
            }
        }
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ConnectionError>>> {
        let polled = self.poll_message(cx);
        if let Poll::Ready(Some(Err(error))) = &polled {
            self.failed.get_or_insert_with(|| error.clone());
        }
        polled
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ConnectionError>>> {
        loop {
            if let Some(message) = self.next_message()? {
                return Poll::Ready(Some(Ok(message)));
            }
            if self.read_ended {
                return Poll::Ready(None);
            }
            self.poll_timer(cx)?;
            if let Poll::Ready(Err(error)) = self.poll_drain(cx) {
                return Poll::Ready(Some(Err(error)));
            }
            match ready!(self.parts.stream.poll_read_chunk(cx))? {
                Some(chunk) => self.secret()?.receive(&chunk, Instant::now())?,
                None => {
                    self.read_ended = true;
                    self.secret()?.receive_end()?;
                }
            }
        }
    }

    fn next_message(&mut self) -> Result<Option<Bytes>, ConnectionError> {
        let secret = self.secret()?;
        while let Some(event) = secret.poll_event() {
            if let Event::Message(message) = event {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    fn queue(&mut self, message: &[u8]) -> Result<(), ConnectionError> {
        Ok(self.secret()?.send(message)?)
    }

    /// Keep-alives.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        loop {
            let Some(deadline) = self.secret()?.next_deadline() else {
                return Ok(());
            };
            if self.deadline != Some(deadline) {
                self.deadline = Some(deadline);
                self.timer.as_mut().reset(deadline.into());
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            self.deadline = None;
            self.secret()?.handle_timeout(Instant::now())?;
        }
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let drained = self.poll_drain(cx)?;
        if drained.is_ready() || self.secret()?.pending_transmit() < MAX_UNSENT {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    /// Gives everything to the stream below.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        loop {
            if self.unsent.is_empty() {
                match self.secret()?.poll_transmit() {
                    Some(next) => self.unsent = next,
                    None => return Poll::Ready(Ok(())),
                }
            }
            let written = ready!(Pin::new(&mut self.parts.stream).poll_write(cx, &self.unsent))?;
            if written == 0 {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
            }
            self.unsent.advance(written.min(self.unsent.len()));
        }
    }
}

impl Stream for Connection {
    type Item = Result<Bytes, ConnectionError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_recv(cx)
    }
}

impl Sink<Bytes> for Connection {
    type Error = ConnectionError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.get_mut().poll_room(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: Bytes) -> Result<(), Self::Error> {
        self.get_mut().queue(&message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.get_mut().poll_drain(cx)
    }

    /// Ends our direction: the remote reads the end after the last message.
    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.parts.stream).poll_shutdown(cx).map_err(ConnectionError::from)
    }
}
