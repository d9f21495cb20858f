//! Locks of cores, held across all clients of a daemon.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use futures::channel::oneshot;
use hyperspace_common::{Method, messages::LockRequest};
use tokio::sync::Notify;

use crate::{ClientError, RemoteHypercore, connection::Connection, sessions::RemoteState};

/// The lock of a core, given back when it is dropped.
///
/// While it is held, no other client has it: whoever appends only under the lock is the only one who does.
pub struct RemoteLock {
    core: RemoteHypercore,
    grant: Grant,
}

/// What the daemon gave out, given back when it is dropped. Keeps neither the core nor the connection open.
struct Grant {
    connection: Connection,
    id: u64,
    held: Arc<Held>,
}

/// Whether a lock is held.
#[derive(Debug, Default)]
pub(crate) struct Held {
    state: AtomicU8,
    changed: Notify,
}

/// The daemon was not asked for it.
const UNASKED: u8 = 0;
/// The daemon was asked for it, and gives it back with the session.
const ASKED: u8 = 1;
const HELD: u8 = 2;
const LOST: u8 = 3;
const RELEASED: u8 = 4;

impl RemoteHypercore {
    /// Takes the core's lock, when everybody who asked before has given it back. All that was appended under it
    /// before is known here then.
    ///
    /// Must be called inside a tokio runtime.
    pub async fn lock(&self) -> Result<RemoteLock, ClientError> {
        let (sender, receiver) = oneshot::channel();
        let (connection, state) = (self.connection().unguarded(), self.shared_state());
        // The daemon gives the lock out also when nobody waits for it any more: then it goes straight back.
        tokio::spawn(async move {
            let _ = sender.send(acquire(connection, state).await);
        });
        let grant = receiver.await.unwrap_or(Err(ClientError::Closed))?;
        Ok(RemoteLock { core: self.clone(), grant })
    }
}

async fn acquire(connection: Connection, state: Arc<RemoteState>) -> Result<Grant, ClientError> {
    let grant = Grant { connection: connection.clone(), id: state.id, held: Arc::default() };
    let request = LockRequest { id: state.id };
    let asking = connection.call_patiently(|outbox, id| {
        // From here on it may be held by the daemon, and is lost with this connection and no other.
        grant.held.change(UNASKED, ASKED);
        state.add_lock(&grant.held);
        outbox.request(Method::HypercoreAcquireLock, id, &request);
    });
    match asking.await {
        Ok(_) => {
            grant.held.change(ASKED, HELD);
            Ok(grant)
        }
        Err(error) => {
            // There is nothing to give back.
            grant.held.end(RELEASED);
            Err(error)
        }
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
        loop {
            let changed = self.grant.held.changed.notified();
            if self.is_lost() {
                return;
            }
            changed.await;
        }
    }

    /// Gives the lock back, and returns once the daemon has taken it. Dropping the lock, or this, does the same without
    /// waiting.
    pub async fn release(self) -> Result<(), ClientError> {
        let Grant { connection, id, held } = &self.grant;
        let request = LockRequest { id: *id };
        match connection.call_now(|| held.end(RELEASED), Method::HypercoreReleaseLock, &request)? {
            Some(released) => connection.answer(released).await.map(|_| ()),
            None => Err(ClientError::Disconnected("the lock was lost before".into())),
        }
    }
}

impl Held {
    /// The lock is lost; true when it was held.
    pub(crate) fn lose(&self) -> bool {
        let was_held = self.change(HELD, LOST);
        self.change(ASKED, LOST);
        was_held
    }

    /// Neither held nor asked for any more; true when it was.
    fn end(&self, how: u8) -> bool {
        self.change(HELD, how) || self.change(ASKED, how)
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
        if self.held.end(RELEASED) {
            self.connection.notify(Method::HypercoreReleaseLock, &LockRequest { id: self.id });
        }
    }
}

impl fmt::Debug for RemoteLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteLock").field("core", &self.core.key()).field("lost", &self.is_lost()).finish()
    }
}
