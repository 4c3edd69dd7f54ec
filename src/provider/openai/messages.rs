//! The messages of a request, where a provider wants them otherwise than OpenAI: roles, reasoning, a schema in words, and
//! nothing that a provider with a closed schema does not know.
//!
//! Invariant: messages that need no change are the very same bytes.

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::OpenAi;
use crate::api::scan::Body;
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
        let scanned = Body::scan(body.bytes().slice_ref(message.get().as_bytes()))
            .map_err(|error| Error::invalid(format!("messages[{index}]"), error.message().to_owned()))?;
        let edited = rewriter.message(&scanned, index)?;
        changed |= edited != message.get();
        out.push(String::from_utf8_lossy(&edited).into_owned());
    }
    Ok(changed.then(|| format!("[{}]", out.join(","))))
}

/// Whether one of the words that would have to change occurs at all: most requests are spared the parsing.
fn concerns(dialect: &OpenAi, text: &str) -> bool {
    let occurs = |word: &str| text.contains(&format!("\"{word}\""));
    !dialect.message_known.is_empty()
        || (!dialect.developer && occurs("developer"))
        || (dialect.reasoning != STANDARD_REASONING && occurs(STANDARD_REASONING))
}

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
                self.lose(&format!("messages[{index}].{STANDARD_REASONING}"), &Value::Bool(true));
            }
            Some(text) if own != STANDARD_REASONING && standard.is_some() => {
                edit.set(own, text);
            }
            _ => {}
        }
        let edited = edit.apply();
        if self.dialect.message_known.is_empty() { Ok(edited) } else { self.close(edited, index) }
    }

    /// Takes out what a closed schema does not have.
    fn close(&mut self, message: Bytes, index: usize) -> Result<Bytes> {
        let mut members: Map<String, Value> = serde_json::from_slice(&message).map_err(Error::internal)?;
        let before = members.len();
        members.retain(|name, value| {
            let known = self.dialect.message_known.contains(&name.as_str());
            if !known {
                self.lose(&format!("messages[{index}].{name}"), value);
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
                self.lose(&format!("{path}.{name}"), value);
            }
            known
        });
        members.len() < before
    }

    /// Reports a member that is lost, each name once: a long conversation would fill the header.
    fn lose(&mut self, path: &str, value: &Value) {
        let name = path.rsplit('.').next().unwrap_or_default();
        let known = self.warnings.iter().any(|warning| warning.rsplit('.').next() == Some(name));
        if !known && !is_neutral(value) {
            self.warnings.push(path.to_owned());
        }
    }
}
