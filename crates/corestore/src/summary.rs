//! A stored core at a glance.

use hypercore::storage::StorageError;
use hypercore::tree::TreeHead;
use hypercore::{DiscoveryKey, Error, Key};

use crate::store::Corestore;

/// What is known of a stored core; see [`Corestore::summary`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreSummary {
    /// Its key.
    pub key: Key,
    /// Its discovery key.
    pub discovery_key: DiscoveryKey,
    /// Blocks.
    pub length: u64,
    /// Bytes in all blocks together.
    pub byte_length: u64,
    /// All blocks below this one are here; of a core that is not open, some more may be.
    pub contiguous_length: u64,
    /// How often history was rewritten.
    pub fork: u64,
    /// Its secret key is stored here.
    pub writable: bool,
    /// Somebody has it open.
    pub open: bool,
    /// Peers that replicate it with us now.
    pub peers: usize,
}

impl Corestore {
    /// A stored core at a glance; `None` when it is not stored. One that is not open is not opened for it.
    pub fn summary(&self, discovery_key: &DiscoveryKey) -> Result<Option<CoreSummary>, Error> {
        if let Some(core) = self.loaded(discovery_key) {
            let info = core.info();
            return Ok(Some(CoreSummary {
                key: info.key,
                discovery_key: info.discovery_key,
                length: info.length,
                byte_length: info.byte_length,
                contiguous_length: info.contiguous_length,
                fork: info.fork,
                writable: info.writable,
                open: true,
                peers: info.peers,
            }));
        }
        let Some(stored) = self.database().resume(discovery_key)? else { return Ok(None) };
        let view = stored.read_once();
        let records = view.records()?;
        let auth = records.auth.ok_or(StorageError::Corrupt {
            record: "core auth",
            reason: "it is missing; the core cannot be listed without its key".into(),
        })?;
        let prologue = auth.manifest.as_ref().and_then(|manifest| manifest.prologue);
        let head = match records.head {
            Some(head) => TreeHead::load(&view, head.fork, head.length, head.signature, prologue)?,
            None => TreeHead::empty(prologue),
        };
        Ok(Some(CoreSummary {
            key: auth.key,
            discovery_key: *discovery_key,
            length: head.length,
            byte_length: head.byte_length,
            contiguous_length: records.hints.contiguous_length,
            fork: head.fork,
            writable: auth.key_pair.is_some_and(|pair| pair.secret_key.is_some()),
            open: false,
            peers: 0,
        }))
    }
}
