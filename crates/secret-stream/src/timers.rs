//! Keep-alive and timeout.

use std::time::{Duration, Instant};

/// What a due timer asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    KeepAlive,
    TimedOut,
}

#[derive(Debug)]
pub(crate) struct Timers {
    keep_alive: Option<KeepAlive>,
    timeout: Option<Timeout>,
}

/// Sends do not come with the time, so this ticks at half the interval and sends when nothing was sent since
/// the last tick: after any send at most one interval passes in silence.
#[derive(Debug)]
struct KeepAlive {
    half: Duration,
    tick: Instant,
    sent: bool,
}

#[derive(Debug)]
struct Timeout {
    after: Duration,
    deadline: Instant,
}

impl Timers {
    /// A duration of zero means never, as in JS.
    pub(crate) fn new(keep_alive: Option<Duration>, timeout: Option<Duration>, now: Instant) -> Self {
        let keep_alive = keep_alive.map(|interval| interval / 2).filter(|half| !half.is_zero());
        let timeout = timeout.filter(|after| !after.is_zero());
        Self {
            keep_alive: keep_alive
                .and_then(|half| Some(KeepAlive { half, tick: now.checked_add(half)?, sent: false })),
            timeout: timeout.and_then(|after| Some(Timeout { after, deadline: now.checked_add(after)? })),
        }
    }

    pub(crate) fn sent(&mut self) {
        if let Some(keep_alive) = &mut self.keep_alive {
            keep_alive.sent = true;
        }
    }

    pub(crate) fn received(&mut self, now: Instant) {
        if let Some(timeout) = &mut self.timeout {
            timeout.deadline = now.checked_add(timeout.after).unwrap_or(timeout.deadline);
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let tick = self.keep_alive.as_ref().map(|keep_alive| keep_alive.tick);
        let deadline = self.timeout.as_ref().map(|timeout| timeout.deadline);
        match (tick, deadline) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    pub(crate) fn due(&mut self, now: Instant) -> Due {
        if self.timeout.as_ref().is_some_and(|timeout| timeout.deadline <= now) {
            return Due::TimedOut;
        }
        let Some(keep_alive) = self.keep_alive.as_mut().filter(|keep_alive| keep_alive.tick <= now) else {
            return Due::Nothing;
        };
        keep_alive.tick = now.checked_add(keep_alive.half).unwrap_or(keep_alive.tick);
        if std::mem::take(&mut keep_alive.sent) { Due::Nothing } else { Due::KeepAlive }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn silence_never_exceeds_the_interval() {
        let start = Instant::now();
        let mut timers = Timers::new(Some(4 * SECOND), None, start);
        let mut now = start;
        let mut last_sent = start;
        let sends = [1, 7, 8, 20, 21, 22, 23, 24, 25, 41].map(|s| start + s * SECOND);
        while now < start + 60 * SECOND {
            now += SECOND;
            if timers.next_deadline().unwrap() <= now && timers.due(now) == Due::KeepAlive {
                timers.sent();
                last_sent = now;
            }
            if sends.contains(&now) {
                timers.sent();
                last_sent = now;
            }
            assert!(now - last_sent <= 4 * SECOND);
        }
    }

    #[test]
    fn timeout_follows_what_arrives() {
        let start = Instant::now();
        let mut timers = Timers::new(Some(Duration::ZERO), Some(5 * SECOND), start);
        assert_eq!(timers.next_deadline(), Some(start + 5 * SECOND));
        timers.received(start + 3 * SECOND);
        assert_eq!(timers.due(start + 5 * SECOND), Due::Nothing);
        assert_eq!(timers.due(start + 8 * SECOND), Due::TimedOut);
    }
}
