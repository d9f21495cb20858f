//! Locks of cores, one for each core over all clients: first come, first served, and freed with their holder.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::channel::oneshot;
use hypercore::DiscoveryKey;
use hyperspace_common::{RpcError, RpcErrorExt, text};

/// The locks that are held or waited for.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    locks: HashMap<DiscoveryKey, Lock>,
    next: u64,
}

/// The lock of one core. It is forgotten when nobody holds it.
#[derive(Debug)]
struct Lock {
    holder: Holder,
    /// By the number of their turn.
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Debug, Clone, Copy)]
struct Holder {
    turn: u64,
    client: u64,
}

#[derive(Debug)]
struct Waiting {
    client: u64,
    granted: oneshot::Sender<()>,
}

/// A client's turn: it holds the lock, or waits for it. Dropping it gives either up.
#[derive(Debug)]
pub(crate) struct Turn {
    locks: Arc<Locks>,
    core: DiscoveryKey,
    number: u64,
    granted: Option<oneshot::Receiver<()>>,
}

impl Locks {
    /// Takes a turn: the lock, if nobody holds it, else the last place among those who wait.
    pub(crate) fn take_turn(self: &Arc<Self>, core: DiscoveryKey, client: u64) -> Turn {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let granted = match state.locks.entry(core) {
            Entry::Vacant(slot) => {
                slot.insert(Lock { holder: Holder { turn: number, client }, waiting: BTreeMap::new() });
                None
            }
            Entry::Occupied(mut lock) => {
                let (granted, receiver) = oneshot::channel();
                lock.get_mut().waiting.insert(number, Waiting { client, granted });
                Some(receiver)
            }
        };
        drop(state);
        Turn { locks: self.clone(), core, number, granted }
    }

    /// Gives back what this client holds, whichever of its sessions took it (npm `hyperspace` 3.19.0, `releaseLock`).
    pub(crate) fn release(&self, core: &DiscoveryKey, client: u64) -> Result<(), RpcError> {
        let mut state = self.lock();
        match state.locks.get(core).map(|lock| lock.holder) {
            None => Err(RpcError::sentence(text::NOT_LOCKED)),
            Some(holder) if holder.client != client => Err(RpcError::sentence(text::LOCKED_BY_ANOTHER)),
            Some(holder) => {
                state.leave(core, holder.turn);
                Ok(())
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The turn is over, whether it had come or not. A turn that is over already is no concern.
    fn leave(&mut self, core: &DiscoveryKey, turn: u64) {
        let Some(lock) = self.locks.get_mut(core) else { return };
        if lock.holder.turn != turn {
            lock.waiting.remove(&turn);
            return;
        }
        match lock.waiting.pop_first() {
            Some((turn, next)) => {
                lock.holder = Holder { turn, client: next.client };
                // One whose turn is just being dropped passes it on as soon as this state is unlocked.
                let _ = next.granted.send(());
            }
            None => {
                self.locks.remove(core);
            }
        }
    }
}

impl Turn {
    /// Whether the lock is held since the turn was taken.
    pub(crate) fn has_come(&self) -> bool {
        self.granted.is_none()
    }

    /// Waits until the lock is held.
    pub(crate) async fn come(&mut self) {
        if let Some(granted) = &mut self.granted {
            // An error cannot be: the sender is kept until this turn comes or is dropped.
            let _ = granted.await;
            self.granted = None;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.locks.lock().leave(&self.core, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    const CORE: [u8; 32] = [1; 32];

    fn take(locks: &Arc<Locks>, client: u64) -> Turn {
        locks.take_turn(CORE.into(), client)
    }

    fn holds(turn: &mut Turn) -> bool {
        turn.come().now_or_never().is_some()
    }

    #[test]
    fn first_come_first_served() {
        let locks = Arc::new(Locks::default());
        let (mut one, mut two, mut three) = (take(&locks, 1), take(&locks, 2), take(&locks, 3));
        assert!(holds(&mut one) && !holds(&mut two) && !holds(&mut three));
        locks.release(&CORE.into(), 1).unwrap();
        assert!(holds(&mut two) && !holds(&mut three));
        // What was released is not released again by forgetting it.
        drop(one);
        assert!(!holds(&mut three));
        drop(two);
        assert!(holds(&mut three));
        drop(three);
        assert!(locks.lock().locks.is_empty());
    }

    #[test]
    fn only_the_holder_releases() {
        let locks = Arc::new(Locks::default());
        let error = |client| locks.release(&CORE.into(), client).unwrap_err().message;
        assert_eq!(error(1), "Core is not locked");
        let _one = take(&locks, 1);
        assert_eq!(error(2), "Core is not locked by you");
        let mut other_core = locks.take_turn([2; 32].into(), 2);
        assert!(holds(&mut other_core));
    }

    #[test]
    fn who_dies_waiting_is_passed_over() {
        let locks = Arc::new(Locks::default());
        let (one, two, mut three) = (take(&locks, 1), take(&locks, 2), take(&locks, 1));
        drop(two);
        drop(one);
        assert!(holds(&mut three), "a client may wait for itself");
    }
}
