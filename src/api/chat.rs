//! `POST /v1/chat/completions`: the request (developers.openai.com, "Create chat completion").
//!
//! [`ChatRequest`] is the whole typed request, parsed only when a foreign dialect translates it; see `head` for what every
//! request is asked.
//!
//! Invariant: nothing a client sent is lost. What has no field here lands in `extra`, and a dialect destructures
//! [`ChatRequest`] without `..`, so that a new field does not build until every dialect has decided about it.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::scan::{Body, plain};
use crate::error::{Error, Result};

/// The whole request, typed.
#[derive(Clone, Debug, Deserialize)]
pub struct ChatRequest {
    /// The model as the client named it; the upstream name comes from the candidate.
    pub model: String,
    /// The conversation.
    pub messages: Vec<Message>,
    /// Voice and format of an audio answer.
    pub audio: Option<Value>,
    /// -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// Deprecated form of `tool_choice`.
    pub function_call: Option<Value>,
    /// Deprecated form of `tools`.
    pub functions: Option<Vec<Value>>,
    /// Token id → bias.
    pub logit_bias: Option<Map<String, Value>>,
    /// Whether token probabilities are wanted.
    pub logprobs: Option<bool>,
    /// Upper bound of the answer, reasoning included.
    pub max_completion_tokens: Option<u64>,
    /// Deprecated name of the same.
    pub max_tokens: Option<u64>,
    /// Labels for the provider's own store.
    pub metadata: Option<Map<String, Value>>,
    /// `text`, `audio`.
    pub modalities: Option<Vec<String>>,
    /// How many choices.
    pub n: Option<u64>,
    /// Whether several tools may be called at once; `true` when absent.
    pub parallel_tool_calls: Option<bool>,
    /// A predicted output.
    pub prediction: Option<Value>,
    /// -2 to 2.
    pub presence_penalty: Option<f64>,
    /// Groups requests that share a prefix.
    pub prompt_cache_key: Option<String>,
    /// `in_memory` or `24h`.
    pub prompt_cache_retention: Option<String>,
    /// `none`, `minimal`, `low`, `medium`, `high`, `xhigh`.
    pub reasoning_effort: Option<String>,
    /// Free text, any JSON, or JSON of a schema.
    pub response_format: Option<ResponseFormat>,
    /// A stable, hashed name of the end user.
    pub safety_identifier: Option<String>,
    /// Best-effort determinism.
    pub seed: Option<Value>,
    /// `auto`, `default`, `flex`, `priority`.
    pub service_tier: Option<String>,
    /// Up to four texts that end the answer.
    pub stop: Option<Stop>,
    /// Whether the provider keeps the answer.
    pub store: Option<bool>,
    /// Whether the client wants server-sent events.
    pub stream: Option<bool>,
    /// Options of the stream.
    pub stream_options: Option<StreamOptions>,
    /// 0 to 2.
    pub temperature: Option<f64>,
    /// Which tool must, may or may not be called.
    pub tool_choice: Option<ToolChoice>,
    /// The tools.
    pub tools: Option<Vec<Tool>>,
    /// 0 to 20.
    pub top_logprobs: Option<u64>,
    /// 0 to 1.
    pub top_p: Option<f64>,
    /// A stable name of the end user.
    pub user: Option<String>,
    /// `low`, `medium`, `high`.
    pub verbosity: Option<String>,
    /// OpenAI's web search.
    pub web_search_options: Option<Value>,
    /// The gateway's own deadline, in seconds; never forwarded.
    pub timeout: Option<Value>,
    /// Everything else, by name.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl ChatRequest {
    /// Parses the whole body. A failure is a 400 that names the place (`messages[0].content`).
    pub fn parse(body: &Body) -> Result<Self> {
        let mut deserializer = serde_json::Deserializer::from_str(body.text());
        serde_path_to_error::deserialize(&mut deserializer).map_err(|cause| {
            let path = cause.path().to_string();
            Error::invalid(path.clone(), format!("Invalid value for '{path}': {}.", plain(cause.inner())))
        })
    }
}

