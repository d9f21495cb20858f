//! Who wants what of which topic, and what the daemon is therefore to do. Plain state, no I/O.

use std::collections::{HashMap, HashSet};

use hypercore::DiscoveryKey;

/// What is wanted of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Roles {
    /// Others are to find this daemon under it.
    pub(crate) announce: bool,
    /// Others are to be looked for.
    pub(crate) lookup: bool,
}

impl Roles {
    pub(crate) const BOTH: Self = Self { announce: true, lookup: true };
    pub(crate) const NONE: Self = Self { announce: false, lookup: false };

    pub(crate) fn is_none(self) -> bool {
        self == Self::NONE
    }

    fn or(self, other: Self) -> Self {
        Self { announce: self.announce || other.announce, lookup: self.lookup || other.lookup }
    }
}

/// There are too many topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// The topics that somebody wants something of, or has wanted to be remembered.
#[derive(Debug)]
pub(crate) struct Topics {
    topics: HashMap<DiscoveryKey, Topic>,
    by_client: HashMap<u64, HashSet<DiscoveryKey>>,
    limit: usize,
}

#[derive(Debug, Default)]
struct Topic {
    wishes: HashMap<u64, Wish>,
    record: Option<Record>,
    /// Announced for a core that somebody had open, and to stay so.
    kept: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// The client has the core open and has not said anything. Unless somebody has ended it since, the core stays
    /// announced afterwards.
    Open { stays: bool },
    /// It has said this.
    Said(Roles),
}

/// A setting that outlasts the client that made it.
#[derive(Debug, Clone, Copy)]
struct Record {
    roles: Roles,
    holder: Holder,
}

/// Who stands for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// The client that made it, as long as it is there: it may have said something else since.
    Client(u64),
    /// The daemon.
    Daemon,
    /// Nobody: it is known, and nothing is done for it.
    Nobody,
}

impl Wish {
    fn roles(self) -> Roles {
        match self {
            Self::Open { .. } => Roles::BOTH,
            Self::Said(roles) => roles,
        }
    }
}

impl Topic {
    fn roles(&self) -> Roles {
        let record = match self.record {
            Some(Record { roles, holder: Holder::Daemon }) => roles,
            _ => Roles::NONE,
        };
        let kept = Roles { announce: self.kept, lookup: false };
        self.wishes.values().fold(record.or(kept), |roles, wish| roles.or(wish.roles()))
    }

    fn is_idle(&self) -> bool {
        self.wishes.is_empty() && self.record.is_none() && !self.kept
    }
}

impl Topics {
    pub(crate) fn new(limit: usize) -> Self {
        Self { topics: HashMap::new(), by_client: HashMap::new(), limit }
    }

    /// A client says what it wants; what it said before does not count any more. To want nothing also ends what the
    /// daemon does by itself, now and when those who have the core open are gone.
    pub(crate) fn say(&mut self, client: u64, key: DiscoveryKey, roles: Roles) -> Result<(), Full> {
        if roles.is_none() && !self.topics.contains_key(&key) {
            return Ok(());
        }
        let topic = self.entry(key)?;
        if roles.is_none() {
            topic.kept = false;
            for wish in topic.wishes.values_mut() {
                if let Wish::Open { stays } = wish {
                    *stays = false;
                }
            }
        }
        topic.wishes.insert(client, Wish::Said(roles));
        self.by_client.entry(client).or_default().insert(key);
        Ok(())
    }

    /// A client has a core open. Unless it says otherwise, it wants both.
    pub(crate) fn open(&mut self, client: u64, key: DiscoveryKey) -> Result<(), Full> {
        self.entry(key)?.wishes.entry(client).or_insert(Wish::Open { stays: true });
        self.by_client.entry(client).or_default().insert(key);
        Ok(())
    }

