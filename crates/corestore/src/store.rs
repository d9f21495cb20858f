//! The store.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hypercore::session::SessionOptions;
use hypercore::storage::{Alias, Auth, Database, OpenError, StorageError};
use hypercore::{CoreOptions, DiscoveryKey, Error, Hypercore, KeyPair};
use zeroize::Zeroizing;

use crate::exclusive::{ExclusiveHypercore, ExclusiveSessions};
use crate::list::{Cores, Names};
use crate::loaded::{LoadHook, LoadWatch, Loaded};
use crate::names::{self, DEFAULT_NAMESPACE, MAX_NAME_BYTES};
use crate::query::{Query, Which};
use crate::replicate::{CoreSource, ReplicateError, ReplicateOptions, Replication, ReplicationHub};

/// Many cores in one database, with one primary key. Cheap to clone; clones and namespaces share everything.
///
/// A core is read from the database when it is asked for and let go of with its last session, so that a stored core
/// that nobody uses costs no memory.
#[derive(Clone)]
pub struct Corestore {
    shared: Arc<Shared>,
    namespace: [u8; 32],
    read_only: bool,
}

struct Shared {
    database: Database,
    primary_key: Zeroizing<[u8; 32]>,
    loaded: Arc<Loaded>,
    exclusive: Arc<ExclusiveSessions>,
    hub: Arc<ReplicationHub>,
    closed: AtomicBool,
}

/// Opening and closing.
impl Corestore {
    /// Opens the store in a folder with the default settings, and makes it when there is none.
    #[cfg(feature = "rocksdb")]
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Self, OpenError> {
        Self::open_with(path, hypercore::storage::FolderOptions::default())
    }

    /// Opens the store in a folder.
    #[cfg(feature = "rocksdb")]
    pub fn open_with(
        path: impl AsRef<std::path::Path>,
        options: hypercore::storage::FolderOptions,
    ) -> Result<Self, OpenError> {
        Self::from_database(Database::open_folder(path, options)?)
    }

    /// An empty store that is gone with its last handle.
    ///
    /// # Panics
    /// When the operating system has no randomness to give.
    pub fn memory() -> Self {
        Self::with_key(Database::memory(), *random_key())
    }

    /// The store in a database. A new one gets a random primary key.
    pub fn from_database(database: Database) -> Result<Self, OpenError> {
        let primary_key = match database.seed() {
            Some(primary_key) => primary_key,
            None => database.set_seed_if_missing(*random_key())?,
        };
        Ok(Self::with_key(database, primary_key))
    }

    /// The store in a database with this primary key, from which all named cores derive; fails when the database has
    /// another one. Keep it secret, and do not write with it in two places: two writers of one core destroy it.
    pub fn from_database_with_primary_key(
        database: Database,
        primary_key: [u8; 32],
    ) -> Result<Self, OpenError> {
        if database.set_seed_if_missing(primary_key)? != primary_key {
            return Err(OpenError::AnotherPrimaryKey);
        }
        Ok(Self::with_key(database, primary_key))
    }

    fn with_key(database: Database, primary_key: [u8; 32]) -> Self {
        let shared = Shared {
            database,
            primary_key: Zeroizing::new(primary_key),
            loaded: Arc::default(),
            exclusive: Arc::default(),
            hub: Arc::default(),
            closed: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared), namespace: DEFAULT_NAMESPACE, read_only: false }
    }

    /// The same store, with names that mean other cores.
    pub fn namespace(&self, name: impl AsRef<[u8]>) -> Self {
        Self { namespace: names::sub_namespace(&self.namespace, name.as_ref()), ..self.clone() }
    }

    /// The same store, whose cores cannot be written.
    pub fn read_only(&self) -> Self {
        Self { read_only: true, ..self.clone() }
    }

    /// Closes all connections and all sessions of all cores, and forces what was written to disk. The folder can be
    /// opened again once every handle was dropped.
    pub fn close(&self) -> Result<(), StorageError> {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.hub.close();
        for discovery_key in self.shared.loaded.keys() {
            if let Some(core) = self.shared.loaded.get(&discovery_key) {
                core.close_all();
            }
        }
        self.shared.database.sync()
    }

    /// Whether the store was closed.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }
}

