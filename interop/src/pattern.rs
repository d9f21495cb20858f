//! Blocks that both sides can make from (index, size, salt) alone: the Rust half of `interop/js/pattern.js`.

/// The block at `index`: `size` bytes of xorshift32, seeded with the index and the salt.
pub fn block(index: u64, size: usize, salt: u32) -> Vec<u8> {
    // As JS does it: the index enters modulo 2^32.
    let seed = u32::try_from((index + 1) & u64::from(u32::MAX)).expect("masked to 32 bits");
    let mut x = (seed.wrapping_mul(0x9e37_79b1) ^ salt).max(1);
    let mut block = Vec::with_capacity(size + 3);
    while block.len() < size {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        block.extend_from_slice(&x.to_le_bytes());
    }
    block.truncate(size);
    block
}

/// BLAKE2b-512 over blocks, each preceded by its length: equal digests, equal blocks.
#[derive(Debug)]
pub struct Digest(blake2b_simd::State);

impl Default for Digest {
    fn default() -> Self {
        Self(blake2b_simd::State::new())
    }
}

impl Digest {
    /// Appends a block.
    pub fn add(&mut self, block: &[u8]) {
        self.0.update(&(block.len() as u64).to_le_bytes()).update(block);
    }

    /// The digest in hex, as the JS peers answer it.
    pub fn finish(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

/// The digest of pattern blocks `start..end`.
pub fn digest(start: u64, end: u64, size: usize, salt: u32) -> String {
    let mut digest = Digest::default();
    for index in start..end {
        digest.add(&block(index, size, salt));
    }
    digest.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_the_wanted_size_and_differ() {
        for size in [0, 1, 3, 4, 5, 100] {
            assert_eq!(block(7, size, 0).len(), size);
        }
        assert_ne!(block(0, 16, 0), block(1, 16, 0));
        assert_ne!(block(0, 16, 0), block(0, 16, 1));
    }
}
