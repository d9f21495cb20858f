//! Loss of power: what the disk had not been forced to take is gone, torn, or holes; the store opens all the same.
//!
//! A trial writes to a store, noting after each forced write how long the files of the engine's log are: that much is
//! safe. Then the folder is copied as a disk might look after the loss: of the log's files, anything behind the safe
//! part is cut, zeroed by the page, garbled, or missing. (The engine's other files are forced to disk before it relies
//! on them.) The copy must open, hold all commits up to some moment and none after it, and that moment must not be
//! before the last forced write.
//!
//! `POWER_LOSS_TRIALS` sets how many, `POWER_LOSS_SEED` repeats a run.
#![cfg(feature = "rocksdb")]

mod changes;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use changes::{Random, change, difference, options};
use hypercore::Core;
use hypercore::storage::{Database, FolderOptions, FsyncPolicy};

const LOGS: u8 = 2;
/// What a disk takes or does not take as a whole.
const PAGE: u64 = 4096;

#[test]
fn a_store_opens_after_loss_of_power_with_what_was_forced_to_disk() {
    let setting = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seed = setting("POWER_LOSS_SEED").unwrap_or(1);
    let mut lost = 0;
    for trial in 0..setting("POWER_LOSS_TRIALS").unwrap_or(24) {
        let mut random = Random(seed.wrapping_mul(1 << 20) + trial);
        let policy = [FsyncPolicy::EveryCommit, FsyncPolicy::Interval(Duration::ZERO), FsyncPolicy::Never];
        let policy = policy[trial as usize % 3];
        println!("trial {trial} of POWER_LOSS_SEED={seed}: {policy:?}");
        let history = History::write(policy, &mut random);
        lost += history.lose_power(&mut random);
    }
    assert!(lost > 0, "no trial lost anything: the simulation does not cut where it matters");
    println!("{lost} commits that were not forced to disk were lost");
}

/// Which log each commit changed, and where the disk was forced to take them.
struct History {
    folder: tempfile::TempDir,
    /// Keeps the store open, as it is when the power goes.
    _database: Database,
    options: FolderOptions,
    commits: Vec<u8>,
    /// That many commits are safe ...
    safe: usize,
    /// ... and that much of each file of the engine's log.
    safe_bytes: BTreeMap<PathBuf, u64>,
}

