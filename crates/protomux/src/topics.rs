//! Which channels belong together: all of one protocol and id, under any of its names.

use std::collections::{HashMap, VecDeque};

/// A protocol's name and an id; no id and an empty id are the same, as on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TopicKey {
    protocol: Box<str>,
    id: Box<[u8]>,
}

/// Refers to a topic of one [`Topics`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicId(u32);

#[derive(Debug, Default)]
pub(crate) struct Topic {
    /// The names that lead here; the first is the one it was made under.
    keys: Vec<TopicKey>,
    /// Channels open on this side, answered or not.
    pub(crate) opened: usize,
    /// Local channels that the remote has not answered, oldest first.
    pub(crate) outgoing: VecDeque<u32>,
    /// Channels of the remote that this side has not answered, oldest first.
    pub(crate) incoming: VecDeque<u32>,
}

#[derive(Debug, Default)]
pub(crate) struct Topics {
    by_key: HashMap<TopicKey, TopicId>,
    topics: Vec<Topic>,
    free: Vec<TopicId>,
}

impl TopicKey {
    pub(crate) fn new(protocol: &str, id: Option<&[u8]>) -> Self {
        Self { protocol: protocol.into(), id: id.unwrap_or_default().into() }
    }
}

impl Topics {
    pub(crate) fn find(&self, key: &TopicKey) -> Option<TopicId> {
        self.by_key.get(key).copied()
    }

    pub(crate) fn find_or_create(&mut self, key: TopicKey) -> TopicId {
        if let Some(id) = self.find(&key) {
            return id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.topics.push(Topic::default());
            // Bounded by the channels of both sides, whose numbers are 32 bits wide.
            TopicId(u32::try_from(self.topics.len() - 1).unwrap_or(u32::MAX))
        });
        self.add_key(id, key);
        id
    }

    /// Makes `key` lead to the topic as well, unless it leads elsewhere.
    pub(crate) fn add_key(&mut self, id: TopicId, key: TopicKey) {
        if self.by_key.contains_key(&key) {
            return;
        }
        if let Some(topic) = self.topics.get_mut(id.0 as usize) {
            topic.keys.push(key.clone());
            self.by_key.insert(key, id);
        }
    }

    pub(crate) fn get(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(id.0 as usize)
    }

    pub(crate) fn get_mut(&mut self, id: TopicId) -> Option<&mut Topic> {
        self.topics.get_mut(id.0 as usize)
    }

    /// Forgets the topic when nothing of it is open or waits.
    pub(crate) fn release(&mut self, id: TopicId) {
        let Some(topic) = self.topics.get_mut(id.0 as usize) else {
            return;
        };
        let unused = topic.opened == 0 && topic.outgoing.is_empty() && topic.incoming.is_empty();
        // Without keys it was released before.
        if !unused || topic.keys.is_empty() {
            return;
        }
        for key in std::mem::take(topic).keys {
            self.by_key.remove(&key);
        }
        self.free.push(id);
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.by_key.is_empty() && self.free.len() == self.topics.len()
    }
}
