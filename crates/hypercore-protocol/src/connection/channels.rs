//! The channels that this side has opened.

use std::collections::HashMap;

use bytes::Bytes;
use hypercore::{DiscoveryKey, Key};

use super::ChannelId;

/// What a channel is about.
#[derive(Debug)]
pub(super) enum Subject {
    Core { key: Key, discovery_key: DiscoveryKey },
    Protocol { name: String, id: Option<Bytes>, handshake: Option<Bytes> },
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Phase {
    /// The encrypted stream does not stand yet.
    Waiting,
    /// The remote has not opened it yet.
    Opening(protomux::ChannelId),
    /// Both sides have opened it.
    Open(protomux::ChannelId),
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) subject: Subject,
    pub(super) phase: Phase,
    pub(super) last_extension_sent: Option<Box<str>>,
    pub(super) last_extension_received: Option<Box<str>>,
}

impl Slot {
    pub(super) fn core(key: Key, discovery_key: DiscoveryKey) -> Self {
        Self::new(Subject::Core { key, discovery_key })
    }

    pub(super) fn protocol(name: String, id: Option<Bytes>, handshake: Option<Bytes>) -> Self {
        Self::new(Subject::Protocol { name, id, handshake })
    }

    fn new(subject: Subject) -> Self {
        Self { subject, phase: Phase::Waiting, last_extension_sent: None, last_extension_received: None }
    }
}

/// A slab with generations, so that a [`ChannelId`] never comes to mean another channel.
#[derive(Debug, Default)]
pub(super) struct Channels {
    entries: Vec<Entry>,
    free: Vec<u32>,
    by_mux: HashMap<protomux::ChannelId, ChannelId>,
    by_discovery_key: HashMap<DiscoveryKey, ChannelId>,
    /// Neighbouring messages mostly belong to one channel.
    last: Option<(protomux::ChannelId, ChannelId)>,
}

#[derive(Debug, Default)]
struct Entry {
    generation: u32,
    slot: Option<Slot>,
}

impl Channels {
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, slot: Slot) -> ChannelId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry::default());
            // The caller bounds the number of channels far below this.
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        });
        let entry = &mut self.entries[index as usize];
        let channel = ChannelId { index, generation: entry.generation };
        if let Subject::Core { discovery_key, .. } = slot.subject {
            self.by_discovery_key.insert(discovery_key, channel);
        }
        entry.slot = Some(slot);
        channel
    }

    pub(super) fn remove(&mut self, channel: ChannelId) -> Option<Slot> {
        let entry = self.entries.get_mut(channel.index as usize)?;
        if entry.generation != channel.generation {
            return None;
        }
        let slot = entry.slot.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(channel.index);
        if let Subject::Core { discovery_key, .. } = slot.subject {
            self.by_discovery_key.remove(&discovery_key);
        }
        if let Phase::Opening(mux) | Phase::Open(mux) = slot.phase {
            self.by_mux.remove(&mux);
            self.last = None;
        }
        Some(slot)
    }

    pub(super) fn get(&self, channel: ChannelId) -> Option<&Slot> {
        let entry = self.entries.get(channel.index as usize)?;
        if entry.generation == channel.generation { entry.slot.as_ref() } else { None }
    }

    pub(super) fn get_mut(&mut self, channel: ChannelId) -> Option<&mut Slot> {
        let entry = self.entries.get_mut(channel.index as usize)?;
        if entry.generation == channel.generation { entry.slot.as_mut() } else { None }
    }

    pub(super) fn set_opening(&mut self, channel: ChannelId, mux: protomux::ChannelId) {
        if let Some(slot) = self.get_mut(channel) {
            slot.phase = Phase::Opening(mux);
            self.by_mux.insert(mux, channel);
        }
    }

    pub(super) fn by_mux(&mut self, mux: protomux::ChannelId) -> Option<ChannelId> {
        if let Some((last, channel)) = self.last
            && last == mux
        {
            return Some(channel);
        }
        let channel = *self.by_mux.get(&mux)?;
        self.last = Some((mux, channel));
        Some(channel)
    }

    pub(super) fn by_discovery_key(&self, discovery_key: &DiscoveryKey) -> Option<ChannelId> {
        self.by_discovery_key.get(discovery_key).copied()
    }

    /// Channels that were opened before the encrypted stream stood, oldest first.
    pub(super) fn waiting(&self) -> Vec<ChannelId> {
        let waits =
            |entry: &Entry| entry.slot.as_ref().is_some_and(|slot| matches!(slot.phase, Phase::Waiting));
        let ids = (0u32..).zip(&self.entries);
        ids.filter(|(_, entry)| waits(entry))
            .map(|(index, entry)| ChannelId { index, generation: entry.generation })
            .collect()
    }
}
