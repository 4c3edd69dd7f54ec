//! A stream, event by event: Converse's blocks as OpenAI's chunks.
//!
//! Text, reasoning and arguments go out as they come; what is only known at the end of a block (a signature, citations,
//! arguments that never came) goes out there. A block of text or reasoning has no beginning of its own: its first piece is.
//! Finished blocks are kept until the end, because blocks that OpenAI has no form for are given together.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::block::{Kind, Open};
use super::response::{Specific, cite, is_server_tool, read_error};
use super::wire::{bill, finish_reason, tier, usage};
use crate::api::answer::{Assistant, ChunkChoice, Delta, DeltaFunction, DeltaToolCall, FinishReason};
use crate::error::{Error, Result};
use crate::eventstream::{ERROR, EXCEPTION};
use crate::provider::citations::{Citations, Cited};
use crate::provider::fence::Unfence;
use crate::provider::numbered::Numbered;
use crate::provider::{AnswerContext, End, StreamOut, StreamTranslator, event_failure, protocol};
use crate::sse::{DONE, Event};
use crate::usage::{Bill, Usage};

/// The translator of one stream.
#[derive(Debug)]
pub(super) struct Translator {
    context: AnswerContext,
    /// Whether the role was sent.
    started: bool,
    /// Blocks that have begun and not ended, by Converse's index.
    open: BTreeMap<u64, Open>,
    /// Blocks that have ended, in their order.
    closed: Vec<Value>,
    /// Whether a block has no place at OpenAI.
    native: bool,
    /// How many calls were made.
    calls: u32,
    /// Characters of text so far, in which OpenAI counts the range of a citation.
    letters: usize,
    thoughts: Numbered,
    cited: Cited,
    usage: Option<Usage>,
    /// `messageStop` came.
    stopped: bool,
    stop_reason: Option<String>,
    /// Takes the fence off an object that was only asked for in words.
    unfence: Unfence,
    /// What goes out with the last chunk.
    specific: Specific,
    /// The last chunk is out.
    complete: bool,
}

impl Translator {
    /// A translator for a stream that has not begun.
    pub(super) fn new(context: AnswerContext) -> Self {
        Self {
            context,
            started: false,
            open: BTreeMap::new(),
            closed: Vec::new(),
            native: false,
            calls: 0,
            letters: 0,
            thoughts: Numbered::new(),
            cited: Cited::new(),
            usage: None,
            stopped: false,
            stop_reason: None,
            unfence: Unfence::default(),
            specific: Specific::default(),
            complete: false,
        }
    }

    fn block_start(&mut self, frame: &Map<String, Value>, out: &mut StreamOut) -> Result<()> {
        let Some((name, begun)) = member(frame, "start") else { return Ok(()) };
        let kind = match name {
            "text" => Kind::Text,
            "toolUse" if !is_server_tool(begun) => Kind::Tool(self.calls),
            _ => Kind::Native,
        };
        if let Kind::Tool(index) = kind {
            self.calls += 1;
            let text = |name: &str| begun.get(name).and_then(Value::as_str).unwrap_or_default();
            let function = DeltaFunction { name: Some(text("name")), arguments: "" };
            let first = DeltaToolCall {
                index,
                id: Some(text("toolUseId")),
                r#type: Some("function"),
                function,
                extra_content: None,
            };
            self.send(Delta { tool_calls: Some(&[first]), ..Delta::default() }, out)?;
        }
        if kind == Kind::Native {
            self.begin_native(out)?;
        }
        self.open.insert(index_of(frame), Open::new(kind, name.to_owned(), begun.clone(), self.letters));
        Ok(())
    }

    /// The answer has begun although nothing of this block can be shown yet.
    fn begin_native(&mut self, out: &mut StreamOut) -> Result<()> {
        self.native = true;
        if self.started { Ok(()) } else { self.send(Delta::default(), out) }
    }

