//! What a chat is answered with: the whole completion, the chunks of a stream, and OpenAI's usage object.
//!
//! A translated dialect builds these; a provider of the same dialect has its bytes forwarded instead. Keys that OpenAI's
//! schema requires are always written, `null` where there is nothing.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::usage::Usage;

/// A whole answer.
#[derive(Clone, Debug, Serialize)]
pub struct ChatCompletion {
    /// `chatcmpl-…`, or the provider's own id.
    pub id: String,
    /// Always `chat.completion`.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: i64,
    /// The model that answered, by the provider's own name.
    pub model: String,
    /// The answers.
    pub choices: Vec<Choice>,
    /// The tokens.
    pub usage: WireUsage,
    /// The tier that served, where the provider says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<String>,
}

/// One answer.
#[derive(Clone, Debug, Serialize)]
pub struct Choice {
    /// From 0.
    pub index: u32,
    /// The message.
    pub message: AnswerMessage,
    /// Always `null` where the provider has none.
    pub logprobs: Option<Value>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// The assistant's message.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AnswerMessage {
    /// Always `assistant`.
    pub role: Assistant,
    /// The text; `null` when there is none beside tool calls.
    pub content: Option<String>,
    /// The text of a refusal.
    pub refusal: Option<String>,
    /// The text of the reasoning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The reasoning as the provider gave it, signatures included; send it back unchanged to continue a tool loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking_blocks: Option<Vec<Value>>,
    /// The calls.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<AnswerToolCall>,
    /// Web pages that it was cited from, in OpenAI's shape; clients refuse any other.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<Value>,
    /// What the provider answered and OpenAI has no place for, by the provider's own names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_specific_fields: Option<Map<String, Value>>,
}

/// The constant `assistant`.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Assistant {
    /// The only role an answer has.
    #[default]
    Assistant,
}

/// A call in a whole answer.
#[derive(Clone, Debug, Serialize)]
pub struct AnswerToolCall {
    /// Its id.
    pub id: String,
    /// Always `function`.
    pub r#type: &'static str,
    /// What is called.
    pub function: AnswerFunction,
    /// What the provider says of the call beyond OpenAI's shape; send it back unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra_content: Option<Value>,
}

/// A function and its arguments, as JSON text.
#[derive(Clone, Debug, Serialize)]
pub struct AnswerFunction {
    /// Its name.
    pub name: String,
    /// JSON text.
    pub arguments: String,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// It was complete, or a stop text came.
    Stop,
    /// The token limit came first.
    Length,
    /// Tools are to be called.
    ToolCalls,
    /// The provider refused or filtered.
    ContentFilter,
}

/// One chunk of a stream.
#[derive(Clone, Debug, Serialize)]
pub struct Chunk<'a> {
    /// The same in every chunk.
    pub id: &'a str,
    /// Always `chat.completion.chunk`.
    pub object: &'static str,
    /// Seconds since 1970, the same in every chunk.
    pub created: i64,
    /// The model that answers.
    pub model: &'a str,
    /// One choice, or none in the usage chunk.
    pub choices: &'a [ChunkChoice<'a>],
    /// `null` until the last chunk; absent when the client did not ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<WireUsage>>,
}

/// One choice of a chunk.
#[derive(Clone, Debug, Serialize)]
pub struct ChunkChoice<'a> {
    /// From 0.
    pub index: u32,
    /// What is new.
    pub delta: Delta<'a>,
    /// Always `null` where the provider has none.
    pub logprobs: Option<Value>,
    /// Why it ended, in the last chunk of the choice.
    pub finish_reason: Option<FinishReason>,
}

/// What is new in a chunk.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Delta<'a> {
    /// `assistant`, in the first chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Assistant>,
    /// More text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<&'a str>,
    /// More of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<&'a str>,
    /// More reasoning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<&'a str>,
    /// A finished piece of reasoning with its signature; see [`AnswerMessage::thinking_blocks`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking_blocks: Option<&'a [Value]>,
    /// More of the calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<&'a [DeltaToolCall<'a>]>,
    /// See [`AnswerMessage::annotations`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<&'a [Value]>,
    /// See [`AnswerMessage::provider_specific_fields`]; in the last chunk, what a text was cited from with the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_specific_fields: Option<&'a Map<String, Value>>,
}

/// A piece of a call.
#[derive(Clone, Debug, Serialize)]
pub struct DeltaToolCall<'a> {
    /// Which call of the message.
    pub index: u32,
    /// Its id, in its first piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a str>,
    /// `function`, in its first piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<&'static str>,
    /// Name and more of the arguments.
    pub function: DeltaFunction<'a>,
    /// See [`AnswerToolCall::extra_content`]; in its first piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra_content: Option<&'a Value>,
}

/// A piece of a function call.
#[derive(Clone, Debug, Serialize)]
pub struct DeltaFunction<'a> {
    /// Its name, in its first piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    /// More of the arguments' JSON text.
    pub arguments: &'a str,
}

