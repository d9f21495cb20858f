//! When to try again: longer and longer, and not all at the same moment.

use std::time::Duration;

/// Delays between attempts to reach a peer.
///
/// They double from the shortest to the longest; each is then drawn from the upper half of its range, so that
/// daemons that lost the same peer do not all come back at once. Deterministic for a seed.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    shortest: Duration,
    longest: Duration,
    failures: u32,
    random: u64,
}

impl Backoff {
    /// Delays between `shortest` and `longest`.
    pub(crate) fn new(shortest: Duration, longest: Duration, seed: u64) -> Self {
        Self { shortest, longest, failures: 0, random: seed }
    }

    /// An attempt failed: how long to wait before the next.
    pub(crate) fn failed(&mut self) -> Duration {
        let factor = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        let ceiling = self.shortest.saturating_mul(factor).min(self.longest);
        // One half to the whole of it, in 1/1024.
        let part = 512 + u32::try_from(self.next() % 513).unwrap_or(0);
        ceiling.mul_f64(f64::from(part) / 1024.0)
    }

    /// An attempt succeeded: the next failure starts over.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// SplitMix64: a few lines that are random enough for this.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_limit_and_start_over() {
        let (shortest, longest) = (Duration::from_millis(100), Duration::from_secs(10));
        let mut backoff = Backoff::new(shortest, longest, 7);
        for attempt in 0..100u32 {
            let delay = backoff.failed();
            let ceiling = shortest.saturating_mul(2u32.saturating_pow(attempt)).min(longest);
            assert!(delay <= ceiling && delay >= ceiling / 2, "{attempt}: {delay:?} of {ceiling:?}");
        }
        backoff.succeeded();
        assert!(backoff.failed() <= shortest);
    }

    #[test]
    fn two_daemons_differ() {
        let delay = |seed| Backoff::new(Duration::from_secs(1), Duration::from_secs(9), seed).failed();
        assert_ne!(delay(1), delay(2));
        assert_eq!(delay(3), delay(3));
    }
}
