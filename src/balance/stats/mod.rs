//! Live counters of a route (a model at a credential). Written once per attempt, read once per ranking, without a lock on
//! the way of a ranking.
//!
//! Everything that fades does so with time, not with samples, so that a route of one request a minute and one of a hundred a
//! second forget equally fast. Bad news needs no time: a late first token counts at once, and so does a silence while some are
//! waited for; good news that contradicts what was known is believed after three answers in a row.
//! [`Attempt`](super::attempt::Attempt) is the one writer.

mod credential;
mod prefixes;
mod timed;
mod tokens;
mod view;
mod waits;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::Moment;
use super::breaker::Breaker;
pub use credential::{CredentialStats, MAX_COOL_DOWN, Refusal};
pub use prefixes::{Prefixes, WARM_MS, prefix};
use timed::{Counted, Timed, blend};
pub use tokens::{ModelStats, USUAL_OUTPUT};
pub use view::{RouteView, Routes};
use waits::Waits;

/// How fast the time to first token is forgotten.
const TTFT_TAU_MS: f64 = 10_000.0;
/// How fast the usual load is forgotten.
const LOAD_TAU_MS: f64 = 1000.0;
/// How fast the time per token and the usual wait are forgotten.
const STEADY_TAU_MS: f64 = 30_000.0;
/// How fast successes and failures are forgotten, and how slowly a timeout makes the next one longer.
const ERROR_TAU_MS: f64 = 120_000.0;
/// Expected time to first token of a route without a sample, in milliseconds.
pub const SEED_TTFT_MS: f64 = 1000.0;
/// Expected time per token of a route without a sample, in milliseconds.
pub const SEED_TPOT_MS: f64 = 20.0;
/// After so many taus without a sample an average is no longer believed as it was.
const IDLE_TAUS: f64 = 3.0;
/// Attempts and failures that every route is thought to have had.
const PRIOR: (f64, f64) = (10.0, 0.2);
/// What one request more under way than can be explained adds to a route's expected time.
const LOAD: f64 = 0.05;
/// Standard deviations by which the number under way may exceed the usual one, as it does when requests come by chance.
const CHANCE: f64 = 2.0;
/// The least that a failure counts as time to first token, in milliseconds.
const LEAST_PENALTY_MS: f64 = 5000.0;
/// What an answer leaves of it: a single failure among many answers is soon forgiven, one in ten hardly.
const FORGIVEN: f64 = 0.8;
/// A silence that is so many times the usual one is late.
const LATE: f64 = 1.5;
/// What has been late for a while will be late for as long again.
const AS_LONG_AGAIN: f64 = 2.0;
/// An answer within this share of the expected time is a surprise.
const SURPRISING: f64 = 0.5;
/// So many surprises in a row are believed.
const CONVINCING: u32 = 3;
/// Nobody looks again at a route that was asked so short a time ago.
const FRESH_MS: u64 = 5000;
/// Shorter answers say nothing about the time per token.
const FEWEST_TOKENS: u64 = 8;
/// Times the usual wait until a first token counts as late.
const PATIENCE: u32 = 10;
/// Nobody is given less time until the first token.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(15);

/// How one model at one credential has been doing.
#[derive(Debug, Default)]
pub struct RouteStats {
    /// Peak-EWMA in milliseconds.
    ttft: Timed,
    /// Milliseconds that failures have added to it, not yet forgiven.
    penalty: Timed,
    /// Mean in milliseconds of what did come; what a timeout is made from.
    wait: Timed,
    /// Mean milliseconds per token.
    tpot: Timed,
    waits: Waits,
    /// Whole answers, for people.
    totals: Waits,
    attempts: Timed,
    failed: Timed,
    /// One more than the moment of the last failure; zero for none.
    last_failure: AtomicU64,
    /// Share of the prompt that was read from a cache where it was thought to be warm, and where not.
    cached: [Counted; 2],
    /// Share of the prompt that was written to a cache.
    written: Counted,
    in_flight: AtomicU32,
    /// How many of them are streams that have not begun.
    awaited: AtomicU32,
    /// When a first token came last, or when one began to be waited for.
    heard: AtomicU64,
    /// Answers in a row that were surprisingly quick.
    surprises: AtomicU32,
    /// How many requests are usually under way.
    load: Timed,
    /// Whether it is left alone for a while.
    pub breaker: Breaker,
}

