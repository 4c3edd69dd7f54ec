//! Who picks: the gateway's own balancer, what others do, and the oracle.

use std::collections::HashMap;
use std::time::Duration;

use perpetuo::api::strategy::StrategyName;
use perpetuo::balance::attempt::{Attempt, Outcome, Verdict};
use perpetuo::balance::budget::{Budgets, Retry};
use perpetuo::balance::group::Group;
use perpetuo::balance::request::Request;
use perpetuo::balance::{Moment, hash};
use perpetuo::usage::Usage;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::provider::{Ask, End, Live};
use crate::scenarios::Scenario;
use crate::stage;

/// An attempt that ended.
pub(crate) struct Told {
    pub(crate) slot: usize,
    pub(crate) ask: Ask,
    pub(crate) end: End,
    /// Milliseconds.
    pub(crate) at: f64,
    pub(crate) took: f64,
    pub(crate) prompt: f64,
    pub(crate) cached: f64,
}

/// Picks providers and hears how it went.
pub(crate) trait Balancer {
    fn name(&self) -> &'static str;
    fn pick(&mut self, providers: &[Live], ask: &Ask, tried: &[usize], at: f64) -> Option<usize>;
    fn admitted(&mut self, _at: f64) {}
    /// The first token of an answer came, so many milliseconds after it was asked for.
    fn began(&mut self, _id: u64, _slot: usize, _first: f64, _at: f64) {}
    fn ended(&mut self, _told: &Told) {}
    fn may_retry(&mut self, _end: End, _at: f64) -> bool {
        true
    }
    /// Milliseconds until silence is a timeout.
    fn patience(&self, _slot: usize, _at: f64) -> f64 {
        15_000.0
    }
}

/// Those that are compared with.
pub(crate) fn rivals(count: usize) -> Vec<Box<dyn Balancer>> {
    let seen = || Latency { millis: vec![None; count], under_way: vec![0.0; count] };
    vec![
        Box::new(RoundRobin(0)),
        Box::new(LeastLatency(seen())),
        Box::new(TwoChoices(seen(), SmallRng::seed_from_u64(3))),
    ]
}

struct RoundRobin(usize);

impl Balancer for RoundRobin {
    fn name(&self) -> &'static str {
        "round robin"
    }

    fn pick(&mut self, providers: &[Live], _: &Ask, tried: &[usize], _: f64) -> Option<usize> {
        self.0 += 1;
        let turn = |offset| (self.0 + offset) % providers.len();
        (0..providers.len()).map(turn).find(|slot| !tried.contains(slot))
    }
}

/// Mean time of everything that came back, failures included, and what is under way.
struct Latency {
    millis: Vec<Option<f64>>,
    under_way: Vec<f64>,
}

impl Latency {
    fn ended(&mut self, told: &Told) {
        self.under_way[told.slot] -= 1.0;
        let mean = &mut self.millis[told.slot];
        *mean = Some(mean.map_or(told.took, |old| old + 0.2 * (told.took - old)));
    }
}

struct LeastLatency(Latency);

impl Balancer for LeastLatency {
    fn name(&self) -> &'static str {
        "least latency"
    }

    fn pick(&mut self, providers: &[Live], _: &Ask, tried: &[usize], _: f64) -> Option<usize> {
        let left = (0..providers.len()).filter(|slot| !tried.contains(slot));
        let cost = |slot: &usize| self.0.millis[*slot].unwrap_or(0.0);
        let slot = left.min_by(|a, b| cost(a).total_cmp(&cost(b)))?;
        self.0.under_way[slot] += 1.0;
        Some(slot)
    }

    fn ended(&mut self, told: &Told) {
        self.0.ended(told);
    }
}

struct TwoChoices(Latency, SmallRng);

impl Balancer for TwoChoices {
    fn name(&self) -> &'static str {
        "two choices"
    }

    fn pick(&mut self, providers: &[Live], _: &Ask, tried: &[usize], _: f64) -> Option<usize> {
        let left: Vec<usize> = (0..providers.len()).filter(|slot| !tried.contains(slot)).collect();
        let (a, b) = (*left.get(self.1.random_range(0..left.len().max(1)))?, left[self.1.random_range(0..left.len())]);
        let cost = |slot: usize| self.0.millis[slot].unwrap_or(0.0) * (self.0.under_way[slot] + 1.0);
        let slot = if cost(b) < cost(a) { b } else { a };
        self.0.under_way[slot] += 1.0;
        Some(slot)
    }

    fn ended(&mut self, told: &Told) {
        self.0.ended(told);
    }
}

