//! One attempt at one candidate, up to its first content.
//!
//! A plain future that borrows no client session: it can be raced, timed out and dropped at any point, which closes its
//! connection. What it learns it writes into its [`Trace`] at once, so that a dropped attempt is booked truthfully.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, header};
use jiff::Timestamp;

use super::context::Trace;
use super::stream::LiveStream;
use super::upstream::{Exchange, Upstream};
use crate::api::chat::ChatHead;
use crate::api::scan::Body;
use crate::balance::discovery::Resolver;
use crate::balance::group::{Choice, UNRESOLVED};
use crate::catalog::Kind;
use crate::config::{Limits, Timeouts};
use crate::error::{Error, ErrorKind, Result};
use crate::provider::{Answer, AnswerContext, ChatCall, Failure, Outgoing, Target, failure, protocol};

/// How much of an error body is read, and for how long: enough for its message, and to keep the connection.
const ERROR_BODY: usize = 64 * 1024;
const ERROR_PATIENCE: Duration = Duration::from_millis(500);

/// Everything about a request that an attempt needs.
pub(super) struct Call {
    /// The client's body.
    pub body: Body,
    /// Chat or embeddings.
    pub kind: Kind,
    /// What the gateway read of a chat's body.
    pub head: ChatHead,
    /// Whether the client refuses to have anything dropped or changed.
    pub strict: bool,
    /// For ids of answers whose provider gives none.
    pub request_id: String,
    /// Seconds since 1970, for the same.
    pub created: i64,
    /// When the whole request must be over.
    pub deadline: Instant,
}

/// An attempt that has content.
pub(super) enum Started {
    /// A whole answer; its connection has been given back.
    Whole(Answer),
    /// A stream at its first content.
    Stream(Box<LiveStream>),
}

/// What attempts need of the gateway.
pub(super) struct Attempts {
    /// Connections.
    pub upstream: Upstream,
    /// Addresses of hosts that could not be resolved before.
    pub resolver: std::sync::Arc<Resolver>,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Limits.
    pub limits: Limits,
}

impl Attempts {
    /// The request in the candidate's own form. Costs nothing and reaches nobody.
    ///
    /// Errors: `UnsupportedParameter`, `InvalidRequest`, `ProviderKeyInvalid` (a key that no header can hold).
    pub(super) fn prepare(call: &Call, choice: &Choice) -> Result<Outgoing> {
        let credential = &choice.candidate.credential;
        let target = Target {
            provider: credential.provider,
            endpoint: &credential.endpoint,
            key: &credential.key,
            options: &credential.options,
            model: &choice.candidate.model,
        };
        let dialect = credential.provider.dialect;
        let outgoing = match call.kind {
            Kind::Chat => dialect.chat(&ChatCall::new(&call.body, &call.head), &target)?,
            Kind::Embeddings => dialect.embeddings(&call.body, &target)?,
        };
        if call.strict && !outgoing.warnings.is_empty() {
            let names = outgoing.warnings.join(", ");
            let message = format!("The provider '{}' can't express: {names}.", credential.provider.name);
            let param = outgoing.warnings.first().cloned().unwrap_or_default();
            return Err(Error::new(ErrorKind::UnsupportedParameter, message).with_param(param));
        }
        Ok(outgoing)
    }

