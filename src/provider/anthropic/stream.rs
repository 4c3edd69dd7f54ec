//! A stream, event by event: Anthropic's blocks as OpenAI's chunks.
//!
//! What decides is `type` inside the data, because some relays leave the `event:` line out. Text, reasoning and arguments
//! go out as they come; what is only known at the end of a block (a signature, citations, arguments that never came) goes
//! out there. Finished blocks are kept until the end, because blocks that OpenAI has no form for are given together.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::block::{Kind, Open, text_of};
use super::citation::cite;
use super::response::{Specific, error_in_answer, refusal};
use super::wire::{Frame, FrameDelta, Message, Said, StopDetails, UsageWire, called_by_code, finish_reason};
use crate::api::answer::{Assistant, ChunkChoice, Delta, DeltaFunction, DeltaToolCall, FinishReason};
use crate::error::{Error, Result};
use crate::provider::citations::{Citations, Cited};
use crate::provider::fence::Unfence;
use crate::provider::numbered::Numbered;
use crate::provider::pattern::Pattern;
use crate::provider::piece::Pieces;
use crate::provider::{AnswerContext, End, StreamOut, StreamTranslator, protocol};
use crate::sse::{DONE, Event};

/// The translator of one stream.
#[derive(Debug)]
pub(super) struct Translator {
    context: AnswerContext,
    /// Whether the role was sent.
    started: bool,
    /// Blocks that have begun and not ended, by Anthropic's index.
    open: BTreeMap<u64, Open>,
    /// Blocks that have ended, in their order.
    closed: Vec<Value>,
    /// Whether a block has no place at OpenAI.
    native: bool,
    /// How many calls were made.
    calls: u32,
    /// Characters of text so far, in which OpenAI counts the range of a citation.
    letters: usize,
    thoughts: Numbered,
    cited: Cited,
    said: Option<Said>,
    stop_reason: Option<String>,
    stop_details: Option<StopDetails>,
    /// Takes the fence off an object that was only asked for in words.
    unfence: Unfence,
    /// What goes out with the last chunk.
    specific: Specific,
    complete: bool,
    /// The form of the last event, where that was a piece of text.
    pattern: Option<(Pattern, u64)>,
    /// How pieces of text are written, once the answer has begun.
    pieces: Option<Pieces>,
}

impl Translator {
    /// A translator for a stream that has not begun.
    pub(super) fn new(context: AnswerContext) -> Self {
        Self {
            context,
            started: false,
            open: BTreeMap::new(),
            closed: Vec::new(),
            native: false,
            calls: 0,
            letters: 0,
            thoughts: Numbered::new(),
            cited: Cited::new(),
            said: None,
            stop_reason: None,
            stop_details: None,
            unfence: Unfence::default(),
            specific: Specific::default(),
            complete: false,
            pattern: None,
            pieces: None,
        }
    }

    fn fail(&self, cause: impl std::fmt::Display) -> Error {
        protocol(self.context.provider, cause)
    }

    fn message_start(&mut self, message: Message<'_>, out: &mut StreamOut) {
        self.pieces = None;
        if let Some(id) = message.id {
            self.context.id = id.0.into_owned();
        }
        if let Some(model) = message.model {
            self.context.model = model.0.into_owned();
        }
        self.specific.keep("container", message.container);
        self.count(message.usage, out);
    }

    fn count(&mut self, wire: Option<UsageWire>, out: &mut StreamOut) {
        let Some(wire) = wire else { return };
        let said = self.said.get_or_insert_default();
        wire.apply(said);
        out.usage = Some(said.usage());
        out.bill.clone_from(&said.bill);
        self.specific.keep("server_tool_use", wire.server_tool_use);
        // A chunk has no place for the tier; the standard one needs none.
        self.specific.keep("service_tier", wire.service_tier.filter(|tier| tier != "standard").map(Value::from));
    }

