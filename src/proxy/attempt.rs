//! One attempt at one candidate, up to its first content.
//!
//! A plain future that borrows no client session: it can be raced, timed out and dropped at any point, which closes its
//! connection. What it learns it writes into its [`Trace`] at once, so that a dropped attempt is booked truthfully. It is moved
//! to the heap once for each attempt, so what is large in it and seldom needed is on the heap by itself.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header;
use jiff::Timestamp;
use tokio::time::error::Elapsed;
use tokio::time::timeout_at;

use super::context::{Sent, Trace};
use super::exchange::Exchange;
use super::grants::Grants;
use super::stream::LiveStream;
use super::upstream::Upstream;
use crate::api::head::ChatHead;
use crate::api::scan::Body;
use crate::api::{answer, embeddings};
use crate::balance::discovery::Resolver;
use crate::balance::group::{Choice, UNRESOLVED};
use crate::catalog::Kind;
use crate::config::{Limits, Timeouts};
use crate::directory::Credential;
use crate::error::{Error, ErrorKind, Result};
use crate::frames::Framing;
use crate::provider::{Answer, AnswerContext, ChatCall, Failure, Outgoing, Target, failure, protocol};
use crate::telemetry::TraceContext;
use crate::usage::Bill;

/// How much of an error body is read, and for how long: enough for its message, and to keep the connection.
const ERROR_BODY: usize = 64 * 1024;
const ERROR_PATIENCE: Duration = Duration::from_millis(500);
/// How much of it is put into the log.
const QUOTED: usize = 2048;

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
    /// The trace it belongs to.
    pub trace: std::sync::Arc<TraceContext>,
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
    Whole(Box<Answer>),
    /// A stream at its first content.
    Stream(Box<LiveStream>),
}

/// What attempts need of the gateway.
pub(super) struct Attempts {
    /// Connections.
    pub upstream: Upstream,
    /// Tokens of service accounts.
    pub grants: Grants,
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
            now: Timestamp::now(),
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
    ///
    /// `limit` is for the head of the answer, and for the first content of a stream. A whole answer that has begun has
    /// until the deadline of the request.
    pub(super) async fn run(
        &self,
        call: &Call,
        choice: &Choice,
        outgoing: &Outgoing,
        trace: &mut Trace,
        limit: Duration,
    ) -> Result<Started> {
        let first = Instant::now() + limit;
        let opened = timeout_at(first.into(), self.open(choice, outgoing, call.head.stream, trace)).await;
        let result = match in_time(opened) {
            Ok(exchange) if call.head.stream => {
                in_time(timeout_at(first.into(), self.first_content(call, choice, exchange, trace)).await)
            }
            Ok(exchange) => in_time(timeout_at(call.deadline.into(), self.whole(call, choice, exchange, trace)).await),
            Err(error) => Err(error),
        };
        if result.is_ok() {
            trace.first_content = Some(trace.started.elapsed());
        }
        result.map_err(|error| choice.candidate.credential.blame(error))
    }

    /// Sends the request and reads the head of a success.
    async fn open(
        &self,
        choice: &Choice,
        outgoing: &Outgoing,
        stream: bool,
        trace: &mut Trace,
    ) -> Result<Box<Exchange>> {
        let credential = &choice.candidate.credential;
        let address = match choice.address {
            UNRESOLVED => Box::pin(self.resolver.resolve(&credential.endpoint)).await?,
            address => self.resolver.reachable(&credential.endpoint, address),
        };
        let authorized = self.authorized(credential, outgoing).await?;
        let first = authorized.as_ref().unwrap_or(outgoing);
        let mut exchange = self.send(credential, address, first, stream, trace).await?;
        if authorized.is_some() && trace.status == 401 {
            // Its token may have been taken back before its time; an account that is refused has no other.
            drop(Box::pin(self.refused(exchange, choice, trace)).await);
            self.grants.forget(credential);
            let renewed = self.authorized(credential, outgoing).await?;
            exchange = self.send(credential, address, renewed.as_ref().unwrap_or(outgoing), stream, trace).await?;
        }
        if trace.status != 200 {
            return Err(Box::pin(self.refused(exchange, choice, trace)).await);
        }
        let framing = stream.then(|| credential.provider.dialect.framing());
        match check_head(&exchange, framing, credential.provider.name) {
            Ok(()) => Ok(exchange),
            Err(error) => {
                exchange.abort().await;
                Err(error)
            }
        }
    }

    async fn send(
        &self,
        credential: &Credential,
        address: SocketAddr,
        outgoing: &Outgoing,
        stream: bool,
        trace: &mut Trace,
    ) -> Result<Box<Exchange>> {
        let (body, ratio) = (&outgoing.body, trace.candidate.tokens.prompt_ratio());
        let (mut address, mut tried, began) = (address, Vec::new(), Instant::now());
        loop {
            let on_send = |sent: bool| trace.sent = sent.then(|| Sent::Body { body: body.clone(), ratio });
            let error = match self.upstream.exchange(&credential.into(), address, outgoing, stream, on_send).await {
                Ok(exchange) => {
                    trace.status = exchange.status();
                    trace.upstream_request_id = exchange.request_id();
                    return Ok(exchange);
                }
                Err(error) => error,
            };
            if trace.sent.is_some() {
                return Err(error);
            }
            // Where nothing was sent, another of the host's addresses may do better: one of them can be dead for long. All together
            // have the time that one has.
            let endpoint = &credential.endpoint;
            self.resolver.pass_over(endpoint, address);
            tried.push(address);
            let left = self.timeouts.connect.saturating_sub(began.elapsed());
            let next = tokio::time::timeout(left, Box::pin(self.resolver.another(endpoint, &tried))).await;
            let next = next.ok().flatten().filter(|_| began.elapsed() < self.timeouts.connect);
            address = next.ok_or(error)?;
        }
    }

