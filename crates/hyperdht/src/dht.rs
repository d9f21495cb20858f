//! The front of the crate: a node of the DHT that connects and listens by public key.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use futures::future::join_all;
use indexmap::IndexMap;
use secret_stream::KeyPair;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use udx::Udx;

use crate::core::{Core, Counters, Session, lock};
use crate::punching::{PunchBudget, PunchSlots};
use crate::records::{Store, StoreLimits};
use crate::rpc::{BootstrapNode, Requests, Rpc, RpcError, RpcEvent, RpcOptions};
use crate::{BOOTSTRAP_NODES, ConnectOptions, Connection, DhtOptions, Server, ServerOptions};

/// A node of the DHT. Clones are the same node; it stops when the last of them (and of its servers and connection
/// attempts) is dropped, or with [`HyperDht::close`].
#[derive(Debug, Clone)]
pub struct HyperDht {
    core: Arc<Core>,
    _alive: Arc<Alive>,
}

/// Stops the node when nobody holds it any more.
#[derive(Debug)]
struct Alive(CancellationToken);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Why a node could not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// A bootstrap node cannot be understood.
    #[error("bootstrap node {node:?} is not host:port, ip:port or ip@host:port")]
    InvalidBootstrapNode {
        /// As it was given.
        node: String,
    },
    /// The sockets could not be bound.
    #[error(transparent)]
    Rpc(#[from] RpcError),
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody announces this public key.
    #[error("peer not found: no node of the DHT knows a server with this public key")]
    PeerNotFound,
    /// It is announced, but did not answer.
    #[error("peer does not answer through any of the nodes that announce it")]
    PeerConnectionFailed,
    /// The server refused or speaks another version.
    #[error("server answered with error {code} (its protocol version may differ from ours)")]
    ServerError {
        /// As [`messages::error`](crate::messages::error) counts them.
        code: u64,
    },
    /// Something that came back does not belong to this handshake.
    #[error("answer of the server or of a node between is invalid: {what}")]
    InvalidAnswer {
        /// What is wrong with it.
        what: &'static str,
    },
    /// Hole punching ended without a connection.
    #[error("cannot reach the peer through the NATs between: {why} (a blind relay would help)")]
    Holepunch {
        /// Where it ended.
        why: &'static str,
    },
    /// The blind relay did not help either.
    #[error("blind relay failed: {why}")]
    Relay {
        /// Where it ended.
        why: &'static str,
    },
    /// The node is suspended or closed.
    #[error("node is suspended or closed")]
    Closed,
}

/// What a node knows about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Others cannot reach this node without having been called first.
    pub firewalled: bool,
    /// The NAT gives every destination another port.
    pub randomized: bool,
    /// Not (yet) a full node of the DHT.
    pub ephemeral: bool,
    /// The network answers.
    pub online: bool,
    /// Address at which others see this node, if they agree on one.
    pub remote_address: Option<SocketAddr>,
    /// What was done to get through NATs.
    pub punches: PunchStats,
    /// Clients met at a blind relay: tried, met, failed.
    pub relayed: [u64; 3],
}

/// How often this node got, or tried to get, to others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PunchStats {
    /// Between NATs that keep their ports.
    pub consistent: u64,
    /// With one that takes a new port for every destination.
    pub random: u64,
    /// Without punching.
    pub open: u64,
    /// Times that a client was asked to come later.
    pub later: u64,
}

impl Status {
    /// True when others can reach this node, at least with hole punching.
    pub fn is_holepunchable(&self) -> bool {
        !self.firewalled || !self.randomized
    }
}

impl HyperDht {
    /// Starts a node. It enters the network in the background: see [`HyperDht::fully_bootstrapped`].
    pub async fn new(options: DhtOptions) -> Result<Self, BindError> {
        let bootstrap = match &options.bootstrap {
            Some(nodes) => nodes.clone(),
            None => BOOTSTRAP_NODES.map(str::to_owned).to_vec(),
        };
        let bootstrap = bootstrap.iter().map(|node| {
            node.parse::<BootstrapNode>().map_err(|_| BindError::InvalidBootstrapNode { node: node.clone() })
        });
        let rpc = RpcOptions {
            bootstrap: bootstrap.collect::<Result<_, _>>()?,
            host: options.host,
            port: options.port,
            any_port: options.any_port,
            client_port: options.client_port,
            ephemeral: options.ephemeral,
            firewalled: options.firewalled.unwrap_or(true),
            quick_firewall: options.quick_firewall,
            nodes: options.nodes.clone(),
            ..RpcOptions::default()
        };
        Self::start(options, rpc).await
    }

    /// Starts the first node of a network at this address: a full node that nobody has to find out anything about.
    pub async fn bootstrapper(address: SocketAddr) -> Result<Self, BindError> {
        let options = DhtOptions {
            bootstrap: Some(Vec::new()),
            host: address.ip(),
            port: address.port(),
            any_port: false,
            ..DhtOptions::default()
        };
        let rpc = RpcOptions {
            host: address.ip(),
            port: address.port(),
            any_port: false,
            ephemeral: Some(false),
            firewalled: false,
            external: Some(address),
            ..RpcOptions::default()
        };
        Self::start(options, rpc).await
    }