/// Knows every script.
pub(crate) struct Oracle {
    pub(crate) by_cost: bool,
}

impl Balancer for Oracle {
    fn name(&self) -> &'static str {
        "oracle"
    }

    fn pick(&mut self, providers: &[Live], ask: &Ask, tried: &[usize], at: f64) -> Option<usize> {
        let left = (0..providers.len()).filter(|slot| !tried.contains(slot));
        let cost = |slot: &usize| match providers[*slot].foresee(ask, at, false) {
            End::Answer { total, .. } if !self.by_cost => total,
            End::Answer { .. } => providers[*slot].cost(ask, at),
            _ => f64::INFINITY,
        };
        left.min_by(|a, b| cost(a).total_cmp(&cost(b)))
    }

    fn may_retry(&mut self, _: End, _: f64) -> bool {
        false
    }
}

/// The gateway's balancer with its budget, as the request loop drives it.
pub(crate) struct Ours {
    group: Group,
    strategy: StrategyName,
    budgets: Budgets,
    under_way: HashMap<(u64, usize), Attempt>,
    random: SmallRng,
}

impl Ours {
    pub(crate) async fn new(scenario: &Scenario, strategy: StrategyName) -> Self {
        let group = stage::group(&scenario.providers).await;
        let random = SmallRng::seed_from_u64(11);
        Self { group, strategy, budgets: Budgets::default(), under_way: HashMap::new(), random }
    }
}

impl Balancer for Ours {
    fn name(&self) -> &'static str {
        self.strategy.as_str()
    }

    fn pick(&mut self, _: &[Live], ask: &Ask, tried: &[usize], at: f64) -> Option<usize> {
        let request = Request {
            strategy: self.strategy,
            now: Moment(at as u64),
            seed: self.random.random(),
            prompt_tokens: ask.prompt as u64,
            stream: true,
            key: hash(ask.key),
            prefix: Some(hash(ask.conversation)),
            tried: tried.iter().map(|slot| *slot as u32).collect(),
            ..Request::default()
        };
        let (choice, attempt) = self.group.select(&request).ok()?;
        self.under_way.insert((ask.id, choice.candidate.slot), attempt);
        Some(choice.candidate.slot)
    }

    fn admitted(&mut self, at: f64) {
        self.budgets.request("ws", Moment(at as u64));
    }

    fn began(&mut self, id: u64, slot: usize, first: f64, at: f64) {
        if let Some(attempt) = self.under_way.get_mut(&(id, slot)) {
            attempt.first_token(Duration::from_secs_f64(first / 1000.0), Moment(at as u64));
        }
    }

    fn ended(&mut self, told: &Told) {
        let Some(attempt) = self.under_way.remove(&(told.ask.id, told.slot)) else { return };
        let now = Moment(told.at as u64);
        let millis = |millis: f64| Duration::from_secs_f64(millis / 1000.0);
        let (verdict, first, retry_after) = match told.end {
            End::Answer { first, .. } => (Verdict::Success, Some(millis(first)), None),
            End::Error(_) => (Verdict::Failure, None, None),
            End::Limited(wait) => (Verdict::RateLimited, None, Some(Duration::from_secs(wait))),
            End::Silence => (Verdict::Timeout, None, None),
        };
        let usage = Usage {
            input: (told.prompt - told.cached) as u64,
            cached_read: told.cached as u64,
            output: told.ask.output as u64,
            ..Usage::default()
        };
        let usage = (verdict == Verdict::Success).then_some(usage);
        let random = self.random.random();
        attempt.record(&Outcome { verdict, first, total: millis(told.took), usage, retry_after, now, random });
        if verdict == Verdict::Success {
            self.budgets.success("ws", now);
        }
    }

    fn may_retry(&mut self, end: End, at: f64) -> bool {
        let retry = if end == End::Silence { Retry::AfterTimeout } else { Retry::Plain };
        self.budgets.retry("ws", retry, Moment(at as u64))
    }

    fn patience(&self, slot: usize, at: f64) -> f64 {
        let limit = Duration::from_secs(120);
        let stats = &self.group.candidates()[slot].stats;
        stats.first_token_timeout(limit, Moment(at as u64)).as_secs_f64() * 1000.0
    }
}
