//! How many requests are under way at once, and how fast they follow each other.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Requests under way to one address. A node is not flooded, however much there is to ask it.
const PER_ADDRESS: usize = 32;
/// The window is never narrower.
const MIN_WINDOW: usize = 40;
/// Fewer losses than this in an interval say nothing.
const MANY: usize = 20;
/// Requests that may leave in one burst.
const BURST: f64 = 32.0;
/// How much faster than one window in a round trip requests may leave.
const PACE: f64 = 1.25;
/// Round trips shorter than this need no pacing.
const MIN_RTT: Duration = Duration::from_millis(1);
/// Assumed until one was measured.
const FIRST_RTT: Duration = Duration::from_millis(50);
/// Every so often the window is reconsidered.
const INTERVAL: Duration = Duration::from_millis(750);

/// A congestion window.
///
/// dht-rpc 6.27 lets twice its `maxWindow` of 80 requests be under way, and then releases more every 750 ms. Here each
/// answer (or timeout) lets the next request go, spread over a round trip. When more than half of the requests go
/// unanswered the window narrows, as then the way out may be what is congested; answers widen it again.
#[derive(Debug)]
pub(crate) struct Window {
    max: usize,
    width: usize,
    under_way: HashMap<SocketAddr, usize>,
    total: usize,
    rtt: Option<Duration>,
    budget: f64,
    refilled: Instant,
    interval: Instant,
    answered: usize,
    unanswered: usize,
}

/// Whether a request may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Now.
    Now,
    /// When something comes back from this address.
    AddressBusy,
    /// When anything comes back.
    Full,
    /// At this time, as others have just left.
    At(Instant),
}

impl Window {
    pub(crate) fn new(max_window: usize, now: Instant) -> Self {
        let max = max_window.saturating_mul(2).max(2);
        Self {
            max,
            width: max,
            under_way: HashMap::new(),
            total: 0,
            rtt: None,
            budget: BURST,
            refilled: now,
            interval: now,
            answered: 0,
            unanswered: 0,
        }
    }

    pub(crate) fn admit(&mut self, to: SocketAddr, now: Instant) -> Admission {
        if self.total >= self.width {
            return Admission::Full;
        }
        if self.under_way.get(&to).is_some_and(|count| *count >= PER_ADDRESS) {
            return Admission::AddressBusy;
        }
        let rate = self.width as f64 / self.rtt.unwrap_or(FIRST_RTT).max(MIN_RTT).as_secs_f64() * PACE;
        let passed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.budget = (self.budget + passed * rate).min(BURST);
        self.refilled = self.refilled.max(now);
        if self.budget < 1.0 {
            // A few at once, rather than a timer for each.
            return Admission::At(now + Duration::from_secs_f64(BURST / 4.0 / rate).max(MIN_RTT));
        }
        Admission::Now
    }

    /// A request leaves.
    pub(crate) fn sent(&mut self, to: SocketAddr) {
        self.budget -= 1.0;
        self.total += 1;
        *self.under_way.entry(to).or_default() += 1;
    }

    /// It was answered; `rtt` is how long that took, unless it was to take long.
    pub(crate) fn received(&mut self, to: SocketAddr, rtt: Option<Duration>, now: Instant) {
        self.rtt = match (self.rtt, rtt) {
            (Some(before), Some(rtt)) => Some((before * 7 + rtt) / 8),
            (before, rtt) => before.or(rtt),
        };
        self.answered += 1;
        if self.width < self.max {
            self.width += 1;
        }
        self.gone(to);
        self.reconsider(now);
    }

    /// Nothing came back in time.
    pub(crate) fn lost(&mut self, to: SocketAddr, now: Instant) {
        self.unanswered += 1;
        self.gone(to);
        self.reconsider(now);
    }

    /// Nobody waits for it any longer.
    pub(crate) fn gone(&mut self, to: SocketAddr) {
        self.total = self.total.saturating_sub(1);
        if let Some(count) = self.under_way.get_mut(&to) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.under_way.remove(&to);
            }
        }
    }

    fn reconsider(&mut self, now: Instant) {
        if now.saturating_duration_since(self.interval) < INTERVAL {
            return;
        }
        if self.unanswered > self.answered && self.unanswered > MANY {
            self.width = (self.width / 2).max(MIN_WINDOW.min(self.max));
        }
        self.interval = now;
        self.answered = 0;
        self.unanswered = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: usize) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], n as u16 + 1))
    }

    /// Sends to `hosts` addresses in turn for `time`, each answered after `rtt`: how many left, and the most in 10 ms.
    fn rate(hosts: usize, rtt: Duration, time: Duration) -> (usize, usize) {
        let start = Instant::now();
        let mut window = Window::new(80, start);
        let mut waiting = std::collections::VecDeque::new();
        let (mut now, mut sent, mut bursts) = (start, 0, HashMap::<u128, usize>::new());
        while now < start + time {
            while waiting.front().is_some_and(|(due, _)| *due <= now) {
                let (_, to) = waiting.pop_front().unwrap();
                window.received(to, Some(rtt), now);
            }
            let mut next = now + Duration::from_millis(1);
            loop {
                match window.admit(addr(sent % hosts), now) {
                    Admission::Now => {
                        window.sent(addr(sent % hosts));
                        waiting.push_back((now + rtt, addr(sent % hosts)));
                        *bursts.entry((now - start).as_millis() / 10).or_default() += 1;
                        sent += 1;
                    }
                    Admission::At(at) => {
                        assert!(at > now);
                        next = next.min(at);
                        break;
                    }
                    Admission::AddressBusy | Admission::Full => break,
                }
            }
            assert!(window.total <= 160);
            now = next;
        }
        (sent, bursts.into_values().max().unwrap_or(0))
    }

    #[test]
    fn a_window_in_every_round_trip_and_spread_over_it() {
        let (sent, burst) = rate(100, Duration::from_millis(100), Duration::from_secs(10));
        assert!((12_000..=16_000).contains(&sent), "{sent}");
        // In a tenth of a round trip no more than half a window.
        assert!(burst <= 80, "{burst}");
    }

    #[test]
    fn one_node_alone_is_asked_less() {
        let (sent, _) = rate(1, Duration::from_millis(100), Duration::from_secs(10));
        assert!((2_800..=3_300).contains(&sent), "{sent}");
    }

    #[test]
    fn silence_narrows_the_window_and_answers_widen_it() {
        let mut now = Instant::now();
        let mut window = Window::new(80, now);
        for n in 0..1000 {
            now += Duration::from_millis(10);
            window.sent(addr(n));
            window.lost(addr(n), now);
        }
        assert_eq!(window.width, MIN_WINDOW);
        for n in 0..200 {
            window.sent(addr(n));
            window.received(addr(n), Some(Duration::from_millis(5)), now);
        }
        assert_eq!((window.width, window.total), (160, 0));
        assert!(window.under_way.is_empty());
    }
}
