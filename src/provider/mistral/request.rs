//! The changes that a request needs: other names, other words, and out with what Mistral answers 422 to.
//!
//! Parameters that neither OpenAI nor this file knows are forwarded: they may be Mistral's own (`safe_prompt`,
//! `prompt_mode`, `guardrails`), and where they are not, its answer names them.

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::messages;
use crate::api::chat::ToolChoice;
use crate::api::rope::Rope;
use crate::api::scan::{Body, Edit};
use crate::error::{Error, ErrorKind, Result};
use crate::provider::warnings::{Warnings, is_neutral};
use crate::provider::{ChatCall, Target};

/// OpenAI's parameters that Mistral does not know, with the value that says what Mistral does anyway.
const UNKNOWN: &[(&str, &[&str])] = &[
    ("audio", &[]),
    ("logit_bias", &[]),
    // Refused for every model on offer ("Logprobs are not enabled for this model").
    ("logprobs", &[]),
    ("modalities", &[]),
    ("prompt_cache_retention", &["in_memory", "in-memory"]),
    ("safety_identifier", &[]),
    ("service_tier", &["auto", "default"]),
    ("store", &[]),
    ("top_logprobs", &[]),
    ("user", &[]),
    ("verbosity", &["medium"]),
    ("web_search_options", &[]),
];

/// The chat body for Mistral, and the names of what could not be said.
pub(super) fn chat(call: &ChatCall<'_>, target: &Target<'_>) -> Result<(Rope, Vec<String>)> {
    let body = call.body;
    let mut warnings = Warnings::default();
    let mut edit = body.edit();
    edit.set("model", json_text(target.model)).remove("timeout");
    stream_options(body, &mut edit, &mut warnings)?;
    bound(body, &mut edit, &mut warnings);
    seed(body, &mut edit, &mut warnings)?;
    effort(body, &mut edit, &mut warnings)?;
    temperature(body, &mut edit, &mut warnings)?;
    tools(body, &mut edit)?;
    only_text(body)?;
    for (name, same) in UNKNOWN {
        take_out(body, &mut edit, name, same, &mut warnings)?;
    }
    if let Some(messages) = messages::translate(body.raw("messages").unwrap_or("[]"), target.model, &mut warnings)? {
        edit.set("messages", messages);
    }
    Ok((edit.rope(), warnings.into_names()))
}

/// The embeddings body for Mistral, and the names of what could not be said.
pub(super) fn embeddings(body: &Body, target: &Target<'_>) -> Result<(Rope, Vec<String>)> {
    let input: Option<Value> = body.get("input")?;
    let is_text = |value: &Value| value.is_string();
    if input.as_ref().and_then(Value::as_array).is_some_and(|list| !list.iter().all(is_text)) {
        let message = "The provider 'mistral' embeds texts, not tokens.";
        return Err(Error::new(ErrorKind::UnsupportedParameter, message).with_param("input"));
    }
    let mut warnings = Warnings::default();
    let mut edit = body.edit();
    edit.set("model", json_text(target.model)).remove("timeout").remove("dimensions");
    if let Some(dimensions) = body.raw("dimensions").filter(|raw| *raw != "null") {
        edit.set("output_dimension", dimensions);
    }
    take_out(body, &mut edit, "user", &[], &mut warnings)?;
    Ok((edit.rope(), warnings.into_names()))
}

/// Takes a parameter out, and names it unless it says nothing, or only what happens anyway.
fn take_out(
    body: &Body,
    edit: &mut Edit<'_>,
    name: &'static str,
    same: &[&str],
    warnings: &mut Warnings,
) -> Result<()> {
    let Some(value) = body.get::<Value>(name)? else {
        edit.remove(name);
        return Ok(());
    };
    edit.remove(name);
    let says_text = name == "modalities" && value == json!(["text"]);
    if !is_neutral(&value) && !says_text && !value.as_str().is_some_and(|word| same.contains(&word)) {
        warnings.add(name);
    }
    Ok(())
}

/// An answer that is heard can't be had, and one that is read is another answer.
fn only_text(body: &Body) -> Result<()> {
    let modalities: Vec<String> = body.get("modalities")?.unwrap_or_default();
    if modalities.iter().all(|modality| modality == "text") {
        return Ok(());
    }
    let message = "The provider 'mistral' answers with text only.";
    Err(Error::new(ErrorKind::UnsupportedParameter, message).with_param("modalities"))
}

