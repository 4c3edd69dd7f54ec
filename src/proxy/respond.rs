//! What goes back to the client: the only file that has anything written to it.
//!
//! Every answer carries `x-request-id`; every 429 and 503 carries `Retry-After` in whole seconds.

use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderName, HeaderValue, Response, StatusCode, Version, header};

use super::client::Client;
use super::context::RequestContext;
use crate::api::envelope;
use crate::api::strategy::StrategyName;
use crate::error::{Error, ErrorKind, Result};
use crate::quota::{self, Standing};

/// A head that is ready to be written.
pub(super) type Head = Parts;

/// The wait that is named when nobody gave one.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long a refused client may go on sending before its connection is closed.
const LINGER: Duration = Duration::from_secs(1);
/// Longest list of warnings that a header carries.
const MAX_WARNINGS: usize = 1024;
/// Headers that there is room for without moving any, beside those of [`RATE_LIMITS`]. A stream keeps the room until its end.
const HEADERS: usize = 12;

/// The answer's own name for the request.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACE_RESPONSE: HeaderName = HeaderName::from_static("traceresponse");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const PROVIDER: HeaderName = HeaderName::from_static("x-perpetuo-provider");
const MODEL: HeaderName = HeaderName::from_static("x-perpetuo-model");
const STRATEGY: HeaderName = HeaderName::from_static("x-perpetuo-strategy");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-perpetuo-attempts");
const WARNINGS: HeaderName = HeaderName::from_static("x-perpetuo-warnings");
const COST_USD: HeaderName = HeaderName::from_static("x-perpetuo-cost-usd");
const COST_CERTAINTY: HeaderName = HeaderName::from_static("x-perpetuo-cost-certainty");
/// Limit, remaining, reset.
const OF_A_LIMIT: usize = 3;
/// Those of requests and of tokens.
const RATE_LIMITS: [[HeaderName; OF_A_LIMIT]; 2] = [
    [
        HeaderName::from_static("x-ratelimit-limit-requests"),
        HeaderName::from_static("x-ratelimit-remaining-requests"),
        HeaderName::from_static("x-ratelimit-reset-requests"),
    ],
    [
        HeaderName::from_static("x-ratelimit-limit-tokens"),
        HeaderName::from_static("x-ratelimit-remaining-tokens"),
        HeaderName::from_static("x-ratelimit-reset-tokens"),
    ],
];

/// The head of an answer by a provider: it names what served.
pub(super) fn success_head(
    context: &RequestContext,
    strategy: StrategyName,
    warnings: &[String],
    stream: bool,
) -> Result<Head> {
    let content_type = if stream { "text/event-stream; charset=utf-8" } else { "application/json" };
    let mut head = head(StatusCode::OK, content_type, context)?;
    let headers = &mut head.headers;
    if stream {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // Reverse proxies like nginx would otherwise hold events back.
        headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    } else {
        cost(&mut head, context)?;
    }
    let headers = &mut head.headers;
    if let Some(trace) = context.traces.last() {
        headers.insert(PROVIDER, HeaderValue::from_static(trace.candidate.credential.provider.name));
        headers.insert(MODEL, value(&trace.candidate.model)?);
    }
    headers.insert(STRATEGY, HeaderValue::from_static(strategy.as_str()));
    headers.insert(ATTEMPTS, HeaderValue::from(context.traces.len()));
    if !warnings.is_empty() {
        let list: String = warnings.join(",").chars().filter(char::is_ascii_graphic).take(MAX_WARNINGS).collect();
        headers.insert(WARNINGS, value(&list)?);
    }
    Ok(head)
}

/// Writes a whole answer.
pub(super) async fn whole(client: &mut Client<'_>, mut head: Head, body: Bytes) -> Result<()> {
    head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    client.write(Some(head), body, true).await.map_err(|cause| gone(&cause))
}

