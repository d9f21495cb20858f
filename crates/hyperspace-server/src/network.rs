//! The daemon in the swarm: topics that clients want are announced and looked up, and every connection that comes of it
//! replicates the whole store.

mod remembered;
mod settings;
mod topics;

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use corestore::Corestore;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use hypercore::{DiscoveryKey, WeakHypercore};
use hyperdht::{BindError, DEFAULT_PORT, DhtOptions};
use hyperswarm::{DhtNode, Discovery as Join, Flush, Hyperswarm, SwarmOptions};
use secret_stream::KeyPair;
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

pub(crate) use remembered::own_core;
pub(crate) use settings::{ClientTopics, Setting};
pub(crate) use topics::Roles;

use self::{remembered::Remembered, topics::Topics};
use crate::{peers::PeerHub, waits::Discovery};

/// Topics that something is wanted of, or remembered of, at the same time.
const MAX_TOPICS: usize = 131_072;
/// Connections at which no more peers are dialled (npm `hyperspace` 3.19.0).
const MAX_PEERS: usize = 256;
/// Connections that others may have opened to us at the same time.
const MAX_INCOMING: usize = 1024;
/// Peers that are dialled at the same time.
const MAX_PARALLEL: usize = 8;
/// How often it is looked which cores nobody has open any more.
const SWEEP: Duration = Duration::from_secs(60);
/// How long nobody is told that no peer has something, because the swarm is still looking for peers. A round ends much
/// sooner, unless the network loses most of what is sent.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long taking back what was announced may hold up the end of the daemon.
const GOODBYE: Duration = Duration::from_secs(5);

/// How the daemon takes part in the swarm.
#[derive(Debug, Clone)]
pub struct NetworkOptions {
    /// The UDP address that the node of the DHT is bound to. `None`: port 49737 of all interfaces, or any other when
    /// that is taken.
    pub address: Option<SocketAddr>,
    /// The UDP port that connections go out from; any other is taken when it is not free. 0 for any.
    pub port: u16,
    /// Nodes to enter the DHT through: `host:port` or `ip@host:port`. `None`: those of the public network.
    pub bootstrap: Option<Vec<String>>,
    /// Announce what clients want announced, and not only look for others.
    pub announce: bool,
    /// Public keys of blind relays, of which one is gone through where no direct way to a peer is found.
    pub relays: Vec<[u8; 32]>,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self { address: None, port: 0, bootstrap: None, announce: true, relays: Vec::new() }
    }
}

impl NetworkOptions {
    /// The options of the DHT's node.
    pub fn dht(&self) -> DhtOptions {
        let address =
            self.address.unwrap_or_else(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), DEFAULT_PORT));
        DhtOptions {
            bootstrap: self.bootstrap.clone(),
            host: address.ip(),
            port: address.port(),
            // Whoever names an address means it.
            any_port: self.address.is_none(),
            client_port: self.port,
            ..DhtOptions::default()
        }
    }
}

/// The topics that clients want, and the daemon's place in the swarm.
pub(crate) struct Network {
    /// `None`: the daemon stays out of the swarm.
    side: Option<Side>,
    announce: bool,
    state: Mutex<State>,
    remembered: Remembered,
    /// Held while what is remembered changes.
    remembering: Mutex<()>,
    said_full: AtomicBool,
}

/// The swarm, and what takes its connections.
struct Side {
    swarm: Hyperswarm<DhtNode>,
    /// Asks the task that takes connections whether it has taken all that there were.
    barriers: mpsc::UnboundedSender<oneshot::Sender<()>>,
    barrier_requests: Mutex<Option<mpsc::UnboundedReceiver<oneshot::Sender<()>>>>,
}

struct State {
    topics: Topics,
    joined: HashMap<DiscoveryKey, Joined>,
    /// The cores for which topics are joined because they are open.
    cores: HashMap<DiscoveryKey, WeakHypercore>,
    /// How often a topic was joined.
    joins: u64,
    /// The round of all topics together, and how often a topic had been joined when it began.
    everything: Option<(u64, Round)>,
}

/// A topic in the swarm.
struct Joined {
    join: Join<DhtNode>,
    roles: Roles,
    /// The newest round, once somebody has asked for it.
    round: Option<Round>,
}

/// Ends when those who were looked up were found and dialled, and the connections that came of it replicate.
type Round = Shared<BoxFuture<'static, ()>>;

