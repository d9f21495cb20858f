use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Stored pages, without any storage.
#[derive(Debug, Default, Clone)]
struct Pages(BTreeMap<u64, Bytes>);

impl PageSource for Pages {
    fn page(&self, index: u64) -> Result<Option<Bytes>, StorageError> {
        Ok(self.0.get(&index).cloned())
    }

    fn next_page(&self, range: Range<u64>) -> Result<Option<u64>, StorageError> {
        if range.start >= range.end {
            return Ok(None);
        }
        Ok(self.0.range(range).next().map(|(index, _)| *index))
    }
}

impl Pages {
    fn store(&mut self, change: &Change) {
        if let Some(from) = change.dropped_from {
            self.0.retain(|index, _| *index < from);
        }
        for (index, page) in &change.pages {
            self.0.insert(*index, page.encode());
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append(u64),
    Set(u64, u64),
    Clear(u64, u64),
    Truncate(u64),
    Reopen { hint_lags: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Positions cluster around page borders, where mistakes live.
    let position =
        prop_oneof![0..200u64, (1..4u64, 0..80u64).prop_map(|(page, off)| page * PAGE_BITS - 40 + off)];
    let step = prop_oneof![
        4 => prop_oneof![1..50u64, 30_000..40_000u64].prop_map(Step::Append),
        4 => (position.clone(), 1..60u64).prop_map(|(start, len)| Step::Set(start, len)),
        3 => (position.clone(), prop_oneof![1..60u64, 30_000..80_000u64])
            .prop_map(|(start, len)| Step::Clear(start, len)),
        1 => position.prop_map(Step::Truncate),
        2 => any::<bool>().prop_map(|hint_lags| Step::Reopen { hint_lags }),
    ];
    proptest::collection::vec(step, 1..24)
}

fn check(bits: &Bitfield, pages: &Pages, model: &BTreeSet<u64>, length: u64, probe: u64) {
    let contiguous = (0..).find(|index| !model.contains(index)).unwrap();
    assert_eq!(bits.contiguous_length(), contiguous);
    for at in [probe, probe + 1, contiguous, length.saturating_sub(1), length, PAGE_BITS - 1, PAGE_BITS] {
        assert_eq!(bits.has(pages, at).unwrap(), model.contains(&at), "has {at}");
        let end = at + 2_500;
        let missing = (at..end).find(|index| !model.contains(index));
        assert_eq!(bits.first_missing(pages, at, end).unwrap(), missing);
        assert_eq!(bits.first_present(pages, at, end).unwrap(), model.range(at..end).next().copied());
        let last = (at..end).rev().find(|index| !model.contains(index));
        assert_eq!(bits.last_missing(pages, at, end).unwrap(), last);
        assert_eq!(bits.count(pages, at..end).unwrap(), model.range(at..end).count() as u64);
    }
    assert_eq!(
        bits.count(pages, probe..length).unwrap(),
        model.range(probe..length.max(probe)).count() as u64
    );
    let mut seen = BTreeSet::new();
    for (start, words) in bits.wire(pages, probe, u64::MAX).unwrap() {
        assert_eq!((start % 32, words.len() % 4), (0, 0));
        assert!(words.len() as u64 * 8 <= MAX_WIRE_BITS);
        for (i, byte) in words.iter().enumerate() {
            if *byte == 0 {
                continue;
            }
            seen.extend((0..8).filter(|bit| byte >> bit & 1 == 1).map(|bit| start + i as u64 * 8 + bit));
        }
    }
    let from = probe - probe % 32;
    assert_eq!(seen, model.range(from..).copied().collect());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn agrees_with_a_set_of_indices(steps in steps(), probe in 0..100_000u64) {
        let mut pages = Pages::default();
        let mut bits = Bitfield::open(&pages, 0, 0).unwrap();
        let mut model = BTreeSet::new();
        let mut length = 0;
        for step in steps {
            let mut stage = bits.stage(&pages);
            match step {
                Step::Append(blocks) => {
                    stage.set_length(length + blocks).unwrap();
                    stage.set(length, length + blocks).unwrap();
                    model.extend(length..length + blocks);
                    length += blocks;
                }
                Step::Set(start, blocks) => {
                    length = length.max(start + blocks);
                    stage.set_length(length).unwrap();
                    stage.set(start, start + blocks).unwrap();
                    model.extend(start..start + blocks);
                }
                Step::Clear(start, blocks) => {
                    let end = (start + blocks).min(length);
                    let there = model.range(start..end.max(start)).count() as u64;
                    prop_assert_eq!(stage.clear(start, start + blocks).unwrap(), there);
                    model.retain(|index| !(start..start + blocks).contains(index));
                }
                Step::Truncate(to) => {
                    length = length.min(to);
                    stage.set_length(length).unwrap();
                    model.retain(|index| *index < to);
                }
                Step::Reopen { hint_lags } => {
                    let hint = if hint_lags { bits.contiguous_length() / 2 } else { bits.contiguous_length() };
                    bits = Bitfield::open(&pages, hint, length).unwrap();
                    check(&bits, &pages, &model, length, probe);
                    continue;
                }
            }
            let change = stage.finish();
            // What was not stored must not be visible.
            let before = bits.contiguous_length();
            prop_assert_eq!(before, bits.contiguous_length());
            pages.store(&change);
            bits.apply(change);
            check(&bits, &pages, &model, length, probe);
        }
    }
}

#[test]
fn a_complete_log_needs_no_page_at_all() {
    #[derive(Debug)]
    struct Unreadable;
    impl PageSource for Unreadable {
        fn page(&self, _: u64) -> Result<Option<Bytes>, StorageError> {
            Err(StorageError::Closed)
        }
        fn next_page(&self, _: Range<u64>) -> Result<Option<u64>, StorageError> {
            Err(StorageError::Closed)
        }
    }
    let length = 1_000_000;
    let bits = Bitfield::open(&Unreadable, length, length).unwrap();
    assert!(bits.has(&Unreadable, length - 1).unwrap());
    assert!(!bits.has(&Unreadable, length).unwrap());
    assert_eq!(bits.first_missing(&Unreadable, 5, u64::MAX).unwrap(), Some(length));
    assert_eq!(bits.count(&Unreadable, 10..u64::MAX).unwrap(), length - 10);
    let mut stage = bits.stage(&Unreadable);
    stage.set_length(length + 1).unwrap();
    stage.set(length, length + 1).unwrap();
    assert_eq!(stage.finish().contiguous, length + 1);
}

#[test]
fn holes_of_any_size_are_skipped_without_reading_them() {
    let length = 1 << 50;
    let mut pages = Pages::default();
    let far = length - 5;
    let mut bits = Bitfield::open(&pages, 0, length).unwrap();
    let mut stage = bits.stage(&pages);
    stage.set(far, far + 2).unwrap();
    let change = stage.finish();
    pages.store(&change);
    bits.apply(change);
    assert_eq!(bits.first_present(&pages, 1, length).unwrap(), Some(far));
    assert_eq!(bits.count(&pages, 0..length).unwrap(), 2);
    assert_eq!(bits.wire(&pages, 0, length).unwrap().len(), 1);
    let mut stage = bits.stage(&pages);
    assert_eq!(stage.clear(0, length).unwrap(), 2);
}
