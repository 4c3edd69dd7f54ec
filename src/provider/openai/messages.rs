//! The messages of a request, where a provider wants them otherwise than OpenAI: roles, names, reasoning, a schema in words.
//!
//! Invariant: messages that need no change are the very same bytes.

use std::borrow::Cow;

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
    let mut out = Vec::with_capacity(list.len() + 1);
    out.extend(preface);
    for (index, message) in list.into_iter().enumerate() {
        let message = Body::scan(body.bytes().slice_ref(message.get().as_bytes()))
            .map_err(|error| Error::invalid(format!("messages[{index}]"), error.message().to_owned()))?;
        let edited = one(dialect, &message, index, warnings)?;
        out.push(String::from_utf8_lossy(&edited).into_owned());
    }
    Ok(Some(format!("[{}]", out.join(","))))
}

/// Whether one of the words that would have to change occurs at all: most requests are spared the parsing.
fn concerns(dialect: &OpenAi, text: &str) -> bool {
    let occurs = |word: &str| text.contains(&format!("\"{word}\""));
    let strangers = || [MESSAGE_STRANGERS, CALL_STRANGERS, PART_STRANGERS].into_iter().flatten();
    (!dialect.developer && occurs("developer"))
        || (dialect.exacting && strangers().any(|name| occurs(name)))
        || dialect.message_unsupported.iter().any(|name| occurs(name))
        || (dialect.reasoning != STANDARD_REASONING && occurs(STANDARD_REASONING))
}

/// What this gateway hands out, or other providers take, and OpenAI does not know: in a message, its calls, its parts.
const MESSAGE_STRANGERS: &[&str] =
    &["cache_control", "is_error", "provider_specific_fields", STANDARD_REASONING, "thinking_blocks"];
const CALL_STRANGERS: &[&str] = &["cache_control", "extra_content", "provider_specific_fields"];
const PART_STRANGERS: &[&str] = &["cache_control"];

/// How most providers name the reasoning of an earlier answer, and how this gateway hands it out.
const STANDARD_REASONING: &str = "reasoning_content";

fn one(dialect: &OpenAi, message: &Body, index: usize, warnings: &mut Vec<String>) -> Result<Bytes> {
    let mut edit = message.edit();
    if !dialect.developer && message.raw("role") == Some("\"developer\"") {
        edit.set("role", "\"system\"");
    }
    let strangers: &[&str] = if dialect.exacting { MESSAGE_STRANGERS } else { &[] };
    for name in dialect.message_unsupported.iter().chain(strangers) {
        if let Some(value) = message.raw(name) {
            edit.remove(name);
            note(value, &format!("messages[{index}]"), name, warnings);
        }
    }
    if dialect.exacting {
        for (list, strangers) in [("tool_calls", CALL_STRANGERS), ("content", PART_STRANGERS)] {
            if let Some(left) = without(message, list, strangers, &format!("messages[{index}].{list}"), warnings)? {
                edit.set(list, left);
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
    Ok(edit.apply())
}

/// Names what was taken out. Once for each name: a long conversation would fill the header.
fn note(value: &str, path: &str, name: &str, warnings: &mut Vec<String>) {
    let known = warnings.iter().any(|warning| warning.ends_with(&format!("].{name}")));
    if value != "null" && !known {
        warnings.push(format!("{path}.{name}"));
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
            let item = Body::scan(holder.bytes().slice_ref(item.get().as_bytes()))?;
            let mut edit = item.edit();
            for name in members {
                if let Some(value) = item.raw(name) {
                    edit.remove(name);
                    changed = true;
                    note(value, &format!("{path}[{index}]"), name, warnings);
                }
            }
            text = String::from_utf8_lossy(&edit.apply()).into_owned().into();
        }
        left.push(text);
    }
    Ok(changed.then(|| format!("[{}]", left.join(","))))
}
