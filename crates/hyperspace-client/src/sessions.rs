//! The sessions of one connection, and where its events go.

use std::{
    collections::HashMap,
    fmt,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use hypercore::{CoreEvent, DiscoveryKey, Key, PeerInfo};
use hyperspace_common::{Method, Required, RpcErrorExt, code, decode, messages::*};
use tokio::sync::{Notify, broadcast, futures::Notified};

use crate::{
    connection::{Connection, EventHandler},
    error::ClientError,
    extension::Registered,
    growth::Questions,
    lock::Turns,
    network_peers::NetworkPeers,
    options::ConnectionEvent,
    restore,
    wishes::Wishes,
};

/// What is called when a get finds nothing.
pub(crate) type OnWait = Box<dyn FnOnce(u64) + Send>;

const UNKNOWN: u8 = 0;
const PLAIN: u8 = 1;
const FULL: u8 = 2;

/// Events that a slow listener may leave unread before it misses some.
const EVENTS_KEPT: usize = 1024;

/// All sessions of a connection.
pub(crate) struct Sessions {
    cores: Mutex<HashMap<u64, Weak<RemoteState>>>,
    /// Sessions, requests that can be cancelled, waits: none is ever used twice, so that nothing that comes late
    /// can be taken for something else.
    next: AtomicU64,
    /// `None` when the connection has ended for good.
    feeds: Mutex<Option<broadcast::Sender<Key>>>,
    connection_events: broadcast::Sender<ConnectionEvent>,
    pub(crate) extensions: Registered,
    /// The peers of the daemon.
    pub(crate) network: NetworkPeers,
    /// What this client wants of the network.
    pub(crate) wishes: Wishes,
    waits: Mutex<HashMap<u64, OnWait>>,
    /// Whether the daemon has the services of our own, once it is known.
    daemon: AtomicU8,
}

/// What is known here of a core that lives in the daemon.
#[derive(Debug)]
pub(crate) struct RemoteState {
    pub(crate) id: u64,
    pub(crate) identity: OnceLock<Identity>,
    /// How it was opened.
    pub(crate) kind: Kind,
    pub(crate) growth: Questions,
    pub(crate) turns: Turns,
    /// The length, whichever way.
    length_changed: Notify,
    changing: Mutex<Changing>,
}

/// How a session was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// As a core; `weak` sessions do not keep it open, read-only ones do not write.
    Core { weak: bool, read_only: bool },
    /// As a snapshot of another session's core.
    Snapshot,
}

/// What the daemon says of a core when it is opened.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    pub(crate) identity: Identity,
    pub(crate) length: u64,
    pub(crate) byte_length: u64,
    pub(crate) fork: u64,
    pub(crate) peers: Vec<PeerInfo>,
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
    fork: u64,
    /// Somebody wants to hear of single blocks.
    watching: bool,
    /// The first open was sent on the connection that there is, and its answer was not looked at.
    is_opening: bool,
    /// The answer to the open, or to another one after a reconnect, was looked at.
    is_open: bool,
    /// Events since then, or before it, say what the length is: older news must not undo it.
    told: bool,
    /// So they do of the fork.
    fork_told: bool,
    peers: Vec<Arc<PeerInfo>>,
    /// Peers that left before the answer to the open was looked at, which may still name them.
    gone: Vec<[u8; 32]>,
    events: Option<broadcast::Sender<CoreEvent>>,
    transferred: Transferred,
    closed: bool,
}

