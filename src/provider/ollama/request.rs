//! The request's parameters: OpenAI's chat completion as a call of `/api/chat`.
//!
//! Every parameter is translated, passed on, named in a warning, or refused; [`translate`] destructures the request without
//! `..`, so that a new one does not build until it is decided here.

use std::borrow::Cow;

use http::Method;
use serde_json::{Map, Value, json};

use super::messages::Conversation;
use super::wire::{Function, Request, Tool};
use crate::api::chat::{self, ChatRequest, FunctionSpec, ResponseFormat, StreamOptions, ToolChoice};
use crate::api::literal;
use crate::error::{Error, ErrorKind, Result};
use crate::provider::refusal::one_text_answer;
use crate::provider::warnings::Warnings;
use crate::provider::{ChatCall, Outgoing, Target};

/// Ollama's own members of `options` that a client may also write at the top, as it writes `temperature`.
const OPTIONS: &[&str] = &[
    "main_gpu",
    "min_p",
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
    "num_batch",
    "num_ctx",
    "num_gpu",
    "num_keep",
    "num_predict",
    "num_thread",
    "penalize_newline",
    "repeat_last_n",
    "repeat_penalty",
    "tfs_z",
    "top_k",
    "typical_p",
    "use_mmap",
];
/// Ollama's own members of the request, passed on under their names; those of `READ` are looked at.
const NATIVE: &[&str] = &["keep_alive", "shift", "truncate"];
const READ: &[&str] = &["format", "options", "think"];

/// The whole call.
pub(super) fn chat(call: &ChatCall<'_>, target: &Target<'_>) -> Result<Outgoing> {
    let (request, warnings) = translate(call.request()?, target.model)?;
    let body = literal::body(&request, call.body.bytes().len() + 256)?;
    super::outgoing(target, Method::POST, "/api/chat", body.into(), warnings.into_names())
}

/// Translates a request for this model.
pub(super) fn translate<'a>(request: &'a ChatRequest, model: &'a str) -> Result<(Request<'a>, Warnings)> {
    // A field that is not bound here is decided in `options`, `tools` or `warn_inexpressible`, except ours: `model`, `timeout`.
    let ChatRequest {
        model: _,
        messages,
        audio: _,
        frequency_penalty: _,
        function_call: _,
        functions: _,
        logit_bias: _,
        logprobs,
        max_completion_tokens: _,
        max_tokens: _,
        metadata: _,
        modalities,
        n,
        parallel_tool_calls: _,
        prediction: _,
        presence_penalty: _,
        prompt_cache_key: _,
        prompt_cache_retention: _,
        reasoning_effort,
        response_format,
        safety_identifier: _,
        seed: _,
        service_tier: _,
        stop: _,
        store: _,
        stream,
        stream_options: _,
        temperature: _,
        tool_choice: _,
        tools: _,
        top_logprobs,
        top_p: _,
        user: _,
        verbosity: _,
        web_search_options: _,
        timeout: _,
        extra,
    } = request;
    one_text_answer("ollama", *n, modalities.as_deref())?;
    let mut conversation = Conversation::translate(messages)?;
    let mut warnings = std::mem::take(&mut conversation.warnings);
    warnings.add_unknown("", extra, &[OPTIONS, NATIVE, READ].concat());
    warn_inexpressible(request, &mut warnings);
    let native = NATIVE.iter().filter_map(|name| Some(((*name).to_owned(), native(extra, name)?.clone())));
    let translated = Request {
        model,
        messages: conversation.messages,
        tools: tools(request, &mut warnings)?,
        stream: stream.unwrap_or(false),
        think: think(reasoning_effort.as_deref(), extra, model, &mut warnings)?,
        format: format(response_format.as_ref(), extra, &mut warnings),
        options: options(request)?,
        logprobs: logprobs.filter(|wanted| *wanted),
        top_logprobs: top_logprobs.filter(|count| *count > 0),
        native: native.collect(),
    };
    Ok((translated, warnings))
}

fn unsupported(param: &str, message: &'static str) -> Error {
    Error::new(ErrorKind::UnsupportedParameter, message).with_param(param)
}

