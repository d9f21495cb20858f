//! Sessions that exclude one another: at most one exclusive session of a core at a time.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::channel::oneshot;
use hypercore::{DiscoveryKey, Hypercore};

/// Who has, and who waits for, the exclusive session of each core.
#[derive(Default)]
pub(crate) struct ExclusiveSessions {
    /// A core is in here as long as its exclusive session is taken.
    taken: Mutex<HashMap<DiscoveryKey, VecDeque<oneshot::Sender<Permit>>>>,
}

/// The right to the exclusive session of a core; dropping it hands it on.
struct Permit {
    sessions: Arc<ExclusiveSessions>,
    discovery_key: DiscoveryKey,
}

/// The exclusive session of a core. It ends when this is dropped.
pub struct ExclusiveHypercore {
    core: Hypercore,
    _permit: Permit,
}

impl ExclusiveSessions {
    /// Waits until nobody else has the exclusive session of the core.
    pub(crate) async fn enter(self: &Arc<Self>, core: Hypercore) -> ExclusiveHypercore {
        let discovery_key = core.discovery_key();
        loop {
            let turn = {
                let mut taken = self.taken();
                match taken.get_mut(&discovery_key) {
                    None => {
                        taken.insert(discovery_key, VecDeque::new());
                        let _permit = Permit { sessions: Arc::clone(self), discovery_key };
                        return ExclusiveHypercore { core, _permit };
                    }
                    Some(waiting) => {
                        let (sender, turn) = oneshot::channel();
                        waiting.push_back(sender);
                        turn
                    }
                }
            };
            if let Ok(_permit) = turn.await {
                return ExclusiveHypercore { core, _permit };
            }
        }
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<DiscoveryKey, VecDeque<oneshot::Sender<Permit>>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // Whoever gave up waiting is passed over. The permit of the next one is made here and sent without the
        // lock: when it comes back unwanted, dropping it looks for the one after.
        let mut taken = self.sessions.taken();
        let next = loop {
            match taken.get_mut(&self.discovery_key).and_then(VecDeque::pop_front) {
                Some(next) if next.is_canceled() => {}
                next => break next,
            }
        };
        match next {
            Some(next) => {
                drop(taken);
                let permit =
                    Permit { sessions: Arc::clone(&self.sessions), discovery_key: self.discovery_key };
                drop(next.send(permit));
            }
            None => {
                taken.remove(&self.discovery_key);
            }
        }
    }
}

impl Deref for ExclusiveHypercore {
    type Target = Hypercore;

    fn deref(&self) -> &Hypercore {
        &self.core
    }
}

impl fmt::Debug for ExclusiveSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExclusiveSessions").field("taken", &self.taken().len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for ExclusiveHypercore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ExclusiveHypercore").field(&self.core).finish()
    }
}