    /// Nobody has the core open any more.
    pub(crate) fn closed(&mut self, key: &DiscoveryKey) {
        let Some(topic) = self.topics.get_mut(key) else { return };
        let (by_client, kept) = (&mut self.by_client, &mut topic.kept);
        topic.wishes.retain(|client, wish| match wish {
            Wish::Open { stays } => {
                *kept |= *stays;
                forget(by_client, *client, key);
                false
            }
            Wish::Said(_) => true,
        });
        self.tidy(key);
    }

    /// A client is gone; returns the topics that it wanted something of.
    pub(crate) fn gone(&mut self, client: u64) -> Vec<DiscoveryKey> {
        let keys: Vec<_> = self.by_client.remove(&client).into_iter().flatten().collect();
        for key in &keys {
            let Some(topic) = self.topics.get_mut(key) else { continue };
            if topic.wishes.remove(&client) == Some(Wish::Open { stays: true }) {
                topic.kept = true;
            }
            if let Some(record) = &mut topic.record
                && record.holder == Holder::Client(client)
            {
                record.holder = Holder::Daemon;
            }
            self.tidy(key);
        }
        keys
    }

    /// A client wants its setting to outlast it.
    pub(crate) fn remember(&mut self, client: u64, key: DiscoveryKey, roles: Roles) -> Result<(), Full> {
        self.entry(key)?.record = Some(Record { roles, holder: Holder::Client(client) });
        // It is told from the topics of those that are gone by this.
        self.by_client.entry(client).or_default().insert(key);
        Ok(())
    }

    /// What was remembered by an earlier run of the daemon; `active` when something is to be done for it.
    pub(crate) fn restore(&mut self, key: DiscoveryKey, roles: Roles, active: bool) -> Result<(), Full> {
        let holder = if active { Holder::Daemon } else { Holder::Nobody };
        self.entry(key)?.record = Some(Record { roles, holder });
        Ok(())
    }

    /// Nothing is to be remembered of the topic.
    pub(crate) fn forget(&mut self, key: &DiscoveryKey) {
        if let Some(topic) = self.topics.get_mut(key) {
            topic.record = None;
            self.tidy(key);
        }
    }

    /// What is wanted, by all together.
    pub(crate) fn roles(&self, key: &DiscoveryKey) -> Roles {
        self.topics.get(key).map_or(Roles::NONE, Topic::roles)
    }

