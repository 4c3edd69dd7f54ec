//! A block of a stream, from its beginning to what a whole answer would have held. Not here: what the client sees of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::thinking;

/// A block that has begun.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) kind: Kind,
    /// The member that says what the block is.
    name: String,
    /// What its beginning said.
    begun: Value,
    /// Text, reasoning or arguments.
    pub(super) text: String,
    signature: Option<String>,
    /// Redacted reasoning.
    redacted: Vec<u8>,
    /// Citations of a text; pieces of a block that is not known.
    pub(super) pieces: Vec<Value>,
    /// Where its text begins in the answer.
    pub(super) start: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Thinking,
    /// The number of the call.
    Tool(u32),
    Native,
}

impl Open {
    pub(super) const fn new(kind: Kind, name: String, begun: Value, start: usize) -> Self {
        let text = String::new();
        Self { kind, name, begun, text, signature: None, redacted: Vec::new(), pieces: Vec::new(), start }
    }

    /// Takes a piece; gives the part of it that is text of this block.
    pub(super) fn add<'p>(&mut self, name: &str, piece: &'p Value) -> &'p str {
        let member = |name: &str| piece.get(name).and_then(Value::as_str);
        let text = match (self.kind, name) {
            (Kind::Text, "text") => piece.as_str(),
            (Kind::Thinking, "reasoningContent") => {
                if let Some(signature) = member("signature") {
                    self.signature.get_or_insert_default().push_str(signature);
                }
                let redacted = member("redactedContent").and_then(|content| STANDARD.decode(content).ok());
                self.redacted.extend(redacted.into_iter().flatten());
                member("text")
            }
            (Kind::Tool(_) | Kind::Native, "toolUse") => member("input"),
            // A result comes in lists of pieces.
            _ => {
                match piece {
                    Value::Array(pieces) => self.pieces.extend_from_slice(pieces),
                    piece => self.pieces.push(piece.clone()),
                }
                None
            }
        };
        let text = text.unwrap_or_default();
        self.text.push_str(text);
        text
    }

    /// What a block of reasoning held, in the form that clients get.
    pub(super) fn thinking_blocks(&self) -> Vec<Value> {
        let content = [self.reasoning_text(), self.redacted_content()];
        content.iter().flatten().filter_map(thinking::from_converse).map(|(block, _)| block).collect()
    }

    fn reasoning_text(&self) -> Option<Value> {
        if self.text.is_empty() && self.signature.is_none() {
            return None;
        }
        let mut reasoning = Map::from_iter([("text".to_owned(), Value::from(self.text.as_str()))]);
        if let Some(signature) = &self.signature {
            reasoning.insert("signature".to_owned(), signature.as_str().into());
        }
        Some(json!({"reasoningText": reasoning}))
    }

    fn redacted_content(&self) -> Option<Value> {
        (!self.redacted.is_empty()).then(|| json!({"redactedContent": STANDARD.encode(&self.redacted)}))
    }

    /// The block as a whole answer would have held it.
    pub(super) fn into_block(self) -> Value {
        let content = match self.kind {
            Kind::Text if self.pieces.is_empty() => self.text.into(),
            Kind::Text => {
                return json!({"citationsContent": {"content": [{"text": self.text}], "citations": self.pieces}});
            }
            Kind::Thinking => self.reasoning_text().or_else(|| self.redacted_content()).unwrap_or_default(),
            Kind::Tool(_) | Kind::Native => {
                let mut members = self.begun.as_object().cloned().unwrap_or_default();
                if self.name == "toolUse" {
                    // Arguments that were cut short are kept as the text they are.
                    let empty = || json!({});
                    let input = if self.text.is_empty() { empty() } else { parsed(self.text) };
                    members.insert("input".to_owned(), input);
                } else if !self.pieces.is_empty() {
                    members.insert("content".to_owned(), self.pieces.into());
                }
                members.into()
            }
        };
        Value::Object(Map::from_iter([(self.name, content)]))
    }
}

fn parsed(text: String) -> Value {
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}
