//! The conversation: OpenAI's messages as Anthropic's turns.
//!
//! Anthropic knows two roles that alternate. System and developer messages move to the top-level `system`, in their order,
//! wherever they stood; tool results become blocks of a user turn; neighbours of one role become one turn. A text that is
//! empty is left out, because Anthropic refuses it, and so is a message of which nothing remains but white space.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::wire::{Block, Native, Source, Speaker, Turn};
use crate::api::chat::{Content, FilePart, FunctionCall, ImageUrl, Message, Part, Role, ToolCall};
use crate::error::{Error, ErrorKind, Result};
use crate::provider::warnings::{Warnings, is_neutral};

/// What a part may carry under Anthropic's own names.
const PART_FIELDS: &[&str] = &["cache_control", "citations", "context", "title"];
/// OpenAI's own word for the end of what is cached.
const BREAKPOINT: &str = "prompt_cache_breakpoint";
const PART_KNOWN: &[&str] = &["cache_control", "citations", "context", "title", BREAKPOINT];
/// The same for the message as a whole; the last two are read here, the first goes to its last block.
const MESSAGE_FIELDS: &[&str] = &["cache_control", "thinking_blocks", "provider_specific_fields"];

/// The translated conversation.
#[derive(Debug)]
pub(super) struct Conversation<'a> {
    /// Instructions.
    pub(super) system: Vec<Block<'a>>,
    /// Turns; the roles alternate.
    pub(super) turns: Vec<Turn<'a>>,
    /// Whether a block names an uploaded file.
    pub(super) uses_files: bool,
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
        let message = format!("The provider 'anthropic' does not take {what}.");
        Error::new(ErrorKind::UnsupportedParameter, message).with_param(self.path(field))
    }
}

impl<'a> Conversation<'a> {
    /// Translates all messages.
    pub(super) fn translate(messages: &'a [Message]) -> Result<Self> {
        let mut conversation = Self {
            system: Vec::new(),
            turns: Vec::with_capacity(messages.len()),
            uses_files: false,
            function_id: None,
            warnings: Warnings::default(),
        };
        for (index, message) in messages.iter().enumerate() {
            conversation.message(At { message: index, part: None }, message)?;
        }
        if conversation.turns.is_empty() {
            let message =
                "The provider 'anthropic' needs at least one message that is neither empty nor an instruction.";
            return Err(Error::new(ErrorKind::UnsupportedParameter, message).with_param("messages"));
        }
        Ok(conversation)
    }

