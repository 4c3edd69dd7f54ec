//! Whole answers of OpenAI's dialect: looked at for usage and errors, and forwarded; `choice` tells what may change in them.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use super::choice::ChoiceView;
use super::required::{Identity, Said, present, settle_tier};
use super::splice::Splice;
use super::{Answer, AnswerContext, ProviderMessage, usage};
use crate::error::{Error, Result};
use crate::provider::{event_failure, protocol};

/// What is looked at in an answer; everything else is skipped.
#[derive(Deserialize)]
struct AnswerView<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    object: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    created: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    service_tier: Option<&'a RawValue>,
    #[serde(borrow)]
    choices: Option<Vec<ChoiceView<'a>>>,
    data: Option<Vec<IgnoredAny>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// A chat answer: it must have `choices`, or it is an error.
pub(super) fn chat(body: &Bytes, context: &AnswerContext) -> Result<Answer> {
    let view = view(body, context)?;
    let choices = view.choices.as_deref().unwrap_or_default();
    if choices.is_empty() {
        return Err(protocol(context.provider, "the answer has no choices"));
    }
    let mut splice = Splice::new(body);
    let said = Said { id: view.id, object: view.object, created: view.created, model: view.model };
    Identity::of(&said, context).settle(&said, "chat.completion", &mut splice);
    settle_tier(view.service_tier, &mut splice);
    for (position, choice) in choices.iter().enumerate() {
        choice.check(context.provider)?;
        choice.translate(position, true, &mut splice);
    }
    Ok(answer(body, &view, splice))
}

/// An embeddings answer: it must have `data`.
pub(super) fn embeddings(body: &Bytes, context: &AnswerContext) -> Result<Answer> {
    let view = view(body, context)?;
    if view.data.is_none() {
        return Err(protocol(context.provider, "the answer has no data"));
    }
    let mut splice = Splice::new(body);
    if let Some(usage) = view.usage
        && let Some(total) = usage::lone_total(usage)
        && let Some(inside) = usage.get().strip_suffix('}')
    {
        splice.insert_after(inside, format!(",\"prompt_tokens\":{total}"));
    }
    Ok(answer(body, &view, splice))
}

fn answer(body: &Bytes, view: &AnswerView<'_>, splice: Splice<'_>) -> Answer {
    let usage = view.usage.and_then(usage::read);
    Answer { usage, body: splice.apply().map_or_else(|| body.clone(), Bytes::from) }
}

fn view<'a>(body: &'a Bytes, context: &AnswerContext) -> Result<AnswerView<'a>> {
    let view: AnswerView<'_> = serde_json::from_slice(body).map_err(|cause| protocol(context.provider, cause))?;
    match view.error {
        Some(error) => Err(error_object(error.get(), context.provider)),
        None => Ok(view),
    }
}

/// An error object that came with status 200, in a body or as an event of a stream.
pub(super) fn error_object(error: &str, provider: &'static str) -> Error {
    let value: Value = serde_json::from_str(error).unwrap_or_default();
    event_failure(status_of(&value), said(&value), provider)
}

/// The status that an error object stands for: Groq writes `status_code`, Azure `status`, OpenRouter a numeric `code`.
fn status_of(error: &Value) -> u16 {
    let number = |key: &str| {
        let value = error.get(key)?;
        let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
        u16::try_from(number).ok().filter(|status| (400..600).contains(status))
    };
    if let Some(status) = number("status_code").or_else(|| number("status")).or_else(|| number("code")) {
        return status;
    }
    let word = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
    match (word("code"), word("type")) {
        ("rate_limit_exceeded" | "insufficient_quota", _) | (_, "insufficient_quota" | "rate_limit_error") => 429,
        ("server_is_overloaded" | "slow_down", _) => 503,
        ("invalid_api_key", _) => 401,
        _ => 500,
    }
}

/// What an error body says: the envelope, or what compatible servers put in its place.
pub(super) fn read_error(body: &[u8]) -> ProviderMessage {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    match value.get("error") {
        // xAI and Venice: a text, with its code beside it.
        Some(error @ Value::String(_)) => ProviderMessage { code: said(&value).code, ..said(error) },
        Some(error) => said(error),
        None => said(&value),
    }
}