/// Parameters without a counterpart whose absence changes the answer less than a refusal would.
fn warn_inexpressible(request: &ChatRequest, warnings: &mut Warnings) {
    let two_bounds = request.max_tokens.is_some() && request.max_completion_tokens.is_some();
    let tier = request.service_tier.as_deref();
    for (name, lost) in [
        ("audio", request.audio.is_some()),
        ("logit_bias", request.logit_bias.as_ref().is_some_and(|bias| !bias.is_empty())),
        ("max_tokens", two_bounds && request.max_tokens != request.max_completion_tokens),
        ("metadata", request.metadata.as_ref().is_some_and(|metadata| !metadata.is_empty())),
        ("parallel_tool_calls", request.parallel_tool_calls == Some(false) && has_tools(request)),
        ("prediction", request.prediction.is_some()),
        ("prompt_cache_key", request.prompt_cache_key.is_some()),
        ("prompt_cache_retention", request.prompt_cache_retention.is_some()),
        ("safety_identifier", request.safety_identifier.is_some()),
        ("service_tier", tier.is_some_and(|tier| !matches!(tier, "auto" | "default"))),
        ("store", request.store == Some(true)),
        ("user", request.user.as_ref().is_some_and(|user| !user.is_empty())),
        ("verbosity", request.verbosity.as_deref().is_some_and(|verbosity| verbosity != "medium")),
        ("web_search_options", request.web_search_options.is_some()),
    ] {
        if lost {
            warnings.add(name);
        }
    }
    if let Some(StreamOptions { include_usage: _, extra }) = &request.stream_options {
        // Obfuscation pads OpenAI's chunks against eavesdroppers; nobody asks for it by leaving it on.
        warnings.add_unknown("stream_options.", extra, &["include_obfuscation"]);
    }
}

fn has_tools(request: &ChatRequest) -> bool {
    request.tools.as_ref().is_some_and(|tools| !tools.is_empty())
        || request.functions.as_ref().is_some_and(|functions| !functions.is_empty())
}

fn native<'a>(extra: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    extra.get(name).filter(|value| !value.is_null())
}

/// The sampling parameters: the client's own `options`, then its own names at the top, then OpenAI's.
fn options(request: &ChatRequest) -> Result<Map<String, Value>> {
    let mut options = match native(&request.extra, "options") {
        None => Map::new(),
        Some(Value::Object(members)) => members.clone(),
        Some(_) => return Err(Error::invalid("options", "Invalid type for 'options': expected an object.")),
    };
    for name in OPTIONS {
        if let Some(value) = native(&request.extra, name) {
            options.insert((*name).to_owned(), value.clone());
        }
    }
    let stop = request.stop.as_ref().filter(|stop| !stop.0.is_empty());
    for (name, value) in [
        ("temperature", request.temperature.map(Value::from)),
        ("top_p", request.top_p.map(Value::from)),
        ("num_predict", request.max_completion_tokens.or(request.max_tokens).map(Value::from)),
        ("stop", stop.map(|stop| Value::from(stop.0.as_slice()))),
        ("seed", request.seed.clone()),
        ("presence_penalty", request.presence_penalty.map(Value::from)),
        ("frequency_penalty", request.frequency_penalty.map(Value::from)),
    ] {
        if let Some(value) = value {
            options.insert(name.to_owned(), value);
        }
    }
    Ok(options)
}

/// Whether and how hard the model thinks. Only gpt-oss knows levels, and it can't be kept from thinking; every other model
/// is told yes or no, where `medium` is what a plain yes means.
fn think(
    effort: Option<&str>,
    extra: &Map<String, Value>,
    model: &str,
    warnings: &mut Warnings,
) -> Result<Option<Value>> {
    if let Some(own) = native(extra, "think") {
        if effort.is_some() {
            warnings.add("reasoning_effort");
        }
        return Ok(Some(own.clone()));
    }
    let Some(effort) = effort else { return Ok(None) };
    let levels = model.rsplit('/').next().unwrap_or_default().starts_with("gpt-oss");
    let (said, exact) = match (effort, levels) {
        ("low" | "medium" | "high", true) => (json!(effort), true),
        ("none" | "minimal", true) => (json!("low"), false),
        ("xhigh" | "max", true) => (json!("high"), false),
        ("none", false) => (json!(false), true),
        ("medium", false) => (json!(true), true),
        ("minimal" | "low" | "high" | "xhigh" | "max", false) => (json!(true), false),
        _ => {
            let known = "none, minimal, low, medium, high, xhigh or max";
            let message = format!("Invalid value for 'reasoning_effort': '{effort}' is not {known}.");
            return Err(Error::invalid("reasoning_effort", message));
        }
    };
    if !exact {
        warnings.add("reasoning_effort");
    }
    Ok(Some(said))
}

