//! One UDP socket: plain datagrams for its user, packets for the streams of the instance.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::Notify;

use super::address::outward;
use super::error::SendError;
use super::inbox::{Datagram, Inbox};
use super::instance::Instance;
use super::io::Io;
use super::outbox::{Outbox, Outgoing};
use super::schedule::Schedule;
use super::socket_task::SocketTask;

/// The time to live of ordinary datagrams, as libudx sets it (`UDX_DEFAULT_TTL`).
const DEFAULT_TTL: u8 = 64;
/// Asked of the kernel for the way in; it may grant less. libudx asks for 1 MiB.
const RECV_BUFFER: usize = 4 << 20;
/// Asked of the kernel for the way out. libudx asks for 208 KiB; we hand it 64 KiB at a time.
const SEND_BUFFER: usize = 1 << 20;
/// The most an IPv4 datagram holds.
const MAX_DATAGRAM: usize = 65_507;

/// A bound UDP socket of an instance. Clones are handles of the same socket.
///
/// The socket closes when [`UdxSocket::close`] was called, or the last handle is dropped, and no stream uses it any more.
/// Until then it keeps receiving.
pub struct UdxSocket {
    pub(super) core: Arc<SocketCore>,
}

/// Counters of a socket since it was bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SocketStats {
    /// UDP payload bytes that came in.
    pub bytes_received: u64,
    /// Datagrams that came in.
    pub datagrams_received: u64,
    /// UDP payload bytes that went out.
    pub bytes_sent: u64,
    /// Datagrams that went out.
    pub datagrams_sent: u64,
    /// Datagrams for the user that were dropped, oldest first, because nobody took them.
    pub datagrams_dropped: u64,
    /// Calls of the kernel that sent something, each up to 64 datagrams.
    pub sends: u64,
    /// Calls of the kernel that read something.
    pub receives: u64,
}

impl UdxSocket {
    pub(super) fn bind(instance: &Arc<Instance>, address: SocketAddr) -> io::Result<Self> {
        let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            // One socket for both families, as udx-native binds `::`.
            let _ = socket.set_only_v6(false);
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let io = Io::new(socket.into(), address.is_ipv6())?;
        io.set_buffers(RECV_BUFFER, SEND_BUFFER);
        io.set_ttl(DEFAULT_TTL);

        let core = Arc::new(SocketCore {
            id: instance.next_socket(),
            instance: Arc::clone(instance),
            local_addr: io.local_addr()?,
            io: RwLock::new(Some(Arc::new(io))),
            ttl_gate: RwLock::new(()),
            ttl: AtomicU8::new(DEFAULT_TTL),
            inbox: Inbox::default(),
            outbox: Mutex::default(),
            schedule: Schedule::default(),
            closing: AtomicBool::new(false),
            handles: AtomicUsize::new(1),
            streams: AtomicUsize::new(0),
            closed: Notify::new(),
            counters: Counters::default(),
        });
        runtime.spawn(SocketTask::new(Arc::clone(&core)));
        Ok(Self { core })
    }

    /// The address that the socket is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.core.local_addr
    }

    /// Sends a datagram. Never blocks: what the kernel does not take at once waits in a bounded queue.
    pub fn send(&self, payload: Bytes, to: SocketAddr) -> Result<(), SendError> {
        self.core.send_datagram(payload, to, None)
    }

    /// Sends a datagram that dies after `ttl` hops: it opens the NATs on our side without reaching those beyond.
    /// 0 means the time to live of the socket.
    pub fn send_ttl(&self, payload: Bytes, to: SocketAddr, ttl: u8) -> Result<(), SendError> {
        self.core.send_datagram(payload, to, (ttl != 0).then_some(ttl))
    }

    /// Changes the time to live of everything this socket sends. 0 is taken as 1.
    pub fn set_ttl(&self, ttl: u8) {
        let ttl = ttl.max(1);
        self.core.ttl.store(ttl, Ordering::Relaxed);
        let _alone = self.core.ttl_gate.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(io) = self.core.io() {
            io.set_ttl(ttl);
        }
    }

    /// The next datagram that is no packet of a known stream; `None` when the socket is closed.
    ///
    /// Up to 4,096 datagrams and 4 MiB wait for the call; then the oldest are dropped and counted
    /// ([`SocketStats::datagrams_dropped`]). Cancel safe. Several may wait; each datagram goes to one of them.
    pub async fn recv(&self) -> Option<Datagram> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// [`UdxSocket::recv`] for those who write their own futures.
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Option<Datagram>> {
        self.core.inbox.poll_recv(cx)
    }

    /// Appends up to `limit` datagrams to `into` as soon as there is one; 0 when the socket is closed.
    pub async fn recv_many(&self, into: &mut Vec<Datagram>, limit: usize) -> usize {
        poll_fn(|cx| self.core.inbox.poll_recv_many(cx, into, limit)).await
    }

    /// Closes the socket as soon as no stream uses it; nothing is sent for the user any more.
    pub fn close(&self) {
        self.core.closing.store(true, Ordering::Release);
        self.core.schedule.wake();
    }

    /// Returns when the socket is closed and its port free.
    pub async fn closed(&self) {
        loop {
            let closed = self.core.closed.notified();
            tokio::pin!(closed);
            closed.as_mut().enable();
            if self.core.io().is_none() {
                return;
            }
            closed.await;
        }
    }

    /// Whether [`UdxSocket::close`] was called.
    pub fn is_closing(&self) -> bool {
        self.core.closing.load(Ordering::Acquire)
    }

    /// Whether streams use the socket.
    pub fn is_busy(&self) -> bool {
        self.core.streams.load(Ordering::Acquire) > 0
    }

    /// What came and went so far.
    pub fn stats(&self) -> SocketStats {
        self.core.counters.stats(self.core.inbox.dropped())
    }

    /// Whether both are handles of the same socket.
    pub fn same_socket(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }

    pub(super) fn of(core: &Arc<SocketCore>) -> Self {
        core.handles.fetch_add(1, Ordering::Relaxed);
        Self { core: Arc::clone(core) }
    }
}

