//! The messages of a request, where a provider wants them otherwise than OpenAI: roles, reasoning, a schema in words, and
//! nothing that a provider with a closed schema does not know.
//!
//! Invariant: messages that need no change are the very same bytes.

use std::borrow::Cow;
use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use bytes::Bytes;
use memchr::memmem;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::OpenAi;
use crate::api::scan::{Body, Edit};
use crate::error::{Error, Result};
use crate::provider::warnings::is_neutral;

/// The `messages` for this model, as JSON text; `None` when they can stay. `preface` is a system message to put first.
pub(super) fn rewrite(
    dialect: &OpenAi,
    body: &Body,
    model: &str,
    preface: Option<String>,
    warnings: &mut Vec<String>,
) -> Result<Option<String>> {
    let text = body.raw("messages").unwrap_or_default();
    if preface.is_none() && !concerns(dialect, text) {
        return Ok(None);
    }
    let list: Vec<&RawValue> = serde_json::from_str(text)
        .map_err(|_| Error::invalid("messages", "Invalid type for 'messages': expected an array of objects."))?;
    let takes_reasoning =
        dialect.reasoning_models.is_empty() || dialect.reasoning_models.iter().any(|part| model.contains(part));
    let mut rewriter = Rewriter { dialect, takes_reasoning, warnings };
    let mut out = Vec::with_capacity(list.len() + 1);
    let mut changed = preface.is_some();
    out.extend(preface);
    for (index, message) in list.into_iter().enumerate() {
        let scanned = body
            .part(message.get())
            .map_err(|error| Error::invalid(format!("messages[{index}]"), error.message().to_owned()))?;
        let edited = rewriter.message(&scanned, index)?;
        changed |= edited != message.get();
        out.push(String::from_utf8_lossy(&edited).into_owned());
    }
    Ok(changed.then(|| format!("[{}]", out.join(","))))
}

/// Whether one of the words that would have to change occurs at all: most requests are spared the parsing.
fn concerns(dialect: &OpenAi, text: &str) -> bool {
    let occurs = |quoted: &str| memmem::find(text.as_bytes(), quoted.as_bytes()).is_some();
    !dialect.message_known.is_empty()
        || (!dialect.developer && occurs("\"developer\""))
        || (dialect.exacting && has_strangers(text))
        || (dialect.reasoning != STANDARD_REASONING && occurs("\"reasoning_content\""))
        || (!dialect.exacting && occurs("\"provider_specific_fields\"") && occurs("\"annotations\""))
}

/// Whether a stranger's name occurs. Each of them has an underscore, which most texts have not.
fn has_strangers(text: &str) -> bool {
    memchr::memchr(b'_', text.as_bytes()).is_some()
        && STRANGERS.as_ref().is_none_or(|strangers| strangers.is_match(text))
}

/// All names of strangers, in quotes, looked for at once: a body may have a megabyte. None should it have grown too large to be made.
static STRANGERS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    let names = [MESSAGE_STRANGERS, CALL_STRANGERS, PART_STRANGERS].into_iter().flatten();
    AhoCorasick::new(names.map(|name| format!("\"{name}\""))).ok()
});

/// Where this gateway hands out annotations that OpenAI has no type for: in the one, under the name of the other.
const FIELDS: &str = "provider_specific_fields";
const ANNOTATIONS: &str = "annotations";

/// What this gateway hands out, or other providers take, and OpenAI does not know: in a message, its calls, its parts.
const MESSAGE_STRANGERS: &[&str] =
    &["cache_control", "is_error", "provider_specific_fields", STANDARD_REASONING, "thinking_blocks"];
const CALL_STRANGERS: &[&str] = &["cache_control", "extra_content", "provider_specific_fields"];
const PART_STRANGERS: &[&str] = &["cache_control"];

/// How most providers name the reasoning of an earlier answer, and how this gateway hands it out.
const STANDARD_REASONING: &str = "reasoning_content";

struct Rewriter<'a> {
    dialect: &'a OpenAi,
    /// Whether the model takes reasoning back.
    takes_reasoning: bool,
    warnings: &'a mut Vec<String>,
}

