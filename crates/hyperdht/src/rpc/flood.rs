//! How much others may ask.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Instant;

use super::IncomingLimits;

/// Hosts that are counted at once. With more, the one that came first is forgotten (and starts anew).
const HOSTS: usize = 4_096;
/// How many seconds' worth may come at once.
const BURST_SECONDS: f64 = 2.0;

/// Counts requests by host and altogether, and says which are too many.
#[derive(Debug)]
pub(crate) struct FloodGate {
    limits: IncomingLimits,
    total: Bucket,
    hosts: HashMap<IpAddr, Bucket>,
    order: VecDeque<IpAddr>,
}

impl FloodGate {
    pub(crate) fn new(limits: IncomingLimits, now: Instant) -> Self {
        let total = Bucket::full(limits.total, now);
        Self { limits, total, hosts: HashMap::new(), order: VecDeque::new() }
    }

    /// Whether one more request of this host is to be looked at.
    pub(crate) fn admit(&mut self, host: IpAddr, now: Instant) -> bool {
        // All of this machine's processes share the loopback addresses.
        if !host.is_loopback() && !self.admit_host(host, now) {
            return false;
        }
        self.total.take(self.limits.total, now)
    }

    fn admit_host(&mut self, host: IpAddr, now: Instant) -> bool {
        let limit = self.limits.per_host;
        if let Some(bucket) = self.hosts.get_mut(&host) {
            return bucket.take(limit, now);
        }
        if self.order.len() >= HOSTS
            && let Some(first) = self.order.pop_front()
        {
            self.hosts.remove(&first);
        }
        self.order.push_back(host);
        let mut bucket = Bucket::full(limit, now);
        let admitted = bucket.take(limit, now);
        self.hosts.insert(host, bucket);
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

    fn admitted(gate: &mut FloodGate, host: [u8; 4], count: usize, now: Instant) -> usize {
        (0..count).filter(|_| gate.admit(host.into(), now)).count()
    }

    #[test]
    fn one_host_cannot_use_up_what_is_there_for_all() {
        let now = Instant::now();
        let mut gate = FloodGate::new(IncomingLimits { per_host: 10, total: 100 }, now);
        assert_eq!(admitted(&mut gate, [1, 1, 1, 1], 1000, now), 20);
        assert_eq!(admitted(&mut gate, [2, 2, 2, 2], 1000, now), 20);
        assert_eq!(admitted(&mut gate, [127, 0, 0, 1], 1000, now), 160);
        assert_eq!(admitted(&mut gate, [3, 3, 3, 3], 1000, now), 0);
        let later = now + Duration::from_secs(1);
        assert_eq!(admitted(&mut gate, [1, 1, 1, 1], 1000, later), 10);
        assert_eq!(admitted(&mut gate, [127, 0, 0, 1], 1000, later), 90);
    }

    #[test]
    fn the_number_of_hosts_is_bounded() {
        let now = Instant::now();
        let mut gate = FloodGate::new(IncomingLimits { per_host: 10, total: 1_000_000 }, now);
        for n in 0..3 * HOSTS as u32 {
            assert!(
                gate.admit(std::net::Ipv4Addr::from(n.to_be_bytes().map(|b| b.max(1))).into(), now) || n > 0
            );
        }
        assert!(gate.hosts.len() <= HOSTS && gate.order.len() <= HOSTS);
    }
}
