//! The channels of one connection.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use hypercore::DiscoveryKey;
use hypercore::session::PeerTicket;
use hypercore_protocol::{ChannelId, Message};
use hypercore_replicator::PeerId;

use super::core::ReplicatedCore;

/// Cores that the remote lied about, remembered so that they are not opened again on this connection.
const MAX_BANNED: usize = 256;

/// A core's channel on this connection.
pub(super) struct Channel {
    pub(super) core: Arc<ReplicatedCore>,
    pub(super) peer: PeerId,
    /// Set while both sides have it open: shows the peer to the core's users.
    pub(super) ticket: Option<PeerTicket>,
    pub(super) open: bool,
    /// What has arrived and was not taken over yet.
    arrived: Vec<Message>,
    /// It stands in the queue of those that have something to send.
    queued: bool,
}

impl Channel {
    pub(super) fn new(core: Arc<ReplicatedCore>, peer: PeerId) -> Self {
        Self { core, peer, ticket: None, open: false, arrived: Vec::new(), queued: false }
    }
}

#[derive(Default)]
pub(super) struct Channels {
    by_id: HashMap<ChannelId, Channel>,
    by_peer: HashMap<PeerId, ChannelId>,
    /// Who has messages that arrived, in the order of their first ones.
    arrived: VecDeque<ChannelId>,
    /// How many messages they have.
    waiting: usize,
    /// Who has something to send, in the order of their turns.
    sending: VecDeque<ChannelId>,
    banned: HashSet<DiscoveryKey>,
}

impl Channels {
    pub(super) fn insert(&mut self, id: ChannelId, channel: Channel) {
        self.by_peer.insert(channel.peer, id);
        self.by_id.insert(id, channel);
    }

    pub(super) fn remove(&mut self, id: ChannelId) -> Option<Channel> {
        let channel = self.by_id.remove(&id)?;
        self.by_peer.remove(&channel.peer);
        self.waiting -= channel.arrived.len();
        Some(channel)
    }

    pub(super) fn get(&self, id: ChannelId) -> Option<&Channel> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ChannelId) -> Option<&mut Channel> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn by_peer(&self, peer: PeerId) -> Option<ChannelId> {
        self.by_peer.get(&peer).copied()
    }

    pub(super) fn ids(&self) -> Vec<ChannelId> {
        self.by_id.keys().copied().collect()
    }

    /// A message for the channel has arrived.
    pub(super) fn arrived(&mut self, id: ChannelId, message: Message) {
        if let Some(channel) = self.by_id.get_mut(&id) {
            if channel.arrived.is_empty() {
                self.arrived.push_back(id);
            }
            channel.arrived.push(message);
            self.waiting += 1;
        }
    }

    /// Takes over what has arrived for a channel.
    pub(super) fn take_arrived(&mut self, id: ChannelId) -> Vec<Message> {
        let arrived = self.by_id.get_mut(&id).map(|channel| std::mem::take(&mut channel.arrived));
        let arrived = arrived.unwrap_or_default();
        self.waiting -= arrived.len();
        arrived
    }

    /// How many messages have arrived and were not taken over yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The next channel that has messages.
    pub(super) fn next_arrived(&mut self) -> Option<ChannelId> {
        self.arrived.pop_front()
    }

    pub(super) fn has_arrived(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// The channel may have something to send.
    pub(super) fn queue(&mut self, id: ChannelId) {
        if let Some(channel) = self.by_id.get_mut(&id)
            && !std::mem::replace(&mut channel.queued, true)
        {
            self.sending.push_back(id);
        }
    }

    /// Whose turn it is to send.
    pub(super) fn next_sender(&mut self) -> Option<ChannelId> {
        while let Some(id) = self.sending.pop_front() {
            if let Some(channel) = self.by_id.get_mut(&id) {
                channel.queued = false;
                return Some(id);
            }
        }
        None
    }

    pub(super) fn has_senders(&self) -> bool {
        !self.sending.is_empty()
    }

    /// False when the remote has lied about more cores than are remembered.
    pub(super) fn ban(&mut self, discovery_key: DiscoveryKey) -> bool {
        self.banned.insert(discovery_key);
        self.banned.len() <= MAX_BANNED
    }

    pub(super) fn is_banned(&self, discovery_key: &DiscoveryKey) -> bool {
        self.banned.contains(discovery_key)
    }
}
