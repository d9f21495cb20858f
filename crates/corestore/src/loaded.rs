//! The cores that are open: each once, as long as somebody has a session of it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hypercore::storage::Database;
use hypercore::{Core, CoreOptions, DiscoveryKey, Error, Hypercore, WeakHypercore};

/// Cores are opened side by side unless their discovery keys fall to the same one of this many locks.
const STRIPES: usize = 16;

/// Called with every core that gets loaded.
pub type LoadHook = Arc<dyn Fn(&Hypercore) + Send + Sync>;

/// The cores that are open.
#[derive(Default)]
pub(crate) struct Loaded {
    cores: Mutex<HashMap<DiscoveryKey, WeakHypercore>>,
    /// Held while a core is read from storage, so that it is not opened twice.
    opening: [Mutex<()>; STRIPES],
    hooks: Mutex<Hooks>,
}

#[derive(Default)]
struct Hooks {
    next_id: u64,
    list: Vec<(u64, LoadHook)>,
}

/// Ends the calls of a [`LoadHook`] when it is dropped.
#[must_use = "the hook is not called any more when this is dropped"]
pub struct LoadWatch {
    loaded: Arc<Loaded>,
    id: u64,
}

impl Loaded {
    /// A session of the core, if it is open.
    pub(crate) fn get(&self, discovery_key: &DiscoveryKey) -> Option<Hypercore> {
        let core = self.cores().get(discovery_key).cloned();
        core?.upgrade()
    }

    /// A session of the core, which is opened as `options` say unless it is open.
    pub(crate) fn get_or_open(
        self: &Arc<Self>,
        database: &Database,
        discovery_key: &DiscoveryKey,
        options: impl FnOnce() -> CoreOptions,
    ) -> Result<Hypercore, Error> {
        if let Some(core) = self.get(discovery_key) {
            return Ok(core);
        }
        let stripe = usize::from(discovery_key.as_bytes()[0]) % STRIPES;
        let opening = self.opening[stripe].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(core) = self.get(discovery_key) {
            return Ok(core);
        }
        let core = match Core::open(database, options()) {
            // Its records are those of a core that is open.
            Err(Error::InUse(found)) if found != *discovery_key => {
                return self.get(&found).ok_or(Error::InUse(found));
            }
            core => Hypercore::from_core(core?)?,
        };
        self.enter(&core);
        drop(opening);
        self.announce(&core);
        Ok(core)
    }

    /// Makes a core whose key nobody can know yet.
    pub(crate) fn create(
        self: &Arc<Self>,
        database: &Database,
        options: CoreOptions,
    ) -> Result<Hypercore, Error> {
        let core = Hypercore::from_core(Core::open(database, options)?)?;
        self.enter(&core);
        self.announce(&core);
        Ok(core)
    }

    fn enter(self: &Arc<Self>, core: &Hypercore) {
        let loaded = Arc::downgrade(self);
        core.on_close(Box::new(move |discovery_key| {
            if let Some(loaded) = loaded.upgrade() {
                loaded.forget(&discovery_key);
            }
        }));
        self.cores().insert(core.discovery_key(), core.weak());
    }

    /// The core was closed, but another thread may have opened it again already.
    fn forget(&self, discovery_key: &DiscoveryKey) {
        let mut cores = self.cores();
        if cores.get(discovery_key).is_some_and(|core| core.is_closed()) {
            cores.remove(discovery_key);
        }
        if cores.capacity() > 64 && cores.len() < cores.capacity() / 4 {
            cores.shrink_to_fit();
        }
    }

    fn announce(&self, core: &Hypercore) {
        let hooks = self.hooks.lock().unwrap_or_else(PoisonError::into_inner).list.clone();
        for (_, hook) in hooks {
            hook(core);
        }
    }

    pub(crate) fn watch(self: &Arc<Self>, hook: LoadHook) -> LoadWatch {
        let mut hooks = self.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        let id = hooks.next_id;
        hooks.next_id += 1;
        hooks.list.push((id, hook));
        LoadWatch { loaded: Arc::clone(self), id }
    }

    /// How many cores are open.
    pub(crate) fn len(&self) -> usize {
        self.cores().len()
    }

    pub(crate) fn keys(&self) -> Vec<DiscoveryKey> {
        self.cores().keys().copied().collect()
    }

    fn cores(&self) -> MutexGuard<'_, HashMap<DiscoveryKey, WeakHypercore>> {
        self.cores.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LoadWatch {
    fn drop(&mut self) {
        let mut hooks = self.loaded.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        hooks.list.retain(|(id, _)| *id != self.id);
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded").field("cores", &self.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for LoadWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadWatch").field("id", &self.id).finish_non_exhaustive()
    }
}
