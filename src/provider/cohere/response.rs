//! A whole answer and an error, read.

use serde_json::{Map, Value};

use super::citation::cite;
use super::wire::{self, CallWire, Said, logprobs};
use crate::api::answer::{AnswerFunction, AnswerMessage, AnswerToolCall, ChatCompletion, Choice};
use crate::error::{Error, Result};
use crate::provider::citations::{CITATIONS, Citations};
use crate::provider::{Answer, AnswerContext, ProviderMessage, event_failure, protocol};
use crate::usage::Bill;

/// Reads a whole answer.
pub(super) fn answer(body: &[u8], context: &AnswerContext) -> Result<Answer> {
    let answer: wire::Answer = serde_json::from_slice(body).map_err(|cause| protocol(context.provider, cause))?;
    let wire::Answer { id, message, end, logprobs: pieces } = answer;
    let said = message.unwrap_or_default();
    let called = said.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty());
    let finish_reason = end.finish(called, context.provider)?;
    if end.finish_reason.is_none() && said.content.is_none() && !called {
        // An error body under a success has nothing but a text.
        let error = read_error(body);
        if error.message.is_some() {
            return Err(event_failure(500, error, context.provider));
        }
        return Err(protocol(context.provider, "neither a message nor an error"));
    }
    let usage = end.billed();
    let completion = ChatCompletion {
        id: id.unwrap_or_else(|| context.id.clone()),
        object: "chat.completion",
        created: context.created,
        model: context.model.clone(),
        choices: vec![Choice {
            index: 0,
            message: message_of(said, end.specific()),
            logprobs: pieces.as_deref().and_then(logprobs),
            finish_reason,
        }],
        usage: usage.unwrap_or_default().into(),
        service_tier: None,
    };
    let body = serde_json::to_vec(&completion).map_err(Error::internal)?;
    Ok(Answer { body: body.into(), usage, bill: Bill::default() })
}

fn message_of(said: Said, mut specific: Map<String, Value>) -> AnswerMessage {
    let Said { content, tool_plan, tool_calls, citations } = said;
    let (mut text, mut reasoning, mut thinking_blocks, mut others) = (String::new(), String::new(), vec![], vec![]);
    for item in content.into_iter().flatten() {
        match item.get("type").and_then(Value::as_str) {
            Some("text") => text.push_str(text_of(&item, "text")),
            Some("thinking") => {
                reasoning.push_str(text_of(&item, "thinking"));
                thinking_blocks.push(item);
            }
            _ => others.push(item),
        }
    }
    // The plan comes after the thinking and before the calls.
    reasoning.push_str(tool_plan.as_deref().unwrap_or_default());
    if !others.is_empty() {
        specific.insert("content".to_owned(), others.into());
    }
    let mut cited = Citations::default();
    citations.into_iter().flatten().for_each(|citation| cite(citation, &mut cited));
    if !cited.others.is_empty() {
        specific.insert(CITATIONS.to_owned(), cited.others.into());
    }
    let tool_calls: Vec<AnswerToolCall> = tool_calls.into_iter().flatten().map(call_of).collect();
    AnswerMessage {
        content: Some(text).filter(|text| !text.is_empty() || tool_calls.is_empty()),
        reasoning_content: Some(reasoning).filter(|text| !text.is_empty()),
        thinking_blocks: Some(thinking_blocks).filter(|blocks| !blocks.is_empty()),
        tool_calls,
        annotations: cited.pages,
        provider_specific_fields: Some(specific).filter(|fields| !fields.is_empty()),
        ..AnswerMessage::default()
    }
}

fn call_of(call: CallWire) -> AnswerToolCall {
    let function = call.function.unwrap_or_default();
    // For a tool without parameters it writes `null`.
    let arguments = function.arguments.filter(|arguments| !matches!(arguments.trim(), "" | "null"));
    AnswerToolCall {
        extra_content: None,
        id: call.id.unwrap_or_default(),
        r#type: "function",
        function: AnswerFunction {
            name: function.name.unwrap_or_default(),
            arguments: arguments.unwrap_or_else(|| "{}".to_owned()),
        },
    }
}

/// A member that is a text, or nothing.
pub(super) fn text_of<'b>(item: &'b Value, name: &str) -> &'b str {
    item.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Reads an error body: Cohere's flat one, or what a proxy in front of it may say.
