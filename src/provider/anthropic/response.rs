//! A whole answer and an error, read.

use std::ops::AddAssign as _;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::citation::cite;
use super::wire::{BlockHead, Message, Said, StopDetails, Text, called_by_code, finish_reason};
use crate::api::answer::{AnswerFunction, AnswerMessage, AnswerToolCall, ChatCompletion, Choice};
use crate::error::{Error, Result};
use crate::provider::citations::{CITATIONS, Citations};
use crate::provider::warnings::is_neutral;
use crate::provider::{Answer, AnswerContext, ProviderMessage, event_failure, protocol};
use crate::usage::Usage;

/// Reads a whole answer.
pub(super) fn answer(body: &[u8], context: &AnswerContext) -> Result<Answer> {
    let fail = |cause: serde_json::Error| protocol(context.provider, cause);
    let message: Message<'_> = serde_json::from_slice(body).map_err(fail)?;
    if message.error.is_some() {
        return Err(error_in_answer(message.error, context.provider));
    }
    let Some(blocks) = &message.content else {
        return Err(protocol(context.provider, "neither content nor an error"));
    };
    let mut collected = Collected::default();
    for block in blocks {
        collected.block(block).map_err(fail)?;
    }
    let mut said = Said::default();
    if let Some(wire) = &message.usage {
        wire.apply(&mut said);
    }
    let usage = message.usage.as_ref().map(|_| said.usage());
    let completion = complete(&message, collected, usage, context).map_err(fail)?;
    let body = serde_json::to_vec(&completion).map_err(Error::internal)?;
    Ok(Answer { body: body.into(), usage, bill: said.bill })
}

fn complete(
    message: &Message<'_>,
    collected: Collected,
    usage: Option<Usage>,
    context: &AnswerContext,
) -> serde_json::Result<ChatCompletion> {
    let stop_reason = message.stop_reason.as_ref().map(Text::as_str);
    let provider_specific_fields = specific(message, collected.native, collected.citations.others)?;
    let empty = collected.text.is_empty() && (!collected.calls.is_empty() || stop_reason == Some("refusal"));
    let text = if context.json_object { unfence(&collected.text).to_owned() } else { collected.text };
    let finish_reason = finish_reason(stop_reason, !collected.calls.is_empty());
    let answer = AnswerMessage {
        content: (!empty).then_some(text),
        refusal: refusal(stop_reason, message.stop_details.as_ref()),
        reasoning_content: collected.thinking,
        thinking_blocks: Some(collected.thinking_blocks).filter(|blocks| !blocks.is_empty()),
        tool_calls: collected.calls,
        annotations: collected.citations.pages,
        provider_specific_fields,
        ..AnswerMessage::default()
    };
    let tier = message.usage.as_ref().and_then(|usage| usage.service_tier.as_deref());
    Ok(ChatCompletion {
        id: message.id.as_ref().map_or_else(|| context.id.clone(), |id| id.as_str().to_owned()),
        object: "chat.completion",
        created: context.created,
        model: message.model.as_ref().map_or_else(|| context.model.clone(), |model| model.as_str().to_owned()),
        choices: vec![Choice { index: 0, message: answer, logprobs: None, finish_reason }],
        usage: usage.unwrap_or_default().into(),
        // Anthropic's standard tier is what OpenAI calls the default one.
        service_tier: tier.map(|tier| if tier == "standard" { "default" } else { tier }.to_owned()),
    })
}

/// What OpenAI has no place for. The blocks are given whole and in order, because they are only of use together.
fn specific(
    message: &Message<'_>,
    native: bool,
    citations: Vec<Value>,
) -> serde_json::Result<Option<Map<String, Value>>> {
    let mut specific = Specific::default();
    specific.keep(CITATIONS, Some(citations.into()));
    if native {
        let blocks = message.content.iter().flatten().map(|raw| serde_json::from_str(raw.get()));
        specific.keep("content_blocks", Some(Value::Array(blocks.collect::<serde_json::Result<_>>()?)));
    }
    specific.keep("container", message.container.clone());
    specific.keep("context_management", message.context_management.clone());
    specific.keep_stop(message.stop_reason.as_ref().map(Text::as_str), message.stop_sequence.clone());
    specific.keep("server_tool_use", message.usage.as_ref().and_then(|usage| usage.server_tool_use.clone()));
    Ok(specific.into_fields())
}

