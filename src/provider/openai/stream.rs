//! Streams of OpenAI's dialect: every event is looked at, and forwarded as the bytes it came in.
//!
//! What is changed, beside what `choice` does inside a choice:
//! * the usage chunk that this gateway asked for and the client did not is taken out;
//! * usage that comes along with choices (DeepSeek, OpenRouter, Perplexity) is moved into the chunk without choices that OpenAI
//!   documents, when the client asked for it and the provider sends none itself; its text stays what the provider wrote;
//! * `[DONE]` is added when the connection ends after a finish reason.
//!
//! An edited event is written anew as one `data:` line.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::choice::{ChoiceView, MessageView};
use super::response::error_object;
use super::splice::Splice;
use super::{AnswerContext, usage};
use crate::error::Result;
use crate::provider::{End, StreamOut, StreamTranslator, protocol};
use crate::sse::{DONE, Event, write_data};

/// Forwards events and keeps account of them.
#[derive(Debug)]
pub(super) struct Forwarder {
    context: AnswerContext,
    /// Whether each choice that has begun has told why it ended: when all have, the end of the connection is a proper end.
    ended: BTreeMap<u64, bool>,
    /// The usage chunk that the client is still owed, as JSON text.
    owed: Option<String>,
    /// The provider sent a usage chunk of OpenAI's form.
    usage_chunk_seen: bool,
}

/// What is looked at in a chunk; everything else is skipped.
#[derive(Deserialize)]
struct ChunkView<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(borrow)]
    created: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow, default)]
    choices: Option<Vec<ChoiceView<'a>>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    x_groq: Option<GroqView<'a>>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// Groq reports usage here, asked or not.
#[derive(Deserialize)]
struct GroqView<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

impl ChunkView<'_> {
    fn choices(&self) -> &[ChoiceView<'_>] {
        self.choices.as_deref().unwrap_or_default()
    }

    /// The chunk that OpenAI ends a stream with when usage was asked for, around this chunk's usage.
    fn usage_chunk(&self, usage: &str, context: &AnswerContext) -> String {
        let own = |raw: Option<&RawValue>, ours: serde_json::Value| {
            raw.map_or_else(|| ours.to_string(), |raw| raw.get().to_owned())
        };
        format!(
            r#"{{"id":{},"object":"chat.completion.chunk","created":{},"model":{},"choices":[],"usage":{usage}}}"#,
            own(self.id, context.id.as_str().into()),
            own(self.created, context.created.into()),
            own(self.model, context.model.as_str().into()),
        )
    }
}

impl Forwarder {
    pub(super) const fn new(context: AnswerContext) -> Self {
        Self { context, ended: BTreeMap::new(), owed: None, usage_chunk_seen: false }
    }

    /// The provider's error in a chunk, wherever it stands.
    fn check(&self, event: &Event, chunk: &ChunkView<'_>) -> Result<()> {
        let provider = self.context.provider;
        if let Some(error) = chunk.error {
            return Err(error_object(error.get(), provider));
        }
        // Older vLLM and SGLang write the error itself as the event.
        if chunk.object.is_some_and(|object| object.get() == "\"error\"") {
            return Err(error_object(&String::from_utf8_lossy(&event.data), provider));
        }
        if event.name.as_deref() == Some(b"error") {
            return Err(protocol(provider, "an error event without an error"));
        }
        chunk.choices().iter().try_for_each(|choice| choice.check(provider))
    }

    fn account(&mut self, chunk: &ChunkView<'_>, out: &mut StreamOut) {
        for choice in chunk.choices() {
            let generated = choice.delta.as_ref().map_or(0, MessageView::generated);
            out.generated += generated as u64;
            *self.ended.entry(choice.index()).or_default() |= choice.has_ended();
            out.content |= generated > 0 || choice.has_ended();
        }
    }

    /// Forwards the event with what must change in it.
    fn forward(&mut self, event: &Event, chunk: &ChunkView<'_>, out: &mut StreamOut) {
        let alone = chunk.choices().is_empty();
        if alone && chunk.usage.is_some() {
            self.usage_chunk_seen = true;
            self.owed = None;
            if !self.context.include_usage {
                return;
            }
        }
        let mut splice = Splice::new(&event.data);
        if let Some(usage) = chunk.usage.filter(|_| self.context.include_usage && !alone) {
            self.owed = Some(chunk.usage_chunk(usage.get(), &self.context));
            splice.replace(usage.get(), "null");
        }
        for choice in chunk.choices() {
            choice.translate(&mut splice);
        }
        match splice.apply() {
            None => write_raw(out, &event.raw),
            Some(data) => write_line(out, data),
        }
    }