/// Any JSON, or a schema, which is always enforced; its name and its description have no place.
fn format<'a>(
    format: Option<&'a ResponseFormat>,
    extra: &'a Map<String, Value>,
    warnings: &mut Warnings,
) -> Option<Cow<'a, Value>> {
    let own = native(extra, "format");
    if own.is_some() && format.is_some() {
        warnings.add("format");
    }
    match format {
        None => own.map(Cow::Borrowed),
        Some(ResponseFormat::Text) => None,
        Some(ResponseFormat::JsonObject) => Some(Cow::Owned(json!("json"))),
        Some(ResponseFormat::JsonSchema { json_schema }) => {
            if json_schema.description.is_some() {
                warnings.add("response_format.json_schema.description");
            }
            Some(json_schema.schema.as_ref().map_or_else(|| Cow::Owned(json!("json")), Cow::Borrowed))
        }
    }
}

/// The tools. Ollama has no choice among them: none are sent where none may be called, only those that may be called are
/// sent, and that one must be called can't be said.
fn tools<'a>(request: &'a ChatRequest, warnings: &mut Warnings) -> Result<Vec<Tool<'a>>> {
    let mut tools = Vec::new();
    for (index, tool) in request.tools.iter().flatten().enumerate() {
        tools.push(tool_of(&format!("tools[{index}]"), tool, warnings)?);
    }
    for (index, value) in request.functions.iter().flatten().enumerate() {
        tools.push(deprecated(&format!("functions[{index}]"), value, warnings)?);
    }
    let allowed = |name: &str, names: &[String]| names.iter().any(|allowed| allowed == name);
    let old = request.function_call.as_ref().map(deprecated_choice).transpose()?;
    let param = if request.tool_choice.is_some() { "tool_choice" } else { "function_call" };
    let forced = match request.tool_choice.as_ref().or(old.as_ref()) {
        None | Some(ToolChoice::Auto) => false,
        Some(ToolChoice::None) => {
            tools.clear();
            false
        }
        Some(ToolChoice::Required) => true,
        Some(ToolChoice::Function(name)) => {
            tools.retain(|tool| tool.function.name == name.as_str());
            true
        }
        Some(ToolChoice::Allowed { required, names }) => {
            tools.retain(|tool| allowed(&tool.function.name, names));
            *required
        }
    };
    if forced && tools.is_empty() {
        return Err(Error::invalid(param, format!("'{param}' asks for a tool that 'tools' does not hold.")));
    }
    if forced {
        warnings.add(param);
    }
    Ok(tools)
}

