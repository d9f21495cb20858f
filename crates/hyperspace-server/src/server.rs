//! The daemon as a library: start it, ask where it listens, end it.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use hypercore::{DiscoveryKey, Hypercore, Key, PeerInfo};
use hyperspace_common::RpcError;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    answer::core_error,
    connection::{self, Connection},
    cores::Cores,
    limits::Limits,
    listener::{ListenError, SocketListener, listen_loopback},
    mailbox::{Event, Mailbox},
    rpc::{Gone, SessionCore},
    waits::Discovery,
};

/// How many cores are remembered as told of; beyond, some may be told of twice.
const FEEDS_REMEMBERED: usize = 65_536;

/// How a server is to run.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// The UNIX socket; `None` for no socket.
    pub socket: Option<PathBuf>,
    /// A loopback address for RPC over TCP.
    pub rpc_listen: Option<String>,
    /// What clients may take.
    pub limits: Limits,
}

/// Why a server cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// It cannot listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A core could not be opened.
    #[error(transparent)]
    Core(#[from] hypercore::Error),
}

/// A running server. It ends when it is stopped or dropped.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    socket: Option<PathBuf>,
    rpc_address: Option<SocketAddr>,
}

/// What all connections share.
pub(crate) struct Shared {
    cores: Cores,
    clients: Arc<Clients>,
    limits: Limits,
    stopping: CancellationToken,
    next_client: AtomicU64,
}

impl Server {
    /// Starts a server on the current tokio runtime. When this returns, clients can connect.
    pub async fn start(options: ServerOptions) -> Result<Self, StartError> {
        let clients = Arc::new(Clients::default());
        let told = clients.clone();
        let cores = Cores::memory(Arc::new(move |core| told.feed(core)));
        let shared = Arc::new(Shared {
            cores,
            clients,
            limits: options.limits,
            stopping: CancellationToken::new(),
            next_client: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        let mut rpc_address = None;
        if let Some(address) = &options.rpc_listen {
            let listener = listen_loopback(address).await?;
            rpc_address = listener.local_addr().ok();
            tasks.spawn(accept_tcp(shared.clone(), listener));
        }
        if let Some(path) = &options.socket {
            let listener = SocketListener::bind(path).await?;
            tasks.spawn(accept_socket(shared.clone(), listener));
        }
        Ok(Self { shared, tasks, socket: options.socket, rpc_address })
    }

    /// The UNIX socket that clients connect to.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// The TCP address that clients connect to.
    pub fn rpc_address(&self) -> Option<SocketAddr> {
        self.rpc_address
    }

    /// Serves a client on any stream, until either side ends. Returns why.
    pub fn serve<IO>(&self, io: IO) -> impl Future<Output = Gone> + Send + use<IO>
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        serve_client(self.shared.clone(), io)
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
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl Shared {
    /// Opens a core.
    pub(crate) fn open(&self, key: Option<Key>, name: Option<&str>) -> Result<Hypercore, RpcError> {
        self.cores.open(key, name).map_err(|error| core_error(&error))
    }

    /// Opens a core for a session that is not to keep it open. When nobody else has it open, the session keeps it
    /// all the same: otherwise it would be of no use.
    pub(crate) fn open_weak(
        &self,
        key: Option<Key>,
        name: Option<&str>,
    ) -> Result<(Hypercore, SessionCore), RpcError> {
        let core = self.open(key, name)?;
        let holder = if core.session_count() > 1 {
            SessionCore::Weak(core.weak())
        } else {
            SessionCore::Strong(core.clone())
        };
        Ok((core, holder))
    }

    /// Ends the server.
    pub(crate) fn stop(&self) {
        self.stopping.cancel();
    }

    pub(crate) fn discovery(&self) -> Arc<dyn Discovery> {
        Arc::new(Nobody)
    }

    pub(crate) fn public_key(&self) -> [u8; 32] {
        [0; 32]
    }

    pub(crate) fn network_peers(&self) -> Vec<Arc<PeerInfo>> {
        Vec::new()
    }
}

struct Nobody;

impl Discovery for Nobody {
    fn flushed(&self, _: &DiscoveryKey) -> Option<BoxFuture<'static, ()>> {
        None
    }
}

/// The clients that are connected.
#[derive(Default)]
struct Clients {
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

    /// Tells every client of a core that was loaded, the first time that it is.
    fn feed(&self, core: &Hypercore) {
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

    /// Takes a client in, unless there are too many.
    fn enter(self: &Arc<Self>, id: u64, limit: usize) -> Option<(Arc<Mailbox>, Presence)> {
        let mut state = self.lock();
        if state.mailboxes.len() >= limit {
            return None;
        }
        let mailbox = Arc::new(Mailbox::default());
        state.mailboxes.insert(id, mailbox.clone());
        Some((mailbox, Presence { clients: self.clone(), id }))
    }

    async fn wait_empty(&self) {
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
struct Presence {
    clients: Arc<Clients>,
    id: u64,
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut state = self.clients.lock();
        state.mailboxes.remove(&self.id);
        if state.mailboxes.is_empty() {
            self.clients.empty.notify_waiters();
        }
    }
}

async fn accept_socket(shared: Arc<Shared>, listener: SocketListener) {
    loop {
        tokio::select! {
            () = shared.stopping.cancelled() => return,
            client = listener.accept() => match client {
                Ok(client) => { tokio::spawn(serve_client(shared.clone(), client)); }
                Err(error) => accept_failed(&error).await,
            }
        }
    }
}

async fn accept_tcp(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        tokio::select! {
            () = shared.stopping.cancelled() => return,
            client = listener.accept() => match client {
                Ok((client, _)) => {
                    let _ = client.set_nodelay(true);
                    tokio::spawn(serve_client(shared.clone(), client));
                }
                Err(error) => accept_failed(&error).await,
            }
        }
    }
}

/// A failed accept is the system's trouble (too many open files) or the client's (gone already): neither lasts.
pub(crate) async fn accept_failed(error: &io::Error) {
    warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

async fn serve_client<IO>(shared: Arc<Shared>, io: IO) -> Gone
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let id = shared.next_client.fetch_add(1, Ordering::Relaxed);
    let limits = shared.limits.clone();
    let Some((mailbox, presence)) = shared.clients.enter(id, limits.max_clients) else {
        warn!(limit = limits.max_clients, "a client was turned away: there are too many");
        return Gone::TooManyClients;
    };
    debug!(client = id, "a client connected");
    let stopping = shared.stopping.clone();
    let connection = Connection::new(io, shared, mailbox, limits);
    let gone = connection::run(connection, stopping).await;
    match gone {
        Gone::Closed | Gone::Stopped => debug!(client = id, "a client is gone: {gone}"),
        _ => info!(client = id, "a client was let go: {gone}"),
    }
    drop(presence);
    gone
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
