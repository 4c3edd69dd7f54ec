//! What a simulated provider saw: every request, how it ended, and what the provider would bill for it.
//!
//! Not here: how answers are made. Invariants: requests are in order of arrival with consecutive numbers; a credential is kept
//! only as its SHA-256; an [`Exchange`] that is dropped before it was finished counts as cancelled by the peer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Version, header};
use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::usage::Usage;

/// Headers that carry a credential.
const CREDENTIALS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];

/// The API a request was made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// OpenAI's, under `/v1`.
    OpenAi,
    /// Groq's: OpenAI's under `/openai/v1`, with its own additions.
    Groq,
    /// Anthropic's.
    Anthropic,
}

impl Wire {
    /// The path decides; where both have the same one, as for `/v1/models`, Anthropic's headers do.
    pub(super) fn of(head: &Parts) -> Self {
        let path = head.uri.path();
        let anthropic = head.headers.contains_key("anthropic-version") || head.headers.contains_key("x-api-key");
        if path.starts_with("/openai/") {
            Self::Groq
        } else if matches!(path, "/v1/chat/completions" | "/v1/embeddings") {
            Self::OpenAi
        } else if anthropic || path.starts_with("/v1/messages") {
            Self::Anthropic
        } else {
            Self::OpenAi
        }
    }
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The request is still arriving or its answer is still being given.
    Pending,
    /// The simulator did all that its script wanted, faults of its own included.
    Finished,
    /// The peer went away before that.
    Cancelled,
}

/// One request and what became of it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Counts from 0.
    pub number: u64,
    /// The API.
    pub wire: Wire,
    /// The method.
    pub method: Method,
    /// Path and query as received.
    pub path: String,
    /// As received, but a credential is replaced by `sha256:` and its digest.
    pub headers: HeaderMap,
    /// The whole body; empty while it is arriving.
    pub body: Bytes,
    /// Whether the body arrived as a whole.
    pub body_complete: bool,
    /// The body's `model`.
    pub model: Option<String>,
    /// Whether the body asked for a stream.
    pub stream: bool,
    /// HTTP/1.1 or HTTP/2.
    pub http_version: Version,
    /// Which connection it came by; counts from 1.
    pub connection: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// What this provider would bill: the prompt once an answer starts, then every token given out.
    pub billed: Usage,
}

impl Seen {
    fn open(number: u64, head: &Parts, wire: Wire, connection: u64) -> Self {
        Self {
            number,
            wire,
            method: head.method.clone(),
            path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            headers: without_credentials(&head.headers),
            body: Bytes::new(),
            body_complete: false,
            model: None,
            stream: false,
            http_version: head.version,
            connection,
            outcome: Outcome::Pending,
            billed: Usage::default(),
        }
    }

    /// Whether this key came where the API wants it: `Authorization: Bearer` at OpenAI's, `x-api-key` at Anthropic's.
    pub fn authorization_matches(&self, key: &str) -> bool {
        let (name, expected) = match self.wire {
            Wire::OpenAi | Wire::Groq => (header::AUTHORIZATION.as_str(), format!("Bearer {key}")),
            Wire::Anthropic => ("x-api-key", key.to_owned()),
        };
        self.headers.get(name).is_some_and(|value| value.as_bytes() == digest(expected.as_bytes()).as_bytes())
    }

    /// The body's length in bytes.
    pub fn body_len(&self) -> usize {
        self.body.len()
    }

    /// The body's SHA-256 in lower-case hex.
    pub fn body_sha256(&self) -> String {
        hex(&Sha256::digest(&self.body))
    }

    /// The body as JSON; `null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// A header's text; `None` when it is absent or not ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

fn without_credentials(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in CREDENTIALS {
        if let Some(value) = headers.get_mut(name)
            && let Ok(hashed) = HeaderValue::from_str(&digest(value.as_bytes()))
        {
            *value = hashed;
        }
    }
    headers
}

fn digest(secret: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(secret)))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Everything seen, and who waits for changes of it.
pub(super) struct Board {
    seen: watch::Sender<Vec<Seen>>,
    next: AtomicU64,
    remember: usize,
}

impl Board {
    pub(super) fn new(remember: usize) -> Self {
        Self { seen: watch::Sender::new(Vec::new()), next: AtomicU64::new(0), remember }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Vec<Seen>> {
        self.seen.subscribe()
    }

    /// Notes a request whose head has arrived.
    pub(super) fn open(self: &Arc<Self>, head: &Parts, wire: Wire, connection: u64) -> Exchange {
        let mut number = 0;
        if self.remember == 0 {
            number = self.next.fetch_add(1, Ordering::Relaxed);
        } else {
            // The number is taken under the list's lock, so that the order is the order of the numbers.
            self.seen.send_modify(|seen| {
                number = self.next.fetch_add(1, Ordering::Relaxed);
                seen.push(Seen::open(number, head, wire, connection));
                if seen.len() > self.remember {
                    seen.remove(0);
                }
            });
        }
        Exchange { board: Arc::clone(self), number, over: false }
    }

    fn change(&self, number: u64, change: impl FnOnce(&mut Seen)) {
        if self.remember == 0 {
            return;
        }
        self.seen.send_modify(|seen| {
            // Numbers are consecutive, so a request stands at its distance from the first one kept.
            let first = seen.first().map_or(0, |seen| seen.number);
            let place = number.checked_sub(first).and_then(|place| usize::try_from(place).ok());
            if let Some(seen) = place.and_then(|place| seen.get_mut(place)) {
                change(seen);
            }
        });
    }
}

/// One exchange in progress: dropped before [`Exchange::finish`], it was cancelled by the peer.
pub(super) struct Exchange {
    board: Arc<Board>,
    number: u64,
    over: bool,
}

impl Exchange {
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// The body has arrived.
    pub(super) fn received(&self, body: &Bytes, model: &str, stream: bool) {
        self.board.change(self.number, |seen| {
            seen.body = body.clone();
            seen.body_complete = true;
            seen.model = (!model.is_empty()).then(|| model.to_owned());
            seen.stream = stream;
        });
    }

    /// The prompt is billed: an answer starts.
    pub(super) fn bill_prompt(&self, usage: Usage) {
        self.board.change(self.number, |seen| seen.billed = Usage { output: 0, ..usage });
    }

    /// So many more tokens were given out.
    pub(super) fn bill_output(&self, tokens: u64) {
        if tokens > 0 {
            self.board.change(self.number, |seen| seen.billed.output += tokens);
        }
    }

    /// The simulator has done all it wanted.
    pub(super) fn finish(&mut self) {
        self.close(Outcome::Finished);
    }

    fn close(&mut self, outcome: Outcome) {
        if !self.over {
            self.over = true;
            self.board.change(self.number, |seen| seen.outcome = outcome);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.close(Outcome::Cancelled);
    }
}
