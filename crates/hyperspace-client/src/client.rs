//! A program's way into a daemon.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, Stream, stream};
use hyperspace_common::{
    Endpoint, Method,
    messages::{HyperspaceStatusResponse, StatsResponse},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::broadcast::error::RecvError,
};

use crate::{
    RemoteCorestore, RemoteHypercore, RemoteNetworker,
    connection::{Again, Connection, Halves},
    dial::dial,
    error::ClientError,
    options::{ConnectOptions, ConnectionEvent},
    sessions::Sessions,
};

/// A connection to a daemon. Clones share it.
#[derive(Debug, Clone)]
pub struct HyperspaceClient {
    connection: Connection,
    sessions: Arc<Sessions>,
}

/// What a daemon says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The version of npm `@hyperspace/rpc` that it speaks.
    pub api_version: String,
    /// Its own version.
    pub version: String,
    /// Whether peers can reach it through its NAT; `None` while that is unknown.
    pub holepunchable: Option<bool>,
    /// The address that peers see; empty when there is none.
    pub remote_address: String,
}

/// A daemon in figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Cores that are open.
    pub open_cores: u64,
    /// Clients that are connected.
    pub clients: u64,
    /// Peers that are connected.
    pub peers: u64,
    /// How long it has been running.
    pub uptime: Duration,
}

impl HyperspaceClient {
    /// Connects to a daemon by its socket's name or path, by `tcp://HOST:PORT` (or just `HOST:PORT`) or by
    /// `ws://HOST:PORT`; with `None` to the socket that the variable `HYPERSPACE_SOCKET` names, or to `hyperspace`. An
    /// access token is taken from the variable `HYPERSPACE_TOKEN`, if there is one; over the socket none is shown.
    pub async fn connect(host: Option<&str>) -> Result<Self, ClientError> {
        let endpoint = Endpoint::from_option(host)?;
        Self::connect_with(&endpoint, ConnectOptions::for_endpoint(&endpoint)?).await
    }

    /// Connects to a daemon. When the connection is lost, everything ends; see
    /// [`HyperspaceClient::connect_with`] for one that lasts.
    pub async fn connect_to(endpoint: &Endpoint) -> Result<Self, ClientError> {
        Self::connect_with(endpoint, ConnectOptions::default()).await
    }

    /// Connects to a daemon, with options. The first attempt must succeed.
    pub async fn connect_with(endpoint: &Endpoint, options: ConnectOptions) -> Result<Self, ClientError> {
        let ConnectOptions { reconnect, token } = options;
        let halves = dial(endpoint, token.as_ref()).await?;
        let again = reconnect.map(|reconnect| {
            let endpoint = endpoint.clone();
            Again {
                connect: Box::new(move || {
                    let (endpoint, token) = (endpoint.clone(), token.clone());
                    async move { dial(&endpoint, token.as_ref()).await }.boxed()
                }),
                first: reconnect.first_pause,
                longest: reconnect.longest_pause,
                give_up: reconnect.give_up_after,
            }
        });
        let sessions = Arc::new(Sessions::new());
        Ok(Self { connection: Connection::start(halves, sessions.clone(), again), sessions })
    }

    /// Talks to a daemon over any stream, driven by a task of the current tokio runtime.
    pub fn from_stream<IO>(io: IO) -> Self
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (reader, writer) = tokio::io::split(io);
        let halves = Halves { reader: Box::new(reader), writer: Box::new(writer) };
        let sessions = Arc::new(Sessions::new());
        Self { connection: Connection::start(halves, sessions.clone(), None), sessions }
    }

    /// What the daemon says of itself.
    pub async fn status(&self) -> Result<Status, ClientError> {
        let status: HyperspaceStatusResponse = self.connection.ask(Method::HyperspaceStatus, &()).await?;
        Ok(Status {
            api_version: status.api_version,
            version: status.version.unwrap_or_default(),
            holepunchable: status.holepunchable,
            remote_address: status.remote_address.unwrap_or_default(),
        })
    }

    /// Ends the daemon.
    pub async fn stop(&self) -> Result<(), ClientError> {
        self.connection.call_void(Method::HyperspaceStop, &()).await
    }

    /// The daemon's place in the network.
    pub fn network(&self) -> RemoteNetworker {
        RemoteNetworker::new(self.connection.clone(), self.sessions.clone())
    }

    /// Has the daemon replicate a core with whoever has it: announces it and looks up others, as long as this client
    /// is there, then asks them for the newest length. That nobody knows of a newer one is no error.
    pub async fn replicate(&self, core: &RemoteHypercore) -> Result<(), ClientError> {
        self.network().join(core).await?;
        match core.update().await {
            Ok(_) | Err(ClientError::Rpc(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The daemon's cores.
    pub fn corestore(&self) -> RemoteCorestore {
        RemoteCorestore::new(self.connection.clone(), self.sessions.clone())
    }

    /// The daemon in figures. Not with the Node daemon.
    pub async fn stats(&self) -> Result<Stats, ClientError> {
        self.sessions.need_additional(&self.connection).await?;
        let stats: StatsResponse = self.connection.ask(Method::StoreStats, &()).await?;
        Ok(Stats {
            open_cores: stats.open_cores,
            clients: stats.clients,
            peers: stats.peers,
            uptime: Duration::from_millis(stats.uptime_ms),
        })
    }

    /// What happens to the connection: whether it is lost, made again, or ended. A reader that is far too slow misses
    /// some.
    pub fn connection_events(&self) -> impl Stream<Item = ConnectionEvent> + Send + use<> {
        stream::unfold(self.sessions.connection_events(), |mut events| async move {
            loop {
                match events.recv().await {
                    Ok(event) => return Some((event, events)),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        })
    }

    /// Ends the connection; the daemon frees everything that this client holds.
    pub fn close(&self) {
        self.connection.close();
    }

    /// Why the connection ended, if it did.
    pub fn closed(&self) -> Option<ClientError> {
        self.connection.closed()
    }
}
