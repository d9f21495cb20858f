//! The stream's time and its deadlines. Inside, time is microseconds since the stream was made.

use std::time::{Duration, Instant};

use crate::stream::StreamState;
use crate::stream::ack::Recovery;

/// A tail loss probe waits at least so long: timers tick in milliseconds, and so do remotes.
const MIN_TAIL_PROBE: u64 = 10_000;
/// How long a remote may take to acknowledge a single packet (libudx `UDX_TLP_MAX_ACK_DELAY`).
const MAX_ACK_DELAY: u64 = 2_000;
/// Without a round trip time.
const FIRST_TAIL_PROBE: u64 = 1_000_000;
/// A closed stream answers what the remote repeats until the remote has been silent for so long (libudx repeats after 1,
/// 3, 5 ... s), but not beyond its last timeout.
const LINGER: u64 = 8_500_000;
const MAX_LINGER: u64 = 15_000_000;

#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    now: u64,
}

impl Clock {
    pub(crate) fn new(now: Instant) -> Self {
        Self { start: now, now: 0 }
    }

    /// Time only moves forward.
    pub(crate) fn advance(&mut self, now: Instant) {
        let micros =
            u64::try_from(now.saturating_duration_since(self.start).as_micros()).unwrap_or(u64::MAX / 2);
        self.now = self.now.max(micros);
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    fn instant(&self, at: u64) -> Instant {
        self.start + Duration::from_micros(at)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    pub(crate) retransmit: Option<u64>,
    pub(crate) tail_probe: Option<u64>,
    /// A probe was answered since the last one: another may go.
    pub(crate) tail_probe_permitted: bool,
    pub(crate) reorder: Option<u64>,
    pub(crate) window_probe: Option<u64>,
    pub(crate) keep_alive: Option<u64>,
    pub(crate) pacing: Option<u64>,
    pub(crate) linger: Option<u64>,
    /// No timer: the end of all lingering.
    pub(crate) linger_until: Option<u64>,
}

impl Timers {
    /// Nothing is outstanding.
    pub(crate) fn stop_loss(&mut self) {
        self.retransmit = None;
        self.tail_probe = None;
        self.reorder = None;
    }

    fn next(&self) -> Option<u64> {
        let all = [
            self.retransmit,
            self.tail_probe,
            self.reorder,
            self.window_probe,
            self.keep_alive,
            self.pacing,
            self.linger,
        ];
        all.into_iter().flatten().min()
    }
}

impl StreamState {
    /// When [`handle_timeout`](Self::handle_timeout) and then [`poll_transmit`](Self::poll_transmit) want to be called
    /// at the latest. Ask after `poll_transmit` has returned `None`.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.unsettled {
            return Some(self.clock.instant(self.clock.now()));
        }
        self.timers.next().map(|at| self.clock.instant(at))
    }

    /// Does what is due by now. Calling it too early or too often does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.clock.advance(now);
        self.settle();
        let now = self.clock.now();
        let due = |timer: &mut Option<u64>| timer.take_if(|at| *at <= now).is_some();
        due(&mut self.timers.linger);
        due(&mut self.timers.pacing);
        if self.closed.is_some() {
            return;
        }
        if due(&mut self.timers.keep_alive) {
            self.heartbeat_needed = true;
            self.timers.keep_alive = self.keep_alive_at();
        }
        if due(&mut self.timers.window_probe) {
            self.stats.window_probes += 1;
            self.heartbeat_needed = true;
            self.timers.window_probe = Some(now + 2 * self.rtt.timeout());
        }
        if due(&mut self.timers.reorder) {
            self.detect_losses();
        }
        if due(&mut self.timers.tail_probe) && !self.sent.is_empty() && self.timers.tail_probe_permitted {
            self.probe_tail = true;
        }
        if due(&mut self.timers.retransmit) && !self.sent.is_empty() {
            self.on_retransmission_timeout();
        }
    }

    pub(crate) fn keep_alive_at(&self) -> Option<u64> {
        let after = self.config.keep_alive.filter(|_| self.path.is_some() && self.closed.is_none())?;
        let after = u64::try_from(after.as_micros()).unwrap_or(u64::MAX / 4).clamp(1_000, u64::MAX / 4);
        Some(self.clock.now().saturating_add(after))
    }

    /// To be called when the stream closes, and when a packet comes for it later.
    pub(crate) fn linger(&mut self) {
        let now = self.clock.now();
        let last = *self.timers.linger_until.get_or_insert(now + MAX_LINGER);
        self.timers.linger = Some(last.min(now + LINGER));
    }

    /// Arms the tail loss probe (RFC 8985, 7.2).
    pub(crate) fn schedule_tail_probe(&mut self) {
        if self.sent.is_empty() || self.recovery != Recovery::Open || self.sent.sacked_packets() > 0 {
            return;
        }
        let wait = match self.rtt.smoothed() {
            None => FIRST_TAIL_PROBE,
            Some(rtt) => (2 * rtt + MAX_ACK_DELAY).max(MIN_TAIL_PROBE),
        };
        let at = self.clock.now() + wait;
        self.timers.tail_probe = Some(self.timers.retransmit.map_or(at, |timeout| timeout.min(at)));
    }
}
