//! The conversation: OpenAI's messages as Ollama's, one for one and in their order.
//!
//! Ollama's content is one text beside a list of images: the text parts of a message are joined by line ends.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::value::RawValue;

use super::wire::{Call, CalledFunction, Message};
use crate::api::chat::{self, Content, FunctionCall, ImageUrl, Part, Role, ToolCall};
use crate::error::{Error, ErrorKind, Result};
use crate::provider::warnings::Warnings;

/// The translated conversation.
#[derive(Debug, Default)]
pub(super) struct Conversation<'a> {
    pub(super) messages: Vec<Message<'a>>,
    /// The functions that were called, by the ids of the calls.
    names: HashMap<&'a str, &'a str>,
    /// What could not be expressed.
    pub(super) warnings: Warnings,
}

/// What a content becomes.
#[derive(Default)]
struct Said<'a> {
    text: Cow<'a, str>,
    images: Vec<&'a str>,
}

impl<'a> Conversation<'a> {
    /// Translates all messages.
    pub(super) fn translate(messages: &'a [chat::Message]) -> Result<Self> {
        let mut conversation = Self::default();
        for (index, message) in messages.iter().enumerate() {
            let translated = conversation.message(&format!("messages[{index}]"), message)?;
            conversation.messages.push(translated);
        }
        Ok(conversation)
    }

