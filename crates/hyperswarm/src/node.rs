//! The DHT of the swarm: a node of `hyperdht`.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use hyperdht::client::{self, AnnounceOptions, TopicQuery};
use hyperdht::rpc::{Peer, QueryOptions, RpcEvent};
use hyperdht::{
    ConnectError, ConnectOptions, Connection, DhtOptions, FirewallRequest, HyperDht, KeyPair, Server,
    ServerOptions,
};
use udx::UdxHandle;

use crate::swarm::QueryKind;
use crate::{
    Dht, Dial, DialError, Gate, Hyperswarm, PublicKey, QueryEvent, QueryOutcome, SwarmOptions, Topic, Watch,
};

/// Topics whose nearest nodes are remembered, so that the next round need not look for them; others look again.
const MAX_REMEMBERED: usize = 4096;

/// A node of the DHT, as a swarm uses it.
pub struct DhtNode {
    dht: HyperDht,
    key_pair: KeyPair,
    relay_through: Vec<PublicKey>,
    server: Mutex<Option<Server>>,
    nearest: Nearest,
    /// What the node tells about the network.
    events: Arc<tokio::sync::Mutex<Network>>,
}

impl DhtNode {
    /// Over this node, as the peer with this key pair. The blind relays are tried where no direct way was found, and
    /// at once when this side's NAT gives every destination another port.
    pub fn new(dht: HyperDht, key_pair: KeyPair, relay_through: Vec<PublicKey>) -> Self {
        let events = Network { events: dht.rpc().subscribe(), online: true };
        Self {
            dht,
            key_pair,
            relay_through,
            server: Mutex::default(),
            nearest: Arc::default(),
            events: Arc::new(tokio::sync::Mutex::new(events)),
        }
    }

    /// The node.
    pub fn hyperdht(&self) -> &HyperDht {
        &self.dht
    }

    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        lock(&self.server)
    }

    fn start(&self, topic: Topic, kind: QueryKind) -> Result<TopicQuery, hyperdht::rpc::RpcError> {
        let rpc = self.dht.rpc();
        let nearest = lock(&self.nearest).get(&topic).cloned();
        let mut query = QueryOptions { nodes: nearest.unwrap_or_default(), ..QueryOptions::default() };
        match kind {
            QueryKind::Announce { first } => {
                let relays = self.server().as_ref().map(Server::relay_addresses).unwrap_or_default();
                let options = AnnounceOptions { query, clear: first, ..AnnounceOptions::default() };
                client::announce(rpc, topic, &self.key_pair, &relays, options)
            }
            QueryKind::Lookup => client::lookup(rpc, topic, query),
            QueryKind::LookupAndUnannounce => {
                client::lookup_and_unannounce(rpc, topic, &self.key_pair, query)
            }
            QueryKind::Unannounce => {
                // Those that were told are told again; without them, whoever is nearest.
                query.only_closest = !query.nodes.is_empty();
                client::lookup_and_unannounce(rpc, topic, &self.key_pair, query)
            }
        }
    }
}

impl fmt::Debug for DhtNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DhtNode").field("dht", &self.dht).finish_non_exhaustive()
    }
}

impl Hyperswarm<DhtNode> {
    /// A swarm with a node of its own in the DHT.
    ///
    /// # Errors
    /// When the node's address cannot be bound, or a bootstrap node cannot be understood.
    pub async fn new(
        dht: DhtOptions,
        key_pair: KeyPair,
        options: SwarmOptions,
    ) -> Result<Self, hyperdht::BindError> {
        let node = HyperDht::new(dht).await?;
        let public_key = key_pair.public;
        let node = DhtNode::new(node, key_pair, options.relay_through.clone());
        Ok(Self::over(node, public_key, options))
    }
}

impl Dht for DhtNode {
    type Connection = Connection;