/// One message.
#[derive(Clone, Debug, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; absent on an assistant's tool calls.
    pub content: Option<Content>,
    /// The speaker's name.
    pub name: Option<String>,
    /// An assistant's calls.
    pub tool_calls: Option<Vec<ToolCall>>,
    /// Which call a tool message answers.
    pub tool_call_id: Option<String>,
    /// Deprecated form of one tool call.
    pub function_call: Option<FunctionCall>,
    /// An assistant's refusal.
    pub refusal: Option<String>,
    /// An assistant's earlier audio answer.
    pub audio: Option<Value>,
    /// The text of an assistant's reasoning, as DeepSeek and others name it.
    pub reasoning_content: Option<String>,
    /// Everything else, by name.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions.
    System,
    /// Instructions, under their newer name.
    Developer,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
    /// A function's result; deprecated.
    Function,
}

/// A text, or parts.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Typed parts.
    Parts(Vec<Part>),
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        text_or_list(deserializer, "a string or an array of content parts").map(|either| match either {
            Either::Text(text) => Self::Text(text),
            Either::List(parts) => Self::Parts(parts),
        })
    }
}

/// One part of a message.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Part {
    /// Text.
    Text {
        /// The text.
        text: String,
        /// `cache_control` and whatever else stands there.
        #[serde(flatten)]
        extra: Map<String, Value>,
    },
    /// An image by address or `data:` URL.
    ImageUrl {
        /// Where it is.
        image_url: ImageUrl,
        /// `cache_control` and whatever else stands there.
        #[serde(flatten)]
        extra: Map<String, Value>,
    },
    /// Sound.
    InputAudio {
        /// Base64 data and its format.
        input_audio: InputAudio,
        /// Whatever else stands there.
        #[serde(flatten)]
        extra: Map<String, Value>,
    },
    /// A document.
    File {
        /// The document.
        file: FilePart,
        /// `cache_control` and whatever else stands there.
        #[serde(flatten)]
        extra: Map<String, Value>,
    },
    /// An assistant's refusal.
    Refusal {
        /// Its text.
        refusal: String,
    },
}

/// An image.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ImageUrl {
    /// `https://…` or `data:<type>;base64,<data>`.
    pub url: String,
    /// `auto`, `low`, `high`.
    pub detail: Option<String>,
}

/// Sound.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct InputAudio {
    /// Base64.
    pub data: String,
    /// `wav` or `mp3`.
    pub format: String,
}

/// A document: by `data:` URL, or by the id of an uploaded one.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct FilePart {
    /// `data:<type>;base64,<data>`.
    pub file_data: Option<String>,
    /// The id of an uploaded file.
    pub file_id: Option<String>,
    /// Its name.
    pub filename: Option<String>,
}

/// A call that the model made.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ToolCall {
    /// Its id.
    pub id: String,
    /// `function`, or another kind that the dialect must decide about.
    #[serde(default = "function_kind")]
    pub r#type: String,
    /// What is called.
    pub function: FunctionCall,
    /// Whatever else stands there.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

fn function_kind() -> String {
    "function".to_owned()
}

/// A function and its arguments.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct FunctionCall {
    /// Its name.
    pub name: String,
    /// JSON text, possibly cut short.
    #[serde(default)]
    pub arguments: String,
}

/// A tool the model may call.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Tool {
    /// `function`, or another kind that the dialect must decide about.
    pub r#type: String,
    /// The function.
    pub function: Option<FunctionSpec>,
    /// Whatever else stands there.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A function's signature.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct FunctionSpec {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// JSON schema of its arguments.
    pub parameters: Option<Value>,
    /// Whether arguments must match the schema exactly.
    pub strict: Option<bool>,
}

