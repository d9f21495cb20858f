//! What all sessions of a log share: the core, the wants, who listens. One lock, never held across an await.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::core::Core;
use crate::demand::Demand;
use crate::error::Error;
use crate::events::{CoreEvent, EventSink, PeerInfo};
use crate::info::Info;
use crate::key::{DiscoveryKey, Key};
use crate::session::fetch::asked_for;
use crate::session::snapshot::Snapshot;

/// Called after every change that a replicator may have to tell its peers about.
pub type ReplicationWaker = Arc<dyn Fn() + Send + Sync>;
/// Called once, when the last session of a log has gone.
pub type CloseHook = Box<dyn FnOnce(DiscoveryKey) + Send + Sync>;

/// A log with everything that its sessions share.
pub(crate) struct Shared {
    pub(crate) key: Key,
    pub(crate) discovery_key: DiscoveryKey,
    state: Mutex<State>,
}

/// What the lock guards.
pub(crate) struct State {
    pub(crate) core: Core,
    pub(crate) demand: Demand,
    pub(crate) peers: Vec<(u64, Arc<PeerInfo>)>,
    pub(crate) waker: Option<ReplicationWaker>,
    pub(crate) snapshots: Vec<Weak<Snapshot>>,
    pub(crate) closed: bool,
    sessions: usize,
    on_close: Option<CloseHook>,
    subscribers: Vec<Subscriber>,
    next_id: u64,
}

struct Subscriber {
    id: u64,
    tag: u64,
    sink: Arc<dyn EventSink>,
}

/// The core and its wants, locked: what a replicator works on. When it is dropped, wants that came true are
/// answered and events are sent.
pub struct CoreGuard<'a> {
    state: MutexGuard<'a, State>,
}

/// Ends a subscription when it is dropped.
pub struct Subscription {
    shared: Weak<Shared>,
    id: u64,
}

/// A peer that replicates the log; it is gone when this is dropped.
pub struct PeerTicket {
    shared: Weak<Shared>,
    id: u64,
}

impl Shared {
    pub(crate) fn new(core: Core) -> Arc<Self> {
        let state = State {
            core,
            demand: Demand::new(),
            peers: Vec::new(),
            waker: None,
            snapshots: Vec::new(),
            closed: false,
            sessions: 0,
            on_close: None,
            subscribers: Vec::new(),
            next_id: 0,
        };
        Arc::new(Self {
            key: state.core.key(),
            discovery_key: state.core.discovery_key(),
            state: Mutex::new(state),
        })
    }

    /// Locks for a look or for work of a replicator. A thread that panicked with the lock held left the core as
    /// its last commit left it, so the log stays usable.
    pub(crate) fn lock(&self) -> CoreGuard<'_> {
        CoreGuard { state: self.state.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Does something on behalf of a session, then tells the replicator.
    pub(crate) fn change<T>(&self, work: impl FnOnce(&mut State) -> Result<T, Error>) -> Result<T, Error> {
        let mut guard = self.lock();
        if guard.state.closed {
            return Err(Error::Closed);
        }
        let result = work(&mut guard.state);
        let waker = guard.state.waker.clone();
        drop(guard);
        if let Some(wake) = waker {
            wake();
        }
        result
    }

    pub(crate) fn wake_replicator(&self) {
        let waker = self.lock().state.waker.clone();
        if let Some(wake) = waker {
            wake();
        }
    }

    /// Counts a session in. False when the log was closed already.
    pub(crate) fn session_opened(&self) -> bool {
        let mut guard = self.lock();
        if guard.state.closed {
            return false;
        }
        guard.state.sessions += 1;
        true
    }

    /// Counts a session out, and ends what it waits for. The last session that closes closes the log.
    pub(crate) fn session_closed(&self, session: u64) {
        let mut guard = self.lock();
        guard.state.demand.fail_session(session, &Error::Closed);
        guard.state.sessions = guard.state.sessions.saturating_sub(1);
        if guard.state.sessions == 0 {
            self.close_locked(guard);
        } else {
            drop(guard);
            self.wake_replicator();
        }
    }

    /// Ends what a session that was not counted in waits for.
    pub(crate) fn visit_ended(&self, session: u64) {
        self.lock().state.demand.fail_session(session, &Error::Closed);
        self.wake_replicator();
    }

    pub(crate) fn session_count(&self) -> usize {
        self.lock().state.sessions
    }

    pub(crate) fn close(&self) {
        self.close_locked(self.lock());
    }

    fn close_locked(&self, mut guard: CoreGuard<'_>) {
        if std::mem::replace(&mut guard.state.closed, true) {
            return;
        }
        // From here on another owner may open the log; a replicator that has not noticed yet can not change it.
        guard.state.core.close();
        guard.state.demand.fail_all(&Error::Closed);
        guard.state.emit(&CoreEvent::Close);
        let subscribers = std::mem::take(&mut guard.state.subscribers);
        let hook = guard.state.on_close.take();
        let waker = guard.state.waker.take();
        drop(guard);
        drop(subscribers);
        if let Some(hook) = hook {
            hook(self.discovery_key);
        }
        if let Some(wake) = waker {
            wake();
        }
    }

    pub(crate) fn set_close_hook(&self, hook: CloseHook) {
        self.lock().state.on_close = Some(hook);
    }

    /// The state that comes along is the one that the sink's first event changes.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        tag: u64,
        sink: Arc<dyn EventSink>,
    ) -> (Subscription, Info, Vec<Arc<PeerInfo>>) {
        let mut guard = self.lock();
        let peers: Vec<_> = guard.state.peers.iter().map(|(_, peer)| peer.clone()).collect();
        let info = Info { peers: peers.len(), ..guard.core().info() };
        let id = guard.state.next_id();
        if guard.state.closed {
            sink.event(tag, &CoreEvent::Close);
        } else {
            guard.state.subscribers.push(Subscriber { id, tag, sink });
        }
        (Subscription { shared: Arc::downgrade(self), id }, info, peers)
    }

