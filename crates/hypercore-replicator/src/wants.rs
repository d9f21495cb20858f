//! What we asked a peer to tell about, and what it asked us (npm `hypercore` 11.37.1, `lib/wants.js`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hypercore_protocol::messages::{Unwant, Want};

/// Blocks in a segment that is asked for at once. JS asks for the same, as old peers round up to it.
pub(crate) const SEGMENT: u64 = 2_097_152;
/// Segments asked for at once.
const MAX_SEGMENTS: usize = 512;
/// Lengths of ranges that a remote may use side by side.
const MAX_LENGTHS: usize = 4;
/// Ranges with the `any` flag that a remote may have.
const MAX_ANY: usize = 16;
const MAX_RANGE: u64 = 8 * 256 * 1_024;
const MIN_RANGE: u64 = 32;

/// The segments that a peer was asked to tell about.
#[derive(Debug, Default)]
pub(crate) struct LocalWants {
    asked: BTreeSet<u64>,
    oldest_first: VecDeque<u64>,
}

impl LocalWants {
    /// The segment of a block has to be known. Returns what to send, if the peer was not asked yet.
    pub(crate) fn add(&mut self, index: u64) -> Option<(Want, Option<Unwant>)> {
        let segment = index / SEGMENT;
        if !self.asked.insert(segment) {
            return None;
        }
        let mut unwant = None;
        if self.oldest_first.len() >= MAX_SEGMENTS
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.asked.remove(&oldest);
            unwant = Some(Unwant { start: oldest * SEGMENT, length: SEGMENT, any: false });
        }
        self.oldest_first.push_back(segment);
        Some((Want { start: segment * SEGMENT, length: SEGMENT, any: false }, unwant))
    }

    /// What the peer told about the segment of a block is not true any more.
    pub(crate) fn forget(&mut self, index: u64) {
        let segment = index / SEGMENT;
        if self.asked.remove(&segment) {
            self.oldest_first.retain(|asked| *asked != segment);
        }
    }

    /// The peer is to be asked about everything anew.
    pub(crate) fn forget_all(&mut self) {
        *self = Self::default();
    }

    /// The peer is to be asked anew about the segments that overlap `start..end`.
    pub(crate) fn forget_range(&mut self, start: u64, end: u64) {
        let segments = start / SEGMENT..=end.saturating_sub(1).max(start) / SEGMENT;
        self.asked.retain(|segment| !segments.contains(segment));
        self.oldest_first.retain(|segment| !segments.contains(segment));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// Whether the peer was asked about a block.
    pub(crate) fn has(&self, index: u64) -> bool {
        self.asked.contains(&(index / SEGMENT))
    }
}

/// The ranges that a peer wants to be told about.
#[derive(Debug, Default)]
pub(crate) struct RemoteWants {
    /// The peer asked for more than we care to remember: it is told everything.
    all: bool,
    any: Vec<(u64, u64)>,
    /// By length of the range: the numbers of the ranges.
    ranges: BTreeMap<u64, BTreeSet<u64>>,
}

impl RemoteWants {
    /// Remembers a want; false when it is to be ignored.
    pub(crate) fn add(&mut self, want: &Want) -> bool {
        if want.any {
            if self.any.len() < MAX_ANY {
                self.any.push((want.start, want.length));
            } else {
                self.all = true;
            }
            return true;
        }
        if want.length > MAX_RANGE {
            return false;
        }
        let fits = is_aligned(want.start, want.length)
            && self.ranges.values().map(BTreeSet::len).sum::<usize>() < MAX_SEGMENTS
            && (self.ranges.contains_key(&want.length) || self.ranges.len() < MAX_LENGTHS);
        if fits {
            self.ranges.entry(want.length).or_default().insert(want.start / want.length);
        } else {
            self.all = true;
        }
        true
    }

    /// Forgets a want.
    pub(crate) fn remove(&mut self, unwant: &Unwant) {
        if unwant.any {
            if let Some(at) = self.any.iter().position(|any| *any == (unwant.start, unwant.length)) {
                self.any.swap_remove(at);
            }
        } else if is_aligned(unwant.start, unwant.length)
            && let Some(ranges) = self.ranges.get_mut(&unwant.length)
        {
            ranges.remove(&(unwant.start / unwant.length));
            if ranges.is_empty() {
                self.ranges.remove(&unwant.length);
            }
        }
    }