    fn block_start(&mut self, index: u64, raw: &RawValue, out: &mut StreamOut) -> Result<()> {
        let block: Map<String, Value> = serde_json::from_str(raw.get()).map_err(|cause| self.fail(cause))?;
        let kind = match text_of(&block, "type") {
            "text" => Kind::Text,
            "thinking" => Kind::Thinking,
            "redacted_thinking" => Kind::RedactedThinking,
            "tool_use" => Kind::Tool(self.calls),
            _ => Kind::Native,
        };
        let start = self.letters;
        match kind {
            Kind::Text => self.text(index, text_of(&block, "text"), out)?,
            Kind::Thinking => self.thinking(index, text_of(&block, "thinking"), out)?,
            Kind::RedactedThinking => {}
            Kind::Tool(call) => {
                self.calls += 1;
                self.native |= called_by_code(block.get("caller"));
                let function = DeltaFunction { name: Some(text_of(&block, "name")), arguments: "" };
                let id = Some(text_of(&block, "id"));
                let first = DeltaToolCall { index: call, id, r#type: Some("function"), function, extra_content: None };
                self.send(Delta { tool_calls: Some(&[first]), ..Delta::default() }, out)?;
            }
            Kind::Native => {
                self.native = true;
                // The answer has begun although nothing of this block can be shown yet.
                if !self.started {
                    self.send(Delta::default(), out)?;
                }
            }
        }
        out.written = false;
        let text = text_of(&block, if kind == Kind::Thinking { "thinking" } else { "text" }).to_owned();
        let signature = text_of(&block, "signature").to_owned();
        let open = Open { block, kind, text, signature, json: String::new(), citations: Vec::new(), start };
        self.open.insert(index, open);
        Ok(())
    }

    fn block_delta(&mut self, index: u64, delta: FrameDelta<'_>, out: &mut StreamOut) -> Result<()> {
        match delta.kind.as_str() {
            "text_delta" => self.text(index, &delta.text.unwrap_or_default().0, out),
            "thinking_delta" => self.thinking(index, &delta.thinking.unwrap_or_default().0, out),
            "input_json_delta" => self.input(index, &delta.partial_json.unwrap_or_default().0, out),
            "signature_delta" => {
                if let Some(open) = self.open.get_mut(&index) {
                    open.signature.push_str(&delta.signature.unwrap_or_default().0);
                }
                Ok(())
            }
            "citations_delta" => {
                if let Some(open) = self.open.get_mut(&index) {
                    open.citations.extend(delta.citation);
                }
                Ok(())
            }
            "compaction_delta" => {
                if let Some(open) = self.open.get_mut(&index) {
                    open.compact("content", delta.content);
                    open.compact("encrypted_content", delta.encrypted_content);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn text(&mut self, index: u64, text: &str, out: &mut StreamOut) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        if let Some(open) = self.open.get_mut(&index) {
            open.text.push_str(text);
        }
        self.letters += text.chars().count();
        out.generated += text.len() as u64;
        if !self.context.json_object {
            return self.piece(text, out);
        }
        let bare = self.unfence.push(text);
        if bare.is_empty() { Ok(()) } else { self.send(Delta { content: Some(&bare), ..Delta::default() }, out) }
    }

    /// Writes a piece of text, in the same way as any other chunk and with less work.
    fn piece(&mut self, text: &str, out: &mut StreamOut) -> Result<()> {
        if !self.started {
            return self.send(Delta { content: Some(text), ..Delta::default() }, out);
        }
        let pieces = match &self.pieces {
            Some(pieces) => pieces,
            None => self.pieces.insert(Pieces::new(&self.context)?),
        };
        out.content = true;
        pieces.write(text, &mut out.bytes)
    }

    fn thinking(&mut self, index: u64, text: &str, out: &mut StreamOut) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        if let Some(open) = self.open.get_mut(&index) {
            open.text.push_str(text);
        }
        out.generated += text.len() as u64;
        self.send(Delta { reasoning_content: Some(text), ..Delta::default() }, out)
    }

    fn input(&mut self, index: u64, piece: &str, out: &mut StreamOut) -> Result<()> {
        let Some(open) = self.open.get_mut(&index) else {
            return Err(self.fail("arguments of a call that has not begun"));
        };
        open.json.push_str(piece);
        let kind = open.kind;
        out.generated += piece.len() as u64;
        match kind {
            Kind::Tool(call) if !piece.is_empty() => self.arguments(call, piece, out),
            _ => Ok(()),
        }
    }

    fn arguments(&mut self, call: u32, arguments: &str, out: &mut StreamOut) -> Result<()> {
        let function = DeltaFunction { name: None, arguments };
        let piece = DeltaToolCall { index: call, id: None, r#type: None, function, extra_content: None };
        self.send(Delta { tool_calls: Some(&[piece]), ..Delta::default() }, out)
    }

    fn block_stop(&mut self, index: u64, out: &mut StreamOut) -> Result<()> {
        let Some(open) = self.open.remove(&index) else { return Ok(()) };
        out.written = self.open.is_empty();
        let citations = open.citations.clone();
        let (kind, start, no_input) = (open.kind, open.start, open.json.is_empty());
        let block = open.into_block();
        match kind {
            Kind::Thinking | Kind::RedactedThinking => {
                let blocks = self.thoughts.number(vec![block.clone()]);
                self.send(Delta { thinking_blocks: Some(&blocks), ..Delta::default() }, out)?;
            }
            Kind::Tool(call) if no_input => {
                let whole = block.get("input").map_or_else(|| "{}".to_owned(), Value::to_string);
                self.arguments(call, &whole, out)?;
            }
            Kind::Text if !citations.is_empty() => self.citations(citations, (start, self.letters), out)?,
            Kind::Text | Kind::Tool(_) | Kind::Native => {}
        }
        self.closed.push(block);
        Ok(())
    }

    fn citations(&mut self, citations: Vec<Value>, range: (usize, usize), out: &mut StreamOut) -> Result<()> {
        let mut sorted = Citations::default();
        citations.into_iter().for_each(|citation| cite(citation, range, &mut sorted));
        let (pages, fields) = self.cited.number(sorted);
        let delta =
            Delta { annotations: pages.as_deref(), provider_specific_fields: fields.as_ref(), ..Delta::default() };
        self.send(delta, out)
    }

    fn message_delta(&mut self, frame: Frame<'_>, out: &mut StreamOut) {
        let counted = frame.usage.is_some();
        self.count(frame.usage, out);
        self.specific.keep("context_management", frame.context_management);
        let Some(delta) = frame.delta else { return };
        self.specific.keep("container", delta.container);
        if let Some(reason) = delta.stop_reason {
            self.specific.keep_stop(Some(reason.as_str()), delta.stop_sequence);
            self.stop_reason = Some(reason.0.into_owned());
            out.bill.closed |= counted;
        }
        self.stop_details = delta.stop_details.or(self.stop_details.take());
    }

    fn finish(&mut self, out: &mut StreamOut) -> Result<()> {
        // Some relays leave out the ends of blocks.
        while let Some(index) = self.open.keys().next().copied() {
            self.block_stop(index, out)?;
        }
        let held = self.unfence.finish();
        if !held.is_empty() {
            self.send(Delta { content: Some(&held), ..Delta::default() }, out)?;
        }
        let mut specific = std::mem::take(&mut self.specific);
        if self.native {
            specific.keep("content_blocks", Some(Value::Array(std::mem::take(&mut self.closed))));
        }
        let fields = specific.into_fields();
        let refusal = refusal(self.stop_reason.as_deref(), self.stop_details.as_ref());
        let finish = finish_reason(self.stop_reason.as_deref(), self.calls > 0);
        let delta =
            Delta { refusal: refusal.as_deref(), provider_specific_fields: fields.as_ref(), ..Delta::default() };
        self.choice(delta, Some(finish), out)?;
        if let Some(usage) = self.said.as_ref().map(Said::usage).filter(|_| self.context.include_usage) {
            out.chunk(&self.context, &[], Some(Some(usage.into())))?;
        }
        out.bytes.extend_from_slice(DONE);
        out.done = true;
        self.complete = true;
        Ok(())
    }

    fn send(&mut self, delta: Delta<'_>, out: &mut StreamOut) -> Result<()> {
        self.choice(delta, None, out)
    }

    /// Writes a chunk with one choice; the first one carries the role.
    fn choice(&mut self, mut delta: Delta<'_>, finish: Option<FinishReason>, out: &mut StreamOut) -> Result<()> {
        if !self.started {
            self.started = true;
            delta.role = Some(Assistant::Assistant);
        }
        out.content = true;
        let choice = ChunkChoice { index: 0, delta, logprobs: None, finish_reason: finish };
        let usage = self.context.include_usage.then_some(None);
        out.chunk(&self.context, &[choice], usage)
    }
}

impl StreamTranslator for Translator {
    fn event(&mut self, event: &Event, out: &mut StreamOut) -> Result<()> {
        if self.complete || event.data.is_empty() || event.data.as_ref() == b"[DONE]" {
            return Ok(());
        }
        if let Some((pattern, index)) = &self.pattern
            && let Some(text) = pattern.text(&event.raw)
        {
            return self.text(*index, text, out);
        }
        let frame: Frame<'_> = match serde_json::from_slice(&event.data) {
            Ok(frame) => frame,
            Err(_) if is_foreign(&event.data) => return Ok(()),
            Err(cause) => return Err(self.fail(cause)),
        };
        self.pattern = frame.text().and_then(|text| Some((Pattern::of(&event.raw, text)?, frame.index)));
        match frame.kind.as_str() {
            "message_start" => {
                let message = frame.message.ok_or_else(|| self.fail("message_start without a message"))?;
                self.message_start(message, out);
                Ok(())
            }
            "content_block_start" => {
                let block = frame.content_block.ok_or_else(|| self.fail("content_block_start without a block"))?;
                self.block_start(frame.index, block, out)
            }
            "content_block_delta" => match frame.delta {
                Some(delta) => self.block_delta(frame.index, delta, out),
                None => Err(self.fail("content_block_delta without a delta")),
            },
            "content_block_stop" => self.block_stop(frame.index, out),
            "message_delta" => {
                self.message_delta(frame, out);
                Ok(())
            }
            "message_stop" => self.finish(out),
            _ if frame.error.is_some() => Err(error_in_answer(frame.error, self.context.provider)),
            "" => Err(self.fail("an event without a type")),
            _ => Ok(()),
        }
    }

    fn end(&mut self, _out: &mut StreamOut) -> End {
        if self.complete { End::Complete } else { End::Truncated }
    }
}

/// Whether this is an event of a type that did not exist yet, whatever else it holds.
fn is_foreign(data: &[u8]) -> bool {
    const KNOWN: &[&str] = &[
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "error",
    ];
    let value: Option<Value> = serde_json::from_slice(data).ok();
    value.and_then(|value| Some(!KNOWN.contains(&value.get("type")?.as_str()?))).unwrap_or(false)
}

#[cfg(test)]
mod tests;
