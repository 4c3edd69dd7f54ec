//! The conversation: OpenAI's messages as Cohere's, one for one.
//!
//! Items that OpenAI has no form for (a tool's result as a document, which can be cited) are given in
//! `provider_specific_fields.content_items` of a message that is no assistant's; they stand for its whole content.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::wire::{self, Call, Function, Image, Item};
use crate::api::chat::{Content, FunctionCall, ImageUrl, Message, Part, Role, ToolCall};
use crate::error::{Error, ErrorKind, Result};
use crate::provider::citations::CITATIONS;
use crate::provider::warnings::Warnings;

/// Translates all messages.
pub(super) fn translate<'a>(messages: &'a [Message], warnings: &mut Warnings) -> Result<Vec<wire::Message<'a>>> {
    let mut conversation = Conversation { warnings, function_id: None };
    messages.iter().enumerate().map(|(index, message)| conversation.message(index, message)).collect()
}

struct Conversation<'w> {
    warnings: &'w mut Warnings,
    /// The call that a deprecated function message answers.
    function_id: Option<String>,
}

impl Conversation<'_> {
    fn message<'a>(&mut self, index: usize, message: &'a Message) -> Result<wire::Message<'a>> {
        let Message {
            role,
            content: _,
            name: _,
            tool_calls: _,
            tool_call_id,
            function_call: _,
            refusal: _,
            audio: _,
            reasoning_content: _,
            extra,
        } = message;
        let path = format!("messages[{index}]");
        self.warn_misplaced(&path, message);
        // What an answer of ours carries beside its words says nothing new when it comes back.
        let (known, fields_known): (&[&str], &[&str]) = match role {
            Role::Assistant => (
                &["thinking_blocks", "annotations", "provider_specific_fields"],
                &["usage", "finish_reason", CITATIONS],
            ),
            _ => (&["provider_specific_fields"], &["content_items"]),
        };
        self.warnings.add_unknown(&format!("{path}."), extra, known);
        if let Some(Value::Object(fields)) = extra.get("provider_specific_fields") {
            let path = format!("{path}.provider_specific_fields.");
            self.warnings.add_unknown(&path, fields, fields_known);
        }
        match role {
            Role::System | Role::Developer => self.plain("system", &path, message),
            Role::User => self.plain("user", &path, message),
            Role::Assistant => self.assistant(index, message),
            Role::Tool => {
                let missing = || invalid(&format!("{path}.tool_call_id"), "a tool message needs it");
                let id = Cow::Borrowed(tool_call_id.as_deref().ok_or_else(missing)?);
                Ok(wire::Message { tool_call_id: Some(id), ..self.plain("tool", &path, message)? })
            }
            Role::Function => {
                let missing = || invalid(&format!("{path}.role"), "no function call came before this function message");
                let id = self.function_id.clone().ok_or_else(missing)?;
                Ok(wire::Message { tool_call_id: Some(Cow::Owned(id)), ..self.plain("tool", &path, message)? })
            }
        }
    }

    /// Fields that only another role has a use for, and the name, which has no place at all.
    fn warn_misplaced(&mut self, path: &str, message: &Message) {
        let role = message.role;
        let spoken = role == Role::Assistant;
        for (field, lost) in [
            ("audio", message.audio.is_some()),
            ("name", message.name.is_some() && !matches!(role, Role::Tool | Role::Function)),
            ("tool_call_id", message.tool_call_id.is_some() && role != Role::Tool),
            ("tool_calls", message.tool_calls.is_some() && !spoken),
            ("function_call", message.function_call.is_some() && !spoken),
            ("refusal", message.refusal.is_some() && !spoken),
            ("reasoning_content", message.reasoning_content.is_some() && !spoken),
        ] {
            if lost {
                self.warnings.add(&format!("{path}.{field}"));
            }
        }
    }

    fn plain<'a>(&mut self, role: &'static str, path: &str, message: &'a Message) -> Result<wire::Message<'a>> {
        let content = match (given_items(path, &message.extra)?, &message.content) {
            (Some(items), _) => wire::Content::Given(items),
            (None, None) => wire::Content::Text(""),
            (None, Some(Content::Text(text))) => wire::Content::Text(text),
            (None, Some(Content::Parts(parts))) => wire::Content::Items(self.parts(path, parts, role == "user")?),
        };
        Ok(wire::Message { role, content: Some(content), ..wire::Message::default() })
    }

    fn assistant<'a>(&mut self, index: usize, message: &'a Message) -> Result<wire::Message<'a>> {
        let path = format!("messages[{index}]");
        let mut items = self.thinking(&path, &message.extra);
        let tool_calls = self.calls(index, message)?;
        let mut tool_plan = None;
        if let Some(rest) = beyond(&items, message.reasoning_content.as_deref().unwrap_or_default()) {
            if tool_calls.is_empty() {
                items.push(Item::Thinking { thinking: rest });
            } else {
                tool_plan = Some(rest);
            }
        }
        match &message.content {
            Some(Content::Text(text)) if !text.is_empty() => items.push(Item::Text { text }),
            Some(Content::Parts(parts)) => items.extend(self.parts(&path, parts, false)?),
            Some(Content::Text(_)) | None => {}
        }
        if let Some(text) = message.refusal.as_deref().filter(|text| !text.is_empty()) {
            items.push(Item::Text { text });
        }
        let content = match items.as_slice() {
            [] if tool_calls.is_empty() => Some(wire::Content::Text("")),
            [] => None,
            [Item::Text { text }] => Some(wire::Content::Text(text)),
            _ => Some(wire::Content::Items(items)),
        };
        Ok(wire::Message { role: "assistant", tool_call_id: None, tool_plan, content, tool_calls })
    }

    /// Thinking that an earlier answer gave; another provider's has the same form, save what it hides or signs.
    fn thinking<'a>(&mut self, path: &str, extra: &'a Map<String, Value>) -> Vec<Item<'a>> {
        let blocks = extra.get("thinking_blocks").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let items: Vec<Item<'a>> = blocks
            .iter()
            .filter_map(|block| Some(Item::Thinking { thinking: block.get("thinking")?.as_str()? }))
            .collect();
        if items.len() < blocks.len() {
            self.warnings.add(&format!("{path}.thinking_blocks"));
        }
        items
    }

    fn calls<'a>(&mut self, index: usize, message: &'a Message) -> Result<Vec<Call<'a>>> {
        let mut calls = Vec::new();
        for (at, call) in message.tool_calls.iter().flatten().enumerate() {
            let ToolCall { id, r#type, function, extra } = call;
            let path = format!("messages[{index}].tool_calls[{at}].");
            if r#type != "function" {
                return Err(unsupported(&format!("{path}type"), "calls of anything but functions"));
            }
            // `index` is what remains of a stream when a client sends the collected chunks back.
            self.warnings.add_unknown(&path, extra, &["index"]);
            calls.push(Call { id: Cow::Borrowed(id), r#type: "function", function: call_of(function) });
        }
        if let Some(function) = &message.function_call {
            let id = format!("function_call_{index}");
            self.function_id = Some(id.clone());
            calls.push(Call { id: Cow::Owned(id), r#type: "function", function: call_of(function) });
        }
        Ok(calls)
    }

    fn parts<'a>(&mut self, path: &str, parts: &'a [Part], images: bool) -> Result<Vec<Item<'a>>> {
        let mut items = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            let path = format!("{path}.content[{index}].");
            items.push(match part {
                Part::Text { text, extra } => {
                    self.warnings.add_unknown(&path, extra, &[]);
                    Item::Text { text }
                }
                Part::ImageUrl { image_url: ImageUrl { url, detail }, extra } if images => {
                    self.warnings.add_unknown(&path, extra, &[]);
                    Item::ImageUrl { image_url: Image { url, detail: detail.as_deref() } }
                }
                Part::Refusal { refusal } => Item::Text { text: refusal },
                Part::ImageUrl { .. } => {
                    return Err(unsupported(&format!("{path}image_url"), "images from anyone but the user"));
                }
                Part::InputAudio { .. } => return Err(unsupported(&format!("{path}input_audio"), "audio")),
                Part::File { .. } => return Err(unsupported(&format!("{path}file"), "files")),
            });
        }
        Ok(items)
    }
}

