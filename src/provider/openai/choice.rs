//! One choice of an answer or of a chunk: what is looked at, and what is put into OpenAI's words.
//!
//! Three things are changed, each by the smallest edit, because SDKs with closed types break on them or miss them:
//! * a finish reason outside OpenAI's vocabulary, where its meaning is known; any other goes through as it is;
//! * reasoning under `reasoning` is given under `reasoning_content`, too, the name under which clients expect it;
//! * tool calls: see `calls`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::calls::Calls;
use super::failure::error_object;
use super::splice::Splice;
use crate::error::{Error, ErrorKind, Result};

/// The calls of a stream, by the number of their choice.
pub(super) type AllCalls = BTreeMap<u64, Calls>;

#[derive(Deserialize)]
pub(super) struct ChoiceView<'a> {
    #[serde(borrow)]
    index: Option<&'a RawValue>,
    #[serde(borrow)]
    pub delta: Option<MessageView<'a>>,
    #[serde(borrow)]
    pub message: Option<MessageView<'a>>,
    #[serde(borrow)]
    pub finish_reason: Option<&'a RawValue>,
    /// OpenRouter: why this choice broke off.
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    /// Moonshot: the usage, in the last chunk.
    #[serde(borrow)]
    pub usage: Option<&'a RawValue>,
}

/// What a message or a delta holds, as raw JSON: only whether there is something, and how much, matters.
#[derive(Deserialize)]
pub(super) struct MessageView<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
    /// With its `null`, because a second one must not be added beside it.
    #[serde(borrow, default, deserialize_with = "present")]
    reasoning_content: Option<&'a RawValue>,
    /// OpenRouter: reasoning in parts, which may be encrypted and then stands nowhere else.
    #[serde(borrow)]
    reasoning_details: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    function_call: Option<&'a RawValue>,
    #[serde(borrow)]
    audio: Option<&'a RawValue>,
}

/// A member with its `null`; absent only where it is absent.
pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

fn says_something(raw: &RawValue) -> bool {
    !matches!(raw.get(), "null" | "\"\"" | "[]" | "{}")
}

impl MessageView<'_> {
    /// Bytes of generated JSON text; zero for a delta that only opens the message.
    pub(super) fn generated(&self) -> usize {
        let Self {
            content,
            refusal,
            reasoning,
            reasoning_content,
            reasoning_details,
            tool_calls,
            function_call,
            audio,
        } = self;
        // Some servers write the same reasoning under several names.
        let reasoning = [*reasoning_content, *reasoning, *reasoning_details];
        let reasoning = reasoning.into_iter().flatten().find(|raw| says_something(raw));
        [*content, *refusal, reasoning, *tool_calls, *function_call, *audio]
            .into_iter()
            .flatten()
            .map(|raw| if says_something(raw) { raw.get().len() } else { 0 })
            .sum()
    }

    fn calls(&self) -> Option<&RawValue> {
        self.tool_calls.filter(|calls| says_something(calls))
    }

    fn name_reasoning(&self, splice: &mut Splice<'_>) {
        let Some(reasoning) = self.reasoning.filter(|raw| says_something(raw) && raw.get().starts_with('"')) else {
            return;
        };
        match self.reasoning_content {
            None => splice.insert_after(reasoning.get(), format!(",\"reasoning_content\":{}", reasoning.get())),
            Some(empty) if !says_something(empty) => splice.replace(empty.get(), reasoning.get()),
            Some(_) => {}
        }
    }
}

impl ChoiceView<'_> {
    /// Which of several choices it is; the only one where none is named.
    pub(super) fn index(&self) -> u64 {
        self.index.and_then(|index| index.get().parse().ok()).unwrap_or(0)
    }

    /// Whether it says why it ended. An empty text, as Snowflake writes it, says nothing.
    pub(super) fn has_ended(&self) -> bool {
        self.finish_reason.is_some_and(|reason| says_something(reason) && reason.get() != "\"null\"")
    }

    /// Its number among the choices.
    fn number(&self) -> u64 {
        self.index.and_then(|index| index.get().parse().ok()).unwrap_or(0)
    }

    /// Fails when it ended because the provider failed: it must not look complete.
    pub(super) fn check(&self, provider: &'static str) -> Result<()> {
        if let Some(error) = self.error {
            return Err(error_object(error.get(), provider));
        }
        match self.finish_reason.map(RawValue::get) {
            Some(reason) if FAILED.contains(&reason) => {
                let message = format!("The provider '{provider}' broke its answer off with finish_reason {reason}.");
                Err(Error::new(ErrorKind::ProviderError, message).with_provider(provider))
            }
            _ => Ok(()),
        }
    }

    /// Puts it into OpenAI's words. `answer` is the answer's id, for calls without one; `calls` those seen so far.
    pub(super) fn translate(&self, answer: &str, calls: &mut AllCalls, splice: &mut Splice<'_>) {
        for message in [&self.delta, &self.message].into_iter().flatten() {
            message.name_reasoning(splice);
        }
        if let Some(list) = self.delta.as_ref().and_then(MessageView::calls) {
            calls.entry(self.number()).or_default().pieces(list, answer, splice);
        }
        if let Some(list) = self.message.as_ref().and_then(MessageView::calls) {
            Calls::whole(list, answer, splice);
        }
        let Some(reason) = self.finish_reason.map(RawValue::get) else { return };
        if matches!(reason, "\"\"" | "\"null\"") {
            splice.replace(reason, self.unnamed_end());
        } else if let Some((_, ours)) = FINISH_REASONS.iter().find(|(theirs, _)| *theirs == reason) {
            splice.replace(reason, *ours);
        }
    }

    /// What an empty finish reason means: nothing yet in a chunk, what the message shows in a whole answer.
    fn unnamed_end(&self) -> &'static str {
        match (&self.delta, &self.message) {
            (None, Some(message)) if message.tool_calls.is_some_and(says_something) => "\"tool_calls\"",
            (None, Some(_)) => "\"stop\"",
            _ => "null",
        }
    }
}

