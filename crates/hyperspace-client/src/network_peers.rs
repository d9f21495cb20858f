//! The peers of a daemon, as its events tell of them.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hypercore::PeerInfo;
use tokio::sync::broadcast;

/// Events that a slow listener may leave unread before it misses some.
const EVENTS_KEPT: usize = 1024;

/// What happens to a daemon's peers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkEvent {
    /// A peer connected.
    PeerAdded(Arc<PeerInfo>),
    /// A peer is gone.
    PeerRemoved(Arc<PeerInfo>),
}

/// The peers that are known here, and who wants to hear of them.
#[derive(Debug)]
pub(crate) struct NetworkPeers {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None` when the connection has ended for good.
    events: Option<broadcast::Sender<NetworkEvent>>,
    known: HashMap<[u8; 32], Arc<PeerInfo>>,
    /// Questions for all peers that are under way.
    asking: usize,
    /// Who left since the oldest of them: an answer may still name them.
    gone: HashSet<[u8; 32]>,
    /// Somebody has asked or listens.
    wanted: bool,
}

/// A question for all peers is under way as long as this lives.
pub(crate) struct Asking<'a>(&'a NetworkPeers);

impl NetworkPeers {
    pub(crate) fn new() -> Self {
        let events = Some(broadcast::channel(EVENTS_KEPT).0);
        let (known, gone) = (HashMap::new(), HashSet::new());
        Self { state: Mutex::new(State { events, known, asking: 0, gone, wanted: false }) }
    }

    pub(crate) fn listen(&self) -> broadcast::Receiver<NetworkEvent> {
        let mut state = self.lock();
        state.wanted = true;
        match &state.events {
            Some(events) => events.subscribe(),
            // Its sender is gone at once.
            None => broadcast::channel(1).1,
        }
    }

    /// All peers are going to be asked for.
    pub(crate) fn ask(&self) -> Asking<'_> {
        let mut state = self.lock();
        state.wanted = true;
        state.asking += 1;
        Asking(self)
    }

    /// Whether anybody wants to know of peers.
    pub(crate) fn are_wanted(&self) -> bool {
        self.lock().wanted
    }

    pub(crate) fn added(&self, peer: PeerInfo) {
        self.lock().added(peer);
    }

    pub(crate) fn removed(&self, peer: PeerInfo) {
        let mut state = self.lock();
        if state.asking > 0 {
            state.gone.insert(peer.remote_public_key);
        }
        let peer = state.known.remove(&peer.remote_public_key).unwrap_or_else(|| Arc::new(peer));
        state.emit(NetworkEvent::PeerRemoved(peer));
    }

    /// The connection is lost, and with it all knowledge of peers.
    pub(crate) fn lost(&self) {
        let mut state = self.lock();
        for (_, peer) in std::mem::take(&mut state.known) {
            state.emit(NetworkEvent::PeerRemoved(peer));
        }
    }

    /// The connection has ended for good.
    pub(crate) fn closed(&self) {
        self.lost();
        self.lock().events = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn added(&mut self, peer: PeerInfo) {
        let peer = Arc::new(peer);
        self.known.insert(peer.remote_public_key, peer.clone());
        self.emit(NetworkEvent::PeerAdded(peer));
    }

    fn emit(&self, event: NetworkEvent) {
        if let Some(events) = &self.events {
            // Nobody may be listening.
            let _ = events.send(event);
        }
    }
}

impl Asking<'_> {
    /// The answer. Events that came after it may have been looked at before it.
    pub(crate) fn answered(&self, peers: &[PeerInfo]) {
        let mut state = self.0.lock();
        for peer in peers {
            if !state.gone.contains(&peer.remote_public_key) {
                state.known.entry(peer.remote_public_key).or_insert_with(|| Arc::new(peer.clone()));
            }
        }
    }

    /// The answer of another daemon: who is there is news.
    pub(crate) fn answered_anew(&self, peers: Vec<PeerInfo>) {
        let mut state = self.0.lock();
        for peer in peers {
            let key = &peer.remote_public_key;
            if !state.gone.contains(key) && !state.known.contains_key(key) {
                state.added(peer);
            }
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.asking -= 1;
        if state.asking == 0 {
            state.gone.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(byte: u8) -> PeerInfo {
        PeerInfo {
            remote_public_key: [byte; 32],
            remote_address: format!("127.0.0.1:{byte}"),
            kind: "udx".into(),
        }
    }

    fn told(events: &mut broadcast::Receiver<NetworkEvent>) -> Vec<(bool, u8)> {
        std::iter::from_fn(|| events.try_recv().ok())
            .map(|event| match event {
                NetworkEvent::PeerAdded(peer) => (true, peer.remote_public_key[0]),
                NetworkEvent::PeerRemoved(peer) => (false, peer.remote_public_key[0]),
            })
            .collect()
    }

    #[test]
    fn who_left_while_the_answer_was_due_is_not_known_again() {
        let peers = NetworkPeers::new();
        assert!(!peers.are_wanted());
        let mut events = peers.listen();
        let asking = peers.ask();
        peers.removed(peer(1));
        peers.added(peer(3));
        asking.answered(&[peer(1), peer(2)]);
        drop(asking);
        assert_eq!(told(&mut events), [(false, 1), (true, 3)]);
        peers.lost();
        let mut gone = told(&mut events);
        gone.sort_unstable();
        assert_eq!(gone, [(false, 2), (false, 3)]);
        assert!(peers.lock().gone.is_empty() && peers.are_wanted());
    }

    #[test]
    fn the_peers_of_another_daemon_are_news() {
        let peers = NetworkPeers::new();
        let mut events = peers.listen();
        let asking = peers.ask();
        peers.added(peer(1));
        asking.answered_anew(vec![peer(1), peer(2)]);
        assert_eq!(told(&mut events), [(true, 1), (true, 2)]);
        peers.closed();
        assert_eq!(told(&mut events).len(), 2);
        assert!(events.try_recv() == Err(broadcast::error::TryRecvError::Closed));
        assert!(peers.listen().try_recv() == Err(broadcast::error::TryRecvError::Closed));
    }
}
