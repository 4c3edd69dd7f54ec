//! Newline-delimited JSON: bytes in any cut → one event per line. Knows nothing about language models.
//!
//! Invariants: as for `sse`; an unfinished last line is an event of its own once [`Decoder::finish`] says that no more comes.

use bytes::{Bytes, BytesMut};

use crate::sse::{Event, TooLarge};

/// Turns bytes in any cut into lines.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    /// How far `buffer` was searched; nothing before it is looked at twice.
    scanned: usize,
    limit: usize,
}

impl Decoder {
    /// A decoder that holds at most `limit` bytes of one line.
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), scanned: 0, limit }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next line that is not blank, `None` when more bytes are needed.
    pub fn next_event(&mut self) -> Result<Option<Event>, TooLarge> {
        while let Some(offset) = self.buffer.get(self.scanned..).and_then(|rest| memchr::memchr(b'\n', rest)) {
            let raw = self.buffer.split_to(self.scanned + offset + 1).freeze();
            self.scanned = 0;
            if raw.len() > self.limit {
                return Err(TooLarge { limit: self.limit });
            }
            if let Some(event) = line(raw) {
                return Ok(Some(event));
            }
        }
        self.scanned = self.buffer.len();
        if self.buffer.len() > self.limit { Err(TooLarge { limit: self.limit }) } else { Ok(None) }
    }

    /// No more bytes come: the last line needs no line end.
    pub fn finish(&mut self) {
        if !self.buffer.is_empty() {
            self.buffer.extend_from_slice(b"\n");
        }
    }

    /// Whether bytes of an unfinished line are held.
    pub fn has_partial(&self) -> bool {
        !self.buffer.is_empty()
    }
}

fn line(raw: Bytes) -> Option<Event> {
    let data = raw.slice_ref(raw.trim_ascii());
    (!data.is_empty()).then_some(Event { name: None, data, raw })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Bytes> {
        let mut decoder = Decoder::new(100);
        let mut lines = Vec::new();
        let mut drain = |decoder: &mut Decoder| {
            while let Some(event) = decoder.next_event().unwrap() {
                lines.push(event.data);
            }
        };
        for piece in pieces {
            decoder.push(piece);
            drain(&mut decoder);
        }
        decoder.finish();
        drain(&mut decoder);
        lines
    }

    #[test]
    fn the_cut_does_not_matter_and_the_last_line_needs_no_end() {
        let text = "{\"a\":1}\r\n\n{\"b\":\"Grüße\"}\n{\"c\":3}".as_bytes();
        let expected = decode(std::iter::once(text));
        assert_eq!(expected, ["{\"a\":1}", "{\"b\":\"Grüße\"}", "{\"c\":3}"]);
        for size in 1..text.len() {
            assert_eq!(decode(text.chunks(size)), expected, "pieces of {size}");
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut decoder = Decoder::new(8);
        decoder.push(b"123456789");
        assert_eq!(decoder.next_event(), Err(TooLarge { limit: 8 }));
    }
}
