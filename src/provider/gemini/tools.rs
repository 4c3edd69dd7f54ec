//! Tools and the choice among them.

use serde_json::{Map, Value, json};

use super::camel;
use super::warnings::Warnings;
use crate::api::chat::{self, FunctionSpec, ToolChoice};
use crate::error::{Error, ErrorKind, Result};

/// Google's own tools, by the names that clients give as `type`; what else stands in the tool is its configuration.
const OWN_TOOLS: &[&str] = &[
    "codeExecution",
    "computerUse",
    "enterpriseWebSearch",
    "fileSearch",
    "googleMaps",
    "googleSearch",
    "googleSearchRetrieval",
    "retrieval",
    "urlContext",
];

/// The parameters about tools.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) provider: &'static str,
    pub(super) tools: Option<&'a [chat::Tool]>,
    pub(super) functions: Option<&'a [Value]>,
    pub(super) choice: Option<&'a ToolChoice>,
    pub(super) function_call: Option<&'a Value>,
    pub(super) parallel: Option<bool>,
    pub(super) web_search: Option<&'a Value>,
    /// Whether the model is new enough to hold itself to schemas (`VALIDATED`).
    pub(super) validates: bool,
}

/// `tools` and `functionCallingConfig`, as Google wants them.
#[derive(Debug, Default)]
pub(super) struct Tools {
    pub(super) tools: Vec<Value>,
    pub(super) calling: Option<Value>,
}

/// Translates them.
pub(super) fn translate(wanted: &Wanted<'_>, warnings: &mut Warnings) -> Result<Tools> {
    let mut functions: Vec<Function> = Vec::new();
    let mut own = Vec::new();
    for (index, tool) in wanted.tools.into_iter().flatten().enumerate() {
        match translate_tool(wanted.provider, index, tool, warnings)? {
            Translated::Function(function) => functions.push(function),
            Translated::Own(tool) => own.push(tool),
        }
    }
    for (index, value) in wanted.functions.into_iter().flatten().enumerate() {
        let param = format!("functions[{index}]");
        let spec: FunctionSpec = serde_json::from_value(value.clone())
            .map_err(|cause| Error::invalid(param.clone(), format!("Invalid value for '{param}': {cause}.")))?;
        functions.push(function(&spec));
    }
    if let Some(options) = wanted.web_search {
        if let Some(members) = options.as_object() {
            warnings.add_unknown("web_search_options.", members, &[]);
        }
        own.push(json!({"googleSearch": {}}));
    }
    let deprecated = wanted.function_call.map(deprecated_choice).transpose()?;
    let choice = wanted.choice.or(deprecated.as_ref());
    if let Some(ToolChoice::Allowed { names, .. }) = choice {
        functions.retain(|function| names.contains(&function.name));
        if functions.is_empty() {
            return Err(Error::invalid("tool_choice", "'tool_choice' allows no tool that 'tools' holds."));
        }
    }
    if wanted.parallel == Some(false) && !functions.is_empty() {
        warnings.add("parallel_tool_calls");
    }
    let strict = functions.iter().any(|function| function.strict);
    let calling = calling(choice, functions.len(), strict && wanted.validates);
    let validated = calling.as_ref().is_some_and(|calling| calling["mode"] == "ANY" || calling["mode"] == "VALIDATED");
    if strict && !validated {
        warnings.add("tools.function.strict");
    }
    let mut tools = Vec::new();
    if !functions.is_empty() {
        let declarations: Vec<Value> = functions.into_iter().map(|function| function.declaration).collect();
        tools.push(json!({"functionDeclarations": declarations}));
    }
    tools.extend(own);
    Ok(Tools { tools, calling })
}

/// A function's declaration and what is not part of it.
#[derive(Debug)]
struct Function {
    name: String,
    strict: bool,
    declaration: Value,
}

enum Translated {
    Function(Function),
    Own(Value),
}