impl Rewriter<'_> {
    fn message(&mut self, message: &Body, index: usize) -> Result<Bytes> {
        let mut edit = message.edit();
        if !self.dialect.developer && message.raw("role") == Some("\"developer\"") {
            edit.set("role", "\"system\"");
        }
        let own = self.dialect.reasoning;
        let standard = message.raw(STANDARD_REASONING);
        let reasoning = message.raw(own).filter(|own| *own != "null").or(standard).filter(|text| *text != "null");
        if own != STANDARD_REASONING && standard.is_some() {
            edit.remove(STANDARD_REASONING);
        }
        match reasoning {
            Some(_) if !self.takes_reasoning => {
                edit.remove(own);
                lose(&format!("messages[{index}].{STANDARD_REASONING}"), &Value::Bool(true), self.warnings);
            }
            Some(text) if own != STANDARD_REASONING && standard.is_some() => {
                edit.set(own, text);
            }
            _ => {}
        }
        if self.dialect.exacting {
            self.drop_strangers(message, &mut edit, index)?;
        } else {
            restore_annotations(message, &mut edit);
        }
        let edited = edit.apply();
        if self.dialect.message_known.is_empty() { Ok(edited) } else { self.close(edited, index) }
    }

    /// Takes out what this gateway hands out and OpenAI does not know.
    fn drop_strangers(&mut self, message: &Body, edit: &mut Edit<'_>, index: usize) -> Result<()> {
        for name in MESSAGE_STRANGERS {
            if let Some(value) = message.raw(name) {
                edit.remove(name);
                lose(&format!("messages[{index}].{name}"), &parsed(value), self.warnings);
            }
        }
        for (list, strangers) in [("tool_calls", CALL_STRANGERS), ("content", PART_STRANGERS)] {
            let path = format!("messages[{index}].{list}");
            if let Some(left) = without(message, list, strangers, &path, self.warnings)? {
                edit.set(list, left);
            }
        }
        Ok(())
    }

    /// Takes out what a closed schema does not have.
    fn close(&mut self, message: Bytes, index: usize) -> Result<Bytes> {
        let mut members: Map<String, Value> = serde_json::from_slice(&message).map_err(Error::internal)?;
        let before = members.len();
        members.retain(|name, value| {
            let known = self.dialect.message_known.contains(&name.as_str());
            if !known {
                lose(&format!("messages[{index}].{name}"), value, self.warnings);
            }
            known
        });
        let mut changed = members.len() < before;
        for name in ["content", "tool_calls"] {
            let items = members.get_mut(name).and_then(Value::as_array_mut);
            for (place, item) in items.into_iter().flatten().enumerate() {
                changed |= self.item(&format!("messages[{index}].{name}[{place}]"), item);
            }
        }
        if !changed {
            return Ok(message);
        }
        serde_json::to_vec(&members).map(Bytes::from).map_err(Error::internal)
    }

    /// A part has its type and the member of that name, a call its id, too.
    fn item(&mut self, path: &str, item: &mut Value) -> bool {
        let Some(members) = item.as_object_mut() else { return false };
        let kind = members.get("type").and_then(Value::as_str).unwrap_or("function").to_owned();
        let before = members.len();
        members.retain(|name, value| {
            let known = name == "type" || name == "id" || *name == kind;
            // `index` is what remains of a stream when a client sends the collected chunks back.
            if !known && name != "index" {
                lose(&format!("{path}.{name}"), value, self.warnings);
            }
            known
        });
        members.len() < before
    }
}

/// Puts annotations that were moved aside in an answer back to the others: OpenRouter spares reading a file again by them.
fn restore_annotations(message: &Body, edit: &mut Edit<'_>) {
    let fields = message.raw(FIELDS).and_then(|raw| serde_json::from_str::<Map<String, Value>>(raw).ok());
    let Some(mut fields) = fields else { return };
    let Some(Value::Array(mut aside)) = fields.shift_remove(ANNOTATIONS) else { return };
    // The number that they have in a stream.
    aside.iter_mut().filter_map(Value::as_object_mut).for_each(|item| drop(item.shift_remove("index")));
    let others = message.raw(ANNOTATIONS).and_then(|raw| serde_json::from_str::<Vec<Value>>(raw).ok());
    edit.set(ANNOTATIONS, Value::from([others.unwrap_or_default(), aside].concat()).to_string());
    if fields.is_empty() {
        edit.remove(FIELDS);
    } else {
        edit.set(FIELDS, Value::from(fields).to_string());
    }
}

/// Reports a member that is lost, each name once: a long conversation would fill the header.
fn lose(path: &str, value: &Value, warnings: &mut Vec<String>) {
    let name = path.rsplit('.').next().unwrap_or_default();
    let known = warnings.iter().any(|warning| warning.rsplit('.').next() == Some(name));
    if !known && !is_neutral(value) {
        warnings.push(path.to_owned());
    }
}

/// A list of objects without these members, as JSON text; `None` when it holds none of them or is no list.
pub(super) fn without(
    holder: &Body,
    list: &str,
    members: &[&'static str],
    path: &str,
    warnings: &mut Vec<String>,
) -> Result<Option<String>> {
    let raw = holder.raw(list).filter(|raw| raw.starts_with('['));
    let Some(items) = raw.and_then(|raw| serde_json::from_str::<Vec<&RawValue>>(raw).ok()) else { return Ok(None) };
    let (mut left, mut changed) = (Vec::with_capacity(items.len()), false);
    for (index, item) in items.into_iter().enumerate() {
        let mut text = Cow::Borrowed(item.get());
        if text.starts_with('{') {
            let item = holder.part(item.get())?;
            let mut edit = item.edit();
            for name in members {
                if let Some(value) = item.raw(name) {
                    edit.remove(name);
                    changed = true;
                    lose(&format!("{path}[{index}].{name}"), &parsed(value), warnings);
                }
            }
            text = String::from_utf8_lossy(&edit.apply()).into_owned().into();
        }
        left.push(text);
    }
    Ok(changed.then(|| format!("[{}]", left.join(","))))
}

fn parsed(raw: &str) -> Value {
    serde_json::from_str(raw).unwrap_or(Value::Bool(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_strangers_name_is_found() {
        let names = [MESSAGE_STRANGERS, CALL_STRANGERS, PART_STRANGERS].into_iter().flatten();
        assert!(names.into_iter().all(|name| has_strangers(&format!("{{\"{name}\":1}}"))));
        assert!(!has_strangers(r#"{"role":"tool","tool_call_id":"a"}"#));
    }
}
