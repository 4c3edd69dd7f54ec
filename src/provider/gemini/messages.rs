//! The conversation: OpenAI's messages as Google's contents.
//!
//! Google knows two roles. System and developer messages move to `systemInstruction`, in their order, wherever they stood;
//! tool results become `functionResponse` parts of the user; neighbours of one role become one content.
//!
//! Signatures come back three ways, all of them given by `read`: on a call (`extra_content.google.thought_signature`,
//! Google's own form in its OpenAI-compatible API), on the text (`provider_specific_fields.thought_signature`), or in
//! `provider_specific_fields.content_parts`, which stands for the whole message.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::warnings::{Warnings, is_neutral};
use crate::api::chat::{Content, FilePart, FunctionCall, ImageUrl, InputAudio, Message, Part, Role, ToolCall};
use crate::error::{Error, ErrorKind, Result};

/// Stands for a signature that is not at hand, for calls of another model (ai.google.dev "Thought signatures", FAQ):
/// `skip_thought_signature_validator`, as the bytes that the field is made of.
const NO_SIGNATURE: &str = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=";

/// One content.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) role: &'static str,
    pub(super) parts: Vec<Value>,
}

/// The translated conversation.
#[derive(Debug)]
pub(super) struct Conversation {
    /// The parts of the instruction.
    pub(super) system: Vec<Value>,
    /// Contents; the roles alternate.
    pub(super) turns: Vec<Turn>,
    /// Call id → function name, for results, which OpenAI does not name.
    names: HashMap<String, String>,
    /// Whether the model is of the generation that wants signatures, which alone knows results that are no text.
    signed: bool,
    /// What could not be expressed.
    pub(super) warnings: Warnings,
}

/// A place in the request, as OpenAI writes it.
#[derive(Clone, Copy)]
struct At {
    provider: &'static str,
    message: usize,
    part: Option<usize>,
}

impl At {
    fn path(self, field: &str) -> String {
        match self.part {
            Some(part) => format!("messages[{}].content[{part}].{field}", self.message),
            None => format!("messages[{}].{field}", self.message),
        }
    }

    fn invalid(self, field: &str, why: &str) -> Error {
        let path = self.path(field);
        Error::invalid(path.clone(), format!("Invalid value for '{path}': {why}."))
    }

    fn unsupported(self, field: &str, what: &str) -> Error {
        let message = format!("The provider '{}' does not take {what}.", self.provider);
        Error::new(ErrorKind::UnsupportedParameter, message).with_param(self.path(field))
    }
}

impl Conversation {
    /// Translates all messages. `signed`: the model refuses calls without a signature.
    pub(super) fn translate(provider: &'static str, messages: &[Message], signed: bool) -> Result<Self> {
        let (system, turns) = (Vec::new(), Vec::with_capacity(messages.len()));
        let mut conversation = Self { system, turns, names: HashMap::new(), signed, warnings: Warnings::default() };
        for (message, said) in messages.iter().enumerate() {
            conversation.message(At { provider, message, part: None }, said)?;
        }
        // Google takes a question without words beside an instruction, but not no question.
        if conversation.turns.is_empty() {
            conversation.turns.push(Turn { role: "user", parts: vec![json!({"text": ""})] });
        }
        if signed {
            conversation.sign();
        }
        Ok(conversation)
    }

    fn message(&mut self, at: At, message: &Message) -> Result<()> {
        let Message {
            role,
            content,
            name,
            tool_calls: _,
            tool_call_id,
            function_call: _,
            refusal: _,
            audio,
            reasoning_content: _,
            extra,
        } = message;
        self.warnings.add_misplaced(at.message, message);
        self.warn_if(audio.is_some(), at, "audio");
        let known: &[&str] = match role {
            Role::Tool => &["provider_specific_fields", "is_error"],
            // What an answer was cited from says nothing new when it comes back.
            Role::Assistant => &["provider_specific_fields", "annotations"],
            _ => &["provider_specific_fields"],
        };
        self.warnings.add_unknown(&at.path(""), extra, known);
        let content = content.as_ref();
        match role {
            Role::System | Role::Developer => {
                let parts = self.content(at, content)?;
                if let Some(other) = parts.iter().position(|part| part.get("text").is_none()) {
                    let at = At { part: Some(other), ..at };
                    return Err(at.unsupported("type", "anything but text in an instruction"));
                }
                self.system.extend(parts);
            }
            Role::User => {
                let parts = match given_parts(at, extra)? {
                    Some(given) => given.clone(),
                    None => self.content(at, content)?,
                };
                self.push("user", parts);
            }
            Role::Assistant => {
                let parts = self.assistant(at, message)?;
                self.push("model", parts);
            }
            Role::Tool => {
                let id =
                    tool_call_id.as_deref().ok_or_else(|| at.invalid("tool_call_id", "a tool message needs it"))?;
                let name = self.names.get(id).cloned().or_else(|| name.clone());
                let name = name.ok_or_else(|| at.invalid("tool_call_id", "no tool call of this id came before"))?;
                let is_error = extra.get("is_error") == Some(&Value::Bool(true));
                self.result(at, Some(id), &name, content, is_error)?;
            }
            Role::Function => {
                let name = name.as_deref().ok_or_else(|| at.invalid("name", "a function message needs it"))?;
                self.result(at, None, name, content, false)?;
            }
        }
        Ok(())
    }

