//! Whole answers of OpenAI's dialect: looked at for usage and errors, and forwarded; `choice` tells what may change in them.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use super::choice::{ChoiceView, present};
use super::failure::{error_object, misplaced_error};
use super::identity::{Identity, IdentityView};
use super::required::settle_tier;
use super::splice::Splice;
use super::{Answer, AnswerContext, bill, usage};
use crate::error::Result;
use crate::provider::protocol;
use crate::usage::{Bill, Usage};

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
pub(super) fn chat(body: &Bytes, context: &AnswerContext, reports_cost: bool) -> Result<Answer> {
    let view = view(body, context)?;
    let choices = view.choices.as_deref().unwrap_or_default();
    if choices.is_empty() {
        let error = misplaced_error(body, context.provider);
        return Err(error.unwrap_or_else(|| protocol(context.provider, "the answer has no choices")));
    }
    let mut splice = Splice::new(body);
    for (place, choice) in choices.iter().enumerate() {
        choice.check(context.provider)?;
        choice.translate_whole(place, &context.id, &mut splice);
    }
    settle_tier(view.service_tier, &mut splice);
    let said = IdentityView { id: view.id, object: view.object, created: view.created, model: view.model };
    if !said.is_complete("chat.completion") {
        let mut identity = Identity::new(context);
        identity.learn(said);
        identity.complete(said, "chat.completion", &mut splice);
    }
    let whole = view.usage.and_then(usage::whole);
    if let (Some(usage), None) = (view.usage, whole) {
        usage::settle(usage, &mut splice);
    }
    Ok(answer(body, &view, whole, splice, reports_cost))
}

/// An embeddings answer: it must have `data`.
pub(super) fn embeddings(body: &Bytes, context: &AnswerContext, reports_cost: bool) -> Result<Answer> {
    let view = view(body, context)?;
    if view.data.is_none() {
        let error = misplaced_error(body, context.provider);
        return Err(error.unwrap_or_else(|| protocol(context.provider, "the answer has no data")));
    }
    let mut splice = Splice::new(body);
    // Copilot leaves both out.
    if view.object.is_none() {
        splice.open("\"object\":\"list\"");
    }
    if view.model.is_none() {
        splice.open(format!("\"model\":{}", Value::from(context.model.as_str())));
    }
    if let Some(usage) = view.usage {
        usage::settle_prompt(usage, &mut splice);
    }
    Ok(answer(body, &view, None, splice, reports_cost))
}

/// `whole` is the usage where there is nothing else to be read in its object.
fn answer(body: &Bytes, view: &AnswerView<'_>, whole: Option<Usage>, splice: Splice<'_>, reports_cost: bool) -> Answer {
    let usage = whole.or_else(|| view.usage.and_then(usage::read));
    let mut bill = Bill::default();
    bill::read_tier(view.service_tier, &mut bill);
    if let (Some(usage), None) = (view.usage, whole) {
        bill::read_usage(usage, reports_cost, &mut bill);
        bill.doubtful = usage::is_absurd(usage);
    }
    Answer { usage, bill, body: splice.apply().map_or_else(|| body.clone(), Bytes::from) }
}

