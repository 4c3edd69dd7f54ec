//! Cohere's shapes. Requests borrow what the client sent; answers are read tolerantly: an unknown item, event or field is
//! never an error.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

pub(super) use crate::api::answer::lenient;
use crate::api::answer::{FinishReason, count};
use crate::api::literal;
use crate::error::Error;
use crate::provider::{ProviderMessage, event_failure};
use crate::usage::Usage;

/// The body of `POST /v2/chat`.
#[derive(Debug, Serialize)]
pub(super) struct Request<'a> {
    pub(super) model: &'a str,
    pub(super) messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stream: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool_choice: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) strict_tools: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_format: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(super) stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) k: Option<&'a Value>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) logprobs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) thinking: Option<Cow<'a, Value>>,
    /// Parameters that have the same name and meaning on both sides of the gateway.
    #[serde(flatten)]
    pub(super) native: BTreeMap<&'a str, &'a Value>,
}

/// A message.
#[derive(Debug, Default, Serialize)]
pub(super) struct Message<'a> {
    pub(super) role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool_call_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool_plan: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<Call<'a>>,
}

/// A text, or items.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Content<'a> {
    Text(#[serde(serialize_with = "literal::text")] &'a str),
    Items(Vec<Item<'a>>),
    /// Items in Cohere's own form.
    Given(&'a [Value]),
}

/// An item of a message.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Item<'a> {
    Text {
        #[serde(serialize_with = "literal::text")]
        text: &'a str,
    },
    Thinking {
        thinking: &'a str,
    },
    ImageUrl {
        image_url: Image<'a>,
    },
}

/// An image.
#[derive(Debug, Serialize)]
pub(super) struct Image<'a> {
    pub(super) url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<&'a str>,
}

/// A call that was made.
#[derive(Debug, Serialize)]
pub(super) struct Call<'a> {
    pub(super) id: Cow<'a, str>,
    pub(super) r#type: &'static str,
    pub(super) function: Function<'a>,
}

#[derive(Debug, Serialize)]
pub(super) struct Function<'a> {
    pub(super) name: &'a str,
    pub(super) arguments: &'a str,
}

/// A tool.
#[derive(Debug, Serialize)]
pub(super) struct Tool<'a> {
    pub(super) r#type: &'static str,
    pub(super) function: Spec<'a>,
}

/// A function's signature.
#[derive(Debug, Serialize)]
pub(super) struct Spec<'a> {
    pub(super) name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<Cow<'a, str>>,
    pub(super) parameters: Cow<'a, Value>,
}

/// A whole answer.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) id: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) message: Option<Said>,
    #[serde(flatten)]
    pub(super) end: Ending,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) logprobs: Option<Vec<LogProb>>,
}

/// How an answer ended: at the top of a whole one, in the delta of a stream's last event.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Ending {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) finish_reason: Option<String>,
    #[serde(default)]
    pub(super) usage: Option<Value>,
    #[serde(default, deserialize_with = "lenient")]
    error: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    error_type: Option<String>,
}

/// What the model said.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Said {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) content: Option<Vec<Value>>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) tool_plan: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) tool_calls: Option<Vec<CallWire>>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) citations: Option<Vec<Value>>,
}

/// A call in an answer.
#[derive(Debug, Default, Deserialize)]
pub(super) struct CallWire {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) id: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) function: Option<FunctionWire>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct FunctionWire {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) name: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) arguments: Option<String>,
}

/// One event of a stream; the fields of all known types together.
#[derive(Debug, Deserialize)]
pub(super) struct Frame {
    #[serde(default, rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) index: u64,
    #[serde(default)]
    pub(super) delta: Option<Value>,
    #[serde(default)]
    pub(super) logprobs: Option<Value>,
    #[serde(default)]
    pub(super) message: Option<Value>,
}

/// The probability of a piece of text.
#[derive(Debug, Deserialize)]
pub(super) struct LogProb {
    #[serde(default)]
    text: String,
    #[serde(default)]
    logprobs: Vec<f64>,
}

/// OpenAI's `logprobs`. Where a piece is of several tokens, Cohere gives only its whole text, so it counts as one token
/// with the probability of them all.
pub(super) fn logprobs(pieces: &[LogProb]) -> Option<Value> {
    let entry = |piece: &LogProb| {
        let sum: f64 = piece.logprobs.iter().sum();
        json!({"token": piece.text, "logprob": sum, "bytes": piece.text.as_bytes(), "top_logprobs": []})
    };
    let content: Vec<Value> = pieces.iter().map(entry).collect();
    (!content.is_empty()).then(|| json!({"content": content, "refusal": null}))
}

