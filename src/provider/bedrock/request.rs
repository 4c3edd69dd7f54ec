//! The request's parameters: OpenAI's chat completion as a Converse call.
//!
//! Every parameter is translated, passed on, named in a warning, or refused; [`translate`] destructures the request without
//! `..`, so that a new one does not build until it is decided here. What Converse has no field for and a family of models
//! knows goes into `additionalModelRequestFields`; a client that sends that object itself is the last to decide.

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::auth;
use super::family::{Caching, Family, caching, family};
use super::messages::Conversation;
use super::tools::{self, Wanted};
use super::wire::{Block, Inference, Request};
use crate::api::chat::{ChatRequest, JsonSchema, ResponseFormat, StreamOptions};
use crate::api::literal;
use crate::error::{Error, Result};
use crate::provider::anthropic::reasoning::{Asked, Parameters, reasoning};
use crate::provider::anthropic::schema::enforceable;
use crate::provider::anthropic::wire::Thinking;
use crate::provider::refusal::one_text_answer;
use crate::provider::warnings::{Warnings, is_neutral};
use crate::provider::{ChatCall, Outgoing, Target};

/// Converse's own parameters, passed on under their names.
const NATIVE: &[&str] = &[
    "additionalModelResponseFieldPaths",
    "guardrailConfig",
    "outputConfig",
    "performanceConfig",
    "promptVariables",
    "requestMetadata",
    "serviceTier",
];
/// Members that are read here: Converse's object for the model's own, and Anthropic's for its models.
const READ: &[&str] = &["additionalModelRequestFields", "top_k"];
const READ_OF_CLAUDE: &[&str] = &["thinking", "output_config", "betas"];

/// What stays as it is in a segment of a path (RFC 3986 §2.3), as AWS's own libraries send it.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const JSON_INSTRUCTION: &str = "Respond with a single valid JSON object and nothing else.";

/// The whole call.
pub(super) fn chat(call: &ChatCall<'_>, target: &Target<'_>) -> Result<Outgoing> {
    let Translated { request, warnings } = translate(call.request()?, target.model)?;
    let body = literal::body(&request, call.body.bytes().len() + 512)?;
    let model = utf8_percent_encode(target.model, SEGMENT);
    let verb = if call.head.stream { "converse-stream" } else { "converse" };
    let path = target.endpoint.join(&format!("/model/{model}/{verb}"));
    let headers = auth::headers(target, &Method::POST, &path, &body)?;
    Ok(Outgoing { method: Method::POST, path, headers, body: body.into(), warnings: warnings.into_names() })
}

/// A request and what could not be expressed in it.
#[derive(Debug)]
pub(super) struct Translated<'a> {
    pub(super) request: Request<'a>,
    pub(super) warnings: Warnings,
}