    fn warn_if(&mut self, lost: bool, at: At, field: &str) {
        if lost {
            self.warnings.add(&at.path(field));
        }
    }

    fn push(&mut self, role: &'static str, parts: Vec<Value>) {
        match self.turns.last_mut().filter(|turn| turn.role == role) {
            _ if parts.is_empty() => {}
            Some(turn) => turn.parts.extend(parts),
            None => self.turns.push(Turn { role, parts }),
        }
    }

    /// Reasoning first, then text, then calls: the order that Google itself answers in.
    fn assistant(&mut self, at: At, message: &Message) -> Result<Vec<Value>> {
        for ToolCall { id, function, .. } in message.tool_calls.iter().flatten() {
            self.names.insert(id.clone(), function.name.clone());
        }
        if let Some(given) = given_parts(at, &message.extra)? {
            return Ok(with_ids(given, message.tool_calls.as_deref().unwrap_or_default()));
        }
        let mut parts = Vec::new();
        if let Some(reasoning) = message.reasoning_content.as_deref().filter(|text| !text.is_empty()) {
            parts.push(json!({"text": reasoning, "thought": true}));
        }
        let mut said = self.content(at, message.content.as_ref())?;
        if let Some(refusal) = message.refusal.as_deref().filter(|text| !text.is_empty()) {
            said.push(json!({"text": refusal}));
        }
        if let Some(signature) =
            message.extra.get("provider_specific_fields").and_then(|it| it.get("thought_signature"))
        {
            if said.is_empty() {
                said.push(json!({"text": ""}));
            }
            if let Some(last) = said.last_mut().and_then(Value::as_object_mut) {
                last.insert("thoughtSignature".to_owned(), signature.clone());
            }
        }
        parts.extend(said);
        for (index, call) in message.tool_calls.iter().flatten().enumerate() {
            parts.push(self.call(at, index, call)?);
        }
        if let Some(FunctionCall { name, arguments }) = &message.function_call {
            let args = args(arguments).ok_or_else(|| at.invalid("function_call.arguments", NOT_AN_OBJECT))?;
            parts.push(json!({"functionCall": {"name": name, "args": args}}));
        }
        Ok(parts)
    }

    fn call(&mut self, at: At, index: usize, call: &ToolCall) -> Result<Value> {
        let ToolCall { id, r#type, function: FunctionCall { name, arguments }, extra } = call;
        if r#type != "function" {
            return Err(at.unsupported(&format!("tool_calls[{index}].type"), "calls of anything but functions"));
        }
        // `index` is what remains of a stream when a client sends the collected chunks back.
        let known = ["index", "extra_content", "provider_specific_fields"];
        self.warnings.add_unknown(&at.path(&format!("tool_calls[{index}].")), extra, &known);
        let args = args(arguments)
            .ok_or_else(|| at.invalid(&format!("tool_calls[{index}].function.arguments"), NOT_AN_OBJECT))?;
        let mut part = json!({"functionCall": {"id": id, "name": name, "args": args}});
        let signature = extra.get("extra_content").and_then(|it| it.pointer("/google/thought_signature"));
        let signature =
            signature.or_else(|| extra.get("provider_specific_fields").and_then(|it| it.get("thought_signature")));
        if let (Some(signature), Some(members)) = (signature, part.as_object_mut()) {
            members.insert("thoughtSignature".to_owned(), signature.clone());
        }
        Ok(part)
    }

