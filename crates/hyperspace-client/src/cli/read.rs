//! `read`: blocks, printed.

use std::io::{self, BufWriter, Write};

use anyhow::Result;
use bytes::Bytes;
use futures::StreamExt;
use hypercore::streams::ReadOptions;
use hyperspace_client::{ClientError, RemoteHypercore};
use tokio::{sync::mpsc, task};

use super::output::unread;

/// Blocks that are printed at once when they are here.
const AT_ONCE: usize = 64;
/// How many times that may wait while others are printed.
const AHEAD: usize = 1;

/// Blocks that are here at the same time.
type Chunk = Vec<Result<Bytes, ClientError>>;

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
    if !reading.live {
        super::download::known(core)?;
    }
    print(core, reading).await
}

/// Prints the last blocks, and goes on with what is appended later.
pub(crate) async fn tail(core: &RemoteHypercore, count: u64, binary: bool, json: bool) -> Result<()> {
    newest(core).await;
    if core.length() == 0 && !core.writable() {
        // Nobody has said yet what there is: the last blocks are those of what somebody says first.
        tokio::select! {
            known = core.wait_for_length(1) => known?,
            () = unread() => return Ok(()),
        }
    }
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
    let Reading { from: start, count, live, .. } = reading;
    let stop = count.map_or(u64::MAX, |count| start.saturating_add(count));
    let end = Some(core.length().min(stop));
    let blocks = core.read_stream_with(ReadOptions { start, end, live, ..ReadOptions::default() });
    let count = usize::try_from(stop - start).unwrap_or(usize::MAX);
    let mut blocks = blocks.take(count).ready_chunks(AT_ONCE);
    // Output waits for whoever reads it, and what the daemon says must not wait with it: a daemon lets clients go that
    // do not read. No more is asked for than there is room for.
    let (sender, receiver) = mpsc::channel(AHEAD);
    let printing = task::spawn_blocking(move || print_chunks(receiver, reading));
    let mut unread = std::pin::pin!(unread());
    loop {
        let chunk = tokio::select! {
            chunk = blocks.next() => chunk,
            // It failed: nothing that may come later makes that good.
            () = sender.closed() => None,
            () = &mut unread => None,
        };
        let Some(chunk) = chunk else { break };
        if sender.send(chunk).await.is_err() {
            break;
        }
    }
    drop(sender);
    printing.await?
}

/// Prints blocks as they come, up to the first error.
fn print_chunks(mut chunks: mpsc::Receiver<Chunk>, reading: Reading) -> Result<()> {
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let mut index = reading.from;
    while let Some(chunk) = chunks.blocking_recv() {
        for block in chunk {
            let block = match block {
                Ok(block) => block,
                Err(error) => {
                    out.flush()?;
                    return Err(error.into());
                }
            };
            if reading.json {
                writeln!(out, "{}", super::output::block(index, &block))?;
            } else {
                out.write_all(&block)?;
                if !reading.binary {
                    out.write_all(b"\n")?;
                }
            }
            index += 1;
        }
        if chunks.is_empty() {
            // Nothing more is here at the moment: whoever reads may be waiting.
            out.flush()?;
        }
    }
    out.flush()?;
    Ok(())
}
