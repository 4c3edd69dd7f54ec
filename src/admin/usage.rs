//! `/workspaces/{ws}/usage`: tokens and dollars, from the roll-ups. Dollars are floating point here and nowhere before.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::Serialize;

use super::input::Query;
use super::respond::{Answer, Bare};
use super::tenant::Tenant;
use super::{AdminState, read_ledger};
use crate::error::Result;
use crate::money::Money;
use crate::store::Rollup;

/// What one provider was used for.
#[derive(Serialize)]
pub(super) struct Spent {
    tokens: u64,
    cost: f64,
}

/// What a workspace used.
#[derive(Serialize)]
pub(super) struct Total {
    total_tokens: u64,
    total_cost: f64,
    by_provider: BTreeMap<String, Spent>,
}

pub(super) async fn total(
    State(state): State<AdminState>,
    Tenant(workspace): Tenant,
    query: Query,
) -> Answer<Bare<Total>> {
    let rollups = rollups(state, workspace.id.clone(), query).await?;
    let cost: Money = rollups.iter().map(|(_, sums)| sums.cost).sum();
    Ok(Bare(Total {
        total_tokens: rollups.iter().map(|(_, sums)| sums.usage.total_tokens()).sum(),
        total_cost: cost.dollars(),
        by_provider: spent(rollups),
    }))
}

pub(super) async fn by_provider(
    State(state): State<AdminState>,
    Tenant(workspace): Tenant,
    query: Query,
) -> Answer<Bare<BTreeMap<String, Spent>>> {
    Ok(Bare(spent(rollups(state, workspace.id.clone(), query).await?)))
}

/// The roll-ups of the days that the query names, and nothing else may be in it.
pub(super) async fn rollups(state: AdminState, workspace: String, mut query: Query) -> Result<Vec<(String, Rollup)>> {
    let days = query.days((state.now)())?;
    query.finish()?;
    read_ledger(state, move |store| store.rollups(&workspace, days)).await
}

fn spent(rollups: Vec<(String, Rollup)>) -> BTreeMap<String, Spent> {
    let row = |sums: &Rollup| Spent { tokens: sums.usage.total_tokens(), cost: sums.cost.dollars() };
    rollups.into_iter().map(|(provider, sums)| (provider, row(&sums))).collect()
}
