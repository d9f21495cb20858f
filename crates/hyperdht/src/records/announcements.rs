//! Who announces which topic.

use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::time::Instant;

use super::aging::{HostFull, Rotation};
use super::limits::{Host, StoreLimits};
use super::random::Random;
use crate::messages::Peer;

/// Most relay addresses that are kept of a peer (npm `hyperdht` 6.34 `lib/persistent.js`).
pub const MAX_RELAY_ADDRESSES: usize = 3;

/// A [`Peer`] without a buffer of its own: the records of a full store are many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) public_key: [u8; 32],
    relays: [Relay; MAX_RELAY_ADDRESSES],
    relay_count: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Relay {
    host: [u8; 4],
    port: [u8; 2],
}

impl Record {
    /// Takes what is kept of a peer.
    pub(super) fn new(peer: &Peer) -> Self {
        let mut relays = [Relay::default(); MAX_RELAY_ADDRESSES];
        let mut relay_count = 0;
        for (slot, address) in relays.iter_mut().zip(&peer.relay_addresses) {
            *slot = Relay { host: address.ip().octets(), port: address.port().to_be_bytes() };
            relay_count += 1;
        }
        Self { public_key: peer.public_key, relays, relay_count }
    }

    pub(super) fn to_peer(self) -> Peer {
        let relays = self.relays.iter().take(usize::from(self.relay_count));
        let relay_addresses = relays
            .map(|relay| SocketAddrV4::new(relay.host.into(), u16::from_be_bytes(relay.port)))
            .collect();
        Peer { public_key: self.public_key, relay_addresses }
    }
}

/// The announcements of topics, in two generations: see [`StoreLimits`].
#[derive(Debug)]
pub(super) struct Announcements {
    fresh: Generation,
    stale: Generation,
    rotation: Rotation,
    max: usize,
    max_of_topic: usize,
    max_of_host: usize,
}

#[derive(Debug, Default)]
struct Generation {
    topics: HashMap<[u8; 32], Topic>,
    len: usize,
    hosts: HashMap<Host, usize>,
}

#[derive(Debug, Default)]
struct Topic {
    announcers: Vec<Announcer>,
    bump: u64,
}

#[derive(Debug, Clone, Copy)]
struct Announcer {
    record: Record,
    host: Option<Host>,
}

impl Announcements {
    pub(super) fn new(limits: &StoreLimits) -> Self {
        Self {
            fresh: Generation::default(),
            stale: Generation::default(),
            rotation: Rotation::new(limits.announcement_age),
            max: limits.announcements.max(1),
            max_of_topic: limits.announcements_of_topic.max(1),
            max_of_host: limits.share(limits.announcements),
        }
    }

    /// Whether [`add`](Self::add) would refuse.
    pub(super) fn would_refuse(&self, host: Option<Host>, topic: &[u8; 32], public_key: &[u8; 32]) -> bool {
        let Some(host) = host else { return false };
        let used = |generation: &Generation| generation.hosts.get(&host).copied().unwrap_or(0);
        // Both generations: whoever fills its share has to wait until that is forgotten.
        used(&self.fresh) + used(&self.stale) >= self.max_of_host
            && !self.fresh.contains(topic, public_key)
            && !self.stale.contains(topic, public_key)
    }

    /// Adds or renews an announcement. `bump` is 0 or the latest time the topic was bumped to.
    pub(super) fn add(
        &mut self,
        now: Instant,
        topic: [u8; 32],
        record: Record,
        host: Option<Host>,
        bump: u64,
        random: &mut Random,
    ) -> Result<(), HostFull> {
        self.expire(now);
        if self.would_refuse(host, &topic, &record.public_key) {
            return Err(HostFull);
        }
        let old_bump = self.bump(&topic);
        self.remove(&topic, &record.public_key);
        if self.fresh.len >= self.max {
            self.rotate();
            self.rotation.restart(now);
        }
        self.fresh.add(topic, Announcer { record, host }, bump.max(old_bump), self.max_of_topic, random);
        Ok(())
    }

