//! A link in virtual time: latency, jitter, loss, reordering, duplication, an MTU, and a queue before a bottleneck.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use bytes::Bytes;

/// A small deterministic generator (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.next() % limit }
    }

    /// Small and large numbers alike: below two to the power of `least`, or of up to `more` more.
    pub(crate) fn scaled(&mut self, least: u64, more: u64) -> u64 {
        let bits = least + self.below(more);
        self.below(1 << bits)
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && (self.next() >> 11) as f64 / (1u64 << 53) as f64 <= probability
    }
}

/// The knobs of one direction.
#[derive(Clone, Debug)]
pub(crate) struct Knobs {
    pub(crate) latency: Duration,
    /// Up to so much more for each packet; packets overtake each other by it.
    pub(crate) jitter: Duration,
    pub(crate) loss: f64,
    pub(crate) duplication: f64,
    /// This part of the packets comes later by up to twice the latency.
    pub(crate) reordering: f64,
    /// Largest IP packet that passes.
    pub(crate) mtu: usize,
    /// Bytes per second, IP headers included, and how many bytes wait before them.
    pub(crate) bandwidth: Option<f64>,
    pub(crate) queue: usize,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(25),
            jitter: Duration::ZERO,
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            mtu: 1500,
            bandwidth: None,
            queue: 256 << 10,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) knobs: Knobs,
    random: Random,
    /// When the bottleneck has sent what waits before it.
    free_at: Duration,
    under_way: BinaryHeap<Reverse<(Duration, u64, Bytes)>>,
    count: u64,
    pub(crate) passed: u64,
    pub(crate) dropped: u64,
    pub(crate) overflowed: u64,
}

/// IPv4 and UDP.
const OVERHEAD: usize = 28;

impl Link {
    pub(crate) fn new(knobs: Knobs, seed: u64) -> Self {
        Self {
            knobs,
            random: Random(seed),
            free_at: Duration::ZERO,
            under_way: BinaryHeap::new(),
            count: 0,
            passed: 0,
            dropped: 0,
            overflowed: 0,
        }
    }

    pub(crate) fn send(&mut self, now: Duration, datagram: Bytes) {
        let size = datagram.len() + OVERHEAD;
        if size > self.knobs.mtu || self.random.chance(self.knobs.loss) {
            self.dropped += 1;
            return;
        }
        let mut at = now;
        if let Some(bandwidth) = self.knobs.bandwidth {
            let waiting = self.free_at.saturating_sub(now).as_secs_f64() * bandwidth;
            if waiting + size as f64 > self.knobs.queue as f64 {
                self.overflowed += 1;
                return;
            }
            self.free_at = self.free_at.max(now) + Duration::from_secs_f64(size as f64 / bandwidth);
            at = self.free_at;
        }
        self.passed += 1;
        let copies = if self.random.chance(self.knobs.duplication) { 2 } else { 1 };
        for _ in 0..copies {
            let mut arrival = at + self.knobs.latency;
            arrival += Duration::from_nanos(self.random.below(self.knobs.jitter.as_nanos() as u64));
            if self.random.chance(self.knobs.reordering) {
                arrival += Duration::from_nanos(self.random.below(2 * self.knobs.latency.as_nanos() as u64));
            }
            self.count += 1;
            self.under_way.push(Reverse((arrival, self.count, datagram.clone())));
        }
    }

    pub(crate) fn next_arrival(&self) -> Option<Duration> {
        self.under_way.peek().map(|Reverse((at, ..))| *at)
    }

    pub(crate) fn receive(&mut self, now: Duration) -> Option<Bytes> {
        self.next_arrival().filter(|at| *at <= now)?;
        self.under_way.pop().map(|Reverse((_, _, datagram))| datagram)
    }
}
