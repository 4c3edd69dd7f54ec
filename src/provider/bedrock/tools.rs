//! Tools and the choice among them.
//!
//! Converse refuses a conversation that holds calls unless a list of tools comes with it, and has no way to forbid calls. So
//! `tool_choice: "none"` leaves the tools out where no call was made yet, which is exact; in a conversation with calls the
//! tools stay and a warning says that they may be called. Tools that such a conversation lacks are made up from their names.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::family::Family;
use super::wire::{CachePoint, Function, InputSchema, Tool, ToolConfig};
use crate::api::chat::{self, FunctionSpec};
use crate::error::{Error, ErrorKind, Result};
use crate::provider::anthropic::schema::{input_schema, strict_schema};
use crate::provider::anthropic::tools::{deprecated_choice, is_strict};
use crate::provider::warnings::Warnings;

/// The parameters about tools, and what the conversation holds of them.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) tools: Option<&'a [chat::Tool]>,
    pub(super) functions: Option<&'a [Value]>,
    pub(super) choice: Option<&'a chat::ToolChoice>,
    pub(super) function_call: Option<&'a Value>,
    /// Whether the conversation holds calls or results.
    pub(super) in_use: bool,
    /// The names of the functions that were called.
    pub(super) called: Vec<&'a str>,
    /// The family of the model.
    pub(super) family: Family,
}

/// Translates them; nothing where there are no tools.
pub(super) fn translate<'a>(wanted: &Wanted<'a>, warnings: &mut Warnings) -> Result<Option<ToolConfig<'a>>> {
    let mut tools = Vec::new();
    for (index, tool) in wanted.tools.into_iter().flatten().enumerate() {
        tools.push(translate_tool(index, tool, wanted.family, warnings)?);
        tools.extend(CachePoint::read(&tool.extra).map(Tool::CachePoint));
    }
    for (index, value) in wanted.functions.into_iter().flatten().enumerate() {
        tools.push(deprecated(index, value)?);
    }
    let deprecated = wanted.function_call.map(deprecated_choice).transpose()?;
    let choice = wanted.choice.or(deprecated.as_ref());
    if let Some(chat::ToolChoice::Allowed { names, .. }) = choice {
        tools.retain(|tool| matches!(tool, Tool::Function(spec) if names.iter().any(|name| *name == spec.name)));
        if tools.is_empty() {
            return Err(Error::invalid("tool_choice", "'tool_choice' allows no tool that 'tools' holds."));
        }
    }
    if tools.is_empty() && wanted.in_use {
        warnings.add("tools");
        tools.extend(wanted.called.iter().map(|name| made_up(name)));
    }
    let none = matches!(choice, Some(chat::ToolChoice::None));
    if tools.is_empty() || none && !wanted.in_use {
        return Ok(None);
    }
    if none {
        warnings.add("tool_choice");
    }
    Ok(Some(ToolConfig { tools, tool_choice: choice.and_then(translate_choice) }))
}

/// Takes all cache points out; whether there were any.
pub(super) fn unmark(config: &mut ToolConfig<'_>) -> bool {
    let count = config.tools.len();
    config.tools.retain(|tool| !matches!(tool, Tool::CachePoint(_)));
    config.tools.len() < count
}

/// Whether a call is forced, which a thinking budget forbids.
pub(super) fn is_forced(config: Option<&ToolConfig<'_>>) -> bool {
    let choice = config.and_then(|config| config.tool_choice.as_ref());
    choice.is_some_and(|choice| choice.get("auto").is_none())
}

fn translate_tool<'a>(index: usize, tool: &'a chat::Tool, family: Family, warnings: &mut Warnings) -> Result<Tool<'a>> {
    let chat::Tool { r#type, function, extra } = tool;
    if let Some(system) = extra.get("systemTool") {
        return Ok(Tool::System(system));
    }
    if r#type != "function" {
        let message = "The provider 'bedrock' has no tools but functions and its own ('systemTool').";
        let param = format!("tools[{index}].type");
        return Err(Error::new(ErrorKind::UnsupportedParameter, message).with_param(param));
    }
    let param = format!("tools[{index}].function");
    let FunctionSpec { name, description, parameters, strict } = function
        .as_ref()
        .ok_or_else(|| Error::invalid(param.clone(), format!("Invalid value for '{param}': it is missing.")))?;
    warnings.add_unknown(&format!("tools[{index}]."), extra, &["cache_control"]);
    let strict = is_strict(*strict, family.is_structured(), warnings);
    let parameters = parameters.as_ref();
    let json = if strict { strict_schema(parameters, warnings) } else { input_schema(parameters) };
    Ok(Tool::Function(Function {
        name: name.into(),
        // An empty one is refused.
        description: description.as_deref().filter(|text| !text.trim().is_empty()).map(Cow::Borrowed),
        input_schema: InputSchema { json },
        strict,
    }))
}

/// An entry of the deprecated `functions`.
fn deprecated<'a>(index: usize, value: &Value) -> Result<Tool<'a>> {
    let spec: FunctionSpec = serde_json::from_value(value.clone()).map_err(|cause| {
        let param = format!("functions[{index}]");
        Error::invalid(param.clone(), format!("Invalid value for '{param}': {cause}."))
    })?;
    let json = Cow::Owned(input_schema(spec.parameters.as_ref()).into_owned());
    Ok(Tool::Function(Function {
        name: spec.name.into(),
        description: spec.description.filter(|text| !text.trim().is_empty()).map(Cow::Owned),
        input_schema: InputSchema { json },
        strict: false,
    }))
}

