//! Answers: forwarded as they are unless they hold a shape that OpenAI does not have. Whole answers are read here, and what
//! a whole answer and a chunk have in common is decided here.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{FORWARD, error};
use crate::error::{Error, Result};
use crate::provider::citations::CITATIONS;
use crate::provider::numbered::Numbered;
use crate::provider::{Answer, AnswerContext, Dialect as _, ProviderMessage, event_failure, protocol};

/// What is looked at in an answer or a chunk; everything else is skipped.
#[derive(Deserialize)]
pub(super) struct View<'a> {
    #[serde(borrow)]
    object: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) choices: Option<Vec<ChoiceView<'a>>>,
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
    error: Option<IgnoredAny>,
    detail: Option<IgnoredAny>,
}

#[derive(Deserialize)]
pub(super) struct ChoiceView<'a> {
    #[serde(borrow)]
    message: Option<SaidView<'a>>,
    #[serde(borrow)]
    delta: Option<SaidView<'a>>,
    #[serde(borrow)]
    pub(super) finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct SaidView<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    tool_calls: Option<Vec<CallView>>,
}

#[derive(Deserialize)]
struct CallView {
    r#type: Option<IgnoredAny>,
    index: Option<IgnoredAny>,
}

impl<'a> View<'a> {
    /// Reads an answer or a chunk; an error in its place, and a choice that ended in one, are errors.
    pub(super) fn read(body: &'a [u8], context: &AnswerContext) -> Result<Self> {
        let view: Self = serde_json::from_slice(body).map_err(|cause| protocol(context.provider, cause))?;
        let is_error = view.object.as_deref().is_some_and(|object| object.eq_ignore_ascii_case("error"));
        if is_error || view.error.is_some() || (view.detail.is_some() && view.choices.is_none()) {
            return Err(error::in_answer(body, context.provider));
        }
        if view.choices().any(|choice| choice.finish_reason.as_deref() == Some("error")) {
            let message = Some(format!("The provider '{}' broke its answer off with an error.", context.provider));
            return Err(event_failure(
                500,
                ProviderMessage { message, ..ProviderMessage::default() },
                context.provider,
            ));
        }
        Ok(view)
    }

    /// Whether something has a shape that OpenAI does not have.
    pub(super) fn is_foreign(&self) -> bool {
        self.choices().any(|choice| {
            choice.finish_reason.as_deref() == Some("model_length")
                || choice.message.as_ref().is_some_and(|said| said.is_foreign(false))
                || choice.delta.as_ref().is_some_and(|said| said.is_foreign(true))
        })
    }

    fn choices(&self) -> impl Iterator<Item = &ChoiceView<'a>> {
        self.choices.iter().flatten()
    }
}

impl SaidView<'_> {
    fn is_foreign(&self, in_stream: bool) -> bool {
        let lacks = |call: &CallView| call.r#type.is_none() || (in_stream && call.index.is_none());
        self.content.is_some_and(|content| content.get().starts_with('['))
            || self.tool_calls.iter().flatten().any(lacks)
    }
}

/// A whole chat answer.
pub(super) fn chat(body: &Bytes, context: &AnswerContext) -> Result<Answer> {
    let view = View::read(body, context)?;
    let ours = if view.is_foreign() { rewrite(body, context, None)?.into() } else { body.clone() };
    FORWARD.answer(ours, context)
}

/// An error in place of an embeddings answer.
pub(super) fn refuse_errors(body: &[u8], context: &AnswerContext) -> Result<()> {
    View::read(body, context).map(|_| ())
}

/// Counts over a stream what has no place at OpenAI.
#[derive(Debug, Default)]
pub(super) struct Counters {
    citations: Numbered,
    others: Numbered,
}

