//! Following a writer to another fork (npm `hypercore` 11.37.1: `_updateFork`, `_onreorgdata`, `_requestForkRange`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use hypercore::ReceiveError;
use hypercore::core::{Core, Reorg};
use hypercore::proof::{Proof, ProofRequest, RequestBlock, RequestUpgrade};

use crate::events::CloseReason;
use crate::in_flight::Pending;
use crate::peer::PeerId;
use crate::replicator::Replicator;
use crate::schedule::{MAX_SPAN, MAX_UNSENT};

/// Answers after which the search for the common start is given up. It halves a range each time.
const MAX_STEPS: u32 = 512;

/// Forks newer than ours that peers have shown. Anybody can name any number: what is not verified is kept only as long as
/// a peer names it, so that there is at most one such attempt for each peer, and goes before nothing.
#[derive(Debug, Default)]
pub(crate) struct Reorgs {
    attempts: BTreeMap<u64, Attempt>,
}

#[derive(Debug, Default)]
struct Attempt {
    /// Set once the signed roots of the fork are here.
    reorg: Option<Reorg>,
    in_flight: bool,
    /// Peers that would not or could not prove it.
    refused: BTreeSet<PeerId>,
    steps: u32,
}

/// What there is to be had from a peer that is on a newer fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Somebody was asked.
    InFlight,
    /// It has nothing that it could be asked for.
    Resting,
    /// It would not or could not prove it, or the fork is not to be followed.
    Hopeless,
}

impl Reorgs {
    pub(crate) fn progress(&self, fork: u64, id: PeerId) -> Progress {
        match self.attempts.get(&fork) {
            Some(attempt) if attempt.in_flight => Progress::InFlight,
            Some(attempt) if !attempt.refused.contains(&id) => Progress::Resting,
            _ => Progress::Hopeless,
        }
    }

    /// Nothing up to this fork matters any more.
    pub(crate) fn forget(&mut self, fork: u64) {
        self.attempts.retain(|number, _| *number > fork);
        // The trees were compared with the old one.
        for attempt in self.attempts.values_mut() {
            attempt.reorg = None;
        }
    }

    /// A request came to an end.
    pub(crate) fn answered(&mut self, fork: u64) {
        if let Some(attempt) = self.attempts.get_mut(&fork) {
            attempt.in_flight = false;
        }
    }

    pub(crate) fn refused(&mut self, fork: u64, id: PeerId) {
        if let Some(attempt) = self.attempts.get_mut(&fork) {
            attempt.refused.insert(id);
        }
    }

    /// A peer has news and may be asked again.
    pub(crate) fn forgive(&mut self, fork: u64, id: PeerId) {
        if let Some(attempt) = self.attempts.get_mut(&fork) {
            attempt.refused.remove(&id);
        }
    }

    /// A peer does not show this fork any more; nobody else does either unless `is_shown`.
    fn left(&mut self, fork: u64, id: PeerId, is_shown: bool) {
        let Some(attempt) = self.attempts.get_mut(&fork) else { return };
        attempt.refused.remove(&id);
        // What is verified is true, whoever goes on with it.
        if !is_shown && attempt.reorg.is_none() {
            self.attempts.remove(&fork);
        }
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.attempts.values().any(|attempt| attempt.in_flight)
    }

    fn attempt(&mut self, fork: u64) -> Option<&mut Attempt> {
        // A fork whose roots are verified goes before every older one.
        let newer = fork.checked_add(1)?;
        if self.attempts.range(newer..).any(|(_, attempt)| attempt.reorg.is_some()) {
            return None;
        }
        Some(self.attempts.entry(fork).or_default())
    }
}

impl Replicator {
    /// A peer is gone, or on another fork than this one.
    pub(crate) fn left_fork(&mut self, id: PeerId, fork: u64) {
        let is_shown = self.peers.values().any(|peer| !peer.closing && peer.remote.fork == fork);
        self.reorgs.left(fork, id, is_shown);
    }

