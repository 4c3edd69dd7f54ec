//! Anthropic's shapes. Requests borrow what the client sent, so that megabytes of base64 are copied once, into the body;
//! answers are read tolerantly: an unknown block, event or field is never an error.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

pub(super) use crate::api::answer::lenient;
use crate::api::answer::{FinishReason, count};
use crate::api::literal;
use crate::usage::{Bill, MOST_TOKENS, ServiceTier, Usage};

/// The body of `POST /v1/messages`.
#[derive(Debug, Serialize)]
pub(super) struct Request<'a> {
    pub(super) model: &'a str,
    pub(super) max_tokens: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) system: Vec<Block<'a>>,
    pub(super) messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) top_k: Option<&'a Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) stop_sequences: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<Metadata<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool_choice: Option<ToolChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) thinking: Option<Thinking<'a>>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(super) output_config: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service_tier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stream: Option<bool>,
    /// Parameters that have the same name and meaning on both sides of the gateway.
    #[serde(flatten)]
    pub(super) native: BTreeMap<&'a str, &'a Value>,
}

/// Who the end user is.
#[derive(Debug, Serialize)]
pub(super) struct Metadata<'a> {
    pub(super) user_id: &'a str,
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

/// A block of a message.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Block<'a> {
    Text {
        #[serde(serialize_with = "literal::text")]
        text: Cow<'a, str>,
        #[serde(flatten)]
        native: Native<'a>,
    },
    Image {
        source: Source<'a>,
        #[serde(flatten)]
        native: Native<'a>,
    },
    Document {
        source: Source<'a>,
        #[serde(flatten)]
        native: Native<'a>,
    },
    ToolUse {
        id: Cow<'a, str>,
        name: &'a str,
        input: &'a RawValue,
        #[serde(flatten)]
        native: Native<'a>,
    },
    ToolResult {
        tool_use_id: Cow<'a, str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        content: Vec<Self>,
        #[serde(flatten)]
        native: Native<'a>,
    },
    /// A block that the client got from Anthropic and sends back.
    #[serde(untagged)]
    Given(Cow<'a, Value>),
}

impl<'a> Block<'a> {
    /// A text without anything else.
    pub(super) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text { text: text.into(), native: Native::default() }
    }

    /// Where `cache_control` and the like go; none on a block that is sent back as it came.
    pub(super) const fn native_mut(&mut self) -> Option<&mut Native<'a>> {
        match self {
            Self::Text { native, .. }
            | Self::Image { native, .. }
            | Self::Document { native, .. }
            | Self::ToolUse { native, .. }
            | Self::ToolResult { native, .. } => Some(native),
            Self::Given(_) => None,
        }
    }

    /// Whether the block is a text of white space only.
    pub(super) fn is_blank(&self) -> bool {
        matches!(self, Self::Text { text, .. } if text.trim().is_empty())
    }

    /// Whether the block is reasoning.
    pub(super) fn is_thinking(&self) -> bool {
        matches!(self, Self::Given(value)
            if matches!(value.get("type").and_then(Value::as_str), Some("thinking" | "redacted_thinking")))
    }

    /// Whether the block is a result.
    pub(super) fn is_tool_result(&self) -> bool {
        match self {
            Self::ToolResult { .. } => true,
            Self::Given(value) => value.get("type").and_then(Value::as_str) == Some("tool_result"),
            _ => false,
        }
    }

    /// Whether the block is a call.
    pub(super) fn is_tool_use(&self) -> bool {
        match self {
            Self::ToolUse { .. } => true,
            Self::Given(value) => value.get("type").and_then(Value::as_str) == Some("tool_use"),
            _ => false,
        }
    }
}

/// Members with Anthropic's own names, passed on as they are (`cache_control`, `citations`, …).
pub(super) type Native<'a> = BTreeMap<&'a str, Cow<'a, Value>>;

/// Where an image or a document comes from.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Source<'a> {
    Base64 {
        media_type: &'a str,
        #[serde(serialize_with = "literal::text")]
        data: &'a str,
    },
    Text {
        media_type: &'static str,
        #[serde(serialize_with = "literal::text")]
        data: String,
    },
    Url {
        url: &'a str,
    },
    File {
        file_id: &'a str,
    },
}