/// The blocks of an answer, sorted into OpenAI's places.
#[derive(Default)]
struct Collected {
    text: String,
    /// Characters of `text`, in which OpenAI counts the range of a citation.
    letters: usize,
    thinking: Option<String>,
    thinking_blocks: Vec<Value>,
    calls: Vec<AnswerToolCall>,
    citations: Citations,
    /// Whether a block has no place at OpenAI.
    native: bool,
}

impl Collected {
    fn block(&mut self, raw: &RawValue) -> serde_json::Result<()> {
        let head: BlockHead<'_> = serde_json::from_str(raw.get())?;
        match head.kind.as_str() {
            "text" => self.text(head),
            "thinking" => {
                let text = head.thinking.as_ref().map_or("", Text::as_str);
                self.thinking.get_or_insert_default().push_str(text);
                self.thinking_blocks.push(serde_json::from_str(raw.get())?);
            }
            "redacted_thinking" => self.thinking_blocks.push(serde_json::from_str(raw.get())?),
            "tool_use" => {
                self.native |= called_by_code(head.caller.as_ref());
                let owned = |text: Option<Text<'_>>| text.map(|text| text.0.into_owned()).unwrap_or_default();
                let arguments = head.input.map_or("{}", RawValue::get).to_owned();
                let function = AnswerFunction { name: owned(head.name), arguments };
                self.calls.push(AnswerToolCall {
                    id: owned(head.id),
                    r#type: "function",
                    function,
                    extra_content: None,
                });
            }
            _ => self.native = true,
        }
        Ok(())
    }

    fn text(&mut self, head: BlockHead<'_>) {
        let start = self.letters;
        let text = head.text.as_ref().map_or("", Text::as_str);
        self.letters.add_assign(text.chars().count());
        self.text.push_str(text);
        let range = (start, self.letters);
        head.citations.into_iter().flatten().for_each(|citation| cite(citation, range, &mut self.citations));
    }
}

/// Builds `provider_specific_fields`.
#[derive(Debug, Default)]
pub(super) struct Specific(Map<String, Value>);

impl Specific {
    /// Keeps a value that says something.
    pub(super) fn keep(&mut self, name: &str, value: Option<Value>) {
        let says_nothing = |value: &Value| {
            is_neutral(value) || value.as_object().is_some_and(|members| members.values().all(is_neutral))
        };
        if let Some(value) = value.filter(|value| !says_nothing(value)) {
            self.0.insert(name.to_owned(), value);
        }
    }

    /// Keeps the reason of the end where OpenAI's word says less.
    pub(super) fn keep_stop(&mut self, reason: Option<&str>, sequence: Option<Value>) {
        let same = matches!(reason, None | Some("end_turn" | "max_tokens" | "tool_use" | "refusal"));
        self.keep("stop_reason", reason.filter(|_| !same).map(Value::from));
        self.keep("stop_sequence", sequence);
    }

    /// The fields, if any.
    pub(super) fn into_fields(self) -> Option<Map<String, Value>> {
        Some(self.0).filter(|fields| !fields.is_empty())
    }
}

/// The text of a refusal, where Anthropic explains it.
pub(super) fn refusal(stop_reason: Option<&str>, details: Option<&StopDetails>) -> Option<String> {
    details.filter(|_| stop_reason == Some("refusal"))?.explanation.clone()
}

/// An emulated JSON object without the Markdown fence that some models put around it.
pub(in crate::provider) fn unfence(text: &str) -> &str {
    let inner = || {
        let inner = text.trim().strip_prefix("```")?.strip_suffix("```")?;
        let inner = inner.strip_prefix("json").unwrap_or(inner).trim();
        inner.starts_with('{').then_some(inner)
    };
    inner().unwrap_or(text)
}

/// The error object, as far as it is one.
#[derive(Default, Deserialize)]
struct ErrorWire {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    message: Option<String>,
    /// Google's, in front of the same models: the HTTP status.
    #[serde(default)]
    code: Option<Value>,
}

/// An error where an answer was expected.
pub(super) fn error_in_answer(error: Option<&RawValue>, provider: &'static str) -> Error {
    let wire: ErrorWire = error.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    let googles = wire.code.as_ref().and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let status = match googles.filter(|code| wire.kind.is_none() && (400..600).contains(code)) {
        Some(code) => code,
        None => status_of(wire.kind.as_deref()),
    };
    event_failure(status, said(wire), provider)
}

