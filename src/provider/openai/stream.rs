//! Streams of OpenAI's dialect: every event is looked at, and forwarded as the bytes it came in.
//!
//! What is changed, beside what `choice` does inside a choice:
//! * the usage chunk that this gateway asked for and the client did not is taken out;
//! * usage that comes along with choices (DeepSeek, OpenRouter, Perplexity) is moved into the chunk without choices that OpenAI
//!   documents, when the client asked for it and the provider sends none itself; its text stays what the provider wrote;
//! * all chunks have the identity of the first real one; Azure's account of the prompt, which comes before there is one, waits
//!   for it;
//! * `[DONE]` is added when the connection ends after a finish reason.
//!
//! An edited event is written anew as one `data:` line.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::choice::ChoiceView;
use super::required::{Identity, Said, present, settle_tier};
use super::response::error_object;
use super::splice::Splice;
use super::{AnswerContext, usage};
use crate::error::Result;
use crate::provider::{End, StreamOut, StreamTranslator, protocol};
use crate::sse::{DONE, Event, write_data};

/// What every chunk is.
const CHUNK: &str = "chat.completion.chunk";

/// Forwards events and keeps account of them.
#[derive(Debug)]
pub(super) struct Forwarder {
    context: AnswerContext,
    /// What all chunks share, once it is known.
    identity: Option<Identity>,
    /// A chunk that came before there was an identity.
    early: Option<Event>,
    /// A choice has told why it ended: from here on, the end of the connection is a proper end.
    finished: bool,
    /// The usage chunk that the client is still owed, as JSON text.
    owed: Option<String>,
    /// The provider sent a usage chunk of OpenAI's form.
    usage_chunk_seen: bool,
}

/// What is looked at in a chunk; everything else is skipped.
#[derive(Deserialize)]
struct ChunkView<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    object: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    created: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    service_tier: Option<&'a RawValue>,
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

    const fn said(&self) -> Said<'_> {
        Said { id: self.id, object: self.object, created: self.created, model: self.model }
    }
}

/// The chunk that OpenAI ends a stream with when usage was asked for, around this usage.
fn usage_chunk(identity: &Identity, usage: &str) -> String {
    let Identity { id, created, model } = identity;
    format!(r#"{{"id":{id},"object":"{CHUNK}","created":{created},"model":{model},"choices":[],"usage":{usage}}}"#)
}

impl Forwarder {
    pub(super) const fn new(context: AnswerContext) -> Self {
        Self { context, identity: None, early: None, finished: false, owed: None, usage_chunk_seen: false }
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
            let generated = choice.generated();
            out.generated += generated as u64;
            self.finished |= choice.has_ended();
            out.content |= generated > 0 || choice.has_ended();
        }
    }

    /// Forwards the event, or keeps it until it is known which answer it belongs to.
    fn forward(&mut self, event: &Event, chunk: &ChunkView<'_>, out: &mut StreamOut) {
        let said = chunk.said();
        if self.identity.is_none() && !said.is_real() && chunk.choices().is_empty() && self.early.is_none() {
            self.early = Some(event.clone());
            return;
        }
        let identity = self.identity.take().unwrap_or_else(|| Identity::of(&said, &self.context));
        self.release(&identity, out);
        self.write(event, chunk, &identity, out);
        self.identity = Some(identity);
    }

    /// Writes the chunk that came too early.
    fn release(&mut self, identity: &Identity, out: &mut StreamOut) {
        let Some(event) = self.early.take() else { return };
        if let Ok(chunk) = serde_json::from_slice(&event.data) {
            self.write(&event, &chunk, identity, out);
        }
    }

    /// Writes a chunk with what must change in it.
    fn write(&mut self, event: &Event, chunk: &ChunkView<'_>, identity: &Identity, out: &mut StreamOut) {
        let alone = chunk.choices().is_empty();
        if alone && chunk.usage.is_some() {
            self.usage_chunk_seen = true;
            self.owed = None;
            if !self.context.include_usage {
                return;
            }
        }
        let mut splice = Splice::new(&event.data);
        identity.settle(&chunk.said(), CHUNK, &mut splice);
        settle_tier(chunk.service_tier, &mut splice);
        if let Some(usage) = chunk.usage.filter(|_| self.context.include_usage && !alone) {
            self.owed = Some(usage_chunk(identity, usage.get()));
            splice.replace(usage.get(), "null");
        }
        for (position, choice) in chunk.choices().iter().enumerate() {
            choice.translate(position, false, &mut splice);
        }
        match splice.apply() {
            None => out.bytes.extend_from_slice(&event.raw),
            Some(data) => write_line(out, data),
        }
    }

    /// Writes the usage chunk if the provider did not.
    fn settle(&mut self, out: &mut StreamOut) {
        if self.early.is_some() {
            let identity = Identity::of(&Said::default(), &self.context);
            self.release(&identity, out);
        }
        if let Some(chunk) = self.owed.take().filter(|_| !self.usage_chunk_seen) {
            write_line(out, chunk.into_bytes());
        }
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
            out.bytes.extend_from_slice(&event.raw);
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
        if !self.finished {
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

    const ROLE: &str = r#"{"id":"a","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
    const HELLO: &str = r#"{"id":"a","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}],"usage":null}"#;
    const STOP: &str = r#"{"id":"a","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    const USAGE: &str = r#"{"id":"a","object":"chat.completion.chunk","created":7,"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}"#;

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

    const LAST: &str = r#"{"id":"a","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4,"cost":0.01}}"#;

    #[test]
    fn usage_beside_choices_is_moved_to_where_openai_documents_it() {
        let (out, end) = run(&mut forwarder(true), &[ROLE, HELLO, LAST, "[DONE]"]);
        let moved = r#"{"id":"a","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#;
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
    fn what_came_before_there_was_an_identity_gets_it_and_it_stays() {
        let early = r#"{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[]}"#;
        let other =
            r#"{"id":"b","object":"chat.completion.done","model":"m","choices":[{"index":0,"delta":{"content":"x"}}]}"#;
        let (out, _) = run(&mut forwarder(false), &[early, HELLO, other, STOP]);
        let named = r#"{"choices":[],"created":7,"id":"a","model":"m","object":"chat.completion.chunk","prompt_filter_results":[]}"#;
        let same = r#"{"created":7,"id":"a","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"finish_reason":null,"delta":{"content":"x"}}]}"#;
        let expected = [named, HELLO, same, STOP, "[DONE]"].map(|data| format!("data: {data}\n\n")).concat();
        assert_eq!(String::from_utf8(out.bytes).unwrap(), expected);
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
