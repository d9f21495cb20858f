//! A map that forgets: two generations, bounded in entries, in bytes, and in what one host may put there.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::limits::Host;

/// When the generations change places.
#[derive(Debug)]
pub(super) struct Rotation {
    period: Duration,
    next: Option<Instant>,
}

impl Rotation {
    /// For entries that live for `age`, give or take a third of it (npm `xache` 1.2, `record-cache` 1.2).
    pub(super) fn new(age: Duration) -> Self {
        Self { period: age.saturating_mul(2) / 3, next: None }
    }

    /// How many times to rotate by now: at most twice, after which nothing is left.
    pub(super) fn due(&mut self, now: Instant) -> u32 {
        let Some(next) = self.next else {
            self.restart(now);
            return 0;
        };
        if now < next {
            return 0;
        }
        let twice = now.duration_since(next) >= self.period;
        self.restart(now);
        if twice { 2 } else { 1 }
    }

    /// Counts anew from here.
    pub(super) fn restart(&mut self, now: Instant) {
        self.next = now.checked_add(self.period);
    }
}

/// Bounds of one generation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) entries: usize,
    pub(super) bytes: usize,
    pub(super) host_entries: usize,
    pub(super) host_bytes: usize,
}

/// The host has its share already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HostFull;

#[derive(Debug)]
pub(super) struct AgingMap<V> {
    fresh: Generation<V>,
    stale: Generation<V>,
    bounds: Bounds,
    rotation: Rotation,
}

#[derive(Debug)]
struct Generation<V> {
    entries: HashMap<[u8; 32], Entry<V>>,
    bytes: usize,
    hosts: HashMap<Host, Usage>,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    bytes: usize,
    host: Option<Host>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    entries: usize,
    bytes: usize,
}

impl<V> AgingMap<V> {
    pub(super) fn new(bounds: Bounds, age: Duration) -> Self {
        Self {
            fresh: Generation::default(),
            stale: Generation::default(),
            bounds,
            rotation: Rotation::new(age),
        }
    }

    /// What is under `key`.
    pub(super) fn peek(&mut self, now: Instant, key: &[u8; 32]) -> Option<&V> {
        self.expire(now);
        let entry = self.fresh.entries.get(key).or_else(|| self.stale.entries.get(key));
        entry.map(|entry| &entry.value)
    }

    /// What is under `key`, which becomes young again: what is asked for lives on.
    pub(super) fn touch(&mut self, now: Instant, key: &[u8; 32]) -> Option<&V> {
        self.expire(now);
        if !self.fresh.entries.contains_key(key)
            && let Some(entry) = self.stale.remove(key)
        {
            if self.is_full(entry.bytes) {
                self.stale.insert(*key, entry);
            } else {
                self.fresh.insert(*key, entry);
            }
        }
        self.peek(now, key)
    }

    /// Whether [`insert`](Self::insert) would refuse.
    pub(super) fn would_refuse(&self, key: &[u8; 32], host: Option<Host>, bytes: usize) -> bool {
        self.host_full(key, host, bytes)
    }

    /// Puts `value`, which takes `bytes` of memory beside its entry, under `key`; `host` pays for it.
    pub(super) fn insert(
        &mut self,
        now: Instant,
        key: [u8; 32],
        value: V,
        bytes: usize,
        host: Option<Host>,
    ) -> Result<(), HostFull> {
        self.expire(now);
        if self.host_full(&key, host, bytes) {
            return Err(HostFull);
        }
        self.remove(&key);
        if self.is_full(bytes) {
            self.rotate();
            self.rotation.restart(now);
        }
        self.fresh.insert(key, Entry { value, bytes, host });
        Ok(())
    }

    pub(super) fn remove(&mut self, key: &[u8; 32]) -> Option<V> {
        let fresh = self.fresh.remove(key);
        let stale = self.stale.remove(key);
        fresh.or(stale).map(|entry| entry.value)
    }

    pub(super) fn len(&self) -> usize {
        self.fresh.entries.len() + self.stale.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.fresh.bytes + self.stale.bytes
    }

    fn is_full(&self, bytes: usize) -> bool {
        self.fresh.entries.len() >= self.bounds.entries
            || self.fresh.bytes.saturating_add(bytes) > self.bounds.bytes
    }

    /// Counts both generations: whoever fills its share has to wait until that is forgotten.
    fn host_full(&self, key: &[u8; 32], host: Option<Host>, bytes: usize) -> bool {
        let Some(host) = host else { return false };
        let (mut entries, mut used) = (0, 0);
        for generation in [&self.fresh, &self.stale] {
            let usage = generation.hosts.get(&host).copied().unwrap_or_default();
            entries += usage.entries;
            used += usage.bytes;
            if let Some(old) = generation.entries.get(key).filter(|entry| entry.host == Some(host)) {
                entries -= 1;
                used -= old.bytes;
            }
        }
        entries >= self.bounds.host_entries || used.saturating_add(bytes) > self.bounds.host_bytes
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

impl<V> Generation<V> {
    fn insert(&mut self, key: [u8; 32], entry: Entry<V>) {
        self.bytes += entry.bytes;
        if let Some(host) = entry.host {
            let usage = self.hosts.entry(host).or_default();
            usage.entries += 1;
            usage.bytes += entry.bytes;
        }
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, key: &[u8; 32]) -> Option<Entry<V>> {
        let entry = self.entries.remove(key)?;
        self.bytes -= entry.bytes;
        if let Some(host) = entry.host
            && let Some(usage) = self.hosts.get_mut(&host)
        {
            usage.entries -= 1;
            usage.bytes -= entry.bytes;
            if usage.entries == 0 {
                self.hosts.remove(&host);
            }
        }
        Some(entry)
    }
}

impl<V> Default for Generation<V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), bytes: 0, hosts: HashMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AGE: Duration = Duration::from_secs(30);
    const TICK: Duration = Duration::from_secs(20);

