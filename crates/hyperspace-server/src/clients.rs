//! The clients that are connected, and what all of them are told.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hypercore::{Hypercore, PeerInfo};

use crate::{
    limits::Limits,
    mailbox::{Event, Mailbox},
};

/// How many cores are remembered as told of; beyond, some may be told of twice.
const FEEDS_REMEMBERED: usize = 65_536;

/// The clients that are connected.
#[derive(Default)]
pub(crate) struct Clients {
    state: Mutex<ClientsState>,
    empty: tokio::sync::Notify,
}

#[derive(Default)]
struct ClientsState {
    mailboxes: HashMap<u64, Arc<Mailbox>>,
    hasher: RandomState,
    feeds: HashSet<u64>,
}

impl Clients {
    fn lock(&self) -> MutexGuard<'_, ClientsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().mailboxes.len()
    }

    /// Tells every client of a core that was loaded, the first time that it is.
    pub(crate) fn feed(&self, core: &Hypercore) {
        let key = core.key().to_bytes();
        let mut state = self.lock();
        let fingerprint = state.hasher.hash_one(key);
        if state.feeds.len() >= FEEDS_REMEMBERED {
            state.feeds.clear();
        }
        if state.feeds.insert(fingerprint) {
            for mailbox in state.mailboxes.values() {
                mailbox.push(Event::Feed { key });
            }
        }
    }

    /// Tells every client of a peer of the daemon.
    pub(crate) fn peer(&self, peer: &Arc<PeerInfo>, connected: bool) {
        for mailbox in self.lock().mailboxes.values() {
            let peer = peer.clone();
            if connected {
                mailbox.push_newcomer(peer);
            } else {
                mailbox.push_network(Event::NetworkPeerRemove { peer });
            }
        }
    }

    /// Takes a client in, unless there are too many.
    pub(crate) fn enter(self: &Arc<Self>, id: u64, limits: &Limits) -> Option<(Arc<Mailbox>, Presence)> {
        let mut state = self.lock();
        if state.mailboxes.len() >= limits.max_clients {
            return None;
        }
        let mailbox = Arc::new(Mailbox::new(limits.max_unread));
        state.mailboxes.insert(id, mailbox.clone());
        Some((mailbox, Presence { clients: self.clone(), id }))
    }

    /// The other clients that were not told everything yet, and up to where they have to be.
    pub(crate) fn untold(&self, client: u64) -> Vec<(Arc<Mailbox>, u64)> {
        let state = self.lock();
        let others = state.mailboxes.iter().filter(|(id, _)| **id != client);
        others.filter_map(|(_, mailbox)| Some((mailbox.clone(), mailbox.untold()?))).collect()
    }

    pub(crate) async fn wait_empty(&self) {
        loop {
            let left = self.empty.notified();
            if self.lock().mailboxes.is_empty() {
                return;
            }
            left.await;
        }
    }
}

/// A client is connected as long as this lives.
pub(crate) struct Presence {
    clients: Arc<Clients>,
    id: u64,
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut state = self.clients.lock();
        if let Some(mailbox) = state.mailboxes.remove(&self.id) {
            mailbox.gone();
        }
        if state.mailboxes.is_empty() {
            self.clients.empty.notify_waiters();
        }
    }
}
