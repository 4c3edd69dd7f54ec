//! The table.

use crate::play::Tally;
use crate::scenarios::Scenario;

pub(crate) fn head() {
    println!(
        "| scenario | balancer | success | first try | mean | p95 | cost | regret | retries/request | in the outage |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    );
}

/// Regret: how much more time, or money where that is the aim, than the oracle needed.
pub(crate) fn row(scenario: &Scenario, name: &str, tally: &Tally, oracle: &Tally) {
    let share = |part: usize| part as f64 * 100.0 / tally.requests as f64;
    let regret = match scenario.by_cost() {
        true => tally.cost / tally.succeeded.max(1) as f64 / (oracle.cost / oracle.succeeded.max(1) as f64),
        false => mean(&tally.times) / mean(&oracle.times),
    };
    let (requests, retries) = tally.outage;
    let outage = if requests > 0 { format!("{:.3}", retries as f64 / requests as f64) } else { String::new() };
    println!(
        "| {} | {name} | {:.2} % | {:.2} % | {:.2} s | {:.2} s | ${:.2} | {:+.1} % | {:.3} | {outage} |",
        scenario.name,
        share(tally.succeeded),
        share(tally.first_try),
        mean(&tally.times),
        p95(&tally.times),
        tally.cost,
        (regret - 1.0) * 100.0,
        (tally.attempts.saturating_sub(tally.requests)) as f64 / tally.requests as f64,
    );
}

fn mean(times: &[f64]) -> f64 {
    times.iter().sum::<f64>() / times.len().max(1) as f64
}

fn p95(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times.get(times.len() * 95 / 100).copied().unwrap_or_default()
}
