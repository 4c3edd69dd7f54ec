//! Whole answers of OpenAI's dialect: looked at for usage and errors, forwarded as they are.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Answer, AnswerContext, ProviderMessage};
use crate::api::answer::WireUsage;
use crate::error::{Error, Result};
use crate::provider::{event_failure, protocol};

/// What is looked at in an answer; everything else is skipped.
#[derive(Deserialize)]
struct AnswerView<'a> {
    choices: Option<Vec<IgnoredAny>>,
    data: Option<Vec<IgnoredAny>>,
    usage: Option<WireUsage>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// A chat answer: it must have `choices`, or it is an error.
pub(super) fn chat(body: Bytes, context: &AnswerContext) -> Result<Answer> {
    let view = view(&body, context)?;
    if view.choices.is_none_or(|choices| choices.is_empty()) {
        return Err(protocol(context.provider, "the answer has no choices"));
    }
    let usage = view.usage.map(WireUsage::to_usage);
    Ok(Answer { usage, body })
}

/// An embeddings answer: it must have `data`.
pub(super) fn embeddings(body: Bytes, context: &AnswerContext) -> Result<Answer> {
    let view = view(&body, context)?;
    if view.data.is_none() {
        return Err(protocol(context.provider, "the answer has no data"));
    }
    let usage = view.usage.map(WireUsage::to_usage);
    Ok(Answer { usage, body })
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
        Some(Value::String(message)) => {
            ProviderMessage { message: Some(message.clone()), ..ProviderMessage::default() }
        }
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
    ProviderMessage {
        message: text("message").or_else(|| text("detail")),
        error_type: text("type"),
        code: text("code"),
        param: text("param"),
        key_invalid: false,
        retry_after: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::provider::tests_support::context;

    #[test]
    fn an_answer_is_forwarded_as_it_is_and_its_usage_read() {
        let body = Bytes::from_static(
            br#"{ "choices":[{"x":1}], "usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12,
                "prompt_tokens_details":{"cached_tokens":4}}, "unknown": 1e999 }"#,
        );
        let answer = chat(body.clone(), &context("openai")).unwrap();
        assert_eq!(answer.body.as_ptr(), body.as_ptr());
        let usage = answer.usage.unwrap();
        assert_eq!((usage.input, usage.cached_read, usage.output), (6, 4, 2));
    }

    #[test]
    fn what_is_no_completion_is_an_error_even_with_status_200() {
        let kind =
            |body: &'static str| chat(Bytes::from_static(body.as_bytes()), &context("openai")).unwrap_err().kind();
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
}
