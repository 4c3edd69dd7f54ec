//! `/workspaces/{ws}/usage`: tokens and dollars, from the roll-ups. Dollars are floating point here and nowhere before.

use std::collections::BTreeMap;

use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;

use super::input::Query;
use super::respond::{Answer, Bare};
use super::tenant::Tenant;
use super::{AdminState, read_ledger};
use crate::error::Result;
use crate::store::{By, Grain, Rollup, SeriesQuery};

/// What was used, by the name of a provider, a virtual key or a model, or by day.
type Groups = BTreeMap<String, Spent>;

/// What one of them was used for.
#[derive(Serialize)]
pub(super) struct Spent {
    tokens: u64,
    cost: f64,
    #[serde(flatten)]
    doubts: Option<Doubts>,
}

/// What is not sure of a bill; left out where all of it is.
#[derive(Serialize)]
struct Doubts {
    /// The part of the cost that was estimated.
    estimated_cost: f64,
    /// Attempts whose price is not known, which are no part of the cost.
    unpriced: u64,
    /// Their tokens.
    unpriced_tokens: u64,
}

/// What a workspace used.
#[derive(Serialize)]
pub(super) struct Total {
    total_tokens: u64,
    total_cost: f64,
    by_provider: Groups,
    #[serde(flatten)]
    doubts: Option<Doubts>,
}

pub(super) async fn total(
    State(state): State<AdminState>,
    Tenant(workspace): Tenant,
    query: Query,
) -> Answer<Bare<Total>> {
    let rollups = rollups(state, workspace.id.clone(), query).await?;
    let mut all = Rollup::default();
    rollups.iter().for_each(|(_, sums)| all.merge(sums));
    let Spent { tokens, cost, doubts } = Spent::from(&all);
    Ok(Bare(Total { total_tokens: tokens, total_cost: cost, by_provider: spent(rollups), doubts }))
}

pub(super) async fn by_provider(state: State<AdminState>, tenant: Tenant, query: Query) -> Answer<Bare<Groups>> {
    grouped(state, tenant, query, By::Provider).await
}

pub(super) async fn by_key(state: State<AdminState>, tenant: Tenant, query: Query) -> Answer<Bare<Groups>> {
    grouped(state, tenant, query, By::Key).await
}

pub(super) async fn by_model(state: State<AdminState>, tenant: Tenant, query: Query) -> Answer<Bare<Groups>> {
    grouped(state, tenant, query, By::Model).await
}

pub(super) async fn by_day(state: State<AdminState>, tenant: Tenant, query: Query) -> Answer<Bare<Groups>> {
    grouped(state, tenant, query, By::Day).await
}

async fn grouped(
    State(state): State<AdminState>,
    Tenant(workspace): Tenant,
    mut query: Query,
    by: By,
) -> Answer<Bare<Groups>> {
    let days = query.days((state.now)())?;
    query.finish()?;
    let id = workspace.id.clone();
    Ok(Bare(spent(read_ledger(state, move |store| store.rollups_by(&id, by, days)).await?)))
}

/// What was used along time.
#[derive(Serialize)]
pub(super) struct Series {
    interval: &'static str,
    series: Vec<Point>,
}

/// One interval.
#[derive(Serialize)]
struct Point {
    start: Timestamp,
    #[serde(flatten)]
    spent: Spent,
    attempts: u64,
    errors: u64,
}

pub(super) async fn series(
    State(state): State<AdminState>,
    Tenant(workspace): Tenant,
    mut query: Query,
) -> Answer<Bare<Series>> {
    let intervals = [("minute", Grain::Minute), ("hour", Grain::Hour), ("day", Grain::Day)];
    let (interval, grain) = query.choice("interval", &intervals)?.unwrap_or(("day", Grain::Day));
    let wanted = SeriesQuery {
        grain,
        key: query.text("key"),
        provider: query.text("provider"),
        model: query.text("model"),
        days: query.days((state.now)())?,
    };
    query.finish()?;
    let id = workspace.id.clone();
    let found = read_ledger(state, move |store| store.series(&id, &wanted)).await?;
    let point = |(start, sums): (Timestamp, Rollup)| Point {
        start,
        spent: (&sums).into(),
        attempts: sums.attempts,
        errors: sums.errors,
    };
    Ok(Bare(Series { interval, series: found.into_iter().map(point).collect() }))
}

/// The roll-ups of the days that the query names, and nothing else may be in it.
pub(super) async fn rollups(state: AdminState, workspace: String, mut query: Query) -> Result<Vec<(String, Rollup)>> {
    let days = query.days((state.now)())?;
    query.finish()?;
    read_ledger(state, move |store| store.rollups(&workspace, days)).await
}

impl From<&Rollup> for Spent {
    fn from(sums: &Rollup) -> Self {
        let doubts = Doubts {
            estimated_cost: sums.estimated_cost.dollars(),
            unpriced: sums.unpriced,
            unpriced_tokens: sums.unpriced_tokens,
        };
        let doubtful = sums.estimated + sums.unpriced > 0;
        Self { tokens: sums.usage.total_tokens(), cost: sums.cost.dollars(), doubts: doubtful.then_some(doubts) }
    }
}

fn spent(rollups: Vec<(String, Rollup)>) -> Groups {
    rollups.into_iter().map(|(name, sums)| (name, (&sums).into())).collect()
}
