//! The strategies as stories: who is asked, and why, after what has happened.

use super::*;
use crate::balance::Moment;
use crate::balance::attempt::{Outcome, Verdict};
use crate::balance::reason::Excluded;
use crate::balance::request::Request;
use crate::balance::stats::Refusal;
use crate::balance::tests_support::{Cast, Stage};
use crate::usage::Usage;
use std::collections::HashSet;
use std::time::Duration;

fn priced(input: f64, output: f64) -> Cast {
    Cast { price: Some((input, output)), ..Cast::default() }
}

const MANY: usize = 2000;

#[test]
fn every_name_has_its_own_strategy() {
    let names: HashSet<_> = STRATEGIES.iter().map(|strategy| strategy.name()).collect();
    assert_eq!(names.len(), StrategyName::ALL.len());
    for name in StrategyName::ALL {
        assert_eq!(find(name).name(), name);
    }
}

#[tokio::test]
async fn fastest_takes_the_quick_one_and_looks_at_the_others_now_and_then() {
    let mut stage = Stage::new(StrategyName::Fastest, &[Cast::default(); 3]).await;
    stage.answers(0, 12_000, 20);
    stage.answers(1, 300, 20);
    stage.answers(2, 900, 20);
    assert_eq!(stage.shares(MANY), [0, MANY, 0], "everyone was asked a moment ago");
    stage.now = 10_000;
    let shares = stage.shares(3 * MANY);
    assert!(shares[1] > 3 * MANY * 95 / 100, "{shares:?}");
    assert!(shares[0] > 0 && shares[2] > 2 * shares[0], "the slower, the less often: {shares:?}");
    let _under_way = stage.attempt(2);
    assert_eq!(stage.shares(MANY)[2], 0, "and by one request at a time");
    assert_eq!(stage.ask(), (1, "best"));
}

#[tokio::test]
async fn fastest_minds_the_length_of_the_answer() {
    let mut stage = Stage::new(StrategyName::Fastest, &[Cast::default(); 2]).await;
    // The first is quick to begin, the second quick to write; a hundred tokens are usual here.
    (0..30).for_each(|_| stage.answers(0, 200, 40));
    (0..30).for_each(|_| stage.answers(1, 1500, 10));
    let first = |stage: &mut Stage, max_output| {
        let request = Request { max_output, ..stage.request() };
        stage.group.explain(&request).0[0].slot
    };
    let wins = |stage: &mut Stage, max_output| (0..100).filter(|_| first(stage, max_output) == 0).count();
    assert!(wins(&mut stage, None) < 10, "200 + 100 × 40 > 1500 + 100 × 10");
    assert!(wins(&mut stage, Some(5)) > 90, "but the client wants five tokens");
}

#[tokio::test]
async fn fastest_shares_among_those_that_are_about_as_quick() {
    let mut stage = Stage::new(StrategyName::Fastest, &[Cast::default(); 3]).await;
    stage.answers(0, 1000, 20);
    stage.answers(1, 1100, 20);
    stage.answers(2, 4000, 20);
    let shares = stage.shares(MANY);
    assert!(shares[0] > MANY / 3 && shares[1] > MANY / 3 && shares[2] < MANY / 20, "{shares:?}");
}

#[tokio::test]
async fn fastest_is_not_drawn_to_a_provider_that_fails_quickly() {
    let mut stage = Stage::new(StrategyName::Fastest, &[Cast::default(); 2]).await;
    stage.answers(0, 100, 5);
    stage.answers(1, 800, 20);
    stage.ends(0, Verdict::Failure);
    let shares = stage.shares(MANY);
    assert!(shares[1] > MANY * 95 / 100, "{shares:?}");
}

#[tokio::test]
async fn fastest_notices_a_stall_before_any_answer_is_late() {
    let mut stage = Stage::new(StrategyName::Fastest, &[Cast::default(); 2]).await;
    stage.answers(0, 300, 20);
    stage.answers(1, 900, 20);
    let stalled: Vec<_> = (0..40).map(|_| stage.attempt(0)).collect();
    let shares = stage.shares(MANY);
    assert!(shares[1] > MANY * 95 / 100, "{shares:?}");
    drop(stalled);
    assert!(stage.shares(MANY)[0] > MANY * 95 / 100, "and that they are gone");
}

