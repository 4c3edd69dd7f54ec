//! JSON schemas as Anthropic wants them: `type` at the top of a tool's, `additionalProperties` on every strict object.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use crate::api::chat::JsonSchema;

/// A tool's `input_schema`; OpenAI allows none, and one without `type`, Anthropic neither.
pub(in crate::provider) fn input_schema(parameters: Option<&Value>, strict: bool) -> Cow<'_, Value> {
    let untyped = |schema: &Value| schema.as_object().is_some_and(|members| !members.contains_key("type"));
    if let Some(parameters) = parameters.filter(|schema| !untyped(schema) && !strict) {
        return Cow::Borrowed(parameters);
    }
    let mut owned = parameters.cloned().unwrap_or_else(|| json!({"properties": {}}));
    if untyped(&owned)
        && let Some(members) = owned.as_object_mut()
    {
        members.insert("type".to_owned(), "object".into());
    }
    if strict {
        close(&mut owned);
    }
    Cow::Owned(owned)
}

/// The schema of an answer; its name and description move to where JSON Schema has places for them.
pub(super) fn answer_schema(named: &JsonSchema) -> Option<Value> {
    let mut schema = named.schema.clone()?;
    close(&mut schema);
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

/// Closes every object that does not say whether it is open.
pub(in crate::provider) fn close(schema: &mut Value) {
    let Some(members) = schema.as_object_mut() else { return };
    if is_object(members) && !members.contains_key("additionalProperties") {
        members.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    for (keyword, value) in members.iter_mut() {
        match keyword.as_str() {
            "properties" | "$defs" | "definitions" | "patternProperties" => {
                value.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(close);
            }
            "anyOf" | "oneOf" | "allOf" | "prefixItems" => {
                value.as_array_mut().into_iter().flatten().for_each(close);
            }
            "items" | "not" => close(value),
            _ => {}
        }
    }
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
        let whole = json!({"type": "object", "properties": {"a": {"type": "object"}}});
        assert!(matches!(input_schema(Some(&whole), false), Cow::Borrowed(_)));
        let untyped = json!({"properties": {}});
        assert_eq!(*input_schema(Some(&untyped), false), json!({"properties": {}, "type": "object"}));
        assert_eq!(*input_schema(None, false), json!({"type": "object", "properties": {}}));
    }

    #[test]
    fn objects_are_closed_at_every_depth_and_properties_named_like_keywords_are_left_alone() {
        let mut schema = json!({
            "type": "object",
            "properties": {
                "items": {"type": "array", "items": {"type": ["object", "null"], "properties": {}}},
                "type": {"anyOf": [{"$ref": "#/$defs/open"}, {"type": "string"}]},
            },
            "$defs": {"open": {"type": "object", "additionalProperties": {"type": "string"}}},
        });
        close(&mut schema);
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["items"]["items"]["additionalProperties"], false);
        assert_eq!(schema["$defs"]["open"]["additionalProperties"], json!({"type": "string"}));
        assert!(schema["properties"].get("additionalProperties").is_none());
    }
}
