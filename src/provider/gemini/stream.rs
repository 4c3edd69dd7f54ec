//! A stream, event by event: every event is a whole answer of its own that holds what is new.
//!
//! There is no `[DONE]`, and a finish reason may come more than once (before and after Google has run code), so that the
//! end of the connection is the end: complete when every candidate has said why it ended, or the prompt was refused. What
//! is only known then (the reason, citations, what OpenAI has no place for) goes out there.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::read::{Call, Candidate, Piece, logprobs};
use super::response::{block_message, error_in_answer, is_block, text, usage_wire};
use super::usage::{UsageWire, searches};
use crate::api::answer::{Assistant, ChunkChoice, Delta, DeltaFunction, DeltaToolCall, FinishReason};
use crate::error::Result;
use crate::provider::{AnswerContext, End, StreamOut, StreamTranslator, protocol};
use crate::sse::{DONE, Event};
use crate::usage::{Bill, Usage};

/// The translator of one stream.
#[derive(Debug)]
pub(super) struct Translator {
    context: AnswerContext,
    candidates: BTreeMap<u32, State>,
    /// Whether a chunk was written, after which id and model stay.
    started: bool,
    usage: Option<Usage>,
    searches: u64,
    /// Why the prompt was refused.
    blocked: Option<Value>,
    complete: bool,
}

/// One choice.
#[derive(Debug)]
struct State {
    candidate: Candidate,
    /// Whether the role was sent.
    opened: bool,
}

impl Translator {
    /// A translator for a stream that has not begun.
    pub(super) const fn new(context: AnswerContext) -> Self {
        let candidates = BTreeMap::new();
        Self { context, candidates, started: false, usage: None, searches: 0, blocked: None, complete: false }
    }

    fn candidate(&mut self, mut candidate: Map<String, Value>, out: &mut StreamOut) -> Result<()> {
        let index = candidate.get("index").and_then(Value::as_u64).and_then(|index| u32::try_from(index).ok());
        let index = index.unwrap_or(0);
        let mut probabilities = logprobs(&candidate)
            .filter(|tokens| !tokens.is_empty())
            .map(|tokens| json!({"content": tokens, "refusal": null}));
        let state =
            self.candidates.entry(index).or_insert_with(|| State { candidate: Candidate::new(index), opened: false });
        let pieces = state.candidate.absorb(&mut candidate, &self.context.id);
        // An answer may be empty; that it is one is content enough.
        out.content |= state.candidate.is_finished();
        for piece in pieces {
            match piece {
                Piece::Text(text) if text.is_empty() => {}
                Piece::Text(text) => {
                    out.generated += text.len() as u64;
                    let delta = Delta { content: Some(&text), ..Delta::default() };
                    self.choice(index, delta, probabilities.take(), None, out)?;
                }
                Piece::Thought(text) if text.is_empty() => {}
                Piece::Thought(text) => {
                    out.generated += text.len() as u64;
                    let delta = Delta { reasoning_content: Some(&text), ..Delta::default() };
                    self.choice(index, delta, None, None, out)?;
                }
                Piece::Call(call) => self.call(index, &call, out)?,
            }
        }
        match probabilities {
            Some(probabilities) => self.choice(index, Delta::default(), Some(probabilities), None, out),
            None => Ok(()),
        }
    }

    fn call(&mut self, candidate: u32, call: &Call, out: &mut StreamOut) -> Result<()> {
        let Call { index, id, name, arguments, extra_content } = call;
        out.generated += arguments.len() as u64;
        let whole = DeltaToolCall {
            index: *index,
            id: Some(id),
            r#type: Some("function"),
            function: DeltaFunction { name: Some(name), arguments },
            extra_content: extra_content.as_ref(),
        };
        self.choice(candidate, Delta { tool_calls: Some(&[whole]), ..Delta::default() }, None, None, out)
    }

    /// Reads the usage and what it says of the bill; each stands for the whole answer so far. Returns whether there was any.
    fn count(&mut self, frame: &Map<String, Value>, out: &mut StreamOut) -> bool {
        self.searches = self.searches.max(searches(frame));
        let wire = usage_wire(frame);
        let counted = wire.as_ref().and_then(UsageWire::to_usage);
        self.usage = counted.or(self.usage);
        if let Some(wire) = wire {
            out.bill = Bill { closed: out.bill.closed, ..wire.bill() };
        }
        if let Some(usage) = &mut self.usage {
            usage.web_searches = self.searches;
            out.usage = self.usage;
        }
        counted.is_some()
    }

    /// Whether every candidate has said why it ended, or the prompt was refused.
    fn is_over(&self) -> bool {
        match self.candidates.len() {
            0 => self.blocked.is_some(),
            _ => self.candidates.values().all(|state| state.candidate.is_finished()),
        }
    }