    fn key(n: u8) -> [u8; 32] {
        [n; 32]
    }

    fn host(n: u8) -> Option<Host> {
        Host::of(([10, 0, 0, n], 1).into())
    }

    fn map(entries: usize, bytes: usize) -> AgingMap<u8> {
        AgingMap::new(Bounds { entries, bytes, host_entries: entries / 2, host_bytes: bytes / 2 }, AGE)
    }

    #[test]
    fn entries_live_between_two_thirds_and_four_thirds_of_the_age() {
        let start = Instant::now();
        let mut map = map(10, 1000);
        map.insert(start, key(1), 1, 1, None).unwrap();
        assert_eq!(map.peek(start + TICK - Duration::from_millis(1), &key(1)), Some(&1));
        assert_eq!(map.peek(start + TICK, &key(1)), Some(&1));
        map.insert(start + TICK, key(2), 2, 1, None).unwrap();
        assert_eq!(map.peek(start + 2 * TICK, &key(1)), None);
        assert_eq!(map.peek(start + 2 * TICK, &key(2)), Some(&2));
        assert_eq!(map.touch(start + 2 * TICK, &key(2)), Some(&2));
        assert_eq!(map.peek(start + 3 * TICK, &key(2)), Some(&2), "touched entries are young again");
        assert_eq!(map.peek(start + 9 * TICK, &key(2)), None, "a long sleep forgets all");
        assert_eq!((map.len(), map.bytes()), (0, 0));
    }

    #[test]
    fn a_full_map_forgets_the_older_half() {
        let now = Instant::now();
        let mut map = map(4, 1000);
        for n in 0..9 {
            map.insert(now, key(n), n, 1, None).unwrap();
        }
        assert_eq!(map.peek(now, &key(3)), None);
        assert_eq!(map.peek(now, &key(4)), Some(&4));
        assert_eq!(map.peek(now, &key(8)), Some(&8));
    }

    #[test]
    fn a_host_gets_its_share_and_may_replace_what_it_has() {
        let now = Instant::now();
        let mut map = map(4, 100);
        map.insert(now, key(1), 1, 10, host(1)).unwrap();
        map.insert(now, key(2), 2, 10, host(1)).unwrap();
        assert_eq!(map.insert(now, key(3), 3, 1, host(1)), Err(HostFull));
        map.insert(now, key(2), 4, 40, host(1)).unwrap();
        assert_eq!(map.insert(now, key(2), 5, 41, host(1)), Err(HostFull));
        assert_eq!(map.peek(now, &key(2)), Some(&4));
        map.insert(now, key(3), 3, 10, host(2)).unwrap();
        map.remove(&key(1));
        map.insert(now, key(4), 3, 10, host(1)).unwrap();
    }

    proptest! {
        /// Whatever is done, the bounds hold and the sums are those of the entries.
        #[test]
        fn bounds_hold(steps in proptest::collection::vec((0u8..4, 0u8..12, 1usize..60, 0u8..4, 0u64..15), 0..200)) {
            let mut now = Instant::now();
            let mut map = map(6, 200);
            for (what, k, bytes, from, wait) in steps {
                now += Duration::from_secs(wait);
                match what {
                    0 => { map.touch(now, &key(k)); }
                    1 => { map.remove(&key(k)); }
                    _ => {
                        let host = if from == 0 { None } else { host(from) };
                        let refused = map.would_refuse(&key(k), host, bytes) && map.rotation.next.is_some_and(|next| now < next);
                        let outcome = map.insert(now, key(k), k, bytes, host);
                        if refused {
                            prop_assert_eq!(outcome, Err(HostFull));
                        }
                        if outcome.is_ok() {
                            prop_assert_eq!(map.peek(now, &key(k)), Some(&k));
                        }
                    }
                }
                for n in 1..4 {
                    let of = |generation: &Generation<u8>| host(n).and_then(|host| generation.hosts.get(&host)).copied().unwrap_or_default();
                    let (fresh, stale) = (of(&map.fresh), of(&map.stale));
                    prop_assert!(fresh.entries + stale.entries <= 3 && fresh.bytes + stale.bytes <= 100);
                }
                for generation in [&map.fresh, &map.stale] {
                    prop_assert!(generation.entries.len() <= 6);
                    prop_assert!(generation.bytes <= 200);
                    prop_assert_eq!(generation.bytes, generation.entries.values().map(|entry| entry.bytes).sum::<usize>());
                    prop_assert!(generation.hosts.values().all(|usage| usage.entries <= 3 && usage.bytes <= 100));
                    let of_hosts = generation.entries.values().filter(|entry| entry.host.is_some()).count();
                    prop_assert_eq!(generation.hosts.values().map(|usage| usage.entries).sum::<usize>(), of_hosts);
                }
            }
        }
    }
}
