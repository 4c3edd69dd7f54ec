//! What each kind of usage costs, and how sure that is.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::catalog::{Sheet, Tier};

const CATALOGUE: Option<CostSource> = Some(CostSource::Catalogue);
const REPORTED: Option<CostSource> = Some(CostSource::Reported);

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

fn per_token_of(dollars: f64) -> Option<Money> {
    Some(per_token(dollars))
}

fn rates() -> Rates {
    Rates { input: per_token(3.0), output: per_token(15.0), ..Rates::default() }
}

fn prices() -> Prices {
    Prices::flat(rates())
}

fn used<'a>(usage: &'a Usage, bill: &'a Bill) -> Used<'a> {
    Used { usage, bill, estimated: None }
}

fn tariff(own: Option<&Prices>) -> Tariff<'_> {
    Tariff { own, other: &|_| None }
}

/// What a usage costs that the provider counted, with a bill that says nothing else.
fn cost(usage: &Usage, prices: &Prices) -> Money {
    static SILENT: LazyLock<Bill> = LazyLock::new(Bill::default);
    let priced = price(&used(usage, &SILENT), &tariff(Some(prices)));
    assert_eq!((priced.certainty, priced.why), (Certainty::Exact, None));
    priced.cost
}

#[test]
fn each_kind_has_its_price_and_parts_are_not_billed_twice() {
    let base = Rates { cached_read: Money::per_token(0.3), cache_write: Money::per_token(3.75), ..rates() };
    let expected = 1000 * 3_000_000 + 200 * 300_000 + 50 * 3_750_000 + 300 * 15_000_000;
    assert_eq!(cost(&USAGE, &Prices::flat(base)), Money(expected));
}

#[test]
fn sound_has_its_own_price_and_is_taken_off_the_text() {
    let base = Rates { audio_input: Money::per_token(32.0), audio_output: Money::per_token(64.0), ..rates() };
    let expected = (990 + 250) * 3_000_000 + 10 * 32_000_000 + 290 * 15_000_000 + 10 * 64_000_000;
    assert_eq!(cost(&USAGE, &Prices::flat(base)), Money(expected));
    let odd = Usage { audio_input: u64::MAX, audio_output: u64::MAX, input: 1, output: 1, ..Usage::default() };
    assert_eq!(cost(&odd, &Prices::flat(base)), Money(96_000_000), "no more than there is");
}

#[test]
fn an_answer_that_was_thought_about_has_its_own_price_as_a_whole() {
    let prices = Prices::flat(Rates { thinking_output: Money::per_token(40.0), ..rates() });
    let thought = Usage { output: 300, reasoning: 1, ..Usage::default() };
    assert_eq!(cost(&thought, &prices), Money(300 * 40_000_000));
    assert_eq!(cost(&Usage { reasoning: 0, ..thought }, &prices), Money(300 * 15_000_000));
    let prices = Prices::flat(Rates { reasoning_output: Money::per_token(3.0), ..rates() });
    let expected = Money(200 * 15_000_000 + 100 * 3_000_000);
    assert_eq!(cost(&Usage { reasoning: 100, ..thought }, &prices), expected, "or the thoughts alone have one");
}

#[test]
fn a_long_prompt_makes_every_token_of_the_request_dearer_cached_ones_included() {
    let tier = |above, dollars| Tier { above, rates: Rates { input: per_token(dollars), ..rates() } };
    let usual = Sheet { base: rates(), tiers: vec![tier(1000, 6.0), tier(2000, 9.0)] };
    let prices = Prices { usual, ..Prices::default() };
    let cost = |usage: Usage| cost(&usage, &prices);
    let fresh = |input| Usage { input, ..Usage::default() };
    assert_eq!(cost(fresh(1000)), Money(1000 * 3_000_000), "the threshold itself is still short");
    assert_eq!(cost(fresh(1001)), Money(1001 * 6_000_000));
    assert_eq!(cost(fresh(5000)), Money(5000 * 9_000_000));
    let cached = Usage { input: 1, cached_read: 900, cache_write: 100, output: 1, ..Usage::default() };
    assert_eq!(cost(cached), Money(1001 * 6_000_000 + 15_000_000), "what a cache had counts towards the size");
}

