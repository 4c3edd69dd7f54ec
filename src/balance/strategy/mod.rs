//! Strategies: a score for each candidate, lower is better, and a draw among the best. One file each, one line each in
//! [`STRATEGIES`].
//!
//! A strategy is never pure argmin: candidates that are as good as the best share, or everyone would herd to one of them; and
//! those that measure explore a little, or they would never learn that another has become better.

pub mod cheapest;
mod default;
mod draw;
pub mod fastest;
mod reliable;
#[cfg(test)]
mod tests;

use rand::rngs::SmallRng;

use super::Candidate;
use super::rank::{Context, Placed};
use super::reason::Reason;
use crate::api::strategy::StrategyName;

/// Ranks the candidates of one request.
pub trait Strategy: Send + Sync {
    /// Its name.
    fn name(&self) -> StrategyName;

    /// Lower is better. Nothing for a candidate that it can't judge, which is asked when nobody else is left.
    fn score(&self, candidate: &Candidate, context: &Context<'_>) -> Option<f64>;

    /// Whether it asks candidates that have failed lately after all others, because its score does not show failures.
    fn is_gated(&self) -> bool {
        false
    }

    /// The place of the one to ask, and why. There is at least one.
    fn pick(&self, ready: &[Placed], context: &Context<'_>, random: &mut SmallRng) -> (usize, Reason);
}

/// Every strategy.
pub static STRATEGIES: [&dyn Strategy; 4] =
    [&fastest::Fastest, &cheapest::Cheapest, &reliable::Reliable, &default::Default];

/// The strategy of this name.
pub fn find(name: StrategyName) -> &'static dyn Strategy {
    STRATEGIES.into_iter().find(|strategy| strategy.name() == name).unwrap_or(&default::Default)
}
