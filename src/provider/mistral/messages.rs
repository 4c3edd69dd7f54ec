//! The conversation: OpenAI's messages with what Mistral names otherwise or does not know changed, message by message.
//!
//! Invariant: a message that needs no change stays the text it is. Mistral refuses members it does not know, so whatever a
//! message of its own does not have is translated, or taken out and named.

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::provider::warnings::{Warnings, is_neutral};

/// What Mistral's own messages have.
const MEMBERS: &[&str] = &["role", "content", "tool_calls", "tool_call_id", "prefix"];
/// Beginnings of the names of models that take thinking chunks; the others refuse the whole request.
const THINKING: &[&str] = &[
    "glm-",
    "magistral-",
    "mistral-large-4",
    "mistral-medium-2604",
    "mistral-medium-3-5",
    "mistral-medium-3.5",
    "mistral-medium-latest",
    "mistral-small-2603",
    "mistral-small-latest",
    "zai-glm",
];

/// The messages for this model; `None` when they can stay as they are.
pub(super) fn translate(raw: &str, model: &str, warnings: &mut Warnings) -> Result<Option<String>> {
    let invalid = |path: String| {
        move |cause: serde_json::Error| Error::invalid(path.clone(), format!("Invalid value for '{path}': {cause}."))
    };
    let messages: Vec<&RawValue> = serde_json::from_str(raw).map_err(invalid("messages".to_owned()))?;
    let mut translator =
        Translator { warnings, thinks: THINKING.iter().any(|start| model.starts_with(start)), call: None };
    let mut out = Vec::with_capacity(messages.len());
    let mut changed = false;
    for (index, raw) in messages.into_iter().enumerate() {
        let path = format!("messages[{index}]");
        let mut message: Map<String, Value> = serde_json::from_str(raw.get()).map_err(invalid(path.clone()))?;
        if translator.message(&path, &mut message) {
            changed = true;
            out.push(Value::Object(message).to_string());
        } else {
            out.push(raw.get().to_owned());
        }
    }
    Ok(changed.then(|| format!("[{}]", out.join(","))))
}

struct Translator<'w> {
    warnings: &'w mut Warnings,
    /// Whether the model takes reasoning back.
    thinks: bool,
    /// The call that a deprecated function message answers.
    call: Option<String>,
}

