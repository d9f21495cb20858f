//! Those who wait for a round of discovery to end, and then, if they like, for every peer that was found to have
//! been dialled.

use std::collections::{HashMap, HashSet, VecDeque};

use super::{Action, Swarm, WaiterId};
use crate::PublicKey;

/// Beyond so many, whoever waits is told at once that it was in vain.
const MAX_WAITERS: usize = 262_144;

#[derive(Debug, Default)]
pub(super) struct Waiting {
    waiters: HashMap<WaiterId, Waiter>,
    /// How many of them wait for peers.
    for_peers: usize,
}

#[derive(Debug)]
struct Waiter {
    /// Rounds that are not over.
    rounds: usize,
    then_peers: bool,
    peers: Option<HashSet<PublicKey>>,
    ok: bool,
}

impl Waiting {
    /// Somebody waits for rounds: one for being counted (to be ended by whoever counts), and those that are added.
    pub(super) fn rounds(&mut self, id: WaiterId, then_peers: bool) {
        self.waiters.insert(id, Waiter { rounds: 1, then_peers, peers: None, ok: true });
    }

    /// One more round.
    pub(super) fn more(&mut self, id: WaiterId) {
        if let Some(waiter) = self.waiters.get_mut(&id) {
            waiter.rounds += 1;
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiters.len() >= MAX_WAITERS
    }

    /// Nobody will be dialled any more.
    pub(super) fn fail_peers(&mut self, actions: &mut VecDeque<Action>) {
        self.end_peers(actions, false);
    }

    fn end_peers(&mut self, actions: &mut VecDeque<Action>, ok: bool) {
        if self.for_peers == 0 {
            return;
        }
        self.for_peers = 0;
        self.waiters.retain(|id, waiter| {
            let waits = waiter.peers.is_some();
            if waits {
                actions.push_back(Action::Done { waiter: *id, ok: ok && waiter.ok });
            }
            !waits
        });
    }
}

impl Swarm {
    /// A round that this waiter waited for is over.
    pub(super) fn waiting_round_over(&mut self, id: WaiterId, ok: bool) {
        let Some(waiter) = self.waiting.waiters.get_mut(&id) else { return };
        waiter.ok &= ok;
        waiter.rounds = waiter.rounds.saturating_sub(1);
        if waiter.rounds > 0 {
            return;
        }
        let (ok, then_peers) = (waiter.ok, waiter.then_peers);
        let peers: HashSet<PublicKey> = if then_peers && !self.everybody_was_dialled() {
            let dialling = self.connections.values().filter(|connection| !connection.open);
            self.queue.iter().copied().chain(dialling.map(|connection| connection.public_key)).collect()
        } else {
            HashSet::new()
        };
        if peers.is_empty() {
            self.waiting.waiters.remove(&id);
            self.actions.push_back(Action::Done { waiter: id, ok });
        } else if let Some(waiter) = self.waiting.waiters.get_mut(&id) {
            waiter.peers = Some(peers);
            self.waiting.for_peers += 1;
        }
    }

    /// An attempt at this peer has come to its end, or will not be made.
    pub(super) fn waiting_peer_over(&mut self, key: &PublicKey) {
        if self.waiting.for_peers == 0 {
            return;
        }
        let (actions, for_peers) = (&mut self.actions, &mut self.waiting.for_peers);
        self.waiting.waiters.retain(|id, waiter| {
            let Some(peers) = &mut waiter.peers else { return true };
            peers.remove(key);
            if peers.is_empty() {
                *for_peers -= 1;
                actions.push_back(Action::Done { waiter: *id, ok: waiter.ok });
                return false;
            }
            true
        });
    }

    /// Ends the wait for peers when nobody is dialled now and nobody may be.
    pub(super) fn waiting_maybe_over(&mut self) {
        if self.everybody_was_dialled() {
            self.waiting.end_peers(&mut self.actions, true);
        }
    }

    fn everybody_was_dialled(&self) -> bool {
        self.dialling == 0 && (self.queue.is_empty() || !self.may_have_more())
    }
}
