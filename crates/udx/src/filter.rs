//! The extreme value of a recent window, in constant space (Kathleen Nichols' algorithm, as in Linux `minmax.c`).

/// Keeps the best three samples of a sliding window. What "better" means is the caller's closure; the position (time
/// or round) only ever grows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windowed<T> {
    best: [(u64, T); 3],
}

impl<T: Copy> Windowed<T> {
    pub(crate) fn new(at: u64, value: T) -> Self {
        Self { best: [(at, value); 3] }
    }

    pub(crate) fn get(&self) -> T {
        self.best[0].1
    }

    /// Takes a sample. `better(a, b)`: whether `a` is at least as good as `b`.
    pub(crate) fn update(&mut self, window: u64, at: u64, value: T, better: impl Fn(T, T) -> bool) {
        let sample = (at, value);
        let [first, second, third] = &mut self.best;
        if better(value, first.1) || at.saturating_sub(third.0) > window {
            self.best = [sample; 3];
            return;
        }
        if better(value, second.1) {
            *second = sample;
            *third = sample;
        } else if better(value, third.1) {
            *third = sample;
        }
        let age = at.saturating_sub(first.0);
        if age > window {
            // The best one is too old: the next best moves up.
            *first = *second;
            *second = *third;
            *third = sample;
            if at.saturating_sub(first.0) > window {
                *first = *second;
                *second = *third;
            }
        } else if second.0 == first.0 && age > window / 4 {
            *second = sample;
            *third = sample;
        } else if third.0 == second.0 && age > window / 2 {
            *third = sample;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_the_window_is_kept_and_then_forgotten() {
        let mut max = Windowed::new(0, 0u64);
        for at in 0..200 {
            let value = if at == 50 { 1_000 } else { 10 };
            max.update(20, at, value, |a, b| a >= b);
            let seen = (50..=70).contains(&at);
            assert_eq!(max.get(), if seen { 1_000 } else { 10 }, "at {at}");
        }
    }
}
