//! A whole answer and an error, read.

use serde_json::{Map, Value};

use super::thinking;
use super::wire::{bill, finish_reason, tier, usage};
use crate::api::answer::{AnswerFunction, AnswerMessage, AnswerToolCall, ChatCompletion, Choice};
use crate::error::{Error, Result};
use crate::provider::anthropic::response::unfence;
use crate::provider::citations::{CITATIONS, Citations, url_citation};
use crate::provider::warnings::is_neutral;
use crate::provider::{Answer, AnswerContext, ProviderMessage, protocol};

/// Reads a whole answer.
pub(super) fn answer(body: &[u8], context: &AnswerContext) -> Result<Answer> {
    let answer: Map<String, Value> = serde_json::from_slice(body).map_err(|cause| protocol(context.provider, cause))?;
    let message = answer.get("output").and_then(|output| output.get("message"));
    let Some(blocks) = message.and_then(|message| message.get("content")).and_then(Value::as_array) else {
        return Err(protocol(context.provider, "an answer without a message"));
    };
    let usage = usage(&answer);
    let mut collected = Collected::default();
    blocks.iter().for_each(|block| collected.block(block));
    let stop_reason = answer.get("stopReason").and_then(Value::as_str);
    let mut specific = Specific::default();
    if collected.native {
        specific.keep("converse_blocks", Some(&Value::Array(blocks.clone())));
    }
    specific.keep(CITATIONS, Some(&Value::Array(collected.citations.others)));
    specific.keep_answer(&answer);
    let empty = collected.text.is_empty() && !collected.calls.is_empty();
    let text = if context.json_object { unfence(&collected.text).to_owned() } else { collected.text };
    let finish_reason = finish_reason(stop_reason, !collected.calls.is_empty());
    let message = AnswerMessage {
        content: (!empty).then_some(text),
        reasoning_content: collected.reasoning,
        thinking_blocks: Some(collected.thinking_blocks).filter(|blocks| !blocks.is_empty()),
        tool_calls: collected.calls,
        annotations: collected.citations.pages,
        provider_specific_fields: specific.into_fields(),
        ..AnswerMessage::default()
    };
    let completion = ChatCompletion {
        id: context.id.clone(),
        object: "chat.completion",
        created: context.created,
        model: context.model.clone(),
        choices: vec![Choice { index: 0, message, logprobs: None, finish_reason }],
        usage: usage.unwrap_or_default().into(),
        service_tier: tier(&answer).map(str::to_owned),
    };
    let body = serde_json::to_vec(&completion).map_err(Error::internal)?;
    Ok(Answer { body: body.into(), usage, bill: bill(&answer) })
}

/// The blocks of an answer, sorted into OpenAI's places.
#[derive(Default)]
struct Collected {
    text: String,
    reasoning: Option<String>,
    thinking_blocks: Vec<Value>,
    calls: Vec<AnswerToolCall>,
    citations: Citations,
    /// Whether a block has no place at OpenAI.
    native: bool,
}

impl Collected {
    fn block(&mut self, block: &Value) {
        if let Some(text) = block.get("text").and_then(Value::as_str) {
            self.text.push_str(text);
        } else if let Some(cited) = block.get("citationsContent") {
            self.cited(cited);
        } else if let Some((block, text)) = block.get("reasoningContent").and_then(thinking::from_converse) {
            if !text.is_empty() {
                self.reasoning.get_or_insert_default().push_str(text);
            }
            self.thinking_blocks.push(block);
        } else if let Some(call) = block.get("toolUse").filter(|call| !is_server_tool(call)) {
            let text = |name: &str| call.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            let arguments = call.get("input").map_or_else(|| "{}".to_owned(), Value::to_string);
            let function = AnswerFunction { name: text("name"), arguments };
            self.calls.push(AnswerToolCall {
                id: text("toolUseId"),
                r#type: "function",
                function,
                extra_content: None,
            });
        } else {
            self.native = true;
        }
    }

    fn cited(&mut self, cited: &Value) {
        let start = self.text.chars().count();
        for text in cited.get("content").and_then(Value::as_array).into_iter().flatten() {
            self.text.push_str(text.get("text").and_then(Value::as_str).unwrap_or_default());
        }
        let end = self.text.chars().count();
        let citations = cited.get("citations").and_then(Value::as_array).into_iter().flatten();
        citations.for_each(|citation| cite(citation, (start, end), &mut self.citations));
    }
}

