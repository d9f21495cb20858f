//! The daemon as a library: start it, ask where it listens, end it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use corestore::{Corestore, LoadWatch, Query, replicate::OwnProtocol};
use futures::{FutureExt, Stream, future::BoxFuture, stream};
use hypercore::{DiscoveryKey, Hypercore, PeerInfo};
use hyperspace_common::{AccessToken, RpcError, messages::StatsResponse};
use hyperspace_websocket::Origins;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    sync::{OwnedSemaphorePermit, Semaphore, broadcast},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    admission::{NoTokens, Tokens},
    answer::core_error,
    clients::Clients,
    connection::{self, Chat, Connection, ReadsOn},
    descriptors::{Shares, Wishes},
    extensions::{Extensions, PROTOCOL, Scope},
    lanes::Lanes,
    limits::Limits,
    listener::{ListenError, SocketListener, listen_anywhere, listen_for_clients},
    locks::Locks,
    network::{ClientTopics, Network, NetworkOptions, own_core},
    peers::{Dial, Listen, PeerHub, PeerSource},
    rpc::{Gone, SessionCore},
    seldom::{Seldom, accept_failed},
    transport::{Carrier, Door},
    waits::Discovery,
};

/// The namespace of what the daemon itself keeps, so that no name of a user's can meet it.
pub(crate) const OWN_NAMESPACE: &str = "@hyperspace:internal";
/// How often the store is asked whether something is to be forced to disk.
const SYNC_LOOK: Duration = Duration::from_millis(250);

/// How a server is to run.
#[derive(Debug, Default)]
pub struct ServerOptions {
    /// Where cores are stored; `None` for memory.
    pub store: Option<Corestore>,
    /// The UNIX socket; `None` for no socket.
    pub socket: Option<PathBuf>,
    /// How many threads of their own the clients of the UNIX socket get; see [`suitable_client_threads`]. Such a
    /// client's next call is waited for awake for a tenth of a millisecond, as long as its calls come at once. 0 to
    /// serve them on the current runtime.
    ///
    /// [`suitable_client_threads`]: crate::suitable_client_threads
    pub client_threads: usize,
    /// An address for RPC over TCP; a loopback address unless there are tokens.
    pub rpc_listen: Option<String>,
    /// An address for RPC over WebSocket. There must be a token.
    pub ws_listen: Option<String>,
    /// Whose pages may connect over WebSocket.
    pub ws_origins: Origins,
    /// Whoever comes over TCP or WebSocket has to show one of these; see [`tokens_from_file`](crate::tokens_from_file).
    /// The UNIX socket's mode says who may use that.
    pub tokens: Vec<AccessToken>,
    /// A TCP address for peers to connect to.
    pub peer_listen: Option<String>,
    /// TCP addresses of peers to connect to.
    pub connect: Vec<String>,
    /// How to take part in the swarm; `None` to stay out of it.
    pub network: Option<NetworkOptions>,
    /// Whatever else brings connections with peers.
    pub sources: Vec<Box<dyn PeerSource>>,
    /// What clients may take.
    pub limits: Limits,
}

/// Events that a slow listener may leave unread before it misses some.
const EVENTS_KEPT: usize = 1024;

/// What happens to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerEvent {
    /// A client connected.
    ClientOpen {
        /// Its number; none is used twice.
        id: u64,
    },
    /// A client is gone, and what it held is free.
    ClientClose {
        /// Its number.
        id: u64,
        /// Why.
        reason: String,
    },
    /// A peer is connected, and among [`Server::peers`].
    PeerOpen {
        /// Who, and where.
        peer: Arc<PeerInfo>,
    },
    /// A connection with a peer has ended. There may be another one with the same peer.
    PeerClose {
        /// As it was when it came.
        peer: Arc<PeerInfo>,
    },
}

/// Why a server cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// It cannot listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// It cannot take part in the swarm.
    #[error(transparent)]
    Network(#[from] hyperdht::BindError),
    /// The store's primary key yields no usable identity.
    #[error("the store yields no usable key pair for connections with peers")]
    KeyPair,
}

/// A running server. It ends when it is stopped or dropped. Its store is closed when it is stopped; when it is dropped, the
/// store closes with the last who holds it.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    tokens: Arc<Tokens>,
    socket: Option<PathBuf>,
    rpc_address: Option<SocketAddr>,
    ws_address: Option<SocketAddr>,
    peer_address: Option<SocketAddr>,
}

