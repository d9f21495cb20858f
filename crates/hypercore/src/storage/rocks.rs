//! The storage in a folder: reads, commits, and what is to be done some time after them.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rocksdb::{DB, DBPinnableSlice, FlushOptions, ReadOptions, WriteBatch, WriteOptions};

use super::engine::{Engine, Memory, family};
use super::folder::FsyncPolicy;
use super::stall::Refusals;
use super::{Batch, Operation, Read, Storage, StorageError, Visitor};

/// A RocksDB database.
pub(super) struct RocksStorage {
    pub(super) engine: Engine,
    write_options: WriteOptions,
    fsync: FsyncPolicy,
    pub(super) refusals: Refusals,
    upkeep: Mutex<Upkeep>,
}

/// What is to be done some time after commits.
#[derive(Debug, Default)]
struct Upkeep {
    /// There are commits that are not forced to disk.
    unsynced: bool,
    /// Since when, as far as it was looked at.
    unsynced_since: Option<Instant>,
    /// Bytes of commits that may still be in the write buffer.
    buffered: usize,
    /// Bytes of commits since the engine was asked about the space of removed values.
    unlooked: usize,
    /// Commits that came after the last look.
    busy: bool,
    /// Since when no commit came.
    quiet_since: Option<Instant>,
}

/// A write buffer with at least this much in it is sorted into files ...
const WORTH_FLUSHING: usize = 1024 * 1024;
/// ... after this long without commits: an idle store needs no memory.
const QUIET: Duration = Duration::from_secs(10);

impl std::fmt::Debug for RocksStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksStorage").field("path", &self.engine.path()).field("fsync", &self.fsync).finish()
    }
}

impl RocksStorage {
    /// Opens or makes the database in `path`, a folder of its own.
    pub(super) fn open(path: &Path, memory: Memory, fsync: FsyncPolicy) -> Result<Self, rocksdb::Error> {
        let engine = Engine::open(path, memory)?;
        let mut write_options = WriteOptions::default();
        write_options.set_sync(fsync == FsyncPolicy::EveryCommit);
        // See `stall`.
        write_options.set_no_slowdown(true);
        engine.look_for_garbage();
        Ok(Self { engine, write_options, fsync, refusals: Refusals::default(), upkeep: Mutex::default() })
    }

    /// When commits are to be forced to disk, if there are any.
    fn sync_due(&self, now: Instant) -> Option<Instant> {
        let FsyncPolicy::Interval(interval) = self.fsync else {
            return None;
        };
        let mut upkeep = self.upkeep();
        let since = upkeep.unsynced.then(|| *upkeep.unsynced_since.get_or_insert(now));
        since.map(|since| since + interval)
    }

    /// When the write buffer is to be emptied, if it is worth it.
    fn flush_due(&self, now: Instant) -> Option<Instant> {
        let mut upkeep = self.upkeep();
        if std::mem::take(&mut upkeep.busy) {
            upkeep.quiet_since = Some(now);
        }
        let since = upkeep.quiet_since.filter(|_| upkeep.buffered >= WORTH_FLUSHING);
        since.map(|since| since + QUIET)
    }

    /// Hands a batch to the engine.
    pub(super) fn write(
        &self,
        batch: &Batch,
        options: &WriteOptions,
    ) -> Result<Result<(), rocksdb::Error>, StorageError> {
        self.engine.with(|db| {
            let family = family(db)?;
            let mut write = WriteBatch::with_capacity_bytes(batch.size_hint());
            for operation in batch.operations() {
                match operation {
                    Operation::Put(key, value) => write.put_cf(family, key, value),
                    Operation::Delete(key) => write.delete_cf(family, key),
                    Operation::DeleteRange(start, end) => write.delete_range_cf(family, start, end),
                }
            }
            Ok(db.write_opt(write, options))
        })?
    }

    fn upkeep(&self) -> MutexGuard<'_, Upkeep> {
        self.upkeep.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows the entries between two keys to `visit`.
fn walk(
    db: &DB,
    mut options: ReadOptions,
    (start, end): (&[u8], &[u8]),
    reverse: bool,
    visit: &mut Visitor<'_>,
) -> Result<(), StorageError> {
    if start >= end {
        return Ok(());
    }
    options.set_iterate_lower_bound(start);
    options.set_iterate_upper_bound(end);
    let mut entries = db.raw_iterator_cf_opt(family(db)?, options);
    if reverse {
        entries.seek_to_last()
    } else {
        entries.seek_to_first()
    }
    while let Some((key, value)) = entries.item() {
        if visit(key, value).is_break() {
            return Ok(());
        }
        if reverse { entries.prev() } else { entries.next() }
    }
    entries.status().map_err(|error| failed("read", &error))
}

impl Drop for RocksStorage {
    /// The engine reads its log again at the next opening, and all that is not in sorted files is in it: half a second
    /// for full write buffers, against some hundredths now.
    fn drop(&mut self) {
        let in_memory = self.engine.size_of("rocksdb.cur-size-all-mem-tables").min(self.upkeep().buffered);
        if in_memory < WORTH_FLUSHING || self.is_disk_full() {
            return;
        }
        // Without it, too, everything is there.
        let flushed = self.engine.with(|db| family(db).map(|family| db.flush_cf(family)));
        if let Ok(Ok(Err(error))) = flushed {
            tracing::debug!(%error, "the write buffer was not sorted into files; opening will take longer");
        }
    }
}

fn failed(operation: &'static str, error: &rocksdb::Error) -> StorageError {
    StorageError::Io { operation, reason: error.to_string() }
}

fn values(
    found: Vec<Result<Option<DBPinnableSlice<'_>>, rocksdb::Error>>,
) -> Result<Vec<Option<Bytes>>, StorageError> {
    let copy = |value: DBPinnableSlice<'_>| Bytes::copy_from_slice(&value);
    let found = found.into_iter().map(|value| Ok(value.map_err(|error| failed("read", &error))?.map(copy)));
    found.collect()
}

impl Read for RocksStorage {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let value = self.engine.with(|db| Ok(db.get_cf(family(db)?, key)))??;
        Ok(value.map_err(|error| failed("read", &error))?.map(Bytes::from))
    }

    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, StorageError> {
        if let [key] = keys {
            return Ok(vec![self.get(key)?]);
        }
        self.engine.with(|db| values(db.batched_multi_get_cf(family(db)?, keys, false)))?
    }