    pub(super) fn remove(&mut self, topic: &[u8; 32], public_key: &[u8; 32]) {
        self.fresh.remove(topic, public_key);
        self.stale.remove(topic, public_key);
    }

    /// At most `count` announcers of a topic, chosen at random.
    pub(super) fn choose(
        &mut self,
        now: Instant,
        topic: &[u8; 32],
        count: usize,
        random: &mut Random,
    ) -> Vec<Record> {
        self.expire(now);
        let fresh = self.fresh.announcers(topic);
        let stale = self.stale.announcers(topic);
        let all = fresh.len() + stale.len();
        let pick = |n: usize| fresh.get(n).or_else(|| stale.get(n.wrapping_sub(fresh.len())));
        random.distinct(all, count).into_iter().filter_map(pick).map(|announcer| announcer.record).collect()
    }

    /// The latest time a topic was bumped to, 0 for never.
    pub(super) fn bump(&self, topic: &[u8; 32]) -> u64 {
        let of = |generation: &Generation| generation.topics.get(topic).map_or(0, |topic| topic.bump);
        of(&self.fresh).max(of(&self.stale))
    }

    pub(super) fn len(&self) -> usize {
        self.fresh.len + self.stale.len
    }

    fn expire(&mut self, now: Instant) {
        for _ in 0..self.rotation.due(now) {
            self.rotate();
        }
    }

    fn rotate(&mut self) {
        self.stale = std::mem::take(&mut self.fresh);
    }
}

impl Generation {
    fn announcers(&self, topic: &[u8; 32]) -> &[Announcer] {
        self.topics.get(topic).map_or(&[], |topic| &topic.announcers)
    }

    fn contains(&self, topic: &[u8; 32], public_key: &[u8; 32]) -> bool {
        self.announcers(topic).iter().any(|announcer| announcer.record.public_key == *public_key)
    }

    fn add(
        &mut self,
        topic: [u8; 32],
        announcer: Announcer,
        bump: u64,
        max_of_topic: usize,
        random: &mut Random,
    ) {
        let entry = self.topics.entry(topic).or_default();
        entry.bump = bump;
        if let Some(host) = announcer.host {
            *self.hosts.entry(host).or_default() += 1;
        }
        if entry.announcers.len() < max_of_topic {
            // Most topics have few announcers: no room for more before there are more.
            if entry.announcers.is_empty() {
                entry.announcers.reserve_exact(1);
            }
            entry.announcers.push(announcer);
            self.len += 1;
            return;
        }
        let lot = random.below(entry.announcers.len());
        if let Some(slot) = entry.announcers.get_mut(lot) {
            let displaced = std::mem::replace(slot, announcer);
            release(&mut self.hosts, displaced.host);
        }
    }

    fn remove(&mut self, topic: &[u8; 32], public_key: &[u8; 32]) {
        let Some(entry) = self.topics.get_mut(topic) else { return };
        let position =
            entry.announcers.iter().position(|announcer| announcer.record.public_key == *public_key);
        let Some(position) = position else { return };
        let removed = entry.announcers.swap_remove(position);
        release(&mut self.hosts, removed.host);
        self.len -= 1;
        if entry.announcers.is_empty() {
            self.topics.remove(topic);
        }
    }
}

