//! Requests that wait for their turn.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

/// A queue for each address, and the addresses taking turns, so that nobody who is asked a lot holds up the others.
#[derive(Debug)]
pub(crate) struct Lane<T> {
    queues: HashMap<SocketAddr, Queue<T>>,
    turns: VecDeque<SocketAddr>,
}

#[derive(Debug)]
struct Queue<T> {
    waiting: VecDeque<T>,
    /// Not in line for a turn.
    parked: bool,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self { queues: HashMap::new(), turns: VecDeque::new() }
    }
}

impl<T: PartialEq> Lane<T> {
    pub(crate) fn push(&mut self, to: SocketAddr, item: T) {
        let turns = &mut self.turns;
        let queue = self.queues.entry(to).or_insert_with(|| {
            turns.push_back(to);
            Queue { waiting: VecDeque::new(), parked: false }
        });
        queue.waiting.push_back(item);
    }

    /// Whose turn it is.
    pub(crate) fn turn(&self) -> Option<SocketAddr> {
        self.turns.front().copied()
    }

    /// The next item for whose turn it is, who then stands in line again.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let to = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&to)?;
        let item = queue.waiting.pop_front();
        if queue.waiting.is_empty() {
            self.queues.remove(&to);
        } else {
            self.turns.push_back(to);
        }
        item
    }

    /// Takes the address whose turn it is out of the line, until it is [woken](Self::wake).
    pub(crate) fn park(&mut self) {
        let Some(to) = self.turns.pop_front() else { return };
        if let Some(queue) = self.queues.get_mut(&to) {
            queue.parked = true;
        }
    }

    /// Puts an address back into the line.
    pub(crate) fn wake(&mut self, to: SocketAddr) {
        if let Some(queue) = self.queues.get_mut(&to)
            && queue.parked
        {
            queue.parked = false;
            self.turns.push_back(to);
        }
    }

    /// Takes an item out, wherever it stands.
    pub(crate) fn remove(&mut self, to: SocketAddr, item: &T) {
        let Some(queue) = self.queues.get_mut(&to) else { return };
        queue.waiting.retain(|other| other != item);
        if queue.waiting.is_empty() {
            self.queues.remove(&to);
            self.turns.retain(|other| *other != to);
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], n))
    }

    #[test]
    fn addresses_take_turns() {
        let mut lane = Lane::default();
        for n in 0..5 {
            lane.push(addr(1), n);
        }
        lane.push(addr(2), 10);
        lane.push(addr(2), 11);
        let order: Vec<i32> = std::iter::from_fn(|| lane.pop()).collect();
        assert_eq!(order, [0, 10, 1, 11, 2, 3, 4]);
        assert!(lane.queues.is_empty() && lane.turns.is_empty());
    }

    #[test]
    fn who_is_busy_waits_and_the_others_go_on() {
        let mut lane = Lane::default();
        lane.push(addr(1), 1);
        lane.push(addr(2), 2);
        assert_eq!(lane.turn(), Some(addr(1)));
        lane.park();
        lane.push(addr(1), 3);
        assert_eq!(lane.pop(), Some(2));
        assert_eq!(lane.turn(), None);
        lane.wake(addr(1));
        lane.wake(addr(1));
        lane.wake(addr(2));
        assert_eq!((lane.pop(), lane.pop(), lane.pop()), (Some(1), Some(3), None));
    }

    #[test]
    fn what_is_taken_out_leaves_nothing_behind() {
        let mut lane = Lane::default();
        for n in 0..3 {
            lane.push(addr(1), n);
        }
        lane.push(addr(2), 9);
        lane.remove(addr(1), &1);
        lane.remove(addr(2), &9);
        lane.remove(addr(3), &9);
        assert_eq!((lane.pop(), lane.pop(), lane.pop()), (Some(0), Some(2), None));
        assert!(lane.queues.is_empty() && lane.turns.is_empty());
    }
}
