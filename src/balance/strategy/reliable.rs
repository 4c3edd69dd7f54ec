//! `reliable`: lowest error rate.
//!
//! Score = the smoothed, decayed share of failures. Rates within half a percentage point are the same, and among those the
//! quickest is taken; two requests in a hundred explore. A 429, a client's error and a client that left are no failures.

use rand::rngs::SmallRng;

use super::{Strategy, draw};
use crate::api::strategy::StrategyName;
use crate::balance::Candidate;
use crate::balance::rank::{Context, Placed};
use crate::balance::reason::Reason;

/// Share of requests that explore.
const EXPLORE: f64 = 0.02;
/// Error rates closer than this are the same.
const BAND: f64 = 0.005;

/// Lowest error rate.
pub(super) struct Reliable;

impl Strategy for Reliable {
    fn name(&self) -> StrategyName {
        StrategyName::Reliable
    }

    fn score(&self, candidate: &Candidate, context: &Context<'_>) -> Option<f64> {
        Some(candidate.stats.error_rate(context.request.now))
    }

    fn pick(&self, ready: &[Placed], context: &Context<'_>, random: &mut SmallRng) -> (usize, Reason) {
        draw::explore(EXPLORE, ready, |_| 1.0, random)
            .unwrap_or_else(|| draw::quickest_of_the_best(ready, |best| best + BAND, context, random))
    }
}
