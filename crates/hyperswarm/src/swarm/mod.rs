//! The swarm without I/O: what is wanted and what happened go in with the time; [`Action`]s and the next deadline
//! come out. npm `hyperswarm` 4.17.2, `index.js`.

mod connections;
mod discovery;
mod topics;
mod waiting;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use self::{connections::Connection, discovery::Discovery, waiting::Waiting};
use crate::{
    JoinError, JoinOptions, PublicKey, SwarmOptions, Topic,
    pacing::Window,
    peer::{Peer, Priority},
    queue::PeerQueue,
    random::Random,
    retry::RetryTimers,
};

pub use self::connections::{CloseReason, DialOutcome, Refusal};

/// Topics that may be joined at the same time.
pub const MAX_TOPICS: usize = 262_144;
/// Peers that are known at the same time; further ones are not taken up.
pub const MAX_KNOWN_PEERS: usize = 16_384;

macro_rules! id {
    ($(#[$docs:meta])* $name:ident) => {
        $(#[$docs])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(crate) u64);
    };
}
id!(
    /// Names one join of a topic.
    SessionId
);
id!(
    /// Names a query of the DHT.
    QueryId
);
id!(
    /// Names a connection, from the first attempt on.
    ConnectionId
);
id!(
    /// Names somebody who waits.
    WaiterId
);

/// What a query of the DHT is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryKind {
    /// Announce this side at the nodes next to the topic, and tell who else is announced.
    Announce {
        /// What an earlier run of this program may have left at these nodes is to be cleared.
        first: bool,
    },
    /// Tell who is announced.
    Lookup,
    /// Tell who is announced, and take back what this side announced.
    LookupAndUnannounce,
    /// Take back what this side announced.
    Unannounce,
}

/// What is to be done outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Take connections, then call [`Swarm::listened`].
    Listen,
    /// Ask the DHT: [`Swarm::found`] for each peer, then [`Swarm::query_ended`].
    Query {
        /// Its name.
        query: QueryId,
        /// The topic.
        topic: Topic,
        /// What for.
        kind: QueryKind,
    },
    /// Nothing more of this query is wanted.
    Cancel {
        /// Its name.
        query: QueryId,
    },
    /// The topic was left: what is remembered of the nodes next to it can be forgotten.
    Forget {
        /// The topic.
        topic: Topic,
    },
    /// Connect to a peer, then call [`Swarm::dialled`].
    Dial {
        /// The connection's name.
        connection: ConnectionId,
        /// Whom to.
        public_key: PublicKey,
        /// Nodes that forward to it.
        relay_addresses: Vec<SocketAddr>,
        /// Earlier attempts have shown that there is no direct way.
        force_relaying: bool,
    },
    /// Close a connection, or stop dialling. It is forgotten here already: no [`Swarm::closed`] is due.
    Close {
        /// Its name.
        connection: ConnectionId,
        /// Why.
        reason: CloseReason,
    },
    /// A connection is open: hand it over.
    Opened {
        /// Its name.
        connection: ConnectionId,
    },
    /// A peer is kept out from now on.
    Banned {
        /// Who.
        public_key: PublicKey,
    },
    /// What somebody waited for is over.
    Done {
        /// Who waited.
        waiter: WaiterId,
        /// Whether it came about. False when the network could not be reached or the swarm ends.
        ok: bool,
    },
}

/// A peer as it is known now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerInfo {
    /// Who it is.
    pub public_key: PublicKey,
    /// Nodes of the DHT that forward to it.
    pub relay_addresses: Vec<SocketAddr>,
    /// Topics for which it was found; up to 64 of them.
    pub topics: Vec<Topic>,
    /// How urgently it is to be dialled.
    pub priority: Priority,
    /// Attempts and losses since the last good connection.
    pub attempts: u32,
    /// It was connected since it was found.
    pub proven: bool,
    /// The connection was dialled from this side.
    pub client: bool,
    /// It was asked for by its key.
    pub explicit: bool,
    /// It is kept out.
    pub banned: bool,
    /// It is tried again when it is lost or not reached ([`Swarm::reconnect`]).
    pub reconnecting: bool,
    /// It waits for its turn to be dialled.
    pub queued: bool,
    /// It waits until it is tried again.
    pub waiting: bool,
    /// No direct way to it was found: it is dialled through a relay, if there is one.
    pub force_relaying: bool,
}

