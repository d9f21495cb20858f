//! Who is dialled, who is let in, and which of two connections to the same peer lives.

use std::time::{Duration, Instant};

use super::{Action, ConnectionId, MAX_KNOWN_PEERS, Peer, Swarm, since};
use crate::{PublicKey, peer::MAX_EXPLICIT_ATTEMPTS, retry::Backoff};

/// When both sides dial at the same time, their connections meet within this time, and both sides have to close the
/// same one. A second connection that comes later means that the peer has lost the first.
const BOTH_DIALLED: Duration = Duration::from_secs(3);
/// How much longer a peer that was asked for by its key is left alone after every failure.
const EXPLICIT_BACKOFF: Duration = Duration::from_secs(1);

/// A connection, or an attempt at one.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) public_key: PublicKey,
    /// Dialled from this side.
    pub(super) client: bool,
    pub(super) open: bool,
    opened_at: Option<Instant>,
}

/// Why a connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// There is another connection to the same peer, which lives on.
    Duplicate,
    /// The swarm was suspended.
    Suspended,
    /// The swarm was destroyed.
    Destroyed,
    /// The peer was banned.
    Banned,
}

/// Why a connection that a peer dialled is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is another connection to the same peer, which lives on.
    #[error("there is a connection to this peer already")]
    Duplicate,
    /// The swarm takes no connections now.
    #[error("the swarm is suspended or destroyed")]
    Closed,
    /// The firewall keeps this peer out, or it was banned, or it is this side itself.
    #[error("the peer is kept out")]
    Firewalled,
    /// There are too many.
    #[error("there are too many connections that others have opened")]
    TooMany,
}

/// How dialling ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialOutcome {
    /// There is a connection.
    Open,
    /// There is none.
    Failed {
        /// The NATs between are why: a relay would help.
        try_relay: bool,
    },
}

impl Swarm {
    /// Connects to a peer by its key, whatever topics it has, and keeps at it.
    pub fn join_peer(&mut self, public_key: PublicKey, now: Instant) {
        if public_key == self.public_key {
            return;
        }
        let peer = self.peers.entry(public_key).or_insert_with(Peer::new);
        if !peer.explicit {
            peer.explicit = true;
            self.explicit.push(public_key);
        }
        if !self.by_key.contains_key(&public_key) {
            self.enqueue(public_key);
        }
        self.dial_more(now);
    }

    /// Ends [`Swarm::join_peer`]. A connection that is there stays.
    pub fn leave_peer(&mut self, public_key: &PublicKey) {
        self.explicit.retain(|key| key != public_key);
        if let Some(peer) = self.peers.get_mut(public_key) {
            peer.explicit = false;
        }
        self.maybe_forget(public_key);
    }

    /// Whether a peer is tried again when its connection is lost or it cannot be reached; that is so unless it was said
    /// otherwise. It is forgotten with the peer, and a peer that is found again is dialled all the same (npm `hyperswarm`
    /// 4.17.2, `PeerInfo.reconnect`). False if the peer is not known.
    pub fn reconnect(&mut self, public_key: &PublicKey, again: bool) -> bool {
        let Some(peer) = self.peers.get_mut(public_key) else { return false };
        peer.reconnecting = again;
        true
    }

    /// Keeps a peer out, or lets it in again. Connections to it are closed.
    pub fn ban(&mut self, public_key: PublicKey, banned: bool, now: Instant) {
        let known = self.peers.contains_key(&public_key);
        if !banned && !known {
            return;
        }
        let peer = self.peers.entry(public_key).or_insert_with(Peer::new);
        let changed = peer.banned != banned;
        peer.banned = banned;
        if !banned {
            self.maybe_forget(&public_key);
            return;
        }
        if changed {
            self.stats.banned += 1;
            self.actions.push_back(Action::Banned { public_key });
        }
        if let Some(connection) = self.by_key.get(&public_key).copied() {
            self.drop_connection(connection, CloseReason::Banned, now);
            self.dial_more(now);
        }
    }