/// Mistral sends the usage unasked and has no other option.
fn stream_options(body: &Body, edit: &mut Edit<'_>, warnings: &mut Warnings) -> Result<()> {
    if let Some(options) = body.get::<Map<String, Value>>("stream_options")? {
        // Chunks are always padded against eavesdroppers.
        warnings.add_unknown("stream_options.", &options, &["include_usage", "include_obfuscation"]);
    }
    edit.remove("stream_options");
    Ok(())
}

/// One bound under its older name; the newer one wins.
fn bound(body: &Body, edit: &mut Edit<'_>, warnings: &mut Warnings) {
    let given = |name: &str| body.raw(name).filter(|raw| *raw != "null");
    if let Some(newer) = given("max_completion_tokens") {
        if given("max_tokens").is_some_and(|older| older != newer) {
            warnings.add("max_tokens");
        }
        edit.set("max_tokens", newer);
    }
    edit.remove("max_completion_tokens");
}

/// `seed` is `random_seed`, and never negative.
fn seed(body: &Body, edit: &mut Edit<'_>, warnings: &mut Warnings) -> Result<()> {
    let Some(seed) = body.get::<Value>("seed")? else {
        edit.remove("seed");
        return Ok(());
    };
    edit.remove("seed");
    let own = body.raw("random_seed").filter(|raw| *raw != "null");
    let Some(seed) = seed.as_u64().filter(|seed| own.is_none_or(|own| own == seed.to_string())) else {
        warnings.add("seed");
        return Ok(());
    };
    edit.set("random_seed", seed.to_string());
    Ok(())
}

/// Mistral's temperatures end at 1.5.
fn temperature(body: &Body, edit: &mut Edit<'_>, warnings: &mut Warnings) -> Result<()> {
    const HIGHEST: f64 = 1.5;
    if body.get::<f64>("temperature")?.is_some_and(|temperature| temperature > HIGHEST) {
        warnings.add("temperature");
        edit.set("temperature", HIGHEST.to_string());
    }
    Ok(())
}

/// Mistral thinks with `high` effort or with `none`.
fn effort(body: &Body, edit: &mut Edit<'_>, warnings: &mut Warnings) -> Result<()> {
    let Some(effort) = body.get::<String>("reasoning_effort")? else {
        edit.remove("reasoning_effort");
        return Ok(());
    };
    let nearest = match effort.as_str() {
        "none" | "high" => return Ok(()),
        "minimal" => "none",
        "low" | "medium" | "xhigh" | "max" => "high",
        _ => {
            let known = "none, minimal, low, medium, high, xhigh or max";
            let message = format!("Invalid value for 'reasoning_effort': '{effort}' is not {known}.");
            return Err(Error::invalid("reasoning_effort", message));
        }
    };
    warnings.add("reasoning_effort");
    edit.set("reasoning_effort", json_text(nearest));
    Ok(())
}

/// The choice in Mistral's words, and the deprecated forms in the newer ones.
fn tools(body: &Body, edit: &mut Edit<'_>) -> Result<()> {
    let mut tools: Vec<Box<RawValue>> = body.get("tools")?.unwrap_or_default();
    let mut changed = body.raw("tools").is_some() && tools.is_empty();
    for tool in &mut tools {
        changed |= with_parameters(tool)?;
    }
    for function in body.get::<Vec<Box<RawValue>>>("functions")?.unwrap_or_default() {
        let mut tool = raw(&json!({"type": "function", "function": function}))?;
        with_parameters(&mut tool)?;
        tools.push(tool);
        changed = true;
    }
    let mut choice: Option<ToolChoice> = body.get("tool_choice")?;
    if let (None, Some(call)) = (&choice, body.get::<Value>("function_call")?) {
        choice = Some(deprecated_choice(&call)?);
        edit.set("tool_choice", word(choice.as_ref()));
    }
    edit.remove("functions").remove("function_call");
    match &choice {
        Some(ToolChoice::Required) => {
            edit.set("tool_choice", word(choice.as_ref()));
        }
        Some(ToolChoice::Allowed { names, .. }) => {
            tools.retain(|tool| name(tool).is_some_and(|name| names.contains(&name)));
            if tools.is_empty() {
                return Err(Error::invalid("tool_choice", "'tool_choice' allows no tool that 'tools' holds."));
            }
            changed = true;
            edit.set("tool_choice", word(choice.as_ref()));
        }
        _ => {}
    }
    if changed && tools.is_empty() {
        edit.remove("tools");
    } else if changed {
        edit.set("tools", serde_json::to_string(&tools).map_err(Error::internal)?);
    }
    Ok(())
}