impl PeerInfo {
    /// Whether it is dialled as eagerly as one that was just found, or more so.
    pub fn is_prioritized(&self) -> bool {
        self.priority >= Priority::Normal
    }
}

/// A topic as it is joined now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicStatus {
    /// This side is announced, or about to be.
    pub server: bool,
    /// Others are looked for.
    pub client: bool,
    /// A round is under way or waits for its turn.
    pub busy: bool,
    /// Nodes of the DHT have an announcement of ours.
    pub announced: bool,
    /// The last round reached the network.
    pub reached: bool,
}

/// What a swarm has at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Topics that are joined, or are still being left.
    pub topics: usize,
    /// Peers that are known.
    pub peers: usize,
    /// Peers that are being dialled.
    pub dialling: usize,
    /// Connections that are open.
    pub connections: usize,
}

/// What a swarm has done so far (npm's `stats`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Attempts to connect.
    pub attempted: u64,
    /// Connections that were dialled and opened.
    pub client_opened: u64,
    /// Attempts and dialled connections that have ended.
    pub client_closed: u64,
    /// Connections that others dialled.
    pub server_opened: u64,
    /// Such connections that have ended.
    pub server_closed: u64,
    /// Second connections to the same peer that were closed.
    pub duplicates: u64,
    /// Peers that were banned.
    pub banned: u64,
    /// Queries of the DHT.
    pub queries: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listening {
    No,
    Asked,
    Yes,
}

/// Finds and connects the peers that share topics: the state, without I/O.
///
/// Every call that may change something is to be followed by [`Swarm::poll_action`] until it gives `None`, and by
/// a look at [`Swarm::next_deadline`].
#[derive(Debug)]
pub struct Swarm {
    options: SwarmOptions,
    public_key: PublicKey,
    random: Random,
    next_id: u64,
    actions: VecDeque<Action>,
    listening: Listening,
    /// Who waits for that.
    for_listening: Vec<WaiterId>,
    suspended: bool,
    destroyed: bool,

    topics: HashMap<Topic, Discovery>,
    sessions: HashMap<SessionId, Topic>,
    queries: HashMap<QueryId, Topic>,
    urgent: VecDeque<Topic>,
    normal: VecDeque<Topic>,
    refresh: VecDeque<Topic>,
    parked: Vec<Topic>,
    deadlines: BTreeSet<(Instant, Topic)>,
    window: Window,

    peers: HashMap<PublicKey, Peer>,
    explicit: Vec<PublicKey>,
    queue: PeerQueue,
    retries: RetryTimers,
    connections: HashMap<ConnectionId, Connection>,
    by_key: HashMap<PublicKey, ConnectionId>,
    dialling: usize,
    clients: usize,
    servers: usize,

    waiting: Waiting,
    stats: Stats,
}

impl Swarm {
    /// A swarm of the peer with this public key. The seed decides everything that is left to chance.
    pub fn new(options: SwarmOptions, public_key: PublicKey, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let retries = RetryTimers::new(&options, &mut random);
        Self {
            options,
            public_key,
            random,
            next_id: 0,
            actions: VecDeque::new(),
            listening: Listening::No,
            for_listening: Vec::new(),
            suspended: false,
            destroyed: false,
            topics: HashMap::new(),
            sessions: HashMap::new(),
            queries: HashMap::new(),
            urgent: VecDeque::new(),
            normal: VecDeque::new(),
            refresh: VecDeque::new(),
            parked: Vec::new(),
            deadlines: BTreeSet::new(),
            window: Window::default(),
            peers: HashMap::new(),
            explicit: Vec::new(),
            queue: PeerQueue::default(),
            retries,
            connections: HashMap::new(),
            by_key: HashMap::new(),
            dialling: 0,
            clients: 0,
            servers: 0,
            waiting: Waiting::default(),
            stats: Stats::default(),
        }
    }

    /// The next thing that is to be done outside.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Swarm::handle_timeout`] wants to be called.
    pub fn next_deadline(&self) -> Option<Instant> {
        let topics = self.deadlines.first().map(|(deadline, _)| *deadline);
        [topics, self.retries.next_deadline()].into_iter().flatten().min()
    }

