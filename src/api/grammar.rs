//! The grammar of JSON (RFC 8259): whether a text is an object, and where its members are.
//!
//! It only says yes or no: what is wrong with a text is told by serde_json (`scan`), which takes a text of a megabyte six times as
//! long. Not here: what members mean, doubled keys, numbers that are too large for a type.
//!
//! Invariant: whatever is accepted here, serde_json accepts, with the same members.

use std::borrow::Cow;
use std::ops::Range;

use super::literal::special;

/// The top-level members of an object that nests at most so many levels deep, its own counted: keys and where their values are.
/// `None` for anything else.
pub(super) fn members(text: &str, levels: usize) -> Option<Vec<(Cow<'_, str>, Range<usize>)>> {
    let mut cursor = Cursor { text, at: 0, levels };
    let mut members = Vec::with_capacity(16);
    cursor.expect(b'{')?;
    if !cursor.accept(b'}') {
        loop {
            let key = cursor.key()?;
            let begin = cursor.gap();
            cursor.value()?;
            members.push((key, begin..cursor.at));
            if !cursor.accept(b',') {
                break;
            }
        }
        cursor.expect(b'}')?;
    }
    cursor.gap();
    (cursor.at == text.len()).then_some(members)
}

/// Walks over a text. What it gives is `None` where the grammar does not go on.
struct Cursor<'t> {
    text: &'t str,
    at: usize,
    levels: usize,
}

/// The most levels: as many as there are bits for their brackets.
const MOST: usize = 128;

/// The brackets that are open: one bit for each, the innermost lowest, set for an object.
#[derive(Default)]
struct Open {
    objects: u128,
    depth: usize,
}

impl Open {
    fn push(&mut self, object: bool, levels: usize) -> Option<()> {
        self.objects = self.objects << 1 | u128::from(object);
        self.depth += 1;
        // The outermost object is not among them.
        (self.depth < levels.min(MOST)).then_some(())
    }

    fn pop(&mut self) {
        self.objects >>= 1;
        self.depth -= 1;
    }

    const fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }
}