impl Ending {
    /// The reason in OpenAI's words; an error when it ended in one. `called` says whether any call was made, for a reason
    /// that is missing.
    pub(super) fn finish(&self, called: bool, provider: &'static str) -> Result<FinishReason, Error> {
        let status = match self.finish_reason.as_deref() {
            Some("MAX_TOKENS" | "ERROR_LIMIT") => return Ok(FinishReason::Length),
            Some("TOOL_CALL") => return Ok(FinishReason::ToolCalls),
            Some("ERROR_TOXIC") => return Ok(FinishReason::ContentFilter),
            Some("TIMEOUT") => 504,
            Some("ERROR") => 500,
            None if self.error.is_some() => 500,
            None if called => return Ok(FinishReason::ToolCalls),
            _ => return Ok(FinishReason::Stop),
        };
        let word = self.finish_reason.as_deref().unwrap_or("ERROR");
        let message = self.error.clone();
        let message = message.unwrap_or_else(|| format!("The provider '{provider}' ended its answer with {word}."));
        let said = ProviderMessage {
            message: Some(message),
            error_type: self.error_type.clone(),
            ..ProviderMessage::default()
        };
        Err(event_failure(status, said, provider))
    }

    /// What is billed; what the model saw only where the bill is missing.
    pub(super) fn billed(&self) -> Option<Usage> {
        let usage: UsageWire = serde_json::from_value(self.usage.clone()?).ok()?;
        let units = usage.billed_units.filter(|units| units.says_something()).or(usage.tokens)?;
        units.says_something().then(|| units.to_usage())
    }

    /// What OpenAI has no place for: both counts, and a reason whose word says more.
    pub(super) fn specific(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        if let Some(usage) = self.usage.clone().filter(|usage| usage.as_object().is_some_and(|usage| !usage.is_empty()))
        {
            fields.insert("usage".to_owned(), usage);
        }
        let same = matches!(self.finish_reason.as_deref(), None | Some("COMPLETE" | "MAX_TOKENS" | "TOOL_CALL"));
        if let Some(reason) = self.finish_reason.clone().filter(|_| !same) {
            fields.insert("finish_reason".to_owned(), reason.into());
        }
        fields
    }
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct UsageWire {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) billed_units: Option<Units>,
    #[serde(default, deserialize_with = "lenient")]
    tokens: Option<Units>,
}

/// Counts of one kind. In `tokens`, those of images are part of the input; in the bill of embeddings they stand beside it.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Units {
    #[serde(default, deserialize_with = "some_count")]
    input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "some_count")]
    output_tokens: Option<u64>,
    #[serde(default, deserialize_with = "some_count")]
    pub(super) image_tokens: Option<u64>,
}

impl Units {
    const fn says_something(&self) -> bool {
        self.input_tokens.is_some() || self.output_tokens.is_some()
    }

    pub(super) fn to_usage(self) -> Usage {
        Usage { input: self.input_tokens.unwrap_or(0), output: self.output_tokens.unwrap_or(0), ..Usage::default() }
    }
}

fn some_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    count(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn ending(value: &Value) -> Ending {
        serde_json::from_value(value.clone()).unwrap()
    }

    #[test]
    fn what_is_billed_is_what_counts() {
        let both = json!({"usage": {"billed_units": {"input_tokens": 62, "output_tokens": 24},
            "tokens": {"input_tokens": 968, "output_tokens": 56}, "cached_tokens": 480}});
        let usage = ending(&both).billed().unwrap();
        assert_eq!((usage.input, usage.cached_read, usage.output), (62, 0, 24));
        let tokens = json!({"usage": {"billed_units": {}, "tokens": {"input_tokens": 9.0, "output_tokens": 2}}});
        assert_eq!(ending(&tokens).billed().unwrap().total_tokens(), 11);
        assert_eq!(ending(&json!({"usage": {}})).billed(), None);
        assert_eq!(ending(&json!({"usage": [1]})).billed(), None);
    }

    #[test]
    fn every_end_has_a_word_or_is_an_error() {
        let finish = |reason: &str| ending(&json!({"finish_reason": reason})).finish(false, "cohere");
        for (reason, expected) in [
            ("COMPLETE", FinishReason::Stop),
            ("STOP_SEQUENCE", FinishReason::Stop),
            ("MAX_TOKENS", FinishReason::Length),
            ("TOOL_CALL", FinishReason::ToolCalls),
            ("ERROR_TOXIC", FinishReason::ContentFilter),
            ("A_REASON_OF_TOMORROW", FinishReason::Stop),
        ] {
            assert_eq!(finish(reason).unwrap(), expected);
        }
        assert_eq!(finish("ERROR").unwrap_err().kind(), ErrorKind::ProviderError);
        assert_eq!(finish("TIMEOUT").unwrap_err().kind(), ErrorKind::ProviderTimeout);
        let error = ending(&json!({"finish_reason": "ERROR", "error": "bad", "error_type": "INVALID_TOOL_GENERATION"}));
        let error = error.finish(false, "cohere").unwrap_err();
        assert_eq!((error.message(), error.error_type()), ("bad", "INVALID_TOOL_GENERATION"));
    }

    #[test]
    fn a_piece_of_several_tokens_counts_as_one() {
        let pieces: Vec<LogProb> =
            serde_json::from_value(json!([{"token_ids": [1, 2], "text": "hé", "logprobs": [-0.5, -0.25]}])).unwrap();
        let entry = json!({"token": "hé", "logprob": -0.75, "bytes": [104, 195, 169], "top_logprobs": []});
        assert_eq!(logprobs(&pieces), Some(json!({"content": [entry], "refusal": null})));
        assert_eq!(logprobs(&[]), None);
    }
}
