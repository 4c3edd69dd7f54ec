//! Texts as JSON's string literals (RFC 8259, section 7): the long ones of a request, which serde_json writes byte by byte.
//!
//! For `#[serde(serialize_with = "literal::text")]` on texts and base64 that go to serde_json's own serializer. Invariant: what is
//! written is what serde_json would have written.

use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// Bytes from which on this is worth its second look.
const LONG: usize = 512;
/// Bytes that are looked at together: all of them, which takes a processor less time than to stop at the first.
const TOGETHER: usize = 64;

/// Serializes a text.
pub fn text<T: AsRef<str>, S: Serializer>(text: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let text = text.as_ref();
    if text.len() < LONG {
        return serializer.serialize_str(text);
    }
    let literal = quoted(text);
    serde_json::from_str::<&RawValue>(&literal).map_err(S::Error::custom)?.serialize(serializer)
}

fn quoted(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + text.len() / 16 + 2);
    literal.push('"');
    let mut rest = text;
    while let Some((plain, special, behind)) = split(rest) {
        literal.push_str(plain);
        push_escape(&mut literal, special);
        rest = behind;
    }
    literal.push_str(rest);
    literal.push('"');
    literal
}

/// Whether JSON writes this byte as an escape.
const fn is_special(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// A text around its first byte that needs an escape, if there is one.
fn split(text: &str) -> Option<(&str, u8, &str)> {
    let mut pieces = text.as_bytes().chunks(TOGETHER);
    let piece = pieces.position(|piece| piece.iter().fold(false, |found, byte| found | is_special(*byte)))?;
    let from = piece * TOGETHER;
    let at = from + text.as_bytes().get(from..)?.iter().position(|byte| is_special(*byte))?;
    // Such a byte is a character, and never a part of one.
    let (plain, behind) = text.split_at_checked(at)?;
    Some((plain, *behind.as_bytes().first()?, behind.get(1..)?))
}

fn push_escape(literal: &mut String, byte: u8) {
    match byte {
        b'"' => literal.push_str("\\\""),
        b'\\' => literal.push_str("\\\\"),
        b'\n' => literal.push_str("\\n"),
        b'\r' => literal.push_str("\\r"),
        b'\t' => literal.push_str("\\t"),
        0x08 => literal.push_str("\\b"),
        0x0c => literal.push_str("\\f"),
        _ => literal.push_str(&format!("\\u{byte:04x}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Serialize)]
    struct Message<'t> {
        #[serde(serialize_with = "text")]
        content: &'t str,
    }

    fn written(content: &str) -> String {
        serde_json::to_string(&Message { content }).unwrap()
    }

    fn expected(content: &str) -> String {
        serde_json::to_string(&serde_json::json!({ "content": content })).unwrap()
    }

    #[test]
    fn every_ascii_character_is_written_as_serde_json_writes_it_wherever_it_stands() {
        for character in 0..=127_u8 {
            for before in [0, 1, TOGETHER - 1, TOGETHER, 3 * LONG] {
                let content = format!("{}{}{}", "a".repeat(before), char::from(character), "é".repeat(LONG));
                assert_eq!(written(&content), expected(&content));
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_written_as_serde_json_writes_it(parts in prop::collection::vec("\\PC{0,90}|[\\x00-\\x7f]{0,9}", 0..40)) {
            let content = parts.concat();
            prop_assert_eq!(written(&content), expected(&content));
        }
    }
}
