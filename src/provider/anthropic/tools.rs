//! Tools and the choice among them.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::schema::{input_schema, strict_schema};
use super::wire::{Function, Native, Tool, ToolChoice};
use crate::api::chat::{self, FunctionSpec};
use crate::error::{Error, ErrorKind, Result};
use crate::provider::warnings::{Warnings, is_neutral};

/// What a function tool may carry under Anthropic's own names.
const TOOL_FIELDS: &[&str] =
    &["cache_control", "defer_loading", "allowed_callers", "input_examples", "eager_input_streaming"];

/// The parameters about tools.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) tools: Option<&'a [chat::Tool]>,
    pub(super) functions: Option<&'a [Value]>,
    pub(super) choice: Option<&'a chat::ToolChoice>,
    pub(super) function_call: Option<&'a Value>,
    pub(super) parallel: Option<bool>,
    pub(super) web_search: Option<&'a Value>,
    /// Whether the model can be held to schemas.
    pub(super) structured: bool,
}

/// What they become.
#[derive(Debug)]
pub(super) struct Tools<'a> {
    pub(super) tools: Vec<Tool<'a>>,
    pub(super) choice: Option<ToolChoice>,
}

impl Tools<'_> {
    /// Whether a call is forced, which a thinking budget forbids.
    pub(super) const fn is_forced(&self) -> bool {
        matches!(self.choice, Some(ToolChoice::Any { .. } | ToolChoice::Tool { .. }))
    }
}

/// Translates them.
pub(super) fn translate<'a>(wanted: &Wanted<'a>, warnings: &mut Warnings) -> Result<Tools<'a>> {
    let mut tools = Vec::new();
    for (index, tool) in wanted.tools.into_iter().flatten().enumerate() {
        tools.push(translate_tool(index, tool, wanted.structured, warnings)?);
    }
    for (index, value) in wanted.functions.into_iter().flatten().enumerate() {
        tools.push(deprecated(index, value, wanted.structured, warnings)?);
    }
    if let Some(options) = wanted.web_search {
        tools.push(web_search(options, warnings));
    }
    let deprecated = wanted.function_call.map(deprecated_choice).transpose()?;
    let choice = wanted.choice.or(deprecated.as_ref());
    if let Some(chat::ToolChoice::Allowed { names, .. }) = choice {
        tools.retain(|tool| name(tool).is_some_and(|name| names.iter().any(|allowed| allowed == name)));
        if tools.is_empty() {
            return Err(Error::invalid("tool_choice", "'tool_choice' allows no tool that 'tools' holds."));
        }
    }
    let choice = translate_choice(choice, !tools.is_empty(), wanted.parallel == Some(false));
    Ok(Tools { tools, choice })
}

fn translate_tool<'a>(
    index: usize,
    tool: &'a chat::Tool,
    structured: bool,
    warnings: &mut Warnings,
) -> Result<Tool<'a>> {
    let chat::Tool { r#type, function, extra } = tool;
    if r#type == "function" {
        let param = format!("tools[{index}].function");
        let spec = function
            .as_ref()
            .ok_or_else(|| Error::invalid(param.clone(), format!("Invalid value for '{param}': it is missing.")))?;
        warnings.add_unknown(&format!("tools[{index}]."), extra, TOOL_FIELDS);
        return Ok(Tool::Function(translate_function(spec, native(extra), structured, warnings)));
    }
    if r#type == "custom" && extra.contains_key("custom") {
        let message = "The provider 'anthropic' has no custom tools with free text.";
        let param = format!("tools[{index}].type");
        return Err(Error::new(ErrorKind::UnsupportedParameter, message).with_param(param));
    }
    Ok(Tool::Given { r#type, members: extra })
}

fn translate_function<'a>(
    spec: &'a FunctionSpec,
    native: Native<'a>,
    structured: bool,
    warnings: &mut Warnings,
) -> Function<'a> {
    let FunctionSpec { name, description, parameters, strict } = spec;
    let strict = is_strict(*strict, structured, warnings);
    let parameters = parameters.as_ref();
    Function {
        name: Cow::Borrowed(name),
        description: description.as_deref().map(Cow::Borrowed),
        input_schema: if strict { strict_schema(parameters, warnings) } else { input_schema(parameters) },
        strict,
        native,
    }
}

/// Whether calls are held to their schema, as far as the model can be.
pub(in crate::provider) fn is_strict(strict: Option<bool>, structured: bool, warnings: &mut Warnings) -> bool {
    let wanted = strict.unwrap_or(false);
    if wanted && !structured {
        warnings.add("tools.function.strict");
    }
    wanted && structured
}

