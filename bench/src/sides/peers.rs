//! Two processes over TCP: this program runs once more as the writer, under the name of the benchmark with `-writer`.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use corestore::{Corestore, ReplicateOptions};
use futures::future::try_join_all;
use hypercore::demand::DownloadRange;
use hypercore::{Hypercore, Key};
use secret_stream::KeyPair;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use super::local::Rate;
use super::{LARGE, SMALL, scratch};

/// What crosses in `replicate-*`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    count: u64,
    size: usize,
    batch: u64,
}

pub(super) const SMALL_BLOCKS: Load = Load { count: 100_000, size: SMALL, batch: 1000 };
pub(super) const LARGE_BLOCKS: Load = Load { count: 2000, size: LARGE, batch: 16 };

const CORES: u64 = 1000;
const BLOCKS_OF_EACH: u64 = 10;

fn fill(core: &Hypercore, count: u64, size: usize, batch: u64) -> Result<()> {
    let block = Bytes::from(vec![b'b'; size]);
    for start in (0..count).step_by(batch.try_into()?) {
        core.append_batch((start..count.min(start + batch)).map(|_| block.clone()))?;
    }
    Ok(())
}

// --- the writer's half -----------------------------------------------------------------------------------------------

pub(super) async fn replicate_writer(load: Load) -> Result<()> {
    let folder = scratch::folder()?;
    let store = Corestore::open(folder.path())?;
    let core = store.get("bench")?;
    fill(&core, load.count, load.size, load.batch)?;
    serve(&store, json!({ "key": core.key().to_hex() })).await
}

pub(super) async fn many_cores_writer() -> Result<()> {
    let folder = scratch::folder()?;
    let store = Corestore::open(folder.path())?;
    let mut keys = Vec::new();
    let mut cores = Vec::new();
    for at in 0..CORES {
        let core = store.get(format!("core-{at}").as_str())?;
        fill(&core, BLOCKS_OF_EACH, SMALL, BLOCKS_OF_EACH)?;
        keys.push(core.key().to_hex());
        // Open on this side as well, as the JS half has them.
        cores.push(core);
    }
    serve(&store, json!({ "keys": keys })).await
}

pub(super) async fn live_writer() -> Result<()> {
    let folder = scratch::folder()?;
    let store = Corestore::open(folder.path())?;
    let core = store.get("bench")?;
    fill(&core, 10, 8, 10)?;
    let log = core.clone();
    // Each line is an append, on a thread of its own: nothing else of this process waits for standard input.
    std::thread::spawn(move || {
        for _ in std::io::stdin().lines() {
            let _ = log.append(now().to_le_bytes().to_vec());
        }
    });
    serve(&store, json!({ "key": core.key().to_hex() })).await
}

/// Says where the store is, and serves it for ever.
async fn serve(store: &Corestore, mut hello: Value) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    hello["address"] = json!(listener.local_addr()?);
    let mut out = std::io::stdout();
    writeln!(out, "{hello}")?;
    out.flush()?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        store.replicate(socket, ReplicateOptions::new(false, KeyPair::generate()))?;
    }
}

// --- the reader's half -----------------------------------------------------------------------------------------------

struct Writer {
    child: Child,
    stdin: ChildStdin,
    hello: Value,
}

impl Writer {
    fn start(name: &str) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["side", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("running this program")?;
        let stdin = child.stdin.take().context("stdin is piped")?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let hello = serde_json::from_str(&line).context("the writer did not say where it is")?;
        Ok(Self { child, stdin, hello })
    }

    fn key(&self) -> Result<Key> {
        Ok(self.hello["key"].as_str().context("the writer names no key")?.parse()?)
    }

    async fn dial(&self, store: &Corestore) -> Result<()> {
        let address: SocketAddr = self.hello["address"].as_str().context("no address")?.parse()?;
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        store.replicate(socket, ReplicateOptions::new(true, KeyPair::generate()))?;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A whole log from one process to another.
pub(super) async fn replicate(name: &str, load: Load) -> Result<Rate> {
    let writer = Writer::start(name)?;
    let folder = scratch::folder()?;
    let store = Corestore::open(folder.path())?;
    let core = store.get(writer.key()?)?;
    let start = Instant::now();
    writer.dial(&store).await?;
    core.download(DownloadRange::new(0, load.count))?.await?;
    let took = start.elapsed();
    ensure!(core.contiguous_length() == load.count, "blocks are missing");
    Ok(Rate::new(load.count, load.size, took))
}

/// Seconds until all blocks of many logs have come over one connection.
pub(super) async fn many_cores() -> Result<f64> {
    let writer = Writer::start("many-cores-writer")?;
    let folder = scratch::folder()?;
    let store = Corestore::open(folder.path())?;
    let keys = writer.hello["keys"].as_array().context("the writer names no keys")?;
    let mut cores = Vec::new();
    for key in keys {
        let key: Key = key.as_str().context("a key is a text")?.parse()?;
        cores.push(store.get(key)?);
    }
    let start = Instant::now();
    writer.dial(&store).await?;
    let downloads: Result<Vec<_>, _> =
        cores.iter().map(|core| core.download(DownloadRange::new(0, BLOCKS_OF_EACH))).collect();
    try_join_all(downloads?.into_iter().map(IntoFuture::into_future)).await?;
    let took = start.elapsed();
    ensure!(cores.iter().all(|core| core.contiguous_length() == BLOCKS_OF_EACH), "blocks are missing");
    Ok(took.as_secs_f64())
}

/// Milliseconds from the call of append in one process to the block in the other's hands: the median.
pub(super) async fn live() -> Result<f64> {
    const WARM: u64 = 100;
    const COUNT: u64 = 500;
    let mut writer = Writer::start("live-latency-writer")?;
    let folder = scratch::folder()?;
    let store = Corestore::open(folder.path())?;
    let core = store.get(writer.key()?)?;
    let _download = core.download(DownloadRange::live(0))?;
    writer.dial(&store).await?;
    core.get(9).await?;
    let mut seen = Vec::new();
    for index in 10..10 + WARM + COUNT {
        writer.stdin.write_all(b"append\n")?;
        let block = core.get(index).await?;
        let arrived = now();
        let sent = u64::from_le_bytes(block.as_ref().try_into()?);
        if index >= 10 + WARM {
            seen.push(arrived.saturating_sub(sent) as f64 / 1e6);
        }
    }
    seen.sort_by(f64::total_cmp);
    seen.get(seen.len() / 2).copied().context("blocks were seen")
}

/// Nanoseconds of the clock that both processes share.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
