//! When which core wants to be looked at.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Weak;
use std::time::Instant;

use super::core::ReplicatedCore;

/// Deadlines of cores; one entry for each core that this connection looks after.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<Entry>>,
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    core: Weak<ReplicatedCore>,
}

impl Timers {
    pub(super) fn insert(&mut self, at: Instant, core: Weak<ReplicatedCore>) {
        self.heap.push(Reverse(Entry { at, core }));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// A core whose deadline has come. It may be gone.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Weak<ReplicatedCore>> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry.core)
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Entry {}
