//! Complaints about what may happen many times a second: each is made at once, and then once in a while.

use std::{
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::warn;

/// Between two complaints of one kind.
const PAUSE: Duration = Duration::from_secs(60);
/// Until it is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// One kind of complaint.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    said: Option<Instant>,
    kept_back: u64,
}

impl Seldom {
    /// There is something to complain about. When it is time to, returns how often there was since the last time.
    pub(crate) fn happened(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.kept_back += 1;
        if state.said.is_some_and(|said| said.elapsed() < PAUSE) {
            return None;
        }
        state.said = Some(Instant::now());
        Some(std::mem::take(&mut state.kept_back))
    }
}

/// A failed accept is the system's trouble (too many open files) or the client's (gone already): neither lasts.
pub(crate) async fn accept_failed(error: &io::Error, seldom: &Seldom) {
    if let Some(times) = seldom.happened() {
        warn!(%error, times, "a connection could not be accepted");
    }
    tokio::time::sleep(RETRY).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_is_said_and_the_rest_together() {
        let seldom = Seldom::default();
        assert_eq!(seldom.happened(), Some(1));
        for _ in 0..100 {
            assert_eq!(seldom.happened(), None);
        }
        tokio::time::advance(PAUSE).await;
        assert_eq!(seldom.happened(), Some(101));
        assert_eq!(seldom.happened(), None);
    }
}
