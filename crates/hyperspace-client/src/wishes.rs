//! What a client wants of the network: kept, so that it can be told again after a reconnect.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use hypercore::DiscoveryKey;
use hyperspace_common::{
    Method,
    messages::{ConfigureNetworkRequest, NetworkStatus, NetworkStatusResponse},
};

use crate::{connection::Connection, error::ClientError, networker::ConfigureOptions};

/// Topics whose settings are kept, as many as the daemon takes. Those beyond have to be made again by the program.
const MAX_WISHES: usize = 65_536;
/// Wishes that are told at the same time.
const AT_ONCE: usize = 256;

/// The settings that this client has made, by topic.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    by_topic: Mutex<BTreeMap<DiscoveryKey, Wish>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wish {
    /// The later of two has the higher one, whatever order the answers come in.
    turn: u64,
    options: ConfigureOptions,
}

/// The request that says this.
pub(crate) fn request(topic: &DiscoveryKey, options: &ConfigureOptions) -> ConfigureNetworkRequest {
    let bytes = |topic: &DiscoveryKey| Bytes::copy_from_slice(topic.as_bytes());
    ConfigureNetworkRequest {
        configuration: NetworkStatus {
            discovery_key: bytes(topic),
            announce: options.announce,
            lookup: options.lookup,
            remember: options.remember,
        },
        flush: options.flush.then_some(true),
        copy_from: options.copy_from.as_ref().map(bytes),
        // Only what differs from the schema's default is sent.
        overwrite: (!options.overwrite).then_some(false),
    }
}

impl Wishes {
    /// The daemon has taken a setting, and says what holds now.
    pub(crate) fn taken(
        &self,
        topic: DiscoveryKey,
        turn: u64,
        options: ConfigureOptions,
        status: Option<&NetworkStatus>,
    ) {
        let is = |field: fn(&NetworkStatus) -> Option<bool>| status.and_then(field).unwrap_or(false);
        let (announced, looked_up) = (is(|status| status.announce), is(|status| status.lookup));
        // What was copied is said outright the next time: nobody knows what there will be to copy from.
        let copied = |said: Option<bool>, copy: bool| said.or(options.copy_from.map(|_| copy));
        let options = ConfigureOptions {
            announce: copied(options.announce, announced),
            lookup: copied(options.lookup, looked_up),
            remember: copied(options.remember, is(|status| status.remember)),
            flush: false,
            copy_from: None,
            overwrite: options.overwrite,
        };
        let asked = (options.announce.unwrap_or(false), options.lookup.unwrap_or(false));
        if !options.overwrite && asked != (announced, looked_up) {
            // There was another setting, which stayed.
            return;
        }
        let mut wishes = self.lock();
        let is_newer = wishes.get(&topic).is_none_or(|wish| wish.turn < turn);
        if is_newer && (wishes.len() < MAX_WISHES || wishes.contains_key(&topic)) {
            wishes.insert(topic, Wish { turn, options });
        }
    }

    /// Tells another daemon all of them.
    pub(crate) async fn restore(&self, connection: &Connection) -> Result<(), ClientError> {
        let wishes: Vec<(DiscoveryKey, Wish)> =
            self.lock().iter().map(|(topic, wish)| (*topic, *wish)).collect();
        let mut told = stream::iter(wishes)
            .map(|(topic, wish)| async move {
                let request = request(&topic, &wish.options);
                connection
                    .call::<_, NetworkStatusResponse>(Method::NetworkConfigure, &request)
                    .await
                    .map(|_| ())
            })
            .buffer_unordered(AT_ONCE);
        while let Some(told) = told.next().await {
            match told {
                // The daemon may have other bounds now, or stay out of the network.
                Ok(()) | Err(ClientError::Rpc(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DiscoveryKey, Wish>> {
        self.by_topic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> DiscoveryKey {
        DiscoveryKey::from([1; 32])
    }

    fn status(announce: bool, lookup: bool) -> NetworkStatus {
        NetworkStatus {
            discovery_key: Bytes::from(vec![1; 32]),
            announce: Some(announce),
            lookup: Some(lookup),
            remember: Some(false),
        }
    }

    fn kept(wishes: &Wishes) -> Vec<ConfigureOptions> {
        wishes.lock().values().map(|wish| wish.options).collect()
    }

    #[test]
    fn the_later_wish_holds_whichever_answer_comes_first() {
        let wishes = Wishes::default();
        wishes.taken(topic(), 2, ConfigureOptions::LEAVE, None);
        wishes.taken(topic(), 1, ConfigureOptions::JOIN.flushed(), Some(&status(true, true)));
        assert_eq!(kept(&wishes), [ConfigureOptions::LEAVE]);
        wishes.taken(topic(), 3, ConfigureOptions::JOIN.flushed(), Some(&status(true, true)));
        assert_eq!(kept(&wishes), [ConfigureOptions::JOIN], "nobody waits for a flush when it is told again");
    }

    #[test]
    fn what_was_copied_is_said_outright() {
        let wishes = Wishes::default();
        let copy = ConfigureOptions {
            lookup: Some(false),
            copy_from: Some(DiscoveryKey::from([2; 32])),
            ..ConfigureOptions::default()
        };
        wishes.taken(topic(), 1, copy, Some(&status(true, false)));
        let kept = kept(&wishes)[0];
        assert_eq!((kept.announce, kept.lookup, kept.copy_from), (Some(true), Some(false), None));
    }

    #[test]
    fn a_wish_that_gave_way_to_another_setting_is_not_kept() {
        let wishes = Wishes::default();
        let modest = ConfigureOptions { overwrite: false, ..ConfigureOptions::LOOKUP };
        wishes.taken(topic(), 1, modest, Some(&status(true, true)));
        assert_eq!(kept(&wishes), []);
        wishes.taken(topic(), 2, modest, Some(&status(false, true)));
        assert_eq!(kept(&wishes), [modest]);
    }

    #[test]
    fn only_what_differs_from_the_defaults_is_sent() {
        let plain = request(&topic(), &ConfigureOptions::JOIN);
        assert_eq!((plain.flush, plain.overwrite, &plain.copy_from), (None, None, &None));
        assert!(plain.overwrite());
        let modest = ConfigureOptions { overwrite: false, ..ConfigureOptions::JOIN.flushed().remembered() };
        let said = request(&topic(), &modest);
        assert_eq!(
            (said.flush, said.overwrite, said.configuration.remember),
            (Some(true), Some(false), Some(true))
        );
    }
}