    async fn whole(
        &self,
        call: &Call,
        choice: &Choice,
        mut exchange: Box<Exchange>,
        trace: &mut Trace,
    ) -> Result<Started> {
        let mut vectors = 0;
        // Until it is whole, what came stands for what was generated.
        let came = if call.kind == Kind::Chat { &mut trace.generated } else { &mut vectors };
        let body = exchange.read_counting(self.limits.max_answer_bytes, self.timeouts.idle, came).await?;
        trace.generated = 0;
        // First of all the figure: the client may leave while the connection is given back.
        let answer = self.translate(call, choice, body);
        if let Ok(answer) = &answer {
            trace.usage = answer.usage;
            trace.bill = Bill { closed: answer.usage.is_some(), ..answer.bill.clone() };
            if trace.believed().is_none() && call.kind == Kind::Chat {
                trace.generated = answer::generated(&answer.body);
            }
        }
        self.upstream.finish(exchange).await;
        answer.map(|answer| Started::Whole(Box::new(answer)))
    }

    fn translate(&self, call: &Call, choice: &Choice, body: Bytes) -> Result<Answer> {
        let context = &context(call, choice);
        let dialect = choice.candidate.credential.provider.dialect;
        match call.kind {
            Kind::Chat => dialect.answer(body, context),
            Kind::Embeddings => {
                let answer = dialect.embeddings_answer(body, context)?;
                let body =
                    if embeddings::wants_base64(&call.body) { embeddings::in_base64(answer.body) } else { answer.body };
                Ok(Answer { body, ..answer })
            }
        }
    }

    /// Reads on until there is something to show: before that, a failure is invisible to the client.
    async fn first_content(
        &self,
        call: &Call,
        choice: &Choice,
        exchange: Box<Exchange>,
        trace: &mut Trace,
    ) -> Result<Started> {
        let dialect = choice.candidate.credential.provider.dialect;
        let translator = dialect.stream(context(call, choice));
        let mut live = Box::new(LiveStream::open(exchange, dialect.framing(), translator, &self.limits));
        loop {
            let step = live.step(Instant::now() + self.timeouts.idle).await;
            live.report(trace);
            if let Err(error) = step {
                live.abort().await;
                return Err(error);
            }
            if live.has_content() || live.is_over() {
                return Ok(Started::Stream(live));
            }
        }
    }

    /// An answer that is no success: what it says, and its connection given back. Tokens that it names are on the bill.
    async fn refused(&self, mut exchange: Box<Exchange>, choice: &Choice, trace: &mut Trace) -> Error {
        let credential = &choice.candidate.credential;
        let provider = credential.provider;
        let (status, headers) = (exchange.status(), exchange.headers());
        let body = tokio::time::timeout(ERROR_PATIENCE, exchange.read_all(ERROR_BODY, ERROR_PATIENCE)).await;
        let said = match body {
            Ok(Ok(body)) => {
                trace.usage = provider.dialect.error_usage(&body);
                trace.bill.closed = trace.usage.is_some();
                self.upstream.finish(exchange).await;
                quote(credential, status, &body);
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

/// Puts the beginning of an error body that is no JSON into the log, for who looks for what is not in the error: a page of a content
/// network. JSON is a provider's own words, which stand in the error, and may quote more than the key that it was sent.
fn quote(credential: &Credential, status: u16, body: &[u8]) {
    if tracing::enabled!(tracing::Level::DEBUG) && !body.trim_ascii_start().starts_with(b"{") {
        // Cut last: half a key is not known as one.
        let clean = credential.blame(Error::internal(String::from_utf8_lossy(body)));
        let page: String = clean.cause().unwrap_or_default().chars().take(QUOTED).collect();
        tracing::debug!(provider = credential.provider.name, status, page, "a provider refused");
    }
}

/// The result of a piece of an attempt, if it came in time.
fn in_time<T>(result: Result<Result<T>, Elapsed>) -> Result<T> {
    let late = || Err(Error::new(ErrorKind::ProviderTimeout, "The provider did not answer in time."));
    result.unwrap_or_else(|_| late())
}

fn context(call: &Call, choice: &Choice) -> AnswerContext {
    AnswerContext {
        provider: choice.candidate.credential.provider.name,
        id: ["chatcmpl-", &call.request_id].concat(),
        created: call.created,
        model: choice.candidate.model.clone(),
        include_usage: call.head.include_usage,
        json_object: call.head.json_object,
    }
}

/// A 200 must be what was asked for: a page of a content network under 200 would reach an SDK as a "completion".
fn check_head(exchange: &Exchange, framing: Option<Framing>, provider: &'static str) -> Result<()> {
    let encoding = exchange.header(&header::CONTENT_ENCODING);
    if !matches!(encoding, "" | "identity") {
        return Err(protocol(provider, format!("content-encoding {encoding} although none was accepted")));
    }
    let content_type = exchange.header(&header::CONTENT_TYPE).to_ascii_lowercase();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let fits = match framing {
        Some(framing) => framing.content_types().contains(&essence),
        None => essence == "application/json" || essence.ends_with("+json"),
    } || essence.is_empty();
    if fits { Ok(()) } else { Err(protocol(provider, format!("content-type {content_type}"))) }
}
