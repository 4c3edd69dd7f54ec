//! Chance that is the same in every run of a seed.

use std::time::Duration;

/// SplitMix64.
pub struct Dice(u64);

impl Dice {
    /// Dice of their own for this part of a run.
    pub fn of(seed: u64, parts: &[u64]) -> Self {
        let mut dice = Self(seed);
        for part in parts {
            dice = Self(dice.next() ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below the end.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// From the start to below the end.
    pub fn between(&mut self, start: u64, end: u64) -> u64 {
        start + self.below(end - start)
    }

    /// True in so many of a thousand.
    pub fn permille(&mut self, chance: u64) -> bool {
        self.below(1000) < chance
    }

    /// Milliseconds from the start to below the end.
    pub fn millis(&mut self, start: u64, end: u64) -> Duration {
        Duration::from_millis(self.between(start, end))
    }
}
