//! When the engine gathers large values anew, so that the space of removed ones comes free.
//!
//! Large values are in files of their own, and stay there when they are removed, until their whole file holds nothing
//! else. RocksDB can collect the rest: with every compaction it then copies what the oldest quarter of these files still
//! holds into new ones. It does so whether or not anything was removed from them, and as a log's newest records take
//! part in every compaction, so do all of its blocks: whoever appends gigabytes would write each of them many times
//! over (a log of 100 GB two hundred times). So it collects only while there is something to be had by it: space, or
//! fewer files where many small ones have come together.

use std::sync::atomic::Ordering;

use rocksdb::{BottommostLevelCompaction, CompactOptions};

use super::StorageError;
use super::engine::{Engine, family};

/// Collecting begins when this part of the large values' bytes was removed ...
const COLLECT_FROM: usize = 4;
/// ... and goes on until it is less than this part.
const COLLECT_UNTIL: usize = 16;
/// As well when there are more files than this, and they are smaller than that on average ...
const MANY_FILES: usize = 32;
const SMALL_FILE: usize = 32 * MIB;
/// ... until there are no more than this, or they are large enough.
const FEW_FILES: usize = 24;
const LARGE_FILE: usize = 64 * MIB;

const MIB: usize = 1024 * 1024;

/// The oldest files that a compaction collects from, as a part of all.
pub(super) const AGE_CUTOFF: f64 = 0.25;

impl Engine {
    /// Looks how much of the large values' space is that of removed ones, and in how many files they are.
    pub(super) fn look_for_garbage(&self) {
        let garbage = self.size_of("rocksdb.live-blob-file-garbage-size");
        let all = self.size_of("rocksdb.live-blob-file-size");
        let files = self.size_of("rocksdb.num-blob-files");
        let collecting = self.collecting.load(Ordering::Relaxed);
        let (part, many, large) = match collecting {
            true => (COLLECT_UNTIL, FEW_FILES, LARGE_FILE),
            false => (COLLECT_FROM, MANY_FILES, SMALL_FILE),
        };
        let scattered = files > many && all / files < large;
        let worth_it = (garbage > 0 && garbage >= all / part) || scattered;
        if worth_it != collecting {
            self.collect(worth_it, AGE_CUTOFF);
        }
    }

    /// Sorts the records of a range anew, without those that were removed, and gives their space back.
    pub(super) fn compact(&self, start: &[u8], end: &[u8]) -> Result<(), StorageError> {
        self.collect(true, 1.0);
        let mut options = CompactOptions::default();
        // The lowest level, too: most of what was removed is there.
        options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        let compacted = self.with(|db| {
            db.compact_range_cf_opt(family(db)?, Some(start), Some(end), &options);
            Ok(())
        })?;
        self.collect(false, AGE_CUTOFF);
        self.look_for_garbage();
        compacted
    }

