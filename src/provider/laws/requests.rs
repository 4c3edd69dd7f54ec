//! Laws of requests: whatever a client says is found again in the provider's own form, or it is named, or it is refused.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::script::scripts;
use super::validity;
use crate::api::head::ChatHead;
use crate::api::scan::Body;
use crate::config::Secret;
use crate::error::Error;
use crate::provider::{ChatCall, Endpoint, Outgoing, PROVIDERS, Provider, Target};

/// One turn of a generated conversation.
#[derive(Clone, Debug)]
enum Turn {
    Instruction {
        developer: bool,
    },
    User(Vec<Kind>),
    /// With its results, when it calls.
    Answer {
        text: bool,
        refusal: bool,
        reasoning: bool,
        results: Vec<Outcome>,
    },
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    Image,
    Document,
    Audio,
}

/// What a tool gave.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Text,
    Json,
    Parts,
}

fn turn() -> impl Strategy<Value = Turn> {
    let kind =
        prop_oneof![6 => Just(Kind::Text), 2 => Just(Kind::Image), 1 => Just(Kind::Document), 1 => Just(Kind::Audio)];
    let outcome = prop_oneof![Just(Outcome::Text), Just(Outcome::Json), Just(Outcome::Parts)];
    prop_oneof![
        1 => any::<bool>().prop_map(|developer| Turn::Instruction { developer }),
        3 => prop::collection::vec(kind, 1..3).prop_map(Turn::User),
        4 => (any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.2), prop::collection::vec(outcome, 0..3))
            .prop_map(|(text, refusal, reasoning, results)| Turn::Answer { text, refusal, reasoning, results }),
    ]
}

/// A request that is being made, and what must be found again of it.
#[derive(Default)]
struct Made {
    messages: Vec<Value>,
    /// Where it was said, and what.
    needles: Vec<(String, String)>,
    calls: usize,
}

impl Made {
    /// A text that occurs nowhere else, with letters that want care.
    fn words(&mut self) -> String {
        let words = format!("said-{} \"ü\"\n👋\\", self.needles.len());
        self.needles.push((format!("messages[{}]", self.messages.len()), words.clone()));
        words
    }

