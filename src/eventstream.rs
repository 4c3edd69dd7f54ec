//! AWS event streams (`application/vnd.amazon.eventstream`): bytes in any cut → events. Knows nothing about language models.
//!
//! A message is: total length, length of the headers, CRC-32 of these two; headers; payload; CRC-32 of everything before
//! (smithy.io, "Event Stream Specification"). It becomes an [`Event`] whose `data` is the payload and whose `name` is
//!
//! * the `:event-type` of an event,
//! * [`EXCEPTION`] and the `:exception-type` of a modelled error,
//! * [`ERROR`] and the `:error-code` of an unmodelled one, whose text is then the payload as `{"message":"…"}`.
//!
//! Invariants: as for `sse`; and nothing of a message is given out before its checksum was right.

use bytes::{Bytes, BytesMut};

use crate::sse::{Event, TooLarge};

/// What the name of a modelled error begins with.
pub const EXCEPTION: &str = "exception:";
/// What the name of an unmodelled error begins with.
pub const ERROR: &str = "error:";

/// The two lengths and their checksum.
const PRELUDE: usize = 12;
/// The checksum at the end.
const CHECKSUM: usize = 4;

/// A message that can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It is longer than the limit.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// A checksum is wrong: bytes were lost or changed on the way, or this is no event stream.
    #[error("a checksum of the event stream is wrong")]
    Checksum,
    /// The checksums are right, the lengths or headers inside are not.
    #[error("a message of the event stream is malformed")]
    Malformed,
}

/// Turns bytes in any cut into messages.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    limit: usize,
}

impl Decoder {
    /// A decoder that holds at most `limit` bytes of one message.
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), limit }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete message, `None` when more bytes are needed. After an error the stream can't be followed any more.
    pub fn next_event(&mut self) -> Result<Option<Event>, Broken> {
        let Some(prelude) = self.buffer.get(..PRELUDE) else { return Ok(None) };
        let (lengths, checksum) = prelude.split_at(PRELUDE - CHECKSUM);
        if number(checksum) != Some(crc32fast::hash(lengths)) {
            return Err(Broken::Checksum);
        }
        let (total, headers) = lengths.split_at(4);
        let (total, headers) = (length(total)?, length(headers)?);
        let limit = self.limit;
        if total > limit {
            return Err(TooLarge { limit }.into());
        }
        let payload_length = total.checked_sub(PRELUDE + headers + CHECKSUM).ok_or(Broken::Malformed)?;
        if self.buffer.len() < total {
            return Ok(None);
        }
        let raw = self.buffer.split_to(total).freeze();
        let (checked, checksum) = raw.split_at_checked(total - CHECKSUM).ok_or(Broken::Malformed)?;
        if number(checksum) != Some(crc32fast::hash(checked)) {
            return Err(Broken::Checksum);
        }
        let payload = raw.slice(PRELUDE + headers..PRELUDE + headers + payload_length);
        let headers = raw.slice(PRELUDE..PRELUDE + headers);
        let (name, data) = Names::read(&headers)?.apply(payload);
        Ok(Some(Event { name: Some(name), data, raw }))
    }

    /// Whether bytes of an unfinished message are held.
    pub fn has_partial(&self) -> bool {
        !self.buffer.is_empty()
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_be_bytes)
}

fn length(bytes: &[u8]) -> Result<usize, Broken> {
    number(bytes).and_then(|length| usize::try_from(length).ok()).ok_or(Broken::Malformed)
}

/// The headers that say what a message is; all others are skipped.
#[derive(Default)]
struct Names<'a> {
    event: &'a str,
    exception: Option<&'a str>,
    error: Option<&'a str>,
    error_message: &'a str,
}

impl<'a> Names<'a> {
    fn read(headers: &'a [u8]) -> Result<Self, Broken> {
        let mut names = Self::default();
        let mut rest = headers;
        while !rest.is_empty() {
            let (name, value);
            (name, value, rest) = header(rest).ok_or(Broken::Malformed)?;
            let Some(value) = value else { continue };
            match name {
                b":event-type" => names.event = value,
                b":exception-type" => names.exception = Some(value),
                b":error-code" => names.error = Some(value),
                b":error-message" => names.error_message = value,
                _ => {}
            }
        }
        Ok(names)
    }

    fn apply(&self, payload: Bytes) -> (Bytes, Bytes) {
        match (self.exception, self.error) {
            (Some(exception), _) => (format!("{EXCEPTION}{exception}").into(), payload),
            (None, Some(code)) => {
                let data = if payload.is_empty() {
                    serde_json::json!({"message": self.error_message}).to_string().into()
                } else {
                    payload
                };
                (format!("{ERROR}{code}").into(), data)
            }
            (None, None) => (Bytes::copy_from_slice(self.event.as_bytes()), payload),
        }
    }
}

/// A name, its value if that is a text, and what follows.
type Header<'a> = (&'a [u8], Option<&'a str>, &'a [u8]);