    async fn start(options: DhtOptions, rpc_options: RpcOptions) -> Result<Self, BindError> {
        let udx = Udx::new();
        let (rpc, requests) = Rpc::bind(&udx, rpc_options).await?;
        let deferred = options.defer_random_punch.then(Instant::now);
        let seed = getrandom::u64().unwrap_or(0);
        let core = Arc::new(Core {
            rpc,
            udx,
            key_pair: options.key_pair.unwrap_or_else(KeyPair::generate),
            keep_alive: options.connection_keep_alive,
            relay_linger: options.relay_linger,
            budget: PunchBudget::new(options.random_punch_interval, deferred),
            slots: PunchSlots::new(),
            counters: Counters::default(),
            ended: CancellationToken::new(),
            host: options.host,
            store: Mutex::new(Store::new(StoreLimits::default(), seed)),
            servers: Mutex::new(HashMap::new()),
            session: Mutex::new(Session { token: CancellationToken::new(), suspended: false }),
            relays: Mutex::new(IndexMap::new()),
            streams: Mutex::new(Vec::new()),
        });
        tokio::spawn(serve(Arc::downgrade(&core), requests, core.ended.clone()));
        tokio::spawn(watch(Arc::downgrade(&core), core.rpc.subscribe()));
        // Whoever lets go of the node without closing it has it closed.
        let (rpc, ended) = (core.rpc.clone(), core.ended.clone());
        tokio::spawn(async move {
            ended.cancelled().await;
            rpc.close().await;
        });
        let alive = Arc::new(Alive(core.ended.clone()));
        Ok(Self { core, _alive: alive })
    }

    pub(crate) fn core(&self) -> Arc<Core> {
        Arc::clone(&self.core)
    }

    /// Waits until this node has entered the network.
    pub async fn fully_bootstrapped(&self) -> Result<(), RpcError> {
        self.core.rpc.fully_bootstrapped().await
    }

    /// The node's requests and queries, for what has no method here.
    pub fn rpc(&self) -> &Rpc {
        &self.core.rpc
    }

    /// Who this node is when it connects or listens without a key pair of its own.
    pub fn default_key_pair(&self) -> &KeyPair {
        &self.core.key_pair
    }

    /// Connects to the server with this public key. Dropping the future ends the attempt.
    pub async fn connect(
        &self,
        remote_public_key: [u8; 32],
        options: ConnectOptions,
    ) -> Result<Connection, ConnectError> {
        crate::connect::connect(&self.core, remote_public_key, options).await
    }

    /// Makes a server, which takes connections once it [listens](Server::listen).
    pub fn create_server(&self, options: ServerOptions) -> Server {
        Server::new(self, options)
    }

    /// The address this node is bound to.
    pub fn local_address(&self) -> SocketAddr {
        self.core.rpc.local_address()
    }

    /// What this node knows about itself.
    pub fn status(&self) -> Status {
        let (rpc, counters) = (&self.core.rpc, &self.core.counters);
        let seen = rpc.host().zip(Some(rpc.port()).filter(|port| *port != 0)).map(SocketAddr::from);
        Status {
            firewalled: rpc.is_firewalled(),
            randomized: rpc.is_randomized(),
            ephemeral: rpc.is_ephemeral(),
            online: rpc.is_online(),
            remote_address: seen,
            punches: PunchStats {
                consistent: counters.punches_consistent.load(Ordering::Relaxed),
                random: counters.punches_random.load(Ordering::Relaxed),
                open: counters.punches_open.load(Ordering::Relaxed),
                later: counters.punches_later.load(Ordering::Relaxed),
            },
            relayed: [&counters.relay_attempts, &counters.relay_successes, &counters.relay_aborts]
                .map(|counter| counter.load(Ordering::Relaxed)),
        }
    }

    /// Stops all traffic, unannounces servers and cuts connections, until [`HyperDht::resume`]: for a machine that
    /// goes to sleep.
    pub async fn suspend(&self) {
        {
            let mut session = lock(&self.core.session);
            session.suspended = true;
            session.token.cancel();
        }
        join_all(self.core.all_servers().iter().map(|server| server.suspend())).await;
        self.core.destroy_streams();
        self.core.rpc.suspend().await;
        self.core.destroy_streams();
    }

    /// Undoes [`HyperDht::suspend`]: servers announce themselves again.
    pub async fn resume(&self) -> Result<(), RpcError> {
        self.core.budget.defer(Instant::now());
        self.core.rpc.resume().await?;
        {
            let mut session = lock(&self.core.session);
            if session.suspended {
                *session = Session { token: CancellationToken::new(), suspended: false };
            }
        }
        for server in self.core.all_servers() {
            server.resume();
        }
        Ok(())
    }

    /// Unannounces and closes all servers, then stops.
    pub async fn close(&self) {
        self.core.close_servers().await;
        self.destroy().await;
    }

    /// Stops without unannouncing anything. Connections are cut.
    pub async fn destroy(&self) {
        self.core.ended.cancel();
        lock(&self.core.session).token.cancel();
        self.core.destroy_streams();
        self.core.rpc.close().await;
    }
}

/// Answers other nodes.
async fn serve(core: Weak<Core>, mut requests: Requests, ended: CancellationToken) {
    while let Some(Some(request)) = ended.run_until_cancelled(requests.next()).await {
        let Some(core) = core.upgrade() else { return };
        core.on_request(request);
    }
}

/// Keeps up with the network's changes. Announcers watch the rest themselves.
async fn watch(core: Weak<Core>, mut events: broadcast::Receiver<RpcEvent>) {
    loop {
        match events.recv().await {
            Ok(RpcEvent::Closed) | Err(broadcast::error::RecvError::Closed) => return,
            Ok(RpcEvent::NatUpdate { host, port }) => {
                tracing::debug!(?host, port, "address of this node, as others see it, changed");
            }
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
        }
        if core.upgrade().is_none() {
            return;
        }
    }
}