    /// A result. Text that is a JSON object is given as that object, anything else under a name of its own. What is no text
    /// stands inside of it, or behind it for older models.
    fn result(
        &mut self,
        at: At,
        id: Option<&str>,
        name: &str,
        content: Option<&Content>,
        is_error: bool,
    ) -> Result<()> {
        let (texts, media): (Vec<Value>, Vec<Value>) =
            self.content(at, content)?.into_iter().partition(|part| part.get("text").is_some());
        let text: String = texts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
        let response = match serde_json::from_str::<Value>(&text) {
            Ok(object @ Value::Object(_)) => object,
            _ if is_error => json!({"error": text}),
            _ => json!({"result": text}),
        };
        let (inside, behind) = if self.signed { (media, Vec::new()) } else { (Vec::new(), media) };
        let mut result = json!({"name": name, "response": response});
        if let Some(members) = result.as_object_mut() {
            if let Some(id) = id {
                members.insert("id".to_owned(), id.into());
            }
            if !inside.is_empty() {
                members.insert("parts".to_owned(), inside.into());
            }
        }
        self.push("user", [vec![json!({"functionResponse": result})], behind].concat());
        Ok(())
    }

    fn content(&mut self, at: At, content: Option<&Content>) -> Result<Vec<Value>> {
        match content {
            None => Ok(Vec::new()),
            Some(Content::Text(text)) if text.is_empty() => Ok(Vec::new()),
            Some(Content::Text(text)) => Ok(vec![json!({"text": text})]),
            Some(Content::Parts(parts)) => {
                let mut made = Vec::with_capacity(parts.len());
                for (index, part) in parts.iter().enumerate() {
                    made.extend(self.part(At { part: Some(index), ..at }, part)?);
                }
                Ok(made)
            }
        }
    }

    fn part(&mut self, at: At, part: &Part) -> Result<Option<Value>> {
        let (made, extra) = match part {
            Part::Text { text, extra } => ((!text.is_empty()).then(|| json!({"text": text})), Some(extra)),
            Part::ImageUrl { image_url: ImageUrl { url, detail }, extra } => {
                self.warn_if(detail.as_deref().is_some_and(|detail| detail != "auto"), at, "image_url.detail");
                (Some(media(at, "image_url.url", url)?), Some(extra))
            }
            Part::InputAudio { input_audio: InputAudio { data, format }, extra } => {
                // `mp3` is OpenAI's word for what everybody else calls MPEG audio.
                let format = if format == "mp3" { "mpeg" } else { format };
                let mime = format!("audio/{format}");
                (Some(json!({"inlineData": {"mimeType": mime, "data": data}})), Some(extra))
            }
            Part::File { file, extra } => (Some(self.file(at, file)?), Some(extra)),
            Part::Refusal { refusal } => ((!refusal.is_empty()).then(|| json!({"text": refusal})), None),
        };
        if let Some(extra) = extra {
            self.warnings.add_unknown(&at.path(""), extra, &["videoMetadata", "mediaResolution"]);
        }
        Ok(made.map(|mut part| {
            for (name, value) in extra.into_iter().flatten().filter(|(_, value)| !is_neutral(value)) {
                if let ("videoMetadata" | "mediaResolution", Some(members)) = (name.as_str(), part.as_object_mut()) {
                    members.insert(name.clone(), value.clone());
                }
            }
            part
        }))
    }

    fn file(&mut self, at: At, file: &FilePart) -> Result<Value> {
        let FilePart { file_data, file_id, filename } = file;
        self.warn_if(filename.as_deref().is_some_and(|name| !name.is_empty()), at, "file.filename");
        if let Some(data) = file_data {
            return media(at, "file.file_data", data);
        }
        let id = file_id.as_deref().ok_or_else(|| at.invalid("file", "file_data or file_id is needed"))?;
        let uri = match id.strip_prefix("files/") {
            Some(_) => format!("{}/v1beta/{id}", super::GEMINI.base_url),
            None => id.to_owned(),
        };
        Ok(by_address(&uri))
    }

    /// Takes the ids of calls and results out again. The v1 API of Vertex AI has none ("Unknown name \"id\" at
    /// 'contents[1].parts[0].function_call'"): a result belongs to its call by name and order.
    pub(super) fn forget_ids(&mut self) {
        for part in self.turns.iter_mut().flat_map(|turn| &mut turn.parts) {
            for name in ["functionCall", "functionResponse"] {
                if let Some(members) = part.get_mut(name).and_then(Value::as_object_mut) {
                    members.remove("id");
                }
            }
        }
    }

