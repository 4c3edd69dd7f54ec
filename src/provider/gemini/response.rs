//! A whole answer and an error, read.

use std::time::Duration;

use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use super::read::{Call, Candidate, Piece, logprobs};
use super::usage::{UsageWire, searches};
use crate::api::answer::{AnswerFunction, AnswerMessage, AnswerToolCall, ChatCompletion, Choice, FinishReason};
use crate::error::{Error, Result};
use crate::provider::{Answer, AnswerContext, ProviderMessage, event_failure, protocol};
use crate::usage::Usage;

/// Reads a whole answer.
pub(super) fn answer(body: &[u8], context: &AnswerContext) -> Result<Answer> {
    let mut whole: Map<String, Value> =
        serde_json::from_slice(body).map_err(|cause| protocol(context.provider, cause))?;
    if let Some(error) = whole.get("error") {
        return Err(error_in_answer(error, context.provider));
    }
    let web_searches = searches(&whole);
    let id = text(&whole, "responseId").unwrap_or(&context.id).to_owned();
    let mut choices = Vec::new();
    if let Some(Value::Array(candidates)) = whole.get_mut("candidates").map(Value::take) {
        for (at, candidate) in candidates.into_iter().enumerate() {
            let Value::Object(mut candidate) = candidate else { continue };
            let index = candidate.get("index").and_then(Value::as_u64).unwrap_or(at as u64);
            choices.push(choice(u32::try_from(index).unwrap_or(0), &mut candidate, &id));
        }
    }
    if choices.is_empty() {
        let feedback = whole.get("promptFeedback").filter(|feedback| is_block(feedback));
        let feedback = feedback.ok_or_else(|| protocol(context.provider, "neither candidates nor a reason"))?;
        choices.push(blocked(feedback));
    }
    let wire = usage_wire(&whole);
    let usage = wire.as_ref().and_then(UsageWire::to_usage).map(|usage| Usage { web_searches, ..usage });
    let bill = wire.as_ref().map(UsageWire::bill).unwrap_or_default();
    let completion = ChatCompletion {
        model: text(&whole, "modelVersion").unwrap_or(&context.model).to_owned(),
        id,
        object: "chat.completion",
        created: context.created,
        choices,
        usage: usage.unwrap_or_default().into(),
        // Google's standard tier is what OpenAI calls the default one.
        service_tier: wire.and_then(|wire| wire.service_tier).map(|tier| match tier.as_str() {
            "standard" => "default".to_owned(),
            _ => tier,
        }),
    };
    let body = serde_json::to_vec(&completion).map_err(Error::internal)?;
    Ok(Answer { body: body.into(), usage, bill })
}

fn choice(index: u32, candidate: &mut Map<String, Value>, answer: &str) -> Choice {
    let logprobs = logprobs(candidate).map(|content| json!({"content": content, "refusal": null}));
    let mut state = Candidate::new(index);
    let (mut said, mut thought, mut calls) = (String::new(), None::<String>, Vec::new());
    for piece in state.absorb(candidate, answer) {
        match piece {
            Piece::Text(text) => said.push_str(&text),
            Piece::Thought(text) => thought.get_or_insert_default().push_str(&text),
            Piece::Call(Call { index: _, id, name, arguments, extra_content }) => calls.push(AnswerToolCall {
                id,
                r#type: "function",
                function: AnswerFunction { name, arguments },
                extra_content,
            }),
        }
    }
    let finish_reason = state.finish_reason();
    let none = said.is_empty() && (!calls.is_empty() || finish_reason == FinishReason::ContentFilter);
    let message = AnswerMessage {
        content: (!none).then_some(said),
        refusal: state.refusal().map(str::to_owned),
        reasoning_content: thought,
        tool_calls: calls,
        annotations: state.annotations(),
        provider_specific_fields: state.into_fields(),
        ..AnswerMessage::default()
    };
    Choice { index, message, logprobs, finish_reason }
}

/// Whether the prompt was refused.
pub(super) fn is_block(feedback: &Value) -> bool {
    feedback.get("blockReason").is_some_and(|reason| !matches!(reason.as_str(), Some("" | "BLOCK_REASON_UNSPECIFIED")))
}

/// Why a prompt was refused, for the client.
pub(super) fn block_message(feedback: &Value) -> String {
    let said = |name: &str| feedback.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    said("blockReasonMessage").or_else(|| said("blockReason")).unwrap_or("blocked").to_owned()
}

