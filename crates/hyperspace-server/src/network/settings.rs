//! What clients want of topics, carried out.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use hypercore::{DiscoveryKey, Hypercore};
use hyperspace_common::{RpcError, messages::NetworkStatus};
use hyperswarm::{JoinError, JoinOptions};
use tracing::debug;

use super::{Joined, MAX_TOPICS, Network, State, topics::Roles};
use crate::answer::{core_error, limit};

/// What one client says about topics. Taken back when it is dropped.
pub(crate) struct ClientTopics {
    network: Arc<Network>,
    client: u64,
}

/// What a client wants of a topic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) roles: Roles,
    /// Whether it is to outlast the client; absent: as before.
    pub(crate) remember: Option<bool>,
}

impl ClientTopics {
    pub(crate) fn new(network: Arc<Network>, client: u64) -> Self {
        Self { network, client }
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// Changes what the client wants of a topic. The future ends when nothing of a topic that was left is announced any
    /// more.
    pub(crate) fn configure(
        &self,
        topic: DiscoveryKey,
        setting: Setting,
    ) -> Result<BoxFuture<'static, ()>, RpcError> {
        let Setting { roles, remember } = setting;
        let (network, client) = (&*self.network, self.client);
        // What is stored and what is in memory change together.
        let _remembering = network.remembering();
        let full = || limit(format!("{MAX_TOPICS} topics are configured already; leave some"));
        let joining = !roles.is_none();
        if joining && network.lock().topics.is_full_for(&topic) {
            return Err(full());
        }
        let remember = match remember {
            _ if !joining => Some(false),
            remember => remember,
        };
        match remember {
            Some(true) => network.remembered.put(&topic, roles),
            Some(false) if network.lock().topics.remembered(&topic).is_some() => {
                network.remembered.remove(&topic)
            }
            _ => Ok(()),
        }
        .map_err(|error| core_error(&error))?;
        let mut state = network.lock();
        state.topics.say(client, topic, roles).map_err(|_| full())?;
        match remember {
            Some(true) => state.topics.remember(client, topic, roles).map_err(|_| full())?,
            Some(false) => state.topics.forget(&topic),
            None => {}
        }
        network.apply(&mut state, topic, joining).map_err(|error| limit(error.to_string()))
    }

    /// The client has opened a core: unless it says otherwise, others are to find it, and who else has it is looked for.
    pub(crate) fn opened(&self, core: &Hypercore) {
        let network = &*self.network;
        if network.side.is_none() {
            return;
        }
        let topic = core.discovery_key();
        let mut state = network.lock();
        if state.topics.open(self.client, topic).is_err() {
            network.say_full();
            return;
        }
        state.cores.insert(topic, core.weak());
        if let Err(error) = network.apply(&mut state, topic, false) {
            debug!(%topic, "a core is not in the swarm: {error}");
        }
    }
}

impl Drop for ClientTopics {
    fn drop(&mut self) {
        self.network.gone(self.client);
    }
}

impl Network {
    /// What is done for a topic, if anything.
    pub(crate) fn status(&self, topic: &DiscoveryKey) -> Option<NetworkStatus> {
        let state = self.lock();
        let roles = self.allowed(state.topics.roles(topic));
        (!roles.is_none()).then(|| status(topic, roles, state.topics.remembered(topic).is_some()))
    }

    /// What is remembered of a topic, whether something is done for it or not.
    pub(crate) fn remembered_status(&self, topic: &DiscoveryKey) -> Option<NetworkStatus> {
        Some(status(topic, self.lock().topics.remembered(topic)?, true))
    }

    /// What is done for all topics, in order.
    pub(crate) fn all_statuses(&self) -> Vec<NetworkStatus> {
        let state = self.lock();
        let mut all: Vec<_> = state
            .topics
            .keys()
            .filter_map(|topic| {
                let roles = self.allowed(state.topics.roles(topic));
                (!roles.is_none()).then(|| status(topic, roles, state.topics.remembered(topic).is_some()))
            })
            .collect();
        all.sort_unstable_by(|one, two| one.discovery_key.cmp(&two.discovery_key));
        all
    }

    /// Cores that nobody has open any more: nobody is looked for; the announcement stays, so that others find what was
    /// written here.
    pub(super) fn sweep(&self) {
        let mut state = self.lock();
        let closed = |(_, core): &(&DiscoveryKey, &hypercore::WeakHypercore)| core.upgrade().is_none();
        let closed: Vec<_> = state.cores.iter().filter(closed).map(|(topic, _)| *topic).collect();
        for topic in closed {
            state.cores.remove(&topic);
            state.topics.closed(&topic);
            self.apply_quietly(&mut state, topic);
        }
    }

    /// What an earlier run of the daemon was asked to remember. Only what is to be announced is joined again (npm
    /// `hyperspace` 3.19.0, `_rejoin`), and the swarm takes its time with that.
    pub(super) fn restore(&self) {
        let all = match self.remembered.all() {
            Ok(all) => all,
            Err(error) => {
                tracing::error!("what was remembered of topics cannot be read: {error}");
                return;
            }
        };
        for (topic, roles) in all {
            let mut state = self.lock();
            let active = self.announce && roles.announce;
            if state.topics.restore(topic, roles, active).is_err() {
                return self.say_full();
            }
            self.apply_quietly(&mut state, topic);
        }
    }

    fn gone(&self, client: u64) {
        let topics = self.lock().topics.gone(client);
        for topic in topics {
            // One by one: others are served in between.
            self.apply_quietly(&mut self.lock(), topic);
        }
    }

    fn apply_quietly(&self, state: &mut State, topic: DiscoveryKey) {
        if let Err(error) = self.apply(state, topic, false) {
            debug!(%topic, "the swarm does not do what is wanted of a topic: {error}");
        }
    }

    /// Makes the swarm do what is wanted of a topic; `again` asks for a round even if that has not changed. The future
    /// ends when a topic that was left is left.
    fn apply(
        &self,
        state: &mut State,
        topic: DiscoveryKey,
        again: bool,
    ) -> Result<BoxFuture<'static, ()>, JoinError> {
        let nothing = || futures::future::ready(()).boxed();
        let Some(side) = &self.side else { return Ok(nothing()) };
        let roles = self.allowed(state.topics.roles(&topic));
        let options = JoinOptions { server: roles.announce, client: roles.lookup, limit: None };
        match state.joined.get_mut(&topic) {
            None if roles.is_none() => {}
            Some(_) if roles.is_none() => {
                state.joined.remove(&topic);
                let left = side.swarm.leave(topic.as_bytes());
                return Ok(left.map(drop).boxed());
            }
            None => {
                let join = side.swarm.join(*topic.as_bytes(), options)?;
                state.joined.insert(topic, Joined { join, roles, round: None });
                state.joins = state.joins.wrapping_add(1);
            }
            Some(joined) if again || joined.roles != roles => {
                joined.join.refresh(options)?;
                joined.roles = roles;
                joined.round = None;
            }
            Some(_) => {}
        }
        Ok(nothing())
    }

    /// What of it this daemon does.
    fn allowed(&self, roles: Roles) -> Roles {
        Roles { announce: roles.announce && self.announce, ..roles }
    }
}

fn status(topic: &DiscoveryKey, roles: Roles, remember: bool) -> NetworkStatus {
    NetworkStatus {
        discovery_key: bytes::Bytes::copy_from_slice(topic.as_bytes()),
        announce: Some(roles.announce),
        lookup: Some(roles.lookup),
        remember: Some(remember),
    }
}