    fn block_delta(&mut self, frame: &Map<String, Value>, out: &mut StreamOut) -> Result<()> {
        let index = index_of(frame);
        let Some((name, piece)) = member(frame, "delta") else { return Ok(()) };
        if !self.open.contains_key(&index) {
            let (kind, name) = match name {
                "text" | "citation" => (Kind::Text, "text"),
                "reasoningContent" => (Kind::Thinking, "reasoningContent"),
                "toolUse" => return Err(self.fail("arguments of a call that has not begun")),
                name => (Kind::Native, name),
            };
            if kind == Kind::Native {
                self.begin_native(out)?;
            }
            self.open.insert(index, Open::new(kind, name.to_owned(), Value::Null, self.letters));
        }
        let Some(open) = self.open.get_mut(&index) else { return Ok(()) };
        let kind = open.kind;
        let text = open.add(name, piece);
        out.generated += text.len() as u64;
        match kind {
            _ if text.is_empty() => Ok(()),
            Kind::Text => {
                self.letters += text.chars().count();
                if !self.context.json_object {
                    return self.send(Delta { content: Some(text), ..Delta::default() }, out);
                }
                let bare = self.unfence.push(text);
                if bare.is_empty() {
                    Ok(())
                } else {
                    self.send(Delta { content: Some(&bare), ..Delta::default() }, out)
                }
            }
            Kind::Thinking => self.send(Delta { reasoning_content: Some(text), ..Delta::default() }, out),
            Kind::Tool(call) => self.arguments(call, text, out),
            Kind::Native => Ok(()),
        }
    }

    fn arguments(&mut self, call: u32, arguments: &str, out: &mut StreamOut) -> Result<()> {
        let function = DeltaFunction { name: None, arguments };
        let piece = DeltaToolCall { index: call, id: None, r#type: None, function, extra_content: None };
        self.send(Delta { tool_calls: Some(&[piece]), ..Delta::default() }, out)
    }

    fn block_stop(&mut self, index: u64, out: &mut StreamOut) -> Result<()> {
        let Some(open) = self.open.remove(&index) else { return Ok(()) };
        match open.kind {
            Kind::Thinking => {
                let blocks = self.thoughts.number(open.thinking_blocks());
                if !blocks.is_empty() {
                    self.send(Delta { thinking_blocks: Some(&blocks), ..Delta::default() }, out)?;
                }
            }
            Kind::Tool(call) if open.text.is_empty() => self.arguments(call, "{}", out)?,
            Kind::Text if !open.pieces.is_empty() => self.citations(&open.pieces, (open.start, self.letters), out)?,
            Kind::Text | Kind::Tool(_) | Kind::Native => {}
        }
        self.closed.push(open.into_block());
        Ok(())
    }

    fn citations(&mut self, citations: &[Value], range: (usize, usize), out: &mut StreamOut) -> Result<()> {
        let mut sorted = Citations::default();
        citations.iter().for_each(|citation| cite(citation, range, &mut sorted));
        let (pages, fields) = self.cited.number(sorted);
        let delta =
            Delta { annotations: pages.as_deref(), provider_specific_fields: fields.as_ref(), ..Delta::default() };
        self.send(delta, out)
    }

    fn message_stop(&mut self, frame: &Map<String, Value>, out: &mut StreamOut) -> Result<()> {
        // Some relays leave out the ends of blocks.
        while let Some(index) = self.open.keys().next().copied() {
            self.block_stop(index, out)?;
        }
        self.specific.keep_answer(frame);
        self.stop_reason = frame.get("stopReason").and_then(Value::as_str).map(str::to_owned);
        self.stopped = true;
        out.written = true;
        Ok(())
    }

    fn metadata(&mut self, frame: &Map<String, Value>, out: &mut StreamOut) -> Result<()> {
        self.usage = usage(frame).or(self.usage);
        out.usage = self.usage;
        out.bill = Bill { closed: self.stopped && self.usage.is_some(), ..bill(frame) };
        self.specific.keep_answer(frame);
        // A chunk has no place for the tier; the default one needs none.
        let tier = tier(frame).filter(|tier| *tier != "default").map(Value::from);
        self.specific.keep("service_tier", tier.as_ref());
        if self.stopped { self.finish(out) } else { Ok(()) }
    }

    fn finish(&mut self, out: &mut StreamOut) -> Result<()> {
        let held = self.unfence.finish();
        if !held.is_empty() {
            self.send(Delta { content: Some(&held), ..Delta::default() }, out)?;
        }
        let mut specific = std::mem::take(&mut self.specific);
        if self.native {
            specific.keep("converse_blocks", Some(&Value::Array(std::mem::take(&mut self.closed))));
        }
        let fields = specific.into_fields();
        let finish = finish_reason(self.stop_reason.as_deref(), self.calls > 0);
        let delta = Delta { provider_specific_fields: fields.as_ref(), ..Delta::default() };
        self.choice(delta, Some(finish), out)?;
        if let Some(usage) = self.usage.filter(|_| self.context.include_usage) {
            out.chunk(&self.context, &[], Some(Some(usage.into())))?;
        }
        out.bytes.extend_from_slice(DONE);
        out.done = true;
        self.complete = true;
        Ok(())
    }

    fn fail(&self, cause: impl std::fmt::Display) -> Error {
        protocol(self.context.provider, cause)
    }

    fn send(&mut self, delta: Delta<'_>, out: &mut StreamOut) -> Result<()> {
        self.choice(delta, None, out)
    }

    /// Writes a chunk with one choice; the first one carries the role.
    fn choice(&mut self, mut delta: Delta<'_>, finish: Option<FinishReason>, out: &mut StreamOut) -> Result<()> {
        if !self.started {
            self.started = true;
            delta.role = Some(Assistant::Assistant);
        }
        out.content = true;
        let choice = ChunkChoice { index: 0, delta, logprobs: None, finish_reason: finish };
        let usage = self.context.include_usage.then_some(None);
        out.chunk(&self.context, &[choice], usage)
    }
}

/// The one member of a union that says what it is: a known one, if there is any beside what is not known.
fn member<'f>(frame: &'f Map<String, Value>, union: &str) -> Option<(&'f str, &'f Value)> {
    const KNOWN: &[&str] = &["text", "reasoningContent", "toolUse", "citation", "toolResult"];
    let union = frame.get(union)?.as_object()?;
    let known = union.iter().find(|(name, _)| KNOWN.contains(&name.as_str()));
    known.or_else(|| union.iter().next()).map(|(name, value)| (name.as_str(), value))
}

