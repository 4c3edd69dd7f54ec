//! Strategies: a score for each candidate, lower is better. One file each, one line each in [`STRATEGIES`].
//!
//! The whole ranking is used: its rest is the fallback order. Ties keep the order of priority, then of the alias, then of
//! creation, so that a ranking is always the same for the same numbers.

mod cheapest;
mod default;
mod fastest;
mod reliable;

use super::{Candidate, Estimate};
use crate::api::strategy::StrategyName;

/// Scores one candidate for one request.
pub trait Strategy: Send + Sync {
    /// Its name.
    fn name(&self) -> StrategyName;
    /// Lower is better. Infinity is for a candidate that should only be tried when nothing else is left.
    fn score(&self, candidate: &Candidate, estimate: Estimate) -> f64;
}

/// Every strategy.
pub static STRATEGIES: [&dyn Strategy; 4] =
    [&fastest::Fastest, &cheapest::Cheapest, &reliable::Reliable, &default::Default];

/// The strategy of this name.
pub fn find(name: StrategyName) -> &'static dyn Strategy {
    STRATEGIES.into_iter().find(|strategy| strategy.name() == name).unwrap_or(&default::Default)
}

/// The candidates' slots, best first.
pub fn rank<'a>(
    strategy: &dyn Strategy,
    candidates: impl Iterator<Item = &'a Candidate>,
    estimate: Estimate,
) -> Vec<usize> {
    let mut scored: Vec<_> = candidates
        .map(|candidate| {
            let tie = (candidate.credential.priority, candidate.rank, candidate.slot);
            (strategy.score(candidate, estimate), tie)
        })
        .collect();
    scored.sort_by(|left, right| left.0.total_cmp(&right.0).then(left.1.cmp(&right.1)));
    scored.into_iter().map(|(_, (_, _, slot))| slot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_name_has_its_own_strategy() {
        let names: HashSet<_> = STRATEGIES.iter().map(|strategy| strategy.name()).collect();
        assert_eq!(names.len(), StrategyName::ALL.len());
        for name in StrategyName::ALL {
            assert_eq!(find(name).name(), name);
        }
    }
}