    /// Asks the candidate, and returns with the first content or with the reason why there is none.
    pub(super) async fn run(
        &self,
        call: &Call,
        choice: &Choice,
        outgoing: &Outgoing,
        trace: &mut Trace,
        limit: Duration,
    ) -> Result<Started> {
        let result = tokio::time::timeout(limit, self.first_content(call, choice, outgoing, trace)).await;
        let result = result
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::ProviderTimeout, "The provider did not answer in time.")));
        let took = trace.started.elapsed();
        match result {
            Ok(started) => {
                trace.first_content = Some(took);
                Ok(started)
            }
            Err(error) => {
                let credential = &choice.candidate.credential;
                Err(error.redacted(credential.key.expose()).with_provider(credential.provider.name))
            }
        }
    }

    async fn first_content(
        &self,
        call: &Call,
        choice: &Choice,
        outgoing: &Outgoing,
        trace: &mut Trace,
    ) -> Result<Started> {
        let credential = &choice.candidate.credential;
        let address = if choice.address == UNRESOLVED {
            self.resolver.resolve(&credential.endpoint).await?
        } else {
            choice.address
        };
        let stream = call.head.stream;
        let size = outgoing.body.len() as u64;
        let on_send = || trace.sent_bytes = Some(size);
        let mut exchange = self.upstream.exchange(credential, address, outgoing, stream, on_send).await?;
        trace.status = exchange.status();
        if trace.status != 200 {
            return Err(self.refused(exchange, choice).await);
        }
        check_head(&exchange.headers(), stream, credential.provider.name)?;
        let context = context(call, choice);
        if stream {
            let live = LiveStream::open(exchange, credential.provider.dialect.stream(context), &self.limits);
            return self.open_stream(live, trace).await;
        }
        let body = exchange.read_all(self.limits.max_answer_bytes, self.timeouts.idle).await?;
        let answer = self.translate(call, choice, body, &context);
        if let Ok(answer) = &answer {
            trace.usage = answer.usage;
        }
        self.upstream.finish(exchange).await;
        answer.map(Started::Whole)
    }

    fn translate(&self, call: &Call, choice: &Choice, body: Bytes, context: &AnswerContext) -> Result<Answer> {
        let dialect = choice.candidate.credential.provider.dialect;
        match call.kind {
            Kind::Chat => dialect.answer(body, context),
            Kind::Embeddings => dialect.embeddings_answer(body, context),
        }
    }

    /// Reads on until there is something to show: before that, a failure is invisible to the client.
    async fn open_stream(&self, mut live: LiveStream, trace: &mut Trace) -> Result<Started> {
        loop {
            let step = live.step(self.timeouts.idle).await;
            live.report(trace);
            if let Err(error) = step {
                live.abort().await;
                return Err(error);
            }
            if live.has_content() || live.is_over() {
                return Ok(Started::Stream(Box::new(live)));
            }
        }
    }

    /// An answer that is no success: what it says, and its connection given back.
    async fn refused(&self, mut exchange: Exchange, choice: &Choice) -> Error {
        let provider = choice.candidate.credential.provider;
        let (status, headers) = (exchange.status(), exchange.headers());
        let body = tokio::time::timeout(ERROR_PATIENCE, exchange.read_all(ERROR_BODY, ERROR_PATIENCE)).await;
        let said = match body {
            Ok(Ok(body)) => {
                self.upstream.finish(exchange).await;
                provider.dialect.read_error(&body)
            }
            _ => {
                exchange.abort().await;
                crate::provider::ProviderMessage::default()
            }
        };
        failure(&Failure { status, headers: &headers, now: Timestamp::now() }, said, provider.name)
    }
}

fn context(call: &Call, choice: &Choice) -> AnswerContext {
    AnswerContext {
        provider: choice.candidate.credential.provider.name,
        id: format!("chatcmpl-{}", call.request_id),
        created: call.created,
        model: choice.candidate.model.clone(),
        include_usage: call.head.include_usage,
        json_object: false,
    }
}

/// A 200 must be what was asked for: a page of a content network under 200 would reach an SDK as a "completion".
fn check_head(headers: &HeaderMap, stream: bool, provider: &'static str) -> Result<()> {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let encoding = text(header::CONTENT_ENCODING);
    if !matches!(encoding, "" | "identity") {
        return Err(protocol(provider, format!("content-encoding {encoding} although none was accepted")));
    }
    let content_type = text(header::CONTENT_TYPE).to_ascii_lowercase();
    let fits = match (content_type.split(';').next().unwrap_or_default().trim(), stream) {
        ("", _) | ("text/event-stream", true) => true,
        (json, false) => json == "application/json" || json.ends_with("+json"),
        _ => false,
    };
    if fits { Ok(()) } else { Err(protocol(provider, format!("content-type {content_type}"))) }
}
