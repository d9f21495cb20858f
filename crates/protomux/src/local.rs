//! The channels of this side, by the ids they have on the wire.

use crate::ChannelId;
use crate::topics::TopicId;

/// What became of a channel of this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Opened here, not answered by the remote.
    Waiting,
    /// Open on both sides; the index of the remote's channel.
    Bound(u32),
    /// Closed here before the remote answered. The id must not be used again until it does.
    Abandoned,
    /// Closed or rejected by the remote; kept until the owner was told.
    RemoteClosed {
        /// The owner has closed it too and wants no more of its events.
        muted: bool,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct Channel {
    pub(crate) topic: TopicId,
    pub(crate) state: State,
    pub(crate) messages: u32,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    channel: Option<Channel>,
}

#[derive(Debug, Default)]
pub(crate) struct Locals {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Locals {
    /// `None` when all 2^32 ids are in use.
    pub(crate) fn insert(&mut self, channel: Channel) -> Option<ChannelId> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.slots.len()).ok().filter(|index| *index < u32::MAX)?;
                self.slots.push(Slot::default());
                index
            }
        };
        let slot = self.slots.get_mut(index as usize)?;
        slot.channel = Some(channel);
        Some(ChannelId { index, generation: slot.generation })
    }

    pub(crate) fn get(&self, id: ChannelId) -> Option<&Channel> {
        let slot = self.slots.get(id.index as usize).filter(|slot| slot.generation == id.generation)?;
        slot.channel.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: ChannelId) -> Option<&mut Channel> {
        let slot = self.slots.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation)?;
        slot.channel.as_mut()
    }

    /// The channel that has this place now.
    pub(crate) fn at(&self, index: u32) -> Option<(ChannelId, &Channel)> {
        let slot = self.slots.get(index as usize)?;
        Some((ChannelId { index, generation: slot.generation }, slot.channel.as_ref()?))
    }

    /// From now on `id` names nothing, but the id on the wire stays in use.
    pub(crate) fn abandon(&mut self, id: ChannelId) {
        if let Some(channel) = self.get_mut(id) {
            channel.state = State::Abandoned;
        }
        if let Some(slot) = self.slots.get_mut(id.index as usize) {
            slot.generation = slot.generation.wrapping_add(1);
        }
    }

    /// Gives the place free.
    pub(crate) fn remove(&mut self, id: ChannelId) -> Option<Channel> {
        let slot = self.slots.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation)?;
        let channel = slot.channel.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
        Some(channel)
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.len() == self.free.len()
    }
}

impl ChannelId {
    /// The id of the channel on the wire, where 0 is the control channel.
    pub(crate) fn wire(self) -> u64 {
        u64::from(self.index) + 1
    }
}