    fn collect(&self, collecting: bool, cutoff: f64) {
        let options = [
            ("enable_blob_garbage_collection", if collecting { "true" } else { "false" }),
            ("blob_garbage_collection_age_cutoff", &cutoff.to_string()),
        ];
        match self.with(|db| Ok::<_, StorageError>(db.set_options_cf(family(db)?, &options))) {
            Ok(Ok(Ok(()))) => self.collecting.store(collecting, Ordering::Relaxed),
            // It is tried again at the next look, and until then all is as safe as before.
            Ok(Ok(Err(error))) => tracing::debug!(%error, "the engine goes on as before with removed values"),
            // It is closed: opened again, it does not collect.
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::engine::Memory;
    use super::super::folder::FsyncPolicy;
    use super::super::rocks::RocksStorage;
    use super::super::{Batch, Read, Storage};
    use super::*;

    const FILES: u8 = 8;
    const MANY: u8 = 40;
    const VALUES: u8 = 8;

    /// Some files of large values, and a small one that is written with each of them, as a log's head is.
    fn filled(files: u8) -> (RocksStorage, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory { cache: 1 << 20, write_buffer: 1 << 20 };
        let storage = RocksStorage::open(&folder.path().join("db"), memory, FsyncPolicy::Never).unwrap();
        for file in 0..files {
            let mut batch = Batch::new();
            batch.put(b"head", &[file]);
            for value in 0..VALUES {
                batch.put_bytes(&[b'v', file, value], Bytes::from(vec![file; 10_000]));
            }
            storage.commit(&batch).unwrap();
            storage.engine.with(|db| db.flush_cf(family(db).unwrap()).unwrap()).unwrap();
        }
        (storage, folder)
    }

    /// What happens by itself in the course of time.
    fn compaction(storage: &RocksStorage) {
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        let all: Option<&[u8]> = None;
        let compact = |db: &rocksdb::DB| db.compact_range_cf_opt(family(db).unwrap(), all, all, &options);
        storage.engine.with(compact).unwrap();
        storage.engine.look_for_garbage();
    }

    /// Removes all values but those with a number that this divides.
    fn remove(storage: &RocksStorage, keep: u8) {
        let mut batch = Batch::new();
        for file in 0..FILES {
            for value in (0..VALUES).filter(|value| value % keep != 0) {
                batch.delete(&[b'v', file, value]);
            }
        }
        storage.commit(&batch).unwrap();
    }

    fn bytes(storage: &RocksStorage) -> usize {
        storage.engine.size_of("rocksdb.live-blob-file-size")
    }

    fn files(folder: &tempfile::TempDir) -> Vec<std::ffi::OsString> {
        let names =
            std::fs::read_dir(folder.path().join("db")).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.filter(|name| name.to_string_lossy().ends_with(".blob")).collect();
        names.sort();
        names
    }

    #[test]
    fn what_stays_is_not_copied() {
        let (storage, folder) = filled(FILES);
        let before = files(&folder);
        assert_eq!(before.len(), usize::from(FILES));
        for _ in 0..3 {
            compaction(&storage);
        }
        assert_eq!(files(&folder), before);
    }

    #[test]
    fn space_comes_back_in_the_course_of_time() {
        let (storage, _folder) = filled(FILES);
        let all = bytes(&storage);
        remove(&storage, 4);
        compaction(&storage);
        assert!(storage.engine.collecting.load(Ordering::Relaxed));
        let mut rounds = 0;
        while storage.engine.collecting.load(Ordering::Relaxed) {
            assert!(rounds < 50, "{} of {all} bytes are left", bytes(&storage));
            compaction(&storage);
            rounds += 1;
        }
        assert!(bytes(&storage) < all * 3 / 10, "{} of {all} bytes are left", bytes(&storage));
        assert_eq!(storage.get(&[b'v', 3, 4]).unwrap().unwrap(), vec![3; 10_000]);
    }

    #[test]
    fn many_small_files_become_fewer() {
        let (storage, folder) = filled(MANY);
        let all = bytes(&storage);
        let mut rounds = 0;
        compaction(&storage);
        while storage.engine.collecting.load(Ordering::Relaxed) {
            assert!(rounds < 50, "{} files are left", files(&folder).len());
            compaction(&storage);
            rounds += 1;
        }
        let left = storage.engine.size_of("rocksdb.num-blob-files");
        assert!(rounds > 0 && left <= FEW_FILES, "{left} files after {rounds} rounds");
        assert!(bytes(&storage) < all * 11 / 10, "nothing is there twice");
        assert_eq!(storage.get(&[b'v', 3, 4]).unwrap().unwrap(), vec![3; 10_000]);
    }

    #[test]
    fn space_comes_back_at_once_when_that_is_wanted() {
        let (storage, _folder) = filled(FILES);
        let all = bytes(&storage);
        remove(&storage, 2);
        storage.compact(b"v", b"w").unwrap();
        assert!(bytes(&storage) < all * 55 / 100, "{} of {all} bytes are left", bytes(&storage));
        assert!(!storage.engine.collecting.load(Ordering::Relaxed));
        assert_eq!(storage.get(&[b'v', 3, 4]).unwrap().unwrap(), vec![3; 10_000]);
    }
}
