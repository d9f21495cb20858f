//! One side of a replication, driven by hand.

// Each test file uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::time::Instant;

use bytes::Bytes;
use hypercore::demand::Demand;
use hypercore::storage::Database;
use hypercore::{Core, CoreOptions};
use hypercore_protocol::Message;
use hypercore_replicator::{Event, Options, PeerId, Replicator};

pub struct Side {
    pub core: Core,
    pub demand: Demand,
    pub replicator: Replicator,
    pub now: Instant,
}

impl Side {
    pub fn new(core: Core, options: Options) -> Self {
        Self { core, demand: Demand::new(), replicator: Replicator::new(options), now: Instant::now() }
    }

    pub fn writer(blocks: usize) -> Self {
        let mut core = Core::open(&Database::memory(), CoreOptions::default()).unwrap();
        let blocks: Vec<Bytes> = (0..blocks).map(|index| format!("block {index}").into()).collect();
        core.append(&blocks).unwrap();
        Self::new(core, Options::default())
    }

    pub fn reader(writer: &Self, options: Options) -> Self {
        let options_of_core = CoreOptions { key: Some(writer.core.key()), ..CoreOptions::default() };
        Self::new(Core::open(&Database::memory(), options_of_core).unwrap(), options)
    }

    pub fn open(&mut self, peer: PeerId) {
        self.replicator.open_peer(peer, &mut self.core, &mut self.demand, self.now);
    }

    pub fn handle(&mut self, peer: PeerId, messages: Vec<Message>) {
        self.replicator.handle(peer, messages, &mut self.core, &mut self.demand, self.now);
    }

    pub fn changed(&mut self) {
        self.replicator.core_changed(&mut self.core, &mut self.demand, self.now);
    }

    pub fn transmit(&mut self, peer: PeerId) -> Vec<Message> {
        std::iter::from_fn(|| self.replicator.poll_transmit_to(peer, &mut self.core)).collect()
    }

    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.replicator.poll_event()).collect()
    }

    pub fn misbehaved(&mut self) -> bool {
        self.events().iter().any(|event| match event {
            Event::Close { reason, .. } => reason.is_misbehaviour(),
            _ => false,
        })
    }
}
