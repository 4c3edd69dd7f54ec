//! One exchange from its head to its body: the HTTP side of a simulated provider.
//!
//! Not here: what an answer says (`perform`) and how it is paced (`play`).
//! Invariant: whatever happens to the handler or the body, the exchange ends as finished or cancelled.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use serde_json::Value;

use super::behaviour::{Behaviour, Script, Step};
use super::line::Link;
use super::perform::{Answer, perform};
use super::play::Play;
use super::request::{Ask, Endpoint};
use super::seen::{Board, Exchange, Wire};

/// The largest body that is read.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// What all exchanges of one simulator share.
pub(super) struct Shop {
    behaviour: Behaviour,
    pub(super) script: Script,
    pub(super) board: Arc<Board>,
}

impl Shop {
    pub(super) fn new(behaviour: Behaviour) -> Self {
        Self { script: Script::new(&behaviour), board: Arc::new(Board::new(behaviour.remember)), behaviour }
    }
}

/// Every path and method leads here; what is unknown is answered as the API does it, and seen.
pub(super) fn router(shop: Arc<Shop>) -> Router {
    Router::new().fallback(handle).with_state(shop)
}

async fn handle(State(shop): State<Arc<Shop>>, ConnectInfo(link): ConnectInfo<Link>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let wire = Wire::of(&head);
    let exchange = shop.board.open(&head, wire, link.number);
    let scripted = if head.method == Method::POST { shop.script.next() } else { None };
    if let Some(Step::EarlyStatus { status }) = scripted {
        return refuse(exchange, wire, status);
    }
    let body = match to_bytes(body, MAX_BODY).await {
        Ok(body) => body,
        Err(cause) if is_too_long(&cause) => return refuse(exchange, wire, 413),
        // The peer left while sending: dropping the exchange says so, and nobody reads this answer.
        Err(_) => return Response::new(Body::empty()),
    };
    let json: Option<Value> = serde_json::from_slice(&body).ok().filter(Value::is_object);
    let unreadable = json.is_none() && head.method == Method::POST;
    let ask = read(&head, wire, json.unwrap_or_default());
    exchange.received(&body, &ask.model, ask.stream);
    let step = match scripted {
        Some(step) => step,
        None if unreadable => Step::status(400),
        None if head.method == Method::POST => shop.script.next_for(&ask.model),
        None => Step::Ok,
    };
    act(&shop.behaviour, exchange, &link, &ask, &step).await
}

fn read(head: &Parts, wire: Wire, body: Value) -> Ask {
    Ask::read(wire, Endpoint::of(wire, &head.method, head.uri.path()), body)
}

/// Plays the step.
async fn act(behaviour: &Behaviour, mut exchange: Exchange, link: &Link, ask: &Ask, step: &Step) -> Response {
    match step {
        // Only the peer ends this, and with it the exchange.
        Step::Hang => std::future::pending().await,
        Step::Reset => {
            exchange.finish();
            link.cut();
            // Cutting makes the write of this head fail.
            Response::new(Body::empty())
        }
        Step::EarlyStatus { status } => refuse(exchange, ask.wire, *status),
        Step::Slow { latency, .. } => answer(behaviour, exchange, ask, step, *latency).await,
        _ => answer(behaviour, exchange, ask, step, behaviour.latency).await,
    }
}

async fn answer(behaviour: &Behaviour, exchange: Exchange, ask: &Ask, step: &Step, wait: Duration) -> Response {
    let answer = perform(step, behaviour, ask, exchange.number());
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    exchange.bill_prompt(answer.usage);
    respond(exchange, answer, ask.wire)
}

/// An error without having read the body; the connection can't be used again.
fn refuse(exchange: Exchange, wire: Wire, status: u16) -> Response {
    let mut answer = Answer::error(wire, status);
    answer.headers.push(("connection".to_owned(), "close".to_owned()));
    respond(exchange, answer, wire)
}

fn respond(exchange: Exchange, answer: Answer, wire: Wire) -> Response {
    let request_id = format!("req_sim{:08}", exchange.number());
    let play = Play::new(exchange, answer.chunks, answer.ending);
    let mut response = Response::new(Body::from_stream(play));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let id_name = if wire == Wire::Anthropic { "request-id" } else { "x-request-id" };
    let mut headers = answer.headers;
    headers.push((header::CONTENT_TYPE.to_string(), answer.content_type));
    headers.push((id_name.to_owned(), request_id));
    headers.extend(answer.length.map(|length| (header::CONTENT_LENGTH.to_string(), length.to_string())));
    for (name, value) in headers {
        // A scripted header that HTTP can't carry is left out.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

fn is_too_long(cause: &axum::Error) -> bool {
    let source = std::error::Error::source(cause);
    source.is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}