/// The items that a message gives in Cohere's own form.
fn given_items<'a>(path: &str, extra: &'a Map<String, Value>) -> Result<Option<&'a [Value]>> {
    let Some(value) = extra.get("provider_specific_fields").and_then(|fields| fields.get("content_items")) else {
        return Ok(None);
    };
    let items = value.as_array().filter(|items| items.iter().all(Value::is_object));
    let refuse = || invalid(&format!("{path}.provider_specific_fields.content_items"), "expected an array of items");
    items.map(|items| Some(items.as_slice())).ok_or_else(refuse)
}

/// The reasoning that the thinking blocks don't hold.
fn beyond<'a>(items: &[Item<'_>], reasoning: &'a str) -> Option<&'a str> {
    let mut rest = reasoning;
    for item in items {
        if let Item::Thinking { thinking } = item {
            rest = rest.strip_prefix(thinking).unwrap_or_default();
        }
    }
    Some(rest).filter(|rest| !rest.is_empty())
}

fn call_of(function: &FunctionCall) -> Function<'_> {
    let FunctionCall { name, arguments } = function;
    let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
    Function { name, arguments }
}

fn invalid(path: &str, why: &str) -> Error {
    Error::invalid(path.to_owned(), format!("Invalid value for '{path}': {why}."))
}