    /// Whether the tool loop that is under way began without the reasoning that led to it: Anthropic takes a loop for one
    /// turn, which must begin with its reasoning where there is to be any.
    pub(super) fn lacks_thinking(&self) -> bool {
        let asks = |turn: &Turn<'_>| turn.role == Speaker::User && !turn.content.iter().any(Block::is_tool_result);
        let asked = self.turns.iter().rposition(asks).unwrap_or(0);
        let first = self.turns.iter().skip(asked).find(|turn| turn.role == Speaker::Assistant);
        first.is_some_and(|turn| {
            turn.content.iter().any(Block::is_tool_use) && !turn.content.first().is_some_and(Block::is_thinking)
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
            Role::System | Role::Developer => return self.instruction(at, content, extra),
            Role::User => match given_blocks(at, extra)? {
                Some(given) => given,
                None => self.content(at, content)?,
            },
            Role::Assistant => self.assistant(at, message)?,
            Role::Tool => {
                let id =
                    tool_call_id.as_deref().ok_or_else(|| at.invalid("tool_call_id", "a tool message needs it"))?;
                vec![self.result(at, tool_id(id), content, extra)?]
            }
            Role::Function => {
                let id = self.function_id.clone();
                let id = id.ok_or_else(|| at.invalid("role", "no function call came before this function message"))?;
                self.warn_if(name.is_none(), at, "name");
                vec![self.result(at, Cow::Owned(id), content, extra)?]
            }
        };
        mark_last(&mut blocks, extra);
        self.push(if *role == Role::Assistant { Speaker::Assistant } else { Speaker::User }, blocks);
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

    fn instruction(&mut self, at: At, content: Option<&'a Content>, extra: &'a Map<String, Value>) -> Result<()> {
        let mut blocks = self.content(at, content)?;
        if let Some(other) = blocks.iter().position(|block| !matches!(block, Block::Text { .. })) {
            return Err(At { part: Some(other), ..at }.unsupported("type", "anything but text in an instruction"));
        }
        mark_last(&mut blocks, extra);
        blocks.retain(|block| !block.is_blank());
        self.system.extend(blocks);
        Ok(())
    }

    /// Reasoning first, then text, then calls: the order that Anthropic itself answers in.
    fn assistant(&mut self, at: At, message: &'a Message) -> Result<Vec<Block<'a>>> {
        if let Some(given) = given_blocks(at, &message.extra)? {
            return Ok(given);
        }
        let mut blocks = thinking_blocks(at, &message.extra)?;
        let reasoning = message.reasoning_content.as_deref().unwrap_or_default();
        self.warn_if(blocks.is_empty() && !reasoning.is_empty(), at, "reasoning_content");
        blocks.extend(self.content(at, message.content.as_ref())?);
        if let Some(refusal) = message.refusal.as_deref().filter(|text| !text.is_empty()) {
            blocks.push(Block::text(refusal));
        }
        for (index, call) in message.tool_calls.iter().flatten().enumerate() {
            blocks.push(self.tool_use(at, index, call)?);
        }
        if let Some(FunctionCall { name, arguments }) = &message.function_call {
            let id = format!("function_call_{}", at.message);
            self.function_id = Some(id.clone());
            let input = input(arguments).ok_or_else(|| at.invalid("function_call.arguments", NOT_AN_OBJECT))?;
            blocks.push(Block::ToolUse { id: Cow::Owned(id), name, input, native: Native::new() });
        }
        Ok(blocks)
    }

    fn tool_use(&mut self, at: At, index: usize, call: &'a ToolCall) -> Result<Block<'a>> {
        let ToolCall { id, r#type, function: FunctionCall { name, arguments }, extra } = call;
        if r#type != "function" {
            return Err(at.unsupported(&format!("tool_calls[{index}].type"), "calls of anything but functions"));
        }
        // `index` is what remains of a stream when a client sends the collected chunks back.
        let known = ["cache_control", "index"];
        self.warnings.add_unknown(&at.path(&format!("tool_calls[{index}].")), extra, &known);
        let input = input(arguments)
            .ok_or_else(|| at.invalid(&format!("tool_calls[{index}].function.arguments"), NOT_AN_OBJECT))?;
        Ok(Block::ToolUse { id: tool_id(id), name, input, native: native(extra, &["cache_control"]) })
    }

    fn result(
        &mut self,
        at: At,
        tool_use_id: Cow<'a, str>,
        content: Option<&'a Content>,
        extra: &'a Map<String, Value>,
    ) -> Result<Block<'a>> {
        let mut content = self.content(at, content)?;
        let mut native = native(extra, &["is_error"]);
        // A mark inside of a result is refused; the whole result is what is cached anyway.
        for mark in content.iter_mut().filter_map(|block| block.native_mut()?.remove("cache_control")) {
            native.insert("cache_control", mark);
        }
        Ok(Block::ToolResult { tool_use_id, content, native })
    }

    fn content(&mut self, at: At, content: Option<&'a Content>) -> Result<Vec<Block<'a>>> {
        match content {
            None => Ok(Vec::new()),
            Some(Content::Text(text)) if text.is_empty() => Ok(Vec::new()),
            Some(Content::Text(text)) => Ok(vec![Block::text(text.as_str())]),
            Some(Content::Parts(parts)) => {
                let mut blocks = Vec::with_capacity(parts.len());
                for (index, part) in parts.iter().enumerate() {
                    blocks.extend(self.part(At { part: Some(index), ..at }, part)?);
                }
                Ok(blocks)
            }
        }
    }

    fn part(&mut self, at: At, part: &'a Part) -> Result<Option<Block<'a>>> {
        let block = match part {
            Part::Text { text, extra } => {
                self.warnings.add_unknown(&at.path(""), extra, PART_KNOWN);
                Block::Text { text: text.into(), native: of_part(extra) }
            }
            Part::ImageUrl { image_url: ImageUrl { url, detail }, extra } => {
                self.warnings.add_unknown(&at.path(""), extra, PART_KNOWN);
                self.warn_if(detail.as_deref().is_some_and(|detail| detail != "auto"), at, "image_url.detail");
                Block::Image { source: image(at, url)?, native: of_part(extra) }
            }
            Part::InputAudio { .. } => return Err(at.unsupported("input_audio", "audio")),
            Part::File { file, extra } => {
                self.warnings.add_unknown(&at.path(""), extra, PART_KNOWN);
                self.file(at, file, of_part(extra))?
            }
            Part::Refusal { refusal } => Block::text(refusal.as_str()),
        };
        let empty = matches!(&block, Block::Text { text, .. } if text.is_empty());
        Ok(Some(block).filter(|_| !empty))
    }

    fn file(&mut self, at: At, file: &'a FilePart, mut native: Native<'a>) -> Result<Block<'a>> {
        let FilePart { file_data, file_id, filename } = file;
        if let Some(name) = filename {
            native.entry("title").or_insert_with(|| Cow::Owned(Value::String(name.clone())));
        }
        if let Some(url) = file_data.as_deref().or(file_id.as_deref()).filter(|text| is_address(text)) {
            return Ok(Block::Document { source: Source::Url { url }, native });
        }
        let Some(data) = file_data else {
            let file_id = file_id.as_deref().ok_or_else(|| at.invalid("file", "file_data or file_id is needed"))?;
            self.uses_files = true;
            return Ok(Block::Document { source: Source::File { file_id }, native });
        };
        let why = "expected a data: URL with base64";
        let DataUrl { media_type, data } = data_url(data).ok_or_else(|| at.invalid("file.file_data", why))?;
        if media_type == "application/pdf" {
            return Ok(Block::Document { source: Source::Base64 { media_type, data }, native });
        }
        if media_type.starts_with("image/") {
            native.remove("title");
            return Ok(Block::Image { source: Source::Base64 { media_type: image_type(media_type), data }, native });
        }
        if media_type.starts_with("text/") {
            let text = STANDARD.decode(data).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let text = text.ok_or_else(|| at.invalid("file.file_data", "not base64 of UTF-8 text"))?;
            return Ok(Block::Document { source: Source::Text { media_type: "text/plain", data: text }, native });
        }
        Err(at.unsupported("file.file_data", "files of this media type"))
    }
}

pub(in crate::provider) const NOT_AN_OBJECT: &str = "expected the JSON text of an object";

/// A call's arguments as they are, if they are an object; no text at all means no arguments.
pub(in crate::provider) fn input(arguments: &str) -> Option<&RawValue> {
    let text = if arguments.trim().is_empty() { "{}" } else { arguments };
    serde_json::from_str::<&RawValue>(text).ok().filter(|raw| raw.get().starts_with('{'))
}

/// Anthropic takes letters, digits, `_` and `-`; other providers' ids may hold more. Call and result change alike.
fn tool_id(id: &str) -> Cow<'_, str> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
    if id.chars().all(fits) {
        return Cow::Borrowed(id);
    }
    Cow::Owned(id.chars().map(|letter| if fits(letter) { letter } else { '_' }).collect())
}

/// The members of `extra` that Anthropic knows by the same name.
fn native<'a>(extra: &'a Map<String, Value>, known: &[&str]) -> Native<'a> {
    let members = extra.iter().filter(|(name, value)| known.contains(&name.as_str()) && !is_neutral(value));
    members.map(|(name, value)| (name.as_str(), Cow::Borrowed(value))).collect()
}

/// The members of a part that Anthropic knows, a breakpoint under Anthropic's name.
fn of_part(extra: &Map<String, Value>) -> Native<'_> {
    let mut native = native(extra, PART_FIELDS);
    if extra.get(BREAKPOINT).is_some_and(|value| !is_neutral(value)) {
        native.entry("cache_control").or_insert_with(|| Cow::Owned(json!({"type": "ephemeral"})));
    }
    native
}

