//! A daemon's place in the network, and what this client wants of it.

use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, stream};
use hypercore::{DiscoveryKey, PeerInfo};
use hyperspace_common::{Method, messages::*};
use tokio::sync::broadcast::error::RecvError;

use crate::{
    RemoteExtension, RemoteHypercore,
    connection::{Connection, decode_answer},
    error::ClientError,
    network_peers::NetworkEvent,
    sessions::{Sessions, parse_discovery_key, peer_info},
    wishes,
};

/// A daemon's place in the network: which topics it announces and looks up, and who is connected. Clones share it.
///
/// What one client wants of a topic is combined with what others want: it is announced, or looked up, as long as
/// anybody wants that. The wishes of a client go with its connection, apart from those that are
/// [remembered](ConfigureOptions::remember); a client that reconnects tells its own again.
///
/// ```no_run
/// # async fn example() -> Result<(), hyperspace_client::ClientError> {
/// use hyperspace_client::{ConfigureOptions, HyperspaceClient};
///
/// let client = HyperspaceClient::connect(None).await?;
/// let log = client.corestore().get_by_name("diary").await?;
/// // Announced from now on, also after the daemon was started anew. Returns when others can find it.
/// let network = client.network();
/// let wish = ConfigureOptions::ANNOUNCE.remembered().flushed();
/// let status = network.configure(&log.discovery_key(), wish).await?;
/// assert!(status.is_some_and(|status| status.announce));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct RemoteNetworker {
    connection: Connection,
    sessions: Arc<Sessions>,
}

/// What a client wants of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigureOptions {
    /// Others are to find the daemon under the topic. `None`: as `copy_from` has it, else not.
    pub announce: Option<bool>,
    /// The daemon is to look for others under the topic. `None`: as `copy_from` has it, else not.
    pub lookup: Option<bool>,
    /// The setting is kept in the store: it holds also without this client, and after a restart if it announces. To
    /// have a topic forgotten, remember that it is neither announced nor looked up.
    pub remember: Option<bool>,
    /// The answer comes only after the first round of announcements and lookups, when the peers that were found are
    /// connected.
    pub flush: bool,
    /// Take what is `None` from this topic's setting.
    pub copy_from: Option<DiscoveryKey>,
    /// Replace a setting that exists. If not, it stays, and is the answer.
    pub overwrite: bool,
}

/// What the daemon does for a topic, for all its clients together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicStatus {
    /// The topic.
    pub discovery_key: DiscoveryKey,
    /// Others find the daemon under it.
    pub announce: bool,
    /// The daemon looks for others under it.
    pub lookup: bool,
    /// The setting survives a restart.
    pub remember: bool,
}

/// A daemon's identity and peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkInfo {
    /// Its Noise public key.
    pub public_key: [u8; 32],
    /// The peers that it is connected to.
    pub peers: Vec<PeerInfo>,
}

impl RemoteNetworker {
    pub(crate) fn new(connection: Connection, sessions: Arc<Sessions>) -> Self {
        Self { connection, sessions }
    }

    /// The daemon's identity and peers.
    pub async fn info(&self) -> Result<NetworkInfo, ClientError> {
        let asking = self.sessions.network.ask();
        let answer: OpenNetworkResponse = self.connection.ask(Method::NetworkOpen, &()).await?;
        let info = NetworkInfo::read(&answer)?;
        asking.answered(&info.peers);
        Ok(info)
    }

    /// The daemon's Noise public key, under which peers know it. It stays the same as long as its store does.
    pub async fn public_key(&self) -> Result<[u8; 32], ClientError> {
        Ok(self.info().await?.public_key)
    }

    /// The peers that the daemon is connected to now.
    pub async fn peers(&self) -> Result<Vec<PeerInfo>, ClientError> {
        Ok(self.info().await?.peers)
    }

    /// Says what is wanted of a topic. The answer is what holds for all clients together; without any wish left it is
    /// `None`. Whoever does not wait for the answer has said it all the same, if there was a connection to say it over.
    pub async fn configure(
        &self,
        topic: &DiscoveryKey,
        options: ConfigureOptions,
    ) -> Result<Option<TopicStatus>, ClientError> {
        let wishes = &self.sessions.wishes;
        let (request, mut saying) = (wishes::request(topic, &options), wishes.saying(*topic, options));
        let answer = loop {
            let asked = self.connection.call_raw(|outbox, id| {
                outbox.request(Method::NetworkConfigure, id, &request);
                saying.sent();
            });
            match asked.await {
                // To say it twice does no harm: it is asked again when the connection is made anew.
                Err(ClientError::Disconnected(_)) if self.connection.is_made_again() => {}
                answer => break answer,
            }
        };
        let answer = match answer {
            Err(error @ ClientError::Rpc(_)) => {
                saying.refused();
                return Err(error);
            }
            answer => answer?,
        };
        let NetworkStatusResponse { status } = decode_answer(answer)?;
        saying.answered(status.as_ref());
        wishes.tidy(|| {
            let open = self.sessions.all();
            open.iter().filter_map(|core| Some(core.identity.get()?.discovery_key)).collect()
        });
        status.as_ref().map(TopicStatus::read).transpose()
    }

