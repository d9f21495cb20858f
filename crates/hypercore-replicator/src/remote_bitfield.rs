//! Which blocks a peer says it has, kept as small as what it said.
//!
//! Most peers have everything, or everything up to some block: one number. What is beyond is kept as runs, and
//! pages of bits replace runs only where the remote is really fragmented. A remote may announce anything, so
//! both are bounded; what does not fit is forgotten, which costs a request to somebody else and nothing more.

use std::collections::BTreeMap;

/// Blocks in one page of bits (npm `hypercore` 11, `lib/remote-bitfield.js`).
const PAGE_BITS: u64 = 32_768;
const PAGE_WORDS: usize = (PAGE_BITS / 64) as usize;
/// Runs kept at most.
const MAX_RUNS: usize = 4_096;
/// Pages of bits kept at most: 2 MiB, sixteen million fragmented blocks.
const MAX_PAGES: usize = 512;
/// A page with more runs than this in it is cheaper as bits.
const MAX_RUNS_IN_PAGE: usize = 96;

/// The blocks of one peer.
#[derive(Debug, Default)]
pub(crate) struct RemoteBitfield {
    /// Every block below is there.
    contiguous: u64,
    /// Start to end of further runs: disjoint, not touching, above `contiguous`. Silent about blocks in `pages`.
    runs: BTreeMap<u64, u64>,
    /// Bits of the pages that are fragmented.
    pages: BTreeMap<u64, Box<Page>>,
}

type Page = [u64; PAGE_WORDS];

impl RemoteBitfield {
    /// Every block below this is there.
    pub(crate) fn contiguous_length(&self) -> u64 {
        self.contiguous
    }

    /// Whether the peer has a block.
    pub(crate) fn get(&self, index: u64) -> bool {
        index < self.contiguous || self.next_set(index, index.saturating_add(1)).is_some()
    }

    /// Whether the peer has all of `start..end`.
    pub(crate) fn covers(&self, start: u64, end: u64) -> bool {
        if end <= self.contiguous || start >= end {
            return true;
        }
        let mut at = start.max(self.contiguous);
        while at < end {
            let (page, bit) = (at / PAGE_BITS, (at % PAGE_BITS) as usize);
            if let Some(bits) = self.pages.get(&page) {
                let stop = end.min(page_start(page + 1));
                let last = (stop - page_start(page)) as usize;
                if find(bits, false, bit, last).is_some() {
                    return false;
                }
                at = stop;
            } else {
                match self.run_at(at) {
                    Some((run, run_end)) if run <= at => {
                        let next_page = self.pages.range(page..).next().map(|(page, _)| page_start(*page));
                        at = run_end.min(next_page.unwrap_or(u64::MAX));
                    }
                    _ => return false,
                }
            }
        }
        true
    }

    /// The first block of `from..end` that the peer has.
    pub(crate) fn next_set(&self, from: u64, end: u64) -> Option<u64> {
        if from >= end {
            return None;
        }
        if from < self.contiguous {
            return Some(from);
        }
        let mut at = from;
        while at < end {
            let page = at / PAGE_BITS;
            if let Some(bits) = self.pages.get(&page) {
                let stop = end.min(page_start(page + 1));
                let last = (stop - page_start(page)) as usize;
                if let Some(bit) = find(bits, true, (at % PAGE_BITS) as usize, last) {
                    return Some(page_start(page) + bit as u64);
                }
                at = page_start(page + 1);
                continue;
            }
            let run = self.run_at(at).map_or(u64::MAX, |(start, _)| start.max(at));
            let bits = self.pages.range(page..).next().map_or(u64::MAX, |(page, _)| page_start(*page));
            if run < bits {
                return (run < end).then_some(run);
            }
            if bits == u64::MAX {
                return None;
            }
            at = bits;
        }
        None
    }

    /// The peer has `start..end`.
    pub(crate) fn set_range(&mut self, start: u64, end: u64) {
        if start >= end || end <= self.contiguous {
            return;
        }
        let start = start.max(self.contiguous);
        self.fill_pages(start, end, true);
        let page = start / PAGE_BITS;
        if page != (end - 1) / PAGE_BITS || !self.pages.contains_key(&page) {
            self.add_run(start, end);
            self.spill_into_page(page);
        }
        if start == self.contiguous {
            self.grow_contiguous();
        }
    }

