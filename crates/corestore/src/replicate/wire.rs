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
/// Reads go on while there is something to read, up to this much: then it is the turn of what was read.
const READ_BURST: usize = 256 * 1024;

/// The transport of one connection.
pub(super) struct Wire<IO> {
    io: IO,
    buffer: Box<[u8]>,
    out: Bytes,
    unflushed: bool,
    ended: bool,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Wire<IO> {
    pub(super) fn new(io: IO) -> Self {
        Self { io, buffer: vec![0; READ].into(), out: Bytes::new(), unflushed: false, ended: false }
    }

    /// Reads what is there. Ready when something came, or the end.
    pub(super) fn poll_read_burst(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
    ) -> Poll<Result<(), Error>> {
        let mut total = 0;
        while total < READ_BURST && !self.ended {
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