    /// Does what is due. Harmless to call early.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.refresh_due(now);
        self.retry_due(now);
        self.run_queries(now);
        self.dial_more(now);
    }

    /// Who this side is.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// How many connections are open.
    pub fn connection_count(&self) -> usize {
        self.connections.len() - self.dialling
    }

    /// How many peers are being dialled.
    pub fn dialling_count(&self) -> usize {
        self.dialling
    }

    /// How many topics are joined, or are still being left.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// All of these counts.
    pub fn counts(&self) -> Counts {
        Counts {
            topics: self.topics.len(),
            peers: self.peers.len(),
            dialling: self.dialling,
            connections: self.connection_count(),
        }
    }

    /// The peer with this public key, if it is known.
    pub fn peer(&self, public_key: &PublicKey) -> Option<PeerInfo> {
        self.peers.get(public_key).map(|peer| PeerInfo {
            public_key: *public_key,
            relay_addresses: peer.relay_addresses.clone(),
            topics: peer.topics.clone(),
            priority: peer.priority,
            attempts: peer.attempts,
            proven: peer.proven,
            client: peer.client,
            explicit: peer.explicit,
            banned: peer.banned,
            reconnecting: peer.reconnecting,
            queued: peer.queued,
            waiting: peer.waiting,
            force_relaying: peer.force_relaying,
        })
    }

    /// All peers that are known.
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.peers.keys().filter_map(|key| self.peer(key)).collect()
    }

    /// A topic that is joined.
    pub fn topic(&self, topic: &Topic) -> Option<TopicStatus> {
        self.topics.get(topic).filter(|discovery| discovery.is_joined()).map(|discovery| TopicStatus {
            server: discovery.is_server(),
            client: discovery.is_client(),
            busy: discovery.is_busy(),
            announced: discovery.announced,
            reached: discovery.last_ok,
        })
    }

    /// All topics that are joined.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.iter().filter(|(_, discovery)| discovery.is_joined()).map(|(topic, _)| topic)
    }

    /// What was done so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Whether [`Swarm::destroy`] was called.
    pub fn is_destroyed(&self) -> bool {
        self.destroyed
    }

    /// True between [`Swarm::suspend`] and [`Swarm::resume`].
    pub fn is_suspended(&self) -> bool {
        self.suspended
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Closes all connections, dials nobody, and takes back what was announced. The waiter is told when that is
    /// done.
    pub fn suspend(&mut self, now: Instant) -> WaiterId {
        self.suspended = true;
        for peer in self.queue.take().into_iter().chain(self.retries.clear()) {
            if let Some(peer) = self.peers.get_mut(&peer) {
                (peer.queued, peer.waiting) = (false, false);
            }
        }
        let connections: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for connection in connections {
            self.drop_connection(connection, CloseReason::Suspended, now);
        }
        self.peers.retain(|_, peer| !peer.is_forgettable());
        self.waiting.fail_peers(&mut self.actions);
        let waiter = WaiterId(self.id());
        let topics: Vec<Topic> = self.topics.keys().copied().collect();
        self.waiting.rounds(waiter, false);
        for topic in topics {
            self.stop_topic(topic, now);
            if let Some(discovery) = self.topics.get_mut(&topic).filter(|discovery| discovery.announced) {
                discovery.leaving.push(waiter);
                self.waiting.more(waiter);
            }
        }
        self.waiting_round_over(waiter, true);
        self.run_queries(now);
        waiter
    }

    /// Undoes [`Swarm::suspend`]: every topic gets a new round.
    pub fn resume(&mut self, now: Instant) {
        self.suspended = false;
        self.network_changed(now);
        self.dial_more(now);
    }

    /// The addresses of this machine changed, or the network is back: topics get a new round. Connections that did not
    /// survive show it by themselves, as each says every few seconds that it lives.
    pub fn network_changed(&mut self, now: Instant) {
        if self.suspended || self.destroyed {
            return;
        }
        let topics: Vec<Topic> = self.topics().copied().collect();
        for topic in topics {
            self.want_round(topic, now);
        }
        self.run_queries(now);
    }

    /// Leaves all topics and takes back what was announced; the waiter is told when that is done. Connections stay,
    /// new ones are refused.
    pub fn destroy(&mut self, now: Instant) -> WaiterId {
        self.destroyed = true;
        let dials: Vec<ConnectionId> =
            self.connections.iter().filter(|(_, c)| !c.open).map(|(id, _)| *id).collect();
        for connection in dials {
            self.drop_connection(connection, CloseReason::Destroyed, now);
        }
        self.waiting.fail_peers(&mut self.actions);
        self.leave_all(now)
    }
}

/// Used where the difference of two times may not be known.
fn since(earlier: Option<Instant>, now: Instant) -> Duration {
    earlier.map_or(Duration::MAX, |earlier| now.saturating_duration_since(earlier))
}