/// The choice that stands for a prompt that was refused.
fn blocked(feedback: &Value) -> Choice {
    let fields: Map<String, Value> = std::iter::once(("promptFeedback".to_owned(), feedback.clone())).collect();
    let message = AnswerMessage {
        refusal: Some(block_message(feedback)),
        provider_specific_fields: Some(fields),
        ..AnswerMessage::default()
    };
    Choice { index: 0, message, logprobs: None, finish_reason: FinishReason::ContentFilter }
}

/// A text member that says something.
pub(super) fn text<'v>(members: &'v Map<String, Value>, name: &str) -> Option<&'v str> {
    members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// The counts of an answer or a chunk.
pub(super) fn usage_wire(members: &Map<String, Value>) -> Option<UsageWire> {
    UsageWire::deserialize(members.get("usageMetadata")?).ok()
}

/// An error object where an answer was expected.
pub(super) fn error_in_answer(error: &Value, provider: &'static str) -> Error {
    let code = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let status = match error.get("status").and_then(Value::as_str) {
        Some("UNAUTHENTICATED") => 401,
        Some("PERMISSION_DENIED") => 403,
        Some("RESOURCE_EXHAUSTED") => 429,
        Some("UNAVAILABLE") => 503,
        Some("DEADLINE_EXCEEDED") => 504,
        _ => code.filter(|code| (400..600).contains(code)).unwrap_or(500),
    };
    event_failure(status, said(error), provider)
}

/// Reads an error body: `{"error": …}`, or a list of one, as streams without `alt=sse` give it.
pub(super) fn read_error(body: &[u8]) -> ProviderMessage {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let value = value.get(0).unwrap_or(&value);
    match value.get("error") {
        Some(Value::String(message)) => {
            let description = value.get("error_description").and_then(Value::as_str).unwrap_or(message);
            ProviderMessage { message: Some(description.to_owned()), ..ProviderMessage::default() }
        }
        Some(error) => said(error),
        None => ProviderMessage::default(),
    }
}

fn said(error: &Value) -> ProviderMessage {
    let of = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let details = error.get("details").and_then(Value::as_array).map_or(&[] as &[Value], Vec::as_slice);
    let reason = details.iter().find_map(|detail| of(detail, "reason"));
    let field = details.iter().find_map(|detail| of(detail.get("fieldViolations")?.get(0)?, "field"));
    let wait = details.iter().find_map(|detail| seconds(detail.get("retryDelay")?.as_str()?));
    let (message, status) = (of(error, "message"), of(error, "status"));
    let bad_key = |text: &str| text.starts_with("API key not valid") || text.starts_with("API key expired");
    let key_invalid = matches!(reason.as_deref(), Some("API_KEY_INVALID" | "ACCESS_TOKEN_EXPIRED"))
        || status.as_deref() == Some("UNAUTHENTICATED")
        || message.as_deref().is_some_and(bad_key);
    let no_model = status.as_deref() == Some("NOT_FOUND")
        && message.as_deref().is_some_and(|text| text.starts_with("models/") || text.starts_with("Publisher Model"));
    ProviderMessage {
        message,
        error_type: status,
        code: if no_model { Some("model_not_found".to_owned()) } else { reason },
        param: if no_model { Some("model".to_owned()) } else { field },
        key_invalid,
        retry_after: wait,
        ..ProviderMessage::default()
    }
}