pub(super) fn read_error(body: &[u8]) -> ProviderMessage {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    said(&value)
}

/// What an error object says.
pub(super) fn said(value: &Value) -> ProviderMessage {
    let nested = value.get("error").and_then(|error| error.get("message"));
    let places = [value.get("message"), nested, value.get("error"), value.get("detail")];
    let message = places.into_iter().flatten().find_map(Value::as_str).map(str::to_owned);
    let no_model = message.as_deref().is_some_and(|text| text.starts_with("model '") && text.contains("not found"));
    ProviderMessage {
        message,
        error_type: value.get("error_type").and_then(Value::as_str).map(str::to_owned),
        code: no_model.then(|| "model_not_found".to_owned()),
        param: no_model.then(|| "model".to_owned()),
        ..ProviderMessage::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::ErrorKind;
    use crate::provider::tests_support::context;

    fn read(body: &Value) -> Value {
        let answer = answer(body.to_string().as_bytes(), &context("cohere")).unwrap();
        serde_json::from_slice(&answer.body).unwrap()
    }

    #[test]
    fn an_answer_has_every_key_that_openais_schema_requires() {
        let usage = json!({"billed_units": {"input_tokens": 3, "output_tokens": 4}, "tokens": {"input_tokens": 70, "output_tokens": 9}});
        let completion =
            read(&json!({"id": "u", "message": {"role": "assistant", "content": [{"type": "text", "text": "Hel"},
            {"type": "text", "text": "lo"}]}, "finish_reason": "COMPLETE", "usage": usage}));
        assert_eq!(
            completion,
            json!({"id": "u", "object": "chat.completion", "created": 1_700_000_000, "model": "model",
                "choices": [{"index": 0, "logprobs": null, "finish_reason": "stop", "message": {"role": "assistant",
                    "content": "Hello", "refusal": null, "provider_specific_fields": {"usage": usage}}}],
                "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7,
                    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0}}})
        );
    }

    #[test]
    fn a_call_without_arguments_has_an_empty_object() {
        for nothing in [json!(""), json!("null"), Value::Null] {
            let call = json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": nothing}});
            let completion = read(&json!({"message": {"tool_calls": [call]}, "finish_reason": "TOOL_CALL"}));
            assert_eq!(completion["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"], "{}");
        }
    }

    #[test]
    fn thinking_and_plan_are_reasoning_and_unknown_items_are_kept() {
        let thought = json!({"type": "thinking", "thinking": "hm. "});
        let call = json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}});
        let completion = read(&json!({"message": {"content": [thought, {"type": "item_of_tomorrow"}],
            "tool_plan": "I will call.", "tool_calls": [call]}, "finish_reason": "TOOL_CALL"}));
        let message = &completion["choices"][0]["message"];
        assert_eq!((&message["content"], &message["reasoning_content"]), (&Value::Null, &json!("hm. I will call.")));
        assert_eq!(message["thinking_blocks"], json!([thought]));
        assert_eq!(message["provider_specific_fields"], json!({"content": [{"type": "item_of_tomorrow"}]}));
    }

    #[test]
    fn an_error_in_place_of_an_answer_is_an_error() {
        let kind = |body: &str| answer(body.as_bytes(), &context("cohere")).unwrap_err().kind();
        assert_eq!(kind(r#"{"message":{"content":[]},"finish_reason":"ERROR"}"#), ErrorKind::ProviderError);
        assert_eq!(kind(r#"{"id":"x","message":"internal server error"}"#), ErrorKind::ProviderError);
        assert_eq!(kind("{}"), ErrorKind::ProviderProtocol);
        assert_eq!(kind("<html>"), ErrorKind::ProviderProtocol);
    }

    #[test]
    fn an_error_body_is_flat() {
        let said = read_error(br#"{"id":"x","message":"model 'y' not found, make sure","error_type":"T"}"#);
        assert_eq!((said.code.as_deref(), said.param.as_deref()), (Some("model_not_found"), Some("model")));
        assert_eq!((said.error_type.as_deref(), said.key_invalid), (Some("T"), false));
        assert_eq!(read_error(b"<html>"), ProviderMessage::default());
    }
}
