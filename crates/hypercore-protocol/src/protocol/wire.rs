//! Moves bytes or messages between a [`Connection`] and what is below it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes};
use futures::io::{AsyncRead, AsyncWrite};
use futures::sink::Sink;
use futures::stream::Stream;

use crate::connection::Connection;
use crate::error::Error;

/// One read.
const READ: usize = 64 * 1024;

/// A transport below a connection.
pub(super) trait Wire: Send {
    /// Reads once and gives what came to the connection.
    fn poll_receive(&mut self, cx: &mut Context<'_>, connection: &mut Connection) -> Poll<Result<(), Error>>;

    /// Writes all that the connection has; ready when that is done and flushed.
    fn poll_transmit(&mut self, cx: &mut Context<'_>, connection: &mut Connection)
    -> Result<Poll<()>, Error>;
}

pub(super) struct ByteWire<IO> {
    io: IO,
    read: Box<[u8]>,
    out: Bytes,
    unflushed: bool,
}

impl<IO> ByteWire<IO> {
    pub(super) fn new(io: IO) -> Self {
        Self { io, read: vec![0; READ].into(), out: Bytes::new(), unflushed: false }
    }
}

impl<IO: AsyncRead + AsyncWrite + Send + Unpin> ByteWire<IO> {
    fn poll_write_all(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
    ) -> Poll<Result<(), Error>> {
        loop {
            while !self.out.is_empty() {
                let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.out))?;
                if written == 0 {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
                }
                self.out.advance(written.min(self.out.len()));
                self.unflushed = true;
            }
            match connection.poll_transmit()? {
                Some(bytes) => self.out = bytes,
                None => break,
            }
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Send + Unpin> Wire for ByteWire<IO> {
    fn poll_receive(&mut self, cx: &mut Context<'_>, connection: &mut Connection) -> Poll<Result<(), Error>> {
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut self.read))?;
        Poll::Ready(match self.read.get(..read) {
            Some(bytes) if !bytes.is_empty() => connection.receive(bytes, Instant::now()),
            _ => connection.receive_end(),
        })
    }

    fn poll_transmit(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
    ) -> Result<Poll<()>, Error> {
        transpose(self.poll_write_all(cx, connection))
    }
}

pub(super) struct MessageWire<S> {
    stream: S,
    unflushed: bool,
}

impl<S> MessageWire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, unflushed: false }
    }
}

impl<S> MessageWire<S>
where
    S: Stream<Item = io::Result<Bytes>> + Sink<Bytes, Error = io::Error> + Send + Unpin,
{
    fn poll_write_all(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
    ) -> Poll<Result<(), Error>> {
        loop {
            // The connection gives a message up only to a sink that takes it.
            if connection.pending_transmit() == 0 {
                break;
            }
            ready!(Pin::new(&mut self.stream).poll_ready(cx))?;
            let Some(message) = connection.poll_transmit()? else { break };
            Pin::new(&mut self.stream).start_send(message)?;
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S> Wire for MessageWire<S>
where
    S: Stream<Item = io::Result<Bytes>> + Sink<Bytes, Error = io::Error> + Send + Unpin,
{
    fn poll_receive(&mut self, cx: &mut Context<'_>, connection: &mut Connection) -> Poll<Result<(), Error>> {
        Poll::Ready(match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
            Some(Ok(message)) => connection.receive_message(message),
            Some(Err(error)) => Err(error.into()),
            None => connection.receive_end(),
        })
    }

    fn poll_transmit(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
    ) -> Result<Poll<()>, Error> {
        transpose(self.poll_write_all(cx, connection))
    }
}

fn transpose(poll: Poll<Result<(), Error>>) -> Result<Poll<()>, Error> {
    match poll {
        Poll::Ready(Ok(())) => Ok(Poll::Ready(())),
        Poll::Ready(Err(error)) => Err(error),
        Poll::Pending => Ok(Poll::Pending),
    }
}