    pub(crate) fn peer_added(self: &Arc<Self>, peer: PeerInfo) -> PeerTicket {
        let mut guard = self.lock();
        let id = guard.state.next_id();
        let peer = Arc::new(peer);
        guard.state.peers.push((id, peer.clone()));
        guard.state.emit(&CoreEvent::PeerAdded(peer));
        PeerTicket { shared: Arc::downgrade(self), id }
    }
}

impl State {
    pub(crate) fn emit(&self, event: &CoreEvent) {
        for subscriber in &self.subscribers {
            subscriber.sink.event(subscriber.tag, event);
        }
    }

    /// Ends gets and seeks that wait only as long as somebody may have what is wanted: nobody does.
    pub(crate) fn fail_if_available(&mut self) {
        let wants = self.demand.iter().filter(|(_, entry)| entry.options.if_available);
        let wants = wants.filter_map(|(id, entry)| Some((id, asked_for(&entry.want)?)));
        for (id, index) in wants.collect::<Vec<_>>() {
            self.demand.fail(id, Error::NotAvailable(index));
        }
    }

    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn settle(&mut self) {
        self.demand.settle(&mut self.core);
        let events = self.core.take_events();
        for event in &events {
            if let CoreEvent::Truncate { length, .. } = event {
                self.snapshots.retain(|snapshot| match snapshot.upgrade() {
                    Some(snapshot) => {
                        snapshot.truncated(*length);
                        true
                    }
                    None => false,
                });
            }
            if matches!(event, CoreEvent::Conflict(_)) {
                self.demand.fail_all(&Error::Frozen(self.core.key()));
            }
            self.emit(event);
        }
    }
}

impl CoreGuard<'_> {
    /// The log.
    pub fn core(&self) -> &Core {
        &self.state.core
    }

    /// The log, and what is wanted of it.
    pub fn parts(&mut self) -> (&mut Core, &mut Demand) {
        let state = &mut *self.state;
        (&mut state.core, &mut state.demand)
    }

    /// True when the last session has gone; nothing is to be done any more.
    pub fn is_closed(&self) -> bool {
        self.state.closed
    }

    pub(crate) fn state(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for CoreGuard<'_> {
    fn drop(&mut self) {
        self.state.settle();
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            let mut guard = shared.lock();
            let removed: Vec<Subscriber> =
                guard.state.subscribers.extract_if(.., |subscriber| subscriber.id == self.id).collect();
            // A sink may hold the last handle of something large: let it go without the lock.
            drop(guard);
            drop(removed);
        }
    }
}

impl PeerTicket {
    /// Changes what is known of the peer, for instance when its address becomes known.
    pub fn info(&self) -> Option<Arc<PeerInfo>> {
        let shared = self.shared.upgrade()?;
        let guard = shared.lock();
        guard.state.peers.iter().find(|(id, _)| *id == self.id).map(|(_, peer)| peer.clone())
    }
}

impl Drop for PeerTicket {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            let mut guard = shared.lock();
            if let Some(at) = guard.state.peers.iter().position(|(id, _)| *id == self.id) {
                let (_, peer) = guard.state.peers.swap_remove(at);
                guard.state.emit(&CoreEvent::PeerRemoved(peer));
            }
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("key", &self.key).finish_non_exhaustive()
    }
}

impl fmt::Debug for CoreGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoreGuard").field("key", &self.state.core.key()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("id", &self.id).finish_non_exhaustive()
    }
}

impl fmt::Debug for PeerTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerTicket").field("id", &self.id).finish_non_exhaustive()
    }
}