    fn get_many_once(&self, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, StorageError> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        self.engine.with(|db| values(db.batched_multi_get_cf_opt(family(db)?, keys, false, &options)))?
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StorageError> {
        self.engine.with(|db| walk(db, ReadOptions::default(), (start, end), reverse, visit))?
    }
}

impl Storage for RocksStorage {
    fn commit(&self, batch: &Batch) -> Result<(), StorageError> {
        let sync = self.fsync == FsyncPolicy::EveryCommit;
        match self.write(batch, &self.write_options) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.write_later(batch, sync, error)?,
            Err(_) if self.engine.is_closed() => self.write_reopened(batch, sync)?,
            Err(error) => return Err(error),
        }
        self.refusals.forget();
        let mut upkeep = self.upkeep();
        upkeep.unsynced = true;
        upkeep.busy = true;
        let size = batch.size_hint();
        upkeep.buffered = upkeep.buffered.saturating_add(size);
        upkeep.unlooked = upkeep.unlooked.saturating_add(size);
        // With every write buffer, that is to say with every file that the engine adds.
        let look = upkeep.unlooked >= self.engine.write_buffer();
        if look {
            upkeep.unlooked = 0;
        }
        drop(upkeep);
        if look {
            self.engine.look_for_garbage();
        }
        Ok(())
    }

    fn with_snapshot(&self, read: &mut dyn FnMut(&dyn Read)) -> Result<(), StorageError> {
        self.engine.with(|db| read(&Moment { db, snapshot: &db.snapshot() }))
    }

    fn sync(&self) -> Result<(), StorageError> {
        // What is committed meanwhile counts as not synced.
        let mut upkeep = self.upkeep();
        upkeep.unsynced = false;
        let since = upkeep.unsynced_since.take();
        drop(upkeep);
        let synced = match self.is_disk_full() {
            true => self.sync_carefully(),
            false => {
                let flushed = self.engine.with(|db| db.flush_wal(true));
                flushed
                    .and_then(|flushed| flushed.map_err(|error| self.write_failed("flush to disk", &error)))
            }
        };
        if synced.is_err() {
            let mut upkeep = self.upkeep();
            upkeep.unsynced = true;
            // It is still due, and not well until it is done.
            upkeep.unsynced_since = since.or(upkeep.unsynced_since);
        }
        synced
    }

    fn tick(&self, now: Instant) -> Result<Option<Instant>, StorageError> {
        if self.engine.is_closed() {
            // Whoever is to commit has to read first.
            self.reopen()?;
        }
        let sync = self.sync_due(now);
        if sync.is_some_and(|due| due <= now) {
            self.sync()?;
        }
        let flush = self.flush_due(now);
        if flush.is_some_and(|due| due <= now) {
            self.upkeep().buffered = 0;
            let mut options = FlushOptions::default();
            options.set_wait(false);
            let flushed = self.engine.with(|db| Ok(db.flush_cf_opt(family(db)?, &options)))??;
            flushed.map_err(|error| self.write_failed("flush of the write buffer", &error))?;
        }
        Ok([sync, flush].into_iter().flatten().filter(|due| *due > now).min())
    }

    fn memory_usage(&self) -> usize {
        self.engine.size_of("rocksdb.cur-size-all-mem-tables")
            + self.engine.size_of("rocksdb.estimate-table-readers-mem")
            + self.engine.cached()
    }

    fn compact(&self, start: &[u8], end: &[u8]) -> Result<(), StorageError> {
        self.engine.compact(start, end)
    }
}

/// The database at one moment.
struct Moment<'a> {
    db: &'a DB,
    snapshot: &'a rocksdb::Snapshot<'a>,
}

impl std::fmt::Debug for Moment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Moment").field("path", &self.db.path()).finish()
    }
}

impl Read for Moment<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let value = self.snapshot.get_cf(family(self.db)?, key).map_err(|error| failed("read", &error))?;
        Ok(value.map(Bytes::from))
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StorageError> {
        let mut options = ReadOptions::default();
        options.set_snapshot(self.snapshot);
        walk(self.db, options, (start, end), reverse, visit)
    }
}
