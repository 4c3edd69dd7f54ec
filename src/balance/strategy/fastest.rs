//! `fastest`: least expected time of this request.
//!
//! Score = (time to first token + expected completion tokens × time per token) × what the load does to it, in milliseconds.
//! Both times come from [`RouteStats`](crate::balance::stats::RouteStats), where a failure is a penalty of seconds, so that a
//! provider that fails quickly does not look fast. Up to eight candidates the best is taken, or one within ten percent of it,
//! and up to three requests in a hundred explore; among more, the better of two that are drawn, which herds less.
//!
//! Whoever explores looks where nobody has looked for a while, and rarely where it would take long: uniform exploration cost more
//! than it found out, above all at low traffic while a route was many times slower than the others. A route that surprises is
//! looked at again soon, so that a recovery is not slept through.

use rand::rngs::SmallRng;

use super::{Strategy, draw};
use crate::api::strategy::StrategyName;
use crate::balance::Candidate;
use crate::balance::rank::{Context, Placed};
use crate::balance::reason::Reason;

/// Share of requests that explore.
const EXPLORE: f64 = 0.03;
/// Scores within this factor are the same.
const BAND: f64 = 1.1;
/// With more candidates than this, two are drawn.
const MANY: usize = 8;

/// Least expected time.
pub(super) struct Fastest;

impl Strategy for Fastest {
    fn name(&self) -> StrategyName {
        StrategyName::Fastest
    }

    fn score(&self, candidate: &Candidate, context: &Context<'_>) -> Option<f64> {
        Some(cost(candidate, context))
    }

    fn pick(&self, ready: &[Placed], _: &Context<'_>, random: &mut SmallRng) -> (usize, Reason) {
        let best = draw::best(ready);
        if let Some(explored) = draw::explore(EXPLORE, ready, |placed| worth_a_look(placed, best), random) {
            explored
        } else if ready.len() > MANY {
            draw::two_choices(ready, random)
        } else {
            draw::among_the_best(ready, band, random)
        }
    }
}

/// The expected time of this request at this candidate, in milliseconds.
pub fn cost(candidate: &Candidate, context: &Context<'_>) -> f64 {
    let request = context.request;
    let (ttft, tpot) = candidate.stats.speed(request.now, || context.usual_speed());
    let output = candidate.outputs.output(request.key, request.max_output);
    (ttft + output * tpot) * candidate.stats.load_factor(request.now)
}

/// The chance of a candidate that is drawn to be explored. One that was asked a moment ago tells nothing new, and the longer it is
/// expected to take, the more it costs to look: one that is twice as slow as the best is looked at half as often.
fn worth_a_look(placed: &Placed, best: f64) -> f64 {
    if placed.stale { best / placed.score } else { 0.0 }
}

/// Up to where a time is as good as the best.
pub(super) fn band(best: f64) -> f64 {
    best * BAND
}
