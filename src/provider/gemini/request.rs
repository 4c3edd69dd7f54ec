//! The request's parameters: OpenAI's chat completion as a generateContent call.
//!
//! Every parameter is translated, passed on, named in a warning, or refused; [`translate`] destructures the request without
//! `..`, so that a new one does not build until it is decided here.

use serde_json::{Map, Value, json};

use super::camel;
use super::messages::{Conversation, Turn};
use super::model::{Thinking, thinking};
use super::tools::{self, Wanted};
use super::vertex::VERTEX;
use super::warnings::{Warnings, is_neutral};
use crate::api::chat::{ChatRequest, JsonSchema, ResponseFormat, StreamOptions};
use crate::error::{Error, ErrorKind, Result};

/// Google's own parameters, passed on; a client may write them with underscores, too.
const NATIVE: &[&str] = &["cachedContent", "labels", "modelArmorConfig", "safetySettings"];
/// The same, of `generationConfig`.
const NATIVE_CONFIG: &[&str] = &[
    "audioTimestamp",
    "enableAffectiveDialog",
    "enableEnhancedCivicAnswers",
    "imageConfig",
    "mediaResolution",
    "responseModalities",
    "routingConfig",
    "speechConfig",
    "thinkingConfig",
    "topK",
];
/// Objects that ours are put into.
const NATIVE_BASES: &[&str] = &["generationConfig", "toolConfig"];

/// A request and what could not be said in it.
#[derive(Debug)]
pub(super) struct Translated {
    pub(super) body: Map<String, Value>,
    pub(super) warnings: Warnings,
}

/// Translates a request for this model.
pub(super) fn translate(request: &ChatRequest, model: &str, provider: &'static str) -> Result<Translated> {
    // A field that is not bound here is decided in `warn_inexpressible` or `generation`, except ours: `model`, `timeout`,
    // `stream`.
    let ChatRequest {
        model: _,
        messages,
        audio: _,
        frequency_penalty: _,
        function_call,
        functions,
        logit_bias: _,
        logprobs: _,
        max_completion_tokens: _,
        max_tokens: _,
        metadata: _,
        modalities,
        n,
        parallel_tool_calls,
        prediction: _,
        presence_penalty: _,
        prompt_cache_key: _,
        prompt_cache_retention: _,
        reasoning_effort,
        response_format,
        safety_identifier: _,
        seed: _,
        service_tier,
        stop: _,
        store: _,
        stream: _,
        stream_options: _,
        temperature: _,
        tool_choice,
        tools,
        top_logprobs: _,
        top_p: _,
        user: _,
        verbosity: _,
        web_search_options,
        timeout: _,
        extra,
    } = request;
    if *n == Some(0) {
        return Err(Error::invalid("n", "Invalid value for 'n': expected at least 1."));
    }
    let thinks = thinking(model);
    let mut conversation = Conversation::translate(provider, messages, thinks.wants_signatures())?;
    if provider == VERTEX.name {
        conversation.forget_ids();
    }
    let mut warnings = std::mem::take(&mut conversation.warnings);
    let native = native(extra, &mut warnings)?;
    warn_inexpressible(request, &mut warnings);
    let wanted = Wanted {
        provider,
        tools: tools.as_deref(),
        functions: functions.as_deref(),
        choice: tool_choice.as_ref(),
        function_call: function_call.as_ref(),
        parallel: *parallel_tool_calls,
        web_search: web_search_options.as_ref(),
        validates: thinks != Thinking::None,
    };
    let tools = tools::translate(&wanted, &mut warnings)?;
    let mut config = native.config;
    generation(request, &mut config, &mut warnings);
    answer_modalities(modalities.as_deref(), provider, &mut config)?;
    if let Some(effort) = reasoning_effort {
        reasoning(effort, thinks, &mut config, &mut warnings)?;
    }
    if let Some(format) = response_format {
        answer_format(format, &mut config);
    }
    let mut body = native.top;
    let contents: Vec<Value> =
        conversation.turns.into_iter().map(|Turn { role, parts }| json!({"role": role, "parts": parts})).collect();
    body.insert("contents".to_owned(), contents.into());
    if !conversation.system.is_empty() {
        body.insert("systemInstruction".to_owned(), json!({"parts": conversation.system}));
    }
    if !tools.tools.is_empty() {
        body.insert("tools".to_owned(), tools.tools.into());
    }
    let mut tool_config = native.tool_config;
    if let Some(calling) = tools.calling {
        tool_config.insert("functionCallingConfig".to_owned(), calling);
    }
    if !tool_config.is_empty() {
        body.insert("toolConfig".to_owned(), tool_config.into());
    }
    if !config.is_empty() {
        body.insert("generationConfig".to_owned(), config.into());
    }
    if let Some(tier) = tier(service_tier.as_deref(), provider, &mut warnings) {
        body.insert("serviceTier".to_owned(), tier.into());
    }
    Ok(Translated { body, warnings })
}

