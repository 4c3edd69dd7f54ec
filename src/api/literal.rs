//! Strings of JSON (RFC 8259, section 7): where one ends, and how texts are written into a body for a provider, many bytes at a time.
//!
//! A field says `#[serde(serialize_with = "literal::text")]`, and what has such a field goes through [`body`]: serde_json looks for
//! what must be escaped byte by byte, which is most of the work on a megabyte. To any other serializer such a text is a list of
//! numbers.
//!
//! Invariant: what [`body`] writes is what serde_json would have written without the attribute.

use std::io::{self, Write};

use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

use crate::error::{Error, Result};

/// Bytes that are looked at together: all of them, which takes a processor less time than to stop at the first.
const TOGETHER: usize = 64;

/// A body of about this many bytes.
///
/// Errors: `Internal`, where the value is none that JSON can write.
pub fn body(of: &impl Serialize, about: usize) -> Result<Vec<u8>> {
    let mut body = Vec::with_capacity(about);
    let mut serializer = serde_json::Serializer::with_formatter(&mut body, Texts);
    of.serialize(&mut serializer).map_err(Error::internal)?;
    Ok(body)
}

/// Serializes a text for [`body`].
///
/// Errors: the serializer's.
pub fn text<T: AsRef<str>, S: Serializer>(text: &T, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_bytes(text.as_ref().as_bytes())
}

/// Compact JSON whose bytes are texts.
struct Texts;

impl Formatter for Texts {
    fn write_byte_array<W: Write + ?Sized>(&mut self, out: &mut W, text: &[u8]) -> io::Result<()> {
        out.write_all(b"\"")?;
        let mut rest = text;
        while let Some((plain, special, behind)) = split(rest) {
            out.write_all(plain)?;
            write_escape(out, special)?;
            rest = behind;
        }
        out.write_all(rest)?;
        out.write_all(b"\"")
    }
}

/// Not zero if this byte stands in no string of JSON as it is: it must be escaped, or ends the string, or begins an escape.
const fn special_byte(byte: u8) -> u8 {
    (byte < b' ') as u8 | (byte == b'"') as u8 | (byte == b'\\') as u8
}

/// Where the first such byte is.
pub(super) fn special(text: &[u8]) -> Option<usize> {
    // Most strings are short.
    let head = text.get(..TOGETHER).unwrap_or(text);
    if let Some(place) = special_in_words(head) {
        return Some(place);
    }
    let rest = text.get(TOGETHER..)?;
    // Of numbers a compiler makes one comparison of sixteen bytes, of truth values not.
    let found = |piece: &[u8; TOGETHER]| piece.iter().fold(0, |found, byte| found | special_byte(*byte));
    let plain = rest.as_chunks().0.iter().take_while(|piece| found(piece) == 0).count() * TOGETHER;
    Some(TOGETHER + plain + special_in_words(rest.get(plain..)?)?)
}

/// The same, eight bytes at a time.
fn special_in_words(text: &[u8]) -> Option<usize> {
    let (words, tail) = text.as_chunks();
    for (place, word) in words.iter().enumerate() {
        let marks = special_of_word(u64::from_le_bytes(*word));
        if marks != 0 {
            return Some(place * 8 + marks.trailing_zeros() as usize / 8);
        }
    }
    Some(words.len() * 8 + tail.iter().position(|byte| special_byte(*byte) != 0)?)
}

/// The highest bit of each special byte, the lowest of them for certain: a borrow goes only upwards from one that is.
const fn special_of_word(word: u64) -> u64 {
    const fn each(byte: u8) -> u64 {
        u64::from_le_bytes([byte; 8])
    }
    let (quote, slash) = (word ^ each(b'"'), word ^ each(b'\\'));
    let quotes = quote.wrapping_sub(each(1)) & !quote;
    let slashes = slash.wrapping_sub(each(1)) & !slash;
    let controls = word.wrapping_sub(each(b' ')) & !word;
    (quotes | slashes | controls) & each(0x80)
}

/// A text around its first byte that needs an escape, if there is one.
fn split(text: &[u8]) -> Option<(&[u8], u8, &[u8])> {
    let (plain, behind) = text.split_at_checked(special(text)?)?;
    let (special, behind) = behind.split_first()?;
    Some((plain, *special, behind))
}

fn write_escape<W: Write + ?Sized>(out: &mut W, byte: u8) -> io::Result<()> {
    match byte {
        b'"' => out.write_all(b"\\\""),
        b'\\' => out.write_all(b"\\\\"),
        b'\n' => out.write_all(b"\\n"),
        b'\r' => out.write_all(b"\\r"),
        b'\t' => out.write_all(b"\\t"),
        0x08 => out.write_all(b"\\b"),
        0x0c => out.write_all(b"\\f"),
        _ => write!(out, "\\u{byte:04x}"),
    }
}

/// What a provider reads.
#[cfg(test)]
pub(crate) fn value(of: &impl Serialize) -> serde_json::Value {
    serde_json::from_slice(&body(of, 0).unwrap()).unwrap()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Serialize)]
    struct Message<'t> {
        #[serde(serialize_with = "text")]
        content: &'t str,
        name: &'t str,
    }

    fn written(content: &str) -> String {
        String::from_utf8(body(&Message { content, name: content }, 0).unwrap()).unwrap()
    }

    fn expected(content: &str) -> String {
        let literal = serde_json::to_string(content).unwrap();
        format!("{{\"content\":{literal},\"name\":{literal}}}")
    }

    #[test]
    fn every_ascii_character_is_written_as_serde_json_writes_it_wherever_it_stands() {
        for character in (0..=127_u8).map(char::from) {
            for before in [0, 1, TOGETHER - 1, TOGETHER, 3 * TOGETHER + 7] {
                let content = format!("{}{character}{}{character}", "a".repeat(before), "é".repeat(before));
                assert_eq!(written(&content), expected(&content));
            }
        }
    }

    #[test]
    fn the_first_byte_that_no_string_holds_is_found_wherever_it_stands() {
        for length in 0..3 * TOGETHER {
            for special in [b'"', b'\\', 0, 0x1f] {
                for place in 0..length {
                    let mut text = vec![b'~'; length];
                    text[place] = special;
                    text[length - 1] = if place < length - 1 { b'"' } else { special };
                    assert_eq!(super::special(&text), Some(place), "of {length}");
                }
            }
            assert_eq!(super::special(&"é\u{7f}!#[]".repeat(length).as_bytes()[..length]), None);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_written_as_serde_json_writes_it(parts in prop::collection::vec("\\PC{0,90}|[\\x00-\\x7f]{0,9}", 0..9)) {
            let content = parts.concat();
            prop_assert_eq!(written(&content), expected(&content));
        }
    }
}
