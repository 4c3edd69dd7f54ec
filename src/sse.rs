//! Server-sent events: bytes in any cut → events; and the frame of an event → bytes.
//!
//! Follows the WHATWG event stream grammar (html.spec.whatwg.org, "Parsing an event stream"): CR, LF and CRLF line
//! ends, a leading byte order mark, `data:` with or without a space, several data lines, comments, unknown fields.
//! Knows nothing about language models. An event that the end of the input cuts in half is dropped, as the grammar says.
//!
//! Invariants: the same bytes give the same events however they are cut; the work is linear in the bytes;
//! no more than the limit given to [`Decoder::new`] is ever held.

use bytes::{Buf, Bytes, BytesMut};

/// One event of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The `event:` field, when there was one.
    pub name: Option<Bytes>,
    /// The `data:` lines, joined by line feeds.
    pub data: Bytes,
    /// The bytes of the whole event as they came, the blank line included: what a proxy forwards untouched. A CRLF that was
    /// cut in half is whole here.
    pub raw: Bytes,
}

/// An event grew beyond the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is larger than {limit} bytes")]
pub struct TooLarge {
    /// The limit, in bytes.
    pub limit: usize,
}

/// Turns bytes in any cut into events.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    /// How far `buffer` was searched for line ends; nothing before it is looked at twice.
    scanned: usize,
    /// Where the line that is being read begins.
    line_start: usize,
    at_stream_start: bool,
    /// The last event was given out with the line feed of its final CRLF before that came.
    ahead: bool,
    limit: usize,
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

impl Decoder {
    /// A decoder that holds at most `limit` bytes of one event.
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), scanned: 0, line_start: 0, at_stream_start: true, ahead: false, limit }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete event, `None` when more bytes are needed.
    ///
    /// Fails when the event that is being read exceeds the limit.
    pub fn next_event(&mut self) -> Result<Option<Event>, TooLarge> {
        if !self.skip_byte_order_mark() {
            return Ok(None);
        }
        self.skip_line_feed();
        while let Some((line_end, next_line)) = self.find_line_end() {
            let blank = line_end == self.line_start;
            self.scanned = next_line;
            self.line_start = next_line;
            if !blank {
                continue;
            }
            let raw = self.take(next_line);
            self.scanned = 0;
            self.line_start = 0;
            if raw.len() > self.limit {
                return Err(TooLarge { limit: self.limit });
            }
            if let Some(event) = parse_event(raw) {
                return Ok(Some(event));
            }
        }
        if self.buffer.len() > self.limit {
            return Err(TooLarge { limit: self.limit });
        }
        Ok(None)
    }

    /// Takes the event off the buffer. A blank line that is a CR at the very end is the half of a CRLF where the line before
    /// it ended in one; its LF goes with the event, or the events behind it would reach clients without a blank line between
    /// them that every parser knows.
    fn take(&mut self, end: usize) -> Bytes {
        let mut raw = self.buffer.split_to(end);
        if self.buffer.is_empty() && raw.ends_with(b"\r\n\r") {
            raw.extend_from_slice(b"\n");
            self.ahead = true;
        }
        raw.freeze()
    }

    fn skip_line_feed(&mut self) {
        if !self.buffer.is_empty() && std::mem::take(&mut self.ahead) && self.buffer.starts_with(b"\n") {
            self.buffer.advance(1);
        }
    }

    /// Whether bytes of an unfinished event are held.
    pub fn has_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// False while it can't be known yet whether the stream begins with a byte order mark.
    fn skip_byte_order_mark(&mut self) -> bool {
        if !self.at_stream_start {
            return true;
        }
        if self.buffer.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(&self.buffer) {
            return false;
        }
        if self.buffer.starts_with(BYTE_ORDER_MARK) {
            self.buffer.advance(BYTE_ORDER_MARK.len());
        }
        self.at_stream_start = false;
        true
    }

    /// The end of the current line and the start of the next one.
    fn find_line_end(&mut self) -> Option<(usize, usize)> {
        let rest = self.buffer.get(self.scanned..)?;
        let Some(offset) = memchr::memchr2(b'\n', b'\r', rest) else {
            self.scanned = self.buffer.len();
            return None;
        };
        let end = self.scanned + offset;
        if self.buffer.get(end) == Some(&b'\n') {
            return Some((end, end + 1));
        }
        match self.buffer.get(end + 1) {
            Some(b'\n') => Some((end, end + 2)),
            Some(_) => Some((end, end + 1)),
            // A CR at the very end may be half of a CRLF. An event must not wait for what may never come, so
            // a blank line is taken as complete; the LF that may follow is then a blank line of its own.
            None if end == self.line_start => Some((end, end + 1)),
            None => {
                self.scanned = end;
                None
            }
        }
    }
}