fn view<'a>(body: &'a Bytes, context: &AnswerContext) -> Result<AnswerView<'a>> {
    // A text is checked once for being UTF-8, bytes are in each of their parts.
    let read = match std::str::from_utf8(body) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(body),
    };
    let view: AnswerView<'_> = read.map_err(|cause| protocol(context.provider, cause))?;
    match view.error {
        Some(error) => Err(error_object(error.get(), context.provider)),
        None => Ok(view),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::error::ErrorKind;
    use crate::provider::tests_support::context;

    #[test]
    fn an_answer_is_forwarded_as_it_is_and_its_usage_read() {
        let body = Bytes::from_static(
            br#"{ "id":"a","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop",
                "logprobs":null,"message":{"role":"assistant","content":"x","refusal":null},"x":1}], "usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12,
                "prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},
                "completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}}, "unknown": 1e999 }"#,
        );
        let answer = chat(&body, &context("openai"), false).unwrap();
        assert_eq!(answer.body.as_ptr(), body.as_ptr());
        let usage = answer.usage.unwrap();
        assert_eq!((usage.input, usage.cached_read, usage.output), (6, 4, 2));
    }

    #[test]
    fn what_openai_requires_is_put_in_where_a_provider_leaves_it_out() {
        let body = Bytes::from_static(br#"{"choices":[{"message":{"content":"x"}}],"service_tier":"on_demand"}"#);
        let answer: Value = serde_json::from_slice(&chat(&body, &context("groq"), false).unwrap().body).unwrap();
        let message = json!({"role": "assistant", "content": "x", "refusal": null});
        let choice = json!({"index": 0, "finish_reason": "stop", "logprobs": null, "message": message});
        let expected = json!({"id": "chatcmpl-test", "object": "chat.completion", "created": 1_700_000_000,
            "model": "model", "choices": [choice], "service_tier": "default"});
        assert_eq!(answer, expected);
    }

    #[test]
    fn what_is_no_completion_is_an_error_even_with_status_200() {
        let kind = |body: &'static str| {
            chat(&Bytes::from_static(body.as_bytes()), &context("openai"), false).unwrap_err().kind()
        };
        assert_eq!(kind("<html>"), ErrorKind::ProviderProtocol);
        assert_eq!(kind("{}"), ErrorKind::ProviderProtocol);
        assert_eq!(kind(r#"{"choices":[]}"#), ErrorKind::ProviderProtocol);
        assert_eq!(kind(r#"{"error":{"message":"no","code":429}}"#), ErrorKind::ProviderRateLimited);
        assert_eq!(kind(r#"{"error":{"message":"no","type":"server_error"}}"#), ErrorKind::ProviderError);
    }

    #[test]
    fn an_embeddings_answer_has_what_openais_schema_requires() {
        let body = Bytes::from_static(br#"{"object":"list","data":[],"model":"m","usage":{"total_tokens": 12}}"#);
        let answer = embeddings(&body, &context("voyage"), false).unwrap();
        let counted = r#"{"object":"list","data":[],"model":"m","usage":{"prompt_tokens":12,"total_tokens": 12}}"#;
        assert_eq!((answer.body.as_ref(), answer.usage.unwrap().input), (counted.as_bytes(), 12));
        let nameless = embeddings(&Bytes::from_static(br#"{"data":[]}"#), &context("copilot"), false).unwrap();
        assert_eq!(nameless.body, r#"{"object":"list","model":"model","data":[]}"#);
    }

    #[test]
    fn an_answer_says_what_it_is_and_its_calls_are_whole() {
        let body = Bytes::from_static(
            br#" {"created":null,"choices":[{"message":{"tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]},"finish_reason":"tool_calls"}]}"#,
        );
        let answer: serde_json::Value =
            serde_json::from_slice(&chat(&body, &context("x"), false).unwrap().body).unwrap();
        assert_eq!((&answer["id"], &answer["object"]), (&"chatcmpl-test".into(), &"chat.completion".into()));
        assert_eq!((&answer["created"], &answer["model"]), (&1_700_000_000.into(), &"model".into()));
        let call = &answer["choices"][0]["message"]["tool_calls"][0];
        assert_eq!((&call["id"], &call["type"]), (&"call_test_0".into(), &"function".into()));
        assert_eq!(call["function"]["arguments"], "{\"a\":1}");
    }

    #[test]
    fn an_error_in_the_place_of_an_answer_says_what_it_is() {
        let error = chat(&Bytes::from_static(br#"{"detail":"no capacity"}"#), &context("x"), false).unwrap_err();
        assert_eq!(error.message(), "no capacity");
    }
}