    fn part(&mut self, kind: Kind) -> Value {
        let at = format!("messages[{}]", self.messages.len());
        let data = format!("QUJD{:04}", self.needles.len());
        if !matches!(kind, Kind::Text) {
            self.needles.push((at, data.clone()));
        }
        match kind {
            Kind::Text => json!({"type": "text", "text": self.words()}),
            Kind::Image => json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{data}")}}),
            Kind::Audio => json!({"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}),
            Kind::Document => {
                json!({"type": "file", "file": {"file_data": format!("data:application/pdf;base64,{data}"), "filename": "a.pdf"}})
            }
        }
    }

    fn turn(&mut self, turn: &Turn) {
        match turn {
            Turn::Instruction { developer } => {
                let role = if *developer { "developer" } else { "system" };
                let content = self.words();
                self.messages.push(json!({"role": role, "content": content}));
            }
            Turn::User(kinds) => {
                let content = match kinds.as_slice() {
                    [Kind::Text] => Value::from(self.words()),
                    kinds => kinds.iter().map(|kind| self.part(*kind)).collect(),
                };
                self.messages.push(json!({"role": "user", "content": content}));
            }
            Turn::Answer { text, refusal, reasoning, results } => self.answer(*text, *refusal, *reasoning, results),
        }
    }

    fn answer(&mut self, text: bool, refusal: bool, reasoning: bool, results: &[Outcome]) {
        let mut message = json!({"role": "assistant", "content": null});
        if text || (results.is_empty() && !refusal) {
            message["content"] = self.words().into();
        }
        if refusal {
            message["refusal"] = self.words().into();
        }
        if reasoning {
            message["reasoning_content"] = self.words().into();
        }
        let first = self.calls;
        self.calls += results.len();
        let calls = (first..self.calls).map(|call| {
            let arguments = json!({"said": self.words(), "list": [1, 2.5, null]}).to_string();
            json!({"id": format!("call_{call}"), "type": "function",
                "function": {"name": format!("tool_{}", call % 2), "arguments": arguments}})
        });
        let calls: Vec<Value> = calls.collect();
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        self.messages.push(message);
        for (call, outcome) in results.iter().enumerate() {
            let words = self.words();
            let content = match outcome {
                Outcome::Text => words.into(),
                Outcome::Json => json!({"said": words}).to_string().into(),
                Outcome::Parts => json!([{"type": "text", "text": words}]),
            };
            let id = format!("call_{}", first + call);
            self.messages.push(json!({"role": "tool", "tool_call_id": id, "content": content}));
        }
    }
}

/// Parameters that ask for something, one value each.
fn parameters() -> Vec<(&'static str, Value)> {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false});
    vec![
        ("temperature", json!(0.37)),
        ("top_p", json!(0.91)),
        ("seed", json!(4711)),
        ("stop", json!(["STOP7"])),
        ("max_tokens", json!(4242)),
        ("max_completion_tokens", json!(4343)),
        ("user", json!("user-77")),
        ("safety_identifier", json!("safe-8")),
        ("metadata", json!({"team": "blue"})),
        ("frequency_penalty", json!(0.21)),
        ("presence_penalty", json!(0.22)),
        ("logit_bias", json!({"5": 1})),
        ("logprobs", json!(true)),
        ("n", json!(2)),
        ("response_format", json!({"type": "json_schema", "json_schema": {"name": "s", "schema": schema}})),
        ("reasoning_effort", json!("low")),
        ("service_tier", json!("flex")),
        ("store", json!(true)),
        ("verbosity", json!("low")),
        ("prompt_cache_key", json!("key-9")),
        ("prompt_cache_retention", json!("24h")),
        ("prediction", json!({"type": "content", "content": "foreseen"})),
        ("modalities", json!(["text", "audio"])),
        ("audio", json!({"voice": "alloy", "format": "wav"})),
        ("web_search_options", json!({"search_context_size": "low"})),
        ("parallel_tool_calls", json!(false)),
        ("tool_choice", json!({"type": "function", "function": {"name": "tool_1"}})),
        ("top_k", json!(7)),
        ("tomorrow", json!({"a": 1})),
    ]
}

fn tools() -> Value {
    let tool = |name: &str| {
        json!({"type": "function", "function": {"name": name, "description": format!("about {name}"),
            "parameters": {"type": "object", "properties": {"said": {"type": "string", "description": format!("of {name}")}}}}})
    };
    json!([tool("tool_0"), tool("tool_1")])
}

/// Translates for this provider.
fn translate(provider: &'static Provider, model: &str, body: &Value) -> Result<Outgoing, Error> {
    let body = Body::scan(Bytes::from(body.to_string()))?;
    let head = ChatHead::read(&body)?;
    let base_url = if provider.base_url.is_empty() { "https://x.openai.azure.com" } else { provider.base_url };
    let (endpoint, key) = (Endpoint::parse(base_url)?, Secret::new("key"));
    let options = Map::from_iter([("project".to_owned(), json!("p"))]);
    let now = jiff::Timestamp::UNIX_EPOCH;
    let target = Target { provider, endpoint: &endpoint, key: &key, options: &options, model, now };
    provider.dialect.chat(&ChatCall::new(&body, &head), &target)
}

fn top_level(param: &str) -> &str {
    param.split(['[', '.']).next().unwrap_or_default()
}

/// Translates; takes out what is refused by name until nothing is. `None` when the conversation itself is refused.
fn accepted(provider: &'static Provider, model: &str, body: &mut Value) -> Option<Outgoing> {
    loop {
        let error = match translate(provider, model, body) {
            Ok(outgoing) => return Some(outgoing),
            Err(error) => error,
        };
        let param =
            error.param().unwrap_or_else(|| panic!("{}: an error that names nothing: {error:?}", provider.name));
        let name = top_level(param);
        if matches!(name, "messages" | "model") {
            return None;
        }
        let blamed = body.as_object_mut().unwrap().shift_remove(name);
        assert!(blamed.is_some(), "{}: blames {param}, which nobody sent", provider.name);
    }
}

/// Every text of a body, also those within JSON that is given as a text.
fn texts(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            into.push(text.clone());
            if let Ok(inner @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str(text) {
                texts(&inner, into);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, into)),
        Value::Object(members) => {
            into.extend(members.keys().cloned());
            members.values().for_each(|member| texts(member, into));
        }
        _ => {}
    }
}

/// What became of a request at this provider that must not: nothing, when all is well.
fn losses(provider: &'static Provider, model: &str, body: &Value, made: &Made) -> Vec<String> {
    let mut body = body.clone();
    let Some(sent) = accepted(provider, model, &mut body) else { return Vec::new() };
    let native: Value = serde_json::from_slice(&sent.body.whole()).unwrap();
    let mut lost: Vec<String> = validity::check(provider, model, &native).err().into_iter().collect();
    let mut found = Vec::new();
    texts(&native, &mut found);
    let named = |path: &str| sent.warnings.iter().any(|warning| warning.starts_with(path));
    for (path, needle) in &made.needles {
        if !named(path)
            && !named_elsewhere(&sent.warnings, &body, path, needle)
            && !found.iter().any(|text| text.contains(needle.as_str()))
        {
            lost.push(format!("{needle:?} of {path}"));
        }
    }
    // Where one tool must be called, the others need not be told of.
    let tools: &[&str] = match body.pointer("/tool_choice/function") {
        Some(_) => &["tool_1", "of tool_1"],
        None => &["tool_0", "tool_1", "about tool_0", "of tool_1"],
    };
    for tool in tools {
        if !named("tool") && !found.iter().any(|text| text == tool) {
            lost.push((*tool).to_owned());
        }
    }
    for (name, _) in parameters() {
        let mut without = body.clone();
        if without.as_object_mut().unwrap().shift_remove(name).is_none() || named(name) {
            continue;
        }
        if translate(provider, model, &without).is_ok_and(|plain| plain.body == sent.body.whole()) {
            lost.push(name.to_owned());
        }
    }
    if !lost.is_empty() {
        lost.push(format!("by {} for {model}: {native}, named: {:?}", provider.name, sent.warnings));
    }
    lost
}

/// A member that is lost is named once, although several messages have it: whether this text stands under such a name.
fn named_elsewhere(warnings: &[String], body: &Value, path: &str, needle: &str) -> bool {
    let message = path.strip_prefix("messages[").and_then(|rest| rest.strip_suffix(']')).and_then(|at| at.parse().ok());
    let Some(message) = message.map(|at: usize| &body["messages"][at]) else { return false };
    let names = warnings.iter().filter(|warning| warning.starts_with("messages["));
    names.filter_map(|warning| warning.rsplit('.').next()).any(|name| stands_under(message, name, needle))
}

fn stands_under(value: &Value, name: &str, needle: &str) -> bool {
    let mut said = Vec::new();
    match value {
        Value::Object(members) => members.iter().any(|(key, member)| {
            said.clear();
            texts(member, &mut said);
            (key == name && said.iter().any(|text| text.contains(needle))) || stands_under(member, name, needle)
        }),
        Value::Array(items) => items.iter().any(|item| stands_under(item, name, needle)),
        _ => false,
    }
}

/// The models of a provider's scripts.
fn models(provider: &'static Provider) -> Vec<&'static str> {
    scripts(provider)
        .iter()
        .flat_map(|script| std::iter::once(script.model).chain(script.others.iter().copied()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn nothing_a_client_says_is_lost_in_silence(
        turns in prop::collection::vec(turn(), 0..5),
        wanted in prop::collection::vec(prop::bool::weighted(0.2), 29),
        which in any::<prop::sample::Index>(),
        stream in any::<bool>(),
    ) {
        let mut made = Made::default();
        made.turn(&Turn::User(vec![Kind::Text]));
        turns.iter().for_each(|turn| made.turn(turn));
        let mut body = json!({"model": "alias", "messages": made.messages, "tools": tools(), "stream": stream});
        let members = body.as_object_mut().unwrap();
        let asked = parameters().into_iter().zip(wanted).filter(|(_, wanted)| *wanted);
        members.extend(asked.map(|((name, value), _)| (name.to_owned(), value)));
        for provider in PROVIDERS {
            let models = models(provider);
            let model: &&str = which.get(models.as_slice());
            let lost = losses(provider, model, &body, &made);
            prop_assert!(lost.is_empty(), "{}", lost.join("\n"));
        }
    }
}

#[test]
fn each_parameter_alone_is_passed_on_named_or_refused() {
    assert_eq!(parameters().len(), 29);
    let mut made = Made::default();
    made.turn(&Turn::User(vec![Kind::Text]));
    let mut lost = Vec::new();
    for (name, value) in parameters() {
        let mut body = json!({"model": "alias", "messages": made.messages, "tools": tools()});
        body[name] = value;
        for provider in PROVIDERS {
            models(provider).iter().for_each(|model| lost.extend(losses(provider, model, &body, &made)));
        }
    }
    assert!(lost.is_empty(), "{}", lost.join("\n"));
}