/// Writes a piece of a stream, after its head if that is still owed.
pub(super) async fn piece(client: &mut Client<'_>, mut head: Option<Head>, bytes: Bytes, last: bool) -> Result<()> {
    if let Some(head) = &mut head {
        match client.head().version {
            Version::HTTP_11 => {
                head.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            Version::HTTP_2 => {}
            // HTTP/1.0 knows no chunks: there, the end of the connection is the end of the stream.
            _ => client.close(),
        }
    }
    client.write(head, bytes, last).await.map_err(|cause| gone(&cause))
}

fn gone(cause: &pingora::Error) -> Error {
    Error::new(ErrorKind::ClientGone, "The client closed the connection.").with_cause(cause)
}

/// Writes an answer of the gateway itself.
pub(super) async fn own(
    client: &mut Client<'_>,
    context: &mut RequestContext,
    status: u16,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Result<()> {
    context.status = status;
    let head = head(code(status), content_type, context)?;
    whole(client, head, body.into()).await
}

/// Writes an error: the envelope before the commit, an error event after it. Returns whether the client's connection can be
/// used again.
pub(super) async fn error(client: &mut Client<'_>, context: &mut RequestContext, error: &Error) -> bool {
    if error.kind() == ErrorKind::ClientGone {
        return false;
    }
    if context.streaming {
        // The answer is whole as far as HTTP goes, and its head promised a connection that stays open.
        let written = piece(client, None, envelope::event(error).into(), true).await;
        return written.is_ok() && client.is_body_done();
    }
    context.status = error.status();
    let Ok(mut head) = head(code(context.status), "application/json", context) else { return false };
    if let Err(cause) = error_headers(&mut head, context, error) {
        tracing::error!(%cause, "an error answer without its headers");
    }
    // A body that was not read to its end would be taken for the next request.
    let reusable = client.is_body_done();
    if !reusable {
        client.close();
    }
    let written = whole(client, head, envelope::json(error).into()).await.is_ok();
    if written && !reusable {
        linger(client).await;
    }
    written && reusable
}

/// Takes what a client is still sending after it was refused. Closing on unread bytes resets the connection, and the client
/// would see that instead of the answer.
async fn linger(client: &mut Client<'_>) {
    let rest = async { while let Ok(Some(_)) = client.read().await {} };
    let _ = tokio::time::timeout(LINGER, rest).await;
}

fn error_headers(head: &mut Head, context: &RequestContext, error: &Error) -> Result<()> {
    let headers = &mut head.headers;
    if let Some(wait) = error.retry_after() {
        headers.insert(header::RETRY_AFTER, whole_seconds(wait));
    }
    if error.kind() == ErrorKind::BudgetExceeded || context.retries_spent {
        // SDKs would try again in vain until the day or the month is over, or make an outage worse.
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    if let Some(allowed) = context.allow.as_ref().filter(|_| error.kind() == ErrorKind::MethodNotAllowed) {
        headers.insert(header::ALLOW, value(allowed.as_str())?);
    }
    if let Some(provider) = error.provider() {
        headers.insert(PROVIDER, value(provider)?);
    }
    if !context.traces.is_empty() {
        headers.insert(ATTEMPTS, HeaderValue::from(context.traces.len()));
        cost(head, context)?;
    }
    Ok(())
}

/// What the request costs, and how sure that is. A sum without one of its parts would be no sum: then only the word.
fn cost(head: &mut Head, context: &RequestContext) -> Result<()> {
    let total = context.total();
    if let Some(cost) = total.cost_usd() {
        head.headers.insert(COST_USD, owned(cost)?);
    }
    head.headers.insert(COST_CERTAINTY, HeaderValue::from_static(total.certainty.as_str()));
    Ok(())
}

/// Rounded up: SDKs read nothing finer, and a client that comes too early is refused again.
fn whole_seconds(wait: Duration) -> HeaderValue {
    HeaderValue::from(u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX).max(1))
}

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn head(status: StatusCode, content_type: &'static str, context: &RequestContext) -> Result<Head> {
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = status;
    let headers = &mut head.headers;
    let Standing { requests, tokens } = context.standing;
    let levels = [requests, tokens];
    headers.reserve(HEADERS + levels.iter().flatten().count() * OF_A_LIMIT);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(REQUEST_ID, value(&context.request_id)?);
    if let Some(trace) = context.trace.response() {
        headers.insert(TRACE_RESPONSE, owned(trace)?);
    }
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        headers.insert(header::RETRY_AFTER, whole_seconds(DEFAULT_RETRY_AFTER));
    }
    for ([limit, remaining, reset], level) in RATE_LIMITS.into_iter().zip(levels) {
        let Some(level) = level else { continue };
        headers.insert(limit, HeaderValue::from(level.limit));
        headers.insert(remaining, HeaderValue::from(level.remaining));
        headers.insert(reset, owned(quota::go_duration(level.reset_ms))?);
    }
    Ok(head)
}

fn value(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(Error::internal)
}

fn owned(text: String) -> Result<HeaderValue> {
    HeaderValue::try_from(text).map_err(Error::internal)
}
