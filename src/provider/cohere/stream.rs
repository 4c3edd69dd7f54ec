//! A stream, event by event: Cohere's events as OpenAI's chunks.
//!
//! What decides is `type` inside the data, which the `event:` line only repeats. The stream is complete with `message-end`;
//! the `[DONE]` after it says nothing more.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::citation::cite;
use super::response::{said, text_of};
use super::wire::{Ending, Frame, LogProb, logprobs};
use crate::api::answer::{Assistant, ChunkChoice, Delta, DeltaFunction, DeltaToolCall, FinishReason};
use crate::error::{Error, Result};
use crate::provider::citations::{Citations, Cited};
use crate::provider::numbered::Numbered;
use crate::provider::{AnswerContext, End, StreamOut, StreamTranslator, event_failure, protocol};
use crate::sse::{DONE, Event};

/// The translator of one stream.
#[derive(Debug)]
pub(super) struct Translator {
    context: AnswerContext,
    /// Whether the role was sent.
    started: bool,
    /// Calls that have begun and not ended, by Cohere's index.
    open: BTreeMap<u64, OpenCall>,
    /// How many calls were made.
    calls: u32,
    /// Thinking that has begun and not ended, by Cohere's index.
    thinking: BTreeMap<u64, String>,
    thoughts: Numbered,
    cited: Cited,
    /// Items that OpenAI has no place for; they go out with the last chunk.
    others: Vec<Value>,
    complete: bool,
}

#[derive(Clone, Copy, Debug)]
struct OpenCall {
    /// Its number among the answer's calls.
    number: u32,
    /// Whether any of its arguments came.
    has_arguments: bool,
}

impl Translator {
    /// A translator for a stream that has not begun.
    pub(super) const fn new(context: AnswerContext) -> Self {
        Self {
            context,
            started: false,
            open: BTreeMap::new(),
            calls: 0,
            thinking: BTreeMap::new(),
            thoughts: Numbered::new(),
            cited: Cited::new(),
            others: Vec::new(),
            complete: false,
        }
    }

    fn content_start(&mut self, index: u64, item: &Value, out: &mut StreamOut) -> Result<()> {
        match item.get("type").and_then(Value::as_str) {
            Some("thinking") => {
                self.thinking.insert(index, String::new());
            }
            Some("text") | None => {}
            Some(_) => self.others.push(item.clone()),
        }
        self.content(index, item, None, out)
    }

    /// More text or more thinking.
    fn content(&mut self, index: u64, item: &Value, probabilities: Option<Value>, out: &mut StreamOut) -> Result<()> {
        let (text, thinking) = (text_of(item, "text"), text_of(item, "thinking"));
        if !thinking.is_empty() {
            self.thinking.entry(index).or_default().push_str(thinking);
            self.reasoning(thinking, out)?;
        }
        if text.is_empty() && probabilities.is_none() {
            return Ok(());
        }
        out.generated += text.len() as u64;
        self.choice(Delta { content: Some(text), ..Delta::default() }, probabilities, None, out)
    }

    fn reasoning(&mut self, text: &str, out: &mut StreamOut) -> Result<()> {
        out.generated += text.len() as u64;
        self.send(Delta { reasoning_content: Some(text), ..Delta::default() }, out)
    }

    /// Thinking is given whole once more, to be sent back.
    fn content_end(&mut self, index: u64, out: &mut StreamOut) -> Result<()> {
        let Some(thinking) = self.thinking.remove(&index) else { return Ok(()) };
        let blocks = self.thoughts.number(vec![json!({"type": "thinking", "thinking": thinking})]);
        self.send(Delta { thinking_blocks: Some(&blocks), ..Delta::default() }, out)
    }

    fn call_start(&mut self, index: u64, call: &Value, out: &mut StreamOut) -> Result<()> {
        let function = call.get("function").unwrap_or(&Value::Null);
        let (name, arguments) = (text_of(function, "name"), text_of(function, "arguments"));
        let open = OpenCall { number: self.calls, has_arguments: !arguments.is_empty() };
        self.open.insert(index, open);
        self.calls += 1;
        out.generated += (name.len() + arguments.len()) as u64;
        let first = DeltaToolCall {
            extra_content: None,
            index: open.number,
            id: Some(text_of(call, "id")),
            r#type: Some("function"),
            function: DeltaFunction { name: Some(name), arguments },
        };
        self.send(Delta { tool_calls: Some(&[first]), ..Delta::default() }, out)
    }

