//! One candidate as it comes, whole or in pieces: the part of reading that answers and streams share.
//!
//! What OpenAI has no place for is kept until the end: signatures of thoughts (on a call they go out with it, as
//! `extra_content.google.thought_signature`; on text as `provider_specific_fields.thought_signature`), parts of other
//! kinds (code, its results, server-side tools, pictures: then all parts, in order, as `content_parts`), and everything
//! that Google says about the candidate. `messages` takes all of it back.

use serde_json::{Map, Value, json};

use super::grounding;
use super::partial::OpenCall;
use super::warnings::is_neutral;
use crate::api::answer::FinishReason;

/// What a part is to a client.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    /// Text of the answer.
    Text(String),
    /// Text of the reasoning.
    Thought(String),
    /// A whole call.
    Call(Call),
}

/// A call, whole.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    /// Which call of the message.
    pub(super) index: u32,
    pub(super) id: String,
    pub(super) name: String,
    /// JSON text.
    pub(super) arguments: String,
    /// The signature, where there is one.
    pub(super) extra_content: Option<Value>,
}

/// One candidate, as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Candidate {
    index: u32,
    /// The text of the answer so far, for the ranges of citations.
    text: String,
    /// All parts so far; neighbouring texts of a stream are one.
    parts: Vec<Map<String, Value>>,
    /// Whether a part has no place at OpenAI.
    native: bool,
    /// The signature of the text.
    signature: Option<Value>,
    calls: u32,
    open: Option<OpenCall>,
    finish: Option<String>,
    finish_message: Option<String>,
    /// What Google says of the candidate, by its names.
    about: Map<String, Value>,
}

/// Members of a candidate that are read here and not passed on as they are.
const READ: &[&str] =
    &["index", "content", "finishReason", "finishMessage", "logprobsResult", "safetyRatings", "tokenCount"];

impl Candidate {
    /// A candidate of which nothing has come.
    pub(super) fn new(index: u32) -> Self {
        Self { index, ..Self::default() }
    }

    /// Takes what came of it. `answer` is the id of the answer, from which ids are made for calls that have none.
    pub(super) fn absorb(&mut self, candidate: &mut Map<String, Value>, answer: &str) -> Vec<Piece> {
        let parts = candidate.get_mut("content").and_then(|content| content.get_mut("parts")).map(Value::take);
        let mut pieces = Vec::new();
        if let Some(Value::Array(parts)) = parts {
            for part in parts {
                if let Value::Object(part) = part {
                    self.part(part, answer, &mut pieces);
                }
            }
        }
        if let Some(reason) = candidate.get("finishReason").and_then(finish_name) {
            self.finish = Some(reason);
            self.close(answer, &mut pieces);
        }
        if let Some(message) = candidate.get("finishMessage").and_then(Value::as_str) {
            self.finish_message = Some(message.to_owned());
        }
        let ratings = candidate.get("safetyRatings").and_then(Value::as_array);
        if ratings.is_some_and(|ratings| ratings.iter().any(|rating| rating["blocked"] == true)) {
            self.about.extend(candidate.remove_entry("safetyRatings"));
        }
        for (name, value) in candidate.iter().filter(|(name, value)| !READ.contains(&name.as_str()) && says(value)) {
            grounding::merge(self.about.entry(name.as_str()).or_insert(Value::Null), value);
        }
        pieces
    }

    fn part(&mut self, mut part: Map<String, Value>, answer: &str, pieces: &mut Vec<Piece>) {
        // Older SDKs write neutral members out.
        part.retain(|name, value| !value.is_null() && (name != "thought" || *value == true));
        let signature = part.get("thoughtSignature").cloned();
        if let Some(call) = part.get("functionCall").and_then(Value::as_object)
            && (self.open.is_some() || call.contains_key("name"))
        {
            return self.call(call, signature, answer, pieces);
        }
        self.close(answer, pieces);
        let thought = part.get("thought") == Some(&Value::Bool(true));
        let known = part.keys().all(|name| matches!(name.as_str(), "text" | "thought" | "thoughtSignature"));
        // What stands beside a text does not take its place.
        self.native |= !known;
        match part.get("text").and_then(Value::as_str) {
            None if !known => {}
            Some(text) if thought => {
                self.native |= signature.is_some();
                pieces.push(Piece::Thought(text.to_owned()));
            }
            text => {
                self.signature = signature.or(self.signature.take());
                let text = text.unwrap_or_default();
                self.text.push_str(text);
                pieces.push(Piece::Text(text.to_owned()));
            }
        }
        self.keep(part);
    }

    /// Keeps a part; a text goes on with the one before unless a signature has sealed that.
    fn keep(&mut self, part: Map<String, Value>) {
        let plain = |part: &Map<String, Value>| part.keys().all(|name| matches!(name.as_str(), "text" | "thought"));
        let before =
            self.parts.last_mut().filter(|before| plain(before) && before.get("thought") == part.get("thought"));
        let before = before.and_then(|before| before.get_mut("text"));
        let more = part.get("text").and_then(Value::as_str).filter(|_| plain(&part));
        if let (Some(Value::String(text)), Some(more)) = (before, more) {
            text.push_str(more);
            return;
        }
        if !part.is_empty() {
            self.parts.push(part);
        }
    }