/// Translates a request for this model.
pub(super) fn translate<'a>(request: &'a ChatRequest, model: &str) -> Result<Translated<'a>> {
    // A field that is not bound here is decided in `warn_inexpressible`, except ours: `model`, `stream`, `timeout`.
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
        metadata,
        modalities,
        n,
        parallel_tool_calls: _,
        prediction: _,
        presence_penalty: _,
        prompt_cache_key: _,
        prompt_cache_retention: _,
        reasoning_effort: _,
        response_format,
        safety_identifier: _,
        seed: _,
        service_tier,
        stop,
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
        web_search_options: _,
        timeout: _,
        extra,
    } = request;
    one_text_answer("bedrock", *n, modalities.as_deref())?;
    let family = family(model);
    let mut conversation = Conversation::translate(messages)?;
    let mut warnings = std::mem::take(&mut conversation.warnings);
    let of_family = if matches!(family, Family::Claude(_)) { READ_OF_CLAUDE } else { &[] };
    warnings.add_unknown("", extra, &[NATIVE, READ, of_family].concat());
    warn_inexpressible(request, &mut warnings);
    let wanted = Wanted {
        tools: tools.as_deref(),
        functions: functions.as_deref(),
        choice: tool_choice.as_ref(),
        function_call: function_call.as_ref(),
        in_use: conversation.uses_tools(),
        called: std::mem::take(&mut conversation.called),
        family,
    };
    let mut tool_config = tools::translate(&wanted, &mut warnings)?;
    let caching = caching(model);
    let mut unmarked = caching == Caching::Nowhere && conversation.unmark();
    unmarked |= caching != Caching::Everywhere && tool_config.as_mut().is_some_and(tools::unmark);
    if unmarked {
        warnings.add("cache_control");
    }
    let limits = [tools::is_forced(tool_config.as_ref()), conversation.lacks_thinking()];
    let (mut inference_config, mut fields) = model_parameters(request, family, limits, &mut warnings)?;
    inference_config.stop_sequences = stop_sequences(stop.as_ref().map(|stop| &*stop.0), family, &mut warnings);
    fields.extend(object(extra, "additionalModelRequestFields")?);
    let mut own: BTreeMap<&'a str, Cow<'a, Value>> =
        NATIVE.iter().filter_map(|name| Some((*name, Cow::Borrowed(native(extra, name)?)))).collect();
    let mut system = conversation.system;
    if let Some(format) = response_format {
        answer_format(format, family, &mut own, &mut system, &mut warnings);
    }
    if let Some(tier) = tier(service_tier.as_deref(), &mut warnings) {
        own.entry("serviceTier").or_insert(Cow::Owned(json!({"type": tier})));
    }
    if let Some(labels) = labels(metadata.as_ref(), &mut warnings) {
        own.entry("requestMetadata").or_insert(Cow::Owned(labels));
    }
    let request = Request {
        messages: conversation.turns,
        system,
        inference_config,
        tool_config,
        additional_model_request_fields: fields,
        native: own,
    };
    Ok(Translated { request, warnings })
}

