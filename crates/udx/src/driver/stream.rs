//! A stream as its user holds it.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::core::{Inner, StreamCore};
use super::error::{SendError, UdxError};
use super::handle::UdxHandle;
use super::instance::{Instance, StreamOptions};
use super::socket::UdxSocket;
use crate::stream::CloseReason;

/// Written bytes that make a writer transmit itself. Less waits for the task of the socket, which runs as soon as the
/// writer's does not, and sends together what was written meanwhile.
const BURST: usize = 64 << 10;
/// Read bytes after which the remote may have to hear of the larger window.
const WINDOW_STEP: usize = 512 << 10;

/// What a firewall says to a packet that reached a stream through a socket which the stream is not connected on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firewall {
    /// The packet is taken; usually the stream was just connected.
    Accept,
    /// The packet is dropped, as if it had been lost.
    Refuse,
}

/// A UDX stream: ordered bytes both ways, and unordered messages beside them.
///
/// Writes before the stream is connected wait in its buffer. `shutdown` is a half close: what was written arrives, then
/// the remote reads the end, while it may go on writing. `flush` has everything written so far sent as soon as the
/// network takes it; nobody has to call it.
///
/// # Dropping
///
/// A dropped stream still sends what was written, then it is destroyed, which the remote sees as a reset; what the
/// remote still writes is discarded. After a `shutdown` it waits instead for the remote to finish, too. Either ends
/// after [`LINGER`](super::LINGER). [`UdxHandle::destroy`] does not wait.
#[derive(Debug)]
pub struct UdxStream {
    core: Arc<StreamCore>,
}

impl UdxStream {
    pub(super) fn new(instance: &Arc<Instance>, options: StreamOptions) -> Result<Self, UdxError> {
        Ok(Self { core: instance.add(options)? })
    }

    /// The id by which the remote addresses this stream.
    pub fn local_id(&self) -> u32 {
        self.core.local_id
    }

    /// Connects the stream to the stream `remote_id` at `remote`, through `socket`. No packet is needed for that: each
    /// side must know the id of the other.
    pub fn connect(&self, socket: &UdxSocket, remote_id: u32, remote: SocketAddr) -> Result<(), UdxError> {
        self.core.connect(socket, remote_id, remote)
    }

    /// Asks `firewall` about every packet for this stream that comes through a socket which it is not connected on;
    /// that is every packet before [`UdxStream::connect`]. It may connect the stream itself (through a
    /// [`UdxHandle`]). Without one such packets are refused, as udx-native does it.
    ///
    /// It is also told of packets that come through the stream's own socket, but not from its remote. Those are taken
    /// whatever it says: its answer has no meaning there.
    ///
    /// It runs in the task of the socket and must not block. It goes when the stream closes or is dropped.
    pub fn set_firewall(&self, firewall: impl FnMut(&UdxSocket, SocketAddr) -> Firewall + Send + 'static) {
        self.core.set_firewall(Box::new(firewall));
    }

    /// Sends a message: unordered, not repeated when lost, one datagram.
    pub fn send_message(&self, message: Bytes) -> Result<(), SendError> {
        self.core.send_message(message)
    }

    /// The next message; `None` when the stream is closed. A bounded number waits to be taken.
    pub async fn recv_message(&self) -> Option<Bytes> {
        poll_fn(|cx| self.poll_message(cx)).await
    }

    /// [`UdxStream::recv_message`] for those who write their own futures.
    pub fn poll_message(&self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut inner = self.core.lock();
        match inner.state.poll_message() {
            Some(message) => Poll::Ready(Some(message)),
            None if inner.closed.is_some() => Poll::Ready(None),
            None => {
                register(&mut inner.messages, cx);
                Poll::Pending
            }
        }
    }

    /// Reads without a copy: the next piece in order; `None` at the end.
    pub async fn read_chunk(&mut self) -> io::Result<Option<Bytes>> {
        poll_fn(|cx| self.poll_read_chunk(cx)).await
    }