fn release(hosts: &mut HashMap<Host, usize>, host: Option<Host>) {
    let Some(host) = host else { return };
    if let Some(used) = hosts.get_mut(&host) {
        *used -= 1;
        if *used == 0 {
            hosts.remove(&host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::time::Duration;

    fn record(n: u16) -> Record {
        let mut public_key = [0; 32];
        public_key[..2].copy_from_slice(&n.to_be_bytes());
        Record::new(&Peer { public_key, relay_addresses: Vec::new() })
    }

    fn host(n: u8) -> Option<Host> {
        Host::of(([10, 0, 0, n], 1).into())
    }

    fn small(announcements: usize, announcements_of_topic: usize) -> (Announcements, Random, Instant) {
        let limits = StoreLimits { announcements, announcements_of_topic, ..StoreLimits::default() };
        (Announcements::new(&limits), Random::new(7), Instant::now())
    }

    #[test]
    fn records_keep_three_relays() {
        let relay_addresses: Vec<SocketAddrV4> =
            (1..6).map(|n| SocketAddrV4::new([n; 4].into(), 300)).collect();
        let kept =
            Record::new(&Peer { public_key: [1; 32], relay_addresses: relay_addresses.clone() }).to_peer();
        assert_eq!(kept.relay_addresses, relay_addresses[..3]);
    }

    #[test]
    fn every_announcer_has_its_turn() {
        let (mut all, mut random, now) = small(1000, 1000);
        for n in 0..50 {
            let now = if n < 25 { now } else { now + Duration::from_secs(14 * 60) };
            all.add(now, [1; 32], record(n), None, 0, &mut random).unwrap();
        }
        let now = now + Duration::from_secs(15 * 60);
        let mut seen = BTreeSet::new();
        for _ in 0..100 {
            let some = all.choose(now, &[1; 32], 20, &mut random);
            let distinct: BTreeSet<_> = some.iter().map(|record| record.public_key).collect();
            assert_eq!((some.len(), distinct.len()), (20, 20));
            seen.extend(distinct);
        }
        assert_eq!(seen.len(), 50);
        assert_eq!(all.choose(now, &[2; 32], 20, &mut random), []);
    }

    #[test]
    fn announcements_expire_and_are_renewed() {
        let (mut all, mut random, start) = small(1000, 1000);
        let minute = Duration::from_secs(60);
        all.add(start, [1; 32], record(1), None, 0, &mut random).unwrap();
        all.add(start, [1; 32], record(2), None, 5, &mut random).unwrap();
        all.add(start + 14 * minute, [1; 32], record(1), None, 0, &mut random).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all.choose(start + 28 * minute, &[1; 32], 20, &mut random), [record(1)]);
        assert_eq!(all.bump(&[1; 32]), 5, "a bump goes on with its topic");
        assert_eq!(all.choose(start + 60 * minute, &[1; 32], 20, &mut random), []);
    }

    #[test]
    fn a_crowded_topic_gives_places_by_lot() {
        let (mut all, mut random, now) = small(1000, 10);
        for n in 0..500 {
            all.add(now, [1; 32], record(n), host((n % 200) as u8), 0, &mut random).unwrap();
        }
        assert_eq!(all.len(), 10);
        assert_eq!(all.fresh.hosts.values().sum::<usize>(), 10);
        assert_eq!(all.choose(now, &[1; 32], 20, &mut random).len(), 10);
    }

    #[test]
    fn a_host_gets_a_share() {
        let (mut all, mut random, now) = small(100, 10);
        for n in 0..25u8 {
            all.add(now, [n; 32], record(1), host(1), 0, &mut random).unwrap();
        }
        assert_eq!(all.add(now, [25; 32], record(1), host(1), 0, &mut random), Err(HostFull));
        all.add(now, [24; 32], record(1), host(1), 0, &mut random).unwrap();
        all.add(now, [25; 32], record(1), host(2), 0, &mut random).unwrap();
        all.remove(&[3; 32], &record(1).public_key);
        all.add(now, [26; 32], record(1), host(1), 0, &mut random).unwrap();
        assert_eq!(all.len(), 26);
    }

    #[test]
    fn a_full_store_forgets_the_older_half() {
        let (mut all, mut random, now) = small(8, 10);
        for n in 0..17 {
            all.add(now, [n; 32], record(1), None, 0, &mut random).unwrap();
        }
        assert!(all.choose(now, &[7; 32], 20, &mut random).is_empty());
        assert_eq!(all.choose(now, &[8; 32], 20, &mut random).len(), 1);
        assert_eq!(all.len(), 9);
    }
}