/// Whether a call was answered by the provider itself.
pub(super) fn is_server_tool(call: &Value) -> bool {
    call.get("type").and_then(Value::as_str) == Some("server_tool_use")
}

/// Sorts a citation of a text that spans these characters of the answer.
pub(super) fn cite(citation: &Value, range: (usize, usize), into: &mut Citations) {
    match citation.pointer("/location/web/url").and_then(Value::as_str) {
        Some(url) => {
            let title = citation.get("title").and_then(Value::as_str).unwrap_or_default();
            into.pages.push(url_citation(url, title, range));
        }
        None => into.add_other(citation.clone(), range),
    }
}

/// Builds `provider_specific_fields`.
#[derive(Debug, Default)]
pub(super) struct Specific(Map<String, Value>);

impl Specific {
    /// Keeps a value that says something.
    pub(super) fn keep(&mut self, name: &str, value: Option<&Value>) {
        if let Some(value) = value.filter(|value| !is_neutral(value)) {
            self.0.insert(name.to_owned(), value.clone());
        }
    }

    /// Keeps what a whole answer, `messageStop` or `metadata` say beyond OpenAI's words: the fields of the model, what a
    /// guardrail did, and the reason of the end where OpenAI's says less.
    pub(super) fn keep_answer(&mut self, members: &Map<String, Value>) {
        self.keep("additional_model_response_fields", members.get("additionalModelResponseFields"));
        self.keep("trace", members.get("trace"));
        let same = |reason: &&Value| !matches!(reason.as_str(), Some("end_turn" | "max_tokens" | "tool_use"));
        self.keep("stop_reason", members.get("stopReason").filter(same));
    }

    /// The fields, if any.
    pub(super) fn into_fields(self) -> Option<Map<String, Value>> {
        Some(self.0).filter(|fields| !fields.is_empty())
    }
}