#[tokio::test]
async fn fastest_leaves_a_route_that_has_gone_silent_and_hears_its_first_token_at_once() {
    let mut stage = Stage::new(StrategyName::Fastest, &[Cast::default(); 2]).await;
    stage.answers(0, 300, 6);
    stage.answers(1, 450, 9);
    let mut waiting = stage.attempt(0);
    stage.now = 1000;
    assert_eq!(stage.shares(100), [0, 100], "one request is enough to notice");
    waiting.first_token(Duration::from_millis(1000), Moment(1000));
    assert!(stage.group.candidates()[0].stats.speed(Moment(1000), || (0.0, 0.0)).0 < 1001.0);
    let first = Some(Duration::from_millis(5000));
    waiting.record(&Outcome { first, ..stage.outcome() });
    let (ttft, _) = stage.group.candidates()[0].stats.speed(Moment(1000), || (0.0, 0.0));
    assert_eq!(ttft, 1000.0, "what was told once is not counted twice");
}

#[tokio::test]
async fn fastest_trusts_a_route_again_when_its_probe_succeeds() {
    let mut stage = Stage::new(StrategyName::Fastest, &[Cast::default(); 2]).await;
    stage.answers(0, 300, 6);
    stage.answers(1, 450, 9);
    (0..5).for_each(|_| stage.ends(0, Verdict::Failure));
    stage.now = 12_000;
    stage.answers(1, 450, 9);
    let probes = (0..MANY).filter(|_| stage.ask() == (0, "probe")).count();
    assert!(probes > MANY / 10, "nobody waits long for the probe: {probes}");
    stage.answers(0, 300, 6);
    assert_eq!(stage.ask(), (0, "best"), "the slow start is penalty enough");
}

#[tokio::test]
async fn fastest_gives_one_that_was_slow_long_ago_another_chance() {
    let mut stage = Stage::new(StrategyName::Fastest, &[Cast::default(); 3]).await;
    stage.answers(0, 8000, 20);
    stage.now = 100_000;
    stage.answers(1, 500, 20);
    stage.answers(2, 510, 20);
    let shares = stage.shares(MANY);
    assert!(shares[0] > MANY / 5, "nobody has looked for 100 seconds: {shares:?}");
}

#[tokio::test]
async fn whoever_is_new_is_soon_tried() {
    let mut stage = Stage::new(StrategyName::Fastest, &[Cast::default(); 2]).await;
    stage.answers(0, 100, 1);
    let shares = stage.shares(MANY);
    assert!((MANY / 8..MANY / 3).contains(&shares[1]), "although it is thought to be slower: {shares:?}");
    let _under_way = stage.attempt(1);
    assert!(stage.shares(MANY)[1] < MANY / 20, "by one request at a time");
}

#[tokio::test]
async fn among_many_fastest_draws_two() {
    let mut stage = Stage::new(StrategyName::Fastest, &[Cast::default(); 12]).await;
    (0..12).for_each(|slot| stage.answers(slot, 100 + 100 * slot as u64, 1));
    let shares = stage.shares(12_000);
    assert!(shares.windows(2).all(|pair| pair[0] > pair[1]), "the better the more: {shares:?}");
    assert!(shares[0] < 12_000 / 5, "and nobody gets it all: {shares:?}");
}

#[tokio::test]
async fn cheapest_prices_this_request_and_not_the_list() {
    // Long prompt, short answer: by the sum of the list prices the second would be the cheaper one.
    let mut stage = Stage::new(StrategyName::Cheapest, &[priced(1.0, 10.0), priced(3.0, 5.0)]).await;
    let request = Request { prompt_tokens: 10_000, max_output: Some(100), ..stage.request() };
    let (order, _) = stage.group.explain(&request);
    assert_eq!((order[0].slot, order[0].reason), (0, Reason::Best));
    assert!((order[0].score / 1e12 - 0.011).abs() < 1e-9, "dollars: {}", order[0].score / 1e12);
    let request = Request { prompt_tokens: 10, max_output: Some(1000), ..stage.request() };
    assert_eq!(stage.group.explain(&request).0[0].slot, 1, "and the other way round");
}

