//! Random choices that a seed determines: which announcers a lookup shows. Nothing secret hangs on them.

#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound` (0 when that is 0).
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.next()) * bound as u128;
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// At most `count` different numbers below `bound`, every choice equally likely (Floyd's way).
    pub(super) fn distinct(&mut self, bound: usize, count: usize) -> Vec<usize> {
        if bound <= count {
            return (0..bound).collect();
        }
        let mut chosen = Vec::with_capacity(count);
        for top in bound - count..bound {
            let lot = self.below(top + 1);
            chosen.push(if chosen.contains(&lot) { top } else { lot });
        }
        chosen
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_chosen_about_equally_often() {
        let mut random = Random::new(1);
        let mut counts = [0u32; 10];
        for _ in 0..10_000 {
            let chosen = random.distinct(10, 3);
            assert!(
                chosen.len() == 3
                    && chosen[0] != chosen[1]
                    && chosen[1] != chosen[2]
                    && chosen[0] != chosen[2]
            );
            for n in chosen {
                counts[n] += 1;
            }
        }
        assert!(counts.iter().all(|count| (2_700..3_300).contains(count)), "{counts:?}");
        assert_eq!(random.distinct(2, 3), [0, 1]);
        assert_eq!(random.below(0), 0);
    }
}
