//! Swarms and a DHT in virtual time: everything that happens is an event, and a seed decides all of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use super::{Action, ConnectionId, DialOutcome, QueryId, QueryKind, Refusal, Swarm, WaiterId};
use crate::{JoinOptions, PublicKey, QueryOutcome, SwarmOptions, Topic, random::Random};

/// How bad the network is.
#[derive(Debug, Clone)]
pub(super) struct Knobs {
    pub(super) latency: Duration,
    /// Of a thousand dials so many fail.
    pub(super) dials_refused: usize,
    /// Of a thousand queries so many fail.
    pub(super) queries_failed: usize,
    /// Until when that is so.
    pub(super) bad_until: Duration,
    pub(super) options: SwarmOptions,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(100),
            dials_refused: 0,
            queries_failed: 0,
            bad_until: Duration::ZERO,
            options: SwarmOptions::default(),
        }
    }
}

#[derive(Debug)]
enum Event {
    Listened(usize),
    QueryRead(usize, QueryId, Topic, QueryKind),
    QueryEnd(usize, QueryId, Topic, QueryKind),
    DialArrives {
        from: usize,
        connection: ConnectionId,
        to: PublicKey,
    },
    DialEnds(usize, ConnectionId, DialOutcome),
    Closed(usize, ConnectionId),
    /// What a test wants to happen.
    Crash(usize),
    Restart(usize),
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) key: PublicKey,
    pub(super) swarm: Option<Swarm>,
    /// Events of earlier lives do not reach it.
    life: u32,
    listening: bool,
    cancelled: HashSet<QueryId>,
    /// Connections that were handed over, by peer.
    pub(super) open: HashMap<PublicKey, ConnectionId>,
    links: HashMap<ConnectionId, u64>,
    pub(super) topics: Vec<(Topic, JoinOptions)>,
    pub(super) done: HashMap<WaiterId, bool>,
}

#[derive(Debug, Clone, Copy)]
struct End {
    node: usize,
    life: u32,
    connection: ConnectionId,
}

#[derive(Debug)]
pub(super) struct World {
    start: Instant,
    pub(super) now: Instant,
    knobs: Knobs,
    pub(super) random: Random,
    events: BTreeMap<(Instant, u64), (u32, Event)>,
    next: u64,
    pub(super) nodes: Vec<Node>,
    by_key: HashMap<PublicKey, usize>,
    pub(super) records: HashMap<Topic, HashMap<PublicKey, Instant>>,
    links: HashMap<u64, (End, End)>,
    /// The most queries of one node at the same time, and how many there are.
    pub(super) most_queries: usize,
    running: HashMap<usize, usize>,
    pub(super) announces: u64,
}

/// How long nodes of the DHT keep an announcement (npm `hyperdht` 6.34: 20 minutes).
const RECORD_LIFE: Duration = Duration::from_secs(20 * 60);
/// How long it takes to notice that a peer is gone without a word.
const SILENCE: Duration = Duration::from_secs(20);

