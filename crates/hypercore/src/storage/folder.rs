//! Opening a folder: what is in it, who has it, and then the database.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::device_lock::{self, DeviceLock, DeviceLockError};
use super::engine::Memory;
use super::rocks::RocksStorage;
use super::stall::NO_SPACE;
use super::{Batch, Database, Hints, OpenError, Read, Storage, StorageError, Visitor};
use bytes::Bytes;

/// Where the engine's files are within the store's folder.
const ENGINE: &str = "db";

/// A file that Node leaves in the engine's folder when it had to throw away the engine's log to open it again: the
/// last commits of any core may be missing (npm `hypercore-storage` 3.3.1, `_maybeRecoverLater`).
const RECOVERING: &str = "RECOVERING";

/// How many entries of a folder are looked at to tell what it is.
const LOOK_AT: usize = 4096;

/// When commits are forced to disk. Whatever the policy, a commit that returned survives the death of the process,
/// and after loss of power the store opens with all commits up to some moment, never with half a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FsyncPolicy {
    /// Before a commit returns: nothing acknowledged is lost to loss of power.
    EveryCommit,
    /// By [`Storage::tick`], this long after the first commit that is not on disk yet: loss of power costs at most
    /// the commits of about that time.
    Interval(Duration),
    /// When the operating system likes (usually within half a minute), as Node does.
    #[default]
    Never,
}

/// How a folder is opened.
#[derive(Debug, Clone)]
pub struct FolderOptions {
    /// When commits are forced to disk.
    pub fsync: FsyncPolicy,
    /// Make a store when there is none.
    pub create: bool,
    /// Bytes of memory to cache blocks, indexes and filters in.
    pub cache_bytes: usize,
    /// Bytes of commits to collect in memory before they are sorted into files; twice as much while that happens.
    pub write_buffer_bytes: usize,
}

impl Default for FolderOptions {
    fn default() -> Self {
        Self {
            fsync: FsyncPolicy::Never,
            create: true,
            cache_bytes: 16 * 1024 * 1024,
            write_buffer_bytes: 16 * 1024 * 1024,
        }
    }
}

impl Database {
    /// Opens the store in a folder, and makes it when there is none. Only one process can have it open.
    pub fn open_folder(path: impl AsRef<Path>, options: FolderOptions) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let storage = Folder::open(path, &options)?;
        let database = Self::open(Arc::new(storage))?;
        mark_recovering(&database, &path.join(ENGINE).join(RECOVERING))?;
        Ok(database)
    }
}