    fn listen(&self, gate: Gate) -> BoxFuture<'static, Result<(), String>> {
        let firewall = move |request: FirewallRequest| {
            let keeps_out = !gate.lets_in(&request.remote_public_key);
            std::future::ready(keeps_out).boxed()
        };
        let options = ServerOptions {
            firewall: Some(Arc::new(firewall)),
            relay_through: self.relay_through.clone(),
            relay_when_randomized: true,
            ..ServerOptions::default()
        };
        let server = self.dht.create_server(options);
        *self.server() = Some(server.clone());
        let key_pair = self.key_pair.clone();
        async move { server.listen(key_pair).await.map_err(|error| error.to_string()) }.boxed()
    }

    fn accept(&self) -> BoxFuture<'static, Option<Connection>> {
        let server = self.server().clone();
        async move { server?.accept().await }.boxed()
    }

    fn query(&self, topic: Topic, kind: QueryKind) -> BoxStream<'static, QueryEvent> {
        let Ok(query) = self.start(topic, kind) else {
            return futures::stream::iter([QueryEvent::Ended(QueryOutcome::FAILED)]).boxed();
        };
        let nearest = (kind != QueryKind::Unannounce).then(|| self.nearest.clone());
        let walk = Walk { query, topic, nearest, events: VecDeque::new(), ended: false };
        futures::stream::unfold(walk, Walk::next).boxed()
    }

    fn forget(&self, topic: &Topic) {
        lock(&self.nearest).remove(topic);
    }

    fn dial(&self, dial: Dial) -> BoxFuture<'static, Result<Connection, DialError>> {
        let dht = self.dht.clone();
        let relayed = dial.force_relaying || dht.status().randomized;
        let options = ConnectOptions {
            key_pair: Some(self.key_pair.clone()),
            relay_addresses: dial.relay_addresses,
            relay_through: if relayed { self.relay_through.clone() } else { Vec::new() },
            ..ConnectOptions::default()
        };
        async move {
            dht.connect(dial.public_key, options).await.map_err(|error| DialError {
                try_relay: matches!(error, ConnectError::Holepunch { .. }),
                reason: error.to_string(),
            })
        }
        .boxed()
    }

    fn remote_public_key(connection: &Connection) -> PublicKey {
        *connection.remote_public_key()
    }

    fn watch(connection: &Connection) -> Arc<dyn Watch> {
        Arc::new(Stream(connection.raw()))
    }

    fn network_changed(&self) -> BoxFuture<'static, ()> {
        let events = self.events.clone();
        async move { events.lock().await.changed().await }.boxed()
    }

    fn suspend(&self) -> BoxFuture<'static, ()> {
        let dht = self.dht.clone();
        async move { dht.suspend().await }.boxed()
    }

    fn resume(&self) -> BoxFuture<'static, ()> {
        let dht = self.dht.clone();
        async move {
            if let Err(error) = dht.resume().await {
                tracing::warn!("the DHT cannot go on: {error}");
            }
        }
        .boxed()
    }

    fn close(&self, force: bool) -> BoxFuture<'static, ()> {
        let dht = self.dht.clone();
        async move { if force { dht.destroy().await } else { dht.close().await } }.boxed()
    }
}

/// A query under way.
struct Walk {
    query: TopicQuery,
    topic: Topic,
    /// Where to remember the nodes that it ends at.
    nearest: Option<Nearest>,
    events: VecDeque<QueryEvent>,
    ended: bool,
}

impl Walk {
    async fn next(mut self) -> Option<(QueryEvent, Self)> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some((event, self));
            }
            if self.ended {
                return None;
            }
            match self.query.next().await {
                Some(announcers) => {
                    self.events.extend(announcers.peers.into_iter().map(|peer| QueryEvent::Found {
                        public_key: peer.public_key,
                        relay_addresses: peer.relay_addresses.into_iter().map(SocketAddr::V4).collect(),
                    }))
                }
                None => {
                    let outcome = self.end().await;
                    self.ended = true;
                    self.events.push_back(QueryEvent::Ended(outcome));
                }
            }
        }
    }

    /// Whether it reached anybody, and how much got lost.
    async fn end(&mut self) -> QueryOutcome {
        let stored = self.query.finished().await;
        let nodes = self.query.closest_nodes();
        let ok = stored.is_ok() && !nodes.is_empty();
        if let Some(nearest) = self.nearest.as_ref().filter(|_| ok) {
            let mut nearest = lock(nearest);
            if nearest.len() < MAX_REMEMBERED || nearest.contains_key(&self.topic) {
                nearest.insert(self.topic, nodes);
            }
        }
        let (answered, lost) = match self.query.outcome() {
            Some(Ok(walk)) => (walk.successes, walk.errors),
            _ => (0, 0),
        };
        let most = |count| u32::try_from(count).unwrap_or(u32::MAX);
        QueryOutcome { ok, answered: most(answered), lost: most(lost) }
    }
}

struct Network {
    events: tokio::sync::broadcast::Receiver<RpcEvent>,
    online: bool,
}

impl Network {
    /// Ends when the addresses of this machine have changed, or the network is back.
    async fn changed(&mut self) {
        use tokio::sync::broadcast::error::RecvError;
        loop {
            match self.events.recv().await {
                Ok(RpcEvent::NetworkChange) => return,
                Ok(RpcEvent::NetworkUpdate { online, .. }) => {
                    let was_online = std::mem::replace(&mut self.online, online);
                    if online && !was_online {
                        return;
                    }
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return std::future::pending().await,
            }
        }
    }
}

type Nearest = Arc<Mutex<HashMap<Topic, Vec<Peer>>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Stream(UdxHandle);

impl Watch for Stream {
    fn closed(&self) -> BoxFuture<'static, ()> {
        let stream = self.0.clone();
        async move {
            stream.closed().await;
        }
        .boxed()
    }

    fn close(&self) {
        self.0.destroy();
    }
}
