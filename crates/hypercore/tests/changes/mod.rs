//! Changes of logs that depend on nothing but a number, for tests that kill the writer or the machine.

// Each test uses a part of it.
#![allow(dead_code, unreachable_pub)]

use bytes::Bytes;
use hypercore::core::CoreOptions;
use hypercore::{Core, KeyPair};

/// One change of a log. Which one it is depends on the log, its number and the length before, and on nothing else.
pub fn change(core: &mut Core, log: u8, number: u64) {
    let mut random = Random(number.wrapping_mul(977).wrapping_add(u64::from(log)));
    let length = core.length();
    let block = |random: &mut Random, index: u64| {
        let size = if random.below(4) == 0 { 9_000 } else { 300 };
        let mut bytes = format!("log {log} change {number} block {index} ").into_bytes();
        bytes.resize(random.below(size) as usize + 40, b'.');
        Bytes::from(bytes)
    };
    match random.below(16) {
        0 if length > 0 => core.truncate(random.below(length)).unwrap(),
        1 if length > 600 => core.truncate(random.below(50)).unwrap(),
        2 if length > 0 => {
            let start = random.below(length);
            let end = start + random.below(20);
            core.clear(start..end).unwrap();
        }
        3 => core.set_user_data("number", Some(&number.to_le_bytes())).unwrap(),
        kind => {
            let count = match kind {
                4 => 150,
                5..9 => 1,
                _ => 1 + random.below(16),
            };
            let blocks: Vec<Bytes> =
                (length..length + count).map(|index| block(&mut random, index)).collect();
            core.append(&blocks).unwrap();
        }
    }
}

/// Of log number `log`.
pub fn options(log: u8) -> CoreOptions {
    CoreOptions { key_pair: Some(KeyPair::from_seed(&[log; 32])), ..CoreOptions::default() }
}

/// What makes two logs differ.
pub fn difference(model: &Core, stored: &Core) -> Option<String> {
    let state = |core: &Core| {
        (core.length(), core.byte_length(), core.fork(), core.contiguous_length(), core.tree_hash())
    };
    if state(model) != state(stored) {
        return Some(format!("{:?} is stored, not {:?}", state(stored), state(model)));
    }
    if model.head().signature != stored.head().signature {
        return Some("the signature differs".into());
    }
    if model.user_data("number").unwrap() != stored.user_data("number").unwrap() {
        return Some("the user data differ".into());
    }
    (0..model.length()).find_map(|index| {
        let (expected, found) = (model.get(index).unwrap(), stored.get(index).unwrap());
        let there = stored.store().read().block(index).unwrap();
        (expected != found || there != found).then(|| format!("block {index} differs"))
    })
}

/// Reproducible randomness (SplitMix64).
pub struct Random(pub u64);

impl Random {
    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit.max(1)
    }
}