impl Translator<'_> {
    /// Changes a message; says whether it did.
    fn message(&mut self, path: &str, message: &mut Map<String, Value>) -> bool {
        let mut changed = self.role(path, message);
        let mut parts = message.get_mut("content").and_then(Value::as_array_mut);
        for (index, part) in parts.iter_mut().flat_map(|parts| parts.iter_mut()).enumerate() {
            changed |= self.part(&format!("{path}.content[{index}]."), part);
        }
        if message.get("role").and_then(Value::as_str) == Some("assistant") {
            changed |= self.assistant(path, message);
        }
        let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
        for (index, call) in calls.into_iter().flatten().filter_map(Value::as_object_mut).enumerate() {
            changed |= self.keep(&format!("{path}.tool_calls[{index}]."), call, &["id", "type", "function", "index"]);
            changed |= fit_id(call.get_mut("id"));
        }
        changed |= fit_id(message.get_mut("tool_call_id"));
        let is_tool = message.get("role").and_then(Value::as_str) == Some("tool");
        let name: &[&str] = if is_tool { &["name"] } else { &[] };
        changed | self.keep(&format!("{path}."), message, &[MEMBERS, name].concat())
    }

    /// Roles that Mistral has no name for.
    fn role(&mut self, path: &str, message: &mut Map<String, Value>) -> bool {
        let role = match message.get("role").and_then(Value::as_str) {
            Some("developer") => "system",
            Some("function") => {
                let Some(call) = self.call.clone() else {
                    self.warnings.add(&format!("{path}.role"));
                    return false;
                };
                message.insert("tool_call_id".to_owned(), call.into());
                "tool"
            }
            _ => return false,
        };
        message.insert("role".to_owned(), role.into());
        true
    }

    /// What only an assistant says: reasoning, a refusal, a call in its deprecated form.
    fn assistant(&mut self, path: &str, message: &mut Map<String, Value>) -> bool {
        let mut changed = false;
        if let Some(refusal) = taken_text(message, "refusal") {
            add_chunk(message, json!({"type": "text", "text": refusal}), false);
            changed = true;
        }
        let reasoning = taken_text(message, "reasoning_content");
        changed |= reasoning.is_some();
        match reasoning {
            Some(text) if self.thinks => {
                let thinking = json!({"type": "thinking", "thinking": [{"type": "text", "text": text}]});
                add_chunk(message, thinking, true);
            }
            Some(_) => self.warnings.add(&format!("{path}.reasoning_content")),
            None => {}
        }
        if let Some(call) = message.remove("function_call").filter(|call| call.is_object()) {
            let id = format!("{path}.function_call");
            self.call = Some(id.clone());
            message.insert("tool_calls".to_owned(), json!([{"id": id, "type": "function", "function": call}]));
            changed = true;
        }
        changed
    }

    fn part(&mut self, path: &str, part: &mut Value) -> bool {
        let Some(members) = part.as_object_mut() else { return false };
        let own: &[&str] = match members.get("type").and_then(Value::as_str) {
            Some("text") => &["type", "text"],
            Some("image_url") => &["type", "image_url"],
            Some("input_audio") => {
                let data = members.get_mut("input_audio").and_then(|audio| audio.get_mut("data")).map(Value::take);
                let changed = data.is_some();
                if let Some(data) = data {
                    members.insert("input_audio".to_owned(), data);
                }
                return changed | self.keep(path, members, &["type", "input_audio"]);
            }
            Some("refusal") => {
                let text = members.remove("refusal").unwrap_or_default();
                *part = json!({"type": "text", "text": text});
                return true;
            }
            Some("file") => return self.file(path, members),
            // Mistral's own parts.
            _ => return false,
        };
        self.keep(path, members, own)
    }

    fn file(&mut self, path: &str, part: &mut Map<String, Value>) -> bool {
        let Some(Value::Object(mut file)) = part.remove("file") else { return false };
        if let Some(data) = file.remove("file_data").filter(Value::is_string) {
            part.insert("type".to_owned(), "document_url".into());
            part.insert("document_url".to_owned(), data);
            if let Some(name) = file.remove("filename").filter(Value::is_string) {
                part.insert("document_name".to_owned(), name);
            }
        } else if let Some(id) = file.remove("file_id") {
            part.insert("file_id".to_owned(), id);
        }
        self.warnings.add_unknown(&format!("{path}file."), &file, &[]);
        self.keep(path, part, &["type", "document_url", "document_name", "file_id"]);
        true
    }

    /// Keeps what Mistral knows and names the rest.
    fn keep(&mut self, path: &str, members: &mut Map<String, Value>, known: &[&str]) -> bool {
        let before = members.len();
        self.warnings.add_unknown(path, members, known);
        members.retain(|name, _| known.contains(&name.as_str()));
        members.len() < before
    }
}

/// A text that says something, taken out.
fn taken_text(message: &mut Map<String, Value>, name: &str) -> Option<String> {
    match message.get(name) {
        Some(Value::String(text)) if !text.is_empty() => {}
        _ => return None,
    }
    message.remove(name).and_then(|value| value.as_str().map(str::to_owned))
}

/// Adds a chunk before or after the content, which becomes a list.
fn add_chunk(message: &mut Map<String, Value>, chunk: Value, first: bool) {
    let mut chunks = match message.remove("content") {
        Some(Value::Array(chunks)) => chunks,
        Some(Value::String(text)) if !text.is_empty() => vec![json!({"type": "text", "text": text})],
        content => content.filter(|content| !is_neutral(content)).into_iter().collect(),
    };
    let at = if first { 0 } else { chunks.len() };
    chunks.insert(at, chunk);
    message.insert("content".to_owned(), chunks.into());
}

/// How long a call's id is, exactly.
const ID_LENGTH: usize = 9;

