//! Appending whatever a stream brings.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Sink;

use crate::error::Error;
use crate::session::Hypercore;

/// Blocks gathered before they are appended in one commit.
const BATCH_BLOCKS: usize = 512;
/// Bytes gathered before they are appended in one commit.
const BATCH_BYTES: usize = 1024 * 1024;

/// A sink that appends blocks. What was sent without pause becomes one commit; `flush` appends what is gathered.
#[derive(Debug)]
pub struct WriteSink {
    log: Hypercore,
    blocks: Vec<Bytes>,
    bytes: usize,
}

impl Hypercore {
    /// A sink that appends blocks.
    pub fn write_sink(&self) -> WriteSink {
        WriteSink { log: self.clone(), blocks: Vec::new(), bytes: 0 }
    }
}

impl WriteSink {
    fn append(&mut self) -> Result<(), Error> {
        if self.blocks.is_empty() {
            return Ok(());
        }
        self.bytes = 0;
        self.log.append_batch(std::mem::take(&mut self.blocks)).map(|_| ())
    }
}

impl Sink<Bytes> for WriteSink {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let full = self.blocks.len() >= BATCH_BLOCKS || self.bytes >= BATCH_BYTES;
        Poll::Ready(if full { self.append() } else { Ok(()) })
    }

    fn start_send(mut self: Pin<&mut Self>, block: Bytes) -> Result<(), Error> {
        self.bytes = self.bytes.saturating_add(block.len());
        self.blocks.push(block);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(self.append())
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_flush(context)
    }
}