fn translate_tool(
    provider: &'static str,
    index: usize,
    tool: &chat::Tool,
    warnings: &mut Warnings,
) -> Result<Translated> {
    let chat::Tool { r#type, function: spec, extra } = tool;
    if r#type == "function" {
        let param = format!("tools[{index}].function");
        let spec = spec
            .as_ref()
            .ok_or_else(|| Error::invalid(param.clone(), format!("Invalid value for '{param}': it is missing.")))?;
        warnings.add_unknown(&format!("tools[{index}]."), extra, &[]);
        return Ok(Translated::Function(function(spec)));
    }
    let name = camel(r#type);
    if OWN_TOOLS.contains(&name.as_str()) {
        // `{"type": "google_search", "google_search": {…}}` and `{"type": "google_search", …}` mean the same.
        let nested = extra.iter().find(|(key, _)| camel(key) == name).map(|(_, value)| value.clone());
        let config = nested.unwrap_or_else(|| Value::Object(extra.clone()));
        return Ok(Translated::Own(json!({name: config})));
    }
    let message = format!("The provider '{provider}' has no tools of this type.");
    Err(Error::new(ErrorKind::UnsupportedParameter, message).with_param(format!("tools[{index}].type")))
}

/// Google takes the whole of JSON Schema under `parametersJsonSchema`, so nothing of a schema has to be taken out.
fn function(spec: &FunctionSpec) -> Function {
    let FunctionSpec { name, description, parameters, strict } = spec;
    let mut declaration = Map::new();
    declaration.insert("name".to_owned(), name.clone().into());
    if let Some(description) = description {
        declaration.insert("description".to_owned(), description.clone().into());
    }
    if let Some(parameters) = parameters.as_ref().filter(|schema| schema.as_object().is_some_and(|it| !it.is_empty())) {
        declaration.insert("parametersJsonSchema".to_owned(), parameters.clone());
    }
    Function { name: name.clone(), strict: strict.unwrap_or(false), declaration: declaration.into() }
}

/// The deprecated `function_call`.
fn deprecated_choice(value: &Value) -> Result<ToolChoice> {
    match (value.as_str(), value.get("name").and_then(Value::as_str)) {
        (Some("auto"), _) => Ok(ToolChoice::Auto),
        (Some("none"), _) => Ok(ToolChoice::None),
        (None, Some(name)) => Ok(ToolChoice::Function(name.to_owned())),
        _ => {
            let message = "Invalid value for 'function_call': expected \"auto\", \"none\" or an object with a name.";
            Err(Error::invalid("function_call", message))
        }
    }
}

/// `VALIDATED` is `AUTO` with calls that match their schemas, which is what `strict` asks for.
fn calling(choice: Option<&ToolChoice>, functions: usize, strict: bool) -> Option<Value> {
    match choice {
        Some(ToolChoice::Function(name)) => Some(json!({"mode": "ANY", "allowedFunctionNames": [name]})),
        Some(ToolChoice::Required | ToolChoice::Allowed { required: true, .. }) => Some(json!({"mode": "ANY"})),
        _ if functions == 0 => None,
        Some(ToolChoice::None) => Some(json!({"mode": "NONE"})),
        _ if strict => Some(json!({"mode": "VALIDATED"})),
        Some(ToolChoice::Auto | ToolChoice::Allowed { .. }) => Some(json!({"mode": "AUTO"})),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(request: &Value) -> Result<(Value, Value, Vec<String>)> {
        let tools: Option<Vec<chat::Tool>> = serde_json::from_value(request["tools"].clone()).unwrap();
        let choice: Option<ToolChoice> = serde_json::from_value(request["tool_choice"].clone()).unwrap();
        let wanted = Wanted {
            provider: "gemini",
            tools: tools.as_deref(),
            functions: request.get("functions").and_then(Value::as_array).map(Vec::as_slice),
            choice: choice.as_ref(),
            function_call: request.get("function_call"),
            parallel: request["parallel_tool_calls"].as_bool(),
            web_search: request.get("web_search_options"),
            validates: true,
        };
        let mut warnings = Warnings::default();
        let Tools { tools, calling } = translate(&wanted, &mut warnings)?;
        Ok((tools.into(), calling.into(), warnings.into_names()))
    }

    fn function(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name}})
    }

    #[test]
    fn functions_keep_their_schema_and_googles_own_tools_stand_beside_them() {
        let schema =
            json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}, "additionalProperties": false});
        let (tools, calling, warnings) = run(&json!({"tools": [
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": schema, "strict": true}},
            {"type": "google_search"},
            {"type": "fileSearch", "fileSearchStoreNames": ["s"]},
        ]}))
        .unwrap();
        let declaration = json!({"name": "f", "description": "d", "parametersJsonSchema": schema});
        assert_eq!(
            tools,
            json!([{"functionDeclarations": [declaration]}, {"googleSearch": {}}, {"fileSearch": {"fileSearchStoreNames": ["s"]}}])
        );
        assert_eq!((calling, warnings), (json!({"mode": "VALIDATED"}), Vec::new()));
    }

    #[test]
    fn every_form_of_tool_choice_has_its_counterpart() {
        let tools = json!([function("a"), function("b")]);
        let table = [
            (json!("auto"), json!({"mode": "AUTO"})),
            (json!("none"), json!({"mode": "NONE"})),
            (json!("required"), json!({"mode": "ANY"})),
            (function("b"), json!({"mode": "ANY", "allowedFunctionNames": ["b"]})),
        ];
        for (wanted, expected) in table {
            let (_, calling, _) = run(&json!({"tools": tools, "tool_choice": wanted})).unwrap();
            assert_eq!(calling, expected, "{wanted}");
        }
        let allowed = json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [function("b")]}});
        let (left, calling, _) = run(&json!({"tools": tools, "tool_choice": allowed})).unwrap();
        assert_eq!((&left[0]["functionDeclarations"], calling), (&json!([{"name": "b"}]), json!({"mode": "ANY"})));
        let (_, calling, warnings) = run(&json!({"tools": tools, "parallel_tool_calls": false})).unwrap();
        assert_eq!((calling, warnings), (Value::Null, vec!["parallel_tool_calls".to_owned()]));
    }

    #[test]
    fn the_deprecated_forms_work_and_nonsense_is_named() {
        let (tools, calling, _) = run(&json!({"functions": [{"name": "f"}], "function_call": {"name": "f"}})).unwrap();
        assert_eq!(tools, json!([{"functionDeclarations": [{"name": "f"}]}]));
        assert_eq!(calling, json!({"mode": "ANY", "allowedFunctionNames": ["f"]}));
        let refused = |request: Value| run(&request).unwrap_err().param().unwrap().to_owned();
        assert_eq!(refused(json!({"functions": [{"nme": "f"}]})), "functions[0]");
        assert_eq!(refused(json!({"tools": [{"type": "function"}]})), "tools[0].function");
        assert_eq!(refused(json!({"tools": [{"type": "custom", "custom": {"name": "x"}}]})), "tools[0].type");
        let (tools, _, warnings) = run(&json!({"web_search_options": {"search_context_size": "low"}})).unwrap();
        assert_eq!(tools, json!([{"googleSearch": {}}]));
        assert_eq!(warnings, ["web_search_options.search_context_size"]);
    }
}