#[test]
fn what_is_kept_for_an_hour_and_what_was_heard_before_have_prices_of_their_own() {
    let base = Rates {
        cached_read: Money::per_token(0.3),
        cached_audio: Money::per_token(1.0),
        cache_write: Money::per_token(3.75),
        cache_write_1h: Money::per_token(6.0),
        ..rates()
    };
    let usage = Usage { cache_write: 50, cache_write_1h: 20, cached_read: 10, cached_audio: 4, ..Usage::default() };
    let expected = 30 * 3_750_000 + 20 * 6_000_000 + 6 * 300_000 + 4 * 1_000_000;
    assert_eq!(cost(&usage, &Prices::flat(base)), Money(expected));
    let shorter = Rates { cache_write_1h: None, cached_audio: None, ..base };
    assert_eq!(cost(&usage, &Prices::flat(shorter)), Money(50 * 3_750_000 + 10 * 300_000));
}

#[test]
fn images_have_their_own_price_in_and_out() {
    let base = Rates { image_input: per_token_of(10.0), image_output: per_token_of(40.0), ..rates() };
    let usage = Usage { input: 100, image_input: 90, output: 200, image_output: 150, reasoning: 7, ..Usage::default() };
    let expected = 10 * 3_000_000 + 90 * 10_000_000 + 50 * 15_000_000 + 150 * 40_000_000;
    assert_eq!(cost(&usage, &Prices::flat(base)), Money(expected));
}

#[test]
fn the_tier_that_served_has_its_price_and_one_without_is_a_doubt() {
    let flex = Sheet { base: Rates { input: per_token(1.5), output: per_token(7.5), ..rates() }, tiers: Vec::new() };
    let prices = Prices { services: vec![(ServiceTier::Flex, flex)], ..prices() };
    let served = |tier| {
        let bill = Bill { tier, ..Bill::default() };
        price(&used(&Usage { input: 1000, ..Usage::default() }, &bill), &tariff(Some(&prices)))
    };
    assert_eq!(served(ServiceTier::Flex), Priced::new(Money(1000 * 1_500_000), CATALOGUE, None));
    let usual = Money(1000 * 3_000_000);
    assert_eq!(served(ServiceTier::Priority), Priced::new(usual, CATALOGUE, Some(Why::NoTierPrice)));
    assert_eq!(served(ServiceTier::Other).certainty, Certainty::Estimated);
    assert_eq!(served(ServiceTier::Committed), Priced::unpriced(Why::Committed));
}

#[test]
fn searches_and_one_region_cost_more_where_that_is_known() {
    let prices = Prices { web_search: Money::from_decimal("0.01"), regional_percent: Some(110), ..prices() };
    let usage = Usage { input: 1000, web_searches: 2, ..Usage::default() };
    let bill = Bill { regional: true, ..Bill::default() };
    let expected = Money(1000 * 3_300_000 + 2 * 10_000_000_000);
    assert_eq!(price(&used(&usage, &bill), &tariff(Some(&prices))), Priced::new(expected, CATALOGUE, None));
    let each = Prices { request: Money::from_decimal("0.025"), ..prices };
    let more = expected + Money(25_000_000_000);
    assert_eq!(price(&used(&usage, &bill), &tariff(Some(&each))).cost, more, "and so does each request");
    let silent = price(&used(&usage, &bill), &tariff(Some(&Prices::flat(rates()))));
    assert_eq!(silent, Priced::new(Money(1000 * 3_000_000), CATALOGUE, Some(Why::NoSearchPrice)));
}

#[test]
fn another_model_that_took_part_has_its_own_price() {
    let dear = Prices::flat(Rates { input: per_token(5.0), output: per_token(25.0), ..rates() });
    let advice = Usage { input: 100, output: 10, ..Usage::default() };
    let bill = Bill { others: vec![("adviser".to_owned(), advice)], ..Bill::default() };
    let (usage, own) = (Usage { input: 1000, ..Usage::default() }, prices());
    let other = |model: &str| (model == "adviser").then_some(&dear);
    let expected = Money(1000 * 3_000_000 + 100 * 5_000_000 + 10 * 25_000_000);
    let known = Tariff { own: Some(&own), other: &other };
    assert_eq!(price(&used(&usage, &bill), &known), Priced::new(expected, CATALOGUE, None));
    let unknown = price(&used(&usage, &bill), &tariff(Some(&own)));
    assert_eq!(unknown, Priced::new(Money(1000 * 3_000_000), CATALOGUE, Some(Why::NoPriceOfOther)));
}

