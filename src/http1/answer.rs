//! Answers of upstreams: bytes in any cut → the head, and the pieces of the body (RFC 9112).
//!
//! Pingora's client keeps 64 KB for each answer and makes a map of headers of which three are looked at; but a stream lasts long,
//! and there are many. This one keeps what has come and is not read yet, and finds a header where it stands.
//!
//! Invariants: a body is whole only where its framing says so; an answer whose end can be read in two ways is refused; no byte
//! behind it is taken.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use httparse::{ParserConfig, Response, Status, parse_chunk_size};

use super::Flaw;

/// Bytes of a head that are too many, and headers.
const LARGEST_HEAD: usize = 1024 * 1024;
const MOST_HEADERS: usize = 256;
/// Bytes of a chunk's size, and of what may stand behind it, that are too many.
const LARGEST_CHUNK_HEAD: usize = 8 * 1024;
/// Bytes behind the last chunk that are too many.
const LARGEST_TRAILER: usize = 64 * 1024;

/// The head of an answer.
#[derive(Debug, Default)]
pub struct Head {
    status: u16,
    text: Bytes,
    headers: Vec<Header>,
}

/// Where a header stands in the text.
#[derive(Debug)]
struct Header {
    name: Range<u32>,
    value: Range<u32>,
}

impl Head {
    /// Takes a head off the front of what has come, once it is whole, and tells how the body behind it ends.
    ///
    /// Errors: it is no head, is too large, or has a body of which nobody knows where it ends.
    pub fn read(buffer: &mut BytesMut) -> Result<Option<(Self, Body)>, Flaw> {
        let mut room = [MaybeUninit::uninit(); MOST_HEADERS];
        let mut read = Response::new(&mut []);
        let parsed = parser().parse_response_with_uninit_headers(&mut read, buffer, &mut room);
        let length = match parsed {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) if buffer.len() > LARGEST_HEAD => return Err("a head that is too large"),
            Ok(Status::Partial) => return Ok(None),
            Err(_) => return Err("a head that is not HTTP/1"),
        };
        let place = |part: &[u8]| place(buffer, part);
        let headers =
            read.headers.iter().map(|one| Header { name: place(one.name.as_bytes()), value: place(one.value) });
        let (status, minor, headers) = (read.code.unwrap_or_default(), read.version, headers.collect());
        let head = Self { status, headers, text: buffer.split_to(length).freeze() };
        let body = head.body(minor == Some(1))?;
        Ok(Some((head, body)))
    }

    /// The status.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The first header of this name.
    pub fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// All headers. One that goes on in a second line is one line here.
    pub fn headers(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.headers.len());
        for Header { name, value } in &self.headers {
            let mut value = self.part(value).to_vec();
            value.iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b' ');
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(self.part(name)), HeaderValue::try_from(value)) {
                map.append(name, value);
            }
        }
        map
    }

    /// Values of this name.
    fn all(&self, name: &HeaderName) -> impl Iterator<Item = &[u8]> {
        let named = move |header: &&Header| self.part(&header.name).eq_ignore_ascii_case(name.as_str().as_bytes());
        self.headers.iter().filter(named).map(|header| self.part(&header.value))
    }

    /// The members of a list, which may stand in several headers.
    fn list(&self, name: &'static HeaderName) -> impl Iterator<Item = &[u8]> {
        self.all(name).flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
    }

    fn says(&self, what: &[u8]) -> bool {
        self.list(&header::CONNECTION).any(|word| word.eq_ignore_ascii_case(what))
    }

    fn part(&self, place: &Range<u32>) -> &[u8] {
        self.text.get(place.start as usize..place.end as usize).unwrap_or_default()
    }

    /// How the body ends (RFC 9112, 6.3), and whether the connection lives on.
    fn body(&self, current: bool) -> Result<Body, Flaw> {
        let coded = self.get(&header::TRANSFER_ENCODING).is_some();
        // A peer of HTTP/1.0 knows no chunks; what stands between, and does, may leave the connection in any state.
        let keeps = if current { !self.says(b"close") } else { self.says(b"keep-alive") && !coded };
        let state = match self.status {
            100..=199 | 204 | 304 => State::Whole,
            _ if coded => {
                let mut codings = self.list(&header::TRANSFER_ENCODING);
                let chunked = codings.next().is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
                if !chunked || codings.next().is_some() {
                    return Err("a Transfer-Encoding other than chunked");
                }
                State::ChunkHead
            }
            _ => match self.length()? {
                Some(0) => State::Whole,
                Some(length) => State::Sized(length),
                None => State::UntilClose,
            },
        };
        Ok(Body { keeps: keeps && !matches!(state, State::UntilClose), state })
    }

    fn length(&self) -> Result<Option<u64>, Flaw> {
        let mut length = None;
        for text in self.list(&header::CONTENT_LENGTH) {
            let digits = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let number = digits.and_then(|digits| digits.parse().ok()).ok_or("a Content-Length that is no number")?;
            if length.replace(number).is_some_and(|other| other != number) {
                return Err("several Content-Lengths");
            }
        }
        Ok(length)
    }
}