#[tokio::test]
async fn cheapest_leaves_out_an_unknown_price_until_nothing_else_is_left() {
    let unknown = Cast { price: None, ..Cast::default() };
    let mut stage = Stage::new(StrategyName::Cheapest, &[unknown, priced(50.0, 200.0)]).await;
    let request = stage.request();
    let (order, excluded) = stage.group.explain(&request);
    assert_eq!((order.len(), order[0].slot), (1, 1));
    assert_eq!(excluded, [(0, Excluded::NoPrice)]);
    let again = Request { tried: vec![1], ..request };
    let (order, excluded) = stage.group.explain(&again);
    assert_eq!((order[0].slot, order[0].reason), (0, Reason::NoPrice));
    assert_eq!(excluded, [(1, Excluded::Tried)]);
}

#[tokio::test]
async fn cheapest_stays_where_the_cache_is_warm_as_long_as_that_pays() {
    let mut stage = Stage::new(StrategyName::Cheapest, &[priced(1.0, 1.0), priced(1.5, 1.0)]).await;
    let request = Request { prompt_tokens: 10_000, prefix: Some(42 << 32), max_output: Some(10), ..stage.request() };
    assert_eq!(stage.group.explain(&request).0[0].slot, 0);
    // The dearer one served this conversation last, and reads most of the prompt from its cache.
    for cached_read in [0, 9000, 9000, 9000] {
        let usage = Usage { input: 10_000 - cached_read, cached_read, output: 10, ..Usage::default() };
        let outcome = Outcome { usage: Some(usage), ..stage.outcome() };
        stage.attempt_for(1, &request).record(&outcome);
    }
    let (order, _) = stage.group.explain(&request);
    assert_eq!((order[0].slot, order[0].reason), (1, Reason::Sticky));
    let other = Request { prefix: Some(43 << 32), ..request.clone() };
    assert_eq!(stage.group.explain(&other).0[0].slot, 0, "another conversation begins at the cheaper one");
    let later = Request { now: Moment(400_000), ..request };
    assert_eq!(stage.group.explain(&later).0[0].slot, 0, "and this one, too, once the cache is cold");
}

