//! Reading a log as one long row of bytes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};

use super::read::{ReadOptions, ReadStream};
use crate::error::Error;
use crate::session::Hypercore;

/// Which bytes to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByteStreamOptions {
    /// First byte.
    pub byte_offset: u64,
    /// How many bytes; to the end of the log unless given.
    pub byte_length: Option<u64>,
}

/// A stream of the bytes of a log, block by block; the first and the last block are cut to fit.
pub struct ByteStream {
    state: State,
    skip: u64,
    left: u64,
}

enum State {
    Seeking(BoxFuture<'static, Result<(ReadStream, u64, u64), Error>>),
    Reading(Box<ReadStream>),
    Done,
}

impl Hypercore {
    /// Reads bytes, wherever blocks begin and end, waiting for peers where needed.
    pub fn byte_stream(&self, options: ByteStreamOptions) -> ByteStream {
        let log = self.clone();
        let seeking = async move {
            let length = match options.byte_length {
                Some(length) => length,
                None => {
                    log.update().await?;
                    log.byte_length().saturating_sub(options.byte_offset)
                }
            };
            let (start, skip) = match (options.byte_offset, length) {
                (0, _) | (_, 0) => (0, 0),
                (offset, _) => log.seek(offset).await?,
            };
            let reading = ReadOptions { start, end: Some(u64::MAX), ..ReadOptions::default() };
            Ok((log.read_stream_with(reading), skip, length))
        };
        ByteStream { state: State::Seeking(seeking.boxed()), skip: 0, left: 0 }
    }
}

impl Stream for ByteStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                State::Done => return Poll::Ready(None),
                State::Seeking(seeking) => match futures::ready!(seeking.poll_unpin(context)) {
                    Ok((blocks, skip, left)) => {
                        this.skip = skip;
                        this.left = left;
                        this.state = if left == 0 { State::Done } else { State::Reading(Box::new(blocks)) };
                    }
                    Err(error) => {
                        this.state = State::Done;
                        return Poll::Ready(Some(Err(error)));
                    }
                },
                State::Reading(blocks) => {
                    let block = match futures::ready!(blocks.poll_next_unpin(context)) {
                        Some(Ok(block)) => this.cut(block),
                        end => {
                            this.state = State::Done;
                            return Poll::Ready(end);
                        }
                    };
                    if this.left == 0 {
                        this.state = State::Done;
                    }
                    if !block.is_empty() {
                        return Poll::Ready(Some(Ok(block)));
                    }
                }
            }
        }
    }
}

impl ByteStream {
    fn cut(&mut self, mut block: Bytes) -> Bytes {
        let skip = usize::try_from(self.skip).unwrap_or(usize::MAX).min(block.len());
        self.skip = 0;
        let mut block = block.split_off(skip);
        block.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= block.len() as u64;
        block
    }
}

impl std::fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByteStream").field("left", &self.left).finish_non_exhaustive()
    }
}