fn index_of(frame: &Map<String, Value>) -> u64 {
    frame.get("contentBlockIndex").and_then(Value::as_u64).unwrap_or(0)
}

impl StreamTranslator for Translator {
    fn event(&mut self, event: &Event, out: &mut StreamOut) -> Result<()> {
        let name = event.name.as_deref().and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
        if self.complete {
            return Ok(());
        }
        if let Some(kind) = name.strip_prefix(EXCEPTION).or_else(|| name.strip_prefix(ERROR)) {
            return Err(failed(kind, &event.data, self.context.provider));
        }
        let known = ["contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"];
        if !known.contains(&name) {
            return Ok(());
        }
        let frame: Map<String, Value> = serde_json::from_slice(&event.data).map_err(|cause| self.fail(cause))?;
        match name {
            "contentBlockStart" => self.block_start(&frame, out),
            "contentBlockDelta" => self.block_delta(&frame, out),
            "contentBlockStop" => self.block_stop(index_of(&frame), out),
            "messageStop" => self.message_stop(&frame, out),
            _ => self.metadata(&frame, out),
        }
    }

    fn end(&mut self, out: &mut StreamOut) -> End {
        if self.stopped && !self.complete && self.finish(out).is_err() {
            return End::Truncated;
        }
        if self.complete { End::Complete } else { End::Truncated }
    }
}

