//! What goes back to the client: the only file that writes to it.
//!
//! Every answer carries `x-request-id`; every 429 and 503 carries `Retry-After` in whole seconds.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, Version, header};
use pingora::http::ResponseHeader;
use pingora::protocols::http::HttpTask;
use pingora::proxy::Session;

use super::context::RequestContext;
use crate::api::envelope;
use crate::api::strategy::StrategyName;
use crate::error::{Error, ErrorKind, Result};
use crate::quota::{self, Standing};

/// A head that is ready to be written.
pub(super) type Head = Box<ResponseHeader>;

/// The wait that is named when nobody gave one.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long a refused client may go on sending before its connection is closed.
const LINGER: Duration = Duration::from_secs(1);
/// Longest list of warnings that a header carries.
const MAX_WARNINGS: usize = 1024;

/// The head of an answer by a provider: it names what served.
pub(super) fn success_head(
    context: &RequestContext,
    strategy: StrategyName,
    warnings: &[String],
    stream: bool,
) -> Result<Head> {
    let mut head = head(200, if stream { "text/event-stream; charset=utf-8" } else { "application/json" }, context)?;
    if !stream {
        cost(&mut head, context)?;
    }
    let mut set = |name: &'static str, text: &str| insert(&mut head, name, text);
    if stream {
        set("cache-control", "no-cache")?;
        // Reverse proxies like nginx would otherwise hold events back.
        set("x-accel-buffering", "no")?;
    }
    if let Some(trace) = context.traces.last() {
        set("x-perpetuo-provider", trace.candidate.credential.provider.name)?;
        set("x-perpetuo-model", &trace.candidate.model)?;
    }
    set("x-perpetuo-strategy", strategy.as_str())?;
    set("x-perpetuo-attempts", &context.traces.len().to_string())?;
    if !warnings.is_empty() {
        let list: String = warnings.join(",").chars().filter(char::is_ascii_graphic).take(MAX_WARNINGS).collect();
        set("x-perpetuo-warnings", &list)?;
    }
    Ok(head)
}

/// Writes a whole answer.
pub(super) async fn whole(session: &mut Session, mut head: Head, body: Bytes) -> Result<()> {
    head.insert_header(header::CONTENT_LENGTH, HeaderValue::from(body.len())).map_err(Error::internal)?;
    let empty = body.is_empty();
    let mut tasks = vec![HttpTask::Header(head, empty)];
    if !empty {
        tasks.push(HttpTask::Body(Some(body), true));
    }
    write(session, tasks).await
}

/// Writes a piece of a stream, after its head if that is still owed.
pub(super) async fn piece(session: &mut Session, head: Option<Head>, bytes: Bytes, last: bool) -> Result<()> {
    let mut tasks = Vec::with_capacity(2);
    if let Some(mut head) = head {
        match session.req_header().version {
            Version::HTTP_11 => {
                head.insert_header(header::TRANSFER_ENCODING, "chunked").map_err(Error::internal)?;
            }
            Version::HTTP_2 => {}
            // HTTP/1.0 knows no chunks: there, the end of the connection is the end of the stream.
            _ => session.set_keepalive(None),
        }
        tasks.push(HttpTask::Header(head, false));
    }
    if !bytes.is_empty() || last {
        tasks.push(HttpTask::Body((!bytes.is_empty()).then_some(bytes), last));
    }
    if tasks.is_empty() { Ok(()) } else { write(session, tasks).await }
}

/// Writes an answer of the gateway itself.
pub(super) async fn own(
    session: &mut Session,
    context: &mut RequestContext,
    status: u16,
    content_type: &str,
    body: impl Into<Bytes>,
) -> Result<()> {
    context.status = status;
    let head = head(status, content_type, context)?;
    whole(session, head, body.into()).await
}