/// What servers do although they should not, where it can be read in one way only.
fn parser() -> ParserConfig {
    let mut parser = ParserConfig::default();
    parser.allow_spaces_after_header_name_in_responses(true).allow_obsolete_multiline_headers_in_responses(true);
    parser
}

/// Where a part of a head stands in it.
fn place(whole: &[u8], part: &[u8]) -> Range<u32> {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    let at = |place: usize| u32::try_from(place).unwrap_or_default();
    at(start)..at(start + part.len())
}

/// The body of an answer, as far as it has not come.
#[derive(Debug)]
pub struct Body {
    state: State,
    keeps: bool,
}

#[derive(Debug)]
enum State {
    /// So many bytes are to come.
    Sized(u64),
    /// The size of a chunk is.
    ChunkHead,
    /// So many bytes of a chunk are.
    Chunk(u64),
    /// The end of a chunk's line is.
    ChunkEnd,
    /// Lines behind the last chunk are, up to an empty one; so many bytes of them came.
    Trailer(usize),
    /// It ends with the connection.
    UntilClose,
    /// Nothing is to come.
    Whole,
}

impl Default for Body {
    /// None.
    fn default() -> Self {
        Self { state: State::Whole, keeps: false }
    }
}

impl Body {
    /// Takes the next piece off the front of what has come; `None` when there is none in it.
    ///
    /// Errors: this is not how chunks look.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, Flaw> {
        while !buffer.is_empty() {
            match &mut self.state {
                State::Sized(left) | State::Chunk(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                    self.came(here);
                    return Ok(Some(buffer.split_to(here).freeze()));
                }
                State::UntilClose => return Ok(Some(buffer.split().freeze())),
                State::ChunkHead | State::ChunkEnd | State::Trailer(_) => {
                    if !self.step(buffer)? {
                        break;
                    }
                }
                State::Whole => break,
            }
        }
        Ok(None)
    }

    /// One step over what stands between pieces; false when it has not come whole.
    fn step(&mut self, buffer: &mut BytesMut) -> Result<bool, Flaw> {
        let (taken, next) = match self.state {
            State::ChunkHead => match parse_chunk_size(buffer) {
                Ok(Status::Complete((length, 0))) => (length, State::Trailer(0)),
                Ok(Status::Complete((length, size))) => (length, State::Chunk(size)),
                Ok(Status::Partial) if buffer.len() <= LARGEST_CHUNK_HEAD => return Ok(false),
                _ => return Err("a chunk without a size"),
            },
            State::ChunkEnd => match buffer.as_ref() {
                [b'\r', b'\n', ..] => (2, State::ChunkHead),
                [b'\r'] => return Ok(false),
                _ => return Err("a chunk that is longer than its size"),
            },
            State::Trailer(came) => {
                let end = memchr::memchr(b'\n', buffer);
                if came + end.unwrap_or(buffer.len()) > LARGEST_TRAILER {
                    return Err("more behind the last chunk than is bearable");
                }
                let Some(end) = end else { return Ok(false) };
                match buffer.get(..end) {
                    Some([b'\r']) => (end + 1, State::Whole),
                    Some([.., b'\r']) => (end + 1, State::Trailer(came + end + 1)),
                    _ => return Err("a lone line feed behind the last chunk"),
                }
            }
            _ => return Ok(false),
        };
        buffer.advance(taken);
        self.state = next;
        Ok(true)
    }

    /// So many of the bytes that are certain to come have.
    pub fn came(&mut self, bytes: usize) {
        let (State::Sized(left) | State::Chunk(left)) = &mut self.state else { return };
        *left = left.saturating_sub(bytes as u64);
        if *left == 0 {
            self.state = if matches!(self.state, State::Sized(_)) { State::Whole } else { State::ChunkEnd };
        }
    }

    /// How many bytes are to come, where the head said so.
    pub const fn left(&self) -> Option<u64> {
        match self.state {
            State::Sized(left) => Some(left),
            State::Whole => Some(0),
            _ => None,
        }
    }

    /// Whether nothing is to come.
    pub const fn is_whole(&self) -> bool {
        matches!(self.state, State::Whole)
    }

    /// The connection has ended.
    ///
    /// Errors: before the body has.
    pub fn end(&mut self) -> Result<(), Flaw> {
        match self.state {
            State::UntilClose | State::Whole => {
                self.state = State::Whole;
                Ok(())
            }
            _ => Err("the connection ended before the body"),
        }
    }

    /// Whether the connection can be used again behind it.
    pub const fn keeps_connection(&self) -> bool {
        self.keeps && self.is_whole()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of these bytes when they come in pieces of this size: the status, the body as far as it came, whether it is whole,
    /// whether the connection lives on, and what is left.
    fn read(bytes: &[u8], cut: usize, ends: bool) -> Result<(u16, String, bool, bool, String), Flaw> {
        let mut buffer = BytesMut::new();
        let (mut reading, mut came) = (None, Vec::new());
        for piece in bytes.chunks(cut) {
            buffer.extend_from_slice(piece);
            if reading.is_none() {
                reading = Head::read(&mut buffer)?;
            }
            let Some((_, body)) = &mut reading else { continue };
            while let Some(piece) = body.next(&mut buffer)? {
                assert!(!piece.is_empty());
                came.extend_from_slice(&piece);
            }
        }
        let (head, mut body) = reading.ok_or("no head")?;
        if ends {
            body.end()?;
        }
        let [came, left] = [&came[..], &buffer].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        Ok((head.status(), came, body.is_whole(), body.keeps_connection(), left))
    }

    /// The same for each cut, which must not matter.
    fn read_anyhow(text: &str) -> Result<(u16, String, bool, bool, String), Flaw> {
        let whole = read(text.as_bytes(), text.len(), false);
        for cut in 1..text.len() {
            assert_eq!(read(text.as_bytes(), cut, false), whole, "in pieces of {cut}");
        }
        whole
    }

    #[test]
    fn a_body_ends_where_its_framing_says_and_no_byte_further() {
        for (text, status, body, keeps, left) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", true, ""),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\ncontent-length:5\r\n\r\nhello", 200, "hello", true, ""),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, more", 200, "hello", true, ", more"),
            ("HTTP/1.1 429 Slow Down\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n", 429, "", false, ""),
            ("HTTP/1.1 204 No Content\r\n\r\n", 204, "", true, ""),
            ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", false, ""),
            ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", 200, "ok", true, ""),
            (
                "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n2;a=b\r\n, \r\n0\r\n\r\nnext",
                200,
                "hello, ",
                true,
                "next",
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\n",
                200,
                "ok",
                true,
                "",
            ),
        ] {
            let read = read_anyhow(text);
            assert_eq!(read, Ok((status, body.to_owned(), true, keeps, left.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn what_breaks_off_is_not_whole() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        ] {
            assert!(matches!(read_anyhow(text), Ok((200, body, false, false, _)) if body == "hello"), "{text:?}");
            assert!(read(text.as_bytes(), text.len(), true).is_err(), "{text:?}");
        }
        let unframed = "HTTP/1.1 200 OK\r\n\r\nhello";
        let until_close = read(unframed.as_bytes(), unframed.len(), true);
        assert_eq!(until_close, Ok((200, "hello".to_owned(), true, false, String::new())));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for lines in [
            "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
            "Content-Length: +5\r\n\r\nhello",
            "Content-Length: 99999999999999999999\r\n\r\nhello",
            "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: identity\r\n\r\nhello",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n0\r\n\n",
            "a header without a colon\r\n\r\n",
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{lines}");
            assert!(read(text.as_bytes(), text.len(), false).is_err(), "{text:?}");
        }
        for endless in
            ["0".repeat(2 * LARGEST_CHUNK_HEAD), format!("0\r\n{}", "x: y\r\n".repeat(LARGEST_TRAILER / 6 + 1))]
        {
            let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{endless}");
            assert!(read(text.as_bytes(), 4096, false).is_err());
        }
        let large = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(LARGEST_HEAD));
        assert!(Head::read(&mut BytesMut::from(large.as_bytes())).is_err());
    }

    #[test]
    fn headers_are_found_whatever_their_case_and_number() {
        let text = "HTTP/1.1 200 OK\r\nX-Request-ID: one\r\nx-long: first\r\n second\r\nRetry-After : 3\r\nx-long: more\r\n\r\n";
        let (head, _) = Head::read(&mut BytesMut::from(text)).unwrap().unwrap();
        assert_eq!(head.get(&HeaderName::from_static("x-request-id")), Some(&b"one"[..]));
        assert_eq!(head.get(&header::RETRY_AFTER), Some(&b"3"[..]));
        assert_eq!(head.get(&header::CONTENT_TYPE), None);
        let map = head.headers();
        let long: Vec<_> = map.get_all("x-long").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(long, ["first   second", "more"]);
    }
}
