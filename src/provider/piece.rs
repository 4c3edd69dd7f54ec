//! Chunks with a piece of text and nothing else: all alike but for the text, so that all but the text is written once.
//!
//! Invariant: a piece is the chunk that `StreamOut::chunk` would have written, byte by byte.

use crate::api::answer::{ChunkChoice, Delta};
use crate::error::{Error, Result};
use crate::provider::{AnswerContext, StreamOut};

/// What stands before and behind the text.
#[derive(Debug)]
pub(super) struct Pieces {
    before: Vec<u8>,
    behind: Vec<u8>,
}

/// A text that stands in no id and in no name of a model.
const MARK: &str = "\u{1}";
/// How JSON writes it.
const WRITTEN: &[u8] = b"\"\\u0001\"";

impl Pieces {
    /// The pieces of this answer.
    pub(super) fn new(context: &AnswerContext) -> Result<Self> {
        let delta = Delta { content: Some(MARK), ..Delta::default() };
        let choice = ChunkChoice { index: 0, delta, logprobs: None, finish_reason: None };
        let mut out = StreamOut::default();
        out.chunk(context, &[choice], context.include_usage.then_some(None))?;
        // Behind ids and names, whatever they hold.
        let at =
            memchr::memmem::rfind(&out.bytes, WRITTEN).ok_or_else(|| Error::internal("a chunk without its text"))?;
        let behind = out.bytes.split_off(at).split_off(WRITTEN.len());
        Ok(Self { before: out.bytes, behind })
    }

    /// Writes one.
    pub(super) fn write(&self, text: &str, out: &mut Vec<u8>) -> Result<()> {
        out.reserve(self.before.len() + text.len() + self.behind.len() + 8);
        out.extend_from_slice(&self.before);
        serde_json::to_writer(&mut *out, text).map_err(Error::internal)?;
        out.extend_from_slice(&self.behind);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::tests_support::context;

    #[test]
    fn a_piece_is_the_chunk_that_it_stands_for() {
        for (include_usage, id) in [(true, "c"), (false, "c\u{1}\"")] {
            let context = AnswerContext { include_usage, id: id.to_owned(), ..context("anthropic") };
            let pieces = Pieces::new(&context).unwrap();
            for text in ["Hi", "", "a\"b\n\u{1}ü"] {
                let delta = Delta { content: Some(text), ..Delta::default() };
                let choice = ChunkChoice { index: 0, delta, logprobs: None, finish_reason: None };
                let (mut whole, mut piece) = (StreamOut::default(), Vec::new());
                whole.chunk(&context, &[choice], include_usage.then_some(None)).unwrap();
                pieces.write(text, &mut piece).unwrap();
                assert_eq!(String::from_utf8(piece).unwrap(), String::from_utf8(whole.bytes).unwrap());
            }
        }
    }
}
