//! `fastest`: least expected time to the answer.
//!
//! Score = average latency × (1 + 0.02 × requests in flight) × (1 + 10 × error rate). The last factor keeps a provider that
//! fails quickly from looking fast. One that was never asked counts as one second, so that it is soon tried.

use super::{Candidate, Estimate, Strategy};
use crate::api::strategy::StrategyName;

/// Expected latency of a route without a sample, in milliseconds.
const SEED_MS: f64 = 1000.0;

/// Least expected time.
pub(super) struct Fastest;

impl Strategy for Fastest {
    fn name(&self) -> StrategyName {
        StrategyName::Fastest
    }

    fn score(&self, candidate: &Candidate, _estimate: Estimate) -> f64 {
        let stats = &candidate.stats;
        let load = 1.0 + 0.02 * stats.in_flight() as f64;
        stats.latency_ms().unwrap_or(SEED_MS) * load * (1.0 + 10.0 * stats.error_rate())
    }
}
