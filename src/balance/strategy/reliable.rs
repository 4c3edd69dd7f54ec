//! `reliable`: lowest smoothed error rate; within half a percentage point, candidates count as equal.

use super::{Candidate, Estimate, Strategy};
use crate::api::strategy::StrategyName;

/// Error rates closer than this are the same.
const BAND: f64 = 0.005;

/// Lowest error rate.
pub(super) struct Reliable;

impl Strategy for Reliable {
    fn name(&self) -> StrategyName {
        StrategyName::Reliable
    }

    fn score(&self, candidate: &Candidate, _estimate: Estimate) -> f64 {
        (candidate.stats.error_rate() / BAND).round()
    }
}
