//! The sessions of one connection, and where its events go.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use hypercore::{CoreEvent, DiscoveryKey, Key, PeerInfo};
use hyperspace_common::{Method, Required, decode, messages::*};
use tokio::sync::broadcast;

use crate::{connection::EventHandler, error::ClientError};

/// Events that a slow listener may leave unread before it misses some.
const EVENTS_KEPT: usize = 1024;

/// All sessions of a connection.
#[derive(Debug)]
pub(crate) struct Sessions {
    cores: Mutex<HashMap<u64, Weak<RemoteState>>>,
    /// Sessions, requests that can be cancelled, waits: none is ever used twice, so that nothing that comes late
    /// can be taken for something else.
    next: AtomicU64,
    feeds: broadcast::Sender<Key>,
}

/// What is known here of a core that lives in the daemon.
#[derive(Debug)]
pub(crate) struct RemoteState {
    pub(crate) id: u64,
    pub(crate) identity: OnceLock<Identity>,
    changing: Mutex<Changing>,
}

/// What never changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) key: Key,
    pub(crate) discovery_key: DiscoveryKey,
    pub(crate) writable: bool,
}

#[derive(Debug, Default)]
struct Changing {
    length: u64,
    byte_length: u64,
    /// Events say what the length is: older news must not undo it.
    told: bool,
    peers: Vec<Arc<PeerInfo>>,
    /// Peers that left before the answer to the open was looked at, which may still name them.
    gone: Vec<[u8; 32]>,
    events: Option<broadcast::Sender<CoreEvent>>,
    closed: bool,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self { cores: Mutex::default(), next: AtomicU64::new(1), feeds: broadcast::channel(EVENTS_KEPT).0 }
    }

    /// A number that was not used before.
    pub(crate) fn fresh(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn create(&self) -> Arc<RemoteState> {
        let id = self.fresh();
        let state = Arc::new(RemoteState { id, identity: OnceLock::new(), changing: Mutex::default() });
        self.lock().insert(id, Arc::downgrade(&state));
        state
    }

    pub(crate) fn remove(&self, id: u64) {
        self.lock().remove(&id);
    }

    /// Keys of cores that the daemon loads.
    pub(crate) fn feeds(&self) -> broadcast::Receiver<Key> {
        self.feeds.subscribe()
    }

    fn core(&self, id: u64) -> Option<Arc<RemoteState>> {
        self.lock().get(&id).and_then(Weak::upgrade)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Weak<RemoteState>>> {
        self.cores.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventHandler for Sessions {
    fn event(&self, method: Method, payload: Bytes) -> Result<(), ClientError> {
        // Events for sessions that were closed meanwhile are of no interest any more.
        match method {
            Method::HypercoreOnAppend => {
                let AppendEvent { id, length, byte_length } = read(payload)?;
                self.core(id).inspect(|core| core.appended(length, byte_length));
            }
            Method::HypercoreOnPeerOpen => {
                let PeerEvent { id, peer } = read(payload)?;
                self.core(id).inspect(|core| core.peer_added(&peer));
            }
            Method::HypercoreOnPeerRemove => {
                let PeerEvent { id, peer } = read(payload)?;
                self.core(id).inspect(|core| core.peer_removed(&peer));
            }
            Method::HypercoreOnClose => {
                let CloseEvent { id } = read(payload)?;
                self.core(id).inspect(|core| core.close());
            }
            Method::HypercoreOnDownload => {
                let DownloadEvent { id, seq: index, byte_length } = read(payload)?;
                let bytes = size(byte_length.unwrap_or_default());
                self.core(id).inspect(|core| core.emit(CoreEvent::Download { index, bytes }));
            }
            Method::HypercoreOnUpload => {
                let UploadEvent { id, seq: index, byte_length } = read(payload)?;
                let bytes = size(byte_length);
                self.core(id).inspect(|core| core.emit(CoreEvent::Upload { index, bytes }));
            }
            Method::CorestoreOnFeed => {
                let FeedEvent { key } = read(payload)?;
                if let Ok(key) = Key::try_from(&key[..]) {
                    // Nobody may be listening.
                    let _ = self.feeds.send(key);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn closed(&self, _error: &ClientError) {
        let cores: Vec<_> = self.lock().drain().filter_map(|(_, core)| core.upgrade()).collect();
        for core in cores {
            core.close();
        }
    }
}

impl RemoteState {
    /// What the daemon answered to the open.
    pub(crate) fn opened(&self, response: OpenResponse) -> Result<(), ClientError> {
        let key = parse_key(&response.key)?;
        let discovery_key = match &response.discovery_key {
            Some(bytes) => DiscoveryKey::try_from(&bytes[..])
                .map_err(|_| ClientError::Protocol("a discovery key that has not 32 bytes".into()))?,
            None => key.discovery_key(),
        };
        let _ = self.identity.set(Identity { key, discovery_key, writable: response.writable });
        let mut changing = self.lock();
        if !changing.told {
            (changing.length, changing.byte_length) = (response.length, response.byte_length);
        }
        // Events that came after the answer may have been looked at before it.
        let gone = std::mem::take(&mut changing.gone);
        for peer in &response.peers {
            let peer = peer_info(peer);
            if !gone.contains(&peer.remote_public_key)
                && !changing.peers.iter().any(|known| known.remote_public_key == peer.remote_public_key)
            {
                changing.peers.push(Arc::new(peer));
            }
        }
        Ok(())
    }

    pub(crate) fn length(&self) -> u64 {
        self.lock().length
    }

    pub(crate) fn byte_length(&self) -> u64 {
        self.lock().byte_length
    }

    pub(crate) fn peers(&self) -> Vec<Arc<PeerInfo>> {
        self.lock().peers.clone()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Listens; true when nobody did before.
    pub(crate) fn listen(&self) -> (broadcast::Receiver<CoreEvent>, bool) {
        let mut changing = self.lock();
        let first = changing.events.as_ref().is_none_or(|sender| sender.receiver_count() == 0);
        let receiver = changing.events.get_or_insert_with(|| broadcast::channel(EVENTS_KEPT).0).subscribe();
        if changing.closed {
            changing.events = None;
        }
        (receiver, first)
    }

    /// Ends the session here.
    pub(crate) fn close(&self) {
        let mut changing = self.lock();
        if !std::mem::replace(&mut changing.closed, true) {
            changing.emit(CoreEvent::Close);
            changing.events = None;
        }
    }

    fn appended(&self, length: u64, byte_length: u64) {
        let mut changing = self.lock();
        (changing.length, changing.byte_length, changing.told) = (length, byte_length, true);
        changing.emit(CoreEvent::Append { length, byte_length });
    }

    fn peer_added(&self, peer: &Peer) {
        let peer = Arc::new(peer_info(peer));
        let mut changing = self.lock();
        changing.peers.push(peer.clone());
        changing.emit(CoreEvent::PeerAdded(peer));
    }

    fn peer_removed(&self, peer: &Peer) {
        let gone = peer_info(peer);
        let mut changing = self.lock();
        if let Some(at) =
            changing.peers.iter().position(|known| known.remote_public_key == gone.remote_public_key)
        {
            let peer = changing.peers.swap_remove(at);
            changing.emit(CoreEvent::PeerRemoved(peer));
        } else if self.identity.get().is_none() {
            changing.gone.push(gone.remote_public_key);
        }
    }

    fn emit(&self, event: CoreEvent) {
        self.lock().emit(event);
    }

    fn lock(&self) -> MutexGuard<'_, Changing> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Changing {
    fn emit(&self, event: CoreEvent) {
        if let Some(events) = &self.events {
            // Nobody may be listening any more.
            let _ = events.send(event);
        }
    }
}

fn read<M: Required>(payload: Bytes) -> Result<M, ClientError> {
    decode(payload).map_err(|error| ClientError::Protocol(error.to_string()))
}

fn parse_key(bytes: &[u8]) -> Result<Key, ClientError> {
    Key::try_from(bytes).map_err(|_| ClientError::Protocol("a key that has not 32 bytes".into()))
}

pub(crate) fn peer_info(peer: &Peer) -> PeerInfo {
    let mut remote_public_key = [0; 32];
    if let Some(key) = peer.remote_public_key.get(..32) {
        remote_public_key.copy_from_slice(key);
    }
    PeerInfo { remote_public_key, remote_address: peer.remote_address.clone(), kind: peer.r#type.clone() }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