/// Ends that are failures of the provider: OpenRouter's and Mistral's `error`, DeepSeek's, Z.AI's and vLLM's words for the same.
const FAILED: &[&str] = &["\"error\"", "\"insufficient_system_resource\"", "\"network_error\"", "\"abort\""];

/// Finish reasons as JSON text: theirs and OpenAI's.
const FINISH_REASONS: &[(&str, &str)] = &[
    // Together (recorded), and Hugging Face's text-generation-inference.
    ("\"eos\"", "\"stop\""),
    ("\"eos_token\"", "\"stop\""),
    ("\"stop_sequence\"", "\"stop\""),
    // Anthropic's words, which some resellers of its models let through.
    ("\"end_turn\"", "\"stop\""),
    ("\"tool_use\"", "\"tool_calls\""),
    ("\"max_tokens\"", "\"length\""),
    // Z.AI.
    ("\"sensitive\"", "\"content_filter\""),
    ("\"model_context_window_exceeded\"", "\"length\""),
    ("\"pause_turn\"", "\"stop\""),
    ("\"refusal\"", "\"content_filter\""),
    // Gemini's, and Bedrock's.
    ("\"STOP\"", "\"stop\""),
    ("\"MAX_TOKENS\"", "\"length\""),
    ("\"SAFETY\"", "\"content_filter\""),
    ("\"content_filtered\"", "\"content_filter\""),
    ("\"guardrail_intervened\"", "\"content_filter\""),
    // Mistral's models behind other servers.
    ("\"model_length\"", "\"length\""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(text: &str) -> String {
        let choice: ChoiceView<'_> = serde_json::from_str(text).unwrap();
        let mut splice = Splice::new(text.as_bytes());
        choice.translate("chatcmpl-1", &mut AllCalls::new(), &mut splice);
        splice.apply().map_or_else(|| text.to_owned(), |bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn finish_reasons_become_openais_and_unknown_ones_stay() {
        let end = |reason: &str| translated(&format!(r#"{{"message":{{"content":"x"}},"finish_reason":{reason}}}"#));
        assert!(end("\"eos\"").ends_with(r#""finish_reason":"stop"}"#));
        assert!(end("\"max_tokens\"").ends_with(r#""finish_reason":"length"}"#));
        assert!(end("\"\"").ends_with(r#""finish_reason":"stop"}"#));
        assert!(end("\"something new\"").ends_with(r#""finish_reason":"something new"}"#));
        assert!(end("\"null\"").ends_with(r#""finish_reason":"stop"}"#));
        let calls = translated(r#"{"message":{"tool_calls":[{"id":"a"}]},"finish_reason":""}"#);
        assert!(calls.ends_with(r#""finish_reason":"tool_calls"}"#));
        let chunk = translated(r#"{"delta":{"content":"x"},"finish_reason":""}"#);
        assert!(chunk.ends_with(r#""finish_reason":null}"#));
    }

    #[test]
    fn reasoning_is_given_under_the_name_that_clients_read() {
        assert_eq!(
            translated(r#"{"delta":{"reasoning":"hm\n","channel":"x"}}"#),
            r#"{"delta":{"reasoning":"hm\n","reasoning_content":"hm\n","channel":"x"}}"#
        );
        assert_eq!(
            translated(r#"{"delta":{"reasoning_content":null,"reasoning":"hm"}}"#),
            r#"{"delta":{"reasoning_content":"hm","reasoning":"hm"}}"#
        );
        for same in [
            r#"{"delta":{"reasoning":"hm","reasoning_content":"hm"}}"#,
            r#"{"delta":{"reasoning":null}}"#,
            r#"{"delta":{"reasoning":""}}"#,
        ] {
            assert_eq!(translated(same), same);
        }
    }

    #[test]
    fn an_end_that_is_a_failure_is_an_error() {
        let kind = |text: &str| serde_json::from_str::<ChoiceView<'_>>(text).unwrap().check("x").unwrap_err().kind();
        assert_eq!(kind(r#"{"finish_reason":"insufficient_system_resource"}"#), ErrorKind::ProviderError);
        assert_eq!(
            kind(r#"{"finish_reason":"error","error":{"code":429,"message":"slow"}}"#),
            ErrorKind::ProviderRateLimited
        );
    }
}