    /// The peer has none of `start..end` any more.
    pub(crate) fn clear_range(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        self.leave_contiguous(start);
        self.fill_pages(start, end, false);
        self.remove_runs(start, end);
        self.spill_into_page(start / PAGE_BITS);
    }

    /// Replaces what is known from block `start` on by these words (lowest bit first).
    pub(crate) fn insert(&mut self, start: u64, words: impl ExactSizeIterator<Item = u32>) {
        if !start.is_multiple_of(32) {
            return; // JS ignores such a message, too
        }
        let bits = words.len() as u64 * 32;
        let Some(end) = start.checked_add(bits) else { return };
        let mut words = words;
        let mut at = start;
        while at < end {
            let stop = end.min(page_start(at / PAGE_BITS + 1));
            let count = ((stop - at) / 32) as usize;
            let chunk: Vec<u32> = words.by_ref().take(count).collect();
            self.insert_in_page(at, stop, &chunk);
            at = stop;
        }
        self.grow_contiguous();
    }

    fn insert_in_page(&mut self, start: u64, end: u64, words: &[u32]) {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (word, at) in words.iter().zip((start..).step_by(32)) {
            let mut rest = *word;
            let mut base = at;
            while rest != 0 {
                let zeros = rest.trailing_zeros();
                base += u64::from(zeros);
                rest >>= zeros;
                let ones = rest.trailing_ones();
                match runs.last_mut() {
                    Some(last) if last.1 == base => last.1 = base + u64::from(ones),
                    _ => runs.push((base, base + u64::from(ones))),
                }
                base += u64::from(ones);
                rest = rest.checked_shr(ones).unwrap_or(0);
            }
        }
        let page = start / PAGE_BITS;
        // A run that goes on from before and covers everything needs no change at all.
        if let [(first, last)] = runs[..]
            && first == start
            && last == end
        {
            self.set_range(start, end);
            return;
        }
        self.clear_range(start, end);
        if runs.len() > MAX_RUNS_IN_PAGE && !self.make_page(page) {
            return; // no room for another page of bits
        }
        for (start, end) in runs {
            self.set_range(start, end);
        }
    }

    /// Turns the part of the contiguous run from `start` on into a plain run.
    fn leave_contiguous(&mut self, start: u64) {
        if start < self.contiguous {
            let end = std::mem::replace(&mut self.contiguous, start);
            self.fill_pages(start, end, true);
            self.add_run(start, end);
        }
    }

    fn grow_contiguous(&mut self) {
        loop {
            let page = self.contiguous / PAGE_BITS;
            if let Some(bits) = self.pages.get(&page) {
                let from = (self.contiguous % PAGE_BITS) as usize;
                match find(bits, false, from, PAGE_WORDS * 64) {
                    Some(bit) if bit == from => break,
                    Some(bit) => {
                        self.contiguous = page_start(page) + bit as u64;
                        break;
                    }
                    None => {
                        self.contiguous = page_start(page + 1);
                        self.pages.remove(&page);
                        continue;
                    }
                }
            }
            match self.run_at(self.contiguous) {
                Some((start, end)) if start <= self.contiguous && end > self.contiguous => {
                    let bits =
                        self.pages.range(page..).next().map_or(u64::MAX, |(page, _)| page_start(*page));
                    self.contiguous = end.min(bits);
                }
                _ => break,
            }
        }
        self.remove_runs(0, self.contiguous);
    }

    /// The run that holds `at`, or the next one after it.
    fn run_at(&self, at: u64) -> Option<(u64, u64)> {
        if let Some((start, end)) = self.runs.range(..=at).next_back()
            && *end > at
        {
            return Some((*start, *end));
        }
        self.runs.range(at..).next().map(|(start, end)| (*start, *end))
    }

    fn add_run(&mut self, mut start: u64, mut end: u64) {
        if let Some((before, before_end)) = self.runs.range(..=start).next_back()
            && *before_end >= start
        {
            start = *before;
            end = end.max(*before_end);
        }
        while let Some((next, next_end)) = self.runs.range(start..=end).next() {
            let (next, next_end) = (*next, *next_end);
            end = end.max(next_end);
            self.runs.remove(&next);
        }
        if self.runs.len() < MAX_RUNS {
            self.runs.insert(start, end);
        }
    }

