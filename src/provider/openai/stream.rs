//! Streams of OpenAI's dialect: every event is looked at, and forwarded as the bytes it came in.
//!
//! Only one thing is ever taken out: the usage chunk that this gateway asked for and the client did not.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::AnswerContext;
use super::response::error_object;
use crate::api::answer::WireUsage;
use crate::error::Result;
use crate::provider::{End, StreamOut, StreamTranslator, protocol};
use crate::sse::{DONE, Event};

/// Forwards events and keeps account of them.
#[derive(Debug)]
pub(super) struct Forwarder {
    context: AnswerContext,
    /// A choice has told why it ended: from here on, the end of the connection is a proper end.
    finished: bool,
}

/// What is looked at in a chunk; everything else is skipped.
#[derive(Deserialize)]
struct ChunkView<'a> {
    #[serde(borrow, default)]
    choices: Option<Vec<ChoiceView<'a>>>,
    usage: Option<WireUsage>,
    x_groq: Option<GroqView>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ChoiceView<'a> {
    #[serde(borrow)]
    delta: Option<DeltaView<'a>>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
}

/// What a delta generates, as raw JSON: only whether there is something, and how much, matters.
#[derive(Deserialize)]
struct DeltaView<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    function_call: Option<&'a RawValue>,
    #[serde(borrow)]
    audio: Option<&'a RawValue>,
}

/// Groq reports usage here, asked or not.
#[derive(Deserialize)]
struct GroqView {
    usage: Option<WireUsage>,
}

impl DeltaView<'_> {
    /// Bytes of generated JSON text; zero for a delta that only opens the message.
    fn generated(&self) -> usize {
        let Self { content, refusal, reasoning, reasoning_content, tool_calls, function_call, audio } = self;
        [content, refusal, reasoning, reasoning_content, tool_calls, function_call, audio]
            .into_iter()
            .flatten()
            .map(|raw| if matches!(raw.get(), "null" | "\"\"" | "[]") { 0 } else { raw.get().len() })
            .sum()
    }
}

impl Forwarder {
    pub(super) const fn new(context: AnswerContext) -> Self {
        Self { context, finished: false }
    }

    fn account(&mut self, chunk: &ChunkView<'_>, out: &mut StreamOut) {
        for choice in chunk.choices.iter().flatten() {
            let generated = choice.delta.as_ref().map_or(0, DeltaView::generated);
            out.generated += generated as u64;
            let ended = choice.finish_reason.is_some_and(|reason| reason.get() != "null");
            self.finished |= ended;
            out.content |= generated > 0 || ended;
        }
        let groq = chunk.x_groq.as_ref().and_then(|groq| groq.usage);
        if let Some(usage) = chunk.usage.or(groq) {
            out.usage = Some(usage.to_usage());
        }
    }
}

impl StreamTranslator for Forwarder {
    fn event(&mut self, event: &Event, out: &mut StreamOut) -> Result<()> {
        if event.data.as_ref() == b"[DONE]" {
            out.bytes.extend_from_slice(&event.raw);
            out.done = true;
            return Ok(());
        }
        let chunk: ChunkView<'_> =
            serde_json::from_slice(&event.data).map_err(|cause| protocol(self.context.provider, cause))?;
        if let Some(error) = chunk.error {
            return Err(error_object(error.get(), self.context.provider));
        }
        if event.name.as_deref() == Some(b"error") {
            return Err(protocol(self.context.provider, "an error event without an error"));
        }
        self.account(&chunk, out);
        let only_usage = chunk.usage.is_some() && chunk.choices.as_ref().is_none_or(Vec::is_empty);
        if !only_usage || self.context.include_usage {
            out.bytes.extend_from_slice(&event.raw);
        }
        Ok(())
    }

    fn end(&mut self, out: &mut StreamOut) -> End {
        if out.done {
            return End::Complete;
        }
        if !self.finished {
            return End::Truncated;
        }
        out.bytes.extend_from_slice(DONE);
        out.done = true;
        End::Complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::provider::tests_support::{context, run};

    const ROLE: &str = r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
    const HELLO: &str = r#"{"choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}],"usage":null}"#;
    const STOP: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}"#;

    fn forwarder(include_usage: bool) -> Forwarder {
        Forwarder::new(AnswerContext { include_usage, ..context("openai") })
    }

    #[test]
    fn a_stream_is_forwarded_byte_for_byte() {
        let (out, end) = run(&mut forwarder(true), &[ROLE, HELLO, STOP, USAGE, "[DONE]"]);
        let expected = [ROLE, HELLO, STOP, USAGE, "[DONE]"].map(|data| format!("data: {data}\n\n")).concat();
        assert_eq!(String::from_utf8(out.bytes).unwrap(), expected);
        assert_eq!((end, out.usage.unwrap().input), (Ok(End::Complete), 3));
    }

    #[test]
    fn the_usage_chunk_nobody_asked_for_is_taken_out_and_still_read() {
        let (out, _) = run(&mut forwarder(false), &[ROLE, HELLO, STOP, USAGE, "[DONE]"]);
        assert!(!String::from_utf8(out.bytes).unwrap().contains("prompt_tokens"));
        assert_eq!(out.usage.unwrap().output, 1);
    }

    #[test]
    fn a_role_alone_is_no_content() {
        let (out, _) = run(&mut forwarder(false), &[ROLE]);
        assert!(!out.content);
        let (out, _) = run(&mut forwarder(false), &[ROLE, HELLO]);
        assert!(out.content && out.generated > 0);
    }

    #[test]
    fn an_end_without_a_finish_is_truncation_and_no_done_is_invented() {
        let (out, end) = run(&mut forwarder(false), &[ROLE, HELLO]);
        assert_eq!(end, Ok(End::Truncated));
        assert!(!out.bytes.ends_with(DONE));
        let (out, end) = run(&mut forwarder(false), &[ROLE, HELLO, STOP]);
        assert_eq!(end, Ok(End::Complete));
        assert!(out.bytes.ends_with(DONE));
    }

    #[test]
    fn an_error_event_is_an_error() {
        let kind = |data: &str| run(&mut forwarder(false), &[ROLE, data]).1.unwrap_err();
        assert_eq!(kind(r#"{"error":{"message":"x","type":"server_error"}}"#), ErrorKind::ProviderError);
        assert_eq!(kind(r#"{"error":{"message":"x","status_code":429}}"#), ErrorKind::ProviderRateLimited);
        assert_eq!(kind("{not json"), ErrorKind::ProviderProtocol);
    }
}
