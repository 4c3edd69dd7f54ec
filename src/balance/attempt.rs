//! One attempt at a candidate: let in by the breaker, under way, recorded once.
//!
//! Invariant: whatever happens, it stops counting as under way and gives its place at the breaker back when it is dropped;
//! [`Attempt::record`] takes it by value, so no attempt is recorded twice. The first token of a stream is told when it comes,
//! because minutes may pass until the last one; it counts once, whoever tells it.

use std::sync::Arc;
use std::time::Duration;

use super::breaker::Pass;
use super::request::Request;
use super::stats::{Refusal, Timing};
use super::{Candidate, Moment};
use crate::error::{Error, ErrorKind, Source};
use crate::usage::Usage;

/// What an attempt says about who was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It answered.
    Success,
    /// It failed by the provider's fault.
    Failure,
    /// Nothing had come when its time was up.
    Timeout,
    /// Its credential is over a limit for a while.
    RateLimited,
    /// Its credential is refused for good.
    Refused(Refusal),
    /// Nothing: a client's error, a client that left.
    Neutral,
}

impl Verdict {
    /// What this error says about the provider. A refused request says nothing about its health.
    pub fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::ProviderRateLimited => Self::RateLimited,
            ErrorKind::ProviderQuotaExhausted => Self::Refused(Refusal::Quota),
            ErrorKind::ProviderKeyInvalid => Self::Refused(Refusal::Key),
            ErrorKind::ProviderTimeout => Self::Timeout,
            kind if kind.row().source == Source::Provider && kind.row().retryable => Self::Failure,
            _ => Self::Neutral,
        }
    }
}

/// Everything that is known of an attempt once it is over.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// What it says about the provider.
    pub verdict: Verdict,
    /// From the start to the first content of a stream; nothing when the answer came whole, or never.
    pub first: Option<Duration>,
    /// From the start to the end.
    pub total: Duration,
    /// The tokens that the provider billed; nothing where they were only estimated.
    pub usage: Option<Usage>,
    /// How long the provider wants to be left alone.
    pub retry_after: Option<Duration>,
    /// Now.
    pub now: Moment,
    /// Randomness, for the jitter of a breaker that opens.
    pub random: u64,
}

/// What recording an attempt brought about, for logs and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// The breaker of the route opened.
    pub opened: bool,
    /// The credential is out until it is changed, and this is the first time that is said.
    pub disabled: Option<Refusal>,
}

/// One attempt under way.
#[derive(Debug)]
pub struct Attempt {
    candidate: Arc<Candidate>,
    pass: Pass,
    /// What was thought of the request, to be compared with what came of it.
    prompt_tokens: u64,
    key: u64,
    prefix: Option<u64>,
    warm: bool,
    first: First,
}

/// The first token of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    /// A stream's, still to come.
    Awaited,
    /// Of an answer that comes whole, nobody waits for it.
    Unknown,
    /// It came, and the route knows.
    Came,
}

impl Attempt {
    /// An attempt that the breaker let in, from now on under way.
    pub(super) fn begin(candidate: Arc<Candidate>, pass: Pass, request: &Request) -> Self {
        let first = if request.stream { First::Awaited } else { First::Unknown };
        candidate.stats.begin(first == First::Awaited, request.now);
        let warm = is_warm(&candidate, request);
        let Request { prompt_tokens, key, prefix, .. } = *request;
        Self { candidate, pass, prompt_tokens, key, prefix, warm, first }
    }

    /// Who is asked.
    pub const fn candidate(&self) -> &Arc<Candidate> {
        &self.candidate
    }

    /// The first token of its stream came, so long after the start. To be told at once: until then the route is thought to be
    /// silent.
    pub fn first_token(&mut self, first: Duration, now: Moment) {
        if self.first != First::Came {
            let awaited = std::mem::replace(&mut self.first, First::Came) == First::Awaited;
            self.candidate.stats.first_token(first, awaited, now);
        }
    }

    /// It is over: route, breaker, credential and caches learn from it.
    pub fn record(mut self, outcome: &Outcome) -> Effect {
        let now = outcome.now;
        if let (Some(first), Verdict::Success) = (outcome.first, outcome.verdict) {
            self.first_token(first, now);
        }
        let Candidate { stats, cooling, revision, .. } = &*self.candidate;
        let mut effect = Effect::default();
        match outcome.verdict {
            Verdict::Success => self.learn(outcome),
            Verdict::Failure | Verdict::Timeout => {
                stats.failed(now);
                stats.penalise(outcome.retry_after, now);
                if outcome.verdict == Verdict::Timeout && outcome.first.is_none() {
                    stats.timed_out(outcome.total, now);
                }
                effect.opened = stats.breaker.failure(self.pass, now, outcome.random);
            }
            Verdict::RateLimited => {
                cooling.cool_down(outcome.retry_after, now);
                stats.penalise(outcome.retry_after, now);
            }
            Verdict::Refused(refusal) => {
                effect.disabled = cooling.disable(*revision, refusal).then_some(refusal);
            }
            Verdict::Neutral => {}
        }
        effect
    }

    fn learn(&self, outcome: &Outcome) {
        let Candidate { stats, cooling, tokens, outputs, .. } = &*self.candidate;
        let output = outcome.usage.map(|usage| usage.output);
        stats.answered(Timing { first: outcome.first, total: outcome.total, output }, outcome.now);
        if self.pass == Pass::Probe {
            // What it failed with before, the slow start minds.
            stats.forgive(outcome.now);
        }
        stats.breaker.success(self.pass, outcome.now);
        cooling.success();
        if let Some(prefix) = self.prefix {
            self.candidate.prefixes.saw(prefix, self.candidate.tag, outcome.now);
        }
        if let Some(usage) = outcome.usage {
            tokens.saw_prompt(usage.prompt_tokens(), self.prompt_tokens);
            outputs.saw_output(self.key, usage.output);
            stats.cached(self.warm, usage.prompt_tokens(), usage.cached_read, usage.cache_write);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.candidate.stats.breaker.leave(self.pass);
        self.candidate.stats.end(self.first == First::Awaited);
    }
}

/// Whether the candidate is the one whose cache has the beginning of this prompt.
pub(super) fn is_warm(candidate: &Candidate, request: &Request) -> bool {
    request.prefix.is_some_and(|prefix| candidate.prefixes.is_warm(prefix, candidate.tag, request.now))
}
