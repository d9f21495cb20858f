//! What can be chosen.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use udx::UdxSocket;

use super::{Peer, RpcError};

/// How many questions of one query are under way at once (dht-rpc 6.27, `DEFAULTS.concurrency`).
pub const DEFAULT_CONCURRENCY: usize = 10;
/// Half of how many requests may be under way at once (dht-rpc 6.27, `DEFAULT_MAX_WINDOW`).
pub const DEFAULT_MAX_WINDOW: usize = 80;
/// For how long a node delays a delayed ping at most (dht-rpc 6.27, `DEFAULTS.maxPingDelay`).
pub const DEFAULT_MAX_PING_DELAY: Duration = Duration::from_secs(10);
/// Down hints sent in five seconds (dht-rpc 6.27, `downHintsRateLimit`).
pub const DEFAULT_DOWN_HINTS_RATE: u32 = 50;

/// A node that is asked when nobody else is known.
///
/// Parsed from text, `host:port` or, as dht-rpc has it, `ip@host:port`: the IP is tried first, and the host looked up
/// only if nobody answers there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BootstrapNode {
    /// Tried first.
    pub ip: Option<IpAddr>,
    /// A name for the resolver; none needed where there is an IP.
    pub host: Option<String>,
    /// The port.
    pub port: u16,
}

impl From<SocketAddr> for BootstrapNode {
    fn from(addr: SocketAddr) -> Self {
        Self { ip: Some(addr.ip()), host: None, port: addr.port() }
    }
}

impl FromStr for BootstrapNode {
    type Err = RpcError;

    fn from_str(text: &str) -> Result<Self, RpcError> {
        let bad = || RpcError::BadBootstrapNode(text.to_owned());
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return Ok(addr.into());
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?;
        let (ip, host) = match host.split_once('@') {
            Some((ip, host)) => (Some(ip.parse().map_err(|_| bad())?), host),
            None => (None, host),
        };
        if host.is_empty() {
            return Err(bad());
        }
        Ok(match host.parse::<IpAddr>() {
            Ok(fallback) => Self { ip: ip.or(Some(fallback)), host: ip.map(|_| host.to_owned()), port },
            Err(_) => Self { ip, host: Some(host.to_owned()), port },
        })
    }
}

impl fmt::Display for BootstrapNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.ip, &self.host) {
            (Some(ip), Some(host)) => write!(f, "{ip}@{host}:{}", self.port),
            (Some(ip), None) => SocketAddr::new(*ip, self.port).fmt(f),
            (None, host) => write!(f, "{}:{}", host.as_deref().unwrap_or_default(), self.port),
        }
    }
}

/// Decides whether a node at an address may be known at all.
pub type NodeFilter = Arc<dyn Fn(SocketAddr) -> bool + Send + Sync>;

/// How a node runs.
#[derive(Clone)]
pub struct RpcOptions {
    /// Whom to ask when nobody is known. Empty: this node starts a network of its own.
    pub bootstrap: Vec<BootstrapNode>,
    /// The address to bind to.
    pub host: IpAddr,
    /// The port of the server socket; the four after it are tried as well. 0: any.
    pub port: u16,
    /// When all of these are taken: take any (the default) instead of giving up.
    pub any_port: bool,
    /// The port of the client socket, if it is free; else any. 0: any.
    pub client_port: u16,
    /// `Some(false)`: be persistent at once, as soon as the bootstrap has shown our address. `Some(true)`: stay
    /// ephemeral. `None`: become persistent after about twenty minutes, if others reach us.
    pub ephemeral: Option<bool>,
    /// False: assume that everybody reaches us, without a test.
    pub firewalled: bool,
    /// Test the firewall during the bootstrap already, if the first answer looks promising.
    pub quick_firewall: bool,
    /// Nodes known from an earlier run.
    pub nodes: Vec<SocketAddr>,
    /// Which addresses may become nodes of the routing table.
    pub filter: Option<NodeFilter>,
    /// Our address as others see it, if it is known beforehand (bootstrappers).
    pub external: Option<SocketAddr>,
    /// Questions of one query under way at once.
    pub concurrency: usize,
    /// Requests under way at once: twice this many.
    pub max_window: usize,
    /// Tell nodes that others they told us of are down.
    pub send_down_hints: bool,
    /// How many such hints in five seconds; `None`: any number.
    pub down_hints_rate: Option<u32>,
    /// How long others may have their pings delayed.
    pub max_ping_delay: Duration,
    /// What one host, and all together, may ask of us.
    pub limits: IncomingLimits,
}

impl Default for RpcOptions {
    fn default() -> Self {
        Self {
            bootstrap: Vec::new(),
            host: Ipv4Addr::UNSPECIFIED.into(),
            port: 0,
            any_port: true,
            client_port: 0,
            ephemeral: None,
            firewalled: true,
            quick_firewall: true,
            nodes: Vec::new(),
            filter: None,
            external: None,
            concurrency: DEFAULT_CONCURRENCY,
            max_window: DEFAULT_MAX_WINDOW,
            send_down_hints: true,
            down_hints_rate: Some(DEFAULT_DOWN_HINTS_RATE),
            max_ping_delay: DEFAULT_MAX_PING_DELAY,
            limits: IncomingLimits::default(),
        }
    }
}