/// The blocks of a core that the daemon has exchanged with peers, for whomever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transferred {
    /// Blocks that came from peers.
    pub downloaded_blocks: u64,
    /// Bytes in them.
    pub downloaded_bytes: u64,
    /// Blocks that went to peers.
    pub uploaded_blocks: u64,
    /// Bytes in them.
    pub uploaded_bytes: u64,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self {
            cores: Mutex::default(),
            next: AtomicU64::new(1),
            feeds: Mutex::new(Some(broadcast::channel(EVENTS_KEPT).0)),
            connection_events: broadcast::channel(EVENTS_KEPT).0,
            extensions: Registered::default(),
            network: NetworkPeers::new(),
            wishes: Wishes::default(),
            waits: Mutex::default(),
            daemon: AtomicU8::new(UNKNOWN),
        }
    }

    /// A number that was not used before.
    pub(crate) fn fresh(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn create(&self, kind: Kind) -> Arc<RemoteState> {
        let id = self.fresh();
        let state = Arc::new(RemoteState {
            id,
            identity: OnceLock::new(),
            kind,
            growth: Questions::default(),
            turns: Turns::default(),
            length_changed: Notify::new(),
            changing: Mutex::default(),
        });
        self.lock().insert(id, Arc::downgrade(&state));
        state
    }

    /// Whether the daemon has the services of our own. The Node one has not, and must not be asked for them.
    pub(crate) async fn has_additional(&self, connection: &Connection) -> Result<bool, ClientError> {
        match self.daemon.load(Ordering::Relaxed) {
            FULL => Ok(true),
            PLAIN => Ok(false),
            _ => {
                let status: HyperspaceStatusResponse = connection.call(Method::HyperspaceStatus, &()).await?;
                let full = status.additional.is_some();
                self.daemon.store(if full { FULL } else { PLAIN }, Ordering::Relaxed);
                Ok(full)
            }
        }
    }

    /// Fails when the daemon has none of the services of our own.
    pub(crate) async fn need_additional(&self, connection: &Connection) -> Result<(), ClientError> {
        if self.has_additional(connection).await? {
            return Ok(());
        }
        let what = "this daemon speaks only the RPC of the Node one, which has no words for it";
        Err(ClientError::Rpc(RpcError::coded(code::NOT_SUPPORTED, what)))
    }

    pub(crate) fn remove(&self, id: u64) {
        self.lock().remove(&id);
        self.extensions.end_session(id);
    }

    /// All sessions that are in use.
    pub(crate) fn all(&self) -> Vec<Arc<RemoteState>> {
        self.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// What happens to the connection.
    pub(crate) fn connection_events(&self) -> broadcast::Receiver<ConnectionEvent> {
        self.connection_events.subscribe()
    }

    /// Calls this once when the daemon says that the get with this number found nothing.
    pub(crate) fn on_wait(&self, id: u64, call: OnWait) {
        self.waits().insert(id, call);
    }

    /// The get is over.
    pub(crate) fn forget_wait(&self, id: u64) {
        self.waits().remove(&id);
    }

    fn waits(&self) -> MutexGuard<'_, HashMap<u64, OnWait>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keys of cores that the daemon loads.
    pub(crate) fn feeds(&self) -> broadcast::Receiver<Key> {
        match &*self.lock_feeds() {
            Some(feeds) => feeds.subscribe(),
            // Its sender is gone at once.
            None => broadcast::channel(1).1,
        }
    }

    fn lock_feeds(&self) -> MutexGuard<'_, Option<broadcast::Sender<Key>>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the daemon told is void, and what it kept is gone. The keys of cores whose locks were held.
    fn forget(&self) -> Vec<Key> {
        // The next daemon may be another one.
        self.daemon.store(UNKNOWN, Ordering::Relaxed);
        self.network.lost();
        let cores = self.all();
        let locked = cores.iter().filter(|core| core.lost());
        locked.filter_map(|core| core.identity.get()).map(|identity| identity.key).collect()
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
            Method::LogOnTruncate => {
                let TruncateEvent { id, length, byte_length, fork } = read(payload)?;
                self.core(id).inspect(|core| core.truncated(length, byte_length, fork));
            }
            Method::HypercoreOnWait => {
                let WaitEvent { on_wait_id, seq, .. } = read(payload)?;
                let call = self.waits().remove(&on_wait_id);
                // The panic of one program part, which was reported, must not take from the others the answers behind this.
                let _ = call.map(|call| panic::catch_unwind(AssertUnwindSafe(|| call(seq))));
            }
            Method::HypercoreOnExtension | Method::NetworkOnExtension => {
                self.extensions.message(read(payload)?);
            }
            Method::NetworkOnPeerAdd => {
                let PeerEvent { peer, .. } = read(payload)?;
                self.network.added(peer_info(&peer));
            }
            Method::NetworkOnPeerRemove => {
                let PeerEvent { peer, .. } = read(payload)?;
                self.network.removed(peer_info(&peer));
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
                self.remove(id);
            }
            Method::HypercoreOnDownload => {
                let DownloadEvent { id, seq: index, byte_length } = read(payload)?;
                self.core(id).inspect(|core| core.downloaded(index, byte_length.unwrap_or_default()));
            }
            Method::HypercoreOnUpload => {
                let UploadEvent { id, seq: index, byte_length } = read(payload)?;
                self.core(id).inspect(|core| core.uploaded(index, byte_length));
            }
            Method::CorestoreOnFeed => {
                let FeedEvent { key } = read(payload)?;
                if let (Ok(key), Some(feeds)) = (Key::try_from(&key[..]), &*self.lock_feeds()) {
                    // Nobody may be listening.
                    let _ = feeds.send(key);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn closed(&self, error: &ClientError) {
        let cores: Vec<_> = self.lock().drain().filter_map(|(_, core)| core.upgrade()).collect();
        for core in cores {
            core.close();
        }
        self.extensions.clear();
        self.network.closed();
        *self.lock_feeds() = None;
        self.wishes.clear();
        // Nobody may be listening.
        let _ = self.connection_events.send(ConnectionEvent::Ended { reason: error.to_string() });
    }

    fn lost(&self, error: &ClientError) {
        let locks = self.forget();
        let _ = self.connection_events.send(ConnectionEvent::Lost { reason: error.to_string(), locks });
    }

    fn lost_again(&self) {
        // Of locks there were none: they are not restored, and calls of others waited.
        self.forget();
    }

    fn restore(&self, connection: Connection) -> BoxFuture<'_, Result<(), ClientError>> {
        restore::everything(self, connection).boxed()
    }

    fn restored(&self) {
        let _ = self.connection_events.send(ConnectionEvent::Restored);
    }
}

impl RemoteState {
    /// The first open is sent.
    pub(crate) fn opening(&self) {
        self.lock().is_opening = true;
    }

    /// What the daemon answered to the open. Fails when that connection is lost: the next one knows nothing of it.
    pub(crate) fn opened(&self, opened: Opened) -> Result<(), ClientError> {
        let mut changing = self.lock();
        if !std::mem::take(&mut changing.is_opening) {
            return Err(ClientError::Disconnected("it was lost before the core was open".into()));
        }
        let _ = self.identity.set(opened.identity);
        if !changing.told {
            (changing.length, changing.byte_length) = (opened.length, opened.byte_length);
        }
        if !changing.fork_told {
            changing.fork = opened.fork;
        }
        for peer in changing.newcomers(opened.peers) {
            changing.peers.push(peer);
        }
        Ok(())
    }

    /// The daemon opened it again: tells what has changed meanwhile.
    pub(crate) fn opened_again(&self, opened: Opened) {
        let mut changing = self.lock();
        let Opened { length, byte_length, fork, peers, .. } = opened;
        // Events may have come already.
        let is_forked = !changing.fork_told && fork != changing.fork;
        let (is_shorter, is_longer) = (length < changing.length, length > changing.length);
        if !changing.fork_told {
            changing.fork = fork;
        }
        let is_told = changing.told;
        if !is_told {
            (changing.length, changing.byte_length) = (length, byte_length);
            self.length_changed.notify_waiters();
        }
        let (length, byte_length) = (changing.length, changing.byte_length);
        if is_forked || (!is_told && is_shorter) {
            // How much of the old history is left is not known; nothing is the safe answer.
            changing.emit(CoreEvent::Truncate { length: 0, byte_length, fork });
            changing.emit(CoreEvent::Append { length, byte_length });
        } else if !is_told && is_longer {
            changing.emit(CoreEvent::Append { length, byte_length });
        }
        for peer in changing.newcomers(peers) {
            changing.peers.push(peer.clone());
            changing.emit(CoreEvent::PeerAdded(peer));
        }
    }

    /// The connection is lost. True when a lock was lost with it.
    fn lost(&self) -> bool {
        let mut changing = self.lock();
        (changing.is_open, changing.told, changing.fork_told) = (false, false, false);
        changing.is_opening = false;
        changing.gone.clear();
        for peer in std::mem::take(&mut changing.peers) {
            changing.emit(CoreEvent::PeerRemoved(peer));
        }
        self.turns.lost()
    }

    pub(crate) fn fork(&self) -> u64 {
        self.lock().fork
    }

    pub(crate) fn transferred(&self) -> Transferred {
        self.lock().transferred
    }

    /// Whether somebody wants to hear of single blocks.
    pub(crate) fn is_watching(&self) -> bool {
        self.lock().watching
    }

    pub(crate) fn length(&self) -> u64 {
        self.lock().length
    }

    /// Ends when the length has changed since this was called.
    pub(crate) fn length_changed(&self) -> Notified<'_> {
        self.length_changed.notified()
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
        let first = !std::mem::replace(&mut changing.watching, true);
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
            self.turns.close();
        }
    }

    fn appended(&self, length: u64, byte_length: u64) {
        let mut changing = self.lock();
        (changing.length, changing.byte_length, changing.told) = (length, byte_length, true);
        self.length_changed.notify_waiters();
        changing.emit(CoreEvent::Append { length, byte_length });
    }

    fn truncated(&self, length: u64, byte_length: u64, fork: u64) {
        let mut changing = self.lock();
        (changing.length, changing.byte_length, changing.told) = (length, byte_length, true);
        (changing.fork, changing.fork_told) = (fork, true);
        self.length_changed.notify_waiters();
        changing.emit(CoreEvent::Truncate { length, byte_length, fork });
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
        } else if !changing.is_open {
            changing.gone.push(gone.remote_public_key);
        }
    }

    fn downloaded(&self, index: u64, bytes: u64) {
        let mut changing = self.lock();
        changing.transferred.downloaded_blocks += 1;
        changing.transferred.downloaded_bytes = changing.transferred.downloaded_bytes.saturating_add(bytes);
        changing.emit(CoreEvent::Download { index, bytes: size(bytes) });
    }

    fn uploaded(&self, index: u64, bytes: u64) {
        let mut changing = self.lock();
        changing.transferred.uploaded_blocks += 1;
        changing.transferred.uploaded_bytes = changing.transferred.uploaded_bytes.saturating_add(bytes);
        changing.emit(CoreEvent::Upload { index, bytes: size(bytes) });
    }

    fn lock(&self) -> MutexGuard<'_, Changing> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Changing {
    /// The peers of the answer to an open that are still there and not known yet.
    fn newcomers(&mut self, peers: Vec<PeerInfo>) -> Vec<Arc<PeerInfo>> {
        self.is_open = true;
        // Events that came after the answer may have been looked at before it.
        let gone = std::mem::take(&mut self.gone);
        let is_known =
            |peer: &PeerInfo| self.peers.iter().any(|k| k.remote_public_key == peer.remote_public_key);
        let is_new = |peer: &PeerInfo| !gone.contains(&peer.remote_public_key) && !is_known(peer);
        peers.into_iter().filter(is_new).map(Arc::new).collect()
    }

    fn emit(&self, event: CoreEvent) {
        if let Some(events) = &self.events {
            // Nobody may be listening any more.
            let _ = events.send(event);
        }
    }
}

