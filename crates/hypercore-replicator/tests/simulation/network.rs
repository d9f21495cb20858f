//! Replicators joined by links in virtual time. Everything that happens is decided by a seed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hypercore::demand::{Demand, DemandId, DownloadRange, Reply, Want, WantOptions};
use hypercore::proof::{ProofRequest, RequestBlock, RequestUpgrade};
use hypercore::storage::Database;
use hypercore::{Core, CoreOptions, KeyPair};
use hypercore_protocol::Message;
use hypercore_protocol::messages::Data;
use hypercore_replicator::{CloseReason, Event, Options, PeerId, Replicator};

use crate::liar::Lie;

/// SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// How a node differs from an honest one.
#[derive(Debug, Clone, Default)]
pub(crate) enum Behaviour {
    #[default]
    Honest,
    /// Takes requests and never answers.
    Silent,
    /// Answers after this long, a block at a time.
    Slow(Duration),
    /// Changes what it sends.
    Liar(Lie),
    /// Sends some answers before earlier ones, as JS peers do.
    Hasty,
    /// Says whatever comes to its mind as well.
    Mad,
}

/// A log, those who wait for it, and its replicator.
pub(crate) struct Node {
    pub(crate) core: Core,
    pub(crate) demand: Demand,
    pub(crate) replicator: Replicator,
    pub(crate) behaviour: Behaviour,
    pub(crate) events: Vec<Event>,
    replies: Vec<(Want, Reply)>,
    pub(crate) sent: u64,
}

impl Node {
    fn new(core: Core, seed: u64) -> Self {
        let options = Options { seed, linger: Duration::from_secs(1), ..Options::default() };
        Self {
            core,
            demand: Demand::new(),
            replicator: Replicator::new(options),
            behaviour: Behaviour::Honest,
            events: Vec::new(),
            replies: Vec::new(),
            sent: 0,
        }
    }

    /// Wishes that are not fulfilled yet.
    pub(crate) fn waiting(&mut self) -> Vec<Want> {
        self.replies.retain_mut(|(_, reply)| matches!(reply.try_recv(), Ok(None)));
        self.replies.iter().map(|(want, _)| want.clone()).collect()
    }
}

/// A connection of two nodes.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) ends: [usize; 2],
    pub(crate) latency: Duration,
    pub(crate) jitter: Duration,
    /// Bytes a second, each way.
    pub(crate) bandwidth: u64,
    pub(crate) up: bool,
    wires: [Wire; 2],
    peer: PeerId,
}

/// What is under way in one direction.
#[derive(Debug, Default)]
struct Wire {
    messages: VecDeque<(Instant, usize, Message)>,
    bytes: usize,
    busy_until: Option<Instant>,
}

/// Bytes that a connection takes before it pushes back.
const WRITABLE: usize = 256 * 1_024;