/// The answer in OpenAI's shapes, or the chunk with the counters of its stream.
pub(super) fn rewrite(body: &[u8], context: &AnswerContext, mut stream: Option<&mut Counters>) -> Result<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(body).map_err(|cause| protocol(context.provider, cause))?;
    let choices = value.get_mut("choices").and_then(Value::as_array_mut);
    for choice in choices.into_iter().flatten().filter_map(Value::as_object_mut) {
        if choice.get("finish_reason").and_then(Value::as_str) == Some("model_length") {
            choice.insert("finish_reason".to_owned(), "length".into());
        }
        if let Some(message) = choice.get_mut("message").and_then(Value::as_object_mut) {
            normalize(message, None);
        }
        if let Some(delta) = choice.get_mut("delta").and_then(Value::as_object_mut) {
            normalize(delta, stream.as_deref_mut());
        }
    }
    serde_json::to_vec(&value).map_err(Error::internal)
}

/// A message, or a delta with the counters of its stream, in OpenAI's shape.
fn normalize(said: &mut Map<String, Value>, stream: Option<&mut Counters>) {
    let in_stream = stream.is_some();
    let calls = said.get_mut("tool_calls").and_then(Value::as_array_mut);
    let mut called = false;
    for (index, call) in calls.into_iter().flatten().enumerate() {
        called = true;
        let Some(call) = call.as_object_mut() else { continue };
        call.entry("type").or_insert_with(|| "function".into());
        if in_stream {
            call.entry("index").or_insert_with(|| index.into());
        }
    }
    let Some(Value::Array(chunks)) = said.get_mut("content").map(Value::take) else { return };
    let Chunks { text, reasoning, mut citations, mut others } = Chunks::sort(chunks);
    if !text.is_empty() || !(in_stream || called) {
        said.insert("content".to_owned(), text.into());
    } else if in_stream {
        said.remove("content");
    }
    if !reasoning.is_empty() {
        said.insert("reasoning_content".to_owned(), reasoning.into());
    }
    if let Some(counters) = stream {
        citations = counters.citations.number(citations);
        others = counters.others.number(others);
    }
    let kept = [(CITATIONS, citations), ("content_chunks", others)].into_iter().filter(|(_, list)| !list.is_empty());
    let fields: Map<String, Value> = kept.map(|(name, list)| (name.to_owned(), list.into())).collect();
    if !fields.is_empty() {
        said.insert("provider_specific_fields".to_owned(), fields.into());
    }
}

/// Content in typed chunks, sorted into OpenAI's places.
#[derive(Default)]
struct Chunks {
    text: String,
    reasoning: String,
    /// References, in Mistral's own form.
    citations: Vec<Value>,
    /// What OpenAI has no place for.
    others: Vec<Value>,
}

impl Chunks {
    fn sort(chunks: Vec<Value>) -> Self {
        let mut sorted = Self::default();
        for chunk in chunks {
            match (chunk.get("type").and_then(Value::as_str), &chunk) {
                (_, Value::String(text)) => sorted.text.push_str(text),
                (Some("text"), _) => sorted.text.push_str(text_of(&chunk)),
                (Some("thinking"), _) => sorted.think(chunk),
                (Some("reference" | "tool_reference"), _) => sorted.citations.push(chunk),
                _ => sorted.others.push(chunk),
            }
        }
        sorted
    }

    /// Reasoning is a list of chunks itself, and was a text once.
    fn think(&mut self, mut chunk: Value) {
        match chunk.get_mut("thinking").map(Value::take) {
            Some(Value::String(text)) => self.reasoning.push_str(&text),
            Some(Value::Array(inner)) => {
                for inner in inner {
                    match inner.get("type").and_then(Value::as_str) {
                        Some("text") => self.reasoning.push_str(text_of(&inner)),
                        _ => self.citations.push(inner),
                    }
                }
            }
            _ => {}
        }
    }
}

