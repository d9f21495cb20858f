//! A network of DHT nodes in virtual time, from a seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyperdht::rpc::node::{NodeEvent, QueryId, QueryOutcome, Querying};
use hyperdht::rpc::{Node, NodeId, RpcOptions, Socket, node_id};

const CLIENT_PORT: u16 = 2000;
const SERVER_PORT: u16 = 1000;

/// How the network is; plain fields, to be changed at any time.
pub(crate) struct Network {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) latency: std::ops::Range<Duration>,
    /// Datagrams lost, of 100.
    pub(crate) loss: u64,
    pub(crate) delivered: u64,
    random: u64,
    hosts: BTreeMap<Ipv4Addr, Host>,
    arrivals: BinaryHeap<Reverse<Arrival>>,
    timers: BinaryHeap<Reverse<(Instant, Ipv4Addr)>>,
    sequence: u64,
    next_host: u32,
}

/// One machine.
pub(crate) struct Host {
    pub(crate) node: Node,
    /// Only those reach it that it has written to.
    pub(crate) firewalled: bool,
    written_to: HashSet<(u16, SocketAddr)>,
    pub(crate) done: HashMap<QueryId, QueryOutcome>,
    /// What it told, but for answers and replies.
    pub(crate) events: Vec<String>,
    timer: Option<Instant>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Arrival {
    at: Instant,
    sequence: u64,
    to: SocketAddr,
    from: SocketAddr,
    payload: Bytes,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        let now = Instant::now();
        Self {
            now,
            start: now,
            latency: Duration::from_millis(10)..Duration::from_millis(60),
            loss: 0,
            delivered: 0,
            random: seed ^ 0x9e37_79b9_7f4a_7c15,
            hosts: BTreeMap::new(),
            arrivals: BinaryHeap::new(),
            timers: BinaryHeap::new(),
            sequence: 0,
            next_host: 0x0a00_0001,
        }
    }

    /// A bootstrapper and `count` persistent nodes, `at_once` of which join together.
    pub(crate) fn grown(seed: u64, count: usize, at_once: usize) -> (Self, Ipv4Addr) {
        let mut network = Self::new(seed);
        let first = network.bootstrapper();
        network.grow(first, count, at_once);
        (network, first)
    }

    pub(crate) fn grow(&mut self, first: Ipv4Addr, count: usize, at_once: usize) {
        let mut left = count;
        while left > 0 {
            let joining: Vec<Ipv4Addr> =
                (0..at_once.min(left)).map(|_| self.join_persistent(first)).collect();
            left -= joining.len();
            self.until(Duration::from_secs(600), |network| {
                joining.iter().all(|host| network.node(*host).is_bootstrapped())
            });
        }
    }

    pub(crate) fn bootstrapper(&mut self) -> Ipv4Addr {
        let host = Ipv4Addr::from(self.next_host);
        self.add(RpcOptions::bootstrapper(host, SERVER_PORT), false)
    }

    pub(crate) fn join_persistent(&mut self, first: Ipv4Addr) -> Ipv4Addr {
        self.join(
            first,
            RpcOptions { ephemeral: Some(false), firewalled: false, ..RpcOptions::default() },
            false,
        )
    }

    pub(crate) fn join(&mut self, first: Ipv4Addr, options: RpcOptions, firewalled: bool) -> Ipv4Addr {
        self.add(RpcOptions { bootstrap: vec![server(first).into()], ..options }, firewalled)
    }

    fn add(&mut self, options: RpcOptions, firewalled: bool) -> Ipv4Addr {
        let host = Ipv4Addr::from(self.next_host);
        self.next_host += 1;
        let mut seed = [0; 32];
        for byte in &mut seed {
            *byte = self.draw() as u8;
        }
        let node = Node::new(options, SERVER_PORT, seed, self.now);
        let host_state = Host {
            node,
            firewalled,
            written_to: HashSet::new(),
            done: HashMap::new(),
            events: Vec::new(),
            timer: None,
        };
        self.hosts.insert(host, host_state);
        self.flush(host);
        host
    }

    /// Gone without a word.
    pub(crate) fn kill(&mut self, host: Ipv4Addr) {
        self.hosts.remove(&host);
    }

    pub(crate) fn hosts(&self) -> Vec<Ipv4Addr> {
        self.hosts.keys().copied().collect()
    }

    pub(crate) fn host(&self, host: Ipv4Addr) -> &Host {
        &self.hosts[&host]
    }

    pub(crate) fn node(&self, host: Ipv4Addr) -> &Node {
        &self.hosts[&host].node
    }

    /// Does something with a node, and then all that follows from it.
    pub(crate) fn with<T>(&mut self, host: Ipv4Addr, act: impl FnOnce(&mut Node, Instant) -> T) -> T {
        let now = self.now;
        let result = act(&mut self.hosts.get_mut(&host).unwrap().node, now);
        self.flush(host);
        result
    }