    /// Announces a core and looks up others who have it, as long as this client is there.
    pub async fn join(&self, core: &RemoteHypercore) -> Result<Option<TopicStatus>, ClientError> {
        self.configure(&core.discovery_key(), ConfigureOptions::JOIN).await
    }

    /// Takes back what this client wanted of a topic.
    pub async fn leave(&self, topic: &DiscoveryKey) -> Result<Option<TopicStatus>, ClientError> {
        self.configure(topic, ConfigureOptions::LEAVE).await
    }

    /// What the daemon does for a topic; `None` when it does nothing.
    pub async fn status(&self, topic: &DiscoveryKey) -> Result<Option<TopicStatus>, ClientError> {
        let request = NetworkStatusRequest { discovery_key: Bytes::copy_from_slice(topic.as_bytes()) };
        let answer: NetworkStatusResponse = self.connection.ask(Method::NetworkStatus, &request).await?;
        answer.status.as_ref().map(TopicStatus::read).transpose()
    }

    /// What the daemon does for all topics.
    pub async fn all_statuses(&self) -> Result<Vec<TopicStatus>, ClientError> {
        let answer: AllNetworkStatusesResponse = self.connection.ask(Method::NetworkAllStatuses, &()).await?;
        answer.statuses.iter().map(TopicStatus::read).collect()
    }

    /// Peers that come and go from now on. When the connection is lost, those that are known are gone, and come back
    /// with the next. A reader that is far too slow misses some.
    pub fn events(&self) -> impl Stream<Item = NetworkEvent> + Send + use<> {
        stream::unfold(self.sessions.network.listen(), |mut events| async move {
            loop {
                match events.recv().await {
                    Ok(event) => return Some((event, events)),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        })
    }

    /// Takes part in an extension on whole connections: messages between all daemons that are connected and whose
    /// clients know the name, whichever cores they have.
    pub async fn register_extension(&self, name: impl Into<String>) -> Result<RemoteExtension, ClientError> {
        RemoteExtension::of_network(self.clone(), name.into()).await
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.sessions
    }
}

impl ConfigureOptions {
    /// Others are to find the daemon, and it is to look for others.
    pub const JOIN: Self = Self::both(true, true);
    /// Others are to find the daemon.
    pub const ANNOUNCE: Self = Self::both(true, false);
    /// The daemon is to look for others.
    pub const LOOKUP: Self = Self::both(false, true);
    /// Neither: what this client wanted is taken back.
    pub const LEAVE: Self = Self::both(false, false);

    const fn both(announce: bool, lookup: bool) -> Self {
        Self {
            announce: Some(announce),
            lookup: Some(lookup),
            remember: None,
            flush: false,
            copy_from: None,
            overwrite: true,
        }
    }

    /// The same, kept in the daemon's store.
    pub const fn remembered(self) -> Self {
        Self { remember: Some(true), ..self }
    }

    /// The same, answered only after the first round.
    pub const fn flushed(self) -> Self {
        Self { flush: true, ..self }
    }
}

impl Default for ConfigureOptions {
    /// Nothing said, and a setting that exists is replaced.
    fn default() -> Self {
        Self { announce: None, lookup: None, ..Self::LEAVE }
    }
}

impl TopicStatus {
    fn read(status: &NetworkStatus) -> Result<Self, ClientError> {
        Ok(Self {
            discovery_key: parse_discovery_key(&status.discovery_key)?,
            announce: status.announce.unwrap_or(false),
            lookup: status.lookup.unwrap_or(false),
            remember: status.remember.unwrap_or(false),
        })
    }
}

impl NetworkInfo {
    pub(crate) fn read(answer: &OpenNetworkResponse) -> Result<Self, ClientError> {
        let public_key = answer.public_key[..]
            .try_into()
            .map_err(|_| ClientError::Protocol("a public key that has not 32 bytes".into()))?;
        Ok(Self { public_key, peers: answer.peers.iter().map(peer_info).collect() })
    }
}
