//! The messages of a request, where a provider wants them otherwise than OpenAI: roles, names, reasoning, a schema in words.
//!
//! Invariant: messages that need no change are the very same bytes.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::OpenAi;
use crate::api::scan::Body;
use crate::error::{Error, Result};

/// The `messages` for the provider, as JSON text; `None` when they can stay. `preface` is a system message to put first.
pub(super) fn rewrite(
    dialect: &OpenAi,
    body: &Body,
    preface: Option<String>,
    warnings: &mut Vec<String>,
) -> Result<Option<String>> {
    let text = body.raw("messages").unwrap_or_default();
    if preface.is_none() && !concerns(dialect, text) {
        return Ok(None);
    }
    let list: Vec<&RawValue> = serde_json::from_str(text)
        .map_err(|_| Error::invalid("messages", "Invalid type for 'messages': expected an array of objects."))?;
    let mut changed = preface.is_some();
    let mut out = Vec::with_capacity(list.len() + 1);
    out.extend(preface);
    for (index, message) in list.into_iter().enumerate() {
        let message = Body::scan(body.bytes().slice_ref(message.get().as_bytes()))
            .map_err(|error| Error::invalid(format!("messages[{index}]"), error.message().to_owned()))?;
        let edited = one(dialect, &message, index, warnings);
        changed |= edited != message.bytes();
        out.push(String::from_utf8_lossy(&edited).into_owned());
    }
    Ok(changed.then(|| format!("[{}]", out.join(","))))
}

/// Whether one of the words that would have to change occurs at all: most requests are spared the parsing.
fn concerns(dialect: &OpenAi, text: &str) -> bool {
    let occurs = |word: &str| text.contains(&format!("\"{word}\""));
    (!dialect.developer && occurs("developer"))
        || dialect.message_unsupported.iter().any(|name| occurs(name))
        || (dialect.reasoning != STANDARD_REASONING && occurs(STANDARD_REASONING))
}

/// How most providers name the reasoning of an earlier answer, and how this gateway hands it out.
const STANDARD_REASONING: &str = "reasoning_content";

fn one(dialect: &OpenAi, message: &Body, index: usize, warnings: &mut Vec<String>) -> Bytes {
    let mut edit = message.edit();
    if !dialect.developer && message.raw("role") == Some("\"developer\"") {
        edit.set("role", "\"system\"");
    }
    for name in dialect.message_unsupported {
        if let Some(value) = message.raw(name) {
            edit.remove(name);
            // Once for each name: a long conversation would fill the header.
            let known = warnings.iter().any(|warning| warning.ends_with(&format!("].{name}")));
            if value != "null" && !known {
                warnings.push(format!("messages[{index}].{name}"));
            }
        }
    }
    if dialect.reasoning != STANDARD_REASONING
        && let Some(text) = message.raw(STANDARD_REASONING)
    {
        edit.remove(STANDARD_REASONING);
        if text != "null" && message.raw(dialect.reasoning).is_none_or(|own| own == "null") {
            edit.set(dialect.reasoning, text);
        }
    }
    edit.apply()
}
