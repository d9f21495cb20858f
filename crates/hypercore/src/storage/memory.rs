//! Storage that is gone when the process ends.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;

use super::{Batch, Operation, Read, Storage, StorageError, Visitor};

type Map = BTreeMap<Box<[u8]>, Bytes>;

/// An ordered map in memory: for `--memory-only`, for tests, and as the model that other storages are compared
/// with. Values are copied in, so that a small block does not hold on to the large buffer it was received in.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    map: RwLock<Map>,
}

impl MemoryStorage {
    /// Empty storage.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.map.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// True when there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn between<'a>(
    map: &'a Map,
    start: &[u8],
    end: &[u8],
) -> Option<std::collections::btree_map::Range<'a, Box<[u8]>, Bytes>> {
    // BTreeMap panics on a range that ends before it starts.
    (start < end).then(|| map.range::<[u8], _>((Bound::Included(start), Bound::Excluded(end))))
}

fn scan(map: &Map, start: &[u8], end: &[u8], reverse: bool, visit: &mut Visitor<'_>) {
    let Some(range) = between(map, start, end) else {
        return;
    };
    let flow = if reverse {
        range.rev().try_for_each(|(key, value)| visit(key, value))
    } else {
        range.into_iter().try_for_each(|(key, value)| visit(key, value))
    };
    // Whether the visitor had enough is its own business.
    let (ControlFlow::Continue(()) | ControlFlow::Break(())) = flow;
}

impl Read for MemoryStorage {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.map.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StorageError> {
        scan(&self.map.read().unwrap_or_else(PoisonError::into_inner), start, end, reverse, visit);
        Ok(())
    }
}

impl Storage for MemoryStorage {
    fn commit(&self, batch: &Batch) -> Result<(), StorageError> {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        for operation in batch.operations() {
            match operation {
                Operation::Put(key, value) => {
                    map.insert(key.into(), Bytes::copy_from_slice(value));
                }
                Operation::Delete(key) => {
                    map.remove(key);
                }
                Operation::DeleteRange(start, end) => {
                    let doomed: Vec<_> = between(&map, start, end)
                        .map(|range| range.map(|(key, _)| key.clone()).collect())
                        .unwrap_or_default();
                    for key in doomed {
                        map.remove(&key);
                    }
                }
            }
        }
        Ok(())
    }

    fn with_snapshot(&self, read: &mut dyn FnMut(&dyn Read)) -> Result<(), StorageError> {
        // Writers wait until the reader is done: nothing to copy, and nothing to keep.
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        read(&Moment(&map));
        Ok(())
    }
}

/// The map while nobody writes.
#[derive(Debug)]
struct Moment<'a>(&'a Map);

impl Read for Moment<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StorageError> {
        scan(self.0, start, end, reverse, visit);
        Ok(())
    }
}
