//! Who is dialled next: by priority, and among equals by chance, so that not everybody dials the same peer first
//! (npm `shuffled-priority-queue` 2.1.0).

use crate::{PublicKey, peer::Priority, random::Random};

const CLASSES: usize = Priority::VeryHigh as usize + 1;

#[derive(Debug, Default)]
pub(crate) struct PeerQueue {
    classes: [Vec<PublicKey>; CLASSES],
}

impl PeerQueue {
    pub(crate) fn push(&mut self, peer: PublicKey, priority: Priority) {
        if let Some(class) = self.classes.get_mut(priority as usize) {
            class.push(peer);
        }
    }

    pub(crate) fn pop(&mut self, random: &mut Random) -> Option<PublicKey> {
        let class = self.classes.iter_mut().rev().find(|class| !class.is_empty())?;
        let index = random.below(class.len());
        Some(class.swap_remove(index))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.classes.iter().all(Vec::is_empty)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.classes.iter().flatten()
    }

    pub(crate) fn take(&mut self) -> Vec<PublicKey> {
        self.classes.iter_mut().flat_map(std::mem::take).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_priority_comes_first_and_nobody_is_lost() {
        let mut queue = PeerQueue::default();
        let mut random = Random::new(1);
        for key in 0..100u8 {
            let priority = match key % 3 {
                0 => Priority::Low,
                1 => Priority::Normal,
                _ => Priority::VeryHigh,
            };
            queue.push([key; 32], priority);
        }
        let order: Vec<u8> = std::iter::from_fn(|| queue.pop(&mut random)).map(|key| key[0]).collect();
        assert_eq!(order.len(), 100);
        let class = |key: &u8| [1, 2, 3][usize::from(*key % 3)];
        assert!(order.is_sorted_by_key(|key| std::cmp::Reverse(class(key))));
        assert!(!order[..30].is_sorted(), "among equals chance decides");
        assert!(queue.is_empty());
    }
}