/// Cores.
impl Corestore {
    /// A session of the core that is meant. It is read from the database, or made, unless it is open.
    pub fn get(&self, query: impl Into<Query>) -> Result<Hypercore, Error> {
        if self.is_closed() {
            return Err(Error::Closed);
        }
        let query = query.into();
        let (core, own) = self.shared.find(&self.namespace, &query)?;
        if let Some(pair) = own {
            core.lock().parts().0.add_signer(pair);
        }
        let core = if self.read_only || !query.writable {
            core.session(SessionOptions { read_only: true, ..SessionOptions::default() })?
        } else {
            for pair in query.signers {
                core.lock().parts().0.add_signer(pair);
            }
            core
        };
        self.shared.hub.core_in_use(&core);
        Ok(core)
    }

    /// The exclusive session of the core that is meant: waits until nobody else has it. Plain sessions are not kept
    /// out; whoever wants to be the only writer asks for this, too.
    pub async fn get_exclusive(&self, query: impl Into<Query>) -> Result<ExclusiveHypercore, Error> {
        let core = self.get(query)?;
        Ok(self.shared.exclusive.enter(core).await)
    }

    /// A session of the core, if it is open.
    pub fn loaded(&self, discovery_key: &DiscoveryKey) -> Option<Hypercore> {
        self.shared.loaded.get(discovery_key)
    }

    /// How many cores are open.
    pub fn loaded_count(&self) -> usize {
        self.shared.loaded.len()
    }

    /// Calls `hook` with every core that gets loaded, once each time, for users and for peers.
    pub fn on_load(&self, hook: LoadHook) -> LoadWatch {
        self.shared.loaded.watch(hook)
    }

    /// Whether the core is stored here.
    pub fn has(&self, discovery_key: &DiscoveryKey) -> Result<bool, StorageError> {
        self.shared.database.has_core(discovery_key)
    }

    /// Who a stored core is: key, manifest, key pair. It is not opened.
    pub fn auth(&self, discovery_key: &DiscoveryKey) -> Result<Option<Auth>, StorageError> {
        match self.shared.database.resume(discovery_key)? {
            Some(core) => core.read().auth(),
            None => Ok(None),
        }
    }

    /// The discovery keys of all stored cores.
    pub fn list(&self) -> Cores {
        self.list_after(None)
    }

    /// The same, from the one that follows `after` on.
    pub fn list_after(&self, after: Option<DiscoveryKey>) -> Cores {
        Cores::new(self.shared.database.clone(), after)
    }

    /// The named cores of this namespace.
    pub fn names(&self) -> Names {
        self.names_after(None)
    }

    /// The same, from the one that follows `after` on.
    pub fn names_after(&self, after: Option<&str>) -> Names {
        Names::new(self.shared.database.clone(), self.namespace, after)
    }

    /// The key pair of `name` in this namespace: always the same for the same primary key.
    pub fn key_pair(&self, name: impl AsRef<[u8]>) -> KeyPair {
        names::key_pair(&self.shared.primary_key, &self.namespace, name.as_ref())
    }

    /// Discovery key of the first core that was made here.
    pub fn default_discovery_key(&self) -> Option<DiscoveryKey> {
        self.shared.database.default_discovery_key()
    }

    /// The primary key. Whoever has it can write all named cores.
    pub fn primary_key(&self) -> &[u8; 32] {
        &self.shared.primary_key
    }

    /// The database below.
    pub fn database(&self) -> &Database {
        &self.shared.database
    }
}

/// Peers and the disk.
impl Corestore {
    /// Replicates every core of the store that both sides know over `io`, in a task of its own. Must be called
    /// inside a tokio runtime.
    pub fn replicate<IO>(&self, io: IO, options: ReplicateOptions) -> Result<Replication, ReplicateError>
    where
        IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let source: Arc<dyn CoreSource> = self.shared.clone();
        self.shared.hub.replicate(source, io, options)
    }

    /// All connections of the store.
    pub fn hub(&self) -> &Arc<ReplicationHub> {
        &self.shared.hub
    }

    /// Forces what was written to disk when the `Interval` fsync policy wants it; says when to call again.
    pub fn tick(&self, now: Instant) -> Result<Option<Instant>, StorageError> {
        self.shared.database.tick(now)
    }

    /// Forces everything that was written to disk.
    pub fn sync(&self) -> Result<(), StorageError> {
        self.shared.database.sync()
    }

    /// Serves the `Interval` fsync policy: run this beside the store. Looks for new commits every `interval`, and
    /// after an error tries again after ten times that. Ends when the store is closed; answers the last error, if
    /// what was written last could not be forced to disk.
    pub async fn keep_synced(&self, interval: Duration) -> Result<(), StorageError> {
        let interval = interval.max(Duration::from_millis(1));
        let mut trouble = None;
        while !self.is_closed() {
            let wait = match self.tick(Instant::now()) {
                Ok(due) => {
                    if trouble.take().is_some() {
                        tracing::warn!("what is written is forced to disk again");
                    }
                    due.map_or(interval, |due| due.saturating_duration_since(Instant::now()).min(interval))
                }
                Err(error) => {
                    if trouble.is_none() {
                        tracing::warn!(%error, "what was written could not be forced to disk; trying again");
                    }
                    trouble = Some(error);
                    interval * 10
                }
            };
            tokio::time::sleep(wait).await;
        }
        trouble.map_or(Ok(()), Err)
    }
}

