//! Streams of OpenAI's dialect: every event is looked at, and forwarded as the bytes it came in.
//!
//! What is changed, beside what `choice` does inside a choice:
//! * the usage chunk that this gateway asked for and the client did not is taken out;
//! * usage that comes along with choices (DeepSeek, OpenRouter, Perplexity) is moved into the chunk without choices that OpenAI
//!   documents, when the client asked for it and the provider sends none itself;
//! * usage that a provider tells choice by choice (llama.cpp) is added up in its last chunk;
//! * the counts of a usage object, where they follow another convention than OpenAI's or are left out (see `usage`);
//! * a first chunk without an id (Azure's verdict on the prompt) waits for the chunk that has one, so that all have the same;
//! * events without data, which are signs of life, are left out;
//! * a chunk that only repeats why its choices ended is left out;
//! * a chunk that is no JSON is a failure before the first content, and forwarded as it came after it;
//! * `[DONE]` is added when the connection ends after a finish reason.
//!
//! An edited event is written anew as one `data:` line.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::choice::{AllChoices, ChoiceView, present};
use super::failure::{error_object, misplaced_error};
use super::identity::{Identity, IdentityView};
use super::required::settle_tier;
use super::splice::Splice;
use super::{AnswerContext, bill, usage};
use crate::error::Result;
use crate::provider::pattern::Pattern;
use crate::provider::{End, StreamOut, StreamTranslator, protocol};
use crate::sse::{DONE, Event, write_data};
use crate::usage::Usage;

/// Forwards events and keeps account of them.
#[derive(Debug)]
pub(super) struct Forwarder {
    context: AnswerContext,
    identity: Identity,
    /// A chunk was forwarded.
    identified: bool,
    /// The first chunk, where it has no choices and lacks a name (Azure's verdict on the prompt): it waits for the next one's.
    held: Option<Event>,
    choices: AllChoices,
    /// Whether each choice that has begun has told why it ended: when all have, the end of the connection is a proper end.
    ended: BTreeMap<u64, bool>,
    /// The usage chunk that the client is still owed, as JSON text.
    owed: Option<String>,
    /// The provider sent a usage chunk of OpenAI's form.
    usage_chunk_seen: bool,
    /// Whether its usage says what the answer costs.
    reports_cost: bool,
    /// The usage of the choices that had ended, where each is told when it ends.
    parts: Option<Parts>,
    /// The form of the chunk before, where that was forwarded as it came and adds text to a choice and no more.
    pattern: Option<Pattern>,
}

/// The sum of usages that stand for some of the choices each.
#[derive(Clone, Copy, Debug)]
struct Parts {
    sum: Usage,
    /// Whether choices are left whose usage is to come.
    unfinished: bool,
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

/// Groq reports usage here, asked or not, and why a stream stopped early.
#[derive(Deserialize)]
struct GroqView<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl<'a> ChunkView<'a> {
    const fn identity(&self) -> IdentityView<'a> {
        IdentityView { id: self.id, object: self.object, created: self.created, model: self.model }
    }

    fn choices(&self) -> &[ChoiceView<'a>] {
        self.choices.as_deref().unwrap_or_default()
    }

    /// The usage that stands among the choices or in one of them.
    fn usage_beside(&self) -> Option<&RawValue> {
        self.usage.or_else(|| self.choices().iter().find_map(|choice| choice.usage))
    }
}

/// The chunk that OpenAI ends a stream with when usage was asked for.
fn usage_chunk(usage: &str, identity: &Identity) -> String {
    let Identity { id, created, model } = identity;
    format!(
        r#"{{"id":{id},"object":"chat.completion.chunk","created":{created},"model":{model},"choices":[],"usage":{usage}}}"#
    )
}

impl Forwarder {
    pub(super) fn new(context: AnswerContext, reports_cost: bool) -> Self {
        Self {
            identity: Identity::new(&context),
            context,
            identified: false,
            held: None,
            choices: AllChoices::new(),
            ended: BTreeMap::new(),
            owed: None,
            usage_chunk_seen: false,
            reports_cost,
            parts: None,
            pattern: None,
        }
    }

