//! `cheapest`: least expected cost of this request.
//!
//! Score = expected prompt tokens × input price + expected completion tokens × output price. A candidate whose price is
//! unknown comes last: unknown is not free.

use super::{Candidate, Estimate, Strategy};
use crate::api::strategy::StrategyName;

/// Least expected cost.
pub(super) struct Cheapest;

impl Strategy for Cheapest {
    fn name(&self) -> StrategyName {
        StrategyName::Cheapest
    }

    fn score(&self, candidate: &Candidate, estimate: Estimate) -> f64 {
        let Some(prices) = &candidate.prices else { return f64::INFINITY };
        let rates = prices.for_prompt(estimate.prompt_tokens);
        let cost = rates.input.times(estimate.prompt_tokens) + rates.output.times(estimate.output_tokens);
        cost.dollars()
    }
}