/// A tool.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Tool<'a> {
    Function(Function<'a>),
    /// A server tool, in Anthropic's own form.
    Given {
        r#type: &'a str,
        #[serde(flatten)]
        members: &'a Map<String, Value>,
    },
    WebSearch {
        r#type: &'static str,
        name: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        user_location: Option<Value>,
    },
}

/// A function.
#[derive(Debug, Serialize)]
pub(super) struct Function<'a> {
    pub(super) name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<Cow<'a, str>>,
    pub(super) input_schema: Cow<'a, Value>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) strict: bool,
    #[serde(flatten)]
    pub(super) native: Native<'a>,
}

/// Which tool must, may or may not be called.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ToolChoice {
    Auto {
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        disable_parallel_tool_use: bool,
    },
    Any {
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        disable_parallel_tool_use: bool,
    },
    Tool {
        name: String,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        disable_parallel_tool_use: bool,
    },
    None,
}

/// Whether and how much to think.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(in crate::provider) enum Thinking<'a> {
    /// The client's own object.
    Given(&'a Value),
    /// What an effort became.
    Chosen {
        r#type: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        budget_tokens: Option<u64>,
    },
}

impl Thinking<'_> {
    /// Whether the model thinks, which forbids some other parameters.
    pub(in crate::provider) fn is_on(&self) -> bool {
        match self {
            Self::Given(value) => value.get("type").and_then(Value::as_str).is_some_and(|kind| kind != "disabled"),
            Self::Chosen { r#type, .. } => *r#type != "disabled",
        }
    }
}

/// A text, borrowed unless it holds escapes.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl Text<'_> {
    /// The text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A whole answer, or an error in its place.
#[derive(Debug, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) model: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) content: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    pub(super) stop_reason: Option<Text<'a>>,
    pub(super) stop_sequence: Option<Value>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) stop_details: Option<StopDetails>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) usage: Option<UsageWire>,
    pub(super) container: Option<Value>,
    pub(super) context_management: Option<Value>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

/// What is read of a block before its type is known; the fields of all known types together.
#[derive(Debug, Deserialize)]
pub(super) struct BlockHead<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Text<'a>,
    #[serde(borrow)]
    pub(super) text: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) thinking: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) input: Option<&'a RawValue>,
    pub(super) citations: Option<Vec<Value>>,
    pub(super) caller: Option<Value>,
}

/// Whether a call was made by code that runs at Anthropic; such a call can only be answered together with its blocks.
pub(super) fn called_by_code(caller: Option<&Value>) -> bool {
    caller.and_then(|caller| caller.get("type")).and_then(Value::as_str).is_some_and(|kind| kind != "direct")
}

/// Why the model refused.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct StopDetails {
    pub(super) explanation: Option<String>,
}

/// One event of a stream; the fields of all known types together.
#[derive(Debug, Deserialize)]
pub(super) struct Frame<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(super) kind: Text<'a>,
    #[serde(default)]
    pub(super) index: u64,
    #[serde(borrow)]
    pub(super) message: Option<Message<'a>>,
    #[serde(borrow)]
    pub(super) content_block: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) delta: Option<FrameDelta<'a>>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) usage: Option<UsageWire>,
    pub(super) context_management: Option<Value>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

impl Frame<'_> {
    /// The piece of text that this is, where it has no escapes.
    pub(super) fn text(&self) -> Option<&str> {
        let delta = self.delta.as_ref().filter(|delta| delta.kind.as_str() == "text_delta")?;
        match &delta.text.as_ref()?.0 {
            Cow::Borrowed(text) if self.kind.as_str() == "content_block_delta" => Some(text),
            _ => None,
        }
    }
}

/// What is new in a block or in the message.
#[derive(Debug, Deserialize)]
pub(super) struct FrameDelta<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(super) kind: Text<'a>,
    #[serde(borrow)]
    pub(super) text: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) thinking: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) signature: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) partial_json: Option<Text<'a>>,
    pub(super) citation: Option<Value>,
    /// Of a compaction.
    #[serde(default, deserialize_with = "lenient")]
    pub(super) content: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) encrypted_content: Option<String>,
    #[serde(borrow)]
    pub(super) stop_reason: Option<Text<'a>>,
    pub(super) stop_sequence: Option<Value>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) stop_details: Option<StopDetails>,
    pub(super) container: Option<Value>,
}

