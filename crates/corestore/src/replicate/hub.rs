//! All connections of a store, and all cores that they replicate.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hypercore::{DiscoveryKey, Error, Hypercore};
use hypercore_protocol::{Connection, ConnectionOptions, TransportOptions};
use hypercore_replicator::{Options, PeerId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::core::ReplicatedCore;
use super::driver::Driver;
use super::link::Link;
use super::options::{ExtensionError, Progress, ReplicateError, ReplicateOptions, Replication};
use super::own_protocol::OwnProtocol;

/// Where connections find cores.
pub trait CoreSource: Send + Sync + 'static {
    /// The core with this discovery key, opened when it is stored and nobody has it open. `None` when it is not
    /// stored.
    fn open_stored(&self, discovery_key: &DiscoveryKey) -> Result<Option<Hypercore>, Error>;

    /// The core with this discovery key, when it is open.
    fn loaded(&self, discovery_key: &DiscoveryKey) -> Option<Hypercore>;

    /// The cores that are open and that their users want replicated.
    fn loaded_keys(&self) -> Vec<DiscoveryKey>;
}

/// Called with the extension messages of peers: discovery key, remote public key, name, message. Must be quick.
pub type ExtensionSink = dyn Fn(&DiscoveryKey, &[u8; 32], &str, Bytes) + Send + Sync;

/// All connections of a store.
pub struct ReplicationHub {
    options: Options,
    next_id: AtomicU64,
    /// How many connections there are; read without a lock whenever a core comes into use.
    live: AtomicUsize,
    links: Mutex<HashMap<u64, Arc<Link>>>,
    cores: Mutex<HashMap<DiscoveryKey, Arc<ReplicatedCore>>>,
    extensions: Mutex<Option<Arc<ExtensionSink>>>,
    own_protocol: Mutex<Option<OwnProtocol>>,
}

