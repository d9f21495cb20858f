//! RocksDB with the options of npm `hypercore-storage` 3, so that Node opens what is written here.
//!
//! What makes a folder unreadable for Node is compression, another column family, comparator or merge operator;
//! none of them is used. How large buffers and caches are does not show in the files.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, BlockBasedTablePinningTier, Cache, ColumnFamily,
    ColumnFamilyDescriptor, DB, DBCompressionType, DBPinnableSlice, DBRecoveryMode, FlushOptions, Options,
    ReadOptions, WriteBatch, WriteOptions,
};

use super::folder::FsyncPolicy;
use super::{Batch, Operation, Read, Storage, StorageError, Visitor};

/// The column family that holds everything; `default` is empty.
const COLUMN_FAMILY: &str = "corestore";

/// Values from this size on go to blob files, so that compactions do not copy them.
const MIN_BLOB_SIZE: u64 = 4096;

/// Each file of the engine's log tells where the one before it ended. Without this, when a file's end, or all that was
/// written to it, is lost with the power and the file after it is not, the engine takes the later one all the same: a
/// later commit without an earlier one.
const NO_HOLES: &str = "track_and_verify_wals=true";
/// How the engine then words that there is no log at all.
const NO_LOG: &str = "no WAL file";

/// A RocksDB database.
pub(super) struct RocksStorage {
    pub(super) db: DB,
    cache: Cache,
    write_options: WriteOptions,
    pub(super) write_buffer: usize,
    fsync: FsyncPolicy,
    /// The last write failed for want of space.
    pub(super) refused: AtomicBool,
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
        f.debug_struct("RocksStorage").field("path", &self.db.path()).field("fsync", &self.fsync).finish()
    }
}

/// How much memory the engine may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    /// Cache of blocks, indexes and filters.
    pub(super) cache: usize,
    /// Commits that are only in the log and in memory.
    pub(super) write_buffer: usize,
}

impl RocksStorage {
    /// Opens or makes the database in `path`, a folder of its own.
    pub(super) fn open(path: &Path, memory: Memory, fsync: FsyncPolicy) -> Result<Self, rocksdb::Error> {
        let cache = Cache::new_hyper_clock_cache(memory.cache, 0);
        let open = |options: &Options| {
            let families = [
                ColumnFamilyDescriptor::new("default", family_options(&cache, memory)),
                ColumnFamilyDescriptor::new(COLUMN_FAMILY, family_options(&cache, memory)),
            ];
            DB::open_cf_descriptors(options, path, families)
        };
        let mut options = database_options();
        let db = match open(&options.get_options_from_string(NO_HOLES)?) {
            // All of it was lost, and nothing that came later is there.
            Err(error) if error.as_ref().contains(NO_LOG) => open(&options)?,
            opened => opened?,
        };
        let mut write_options = WriteOptions::default();
        write_options.set_sync(fsync == FsyncPolicy::EveryCommit);
        // See `stall`.
        write_options.set_no_slowdown(true);
        Ok(Self {
            db,
            cache,
            write_options,
            write_buffer: memory.write_buffer,
            fsync,
            refused: AtomicBool::new(false),
            upkeep: Mutex::default(),
        })
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
        let family = self.family()?;
        let mut write = WriteBatch::with_capacity_bytes(batch.size_hint());
        for operation in batch.operations() {
            match operation {
                Operation::Put(key, value) => write.put_cf(family, key, value),
                Operation::Delete(key) => write.delete_cf(family, key),
                Operation::DeleteRange(start, end) => write.delete_range_cf(family, start, end),
            }
        }
        Ok(self.db.write_opt(write, options))
    }

    fn upkeep(&self) -> MutexGuard<'_, Upkeep> {
        self.upkeep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn family(&self) -> Result<&ColumnFamily, StorageError> {
        self.db.cf_handle(COLUMN_FAMILY).ok_or(StorageError::Closed)
    }

    /// A number of bytes that the engine tells of.
    fn size_of(&self, property: &str) -> usize {
        let value =
            self.family().ok().and_then(|family| self.db.property_int_value_cf(family, property).ok());
        value.flatten().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or_default()
    }

    fn walk(
        &self,
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
        let mut entries = self.db.raw_iterator_cf_opt(self.family()?, options);
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
}

impl Drop for RocksStorage {
    /// The engine reads its log again at the next opening, and all that is not in sorted files is in it: half a second
    /// for full write buffers, against some hundredths now.
    fn drop(&mut self) {
        let in_memory = self.size_of("rocksdb.cur-size-all-mem-tables").min(self.upkeep().buffered);
        if in_memory < WORTH_FLUSHING || self.is_disk_full() {
            return;
        }
        // Without it, too, everything is there.
        if let Ok(family) = self.family()
            && let Err(error) = self.db.flush_cf(family)
        {
            tracing::debug!(%error, "the write buffer was not sorted into files; opening will take longer");
        }
    }
}

fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_bytes_per_sync(1024 * 1024);
    options.set_max_background_jobs(2);
    // Files beyond this number are opened when they are read.
    options.set_max_open_files(256);
    options.set_max_file_opening_threads(1);
    // The engine's own log and statistics: a few small files, no periodic work.
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1024 * 1024);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