    fn call_delta(&mut self, index: u64, call: &Value, out: &mut StreamOut) -> Result<()> {
        let Some(open) = self.open.get_mut(&index) else {
            return Err(self.fail("arguments of a call that has not begun"));
        };
        let arguments = call.get("function").map(|function| text_of(function, "arguments")).unwrap_or_default();
        // For a tool without parameters it writes `null`.
        if arguments.is_empty() || (!open.has_arguments && arguments == "null") {
            return Ok(());
        }
        open.has_arguments = true;
        let number = open.number;
        out.generated += arguments.len() as u64;
        self.arguments(number, arguments, out)
    }

    /// A call whose arguments never came has none.
    fn call_end(&mut self, index: u64, out: &mut StreamOut) -> Result<()> {
        match self.open.remove(&index) {
            Some(OpenCall { number, has_arguments: false }) => self.arguments(number, "{}", out),
            _ => Ok(()),
        }
    }

    fn arguments(&mut self, index: u32, arguments: &str, out: &mut StreamOut) -> Result<()> {
        let function = DeltaFunction { name: None, arguments };
        let piece = DeltaToolCall { index, id: None, r#type: None, function, extra_content: None };
        self.send(Delta { tool_calls: Some(&[piece]), ..Delta::default() }, out)
    }

    fn citation(&mut self, citation: Value, out: &mut StreamOut) -> Result<()> {
        let mut citations = Citations::default();
        cite(citation, &mut citations);
        let (pages, fields) = self.cited.number(citations);
        let delta =
            Delta { annotations: pages.as_deref(), provider_specific_fields: fields.as_ref(), ..Delta::default() };
        self.send(delta, out)
    }

    fn finish(&mut self, delta: Value, out: &mut StreamOut) -> Result<()> {
        let end: Ending = serde_json::from_value(delta).map_err(|cause| self.fail(cause))?;
        let usage = end.billed();
        // What an answer cost that ended in an error is owed all the same.
        out.usage = usage.or(out.usage);
        out.bill.closed = usage.is_some();
        let finish = end.finish(self.calls > 0, self.context.provider)?;
        while let Some(index) = self.open.keys().next().copied() {
            self.call_end(index, out)?;
        }
        while let Some(index) = self.thinking.keys().next().copied() {
            self.content_end(index, out)?;
        }
        let mut fields: Map<String, Value> = end.specific();
        if !self.others.is_empty() {
            fields.insert("content".to_owned(), std::mem::take(&mut self.others).into());
        }
        let fields = Some(&fields).filter(|fields| !fields.is_empty());
        self.choice(Delta { provider_specific_fields: fields, ..Delta::default() }, None, Some(finish), out)?;
        if let Some(usage) = usage.filter(|_| self.context.include_usage) {
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
        self.choice(delta, None, None, out)
    }

    /// Writes a chunk with one choice; the first one carries the role.
    fn choice(
        &mut self,
        mut delta: Delta<'_>,
        logprobs: Option<Value>,
        finish_reason: Option<FinishReason>,
        out: &mut StreamOut,
    ) -> Result<()> {
        if !self.started {
            self.started = true;
            delta.role = Some(Assistant::Assistant);
        }
        out.content = true;
        let choice = ChunkChoice { index: 0, delta, logprobs, finish_reason };
        let usage = self.context.include_usage.then_some(None);
        out.chunk(&self.context, &[choice], usage)
    }
}

impl StreamTranslator for Translator {
    fn event(&mut self, event: &Event, out: &mut StreamOut) -> Result<()> {
        if self.complete || event.data.is_empty() || event.data.as_ref() == b"[DONE]" {
            return Ok(());
        }
        let frame: Frame = serde_json::from_slice(&event.data).map_err(|cause| self.fail(cause))?;
        let message = frame.delta.as_ref().and_then(|delta| delta.get("message")).unwrap_or(&Value::Null);
        let part = |name: &str| message.get(name).unwrap_or(&Value::Null);
        match frame.kind.as_str() {
            "message-start" => {
                self.context.id = frame.id.unwrap_or_else(|| self.context.id.clone());
                Ok(())
            }
            "tool-plan-delta" => match text_of(message, "tool_plan") {
                "" => Ok(()),
                plan => self.reasoning(plan, out),
            },
            "content-start" => self.content_start(frame.index, part("content"), out),
            "content-delta" => {
                let pieces = frame.logprobs.as_ref().or_else(|| frame.delta.as_ref()?.get("logprobs"));
                self.content(frame.index, part("content"), pieces.and_then(probabilities), out)
            }
            "content-end" => self.content_end(frame.index, out),
            "tool-call-start" => self.call_start(frame.index, part("tool_calls"), out),
            "tool-call-delta" => self.call_delta(frame.index, part("tool_calls"), out),
            "tool-call-end" => self.call_end(frame.index, out),
            "citation-start" if part("citations").is_object() => self.citation(part("citations").clone(), out),
            "message-end" => self.finish(frame.delta.unwrap_or_else(|| json!({})), out),
            // An error body in the middle of a stream has no type.
            "" if frame.message.as_ref().is_some_and(Value::is_string) => {
                let error = said(&serde_json::from_slice(&event.data).unwrap_or_default());
                Err(event_failure(500, error, self.context.provider))
            }
            "" => Err(self.fail("an event without a type")),
            _ => Ok(()),
        }
    }

    fn end(&mut self, _out: &mut StreamOut) -> End {
        if self.complete { End::Complete } else { End::Truncated }
    }
}

/// The probabilities of a delta: one piece, or a list.
fn probabilities(value: &Value) -> Option<Value> {
    let pieces: Vec<LogProb> = match value {
        Value::Array(_) => serde_json::from_value(value.clone()).ok()?,
        piece => vec![serde_json::from_value(piece.clone()).ok()?],
    };
    logprobs(&pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::provider::tests_support::{context, run};

    const START: &str = r#"{"id":"u","type":"message-start","delta":{"message":{"role":"assistant","content":[],"tool_plan":"","tool_calls":[]}}}"#;

    fn translator(include_usage: bool) -> Translator {
        Translator::new(AnswerContext { include_usage, ..context("cohere") })
    }

    fn content(item: &Value) -> String {
        json!({"type": "content-delta", "index": 0, "delta": {"message": {"content": item}}}).to_string()
    }

    fn end(reason: &str) -> String {
        let usage = json!({"billed_units": {"input_tokens": 3, "output_tokens": 4}});
        json!({"type": "message-end", "delta": {"finish_reason": reason, "usage": usage}}).to_string()
    }

    fn chunks(out: &StreamOut) -> Vec<Value> {
        let text = String::from_utf8(out.bytes.clone()).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
        lines.map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    fn deltas(out: &StreamOut) -> Vec<Value> {
        chunks(out).iter().map(|chunk| chunk["choices"][0]["delta"].clone()).collect()
    }

    #[test]
    fn text_arrives_as_it_comes_and_the_usage_chunk_is_the_last() {
        let begin = r#"{"type":"content-start","index":0,"delta":{"message":{"content":{"type":"text","text":""}}}}"#;
        let text = content(&json!({"text": "Grüezi"}));
        let tomorrow = r#"{"type":"an-event-of-tomorrow","delta":"of another shape"}"#;
        let (out, done) = run(&mut translator(true), &[START, tomorrow, begin, &text, &end("COMPLETE"), "[DONE]"]);
        let chunks = chunks(&out);
        assert_eq!(chunks.len(), 3);
        assert_eq!(
            chunks[0],
            json!({"id": "u", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "model", "usage": null,
                "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Grüezi"}, "logprobs": null,
                    "finish_reason": null}]})
        );
        assert_eq!(chunks[1]["choices"][0]["finish_reason"], "stop");
        assert_eq!((&chunks[2]["choices"], &chunks[2]["usage"]["total_tokens"]), (&json!([]), &json!(7)));
        assert!(out.bytes.ends_with(DONE) && out.done);
        assert_eq!((done, out.generated), (Ok(End::Complete), "Grüezi".len() as u64));
    }

    #[test]
    fn nothing_is_committed_before_the_first_content() {
        let begin = r#"{"type":"content-start","index":0,"delta":{"message":{"content":{"type":"text","text":""}}}}"#;
        let (out, end) = run(&mut translator(false), &[START, begin]);
        assert!(out.bytes.is_empty() && !out.content);
        assert_eq!(end, Ok(End::Truncated));
    }

    #[test]
    fn thinking_ends_with_a_block_that_can_be_sent_back() {
        let begin =
            r#"{"type":"content-start","index":0,"delta":{"message":{"content":{"type":"thinking","thinking":""}}}}"#;
        let stop = r#"{"type":"content-end","index":0}"#;
        let (a, b) = (content(&json!({"thinking": "a"})), content(&json!({"thinking": "b"})));
        let (out, _) = run(&mut translator(false), &[START, begin, &a, &b, stop]);
        assert_eq!(
            deltas(&out),
            [
                json!({"role": "assistant", "reasoning_content": "a"}),
                json!({"reasoning_content": "b"}),
                json!({"thinking_blocks": [{"type": "thinking", "thinking": "ab", "index": 0}]}),
            ]
        );
    }

    #[test]
    fn a_plan_is_reasoning_and_a_call_without_arguments_gets_an_empty_object() {
        let plan = r#"{"type":"tool-plan-delta","delta":{"message":{"tool_plan":"I will"}}}"#;
        let begin = |index: u64, id: &str| {
            let call = json!({"id": id, "type": "function", "function": {"name": "f", "arguments": ""}});
            json!({"type": "tool-call-start", "index": index, "delta": {"message": {"tool_calls": call}}}).to_string()
        };
        let more = r#"{"type":"tool-call-delta","index":0,"delta":{"message":{"tool_calls":{"function":{"arguments":"{\"a\":1}"}}}}}"#;
        let stop = |index: u64| json!({"type": "tool-call-end", "index": index}).to_string();
        let events = [&begin(0, "x"), more, &stop(0), &begin(1, "y"), &stop(1), &end("TOOL_CALL")];
        let events: Vec<&str> = [START, plan].into_iter().chain(events).collect();
        let (out, _) = run(&mut translator(false), &events);
        let first = |index: u64, id: &str| json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": "f", "arguments": ""}}]});
        let piece = |index: u64, text: &str| json!({"tool_calls": [{"index": index, "function": {"arguments": text}}]});
        let expected = [
            json!({"role": "assistant", "reasoning_content": "I will"}),
            first(0, "x"),
            piece(0, "{\"a\":1}"),
            first(1, "y"),
            piece(1, "{}"),
        ];
        assert_eq!(deltas(&out)[..5], expected);
        assert_eq!(chunks(&out)[5]["choices"][0]["finish_reason"], "tool_calls");
        assert!(chunks(&out)[0].get("usage").is_none(), "the client did not ask");
    }

    #[test]
    fn an_end_in_an_error_is_an_error_and_garbage_is_a_protocol_error() {
        let text = content(&json!({"text": "a"}));
        let (out, error) = run(&mut translator(false), &[START, &text, &end("ERROR")]);
        assert_eq!((error, out.usage.unwrap().output), (Err(ErrorKind::ProviderError), 4));
        assert!(!out.done);
        let kind = |event: &str| run(&mut translator(false), &[START, event]).1.unwrap_err();
        assert_eq!(kind(r#"{"id":"x","message":"internal server error"}"#), ErrorKind::ProviderError);
        let alone =
            r#"{"type":"tool-call-delta","index":7,"delta":{"message":{"tool_calls":{"function":{"arguments":"{"}}}}}"#;
        for garbage in ["<html>", "{}", alone] {
            assert_eq!(kind(garbage), ErrorKind::ProviderProtocol, "{garbage}");
        }
    }

    #[test]
    fn probabilities_come_with_their_text() {
        let event = json!({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "a"}}},
            "logprobs": {"token_ids": [1], "text": "a", "logprobs": [-0.5]}});
        let (out, _) = run(&mut translator(false), &[START, &event.to_string()]);
        let entry = json!({"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []});
        assert_eq!(chunks(&out)[0]["choices"][0]["logprobs"]["content"], json!([entry]));
    }
}