impl World {
    pub(super) fn new(seed: u64, nodes: usize, knobs: Knobs) -> Self {
        let start = Instant::now();
        let mut random = Random::new(seed);
        let nodes: Vec<Node> = (0..nodes)
            .map(|_| {
                let mut key = [0; 32];
                for chunk in key.chunks_mut(8) {
                    chunk.copy_from_slice(&random.next().to_le_bytes());
                }
                let swarm = Some(Swarm::new(knobs.options.clone(), key, random.next()));
                Node {
                    key,
                    swarm,
                    life: 0,
                    listening: false,
                    cancelled: HashSet::new(),
                    open: HashMap::new(),
                    links: HashMap::new(),
                    topics: Vec::new(),
                    done: HashMap::new(),
                }
            })
            .collect();
        let by_key = nodes.iter().enumerate().map(|(index, node)| (node.key, index)).collect();
        Self {
            start,
            now: start,
            knobs,
            random,
            events: BTreeMap::new(),
            next: 0,
            nodes,
            by_key,
            records: HashMap::new(),
            links: HashMap::new(),
            most_queries: 0,
            running: HashMap::new(),
            announces: 0,
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Does something with a swarm, and what comes of it.
    pub(super) fn with<T>(&mut self, node: usize, act: impl FnOnce(&mut Swarm, Instant) -> T) -> T {
        let now = self.now;
        let value = act(self.nodes[node].swarm.as_mut().expect("it runs"), now);
        self.act(node);
        value
    }

    pub(super) fn join(&mut self, node: usize, topic: Topic, options: JoinOptions) {
        self.nodes[node].topics.push((topic, options));
        self.with(node, |swarm, now| swarm.join(topic, options, now)).unwrap();
    }

    pub(super) fn crash_at(&mut self, node: usize, after: Duration) {
        let life = self.nodes[node].life;
        self.push(after, life, Event::Crash(node));
    }

    pub(super) fn restart_at(&mut self, node: usize, after: Duration) {
        self.push(after, 0, Event::Restart(node));
    }

    fn push(&mut self, after: Duration, life: u32, event: Event) {
        self.next += 1;
        self.events.insert((self.now + after, self.next), (life, event));
    }

    fn later(&mut self, node: usize, event: Event) {
        let after = self.latency();
        let life = self.nodes[node].life;
        self.push(after, life, event);
    }

    fn latency(&mut self) -> Duration {
        self.knobs.latency / 2 + self.random.up_to(self.knobs.latency)
    }

    fn chance(&mut self, of_a_thousand: usize) -> bool {
        self.elapsed() < self.knobs.bad_until && self.random.below(1000) < of_a_thousand
    }

    /// Runs until so much time has passed since the start.
    pub(super) fn run_until(&mut self, end: Duration) {
        let end = self.start + end;
        let mut steps = 0u64;
        loop {
            steps += 1;
            assert!(steps < 20_000_000, "it never comes to rest");
            let deadline = (0..self.nodes.len())
                .filter_map(|node| Some((self.nodes[node].swarm.as_ref()?.next_deadline()?, node)))
                .min();
            let event = self.events.first_key_value().map(|(key, _)| *key);
            match (event, deadline) {
                (Some(key), deadline) if deadline.is_none_or(|(at, _)| key.0 <= at) => {
                    if key.0 > end {
                        break;
                    }
                    let (life, event) = self.events.remove(&key).unwrap();
                    self.now = key.0;
                    self.happen(life, event);
                }
                (_, Some((at, node))) => {
                    if at > end {
                        break;
                    }
                    self.now = self.now.max(at);
                    self.with(node, |swarm, now| swarm.handle_timeout(now));
                    let next = self.nodes[node].swarm.as_ref().unwrap().next_deadline();
                    assert!(next.is_none_or(|next| next > self.now), "what is due is done");
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn alive(&self, node: usize, life: u32) -> bool {
        self.nodes[node].swarm.is_some() && self.nodes[node].life == life
    }

    fn happen(&mut self, life: u32, event: Event) {
        match event {
            Event::Crash(node) => self.crash(node),
            Event::Restart(node) => self.restart(node),
            Event::Listened(node) if self.alive(node, life) => {
                self.nodes[node].listening = true;
                self.with(node, |swarm, now| swarm.listened(true, now));
            }
            Event::QueryRead(node, query, topic, kind) if self.alive(node, life) => {
                if self.nodes[node].cancelled.contains(&query) {
                    return;
                }
                if kind != QueryKind::Unannounce {
                    let now = self.now;
                    let found: Vec<PublicKey> = self.records.get(&topic).map_or_else(Vec::new, |records| {
                        records.iter().filter(|(_, until)| **until > now).map(|(key, _)| *key).collect()
                    });
                    // In an order that does not depend on the hasher.
                    let mut found = found;
                    found.sort_unstable();
                    for key in found {
                        self.with(node, |swarm, now| swarm.found(query, &key, &[], now));
                    }
                }
                self.later(node, Event::QueryEnd(node, query, topic, kind));
            }
            Event::QueryEnd(node, query, topic, kind) if self.alive(node, life) => {
                *self.running.entry(node).or_default() -= 1;
                if self.nodes[node].cancelled.remove(&query) {
                    return;
                }
                let ok = !self.chance(self.knobs.queries_failed);
                let key = self.nodes[node].key;
                let records = self.records.entry(topic).or_default();
                match kind {
                    QueryKind::Announce { .. } if ok => {
                        self.announces += 1;
                        records.insert(key, self.now + RECORD_LIFE);
                    }
                    QueryKind::LookupAndUnannounce | QueryKind::Unannounce if ok => {
                        records.remove(&key);
                    }
                    _ => {}
                }
                let outcome = if ok { QueryOutcome::OK } else { QueryOutcome::FAILED };
                self.with(node, |swarm, now| swarm.query_ended(query, outcome, now));
            }
            Event::DialArrives { from, connection, to } => self.dial_arrives(life, from, connection, to),
            Event::DialEnds(node, connection, outcome) if self.alive(node, life) => {
                self.with(node, |swarm, now| swarm.dialled(connection, outcome, now));
            }
            Event::Closed(node, connection) if self.alive(node, life) => {
                self.nodes[node].links.remove(&connection);
                self.nodes[node].open.retain(|_, open| *open != connection);
                self.with(node, |swarm, now| swarm.closed(connection, now));
            }
            _ => {}
        }
    }

    fn dial_arrives(&mut self, life: u32, from: usize, connection: ConnectionId, to: PublicKey) {
        let target = self.by_key[&to];
        let reachable = self.nodes[target].swarm.is_some() && self.nodes[target].listening;
        if !reachable || self.chance(self.knobs.dials_refused) {
            let after = if self.random.below(2) == 0 { self.latency() } else { Duration::from_secs(10) };
            self.push(
                after,
                life,
                Event::DialEnds(from, connection, DialOutcome::Failed { try_relay: false }),
            );
            return;
        }
        let key = self.nodes[from].key;
        let now = self.now;
        // The link is there before the swarm tells of the connection.
        let accepted = self.nodes[target].swarm.as_mut().unwrap().incoming(&key, now);
        match accepted {
            Ok(theirs) => {
                self.next += 1;
                let link = self.next;
                let ours = End { node: from, life, connection };
                let theirs = End { node: target, life: self.nodes[target].life, connection: theirs };
                self.links.insert(link, (ours, theirs));
                self.nodes[target].links.insert(theirs.connection, link);
                let still_wanted = self.alive(from, life)
                    && self.nodes[from].swarm.as_ref().unwrap().connection_with(&to) == Some(connection);
                if still_wanted {
                    self.nodes[from].links.insert(connection, link);
                    self.later(from, Event::DialEnds(from, connection, DialOutcome::Open));
                } else {
                    self.cut(link, from, connection);
                }
            }
            Err(refusal) => {
                let refused = self.latency();
                if refusal == Refusal::Duplicate && self.random.below(2) == 0 {
                    // The handshake may get through before the connection is closed.
                    self.push(refused, life, Event::DialEnds(from, connection, DialOutcome::Open));
                    self.push(refused * 2, life, Event::Closed(from, connection));
                } else {
                    let failed = DialOutcome::Failed { try_relay: false };
                    self.push(refused, life, Event::DialEnds(from, connection, failed));
                }
            }
        }
        self.act(target);
    }

    /// One end has closed the link: the other learns of it.
    fn cut(&mut self, link: u64, node: usize, connection: ConnectionId) {
        let Some((one, two)) = self.links.remove(&link) else { return };
        let other = if (one.node, one.connection) == (node, connection) { two } else { one };
        let after = self.latency();
        self.push(after, other.life, Event::Closed(other.node, other.connection));
    }

    fn crash(&mut self, node: usize) {
        if self.nodes[node].swarm.take().is_none() {
            return;
        }
        let crashed = &mut self.nodes[node];
        crashed.life += 1;
        crashed.listening = false;
        crashed.open.clear();
        crashed.cancelled.clear();
        let links: Vec<u64> = std::mem::take(&mut crashed.links).into_values().collect();
        self.running.remove(&node);
        for link in links {
            let Some((one, two)) = self.links.remove(&link) else { continue };
            let other = if one.node == node { two } else { one };
            self.push(SILENCE, other.life, Event::Closed(other.node, other.connection));
        }
    }

    fn restart(&mut self, node: usize) {
        self.crash(node);
        let seed = self.random.next();
        let key = self.nodes[node].key;
        self.nodes[node].swarm = Some(Swarm::new(self.knobs.options.clone(), key, seed));
        for (topic, options) in self.nodes[node].topics.clone() {
            self.with(node, |swarm, now| swarm.join(topic, options, now)).unwrap();
        }
    }

    /// Does what the swarm wants done.
    fn act(&mut self, node: usize) {
        while let Some(action) = self.nodes[node].swarm.as_mut().and_then(Swarm::poll_action) {
            match action {
                Action::Listen => self.later(node, Event::Listened(node)),
                Action::Query { query, topic, kind } => {
                    let running = self.running.entry(node).or_default();
                    *running += 1;
                    self.most_queries = self.most_queries.max(*running);
                    self.later(node, Event::QueryRead(node, query, topic, kind));
                }
                Action::Cancel { query } => {
                    self.nodes[node].cancelled.insert(query);
                }
                Action::Dial { connection, public_key, .. } => {
                    self.later(node, Event::DialArrives { from: node, connection, to: public_key });
                }
                Action::Close { connection, .. } => {
                    self.nodes[node].open.retain(|_, open| *open != connection);
                    if let Some(link) = self.nodes[node].links.remove(&connection) {
                        self.cut(link, node, connection);
                    }
                }
                Action::Opened { connection } => {
                    let swarm = self.nodes[node].swarm.as_ref().unwrap();
                    let key = swarm.connections[&connection].public_key;
                    let before = self.nodes[node].open.insert(key, connection);
                    assert_eq!(before, None, "one connection for a peer");
                }
                Action::Done { waiter, ok } => {
                    self.nodes[node].done.insert(waiter, ok);
                }
                Action::Forget { .. } | Action::Banned { .. } => {}
            }
        }
    }

    /// Everyone who shares a topic is connected, once, and both mean the same connection.
    pub(super) fn assert_connected(&self) {
        for a in 0..self.nodes.len() {
            for b in a + 1..self.nodes.len() {
                let (one, two) = (&self.nodes[a], &self.nodes[b]);
                if one.swarm.is_none() || two.swarm.is_none() {
                    continue;
                }
                let shared = one.topics.iter().any(|(topic, how)| {
                    two.topics.iter().any(|(other, their)| {
                        topic == other && (how.server && their.client || how.client && their.server)
                    })
                });
                let link = |from: &Node, to: &Node| {
                    from.open.get(&to.key).map(|connection| from.links.get(connection).copied())
                };
                let (there, back) = (link(one, two), link(two, one));
                assert_eq!(there, back, "nodes {a} and {b} mean the same connection");
                assert_eq!(there.is_some(), shared, "nodes {a} and {b} are connected if they share a topic");
                assert!(there != Some(None), "nodes {a} and {b}: the connection is one");
            }
        }
    }
}
