//! The ways in which strategies pick one of several candidates.

use rand::Rng;
use rand::rngs::SmallRng;

use super::fastest;
use crate::balance::rank::{Context, Placed};
use crate::balance::reason::Reason;

/// How often one that was never asked is asked, so that nobody has to wait for its chance.
const NEWCOMER: f64 = 0.2;

/// With this probability, any of the candidates; one that waits for its probe before all others. One that was never asked is
/// explored more often.
pub(super) fn explore(share: f64, ready: &[Placed], random: &mut SmallRng) -> Option<(usize, Reason)> {
    let wanted = |wanted: fn(&Placed) -> bool| ready.iter().position(wanted);
    let new = wanted(|placed| placed.new);
    let share = if new.is_some() { NEWCOMER } else { share };
    if ready.len() < 2 || !random.random_bool(share) {
        return None;
    }
    let place = new.or_else(|| wanted(|placed| placed.probe));
    Some((place.unwrap_or_else(|| random.random_range(0..ready.len())), Reason::Explore))
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
    let best = ready.iter().map(|placed| placed.score).fold(f64::INFINITY, f64::min);
    let limit = band(best);
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