    fn call(&mut self, call: &Map<String, Value>, signature: Option<Value>, answer: &str, pieces: &mut Vec<Piece>) {
        if call.get("name").and_then(Value::as_str).is_some_and(|name| !name.is_empty()) {
            self.close(answer, pieces);
        }
        let open = self.open.get_or_insert_default();
        open.absorb(call, signature);
        if call.get("willContinue") != Some(&Value::Bool(true)) {
            self.close(answer, pieces);
        }
    }

    /// Ends the call that is open, if one is.
    fn close(&mut self, answer: &str, pieces: &mut Vec<Piece>) {
        let Some(OpenCall { id, name, args, signature }) = self.open.take() else { return };
        let index = self.calls;
        self.calls += 1;
        let mut part = Map::new();
        let mut call = json!({"name": name, "args": args});
        if let (Some(id), Some(members)) = (&id, call.as_object_mut()) {
            members.insert("id".to_owned(), id.clone().into());
        }
        part.insert("functionCall".to_owned(), call);
        if let Some(signature) = &signature {
            part.insert("thoughtSignature".to_owned(), signature.clone());
        }
        self.parts.push(part);
        pieces.push(Piece::Call(Call {
            index,
            id: id.unwrap_or_else(|| made_id(answer, self.index, index)),
            name,
            arguments: args.to_string(),
            extra_content: signature.map(|signature| json!({"google": {"thought_signature": signature}})),
        }));
    }

    /// Whether the candidate said why it ended.
    pub(super) const fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// Why it ended.
    pub(super) fn finish_reason(&self) -> FinishReason {
        match self.finish.as_deref().unwrap_or_default() {
            "MAX_TOKENS" => FinishReason::Length,
            reason if is_filter(reason) => FinishReason::ContentFilter,
            _ if self.calls > 0 => FinishReason::ToolCalls,
            _ => FinishReason::Stop,
        }
    }

    /// Google's words for a filtered answer.
    pub(super) fn refusal(&self) -> Option<&str> {
        let filtered = self.finish.as_deref().is_some_and(is_filter);
        self.finish_message.as_deref().filter(|message| filtered && !message.is_empty())
    }

    /// Citations of web pages in OpenAI's shape.
    pub(super) fn annotations(&self) -> Vec<Value> {
        grounding::annotations(&self.about, &self.text)
    }

    /// What OpenAI has no place for.
    pub(super) fn into_fields(self) -> Option<Map<String, Value>> {
        let Self { parts, native, signature, finish, finish_message, about, .. } = self;
        let mut fields = Map::new();
        if native {
            let parts: Vec<Value> = parts.into_iter().map(Value::Object).collect();
            fields.insert("content_parts".to_owned(), parts.into());
        } else if let Some(signature) = signature {
            fields.insert("thought_signature".to_owned(), signature);
        }
        // OpenAI's words say less than these.
        if let Some(reason) = finish.filter(|reason| !matches!(reason.as_str(), "STOP" | "MAX_TOKENS")) {
            fields.insert("finishReason".to_owned(), reason.into());
            if let Some(message) = finish_message {
                fields.insert("finishMessage".to_owned(), message.into());
            }
        }
        fields.extend(about);
        Some(fields).filter(|fields| !fields.is_empty())
    }
}

/// A member that says something; an object of empty members does not.
fn says(value: &Value) -> bool {
    !is_neutral(value) && !value.as_object().is_some_and(|members| members.values().all(is_neutral))
}

/// Google's name of a reason; its number where names are not wanted.
fn finish_name(reason: &Value) -> Option<String> {
    const NUMBERED: &[&str] = &[
        "FINISH_REASON_UNSPECIFIED",
        "STOP",
        "MAX_TOKENS",
        "SAFETY",
        "RECITATION",
        "OTHER",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "MALFORMED_FUNCTION_CALL",
        "MODEL_ARMOR",
    ];
    let number = || NUMBERED.get(usize::try_from(reason.as_u64()?).ok()?).copied();
    let name = reason.as_str().or_else(number)?;
    (!matches!(name, "" | "FINISH_REASON_UNSPECIFIED")).then(|| name.to_owned())
}

/// The reasons that are a filter's.
fn is_filter(reason: &str) -> bool {
    matches!(
        reason,
        "SAFETY"
            | "RECITATION"
            | "BLOCKLIST"
            | "PROHIBITED_CONTENT"
            | "SPII"
            | "MODEL_ARMOR"
            | "IMAGE_SAFETY"
            | "IMAGE_PROHIBITED_CONTENT"
            | "IMAGE_RECITATION"
    )
}