impl Network {
    /// Takes part in the swarm as the options say, or not at all.
    pub(crate) async fn start(
        options: Option<&NetworkOptions>,
        store: &Corestore,
        key_pair: KeyPair,
    ) -> Result<Arc<Self>, BindError> {
        let side = match options {
            Some(options) => Some(Side::start(options, key_pair).await?),
            None => None,
        };
        let state = State {
            topics: Topics::new(MAX_TOPICS),
            joined: HashMap::new(),
            cores: HashMap::new(),
            joins: 0,
            everything: None,
        };
        let network = Self {
            side,
            announce: options.is_none_or(|options| options.announce),
            state: Mutex::new(state),
            remembered: Remembered::new(store),
            remembering: Mutex::default(),
            said_full: AtomicBool::new(false),
        };
        network.restore();
        Ok(Arc::new(network))
    }

    /// Where the node of the DHT is bound.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        Some(self.side.as_ref()?.swarm.dht().hyperdht().local_address())
    }

    /// Whether others can reach this daemon, at least with hole punching; and where they see it.
    pub(crate) fn reachability(&self) -> (bool, Option<SocketAddr>) {
        let Some(side) = &self.side else { return (false, None) };
        let status = side.swarm.dht().hyperdht().status();
        (status.is_holepunchable(), status.remote_address)
    }

    /// Makes connections replicate until the daemon ends.
    pub(crate) async fn run(self: Arc<Self>, hub: Arc<PeerHub>, stopping: CancellationToken) {
        let Some(side) = &self.side else { return };
        let requests = side.barrier_requests.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut barriers) = requests else { return };
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stopping.cancelled() => break,
                connection = side.swarm.next_connection() => match connection {
                    Some((connection, _)) => replicate(&hub, connection),
                    None => break,
                },
                // Only when no connection waits.
                Some(passed) = barriers.recv() => drop(passed.send(())),
                _ = sweep.tick() => self.sweep(),
            }
        }
        if timeout(GOODBYE, side.swarm.destroy()).await.is_err() {
            debug!("not everything that was announced could be taken back in time");
            side.swarm.destroy_now().await;
        }
    }

    fn say_full(&self) {
        if !self.said_full.swap(true, Ordering::Relaxed) {
            warn!("{MAX_TOPICS} topics are known; what comes on top of them is not in the swarm");
        }
    }

    fn remembering(&self) -> MutexGuard<'_, ()> {
        self.remembering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Side {
    async fn start(options: &NetworkOptions, key_pair: KeyPair) -> Result<Self, BindError> {
        let swarm_options = SwarmOptions {
            max_peers: MAX_PEERS,
            max_server_connections: MAX_INCOMING,
            max_parallel: MAX_PARALLEL,
            relay_through: options.relays.clone(),
            ..SwarmOptions::default()
        };
        let swarm = Hyperswarm::new(options.dht(), key_pair, swarm_options).await?;
        let (barriers, barrier_requests) = mpsc::unbounded_channel();
        Ok(Self { swarm, barriers, barrier_requests: Mutex::new(Some(barrier_requests)) })
    }

    /// What is to be waited for until the connections of a round replicate.
    fn round(&self, flushed: Flush) -> Round {
        let barriers = self.barriers.clone();
        let round = async move {
            flushed.await;
            let (passed, passing) = oneshot::channel();
            if barriers.send(passed).is_ok() {
                let _ = passing.await;
            }
        };
        async move {
            let _ = timeout(PATIENCE, round).await;
        }
        .boxed()
        .shared()
    }
}

fn replicate(hub: &Arc<PeerHub>, connection: hyperdht::Connection) {
    let address = connection.remote_addr().map(|address| address.to_string()).unwrap_or_default();
    let parts = connection.into_parts();
    let started = hub.handshaken(parts.stream, parts.is_initiator, parts.handshake, "udx", &address);
    if let Err(error) = started {
        warn!("a connection cannot be used: {error}");
    }
}

impl Discovery for Network {
    /// What is asked for is waited for until the newest round of its topic; if that is not joined, until all that is
    /// joined has had its round, as any connection may bring it (npm `hyperspace` 3.19.0, `_registerCoreTimeouts`).
    fn flushed(&self, discovery_key: &DiscoveryKey) -> Option<BoxFuture<'static, ()>> {
        let side = self.side.as_ref()?;
        let mut state = self.lock();
        let State { joined, joins, everything, .. } = &mut *state;
        let round = match joined.get_mut(discovery_key) {
            Some(joined) => {
                let flush = || side.round(side.swarm.flush_topic(discovery_key.as_bytes()));
                joined.round.get_or_insert_with(flush)
            }
            None => match everything {
                Some((began, round)) if began == joins => round,
                _ => &mut everything.insert((*joins, side.round(side.swarm.flush()))).1,
            },
        };
        if round.peek().is_some() {
            return None;
        }
        Some(round.clone().boxed())
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("joined", &self.lock().joined.len()).finish_non_exhaustive()
    }
}
