//! Sums: attempts into roll-ups, latencies into histograms.
//!
//! Not here: where roll-ups are kept. Invariants: adding one by one and merging parts give the same sums; nothing wraps.

use super::{AttemptRecord, Histogram, Rollup};
use crate::error::ErrorKind;
use crate::usage::Certainty;

/// Buckets in one doubling.
const PER_DOUBLING: f64 = 4.0;

impl Rollup {
    /// Adds one attempt.
    pub fn add(&mut self, attempt: &AttemptRecord) {
        self.attempts += 1;
        self.errors += u64::from(attempt.error.as_deref().is_some_and(is_providers_fault));
        self.unpriced += u64::from(attempt.certainty == Certainty::Unpriced);
        self.estimated += u64::from(attempt.certainty == Certainty::Estimated);
        self.cost += attempt.cost;
        match attempt.certainty {
            Certainty::Exact => {}
            Certainty::Estimated => self.estimated_cost += attempt.cost,
            Certainty::Unpriced => {
                self.unpriced_tokens = self.unpriced_tokens.saturating_add(attempt.usage.total_tokens());
            }
        }
        self.usage.add(&attempt.usage);
        if attempt.error.is_none() {
            self.latency.add(attempt.latency_ms);
        }
    }

    /// Adds another day, or another provider.
    pub fn merge(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.errors += other.errors;
        self.unpriced += other.unpriced;
        self.estimated += other.estimated;
        self.cost += other.cost;
        self.estimated_cost += other.estimated_cost;
        self.unpriced_tokens = self.unpriced_tokens.saturating_add(other.unpriced_tokens);
        self.usage.add(&other.usage);
        self.latency.merge(&other.latency);
    }
}

/// Whether this code of the error table means that the provider, or our credential there, failed.
fn is_providers_fault(code: &str) -> bool {
    ErrorKind::from_code(code).is_some_and(|kind| kind.row().retryable || kind == ErrorKind::ProviderKeyInvalid)
}

impl Histogram {
    /// Adds one latency in milliseconds.
    pub fn add(&mut self, ms: u64) {
        self.count += 1;
        self.sum_ms = self.sum_ms.saturating_add(ms);
        *self.buckets.entry(bucket(ms)).or_default() += 1;
    }

    /// Adds what another histogram holds.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum_ms = self.sum_ms.saturating_add(other.sum_ms);
        for (bucket, count) in &other.buckets {
            *self.buckets.entry(*bucket).or_default() += count;
        }
    }

    /// The latency that this share (0 to 1) of all stays within, in milliseconds; right within 10 %. `None` when empty.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let rank = ((self.count as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        self.buckets.iter().find_map(|(bucket, count)| {
            seen += count;
            (seen >= rank).then(|| middle(*bucket))
        })
    }

    /// The mean in milliseconds, rounded. `None` when empty.
    pub fn average(&self) -> Option<u64> {
        self.sum_ms.saturating_add(self.count / 2).checked_div(self.count)
    }
}

/// Bucket 0 holds zero; bucket n + 1 begins at 2^(n/4) milliseconds.
fn bucket(ms: u64) -> u16 {
    if ms == 0 { 0 } else { 1 + ((ms as f64).log2() * PER_DOUBLING) as u16 }
}

/// The geometric middle of a bucket, which no member is further from than a factor of 2^(1/8).
fn middle(bucket: u16) -> u64 {
    match bucket.checked_sub(1) {
        None => 0,
        Some(n) => ((f64::from(n) + 0.5) / PER_DOUBLING).exp2().round() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::suite::attempt;
    use proptest::prelude::*;

    #[test]
    fn an_empty_histogram_knows_nothing() {
        assert_eq!(Histogram::default().quantile(0.5), None);
        assert_eq!(Histogram::default().average(), None);
    }

    #[test]
    fn small_latencies_come_back_as_they_were() {
        for ms in 0..8 {
            let mut histogram = Histogram::default();
            histogram.add(ms);
            assert_eq!(histogram.quantile(0.5), Some(ms));
        }
    }

    #[test]
    fn every_latency_has_a_bucket_and_none_overflows() {
        let mut histogram = Histogram::default();
        histogram.add(u64::MAX);
        histogram.add(u64::MAX);
        assert!(histogram.quantile(1.0).unwrap() > u64::MAX / 2);
        assert_eq!(histogram.sum_ms, u64::MAX);
    }

    proptest! {
        #[test]
        fn quantiles_are_right_within_ten_percent(mut all in prop::collection::vec(0_u64..10_000_000, 1..200), share in 0.0_f64..1.0) {
            let mut histogram = Histogram::default();
            all.iter().for_each(|ms| histogram.add(*ms));
            all.sort_unstable();
            let rank = ((all.len() as f64 * share).ceil() as usize).max(1);
            let (exact, told) = (all[rank - 1] as f64, histogram.quantile(share).unwrap() as f64);
            prop_assert!((told - exact).abs() <= exact * 0.1, "{told} for {exact}");
        }

        #[test]
        fn merging_parts_is_adding_all(left in prop::collection::vec(0_u64..100_000, 0..50), right in prop::collection::vec(0_u64..100_000, 0..50)) {
            let (mut one, mut two, mut all) = (Histogram::default(), Histogram::default(), Histogram::default());
            left.iter().for_each(|ms| one.add(*ms));
            right.iter().for_each(|ms| two.add(*ms));
            left.iter().chain(&right).for_each(|ms| all.add(*ms));
            one.merge(&two);
            prop_assert_eq!(one, all);
        }
    }

    #[test]
    fn only_the_providers_faults_are_its_errors_and_only_successes_have_a_latency() {
        let mut rollup = Rollup::default();
        rollup.add(&attempt("openai", None));
        rollup.add(&attempt("openai", Some("provider_timeout")));
        rollup.add(&attempt("openai", Some("provider_key_invalid")));
        rollup.add(&attempt("openai", Some("provider_rejected")));
        rollup.add(&attempt("openai", Some("client_gone")));
        assert_eq!((rollup.attempts, rollup.errors, rollup.latency.count), (5, 2, 1));
    }

    #[test]
    fn certainty_is_counted_and_merged_roll_ups_are_the_sum() {
        let mut unpriced = attempt("openai", None);
        unpriced.certainty = Certainty::Unpriced;
        let mut estimated = attempt("openai", None);
        estimated.certainty = Certainty::Estimated;
        let (mut one, mut two, mut all) = (Rollup::default(), Rollup::default(), Rollup::default());
        one.add(&unpriced);
        two.add(&estimated);
        all.add(&unpriced);
        all.add(&estimated);
        one.merge(&two);
        assert_eq!(one, all);
        assert_eq!((one.unpriced, one.estimated), (1, 1));
        assert_eq!(one.cost, unpriced.cost + estimated.cost);
        assert_eq!(one.usage.total_tokens(), 2 * unpriced.usage.total_tokens());
        assert_eq!((one.unpriced_tokens, one.estimated_cost), (unpriced.usage.total_tokens(), estimated.cost));
    }
}
