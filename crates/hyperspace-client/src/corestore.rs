//! The cores of a daemon.

use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, TryStreamExt, stream};
use hypercore::{DiscoveryKey, Key};
use hyperspace_common::{Method, messages::*};
use tokio::sync::broadcast::error::RecvError;

use crate::{
    RemoteHypercore,
    connection::Connection,
    error::ClientError,
    restore,
    sessions::{Kind, Sessions, parse_discovery_key, parse_key},
};

/// The cores of a daemon, or those of one namespace.
#[derive(Debug, Clone)]
pub struct RemoteCorestore {
    connection: Connection,
    sessions: Arc<Sessions>,
    namespace: Vec<Bytes>,
}

/// A core that the daemon has stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCore {
    /// Its key.
    pub key: Key,
    /// Its discovery key.
    pub discovery_key: DiscoveryKey,
    /// Blocks.
    pub length: u64,
    /// Bytes in all blocks together.
    pub byte_length: u64,
    /// All blocks below this one are stored by the daemon; of a core that is not open, some more may be.
    pub contiguous_length: u64,
    /// How often history was rewritten.
    pub fork: u64,
    /// The daemon has its secret key.
    pub writable: bool,
    /// Somebody has it open.
    pub open: bool,
    /// Peers that replicate it with the daemon now.
    pub peers: u64,
}

impl RemoteCorestore {
    pub(crate) fn new(connection: Connection, sessions: Arc<Sessions>) -> Self {
        Self { connection, sessions, namespace: Vec::new() }
    }

    /// The same cores, with names that mean others. Not with the Node daemon.
    pub fn namespace(&self, name: impl AsRef<[u8]>) -> Self {
        let mut namespace = self.namespace.clone();
        namespace.push(Bytes::copy_from_slice(name.as_ref()));
        Self { namespace, ..self.clone() }
    }

    /// Opens a core by its key.
    pub async fn get(&self, key: &Key) -> Result<RemoteHypercore, ClientError> {
        self.open(OpenCoreRequest { key: Some(bytes_of(key)), ..OpenCoreRequest::default() }).await
    }

    /// Opens a core by its key if the daemon has it stored. Not with the Node daemon.
    pub async fn get_stored(&self, key: &Key) -> Result<RemoteHypercore, ClientError> {
        let key = Some(bytes_of(key));
        self.open(OpenCoreRequest { key, create: Some(false), ..OpenCoreRequest::default() }).await
    }

    /// Opens a core that the daemon has stored, by its discovery key. Not with the Node daemon.
    pub async fn get_by_discovery_key(
        &self,
        discovery_key: &DiscoveryKey,
    ) -> Result<RemoteHypercore, ClientError> {
        let discovery_key = Some(Bytes::copy_from_slice(discovery_key.as_bytes()));
        self.open(OpenCoreRequest { discovery_key, ..OpenCoreRequest::default() }).await
    }

    /// Opens a core by its name, and makes it if there is none.
    pub async fn get_by_name(&self, name: &str) -> Result<RemoteHypercore, ClientError> {
        let (name, namespace) = (Some(name.into()), self.namespace.clone());
        self.open(OpenCoreRequest { name, namespace, ..OpenCoreRequest::default() }).await
    }

    /// Makes a core with a fresh key pair, which the daemon keeps.
    pub async fn create(&self) -> Result<RemoteHypercore, ClientError> {
        self.open(OpenCoreRequest::default()).await
    }

    /// Opens a core by its key without keeping it open: the session closes when nobody else has the core open.
    pub async fn get_weak(&self, key: &Key) -> Result<RemoteHypercore, ClientError> {
        let (key, weak) = (Some(bytes_of(key)), Some(true));
        self.open(OpenCoreRequest { key, weak, ..OpenCoreRequest::default() }).await
    }

    /// Opens a core by its key for reading only. Not with the Node daemon.
    pub async fn get_read_only(&self, key: &Key) -> Result<RemoteHypercore, ClientError> {
        let (key, read_only) = (Some(bytes_of(key)), Some(true));
        self.open(OpenCoreRequest { key, read_only, ..OpenCoreRequest::default() }).await
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

    /// All cores that the daemon has stored, in order of discovery keys, asked for page by page. None is opened for
    /// it. Not with the Node daemon.
    pub fn list(&self) -> impl Stream<Item = Result<StoredCore, ClientError>> + Send + use<> {
        let (connection, sessions) = (self.connection.clone(), self.sessions.clone());
        let pages = stream::try_unfold(Some(None), move |after: Option<Option<Bytes>>| {
            let (connection, sessions) = (connection.clone(), sessions.clone());
            async move {
                let Some(after) = after else { return Ok::<_, ClientError>(None) };
                let request = ListRequest { after, limit: None };
                sessions.need_additional(&connection).await?;
                let page: ListResponse = connection.ask(Method::StoreList, &request).await?;
                // A page without an end would be asked for for ever.
                let next = page.cores.last().map(|core| Some(core.discovery_key.clone()));
                let cores = page.cores.iter().map(StoredCore::read);
                Ok(Some((stream::iter(cores.collect::<Vec<_>>()), next.filter(|_| page.more))))
            }
        });
        pages.try_flatten()
    }

    /// The names of this namespace with the discovery keys of their cores, in order, asked for page by page. Not with
    /// the Node daemon.
    pub fn names(&self) -> impl Stream<Item = Result<(String, DiscoveryKey), ClientError>> + Send + use<> {
        let (connection, sessions) = (self.connection.clone(), self.sessions.clone());
        let namespace = self.namespace.clone();
        let pages = stream::try_unfold(Some(None), move |after: Option<Option<String>>| {
            let (connection, sessions) = (connection.clone(), sessions.clone());
            let namespace = namespace.clone();
            async move {
                let Some(after) = after else { return Ok::<_, ClientError>(None) };
                let request = NamesRequest { namespace, after, limit: None };
                sessions.need_additional(&connection).await?;
                let page: NamesResponse = connection.ask(Method::StoreNames, &request).await?;
                let next = page.cores.last().map(|core| Some(core.name.clone()));
                let named = page.cores.into_iter().map(|core| {
                    let discovery_key = parse_discovery_key(&core.discovery_key)?;
                    Ok((core.name, discovery_key))
                });
                Ok(Some((stream::iter(named.collect::<Vec<_>>()), next.filter(|_| page.more))))
            }
        });
        pages.try_flatten()
    }

    async fn open(&self, request: OpenCoreRequest) -> Result<RemoteHypercore, ClientError> {
        let kind = Kind::Core { weak: request.weak(), read_only: request.read_only() };
        let state = self.sessions.create(kind);
        // Dropping it closes the session, also while the answer is still due.
        let core = RemoteHypercore::new(self.connection.clone(), self.sessions.clone(), state.clone());
        let request = OpenCoreRequest { id: state.id, ..request };
        let opened = restore::open(&self.sessions, &self.connection, &request, || state.opening()).await?;
        state.opened(opened)?;
        Ok(core)
    }
}

impl StoredCore {
    fn read(core: &CoreEntry) -> Result<Self, ClientError> {
        Ok(Self {
            key: parse_key(&core.key)?,
            discovery_key: parse_discovery_key(&core.discovery_key)?,
            length: core.length,
            byte_length: core.byte_length,
            contiguous_length: core.contiguous_length,
            fork: core.fork,
            writable: core.writable,
            open: core.open,
            peers: core.peers,
        })
    }
}

fn bytes_of(key: &Key) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}