/// An exception in the stream, with the HTTP status that AWS gives it outside of one.
fn failed(kind: &str, data: &[u8], provider: &'static str) -> Error {
    let status = match kind.to_ascii_lowercase().as_str() {
        "validationexception" => 400,
        "accessdeniedexception" | "unrecognizedclientexception" | "expiredtokenexception" => 403,
        "resourcenotfoundexception" => 404,
        "modeltimeoutexception" => 408,
        "modelerrorexception" | "modelstreamerrorexception" => 424,
        "throttlingexception" | "modelnotreadyexception" | "servicequotaexceededexception" => 429,
        "serviceunavailableexception" => 503,
        _ => 500,
    };
    let mut said = read_error(data);
    said.error_type.get_or_insert_with(|| kind.to_owned());
    event_failure(status, said, provider)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::error::ErrorKind;
    use crate::provider::tests_support::context;

    fn feed(translator: &mut Translator, name: &str, data: &str, out: &mut StreamOut) -> Result<()> {
        let data = Bytes::copy_from_slice(data.as_bytes());
        let name = Some(Bytes::copy_from_slice(name.as_bytes()));
        translator.event(&Event { name, raw: data.clone(), data }, out)
    }

    /// The chunks of a stream, and what the caller learns of it.
    fn run(translator: &mut Translator, events: &[(&str, Value)]) -> (Vec<Value>, StreamOut) {
        let mut out = StreamOut::default();
        for (name, event) in events {
            feed(translator, name, &event.to_string(), &mut out).unwrap();
        }
        let written = String::from_utf8(out.bytes.clone()).unwrap();
        let chunks = written.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap());
        let chunks = chunks.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap());
        (chunks.collect(), out)
    }

    fn translator() -> Translator {
        Translator::new(AnswerContext { include_usage: true, ..context("bedrock") })
    }

    fn start(index: u64, start: &Value) -> (&'static str, Value) {
        ("contentBlockStart", json!({"contentBlockIndex": index, "start": start, "p": "abc"}))
    }

    fn delta(index: u64, delta: &Value) -> (&'static str, Value) {
        ("contentBlockDelta", json!({"contentBlockIndex": index, "delta": delta, "p": "abc"}))
    }

    fn stop(index: u64) -> (&'static str, Value) {
        ("contentBlockStop", json!({"contentBlockIndex": index}))
    }

    fn end(reason: &str) -> [(&'static str, Value); 2] {
        let usage = json!({"inputTokens": 3, "outputTokens": 4, "cacheReadInputTokens": 5, "totalTokens": 12});
        [("messageStop", json!({"stopReason": reason})), ("metadata", json!({"usage": usage}))]
    }

    fn deltas(chunks: &[Value]) -> Vec<Value> {
        chunks.iter().filter_map(|chunk| Some(chunk["choices"].get(0)?["delta"].clone())).collect()
    }

    #[test]
    fn text_arrives_as_it_comes_and_the_end_waits_for_the_usage() {
        let [reason, metadata] = end("end_turn");
        let mut translator = translator();
        let (chunks, out) = run(&mut translator, &[("messageStart", json!({"role": "assistant"}))]);
        assert!(chunks.is_empty() && !out.content);
        let events = [delta(0, &json!({"text": "Grüezi"})), stop(0), ("tomorrow", json!([])), reason];
        let (chunks, out) = run(&mut translator, &events);
        assert_eq!(deltas(&chunks), [json!({"role": "assistant", "content": "Grüezi"})]);
        assert!(out.content && !out.done);
        let (chunks, out) = run(&mut translator, &[metadata]);
        assert_eq!(chunks[0]["choices"][0]["finish_reason"], "stop");
        assert_eq!((&chunks[1]["choices"], &chunks[1]["usage"]["total_tokens"]), (&json!([]), &json!(12)));
        assert!(out.bytes.ends_with(DONE) && out.done);
        assert_eq!(out.usage.unwrap().cached_read, 5);
        assert_eq!(translator.end(&mut StreamOut::default()), End::Complete);
    }

    #[test]
    fn a_stream_without_metadata_is_complete_and_one_without_a_stop_is_not() {
        let [reason, _] = end("max_tokens");
        let mut translator = translator();
        run(&mut translator, &[delta(0, &json!({"text": "a"}))]);
        assert_eq!(translator.end(&mut StreamOut::default()), End::Truncated);
        run(&mut translator, &[reason]);
        let mut out = StreamOut::default();
        assert_eq!(translator.end(&mut out), End::Complete);
        let written = String::from_utf8(out.bytes).unwrap();
        assert!(written.contains(r#""finish_reason":"length""#) && written.ends_with("[DONE]\n\n"));
        assert!(out.done && out.usage.is_none() && !written.contains("total_tokens"));
    }

    #[test]
    fn reasoning_and_a_call_come_in_pieces_and_both_can_be_sent_back() {
        let [reason, metadata] = end("tool_use");
        let (first, second) = (json!({"toolUseId": "one", "name": "f"}), json!({"toolUseId": "two", "name": "g"}));
        let events = [
            delta(0, &json!({"reasoningContent": {"text": "a"}})),
            delta(0, &json!({"reasoningContent": {"text": "b"}})),
            delta(0, &json!({"reasoningContent": {"signature": "sig"}})),
            stop(0),
            delta(1, &json!({"reasoningContent": {"redactedContent": "RXVZ"}})),
            delta(1, &json!({"reasoningContent": {"redactedContent": "Qg=="}})),
            stop(1),
            start(2, &json!({"toolUse": first})),
            delta(2, &json!({"toolUse": {"input": "{\"x\":"}})),
            delta(2, &json!({"toolUse": {"input": "1}"}})),
            stop(2),
            start(3, &json!({"toolUse": second})),
            reason,
            metadata,
        ];
        let (chunks, _) = run(&mut translator(), &events);
        let call = |index: u64, id: &str, name: &str| json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}]});
        let more = |index: u64, text: &str| json!({"tool_calls": [{"index": index, "function": {"arguments": text}}]});
        let thinking = json!({"type": "thinking", "thinking": "ab", "signature": "sig", "index": 0});
        let redacted = json!({"type": "redacted_thinking", "data": "EuYB", "index": 1});
        assert_eq!(
            deltas(&chunks),
            [
                json!({"role": "assistant", "reasoning_content": "a"}),
                json!({"reasoning_content": "b"}),
                json!({"thinking_blocks": [thinking]}),
                json!({"thinking_blocks": [redacted]}),
                call(0, "one", "f"),
                more(0, "{\"x\":"),
                more(0, "1}"),
                call(1, "two", "g"),
                more(1, "{}"),
                json!({}),
            ]
        );
    }

    #[test]
    fn what_a_server_tool_did_comes_whole_with_the_last_chunk() {
        let [reason, metadata] = end("end_turn");
        let call = json!({"toolUseId": "s", "name": "nova_code_interpreter", "type": "server_tool_use"});
        let result = json!({"toolUseId": "s", "status": "success", "type": "nova_code_interpreter_result"});
        let citation = json!({"title": "doc", "location": {"documentChar": {"documentIndex": 0}}});
        let events = [
            start(0, &json!({"toolUse": call})),
            delta(0, &json!({"toolUse": {"input": "{\"snippet\":\"1\"}"}})),
            stop(0),
            start(1, &json!({"toolResult": result})),
            delta(1, &json!({"toolResult": [{"json": {"stdOut": "1"}}]})),
            stop(1),
            delta(2, &json!({"text": "It is 1"})),
            delta(2, &json!({"citation": citation})),
            stop(2),
            reason,
            metadata,
        ];
        let (chunks, _) = run(&mut translator(), &events);
        let (mut call, mut result) = (call, result);
        call["input"] = json!({"snippet": "1"});
        result["content"] = json!([{"json": {"stdOut": "1"}}]);
        let location = &citation["location"];
        let numbered = json!({"title": "doc", "location": location, "start_index": 0, "end_index": 7, "index": 0});
        let cited = json!({"citationsContent": {"content": [{"text": "It is 1"}], "citations": [citation]}});
        let blocks = json!([{"toolUse": call}, {"toolResult": result}, cited]);
        assert_eq!(
            deltas(&chunks),
            [
                json!({"role": "assistant"}),
                json!({"content": "It is 1"}),
                json!({"provider_specific_fields": {"citations": [numbered]}}),
                json!({"provider_specific_fields": {"converse_blocks": blocks}}),
            ]
        );
    }

    #[test]
    fn an_exception_is_an_error_of_its_kind_and_garbage_is_a_protocol_error() {
        use ErrorKind::{ProviderError, ProviderKeyInvalid, ProviderOverloaded, ProviderRateLimited, ProviderTimeout};
        let table = [
            ("exception:internalServerException", ProviderError),
            ("exception:modelStreamErrorException", ProviderError),
            ("exception:validationException", ProviderError),
            ("exception:serviceUnavailableException", ProviderOverloaded),
            ("exception:throttlingException", ProviderRateLimited),
            ("exception:modelTimeoutException", ProviderTimeout),
            ("exception:accessDeniedException", ProviderKeyInvalid),
            ("error:InternalError", ProviderError),
        ];
        for (name, kind) in table {
            let mut out = StreamOut::default();
            let error = feed(&mut translator(), name, r#"{"message":"Slow down"}"#, &mut out).unwrap_err();
            assert_eq!(error.kind(), kind, "{name}");
            assert_eq!(error.message() == "Slow down", kind != ProviderKeyInvalid);
            assert!(out.bytes.is_empty());
        }
        let orphan = delta(5, &json!({"toolUse": {"input": "{"}})).1.to_string();
        for garbage in ["<html>", "[]", &orphan] {
            let error = feed(&mut translator(), "contentBlockDelta", garbage, &mut StreamOut::default()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ProviderProtocol, "{garbage}");
        }
    }
}
