//! Sorted, disjoint runs of sequence numbers.

use std::collections::VecDeque;

/// A set of numbers, kept as runs `start..end`. Numbers come mostly in ascending order, and go from below.
#[derive(Debug, Default)]
pub(crate) struct Ranges {
    runs: VecDeque<(u64, u64)>,
}

impl Ranges {
    /// The runs, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.runs.iter().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.runs.len()
    }

    /// The run at position `index`.
    pub(crate) fn get(&self, index: usize) -> Option<(u64, u64)> {
        self.runs.get(index).copied()
    }

    /// Position of the run that contains `seq`.
    pub(crate) fn position(&self, seq: u64) -> Option<usize> {
        let index = self.runs.partition_point(|run| run.1 <= seq);
        self.runs.get(index).filter(|run| run.0 <= seq).map(|_| index)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.runs.clear();
    }

    /// Adds `start..end` and hands the parts of it that were missing to `missing`.
    pub(crate) fn insert(&mut self, start: u64, end: u64, mut missing: impl FnMut(u64, u64)) {
        if start >= end {
            return;
        }
        // The runs that touch or overlap the new one become one with it.
        let first = if self.runs.back().is_some_and(|last| last.1 < start) {
            self.runs.len()
        } else {
            self.runs.partition_point(|run| run.1 < start)
        };
        let mut merged = (start, end);
        let mut covered = start;
        let mut last = first;
        while let Some(&(run_start, run_end)) = self.runs.get(last)
            && run_start <= end
        {
            if covered < run_start {
                missing(covered, run_start);
            }
            covered = covered.max(run_end);
            merged = (merged.0.min(run_start), merged.1.max(run_end));
            last += 1;
        }
        if covered < end {
            missing(covered, end);
        }
        if last == first {
            self.runs.insert(first, merged);
        } else {
            if let Some(run) = self.runs.get_mut(first) {
                *run = merged;
            }
            self.runs.drain(first + 1..last);
        }
    }

    /// Forgets everything below `limit`.
    pub(crate) fn forget_below(&mut self, limit: u64) {
        while let Some(run) = self.runs.front_mut() {
            if run.1 > limit {
                run.0 = run.0.max(limit);
                return;
            }
            self.runs.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_are_a_set(steps in proptest::collection::vec((0u64..100, 0u64..12, any::<bool>()), 1..60)) {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            let mut floor = 0;
            for (start, length, forget) in steps {
                if forget {
                    floor = floor.max(start);
                    ranges.forget_below(start);
                    model = model.split_off(&start);
                    continue;
                }
                let mut fresh = Vec::new();
                ranges.insert(start, start + length, |a, b| fresh.extend(a..b));
                let expected: Vec<u64> = (start..start + length).filter(|seq| model.insert(*seq)).collect();
                prop_assert_eq!(fresh, expected);
                prop_assert_eq!(ranges.iter().flat_map(|(a, b)| a..b).collect::<BTreeSet<_>>(), model.clone());
                let runs: Vec<_> = ranges.iter().collect();
                prop_assert!(runs.windows(2).all(|pair| pair[0].1 < pair[1].0));
            }
        }
    }
}
