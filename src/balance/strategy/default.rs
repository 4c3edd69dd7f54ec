//! `default`: by priority. Nothing is measured, so every candidate scores the same and the tie order decides.

use super::{Candidate, Estimate, Strategy};
use crate::api::strategy::StrategyName;

/// By priority.
pub(super) struct Default;

impl Strategy for Default {
    fn name(&self) -> StrategyName {
        StrategyName::Default
    }

    fn score(&self, _candidate: &Candidate, _estimate: Estimate) -> f64 {
        0.0
    }
}
