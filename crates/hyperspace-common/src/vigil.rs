//! Whether to wait awake for what the other side is about to send.

use std::time::{Duration, Instant};

/// Whoever gives way after each look and gets to look this rarely is not alone on the core, and sleeps this time.
const SHARED: Duration = Duration::from_micros(30);
/// From here on it was hardly the other side that had the core, to make its answer, but a program that takes all it gets, or
/// all programs had to stand still, because they are allowed no more time.
const CROWDED: Duration = Duration::from_micros(300);
/// What is taken to be gained by not having slept, as long as it is not known what waits asleep take ...
const GAIN: Duration = Duration::from_micros(5);
/// ... and the most that is, when it is: about what it takes to wake a thread.
const MOST_GAINED_AT_ONCE: Duration = Duration::from_micros(30);
/// Gains may be lost again to those who take the core, up to this: about what a program that takes all it gets has when it
/// is given way to once or twice. Nobody who sleeps is taken to wait longer, either.
const MOST_GAINED: Duration = Duration::from_millis(2);
/// A side that takes this long was at something else, and its time says nothing of what waits asleep take.
const ABSENT: Duration = Duration::from_millis(10);
/// How long nobody waits awake when more was lost; twice as long as the last time, until as much was gained again ...
const FIRST_REST: Duration = Duration::from_millis(1);
/// ... and not longer than this.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// Decides whether to wait awake, looking again and again, or to sleep until something comes.
///
/// It takes longer to put a thread to sleep and to wake it than to serve most calls: two programs that talk in turns are
/// faster when they look. It has its price where a core is shared: each look gives way to the others, and they may take
/// milliseconds. So it is done while what is waited for comes at once, and not for a while when others turned out to need
/// the core: a client that is answered 25,000 times a second beside a busy program would be down to a thousand. What is
/// gained and lost is measured against the waits that nobody looked in.
///
/// It knows no clock: the time is told.
///
/// ```
/// use std::time::{Duration, Instant};
/// use hyperspace_common::Vigil;
///
/// let mut vigil = Vigil::new(Duration::from_micros(100));
/// let start = Instant::now();
/// assert!(!vigil.nothing_came(start), "nothing is known of the other side yet");
/// vigil.something_came(start + Duration::from_micros(20));
/// assert!(vigil.nothing_came(start + Duration::from_micros(25)), "that was soon");
/// ```
#[derive(Debug, Clone)]
pub struct Vigil {
    /// What takes longer than this does not come at once.
    limit: Duration,
    /// What was waited for last came at once.
    brisk: bool,
    /// Since when something is waited for.
    since: Option<Instant>,
    /// When it was looked last, while somebody looks.
    looked: Option<Instant>,
    /// Nobody looked since then, or did something else.
    slept: bool,
    /// How long such a wait took: a mean of the last ones.
    asleep: Option<Duration>,
    /// What was gained and not lost again.
    gained: Duration,
    rest: Duration,
    rests_until: Option<Instant>,
    /// What is to be gained before the last rest is forgotten.
    owed: Duration,
}

