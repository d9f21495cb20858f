//! `read`: blocks, printed.

use std::{
    io::{self, BufWriter, Write},
    pin::pin,
};

use anyhow::Result;
use bytes::Bytes;
use futures::{StreamExt, stream};
use hypercore::DownloadRange;
use hyperspace_client::{ClientError, RemoteHypercore};

/// Gets that may be on their way.
const IN_FLIGHT: usize = 256;

/// Which blocks, and how they are printed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) from: u64,
    pub(crate) count: Option<u64>,
    pub(crate) live: bool,
    pub(crate) binary: bool,
    pub(crate) json: bool,
}

/// Prints blocks.
pub(crate) async fn read(core: &RemoteHypercore, reading: Reading) -> Result<()> {
    newest(core).await;
    print(core, reading).await
}

/// Prints the last blocks, and goes on with what is appended later.
pub(crate) async fn tail(core: &RemoteHypercore, count: u64, binary: bool, json: bool) -> Result<()> {
    newest(core).await;
    let from = core.length().saturating_sub(count);
    print(core, Reading { from, count: None, live: true, binary, json }).await
}

/// Somebody may know of more than the daemon does. What it has is good enough otherwise.
async fn newest(core: &RemoteHypercore) {
    if !core.writable() {
        let _ = core.update().await;
    }
}

async fn print(core: &RemoteHypercore, reading: Reading) -> Result<()> {
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let stop = reading.count.map_or(u64::MAX, |count| reading.from.saturating_add(count));
    let mut next = reading.from;
    loop {
        let length = core.length().min(stop);
        if next < length {
            // In the background, in order: blocks of peers come in runs instead of one by one.
            let ahead = DownloadRange { end: Some(length), linear: true, ..DownloadRange::live(next) };
            let _ahead = (!core.writable()).then(|| download(core.clone(), ahead));
            let gets = stream::iter(next..length).map(|index| async move {
                let block = get(core, index, reading.live).await;
                block.map(|block| (index, block))
            });
            let mut blocks = pin!(gets.buffered(IN_FLIGHT));
            while let Some(block) = blocks.next().await {
                let (index, block) = block?;
                if reading.json {
                    writeln!(out, "{}", super::output::block(index, &block))?;
                    continue;
                }
                out.write_all(&block)?;
                if !reading.binary {
                    out.write_all(b"\n")?;
                }
            }
            next = length;
        }
        out.flush()?;
        if !reading.live || next >= stop {
            return Ok(());
        }
        core.wait_for_length(next.saturating_add(1)).await?;
    }
}

/// Downloads until the handle is dropped. What comes of it shows in the gets.
fn download(core: RemoteHypercore, range: DownloadRange) -> AbortOnDrop {
    AbortOnDrop(tokio::spawn(async move {
        let _ = core.download(&range).await;
    }))
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A block. A live reader waits for peers that have it; others are told that nobody has it.
async fn get(core: &RemoteHypercore, index: u64, live: bool) -> Result<Bytes, ClientError> {
    if live { core.wait_for_block(index).await } else { core.get(index).await }
}