fn family_options(cache: &Cache, memory: Memory) -> Options {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_size(8192);
    tables.set_format_version(6);
    tables.set_bloom_filter(10.0, false);
    tables.set_block_cache(cache);
    // Indexes and filters count against the cache and can leave it, so that memory is bounded at any size.
    tables.set_cache_index_and_filter_blocks(true);
    tables.set_cache_index_and_filter_blocks_with_high_priority(true);
    tables.set_unpartitioned_pinning_tier(BlockBasedTablePinningTier::None);
    // In pieces, so that a look-up needs a few KiB of them. Whole ones are hundreds of KiB for each file: when they do
    // not all fit into the cache, they are read anew for every look-up, which then takes fifteen times as long.
    tables.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    tables.set_partition_filters(true);
    tables.set_metadata_block_size(4096);

    let mut options = Options::default();
    options.set_block_based_table_factory(&tables);
    options.set_compression_type(DBCompressionType::None);
    options.set_write_buffer_size(memory.write_buffer);
    options.set_max_write_buffer_number(2);
    options.set_enable_blob_files(true);
    options.set_min_blob_size(MIN_BLOB_SIZE);
    options.set_blob_file_size(256 * 1024 * 1024);
    options.set_blob_compression_type(DBCompressionType::None);
    options.set_enable_blob_gc(true);
    options.set_blob_gc_age_cutoff(0.25);
    options.set_blob_gc_force_threshold(1.0);
    options
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
        let value = self.db.get_cf(self.family()?, key).map_err(|error| failed("read", &error))?;
        Ok(value.map(Bytes::from))
    }

    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, StorageError> {
        if let [key] = keys {
            return Ok(vec![self.get(key)?]);
        }
        values(self.db.batched_multi_get_cf(self.family()?, keys, false))
    }

    fn get_many_once(&self, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, StorageError> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        values(self.db.batched_multi_get_cf_opt(self.family()?, keys, false, &options))
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StorageError> {
        self.walk(ReadOptions::default(), (start, end), reverse, visit)
    }
}

impl Storage for RocksStorage {
    fn commit(&self, batch: &Batch) -> Result<(), StorageError> {
        if let Err(error) = self.write(batch, &self.write_options)? {
            self.write_later(batch, self.fsync == FsyncPolicy::EveryCommit, error)?;
        }
        if self.refused.load(Ordering::Relaxed) {
            self.refused.store(false, Ordering::Relaxed);
        }
        let mut upkeep = self.upkeep();
        upkeep.unsynced = true;
        upkeep.busy = true;
        upkeep.buffered = upkeep.buffered.saturating_add(batch.size_hint());
        Ok(())
    }

    fn with_snapshot(&self, read: &mut dyn FnMut(&dyn Read)) -> Result<(), StorageError> {
        let snapshot = self.db.snapshot();
        read(&Moment { storage: self, snapshot: &snapshot });
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        // What is committed meanwhile counts as not synced.
        let mut upkeep = self.upkeep();
        upkeep.unsynced = false;
        upkeep.unsynced_since = None;
        drop(upkeep);
        let synced = match self.is_disk_full() {
            true => self.sync_carefully(),
            false => self.db.flush_wal(true).map_err(|error| self.write_failed("flush to disk", &error)),
        };
        if synced.is_err() {
            self.upkeep().unsynced = true;
        }
        synced
    }

    fn tick(&self, now: Instant) -> Result<Option<Instant>, StorageError> {
        let sync = self.sync_due(now);
        if sync.is_some_and(|due| due <= now) {
            self.sync()?;
        }
        let flush = self.flush_due(now);
        if flush.is_some_and(|due| due <= now) {
            self.upkeep().buffered = 0;
            let mut options = FlushOptions::default();
            options.set_wait(false);
            let flushed = self.db.flush_cf_opt(self.family()?, &options);
            flushed.map_err(|error| self.write_failed("flush of the write buffer", &error))?;
        }
        Ok([sync, flush].into_iter().flatten().filter(|due| *due > now).min())
    }

    fn memory_usage(&self) -> usize {
        self.size_of("rocksdb.cur-size-all-mem-tables")
            + self.size_of("rocksdb.estimate-table-readers-mem")
            + self.cache.get_usage()
    }

    fn compact(&self, start: &[u8], end: &[u8]) -> Result<(), StorageError> {
        self.db.compact_range_cf(self.family()?, Some(start), Some(end));
        Ok(())
    }
}

/// The database at one moment.
struct Moment<'a> {
    storage: &'a RocksStorage,
    snapshot: &'a rocksdb::Snapshot<'a>,
}

impl std::fmt::Debug for Moment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Moment").field("storage", self.storage).finish()
    }
}

impl Read for Moment<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let value =
            self.snapshot.get_cf(self.storage.family()?, key).map_err(|error| failed("read", &error))?;
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
        self.storage.walk(options, (start, end), reverse, visit)
    }
}
