//! When it is certain that nobody has more: the end of an update, and of a get that does not want to wait.

pub(crate) mod echoes;
mod seeks;

use std::time::{Duration, Instant};

use hypercore::Error;
use hypercore::core::Core;
use hypercore::demand::{Demand, DemandId};

use crate::forks::Progress;
use crate::peer::{Peer, PeerId};
use crate::replicator::Replicator;

/// Peers that an update waits for (npm `hypercore` 11: `MAX_PEERS_UPGRADE`).
const MAX_PEERS_UPGRADE: usize = 3;
/// A peer that was asked which blocks it has answers in this time, or has none: JS says nothing when a segment is
/// empty.
const WANT_GRACE: Duration = Duration::from_millis(500);

/// What a peer is to somebody who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hope {
    /// It has it, or may have it soon.
    Yes,
    /// That is known at this time at the latest.
    Until(Instant),
    No,
}

impl Replicator {
    /// Ends updates when the first peers have nothing newer (`_checkUpgradeIfAvailable`), and those that want everybody
    /// asked when nobody has.
    pub(crate) fn settle_upgrades(&mut self, core: &Core, demand: &mut Demand, now: Instant) {
        self.recheck_at = None;
        if self.wishes.upgrades.is_empty() || self.reorgs.is_busy() || self.upgrading.is_some() {
            return;
        }
        let (by_all, by_first): (Vec<DemandId>, Vec<DemandId>) =
            self.wishes.upgrades.keys().partition(|id| self.wishes.upgrades_by_all.contains(id));
        let all = self.peers.len();
        self.recheck_at = self.opening_until(now);
        let unknown = self.waits_for_first_peers(demand, now);
        let mut hopeless = self.hopeless_upgrades(by_first, MAX_PEERS_UPGRADE, unknown, core, now);
        let unknown = self.waits_for_any_peer(demand, now);
        let by_all = self.hopeless_upgrades(by_all, all, unknown, core, now);
        hopeless.extend(self.await_echoes(by_all, |id| *id, core, now));
        for id in hopeless {
            demand.resolve_upgrade(id, false);
        }
    }

    /// These updates, if none of the first `asked` peers has anything newer, and that is known.
    fn hopeless_upgrades(
        &mut self,
        ids: Vec<DemandId>,
        asked: usize,
        unknown: bool,
        core: &Core,
        now: Instant,
    ) -> Vec<DemandId> {
        if ids.is_empty() || unknown {
            return Vec::new();
        }
        match self.best_upgrade_hope(asked, core, now) {
            Hope::No => ids,
            Hope::Yes => Vec::new(),
            Hope::Until(at) => {
                self.recheck_at = earlier(self.recheck_at, at);
                Vec::new()
            }
        }
    }

    fn best_upgrade_hope(&self, asked: usize, core: &Core, now: Instant) -> Hope {
        let mut recheck = None;
        for (id, peer) in self.peers.iter().filter(|(_, peer)| peer.is_active()).take(asked) {
            match self.upgrade_hope(*id, peer, core, now) {
                Hope::Yes => return Hope::Yes,
                Hope::Until(at) => recheck = earlier(recheck, at),
                Hope::No => {}
            }
        }
        recheck.map_or(Hope::No, Hope::Until)
    }

    /// A connection may yet turn out to have a peer of this core.
    fn waits_for_any_peer(&self, demand: &Demand, now: Instant) -> bool {
        self.opening_until(now).is_some() || self.finding_peers || demand.is_finding_peers()
    }

    fn waits_for_first_peers(&self, demand: &Demand, now: Instant) -> bool {
        let finding = self.finding_peers || demand.is_finding_peers();
        let opening = self.opening_until(now).is_some();
        opening && self.peers.len() < MAX_PEERS_UPGRADE || !self.had_peers && finding
    }

    /// Channels were offered and are not answered: until when that may still bring somebody.
    fn opening_until(&self, now: Instant) -> Option<Instant> {
        self.opening_until.filter(|until| self.opening > 0 && *until > now)
    }

