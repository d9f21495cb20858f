//! Where connections with peers come from: addresses that are dialled, an address that is listened on, and whatever
//! else brings streams.
//!
//! A [`PeerSource`] brings connections; [`PeerHub::connected`] makes each of them replicate the whole store, and
//! [`PeerHub::handshaken`] those of the swarm, which are encrypted already.

use std::{
    collections::HashMap,
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use corestore::{Corestore, ReplicateError, ReplicateOptions, Replication};
use futures::{FutureExt, future::BoxFuture};
use hypercore::{DiscoveryKey, PeerInfo};
use secret_stream::{KeyPair, noise::HandshakeResult};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{backoff::Backoff, server::accept_failed, waits::Discovery};

/// Connections that others may have opened to us at the same time.
const MAX_INCOMING: usize = 1024;
/// How long a stream may take to become a connection with somebody known.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// How long dialling may take.
const DIAL: Duration = Duration::from_secs(10);
/// Delays between attempts to reach a peer.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// A connection that lasted so long was a good one: when it is lost, the next attempt comes soon.
const LASTED: Duration = Duration::from_secs(20);

/// Told when a peer connects and when it has gone.
pub(crate) type PeerWatch = Arc<dyn Fn(&Arc<PeerInfo>, bool) + Send + Sync>;

/// Something that brings connections with peers for as long as the daemon runs.
pub trait PeerSource: fmt::Debug + Send + 'static {
    /// Brings connections until `stopping` is cancelled.
    fn run(self: Box<Self>, hub: Arc<PeerHub>, stopping: CancellationToken) -> BoxFuture<'static, ()>;
}

/// All connections with peers.
pub struct PeerHub {
    store: Corestore,
    key_pair: KeyPair,
    peers: Mutex<HashMap<u64, Arc<PeerInfo>>>,
    next: AtomicU64,
    watch: PeerWatch,
    /// Sources that have not had their first round.
    searching: watch::Sender<usize>,
}

/// A source is still in its first round while this lives: what is asked for may yet be found.
#[derive(Debug)]
pub struct Searching {
    hub: Arc<PeerHub>,
}

impl PeerHub {
    pub(crate) fn new(store: Corestore, key_pair: KeyPair, watch: PeerWatch) -> Arc<Self> {
        let (peers, next, searching) = (Mutex::default(), AtomicU64::new(0), watch::Sender::new(0));
        Arc::new(Self { store, key_pair, peers, next, watch, searching })
    }

    /// The daemon's identity.
    pub fn public_key(&self) -> [u8; 32] {
        self.key_pair.public
    }

    /// The peers that are connected.
    pub fn peers(&self) -> Vec<Arc<PeerInfo>> {
        self.lock().values().cloned().collect()
    }

    /// A source begins to look for peers: until the guard is dropped, nobody is told that no peer has something.
    pub fn searching(self: &Arc<Self>) -> Searching {
        self.searching.send_modify(|sources| *sources += 1);
        Searching { hub: self.clone() }
    }

