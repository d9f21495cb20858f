//! A writer that is killed at random instants: every acknowledged change is there, and none is half there.
//!
//! The test starts itself again as the writer. Two threads change two logs of one store; each tells every change
//! through the pipe after it returned. The parent kills the writer, applies the acknowledged changes to logs in
//! memory, and compares: a log on disk is the acknowledged one, or that plus the one change that was under way.
//!
//! `CRASH_ROUNDS` sets how often (200 unless given), `CRASH_SEED` repeats a run.

mod changes;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use changes::{Random, change, difference, options};
use hypercore::Core;
use hypercore::storage::{Database, FolderOptions};

const LOGS: u8 = 2;
const WRITER: &str = "HYPERCORE_CRASH_WRITER";

fn main() {
    match std::env::var(WRITER) {
        Ok(orders) => write_until_killed(&orders),
        Err(_) => kill_and_compare(),
    }
}

/// The writer: orders are the folder and the number of the next change of each log.
fn write_until_killed(orders: &str) {
    let mut orders = orders.split('\n');
    let database = Database::open_folder(orders.next().unwrap(), FolderOptions::default()).unwrap();
    let acknowledge = Mutex::new(std::io::stdout());
    std::thread::scope(|scope| {
        for (log, start) in (0..LOGS).zip(orders) {
            let (database, acknowledge) = (&database, &acknowledge);
            let start: u64 = start.parse().unwrap();
            scope.spawn(move || {
                let mut core = Core::open(database, options(log)).unwrap();
                for number in start.. {
                    change(&mut core, log, number);
                    // One write, so that a line is there or not there.
                    let line = format!("{log} {number}\n");
                    let mut pipe = acknowledge.lock().unwrap();
                    // The parent has gone: so does the writer.
                    if pipe.write_all(line.as_bytes()).and_then(|()| pipe.flush()).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

fn kill_and_compare() {
    let setting = |name| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let rounds: u64 = setting("CRASH_ROUNDS").unwrap_or(200);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed: u64 = setting("CRASH_SEED").unwrap_or(now.as_nanos() as u64 >> 8);
    println!("killing a writer {rounds} times; repeat with CRASH_SEED={seed}");
    let mut random = Random(seed);
    let folder = tempfile::tempdir().unwrap();
    let memory = Database::memory();
    let mut models: Vec<Core> = (0..LOGS).map(|log| Core::open(&memory, options(log)).unwrap()).collect();
    let mut next = vec![0u64; usize::from(LOGS)];
    let mut changes = 0;
    let mut under_way = 0;
    for round in 0..rounds {
        let acknowledged = run_and_kill(folder.path(), &next, &mut random);
        let database = Database::open_folder(folder.path(), FolderOptions::default())
            .unwrap_or_else(|error| panic!("round {round}: the store does not open again: {error}"));
        for (log, model) in (0..LOGS).zip(&mut models) {
            let at = &mut next[usize::from(log)];
            while *at < acknowledged[usize::from(log)] {
                change(model, log, *at);
                *at += 1;
                changes += 1;
            }
            let stored = Core::open(&database, options(log)).unwrap();
            if difference(model, &stored).is_some() {
                // The change under way may have been committed without having been acknowledged.
                change(model, log, *at);
                *at += 1;
                under_way += 1;
            }
            if let Some(difference) = difference(model, &stored) {
                panic!("round {round}, log {log}, change {at}: {difference}; repeat with CRASH_SEED={seed}");
            }
        }
    }
    assert!(changes > rounds, "the writer was never left alone for long enough: {changes} changes");
    println!(
        "{changes} acknowledged changes, all there; {under_way} of those under way were there as a whole"
    );
}

/// Lets the writer work, kills it, and returns the number after the last acknowledged change of each log.
fn run_and_kill(folder: &Path, next: &[u64], random: &mut Random) -> Vec<u64> {
    let mut orders = folder.to_str().unwrap().to_owned();
    for number in next {
        orders.push_str(&format!("\n{number}"));
    }
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .env(WRITER, orders)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(writer.stdout.take().unwrap());
    let mut acknowledged = next.to_vec();
    let mut read = |limit: u64| {
        for _ in 0..limit {
            let mut line = String::new();
            // What is not a whole line was never sent.
            if lines.read_line(&mut line).unwrap() == 0 || !line.ends_with('\n') {
                return;
            }
            let (log, number) = line.trim_end().split_once(' ').unwrap();
            acknowledged[log.parse::<usize>().unwrap()] = number.parse::<u64>().unwrap() + 1;
        }
    };
    match random.below(10) {
        // While it opens the store.
        0 => std::thread::sleep(Duration::from_micros(random.below(30_000))),
        1 => read(random.below(600)),
        _ => read(random.below(60)),
    }
    std::thread::sleep(Duration::from_micros(random.below(1_500)));
    writer.kill().unwrap();
    read(u64::MAX);
    writer.wait().unwrap();
    acknowledged
}
