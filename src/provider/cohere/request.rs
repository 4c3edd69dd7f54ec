//! The request's parameters: OpenAI's chat completion as Cohere's.
//!
//! Every parameter is translated, passed on, named in a warning, or refused; [`translate`] destructures the request without
//! `..`, so that a new one does not build until it is decided here.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::messages;
use super::tools::{self, Wanted};
use super::wire::Request;
use crate::api::chat::{ChatRequest, JsonSchema, ResponseFormat, StreamOptions};
use crate::api::literal;
use crate::error::{Error, Result};
use crate::provider::refusal::one_text_answer;
use crate::provider::warnings::Warnings;
use crate::provider::{ChatCall, Target};

/// Cohere's own parameters, passed on under their names.
const NATIVE: &[&str] = &["citation_options", "documents", "priority", "raw_prompting", "safety_mode"];
/// Cohere's own parameters that are read here; `top_k` is what others call `k`.
const READ: &[&str] = &["k", "p", "strict_tools", "thinking", "top_k"];
/// Parts of the names of models that think.
const THINKING: &[&str] = &["command-a-reasoning", "command-a-plus"];

/// The whole body, and the names of what could not be said.
pub(super) fn chat(call: &ChatCall<'_>, target: &Target<'_>) -> Result<(Bytes, Vec<String>)> {
    let (request, warnings) = translate(call.request()?, target.model)?;
    let body = literal::body(&request, call.body.bytes().len() + 256)?;
    Ok((body.into(), warnings.into_names()))
}

/// Translates a request for this model.
pub(super) fn translate<'a>(request: &'a ChatRequest, model: &'a str) -> Result<(Request<'a>, Warnings)> {
    // A field that is not bound here is decided in `warn_inexpressible`, except ours: `model`, `timeout`.
    let ChatRequest {
        model: _,
        messages,
        audio: _,
        frequency_penalty,
        function_call,
        functions,
        logit_bias: _,
        logprobs,
        max_completion_tokens,
        max_tokens,
        metadata: _,
        modalities,
        n,
        parallel_tool_calls,
        prediction: _,
        presence_penalty,
        prompt_cache_key: _,
        prompt_cache_retention: _,
        reasoning_effort,
        response_format,
        safety_identifier: _,
        seed,
        service_tier: _,
        stop,
        store: _,
        stream,
        stream_options: _,
        temperature,
        tool_choice,
        tools,
        top_logprobs: _,
        top_p,
        user: _,
        verbosity: _,
        web_search_options: _,
        timeout: _,
        extra,
    } = request;
    one_text_answer("cohere", *n, modalities.as_deref())?;
    let mut warnings = Warnings::default();
    let messages = messages::translate(messages, &mut warnings)?;
    warnings.add_unknown("", extra, &[NATIVE, READ].concat());
    warn_inexpressible(request, &mut warnings);
    let wanted = Wanted {
        tools: tools.as_deref(),
        functions: functions.as_deref(),
        choice: tool_choice.as_ref(),
        function_call: function_call.as_ref(),
        parallel: *parallel_tool_calls,
    };
    let tools = tools::translate(&wanted, &mut warnings)?;
    let strict = extra.get("strict_tools").and_then(Value::as_bool);
    let mut within = |name, value, range| within(name, value, range, &mut warnings);
    let sampling = (
        within("temperature", *temperature, (0.0, 1.0)),
        within("frequency_penalty", *frequency_penalty, (0.0, 1.0)),
        within("presence_penalty", *presence_penalty, (0.0, 1.0)),
        // One is the default of both, and out of Cohere's range.
        within("top_p", top_p.filter(|top_p| *top_p < 1.0), (0.01, 0.99)),
    );
    let (temperature, frequency_penalty, presence_penalty, p) = sampling;
    let request = Request {
        model,
        messages,
        stream: stream.filter(|stream| *stream),
        tools: tools.tools,
        tool_choice: tools.choice,
        strict_tools: strict.unwrap_or(tools.strict),
        response_format: response_format.as_ref().and_then(|format| answer_format(format, &mut warnings)),
        max_tokens: max_completion_tokens.or(*max_tokens),
        stop_sequences: stop.as_ref().map(|stop| stop.0.as_slice()).unwrap_or_default(),
        temperature,
        seed: whole_seed(seed.as_ref(), &mut warnings),
        frequency_penalty,
        presence_penalty,
        p: p.or_else(|| extra.get("p").and_then(Value::as_f64)),
        k: native(extra, "k").or_else(|| native(extra, "top_k")),
        logprobs: logprobs.unwrap_or(false),
        thinking: thinking(extra, reasoning_effort.as_deref(), model, &mut warnings)?,
        native: NATIVE.iter().filter_map(|name| Some((*name, native(extra, name)?))).collect(),
    };
    Ok((request, warnings))
}

