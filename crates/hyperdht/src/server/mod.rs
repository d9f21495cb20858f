//! Servers: reachable by their public key from everywhere in the DHT.

mod table;

use std::net::SocketAddr;

use secret_stream::KeyPair;

use crate::Connection;

/// Takes connections to a public key. Clones are the same server.
#[derive(Debug, Clone)]
pub struct Server {}

/// Where a server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerAddress {
    /// Its public key: all that others need.
    pub public_key: [u8; 32],
    /// Where the network sees the node, if it knows.
    pub address: Option<SocketAddr>,
}

/// Why a server does not listen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// [`Server::listen`] was called before.
    #[error("server listens already: a server has one key pair, make another server for another")]
    AlreadyListening,
    /// Another server of this node has the same key pair.
    #[error("key pair is used by another server of this node")]
    KeyPairInUse,
    /// The node or the server was closed.
    #[error("node or server is closed")]
    Closed,
}

impl Server {
    /// Announces `key_pair` and takes connections; returns when the first announcement is through (at once and for
    /// later when the network does not answer).
    pub async fn listen(&self, key_pair: KeyPair) -> Result<(), ListenError> {
        let _ = key_pair;
        unimplemented!()
    }

    /// The next connection; `None` when the server is closed.
    pub async fn accept(&self) -> Option<Connection> {
        unimplemented!()
    }

    /// Where this server listens; `None` before [`Server::listen`].
    pub fn address(&self) -> Option<ServerAddress> {
        unimplemented!()
    }

    /// Nodes that forward calls to this server.
    pub fn relay_addresses(&self) -> Vec<SocketAddr> {
        unimplemented!()
    }

    /// Announces again soon, to nodes that may be others than now.
    pub fn refresh(&self) {
        unimplemented!()
    }

    /// Unannounces and takes no more connections. Those that are there live on.
    pub async fn close(&self) {
        unimplemented!()
    }
}
