//! When a peer that was lost, or that could not be reached, is tried again: npm `hyperswarm` 4.17.2,
//! `lib/retry-timer.js` and `lib/bulk-timer.js`.
//!
//! There are four delays. A peer waits for one of them together with all others that wait for it, so that thousands
//! of lost peers cost four timers.

use std::time::{Duration, Instant};

use crate::{PublicKey, SwarmOptions, peer::Peer, random::Random};

/// How many times the jitter each of the four delays may be longer.
const JITTERS: [u32; 4] = [2, 3, 5, 241];
/// No delay is shorter: a peer that hangs up at once is not to keep this side busy.
const LEAST: Duration = Duration::from_millis(10);
/// And none, nor the jitter, is longer.
const MOST: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long a peer has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backoff {
    Short,
    Medium,
    Long,
    VeryLong,
}

impl Backoff {
    /// The delay for this peer; `None` when it is not to be tried again.
    pub(crate) fn of(peer: &Peer) -> Option<Self> {
        if peer.banned || !peer.reconnecting {
            return None;
        }
        match (peer.attempts, peer.proven) {
            (0, _) | (1, true) => Some(Self::Short),
            (1, false) | (2, true) => Some(Self::Medium),
            (2, false) | (3, _) => Some(Self::Long),
            _ if peer.explicit => Some(Self::VeryLong),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct RetryTimers {
    timers: [BulkTimer; 4],
}

impl RetryTimers {
    pub(crate) fn new(options: &SwarmOptions, random: &mut Random) -> Self {
        let mut jitters = JITTERS.into_iter();
        let timers = options.backoffs.map(|delay| {
            let jitter = options.jitter.saturating_mul(jitters.next().unwrap_or(1)).min(MOST);
            BulkTimer::new(delay.clamp(LEAST, MOST) + random.up_to(jitter))
        });
        Self { timers }
    }

    pub(crate) fn add(&mut self, peer: PublicKey, backoff: Backoff, now: Instant) {
        if let Some(timer) = self.timers.get_mut(backoff as usize) {
            timer.add(peer, now);
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.iter().filter_map(|timer| timer.next_tick).min()
    }

    /// The peers whose wait is over.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<PublicKey> {
        self.timers.iter_mut().flat_map(|timer| timer.due(now)).collect()
    }

    pub(crate) fn clear(&mut self) -> Vec<PublicKey> {
        self.timers.iter_mut().flat_map(BulkTimer::clear).collect()
    }
}

/// Those who come during one interval leave together at the end of the next: each waits for 2/3 to 4/3 of the delay.
#[derive(Debug)]
struct BulkTimer {
    interval: Duration,
    next_tick: Option<Instant>,
    leaving: Vec<PublicKey>,
    arriving: Vec<PublicKey>,
}

impl BulkTimer {
    fn new(delay: Duration) -> Self {
        Self { interval: delay.mul_f64(0.66), next_tick: None, leaving: Vec::new(), arriving: Vec::new() }
    }

    fn add(&mut self, peer: PublicKey, now: Instant) {
        self.arriving.push(peer);
        self.next_tick.get_or_insert(now + self.interval);
    }

    fn due(&mut self, now: Instant) -> Vec<PublicKey> {
        let mut due = Vec::new();
        while let Some(tick) = self.next_tick.filter(|tick| *tick <= now) {
            due.append(&mut self.leaving);
            self.leaving = std::mem::take(&mut self.arriving);
            self.next_tick = (!self.leaving.is_empty()).then(|| tick + self.interval);
        }
        due
    }

    fn clear(&mut self) -> Vec<PublicKey> {
        self.next_tick = None;
        let mut all = std::mem::take(&mut self.leaving);
        all.append(&mut self.arriving);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_classes_are_those_of_npm() {
        let class =
            |attempts, proven, explicit| Backoff::of(&Peer { attempts, proven, explicit, ..Peer::new() });
        assert_eq!(class(0, false, false), Some(Backoff::Short));
        assert_eq!(class(1, true, false), Some(Backoff::Short));
        assert_eq!(class(2, true, false), Some(Backoff::Medium));
        assert_eq!(class(3, true, false), Some(Backoff::Long));
        assert_eq!(class(1, false, false), Some(Backoff::Medium));
        assert_eq!(class(2, false, false), Some(Backoff::Long));
        assert_eq!(class(3, false, false), Some(Backoff::Long));
        assert_eq!(class(4, true, false), None);
        assert_eq!(class(4, false, true), Some(Backoff::VeryLong));
        let left_alone = Peer { attempts: 1, proven: true, reconnecting: false, ..Peer::new() };
        assert_eq!(Backoff::of(&left_alone), None);
    }

    #[test]
    fn each_waits_for_about_its_delay() {
        let start = Instant::now();
        let mut timers = RetryTimers::new(&SwarmOptions::default(), &mut Random::new(5));
        for (index, millis) in [0u64, 200, 400, 900, 1000].into_iter().enumerate() {
            let at = start + Duration::from_millis(millis);
            timers.add([u8::try_from(index).unwrap(); 32], Backoff::Short, at);
        }
        let mut left = Vec::new();
        while let Some(deadline) = timers.next_deadline() {
            for peer in timers.due(deadline) {
                left.push((peer[0], (deadline - start).as_millis()));
            }
        }
        assert_eq!(left.len(), 5);
        for (_, at) in left {
            assert!((660..=4000).contains(&at), "{at}");
        }
    }
}