/// What Node does at its next start, too: every core is marked, so that nobody appends before peers have given back
/// what may be missing, and then the file goes.
fn mark_recovering(database: &Database, file: &Path) -> Result<(), OpenError> {
    if !file.exists() {
        return Ok(());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let recovering = u64::try_from(now.as_millis()).unwrap_or_default().max(1);
    let mut last = None;
    loop {
        let page = database.cores(last.as_ref(), 256)?;
        for (discovery_key, _) in &page {
            if let Some(core) = database.resume(discovery_key)? {
                let mut batch = core.batch();
                batch.set_hints(&Hints { recovering, ..core.read_once().hints()? });
                core.commit(&batch)?;
            }
        }
        match page.last() {
            Some((discovery_key, _)) => last = Some(*discovery_key),
            None => break,
        }
    }
    database.sync()?;
    fs::remove_file(file).map_err(|error| refused(file, error))
}

/// A RocksDB in a folder that this process has locked.
#[derive(Debug)]
pub(super) struct Folder {
    // Dropped in this order: the lock is let go when the engine has closed its files.
    engine: RocksStorage,
    _lock: DeviceLock,
}

impl Folder {
    pub(super) fn open(path: &Path, options: &FolderOptions) -> Result<Self, OpenError> {
        let contents = Contents::of(path)?;
        match contents {
            Contents::Nothing if !options.create => return Err(OpenError::Missing { path: path.to_owned() }),
            Contents::Nothing => fs::create_dir_all(path).map_err(|error| refused(nearest(path), error))?,
            Contents::Store => {}
            Contents::Legacy { found } => return Err(OpenError::Legacy { path: path.to_owned(), found }),
            Contents::Foreign { found } => return Err(OpenError::Foreign { path: path.to_owned(), found }),
        }
        let lock = DeviceLock::acquire(path).map_err(|error| match error {
            DeviceLockError::Locked => OpenError::Locked { path: path.to_owned() },
            DeviceLockError::Moved(reason) => OpenError::Moved { path: path.to_owned(), reason },
            DeviceLockError::Io(error) => refused(&path.join(device_lock::FILE_NAME), error),
        })?;
        let memory = Memory { cache: options.cache_bytes, write_buffer: options.write_buffer_bytes };
        let engine = RocksStorage::open(&path.join(ENGINE), memory, options.fsync)
            .map_err(|error| engine_refused(path, &error))?;
        Ok(Self { engine, _lock: lock })
    }
}

/// What a folder holds.
enum Contents {
    /// Nothing, or it does not exist.
    Nothing,
    /// A store of corestore 7.
    Store,
    /// A store of corestore 6, or a single core of hypercore 10.
    Legacy { found: String },
    /// Something else.
    Foreign { found: String },
}

impl Contents {
    fn of(path: &Path) -> Result<Self, OpenError> {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::Nothing),
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                return Err(refused(nearest(path), error));
            }
            Err(error) => return Err(refused(path, error)),
        };
        let mut names = Vec::new();
        for entry in entries.take(LOOK_AT) {
            let entry = entry.map_err(|error| refused(path, error))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        let has = |name: &str| names.iter().any(|found| found == name);
        let has_file = |name: &str| has(name) && path.join(name).is_file();

        if path.join(ENGINE).join("CURRENT").is_file() {
            return Ok(Self::Store);
        }
        if has_file("primary-key") || (has("cores") && path.join("cores").is_dir()) {
            let found = if has("primary-key") { "the file primary-key" } else { "the folder cores" };
            return Ok(Self::Legacy { found: found.to_owned() });
        }
        if has_file("oplog") && (has("tree") || has("bitfield") || has("data")) {
            return Ok(Self::Legacy { found: "the files oplog, tree, bitfield and data".to_owned() });
        }
        // A first start that ended before the engine made its files leaves only these behind.
        let ours = |name: &str| matches!(name, device_lock::FILE_NAME | ENGINE | "lost+found");
        match names.into_iter().find(|name| !ours(name)) {
            Some(found) => Ok(Self::Foreign { found }),
            None => Ok(Self::Nothing),
        }
    }
}

/// What is there of a path that could not be made: the obstacle.
fn nearest(path: &Path) -> &Path {
    let named = path.ancestors().filter(|path| !path.as_os_str().is_empty());
    named.clone().find(|path| path.exists()).or_else(|| named.last()).unwrap_or(path)
}

fn refused(path: &Path, error: io::Error) -> OpenError {
    let path = path.to_owned();
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            OpenError::Permission { path, reason: error.to_string() }
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            OpenError::DiskFull { path, reason: error.to_string() }
        }
        ErrorKind::NotADirectory => OpenError::NotAFolder { path },
        _ => OpenError::Io { path, reason: error.to_string() },
    }
}

fn engine_refused(path: &Path, error: &rocksdb::Error) -> OpenError {
    let path: PathBuf = path.to_owned();
    let reason = error.to_string();
    if reason.contains("LOCK") && (reason.contains("temporarily unavailable") || reason.contains("lock hold"))
    {
        OpenError::Locked { path }
    } else if reason.contains("Permission denied") {
        OpenError::Permission { path, reason }
    } else if reason.contains(NO_SPACE) {
        OpenError::DiskFull { path, reason }
    } else {
        OpenError::Io { path, reason }
    }
}

impl Read for Folder {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.engine.get(key)
    }

    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, StorageError> {
        self.engine.get_many(keys)
    }

    fn get_many_once(&self, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, StorageError> {
        self.engine.get_many_once(keys)
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StorageError> {
        self.engine.scan(start, end, reverse, visit)
    }
}

impl Storage for Folder {
    fn commit(&self, batch: &Batch) -> Result<(), StorageError> {
        self.engine.commit(batch)
    }

    fn with_snapshot(&self, read: &mut dyn FnMut(&dyn Read)) -> Result<(), StorageError> {
        self.engine.with_snapshot(read)
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.engine.sync()
    }

    fn tick(&self, now: Instant) -> Result<Option<Instant>, StorageError> {
        self.engine.tick(now)
    }

    fn memory_usage(&self) -> usize {
        self.engine.memory_usage()
    }

    fn compact(&self, start: &[u8], end: &[u8]) -> Result<(), StorageError> {
        self.engine.compact(start, end)
    }
}
