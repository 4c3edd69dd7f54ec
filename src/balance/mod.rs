//! Candidates → order. Which credentials can serve a request, how they have been doing, and in which order to try them.
//!
//! Not here: asking them (`proxy`), what they charged (`meter`). The order comes from a [`strategy`] running inside a real
//! load balancer ([`group`]); time comes in as an argument everywhere.
//!
//! - [`plan`]: a workspace and a model name → candidates
//! - [`stats`]: live counters of a route and of a credential, all atomics
//! - [`breaker`]: when a route is left alone
//! - [`strategy`]: one file each, one line each in [`strategy::STRATEGIES`]
//! - [`group`]: `BackendSelection` and `ServiceDiscovery` of pingora-load-balancing over all of that
//! - [`discovery`]: names → addresses, checked

pub mod breaker;
pub mod discovery;
pub mod group;
pub mod plan;
pub mod stats;
pub mod strategy;

use std::sync::Arc;
use std::time::Instant;

use crate::catalog::Prices;
use crate::directory::Credential;
use stats::{CredentialStats, RouteStats};

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
    /// What it charges, if known.
    pub prices: Option<Prices>,
    /// How this model at this credential has been doing.
    pub stats: Arc<RouteStats>,
    /// Whether the credential is cooling down.
    pub cooling: Arc<CredentialStats>,
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
        Self(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Milliseconds from an earlier moment to this one; zero when it is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// What a strategy may know of the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Prompt tokens, from its bytes.
    pub prompt_tokens: u64,
    /// Completion tokens that are expected.
    pub output_tokens: u64,
}