    pub(crate) fn draw(&mut self) -> u64 {
        // xorshift64*
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn draw_id(&mut self) -> NodeId {
        std::array::from_fn(|_| (self.draw() >> 32) as u8)
    }

    pub(crate) fn draw_host(&mut self) -> Ipv4Addr {
        let at = self.draw() as usize % self.hosts.len();
        *self.hosts.keys().nth(at).unwrap()
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Lets time pass until something holds.
    pub(crate) fn until(&mut self, limit: Duration, holds: impl Fn(&Self) -> bool) {
        let end = self.now + limit;
        while !holds(self) {
            assert!(self.step(end), "not within {limit:?}");
        }
    }

    /// Queries from these hosts, all at once, to their ends.
    pub(crate) fn find_nodes(&mut self, from: &[(Ipv4Addr, NodeId)]) -> Vec<QueryOutcome> {
        let ids: Vec<(Ipv4Addr, QueryId)> = from
            .iter()
            .map(|(host, target)| {
                let id = self.with(*host, |node, now| node.find_node(now, *target, Querying::default()));
                (*host, id.unwrap())
            })
            .collect();
        self.until(Duration::from_secs(600), |network| {
            ids.iter().all(|(host, id)| network.host(*host).done.contains_key(id))
        });
        let take =
            |(host, id): (Ipv4Addr, QueryId)| self.hosts.get_mut(&host).unwrap().done.remove(&id).unwrap();
        ids.into_iter().map(take).collect()
    }

    /// Of the twenty persistent nodes that are nearest to the target, how many the query found, and how many there are.
    pub(crate) fn found(&self, from: Ipv4Addr, target: NodeId, outcome: &QueryOutcome) -> (usize, usize) {
        let mut ids: Vec<NodeId> = self
            .hosts
            .iter()
            .filter(|(host, state)| **host != from && !state.node.is_ephemeral())
            .map(|(host, _)| node_id(server(*host)))
            .collect();
        ids.sort_unstable_by_key(|id| std::array::from_fn::<u8, 32, _>(|n| id[n] ^ target[n]));
        ids.truncate(20);
        let found: HashSet<NodeId> = outcome.closest.iter().filter_map(|reply| reply.from.id).collect();
        (ids.iter().filter(|id| found.contains(*id)).count(), ids.len())
    }

    /// Does what is next, unless that is after `end`.
    fn step(&mut self, end: Instant) -> bool {
        let arrival = self.arrivals.peek().map(|Reverse(arrival)| arrival.at);
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let Some(next) = [arrival, timer].into_iter().flatten().min().filter(|next| *next <= end) else {
            return false;
        };
        self.now = self.now.max(next);
        if arrival == Some(next) {
            let Reverse(arrival) = self.arrivals.pop().unwrap();
            self.arrive(arrival);
        } else {
            let Reverse((at, host)) = self.timers.pop().unwrap();
            let now = self.now;
            if let Some(state) = self.hosts.get_mut(&host)
                && state.timer == Some(at)
            {
                state.timer = None;
                state.node.handle_timeout(now);
                self.flush(host);
            }
        }
        true
    }

    fn arrive(&mut self, Arrival { to, from, payload, .. }: Arrival) {
        let IpAddr::V4(host) = to.ip() else { return };
        let now = self.now;
        let Some(state) = self.hosts.get_mut(&host) else { return };
        let socket = match to.port() {
            CLIENT_PORT => Socket::Client,
            SERVER_PORT => Socket::Server,
            _ => return,
        };
        if state.firewalled && !state.written_to.contains(&(to.port(), from)) {
            return;
        }
        self.delivered += 1;
        state.node.handle_datagram(now, socket, from, payload);
        self.flush(host);
    }

    fn flush(&mut self, host: Ipv4Addr) {
        let now = self.now;
        let Some(state) = self.hosts.get_mut(&host) else { return };
        let mut sent = Vec::new();
        loop {
            while let Some(transmit) = state.node.poll_transmit(now) {
                sent.push(transmit);
            }
            match state.node.poll_event() {
                Some(NodeEvent::QueryDone(id, outcome)) => {
                    state.done.insert(id, outcome.unwrap());
                }
                Some(
                    NodeEvent::Answer(..)
                    | NodeEvent::QueryReply(..)
                    | NodeEvent::Request(_)
                    | NodeEvent::NodeAdded(_)
                    | NodeEvent::NodeRemoved(_),
                ) => {}
                Some(event) => state.events.push(format!("{event:?}")),
                None => break,
            }
        }
        if let Some(next) = state.node.next_deadline()
            && state.timer.is_none_or(|timer| next < timer)
        {
            state.timer = Some(next);
            self.timers.push(Reverse((next, host)));
        }
        for transmit in sent {
            let port = if transmit.socket == Socket::Server { SERVER_PORT } else { CLIENT_PORT };
            if let Some(state) = self.hosts.get_mut(&host).filter(|state| state.firewalled) {
                state.written_to.insert((port, transmit.to));
            }
            if self.draw() % 100 < self.loss {
                continue;
            }
            let spread = (self.latency.end - self.latency.start).as_micros() as u64;
            let latency = self.latency.start + Duration::from_micros(self.draw() % spread.max(1));
            self.sequence += 1;
            self.arrivals.push(Reverse(Arrival {
                at: now + latency,
                sequence: self.sequence,
                to: transmit.to,
                from: SocketAddr::from((host, port)),
                payload: transmit.payload,
            }));
        }
    }
}

pub(crate) fn server(host: Ipv4Addr) -> SocketAddr {
    SocketAddr::from((host, SERVER_PORT))
}
