//! The daemon's cores, by key or by name.

use std::sync::Arc;

use hypercore::{Hypercore, Key, session::WeakHypercore};

/// Something that has just been loaded is told of here.
pub(crate) type OnLoad = Arc<dyn Fn(&Hypercore) + Send + Sync>;

/// Stands in for the corestore.
pub(crate) struct Cores {
    database: hypercore::storage::Database,
    open: std::sync::Mutex<std::collections::HashMap<[u8; 32], WeakHypercore>>,
    on_load: OnLoad,
}

impl Cores {
    pub(crate) fn memory(on_load: OnLoad) -> Self {
        Self { database: hypercore::storage::Database::memory(), open: Default::default(), on_load }
    }

    pub(crate) fn open(&self, key: Option<Key>, name: Option<&str>) -> Result<Hypercore, hypercore::Error> {
        let mut open = self.open.lock().unwrap();
        let builder = Hypercore::builder();
        let builder = match (key, name) {
            (Some(key), _) => {
                if let Some(core) = open.get(key.as_bytes()).and_then(WeakHypercore::upgrade) {
                    return Ok(core);
                }
                builder.key(key)
            }
            (None, Some(name)) => {
                let mut seed = [0; 32];
                for (a, b) in seed.iter_mut().zip(name.bytes()) {
                    *a = b;
                }
                let probe = Hypercore::builder().seed(seed).memory()?;
                if let Some(core) = open.get(probe.key().as_bytes()).and_then(WeakHypercore::upgrade) {
                    return Ok(core);
                }
                builder.seed(seed)
            }
            (None, None) => builder,
        };
        let core = builder.open(&self.database)?;
        open.insert(core.key().to_bytes(), core.weak());
        (self.on_load)(&core);
        Ok(core)
    }
}
