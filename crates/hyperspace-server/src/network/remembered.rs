//! The settings of topics that survive the daemon, in the store.
//!
//! They are user data of a core of the daemon's own, which stays empty: a value for each topic, named
//! `network/<topic in hex>`, that is npm `hyperspace` 3.19.0's record of it (a `NetworkStatus`, which that keeps in a
//! hypertrie). So each is written for itself, in one commit that a killed daemon does not lose, and the store stays one
//! that the npm packages open.

use std::ops::ControlFlow;

use bytes::Bytes;
use corestore::{Corestore, Query};
use hypercore::{DiscoveryKey, Error, Manifest, storage::StorageError};
use hyperspace_common::{Message, decode, messages::NetworkStatus};
use tracing::warn;

use super::topics::Roles;
use crate::server::OWN_NAMESPACE;

/// The core's name in the daemon's namespace.
const NAME: &str = "network";
/// What the names of the values begin with.
const PREFIX: &str = "network/";

/// The settings that are stored.
#[derive(Debug)]
pub(crate) struct Remembered {
    store: Corestore,
    core: DiscoveryKey,
}

impl Remembered {
    pub(crate) fn new(store: &Corestore) -> Self {
        Self { store: store.clone(), core: own_core(store) }
    }

    /// All of them.
    pub(crate) fn all(&self) -> Result<Vec<(DiscoveryKey, Roles)>, StorageError> {
        let mut all = Vec::new();
        let Some(core) = self.store.database().resume(&self.core)? else { return Ok(all) };
        core.read().all_user_data(&mut |name, value| {
            if name.starts_with(PREFIX) {
                match parse(value) {
                    Some(record) => all.push(record),
                    None => warn!(name, "what was remembered of a topic is damaged, and left alone"),
                }
            }
            ControlFlow::Continue(())
        })?;
        Ok(all)
    }

    /// Stores a setting.
    pub(crate) fn put(&self, topic: &DiscoveryKey, roles: Roles) -> Result<(), Error> {
        if !self.store.has(&self.core)? {
            // Made, and let go of: nobody uses it as a log.
            drop(self.store.namespace(OWN_NAMESPACE).get(Query::name(NAME))?);
        }
        let status = NetworkStatus {
            discovery_key: Bytes::copy_from_slice(topic.as_bytes()),
            announce: Some(roles.announce),
            lookup: Some(roles.lookup),
            remember: Some(true),
        };
        self.change(topic, Some(&status.encode_to_vec()))
    }

    /// Removes a setting, if there is one.
    pub(crate) fn remove(&self, topic: &DiscoveryKey) -> Result<(), Error> {
        self.change(topic, None)
    }

    fn change(&self, topic: &DiscoveryKey, value: Option<&[u8]>) -> Result<(), Error> {
        let Some(core) = self.store.database().resume(&self.core)? else { return Ok(()) };
        let name = format!("{PREFIX}{topic}");
        let mut batch = core.batch();
        match value {
            Some(value) => batch.put_user_data(&name, value),
            None => batch.delete_user_data(&name),
        }
        Ok(core.commit(&batch)?)
    }
}

/// The core that holds the settings, whether it was made yet or not.
pub(crate) fn own_core(store: &Corestore) -> DiscoveryKey {
    let pair = store.namespace(OWN_NAMESPACE).key_pair(NAME);
    Manifest::default_signer(pair.public()).key().discovery_key()
}

fn parse(value: &[u8]) -> Option<(DiscoveryKey, Roles)> {
    let status: NetworkStatus = decode(value).ok()?;
    let topic = DiscoveryKey::try_from(&*status.discovery_key).ok()?;
    Some((topic, Roles { announce: status.announce(), lookup: status.lookup() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_there_again_and_leave_no_open_core() {
        let store = Corestore::memory();
        let remembered = Remembered::new(&store);
        let (one, two) = (DiscoveryKey::from([1; 32]), DiscoveryKey::from([2; 32]));
        remembered.remove(&one).unwrap();
        assert!(remembered.all().unwrap().is_empty() && store.list().next().is_none());
        let lookup = Roles { announce: false, lookup: true };
        remembered.put(&one, Roles::BOTH).unwrap();
        remembered.put(&two, lookup).unwrap();
        remembered.put(&one, lookup).unwrap();
        assert_eq!(store.loaded_count(), 0);
        let again = Remembered::new(&store);
        assert_eq!(again.all().unwrap(), [(one, lookup), (two, lookup)]);
        again.remove(&one).unwrap();
        assert_eq!(remembered.all().unwrap(), [(two, lookup)]);
        assert_eq!(store.list().next().unwrap().unwrap(), own_core(&store));
    }

    #[test]
    fn damaged_records_are_passed_over() {
        let store = Corestore::memory();
        let remembered = Remembered::new(&store);
        remembered.put(&DiscoveryKey::from([1; 32]), Roles::BOTH).unwrap();
        remembered.change(&DiscoveryKey::from([0; 32]), Some(b"what?")).unwrap();
        assert_eq!(remembered.all().unwrap().len(), 1);
    }
}