pub(crate) struct Network {
    pub(crate) random: Random,
    pub(crate) now: Instant,
    pub(crate) started: Instant,
    pub(crate) nodes: Vec<Node>,
    pub(crate) links: Vec<Link>,
    next_peer: u64,
    pub(crate) steps: u64,
    pub(crate) trace: bool,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        let now = Instant::now();
        Self {
            random: Random(seed),
            now,
            started: now,
            nodes: Vec::new(),
            links: Vec::new(),
            next_peer: 0,
            steps: 0,
            trace: std::env::var_os("SIM_TRACE").is_some(),
        }
    }

    /// A node that writes a log of its own.
    pub(crate) fn writer(&mut self) -> usize {
        let seed = [self.random.next() as u8; 32];
        let key_pair = Some(KeyPair::from_seed(&seed));
        let options = CoreOptions { key_pair, ..CoreOptions::default() };
        let core = Core::open(&Database::memory(), options).unwrap();
        self.add(core)
    }

    /// A node that writes the same log with the same key: what must never happen.
    pub(crate) fn twin(&mut self, writer: usize) -> usize {
        let key_pair = self.nodes[writer].core.key_pairs().first().cloned();
        let options = CoreOptions { key_pair, ..CoreOptions::default() };
        let core = Core::open(&Database::memory(), options).unwrap();
        assert_eq!(core.key(), self.nodes[writer].core.key());
        self.add(core)
    }

    /// Appends blocks with other contents than [`Network::append`] gives them.
    pub(crate) fn append_other(&mut self, writer: usize, count: u64) {
        let now = self.now;
        let node = &mut self.nodes[writer];
        let blocks: Vec<Bytes> = (0..count).map(|index| format!("other {index}").into()).collect();
        node.core.append(&blocks).unwrap();
        node.replicator.core_changed(&mut node.core, &mut node.demand, now);
    }

    /// A node that reads the log of another one.
    pub(crate) fn reader(&mut self, writer: usize) -> usize {
        let key = Some(self.nodes[writer].core.key());
        let options = CoreOptions { key, ..CoreOptions::default() };
        let core = Core::open(&Database::memory(), options).unwrap();
        self.add(core)
    }

    fn add(&mut self, core: Core) -> usize {
        let seed = self.random.next();
        let mut node = Node::new(core, seed);
        node.replicator.set_downloading(true, &mut node.core, &mut node.demand, self.now);
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Appends this many blocks.
    pub(crate) fn append(&mut self, writer: usize, count: u64) {
        let now = self.now;
        let node = &mut self.nodes[writer];
        let (from, fork) = (node.core.length(), node.core.fork());
        let blocks: Vec<Bytes> = (from..from + count).map(|index| block(index, fork)).collect();
        node.core.append(&blocks).unwrap();
        node.replicator.core_changed(&mut node.core, &mut node.demand, now);
    }

    pub(crate) fn truncate(&mut self, writer: usize, length: u64) {
        let now = self.now;
        let node = &mut self.nodes[writer];
        node.core.truncate(length).unwrap();
        node.replicator.core_changed(&mut node.core, &mut node.demand, now);
    }

    pub(crate) fn clear(&mut self, index: usize, start: u64, end: u64) {
        let now = self.now;
        let node = &mut self.nodes[index];
        node.core.clear(start..end).unwrap();
        node.replicator.core_changed(&mut node.core, &mut node.demand, now);
    }

    /// Gives a reader blocks of the writer's log without any network.
    pub(crate) fn give(&mut self, writer: usize, reader: usize, blocks: impl IntoIterator<Item = u64>) {
        let now = self.now;
        let [writer, reader] = self.nodes.get_disjoint_mut([writer, reader]).unwrap();
        let (start, end) = (reader.core.length(), writer.core.length());
        if start < end {
            let upgrade = Some(RequestUpgrade { start, length: end - start });
            let request = ProofRequest { upgrade, manifest: true, ..ProofRequest::default() };
            let proof = writer.core.prove(&request).unwrap();
            reader.core.receive(vec![proof]).pop().unwrap().unwrap();
        }
        for index in blocks {
            let nodes = reader.core.missing_nodes(index * 2).unwrap();
            let block = Some(RequestBlock { index, nodes });
            let proof = writer.core.prove(&ProofRequest { block, ..ProofRequest::default() }).unwrap();
            reader.core.receive(vec![proof]).pop().unwrap().unwrap();
        }
        reader.replicator.core_changed(&mut reader.core, &mut reader.demand, now);
    }

    pub(crate) fn want(&mut self, index: usize, want: Want) -> DemandId {
        self.want_with(index, want, WantOptions::default())
    }

    pub(crate) fn want_with(&mut self, index: usize, want: Want, options: WantOptions) -> DemandId {
        let now = self.now;
        let node = &mut self.nodes[index];
        let (id, reply) = node.demand.add(want.clone(), options).unwrap();
        node.replies.push((want, reply));
        node.replicator.core_changed(&mut node.core, &mut node.demand, now);
        id
    }

    pub(crate) fn cancel(&mut self, index: usize, id: DemandId) {
        let now = self.now;
        let node = &mut self.nodes[index];
        node.demand.cancel(id);
        node.replicator.core_changed(&mut node.core, &mut node.demand, now);
    }

    /// Whether a wish came true; panics when it failed.
    pub(crate) fn want_all(&mut self, index: usize, range: DownloadRange) -> DemandId {
        self.want(index, Want::Range(range))
    }

    pub(crate) fn connect(&mut self, a: usize, b: usize) -> usize {
        self.links.push(Link {
            ends: [a, b],
            latency: Duration::from_millis(1),
            jitter: Duration::ZERO,
            bandwidth: 100_000_000,
            up: false,
            wires: Default::default(),
            peer: PeerId(0),
        });
        let link = self.links.len() - 1;
        self.open(link);
        link
    }

    pub(crate) fn open(&mut self, link: usize) {
        let link = &mut self.links[link];
        if link.up {
            return;
        }
        self.next_peer += 1;
        link.peer = PeerId(self.next_peer);
        link.up = true;
        link.wires = Default::default();
        for end in link.ends {
            let node = &mut self.nodes[end];
            node.replicator.open_peer(link.peer, &mut node.core, &mut node.demand, self.now);
        }
    }

    pub(crate) fn cut(&mut self, link: usize, by: Option<usize>) {
        let link = &mut self.links[link];
        if !link.up {
            return;
        }
        link.up = false;
        link.wires = Default::default();
        for end in link.ends {
            let node = &mut self.nodes[end];
            let is_remote = by.is_some_and(|by| by != end);
            node.replicator.close_peer(link.peer, is_remote, &mut node.core, &mut node.demand, self.now);
        }
    }

    /// Runs until `done`, or until nothing happens any more, or `limit` has passed. Returns whether it is done.
    pub(crate) fn run(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            self.pump();
            if done(self) {
                return true;
            }
            let arrivals = self.links.iter().filter(|link| link.up).flat_map(|link| {
                link.wires.iter().filter_map(|wire| wire.messages.front().map(|(at, ..)| *at))
            });
            let deadlines = self.nodes.iter().filter_map(|node| node.replicator.next_deadline());
            let Some(next) = arrivals.chain(deadlines).min() else { return false };
            if next > end {
                return false;
            }
            self.steps += 1;
            assert!(self.steps < 2_000_000, "it never comes to rest");
            self.now = self.now.max(next);
            self.deliver();
            for node in &mut self.nodes {
                if node.replicator.next_deadline().is_some_and(|at| at <= self.now) {
                    node.replicator.handle_timeout(&mut node.core, &mut node.demand, self.now);
                    let left = node.replicator.next_deadline();
                    assert!(left.is_none_or(|at| at > self.now), "a deadline does not pass");
                }
            }
        }
    }

    /// Hands over what has arrived: everything of one direction in one burst.
    fn deliver(&mut self) {
        for at in 0..self.links.len() {
            for direction in 0..2 {
                let link = &mut self.links[at];
                let mut burst = Vec::new();
                let wire = &mut link.wires[direction];
                while let Some((_, size, message)) =
                    wire.messages.pop_front_if(|(arrives, ..)| *arrives <= self.now)
                {
                    wire.bytes -= size;
                    burst.push(message);
                }
                if burst.is_empty() || !link.up {
                    continue;
                }
                let (from, to) = (link.ends[direction], link.ends[1 - direction]);
                let peer = link.peer;
                if self.trace {
                    for message in &burst {
                        eprintln!("{:?} {from}->{to} {}", self.now - self.started, short(message));
                    }
                }
                let node = &mut self.nodes[to];
                node.replicator.handle(peer, burst, &mut node.core, &mut node.demand, self.now);
                if self.trace {
                    let core = &node.core;
                    let (fork, length, contiguous) = (core.fork(), core.length(), core.contiguous_length());
                    eprintln!("  {to} is at fork {fork}, length {length}, contiguous length {contiguous}");
                }
            }
        }
    }

    /// Puts a message on the wire that no replicator has made.
    fn inject(&mut self, link: usize, direction: usize, message: Message) {
        let link = &mut self.links[link];
        let wire = &mut link.wires[direction];
        let size = size_of(&message);
        let last = wire.messages.back().map_or(self.now, |(at, ..)| *at);
        wire.messages.push_back(((self.now + link.latency).max(last), size, message));
        wire.bytes += size;
    }

    /// Puts on the wires what nodes have to say, and does what they want done.
    fn pump(&mut self) {
        for at in 0..self.links.len() {
            for direction in 0..2 {
                let node = &self.nodes[self.links[at].ends[direction]];
                if self.links[at].up && matches!(node.behaviour, Behaviour::Mad) && node.sent < 2_000 {
                    for _ in 0..self.random.below(4) {
                        let message = crate::nonsense::message(&mut self.random);
                        self.nodes[self.links[at].ends[direction]].sent += 1;
                        self.inject(at, direction, message);
                    }
                }
            }
        }
        self.transmit();
    }

    fn transmit(&mut self) {
        for at in 0..self.links.len() {
            for direction in 0..2 {
                let link = &mut self.links[at];
                if !link.up {
                    continue;
                }
                let node = &mut self.nodes[link.ends[direction]];
                let wire = &mut link.wires[direction];
                node.replicator.set_writable(link.peer, wire.bytes < WRITABLE);
                while wire.bytes < WRITABLE
                    && let Some(message) = node.replicator.poll_transmit_to(link.peer, &mut node.core)
                {
                    let mut pause = Duration::ZERO;
                    let message = match (&node.behaviour, message) {
                        (Behaviour::Silent, Message::Data(_) | Message::NoData(_)) => continue,
                        (Behaviour::Slow(each), message @ Message::Data(_)) => {
                            pause = *each;
                            message
                        }
                        (Behaviour::Liar(lie), Message::Data(data)) => {
                            let data = lie.tell(data, &mut self.random);
                            let Some(data) = data else { continue };
                            Message::Data(data)
                        }
                        (_, message) => message,
                    };
                    let overtakes = matches!(node.behaviour, Behaviour::Hasty)
                        && matches!(message, Message::Data(_))
                        && self.random.chance(20);
                    node.sent += 1;
                    let size = size_of(&message);
                    let sent = wire.busy_until.map_or(self.now, |busy| busy.max(self.now)) + pause;
                    let took = Duration::from_nanos(size as u64 * 1_000_000_000 / link.bandwidth);
                    let jitter = self.random.below(link.jitter.as_micros() as u64 + 1);
                    let last = wire.messages.back().map_or(self.now, |(at, ..)| *at);
                    wire.busy_until = Some(sent + took);
                    let arrives = sent + took + link.latency + Duration::from_micros(jitter);
                    wire.messages.push_back((arrives.max(last), size, message));
                    wire.bytes += size;
                    if overtakes {
                        overtake(&mut wire.messages, self.random.below(20) as usize);
                    }
                }
            }
        }
        for index in 0..self.nodes.len() {
            while self.nodes[index].replicator.poll_ready().is_some() {}
            while let Some(event) = self.nodes[index].replicator.poll_event() {
                if self.trace {
                    eprintln!("{:?} {index} {event:?}", self.now - self.started);
                }
                if let Event::Close { peer, reason } = &event {
                    let link = self.links.iter().position(|link| link.up && link.peer == *peer);
                    if let Some(link) = link {
                        self.close(link, index, reason);
                    }
                }
                self.nodes[index].events.push(event);
            }
        }
    }

    /// One side closes: what it sent before still arrives.
    fn close(&mut self, link: usize, by: usize, reason: &CloseReason) {
        let peer = self.links[link].peer;
        let other = self.links[link].ends[usize::from(self.links[link].ends[0] == by)];
        let direction = usize::from(self.links[link].ends[0] != by);
        let wire = &mut self.links[link].wires[direction];
        let mut last: Vec<Message> = wire.messages.drain(..).map(|(_, _, message)| message).collect();
        let node = &mut self.nodes[by];
        while let Some(message) = node.replicator.poll_transmit_to(peer, &mut node.core) {
            last.push(message);
        }
        if *reason == CloseReason::Conflict {
            let node = &mut self.nodes[other];
            node.replicator.handle(peer, last, &mut node.core, &mut node.demand, self.now);
        }
        self.cut(link, Some(by));
    }
}