/// The timing of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// From the start to the first content; nothing when the answer came whole.
    pub first: Option<Duration>,
    /// From the start to the end.
    pub total: Duration,
    /// Completion tokens, if known.
    pub output: Option<u64>,
}

impl RouteStats {
    /// Expected milliseconds to the first token, penalties included, and per token. What was measured long ago has faded towards
    /// `usual`, which is what the group's routes have: otherwise a route that was slow once would never be tried again.
    pub fn speed(&self, now: Moment, usual: impl FnOnce() -> (f64, f64)) -> (f64, f64) {
        let (ttft, tpot) = (self.ttft.read(now), self.tpot.read(now));
        let penalty = self.penalty.read(now).map_or(0.0, |(penalty, age)| faded_penalty(penalty, age));
        let (first, each) = self.measured_speed(now).unwrap_or((SEED_TTFT_MS, SEED_TPOT_MS));
        let idle_first = ttft.map_or(0, |(_, age)| beyond(age, TTFT_TAU_MS));
        let idle_each = tpot.map_or(0, |(_, age)| beyond(age, STEADY_TAU_MS));
        let (first, each) = if idle_first == 0 && idle_each == 0 {
            (first, each)
        } else {
            let usual = usual();
            (blend(first, usual.0, idle_first, TTFT_TAU_MS), blend(each, usual.1, idle_each, STEADY_TAU_MS))
        };
        (self.overdue(first, now) + penalty, each)
    }

    /// A usual time to first token, or what the silence of a route says: while streams are waited for and none begins, no
    /// answer is needed to know that the route has become slow.
    fn overdue(&self, usual: f64, now: Moment) -> f64 {
        if self.awaited.load(Relaxed) == 0 {
            return usual;
        }
        let silent = now.since(Moment(self.heard.load(Relaxed))) as f64;
        if silent > LATE * usual { AS_LONG_AGAIN * silent } else { usual }
    }

    /// The same as it was measured, however long ago, without penalties.
    pub(super) fn measured_speed(&self, now: Moment) -> Option<(f64, f64)> {
        let (ttft, tpot) = (self.ttft.read(now), self.tpot.read(now));
        let known = ttft.is_some() || tpot.is_some();
        known.then(|| (ttft.map_or(SEED_TTFT_MS, |(ttft, _)| ttft), tpot.map_or(SEED_TPOT_MS, |(tpot, _)| tpot)))
    }

    /// Whether it ever answered or failed.
    pub fn is_known(&self, now: Moment) -> bool {
        self.attempts.read(now).is_some()
    }

    /// Whether it should be asked soon, as nobody is asking it: it is new, or its last answers were surprisingly quick.
    pub fn is_promising(&self, now: Moment) -> bool {
        self.in_flight() == 0 && (!self.is_known(now) || self.surprises.load(Relaxed) > 0)
    }

    /// Whether nobody knows how it does now.
    pub fn is_stale(&self, now: Moment) -> bool {
        self.in_flight() == 0 && self.attempts.read(now).is_none_or(|(_, age)| age >= FRESH_MS)
    }

    /// What the requests under way do to the expected time: 5 % for each above what is usual and what chance explains. A
    /// provider that stalls is noticed by this before any of its answers is late; one that carries a steady load is not
    /// blamed for it.
    pub fn load_factor(&self, now: Moment) -> f64 {
        let usual = self.load.read(now).map_or(0.0, |(load, _)| load);
        let expected = usual + CHANCE * usual.sqrt();
        1.0 + LOAD * (f64::from(self.in_flight()) - expected).max(0.0)
    }

    /// Smoothed share of failures: decayed over two minutes, with a prior of 2 % worth ten attempts.
    pub fn error_rate(&self, now: Moment) -> f64 {
        let attempts = self.attempts(now);
        let failed = self.failed.sum(ERROR_TAU_MS, now).min(attempts);
        (failed + PRIOR.1) / (attempts + PRIOR.0)
    }

    /// Attempts, decayed over two minutes.
    pub fn attempts(&self, now: Moment) -> f64 {
        self.attempts.sum(ERROR_TAU_MS, now)
    }

