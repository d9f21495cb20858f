//! The database that the engine has open, with the options of npm `hypercore-storage` 3.
//!
//! It can be closed and opened again while others hold on to the storage: the engine gives up for good on some errors
//! that pass, and offers no other way out.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, TryLockError};

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, BlockBasedTablePinningTier, Cache, ColumnFamily,
    ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, Options,
};

use super::StorageError;
use super::reclaim::AGE_CUTOFF;

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

/// Files of the database that are open at the same time. Others are opened when they are read.
const MAX_OPEN_FILES: u64 = 256;

/// How much memory the engine may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    /// Cache of blocks, indexes and filters.
    pub(super) cache: usize,
    /// Commits that are only in the log and in memory.
    pub(super) write_buffer: usize,
}

/// A database in a folder of its own.
pub(super) struct Engine {
    path: PathBuf,
    cache: Cache,
    memory: Memory,
    /// Compactions collect what is left in the files of large values; see `reclaim`.
    pub(super) collecting: AtomicBool,
    /// Nothing is in it only when the last attempt to open it again failed.
    ///
    /// Whoever wants to replace it only ever *tries* to lock: as no writer waits, a reader that reads while it reads
    /// cannot lock itself out.
    db: RwLock<Option<DB>>,
}

impl Engine {
    /// Opens or makes the database.
    pub(super) fn open(path: &Path, memory: Memory) -> Result<Self, rocksdb::Error> {
        let cache = Cache::new_hyper_clock_cache(memory.cache, 0);
        let db = RwLock::new(Some(open(path, &cache, memory)?));
        let collecting = AtomicBool::new(false);
        Ok(Self { path: path.to_owned(), cache, memory, collecting, db })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Does something with the database.
    pub(super) fn with<T>(&self, act: impl FnOnce(&DB) -> T) -> Result<T, StorageError> {
        let guard: RwLockReadGuard<'_, _> = self.db.read().unwrap_or_else(PoisonError::into_inner);
        guard.as_ref().map(act).ok_or_else(|| StorageError::Io {
            operation: "access",
            reason:
                "the store was closed after an error and could not be opened again; that is tried from time to time"
                    .to_owned(),
        })
    }

    /// Whether it is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.db.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Closes the database and opens it: everything that was acknowledged is in it again. Says whether it was done:
    /// not while somebody reads.
    pub(super) fn reopen(&self) -> Result<bool, rocksdb::Error> {
        let mut db = match self.db.try_write() {
            Ok(db) => db,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(false),
        };
        // The engine allows one at a time.
        drop(db.take());
        self.collecting.store(false, Ordering::Relaxed);
        *db = Some(open(&self.path, &self.cache, self.memory)?);
        Ok(true)
    }

    /// Bytes of write buffers from which on they are sorted into files.
    pub(super) fn write_buffer(&self) -> usize {
        self.memory.write_buffer
    }

    /// A number of bytes that the database tells of.
    pub(super) fn size_of(&self, property: &str) -> usize {
        let ask = |db: &DB| db.property_int_value_cf(family(db).ok()?, property).ok()?;
        let value = self.with(ask).ok().flatten();
        value.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or_default()
    }

    /// Bytes in the cache of blocks, indexes and filters.
    pub(super) fn cached(&self) -> usize {
        self.cache.get_usage()
    }
}

/// The column family of everything that is stored.
pub(super) fn family(db: &DB) -> Result<&ColumnFamily, StorageError> {
    db.cf_handle(COLUMN_FAMILY).ok_or(StorageError::Closed)
}

fn open(path: &Path, cache: &Cache, memory: Memory) -> Result<DB, rocksdb::Error> {
    let open = |options: &Options| {
        let families = [
            ColumnFamilyDescriptor::new("default", family_options(cache, memory)),
            ColumnFamilyDescriptor::new(COLUMN_FAMILY, family_options(cache, memory)),
        ];
        DB::open_cf_descriptors(options, path, families)
    };
    let mut options = database_options();
    match open(&options.get_options_from_string(NO_HOLES)?) {
        // All of it was lost, and nothing that came later is there.
        Err(error) if error.as_ref().contains(NO_LOG) => open(&options),
        opened => opened,
    }
}

fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    // Written out as it comes, files and log: the engine forces both to disk whenever it sorts a write buffer into
    // files (the log, too, since there are two column families), and would wait for all of it then.
    options.set_bytes_per_sync(1024 * 1024);
    options.set_wal_bytes_per_sync(1024 * 1024);
    // What is written at once is cached by the system in one piece, and larger pieces of memory are less often at hand: in
    // a virtual machine they may have to come from its host.
    options.set_writable_file_max_buffer_size(64 * 1024);
    options.set_max_background_jobs(2);
    options.set_max_open_files(max_open_files());
    options.set_max_file_opening_threads(1);
    // The engine's own log and statistics: a few small files, no periodic work.
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1024 * 1024);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

/// Not more than a quarter of what the process may have open: the rest of it needs some, too.
fn max_open_files() -> i32 {
    #[cfg(unix)]
    let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    let allowed: Option<u64> = None;
    let files = allowed.map_or(MAX_OPEN_FILES, |allowed| MAX_OPEN_FILES.min(allowed / 4));
    i32::try_from(files).unwrap_or(i32::MAX)
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
    // Switched on when there is something to collect: see `reclaim`.
    options.set_enable_blob_gc(false);
    options.set_blob_gc_age_cutoff(AGE_CUTOFF);
    options.set_blob_gc_force_threshold(1.0);
    options
}
