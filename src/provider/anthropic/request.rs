//! The request's parameters: OpenAI's chat completion as a Messages call.
//!
//! Every parameter is translated, passed on, named in a warning, or refused; [`translate`] destructures the request without
//! `..`, so that a new one does not build until it is decided here.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, Method};
use serde_json::{Map, Value, json};

use super::messages::Conversation;
use super::model::{Traits, traits};
use super::reasoning::{Asked, Parameters, reasoning};
use super::schema::{answer_schema, enforceable};
use super::tools::{self, Wanted};
use super::wire::{Block, Metadata, Request, Thinking};
use crate::api::chat::{ChatRequest, ResponseFormat, StreamOptions};
use crate::api::literal;
use crate::error::{Error, Result};
use crate::provider::refusal::one_text_answer;
use crate::provider::warnings::{Warnings, is_neutral};
use crate::provider::{ChatCall, Outgoing, Target};

/// Anthropic's own parameters, passed on under their names; `thinking`, `output_config`, `top_k` and `betas` are read too.
const NATIVE: &[&str] =
    &["cache_control", "container", "context_management", "inference_geo", "mcp_servers", "output_format", "speed"];
const READ: &[&str] = &["thinking", "output_config", "top_k", "betas"];

/// Anthropic's feature name for uploaded files in a message.
const FILES_BETA: &str = "files-api-2025-04-14";

const JSON_INSTRUCTION: &str = "Respond with a single valid JSON object and nothing else.";

/// The whole call.
pub(super) fn chat(call: &ChatCall<'_>, target: &Target<'_>) -> Result<Outgoing> {
    let Translated { request, betas, warnings } = translate(call.request()?, target.model)?;
    let mut headers = super::headers(target)?;
    if !betas.is_empty() {
        let value = HeaderValue::from_str(&betas.join(","))
            .map_err(|_| Error::invalid("betas", "Invalid value for 'betas': not fit for a header."))?;
        headers.push((HeaderName::from_static("anthropic-beta"), value));
    }
    let body = literal::body(&request, call.body.bytes().len() + 512)?;
    Ok(Outgoing {
        method: Method::POST,
        path: target.endpoint.join("/v1/messages"),
        headers,
        body: body.into(),
        warnings: warnings.into_names(),
    })
}

/// A request and what travels beside it.
#[derive(Debug)]
pub(super) struct Translated<'a> {
    pub(super) request: Request<'a>,
    pub(super) betas: Vec<&'a str>,
    pub(super) warnings: Warnings,
}