    /// [`UdxStream::read_chunk`] for those who write their own futures.
    pub fn poll_read_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let mut inner = self.core.lock();
        if inner.left.is_empty() {
            match inner.state.read() {
                Some(chunk) => inner.left = chunk,
                None => return inner.poll_end(cx).map_ok(|()| None),
            }
        }
        let chunk = std::mem::take(&mut inner.left);
        self.was_read(inner, chunk.len());
        Poll::Ready(Ok(Some(chunk)))
    }

    /// Writes all of `bytes` without a copy, as soon as the send buffer has room for anything.
    pub async fn write_chunk(&mut self, bytes: Bytes) -> io::Result<()> {
        poll_fn(|cx| self.poll_write_ready(cx)).await?;
        let mut inner = self.core.lock();
        let idle = inner.state.unacknowledged() == 0;
        let len = bytes.len();
        if !inner.state.write(bytes) {
            return Err(inner.write_error());
        }
        self.was_written(inner, idle, len);
        Ok(())
    }

    /// Ready when the send buffer has room for something.
    pub fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.core.lock().poll_room(cx).map_ok(|_| ())
    }

    /// Moves the stream to another remote, another socket, or both; returns when all that was sent to the old remote is
    /// acknowledged.
    pub async fn change_remote(
        &self,
        socket: &UdxSocket,
        remote_id: u32,
        remote: SocketAddr,
    ) -> Result<(), UdxError> {
        self.handle().change_remote(socket, remote_id, remote).await
    }

    /// From now on every packet that comes for this stream is forwarded to the remote of `other`, its content untouched.
    /// When the remote destroys its end, the packet that says so is forwarded and this stream closes; when `other`
    /// closes, this stream is destroyed. Relaying both ways takes two calls.
    pub fn relay_to(&self, other: &UdxStream) -> Result<(), UdxError> {
        self.core.relay_to(&other.core)
    }

    /// A handle to look at the stream from elsewhere.
    pub fn handle(&self) -> UdxHandle {
        UdxHandle { core: Arc::clone(&self.core) }
    }

    fn was_read(&self, mut inner: MutexGuard<'_, Inner>, len: usize) {
        self.core.grow_window(&mut inner, len);
        inner.since_turn += len;
        if inner.since_turn >= WINDOW_STEP {
            self.core.turn_locked(inner, Instant::now());
        }
    }

    fn was_written(&self, mut inner: MutexGuard<'_, Inner>, idle: bool, len: usize) {
        inner.since_turn += len;
        if idle || inner.since_turn >= BURST {
            self.core.turn_locked(inner, Instant::now());
        } else {
            self.core.schedule_locked(&mut inner);
        }
    }
}

impl Drop for UdxStream {
    fn drop(&mut self) {
        self.core.abandon();
    }
}

impl AsyncRead for UdxStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.core.lock();
        let before = buf.remaining();
        while buf.remaining() > 0 {
            if inner.left.is_empty() {
                match inner.state.read() {
                    Some(chunk) => inner.left = chunk,
                    None => break,
                }
            }
            let len = inner.left.len().min(buf.remaining());
            if let Some(piece) = inner.left.get(..len) {
                buf.put_slice(piece);
            }
            inner.left.advance(len);
        }
        let read = before - buf.remaining();
        if read == 0 && before > 0 {
            return inner.poll_end(cx);
        }
        self.was_read(inner, read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for UdxStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.core.lock();
        let room = match inner.poll_room(cx) {
            Poll::Ready(Ok(room)) => room,
            Poll::Ready(Err(err)) => return Poll::Ready(Err(err)),
            Poll::Pending => return Poll::Pending,
        };
        let piece = buf.get(..room.min(buf.len())).unwrap_or_default();
        if piece.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let idle = inner.state.unacknowledged() == 0;
        if !inner.state.write(Bytes::copy_from_slice(piece)) {
            return Poll::Ready(Err(inner.write_error()));
        }
        self.was_written(inner, idle, piece.len());
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = self.core.lock();
        if inner.since_turn > 0 {
            self.core.turn_locked(inner, Instant::now());
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.core.lock();
        if !inner.is_finishing() {
            if inner.closed.is_some_and(|reason| reason != CloseReason::Ended) {
                return Poll::Ready(Err(inner.write_error()));
            }
            inner.finish();
            self.core.turn_locked(inner, Instant::now());
        }
        Poll::Ready(Ok(()))
    }
}

impl Inner {
    /// Nothing is readable: why, or wait.
    fn poll_end(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.state.read_ended() {
            return Poll::Ready(Ok(()));
        }
        match self.closed {
            None => {
                register(&mut self.reader, cx);
                Poll::Pending
            }
            Some(CloseReason::Ended) => Poll::Ready(Ok(())),
            Some(reason) => Poll::Ready(Err(broken(reason))),
        }
    }

    /// How many bytes may be written; never 0.
    fn poll_room(&mut self, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        if self.closed.is_some() || self.is_finishing() {
            return Poll::Ready(Err(self.write_error()));
        }
        match self.state.writable() {
            0 => {
                register(&mut self.writer, cx);
                Poll::Pending
            }
            room => Poll::Ready(Ok(room)),
        }
    }

    fn write_error(&self) -> io::Error {
        match self.closed {
            Some(reason) if reason != CloseReason::Ended => broken(reason),
            _ => io::Error::new(io::ErrorKind::BrokenPipe, "this side of the stream has ended"),
        }
    }
}

fn broken(reason: CloseReason) -> io::Error {
    match reason {
        CloseReason::Ended => io::Error::new(io::ErrorKind::BrokenPipe, "the stream has ended"),
        CloseReason::Destroyed => {
            io::Error::new(io::ErrorKind::ConnectionAborted, "the stream was destroyed on this side")
        }
        CloseReason::Reset => {
            io::Error::new(io::ErrorKind::ConnectionReset, "the remote destroyed the stream")
        }
        CloseReason::TimedOut => {
            io::Error::new(io::ErrorKind::TimedOut, "the remote of the stream acknowledges nothing any more")
        }
    }
}

fn register(slot: &mut Option<Waker>, cx: &Context<'_>) {
    if !slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        *slot = Some(cx.waker().clone());
    }
}
