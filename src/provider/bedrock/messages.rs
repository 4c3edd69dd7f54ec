//! The conversation: OpenAI's messages as Converse's turns.
//!
//! Converse knows two roles that alternate. System and developer messages move to the top-level `system`, in their order,
//! wherever they stood; tool results become blocks of a user turn; neighbours of one role become one turn. An empty text is
//! left out, because Converse refuses it, and so is a message of which nothing remains but white space. A `cache_control` becomes a
//! cache point behind what carries it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value};

use super::thinking;
use super::wire::{Block, Bytes, CachePoint, Media, Speaker, Turn};
use crate::api::chat::{Content, FilePart, FunctionCall, ImageUrl, Message, Part, Role, ToolCall};
use crate::error::{Error, ErrorKind, Result};
use crate::provider::anthropic::messages::{DataUrl, NOT_AN_OBJECT, data_url, image_type, input};
use crate::provider::warnings::{Warnings, is_neutral};

/// What a document may carry under Converse's own names.
const DOCUMENT_FIELDS: &[&str] = &["citations", "context"];
const MESSAGE_FIELDS: &[&str] = &["cache_control", "thinking_blocks", "provider_specific_fields"];

/// The translated conversation.
#[derive(Debug, Default)]
pub(super) struct Conversation<'a> {
    /// Instructions.
    pub(super) system: Vec<Block<'a>>,
    /// Turns; the roles alternate.
    pub(super) turns: Vec<Turn<'a>>,
    /// The names of the functions that were called, each once.
    pub(super) called: Vec<&'a str>,
    /// The names of the documents, which must differ.
    documents: HashSet<String>,
    /// The call that a deprecated function message answers.
    function_id: Option<String>,
    /// What could not be expressed.
    pub(super) warnings: Warnings,
}

/// A place in the request, as OpenAI writes it.
#[derive(Clone, Copy)]
struct At {
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
        let message = format!("The provider 'bedrock' does not take {what}.");
        Error::new(ErrorKind::UnsupportedParameter, message).with_param(self.path(field))
    }
}

impl<'a> Conversation<'a> {
    /// Translates all messages.
    pub(super) fn translate(messages: &'a [Message]) -> Result<Self> {
        let mut conversation = Self::default();
        for (index, message) in messages.iter().enumerate() {
            conversation.message(At { message: index, part: None }, message)?;
        }
        if conversation.turns.is_empty() {
            let message = "The provider 'bedrock' needs at least one message that is neither empty nor an instruction.";
            return Err(Error::new(ErrorKind::UnsupportedParameter, message).with_param("messages"));
        }
        Ok(conversation)
    }

    /// Takes all cache points out; whether there were any.
    pub(super) fn unmark(&mut self) -> bool {
        let is_point = |block: &Block<'_>| matches!(block, Block::CachePoint(_));
        let lists = self.turns.iter_mut().map(|turn| &mut turn.content).chain([&mut self.system]);
        lists.fold(false, |found, blocks| {
            let marked = blocks.iter().any(is_point);
            blocks.retain(|block| !is_point(block));
            found || marked
        })
    }

    /// Whether any turn holds a call or a result.
    pub(super) fn uses_tools(&self) -> bool {
        self.turns.iter().flat_map(|turn| &turn.content).any(Block::is_about_tools)
    }

    /// Whether the tool loop that is under way began without the reasoning that led to it: a loop counts as one turn, which
    /// must begin with its reasoning where there is to be any.
    pub(super) fn lacks_thinking(&self) -> bool {
        let asks = |turn: &Turn<'_>| turn.role == Speaker::User && !turn.content.iter().any(Block::is_about_tools);
        let asked = self.turns.iter().rposition(asks).unwrap_or(0);
        let first = self.turns.iter().skip(asked).find(|turn| turn.role == Speaker::Assistant);
        first.is_some_and(|turn| {
            turn.content.iter().any(Block::is_tool_use) && !turn.content.first().is_some_and(Block::is_reasoning)
        })
    }