    fn message(&mut self, at: &str, message: &'a chat::Message) -> Result<Message<'a>> {
        let chat::Message {
            role,
            content,
            name,
            tool_calls,
            tool_call_id,
            function_call,
            refusal,
            audio,
            reasoning_content,
            extra,
        } = message;
        self.warnings.add_unknown(&format!("{at}."), extra, &[]);
        self.warn_if(audio.is_some(), at, "audio");
        let result = matches!(role, Role::Tool | Role::Function);
        self.warn_if(name.is_some() && !result, at, "name");
        self.warn_if(tool_call_id.is_some() && *role != Role::Tool, at, "tool_call_id");
        let mut said = self.content(at, content.as_ref())?;
        if let Some(refusal) = refusal.as_deref().filter(|refusal| !refusal.is_empty()) {
            join(&mut said.text, refusal);
        }
        let mut calls = Vec::new();
        for (index, call) in tool_calls.iter().flatten().enumerate() {
            calls.push(self.call(&format!("{at}.tool_calls[{index}]"), call)?);
        }
        if let Some(function) = function_call {
            calls.push(called(&format!("{at}.function_call"), None, function)?);
        }
        let tool_call_id = tool_call_id.as_deref().filter(|_| *role == Role::Tool);
        let tool_name = name.as_deref().or_else(|| self.names.get(tool_call_id?).copied());
        Ok(Message {
            role: role_name(*role),
            content: said.text,
            thinking: reasoning_content.as_deref().filter(|text| !text.is_empty()),
            images: said.images,
            tool_calls: calls,
            tool_name: tool_name.filter(|_| result),
            tool_call_id,
        })
    }

    fn call(&mut self, at: &str, call: &'a ToolCall) -> Result<Call<'a>> {
        let ToolCall { id, r#type, function, extra } = call;
        if r#type != "function" {
            return Err(unsupported(&format!("{at}.type"), "calls of anything but functions"));
        }
        // `index` is what remains of a stream when a client sends the collected chunks back.
        self.warnings.add_unknown(&format!("{at}."), extra, &["index"]);
        self.names.insert(id, &function.name);
        called(&format!("{at}.function"), Some(id), function)
    }

    fn content(&mut self, at: &str, content: Option<&'a Content>) -> Result<Said<'a>> {
        let mut said = Said::default();
        match content {
            None => {}
            Some(Content::Text(text)) => said.text = Cow::Borrowed(text),
            Some(Content::Parts(parts)) => {
                for (index, part) in parts.iter().enumerate() {
                    self.part(&format!("{at}.content[{index}]"), part, &mut said)?;
                }
            }
        }
        Ok(said)
    }

    fn part(&mut self, at: &str, part: &'a Part, said: &mut Said<'a>) -> Result<()> {
        match part {
            Part::Text { text, extra } => {
                self.warnings.add_unknown(&format!("{at}."), extra, &[]);
                join(&mut said.text, text);
            }
            Part::ImageUrl { image_url: ImageUrl { url, detail }, extra } => {
                self.warnings.add_unknown(&format!("{at}."), extra, &[]);
                self.warn_if(detail.as_deref().is_some_and(|detail| detail != "auto"), at, "image_url.detail");
                said.images.push(image(&format!("{at}.image_url.url"), url)?);
            }
            Part::InputAudio { .. } => return Err(unsupported(&format!("{at}.input_audio"), "audio")),
            Part::File { .. } => return Err(unsupported(&format!("{at}.file"), "documents")),
            Part::Refusal { refusal } => join(&mut said.text, refusal),
        }
        Ok(())
    }

    fn warn_if(&mut self, lost: bool, at: &str, field: &str) {
        if lost {
            self.warnings.add(&format!("{at}.{field}"));
        }
    }
}

const fn role_name(role: Role) -> &'static str {
    match role {
        Role::System | Role::Developer => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool | Role::Function => "tool",
    }
}

fn join<'a>(text: &mut Cow<'a, str>, more: &'a str) {
    if text.is_empty() {
        *text = Cow::Borrowed(more);
    } else {
        let text = text.to_mut();
        text.push('\n');
        text.push_str(more);
    }
}

/// A call with its arguments as the object that Ollama wants them to be.
fn called<'a>(at: &str, id: Option<&'a str>, function: &'a FunctionCall) -> Result<Call<'a>> {
    let FunctionCall { name, arguments } = function;
    let text = if arguments.trim().is_empty() { "{}" } else { arguments.as_str() };
    let object = serde_json::from_str::<&RawValue>(text).ok().filter(|raw| raw.get().starts_with('{'));
    let arguments = object.ok_or_else(|| {
        let param = format!("{at}.arguments");
        let message = format!("Invalid value for '{param}': expected the JSON text of an object.");
        Error::invalid(param, message)
    })?;
    Ok(Call { id, r#type: "function", function: CalledFunction { name, arguments } })
}

/// The base64 of a `data:` URL. Ollama fetches nothing.
fn image<'a>(param: &str, url: &'a str) -> Result<&'a str> {
    let scheme = |scheme: &str| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    if scheme("http://") || scheme("https://") {
        return Err(unsupported(param, "images by address, only data: URLs with base64"));
    }
    let data = url.split_once(',').filter(|(head, _)| scheme("data:") && head.trim_end().ends_with("base64"));
    let refused = || Error::invalid(param, format!("Invalid value for '{param}': expected a data: URL with base64."));
    data.map(|(_, data)| data).ok_or_else(refused)
}

fn unsupported(param: &str, what: &str) -> Error {
    let message = format!("The provider 'ollama' does not take {what}.");
    Error::new(ErrorKind::UnsupportedParameter, message).with_param(param)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn run(messages: &Value) -> Result<(Value, Vec<String>)> {
        let messages: Vec<chat::Message> = serde_json::from_value(messages.clone()).unwrap();
        let done = Conversation::translate(&messages)?;
        Ok((crate::api::literal::value(&done.messages), done.warnings.into_names()))
    }

    #[test]
    fn a_tool_loop_keeps_its_reasoning_its_calls_and_the_names_of_its_results() {
        let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}});
        let (got, warnings) = run(&json!([
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": null, "reasoning_content": "hm",
             "tool_calls": [call("a", "{\"x\":1.0}"), call("b", "")]},
            {"role": "tool", "tool_call_id": "a", "content": "1"},
            {"role": "tool", "tool_call_id": "b", "name": "g", "content": [{"type": "text", "text": "2"}]},
        ]))
        .unwrap();
        let call = |id: &str, arguments: Value| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}});
        assert_eq!(
            got,
            json!([
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": "go"},
                {"role": "assistant", "content": "", "thinking": "hm",
                 "tool_calls": [call("a", json!({"x": 1.0})), call("b", json!({}))]},
                {"role": "tool", "content": "1", "tool_name": "f", "tool_call_id": "a"},
                {"role": "tool", "content": "2", "tool_name": "g", "tool_call_id": "b"},
            ])
        );
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn deprecated_calls_and_results_are_calls_and_results() {
        let (got, _) = run(&json!([
            {"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "1"},
        ]))
        .unwrap();
        assert_eq!(got[0]["tool_calls"], json!([{"type": "function", "function": {"name": "f", "arguments": {}}}]));
        assert_eq!(got[1], json!({"role": "tool", "content": "1", "tool_name": "f"}));
    }

    #[test]
    fn parts_become_one_text_and_a_list_of_images() {
        let (got, warnings) = run(&json!([{"role": "user", "name": "bob", "content": [
            {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
            {"type": "text", "text": "b"},
        ]}]))
        .unwrap();
        assert_eq!(got, json!([{"role": "user", "content": "a\nb", "images": ["AAAA"]}]));
        let lost =
            ["messages[0].name", "messages[0].content[0].cache_control", "messages[0].content[1].image_url.detail"];
        assert_eq!(warnings, lost);
    }

    #[test]
    fn what_cant_be_said_is_refused_by_its_place() {
        use ErrorKind::{InvalidRequest, UnsupportedParameter};
        let refused = |message: Value| {
            let error = run(&json!([message])).unwrap_err();
            (error.kind(), error.param().unwrap().to_owned())
        };
        let part = |part: Value| refused(json!({"role": "user", "content": [part]}));
        let image = |url: &str| part(json!({"type": "image_url", "image_url": {"url": url}}));
        let place = |kind: ErrorKind, place: &str| (kind, format!("messages[0].{place}"));
        assert_eq!(image("https://x.org/a.png"), place(UnsupportedParameter, "content[0].image_url.url"));
        assert_eq!(image("file:///etc/passwd"), place(InvalidRequest, "content[0].image_url.url"));
        assert_eq!(image("data:image/png,AAAA"), place(InvalidRequest, "content[0].image_url.url"));
        let audio = json!({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}});
        assert_eq!(part(audio), place(UnsupportedParameter, "content[0].input_audio"));
        let file = json!({"type": "file", "file": {"file_id": "f"}});
        assert_eq!(part(file), place(UnsupportedParameter, "content[0].file"));
        let call = |arguments: &str| {
            let function = json!({"name": "f", "arguments": arguments});
            refused(json!({"role": "assistant", "tool_calls": [{"id": "a", "function": function}]}))
        };
        assert_eq!(call("{\"cut"), place(InvalidRequest, "tool_calls[0].function.arguments"));
        assert_eq!(call("[1]"), place(InvalidRequest, "tool_calls[0].function.arguments"));
    }
}
