//! What the daemon does in the swarm, from the side of one client.

use bytes::Bytes;
use futures::FutureExt;
use hypercore::DiscoveryKey;
use hyperspace_common::{Header, RpcError, RpcErrorExt, messages::*, text};

use super::{Done, Gone, Rpc};
use crate::{
    mailbox::wire_peer,
    network::{Roles, Setting},
    session_table::WaitKind,
    waits,
};

/// npm `hyperspace` 3.19.0, `lib/sessions/network.js`.
const INVALID_COPY: &str = "Must copy from a valid discovery key.";

impl Rpc {
    pub(super) fn network_open(&mut self, call: Header) {
        // From the peers in the answer on, every change is told.
        let peers = self.server.peers().peers_and(|| self.mailbox.open_network());
        let response = OpenNetworkResponse {
            public_key: Bytes::copy_from_slice(&self.server.peers().public_key()),
            peers: peers.iter().map(|peer| wire_peer(peer)).collect(),
        };
        self.outbox.response(call, &response);
    }

    pub(super) fn configure(&mut self, call: Header, request: ConfigureNetworkRequest) -> Result<(), Gone> {
        if let Err(error) = self.try_configure(call, &request) {
            self.outbox.error(call, &error);
        }
        Ok(())
    }

    fn try_configure(&mut self, call: Header, request: &ConfigureNetworkRequest) -> Result<(), RpcError> {
        let wanted = &request.configuration;
        let topic = parse_topic(&wanted.discovery_key, text::INVALID_DISCOVERY_KEY)?;
        let copy_from =
            request.copy_from.as_deref().map(|topic| parse_topic(topic, INVALID_COPY)).transpose()?;
        let network = self.topics.network();
        if !request.overwrite()
            && let Some(status) = network.status(&topic).or_else(|| network.remembered_status(&topic))
        {
            self.outbox.response(call, &NetworkStatusResponse { status: Some(status) });
            return Ok(());
        }
        let copied = copy_from.and_then(|topic| network.status(&topic));
        let copied = |field: fn(&NetworkStatus) -> Option<bool>| copied.as_ref().and_then(field);
        let announce = wanted.announce.or_else(|| copied(|status| status.announce));
        let lookup = wanted.lookup.or_else(|| copied(|status| status.lookup));
        let remember = wanted.remember.or_else(|| copied(|status| status.remember));
        let roles = Roles { announce: announce.unwrap_or(false), lookup: lookup.unwrap_or(false) };
        let left = self.topics.configure(topic, Setting { roles, remember })?;
        if request.flush() {
            let settled = waits::settled(self.server.discovery(), topic);
            let work = async move {
                left.await;
                if !roles.is_none() {
                    settled.await;
                }
                Ok(Done::Status(topic))
            };
            self.wait(call, WaitKind::Configure, None, None, work.boxed());
        } else {
            self.answer_status(call, &topic);
        }
        Ok(())
    }

    pub(super) fn answer_status(&mut self, call: Header, topic: &DiscoveryKey) {
        let status = self.topics.network().status(topic);
        self.outbox.response(call, &NetworkStatusResponse { status });
    }

    pub(super) fn network_status(&mut self, call: Header, request: NetworkStatusRequest) -> Result<(), Gone> {
        match DiscoveryKey::try_from(&*request.discovery_key) {
            Ok(topic) => self.answer_status(call, &topic),
            // Nothing is done for what is no topic (npm `hyperspace` 3.19.0 does not mind).
            Err(_) => self.outbox.response(call, &NetworkStatusResponse::default()),
        }
        Ok(())
    }

    pub(super) fn all_statuses(&mut self, call: Header) {
        let statuses = self.topics.network().all_statuses();
        self.outbox.response(call, &AllNetworkStatusesResponse { statuses });
    }
}

fn parse_topic(bytes: &[u8], otherwise: &str) -> Result<DiscoveryKey, RpcError> {
    DiscoveryKey::try_from(bytes).map_err(|_| RpcError::sentence(otherwise))
}
