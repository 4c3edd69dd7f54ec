//! `/workspaces/{ws}/performance`: how fast and how reliable each provider was, from the roll-ups. Latencies are those of
//! successful attempts.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::Serialize;

use super::AdminState;
use super::input::Query;
use super::respond::{Answer, Bare};
use super::tenant::Tenant;
use super::usage::rollups;
use crate::store::Rollup;

/// Milliseconds; `null` while nothing succeeded.
#[derive(Serialize)]
pub(super) struct Latency {
    average_latency_ms: Option<u64>,
    p50_ms: Option<u64>,
    p90_ms: Option<u64>,
    p99_ms: Option<u64>,
}

/// Failures by the provider's fault, of all attempts.
#[derive(Serialize)]
pub(super) struct Errors {
    error_rate: f64,
    attempts: u64,
    errors: u64,
}

impl From<&Rollup> for Latency {
    fn from(sums: &Rollup) -> Self {
        let quantile = |q| sums.latency.quantile(q);
        Self {
            average_latency_ms: sums.latency.average(),
            p50_ms: quantile(0.5),
            p90_ms: quantile(0.9),
            p99_ms: quantile(0.99),
        }
    }
}

impl From<&Rollup> for Errors {
    fn from(sums: &Rollup) -> Self {
        let error_rate = if sums.attempts == 0 { 0.0 } else { sums.errors as f64 / sums.attempts as f64 };
        Self { error_rate, attempts: sums.attempts, errors: sums.errors }
    }
}

pub(super) async fn latency(
    State(state): State<AdminState>,
    Tenant(workspace): Tenant,
    query: Query,
) -> Answer<Bare<BTreeMap<String, Latency>>> {
    let rollups = rollups(state, workspace.id.clone(), query).await?;
    Ok(Bare(rollups.iter().map(|(provider, sums)| (provider.clone(), sums.into())).collect()))
}

pub(super) async fn errors(
    State(state): State<AdminState>,
    Tenant(workspace): Tenant,
    query: Query,
) -> Answer<Bare<BTreeMap<String, Errors>>> {
    let rollups = rollups(state, workspace.id.clone(), query).await?;
    Ok(Bare(rollups.iter().map(|(provider, sums)| (provider.clone(), sums.into())).collect()))
}
