//! Live counters. Written once per attempt, read once per ranking; atomics only, no lock.
//!
//! Averages are exponentially weighted by sample (weight 0.2), which adapts within about ten answers. A race between two
//! writers loses one sample, which an average can bear.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::Moment;
use super::breaker::Breaker;

/// Weight of the newest sample.
const WEIGHT: f64 = 0.2;

/// An average of a positive quantity; NaN bits until the first sample.
#[derive(Debug)]
struct Average(AtomicU64);

impl Default for Average {
    fn default() -> Self {
        Self(AtomicU64::new(f64::NAN.to_bits()))
    }
}

impl Average {
    fn get(&self) -> Option<f64> {
        Some(f64::from_bits(self.0.load(Relaxed))).filter(|value| !value.is_nan())
    }

    fn add(&self, sample: f64) {
        let next = self.get().map_or(sample, |old| old + WEIGHT * (sample - old));
        self.0.store(next.to_bits(), Relaxed);
    }
}

/// How one model at one credential has been doing.
#[derive(Debug, Default)]
pub struct RouteStats {
    latency: Average,
    /// Share of failed attempts, 0 to 1.
    failures: Average,
    attempts: AtomicU64,
    in_flight: AtomicI64,
    /// Whether it is left alone for a while.
    pub breaker: Breaker,
}

/// How one attempt ended, as far as the balancer cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It answered.
    Success,
    /// It failed by the provider's fault.
    Failure,
    /// It says nothing about the provider: a 429, a client's error, a client that left.
    Neutral,
}

impl RouteStats {
    /// Expected time of an answer in milliseconds; `None` before the first one.
    pub fn latency_ms(&self) -> Option<f64> {
        self.latency.get()
    }

    /// Smoothed share of failures with a prior of 2 % worth ten attempts.
    pub fn error_rate(&self) -> f64 {
        let attempts = (self.attempts.load(Relaxed) as f64).min(100.0);
        let failures = self.failures.get().unwrap_or(0.0) * attempts;
        (failures + 0.2) / (attempts + 10.0)
    }

    /// Requests under way.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed).max(0).unsigned_abs()
    }

    /// An attempt starts; the guard counts it out again, however it ends.
    pub fn start(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(Arc::clone(self))
    }

    /// An attempt ended. `latency` is to the first content of a stream, to the end of a whole answer.
    pub fn record(&self, verdict: Verdict, latency: Option<Duration>, now: Moment) {
        match verdict {
            Verdict::Neutral => self.breaker.release(),
            Verdict::Success => {
                self.attempts.fetch_add(1, Relaxed);
                self.failures.add(0.0);
                self.breaker.success();
                if let Some(latency) = latency {
                    self.latency.add(latency.as_secs_f64() * 1000.0);
                }
            }
            Verdict::Failure => {
                self.attempts.fetch_add(1, Relaxed);
                self.failures.add(1.0);
                self.breaker.failure(now);
            }
        }
    }
}

/// One attempt under way.
#[derive(Debug)]
pub struct InFlight(Arc<RouteStats>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// Whether a credential is cooling down after a 429.
#[derive(Debug, Default)]
pub struct CredentialStats {
    until: AtomicU64,
}

impl CredentialStats {
    /// Cools down; a second 429 can only extend the time.
    pub fn cool_down(&self, wait: Duration, now: Moment) {
        let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.until.fetch_max(now.0.saturating_add(wait), Relaxed);
    }

    /// How much longer it cools down, if it does.
    pub fn cooling(&self, now: Moment) -> Option<Duration> {
        let left = self.until.load(Relaxed).saturating_sub(now.0);
        (left > 0).then(|| Duration::from_millis(left))
    }
}

/// All counters by what they count. They outlive groups, so that a changed workspace keeps its experience.
#[derive(Debug, Default)]
pub struct StatsBook {
    routes: RwLock<HashMap<(String, String), Arc<RouteStats>>>,
    credentials: RwLock<HashMap<String, Arc<CredentialStats>>>,
}

/// Above so many counters the book starts afresh: a client that invents model names must not fill the memory.
const MAX_COUNTERS: usize = 100_000;

impl StatsBook {
    /// The counters of a model at a credential.
    pub fn route(&self, credential: &str, model: &str) -> Arc<RouteStats> {
        entry(&self.routes, (credential.to_owned(), model.to_owned()))
    }

    /// The cool-down of a credential.
    pub fn credential(&self, credential: &str) -> Arc<CredentialStats> {
        entry(&self.credentials, credential.to_owned())
    }
}

fn entry<K: std::hash::Hash + Eq, V: Default>(map: &RwLock<HashMap<K, Arc<V>>>, key: K) -> Arc<V> {
    let mut map = map.write().unwrap_or_else(PoisonError::into_inner);
    if map.len() >= MAX_COUNTERS && !map.contains_key(&key) {
        map.clear();
    }
    Arc::clone(map.entry(key).or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_failures_move_the_rate_and_neutral_outcomes_do_not() {
        let stats = RouteStats::default();
        let fresh = stats.error_rate();
        stats.record(Verdict::Neutral, None, Moment(0));
        assert_eq!(stats.error_rate(), fresh);
        stats.record(Verdict::Failure, None, Moment(0));
        assert!(stats.error_rate() > fresh);
    }

    #[test]
    fn a_second_429_only_extends_the_cool_down() {
        let stats = CredentialStats::default();
        stats.cool_down(Duration::from_secs(10), Moment(0));
        stats.cool_down(Duration::from_secs(1), Moment(1000));
        assert_eq!(stats.cooling(Moment(2000)), Some(Duration::from_secs(8)));
        assert_eq!(stats.cooling(Moment(10_000)), None);
    }

    #[test]
    fn what_is_under_way_is_counted_out_again() {
        let stats = Arc::new(RouteStats::default());
        let attempt = stats.start();
        assert_eq!(stats.in_flight(), 1);
        drop(attempt);
        assert_eq!(stats.in_flight(), 0);
    }
}
