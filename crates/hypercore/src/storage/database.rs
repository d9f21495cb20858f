//! The store of many cores: its head, the names of cores, and where each core's records are.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;

use super::records::{Alias, Auth, CorePointers, STORE_VERSION, StoreHead};
use super::{Batch, CoreStore, MemoryStorage, OpenError, Storage, StorageError, keys};
use crate::key::DiscoveryKey;

/// Many cores in one storage, as npm `hypercore-storage` 3 keeps them (its `CorestoreStorage`). Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    storage: Arc<dyn Storage>,
    /// The head as it stands on disk. Changing the head, or making a core, happens under this lock.
    head: Mutex<StoreHead>,
    /// The cores that have an owner.
    claimed: Mutex<HashSet<DiscoveryKey>>,
}

/// Owning a core: there is one claim at a time. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    shared: Arc<Shared>,
    discovery_key: DiscoveryKey,
}

impl Claim {
    /// The claim of the core that was found, where another one was looked for: npm `corestore` 7 (`staticify`) lets two
    /// discovery keys lead to the same records. An error says which core somebody has already.
    pub(crate) fn of(self, found: DiscoveryKey) -> Result<Self, DiscoveryKey> {
        if found == self.discovery_key {
            return Ok(self);
        }
        claim(&self.shared, found).ok_or(found)
    }
}

fn claim(shared: &Arc<Shared>, discovery_key: DiscoveryKey) -> Option<Claim> {
    let mut claimed = shared.claimed.lock().unwrap_or_else(PoisonError::into_inner);
    let claim = || Claim { shared: Arc::clone(shared), discovery_key };
    claimed.insert(discovery_key).then(claim)
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claimed = self.shared.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.remove(&self.discovery_key);
        if claimed.capacity() > 64 && claimed.len() < claimed.capacity() / 4 {
            claimed.shrink_to_fit();
        }
    }
}

/// What a new core is made of.
#[derive(Debug, Clone)]
pub struct CreateCore {
    /// Who it is.
    pub auth: Auth,
    /// Its name, when it has one.
    pub alias: Option<Alias>,
    /// Named values of the user to store with it.
    pub user_data: Vec<(String, Bytes)>,
}

impl Database {
    /// Opens what stands in `storage`, empty or not.
    pub fn open(storage: Arc<dyn Storage>) -> Result<Self, OpenError> {
        let head = match storage.get(&keys::store_head())? {
            Some(bytes) => match StoreHead::version_of(&bytes)? {
                found if found > STORE_VERSION => {
                    return Err(OpenError::TooNew { found, known: STORE_VERSION });
                }
                _ => StoreHead::decode(bytes)?,
            },
            None => StoreHead::default(),
        };
        Ok(Self { shared: Arc::new(Shared { storage, head: Mutex::new(head), claimed: Mutex::default() }) })
    }

    /// An empty database in memory.
    pub fn memory() -> Self {
        let shared = Shared {
            storage: Arc::new(MemoryStorage::new()),
            head: Mutex::default(),
            claimed: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The storage below.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.shared.storage
    }

    /// The primary key, from which named cores derive their key pairs.
    pub fn seed(&self) -> Option<[u8; 32]> {
        self.lock_head(|head| head.seed)
    }

    /// Sets the primary key unless there is one; returns the one in force.
    pub fn set_seed_if_missing(&self, seed: [u8; 32]) -> Result<[u8; 32], StorageError> {
        let mut guard = self.shared.head.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seed) = guard.seed {
            return Ok(seed);
        }
        let head = StoreHead { seed: Some(seed), ..guard.clone() };
        let mut batch = Batch::new();
        batch.put(&keys::store_head(), &head.encode());
        self.shared.storage.commit(&batch)?;
        *guard = head;
        Ok(seed)
    }

    /// Discovery key of the first core made.
    pub fn default_discovery_key(&self) -> Option<DiscoveryKey> {
        self.lock_head(|head| head.default_discovery_key)
    }

    /// Makes a core, or opens it when it exists already (then nothing is changed).
    pub fn create_core(&self, core: &CreateCore) -> Result<CoreStore, StorageError> {
        let mut guard = self.shared.head.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = self.resume(&core.auth.discovery_key)? {
            return Ok(store);
        }
        let mut head = guard.clone();
        let pointers = CorePointers {
            version: STORE_VERSION,
            core: head.cores,
            data: head.datas,
            alias: core.alias.clone(),
        };
        head.version = STORE_VERSION;
        head.cores += 1;
        head.datas += 1;
        head.default_discovery_key.get_or_insert(core.auth.discovery_key);

        let mut batch = Batch::new();
        batch.put(&keys::store_head(), &head.encode());
        batch.put(&keys::core_by_discovery_key(core.auth.discovery_key.as_bytes()), &pointers.encode());
        if let Some(alias) = &core.alias {
            batch
                .put(&keys::core_by_alias(&alias.namespace, &alias.name), core.auth.discovery_key.as_bytes());
        }
        batch.put(&keys::auth(pointers.core), &core.auth.encode());
        for (name, value) in &core.user_data {
            batch.put(&keys::user_data(pointers.data, name), value);
        }
        self.shared.storage.commit(&batch)?;
        *guard = head;
        CoreStore::open(Arc::clone(&self.shared.storage), pointers.core, pointers.data)
    }

