//! How a node, a connection and a server are set up.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use secret_stream::KeyPair;

/// The port a node asks for first (npm `hyperdht` 6.34).
pub const DEFAULT_PORT: u16 = 49737;

/// The nodes of the public network through which a new node enters (npm `hyperdht` 6.34, `lib/constants.js`).
pub const BOOTSTRAP_NODES: [&str; 3] = [
    "88.99.3.86@node1.hyperdht.org:49737",
    "142.93.90.113@node2.hyperdht.org:49737",
    "138.68.147.8@node3.hyperdht.org:49737",
];

/// How long a caller may take from our answer to a connection (npm `hyperdht` 6.34, `HANDSHAKE_INITIAL_TIMEOUT`).
pub(crate) const HALF_OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// How a [`HyperDht`](crate::HyperDht) is set up.
#[derive(Debug, Clone)]
pub struct DhtOptions {
    /// Nodes to enter the network through: `host:port`, `ip:port`, or `ip@host:port` (the ip is used where the name
    /// does not resolve). `None` takes the public network's [`BOOTSTRAP_NODES`]; an empty list makes a node that
    /// starts a network of its own.
    pub bootstrap: Option<Vec<String>>,
    /// Nodes known from before, asked as well as the bootstrap nodes.
    pub nodes: Vec<SocketAddr>,
    /// The address to bind.
    pub host: IpAddr,
    /// The port to ask for; 0 for any.
    pub port: u16,
    /// Take any port when `port` is not free.
    pub any_port: bool,
    /// The port that this node asks and connects from while it is behind a firewall, if it is free; else any. 0 for any.
    pub client_port: u16,
    /// Who this node is when it connects or listens without a key pair of its own. `None` makes one.
    pub key_pair: Option<KeyPair>,
    /// `Some(false)`: be a full node of the DHT at once. `Some(true)`: never be one. `None`: become one after a
    /// while if others can reach this node.
    pub ephemeral: Option<bool>,
    /// `Some(false)`: others reach this node's port without having been called first. `None`: find out.
    pub firewalled: Option<bool>,
    /// Find that out while entering the network, if the first answer looks promising; otherwise it takes minutes, and
    /// until then this node counts as not reachable.
    pub quick_firewall: bool,
    /// How often a silent connection says that it lives. `None` for never.
    pub connection_keep_alive: Option<Duration>,
    /// The least time between two attempts to open a NAT that randomises ports: each sends thousands of packets.
    pub random_punch_interval: Duration,
    /// Wait for one such interval before the first attempt.
    pub defer_random_punch: bool,
    /// How long a connection that has left its blind relay for a direct way keeps its place there, after the last packet
    /// that came through it.
    pub relay_linger: Duration,
}

impl Default for DhtOptions {
    fn default() -> Self {
        Self {
            bootstrap: None,
            nodes: Vec::new(),
            host: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: DEFAULT_PORT,
            any_port: true,
            client_port: 0,
            key_pair: None,
            ephemeral: None,
            firewalled: None,
            quick_firewall: true,
            connection_keep_alive: Some(Duration::from_secs(5)),
            random_punch_interval: Duration::from_secs(20),
            defer_random_punch: false,
            relay_linger: Duration::from_secs(10),
        }
    }
}

/// Says whether to turn a caller away.
pub type FirewallFn = Arc<dyn Fn(FirewallRequest) -> BoxFuture<'static, bool> + Send + Sync>;

/// Says whether to punch a hole.
pub type PunchFn = Arc<dyn Fn(&PunchRequest) -> bool + Send + Sync>;

/// How one connection is made.
#[derive(Clone)]
pub struct ConnectOptions {
    /// Who calls; the node's own key pair by default.
    pub key_pair: Option<KeyPair>,
    /// Nodes that are known to know the server: asked at once, beside the search for others.
    pub relay_addresses: Vec<SocketAddr>,
    /// Public keys of blind relays, of which one is taken: traffic goes through it until a direct way is open.
    pub relay_through: Vec<[u8; 32]>,
    /// How often the connection to the relay says that it lives.
    pub relay_keep_alive: Duration,
    /// Tell the server our addresses in the local network and use its, if we share one.
    pub local_connection: bool,
    /// Send a first packet to where the server seems to be before anything is known about the NATs between.
    pub fast_open: bool,
    /// Says whether to punch a hole, once both NATs are known. `None` always does.
    pub holepunch: Option<PunchFn>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            key_pair: None,
            relay_addresses: Vec::new(),
            relay_through: Vec::new(),
            relay_keep_alive: Duration::from_secs(5),
            local_connection: true,
            fast_open: true,
            holepunch: None,
        }
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("relay_addresses", &self.relay_addresses)
            .field("relay_through", &self.relay_through)
            .field("local_connection", &self.local_connection)
            .field("fast_open", &self.fast_open)
            .finish_non_exhaustive()
    }
}

/// How a server is set up.
#[derive(Clone)]
pub struct ServerOptions {
    /// Asked about every caller, before it is answered: `true` turns it away (and answers nothing).
    pub firewall: Option<FirewallFn>,
    /// Says whether to punch a hole, once both NATs are known. `None` always does.
    pub holepunch: Option<PunchFn>,
    /// Never punch holes.
    pub never_punch: bool,
    /// Tell callers our addresses in the local network.
    pub share_local_address: bool,
    /// Public keys of blind relays, of which one is offered to each caller.
    pub relay_through: Vec<[u8; 32]>,
    /// Offer one only while this node's NAT gives every destination another port: other callers find a direct way, or
    /// name a relay themselves.
    pub relay_when_randomized: bool,
    /// How often the connection to the relay says that it lives.
    pub relay_keep_alive: Duration,
    /// How long a caller that was answered may take until it connects, or says how far its hole punching is.
    pub half_open_timeout: Duration,
    /// How many connections may wait for [`Server::accept`](crate::Server::accept); further ones are dropped.
    pub backlog: usize,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            firewall: None,
            holepunch: None,
            never_punch: false,
            share_local_address: true,
            relay_through: Vec::new(),
            relay_when_randomized: false,
            relay_keep_alive: Duration::from_secs(5),
            half_open_timeout: HALF_OPEN_TIMEOUT,
            backlog: 256,
        }
    }
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions")
            .field("never_punch", &self.never_punch)
            .field("share_local_address", &self.share_local_address)
            .field("relay_through", &self.relay_through)
            .field("backlog", &self.backlog)
            .finish_non_exhaustive()
    }
}

/// A caller, as a server's firewall sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirewallRequest {
    /// The caller's public key. Its owner has made the message, and for this server; but whoever saw it on its way can
    /// send it again later. Only what is received over the connection shows that the owner is there now.
    pub remote_public_key: [u8; 32],
    /// Where it calls from, as it or the node that forwarded it says.
    pub address: SocketAddr,
}

/// Two NATs between which a hole would be punched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PunchRequest {
    /// The remote's NAT gives every destination another port.
    pub remote_is_random: bool,
    /// Ours does.
    pub local_is_random: bool,
}