/// A function of which only the name is known.
fn made_up(name: &str) -> Tool<'_> {
    let json = Cow::Owned(json!({"type": "object"}));
    Tool::Function(Function { name: name.into(), description: None, input_schema: InputSchema { json }, strict: false })
}

fn translate_choice(choice: &chat::ToolChoice) -> Option<Value> {
    use chat::ToolChoice as Wanted;
    match choice {
        Wanted::None => None,
        Wanted::Auto | Wanted::Allowed { required: false, .. } => Some(json!({"auto": {}})),
        Wanted::Required | Wanted::Allowed { required: true, .. } => Some(json!({"any": {}})),
        Wanted::Function(name) => Some(json!({"tool": {"name": name}})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::bedrock::family::family;

    fn run(request: &Value, called: &[&str]) -> Result<(Value, Vec<String>)> {
        let tools: Option<Vec<chat::Tool>> = serde_json::from_value(request["tools"].clone()).unwrap();
        let choice: Option<chat::ToolChoice> = serde_json::from_value(request["tool_choice"].clone()).unwrap();
        let functions = request.get("functions").and_then(Value::as_array);
        let wanted = Wanted {
            tools: tools.as_deref(),
            functions: functions.map(Vec::as_slice),
            choice: choice.as_ref(),
            function_call: request.get("function_call"),
            in_use: !called.is_empty(),
            called: called.to_vec(),
            family: family("us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        };
        let mut warnings = Warnings::default();
        let got = translate(&wanted, &mut warnings)?;
        Ok((serde_json::to_value(got).unwrap(), warnings.into_names()))
    }

    fn function(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name}})
    }

    fn spec(name: &str) -> Value {
        json!({"toolSpec": {"name": name, "inputSchema": {"json": {"type": "object", "properties": {}}}}})
    }

    #[test]
    fn a_function_keeps_its_signature_and_its_place_in_the_cache() {
        let (got, warnings) = run(
            &json!({"tools": [
                {"type": "function", "cache_control": {"type": "ephemeral"}, "color": "red", "function": {
                    "name": "f", "description": "d", "strict": true, "parameters": {"type": "object", "properties": {}}}},
                {"type": "system", "systemTool": {"name": "nova_grounding"}},
            ]}),
            &[],
        )
        .unwrap();
        let schema = json!({"type": "object", "properties": {}, "additionalProperties": false});
        assert_eq!(
            got,
            json!({"tools": [
                {"toolSpec": {"name": "f", "description": "d", "strict": true, "inputSchema": {"json": schema}}},
                {"cachePoint": {"type": "default"}},
                {"systemTool": {"name": "nova_grounding"}},
            ]})
        );
        assert_eq!(warnings, ["tools[0].color"]);
    }

    #[test]
    fn every_form_of_tool_choice_has_its_counterpart() {
        let table = [
            (json!("auto"), json!({"auto": {}})),
            (json!("required"), json!({"any": {}})),
            (function("b"), json!({"tool": {"name": "b"}})),
        ];
        for (wanted, expected) in table {
            let request = json!({"tools": [function("a"), function("b")], "tool_choice": wanted});
            assert_eq!(run(&request, &[]).unwrap().0["toolChoice"], expected);
        }
        let allowed = json!({"type": "allowed_tools", "mode": "required", "tools": [function("b")]});
        let (got, _) = run(&json!({"tools": [function("a"), function("b")], "tool_choice": allowed}), &[]).unwrap();
        assert_eq!(got, json!({"tools": [spec("b")], "toolChoice": {"any": {}}}));
    }

    #[test]
    fn no_call_is_no_tools_unless_the_conversation_needs_them() {
        let request = json!({"tools": [function("a")], "tool_choice": "none"});
        assert_eq!(run(&request, &[]).unwrap(), (Value::Null, vec![]));
        let (got, warnings) = run(&request, &["a"]).unwrap();
        assert_eq!((got, warnings), (json!({"tools": [spec("a")]}), vec!["tool_choice".to_owned()]));
        let (got, warnings) = run(&json!({}), &["a"]).unwrap();
        let made_up = json!({"toolSpec": {"name": "a", "inputSchema": {"json": {"type": "object"}}}});
        assert_eq!((got, warnings), (json!({"tools": [made_up]}), vec!["tools".to_owned()]));
    }

    #[test]
    fn the_deprecated_forms_still_work_and_nonsense_is_named() {
        let (got, _) = run(&json!({"functions": [{"name": "f"}], "function_call": {"name": "f"}}), &[]).unwrap();
        assert_eq!(got, json!({"tools": [spec("f")], "toolChoice": {"tool": {"name": "f"}}}));
        let refused = |request: Value| run(&request, &[]).unwrap_err().param().unwrap().to_owned();
        assert_eq!(refused(json!({"functions": [{"nme": "f"}]})), "functions[0]");
        assert_eq!(refused(json!({"tools": [{"type": "function"}]})), "tools[0].function");
        assert_eq!(refused(json!({"tools": [{"type": "custom", "custom": {"name": "x"}}]})), "tools[0].type");
        let unknown = json!({"type": "allowed_tools", "mode": "auto", "tools": [function("z")]});
        assert_eq!(refused(json!({"tools": [function("a")], "tool_choice": unknown})), "tool_choice");
    }
}