    /// Becomes the owner of a core, unless it has one: two would overwrite each other's blocks and sign two
    /// histories.
    pub(crate) fn claim(&self, discovery_key: DiscoveryKey) -> Option<Claim> {
        claim(&self.shared, discovery_key)
    }

    /// Where the records of a core are, when it is stored here.
    pub fn pointers(&self, discovery_key: &DiscoveryKey) -> Result<Option<CorePointers>, StorageError> {
        let bytes = self.shared.storage.get(&keys::core_by_discovery_key(discovery_key.as_bytes()))?;
        bytes.map(CorePointers::decode).transpose()
    }

    /// True when the core is stored here.
    pub fn has_core(&self, discovery_key: &DiscoveryKey) -> Result<bool, StorageError> {
        Ok(self.shared.storage.get(&keys::core_by_discovery_key(discovery_key.as_bytes()))?.is_some())
    }

    /// The records of a core, when it is stored here.
    pub fn resume(&self, discovery_key: &DiscoveryKey) -> Result<Option<CoreStore>, StorageError> {
        let Some(pointers) = self.pointers(discovery_key)? else {
            return Ok(None);
        };
        let remedy = match pointers.version {
            0 => "its blocks are still in the files of corestore 6; open it once with corestore 7 on Node",
            1 | STORE_VERSION => {
                let storage = Arc::clone(&self.shared.storage);
                return CoreStore::open(storage, pointers.core, pointers.data).map(Some);
            }
            _ => "it was made by a newer program; use a newer version of this one",
        };
        Err(StorageError::Version { record: "core", found: pointers.version, remedy })
    }

    /// Discovery key of the core with this name.
    pub fn alias(&self, alias: &Alias) -> Result<Option<DiscoveryKey>, StorageError> {
        let key = keys::core_by_alias(&alias.namespace, &alias.name);
        self.shared.storage.get(&key)?.map(discovery_key_value).transpose()
    }

    /// Up to `limit` cores, in order of discovery keys, that come after `after`. Call again with the last one
    /// to go on: so even a hundred thousand cores are never in memory at once.
    pub fn cores(
        &self,
        after: Option<&DiscoveryKey>,
        limit: usize,
    ) -> Result<Vec<(DiscoveryKey, CorePointers)>, StorageError> {
        page(
            &*self.shared.storage,
            &keys::cores_after(after.map(DiscoveryKey::as_bytes)),
            &keys::cores_end(),
            limit,
            |key, value| {
                Ok((
                    keys::discovery_key_of(key)?.into(),
                    CorePointers::decode(Bytes::copy_from_slice(value))?,
                ))
            },
        )
    }

    /// Up to `limit` names with their discovery keys, of one namespace or of all, that come after `after`.
    pub fn aliases(
        &self,
        namespace: Option<&[u8; 32]>,
        after: Option<&Alias>,
        limit: usize,
    ) -> Result<Vec<(Alias, DiscoveryKey)>, StorageError> {
        let start = match after {
            Some(after) => {
                let mut key = keys::core_by_alias(&after.namespace, &after.name);
                key.push(0x00);
                key
            }
            None => keys::aliases_start(namespace).to_vec(),
        };
        page(&*self.shared.storage, &start, &keys::aliases_end(namespace), limit, |key, value| {
            let (namespace, name) = keys::alias_of(key)?;
            Ok((Alias { namespace, name }, discovery_key_value(Bytes::copy_from_slice(value))?))
        })
    }

    /// Makes everything committed survive loss of power.
    pub fn sync(&self) -> Result<(), StorageError> {
        self.shared.storage.sync()
    }

    /// Does what the passing of time demands; see [`Storage::tick`].
    pub fn tick(&self, now: Instant) -> Result<Option<Instant>, StorageError> {
        self.shared.storage.tick(now)
    }

    /// About how many bytes of memory the storage uses: buffers, indexes, caches.
    pub fn memory_usage(&self) -> usize {
        self.shared.storage.memory_usage()
    }

    fn lock_head<T>(&self, look: impl FnOnce(&StoreHead) -> T) -> T {
        look(&self.shared.head.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn discovery_key_value(bytes: Bytes) -> Result<DiscoveryKey, StorageError> {
    DiscoveryKey::try_from(&*bytes).map_err(|_| StorageError::Corrupt {
        record: "alias",
        reason: format!("it points to {} bytes instead of a discovery key", bytes.len()),
    })
}

fn page<T>(
    storage: &dyn Storage,
    start: &[u8],
    end: &[u8],
    limit: usize,
    mut decode: impl FnMut(&[u8], &[u8]) -> Result<T, StorageError>,
) -> Result<Vec<T>, StorageError> {
    let mut items = Vec::new();
    let mut failed = None;
    if limit == 0 {
        return Ok(items);
    }
    storage.scan(start, end, false, &mut |key, value| match decode(key, value) {
        Ok(item) => {
            items.push(item);
            if items.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        }
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(items), Err)
}