fn native(extra: &Map<String, Value>) -> Native<'_> {
    let members = extra.iter().filter(|(name, value)| TOOL_FIELDS.contains(&name.as_str()) && !is_neutral(value));
    members.map(|(name, value)| (name.as_str(), Cow::Borrowed(value))).collect()
}

/// An entry of the deprecated `functions`.
fn deprecated<'a>(index: usize, value: &Value, structured: bool, warnings: &mut Warnings) -> Result<Tool<'a>> {
    let spec: FunctionSpec = serde_json::from_value(value.clone()).map_err(|cause| {
        let param = format!("functions[{index}]");
        Error::invalid(param.clone(), format!("Invalid value for '{param}': {cause}."))
    })?;
    let Function { input_schema, strict, .. } = translate_function(&spec, Native::new(), structured, warnings);
    let input_schema = Cow::Owned(input_schema.into_owned());
    let (name, description) = (Cow::Owned(spec.name), spec.description.map(Cow::Owned));
    Ok(Tool::Function(Function { name, description, input_schema, strict, native: Native::new() }))
}

/// The deprecated `function_call`.
pub(in crate::provider) fn deprecated_choice(value: &Value) -> Result<chat::ToolChoice> {
    match (value.as_str(), value.get("name").and_then(Value::as_str)) {
        (Some("auto"), _) => Ok(chat::ToolChoice::Auto),
        (Some("none"), _) => Ok(chat::ToolChoice::None),
        (None, Some(name)) => Ok(chat::ToolChoice::Function(name.to_owned())),
        _ => {
            let message = "Invalid value for 'function_call': expected \"auto\", \"none\" or an object with a name.";
            Err(Error::invalid("function_call", message))
        }
    }
}

/// OpenAI's web search as Anthropic's; how much context it may take can't be said.
fn web_search<'a>(options: &Value, warnings: &mut Warnings) -> Tool<'a> {
    if let Some(members) = options.as_object() {
        warnings.add_unknown("web_search_options.", members, &["user_location"]);
    }
    let place = options.pointer("/user_location/approximate").and_then(Value::as_object);
    if place.is_none() && options.get("user_location").is_some_and(|location| !location.is_null()) {
        warnings.add("web_search_options.user_location");
    }
    let user_location = place.map(|place| {
        let mut location = json!({"type": "approximate"});
        if let Some(members) = location.as_object_mut() {
            members.extend(place.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())));
        }
        location
    });
    Tool::WebSearch { r#type: "web_search_20250305", name: "web_search", user_location }
}

fn name<'t>(tool: &'t Tool<'_>) -> Option<&'t str> {
    match tool {
        Tool::Function(function) => Some(&function.name),
        Tool::Given { members, .. } => members.get("name").and_then(Value::as_str),
        Tool::WebSearch { name, .. } => Some(name),
    }
}