    /// Whether a peer may connect. Whom the firewall names is banned.
    pub fn lets_in(&mut self, public_key: &PublicKey) -> bool {
        if *public_key == self.public_key || self.peers.get(public_key).is_some_and(|peer| peer.banned) {
            return false;
        }
        if self.options.firewall.as_ref().is_some_and(|keeps_out| keeps_out(public_key)) {
            // Who is not remembered is asked about again: the firewall has the last word in any case.
            if self.peers.len() < MAX_KNOWN_PEERS || self.peers.contains_key(public_key) {
                self.peers.entry(*public_key).or_insert_with(Peer::new).banned = true;
                self.stats.banned += 1;
                self.actions.push_back(Action::Banned { public_key: *public_key });
            }
            return false;
        }
        true
    }

    /// The connection with this peer, or the attempt at one.
    pub fn connection_with(&self, public_key: &PublicKey) -> Option<ConnectionId> {
        self.by_key.get(public_key).copied()
    }

    /// Whether a peer may open another connection to this side now: for turning it away before it is answered.
    pub fn takes_connections(&self) -> bool {
        !self.destroyed && !self.suspended && self.servers < self.options.max_server_connections
    }

    /// A peer has opened a connection.
    ///
    /// When both sides dial, two connections meet. Both sides keep the one that was dialled by the side with the
    /// greater public key (npm `hyperswarm` 4.17.2), unless the older one has been open for some time: then the
    /// peer has lost that and comes back.
    pub fn incoming(&mut self, public_key: &PublicKey, now: Instant) -> Result<ConnectionId, Refusal> {
        if self.destroyed || self.suspended {
            return Err(Refusal::Closed);
        }
        if !self.lets_in(public_key) {
            return Err(Refusal::Firewalled);
        }
        if let Some((id, existing)) =
            self.by_key.get(public_key).and_then(|id| Some((*id, self.connections.get(id)?)))
        {
            let outdated = existing.open && since(existing.opened_at, now) > BOTH_DIALLED;
            // A peer that dialled before and dials again has lost the earlier connection.
            if existing.client && self.public_key > *public_key && !outdated {
                self.stats.duplicates += 1;
                return Err(Refusal::Duplicate);
            }
            self.stats.duplicates += 1;
            self.drop_connection(id, CloseReason::Duplicate, now);
        } else if self.servers >= self.options.max_server_connections {
            return Err(Refusal::TooMany);
        }
        let id = ConnectionId(self.id());
        let peer = self.peers.entry(*public_key).or_insert_with(Peer::new);
        peer.client = false;
        let connection =
            Connection { public_key: *public_key, client: false, open: true, opened_at: Some(now) };
        self.connections.insert(id, connection);
        self.by_key.insert(*public_key, id);
        self.servers += 1;
        self.stats.server_opened += 1;
        self.actions.push_back(Action::Opened { connection: id });
        self.dial_more(now);
        Ok(id)
    }

