//! Converse's shapes. Requests borrow what the client sent, so that megabytes of base64 are copied once, into the body;
//! answers are read tolerantly: an unknown block, event or field is never an error.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::api::answer::{FinishReason, count, lenient};
use crate::api::literal;
use crate::usage::{Bill, ServiceTier, Usage};

/// The body of `POST /model/{model}/converse` and `/converse-stream`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request<'a> {
    pub(super) messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) system: Vec<Block<'a>>,
    #[serde(skip_serializing_if = "Inference::is_empty")]
    pub(super) inference_config: Inference<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(super) additional_model_request_fields: Map<String, Value>,
    /// Top-level parameters that need no translation.
    #[serde(flatten)]
    pub(super) native: BTreeMap<&'a str, Cow<'a, Value>>,
}

/// Length and sampling.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Inference<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) top_p: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) stop_sequences: Vec<&'a str>,
}

impl Inference<'_> {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A message.
#[derive(Debug, Serialize)]
pub(super) struct Turn<'a> {
    pub(super) role: Speaker,
    pub(super) content: Vec<Block<'a>>,
}

/// The only two roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Speaker {
    User,
    Assistant,
}

/// A block of a message: an object with one member, which says what it is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Block<'a> {
    Text(#[serde(serialize_with = "literal::text")] Cow<'a, str>),
    Image(Media<'a>),
    Video(Media<'a>),
    Document(Media<'a>),
    #[serde(rename_all = "camelCase")]
    ToolUse {
        tool_use_id: Cow<'a, str>,
        name: &'a str,
        input: &'a RawValue,
    },
    #[serde(rename_all = "camelCase")]
    ToolResult {
        tool_use_id: Cow<'a, str>,
        content: Vec<Self>,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<&'static str>,
    },
    ReasoningContent(Value),
    CachePoint(CachePoint),
    /// A block in Converse's own form.
    #[serde(untagged)]
    Given(&'a Value),
}

impl Block<'_> {
    /// Whether the block is a call.
    pub(super) fn is_tool_use(&self) -> bool {
        matches!(self, Self::ToolUse { .. }) || matches!(self, Self::Given(value) if value.get("toolUse").is_some())
    }

    /// Whether the block is a call or its result, neither of which goes without a list of tools.
    pub(super) fn is_about_tools(&self) -> bool {
        self.is_tool_use()
            || matches!(self, Self::ToolResult { .. })
            || matches!(self, Self::Given(value) if value.get("toolResult").is_some())
    }

    /// Whether the block is a text of white space only.
    pub(super) fn is_blank(&self) -> bool {
        matches!(self, Self::Text(text) if text.trim().is_empty())
    }

    /// Whether the block is reasoning.
    pub(super) fn is_reasoning(&self) -> bool {
        matches!(self, Self::ReasoningContent(_))
            || matches!(self, Self::Given(value) if value.get("reasoningContent").is_some())
    }
}

/// An image, a video or a document.
#[derive(Debug, Serialize)]
pub(super) struct Media<'a> {
    pub(super) format: &'static str,
    /// Of a document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    pub(super) source: Bytes<'a>,
    /// `citations` and `context` of a document.
    #[serde(flatten)]
    pub(super) native: BTreeMap<&'a str, &'a Value>,
}

/// Base64.
#[derive(Debug, Serialize)]
pub(super) struct Bytes<'a> {
    #[serde(serialize_with = "literal::text")]
    pub(super) bytes: &'a str,
}

/// Everything before it is cached.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct CachePoint {
    pub(super) r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ttl: Option<String>,
}

impl CachePoint {
    /// Anthropic's `cache_control`, which clients of gateways send to every provider, or OpenAI's own breakpoint.
    pub(super) fn read(members: &Map<String, Value>) -> Option<Self> {
        let control = members.get("cache_control").and_then(Value::as_object);
        let breakpoint = members.get("prompt_cache_breakpoint").is_some_and(Value::is_object);
        let ttl = control.and_then(|control| control.get("ttl")?.as_str()).map(str::to_owned);
        (control.is_some() || breakpoint).then_some(Self { r#type: "default", ttl })
    }
}

/// The tools and the choice among them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolConfig<'a> {
    pub(super) tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool_choice: Option<Value>,
}

/// A tool.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Tool<'a> {
    #[serde(rename = "toolSpec")]
    Function(Function<'a>),
    #[serde(rename = "systemTool")]
    System(&'a Value),
    CachePoint(CachePoint),
}

/// A function.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Function<'a> {
    pub(super) name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<Cow<'a, str>>,
    pub(super) input_schema: InputSchema<'a>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) strict: bool,
}

/// A JSON schema.
#[derive(Debug, Serialize)]
pub(super) struct InputSchema<'a> {
    pub(super) json: Cow<'a, Value>,
}

/// Converse's usage: `inputTokens` is without what the cache read or wrote; reasoning is not told apart.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct UsageWire {
    #[serde(deserialize_with = "count")]
    input_tokens: u64,
    #[serde(deserialize_with = "count")]
    output_tokens: u64,
    #[serde(deserialize_with = "count")]
    cache_read_input_tokens: u64,
    #[serde(deserialize_with = "count")]
    cache_write_input_tokens: u64,
    #[serde(deserialize_with = "lenient")]
    cache_details: Option<Vec<CacheDetail>>,
}

/// What was written to a cache, and for how long: `5m` or `1h`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CacheDetail {
    #[serde(default)]
    ttl: String,
    #[serde(default, deserialize_with = "count")]
    input_tokens: u64,
}

impl From<UsageWire> for Usage {
    fn from(wire: UsageWire) -> Self {
        let hour = wire.cache_details.iter().flatten().filter(|detail| detail.ttl == "1h");
        Self {
            cache_write_1h: hour.map(|detail| detail.input_tokens).sum(),
            input: wire.input_tokens,
            cached_read: wire.cache_read_input_tokens,
            cache_write: wire.cache_write_input_tokens,
            output: wire.output_tokens,
            ..Self::default()
        }
    }
}

/// The usage in a whole answer or in `metadata`; one of another shape is none, which is not worth failing an answer for.
pub(super) fn usage(holder: &Map<String, Value>) -> Option<Usage> {
    let wire = holder.get("usage").filter(|usage| usage.is_object())?;
    UsageWire::deserialize(wire).ok().map(Usage::from)
}

/// Why the answer ended. `tool_calls` says whether any call was made, for a reason that is missing.
pub(super) fn finish_reason(stop_reason: Option<&str>, tool_calls: bool) -> FinishReason {
    match stop_reason {
        Some("max_tokens" | "model_context_window_exceeded") => FinishReason::Length,
        Some("tool_use") => FinishReason::ToolCalls,
        Some("guardrail_intervened" | "content_filtered" | "refusal") => FinishReason::ContentFilter,
        None if tool_calls => FinishReason::ToolCalls,
        _ => FinishReason::Stop,
    }
}

/// What the answer or `metadata` says of the bill beside the usage.
pub(super) fn bill(holder: &Map<String, Value>) -> Bill {
    Bill { tier: ServiceTier::from_word(tier(holder).unwrap_or_default()), ..Bill::default() }
}

/// OpenAI's word for a tier.
pub(super) fn tier(holder: &Map<String, Value>) -> Option<&str> {
    holder.get("serviceTier")?.get("type")?.as_str()
}
