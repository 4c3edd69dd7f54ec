//! Events that differ from the one before in nothing but their text, as most of a stream do: known by their bytes, without a parse.
//!
//! Invariant: what is recognised is what a parse would have found: the same members, and another text in the place of the one that
//! the other event had.

use std::ops::Range;

use bytes::Bytes;

use crate::api::walk::span;

/// What stands before and behind the text of an event, its quotes included.
#[derive(Debug)]
pub(super) struct Pattern {
    before: Bytes,
    behind: Bytes,
}

impl Pattern {
    /// Of an event in which this text stands, without escapes and without its quotes; `None` where it is no piece of the event.
    pub(super) fn of(event: &Bytes, text: &str) -> Option<Self> {
        let Range { start, end } = span(event, text)?;
        let quoted = event.get(start.checked_sub(1)?) == Some(&b'"') && event.get(end) == Some(&b'"');
        quoted.then(|| Self { before: event.slice(..start), behind: event.slice(end..) })
    }

    /// The text of such an event. `None` for any other event, for a text with escapes and for none.
    pub(super) fn text<'e>(&self, event: &'e [u8]) -> Option<&'e str> {
        let text = event.strip_prefix(&*self.before)?.strip_suffix(&*self.behind)?;
        let plain = text.iter().all(|byte| *byte >= b' ' && !matches!(byte, b'"' | b'\\'));
        std::str::from_utf8(text).ok().filter(|text| plain && !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_plain_text_is_recognised() {
        let event = Bytes::from_static(b"data: {\"delta\":{\"content\":\"Hi\"},\"x\":1}\n\n");
        let pattern = Pattern::of(&event, std::str::from_utf8(&event[27..29]).unwrap()).unwrap();
        let chunk = |text: &str| format!("data: {{\"delta\":{{\"content\":\"{text}\"}},\"x\":1}}\n\n").into_bytes();
        for text in ["Hi", " there", "ü"] {
            assert_eq!(pattern.text(&chunk(text)), Some(text));
        }
        for other in ["", "a\\n", "a\"b", "a\nb", "a\",\"x\":\"", "\u{1}"] {
            assert_eq!(pattern.text(&chunk(other)), None, "{other:?}");
        }
        assert_eq!(pattern.text(b"data: {\"delta\":{\"content\":\"Hi\"},\"x\":2}\n\n"), None);
        assert_eq!(pattern.text(b"data: {\"delta\":{\"content\":\"\xff\"},\"x\":1}\n\n"), None);
        assert_eq!(pattern.text(&event[..event.len() - 4]), None);
    }

    #[test]
    fn a_text_from_elsewhere_or_without_quotes_makes_no_pattern() {
        let event = Bytes::from_static(b"{\"a\":12}");
        assert!(Pattern::of(&event, "12").is_none());
        assert!(Pattern::of(&event, std::str::from_utf8(&event[5..7]).unwrap()).is_none());
        assert!(Pattern::of(&event, std::str::from_utf8(&event[2..3]).unwrap()).is_some());
    }
}