    fn message(&mut self, at: At, message: &'a Message) -> Result<()> {
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
        let mut known = MESSAGE_FIELDS.to_vec();
        match role {
            Role::Tool => known.push("is_error"),
            // What an answer was cited from says nothing new when it comes back.
            Role::Assistant => known.push("annotations"),
            _ => {}
        }
        self.warnings.add_unknown(&at.path(""), extra, &known);
        let content = content.as_ref();
        let mut blocks = match role {
            Role::System | Role::Developer => self.instruction(at, content)?,
            Role::User => match given_blocks(at, extra)? {
                Some(given) => given,
                None => self.content(at, content)?,
            },
            Role::Assistant => self.assistant(at, message)?,
            Role::Tool => {
                let id = tool_call_id.as_deref();
                let id = id.ok_or_else(|| at.invalid("tool_call_id", "a tool message needs it"))?;
                match given_blocks(at, extra)? {
                    Some(given) => given,
                    None => self.result(at, tool_id(id), content, extra)?,
                }
            }
            Role::Function => {
                let id = self.function_id.clone();
                let id = id.ok_or_else(|| at.invalid("role", "no function call came before this function message"))?;
                self.warn_if(name.is_none(), at, "name");
                self.result(at, Cow::Owned(id), content, extra)?
            }
        };
        if !blocks.is_empty() {
            mark(&mut blocks, extra);
        }
        match role {
            Role::System | Role::Developer => self.system.extend(blocks),
            Role::Assistant => self.push(Speaker::Assistant, blocks),
            Role::User | Role::Tool | Role::Function => self.push(Speaker::User, blocks),
        }
        Ok(())
    }

    fn warn_if(&mut self, lost: bool, at: At, field: &str) {
        if lost {
            self.warnings.add(&at.path(field));
        }
    }

    fn push(&mut self, role: Speaker, blocks: Vec<Block<'a>>) {
        match self.turns.last_mut().filter(|turn| turn.role == role) {
            _ if blocks.iter().all(Block::is_blank) => {}
            Some(turn) => turn.content.extend(blocks),
            None => self.turns.push(Turn { role, content: blocks }),
        }
    }