/// Translates a request for this model.
pub(super) fn translate<'a>(request: &'a ChatRequest, model: &'a str) -> Result<Translated<'a>> {
    // A field that is not bound here is decided in `warn_inexpressible`, except ours: `model`, `timeout`.
    let ChatRequest {
        model: _,
        messages,
        audio: _,
        frequency_penalty: _,
        function_call,
        functions,
        logit_bias: _,
        logprobs: _,
        max_completion_tokens,
        max_tokens,
        metadata,
        modalities,
        n,
        parallel_tool_calls,
        prediction: _,
        presence_penalty: _,
        prompt_cache_key: _,
        prompt_cache_retention: _,
        reasoning_effort,
        response_format,
        safety_identifier,
        seed: _,
        service_tier,
        stop,
        store: _,
        stream,
        stream_options: _,
        temperature,
        tool_choice,
        tools,
        top_logprobs: _,
        top_p,
        user,
        verbosity: _,
        web_search_options,
        timeout: _,
        extra,
    } = request;
    one_text_answer("anthropic", *n, modalities.as_deref())?;
    let traits = traits(model);
    let mut conversation = Conversation::translate(messages)?;
    let mut warnings = std::mem::take(&mut conversation.warnings);
    warnings.add_unknown("", extra, &[NATIVE, READ].concat());
    warn_inexpressible(request, &mut warnings);
    let wanted = Wanted {
        tools: tools.as_deref(),
        functions: functions.as_deref(),
        choice: tool_choice.as_ref(),
        function_call: function_call.as_ref(),
        parallel: *parallel_tool_calls,
        web_search: web_search_options.as_ref(),
        structured: traits.structured,
    };
    let tools = tools::translate(&wanted, &mut warnings)?;
    let given = extra.get("thinking").filter(|value| !value.is_null());
    let asked = Asked {
        effort: reasoning_effort.as_deref(),
        given,
        bound: max_completion_tokens.or(*max_tokens),
        forced: tools.is_forced(),
        lost: conversation.lacks_thinking(),
    };
    let reasoning = reasoning(&asked, &traits, &mut warnings)?;
    let thinks = reasoning.thinking.as_ref().is_some_and(Thinking::is_on);
    let sampling = Parameters { temperature: *temperature, top_p: *top_p, top_k: native(extra, "top_k") };
    let Parameters { temperature, top_p, top_k } = sampling.fit(&traits, thinks, &mut warnings);
    let mut output_config = output_config(extra, reasoning.effort)?;
    let mut system = conversation.system;
    if let Some(format) = response_format {
        answer_format(format, &traits, &mut output_config, &mut system, &mut warnings);
    }
    let mut betas = betas(extra)?;
    if conversation.uses_files && !betas.contains(&FILES_BETA) {
        betas.push(FILES_BETA);
    }
    let request = Request {
        model,
        max_tokens: reasoning.max_tokens,
        system,
        messages: conversation.turns,
        temperature,
        top_p,
        top_k,
        stop_sequences: stop_sequences(stop.as_ref().map(|stop| stop.0.as_slice()), &mut warnings),
        metadata: end_user(safety_identifier.as_deref(), user.as_deref(), metadata.as_ref(), &mut warnings),
        tools: tools.tools,
        tool_choice: tools.choice,
        thinking: reasoning.thinking,
        output_config,
        service_tier: tier(service_tier.as_deref(), &mut warnings),
        stream: stream.filter(|stream| *stream),
        native: NATIVE.iter().filter_map(|name| Some((*name, native(extra, name)?))).collect::<BTreeMap<_, _>>(),
    };
    Ok(Translated { request, betas, warnings })
}

/// Parameters without a counterpart whose absence changes the answer less than a refusal would.
fn warn_inexpressible(request: &ChatRequest, warnings: &mut Warnings) {
    let differs = |penalty: Option<f64>| penalty.is_some_and(|penalty| penalty != 0.0);
    let two_bounds = request.max_tokens.is_some() && request.max_completion_tokens.is_some();
    for (name, lost) in [
        ("audio", request.audio.is_some()),
        ("frequency_penalty", differs(request.frequency_penalty)),
        ("logit_bias", request.logit_bias.as_ref().is_some_and(|bias| !bias.is_empty())),
        ("logprobs", request.logprobs == Some(true)),
        ("max_tokens", two_bounds && request.max_tokens != request.max_completion_tokens),
        ("prediction", request.prediction.is_some()),
        ("presence_penalty", differs(request.presence_penalty)),
        ("prompt_cache_key", request.prompt_cache_key.is_some()),
        ("prompt_cache_retention", request.prompt_cache_retention.is_some()),
        ("seed", request.seed.is_some()),
        ("store", request.store == Some(true)),
        ("top_logprobs", request.top_logprobs.is_some_and(|count| count > 0)),
        ("verbosity", request.verbosity.is_some()),
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

/// `betas`: names of Anthropic's features that are not yet for everyone, for the header `anthropic-beta`.
fn betas(extra: &Map<String, Value>) -> Result<Vec<&str>> {
    let refuse = || Error::invalid("betas", "Invalid value for 'betas': expected an array of strings.");
    match native(extra, "betas") {
        None => Ok(Vec::new()),
        Some(Value::Array(names)) => names.iter().map(|name| name.as_str().ok_or_else(refuse)).collect(),
        Some(name) => name.as_str().map(|name| vec![name]).ok_or_else(refuse),
    }
}

/// The client's own `output_config`, with an effort that it does not name.
fn output_config(extra: &Map<String, Value>, effort: Option<&'static str>) -> Result<Map<String, Value>> {
    let refuse = || Error::invalid("output_config", "Invalid type for 'output_config': expected an object.");
    let mut config = match native(extra, "output_config") {
        Some(value) => value.as_object().cloned().ok_or_else(refuse)?,
        None => Map::new(),
    };
    if let Some(effort) = effort {
        config.entry("effort").or_insert_with(|| effort.into());
    }
    Ok(config)
}

/// A schema where the model knows it; otherwise an instruction, which is a wish and therefore a warning.
fn answer_format(
    format: &ResponseFormat,
    traits: &Traits,
    config: &mut Map<String, Value>,
    system: &mut Vec<Block<'_>>,
    warnings: &mut Warnings,
) {
    let schema = match format {
        ResponseFormat::Text => return,
        ResponseFormat::JsonObject => None,
        ResponseFormat::JsonSchema { json_schema } => answer_schema(json_schema),
    };
    let enforced = schema.as_ref().filter(|_| traits.structured).and_then(|schema| enforceable(schema, warnings));
    if let Some(schema) = enforced {
        config.entry("format").or_insert_with(|| json!({"type": "json_schema", "schema": schema}));
        return;
    }
    warnings.add("response_format");
    system.push(Block::text(match schema {
        Some(schema) => format!("{JSON_INSTRUCTION} It must match this JSON schema: {schema}"),
        None => JSON_INSTRUCTION.to_owned(),
    }));
}

/// Anthropic refuses stop texts of white space only.
fn stop_sequences<'a>(stop: Option<&'a [String]>, warnings: &mut Warnings) -> Vec<&'a str> {
    let all = stop.unwrap_or_default();
    let kept: Vec<&str> = all.iter().map(String::as_str).filter(|text| !text.trim().is_empty()).collect();
    if kept.len() < all.len() {
        warnings.add("stop");
    }
    kept
}

