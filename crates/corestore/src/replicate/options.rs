//! How a connection is set up, and the handle of a running one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hypercore_protocol::{HandshakeResult, HandshakenOptions, KeyPair, NoiseOptions, TransportOptions};
use thiserror::Error;
use tokio::sync::watch;

use super::link::Link;

/// How long a remote may be silent: it is to keep alive every 5 seconds.
const SILENCE: Duration = Duration::from_secs(30);

/// How a connection is set up.
#[derive(Debug, Clone)]
pub struct ReplicateOptions {
    /// What is below: a stream that still needs a Noise handshake, or one that has had it; with keep-alive and
    /// timeout.
    pub transport: TransportOptions,
    /// Where the remote is, in the transport's own words; shown with the peers of a core.
    pub remote_address: String,
    /// Kind of transport; shown with the peers of a core.
    pub kind: String,
    /// Nothing is done behind the handshake until [`Replication::proceed`] is called.
    pub held: bool,
}

impl ReplicateOptions {
    /// A Noise XX connection that is kept alive every 5 seconds, as JS peers do it, and given up after 30 seconds
    /// of silence. The side that dialled is the initiator.
    pub fn new(is_initiator: bool, key_pair: KeyPair) -> Self {
        let noise = NoiseOptions { timeout: Some(SILENCE), ..NoiseOptions::new(is_initiator, key_pair) };
        Self::over(TransportOptions::Noise(noise))
    }

    /// A connection whose Noise handshake was run elsewhere, as the DHT does it on the way to a peer: the stream
    /// carries the encrypted bytes that follow. Kept alive and given up as in [`ReplicateOptions::new`].
    pub fn handshaken(is_initiator: bool, handshake: HandshakeResult) -> Self {
        let options =
            HandshakenOptions { timeout: Some(SILENCE), ..HandshakenOptions::new(is_initiator, handshake) };
        Self::over(TransportOptions::Handshaken(options))
    }

    fn over(transport: TransportOptions) -> Self {
        Self { transport, remote_address: String::new(), kind: "stream".to_owned(), held: false }
    }

    /// Gives the connection up when nothing arrived for this long.
    pub fn timeout(mut self, timeout: Option<Duration>) -> Self {
        match &mut self.transport {
            TransportOptions::Noise(options) => options.timeout = timeout,
            TransportOptions::Handshaken(options) => options.timeout = timeout,
            // Who encrypts elsewhere keeps the time elsewhere.
            TransportOptions::Framed(_) => {}
        }
        self
    }

    /// Does nothing behind the handshake until [`Replication::proceed`] is called: whoever is to be told of the remote
    /// first can be.
    pub fn held(self) -> Self {
        Self { held: true, ..self }
    }

    /// Says where the remote is.
    pub fn remote(mut self, kind: impl Into<String>, address: impl Into<String>) -> Self {
        self.kind = kind.into();
        self.remote_address = address.into();
        self
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicateError {
    /// The remote, or the stream to it, failed or broke the protocol.
    #[error("connection to {remote}: {reason}")]
    Connection {
        /// Where the remote is.
        remote: String,
        /// What happened.
        reason: String,
    },
    /// The task that ran the connection is gone: the runtime was shut down.
    #[error("the runtime of the connection was shut down")]
    Stopped,
}

/// What a connection has come to.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    pub(super) remote_public_key: Option<[u8; 32]>,
    pub(super) ended: Option<Result<(), ReplicateError>>,
}

/// A connection over which the store replicates. It goes on when this handle is dropped.
#[derive(Debug, Clone)]
pub struct Replication {
    link: Arc<Link>,
    progress: watch::Receiver<Progress>,
}

impl Replication {
    pub(super) fn new(link: Arc<Link>, progress: watch::Receiver<Progress>) -> Self {
        Self { link, progress }
    }

    /// The identity of the remote; waits for the handshake.
    pub async fn opened(&self) -> Result<[u8; 32], ReplicateError> {
        let mut progress = self.progress.clone();
        let ready =
            progress.wait_for(|progress| progress.remote_public_key.is_some() || progress.ended.is_some());
        let progress = ready.await.map_err(|_| ReplicateError::Stopped)?;
        match (&progress.ended, progress.remote_public_key) {
            (_, Some(remote_public_key)) => Ok(remote_public_key),
            (Some(Err(error)), None) => Err(error.clone()),
            _ => Err(ReplicateError::Stopped),
        }
    }

    /// The identity of the remote, when the handshake is over.
    pub fn remote_public_key(&self) -> Option<[u8; 32]> {
        self.progress.borrow().remote_public_key
    }

    /// Waits until the connection has ended: in order, or with the reason.
    pub async fn closed(&self) -> Result<(), ReplicateError> {
        let mut progress = self.progress.clone();
        let ended = progress.wait_for(|progress| progress.ended.is_some());
        ended
            .await
            .map_err(|_| ReplicateError::Stopped)?
            .ended
            .clone()
            .unwrap_or(Err(ReplicateError::Stopped))
    }

    /// True when it has ended.
    pub fn is_closed(&self) -> bool {
        self.progress.borrow().ended.is_some() || self.progress.has_changed().is_err()
    }

    /// Goes on behind the handshake, where the connection is [held](ReplicateOptions::held): no core is offered, and none
    /// that the remote offers is looked at, before.
    pub fn proceed(&self) {
        self.link.proceed();
    }

    /// Offers the remote the owner's own protocol, if there is one (see
    /// [`ReplicationHub::set_own_protocol`](super::ReplicationHub::set_own_protocol)). Nothing comes in before.
    pub fn offer_protocol(&self) {
        self.link.offer_own_protocol();
    }

    /// Says something in the owner's own protocol, and offers that first. False when it is lost: the remote does not speak
    /// the protocol, or leaves too much unread. True does not say that it arrives.
    pub fn send_protocol(&self, message: Bytes) -> bool {
        self.link.send_own_protocol(message)
    }

    /// Ends the connection.
    pub fn close(&self) {
        self.link.close();
    }
}

/// Room for what goes with an extension message.
const EXTENSION_HEAD: usize = 64;

/// Why an extension message cannot be sent to anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ExtensionError {
    /// The name is too long.
    #[error("the extension's name has {length} bytes, peers take at most {limit}")]
    Name {
        /// Its length.
        length: usize,
        /// The longest that peers take.
        limit: usize,
    },
    /// The message is too large.
    #[error("the extension message has {length} bytes, at most {limit} can be sent at once")]
    Message {
        /// Its length.
        length: usize,
        /// The largest that can be sent.
        limit: usize,
    },
}

impl ExtensionError {
    /// The longest name.
    pub const MAX_NAME: usize = hypercore_protocol::MAX_EXTENSION_NAME as usize;
    /// The largest message.
    pub const MAX_MESSAGE: usize = hypercore_protocol::MAX_MESSAGE - Self::MAX_NAME - EXTENSION_HEAD;

    /// Checks what is to be sent: what is too large would cost the connection.
    pub fn check(name: &str, message: &[u8]) -> Result<(), Self> {
        let (limit, length) = (Self::MAX_NAME, name.len());
        if length > limit {
            return Err(Self::Name { length, limit });
        }
        let (limit, length) = (Self::MAX_MESSAGE, message.len());
        if length > limit { Err(Self::Message { length, limit }) } else { Ok(()) }
    }
}