    /// Gives calls of the current turn that lack a signature the one that is not checked: the first call of each step.
    fn sign(&mut self) {
        let asks =
            |turn: &Turn| turn.role == "user" && turn.parts.iter().any(|part| part.get("functionResponse").is_none());
        let current = self.turns.iter().rposition(asks).unwrap_or(0);
        for turn in self.turns.iter_mut().skip(current).filter(|turn| turn.role == "model") {
            let first = turn.parts.iter_mut().find(|part| part.get("functionCall").is_some());
            if let Some(part) = first.and_then(Value::as_object_mut) {
                part.entry("thoughtSignature").or_insert_with(|| NO_SIGNATURE.into());
            }
        }
    }
}

const NOT_AN_OBJECT: &str = "expected the JSON text of an object";

/// A call's arguments, if they are an object; no text at all means no arguments.
fn args(arguments: &str) -> Option<Value> {
    let text = if arguments.trim().is_empty() { "{}" } else { arguments };
    serde_json::from_str::<Value>(text).ok().filter(Value::is_object)
}

/// The parts of an earlier answer, when it held some that OpenAI has no form for; they stand for the whole message.
fn given_parts(at: At, extra: &Map<String, Value>) -> Result<Option<&Vec<Value>>> {
    let path = "provider_specific_fields.content_parts";
    let Some(value) = extra.get("provider_specific_fields").and_then(|fields| fields.get("content_parts")) else {
        return Ok(None);
    };
    let parts = value.as_array().filter(|parts| parts.iter().all(Value::is_object));
    parts.map(Some).ok_or_else(|| at.invalid(path, "expected an array of parts"))
}

/// Parts whose calls have the ids that the client knows them by, where Google gave none.
fn with_ids(parts: &[Value], calls: &[ToolCall]) -> Vec<Value> {
    let mut calls = calls.iter();
    let mut parts = parts.to_vec();
    for call in parts.iter_mut().filter_map(|part| part.get_mut("functionCall")?.as_object_mut()) {
        if let Some(known) = calls.next() {
            call.entry("id").or_insert_with(|| known.id.clone().into());
        }
    }
    parts
}

/// `data:<type>[;parameter]*;base64,<data>` as inline data, any other address as it is.
fn media(at: At, field: &str, url: &str) -> Result<Value> {
    let Some(rest) = url.strip_prefix("data:") else {
        if url.starts_with("https://") || url.starts_with("http://") || url.starts_with("gs://") {
            return Ok(by_address(url));
        }
        return Err(at.invalid(field, "expected a data: URL with base64, or an address"));
    };
    let parts = rest.split_once(',').and_then(|(head, data)| Some((head.strip_suffix(";base64")?, data)));
    let (head, data) = parts.ok_or_else(|| at.invalid(field, "expected a data: URL with base64"))?;
    let mime = head.split(';').next().filter(|mime| !mime.is_empty());
    let mime = mime.ok_or_else(|| at.invalid(field, "the data: URL names no media type"))?;
    Ok(json!({"inlineData": {"mimeType": mime, "data": data}}))
}

/// Ends of names and what they stand for.
const MIME_TYPES: &[(&str, &str)] = &[
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("webp", "image/webp"),
    ("heic", "image/heic"),
    ("gif", "image/gif"),
    ("pdf", "application/pdf"),
    ("txt", "text/plain"),
    ("mp3", "audio/mpeg"),
    ("wav", "audio/wav"),
    ("mp4", "video/mp4"),
    ("mov", "video/mov"),
    ("webm", "video/webm"),
];

