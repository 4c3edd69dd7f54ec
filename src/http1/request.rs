//! Requests of the usual kind: a POST with its length, or a GET, in HTTP/1.1, whose whole head has come.
//!
//! Something before the gateway may read a doubtful head otherwise than it does, and take the rest of a body for a request. So only
//! what can be read in one way is read here: everything else, and everything seldom, is left where it is, for Pingora to read and
//! for `proxy::framing` to judge.
//!
//! Invariant: a request that is not taken leaves every byte.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use httparse::{ParserConfig, Status};

/// Headers that are too many to be usual.
const MOST_HEADERS: usize = 64;

/// A request whose head was taken.
#[derive(Debug)]
pub struct Request {
    /// Its head.
    pub head: Parts,
    /// Bytes of its body, which follow.
    pub length: usize,
    /// Whether the client wants the connection to be kept.
    pub keeps: bool,
}

impl Request {
    /// Takes a head of at most so many bytes off the front of what has come, if it is a usual one whose path begins like this.
    pub fn take(buffer: &mut BytesMut, root: &str, limit: usize) -> Option<Self> {
        let method = if buffer.starts_with(b"POST ") { Method::POST } else { Method::GET };
        let path = buffer.get(method.as_str().len() + 1..)?;
        if !path.starts_with(root.as_bytes()) {
            return None;
        }
        let text = Bytes::copy_from_slice(buffer.get(..end(buffer)?).filter(|head| head.len() <= limit)?);
        let request = read(method, &text)?;
        buffer.advance(text.len());
        Some(request)
    }
}

/// Where the head ends, if each of its lines does in the one way that everybody reads.
fn end(bytes: &[u8]) -> Option<usize> {
    let mut start = 0;
    for at in memchr::memchr_iter(b'\n', bytes) {
        let line = bytes.get(start..at)?.strip_suffix(b"\r")?;
        start = at + 1;
        if line.is_empty() {
            return Some(start);
        }
        if memchr::memchr(b'\r', line).is_some() {
            return None;
        }
    }
    None
}

fn read(method: Method, text: &Bytes) -> Option<Request> {
    let mut room = [MaybeUninit::uninit(); MOST_HEADERS];
    let mut read = httparse::Request::new(&mut []);
    let parsed = ParserConfig::default().parse_request_with_uninit_headers(&mut read, text, &mut room);
    let whole = matches!(parsed, Ok(Status::Complete(length)) if length == text.len());
    if !whole || read.version != Some(1) || read.method != Some(method.as_str()) {
        return None;
    }
    let part = |part: &[u8]| text.slice_ref(part);
    let path = read.path.filter(|path| !path.contains('#'))?;
    let uri = Uri::from_maybe_shared(part(path.as_bytes())).ok()?;
    let mut headers = HeaderMap::with_capacity(read.headers.len());
    for httparse::Header { name, value } in read.headers.iter() {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_maybe_shared(part(value)).ok()?);
    }
    let length = length(&method, &headers)?;
    let keeps = keeps(&headers)?;
    let (mut head, ()) = http::Request::new(()).into_parts();
    (head.method, head.uri, head.headers) = (method, uri, headers);
    Some(Request { head, length, keeps })
}

/// How long the body is, if that is said once and in no other way.
fn length(method: &Method, headers: &HeaderMap) -> Option<usize> {
    let odd = [header::TRANSFER_ENCODING, header::UPGRADE, header::EXPECT];
    if odd.iter().any(|odd| headers.contains_key(odd)) || once(headers, &header::HOST)?.is_none() {
        return None;
    }
    match once(headers, &header::CONTENT_LENGTH)? {
        None => (*method == Method::GET).then_some(0),
        Some(length) if *method == Method::POST => {
            let digits = std::str::from_utf8(length.as_bytes()).ok()?;
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
        }
        Some(_) => None,
    }
}

/// Whether the connection is kept, if what is said of it is nothing else.
fn keeps(headers: &HeaderMap) -> Option<bool> {
    match once(headers, &header::CONNECTION)? {
        None => Some(true),
        Some(said) if said.as_bytes().eq_ignore_ascii_case(b"keep-alive") => Some(true),
        Some(said) if said.as_bytes().eq_ignore_ascii_case(b"close") => Some(false),
        Some(_) => None,
    }
}