/// The one label that Anthropic keeps: who the end user is, by OpenAI's newer name, its older one, or its own.
fn end_user<'a>(
    safety_identifier: Option<&'a str>,
    user: Option<&'a str>,
    metadata: Option<&'a Map<String, Value>>,
    warnings: &mut Warnings,
) -> Option<Metadata<'a>> {
    let own = metadata.and_then(|metadata| metadata.get("user_id")).and_then(Value::as_str);
    let user_id = [safety_identifier, user, own].into_iter().flatten().find(|id| !id.is_empty());
    if user.is_some() && user != user_id {
        warnings.add("user");
    }
    let kept = |name: &str, value: &Value| name == "user_id" && value.as_str() == user_id;
    if metadata.is_some_and(|metadata| metadata.iter().any(|(name, value)| !kept(name, value) && !is_neutral(value))) {
        warnings.add("metadata");
    }
    user_id.map(|user_id| Metadata { user_id })
}

fn tier<'a>(tier: Option<&'a str>, warnings: &mut Warnings) -> Option<&'a str> {
    match tier? {
        tier @ ("auto" | "standard_only") => Some(tier),
        "default" => Some("standard_only"),
        _ => {
            warnings.add("service_tier");
            None
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
    use crate::provider::anthropic::ANTHROPIC;

    /// Sends a question with these parameters; gives what Anthropic gets, without the question, and the warnings.
    fn run(model: &str, parameters: &Value) -> Result<(Value, Vec<String>)> {
        let mut body = json!({"model": "alias", "messages": [{"role": "user", "content": "q"}]});
        body.as_object_mut().unwrap().extend(parameters.as_object().unwrap().clone());
        let request = ChatRequest::parse(&Body::scan(Bytes::from(body.to_string())).unwrap())?;
        let made = translate(&request, model)?;
        let mut sent = crate::api::literal::value(&made.request);
        assert_eq!(sent["model"], model);
        let members = sent.as_object_mut().unwrap();
        members.remove("model");
        members.remove("messages");
        Ok((sent, made.warnings.into_names()))
    }

    /// One parameter of what is sent.
    fn sent(model: &str, parameters: &Value, name: &str) -> (Value, Vec<String>) {
        let (sent, warnings) = run(model, parameters).unwrap();
        (sent.get(name).cloned().unwrap_or_default(), warnings)
    }

    const OLD: &str = "claude-3-opus-20240229";
    const BUDGET: &str = "claude-sonnet-4-5";
    const ADAPTIVE: &str = "claude-opus-4-6";
    const NEW: &str = "claude-opus-4-8";

    #[test]
    fn a_call_goes_to_the_messages_path_with_its_key_hidden() {
        let bytes = br#"{"model":"m","betas":["a","b"],"stream":true,"messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"f"}}]}]}"#;
        let body = Body::scan(Bytes::from_static(bytes)).unwrap();
        let head = ChatHead::read(&body).unwrap();
        let endpoint = Endpoint::parse("https://proxy.example/anthropic/").unwrap();
        let (key, options) = (Secret::new("sk-ant-1"), Map::new());
        let target = Target {
            provider: &ANTHROPIC,
            endpoint: &endpoint,
            key: &key,
            options: &options,
            model: "claude-opus-4-8",
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        let outgoing = ANTHROPIC.dialect.chat(&ChatCall::new(&body, &head), &target).unwrap();
        assert_eq!(outgoing.path, "/anthropic/v1/messages");
        let header = |name: &str| outgoing.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value);
        assert!(header("x-api-key").unwrap().is_sensitive());
        assert_eq!(header("anthropic-version").unwrap(), "2023-06-01");
        assert_eq!(header("anthropic-beta").unwrap(), "a,b,files-api-2025-04-14");
        let sent: Value = serde_json::from_slice(&outgoing.body.whole()).unwrap();
        assert_eq!((&sent["stream"], &sent["model"]), (&json!(true), &json!("claude-opus-4-8")));
        let probe = ANTHROPIC.dialect.probe(&target).unwrap();
        assert_eq!((probe.method, probe.path.as_str()), (Method::GET, "/anthropic/v1/models?limit=1"));
    }

    #[test]
    fn the_bound_is_the_clients_or_the_models() {
        assert_eq!(sent(OLD, &json!({}), "max_tokens").0, 4096);
        assert_eq!(sent(BUDGET, &json!({"max_tokens": 5}), "max_tokens").0, 5);
        let both = json!({"max_tokens": 5, "max_completion_tokens": 7});
        assert_eq!(sent(BUDGET, &both, "max_tokens"), (json!(7), vec!["max_tokens".to_owned()]));
    }

    #[test]
    fn sampling_is_bent_to_what_the_model_takes() {
        let warned = |name: &str| vec![name.to_owned()];
        assert_eq!(sent(BUDGET, &json!({"temperature": 1.5}), "temperature"), (json!(1.0), warned("temperature")));
        assert_eq!(sent(NEW, &json!({"temperature": 0.2}), "temperature"), (Value::Null, warned("temperature")));
        assert_eq!(sent(NEW, &json!({"temperature": 1, "top_p": 1}), "top_p"), (Value::Null, vec![]));
        let both = json!({"temperature": 0.5, "top_p": 0.9, "top_k": 5});
        let (kept, warnings) = run(OLD, &both).unwrap();
        assert_eq!((&kept["top_p"], &kept["top_k"]), (&json!(0.9), &json!(5)));
        assert!(warnings.is_empty());
        assert_eq!(sent(BUDGET, &both, "top_p"), (Value::Null, warned("top_p")));
        let (kept, warnings) = run(BUDGET, &json!({"temperature": 1, "top_p": 0.9})).unwrap();
        assert_eq!((kept.get("temperature"), &kept["top_p"]), (None, &json!(0.9)));
        assert!(warnings.is_empty());
        let thinking = json!({"temperature": 0.5, "top_k": 5, "thinking": {"type": "enabled", "budget_tokens": 1024}});
        let (kept, warnings) = run(BUDGET, &thinking).unwrap();
        assert_eq!((kept.get("temperature"), kept.get("top_k")), (None, None));
        assert_eq!(warnings, ["temperature", "top_k"]);
    }

    #[test]
    fn an_effort_becomes_a_budget_or_an_effort() {
        let effort = |effort: &str| json!({"reasoning_effort": effort});
        let enabled = |budget: u64| json!({"type": "enabled", "budget_tokens": budget});
        assert_eq!(sent(BUDGET, &effort("high"), "thinking"), (enabled(16_384), vec![]));
        assert_eq!(sent(BUDGET, &effort("none"), "thinking"), (Value::Null, vec![]));
        let (adaptive, warnings) = run(NEW, &effort("xhigh")).unwrap();
        assert_eq!(adaptive["thinking"], json!({"type": "adaptive"}));
        assert_eq!(adaptive["output_config"], json!({"effort": "xhigh"}));
        assert!(warnings.is_empty());
        let warned = vec!["reasoning_effort".to_owned()];
        assert_eq!(sent(ADAPTIVE, &effort("xhigh"), "output_config"), (json!({"effort": "high"}), warned.clone()));
        assert_eq!(sent(OLD, &effort("low"), "thinking"), (Value::Null, warned.clone()));
        assert_eq!(sent("claude-opus-5", &effort("none"), "thinking"), (json!({"type": "disabled"}), vec![]));
        assert_eq!(sent("claude-fable-5", &effort("none"), "output_config"), (json!({"effort": "low"}), warned));
        assert_eq!(run(NEW, &effort("much")).unwrap_err().param(), Some("reasoning_effort"));
    }

    #[test]
    fn a_budget_never_breaks_the_clients_bound() {
        let warned = vec!["reasoning_effort".to_owned()];
        let bound = |tokens: u64| json!({"reasoning_effort": "high", "max_completion_tokens": tokens});
        let enabled = |budget: u64| json!({"type": "enabled", "budget_tokens": budget});
        assert_eq!(sent(BUDGET, &bound(8000), "thinking"), (enabled(4000), warned.clone()));
        assert_eq!(sent(BUDGET, &bound(1500), "thinking"), (enabled(1024), warned.clone()));
        assert_eq!(sent(BUDGET, &bound(1000), "thinking"), (Value::Null, warned.clone()));
        let forced = json!({"reasoning_effort": "high", "tool_choice": "required",
            "tools": [{"type": "function", "function": {"name": "f"}}]});
        assert_eq!(sent(BUDGET, &forced, "thinking"), (Value::Null, warned));
        let own = json!({"thinking": {"type": "enabled", "budget_tokens": 70_000}});
        assert_eq!(sent(BUDGET, &own, "max_tokens").0, 134_000);
    }

    #[test]
    fn a_schema_is_enforced_where_it_can_be_and_asked_for_where_not() {
        let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        let named = json!({"name": "thing", "schema": schema, "strict": true});
        let format = json!({"response_format": {"type": "json_schema", "json_schema": named}});
        let mut closed = schema;
        closed["additionalProperties"] = json!(false);
        closed["title"] = json!("thing");
        let expected = json!({"format": {"type": "json_schema", "schema": closed}});
        assert_eq!(sent(BUDGET, &format, "output_config"), (expected, vec![]));
        let (system, warnings) = sent(OLD, &format, "system");
        assert!(system[0]["text"].as_str().unwrap().contains("{\"a\":{\"type\":\"string\"}}"));
        assert_eq!(warnings, ["response_format"]);
        let (system, warnings) = sent(BUDGET, &json!({"response_format": {"type": "json_object"}}), "system");
        assert_eq!(system, json!([{"type": "text", "text": JSON_INSTRUCTION}]));
        assert_eq!(warnings, ["response_format"]);
    }

    #[test]
    fn what_a_schema_demands_beyond_anthropics_grammar_is_wished_for_and_named() {
        let ask = |schema: Value| {
            let named = json!({"name": "n", "schema": schema, "strict": true});
            run(BUDGET, &json!({"response_format": {"type": "json_schema", "json_schema": named}})).unwrap()
        };
        let (sent, warnings) = ask(json!({"type": "object", "properties": {"age": {"type": "integer", "minimum": 1}}}));
        let age = &sent["output_config"]["format"]["schema"]["properties"]["age"];
        assert_eq!(*age, json!({"type": "integer", "description": "{\"minimum\":1}"}));
        assert_eq!(warnings, ["response_format.json_schema.schema"]);
        let (sent, warnings) = ask(json!({"type": "object", "additionalProperties": {"type": "integer"}}));
        assert_eq!(sent.get("output_config"), None);
        assert!(sent["system"][0]["text"].as_str().unwrap().contains("{\"type\":\"integer\"}"));
        assert_eq!(warnings, ["response_format"]);
        let tool = json!({"name": "f", "strict": true, "parameters": {"type": "object",
            "properties": {"age": {"type": "integer", "minimum": 1}}}});
        let tools = json!({"tools": [{"type": "function", "function": tool}]});
        let (sent, warnings) = run(BUDGET, &tools).unwrap();
        assert_eq!(sent["tools"][0]["input_schema"]["properties"]["age"]["description"], "{\"minimum\":1}");
        assert_eq!(
            (&sent["tools"][0]["strict"], warnings),
            (&json!(true), vec!["tools.function.parameters".to_owned()])
        );
        let (sent, warnings) = run(OLD, &tools).unwrap();
        assert_eq!(sent["tools"][0]["input_schema"], tool["parameters"]);
        assert_eq!((sent["tools"][0].get("strict"), warnings), (None, vec!["tools.function.strict".to_owned()]));
    }

    #[test]
    fn the_end_user_and_the_tier_have_counterparts() {
        let (kept, warnings) =
            run(BUDGET, &json!({"user": "u", "service_tier": "default", "stop": ["END", " \n"]})).unwrap();
        assert_eq!(kept["metadata"], json!({"user_id": "u"}));
        assert_eq!(kept["service_tier"], "standard_only");
        assert_eq!(kept["stop_sequences"], json!(["END"]));
        assert_eq!(warnings, ["stop"]);
        let both = json!({"safety_identifier": "s", "user": "u", "metadata": {"x": "y"}, "service_tier": "flex"});
        let (kept, warnings) = run(BUDGET, &both).unwrap();
        assert_eq!(kept["metadata"], json!({"user_id": "s"}));
        assert_eq!(warnings, ["user", "metadata", "service_tier"]);
    }

    #[test]
    fn anthropics_own_parameters_pass_and_everything_else_is_named_unless_it_says_nothing() {
        let own = json!({"container": "c", "mcp_servers": [{"name": "m"}], "inference_geo": "eu"});
        let (mut kept, warnings) = run(BUDGET, &own).unwrap();
        kept.as_object_mut().unwrap().remove("max_tokens");
        assert_eq!((kept, warnings), (own, vec![]));
        let neutral = json!({"frequency_penalty": 0, "logit_bias": {}, "logprobs": false, "n": 1, "store": false,
            "modalities": ["text"], "seed": null, "timeout": 5, "stream": false, "foo": null, "top_logprobs": 0,
            "stream_options": {"include_usage": true}, "parallel_tool_calls": true, "tool_choice": "auto"});
        let (kept, warnings) = run(BUDGET, &neutral).unwrap();
        assert_eq!((kept, warnings), (json!({"max_tokens": 64_000}), vec![]));
        let lost = json!({"seed": 1, "foo": "x", "verbosity": "low", "logprobs": true, "prompt_cache_key": "k"});
        let (_, warnings) = run(BUDGET, &lost).unwrap();
        assert_eq!(warnings, ["foo", "logprobs", "prompt_cache_key", "seed", "verbosity"]);
    }

    #[test]
    fn what_would_change_the_meaning_is_refused_by_name() {
        for (parameters, param) in [(json!({"n": 2}), "n"), (json!({"modalities": ["text", "audio"]}), "modalities")] {
            let error = run(BUDGET, &parameters).unwrap_err();
            assert_eq!((error.kind(), error.param()), (crate::error::ErrorKind::UnsupportedParameter, Some(param)));
        }
        for (parameters, param) in [(json!({"betas": 1}), "betas"), (json!({"output_config": "x"}), "output_config")] {
            assert_eq!(run(BUDGET, &parameters).unwrap_err().param(), Some(param));
        }
    }
}
