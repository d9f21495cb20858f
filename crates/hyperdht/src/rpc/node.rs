//! A node of the DHT, without sockets and without a clock.
//!
//! Datagrams, commands and the time come in; datagrams, events and the next deadline go out. After each call the owner
//! takes all that [`poll_transmit`](Node::poll_transmit) and [`poll_event`](Node::poll_event) have to give, and calls
//! [`handle_timeout`](Node::handle_timeout) when [`next_deadline`](Node::next_deadline) has come.
//!
//! What a node holds is bounded, whatever it is sent: [`MEMORY_BOUND`].

mod network;
mod questions;
mod receive;
mod upkeep;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use questions::{Asking, MAX_QUERIES, QueryId, QueryOutcome, Querying};
pub use receive::{Answer, Incoming, MAX_DATAGRAM};

use self::network::{Bootstrap, FirewallCheck};
use self::questions::ActiveWalk;
use self::receive::DelayedPing;
use super::contacts::{Contact, Contacts};
use super::flood::FloodGate;
use super::health::Health;
use super::nat_sampler::NatSampler;
use super::requests::{RequestId, Requests, Socket, Transmit};
use super::rng::Rng;
use super::tokens::Tokens;
use super::{NodeId, Peer, Reply, RpcError, RpcOptions, Stats};

/// Between two looks at the network (dht-rpc 6.27, `TICK_INTERVAL`).
const TICK: Duration = Duration::from_secs(5);
/// Answers that wait to be sent, at most.
const MAX_ANSWERS: usize = 4_096;

/// What strangers can make a node hold, in bytes: the routing table (256 rows of 20 nodes), counters for 4,096 hosts,
/// 1,024 delayed pings, and [`REQUESTS_WAITING`](super::REQUESTS_WAITING) requests and 4,096 answers of up to
/// [`MAX_DATAGRAM`] bytes that wait to be taken. Our own requests and queries come on top; those are up to us.
pub const MEMORY_BOUND: usize = 24 << 20;

/// What a node tells its owner.
#[derive(Debug)]
#[non_exhaustive]
pub enum NodeEvent {
    /// A request was answered, or failed.
    Answer(RequestId, Result<Reply, RpcError>),
    /// A query came a step further.
    QueryReply(QueryId, Reply),
    /// A query is over.
    QueryDone(QueryId, Result<QueryOutcome, RpcError>),
    /// Somebody asks what is for the application to answer.
    Request(Incoming),
    /// The addresses of the bootstrap nodes are needed: [`Node::set_bootstrap_nodes`].
    ResolveBootstrap,
    /// The first walk through the network is done.
    Ready,
    /// We have an id and are a part of the network.
    Persistent,
    /// We are not any longer.
    Ephemeral,
    /// The machine slept.
    Wakeup,
    /// Others see us at another address.
    NatUpdate(Option<IpAddr>, u16),
    /// Online, degraded.
    NetworkUpdate(bool, bool),
    /// A node came into the routing table.
    NodeAdded(Peer),
    /// A node was removed from it.
    NodeRemoved(Peer),
}

/// What a request of ours is for.
#[derive(Debug)]
enum Purpose {
    /// The owner's.
    Owner,
    Walk(QueryId),
    /// Is this node still there?
    Check(NodeId),
    /// Is the old one still there? If not, the new one takes its place.
    Swap {
        old: NodeId,
        new: Contact,
    },
    /// Does our server socket receive anything? Asked of the first who answers the bootstrap.
    QuickNat,
    /// The same, of several.
    FirewallProbe,
    DownHint,
}

/// A node of the DHT.
#[derive(Debug)]
pub struct Node {
    options: RpcOptions,
    rng: Rng,
    contacts: Contacts,
    requests: Requests<Purpose>,
    walks: HashMap<QueryId, ActiveWalk>,
    next_query: u64,
    queries: u64,
    tokens: Tokens,
    gate: FloodGate,
    health: Health,
    nat: NatSampler,
    /// Those of the ephemeral nodes that told us our address: only a few are believed.
    sampled: HashSet<SocketAddr>,
    server_port: u16,
    bootstrap_nodes: Option<Vec<SocketAddr>>,
    resolving: bool,
    bootstrap: Bootstrap,
    firewall_check: Option<FirewallCheck>,
    firewalled: bool,
    ephemeral: bool,
    suspended: bool,
    closed: bool,
    tick: u64,
    next_tick: Instant,
    refresh_ticks: u64,
    stable_ticks: u64,
    checked_host: Option<IpAddr>,
    checks: usize,
    swaps: usize,
    down_hints: u32,
    delayed: BTreeMap<(Instant, u64), DelayedPing>,
    next_delayed: u64,
    answers: VecDeque<Transmit>,
    events: VecDeque<NodeEvent>,
    received: u64,
    limited: u64,
    strays: u64,
}