    /// How many milliseconds ago it failed last.
    pub fn since_failure(&self, now: Moment) -> Option<u64> {
        let last = self.last_failure.load(Relaxed).checked_sub(1)?;
        Some(now.since(Moment(last)))
    }

    /// Expected share of a prompt that is read from a cache, if anything is known about it.
    pub fn cached_share(&self, warm: bool) -> Option<f64> {
        self.cached_of(warm).get()
    }

    /// Expected share of a prompt that is written to a cache.
    pub fn written_share(&self) -> f64 {
        self.written.get().unwrap_or(0.0)
    }

    /// The time until the first token that 19 of 20 requests stay below: when a hedge is due. Nothing while too few are known.
    pub fn p95_first_token(&self) -> Option<Duration> {
        self.waits.quantile(0.95)
    }

    /// How long to wait for the first token of a stream: ten times what is usual here, 15 s at least, `limit` at most. A route
    /// without history gets all of it; one that ran into the limit is given more the next time.
    pub fn first_token_timeout(&self, limit: Duration, now: Moment) -> Duration {
        let usual = self.wait.read(now).map(|(wait, _)| Duration::from_secs_f64(wait / 1000.0));
        usual.map_or(limit, |usual| (usual * PATIENCE).max(SHORTEST_TIMEOUT).min(limit))
    }

    /// Requests under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// A request is under way; `awaited` if its first token will be told.
    pub(super) fn begin(&self, awaited: bool, now: Moment) {
        self.in_flight.fetch_add(1, Relaxed);
        if awaited && self.awaited.fetch_add(1, Relaxed) == 0 {
            self.heard.store(now.0, Relaxed);
        }
    }

    /// It no longer is; `awaited` if its first token never came.
    pub(super) fn end(&self, awaited: bool) {
        self.in_flight.fetch_sub(1, Relaxed);
        self.awaited.fetch_sub(u32::from(awaited), Relaxed);
    }

    /// A stream began so long after it was asked for.
    pub(super) fn first_token(&self, first: Duration, awaited: bool, now: Moment) {
        self.awaited.fetch_sub(u32::from(awaited), Relaxed);
        self.heard.fetch_max(now.0, Relaxed);
        let first = millis(first);
        self.ttft.peak(first, TTFT_TAU_MS, now);
        self.wait.mean(first, STEADY_TAU_MS, now);
        self.waits.add(first);
    }

    /// It answered; a stream's first token has been told before.
    pub(super) fn answered(&self, timing: Timing, now: Moment) {
        self.attempts.add(1.0, ERROR_TAU_MS, now);
        let convinced = self.is_convinced(timing, now);
        self.penalty.change(now, |penalty, age| faded_penalty(penalty, age) * FORGIVEN);
        // Only an answer shows that a load is carried: while a provider stalls, what is usual stays as it was.
        self.load.mean(f64::from(self.in_flight()), LOAD_TAU_MS, now);
        let total = millis(timing.total);
        self.totals.add(total);
        let first = timing.first.map(millis);
        if let (Some(first), true) = (first, convinced) {
            self.ttft.set(first, now);
        }
        let Some(output) = timing.output.filter(|output| *output >= FEWEST_TOKENS) else { return };
        let tpot = match first {
            Some(first) => (total - first) / (output - 1) as f64,
            None => (total - self.ttft.read(now).map_or(SEED_TTFT_MS, |(ttft, _)| ttft)) / output as f64,
        };
        if convinced {
            self.tpot.set(tpot.max(0.0), now);
        }
        self.tpot.mean(tpot.max(0.0), STEADY_TAU_MS, now);
    }

    /// Whether this is one surprise too many to be chance. An average that remembers half a minute of slowness would keep a
    /// route that has recovered from being asked for long, since hardly anyone looks at it.
    fn is_convinced(&self, timing: Timing, now: Moment) -> bool {
        let penalty = self.penalty.read(now).map_or(0.0, |(penalty, age)| faded_penalty(penalty, age));
        let (Some((first, each)), Some(output)) = (self.measured_speed(now), timing.output) else { return false };
        // What was only supposed is no expectation.
        let known = self.tpot.read(now).is_some();
        let surprised = known && millis(timing.total) < SURPRISING * (penalty + first + each * output as f64);
        let surprises = if surprised { self.surprises.fetch_add(1, Relaxed) + 1 } else { 0 };
        let convinced = surprises >= CONVINCING;
        if convinced {
            self.forgive(now);
        }
        if convinced || !surprised {
            self.surprises.store(0, Relaxed);
        }
        convinced
    }

