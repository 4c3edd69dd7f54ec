//! Candidates for tests: real credentials out of a directory in memory, at addresses that nobody asks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::attempt::{Attempt, Outcome, Verdict};
use super::group::{Choice, Group};
use super::request::Request;
use super::stats::StatsBook;
use super::{Candidate, Moment, Place};
use crate::api::strategy::StrategyName;
use crate::catalog::{Prices, Rates};
use crate::config::Secret;
use crate::directory::{Credential, CredentialChange, Directory, WorkspaceChange};
use crate::money::Money;
use crate::store::memory::MemoryStore;
use crate::usage::Usage;
use crate::vault::{MasterKey, Vault, VirtualKeys};

/// What a test says of one candidate.
#[derive(Clone, Copy)]
pub(crate) struct Cast {
    pub(crate) priority: u32,
    pub(crate) weight: u32,
    /// The place in the alias.
    pub(crate) rank: usize,
    /// Dollars per million tokens in and out.
    pub(crate) price: Option<(f64, f64)>,
}

impl Default for Cast {
    fn default() -> Self {
        Self { priority: 1, weight: 1, rank: 0, price: Some((1.0, 4.0)) }
    }
}

/// A group and a clock.
pub(crate) struct Stage {
    pub(crate) group: Group,
    pub(crate) now: u64,
    seed: u64,
    pub(crate) strategy: StrategyName,
}

impl Stage {
    pub(crate) async fn new(strategy: StrategyName, cast: &[Cast]) -> Self {
        let book = StatsBook::default();
        let credentials = credentials(cast);
        let candidates = credentials.into_iter().zip(cast).enumerate().map(|(slot, (credential, cast))| {
            let prices = cast.price.map(|(input, output)| {
                let base = Rates {
                    input: Money::per_token(input).unwrap(),
                    output: Money::per_token(output).unwrap(),
                    cached_read: Money::per_token(input / 10.0),
                    ..Rates::default()
                };
                Arc::new(Prices::flat(base).into())
            });
            let place = Place { slot, rank: cast.rank, revision: 1 };
            Candidate::new(place, "model", credential, "model".to_owned(), prices, &book)
        });
        let candidates: Vec<_> = candidates.collect();
        let addresses = vec![SocketAddr::from(([127, 0, 0, 1], 9)); candidates.len()];
        let group = Group::at(1, candidates, addresses).await.unwrap();
        Self { group, now: 0, seed: 0, strategy }
    }

    /// A request for a thousand tokens, of another seed each time.
    pub(crate) fn request(&mut self) -> Request {
        self.seed += 1;
        let (strategy, now, seed) = (self.strategy, Moment(self.now), self.seed);
        Request { strategy, now, seed, prompt_tokens: 1000, stream: true, ..Request::default() }
    }

    /// The slot that is asked now, and why; the attempt ends without a word.
    pub(crate) fn ask(&mut self) -> (usize, &'static str) {
        let request = self.request();
        let (Choice { candidate, reason, .. }, _) = self.group.select(&request).unwrap();
        (candidate.slot, reason.as_str())
    }

    /// How many of so many requests each slot got.
    pub(crate) fn shares(&mut self, requests: usize) -> Vec<usize> {
        let mut shares = vec![0; self.group.candidates().len()];
        (0..requests).for_each(|_| shares[self.ask().0] += 1);
        shares
    }

    /// An attempt at this slot, past every ranking.
    pub(crate) fn attempt(&mut self, slot: usize) -> Attempt {
        let request = self.request();
        self.attempt_for(slot, &request)
    }

    pub(crate) fn attempt_for(&mut self, slot: usize, request: &Request) -> Attempt {
        let candidate = &self.group.candidates()[slot];
        let pass = candidate.stats.breaker.enter(request.now).unwrap();
        Attempt::begin(Arc::clone(candidate), pass, request)
    }

    /// One attempt at this slot ends so.
    pub(crate) fn ends(&mut self, slot: usize, verdict: Verdict) {
        let outcome = Outcome { verdict, ..self.outcome() };
        self.attempt(slot).record(&outcome);
    }

    /// One attempt at this slot streams a hundred tokens: the first after so many milliseconds, each next one after so many.
    pub(crate) fn answers(&mut self, slot: usize, first: u64, each: u64) {
        let outcome = Outcome {
            first: Some(Duration::from_millis(first)),
            total: Duration::from_millis(first + 99 * each),
            usage: Some(Usage { input: 1000, output: 100, ..Usage::default() }),
            ..self.outcome()
        };
        self.attempt(slot).record(&outcome);
    }

    /// Everyone is as quick as everyone else.
    pub(crate) fn seed_speeds(&mut self) {
        // After so long nothing of what was before is left.
        self.now += 1_000_000;
        (0..self.group.candidates().len()).for_each(|slot| self.answers(slot, 500, 5));
    }

    /// A success about which nothing else is known.
    pub(crate) fn outcome(&self) -> Outcome {
        Outcome {
            verdict: Verdict::Success,
            first: None,
            total: Duration::from_millis(10),
            usage: None,
            retry_after: None,
            now: Moment(self.now),
            random: 0,
        }
    }
}

fn credentials(cast: &[Cast]) -> Vec<Arc<Credential>> {
    let master = || MasterKey::from_text(&"ab".repeat(32)).unwrap();
    let keys = VirtualKeys::new(&master()).unwrap();
    let directory = Directory::open(Arc::new(MemoryStore::default()), Vault::new(master()), keys).unwrap();
    let change = WorkspaceChange { name: Some("stage".to_owned()), ..WorkspaceChange::default() };
    let workspace = directory.create_workspace(change, Timestamp::UNIX_EPOCH).unwrap().id.clone();
    let provider = crate::provider::PROVIDERS[0].name;
    let created = cast.iter().map(|cast| {
        let change = CredentialChange {
            api_key: Some(Secret::new("a-key-for-the-stage")),
            priority: Some(cast.priority),
            weight: Some(cast.weight),
            ..CredentialChange::default()
        };
        directory.create_credential(&workspace, provider, change, Timestamp::UNIX_EPOCH).unwrap()
    });
    created.collect()
}
