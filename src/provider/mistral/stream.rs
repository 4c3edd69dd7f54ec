//! A stream, event by event: what has a shape of its own is rewritten, then OpenAI's forwarder does the rest.
//!
//! Invariant: an event in OpenAI's shape reaches the client as the bytes it came in.

use bytes::Bytes;
use serde_json::Value;

use super::FORWARD;
use super::answer::{Counters, View, rewrite};
use crate::error::{Error, Result};
use crate::provider::{AnswerContext, Dialect as _, End, StreamOut, StreamTranslator, protocol};
use crate::sse::{Event, write_data};

/// The translator of one stream.
pub(super) struct Translator {
    context: AnswerContext,
    counters: Counters,
    forward: Box<dyn StreamTranslator>,
}

impl Translator {
    /// A translator for a stream that has not begun.
    pub(super) fn new(context: AnswerContext) -> Self {
        Self { forward: FORWARD.stream(context.clone()), context, counters: Counters::default() }
    }

    /// The usage in a chunk of its own, as OpenAI sends it to those who asked.
    fn split_usage(&mut self, data: &[u8], out: &mut StreamOut) -> Result<()> {
        let mut chunk: Value = serde_json::from_slice(data).map_err(|cause| protocol(self.context.provider, cause))?;
        let mut last = chunk.clone();
        if let (Some(chunk), Some(last)) = (chunk.as_object_mut(), last.as_object_mut()) {
            chunk.insert("usage".to_owned(), Value::Null);
            last.insert("choices".to_owned(), Value::Array(Vec::new()));
            // Padding against eavesdroppers, which the other chunk keeps.
            last.remove("p");
        }
        self.pass(&chunk, out)?;
        self.pass(&last, out)
    }

    fn pass(&mut self, chunk: &Value, out: &mut StreamOut) -> Result<()> {
        let data = serde_json::to_vec(chunk).map_err(Error::internal)?;
        self.forward.event(&event(data), out)
    }
}

impl StreamTranslator for Translator {
    fn event(&mut self, event: &Event, out: &mut StreamOut) -> Result<()> {
        if event.data.as_ref() == b"[DONE]" {
            return self.forward.event(event, out);
        }
        let view = View::read(&event.data, &self.context)?;
        let ended = view.choices.iter().flatten().any(|choice| choice.finish_reason.is_some());
        let has_usage = view.usage.is_some_and(|usage| usage.get() != "null");
        let counters = Some(&mut self.counters);
        let rewritten = if view.is_foreign() { Some(rewrite(&event.data, &self.context, counters)?) } else { None };
        if ended && has_usage && self.context.include_usage {
            self.split_usage(rewritten.as_deref().unwrap_or(&event.data), out)?;
        } else if let Some(data) = rewritten {
            self.forward.event(&self::event(data), out)?;
        } else {
            self.forward.event(event, out)?;
        }
        Ok(())
    }

    fn end(&mut self, out: &mut StreamOut) -> End {
        self.forward.end(out)
    }
}

