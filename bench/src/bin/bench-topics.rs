//! A swarm that announces topics and nothing else, as `announce` and `memory` of `bench/js/swarm.js`: it is measured by its
//! memory, and has neither logs nor storage in it.
//!
//! `bench-topics PORT COUNT` says how long it took, and how much is resident when all are announced.

#![forbid(unsafe_code)]

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use futures::future::join_all;
use hyperswarm::JoinOptions;
use serde_json::json;

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [port, count] = &args[..] else { bail!("say the port of the DHT, and how many topics") };
    let swarm = bench::enter(port.parse()?).await?;
    let start = Instant::now();
    let mut joined = Vec::new();
    for at in 0..count.parse::<u32>()? {
        let mut topic = [b't'; 32];
        topic[..4].copy_from_slice(&at.to_le_bytes());
        joined.push(swarm.join(topic, JoinOptions::SERVER)?);
    }
    join_all(joined.iter().map(|topic| topic.flushed())).await;
    let seconds = start.elapsed().as_secs_f64();
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    println!("{}", json!({ "seconds": seconds, "resident": kib / 1024.0 }));
    Ok(())
}