fn text_of(chunk: &Value) -> &str {
    chunk.get("text").and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::ErrorKind;
    use crate::provider::tests_support::context;

    fn read(body: &str) -> Value {
        let answer = chat(&Bytes::copy_from_slice(body.as_bytes()), &context("mistral")).unwrap();
        serde_json::from_slice(&answer.body).unwrap()
    }

    #[test]
    fn an_answer_in_openais_shape_is_forwarded_as_the_bytes_it_is() {
        let body = Bytes::from_static(
            br#"{ "id":"a","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"logprobs":null,
                "message":{"role":"assistant","refusal":null,"content":"hi","tool_calls":null},"finish_reason":"stop"}],
                "usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12,"num_cached_tokens":4,
                "prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},
                "completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}} }"#,
        );
        let answer = chat(&body, &context("mistral")).unwrap();
        assert_eq!(answer.body.as_ptr(), body.as_ptr());
        let usage = answer.usage.unwrap();
        assert_eq!((usage.input, usage.cached_read, usage.output), (6, 4, 2));
    }

    #[test]
    fn sound_is_counted_beside_the_prompt() {
        let body = r#"{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,
            "completion_tokens":15,"total_tokens":401,"prompt_tokens_details":{"cached_tokens":9,"audio_tokens":375}}}"#;
        let usage = chat(&Bytes::from_static(body.as_bytes()), &context("mistral")).unwrap().usage.unwrap();
        assert_eq!((usage.input, usage.cached_read, usage.audio_input), (377, 9, 375));
        assert_eq!(usage.total_tokens(), 401);
    }

    #[test]
    fn typed_chunks_become_text_reasoning_and_citations() {
        let answer = read(
            r#"{"choices":[{"index":0,"finish_reason":"model_length","message":{"role":"assistant","content":[
                {"type":"thinking","thinking":[{"type":"text","text":"2+2"},{"type":"reference","reference_ids":[7]}],"closed":true},
                {"type":"text","text":"It is 4"},{"type":"reference","reference_ids":[1,2]},{"type":"text","text":"."},
                {"type":"chunk_of_tomorrow","x":1}]}}]}"#,
        );
        let references =
            json!([{"type": "reference", "reference_ids": [7]}, {"type": "reference", "reference_ids": [1, 2]}]);
        let message = json!({"role": "assistant", "content": "It is 4.", "refusal": null, "reasoning_content": "2+2",
            "provider_specific_fields": {"citations": references, "content_chunks": [{"type": "chunk_of_tomorrow", "x": 1}]}});
        let choice = json!({"index": 0, "finish_reason": "length", "logprobs": null, "message": message});
        assert_eq!(answer["choices"][0], choice);
    }

    #[test]
    fn a_call_has_a_type_and_content_beside_it_is_null() {
        let answer = read(
            r#"{"choices":[{"finish_reason":"tool_calls","message":{"content":[{"type":"thinking","thinking":"hm"}],
                "tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}}]}}]}"#,
        );
        let message = &answer["choices"][0]["message"];
        assert_eq!((&message["content"], &message["reasoning_content"]), (&Value::Null, &json!("hm")));
        assert_eq!(message["tool_calls"][0]["type"], "function");
    }

    #[test]
    fn an_error_in_place_of_an_answer_is_an_error() {
        let kind =
            |body: &'static str| chat(&Bytes::from_static(body.as_bytes()), &context("mistral")).unwrap_err().kind();
        assert_eq!(kind(r#"{"object":"error","message":"x","raw_status_code":429}"#), ErrorKind::ProviderRateLimited);
        assert_eq!(kind(r#"{"detail":"x"}"#), ErrorKind::ProviderError);
        assert_eq!(
            kind(r#"{"choices":[{"message":{"content":"a"},"finish_reason":"error"}]}"#),
            ErrorKind::ProviderError
        );
        assert_eq!(kind(r#"{"choices":[]}"#), ErrorKind::ProviderProtocol);
        assert_eq!(kind("<html>"), ErrorKind::ProviderProtocol);
    }
}