/// A message's own `cache_control` belongs to its last block.
fn mark_last<'a>(blocks: &mut [Block<'a>], extra: &'a Map<String, Value>) {
    let mark = extra.get("cache_control").filter(|value| !is_neutral(value));
    let last = blocks.last_mut().and_then(Block::native_mut);
    if let (Some(mark), Some(native)) = (mark, last) {
        native.entry("cache_control").or_insert(Cow::Borrowed(mark));
    }
}

/// The blocks of an earlier answer, when it held some that OpenAI has no form for; they stand for the whole message.
fn given_blocks(at: At, extra: &Map<String, Value>) -> Result<Option<Vec<Block<'_>>>> {
    let path = "provider_specific_fields.content_blocks";
    let Some(value) = extra.get("provider_specific_fields").and_then(|fields| fields.get("content_blocks")) else {
        return Ok(None);
    };
    objects(value).map(Some).ok_or_else(|| at.invalid(path, "expected an array of blocks"))
}

fn thinking_blocks(at: At, extra: &Map<String, Value>) -> Result<Vec<Block<'_>>> {
    let refuse = || at.invalid("thinking_blocks", "expected an array of thinking and redacted_thinking blocks");
    let Some(value) = extra.get("thinking_blocks").filter(|value| !value.is_null()) else {
        return Ok(Vec::new());
    };
    let mut blocks = objects(value).filter(|blocks| blocks.iter().all(Block::is_thinking)).ok_or_else(refuse)?;
    for block in &mut blocks {
        // Our number of a block that came in a stream, which Anthropic would refuse.
        if let Block::Given(given) = block
            && given.get("index").is_some()
            && let Some(members) = given.to_mut().as_object_mut()
        {
            members.shift_remove("index");
        }
    }
    Ok(blocks)
}

