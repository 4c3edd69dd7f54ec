//! The ways in which strategies pick one of several candidates.

use rand::Rng;
use rand::rngs::SmallRng;

use super::fastest;
use crate::balance::rank::{Context, Placed};
use crate::balance::reason::Reason;

/// How often one is asked that should be asked soon, so that nobody has to wait for its chance.
const EAGER: f64 = 0.2;

/// With this probability, any of the candidates, unless its own `chance` is against it. One that waits for its probe or is
/// promising is explored before all others, and more often.
pub(super) fn explore(
    share: f64,
    ready: &[Placed],
    chance: impl Fn(&Placed) -> f64,
    random: &mut SmallRng,
) -> Option<(usize, Reason)> {
    let soon = ready.iter().position(|placed| placed.promising || placed.probe);
    let share = if soon.is_some() { EAGER } else { share };
    if ready.len() < 2 || !random.random_bool(share) {
        return None;
    }
    if let Some(place) = soon {
        return Some((place, Reason::Explore));
    }
    let place = random.random_range(0..ready.len());
    let chance = ready.get(place).map_or(0.0, chance);
    (random.random::<f64>() < chance).then_some((place, Reason::Explore))
}

/// The least score.
pub(super) fn best(ready: &[Placed]) -> f64 {
    ready.iter().map(|placed| placed.score).fold(f64::INFINITY, f64::min)
}

/// One of those whose score is within `band` of the best, all alike.
pub(super) fn among_the_best(ready: &[Placed], band: impl Fn(f64) -> f64, random: &mut SmallRng) -> (usize, Reason) {
    match tied(ready, band).as_slice() {
        [only] => (*only, Reason::Best),
        several => (one_of(several, random), Reason::Tie),
    }
}

/// The places of those whose score is within `band` of the best.
pub(super) fn tied(ready: &[Placed], band: impl Fn(f64) -> f64) -> Vec<usize> {
    let limit = band(best(ready));
    (0..).zip(ready).filter(|(_, placed)| placed.score <= limit).map(|(place, _)| place).collect()
}

/// One of those whose score is within `band` of the best: the quickest, or one that is about as quick.
pub(super) fn quickest_of_the_best(
    ready: &[Placed],
    band: impl Fn(f64) -> f64,
    context: &Context<'_>,
    random: &mut SmallRng,
) -> (usize, Reason) {
    let tied = tied(ready, band);
    if let [only] = tied.as_slice() {
        return (*only, Reason::Best);
    }
    let cost = |placed: &Placed| context.candidate(placed).map_or(f64::INFINITY, |it| fastest::cost(it, context));
    let speeds: Vec<(usize, f64)> = tied.iter().filter_map(|place| Some((*place, cost(ready.get(*place)?)))).collect();
    let limit = fastest::band(speeds.iter().map(|(_, cost)| *cost).fold(f64::INFINITY, f64::min));
    let quick: Vec<usize> = speeds.into_iter().filter(|(_, cost)| *cost <= limit).map(|(place, _)| place).collect();
    (one_of(&quick, random), Reason::Tie)
}

/// The better of two that are drawn.
pub(super) fn two_choices(ready: &[Placed], random: &mut SmallRng) -> (usize, Reason) {
    let first = random.random_range(0..ready.len());
    let second = (first + random.random_range(1..ready.len())) % ready.len();
    let score = |place: usize| ready.get(place).map_or(f64::INFINITY, |placed| placed.score);
    (if score(second) < score(first) { second } else { first }, Reason::TwoChoices)
}

/// One of these places.
pub(super) fn one_of(places: &[usize], random: &mut SmallRng) -> usize {
    places.get(random.random_range(0..places.len().max(1))).copied().unwrap_or_default()
}
