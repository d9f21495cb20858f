//! A replicator between local users who want and change things and peers who send anything at any time.
//!
//! The input is a list of steps. A peer may answer what it was really asked, as it is or with changed bytes, so that
//! the fuzzer gets past the proofs. Whatever happens, the log holds what its writer once wrote, a writer's log is its
//! own affair, and nothing waits beyond its bound.
#![no_main]

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use compact_codec::Writer;
use hypercore::core::{Core, CoreOptions};
use hypercore::demand::{Demand, DownloadRange, Reply, Want, WantOptions};
use hypercore::storage::Database;
use hypercore::{KeyPair, Proof};
use hypercore_protocol::messages::{Data, Request, Synchronize};
use hypercore_protocol::{Kind, Message};
use hypercore_replicator::{Event, Options, PeerId, Replicator};
use libfuzzer_sys::fuzz_target;

const PEERS: u64 = 3;
/// Steps of one input.
const MAX_STEPS: usize = 256;
/// The log stays small, so that steps are many.
const MAX_LENGTH: u64 = 300;
/// Requests of ours that a peer may answer later.
const MAX_ASKED: usize = 64;
/// More than this at once is never sent: bounds of a peer's window, its queues and the answers to its own wants.
const MAX_MESSAGES: usize = 16_384;
/// Requests that a peer may have to answer at the same time, whatever it says.
const MAX_WINDOW: usize = 2_048;

