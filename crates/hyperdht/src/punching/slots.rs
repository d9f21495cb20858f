//! Whom of those that call we open a socket for.
//!
//! A first message costs a caller next to nothing, and to punch takes a socket of its own for each. So there are so many
//! at the same time and no more, whatever callers say about themselves, and those who only take them leave some to others.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::core::lock;

/// Sockets that a node holds for those who call.
pub(crate) const MAX_SLOTS: usize = 128;
/// What a caller has, from our answer, until it may lose its socket to another: it says something about hole punching as
/// soon as it has the answer.
const GRACE: Duration = Duration::from_secs(2);
/// What it has once it has said something: more than punching takes.
const HEARD: Duration = Duration::from_secs(60);

/// The sockets of a node for those who call. `O` says whose one is, for when it is taken away.
#[derive(Debug)]
pub(crate) struct PunchSlots<O> {
    state: Arc<Mutex<State<O>>>,
}

#[derive(Debug)]
struct State<O> {
    next: u64,
    /// Those given first come first.
    held: BTreeMap<u64, Held<O>>,
}

#[derive(Debug)]
struct Held<O> {
    sender: IpAddr,
    keeps_until: Instant,
    owner: O,
}

/// The right to one socket, until it is dropped.
#[derive(Debug)]
pub(crate) struct PunchSlot<O> {
    state: Arc<Mutex<State<O>>>,
    number: u64,
}

impl<O> PunchSlots<O> {
    pub(crate) fn new() -> Self {
        let state = State { next: 0, held: BTreeMap::new() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// For a caller whose message came from `sender`: the node between, if there is one, whatever address it names.
    /// The second is who has to give its socket back before, if anybody has.
    ///
    /// A sender gets no more than what is left over then for others: half of all alone, a third beside another. From
    /// there on it takes the place of its own, or of one with more than it has, of whom nothing was heard in time.
    pub(crate) fn take(&self, sender: IpAddr, owner: O, now: Instant) -> Option<(PunchSlot<O>, Option<O>)> {
        let mut state = lock(&self.state);
        let mut of_sender: HashMap<IpAddr, usize> = HashMap::new();
        for held in state.held.values() {
            *of_sender.entry(held.sender).or_default() += 1;
        }
        let of = |sender| of_sender.get(&sender).copied().unwrap_or(0);
        let displaced = if of(sender) < MAX_SLOTS.saturating_sub(state.held.len()) {
            None
        } else {
            let idle = state.held.iter().filter(|(_, held)| {
                held.keeps_until <= now && (held.sender == sender || of(held.sender) > of(sender))
            });
            let number = idle.max_by_key(|(number, held)| (of(held.sender), Reverse(**number)));
            let number = number.map(|(number, _)| *number)?;
            state.held.remove(&number)
        };
        let number = state.next;
        state.next += 1;
        state.held.insert(number, Held { sender, keeps_until: now + GRACE, owner });
        let slot = PunchSlot { state: Arc::clone(&self.state), number };
        Some((slot, displaced.map(|held| held.owner)))
    }

    /// How many are given away.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        lock(&self.state).held.len()
    }
}

impl<O> PunchSlot<O> {
    /// The caller itself has said something.
    pub(crate) fn heard(&self, now: Instant) {
        if let Some(held) = lock(&self.state).held.get_mut(&self.number) {
            held.keeps_until = now + HEARD;
        }
    }
}

impl<O> Drop for PunchSlot<O> {
    fn drop(&mut self) {
        lock(&self.state).held.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Slots = PunchSlots<u32>;

    fn host(n: u8) -> IpAddr {
        IpAddr::from([5, 0, 0, n])
    }

    /// As many as `sender` gets at once.
    fn fill(slots: &Slots, sender: IpAddr, now: Instant) -> Vec<PunchSlot<u32>> {
        let mut got = Vec::new();
        while let Some((slot, displaced)) = slots.take(sender, 0, now) {
            assert_eq!(displaced, None);
            got.push(slot);
        }
        got
    }

    #[test]
    fn one_sender_leaves_as_many_as_it_takes() {
        let (slots, now) = (Slots::new(), Instant::now());
        let first = fill(&slots, host(1), now);
        assert_eq!(first.len(), MAX_SLOTS / 2);
        let second = fill(&slots, host(2), now);
        assert_eq!(second.len(), MAX_SLOTS / 4);
        // There is always one for somebody new, up to the end.
        let others: Vec<_> = (3..30).flat_map(|n| slots.take(host(n), 0, now)).collect();
        assert_eq!(others.len(), 27);
        drop(first);
        assert_eq!(slots.held(), MAX_SLOTS / 4 + 27);
        drop((second, others));
        assert_eq!(slots.held(), 0);
    }

    #[test]
    fn a_crowd_is_bounded_whoever_sends() {
        let (slots, now) = (Slots::new(), Instant::now());
        let all: Vec<_> = (0..10_000u32)
            .filter_map(|n| slots.take(IpAddr::from((0x0600_0000 + n).to_be_bytes()), n, now))
            .collect();
        assert_eq!((all.len(), slots.held()), (MAX_SLOTS, MAX_SLOTS));
    }

    #[test]
    fn who_stays_silent_makes_room_for_those_of_the_same_sender() {
        let (slots, start) = (Slots::new(), Instant::now());
        let (silent, _) = slots.take(host(1), 1, start).unwrap();
        let (heard, _) = slots.take(host(1), 2, start).unwrap();
        heard.heard(start);
        let rest = fill(&slots, host(1), start);
        let early = start + GRACE - Duration::from_millis(1);
        assert!(slots.take(host(1), 3, early).is_none());
        let (third, displaced) = slots.take(host(1), 3, start + GRACE).unwrap();
        assert_eq!(displaced, Some(1));
        assert_eq!(slots.held(), MAX_SLOTS / 2);
        // It has lost its place already.
        drop(silent);
        assert_eq!(slots.held(), MAX_SLOTS / 2);
        drop((third, heard, rest));
        assert_eq!(slots.held(), 0);
    }

    #[test]
    fn who_has_less_takes_of_who_has_more() {
        let (slots, start) = (Slots::new(), Instant::now());
        let mut all: Vec<_> = (1..=16).map(|n| fill(&slots, host(n), start)).collect();
        assert!(slots.held() > MAX_SLOTS - 2);
        all.extend((17..40).map(|n| fill(&slots, host(n), start)));
        assert_eq!(slots.held(), MAX_SLOTS);
        assert!(slots.take(host(99), 9, start).is_none());
        let (_slot, displaced) = slots.take(host(99), 9, start + GRACE).unwrap();
        assert_eq!((displaced, slots.held()), (Some(0), MAX_SLOTS));
        // Who has the most does not take of those who have less.
        all.iter().skip(1).flatten().for_each(|slot| slot.heard(start));
        all[0].iter().for_each(|slot| slot.heard(start));
        assert!(slots.take(host(1), 9, start + GRACE).is_none());
    }
}