fn said(error: &Value) -> ProviderMessage {
    let text = |key: &str| match error.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let message = error.as_str().map(str::to_owned).or_else(|| text("message")).or_else(|| text("detail"));
    ProviderMessage {
        // xAI refuses a key with status 400 and OpenAI's words.
        key_invalid: message.as_deref().is_some_and(|message| message.starts_with("Incorrect API key provided")),
        message,
        error_type: text("type"),
        code: text("code"),
        param: text("param"),
        retry_after: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::ErrorKind;
    use crate::provider::tests_support::context;

    #[test]
    fn an_answer_is_forwarded_as_it_is_and_its_usage_read() {
        let body = Bytes::from_static(
            br#"{ "id":"a", "object":"chat.completion", "created":7, "model":"m", "choices":[{"index":0,"finish_reason":"stop",
                "logprobs":null,"message":{"role":"assistant","content":"x","refusal":null},"x":1}], "usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12,
                "prompt_tokens_details":{"cached_tokens":4}}, "unknown": 1e999 }"#,
        );
        let answer = chat(&body, &context("openai")).unwrap();
        assert_eq!(answer.body.as_ptr(), body.as_ptr());
        let usage = answer.usage.unwrap();
        assert_eq!((usage.input, usage.cached_read, usage.output), (6, 4, 2));
    }

    #[test]
    fn what_openai_requires_is_put_in_where_a_provider_leaves_it_out() {
        let body = Bytes::from_static(br#"{"choices":[{"message":{"content":"x"}}],"service_tier":"on_demand"}"#);
        let answer: Value = serde_json::from_slice(&chat(&body, &context("groq")).unwrap().body).unwrap();
        let choice = json!({"index": 0, "finish_reason": "stop", "logprobs": null,
            "message": {"role": "assistant", "content": "x", "refusal": null}});
        let expected = json!({"id": "chatcmpl-test", "object": "chat.completion", "created": 1_700_000_000,
            "model": "model", "choices": [choice], "service_tier": "default"});
        assert_eq!(answer, expected);
    }

    #[test]
    fn what_is_no_completion_is_an_error_even_with_status_200() {
        let kind =
            |body: &'static str| chat(&Bytes::from_static(body.as_bytes()), &context("openai")).unwrap_err().kind();
        assert_eq!(kind("<html>"), ErrorKind::ProviderProtocol);
        assert_eq!(kind("{}"), ErrorKind::ProviderProtocol);
        assert_eq!(kind(r#"{"choices":[]}"#), ErrorKind::ProviderProtocol);
        assert_eq!(kind(r#"{"error":{"message":"no","code":429}}"#), ErrorKind::ProviderRateLimited);
        assert_eq!(kind(r#"{"error":{"message":"no","type":"server_error"}}"#), ErrorKind::ProviderError);
    }

    #[test]
    fn error_bodies_are_read_in_the_shapes_that_exist() {
        let message = |body: &str| read_error(body.as_bytes()).message;
        assert_eq!(message(r#"{"error":{"message":"a"}}"#).as_deref(), Some("a"));
        assert_eq!(message(r#"{"error":"b"}"#).as_deref(), Some("b"));
        assert_eq!(message(r#"{"message":"c"}"#).as_deref(), Some("c"));
        assert_eq!(message(r#"{"detail":"d"}"#).as_deref(), Some("d"));
        assert_eq!(message("<html>"), None);
    }

    #[test]
    fn a_refused_key_is_known_by_its_words_where_the_status_is_another() {
        let said = read_error(br#"{"code":"invalid-argument","error":"Incorrect API key provided. See x.ai"}"#);
        assert!(said.key_invalid);
        assert_eq!(said.code.as_deref(), Some("invalid-argument"));
        assert!(!read_error(br#"{"code":"invalid-argument","error":"Model not found: x"}"#).key_invalid);
    }

    #[test]
    fn an_embeddings_answer_has_the_count_that_openais_schema_requires() {
        let body = Bytes::from_static(br#"{"data":[],"usage":{"total_tokens": 12}}"#);
        let answer = embeddings(&body, &context("voyage")).unwrap();
        assert_eq!(answer.body, r#"{"data":[],"usage":{"total_tokens": 12,"prompt_tokens":12}}"#);
        assert_eq!(answer.usage.unwrap().input, 12);
    }
}
