//! The end of a request, as it is told: what the context came to, for the access log and for spans.
//!
//! Not here: the forms (`telemetry`). Invariant: what is told is the record that was booked, not a second count.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::client::Client;
use super::context::{RequestContext, Trace};
use super::{Gateway, Snapshot};
use crate::config::Config;
use crate::telemetry::{self, AttemptEnd, Content, Policy, RequestEnd, TraceContext};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The most that is kept of what a client wrote; less of it is shown.
const MAX_TEXT: usize = 1024;

impl Gateway {
    /// Ends a request: books it, if that was not done before its last byte, and tells of it. One that
    /// another process answers is that one's to book and to tell of.
    pub(super) async fn conclude(&self, client: &Client<'_>, context: &mut RequestContext) {
        if context.passed_on {
            return;
        }
        self.finish(context).await;
        if self.lasting.telemetry.listens() {
            let named = self.snapshot.load().config.log.client_address;
            let content = context.content.take();
            self.lasting.telemetry.tell(ended(client, context, named), content);
        }
    }
}

/// The trace that a request belongs to.
pub(super) fn trace(headers: &HeaderMap, config: &Config) -> Arc<TraceContext> {
    let settings = &config.tracing;
    let exports = settings.endpoint.is_some();
    let policy = Policy { exports, sample: settings.sample, propagate: settings.propagate };
    Arc::new(TraceContext::begin(headers, policy, rand::random::<u128>().max(1), new_span()))
}

/// The id of a new span, and the headers that hand it on.
pub(super) fn child(trace: &TraceContext) -> (u64, impl Iterator<Item = (HeaderName, HeaderValue)>) {
    let span_id = new_span();
    (span_id, trace.headers(span_id))
}

fn new_span() -> u64 {
    rand::random::<u64>().max(1)
}

impl RequestContext {
    /// Keeps the body for the access log, where that is asked for.
    pub(super) fn keep_content(&mut self, body: &[u8], snapshot: &Snapshot) {
        let log = &snapshot.config.log;
        self.content = log.content.then(|| Content::of(body, log.content_bytes));
    }

    /// Keeps a piece of the answer, where that is asked for.
    pub(super) fn keep_answer(&mut self, piece: &[u8]) {
        if let Some(content) = &mut self.content {
            content.answer(piece);
        }
    }
}

fn ended(client: &Client<'_>, context: &mut RequestContext, is_named: bool) -> RequestEnd {
    let head = client.head();
    let (bytes_in, bytes_out) = client.bytes();
    let booking = context.record.take();
    let gone = context.client_gone;
    let caller = context.caller.as_ref();
    RequestEnd {
        began: context.created_at,
        took: context.started.elapsed(),
        trace: Arc::clone(&context.trace),
        method: head.method.clone(),
        path: beginning(head.uri.path()),
        route: context.route.as_ref().map(|route| route.pattern()),
        probe: context.route.as_ref().is_some_and(|route| route.is_probe()),
        client: is_named.then(|| named(client)).flatten(),
        request_id: context.request_id.clone(),
        workspace: caller.map(|caller| caller.workspace.id.clone()),
        key: caller.map(|caller| caller.key.id.clone()),
        status: booking.as_ref().map_or(if gone { 499 } else { context.status }, |booking| booking.status),
        error: context.error.as_ref().map(crate::error::Error::kind),
        client_gone: gone,
        bytes_in,
        bytes_out,
        attempts: context.traces.iter().map(|trace| attempt(context, trace)).collect(),
        booking,
    }
}

fn attempt(context: &RequestContext, trace: &Trace) -> AttemptEnd {
    let endpoint = &trace.candidate.credential.endpoint;
    AttemptEnd {
        span_id: trace.span_id,
        after: trace.started.saturating_duration_since(context.started),
        took: trace.took.unwrap_or_else(|| trace.started.elapsed()),
        first_content: trace.first_content,
        host: endpoint.host.clone(),
        port: endpoint.port,
    }
}

fn named(client: &Client<'_>) -> Option<telemetry::Client> {
    let address = client.address()?.to_canonical();
    let forwarded_for = client.header(&FORWARDED_FOR).map(beginning);
    Some(telemetry::Client { address, forwarded_for })
}

fn beginning(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}
