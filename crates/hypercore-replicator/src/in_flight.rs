//! Requests that wait for their answer: those of one peer, and which blocks of the core they are for.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use hypercore::demand::DemandId;

/// Peers that may be asked for the same block at once (npm `hypercore` 11, `lib/hotswap-queue.js`).
pub(crate) const MAX_COPIES: u8 = 3;

/// A request that was sent.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) sent: Instant,
    pub(crate) fork: u64,
    pub(crate) block: Option<PendingBlock>,
    /// Tree node of a hash request.
    pub(crate) hash: Option<u64>,
    /// The seek it serves, and its byte offset.
    pub(crate) seek: Option<(DemandId, u64)>,
    /// An upgrade was asked for.
    pub(crate) upgrade: bool,
    /// The manifest was asked for.
    pub(crate) manifest: bool,
    /// It serves a reorganisation to `fork`.
    pub(crate) reorg: bool,
}

/// The block that a request is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PendingBlock {
    pub(crate) index: u64,
    /// Siblings that were asked for.
    pub(crate) nodes: u8,
}

/// The requests of one peer by number. Numbers only grow, so that an answer that comes after a cancel never
/// meets a newer request.
#[derive(Debug)]
pub(crate) struct InFlight {
    ring: VecDeque<Option<Pending>>,
    first: u64,
    count: usize,
}

impl Default for InFlight {
    fn default() -> Self {
        Self { ring: VecDeque::new(), first: 1, count: 0 }
    }
}

impl InFlight {
    /// Requests that wait.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Numbers between the oldest waiting request and the newest: what the ring costs.
    pub(crate) fn span(&self) -> usize {
        self.ring.len()
    }

    /// The number that the next request gets.
    pub(crate) fn next_id(&self) -> u64 {
        self.first + self.ring.len() as u64
    }

    pub(crate) fn push(&mut self, pending: Pending) -> u64 {
        let id = self.next_id();
        self.ring.push_back(Some(pending));
        self.count += 1;
        id
    }

    pub(crate) fn take(&mut self, id: u64) -> Option<Pending> {
        let at = usize::try_from(id.checked_sub(self.first)?).ok()?;
        let pending = self.ring.get_mut(at)?.take()?;
        self.count -= 1;
        while let Some(None) = self.ring.front() {
            self.ring.pop_front();
            self.first += 1;
        }
        if self.ring.is_empty() && self.ring.capacity() > 64 {
            self.ring = VecDeque::new(); // an idle peer keeps nothing
        }
        Some(pending)
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Pending)> {
        (self.first..).zip(&self.ring).filter_map(|(id, slot)| Some((id, slot.as_ref()?)))
    }

    /// The number of the oldest one.
    pub(crate) fn oldest_id(&self) -> Option<u64> {
        (!self.ring.is_empty()).then_some(self.first)
    }

    pub(crate) fn oldest(&self) -> Option<&Pending> {
        self.ring.front()?.as_ref()
    }
}

/// The blocks that are being fetched, from whomever.
#[derive(Debug, Default)]
pub(crate) struct BlockTable {
    /// A bit for each block, by number of the word.
    words: BTreeMap<u64, u64>,
    /// Requests beyond the first, for blocks that were asked of several peers.
    more: BTreeMap<u64, u8>,
}

impl BlockTable {
    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// How many peers were asked for a block.
    pub(crate) fn copies(&self, index: u64) -> u8 {
        let first = self.words.get(&(index / 64)).is_some_and(|word| word >> (index % 64) & 1 == 1);
        u8::from(first) + self.more.get(&index).copied().unwrap_or(0)
    }

    pub(crate) fn contains(&self, index: u64) -> bool {
        self.copies(index) > 0
    }

    pub(crate) fn add(&mut self, index: u64) {
        let word = self.words.entry(index / 64).or_default();
        let bit = 1 << (index % 64);
        if *word & bit == 0 {
            *word |= bit;
        } else {
            *self.more.entry(index).or_default() += 1;
        }
    }

    /// One request less; how many are left.
    pub(crate) fn remove(&mut self, index: u64) -> u8 {
        if let Some(more) = self.more.get_mut(&index) {
            *more -= 1;
            let left = *more + 1;
            if left == 1 {
                self.more.remove(&index);
            }
            return left;
        }
        if let Some(word) = self.words.get_mut(&(index / 64)) {
            *word &= !(1 << (index % 64));
            if *word == 0 {
                self.words.remove(&(index / 64));
            }
        }
        0
    }

    /// The first block from `index` on that nobody was asked for.
    pub(crate) fn next_free(&self, mut index: u64) -> u64 {
        loop {
            let Some(word) = self.words.get(&(index / 64)) else { return index };
            let free = !word >> (index % 64);
            if free != 0 {
                return index + u64::from(free.trailing_zeros());
            }
            index = (index / 64 + 1).saturating_mul(64);
            if index == u64::MAX {
                return index;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending() -> Pending {
        Pending {
            sent: Instant::now(),
            fork: 0,
            block: None,
            hash: None,
            seek: None,
            upgrade: false,
            manifest: false,
            reorg: false,
        }
    }

    #[test]
    fn numbers_grow_and_are_never_used_twice() {
        let mut requests = InFlight::default();
        let ids: Vec<u64> = (0..100).map(|_| requests.push(pending())).collect();
        assert_eq!(ids, (1..=100).collect::<Vec<_>>());
        assert!(requests.take(50).is_some() && requests.take(50).is_none());
        for id in 1..50 {
            assert!(requests.take(id).is_some());
        }
        assert_eq!((requests.len(), requests.span()), (50, 50));
        for id in 51..=100 {
            assert!(requests.take(id).is_some());
        }
        assert_eq!((requests.len(), requests.span()), (0, 0));
        assert_eq!(requests.push(pending()), 101);
        assert!(requests.take(0).is_none() && requests.take(102).is_none());
    }

    #[test]
    fn blocks_are_counted_and_skipped() {
        let mut table = BlockTable::default();
        for index in 10..200 {
            table.add(index);
        }
        table.add(15);
        assert_eq!(table.next_free(0), 0);
        assert_eq!(table.next_free(10), 200);
        assert_eq!(table.copies(15), 2);
        assert_eq!(table.remove(15), 1);
        assert_eq!(table.remove(15), 0);
        assert_eq!(table.next_free(10), 15);
        for index in 10..200 {
            table.remove(index);
        }
        assert!(table.is_empty());
    }
}
