//! Locks of cores, held across all clients of a daemon.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU8, Ordering},
    },
};

use hyperspace_common::{Method, Outbox, messages::LockRequest};
use tokio::sync::Notify;

use crate::{
    ClientError, RemoteHypercore,
    connection::{Answer, Connection},
    sessions::RemoteState,
};

/// The lock of a core, given back when it is dropped.
///
/// While it is held, no other client has it: whoever appends only under the lock is the only one who does.
pub struct RemoteLock {
    core: RemoteHypercore,
    grant: Grant,
}

/// What the daemon gives out, given back when it is dropped. Keeps neither the core nor the connection open.
struct Grant {
    connection: Connection,
    state: Arc<RemoteState>,
    held: Arc<Held>,
}

/// Whether a lock is held.
#[derive(Debug, Default)]
pub(crate) struct Held {
    state: AtomicU8,
    /// Its place among those who wait.
    place: OnceLock<u64>,
    /// Why it is not given out.
    refused: OnceLock<ClientError>,
    changed: Notify,
}

/// There is no turn for it yet.
const NEW: u8 = 0;
const WAITING: u8 = 1;
const HELD: u8 = 2;
const LOST: u8 = 3;
/// Given back, or given up.
const RELEASED: u8 = 4;
const REFUSED: u8 = 5;

/// The turns that a session has at its core's lock.
///
/// The daemon knows a lock's holder by core and client, and nothing takes a turn back that has not come. So whoever gives up
/// waiting says nothing, and leaves the turn to the next who wants the lock; if it comes and nobody does, it is passed on
/// here, where the answer comes in.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Turns that were asked for and have not come: never fewer than those who wait.
    asked: usize,
    /// Who wants one, in the order in which they came.
    waiting: BTreeMap<u64, Arc<Held>>,
    next: u64,
    /// Locks that are held.
    held: Vec<Weak<Held>>,
    /// The session has ended, and with it what it held.
    closed: bool,
}

impl RemoteHypercore {
    /// Takes the core's lock, when everybody who asked before has given it back. All that was appended under it
    /// before is known here then.
    ///
    /// When its future is dropped, its turn goes to the next call for this session, if there is one before it comes.
    pub async fn lock(&self) -> Result<RemoteLock, ClientError> {
        let (connection, state) = (self.connection(), self.shared_state());
        let held = Arc::<Held>::default();
        let grant = Grant { connection: connection.unguarded(), state: state.clone(), held: held.clone() };
        let request = LockRequest { id: state.id };
        let told = {
            let state = state.clone();
            Box::new(move |answer: Answer, outbox: &mut Outbox| {
                state.turns.answered(state.id, answer, outbox)
            })
        };
        let is_due = || state.turns.wait(&held);
        connection.call_telling(is_due, Method::HypercoreAcquireLock, &request, told).await?;
        held.come(&state).await?;
        Ok(RemoteLock { core: self.clone(), grant })
    }
}

impl RemoteLock {
    /// The core.
    pub fn core(&self) -> &RemoteHypercore {
        &self.core
    }

    /// Whether the lock was lost, with the connection or the session: another client may have it.
    pub fn is_lost(&self) -> bool {
        self.grant.held.is(LOST)
    }

    /// Waits until the lock is lost.
    pub async fn lost(&self) {
        self.grant.held.until(|state| (state == LOST).then_some(())).await;
    }

    /// Gives the lock back, and returns once the daemon has taken it. Dropping the lock, or this, does the same without
    /// waiting.
    pub async fn release(self) -> Result<(), ClientError> {
        let Grant { connection, state, held } = &self.grant;
        let request = LockRequest { id: state.id };
        let is_due = || held.change(HELD, RELEASED);
        match connection.call_now(is_due, Method::HypercoreReleaseLock, &request)? {
            Some(released) => connection.answer(released).await.map(|_| ()),
            None => Err(ClientError::Disconnected("the lock was lost before".into())),
        }
    }
}

impl Turns {
    /// Waits for a turn; true when another one is to be asked for.
    fn wait(&self, held: &Arc<Held>) -> bool {
        let mut state = self.lock();
        let place = state.next;
        state.next += 1;
        let _ = held.place.set(place);
        held.change(NEW, WAITING);
        state.waiting.insert(place, held.clone());
        let is_asked_for = state.waiting.len() > state.asked;
        state.asked += usize::from(is_asked_for);
        is_asked_for
    }

    /// A turn has come, or never will.
    fn answered(&self, session: u64, answer: Answer, outbox: &mut Outbox) {
        let mut state = self.lock();
        state.asked -= 1;
        let error = match answer {
            // The session's end has passed the lock on.
            Ok(_) if state.closed => ClientError::Closed,
            Ok(_) => {
                if !state.grant() {
                    outbox.request(Method::HypercoreReleaseLock, 0, &LockRequest { id: session });
                }
                return;
            }
            Err(error) => error,
        };
        while state.waiting.len() > state.asked {
            // The last who came is the one for whom there is none.
            let Some((_, held)) = state.waiting.pop_last() else { return };
            held.refuse(error.clone());
        }
    }

    /// Nobody waits for it any more.
    fn give_up(&self, held: &Held) {
        if let Some(place) = held.place.get() {
            self.lock().waiting.remove(place);
        }
    }

    /// The connection is lost, and with it what was held; true when something was. Turns that had not come have failed with
    /// it already.
    pub(crate) fn lost(&self) -> bool {
        let held = std::mem::take(&mut self.lock().held);
        // All of them, not just the first.
        held.iter().filter_map(Weak::upgrade).filter(|held| held.change(HELD, LOST)).count() > 0
    }

    /// The session has ended.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.lost();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives the lock to the first who waits; false when nobody does.
    fn grant(&mut self) -> bool {
        while let Some((_, held)) = self.waiting.pop_first() {
            // One that is just being given up is passed over.
            if held.change(WAITING, HELD) {
                self.held.retain(|held| held.upgrade().is_some_and(|held| held.is(HELD)));
                self.held.push(Arc::downgrade(&held));
                return true;
            }
        }
        false
    }
}

impl Held {
    /// Waits until the lock is held.
    async fn come(&self, session: &RemoteState) -> Result<(), ClientError> {
        self.until(|state| match state {
            HELD => Some(Ok(())),
            LOST if session.is_closed() => Some(Err(ClientError::Closed)),
            LOST => Some(Err(ClientError::Disconnected("the lock was lost before it was taken".into()))),
            REFUSED => Some(Err(self.refused.get().cloned().unwrap_or(ClientError::Closed))),
            _ => None,
        })
        .await
    }

    async fn until<T>(&self, reached: impl Fn(u8) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            if let Some(reached) = reached(self.state.load(Ordering::Acquire)) {
                return reached;
            }
            changed.await;
        }
    }

    fn refuse(&self, error: ClientError) {
        let _ = self.refused.set(error);
        self.change(WAITING, REFUSED);
    }

    fn change(&self, from: u8, to: u8) -> bool {
        let changed = self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if changed {
            self.changed.notify_waiters();
        }
        changed
    }

    fn is(&self, state: u8) -> bool {
        self.state.load(Ordering::Acquire) == state
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        // In this order: the turn may come meanwhile.
        if self.held.change(WAITING, RELEASED) {
            self.state.turns.give_up(&self.held);
        } else if self.held.change(HELD, RELEASED) {
            self.connection.notify(Method::HypercoreReleaseLock, &LockRequest { id: self.state.id });
        }
    }
}

impl fmt::Debug for RemoteLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteLock").field("core", &self.core.key()).field("lost", &self.is_lost()).finish()
    }
}
