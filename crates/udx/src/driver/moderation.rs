//! When to read by the clock instead of whenever something arrives.
//!
//! libudx acknowledges every single packet as soon as it has read it. A sender that waits in the kernel is woken for each
//! of them: a context switch per packet on its side, and, if the receiver is on the same machine, the price of waking
//! somebody in the very call with which it acknowledges. But to a stream with many packets under way one acknowledgement
//! means little. When many of them come one by one, the socket gives its wake-ups up and looks once per tick.

use std::time::{Duration, Instant};

/// Timers of the runtime tick in milliseconds: this means the next one.
const TICK: Duration = Duration::from_micros(500);
/// Over what time acknowledgements are counted, and how late the end of it may be noticed.
const SPAN: Duration = Duration::from_millis(1);
const LATE: Duration = Duration::from_millis(4);
/// Acknowledgements of one span, or of one tick, that are worth it.
const MANY: usize = 16;
const ENOUGH: usize = 8;
/// More acknowledgements than this at a time: they come in batches already.
const BATCH: usize = 8;
/// Of so many things that arrive at most one may be something that somebody waits for.
const URGENT_SHARE: usize = 4;
/// So many spans in a row until wake-ups are given up, and ticks until they come back.
const SPANS: u32 = 3;
const TICKS: u32 = 3;
/// A stream with fewer packets under way waits for every acknowledgement.
pub(super) const FEW_UNDER_WAY: usize = 32;

#[derive(Debug)]
pub(super) struct Moderation {
    /// Without wake-ups: when to look next.
    tick: Option<Instant>,
    /// What came since then.
    since: Instant,
    reads: usize,
    patient: usize,
    urgent: usize,
    /// Spans, or ticks, in a row that spoke for the other way.
    streak: u32,
}

impl Moderation {
    pub(super) fn new(now: Instant) -> Self {
        Self { tick: None, since: now, reads: 0, patient: 0, urgent: 0, streak: 0 }
    }

    /// When to look next, if nobody wakes the task.
    pub(super) fn tick(&self) -> Option<Instant> {
        self.tick
    }

    /// A read brought so many acknowledgements that nobody waits for, and so many other datagrams.
    pub(super) fn count(&mut self, patient: usize, urgent: usize) {
        self.reads += 1;
        self.patient += patient;
        self.urgent += urgent;
    }

    /// To be asked when everything is read that was there: whether there should be wake-ups.
    pub(super) fn wants_wakes(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.since);
        if self.tick.is_none() && elapsed < SPAN {
            return true;
        }
        let calm = self.urgent * URGENT_SHARE <= self.patient;
        let for_the_other = match self.tick {
            None => calm && self.patient >= MANY && self.patient <= self.reads * BATCH && elapsed <= LATE,
            Some(_) => !calm || self.patient < ENOUGH,
        };
        self.streak = if for_the_other { self.streak + 1 } else { 0 };
        (self.since, self.reads, self.patient, self.urgent) = (now, 0, 0, 0);
        match self.tick {
            None => self.streak < SPANS,
            Some(_) => self.streak >= TICKS,
        }
    }

    /// Wake-ups were given up, or go on to be so.
    pub(super) fn rest(&mut self, now: Instant) {
        if self.tick.is_none() {
            self.streak = 0;
        }
        self.tick = Some(now + TICK);
    }

    /// Wake-ups are back, or still there.
    pub(super) fn wake(&mut self) {
        if self.tick.take().is_some() {
            self.streak = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_micros(50);

    /// Feeds reads of so many acknowledgements and others for so many steps; whether there are wake-ups at the end.
    fn run(
        moderation: &mut Moderation,
        now: &mut Instant,
        steps: usize,
        patient: usize,
        urgent: usize,
    ) -> bool {
        for _ in 0..steps {
            *now += STEP;
            if moderation.tick().is_some_and(|tick| *now < tick) {
                continue;
            }
            // What gathers between ticks is read at once.
            let gathered = if moderation.tick().is_some() { 10 } else { 1 };
            if patient + urgent > 0 {
                moderation.count(patient * gathered, urgent * gathered);
            }
            if moderation.wants_wakes(*now) {
                moderation.wake();
            } else {
                moderation.rest(*now);
            }
        }
        moderation.tick().is_none()
    }

    #[test]
    fn acknowledgements_one_by_one_are_gathered_until_they_end() {
        let mut now = Instant::now();
        let mut moderation = Moderation::new(now);
        assert!(run(&mut moderation, &mut now, 40, 1, 0), "not for a short burst");
        assert!(!run(&mut moderation, &mut now, 40, 1, 0));
        assert!(!run(&mut moderation, &mut now, 1000, 1, 0));
        assert!(run(&mut moderation, &mut now, 31, 0, 0), "three ticks without any");
    }

    #[test]
    fn what_somebody_waits_for_keeps_the_wakes() {
        let mut now = Instant::now();
        let mut moderation = Moderation::new(now);
        assert!(run(&mut moderation, &mut now, 1000, 0, 1), "data, messages, the user's datagrams");
        assert!(run(&mut moderation, &mut now, 1000, 3, 1), "or as much of it");
        assert!(run(&mut moderation, &mut now, 1000, 20, 0), "or batches");
        assert!(!run(&mut moderation, &mut now, 1000, 5, 1));
        assert!(run(&mut moderation, &mut now, 31, 1, 1), "then they come back");
    }

    #[test]
    fn few_and_late_ones_keep_the_wakes() {
        let mut now = Instant::now();
        let mut moderation = Moderation::new(now);
        for _ in 0..1000 {
            now += Duration::from_micros(100);
            moderation.count(1, 0);
            assert!(moderation.wants_wakes(now));
        }
        for _ in 0..100 {
            now += Duration::from_millis(50);
            for _ in 0..20 {
                moderation.count(1, 0);
            }
            assert!(moderation.wants_wakes(now), "a round trip may bring a window at once");
        }
    }
}