fn header(bytes: &[u8]) -> Option<Header<'_>> {
    /// The type of a text.
    const TEXT: u8 = 7;
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let (kind, rest) = rest.split_first()?;
    let (size, rest) = match kind {
        // true, false
        0 | 1 => (0, rest),
        // byte, short, integer, long
        2 => (1, rest),
        3 => (2, rest),
        4 => (4, rest),
        // long, timestamp
        5 | 8 => (8, rest),
        // bytes, text
        6 | 7 => {
            let (size, rest) = rest.split_at_checked(2)?;
            (usize::from(u16::from_be_bytes(size.try_into().ok()?)), rest)
        }
        // UUID
        9 => (16, rest),
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(size)?;
    let text = if *kind == TEXT { Some(std::str::from_utf8(value).ok()?) } else { None };
    Some((name, text, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message with text headers.
    fn message(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
        let mut encoded = Vec::new();
        for (name, value) in headers {
            encoded.push(name.len() as u8);
            encoded.extend_from_slice(name.as_bytes());
            encoded.push(7);
            encoded.extend_from_slice(&(value.len() as u16).to_be_bytes());
            encoded.extend_from_slice(value.as_bytes());
        }
        frame(&encoded, payload)
    }

    fn frame(headers: &[u8], payload: &[u8]) -> Vec<u8> {
        let total = (PRELUDE + headers.len() + payload.len() + CHECKSUM) as u32;
        let mut bytes = total.to_be_bytes().to_vec();
        bytes.extend_from_slice(&(headers.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes.extend_from_slice(headers);
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Option<(String, String)>, Broken> {
        let mut decoder = Decoder::new(1000);
        decoder.push(bytes);
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        decoder.next_event().map(|event| event.map(|event| (text(&event.name.unwrap()), text(&event.data))))
    }

    #[test]
    fn the_shortest_message_of_the_specification_is_read() {
        // The test vector `empty_message` of the AWS SDKs.
        let bytes = [0, 0, 0, 16, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff];
        assert_eq!(read(&bytes), Ok(Some((String::new(), String::new()))));
    }

    #[test]
    fn an_event_an_exception_and_an_error_can_be_told_apart() {
        let event = message(&[(":message-type", "event"), (":event-type", "messageStart"), ("x", "y")], b"{}");
        assert_eq!(read(&event), Ok(Some(("messageStart".into(), "{}".into()))));
        let headers = [(":message-type", "exception"), (":exception-type", "throttlingException")];
        let exception = read(&message(&headers, b"{\"message\":\"slow\"}"));
        assert_eq!(exception, Ok(Some(("exception:throttlingException".into(), "{\"message\":\"slow\"}".into()))));
        let headers = [(":message-type", "error"), (":error-code", "500"), (":error-message", "a \"b\"")];
        let error = read(&message(&headers, b""));
        assert_eq!(error, Ok(Some(("error:500".into(), "{\"message\":\"a \\\"b\\\"\"}".into()))));
    }

    #[test]
    fn headers_of_every_type_are_skipped_over() {
        let mut headers = Vec::new();
        for (kind, size) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (5, 8), (8, 8), (9, 16)] {
            headers.extend_from_slice(&[1, b'n', kind]);
            headers.extend(std::iter::repeat_n(0xff, size));
        }
        headers.extend_from_slice(&[1, b'b', 6, 0, 3, 1, 2, 3]);
        headers.extend_from_slice(b"\x0b:event-type\x07\x00\x01e");
        assert_eq!(read(&frame(&headers, b"data")), Ok(Some(("e".into(), "data".into()))));
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let good = message(&[(":event-type", "e")], b"payload");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(read(&bad), Err(Broken::Checksum), "byte {at}");
        }
        assert_eq!(read(b"<html><body>502"), Err(Broken::Checksum));
        for headers in
            [&b"\xff"[..], &b"\x01n\x0a"[..], &b"\x01n\x07\xff\xffx"[..], &b"\x01n\x07\x00\x01\xff"[..], b"\x01"]
        {
            assert_eq!(read(&frame(headers, b"")), Err(Broken::Malformed), "{headers:?}");
        }
        let mut short = [0, 0, 0, 15, 0, 0, 0, 0].to_vec();
        short.extend_from_slice(&crc32fast::hash(&short).to_be_bytes());
        assert_eq!(read(&short), Err(Broken::Malformed));
        let mut overlong = [0, 0, 0, 20, 0, 0, 0, 9].to_vec();
        overlong.extend_from_slice(&crc32fast::hash(&overlong).to_be_bytes());
        assert_eq!(read(&overlong), Err(Broken::Malformed));
    }

    #[test]
    fn a_message_beyond_the_limit_is_refused_before_it_is_held() {
        let large = message(&[(":event-type", "e")], &[b'x'; 2000]);
        let mut decoder = Decoder::new(1000);
        decoder.push(&large[..PRELUDE]);
        assert_eq!(decoder.next_event(), Err(Broken::TooLarge(TooLarge { limit: 1000 })));
    }

    #[test]
    fn the_cut_does_not_matter() {
        let messages: Vec<Vec<u8>> =
            (0..4).map(|n| message(&[(":event-type", "e")], "ü".repeat(n).as_bytes())).collect();
        let stream = messages.concat();
        for size in 1..=stream.len() {
            let (mut decoder, mut raws) = (Decoder::new(1000), Vec::new());
            for piece in stream.chunks(size) {
                decoder.push(piece);
                while let Some(event) = decoder.next_event().unwrap() {
                    raws.push(event.raw.to_vec());
                }
            }
            assert_eq!(raws, messages, "pieces of {size}");
            assert!(!decoder.has_partial());
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), headers in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = read(&bytes);
            let _ = read(&frame(&headers, &bytes));
        }
    }
}
