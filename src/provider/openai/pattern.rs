//! Chunks that differ from the one before in nothing but their text, as most of a stream do: known by their bytes, without a parse.
//!
//! Invariant: what is recognised is what a parse would have found: the same members, and a text of one choice in the place where the
//! other chunk had its own.

use bytes::Bytes;
use serde_json::value::RawValue;

/// What stands before and behind the text of a chunk, the quotes included.
#[derive(Debug)]
pub(super) struct Pattern {
    before: Bytes,
    behind: Bytes,
}

impl Pattern {
    /// Of an event whose text this is; `None` where the text is no piece of it.
    pub(super) fn of(event: &Bytes, text: &RawValue) -> Option<Self> {
        let text = text.get().strip_prefix('"')?.strip_suffix('"')?;
        let start = (text.as_ptr() as usize).checked_sub(event.as_ptr() as usize)?;
        let end = start.checked_add(text.len()).filter(|end| *end <= event.len())?;
        Some(Self { before: event.slice(..start), behind: event.slice(end..) })
    }

    /// The length of the text of such a chunk, as JSON with its quotes. `None` for any other chunk, for a text with escapes and for
    /// none.
    pub(super) fn text(&self, event: &[u8]) -> Option<usize> {
        let text = event.strip_prefix(&*self.before)?.strip_suffix(&*self.behind)?;
        let plain = text.iter().all(|byte| *byte >= b' ' && !matches!(byte, b'"' | b'\\'));
        (plain && !text.is_empty() && std::str::from_utf8(text).is_ok()).then_some(text.len() + 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_plain_text_is_recognised() {
        let event = Bytes::from_static(b"data: {\"delta\":{\"content\":\"Hi\"},\"x\":1}\n\n");
        let json = std::str::from_utf8(&event[25..29]).unwrap();
        let text: &RawValue = serde_json::from_str(json).unwrap();
        let pattern = Pattern::of(&event, text).unwrap();
        let told =
            |text: &str| pattern.text(format!("data: {{\"delta\":{{\"content\":\"{text}\"}},\"x\":1}}\n\n").as_bytes());
        assert_eq!((told("Hi"), told(" there"), told("ü")), (Some(4), Some(8), Some(4)));
        for other in ["", "a\\n", "a\"b", "a\nb", "a\",\"x\":\"", "\u{1}"] {
            assert_eq!(told(other), None, "{other:?}");
        }
        assert_eq!(pattern.text(b"data: {\"delta\":{\"content\":\"Hi\"},\"x\":2}\n\n"), None);
        assert_eq!(pattern.text(b"data: {\"delta\":{\"content\":\"\xff\"},\"x\":1}\n\n"), None);
        assert_eq!(pattern.text(&event[..event.len() - 4]), None);
    }

    #[test]
    fn a_text_from_elsewhere_makes_no_pattern() {
        let elsewhere: Box<RawValue> = serde_json::from_str("\"a\"").unwrap();
        assert!(Pattern::of(&Bytes::from_static(b"\"a\""), &elsewhere).is_none());
    }
}