/// What the client gave under Google's own names, sorted by its place.
#[derive(Default)]
struct Native {
    top: Map<String, Value>,
    config: Map<String, Value>,
    tool_config: Map<String, Value>,
}

fn native(extra: &Map<String, Value>, warnings: &mut Warnings) -> Result<Native> {
    let mut native = Native::default();
    for (name, value) in extra.iter().filter(|(_, value)| !value.is_null()) {
        let key = camel(name);
        if NATIVE_BASES.contains(&key.as_str()) {
            let message = format!("Invalid type for '{name}': expected an object.");
            let members = value.as_object().ok_or_else(|| Error::invalid(name.clone(), message))?;
            let base = if key == "toolConfig" { &mut native.tool_config } else { &mut native.config };
            base.extend(members.iter().map(|(name, value)| (camel(name), value.clone())));
        } else if NATIVE.contains(&key.as_str()) {
            native.top.insert(key, value.clone());
        } else if NATIVE_CONFIG.contains(&key.as_str()) {
            native.config.insert(key, value.clone());
        } else if !is_neutral(value) {
            warnings.add(name);
        }
    }
    Ok(native)
}

/// The parameters that Google has under another name.
fn generation(request: &ChatRequest, config: &mut Map<String, Value>, warnings: &mut Warnings) {
    let seed = request.seed.as_ref().filter(|seed| !seed.is_null());
    let fitting = seed.filter(|seed| seed.as_i64().is_some_and(|seed| i32::try_from(seed).is_ok()));
    if fitting.is_none() && seed.is_some() {
        warnings.add("seed");
    }
    let logprobs = request.logprobs == Some(true);
    let count = request.top_logprobs.filter(|count| *count > 0);
    if count.is_some() && !logprobs {
        warnings.add("top_logprobs");
    }
    let stop = request.stop.as_ref().map(|stop| &stop.0).filter(|texts| !texts.is_empty());
    let bound = request.max_completion_tokens.or(request.max_tokens);
    for (name, value) in [
        ("maxOutputTokens", bound.map(Value::from)),
        ("temperature", request.temperature.map(Value::from)),
        ("topP", request.top_p.map(Value::from)),
        ("stopSequences", stop.map(|texts| Value::from(texts.as_slice()))),
        ("candidateCount", request.n.filter(|n| *n > 1).map(Value::from)),
        ("seed", fitting.cloned()),
        ("presencePenalty", request.presence_penalty.filter(|penalty| *penalty != 0.0).map(Value::from)),
        ("frequencyPenalty", request.frequency_penalty.filter(|penalty| *penalty != 0.0).map(Value::from)),
        ("responseLogprobs", logprobs.then_some(Value::Bool(true))),
        ("logprobs", count.filter(|_| logprobs).map(Value::from)),
    ] {
        if let Some(value) = value {
            config.insert(name.to_owned(), value);
        }
    }
}