    fn instruction(&mut self, at: At, content: Option<&'a Content>) -> Result<Vec<Block<'a>>> {
        let blocks = self.content(at, content)?;
        if blocks.iter().any(|block| !matches!(block, Block::Text(_) | Block::CachePoint(_))) {
            return Err(at.unsupported("content", "anything but text in an instruction"));
        }
        Ok(blocks)
    }

    /// Reasoning first, then text, then calls: the order in which models answer.
    fn assistant(&mut self, at: At, message: &'a Message) -> Result<Vec<Block<'a>>> {
        if let Some(given) = given_blocks(at, &message.extra)? {
            return Ok(given);
        }
        let mut blocks = thinking_blocks(at, &message.extra)?;
        let reasoning = message.reasoning_content.as_deref().unwrap_or_default();
        self.warn_if(blocks.is_empty() && !reasoning.is_empty(), at, "reasoning_content");
        blocks.extend(self.content(at, message.content.as_ref())?);
        blocks.extend(text_block(message.refusal.as_deref().unwrap_or_default()));
        for (index, call) in message.tool_calls.iter().flatten().enumerate() {
            blocks.push(self.tool_use(at, index, call)?);
            mark(&mut blocks, &call.extra);
        }
        if let Some(FunctionCall { name, arguments }) = &message.function_call {
            let id = format!("function_call_{}", at.message);
            self.function_id = Some(id.clone());
            let input = input(arguments).ok_or_else(|| at.invalid("function_call.arguments", NOT_AN_OBJECT))?;
            self.remember(name);
            blocks.push(Block::ToolUse { tool_use_id: Cow::Owned(id), name, input });
        }
        Ok(blocks)
    }

    fn tool_use(&mut self, at: At, index: usize, call: &'a ToolCall) -> Result<Block<'a>> {
        let ToolCall { id, r#type, function: FunctionCall { name, arguments }, extra } = call;
        if r#type != "function" {
            return Err(at.unsupported(&format!("tool_calls[{index}].type"), "calls of anything but functions"));
        }
        // `index` is what remains of a stream when a client sends the collected chunks back.
        self.warnings.add_unknown(&at.path(&format!("tool_calls[{index}].")), extra, &["cache_control", "index"]);
        let input = input(arguments)
            .ok_or_else(|| at.invalid(&format!("tool_calls[{index}].function.arguments"), NOT_AN_OBJECT))?;
        self.remember(name);
        Ok(Block::ToolUse { tool_use_id: tool_id(id), name, input })
    }

    fn remember(&mut self, name: &'a str) {
        if !self.called.contains(&name) {
            self.called.push(name);
        }
    }

    /// A result; a cache point can't stand inside it and goes behind it.
    fn result(
        &mut self,
        at: At,
        tool_use_id: Cow<'a, str>,
        content: Option<&'a Content>,
        extra: &Map<String, Value>,
    ) -> Result<Vec<Block<'a>>> {
        let is_point = |block: &Block<'_>| matches!(block, Block::CachePoint(_));
        let (points, content): (Vec<_>, Vec<_>) = self.content(at, content)?.into_iter().partition(is_point);
        let failed = extra.get("is_error").and_then(Value::as_bool) == Some(true);
        let mut blocks = vec![Block::ToolResult { tool_use_id, content, status: failed.then_some("error") }];
        blocks.extend(points.into_iter().next_back());
        Ok(blocks)
    }

    fn content(&mut self, at: At, content: Option<&'a Content>) -> Result<Vec<Block<'a>>> {
        let mut blocks = Vec::new();
        match content {
            None => {}
            Some(Content::Text(text)) => blocks.extend(text_block(text)),
            Some(Content::Parts(parts)) => {
                for (index, part) in parts.iter().enumerate() {
                    self.part(At { part: Some(index), ..at }, part, &mut blocks)?;
                }
            }
        }
        Ok(blocks)
    }

    fn part(&mut self, at: At, part: &'a Part, blocks: &mut Vec<Block<'a>>) -> Result<()> {
        let known = |fields: &[&'static str]| [&["cache_control", "prompt_cache_breakpoint"], fields].concat();
        let extra = match part {
            Part::Text { text, extra } => {
                self.warnings.add_unknown(&at.path(""), extra, &known(&[]));
                blocks.extend(text_block(text));
                extra
            }
            Part::ImageUrl { image_url: ImageUrl { url, detail }, extra } => {
                self.warnings.add_unknown(&at.path(""), extra, &known(&[]));
                self.warn_if(detail.as_deref().is_some_and(|detail| detail != "auto"), at, "image_url.detail");
                blocks.push(image(at, url)?);
                extra
            }
            Part::InputAudio { .. } => return Err(at.unsupported("input_audio", "audio")),
            Part::File { file, extra } => {
                self.warnings.add_unknown(&at.path(""), extra, &known(DOCUMENT_FIELDS));
                blocks.push(self.file(at, file, extra)?);
                extra
            }
            Part::Refusal { refusal } => {
                blocks.extend(text_block(refusal));
                return Ok(());
            }
        };
        mark(blocks, extra);
        Ok(())
    }

    fn file(&mut self, at: At, file: &'a FilePart, extra: &'a Map<String, Value>) -> Result<Block<'a>> {
        let FilePart { file_data, file_id, filename } = file;
        let Some(data) = file_data else {
            return match file_id {
                Some(_) => Err(at.unsupported("file.file_id", "uploaded files")),
                None => Err(at.invalid("file", "file_data is needed")),
            };
        };
        let why = "expected a data: URL with base64";
        let DataUrl { media_type, data } = data_url(data).ok_or_else(|| at.invalid("file.file_data", why))?;
        if let Some(format) = image_format(media_type) {
            return Ok(Block::Image(media(format, data)));
        }
        if let Some(format) = video_format(media_type) {
            return Ok(Block::Video(media(format, data)));
        }
        let format = document_format(media_type);
        let format = format.ok_or_else(|| at.unsupported("file.file_data", "files of this media type"))?;
        let native =
            extra.iter().filter(|(name, value)| DOCUMENT_FIELDS.contains(&name.as_str()) && !is_neutral(value));
        let native: BTreeMap<_, _> = native.map(|(name, value)| (name.as_str(), value)).collect();
        let name = Some(self.document_name(filename.as_deref()));
        Ok(Block::Document(Media { name, native, ..media(format, data) }))
    }

    /// Letters, digits, single spaces, hyphens, parentheses and brackets, and no name twice.
    fn document_name(&mut self, filename: Option<&str>) -> String {
        let stem = filename.map(|name| name.rsplit_once('.').map_or(name, |(stem, _)| stem)).unwrap_or_default();
        let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '(' | ')' | '[' | ']');
        let mapped: String = stem.chars().map(|letter| if fits(letter) { letter } else { ' ' }).collect();
        let words: Vec<&str> = mapped.split_whitespace().collect();
        let base: String = if words.is_empty() { "Document".to_owned() } else { words.join(" ") };
        let base: String = base.chars().take(180).collect();
        let mut name = base.clone();
        let mut number = 1_u64;
        while !self.documents.insert(name.clone()) {
            number += 1;
            name = format!("{base} {number}");
        }
        name
    }
}

/// A text, unless it is empty.
fn text_block(text: &str) -> Option<Block<'_>> {
    (!text.is_empty()).then(|| Block::Text(text.into()))
}

fn media<'a>(format: &'static str, bytes: &'a str) -> Media<'a> {
    Media { format, name: None, source: Bytes { bytes }, native: BTreeMap::new() }
}

fn image<'a>(at: At, url: &'a str) -> Result<Block<'a>> {
    if url.starts_with("https://") || url.starts_with("http://") {
        return Err(at.unsupported("image_url.url", "images by address; send a data: URL"));
    }
    let why = "expected a data: URL with base64";
    let DataUrl { media_type, data } = data_url(url).ok_or_else(|| at.invalid("image_url.url", why))?;
    let format = image_format(media_type);
    let format = format.ok_or_else(|| at.unsupported("image_url.url", "images of this media type"))?;
    Ok(Block::Image(media(format, data)))
}