    /// Reads the usage, wherever it stands. A usage chunk that comes while other choices go on is that of the ones which ended,
    /// and so is every later one. Returns whether there was any.
    fn count(&mut self, chunk: &ChunkView<'_>, out: &mut StreamOut) -> bool {
        bill::read_tier(chunk.service_tier, &mut out.bill);
        let groq = chunk.x_groq.as_ref().and_then(|groq| groq.usage);
        let Some(raw) = chunk.usage_beside().or(groq) else { return false };
        out.bill.doubtful |= usage::is_absurd(raw);
        let Some(mut usage) = usage::read(raw) else { return false };
        bill::read_usage(raw, self.reports_cost, &mut out.bill);
        let before = out.usage.filter(|_| self.ended.len() <= 1 && self.parts.is_none());
        out.bill.doubtful |= before.is_some_and(|before| usage.total_tokens() < before.total_tokens());
        let unfinished = self.ended.len() > 1 && self.ended.values().any(|ended| !ended);
        if chunk.choices().is_empty() && (unfinished || self.parts.is_some()) {
            self.parts.iter().for_each(|parts| usage.add(&parts.sum));
            self.parts = Some(Parts { sum: usage, unfinished });
        }
        out.usage = Some(usage);
        true
    }

    /// The provider's error in a chunk, wherever it stands.
    fn check(&self, event: &Event, chunk: &ChunkView<'_>) -> Result<()> {
        let provider = self.context.provider;
        if let Some(error) = chunk.error.or_else(|| chunk.x_groq.as_ref()?.error) {
            return Err(error_object(error.get(), provider));
        }
        let named = event.name.as_deref() == Some(b"error");
        // Older vLLM and SGLang write the error itself as the event, others a text in its place.
        let empty = chunk.choices.is_none() && chunk.usage.is_none();
        if named || empty || chunk.object.is_some_and(|object| object.get() == "\"error\"") {
            let error = misplaced_error(&event.data, provider);
            if named || error.is_some() {
                return Err(error.unwrap_or_else(|| protocol(provider, "an error event without an error")));
            }
        }
        chunk.choices().iter().try_for_each(|choice| choice.check(provider))
    }

    fn account(&mut self, chunk: &ChunkView<'_>, counted: bool, out: &mut StreamOut) {
        let before = out.generated;
        for choice in chunk.choices() {
            let generated = choice.generated();
            out.generated += generated as u64;
            *self.ended.entry(choice.index()).or_default() |= choice.has_ended();
            out.content |= generated > 0 || choice.has_ended();
        }
        out.written = self.all_ended();
        // What comes alone comes last. Some providers count as they go, and choices may come one after the other.
        let unfinished = self.parts.is_some_and(|parts| parts.unfinished);
        let last = (chunk.choices().is_empty() || out.written) && !unfinished;
        out.bill.closed = last && (counted || (out.bill.closed && out.generated == before));
    }