    /// Its failures are over.
    pub(super) fn forgive(&self, now: Moment) {
        self.penalty.set(0.0, now);
    }

    /// It failed, and takes as long as a penalty.
    pub(super) fn failed(&self, now: Moment) {
        self.attempts.add(1.0, ERROR_TAU_MS, now);
        self.failed.add(1.0, ERROR_TAU_MS, now);
        self.last_failure.store(now.0 + 1, Relaxed);
    }

    /// Being asked was a waste of time.
    pub(super) fn penalise(&self, retry_after: Option<Duration>, now: Moment) {
        let penalty = retry_after.map_or(0.0, |wait| millis(wait.min(MAX_COOL_DOWN)));
        self.penalty.peak(penalty.max(LEAST_PENALTY_MS), TTFT_TAU_MS, now);
    }

    /// Nothing had come after so long.
    pub(super) fn timed_out(&self, after: Duration, now: Moment) {
        self.wait.mean(millis(after), ERROR_TAU_MS, now);
        self.waits.add(millis(after));
    }

    /// Of a prompt of so many tokens so many were read from a cache, and so many written to it.
    pub(super) fn cached(&self, warm: bool, prompt: u64, read: u64, written: u64) {
        if prompt > 0 {
            self.cached_of(warm).add(read as f64 / prompt as f64);
            self.written.add(written as f64 / prompt as f64);
        }
    }

    const fn cached_of(&self, warm: bool) -> &Counted {
        let [cold, hot] = &self.cached;
        if warm { hot } else { cold }
    }
}

/// By how much an age is more than can be believed.
fn beyond(age: u64, tau_ms: f64) -> u64 {
    age.saturating_sub((IDLE_TAUS * tau_ms) as u64)
}

