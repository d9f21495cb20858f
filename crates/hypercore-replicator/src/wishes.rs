//! What local users wait for, arranged so that the next request for a peer is found quickly.

use std::collections::{BTreeMap, BTreeSet};

use hypercore::demand::{Change, Demand, DemandId, DownloadRange, Want};

/// Priorities that are told apart (npm `hypercore` 11: normal, high, very high).
pub(crate) const PRIORITIES: usize = 3;

/// A mirror of [`Demand`].
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// Single blocks: how many wait, and the highest priority that was given.
    blocks: BTreeMap<u64, (u32, usize)>,
    /// Single blocks that nobody was asked for yet, by priority.
    queued: [BTreeSet<u64>; PRIORITIES],
    pub(crate) ranges: Vec<RangeWish>,
    pub(crate) seeks: Vec<SeekWish>,
    pub(crate) upgrades: BTreeMap<DemandId, (u64, u64)>,
    /// Those of them that end only when every peer has been asked.
    pub(crate) upgrades_by_all: BTreeSet<DemandId>,
    /// Single blocks whose owners do not want to wait for a peer that may come one day.
    pub(crate) if_available: BTreeSet<(u64, DemandId)>,
    /// What ends when nobody has it, and for whose sake no peer was asked yet whether it has more than it has told.
    pub(crate) unasked: BTreeSet<DemandId>,
}

/// A range to download.
#[derive(Debug)]
pub(crate) struct RangeWish {
    pub(crate) id: DemandId,
    pub(crate) range: DownloadRange,
}

/// A byte offset to find.
#[derive(Debug)]
pub(crate) struct SeekWish {
    pub(crate) id: DemandId,
    pub(crate) bytes: u64,
    pub(crate) padding: u64,
    pub(crate) in_flight: bool,
    /// Requests sent for it; a seek that gets nowhere is given a rest.
    pub(crate) attempts: u32,
    /// Its owner does not want to wait for a peer that may come one day.
    pub(crate) if_available: bool,
}