/// Parameters without a counterpart whose absence changes the answer less than a refusal would.
fn warn_inexpressible(request: &ChatRequest, warnings: &mut Warnings) {
    let differs = |penalty: Option<f64>| penalty.is_some_and(|penalty| penalty != 0.0);
    let two_bounds = request.max_tokens.is_some() && request.max_completion_tokens.is_some();
    let given = |text: Option<&str>| text.is_some_and(|text| !text.is_empty());
    for (name, lost) in [
        ("audio", request.audio.is_some()),
        ("frequency_penalty", differs(request.frequency_penalty)),
        ("logit_bias", request.logit_bias.as_ref().is_some_and(|bias| !bias.is_empty())),
        ("logprobs", request.logprobs == Some(true)),
        ("max_tokens", two_bounds && request.max_tokens != request.max_completion_tokens),
        ("parallel_tool_calls", request.parallel_tool_calls == Some(false)),
        ("prediction", request.prediction.is_some()),
        ("presence_penalty", differs(request.presence_penalty)),
        ("prompt_cache_key", given(request.prompt_cache_key.as_deref())),
        ("prompt_cache_retention", given(request.prompt_cache_retention.as_deref())),
        ("safety_identifier", given(request.safety_identifier.as_deref())),
        ("seed", request.seed.as_ref().is_some_and(|seed| !seed.is_null())),
        ("store", request.store == Some(true)),
        ("top_logprobs", request.top_logprobs.is_some_and(|count| count > 0)),
        ("user", given(request.user.as_deref())),
        ("verbosity", given(request.verbosity.as_deref())),
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

/// A member that must be an object where it is given.
fn object(extra: &Map<String, Value>, name: &str) -> Result<Map<String, Value>> {
    match native(extra, name) {
        None => Ok(Map::new()),
        Some(Value::Object(members)) => Ok(members.clone()),
        Some(_) => Err(Error::invalid(name, format!("Invalid type for '{name}': expected an object."))),
    }
}

/// Length, sampling and reasoning, which forbid one another, as this family of models takes them.
fn model_parameters<'a>(
    request: &'a ChatRequest,
    family: Family,
    [forced, lost]: [bool; 2],
    warnings: &mut Warnings,
) -> Result<(Inference<'a>, Map<String, Value>)> {
    let extra = &request.extra;
    let effort = request.reasoning_effort.as_deref();
    let max_tokens = request.max_completion_tokens.or(request.max_tokens);
    let mut sampling =
        Parameters { temperature: request.temperature, top_p: request.top_p, top_k: native(extra, "top_k") };
    let mut fields = Map::new();
    if let Family::Claude(traits) = family {
        let asked = Asked { effort, given: native(extra, "thinking"), bound: max_tokens, forced, lost };
        let reasoning = reasoning(&asked, &traits, warnings)?;
        let thinks = reasoning.thinking.as_ref().is_some_and(Thinking::is_on);
        sampling = sampling.fit(&traits, thinks, warnings);
        claude_fields(extra, reasoning.thinking.as_ref(), reasoning.effort, &mut fields)?;
        keep(&mut fields, "top_k", sampling.top_k);
    } else {
        if let Some(temperature) = sampling.temperature.filter(|temperature| !(0.0..=1.0).contains(temperature)) {
            warnings.add("temperature");
            sampling.temperature = Some(temperature.clamp(0.0, 1.0));
        }
        let bounded = max_tokens.is_some() || sampling.temperature.is_some() || sampling.top_p.is_some();
        match (family, sampling.top_k) {
            (Family::Nova | Family::Nova2, Some(top_k)) => {
                fields.insert("inferenceConfig".to_owned(), json!({"topK": top_k}));
            }
            (_, Some(_)) => warnings.add("top_k"),
            _ => {}
        }
        if let Some(effort) = effort {
            fields.extend(effort_fields(effort, family, bounded, warnings));
        }
    }
    let Parameters { temperature, top_p, top_k: _ } = sampling;
    Ok((Inference { max_tokens, temperature, top_p, stop_sequences: Vec::new() }, fields))
}

fn keep(fields: &mut Map<String, Value>, name: &str, value: Option<&Value>) {
    if let Some(value) = value {
        fields.insert(name.to_owned(), value.clone());
    }
}

/// Anthropic's own parameters for its models.
fn claude_fields(
    extra: &Map<String, Value>,
    thinking: Option<&Thinking<'_>>,
    effort: Option<&'static str>,
    fields: &mut Map<String, Value>,
) -> Result<()> {
    if let Some(thinking) = thinking {
        fields.insert("thinking".to_owned(), serde_json::to_value(thinking).map_err(Error::internal)?);
    }
    let mut config = object(extra, "output_config")?;
    if let Some(effort) = effort {
        config.entry("effort").or_insert_with(|| effort.into());
    }
    if !config.is_empty() {
        fields.insert("output_config".to_owned(), config.into());
    }
    keep(fields, "anthropic_beta", native(extra, "betas"));
    Ok(())
}

/// What an effort becomes for models that are not Anthropic's.
fn effort_fields(effort: &str, family: Family, bounded: bool, warnings: &mut Warnings) -> Map<String, Value> {
    let nearest = match effort {
        "minimal" | "low" => "low",
        "medium" => "medium",
        _ => "high",
    };
    let exact = nearest == effort;
    let mut fields = Map::new();
    match family {
        Family::Nova2 if effort == "none" => {}
        Family::Nova2 => {
            // The highest effort takes neither a bound nor sampling parameters, which the client chose to set.
            let taken = if nearest == "high" && bounded { "medium" } else { nearest };
            if !exact || taken != nearest {
                warnings.add("reasoning_effort");
            }
            let config = json!({"type": "enabled", "maxReasoningEffort": taken});
            fields.insert("reasoningConfig".to_owned(), config);
        }
        Family::Gpt => {
            let taken = if effort == "none" { "low" } else { nearest };
            if taken != effort {
                warnings.add("reasoning_effort");
            }
            fields.insert("reasoning_effort".to_owned(), taken.into());
        }
        Family::Nova | Family::Other { .. } if effort == "none" => {}
        Family::Nova | Family::Other { .. } | Family::Claude(_) => warnings.add("reasoning_effort"),
    }
    fields
}

/// Empty texts are refused everywhere, white space by Anthropic's models.
fn stop_sequences<'a>(stop: Option<&'a [String]>, family: Family, warnings: &mut Warnings) -> Vec<&'a str> {
    let all = stop.unwrap_or_default();
    let claude = matches!(family, Family::Claude(_));
    let fits = |text: &&str| if claude { !text.trim().is_empty() } else { !text.is_empty() };
    let kept: Vec<&str> = all.iter().map(String::as_str).filter(fits).collect();
    if kept.len() < all.len() {
        warnings.add("stop");
    }
    kept
}

