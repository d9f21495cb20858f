//! When the engine does not take a write: it is busy, its disk is full, or the process may open no more files.
//!
//! Left to itself, RocksDB makes a writer wait while it sorts full write buffers into files, and goes on waiting when
//! there is no room for the files: for hours, if need be, and whoever needs the same log waits, too. So it is told to
//! refuse instead of waiting, and the waiting is done here, as long as there is something to hope for.
//!
//! When there is room again, RocksDB finds it out by itself: it looks every five seconds, and wants to have as much
//! free as a write buffer is large. What it had taken until then is in memory and in its log; none of it is lost.
//!
//! One case it gives up for good (RocksDB 11.8, `ErrorHandler`: no space while it changes to another write buffer is
//! *fatal*): when the disk ends just where it begins another file of its log. So when there has been room for longer
//! than it takes the engine to look twice, its database is closed and opened again here.
//!
//! A file that it could not open because the process has too many open is such an error in any case, although it passes
//! as soon as others close theirs: connections, say. Its database is then opened again as soon as files can be.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rocksdb::{ErrorKind, WriteOptions, properties};

use super::rocks::RocksStorage;
use super::{Batch, StorageError};

/// How often it is tried again.
const RETRY: Duration = Duration::from_millis(1);

/// How often it is tried to find no reader at work.
const GAPS: usize = 1000;

/// The engine looks for room every five seconds. After this long with room it has given up.
const GIVEN_UP: Duration = Duration::from_secs(12);

/// How the engine words that the disk is full.
pub(super) const NO_SPACE: &str = "No space left";

/// How it words that the process, or the machine, has too many files open.
const NO_FILES: &str = "Too many open files";

/// Files that the process must be able to open before the database is closed in order to be opened again: while it is
/// closed, nobody can read. It needs fewer, apart from those that it has closed itself.
const SPARE_FILES: usize = 32;

const MIB: u64 = 1024 * 1024;

/// What is known of writes that were refused for want of space.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// There was one, and no write has succeeded since.
    last: AtomicBool,
    /// Since when they are refused although there is room.
    unfounded_since: Mutex<Option<Instant>>,
}

impl Refusals {
    /// A write has succeeded.
    pub(super) fn forget(&self) {
        if self.last.load(Ordering::Relaxed) {
            self.last.store(false, Ordering::Relaxed);
            self.note_room(false);
        }
    }

    /// A write was refused; is there room? Returns for how long there has been.
    fn note_room(&self, room: bool) -> Duration {
        let mut since = self.unfounded_since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = room.then(|| since.unwrap_or_else(Instant::now));
        since.map(|since| since.elapsed()).unwrap_or_default()
    }
}

impl RocksStorage {
    /// Writes a batch to a database that has to be opened again first.
    #[cold]
    pub(super) fn write_reopened(&self, batch: &Batch, sync: bool) -> Result<(), StorageError> {
        self.reopen()?;
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        options.set_no_slowdown(true);
        match self.write(batch, &options)? {
            Ok(()) => Ok(()),
            // Others took the files meanwhile. The next commit tries it again.
            Err(error) if lacks_files(&error) => Err(self.write_failed("write", &error)),
            Err(error) => self.write_later(batch, sync, error),
        }
    }

    /// Writes a batch that the engine refused with `error`.
    #[cold]
    pub(super) fn write_later(
        &self,
        batch: &Batch,
        sync: bool,
        mut error: rocksdb::Error,
    ) -> Result<(), StorageError> {
        while is_stall(&error) {
            let mut options = WriteOptions::default();
            options.set_sync(sync);
            if self.number(properties::IS_WRITE_STOPPED) != 0 {
                self.check_space()?;
                thread::sleep(RETRY);
                options.set_no_slowdown(true);
            }
            // Otherwise it is not stopped, only slowed down: the engine knows for how long.
            match self.write(batch, &options)? {
                Ok(()) => return Ok(()),
                Err(another) => error = another,
            }
        }
        if error.as_ref().contains(NO_SPACE) && self.has_given_up() {
            return self.write_reopened(batch, sync);
        }
        if lacks_files(&error) && can_open_files(self.engine.path()) {
            return self.write_reopened(batch, sync);
        }
        Err(self.write_failed("write", &error))
    }

    /// Whether the engine refuses writes although there has been room for a while.
    fn has_given_up(&self) -> bool {
        let room = free_space(self.engine.path()).is_some_and(|free| free >= self.wanted_space());
        self.refusals.note_room(room) >= GIVEN_UP
    }

    /// Closes the database and opens it; an error when readers leave no gap, so that the commit ends and can be repeated.
    pub(super) fn reopen(&self) -> Result<(), StorageError> {
        for _ in 0..GAPS {
            let reopened = self.engine.reopen().map_err(|error| StorageError::Io {
                operation: "reopening",
                reason: format!("{error}; it is tried again with the next append, and from time to time"),
            })?;
            if reopened {
                tracing::info!(
                    path = %self.engine.path().display(),
                    "opened again: the disk was full for a while, or too many files were open"
                );
                self.refusals.note_room(false);
                return Ok(());
            }
            thread::sleep(RETRY);
        }
        let reason = "the disk was full for a while, or too many files were open, and the store has to be opened again, \
                      but somebody reads all the time; try it again";
        Err(StorageError::Io { operation: "reopening", reason: reason.to_owned() })
    }

