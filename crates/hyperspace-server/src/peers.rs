//! Where connections with peers come from: addresses that are dialled, an address that is listened on, and whatever
//! else brings streams.
//!
//! A [`PeerSource`] brings connections; [`PeerHub::connected`] makes each of them replicate the whole store, and
//! [`PeerHub::handshaken`] those of the swarm, which are encrypted already.

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
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

use crate::{
    backoff::Backoff,
    peer_table::PeerTable,
    seldom::{Seldom, accept_failed},
    waits::Discovery,
};

/// How long a stream may take to become a connection with somebody known.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// How long dialling may take.
const DIAL: Duration = Duration::from_secs(10);
/// Delays between attempts to reach a peer.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// A connection that lasted so long was a good one: when it is lost, the next attempt comes soon.
const LASTED: Duration = Duration::from_secs(20);

/// Told when a peer connects and when it has gone, with the peers locked: must be quick, and ask for nothing.
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
    peers: Mutex<PeerTable>,
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
        let (peers, searching) = (Mutex::default(), watch::Sender::new(0));
        Arc::new(Self { store, key_pair, peers, watch, searching })
    }

    /// The daemon's identity.
    pub fn public_key(&self) -> [u8; 32] {
        self.key_pair.public
    }

    /// The peers that are connected.
    pub fn peers(&self) -> Vec<Arc<PeerInfo>> {
        self.lock().peers()
    }

    /// The peers that are connected. Whoever is told of changes from `begin` on misses none and hears of none twice.
    pub(crate) fn peers_and(&self, begin: impl FnOnce()) -> Vec<Arc<PeerInfo>> {
        let peers = self.lock();
        begin();
        peers.peers()
    }

    /// Sends a message in the daemon's own protocol to the peers with this public key, or to all. What goes to those who
    /// do not speak it, or do not read, is lost.
    pub(crate) fn send(&self, to: Option<&[u8; 32]>, message: &Bytes) {
        self.lock().send(to, message);
    }

    /// A source begins to look for peers: until the guard is dropped, nobody is told that no peer has something.
    pub fn searching(self: &Arc<Self>) -> Searching {
        self.searching.send_modify(|sources| *sources += 1);
        Searching { hub: self.clone() }
    }

    /// Replicates the store over a stream: a Noise XX connection, with the side that dialled as the initiator.
    /// Returns once it is known who is on the other side.
    ///
    /// When both sides dial each other, the connection stays that the side with the greater public key has dialled. Who
    /// dialled the other one is given the one that stays: as long as that lasts, there is nothing to dial for.
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
        let options = ReplicateOptions::new(is_initiator, self.key_pair.clone()).remote(kind, address).held();
        let replication = self.store.replicate(io, options)?;
        let refuse = async |reason: &str| {
            replication.close();
            // Whoever counts connections may count on it that this one is none any more.
            let _ = replication.closed().await;
            Err(ReplicateError::Connection { remote: address.into(), reason: reason.into() })
        };
        let remote_public_key = match timeout(HANDSHAKE, replication.opened()).await {
            Ok(opened) => opened?,
            Err(_) => return refuse("it did not finish the handshake").await,
        };
        if remote_public_key == self.public_key() {
            return refuse("it is this daemon itself").await;
        }
        let peer =
            Arc::new(PeerInfo { remote_public_key, remote_address: address.into(), kind: kind.into() });
        let (own_key, added) = (self.public_key(), replication.clone());
        let add = |peers: &mut PeerTable| peers.add_dialled(&own_key, peer.clone(), added, is_initiator);
        match self.enter(add, &replication, peer.clone()) {
            Ok(()) => Ok(replication),
            Err(stays) if is_initiator => {
                replication.close();
                Ok(stays)
            }
            Err(_) => refuse("it is connected already").await,
        }
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
        let options = ReplicateOptions::handshaken(is_initiator, handshake).remote(kind, address).held();
        let replication = self.store.replicate(io, options)?;
        let peer =
            Arc::new(PeerInfo { remote_public_key, remote_address: address.into(), kind: kind.into() });
        let add = |peers: &mut PeerTable| Ok(peers.add(peer.clone(), replication.clone()));
        // Nothing stands in its way.
        let _ = self.enter(add, &replication, peer.clone());
        Ok(replication)
    }

    /// Takes a connection in, unless the table gives another one back.
    fn enter(
        self: &Arc<Self>,
        add: impl FnOnce(&mut PeerTable) -> Result<u64, Replication>,
        replication: &Replication,
        peer: Arc<PeerInfo>,
    ) -> Result<(), Replication> {
        let id = {
            let mut peers = self.lock();
            let id = add(&mut peers)?;
            // Still locked, so that everybody hears of it exactly once.
            (self.watch)(&peer, true);
            id
        };
        info!(address = peer.remote_address, "a peer connected");
        // Only now that clients know the peer may they hear of its cores, or from it.
        replication.proceed();
        replication.offer_protocol();
        let (hub, replication) = (self.clone(), replication.clone());
        tokio::spawn(async move {
            let ended = replication.closed().await;
            {
                let mut peers = hub.lock();
                peers.remove(id);
                (hub.watch)(&peer, false);
            }
            match ended {
                Ok(()) => info!(address = peer.remote_address, "a peer is gone"),
                Err(error) => info!(address = peer.remote_address, "a peer is gone: {error}"),
            }
        });
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, PeerTable> {
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
    /// Connections at the same time.
    pub(crate) places: usize,
}

impl PeerSource for Listen {
    fn run(self: Box<Self>, hub: Arc<PeerHub>, stopping: CancellationToken) -> BoxFuture<'static, ()> {
        async move {
            let places = Arc::new(tokio::sync::Semaphore::new(self.places));
            let (failures, refusals) = (Seldom::default(), Seldom::default());
            loop {
                let accepted = tokio::select! {
                    () = stopping.cancelled() => return,
                    accepted = self.listener.accept() => accepted,
                };
                let (stream, address) = match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        accept_failed(&error, &failures).await;
                        continue;
                    }
                };
                let Ok(place) = places.clone().try_acquire_owned() else {
                    if let Some(times) = refusals.happened() {
                        warn!(%address, limit = self.places, times, "a peer was turned away: there are too many");
                    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn hub() -> Arc<PeerHub> {
        PeerHub::new(Corestore::memory(), KeyPair::generate(), Arc::new(|_, _| {}))
    }

    /// Two sides, the one with the greater key first.
    fn hubs() -> (Arc<PeerHub>, Arc<PeerHub>) {
        let (one, two) = (hub(), hub());
        if one.public_key() > two.public_key() { (one, two) } else { (two, one) }
    }

    type Outcome = Result<Replication, ReplicateError>;

    /// A connection from one side to the other: what becomes of it there and here.
    async fn dial(from: &Arc<PeerHub>, to: &Arc<PeerHub>) -> (Outcome, Outcome) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::join!(from.connected(near, true, "tcp", "far"), to.connected(far, false, "tcp", "near"))
    }

    /// Until one connection is left: both sides hear of the end of the others by and by.
    async fn one_left(hub: &PeerHub) -> Arc<PeerInfo> {
        loop {
            let peers = hub.peers();
            match &peers[..] {
                [peer] => return peer.clone(),
                _ => tokio::task::yield_now().await,
            }
        }
    }

    #[tokio::test]
    async fn the_one_that_the_greater_key_dialled_stays_whichever_comes_first() {
        for greater_first in [true, false] {
            let (greater, lesser) = hubs();
            let (stays, goes) = if greater_first {
                let stays = dial(&greater, &lesser).await;
                (stays, dial(&lesser, &greater).await)
            } else {
                let goes = dial(&lesser, &greater).await;
                (dial(&greater, &lesser).await, goes)
            };
            let (stays, _) = (stays.0.unwrap(), stays.1.unwrap());
            assert_eq!(one_left(&greater).await.remote_address, "far");
            assert_eq!(one_left(&lesser).await.remote_address, "near");
            assert!(!stays.is_closed());
            if greater_first {
                // Who dialled in vain has the other one to wait for; who was dialled has turned it away.
                let given = goes.0.unwrap();
                assert!(!given.is_closed());
                stays.close();
                let _ = given.closed().await;
                assert!(goes.1.is_err());
            } else {
                let _ = goes.0.unwrap().closed().await;
                let again = dial(&lesser, &greater).await;
                assert!(!again.0.unwrap().is_closed(), "there is one to wait for");
                assert!(again.1.is_err());
                assert!(!stays.is_closed());
            }
        }
    }

    #[tokio::test]
    async fn two_addresses_of_one_daemon_need_one_connection() {
        let (one, two) = (hub(), hub());
        let first = dial(&one, &two).await;
        let second = dial(&one, &two).await;
        assert_eq!(one_left(&one).await.remote_address, "far");
        assert_eq!(one_left(&two).await.remote_address, "near");
        first.0.unwrap().close();
        let _ = second.0.unwrap().closed().await;
    }

    #[tokio::test]
    async fn one_that_comes_after_the_end_of_the_other_is_taken() {
        let (greater, lesser) = hubs();
        let first = dial(&greater, &lesser).await;
        let (here, there) = (first.0.unwrap(), first.1.unwrap());
        here.close();
        let _ = tokio::join!(here.closed(), there.closed());
        let second = dial(&lesser, &greater).await;
        let (second, _) = (second.0.unwrap(), second.1.unwrap());
        assert_eq!(one_left(&lesser).await.remote_address, "far");
        assert!(!second.is_closed());
    }
}
