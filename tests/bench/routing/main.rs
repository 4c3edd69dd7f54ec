//! The gateway's own balancer against simulated providers that follow scripts, on a virtual clock, beside what others do and
//! beside an oracle that knows every script; and what one selection costs.
//!
//! Run it with `cargo bench --bench routing`; a word after `--` keeps the scenarios whose name contains it. Everything is drawn
//! from fixed seeds: two runs print the same table. The oracle knows for each attempt whether it would fail and how fast the
//! provider is at that moment, but not the jitter of the single answer.
#![expect(clippy::print_stdout, reason = "the table is the result")]
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a benchmark that can't start has nothing to say")]

mod balancers;
mod cost;
mod play;
mod provider;
mod report;
mod scenarios;
mod stage;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let only = std::env::args().skip(1).find(|word| !word.starts_with("--")).unwrap_or_default();
    report::head();
    for scenario in scenarios::all().iter().filter(|scenario| scenario.name.contains(&only)) {
        let oracle = play::play(scenario, &mut balancers::Oracle { by_cost: scenario.by_cost() });
        for mut balancer in balancers::rivals(scenario.providers.len()) {
            report::row(scenario, balancer.name(), &play::play(scenario, &mut *balancer), &oracle);
        }
        for strategy in &scenario.strategies {
            let mut ours = balancers::Ours::new(scenario, *strategy).await;
            report::row(scenario, strategy.as_str(), &play::play(scenario, &mut ours), &oracle);
        }
        report::row(scenario, "oracle", &oracle, &oracle);
    }
    if only.is_empty() || only == "select" {
        cost::measure().await;
    }
}
