//! A whole answer and an error, read.

use serde_json::Value;

use super::wire::{Line, Text};
use crate::api::answer::{AnswerFunction, AnswerMessage, AnswerToolCall, ChatCompletion, Choice};
use crate::error::{Error, Result};
use crate::provider::{Answer, AnswerContext, ProviderMessage, event_failure, protocol};
use crate::usage::Bill;

/// Reads a whole answer.
pub(super) fn answer(body: &[u8], context: &AnswerContext) -> Result<Answer> {
    let mut line: Line<'_> = serde_json::from_slice(body).map_err(|cause| protocol(context.provider, cause))?;
    if line.error.is_some() {
        return Err(error_in_answer(body, context.provider));
    }
    let usage = line.usage();
    let logprobs = line.take_logprobs();
    let Some(said) = &line.message else {
        return Err(protocol(context.provider, "neither a message nor an error"));
    };
    let calls = said.tool_calls.iter().flatten().enumerate().map(|(place, call)| AnswerToolCall {
        extra_content: None,
        id: call.id(&context.id, place),
        r#type: "function",
        function: AnswerFunction {
            name: call.function.name.as_str().to_owned(),
            arguments: call.arguments().into_owned(),
        },
    });
    let tool_calls: Vec<AnswerToolCall> = calls.collect();
    let text = |text: &Option<Text<'_>>| text.as_ref().map(|text| text.as_str().to_owned());
    let message = AnswerMessage {
        content: text(&said.content).filter(|content| !content.is_empty() || tool_calls.is_empty()),
        reasoning_content: text(&said.thinking).filter(|thinking| !thinking.is_empty()),
        tool_calls,
        ..AnswerMessage::default()
    };
    let finish_reason = line.finish(!message.tool_calls.is_empty());
    let completion = ChatCompletion {
        id: context.id.clone(),
        object: "chat.completion",
        created: line.created().unwrap_or(context.created),
        model: text(&line.model).unwrap_or_else(|| context.model.clone()),
        choices: vec![Choice { index: 0, message, logprobs, finish_reason }],
        usage: usage.unwrap_or_default().into(),
        service_tier: None,
    };
    let body = serde_json::to_vec(&completion).map_err(Error::internal)?;
    Ok(Answer { body: body.into(), usage, bill: Bill::default() })
}

/// An error that came with status 200, as the whole body or as a line of a stream.
pub(super) fn error_in_answer(body: &[u8], provider: &'static str) -> Error {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let status = ["status", "StatusCode"].iter().find_map(|name| value.get(name)?.as_u64());
    let status = status.and_then(|status| u16::try_from(status).ok()).filter(|status| (400..600).contains(status));
    event_failure(status.unwrap_or(500), said(&value), provider)
}

/// What an error body says: a text, or an object with a message where a proxy stands before Ollama.
pub(super) fn read_error(body: &[u8]) -> ProviderMessage {
    said(&serde_json::from_slice(body).unwrap_or_default())
}

fn said(body: &Value) -> ProviderMessage {
    let error = body.get("error").unwrap_or(body);
    let message = error.as_str().or_else(|| error.get("message")?.as_str());
    ProviderMessage { message: message.map(str::to_owned), ..ProviderMessage::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::ErrorKind;
    use crate::provider::tests_support::context;

    fn read(body: &Value) -> Result<(Value, Answer)> {
        let answer = answer(body.to_string().as_bytes(), &context("ollama"))?;
        Ok((serde_json::from_slice(&answer.body).unwrap(), answer))
    }

    #[test]
    fn reasoning_text_and_calls_find_their_places() {
        let call = |id: &Value, x: u64| json!({"id": id, "function": {"index": 0, "name": "f", "arguments": {"x": x}}});
        let (got, answer) = read(&json!({"model": "qwen3", "created_at": "2026-08-17T15:59:50.05206Z",
            "message": {"role": "assistant", "content": "", "thinking": "hm",
                "tool_calls": [call(&json!("call_a"), 1), call(&Value::Null, 2)]},
            "done": true, "done_reason": "stop", "prompt_eval_count": 7, "eval_count": 5}))
        .unwrap();
        let choice = &got["choices"][0];
        assert_eq!(choice["message"]["reasoning_content"], "hm");
        assert_eq!(choice["message"]["content"], Value::Null);
        assert_eq!(choice["finish_reason"], "tool_calls");
        let calls = &choice["message"]["tool_calls"];
        assert_eq!((&calls[0]["id"], &calls[1]["id"]), (&json!("call_a"), &json!("call_test_1")));
        assert_eq!(calls[1]["function"], json!({"name": "f", "arguments": "{\"x\":2}"}));
        assert_eq!(got["created"], 1_786_982_390);
        assert_eq!((answer.usage.unwrap().input, answer.usage.unwrap().output), (7, 5));
    }

    #[test]
    fn arguments_are_text_whatever_they_were() {
        let arguments = |value: Value| {
            let call = json!({"function": {"name": "f", "arguments": value}});
            let (got, _) = read(&json!({"message": {"content": "", "tool_calls": [call]}, "done": true})).unwrap();
            got["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"].as_str().unwrap().to_owned()
        };
        assert_eq!(arguments(json!({"a": 1})), "{\"a\":1}");
        assert_eq!(arguments(json!("{\"a\":1}")), "{\"a\":1}");
        assert_eq!(arguments(Value::Null), "{}");
    }

    #[test]
    fn a_prompt_that_was_in_the_cache_counts_nothing_and_no_figures_are_no_usage() {
        let message = json!({"role": "assistant", "content": "hi"});
        let (got, answer) = read(&json!({"message": message, "done": true, "eval_count": 3})).unwrap();
        assert_eq!((answer.usage.unwrap().input, answer.usage.unwrap().output), (0, 3));
        assert_eq!(got["model"], "model");
        let (got, answer) = read(&json!({"message": message, "done": true, "done_reason": "load"})).unwrap();
        assert_eq!((answer.usage, &got["choices"][0]["finish_reason"]), (None, &json!("stop")));
    }

    #[test]
    fn probabilities_have_openais_members() {
        let token = json!({"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "b", "logprob": -2.0}]});
        let (got, _) = read(&json!({"message": {"content": "a"}, "logprobs": [token], "done": true})).unwrap();
        let top = json!([{"token": "b", "logprob": -2.0, "bytes": null}]);
        let content = json!([{"token": "a", "logprob": -0.5, "top_logprobs": top, "bytes": null}]);
        assert_eq!(got["choices"][0]["logprobs"], json!({"content": content, "refusal": null}));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let kind = |body: Value| read(&body).err().unwrap().kind();
        assert_eq!(kind(json!({"error": "model runner has unexpectedly stopped"})), ErrorKind::ProviderError);
        assert_eq!(kind(json!({"error": "busy", "status": 503})), ErrorKind::ProviderOverloaded);
        assert_eq!(kind(json!({"done": true})), ErrorKind::ProviderProtocol);
        let message = |body: &str| read_error(body.as_bytes()).message;
        assert_eq!(message(r#"{"error":"model 'x' not found"}"#).as_deref(), Some("model 'x' not found"));
        assert_eq!(message(r#"{"error":{"message":"a"}}"#).as_deref(), Some("a"));
        assert_eq!(message("404 page not found"), None);
    }
}
