//! What must hold of a head before anything in it is believed: how large it is, and that nobody can read it in two ways.
//!
//! Something before the gateway (a load balancer, a content network) may read a doubtful head otherwise than Pingora does, and take
//! the rest of a body for a request, or a request for the rest of a body. So whatever RFC 9112 lets a server refuse for this
//! reason is refused here, and the connection closed; and so is a request to go on in another protocol. Pingora itself refuses a `Content-Length` that is none, several that differ,
//! a `Transfer-Encoding` that does not end in `chunked`, folded lines and white space before a colon.
//!
//! Not here: usual requests, which are those of which all this holds (`http1`); HTTP/2, whose frames say where everything ends, and whose heads Pingora bounds.

use http::{HeaderMap, HeaderValue, Version, header};

use super::client::Client;
use crate::config::Limits;
use crate::error::{Error, ErrorKind, Result};

/// The status of a head that is too large (RFC 6585).
const HEADERS_TOO_LARGE: u16 = 431;

/// Checks the head of a request.
///
/// Errors: `InvalidRequest`, with status 431 where it is too large. The connection must not be used again.
pub(super) fn check(client: &Client<'_>, limits: &Limits) -> Result<()> {
    let Client::Pingora(session) = client else { return Ok(()) };
    let Some(http1) = session.downstream_session.as_http1() else { return Ok(()) };
    let raw = http1.get_headers_raw_bytes();
    if raw.len() > limits.max_header_bytes {
        let message = format!("The head of the request is larger than {} bytes.", limits.max_header_bytes);
        return Err(Error::new(ErrorKind::InvalidRequest, message).with_status(HEADERS_TOO_LARGE));
    }
    let head = session.req_header();
    if head.headers.get_all(header::UPGRADE).iter().any(|protocol| !is_ignored(protocol)) {
        return Err(Error::new(ErrorKind::InvalidRequest, "This gateway does not switch to another protocol."));
    }
    match ambiguity(&raw, head.version, &head.headers) {
        None => Ok(()),
        Some(what) => {
            let message = format!("The head of the request is ambiguous: {what}.");
            Err(Error::new(ErrorKind::InvalidRequest, message))
        }
    }
}

/// Whether it is HTTP/2 that is offered, as clients do that speak HTTP/1.1 just as well (RFC 7540, 3.2). Of any other protocol the
/// bytes behind the request would be, and something before the gateway may think that it was agreed to.
fn is_ignored(protocol: &HeaderValue) -> bool {
    protocol.as_bytes().split(|byte| *byte == b',').all(|one| matches!(one.trim_ascii(), b"h2c" | b"h2" | b""))
}

/// What can be read in two ways. The bytes are asked where Pingora has tidied the headers up: it drops a `Content-Length` beside
/// a `Transfer-Encoding`, and takes a lone line feed for a line's end.
fn ambiguity(raw: &[u8], version: Version, headers: &HeaderMap) -> Option<&'static str> {
    let mut lengths = 0;
    let mut last = 0;
    for end in memchr::memchr_iter(b'\n', raw) {
        let line = raw.get(last..end).unwrap_or_default();
        last = end + 1;
        let Some(line) = line.strip_suffix(b"\r") else { return Some("a line ends in a lone line feed") };
        if line.contains(&b'\r') {
            return Some("a lone carriage return");
        }
        let name = line.get(..header::CONTENT_LENGTH.as_str().len() + 1).unwrap_or_default();
        lengths += usize::from(name.eq_ignore_ascii_case(b"content-length:"));
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let coding = codings.next();
    let length = headers.get(header::CONTENT_LENGTH).map_or(&b"0"[..], |length| length.as_bytes());
    if !length.iter().all(u8::is_ascii_digit) {
        return Some("a Content-Length that is not one number");
    }
    if lengths > 1 {
        return Some("more than one Content-Length");
    }
    if coding.is_some() && lengths > 0 {
        return Some("both Content-Length and Transfer-Encoding");
    }
    if codings.next().is_some() || coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Some("a Transfer-Encoding other than chunked");
    }
    if version == Version::HTTP_11 && !headers.contains_key(header::HOST) {
        return Some("no Host");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(lines: &[&str]) -> Option<&'static str> {
        let raw =
            format!("POST / HTTP/1.1\r\n{}\r\n", lines.iter().map(|line| format!("{line}\r\n")).collect::<String>());
        let mut headers = HeaderMap::new();
        for (name, value) in lines.iter().filter_map(|line| line.split_once(": ")) {
            let name: header::HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        ambiguity(raw.as_bytes(), Version::HTTP_11, &headers)
    }

    #[test]
    fn one_reading_is_enough() {
        assert_eq!(judged(&["host: a", "content-length: 5"]), None);
        assert_eq!(judged(&["host: a", "x-content-length: 5", "transfer-encoding: Chunked"]), None);
        for lines in [
            &["content-length: 5"][..],
            &["host: a", "content-length: 5", "Content-Length: 5"],
            &["host: a", "content-length: 5", "transfer-encoding: chunked"],
            &["host: a", "content-length: 5, 5"],
            &["host: a", "transfer-encoding: gzip, chunked"],
            &["host: a", "transfer-encoding: chunked", "transfer-encoding: chunked"],
        ] {
            assert!(judged(lines).is_some(), "{lines:?}");
        }
        assert!(ambiguity(b"GET / HTTP/1.1\nhost: a\r\n\r\n", Version::HTTP_10, &HeaderMap::new()).is_some());
        assert!(ambiguity(b"GET / HTTP/1.0\r\nx: a\rb\r\n\r\n", Version::HTTP_10, &HeaderMap::new()).is_some());
    }
}
