//! How often a node may open, or guess, ports by the hundred (npm `hyperdht` 6.34, `_randomPunches`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Such attempts at the same time.
const LIMIT: usize = 1;

/// Counts the attempts of a node, which are at least an interval apart.
#[derive(Debug, Clone)]
pub(crate) struct PunchBudget {
    state: Arc<Mutex<State>>,
    interval: Duration,
}

#[derive(Debug)]
struct State {
    running: usize,
    last: Option<Instant>,
}

/// An attempt that runs; ends when dropped.
#[derive(Debug)]
pub(crate) struct PunchPermit {
    budget: PunchBudget,
}

impl PunchBudget {
    /// `last`: when to count the last attempt as ended; `None` for never.
    pub(crate) fn new(interval: Duration, last: Option<Instant>) -> Self {
        Self { state: Arc::new(Mutex::new(State { running: 0, last })), interval }
    }

    /// True when an attempt may begin.
    pub(crate) fn is_free(&self, now: Instant) -> bool {
        let state = self.state();
        state.running < LIMIT && state.last.is_none_or(|last| now.duration_since(last) >= self.interval)
    }

    /// Begins an attempt. Whether one may begin was asked before: two sides that have agreed go through with it.
    pub(crate) fn begin(&self) -> PunchPermit {
        self.state().running += 1;
        PunchPermit { budget: self.clone() }
    }

    /// Waits for an interval before the next attempt.
    pub(crate) fn defer(&self, now: Instant) {
        self.state().last = Some(now);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PunchPermit {
    /// Ends the attempt as if it had not been: it sent nothing.
    pub(crate) fn give_back(self) {
        let last = self.budget.state().last;
        let budget = self.budget.clone();
        drop(self);
        budget.state().last = last;
    }
}

impl Drop for PunchPermit {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        state.running = state.running.saturating_sub(1);
        state.last = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_then_a_rest() {
        let budget = PunchBudget::new(Duration::from_secs(20), None);
        let now = Instant::now();
        assert!(budget.is_free(now));
        let permit = budget.begin();
        assert!(!budget.is_free(now + Duration::from_secs(1000)));
        permit.give_back();
        assert!(budget.is_free(now));
        drop(budget.begin());
        assert!(!budget.is_free(Instant::now()));
        assert!(budget.is_free(Instant::now() + Duration::from_secs(20)));
        budget.defer(now + Duration::from_secs(100));
        assert!(!budget.is_free(now + Duration::from_secs(119)));
    }
}