impl Wishes {
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.ranges.is_empty() && self.seeks.is_empty() && self.upgrades.is_empty()
    }

    /// Takes over what changed. Returns whether there is anything new, and the blocks nobody waits for any more.
    pub(crate) fn follow(&mut self, demand: &mut Demand, mut in_flight: impl FnMut(u64) -> bool) -> Followed {
        let mut followed = Followed::default();
        let changes = demand.take_changes();
        if changes.resync {
            let before = std::mem::take(self);
            for (id, _) in demand.iter() {
                self.add(id, demand, &mut in_flight);
            }
            followed.added = !self.is_empty();
            followed.given_up =
                before.blocks.into_keys().filter(|index| !self.blocks.contains_key(index)).collect();
            return followed;
        }
        // Added and removed between two looks: they were never here, and others may want the same.
        let mut passed = BTreeSet::new();
        for change in changes.list {
            match change {
                Change::Added(id) if self.add(id, demand, &mut in_flight) => followed.added = true,
                Change::Added(id) => drop(passed.insert(id)),
                Change::Removed(id, _) if passed.remove(&id) => {}
                Change::Removed(id, want) => self.remove(id, &want, &mut followed.given_up),
            }
        }
        followed
    }

    /// False when it is gone already.
    fn add(&mut self, id: DemandId, demand: &Demand, in_flight: &mut impl FnMut(u64) -> bool) -> bool {
        let Some(entry) = demand.entry(id) else { return false };
        if entry.options.if_available {
            self.unasked.insert(id);
        }
        match &entry.want {
            Want::Block { index } => {
                let priority = usize::from(entry.options.priority).clamp(1, PRIORITIES - 1);
                let (count, highest) = self.blocks.entry(*index).or_default();
                *count += 1;
                if !in_flight(*index) {
                    for queue in &mut self.queued {
                        queue.remove(index);
                    }
                    if let Some(queue) = self.queued.get_mut(priority.max(*highest)) {
                        queue.insert(*index);
                    }
                }
                *highest = priority.max(*highest);
                if entry.options.if_available {
                    self.if_available.insert((*index, id));
                }
            }
            Want::Range(range) => self.ranges.push(RangeWish { id, range: range.clone() }),
            Want::Seek { bytes, padding } => {
                let (bytes, padding, if_available) = (*bytes, *padding, entry.options.if_available);
                self.seeks.push(SeekWish { id, bytes, padding, in_flight: false, attempts: 0, if_available });
            }
            Want::Upgrade { length, fork } => {
                self.upgrades.insert(id, (*length, *fork));
                if entry.options.if_available {
                    self.upgrades_by_all.insert(id);
                }
            }
        }
        true
    }

    fn remove(&mut self, id: DemandId, want: &Want, given_up: &mut Vec<u64>) {
        self.unasked.remove(&id);
        match want {
            Want::Block { index } => {
                self.if_available.remove(&(*index, id));
                let Some((count, _)) = self.blocks.get_mut(index) else { return };
                *count -= 1;
                if *count == 0 {
                    self.blocks.remove(index);
                    for queue in &mut self.queued {
                        queue.remove(index);
                    }
                    given_up.push(*index);
                }
            }
            Want::Range(_) => self.ranges.retain(|range| range.id != id),
            Want::Seek { .. } => self.seeks.retain(|seek| seek.id != id),
            Want::Upgrade { .. } => {
                self.upgrades.remove(&id);
                self.upgrades_by_all.remove(&id);
            }
        }
    }

    /// The next single block of this priority, from `from` on, that nobody was asked for.
    pub(crate) fn next_queued(&self, priority: usize, from: u64) -> Option<u64> {
        self.queued.get(priority)?.range(from..).next().copied()
    }

    /// A peer is being asked for a block.
    pub(crate) fn dequeue(&mut self, index: u64) {
        if self.blocks.contains_key(&index) {
            for queue in &mut self.queued {
                queue.remove(&index);
            }
        }
    }

    /// A request for a block came to nothing.
    pub(crate) fn requeue(&mut self, index: u64) {
        if let Some((_, priority)) = self.blocks.get(&index)
            && let Some(queue) = self.queued.get_mut(*priority)
        {
            queue.insert(index);
        }
    }

    /// The priority of a block as a peer is told it.
    pub(crate) fn priority(&self, index: u64) -> u64 {
        self.blocks.get(&index).map_or(0, |(_, priority)| *priority as u64)
    }

    /// Whether anybody waits for this very block.
    pub(crate) fn wants_block(&self, index: u64) -> bool {
        self.blocks.contains_key(&index)
    }

    /// Whether any range includes a block.
    pub(crate) fn in_range(&self, index: u64) -> bool {
        self.ranges.iter().any(|wish| match &wish.range.blocks {
            Some(blocks) => blocks.binary_search(&index).is_ok(),
            None => index >= wish.range.start && wish.range.end.is_none_or(|end| index < end),
        })
    }

    pub(crate) fn seek_mut(&mut self, id: DemandId) -> Option<&mut SeekWish> {
        self.seeks.iter_mut().find(|seek| seek.id == id)
    }
}

/// What became of a look at [`Demand`].
#[derive(Debug, Default)]
pub(crate) struct Followed {
    pub(crate) added: bool,
    /// Blocks that nobody waits for by themselves any more.
    pub(crate) given_up: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use hypercore::demand::WantOptions;

    use super::*;

    fn want(demand: &mut Demand, index: u64) -> DemandId {
        demand.add(Want::Block { index }, WantOptions::default()).unwrap().0
    }

    #[test]
    fn a_want_that_comes_and_goes_unseen_takes_nothing_from_others() {
        let mut demand = Demand::new();
        demand.track_changes(true);
        let mut wishes = Wishes::default();
        wishes.follow(&mut demand, |_| false);

        let first = want(&mut demand, 3);
        assert!(wishes.follow(&mut demand, |_| false).added);
        let passing = want(&mut demand, 3);
        demand.cancel(passing);
        let followed = wishes.follow(&mut demand, |_| false);
        assert_eq!((followed.added, followed.given_up), (false, vec![]));
        assert_eq!((wishes.wants_block(3), wishes.next_queued(1, 0)), (true, Some(3)));

        // Nor do those that are there already and go beside it.
        let second = want(&mut demand, 3);
        let passing = want(&mut demand, 3);
        demand.cancel(first);
        demand.cancel(passing);
        assert_eq!(wishes.follow(&mut demand, |_| false).given_up, vec![]);
        assert!(wishes.wants_block(3));
        demand.cancel(second);
        assert_eq!(wishes.follow(&mut demand, |_| false).given_up, vec![3]);
        assert!(!wishes.wants_block(3) && wishes.next_queued(1, 0).is_none());
    }
}
