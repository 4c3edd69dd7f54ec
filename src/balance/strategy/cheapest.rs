//! `cheapest`: least expected cost of this request.
//!
//! Score = expected prompt tokens × input price + expected completion tokens × output price. A candidate whose price is
//! unknown comes last: unknown is not free.

use super::{Candidate, Estimate, Strategy};
use crate::api::strategy::StrategyName;
use crate::money::Money;

/// Least expected cost.
pub(super) struct Cheapest;

impl Strategy for Cheapest {
    fn name(&self) -> StrategyName {
        StrategyName::Cheapest
    }

    fn score(&self, candidate: &Candidate, estimate: Estimate) -> f64 {
        let cost =
            candidate.prices.as_ref().map(|prices| prices.expected(estimate.prompt_tokens, estimate.output_tokens));
        cost.map_or(f64::INFINITY, Money::dollars)
    }
}
