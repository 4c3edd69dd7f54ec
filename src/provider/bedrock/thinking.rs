//! Reasoning on its way out and back.
//!
//! A client gets it as `thinking_blocks` in Anthropic's form, `{"type":"thinking","thinking","signature"}` and
//! `{"type":"redacted_thinking","data"}`, so that a conversation can go on at either provider of the same model, and sends
//! them back to continue a tool loop. Bedrock gives a redacted piece as base64 of the bytes that Anthropic gives as text;
//! bytes that are no text stay base64, and `"encoding":"base64"` says so.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// The block of a finished piece of reasoning.
pub(super) fn thinking(text: &str, signature: Option<&str>) -> Value {
    let mut block = json!({"type": "thinking", "thinking": text});
    if let (Some(members), Some(signature)) = (block.as_object_mut(), signature) {
        members.insert("signature".to_owned(), signature.into());
    }
    block
}

/// The block of a redacted piece, from its base64.
pub(super) fn redacted(content: &str) -> Value {
    match STANDARD.decode(content).ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
        Some(data) => json!({"type": "redacted_thinking", "data": data}),
        None => json!({"type": "redacted_thinking", "data": content, "encoding": "base64"}),
    }
}

/// The block of Converse's `reasoningContent`, and the text that a human may read.
pub(super) fn from_converse(content: &Value) -> Option<(Value, &str)> {
    if let Some(redacted_content) = content.get("redactedContent").and_then(Value::as_str) {
        return Some((redacted(redacted_content), ""));
    }
    let reasoning = content.get("reasoningText")?;
    let text = reasoning.get("text").and_then(Value::as_str).unwrap_or_default();
    Some((thinking(text, reasoning.get("signature").and_then(Value::as_str)), text))
}

/// Converse's `reasoningContent` of a block that a client sends back; `None` when it is no such block.
pub(super) fn to_converse(block: &Value) -> Option<Value> {
    let text = |name: &str| block.get(name).and_then(Value::as_str);
    match text("type")? {
        "thinking" => {
            let mut reasoning = Map::from_iter([("text".to_owned(), Value::from(text("thinking")?))]);
            if let Some(signature) = text("signature") {
                reasoning.insert("signature".to_owned(), signature.into());
            }
            Some(json!({"reasoningText": reasoning}))
        }
        "redacted_thinking" => {
            let data = text("data")?;
            let content = if text("encoding") == Some("base64") { data.to_owned() } else { STANDARD.encode(data) };
            Some(json!({"redactedContent": content}))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasoning_comes_back_as_it_went_out() {
        for content in [
            json!({"reasoningText": {"text": "hm", "signature": "s"}}),
            json!({"reasoningText": {"text": "unsigned"}}),
            json!({"redactedContent": STANDARD.encode("EuYBCkQYAiJA")}),
            json!({"redactedContent": STANDARD.encode([0xff, 0x00])}),
        ] {
            let (block, _) = from_converse(&content).unwrap();
            assert_eq!(to_converse(&block), Some(content));
        }
    }

    #[test]
    fn a_redacted_piece_has_the_form_that_anthropic_gives_it() {
        let content = json!({"redactedContent": "RXVZQg=="});
        let (block, text) = from_converse(&content).unwrap();
        assert_eq!((block, text), (json!({"type": "redacted_thinking", "data": "EuYB"}), ""));
        assert_eq!(to_converse(&json!({"type": "text", "text": "x"})), None);
    }
}