fn tool_of<'a>(at: &str, tool: &'a chat::Tool, warnings: &mut Warnings) -> Result<Tool<'a>> {
    let chat::Tool { r#type, function, extra } = tool;
    if r#type != "function" {
        let message = "The provider 'ollama' knows tools of the type function only.";
        return Err(unsupported(&format!("{at}.type"), message));
    }
    warnings.add_unknown(&format!("{at}."), extra, &[]);
    let param = format!("{at}.function");
    let Some(spec) = function else {
        let message = format!("Invalid value for '{param}': it is missing.");
        return Err(Error::invalid(param, message));
    };
    let FunctionSpec { name, description, parameters, strict } = spec;
    if *strict == Some(true) {
        warnings.add(&format!("{param}.strict"));
    }
    let parameters = parameters.as_ref().map_or_else(no_parameters, Cow::Borrowed);
    let description = description.as_deref().map(Cow::Borrowed);
    Ok(Tool { r#type: "function", function: Function { name: Cow::Borrowed(name), description, parameters } })
}

fn no_parameters<'a>() -> Cow<'a, Value> {
    Cow::Owned(json!({"type": "object", "properties": {}}))
}

/// An entry of the deprecated `functions`.
fn deprecated<'a>(at: &str, value: &Value, warnings: &mut Warnings) -> Result<Tool<'a>> {
    let invalid = |cause: serde_json::Error| Error::invalid(at, format!("Invalid value for '{at}': {cause}."));
    let FunctionSpec { name, description, parameters, strict } =
        serde_json::from_value(value.clone()).map_err(invalid)?;
    if strict == Some(true) {
        warnings.add(&format!("{at}.strict"));
    }
    let parameters = parameters.map_or_else(no_parameters, Cow::Owned);
    let description = description.map(Cow::Owned);
    Ok(Tool { r#type: "function", function: Function { name: Cow::Owned(name), description, parameters } })
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::api::head::ChatHead;
    use crate::api::scan::Body;
    use crate::config::Secret;
    use crate::provider::Endpoint;
    use crate::provider::ollama::OLLAMA;

    /// Sends a question with these parameters; gives what Ollama gets, without the question, and the warnings.
    fn run(model: &str, parameters: &Value) -> Result<(Value, Vec<String>)> {
        let mut body = json!({"model": "alias", "messages": [{"role": "user", "content": "q"}]});
        body.as_object_mut().unwrap().extend(parameters.as_object().unwrap().clone());
        let request = ChatRequest::parse(&Body::scan(Bytes::from(body.to_string())).unwrap())?;
        let (made, warnings) = translate(&request, model)?;
        let mut sent = crate::api::literal::value(&made);
        assert_eq!(sent["model"], model);
        let members = sent.as_object_mut().unwrap();
        members.remove("model");
        members.remove("messages");
        Ok((sent, warnings.into_names()))
    }

    #[test]
    fn a_call_goes_to_the_chat_path_and_shows_a_key_only_where_there_is_one() {
        let bytes = br#"{"model":"m","messages":[{"role":"user","content":"q"}]}"#;
        let body = Body::scan(Bytes::from_static(bytes)).unwrap();
        let head = ChatHead::read(&body).unwrap();
        let (endpoint, options) = (Endpoint::parse(OLLAMA.base_url).unwrap(), Map::new());
        for (key, headers) in [("", 0), ("secret", 1)] {
            let key = Secret::new(key);
            let now = jiff::Timestamp::UNIX_EPOCH;
            let target =
                Target { provider: &OLLAMA, endpoint: &endpoint, key: &key, options: &options, model: "llama3", now };
            let outgoing = OLLAMA.dialect.chat(&ChatCall::new(&body, &head), &target).unwrap();
            assert_eq!((outgoing.path.as_str(), outgoing.headers.len()), ("/api/chat", headers));
            assert!(outgoing.headers.iter().all(|(name, value)| name == "authorization" && value.is_sensitive()));
            let sent: Value = serde_json::from_slice(&outgoing.body.whole()).unwrap();
            assert_eq!((&sent["stream"], &sent["model"]), (&json!(false), &json!("llama3")));
            let probe = OLLAMA.dialect.probe(&target).unwrap();
            assert_eq!((probe.method, probe.path.as_str()), (Method::GET, "/api/tags"));
        }
    }

    #[test]
    fn sampling_goes_into_the_options() {
        let (sent, warnings) = run(
            "llama3",
            &json!({"temperature": 0.5, "top_p": 0.9, "top_k": 5, "max_tokens": 7, "stop": "END", "seed": 3, "stream": true,
                "presence_penalty": 0.1, "frequency_penalty": 0.2, "repeat_penalty": 1.1, "keep_alive": "5m",
                "options": {"num_ctx": 4096, "temperature": 2}, "logprobs": true, "top_logprobs": 2}),
        )
        .unwrap();
        let options = json!({"num_ctx": 4096, "temperature": 0.5, "top_p": 0.9, "top_k": 5, "num_predict": 7,
            "stop": ["END"], "seed": 3, "presence_penalty": 0.1, "frequency_penalty": 0.2, "repeat_penalty": 1.1});
        let expected =
            json!({"stream": true, "options": options, "keep_alive": "5m", "logprobs": true, "top_logprobs": 2});
        assert_eq!((sent, warnings), (expected, vec![]));
    }

    #[test]
    fn an_effort_is_a_level_for_gpt_oss_and_a_yes_or_no_for_all_others() {
        let warned = || vec!["reasoning_effort".to_owned()];
        for (model, effort, think, warnings) in [
            ("gpt-oss:20b", "high", json!("high"), vec![]),
            ("gpt-oss:20b", "none", json!("low"), warned()),
            ("me/gpt-oss", "xhigh", json!("high"), warned()),
            ("qwen3:4b", "none", json!(false), vec![]),
            ("qwen3:4b", "medium", json!(true), vec![]),
            ("qwen3:4b", "low", json!(true), warned()),
        ] {
            let (sent, got) = run(model, &json!({"reasoning_effort": effort})).unwrap();
            assert_eq!((&sent["think"], got), (&think, warnings), "{model} {effort}");
        }
        let (sent, _) = run("qwen3", &json!({"think": false})).unwrap();
        assert_eq!(sent["think"], false);
        assert_eq!(run("qwen3", &json!({"reasoning_effort": "much"})).unwrap_err().param(), Some("reasoning_effort"));
    }

    #[test]
    fn a_format_is_enforced() {
        let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        let named = json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema}});
        let (sent, warnings) = run("llama3", &json!({"response_format": named})).unwrap();
        assert_eq!((&sent["format"], warnings), (&schema, vec![]));
        let (sent, _) = run("llama3", &json!({"response_format": {"type": "json_object"}})).unwrap();
        assert_eq!(sent["format"], "json");
        let (sent, _) = run("llama3", &json!({"format": schema})).unwrap();
        assert_eq!(sent["format"], schema);
    }

    #[test]
    fn the_choice_among_tools_is_made_by_what_is_sent() {
        let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
        let names = |parameters: Value| {
            let mut request = json!({"tools": [tool("a"), tool("b")]});
            request.as_object_mut().unwrap().extend(parameters.as_object().unwrap().clone());
            let (sent, warnings) = run("llama3", &request).unwrap();
            let tools = sent["tools"].as_array().cloned().unwrap_or_default();
            let names: Vec<Value> = tools.iter().map(|tool| tool["function"]["name"].clone()).collect();
            (json!(names), warnings.join(" "))
        };
        assert_eq!(names(json!({"tool_choice": "auto"})), (json!(["a", "b"]), String::new()));
        assert_eq!(names(json!({"tool_choice": "none"})), (json!([]), String::new()));
        assert_eq!(names(json!({"tool_choice": "required"})), (json!(["a", "b"]), "tool_choice".to_owned()));
        assert_eq!(names(json!({"tool_choice": tool("b")})), (json!(["b"]), "tool_choice".to_owned()));
        let old = json!({"functions": [{"name": "c", "strict": true}], "function_call": {"name": "c"},
            "parallel_tool_calls": false});
        let lost = "parallel_tool_calls functions[0].strict function_call";
        assert_eq!(names(old), (json!(["c"]), lost.to_owned()));
    }

    #[test]
    fn what_is_lost_is_named_and_what_says_nothing_is_not() {
        let neutral = json!({"logit_bias": {}, "logprobs": false, "n": 1, "store": false, "modalities": ["text"],
            "seed": null, "timeout": 5, "foo": null, "top_logprobs": 0, "stream_options": {"include_usage": true},
            "parallel_tool_calls": true, "tool_choice": "auto", "response_format": {"type": "text"}, "metadata": {}});
        assert_eq!(run("llama3", &neutral).unwrap(), (json!({"stream": false}), vec![]));
        let lost = json!({"foo": 1, "logit_bias": {"1": 2}, "user": "u", "service_tier": "flex", "verbosity": "low"});
        let (_, warnings) = run("llama3", &lost).unwrap();
        assert_eq!(warnings, ["foo", "logit_bias", "service_tier", "user", "verbosity"]);
    }

    #[test]
    fn what_would_change_the_meaning_is_refused_by_name() {
        use ErrorKind::{InvalidRequest, UnsupportedParameter};
        for (parameters, kind, param) in [
            (json!({"n": 2}), UnsupportedParameter, "n"),
            (json!({"modalities": ["text", "audio"]}), UnsupportedParameter, "modalities"),
            (json!({"tools": [{"type": "custom", "custom": {"name": "x"}}]}), UnsupportedParameter, "tools[0].type"),
            (json!({"tools": [{"type": "function"}]}), InvalidRequest, "tools[0].function"),
            (json!({"functions": [{"nme": "f"}]}), InvalidRequest, "functions[0]"),
            (json!({"tool_choice": "required"}), InvalidRequest, "tool_choice"),
            (json!({"options": 1}), InvalidRequest, "options"),
        ] {
            let error = run("llama3", &parameters).unwrap_err();
            assert_eq!((error.kind(), error.param()), (kind, Some(param)));
        }
    }
}
