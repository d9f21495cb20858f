//! A stream seen from beside.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::core::{Inner, StreamCore};
use super::error::{SendError, UdxError};
use super::socket::UdxSocket;
use crate::stream::{CloseReason, Stats};

/// A look at a stream from beside: does not keep it open, stays valid after its end.
#[derive(Debug, Clone)]
pub struct UdxHandle {
    pub(super) core: Arc<StreamCore>,
}

impl UdxHandle {
    /// The id by which the remote addresses this stream.
    pub fn local_id(&self) -> u32 {
        self.core.local_id
    }

    /// The id of the remote's stream; `None` before the stream is connected.
    pub fn remote_id(&self) -> Option<u32> {
        self.core.lock().state.path().map(|path| path.remote_id)
    }

    /// Where the remote is; `None` before the stream is connected.
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.core.lock().state.path().map(|path| path.remote)
    }

    /// Where the remote is, as soon as that is somewhere else than at `known` (anywhere, with `None`). `None` when the
    /// stream closes.
    pub async fn remote_addr_other_than(&self, known: Option<SocketAddr>) -> Option<SocketAddr> {
        self.until(|inner| {
            let address = inner.state.path().map(|path| path.remote);
            match inner.closed {
                Some(_) => Some(None),
                None => (address.is_some() && address != known).then_some(address),
            }
        })
        .await
    }

    /// The socket that the stream sends through; `None` before the stream is connected.
    pub fn socket(&self) -> Option<UdxSocket> {
        self.core.lock().socket().map(UdxSocket::of)
    }

    /// [`UdxStream::connect`](super::UdxStream::connect) from elsewhere, such as from a firewall.
    pub fn connect(&self, socket: &UdxSocket, remote_id: u32, remote: SocketAddr) -> Result<(), UdxError> {
        self.core.connect(socket, remote_id, remote)
    }

    /// [`UdxStream::change_remote`](super::UdxStream::change_remote) from elsewhere.
    pub async fn change_remote(
        &self,
        socket: &UdxSocket,
        remote_id: u32,
        remote: SocketAddr,
    ) -> Result<(), UdxError> {
        self.core.change_remote(socket, remote_id, remote)?;
        let moved = self.until(|inner| (!inner.moving || inner.closed.is_some()).then_some(inner.closed));
        match moved.await {
            None => Ok(()),
            Some(_) => Err(UdxError::StreamClosed(self.core.local_id)),
        }
    }

    /// [`UdxStream::send_message`](super::UdxStream::send_message) from elsewhere.
    pub fn send_message(&self, message: Bytes) -> Result<(), SendError> {
        self.core.send_message(message)
    }

    /// Sends a heartbeat whenever the stream was idle for so long, as npm's `setKeepalive`; `None` sends none.
    pub fn set_keepalive(&self, interval: Option<Duration>) {
        let now = Instant::now();
        let mut inner = self.core.lock();
        inner.state.set_keep_alive(interval, now);
        self.core.turn_locked(inner, now);
    }

    /// Closes the stream at once; the remote is told, what was not sent is lost.
    pub fn destroy(&self) {
        self.core.destroy();
    }

    /// Round trip time, congestion window, MTU, bytes and packets so far.
    pub fn stats(&self) -> Stats {
        self.core.lock().state.stats()
    }

    /// Returns when `wanted` holds for [`stats`](Self::stats), which are looked at whenever something came or went; false
    /// if the stream closes before.
    pub async fn stats_until(&self, mut wanted: impl FnMut(&Stats) -> bool) -> bool {
        self.until(|inner| {
            if wanted(&inner.state.stats()) {
                return Some(true);
            }
            inner.watched = true;
            inner.closed.map(|_| false)
        })
        .await
    }

    /// Whether the stream was connected.
    pub fn is_connected(&self) -> bool {
        self.core.lock().state.is_connected()
    }

    /// Returns when the stream is connected; false if it closes before.
    pub async fn connected(&self) -> bool {
        self.until(|inner| match inner.state.is_connected() {
            true => Some(true),
            false => inner.closed.map(|_| false),
        })
        .await
    }

    /// Returns when everything that was written is acknowledged; false if the stream closes before.
    pub async fn flushed(&self) -> bool {
        self.until(|inner| {
            if inner.state.unacknowledged() == 0 {
                return Some(true);
            }
            inner.flushing = true;
            inner.closed.map(|_| false)
        })
        .await
    }

    /// Returns when the stream is closed.
    pub async fn closed(&self) -> CloseReason {
        self.until(|inner| inner.closed).await
    }

    /// How the stream ended; `None` while it is open.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.core.lock().closed
    }

    async fn until<T>(&self, mut what: impl FnMut(&mut Inner) -> Option<T>) -> T {
        loop {
            let changed = self.core.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that what happens in between wakes us.
            changed.as_mut().enable();
            if let Some(seen) = what(&mut self.core.lock()) {
                return seen;
            }
            changed.await;
        }
    }
}