    fn remove_runs(&mut self, start: u64, end: u64) {
        if let Some((before, before_end)) = self.runs.range(..start).next_back() {
            let (before, before_end) = (*before, *before_end);
            if before_end > start {
                self.runs.insert(before, start);
                if before_end > end && self.runs.len() < MAX_RUNS {
                    self.runs.insert(end, before_end);
                }
            }
        }
        while let Some((next, next_end)) = self.runs.range(start..end).next() {
            let (next, next_end) = (*next, *next_end);
            self.runs.remove(&next);
            if next_end > end {
                self.runs.insert(end, next_end);
            }
        }
    }

    /// Takes a run over into the pages of bits. Those that lie within it go, as runs say it all: kept, they would be
    /// filled anew by every such message, a few bytes that cost megabytes of writing.
    fn fill_pages(&mut self, start: u64, end: u64, value: bool) {
        let (mut at, last) = (start / PAGE_BITS, (end - 1) / PAGE_BITS);
        while let Some((&page, bits)) = self.pages.range_mut(at..=last).next() {
            let from = start.saturating_sub(page_start(page));
            let to = (end - page_start(page)).min(PAGE_BITS);
            if to - from == PAGE_BITS {
                self.pages.remove(&page);
            } else {
                fill(bits, from as usize, to as usize, value);
            }
            if page == last {
                break;
            }
            at = page + 1;
        }
    }

    /// Turns a page into bits when it has become fragmented.
    fn spill_into_page(&mut self, page: u64) {
        if self.runs.len() <= MAX_RUNS_IN_PAGE || self.pages.contains_key(&page) {
            return;
        }
        let (start, end) = (page_start(page), page_start(page + 1));
        if self.runs.range(start..end).nth(MAX_RUNS_IN_PAGE).is_some() {
            self.make_page(page);
        }
    }

    fn make_page(&mut self, page: u64) -> bool {
        if self.pages.contains_key(&page) {
            return true;
        }
        if self.pages.len() >= MAX_PAGES {
            return false;
        }
        let (start, end) = (page_start(page), page_start(page + 1));
        let mut bits: Box<Page> = Box::new([0; PAGE_WORDS]);
        if self.contiguous > start {
            fill(&mut bits, 0, (self.contiguous.min(end) - start) as usize, true);
        }
        let mut at = start;
        while let Some((run, run_end)) = self.run_at(at) {
            if run >= end {
                break;
            }
            let from = run.max(start) - start;
            fill(&mut bits, from as usize, (run_end.min(end) - start) as usize, true);
            at = run_end;
        }
        self.remove_runs(start, end);
        self.pages.insert(page, bits);
        true
    }
}

fn page_start(page: u64) -> u64 {
    page.saturating_mul(PAGE_BITS)
}

/// First bit of `from..to` with this value.
fn find(bits: &Page, value: bool, from: usize, to: usize) -> Option<usize> {
    let mut at = from;
    while at < to {
        let word = bits.get(at / 64)?;
        let word = if value { *word } else { !*word } >> (at % 64);
        if word != 0 {
            let found = at + word.trailing_zeros() as usize;
            return (found < to).then_some(found);
        }
        at = (at / 64 + 1) * 64;
    }
    None
}

