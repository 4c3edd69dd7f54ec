//! From a head to a plan: who asks, what is asked, who could answer.
//!
//! Order: the key, then room for the request, then the declared size, then `Expect`, then the body under one deadline and one cap,
//! then its head without a full parse, then the candidates, then its limits. Nothing is sent to any provider here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderName, header};
use jiff::Timestamp;
use pingora::BError;

use super::attempt::Call;
use super::client::Client;
use super::context::{Asked, RequestContext};
use super::{Gateway, Snapshot};
use crate::api::embeddings;
use crate::api::head::{ChatHead, read_model, seconds_to_duration};
use crate::api::scan::Body;
use crate::api::strategy::StrategyName;
use crate::balance::group::Group;
use crate::balance::hash;
use crate::balance::request::Request;
use crate::balance::stats::prefix;
use crate::catalog::Kind;
use crate::config::{Config, Limits, Timeouts};
use crate::directory::Caller;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::Metrics;
use crate::money::Money;
use crate::quota::{self, Amount, Reservation, When};
use crate::shed::{Caps, Permit, Shed};
use crate::usage::estimate_tokens;

/// The one text of every refused key: it must not tell which part was wrong.
const BAD_KEY: &str = "Incorrect API key provided. Send a valid virtual key as 'Authorization: Bearer pk_…'.";

/// Anthropic's header for a key.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const STRICT: HeaderName = HeaderName::from_static("x-perpetuo-strict");
const TIMEOUT: HeaderName = HeaderName::from_static("x-perpetuo-timeout");
const ROUTE: HeaderName = HeaderName::from_static("x-perpetuo-route");

/// A request that may be sent.
pub(super) struct Admitted {
    /// What is sent.
    pub call: Call,
    /// The same, as rankings see it.
    pub request: Request,
    /// The candidates.
    pub group: Arc<Group>,
}

impl Gateway {
    /// Admits a chat or embeddings request.
    pub(super) async fn admit(
        &self,
        client: &mut Client<'_>,
        context: &mut RequestContext,
        kind: Kind,
        snapshot: &Snapshot,
    ) -> Result<Admitted> {
        let caller = self.authenticate(client, snapshot)?;
        context.caller = Some(caller.clone());
        let permit = context.permit.insert(self.let_in(&caller, &snapshot.config.limits)?);
        let room = Room { permit, metrics: &self.metrics };
        let asked = Instant::now();
        let body = read_body(client, snapshot, snapshot.config.limits.max_body_bytes, Some(room)).await;
        context.waited += asked.elapsed();
        let body = Body::scan(body?)?;
        context.keep_content(body.bytes(), snapshot);
        let head = read_head(&body, kind)?;
        let strategy = strategy(client, &caller, snapshot)?;
        let asked = Asked { model: head.model.clone(), strategy, stream: head.stream };
        context.asked = Some(asked);
        let timeout = timeout(client, &head, snapshot)?;
        let strict = client.header(&STRICT).is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let group = snapshot.planner.group(&caller.workspace, &head.model, kind).await?;
        if group.candidates().iter().all(|candidate| candidate.barred) {
            return Err(unpriced(&head.model));
        }
        let request = request(&body, &head, strategy, hash(&caller.key.id));
        self.reserve(context, &caller, dearest(&group, &request))?;
        let call = Call {
            body,
            kind,
            head,
            strict,
            trace: Arc::clone(&context.trace),
            request_id: context.request_id.clone(),
            created: context.created_at.as_second(),
            deadline: context.started + timeout,
        };
        Ok(Admitted { call, request, group })
    }

    /// Lets a request in if neither its workspace nor the process has too much under way.
    fn let_in(&self, caller: &Caller, limits: &Limits) -> Result<Permit> {
        let own = caller.workspace.allowance.max_in_flight.unwrap_or(u64::MAX);
        let caps = Caps {
            in_flight: limits.max_in_flight,
            workspace_in_flight: limits.max_in_flight_per_workspace.min(own),
            bytes: limits.max_buffered_bytes,
            workspace_bytes: limits.max_buffered_bytes_per_workspace,
        };
        self.lasting.load.enter(&caller.workspace.account, caps).map_err(|shed| refused(shed, &self.metrics))
    }

    /// Takes what the request is expected to use from the limits of its key and its workspace.
    fn reserve(&self, context: &mut RequestContext, caller: &Caller, amount: Amount) -> Result<()> {
        let when = When { ms: self.now().0, at: context.created_at };
        let subjects = caller.subjects();
        let taken = Reservation::take(&subjects, amount, when);
        context.standing = quota::standing(&subjects, when);
        let reservation = taken.inspect_err(|refusal| {
            self.metrics.access.rate_limited(refusal.limit, refusal.whose == subjects[1].what);
        })?;
        context.reservation = Some(reservation);
        Ok(())
    }

