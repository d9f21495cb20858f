//! `read`: blocks, printed.

use std::io::{self, BufWriter, Write};

use anyhow::Result;
use futures::StreamExt;
use hypercore::streams::ReadOptions;
use hyperspace_client::RemoteHypercore;

/// Blocks that are printed at once when they are here.
const AT_ONCE: usize = 256;

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
        core.wait_for_length(1).await?;
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
    let Reading { from: start, count, live, binary, json } = reading;
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let stop = count.map_or(u64::MAX, |count| start.saturating_add(count));
    let end = Some(core.length().min(stop));
    let blocks = core.read_stream_with(ReadOptions { start, end, live, ..ReadOptions::default() });
    let count = usize::try_from(stop - start).unwrap_or(usize::MAX);
    let mut blocks = blocks.take(count).ready_chunks(AT_ONCE);
    let mut index = start;
    while let Some(chunk) = blocks.next().await {
        for block in chunk {
            let block = block?;
            if json {
                writeln!(out, "{}", super::output::block(index, &block))?;
            } else {
                out.write_all(&block)?;
                if !binary {
                    out.write_all(b"\n")?;
                }
            }
            index += 1;
        }
        // Nothing more is here at the moment: whoever reads may be waiting.
        out.flush()?;
    }
    Ok(())
}
