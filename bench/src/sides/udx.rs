//! Raw UDX from one process to another: `bench/js/udx.js` says how the two find each other.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use interop::{Faults, UdpRelay};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use udx::{StreamOptions, Udx, UdxSocket, UdxStream};

use super::process::Process;

const CHUNK: usize = 64 * 1024;
/// What crosses without a delay, and with one.
const NEAR: u64 = 256 << 20;
const FAR: u64 = 128 << 20;

/// The network between the two.
#[derive(Debug, Clone, Copy)]
pub(super) struct Network {
    bytes: u64,
    delay_ms: u64,
    loss_ppm: u32,
}

pub(super) const LOOPBACK: Network = Network { bytes: NEAR, delay_ms: 0, loss_ppm: 0 };

/// 50 ms there and back, and so many of a million datagrams lost.
pub(super) const fn distant(loss_ppm: u32) -> Network {
    Network { bytes: FAR, delay_ms: 25, loss_ppm }
}

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sink {
    Ours,
    Npm,
}

/// What a run came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) megabytes: f64,
    pub(super) packets_per_cpu_second: f64,
}

/// We write.
pub(super) async fn send(network: Network, sink: Sink) -> Result<Run> {
    let udx = Udx::new();
    let socket = bind(&udx)?;
    let mut stream = stream(&udx, 1)?;
    let mut other = match sink {
        Sink::Ours => Process::ours(["udx-sink"])?,
        Sink::Npm => Process::start(Command::new("node").arg(script()).arg("sink"))?,
    };
    let mut port = port_of(&other.next()?, "port")?;
    let mut back = socket.local_addr().port();
    let mut relay = None;
    if network.delay_ms > 0 || network.loss_ppm > 0 {
        // In a process of its own, as for JS.
        let numbers = [back.into(), port.into(), network.delay_ms, u64::from(network.loss_ppm)];
        let [from, to, delay, loss] = numbers.map(|number: u64| number.to_string());
        let mut process = Process::ours(["udx-relay", &from, &to, &delay, &loss])?;
        let hello = process.next()?;
        (port, back) = (port_of(&hello, "near")?, port_of(&hello, "far")?);
        relay = Some(process);
    }
    other.tell(&json!({ "port": back }))?;
    stream.connect(&socket, 2, local(port))?;
    // What comes earlier a sink does not take, and it would be a second until it is repeated.
    other.next()?;
    let chunk = Bytes::from(vec![b'u'; CHUNK]);
    let (begin, before) = (Instant::now(), cpu()?);
    let mut left = network.bytes;
    while left > 0 {
        stream.write_all(&chunk).await?;
        left = left.saturating_sub(CHUNK as u64);
    }
    stream.shutdown().await?;
    let took = tokio::task::block_in_place(|| other.next())?;
    let seconds = begin.elapsed().as_secs_f64();
    ensure!(took["bytes"].as_u64() == Some(network.bytes), "bytes are missing: {took}");
    if env::var_os("UDX_STATS").is_some() {
        eprintln!(
            "{:#?}\n{:#?}\n{took} {seconds} s, cpu {}",
            stream.handle().stats(),
            socket.stats(),
            cpu()? - before
        );
    }
    let cpu = cpu()? - before + took["cpu"].as_f64().context("the sink tells its CPU time")?;
    let packets = socket.stats().datagrams_sent;
    drop(relay);
    Ok(Run {
        megabytes: network.bytes as f64 / 1e6 / seconds,
        packets_per_cpu_second: packets as f64 / cpu.max(0.01),
    })
}

/// npm writes, we read: the script starts us as its sink.
pub(super) fn receive_from_npm(network: Network) -> Result<f64> {
    let mut command = Command::new("node");
    command.arg(script()).arg("megabytes").arg(network.bytes.to_string());
    command.arg(network.delay_ms.to_string()).arg(network.loss_ppm.to_string());
    command.env("UDX_SINK", "rust").env("BENCH_PROGRAM", env::current_exe()?);
    Process::start(&mut command)?.last()?["value"].as_f64().context("the script says a value")
}

/// The reader's half.
pub(super) async fn sink() -> Result<()> {
    let udx = Udx::new();
    let socket = bind(&udx)?;
    let mut stream = stream(&udx, 2)?;
    println!("{}", json!({ "port": socket.local_addr().port() }));
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    stream.connect(&socket, 1, local(port_of(&serde_json::from_str(&line)?, "port")?))?;
    println!("{}", json!({ "connected": true }));
    let before = cpu()?;
    let mut received = 0;
    while let Some(chunk) = stream.read_chunk().await? {
        received += chunk.len() as u64;
    }
    let stats = socket.stats();
    let answer = json!({ "bytes": received, "cpu": cpu()? - before, "packets": stats.datagrams_received });
    println!("{answer}");
    if env::var_os("UDX_STATS").is_some() {
        eprintln!("sink {stats:#?}");
    }
    stream.shutdown().await?;
    stream.handle().closed().await;
    Ok(())
}

/// The relay's half: ports of the two, milliseconds one way, lost datagrams of a million.
pub(super) fn relay(args: &[String]) -> Result<()> {
    let number = |at: usize| -> Result<u64> { Ok(args.get(at).context("four numbers")?.parse()?) };
    let faults = Faults {
        delay: Duration::from_millis(number(2)?),
        loss_ppm: number(3)?.try_into()?,
        ..Faults::default()
    };
    let relay = UdpRelay::new(local(number(0)?.try_into()?), local(number(1)?.try_into()?), faults);
    println!("{}", json!({ "near": relay.near().port(), "far": relay.far().port() }));
    // Until the sender goes.
    for _ in std::io::stdin().lines() {}
    Ok(())
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn bind(udx: &Udx) -> Result<UdxSocket> {
    Ok(udx.bind(local(0))?)
}

fn stream(udx: &Udx, id: u32) -> Result<UdxStream> {
    Ok(udx.stream(StreamOptions { local_id: Some(id), ..StreamOptions::default() })?)
}

fn script() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/js/udx.js")
}

fn port_of(value: &Value, name: &str) -> Result<u16> {
    Ok(value[name].as_u64().with_context(|| format!("no {name} in {value}"))?.try_into()?)
}

/// Seconds that this process has spent on a core.
fn cpu() -> Result<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: Result<Vec<f64>, _> = fields.split_whitespace().skip(11).take(2).map(str::parse).collect();
    Ok(ticks?.iter().sum::<f64>() / TICKS_PER_SECOND)
}
