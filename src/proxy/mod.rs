//! The only code that knows connections and Pingora.
//!
//! [`Gateway`] is everything that requests share. A request comes by `clients`, off its connection (`direct`) or by Pingora and
//! [`Listener`], one listener's `ProxyHttp`; what comes after sees a `client`. It walks `routes` → `admit` → `serve` (the loop) →
//! `race` → `attempt` → `upstream` → `exchange`, and back through `commit`, `stream` and `respond`; `context` gathers what it came to,
//! and `Gateway::finish` books it, once, whatever happened.
//!
//! Invariants: one snapshot of the configuration serves a request from its beginning to its end; an error is answered in
//! one place, `Gateway::fail`; nothing of a client's head but its trace context reaches a provider.

mod admit;
mod attempt;
mod builder;
mod client;
mod clients;
mod collector;
mod commit;
mod connections;
mod context;
mod direct;
mod door;
mod exchange;
mod figures;
mod framing;
mod grants;
mod life;
mod line;
mod listeners;
mod operations;
mod pool;
mod race;
mod respond;
mod routes;
mod serve;
mod server;
mod socket;
mod stream;
mod strikes;
mod takeover;
mod tell;
mod upstream;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use axum::body::HttpBody;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use jiff::Timestamp;
use pingora::prelude::HttpPeer;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tower::ServiceExt;
use uuid::Uuid;

use crate::api::models::{Model, ModelList};
use crate::balance::Moment;
use crate::balance::plan::Planner;
use crate::catalog::Kind;
use crate::config::{Config, WhenFull};
use crate::directory::Directory;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::Metrics;
use crate::quota::Amount;
use attempt::Attempts;
use builder::Lasting;
pub use builder::{jwt_secret, store_dir, vault};
use client::Client;
pub use context::RequestContext;
use life::{Counted, Life, Phase, What};
pub use listeners::Listeners;
pub use routes::{Planes, Route};
use serve::Serving;
pub use server::{Signals, serve};
pub use takeover::{Start, Takeover};

/// Largest body of an admin request.
const MAX_ADMIN_BODY: usize = 1024 * 1024;

/// The gateway: everything that requests share.
pub struct Gateway {
    snapshot: ArcSwap<Snapshot>,
    lasting: Lasting,
    metrics: Arc<Metrics>,
    registry: prometheus::Registry,
    started: Instant,
    /// Where the process stands between start and end.
    life: Arc<Life>,
    /// Turns true when running requests must end, too.
    halt: watch::Sender<bool>,
    /// The runtime that serves the data plane, once it has served anything.
    watched: OnceLock<Handle>,
    /// Held while figures are drawn anew and read.
    reading: Mutex<()>,
}

/// What a reload replaces, all at once.
struct Snapshot {
    config: Arc<Config>,
    directory: Arc<Directory>,
    planner: Arc<Planner>,
    attempts: Arc<Attempts>,
    admin: axum::Router,
}

impl Gateway {
    /// Serves one request of a Pingora session, whatever it is for, and books it: the whole gateway in one call, for another
    /// program's `request_filter`. Returns whether the client's connection can be used again.
    pub async fn handle(&self, session: &mut Session, planes: Planes) -> bool {
        self.handle_in(&mut Client::Pingora(session), &mut RequestContext::begin(), planes).await
    }

    async fn handle_in(&self, client: &mut Client<'_>, context: &mut RequestContext, planes: Planes) -> bool {
        let reusable = match self.serve(client, context, planes).await {
            Ok(()) => true,
            Err(error) => self.fail(client, context, error).await,
        };
        self.conclude(client, context).await;
        reusable
    }

    /// The context of a request whose head is in, which keeps the process from ending.
    fn begin(&self) -> RequestContext {
        RequestContext { under_way: Some(self.life.count(What::Requests)), ..RequestContext::begin() }
    }

