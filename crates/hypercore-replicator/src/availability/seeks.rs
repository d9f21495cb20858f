//! The same of a seek that does not want to wait: what tells more comes with a block of the range that is left, or with
//! a longer log.

use std::time::Instant;

use hypercore::Error;
use hypercore::core::{Core, Seek};
use hypercore::demand::Demand;

use super::{Hope, earlier, until};
use crate::peer::{Peer, PeerId};
use crate::replicator::Replicator;
use crate::schedule::MAX_SEEK_ATTEMPTS;
use crate::sync::segments_to_ask;

impl Replicator {
    /// Ends seeks that do not want to wait for a peer that may come one day (npm `hypercore` 9, `_ifAvailableSeek`).
    /// Deadlines are added to those of the updates and gets.
    pub(crate) fn settle_seeks(&mut self, core: &Core, demand: &mut Demand, now: Instant) {
        if !self.wishes.seeks.iter().any(|seek| seek.if_available) {
            return;
        }
        if let Some(until) = self.opening_until(now) {
            self.recheck_at = earlier(self.recheck_at, until);
        }
        if self.waits_for_any_peer(demand, now) {
            return;
        }
        let mut gone = Vec::new();
        for seek in self.wishes.seeks.iter().filter(|seek| seek.if_available && !seek.in_flight) {
            let hope = match core.seek(seek.bytes, seek.padding) {
                // It rests, and is not asked for any more.
                _ if seek.attempts >= MAX_SEEK_ATTEMPTS => Hope::No,
                Ok(Seek::Between { start, end }) => self.best_range_hope(start, end, core, now),
                Ok(Seek::Beyond) if self.reorgs.is_busy() || self.upgrading.is_some() => Hope::Yes,
                Ok(Seek::Beyond) => self.best_upgrade_hope(self.peers.len(), core, now),
                // Its owner is told by whoever looks next.
                Ok(Seek::Found { .. }) | Err(_) => Hope::Yes,
            };
            match hope {
                Hope::Yes => {}
                Hope::Until(at) => self.recheck_at = earlier(self.recheck_at, at),
                Hope::No => gone.push((seek.id, seek.bytes)),
            }
        }
        for (id, bytes) in self.await_echoes(gone, |(id, _)| *id, core, now) {
            demand.fail(id, Error::NotAvailable(bytes));
        }
    }

    /// Whether anybody has a block of `start..end`, with which the tree nodes around it come.
    fn best_range_hope(&self, start: u64, end: u64, core: &Core, now: Instant) -> Hope {
        let mut recheck = None;
        for (id, peer) in self.peers.iter().filter(|(_, peer)| peer.is_active()) {
            match self.range_hope(*id, peer, start, end, core, now) {
                Hope::Yes => return Hope::Yes,
                Hope::Until(at) => recheck = earlier(recheck, at),
                Hope::No => {}
            }
        }
        recheck.map_or(Hope::No, Hope::Until)
    }

    fn range_hope(&self, id: PeerId, peer: &Peer, start: u64, end: u64, core: &Core, now: Instant) -> Hope {
        if !peer.synced {
            return until(peer.opened + self.options.patience, now);
        }
        if peer.remote.fork > core.fork() && peer.remote.length > start {
            return self.fork_hope(id, peer, now);
        }
        if peer.remote.fork != core.fork() || peer.remote.length <= start || !peer.remote.uploading {
            return Hope::No;
        }
        if peer.blocks.next_set(start, end.min(peer.valid_end(core))).is_some() {
            return Hope::Yes;
        }
        let known_at = |at| match peer.asked.filter(|_| peer.local_wants.has(at)) {
            Some(asked) => asked + self.grace(peer),
            None => peer.opened + self.options.patience,
        };
        segments_to_ask(peer, start, end).map(known_at).max().map_or(Hope::No, |at| until(at, now))
    }
}
