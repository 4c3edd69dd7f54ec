//! `/workspaces/{ws}/logs`: the request log, newest first, in pages.

use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;

use super::input::Query;
use super::respond::{Answer, Bare};
use super::tenant::Tenant;
use super::{AdminState, read_ledger};
use crate::api::strategy::StrategyName;
use crate::error::{Error, Result};
use crate::store::{AttemptRecord, LogQuery, RequestRecord};
use crate::usage::{Certainty, CostSource};

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
    /// More about it, for a query with `details=true`.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
}

/// Who asked how, and each attempt.
#[derive(Serialize)]
struct Details {
    key: String,
    strategy: StrategyName,
    stream: bool,
    error: Option<String>,
    first_token_ms: Option<u64>,
    attempts: Vec<Try>,
}

/// One attempt: whom it asked and why, and how it ended.
#[derive(Serialize)]
struct Try {
    provider: String,
    model: String,
    status: u16,
    error: Option<String>,
    reason: Option<String>,
    passed_over: Vec<String>,
    latency_ms: u64,
    first_token_ms: Option<u64>,
    input_tokens: u64,
    output_tokens: u64,
    cost: f64,
    certainty: Certainty,
    cost_source: Option<CostSource>,
    why: Option<String>,
    service_tier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_request_id: Option<String>,
}

impl From<AttemptRecord> for Try {
    fn from(record: AttemptRecord) -> Self {
        Self {
            input_tokens: record.usage.prompt_tokens(),
            output_tokens: record.usage.output,
            cost: record.cost.dollars(),
            provider: record.provider,
            model: record.model,
            status: record.status,
            error: record.error,
            reason: record.reason,
            passed_over: record.passed_over,
            latency_ms: record.latency_ms,
            first_token_ms: record.first_token_ms,
            certainty: record.certainty,
            cost_source: record.cost_source,
            why: record.why,
            service_tier: record.service_tier,
            upstream_request_id: record.upstream_request_id,
        }
    }
}

impl Row {
    fn new(record: RequestRecord, details: bool) -> Self {
        Self {
            tokens: record.tokens(),
            cost: record.cost().dollars(),
            request_id: record.request_id,
            model: record.model,
            provider: record.provider,
            status: record.status,
            latency_ms: record.latency_ms,
            created_at: record.created_at,
            details: details.then(|| Details {
                key: record.key,
                strategy: record.strategy,
                stream: record.stream,
                error: record.error,
                first_token_ms: record.first_token_ms,
                attempts: record.attempts.into_iter().map(Try::from).collect(),
            }),
        }
    }
}

/// What is asked for.
struct Asked {
    page: u32,
    limit: u32,
    details: bool,
    wanted: LogQuery,
}

pub(super) async fn page(
    State(state): State<AdminState>,
    Tenant(workspace): Tenant,
    query: Query,
) -> Answer<Bare<Page>> {
    let Asked { page, limit, details, wanted } = read(query, (state.now)())?;
    let found = read_ledger(state, move |store| store.logs(&workspace.id, &wanted)).await?;
    let logs = found.requests.into_iter().map(|record| Row::new(record, details)).collect();
    Ok(Bare(Page { logs, total: found.total, page, limit }))
}

fn read(mut query: Query, now: Timestamp) -> Result<Asked> {
    let page = query.number("page", 1, MAX_PAGE)?.unwrap_or(1);
    let limit = query.number("limit", 1, MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT);
    let status = query.number("status", 100, 599)?.and_then(|status| u16::try_from(status).ok());
    let details = match query.text("details").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Error::invalid("details", "Invalid value for 'details': expected true or false.")),
    };
    let wanted = LogQuery {
        page: u64::from(page) - 1,
        limit: u64::from(limit),
        provider: query.text("provider"),
        status,
        days: query.days(now)?,
    };
    query.finish()?;
    Ok(Asked { page, limit, details, wanted })
}
