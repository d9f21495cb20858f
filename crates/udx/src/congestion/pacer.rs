//! Spreads packets over time: a token bucket (libudx refills one per millisecond; timers are no finer here either).

/// A late timer may be made up for as long as this, in microseconds.
const MAX_CREDIT: u64 = 4_000;
/// How much is gathered before sending goes on: batches cost less than packets.
const QUANTUM: u64 = 1_000;
/// Least bucket, in packets.
const MIN_BURST: u64 = 10;

#[derive(Debug)]
pub(crate) struct Pacer {
    /// Bytes that may go now; negative after a burst.
    tokens: f64,
    refilled: u64,
}

impl Pacer {
    pub(crate) fn new() -> Self {
        Self { tokens: f64::MAX, refilled: 0 }
    }

    /// `rate`: bytes per microsecond; `packet`: size of a full one.
    pub(crate) fn refill(&mut self, now: u64, rate: f64, packet: u64) {
        let elapsed = now.saturating_sub(self.refilled) as f64;
        self.refilled = now;
        let most = (rate * MAX_CREDIT as f64).max((MIN_BURST * packet) as f64);
        self.tokens = (self.tokens + elapsed * rate).min(most);
    }

    pub(crate) fn may_send(&self) -> bool {
        self.tokens > 0.0
    }

    pub(crate) fn on_sent(&mut self, bytes: u64) {
        self.tokens -= bytes as f64;
    }

    /// When a batch is worth sending.
    pub(crate) fn ready_at(&self, now: u64, rate: f64, packet: u64) -> u64 {
        let wanted = (rate * QUANTUM as f64).min((64 << 10) as f64).max(packet as f64);
        let missing = ((wanted - self.tokens) / rate.max(1e-6)).ceil();
        now + (missing.clamp(1.0, 1e9) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept() {
        let (mut pacer, mut now, mut sent) = (Pacer::new(), 0, 0);
        let (rate, packet) = (20.0, 1200);
        while now < 1_000_000 {
            pacer.refill(now, rate, packet);
            while pacer.may_send() {
                pacer.on_sent(packet);
                sent += packet;
            }
            now = pacer.ready_at(now, rate, packet);
        }
        assert!((19_900_000..20_300_000).contains(&sent), "{sent}");
    }
}
