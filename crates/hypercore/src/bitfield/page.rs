//! One page of the bitfield: 32,768 blocks, 4,096 bytes in storage (npm `hypercore` 11, `lib/bitfield.js`).

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::storage::{PAGE_BYTES, StorageError};

/// Blocks that one page tells about.
pub(crate) const PAGE_BITS: u64 = 32_768;
const BITS: u32 = 32_768;
const WORDS: usize = PAGE_BYTES / 8;

/// A page in memory. Most pages of most logs are a run of ones, which costs no memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Page {
    /// The first `n` bits are set, the rest are not.
    Run(u32),
    /// Anything else. Bit `i` is bit `i % 64` of word `i / 64`.
    Dense(Arc<[u64; WORDS]>),
}

impl Page {
    pub(crate) const EMPTY: Self = Self::Run(0);
    pub(crate) const FULL: Self = Self::Run(BITS);

    /// Reads a stored page. A shorter one counts as ending in zeroes, as JS reads it when it opens a core.
    pub(crate) fn decode(stored: &Bytes) -> Result<Self, StorageError> {
        if stored.len() > PAGE_BYTES {
            return Err(StorageError::Corrupt {
                record: "bitfield page",
                reason: format!("{} bytes where at most {PAGE_BYTES} belong", stored.len()),
            });
        }
        let mut words = [0u64; WORDS];
        for (word, chunk) in words.iter_mut().zip(stored.chunks(8)) {
            let mut le = [0u8; 8];
            for (to, from) in le.iter_mut().zip(chunk) {
                *to = *from;
            }
            *word = u64::from_le_bytes(le);
        }
        Ok(Self::from_words(words))
    }

