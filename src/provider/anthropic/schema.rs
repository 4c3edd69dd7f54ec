//! JSON schemas as Anthropic wants them: `type` at the top of a tool's, and for those that an answer or a call is held to, the
//! part of JSON Schema that its grammars know (platform.claude.com "Structured outputs", "JSON Schema limitations"): closed
//! objects, no bounds, no recursion. Bedrock knows the same part.
//!
//! A keyword that is not known is said in the description instead, as Anthropic's own SDKs do it: a wish, and so a warning.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::{Map, Value, json};

use crate::api::chat::JsonSchema;
use crate::provider::warnings::Warnings;

/// A tool's `input_schema`; OpenAI allows none, and one without `type`, Anthropic neither.
pub(in crate::provider) fn input_schema(parameters: Option<&Value>) -> Cow<'_, Value> {
    let untyped = |schema: &Value| schema.as_object().is_some_and(|members| !members.contains_key("type"));
    if let Some(parameters) = parameters.filter(|schema| !untyped(schema)) {
        return Cow::Borrowed(parameters);
    }
    let mut owned = parameters.cloned().unwrap_or_else(|| json!({"properties": {}}));
    if let Some(members) = owned.as_object_mut() {
        members.insert("type".to_owned(), "object".into());
    }
    Cow::Owned(owned)
}

/// The same of a tool whose calls are held to it. What no grammar can be made of is left to the provider to refuse.
pub(in crate::provider) fn strict_schema<'a>(parameters: Option<&'a Value>, warnings: &mut Warnings) -> Cow<'a, Value> {
    let mut owned = input_schema(parameters).into_owned();
    if fit(&mut owned) {
        warnings.add("tools.function.parameters");
    }
    Cow::Owned(owned)
}

/// The schema of an answer; its name and description move to where JSON Schema has places for them.
pub(super) fn answer_schema(named: &JsonSchema) -> Option<Value> {
    let mut schema = named.schema.clone()?;
    if let Some(members) = schema.as_object_mut() {
        if !named.name.is_empty() && !members.contains_key("title") {
            members.insert("title".to_owned(), named.name.clone().into());
        }
        if let Some(description) = &named.description
            && !members.contains_key("description")
        {
            members.insert("description".to_owned(), description.clone().into());
        }
    }
    Some(schema)
}

/// The schema as an answer can be held to it; `None` where no grammar can be made of it: open objects, parts that may be
/// anything, recursion.
pub(in crate::provider) fn enforceable(schema: &Value, warnings: &mut Warnings) -> Option<Value> {
    let mut finite = Finite { root: schema, path: Vec::new(), known: HashSet::new() };
    if !is_closed(schema) || !finite.holds(schema) {
        return None;
    }
    let mut schema = schema.clone();
    if fit(&mut schema) {
        warnings.add("response_format.json_schema.schema");
    }
    Some(schema)
}

/// Whether a keyword's value is named schemas, or a list of them, or one.
const NAMED: &[&str] = &["properties", "$defs", "definitions"];
const LISTS: &[&str] = &["anyOf", "oneOf", "allOf"];
const SINGLE: &[&str] = &["items"];

/// The schemas in a keyword's value.
fn schemas<'s>(keyword: &str, value: &'s Value) -> Vec<&'s Value> {
    match value {
        Value::Object(named) if NAMED.contains(&keyword) => named.values().collect(),
        Value::Array(list) if LISTS.contains(&keyword) => list.iter().collect(),
        one if SINGLE.contains(&keyword) => vec![one],
        _ => Vec::new(),
    }
}

/// Whether every part says what it is, and every object what it holds.
fn is_closed(schema: &Value) -> bool {
    const SAYS: &[&str] = &["type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "properties"];
    let Some(members) = schema.as_object() else { return false };
    let says = SAYS.iter().any(|keyword| members.contains_key(*keyword));
    let shut = match members.get("additionalProperties") {
        None | Some(Value::Bool(true)) => members.contains_key("properties"),
        Some(more) => *more == Value::Bool(false),
    };
    let parts = || members.iter().flat_map(|(keyword, value)| schemas(keyword, value));
    says && (shut || !is_object(members)) && parts().all(is_closed)
}

/// Follows references, to see whether they come to an end.
struct Finite<'s> {
    root: &'s Value,
    /// The references that led here.
    path: Vec<&'s str>,
    /// Those that came to an end.
    known: HashSet<&'s str>,
}

