//! Reading and writing a daemon's cores as streams, as local cores can be.

use std::{
    ops::{Range, RangeBounds},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::{
    FutureExt, Sink, Stream, StreamExt, TryFutureExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use hypercore::{
    DownloadRange,
    streams::{ByteStreamOptions, ReadOptions},
};
use tokio::task::JoinHandle;

use crate::{ClientError, RemoteHypercore};

/// Gets that may be on their way.
const IN_FLIGHT: usize = 256;
/// Blocks gathered before they are appended.
const BATCH_BLOCKS: usize = 2048;
/// Bytes gathered before they are appended.
const BATCH_BYTES: usize = 1 << 20;

impl RemoteHypercore {
    /// Reads a range of blocks in order; those that the daemon lacks are fetched from peers. An open end is the length
    /// as it is now. Must be used inside a tokio runtime.
    pub fn read_stream(
        &self,
        range: impl RangeBounds<u64>,
    ) -> BoxStream<'static, Result<Bytes, ClientError>> {
        self.read_stream_with(ReadOptions::of(range))
    }

    /// Reads blocks, with options. A live stream waits for peers that have a block; others fail when nobody has it.
    /// Must be used inside a tokio runtime.
    pub fn read_stream_with(&self, options: ReadOptions) -> BoxStream<'static, Result<Bytes, ClientError>> {
        let reading = Reading { core: self.clone(), options, next: None };
        stream::try_unfold(reading, Reading::next_part).try_flatten().boxed()
    }

    /// Reads bytes, wherever blocks begin and end. Must be used inside a tokio runtime.
    pub fn byte_stream(&self, options: ByteStreamOptions) -> BoxStream<'static, Result<Bytes, ClientError>> {
        let core = self.clone();
        async move { core.bytes(options).await }.try_flatten_stream().boxed()
    }

    async fn bytes(
        &self,
        options: ByteStreamOptions,
    ) -> Result<impl Stream<Item = Result<Bytes, ClientError>> + Send + use<>, ClientError> {
        let from = options.byte_offset;
        let length = match options.byte_length {
            Some(length) => length,
            None => {
                self.update().await?;
                self.byte_length().saturating_sub(from)
            }
        };
        let (blocks, skip) = if length == 0 {
            (0..0, 0)
        } else {
            let (first, skip) = self.seek(from).await?;
            let (last, part) = self.seek(from.saturating_add(length)).await?;
            (first..last.saturating_add(u64::from(part > 0)), skip)
        };
        let cut = self.read_stream(blocks).scan((skip, length), |(skip, left), block| {
            let block = block.map(|mut block| {
                let mut block = block.split_off(size(std::mem::take(skip)).min(block.len()));
                block.truncate(size(*left));
                *left -= block.len() as u64;
                block
            });
            futures::future::ready(Some(block))
        });
        Ok(cut.try_filter(|block| futures::future::ready(!block.is_empty())))
    }

    /// A sink that appends blocks. What is sent while an append is on its way becomes the next one; to flush or close
    /// it waits until the daemon has everything.
    pub fn write_sink(&self) -> RemoteWriteSink {
        RemoteWriteSink { core: self.clone(), blocks: Vec::new(), bytes: 0, appending: None }
    }
}

/// How far a stream is.
struct Reading {
    core: RemoteHypercore,
    options: ReadOptions,
    /// The next block; `None` before the first.
    next: Option<u64>,
}