impl Node {
    /// A node whose server socket is bound to `server_port`; `seed` is what its random numbers come from, and must be
    /// a secret. It starts to bootstrap at once.
    pub fn new(options: RpcOptions, server_port: u16, seed: [u8; 32], now: Instant) -> Self {
        let mut rng = Rng::new(seed);
        let known = |node: &super::BootstrapNode| match (node.ip, &node.host) {
            (Some(ip), None) => Some(SocketAddr::new(ip, node.port)),
            _ => None,
        };
        let mut node = Self {
            contacts: Contacts::new(rng.bytes32()),
            requests: Requests::new(options.max_window, now),
            walks: HashMap::new(),
            next_query: 0,
            queries: 0,
            tokens: Tokens::new(&mut rng, now),
            gate: FloodGate::new(options.limits, now),
            health: Health::new(),
            nat: NatSampler::default(),
            sampled: HashSet::new(),
            server_port,
            bootstrap_nodes: options.bootstrap.iter().map(known).collect(),
            resolving: false,
            bootstrap: Bootstrap::new(&options),
            firewall_check: None,
            firewalled: options.firewalled,
            ephemeral: true,
            suspended: false,
            closed: false,
            tick: 100 - rng.below(50) as u64,
            next_tick: now + TICK,
            refresh_ticks: upkeep::REFRESH_TICKS - rng.below(30) as u64,
            stable_ticks: upkeep::STABLE_TICKS,
            checked_host: None,
            checks: 0,
            swaps: 0,
            down_hints: 0,
            delayed: BTreeMap::new(),
            next_delayed: 0,
            answers: VecDeque::new(),
            events: VecDeque::new(),
            received: 0,
            limited: 0,
            strays: 0,
            rng,
            options,
        };
        if let Some(external) = node.options.external {
            node.nat.add(external);
        }
        for addr in node.options.nodes.clone().into_iter().rev() {
            node.add_node(addr);
        }
        node.start_bootstrap(now);
        node
    }

    /// The next datagram to send, if one may leave now.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        if let Some(answer) = self.answers.pop_front() {
            return Some(answer);
        }
        if self.suspended { None } else { self.requests.poll_send(now) }
    }

    /// The next event, in order.
    pub fn poll_event(&mut self) -> Option<NodeEvent> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.suspended || self.closed {
            return None;
        }
        let delayed = self.delayed.keys().next().map(|(due, _)| *due);
        [Some(self.next_tick), delayed, self.requests.next_deadline()].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.suspended || self.closed {
            return;
        }
        self.send_delayed_pings(now);
        self.handle_overdue(now);
        if now >= self.next_tick {
            self.on_tick(now);
        }
    }

    /// Our id; `None` while ephemeral.
    pub fn id(&self) -> Option<NodeId> {
        if self.ephemeral { None } else { Some(self.contacts.own_id()) }
    }

    /// Where our routing table is centred, also while ephemeral.
    pub fn table_id(&self) -> NodeId {
        self.contacts.own_id()
    }

    /// Our host as others see it, if they agree.
    pub fn host(&self) -> Option<IpAddr> {
        self.nat.host()
    }

    /// Our port as others see it; 0 if they disagree.
    pub fn port(&self) -> u16 {
        self.nat.port()
    }

    /// Where everybody can reach us, if everybody can.
    pub fn remote_address(&self) -> Option<SocketAddr> {
        let host = self.nat.host()?;
        let port = self.nat.port();
        (!self.firewalled && port != 0 && port == self.server_port).then(|| SocketAddr::new(host, port))
    }

    /// Others do not reach us unasked, as far as we know.
    pub fn is_firewalled(&self) -> bool {
        self.firewalled
    }

    /// We are not a part of the network, only use it.
    pub fn is_ephemeral(&self) -> bool {
        self.ephemeral
    }

    /// Others agree on our host but not on our port.
    pub fn is_randomized(&self) -> bool {
        self.nat.host().is_some() && self.nat.port() == 0
    }

    /// Anybody answers.
    pub fn is_online(&self) -> bool {
        self.health.is_online()
    }

    /// Most do not answer.
    pub fn is_degraded(&self) -> bool {
        self.health.is_degraded()
    }

    /// The first walk through the network is done.
    pub fn is_bootstrapped(&self) -> bool {
        self.bootstrap.is_done()
    }

    /// Suspended at the moment.
    pub fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// The socket that suits our state.
    pub fn socket(&self) -> Socket {
        if self.firewalled { Socket::Client } else { Socket::Server }
    }

    /// Nodes that we know, the one heard from last first.
    pub fn nodes(&self, limit: usize) -> Vec<Peer> {
        let latest = self.contacts.oldest_first().rev().take(limit);
        latest.map(|contact| Peer { addr: contact.addr, id: Some(contact.id) }).collect()
    }

    /// The nodes of our routing table nearest to `target`.
    pub fn closer_nodes(&self, target: &NodeId) -> Vec<SocketAddr> {
        self.contacts.closest(target, super::contacts::K).into_iter().map(|contact| contact.addr).collect()
    }

    /// What was counted.
    pub fn stats(&self) -> Stats {
        Stats {
            requests_active: self.requests.len(),
            requests: self.requests.total,
            responses: self.requests.responses,
            timeouts: self.requests.timeouts,
            retries: self.requests.retries,
            queries_active: self.walks.len(),
            queries: self.queries,
            nodes: self.contacts.len(),
            received: self.received,
            limited: self.limited,
            strays: self.strays,
            overflowed: 0,
        }
    }

    fn emit(&mut self, event: NodeEvent) {
        self.events.push_back(event);
    }

    fn answer(&mut self, transmit: Transmit) {
        if self.answers.len() < MAX_ANSWERS {
            self.answers.push_back(transmit);
        }
    }

    fn nat_add(&mut self, seen_as: SocketAddr) {
        if self.nat.add(seen_as) {
            self.emit(NodeEvent::NatUpdate(self.nat.host(), self.nat.port()));
        }
    }

    fn usable(&self, addr: SocketAddr) -> bool {
        addr.port() != 0 && self.options.filter.as_ref().is_none_or(|filter| filter(addr))
    }
}

/// A value of its own, so that a small slice does not keep a large receive buffer alive.
fn detached(value: Option<Bytes>) -> Option<Bytes> {
    value.map(|value| Bytes::copy_from_slice(&value))
}
