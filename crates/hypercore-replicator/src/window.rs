//! How many requests a peer is trusted with at once.
//!
//! npm `hypercore` 11 keeps 16 to 512 requests in flight and never measures anything over TCP. Here the window
//! grows while answers stay prompt and shrinks when they only queue up at the peer: enough to keep the pipe full,
//! never so much that a block that is wanted now waits behind a thousand that can wait.

use std::time::{Duration, Instant};

/// Requests in flight to begin with (JS: 16, and 48 over TCP).
const START: u32 = 48;
/// Requests in flight at least.
pub(crate) const MIN: u32 = 8;
/// Requests in flight at most (JS: 512; JS answers any number).
const MAX: u32 = 2_048;
/// Waiting in the peer's queue that is always acceptable.
const SLACK: Duration = Duration::from_millis(20);
/// Waiting in the peer's queue that is too much.
const TOO_LATE: Duration = Duration::from_millis(200);
/// Silence that no peer is blamed for, whatever its round trips were.
const MIN_TIMEOUT: Duration = Duration::from_secs(3);
const MAX_TIMEOUT: Duration = Duration::from_secs(30);

/// The window of one peer.
#[derive(Debug)]
pub(crate) struct Window {
    limit: u32,
    /// Blocks of the peer are about this large.
    block_bytes: u64,
    max_bytes: u64,
    shortest: Option<Duration>,
    smoothed: Duration,
    deviation: Duration,
    /// The round ends with the answer to this request.
    round_end: u64,
    round_shortest: Option<Duration>,
    round_full: bool,
    /// Consecutive timeouts: the peer gets a single request until it answers again.
    timeouts: u32,
}

impl Window {
    pub(crate) fn new(max_bytes: u64) -> Self {
        Self {
            limit: START,
            block_bytes: 0,
            max_bytes,
            shortest: None,
            smoothed: Duration::ZERO,
            deviation: Duration::ZERO,
            round_end: 0,
            round_shortest: None,
            round_full: false,
            timeouts: 0,
        }
    }

    /// How many requests may be in flight.
    pub(crate) fn limit(&self) -> usize {
        if self.timeouts > 0 {
            return 1;
        }
        let by_bytes = self.max_bytes.checked_div(self.block_bytes).unwrap_or(u64::MAX).max(4);
        u64::from(self.limit).min(by_bytes) as usize
    }

    /// A request was sent; `in_flight` counts it.
    pub(crate) fn sent(&mut self, in_flight: usize) {
        self.round_full |= in_flight >= self.limit();
    }

    /// A request was answered. `next_id` is the number of the next request to be sent.
    pub(crate) fn answered(
        &mut self,
        id: u64,
        next_id: u64,
        sent: Instant,
        now: Instant,
        block: Option<usize>,
    ) {
        let took = now.saturating_duration_since(sent);
        self.timeouts = 0;
        if let Some(bytes) = block {
            let bytes = bytes as u64 + 64;
            self.block_bytes = if self.block_bytes == 0 { bytes } else { (self.block_bytes * 7 + bytes) / 8 };
        }
        if self.shortest.is_none() {
            (self.smoothed, self.deviation) = (took, took / 2);
        } else {
            self.deviation = (self.deviation * 3 + self.smoothed.abs_diff(took)) / 4;
            self.smoothed = (self.smoothed * 7 + took) / 8;
        }
        let shortest = self.shortest.map_or(took, |shortest| shortest.min(took));
        self.shortest = Some(shortest);
        let round = self.round_shortest.map_or(took, |round| round.min(took));
        self.round_shortest = Some(round);
        if id < self.round_end {
            return;
        }
        if self.round_full {
            if round <= shortest * 2 + SLACK {
                self.limit = (self.limit * 2).min(MAX);
            } else if round > shortest * 4 + TOO_LATE {
                self.limit = (self.limit - self.limit / 4).max(MIN);
            } else if round <= shortest * 3 + SLACK * 2 {
                self.limit = (self.limit + self.limit / 16 + 1).min(MAX);
            }
        }
        self.round_end = next_id;
        self.round_shortest = None;
        self.round_full = false;
    }

    /// Requests ran into the timeout.
    pub(crate) fn timed_out(&mut self) {
        self.timeouts = self.timeouts.saturating_add(1);
        self.limit = (self.limit / 2).max(MIN);
    }

    /// True while the last thing heard of the peer is nothing.
    pub(crate) fn is_silent(&self) -> bool {
        self.timeouts > 0
    }

    /// Typical time from request to answer.
    pub(crate) fn round_trip(&self) -> Duration {
        self.smoothed
    }

    /// Silence after which requests go to somebody else.
    pub(crate) fn timeout(&self) -> Duration {
        let usual = self.smoothed * 4 + self.deviation * 4;
        let backoff = 1 << self.timeouts.min(4);
        (usual.max(MIN_TIMEOUT) * backoff).min(MAX_TIMEOUT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that answers `rate` requests a second after a delay; how wide does the window get?
    fn settled(delay: Duration, rate: u64, bytes: usize) -> usize {
        let mut window = Window::new(8 << 20);
        let mut now = Instant::now();
        let mut free_at = now;
        let mut queue = std::collections::VecDeque::new();
        let mut next = 1;
        for _ in 0..20_000 {
            while queue.len() < window.limit() {
                free_at = free_at.max(now + delay / 2) + Duration::from_secs(1) / rate as u32;
                queue.push_back((next, now, free_at + delay / 2));
                next += 1;
                window.sent(queue.len());
            }
            let (id, sent, arrives) = queue.pop_front().unwrap();
            now = now.max(arrives);
            window.answered(id, next, sent, now, Some(bytes));
        }
        window.limit()
    }

    #[test]
    fn a_fast_peer_gets_a_wide_window_and_a_slow_one_a_narrow_one() {
        assert_eq!(settled(Duration::from_micros(100), 150_000, 32), MAX as usize);
        assert_eq!(settled(Duration::from_millis(100), 20_000, 32), MAX as usize);
        let slow = settled(Duration::from_millis(1), 100, 32);
        assert!(slow <= START as usize, "{slow}");
        let large = settled(Duration::from_millis(1), 2_000, 1 << 20);
        assert!(large <= 8, "{large}");
    }

    #[test]
    fn a_silent_peer_gets_one_request_until_it_answers() {
        let now = Instant::now();
        let mut window = Window::new(8 << 20);
        window.timed_out();
        assert_eq!(window.limit(), 1);
        let first = window.timeout();
        window.timed_out();
        assert!(window.timeout() > first);
        window.answered(1, 2, now, now, None);
        assert!(window.limit() >= MIN as usize);
    }
}
