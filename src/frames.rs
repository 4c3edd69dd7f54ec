//! How a provider cuts its stream into events: one interface over every framing.
//!
//! Not here: the framings themselves (`sse`, `ndjson`).

use crate::ndjson;
use crate::sse::{self, Event, TooLarge};

/// A framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events.
    Sse,
    /// One JSON text per line.
    NdJson,
}

impl Framing {
    /// The content types that announce it.
    pub const fn content_types(self) -> &'static [&'static str] {
        match self {
            // Some OpenAI-compatible servers label their streams as JSON; a body without events then counts as truncated.
            Self::Sse => &["text/event-stream", "application/json"],
            Self::NdJson => &["application/x-ndjson", "application/jsonl", "application/json"],
        }
    }
}

/// Turns bytes in any cut into events.
#[derive(Debug)]
pub enum Decoder {
    /// Server-sent events.
    Sse(sse::Decoder),
    /// One JSON text per line.
    NdJson(ndjson::Decoder),
}

impl Decoder {
    /// A decoder that holds at most `limit` bytes of one event.
    pub fn new(framing: Framing, limit: usize) -> Self {
        match framing {
            Framing::Sse => Self::Sse(sse::Decoder::new(limit)),
            Framing::NdJson => Self::NdJson(ndjson::Decoder::new(limit)),
        }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        match self {
            Self::Sse(decoder) => decoder.push(bytes),
            Self::NdJson(decoder) => decoder.push(bytes),
        }
    }

    /// The next complete event, `None` when more bytes are needed. Fails when an event exceeds the limit.
    pub fn next_event(&mut self) -> Result<Option<Event>, TooLarge> {
        match self {
            Self::Sse(decoder) => decoder.next_event(),
            Self::NdJson(decoder) => decoder.next_event(),
        }
    }

    /// No more bytes come.
    pub fn finish(&mut self) {
        match self {
            // An event without its blank line is not an event, says the grammar.
            Self::Sse(_) => {}
            Self::NdJson(decoder) => decoder.finish(),
        }
    }

    /// Whether bytes of an unfinished event are held.
    pub fn has_partial(&self) -> bool {
        match self {
            Self::Sse(decoder) => decoder.has_partial(),
            Self::NdJson(decoder) => decoder.has_partial(),
        }
    }
}