impl Opened {
    pub(crate) fn from_plain(response: &OpenResponse) -> Result<Self, ClientError> {
        let key = parse_key(&response.key)?;
        let discovery_key = match &response.discovery_key {
            Some(bytes) => parse_discovery_key(bytes)?,
            None => key.discovery_key(),
        };
        Ok(Self {
            identity: Identity { key, discovery_key, writable: response.writable },
            length: response.length,
            byte_length: response.byte_length,
            fork: 0,
            peers: response.peers.iter().map(peer_info).collect(),
        })
    }

    pub(crate) fn from_full(response: &OpenCoreResponse) -> Result<Self, ClientError> {
        let key = parse_key(&response.key)?;
        let discovery_key = parse_discovery_key(&response.discovery_key)?;
        Ok(Self {
            identity: Identity { key, discovery_key, writable: response.state.writable },
            length: response.state.length,
            byte_length: response.state.byte_length,
            fork: response.state.fork,
            peers: response.peers.iter().map(peer_info).collect(),
        })
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("cores", &self.lock().len()).finish_non_exhaustive()
    }
}

pub(crate) fn parse_discovery_key(bytes: &[u8]) -> Result<DiscoveryKey, ClientError> {
    DiscoveryKey::try_from(bytes)
        .map_err(|_| ClientError::Protocol("a discovery key that has not 32 bytes".into()))
}

fn read<M: Required>(payload: Bytes) -> Result<M, ClientError> {
    decode(payload).map_err(|error| ClientError::Protocol(error.to_string()))
}

pub(crate) fn parse_key(bytes: &[u8]) -> Result<Key, ClientError> {
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
