//! What a swarm needs of a DHT.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::swarm::QueryKind;
use crate::{PublicKey, QueryOutcome, Topic};

/// What a swarm needs of a DHT: to announce and look up topics, and to connect by public key. Implemented by
/// [`DhtNode`](crate::DhtNode), and by whatever a test puts in its place.
pub trait Dht: Send + Sync + 'static {
    /// An encrypted connection with a peer whose public key is proven.
    type Connection: Send + 'static;

    /// Takes connections from now on; they come out of [`Dht::accept`]. Whom the gate does not let in is turned away
    /// before it is answered. An error is a sentence for the log.
    fn listen(&self, gate: Gate) -> BoxFuture<'static, Result<(), String>>;

    /// The next connection that somebody else opened; `None` when no more will come.
    fn accept(&self) -> BoxFuture<'static, Option<Self::Connection>>;

    /// Asks about a topic: the peers that were found, and then how it went. Dropping the stream ends the query.
    fn query(&self, topic: Topic, kind: QueryKind) -> BoxStream<'static, QueryEvent>;

    /// The topic was left: nothing needs to be remembered about it.
    fn forget(&self, topic: &Topic) {
        let _ = topic;
    }

    /// Connects to a peer. Dropping the future ends the attempt.
    fn dial(&self, dial: Dial) -> BoxFuture<'static, Result<Self::Connection, DialError>>;

    /// Who is at the other end.
    fn remote_public_key(connection: &Self::Connection) -> PublicKey;

    /// What stays with the swarm when the connection goes to whoever uses it.
    fn watch(connection: &Self::Connection) -> Arc<dyn Watch>;

    /// The next time that the network changed or came back.
    fn network_changed(&self) -> BoxFuture<'static, ()> {
        Box::pin(futures::future::pending())
    }

    /// Stops all traffic until [`Dht::resume`].
    fn suspend(&self) -> BoxFuture<'static, ()>;

    /// Undoes [`Dht::suspend`].
    fn resume(&self) -> BoxFuture<'static, ()>;

    /// Closes everything. With `force` nobody is told.
    fn close(&self, force: bool) -> BoxFuture<'static, ()>;
}

/// The swarm's hold on a connection that somebody else uses.
pub trait Watch: Send + Sync {
    /// Ends when the connection has ended, from whichever side.
    fn closed(&self) -> BoxFuture<'static, ()>;

    /// Cuts the connection.
    fn close(&self);
}

/// Says who may connect.
#[derive(Clone)]
pub struct Gate(pub(crate) Arc<dyn Fn(&PublicKey) -> bool + Send + Sync>);

impl Gate {
    /// Whether the peer with this key may connect now.
    pub fn lets_in(&self, public_key: &PublicKey) -> bool {
        (self.0)(public_key)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

/// What comes of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryEvent {
    /// Somebody is announced.
    Found {
        /// Who.
        public_key: PublicKey,
        /// Nodes that forward to it.
        relay_addresses: Vec<SocketAddr>,
    },
    /// It is over. Nothing comes after.
    Ended(QueryOutcome),
}

/// Whom to connect to, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dial {
    /// Whom to.
    pub public_key: PublicKey,
    /// Nodes that forward to it.
    pub relay_addresses: Vec<SocketAddr>,
    /// Earlier attempts have shown that there is no direct way: take a relayed one.
    pub force_relaying: bool,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct DialError {
    /// A sentence for the log.
    pub reason: String,
    /// The NATs between are why: a relay would help.
    pub try_relay: bool,
}
