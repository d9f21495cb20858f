//! How much a node says to those who ask with a few bytes and may not be who they claim to be.

use std::time::Instant;

/// Values up to this length are handed out freely: other replies are as long.
pub(super) const LARGE: usize = 1_200;
/// Bytes of longer values that are handed out in a second, to all together.
const PER_SECOND: u64 = 1 << 20;
/// Bytes that may go at once after a pause.
const BURST: u64 = 2 << 20;

/// A request for a value has no proof of where it comes from, and long values are many times as long as the
/// request. So there is a bound on what can be sent to a victim this way.
#[derive(Debug)]
pub(super) struct LargeReplies {
    left: u64,
    as_of: Option<Instant>,
}

impl LargeReplies {
    pub(super) fn new() -> Self {
        Self { left: BURST, as_of: None }
    }

    /// Whether a value of this length may go now.
    pub(super) fn take(&mut self, now: Instant, len: usize) -> bool {
        if len <= LARGE {
            return true;
        }
        let since = self.as_of.map_or(0, |then| now.saturating_duration_since(then).as_millis());
        let gained = u64::try_from(since).unwrap_or(u64::MAX).saturating_mul(PER_SECOND) / 1000;
        if gained > 0 || self.as_of.is_none() {
            self.left = self.left.saturating_add(gained).min(BURST);
            self.as_of = Some(now);
        }
        match self.left.checked_sub(len as u64) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn long_values_have_a_budget_and_short_ones_need_none() {
        let start = Instant::now();
        let mut replies = LargeReplies::new();
        let mut sent = 0;
        for n in 0..100_000u64 {
            let now = start + Duration::from_micros(100 * n);
            assert!(replies.take(now, LARGE));
            if replies.take(now, 1_900) {
                sent += 1_900;
            }
        }
        let (least, most) = (BURST + 9 * PER_SECOND, BURST + 10 * PER_SECOND);
        assert!((least..=most).contains(&sent), "{sent} in ten seconds");
    }
}