/// What all connections share.
pub(crate) struct Shared {
    store: Corestore,
    peers: Arc<PeerHub>,
    network: Arc<Network>,
    clients: Arc<Clients>,
    locks: Arc<Locks>,
    extensions: Arc<Extensions>,
    limits: Limits,
    shares: Shares,
    /// Of clients that have connected to us.
    places: Arc<Semaphore>,
    crowded: Seldom,
    stopping: CancellationToken,
    next_client: AtomicU64,
    started: Instant,
    events: broadcast::Sender<ServerEvent>,
    _feeds: LoadWatch,
}

impl Server {
    /// Starts a server on the current tokio runtime. When this returns, clients can connect.
    pub async fn start(options: ServerOptions) -> Result<Self, StartError> {
        let store = options.store.unwrap_or_else(Corestore::memory);
        let clients = Arc::new(Clients::default());
        let (told, own_core) = (clients.clone(), own_core(&store));
        let feeds = store.on_load(Arc::new(move |core| {
            if core.discovery_key() != own_core {
                told.feed(core);
            }
        }));
        let extensions = Arc::new(Extensions::default());
        let listening = extensions.clone();
        store.hub().set_extension_sink(Some(Arc::new(move |core, remote, name, message| {
            listening.deliver(Scope::Core(*core), remote, name, &message);
        })));
        let listening = extensions.clone();
        store.hub().set_own_protocol(Some(OwnProtocol {
            name: PROTOCOL.into(),
            sink: Arc::new(move |remote, message| listening.deliver_network(remote, message)),
        }));
        let events = broadcast::Sender::new(EVENTS_KEPT);
        let (told, heard) = (clients.clone(), events.clone());
        let watch = Arc::new(move |peer: &Arc<PeerInfo>, connected| {
            told.peer(peer, connected);
            let peer = peer.clone();
            // Nobody may be listening.
            let _ = heard.send(match connected {
                true => ServerEvent::PeerOpen { peer },
                false => ServerEvent::PeerClose { peer },
            });
        });
        let identity = identity(&store)?;
        let peers = PeerHub::new(store.clone(), identity.clone(), watch);
        let network = Network::start(options.network.as_ref(), &store, identity).await?;
        let shares = Shares::now(Wishes {
            pending: options
                .rpc_listen
                .as_ref()
                .or(options.ws_listen.as_ref())
                .map(|_| options.limits.max_pending),
            peers: options.peer_listen.is_some(),
            dialled: options.connect.len(),
            network: options.network.is_some(),
        });
        info!(?shares, "files and connections that may be open at the same time");
        let shared = Arc::new(Shared {
            store,
            peers: peers.clone(),
            network: network.clone(),
            clients,
            locks: Arc::default(),
            extensions,
            limits: options.limits,
            shares,
            places: Arc::new(Semaphore::new(shares.clients)),
            crowded: Seldom::default(),
            stopping: CancellationToken::new(),
            next_client: AtomicU64::new(0),
            started: Instant::now(),
            events,
            _feeds: feeds,
        });
        // Everything that can fail comes before the first task.
        let (mut rpc_address, mut ws_address, mut peer_address) = (None, None, None);
        let mut sources = options.sources;
        let rpc = match &options.rpc_listen {
            Some(address) => Some(listen_for_clients(address, !options.tokens.is_empty()).await?),
            None => None,
        };
        let websocket = match &options.ws_listen {
            Some(_) if options.tokens.is_empty() => return Err(ListenError::NoToken.into()),
            Some(address) => Some(listen_for_clients(address, true).await?),
            None => None,
        };
        if let Some(address) = &options.peer_listen {
            let listener = listen_anywhere(address).await?;
            peer_address = listener.local_addr().ok();
            sources.push(Box::new(Listen { listener, places: shares.peers }));
        }
        let socket = match &options.socket {
            Some(path) => Some(SocketListener::bind(path).await?),
            None => None,
        };
        let mut tasks = JoinSet::new();
        sources.extend(
            options.connect.into_iter().map(|address| Box::new(Dial { address }) as Box<dyn PeerSource>),
        );
        for source in sources {
            tasks.spawn(source.run(peers.clone(), shared.stopping.clone()));
        }
        tasks.spawn(network.run(peers.clone(), shared.stopping.clone()));
        let tokens = Arc::new(Tokens::new(&options.tokens));
        let door = Arc::new(Door::new(shared.clone(), tokens.clone(), options.ws_origins));
        if let Some(listener) = rpc {
            rpc_address = listener.local_addr().ok();
            tasks.spawn(door.clone().keep(listener, Carrier::Tcp));
        }
        if let Some(listener) = websocket {
            ws_address = listener.local_addr().ok();
            tasks.spawn(door.keep(listener, Carrier::WebSocket));
        }
        if let Some(listener) = socket {
            tasks.spawn(accept_socket(shared.clone(), listener, Lanes::new(options.client_threads)));
        }
        tasks.spawn(keep_synced(shared.clone()));
        Ok(Self { shared, tasks, tokens, socket: options.socket, rpc_address, ws_address, peer_address })
    }