/// A choice in Mistral's words.
fn word(choice: Option<&ToolChoice>) -> String {
    match choice {
        Some(ToolChoice::Required | ToolChoice::Allowed { required: true, .. }) => json!("any"),
        Some(ToolChoice::None) => json!("none"),
        Some(ToolChoice::Function(name)) => json!({"type": "function", "function": {"name": name}}),
        Some(ToolChoice::Auto | ToolChoice::Allowed { .. }) | None => json!("auto"),
    }
    .to_string()
}

/// The deprecated `function_call`.
fn deprecated_choice(call: &Value) -> Result<ToolChoice> {
    match (call.as_str(), call.get("name").and_then(Value::as_str)) {
        (Some("auto"), _) => Ok(ToolChoice::Auto),
        (Some("none"), _) => Ok(ToolChoice::None),
        (None, Some(name)) => Ok(ToolChoice::Function(name.to_owned())),
        _ => {
            let message = "Invalid value for 'function_call': expected \"auto\", \"none\" or an object with a name.";
            Err(Error::invalid("function_call", message))
        }
    }
}

/// Gives a function without parameters the empty schema that Mistral requires and OpenAI does not.
fn with_parameters(tool: &mut Box<RawValue>) -> Result<bool> {
    let mut value: Value = serde_json::from_str(tool.get()).unwrap_or_default();
    let function = value.get_mut("function").and_then(Value::as_object_mut);
    let Some(function) = function.filter(|function| function.get("parameters").is_none_or(Value::is_null)) else {
        return Ok(false);
    };
    function.insert("parameters".to_owned(), json!({"type": "object", "properties": {}}));
    *tool = raw(&value)?;
    Ok(true)
}

fn name(tool: &RawValue) -> Option<String> {
    let tool: Value = serde_json::from_str(tool.get()).ok()?;
    tool.pointer("/function/name")?.as_str().map(str::to_owned)
}

fn raw(value: &Value) -> Result<Box<RawValue>> {
    serde_json::value::to_raw_value(value).map_err(Error::internal)
}

