//! A stream, line by line: each line is an answer's next piece, the last one says `done`. A call comes whole in one line.

use super::response::error_in_answer;
use super::wire::{Line, SaidCall, Text};
use crate::api::answer::{Assistant, ChunkChoice, Delta, DeltaFunction, DeltaToolCall, FinishReason};
use crate::error::Result;
use crate::provider::{AnswerContext, End, StreamOut, StreamTranslator, protocol};
use crate::sse::{DONE, Event};

/// The translator of one stream.
#[derive(Debug)]
pub(super) struct Translator {
    context: AnswerContext,
    /// Whether a line was read; the first one names the model and the time.
    opened: bool,
    /// Whether the role was sent.
    started: bool,
    /// How many calls were made.
    calls: u32,
    complete: bool,
}

impl Translator {
    /// A translator for a stream that has not begun.
    pub(super) const fn new(context: AnswerContext) -> Self {
        Self { context, opened: false, started: false, calls: 0, complete: false }
    }

    fn open(&mut self, line: &Line<'_>) {
        if self.opened {
            return;
        }
        self.opened = true;
        self.context.created = line.created().unwrap_or(self.context.created);
        if let Some(model) = &line.model {
            self.context.model = model.as_str().to_owned();
        }
    }

    fn line(&mut self, mut line: Line<'_>, out: &mut StreamOut) -> Result<()> {
        self.open(&line);
        let mut logprobs = line.take_logprobs();
        if let Some(said) = &line.message {
            let full = |text: &Option<Text<'_>>| text.as_ref().map_or(0, |text| text.as_str().len());
            out.generated += (full(&said.thinking) + full(&said.content)) as u64;
            if let Some(thinking) = said.thinking.as_ref().filter(|_| full(&said.thinking) > 0) {
                self.choice(Delta { reasoning_content: Some(thinking.as_str()), ..Delta::default() }, None, None, out)?;
            }
            if full(&said.content) > 0 || logprobs.is_some() {
                let content = said.content.as_ref().map(Text::as_str);
                self.choice(Delta { content, ..Delta::default() }, logprobs.take(), None, out)?;
            }
            for call in said.tool_calls.iter().flatten() {
                self.call(call, out)?;
            }
        }
        if line.done == Some(true) { self.finish(&line, out) } else { Ok(()) }
    }

    fn call(&mut self, call: &SaidCall<'_>, out: &mut StreamOut) -> Result<()> {
        let id = call.id(&self.context.id, self.calls as usize);
        let arguments = call.arguments();
        let function = DeltaFunction { name: Some(call.function.name.as_str()), arguments: &arguments };
        let piece =
            DeltaToolCall { index: self.calls, id: Some(&id), r#type: Some("function"), function, extra_content: None };
        self.calls += 1;
        out.generated += arguments.len() as u64;
        self.choice(Delta { tool_calls: Some(&[piece]), ..Delta::default() }, None, None, out)
    }

    fn finish(&mut self, line: &Line<'_>, out: &mut StreamOut) -> Result<()> {
        out.usage = line.usage();
        out.bill.closed = out.usage.is_some();
        self.choice(Delta::default(), None, Some(line.finish(self.calls > 0)), out)?;
        if let Some(usage) = out.usage.filter(|_| self.context.include_usage) {
            out.chunk(&self.context, &[], Some(Some(usage.into())))?;
        }
        out.bytes.extend_from_slice(DONE);
        out.done = true;
        self.complete = true;
        Ok(())
    }

    /// Writes a chunk with one choice; the first one carries the role.
    fn choice(
        &mut self,
        mut delta: Delta<'_>,
        logprobs: Option<serde_json::Value>,
        finish_reason: Option<FinishReason>,
        out: &mut StreamOut,
    ) -> Result<()> {
        if !self.started {
            self.started = true;
            delta.role = Some(Assistant::Assistant);
        }
        out.content = true;
        let choice = ChunkChoice { index: 0, delta, logprobs, finish_reason };
        out.chunk(&self.context, &[choice], self.context.include_usage.then_some(None))
    }
}

impl StreamTranslator for Translator {
    fn event(&mut self, event: &Event, out: &mut StreamOut) -> Result<()> {
        if self.complete {
            return Ok(());
        }
        let line: Line<'_> =
            serde_json::from_slice(&event.data).map_err(|cause| protocol(self.context.provider, cause))?;
        if line.error.is_some() {
            return Err(error_in_answer(&event.data, self.context.provider));
        }
        self.line(line, out)
    }

