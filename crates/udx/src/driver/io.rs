//! The socket of the system, with or without the runtime's wake-ups.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
use socket2::SockRef;
use tokio::io::Interest;

/// The socket of the system.
#[derive(Debug)]
pub(super) struct Io {
    udp: Udp,
    state: Arc<UdpSocketState>,
    v6: bool,
}

#[derive(Debug)]
enum Udp {
    /// The runtime wakes the task for whatever happens.
    Woken(tokio::net::UdpSocket),
    /// Nobody is woken: who wants to know looks.
    Silent(std::net::UdpSocket),
}

impl Io {
    /// `socket` must not block. To be called within the runtime.
    pub(super) fn new(socket: std::net::UdpSocket, v6: bool) -> io::Result<Self> {
        let state = Arc::new(UdpSocketState::new((&socket).into())?);
        Ok(Self { udp: Udp::Woken(tokio::net::UdpSocket::from_std(socket)?), state, v6 })
    }

    /// The same socket with wake-ups, or without. To be called within the runtime.
    pub(super) fn with_wakes(&self, wakes: bool) -> io::Result<Self> {
        let socket = match &self.udp {
            Udp::Woken(udp) => SockRef::from(udp).try_clone()?,
            Udp::Silent(udp) => SockRef::from(udp).try_clone()?,
        };
        let socket = std::net::UdpSocket::from(socket);
        let udp = match wakes {
            true => Udp::Woken(tokio::net::UdpSocket::from_std(socket)?),
            false => Udp::Silent(socket),
        };
        Ok(Self { udp, state: Arc::clone(&self.state), v6: self.v6 })
    }

    pub(super) fn has_wakes(&self) -> bool {
        matches!(self.udp, Udp::Woken(_))
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.udp {
            Udp::Woken(udp) => udp.local_addr(),
            Udp::Silent(udp) => udp.local_addr(),
        }
    }

    /// Buffers of the kernel; it may grant less, which costs throughput, not correctness.
    pub(super) fn set_buffers(&self, receive: usize, send: usize) {
        let _ = self.state.set_recv_buffer_size(self.socket(), receive);
        let _ = self.state.set_send_buffer_size(self.socket(), send);
    }

    pub(super) fn max_gso_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn socket(&self) -> UdpSockRef<'_> {
        match &self.udp {
            Udp::Woken(udp) => udp.into(),
            Udp::Silent(udp) => udp.into(),
        }
    }

    /// Ready without wake-ups: then only trying tells.
    pub(super) fn poll_recv_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.udp {
            Udp::Woken(udp) => udp.poll_recv_ready(cx).map(|_| ()),
            Udp::Silent(_) => Poll::Ready(()),
        }
    }

    pub(super) fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.udp {
            Udp::Woken(udp) => udp.poll_send_ready(cx).map(|_| ()),
            Udp::Silent(_) => Poll::Ready(()),
        }
    }

    /// Has `read` read; `WouldBlock` when there is nothing.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&UdpSocketState, UdpSockRef<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        match &self.udp {
            Udp::Woken(udp) => udp.try_io(Interest::READABLE, || read(&self.state, udp.into())),
            Udp::Silent(udp) => read(&self.state, udp.into()),
        }
    }

    /// False if the kernel takes nothing now. Every other error loses the datagrams, as the network may.
    pub(super) fn send(&self, contents: &[u8], segment: Option<usize>, destination: SocketAddr) -> bool {
        let transmit = Transmit { destination, ecn: None, contents, segment_size: segment, src_ip: None };
        let sent = match &self.udp {
            Udp::Woken(udp) => udp.try_io(Interest::WRITABLE, || self.state.try_send(udp.into(), &transmit)),
            Udp::Silent(udp) => self.state.try_send(udp.into(), &transmit),
        };
        match sent {
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => false,
            Err(err) => {
                tracing::trace!(%destination, len = contents.len(), %err, "datagrams not sent");
                true
            }
            Ok(()) => true,
        }
    }

    pub(super) fn set_ttl(&self, ttl: u8) {
        let socket = match &self.udp {
            Udp::Woken(udp) => SockRef::from(udp),
            Udp::Silent(udp) => SockRef::from(udp),
        };
        if self.v6 {
            let _ = socket.set_unicast_hops_v6(u32::from(ttl));
        }
        // Also for IPv6: mapped addresses go out as IPv4.
        let _ = socket.set_ttl_v4(u32::from(ttl));
    }
}