fuzz_target!(|data: &[u8]| {
    let Some((&shape, rest)) = data.split_first() else { return };
    let mut input = Input(rest);
    let mut world = World::new(shape);
    for _ in 0..MAX_STEPS {
        let Some(step) = input.byte() else { break };
        world.step(step, &mut input);
        world.settle();
    }
    world.check();
});

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn small(&mut self) -> u64 {
        u64::from(self.byte().unwrap_or(0))
    }

    /// Small numbers, and those at which arithmetic goes wrong.
    fn number(&mut self) -> u64 {
        match self.small() {
            small @ 0..=199 => small,
            shift @ 200..=240 => 1 << (shift - 190),
            large => u64::MAX - (large - 241),
        }
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

struct World {
    /// The writer's log. The local one, too, unless there is a reader.
    writer: Core,
    reader: Option<Core>,
    /// What the writer had written before it cut its log, by fork.
    histories: BTreeMap<u64, Vec<Bytes>>,
    demand: Demand,
    replies: VecDeque<Reply>,
    replicator: Replicator,
    asked: BTreeMap<PeerId, VecDeque<Request>>,
    now: Instant,
}

impl World {
    fn new(shape: u8) -> Self {
        let options = CoreOptions { key_pair: Some(KeyPair::from_seed(&[1; 32])), ..CoreOptions::default() };
        let writer = Core::open(&Database::memory(), options).expect("a writer opens");
        let reader = (shape & 1 == 0).then(|| {
            let options = CoreOptions { key: Some(writer.key()), ..CoreOptions::default() };
            Core::open(&Database::memory(), options).expect("a reader opens")
        });
        let options = Options { allow_push: shape & 2 != 0, seed: shape.into(), ..Options::default() };
        let mut world = Self {
            writer,
            reader,
            histories: BTreeMap::from([(0, Vec::new())]),
            demand: Demand::new(),
            replies: VecDeque::new(),
            replicator: Replicator::new(options),
            asked: BTreeMap::new(),
            now: Instant::now(),
        };
        world.append(u64::from(shape >> 2));
        world
    }

    fn append(&mut self, count: u64) {
        let length = self.writer.length();
        let range = length..(length + count).min(MAX_LENGTH);
        let blocks: Vec<Bytes> = range.map(|index| vec![index as u8; index as usize % 9].into()).collect();
        if !blocks.is_empty() {
            self.writer.append(&blocks).expect("memory takes everything");
            self.histories.entry(self.writer.fork()).or_default().extend(blocks);
        }
    }

    fn step(&mut self, step: u8, input: &mut Input<'_>) {
        let peer = PeerId(u64::from(step >> 6) % PEERS);
        match step & 0x3f {
            0..=12 => self.remote_message(peer, step & 0x3f, input),
            13..=24 => self.answer(peer, input),
            25 | 26 => self.honest_state(peer),
            27..=29 => self.changed(|world, core| world.open(peer, core)),
            30 => self.changed(|world, core| {
                world.asked.remove(&peer);
                world.replicator.close_peer(peer, true, core, world.demand, world.now);
            }),
            31..=33 => {
                self.now += Duration::from_millis(1 << (input.small() % 18));
                self.timeouts();
            }
            34..=40 => self.want(input),
            41 => {
                // Its owner is gone.
                self.replies.pop_front();
            }
            42 => {
                let in_use = input.small() & 1 != 0;
                self.changed(|world, core| {
                    world.replicator.set_downloading(in_use, core, world.demand, world.now);
                });
            }
            43 => {
                let finding = input.small() & 1 != 0;
                self.changed(|world, core| {
                    world.replicator.set_finding_peers(finding, core, world.demand, world.now);
                });
            }
            44 => self.replicator.set_writable(peer, input.small() & 1 != 0),
            45 => self.replicator.channel_opening(self.now),
            46 => self.changed(|world, core| {
                world.replicator.channel_answered(core, world.demand, world.now);
            }),
            47 => {
                let message = Bytes::copy_from_slice(input.bytes(8));
                self.replicator.extension(peer, "x", message.clone());
                self.replicator.broadcast_extension("y", &message);
            }
            48..=50 => self.append(input.small() % 40),
            51 => self.truncate(input.small()),
            52 => {
                let (start, count) = (input.small(), input.small() % 16);
                let core = self.reader.as_mut().unwrap_or(&mut self.writer);
                let _ = core.clear(start..start + count);
            }
            _ => self.transmit(peer),
        }
    }

    /// Something of the local side, after which the replicator is told.
    fn changed(&mut self, change: impl FnOnce(&mut WorldParts<'_>, &mut Core)) {
        let core = self.reader.as_mut().unwrap_or(&mut self.writer);
        let mut parts = WorldParts {
            replicator: &mut self.replicator,
            demand: &mut self.demand,
            asked: &mut self.asked,
            now: self.now,
        };
        change(&mut parts, core);
    }

    fn truncate(&mut self, length: u64) {
        let fork = self.writer.fork();
        if self.writer.length() > length && fork < 8 && self.writer.truncate(length).is_ok() {
            let mut kept = self.histories[&fork].clone();
            kept.truncate(length as usize);
            self.histories.insert(self.writer.fork(), kept);
        }
    }

    fn remote_message(&mut self, peer: PeerId, kind: u8, input: &mut Input<'_>) {
        let length = usize::from(input.byte().unwrap_or(0) & 0x7f);
        let bytes = Bytes::copy_from_slice(input.bytes(length));
        let Some(kind) = Kind::from_wire(u32::from(kind)) else { return };
        if let Ok(message) = Message::decode(kind, bytes) {
            self.handle(peer, vec![message]);
        }
    }

    fn handle(&mut self, peer: PeerId, messages: Vec<Message>) {
        self.changed(|world, core| {
            world.replicator.handle(peer, messages, core, world.demand, world.now);
        });
    }

    /// What a peer with all of the writer's log says of itself.
    fn honest_state(&mut self, peer: PeerId) {
        let (fork, length) = (self.writer.fork(), self.writer.length());
        let state = Synchronize {
            fork,
            length,
            can_upgrade: true,
            uploading: true,
            downloading: true,
            has_manifest: true,
            ..Synchronize::default()
        };
        let has = hypercore_protocol::messages::Range { drop: false, start: 0, length };
        self.handle(peer, vec![Message::Synchronize(state), Message::Range(has)]);
    }

    /// Answers one of the requests that we made, and maybe changes the answer.
    fn answer(&mut self, peer: PeerId, input: &mut Input<'_>) {
        let (which, changes) = (input.small() as usize, input.small() % 8);
        let Some(asked) = self.asked.get_mut(&peer).filter(|asked| !asked.is_empty()) else { return };
        let Some(request) = asked.remove(which % asked.len()) else { return };
        let Ok(proof) = self.writer.prove(&request.proof) else { return };
        // Most answers are as they should be.
        let changes = changes.saturating_sub(4);
        if let Some(proof) = spoil(proof, changes, input) {
            self.handle(peer, vec![Message::Data(Data { request: request.id, proof })]);
        }
    }

    fn want(&mut self, input: &mut Input<'_>) {
        let options =
            WantOptions { priority: input.byte().unwrap_or(0) % 4, if_available: input.small() & 1 != 0 };
        let want = match input.small() % 5 {
            0 => Want::Block { index: input.number() },
            1 => Want::Range(DownloadRange::new(input.number(), input.number())),
            2 => Want::Range(DownloadRange::live(input.number()).linear()),
            3 => Want::Seek { bytes: input.number(), padding: input.small() % 3 },
            _ => {
                let core = self.reader.as_ref().unwrap_or(&self.writer);
                Want::Upgrade { length: core.length(), fork: core.fork() }
            }
        };
        if let Ok((_, reply)) = self.demand.add(want, options) {
            self.replies.push_back(reply);
        }
    }

    fn transmit(&mut self, peer: PeerId) {
        let core = self.reader.as_mut().unwrap_or(&mut self.writer);
        let asked = self.asked.entry(peer).or_default();
        let mut count = 0;
        while let Some(message) = self.replicator.poll_transmit_to(peer, core) {
            count += 1;
            assert!(count <= MAX_MESSAGES, "messages without end");
            match message {
                Message::Request(request) if asked.len() < MAX_ASKED => asked.push_back(request),
                Message::Cancel(cancel) => asked.retain(|request| request.id != cancel.request),
                _ => {}
            }
        }
    }

    fn timeouts(&mut self) {
        // A deadline that has passed is served, and is not there again for the same moment.
        for _ in 0..64 {
            if self.replicator.next_deadline().is_none_or(|at| at > self.now) {
                return;
            }
            self.changed(|world, core| world.replicator.handle_timeout(core, world.demand, world.now));
        }
        panic!("a deadline that cannot be served");
    }

    /// What a driver does after every call.
    fn settle(&mut self) {
        self.changed(|world, core| world.replicator.core_changed(core, world.demand, world.now));
        while let Some(event) = self.replicator.poll_event() {
            match event {
                Event::Close { peer, .. } => {
                    self.transmit(peer);
                    self.asked.remove(&peer);
                    self.changed(|world, core| {
                        world.replicator.close_peer(peer, false, core, world.demand, world.now);
                    });
                }
                Event::Conflict(conflict) => panic!("nobody signed two histories: {conflict:?}"),
                Event::StorageFailed { reason, .. } => panic!("memory failed: {reason}"),
                _ => {}
            }
        }
        while self.replicator.poll_ready().is_some() {}
        for peer in self.replicator.peers() {
            assert!(peer.in_flight <= MAX_WINDOW && peer.window <= MAX_WINDOW, "{peer:?}");
        }
        assert!(self.replicator.peer_count() <= PEERS as usize);
    }

    /// The log is what its writer wrote.
    fn check(&self) {
        let core = self.reader.as_ref().unwrap_or(&self.writer);
        assert!(!core.frozen());
        let written = self.histories.get(&core.fork()).expect("the fork is one of the writer's");
        assert!(core.length() <= written.len() as u64);
        for index in 0..core.length() {
            if let Some(block) = core.get(index).expect("memory can be read") {
                assert_eq!(block, written[index as usize]);
            }
        }
        if self.reader.is_none() {
            assert_eq!(core.length(), written.len() as u64, "peers do not change a writer's log");
        }
        if core.fork() == self.writer.fork() && core.length() > 0 && core.length() <= self.writer.length() {
            let hash = self.writer.tree_hash_at(core.length()).expect("the writer has its tree");
            assert_eq!(core.tree_hash(), hash);
        }
    }
}

/// What a change needs beside the log.
struct WorldParts<'a> {
    replicator: &'a mut Replicator,
    demand: &'a mut Demand,
    asked: &'a mut BTreeMap<PeerId, VecDeque<Request>>,
    now: Instant,
}

impl WorldParts<'_> {
    fn open(&mut self, peer: PeerId, core: &mut Core) {
        self.replicator.open_peer(peer, core, self.demand, self.now);
    }
}

/// The proof with some of its encoded bytes changed, if it can still be decoded.
fn spoil(honest: Proof, changes: u64, input: &mut Input<'_>) -> Option<Proof> {
    if changes == 0 {
        return Some(honest);
    }
    let mut writer = Writer::new();
    Message::Data(Data { request: 1, proof: honest }).encode_into(&mut writer);
    let mut bytes = writer.into_inner();
    for _ in 0..changes {
        let at = (input.small() << 8 | input.small()) as usize % bytes.len();
        bytes[at] ^= input.byte().unwrap_or(1);
    }
    match Message::decode(Kind::Data, bytes.freeze()) {
        Ok(Message::Data(data)) => Some(data.proof),
        _ => None,
    }
}
