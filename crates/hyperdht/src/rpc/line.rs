//! The line in which requests of others wait for the application.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::sender::Sender;

/// A bounded number of items, each put down to a sender. The senders take turns, and when the line is full, room is made
/// by those who have the most in it: who floods us fills the line for himself, and holds up nobody else.
#[derive(Debug)]
pub(crate) struct Line<T> {
    max: usize,
    len: usize,
    waiting: HashMap<Sender, VecDeque<T>>,
    turns: VecDeque<Sender>,
    /// The senders by how much they have in line.
    by_len: BTreeSet<(usize, Sender)>,
}

impl<T> Line<T> {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, len: 0, waiting: HashMap::new(), turns: VecDeque::new(), by_len: BTreeSet::new() }
    }

    /// Lets an item stand in line; false when one had to go for it, or it had to go itself.
    pub(crate) fn push(&mut self, sender: Sender, item: T) -> bool {
        let full = self.len >= self.max;
        if full && !self.make_room(sender) {
            return false;
        }
        let waiting = self.waiting.entry(sender).or_default();
        self.by_len.remove(&(waiting.len(), sender));
        if waiting.is_empty() {
            self.turns.push_back(sender);
        }
        waiting.push_back(item);
        self.by_len.insert((waiting.len(), sender));
        self.len += 1;
        !full
    }

    /// The next item of whose turn it is, who then stands behind the others.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let sender = self.turns.pop_front()?;
        let waiting = self.waiting.get_mut(&sender)?;
        self.by_len.remove(&(waiting.len(), sender));
        let item = waiting.pop_front()?;
        self.len -= 1;
        if waiting.is_empty() {
            self.waiting.remove(&sender);
        } else {
            self.by_len.insert((waiting.len(), sender));
            self.turns.push_back(sender);
        }
        Some(item)
    }

    /// Drops the latest item of whoever has the most, if that is more than this sender is going to have.
    fn make_room(&mut self, sender: Sender) -> bool {
        let has = self.waiting.get(&sender).map_or(0, VecDeque::len);
        let Some((most, whose)) = self.by_len.last().copied().filter(|(most, _)| *most > has + 1) else {
            return false;
        };
        let Some(waiting) = self.waiting.get_mut(&whose) else { return false };
        waiting.pop_back();
        self.by_len.remove(&(most, whose));
        self.by_len.insert((most - 1, whose));
        self.len -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sender(n: u8) -> Sender {
        Sender::of(([10, 0, 0, n], 1).into())
    }

    fn rest<T>(line: &mut Line<T>) -> Vec<T> {
        std::iter::from_fn(|| line.pop()).collect()
    }

    #[test]
    fn senders_take_turns() {
        let mut line = Line::new(100);
        for n in 0..4 {
            assert!(line.push(sender(1), n));
        }
        assert!(line.push(sender(2), 10) && line.push(sender(2), 11));
        assert_eq!(rest(&mut line), [0, 10, 1, 11, 2, 3]);
    }

    #[test]
    fn a_full_line_has_room_for_who_has_less_in_it() {
        let mut line = Line::new(8);
        for n in 0..1000 {
            assert_eq!(line.push(sender(1), n), n < 8);
        }
        assert!(!line.push(sender(2), 1001), "one has to go");
        assert_eq!(line.len, 8);
        assert_eq!(rest(&mut line), [0, 1001, 1, 2, 3, 4, 5, 6]);

        // All have as much: who comes last has to go.
        for n in 0..9 {
            assert_eq!(line.push(sender(n), n.into()), n < 8);
        }
        assert_eq!(rest(&mut line), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    proptest! {
        #[test]
        fn counts_what_it_has(steps in proptest::collection::vec((0..6u8, any::<bool>()), 0..300)) {
            let mut line = Line::new(10);
            for (n, push) in steps {
                if push { line.push(sender(n), n); } else { line.pop(); }
                prop_assert_eq!(line.len, line.waiting.values().map(VecDeque::len).sum::<usize>());
                prop_assert!(line.len <= 10 && line.turns.len() == line.waiting.len());
                let lens = line.waiting.iter().map(|(sender, waiting)| (waiting.len(), *sender));
                prop_assert_eq!(&line.by_len, &lens.collect::<BTreeSet<_>>());
            }
            let len = line.len;
            prop_assert_eq!(rest(&mut line).len(), len);
        }
    }
}