/// The header of this name, if there are not several.
fn once<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<Option<&'h HeaderValue>> {
    let mut all = headers.get_all(name).iter();
    let first = all.next();
    all.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1000;

    fn take(text: &str) -> Option<(Request, String)> {
        let mut buffer = BytesMut::from(text);
        let request = Request::take(&mut buffer, "/v1/", LIMIT);
        let left = String::from_utf8(buffer.to_vec()).unwrap();
        assert!(request.is_some() || left == text, "{text:?} was touched");
        request.map(|request| (request, left))
    }

    #[test]
    fn a_usual_request_is_taken_and_its_body_left() {
        let text = "POST /v1/chat/completions?a=b HTTP/1.1\r\nHost: a\r\nX-Any:  b \r\ncontent-LENGTH: 007\r\n\r\n{\"a\":1}GET";
        let (request, left) = take(text).unwrap();
        assert_eq!((request.length, request.keeps, left.as_str()), (7, true, "{\"a\":1}GET"));
        assert_eq!((request.head.method, request.head.uri.path()), (Method::POST, "/v1/chat/completions"));
        assert_eq!((&request.head.headers["x-any"], request.head.headers.len()), (&HeaderValue::from_static("b"), 3));
        let (request, _) = take("GET /v1/models HTTP/1.1\r\nhost: a\r\nconnection: Close\r\n\r\n").unwrap();
        assert_eq!((request.length, request.keeps, request.head.method), (0, false, Method::GET));
    }

    #[test]
    fn what_is_odd_is_left() {
        let post = |lines: &str| format!("POST /v1/x HTTP/1.1\r\n{lines}\r\n");
        let usual = "host: a\r\ncontent-length: 5\r\n";
        assert!(take(&post(usual)).is_some());
        for lines in [
            "host: a\r\n",
            "content-length: 5\r\n",
            "host: a\r\nhost: b\r\ncontent-length: 5\r\n",
            "host: a\r\ncontent-length: 5\r\ncontent-length: 5\r\n",
            "host: a\r\ncontent-length: 5, 5\r\n",
            "host: a\r\ncontent-length: +5\r\n",
            "host: a\r\ncontent-length:\r\n",
            "host: a\r\ncontent-length: 99999999999999999999\r\n",
            "host: a\r\ntransfer-encoding: chunked\r\n",
            "host: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n",
            "host: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n",
            "host: a\r\ncontent-length: 5\r\nupgrade: websocket\r\n",
            "host: a\r\ncontent-length: 5\r\nconnection: upgrade\r\n",
            "host: a\r\ncontent-length: 5\r\nconnection: close, content-length\r\n",
            "host: a\r\ncontent-length : 5\r\n",
            "host: a\r\ncontent-length: 5\nx: y\r\n",
            "host: a\r\ncontent-length: 5\r\nx: y\rz\r\n",
            "host: a\r\ncontent-length: 5\r\nx: y\r\n z\r\n",
            "host: a\r\ncontent-length: 5\r\nx: \0\r\n",
            "host: a\r\ncontent-length: 5\r\nno colon\r\n",
        ] {
            assert!(take(&post(lines)).is_none(), "{lines:?}");
        }
        let long = format!("{usual}x: {}\r\n", "y".repeat(LIMIT));
        for head in [
            "P".to_owned(),
            post(usual).replace("\r\n\r\n", "\r\n"),
            post(usual).replace("1.1", "1.0"),
            post(usual).replace("POST", "PUT"),
            post(usual).replace("POST", "GET"),
            post(usual).replace("/v1/x", "/workspaces"),
            post(usual).replace("/v1/x", "/v1/x#y"),
            post(usual).replace("/v1/x", "http://a/v1/x"),
            post(usual).replace("/v1/x", "/v1/x y"),
            format!("\r\n{}", post(usual)),
            post(&long),
            post(&"x: y\r\n".repeat(MOST_HEADERS)).replacen("x: y", "host: a", 1),
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        ] {
            assert!(take(&head).is_none(), "{head:?}");
        }
    }
}
