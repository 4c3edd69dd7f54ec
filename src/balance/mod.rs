//! Candidates → order. Which credentials can serve a request, how they have been doing, and in which order to try them.
//!
//! Not here: asking them (`proxy`), what they charged (`meter`). The order comes from a [`strategy`] running inside a real
//! load balancer ([`group`]); time and randomness come in as arguments everywhere.
//!
//! - [`plan`]: a workspace and a model name → candidates
//! - [`request`]: what a ranking may know of a request
//! - [`rank`]: who can be asked now, in which order, and why
//! - [`strategy`]: one file each, one line each in [`strategy::STRATEGIES`]
//! - [`reason`]: the words for why and why not
//! - [`group`]: `BackendSelection` and `ServiceDiscovery` of pingora-load-balancing over all of that
//! - [`attempt`]: one attempt at a candidate, from being let in to being recorded
//! - [`stats`]: live counters of a route and of a credential
//! - [`breaker`]: when a route is left alone
//! - [`budget`]: how much may be tried twice
//! - [`discovery`]: names → addresses, checked

pub mod attempt;
pub mod breaker;
pub mod budget;
pub mod discovery;
pub mod group;
pub mod plan;
pub mod rank;
pub mod reason;
pub mod request;
pub mod stats;
pub mod strategy;
#[cfg(test)]
mod tests_support;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use crate::catalog::PriceList;
use crate::directory::Credential;
use stats::{CredentialStats, ModelStats, Prefixes, RouteStats, StatsBook};

/// A credential that can serve a model, and how it has been doing.
pub struct Candidate {
    /// Its place among the candidates of its group; never changes while the group lives.
    pub slot: usize,
    /// The credential, which also names the provider and the address.
    pub credential: Arc<Credential>,
    /// The upstream name of the model.
    pub model: String,
    /// The place in the alias' list of equivalents; 0 where there is no alias.
    pub rank: usize,
    /// The workspace's revision that it was made from.
    pub revision: u64,
    /// What it charges, if known.
    pub prices: Option<Arc<PriceList>>,
    /// Its workspace refuses models without a known price, and this is one.
    pub barred: bool,
    /// How this model at this credential has been doing.
    pub stats: Arc<RouteStats>,
    /// Whether the credential can be asked at all.
    pub cooling: Arc<CredentialStats>,
    /// How far estimates of this model's prompts are off in this workspace.
    pub tokens: Arc<ModelStats>,
    /// How long answers are here, under the name that clients ask for: all candidates of a group are compared by the same length.
    pub outputs: Arc<ModelStats>,
    /// Where the workspace's prompts were sent last.
    pub prefixes: Arc<Prefixes>,
    /// What names this route there.
    pub tag: u16,
}

/// Where a candidate stands in its group.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// See [`Candidate::slot`].
    pub slot: usize,
    /// See [`Candidate::rank`].
    pub rank: usize,
    /// See [`Candidate::revision`].
    pub revision: u64,
}

impl Candidate {
    /// A candidate with its counters; `asked` is the model as clients name it, `model` as the provider does.
    pub fn new(
        place: Place,
        asked: &str,
        credential: Arc<Credential>,
        model: String,
        prices: Option<Arc<PriceList>>,
        book: &StatsBook,
    ) -> Self {
        let tag = hash((&credential.id, &model));
        Self {
            slot: place.slot,
            rank: place.rank,
            revision: place.revision,
            prices,
            barred: false,
            stats: book.route(&credential.id, &model),
            cooling: book.credential(&credential.id),
            tokens: book.model(&credential.workspace, &model),
            outputs: book.model(&credential.workspace, asked),
            prefixes: book.prefixes(&credential.workspace),
            tag: (tag >> 48) as u16,
            credential,
            model,
        }
    }
}

impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Candidate({}, {}, {})", self.credential.provider.name, self.credential.id, self.model)
    }
}

/// A moment, in milliseconds since the process started: monotonic, and fits an atomic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// Now, for a process that started then.
    pub fn now(started: Instant) -> Self {
        Self::at(Instant::now(), started)
    }

    /// Then, for a process that started at `started`.
    pub fn at(then: Instant, started: Instant) -> Self {
        Self(u64::try_from(then.saturating_duration_since(started).as_millis()).unwrap_or(u64::MAX))
    }

    /// Milliseconds from an earlier moment to this one; zero when it is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A number for a value that is only compared, such as a virtual key's id; the same within one process.
pub fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
