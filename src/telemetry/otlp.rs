//! Requests as spans: OTLP's JSON, one server span for each request and one client span for each of its attempts.
//!
//! Made from the record at the request's end, so that nothing is measured twice and nothing is kept while it runs. The names are
//! OpenTelemetry's (HTTP, and generative AI as of late 2026); what it has no name for begins with `perpetuo.`.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::end::{AttemptEnd, Level, MAX_TEXT, RequestEnd, failure};
use super::escape::shown;
use super::line::Totals;
use crate::store::AttemptRecord;
use crate::usage::{Certainty, Usage};

/// What names this program in every batch.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    pub(super) attributes: Vec<(String, String)>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Export<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Attributes<'a>,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct Attributes<'a> {
    attributes: Vec<Attribute<'a>>,
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: Vec<Span<'a>>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

/// What a span is to its neighbours, as OTLP numbers it.
#[derive(Clone, Copy)]
enum Kind {
    Server = 2,
    Client = 3,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Span<'a> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_state: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    flags: u32,
    name: String,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute<'a>>,
    status: Status,
}

#[derive(Serialize)]
struct Status {
    /// 0 is unset, 2 an error.
    code: u8,
}

#[derive(Serialize)]
struct Attribute<'a> {
    key: &'a str,
    value: Value<'a>,
}

#[derive(Serialize)]
enum Value<'a> {
    #[serde(rename = "stringValue")]
    Text(std::borrow::Cow<'a, str>),
    #[serde(rename = "intValue", serialize_with = "as_text")]
    Int(u64),
    #[serde(rename = "doubleValue")]
    Double(f64),
    #[serde(rename = "boolValue")]
    Bool(bool),
}

/// JSON's numbers are too small for 64 bits.
fn as_text<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

/// The spans of these requests as the body of an export, and how many there are.
pub(super) fn body(resource: &Resource, ends: &[impl AsRef<RequestEnd>]) -> Bytes {
    let spans = ends.iter().flat_map(|end| spans(end.as_ref())).collect();
    let attributes = resource.attributes.iter().map(|(key, value)| text(key, value.as_str())).collect();
    let scope = Scope { name: "perpetuo", version: env!("CARGO_PKG_VERSION") };
    let scope_spans = [ScopeSpans { scope, spans }];
    let export = Export { resource_spans: [ResourceSpans { resource: Attributes { attributes }, scope_spans }] };
    // Nothing in it can fail to be JSON.
    serde_json::to_vec(&export).unwrap_or_default().into()
}

/// How many spans a request has.
pub(super) fn count(end: &RequestEnd) -> u64 {
    1 + end.booking.as_ref().map_or(0, |booking| booking.attempts.len() as u64)
}

fn spans(end: &RequestEnd) -> impl Iterator<Item = Span<'_>> {
    let records = end.booking.iter().flat_map(|booking| &booking.attempts);
    let attempts = records.zip(&end.attempts).map(|(record, attempt)| client_span(end, record, attempt));
    std::iter::once(server_span(end)).chain(attempts)
}

fn server_span(end: &RequestEnd) -> Span<'_> {
    let method = known_method(end.method.as_str());
    let mut attributes = vec![
        text("http.request.method", method.unwrap_or("_OTHER")),
        text("url.path", shown(&end.path, MAX_TEXT)),
        int("http.response.status_code", u64::from(end.status)),
        int("http.request.body.size", end.bytes_in),
        int("http.response.body.size", end.bytes_out),
        text("perpetuo.request.id", shown(&end.request_id, MAX_TEXT)),
    ];
    attributes.extend(end.route.map(|route| text("http.route", route)));
    attributes.extend(end.workspace.as_deref().map(|id| text("perpetuo.workspace.id", id)));
    attributes.extend(end.key.as_deref().map(|id| text("perpetuo.key.id", id)));
    attributes.extend(end.client.as_ref().map(|client| text("client.address", client.address.to_string())));
    attributes.extend(end.failure().map(|kind| text("error.type", kind.row().reason)));
    attributes.extend(end.client_gone.then(|| flag("perpetuo.client_gone", true)));
    attributes.extend(request_attributes(end));
    // A client's mistake is no error of a server; what broke in the middle of a stream is one, whatever its status.
    let failed = end.level() == Level::Error;
    Span {
        kind: Kind::Server as u8,
        parent_span_id: end.trace.parent.map(span_id),
        flags: flags(end.trace.parent.is_some()),
        ..span(
            end,
            end.trace.span_id,
            [method, end.route].into_iter().flatten().collect::<Vec<_>>().join(" "),
            (Duration::ZERO, end.took),
            (attributes, failed),
        )
    }
}