    /// Replicates the store over a stream: a Noise XX connection, with the side that dialled as the initiator.
    /// Returns once it is known who is on the other side.
    pub async fn connected<IO>(
        self: &Arc<Self>,
        io: IO,
        is_initiator: bool,
        kind: &str,
        address: &str,
    ) -> Result<Replication, ReplicateError>
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let failed =
            |reason: &str| ReplicateError::Connection { remote: address.into(), reason: reason.into() };
        let options = ReplicateOptions::new(is_initiator, self.key_pair.clone()).remote(kind, address);
        let replication = self.store.replicate(io, options)?;
        let remote_public_key = match timeout(HANDSHAKE, replication.opened()).await {
            Ok(opened) => opened?,
            Err(_) => {
                replication.close();
                return Err(failed("it did not finish the handshake"));
            }
        };
        if remote_public_key == self.public_key() {
            replication.close();
            return Err(failed("it is this daemon itself"));
        }
        self.enter(
            &replication,
            PeerInfo { remote_public_key, remote_address: address.into(), kind: kind.into() },
        );
        Ok(replication)
    }

    /// Replicates the store over a stream whose Noise handshake was run already.
    pub fn handshaken<IO>(
        self: &Arc<Self>,
        io: IO,
        is_initiator: bool,
        handshake: HandshakeResult,
        kind: &str,
        address: &str,
    ) -> Result<Replication, ReplicateError>
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let remote_public_key = handshake.remote_public_key;
        let options = ReplicateOptions::handshaken(is_initiator, handshake).remote(kind, address);
        let replication = self.store.replicate(io, options)?;
        self.enter(
            &replication,
            PeerInfo { remote_public_key, remote_address: address.into(), kind: kind.into() },
        );
        Ok(replication)
    }

    fn enter(self: &Arc<Self>, replication: &Replication, peer: PeerInfo) {
        let peer = Arc::new(peer);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        info!(address = peer.remote_address, "a peer connected");
        self.lock().insert(id, peer.clone());
        (self.watch)(&peer, true);
        let (hub, replication) = (self.clone(), replication.clone());
        tokio::spawn(async move {
            let ended = replication.closed().await;
            hub.lock().remove(&id);
            (hub.watch)(&peer, false);
            match ended {
                Ok(()) => info!(address = peer.remote_address, "a peer is gone"),
                Err(error) => info!(address = peer.remote_address, "a peer is gone: {error}"),
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<PeerInfo>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Discovery for PeerHub {
    fn flushed(&self, _discovery_key: &DiscoveryKey) -> Option<BoxFuture<'static, ()>> {
        let mut searching = self.searching.subscribe();
        if *searching.borrow() == 0 {
            return None;
        }
        Some(
            async move {
                // An error means that the daemon ends.
                let _ = searching.wait_for(|sources| *sources == 0).await;
            }
            .boxed(),
        )
    }
}

impl Drop for Searching {
    fn drop(&mut self) {
        self.hub.searching.send_modify(|sources| *sources = sources.saturating_sub(1));
    }
}

impl fmt::Debug for PeerHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerHub").field("peers", &self.lock().len()).finish_non_exhaustive()
    }
}

/// Peers that connect to a TCP address.
#[derive(Debug)]
pub(crate) struct Listen {
    pub(crate) listener: TcpListener,
}

impl PeerSource for Listen {
    fn run(self: Box<Self>, hub: Arc<PeerHub>, stopping: CancellationToken) -> BoxFuture<'static, ()> {
        async move {
            let places = Arc::new(tokio::sync::Semaphore::new(MAX_INCOMING));
            loop {
                let accepted = tokio::select! {
                    () = stopping.cancelled() => return,
                    accepted = self.listener.accept() => accepted,
                };
                let (stream, address) = match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        accept_failed(&error).await;
                        continue;
                    }
                };
                let Ok(place) = places.clone().try_acquire_owned() else {
                    warn!(%address, limit = MAX_INCOMING, "a peer was turned away: there are too many");
                    continue;
                };
                let hub = hub.clone();
                tokio::spawn(async move {
                    match start(&hub, stream, false, &address.to_string()).await {
                        Ok(replication) => drop(replication.closed().await),
                        Err(error) => debug!(%address, "a peer failed to connect: {error}"),
                    }
                    drop(place);
                });
            }
        }
        .boxed()
    }
}

/// A peer at a TCP address, dialled again whenever it is lost.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) address: String,
}

impl PeerSource for Dial {
    fn run(self: Box<Self>, hub: Arc<PeerHub>, stopping: CancellationToken) -> BoxFuture<'static, ()> {
        let mut searching = Some(hub.searching());
        async move {
            use std::hash::{BuildHasher, RandomState};
            let mut backoff = Backoff::new(RETRY.0, RETRY.1, RandomState::new().hash_one(&self.address));
            let mut said = false;
            let dialling = async {
                loop {
                    let connected = dial(&hub, &self.address).await;
                    // The first round is over: the peer is connected, or cannot be reached now.
                    searching = None;
                    match connected {
                        Ok(replication) => {
                            said = false;
                            let start = tokio::time::Instant::now();
                            let _ = replication.closed().await;
                            if start.elapsed() >= LASTED {
                                backoff.succeeded();
                            }
                        }
                        Err(error) if said => debug!("{error}; trying again"),
                        Err(error) => {
                            said = true;
                            warn!("{error}; trying again until it answers");
                        }
                    }
                    tokio::time::sleep(backoff.failed()).await;
                }
            };
            tokio::select! {
                () = stopping.cancelled() => {}
                () = dialling => {}
            }
        }
        .boxed()
    }
}

async fn dial(hub: &Arc<PeerHub>, address: &str) -> Result<Replication, ReplicateError> {
    let failed = |reason: String| ReplicateError::Connection { remote: address.into(), reason };
    match timeout(DIAL, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => start(hub, stream, true, address).await,
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed("it does not answer".into())),
    }
}

async fn start(
    hub: &Arc<PeerHub>,
    stream: TcpStream,
    is_initiator: bool,
    address: &str,
) -> Result<Replication, ReplicateError> {
    let set = |result: io::Result<()>| {
        result
            .map_err(|error| ReplicateError::Connection { remote: address.into(), reason: error.to_string() })
    };
    set(stream.set_nodelay(true))?;
    hub.connected(stream, is_initiator, "tcp", address).await
}
