//! The daemon in the swarm: cores that clients open are announced and looked up under their discovery keys, and every
//! connection that comes of it replicates the whole store.

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

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use hypercore::{DiscoveryKey, Hypercore, WeakHypercore};
use hyperdht::{BindError, DEFAULT_PORT, DhtOptions};
use hyperswarm::{DhtNode, Discovery as Join, Hyperswarm, JoinOptions, SwarmOptions};
use secret_stream::KeyPair;
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{peers::PeerHub, waits::Discovery};

/// Cores that are in the swarm at the same time.
const MAX_JOINED: usize = 65_536;
/// Connections at which no more peers are dialled (npm `hyperspace` 3.19.0).
const MAX_PEERS: usize = 256;
/// Connections that others may have opened to us at the same time.
const MAX_INCOMING: usize = 1024;
/// Peers that are dialled at the same time.
const MAX_PARALLEL: usize = 8;
/// How often it is looked which cores nobody has open any more.
const SWEEP: Duration = Duration::from_secs(60);
/// How long nobody is told that no peer has something, because the swarm is still looking for peers.
const PATIENCE: Duration = Duration::from_secs(30);
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
    /// Announce the cores that clients open, and not only look for others who have them.
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

/// The daemon's place in the swarm.
pub(crate) struct Network {
    swarm: Hyperswarm<DhtNode>,
    announce: bool,
    joined: Mutex<HashMap<DiscoveryKey, Joined>>,
    /// Asks the task that takes connections whether it has taken all that there were.
    barriers: mpsc::UnboundedSender<oneshot::Sender<()>>,
    barrier_requests: Mutex<Option<mpsc::UnboundedReceiver<oneshot::Sender<()>>>>,
    said_full: AtomicBool,
}

/// A core in the swarm.
struct Joined {
    join: Join<DhtNode>,
    core: WeakHypercore,
    /// Others who have it are looked for, as somebody has it open here.
    looking: bool,
    /// The first round since it was opened.
    first_round: Shared<BoxFuture<'static, ()>>,
}

impl Network {
    pub(crate) async fn start(options: &NetworkOptions, key_pair: KeyPair) -> Result<Arc<Self>, BindError> {
        let swarm_options = SwarmOptions {
            max_peers: MAX_PEERS,
            max_server_connections: MAX_INCOMING,
            max_parallel: MAX_PARALLEL,
            relay_through: options.relays.clone(),
            ..SwarmOptions::default()
        };
        let swarm = Hyperswarm::new(options.dht(), key_pair, swarm_options).await?;
        let (barriers, barrier_requests) = mpsc::unbounded_channel();
        Ok(Arc::new(Self {
            swarm,
            announce: options.announce,
            joined: Mutex::default(),
            barriers,
            barrier_requests: Mutex::new(Some(barrier_requests)),
            said_full: AtomicBool::new(false),
        }))
    }

    /// Where the node of the DHT is bound.
    pub(crate) fn address(&self) -> SocketAddr {
        self.swarm.dht().hyperdht().local_address()
    }

    /// Whether others can reach this daemon, at least with hole punching; and where they see it.
    pub(crate) fn reachability(&self) -> (bool, Option<SocketAddr>) {
        let status = self.swarm.dht().hyperdht().status();
        (status.is_holepunchable(), status.remote_address)
    }

    /// A client has opened a core: whoever else has it is looked for.
    pub(crate) fn opened(&self, core: &Hypercore) {
        let discovery_key = core.discovery_key();
        let topic = *discovery_key.as_bytes();
        let options = JoinOptions { server: self.announce, client: true, limit: None };
        let mut joined = self.lock();
        let is_full = joined.len() >= MAX_JOINED;
        match joined.get_mut(&discovery_key) {
            Some(known) if known.looking => {
                // The same core, opened anew.
                known.core = core.weak();
            }
            Some(known) => {
                if known.join.refresh(options).is_err() {
                    return;
                }
                known.looking = true;
                known.core = core.weak();
                known.first_round = self.round(&topic);
            }
            None if is_full => {
                if !self.said_full.swap(true, Ordering::Relaxed) {
                    warn!("{MAX_JOINED} cores are in the swarm; those that are opened from here on are not");
                }
            }
            None => {
                let Ok(join) = self.swarm.join(topic, options) else { return };
                let first_round = self.round(&topic);
                let core = core.weak();
                joined.insert(discovery_key, Joined { join, core, looking: true, first_round });
            }
        }
    }

    /// Ends when the topic was looked up, those who were found were dialled, and the connections that came of it
    /// replicate.
    fn round(&self, topic: &[u8; 32]) -> Shared<BoxFuture<'static, ()>> {
        let flushed = self.swarm.flush_topic(topic);
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

    /// Makes connections replicate until the daemon ends.
    pub(crate) async fn run(self: Arc<Self>, hub: Arc<PeerHub>, stopping: CancellationToken) {
        let requests = self.barrier_requests.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut barriers) = requests else { return };
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stopping.cancelled() => break,
                connection = self.swarm.next_connection() => match connection {
                    Some((connection, _)) => self.replicate(&hub, connection),
                    None => break,
                },
                // Only when no connection waits.
                Some(passed) = barriers.recv() => drop(passed.send(())),
                _ = sweep.tick() => self.sweep(),
            }
        }
        if timeout(GOODBYE, self.swarm.destroy()).await.is_err() {
            debug!("not everything that was announced could be taken back in time");
            self.swarm.destroy_now().await;
        }
    }

    fn replicate(&self, hub: &Arc<PeerHub>, connection: hyperdht::Connection) {
        let address = connection.remote_addr().map(|address| address.to_string()).unwrap_or_default();
        let parts = connection.into_parts();
        let started = hub.handshaken(parts.stream, parts.is_initiator, parts.handshake, "udx", &address);
        if let Err(error) = started {
            warn!("a connection cannot be used: {error}");
        }
    }

    /// Cores that nobody has open any more: nobody is looked for; the announcement stays, so that others find what
    /// was written here.
    fn sweep(&self) {
        self.lock().retain(|discovery_key, known| {
            if !known.looking || known.core.upgrade().is_some() {
                return true;
            }
            known.looking = false;
            if self.announce {
                return known.join.refresh(JoinOptions::SERVER).is_ok();
            }
            let left = self.swarm.leave(discovery_key.as_bytes());
            tokio::spawn(left);
            false
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DiscoveryKey, Joined>> {
        self.joined.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Discovery for Network {
    fn flushed(&self, discovery_key: &DiscoveryKey) -> Option<BoxFuture<'static, ()>> {
        let first_round = self.lock().get(discovery_key)?.first_round.clone();
        if first_round.peek().is_some() {
            return None;
        }
        Some(first_round.boxed())
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("joined", &self.lock().len()).finish_non_exhaustive()
    }
}