/// Parameters without a counterpart whose absence changes the answer less than a refusal would.
fn warn_inexpressible(request: &ChatRequest, warnings: &mut Warnings) {
    let two_bounds = request.max_tokens.is_some() && request.max_completion_tokens.is_some();
    let some = |map: Option<&Map<String, Value>>| map.is_some_and(|map| !map.is_empty());
    for (name, lost) in [
        ("audio", request.audio.is_some()),
        ("logit_bias", some(request.logit_bias.as_ref())),
        ("max_tokens", two_bounds && request.max_tokens != request.max_completion_tokens),
        ("metadata", some(request.metadata.as_ref())),
        ("prediction", request.prediction.is_some()),
        ("prompt_cache_key", request.prompt_cache_key.is_some()),
        ("prompt_cache_retention", request.prompt_cache_retention.is_some()),
        ("safety_identifier", request.safety_identifier.is_some()),
        ("store", request.store == Some(true)),
        ("user", request.user.as_deref().is_some_and(|user| !user.is_empty())),
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

/// Pictures come among the answer's parts; sound would need a place that OpenAI's answer gives only to its own formats.
fn answer_modalities(
    modalities: Option<&[String]>,
    provider: &'static str,
    config: &mut Map<String, Value>,
) -> Result<()> {
    let wanted = modalities.unwrap_or_default();
    if wanted.iter().all(|modality| modality == "text") {
        return Ok(());
    }
    if let Some(other) = wanted.iter().find(|modality| !matches!(modality.as_str(), "text" | "image")) {
        let message = format!("The provider '{provider}' gives no answers of the modality '{other}' here.");
        return Err(Error::new(ErrorKind::UnsupportedParameter, message).with_param("modalities"));
    }
    let names: Vec<String> = wanted.iter().map(|modality| modality.to_ascii_uppercase()).collect();
    config.insert("responseModalities".to_owned(), names.into());
    Ok(())
}

/// The client's own `thinkingConfig` says more than an effort.
fn reasoning(effort: &str, thinks: Thinking, config: &mut Map<String, Value>, warnings: &mut Warnings) -> Result<()> {
    let (thinking, exact) = thinks.config(effort).ok_or_else(|| {
        let known = "none, minimal, low, medium, high, xhigh or max";
        let message = format!("Invalid value for 'reasoning_effort': '{effort}' is not {known}.");
        Error::invalid("reasoning_effort", message)
    })?;
    let given = config.contains_key("thinkingConfig");
    if given || !exact {
        warnings.add("reasoning_effort");
    }
    if !given && !thinking.is_empty() {
        config.insert("thinkingConfig".to_owned(), thinking.into());
    }
    Ok(())
}

fn answer_format(format: &ResponseFormat, config: &mut Map<String, Value>) {
    let schema = match format {
        ResponseFormat::Text => return,
        ResponseFormat::JsonObject => None,
        ResponseFormat::JsonSchema { json_schema } => answer_schema(json_schema),
    };
    config.insert("responseMimeType".to_owned(), "application/json".into());
    if let Some(schema) = schema {
        config.insert("responseJsonSchema".to_owned(), schema);
    }
}

/// The schema of an answer; its name and description move to where JSON Schema has places for them.
fn answer_schema(named: &JsonSchema) -> Option<Value> {
    let JsonSchema { name, description, schema, strict: _ } = named;
    let mut schema = schema.clone()?;
    if let Some(members) = schema.as_object_mut() {
        if !name.is_empty() {
            members.entry("title").or_insert_with(|| name.clone().into());
        }
        if let Some(description) = description {
            describe(members, description);
        }
    }
    Some(schema)
}

/// Puts a description in front of the schema's own.
fn describe(members: &mut Map<String, Value>, description: &str) {
    let own = members.get("description").and_then(Value::as_str).filter(|own| *own != description);
    let all = own.map_or_else(|| description.to_owned(), |own| format!("{description}\n\n{own}"));
    members.insert("description".to_owned(), all.into());
}

/// Vertex names tiers in headers of its own contracts, so that only the Gemini API can be asked for one.
fn tier<'a>(tier: Option<&'a str>, provider: &'static str, warnings: &mut Warnings) -> Option<&'a str> {
    match tier? {
        "auto" | "default" => None,
        tier @ ("flex" | "priority" | "standard") if provider == super::GEMINI.name => Some(tier),
        _ => {
            warnings.add("service_tier");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(model: &str, parameters: &Value) -> Result<(Value, Vec<String>)> {
        let mut request = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        request.as_object_mut().unwrap().extend(parameters.as_object().unwrap().clone());
        let request: ChatRequest = serde_json::from_value(request).unwrap();
        let Translated { mut body, warnings } = translate(&request, model, "gemini")?;
        body.remove("contents").unwrap();
        Ok((body.into(), warnings.into_names()))
    }

    #[test]
    fn parameters_find_their_names() {
        let (body, warnings) = run(
            "gemini-2.5-flash",
            &json!({"max_completion_tokens": 9, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "stop": "END", "n": 2,
                "seed": 7, "presence_penalty": 1.0, "frequency_penalty": -1.0, "logprobs": true, "top_logprobs": 2,
                "safety_settings": [], "cachedContent": "cachedContents/x", "service_tier": "flex",
                "reasoning_effort": "low"}),
        )
        .unwrap();
        assert_eq!(
            body,
            json!({"cachedContent": "cachedContents/x", "safetySettings": [], "serviceTier": "flex", "generationConfig": {
                "topK": 3, "maxOutputTokens": 9, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"],
                "candidateCount": 2, "seed": 7, "presencePenalty": 1.0, "frequencyPenalty": -1.0,
                "responseLogprobs": true, "logprobs": 2,
                "thinkingConfig": {"thinkingBudget": 1024, "includeThoughts": true}}})
        );
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn what_says_nothing_changes_nothing_and_warns_of_nothing() {
        let neutral = json!({"n": 1, "presence_penalty": 0, "logit_bias": {}, "metadata": {}, "store": false, "tools": [],
            "stop": [], "logprobs": false, "top_logprobs": 0, "modalities": ["text"], "service_tier": "auto",
            "response_format": {"type": "text"}, "custom": null, "user": ""});
        assert_eq!(run("gemini-2.5-flash", &neutral).unwrap(), (json!({}), Vec::new()));
    }

    #[test]
    fn what_cannot_be_said_is_named() {
        let lost = json!({"logit_bias": {"1": 2}, "user": "u", "metadata": {"a": "b"}, "store": true, "custom": 1,
            "seed": 5_000_000_000_u64, "verbosity": "low", "reasoning_effort": "high", "top_logprobs": 1});
        let (body, warnings) = run("gemini-2.0-flash", &lost).unwrap();
        assert_eq!(body, json!({}));
        let expected = [
            "custom",
            "logit_bias",
            "metadata",
            "store",
            "user",
            "verbosity",
            "seed",
            "top_logprobs",
            "reasoning_effort",
        ];
        assert_eq!(warnings, expected);
        let refused = |parameters: Value| run("gemini-2.5-pro", &parameters).unwrap_err().param().unwrap().to_owned();
        assert_eq!(refused(json!({"n": 0})), "n");
        assert_eq!(refused(json!({"modalities": ["text", "audio"], "audio": {"voice": "x"}})), "modalities");
        assert_eq!(refused(json!({"reasoning_effort": "very"})), "reasoning_effort");
        assert_eq!(refused(json!({"generationConfig": 1})), "generationConfig");
    }

    #[test]
    fn json_is_asked_for_with_the_schema_as_it_is() {
        let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
        let format = json!({"type": "json_schema", "json_schema": {"name": "N", "description": "D", "schema": schema}});
        let (body, _) = run("gemini-2.5-flash", &json!({"response_format": format})).unwrap();
        let config = &body["generationConfig"];
        assert_eq!(config["responseMimeType"], "application/json");
        assert_eq!(config["responseJsonSchema"]["title"], "N");
        assert_eq!(config["responseJsonSchema"]["description"], "D");
        assert_eq!(config["responseJsonSchema"]["properties"], schema["properties"]);
        let described = json!({"type": "object", "description": "E"});
        let format =
            json!({"type": "json_schema", "json_schema": {"name": "N", "description": "D", "schema": described}});
        let (body, _) = run("gemini-2.5-flash", &json!({"response_format": format})).unwrap();
        assert_eq!(body["generationConfig"]["responseJsonSchema"]["description"], "D\n\nE");
        let (body, _) = run("gemini-2.5-flash", &json!({"response_format": {"type": "json_object"}})).unwrap();
        assert_eq!(body, json!({"generationConfig": {"responseMimeType": "application/json"}}));
    }

    #[test]
    fn the_clients_own_configuration_is_the_base_and_pictures_can_be_asked_for() {
        let given = json!({"generation_config": {"top_k": 1, "temperature": 0.1}, "temperature": 0.2,
            "thinking_config": {"thinkingBudget": 5}, "reasoning_effort": "low", "modalities": ["text", "image"]});
        let (body, warnings) = run("gemini-2.5-flash", &given).unwrap();
        let expected = json!({"topK": 1, "temperature": 0.2, "thinkingConfig": {"thinkingBudget": 5},
            "responseModalities": ["TEXT", "IMAGE"]});
        assert_eq!((&body["generationConfig"], warnings), (&expected, vec!["reasoning_effort".to_owned()]));
    }
}
