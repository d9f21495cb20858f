//! The handles that users have.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{broadcast, watch};

use crate::dht::Dht;
use crate::driver::{Flush, Shared};
use crate::swarm::SessionId;
use crate::{Counts, JoinError, JoinOptions, PeerInfo, PublicKey, Stats, SwarmOptions, Topic, TopicStatus};

/// Finds and connects the peers that share topics. Clones are the same swarm.
///
/// It ends with [`Hyperswarm::destroy`]. When the last handle is dropped it ends, too, but nobody is told, and others
/// find what it announced for another while.
pub struct Hyperswarm<D: Dht> {
    alive: Arc<Alive<D>>,
}

/// Ends the task when nobody has a handle any more.
struct Alive<D: Dht> {
    shared: Arc<Shared<D>>,
}

impl<D: Dht> Drop for Alive<D> {
    fn drop(&mut self) {
        self.shared.ended.cancel();
    }
}

impl<D: Dht> Hyperswarm<D> {
    /// A swarm over a DHT, for the peer with this public key. Must be called inside a tokio runtime.
    pub fn over(dht: D, public_key: PublicKey, options: SwarmOptions) -> Self {
        let mut seed = [0; 8];
        // A system without random numbers still gets different swarms.
        if getrandom::fill(&mut seed).is_err()
            && let Some(part) = public_key.first_chunk()
        {
            seed = *part;
        }
        let shared = Shared::start(dht, options, public_key, u64::from_le_bytes(seed));
        Self { alive: Arc::new(Alive { shared }) }
    }

    fn shared(&self) -> &Arc<Shared<D>> {
        &self.alive.shared
    }

    /// The DHT below.
    pub fn dht(&self) -> &D {
        &self.shared().dht
    }

    /// Who this side is.
    pub fn public_key(&self) -> PublicKey {
        self.shared().public_key()
    }

    /// Joins a topic, or joins it once more: it stays joined until its last session ends. The first query waits for
    /// its turn when thousands are joined at once.
    pub fn join(&self, topic: Topic, options: JoinOptions) -> Result<Discovery<D>, JoinError> {
        let session = self.shared().with(|swarm, now| swarm.join(topic, options, now))?;
        Ok(Discovery { swarm: self.clone(), topic, session })
    }

    /// Leaves a topic, whoever joined it; ends when nothing is announced any more.
    pub fn leave(&self, topic: &Topic) -> Flush {
        self.shared().wait(|swarm, now| swarm.leave(*topic, now))
    }

    /// Leaves all topics; ends when nothing is announced any more (npm's `clear`).
    pub fn leave_all(&self) -> Flush {
        self.shared().wait(|swarm, now| swarm.leave_all(now))
    }

    /// Takes connections though nothing is announced, from those who know this side by its key; joining a topic as a
    /// server does the same. Ends when that is so; false when it cannot be.
    pub fn listen(&self) -> Flush {
        self.shared().wait(|swarm, _| swarm.listen())
    }

    /// Ends when every topic has had its round and everybody who was found has been dialled. False when the network
    /// could not be reached or the swarm ends.
    pub fn flush(&self) -> Flush {
        self.shared().wait(|swarm, now| swarm.flush(now))
    }

    /// Ends when this topic has had its round and everybody who was found has been dialled. At once for a topic
    /// that is not joined.
    pub fn flush_topic(&self, topic: &Topic) -> Flush {
        self.shared().wait(|swarm, now| swarm.flush_topic(topic, true, now))
    }

    /// Connects to a peer by its key, whatever topics it has, and keeps at it.
    pub fn join_peer(&self, public_key: PublicKey) {
        self.shared().with(|swarm, now| swarm.join_peer(public_key, now));
    }

    /// Ends [`Hyperswarm::join_peer`]. A connection that is there stays.
    pub fn leave_peer(&self, public_key: &PublicKey) {
        self.shared().with(|swarm, _| swarm.leave_peer(public_key));
    }

    /// Keeps a peer out, or lets it in again. A connection with it is closed.
    pub fn ban(&self, public_key: PublicKey, banned: bool) {
        self.shared().with(|swarm, now| swarm.ban(public_key, banned, now));
    }

    /// Whether a peer is tried again when its connection is lost or it cannot be reached; that is so unless it was said
    /// otherwise. It is forgotten with the peer, and a peer that is found again is dialled all the same, as with npm's
    /// `PeerInfo.reconnect`: to keep it away, [ban](Hyperswarm::ban) it. False if the peer is not known.
    pub fn reconnect(&self, public_key: &PublicKey, again: bool) -> bool {
        self.shared().with(|swarm, _| swarm.reconnect(public_key, again))
    }