fn image_format(media_type: &str) -> Option<&'static str> {
    match image_type(media_type) {
        "image/png" => Some("png"),
        "image/jpeg" => Some("jpeg"),
        "image/gif" => Some("gif"),
        "image/webp" => Some("webp"),
        _ => None,
    }
}

fn video_format(media_type: &str) -> Option<&'static str> {
    match media_type {
        "video/mp4" => Some("mp4"),
        "video/quicktime" => Some("mov"),
        "video/webm" => Some("webm"),
        "video/x-matroska" | "video/matroska" => Some("mkv"),
        "video/x-flv" => Some("flv"),
        "video/mpeg" => Some("mpeg"),
        "video/x-ms-wmv" => Some("wmv"),
        "video/3gpp" => Some("three_gp"),
        _ => None,
    }
}

fn document_format(media_type: &str) -> Option<&'static str> {
    match media_type {
        "application/pdf" => Some("pdf"),
        "application/msword" => Some("doc"),
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => Some("docx"),
        "application/vnd.ms-excel" => Some("xls"),
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => Some("xlsx"),
        "text/csv" => Some("csv"),
        "text/html" => Some("html"),
        "text/markdown" | "text/x-markdown" => Some("md"),
        _ => media_type.starts_with("text/").then_some("txt"),
    }
}

/// Puts the cache point that these members ask for behind what they belong to.
fn mark(blocks: &mut Vec<Block<'_>>, members: &Map<String, Value>) {
    if !matches!(blocks.last(), None | Some(Block::CachePoint(_))) {
        blocks.extend(CachePoint::read(members).map(Block::CachePoint));
    }
}

/// Converse takes letters, digits and `_.:-`, and 64 of them; other providers' ids may hold more. Call and result change alike.
fn tool_id(id: &str) -> Cow<'_, str> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.' | ':');
    if id.len() <= 64 && id.chars().all(fits) {
        return Cow::Borrowed(id);
    }
    // The end of a long id differs more than its beginning.
    let letters: Vec<char> = id.chars().map(|letter| if fits(letter) { letter } else { '_' }).collect();
    Cow::Owned(letters.iter().skip(letters.len().saturating_sub(64)).collect())
}

