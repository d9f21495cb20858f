//! Stores in folders: who may open what, and what they say otherwise.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::*;
use super::databases::core;

fn open(path: &Path) -> Result<Database, OpenError> {
    Database::open_folder(path, FolderOptions::default())
}

#[test]
fn what_was_written_is_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/store");
    {
        let database = open(&path).unwrap();
        let store = database.create_core(&core(1, None)).unwrap();
        let mut batch = store.batch();
        batch.put_block(0, Bytes::from(vec![7; 100_000]));
        store.commit(&batch).unwrap();
        // Without flush: what is only in the log of the engine counts, too.
    }
    let database = open(&path).unwrap();
    let store = database.resume(&[1; 32].into()).unwrap().unwrap();
    assert_eq!(store.read().block(0).unwrap().unwrap(), vec![7; 100_000]);
}

/// The bytes that the engine reads again when the folder is opened.
fn log_bytes(folder: &Path) -> u64 {
    let files = fs::read_dir(folder.join("db")).unwrap().map(|entry| entry.unwrap());
    let logs = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "log"));
    logs.map(|file| file.metadata().unwrap().len()).sum()
}

#[test]
fn closing_leaves_little_to_be_read_again() {
    for (blocks, sorted) in [(10, false), (100_000, true)] {
        let folder = tempfile::tempdir().unwrap();
        {
            let database = open(folder.path()).unwrap();
            let store = database.create_core(&core(1, None)).unwrap();
            let mut batch = store.batch();
            for index in 0..blocks {
                batch.put_block(index, Bytes::from_static(&[7; 40]));
            }
            store.commit(&batch).unwrap();
        }
        // A small store is closed without ado.
        assert_eq!(log_bytes(folder.path()) < 500, sorted, "{} bytes", log_bytes(folder.path()));
        let database = open(folder.path()).unwrap();
        let store = database.resume(&[1; 32].into()).unwrap().unwrap();
        assert_eq!(store.read().block(blocks - 1).unwrap().unwrap(), [7; 40].as_slice());
    }
}

#[test]
fn a_folder_is_opened_once() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(folder.path()).unwrap();
    let error = open(folder.path()).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("another process"), "{error}");
    // The failed attempt did not give the lock away.
    assert!(matches!(open(folder.path()), Err(OpenError::Locked { .. })));
    drop(database);
    open(folder.path()).unwrap();
}

#[test]
fn folders_of_old_stores_are_recognised() {
    for files in
        [&["primary-key", "cores/ab/cd/abcd/oplog"][..], &["cores/x/oplog"], &["oplog", "tree", "data"]]
    {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let file = folder.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, b"x").unwrap();
        }
        let error = open(folder.path()).unwrap_err();
        assert!(matches!(error, OpenError::Legacy { .. }), "{files:?}: {error}");
        assert!(error.to_string().contains("corestore 6"), "{error}");
        assert!(!folder.path().join("CORESTORE").exists(), "nothing is written into it");
    }
}

#[test]
fn other_folders_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("holiday.jpg"), b"x").unwrap();
    let error = open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("holiday.jpg"), "{error}");
    assert!(matches!(error, OpenError::Foreign { .. }));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    let error = open(&folder.path().join("holiday.jpg")).unwrap_err();
    assert!(matches!(error, OpenError::NotAFolder { .. }), "{error}");
    let error = open(&folder.path().join("holiday.jpg/below")).unwrap_err();
    assert!(matches!(error, OpenError::NotAFolder { .. }), "{error}");
}

#[test]
fn a_missing_store_is_made_only_when_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let options = || FolderOptions { create: false, ..FolderOptions::default() };
    let error = Database::open_folder(&path, options()).unwrap_err();
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
    assert!(!path.exists());
    drop(open(&path).unwrap());
    Database::open_folder(&path, options()).unwrap();
}

#[test]
fn a_copy_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("original");
    drop(open(&original).unwrap());
    let copy = folder.path().join("copy");
    fs::create_dir_all(copy.join("db")).unwrap();
    fs::copy(original.join("CORESTORE"), copy.join("CORESTORE")).unwrap();
    for file in fs::read_dir(original.join("db")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.join("db").join(file.file_name())).unwrap();
    }
    let error = open(&copy).unwrap_err();
    assert!(matches!(error, OpenError::Moved { .. }), "{error}");
    assert!(error.to_string().contains("delete the file CORESTORE"), "{error}");
    fs::remove_file(copy.join("CORESTORE")).unwrap();
    open(&copy).unwrap();
    // Moving the whole folder within a file system is no copy.
    let moved = folder.path().join("moved");
    fs::rename(&original, &moved).unwrap();
    open(&moved).unwrap();
}

#[test]
fn the_first_start_may_have_ended_early() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("db")).unwrap();
    fs::write(folder.path().join("CORESTORE"), b"").unwrap();
    drop(open(folder.path()).unwrap());
    open(folder.path()).unwrap();
}