fn fill(bits: &mut Page, from: usize, to: usize, value: bool) {
    let mut at = from;
    while at < to {
        let stop = ((at / 64 + 1) * 64).min(to);
        let mut mask = u64::MAX << (at % 64);
        if !stop.is_multiple_of(64) {
            mask &= (1 << (stop % 64)) - 1;
        }
        if let Some(word) = bits.get_mut(at / 64) {
            if value {
                *word |= mask;
            } else {
                *word &= !mask;
            }
        }
        at = stop;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Set(u64, u64),
        Clear(u64, u64),
        Insert(u64, Vec<u32>),
    }

    fn step() -> impl Strategy<Value = Step> {
        let at = 0u64..70_000;
        prop_oneof![
            (at.clone(), 1u64..3_000).prop_map(|(start, length)| Step::Set(start, start + length)),
            (at.clone(), 1u64..3_000).prop_map(|(start, length)| Step::Clear(start, start + length)),
            (0u64..10_000, 30_000u64..80_000, any::<bool>()).prop_map(|(start, length, set)| {
                if set { Step::Set(start, start + length) } else { Step::Clear(start, start + length) }
            }),
            (0u64..2_000, prop::collection::vec(prop_oneof![Just(0), Just(u32::MAX), any::<u32>()], 1..300))
                .prop_map(|(word, words)| Step::Insert(word * 32, words)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn it_knows_what_a_plain_list_of_bits_knows(steps in prop::collection::vec(step(), 1..24)) {
            const SIZE: usize = 90_000;
            let mut model = vec![false; SIZE];
            let mut bitfield = RemoteBitfield::default();
            for step in steps {
                match step {
                    Step::Set(start, end) => {
                        bitfield.set_range(start, end);
                        model[start as usize..end as usize].fill(true);
                    }
                    Step::Clear(start, end) => {
                        bitfield.clear_range(start, end);
                        model[start as usize..end as usize].fill(false);
                    }
                    Step::Insert(start, words) => {
                        for (word, at) in words.iter().zip((start as usize..).step_by(32)) {
                            for bit in 0..32 {
                                model[at + bit] = word >> bit & 1 == 1;
                            }
                        }
                        bitfield.insert(start, words.into_iter());
                    }
                }
            }
            let contiguous = model.iter().position(|bit| !bit).unwrap_or(SIZE) as u64;
            prop_assert_eq!(bitfield.contiguous_length(), contiguous);
            let mut at = 0;
            let mut expected = model.iter().enumerate().filter(|(_, bit)| **bit).map(|(i, _)| i as u64);
            while let Some(next) = bitfield.next_set(at, SIZE as u64) {
                prop_assert_eq!(Some(next), expected.next());
                at = next + 1;
            }
            prop_assert_eq!(None, expected.next());
            for start in (0..SIZE as u64).step_by(977) {
                for length in [1, 31, 700, 40_000] {
                    let end = (start + length).min(SIZE as u64);
                    let all = model[start as usize..end as usize].iter().all(|bit| *bit);
                    prop_assert_eq!(bitfield.covers(start, end), all);
                }
            }
        }
    }

    #[test]
    fn pages_within_a_run_are_not_written_again_and_again() {
        let fragmented = |bitfield: &mut RemoteBitfield| {
            for i in 1..=MAX_PAGES as u64 {
                bitfield.insert(i * PAGE_BITS, vec![0x5555_5555; 1_024].into_iter());
            }
            assert_eq!(bitfield.pages.len(), MAX_PAGES);
        };
        let mut bitfield = RemoteBitfield::default();
        fragmented(&mut bitfield);
        bitfield.clear_range(PAGE_BITS + 1, u64::MAX);
        assert_eq!(bitfield.pages.len(), 1, "the one that is not within it");
        assert!(bitfield.get(PAGE_BITS) && bitfield.next_set(PAGE_BITS + 1, u64::MAX).is_none());
        fragmented(&mut bitfield);
        bitfield.set_range(1, 1 << 50);
        assert!(bitfield.pages.is_empty());
        assert!(!bitfield.get(0) && bitfield.covers(1, 1 << 50) && !bitfield.get(1 << 50));
        fragmented(&mut bitfield);
        bitfield.set_range(0, 1 << 50);
        assert_eq!((bitfield.pages.len(), bitfield.contiguous_length()), (0, 1 << 50));
    }

    #[test]
    fn whatever_is_announced_its_memory_is_bounded() {
        let mut bitfield = RemoteBitfield::default();
        bitfield.set_range(5, u64::MAX);
        assert!(bitfield.get(1 << 60));
        for i in 0..50_000u64 {
            bitfield.clear_range(i * 100_000, i * 100_000 + 1);
        }
        for i in 0..3_000u64 {
            bitfield.insert(i * PAGE_BITS, vec![0x5555_5555; 1_024].into_iter());
        }
        assert!(bitfield.runs.len() <= MAX_RUNS + 1);
        assert!(bitfield.pages.len() <= MAX_PAGES);
        bitfield.insert(u64::MAX - 31, vec![1; 8].into_iter());
        bitfield.insert(3, vec![1; 8].into_iter());
    }
}
