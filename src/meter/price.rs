//! What a usage costs.
//!
//! Not here: prices (`catalog`). Invariant: what has no price is never silently free.

use crate::catalog::Prices;
use crate::money::Money;
use crate::usage::{Certainty, Usage};

/// The cost of a usage and how sure it is. `exact` says that the provider counted the tokens itself.
///
/// Cached tokens without a price of their own cost what input costs. Without prices the cost is zero and `Unpriced`,
/// unless there was nothing to pay for.
pub fn price(usage: &Usage, prices: Option<&Prices>, exact: bool) -> (Money, Certainty) {
    if exact && usage.total_tokens() == 0 {
        return (Money::ZERO, Certainty::Exact);
    }
    let Some(prices) = prices else { return (Money::ZERO, Certainty::Unpriced) };
    let cost = prices.input.times(usage.input)
        + prices.cached_read.unwrap_or(prices.input).times(usage.cached_read)
        + prices.cache_write.unwrap_or(prices.input).times(usage.cache_write)
        + prices.output.times(usage.output);
    (cost, if exact { Certainty::Exact } else { Certainty::Estimated })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const USAGE: Usage = Usage {
        input: 1000,
        cached_read: 200,
        cache_write: 50,
        output: 300,
        reasoning: 100,
        audio_input: 10,
        audio_output: 10,
    };

    fn prices() -> Prices {
        let per_token = |dollars| Money::per_token(dollars).unwrap();
        Prices { input: per_token(3.0), output: per_token(15.0), ..Prices::default() }
    }

    #[test]
    fn each_kind_has_its_price_and_parts_are_not_billed_twice() {
        let prices = Prices { cached_read: Money::per_token(0.3), cache_write: Money::per_token(3.75), ..prices() };
        let expected = 1000 * 3_000_000 + 200 * 300_000 + 50 * 3_750_000 + 300 * 15_000_000;
        assert_eq!(price(&USAGE, Some(&prices), true), (Money(expected), Certainty::Exact));
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
