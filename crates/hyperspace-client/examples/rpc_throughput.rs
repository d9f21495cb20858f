//! How fast a running daemon answers this client.
//!
//! `cargo run --release -p hyperspace-client --example rpc_throughput -- NAME`

use std::time::Instant;

use bytes::Bytes;
use futures::{StreamExt, stream};
use hyperspace_client::{ClientError, HyperspaceClient};

const AWAITED: u64 = 20_000;
const PIPELINED: u64 = 200_000;
const LARGE: u64 = 5_000;
const IN_FLIGHT: usize = 1_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ClientError> {
    let host = std::env::args().nth(1);
    let client = HyperspaceClient::connect(host.as_deref()).await?;
    let core = client.corestore().create().await?;
    let block = Bytes::from(vec![b'x'; 100]);

    let start = Instant::now();
    for _ in 0..AWAITED {
        core.append(block.clone()).await?;
    }
    rate("appends, awaited", AWAITED, start);

    let start = Instant::now();
    all(stream::iter(0..PIPELINED).map(|_| core.append(block.clone()))).await?;
    rate("appends, pipelined", PIPELINED, start);

    let length = core.length();
    let start = Instant::now();
    for i in 0..AWAITED {
        core.get(i * 7919 % length).await?;
    }
    rate("gets, awaited", AWAITED, start);

    let start = Instant::now();
    all(stream::iter(0..PIPELINED).map(|i| core.get(i * 7919 % length))).await?;
    rate("gets, pipelined", PIPELINED, start);

    let block = Bytes::from(vec![b'x'; 65_536]);
    let start = Instant::now();
    all(stream::iter(0..LARGE).map(|_| core.append(block.clone()))).await?;
    megabytes("64 KiB appends", LARGE * 65_536, start);
    let start = Instant::now();
    all(stream::iter(0..LARGE).map(|i| core.get(length + i))).await?;
    megabytes("64 KiB gets", LARGE * 65_536, start);
    Ok(())
}

async fn all<T>(
    calls: impl futures::Stream<Item = impl Future<Output = Result<T, ClientError>>>,
) -> Result<(), ClientError> {
    let mut calls = std::pin::pin!(calls.buffer_unordered(IN_FLIGHT));
    while let Some(result) = calls.next().await {
        result?;
    }
    Ok(())
}

fn rate(what: &str, count: u64, start: Instant) {
    println!("{what:20} {:>9.0}/s", count as f64 / start.elapsed().as_secs_f64());
}

fn megabytes(what: &str, bytes: u64, start: Instant) {
    println!("{what:20} {:>9.0} MB/s", bytes as f64 / 1e6 / start.elapsed().as_secs_f64());
}
