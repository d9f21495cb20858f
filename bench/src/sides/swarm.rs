//! What a swarm costs, in a DHT on 127.0.0.1 whose nodes are a process of their own: `bench/js/swarm.js` is the other
//! half.

use std::future::Future;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bench::enter;
use bytes::Bytes;
use corestore::{Corestore, ReplicateOptions};
use hypercore::demand::DownloadRange;
use hypercore::{Hypercore, Key};
use hyperswarm::{DhtNode, Hyperswarm, JoinOptions};
use serde_json::json;

use super::local::Rate;
use super::process::Process;
use super::{LARGE, SMALL, scratch};

const TOPICS: &str = "1000";

pub(super) const FEW: (u64, usize) = (10, SMALL);
pub(super) const MANY: (u64, usize) = (100_000, SMALL);
pub(super) const LARGE_ONES: (u64, usize) = (2000, LARGE);

/// Who serves the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    Ours,
    Npm,
}

/// Serves a log over the swarm: the port of the DHT, blocks, bytes of each.
pub(super) async fn writer(args: &[String]) -> Result<()> {
    let [port, count, size] = args else { anyhow::bail!("say the port, the blocks and their size") };
    let folder = scratch::folder()?;
    let store = Corestore::open(folder.path())?;
    let core = store.get("bench")?;
    let (mut left, block) = (count.parse::<usize>()?, Bytes::from(vec![b'b'; size.parse()?]));
    let batch = if block.len() > 1000 { 16 } else { 1000 };
    while left > 0 {
        core.append_batch(std::iter::repeat_n(block.clone(), left.min(batch)))?;
        left = left.saturating_sub(batch);
    }
    let swarm = enter(port.parse()?).await?;
    replicate(&store, &swarm);
    swarm.join(*core.discovery_key().as_bytes(), JoinOptions::SERVER)?.flushed().await;
    println!("{}", json!({ "key": core.key().to_hex() }));
    std::future::pending().await
}

/// Milliseconds from joining a topic to a block of who was announced there.
pub(super) async fn first_block() -> Result<f64> {
    let wanted = |core: Hypercore| async move { Ok(core.get(0).await.map(drop)?) };
    Ok(read(FEW, Writer::Ours, wanted).await? * 1000.0)
}

/// A log over a connection of the swarm.
pub(super) async fn log(load: (u64, usize), writer: Writer) -> Result<Rate> {
    let (count, size) = load;
    let wanted = move |core: Hypercore| async move {
        core.download(DownloadRange::new(0, count))?.await?;
        ensure!(core.contiguous_length() == count, "blocks are missing");
        Ok(())
    };
    let seconds = read(load, writer, wanted).await?;
    Ok(Rate::new(count, size, std::time::Duration::from_secs_f64(seconds)))
}

/// The same with npm as the reader; `unit` as the script knows it.
pub(super) fn log_to_npm((count, size): (u64, usize), unit: &str) -> Result<f64> {
    let mut command = Command::new("node");
    command.arg(script()).arg("replicate").arg(count.to_string()).arg(size.to_string()).arg(unit);
    command.env("SWARM_WRITER", "rust").env("BENCH_PROGRAM", std::env::current_exe()?);
    Process::start(&mut command)?.last()?["value"].as_f64().context("the script says a value")
}

fn script() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/js/swarm.js")
}

/// Seconds from joining until `wanted` of the writer's log is done.
async fn read<F>(
    (count, size): (u64, usize),
    writer: Writer,
    wanted: impl FnOnce(Hypercore) -> F,
) -> Result<f64>
where
    F: Future<Output = Result<()>>,
{
    let mut nodes = Process::ours(["swarm-nodes"])?;
    let port = nodes.number("port")?;
    let [port_text, count, size] = [u64::from(port), count, size as u64].map(|number| number.to_string());
    let serving = scratch::folder()?;
    let mut writer = match writer {
        Writer::Ours => Process::ours(["swarm-writer", &port_text, &count, &size])?,
        Writer::Npm => {
            let mut command = Command::new("node");
            command.arg(script()).args(["writer", &port_text]).arg(serving.path().join("npm"));
            Process::start(command.args([&count, &size]))?
        }
    };
    let hello = writer.next()?;
    let key: Key = hello["key"].as_str().context("the writer names no key")?.parse()?;
    let folder = scratch::folder()?;
    let store = Corestore::open(folder.path())?;
    let core = store.get(key)?;
    let swarm = enter(port).await?;
    replicate(&store, &swarm);
    let start = Instant::now();
    let topic = *core.discovery_key().as_bytes();
    let _joined = swarm.join(topic, JoinOptions::CLIENT)?;
    wanted(core).await?;
    Ok(start.elapsed().as_secs_f64())
}

/// Seconds until so many topics are announced, and MiB resident after that.
pub(super) fn announce() -> Result<(f64, f64)> {
    let mut nodes = Process::ours(["swarm-nodes"])?;
    let port = nodes.number("port")?.to_string();
    let program = std::env::current_exe()?.with_file_name("bench-topics");
    let said = Process::start(Command::new(program).args([&port, TOPICS]))?.next()?;
    let figure = |name: &str| said[name].as_f64().with_context(|| format!("no {name} in {said}"));
    Ok((figure("seconds")?, figure("resident")?))
}

/// The store replicates over every connection.
fn replicate(store: &Corestore, swarm: &Hyperswarm<DhtNode>) {
    let (store, swarm) = (store.clone(), swarm.clone());
    tokio::spawn(async move {
        while let Some((connection, _)) = swarm.next_connection().await {
            let parts = connection.into_parts();
            let options = ReplicateOptions::handshaken(parts.is_initiator, parts.handshake);
            if let Err(err) = store.replicate(parts.stream, options) {
                eprintln!("a connection can not be used: {err}");
            }
        }
    });
}