    /// Whether a chunk says nothing but once more why choices ended that have ended.
    fn repeats_its_end(&self, chunk: &ChunkView<'_>) -> bool {
        let again = |choice: &ChoiceView<'_>| {
            choice.has_ended() && choice.generated() == 0 && self.ended.get(&choice.index()) == Some(&true)
        };
        self.all_ended() && !chunk.choices().is_empty() && chunk.choices().iter().all(again)
    }

    /// Whether every choice that has begun has told why it ended.
    fn all_ended(&self) -> bool {
        !self.ended.is_empty() && self.ended.values().all(|ended| *ended)
    }

    /// Forwards the event with what must change in it.
    fn forward(&mut self, event: &Event, chunk: &ChunkView<'_>, out: &mut StreamOut) {
        let alone = chunk.choices().is_empty();
        let parts = self.parts.filter(|_| alone);
        if alone && chunk.usage.is_some() {
            self.usage_chunk_seen = !parts.is_some_and(|parts| parts.unfinished);
            self.owed = None;
            if !self.context.include_usage {
                return;
            }
        }
        let mut splice = Splice::new(&event.data);
        if let Some(usage) = chunk.usage_beside().filter(|_| self.context.include_usage && !alone) {
            self.owed = Some(usage_chunk(&usage::settled(usage), &self.identity));
        }
        match (chunk.usage, parts) {
            (Some(usage), Some(Parts { sum, unfinished: true })) => {
                self.owed = Some(usage_chunk(&usage::written(sum), &self.identity));
                splice.replace(usage.get(), "null");
            }
            (Some(usage), Some(Parts { sum, .. })) => splice.replace(usage.get(), usage::written(sum)),
            (Some(usage), None) if self.context.include_usage && !alone => splice.replace(usage.get(), "null"),
            (Some(usage), None) => usage::settle(usage, &mut splice),
            (None, _) => {}
        }
        for (place, choice) in chunk.choices().iter().enumerate() {
            choice.translate_piece(place, &self.context.id, &mut self.choices, &mut splice);
        }
        settle_tier(chunk.service_tier, &mut splice);
        if chunk.choices.is_some() {
            self.identity.complete(chunk.identity(), "chat.completion.chunk", &mut splice);
        }
        let begin = out.bytes.len();
        self.pattern = None;
        match splice.apply() {
            None => {
                self.pattern = text_of(chunk)
                    .and_then(|text| Pattern::of(&event.raw, text.get().strip_prefix('"')?.strip_suffix('"')?));
                write_raw(out, &event.raw);
            }
            Some(data) => write_line(out, data),
        }
        if alone && chunk.usage.is_some() && !parts.is_some_and(|parts| parts.unfinished) {
            out.mark_usage_chunk(begin);
        }
    }

    /// Writes the chunk that waited.
    fn release(&mut self, out: &mut StreamOut) -> Result<()> {
        let Some(event) = self.held.take() else { return Ok(()) };
        self.forward(&event, &self.parse(&event)?, out);
        Ok(())
    }

    fn parse<'e>(&self, event: &'e Event) -> Result<ChunkView<'e>> {
        serde_json::from_slice(&event.data).map_err(|cause| protocol(self.context.provider, cause))
    }

    /// Writes the usage chunk if the provider did not.
    fn settle(&mut self, out: &mut StreamOut) {
        if let Some(chunk) = self.owed.take().filter(|_| !self.usage_chunk_seen) {
            let begin = out.bytes.len();
            write_line(out, chunk.into_bytes());
            out.mark_usage_chunk(begin);
        }
    }
}

/// The text of a chunk that adds text to one choice and says nothing else.
fn text_of<'a>(chunk: &'a ChunkView<'_>) -> Option<&'a RawValue> {
    let usage = chunk.usage_beside().is_some() || chunk.x_groq.is_some();
    match chunk.choices() {
        [choice] if !usage => choice.only_text(),
        _ => None,
    }
}

