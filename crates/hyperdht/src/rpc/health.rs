//! Whether the network answers.

use std::collections::VecDeque;

/// Ticks that are looked at (dht-rpc 6.27, `lib/health.js`).
const WINDOW: usize = 4;
/// With fewer answers and timeouts than this in a tick, it tells nothing.
const IDLE: u64 = 4;
/// Ticks in a row without any answer before we call ourselves offline.
const OFFLINE_TICKS: usize = 2;

/// Looks at the answers and timeouts of the latest ticks: none answered in two of them, we are offline; in four, more
/// than half timed out, the network is degraded; until in four of them it was otherwise.
#[derive(Debug)]
pub(crate) struct Health {
    ticks: VecDeque<Tick>,
    last: Option<(u64, u64)>,
    offline_ticks: usize,
    online: bool,
    degraded: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tick {
    Idle,
    Healthy,
    Degraded,
    Offline,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self { ticks: VecDeque::new(), last: None, offline_ticks: 0, online: true, degraded: false }
    }

    pub(crate) fn is_online(&self) -> bool {
        self.online
    }

    pub(crate) fn is_degraded(&self) -> bool {
        self.online && self.degraded
    }

    /// One tick has passed; the counters are those since the start. True if the outcome changed.
    pub(crate) fn tick(&mut self, responses: u64, timeouts: u64) -> bool {
        let (responses_before, timeouts_before) =
            self.last.replace((responses, timeouts)).unwrap_or_default();
        let responses = responses.saturating_sub(responses_before);
        let timeouts = timeouts.saturating_sub(timeouts_before);

        let cold = self.ticks.len() + 1 < WINDOW;
        let tick = if cold || responses + timeouts < IDLE {
            Tick::Idle
        } else if responses == 0 {
            Tick::Offline
        } else if timeouts > responses {
            Tick::Degraded
        } else {
            Tick::Healthy
        };
        if self.ticks.len() >= WINDOW {
            self.ticks.pop_front();
        }
        self.ticks.push_back(tick);
        if tick == Tick::Idle {
            return false;
        }

        let before = (self.is_online(), self.is_degraded());
        if tick == Tick::Offline {
            self.offline_ticks += 1;
            if self.offline_ticks >= OFFLINE_TICKS {
                self.online = false;
            }
        } else {
            self.offline_ticks = 0;
            self.online = true;
        }
        if !self.online || self.ticks.iter().all(|tick| *tick == Tick::Healthy) {
            self.degraded = false;
        } else if self.ticks.iter().all(|tick| *tick == Tick::Degraded) {
            self.degraded = true;
        }
        before != (self.is_online(), self.is_degraded())
    }

    /// Starts anew, online. True if that is a change.
    pub(crate) fn reset(&mut self) -> bool {
        let changed = !self.online || self.is_degraded();
        *self = Self::new();
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays ticks of (responses, timeouts).
    fn after(ticks: &[(u64, u64)]) -> (bool, bool) {
        let mut health = Health::new();
        let (mut responses, mut timeouts) = (0, 0);
        for tick in ticks {
            responses += tick.0;
            timeouts += tick.1;
            health.tick(responses, timeouts);
        }
        (health.is_online(), health.is_degraded())
    }

    #[test]
    fn silence_is_offline_after_two_ticks_and_one_answer_ends_it() {
        let warm = [(10, 0); 4];
        assert_eq!(after(&warm), (true, false));
        assert_eq!(after(&[&warm[..], &[(0, 10)]].concat()), (true, false));
        assert_eq!(after(&[&warm[..], &[(0, 10); 2]].concat()), (false, false));
        assert_eq!(after(&[&warm[..], &[(0, 10); 2], &[(1, 9)]].concat()), (true, false));
    }

    #[test]
    fn few_requests_tell_nothing() {
        assert_eq!(after(&[(0, 3); 20]), (true, false));
        assert_eq!(after(&[(0, 10); 3]), (true, false));
    }

    #[test]
    fn degraded_for_four_ticks_until_healthy_for_four() {
        let bad = [(2, 10); 8];
        assert_eq!(after(&bad), (true, true));
        assert_eq!(after(&[&bad[..], &[(10, 0); 3]].concat()), (true, true));
        assert_eq!(after(&[&bad[..], &[(10, 0); 4]].concat()), (true, false));
    }
}
