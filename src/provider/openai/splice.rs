//! Small changes inside a JSON text, by the places of the values that were looked at; every other byte stays.
//!
//! The texts that are handed in must be slices of the source, as serde's borrowed raw values are; a foreign one changes nothing.

use std::ops::Range;

use crate::api::walk::span;

/// A JSON text and what shall change in it.
#[derive(Debug)]
pub(super) struct Splice<'a> {
    source: &'a [u8],
    changes: Vec<(Range<usize>, String)>,
}

impl<'a> Splice<'a> {
    pub(super) const fn new(source: &'a [u8]) -> Self {
        Self { source, changes: Vec::new() }
    }

    /// Puts another text in the place of this one.
    pub(super) fn replace(&mut self, old: &str, new: impl Into<String>) {
        if let Some(place) = self.place(old) {
            self.changes.push((place, new.into()));
        }
    }

    /// Puts a text behind this one.
    pub(super) fn insert_after(&mut self, old: &str, new: impl Into<String>) {
        if let Some(place) = self.place(old) {
            self.changes.push((place.end..place.end, new.into()));
        }
    }

    /// Puts members at the start of this object, behind those that were put there before.
    pub(super) fn insert_inside(&mut self, object: &str, members: &[String]) {
        let Some(inside) = object.strip_prefix('{').filter(|_| !members.is_empty()) else { return };
        let Some(Range { start, .. }) = self.place(inside) else { return };
        let members = members.join(",");
        // An empty object takes no comma behind its only members.
        let text = match inside.trim_start().starts_with('}') {
            false => members + ",",
            true if self.changes.iter().any(|(place, _)| *place == (start..start)) => format!(",{members}"),
            true => members,
        };
        self.changes.push((start..start, text));
    }

    /// Puts a member at the start of the whole text, which must be an object with a member.
    pub(super) fn open(&mut self, member: impl Into<String>) {
        if let Some(start) = self.source.iter().position(|byte| *byte == b'{') {
            self.changes.push((start + 1..start + 1, format!("{},", member.into())));
        }
    }

    /// The text after all changes; `None` when there is none.
    pub(super) fn apply(mut self) -> Option<Vec<u8>> {
        if self.changes.is_empty() {
            return None;
        }
        self.changes.sort_by_key(|(place, _)| place.start);
        let mut out = Vec::with_capacity(self.source.len() + 64);
        let mut at = 0;
        for (place, text) in &self.changes {
            out.extend_from_slice(self.source.get(at..place.start).unwrap_or_default());
            out.extend_from_slice(text.as_bytes());
            at = place.end;
        }
        out.extend_from_slice(self.source.get(at..).unwrap_or_default());
        Some(out)
    }

    fn place(&self, piece: &str) -> Option<Range<usize>> {
        span(self.source, piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_changes() {
        let text = String::from(r#"{"a": 1, "b":[2 ]}"#);
        let mut splice = Splice::new(text.as_bytes());
        splice.insert_after(&text[13..17], r#","c":3"#);
        splice.replace(&text[6..7], "null");
        assert_eq!(splice.apply().unwrap(), br#"{"a": null, "b":[2 ],"c":3}"#.to_vec());
    }

    #[test]
    fn members_are_put_at_the_start_of_their_object() {
        let text = String::from(r#" {"a":{"b":1}}"#);
        let mut splice = Splice::new(text.as_bytes());
        splice.insert_inside(&text[6..13], &["\"c\":2".to_owned()]);
        splice.open("\"d\":3");
        splice.open("\"e\":4");
        assert_eq!(splice.apply().unwrap(), br#" {"d":3,"e":4,"a":{"c":2,"b":1}}"#.to_vec());
    }

    #[test]
    fn a_text_from_elsewhere_changes_nothing() {
        let mut splice = Splice::new(b"{}");
        splice.replace("elsewhere", "x");
        assert_eq!(splice.apply(), None);
    }
}
