//! What a client wants of the network: kept, so that it can be told again after a reconnect.

use std::{
    collections::{BTreeMap, HashSet},
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

/// Wishes that are told at the same time.
const AT_ONCE: usize = 256;
/// Topics that were left last, and are kept whether that means anything or not: their cores may just be opened.
const LEFT_LAST: usize = 1024;

/// The settings that this client has made, by topic. There is no bound: what is wanted is up to the program and to the
/// daemon, and what is wanted no more is dropped.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    by_topic: BTreeMap<DiscoveryKey, Said>,
    /// How many were sent.
    turns: u64,
    /// The latest that was answered. Calls are taken in order, so the daemon has heard all before it.
    heard: u64,
    /// From so many topics on it is looked which of them are still of interest.
    tidy_at: usize,
}

/// What was said of a topic. The later wish of two has the higher turn, whatever order the answers come in.
#[derive(Debug, Default)]
struct Said {
    /// What the daemon has taken, or was told by somebody who did not wait for the answer.
    holds: Option<(u64, ConfigureOptions)>,
    /// Sent, and their answers are waited for.
    under_way: BTreeMap<u64, ConfigureOptions>,
}

/// A wish on its way to the daemon and back. If nobody waits for its answer any more, it counts as taken: the daemon
/// hears it all the same.
#[derive(Debug)]
pub(crate) struct Saying<'a> {
    wishes: &'a Wishes,
    topic: DiscoveryKey,
    options: ConfigureOptions,
    /// Once it was sent.
    turn: Option<u64>,
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
    /// A wish that is to be sent.
    pub(crate) fn saying(&self, topic: DiscoveryKey, options: ConfigureOptions) -> Saying<'_> {
        // Nobody waits for a flush when it is told again.
        Saying { wishes: self, topic, options: ConfigureOptions { flush: false, ..options }, turn: None }
    }

    /// Tells another daemon all of them.
    pub(crate) async fn restore(&self, connection: &Connection) -> Result<(), ClientError> {
        let wishes: Vec<_> =
            self.lock().by_topic.iter().map(|(topic, said)| (*topic, said.in_order())).collect();
        let mut told = stream::iter(wishes)
            .map(|(topic, wishes)| async move {
                for options in wishes {
                    let request = request(&topic, &options);
                    let told =
                        connection.call::<_, NetworkStatusResponse>(Method::NetworkConfigure, &request);
                    match told.await {
                        // The daemon may have other bounds now, or stay out of the network.
                        Ok(_) | Err(ClientError::Rpc(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            })
            .buffer_unordered(AT_ONCE);
        while let Some(told) = told.next().await {
            told?;
        }
        Ok(())
    }

    /// Drops what means nothing any more, when there is much: a connection begins without wishes, so that a topic needs to
    /// be left again only if its core is opened again, which has the daemon look for it.
    pub(crate) fn tidy(&self, open: impl FnOnce() -> HashSet<DiscoveryKey>) {
        if !self.lock().is_untidy() {
            return;
        }
        let open = open();
        let mut state = self.lock();
        let heard = state.heard;
        let is_over = |(topic, said): (&DiscoveryKey, &Said)| {
            let turn = said.left().filter(|turn| *turn <= heard)?;
            (!open.contains(topic)).then_some((turn, *topic))
        };
        let mut over: Vec<_> = state.by_topic.iter().filter_map(is_over).collect();
        over.sort_unstable();
        for (_, topic) in over.iter().rev().skip(LEFT_LAST) {
            state.by_topic.remove(topic);
        }
        // Twice as many until the next time, so that this costs little for each.
        state.tidy_at = 2 * state.by_topic.len();
    }

    pub(crate) fn clear(&self) {
        self.lock().by_topic.clear();
    }

    /// A wish is not waited for any more. `None`: it has changed nothing.
    fn settle(&self, topic: &DiscoveryKey, turn: u64, is_answered: bool, wish: Option<ConfigureOptions>) {
        let mut state = self.lock();
        if is_answered {
            state.heard = state.heard.max(turn);
        }
        let Some(said) = state.by_topic.get_mut(topic) else { return };
        if said.under_way.remove(&turn).is_none() {
            return;
        }
        if let Some(options) = wish
            && said.holds.is_none_or(|(latest, _)| latest < turn)
        {
            said.holds = Some((turn, options));
        }
        if said.holds.is_none() && said.under_way.is_empty() {
            state.by_topic.remove(topic);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_untidy(&self) -> bool {
        self.by_topic.len() >= self.tidy_at.max(2 * LEFT_LAST)
    }
}

impl Said {
    /// What is to be told: each may be refused, or give way to what was said before it.
    fn in_order(&self) -> Vec<ConfigureOptions> {
        let holds = self.holds.map(|(turn, _)| turn).unwrap_or_default();
        let later = self.under_way.range(holds..).map(|(_, options)| *options);
        self.holds.map(|(_, options)| options).into_iter().chain(later).collect()
    }

    /// When the topic was left, if that was the last word.
    fn left(&self) -> Option<u64> {
        let (turn, options) = self.holds?;
        (self.under_way.is_empty() && wants_nothing(&options)).then_some(turn)
    }
}

impl Saying<'_> {
    /// It is sent now: for the first time, or again over another connection.
    pub(crate) fn sent(&mut self) {
        let mut state = self.wishes.lock();
        state.turns += 1;
        let turn = state.turns;
        let said = state.by_topic.entry(self.topic).or_default();
        if let Some(earlier) = self.turn.replace(turn) {
            said.under_way.remove(&earlier);
        }
        said.under_way.insert(turn, self.options);
    }

    /// The daemon has refused it.
    pub(crate) fn refused(mut self) {
        if let Some(turn) = self.turn.take() {
            self.wishes.settle(&self.topic, turn, true, None);
        }
    }

    /// The daemon has taken it, and says what holds now.
    pub(crate) fn answered(mut self, status: Option<&NetworkStatus>) {
        let Some(turn) = self.turn.take() else { return };
        let is = |field: fn(&NetworkStatus) -> Option<bool>| status.and_then(field).unwrap_or(false);
        let (announced, looked_up) = (is(|status| status.announce), is(|status| status.lookup));
        let options = self.options;
        // What was copied is said outright the next time: nobody knows what there will be to copy from.
        let copied = |said: Option<bool>, copy: bool| said.or(options.copy_from.map(|_| copy));
        let options = ConfigureOptions {
            announce: copied(options.announce, announced),
            lookup: copied(options.lookup, looked_up),
            remember: copied(options.remember, is(|status| status.remember)),
            copy_from: None,
            ..options
        };
        let asked = (options.announce.unwrap_or(false), options.lookup.unwrap_or(false));
        // If not, there was another setting, which stayed.
        let counts = options.overwrite || asked == (announced, looked_up);
        self.wishes.settle(&self.topic, turn, true, counts.then_some(options));
    }
}

impl Drop for Saying<'_> {
    fn drop(&mut self) {
        let Some(turn) = self.turn.take() else { return };
        let stays = {
            let state = self.wishes.lock();
            let holds = state.by_topic.get(&self.topic).and_then(|said| said.holds);
            holds.is_some_and(|(_, options)| !wants_nothing(&options))
        };
        // It gave way to what this client had said before.
        let counts = self.options.overwrite || !stays;
        self.wishes.settle(&self.topic, turn, false, counts.then_some(self.options));
    }
}

fn wants_nothing(options: &ConfigureOptions) -> bool {
    options.copy_from.is_none() && ![options.announce, options.lookup].contains(&Some(true))
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

    fn sent(wishes: &Wishes, options: ConfigureOptions) -> Saying<'_> {
        let mut saying = wishes.saying(topic(), options);
        saying.sent();
        saying
    }

    /// What would be told again.
    fn kept(wishes: &Wishes) -> Vec<ConfigureOptions> {
        wishes.lock().by_topic.values().flat_map(Said::in_order).collect()
    }

    #[test]
    fn the_later_wish_holds_whichever_answer_comes_first() {
        let wishes = Wishes::default();
        let join = sent(&wishes, ConfigureOptions::JOIN.flushed());
        let leave = sent(&wishes, ConfigureOptions::LEAVE);
        assert_eq!(kept(&wishes), [ConfigureOptions::JOIN, ConfigureOptions::LEAVE]);
        leave.answered(None);
        assert_eq!(kept(&wishes), [ConfigureOptions::LEAVE]);
        join.answered(Some(&status(true, true)));
        assert_eq!(kept(&wishes), [ConfigureOptions::LEAVE]);
        sent(&wishes, ConfigureOptions::JOIN.flushed()).answered(Some(&status(true, true)));
        assert_eq!(kept(&wishes), [ConfigureOptions::JOIN], "nobody waits for a flush when it is told again");
    }

    #[test]
    fn a_refused_wish_leaves_what_was_before() {
        let wishes = Wishes::default();
        sent(&wishes, ConfigureOptions::JOIN).refused();
        assert!(wishes.lock().by_topic.is_empty());
        let join = sent(&wishes, ConfigureOptions::JOIN);
        let announce = sent(&wishes, ConfigureOptions::ANNOUNCE);
        let leave = sent(&wishes, ConfigureOptions::LEAVE);
        announce.refused();
        join.answered(Some(&status(true, true)));
        assert_eq!(kept(&wishes), [ConfigureOptions::JOIN, ConfigureOptions::LEAVE]);
        leave.refused();
        assert_eq!(kept(&wishes), [ConfigureOptions::JOIN]);
    }

    #[test]
    fn a_wish_counts_once_it_was_sent_though_nobody_waits_for_the_answer() {
        let wishes = Wishes::default();
        drop(wishes.saying(topic(), ConfigureOptions::JOIN));
        assert_eq!(kept(&wishes), []);
        for _ in 0..3 {
            drop(sent(&wishes, ConfigureOptions::JOIN.flushed()));
            assert_eq!(kept(&wishes), [ConfigureOptions::JOIN]);
        }
        let modest = ConfigureOptions { overwrite: false, ..ConfigureOptions::LOOKUP };
        drop(sent(&wishes, modest));
        assert_eq!(kept(&wishes), [ConfigureOptions::JOIN], "it gave way");
        drop(sent(&wishes, ConfigureOptions::LEAVE));
        drop(sent(&wishes, modest));
        assert_eq!(kept(&wishes), [modest]);
    }

    #[test]
    fn what_is_sent_again_is_the_latest() {
        let wishes = Wishes::default();
        let mut join = sent(&wishes, ConfigureOptions::JOIN);
        let mut leave = sent(&wishes, ConfigureOptions::LEAVE);
        leave.sent();
        join.sent();
        assert_eq!(kept(&wishes), [ConfigureOptions::LEAVE, ConfigureOptions::JOIN]);
        join.answered(Some(&status(true, true)));
        leave.answered(Some(&status(true, true)));
        assert_eq!(kept(&wishes), [ConfigureOptions::JOIN]);
    }

    #[test]
    fn what_was_copied_is_said_outright() {
        let wishes = Wishes::default();
        let copy = ConfigureOptions {
            lookup: Some(false),
            copy_from: Some(DiscoveryKey::from([2; 32])),
            ..ConfigureOptions::default()
        };
        sent(&wishes, copy).answered(Some(&status(true, false)));
        let kept = kept(&wishes)[0];
        assert_eq!((kept.announce, kept.lookup, kept.copy_from), (Some(true), Some(false), None));
    }

    #[test]
    fn a_wish_that_gave_way_to_another_setting_is_not_kept() {
        let wishes = Wishes::default();
        let modest = ConfigureOptions { overwrite: false, ..ConfigureOptions::LOOKUP };
        sent(&wishes, modest).answered(Some(&status(true, true)));
        assert_eq!(kept(&wishes), []);
        sent(&wishes, modest).answered(Some(&status(false, true)));
        assert_eq!(kept(&wishes), [modest]);
    }

    #[test]
    fn of_what_was_left_only_what_may_mean_something_is_kept() {
        let numbered = |number: u32| {
            let mut topic = [0; 32];
            topic[..4].copy_from_slice(&number.to_be_bytes());
            DiscoveryKey::from(topic)
        };
        let wishes = Wishes::default();
        let say = |number: u32, options| {
            let mut saying = wishes.saying(numbered(number), options);
            saying.sent();
            saying
        };
        let many = 4 * LEFT_LAST as u32;
        for number in 0..many {
            say(number, ConfigureOptions::JOIN).answered(Some(&status(true, true)));
        }
        for number in 10..many {
            say(number, ConfigureOptions::LEAVE).answered(None);
        }
        // The daemon may not have heard of this one.
        drop(say(20, ConfigureOptions::LEAVE));
        let waited_for = say(30, ConfigureOptions::LEAVE);
        let open = || HashSet::from([numbered(40), numbered(many + 1)]);
        wishes.tidy(open);
        let kept = |number: u32| wishes.lock().by_topic.contains_key(&numbered(number));
        assert!((0..10).all(kept), "they are wanted");
        assert!(kept(20) && kept(30) && kept(40));
        assert!((many - LEFT_LAST as u32..many).all(kept), "they were left just now");
        assert_eq!(wishes.lock().by_topic.len(), 10 + 3 + LEFT_LAST);

        // Not again before there is as much again.
        waited_for.answered(None);
        wishes.tidy(|| unreachable!("it would be looked at each time"));
        for number in many..2 * many {
            say(number, ConfigureOptions::LEAVE).answered(None);
        }
        wishes.tidy(open);
        assert!(kept(40) && kept(many + 1));
        assert!(!kept(20) && !kept(30), "the daemon has answered later ones");
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
