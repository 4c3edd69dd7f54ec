//! Who can be asked now, in which order, and why; who can not, and why not.
//!
//! First the exclusions that hold for every strategy, then the strategy's scores, then its draw among the best. What is
//! excluded by an opinion only (no price, over the deadline, unhealthy) is asked when nothing else is left, and so is a route
//! whose breaker is open, once most of the group's are: then the breakers say more about us than about the providers.
//!
//! No clock and no randomness of its own: both are in the [`Request`].

use std::cell::OnceCell;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::breaker::State;
use super::reason::{Excluded, Reason};
use super::request::Request;
use super::stats::{SEED_TPOT_MS, SEED_TTFT_MS};
use super::strategy::{self, Strategy, fastest};
use super::{Candidate, Moment};

/// From this error rate on, a route that has failed within [`OUTAGE_MS`] is behind every healthy one.
const UNHEALTHY: f64 = 0.2;
/// Attempts, decayed, that are enough to judge by: fewer are left to the breaker.
const ENOUGH: f64 = 8.0;
/// How long ago a failure still counts for that.
const OUTAGE_MS: u64 = 30_000;

/// A candidate in its place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placed {
    /// Its slot.
    pub slot: usize,
    /// The strategy's score, lower is better; the unit is the strategy's own.
    pub score: f64,
    /// Why it has this place.
    pub reason: Reason,
    /// Better classes come first, whatever the score.
    class: Class,
    /// Asking it would be the probe of a route that was open.
    pub probe: bool,
    /// It should be asked soon: new, or surprisingly quick lately.
    pub promising: bool,
    /// Nobody knows how it does now.
    pub stale: bool,
}

/// What can be said against a candidate that can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Ready,
    Unhealthy,
    OverDeadline,
    NoPrice,
    SlowStart,
    Open,
}

/// An order, best first, and who is not in it.
#[derive(Clone, Debug, Default)]
pub struct Ranking {
    order: Vec<Placed>,
    /// Slots, and why they are not asked.
    pub excluded: Vec<(usize, Excluded)>,
    /// How many of `order` stand where they belong.
    sorted: usize,
}

/// What scores are made from, beside the candidate.
pub struct Context<'a> {
    /// The request.
    pub request: &'a Request,
    candidates: &'a [Arc<Candidate>],
    usual: OnceCell<(f64, f64)>,
}

impl Context<'_> {
    /// The median of the speeds in this group as they were measured last: milliseconds to the first token and per token. Of an
    /// even number the slower one, or of two routes the slower would soon be thought as quick as the other.
    pub fn usual_speed(&self) -> (f64, f64) {
        *self.usual.get_or_init(|| {
            let now = self.request.now;
            let (mut ttft, mut tpot): (Vec<_>, Vec<_>) =
                self.candidates.iter().filter_map(|candidate| candidate.stats.measured_speed(now)).unzip();
            (median(&mut ttft).unwrap_or(SEED_TTFT_MS), median(&mut tpot).unwrap_or(SEED_TPOT_MS))
        })
    }
}