    /// The answer to [`Action::Dial`].
    pub fn dialled(&mut self, id: ConnectionId, outcome: DialOutcome, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id).filter(|connection| !connection.open) else {
            return;
        };
        let key = connection.public_key;
        match outcome {
            DialOutcome::Open => {
                connection.open = true;
                connection.opened_at = Some(now);
                self.dialling -= 1;
                self.stats.client_opened += 1;
                if let Some(peer) = self.peers.get_mut(&key) {
                    peer.connected(now);
                }
                self.actions.push_back(Action::Opened { connection: id });
                self.waiting_peer_over(&key);
                self.dial_more(now);
            }
            DialOutcome::Failed { try_relay } => {
                if try_relay && let Some(peer) = self.peers.get_mut(&key) {
                    peer.force_relaying = true;
                    peer.attempts = 0;
                }
                self.closed(id, now);
            }
        }
    }

    /// A connection has ended, from whichever side, or an attempt has failed.
    pub fn closed(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = self.remove(id) else { return };
        let key = connection.public_key;
        if connection.client {
            self.lost(&key, now);
            if !connection.open {
                self.waiting_peer_over(&key);
            }
        }
        self.maybe_forget(&key);
        self.dial_more(now);
    }

    /// A dialled connection is gone: the peer is to be tried again after a while.
    fn lost(&mut self, key: &PublicKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.disconnected(now);
        if self.suspended || self.destroyed {
            return;
        }
        let topics = &self.topics;
        let wanted = peer.explicit
            || peer
                .topics
                .iter()
                .any(|topic| topics.get(topic).is_some_and(|discovery| discovery.is_joined()));
        if let Some(backoff) = Backoff::of(peer).filter(|_| wanted && !peer.waiting) {
            peer.waiting = true;
            self.retries.add(*key, backoff, now);
        }
    }

    /// Closes a connection from this side.
    pub(super) fn drop_connection(&mut self, id: ConnectionId, reason: CloseReason, now: Instant) {
        let Some(connection) = self.remove(id) else { return };
        self.actions.push_back(Action::Close { connection: id, reason });
        let key = connection.public_key;
        if connection.client && reason != CloseReason::Duplicate {
            self.lost(&key, now);
        }
        if connection.client && !connection.open {
            self.waiting_peer_over(&key);
        }
        if reason != CloseReason::Duplicate {
            self.maybe_forget(&key);
        }
    }

    fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        let connection = self.connections.remove(&id)?;
        self.by_key.remove(&connection.public_key);
        if connection.client {
            self.clients -= 1;
            self.stats.client_closed += 1;
        } else {
            self.servers -= 1;
            self.stats.server_closed += 1;
        }
        if !connection.open {
            self.dialling -= 1;
        }
        Some(connection)
    }

    fn maybe_forget(&mut self, key: &PublicKey) {
        if !self.by_key.contains_key(key) && self.peers.get(key).is_some_and(Peer::is_forgettable) {
            self.peers.remove(key);
        }
    }

    /// Puts a peer in the queue if it is worth an attempt.
    pub(super) fn enqueue(&mut self, key: PublicKey) {
        if self.suspended || self.destroyed {
            return;
        }
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if peer.is_worth_an_attempt() {
            peer.queued = true;
            self.queue.push(key, peer.priority);
        }
    }

    /// Peers whose retry is due.
    pub(super) fn retry_due(&mut self, now: Instant) {
        for key in self.retries.due(now) {
            let Some(peer) = self.peers.get_mut(&key) else { continue };
            peer.waiting = false;
            if !self.by_key.contains_key(&key) {
                self.enqueue(key);
            }
            self.maybe_forget(&key);
        }
    }

    /// Whether another peer may be dialled, as far as the number of connections goes. Peers that were asked for by
    /// their key leave less room for others.
    pub(super) fn may_have_more(&self) -> bool {
        let factor: usize = match self.explicit.len() {
            0 => 1,
            1 => 2,
            2 | 3 => 3,
            _ => 4,
        };
        factor.saturating_mul(self.connections.len()) < self.options.max_peers
            && self.clients < self.options.max_client_connections
    }

    /// Dials as many as may be dialled.
    pub(super) fn dial_more(&mut self, now: Instant) {
        if self.suspended || self.destroyed {
            return;
        }
        for index in 0..self.explicit.len() {
            if self.dialling >= self.options.max_parallel {
                break;
            }
            let Some(key) = self.explicit.get(index).copied() else { break };
            let Some(peer) = self.peers.get(&key) else { continue };
            let rest = EXPLICIT_BACKOFF.saturating_mul(peer.attempts);
            if peer.attempts < MAX_EXPLICIT_ATTEMPTS && since(peer.disconnected_at, now) >= rest {
                self.dial(key);
            }
        }
        while self.dialling < self.options.max_parallel && self.may_have_more() {
            let Some(key) = self.queue.pop(&mut self.random) else { break };
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.queued = false;
            }
            if !self.dial(key) {
                self.waiting_peer_over(&key);
                self.maybe_forget(&key);
            }
        }
        if self.dialling == 0 {
            self.waiting_maybe_over();
        }
    }

    /// False when there is no need to, or no right.
    fn dial(&mut self, public_key: PublicKey) -> bool {
        if self.by_key.contains_key(&public_key) || !self.lets_in(&public_key) {
            return false;
        }
        let Some(peer) = self.peers.get(&public_key) else { return false };
        let (relay_addresses, force_relaying) = (peer.relay_addresses.clone(), peer.force_relaying);
        let connection = ConnectionId(self.id());
        self.connections
            .insert(connection, Connection { public_key, client: true, open: false, opened_at: None });
        self.by_key.insert(public_key, connection);
        self.dialling += 1;
        self.clients += 1;
        self.stats.attempted += 1;
        self.actions.push_back(Action::Dial { connection, public_key, relay_addresses, force_relaying });
        true
    }
}
