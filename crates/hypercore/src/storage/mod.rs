//! Where Hypercores are kept: an ordered map of bytes with atomic batches, and the records in it.
//!
//! [`Storage`] is the seam: everything above speaks only to this trait, so that tests can break any single
//! operation. Two implementations exist, a folder that Node can share (feature `rocksdb`) and memory.

use std::fmt::Debug;
use std::ops::ControlFlow;

use bytes::Bytes;

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
    /// The storage was closed.
    #[error("the storage is closed")]
    Closed,
}

/// Puts, deletes and range deletes that take effect together or not at all, in the order given.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    operations: Vec<Operation>,
}

/// One step of a [`Batch`].
#[derive(Debug, Clone)]
pub enum Operation {
    /// Set a value.
    Put(Bytes, Bytes),
    /// Remove a key, if it is there.
    Delete(Bytes),
    /// Remove every key in `start..end`.
    DeleteRange(Bytes, Bytes),
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: Bytes, value: Bytes) {
        self.operations.push(Operation::Put(key, value));
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: Bytes) {
        self.operations.push(Operation::Delete(key));
    }

    /// Removes all of `start..end`.
    pub fn delete_range(&mut self, start: Bytes, end: Bytes) {
        self.operations.push(Operation::DeleteRange(start, end));
    }

    /// The steps so far.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}

/// Reading an ordered map of bytes.
pub trait Read: Send + Sync + Debug {
    /// The value of `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError>;

    /// The values of `keys`, in their order.
    fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, StorageError> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    /// Shows the entries of `start..end` to `visit`, in key order (or backwards), until it breaks.
    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StorageError>;
}

/// An ordered map of bytes with atomic batches.
pub trait Storage: Read {
    /// Applies a batch: all of it or, on error, nothing. When it returns, the batch survives the death of the
    /// process; whether it survives loss of power depends on the fsync policy the storage was opened with.
    fn commit(&self, batch: Batch) -> Result<(), StorageError>;

    /// A view of this moment that later commits do not change.
    fn snapshot(&self) -> Result<Box<dyn Read>, StorageError>;

    /// Makes everything committed survive loss of power.
    fn flush(&self) -> Result<(), StorageError>;

    /// Gives space of removed ranges back to the file system, as far as the engine can.
    fn compact(&self, _start: &[u8], _end: &[u8]) -> Result<(), StorageError> {
        Ok(())
    }
}