/// Which tool must, may or may not be called.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolChoice {
    /// The model decides.
    Auto,
    /// No call.
    None,
    /// At least one call.
    Required,
    /// A call of this function.
    Function(String),
    /// One of these functions; `required` says whether a call must be made.
    Allowed {
        /// Whether a call must be made.
        required: bool,
        /// The names.
        names: Vec<String>,
    },
}

impl<'de> Deserialize<'de> for ToolChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        use serde::de::Error as _;
        let value = Value::deserialize(deserializer)?;
        tool_choice(&value).ok_or_else(|| {
            D::Error::custom("expected \"auto\", \"none\", \"required\", a function choice or allowed_tools")
        })
    }
}

fn tool_choice(value: &Value) -> Option<ToolChoice> {
    if let Some(word) = value.as_str() {
        return match word {
            "auto" => Some(ToolChoice::Auto),
            "none" => Some(ToolChoice::None),
            // `any` is Mistral's word, which some clients send everywhere.
            "required" | "any" => Some(ToolChoice::Required),
            _ => None,
        };
    }
    match value.get("type")?.as_str()? {
        "function" => Some(ToolChoice::Function(value.pointer("/function/name")?.as_str()?.to_owned())),
        "allowed_tools" => {
            let allowed = value.get("allowed_tools").unwrap_or(value);
            let names = allowed.get("tools")?.as_array()?.iter();
            let names =
                names.map(|tool| tool.pointer("/function/name").or(tool.get("name"))?.as_str().map(str::to_owned));
            Some(ToolChoice::Allowed {
                required: allowed.get("mode").and_then(Value::as_str) == Some("required"),
                names: names.collect::<Option<_>>()?,
            })
        }
        _ => None,
    }
}

/// What form the answer must have.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ResponseFormat {
    /// Free text.
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON of a schema.
    JsonSchema {
        /// The schema.
        json_schema: JsonSchema,
    },
}

/// A named schema.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct JsonSchema {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The schema.
    pub schema: Option<Value>,
    /// Whether the answer must match exactly.
    pub strict: Option<bool>,
}

/// Texts that end the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Stop(pub Vec<String>);

impl<'de> Deserialize<'de> for Stop {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        text_or_list(deserializer, "a string or an array of strings").map(|either| match either {
            Either::Text(text) => Self(vec![text]),
            Either::List(texts) => Self(texts),
        })
    }
}

/// Options of the stream.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct StreamOptions {
    /// Whether a last chunk with the usage is wanted.
    pub include_usage: Option<bool>,
    /// Whatever else stands there.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

enum Either<T> {
    Text(String),
    List(Vec<T>),
}

/// OpenAI's two-faced fields: one text, or a list. Written by hand because an untagged enum would hide what is wrong.
fn text_or_list<'de, D, T>(deserializer: D, expected: &'static str) -> std::result::Result<Either<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Visitor<T>(&'static str, std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Visitor<T> {
        type Value = Either<T>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Self::Value, E> {
            Ok(Either::Text(text.to_owned()))
        }
        fn visit_string<E: serde::de::Error>(self, text: String) -> std::result::Result<Self::Value, E> {
            Ok(Either::Text(text))
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Self::Value, A::Error> {
            let mut list = Vec::new();
            while let Some(item) = seq.next_element()? {
                list.push(item);
            }
            Ok(Either::List(list))
        }
    }
    deserializer.deserialize_any(Visitor(expected, std::marker::PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_choice_is_understood_in_every_form() {
        let choice = |json: &str| serde_json::from_str::<ToolChoice>(json);
        assert_eq!(choice(r#""required""#).unwrap(), ToolChoice::Required);
        let function = r#"{"type":"function","function":{"name":"f"}}"#;
        assert_eq!(choice(function).unwrap(), ToolChoice::Function("f".to_owned()));
        let allowed = r#"{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"f"}}]}}"#;
        assert_eq!(choice(allowed).unwrap(), ToolChoice::Allowed { required: true, names: vec!["f".to_owned()] });
        assert!(choice(r#""perhaps""#).is_err());
    }
}
