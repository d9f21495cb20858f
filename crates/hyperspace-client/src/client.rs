//! A program's way into a daemon.

use std::sync::Arc;

use futures::{Stream, stream};
use hypercore::{Key, PeerInfo};
use hyperspace_common::{
    Endpoint, Method,
    messages::{HyperspaceStatusResponse, OpenNetworkResponse, OpenRequest},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::broadcast::error::RecvError,
};

use crate::{
    RemoteHypercore,
    connection::Connection,
    error::ClientError,
    sessions::{Sessions, peer_info},
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

/// A daemon's place in the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkInfo {
    /// Its Noise public key.
    pub public_key: [u8; 32],
    /// The peers that it is connected to.
    pub peers: Vec<PeerInfo>,
}

impl HyperspaceClient {
    /// Connects to a daemon by its socket's name or by `HOST:PORT`; with `None` to the one that the variable
    /// `HYPERSPACE_SOCKET` names, or to `hyperspace`.
    pub async fn connect(host: Option<&str>) -> Result<Self, ClientError> {
        Self::connect_to(&Endpoint::from_option(host)?).await
    }

    /// Connects to a daemon.
    pub async fn connect_to(endpoint: &Endpoint) -> Result<Self, ClientError> {
        let refused = |error: std::io::Error| ClientError::Connect {
            endpoint: endpoint.to_string(),
            reason: error.to_string(),
        };
        let sessions = Arc::new(Sessions::new());
        let connection = match endpoint {
            Endpoint::Socket(path) => {
                let (reader, writer) = UnixStream::connect(path).await.map_err(refused)?.into_split();
                Connection::start_halves(reader, writer, sessions.clone())
            }
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(refused)?;
                stream.set_nodelay(true).map_err(refused)?;
                let (reader, writer) = stream.into_split();
                Connection::start_halves(reader, writer, sessions.clone())
            }
        };
        Ok(Self { connection, sessions })
    }

    /// Talks to a daemon over any stream, driven by a task of the current tokio runtime.
    pub fn from_stream<IO>(io: IO) -> Self
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let sessions = Arc::new(Sessions::new());
        Self { connection: Connection::start(io, sessions.clone()), sessions }
    }

    /// What the daemon says of itself.
    pub async fn status(&self) -> Result<Status, ClientError> {
        let status: HyperspaceStatusResponse = self.connection.call(Method::HyperspaceStatus, &()).await?;
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

    /// The daemon's identity and peers.
    pub async fn network(&self) -> Result<NetworkInfo, ClientError> {
        let network: OpenNetworkResponse = self.connection.call(Method::NetworkOpen, &()).await?;
        let public_key = network.public_key[..]
            .try_into()
            .map_err(|_| ClientError::Protocol("a public key that has not 32 bytes".into()))?;
        Ok(NetworkInfo { public_key, peers: network.peers.iter().map(peer_info).collect() })
    }

    /// The daemon's cores.
    pub fn corestore(&self) -> RemoteCorestore {
        RemoteCorestore { connection: self.connection.clone(), sessions: self.sessions.clone() }
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

/// The cores of a daemon.
#[derive(Debug, Clone)]
pub struct RemoteCorestore {
    connection: Connection,
    sessions: Arc<Sessions>,
}

impl RemoteCorestore {
    /// Opens a core by its key.
    pub async fn get(&self, key: &Key) -> Result<RemoteHypercore, ClientError> {
        self.open(Some(key), None, false).await
    }

    /// Opens a core by its name, and makes it if there is none.
    pub async fn get_by_name(&self, name: &str) -> Result<RemoteHypercore, ClientError> {
        self.open(None, Some(name), false).await
    }

    /// Makes a core with a fresh key pair, which the daemon keeps.
    pub async fn create(&self) -> Result<RemoteHypercore, ClientError> {
        self.open(None, None, false).await
    }

    /// Opens a core by its key without keeping it open: the session closes when nobody else has the core open.
    pub async fn get_weak(&self, key: &Key) -> Result<RemoteHypercore, ClientError> {
        self.open(Some(key), None, true).await
    }

    /// The keys of cores as the daemon loads them, each once. A reader that is far too slow misses some.
    pub fn feeds(&self) -> impl Stream<Item = Key> + Send + use<> {
        stream::unfold(self.sessions.feeds(), |mut feeds| async move {
            loop {
                match feeds.recv().await {
                    Ok(key) => return Some((key, feeds)),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        })
    }

    async fn open(
        &self,
        key: Option<&Key>,
        name: Option<&str>,
        weak: bool,
    ) -> Result<RemoteHypercore, ClientError> {
        let state = self.sessions.create();
        // Dropping it closes the session, also while the answer is still due.
        let core = RemoteHypercore::new(self.connection.clone(), self.sessions.clone(), state.clone());
        let request = OpenRequest {
            id: state.id,
            key: key.map(|key| bytes::Bytes::copy_from_slice(key.as_bytes())),
            name: name.map(Into::into),
            weak: Some(weak),
        };
        state.opened(self.connection.call(Method::CorestoreOpen, &request).await?)?;
        Ok(core)
    }
}
