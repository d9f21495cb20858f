//! Keeping the routing table alive.

use std::net::SocketAddr;
use std::time::Instant;

use super::super::contacts::{Added, Contact};
use super::super::peer::canonical;
use super::super::{NodeId, Peer, Reply, RpcError, node_id};
use super::receive::command;
use super::*;

// Numbers of ticks, all from dht-rpc 6.27.

/// A tick that comes this much late means that the machine slept.
const SLEPT: Duration = Duration::from_secs(15);
/// After about twenty quiet minutes we may become persistent.
pub(super) const STABLE_TICKS: u64 = 240;
/// After a failed attempt, about an hour.
pub(super) const MORE_STABLE_TICKS: u64 = 3 * STABLE_TICKS;
/// Without any query for five minutes we look around.
pub(super) const REFRESH_TICKS: u64 = 60;
/// Heard from in the last minute.
const RECENT: u64 = 12;
/// Known for half an hour.
const OLD: u64 = 360;
/// Nodes of full rows that are asked at once whether they are still there.
const MAX_SWAPS: usize = 3;

impl Node {
    /// Makes a node known.
    pub fn add_node(&mut self, addr: SocketAddr) {
        let addr = canonical(addr);
        if addr.is_ipv4() && addr.port() != 0 {
            self.insert(None, Contact::new(node_id(addr), addr, None));
        }
    }

    /// The machine slept (or the network changed altogether): everything that we know may be wrong.
    pub fn wake_up(&mut self, now: Instant) {
        // Everything is old, and is looked at in two ticks: nodes are pinged in every eighth.
        self.tick = ((self.tick + 2 * OLD) & !7) + 6;
        self.stable_ticks = MORE_STABLE_TICKS;
        self.refresh_ticks = 1;
        self.checked_host = None;
        self.forget_resolved();
        if self.health.reset() {
            self.emit(NodeEvent::NetworkUpdate(true, false));
        }
        if self.is_adaptive() && !self.ephemeral {
            self.ephemeral = true;
            self.emit(NodeEvent::Ephemeral);
        }
        self.next_tick = now + TICK;
        self.emit(NodeEvent::Wakeup);
    }

    pub(super) fn on_tick(&mut self, now: Instant) {
        if now.saturating_duration_since(self.next_tick) > SLEPT - TICK {
            self.wake_up(now);
        } else {
            self.tick += 1;
            self.next_tick = (self.next_tick + TICK).max(now);
        }
        if !self.is_bootstrapped() {
            return;
        }
        if self.is_adaptive() && self.ephemeral {
            self.stable_ticks = self.stable_ticks.saturating_sub(1);
            if self.stable_ticks == 0 {
                if self.checked_host.is_some() && self.checked_host == self.nat.host() {
                    self.stable_ticks = MORE_STABLE_TICKS; // nothing new to be learnt in this network
                } else {
                    self.update_network_state(now, false, false);
                }
            }
        }
        if self.tick & 7 == 0 {
            self.ping_some(now);
        }
        self.refresh_ticks = self.refresh_ticks.saturating_sub(1);
        let few = self.tick & 63 == 0 && self.contacts.len() < super::super::contacts::K;
        if few || self.refresh_ticks == 0 {
            self.refresh(now);
        }
        self.down_hints = 0;
        if self.health.tick(self.requests.responses, self.requests.timeouts) {
            self.emit(NodeEvent::NetworkUpdate(self.health.is_online(), self.health.is_degraded()));
        }
    }

    /// Whether we become persistent (and ephemeral again) by ourselves.
    pub(super) fn is_adaptive(&self) -> bool {
        self.options.ephemeral.is_none()
    }

    /// Somebody wrote to us: `to` is where they see us. `sample`: it came to the socket whose address counts.
    pub(super) fn heard_from(&mut self, now: Instant, from: Peer, to: SocketAddr, sample: bool) {
        if !self.usable(from.addr) {
            return;
        }
        // dht-rpc believes whoever is new, whatever socket it wrote to. The answer of such a node to the question whether our
        // server socket can be reached then looked as if we had another address for everybody.
        let Some(id) = from.id else {
            if sample {
                self.sample_ephemeral(from.addr, to);
            }
            return;
        };
        let tick = self.tick;
        let Some(contact) = self.contacts.get_mut(&id) else {
            return self.insert(Some(now), Contact::new(id, from.addr, sample.then_some(to)));
        };
        contact.pinged = tick;
        contact.seen = tick;
        if sample && (contact.sampled == 0 || tick - contact.sampled >= OLD) {
            contact.to = Some(to);
            contact.sampled = tick;
            self.nat_add(to);
        }
        self.contacts.touch(&id);
    }