impl Reading {
    /// The blocks that can be asked for by now.
    async fn next_part(
        mut self,
    ) -> Result<Option<(BoxStream<'static, Result<Bytes, ClientError>>, Self)>, ClientError> {
        let ReadOptions { start, end, live, reverse, update } = self.options;
        let next = match self.next {
            Some(next) => next,
            None => {
                if update && end.is_none() {
                    self.core.update().await?;
                }
                start
            }
        };
        if reverse {
            let part = start..end.unwrap_or(self.core.length());
            let done = self.next.replace(part.end).is_some();
            return Ok((!done && !part.is_empty()).then(|| (gets(&self.core, part.rev(), false), self)));
        }
        let end = end.filter(|_| !live);
        loop {
            let known = match (end, self.next) {
                // The length at the beginning is the end, however long the core becomes meanwhile.
                (None, Some(_)) if !live => next,
                _ => end.unwrap_or(self.core.length()),
            };
            if next < known {
                let part = next..known;
                self.next = Some(known);
                let ahead = Ahead::start(&self.core, &part);
                let blocks = gets(&self.core, part, live).inspect(move |_| {
                    // It goes with the stream.
                    let _ = &ahead;
                });
                return Ok(Some((blocks.boxed(), self)));
            }
            if !live {
                return Ok(None);
            }
            self.core.wait_for_length(next.saturating_add(1)).await?;
        }
    }
}

fn gets(
    core: &RemoteHypercore,
    indices: impl Iterator<Item = u64> + Send + 'static,
    live: bool,
) -> BoxStream<'static, Result<Bytes, ClientError>> {
    let core = core.clone();
    let gets = stream::iter(indices).map(move |index| {
        let core = core.clone();
        async move { if live { core.wait_for_block(index).await } else { core.get(index).await } }
    });
    gets.buffered(IN_FLIGHT).boxed()
}

/// A download in order, in the background: blocks of peers come in runs instead of one by one. What becomes of it
/// shows in the gets.
struct Ahead(Option<JoinHandle<()>>);

impl Ahead {
    fn start(core: &RemoteHypercore, part: &Range<u64>) -> Self {
        if core.writable() || part.end > core.length() {
            return Self(None);
        }
        let core = core.clone();
        let range = DownloadRange { linear: true, ..DownloadRange::new(part.start, part.end) };
        Self(Some(tokio::spawn(async move {
            let _ = core.download(&range).await;
        })))
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if let Some(download) = &self.0 {
            download.abort();
        }
    }
}

/// A sink that appends blocks; see [`RemoteHypercore::write_sink`].
pub struct RemoteWriteSink {
    core: RemoteHypercore,
    blocks: Vec<Bytes>,
    bytes: usize,
    /// One at a time: what an error leaves out comes after what is there.
    appending: Option<BoxFuture<'static, Result<(), ClientError>>>,
}

impl RemoteWriteSink {
    fn is_full(&self) -> bool {
        self.blocks.len() >= BATCH_BLOCKS || self.bytes >= BATCH_BYTES
    }

    /// Ready when no append is on its way.
    fn poll_appended(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        if let Some(appending) = &mut self.appending {
            let appended = ready!(appending.as_mut().poll(context));
            self.appending = None;
            appended?;
        }
        Poll::Ready(Ok(()))
    }

    fn append(&mut self) {
        let (core, blocks) = (self.core.clone(), std::mem::take(&mut self.blocks));
        self.bytes = 0;
        self.appending = Some(async move { core.append_blocks(&blocks).await.map(|_| ()) }.boxed());
    }
}

impl Sink<Bytes> for RemoteWriteSink {
    type Error = ClientError;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        let idle = match self.poll_appended(context) {
            Poll::Ready(appended) => {
                appended?;
                true
            }
            Poll::Pending => false,
        };
        if !self.is_full() {
            return Poll::Ready(Ok(()));
        }
        if !idle {
            return Poll::Pending;
        }
        self.append();
        // So that it goes out, and wakes whoever waits here.
        match self.poll_appended(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn start_send(mut self: Pin<&mut Self>, block: Bytes) -> Result<(), ClientError> {
        self.bytes = self.bytes.saturating_add(block.len());
        self.blocks.push(block);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        loop {
            ready!(self.poll_appended(context))?;
            if self.blocks.is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.append();
        }
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        self.poll_flush(context)
    }
}

impl std::fmt::Debug for RemoteWriteSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gathered = self.blocks.len();
        f.debug_struct("RemoteWriteSink").field("core", &self.core).field("gathered", &gathered).finish()
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
