//! A stream as its user holds it.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::error::{SendError, UdxError};
use super::instance::{Instance, StreamOptions};
use super::socket::UdxSocket;
use crate::stream::{CloseReason, Stats};

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
/// Reads and writes wait until the stream is connected. `shutdown` is a half close: what was written arrives, then the
/// remote reads the end, while it may go on writing.
///
/// # Dropping
///
/// A dropped stream still sends what was written (for [`LINGER`] at most; what the remote still writes is discarded),
/// then it is destroyed, which the remote sees as a reset unless both sides had finished. [`UdxHandle::destroy`] does not
/// wait.
#[derive(Debug)]
pub struct UdxStream {
    core: Arc<StreamCore>,
}

/// How long a dropped stream goes on sending what was written.
pub const LINGER: Duration = Duration::from_secs(10);

/// A look at a stream from beside: does not keep it open, stays valid after its end.
#[derive(Debug, Clone)]
pub struct UdxHandle {
    core: Arc<StreamCore>,
}

#[derive(Debug)]
pub(super) struct StreamCore {}

impl UdxStream {
    pub(super) fn new(_instance: &Arc<Instance>, _options: StreamOptions) -> Result<Self, UdxError> {
        unimplemented!()
    }

    /// The id by which the remote addresses this stream.
    pub fn local_id(&self) -> u32 {
        unimplemented!()
    }

    /// Connects the stream to the stream `remote_id` at `remote`, through `socket`. No packet is needed for that: each
    /// side must know the id of the other.
    pub fn connect(&self, socket: &UdxSocket, remote_id: u32, remote: SocketAddr) -> Result<(), UdxError> {
        let _ = (socket, remote_id, remote);
        unimplemented!()
    }

    /// Asks `firewall` about every packet for this stream that comes through a socket which it is not connected on;
    /// that is every packet before [`UdxStream::connect`]. It may connect the stream itself (through a
    /// [`UdxHandle`]). Without one such packets are refused.
    ///
    /// It runs in the task of the socket and must not block.
    pub fn set_firewall(&self, firewall: impl FnMut(&UdxSocket, SocketAddr) -> Firewall + Send + 'static) {
        let _ = firewall;
        unimplemented!()
    }

    /// Sends a message: unordered, not repeated when lost, one datagram.
    pub fn send_message(&self, message: Bytes) -> Result<(), SendError> {
        let _ = message;
        unimplemented!()
    }

    /// The next message; `None` when the stream is closed. The newest of those that nobody took are kept.
    pub async fn recv_message(&self) -> Option<Bytes> {
        unimplemented!()
    }

    /// Reads without a copy: the next piece in order; `None` at the end.
    pub async fn read_chunk(&mut self) -> io::Result<Option<Bytes>> {
        poll_fn(|cx| self.poll_read_chunk(cx)).await
    }

    /// [`UdxStream::read_chunk`] for those who write their own futures.
    pub fn poll_read_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let _ = cx;
        unimplemented!()
    }

    /// Writes all of `bytes` without a copy, as soon as the send buffer has room for anything.
    pub async fn write_chunk(&mut self, bytes: Bytes) -> io::Result<()> {
        let _ = bytes;
        unimplemented!()
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

    /// From now on every packet that comes for this stream is forwarded to the remote of `other`. The packets' content
    /// stays between the two ends; destroying either end's stream closes this one.
    pub fn relay_to(&self, other: &UdxStream) -> Result<(), UdxError> {
        let _ = other;
        unimplemented!()
    }

    /// A handle to look at the stream from elsewhere.
    pub fn handle(&self) -> UdxHandle {
        UdxHandle { core: Arc::clone(&self.core) }
    }
}

impl AsyncRead for UdxStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let _ = (cx, buf);
        unimplemented!()
    }
}

impl AsyncWrite for UdxStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let _ = (cx, buf);
        unimplemented!()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = cx;
        unimplemented!()
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = cx;
        unimplemented!()
    }
}

impl UdxHandle {
    /// The id by which the remote addresses this stream.
    pub fn local_id(&self) -> u32 {
        unimplemented!()
    }

    /// The id of the remote's stream; `None` before the stream is connected.
    pub fn remote_id(&self) -> Option<u32> {
        unimplemented!()
    }

    /// Where the remote is; `None` before the stream is connected.
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        unimplemented!()
    }

    /// The socket that the stream sends through; `None` before the stream is connected.
    pub fn socket(&self) -> Option<UdxSocket> {
        unimplemented!()
    }

    /// [`UdxStream::connect`] from elsewhere, such as from a firewall.
    pub fn connect(&self, socket: &UdxSocket, remote_id: u32, remote: SocketAddr) -> Result<(), UdxError> {
        let _ = (socket, remote_id, remote);
        unimplemented!()
    }

    /// [`UdxStream::change_remote`] from elsewhere.
    pub async fn change_remote(
        &self,
        socket: &UdxSocket,
        remote_id: u32,
        remote: SocketAddr,
    ) -> Result<(), UdxError> {
        let _ = (socket, remote_id, remote);
        unimplemented!()
    }

    /// Sends a heartbeat whenever the stream was idle for so long, as npm's `setKeepalive`; `None` sends none.
    pub fn set_keepalive(&self, interval: Option<Duration>) {
        let _ = interval;
        unimplemented!()
    }

    /// Closes the stream at once; the remote is told, what was not sent is lost.
    pub fn destroy(&self) {
        unimplemented!()
    }

    /// Round trip time, congestion window, MTU, bytes and packets so far...
    pub fn stats(&self) -> Stats {
        unimplemented!()
    }

    /// Whether the stream is connected.
    pub fn is_connected(&self) -> bool {
        unimplemented!()
    }

    /// Returns when the stream is connected; false if it closes before.
    pub async fn connected(&self) -> bool {
        unimplemented!()
    }

    /// Returns when the stream is closed.
    pub async fn closed(&self) -> CloseReason {
        unimplemented!()
    }

    /// How the stream ended; `None` while it is open.
    pub fn close_reason(&self) -> Option<CloseReason> {
        unimplemented!()
    }
}
