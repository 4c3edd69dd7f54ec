//! One choice of an answer or of a chunk: what is looked at, and what is put into OpenAI's words.
//!
//! Five things are changed, each by the smallest edit, because SDKs with closed types break on them or miss them:
//! * a finish reason outside OpenAI's vocabulary, where its meaning is known; any other goes through as it is;
//! * reasoning under `reasoning` is given under `reasoning_content`, too, the name under which clients expect it;
//! * tool calls: see `calls`; a choice ends once, though some servers say twice why;
//! * annotations of a type that OpenAI does not have (OpenRouter's parsed files) stand in `provider_specific_fields.annotations`;
//! * a member that OpenAI's description requires and the provider left out is put in, `null` wherever that is allowed.

use std::collections::BTreeMap;

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::calls::Calls;
use super::failure::error_object;
use super::required::settle_logprobs;
use super::splice::Splice;
use crate::error::{Error, ErrorKind, Result};
use crate::provider::numbered::Numbered;

/// The choices of a stream as far as they were seen, by their number.
pub(super) type AllChoices = BTreeMap<u64, Seen>;

/// What must be known of a choice to put its next piece right.
#[derive(Debug, Default)]
pub(super) struct Seen {
    calls: Calls,
    annotations: Numbered,
    ended: bool,
}

/// A member with its `null`; absent only where it is absent.
pub(super) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
pub(super) struct ChoiceView<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    index: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    delta: Option<Part<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    message: Option<Part<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    finish_reason: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    logprobs: Option<&'a RawValue>,
    /// OpenAI's first vision models: why it ended, in the place of `finish_reason`.
    #[serde(borrow)]
    finish_details: Option<FinishDetails<'a>>,
    /// OpenRouter: why this choice broke off.
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    /// Moonshot: the usage, in the last chunk.
    #[serde(borrow)]
    pub usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct FinishDetails<'a> {
    #[serde(borrow)]
    r#type: Option<&'a RawValue>,
}

/// A message or a delta: its text, and what is in it.
struct Part<'a> {
    raw: &'a RawValue,
    view: MessageView<'a>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Part<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'a RawValue>::deserialize(deserializer)?;
        let view: Option<MessageView<'a>> = serde_json::from_str(raw.get()).map_err(D::Error::custom)?;
        Ok(Self { raw, view: view.unwrap_or_default() })
    }
}

/// What a message or a delta holds, as raw JSON: only whether there is something, and how much, matters.
#[derive(Default, Deserialize)]
struct MessageView<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    role: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    content: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
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
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
    /// Another gateway's.
    #[serde(default, deserialize_with = "present")]
    provider_specific_fields: Option<IgnoredAny>,
}

fn says_something(raw: &RawValue) -> bool {
    !matches!(raw.get(), "null" | "\"\"" | "[]" | "{}")
}

/// What Azure leaves out when its filter takes a whole answer away.
const EMPTY_MESSAGE: &str = r#"{"role":"assistant","content":null,"refusal":null}"#;

impl Part<'_> {
    fn settle_message(&self, splice: &mut Splice<'_>) {
        let raw = self.raw.get();
        if raw == "null" {
            return splice.replace(raw, EMPTY_MESSAGE);
        }
        let MessageView { role, content, refusal, .. } = self.view;
        let required = [("role", role, "\"assistant\""), ("content", content, "null"), ("refusal", refusal, "null")];
        let missing = required.into_iter().filter(|(_, said, _)| said.is_none());
        splice.insert_inside(raw, &missing.map(|(name, _, ours)| format!("\"{name}\":{ours}")).collect::<Vec<_>>());
    }

    fn calls(&self) -> Option<&RawValue> {
        self.view.tool_calls.filter(|calls| says_something(calls))
    }
}

