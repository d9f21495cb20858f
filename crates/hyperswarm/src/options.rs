//! How a swarm is set up, and how a topic is joined.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::PublicKey;

/// Says whether a peer is to be kept out: called before a connection in either direction, must be quick. Whom it
/// names is banned.
pub type Firewall = Arc<dyn Fn(&PublicKey) -> bool + Send + Sync>;

/// How a swarm is set up. The defaults are those of npm `hyperswarm` 4.17.2.
#[derive(Clone)]
pub struct SwarmOptions {
    /// With so many connections, no more peers are dialled.
    pub max_peers: usize,
    /// Connections that were dialled from this side.
    pub max_client_connections: usize,
    /// Connections that others dialled.
    pub max_server_connections: usize,
    /// Peers that are dialled at the same time.
    pub max_parallel: usize,
    /// Keeps peers out. `None` lets everybody in.
    pub firewall: Option<Firewall>,
    /// Public keys of blind relays. One of them is tried where no direct way was found, and at once when this side's NAT
    /// gives every destination another port. Used by [`Hyperswarm::new`](crate::Hyperswarm::new).
    pub relay_through: Vec<PublicKey>,
    /// About how long a peer waits until it is tried again: one that was just lost, one that was lost or not reached
    /// before, one that failed several times, and one that is wanted by its key and always fails.
    pub backoffs: [Duration; 4],
    /// Each wait is longer by a random part of some such times, so that peers who lost each other at the same moment do
    /// not all call at the same moment.
    pub jitter: Duration,
}

impl Default for SwarmOptions {
    fn default() -> Self {
        Self {
            max_peers: 64,
            max_client_connections: usize::MAX,
            max_server_connections: usize::MAX,
            max_parallel: 3,
            firewall: None,
            relay_through: Vec::new(),
            backoffs: [1, 5, 15, 10 * 60].map(Duration::from_secs),
            jitter: Duration::from_millis(500),
        }
    }
}

impl fmt::Debug for SwarmOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SwarmOptions")
            .field("max_peers", &self.max_peers)
            .field("max_client_connections", &self.max_client_connections)
            .field("max_server_connections", &self.max_server_connections)
            .field("max_parallel", &self.max_parallel)
            .field("firewall", &self.firewall.is_some())
            .field("relay_through", &self.relay_through.len())
            .field("backoffs", &self.backoffs)
            .field("jitter", &self.jitter)
            .finish()
    }
}

/// How a topic is joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinOptions {
    /// Announce this side, and let those who look the topic up connect.
    pub server: bool,
    /// Look for those who announced themselves, and connect to them.
    pub client: bool,
    /// Connect to no more than about so many peers of this topic.
    pub limit: Option<usize>,
}

impl Default for JoinOptions {
    fn default() -> Self {
        Self { server: true, client: true, limit: None }
    }
}

impl JoinOptions {
    /// Announce and do not look.
    pub const SERVER: Self = Self { server: true, client: false, limit: None };
    /// Look and do not announce.
    pub const CLIENT: Self = Self { server: false, client: true, limit: None };
}

/// Why a topic cannot be joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Neither to announce nor to look is no way to join.
    #[error("a topic is joined as a server, as a client, or as both; to be neither, leave it")]
    NoRole,
    /// The swarm ends.
    #[error("the swarm was destroyed; make another one")]
    Destroyed,
    /// A bound was reached.
    #[error("{0} topics are joined already; leave some first")]
    TooMany(usize),
    /// The topic was left, or the session ended.
    #[error("the topic was left; join it again")]
    Left,
}