/// A count as providers send it, and whether it can be one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count(u64, bool);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let sound = value.as_f64().is_some_and(|number| number.fract() == 0.0 && (0.0..=MOST).contains(&number));
        Ok(Self(count(value).unwrap_or(0), sound))
    }
}

/// The most that a count is believed to be.
const MOST: f64 = MOST_TOKENS as f64;

/// Anthropic's usage: `input_tokens` is without what the cache read or wrote. Every count stands for the whole answer so
/// far, so a later one replaces an earlier one.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct UsageWire {
    input_tokens: Option<Count>,
    cache_creation_input_tokens: Option<Count>,
    cache_read_input_tokens: Option<Count>,
    output_tokens: Option<Count>,
    #[serde(default, deserialize_with = "lenient")]
    output_tokens_details: Option<OutputDetails>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) service_tier: Option<String>,
    pub(super) server_tool_use: Option<Value>,
    #[serde(default, deserialize_with = "lenient")]
    cache_creation: Option<CacheCreation>,
    #[serde(default, deserialize_with = "lenient")]
    inference_geo: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    iterations: Option<Vec<Iteration>>,
}

/// How long what was written to a cache is kept.
#[derive(Clone, Debug, Deserialize)]
struct CacheCreation {
    ephemeral_1h_input_tokens: Option<Count>,
}

/// One of the samplings that an answer was made of. Those of `message` are in the counts of the whole; an advisor's, which is
/// another model, and compactions are not, and are billed beside them.
#[derive(Clone, Debug, Deserialize)]
struct Iteration {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    model: Option<String>,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Clone, Debug, Deserialize)]
struct Counts {
    input_tokens: Option<Count>,
    cache_creation_input_tokens: Option<Count>,
    cache_read_input_tokens: Option<Count>,
    output_tokens: Option<Count>,
    #[serde(default, deserialize_with = "lenient")]
    cache_creation: Option<CacheCreation>,
}

impl Counts {
    fn to_usage(&self) -> Usage {
        let count = |count: Option<Count>| count.map_or(0, |count| count.0);
        Usage {
            input: count(self.input_tokens),
            cached_read: count(self.cache_read_input_tokens),
            cache_write: count(self.cache_creation_input_tokens),
            cache_write_1h: count(self.cache_creation.as_ref().and_then(|made| made.ephemeral_1h_input_tokens)),
            output: count(self.output_tokens),
            ..Usage::default()
        }
    }
}

/// What an answer has said of its bill so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    /// The counts of the whole.
    whole: Usage,
    /// What the same model did beside them.
    beside: Usage,
    pub(super) bill: Bill,
}

impl Said {
    /// The tokens of the model that was asked.
    pub(super) fn usage(&self) -> Usage {
        let mut usage = self.whole;
        usage.add(&self.beside);
        usage
    }
}

#[derive(Clone, Debug, Deserialize)]
struct OutputDetails {
    thinking_tokens: Option<Count>,
}

impl UsageWire {
    /// Replaces what this one knows.
    pub(super) fn apply(&self, said: &mut Said) {
        let counts =
            [self.input_tokens, self.cache_creation_input_tokens, self.cache_read_input_tokens, self.output_tokens];
        said.bill.doubtful |= counts.iter().flatten().any(|Count(_, sound)| !sound);
        let usage = &mut said.whole;
        let replace = |field: &mut u64, count: Option<Count>| *field = count.map_or(*field, |count| count.0);
        replace(&mut usage.input, self.input_tokens);
        replace(&mut usage.cache_write, self.cache_creation_input_tokens);
        replace(&mut usage.cached_read, self.cache_read_input_tokens);
        replace(&mut usage.output, self.output_tokens);
        let thinking = self.output_tokens_details.as_ref().and_then(|details| details.thinking_tokens);
        replace(&mut usage.reasoning, thinking);
        let hour = self.cache_creation.as_ref().and_then(|made| made.ephemeral_1h_input_tokens);
        replace(&mut usage.cache_write_1h, hour);
        let searches = self.server_tool_use.as_ref().and_then(|tools| tools.get("web_search_requests")?.as_u64());
        usage.web_searches = searches.unwrap_or(usage.web_searches);
        if let Some(tier) = &self.service_tier {
            // Its priority is capacity that was bought ahead.
            let priority = tier == "priority";
            said.bill.tier = if priority { ServiceTier::Committed } else { ServiceTier::from_word(tier) };
        }
        if let Some(region) = &self.inference_geo {
            said.bill.regional = !matches!(region.as_str(), "" | "global" | "not_available");
        }
        if let Some(iterations) = &self.iterations {
            (said.beside, said.bill.others) = beside(iterations);
        }
    }
}