#[test]
fn ticks_sync_after_the_interval() {
    let folder = tempfile::tempdir().unwrap();
    let interval = Duration::from_secs(10);
    let options = FolderOptions { fsync: FsyncPolicy::Interval(interval), ..FolderOptions::default() };
    let database = Database::open_folder(folder.path(), options).unwrap();
    let now = Instant::now();
    assert_eq!(database.tick(now).unwrap(), None);
    database.create_core(&core(1, None)).unwrap();
    assert_eq!(database.tick(now).unwrap(), Some(now + interval));
    assert_eq!(database.tick(now + interval / 2).unwrap(), Some(now + interval));
    assert_eq!(database.tick(now + interval).unwrap(), None);
    assert_eq!(database.tick(now + interval * 2).unwrap(), None);
    database.sync().unwrap();
}

#[test]
fn fsync_policies_all_commit() {
    for fsync in [FsyncPolicy::EveryCommit, FsyncPolicy::Interval(Duration::ZERO), FsyncPolicy::Never] {
        let folder = tempfile::tempdir().unwrap();
        let options = || FolderOptions { fsync, ..FolderOptions::default() };
        {
            let database = Database::open_folder(folder.path(), options()).unwrap();
            database.create_core(&core(1, None)).unwrap();
            database.tick(Instant::now()).unwrap();
        }
        let database = Database::open_folder(folder.path(), options()).unwrap();
        assert!(database.has_core(&[1; 32].into()).unwrap());
    }
}

#[test]
fn an_idle_store_empties_its_write_buffer() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(folder.path()).unwrap();
    let store = database.create_core(&core(1, None)).unwrap();
    let mut batch = store.batch();
    for index in 0..2000 {
        batch.put_block(index, Bytes::from(vec![7; 1000]));
    }
    store.commit(&batch).unwrap();
    let now = Instant::now();
    let due = database.tick(now).unwrap().unwrap();
    assert!(due > now);
    // Commits put it off.
    store.commit(&batch).unwrap();
    let due = database.tick(due).unwrap().unwrap();
    assert_eq!(database.tick(due).unwrap(), None);
    assert_eq!(database.tick(due + Duration::from_secs(60)).unwrap(), None);
    assert_eq!(store.read().block(1999).unwrap().unwrap(), vec![7; 1000]);
}

#[test]
fn cores_are_marked_when_node_threw_commits_away() {
    let folder = tempfile::tempdir().unwrap();
    {
        let database = open(folder.path()).unwrap();
        for byte in 0..3 {
            let store = database.create_core(&core(byte, None)).unwrap();
            let mut batch = store.batch();
            batch.set_hints(&Hints { contiguous_length: u64::from(byte), ..Hints::default() });
            store.commit(&batch).unwrap();
        }
    }
    let file = folder.path().join("db/RECOVERING");
    fs::write(&file, b"").unwrap();
    let database = open(folder.path()).unwrap();
    assert!(!file.exists());
    for byte in 0..3 {
        let store = database.resume(&[byte; 32].into()).unwrap().unwrap();
        let hints = store.read().hints().unwrap();
        assert!(hints.recovering > 1_700_000_000_000);
        assert_eq!(hints.contiguous_length, u64::from(byte));
    }
}

#[test]
fn a_database_that_could_not_be_opened_again_is_once_it_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let (path, elsewhere) = (folder.path().join("db"), folder.path().join("elsewhere"));
    let memory = super::super::engine::Memory { cache: 1 << 20, write_buffer: 1 << 20 };
    let storage = super::super::rocks::RocksStorage::open(&path, memory, FsyncPolicy::Never).unwrap();
    let mut batch = Batch::new();
    batch.put(b"key", b"value");
    storage.commit(&batch).unwrap();

    fs::rename(&path, &elsewhere).unwrap();
    fs::write(&path, "no folder").unwrap();
    assert!(storage.engine.reopen().is_err());
    assert!(storage.get(b"key").is_err());
    assert!(storage.tick(Instant::now()).is_err(), "nor is it well");
    fs::remove_file(&path).unwrap();
    fs::rename(&elsewhere, &path).unwrap();
    // Nothing has to be written for it.
    storage.tick(Instant::now()).unwrap();
    assert_eq!(storage.get(b"key").unwrap().unwrap(), "value");
}

#[test]
fn a_flush_to_disk_that_failed_stays_due() {
    let folder = tempfile::tempdir().unwrap();
    let (path, elsewhere) = (folder.path().join("db"), folder.path().join("elsewhere"));
    let memory = super::super::engine::Memory { cache: 1 << 20, write_buffer: 1 << 20 };
    let interval = Duration::from_secs(1000);
    let fsync = FsyncPolicy::Interval(interval);
    let storage = super::super::rocks::RocksStorage::open(&path, memory, fsync).unwrap();
    let mut batch = Batch::new();
    batch.put(b"key", b"value");
    storage.commit(&batch).unwrap();
    let now = Instant::now();
    assert_eq!(storage.tick(now).unwrap(), Some(now + interval));

    fs::rename(&path, &elsewhere).unwrap();
    fs::write(&path, "no folder").unwrap();
    assert!(storage.engine.reopen().is_err());
    assert!(storage.sync().is_err());
    fs::remove_file(&path).unwrap();
    fs::rename(&elsewhere, &path).unwrap();
    // Since the same moment as before, not since the failure.
    assert_eq!(storage.tick(now + interval / 2).unwrap(), Some(now + interval));
    assert_eq!(storage.tick(now + interval).unwrap(), None);
    assert_eq!(storage.tick(now + interval * 2).unwrap(), None);
}