/// What is left of a penalty of this age.
fn faded_penalty(penalty: f64, age: u64) -> f64 {
    blend(penalty, 0.0, age, TTFT_TAU_MS)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// All counters by what they count. They outlive groups, so that a changed workspace keeps its experience.
#[derive(Debug, Default)]
pub struct StatsBook {
    routes: RwLock<HashMap<(String, String), Arc<RouteStats>>>,
    models: RwLock<HashMap<(String, String), Arc<ModelStats>>>,
    credentials: RwLock<HashMap<String, Arc<CredentialStats>>>,
    prefixes: RwLock<HashMap<String, Arc<Prefixes>>>,
}

/// Above so many counters the book starts afresh: a client that invents model names must not fill the memory.
const MAX_COUNTERS: usize = 100_000;

impl StatsBook {
    /// The counters of a model at a credential.
    pub fn route(&self, credential: &str, model: &str) -> Arc<RouteStats> {
        entry(&self.routes, (credential.to_owned(), model.to_owned()))
    }

    /// Every route: credential, upstream model, counters.
    pub fn routes(&self) -> Vec<((String, String), Arc<RouteStats>)> {
        entries(&self.routes)
    }

    /// Every credential.
    pub fn credentials(&self) -> Vec<(String, Arc<CredentialStats>)> {
        entries(&self.credentials)
    }

    /// The tokens of a model in a workspace.
    pub fn model(&self, workspace: &str, model: &str) -> Arc<ModelStats> {
        entry(&self.models, (workspace.to_owned(), model.to_owned()))
    }

    /// The cool-down of a credential.
    pub fn credential(&self, credential: &str) -> Arc<CredentialStats> {
        entry(&self.credentials, credential.to_owned())
    }

    /// Forgets what belongs to other credentials and workspaces than these: tenants that come and go must not fill the memory.
    pub fn keep(&self, credentials: &HashSet<&str>, workspaces: &HashSet<&str>) {
        retain(&self.routes, |(credential, _)| credentials.contains(credential.as_str()));
        retain(&self.models, |(workspace, _)| workspaces.contains(workspace.as_str()));
        retain(&self.credentials, |credential| credentials.contains(credential.as_str()));
        retain(&self.prefixes, |workspace| workspaces.contains(workspace.as_str()));
    }

    /// The warm caches of a workspace.
    pub fn prefixes(&self, workspace: &str) -> Arc<Prefixes> {
        entry(&self.prefixes, workspace.to_owned())
    }
}

fn entry<K: std::hash::Hash + Eq, V: Default>(map: &RwLock<HashMap<K, Arc<V>>>, key: K) -> Arc<V> {
    let mut map = map.write().unwrap_or_else(PoisonError::into_inner);
    if map.len() >= MAX_COUNTERS && !map.contains_key(&key) {
        map.clear();
    }
    Arc::clone(map.entry(key).or_default())
}

fn retain<K: std::hash::Hash + Eq, V>(map: &RwLock<HashMap<K, V>>, wanted: impl Fn(&K) -> bool) {
    map.write().unwrap_or_else(PoisonError::into_inner).retain(|key, _| wanted(key));
}

fn entries<K: Clone, V>(map: &RwLock<HashMap<K, Arc<V>>>) -> Vec<(K, Arc<V>)> {
    let map = map.read().unwrap_or_else(PoisonError::into_inner);
    map.iter().map(|(key, value)| (key.clone(), Arc::clone(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belonged_to_who_is_gone_is_forgotten() {
        let book = StatsBook::default();
        for (credential, workspace) in [("prov_1", "ws_1"), ("prov_2", "ws_2")] {
            book.route(credential, "m");
            book.credential(credential);
            book.model(workspace, "m");
            book.prefixes(workspace);
        }
        book.keep(&HashSet::from(["prov_1"]), &HashSet::from(["ws_2"]));
        let routes: Vec<_> = book.routes().into_iter().map(|(route, _)| route).collect();
        assert_eq!(routes, [("prov_1".to_owned(), "m".to_owned())]);
        assert_eq!(book.credentials().len(), 1);
        let left = |map: &RwLock<HashMap<_, _>>| map.read().unwrap().len();
        assert_eq!((left(&book.models), book.prefixes.read().unwrap().len()), (1, 1));
    }

    const USUAL: fn() -> (f64, f64) = || (700.0, 15.0);

    fn streams(stats: &RouteStats, timing: Timing, now: Moment) {
        timing.first.into_iter().for_each(|first| stats.first_token(first, false, now));
        stats.answered(timing, now);
    }

    fn streamed(first: u64, total: u64, output: u64) -> Timing {
        Timing { first: Some(Duration::from_millis(first)), total: Duration::from_millis(total), output: Some(output) }
    }

    #[test]
    fn a_stream_tells_both_speeds_and_a_whole_answer_the_one_per_token() {
        let stats = RouteStats::default();
        assert_eq!(stats.speed(Moment(0), USUAL), (SEED_TTFT_MS, SEED_TPOT_MS));
        streams(&stats, streamed(300, 1300, 101), Moment(0));
        assert_eq!(stats.speed(Moment(0), USUAL), (300.0, 10.0));
        let whole = Timing { first: None, total: Duration::from_millis(2300), output: Some(100) };
        stats.answered(whole, Moment(1_000_000));
        let (ttft, tpot) = stats.speed(Moment(1_000_000), USUAL);
        assert!((tpot - 20.0).abs() < 0.01, "(2300 - 300) / 100 after a long time: {tpot}");
        assert!((ttft - 700.0).abs() < 0.01, "what nobody measured for long is as usual: {ttft}");
        streams(&stats, streamed(300, 9000, 7), Moment(1_000_000));
        assert!((stats.speed(Moment(1_000_000), USUAL).1 - 20.0).abs() < 0.01, "seven tokens say nothing");
    }

    #[test]
    fn a_quick_failure_does_not_look_quick() {
        let stats = RouteStats::default();
        streams(&stats, streamed(300, 1300, 101), Moment(0));
        stats.penalise(None, Moment(0));
        assert_eq!(stats.speed(Moment(0), USUAL).0, 300.0 + LEAST_PENALTY_MS);
        (0..20).for_each(|_| streams(&stats, streamed(300, 1300, 101), Moment(0)));
        assert!(stats.speed(Moment(0), USUAL).0 < 400.0, "twenty answers later it is forgiven");
        stats.penalise(Some(Duration::from_secs(3600)), Moment(0));
        assert_eq!(stats.speed(Moment(0), USUAL).0, 300.0 + 300_000.0);
        assert!(stats.speed(Moment(200_000), USUAL).0 < 701.0, "and after a while even without one");
    }

    #[test]
    fn a_first_token_that_does_not_come_is_as_good_as_a_late_one() {
        let stats = RouteStats::default();
        let first = |now| stats.speed(Moment(now), USUAL).0;
        streams(&stats, streamed(300, 1300, 101), Moment(0));
        stats.begin(true, Moment(10_000));
        stats.begin(true, Moment(10_400));
        assert_eq!(first(10_400), 300.0, "a little later than usual is nothing");
        assert_eq!(first(11_000), 2000.0, "silent for a second: it will be silent for another");
        stats.first_token(Duration::from_millis(1100), true, Moment(11_100));
        assert_eq!(first(11_200), 1100.0, "one has begun, and that is what is known now");
        stats.end(true);
        assert_eq!(first(20_000), 1100.0, "nobody waits any more");
    }

    #[test]
    fn three_surprisingly_quick_answers_in_a_row_are_believed() {
        let stats = RouteStats::default();
        streams(&stats, streamed(2400, 10_400, 101), Moment(0));
        stats.penalise(None, Moment(0));
        assert!(!stats.is_promising(Moment(0)));
        let quick = || streams(&stats, streamed(300, 1300, 101), Moment(100));
        quick();
        assert!(stats.is_promising(Moment(100)), "worth another look");
        quick();
        assert!(stats.speed(Moment(100), USUAL).0 > 2000.0, "two may be chance");
        quick();
        assert_eq!(stats.speed(Moment(100), USUAL), (300.0, 10.0));
        assert!(!stats.is_promising(Moment(100)), "now it is known");
    }

    #[test]
    fn failures_are_forgotten_in_minutes_and_a_single_one_proves_little() {
        let stats = RouteStats::default();
        let fresh = stats.error_rate(Moment(0));
        stats.failed(Moment(0));
        let rate = stats.error_rate(Moment(0));
        assert!(fresh < rate && rate < 0.12, "{rate}");
        (0..20).for_each(|_| stats.failed(Moment(0)));
        assert!(stats.error_rate(Moment(0)) > 0.6);
        assert!(stats.error_rate(Moment(600_000)) < 0.05);
        assert_eq!(stats.since_failure(Moment(5)), Some(5));
    }

    #[test]
    fn a_steady_load_is_no_reproach_and_a_sudden_one_is() {
        let stats = RouteStats::default();
        let answer = |now| {
            streams(&stats, streamed(300, 1300, 101), Moment(now));
            stats.end(false);
        };
        (0..50).for_each(|_| stats.begin(false, Moment(0)));
        assert!(stats.load_factor(Moment(0)) > 2.0, "{}", stats.load_factor(Moment(0)));
        for step in 1..200 {
            stats.begin(false, Moment(0));
            answer(step * 100);
        }
        assert!(stats.load_factor(Moment(20_000)) < 1.05, "it carries fifty");
        (0..50).for_each(|_| stats.begin(false, Moment(0)));
        assert!(
            stats.load_factor(Moment(60_000)) > 2.0,
            "it has not answered since, so nothing shows that it carries these"
        );
    }

    #[test]
    fn the_timeout_follows_what_is_usual_and_a_timeout_makes_it_longer() {
        let stats = RouteStats::default();
        let limit = Duration::from_secs(120);
        let timeout = |now| stats.first_token_timeout(limit, Moment(now));
        assert_eq!(timeout(0), limit, "nobody knows how long this model thinks");
        streams(&stats, streamed(300, 1300, 101), Moment(0));
        assert_eq!(timeout(0), SHORTEST_TIMEOUT);
        stats.timed_out(Duration::from_secs(15), Moment(60_000));
        assert!(timeout(60_000) > Duration::from_secs(50), "{:?}", timeout(60_000));
        assert!(timeout(60_000) <= limit);
    }
}