    /// The store.
    pub fn store(&self) -> &Corestore {
        &self.shared.store
    }

    /// The daemon's identity towards peers. It stays the same as long as the store does.
    pub fn public_key(&self) -> [u8; 32] {
        self.shared.peers.public_key()
    }

    /// The peers that are connected.
    pub fn peers(&self) -> Vec<Arc<PeerInfo>> {
        self.shared.peers.peers()
    }

    /// The TCP address that peers connect to.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.peer_address
    }

    /// The UDP address of the daemon's node in the DHT, when it takes part in the swarm.
    pub fn dht_address(&self) -> Option<SocketAddr> {
        self.shared.network.address()
    }

    /// The UNIX socket that clients connect to.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// The TCP address that clients connect to.
    pub fn rpc_address(&self) -> Option<SocketAddr> {
        self.rpc_address
    }

    /// The TCP address that clients connect to over WebSocket.
    pub fn ws_address(&self) -> Option<SocketAddr> {
        self.ws_address
    }

    /// From now on, whoever comes over TCP or WebSocket has to show one of these tokens. Those who are in stay.
    pub fn set_tokens(&self, tokens: &[AccessToken]) -> Result<(), NoTokens> {
        self.tokens.replace(tokens)
    }

    /// Serves a client on any stream, until either side ends. Returns why.
    pub fn serve<IO>(&self, io: IO) -> impl Future<Output = Gone> + Send + use<IO>
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        serve_client(self.shared.clone(), io, Chat::Ignored, |_| true)
    }

    /// What happens from now on. Ends with the server; a reader that is far too slow misses some.
    pub fn events(&self) -> impl Stream<Item = ServerEvent> + Send + use<> {
        stream::unfold(self.shared.events.subscribe(), |mut events| async move {
            loop {
                match events.recv().await {
                    Ok(event) => return Some((event, events)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        })
    }

    /// How many clients are connected.
    pub fn client_count(&self) -> usize {
        self.shared.clients.count()
    }

    /// Waits until a client or [`Server::stop`] ends the server.
    pub async fn stopped(&self) {
        self.shared.stopping.cancelled().await;
    }

    /// Ends the server: no more clients, connections closed, everything stored.
    pub async fn stop(mut self) {
        self.shared.stop();
        while self.tasks.join_next().await.is_some() {}
        self.shared.clients.wait_empty().await;
        if let Err(error) = self.shared.store.close() {
            warn!(%error, "the store could not be forced to disk");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop();
        self.shared.leave_peers();
    }
}

impl Shared {
    /// Opens a core for a session.
    ///
    /// A weak session is not to keep its core open. When nobody else has it open, it does all the same: otherwise it
    /// would be of no use.
    pub(crate) fn open(
        &self,
        store: &Corestore,
        query: Query,
        weak: bool,
    ) -> Result<(Hypercore, SessionCore), RpcError> {
        let core = store.get(query).map_err(|error| core_error(&error))?;
        let holder = if weak { weak_holder(&core) } else { SessionCore::Strong(core.clone()) };
        Ok((core, holder))
    }

    /// The daemon in figures.
    pub(crate) fn stats(&self) -> StatsResponse {
        // One after the other: whoever has the peers locked may want the clients.
        let clients = self.clients.count() as u64;
        let peers = self.peers.peers().len() as u64;
        StatsResponse {
            open_cores: self.store.loaded_count() as u64,
            clients,
            peers,
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Ends the connections with peers, which are tasks of their own and hold the store, and stores everything. The cores
    /// stay open for those who have them: clients are to see that their connection ends, and not that cores were closed.
    fn leave_peers(&self) {
        if self.store.is_closed() {
            return;
        }
        self.store.hub().close();
        if let Err(error) = self.store.database().sync() {
            warn!(%error, "the store could not be forced to disk");
        }
    }

    /// Ends the server.
    pub(crate) fn stop(&self) {
        self.stopping.cancel();
    }

    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn shares(&self) -> Shares {
        self.shares
    }

    /// A place for a client that has connected, for as long as its connection is open; `None` when the process may not
    /// have more connections open.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        let place = self.places.clone().try_acquire_owned().ok();
        if place.is_none()
            && let Some(times) = self.crowded.happened()
        {
            let Shares { allowed, clients: limit, .. } = self.shares;
            warn!(
                limit,
                times,
                "a client was turned away: this process may have {allowed} files and connections open; allow it more \
                 (ulimit -n)"
            );
        }
        place
    }

    pub(crate) fn discovery(&self) -> Arc<dyn Discovery> {
        Arc::new(Both(self.peers.clone(), self.network.clone()))
    }

    /// Whether others can reach this daemon, and where they see it.
    pub(crate) fn reachability(&self) -> (bool, Option<SocketAddr>) {
        self.network.reachability()
    }

    /// What a client says about topics, for as long as it is there.
    pub(crate) fn topics(&self, client: u64) -> ClientTopics {
        ClientTopics::new(self.network.clone(), client)
    }

    pub(crate) fn peers(&self) -> &PeerHub {
        &self.peers
    }

    pub(crate) fn store(&self) -> &Corestore {
        &self.store
    }

    pub(crate) fn locks(&self) -> &Arc<Locks> {
        &self.locks
    }

    pub(crate) fn extensions(&self) -> &Arc<Extensions> {
        &self.extensions
    }

    /// Whether every client but this one was told everything that has happened so far.
    pub(crate) fn others_know(&self, client: u64) -> bool {
        self.clients.untold(client).is_empty()
    }

    /// Waits until every client but this one was told everything that has happened so far, or is gone.
    pub(crate) async fn others_are_told(&self, client: u64) {
        for (mailbox, event) in self.clients.untold(client) {
            mailbox.told(event).await;
        }
    }
}

/// Peers that are dialled at their addresses, and those that the swarm finds.
struct Both(Arc<PeerHub>, Arc<Network>);

impl Discovery for Both {
    fn flushed(&self, discovery_key: &DiscoveryKey) -> Option<BoxFuture<'static, ()>> {
        match (self.0.flushed(discovery_key), self.1.flushed(discovery_key)) {
            (Some(one), Some(two)) => Some(futures::future::join(one, two).map(drop).boxed()),
            (one, two) => one.or(two),
        }
    }
}

/// What a weak session holds: when nobody else has the core open, the core itself.
fn weak_holder(core: &Hypercore) -> SessionCore {
    if core.session_count() > 1 { SessionCore::Weak(core.weak()) } else { SessionCore::Strong(core.clone()) }
}

/// The key pair that the daemon shows to peers: over TCP, and in the swarm.
fn identity(store: &Corestore) -> Result<secret_stream::KeyPair, StartError> {
    let pair = store.namespace(OWN_NAMESPACE).key_pair("noise");
    secret_stream::KeyPair::from_secret_bytes(&pair.secret_bytes()).ok_or(StartError::KeyPair)
}

/// Serves the store's fsync policy.
async fn keep_synced(shared: Arc<Shared>) {
    tokio::select! {
        () = shared.stopping.cancelled() => {}
        // It tells of errors itself, and the store tries once more when it is closed.
        _ = shared.store.keep_synced(SYNC_LOOK) => {}
    }
}

async fn accept_socket(shared: Arc<Shared>, listener: SocketListener, mut lanes: Lanes) {
    let failures = Seldom::default();
    loop {
        tokio::select! {
            () = shared.stopping.cancelled() => break,
            client = listener.accept() => {
                let served = client.and_then(UnixStream::into_std).and_then(|client| match shared.place() {
                    Some(place) => lanes.serve(shared.clone(), client, place),
                    None => Ok(()),
                });
                if let Err(error) = served {
                    accept_failed(&error, &failures).await;
                }
            }
        }
    }
    drop(listener);
    // Their threads stay until each has had its farewell.
    shared.clients.wait_empty().await;
}

/// Serves a client that may come in, until either side ends.
pub(crate) async fn serve_client<IO>(
    shared: Arc<Shared>,
    io: IO,
    chat: Chat<IO>,
    reads_on: ReadsOn<IO>,
) -> Gone
where
    IO: AsyncRead + AsyncWrite + Send + Unpin,
{
    let id = shared.next_client.fetch_add(1, Ordering::Relaxed);
    let limits = shared.limits.clone();
    let Some((mailbox, presence)) = shared.clients.enter(id, &limits) else {
        if let Some(times) = shared.crowded.happened() {
            warn!(limit = limits.max_clients, times, "a client was turned away: there are too many");
        }
        return Gone::TooManyClients;
    };
    debug!(client = id, "a client connected");
    let (stopping, events) = (shared.stopping.clone(), shared.events.clone());
    // Nobody may be listening.
    let _ = events.send(ServerEvent::ClientOpen { id });
    let connection = Connection::new(io, shared, mailbox, id, limits, chat, reads_on);
    let gone = connection::run(connection, stopping).await;
    match gone {
        Gone::Closed | Gone::Stopped => debug!(client = id, "a client is gone: {gone}"),
        _ => info!(client = id, "a client was let go: {gone}"),
    }
    drop(presence);
    let _ = events.send(ServerEvent::ClientClose { id, reason: gone.to_string() });
    gone
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
