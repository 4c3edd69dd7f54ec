//! What a model's requests turn out to be in tokens, per workspace: how far the prompt estimate is off, and how long answers
//! to each virtual key are.
//!
//! Answers per key live in a small table that forgets: two keys that fall on one place take turns, and a key without a place
//! has the model's average. It never grows.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::timed::{Counted, next_mean};

/// Places for keys.
const PLACES: usize = 64;
/// Completion tokens of a model that never answered.
pub const USUAL_OUTPUT: f64 = 256.0;
/// A correction beyond this is a miscount.
const PLAUSIBLE: std::ops::RangeInclusive<f64> = 0.1..=10.0;

/// Tokens of one model in one workspace.
#[derive(Debug)]
pub struct ModelStats {
    prompt_ratio: Counted,
    output: Counted,
    /// Each a mean in the low half, a tag of the key and a count in the high one.
    by_key: [AtomicU64; PLACES],
}

impl Default for ModelStats {
    fn default() -> Self {
        Self {
            prompt_ratio: Counted::default(),
            output: Counted::default(),
            by_key: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl ModelStats {
    /// Prompt tokens to expect for this estimate.
    pub fn prompt(&self, estimated: u64) -> f64 {
        estimated as f64 * self.prompt_ratio()
    }

    /// What this model's prompts turned out to be of their estimates.
    pub fn prompt_ratio(&self) -> f64 {
        self.prompt_ratio.get().unwrap_or(1.0)
    }

    /// Completion tokens to expect for this key, within what the client allows.
    pub fn output(&self, key: u64, limit: Option<u64>) -> f64 {
        let known = self.of_key(key).or_else(|| self.output.get());
        known.unwrap_or(USUAL_OUTPUT).min(limit.map_or(f64::INFINITY, |limit| limit as f64))
    }

    /// An answer had so many prompt tokens where so many had been estimated.
    pub fn saw_prompt(&self, actual: u64, estimated: u64) {
        let ratio = actual as f64 / estimated as f64;
        // An image is a few bytes of URL and a thousand tokens: no property of the model's tokenizer.
        if PLAUSIBLE.contains(&ratio) {
            self.prompt_ratio.add(ratio);
        }
    }

    /// An answer to this key had so many completion tokens.
    pub fn saw_output(&self, key: u64, tokens: u64) {
        self.output.add(tokens as f64);
        let Some(place) = self.place(key) else { return };
        let _ = place.fetch_update(Relaxed, Relaxed, |word| {
            let count = if tag(word) == tag_of(key) { ((word >> 32) & 0xffff) + 1 } else { 1 };
            let count = count.min(0xffff);
            let mean = next_mean(word as u32, count, tokens as f64);
            Some(u64::from(mean) | (count << 32) | (tag_of(key) << 48))
        });
    }

    fn of_key(&self, key: u64) -> Option<f64> {
        let word = self.place(key)?.load(Relaxed);
        let count = (word >> 32) & 0xffff;
        (count > 0 && tag(word) == tag_of(key)).then(|| f64::from(f32::from_bits(word as u32)))
    }

    fn place(&self, key: u64) -> Option<&AtomicU64> {
        self.by_key.get(usize::try_from(key % PLACES as u64).ok()?)
    }
}

const fn tag(word: u64) -> u64 {
    word >> 48
}

const fn tag_of(key: u64) -> u64 {
    key >> 48
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::hash;

    #[test]
    fn each_key_has_its_own_usual_length_and_a_new_one_the_models() {
        let stats = ModelStats::default();
        let (chatty, terse, new) = (hash("chatty"), hash("terse"), hash("new"));
        assert_eq!(stats.output(chatty, None), USUAL_OUTPUT);
        for _ in 0..50 {
            stats.saw_output(chatty, 2000);
            stats.saw_output(terse, 10);
        }
        assert_eq!((stats.output(chatty, None), stats.output(terse, None)), (2000.0, 10.0));
        assert!((500.0..1500.0).contains(&stats.output(new, None)), "{}", stats.output(new, None));
        assert_eq!(stats.output(chatty, Some(100)), 100.0, "the client allows no more");
    }

    #[test]
    fn the_estimate_learns_from_what_was_billed_but_not_from_images() {
        let stats = ModelStats::default();
        assert_eq!(stats.prompt(1000), 1000.0);
        (0..10).for_each(|_| stats.saw_prompt(1300, 1000));
        stats.saw_prompt(50_000, 100);
        stats.saw_prompt(0, 0);
        assert!((stats.prompt(1000) - 1300.0).abs() < 1.0);
    }
}
