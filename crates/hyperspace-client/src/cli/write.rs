//! `write`: what standard input gives, appended.

use std::{
    io::{self, Read},
    thread,
};

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream::FuturesUnordered};
use hyperspace_client::RemoteHypercore;
use tokio::sync::mpsc;

use super::{
    blocks::{Cut, Cutter},
    progress::Progress,
};

/// How much is read from standard input at once, when there is so much.
const PIECE: usize = 512 << 10;
/// Pieces that are read ahead.
const AHEAD: usize = 2;
/// Appends that may be on their way: the daemon writes one while the next arrives.
const IN_FLIGHT: usize = 4;

/// What was appended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
}

/// Appends everything. Whatever can be read at once becomes one append.
pub(crate) async fn write(core: &RemoteHypercore, cut: Cut) -> Result<Written> {
    let mut input = read_ahead();
    let mut cutter = Cutter::new(cut);
    let mut progress = Progress::start(input_size());
    let (mut blocks, mut bytes) = (0, 0);
    let mut appends = FuturesUnordered::new();
    let append = |batch: Vec<Bytes>| {
        let size: usize = batch.iter().map(Bytes::len).sum();
        async move { core.append_blocks(&batch).await.map(|_| (batch.len() as u64, size as u64)) }
    };
    // The bar is about the input, in which lines have ends.
    let ends = |blocks: u64| if cut == Cut::Lines { blocks } else { 0 };
    let mut ended = false;
    while !ended || !appends.is_empty() {
        tokio::select! {
            piece = input.recv(), if !ended && appends.len() < IN_FLIGHT => {
                let batch = match piece {
                    Some(piece) => cutter.push(piece.context("cannot read standard input")?)?,
                    None => {
                        ended = true;
                        cutter.finish().into_iter().collect()
                    }
                };
                if !batch.is_empty() {
                    appends.push(append(batch));
                }
            }
            Some(appended) = appends.next() => {
                let (count, size) = appended?;
                blocks += count;
                bytes += size;
                progress.show(blocks, bytes, bytes + ends(blocks));
            }
        }
    }
    progress.finish(blocks, bytes, bytes + ends(blocks));
    Ok(Written { blocks, bytes })
}

/// Reads standard input on a thread of its own: there is no other way to read any kind of file without blocking.
fn read_ahead() -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        loop {
            let mut piece = BytesMut::zeroed(PIECE);
            let piece = match stdin.read(&mut piece) {
                Ok(0) => return,
                Ok(length) => {
                    piece.truncate(length);
                    Ok(piece.freeze())
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let failed = piece.is_err();
            if sender.blocking_send(piece).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// The size of standard input, when it is a file.
fn input_size() -> Option<u64> {
    use std::os::fd::AsFd;
    let stdin = io::stdin();
    let file = std::fs::File::from(stdin.as_fd().try_clone_to_owned().ok()?);
    let meta = file.metadata().ok()?;
    meta.is_file().then_some(meta.len())
}
