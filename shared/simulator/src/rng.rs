//! The source of all choices in a schedule.

/// Numbers that follow from a seed alone: SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>).
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) const fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, or 0 if that is 0. (The bounds here are so small that the bias is none.)
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    /// A number from `least` to `most`.
    pub(crate) fn within(&mut self, least: u8, most: u8) -> u8 {
        let span = usize::from(most.saturating_sub(least)) + 1;
        least + u8::try_from(self.below(span)).unwrap_or(0)
    }

    /// Yes, in so many of a thousand cases.
    pub(crate) fn chance(&mut self, per_mille: u16) -> bool {
        self.below(1_000) < usize::from(per_mille)
    }
}
