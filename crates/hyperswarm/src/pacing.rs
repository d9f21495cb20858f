//! How many queries run at the same time: as many as the network carries, and not more.
//!
//! An announcement is a walk through the DHT of some dozens of requests. Thousands of topics that are joined at
//! once wait in a line, and the window says how many walk. It opens with every walk that went well and closes when
//! requests get lost, as the window of a congestion control does: npm `hyperswarm` 4.17.2 starts all at once and
//! leaves it to the DHT to hold them back.

/// Queries that may run before anything is known about the network.
const START: f64 = 16.0;
/// Always allowed.
const LEAST: f64 = 4.0;
/// Never more: each has up to ten requests under way.
const MOST: f64 = 128.0;

/// How a query went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryOutcome {
    /// It came to its end, and somebody answered.
    pub ok: bool,
    /// Requests that were answered, where the DHT counts them.
    pub answered: u32,
    /// Requests that were not, although they were repeated.
    pub lost: u32,
}

impl QueryOutcome {
    /// It went well, and nothing is known about losses.
    pub const OK: Self = Self { ok: true, answered: 0, lost: 0 };
    /// Nobody answered.
    pub const FAILED: Self = Self { ok: false, answered: 0, lost: 0 };

    /// So much was lost that asking less may help. Some nodes of every DHT are gone without a word, so that some
    /// loss says nothing.
    fn is_congested(self) -> bool {
        !self.ok || self.lost > self.answered
    }
}

#[derive(Debug)]
pub(crate) struct Window {
    size: f64,
    /// Until the first loss the window doubles with every round.
    doubling: bool,
    running: u32,
}

impl Default for Window {
    fn default() -> Self {
        Self { size: START, doubling: true, running: 0 }
    }
}

impl Window {
    pub(crate) fn has_room(&self) -> bool {
        f64::from(self.running) < self.size.floor()
    }

    pub(crate) fn started(&mut self) {
        self.running = self.running.saturating_add(1);
    }

    /// A query ended without telling anything about the network.
    pub(crate) fn cancelled(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    pub(crate) fn ended(&mut self, outcome: QueryOutcome) {
        let was_full = !self.has_room();
        self.running = self.running.saturating_sub(1);
        if outcome.is_congested() {
            self.doubling = false;
            // One by one: when a whole window of walks fails, this is a cut to almost nothing.
            self.size = (self.size * 0.9).max(LEAST);
        } else if was_full {
            self.size = (self.size + if self.doubling { 1.0 } else { 1.0 / self.size }).min(MOST);
        }
    }

    #[cfg(test)]
    fn running(&self) -> u32 {
        self.running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(window: &mut Window, rounds: usize, outcome: QueryOutcome) -> u32 {
        for _ in 0..rounds {
            while window.has_room() {
                window.started();
            }
            for _ in 0..window.running() {
                window.ended(outcome);
                while window.has_room() {
                    window.started();
                }
            }
        }
        window.running()
    }

    #[test]
    fn it_opens_to_a_limit_and_closes_to_another() {
        let mut window = Window::default();
        assert_eq!(rounds(&mut window, 10, QueryOutcome::OK), 128);
        assert!(rounds(&mut window, 10, QueryOutcome::FAILED) <= 5);
        let few = rounds(&mut window, 5, QueryOutcome::OK);
        assert!((6..40).contains(&few), "{few}: after a loss it opens carefully");
        let lossy = QueryOutcome { ok: true, answered: 5, lost: 20 };
        assert!(rounds(&mut window, 10, lossy) <= 5);
    }

    #[test]
    fn a_window_that_is_not_used_does_not_open() {
        let mut window = Window::default();
        for _ in 0..1000 {
            window.started();
            window.ended(QueryOutcome::OK);
        }
        assert_eq!(window.size, START);
    }
}