impl MessageView<'_> {
    /// Bytes of generated JSON text; zero for a delta that only opens the message.
    fn generated(&self) -> usize {
        let Self {
            role: _,
            content,
            refusal,
            reasoning,
            reasoning_content,
            reasoning_details,
            tool_calls,
            function_call,
            audio,
            annotations: _,
            provider_specific_fields: _,
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

    /// Moves annotations of other types than OpenAI's aside, numbered where they come in a stream.
    fn settle_annotations(&self, stream: Option<&mut Numbered>, splice: &mut Splice<'_>) {
        let Some(annotations) = self.annotations.filter(|raw| says_something(raw)) else { return };
        let Ok(list) = serde_json::from_str::<Vec<Value>>(annotations.get()) else { return };
        let is_page = |annotation: &Value| annotation.get("type").is_some_and(|kind| kind == "url_citation");
        let (pages, mut others): (Vec<_>, Vec<_>) = list.into_iter().partition(is_page);
        if others.is_empty() || self.provider_specific_fields.is_some() {
            return;
        }
        if let Some(numbers) = stream {
            others = numbers.number(others);
        }
        let aside = json!({"annotations": others});
        splice.replace(annotations.get(), Value::from(pages).to_string());
        splice.insert_after(annotations.get(), format!(",\"provider_specific_fields\":{aside}"));
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

    /// The text, where a delta adds nothing else and nothing ends.
    pub(super) fn only_text(&self) -> Option<&RawValue> {
        let text = self.delta.as_ref()?.view.content.filter(|text| text.get().len() > 2)?;
        let ends = self.finish_reason.is_some_and(|reason| reason.get() != "null");
        (!ends && self.usage.is_none() && self.generated() == text.get().len()).then_some(text)
    }

    /// Bytes of JSON text that its delta adds.
    pub(super) fn generated(&self) -> usize {
        self.delta.as_ref().map_or(0, |delta| delta.view.generated())
    }

    /// Puts a whole answer's choice into OpenAI's words. It stands at this place; `answer` is the answer's id, for calls without.
    pub(super) fn translate_whole(&self, place: usize, answer: &str, splice: &mut Splice<'_>) {
        if let Some(message) = &self.message {
            message.view.name_reasoning(splice);
            message.view.settle_annotations(None, splice);
            message.settle_message(splice);
            if let Some(calls) = message.calls() {
                Calls::whole(calls, answer, splice);
            }
        }
        self.translate_finish(true, splice);
        self.settle_logprobs(splice);
        self.complete(place, true, splice);
    }

    /// Puts a chunk's choice into OpenAI's words, after those that were seen before.
    pub(super) fn translate_piece(&self, place: usize, answer: &str, all: &mut AllChoices, splice: &mut Splice<'_>) {
        let number = self.index.and_then(|index| index.get().parse().ok()).unwrap_or(place as u64);
        let seen = all.entry(number).or_default();
        if let Some(delta) = &self.delta {
            delta.view.name_reasoning(splice);
            delta.view.settle_annotations(Some(&mut seen.annotations), splice);
            if delta.raw.get() == "null" {
                splice.replace(delta.raw.get(), "{}");
            }
            if let Some(calls) = delta.calls() {
                seen.calls.pieces(calls, answer, splice);
            }
        }
        match self.finish_reason {
            Some(again) if seen.ended && self.has_ended() => splice.replace(again.get(), "null"),
            _ => self.translate_finish(false, splice),
        }
        seen.ended |= self.has_ended();
        self.settle_logprobs(splice);
        self.complete(place, false, splice);
    }

    fn settle_logprobs(&self, splice: &mut Splice<'_>) {
        if let Some(logprobs) = self.logprobs {
            settle_logprobs(logprobs, splice);
        }
    }

    fn translate_finish(&self, whole: bool, splice: &mut Splice<'_>) {
        let Some(reason) = self.finish_reason.map(RawValue::get) else { return };
        if matches!(reason, "\"\"" | "\"null\"") || (whole && reason == "null") {
            splice.replace(reason, self.unnamed_end(whole));
        } else if let Some((_, ours)) = FINISH_REASONS.iter().find(|(theirs, _)| *theirs == reason) {
            splice.replace(reason, *ours);
        }
    }

    /// Adds the members that it lacks, behind one that it has.
    fn complete(&self, position: usize, whole: bool, splice: &mut Splice<'_>) {
        let (message, delta) = (self.message.as_ref().map(|part| part.raw), self.delta.as_ref().map(|part| part.raw));
        let known = [self.index, self.finish_reason, self.logprobs, message, delta];
        let Some(anchor) = known.into_iter().flatten().next().map(RawValue::get) else { return };
        if self.index.is_none() {
            splice.insert_after(anchor, format!(",\"index\":{position}"));
        }
        if self.finish_reason.is_none() {
            splice.insert_after(anchor, format!(",\"finish_reason\":{}", self.unnamed_end(whole)));
        }
        if whole && self.logprobs.is_none() {
            splice.insert_after(anchor, ",\"logprobs\":null");
        }
        if whole && message.is_none() {
            splice.insert_after(anchor, format!(",\"message\":{EMPTY_MESSAGE}"));
        }
        if !whole && delta.is_none() {
            splice.insert_after(anchor, ",\"delta\":{}");
        }
    }

    /// What a missing or empty finish reason means: nothing yet in a chunk, what the answer shows in a whole one.
    fn unnamed_end(&self, whole: bool) -> &'static str {
        if !whole {
            return "null";
        }
        let named = self.finish_details.as_ref().and_then(|details| details.r#type).map(RawValue::get);
        if let Some((_, ours)) = FINISH_REASONS.iter().find(|(theirs, _)| Some(*theirs) == named) {
            return ours;
        }
        let calls = self.message.as_ref().and_then(|message| message.view.tool_calls).is_some_and(says_something);
        if calls { "\"tool_calls\"" } else { "\"stop\"" }
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
        match choice.delta {
            None => choice.translate_whole(0, "chatcmpl-1", &mut splice),
            Some(_) => choice.translate_piece(0, "chatcmpl-1", &mut AllChoices::new(), &mut splice),
        }
        splice.apply().map_or_else(|| text.to_owned(), |bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn finish_reasons_become_openais_and_unknown_ones_stay() {
        let end = |members: &str| {
            let text = format!(r#"{{"index":0,"logprobs":null,{members}}}"#);
            serde_json::from_str::<Value>(&translated(&text)).unwrap()["finish_reason"].clone()
        };
        let whole = |reason: &str| end(&format!(r#""message":{{"content":"x"}},"finish_reason":{reason}"#));
        assert_eq!(whole("\"eos\""), "stop");
        assert_eq!(whole("\"max_tokens\""), "length");
        assert_eq!(whole("\"\""), "stop");
        assert_eq!(whole("null"), "stop");
        assert_eq!(whole("\"null\""), "stop");
        assert_eq!(whole("\"something new\""), "something new");
        assert_eq!(end(r#""message":{"tool_calls":[{"id":"a"}]},"finish_reason":"""#), "tool_calls");
        assert_eq!(end(r#""message":{},"finish_details":{"type":"max_tokens"}"#), "length");
        assert_eq!(end(r#""delta":{"content":"x"},"finish_reason":"""#), Value::Null);
    }

    #[test]
    fn reasoning_is_given_under_the_name_that_clients_read() {
        let delta = |delta: &str| translated(&format!(r#"{{"index":0,"finish_reason":null,"delta":{delta}}}"#));
        let given = |delta: &str| format!(r#"{{"index":0,"finish_reason":null,"delta":{delta}}}"#);
        assert_eq!(
            delta(r#"{"reasoning":"hm\n","channel":"x"}"#),
            given(r#"{"reasoning":"hm\n","reasoning_content":"hm\n","channel":"x"}"#)
        );
        assert_eq!(
            delta(r#"{"reasoning_content":null,"reasoning":"hm"}"#),
            given(r#"{"reasoning_content":"hm","reasoning":"hm"}"#)
        );
        for same in [r#"{"reasoning":"hm","reasoning_content":"hm"}"#, r#"{"reasoning":null}"#, r#"{"reasoning":""}"#] {
            assert_eq!(delta(same), given(same));
        }
    }

    #[test]
    fn annotations_that_closed_types_refuse_stand_aside() {
        let file = r#"{"type":"file","file":{"hash":"h"}}"#;
        let page = r#"{"type":"url_citation","url_citation":{"url":"https://x.org"}}"#;
        let whole = |message: &str| {
            translated(&format!(
                r#"{{"index":0,"finish_reason":"stop","logprobs":null,"message":{{"role":"assistant","content":"x","refusal":null,{message}}}}}"#
            ))
        };
        let aside = format!(r#""annotations":[{page}],"provider_specific_fields":{{"annotations":[{file}]}}"#);
        assert_eq!(whole(&format!(r#""annotations":[{file},{page}]"#)), whole(&aside));
        assert!(whole(&format!(r#""annotations":[{page}]"#)).ends_with(&format!(r#""annotations":[{page}]}}}}"#)));
        let piece = translated(&format!(r#"{{"index":0,"finish_reason":null,"delta":{{"annotations":[{file}]}}}}"#));
        let piece: Value = serde_json::from_str(&piece).unwrap();
        let numbered = json!({"type": "file", "file": {"hash": "h"}, "index": 0});
        let delta = json!({"annotations": [], "provider_specific_fields": {"annotations": [numbered]}});
        assert_eq!(piece["delta"], delta);
    }

    #[test]
    fn what_a_choice_lacks_is_added_where_it_belongs() {
        assert_eq!(
            translated(r#"{"index":0}"#),
            r#"{"index":0,"finish_reason":"stop","logprobs":null,"message":{"role":"assistant","content":null,"refusal":null}}"#
        );
        assert_eq!(
            translated(r#"{"delta":{"content":"x"}}"#),
            r#"{"delta":{"content":"x"},"index":0,"finish_reason":null}"#
        );
        assert_eq!(
            translated(r#"{"index":0,"finish_reason":null,"delta":null}"#),
            r#"{"index":0,"finish_reason":null,"delta":{}}"#
        );
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
