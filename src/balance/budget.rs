//! How much may be tried twice: retries and hedges, per workspace and in all.
//!
//! Retries are paid for by successes, so that a healthy system retries freely and one in an outage hardly at all, instead of
//! meeting it with three times the traffic. A workspace that fails can't spend what the others have earned.
//!
//! Time comes in as an argument. A bucket is a lock held for a few instructions, once per request.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hashbrown::HashMap;

use super::Moment;

/// What a bucket holds at most, and at first.
const CAPACITY: f64 = 100.0;
/// What a success brings in: one retry for five of them.
const EARNED: f64 = 0.2;
/// What every second brings in, so that a quiet workspace can retry, too.
const PER_SECOND: f64 = 1.0;
/// What a request brings into the bucket of hedges: one for fifty.
const HEDGE_SHARE: f64 = 0.02;
/// What that bucket holds at most.
const HEDGE_CAPACITY: f64 = 10.0;
/// Above so many workspaces the ones that are full, and so have nothing to remember, are forgotten.
const MANY: usize = 10_000;

/// What a retry costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// After an answer or a refused connection.
    Plain,
    /// After a timeout, which has held resources for long.
    AfterTimeout,
}

impl Retry {
    const fn cost(self) -> f64 {
        match self {
            Self::Plain => 1.0,
            Self::AfterTimeout => 2.0,
        }
    }
}

/// Tokens, and when they were counted.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    capacity: f64,
    per_second: f64,
    counted: Moment,
}

impl Bucket {
    const fn full(capacity: f64, per_second: f64) -> Self {
        Self { tokens: capacity, capacity, per_second, counted: Moment(0) }
    }

    /// Brings the count up to now.
    fn refill(&mut self, now: Moment) {
        let earned = now.since(self.counted) as f64 / 1000.0 * self.per_second;
        self.counted = self.counted.max(now);
        self.put(earned);
    }

    fn put(&mut self, tokens: f64) {
        self.tokens = (self.tokens + tokens).min(self.capacity);
    }

    fn has(&mut self, cost: f64, now: Moment) -> bool {
        self.refill(now);
        self.tokens >= cost
    }
}

/// The two buckets of a workspace, or of all.
#[derive(Debug)]
struct Purse {
    retries: Bucket,
    hedges: Bucket,
}

impl Default for Purse {
    fn default() -> Self {
        let mut hedges = Bucket::full(HEDGE_CAPACITY, 0.0);
        // The first hedge is earned like every other.
        hedges.tokens = 0.0;
        Self { retries: Bucket::full(CAPACITY, PER_SECOND), hedges }
    }
}

/// Every budget.
#[derive(Debug, Default)]
pub struct Budgets {
    global: Mutex<Purse>,
    workspaces: RwLock<HashMap<String, Arc<Mutex<Purse>>>>,
}

impl Budgets {
    /// A request was admitted: pays into the bucket of hedges.
    pub fn request(&self, workspace: &str, now: Moment) {
        self.with_both(workspace, now, |purse| purse.hedges.put(HEDGE_SHARE));
    }

    /// A request succeeded: pays into the bucket of retries.
    pub fn success(&self, workspace: &str, now: Moment) {
        self.with_both(workspace, now, |purse| {
            purse.retries.refill(now);
            purse.retries.put(EARNED);
        });
    }

    /// Takes what a retry costs, out of both buckets or neither. `false`: the error at hand is the answer, and it says
    /// `x-should-retry: false`.
    pub fn retry(&self, workspace: &str, retry: Retry, now: Moment) -> bool {
        self.take(workspace, now, retry.cost(), |purse| &mut purse.retries)
    }

    /// Takes one hedge, out of both buckets or neither.
    pub fn hedge(&self, workspace: &str, now: Moment) -> bool {
        self.take(workspace, now, 1.0, |purse| &mut purse.hedges)
    }

    /// The retries that all workspaces together have left.
    pub fn retries_left(&self, now: Moment) -> f64 {
        let mut global = self.global.lock().unwrap_or_else(PoisonError::into_inner);
        global.retries.refill(now);
        global.retries.tokens
    }