fn unsupported(path: &str, what: &str) -> Error {
    let message = format!("The provider 'cohere' does not take {what}.");
    Error::new(ErrorKind::UnsupportedParameter, message).with_param(path.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(messages: &Value) -> Result<(Value, Vec<String>)> {
        let messages: Vec<Message> = serde_json::from_value(messages.clone()).unwrap();
        let mut warnings = Warnings::default();
        let made = crate::api::literal::value(&translate(&messages, &mut warnings)?);
        Ok((made, warnings.into_names()))
    }

    fn call(id: &str) -> Value {
        json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}})
    }

    #[test]
    fn every_role_has_its_place() {
        let image = json!({"type": "image_url", "image_url": {"url": "https://x.org/a.png", "detail": "high"}});
        let (made, warnings) = run(&json!([
            {"role": "developer", "content": "be brief"},
            {"role": "user", "name": "Ann", "content": [{"type": "text", "text": "look"}, image]},
            {"role": "assistant", "content": null, "tool_calls": [call("a")]},
            {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "1"}]},
            {"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": ""}},
            {"role": "function", "name": "f", "content": "2"},
            {"role": "assistant", "content": "", "refusal": "No."},
        ]))
        .unwrap();
        let second = call("function_call_4");
        let expected = json!([
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "look"}, image]},
            {"role": "assistant", "tool_calls": [call("a")]},
            {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "1"}]},
            {"role": "assistant", "tool_calls": [second]},
            {"role": "tool", "tool_call_id": "function_call_4", "content": "2"},
            {"role": "assistant", "content": "No."},
        ]);
        assert_eq!((made, warnings), (expected, vec!["messages[1].name".to_owned()]));
    }

    #[test]
    fn a_result_in_coheres_own_form_stands_for_its_content() {
        let document = json!({"type": "document", "document": {"id": "0", "data": {"output": "5"}}});
        let result = |items: &Value| {
            json!([{"role": "tool", "tool_call_id": "a", "content": null,
                "provider_specific_fields": {"content_items": items, "other": 1}}])
        };
        let (made, warnings) = run(&result(&json!([document]))).unwrap();
        assert_eq!(made, json!([{"role": "tool", "tool_call_id": "a", "content": [document]}]));
        assert_eq!(warnings, ["messages[0].provider_specific_fields.other"]);
        let refused = run(&result(&json!("5"))).unwrap_err();
        assert_eq!(refused.param(), Some("messages[0].provider_specific_fields.content_items"));
    }

    #[test]
    fn reasoning_goes_back_to_where_it_came_from() {
        let thought = json!({"type": "thinking", "thinking": "hm. "});
        let (made, warnings) = run(&json!([
            {"role": "assistant", "reasoning_content": "I will look.", "tool_calls": [call("a")]},
            {"role": "assistant", "reasoning_content": "hm. I will look.", "thinking_blocks": [thought], "tool_calls": [call("a")]},
            {"role": "assistant", "reasoning_content": "hm. ", "content": "4"},
            {"role": "assistant", "thinking_blocks": [{"type": "redacted_thinking", "data": "x"}], "content": "4"},
        ]))
        .unwrap();
        assert_eq!((&made[0]["tool_plan"], made[0].get("content")), (&json!("I will look."), None));
        assert_eq!((&made[1]["tool_plan"], &made[1]["content"]), (&json!("I will look."), &json!([thought])));
        assert_eq!(made[2]["content"], json!([thought, {"type": "text", "text": "4"}]));
        assert_eq!(made[3]["content"], "4");
        assert_eq!(warnings, ["messages[3].thinking_blocks"]);
    }

    #[test]
    fn what_an_answer_was_cited_from_says_nothing_new_when_it_comes_back() {
        let citation = json!({"start": 0, "end": 1, "sources": [{"type": "document", "id": "d"}], "index": 0});
        let fields = json!({"usage": {"tokens": {}}, "citations": [citation]});
        let (made, warnings) =
            run(&json!([{"role": "assistant", "content": "4", "provider_specific_fields": fields}])).unwrap();
        assert_eq!((made, warnings), (json!([{"role": "assistant", "content": "4"}]), vec![]));
    }

    #[test]
    fn what_cohere_can_not_take_is_refused_by_name() {
        let refused = |message: Value| {
            let error = run(&json!([message])).unwrap_err();
            (error.kind(), error.param().unwrap().to_owned())
        };
        let part = |part: Value| json!({"role": "user", "content": [part]});
        let audio = part(json!({"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}));
        assert_eq!(refused(audio), (ErrorKind::UnsupportedParameter, "messages[0].content[0].input_audio".to_owned()));
        let file = part(json!({"type": "file", "file": {"file_id": "f"}}));
        assert_eq!(refused(file), (ErrorKind::UnsupportedParameter, "messages[0].content[0].file".to_owned()));
        let image =
            json!({"role": "tool", "tool_call_id": "a", "content": [{"type": "image_url", "image_url": {"url": "x"}}]});
        assert_eq!(refused(image), (ErrorKind::UnsupportedParameter, "messages[0].content[0].image_url".to_owned()));
        let lonely = json!({"role": "tool", "content": "1"});
        assert_eq!(refused(lonely), (ErrorKind::InvalidRequest, "messages[0].tool_call_id".to_owned()));
    }
}