/// A schema where the model knows it; otherwise an instruction, which is a wish and therefore a warning.
fn answer_format<'a>(
    format: &ResponseFormat,
    family: Family,
    own: &mut BTreeMap<&'a str, Cow<'a, Value>>,
    system: &mut Vec<Block<'a>>,
    warnings: &mut Warnings,
) {
    let JsonSchema { name, description, schema, strict: _ } = match format {
        ResponseFormat::Text => return,
        ResponseFormat::JsonObject => {
            warnings.add("response_format");
            return system.push(Block::Text(JSON_INSTRUCTION.into()));
        }
        ResponseFormat::JsonSchema { json_schema } => json_schema,
    };
    let schema = schema.clone().unwrap_or_else(|| json!({"type": "object"}));
    let Some(schema) = family.is_structured().then(|| enforceable(&schema, warnings)).flatten() else {
        warnings.add("response_format");
        let text = format!("{JSON_INSTRUCTION} It must match this JSON schema: {schema}");
        return system.push(Block::Text(text.into()));
    };
    let mut named = json!({"name": name, "schema": schema.to_string()});
    if let (Some(members), Some(description)) = (named.as_object_mut(), description) {
        members.insert("description".to_owned(), description.as_str().into());
    }
    let format = json!({"textFormat": {"type": "json_schema", "structure": {"jsonSchema": named}}});
    own.entry("outputConfig").or_insert(Cow::Owned(format));
}

fn tier<'a>(tier: Option<&'a str>, warnings: &mut Warnings) -> Option<&'a str> {
    match tier? {
        tier @ ("default" | "flex" | "priority" | "reserved") => Some(tier),
        "auto" => None,
        _ => {
            warnings.add("service_tier");
            None
        }
    }
}