/// An event with this data.
fn event(data: Vec<u8>) -> Event {
    let mut raw = Vec::with_capacity(data.len() + 8);
    write_data(&mut raw, &data);
    Event { name: None, data: Bytes::from(data), raw: Bytes::from(raw) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::ErrorKind;
    use crate::provider::tests_support::{context, run};

    const ROLE: &str = r#"{"id":"a","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
    const HELLO: &str = r#"{"id":"a","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}],"p":"abc"}"#;
    const STOP: &str = r#"{"id":"a","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}},"p":"a"}"#;

    fn translator(include_usage: bool) -> Translator {
        Translator::new(AnswerContext { include_usage, ..context("mistral") })
    }

    fn chunks(out: &StreamOut) -> Vec<Value> {
        let text = String::from_utf8(out.bytes.clone()).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
        lines.map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    #[test]
    fn a_stream_is_forwarded_byte_for_byte_with_the_usage_where_it_stood() {
        let (out, end) = run(&mut translator(false), &[ROLE, HELLO, STOP, "[DONE]"]);
        let expected = [ROLE, HELLO, STOP, "[DONE]"].map(|data| format!("data: {data}\n\n")).concat();
        assert_eq!(String::from_utf8(out.bytes).unwrap(), expected);
        assert_eq!((end, out.usage.unwrap().input), (Ok(End::Complete), 3));
    }

    #[test]
    fn who_asked_for_the_usage_chunk_gets_it_in_its_place() {
        let (out, end) = run(&mut translator(true), &[ROLE, HELLO, STOP, "[DONE]"]);
        let chunks = chunks(&out);
        assert_eq!(chunks.len(), 4);
        assert_eq!((&chunks[2]["usage"], &chunks[2]["choices"][0]["finish_reason"]), (&Value::Null, &json!("stop")));
        let usage = json!({"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0}});
        assert_eq!(
            chunks[3],
            json!({"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": usage})
        );
        assert_eq!((end, out.usage.unwrap().output), (Ok(End::Complete), 1));
    }

    #[test]
    fn thinking_chunks_become_reasoning_and_count_as_content() {
        let thinking = r#"{"choices":[{"index":0,"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"Okay"}]}]},"finish_reason":null}]}"#;
        let (out, _) = run(&mut translator(false), &[ROLE, thinking]);
        assert!(out.content && out.generated > 0);
        assert_eq!(chunks(&out)[1]["choices"][0]["delta"], json!({"reasoning_content": "Okay"}));
    }

    #[test]
    fn references_are_numbered_over_the_whole_stream() {
        let piece = |chunk: &str| {
            format!(r#"{{"choices":[{{"index":0,"delta":{{"content":[{chunk}]}},"finish_reason":null}}]}}"#)
        };
        let first = piece(r#"{"type":"text","text":"It is 4"},{"type":"reference","reference_ids":[1]}"#);
        let second = piece(r#"{"type":"reference","reference_ids":[2]},{"type":"chunk_of_tomorrow"}"#);
        let (out, _) = run(&mut translator(false), &[ROLE, &first, &second]);
        let reference = |id: u64, index: u64| json!([{"type": "reference", "reference_ids": [id], "index": index}]);
        let deltas: Vec<Value> =
            chunks(&out).iter().skip(1).map(|chunk| chunk["choices"][0]["delta"].clone()).collect();
        let fields =
            json!({"citations": reference(2, 1), "content_chunks": [{"type": "chunk_of_tomorrow", "index": 0}]});
        let first = json!({"content": "It is 4", "provider_specific_fields": {"citations": reference(1, 0)}});
        assert_eq!(deltas, [first, json!({"provider_specific_fields": fields})]);
    }

    #[test]
    fn a_call_without_a_type_and_an_index_gets_both() {
        let call = r#"{"choices":[{"index":0,"delta":{"content":null,"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}"#;
        let (out, end) = run(&mut translator(false), &[ROLE, call]);
        let call = &chunks(&out)[1]["choices"][0]["delta"]["tool_calls"][0];
        assert_eq!((&call["type"], &call["index"]), (&json!("function"), &json!(0)));
        assert_eq!(end, Ok(End::Complete));
    }

    #[test]
    fn a_stream_that_breaks_off_or_ends_in_an_error_is_never_complete() {
        let (out, end) = run(&mut translator(true), &[ROLE, HELLO]);
        assert_eq!((end, out.done), (Ok(End::Truncated), false));
        let kind = |data: &str| run(&mut translator(false), &[ROLE, data]).1.unwrap_err();
        assert_eq!(kind(r#"{"object":"error","message":"x","raw_status_code":503}"#), ErrorKind::ProviderOverloaded);
        assert_eq!(kind(r#"{"choices":[{"delta":{"content":""},"finish_reason":"error"}]}"#), ErrorKind::ProviderError);
        assert_eq!(kind("{not json"), ErrorKind::ProviderProtocol);
    }
}