    /// Nodes without id are bootstrap nodes, or nobody whose word counts: a few are believed.
    fn sample_ephemeral(&mut self, from: SocketAddr, to: SocketAddr) {
        if self.sampled.len() < self.options.bootstrap.len().max(1) && self.sampled.insert(from) {
            self.nat_add(to);
        }
    }

    /// Puts a contact into the table; if its row is full and the time is given, one of that row may have to go.
    fn insert(&mut self, now: Option<Instant>, mut contact: Contact) {
        contact.added = self.tick;
        contact.pinged = self.tick;
        contact.seen = self.tick;
        let sample = contact.to;
        if sample.is_some() {
            contact.sampled = self.tick;
        }
        let peer = Peer { addr: contact.addr, id: Some(contact.id) };
        match self.contacts.add(contact.clone()) {
            Added::Yes => {
                if let Some(to) = sample {
                    self.nat_add(to);
                }
                self.emit(NodeEvent::NodeAdded(peer));
            }
            Added::RowFull => {
                if let Some(now) = now {
                    self.on_full_row(now, contact);
                }
            }
            Added::Known | Added::Ourselves => {}
        }
    }

    fn remove(&mut self, id: &NodeId) {
        if let Some(contact) = self.contacts.remove(id) {
            self.emit(NodeEvent::NodeRemoved(Peer { addr: contact.addr, id: Some(contact.id) }));
        }
    }

    /// Somebody at this address did not answer.
    pub(super) fn remove_at(&mut self, addr: SocketAddr) {
        self.remove(&node_id(addr));
    }

    /// Asks the one of a full row that we dealt with least recently whether it is still there. Nodes that have been there
    /// for long stay without being asked: who has been there for long will be there for longer.
    fn on_full_row(&mut self, now: Instant, new: Contact) {
        if !self.is_bootstrapped() || self.swaps >= MAX_SWAPS {
            return;
        }
        let row = self.contacts.row(&new.id).unwrap_or_default();
        let idle = row.iter().filter(|contact| contact.pinged != self.tick);
        let Some(oldest) = idle.min_by_key(|contact| (contact.pinged, contact.added)) else { return };
        if self.tick - oldest.pinged < RECENT && self.tick - oldest.added > OLD {
            return;
        }
        let (old, addr) = (oldest.id, oldest.addr);
        let purpose = Purpose::Swap { old, new };
        if self.ask_internal(now, addr, command::PING, None, purpose).is_ok() {
            self.swaps += 1;
            self.pinged(&old);
        }
    }

    pub(super) fn swapped(&mut self, old: NodeId, new: Contact, result: Result<Reply, RpcError>) {
        self.swaps = self.swaps.saturating_sub(1);
        if !result.is_ok_and(|reply| reply.from.id == Some(old)) {
            self.remove(&old);
            self.insert(None, new);
        }
    }

    /// Asks a node whether it is still there.
    pub(super) fn check(&mut self, now: Instant, id: NodeId) {
        let Some(addr) = self.contacts.get(&id).map(|contact| contact.addr) else { return };
        if self.ask_internal(now, addr, command::PING, None, Purpose::Check(id)).is_ok() {
            self.checks += 1;
            self.pinged(&id);
        }
    }

    /// One that is there but has no id any longer is ephemeral now, and none for the table.
    pub(super) fn checked(&mut self, id: NodeId, result: Result<Reply, RpcError>) {
        self.checks = self.checks.saturating_sub(1);
        if !result.is_ok_and(|reply| reply.from.id == Some(id)) {
            self.remove(&id);
        }
    }

    fn pinged(&mut self, id: &NodeId) {
        let tick = self.tick;
        if let Some(contact) = self.contacts.get_mut(id) {
            contact.pinged = tick;
        }
    }

    /// Asks those whether they are still there of whom we have not heard for longest.
    fn ping_some(&mut self, now: Instant) {
        let Some(oldest) = self.contacts.oldest_first().next() else {
            return self.refresh(now); // perhaps the bootstrap nodes are back
        };
        let count = match () {
            () if self.tick - oldest.pinged < RECENT => 2,
            () if self.requests.len() > 2 => 3,
            () => 5,
        };
        let tick = self.tick;
        let idle = self.contacts.oldest_first().filter(|contact| contact.pinged != tick);
        let ids: Vec<NodeId> = idle.take(count).map(|contact| contact.id).collect();
        for id in ids {
            self.check(now, id);
        }
    }
}