    /// The caller of a data-plane request.
    ///
    /// Errors: `InvalidApiKey` with one constant text, whatever was wrong.
    pub(super) fn authenticate(&self, client: &Client<'_>, snapshot: &Snapshot) -> Result<Caller> {
        if contradicts(client) {
            self.metrics.access.key_refused("malformed");
            let message = "Both 'Authorization' and 'x-api-key' hold a key; send 'Authorization: Bearer pk_…' alone.";
            return Err(Error::invalid("x-api-key", message));
        }
        let (key, now) = (bearer(client), Timestamp::now());
        let caller = key.and_then(|key| snapshot.directory.authenticate(key, now));
        caller.ok_or_else(|| {
            let why = key.map_or_else(|| unpresented(client), |key| snapshot.directory.refusal(key, now));
            self.metrics.access.key_refused(why);
            Error::new(ErrorKind::InvalidApiKey, BAD_KEY)
        })
    }
}

/// The one bearer token of a request; two credentials are none, and one in the URL spoils it: it is in somebody's log by now.
pub(super) fn bearer<'c>(client: &'c Client<'_>) -> Option<&'c str> {
    let headers = &client.head().headers;
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() || contradicts(client) || names_key(client) {
        return None;
    }
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether the request has a key in `x-api-key` beside `Authorization`: whose it is would depend on who reads it.
fn contradicts(client: &Client<'_>) -> bool {
    let headers = &client.head().headers;
    headers.contains_key(header::AUTHORIZATION) && headers.contains_key(API_KEY)
}

/// Whether the query holds a virtual key, or something that calls itself one.
fn names_key(client: &Client<'_>) -> bool {
    let query = client.head().uri.query().unwrap_or_default();
    query.split('&').any(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let called = ["key", "api_key", "api-key", "apikey", "access_token", "token", "authorization"];
        value.starts_with("pk_") || called.iter().any(|called| name.eq_ignore_ascii_case(called))
    })
}

/// The word for why a request has no one bearer token.
pub(super) fn unpresented(client: &Client<'_>) -> &'static str {
    let headers = &client.head().headers;
    let any = headers.contains_key(header::AUTHORIZATION) || headers.contains_key(API_KEY);
    if any { "malformed" } else { "missing" }
}

/// Where the bytes of a body are counted.
pub(super) struct Room<'a> {
    permit: &'a mut Permit,
    metrics: &'a Metrics,
}

impl Room<'_> {
    fn hold(&mut self, bytes: usize) -> Result<()> {
        self.permit.hold(bytes as u64).map_err(|shed| refused(shed, self.metrics))
    }
}

fn refused(shed: Shed, metrics: &Metrics) -> Error {
    metrics.access.shed(shed);
    shed.into()
}

/// Reads the whole body, within `limit` bytes and the time that the configuration gives it, as far as there is room.
pub(super) async fn read_body(
    client: &mut Client<'_>,
    snapshot: &Snapshot,
    limit: usize,
    mut room: Option<Room<'_>>,
) -> Result<Bytes> {
    let declared = client.header(&header::CONTENT_LENGTH).and_then(|text| text.parse::<usize>().ok());
    if declared.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    if let (Some(room), Some(length)) = (&mut room, declared) {
        room.hold(length)?;
    }
    let encoding = client.header(&header::CONTENT_ENCODING).unwrap_or("identity");
    if !encoding.eq_ignore_ascii_case("identity") {
        return Err(Error::new(ErrorKind::UnsupportedMediaType, "Compressed request bodies are not accepted."));
    }
    client.invite().await.map_err(|cause| gone(&cause))?;
    let body = collect(client, declared, limit, room, &Pace::begin(&snapshot.config)).await;
    if body.is_err() {
        // Where this body ends is unknown; Pingora calls a broken one done, and would read the rest as the next request.
        client.close();
    }
    body
}

async fn collect(
    client: &mut Client<'_>,
    declared: Option<usize>,
    limit: usize,
    mut room: Option<Room<'_>>,
    pace: &Pace,
) -> Result<Bytes> {
    let mut hold = |bytes| room.as_mut().map_or(Ok(()), |room| room.hold(bytes));
    let Some(first) = pace.in_time(0, client.read()).await? else {
        return Ok(Bytes::new());
    };
    if first.len() > limit {
        return Err(too_large(limit));
    }
    hold(first.len())?;
    if declared == Some(first.len()) {
        return Ok(first);
    }
    let mut all = BytesMut::with_capacity(declared.unwrap_or(2 * first.len()).min(limit));
    all.extend_from_slice(&first);
    loop {
        let goes_on = pace.in_time(all.len(), client.read_into(&mut all)).await?;
        if all.len() > limit {
            return Err(too_large(limit));
        }
        hold(all.len())?;
        if !goes_on {
            return Ok(all.freeze());
        }
    }
}

/// How long a body may take.
struct Pace {
    began: Instant,
    /// Until it must be whole.
    whole: Duration,
    /// From when on it must have come at `rate`.
    grace: Duration,
    /// Bytes per second.
    rate: u32,
}