impl Default for ReplicationHub {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

impl ReplicationHub {
    /// Without connections.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            next_id: AtomicU64::new(1),
            live: AtomicUsize::new(0),
            links: Mutex::default(),
            cores: Mutex::default(),
            extensions: Mutex::default(),
            own_protocol: Mutex::default(),
        }
    }

    /// Replicates the cores of `source` over `io`, in a task of its own. Must be called inside a tokio runtime.
    pub fn replicate<IO>(
        self: &Arc<Self>,
        source: Arc<dyn CoreSource>,
        io: IO,
        options: ReplicateOptions,
    ) -> Result<Replication, ReplicateError>
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let ReplicateOptions { transport, remote_address, kind, held } = options;
        let failed = |reason: String| ReplicateError::Connection { remote: remote_address.clone(), reason };
        if matches!(transport, TransportOptions::Framed(_)) {
            return Err(failed(
                "replication runs over bytes, not over messages that are framed elsewhere".into(),
            ));
        }
        let connection =
            Connection::new(ConnectionOptions::with_transport(transport), std::time::Instant::now())
                .map_err(|error| failed(error.to_string()))?;
        let link = Arc::new(Link::new(self.id()));
        let (progress, watched) = watch::channel(Progress::default());
        self.links().insert(link.id, link.clone());
        self.live.fetch_add(1, Ordering::AcqRel);
        // Those that come into use from here on announce themselves.
        for core in source.loaded_keys().iter().filter_map(|discovery_key| source.loaded(discovery_key)) {
            link.open(&core);
        }
        let driver =
            Driver::new(self.clone(), source, link.clone(), connection, io, remote_address, kind, progress);
        tokio::spawn(driver.held(held).run());
        Ok(Replication::new(link, watched))
    }

    /// A user opened a session of the core: it gets a channel on every connection that has none for it, and what the
    /// user asks for waits for that.
    pub fn core_in_use(&self, core: &Hypercore) {
        if self.connection_count() == 0 {
            return;
        }
        let links: Vec<_> = self.links().values().cloned().collect();
        for link in links {
            link.open(core);
        }
    }

    /// How many connections there are.
    pub fn connection_count(&self) -> usize {
        self.live.load(Ordering::Acquire)
    }

    /// How many cores have a channel on some connection.
    pub fn core_count(&self) -> usize {
        self.cores().len()
    }

    /// Closes all connections.
    pub fn close(&self) {
        let links: Vec<_> = self.links().values().cloned().collect();
        for link in links {
            link.close();
        }
    }

    /// Who gets the extension messages of peers.
    pub fn set_extension_sink(&self, sink: Option<Arc<ExtensionSink>>) {
        *self.extensions.lock().unwrap_or_else(PoisonError::into_inner) = sink;
    }

    /// A protocol of the owner's own, beside the cores: for the connections that begin from here on. Each of them waits
    /// for [`Replication::offer_protocol`].
    pub fn set_own_protocol(&self, protocol: Option<OwnProtocol>) {
        *self.own_protocol.lock().unwrap_or_else(PoisonError::into_inner) = protocol;
    }

    /// Sends an extension message to all peers of a core. Returns to how many it went: a peer for which too much
    /// waits already is left out.
    pub fn broadcast_extension(
        &self,
        discovery_key: &DiscoveryKey,
        name: &str,
        message: &Bytes,
    ) -> Result<usize, ExtensionError> {
        self.send_extension_to(discovery_key, name, message, |_| true)
    }

    /// Sends an extension message to the peers of a core that have this public key: one, unless it is connected
    /// several times. Returns how many there were.
    pub fn send_extension(
        &self,
        discovery_key: &DiscoveryKey,
        remote_public_key: &[u8; 32],
        name: &str,
        message: &Bytes,
    ) -> Result<usize, ExtensionError> {
        let wanted = |link: &Link| link.remote_public_key.get() == Some(remote_public_key);
        self.send_extension_to(discovery_key, name, message, wanted)
    }

    fn send_extension_to(
        &self,
        discovery_key: &DiscoveryKey,
        name: &str,
        message: &Bytes,
        wanted: impl Fn(&Link) -> bool,
    ) -> Result<usize, ExtensionError> {
        ExtensionError::check(name, message)?;
        let Some(core) = self.attached(discovery_key) else { return Ok(0) };
        let mut guard = core.state();
        let state = &mut *guard;
        let mut sent = 0;
        for (peer, _) in state.peers.iter().filter(|(_, link)| wanted(link)) {
            sent += usize::from(state.replicator.extension(*peer, name, message.clone()));
        }
        while let Some(peer) = state.replicator.poll_ready() {
            if let Some(link) = state.peers.get(&peer) {
                link.ready(peer);
            }
        }
        Ok(sent)
    }

    pub(super) fn extension_sink(&self) -> Option<Arc<ExtensionSink>> {
        self.extensions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn own_protocol(&self) -> Option<OwnProtocol> {
        self.own_protocol.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn peer_id(&self) -> PeerId {
        PeerId(self.id())
    }

    /// The core, with this connection counted in.
    pub(super) fn attach(
        &self,
        hypercore: &Hypercore,
        link: &Arc<Link>,
    ) -> Result<Arc<ReplicatedCore>, Error> {
        let discovery_key = hypercore.discovery_key();
        let mut cores = self.cores();
        if let Some(core) = cores.get(&discovery_key)
            && !core.hypercore.lock().is_closed()
            && core.attach(link)
        {
            return Ok(core.clone());
        }
        let seed = self.options.seed.wrapping_add(self.id());
        let core = ReplicatedCore::new(hypercore, Options { seed, ..self.options.clone() })?;
        core.attach(link);
        cores.insert(discovery_key, core.clone());
        Ok(core)
    }

    pub(super) fn attached(&self, discovery_key: &DiscoveryKey) -> Option<Arc<ReplicatedCore>> {
        self.cores().get(discovery_key).cloned()
    }

    /// The connection has no channel for the core any more; the last one lets go of it.
    pub(super) fn detach(&self, core: &Arc<ReplicatedCore>, link: &Link) {
        if !core.detach(link) {
            return;
        }
        let mut cores = self.cores();
        if cores.get(&core.discovery_key).is_some_and(|known| Arc::ptr_eq(known, core)) {
            cores.remove(&core.discovery_key);
            // Still locked: whoever attaches next sets a waker of its own.
            core.hypercore.set_replication_waker(None);
            drop(cores);
            core.hypercore.close();
        }
    }

    pub(super) fn unlink(&self, link: &Link) {
        link.ended();
        if self.links().remove(&link.id).is_some() {
            self.live.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    fn links(&self) -> MutexGuard<'_, HashMap<u64, Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cores(&self) -> MutexGuard<'_, HashMap<DiscoveryKey, Arc<ReplicatedCore>>> {
        self.cores.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ReplicationHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicationHub")
            .field("connections", &self.connection_count())
            .field("cores", &self.core_count())
            .finish_non_exhaustive()
    }
}