/// Anthropic has one object for the choice and for whether calls may be parallel, and wants none without tools.
fn translate_choice(
    choice: Option<&chat::ToolChoice>,
    any_tool: bool,
    disable_parallel_tool_use: bool,
) -> Option<ToolChoice> {
    use chat::ToolChoice as Wanted;
    match choice {
        Some(Wanted::Function(name)) => Some(ToolChoice::Tool { name: name.clone(), disable_parallel_tool_use }),
        Some(Wanted::Required) => Some(ToolChoice::Any { disable_parallel_tool_use }),
        _ if !any_tool => None,
        Some(Wanted::Allowed { required: true, .. }) => Some(ToolChoice::Any { disable_parallel_tool_use }),
        Some(Wanted::None) => Some(ToolChoice::None),
        Some(Wanted::Auto | Wanted::Allowed { .. }) => Some(ToolChoice::Auto { disable_parallel_tool_use }),
        None => disable_parallel_tool_use.then_some(ToolChoice::Auto { disable_parallel_tool_use }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(request: &Value) -> Result<(Value, Vec<String>)> {
        let tools: Option<Vec<chat::Tool>> = serde_json::from_value(request["tools"].clone()).unwrap();
        let choice: Option<chat::ToolChoice> = serde_json::from_value(request["tool_choice"].clone()).unwrap();
        let functions = request.get("functions").and_then(Value::as_array);
        let wanted = Wanted {
            tools: tools.as_deref(),
            functions: functions.map(Vec::as_slice),
            choice: choice.as_ref(),
            function_call: request.get("function_call"),
            parallel: request["parallel_tool_calls"].as_bool(),
            web_search: request.get("web_search_options"),
            structured: true,
        };
        let mut warnings = Warnings::default();
        let got = translate(&wanted, &mut warnings)?;
        Ok((json!({"tools": got.tools, "tool_choice": got.choice}), warnings.into_names()))
    }

    fn function(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name}})
    }

    #[test]
    fn a_function_keeps_its_signature_and_anthropics_own_fields_pass() {
        let (got, warnings) = run(&json!({"tools": [
            {"type": "function", "cache_control": {"type": "ephemeral"}, "color": "red", "function": {
                "name": "f", "description": "d", "strict": true, "parameters": {"type": "object", "properties": {}}}},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
        ]}))
        .unwrap();
        assert_eq!(
            got["tools"],
            json!([
                {"name": "f", "description": "d", "strict": true, "cache_control": {"type": "ephemeral"},
                 "input_schema": {"type": "object", "properties": {}, "additionalProperties": false}},
                {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
            ])
        );
        assert_eq!(got["tool_choice"], Value::Null);
        assert_eq!(warnings, ["tools[0].color"]);
    }

    #[test]
    fn every_form_of_tool_choice_has_its_counterpart() {
        let tools = json!([function("a"), function("b")]);
        let table = [
            (json!("auto"), json!({"type": "auto"})),
            (json!("none"), json!({"type": "none"})),
            (json!("required"), json!({"type": "any"})),
            (json!({"type": "function", "function": {"name": "b"}}), json!({"type": "tool", "name": "b"})),
        ];
        for (wanted, expected) in table {
            let (got, _) = run(&json!({"tools": tools, "tool_choice": wanted})).unwrap();
            assert_eq!(got["tool_choice"], expected, "{wanted}");
        }
        let allowed = json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [function("b")]}});
        let (got, _) = run(&json!({"tools": tools, "tool_choice": allowed})).unwrap();
        assert_eq!(got["tool_choice"], json!({"type": "any"}));
        assert_eq!(got["tools"].as_array().unwrap().len(), 1);
        assert_eq!(got["tools"][0]["name"], "b");
    }

    #[test]
    fn calls_one_at_a_time_need_a_choice_and_a_choice_needs_tools() {
        let (got, _) = run(&json!({"tools": [function("a")], "parallel_tool_calls": false})).unwrap();
        assert_eq!(got["tool_choice"], json!({"type": "auto", "disable_parallel_tool_use": true}));
        let (got, _) = run(&json!({"tool_choice": "auto", "parallel_tool_calls": false})).unwrap();
        assert_eq!(got["tool_choice"], Value::Null);
    }

    #[test]
    fn the_deprecated_forms_still_work_and_nonsense_is_named() {
        let (got, _) = run(&json!({"functions": [{"name": "f"}], "function_call": {"name": "f"}})).unwrap();
        assert_eq!(got["tools"][0]["input_schema"], json!({"type": "object", "properties": {}}));
        assert_eq!(got["tool_choice"], json!({"type": "tool", "name": "f"}));
        let refused = |request: Value| run(&request).unwrap_err().param().unwrap().to_owned();
        assert_eq!(refused(json!({"functions": [{"nme": "f"}]})), "functions[0]");
        assert_eq!(refused(json!({"tools": [{"type": "function"}]})), "tools[0].function");
        assert_eq!(refused(json!({"tools": [{"type": "custom", "custom": {"name": "x"}}]})), "tools[0].type");
        let unknown = json!({"type": "allowed_tools", "mode": "auto", "tools": [function("z")]});
        assert_eq!(refused(json!({"tools": [function("a")], "tool_choice": unknown})), "tool_choice");
    }

    #[test]
    fn openais_web_search_becomes_anthropics() {
        let place = json!({"type": "approximate", "approximate": {"city": "Bern", "country": "CH"}});
        let options = json!({"search_context_size": "high", "user_location": place});
        let (got, warnings) = run(&json!({"web_search_options": options})).unwrap();
        let location = json!({"type": "approximate", "city": "Bern", "country": "CH"});
        let expected = json!([{"type": "web_search_20250305", "name": "web_search", "user_location": location}]);
        assert_eq!(got["tools"], expected);
        assert_eq!(warnings, ["web_search_options.search_context_size"]);
        let nowhere = json!({"user_location": {"type": "approximate", "city": "Bern"}});
        let (_, warnings) = run(&json!({"web_search_options": nowhere})).unwrap();
        assert_eq!(warnings, ["web_search_options.user_location"]);
    }
}