/// Writes an error: the envelope before the commit, an error event after it. Returns whether the client's connection can be
/// used again.
pub(super) async fn error(session: &mut Session, context: &mut RequestContext, error: &Error) -> bool {
    if error.kind() == ErrorKind::ClientGone {
        return false;
    }
    if context.streaming {
        // The answer is whole as far as HTTP goes, and its head promised a connection that stays open.
        let written = piece(session, None, envelope::event(error).into(), true).await;
        return written.is_ok() && session.downstream_session.is_body_done();
    }
    context.status = error.status();
    let Ok(mut head) = head(context.status, "application/json", context) else { return false };
    if let Err(cause) = error_headers(&mut head, context, error) {
        tracing::error!(%cause, "an error answer without its headers");
    }
    // A body that was not read to its end would be taken for the next request.
    let reusable = session.downstream_session.is_body_done();
    if !reusable {
        session.set_keepalive(None);
    }
    let written = whole(session, head, envelope::json(error).into()).await.is_ok();
    if written && !reusable {
        linger(session).await;
    }
    written && reusable
}

/// Takes what a client is still sending after it was refused. Closing on unread bytes resets the connection, and the client
/// would see that instead of the answer.
async fn linger(session: &mut Session) {
    let rest = async { while let Ok(Some(_)) = session.downstream_session.read_request_body().await {} };
    let _ = tokio::time::timeout(LINGER, rest).await;
}

fn error_headers(head: &mut ResponseHeader, context: &RequestContext, error: &Error) -> Result<()> {
    if let Some(wait) = error.retry_after() {
        insert(head, "retry-after", &whole_seconds(wait))?;
    }
    if error.kind() == ErrorKind::BudgetExceeded || context.retries_spent {
        // SDKs would try again in vain until the day or the month is over, or make an outage worse.
        insert(head, "x-should-retry", "false")?;
    }
    if let Some(allowed) = context.allow.as_ref().filter(|_| error.kind() == ErrorKind::MethodNotAllowed) {
        insert(head, "allow", allowed.as_str())?;
    }
    if let Some(provider) = error.provider() {
        insert(head, "x-perpetuo-provider", provider)?;
    }
    if !context.traces.is_empty() {
        insert(head, "x-perpetuo-attempts", &context.traces.len().to_string())?;
        cost(head, context)?;
    }
    Ok(())
}

/// What the request costs, and how sure that is. A sum without one of its parts would be no sum: then only the word.
fn cost(head: &mut ResponseHeader, context: &RequestContext) -> Result<()> {
    let total = context.total();
    if let Some(cost) = total.cost_usd() {
        insert(head, "x-perpetuo-cost-usd", &cost)?;
    }
    insert(head, "x-perpetuo-cost-certainty", total.certainty.as_str())
}

/// Rounded up: SDKs read nothing finer, and a client that comes too early is refused again.
fn whole_seconds(wait: Duration) -> String {
    wait.as_millis().div_ceil(1000).max(1).to_string()
}

fn head(status: u16, content_type: &str, context: &RequestContext) -> Result<Head> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut head = ResponseHeader::build_no_case(status, Some(16)).map_err(Error::internal)?;
    insert(&mut head, "content-type", content_type)?;
    insert(&mut head, "x-request-id", &context.request_id)?;
    if let Some(trace) = context.trace.response() {
        insert(&mut head, "traceresponse", &trace)?;
    }
    if matches!(status.as_u16(), 429 | 503) {
        insert(&mut head, "retry-after", &whole_seconds(DEFAULT_RETRY_AFTER))?;
    }
    let Standing { requests, tokens } = context.standing;
    let names = [
        ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
        ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
    ];
    for ([limit, remaining, reset], level) in names.into_iter().zip([requests, tokens]) {
        let Some(level) = level else { continue };
        insert(&mut head, limit, &level.limit.to_string())?;
        insert(&mut head, remaining, &level.remaining.to_string())?;
        insert(&mut head, reset, &quota::go_duration(level.reset_ms))?;
    }
    Ok(Box::new(head))
}

fn insert(head: &mut ResponseHeader, name: &'static str, text: &str) -> Result<()> {
    let value = HeaderValue::from_str(text).map_err(Error::internal)?;
    head.insert_header(name, value).map_err(Error::internal)
}

async fn write(session: &mut Session, tasks: Vec<HttpTask>) -> Result<()> {
    let written = session.write_response_tasks(tasks).await;
    written
        .map(|_| ())
        .map_err(|cause| Error::new(ErrorKind::ClientGone, "The client closed the connection.").with_cause(cause))
}
