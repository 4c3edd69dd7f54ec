//! `cheapest`: least expected cost of this request.
//!
//! Score = expected prompt tokens × their prices (new, read from a cache, written to it) + expected completion tokens × their
//! price, in pico-dollars. A candidate whose cache is warm for the beginning of the prompt is expected to read from it what it
//! usually does, so that it costs something to leave it. Among equals, the quickest. An unknown price is not zero: such a
//! candidate is asked when nobody else is left.

use rand::rngs::SmallRng;

use super::{Strategy, draw};
use crate::api::strategy::StrategyName;
use crate::balance::Candidate;
use crate::balance::attempt::is_warm;
use crate::balance::rank::{Context, Placed};
use crate::balance::reason::Reason;
use crate::money::Money;

/// Costs within this factor are the same.
const BAND: f64 = 1.001;
/// Share of a prompt that a warm cache is thought to have before it was measured.
const WARM_SHARE: f64 = 0.5;

/// Least expected cost.
pub(super) struct Cheapest;

impl Strategy for Cheapest {
    fn name(&self) -> StrategyName {
        StrategyName::Cheapest
    }

    fn score(&self, candidate: &Candidate, context: &Context<'_>) -> Option<f64> {
        cost(candidate, context)
    }

    fn is_gated(&self) -> bool {
        true
    }

    fn pick(&self, ready: &[Placed], context: &Context<'_>, random: &mut SmallRng) -> (usize, Reason) {
        let (place, reason) = draw::quickest_of_the_best(ready, |best| best * BAND, context, random);
        let chosen = ready.get(place).and_then(|placed| context.candidate(placed));
        let sticky = chosen.is_some_and(|candidate| is_warm(candidate, context.request));
        (place, if sticky { Reason::Sticky } else { reason })
    }
}

/// The expected cost of this request at this candidate in pico-dollars, if its prices are known.
pub fn cost(candidate: &Candidate, context: &Context<'_>) -> Option<f64> {
    let request = context.request;
    let prompt = candidate.tokens.prompt(request.prompt_tokens);
    let rates = candidate.prices.as_ref()?.at(request.date).for_prompt(prompt as u64);
    let output = candidate.outputs.output(request.key, request.max_output);
    let warm = is_warm(candidate, request);
    let guess = if warm && rates.cached_read.is_some() { WARM_SHARE } else { 0.0 };
    let read = candidate.stats.cached_share(warm).unwrap_or(guess);
    let written = candidate.stats.written_share().min(1.0 - read);
    let pico = |price: Money| price.0 as f64;
    let per_prompt_token = (1.0 - read - written) * pico(rates.input)
        + read * pico(rates.cached_read.unwrap_or(rates.input))
        + written * pico(rates.cache_write.unwrap_or(rates.input));
    Some(prompt * per_prompt_token + output * pico(rates.output))
}