/// Reads an error body: `{"message"}`, in some services with a capital, or what a proxy in front may say. The type is in a
/// header that is not seen here, seldom in the body; the status says enough.
pub(super) fn read_error(body: &[u8]) -> ProviderMessage {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return ProviderMessage::default();
    };
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let message = ["message", "Message", "error", "detail"].iter().find_map(|name| text(name)).map(str::to_owned);
    let no_model = message.as_deref().is_some_and(|message| {
        message.contains("model identifier is invalid")
            || message.contains("model version has reached the end of its life")
    });
    ProviderMessage {
        // `com.amazon.coral.service#ThrottlingException`
        error_type: text("__type").and_then(|kind| kind.rsplit('#').next()).map(str::to_owned),
        message,
        code: no_model.then(|| "model_not_found".to_owned()),
        param: no_model.then(|| "model".to_owned()),
        key_invalid: false,
        retry_after: None,
        ..ProviderMessage::default()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::api::chat::ChatRequest;
    use crate::api::scan::Body;
    use crate::error::ErrorKind;
    use crate::provider::bedrock::request;
    use crate::provider::tests_support::context;

    fn read(body: &Value) -> Value {
        serde_json::from_slice(&answer(body.to_string().as_bytes(), &context("bedrock")).unwrap().body).unwrap()
    }

    fn said(blocks: &Value, stop_reason: &str) -> Value {
        json!({"output": {"message": {"role": "assistant", "content": blocks}}, "stopReason": stop_reason,
            "usage": {"inputTokens": 3, "outputTokens": 4, "cacheReadInputTokens": 5, "cacheWriteInputTokens": 2, "totalTokens": 14}})
    }

    #[test]
    fn an_answer_has_every_key_that_openais_schema_requires() {
        assert_eq!(
            read(&said(&json!([{"text": "Hel"}, {"text": "lo"}]), "end_turn")),
            json!({"id": "chatcmpl-test", "object": "chat.completion", "created": 1_700_000_000, "model": "model",
                "choices": [{"index": 0, "logprobs": null, "finish_reason": "stop",
                    "message": {"role": "assistant", "content": "Hello", "refusal": null}}],
                "usage": {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14,
                    "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 2, "audio_tokens": 0},
                    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0}}})
        );
    }

    #[test]
    fn a_tool_loop_goes_on_with_its_reasoning_unchanged() {
        let blocks = json!([
            {"reasoningContent": {"reasoningText": {"text": "I need the weather.", "signature": "sig=="}}},
            {"reasoningContent": {"redactedContent": "RXVZQg=="}},
            {"text": "Let me see."},
            {"toolUse": {"toolUseId": "tooluse_1", "name": "weather", "input": {"city": "Bern", "days": 2}}},
        ]);
        let completion = read(&said(&blocks, "tool_use"));
        assert_eq!(completion["choices"][0]["finish_reason"], "tool_calls");
        // The client sends the message back as it came, with the result.
        let message = completion["choices"][0]["message"].clone();
        assert_eq!(message["reasoning_content"], "I need the weather.");
        let second = json!({"model": "m", "reasoning_effort": "low",
            "tools": [{"type": "function", "function": {"name": "weather"}}],
            "messages": [{"role": "user", "content": "q"}, message,
                {"role": "tool", "tool_call_id": "tooluse_1", "content": "sunny"}]});
        let request = ChatRequest::parse(&Body::scan(Bytes::from(second.to_string())).unwrap()).unwrap();
        let made = request::translate(&request, "us.anthropic.claude-sonnet-4-5-20250929-v1:0").unwrap();
        let sent = crate::api::literal::value(&made.request);
        assert_eq!(sent["messages"][1], json!({"role": "assistant", "content": blocks}));
        let result = json!({"toolResult": {"toolUseId": "tooluse_1", "content": [{"text": "sunny"}]}});
        assert_eq!(sent["messages"][2]["content"], json!([result]));
        assert_eq!(sent["additionalModelRequestFields"]["thinking"]["type"], "enabled");
        assert!(made.warnings.into_names().is_empty());
    }

    #[test]
    fn what_openai_has_no_place_for_is_kept_whole_and_sent_back() {
        let blocks = json!([{"text": "a"}, {"blockOfTomorrow": {"x": 1}}]);
        let mut body = said(&blocks, "stop_sequence");
        body["trace"] = json!({"guardrail": {"actionReason": "none"}});
        let completion = read(&body);
        let fields = json!({"converse_blocks": blocks, "trace": body["trace"], "stop_reason": "stop_sequence"});
        let message = &completion["choices"][0]["message"];
        assert_eq!(message["provider_specific_fields"], fields);
        let second = json!({"model": "m", "messages": [{"role": "user", "content": "q"}, message]});
        let request = ChatRequest::parse(&Body::scan(Bytes::from(second.to_string())).unwrap()).unwrap();
        let made = request::translate(&request, "m").unwrap();
        assert_eq!(crate::api::literal::value(&made.request)["messages"][1]["content"], blocks);
    }

    #[test]
    fn the_end_is_told_in_openais_words() {
        let call = json!([{"toolUse": {"toolUseId": "t", "name": "f", "input": {}}}]);
        let table = [
            ("end_turn", "stop"),
            ("stop_sequence", "stop"),
            ("max_tokens", "length"),
            ("model_context_window_exceeded", "length"),
            ("tool_use", "tool_calls"),
            ("guardrail_intervened", "content_filter"),
            ("content_filtered", "content_filter"),
            ("a_reason_of_tomorrow", "stop"),
        ];
        for (reason, expected) in table {
            let choice = &read(&said(&call, reason))["choices"][0];
            assert_eq!((&choice["finish_reason"], &choice["message"]["content"]), (&json!(expected), &Value::Null));
        }
        assert_eq!(read(&said(&json!([]), "end_turn"))["choices"][0]["message"]["content"], "");
    }

    #[test]
    fn garbage_is_a_protocol_error_and_error_bodies_are_read_as_far_as_they_can_be() {
        for garbage in ["", "<html>", "{}", "[]", r#"{"output":{"message":{}}}"#, r#"{"message":"no"}"#] {
            let error = answer(garbage.as_bytes(), &context("bedrock")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ProviderProtocol, "{garbage}");
        }
        let said = read_error(br#"{"message":"The provided model identifier is invalid."}"#);
        assert_eq!((said.code.as_deref(), said.param.as_deref()), (Some("model_not_found"), Some("model")));
        assert_eq!(read_error(br#"{"Message":"Denied"}"#).message.as_deref(), Some("Denied"));
        let said = read_error(br#"{"__type":"com.amazon#ThrottlingException","message":"Slow"}"#);
        assert_eq!(said.error_type.as_deref(), Some("ThrottlingException"));
        for garbage in ["<html>502</html>", "", "null", "[]"] {
            assert_eq!(read_error(garbage.as_bytes()), ProviderMessage::default(), "{garbage}");
        }
    }
}
