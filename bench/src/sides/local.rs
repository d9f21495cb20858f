//! One log in one process. The fsync policy is JS's: when the operating system likes.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::executor::block_on;
use hypercore::Hypercore;
use hypercore::storage::{Database, FolderOptions};

use super::{LARGE, SMALL, scratch};

/// How fast blocks went.
pub(super) struct Rate {
    pub(super) blocks: f64,
    pub(super) megabytes: f64,
}

impl Rate {
    pub(super) fn new(count: u64, size: usize, took: Duration) -> Self {
        let blocks = count as f64 / took.as_secs_f64();
        Self { blocks, megabytes: blocks * size as f64 / 1e6 }
    }
}

fn open(folder: &Path) -> Result<Hypercore> {
    let database = Database::open_folder(folder, FolderOptions::default())?;
    Ok(Hypercore::builder().seed([7; 32]).open(&database)?)
}

fn fill(core: &Hypercore, count: u64, size: usize, batch: usize) -> Result<()> {
    let block = Bytes::from(vec![b'b'; size]);
    for _ in 0..count / batch as u64 {
        core.append_batch(vec![block.clone(); batch])?;
    }
    Ok(())
}

/// Appends of one small block, each done before the next.
pub(super) fn append_single() -> Result<f64> {
    const COUNT: u64 = 50_000;
    let folder = scratch::folder()?;
    let core = open(folder.path())?;
    fill(&core, 1000, SMALL, 1000)?;
    let block = Bytes::from(vec![b'b'; SMALL]);
    for _ in 0..1000 {
        core.append(block.clone())?;
    }
    let start = Instant::now();
    for _ in 0..COUNT {
        core.append(block.clone())?;
    }
    Ok(Rate::new(COUNT, SMALL, start.elapsed()).blocks)
}

/// Appends of many blocks at once.
pub(super) fn append_many(warm: u64, count: u64, size: usize, batch: usize) -> Result<Rate> {
    let folder = scratch::folder()?;
    let core = open(folder.path())?;
    fill(&core, warm, size, batch)?;
    let start = Instant::now();
    fill(&core, count, size, batch)?;
    Ok(Rate::new(count, size, start.elapsed()))
}

/// The next index to get after the last.
pub(super) type Next = fn(u64) -> u64;

pub(super) fn in_order(last: u64) -> u64 {
    last + 1
}

/// The generator of `get-random.js`.
pub(super) fn at_random(last: u64) -> u64 {
    last * 48271 % 2_147_483_647
}

/// Gets of blocks, each done before the next.
pub(super) fn get(length: u64, size: usize, count: u64, next: Next) -> Result<Rate> {
    let folder = scratch::folder()?;
    let core = open(folder.path())?;
    fill(&core, length, size, if size == LARGE { 16 } else { 1000 })?;
    block_on(async {
        let mut at = 1;
        for _ in 0..length / 10 {
            at = next(at);
            core.get(at % length).await?;
        }
        let start = Instant::now();
        for _ in 0..count {
            at = next(at);
            core.get(at % length).await?;
        }
        Ok(Rate::new(count, size, start.elapsed()))
    })
}

/// Milliseconds from nothing to a log of a million blocks that is ready to read.
pub(super) fn open_million(settled: bool) -> Result<f64> {
    let folder = scratch::folder()?;
    let made = Command::new(std::env::current_exe()?)
        .args(["side", "make-million"])
        .arg(folder.path().join("store"))
        .status()
        .context("running this program")?;
    ensure!(made.success(), "the log could not be made");
    if settled {
        drop(open(&folder.path().join("store"))?);
    }
    let start = Instant::now();
    let core = open(&folder.path().join("store"))?;
    ensure!(core.length() == 1_000_000, "the folder does not hold the log");
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}

/// The log of [`open_million`], made and closed in a process of its own.
pub(super) fn make_million(args: &[String]) -> Result<()> {
    let folder = args.first().context("a folder is missing")?;
    let core = open(Path::new(folder))?;
    fill(&core, 1_000_000, 32, 10_000)
}