impl RpcOptions {
    /// The first node of a network: persistent from the start, at an address that it knows (`DHT.bootstrapper`).
    pub fn bootstrapper(host: Ipv4Addr, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            any_port: false,
            ephemeral: Some(false),
            firewalled: false,
            external: Some(SocketAddr::new(host.into(), port)),
            ..Self::default()
        }
    }
}

impl fmt::Debug for RpcOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcOptions")
            .field("bootstrap", &self.bootstrap)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("ephemeral", &self.ephemeral)
            .field("firewalled", &self.firewalled)
            .finish_non_exhaustive()
    }
}

/// What strangers may ask of a node, in requests per second, averaged over two seconds. What is beyond is not answered.
/// dht-rpc has no such limits; these are far above what an honest peer asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IncomingLimits {
    /// Of one host, whatever its ports. On the loopback network, which all programs of a machine share, each socket is
    /// counted by itself, and may have a quarter of the total.
    pub per_host: u32,
    /// Of all together.
    pub total: u32,
}

impl Default for IncomingLimits {
    fn default() -> Self {
        Self { per_host: 2_000, total: 50_000 }
    }
}

/// What a request says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestBody {
    /// The command, in the application's numbering.
    pub command: u64,
    /// What it is about.
    pub target: Option<super::NodeId>,
    /// Its argument.
    pub value: Option<bytes::Bytes>,
    /// What the node gave us in an earlier reply, if the command changes something there.
    pub token: Option<[u8; 32]>,
}

/// How a request is sent.
#[derive(Debug, Clone, Default)]
pub struct RequestOptions {
    /// The socket to send from, one that was [attached](super::Rpc::attach) (or the client or server socket); `None`:
    /// the one that suits the node's state.
    pub socket: Option<UdxSocket>,
    /// How often it is sent again, a second apart; `None`: three times.
    pub retries: Option<u32>,
    /// Hops that the datagram may take; `None`: what the system does.
    pub ttl: Option<u8>,
    /// Give way to other requests when the congestion window is full.
    pub background: bool,
}

/// How a ping is sent.
#[derive(Debug, Clone, Default)]
pub struct PingOptions {
    /// As for any request.
    pub request: RequestOptions,
    /// Bytes (zeros) to send along, to probe the path.
    pub size: usize,
}

/// How a query runs.
#[derive(Debug, Clone, Default)]
pub struct QueryOptions {
    /// Questions under way at once; `None`: as the node's options say.
    pub concurrency: Option<usize>,
    /// Start from these nodes (say, the nearest nodes of an earlier query) instead of the routing table.
    pub nodes: Vec<Peer>,
    /// Ask these nodes and no others.
    pub only_closest: bool,
    /// How often one node is asked again; `None`: five times.
    pub retries: Option<u32>,
    /// Give way to other queries and requests when the congestion window is full.
    pub background: bool,
}

/// How a request is answered.
#[derive(Debug, Clone)]
pub struct ReplyOptions {
    /// Add the nodes we know nearest to the request's target.
    pub closer_nodes: bool,
    /// Add a token, with which the sender may commit.
    pub token: bool,
    /// Answer somebody else than the sender: whoever made the request that was relayed to us.
    pub to: Option<SocketAddr>,
    /// Answer from another socket than the one the request came to.
    pub socket: Option<UdxSocket>,
}

impl Default for ReplyOptions {
    /// As dht-rpc: with closer nodes and token.
    fn default() -> Self {
        Self { closer_nodes: true, token: true, to: None, socket: None }
    }
}

impl ReplyOptions {
    /// As dht-rpc does for errors: with closer nodes, without token.
    pub fn for_errors() -> Self {
        Self { token: false, ..Self::default() }
    }

    /// The value alone: no closer nodes, no token.
    pub fn bare() -> Self {
        Self { closer_nodes: false, token: false, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bootstrap_nodes_read_and_print_alike() {
        for text in ["127.0.0.1:49737", "node1.example:49737", "88.99.3.86@node1.example:49737"] {
            let node: BootstrapNode = text.parse().unwrap();
            assert_eq!(node.to_string(), text);
        }
        let both: BootstrapNode = "88.99.3.86@node1.example:49737".parse().unwrap();
        assert_eq!(both.ip, Some("88.99.3.86".parse().unwrap()));
        assert_eq!(both.host.as_deref(), Some("node1.example"));
        assert_eq!(both.port, 49737);
    }

    #[test]
    fn nonsense_names_no_bootstrap_node() {
        for text in ["", "host", "host:", ":1", "host:0", "host:70000", "x@host:1", "1.2.3.4@:5"] {
            let outcome = text.parse::<BootstrapNode>();
            assert_eq!(outcome, Err(RpcError::BadBootstrapNode(text.to_owned())), "{text}");
        }
    }
}
