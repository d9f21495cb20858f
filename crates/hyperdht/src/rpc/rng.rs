//! Random numbers of a node, from a seed.

use blake2b_simd::Params;

/// BLAKE2b, keyed with the seed, over a counter: unpredictable for whoever does not know the seed, and the same again
/// for whoever does, which is what simulations need.
pub(crate) struct Rng {
    seed: [u8; 32],
    counter: u64,
    block: [u8; 64],
    used: usize,
}

impl std::fmt::Debug for Rng {
    /// Without the seed, which is a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rng").finish_non_exhaustive()
    }
}

impl Rng {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0, block: [0; 64], used: 64 }
    }

    pub(crate) fn bytes32(&mut self) -> [u8; 32] {
        let mut out = [0; 32];
        for byte in &mut out {
            *byte = self.byte();
        }
        out
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// A number below `limit`; 0 if that is 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let limit = limit.max(1) as u64;
        usize::try_from(self.u64() % limit).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        if self.used >= self.block.len() {
            let hash = Params::new().key(&self.seed).hash(&self.counter.to_le_bytes());
            self.block = *hash.as_array();
            self.counter = self.counter.wrapping_add(1);
            self.used = 0;
        }
        let byte = self.block.get(self.used).copied().unwrap_or_default();
        self.used += 1;
        byte
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_seed_others() {
        let draw = |seed| {
            let mut rng = Rng::new([seed; 32]);
            (0..100).map(|_| rng.u64()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn below_stays_below() {
        let mut rng = Rng::new([0; 32]);
        assert!((0..1000).all(|n| rng.below(n) < n.max(1)));
    }
}