    /// Writes the usage chunk if the provider did not.
    fn settle(&mut self, out: &mut StreamOut) {
        if let Some(chunk) = self.owed.take().filter(|_| !self.usage_chunk_seen) {
            write_line(out, chunk.into_bytes());
        }
    }
}

/// Writes an event as it came. Its last line feed may not have come yet; the same event must not differ by that.
fn write_raw(out: &mut StreamOut, raw: &[u8]) {
    out.bytes.extend_from_slice(raw);
    if raw.ends_with(b"\r\n\r") {
        out.bytes.push(b'\n');
    }
}

/// Writes JSON as one data line. A line end can only be white space between its tokens.
fn write_line(out: &mut StreamOut, mut json: Vec<u8>) {
    json.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    write_data(&mut out.bytes, &json);
}

impl StreamTranslator for Forwarder {
    fn event(&mut self, event: &Event, out: &mut StreamOut) -> Result<()> {
        if event.data.as_ref() == b"[DONE]" {
            self.settle(out);
            write_raw(out, &event.raw);
            out.done = true;
            return Ok(());
        }
        let chunk: ChunkView<'_> =
            serde_json::from_slice(&event.data).map_err(|cause| protocol(self.context.provider, cause))?;
        // Before the error: OpenRouter bills what was generated until then in the same event.
        let groq = chunk.x_groq.as_ref().and_then(|groq| groq.usage);
        if let Some(usage) = chunk.usage.or(groq).and_then(usage::read) {
            out.usage = Some(usage);
        }
        self.check(event, &chunk)?;
        self.account(&chunk, out);
        self.forward(event, &chunk, out);
        Ok(())
    }

    fn end(&mut self, out: &mut StreamOut) -> End {
        if out.done {
            return End::Complete;
        }
        if self.ended.is_empty() || self.ended.values().any(|ended| !ended) {
            return End::Truncated;
        }
        self.settle(out);
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

    const LAST: &str = r#"{"id":"a","created":7,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4,"cost":0.01}}"#;

    #[test]
    fn usage_beside_choices_is_moved_to_where_openai_documents_it() {
        let (out, end) = run(&mut forwarder(true), &[ROLE, HELLO, LAST, "[DONE]"]);
        let moved = r#"{"id":"a","created":7,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#;
        let chunk = r#"{"id":"a","object":"chat.completion.chunk","created":7,"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4,"cost":0.01}}"#;
        let expected = [ROLE, HELLO, moved, chunk, "[DONE]"].map(|data| format!("data: {data}\n\n")).concat();
        assert_eq!(String::from_utf8(out.bytes).unwrap(), expected);
        assert_eq!((end, out.usage.unwrap().output), (Ok(End::Complete), 1));
    }

    #[test]
    fn usage_beside_choices_stays_where_nobody_asked_and_is_not_given_twice() {
        let (out, _) = run(&mut forwarder(false), &[HELLO, LAST, "[DONE]"]);
        assert_eq!(
            String::from_utf8(out.bytes).unwrap(),
            [HELLO, LAST, "[DONE]"].map(|data| format!("data: {data}\n\n")).concat()
        );
        let (out, _) = run(&mut forwarder(true), &[HELLO, LAST, USAGE, "[DONE]"]);
        assert_eq!(String::from_utf8(out.bytes).unwrap().matches("prompt_tokens").count(), 1);
    }

    #[test]
    fn an_empty_finish_reason_is_no_end() {
        let open = r#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":""}]}"#;
        let (out, end) = run(&mut forwarder(false), &[open]);
        assert_eq!(end, Ok(End::Truncated));
        assert!(String::from_utf8(out.bytes).unwrap().contains(r#""finish_reason":null"#));
    }

    #[test]
    fn what_was_generated_before_an_error_is_still_accounted_for() {
        let error =
            r#"{"error":{"code":502,"message":"gone"},"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":9}}"#;
        let (out, end) = run(&mut forwarder(false), &[HELLO, error]);
        assert_eq!((end, out.usage.unwrap().output), (Err(ErrorKind::ProviderError), 9));
    }

    #[test]
    fn an_error_in_the_place_of_a_chunk_is_an_error() {
        let kind = |data: &str| run(&mut forwarder(false), &[ROLE, data]).1.unwrap_err();
        assert_eq!(
            kind(r#"{"object":"error","message":"x","type":"BadRequestError","code":429}"#),
            ErrorKind::ProviderRateLimited
        );
        assert_eq!(kind(r#"{"error":"out of memory"}"#), ErrorKind::ProviderError);
        assert_eq!(
            kind(r#"{"choices":[{"delta":{"content":""},"finish_reason":"insufficient_system_resource"}]}"#),
            ErrorKind::ProviderError
        );
    }
}
