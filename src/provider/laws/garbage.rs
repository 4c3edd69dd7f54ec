//! Whatever an upstream sends, as stream, as answer or as error: an answer or an error comes of it, never a panic.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::script::{Script, aws_message, frame, scripts};
use super::{context_of, play};
use crate::frames::Framing;
use crate::provider::{PROVIDERS, Provider};

fn config() -> ProptestConfig {
    ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() }
}

/// Any JSON, with a taste for what breaks code that expects something else.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop_oneof![Just(0_u64), Just(1), Just(u64::MAX)].prop_map(Value::from),
        prop_oneof![Just(-1.5_f64), Just(1e308), Just(0.1)].prop_map(Value::from),
        prop_oneof![Just(""), Just("{"), Just("{}"), Just("[]"), Just("tool_use"), Just("ü👋\u{0}\n"), Just("1e999")]
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let name = prop_oneof![Just("type"), Just("index"), Just("text"), Just("error"), Just("x")];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::vec((name, inner), 0..3).prop_map(|members| {
                Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
            }),
        ]
    })
}

/// Replaces one node of a value by another.
fn replace(value: &mut Value, left: &mut usize, by: &Value) -> bool {
    if *left == 0 {
        *value = by.clone();
        return true;
    }
    *left -= 1;
    match value {
        Value::Object(members) => members.values_mut().any(|it| replace(it, left, by)),
        Value::Array(items) => items.iter_mut().any(|it| replace(it, left, by)),
        _ => false,
    }
}

fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Object(members) => members.values().map(nodes).sum::<usize>(),
        Value::Array(items) => items.iter().map(nodes).sum(),
        _ => 0,
    }
}

/// A text of JSON with one node replaced; a text of something else as it is.
fn broken(text: &str, place: prop::sample::Index, by: &Value) -> String {
    let Ok(mut value) = serde_json::from_str::<Value>(text) else { return text.to_owned() };
    let mut left = place.index(nodes(&value));
    replace(&mut value, &mut left, by);
    value.to_string()
}

/// Hands this to everything that reads a whole body.
fn read_whole(provider: &'static Provider, model: &str, body: &[u8]) {
    let context = context_of(provider, model);
    let body = Bytes::copy_from_slice(body);
    for answer in
        [provider.dialect.answer(body.clone(), &context), provider.dialect.embeddings_answer(body.clone(), &context)]
    {
        let Ok(answer) = answer else { continue };
        let text = String::from_utf8_lossy(&answer.body);
        assert!(serde_json::from_str::<Value>(&text).is_ok(), "{}: {body:?} became {text}", provider.name);
    }
    let _ = provider.dialect.read_error(&body);
}

fn everybody() -> impl Iterator<Item = (&'static Provider, &'static Script)> {
    PROVIDERS.iter().flat_map(|provider| scripts(provider).iter().map(move |script| (*provider, *script)))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn bytes_of_any_kind_break_nothing(bytes in prop::collection::vec(any::<u8>(), 0..80), name in "[a-zA-Z:]{0,20}") {
        for (provider, script) in everybody() {
            play(provider, script.model, [bytes.as_slice()]);
            let text = String::from_utf8_lossy(&bytes);
            play(provider, script.model, [frame(provider.dialect.framing(), &name, &text).as_slice()]);
            read_whole(provider, script.model, &bytes);
        }
    }

    #[test]
    fn json_of_any_kind_breaks_nothing(value in any_json()) {
        for (provider, script) in everybody() {
            let text = value.to_string();
            read_whole(provider, script.model, text.as_bytes());
            let framing = provider.dialect.framing();
            let mut names: Vec<&str> = script.events.iter().map(|(name, _)| *name).collect();
            names.dedup();
            for name in names {
                play(provider, script.model, [frame(framing, name, &text).as_slice()]);
            }
            if framing == Framing::AwsEventStream {
                let exception = aws_message(&[(":exception-type", "throttlingException")], text.as_bytes());
                play(provider, script.model, [exception.as_slice()]);
            }
        }
    }

    #[test]
    fn one_wrong_thing_in_a_right_one_breaks_nothing(
        event in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), value in any_json()
    ) {
        for (provider, script) in everybody() {
            let framing = provider.dialect.framing();
            let wrong = event.index(script.events.len());
            let frames: Vec<Vec<u8>> = script.events.iter().enumerate().map(|(at, (name, data))| {
                if at == wrong { frame(framing, name, &broken(data, place, &value)) } else { frame(framing, name, data) }
            }).collect();
            play(provider, script.model, frames.iter().map(Vec::as_slice));
            for text in [script.answer, script.embeddings, script.error] {
                read_whole(provider, script.model, broken(text, place, &value).as_bytes());
            }
        }
    }
}

#[test]
fn no_single_member_can_make_an_answer_that_is_no_json() {
    let strange = [json!(null), json!({}), json!([]), json!(""), json!(0), json!([{}]), json!(true)];
    for (provider, script) in everybody() {
        for text in [script.answer, script.embeddings] {
            let Ok(whole) = serde_json::from_str::<Value>(text) else { continue };
            for place in 0..nodes(&whole) {
                for by in &strange {
                    let (mut value, mut left) = (whole.clone(), place);
                    replace(&mut value, &mut left, by);
                    read_whole(provider, script.model, value.to_string().as_bytes());
                }
            }
        }
    }
}

#[test]
fn the_whole_answers_of_the_scripts_are_answers() {
    for (provider, script) in everybody() {
        let context = context_of(provider, script.model);
        let answer = provider.dialect.answer(Bytes::from_static(script.answer.as_bytes()), &context).unwrap();
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        let message = &answer["choices"][0]["message"];
        assert_eq!(message["content"], "Hi", "{}", provider.name);
        assert_eq!(message["tool_calls"][0]["function"]["name"], "f", "{}", provider.name);
        if !script.embeddings.is_empty() {
            let body = Bytes::from_static(script.embeddings.as_bytes());
            if let Ok(answer) = provider.dialect.embeddings_answer(body, &context) {
                let answer: Value = serde_json::from_slice(&answer.body).unwrap();
                assert!(answer["data"][0]["embedding"].is_array(), "{}", provider.name);
            }
        }
        let said = provider.dialect.read_error(script.error.as_bytes());
        assert!(said.message.is_some(), "{}", provider.name);
    }
}
