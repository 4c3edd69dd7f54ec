//! A step and a request become an answer: status, headers, pieces, ending. Pure: no clock, no network.
//!
//! Not here: [`Step::Hang`], [`Step::Reset`] and [`Step::EarlyStatus`], which are about the connection (`exchange`).
//! Invariant: a cut answer holds no frame that belongs after the content it still has, so it never looks complete.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::behaviour::{Behaviour, Step, Truncation};
use super::play::{Chunk, Ending, FLUSH};
use super::reply::compose;
use super::request::{Ask, Endpoint};
use super::seen::Wire;
use super::{anthropic, openai};
use crate::usage::Usage;

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream; charset=utf-8";

/// Everything that is sent, and what it bills before its first token.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) chunks: Vec<Chunk>,
    pub(super) ending: Ending,
    /// The `Content-Length` to announce, whether or not the pieces keep it.
    pub(super) length: Option<usize>,
    pub(super) usage: Usage,
}

impl Answer {
    fn text(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self {
            status,
            content_type: content_type.to_owned(),
            headers: Vec::new(),
            length: Some(body.len()),
            chunks: vec![Chunk::frame(body)],
            ending: Ending::Clean,
            usage: Usage::default(),
        }
    }

    fn json(body: &Value, usage: Usage) -> Self {
        let mut answer = Self::text(200, JSON, body.to_string());
        answer.usage = usage;
        for chunk in &mut answer.chunks {
            chunk.content = true;
            chunk.tokens = usage.output;
        }
        answer
    }

    fn events(chunks: Vec<Chunk>, usage: Usage) -> Self {
        Self { chunks, length: None, usage, ..Self::text(200, EVENTS, Bytes::new()) }
    }

    /// The error that the API writes for a status.
    pub(super) fn error(wire: Wire, status: u16) -> Self {
        let body = match wire {
            Wire::OpenAi | Wire::Groq => openai::error(status),
            Wire::Anthropic => anthropic::error(status),
        };
        Self::text(status, JSON, body.to_string())
    }

    /// Nothing of the body, for ever.
    fn silent(mut self) -> Self {
        self.chunks.clear();
        self.ending = Ending::Stall;
        self
    }

    /// Only so many content events; of an answer that is no stream, half of its bytes.
    fn cut(mut self, events: usize, ending: Ending) -> Self {
        self.ending = ending;
        if self.length.is_none() {
            self.chunks = first_events(self.chunks, events);
            return self;
        }
        for chunk in &mut self.chunks {
            chunk.bytes.truncate(chunk.bytes.len() / 2);
        }
        if ending == Ending::Clean {
            self.length = Some(self.chunks.iter().map(|chunk| chunk.bytes.len()).sum());
        }
        self
    }
}

/// The frames before the content, so many content events, and the frames between them.
fn first_events(mut chunks: Vec<Chunk>, events: usize) -> Vec<Chunk> {
    let contents = chunks.iter().enumerate().filter(|(_, chunk)| chunk.content).map(|(place, _)| place);
    let end = match events.checked_sub(1) {
        None => contents.take(1).next(),
        Some(skipped) => {
            let places: Vec<usize> = contents.collect();
            places.get(skipped).or(places.last()).map(|place| place + 1)
        }
    };
    chunks.truncate(end.unwrap_or_default());
    chunks
}

/// The answer to one request.
pub(super) fn perform(step: &Step, behaviour: &Behaviour, ask: &Ask, number: u64) -> Answer {
    let healthy = || healthy(behaviour, ask, number, behaviour.token_delay);
    match step {
        Step::Ok | Step::Hang | Step::Reset | Step::EarlyStatus { .. } => healthy(),
        Step::Slow { token_delay, .. } => self::healthy(behaviour, ask, number, *token_delay),
        Step::Status { status, headers, body } => {
            let mut answer = match body {
                Some(body) => Answer::text(*status, JSON, body.clone()),
                None => Answer::error(ask.wire, *status),
            };
            answer.headers.clone_from(headers);
            answer
        }
        Step::HangAfterHead => healthy().silent(),
        Step::TruncateAfter { events, how: Truncation::Clean } => healthy().cut(*events, Ending::Clean),
        Step::TruncateAfter { events, how: Truncation::Abort } => healthy().cut(*events, Ending::Abort),
        Step::Stall { after_events } => healthy().cut(*after_events, Ending::Stall),
        Step::ErrorEventFirst | Step::ErrorEventAfter { .. } if !ask.stream => Answer::error(ask.wire, 500),
        Step::ErrorEventFirst => Answer { chunks: vec![error_event(ask.wire)], ..healthy() },
        Step::ErrorEventAfter { events } => {
            let mut answer = healthy().cut(*events, Ending::Clean);
            answer.chunks.push(error_event(ask.wire));
            answer
        }
        Step::Raw { status, content_type, chunks } => raw(*status, content_type, chunks),
        Step::HtmlOk => Answer::text(200, "text/html", "<!doctype html><title>Welcome</title><p>Please log in."),
        Step::BadJson if ask.stream => Answer::text(200, EVENTS, "data: {\"choices\": [{\n\n"),
        Step::BadJson => Answer::text(200, JSON, "{\"choices\": [{"),
    }
}

fn error_event(wire: Wire) -> Chunk {
    Chunk::frame(match wire {
        Wire::OpenAi | Wire::Groq => openai::error_event(wire),
        Wire::Anthropic => anthropic::error_event(),
    })
}

fn raw(status: u16, content_type: &str, pieces: &[(Duration, Bytes)]) -> Answer {
    let mut chunks = Vec::with_capacity(pieces.len());
    for (after, bytes) in pieces {
        // Without a pause in between, two pieces could share a write.
        let after = if chunks.is_empty() { *after } else { (*after).max(FLUSH) };
        chunks.push(Chunk { after, ..Chunk::frame(bytes.clone()) });
    }
    Answer { chunks, length: None, ..Answer::text(status, content_type, Bytes::new()) }
}

fn healthy(behaviour: &Behaviour, ask: &Ask, number: u64, delay: Duration) -> Answer {
    let anthropic = ask.wire == Wire::Anthropic;
    match ask.endpoint {
        Endpoint::Unknown => Answer::error(ask.wire, 404),
        Endpoint::Models if anthropic => Answer::json(&anthropic::models(&behaviour.models), Usage::default()),
        Endpoint::Models => Answer::json(&openai::models(&behaviour.models), Usage::default()),
        Endpoint::Embeddings => {
            let (body, usage) = openai::embeddings(ask);
            Answer::json(&body, usage)
        }
        Endpoint::Chat => {
            let reply = compose(behaviour, ask);
            match (anthropic, ask.stream) {
                (true, true) => Answer::events(anthropic::events(ask, &reply, number, delay), reply.usage),
                (true, false) => Answer::json(&anthropic::message(ask, &reply, number), reply.usage),
                (false, true) => Answer::events(openai::events(ask, &reply, number, delay), reply.usage),
                (false, false) => Answer::json(&openai::completion(ask, &reply, number), reply.usage),
            }
        }
    }
}