/// OpenAI's usage object, in its own convention: `prompt_tokens` includes the cached ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireUsage {
    /// Prompt tokens, cached ones included.
    #[serde(default, deserialize_with = "count")]
    pub prompt_tokens: u64,
    /// Completion tokens, reasoning included.
    #[serde(default, deserialize_with = "count")]
    pub completion_tokens: u64,
    /// Their sum.
    #[serde(default, deserialize_with = "count")]
    pub total_tokens: u64,
    /// Of the prompt.
    #[serde(default, deserialize_with = "or_default")]
    pub prompt_tokens_details: PromptDetails,
    /// Of the completion.
    #[serde(default, deserialize_with = "or_default")]
    pub completion_tokens_details: CompletionDetails,
}

/// What the prompt tokens were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptDetails {
    /// Read from a cache.
    #[serde(default, deserialize_with = "count")]
    pub cached_tokens: u64,
    /// Written to a cache; absent in OpenAI's own object unless it happened.
    #[serde(default, deserialize_with = "count", skip_serializing_if = "is_zero")]
    pub cache_write_tokens: u64,
    /// Audio.
    #[serde(default, deserialize_with = "count")]
    pub audio_tokens: u64,
}

/// What the completion tokens were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletionDetails {
    /// Reasoning.
    #[serde(default, deserialize_with = "count")]
    pub reasoning_tokens: u64,
    /// Audio.
    #[serde(default, deserialize_with = "count")]
    pub audio_tokens: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl WireUsage {
    /// OpenAI's convention into kinds that don't overlap.
    pub const fn to_usage(self) -> Usage {
        let cached = self.prompt_tokens_details.cached_tokens;
        let written = self.prompt_tokens_details.cache_write_tokens;
        Usage {
            input: self.prompt_tokens.saturating_sub(cached).saturating_sub(written),
            cached_read: cached,
            cache_write: written,
            output: self.completion_tokens,
            reasoning: self.completion_tokens_details.reasoning_tokens,
            audio_input: self.prompt_tokens_details.audio_tokens,
            audio_output: self.completion_tokens_details.audio_tokens,
            cache_write_1h: 0,
            cached_audio: 0,
            image_input: 0,
            image_output: 0,
            web_searches: 0,
        }
    }
}

impl From<Usage> for WireUsage {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens(),
            completion_tokens: usage.output,
            total_tokens: usage.total_tokens(),
            prompt_tokens_details: PromptDetails {
                cached_tokens: usage.cached_read,
                cache_write_tokens: usage.cache_write,
                audio_tokens: usage.audio_input,
            },
            completion_tokens_details: CompletionDetails {
                reasoning_tokens: usage.reasoning,
                audio_tokens: usage.audio_output,
            },
        }
    }
}

/// Bytes of what was generated in a whole answer in OpenAI's form, for an estimate when nobody counted tokens.
pub fn generated(answer: &[u8]) -> u64 {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let choices = answer.get("choices").and_then(Value::as_array);
    let said = choices.into_iter().flatten().filter_map(|choice| choice.get("message"));
    said.map(|message| {
        let texts = ["content", "refusal", "reasoning_content"].map(|name| message.get(name));
        let calls = message.get("tool_calls").and_then(Value::as_array).into_iter().flatten();
        let written = calls.map(|call| call.pointer("/function/arguments"));
        let lengths = texts.into_iter().chain(written).filter_map(|text| Some(text?.as_str()?.len() as u64));
        lengths.sum::<u64>()
    })
    .sum()
}

/// The largest token count that is believed; above it a provider has sent garbage.
const MAX_COUNT: u64 = 1 << 40;

/// A count as providers really send it: an integer, a float, a text of digits, `null`, negative. Never an error.
pub fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let count = match &value {
        Value::Number(number) => {
            number.as_u64().or_else(|| number.as_f64().filter(|float| *float >= 0.0).map(|float| float as u64))
        }
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    Ok(count.unwrap_or(0).min(MAX_COUNT))
}

fn or_default<'de, D: Deserializer<'de>, T: Default + DeserializeOwned>(deserializer: D) -> Result<T, D::Error> {
    lenient(deserializer).map(Option::unwrap_or_default)
}

/// A value that is not worth failing an answer for: what has another shape than expected is absent.
pub fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usage_object_survives_what_providers_put_into_it() {
        let usage: WireUsage = serde_json::from_str(
            r#"{"prompt_tokens":"12","completion_tokens":-3,"total_tokens":1e300,"prompt_tokens_details":null,"queue_time":0.1}"#,
        )
        .unwrap();
        assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (12, 0, MAX_COUNT));
    }

    #[test]
    fn what_was_generated_is_counted_wherever_it_stands() {
        let answer = r#"{"choices":[{"message":{"content":"12345","reasoning_content":"123","refusal":null}},
            {"message":{"content":null,"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}},{}],"id":"x"}"#;
        assert_eq!(generated(answer.as_bytes()), 10);
        assert_eq!([&b"7"[..], b"", b"{\"choices\":1}"].map(generated), [0, 0, 0]);
    }

    #[test]
    fn cached_tokens_are_taken_out_of_the_prompt_once_and_put_back() {
        let wire: WireUsage = serde_json::from_str(
            r#"{"prompt_tokens":100,"completion_tokens":7,"total_tokens":107,"prompt_tokens_details":{"cached_tokens":80}}"#,
        )
        .unwrap();
        let usage = wire.to_usage();
        assert_eq!((usage.input, usage.cached_read, usage.output), (20, 80, 7));
        assert_eq!(WireUsage::from(usage), wire);
    }
}