/// Blocks in Converse's own form; they stand for the whole message.
fn given_blocks(at: At, extra: &Map<String, Value>) -> Result<Option<Vec<Block<'_>>>> {
    let path = "provider_specific_fields.converse_blocks";
    let Some(value) = extra.get("provider_specific_fields").and_then(|fields| fields.get("converse_blocks")) else {
        return Ok(None);
    };
    let object = |block| Value::is_object(block).then_some(Block::Given(block));
    let blocks = value.as_array().and_then(|blocks| blocks.iter().map(object).collect());
    blocks.map(Some).ok_or_else(|| at.invalid(path, "expected an array of blocks"))
}

fn thinking_blocks<'a>(at: At, extra: &Map<String, Value>) -> Result<Vec<Block<'a>>> {
    let refuse = || at.invalid("thinking_blocks", "expected an array of thinking and redacted_thinking blocks");
    let Some(value) = extra.get("thinking_blocks").filter(|value| !value.is_null()) else {
        return Ok(Vec::new());
    };
    let blocks = value.as_array().ok_or_else(refuse)?.iter();
    blocks.map(|block| thinking::to_converse(block).map(Block::ReasoningContent).ok_or_else(refuse)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(messages: &Value) -> Result<(Value, Value, Vec<String>)> {
        let messages: Vec<Message> = serde_json::from_value(messages.clone()).unwrap();
        let done = Conversation::translate(&messages)?;
        let (system, turns) = (crate::api::literal::value(&done.system), crate::api::literal::value(&done.turns));
        Ok((system, turns, done.warnings.into_names()))
    }

    fn refused(messages: &Value) -> (ErrorKind, String) {
        let error = run(messages).unwrap_err();
        (error.kind(), error.param().unwrap().to_owned())
    }

    fn parts(parts: &Value) -> Value {
        json!([{"role": "user", "content": parts}])
    }

    #[test]
    fn roles_alternate_instructions_move_to_the_top_and_cache_points_stand_behind() {
        let mark = json!({"type": "ephemeral", "ttl": "1h"});
        let (system, turns, warnings) = run(&json!([
            {"role": "system", "content": "one"},
            {"role": "user", "content": "a"},
            {"role": "developer", "content": [{"type": "text", "text": "two", "cache_control": mark}]},
            {"role": "user", "content": ""},
            {"role": "user", "content": "b", "cache_control": {"type": "ephemeral"}},
            {"role": "assistant", "content": null},
            {"role": "assistant", "content": "c", "refusal": "d"},
        ]))
        .unwrap();
        let point = json!({"cachePoint": {"type": "default", "ttl": "1h"}});
        assert_eq!(system, json!([{"text": "one"}, {"text": "two"}, point]));
        let user = json!([{"text": "a"}, {"text": "b"}, {"cachePoint": {"type": "default"}}]);
        let assistant = json!([{"text": "c"}, {"text": "d"}]);
        let expected = json!([{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]);
        assert_eq!((turns, warnings), (expected, vec![]));
    }

    #[test]
    fn calls_and_results_keep_their_ids_and_a_failure_is_said() {
        let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "index": 0, "function": {"name": "f", "arguments": arguments}});
        let long = format!("call|{}", "x".repeat(80));
        let (_, turns, warnings) = run(&json!([
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": "so", "tool_calls": [call("a", "{\"x\": 1.0}"), call(&long, "")]},
            {"role": "tool", "tool_call_id": "a", "name": "f", "content":
                [{"type": "text", "text": "1", "cache_control": {"type": "ephemeral"}}]},
            {"role": "tool", "tool_call_id": long, "content": "2", "is_error": true},
            {"role": "user", "content": "on"},
        ]))
        .unwrap();
        let short = "x".repeat(64);
        let calls = [
            json!({"toolUseId": "a", "name": "f", "input": {"x": 1.0}}),
            json!({"toolUseId": short, "name": "f", "input": {}}),
        ];
        assert_eq!(turns[1]["content"], json!([{"text": "so"}, {"toolUse": calls[0]}, {"toolUse": calls[1]}]));
        assert_eq!(
            turns[2]["content"],
            json!([
                {"toolResult": {"toolUseId": "a", "content": [{"text": "1"}]}},
                {"cachePoint": {"type": "default"}},
                {"toolResult": {"toolUseId": short, "content": [{"text": "2"}], "status": "error"}},
                {"text": "on"},
            ])
        );
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn media_find_their_formats_and_documents_names_that_differ() {
        let pdf = |name: &str| json!({"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE", "filename": name}});
        let (_, turns, warnings) = run(&parts(&json!([
            {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,AAAA", "detail": "low"}},
            pdf("Q3_report  (final).v2.pdf"),
            pdf("Q3/report (final) v2.pdf"),
            {"type": "file", "file": {"file_data": "data:text/plain;base64,QUE="}, "citations": {"enabled": true}},
            {"type": "file", "file": {"file_data": "data:video/mp4;base64,AAAA"}},
        ])))
        .unwrap();
        let document = |format: &str, name: &str, bytes: &str| json!({"document": {"format": format, "name": name, "source": {"bytes": bytes}}});
        let mut text = document("txt", "Document", "QUE=");
        text["document"]["citations"] = json!({"enabled": true});
        assert_eq!(
            turns[0]["content"],
            json!([
                {"image": {"format": "jpeg", "source": {"bytes": "AAAA"}}},
                document("pdf", "Q3 report (final) v2", "JVBE"),
                document("pdf", "Q3 report (final) v2 2", "JVBE"),
                text,
                {"video": {"format": "mp4", "source": {"bytes": "AAAA"}}},
            ])
        );
        assert_eq!(warnings, ["messages[0].content[0].image_url.detail"]);
    }

    #[test]
    fn deprecated_function_calls_are_paired_by_an_id_that_is_always_the_same() {
        let (_, turns, _) = run(&json!([
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "1"},
        ]))
        .unwrap();
        assert_eq!(turns[1]["content"][0]["toolUse"]["toolUseId"], "function_call_1");
        assert_eq!(turns[2]["content"][0]["toolResult"]["toolUseId"], "function_call_1");
    }

    #[test]
    fn what_is_lost_is_named_and_what_cant_be_said_is_refused_by_its_place() {
        let (_, _, warnings) = run(&json!([
            {"role": "user", "name": "bob", "content": [{"type": "text", "text": "q", "mood": "gay"}]},
            {"role": "assistant", "content": "a", "reasoning_content": "unsigned", "audio": {"id": "x"}, "annotations": []},
        ]))
        .unwrap();
        let expected =
            ["messages[0].name", "messages[0].content[0].mood", "messages[1].audio", "messages[1].reasoning_content"];
        assert_eq!(warnings, expected);
        use ErrorKind::{InvalidRequest, UnsupportedParameter};
        let url = |url: &str| parts(&json!([{"type": "image_url", "image_url": {"url": url}}]));
        let file = |file: Value| parts(&json!([{"type": "file", "file": file}]));
        let sound = json!([{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]);
        let place = "messages[0].content[0]";
        let table = [
            (url("https://x.org/a.png"), UnsupportedParameter, format!("{place}.image_url.url")),
            (url("data:image/tiff;base64,AAAA"), UnsupportedParameter, format!("{place}.image_url.url")),
            (url("file:///etc/passwd"), InvalidRequest, format!("{place}.image_url.url")),
            (file(json!({"file_id": "f"})), UnsupportedParameter, format!("{place}.file.file_id")),
            (
                file(json!({"file_data": "data:application/zip;base64,AA"})),
                UnsupportedParameter,
                format!("{place}.file.file_data"),
            ),
            (file(json!({})), InvalidRequest, format!("{place}.file")),
            (parts(&sound), UnsupportedParameter, format!("{place}.input_audio")),
            (json!([{"role": "tool", "content": "1"}]), InvalidRequest, "messages[0].tool_call_id".to_owned()),
            (json!([{"role": "system", "content": "x"}]), UnsupportedParameter, "messages".to_owned()),
        ];
        for (messages, kind, param) in table {
            assert_eq!(refused(&messages), (kind, param));
        }
    }
}