impl History {
    fn write(policy: FsyncPolicy, random: &mut Random) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // With small buffers the engine begins new files all the time.
        let write_buffer_bytes = if random.below(2) == 0 { 128 * 1024 } else { 16 * 1024 * 1024 };
        let options = FolderOptions { fsync: policy, write_buffer_bytes, ..FolderOptions::default() };
        let database = Database::open_folder(folder.path(), options.clone()).unwrap();
        let mut cores: Vec<Core> =
            (0..LOGS).map(|log| Core::open(&database, self::options(log)).unwrap()).collect();
        let storage = cores[0].store().storage().clone();
        let mut history = Self {
            folder,
            _database: database,
            options,
            commits: Vec::new(),
            safe: 0,
            safe_bytes: BTreeMap::new(),
        };
        // Both logs exist.
        storage.sync().unwrap();
        history.note_safe();
        let mut numbers = [0; LOGS as usize];
        for _ in 0..20 + random.below(100) {
            let log = random.below(u64::from(LOGS)) as u8;
            let number = &mut numbers[usize::from(log)];
            change(&mut cores[usize::from(log)], log, *number);
            *number += 1;
            history.commits.push(log);
            match policy {
                FsyncPolicy::EveryCommit => history.note_safe(),
                FsyncPolicy::Interval(_) if random.below(12) == 0 => {
                    storage.tick(Instant::now()).unwrap();
                    history.note_safe();
                }
                _ => {}
            }
        }
        // Another one is under way when it happens.
        change(&mut cores[0], 0, numbers[0]);
        history.commits.push(0);
        history
    }

    /// All that was committed is on disk now.
    fn note_safe(&mut self) {
        self.safe = self.commits.len();
        self.safe_bytes = logs(&self.engine()).into_iter().collect();
    }

    fn engine(&self) -> PathBuf {
        self.folder.path().join("db")
    }

    /// Returns how many commits were lost.
    fn lose_power(&self, random: &mut Random) -> usize {
        let disk = tempfile::tempdir().unwrap();
        let store = disk.path().join("store");
        self.copy(&store);
        self.damage(&store.join("db"), random);

        let database = Database::open_folder(&store, self.options.clone())
            .unwrap_or_else(|error| panic!("the store does not open: {error}"));
        let mut stored: Vec<Core> =
            (0..LOGS).map(|log| Core::open(&database, options(log)).unwrap()).collect();
        let memory = Database::memory();
        let mut models: Vec<Core> = (0..LOGS).map(|log| Core::open(&memory, options(log)).unwrap()).collect();
        let mut numbers = [0; LOGS as usize];
        let same = |models: &[Core], stored: &[Core]| {
            models.iter().zip(stored).find_map(|(model, stored)| difference(model, stored))
        };
        let mut found = None;
        for at in 0..=self.commits.len() {
            if at >= self.safe && same(&models, &stored).is_none() {
                found = Some(at);
            }
            if let Some(&log) = self.commits.get(at) {
                change(&mut models[usize::from(log)], log, numbers[usize::from(log)]);
                numbers[usize::from(log)] += 1;
            }
        }
        let found = found.unwrap_or_else(|| {
            let lengths: Vec<u64> = stored.iter().map(Core::length).collect();
            let commits = self.commits.len();
            panic!("lengths {lengths:?} are of no moment from commit {} of {commits} on", self.safe)
        });

        // Work goes on, and is there after the next start.
        for (log, core) in (0..LOGS).zip(&mut stored) {
            change(core, log, 1000);
        }
        let states: Vec<_> = stored.iter().map(|core| (core.length(), core.tree_hash())).collect();
        drop((stored, database));
        let database = Database::open_folder(&store, self.options.clone()).unwrap();
        for (log, state) in (0..LOGS).zip(states) {
            let core = Core::open(&database, options(log)).unwrap();
            assert_eq!((core.length(), core.tree_hash()), state);
        }
        self.commits.len() - found
    }

    /// The folder at one moment: copied again when the engine was at work in it meanwhile.
    fn copy(&self, to: &Path) {
        let engine = to.join("db");
        loop {
            fs::create_dir_all(&engine).unwrap();
            let before = listing(&self.engine());
            let copied = before
                .keys()
                .try_for_each(|file| fs::copy(file, engine.join(file.file_name().unwrap())).map(drop));
            if copied.is_ok() && listing(&self.engine()) == before {
                return;
            }
            fs::remove_dir_all(to).unwrap();
        }
    }

    /// Makes the engine's log what the disk may have of it.
    fn damage(&self, engine: &Path, random: &mut Random) {
        let logs = logs(engine);
        let newest = logs.last().map(|(path, _)| path.clone());
        for (path, length) in logs {
            let safe =
                self.safe_bytes.get(&self.engine().join(path.file_name().unwrap())).copied().unwrap_or(0);
            assert!(safe <= length);
            let file = File::options().write(true).open(&path).unwrap();
            let damage = random.below(6);
            println!("{}: safe {safe} of {length}, damage {damage}", path.display());
            match damage {
                0 => {}
                // Its length was not on disk yet: torn within a record, mostly.
                1 | 2 => file.set_len(safe + random.below(length - safe + 1)).unwrap(),
                // Its length was, but not all of its pages.
                3 => zero_pages(&file, safe, length, 1 + random.below(100), random),
                4 if length > safe => {
                    let at = safe + random.below(length - safe);
                    let garbage: Vec<u8> =
                        (0..(length - at).min(PAGE)).map(|_| random.below(256) as u8).collect();
                    file.write_all_at(&garbage, at).unwrap();
                }
                // Its name was not.
                5 if safe == 0 && Some(&path) == newest.as_ref() => fs::remove_file(&path).unwrap(),
                _ => zero_pages(&file, safe, length, 100, random),
            }
        }
    }
}

/// Zeroes each page behind `safe` with a probability.
fn zero_pages(file: &File, safe: u64, length: u64, percent: u64, random: &mut Random) {
    let mut start = safe;
    while start < length {
        let end = (start / PAGE * PAGE + PAGE).min(length);
        if random.below(100) < percent {
            file.write_all_at(&vec![0; (end - start) as usize], start).unwrap();
        }
        start = end;
    }
}

/// The files of the engine's log and their lengths, in the order they were begun.
fn logs(engine: &Path) -> Vec<(PathBuf, u64)> {
    let is_log = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "log");
    let files = listing(engine).into_iter().filter(|(path, _)| is_log(path));
    files.map(|(path, (length, _))| (path, length)).collect()
}

/// The files of a folder: length, and when they were changed.
fn listing(folder: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let files = fs::read_dir(folder).unwrap().filter_map(|entry| {
        let entry = entry.unwrap();
        // The engine may have removed it meanwhile.
        let metadata = entry.metadata().ok()?;
        // Its own diary says nothing about the store.
        (entry.file_name() != "LOG")
            .then(|| Some((entry.path(), (metadata.len(), metadata.modified().ok()?))))?
    });
    files.collect()
}