/// Moves the last answer in front of earlier ones; the times of arrival stay as they are.
fn overtake(messages: &mut VecDeque<(Instant, usize, Message)>, places: usize) {
    for at in (messages.len().saturating_sub(places)..messages.len()).rev() {
        let (Some(before), Some(last)) = (at.checked_sub(1), messages.get(at)) else { return };
        let swaps = matches!(last.2, Message::Data(_)) && matches!(messages[before].2, Message::Data(_));
        if !swaps {
            return;
        }
        let (earlier, later) = (messages[before].0, messages[at].0);
        messages.swap(before, at);
        (messages[before].0, messages[at].0) = (earlier, later);
    }
}

/// What a block of a fork holds.
pub(crate) fn block(index: u64, fork: u64) -> Bytes {
    let length = (index * 31 + fork * 7) % 97;
    format!("{fork}/{index}/{}", "x".repeat(length as usize)).into()
}

fn size_of(message: &Message) -> usize {
    match message {
        Message::Data(Data { proof, .. }) => {
            let nodes = proof.block.as_ref().map_or(0, |block| block.nodes.len())
                + proof.hash.as_ref().map_or(0, |hash| hash.nodes.len())
                + proof.upgrade.as_ref().map_or(0, |upgrade| upgrade.nodes.len() + 2);
            proof.block.as_ref().map_or(0, |block| block.value.len()) + nodes * 40 + 8
        }
        Message::Bitfield(bitfield) => bitfield.bitfield.len() + 8,
        Message::Extension(extension) => extension.message.len() + extension.name.len() + 2,
        _ => 8,
    }
}

fn short(message: &Message) -> String {
    let mut text = format!("{message:?}");
    text.truncate(300);
    text
}