impl Clone for UdxSocket {
    fn clone(&self) -> Self {
        Self::of(&self.core)
    }
}

impl Drop for UdxSocket {
    fn drop(&mut self) {
        if self.core.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.core.schedule.wake();
        }
    }
}

impl fmt::Debug for UdxSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdxSocket")
            .field("local_addr", &self.core.local_addr)
            .field("streams", &self.core.streams)
            .field("closing", &self.core.closing)
            .finish_non_exhaustive()
    }
}

/// What handles, streams and the task of a socket share.
#[derive(Debug)]
pub(super) struct SocketCore {
    /// Tells the sockets of an instance apart.
    pub(super) id: u64,
    pub(super) instance: Arc<Instance>,
    pub(super) local_addr: SocketAddr,
    /// `None` once the socket is closed.
    io: RwLock<Option<Arc<Io>>>,
    ttl: AtomicU8,
    /// Read around every send; written to send one datagram with a time to live of its own.
    ttl_gate: RwLock<()>,
    pub(super) inbox: Inbox,
    outbox: Mutex<Outbox>,
    pub(super) schedule: Schedule,
    closing: AtomicBool,
    handles: AtomicUsize,
    pub(super) streams: AtomicUsize,
    closed: Notify,
    pub(super) counters: Counters,
}

/// What sending came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// The kernel took it, or it is lost: UDP does not tell the difference, and neither do we.
    Gone,
    /// The kernel takes it later; the task of the socket sees to it.
    Queued,
    /// The queue is full.
    Full,
    /// The socket is closed.
    Closed,
}