/// Whether what is no JSON was to be a chunk. Any other text in its place is an error's, which may quote the key.
fn is_damaged_chunk(data: &[u8]) -> bool {
    std::str::from_utf8(data).is_ok_and(|text| text.trim_start().starts_with('{') && text.contains("\"choices\""))
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
        if let Some(text) = self.pattern.as_ref().and_then(|pattern| pattern.text(&event.raw)) {
            // As everywhere here, with its quotes.
            out.generated += text.len() as u64 + 2;
            out.bill.closed = false;
            write_raw(out, &event.raw);
            return Ok(());
        }
        let data = event.data.trim_ascii();
        if data.is_empty() {
            // A sign of life.
            return Ok(());
        }
        if data == b"[DONE]" {
            if !out.content {
                return Err(protocol(self.context.provider, "the stream ended before it said anything"));
            }
            out.odd.missing_finish = u64::from(!self.all_ended());
            self.release(out)?;
            self.settle(out);
            match data == event.data {
                true => write_raw(out, &event.raw),
                false => out.bytes.extend_from_slice(DONE),
            }
            out.done = true;
            return Ok(());
        }
        let chunk: ChunkView<'_> = match self.parse(event) {
            Err(_) if out.content && is_damaged_chunk(&event.data) => {
                // The client has seen content, and may make more of it than this gateway can.
                out.odd.invalid_json += 1;
                write_raw(out, &event.raw);
                return Ok(());
            }
            parsed => parsed?,
        };
        // Before the error: OpenRouter bills what was generated until then in the same event.
        let counted = self.count(&chunk, out);
        if let Err(error) = self.check(event, &chunk) {
            out.bill.closed |= counted;
            return Err(error);
        }
        let first = !self.identified && self.held.is_none();
        if first && !chunk.identity().is_named() && chunk.choices().is_empty() && chunk.usage.is_none() {
            self.held = Some(event.clone());
            return Ok(());
        }
        if !self.identified {
            self.identity.learn(chunk.identity());
        }
        self.release(out)?;
        self.identified = true;
        if !counted && self.repeats_its_end(&chunk) {
            return Ok(());
        }
        self.account(&chunk, counted, out);
        self.forward(event, &chunk, out);
        Ok(())
    }

    fn end(&mut self, out: &mut StreamOut) -> End {
        if out.done {
            return End::Complete;
        }
        if !self.all_ended() {
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

    const ROLE: &str = r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
    const HELLO: &str = r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}],"usage":null}"#;
    const STOP: &str = r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    const USAGE: &str = r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}}}"#;

    fn forwarder(include_usage: bool) -> Forwarder {
        Forwarder::new(AnswerContext { include_usage, ..context("openai") }, false)
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

    const LAST: &str = r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4,"cost":0.01,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}}}"#;

    #[test]
    fn usage_beside_choices_is_moved_to_where_openai_documents_it() {
        let (out, end) = run(&mut forwarder(true), &[ROLE, HELLO, LAST, "[DONE]"]);
        let moved = r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#;
        let chunk = r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4,"cost":0.01,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}}}"#;
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
        assert_eq!(String::from_utf8(out.bytes).unwrap().matches("\"prompt_tokens\":").count(), 1);
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

    fn chunks(out: &StreamOut) -> Vec<serde_json::Value> {
        let text = String::from_utf8(out.bytes.clone()).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
        lines.map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    #[test]
    fn every_chunk_says_what_it_is_and_a_first_one_without_an_id_waits_for_it() {
        let verdict = r#"{"id":"","object":"","created":0,"model":"","choices":[],"prompt_filter_results":[{}]}"#;
        let hello = r#"{"id":"c1","object":"chat.completion.chunk","created":9,"model":"m","choices":[{"index":0,"delta":{"content":"a"}}]}"#;
        let bare = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
        let (out, end) = run(&mut forwarder(false), &[verdict, hello, bare]);
        let chunks = chunks(&out);
        assert_eq!((end, chunks.len()), (Ok(End::Complete), 3));
        for chunk in &chunks {
            let said = ["id", "object", "created", "model"].map(|name| chunk[name].to_string());
            assert_eq!(said, ["\"c1\"", "\"chat.completion.chunk\"", "9", "\"m\""]);
        }
        assert!(chunks[0]["prompt_filter_results"].is_array());
        let (out, _) = run(&mut forwarder(false), &[bare]);
        assert_eq!(self::chunks(&out)[0]["id"], "chatcmpl-test");
    }

    #[test]
    fn a_figure_is_the_last_one_where_nothing_can_follow_that_costs() {
        let counts_as_it_goes =
            HELLO.replace(r#""usage":null"#, r#""usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}"#);
        let other = HELLO.replace("\"index\":0", "\"index\":1");
        let table: [(&[&str], bool); 6] = [
            (&[HELLO, LAST], true),
            (&[HELLO, STOP, USAGE], true),
            (&[HELLO, STOP], false),
            (&[ROLE, &counts_as_it_goes], false),
            (&[HELLO, &other, LAST], false),
            (&[HELLO, LAST, &other], false),
        ];
        for (events, closed) in table {
            let (out, _) = run(&mut forwarder(true), events);
            assert_eq!(out.bill.closed, closed, "{events:?}");
        }
    }

    #[test]
    fn usage_that_is_told_choice_by_choice_is_added_up() {
        let piece = |index: u8, end: &str| {
            format!(
                r#"{{"id":"c","object":"chat.completion.chunk","created":7,"model":"m","choices":[{{"index":{index},"delta":{{"content":"a"}},"finish_reason":{end}}}]}}"#
            )
        };
        let (one, other) = (piece(0, "null"), piece(1, "null"));
        let (ended, other_ended) = (piece(0, "\"stop\""), piece(1, "\"stop\""));
        let told = [one.as_str(), &other, &ended, USAGE, &other_ended, USAGE, "[DONE]"];
        let (out, end) = run(&mut forwarder(true), &told);
        assert_eq!((end, out.usage.unwrap().prompt_tokens(), out.usage.unwrap().output), (Ok(End::Complete), 6, 2));
        let usages: Vec<_> = chunks(&out).into_iter().filter_map(|chunk| chunk["usage"].as_object().cloned()).collect();
        assert_eq!(usages.len(), 1, "a client that takes the first or the last has the same");
        assert_eq!((&usages[0]["prompt_tokens"], &usages[0]["total_tokens"]), (&6.into(), &8.into()));
        assert!(out.bill.closed);

        let (out, _) = run(&mut forwarder(true), &told[..5]);
        assert_eq!((out.usage.unwrap().output, out.bill.closed), (1, false), "the other choice may have gone on");
        assert_eq!(chunks(&out).last().unwrap()["usage"]["total_tokens"], 4, "what was told is not lost");
        let (out, _) = run(&mut forwarder(false), &told);
        assert_eq!((out.usage.unwrap().output, chunks(&out).len()), (2, 4), "a client that did not ask gets none");
        let (out, _) = run(&mut forwarder(false), &[&one, &other, &ended, &other_ended, USAGE, "[DONE]"]);
        assert_eq!(out.usage.unwrap().output, 1, "told once for all");
    }

    #[test]
    fn signs_of_life_and_an_end_before_the_beginning() {
        let (out, end) = run(&mut forwarder(false), &[ROLE, "", " ", HELLO, STOP, "[DONE] "]);
        assert_eq!((end, chunks(&out).len()), (Ok(End::Complete), 3));
        assert_eq!(run(&mut forwarder(false), &[ROLE, "[DONE]"]).1, Err(ErrorKind::ProviderProtocol));
    }

    #[test]
    fn errors_are_found_wherever_they_stand() {
        let kind = |data: &str| run(&mut forwarder(false), &[ROLE, data]).1.unwrap_err();
        let groq = r#"{"choices":[{"delta":{},"finish_reason":null}],"x_groq":{"error":"over capacity"}}"#;
        assert_eq!(kind(groq), ErrorKind::ProviderError);
        assert_eq!(kind(r#"{"detail":"busy"}"#), ErrorKind::ProviderError);
        assert_eq!(kind(r#"{"message":"slow","code":429}"#), ErrorKind::ProviderRateLimited);
        let mut forwarder = forwarder(false);
        let event =
            Event { name: Some("error".into()), data: r#"{"message":"m","status":503}"#.into(), raw: "".into() };
        let error = forwarder.event(&event, &mut StreamOut::default()).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::ProviderOverloaded, "m"));
    }

    #[test]
    fn usage_inside_a_choice_is_read_and_given_in_its_place() {
        let last = r#"{"id":"a","choices":[{"index":0,"delta":{},"finish_reason":"stop","usage":{"prompt_tokens":3,"completion_tokens":1}}]}"#;
        let (out, _) = run(&mut forwarder(true), &[HELLO, last, "[DONE]"]);
        assert_eq!(out.usage.unwrap().output, 1);
        assert_eq!(chunks(&out)[2]["usage"]["prompt_tokens"], 3);
        let (out, _) = run(&mut forwarder(true), &[HELLO, last, USAGE, "[DONE]"]);
        assert_eq!(chunks(&out).len(), 3);
    }
}