fn median(values: &mut [f64]) -> Option<f64> {
    let middle = values.len() / 2;
    (!values.is_empty()).then(|| *values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

impl Ranking {
    /// The candidate at this place, if there are so many. The first is there at once, the rest is sorted when it is asked for.
    pub fn get(&mut self, place: usize) -> Option<&Placed> {
        if place >= self.sorted {
            self.sort();
        }
        self.order.get(place)
    }

    /// The whole order.
    pub fn into_order(mut self) -> Vec<Placed> {
        self.sort();
        self.order
    }

    fn sort(&mut self) {
        if let Some(rest) = self.order.get_mut(self.sorted..) {
            rest.sort_by(|a, b| a.class.cmp(&b.class).then(a.score.total_cmp(&b.score)).then(a.slot.cmp(&b.slot)));
            self.sorted = self.order.len();
        }
    }
}

/// Ranks the candidates of a group, which stand at their slots.
pub fn rank(candidates: &[Arc<Candidate>], request: &Request) -> Ranking {
    let strategy = strategy::find(request.strategy);
    let context = Context { request, candidates, usual: OnceCell::new() };
    let panic = panics(candidates, request);
    let mut ranking = Ranking { order: Vec::with_capacity(candidates.len()), ..Ranking::default() };
    for candidate in candidates {
        let against = match excluded(candidate, request) {
            None => Class::Ready,
            Some(Excluded::Open) if panic => Class::Open,
            Some(Excluded::SlowStart) if panic => Class::SlowStart,
            Some(why) => {
                ranking.excluded.push((candidate.slot, why));
                continue;
            }
        };
        ranking.order.push(placed(strategy, candidate, &context, against));
    }
    ranking.keep_the_best_class();
    ranking.draw(strategy, &context);
    ranking
}

/// Whether breakers are ignored: they keep more than half of the group, or nobody else can be asked at all.
fn panics(candidates: &[Arc<Candidate>], request: &Request) -> bool {
    let closed = |candidate: &Candidate| !candidate.stats.breaker.admits(request.now);
    let kept = candidates.iter().filter(|candidate| closed(candidate)).count();
    let first = request.tried.is_empty();
    kept > 0
        && (kept * 2 > candidates.len()
            || (first && candidates.iter().all(|candidate| excluded(candidate, request).is_some())))
}

/// Why a candidate can't be asked now, whatever the strategy says.
pub fn excluded(candidate: &Candidate, request: &Request) -> Option<Excluded> {
    let Request { now, tried, .. } = request;
    if tried.iter().any(|slot| *slot as usize == candidate.slot) {
        return Some(Excluded::Tried);
    }
    if candidate.barred {
        return Some(Excluded::NoPrice);
    }
    if candidate.cooling.refused(candidate.revision).is_some() {
        return Some(Excluded::Disabled);
    }
    if let Some(wait) = candidate.cooling.cooling(*now) {
        return Some(Excluded::Cooling(wait));
    }
    match candidate.stats.breaker.state(*now) {
        State::Open => Some(Excluded::Open),
        State::SlowStart(_) if !candidate.stats.breaker.admits(*now) => Some(Excluded::SlowStart),
        _ => None,
    }
}

/// `against` is what the breaker has against it.
fn placed(strategy: &dyn Strategy, candidate: &Candidate, context: &Context<'_>, against: Class) -> Placed {
    let (score, now) = (strategy.score(candidate, context), context.request.now);
    let class = if against > Class::Ready {
        against
    } else if score.is_none() {
        Class::NoPrice
    } else if is_late(candidate, context) {
        Class::OverDeadline
    } else if strategy.is_gated() && is_unhealthy(candidate, now) {
        Class::Unhealthy
    } else {
        Class::Ready
    };
    let reason = match class {
        Class::Ready => Reason::Fallback,
        Class::Unhealthy => Reason::Unhealthy,
        Class::OverDeadline => Reason::OverDeadline,
        Class::NoPrice => Reason::NoPrice,
        Class::SlowStart | Class::Open => Reason::Panic,
    };
    let score = score.unwrap_or_else(|| fastest::cost(candidate, context));
    let probe = candidate.stats.breaker.state(now) == State::HalfOpen;
    let (promising, stale) = (candidate.stats.is_promising(now), candidate.stats.is_stale(now));
    Placed { slot: candidate.slot, score, reason, class, probe, promising, stale }
}

fn is_late(candidate: &Candidate, context: &Context<'_>) -> bool {
    let Some(left) = context.request.left_ms else { return false };
    candidate.stats.is_known(context.request.now) && fastest::cost(candidate, context) > left as f64
}

fn is_unhealthy(candidate: &Candidate, now: Moment) -> bool {
    let lately = candidate.stats.since_failure(now).is_some_and(|age| age < OUTAGE_MS);
    lately && candidate.stats.attempts(now) >= ENOUGH && candidate.stats.error_rate(now) >= UNHEALTHY
}

impl Ranking {
    /// Leaves out those with more against them than the best have; only the unhealthy stay behind the healthy.
    fn keep_the_best_class(&mut self) {
        let Some(best) = self.order.iter().map(|placed| placed.class).min() else { return };
        let worst = best.max(Class::Unhealthy);
        let excluded = &mut self.excluded;
        self.order.retain(|placed| {
            let why = match placed.class {
                class if class <= worst => return true,
                Class::NoPrice => Excluded::NoPrice,
                Class::SlowStart => Excluded::SlowStart,
                Class::Open => Excluded::Open,
                _ => Excluded::OverDeadline,
            };
            excluded.push((placed.slot, why));
            false
        });
    }

    /// Puts the strategy's pick among the best class first.
    fn draw(&mut self, strategy: &dyn Strategy, context: &Context<'_>) {
        let Some(class) = self.order.iter().map(|placed| placed.class).min() else { return };
        // The best class to the front, so that the strategy sees it alone.
        let mut count = 0;
        for place in 0..self.order.len() {
            if self.order.get(place).is_some_and(|placed| placed.class == class) {
                self.order.swap(place, count);
                count += 1;
            }
        }
        let mut random = SmallRng::seed_from_u64(context.request.seed);
        let best = self.order.get(..count).unwrap_or_default();
        let (place, reason) = strategy.pick(best, context, &mut random);
        self.order.swap(0, place);
        self.sorted = 1;
        if let Some(first) = self.order.first_mut() {
            first.reason = match class {
                Class::Ready if first.probe => Reason::Probe,
                Class::Ready => reason,
                _ => first.reason,
            };
        }
    }
}

impl Context<'_> {
    /// The candidate in a slot.
    pub(super) fn candidate(&self, placed: &Placed) -> Option<&Candidate> {
        self.candidates.get(placed.slot).map(Arc::as_ref)
    }
}
