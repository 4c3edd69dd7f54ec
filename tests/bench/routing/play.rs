//! Plays a scenario with one balancer: requests arrive, attempts end, failures are tried elsewhere, three attempts at most.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::balancers::{Balancer, Told};
use crate::provider::{Ask, End, Live};
use crate::scenarios::Scenario;

/// Attempts of one request.
const MAX_ATTEMPTS: usize = 3;
/// How the usual lengths of the keys' answers differ.
const LENGTHS: [f64; 4] = [40.0, 120.0, 250.0, 500.0];

/// What came of it.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) requests: usize,
    pub(crate) first_try: usize,
    pub(crate) succeeded: usize,
    pub(crate) attempts: usize,
    /// The same while every provider is out.
    pub(crate) outage: (usize, usize),
    /// Seconds, of those that succeeded.
    pub(crate) times: Vec<f64>,
    pub(crate) cost: f64,
}

/// A request under way.
struct Journey {
    ask: Ask,
    tried: Vec<usize>,
}

/// Something that happens to an attempt, ordered by its microsecond.
type Event = Reverse<(u64, usize, Step)>;

/// What happens to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    FirstToken,
    End,
}

struct Play<'a> {
    scenario: &'a Scenario,
    providers: Vec<Live>,
    journeys: Vec<Journey>,
    /// Attempts under way: journey, provider, how it ends, when it began.
    attempts: Vec<(usize, usize, End, f64)>,
    queue: BinaryHeap<Event>,
    tally: Tally,
}

pub(crate) fn play(scenario: &Scenario, balancer: &mut dyn Balancer) -> Tally {
    let providers = (0..).zip(&scenario.providers).map(|(number, script)| Live::new(script.clone(), number)).collect();
    let mut play = Play {
        scenario,
        providers,
        journeys: Vec::new(),
        attempts: Vec::new(),
        queue: BinaryHeap::new(),
        tally: Tally::default(),
    };
    for ask in arrivals(scenario) {
        while play.queue.peek().is_some_and(|Reverse((at, ..))| *at as f64 / 1000.0 <= ask.at) {
            play.step(balancer);
        }
        play.tally.requests += 1;
        play.tally.outage.0 += usize::from(scenario.is_out(ask.at));
        play.journeys.push(Journey { ask, tried: Vec::new() });
        balancer.admitted(ask.at);
        play.attempt(play.journeys.len() - 1, ask.at, balancer);
    }
    while !play.queue.is_empty() {
        play.step(balancer);
    }
    play.tally
}

impl Play<'_> {
    fn attempt(&mut self, journey: usize, at: f64, balancer: &mut dyn Balancer) {
        let Journey { ask, tried } = &self.journeys[journey];
        let Some(slot) = balancer.pick(&self.providers, ask, tried, at) else { return };
        self.tally.attempts += 1;
        if self.scenario.is_out(at) && !tried.is_empty() {
            self.tally.outage.1 += 1;
        }
        let ask = *ask;
        self.journeys[journey].tried.push(slot);
        let end = self.providers[slot].send(&ask, at);
        let took = match end {
            End::Answer { total, .. } => total,
            End::Error(took) => took,
            End::Limited(_) => 20.0,
            End::Silence => balancer.patience(slot, at),
        };
        self.attempts.push((journey, slot, end, at));
        let attempt = self.attempts.len() - 1;
        let mut after = |millis: f64, step| self.queue.push(Reverse((((at + millis) * 1000.0) as u64, attempt, step)));
        after(took, Step::End);
        if let End::Answer { first, .. } = end {
            after(first, Step::FirstToken);
        }
    }

    fn step(&mut self, balancer: &mut dyn Balancer) {
        let Some(Reverse((due, attempt, step))) = self.queue.pop() else { return };
        let (journey, slot, end, began) = self.attempts[attempt];
        let at = due as f64 / 1000.0;
        match step {
            Step::FirstToken => balancer.began(self.journeys[journey].ask.id, slot, at - began, at),
            Step::End => self.end((journey, slot, end, began), at, balancer),
        }
    }

    fn end(&mut self, (journey, slot, end, began): (usize, usize, End, f64), at: f64, balancer: &mut dyn Balancer) {
        let Journey { ask, tried } = &self.journeys[journey];
        let (ask, tries) = (*ask, tried.len());
        let provider = &mut self.providers[slot];
        provider.under_way -= 1.0;
        let (prompt, cached) = provider.prompt(&ask, began);
        let told = Told { slot, ask, end, at, took: at - began, prompt, cached };
        balancer.ended(&told);
        if let End::Answer { .. } = end {
            self.tally.cost += provider.cost(&ask, began);
            provider.remember(&ask, began);
            self.tally.succeeded += 1;
            self.tally.first_try += usize::from(tries == 1);
            self.tally.times.push((at - ask.at) / 1000.0);
        } else if tries < MAX_ATTEMPTS && tries < self.providers.len() && balancer.may_retry(end, at) {
            self.attempt(journey, at, balancer);
        }
    }
}

/// The scenario's requests: a Poisson stream of conversations of several turns.
fn arrivals(scenario: &Scenario) -> impl Iterator<Item = Ask> {
    let mut random = SmallRng::seed_from_u64(7);
    let (rate, end) = (scenario.rate, scenario.seconds * 1000.0);
    let mut at = 0.0;
    (0..).map_while(move |id| {
        at += -(1.0 - random.random::<f64>()).ln() / rate * 1000.0;
        let key = random.random_range(0..LENGTHS.len());
        let spread = |random: &mut SmallRng| (random.random::<f64>() - 0.5).exp();
        let ask = Ask {
            id,
            at,
            key,
            conversation: id / 40 * 8 + random.random_range(0..8),
            prompt: (1500.0 * spread(&mut random)).round(),
            output: (LENGTHS[key] * spread(&mut random)).round(),
        };
        (at < end).then_some(ask)
    })
}