impl<'s> Finite<'s> {
    /// No schema that is meant for people follows more references than this in a row.
    const MAX_PATH: usize = 64;

    fn holds(&mut self, schema: &'s Value) -> bool {
        let Some(members) = schema.as_object() else { return true };
        if let Some(name) = members.get("$ref").and_then(Value::as_str) {
            return self.reference(name);
        }
        let used = members.iter().filter(|(keyword, _)| !matches!(keyword.as_str(), "$defs" | "definitions"));
        used.flat_map(|(keyword, value)| schemas(keyword, value)).all(|part| self.holds(part))
    }

    fn reference(&mut self, name: &'s str) -> bool {
        if self.known.contains(name) {
            return true;
        }
        let target = name.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        let Some(target) = target.filter(|_| !self.path.contains(&name) && self.path.len() < Self::MAX_PATH) else {
            return false;
        };
        self.path.push(name);
        let ends = self.holds(target);
        self.path.pop();
        self.known.insert(name);
        ends
    }
}

/// What a grammar can be made of, beside the types' own keywords below.
const KNOWN: &[&str] = &[
    "$defs",
    "$ref",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "default",
    "definitions",
    "description",
    "enum",
    "items",
    "properties",
    "required",
    "title",
    "type",
];
/// Keywords that ask for nothing.
const SILENT: &[&str] = &["$schema", "$id", "$comment", "examples", "deprecated", "readOnly", "writeOnly"];
const FORMATS: &[&str] = &["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// Closes every object and moves what is not known into descriptions; whether something that was asked for was moved.
fn fit(schema: &mut Value) -> bool {
    let Some(members) = schema.as_object_mut() else { return false };
    let mut moved = false;
    if is_object(members) {
        let open = members.get("additionalProperties") == Some(&Value::Bool(true));
        moved |= open;
        if open || !members.contains_key("additionalProperties") {
            members.insert("additionalProperties".to_owned(), Value::Bool(false));
        }
    }
    if let Some(choices) = members.remove("oneOf") {
        // Not more than one of them may fit: seldom meant, and not to be had.
        members.entry("anyOf").or_insert(choices);
    }
    let unknown: Vec<String> =
        members.iter().filter(|(name, value)| !is_known(name, value)).map(|(name, _)| name.clone()).collect();
    let unknown: Map<String, Value> = unknown.into_iter().filter_map(|name| members.remove_entry(&name)).collect();
    moved |= unknown.keys().any(|name| !SILENT.contains(&name.as_str()));
    describe(members, unknown);
    for (keyword, value) in members.iter_mut() {
        let parts: Vec<&mut Value> = match value {
            Value::Object(named) if NAMED.contains(&keyword.as_str()) => named.values_mut().collect(),
            Value::Array(list) if LISTS.contains(&keyword.as_str()) => list.iter_mut().collect(),
            one if SINGLE.contains(&keyword.as_str()) => vec![one],
            _ => Vec::new(),
        };
        for part in parts {
            moved |= fit(part);
        }
    }
    moved
}

fn is_known(keyword: &str, value: &Value) -> bool {
    match keyword {
        "format" => value.as_str().is_some_and(|format| FORMATS.contains(&format)),
        "minItems" | "minLength" => matches!(value.as_u64(), Some(0 | 1)),
        // Expressions that look around or back have no grammar.
        "pattern" => {
            value.as_str().is_some_and(|text| !["(?", "\\b", "\\B", "\\1"].iter().any(|hard| text.contains(hard)))
        }
        _ => KNOWN.contains(&keyword),
    }
}

fn describe(members: &mut Map<String, Value>, mut unknown: Map<String, Value>) {
    unknown.remove("$schema");
    if unknown.is_empty() {
        return;
    }
    let before =
        members.get("description").and_then(Value::as_str).map(|text| format!("{text}\n\n")).unwrap_or_default();
    members.insert("description".to_owned(), format!("{before}{}", Value::Object(unknown)).into());
}

fn is_object(schema: &Map<String, Value>) -> bool {
    match schema.get("type") {
        Some(Value::String(name)) => name == "object",
        Some(Value::Array(names)) => names.iter().any(|name| name == "object"),
        _ => schema.contains_key("properties"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_touched_only_where_anthropic_would_refuse_it() {
        let whole = json!({"type": "object", "properties": {"a": {"type": "object", "minProperties": 1}}});
        assert!(matches!(input_schema(Some(&whole)), Cow::Borrowed(_)));
        let untyped = json!({"properties": {}});
        assert_eq!(*input_schema(Some(&untyped)), json!({"properties": {}, "type": "object"}));
        assert_eq!(*input_schema(None), json!({"type": "object", "properties": {}}));
    }

    fn enforced(schema: &Value) -> Option<(Value, Vec<String>)> {
        let mut warnings = Warnings::default();
        Some((enforceable(schema, &mut warnings)?, warnings.into_names()))
    }

    #[test]
    fn objects_are_closed_at_every_depth_and_properties_named_like_keywords_are_left_alone() {
        let schema = json!({
            "type": "object",
            "properties": {
                "items": {"type": "array", "items": {"type": ["object", "null"], "properties": {}}},
                "minimum": {"anyOf": [{"$ref": "#/$defs/date"}, {"type": "string"}]},
            },
            "$defs": {"date": {"type": "string", "format": "date", "pattern": "^\\d+"}},
        });
        let (made, warnings) = enforced(&schema).unwrap();
        let mut expected = schema;
        expected["additionalProperties"] = json!(false);
        expected["properties"]["items"]["items"]["additionalProperties"] = json!(false);
        assert_eq!((made, warnings), (expected, vec![]));
    }

    #[test]
    fn bounds_become_wishes_and_are_named() {
        let schema = json!({"type": "object", "$schema": "http://json-schema.org/draft-07/schema#", "properties": {
            "age": {"type": "integer", "minimum": 0, "description": "Years."},
            "tags": {"type": "array", "minItems": 1, "maxItems": 3, "items": {"type": "string", "format": "slug"}},
            "pet": {"oneOf": [{"type": "string"}, {"type": "null"}]},
        }});
        let (made, warnings) = enforced(&schema).unwrap();
        assert_eq!(
            made["properties"],
            json!({
                "age": {"type": "integer", "description": "Years.\n\n{\"minimum\":0}"},
                "tags": {"type": "array", "minItems": 1, "description": "{\"maxItems\":3}",
                    "items": {"type": "string", "description": "{\"format\":\"slug\"}"}},
                "pet": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            })
        );
        assert_eq!((made.get("$schema"), warnings), (None, vec!["response_format.json_schema.schema".to_owned()]));
    }

    #[test]
    fn what_no_grammar_can_be_made_of_is_not_enforced() {
        let holding = |part: Value| json!({"type": "object", "properties": {"a": part}});
        for part in
            [json!(true), json!({}), json!({"type": "object"}), json!({"$ref": "#"}), json!({"$ref": "other.json"})]
        {
            assert_eq!(enforced(&holding(part.clone())), None, "{part}");
        }
        let counts = json!({"type": "object", "additionalProperties": {"type": "integer"}});
        assert_eq!(enforced(&holding(counts)), None);
        let mut list = holding(json!({"$ref": "#/$defs/node"}));
        list["$defs"] = json!({"node": holding(json!({"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}))});
        assert_eq!(enforced(&list), None);
        // Twice the same is no recursion.
        let mut twice =
            holding(json!({"anyOf": [{"$ref": "#/$defs/n"}, {"type": "array", "items": {"$ref": "#/$defs/n"}}]}));
        twice["$defs"] = json!({"n": {"type": "string"}});
        assert!(enforced(&twice).is_some());
    }
}