    /// The page as it is stored.
    #[cfg(test)]
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = [0u8; PAGE_BYTES];
        self.encode_into(&mut out);
        Bytes::copy_from_slice(&out)
    }

    /// Writes the page over `out`. Returns how many bytes there are until only zeroes follow.
    pub(crate) fn encode_into(&self, out: &mut [u8; PAGE_BYTES]) -> usize {
        match self {
            Self::Run(n) => {
                let whole = (*n / 8) as usize;
                let (ones, zeroes) = out.split_at_mut(whole.min(PAGE_BYTES));
                ones.fill(0xff);
                zeroes.fill(0);
                if let Some(border) = zeroes.first_mut() {
                    *border = ((1u16 << (n % 8)) - 1) as u8;
                }
                (whole + 1).min(PAGE_BYTES)
            }
            Self::Dense(words) => {
                for (chunk, word) in out.chunks_exact_mut(8).zip(words.iter()) {
                    chunk.copy_from_slice(&word.to_le_bytes());
                }
                let last = words.iter().rposition(|word| *word != 0);
                last.map_or(0, |last| (last + 1) * 8)
            }
        }
    }

    /// Whether bit `index` is set.
    pub(crate) fn get(&self, index: u32) -> bool {
        match self {
            Self::Run(n) => index < *n,
            Self::Dense(words) => {
                words.get((index / 64) as usize).is_some_and(|word| word >> (index % 64) & 1 == 1)
            }
        }
    }

    /// Sets or clears a range of bits.
    pub(crate) fn fill(&mut self, range: Range<u32>, value: bool) {
        let range = range.start.min(BITS)..range.end.min(BITS);
        if range.start >= range.end {
            return;
        }
        if let Self::Run(n) = self {
            let run = *n;
            if value && range.start <= run {
                *self = Self::Run(run.max(range.end));
                return;
            }
            if !value && range.end >= run {
                *self = Self::Run(run.min(range.start));
                return;
            }
        }
        let mut words = self.words();
        for index in (range.start / 64)..range.end.div_ceil(64) {
            let base = index * 64;
            let low = range.start.saturating_sub(base);
            let high = (range.end - base).min(64);
            let mask = (u64::MAX >> (64 - (high - low))) << low;
            if let Some(word) = words.get_mut(index as usize) {
                *word = if value { *word | mask } else { *word & !mask };
            }
        }
        *self = Self::from_words(words);
    }

    /// The first set (or clear) bit at or after `from`.
    pub(crate) fn find(&self, value: bool, from: u32) -> Option<u32> {
        if from >= BITS {
            return None;
        }
        match self {
            Self::Run(n) if value => (from < *n).then_some(from),
            Self::Run(n) => Some(from.max(*n)).filter(|bit| *bit < BITS),
            Self::Dense(words) => {
                let first = from / 64;
                words.iter().enumerate().skip(first as usize).find_map(|(i, word)| {
                    let i = i as u32;
                    let mut candidates = if value { *word } else { !*word };
                    if i == first {
                        candidates &= u64::MAX << (from % 64);
                    }
                    (candidates != 0).then(|| i * 64 + candidates.trailing_zeros())
                })
            }
        }
    }

    /// The last set (or clear) bit of a range.
    pub(crate) fn find_last(&self, value: bool, range: Range<u32>) -> Option<u32> {
        let end = range.end.min(BITS);
        match self {
            Self::Run(n) if value => end.min(*n).checked_sub(1).filter(|bit| *bit >= range.start),
            Self::Run(n) => (end > range.start.max(*n)).then(|| end - 1),
            Self::Dense(words) => {
                let words = words.iter().enumerate().rev().skip_while(|(i, _)| *i as u32 * 64 >= end);
                for (i, word) in words {
                    let base = i as u32 * 64;
                    let mut candidates = if value { *word } else { !*word };
                    if end - base < 64 {
                        candidates &= (1 << (end - base)) - 1;
                    }
                    if candidates != 0 {
                        return Some(base + 63 - candidates.leading_zeros())
                            .filter(|bit| *bit >= range.start);
                    }
                    if base <= range.start {
                        return None;
                    }
                }
                None
            }
        }
    }

    /// How many bits of the range are set.
    pub(crate) fn count(&self, range: Range<u32>) -> u32 {
        match self {
            Self::Run(n) => range.end.min(*n).saturating_sub(range.start),
            Self::Dense(words) => {
                let mut total = 0;
                for (i, word) in words.iter().enumerate() {
                    let base = i as u32 * 64;
                    if range.is_empty() || base >= range.end || base + 64 <= range.start {
                        continue;
                    }
                    let low = range.start.saturating_sub(base);
                    let high = (range.end - base).min(64);
                    let mask = (u64::MAX >> (64 - (high - low))) << low;
                    total += (word & mask).count_ones();
                }
                total
            }
        }
    }

    fn words(&self) -> [u64; WORDS] {
        match self {
            Self::Dense(words) => **words,
            Self::Run(n) => {
                let mut words = [0u64; WORDS];
                for (i, word) in words.iter_mut().enumerate() {
                    let ones = n.saturating_sub(i as u32 * 64).min(64);
                    *word = if ones == 0 { 0 } else { u64::MAX >> (64 - ones) };
                }
                words
            }
        }
    }

    fn from_words(words: [u64; WORDS]) -> Self {
        let total: u32 = words.iter().map(|word| word.count_ones()).sum();
        let leading = words
            .iter()
            .enumerate()
            .find(|(_, word)| **word != u64::MAX)
            .map_or(BITS, |(i, word)| i as u32 * 64 + word.trailing_ones());
        if total == leading { Self::Run(leading) } else { Self::Dense(Arc::new(words)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_run_is_stored_as_javascript_stores_it() {
        let stored = Page::Run(11).encode();
        assert_eq!(stored.len(), PAGE_BYTES);
        assert_eq!(&stored[..3], &[0xff, 0b111, 0]);
        assert_eq!(Page::decode(&stored).unwrap(), Page::Run(11));
        assert_eq!(Page::decode(&Page::FULL.encode()).unwrap(), Page::FULL);
        assert_eq!(Page::decode(&Bytes::from_static(&[0b101])).unwrap().count(0..BITS), 2);
        assert!(Page::decode(&Bytes::from(vec![0; PAGE_BYTES + 1])).is_err());
    }

    #[test]
    fn a_range_without_bits_has_none() {
        let page = Page::decode(&Bytes::from_static(&[0b101])).unwrap();
        assert_eq!([page.count(0..0), page.count(1..1), page.count(1814..1814)], [0, 0, 0]);
    }

    proptest! {
        #[test]
        fn pages_agree_with_a_list_of_bools(
            steps in proptest::collection::vec((0..BITS, 0..700u32, any::<bool>()), 1..12),
            probes in proptest::collection::vec((0..BITS, 0..BITS), 1..8),
        ) {
            let mut page = Page::EMPTY;
            let mut model = vec![false; BITS as usize];
            for (start, len, value) in steps {
                // Small pages of the range are where the interesting borders are.
                let start = start % 2_000;
                page.fill(start..start + len, value);
                for bit in start..(start + len).min(BITS) {
                    model[bit as usize] = value;
                }
            }
            let again = Page::decode(&page.encode()).unwrap();
            prop_assert_eq!(&again, &page);
            for (a, b) in probes {
                let (from, to) = (a.min(b), a.max(b));
                prop_assert_eq!(page.get(from), model[from as usize]);
                let set = (from..BITS).find(|bit| model[*bit as usize]);
                let clear = (from..BITS).find(|bit| !model[*bit as usize]);
                prop_assert_eq!(page.find(true, from), set);
                prop_assert_eq!(page.find(false, from), clear);
                let last = (from..to).rev().find(|bit| !model[*bit as usize]);
                prop_assert_eq!(page.find_last(false, from..to), last);
                let last = (from..to).rev().find(|bit| model[*bit as usize]);
                prop_assert_eq!(page.find_last(true, from..to), last);
                let count = model[from as usize..to as usize].iter().filter(|bit| **bit).count();
                prop_assert_eq!(page.count(from..to) as usize, count);
            }
        }

        #[test]
        fn stored_pages_of_any_content_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..5_000)) {
            let len = bytes.len();
            prop_assert_eq!(Page::decode(&Bytes::from(bytes)).is_ok(), len <= PAGE_BYTES);
        }
    }
}