    /// Serves one request up to its answer. An `Err` is still to be answered.
    async fn serve(&self, client: &mut Client<'_>, context: &mut RequestContext, planes: Planes) -> Result<()> {
        context.request_id = request_id(client);
        let snapshot = self.snapshot.load_full();
        context.catalog = Some(Arc::clone(snapshot.planner.catalog()));
        context.trace = tell::trace(&client.head().headers, &snapshot.config);
        self.metrics.access.arrived(client.arrival());
        let keepalive = (!self.life.is_leaving()).then_some(snapshot.config.server.max_keepalive);
        // A client that reads nothing must not hold an answer, and the provider behind it, for ever.
        client.begin(keepalive, snapshot.config.timeouts.total);
        framing::check(client, &snapshot.config.limits).inspect_err(|_| client.close())?;
        let planes = Planes { console: planes.console && snapshot.config.admin.console, ..planes };
        let (route, method) = Route::find(client.head().uri.path(), planes)?;
        let route = context.route.insert(route).clone();
        if let Some(allowed) = method.filter(|allowed| *allowed != client.head().method) {
            let message = format!("This URL takes {allowed} requests only.");
            context.allow = Some(allowed);
            return Err(Error::new(ErrorKind::MethodNotAllowed, message));
        }
        match route {
            Route::Chat => self.language_model(client, context, Kind::Chat, &snapshot).await,
            Route::Embeddings => self.language_model(client, context, Kind::Embeddings, &snapshot).await,
            Route::Models => self.models(client, context, &snapshot).await,
            Route::Model(id) => self.model(client, context, &snapshot, &id).await,
            Route::Health => health(client, context).await,
            Route::Ready => self.ready(client, context).await,
            Route::Metrics => self.render_metrics(client, context).await,
            Route::Admin => self.admin(client, context, &snapshot).await,
        }
    }

    async fn language_model(
        &self,
        client: &mut Client<'_>,
        context: &mut RequestContext,
        kind: Kind,
        snapshot: &Snapshot,
    ) -> Result<()> {
        context.operation = Some(kind.into());
        if snapshot.config.meter.when_full == WhenFull::Refuse && self.lasting.meter.is_full() {
            self.metrics.access.shed_by_ledger();
            return Err(Error::new(ErrorKind::Overloaded, "The ledger can't keep up; try again."));
        }
        context.in_flight = Some(self.metrics.requests.in_flight());
        self.watched.get_or_init(Handle::current);
        let admitted = self.admit(client, context, kind, snapshot).await?;
        context.live = context.entry().and_then(|entry| self.lasting.live.enter(entry));
        Serving { gateway: self, snapshot, admitted: &admitted, client, context }.run().await
    }

    async fn models(&self, client: &mut Client<'_>, context: &mut RequestContext, snapshot: &Snapshot) -> Result<()> {
        let caller = self.authenticate(client, snapshot)?;
        let data = snapshot.planner.models(&caller.workspace).into_iter().map(model).collect();
        json(client, context, 200, &ModelList { object: "list", data }).await
    }

    async fn model(
        &self,
        client: &mut Client<'_>,
        context: &mut RequestContext,
        snapshot: &Snapshot,
        id: &str,
    ) -> Result<()> {
        let caller = self.authenticate(client, snapshot)?;
        match snapshot.planner.model(&caller.workspace, id) {
            Some(found) => json(client, context, 200, &model(found)).await,
            None => Err(Error::new(ErrorKind::ModelNotFound, format!("The model '{id}' does not exist here."))
                .with_param("model")),
        }
    }

    /// Ready means that new requests should come here: started, not about to end, and the store can be read and written.
    async fn ready(&self, client: &mut Client<'_>, context: &mut RequestContext) -> Result<()> {
        let (status, word, reason) = match self.life.phase() {
            Phase::Starting => (503, "starting", Some("The gateway does not serve yet.")),
            Phase::Draining => (503, "draining", Some("The gateway is shutting down; it serves what still comes.")),
            _ if !self.lasting.store.healthy() => {
                (503, "store unavailable", Some("The store can't be read or written; the log says why."))
            }
            _ => (200, "ok", None),
        };
        let mut answer = serde_json::json!({ "status": word });
        if let (Some(reason), Some(fields)) = (reason, answer.as_object_mut()) {
            fields.insert("reason".to_owned(), reason.into());
        }
        json(client, context, status, &answer).await
    }

    async fn render_metrics(&self, client: &mut Client<'_>, context: &mut RequestContext) -> Result<()> {
        let text = self.figures()?;
        respond::own(client, context, 200, "text/plain; version=0.0.4; charset=utf-8", text).await
    }

    async fn admin(&self, client: &mut Client<'_>, context: &mut RequestContext, snapshot: &Snapshot) -> Result<()> {
        let answer = ask_admin(client, snapshot).await?;
        figures::admin_answered(client, answer.status(), &self.metrics);
        if answer.status() == StatusCode::UNAUTHORIZED {
            self.slow_down(client).await;
        }
        admin_answer(client, context, answer).await
    }

