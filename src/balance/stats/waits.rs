//! The distribution of a route's times to first token: a histogram with equal steps of ratio, halved when it is full, so that
//! it follows a route that changes.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Upper edge of the first bucket, in milliseconds.
const FIRST_MS: f64 = 10.0;
/// Each bucket's edge over the one before: a quantile is at most this much too long.
const RATIO: f64 = 1.16;
/// The last edge is at about two minutes.
const BUCKETS: usize = 64;
/// At so many samples all counts are halved.
const FULL: u32 = 512;
/// Fewer samples say nothing about one in twenty.
const FEWEST: u32 = 20;

/// A histogram.
#[derive(Debug)]
pub(super) struct Waits {
    counts: [AtomicU32; BUCKETS],
    total: AtomicU32,
}

impl Default for Waits {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| AtomicU32::new(0)), total: AtomicU32::new(0) }
    }
}

impl Waits {
    /// Takes a sample in.
    pub(super) fn add(&self, millis: f64) {
        let place = (millis.max(FIRST_MS) / FIRST_MS).ln() / RATIO.ln();
        let place = (place.ceil() as usize).min(BUCKETS - 1);
        if let Some(count) = self.counts.get(place) {
            count.fetch_add(1, Relaxed);
        }
        if self.total.fetch_add(1, Relaxed) + 1 >= FULL {
            self.halve();
        }
    }

    /// A writer that comes in between loses its sample, which a quantile can bear.
    fn halve(&self) {
        let left = self.counts.iter().map(|count| {
            let half = count.load(Relaxed) / 2;
            count.store(half, Relaxed);
            half
        });
        self.total.store(left.sum(), Relaxed);
    }

    /// The time within which this share of the samples came; nothing while there are too few to decide by.
    pub(super) fn quantile(&self, share: f64) -> Option<Duration> {
        let counts = self.counts.iter().map(|count| count.load(Relaxed));
        (counts.sum::<u32>() >= FEWEST).then(|| self.quantile_of_any(share)).flatten()
    }

    /// The same of however few there are.
    pub(super) fn quantile_of_any(&self, share: f64) -> Option<Duration> {
        let counts: Vec<u32> = self.counts.iter().map(|count| count.load(Relaxed)).collect();
        let total: u32 = counts.iter().sum();
        if total == 0 {
            return None;
        }
        let rank = ((f64::from(total) * share).ceil() as u32).max(1);
        let mut seen = 0;
        let place = counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        let millis = FIRST_MS * RATIO.powi(i32::try_from(place).ok()?);
        Some(Duration::from_secs_f64(millis / 1000.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_twenty_waits_longer_than_the_p95() {
        let waits = Waits::default();
        (1..=10).for_each(|millis| waits.add(f64::from(millis) * 100.0));
        assert_eq!(waits.quantile(0.95), None, "ten samples say nothing about one in twenty");
        (11..=100).for_each(|millis| waits.add(f64::from(millis) * 100.0));
        let p95 = waits.quantile(0.95).unwrap().as_secs_f64();
        assert!((9.5..9.5 * RATIO).contains(&p95), "{p95}");
    }

    #[test]
    fn a_route_that_became_quick_is_believed_after_a_while() {
        let waits = Waits::default();
        (0..500).for_each(|_| waits.add(9000.0));
        (0..4000).for_each(|_| waits.add(200.0));
        assert!(waits.quantile(0.95).unwrap() < Duration::from_millis(250));
        waits.add(1e9);
        assert!(waits.quantile(1.0).unwrap() < Duration::from_secs(200), "beyond the last edge is the last bucket");
    }
}
