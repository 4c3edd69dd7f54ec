//! `/workspaces/{ws}/logs`: the request log, newest first, in pages.

use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;

use super::input::Query;
use super::respond::{Answer, Bare};
use super::tenant::Tenant;
use super::{AdminState, read_ledger};
use crate::error::Result;
use crate::store::{LogQuery, RequestRecord};

/// Pages beyond this are refused: nobody reads them, and skipping costs.
const MAX_PAGE: u32 = 1_000_000;
const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 1000;

/// One page.
#[derive(Serialize)]
pub(super) struct Page {
    logs: Vec<Row>,
    total: u64,
    page: u32,
    limit: u32,
}

/// One request: all its attempts together.
#[derive(Serialize)]
struct Row {
    request_id: String,
    model: String,
    provider: Option<String>,
    tokens: u64,
    cost: f64,
    status: u16,
    latency_ms: u64,
    created_at: Timestamp,
}

impl From<RequestRecord> for Row {
    fn from(record: RequestRecord) -> Self {
        Self {
            tokens: record.tokens(),
            cost: record.cost().dollars(),
            request_id: record.request_id,
            model: record.model,
            provider: record.provider,
            status: record.status,
            latency_ms: record.latency_ms,
            created_at: record.created_at,
        }
    }
}

pub(super) async fn page(
    State(state): State<AdminState>,
    Tenant(workspace): Tenant,
    query: Query,
) -> Answer<Bare<Page>> {
    let (page, limit, wanted) = read(query, (state.now)())?;
    let found = read_ledger(state, move |store| store.logs(&workspace.id, &wanted)).await?;
    Ok(Bare(Page { logs: found.requests.into_iter().map(Row::from).collect(), total: found.total, page, limit }))
}

fn read(mut query: Query, now: Timestamp) -> Result<(u32, u32, LogQuery)> {
    let page = query.number("page", 1, MAX_PAGE)?.unwrap_or(1);
    let limit = query.number("limit", 1, MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT);
    let status = query.number("status", 100, 599)?.and_then(|status| u16::try_from(status).ok());
    let wanted = LogQuery {
        page: u64::from(page) - 1,
        limit: u64::from(limit),
        provider: query.text("provider"),
        status,
        days: query.days(now)?,
    };
    query.finish()?;
    Ok((page, limit, wanted))
}