    /// Writes the last chunks.
    fn finish(&mut self, out: &mut StreamOut) -> Result<()> {
        if let Some(feedback) = self.blocked.take().filter(|_| self.candidates.is_empty()) {
            let refusal = block_message(&feedback);
            let fields: Map<String, Value> = std::iter::once(("promptFeedback".to_owned(), feedback)).collect();
            let delta = Delta { refusal: Some(&refusal), provider_specific_fields: Some(&fields), ..Delta::default() };
            self.choice(0, delta, None, Some(FinishReason::ContentFilter), out)?;
        }
        let indexes: Vec<u32> = self.candidates.keys().copied().collect();
        for index in indexes {
            let Some(state) = self.candidates.get_mut(&index) else { continue };
            let candidate = std::mem::take(&mut state.candidate);
            let (finish, annotations) = (candidate.finish_reason(), candidate.annotations());
            let refusal = candidate.refusal().map(str::to_owned);
            let fields = candidate.into_fields();
            let delta = Delta {
                refusal: refusal.as_deref(),
                annotations: Some(annotations.as_slice()).filter(|annotations| !annotations.is_empty()),
                provider_specific_fields: fields.as_ref(),
                ..Delta::default()
            };
            self.choice(index, delta, None, Some(finish), out)?;
        }
        if let Some(usage) = self.usage.filter(|_| self.context.include_usage) {
            out.chunk(&self.context, &[], Some(Some(usage.into())))?;
        }
        out.bytes.extend_from_slice(DONE);
        out.done = true;
        self.complete = true;
        Ok(())
    }

    /// Writes a chunk with one choice; the first one of each carries the role.
    fn choice(
        &mut self,
        index: u32,
        mut delta: Delta<'_>,
        logprobs: Option<Value>,
        finish_reason: Option<FinishReason>,
        out: &mut StreamOut,
    ) -> Result<()> {
        let opened = self.candidates.get_mut(&index).map(|state| std::mem::replace(&mut state.opened, true));
        delta.role = (opened != Some(true)).then_some(Assistant::Assistant);
        self.started = true;
        out.content = true;
        let choice = ChunkChoice { index, delta, logprobs, finish_reason };
        let usage = self.context.include_usage.then_some(None);
        out.chunk(&self.context, &[choice], usage)
    }
}

impl StreamTranslator for Translator {
    fn event(&mut self, event: &Event, out: &mut StreamOut) -> Result<()> {
        if self.complete || event.data.is_empty() || event.data.as_ref() == b"[DONE]" {
            return Ok(());
        }
        let provider = self.context.provider;
        let mut frame: Map<String, Value> =
            serde_json::from_slice(&event.data).map_err(|cause| protocol(provider, cause))?;
        if let Some(error) = frame.get("error") {
            return Err(error_in_answer(error, provider));
        }
        if !self.started {
            if let Some(id) = text(&frame, "responseId") {
                id.clone_into(&mut self.context.id);
            }
            if let Some(model) = text(&frame, "modelVersion") {
                model.clone_into(&mut self.context.model);
            }
        }
        let counted = self.count(&frame, out);
        if let Some(feedback) = frame.get("promptFeedback").filter(|feedback| is_block(feedback)) {
            self.blocked = Some(feedback.clone());
            out.content = true;
        }
        if let Some(Value::Array(candidates)) = frame.get_mut("candidates").map(Value::take) {
            for candidate in candidates {
                if let Value::Object(candidate) = candidate {
                    self.candidate(candidate, out)?;
                }
            }
        }
        out.written = self.is_over();
        // Every frame counts what was generated so far.
        out.bill.closed = out.written && (counted || out.bill.closed);
        Ok(())
    }

