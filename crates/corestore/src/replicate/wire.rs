//! Moves bytes between a transport and a connection, a burst at a time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes};
use hypercore_protocol::{Connection, Error};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One read; decrypted before the next, so that the buffer can be used again.
const READ: usize = 64 * 1024;
/// Reads go on while there is something to read, up to this much: then it is the turn of what was read. Large blocks
/// are hashed four at a time, so it is worth having several.
const BURST_OF_LARGE: usize = 512 * 1024;
/// The same while messages are small: the remote is to have requests to answer while we work on what it sent.
const BURST_OF_SMALL: usize = 64 * 1024;
/// A burst of more messages than this was one of small ones.
const MANY: usize = 256;

/// The transport of one connection.
pub(super) struct Wire<IO> {
    io: IO,
    buffer: Box<[u8]>,
    burst: usize,
    out: Bytes,
    unflushed: bool,
    ended: bool,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Wire<IO> {
    pub(super) fn new(io: IO) -> Self {
        Self {
            io,
            buffer: vec![0; READ].into(),
            burst: BURST_OF_SMALL,
            out: Bytes::new(),
            unflushed: false,
            ended: false,
        }
    }

    /// How many messages the last burst brought.
    pub(super) fn set_messages(&mut self, messages: usize) {
        self.burst = if messages > MANY { BURST_OF_SMALL } else { BURST_OF_LARGE };
    }

    /// Reads what is there. Ready when something came, or the end.
    pub(super) fn poll_read_burst(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
    ) -> Poll<Result<(), Error>> {
        let mut total = 0;
        while total < self.burst && !self.ended {
            let mut buffer = ReadBuf::new(&mut self.buffer);
            match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
                Poll::Pending if total > 0 => break,
                Poll::Pending => return Poll::Pending,
                Poll::Ready(read) => read?,
            }
            let bytes = buffer.filled();
            if bytes.is_empty() {
                self.ended = true;
                connection.receive_end()?;
                break;
            }
            connection.receive(bytes, Instant::now())?;
            total += bytes.len();
            if bytes.len() < READ {
                // Most likely there is no more: asking again would cost a system call to be told so.
                break;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what the connection has; ready when all of it is written and flushed.
    pub(super) fn poll_write_all(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
    ) -> Poll<Result<(), Error>> {
        loop {
            if self.out.is_empty() {
                match connection.poll_transmit()? {
                    Some(bytes) => self.out = bytes,
                    None => break,
                }
            }
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.out))?;
            if written == 0 {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
            }
            self.out.advance(written.min(self.out.len()));
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Bytes that were taken from the connection and are not written yet.
    pub(super) fn unwritten(&self) -> usize {
        self.out.len()
    }

    /// Says goodbye to the transport.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
