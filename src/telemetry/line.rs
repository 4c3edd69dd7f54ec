//! The access log for programs: one JSON object for each request.
//!
//! The names are a contract with those who read it (README); fields are added, never renamed.

use std::borrow::Cow;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::end::{AttemptEnd, Content, MAX_TEXT, RequestEnd, failure};
use super::escape::{json_line, shown};
use crate::money::Money;
use crate::store::{AttemptRecord, Rollup};
use crate::usage::{Certainty, Usage};

#[derive(Serialize)]
struct Line<'a> {
    /// When it was over, in UTC.
    ts: String,
    level: &'static str,
    message: &'static str,
    request_id: Cow<'a, str>,
    trace_id: Hex,
    span_id: Hex,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<Hex>,
    workspace: Option<&'a str>,
    key_id: Option<&'a str>,
    method: &'a str,
    path: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forwarded_for: Option<Cow<'a, str>>,
    status: u16,
    reason: &'static str,
    total_ms: u64,
    bytes_in: u64,
    bytes_out: u64,
    client_gone: bool,
    #[serde(flatten)]
    model: Option<ModelPart<'a>>,
    #[serde(flatten)]
    content: Option<ContentPart<'a>>,
}

/// What only requests for a model have.
#[derive(Serialize)]
struct ModelPart<'a> {
    operation: &'static str,
    model: Cow<'a, str>,
    model_served: Option<&'a str>,
    provider: Option<&'a str>,
    route: Option<String>,
    strategy: &'static str,
    stream: bool,
    ttft_ms: Option<u64>,
    tokens: Tokens,
    cost: Option<Box<RawValue>>,
    certainty: Option<&'static str>,
    attempts: Vec<Attempt<'a>>,
}

#[derive(Serialize)]
struct Tokens {
    total: u64,
    #[serde(flatten)]
    usage: Usage,
}

#[derive(Serialize)]
struct Attempt<'a> {
    span_id: Option<Hex>,
    provider: &'a str,
    credential: &'a str,
    model: &'a str,
    status: u16,
    outcome: &'a str,
    why: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    passed_over: &'a [String],
    ms: u64,
    ttft_ms: Option<u64>,
    tokens: Tokens,
    cost: Option<Box<RawValue>>,
    certainty: &'static str,
}

#[derive(Serialize)]
struct ContentPart<'a> {
    request_body: Cow<'a, str>,
    response_body: Cow<'a, str>,
}

/// An id as tracing tools show it.
enum Hex {
    Trace(u128),
    Span(u64),
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Trace(id) => serializer.collect_str(&format_args!("{id:032x}")),
            Self::Span(id) => serializer.collect_str(&format_args!("{id:016x}")),
        }
    }
}

/// Writes the line of a request.
pub(super) fn write(end: &RequestEnd, content: Option<&Content>, out: &mut Vec<u8>) {
    let line = Line {
        ts: format!("{:.3}", end.ended()),
        level: end.level().as_str(),
        message: "request",
        request_id: shown(&end.request_id, MAX_TEXT),
        trace_id: Hex::Trace(end.trace.trace_id),
        span_id: Hex::Span(end.trace.span_id),
        parent_span_id: end.trace.parent.map(Hex::Span),
        workspace: end.workspace.as_deref(),
        key_id: end.key.as_deref(),
        method: end.method.as_str(),
        path: shown(&end.path, MAX_TEXT),
        client_address: end.client.as_ref().map(|client| client.address.to_string()),
        forwarded_for: end
            .client
            .as_ref()
            .and_then(|client| client.forwarded_for.as_deref())
            .map(|text| shown(text, MAX_TEXT)),
        status: end.status,
        reason: end.reason(),
        total_ms: end.millis(),
        bytes_in: end.bytes_in,
        bytes_out: end.bytes_out,
        client_gone: end.client_gone,
        model: model_part(end),
        content: content.map(content_part),
    };
    json_line(&line, out);
}

fn model_part(end: &RequestEnd) -> Option<ModelPart<'_>> {
    let booking = end.booking.as_ref()?;
    let sum = Totals::of(&booking.attempts);
    let ends = end.attempts.iter().map(Some).chain(std::iter::repeat(None));
    Some(ModelPart {
        operation: booking.operation.as_str(),
        model: shown(&booking.model, MAX_TEXT),
        model_served: booking.model_served.as_deref(),
        provider: booking.provider.as_deref(),
        route: route(booking.provider.as_deref(), booking.model_served.as_deref()),
        strategy: booking.strategy.as_str(),
        stream: booking.stream,
        ttft_ms: booking.first_token_ms,
        tokens: tokens(sum.usage),
        cost: dollars(sum.cost),
        certainty: sum.certainty.map(Certainty::as_str),
        attempts: booking.attempts.iter().zip(ends).map(|(record, end)| attempt(record, end)).collect(),
    })
}

fn attempt<'a>(record: &'a AttemptRecord, end: Option<&AttemptEnd>) -> Attempt<'a> {
    Attempt {
        span_id: end.map(|end| Hex::Span(end.span_id)),
        provider: &record.provider,
        credential: &record.credential,
        model: &record.model,
        status: record.status,
        outcome: failure(record).unwrap_or("ok"),
        why: record.reason.as_deref(),
        passed_over: &record.passed_over,
        ms: record.latency_ms,
        ttft_ms: record.first_token_ms,
        tokens: tokens(record.usage),
        cost: dollars(record.cost),
        certainty: record.certainty.as_str(),
    }
}

/// What all attempts of a request came to.
pub(super) struct Totals {
    pub(super) usage: Usage,
    pub(super) cost: Money,
    /// The least sure of all; none without an attempt.
    pub(super) certainty: Option<Certainty>,
}

impl Totals {
    pub(super) fn of(attempts: &[AttemptRecord]) -> Self {
        let mut sum = Rollup::default();
        attempts.iter().for_each(|attempt| sum.add(attempt));
        let certainty = match (sum.attempts, sum.unpriced, sum.estimated) {
            (0, ..) => None,
            (_, 0, 0) => Some(Certainty::Exact),
            (_, 0, _) => Some(Certainty::Estimated),
            _ => Some(Certainty::Unpriced),
        };
        Self { usage: sum.usage, cost: sum.cost, certainty }
    }
}

/// The provider and its model, as a client would name them.
pub(super) fn route(provider: Option<&str>, model: Option<&str>) -> Option<String> {
    Some(format!("{}/{}", provider?, model?))
}

const fn tokens(usage: Usage) -> Tokens {
    Tokens { total: usage.total_tokens(), usage }
}

/// Dollars as a number with all its digits.
fn dollars(cost: Money) -> Option<Box<RawValue>> {
    RawValue::from_string(cost.decimal()).ok()
}

fn content_part(content: &Content) -> ContentPart<'_> {
    ContentPart {
        request_body: String::from_utf8_lossy(&content.request),
        response_body: String::from_utf8_lossy(&content.response),
    }
}

#[cfg(test)]
mod tests;