    /// Forces what was written to disk in a way that does no harm when the disk is full, or was a moment ago.
    ///
    /// The engine forbids all writes for good when its log is to be forced to disk after a write to it failed, unless
    /// that is part of another write: writes are refused while it waits for space.
    pub(super) fn sync_carefully(&self) -> Result<(), StorageError> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        options.set_no_slowdown(true);
        let nothing = Batch::new();
        if let Err(error) = self.write(&nothing, &options)? {
            self.write_later(&nothing, true, error)?;
        }
        self.refusals.forget();
        Ok(())
    }

    /// Whether a write failed for want of space and none has succeeded since, or one may fail soon.
    pub(super) fn is_disk_full(&self) -> bool {
        self.refusals.last.load(Ordering::Relaxed)
            || free_space(self.engine.path()).is_some_and(|free| free < self.wanted_space())
    }

    /// What the engine said when it did not write, and what to do about it.
    pub(super) fn write_failed(&self, operation: &'static str, error: &rocksdb::Error) -> StorageError {
        let text = error.to_string();
        if text.contains(NO_SPACE) {
            self.refusals.last.store(true, Ordering::Relaxed);
            return self.disk_full(operation, &text);
        }
        if lacks_files(error) {
            let reason = format!(
                "too many files and connections are open ({text}); close some, or allow this process more (ulimit -n), \
                 then try again"
            );
            return StorageError::Io { operation, reason };
        }
        let reason = format!(
            "{text}; nothing more is written until the store is opened again: look after the disk, then restart"
        );
        StorageError::Io { operation, reason }
    }

    /// An error when the engine waits for space on the disk.
    fn check_space(&self) -> Result<(), StorageError> {
        match free_space(self.engine.path()) {
            Some(free) if free < self.wanted_space() && self.number(properties::BACKGROUND_ERRORS) > 0 => {
                Err(self.disk_full("write", &format!("{} MiB are left", free / MIB)))
            }
            _ => Ok(()),
        }
    }

    fn disk_full(&self, operation: &'static str, details: &str) -> StorageError {
        let reason = format!(
            "the disk is full ({details}); free at least {} MiB, then try again after some seconds",
            self.wanted_space().div_ceil(MIB)
        );
        StorageError::Io { operation, reason }
    }

    /// Room to sort both write buffers into files.
    fn wanted_space(&self) -> u64 {
        (self.engine.write_buffer() as u64).saturating_mul(2)
    }

    fn number(&self, property: &properties::PropName) -> u64 {
        self.engine
            .with(|db| db.property_int_value(property).ok().flatten())
            .ok()
            .flatten()
            .unwrap_or_default()
    }
}

/// The engine would have waited.
fn is_stall(error: &rocksdb::Error) -> bool {
    error.kind() == ErrorKind::Incomplete && error.as_ref().contains("Write stall")
}

/// The process could not open a file because there are too many open.
fn lacks_files(error: &rocksdb::Error) -> bool {
    error.as_ref().contains(NO_FILES)
}

/// Whether the process can open as many files as it takes to open the database. Not whether it can in a moment.
fn can_open_files(path: &Path) -> bool {
    let opened: Result<Vec<File>, _> = (0..SPARE_FILES).map(|_| File::open(path)).collect();
    opened.is_ok()
}

/// Bytes that can still be written to the file system, if it tells.
#[cfg(unix)]
fn free_space(path: &Path) -> Option<u64> {
    let status = rustix::fs::statvfs(path).ok()?;
    Some(status.f_bavail.saturating_mul(status.f_frsize))
}

#[cfg(not(unix))]
fn free_space(_path: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::super::engine::Memory;
    use super::super::folder::FsyncPolicy;
    use super::super::{Read, Storage};
    use super::*;

    #[test]
    fn a_commit_ends_when_readers_leave_no_gap_and_is_done_when_they_do() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory { cache: 1 << 20, write_buffer: 1 << 20 };
        let storage = RocksStorage::open(&folder.path().join("db"), memory, FsyncPolicy::Never).unwrap();
        let batch = |value: &[u8]| {
            let mut batch = Batch::new();
            batch.put(b"key", value);
            batch
        };
        storage.commit(&batch(b"before")).unwrap();
        let mut refused = None;
        storage
            .with_snapshot(&mut |_| {
                let write = || storage.write_reopened(&batch(b"refused"), false);
                refused = Some(std::thread::scope(|threads| threads.spawn(write).join().unwrap()));
            })
            .unwrap();
        let said = refused.unwrap().unwrap_err().to_string();
        assert!(said.contains("somebody reads"), "{said}");
        assert_eq!(storage.get(b"key").unwrap().unwrap(), "before");
        storage.write_reopened(&batch(b"after"), false).unwrap();
        assert_eq!(storage.get(b"key").unwrap().unwrap(), "after");
    }
}