fn objects(value: &Value) -> Option<Vec<Block<'_>>> {
    value.as_array()?.iter().map(|block| block.is_object().then_some(Block::Given(Cow::Borrowed(block)))).collect()
}

/// The two ends of a `data:` URL.
pub(in crate::provider) struct DataUrl<'a> {
    pub(in crate::provider) media_type: &'a str,
    pub(in crate::provider) data: &'a str,
}

/// Reads `data:<type>[;parameter]*;base64,<data>`.
pub(in crate::provider) fn data_url(url: &str) -> Option<DataUrl<'_>> {
    let (head, data) = url.split_once(',')?;
    let (scheme, head) = head.split_once(':')?;
    let (head, encoding) = head.rsplit_once(';')?;
    let media_type = head.split(';').next().filter(|media_type| !media_type.is_empty())?;
    let fits = scheme.eq_ignore_ascii_case("data") && encoding.trim().eq_ignore_ascii_case("base64");
    fits.then_some(DataUrl { media_type, data })
}

fn image(at: At, url: &str) -> Result<Source<'_>> {
    if is_address(url) {
        return Ok(Source::Url { url });
    }
    let why = "expected an https: URL or a data: URL with base64";
    let DataUrl { media_type, data } = data_url(url).ok_or_else(|| at.invalid("image_url.url", why))?;
    Ok(Source::Base64 { media_type: image_type(media_type), data })
}

fn is_address(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

/// The registered name of a type that many write wrongly.
pub(in crate::provider) fn image_type(media_type: &str) -> &str {
    if media_type == "image/jpg" { "image/jpeg" } else { media_type }
}

#[cfg(test)]
mod tests;