impl Vigil {
    /// For a side that answers within `limit` or takes its time.
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            brisk: false,
            since: None,
            looked: None,
            slept: false,
            asleep: None,
            gained: MOST_GAINED,
            rest: Duration::ZERO,
            rests_until: None,
            owed: Duration::ZERO,
        }
    }

    /// Something is waited for from now on. Who does not say so waits since the first look.
    pub fn begin(&mut self, now: Instant) {
        self.since = Some(now);
        self.looked = None;
        self.slept = true;
    }

    /// Nothing is waited for any more, whether or not it came.
    pub fn cancel(&mut self) {
        self.since = None;
        self.looked = None;
    }

    /// Whether something is waited for.
    pub fn is_begun(&self) -> bool {
        self.since.is_some()
    }

    /// Something is waited for still, but nobody looks: what others do meanwhile keeps nobody from it.
    pub fn look_away(&mut self) {
        self.looked = None;
        self.slept = false;
    }

    /// It is looked for from now on. Who does not say so looks since there was a look and nothing had come.
    pub fn look(&mut self) {
        self.slept = false;
    }

    /// There was a look, and nothing had come. Says whether to look again, after giving way to others.
    pub fn nothing_came(&mut self, now: Instant) -> bool {
        if self.since.is_none() {
            self.begin(now);
        }
        self.was_crowded(now);
        if self.waited(now) >= self.limit {
            self.brisk = false;
        }
        let again = self.is_kept(now);
        self.looked = again.then_some(now);
        self.slept &= !again;
        again
    }

    /// What was waited for came.
    pub fn something_came(&mut self, now: Instant) {
        if !self.is_begun() {
            return;
        }
        let took = self.waited(now);
        if self.looked.is_some() && !self.was_crowded(now) {
            let gained = |asleep: Duration| asleep.saturating_sub(took).min(MOST_GAINED_AT_ONCE);
            let gain = self.asleep.map_or(GAIN, gained);
            self.gained = (self.gained + gain).min(MOST_GAINED);
            self.owed = self.owed.saturating_sub(gain);
            if self.owed.is_zero() {
                self.rest = Duration::ZERO;
            }
        }
        if self.slept && took < ABSENT {
            self.asleep = Some(self.asleep.map_or(took, |before| (before * 7 + took) / 8));
        }
        self.brisk = took < self.limit;
        self.cancel();
    }

    /// Whether looking is worth it.
    pub fn is_kept(&mut self, now: Instant) -> bool {
        if self.rests_until.is_some_and(|until| now >= until) {
            self.rests_until = None;
        }
        self.brisk && self.rests_until.is_none()
    }

    /// For how long something is waited for.
    fn waited(&self, now: Instant) -> Duration {
        self.since.map(|since| now.saturating_duration_since(since)).unwrap_or_default()
    }

    /// How long others had the core since the last look decides: about this wait, and, when they took more than was gained,
    /// about the next ones.
    fn was_crowded(&mut self, now: Instant) -> bool {
        let away = self.looked.map(|looked| now.saturating_duration_since(looked)).unwrap_or_default();
        if away >= SHARED {
            self.brisk = false;
        }
        if away < CROWDED {
            return false;
        }
        // Where many sides are served on few cores, who sleeps waits as long: giving way to all of them, and finding what
        // they sent together, is better than to be woken by the first.
        let lost = away.saturating_sub(self.asleep.unwrap_or_default().min(MOST_GAINED));
        match self.gained.checked_sub(lost) {
            Some(left) => self.gained = left,
            None => {
                self.gained = Duration::ZERO;
                self.owed = lost.clamp(MOST_GAINED, LONGEST_REST);
                self.rest = (self.rest * 2).clamp(FIRST_REST, LONGEST_REST);
                self.rests_until = Some(now + self.rest);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_micros(100);
    const SOON: Duration = Duration::from_micros(10);
    /// When it came for those who sleep.
    const WOKEN: Duration = SOON.checked_add(GAIN).unwrap();

    /// A vigil and its clock.
    struct Watch {
        vigil: Vigil,
        now: Instant,
    }

    impl Watch {
        /// Of a side that answers at once.
        fn brisk() -> Self {
            let mut watch = Self { vigil: Vigil::new(LIMIT), now: Instant::now() };
            watch.sleeps(SOON);
            // As if it was not known.
            watch.vigil.asleep = None;
            watch
        }

        /// The same, and nothing was gained yet.
        fn poor() -> Self {
            let mut watch = Self::brisk();
            watch.vigil.gained = Duration::ZERO;
            watch
        }

        fn looks_after(&mut self, time: Duration) -> bool {
            self.now += time;
            self.vigil.nothing_came(self.now)
        }

        fn comes_after(&mut self, time: Duration) {
            self.now += time;
            self.vigil.something_came(self.now);
        }

        /// It comes after this time, and nobody looks.
        fn sleeps(&mut self, time: Duration) {
            self.vigil.begin(self.now);
            self.comes_after(time);
        }

        fn gains(&mut self, time: Duration) {
            let start = self.vigil.gained;
            for _ in 0..time.as_micros() / GAIN.as_micros() {
                assert!(self.looks_after(SOON));
                self.comes_after(SOON);
            }
            assert_eq!(self.vigil.gained, (start + time).min(MOST_GAINED));
        }

        /// How long nobody looks.
        fn rest(&mut self) -> Duration {
            let start = self.now;
            // Those that sleep are served at once, too.
            while !self.looks_after(Duration::ZERO) {
                self.comes_after(WOKEN);
                assert!(self.now - start <= LONGEST_REST * 2, "it never looks again");
                self.now += FIRST_REST / 100;
            }
            self.vigil.cancel();
            self.now - start
        }
    }

    fn about(time: Duration) -> std::ops::Range<Duration> {
        time - FIRST_REST / 10..time + FIRST_REST / 10
    }

    #[test]
    fn a_side_that_answers_at_once_is_waited_for_awake() {
        let mut watch = Watch { vigil: Vigil::new(LIMIT), now: Instant::now() };
        assert!(!watch.looks_after(SOON), "nothing is known of it yet");
        watch.comes_after(LIMIT / 2);
        for _ in 0..10 {
            for _ in 0..9 {
                assert!(watch.looks_after(SOON));
            }
            watch.comes_after(SOON);
        }
        for _ in 0..10 {
            assert!(watch.looks_after(SOON));
        }
        assert!(!watch.looks_after(SOON), "that was too long");
        watch.comes_after(SOON);
        assert!(!watch.looks_after(SOON), "it takes its time now");
        watch.comes_after(LIMIT / 2);
        assert!(watch.looks_after(SOON));
    }

    #[test]
    fn what_is_no_longer_waited_for_says_nothing() {
        let mut watch = Watch::brisk();
        watch.vigil.begin(watch.now);
        assert!(watch.looks_after(SOON));
        watch.vigil.cancel();
        watch.comes_after(Duration::from_secs(1));
        assert!(watch.vigil.is_kept(watch.now));
    }

    #[test]
    fn nobody_looks_for_a_while_when_others_need_the_core() {
        // They took it, and nothing came meanwhile, or it did.
        for comes in [false, true] {
            let mut watch = Watch::poor();
            for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 5000, 5000] {
                assert!(watch.looks_after(SOON));
                if comes {
                    watch.comes_after(CROWDED);
                } else {
                    assert!(!watch.looks_after(CROWDED));
                    watch.comes_after(SOON);
                }
                let rest = watch.rest();
                assert!(
                    about(Duration::from_millis(expected)).contains(&rest),
                    "{rest:?} and not {expected} ms"
                );
            }
            // They are gone.
            watch.gains(MOST_GAINED);
            assert!(watch.looks_after(SOON));
            assert!(!watch.looks_after(MOST_GAINED + CROWDED));
            assert!(about(FIRST_REST).contains(&watch.rest()));
        }
    }

    #[test]
    fn a_moment_without_the_core_ends_a_wait_and_no_more() {
        let mut watch = Watch::poor();
        for _ in 0..3 {
            assert!(watch.looks_after(SOON));
            assert!(!watch.looks_after(SHARED));
            watch.comes_after(SOON);
        }
        assert!(watch.looks_after(SOON));
        watch.comes_after(SHARED);
        assert!(watch.looks_after(SOON), "it came soon, for all that");
        assert_eq!(watch.vigil.gained, GAIN, "nobody slept");
    }

    #[test]
    fn what_was_gained_may_be_lost() {
        let mut watch = Watch::poor();
        watch.gains(CROWDED * 3);
        for _ in 0..3 {
            assert!(watch.looks_after(SOON));
            assert!(!watch.looks_after(CROWDED));
            watch.comes_after(LIMIT);
            assert!(!watch.looks_after(SOON), "it took its time");
            watch.comes_after(SOON);
        }
        assert!(watch.looks_after(SOON));
        assert!(!watch.looks_after(CROWDED));
        assert!(about(FIRST_REST).contains(&watch.rest()), "it was one too many");
    }

    #[test]
    fn little_is_lost_however_much_was_gained() {
        let mut watch = Watch::brisk();
        watch.gains(Duration::from_secs(1));
        assert!(watch.looks_after(SOON));
        assert!(!watch.looks_after(MOST_GAINED + SOON));
        assert!(about(FIRST_REST).contains(&watch.rest()));
    }

    #[test]
    fn a_loss_is_forgotten_once_as_much_was_gained() {
        let lost = MOST_GAINED * 5;
        for (gained, expected) in [(lost - GAIN, FIRST_REST * 2), (lost, FIRST_REST)] {
            let mut watch = Watch::poor();
            assert!(watch.looks_after(SOON));
            assert!(!watch.looks_after(lost));
            watch.comes_after(SOON);
            watch.rest();
            watch.gains(gained);
            assert!(watch.looks_after(SOON));
            assert!(!watch.looks_after(lost));
            assert!(about(expected).contains(&watch.rest()));
        }
    }

    #[test]
    fn time_when_nobody_looked_is_no_loss() {
        let mut watch = Watch::poor();
        assert!(watch.looks_after(SOON));
        watch.vigil.look_away();
        watch.comes_after(CROWDED);
        assert!(!watch.looks_after(SOON), "that was long");
        watch.comes_after(SOON);
        assert!(watch.looks_after(SOON), "and no reason to rest");
        assert!(watch.vigil.is_begun());
        watch.vigil.cancel();
        assert!(!watch.vigil.is_begun());
    }

    #[test]
    fn who_sleeps_is_kept_from_nothing() {
        let mut watch = Watch::poor();
        assert!(watch.looks_after(SOON));
        assert!(!watch.looks_after(CROWDED));
        // However rarely it is looked meanwhile: others are not to blame.
        for _ in 0..2 {
            assert!(!watch.looks_after(CROWDED));
        }
        watch.comes_after(SOON);
        assert!(about(FIRST_REST - CROWDED * 2).contains(&watch.rest()));
    }

    #[test]
    fn what_is_gained_is_what_waits_asleep_take_longer() {
        for (asleep, gain) in [
            (SOON / 2, Duration::ZERO),
            (WOKEN, GAIN),
            (SOON + MOST_GAINED_AT_ONCE, MOST_GAINED_AT_ONCE),
            (LIMIT / 2 + MOST_GAINED_AT_ONCE, MOST_GAINED_AT_ONCE),
        ] {
            let mut watch = Watch::poor();
            watch.sleeps(asleep);
            assert!(watch.looks_after(SOON));
            watch.comes_after(SOON);
            assert_eq!(watch.vigil.gained, gain, "asleep it took {asleep:?}");
        }
    }

    /// Twelve clients on two cores: whoever gives way is away until most of them had their turn, and so is who sleeps.
    #[test]
    fn where_those_who_sleep_wait_as_long_nothing_is_lost() {
        let mut watch = Watch::poor();
        for _ in 0..1000 {
            // They take so long that the next wait is not awake.
            watch.sleeps(CROWDED * 3);
            watch.sleeps(SOON);
            assert!(watch.looks_after(SOON));
            watch.comes_after(CROWDED);
        }
        assert!(watch.vigil.rests_until.is_none());
    }

    #[test]
    fn they_wait_as_long_only_as_long_as_they_do() {
        let mut watch = Watch::poor();
        for _ in 0..100 {
            watch.sleeps(MOST_GAINED * 2);
        }
        watch.sleeps(SOON);
        // Of the many only one is left, and a program that takes all it gets.
        let mut waits = 0;
        while watch.vigil.rests_until.is_none() {
            waits += 1;
            assert!(waits < 30, "half of them take the program's turn");
            if watch.looks_after(SOON) {
                assert!(!watch.looks_after(MOST_GAINED / 2));
            }
            watch.comes_after(WOKEN);
        }
    }

    #[test]
    fn nobody_is_taken_to_wait_longer_than_a_program_or_two_take() {
        let mut watch = Watch::poor();
        for _ in 0..100 {
            watch.sleeps(MOST_GAINED * 4);
        }
        watch.sleeps(SOON);
        assert!(watch.looks_after(SOON));
        assert!(!watch.looks_after(MOST_GAINED));
        assert!(watch.vigil.rests_until.is_none());
        watch.comes_after(LIMIT);
        watch.sleeps(SOON);
        assert!(watch.looks_after(SOON));
        assert!(!watch.looks_after(MOST_GAINED + SOON));
        assert!(watch.vigil.rests_until.is_some());
    }

    #[test]
    fn a_side_that_was_at_something_else_says_nothing_of_waits_asleep() {
        let mut watch = Watch::poor();
        watch.sleeps(WOKEN);
        watch.sleeps(ABSENT);
        watch.sleeps(SOON);
        let known = watch.vigil.asleep;
        // What was waited for came to somebody who looked, at the first look, too, or did something else.
        watch.vigil.begin(watch.now);
        watch.vigil.look();
        watch.comes_after(LIMIT / 2);
        watch.vigil.begin(watch.now);
        watch.vigil.look_away();
        watch.comes_after(LIMIT / 2);
        assert!(watch.looks_after(SOON));
        assert!(!watch.looks_after(LIMIT));
        watch.comes_after(LIMIT);
        assert_eq!(watch.vigil.asleep, known);
        assert_eq!(known, Some((WOKEN * 7 + SOON) / 8));
    }
}