/// What is billed beside the counts of the whole: by the model that was asked, and by others.
fn beside(iterations: &[Iteration]) -> (Usage, Vec<(String, Usage)>) {
    let (mut own, mut others) = (Usage::default(), Vec::new());
    for Iteration { model, counts, .. } in iterations.iter().filter(|iteration| iteration.kind != "message") {
        match model {
            None => own.add(&counts.to_usage()),
            Some(model) => others.push((model.clone(), counts.to_usage())),
        }
    }
    (own, others)
}

/// Why the answer ended. `tool_calls` says whether any call was made, for a reason that is missing.
pub(super) fn finish_reason(stop_reason: Option<&str>, tool_calls: bool) -> FinishReason {
    match stop_reason {
        Some("max_tokens" | "model_context_window_exceeded") => FinishReason::Length,
        Some("tool_use") => FinishReason::ToolCalls,
        Some("refusal") => FinishReason::ContentFilter,
        None if tool_calls => FinishReason::ToolCalls,
        _ => FinishReason::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_usage_replaces_only_what_it_names() {
        let mut said = Said::default();
        let start: UsageWire = serde_json::from_str(
            r#"{"input_tokens":10,"cache_read_input_tokens":80,"cache_creation_input_tokens":null,"output_tokens":1}"#,
        )
        .unwrap();
        start.apply(&mut said);
        let end: UsageWire =
            serde_json::from_str(r#"{"output_tokens":42,"output_tokens_details":{"thinking_tokens":30}}"#).unwrap();
        end.apply(&mut said);
        let usage = said.usage();
        assert_eq!((usage.input, usage.cached_read, usage.cache_write), (10, 80, 0));
        assert_eq!((usage.output, usage.reasoning, usage.total_tokens()), (42, 30, 132));
    }

    #[test]
    fn what_is_billed_beside_the_whole_is_counted_once_and_by_its_model() {
        let wire: UsageWire = serde_json::from_str(
            r#"{"input_tokens":30,"output_tokens":7,"cache_creation_input_tokens":9,"service_tier":"batch","inference_geo":"us",
                "cache_creation":{"ephemeral_5m_input_tokens":4,"ephemeral_1h_input_tokens":5},
                "server_tool_use":{"web_search_requests":2,"web_fetch_requests":1},
                "iterations":[{"type":"message","input_tokens":10,"output_tokens":3},
                    {"type":"advisor_message","model":"claude-opus-4-8","input_tokens":100,"output_tokens":50},
                    {"type":"compaction","input_tokens":1000,"output_tokens":500},
                    {"type":"message","input_tokens":20,"output_tokens":4}]}"#,
        )
        .unwrap();
        let mut said = Said::default();
        wire.apply(&mut said);
        wire.apply(&mut said);
        let usage = said.usage();
        assert_eq!((usage.input, usage.output, usage.web_searches), (1030, 507, 2));
        assert_eq!((usage.cache_write, usage.cache_write_1h), (9, 5));
        let others = vec![("claude-opus-4-8".to_owned(), Usage { input: 100, output: 50, ..Usage::default() })];
        assert_eq!(said.bill, Bill { tier: ServiceTier::Batch, regional: true, others, ..Bill::default() });
    }

    #[test]
    fn a_usage_of_another_shape_does_not_cost_the_answer() {
        let message: Message<'_> = serde_json::from_str(r#"{"content":[],"usage":[1],"stop_details":"x"}"#).unwrap();
        assert!(message.usage.is_none());
        assert!(message.stop_details.is_none());
    }

    #[test]
    fn texts_without_escapes_are_not_copied() {
        let frame: Frame<'_> =
            serde_json::from_str(r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"Hi"}  }"#)
                .unwrap();
        assert!(matches!(frame.delta.unwrap().text.unwrap().0, Cow::Borrowed("Hi")));
    }
}