/// A duration as protobuf writes it: `34.07s`.
fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.strip_suffix('s')?.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::provider::tests_support::context;

    fn read(body: &Value) -> Value {
        serde_json::from_slice(&answer(body.to_string().as_bytes(), &context("gemini")).unwrap().body).unwrap()
    }

    #[test]
    fn an_answer_has_every_key_that_openais_schema_requires() {
        let completion = read(&json!({
            "candidates": [{"content": {"role": "model", "parts": [{"text": "Hm", "thought": true}, {"text": "Hi"}]},
                "finishReason": "STOP", "index": 0}],
            "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 1, "thoughtsTokenCount": 2, "totalTokenCount": 6,
                "serviceTier": "standard"},
            "modelVersion": "gemini-x", "responseId": "r1"}));
        assert_eq!(
            completion,
            json!({"id": "r1", "object": "chat.completion", "created": 1_700_000_000, "model": "gemini-x",
                "service_tier": "default",
                "choices": [{"index": 0, "logprobs": null, "finish_reason": "stop",
                    "message": {"role": "assistant", "content": "Hi", "refusal": null, "reasoning_content": "Hm"}}],
                "usage": {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6,
                    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                    "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 0}}})
        );
    }

    #[test]
    fn calls_have_stable_ids_and_carry_their_signatures() {
        let body = json!({"responseId": "r-1", "candidates": [{"finishReason": "STOP", "content": {"parts": [
            {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "S"},
            {"functionCall": {"name": "g", "id": "own"}}]}}]});
        let choice = &read(&body)["choices"][0];
        assert_eq!((&choice["finish_reason"], &choice["message"]["content"]), (&json!("tool_calls"), &Value::Null));
        assert_eq!(
            choice["message"]["tool_calls"],
            json!([
                {"id": "call_r1_0", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"},
                 "extra_content": {"google": {"thought_signature": "S"}}},
                {"id": "own", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ])
        );
        assert_eq!(read(&body)["choices"][0], *choice);
    }

    #[test]
    fn a_prompt_that_was_refused_is_an_answer_that_was_filtered() {
        let feedback = json!({"blockReason": "PROHIBITED_CONTENT"});
        let completion = read(&json!({"promptFeedback": feedback, "usageMetadata": {"promptTokenCount": 4}}));
        let choice = &completion["choices"][0];
        assert_eq!((&choice["finish_reason"], &choice["message"]["content"]), (&json!("content_filter"), &Value::Null));
        assert_eq!(choice["message"]["refusal"], "PROHIBITED_CONTENT");
        assert_eq!(choice["message"]["provider_specific_fields"], json!({"promptFeedback": feedback}));
        assert_eq!(completion["usage"]["prompt_tokens"], 4);
    }

    #[test]
    fn probabilities_are_given_in_openais_shape() {
        let one = |token: &str, value: f64| json!({"token": token, "logProbability": value, "tokenId": 1});
        let completion = read(&json!({"candidates": [{"content": {"parts": [{"text": "é"}]}, "finishReason": "STOP",
            "logprobsResult": {"chosenCandidates": [one("é", -0.5)],
                "topCandidates": [{"candidates": [one("é", -0.5), one("e", -2.0)]}]}}]}));
        let entry = |token: &str, value: f64| json!({"token": token, "logprob": value, "bytes": token.as_bytes()});
        let mut chosen = entry("é", -0.5);
        chosen["top_logprobs"] = json!([entry("é", -0.5), entry("e", -2.0)]);
        assert_eq!(completion["choices"][0]["logprobs"], json!({"content": [chosen], "refusal": null}));
    }

    #[test]
    fn what_is_no_answer_is_an_error_even_with_status_200() {
        let kind = |body: &str| answer(body.as_bytes(), &context("gemini")).unwrap_err().kind();
        assert_eq!(kind("<html>"), ErrorKind::ProviderProtocol);
        assert_eq!(kind("{}"), ErrorKind::ProviderProtocol);
        assert_eq!(kind(r#"{"candidates":[]}"#), ErrorKind::ProviderProtocol);
        assert_eq!(kind(r#"{"error":{"code":503,"status":"UNAVAILABLE"}}"#), ErrorKind::ProviderOverloaded);
        assert_eq!(kind(r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}"#), ErrorKind::ProviderRateLimited);
    }

    #[test]
    fn an_error_says_how_long_to_wait_and_whether_the_key_is_bad() {
        let wait = json!({"error": {"code": 429, "message": "Quota", "status": "RESOURCE_EXHAUSTED", "details": [
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure"},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}]}});
        let said = read_error(json!([wait]).to_string().as_bytes());
        assert_eq!(said.retry_after, Some(Duration::from_millis(34_500)));
        assert_eq!((said.message.as_deref(), said.error_type.as_deref()), (Some("Quota"), Some("RESOURCE_EXHAUSTED")));
        let reason = json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"});
        let bad = json!({"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT", "details": [reason]}});
        assert!(read_error(bad.to_string().as_bytes()).key_invalid);
        let lost = json!({"error": {"code": 404, "message": "models/x is not found", "status": "NOT_FOUND"}});
        let said = read_error(lost.to_string().as_bytes());
        assert_eq!((said.code.as_deref(), said.param.as_deref()), (Some("model_not_found"), Some("model")));
        assert_eq!(read_error(b"<html>"), ProviderMessage::default());
    }
}
