//! Tools and the choice among them.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::wire::{Spec, Tool};
use crate::api::chat::{self, FunctionSpec};
use crate::error::{Error, ErrorKind, Result};
use crate::provider::warnings::Warnings;

/// The parameters about tools.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) tools: Option<&'a [chat::Tool]>,
    pub(super) functions: Option<&'a [Value]>,
    pub(super) choice: Option<&'a chat::ToolChoice>,
    pub(super) function_call: Option<&'a Value>,
    pub(super) parallel: Option<bool>,
}

/// What they become.
#[derive(Debug)]
pub(super) struct Tools<'a> {
    pub(super) tools: Vec<Tool<'a>>,
    pub(super) choice: Option<&'static str>,
    pub(super) strict: bool,
}

/// Translates them. Cohere can't be told to call one function of several: it gets that one alone, and must call.
pub(super) fn translate<'a>(wanted: &Wanted<'a>, warnings: &mut Warnings) -> Result<Tools<'a>> {
    let mut tools = Vec::new();
    let mut strict = Vec::new();
    for (index, tool) in wanted.tools.into_iter().flatten().enumerate() {
        let spec = function(index, tool, warnings)?;
        strict.push(spec.strict == Some(true));
        tools.push(translate_tool(spec));
    }
    for (index, value) in wanted.functions.into_iter().flatten().enumerate() {
        let spec = deprecated(index, value)?;
        strict.push(spec.strict == Some(true));
        tools.push(owned(spec));
    }
    let deprecated = wanted.function_call.map(deprecated_choice).transpose()?;
    let choice = wanted.choice.or(deprecated.as_ref());
    let only: Option<&[String]> = match choice {
        Some(chat::ToolChoice::Allowed { names, .. }) => Some(names),
        Some(chat::ToolChoice::Function(name)) => Some(std::slice::from_ref(name)),
        _ => None,
    };
    if let Some(names) = only {
        tools.retain(|tool: &Tool<'_>| names.iter().any(|name| *name == tool.function.name));
        if tools.is_empty() {
            return Err(Error::invalid("tool_choice", "'tool_choice' allows no tool that 'tools' holds."));
        }
    }
    if wanted.parallel == Some(false) && !tools.is_empty() {
        warnings.add("parallel_tool_calls");
    }
    // Cohere is strict about all tools or none.
    let all_strict = !strict.is_empty() && strict.iter().all(|strict| *strict);
    if let Some(index) = strict.iter().position(|strict| *strict).filter(|_| !all_strict) {
        warnings.add(&format!("tools[{index}].function.strict"));
    }
    Ok(Tools { tools, choice: word(choice), strict: all_strict })
}

fn function<'a>(index: usize, tool: &'a chat::Tool, warnings: &mut Warnings) -> Result<&'a FunctionSpec> {
    let chat::Tool { r#type, function, extra } = tool;
    if r#type != "function" {
        let message = "The provider 'cohere' has function tools only.";
        let param = format!("tools[{index}].type");
        return Err(Error::new(ErrorKind::UnsupportedParameter, message).with_param(param));
    }
    warnings.add_unknown(&format!("tools[{index}]."), extra, &[]);
    let param = format!("tools[{index}].function");
    let missing = || Error::invalid(param.clone(), format!("Invalid value for '{param}': it is missing."));
    function.as_ref().ok_or_else(missing)
}

fn translate_tool(spec: &FunctionSpec) -> Tool<'_> {
    let FunctionSpec { name, description, parameters, strict: _ } = spec;
    Tool {
        r#type: "function",
        function: Spec {
            name: Cow::Borrowed(name),
            description: description.as_deref().map(Cow::Borrowed),
            parameters: parameters.as_ref().map_or_else(no_parameters, Cow::Borrowed),
        },
    }
}

fn owned<'a>(spec: FunctionSpec) -> Tool<'a> {
    let FunctionSpec { name, description, parameters, strict: _ } = spec;
    Tool {
        r#type: "function",
        function: Spec {
            name: Cow::Owned(name),
            description: description.map(Cow::Owned),
            parameters: parameters.map_or_else(no_parameters, Cow::Owned),
        },
    }
}

/// Cohere requires a schema, OpenAI does not.
fn no_parameters<'a>() -> Cow<'a, Value> {
    Cow::Owned(json!({"type": "object", "properties": {}}))
}

/// An entry of the deprecated `functions`.
fn deprecated(index: usize, value: &Value) -> Result<FunctionSpec> {
    serde_json::from_value(value.clone()).map_err(|cause| {
        let param = format!("functions[{index}]");
        Error::invalid(param.clone(), format!("Invalid value for '{param}': {cause}."))
    })
}

/// The deprecated `function_call`.
fn deprecated_choice(value: &Value) -> Result<chat::ToolChoice> {
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

/// Cohere has no word for the model's own decision: it is the default.
const fn word(choice: Option<&chat::ToolChoice>) -> Option<&'static str> {
    match choice {
        Some(chat::ToolChoice::None) => Some("NONE"),
        Some(
            chat::ToolChoice::Required
            | chat::ToolChoice::Function(_)
            | chat::ToolChoice::Allowed { required: true, .. },
        ) => Some("REQUIRED"),
        Some(chat::ToolChoice::Auto | chat::ToolChoice::Allowed { .. }) | None => None,
    }
}