    fn upgrade_hope(&self, id: PeerId, peer: &Peer, core: &Core, now: Instant) -> Hope {
        if !peer.synced {
            return until(peer.opened + self.options.patience, now);
        }
        if peer.remote.fork > core.fork() {
            return self.fork_hope(id, peer, now);
        }
        if peer.remote.fork != core.fork() || peer.remote.length <= core.length() {
            return Hope::No;
        }
        if peer.acked != core.length() || peer.remote.can_upgrade { Hope::Yes } else { Hope::No }
    }

    /// How long after it was asked which blocks it has a peer may still say so: distant ones take longer.
    fn grace(&self, peer: &Peer) -> Duration {
        let round_trip =
            peer.download.as_ref().map(|download| download.window.round_trip()).unwrap_or_default();
        WANT_GRACE.max(round_trip.saturating_mul(3)).min(self.options.patience.max(WANT_GRACE))
    }

    /// A newer fork is followed only together with peers that can prove where it leaves ours: hope lasts while one is
    /// asked for that, and while this one may yet say that it has a block to ask for.
    fn fork_hope(&self, id: PeerId, peer: &Peer, now: Instant) -> Hope {
        match self.reorgs.progress(peer.remote.fork, id) {
            Progress::InFlight => Hope::Yes,
            Progress::Resting => peer.asked.map_or(Hope::No, |asked| until(asked + self.grace(peer), now)),
            Progress::Hopeless => Hope::No,
        }
    }

    /// Ends gets that do not want to wait for a peer that may come one day.
    pub(crate) fn settle_if_available(&mut self, core: &Core, demand: &mut Demand, now: Instant) {
        if self.wishes.if_available.is_empty() {
            return;
        }
        let mut recheck = self.recheck_at;
        if let Some(until) = self.opening_until(now) {
            recheck = earlier(recheck, until);
        }
        self.recheck_at = recheck;
        if self.waits_for_any_peer(demand, now) {
            return;
        }
        let mut gone = Vec::new();
        'wants: for (index, id) in &self.wishes.if_available {
            let mut unknown = None;
            for (id, peer) in self.peers.iter().filter(|(_, peer)| peer.is_active()) {
                match self.block_hope(*id, peer, *index, core, now) {
                    Hope::Yes => continue 'wants,
                    Hope::Until(at) => unknown = earlier(unknown, at),
                    Hope::No => {}
                }
            }
            match unknown {
                Some(at) => recheck = earlier(recheck, at),
                None => gone.push((*index, *id)),
            }
        }
        self.recheck_at = recheck;
        for (index, id) in self.await_echoes(gone, |(_, id)| *id, core, now) {
            demand.fail(id, Error::NotAvailable(index));
        }
    }

    fn block_hope(&self, id: PeerId, peer: &Peer, index: u64, core: &Core, now: Instant) -> Hope {
        if !peer.synced {
            return until(peer.opened + self.options.patience, now);
        }
        if peer.remote.fork > core.fork() && peer.remote.length > index {
            return self.fork_hope(id, peer, now);
        }
        if peer.remote.fork != core.fork() || peer.remote.length <= index || !peer.remote.uploading {
            return Hope::No;
        }
        if peer.blocks.get(index) {
            return Hope::Yes;
        }
        match peer.asked.filter(|_| peer.local_wants.has(index)) {
            Some(asked) => until(asked + self.grace(peer), now),
            None if peer.blocks.contiguous_length() >= peer.remote.length => Hope::No,
            None => until(peer.opened + self.options.patience, now),
        }
    }
}

fn until(at: Instant, now: Instant) -> Hope {
    if at > now { Hope::Until(at) } else { Hope::No }
}

fn earlier(one: Option<Instant>, other: Instant) -> Option<Instant> {
    Some(one.map_or(other, |one| one.min(other)))
}
