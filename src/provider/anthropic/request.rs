//! The request's parameters: OpenAI's chat completion as a Messages call.
//!
//! Every parameter is translated, passed on, named in a warning, or refused; [`translate`] destructures the request without
//! `..`, so that a new one does not build until it is decided here.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, Method};
use serde_json::{Map, Value, json};

use super::messages::Conversation;
use super::model::{self, MIN_BUDGET, Off, Sampling, Traits, traits};
use super::schema::answer_schema;
use super::tools::{self, Wanted};
use super::warnings::{Warnings, is_neutral};
use super::wire::{Block, Metadata, Request, Thinking};
use crate::api::chat::{ChatRequest, ResponseFormat, StreamOptions};
use crate::error::{Error, ErrorKind, Result};
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
    let mut body = Vec::with_capacity(call.body.bytes().len() + 512);
    serde_json::to_writer(&mut body, &request).map_err(Error::internal)?;
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
    refuse(*n, modalities.as_deref())?;
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
    };
    let tools = tools::translate(&wanted, &mut warnings)?;
    let given = extra.get("thinking").filter(|value| !value.is_null());
    let asked = Asked {
        effort: reasoning_effort.as_deref(),
        given,
        bound: max_completion_tokens.or(*max_tokens),
        forbidden: tools.is_forced() || conversation.lacks_thinking(),
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

/// What can't be left out without another meaning.
fn refuse(n: Option<u64>, modalities: Option<&[String]>) -> Result<()> {
    let unsupported = |param: &str, message: &'static str| {
        Err(Error::new(ErrorKind::UnsupportedParameter, message).with_param(param))
    };
    match n {
        Some(0) => return Err(Error::invalid("n", "Invalid value for 'n': expected at least 1.")),
        Some(2..) => return unsupported("n", "The provider 'anthropic' gives one choice for each request."),
        _ => {}
    }
    if modalities.is_some_and(|modalities| modalities.iter().any(|modality| modality != "text")) {
        return unsupported("modalities", "The provider 'anthropic' answers with text only.");
    }
    Ok(())
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

/// What is known when it is decided how the model thinks.
struct Asked<'a> {
    /// OpenAI's `reasoning_effort`.
    effort: Option<&'a str>,
    /// Anthropic's `thinking`, which wins.
    given: Option<&'a Value>,
    /// The client's bound of the answer, reasoning included.
    bound: Option<u64>,
    /// A budget would be refused: a call is forced, or an earlier call came without its reasoning.
    forbidden: bool,
}

/// How the model thinks, and how long its answer may be.
struct Reasoning<'a> {
    thinking: Option<Thinking<'a>>,
    effort: Option<&'static str>,
    max_tokens: u64,
}

