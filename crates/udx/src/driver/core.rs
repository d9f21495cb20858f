//! A stream between its user, the sockets and the state machine.

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;

use super::error::{SendError, UdxError};
use super::instance::Instance;
use super::socket::{Sent, SocketCore, UdxSocket};
use super::stream::Firewall;
use super::window::Window;
use crate::stream::{CloseReason, Config, Event, MessageError, Path, StreamState};

/// How long a dropped stream goes on sending what was written.
pub const LINGER: Duration = Duration::from_secs(10);

/// Room in the send buffer at which a waiting writer is woken: not for every acknowledged packet.
const WRITER_ROOM: usize = 64 << 10;
/// Most bytes of one call of the kernel.
pub(super) const MAX_TRAIN: usize = 65_507;

thread_local! {
    /// Packets between the state machine and the kernel.
    static TRAIN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What a firewall is, inside.
type FirewallFn = Box<dyn FnMut(&UdxSocket, SocketAddr) -> Firewall + Send>;

pub(super) struct StreamCore {
    pub(super) local_id: u32,
    pub(super) instance: Arc<Instance>,
    inner: Mutex<Inner>,
    /// Taken out while it runs, so that it may call anything.
    firewall: Mutex<Option<FirewallFn>>,
    /// The stream connected, moved, flushed or closed.
    pub(super) changed: Notify,
}

pub(super) struct Inner {
    pub(super) state: StreamState,
    /// Where the stream is connected, then where it was while packets of there are under way.
    sockets: Vec<SocketUse>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    pub(super) messages: Option<Waker>,
    /// The rest of what was read from the state machine.
    pub(super) left: Bytes,
    /// The timer in the schedule of the first socket.
    armed: Option<Instant>,
    /// In the list of the streams that get a turn soon.
    scheduled: bool,
    /// A burst brought packets; a turn follows.
    pub(super) touched: bool,
    /// Bytes that were written, or read, since the last turn.
    pub(super) since_turn: usize,
    /// A change of the remote is under way.
    pub(super) moving: bool,
    pub(super) closed: Option<CloseReason>,
    /// The user is gone: how long we still try to bring out what was written.
    linger_until: Option<Instant>,
    /// The user finished before it went: the remote may still want to.
    finishing: bool,
    pub(super) relay_to: Option<Arc<StreamCore>>,
    relayed_by: Vec<Arc<StreamCore>>,
    /// A message came that nobody was told of.
    pub(super) messaged: bool,
    /// Somebody waits until everything written is acknowledged.
    pub(super) flushing: bool,
    /// Somebody wants to look at the figures after the next turn.
    pub(super) watched: bool,
    /// Packets that one call of the kernel takes, if they are as large as they may become.
    max_segments: usize,
    window: Window,
}

/// A stream's use of a socket: keeps the socket from closing while it counts.
struct SocketUse {
    core: Arc<SocketCore>,
    counts: bool,
}

impl SocketUse {
    fn new(core: &Arc<SocketCore>) -> Self {
        core.streams.fetch_add(1, Ordering::AcqRel);
        Self { core: Arc::clone(core), counts: true }
    }

    fn release(&mut self) {
        if std::mem::replace(&mut self.counts, false) && self.core.streams.fetch_sub(1, Ordering::AcqRel) == 1
        {
            self.core.schedule.wake();
        }
    }
}

impl Drop for SocketUse {
    fn drop(&mut self) {
        self.release();
    }
}

/// What has to happen once the lock of the stream is free again.
#[derive(Default)]
struct After {
    wakers: [Option<Waker>; 3],
    notify: bool,
    closed: bool,
    forget: bool,
    destroy: Vec<Arc<StreamCore>>,
}

impl StreamCore {
    pub(super) fn new(local_id: u32, instance: &Arc<Instance>, config: Config) -> Self {
        let window = Window::new(config.receive_window, Instant::now());
        let max_segments = (MAX_TRAIN / usize::from(config.max_mtu.max(1))).max(1);
        let inner = Inner {
            state: StreamState::new(local_id, config, Instant::now()),
            sockets: Vec::new(),
            reader: None,
            writer: None,
            messages: None,
            left: Bytes::new(),
            armed: None,
            scheduled: false,
            touched: false,
            since_turn: 0,
            moving: false,
            closed: None,
            linger_until: None,
            finishing: false,
            relay_to: None,
            relayed_by: Vec::new(),
            messaged: false,
            flushing: false,
            watched: false,
            max_segments,
            window,
        };
        Self {
            local_id,
            instance: Arc::clone(instance),
            inner: Mutex::new(inner),
            firewall: Mutex::new(None),
            changed: Notify::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_firewall(&self, firewall: FirewallFn) {
        *self.firewall.lock().unwrap_or_else(PoisonError::into_inner) = Some(firewall);
    }

    /// Asks the firewall; without one, or while it runs on another thread, the packet is refused.
    pub(super) fn ask_firewall(&self, socket: &Arc<SocketCore>, from: SocketAddr) -> Firewall {
        let slot = || self.firewall.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut firewall) = slot().take() else { return Firewall::Refuse };
        let verdict = firewall(&UdxSocket::of(socket), from);
        let open = self.lock().closed.is_none();
        let mut slot = slot();
        if slot.is_none() && open {
            *slot = Some(firewall);
        }
        verdict
    }

    /// What it captured goes with it, such as the last handle of a socket. Not to be called with a lock held.
    fn drop_firewall(&self) {
        let firewall = self.firewall.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(firewall);
    }

    pub(super) fn connect(
        self: &Arc<Self>,
        socket: &UdxSocket,
        remote_id: u32,
        remote: SocketAddr,
    ) -> Result<(), UdxError> {
        let (path, mut inner) = self.towards(socket, remote_id, remote)?;
        if !inner.state.connect(path, Instant::now()) {
            return Err(UdxError::AlreadyConnected(self.local_id));
        }
        inner.sockets.insert(0, SocketUse::new(&socket.core));
        drop(inner);
        self.changed.notify_waiters();
        // Not on this thread: a firewall may have called us from within the task of the socket.
        self.schedule();
        Ok(())
    }

    /// Begins the move; whether it is over is seen in `moving`.
    pub(super) fn change_remote(
        self: &Arc<Self>,
        socket: &UdxSocket,
        remote_id: u32,
        remote: SocketAddr,
    ) -> Result<(), UdxError> {
        let (path, mut inner) = self.towards(socket, remote_id, remote)?;
        if !inner.state.change_remote(path, Instant::now()) {
            return Err(UdxError::NotConnected(self.local_id));
        }
        inner.moving = true;
        let current = inner.sockets.first().map(|used| used.core.id);
        if current != Some(socket.core.id) {
            if let (Some(at), Some(old)) = (inner.armed.take(), inner.sockets.first()) {
                old.core.schedule.disarm(self, at);
            }
            inner.sockets.retain(|used| used.core.id != socket.core.id);
            inner.sockets.insert(0, SocketUse::new(&socket.core));
            inner.scheduled = false;
        }
        drop(inner);
        self.changed.notify_waiters();
        self.turn(Instant::now());
        Ok(())
    }

    /// A path that the stream can take, and the stream, if it is not closed.
    fn towards(
        &self,
        socket: &UdxSocket,
        remote_id: u32,
        remote: SocketAddr,
    ) -> Result<(Path, MutexGuard<'_, Inner>), UdxError> {
        if !Arc::ptr_eq(&socket.core.instance, &self.instance) {
            return Err(UdxError::OtherInstance(self.local_id));
        }
        if socket.is_closing() {
            return Err(UdxError::SocketClosed(socket.local_addr()));
        }
        if socket.core.destination(remote).is_none() {
            return Err(UdxError::BadAddress(remote));
        }
        let inner = self.lock();
        if inner.closed.is_some() {
            return Err(UdxError::StreamClosed(self.local_id));
        }
        Ok((Path { remote_id, remote, socket: socket.core.id, link_mtu: None }, inner))
    }

    pub(super) fn destroy(self: &Arc<Self>) {
        let now = Instant::now();
        self.lock().state.destroy(now);
        self.turn(now);
    }

    pub(super) fn send_message(self: &Arc<Self>, message: Bytes) -> Result<(), SendError> {
        let mut inner = self.lock();
        inner.state.send_message(message).map_err(|err| match err {
            MessageError::TooLarge { length, limit } => SendError::TooLarge { len: length, max: limit },
            MessageError::Full => SendError::Full,
            MessageError::NotConnected => SendError::NotConnected,
        })?;
        self.turn_locked(inner, Instant::now());
        Ok(())
    }

    /// The user is gone. See [`UdxStream`](super::UdxStream).
    pub(super) fn abandon(self: &Arc<Self>) {
        let now = Instant::now();
        self.drop_firewall();
        let mut inner = self.lock();
        if inner.state.is_connected() && inner.closed.is_none() {
            inner.linger_until = Some(now + LINGER);
        } else {
            inner.state.destroy(now);
        }
        inner.left = Bytes::new();
        drop(inner);
        self.turn(now);
    }

    /// Whether this is the socket that it is connected through.
    pub(super) fn sends_through(&self, socket: &SocketCore) -> bool {
        self.lock().socket().is_some_and(|used| used.id == socket.id)
    }

    /// The task of the only socket is gone: nothing can come or go any more.
    pub(super) fn cut(self: &Arc<Self>) {
        let mut inner = self.lock();
        inner.window.give_back(&self.instance.windows);
        inner.state.destroy(Instant::now());
        while let Some(event) = inner.state.poll_event() {
            if let Event::Closed(reason) = event {
                inner.closed = Some(reason);
            }
        }
        let mut after = After { notify: true, forget: true, ..After::default() };
        inner.let_go(&mut after);
        drop(inner);
        self.run(after);
    }

    /// The user took `read` bytes: whether the window holds the remote back.
    pub(super) fn grow_window(&self, inner: &mut Inner, read: usize) {
        if let Some(bytes) = inner.window.read(read, &self.instance.windows, Instant::now) {
            inner.state.set_receive_window(bytes);
        }
    }

    fn shrink_window(&self, inner: &mut Inner, now: Instant) {
        let Inner { window, state, .. } = inner;
        if let Some(bytes) =
            window.unused(&self.instance.windows, now, |bytes| state.fits_receive_window(bytes))
        {
            state.set_receive_window(bytes);
        }
    }

    pub(super) fn relay_to(self: &Arc<Self>, target: &Arc<Self>) -> Result<(), UdxError> {
        if !Arc::ptr_eq(&self.instance, &target.instance) {
            return Err(UdxError::OtherInstance(self.local_id));
        }
        let mut inner = self.lock();
        if inner.closed.is_some() {
            return Err(UdxError::StreamClosed(self.local_id));
        }
        if inner.state.is_relayed() {
            return Err(UdxError::AlreadyRelayed(self.local_id));
        }
        inner.state.set_relayed();
        inner.relay_to = Some(Arc::clone(target));
        drop(inner);
        let mut other = target.lock();
        if other.closed.is_some() {
            drop(other);
            self.destroy();
            return Err(UdxError::StreamClosed(target.local_id));
        }
        other.relayed_by.push(Arc::clone(self));
        Ok(())
    }

    /// Where packets that are relayed to this stream go: the socket, the remote's id, its address.
    pub(super) fn relay_path(&self) -> Option<(Arc<SocketCore>, u32, SocketAddr)> {
        let inner = self.lock();
        let path = inner.state.path()?;
        let socket = inner.sockets.first()?;
        let to = socket.core.destination(path.remote)?;
        Some((Arc::clone(&socket.core), path.remote_id, to))
    }

    /// Has the task of the socket give this stream a turn, soon.
    pub(super) fn schedule(self: &Arc<Self>) {
        let mut inner = self.lock();
        self.schedule_locked(&mut inner);
    }

    pub(super) fn schedule_locked(self: &Arc<Self>, inner: &mut Inner) {
        if !inner.scheduled
            && let Some(socket) = inner.sockets.first()
        {
            inner.scheduled = socket.core.schedule.ready(self);
        }
    }

    /// [`StreamCore::turn`] for the task of a socket.
    pub(super) fn turn_scheduled(self: &Arc<Self>, now: Instant, timer: bool) {
        let mut inner = self.lock();
        if timer {
            inner.armed = None;
        } else {
            inner.scheduled = false;
        }
        self.turn_locked(inner, now);
    }

    /// Lets the state machine do what is due, sends what it has, and tells everybody concerned.
    pub(super) fn turn(self: &Arc<Self>, now: Instant) {
        self.turn_locked(self.lock(), now);
    }

    pub(super) fn turn_locked(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner>, now: Instant) {
        let mut after = After::default();
        inner.touched = false;
        inner.since_turn = 0;
        if inner.state.next_deadline().is_some_and(|deadline| deadline <= now) {
            inner.state.handle_timeout(now);
        }
        if inner.linger_until.is_some() {
            inner.linger(now);
        }
        self.shrink_window(&mut inner, now);
        self.transmit(&mut inner, now);
        self.events(&mut inner, &mut after);
        if inner.linger_until.is_some() && inner.closed.is_none() {
            inner.linger(now);
            if inner.state.is_closed() {
                self.transmit(&mut inner, now);
                self.events(&mut inner, &mut after);
            }
        }
        inner.wake(&mut after);
        self.rearm(&mut inner);
        if inner.closed.is_some() && (inner.state.is_drained() || inner.sockets.is_empty()) {
            after.forget = true;
        }
        drop(inner);
        self.run(after);
    }

    fn transmit(self: &Arc<Self>, inner: &mut Inner, now: Instant) {
        TRAIN.with_borrow_mut(|train| {
            while let Some(socket) = inner.sockets.first() {
                if socket.core.is_blocked() {
                    if !inner.scheduled {
                        inner.scheduled = socket.core.schedule.blocked(self);
                    }
                    break;
                }
                let segments = socket.core.max_segments().min(inner.max_segments);
                train.clear();
                let Some(transmit) = inner.state.poll_transmit(now, segments, train) else { break };
                debug_assert!(transmit.size <= MAX_TRAIN);
                let path = transmit.path;
                let Some(used) = inner.sockets.iter().find(|used| used.core.id == path.socket) else {
                    continue;
                };
                let Some(to) = used.core.destination(path.remote) else { continue };
                let segment = (transmit.segment_size < transmit.size).then_some(transmit.segment_size);
                if let Some(contents) = train.get(..transmit.size)
                    && used.core.send_packets(contents, segment, to) == Sent::Closed
                {
                    break;
                }
            }
        });
    }

    fn events(&self, inner: &mut Inner, after: &mut After) {
        if inner.state.is_closed() {
            inner.window.give_back(&self.instance.windows);
        }
        while let Some(event) = inner.state.poll_event() {
            match event {
                Event::Finished => after.notify = true,
                Event::RemoteChanged => {
                    inner.moving = false;
                    inner.sockets.truncate(1);
                    after.notify = true;
                }
                Event::MtuChanged(mtu) => tracing::trace!(stream = self.local_id, mtu, "path MTU"),
                Event::Closed(reason) => {
                    inner.closed = Some(reason);
                    inner.let_go(after);
                    after.notify = true;
                }
            }
        }
    }

    fn rearm(self: &Arc<Self>, inner: &mut Inner) {
        let Some(socket) = inner.sockets.first() else { return };
        let linger = inner.linger_until.filter(|_| inner.closed.is_none());
        let deadlines = [inner.state.next_deadline(), linger, inner.window.deadline()];
        let deadline = deadlines.into_iter().flatten().min();
        let Some(deadline) = deadline else { return };
        // A timer that rings too early costs less than moving it with every packet.
        if inner.armed.is_none_or(|armed| deadline < armed) {
            socket.core.schedule.arm(self, inner.armed, deadline);
            inner.armed = Some(deadline);
        }
    }

    fn run(self: &Arc<Self>, after: After) {
        after.wakers.into_iter().flatten().for_each(Waker::wake);
        if after.notify {
            self.changed.notify_waiters();
        }
        if after.closed {
            self.drop_firewall();
        }
        if after.forget {
            self.instance.forget(self);
        }
        for stream in after.destroy {
            stream.destroy();
        }
    }
}

impl Inner {
    /// Whether packets that come through `socket` need not be asked about. While the stream moves, that is the old one
    /// as well (libudx asks there, too): the remote answers to it until it learns of the new one.
    pub(super) fn is_on(&self, socket: &SocketCore) -> bool {
        self.sockets.iter().any(|used| used.core.id == socket.id)
    }

    pub(super) fn socket(&self) -> Option<&Arc<SocketCore>> {
        self.sockets.first().map(|used| &used.core)
    }

    /// The user half-closed.
    pub(super) fn finish(&mut self) {
        self.finishing = true;
        self.state.finish();
    }

    pub(super) fn is_finishing(&self) -> bool {
        self.finishing
    }

    /// Nothing of a dropped stream is read; it ends when what was written is out.
    fn linger(&mut self, now: Instant) {
        while self.state.read().is_some() {}
        while self.state.poll_message().is_some() {}
        let out = !self.finishing && self.state.unacknowledged() == 0;
        if out || self.linger_until.is_some_and(|until| until <= now) {
            self.state.destroy(now);
        }
    }

    fn wake(&mut self, after: &mut After) {
        let closed = self.closed.is_some();
        if self.reader.is_some() && (closed || self.state.is_readable() || self.state.read_ended()) {
            after.wakers[0] = self.reader.take();
        }
        if self.writer.is_some() && (closed || self.state.writable() >= WRITER_ROOM) {
            after.wakers[1] = self.writer.take();
        }
        if (std::mem::take(&mut self.messaged) || closed) && self.messages.is_some() {
            after.wakers[2] = self.messages.take();
        }
        after.notify |= std::mem::take(&mut self.watched);
        if self.state.unacknowledged() == 0 {
            after.notify |= self.flushing;
            self.flushing = false;
        }
    }

    /// The stream is closed: sockets may go, and so do those who relay to us.
    fn let_go(&mut self, after: &mut After) {
        for used in &mut self.sockets {
            used.release();
        }
        self.moving = false;
        self.relay_to = None;
        after.closed = true;
        after.destroy.append(&mut self.relayed_by);
        after.wakers = [self.reader.take(), self.writer.take(), self.messages.take()];
    }
}

impl fmt::Debug for StreamCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamCore").field("local_id", &self.local_id).finish_non_exhaustive()
    }
}
