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

use crate::{ClientError, RemoteHypercore};

/// The lock of a core, given back when it is dropped.
///
/// While it is held, no other client has it: whoever appends only under the lock is the only one who does.
pub struct RemoteLock {
    core: RemoteHypercore,
    held: Arc<Held>,
}

/// Whether a lock is still held.
#[derive(Debug, Default)]
pub(crate) struct Held {
    state: AtomicU8,
    changed: Notify,
}

const HELD: u8 = 0;
const LOST: u8 = 1;
const RELEASED: u8 = 2;

impl RemoteHypercore {
    /// Takes the core's lock, when everybody who asked before has given it back. All that was appended under it
    /// before is known here then.
    ///
    /// Must be called inside a tokio runtime.
    pub async fn lock(&self) -> Result<RemoteLock, ClientError> {
        let (sender, receiver) = oneshot::channel();
        let core = self.clone();
        // The daemon gives the lock out also when nobody waits for it any more: then it goes straight back.
        tokio::spawn(async move {
            let _ = sender.send(core.acquire().await);
        });
        receiver.await.unwrap_or(Err(ClientError::Closed))
    }

    async fn acquire(self) -> Result<RemoteLock, ClientError> {
        let held = Arc::new(Held::default());
        // Known as held before the answer, so that a connection that is lost right then takes it along.
        self.state().add_lock(&held);
        let request = LockRequest { id: self.state().id };
        let lock = RemoteLock { core: self.clone(), held };
        match self.connection().call_void(Method::HypercoreAcquireLock, &request).await {
            Ok(()) => Ok(lock),
            Err(error) => {
                lock.held.end(RELEASED);
                Err(error)
            }
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
        self.held.state.load(Ordering::Acquire) == LOST
    }

    /// Waits until the lock is lost.
    pub async fn lost(&self) {
        loop {
            let changed = self.held.changed.notified();
            if self.is_lost() {
                return;
            }
            changed.await;
        }
    }

    /// Gives the lock back, and returns once the daemon has taken it. Dropping the lock does the same without
    /// waiting.
    pub async fn release(self) -> Result<(), ClientError> {
        if !self.held.end(RELEASED) {
            return Err(ClientError::Disconnected("the lock was lost before".into()));
        }
        let request = LockRequest { id: self.core.state().id };
        self.core.connection().call_void(Method::HypercoreReleaseLock, &request).await
    }
}

impl Held {
    /// The lock is lost; true when it was held.
    pub(crate) fn lose(&self) -> bool {
        self.end(LOST)
    }

    fn end(&self, how: u8) -> bool {
        let ended = self.state.compare_exchange(HELD, how, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if ended {
            self.changed.notify_waiters();
        }
        ended
    }
}

impl Drop for RemoteLock {
    fn drop(&mut self) {
        if self.held.end(RELEASED) {
            let request = LockRequest { id: self.core.state().id };
            self.core.connection().notify(Method::HypercoreReleaseLock, &request);
        }
    }
}

impl fmt::Debug for RemoteLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteLock").field("core", &self.core.key()).field("lost", &self.is_lost()).finish()
    }
}