    /// Answers an error. Returns whether the client's connection can be used again.
    async fn fail(&self, client: &mut Client<'_>, context: &mut RequestContext, error: Error) -> bool {
        context.client_gone |= error.kind() == ErrorKind::ClientGone;
        if error.kind() == ErrorKind::Internal {
            tracing::error!(request_id = %context.request_id, cause = error.cause(), "request failed");
        }
        if error.kind() == ErrorKind::InvalidApiKey {
            self.slow_down(client).await;
        }
        let reusable = respond::error(client, context, &error).await;
        context.error = Some(error);
        reusable
    }

    /// Makes a refused credential wait for its answer, where its address or its like was refused too often.
    async fn slow_down(&self, client: &Client<'_>) {
        let address = client.address();
        let wait = self.lasting.strikes.refused(address, admit::bearer(client), self.now().0);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Books a request: the one place where the ledger learns of it. A success is booked before its last byte goes out, so
    /// that a client that has its answer finds it in the bill; everything else when the request is over. Where the configuration
    /// wants it, the last byte waits until the booking is on disk.
    async fn finish(&self, context: &mut RequestContext) {
        if std::mem::replace(&mut context.booked, true) {
            return;
        }
        if context.operation.is_some() {
            self.metrics.requests.overhead.observe(context.overhead().as_secs_f64());
        }
        let Some(booking) = context.booking() else { return self.count_refused(context) };
        context.record = self.lasting.telemetry.listens().then(|| booking.clone());
        if let Some(reservation) = context.reservation.take() {
            reservation.settle(Amount { tokens: booking.tokens(), cost: booking.cost() });
        }
        self.lasting.meter.book_and_wait(booking).await;
        // Who looks finds it among those under way or in the log.
        context.live = None;
    }

    /// Counts a request to a model that got not far enough for a booking.
    fn count_refused(&self, context: &RequestContext) {
        if context.operation.is_some() {
            let status = if context.client_gone { 499 } else { context.status };
            self.metrics.refused(context.workspace(), status, context.error.as_ref().map(Error::kind));
        }
    }

    /// Now, for counters.
    fn now(&self) -> Moment {
        self.moment(Instant::now())
    }

    /// Then, for counters.
    fn moment(&self, then: Instant) -> Moment {
        Moment::at(then, self.started)
    }
}

/// One listener: which planes of the gateway it serves.
pub struct Listener {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// What is served here.
    pub planes: Planes,
}

#[async_trait]
impl ProxyHttp for Listener {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        door::head_is_in();
        self.gateway.begin()
    }

    async fn request_filter(&self, session: &mut Session, context: &mut RequestContext) -> pingora::Result<bool> {
        let _admin = self.admin_turn(session).await;
        if self.gateway.life.successor(self.planes).is_some() {
            session.set_keepalive(None);
            context.passed_on = true;
            return Ok(false);
        }
        match self.gateway.serve(&mut Client::Pingora(session), context, self.planes).await {
            Ok(()) => Ok(true),
            Err(error) => {
                let status = pingora::ErrorType::HTTPStatus(error.status());
                context.error = Some(error);
                Err(pingora::Error::explain(status, "answered by fail_to_proxy"))
            }
        }
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut RequestContext) -> pingora::Result<Box<HttpPeer>> {
        // Every route is answered in `request_filter`, but for what another process answers now.
        match self.gateway.life.successor(self.planes) {
            Some(address) => Ok(Box::new(HttpPeer::new(address, false, String::new()))),
            None => Err(pingora::Error::explain(pingora::ErrorType::HTTPStatus(404), "no route")),
        }
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        cause: &pingora::Error,
        context: &mut RequestContext,
    ) -> FailToProxy {
        let passed_on = self.gateway.life.successor(self.planes).is_some();
        let error = context.error.take().unwrap_or_else(|| match passed_on {
            true => shutting_down().with_cause(cause),
            false => Error::internal(cause),
        });
        let error_code = error.status();
        let can_reuse_downstream = self.gateway.fail(&mut Client::Pingora(session), context, error).await;
        FailToProxy { error_code, can_reuse_downstream }
    }