/// What only requests for a model have.
fn request_attributes(end: &RequestEnd) -> Vec<Attribute<'_>> {
    let Some(booking) = &end.booking else { return Vec::new() };
    let totals = Totals::of(&booking.attempts);
    let mut attributes = vec![
        text("gen_ai.request.model", booking.model.as_str()),
        flag("gen_ai.request.stream", booking.stream),
        text("perpetuo.strategy", booking.strategy.as_str()),
        int("perpetuo.attempts", booking.attempts.len() as u64),
        double("perpetuo.cost_usd", totals.cost.dollars()),
    ];
    attributes.extend(booking.model_served.as_deref().map(|model| text("gen_ai.response.model", model)));
    attributes.extend(booking.provider.as_deref().map(|name| text("gen_ai.provider.name", name)));
    attributes.extend(totals.certainty.map(|certainty| text("perpetuo.certainty", certainty.as_str())));
    attributes.extend(booking.first_token_ms.map(|ms| double("perpetuo.time_to_first_token", ms as f64 / 1000.0)));
    attributes
}

fn client_span<'a>(end: &'a RequestEnd, record: &'a AttemptRecord, attempt: &'a AttemptEnd) -> Span<'a> {
    let operation = end.booking.as_ref().map(|booking| booking.operation).unwrap_or_default().as_str();
    let mut attributes = vec![
        text("gen_ai.operation.name", operation),
        text("gen_ai.provider.name", record.provider.as_str()),
        text("gen_ai.request.model", record.model.as_str()),
        text("server.address", attempt.host.as_str()),
        int("server.port", u64::from(attempt.port)),
        int("perpetuo.attempt", u64::from(record.number)),
        text("perpetuo.credential.id", record.credential.as_str()),
        double("perpetuo.cost_usd", record.cost.dollars()),
        text("perpetuo.certainty", record.certainty.as_str()),
    ];
    attributes.extend((record.status > 0).then(|| int("http.response.status_code", u64::from(record.status))));
    attributes.extend(failure(record).map(|reason| text("error.type", reason)));
    attributes.extend(record.reason.as_deref().map(|reason| text("perpetuo.route.reason", reason)));
    let streams = end.booking.as_ref().is_some_and(|booking| booking.stream);
    let first = attempt.first_content.filter(|_| streams);
    attributes.extend(first.map(|first| double("gen_ai.response.time_to_first_chunk", first.as_secs_f64())));
    attributes.extend(usage_attributes(&record.usage, record.certainty));
    Span {
        kind: Kind::Client as u8,
        parent_span_id: Some(span_id(end.trace.span_id)),
        flags: flags(false),
        ..span(
            end,
            attempt.span_id,
            format!("{operation} {}", record.model),
            (attempt.after, attempt.after + attempt.took),
            (attributes, record.error.is_some()),
        )
    }
}

/// The tokens, in OpenTelemetry's convention: those of a cache are part of the input. Nothing is said of an attempt that used none.
fn usage_attributes(usage: &Usage, certainty: Certainty) -> Vec<Attribute<'static>> {
    if usage.total_tokens() == 0 && certainty == Certainty::Exact {
        return Vec::new();
    }
    let more = [
        ("gen_ai.usage.cache_read.input_tokens", usage.cached_read),
        ("gen_ai.usage.cache_creation.input_tokens", usage.cache_write),
        ("gen_ai.usage.reasoning.output_tokens", usage.reasoning),
    ];
    let always = [("gen_ai.usage.input_tokens", usage.prompt_tokens()), ("gen_ai.usage.output_tokens", usage.output)];
    always
        .into_iter()
        .chain(more.into_iter().filter(|(_, count)| *count > 0))
        .map(|(key, count)| int(key, count))
        .collect()
}

/// The parts that both kinds have; `times` are from the request's head.
fn span<'a>(
    end: &'a RequestEnd,
    id: u64,
    name: String,
    times: (Duration, Duration),
    (attributes, failed): (Vec<Attribute<'a>>, bool),
) -> Span<'a> {
    Span {
        trace_id: format!("{:032x}", end.trace.trace_id),
        span_id: span_id(id),
        trace_state: end.trace.state.as_deref(),
        parent_span_id: None,
        flags: flags(false),
        name: if name.is_empty() { "HTTP".to_owned() } else { name },
        kind: 0,
        start_time_unix_nano: nanos(end.began, times.0),
        end_time_unix_nano: nanos(end.began, times.1),
        attributes,
        status: Status { code: if failed { 2 } else { 0 } },
    }
}

fn span_id(id: u64) -> String {
    format!("{id:016x}")
}

/// Sampled, and whether the parent is in another process.
const fn flags(remote_parent: bool) -> u32 {
    1 | 0x100 | if remote_parent { 0x200 } else { 0 }
}

fn nanos(began: Timestamp, after: Duration) -> String {
    (began.as_nanosecond() + i128::try_from(after.as_nanos()).unwrap_or(0)).to_string()
}

/// Methods that may be a name; others could be anything.
fn known_method(method: &str) -> Option<&str> {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    KNOWN.contains(&method).then_some(method)
}

fn text<'a>(key: &'a str, value: impl Into<std::borrow::Cow<'a, str>>) -> Attribute<'a> {
    Attribute { key, value: Value::Text(value.into()) }
}

const fn int(key: &str, value: u64) -> Attribute<'_> {
    Attribute { key, value: Value::Int(value) }
}

const fn double(key: &str, value: f64) -> Attribute<'_> {
    Attribute { key, value: Value::Double(value) }
}

const fn flag(key: &str, value: bool) -> Attribute<'_> {
    Attribute { key, value: Value::Bool(value) }
}

#[cfg(test)]
mod tests;