    /// All ranges that are remembered.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Want> {
        self.ranges.iter().flat_map(|(length, numbers)| {
            let length = *length;
            numbers.iter().map(move |number| Want { start: number * length, length, any: false })
        })
    }

    /// Whether any block of `start..start + length` is wanted.
    pub(crate) fn has_range(&self, start: u64, length: u64) -> bool {
        let end = start.saturating_add(length);
        let overlaps = |(at, len): &(u64, u64)| *at < end && start < at.saturating_add(*len);
        self.all
            || self.any.iter().any(overlaps)
            || self.ranges.iter().any(|(len, numbers)| {
                numbers.range(start / len..=end.saturating_sub(1).max(start) / len).next().is_some()
            })
    }
}

fn is_aligned(start: u64, length: u64) -> bool {
    (MIN_RANGE..=MAX_RANGE).contains(&length) && length.is_power_of_two() && start.is_multiple_of(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_asked_for_once_and_the_oldest_makes_room() {
        let mut wants = LocalWants::default();
        let (want, unwant) = wants.add(SEGMENT + 5).unwrap();
        assert_eq!(want, Want { start: SEGMENT, length: SEGMENT, any: false });
        assert_eq!(unwant, None);
        assert!(wants.add(SEGMENT * 2 - 1).is_none());
        for i in 2..=MAX_SEGMENTS as u64 {
            assert_eq!(wants.add(i * SEGMENT).unwrap().1, None);
        }
        let unwant = wants.add(1_000 * SEGMENT).unwrap().1.unwrap();
        assert_eq!(unwant.start, SEGMENT);
        assert!(!wants.has(SEGMENT));
        assert!(wants.has(1_000 * SEGMENT));
    }

    #[test]
    fn segments_of_a_dropped_range_are_asked_for_anew() {
        let mut wants = LocalWants::default();
        for segment in 0..4 {
            wants.add(segment * SEGMENT).unwrap();
        }
        wants.forget_range(SEGMENT + 5, 2 * SEGMENT + 1);
        assert!(wants.has(0) && !wants.has(SEGMENT) && !wants.has(2 * SEGMENT) && wants.has(3 * SEGMENT));
        assert!(wants.add(SEGMENT).is_some() && wants.add(0).is_none());
    }

    #[test]
    fn ranges_are_matched_and_forgotten() {
        let mut wants = RemoteWants::default();
        assert!(!wants.has_range(0, 100));
        assert!(wants.add(&Want { start: SEGMENT, length: SEGMENT, any: false }));
        assert!(!wants.has_range(0, SEGMENT));
        assert!(wants.has_range(0, SEGMENT + 1));
        assert!(wants.has_range(SEGMENT * 2 - 1, 1));
        assert!(!wants.has_range(SEGMENT * 2, 1));
        wants.remove(&Unwant { start: SEGMENT, length: SEGMENT, any: false });
        assert!(!wants.has_range(0, SEGMENT + 1));
        assert!(wants.add(&Want { start: 7, length: 3, any: true }));
        assert!(wants.has_range(9, 1) && !wants.has_range(10, 1));
        wants.remove(&Unwant { start: 7, length: 3, any: true });
        assert!(!wants.has_range(9, 1));
    }

    #[test]
    fn who_wants_too_much_is_told_everything_and_costs_nothing_more() {
        let mut wants = RemoteWants::default();
        assert!(!wants.add(&Want { start: 0, length: MAX_RANGE * 2, any: false }));
        for i in 0..100_000 {
            assert!(wants.add(&Want { start: i * 32, length: 32, any: false }));
        }
        assert!(wants.all);
        assert!(wants.ranges[&32].len() <= MAX_SEGMENTS);
        let mut odd = RemoteWants::default();
        assert!(odd.add(&Want { start: 1, length: 33, any: false }));
        assert!(odd.has_range(9_999, 1));
    }
}