/// Gives an id that another provider made the form that Mistral takes: nine letters and digits. Call and result change
/// alike, and the same id always becomes the same one, so that a prompt that was cached stays cached.
fn fit_id(id: Option<&mut Value>) -> bool {
    const DIGITS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let Some(value) = id else { return false };
    let Some(text) = value.as_str() else { return false };
    if text.len() == ID_LENGTH && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return false;
    }
    // FNV-1a: no one gains by a collision in their own conversation.
    let mut hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mut fit = String::with_capacity(ID_LENGTH);
    for _ in 0..ID_LENGTH {
        let digit = DIGITS.get((hash % 62) as usize).copied().unwrap_or(b'0');
        fit.push(char::from(digit));
        hash /= 62;
    }
    *value = fit.into();
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(model: &str, messages: &Value) -> (Option<Value>, Vec<String>) {
        let mut warnings = Warnings::default();
        let text = translate(&messages.to_string(), model, &mut warnings).unwrap();
        (text.map(|text| serde_json::from_str(&text).unwrap()), warnings.into_names())
    }

    #[test]
    fn only_a_message_that_must_change_is_written_anew() {
        let raw = r#"[ {"role":"user",  "content":"é"}, {"role":"developer","content":"x"}]"#;
        let mut warnings = Warnings::default();
        let made = translate(raw, "m", &mut warnings).unwrap().unwrap();
        assert_eq!(made, r#"[{"role":"user",  "content":"é"},{"role":"system","content":"x"}]"#);
        let own = json!([{"role": "assistant", "content": [{"type": "thinking", "thinking": []}], "prefix": true}]);
        assert_eq!(run("m", &own), (None, vec![]));
    }

    #[test]
    fn an_answer_sent_back_becomes_what_mistral_once_said() {
        let answer = json!([{"role": "assistant", "content": "4", "reasoning_content": "2+2", "refusal": null,
            "annotations": [], "audio": null}]);
        let chunks =
            json!([{"type": "thinking", "thinking": [{"type": "text", "text": "2+2"}]}, {"type": "text", "text": "4"}]);
        let (made, warnings) = run("magistral-medium-latest", &answer);
        assert_eq!(made, Some(json!([{"role": "assistant", "content": chunks}])));
        assert!(warnings.is_empty());
        let (made, warnings) = run("mistral-large-2512", &answer);
        assert_eq!(made, Some(json!([{"role": "assistant", "content": "4"}])));
        assert_eq!(warnings, ["messages[0].reasoning_content"]);
    }

    #[test]
    fn ids_of_other_providers_fit_and_still_belong_together() {
        let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let (made, warnings) = run(
            "m",
            &json!([
                {"role": "assistant", "content": null, "tool_calls": [call("call_0fypS1hVX"), call("D681PevKs")]},
                {"role": "tool", "tool_call_id": "call_0fypS1hVX", "name": "f", "content": "1"},
                {"role": "tool", "tool_call_id": "D681PevKs", "content": "2"},
            ]),
        );
        let made = made.unwrap();
        let id = made[0]["tool_calls"][0]["id"].as_str().unwrap();
        assert!(id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_eq!(made[1]["tool_call_id"], id);
        assert_eq!(
            (&made[0]["tool_calls"][1]["id"], &made[2]["tool_call_id"]),
            (&json!("D681PevKs"), &json!("D681PevKs"))
        );
        assert!(warnings.is_empty());
    }

    #[test]
    fn parts_become_mistrals_and_strangers_are_named() {
        let (made, warnings) = run(
            "m",
            &json!([{"role": "user", "name": "Ann", "content": [
                {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA", "filename": "x.pdf"}},
                {"type": "file", "file": {"file_id": "f"}},
                {"type": "image_url", "image_url": {"url": "https://x.org/a.png", "detail": "low"}},
            ]}]),
        );
        let content = json!([
            {"type": "text", "text": "a"},
            {"type": "input_audio", "input_audio": "AAAA"},
            {"type": "document_url", "document_url": "data:application/pdf;base64,AA", "document_name": "x.pdf"},
            {"type": "file", "file_id": "f"},
            {"type": "image_url", "image_url": {"url": "https://x.org/a.png", "detail": "low"}},
        ]);
        assert_eq!(made, Some(json!([{"role": "user", "content": content}])));
        assert_eq!(warnings, ["messages[0].content[0].cache_control", "messages[0].name"]);
    }

    #[test]
    fn the_deprecated_forms_still_work() {
        let (made, warnings) = run(
            "m",
            &json!([
                {"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{}"}},
                {"role": "function", "name": "f", "content": "1"},
                {"role": "assistant", "content": null, "refusal": "No."},
            ]),
        );
        let made = made.unwrap();
        assert_eq!(made[0]["tool_calls"][0]["id"], made[1]["tool_call_id"]);
        assert_eq!((&made[1]["role"], &made[1]["name"]), (&json!("tool"), &json!("f")));
        assert_eq!(made[2]["content"], json!([{"type": "text", "text": "No."}]));
        assert!(warnings.is_empty());
    }
}
