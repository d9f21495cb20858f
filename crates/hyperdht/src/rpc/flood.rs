//! How much others may ask.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use super::IncomingLimits;
use super::sender::Sender;

/// Senders that are counted at once. With more, the one that came first is forgotten (and starts anew).
const SENDERS: usize = 4_096;
/// What one socket on the loopback network may take of what there is for all: a quarter. A program there may ask for
/// many others, and none is to use up everything.
const LOCAL_SHARE: u32 = 4;
/// How many seconds' worth may come at once.
const BURST_SECONDS: f64 = 2.0;

/// Counts requests by sender and altogether, and says which are too many.
#[derive(Debug)]
pub(crate) struct FloodGate {
    limits: IncomingLimits,
    total: Bucket,
    senders: HashMap<Sender, Bucket>,
    order: VecDeque<Sender>,
}

impl FloodGate {
    pub(crate) fn new(limits: IncomingLimits, now: Instant) -> Self {
        let total = Bucket::full(limits.total, now);
        Self { limits, total, senders: HashMap::new(), order: VecDeque::new() }
    }

    /// Whether one more request of this sender is to be looked at.
    pub(crate) fn admit(&mut self, sender: Sender, now: Instant) -> bool {
        self.admit_sender(sender, now) && self.total.take(self.limits.total, now)
    }

    fn admit_sender(&mut self, sender: Sender, now: Instant) -> bool {
        let limit =
            if sender.is_local() { self.limits.total.div_ceil(LOCAL_SHARE) } else { self.limits.per_host };
        if let Some(bucket) = self.senders.get_mut(&sender) {
            return bucket.take(limit, now);
        }
        if self.order.len() >= SENDERS
            && let Some(first) = self.order.pop_front()
        {
            self.senders.remove(&first);
        }
        self.order.push_back(sender);
        let mut bucket = Bucket::full(limit, now);
        let admitted = bucket.take(limit, now);
        self.senders.insert(sender, bucket);
        admitted
    }
}

/// Fills up at a rate, up to a burst.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn full(rate: u32, now: Instant) -> Self {
        Self { tokens: f64::from(rate) * BURST_SECONDS, filled: now }
    }

    fn take(&mut self, rate: u32, now: Instant) -> bool {
        let rate = f64::from(rate);
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * rate).min(rate * BURST_SECONDS);
        self.filled = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn admitted(gate: &mut FloodGate, addr: &str, count: usize, now: Instant) -> usize {
        let sender = Sender::of(addr.parse().unwrap());
        (0..count).filter(|_| gate.admit(sender, now)).count()
    }

    #[test]
    fn no_sender_can_use_up_what_is_there_for_all() {
        let now = Instant::now();
        let mut gate = FloodGate::new(IncomingLimits { per_host: 10, total: 100 }, now);
        assert_eq!(admitted(&mut gate, "1.1.1.1:1", 1000, now), 20);
        assert_eq!(admitted(&mut gate, "1.1.1.1:2", 1000, now), 0);
        assert_eq!(admitted(&mut gate, "2.2.2.2:1", 1000, now), 20);
        for port in 1..=3 {
            assert_eq!(admitted(&mut gate, &format!("127.0.0.1:{port}"), 1000, now), 50);
        }
        assert_eq!(admitted(&mut gate, "127.0.0.1:4", 1000, now), 10);
        assert_eq!(admitted(&mut gate, "3.3.3.3:1", 1000, now), 0);
        let later = now + Duration::from_secs(1);
        assert_eq!(admitted(&mut gate, "1.1.1.1:1", 1000, later), 10);
        assert_eq!(admitted(&mut gate, "127.0.0.1:1", 1000, later), 25);
    }

    #[test]
    fn the_number_of_senders_is_bounded() {
        let now = Instant::now();
        let mut gate = FloodGate::new(IncomingLimits { per_host: 10, total: 1_000_000 }, now);
        for n in 0..3 * SENDERS as u32 {
            let host = std::net::Ipv4Addr::from(n.to_be_bytes().map(|b| b.max(1)));
            assert!(gate.admit(Sender::of((host, 1).into()), now) || n > 0);
        }
        assert!(gate.senders.len() <= SENDERS && gate.order.len() <= SENDERS);
    }
}