fn json_text(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::head::ChatHead;
    use crate::config::Secret;
    use crate::provider::mistral::MISTRAL;
    use crate::provider::{Endpoint, Outgoing};
    use bytes::Bytes;

    fn with_target<T>(run: impl FnOnce(&Target<'_>) -> T) -> T {
        let endpoint = Endpoint::parse(MISTRAL.base_url).unwrap();
        let (key, options) = (Secret::new("key"), Map::new());
        run(&Target {
            provider: &MISTRAL,
            endpoint: &endpoint,
            key: &key,
            options: &options,
            model: "mistral-small-latest",
            now: jiff::Timestamp::UNIX_EPOCH,
        })
    }

    fn send(body: &str) -> Result<Outgoing> {
        let body = Body::scan(Bytes::copy_from_slice(body.as_bytes())).unwrap();
        let head = ChatHead::read(&body)?;
        with_target(|target| MISTRAL.dialect.chat(&ChatCall::new(&body, &head), target))
    }

    /// What is sent beside the model and the question, and the warnings.
    fn sent(parameters: &str) -> (Value, Vec<String>) {
        let outgoing =
            send(&format!(r#"{{"model":"m","messages":[{{"role":"user","content":"q"}}],{parameters}}}"#)).unwrap();
        let mut body: Value = serde_json::from_slice(&outgoing.body.whole()).unwrap();
        let members = body.as_object_mut().unwrap();
        assert_eq!(members.remove("model"), Some(json!("mistral-small-latest")));
        assert_eq!(members.remove("messages"), Some(json!([{"role": "user", "content": "q"}])));
        (body, outgoing.warnings)
    }

    fn refused(parameters: &str) -> String {
        let error = send(&format!(r#"{{"model":"m","messages":[{{"role":"user","content":"q"}}],{parameters}}}"#));
        error.err().unwrap().param().unwrap().to_owned()
    }

    #[test]
    fn what_both_know_reaches_mistral_as_the_bytes_it_is() {
        let talk = r#""messages" : [{"role":"user","content":"hi" }], "temperature":0.70, "random_seed": 7, "safe_prompt":true, "n":2"#;
        let sent =
            send(&format!(r#"{{"model":"m", {talk}, "stream":true,"stream_options":{{"include_usage":true}}}}"#))
                .unwrap();
        assert_eq!(sent.path, "/v1/chat/completions");
        assert_eq!(sent.body, format!(r#"{{"model":"mistral-small-latest", {talk}, "stream":true}}"#));
        assert!(sent.warnings.is_empty());
        assert!(sent.headers.iter().all(|(_, value)| value.is_sensitive()));
    }

    #[test]
    fn what_mistral_requires_and_openai_does_not() {
        let tool = |function: Value| json!({"type": "function", "function": function});
        let (body, warnings) = sent(r#""tools":[{"type":"function","function":{"name":"f"}}],"temperature":2"#);
        let function = json!({"name": "f", "parameters": {"type": "object", "properties": {}}});
        assert_eq!(body, json!({"tools": [tool(function)], "temperature": 1.5}));
        assert_eq!(warnings, ["temperature"]);
    }

    #[test]
    fn other_names_and_other_words() {
        assert_eq!(sent(r#""seed":5"#), (json!({"random_seed": 5}), vec![]));
        assert_eq!(sent(r#""seed":-5"#), (json!({}), vec!["seed".to_owned()]));
        assert_eq!(sent(r#""max_completion_tokens":9"#), (json!({"max_tokens": 9}), vec![]));
        let both = sent(r#""max_tokens":7,"max_completion_tokens":9"#);
        assert_eq!(both, (json!({"max_tokens": 9}), vec!["max_tokens".to_owned()]));
        let warned = vec!["reasoning_effort".to_owned()];
        assert_eq!(sent(r#""reasoning_effort":"low""#), (json!({"reasoning_effort": "high"}), warned));
        assert_eq!(sent(r#""reasoning_effort":"none""#), (json!({"reasoning_effort": "none"}), vec![]));
        assert_eq!(refused(r#""reasoning_effort":"much""#), "reasoning_effort");
    }

    #[test]
    fn a_choice_of_tools_is_said_in_mistrals_words() {
        let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": {}}});
        let (body, _) =
            sent(r#""tools":[{"type":"function","function":{"name":"a","parameters":{}}}],"tool_choice":"required""#);
        assert_eq!(body, json!({"tools": [tool("a")], "tool_choice": "any"}));
        let allowed = json!({"tools": [tool("a"), tool("b")],
            "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [tool("b")]}}});
        let allowed = allowed.to_string();
        let (body, _) = sent(&allowed[1..allowed.len() - 1]);
        assert_eq!(body, json!({"tools": [tool("b")], "tool_choice": "auto"}));
        let (body, _) = sent(r#""functions":[{"name":"f","parameters":{}}],"function_call":{"name":"f"}"#);
        let choice = json!({"type": "function", "function": {"name": "f"}});
        assert_eq!(body, json!({"tool_choice": choice, "tools": [tool("f")]}));
        assert_eq!(sent(r#""tools":[]"#).0, json!({}));
    }

    #[test]
    fn what_mistral_refuses_is_taken_out_and_named_unless_it_says_nothing() {
        let (body, warnings) = sent(
            r#""logprobs":false,"top_logprobs":0,"logit_bias":{},"store":false,"service_tier":"auto","user":"",
               "modalities":["text"],"verbosity":"medium","timeout":3,"seed":null,"stream_options":null"#,
        );
        assert_eq!((body, warnings), (json!({}), vec![]));
        let (body, warnings) = sent(r#""logprobs":true,"top_logprobs":2,"user":"u","service_tier":"flex""#);
        assert_eq!(body, json!({}));
        assert_eq!(warnings, ["logprobs", "service_tier", "top_logprobs", "user"]);
        assert_eq!(refused(r#""modalities":["text","audio"]"#), "modalities");
    }

    #[test]
    fn embeddings_are_forwarded_with_mistrals_name_for_the_dimensions() {
        let send = |body: &'static str| {
            let body = Body::scan(Bytes::from_static(body.as_bytes())).unwrap();
            with_target(|target| MISTRAL.dialect.embeddings(&body, target))
        };
        let sent =
            send(r#"{"model":"m","input":["a","b"],"encoding_format":"base64","dimensions":64,"user":"u"}"#).unwrap();
        assert_eq!(sent.path, "/v1/embeddings");
        let expected =
            r#"{"model":"mistral-small-latest","input":["a","b"],"encoding_format":"base64","output_dimension":64}"#;
        assert_eq!((sent.body.whole().as_ref(), sent.warnings), (expected.as_bytes(), vec!["user".to_owned()]));
        assert_eq!(send(r#"{"model":"m","input":[[1,2]]}"#).err().unwrap().param(), Some("input"));
    }
}