/// Reads the fields of one event; `None` when it holds no data (comments, lone fields).
fn parse_event(raw: Bytes) -> Option<Event> {
    let mut name = None;
    let mut first: Option<Bytes> = None;
    let mut joined: Option<BytesMut> = None;
    for line in lines(&raw) {
        let (field, value) = split_field(line);
        match field {
            b"data" => {
                let value = raw.slice_ref(value);
                match (&first, &mut joined) {
                    (None, _) => first = Some(value),
                    (Some(head), None) => {
                        let mut all = BytesMut::with_capacity(raw.len());
                        all.extend_from_slice(head);
                        all.extend_from_slice(b"\n");
                        all.extend_from_slice(&value);
                        joined = Some(all);
                    }
                    (Some(_), Some(all)) => {
                        all.extend_from_slice(b"\n");
                        all.extend_from_slice(&value);
                    }
                }
            }
            b"event" => name = Some(raw.slice_ref(value)),
            _ => {}
        }
    }
    let data = joined.map(BytesMut::freeze).or(first)?;
    Some(Event { name, data, raw })
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    let all = std::iter::from_fn(move || {
        let bytes = rest?;
        let (line, next) = match memchr::memchr2(b'\n', b'\r', bytes) {
            Some(end) => (bytes.get(..end)?, bytes.get(end + 1..)),
            None => (bytes, None),
        };
        rest = next;
        Some(line)
    });
    all.filter(|line| !line.is_empty())
}

fn split_field(line: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b':', line) {
        Some(colon) => {
            let (field, rest) = line.split_at(colon);
            let value = rest.strip_prefix(b":").unwrap_or(rest);
            (field, value.strip_prefix(b" ").unwrap_or(value))
        }
        None => (line, b""),
    }
}

/// Appends `data: <payload>` and the blank line. The payload must hold no line end; JSON never does.
pub fn write_data(out: &mut Vec<u8>, payload: &[u8]) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\n\n");
}

/// OpenAI's end of a stream.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let mut decoder = Decoder::new(1 << 20);
        let mut events = Vec::new();
        for piece in pieces {
            decoder.push(piece);
            while let Some(event) = decoder.next_event().unwrap() {
                let name = event.name.map(|name| String::from_utf8(name.to_vec()).unwrap()).unwrap_or_default();
                events.push((name, String::from_utf8(event.data.to_vec()).unwrap()));
            }
        }
        events
    }

    const TRICKY: &[u8] = "\u{feff}: a comment\r\ndata:no space\r\n\r\nevent: message\ndata: two\ndata:  lines\nid: 7\n\n\rretry: 10\r\rdata\n\ndata: Grüße 👋\n\r\ndata: cut in ha".as_bytes();

    fn expected() -> Vec<(String, String)> {
        [("", "no space"), ("message", "two\n lines"), ("", ""), ("", "Grüße 👋")]
            .map(|(name, data)| (name.to_owned(), data.to_owned()))
            .into()
    }

    #[test]
    fn a_whole_stream_gives_its_events_and_drops_the_half_one() {
        assert_eq!(decode(&[TRICKY]), expected());
    }

    #[test]
    fn the_cut_does_not_matter() {
        for cut in 0..=TRICKY.len() {
            let (left, right) = TRICKY.split_at(cut);
            assert_eq!(decode(&[left, right]), expected(), "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = TRICKY.chunks(1).collect();
        assert_eq!(decode(&bytes), expected());
    }

    #[test]
    fn raw_bytes_are_kept_so_that_an_event_can_be_forwarded_untouched() {
        let mut decoder = Decoder::new(100);
        decoder.push(b"event: x\r\ndata:{\"a\": 1}\r\n\r\nrest");
        let event = decoder.next_event().unwrap().unwrap();
        assert_eq!(&event.raw[..], b"event: x\r\ndata:{\"a\": 1}\r\n\r\n");
        assert!(decoder.has_partial());
    }

    #[test]
    fn an_event_is_forwarded_with_its_whole_blank_line_however_it_was_cut() {
        let stream = b"data: 1\r\n\r\ndata: 2\r\n\r\n";
        for size in 1..=stream.len() {
            let mut decoder = Decoder::new(100);
            let mut forwarded = Vec::new();
            for piece in stream.chunks(size) {
                decoder.push(piece);
                while let Some(event) = decoder.next_event().unwrap() {
                    forwarded.extend_from_slice(&event.raw);
                }
            }
            assert_eq!(forwarded, stream, "pieces of {size}");
            assert!(!decoder.has_partial(), "pieces of {size}");
        }
    }

    #[test]
    fn an_endless_event_is_refused_before_it_fills_the_memory() {
        let mut decoder = Decoder::new(64);
        decoder.push(&[b'x'; 65]);
        assert_eq!(decoder.next_event(), Err(TooLarge { limit: 64 }));
    }
}
