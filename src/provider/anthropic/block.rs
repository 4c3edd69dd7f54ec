//! A block of a stream, from its beginning to what a whole answer would have held. Not here: what the client sees of it.

use serde_json::{Map, Value};

/// A block that has begun.
#[derive(Debug)]
pub(super) struct Open {
    /// The block as it began.
    pub(super) block: Map<String, Value>,
    pub(super) kind: Kind,
    /// Text or reasoning.
    pub(super) text: String,
    pub(super) signature: String,
    /// The input of a call, in pieces so far.
    pub(super) json: String,
    pub(super) citations: Vec<Value>,
    /// Where its text begins in the answer.
    pub(super) start: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Thinking,
    RedactedThinking,
    /// The number of the call.
    Tool(u32),
    Native,
}

impl Open {
    /// Takes more of a compaction's text.
    pub(super) fn compact(&mut self, name: &str, more: Option<String>) {
        let Some(more) = more else { return };
        match self.block.get_mut(name) {
            Some(Value::String(text)) => text.push_str(&more),
            _ => drop(self.block.insert(name.to_owned(), more.into())),
        }
    }

    /// The block as a whole answer would have held it.
    pub(super) fn into_block(self) -> Value {
        let Self { mut block, kind, text, signature, json, citations, start: _ } = self;
        match kind {
            Kind::Text => {
                block.insert("text".to_owned(), text.into());
                if !citations.is_empty() {
                    block.insert("citations".to_owned(), citations.into());
                }
            }
            Kind::Thinking => {
                block.insert("thinking".to_owned(), text.into());
                block.insert("signature".to_owned(), signature.into());
            }
            Kind::Tool(_) | Kind::Native if !json.is_empty() => {
                // Input that was cut short is kept as the text it is.
                let input = serde_json::from_str(&json).unwrap_or(Value::String(json));
                block.insert("input".to_owned(), input);
            }
            Kind::RedactedThinking | Kind::Tool(_) | Kind::Native => {}
        }
        Value::Object(block)
    }
}

/// A member that is a text, or nothing.
pub(super) fn text_of<'b>(block: &'b Map<String, Value>, name: &str) -> &'b str {
    block.get(name).and_then(Value::as_str).unwrap_or_default()
}