    fn take(&self, workspace: &str, now: Moment, cost: f64, bucket: fn(&mut Purse) -> &mut Bucket) -> bool {
        let purse = self.purse(workspace, now);
        // Always the workspace first, then the global one: two callers can't wait for each other.
        let mut own = purse.lock().unwrap_or_else(PoisonError::into_inner);
        let mut global = self.global.lock().unwrap_or_else(PoisonError::into_inner);
        let (own, global) = (bucket(&mut own), bucket(&mut global));
        let enough = own.has(cost, now) && global.has(cost, now);
        if enough {
            own.tokens -= cost;
            global.tokens -= cost;
        }
        enough
    }

    fn with_both(&self, workspace: &str, now: Moment, change: impl Fn(&mut Purse)) {
        change(&mut self.purse(workspace, now).lock().unwrap_or_else(PoisonError::into_inner));
        change(&mut self.global.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn purse(&self, workspace: &str, now: Moment) -> Arc<Mutex<Purse>> {
        if let Some(purse) = self.workspaces.read().unwrap_or_else(PoisonError::into_inner).get(workspace) {
            return Arc::clone(purse);
        }
        let mut purses = self.workspaces.write().unwrap_or_else(PoisonError::into_inner);
        if purses.len() >= MANY {
            purses.retain(|_, purse| !purse.lock().unwrap_or_else(PoisonError::into_inner).retries.has(CAPACITY, now));
        }
        Arc::clone(purses.entry(workspace.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn in_an_outage_the_retries_run_out_and_one_a_second_is_left() {
        let budgets = Budgets::default();
        let granted =
            |from: u64, to: u64| (from..to).filter(|turn| budgets.retry("ws", Retry::Plain, Moment(turn * 10))).count();
        assert_eq!(granted(0, 101), 101, "the first hundred, and the one that the first second brought");
        assert_eq!(granted(101, 1101), 10, "ten seconds of failing");
    }

    #[test]
    fn a_workspace_can_not_spend_what_the_others_earned() {
        let budgets = Budgets::default();
        while budgets.retry("failing", Retry::AfterTimeout, Moment(0)) {}
        for _ in 0..500 {
            budgets.success("healthy", Moment(0));
        }
        assert!(!budgets.retry("failing", Retry::Plain, Moment(0)));
        assert!(budgets.retry("healthy", Retry::Plain, Moment(0)));
    }

    #[test]
    fn one_request_in_fifty_may_be_hedged() {
        let budgets = Budgets::default();
        let hedged = (0..5000).filter(|_| {
            budgets.request("ws", Moment(0));
            budgets.hedge("ws", Moment(0))
        });
        assert!((95..=100).contains(&hedged.count()));
    }

    #[derive(Clone, Debug)]
    enum Event {
        Success,
        Retry(Retry),
        Pause(u64),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            Just(Event::Success),
            prop_oneof![Just(Retry::Plain), Just(Retry::AfterTimeout)].prop_map(Event::Retry),
            (0u64..3000).prop_map(Event::Pause),
        ];
        prop::collection::vec(event, 1..600)
    }

    proptest! {
        /// The model: an exact count in thousandths of a token, for a workspace that is alone.
        #[test]
        fn it_counts_what_the_model_counts(events in events()) {
            let (budgets, mut now, mut milli) = (Budgets::default(), 0, 100_000_u64);
            for event in events {
                match event {
                    Event::Pause(pause) => {
                        now += pause;
                        milli = (milli + pause).min(100_000);
                    }
                    Event::Success => {
                        budgets.success("ws", Moment(now));
                        milli = (milli + 200).min(100_000);
                    }
                    Event::Retry(retry) => {
                        let cost = if retry == Retry::Plain { 1000 } else { 2000 };
                        let granted = budgets.retry("ws", retry, Moment(now));
                        // Within the rounding of floating point, either answer is right.
                        if milli.abs_diff(cost) > 0 {
                            prop_assert_eq!(granted, milli > cost, "with {} left at {}", milli, now);
                        }
                        if granted { milli = milli.saturating_sub(cost) }
                    }
                }
            }
        }
    }
}