/// Parameters without a counterpart whose absence changes the answer less than a refusal would.
fn warn_inexpressible(request: &ChatRequest, warnings: &mut Warnings) {
    let two_bounds = request.max_tokens.is_some() && request.max_completion_tokens.is_some();
    let says = |text: Option<&String>, same: &[&str]| {
        text.is_some_and(|text| !text.is_empty() && !same.contains(&text.as_str()))
    };
    for (name, lost) in [
        ("audio", request.audio.is_some()),
        ("logit_bias", request.logit_bias.as_ref().is_some_and(|bias| !bias.is_empty())),
        ("max_tokens", two_bounds && request.max_tokens != request.max_completion_tokens),
        ("metadata", request.metadata.as_ref().is_some_and(|metadata| !metadata.is_empty())),
        ("p", request.top_p.is_some_and(|top_p| top_p < 1.0) && native(&request.extra, "p").is_some()),
        ("prediction", request.prediction.is_some()),
        ("prompt_cache_key", says(request.prompt_cache_key.as_ref(), &[])),
        ("prompt_cache_retention", says(request.prompt_cache_retention.as_ref(), &[])),
        ("safety_identifier", says(request.safety_identifier.as_ref(), &[])),
        ("service_tier", says(request.service_tier.as_ref(), &["auto", "default"])),
        ("store", request.store == Some(true)),
        ("top_logprobs", request.top_logprobs.is_some_and(|count| count > 0)),
        ("user", says(request.user.as_ref(), &[])),
        ("verbosity", says(request.verbosity.as_ref(), &["medium"])),
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

fn native<'a>(extra: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    extra.get(name).filter(|value| !value.is_null())
}

/// The nearest value that Cohere takes.
fn within(name: &str, value: Option<f64>, (low, high): (f64, f64), warnings: &mut Warnings) -> Option<f64> {
    let value = value?;
    if !(low..=high).contains(&value) {
        warnings.add(name);
    }
    Some(value.clamp(low, high))
}

/// Cohere's seeds are never negative.
fn whole_seed(seed: Option<&Value>, warnings: &mut Warnings) -> Option<u64> {
    let whole = seed?.as_u64();
    if whole.is_none() {
        warnings.add("seed");
    }
    whole
}

/// Cohere enforces every schema, and has no place for its name.
fn answer_format(format: &ResponseFormat, warnings: &mut Warnings) -> Option<Value> {
    let schema = match format {
        ResponseFormat::Text => return None,
        ResponseFormat::JsonObject => None,
        ResponseFormat::JsonSchema { json_schema: JsonSchema { name: _, description, schema, strict: _ } } => {
            if description.as_deref().is_some_and(|text| !text.is_empty()) {
                warnings.add("response_format.json_schema.description");
            }
            schema.as_ref()
        }
    };
    Some(match schema {
        Some(schema) => json!({"type": "json_object", "schema": schema}),
        None => json!({"type": "json_object"}),
    })
}

/// Whether to think and for how many tokens; Cohere's own `thinking` wins over an effort.
fn thinking<'a>(
    extra: &'a Map<String, Value>,
    effort: Option<&str>,
    model: &str,
    warnings: &mut Warnings,
) -> Result<Option<Cow<'a, Value>>> {
    let budget = match effort {
        None => None,
        Some("none") => Some(None),
        Some("minimal") => Some(Some(Some(512))),
        Some("low") => Some(Some(Some(2048))),
        Some("medium") => Some(Some(Some(8192))),
        Some("high" | "xhigh" | "max") => Some(Some(None)),
        Some(effort) => {
            let known = "none, minimal, low, medium, high, xhigh or max";
            let message = format!("Invalid value for 'reasoning_effort': '{effort}' is not {known}.");
            return Err(Error::invalid("reasoning_effort", message));
        }
    };
    if let Some(given) = native(extra, "thinking") {
        if effort.is_some() {
            warnings.add("reasoning_effort");
        }
        return Ok(Some(Cow::Borrowed(given)));
    }
    let thinks = THINKING.iter().any(|part| model.contains(part));
    Ok(match budget {
        None => None,
        Some(None) => thinks.then(|| Cow::Owned(json!({"type": "disabled"}))),
        Some(Some(_)) if !thinks => {
            warnings.add("reasoning_effort");
            None
        }
        Some(Some(None)) => Some(Cow::Owned(json!({"type": "enabled"}))),
        Some(Some(Some(tokens))) => Some(Cow::Owned(json!({"type": "enabled", "token_budget": tokens}))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::head::ChatHead;
    use crate::api::scan::Body;
    use crate::config::Secret;
    use crate::provider::Endpoint;
    use crate::provider::cohere::COHERE;

    const REASONING: &str = "command-a-reasoning-08-2025";

    /// Sends a question with these parameters; gives what Cohere gets, without the question, and the warnings.
    fn run(model: &str, parameters: &Value) -> Result<(Value, Vec<String>)> {
        let mut body = json!({"model": "alias", "messages": [{"role": "user", "content": "q"}]});
        body.as_object_mut().unwrap().extend(parameters.as_object().unwrap().clone());
        let request = ChatRequest::parse(&Body::scan(Bytes::from(body.to_string())).unwrap())?;
        let (made, warnings) = translate(&request, model)?;
        let mut sent = crate::api::literal::value(&made);
        let members = sent.as_object_mut().unwrap();
        assert_eq!(members.remove("model"), Some(json!(model)));
        assert_eq!(members.remove("messages"), Some(json!([{"role": "user", "content": "q"}])));
        Ok((sent, warnings.into_names()))
    }

    fn sent(parameters: &Value) -> (Value, Vec<String>) {
        run("command-a-03-2025", parameters).unwrap()
    }

    #[test]
    fn a_call_goes_to_the_second_version_with_its_key_hidden() {
        let body = br#"{"model":"m","stream":true,"messages":[{"role":"user","content":"q"}]}"#;
        let body = Body::scan(Bytes::from_static(body)).unwrap();
        let head = ChatHead::read(&body).unwrap();
        let endpoint = Endpoint::parse("https://proxy.example/co/").unwrap();
        let (key, options) = (Secret::new("key"), Map::new());
        let target = Target {
            provider: &COHERE,
            endpoint: &endpoint,
            key: &key,
            options: &options,
            model: "command-r",
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        let outgoing = COHERE.dialect.chat(&ChatCall::new(&body, &head), &target).unwrap();
        assert_eq!(outgoing.path, "/co/v2/chat");
        assert!(outgoing.headers.iter().all(|(name, value)| name == "authorization" && value.is_sensitive()));
        let sent: Value = serde_json::from_slice(&outgoing.body.whole()).unwrap();
        assert_eq!((&sent["stream"], &sent["model"]), (&json!(true), &json!("command-r")));
        assert_eq!(COHERE.dialect.probe(&target).unwrap().path, "/co/v1/models?page_size=1");
    }

    #[test]
    fn parameters_get_coheres_names_and_ranges() {
        let (made, warnings) =
            sent(&json!({"max_completion_tokens": 9, "stop": "END", "top_p": 0.5, "top_k": 3, "seed": 7,
            "temperature": 0.2, "frequency_penalty": 0.1, "logprobs": true}));
        let expected = json!({"max_tokens": 9, "stop_sequences": ["END"], "p": 0.5, "k": 3, "seed": 7,
            "temperature": 0.2, "frequency_penalty": 0.1, "logprobs": true});
        assert_eq!((made, warnings), (expected, vec![]));
        let (made, warnings) = sent(&json!({"temperature": 1.5, "presence_penalty": -1, "top_p": 0, "seed": -1}));
        assert_eq!(made, json!({"temperature": 1.0, "presence_penalty": 0.0, "p": 0.01}));
        assert_eq!(warnings, ["temperature", "presence_penalty", "top_p", "seed"]);
    }

    #[test]
    fn one_function_is_forced_by_offering_it_alone() {
        let tool = |name: &str, strict: bool| json!({"type": "function", "function": {"name": name, "strict": strict}});
        let schema = json!({"type": "object", "properties": {}});
        let made = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": schema}});
        let choose =
            |choice: Value| sent(&json!({"tools": [tool("a", false), tool("b", false)], "tool_choice": choice})).0;
        assert_eq!(choose(json!("auto")), json!({"tools": [made("a"), made("b")]}));
        assert_eq!(choose(json!("none"))["tool_choice"], "NONE");
        assert_eq!(choose(json!("required"))["tool_choice"], "REQUIRED");
        let forced = json!({"tools": [made("b")], "tool_choice": "REQUIRED"});
        assert_eq!(choose(json!({"type": "function", "function": {"name": "b"}})), forced);
        let (old, _) = sent(&json!({"functions": [{"name": "b"}], "function_call": {"name": "b"}}));
        assert_eq!(old, forced);
        let (strict, warnings) = sent(&json!({"tools": [tool("a", true)], "parallel_tool_calls": false}));
        assert_eq!((&strict["strict_tools"], warnings), (&json!(true), vec!["parallel_tool_calls".to_owned()]));
        let (mixed, warnings) = sent(&json!({"tools": [tool("a", false), tool("b", true)]}));
        assert_eq!((mixed.get("strict_tools"), warnings), (None, vec!["tools[1].function.strict".to_owned()]));
        let unknown =
            json!({"tools": [tool("a", false)], "tool_choice": {"type": "function", "function": {"name": "z"}}});
        assert_eq!(run("m", &unknown).unwrap_err().param(), Some("tool_choice"));
        let custom = json!({"tools": [{"type": "custom", "custom": {"name": "x"}}]});
        assert_eq!(run("m", &custom).unwrap_err().param(), Some("tools[0].type"));
    }

    #[test]
    fn a_schema_is_enforced() {
        let schema = json!({"type": "object"});
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": true}});
        let expected = json!({"response_format": {"type": "json_object", "schema": schema}});
        assert_eq!(sent(&json!({"response_format": format})), (expected, vec![]));
        let any = json!({"response_format": {"type": "json_object"}});
        assert_eq!(sent(&any), (any, vec![]));
    }

    #[test]
    fn an_effort_becomes_a_budget_where_the_model_thinks() {
        let effort = |model: &str, effort: &str| run(model, &json!({"reasoning_effort": effort})).unwrap();
        let enabled = json!({"thinking": {"type": "enabled", "token_budget": 2048}});
        assert_eq!(effort(REASONING, "low"), (enabled, vec![]));
        assert_eq!(effort(REASONING, "high").0, json!({"thinking": {"type": "enabled"}}));
        assert_eq!(effort(REASONING, "none").0, json!({"thinking": {"type": "disabled"}}));
        assert_eq!(effort("command-r", "none"), (json!({}), vec![]));
        assert_eq!(effort("command-r", "low"), (json!({}), vec!["reasoning_effort".to_owned()]));
        let own = json!({"thinking": {"type": "enabled", "token_budget": 1}});
        assert_eq!(sent(&own), (own, vec![]));
        assert_eq!(run(REASONING, &json!({"reasoning_effort": "much"})).unwrap_err().param(), Some("reasoning_effort"));
    }

    #[test]
    fn coheres_own_parameters_pass_and_everything_else_is_named_unless_it_says_nothing() {
        let own = json!({"documents": ["a", {"id": "b", "data": {"text": "c"}}], "safety_mode": "STRICT",
            "citation_options": {"mode": "OFF"}, "k": 4, "strict_tools": true});
        assert_eq!(sent(&own), (own, vec![]));
        let neutral = json!({"frequency_penalty": null, "logit_bias": {}, "logprobs": false, "n": 1, "store": false,
            "modalities": ["text"], "seed": null, "timeout": 5, "stream": false, "foo": null, "top_logprobs": 0, "top_p": 1,
            "stream_options": {"include_usage": true}, "parallel_tool_calls": true, "service_tier": "auto", "metadata": {}});
        assert_eq!(sent(&neutral), (json!({}), vec![]));
        let lost = json!({"user": "u", "foo": "x", "verbosity": "low", "top_logprobs": 2, "prompt_cache_key": "k"});
        assert_eq!(sent(&lost).1, ["foo", "prompt_cache_key", "top_logprobs", "user", "verbosity"]);
    }

    #[test]
    fn what_would_change_the_meaning_is_refused_by_name() {
        for (parameters, param) in [(json!({"n": 2}), "n"), (json!({"modalities": ["text", "audio"]}), "modalities")] {
            let error = run("m", &parameters).unwrap_err();
            assert_eq!((error.kind(), error.param()), (crate::error::ErrorKind::UnsupportedParameter, Some(param)));
        }
    }
}
