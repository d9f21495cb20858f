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
}

/// Prints blocks. Ends without an error when nobody reads any more.
pub(crate) async fn read(core: &RemoteHypercore, reading: Reading) -> Result<()> {
    match print(core, reading).await {
        Err(error) if is_broken_pipe(&error) => Ok(()),
        result => result,
    }
}

async fn print(core: &RemoteHypercore, reading: Reading) -> Result<()> {
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    if !core.writable() {
        // Somebody may know of more than the daemon does. What it has is good enough otherwise.
        let _ = core.update().await;
    }
    let stop = reading.count.map_or(u64::MAX, |count| reading.from.saturating_add(count));
    let mut next = reading.from;
    loop {
        let length = core.length().min(stop);
        if next < length {
            // In the background, in order: blocks of peers come in runs instead of one by one.
            let ahead = DownloadRange { end: Some(length), linear: true, ..DownloadRange::live(next) };
            let _ahead = (!core.writable()).then(|| download(core.clone(), ahead));
            let gets = stream::iter(next..length).map(|index| get(core, index, reading.live));
            let mut blocks = pin!(gets.buffered(IN_FLIGHT));
            while let Some(block) = blocks.next().await {
                out.write_all(&block?)?;
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

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
