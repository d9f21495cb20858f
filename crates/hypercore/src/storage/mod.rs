//! Where Hypercores are kept: an ordered map of bytes with atomic batches, and the records in it.
//!
//! [`Storage`] is the seam: everything above speaks only to this trait, so that tests can break any single
//! operation. Two implementations exist, a folder that Node can share (feature `rocksdb`) and memory.
//!
//! On the map stand the records of npm `hypercore-storage` 3: [`Database`] is the store of many cores (head,
//! names, pointers), [`CoreStore`] the records of one of them, [`CoreBatch`] a change to it that is committed
//! as a whole. `docs/storage.md` draws the format.

mod batch;
mod core_store;
mod database;
#[cfg(feature = "rocksdb")]
mod device_lock;
#[cfg(feature = "rocksdb")]
mod engine;
#[cfg(feature = "rocksdb")]
mod folder;
mod keys;
mod memory;
mod open_error;
#[cfg(feature = "rocksdb")]
mod reclaim;
mod records;
#[cfg(feature = "rocksdb")]
mod rocks;
#[cfg(feature = "rocksdb")]
mod stall;

use std::fmt::Debug;
use std::ops::ControlFlow;
use std::time::Instant;

use bytes::Bytes;

pub use batch::{Batch, Operation};
pub use core_store::{CoreBatch, CoreRecords, CoreStore, CoreView, PAGE_BYTES};
pub(crate) use database::Claim;
pub use database::{CreateCore, Database};
#[cfg(feature = "rocksdb")]
pub use folder::{FolderOptions, FsyncPolicy};
pub use memory::MemoryStorage;
pub use open_error::OpenError;
pub use records::{
    Alias, Auth, CorePointers, Dependency, Group, Head, Hints, NamedSession, STORE_VERSION, StoreHead,
    StoredKeyPair,
};

/// Why storage could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The engine or the operating system refused.
    #[error("storage {operation} failed: {reason}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// What the engine said, with a remedy where there is one.
        reason: String,
    },
    /// A record cannot be decoded.
    #[error("the stored {record} is damaged: {reason}")]
    Corrupt {
        /// Which record.
        record: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A record cannot be written, as the form on disk has limits.
    #[error("the {record} cannot be stored: {reason}")]
    Unstorable {
        /// Which record.
        record: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A record has a form that is not read.
    #[error("the stored {record} has version {found}; {remedy}")]
    Version {
        /// Which record.
        record: &'static str,
        /// Its version.
        found: u64,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The storage was closed.
    #[error("the storage is closed")]
    Closed,
}

/// What [`Read::scan`] shows an entry to: key and value.
pub type Visitor<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// Reading an ordered map of bytes.
pub trait Read: Send + Sync + Debug {
    /// The value of `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError>;

    /// The values of `keys`, in their order.
    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, StorageError> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    /// As [`Read::get_many`], for what is not read again soon: it need not push other things out of a cache.
    fn get_many_once(&self, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, StorageError> {
        self.get_many(keys)
    }

    /// Shows the entries of `start..end` to `visit`, in key order (or backwards), until it breaks.
    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StorageError>;
}

/// An ordered map of bytes with atomic batches. May be used from any thread.
pub trait Storage: Read {
    /// Applies a batch: all of it or, on error, nothing. When it returns, the batch survives the death of the
    /// process; whether it survives loss of power depends on the fsync policy the storage was opened with.
    fn commit(&self, batch: &Batch) -> Result<(), StorageError>;

    /// Shows a view of this moment, that commits made meanwhile do not change, to `read`. Must not commit from
    /// within `read`.
    fn with_snapshot(&self, read: &mut dyn FnMut(&dyn Read)) -> Result<(), StorageError>;

    /// Makes everything committed survive loss of power.
    fn sync(&self) -> Result<(), StorageError> {
        Ok(())
    }

    /// Does what the passing of time demands (the `Interval` fsync policy, letting go of memory when nothing is
    /// written any more) and says when to be called again; `None`: only after the next commit.
    fn tick(&self, _now: Instant) -> Result<Option<Instant>, StorageError> {
        Ok(None)
    }

    /// About how many bytes of memory the engine uses: buffers, indexes, caches.
    fn memory_usage(&self) -> usize {
        0
    }

    /// Gives space of removed ranges back to the file system, as far as the engine can.
    fn compact(&self, _start: &[u8], _end: &[u8]) -> Result<(), StorageError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
