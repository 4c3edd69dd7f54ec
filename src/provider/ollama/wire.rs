//! Ollama's shapes (api/types.go): what is sent, and the one object that is both a whole answer and a line of a stream.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::api::answer::{FinishReason, count};
use crate::api::literal;
use crate::usage::Usage;

/// `POST /api/chat`.
#[derive(Debug, Serialize)]
pub(super) struct Request<'a> {
    pub(super) model: &'a str,
    pub(super) messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tools: Vec<Tool<'a>>,
    /// Always sent: Ollama streams unless it is told not to.
    pub(super) stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) think: Option<Value>,
    /// `"json"` or a schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<Cow<'a, Value>>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(super) options: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) top_logprobs: Option<u64>,
    /// Ollama's own members, under their names.
    #[serde(flatten)]
    pub(super) native: Map<String, Value>,
}

/// One message.
#[derive(Debug, Default, Serialize)]
pub(super) struct Message<'a> {
    pub(super) role: &'static str,
    #[serde(serialize_with = "literal::text")]
    pub(super) content: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) thinking: Option<&'a str>,
    /// Base64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) images: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<Call<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool_name: Option<&'a str>,
    /// Servers that know no ids skip this, and the one of a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool_call_id: Option<&'a str>,
}

/// A call that was made.
#[derive(Debug, Serialize)]
pub(super) struct Call<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<&'a str>,
    pub(super) r#type: &'static str,
    pub(super) function: CalledFunction<'a>,
}

/// A function and its arguments, which are an object.
#[derive(Debug, Serialize)]
pub(super) struct CalledFunction<'a> {
    pub(super) name: &'a str,
    pub(super) arguments: &'a RawValue,
}

/// A tool.
#[derive(Debug, Serialize)]
pub(super) struct Tool<'a> {
    pub(super) r#type: &'static str,
    pub(super) function: Function<'a>,
}

/// A function's signature.
#[derive(Debug, Serialize)]
pub(super) struct Function<'a> {
    pub(super) name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<Cow<'a, str>>,
    pub(super) parameters: Cow<'a, Value>,
}

/// A whole answer, or a line of a stream.
#[derive(Debug, Deserialize)]
pub(super) struct Line<'a> {
    #[serde(borrow)]
    pub(super) model: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) created_at: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) message: Option<Said<'a>>,
    pub(super) done: Option<bool>,
    #[serde(borrow)]
    pub(super) done_reason: Option<Text<'a>>,
    prompt_eval_count: Option<Count>,
    eval_count: Option<Count>,
    pub(super) logprobs: Option<Vec<Value>>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

impl Line<'_> {
    /// Seconds since 1970, where the answer says it. Proxies that keep no time write the first of them.
    pub(super) fn created(&self) -> Option<i64> {
        let time = self.created_at.as_ref()?.0.parse::<jiff::Timestamp>().ok()?;
        Some(time.as_second()).filter(|seconds| *seconds > 0)
    }

    /// The tokens. A zero is left out by Ollama, a prompt that was wholly in its cache among them; without either figure,
    /// nothing was counted.
    pub(super) fn usage(&self) -> Option<Usage> {
        if self.prompt_eval_count.is_none() && self.eval_count.is_none() {
            return None;
        }
        let number = |count: &Option<Count>| count.as_ref().map_or(0, |count| count.0);
        let (input, output) = (number(&self.prompt_eval_count), number(&self.eval_count));
        Some(Usage { input, output, ..Usage::default() })
    }

    /// Why it ended. `load` and `unload` answer a request that says nothing.
    pub(super) fn finish(&self, called: bool) -> FinishReason {
        match self.done_reason.as_ref().map(Text::as_str) {
            Some("length") => FinishReason::Length,
            _ if called => FinishReason::ToolCalls,
            _ => FinishReason::Stop,
        }
    }

    /// The probabilities in OpenAI's shape.
    pub(super) fn take_logprobs(&mut self) -> Option<Value> {
        let mut tokens = self.logprobs.take().filter(|tokens| !tokens.is_empty())?;
        for token in &mut tokens {
            complete(token);
            if let Some(Value::Array(others)) = token
                .as_object_mut()
                .map(|token| token.entry("top_logprobs").or_insert_with(|| Value::Array(Vec::new())))
            {
                others.iter_mut().for_each(complete);
            }
        }
        Some(serde_json::json!({"content": tokens, "refusal": null}))
    }
}

/// OpenAI requires `bytes`, if only as `null`.
fn complete(token: &mut Value) {
    if let Some(members) = token.as_object_mut() {
        members.entry("bytes").or_insert(Value::Null);
    }
}

/// What the model said.
#[derive(Debug, Deserialize)]
pub(super) struct Said<'a> {
    #[serde(borrow)]
    pub(super) content: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) thinking: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) tool_calls: Option<Vec<SaidCall<'a>>>,
}

/// A call that the model makes.
#[derive(Debug, Deserialize)]
pub(super) struct SaidCall<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) function: SaidFunction<'a>,
}

impl SaidCall<'_> {
    /// Its id, or one that is the same whenever the same answer is read.
    pub(super) fn id(&self, answer: &str, place: usize) -> String {
        match &self.id {
            Some(id) if !id.0.is_empty() => id.0.clone().into_owned(),
            _ => format!("call_{}_{place}", answer.trim_start_matches("chatcmpl-")),
        }
    }

    /// Its arguments as JSON text: an object, or a text that holds one, as models behind other servers write it.
    pub(super) fn arguments(&self) -> Cow<'_, str> {
        match self.function.arguments.map(RawValue::get) {
            None | Some("null") => Cow::Borrowed("{}"),
            Some(text) if text.starts_with('"') => serde_json::from_str::<String>(text).unwrap_or_default().into(),
            Some(object) => Cow::Borrowed(object),
        }
    }
}

/// A function and its arguments.
#[derive(Debug, Deserialize)]
pub(super) struct SaidFunction<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

/// A text, borrowed unless it holds escapes.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A number of tokens.
#[derive(Debug, Deserialize)]
pub(super) struct Count(#[serde(deserialize_with = "count")] pub(super) u64);
