//! Programs that use the daemon: the Node client on ours, and our client on ours, doing what `rpc.js` does.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures::future::try_join_all;
use hyperspace_client::{HyperspaceClient, RemoteHypercore};

use super::daemon::Daemon;
use super::{LARGE, SMALL, scratch};

/// Calls under way at a time.
const WINDOW: u64 = 1000;
const LARGE_WINDOW: u64 = 16;

/// The Node client with our daemon, or with `nothing`: the script of the JS half, which starts it.
pub(super) fn node(name: &str, args: &[String]) -> Result<()> {
    let what = name.strip_prefix("rpc-").context("the name of a benchmark of the RPC")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("js/rpc.js");
    let status =
        Command::new("node").arg(script).args([what, daemon(args)?]).status().context("running node")?;
    ensure!(status.success(), "the script failed ({status})");
    Ok(())
}

/// Which daemon is meant.
fn daemon(args: &[String]) -> Result<&'static str> {
    match args {
        [] => Ok("ours"),
        [nothing] if nothing == "nothing" => Ok("nothing"),
        _ => bail!("no such daemon: {args:?}"),
    }
}

/// Our client with our daemon, or with `nothing`. One thread, as the Node client has: nothing is gained by passing answers to another.
pub(super) fn rust(name: &str, args: &[String]) -> Result<()> {
    let daemon = daemon(args)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(name, daemon))
}

async fn measure(name: &str, daemon: &str) -> Result<()> {
    let what = name.strip_prefix("rpc-rust-").context("the name of a benchmark of the RPC")?;
    let folder = scratch::folder()?;
    let daemon = match daemon {
        "nothing" => Daemon::nothing(folder.path())?,
        _ => Daemon::start(&folder.path().join("store"), folder.path())?,
    };
    let client = daemon.client().await?;
    let core = client.corestore().get_by_name("bench").await?;
    let (small, large) = (Bytes::from(vec![b'b'; SMALL]), Bytes::from(vec![b'b'; LARGE]));

    match what {
        "append-awaited" => append(&core, 1000, WINDOW, &small).await?,
        "append-pipelined" | "get-awaited" | "get-pipelined" => append(&core, 10_000, WINDOW, &small).await?,
        "append-large" => append(&core, 160, LARGE_WINDOW, &large).await?,
        "get-large" => append(&core, 1600, LARGE_WINDOW, &large).await?,
        _ => append(&core, 10, WINDOW, &small).await?,
    }
    let (cpu, start) = (cpu_seconds()?, Instant::now());
    let (count, unit) = match what {
        "append-awaited" => (append(&core, 50_000, 1, &small).await.map(|()| 50_000)?, 1.0),
        "append-pipelined" => (append(&core, 500_000, WINDOW, &small).await.map(|()| 500_000)?, 1.0),
        "get-awaited" => (get(&core, 50_000, 1, random).await.map(|()| 50_000)?, 1.0),
        "get-pipelined" => (get(&core, 500_000, WINDOW, random).await.map(|()| 500_000)?, 1.0),
        "append-large" => {
            (append(&core, 4000, LARGE_WINDOW, &large).await.map(|()| 4000)?, LARGE as f64 / 1e6)
        }
        "get-large" => {
            // Over the blocks that are there, again and again.
            (get(&core, 8000, LARGE_WINDOW, |at| at % 1600).await.map(|()| 8000)?, LARGE as f64 / 1e6)
        }
        "create-cores" => (create(&client, 500).await.map(|()| 500)?, 1.0),
        _ => bail!("no such benchmark: {name}"),
    };
    let seconds = start.elapsed().as_secs_f64();
    let value = f64::from(count) * unit / seconds;
    let busy = (cpu_seconds()? - cpu) / seconds;
    println!("{}", serde_json::json!({ "value": value, "memory": daemon.resident()?, "busy": busy }));
    Ok(())
}

async fn append(core: &RemoteHypercore, count: u64, window: u64, block: &Bytes) -> Result<()> {
    for at in (0..count).step_by(window as usize) {
        try_join_all((at..count.min(at + window)).map(|_| core.append(block.clone()))).await?;
    }
    Ok(())
}

async fn get(core: &RemoteHypercore, count: u64, window: u64, index: fn(u64) -> u64) -> Result<()> {
    for at in (0..count).step_by(window as usize) {
        try_join_all((at..count.min(at + window)).map(|at| core.get(index(at)))).await?;
    }
    Ok(())
}

/// The order of `rpc.js`, among the 10,000 blocks that are there.
fn random(at: u64) -> u64 {
    at * 48271 % 10_000
}

async fn create(client: &HyperspaceClient, count: u64) -> Result<()> {
    let mut cores = Vec::new();
    for _ in 0..count {
        cores.push(client.corestore().create().await?);
    }
    Ok(())
}

/// What this process has taken of all cores so far.
fn cpu_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // After the name in parentheses: state is the first, the user's and the system's ticks the 12th and 13th.
    let fields = stat.rsplit(')').next().context("a process has a name")?.split_whitespace();
    let ticks: Vec<f64> = fields.skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / 100.0)
}