    /// Asks a peer that is on a newer fork for its roots, or for what the search needs next.
    pub(crate) fn schedule_fork(&mut self, id: PeerId, core: &Core, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let (fork, length) = (peer.remote.fork, peer.remote.length);
        if !self.options.allow_fork || fork <= core.fork() || length == 0 {
            return;
        }
        // It may name one fork after the other, and read nothing.
        if peer.outbox.len() >= MAX_UNSENT || peer.span() >= MAX_SPAN {
            return;
        }
        let Some(attempt) = self.reorgs.attempt(fork) else { return };
        if attempt.in_flight || attempt.refused.contains(&id) {
            return;
        }
        let mut proof = ProofRequest { manifest: !core.has_manifest(), ..ProofRequest::default() };
        match attempt.reorg.as_ref().map(Reorg::want) {
            None => proof.upgrade = Some(RequestUpgrade { start: 0, length }),
            Some(None) => return,
            Some(Some(want)) => {
                let width = 1u64.checked_shl(u32::try_from(want.nodes).unwrap_or(u32::MAX)).unwrap_or(0);
                if want.start.saturating_add(width) > length {
                    return; // its tree has no such node
                }
                let end = want.end.min(length);
                let span = end.saturating_sub(want.start);
                let from = want.start.saturating_add(self.random.below(span));
                let found =
                    peer.blocks.next_set(from, end).or_else(|| peer.blocks.next_set(want.start, from));
                let Some(index) = found else {
                    Self::want_range(peer, want.start, end, now);
                    return;
                };
                proof.hash = Some(RequestBlock { index: index.saturating_mul(2), nodes: want.nodes });
            }
        }
        attempt.in_flight = true;
        let pending = Pending {
            sent: now,
            fork,
            block: None,
            hash: proof.hash.map(|hash| hash.index),
            seek: None,
            upgrade: proof.upgrade.is_some(),
            manifest: proof.manifest,
            reorg: true,
        };
        self.send(id, pending, proof, 0, now);
    }

    /// Goes on with the search for the common start of both forks.
    pub(crate) fn on_reorg_data(&mut self, id: PeerId, pending: &Pending, proof: Proof, core: &mut Core) {
        if proof.fork <= core.fork() || proof.fork != pending.fork {
            return;
        }
        match self.advance_reorg(id, &proof, core) {
            Ok(()) => {}
            Err(ReceiveError::BadPeer(reason)) => {
                self.stats.invalid += 1;
                self.reorgs.refused(pending.fork, id);
                self.close(id, CloseReason::Misbehaved(reason));
            }
            Err(ReceiveError::Stale(reason)) => {
                tracing::trace!(?id, reason, "stale fork");
                self.stats.stale += 1;
                self.reorgs.refused(pending.fork, id);
            }
            Err(error) => {
                tracing::warn!(%error, "a fork could not be followed");
                self.reorgs.refused(pending.fork, id);
            }
        }
        self.all_hungry();
    }

    fn advance_reorg(&mut self, id: PeerId, proof: &Proof, core: &mut Core) -> Result<(), ReceiveError> {
        let fork = proof.fork;
        // Without one, nobody shows the fork any more.
        let Some(attempt) = self.reorgs.attempts.get_mut(&fork) else { return Ok(()) };
        attempt.steps += 1;
        if attempt.steps > MAX_STEPS {
            attempt.refused.insert(id);
            return Ok(());
        }
        match &mut attempt.reorg {
            Some(reorg) => {
                let before = reorg.want();
                core.update_reorg(reorg, proof)?;
                if reorg.want() == before {
                    return Err(ReceiveError::Stale("the answer leads no further".to_owned()));
                }
            }
            None if proof.upgrade.is_some() => {
                attempt.reorg = Some(core.begin_reorg(proof)?);
                attempt.steps = 0;
                // Verified: older forks are no goal any more.
                self.reorgs.attempts.retain(|number, _| *number >= fork);
            }
            None => return Err(ReceiveError::Stale("the answer has no upgrade".to_owned())),
        }
        self.commit_reorg(fork, core)
    }

    fn commit_reorg(&mut self, fork: u64, core: &mut Core) -> Result<(), ReceiveError> {
        let wanted = self.options.eager_upgrade || !self.wishes.upgrades.is_empty();
        let Some(attempt) = self.reorgs.attempts.get_mut(&fork) else { return Ok(()) };
        if !wanted || !attempt.reorg.as_ref().is_some_and(Reorg::is_finished) {
            return Ok(());
        }
        let Some(reorg) = attempt.reorg.take() else { return Ok(()) };
        if !core.commit_reorg(reorg)? {
            // The log changed meanwhile: the search starts anew.
            attempt.steps = 0;
        }
        Ok(())
    }

    /// Takes up forks that were found while nobody wanted to follow.
    pub(crate) fn commit_waiting_reorg(&mut self, core: &mut Core) -> bool {
        let finished = self
            .reorgs
            .attempts
            .iter()
            .rev()
            .find(|(_, attempt)| attempt.reorg.as_ref().is_some_and(Reorg::is_finished));
        let Some((fork, _)) = finished else { return false };
        let fork = *fork;
        let before = core.fork();
        if let Err(error) = self.commit_reorg(fork, core) {
            tracing::warn!(%error, "a fork could not be followed");
        }
        core.fork() != before
    }
}
