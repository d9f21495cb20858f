//! What is known about one peer, and how much it is worth another attempt: npm `hyperswarm` 4.17.2,
//! `lib/peer-info.js`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::Topic;

/// A connection that lasted so long was a good one: attempts are counted anew.
const GOOD_CONNECTION: Duration = Duration::from_secs(15);
/// After so many attempts that came to nothing a peer is left alone until it is found again.
pub(crate) const MAX_ATTEMPTS: u32 = 3;
/// So many attempts at a peer that was asked for by its key come one after another; later ones are rare.
pub(crate) const MAX_EXPLICIT_ATTEMPTS: u32 = 5;
/// Topics that are remembered with a peer.
const MAX_TOPICS: usize = 64;
/// Relay addresses that are kept of a peer; announcements carry three.
const MAX_RELAYS: usize = 8;

/// Which peers are dialled first. A peer that was just lost comes before one that was just found, one that failed
/// again and again comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Failed more than three times.
    VeryLow,
    /// Failed three times.
    Low,
    /// Just found.
    Normal,
    /// Failed or was lost twice.
    High,
    /// Failed or was lost once.
    VeryHigh,
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) relay_addresses: Vec<SocketAddr>,
    pub(crate) topics: Vec<Topic>,
    pub(crate) priority: Priority,
    /// Attempts since the last good connection.
    pub(crate) attempts: u32,
    /// It was connected once since it was found.
    pub(crate) proven: bool,
    /// The connection was, or was last, dialled from this side.
    pub(crate) client: bool,
    pub(crate) connected_at: Option<Instant>,
    pub(crate) disconnected_at: Option<Instant>,
    pub(crate) banned: bool,
    /// It is wanted by its key, not (only) for a topic.
    pub(crate) explicit: bool,
    /// It waits in the queue to be dialled.
    pub(crate) queued: bool,
    /// It waits for a retry timer.
    pub(crate) waiting: bool,
    /// No direct way was found: ask for a relayed one.
    pub(crate) force_relaying: bool,
    /// It is to be tried again when it is lost or not reached.
    pub(crate) reconnecting: bool,
}

impl Peer {
    pub(crate) fn new() -> Self {
        Self {
            relay_addresses: Vec::new(),
            topics: Vec::new(),
            priority: Priority::Normal,
            attempts: 0,
            proven: false,
            client: false,
            connected_at: None,
            disconnected_at: None,
            banned: false,
            explicit: false,
            queued: false,
            waiting: false,
            force_relaying: false,
            reconnecting: true,
        }
    }

    pub(crate) fn set_relay_addresses(&mut self, addresses: &[SocketAddr]) {
        self.relay_addresses.clear();
        self.relay_addresses.extend(addresses.iter().take(MAX_RELAYS));
    }

    pub(crate) fn add_topic(&mut self, topic: Topic) {
        if self.topics.len() < MAX_TOPICS && !self.topics.contains(&topic) {
            self.topics.push(topic);
        }
    }

    pub(crate) fn connected(&mut self, now: Instant) {
        self.proven = true;
        self.connected_at = Some(now);
        self.client = true;
    }

    pub(crate) fn disconnected(&mut self, now: Instant) {
        self.disconnected_at = Some(now);
        if let Some(since) = self.connected_at.take()
            && now.saturating_duration_since(since) >= GOOD_CONNECTION
        {
            self.attempts = 0;
        }
        self.attempts = self.attempts.saturating_add(1);
    }

    /// It was found again: what was before does not count.
    pub(crate) fn found_again(&mut self) {
        if self.priority < Priority::Normal || !self.client {
            self.client = false;
            self.proven = false;
            self.attempts = 0;
        }
    }

    /// Whether it is worth an attempt; if so, its priority is brought up to date.
    pub(crate) fn is_worth_an_attempt(&mut self) -> bool {
        if self.explicit && self.attempts > MAX_ATTEMPTS {
            self.attempts = MAX_ATTEMPTS;
        }
        if self.banned || self.queued || self.attempts > MAX_ATTEMPTS {
            return false;
        }
        self.priority = match self.attempts {
            0 => Priority::Normal,
            1 => Priority::VeryHigh,
            2 => Priority::High,
            3 => Priority::Low,
            _ => Priority::VeryLow,
        };
        true
    }

    /// Nothing is to be remembered about it.
    pub(crate) fn is_forgettable(&self) -> bool {
        !(self.banned || self.queued || self.explicit || self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_peer_is_dialled_before_a_new_one_and_a_failing_one_last() {
        let start = Instant::now();
        let mut peer = Peer::new();
        let mut priorities = Vec::new();
        for _ in 0..4 {
            assert!(peer.is_worth_an_attempt());
            priorities.push(peer.priority);
            peer.disconnected(start);
        }
        assert_eq!(priorities, [Priority::Normal, Priority::VeryHigh, Priority::High, Priority::Low]);
        assert!(!peer.is_worth_an_attempt(), "left alone until it is found again");
        peer.found_again();
        assert!(peer.is_worth_an_attempt());
        assert_eq!(peer.priority, Priority::Normal);
    }

    #[test]
    fn a_good_connection_makes_up_for_failures() {
        let start = Instant::now();
        let mut peer = Peer::new();
        peer.attempts = 3;
        peer.connected(start);
        peer.disconnected(start + GOOD_CONNECTION);
        assert_eq!(peer.attempts, 1);
        peer.connected(start);
        peer.disconnected(start + GOOD_CONNECTION / 2);
        assert_eq!(peer.attempts, 2);
    }

    #[test]
    fn a_peer_that_is_wanted_by_its_key_is_never_given_up() {
        let mut peer = Peer::new();
        peer.explicit = true;
        for _ in 0..10 {
            peer.disconnected(Instant::now());
        }
        assert!(peer.is_worth_an_attempt());
        peer.banned = true;
        assert!(!peer.is_worth_an_attempt());
    }
}
