//! How many nodes of a block's path have to be asked for.
//!
//! A proof ends at the first node of the path that the asker knows. npm `hypercore` 11 looks at what is stored
//! (`missingNodes` in `lib/merkle-tree.js`). Here the nodes that earlier requests to the same peer will bring are
//! counted as known, too: answers come in order, so in a run of blocks every node travels once. Where the answer
//! does not come after all, the later proof does not connect, and its block is asked for again.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Levels below a node under way for which storage is not asked: a node too many costs less than a look.
const CHEAP_LEVELS: u8 = 3;
/// Levels of a tree over 2^64 blocks.
const MAX_LEVELS: u8 = 63;

/// The nodes that requests to one peer will bring.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    nodes: HashMap<u64, u16, BuildHasherDefault<IndexHasher>>,
}

impl Expected {
    /// How many siblings the proof of block `index` needs in a tree of `length` blocks.
    pub(crate) fn missing_nodes<E>(
        &self,
        index: u64,
        length: u64,
        mut is_stored: impl FnMut(u64) -> Result<bool, E>,
    ) -> Result<u8, E> {
        if index >= length {
            return Ok(0); // not in the tree yet: the upgrade that comes along carries the path
        }
        let top = levels_inside(index, length);
        let expected = if self.nodes.is_empty() {
            None
        } else {
            (0..=top).find(|level| self.nodes.contains_key(&node_at(index, *level)))
        };
        let limit = match expected {
            Some(level) if level <= CHEAP_LEVELS => return Ok(level),
            Some(level) => level,
            None => top,
        };
        for level in 0..limit {
            if is_stored(node_at(index, level))? {
                return Ok(level);
            }
        }
        Ok(limit)
    }

    /// A request for block `index` with this many siblings is under way.
    pub(crate) fn add(&mut self, index: u64, nodes: u8) {
        for level in 0..nodes {
            *self.nodes.entry(node_at(index, level)).or_default() += 1;
            *self.nodes.entry(sibling_at(index, level)).or_default() += 1;
        }
    }

    /// It is not any more.
    pub(crate) fn remove(&mut self, index: u64, nodes: u8) {
        for level in 0..nodes {
            for node in [node_at(index, level), sibling_at(index, level)] {
                if let Some(count) = self.nodes.get_mut(&node) {
                    *count -= 1;
                    if *count == 0 {
                        self.nodes.remove(&node);
                    }
                }
            }
        }
        if self.nodes.is_empty() && self.nodes.capacity() > 64 {
            self.nodes = HashMap::default(); // an idle peer keeps nothing
        }
    }
}

/// The flat-tree index of the node above block `index` at a level (the block's leaf is level 0).
pub(crate) fn node_at(index: u64, level: u8) -> u64 {
    flat_index(level, index >> level)
}

fn sibling_at(index: u64, level: u8) -> u64 {
    flat_index(level, (index >> level) ^ 1)
}

fn flat_index(level: u8, offset: u64) -> u64 {
    // (2 * offset + 1) * 2^level - 1, without overflow for any index that a tree can have
    offset.wrapping_mul(2).wrapping_add(1).wrapping_shl(u32::from(level)).wrapping_sub(1)
}

/// The level of the root above block `index` in a tree of `length` blocks.
fn levels_inside(index: u64, length: u64) -> u8 {
    (1..=MAX_LEVELS)
        .find(|level| {
            let offset = index >> level;
            let end = offset.checked_add(1).and_then(|end| end.checked_mul(1 << level));
            end.is_none_or(|end| end > length)
        })
        .map_or(MAX_LEVELS, |level| level - 1)
}

/// The roots of a tree of `length` blocks.
pub(crate) fn roots(length: u64) -> impl Iterator<Item = u64> {
    let mut at = 0;
    (0..64u8).rev().filter(move |level| length >> level & 1 == 1).map(move |level| {
        let offset = at >> level;
        at += 1 << level;
        flat_index(level, offset)
    })
}

/// A hasher for indices that nobody iterates over: one multiplication.
#[derive(Debug, Default)]
pub(crate) struct IndexHasher(u64);

impl Hasher for IndexHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    /// Downloads blocks in an order, `window` at a time, and counts the nodes that travel.
    fn travelled(order: &[u64], length: u64, window: usize) -> usize {
        let mut stored: BTreeSet<u64> = roots(length).collect();
        let mut expected = Expected::default();
        let mut sent = Vec::new();
        let mut total = 0;
        for chunk in order.chunks(window) {
            for index in chunk {
                let nodes = expected
                    .missing_nodes(*index, length, |node| Ok::<_, Infallible>(stored.contains(&node)))
                    .unwrap();
                expected.add(*index, nodes);
                total += usize::from(nodes);
                sent.push((*index, nodes));
            }
            for (index, nodes) in sent.drain(..) {
                let top = node_at(index, nodes);
                assert!(stored.contains(&top), "the proof of {index} ends at {top}, which is not known");
                for level in 0..nodes {
                    stored.insert(node_at(index, level));
                    stored.insert(sibling_at(index, level));
                }
                expected.remove(index, nodes);
            }
        }
        assert!(expected.nodes.is_empty());
        total
    }

    #[test]
    fn every_node_of_a_run_travels_once() {
        let order: Vec<u64> = (0..1_000).collect();
        // A tree over n leaves has n - (number of roots) parents below which one sibling each has to come.
        let least = 1_000 - roots(1_000).count();
        assert_eq!(travelled(&order, 1_000, 1), least);
        assert_eq!(travelled(&order, 1_000, 64), least);
        assert_eq!(travelled(&order, 1_000, 1_000), least);
    }

    #[test]
    fn proofs_connect_in_any_order() {
        let mut order: Vec<u64> = (0..777).collect();
        let mut random = crate::random::Random::new(7);
        for i in 0..order.len() {
            order.swap(i, random.below(777) as usize);
        }
        assert!(travelled(&order, 777, 50) < 777 * 4);
    }

    #[test]
    fn roots_are_those_of_flat_tree() {
        assert_eq!(roots(0).count(), 0);
        assert_eq!(roots(1).collect::<Vec<_>>(), [0]);
        assert_eq!(roots(7).collect::<Vec<_>>(), [3, 9, 12]);
        assert_eq!(levels_inside(6, 7), 0);
        assert_eq!(levels_inside(5, 7), 1);
        assert_eq!(levels_inside(0, 7), 2);
        assert_eq!(levels_inside(u64::MAX >> 1, u64::MAX), 63);
    }
}
