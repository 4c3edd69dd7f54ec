//! Strings of JSON (RFC 8259, section 7): where one ends, and how texts are written into a body for a provider, many bytes at a time.
//!
//! A field says `#[serde(serialize_with = "literal::text")]`, and what has such a field goes through [`body`]: serde_json looks for
//! what must be escaped byte by byte, which is most of the work on a megabyte. To any other serializer such a text is a list of
//! numbers.
//!
//! Invariant: what [`body`] writes is what serde_json would have written without the attribute.

use std::io::{self, Write};

use memchr::memchr2;
use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

use crate::error::{Error, Result};

/// What is longer is searched with vectors. Most strings are shorter, and that takes longer to begin.
const SHORT: usize = 64;
/// The first and the largest piece that is searched with vectors: what lies behind the byte that is looked for is looked at in vain.
const PIECES: [usize; 2] = [256, 16 * 1024];

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
    let head = text.get(..SHORT).unwrap_or(text);
    if let Some(place) = special_in_words(head) {
        return Some(place);
    }
    let [mut size, most] = PIECES;
    let mut at = SHORT;
    loop {
        let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
        let piece = rest.get(..size).unwrap_or(rest);
        if let Some(place) = special_in_vectors(piece) {
            return Some(at + place);
        }
        at += piece.len();
        size = most.min(4 * size);
    }
}

/// Where a string that holds no control character ends, or its first escape begins.
pub(super) fn quote_or_slash(text: &[u8]) -> Option<usize> {
    let head = text.get(..SHORT).unwrap_or(text);
    special_in_words(head).or_else(|| Some(SHORT + memchr2(b'"', b'\\', text.get(SHORT..)?)?))
}

/// The first special byte of a piece, which is looked at as a whole.
fn special_in_vectors(piece: &[u8]) -> Option<usize> {
    let mark = memchr2(b'"', b'\\', piece);
    let plain = piece.get(..mark.unwrap_or(piece.len()))?;
    let control = if least(plain) < b' ' { plain.iter().position(|byte| *byte < b' ') } else { None };
    control.or(mark)
}

/// The least byte. Of the least of many bytes a compiler makes instructions for sixteen at once, of a search not; and where none
/// waits for the one before, four of them run at the same time.
fn least(bytes: &[u8]) -> u8 {
    let (rows, rest) = bytes.as_chunks::<64>();
    let mut least = [u8::MAX; 64];
    for row in rows {
        least.iter_mut().zip(row).for_each(|(least, byte)| *least = (*least).min(*byte));
    }
    least.iter().chain(rest).fold(u8::MAX, |least, byte| least.min(*byte))
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
            for before in [0, 1, SHORT - 1, SHORT, 3 * SHORT + 7, SHORT + PIECES[0]] {
                let content = format!("{}{character}{}{character}", "a".repeat(before), "é".repeat(before));
                assert_eq!(written(&content), expected(&content));
            }
        }
    }

    #[test]
    fn the_first_byte_that_no_string_holds_is_found_wherever_it_stands() {
        let around = |length: usize| length.saturating_sub(3)..length + 3;
        let long = [SHORT + PIECES[0], SHORT + 5 * PIECES[0]].into_iter().flat_map(around);
        for length in (0..3 * SHORT).chain(long) {
            for special in [b'"', b'\\', 0, 0x1f] {
                for place in (0..length.min(3 * SHORT)).chain(length.saturating_sub(3)..length) {
                    let mut text = vec![b'~'; length];
                    text[place] = special;
                    text[length - 1] = if place < length - 1 { b'"' } else { special };
                    assert_eq!(super::special(&text), Some(place), "of {length}");
                    if special > 0x1f {
                        assert_eq!(quote_or_slash(&text), Some(place), "of {length}");
                    }
                }
            }
            let plain = "é\u{7f}!#[]".repeat(length);
            assert_eq!(super::special(&plain.as_bytes()[..length]), None);
            assert_eq!(quote_or_slash(&plain.as_bytes()[..length]), None);
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
