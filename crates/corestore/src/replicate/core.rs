//! A core that is replicated: its replicator, and the connections that have a channel for it.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use hypercore::session::SessionOptions;
use hypercore::{DiscoveryKey, Hypercore, Key};
use hypercore_replicator::{Options, PeerId, Replicator};

use super::link::Link;

/// A core that is replicated. Lock order: links, then state, then the core itself; never the other way round.
pub(crate) struct ReplicatedCore {
    pub(super) key: Key,
    pub(super) discovery_key: DiscoveryKey,
    /// A session of its own keeps the core open while any connection has a channel for it.
    pub(super) hypercore: Hypercore,
    /// Something changed that the replicator has not seen.
    pub(super) changed: AtomicBool,
    links: Mutex<Links>,
    state: Mutex<State>,
}

#[derive(Default)]
struct Links {
    list: Vec<Arc<Link>>,
    /// Let go of: nobody may attach any more.
    released: bool,
}

/// What the connections' tasks share.
pub(super) struct State {
    pub(super) replicator: Replicator,
    /// Whose task sends to which peer.
    pub(super) peers: HashMap<PeerId, Arc<Link>>,
    /// Which connection looks after the replicator's deadline, and from when on.
    pub(super) alarm: Option<(Instant, u64)>,
    pub(super) in_use: bool,
}

impl ReplicatedCore {
    /// Takes up replication. Every change of the core is from now on announced to one of its connections.
    pub(super) fn new(hypercore: &Hypercore, options: Options) -> Result<Arc<Self>, hypercore::Error> {
        let session = hypercore.session(SessionOptions { read_only: true, ..SessionOptions::default() })?;
        let replicated = Arc::new(Self {
            key: session.key(),
            discovery_key: session.discovery_key(),
            hypercore: session,
            changed: AtomicBool::new(true),
            links: Mutex::default(),
            state: Mutex::new(State {
                replicator: Replicator::new(options),
                peers: HashMap::new(),
                alarm: None,
                in_use: false,
            }),
        });
        let weak: Weak<Self> = Arc::downgrade(&replicated);
        replicated.hypercore.set_replication_waker(Some(Arc::new(move || {
            if let Some(core) = weak.upgrade() {
                core.core_changed();
            }
        })));
        Ok(replicated)
    }

    /// True when somebody besides the connections has a session of it.
    pub(super) fn in_use(&self) -> bool {
        self.hypercore.session_count() > 1
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // The replicator's state is checked against the core's on every call; a task that panicked with the lock
        // held must not take the core away from the other connections.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False when the core was just let go of.
    pub(super) fn attach(&self, link: &Arc<Link>) -> bool {
        let mut links = self.links();
        if links.released {
            return false;
        }
        if !links.list.iter().any(|known| known.id == link.id) {
            links.list.push(link.clone());
        }
        true
    }

    /// The connection has no channel for it any more. True when no connection has.
    pub(super) fn detach(&self, link: &Link) -> bool {
        let mut links = self.links();
        links.list.retain(|known| known.id != link.id);
        if let Some(next) = links.list.first().cloned() {
            // Whatever the leaving one was to look after.
            drop(links);
            next.work(self.discovery_key);
            return false;
        }
        links.released = true;
        true
    }

    fn core_changed(&self) {
        if self.changed.swap(true, Ordering::AcqRel) {
            return;
        }
        let link = self.links().list.first().cloned();
        if let Some(link) = link {
            link.work(self.discovery_key);
        }
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ReplicatedCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicatedCore").field("key", &self.key).finish_non_exhaustive()
    }
}
