//! What the tests of every dialect need.

use serde_json::{Value, json};

use super::{AnswerContext, End, StreamOut, StreamTranslator};
use crate::error::ErrorKind;
use crate::sse::Decoder;

/// A context with fixed values.
pub(crate) fn context(provider: &'static str) -> AnswerContext {
    AnswerContext {
        provider,
        id: "chatcmpl-test".to_owned(),
        created: 1_700_000_000,
        model: "model".to_owned(),
        include_usage: false,
        json_object: false,
    }
}

/// Feeds `data:` payloads to a translator, then ends the stream.
pub(crate) fn run(translator: &mut dyn StreamTranslator, payloads: &[&str]) -> (StreamOut, Result<End, ErrorKind>) {
    let mut decoder = Decoder::new(1 << 20);
    for payload in payloads {
        decoder.push(format!("data: {payload}\n\n").as_bytes());
    }
    let mut out = StreamOut::default();
    while let Some(event) = decoder.next_event().unwrap() {
        if let Err(error) = translator.event(&event, &mut out) {
            return (out, Err(error.kind()));
        }
    }
    let end = translator.end(&mut out);
    (out, Ok(end))
}

/// The items of a list without the numbers that they have in a stream.
pub(crate) fn unnumbered(mut items: Vec<Value>) -> Vec<Value> {
    for item in items.iter_mut().filter_map(Value::as_object_mut) {
        item.shift_remove("index");
    }
    items
}

/// The citations of a message, web pages first, without the numbers that they have in a stream.
pub(crate) fn citations(message: &Value) -> Vec<Value> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let pages = list(&message["annotations"]);
    assert!(
        pages.iter().all(|page| page["type"] == "url_citation"),
        "clients with closed types refuse other annotations"
    );
    unnumbered([pages, list(&message["provider_specific_fields"]["citations"])].concat())
}

/// Adds a member of a delta to what came before, as SDKs do.
pub(crate) fn gather(place: &mut Value, more: &Value) {
    match (place, more) {
        (Value::String(text), Value::String(more)) => text.push_str(more),
        (Value::Array(items), Value::Array(more)) => items.extend(more.iter().cloned()),
        (Value::Object(members), Value::Object(more)) => {
            more.iter().for_each(|(name, more)| gather(members.entry(name).or_insert(Value::Null), more));
        }
        (place, more) => *place = more.clone(),
    }
}

/// Recorders redact the moment of an answer to zero, which is none.
pub(crate) fn with_moments(recording: &str) -> String {
    recording.replace("\"created\":0,", "\"created\":1,").replace("\"created\": 0,", "\"created\": 1,")
}

/// What all chunks of a stream, or a whole answer, are called: as the first real one of them is, or as the gateway says.
pub(crate) fn identity(values: &[Value], object: &str, ours: &AnswerContext) -> Value {
    let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let real = values.iter().find(|value| is_text(&value["id"]) && is_text(&value["model"]));
    let first = real.or(values.first()).cloned().unwrap_or_default();
    let named = |key: &str, ours: Value| if is_text(&first[key]) { first[key].clone() } else { ours };
    let created = first["created"].as_i64().unwrap_or(ours.created);
    json!({"id": named("id", json!(ours.id)), "object": object, "created": created, "model": named("model", json!(ours.model))})
}

/// A value with its identity and with every member that OpenAI's description requires.
pub(crate) fn as_described(value: &mut Value, identity: &Value) {
    let whole = identity["object"] == "chat.completion";
    for (key, said) in identity.as_object().into_iter().flatten() {
        value[key] = said.clone();
    }
    let tiers = [("on_demand", json!("default")), ("provisioned", json!("scale")), ("", Value::Null)];
    if let Some(tier) = value.get_mut("service_tier")
        && let Some((_, ours)) = tiers.iter().find(|(theirs, _)| tier == theirs)
    {
        *tier = ours.clone();
    }
    for choice in value["choices"].as_array_mut().into_iter().flatten() {
        let defaults = if whole {
            json!({"finish_reason": "stop", "logprobs": null, "message": {"role": "assistant", "content": null, "refusal": null}})
        } else {
            json!({"finish_reason": null, "delta": {}})
        };
        add_missing(choice, &defaults);
        if choice["logprobs"].is_object() {
            add_missing(&mut choice["logprobs"], &json!({"content": null, "refusal": null}));
        }
        if whole {
            add_missing(&mut choice["message"], &defaults["message"]);
            for call in choice["message"].get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
                let Some(function) = call.get_mut("function") else { continue };
                add_missing(function, &json!({"arguments": "{}"}));
                if function["arguments"] == "null" {
                    function["arguments"] = json!("{}");
                }
                add_missing(call, &json!({"type": "function"}));
            }
        }
    }
}

/// A usage object with OpenAI's details: what was cached and thought, and the sound that it tells.
pub(crate) fn with_details(usage: &mut Value, cached: u64, reasoning: u64) {
    let counts = [
        ("prompt_tokens_details", "cached_tokens", Some(cached)),
        ("prompt_tokens_details", "audio_tokens", None),
        ("completion_tokens_details", "reasoning_tokens", Some(reasoning)),
        ("completion_tokens_details", "audio_tokens", None),
    ];
    for (details, member, count) in counts {
        if !usage[details].is_object() {
            usage[details] = json!({});
        }
        let place = &mut usage[details][member];
        let said = place.as_u64().unwrap_or(0);
        *place = count.unwrap_or(said).into();
    }
}

fn add_missing(value: &mut Value, members: &Value) {
    for (key, default) in members.as_object().into_iter().flatten() {
        if value.get(key).is_none() {
            value[key] = default.clone();
        }
    }
}