impl Pace {
    fn begin(config: &Config) -> Self {
        let Timeouts { head, body, .. } = config.timeouts;
        Self { began: Instant::now(), whole: body, grace: head, rate: config.limits.min_body_rate }
    }

    /// How long after its beginning the next piece of a body may come, of which so many bytes came.
    fn allows(&self, came: usize) -> Duration {
        let earned = Duration::from_secs_f64(came as f64 / f64::from(self.rate.max(1)));
        self.whole.min(self.grace.saturating_add(earned))
    }

    /// What comes of reading on, behind so many bytes that came.
    async fn in_time<T>(&self, came: usize, read: impl Future<Output = Result<T, BError>>) -> Result<T> {
        match tokio::time::timeout_at((self.began + self.allows(came)).into(), read).await {
            Ok(read) => read.map_err(|cause| gone(&cause)),
            Err(_) => Err(Error::new(ErrorKind::RequestTimeout, "The request body did not arrive in time.")),
        }
    }
}

fn too_large(limit: usize) -> Error {
    Error::new(ErrorKind::PayloadTooLarge, format!("The request body is larger than {limit} bytes."))
}

/// A body that can't be read to its end: the client left, or does not speak HTTP.
fn gone(cause: &pingora::Error) -> Error {
    use pingora::ErrorType::{ConnectionClosed, ReadError, WriteError};
    match cause.etype {
        ConnectionClosed | ReadError | WriteError => {
            Error::new(ErrorKind::ClientGone, "The client closed the connection.").with_cause(cause)
        }
        _ => Error::new(ErrorKind::InvalidRequest, "The request body could not be read.").with_cause(cause),
    }
}

fn read_head(body: &Body, kind: Kind) -> Result<ChatHead> {
    match kind {
        Kind::Chat => ChatHead::read(body),
        Kind::Embeddings => {
            embeddings::check(body)?;
            let timeout = body.get::<f64>("timeout")?.and_then(seconds_to_duration);
            Ok(ChatHead {
                model: read_model(body)?,
                stream: false,
                include_usage: false,
                timeout,
                max_output: Some(0),
                json_object: false,
            })
        }
    }
}

/// The strategy: the header's, the key's, the workspace's, the configuration's.
fn strategy(client: &Client<'_>, caller: &Caller, snapshot: &Snapshot) -> Result<StrategyName> {
    if let Some(text) = client.head().headers.get(ROUTE) {
        let text = text.to_str().unwrap_or_default().trim().to_ascii_lowercase();
        return text.parse().map_err(|error: Error| error.with_param("X-Perpetuo-Route"));
    }
    let own = caller.key.strategy.or(caller.workspace.strategy);
    Ok(own.unwrap_or(snapshot.config.routing.strategy))
}

/// The time for the whole request: the client's, capped by the configuration's.
fn timeout(client: &Client<'_>, head: &ChatHead, snapshot: &Snapshot) -> Result<Duration> {
    let cap = snapshot.config.timeouts.total;
    let asked = match (head.timeout, client.header(&TIMEOUT)) {
        (Some(timeout), _) => Some(timeout),
        (None, Some(text)) => Some(text.parse().ok().and_then(seconds_to_duration).ok_or_else(|| {
            Error::invalid(
                "X-Perpetuo-Timeout",
                "Invalid 'X-Perpetuo-Timeout': expected a number of seconds above zero.",
            )
        })?),
        (None, None) => None,
    };
    Ok(asked.map_or(cap, |asked| asked.min(cap)))
}

fn unpriced(model: &str) -> Error {
    let message = format!(
        "No price is known of the model '{model}' at any provider of this workspace, which refuses such models; it was not sent."
    );
    Error::new(ErrorKind::ModelUnpriced, message).with_param("model")
}

/// The request as rankings see it, from a virtual key by its [`hash`]; the moment, the seed and what was tried are each attempt's own.
pub(super) fn request(body: &Body, head: &ChatHead, strategy: StrategyName, key: u64) -> Request {
    Request {
        strategy,
        prompt_tokens: estimate_tokens(body.bytes().len() as u64),
        max_output: head.max_output,
        key,
        stream: head.stream,
        date: Timestamp::now(),
        prefix: prefix(body.bytes()),
        ..Request::default()
    }
}

/// What a request may use at the dearest of its candidates, as any of them may come to serve it: all the client allows, or what
/// is usual.
fn dearest(group: &Group, request: &Request) -> Amount {
    group.candidates().iter().fold(Amount::default(), |most, candidate| {
        let prompt = candidate.tokens.prompt(request.prompt_tokens) as u64;
        let usual = || candidate.outputs.output(request.key, None) as u64;
        let output = request.max_output.unwrap_or_else(usual);
        let cost =
            candidate.prices.as_ref().map_or(Money::ZERO, |prices| prices.at(request.date).expected(prompt, output));
        Amount { tokens: most.tokens.max(prompt.saturating_add(output)), cost: most.cost.max(cost) }
    })
}