#[tokio::test]
async fn cheapest_asks_who_fails_after_who_does_not_and_comes_back() {
    let mut stage = Stage::new(StrategyName::Cheapest, &[priced(1.0, 1.0), priced(9.0, 9.0)]).await;
    (0..6).for_each(|_| stage.answers(0, 300, 5));
    (0..4).for_each(|_| stage.ends(0, Verdict::Failure));
    let request = stage.request();
    let (order, _) = stage.group.explain(&request);
    assert_eq!(order.iter().map(|placed| placed.slot).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(order[1].reason, Reason::Unhealthy);
    stage.now = 31_000;
    assert_eq!(stage.ask(), (0, "best"));
}

#[tokio::test]
async fn reliable_takes_who_fails_least_and_among_equals_the_quickest() {
    let mut stage = Stage::new(StrategyName::Reliable, &[Cast::default(); 3]).await;
    for _ in 0..200 {
        stage.answers(0, 200, 1);
        stage.answers(1, 2000, 20);
        stage.answers(2, 500, 5);
    }
    for _ in 0..4 {
        stage.ends(0, Verdict::Failure);
        // 429s, clients' errors and clients that left are nobody's failure.
        stage.ends(2, Verdict::Neutral);
    }
    let shares = stage.shares(MANY);
    assert!(shares[2] > MANY * 95 / 100, "the quickest is not the steadiest: {shares:?}");
    assert!(shares[0] > 2 && shares[1] > 2, "two in a hundred explore: {shares:?}");
}

#[tokio::test]
async fn default_goes_by_priority_and_shares_equal_ones_by_weight() {
    let cast = |priority, weight| Cast { priority, weight, ..Cast::default() };
    let mut stage = Stage::new(StrategyName::Default, &[cast(2, 9), cast(1, 3), cast(1, 1)]).await;
    let shares = stage.shares(MANY);
    assert_eq!(shares[0], 0);
    assert!((MANY * 70 / 100..MANY * 80 / 100).contains(&shares[1]), "three in four: {shares:?}");
    let request = Request { tried: vec![1, 2], ..stage.request() };
    assert_eq!(stage.group.explain(&request).0[0].slot, 0, "then comes the next priority");
}

#[tokio::test]
async fn among_equal_priorities_the_order_of_an_alias_stands_until_someone_sets_weights() {
    let cast = |rank, weight| Cast { rank, weight, ..Cast::default() };
    let mut stage = Stage::new(StrategyName::Default, &[cast(1, 1), cast(0, 1)]).await;
    assert_eq!(stage.shares(100), [0, 100]);
    let mut stage = Stage::new(StrategyName::Default, &[cast(1, 3), cast(0, 1)]).await;
    assert!(stage.shares(MANY)[0] > MANY * 7 / 10);
}

#[tokio::test]
async fn credentials_of_one_provider_rotate_and_one_that_cools_down_is_skipped() {
    for strategy in StrategyName::ALL {
        let mut stage = Stage::new(strategy, &[Cast::default(); 3]).await;
        let shares = stage.shares(MANY);
        assert!(shares.iter().all(|share| *share > MANY / 5), "{strategy}: {shares:?}");
        let limited =
            Outcome { verdict: Verdict::RateLimited, retry_after: Some(Duration::from_secs(7)), ..stage.outcome() };
        stage.attempt(1).record(&limited);
        assert_eq!(stage.shares(MANY)[1], 0, "{strategy}");
        let request = stage.request();
        assert!(stage.group.explain(&request).1.contains(&(1, Excluded::Cooling(Duration::from_secs(7)))));
        stage.now = 7000;
        stage.seed_speeds();
        assert!(stage.shares(MANY)[1] > MANY / 5, "{strategy}");
    }
}

#[tokio::test]
async fn when_all_cool_down_the_shortest_wait_is_told_and_a_refused_one_is_named() {
    let mut stage = Stage::new(StrategyName::Default, &[Cast::default(); 3]).await;
    for (slot, wait) in [(0, 20), (1, 5)] {
        let retry_after = Some(Duration::from_secs(wait));
        let outcome = Outcome { verdict: Verdict::RateLimited, retry_after, ..stage.outcome() };
        stage.attempt(slot).record(&outcome);
    }
    stage.ends(2, Verdict::Refused(Refusal::Key));
    let request = stage.request();
    let nobody = stage.group.select(&request).unwrap_err();
    assert_eq!(nobody.wait, Some(Duration::from_secs(5)));
    assert_eq!(nobody.refused.map(|(refusal, _)| refusal), Some(Refusal::Key));
    stage.now = 5000;
    assert_eq!(stage.ask().0, 1);
}

#[tokio::test]
async fn who_would_be_too_late_is_not_asked_while_another_is_in_time() {
    let mut stage =
        Stage::new(StrategyName::Default, &[Cast::default(), Cast { priority: 2, ..Cast::default() }]).await;
    stage.answers(0, 9000, 20);
    stage.answers(1, 300, 5);
    let request = Request { left_ms: Some(5000), ..stage.request() };
    let (order, excluded) = stage.group.explain(&request);
    assert_eq!((order[0].slot, excluded), (1, vec![(0, Excluded::OverDeadline)]));
    let hopeless = Request { left_ms: Some(5), ..request };
    assert_eq!(stage.group.explain(&hopeless).0[0].reason, Reason::OverDeadline, "better late than never");
}

#[tokio::test]
async fn an_open_route_is_left_alone_until_its_probe_and_most_being_open_is_a_panic() {
    let mut stage = Stage::new(StrategyName::Default, &[Cast::default(); 3]).await;
    (0..5).for_each(|_| stage.ends(0, Verdict::Failure));
    assert_eq!(stage.shares(MANY)[0], 0);
    (0..5).for_each(|_| stage.ends(1, Verdict::Failure));
    assert_eq!(stage.shares(100), [0, 0, 100], "the one that works is still the first");
    let request = Request { tried: vec![2], ..stage.request() };
    assert_eq!(stage.group.select(&request).unwrap().0.reason, Reason::Panic, "but the others are asked again");
    stage.now = 13_000;
    stage.answers(2, 300, 5);
    stage.strategy = StrategyName::Reliable;
    let probed = (0..MANY).find_map(|_| Some(stage.ask()).filter(|(_, reason)| *reason == "probe"));
    assert!(probed.is_some(), "whoever explores looks at a route that waits for its probe");
}