#[test]
fn what_the_provider_charges_stands_for_any_model() {
    let bill = Bill { cost: Some(Money(7)), tier: ServiceTier::Committed, ..Bill::default() };
    let exact = Priced { cost: Money(7), certainty: Certainty::Exact, source: REPORTED, why: None };
    assert_eq!(price(&used(&USAGE, &bill), &tariff(Some(&prices()))), exact);
    assert_eq!(price(&used(&USAGE, &bill), &tariff(None)), exact);
    let nothing = Bill { cost: Some(Money::ZERO), ..Bill::default() };
    assert_eq!(price(&used(&USAGE, &nothing), &tariff(None)).source, REPORTED, "it may be free");
}

#[test]
fn what_was_charged_before_a_stream_broke_off_is_the_least_that_it_costs() {
    let broken = |cost| {
        let bill = Bill { cost: Some(Money(cost)), ..Bill::default() };
        let used = Used { estimated: Some(Why::Truncated), ..used(&USAGE, &bill) };
        [Some(&prices()), None].map(|own| price(&used, &tariff(own)))
    };
    let ours = 1250 * 3_000_000 + 300 * 15_000_000;
    let why = Some(Why::Truncated);
    assert_eq!(broken(7), [Priced::new(Money(ours), CATALOGUE, why), Priced::new(Money(7), REPORTED, why)]);
    assert_eq!(broken(ours + 1)[0], Priced::new(Money(ours + 1), REPORTED, why));
    assert_eq!(broken(0)[1], Priced::unpriced(Why::NoPrice), "nothing so far is no charge");
}

#[test]
fn cached_tokens_without_a_price_cost_what_input_costs() {
    assert_eq!(cost(&USAGE, &prices()), Money(1250 * 3_000_000 + 300 * 15_000_000));
}

#[test]
fn no_price_is_unpriced_and_a_price_of_zero_is_exact() {
    let (bill, free) = (Bill::default(), Prices::default());
    assert_eq!(price(&used(&USAGE, &bill), &tariff(None)), Priced::unpriced(Why::NoPrice));
    let estimated = Used { estimated: Some(Why::ClientGone), ..used(&USAGE, &bill) };
    assert_eq!(price(&estimated, &tariff(None)), Priced::unpriced(Why::NoPrice));
    assert_eq!(price(&estimated, &tariff(Some(&prices()))).certainty, Certainty::Estimated);
    assert_eq!(cost(&USAGE, &free), Money::ZERO);
    let nothing = Usage::default();
    assert_eq!(price(&used(&nothing, &bill), &tariff(None)), Priced::new(Money::ZERO, None, None));
}

#[test]
fn no_figure_is_too_large() {
    let most = u64::MAX;
    let usage = Usage {
        input: most,
        cached_read: most,
        cache_write: most,
        output: most,
        reasoning: most,
        audio_input: most,
        audio_output: most,
        cache_write_1h: most,
        cached_audio: most,
        image_input: most,
        image_output: most,
        web_searches: most,
    };
    let dear = Rates { input: per_token(1e6), output: per_token(1e6), ..Rates::default() };
    let prices = Prices { web_search: Some(Money(u128::MAX)), ..Prices::flat(dear) };
    assert_eq!(cost(&usage, &prices), Money(u128::MAX));
}

proptest! {
    #[test]
    fn two_halves_cost_what_the_whole_costs(input in 0_u64..1 << 40, output in 0_u64..1 << 40, share in 0_u64..1 << 40) {
        let whole = Usage { input, output, ..Usage::default() };
        let left = Usage { input: input.min(share), output: output.min(share), ..Usage::default() };
        let right = Usage { input: input - left.input, output: output - left.output, ..Usage::default() };
        let cost = |usage| cost(usage, &prices());
        prop_assert_eq!(cost(&whole), cost(&left) + cost(&right));
    }
}