/// The HTTP status that Anthropic gives an error of this type.
fn status_of(kind: Option<&str>) -> u16 {
    match kind {
        Some("invalid_request_error") => 400,
        Some("authentication_error") => 401,
        Some("billing_error") => 402,
        Some("permission_error") => 403,
        Some("not_found_error") => 404,
        Some("request_too_large") => 413,
        Some("rate_limit_error") => 429,
        Some("timeout_error") => 504,
        Some("overloaded_error") => 529,
        _ => 500,
    }
}

fn said(wire: ErrorWire) -> ProviderMessage {
    let ErrorWire { kind, message, code: _ } = wire;
    let no_model = kind.as_deref() == Some("not_found_error")
        && message.as_deref().is_some_and(|message| message.starts_with("model:"));
    ProviderMessage {
        message,
        key_invalid: kind.as_deref() == Some("authentication_error"),
        error_type: kind,
        code: no_model.then(|| "model_not_found".to_owned()),
        param: no_model.then(|| "model".to_owned()),
        retry_after: None,
        ..ProviderMessage::default()
    }
}

/// Reads an error body: Anthropic's, or what a proxy in front of it may say.
pub(super) fn read_error(body: &[u8]) -> ProviderMessage {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return ProviderMessage::default();
    };
    if let Some(wire) = value.get("error").and_then(|error| ErrorWire::deserialize(error).ok()) {
        return said(wire);
    }
    let text = ["error", "message", "detail"].iter().find_map(|name| value.get(name).and_then(Value::as_str));
    ProviderMessage { message: text.map(str::to_owned), ..ProviderMessage::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::ErrorKind;

    fn context() -> AnswerContext {
        AnswerContext {
            provider: "anthropic",
            id: "chatcmpl-ours".to_owned(),
            created: 7,
            model: "ours".to_owned(),
            include_usage: false,
            json_object: false,
        }
    }

    fn read(body: &str) -> Value {
        serde_json::from_slice(&answer(body.as_bytes(), &context()).unwrap().body).unwrap()
    }

    #[test]
    fn an_error_of_googles_in_front_of_the_model_keeps_its_status() {
        let error =
            RawValue::from_string(r#"{"code":429,"message":"Quota exceeded","status":"RESOURCE_EXHAUSTED"}"#.into());
        let error = error_in_answer(Some(&error.unwrap()), "vertex");
        assert_eq!(error.kind(), crate::error::ErrorKind::ProviderRateLimited);
        assert_eq!(error.message(), "Quota exceeded");
    }

    #[test]
    fn an_answer_has_every_key_that_openais_schema_requires() {
        let completion = read(
            r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","stop_reason":"end_turn","stop_sequence":null,
                "content":[{"type":"text","text":"Hel"},{"type":"text","text":"lo"}],
                "usage":{"input_tokens":3,"cache_read_input_tokens":5,"cache_creation_input_tokens":2,"output_tokens":4,"service_tier":"standard"}}"#,
        );
        assert_eq!(
            completion,
            json!({"id": "msg_1", "object": "chat.completion", "created": 7, "model": "claude-x", "service_tier": "default",
                "choices": [{"index": 0, "logprobs": null, "finish_reason": "stop",
                    "message": {"role": "assistant", "content": "Hello", "refusal": null}}],
                "usage": {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14,
                    "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 2, "audio_tokens": 0},
                    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0}}})
        );
    }

    #[test]
    fn arguments_are_the_providers_own_text_and_content_is_null_beside_calls() {
        let completion = read(
            r#"{"content":[{"type":"tool_use","id":"t","name":"f","input":{"n": 12345678901234567890123}}],"stop_reason":"tool_use"}"#,
        );
        let choice = &completion["choices"][0];
        assert_eq!(choice["message"]["content"], Value::Null);
        assert_eq!(choice["message"]["tool_calls"][0]["function"]["arguments"], r#"{"n": 12345678901234567890123}"#);
        assert_eq!(choice["finish_reason"], "tool_calls");
        assert_eq!(completion["id"], "chatcmpl-ours");
    }

    #[test]
    fn what_openai_has_no_place_for_is_kept_whole_and_in_order() {
        let completion = read(
            r#"{"content":[{"type":"text","text":"a"},{"type":"block_of_tomorrow","x":1}],"stop_reason":"stop_sequence",
                "stop_sequence":"END","container":{"id":"c"}}"#,
        );
        assert_eq!(
            completion["choices"][0]["message"]["provider_specific_fields"],
            json!({"content_blocks": [{"type": "text", "text": "a"}, {"type": "block_of_tomorrow", "x": 1}],
                "container": {"id": "c"}, "stop_reason": "stop_sequence", "stop_sequence": "END"})
        );
    }

    #[test]
    fn an_empty_answer_is_an_answer_and_a_refusal_is_explained() {
        let completion = read(r#"{"content":[],"stop_reason":"end_turn"}"#);
        assert_eq!(completion["choices"][0]["message"]["content"], "");
        let completion =
            read(r#"{"content":[],"stop_reason":"refusal","stop_details":{"type":"refusal","explanation":"No."}}"#);
        let choice = &completion["choices"][0];
        assert_eq!(choice["finish_reason"], "content_filter");
        assert_eq!((&choice["message"]["content"], &choice["message"]["refusal"]), (&Value::Null, &json!("No.")));
    }

    #[test]
    fn a_fence_is_taken_off_only_where_json_was_asked_for() {
        let body = r#"{"content":[{"type":"text","text":"```json\n{\"a\": 1}\n```"}],"stop_reason":"end_turn"}"#;
        assert!(read(body)["choices"][0]["message"]["content"].as_str().unwrap().starts_with("```"));
        let asked = AnswerContext { json_object: true, ..context() };
        let completion: Value = serde_json::from_slice(&answer(body.as_bytes(), &asked).unwrap().body).unwrap();
        assert_eq!(completion["choices"][0]["message"]["content"], "{\"a\": 1}");
        assert_eq!(unfence("```\nlet a;\n```"), "```\nlet a;\n```");
    }

    #[test]
    fn an_error_in_place_of_an_answer_may_be_tried_elsewhere_unless_it_is_about_the_key() {
        let table = [
            ("invalid_request_error", ErrorKind::ProviderError),
            ("authentication_error", ErrorKind::ProviderKeyInvalid),
            ("billing_error", ErrorKind::ProviderRateLimited),
            ("permission_error", ErrorKind::ProviderKeyInvalid),
            ("not_found_error", ErrorKind::ProviderError),
            ("request_too_large", ErrorKind::ProviderError),
            ("rate_limit_error", ErrorKind::ProviderRateLimited),
            ("timeout_error", ErrorKind::ProviderTimeout),
            ("api_error", ErrorKind::ProviderError),
            ("overloaded_error", ErrorKind::ProviderOverloaded),
            ("an_error_of_tomorrow", ErrorKind::ProviderError),
        ];
        for (name, kind) in table {
            let body = json!({"type": "error", "error": {"type": name, "message": "the key sk-1 is bad"}}).to_string();
            let error = answer(body.as_bytes(), &context()).unwrap_err();
            assert_eq!(error.kind(), kind, "{name}");
            assert_eq!(error.message().contains("sk-1"), kind != ErrorKind::ProviderKeyInvalid);
        }
        for garbage in ["", "<html>", "{}", "[]", r#"{"content":"text"}"#, r#"{"content":[1]}"#] {
            assert_eq!(answer(garbage.as_bytes(), &context()).unwrap_err().kind(), ErrorKind::ProviderProtocol);
        }
    }

    #[test]
    fn error_bodies_are_read_as_far_as_they_can_be() {
        let said =
            read_error(br#"{"type":"error","error":{"type":"not_found_error","message":"model: x"},"request_id":"r"}"#);
        assert_eq!(said.message.as_deref(), Some("model: x"));
        assert_eq!(said.error_type.as_deref(), Some("not_found_error"));
        assert_eq!((said.code.as_deref(), said.param.as_deref()), (Some("model_not_found"), Some("model")));
        assert_eq!(read_error(br#"{"error":"nope"}"#).message.as_deref(), Some("nope"));
        assert_eq!(read_error(br#"{"detail":"gone"}"#).message.as_deref(), Some("gone"));
        for garbage in ["<html>502</html>", "", "null", r#"{"error":{"message":{}}}"#] {
            assert_eq!(read_error(garbage.as_bytes()), ProviderMessage::default(), "{garbage}");
        }
    }
}
