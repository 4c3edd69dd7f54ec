//! What one selection costs: ranking, the balancer, the breaker, counting the attempt as under way.

use std::hint::black_box;
use std::time::{Duration, Instant};

use perpetuo::api::strategy::StrategyName;
use perpetuo::balance::Moment;
use perpetuo::balance::attempt::{Outcome, Verdict};
use perpetuo::balance::request::Request;
use perpetuo::usage::Usage;

use crate::provider::Provider;
use crate::stage;

const ROUNDS: u32 = 7;
const SELECTIONS: u32 = 20_000;

pub(crate) async fn measure() {
    println!("\n| one selection | 4 candidates | 12 | 100 |\n| --- | --- | --- | --- |");
    for strategy in StrategyName::ALL {
        let mut cells = Vec::new();
        for count in [4, 12, 100] {
            cells.push(format!("{:.2} µs", median(strategy, count).await.as_secs_f64() * 1e6));
        }
        println!("| {strategy} | {} |", cells.join(" | "));
    }
}

/// The median round, per selection.
async fn median(strategy: StrategyName, count: usize) -> Duration {
    let providers = vec![Provider::default(); count];
    let group = stage::group(&providers).await;
    let mut request = Request { strategy, prompt_tokens: 1000, left_ms: Some(600_000), ..Request::default() };
    // Every route has a past.
    for turn in 0..count as u64 * 20 {
        let Ok((_, attempt)) = group.select(&Request { seed: turn, ..request.clone() }) else { continue };
        let outcome = Outcome {
            verdict: Verdict::Success,
            first: Some(Duration::from_millis(300 + turn % 200)),
            total: Duration::from_millis(1500),
            usage: Some(Usage { input: 1000, output: 100, ..Usage::default() }),
            retry_after: None,
            now: request.now,
            random: turn,
        };
        attempt.record(&outcome);
    }
    let mut rounds: Vec<Duration> = (0..ROUNDS)
        .map(|round| {
            let started = Instant::now();
            for turn in 0..SELECTIONS {
                request.seed = u64::from(round * SELECTIONS + turn);
                request.now = Moment(1000 + u64::from(turn / 100));
                black_box(group.select(&request).is_ok());
            }
            started.elapsed() / SELECTIONS
        })
        .collect();
    rounds.sort();
    rounds[rounds.len() / 2]
}
