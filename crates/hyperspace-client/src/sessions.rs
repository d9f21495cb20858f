//! The sessions of one connection, and where its events go.

mod remote_state;

use std::{
    collections::HashMap,
    fmt,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use hypercore::{DiscoveryKey, Key, PeerInfo};
use hyperspace_common::{Method, Required, RpcErrorExt, code, decode, messages::*};
use tokio::sync::broadcast;

pub use self::remote_state::Transferred;
pub(crate) use self::remote_state::{Identity, Kind, Opened, RemoteState};
use crate::{
    connection::{Connection, EventHandler},
    error::ClientError,
    extension::Registered,
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
        let state = Arc::new(RemoteState::new(id, kind));
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
                self.core(id).inspect(|core| core.ended());
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
