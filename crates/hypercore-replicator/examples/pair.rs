//! How fast two replicators are when nothing but memory lies between them:
//! `cargo run --release -p hypercore-replicator --example pair -- [blocks] [bytes] [random]`

use std::time::Instant;

use bytes::Bytes;
use hypercore::demand::{Demand, DownloadRange, Want, WantOptions};
use hypercore::storage::Database;
use hypercore::{Core, CoreOptions};
use hypercore_protocol::Message;
use hypercore_replicator::{PeerId, Replicator};

/// Messages that one read of a connection brings at most.
const BURST: usize = 256;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let blocks: u64 = args.next().map_or(Ok(100_000), |arg| arg.parse())?;
    let bytes: usize = args.next().map_or(Ok(32), |arg| arg.parse())?;
    let random = args.next().is_some();

    let mut writer = Core::open(&Database::memory(), CoreOptions::default())?;
    let batch: Vec<Bytes> = (0..blocks).map(|index| block(index, bytes)).collect();
    let appending = Instant::now();
    for part in batch.chunks(10_000) {
        writer.append(part)?;
    }
    println!("appended {blocks} blocks in {:?}", appending.elapsed());
    let options = CoreOptions { key: Some(writer.key()), ..CoreOptions::default() };
    let mut reader = Core::open(&Database::memory(), options)?;
    let mut idle = Demand::new();
    let mut wanted = Demand::new();
    let range = DownloadRange::new(0, blocks);
    let range = if random { range } else { range.linear() };
    let (_, mut reply) = wanted.add(Want::Range(range), WantOptions::default())?;

    let peer = PeerId(0);
    let (mut up, mut down) = (Replicator::default(), Replicator::default());
    let start = Instant::now();
    let (mut nodes, mut rounds) = (0, 0);
    let (mut answering, mut storing) = (std::time::Duration::ZERO, std::time::Duration::ZERO);
    up.open_peer(peer, &mut writer, &mut idle, start);
    down.open_peer(peer, &mut reader, &mut wanted, start);
    while reply.try_recv()?.is_none() {
        let at = Instant::now();
        let to_down: Vec<Message> =
            std::iter::from_fn(|| up.poll_transmit_to(peer, &mut writer)).take(BURST).collect();
        answering += at.elapsed();
        for message in &to_down {
            if let Message::Data(data) = message {
                nodes += data.proof.block.as_ref().map_or(0, |block| block.nodes.len());
            }
        }
        let at = Instant::now();
        down.handle(peer, to_down, &mut reader, &mut wanted, at);
        let to_up: Vec<Message> =
            std::iter::from_fn(|| down.poll_transmit_to(peer, &mut reader)).take(BURST).collect();
        storing += at.elapsed();
        let at = Instant::now();
        up.handle(peer, to_up, &mut writer, &mut idle, at);
        answering += at.elapsed();
        rounds += 1;
    }
    let took = start.elapsed();
    assert_eq!(reader.tree_hash(), writer.tree_hash());
    println!(
        "replicated {blocks} blocks of {bytes} bytes in {took:?}: {:.0} blocks/s, {:.0} MB/s \
         (writer {answering:?}, reader {storing:?}, {rounds} rounds, {:.2} nodes a block)",
        blocks as f64 / took.as_secs_f64(),
        blocks as f64 * bytes as f64 / took.as_secs_f64() / 1e6,
        nodes as f64 / blocks as f64,
    );
    println!("{:?}", down.stats());
    Ok(())
}

fn block(index: u64, bytes: usize) -> Bytes {
    let mut block = index.to_le_bytes().to_vec();
    block.resize(bytes.max(8), b'.');
    block.into()
}