/// Labels for AWS's invocation log: up to 16 texts of at most 256 letters.
fn labels(metadata: Option<&Map<String, Value>>, warnings: &mut Warnings) -> Option<Value> {
    let metadata = metadata.filter(|metadata| metadata.values().any(|value| !is_neutral(value)))?;
    let fits = |text: &str| {
        let letter = |letter: char| letter.is_ascii_alphanumeric() || " :_@$#=/+,-.".contains(letter);
        text.len() <= 256 && text.chars().all(letter)
    };
    let label = |(name, value): (&String, &Value)| fits(name) && !name.is_empty() && value.as_str().is_some_and(fits);
    if metadata.len() > 16 || !metadata.iter().all(label) {
        warnings.add("metadata");
        return None;
    }
    Some(Value::Object(metadata.clone()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::api::head::ChatHead;
    use crate::api::scan::Body;
    use crate::config::Secret;
    use crate::provider::Endpoint;
    use crate::provider::bedrock::BEDROCK;

    /// Sends a question with these parameters; gives what Bedrock gets, without the question, and the warnings.
    fn run(model: &str, parameters: &Value) -> Result<(Value, Vec<String>)> {
        let mut body = json!({"model": "alias", "messages": [{"role": "user", "content": "q"}]});
        body.as_object_mut().unwrap().extend(parameters.as_object().unwrap().clone());
        let request = ChatRequest::parse(&Body::scan(Bytes::from(body.to_string())).unwrap())?;
        let made = translate(&request, model)?;
        let mut sent = crate::api::literal::value(&made.request);
        sent.as_object_mut().unwrap().remove("messages");
        Ok((sent, made.warnings.into_names()))
    }

    const CLAUDE: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
    const ADAPTIVE: &str = "global.anthropic.claude-opus-4-8";
    const NOVA: &str = "amazon.nova-lite-v1:0";
    const NOVA_2: &str = "us.amazon.nova-2-lite-v1:0";
    const GPT: &str = "openai.gpt-oss-120b-1:0";
    const LLAMA: &str = "meta.llama3-3-70b-instruct-v1:0";

    #[test]
    fn the_path_names_the_model_and_whether_it_streams() {
        for (stream, verb) in [(false, "converse"), (true, "converse-stream")] {
            let bytes = json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "q"}]});
            let body = Body::scan(Bytes::from(bytes.to_string())).unwrap();
            let head = ChatHead::read(&body).unwrap();
            let endpoint = Endpoint::parse(BEDROCK.base_url).unwrap();
            let (key, options) = (Secret::new("ABSK1"), Map::new());
            let model = "arn:aws:bedrock:us-east-1:1:inference-profile/us.x-v1:0";
            let now = jiff::Timestamp::UNIX_EPOCH;
            let target = Target { provider: &BEDROCK, endpoint: &endpoint, key: &key, options: &options, model, now };
            let outgoing = BEDROCK.dialect.chat(&ChatCall::new(&body, &head), &target).unwrap();
            let encoded = "arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.x-v1%3A0";
            assert_eq!(outgoing.path, format!("/model/{encoded}/{verb}"));
            assert_eq!(outgoing.body, r#"{"messages":[{"role":"user","content":[{"text":"q"}]}]}"#);
            let probe = BEDROCK.dialect.probe(&target).unwrap();
            assert_eq!((probe.method, probe.path.as_str()), (Method::GET, "/async-invoke?maxResults=1"));
        }
    }

    #[test]
    fn length_and_sampling_have_their_places() {
        let all = json!({"max_completion_tokens": 5, "temperature": 0.5, "stop": ["END", ""]});
        let (sent, warnings) = run(LLAMA, &all).unwrap();
        assert_eq!(sent, json!({"inferenceConfig": {"maxTokens": 5, "temperature": 0.5, "stopSequences": ["END"]}}));
        assert_eq!(warnings, ["stop"]);
        let (sent, warnings) = run(LLAMA, &json!({"temperature": 1.5, "top_k": 5})).unwrap();
        assert_eq!(sent, json!({"inferenceConfig": {"temperature": 1.0}}));
        assert_eq!(warnings, ["temperature", "top_k"]);
        let (sent, _) = run(NOVA, &json!({"top_k": 5})).unwrap();
        assert_eq!(sent, json!({"additionalModelRequestFields": {"inferenceConfig": {"topK": 5}}}));
        let (sent, _) = run(CLAUDE, &json!({"top_k": 5})).unwrap();
        assert_eq!(sent, json!({"additionalModelRequestFields": {"top_k": 5}}));
    }

    #[test]
    fn an_effort_becomes_what_the_family_understands() {
        let fields = |model: &str, effort: &str| {
            let (sent, warnings) = run(model, &json!({"reasoning_effort": effort})).unwrap();
            (sent.get("additionalModelRequestFields").cloned().unwrap_or_default(), warnings)
        };
        let warned = || vec!["reasoning_effort".to_owned()];
        let nova = |effort: &str| json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": effort}});
        let enabled = json!({"thinking": {"type": "enabled", "budget_tokens": 8192}});
        assert_eq!(fields(CLAUDE, "medium"), (enabled, vec![]));
        let adaptive = json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}});
        assert_eq!(fields(ADAPTIVE, "high"), (adaptive, vec![]));
        assert_eq!(fields(NOVA_2, "high"), (nova("high"), vec![]));
        assert_eq!(fields(NOVA_2, "xhigh"), (nova("high"), warned()));
        assert_eq!(fields(NOVA_2, "none"), (Value::Null, vec![]));
        assert_eq!(fields(GPT, "low"), (json!({"reasoning_effort": "low"}), vec![]));
        assert_eq!(fields(GPT, "none"), (json!({"reasoning_effort": "low"}), warned()));
        assert_eq!(fields(LLAMA, "low"), (Value::Null, warned()));
        assert_eq!(fields(NOVA, "none"), (Value::Null, vec![]));
        let (sent, warnings) = run(NOVA_2, &json!({"reasoning_effort": "high", "max_tokens": 9})).unwrap();
        assert_eq!((&sent["additionalModelRequestFields"], warnings), (&nova("medium"), warned()));
    }

    #[test]
    fn cache_points_stay_where_the_model_takes_them() {
        let mark = json!({"type": "ephemeral"});
        let ask = json!({
            "messages": [{"role": "user", "content": [{"type": "text", "text": "q", "cache_control": mark}]}],
            "tools": [{"type": "function", "function": {"name": "f"}, "cache_control": mark}],
        });
        let points = |model: &str| {
            let body = json!({"model": "alias", "messages": ask["messages"], "tools": ask["tools"]});
            let request = ChatRequest::parse(&Body::scan(Bytes::from(body.to_string())).unwrap()).unwrap();
            let made = translate(&request, model).unwrap();
            let sent = serde_json::to_string(&made.request).unwrap();
            (sent.matches("cachePoint").count(), made.warnings.into_names())
        };
        let warned = vec!["cache_control".to_owned()];
        assert_eq!(points(CLAUDE), (2, vec![]));
        assert_eq!(points("arn:aws:bedrock:us-east-1:1:application-inference-profile/x"), (2, vec![]));
        assert_eq!(points(NOVA), (1, warned.clone()));
        assert_eq!(points(LLAMA), (0, warned));
    }

    #[test]
    fn a_schema_is_enforced_where_it_can_be_and_asked_for_where_not() {
        let schema = json!({"type": "object", "properties": {}});
        let named = json!({"name": "thing", "description": "d", "schema": schema, "strict": true});
        let format = json!({"response_format": {"type": "json_schema", "json_schema": named}});
        let closed = r#"{"type":"object","properties":{},"additionalProperties":false}"#;
        let (sent, warnings) = run(CLAUDE, &format).unwrap();
        let expected = json!({"name": "thing", "schema": closed, "description": "d"});
        let expected = json!({"type": "json_schema", "structure": {"jsonSchema": expected}});
        assert_eq!((sent, warnings), (json!({"outputConfig": {"textFormat": expected}}), vec![]));
        let (sent, warnings) = run(NOVA, &format).unwrap();
        assert!(sent["system"][0]["text"].as_str().unwrap().ends_with(r#"{"type":"object","properties":{}}"#));
        assert_eq!(warnings, ["response_format"]);
        let (sent, warnings) = run(CLAUDE, &json!({"response_format": {"type": "json_object"}})).unwrap();
        assert_eq!(
            (sent, warnings),
            (json!({"system": [{"text": JSON_INSTRUCTION}]}), vec!["response_format".to_owned()])
        );
    }

    #[test]
    fn converses_own_parameters_pass_and_everything_else_is_named_unless_it_says_nothing() {
        let own = json!({"guardrailConfig": {"guardrailIdentifier": "g"}, "performanceConfig": {"latency": "optimized"},
            "additionalModelRequestFields": {"x": 1}, "requestMetadata": {"a": "b"}});
        let (sent, warnings) = run(LLAMA, &own).unwrap();
        assert_eq!((sent, warnings), (own, vec![]));
        let (sent, warnings) = run(LLAMA, &json!({"metadata": {"team": "a b"}, "service_tier": "flex"})).unwrap();
        assert_eq!(sent, json!({"serviceTier": {"type": "flex"}, "requestMetadata": {"team": "a b"}}));
        assert!(warnings.is_empty());
        let neutral = json!({"frequency_penalty": 0, "logit_bias": {}, "logprobs": false, "n": 1, "store": false,
            "modalities": ["text"], "seed": null, "timeout": 5, "stream": false, "foo": null, "top_logprobs": 0, "user": "",
            "stream_options": {"include_usage": true}, "parallel_tool_calls": true, "tool_choice": "auto", "metadata": {}});
        assert_eq!(run(LLAMA, &neutral).unwrap(), (json!({}), vec![]));
        let lost = json!({"seed": 1, "foo": "x", "thinking": {"type": "adaptive"}, "logprobs": true, "user": "u",
            "parallel_tool_calls": false, "metadata": {"a": 1}, "service_tier": "scale"});
        let (sent, warnings) = run(LLAMA, &lost).unwrap();
        assert_eq!(sent, json!({}));
        let expected =
            ["foo", "thinking", "logprobs", "parallel_tool_calls", "seed", "user", "service_tier", "metadata"];
        assert_eq!(warnings, expected);
    }

    #[test]
    fn what_would_change_the_meaning_is_refused_by_name() {
        for (parameters, param) in [(json!({"n": 2}), "n"), (json!({"modalities": ["text", "audio"]}), "modalities")] {
            let error = run(CLAUDE, &parameters).unwrap_err();
            assert_eq!((error.kind(), error.param()), (crate::error::ErrorKind::UnsupportedParameter, Some(param)));
        }
        for param in ["additionalModelRequestFields", "output_config"] {
            assert_eq!(run(CLAUDE, &json!({param: "x"})).unwrap_err().param(), Some(param));
        }
    }
}
