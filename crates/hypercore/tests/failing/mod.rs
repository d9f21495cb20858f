//! Storage in memory of which one operation can be made to fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hypercore::storage::{Batch, MemoryStorage, Read, Storage, StorageError, Visitor};

/// Fails the n-th operation, and every one after it until it is told to recover.
#[derive(Debug)]
pub(crate) struct FailingStorage {
    inner: MemoryStorage,
    left: AtomicU64,
}

const NEVER: u64 = u64::MAX;

impl FailingStorage {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { inner: MemoryStorage::new(), left: AtomicU64::new(NEVER) })
    }

    pub(crate) fn fail_in(&self, operations: u64) {
        self.left.store(operations, Ordering::Relaxed);
    }

    pub(crate) fn recover(&self) {
        self.left.store(NEVER, Ordering::Relaxed);
    }

    fn count(&self, operation: &'static str) -> Result<(), StorageError> {
        match self.left.load(Ordering::Relaxed) {
            NEVER => Ok(()),
            0 => Err(StorageError::Io { operation, reason: "injected failure".into() }),
            left => {
                self.left.store(left - 1, Ordering::Relaxed);
                Ok(())
            }
        }
    }
}

impl Read for FailingStorage {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.count("read")?;
        self.inner.get(key)
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StorageError> {
        self.count("scan")?;
        self.inner.scan(start, end, reverse, visit)
    }
}

impl Storage for FailingStorage {
    fn commit(&self, batch: &Batch) -> Result<(), StorageError> {
        self.count("commit")?;
        self.inner.commit(batch)
    }

    fn with_snapshot(&self, read: &mut dyn FnMut(&dyn Read)) -> Result<(), StorageError> {
        self.count("snapshot")?;
        self.inner.with_snapshot(read)
    }
}
