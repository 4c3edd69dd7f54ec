//! Texts of strangers in lines that people and programs read: nothing in them may begin a line, move a cursor or turn the
//! direction of writing, and nothing that looks like a key may stay.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// What keys and tokens begin with, and the least of what follows.
const SECRETS: [(&str, usize); 3] = [("pk_", 16), ("sk-", 16), ("eyJ", 24)];

/// Writes a value as one line of JSON, its line break included.
pub fn json_line(value: &impl Serialize, out: &mut Vec<u8>) {
    let start = out.len();
    if value.serialize(&mut Serializer::with_formatter(&mut *out, Guarded)).is_err() {
        // Only a value that can't be JSON gets here, and half a line would spoil the next one.
        out.truncate(start);
        return;
    }
    out.push(b'\n');
}

/// A text as one word of a line: quoted and escaped where it holds anything but visible ASCII.
pub fn word(text: &str) -> Cow<'_, str> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Cow::Borrowed(text);
    }
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        if is_hidden(letter) || matches!(letter, '"' | '\\') {
            quoted.extend(letter.escape_default());
        } else {
            quoted.push(letter);
        }
    }
    quoted.push('"');
    Cow::Owned(quoted)
}

/// The beginning of a text, without what looks like a key or a token.
pub fn shown(text: &str, limit: usize) -> Cow<'_, str> {
    let clean = without_secrets(text);
    if clean.chars().nth(limit).is_none() {
        clean
    } else {
        Cow::Owned(clean.chars().take(limit).chain(['…']).collect())
    }
}

/// Whether a character does something else than to be seen.
fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn without_secrets(text: &str) -> Cow<'_, str> {
    let mut clean = String::new();
    let mut rest = text;
    while let Some((start, end)) = secret(rest) {
        clean.push_str(rest.get(..start).unwrap_or_default());
        clean.push_str("[redacted]");
        rest = rest.get(end..).unwrap_or_default();
    }
    if clean.is_empty() && rest.len() == text.len() {
        return Cow::Borrowed(text);
    }
    clean.push_str(rest);
    Cow::Owned(clean)
}

/// Where the first thing that looks like a secret begins and ends.
fn secret(text: &str) -> Option<(usize, usize)> {
    let found = SECRETS.iter().filter_map(|(prefix, least)| {
        text.match_indices(prefix).find_map(|(start, _)| {
            let inside_a_word = text.get(..start)?.ends_with(|letter: char| letter.is_ascii_alphanumeric());
            let rest = text.get(start + prefix.len()..)?;
            let key = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
            let length = rest.find(|letter| !key(letter)).unwrap_or(rest.len());
            (!inside_a_word && length >= *least).then_some((start, start + prefix.len() + length))
        })
    });
    found.min()
}

/// JSON without characters that a terminal would obey.
struct Guarded;

impl Formatter for Guarded {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if fragment.is_ascii() && !fragment.contains('\x7f') {
            return writer.write_all(fragment.as_bytes());
        }
        let mut safe = String::with_capacity(fragment.len() + 8);
        for letter in fragment.chars() {
            if is_hidden(letter) {
                // Writing to a String can't fail; each of them fits into one unit of UTF-16.
                let _ = write!(safe, "\\u{:04x}", u32::from(letter));
            } else {
                safe.push(letter);
            }
        }
        writer.write_all(safe.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_json_stays_one_line_and_obeys_nobody() {
        let nasty = "a\r\nb\u{1b}[31m\u{9b}2J\u{7f}\u{202e}\u{2028}\"\\ü…";
        let mut out = Vec::new();
        json_line(&serde_json::json!({ "text": nasty }), &mut out);
        let line = String::from_utf8(out).unwrap();
        let (body, end) = line.split_at(line.len() - 1);
        assert_eq!(end, "\n");
        assert!(!body.chars().any(is_hidden), "{body:?}");
        assert!(body.contains("ü…"));
        let read: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(read["text"], nasty, "and still says the same");
    }

    #[test]
    fn a_word_that_is_more_than_a_word_is_quoted() {
        assert_eq!(word("gpt-4o"), "gpt-4o");
        assert_eq!(word(""), "\"\"");
        assert_eq!(word("a 200 OK"), "\"a 200 OK\"");
        assert_eq!(word("a\n\u{1b}[2J\"ü"), "\"a\\n\\u{1b}[2J\\\"ü\"");
    }

    #[test]
    fn what_looks_like_a_key_is_not_shown() {
        let key = "pk_0123456789abcdefABCDEF";
        assert_eq!(shown(&format!("/v1/models/{key}"), 256), "/v1/models/[redacted]");
        assert_eq!(shown(&format!("sk-ant-api03-0123456789/{key}"), 256), "[redacted]/[redacted]");
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";
        assert_eq!(shown(&format!("x={token}&y"), 256), "x=[redacted]&y");
        for plain in ["/v1/chat/completions", "task-management-service-name", "pk_short", "sk-", "gpt-4o"] {
            assert_eq!(shown(plain, 256), plain);
        }
    }

    #[test]
    fn a_long_text_is_cut_between_letters() {
        assert_eq!(shown("äöüß", 3), "äöü…");
        assert_eq!(shown("äöü", 3), "äöü");
    }
}