impl SocketCore {
    pub(super) fn io(&self) -> Option<Arc<Io>> {
        self.io.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the runtime wake the task for what happens to the socket, or not. Only the task of the socket calls this.
    pub(super) fn set_wakes(&self, wakes: bool) -> io::Result<()> {
        let Some(before) = self.io().filter(|io| io.has_wakes() != wakes) else { return Ok(()) };
        let after = before.with_wakes(wakes)?;
        *self.io.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(after));
        Ok(())
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How this socket must name `address` to the kernel; `None` if it can not reach it.
    pub(super) fn destination(&self, address: SocketAddr) -> Option<SocketAddr> {
        let v6 = self.local_addr.is_ipv6();
        (address.port() != 0 && (v6 || address.is_ipv4())).then(|| outward(address, v6))
    }

    /// Whether nobody needs the socket any more.
    pub(super) fn is_done(&self) -> bool {
        (self.closing.load(Ordering::Acquire) || self.handles.load(Ordering::Acquire) == 0)
            && self.streams.load(Ordering::Acquire) == 0
    }

    /// Gives the port back and ends those who wait. Only the task of the socket calls this.
    pub(super) fn shut(&self) {
        self.closing.store(true, Ordering::Release);
        *self.io.write().unwrap_or_else(PoisonError::into_inner) = None;
        *self.outbox() = Outbox::default();
        self.inbox.close();
        self.closed.notify_waiters();
        for stream in self.schedule.close() {
            stream.cut();
        }
        if self.streams.load(Ordering::Acquire) > 0 {
            // The runtime has ended, not the use of the socket: streams with nothing to do are not in the schedule.
            for stream in self.instance.all().into_iter().filter(|stream| stream.sends_through(self)) {
                stream.cut();
            }
        }
    }

    /// Packets of one size that the kernel takes in one call.
    pub(super) fn max_segments(&self) -> usize {
        self.io().map_or(1, |io| io.max_gso_segments())
    }

    fn send_datagram(&self, payload: Bytes, to: SocketAddr, ttl: Option<u8>) -> Result<(), SendError> {
        if self.closing.load(Ordering::Acquire) {
            return Err(SendError::Closed);
        }
        if payload.len() > MAX_DATAGRAM {
            return Err(SendError::TooLarge { len: payload.len(), max: MAX_DATAGRAM });
        }
        let to = self.destination(to).ok_or(SendError::BadAddress(to))?;
        let sent = match ttl {
            None => self.send_now(&payload, None, to),
            Some(ttl) => self.send_now_ttl(&payload, to, ttl),
        };
        let sent = match sent {
            None => self.send_later(Outgoing { contents: payload, segment: None, to, ttl }),
            Some(sent) => sent,
        };
        match sent {
            Sent::Gone | Sent::Queued => Ok(()),
            Sent::Full => Err(SendError::Full),
            Sent::Closed => Err(SendError::Closed),
        }
    }

    /// Sends packets of a stream, or keeps a copy for later. `to` is as the kernel wants it.
    pub(super) fn send_packets(&self, contents: &[u8], segment: Option<usize>, to: SocketAddr) -> Sent {
        match self.send_now(contents, segment, to) {
            Some(sent) => sent,
            None => {
                let contents = Bytes::copy_from_slice(contents);
                self.send_later(Outgoing { contents, segment, to, ttl: None })
            }
        }
    }

    /// Whether something waits for the kernel: streams then keep what they have.
    pub(super) fn is_blocked(&self) -> bool {
        !self.outbox().is_empty()
    }

    /// Sends what waits; false when the kernel still takes nothing.
    pub(super) fn flush(&self) -> bool {
        // The lock is held over the calls, so that nobody overtakes what is taken out.
        let mut outbox = self.outbox();
        while let Some(next) = outbox.front() {
            let sent = match next.ttl {
                None => {
                    let Some(io) = self.io() else { return true };
                    let _shared = self.ttl_gate.read().unwrap_or_else(PoisonError::into_inner);
                    self.counted(&io, &next.contents, next.segment, next.to)
                }
                Some(ttl) => self.send_now_ttl(&next.contents, next.to, ttl).is_some(),
            };
            if !sent {
                return false;
            }
            outbox.pop();
        }
        true
    }

    /// `None`: not now, something else waits or the kernel takes nothing.
    fn send_now(&self, contents: &[u8], segment: Option<usize>, to: SocketAddr) -> Option<Sent> {
        if self.is_blocked() {
            return None;
        }
        let Some(io) = self.io() else { return Some(Sent::Closed) };
        let _shared = self.ttl_gate.read().unwrap_or_else(PoisonError::into_inner);
        self.counted(&io, contents, segment, to).then_some(Sent::Gone)
    }

    /// The time to live is a setting of the socket, so nothing else may be sent meanwhile.
    fn send_now_ttl(&self, contents: &[u8], to: SocketAddr, ttl: u8) -> Option<Sent> {
        let Some(io) = self.io() else { return Some(Sent::Closed) };
        let _alone = self.ttl_gate.write().unwrap_or_else(PoisonError::into_inner);
        io.set_ttl(ttl);
        let sent = self.counted(&io, contents, None, to);
        io.set_ttl(self.ttl.load(Ordering::Relaxed));
        sent.then_some(Sent::Gone)
    }

    fn send_later(&self, outgoing: Outgoing) -> Sent {
        if !self.outbox().push(outgoing) {
            return Sent::Full;
        }
        self.schedule.wake();
        Sent::Queued
    }

    fn counted(&self, io: &Io, contents: &[u8], segment: Option<usize>, to: SocketAddr) -> bool {
        let sent = io.send(contents, segment, to);
        if sent {
            let datagrams = segment.map_or(1, |segment| contents.len().div_ceil(segment.max(1)));
            self.counters.count_sent(contents.len(), datagrams);
        }
        sent
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    bytes_received: AtomicU64,
    datagrams_received: AtomicU64,
    bytes_sent: AtomicU64,
    datagrams_sent: AtomicU64,
    sends: AtomicU64,
    receives: AtomicU64,
}

impl Counters {
    fn count_sent(&self, bytes: usize, datagrams: usize) {
        self.bytes_sent.fetch_add(bytes as u64, Ordering::Relaxed);
        self.datagrams_sent.fetch_add(datagrams as u64, Ordering::Relaxed);
        self.sends.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_received(&self, bytes: usize, datagrams: usize) {
        self.bytes_received.fetch_add(bytes as u64, Ordering::Relaxed);
        self.datagrams_received.fetch_add(datagrams as u64, Ordering::Relaxed);
    }

    pub(super) fn count_receive(&self) {
        self.receives.fetch_add(1, Ordering::Relaxed);
    }

    fn stats(&self, datagrams_dropped: u64) -> SocketStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SocketStats {
            bytes_received: read(&self.bytes_received),
            datagrams_received: read(&self.datagrams_received),
            bytes_sent: read(&self.bytes_sent),
            datagrams_sent: read(&self.datagrams_sent),
            datagrams_dropped,
            sends: read(&self.sends),
            receives: read(&self.receives),
        }
    }
}
