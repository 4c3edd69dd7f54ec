//! `default`: by priority; equal priorities share by weight.
//!
//! Score = the priority, and after the decimal point the place in the alias. Nothing is measured, except that who has failed
//! lately comes after who has not. An alias lists its models in an order: that order stands among equal priorities as long as
//! nobody has given them different weights.

use rand::Rng;
use rand::rngs::SmallRng;

use super::{Strategy, draw};
use crate::api::strategy::StrategyName;
use crate::balance::Candidate;
use crate::balance::rank::{Context, Placed};
use crate::balance::reason::Reason;

/// What a place in an alias adds to a priority: less than any priority does.
const PLACE: f64 = 1e-6;

/// By priority.
pub(super) struct Default;

impl Strategy for Default {
    fn name(&self) -> StrategyName {
        StrategyName::Default
    }

    fn score(&self, candidate: &Candidate, _: &Context<'_>) -> Option<f64> {
        Some(f64::from(candidate.credential.priority) + candidate.rank as f64 * PLACE)
    }

    fn is_gated(&self) -> bool {
        true
    }

    fn pick(&self, ready: &[Placed], context: &Context<'_>, random: &mut SmallRng) -> (usize, Reason) {
        let weight = |place: &usize| {
            let candidate = ready.get(*place).and_then(|placed| context.candidate(placed));
            candidate.map_or(0, |candidate| u64::from(candidate.credential.weight))
        };
        let mut tier = draw::tied(ready, |best| best.floor() + 0.5);
        let mut weights = tier.iter().map(weight);
        let first = weights.next();
        if weights.all(|weight| Some(weight) == first) {
            tier = draw::tied(ready, |best| best);
        }
        if let [only] = tier.as_slice() {
            return (*only, Reason::Best);
        }
        let mut left = random.random_range(0..tier.iter().map(weight).sum::<u64>().max(1));
        let drawn = tier.iter().find(|place| match left.checked_sub(weight(place)) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        (drawn.copied().unwrap_or_default(), Reason::Weight)
    }
}