fn reasoning<'a>(asked: &Asked<'a>, traits: &Traits, warnings: &mut Warnings) -> Result<Reasoning<'a>> {
    let max_tokens = asked.bound.unwrap_or(traits.max_output);
    let chosen = |thinking, effort| Ok(Reasoning { thinking, effort, max_tokens });
    if let Some(effort) = asked.effort.filter(|effort| *effort != "none" && model::effort(effort).is_none()) {
        let known = "none, minimal, low, medium, high, xhigh or max";
        let message = format!("Invalid value for 'reasoning_effort': '{effort}' is not {known}.");
        return Err(Error::invalid("reasoning_effort", message));
    }
    if let Some(given) = asked.given {
        if asked.effort.is_some() {
            warnings.add("reasoning_effort");
        }
        let budget = given.get("budget_tokens").and_then(Value::as_u64).unwrap_or(0);
        // A bound that the client chose is the client's; our own default must leave room for the budget.
        let room = if asked.bound.is_none() && budget >= max_tokens { budget } else { 0 };
        let max_tokens = max_tokens.saturating_add(room);
        return Ok(Reasoning { thinking: Some(Thinking::Given(given)), effort: None, max_tokens });
    }
    let Some(wanted) = asked.effort else { return chosen(None, None) };
    match traits.thinking {
        model::Thinking::Adaptive { off, .. } if wanted == "none" => {
            let disabled = Thinking::Chosen { r#type: "disabled", budget_tokens: None };
            match off {
                Off::Omit => chosen(None, None),
                Off::Disable => chosen(Some(disabled), None),
                Off::Never => {
                    warnings.add("reasoning_effort");
                    chosen(None, Some("low"))
                }
            }
        }
        model::Thinking::Adaptive { xhigh, .. } => {
            let mut effort = model::effort(wanted);
            if effort == Some("xhigh") && !xhigh {
                warnings.add("reasoning_effort");
                effort = Some("high");
            }
            chosen(Some(Thinking::Chosen { r#type: "adaptive", budget_tokens: None }), effort)
        }
        model::Thinking::Budget | model::Thinking::None if wanted == "none" => chosen(None, None),
        model::Thinking::Budget if !asked.forbidden => {
            let thinking = model::budget(wanted).and_then(|budget| fit_budget(budget, max_tokens, warnings));
            chosen(thinking, None)
        }
        model::Thinking::Budget | model::Thinking::None => {
            warnings.add("reasoning_effort");
            chosen(None, None)
        }
    }
}

/// The budget counts against the bound, as reasoning does at OpenAI: it shrinks so that half of the bound is left for the
/// answer, and where Anthropic's smallest budget does not fit, there is no thinking.
fn fit_budget<'a>(budget: u64, max_tokens: u64, warnings: &mut Warnings) -> Option<Thinking<'a>> {
    let fitting = budget.min((max_tokens / 2).max(MIN_BUDGET));
    if fitting < budget || fitting >= max_tokens {
        warnings.add("reasoning_effort");
    }
    (fitting < max_tokens).then_some(Thinking::Chosen { r#type: "enabled", budget_tokens: Some(fitting) })
}

/// The sampling parameters.
struct Parameters<'a> {
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<&'a Value>,
}

impl Parameters<'_> {
    /// Keeps what this model takes; thinking allows only a temperature of 1, a `top_p` from 0.95 and no `top_k`.
    fn fit(mut self, traits: &Traits, thinks: bool, warnings: &mut Warnings) -> Self {
        if let Some(temperature) = self.temperature.filter(|temperature| !(0.0..=1.0).contains(temperature)) {
            warnings.add("temperature");
            self.temperature = Some(temperature.clamp(0.0, 1.0));
        }
        let fixed = traits.sampling == Sampling::Fixed;
        if (fixed || thinks) && self.temperature.is_some_and(|temperature| temperature != 1.0) {
            warnings.add("temperature");
            self.temperature = None;
        }
        let both = traits.sampling == Sampling::One && self.temperature.is_some();
        let lowest = if fixed || both {
            1.0
        } else if thinks {
            0.95
        } else {
            0.0
        };
        if self.top_p.is_some_and(|top_p| top_p < lowest) {
            warnings.add("top_p");
        }
        self.top_p = self.top_p.filter(|top_p| !fixed && !both && *top_p >= lowest);
        if (fixed || thinks) && self.top_k.take().is_some() {
            warnings.add("top_k");
        }
        Self { temperature: self.temperature.filter(|_| !fixed), ..self }
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

/// A schema where the model knows them; otherwise an instruction, which is a wish and therefore a warning.
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
    match schema {
        Some(schema) if traits.structured => {
            config.entry("format").or_insert_with(|| json!({"type": "json_schema", "schema": schema}));
        }
        Some(schema) => {
            warnings.add("response_format");
            system.push(Block::text(format!("{JSON_INSTRUCTION} It must match this JSON schema: {schema}")));
        }
        None => {
            warnings.add("response_format");
            system.push(Block::text(JSON_INSTRUCTION));
        }
    }
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
    let user_id = safety_identifier.or(user).or(own);
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
