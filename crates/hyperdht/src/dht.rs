//! The front of the crate: a node of the DHT that connects and listens by public key.

use std::net::SocketAddr;

use secret_stream::KeyPair;

use crate::{ConnectOptions, Connection, DhtOptions, Server, ServerOptions};

/// A node of the DHT. Clones are the same node.
#[derive(Debug, Clone)]
pub struct HyperDht {}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The socket could not be bound.
    #[error("cannot bind {address}: {source} (choose another host or port, or port 0)")]
    Io {
        /// What was to be bound.
        address: SocketAddr,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A bootstrap node cannot be understood.
    #[error("bootstrap node {node:?} is not host:port, ip:port or ip@host:port")]
    InvalidBootstrapNode {
        /// As it was given.
        node: String,
    },
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody announces this public key.
    #[error("peer not found: no node of the DHT knows a server with this public key")]
    PeerNotFound,
    /// It is announced, but did not answer.
    #[error("peer does not answer through any of the nodes that announce it")]
    PeerConnectionFailed,
    /// The server refused or speaks another version.
    #[error("server answered with error {code} (its protocol version may differ from ours)")]
    ServerError {
        /// As hyperdht counts them.
        code: u64,
    },
    /// Something that came back does not belong to this handshake.
    #[error("answer of the server or of a node between is invalid: {what}")]
    InvalidAnswer {
        /// What is wrong with it.
        what: &'static str,
    },
    /// Hole punching ended without a connection.
    #[error("cannot reach the peer through the NATs between: {why} (a blind relay would help)")]
    Holepunch {
        /// Where it ended.
        why: &'static str,
    },
    /// The blind relay did not help either.
    #[error("blind relay failed: {why}")]
    Relay {
        /// Where it ended.
        why: &'static str,
    },
    /// The node is suspended or closed.
    #[error("node is suspended or closed")]
    Closed,
}

/// What a node knows about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Others cannot reach this node without having been called first.
    pub firewalled: bool,
    /// The NAT gives every destination another port.
    pub randomized: bool,
    /// Not (yet) a full node of the DHT.
    pub ephemeral: bool,
    /// The network answers.
    pub online: bool,
    /// Address at which others see this node, if they agree on one.
    pub remote_address: Option<SocketAddr>,
}

impl Status {
    /// True when others can reach this node, at least with hole punching.
    pub fn is_holepunchable(&self) -> bool {
        !self.firewalled || !self.randomized
    }
}

impl HyperDht {
    /// Starts a node. It enters the network in the background: see [`HyperDht::fully_bootstrapped`].
    pub async fn new(options: DhtOptions) -> Result<Self, BindError> {
        let _ = options;
        unimplemented!()
    }

    /// Starts the first node of a network at this address: a full node that nobody has to find out anything about.
    pub async fn bootstrapper(address: SocketAddr) -> Result<Self, BindError> {
        let _ = address;
        unimplemented!()
    }

    /// Waits until this node has entered the network.
    pub async fn fully_bootstrapped(&self) {
        unimplemented!()
    }

    /// Who this node is when it connects or listens without a key pair of its own.
    pub fn default_key_pair(&self) -> &KeyPair {
        unimplemented!()
    }

    /// Connects to the server with this public key.
    pub async fn connect(
        &self,
        remote_public_key: [u8; 32],
        options: ConnectOptions,
    ) -> Result<Connection, ConnectError> {
        let _ = (remote_public_key, options);
        unimplemented!()
    }

    /// Makes a server, which takes connections once it [listens](Server::listen).
    pub fn create_server(&self, options: ServerOptions) -> Server {
        let _ = options;
        unimplemented!()
    }

    /// The address this node is bound to.
    pub fn local_address(&self) -> SocketAddr {
        unimplemented!()
    }

    /// What this node knows about itself.
    pub fn status(&self) -> Status {
        unimplemented!()
    }

    /// Stops all traffic, unannounces servers and cuts connections, until [`HyperDht::resume`]: for a machine that
    /// goes to sleep.
    pub async fn suspend(&self) {
        unimplemented!()
    }

    /// Undoes [`HyperDht::suspend`]: servers announce themselves again.
    pub async fn resume(&self) {
        unimplemented!()
    }

    /// Unannounces and closes all servers, then stops.
    pub async fn close(&self) {
        unimplemented!()
    }

    /// Stops without telling anybody.
    pub async fn destroy(&self) {
        unimplemented!()
    }
}
