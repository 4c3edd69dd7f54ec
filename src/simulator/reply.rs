//! What a simulated provider says: pieces of text or of tool arguments, and the tokens they cost.
//!
//! Not here: any API's JSON. Invariants: the same request gets the same reply; one piece is one token; a reply to a schema
//! fits it as far as types, constants and required members go, unless `max_tokens` cuts it.

use serde_json::{Map, Value};

use super::behaviour::Behaviour;
use super::request::{Ask, Wanted};
use crate::usage::{Usage, estimate_tokens};

/// How deep a schema is followed before the answer becomes `null`.
const MAX_DEPTH: u32 = 16;
/// Bytes of JSON in one piece, about what tokenizers make of it.
const JSON_PIECE: usize = 4;
const FILLER: [&str; 8] = [" and", " so", " it", " goes", " on", " word", " by", " word"];

/// A reply, before it is written in any API's form.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reply {
    pub(super) said: Said,
    /// Whether `max_tokens` ended it.
    pub(super) cut: bool,
    /// For all choices together.
    pub(super) usage: Usage,
}

/// The content of a reply, in pieces.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    Text(Vec<String>),
    Calls(Vec<Call>),
}

/// One tool call.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
}

/// The reply to a request.
pub(super) fn compose(behaviour: &Behaviour, ask: &Ask) -> Reply {
    let limit = ask.max_tokens.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let (said, cut, tokens) = if ask.calls.is_empty() {
        let mut pieces = match &ask.schema {
            Some(schema) => json_pieces(&example(schema)),
            None => words(behaviour),
        };
        let cut = pieces.len() > limit;
        pieces.truncate(limit);
        let tokens = pieces.len();
        (Said::Text(pieces), cut, tokens)
    } else {
        calls(&ask.calls, limit)
    };
    let prompt = estimate_tokens(ask.prompt_bytes);
    let cached_read = behaviour.cached_tokens.min(prompt);
    let output = tokens as u64 * ask.choices;
    Reply { said, cut, usage: Usage { input: prompt - cached_read, cached_read, output, ..Usage::default() } }
}

fn calls(wanted: &[Wanted], limit: usize) -> (Said, bool, usize) {
    let mut left = limit;
    let mut cut = false;
    let mut calls = Vec::new();
    for tool in wanted {
        let mut arguments = json_pieces(&example(&tool.schema));
        cut |= arguments.len() > left;
        arguments.truncate(left);
        left -= arguments.len();
        calls.push(Call { name: tool.name.clone(), arguments });
    }
    (Said::Calls(calls), cut, limit - left)
}

/// Exactly as many words as the behaviour says.
fn words(behaviour: &Behaviour) -> Vec<String> {
    let Behaviour { label, price, tokens, .. } = behaviour;
    let price = price.as_ref().map(|price| format!(" ({price})")).unwrap_or_default();
    let sentence = format!("Hello from the simulated {label}: {tokens} tokens{price},");
    let count = usize::try_from(*tokens).unwrap_or(usize::MAX);
    let opening = sentence.split(' ').enumerate().map(|(place, word)| match place {
        0 => word.to_owned(),
        _ => format!(" {word}"),
    });
    opening.chain(FILLER.iter().cycle().map(|word| (*word).to_owned())).take(count).collect()
}

fn json_pieces(value: &Value) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for letter in value.to_string().chars() {
        match pieces.last_mut() {
            Some(piece) if piece.len() < JSON_PIECE => piece.push(letter),
            _ => pieces.push(letter.to_string()),
        }
    }
    pieces
}

/// A value that fits a JSON Schema.
pub(super) fn example(schema: &Value) -> Value {
    Example { root: schema }.of(schema, MAX_DEPTH)
}

struct Example<'a> {
    root: &'a Value,
}

impl Example<'_> {
    fn of(&self, schema: &Value, depth: u32) -> Value {
        let Some(depth) = depth.checked_sub(1) else {
            return Value::Null;
        };
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let target = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            return target.map_or(Value::Null, |target| self.of(target, depth));
        }
        let given = ["const", "default"].iter().find_map(|key| schema.get(key));
        if let Some(given) = given.or_else(|| schema.pointer("/enum/0")) {
            return given.clone();
        }
        let choices = ["anyOf", "oneOf", "allOf"].iter().find_map(|key| schema.get(key)).and_then(Value::as_array);
        if let Some(choice) = choices.and_then(|choices| choices.iter().find(|choice| kind(choice) != "null")) {
            return self.of(choice, depth);
        }
        match kind(schema) {
            "string" => Value::from("example"),
            "integer" => schema.get("minimum").cloned().unwrap_or_else(|| Value::from(1)),
            "number" => schema.get("minimum").cloned().unwrap_or_else(|| Value::from(1.5)),
            "boolean" => Value::from(true),
            "array" => {
                schema.get("items").map_or_else(|| Value::Array(vec![]), |items| vec![self.of(items, depth)].into())
            }
            "null" => Value::Null,
            _ => self.object(schema, depth),
        }
    }

    fn object(&self, schema: &Value, depth: u32) -> Value {
        let required = schema.get("required").and_then(Value::as_array);
        let mut members = Map::new();
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            let member = schema.get("properties").and_then(|properties| properties.get(name));
            members.insert(name.to_owned(), member.map_or(Value::Null, |member| self.of(member, depth)));
        }
        Value::Object(members)
    }
}

/// A schema's type; of several the first that is not `null`.
fn kind(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("null")
        }
        _ if schema.get("properties").is_some() => "object",
        _ => "",
    }
}
