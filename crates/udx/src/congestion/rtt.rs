//! Round trip times and the retransmission timeout (libudx `ack_packet`, `clamp_rtt`). Times are microseconds.

use crate::filter::Windowed;

/// How long the least round trip time is remembered (libudx `UDX_RTT_MIN_WINDOW_MS`).
const MIN_WINDOW: u64 = 300_000_000;
/// Longest sample that is believed.
const MAX_SAMPLE: u64 = 30_000_000;
/// A sample beyond this that is also far off the mean is taken for a suspended machine.
const OUTLIER: u64 = 5_000_000;
/// The timeout before there is a sample, and the least one.
const MIN_TIMEOUT: u64 = 1_000_000;
const MAX_TIMEOUT: u64 = 30_000_000;

#[derive(Debug)]
pub(crate) struct Rtt {
    smoothed: Option<u64>,
    variance: u64,
    min: Option<Windowed<u64>>,
}

impl Rtt {
    pub(crate) fn new() -> Self {
        Self { smoothed: None, variance: 0, min: None }
    }

    pub(crate) fn smoothed(&self) -> Option<u64> {
        self.smoothed
    }

    /// Least of late; zero before the first sample.
    pub(crate) fn min(&self) -> u64 {
        self.min.as_ref().map_or(0, Windowed::get)
    }

    pub(crate) fn timeout(&self) -> u64 {
        match self.smoothed {
            None => MIN_TIMEOUT,
            Some(smoothed) => (smoothed + 4 * self.variance).clamp(MIN_TIMEOUT, MAX_TIMEOUT),
        }
    }

    /// What is believed of a measured time.
    pub(crate) fn clamp(&self, sample: u64) -> u64 {
        let Some(smoothed) = self.smoothed else { return sample.min(MAX_SAMPLE) };
        let limit = smoothed + 5 * self.variance;
        if sample > limit && sample > OUTLIER { limit.min(MAX_SAMPLE) } else { sample }
    }

    pub(crate) fn sample(&mut self, now: u64, sample: u64) {
        self.min
            .get_or_insert_with(|| Windowed::new(now, sample))
            .update(MIN_WINDOW, now, sample, |a, b| a <= b);
        match &mut self.smoothed {
            None => {
                self.smoothed = Some(sample);
                self.variance = sample / 2;
            }
            Some(smoothed) => {
                self.variance = (3 * self.variance + sample.abs_diff(*smoothed)) / 4;
                *smoothed = (7 * *smoothed + sample) / 8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspended_machine_does_not_make_timeouts_long() {
        let mut rtt = Rtt::new();
        assert_eq!(rtt.timeout(), MIN_TIMEOUT);
        for at in 0..100 {
            rtt.sample(at * 1000, 50_000);
        }
        assert_eq!(rtt.smoothed(), Some(50_000));
        let slept = rtt.clamp(3_600_000_000);
        assert!(slept < OUTLIER);
        rtt.sample(200_000, slept);
        assert_eq!(rtt.timeout(), MIN_TIMEOUT);
        assert_eq!(rtt.min(), 50_000);
    }
}