    fn suppress_error_log(&self, _: &Session, _: &RequestContext, _: &pingora::Error) -> bool {
        // The error was answered and booked with its own words; Pingora's line would repeat it without them.
        true
    }

    async fn logging(&self, session: &mut Session, _: Option<&pingora::Error>, context: &mut RequestContext) {
        self.gateway.conclude(&Client::Pingora(session), context).await;
    }
}

impl Listener {
    /// Waits, with a request of the admin API, until it is known which process has the store, and counts it as under way.
    async fn admin_turn(&self, session: &Session) -> Option<Counted> {
        if !matches!(Route::find(session.req_header().uri.path(), self.planes), Ok((Route::Admin, _))) {
            return None;
        }
        loop {
            // Counted first: whoever takes the store away looks at the count after it has said so.
            let counted = self.gateway.life.count(What::Admin);
            if self.gateway.life.phase() != Phase::Parting {
                return Some(counted);
            }
            drop(counted);
            self.gateway.life.decided().await;
        }
    }
}

fn shutting_down() -> Error {
    Error::new(ErrorKind::Overloaded, "This gateway is shutting down; try again.")
}

async fn health(client: &mut Client<'_>, context: &mut RequestContext) -> Result<()> {
    let timestamp = Timestamp::now().to_string();
    json(client, context, 200, &serde_json::json!({ "status": "ok", "timestamp": timestamp })).await
}

/// Hands an admin request to the admin router.
async fn ask_admin(client: &mut Client<'_>, snapshot: &Snapshot) -> Result<Response<axum::body::Body>> {
    let body = admit::read_body(client, snapshot, MAX_ADMIN_BODY, None).await?;
    let head = client.head();
    let mut request = Request::builder().method(head.method.clone()).uri(head.uri.clone());
    if let Some(headers) = request.headers_mut() {
        *headers = head.headers.clone();
    }
    let request = request.body(axum::body::Body::from(body)).map_err(Error::internal)?;
    snapshot.admin.clone().oneshot(request).await.map_err(Error::internal)
}

/// Hands its answer back.
async fn admin_answer(
    client: &mut Client<'_>,
    context: &mut RequestContext,
    answer: Response<axum::body::Body>,
) -> Result<()> {
    let (mut head, body) = answer.into_parts();
    context.status = head.status.as_u16();
    head.headers.remove(header::CONTENT_LENGTH);
    let request_id = HeaderValue::from_str(&context.request_id).map_err(Error::internal)?;
    head.headers.insert(respond::REQUEST_ID, request_id);
    if body.size_hint().exact().is_none() {
        return admin_stream(client, head, body).await;
    }
    let body = body.collect().await.map_err(Error::internal)?.to_bytes();
    respond::whole(client, head, body).await
}

/// Hands an answer back piece by piece. One that breaks off ends without its last chunk, so that it never looks complete.
async fn admin_stream(client: &mut Client<'_>, head: respond::Head, mut body: axum::body::Body) -> Result<()> {
    let mut head = Some(head);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|cause| {
            client.close();
            Error::new(ErrorKind::ClientGone, "The answer broke off.").with_cause(cause)
        })?;
        if let Ok(bytes) = frame.into_data() {
            respond::piece(client, head.take(), bytes, false).await?;
        }
    }
    respond::piece(client, head, bytes::Bytes::new(), true).await
}

async fn json(
    client: &mut Client<'_>,
    context: &mut RequestContext,
    status: u16,
    value: &impl serde::Serialize,
) -> Result<()> {
    let body = serde_json::to_vec(value).map_err(Error::internal)?;
    respond::own(client, context, status, "application/json", body).await
}

fn model((id, owned_by): (String, String)) -> Model {
    // The catalogue does not know when a model appeared; a constant keeps the list stable.
    Model { id, object: "model", created: 0, owned_by }
}

/// The client's `x-request-id` if it is short and plain, else a new one.
fn request_id(client: &Client<'_>) -> String {
    let given = client.header(&respond::REQUEST_ID);
    let sane = |text: &&str| (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    match given.filter(sane) {
        Some(given) => given.to_owned(),
        None => format!("req_{}", new_uuid().simple()),
    }
}

/// A UUID of version 7, which sorts by time. Its random part comes from the thread's own generator: the system's would be asked
/// for each request.
fn new_uuid() -> Uuid {
    let milliseconds = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(milliseconds, &rand::random()).into_uuid()
}
