//! How a provider cuts its stream into events: one interface over every framing.
//!
//! Not here: the framings themselves (`sse`, `ndjson`, `eventstream`).

use crate::eventstream::{self, Broken};
use crate::ndjson;
use crate::sse::{self, Event};

/// A framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events.
    Sse,
    /// One JSON text per line.
    NdJson,
    /// AWS's binary event stream.
    AwsEventStream,
}

impl Framing {
    /// The content types that announce it.
    pub const fn content_types(self) -> &'static [&'static str] {
        match self {
            // Some OpenAI-compatible servers label their streams as JSON; a body without events then counts as truncated.
            Self::Sse => &["text/event-stream", "application/json"],
            Self::NdJson => &["application/x-ndjson", "application/jsonl", "application/json"],
            Self::AwsEventStream => &["application/vnd.amazon.eventstream"],
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
    /// AWS's binary event stream.
    AwsEventStream(eventstream::Decoder),
}

impl Decoder {
    /// A decoder that holds at most `limit` bytes of one event.
    pub fn new(framing: Framing, limit: usize) -> Self {
        match framing {
            Framing::Sse => Self::Sse(sse::Decoder::new(limit)),
            Framing::NdJson => Self::NdJson(ndjson::Decoder::new(limit)),
            Framing::AwsEventStream => Self::AwsEventStream(eventstream::Decoder::new(limit)),
        }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        match self {
            Self::Sse(decoder) => decoder.push(bytes),
            Self::NdJson(decoder) => decoder.push(bytes),
            Self::AwsEventStream(decoder) => decoder.push(bytes),
        }
    }

    /// The next complete event, `None` when more bytes are needed. Fails when an event exceeds the limit or is damaged.
    pub fn next_event(&mut self) -> Result<Option<Event>, Broken> {
        match self {
            Self::Sse(decoder) => decoder.next_event().map_err(Broken::from),
            Self::NdJson(decoder) => decoder.next_event().map_err(Broken::from),
            Self::AwsEventStream(decoder) => decoder.next_event(),
        }
    }

    /// No more bytes come.
    pub fn finish(&mut self) {
        match self {
            // An event without its blank line is not an event, says the grammar; half a message is not one either.
            Self::Sse(_) | Self::AwsEventStream(_) => {}
            Self::NdJson(decoder) => decoder.finish(),
        }
    }

    /// Whether bytes of an unfinished event are held.
    pub fn has_partial(&self) -> bool {
        match self {
            Self::Sse(decoder) => decoder.has_partial(),
            Self::NdJson(decoder) => decoder.has_partial(),
            Self::AwsEventStream(decoder) => decoder.has_partial(),
        }
    }
}