/// An id for a call that has none: the same whenever the same answer is read, and short enough for every provider.
fn made_id(answer: &str, candidate: u32, call: u32) -> String {
    let fit: Vec<char> = answer.chars().filter(char::is_ascii_alphanumeric).collect();
    let tail: String = fit.iter().skip(fit.len().saturating_sub(24)).collect();
    if candidate == 0 { format!("call_{tail}_{call}") } else { format!("call_{tail}_{candidate}_{call}") }
}

/// Token probabilities in OpenAI's shape.
pub(super) fn logprobs(candidate: &Map<String, Value>) -> Option<Vec<Value>> {
    let result = candidate.get("logprobsResult")?;
    let entry = |one: &Value| {
        let token = one.get("token").and_then(Value::as_str).unwrap_or_default();
        json!({"token": token, "logprob": one.get("logProbability"), "bytes": token.as_bytes()})
    };
    let chosen = result.get("chosenCandidates")?.as_array()?;
    let others = result.get("topCandidates").and_then(Value::as_array);
    let tokens = chosen.iter().enumerate().map(|(at, one)| {
        let top = others.and_then(|others| others.get(at)?.get("candidates")?.as_array());
        let mut entry_of = entry(one);
        if let Some(members) = entry_of.as_object_mut() {
            members.insert("top_logprobs".to_owned(), top.into_iter().flatten().map(entry).collect());
        }
        entry_of
    });
    Some(tokens.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absorb(candidate: &mut Candidate, came: &Value) -> Vec<Piece> {
        candidate.absorb(&mut came.as_object().unwrap().clone(), "answer-1")
    }

    fn part(part: &Value) -> Value {
        json!({"content": {"role": "model", "parts": [part]}})
    }

    #[test]
    fn a_call_in_pieces_comes_out_whole() {
        let mut candidate = Candidate::new(0);
        let begin = json!({"functionCall": {"name": "f", "willContinue": true}, "thoughtSignature": "s"});
        assert!(absorb(&mut candidate, &part(&begin)).is_empty());
        let piece = |path: &str, text: &str, more: bool| {
            let argument = json!({"jsonPath": path, "stringValue": text, "willContinue": more});
            part(&json!({"functionCall": {"partialArgs": [argument], "willContinue": true}}))
        };
        assert!(absorb(&mut candidate, &piece("$.a", "x", true)).is_empty());
        assert!(absorb(&mut candidate, &piece("$.a", "y", false)).is_empty());
        assert!(absorb(&mut candidate, &piece("$.b[1].c", "z", false)).is_empty());
        let pieces = absorb(&mut candidate, &part(&json!({"functionCall": {}})));
        let expected = Call {
            index: 0,
            id: "call_answer1_0".to_owned(),
            name: "f".to_owned(),
            arguments: r#"{"a":"xy","b":[null,{"c":"z"}]}"#.to_owned(),
            extra_content: Some(json!({"google": {"thought_signature": "s"}})),
        };
        assert_eq!(pieces, [Piece::Call(expected)]);
        absorb(&mut candidate, &json!({"finishReason": "STOP"}));
        assert_eq!(candidate.finish_reason(), FinishReason::ToolCalls);
    }

    #[test]
    fn every_reason_has_its_word() {
        let table = [
            (json!("STOP"), FinishReason::Stop),
            (json!(2), FinishReason::Length),
            (json!("SAFETY"), FinishReason::ContentFilter),
            (json!("IMAGE_SAFETY"), FinishReason::ContentFilter),
            (json!("MALFORMED_FUNCTION_CALL"), FinishReason::Stop),
            (json!("A_REASON_OF_TOMORROW"), FinishReason::Stop),
        ];
        for (reason, expected) in table {
            let mut candidate = Candidate::new(0);
            absorb(&mut candidate, &json!({"finishReason": reason}));
            assert_eq!(candidate.finish_reason(), expected, "{reason}");
        }
    }

    #[test]
    fn parts_of_other_kinds_are_kept_whole_and_in_order_and_texts_of_a_stream_are_one() {
        let mut candidate = Candidate::new(0);
        for one in [
            json!({"text": "a", "thought": true}),
            json!({"text": "b", "thought": true}),
            json!({"executableCode": {"code": "1"}, "thoughtSignature": "s"}),
            json!({"text": "c"}),
            json!({"text": "d"}),
        ] {
            absorb(&mut candidate, &part(&one));
        }
        absorb(&mut candidate, &json!({"finishReason": "OTHER", "finishMessage": "m", "avgLogprobs": -0.5}));
        let expected = json!({"content_parts": [{"text": "ab", "thought": true},
            {"executableCode": {"code": "1"}, "thoughtSignature": "s"}, {"text": "cd"}],
            "finishReason": "OTHER", "finishMessage": "m", "avgLogprobs": -0.5});
        assert_eq!(Value::from(candidate.into_fields().unwrap()), expected);
    }
}
