//! Receive windows that grow where they hold a fast remote back, within a budget of the instance.
//!
//! A stream carries at most one window per round trip, and after a loss, when the gap closes a round trip late, half of
//! that. 4 MiB (libudx's constant) is 80 MB/s at 50 ms, 40 with a loss in every window. A receiver does not measure round
//! trips, but how long a window's worth takes it sees: far less than a usual round trip, and the window is not what
//! limits; far more, and the path is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The largest window that a stream grows to.
const MAX_WINDOW: u32 = 16 << 20;
/// What the streams of an instance together may hold beyond the windows that they were made with.
const MAX_EXTRA: usize = 128 << 20;
/// A window's worth in less than this: the round trip is short, a larger window would only be memory.
const FAST: Duration = Duration::from_millis(10);
/// A window's worth in more than this: something else is slower than the window.
const SLOW: Duration = Duration::from_millis(400);
/// A window that has grown and has not been used up for so long is needed no more: others may.
const UNUSED: Duration = Duration::from_secs(30);

/// What the streams of an instance hold beyond the windows that they were made with.
#[derive(Debug, Default)]
pub(super) struct Extra(AtomicUsize);

impl Extra {
    fn take(&self, bytes: usize) -> bool {
        let more = |taken: usize| taken.checked_add(bytes).filter(|taken| *taken <= MAX_EXTRA);
        self.0.try_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// The window of one stream.
#[derive(Debug)]
pub(super) struct Window {
    /// What the stream was made with.
    first: u32,
    bytes: u32,
    extra: usize,
    /// What was read since `since`.
    read: usize,
    since: Instant,
}

impl Window {
    pub(super) fn new(bytes: u32, now: Instant) -> Self {
        Self { first: bytes, bytes, extra: 0, read: 0, since: now }
    }

    /// The user has read so much; the answer is a new window.
    pub(super) fn read(&mut self, bytes: usize, extra: &Extra, now: impl Fn() -> Instant) -> Option<u32> {
        self.read = self.read.saturating_add(bytes);
        let window = usize::try_from(self.bytes).ok()?;
        if self.read < window || window == 0 {
            return None;
        }
        let now = now();
        let took = now.saturating_duration_since(self.since);
        (self.read, self.since) = (0, now);
        let grown = self.bytes.checked_mul(2).filter(|grown| *grown <= MAX_WINDOW)?;
        if took < FAST || took > SLOW || !extra.take(window) {
            return None;
        }
        self.extra += window;
        self.bytes = grown;
        Some(grown)
    }

    /// When to ask whether it is [unused](Self::unused).
    pub(super) fn deadline(&self) -> Option<Instant> {
        (self.extra > 0).then(|| self.since + UNUSED)
    }

    /// The window that the stream was made with, when a larger one has not been used up for some time. `fits`: whether
    /// what is held leaves room; a reader that stands still keeps it.
    pub(super) fn unused(
        &mut self,
        extra: &Extra,
        now: Instant,
        fits: impl FnOnce(u32) -> bool,
    ) -> Option<u32> {
        self.deadline().filter(|deadline| *deadline <= now)?;
        (self.read, self.since) = (0, now);
        if !fits(self.first) {
            return None;
        }
        self.give_back(extra);
        self.bytes = self.first;
        Some(self.first)
    }

    /// The stream is closed.
    pub(super) fn give_back(&mut self, extra: &Extra) {
        extra.give_back(std::mem::take(&mut self.extra));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_only_where_the_window_is_what_limits() {
        let extra = Extra::default();
        let start = Instant::now();
        let at = |ms| move || start + Duration::from_millis(ms);
        let mut window = Window::new(4 << 20, start);
        assert_eq!(window.read(4 << 20, &extra, at(5)), None, "a short round trip");
        assert_eq!(window.read(4 << 20, &extra, at(3000)), None, "a slow path");
        assert_eq!(window.read(3 << 20, &extra, at(3050)), None, "not yet");
        assert_eq!(window.read(1 << 20, &extra, at(3060)), Some(8 << 20));
        assert_eq!(window.read(8 << 20, &extra, at(3120)), Some(16 << 20));
        assert_eq!(window.read(64 << 20, &extra, at(3200)), None, "large enough");
        window.give_back(&extra);
        assert_eq!(extra.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn shrinks_when_it_is_not_used() {
        let extra = Extra::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut window = Window::new(4 << 20, start);
        assert_eq!(window.deadline(), None, "it has not grown");
        assert_eq!(window.read(4 << 20, &extra, || at(50)), Some(8 << 20));
        assert_eq!(window.deadline(), Some(at(30_050)));
        assert_eq!(window.unused(&extra, at(30_049), |_| true), None);
        // A slow reader is one that does not use it.
        assert_eq!(window.read(7 << 20, &extra, || at(20_000)), None);
        assert_eq!(window.unused(&extra, at(30_050), |_| false), None, "it is full");
        assert_eq!(window.unused(&extra, at(60_049), |_| true), None, "asked again later");
        assert_eq!(window.unused(&extra, at(60_050), |held| held == 4 << 20), Some(4 << 20));
        assert_eq!((window.deadline(), extra.0.load(Ordering::Relaxed)), (None, 0));
        assert_eq!(window.read(4 << 20, &extra, || at(60_100)), Some(8 << 20), "and grows again");
    }

    #[test]
    fn all_streams_together_have_a_bound() {
        let extra = Extra::default();
        let start = Instant::now();
        let mut windows: Vec<_> = (0..100).map(|_| Window::new(4 << 20, start)).collect();
        for turn in 1..4 {
            for window in &mut windows {
                window.read(64 << 20, &extra, || start + Duration::from_millis(50 * turn));
            }
        }
        let taken: usize = windows.iter().map(|window| window.extra).sum();
        assert_eq!(taken, MAX_EXTRA);
        assert_eq!(extra.0.load(Ordering::Relaxed), MAX_EXTRA);
    }
}