    /// What is remembered.
    pub(crate) fn remembered(&self, key: &DiscoveryKey) -> Option<Roles> {
        Some(self.topics.get(key)?.record?.roles)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &DiscoveryKey> {
        self.topics.keys()
    }

    /// Whether there is no room for this topic.
    pub(crate) fn is_full_for(&self, key: &DiscoveryKey) -> bool {
        self.topics.len() >= self.limit && !self.topics.contains_key(key)
    }

    fn entry(&mut self, key: DiscoveryKey) -> Result<&mut Topic, Full> {
        if self.is_full_for(&key) {
            return Err(Full);
        }
        Ok(self.topics.entry(key).or_default())
    }

    fn tidy(&mut self, key: &DiscoveryKey) {
        if self.topics.get(key).is_some_and(Topic::is_idle) {
            self.topics.remove(key);
        }
    }
}

fn forget(by_client: &mut HashMap<u64, HashSet<DiscoveryKey>>, client: u64, key: &DiscoveryKey) {
    if let Some(keys) = by_client.get_mut(&client) {
        keys.remove(key);
        if keys.is_empty() {
            by_client.remove(&client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOKUP: Roles = Roles { announce: false, lookup: true };
    const ANNOUNCE: Roles = Roles { announce: true, lookup: false };

    fn key(n: u8) -> DiscoveryKey {
        DiscoveryKey::from([n; 32])
    }

    #[test]
    fn wishes_add_up_and_go_with_their_clients() {
        let mut topics = Topics::new(10);
        topics.say(1, key(1), LOOKUP).unwrap();
        topics.say(2, key(1), ANNOUNCE).unwrap();
        assert_eq!(topics.roles(&key(1)), Roles::BOTH);
        assert_eq!(topics.gone(2), [key(1)]);
        assert_eq!(topics.roles(&key(1)), LOOKUP);
        topics.say(1, key(1), Roles::NONE).unwrap();
        assert_eq!(topics.roles(&key(1)), Roles::NONE);
        assert_eq!(topics.gone(1), [key(1)]);
        assert!(topics.topics.is_empty() && topics.by_client.is_empty());
    }

    #[test]
    fn what_is_remembered_takes_over_when_its_client_is_gone() {
        let mut topics = Topics::new(10);
        topics.say(1, key(1), Roles::BOTH).unwrap();
        topics.remember(1, key(1), Roles::BOTH).unwrap();
        topics.say(1, key(1), LOOKUP).unwrap();
        assert_eq!(topics.roles(&key(1)), LOOKUP, "it is there, and speaks for itself");
        topics.gone(1);
        assert_eq!(topics.roles(&key(1)), Roles::BOTH);
        topics.say(2, key(1), LOOKUP).unwrap();
        assert_eq!(topics.roles(&key(1)), Roles::BOTH, "others add to it");
        topics.forget(&key(1));
        assert_eq!(topics.roles(&key(1)), LOOKUP);
        topics.gone(2);
        assert!(topics.topics.is_empty() && topics.by_client.is_empty());
    }

    #[test]
    fn what_was_restored_without_being_wanted_rests() {
        let mut topics = Topics::new(10);
        topics.restore(key(1), LOOKUP, false).unwrap();
        topics.restore(key(2), Roles::BOTH, true).unwrap();
        assert_eq!(topics.roles(&key(1)), Roles::NONE);
        assert_eq!(topics.remembered(&key(1)), Some(LOOKUP));
        assert_eq!(topics.roles(&key(2)), Roles::BOTH);
    }

    #[test]
    fn an_open_core_is_wanted_unless_its_client_says_otherwise() {
        let mut topics = Topics::new(10);
        topics.open(1, key(1)).unwrap();
        assert_eq!(topics.roles(&key(1)), Roles::BOTH);
        topics.say(1, key(1), LOOKUP).unwrap();
        topics.open(1, key(1)).unwrap();
        assert_eq!(topics.roles(&key(1)), LOOKUP);
        topics.gone(1);
        assert!(topics.topics.is_empty());

        topics.open(1, key(1)).unwrap();
        topics.open(2, key(1)).unwrap();
        topics.gone(1);
        assert_eq!(topics.roles(&key(1)), Roles::BOTH);
        topics.closed(&key(1));
        assert_eq!(topics.roles(&key(1)), ANNOUNCE, "others still find what was written");
        topics.say(3, key(1), Roles::NONE).unwrap();
        assert_eq!(topics.roles(&key(1)), Roles::NONE);
        topics.gone(3);
        assert!(topics.topics.is_empty() && topics.by_client.is_empty());
    }

    #[test]
    fn what_was_ended_does_not_stay_for_those_who_had_it_open() {
        let mut topics = Topics::new(10);
        topics.open(1, key(1)).unwrap();
        topics.open(2, key(1)).unwrap();
        topics.say(3, key(1), Roles::NONE).unwrap();
        topics.gone(3);
        assert_eq!(topics.roles(&key(1)), Roles::BOTH, "they have it open still");
        topics.gone(1);
        topics.closed(&key(1));
        assert_eq!(topics.roles(&key(1)), Roles::NONE);
        assert!(topics.topics.is_empty() && topics.by_client.is_empty());
    }

    #[test]
    fn there_is_a_bound() {
        let mut topics = Topics::new(1);
        topics.say(1, key(1), LOOKUP).unwrap();
        assert_eq!(topics.say(1, key(2), LOOKUP), Err(Full));
        assert_eq!(topics.open(1, key(2)), Err(Full));
        assert_eq!(topics.say(1, key(2), Roles::NONE), Ok(()), "nothing has to be kept for that");
        assert_eq!(topics.topics.len(), 1);
    }
}
