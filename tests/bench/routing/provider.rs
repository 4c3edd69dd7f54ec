//! A simulated provider: how fast, how dear, and what happens to it when.

use std::collections::HashMap;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// A provider's script.
#[derive(Clone)]
pub(crate) struct Provider {
    /// Usual milliseconds to the first token.
    pub(crate) ttft: f64,
    /// Usual milliseconds per token.
    pub(crate) tpot: f64,
    /// Dollars per million tokens in and out.
    pub(crate) price: (f64, f64),
    /// Share of attempts that fail at any time.
    pub(crate) errors: f64,
    /// Tokens of its tokenizer per estimated one.
    pub(crate) tokens: f64,
    /// Requests under way above which it slows down in proportion.
    pub(crate) capacity: f64,
    /// What happens when.
    pub(crate) phases: Vec<Phase>,
}

impl Default for Provider {
    fn default() -> Self {
        let phases = Vec::new();
        Self { ttft: 500.0, tpot: 10.0, price: (1.0, 4.0), errors: 0.0, tokens: 1.0, capacity: 1e9, phases }
    }
}

/// From one second to another.
#[derive(Clone)]
pub(crate) struct Phase {
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) what: What,
}

/// What can happen.
#[derive(Clone, Copy)]
pub(crate) enum What {
    /// So many times slower.
    Slow(f64),
    /// From one to so many times slower, evenly.
    Drift(f64),
    /// A 500 after 50 ms, each time with this probability.
    Errors(f64),
    /// Nothing comes.
    Hang,
    /// A 429 after 20 ms for what exceeds so many requests per second; it asks for so many seconds.
    Limit(f64, u64),
    /// Every so many seconds it fails for as many.
    Flap(f64),
}

/// How an attempt would end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    /// An answer: milliseconds to the first token and to the last.
    Answer { first: f64, total: f64 },
    /// A 5xx after so many milliseconds.
    Error(f64),
    /// A 429 after 20 ms, with seconds.
    Limited(u64),
    /// Nothing, ever.
    Silence,
}

/// One simulated request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) id: u64,
    /// Milliseconds.
    pub(crate) at: f64,
    pub(crate) key: usize,
    pub(crate) conversation: u64,
    pub(crate) prompt: f64,
    pub(crate) output: f64,
}

/// A provider while a scenario is played.
pub(crate) struct Live {
    pub(crate) script: Provider,
    pub(crate) under_way: f64,
    /// Tokens of the rate limit, and when they were counted.
    bucket: (f64, f64),
    /// When each conversation's prompt was cached.
    caches: HashMap<u64, f64>,
    number: u64,
}

/// Share of a prompt that a warm cache has.
const CACHED: f64 = 0.8;
/// What a cached token costs of a new one.
const CACHED_PRICE: f64 = 0.1;
/// How long a cache is warm, in milliseconds.
const WARM: f64 = 300_000.0;

impl Live {
    pub(crate) fn new(script: Provider, number: u64) -> Self {
        Self { script, under_way: 0.0, bucket: (0.0, 0.0), caches: HashMap::new(), number }
    }

    fn now(&self, at: f64) -> impl Iterator<Item = (&Phase, f64)> {
        let second = at / 1000.0;
        let phases = self.script.phases.iter().filter(move |phase| (phase.from..phase.to).contains(&second));
        phases.map(move |phase| (phase, (second - phase.from) / (phase.to - phase.from)))
    }

    /// How this attempt would end; changes nothing. `jitter` is off for the oracle.
    pub(crate) fn foresee(&self, ask: &Ask, at: f64, jitter: bool) -> End {
        let mut random = SmallRng::seed_from_u64(ask.id * 64 + self.number * 7919 + (at as u64));
        let (luck, noise): (f64, f64) = (random.random(), (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0);
        let mut slow = (self.under_way / self.script.capacity).max(1.0);
        let mut errors = self.script.errors;
        for (phase, progress) in self.now(at) {
            match phase.what {
                What::Slow(times) => slow *= times,
                What::Drift(times) => slow *= 1.0 + (times - 1.0) * progress,
                What::Errors(share) => errors = errors.max(share),
                What::Hang => return End::Silence,
                What::Flap(every) if (at / 1000.0 / every) as u64 % 2 == 1 => errors = 1.0,
                What::Flap(_) => {}
                What::Limit(rate, wait) => {
                    let tokens = (self.bucket.0 + (at - self.bucket.1) / 1000.0 * rate).min(rate);
                    if tokens < 1.0 {
                        return End::Limited(wait);
                    }
                }
            }
        }
        if luck < errors {
            return End::Error(50.0);
        }
        let noise = if jitter { (0.2 * noise).exp() } else { 1.0 };
        let first = self.script.ttft * slow * noise;
        End::Answer { first, total: first + ask.output * self.script.tpot * slow }
    }

    /// The attempt takes place.
    pub(crate) fn send(&mut self, ask: &Ask, at: f64) -> End {
        let end = self.foresee(ask, at, true);
        let limits = self.now(at).filter_map(|(phase, _)| match phase.what {
            What::Limit(rate, _) => Some(rate),
            _ => None,
        });
        if let Some(rate) = limits.reduce(f64::min) {
            let tokens = (self.bucket.0 + (at - self.bucket.1) / 1000.0 * rate).min(rate);
            self.bucket = (if end_is_limited(end) { tokens } else { tokens - 1.0 }, at);
        }
        self.under_way += 1.0;
        end
    }

    /// Prompt tokens as this provider counts them, and how many of them come from its cache.
    pub(crate) fn prompt(&self, ask: &Ask, at: f64) -> (f64, f64) {
        let tokens = ask.prompt * self.script.tokens;
        let warm = self.caches.get(&ask.conversation).is_some_and(|cached| at - cached < WARM);
        (tokens, if warm { tokens * CACHED } else { 0.0 })
    }

    /// Dollars for an answer.
    pub(crate) fn cost(&self, ask: &Ask, at: f64) -> f64 {
        let (tokens, cached) = self.prompt(ask, at);
        let (input, output) = self.script.price;
        ((tokens - cached) * input + cached * input * CACHED_PRICE + ask.output * output) / 1e6
    }

    pub(crate) fn remember(&mut self, ask: &Ask, at: f64) {
        self.caches.insert(ask.conversation, at);
    }
}

fn end_is_limited(end: End) -> bool {
    matches!(end, End::Limited(_))
}
