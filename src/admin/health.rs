//! `/workspaces/{ws}/performance/live`: how each provider credential is doing at this moment, as the balancer sees it.
//!
//! Not here: what was booked (`performance`). The figures are the process's own and begin anew with it.

use axum::extract::State;
use serde::Serialize;

use super::AdminState;
use super::respond::Data;
use super::tenant::Tenant;

/// One credential.
#[derive(Clone, Debug, Serialize)]
pub struct CredentialHealth {
    /// `prov_…`.
    pub id: String,
    /// The provider.
    pub provider: &'static str,
    /// `ready`, `cooling` (after a 429), `refused` (by the provider, until it is changed), `disabled` (by its owner) or
    /// `unreadable` (the stored key can't be unsealed).
    pub state: &'static str,
    /// Why the provider refuses it: `key` or `quota`.
    pub refused: Option<&'static str>,
    /// How much longer it cools down.
    pub cooling_ms: Option<u64>,
    /// Attempts under way.
    pub in_flight: u32,
    /// The models that were asked for.
    pub routes: Vec<RouteHealth>,
}

/// One model at a credential. Times are absent until something was measured.
#[derive(Clone, Debug, Serialize)]
pub struct RouteHealth {
    /// The upstream name of the model.
    pub model: String,
    /// `closed`, `slow_start`, `half_open` or `open`.
    pub breaker: &'static str,
    /// How much longer an open one stays open.
    pub probe_in_ms: Option<u64>,
    /// Attempts under way.
    pub in_flight: u32,
    /// Attempts, decayed over two minutes.
    pub attempts: f64,
    /// Share of them that failed by the provider's fault, 0 to 1.
    pub error_rate: Option<f64>,
    /// Time to first token that half of the last streams stayed below.
    pub first_token_p50_ms: Option<u64>,
    /// The same for 19 of 20.
    pub first_token_p95_ms: Option<u64>,
    /// Time of the whole answer that half of the last answers stayed below.
    pub latency_p50_ms: Option<u64>,
    /// The same for 19 of 20.
    pub latency_p95_ms: Option<u64>,
    /// Mean time per token.
    pub ms_per_token: Option<f64>,
    /// How long ago it failed last.
    pub failed_ms_ago: Option<u64>,
}

/// Every credential of a workspace.
#[derive(Serialize)]
pub(super) struct Health {
    credentials: Vec<CredentialHealth>,
}

pub(super) async fn live(State(state): State<AdminState>, Tenant(workspace): Tenant) -> Data<Health> {
    Data(Health { credentials: state.upstream.health(&workspace) })
}