    fn end(&mut self, _out: &mut StreamOut) -> End {
        if self.complete { End::Complete } else { End::Truncated }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::error::ErrorKind;
    use crate::frames::{Decoder, Framing};
    use crate::provider::tests_support::context;

    fn run(lines: &[Value], include_usage: bool) -> (StreamOut, Result<End>) {
        let mut translator = Translator::new(AnswerContext { include_usage, ..context("ollama") });
        let mut decoder = Decoder::new(Framing::NdJson, 1 << 20);
        lines.iter().for_each(|line| decoder.push(format!("{line}\n").as_bytes()));
        let mut out = StreamOut::default();
        while let Some(event) = decoder.next_event().unwrap() {
            if let Err(error) = translator.event(&event, &mut out) {
                return (out, Err(error));
            }
        }
        let end = translator.end(&mut out);
        (out, Ok(end))
    }

    fn chunks(out: &StreamOut) -> Vec<Value> {
        let text = std::str::from_utf8(&out.bytes).unwrap();
        let data = text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    fn said(message: &Value) -> Value {
        json!({"model": "m", "created_at": "2026-08-17T15:59:50Z", "message": message, "done": false})
    }

    fn done(reason: &str) -> Value {
        json!({"message": {"content": ""}, "done": true, "done_reason": reason, "prompt_eval_count": 4, "eval_count": 9})
    }

    #[test]
    fn a_stream_thinks_calls_and_ends_with_its_usage() {
        let call = |name: &str| json!([{"function": {"name": name, "arguments": {"a": 1}}}]);
        let lines = [
            said(&json!({"role": "assistant", "content": ""})),
            said(&json!({"content": "", "thinking": "hm"})),
            said(&json!({"content": "", "tool_calls": call("f")})),
            said(&json!({"content": "", "tool_calls": call("g")})),
            done("stop"),
        ];
        let (out, end) = run(&lines, true);
        assert_eq!(end.unwrap(), End::Complete);
        let chunks = chunks(&out);
        let delta = |at: usize| &chunks[at]["choices"][0]["delta"];
        assert_eq!(*delta(0), json!({"role": "assistant", "reasoning_content": "hm"}));
        assert_eq!(delta(1)["tool_calls"][0]["id"], "call_test_0");
        let second = json!({"index": 1, "id": "call_test_1", "type": "function",
            "function": {"name": "g", "arguments": "{\"a\":1}"}});
        assert_eq!(delta(2)["tool_calls"], json!([second]));
        assert_eq!(chunks[3]["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!((&chunks[4]["usage"]["total_tokens"], &chunks[4]["choices"]), (&json!(13), &json!([])));
        assert!(chunks.iter().all(|chunk| chunk["created"] == chunks[0]["created"] && chunk["model"] == "m"));
        assert!(out.bytes.ends_with(DONE));
    }

    #[test]
    fn the_role_waits_for_content_and_a_connection_that_ends_early_is_seen() {
        let (out, end) = run(&[said(&json!({"role": "assistant", "content": ""}))], false);
        assert!(!out.content && out.bytes.is_empty());
        assert_eq!(end.unwrap(), End::Truncated);
        let (out, end) = run(&[said(&json!({"content": "a"})), json!({"from": "the future"})], false);
        assert!(out.content && !out.done && out.generated == 1);
        assert_eq!(end.unwrap(), End::Truncated);
    }

    #[test]
    fn a_bound_that_came_first_is_told_and_usage_is_booked_unasked() {
        let (out, end) = run(&[said(&json!({"content": "a"})), done("length")], false);
        assert_eq!(end.unwrap(), End::Complete);
        let chunks = chunks(&out);
        assert_eq!(chunks.len(), 2);
        assert_eq!(chunks[1]["choices"][0]["finish_reason"], "length");
        assert_eq!(out.usage.unwrap().total_tokens(), 13);
    }

    #[test]
    fn probabilities_travel_with_their_text() {
        let mut line = said(&json!({"content": "a"}));
        line["logprobs"] = json!([{"token": "a", "logprob": -0.5, "bytes": [97]}]);
        let (out, _) = run(&[line, done("stop")], false);
        let logprobs = &chunks(&out)[0]["choices"][0]["logprobs"];
        assert_eq!(logprobs["content"][0], json!({"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}));
    }

    #[test]
    fn an_error_line_is_an_error() {
        let (out, end) = run(&[json!({"error": "out of memory"})], false);
        assert!(!out.content);
        let error = end.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::ProviderError, "out of memory"));
    }
}
