//! The items of a JSON array and the members of a JSON object as pieces of its text, found by its brackets and quotes alone.
//!
//! For texts that are known to be valid, as a scanned body is: it checks nothing, but whatever it is given it ends. It looks at strings
//! only for their ends, so that a megabyte of text costs next to nothing. Not here: whether a text is valid (`scan`).

use std::borrow::Cow;
use std::ops::Range;

use super::literal::quote_or_slash;

/// Where a piece of a text stands in it; `None` for anything that is no piece of it, and lies elsewhere in memory.
pub fn span(whole: &[u8], piece: &str) -> Option<Range<usize>> {
    let start = (piece.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    let end = start.checked_add(piece.len())?;
    (end <= whole.len()).then_some(start..end)
}

/// The items of an array; none for anything else.
pub fn items(text: &str) -> impl Iterator<Item = &str> {
    let mut walk = Walk::into(text, b'[');
    std::iter::from_fn(move || walk.value())
}

/// The items of an array in one pass: of an object the values of these keys; `None` for anything else, and where one of the keys
/// stands twice.
pub fn objects<'a, const N: usize>(
    text: &'a str,
    wanted: [&str; N],
) -> impl Iterator<Item = Option<[Option<&'a str>; N]>> {
    let mut walk = Walk::into(text, b'[');
    std::iter::from_fn(move || {
        if walk.gap()? != b'{' {
            return walk.value().map(|_| None);
        }
        let mut object = Walk { text, at: walk.at + 1 };
        let (mut found, mut doubled) = ([None; N], false);
        while let Some((raw, value)) = object.value().and_then(|raw| Some((raw, object.value()?))) {
            let place = wanted.iter().position(|wanted| *wanted == key(raw));
            doubled |= place.and_then(|place| found.get_mut(place)).is_some_and(|found| found.replace(value).is_some());
        }
        walk.at = object.at + 1;
        Some((!doubled).then_some(found))
    })
}

/// The members of an object, in their order; none for anything else.
pub fn members(text: &str) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    let mut walk = Walk::into(text, b'{');
    std::iter::from_fn(move || Some((key(walk.value()?), walk.value()?)))
}

/// A key without its quotes and escapes.
fn key(raw: &str) -> Cow<'_, str> {
    if raw.as_bytes().contains(&b'\\') {
        return serde_json::from_str::<String>(raw).unwrap_or_default().into();
    }
    raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).unwrap_or(raw).into()
}

struct Walk<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Walk<'a> {
    /// Behind the bracket that the text begins with, if it is this one, else at its end.
    fn into(text: &'a str, bracket: u8) -> Self {
        let begin = text.len() - text.trim_ascii_start().len();
        let at = if text.as_bytes().get(begin) == Some(&bracket) { begin + 1 } else { text.len() };
        Self { text, at }
    }

    /// Passes over whatever separates a value, or key, from the one before; gives what comes next.
    fn gap(&mut self) -> Option<u8> {
        let between = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b':');
        let rest = self.text.as_bytes().get(self.at..)?;
        let length = rest.iter().position(|byte| !between(byte))?;
        self.at += length;
        rest.get(length).copied()
    }

    /// The next value, or key.
    fn value(&mut self) -> Option<&'a str> {
        self.gap()?;
        let begin = self.at;
        self.at = end_of_value(self.text.as_bytes(), begin);
        self.text.get(begin..self.at).filter(|value| !value.is_empty())
    }
}

/// Where the value that begins here ends.
fn end_of_value(bytes: &[u8], begin: usize) -> usize {
    let (mut at, mut depth) = (begin, 0_usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at),
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth > 0 => depth -= 1,
            b'}' | b']' => return at,
            b',' | b':' if depth == 0 => return at,
            byte if depth == 0 && byte.is_ascii_whitespace() => return at,
            _ => {}
        }
        at += 1;
        if depth == 0 && matches!(byte, b'"' | b'}' | b']') {
            break;
        }
    }
    at.min(bytes.len())
}

/// The position of the quote that closes the string opened at `open`, or the end of the input.
pub(super) fn end_of_string(bytes: &[u8], open: usize) -> usize {
    let mut at = open + 1;
    while let Some(offset) = bytes.get(at..).and_then(quote_or_slash) {
        at += offset;
        match bytes.get(at) {
            Some(b'"') => return at,
            Some(b'\\') => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn pieces_are_found_whatever_stands_between_and_inside() {
        let text = r#" [ {"a":[1,{"b":"]"}]} ,"x\"]", 1.5e3 ,null,[] , {} ] "#;
        let found: Vec<_> = items(text).collect();
        assert_eq!(found, [r#"{"a":[1,{"b":"]"}]}"#, r#""x\"]""#, "1.5e3", "null", "[]", "{}"]);
        let found: Vec<_> = members(r#"{ "r\u006fle" : "user","content":[{"x":","}] }"#).collect();
        assert_eq!(found, [("role".into(), "\"user\""), ("content".into(), r#"[{"x":","}]"#)]);
        let text = r#"[{"role":"user","x":[{"role":1}],"content":"}\""}, 7, {"content":[],"r\u006fle":null},{"role":1,"role":2},{}]"#;
        let found: Vec<_> = objects(text, ["role", "content"]).collect();
        let (first, third) = ([Some("\"user\""), Some("\"}\\\"\"")], [Some("null"), Some("[]")]);
        assert_eq!(found, [Some(first), None, Some(third), None, Some([None, None])]);
        assert_eq!((items("{}").count(), items("[]").count(), members("[1]").count(), items("").count()), (0, 0, 0, 0));
    }

    proptest! {
        #[test]
        fn it_ends_on_any_text(text in ".*") {
            items(&text).count();
            members(&text).count();
            objects(&text, ["k"]).count();
        }

        #[test]
        fn it_finds_what_a_parser_finds(texts in prop::collection::vec(".*", 0..5), pretty: bool) {
            let value = serde_json::json!(texts.iter().map(|text| serde_json::json!({"k": text, "n": [text, 1]})).collect::<Vec<_>>());
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let parsed: Vec<&RawValue> = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(items(&text).collect::<Vec<_>>(), parsed.iter().map(|raw| raw.get()).collect::<Vec<_>>());
            let found: Vec<_> = objects(&text, ["n", "k"]).collect();
            for (item, found) in items(&text).zip(found) {
                let [n, k] = found.unwrap().map(Option::unwrap);
                prop_assert_eq!(members(item).map(|(_, value)| value).collect::<Vec<_>>(), [k, n]);
                prop_assert_eq!(members(item).map(|(key, _)| key.into_owned()).collect::<Vec<_>>(), ["k", "n"]);
            }
        }
    }
}
