//! An emulated JSON object without the Markdown fence that some models put around it, piece by piece.
//!
//! Invariant: what is no fenced object goes out unchanged, at most a little later.

/// The language that a fence of JSON names, if it names one.
const LANGUAGE: &str = "json";
const FENCE: &str = "```";

/// What has come of a text that should be a JSON object.
#[derive(Debug, Default)]
pub(in crate::provider) enum Unfence {
    /// Nothing that tells whether a fence opens.
    #[default]
    Unknown,
    /// The beginning of what may be a fence.
    Opening(String),
    /// Inside of a fence; what may be its end is held back.
    Inside(String),
    /// No fence.
    Plain,
}

impl Unfence {
    /// Takes a piece; gives what can go out.
    pub(in crate::provider) fn push(&mut self, piece: &str) -> String {
        match std::mem::replace(self, Self::Plain) {
            Self::Plain => piece.to_owned(),
            Self::Unknown => self.open(piece.to_owned()),
            Self::Opening(held) => self.open(held + piece),
            Self::Inside(held) => self.inside(held + piece),
        }
    }

    /// The text is over; gives what was held back and is no end of a fence.
    pub(in crate::provider) fn finish(&mut self) -> String {
        match std::mem::replace(self, Self::Plain) {
            Self::Opening(held) => held,
            Self::Inside(held) if held.trim() != FENCE => held,
            Self::Inside(_) | Self::Unknown | Self::Plain => String::new(),
        }
    }

    fn open(&mut self, held: String) -> String {
        let text = held.trim_start();
        let Some(inner) = text.strip_prefix(FENCE) else {
            if FENCE.starts_with(text) {
                *self = Self::Opening(held);
                return String::new();
            }
            return held;
        };
        let object = inner.strip_prefix(LANGUAGE).unwrap_or(inner).trim_start();
        if object.starts_with('{') {
            let object = object.to_owned();
            return self.inside(object);
        }
        if object.is_empty() || LANGUAGE.starts_with(inner) {
            *self = Self::Opening(held);
            return String::new();
        }
        held
    }

    fn inside(&mut self, mut text: String) -> String {
        let ends = |letter: char| letter.is_whitespace() || letter == '`';
        let held = text.split_off(text.trim_end_matches(ends).len());
        *self = Self::Inside(held);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_goes_wherever_it_is_cut_and_everything_else_stays() {
        let object = "{\"a\": \"``` \\n `\"}";
        for (text, expected) in [
            (format!("```json\n{object}\n```"), object.to_owned()),
            (format!(" \n```\n{object}```\n"), object.to_owned()),
            (object.to_owned(), object.to_owned()),
            (format!("  {object}\n"), format!("  {object}\n")),
            ("```rust\nfn a() {}\n```".to_owned(), "```rust\nfn a() {}\n```".to_owned()),
            ("``".to_owned(), "``".to_owned()),
            (format!("```json\n{object}"), object.to_owned()),
        ] {
            for size in 1..8 {
                let letters: Vec<char> = text.chars().collect();
                let mut unfence = Unfence::default();
                let pieces = letters.chunks(size).map(|piece| unfence.push(&piece.iter().collect::<String>()));
                let out = pieces.collect::<String>() + &unfence.finish();
                assert_eq!(out, expected, "{text} by {size}");
            }
        }
    }
}