impl<'t> Cursor<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Passes over white space; gives where it ended.
    fn gap(&mut self) -> usize {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.at
    }

    /// Passes over this byte, if it comes next behind white space.
    fn accept(&mut self, byte: u8) -> bool {
        self.gap();
        let next = self.peek() == Some(byte);
        self.at += usize::from(next);
        next
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.accept(byte).then_some(())
    }

    /// A key and its colon.
    fn key(&mut self) -> Option<Cow<'t, str>> {
        let begin = self.gap();
        self.string()?;
        let raw = self.text.get(begin..self.at)?;
        let plain = raw.get(1..raw.len() - 1)?;
        self.expect(b':')?;
        if plain.as_bytes().contains(&b'\\') {
            Some(Cow::Owned(serde_json::from_str(raw).ok()?))
        } else {
            Some(Cow::Borrowed(plain))
        }
    }

    /// A value with all that is in it.
    fn value(&mut self) -> Option<()> {
        let mut open = Open::default();
        loop {
            self.gap();
            match self.peek()? {
                b'{' => {
                    self.at += 1;
                    open.push(true, self.levels)?;
                    if !self.accept(b'}') {
                        self.inner_key()?;
                        continue;
                    }
                    open.pop();
                }
                b'[' => {
                    self.at += 1;
                    open.push(false, self.levels)?;
                    if !self.accept(b']') {
                        continue;
                    }
                    open.pop();
                }
                _ => self.scalar()?,
            }
            if self.close(&mut open)? {
                return Some(());
            }
        }
    }

    /// Behind a value: closes the brackets that end with it. Whether that was the whole of it; else another value follows.
    fn close(&mut self, open: &mut Open) -> Option<bool> {
        while open.depth > 0 {
            if self.accept(b',') {
                if open.in_object() {
                    self.inner_key()?;
                }
                return Some(false);
            }
            self.expect(if open.in_object() { b'}' } else { b']' })?;
            open.pop();
        }
        Some(true)
    }

    fn inner_key(&mut self) -> Option<()> {
        self.gap();
        self.string()?;
        self.expect(b':')
    }

    fn scalar(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string(),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &str) -> Option<()> {
        let found = self.text.as_bytes().get(self.at..)?.starts_with(word.as_bytes());
        self.at += word.len();
        found.then_some(())
    }

    fn string(&mut self) -> Option<()> {
        if self.peek()? != b'"' {
            return None;
        }
        self.at += 1;
        loop {
            let rest = self.text.as_bytes().get(self.at..)?;
            let end = special(rest)?;
            self.at += end + 1;
            match rest.get(end)? {
                b'"' => return Some(()),
                b'\\' => self.escape()?,
                // A control character, which must be escaped.
                _ => return None,
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Option<()> {
        let letter = self.peek()?;
        self.at += 1;
        match letter {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let digits = self.text.as_bytes().get(self.at..self.at + 4)?;
                self.at += 4;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(())
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<()> {
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.peek()? {
            b'0' => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Some(())
    }

    /// One digit or more.
    fn digits(&mut self) -> Option<()> {
        let begin = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > begin).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;
    use serde_json::value::RawValue;

    use super::*;

    fn keys(text: &str) -> Option<Vec<(String, &str)>> {
        let found = members(text, 127)?;
        Some(found.into_iter().map(|(key, at)| (key.into_owned(), text.get(at).unwrap())).collect())
    }

    #[test]
    fn members_are_found_where_they_stand() {
        let text = "\n{ \"a\" : [1, {\"b\": \"}\\\"\"}] ,\"c\\u0064\":-0.5e+3,\t\"e\":{} ,\"f\":[], \"g\":null}\r\n";
        let expected = [("a", r#"[1, {"b": "}\""}]"#), ("cd", "-0.5e+3"), ("e", "{}"), ("f", "[]"), ("g", "null")];
        assert_eq!(keys(text).unwrap(), expected.map(|(key, value)| (key.to_owned(), value)));
        assert_eq!(keys("{}").unwrap(), []);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let values = [
            "01",
            "-",
            "1.",
            "1e",
            "+1",
            ".5",
            "tru",
            "nulL",
            "\"a",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\t\"",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "{\"a\":1,}",
            "[}",
            "{]",
            "NaN",
            "'a'",
            "",
            "1,",
            "[\u{c}1]",
        ];
        for value in values {
            let text = format!("{{\"k\":{value}}}");
            assert!(serde_json::from_str::<Value>(&text).is_err(), "{text}");
            assert_eq!(keys(&text), None, "{text}");
        }
        for text in ["", "[]", "1", "{", "}", "{}}", "{} x", "{\"a\":1", "{\"a\":1,}", "{\"a\" 1}", "{,}"] {
            assert_eq!(keys(text), None, "{text}");
        }
    }

    #[test]
    fn it_nests_as_deep_as_it_may() {
        let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(members(&nested(126), 127).is_some());
        assert!(members(&nested(127), 127).is_none());
        assert!(members(&nested(100_000), 127).is_none());
        assert!(members(&nested(1000), 1000).is_none(), "more than there are bits for");
    }

    proptest! {
        #[test]
        fn what_it_accepts_a_parser_accepts(text in r#"[ \[\]{}:,"\\atrue0-9.eE+\-un]{0,24}"#) {
            let text = format!("{{{text}}}");
            let parsed = serde_json::from_str::<std::collections::BTreeMap<String, Box<RawValue>>>(&text);
            if let Some(found) = keys(&text) {
                let parsed = parsed.unwrap();
                for (key, value) in found.iter().rev() {
                    prop_assert!(parsed.contains_key(key), "{} of {}", key, value);
                }
            } else {
                prop_assert!(parsed.is_err(), "{}", text);
            }
        }

        #[test]
        fn it_finds_what_a_parser_finds(texts in prop::collection::vec((".*", ".*"), 0..5), pretty: bool) {
            let value: Value = texts.iter().map(|(key, text)| (key.clone(), serde_json::json!([{"k": text}, 1.5e-7, true]))).collect();
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let found = keys(&text).unwrap();
            prop_assert_eq!(found.len(), value.as_object().unwrap().len());
            for (key, raw) in found {
                prop_assert_eq!(&serde_json::from_str::<Value>(raw).unwrap(), &value[key]);
            }
        }
    }
}
