//! What a usage costs.
//!
//! Not here: prices (`catalog`). Invariant: what has no price is never silently free.

use crate::catalog::Prices;
use crate::money::Money;
use crate::usage::{Certainty, Usage};

/// The cost of a usage and how sure it is. `exact` says that the provider counted the tokens itself.
///
/// The size of the whole prompt, cached tokens included, chooses the rates of the request. What has no price of its own
/// costs what input or output costs. Without prices the cost is zero and `Unpriced`, unless there was nothing to pay for.
pub fn price(usage: &Usage, prices: Option<&Prices>, exact: bool) -> (Money, Certainty) {
    if exact && usage.total_tokens() == 0 {
        return (Money::ZERO, Certainty::Exact);
    }
    let Some(prices) = prices else { return (Money::ZERO, Certainty::Unpriced) };
    let rates = prices.for_prompt(usage.prompt_tokens());
    let heard = usage.audio_input.min(usage.input);
    let spoken = usage.audio_output.min(usage.output);
    let written = if usage.reasoning > 0 { rates.thinking_output.unwrap_or(rates.output) } else { rates.output };
    let cost = rates.input.times(usage.input - heard)
        + rates.audio_input.unwrap_or(rates.input).times(heard)
        + rates.cached_read.unwrap_or(rates.input).times(usage.cached_read)
        + rates.cache_write.unwrap_or(rates.input).times(usage.cache_write)
        + written.times(usage.output - spoken)
        + rates.audio_output.unwrap_or(written).times(spoken);
    (cost, if exact { Certainty::Exact } else { Certainty::Estimated })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Rates, Tier};
    use proptest::prelude::*;

    const USAGE: Usage = Usage {
        input: 1000,
        cached_read: 200,
        cache_write: 50,
        output: 300,
        reasoning: 100,
        audio_input: 10,
        audio_output: 10,
        cache_write_1h: 0,
        cached_audio: 0,
        image_input: 0,
        image_output: 0,
        web_searches: 0,
    };

    fn per_token(dollars: f64) -> Money {
        Money::per_token(dollars).unwrap()
    }

    fn rates() -> Rates {
        Rates { input: per_token(3.0), output: per_token(15.0), ..Rates::default() }
    }

    fn prices() -> Prices {
        Prices { base: rates(), tiers: Vec::new() }
    }

    #[test]
    fn each_kind_has_its_price_and_parts_are_not_billed_twice() {
        let base = Rates { cached_read: Money::per_token(0.3), cache_write: Money::per_token(3.75), ..rates() };
        let expected = 1000 * 3_000_000 + 200 * 300_000 + 50 * 3_750_000 + 300 * 15_000_000;
        let prices = Prices { base, ..prices() };
        assert_eq!(price(&USAGE, Some(&prices), true), (Money(expected), Certainty::Exact));
    }

    #[test]
    fn sound_has_its_own_price_and_is_taken_off_the_text() {
        let base = Rates { audio_input: Money::per_token(32.0), audio_output: Money::per_token(64.0), ..rates() };
        let expected = (990 + 250) * 3_000_000 + 10 * 32_000_000 + 290 * 15_000_000 + 10 * 64_000_000;
        assert_eq!(price(&USAGE, Some(&Prices { base, ..prices() }), true).0, Money(expected));
        let odd = Usage { audio_input: u64::MAX, audio_output: u64::MAX, input: 1, output: 1, ..Usage::default() };
        assert_eq!(price(&odd, Some(&Prices { base, ..prices() }), true).0, Money(96_000_000), "no more than there is");
    }

    #[test]
    fn an_answer_that_was_thought_about_has_its_own_price_as_a_whole() {
        let prices = Prices { base: Rates { thinking_output: Money::per_token(40.0), ..rates() }, tiers: Vec::new() };
        let thought = Usage { output: 300, reasoning: 1, ..Usage::default() };
        assert_eq!(price(&thought, Some(&prices), true).0, Money(300 * 40_000_000));
        assert_eq!(price(&Usage { reasoning: 0, ..thought }, Some(&prices), true).0, Money(300 * 15_000_000));
    }

    #[test]
    fn a_long_prompt_makes_every_token_of_the_request_dearer_cached_ones_included() {
        let tier = |above, dollars| Tier { above, rates: Rates { input: per_token(dollars), ..rates() } };
        let prices = Prices { base: rates(), tiers: vec![tier(1000, 6.0), tier(2000, 9.0)] };
        let cost = |usage: Usage| price(&usage, Some(&prices), true).0;
        let fresh = |input| Usage { input, ..Usage::default() };
        assert_eq!(cost(fresh(1000)), Money(1000 * 3_000_000), "the threshold itself is still short");
        assert_eq!(cost(fresh(1001)), Money(1001 * 6_000_000));
        assert_eq!(cost(fresh(5000)), Money(5000 * 9_000_000));
        let cached = Usage { input: 1, cached_read: 900, cache_write: 100, output: 1, ..Usage::default() };
        assert_eq!(cost(cached), Money(1001 * 6_000_000 + 15_000_000), "what a cache had counts towards the size");
    }

    #[test]
    fn cached_tokens_without_a_price_cost_what_input_costs() {
        let expected = 1250 * 3_000_000 + 300 * 15_000_000;
        assert_eq!(price(&USAGE, Some(&prices()), false), (Money(expected), Certainty::Estimated));
    }

    #[test]
    fn no_price_is_unpriced_and_a_price_of_zero_is_exact() {
        assert_eq!(price(&USAGE, None, true), (Money::ZERO, Certainty::Unpriced));
        assert_eq!(price(&USAGE, None, false), (Money::ZERO, Certainty::Unpriced));
        assert_eq!(price(&USAGE, Some(&Prices::default()), true), (Money::ZERO, Certainty::Exact));
    }

    proptest! {
        #[test]
        fn two_halves_cost_what_the_whole_costs(input in 0_u64..1 << 40, output in 0_u64..1 << 40, share in 0_u64..1 << 40) {
            let whole = Usage { input, output, ..Usage::default() };
            let left = Usage { input: input.min(share), output: output.min(share), ..Usage::default() };
            let right = Usage { input: input - left.input, output: output - left.output, ..Usage::default() };
            let cost = |usage| price(usage, Some(&prices()), true).0;
            prop_assert_eq!(cost(&whole), cost(&left) + cost(&right));
        }
    }
}