/// A file by its address. Google wants the type of what it fetches; an address without a telling end goes without.
fn by_address(uri: &str) -> Value {
    let path = uri.split(['?', '#']).next().unwrap_or_default();
    let end = path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map(|(_, end)| end.to_ascii_lowercase());
    let mime = MIME_TYPES.iter().find(|(known, _)| end.as_deref() == Some(*known));
    match mime {
        Some((_, mime)) => json!({"fileData": {"mimeType": mime, "fileUri": uri}}),
        None => json!({"fileData": {"fileUri": uri}}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(messages: &Value, signed: bool) -> Result<(Value, Vec<String>)> {
        let messages: Vec<Message> = serde_json::from_value(messages.clone()).unwrap();
        let made = Conversation::translate("gemini", &messages, signed)?;
        let turns = made.turns.into_iter().map(|turn| json!({"role": turn.role, "parts": turn.parts}));
        let turns: Vec<Value> = turns.collect();
        Ok((json!({"system": made.system, "contents": turns}), made.warnings.into_names()))
    }

    #[test]
    fn a_tool_loop_names_results_and_pictures_stand_beside_them() {
        let picture = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}});
        let (made, warnings) = run(
            &json!([
                {"role": "system", "content": "S"},
                {"role": "user", "content": [{"type": "text", "text": "see"}, picture]},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "one", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
                    {"id": "two", "type": "function", "function": {"name": "g", "arguments": ""}}]},
                {"role": "tool", "tool_call_id": "two", "content": "plain"},
                {"role": "tool", "tool_call_id": "one", "content": [{"type": "text", "text": "{\"b\": 2}"}, picture]},
            ]),
            true,
        )
        .unwrap();
        let inline = json!({"inlineData": {"mimeType": "image/png", "data": "AAAA"}});
        assert_eq!(
            made,
            json!({"system": [{"text": "S"}], "contents": [
                {"role": "user", "parts": [{"text": "see"}, inline]},
                {"role": "model", "parts": [
                    {"functionCall": {"id": "one", "name": "f", "args": {"a": 1}}, "thoughtSignature": NO_SIGNATURE},
                    {"functionCall": {"id": "two", "name": "g", "args": {}}}]},
                {"role": "user", "parts": [
                    {"functionResponse": {"id": "two", "name": "g", "response": {"result": "plain"}}},
                    {"functionResponse": {"id": "one", "name": "f", "response": {"b": 2}, "parts": [inline]}}]},
            ]})
        );
        assert!(warnings.is_empty());
    }

    #[test]
    fn pictures_in_a_result_stand_behind_it_for_models_that_know_no_better() {
        let picture = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}});
        let call = json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let (made, _) = run(
            &json!([
                {"role": "user", "content": "go"},
                {"role": "assistant", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "see"}, picture]},
            ]),
            false,
        )
        .unwrap();
        let response = json!({"functionResponse": {"id": "a", "name": "f", "response": {"result": "see"}}});
        let inline = json!({"inlineData": {"mimeType": "image/png", "data": "AAAA"}});
        assert_eq!(made["contents"][2]["parts"], json!([response, inline]));
    }

    #[test]
    fn calls_of_another_model_get_the_signature_that_is_not_checked() {
        let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let talk = json!([
            {"role": "user", "content": "old"},
            {"role": "assistant", "tool_calls": [call("0")]},
            {"role": "tool", "tool_call_id": "0", "content": "x"},
            {"role": "user", "content": "new"},
            {"role": "assistant", "tool_calls": [call("1"), call("2")]},
        ]);
        let (made, _) = run(&talk, true).unwrap();
        let signature = |turn: usize, part: usize| made["contents"][turn]["parts"][part]["thoughtSignature"].clone();
        assert_eq!(signature(1, 0), Value::Null);
        assert_eq!((signature(3, 0), signature(3, 1)), (NO_SIGNATURE.into(), Value::Null));
    }

    #[test]
    fn media_come_by_data_or_by_address() {
        let (made, warnings) = run(
            &json!([{"role": "user", "content": [
                {"type": "input_audio", "input_audio": {"data": "AA", "format": "mp3"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,BB", "filename": "a.pdf"}},
                {"type": "file", "file": {"file_id": "files/x1"}},
                {"type": "image_url", "image_url": {"url": "https://x.org/a.jpg?b", "detail": "high"}},
            ]}]),
            false,
        )
        .unwrap();
        assert_eq!(
            made["contents"][0]["parts"],
            json!([
                {"inlineData": {"mimeType": "audio/mpeg", "data": "AA"}},
                {"inlineData": {"mimeType": "application/pdf", "data": "BB"}},
                {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/x1"}},
                {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://x.org/a.jpg?b"}},
            ])
        );
        assert_eq!(warnings, ["messages[0].content[1].file.filename", "messages[0].content[3].image_url.detail"]);
    }

    #[test]
    fn an_instruction_alone_is_a_question_without_words() {
        let (made, _) = run(&json!([{"role": "system", "content": "x"}]), false).unwrap();
        assert_eq!(made, json!({"system": [{"text": "x"}], "contents": [{"role": "user", "parts": [{"text": ""}]}]}));
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        let refused = |messages: Value| run(&messages, false).unwrap_err().param().unwrap().to_owned();
        assert_eq!(refused(json!([{"role": "tool", "tool_call_id": "x", "content": ""}])), "messages[0].tool_call_id");
        assert_eq!(refused(json!([{"role": "tool", "content": ""}])), "messages[0].tool_call_id");
        let image = json!({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}});
        assert_eq!(refused(json!([{"role": "user", "content": [image]}])), "messages[0].content[0].image_url.url");
        let call = json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": "[1"}});
        let talk = json!([{"role": "assistant", "tool_calls": [call]}]);
        assert_eq!(refused(talk), "messages[0].tool_calls[0].function.arguments");
    }
}