    /// The peers that are kept out from now on, as that happens: those who were [banned](Hyperswarm::ban), and those whom
    /// the firewall names (npm's `ban`). Who lags more than 256 behind misses the oldest.
    pub fn bans(&self) -> broadcast::Receiver<PublicKey> {
        self.shared().bans.subscribe()
    }

    /// The next connection that was opened, from either side; `None` when the swarm has ended. Who does not take
    /// connections has them closed after the first thousand.
    pub async fn next_connection(&self) -> Option<(D::Connection, PeerInfo)> {
        self.shared().connections.lock().await.recv().await
    }

    /// How many connections are open.
    pub fn connection_count(&self) -> usize {
        self.shared().look(|swarm| swarm.connection_count())
    }

    /// How many topics, peers and connections there are, to be watched (npm's `update`).
    pub fn counts(&self) -> watch::Receiver<Counts> {
        self.shared().counts.subscribe()
    }

    /// The peers that are known.
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.shared().look(|swarm| swarm.peers())
    }

    /// A topic, if it is joined.
    pub fn status(&self, topic: &Topic) -> Option<TopicStatus> {
        self.shared().look(|swarm| swarm.topic(topic))
    }

    /// The topics that are joined.
    pub fn topics(&self) -> Vec<Topic> {
        self.shared().look(|swarm| swarm.topics().copied().collect())
    }

    /// True between [`Hyperswarm::suspend`] and [`Hyperswarm::resume`].
    pub fn is_suspended(&self) -> bool {
        self.shared().look(|swarm| swarm.is_suspended())
    }

    /// Whether the swarm has ended, or is about to.
    pub fn is_destroyed(&self) -> bool {
        self.shared().ended.is_cancelled() || self.shared().look(|swarm| swarm.is_destroyed())
    }

    /// What was done so far.
    pub fn stats(&self) -> Stats {
        self.shared().look(|swarm| swarm.stats())
    }

    /// Closes all connections, takes back what was announced and stops all traffic: for a machine that goes to
    /// sleep.
    pub async fn suspend(&self) {
        self.shared().wait(|swarm, now| swarm.suspend(now)).await;
        self.shared().dht.suspend().await;
    }

    /// Undoes [`Hyperswarm::suspend`]: every topic gets a new round.
    pub async fn resume(&self) {
        self.shared().dht.resume().await;
        self.shared().with(|swarm, now| swarm.resume(now));
    }

    /// Takes back what was announced, then closes all connections and the DHT below.
    pub async fn destroy(&self) {
        self.shared().wait(|swarm, now| swarm.destroy(now)).await;
        self.shared().dht.close(false).await;
        self.shared().ended.cancel();
    }

    /// Closes everything at once. Others find what was announced for another while.
    pub async fn destroy_now(&self) {
        self.shared().ended.cancel();
        self.shared().dht.close(true).await;
    }
}

impl<D: Dht> Clone for Hyperswarm<D> {
    fn clone(&self) -> Self {
        Self { alive: self.alive.clone() }
    }
}

impl<D: Dht> fmt::Debug for Hyperswarm<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared().look(|swarm| {
            f.debug_struct("Hyperswarm")
                .field("topics", &swarm.topic_count())
                .field("connections", &swarm.connection_count())
                .finish_non_exhaustive()
        })
    }
}

/// One join of a topic. Dropping it changes nothing: the topic stays joined until [`Discovery::destroy`] or
/// [`Hyperswarm::leave`].
pub struct Discovery<D: Dht> {
    swarm: Hyperswarm<D>,
    topic: Topic,
    session: SessionId,
}

impl<D: Dht> Discovery<D> {
    /// The topic.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Ends when the topic is announced and looked up, as far as it was joined for that. False when the network
    /// could not be reached.
    pub fn flushed(&self) -> Flush {
        self.swarm.shared().wait(|swarm, now| swarm.flush_topic(&self.topic, false, now))
    }

    /// Changes how the topic is joined, and announces and looks up now.
    pub fn refresh(&self, options: JoinOptions) -> Result<(), JoinError> {
        self.swarm.shared().with(|swarm, now| swarm.refresh(self.session, options, now))
    }

    /// Ends this join; ends when nothing of it is announced any more. Connections stay.
    pub async fn destroy(self) {
        self.swarm.shared().wait(|swarm, now| swarm.end_session(self.session, now)).await;
    }
}

impl<D: Dht> fmt::Debug for Discovery<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery").field("topic", &self.topic).finish_non_exhaustive()
    }
}