    fn end(&mut self, out: &mut StreamOut) -> End {
        if self.complete {
            return End::Complete;
        }
        // Writing to memory can't fail; if it did, the stream would be as good as cut.
        if self.is_over() && self.finish(out).is_ok() { End::Complete } else { End::Truncated }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::provider::tests_support::{context, run};

    fn translator(include_usage: bool) -> Translator {
        Translator::new(AnswerContext { include_usage, ..context("gemini") })
    }

    fn chunks(out: &StreamOut) -> Vec<Value> {
        let written = std::str::from_utf8(&out.bytes).unwrap();
        let events = written.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap());
        events.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    fn deltas(out: &StreamOut) -> Vec<Value> {
        chunks(out).iter().map(|chunk| chunk["choices"][0]["delta"].clone()).collect()
    }

    const HI: &str = r#"{"candidates":[{"content":{"parts":[{"text":"Hi"}],"role":"model"},"index":0}],"responseId":"r","modelVersion":"g","usageMetadata":{"promptTokenCount":3,"totalTokenCount":3}}"#;
    const STOP: &str = r#"{"candidates":[{"content":{"parts":[{"text":"!"}],"role":"model"},"finishReason":"STOP","index":0}],"responseId":"r","usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2,"thoughtsTokenCount":4,"totalTokenCount":9}}"#;

    #[test]
    fn text_arrives_as_it_comes_and_the_end_is_the_connections() {
        let (out, end) = run(&mut translator(true), &[HI, STOP]);
        let chunks = chunks(&out);
        assert_eq!(
            chunks[0],
            json!({"id": "r", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "g", "usage": null,
                "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hi"}, "logprobs": null,
                    "finish_reason": null}]})
        );
        assert_eq!(chunks[1]["choices"][0]["delta"], json!({"content": "!"}));
        assert_eq!(chunks[2]["choices"][0]["finish_reason"], "stop");
        assert_eq!((&chunks[3]["choices"], &chunks[3]["usage"]["completion_tokens"]), (&json!([]), &json!(6)));
        assert!(out.bytes.ends_with(DONE) && out.done && out.content);
        assert_eq!((end, out.generated, out.usage.unwrap().total_tokens()), (Ok(End::Complete), 3, 9));
    }

    #[test]
    fn a_stream_without_a_reason_is_cut_and_says_so_nowhere() {
        let (out, end) = run(&mut translator(true), &[HI]);
        assert_eq!(end, Ok(End::Truncated));
        let written = String::from_utf8(out.bytes).unwrap();
        assert!(!out.done && !written.contains("[DONE]") && !written.contains("finish_reason\":\""));
        let (out, end) = run(&mut translator(false), &[r#"{"usageMetadata":{"promptTokenCount":3}}"#]);
        assert_eq!((end, out.content, out.bytes.is_empty()), (Ok(End::Truncated), false, true));
    }

    #[test]
    fn a_reason_in_the_middle_is_not_the_end() {
        let (out, end) = run(&mut translator(false), &[STOP, HI, STOP]);
        assert_eq!(end, Ok(End::Complete));
        let finished = chunks(&out).iter().filter(|chunk| chunk["choices"][0]["finish_reason"] == "stop").count();
        assert_eq!(finished, 1);
        assert_eq!(deltas(&out)[2], json!({"content": "!"}));
    }

    #[test]
    fn calls_come_whole_with_their_signatures_and_the_texts_comes_last() {
        let call = r#"{"responseId":"r","candidates":[{"content":{"parts":[{"text":"Hm","thought":true},{"functionCall":{"name":"f","args":{"a":1}},"thoughtSignature":"S"}]},"index":0}]}"#;
        let end =
            r#"{"candidates":[{"content":{"parts":[{"text":"","thoughtSignature":"T"}]},"finishReason":"STOP"}]}"#;
        let (out, _) = run(&mut translator(false), &[call, end]);
        let function = json!({"name": "f", "arguments": "{\"a\":1}"});
        let signed = json!({"google": {"thought_signature": "S"}});
        assert_eq!(
            deltas(&out),
            [
                json!({"role": "assistant", "reasoning_content": "Hm"}),
                json!({"tool_calls": [{"index": 0, "id": "call_r_0", "type": "function", "function": function, "extra_content": signed}]}),
                json!({"provider_specific_fields": {"thought_signature": "T"}}),
            ]
        );
        assert_eq!(chunks(&out)[2]["choices"][0]["finish_reason"], "tool_calls");
    }

    #[test]
    fn a_refused_prompt_is_a_filtered_answer() {
        let (out, end) = run(&mut translator(false), &[r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#]);
        assert_eq!(end, Ok(End::Complete));
        assert_eq!(chunks(&out)[0]["choices"][0]["finish_reason"], "content_filter");
        assert_eq!(deltas(&out)[0]["refusal"], "SAFETY");
    }

    #[test]
    fn several_candidates_are_several_choices() {
        let both = r#"{"candidates":[{"content":{"parts":[{"text":"a"}]},"index":0,"finishReason":"STOP"},{"content":{"parts":[{"text":"b"}]},"index":1}]}"#;
        let (_, end) = run(&mut translator(false), &[both]);
        assert_eq!(end, Ok(End::Truncated));
        let last = r#"{"candidates":[{"index":1,"finishReason":"MAX_TOKENS"}]}"#;
        let (out, end) = run(&mut translator(false), &[both, last]);
        assert_eq!(end, Ok(End::Complete));
        let finished: Vec<Value> =
            chunks(&out).iter().map(|chunk| chunk["choices"][0]["finish_reason"].clone()).collect();
        assert_eq!(finished, [Value::Null, Value::Null, json!("stop"), json!("length")]);
    }

    #[test]
    fn an_error_event_is_an_error_of_its_kind_and_garbage_is_a_protocol_error() {
        let kind = |data: &str| run(&mut translator(false), &[HI, data]).1.unwrap_err();
        assert_eq!(
            kind(r#"{"error":{"code":503,"message":"x","status":"UNAVAILABLE"}}"#),
            ErrorKind::ProviderOverloaded
        );
        assert_eq!(
            kind(r#"{"error":{"code":400,"message":"x","status":"INVALID_ARGUMENT"}}"#),
            ErrorKind::ProviderError
        );
        assert_eq!(kind("{not json"), ErrorKind::ProviderProtocol);
        assert_eq!(run(&mut translator(false), &[r#"{"of":"tomorrow"}"#, STOP]).1, Ok(End::Complete));
    }
}