impl Shared {
    /// The core that is meant, and the key pair that its name stands for.
    fn find(&self, namespace: &[u8; 32], query: &Query) -> Result<(Hypercore, Option<KeyPair>), Error> {
        let mut options = CoreOptions {
            create_if_missing: query.create_if_missing,
            compat: query.compat,
            user_data: query.user_data.clone(),
            ..CoreOptions::default()
        };
        let mut own = None;
        let discovery_key = match &query.which {
            Which::Fresh => {
                return Ok((self.loaded.create(&self.database, options)?, None));
            }
            Which::Name(name) => {
                if name.len() > MAX_NAME_BYTES {
                    let reason = format!("it has {} bytes, the limit is {MAX_NAME_BYTES}", name.len());
                    return Err(StorageError::Unstorable { record: "name", reason }.into());
                }
                let alias = Alias { namespace: *namespace, name: name.clone() };
                let pair = names::key_pair(&self.primary_key, namespace, name.as_bytes());
                own = Some(pair.clone());
                match self.database.alias(&alias)? {
                    Some(discovery_key) => discovery_key,
                    None => {
                        let manifest = hypercore::Manifest::default_signer(pair.public());
                        let discovery_key = manifest.key().discovery_key();
                        options.manifest = Some(manifest);
                        options.key_pair = Some(pair);
                        options.alias = Some(alias);
                        discovery_key
                    }
                }
            }
            Which::Key(key) => {
                options.key = Some(*key);
                key.discovery_key()
            }
            Which::DiscoveryKey(discovery_key) => *discovery_key,
            Which::KeyPair(pair) => {
                let key = if query.compat {
                    pair.public().into()
                } else {
                    hypercore::Manifest::default_signer(pair.public()).key()
                };
                own = Some(pair.clone());
                options.key_pair = Some(pair.clone());
                key.discovery_key()
            }
            Which::Manifest(manifest) => {
                options.manifest = Some((**manifest).clone());
                manifest.key().discovery_key()
            }
        };
        let manifest = options.manifest.clone();
        let core = self.loaded.get_or_open(&self.database, &discovery_key, || {
            if options.key.is_none() && options.manifest.is_none() && options.key_pair.is_none() {
                options.discovery_key = Some(discovery_key);
            }
            options
        })?;
        if let Some(manifest) = manifest {
            // Known only now, when the core was opened by its key before.
            let mut guard = core.lock();
            let (core, _) = guard.parts();
            if !core.has_manifest() {
                core.set_manifest(manifest)?;
            }
        }
        Ok((core, own))
    }
}

impl CoreSource for Shared {
    fn open_stored(&self, discovery_key: &DiscoveryKey) -> Result<Option<Hypercore>, Error> {
        if self.closed.load(Ordering::Acquire) {
            return Ok(None);
        }
        if let Some(core) = self.loaded.get(discovery_key) {
            return Ok(Some(core));
        }
        // Peers ask for anything: what is not stored must stay cheap.
        if !self.database.has_core(discovery_key)? {
            return Ok(None);
        }
        let options = || CoreOptions { discovery_key: Some(*discovery_key), ..CoreOptions::default() };
        self.loaded.get_or_open(&self.database, discovery_key, options).map(Some)
    }

    fn loaded(&self, discovery_key: &DiscoveryKey) -> Option<Hypercore> {
        self.loaded.get(discovery_key)
    }

    fn loaded_keys(&self) -> Vec<DiscoveryKey> {
        self.loaded.keys()
    }
}

fn random_key() -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0u8; 32]);
    // Without randomness there are no keys: nothing sensible can follow.
    getrandom::fill(&mut *key).expect("the operating system provides randomness");
    key
}

impl fmt::Debug for Corestore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Corestore")
            .field("loaded", &self.loaded_count())
            .field("connections", &self.shared.hub.connection_count())
            .finish_non_exhaustive()
    }
}
