//! HTTP/1.1 where it is not Pingora's: heads that are written, requests of the usual kind, answers of upstreams (RFC 9112).
//!
//! Sans-I/O. Not here: sockets, time, connections that are used again (`proxy`). The words of a head and the sizes of chunks are
//! httparse's to read.

mod answer;
mod request;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

pub use answer::{Body, Head};
pub use request::Request;

/// Why something can't be written or read.
pub type Flaw = &'static str;

/// Writes the head of a request.
///
/// Errors: the path is none.
pub fn write_request<'h>(
    out: &mut BytesMut,
    method: &Method,
    path: &str,
    headers: impl IntoIterator<Item = (&'h HeaderName, &'h HeaderValue)>,
) -> Result<(), Flaw> {
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a path that is none");
    }
    for part in [method.as_str(), " ", path, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    write_headers(out, headers);
    Ok(())
}

/// Writes the head of an answer.
pub fn write_answer(out: &mut BytesMut, status: StatusCode, headers: &HeaderMap) {
    for part in ["HTTP/1.1 ", status.as_str(), " ", status.canonical_reason().unwrap_or_default(), "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    write_headers(out, headers);
}

/// Writes headers and the line behind them.
fn write_headers<'h>(out: &mut BytesMut, headers: impl IntoIterator<Item = (&'h HeaderName, &'h HeaderValue)>) {
    for (name, value) in headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes what stands before a chunk of this size.
pub fn write_chunk_size(out: &mut BytesMut, size: usize) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        let digit = (size >> (4 * place)) & 0xf;
        let digit = u32::try_from(digit).ok().and_then(|digit| char::from_digit(digit, 16)).unwrap_or('0');
        out.extend_from_slice(&[digit as u8]);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    #[test]
    fn a_head_is_written_line_by_line() {
        let mut out = BytesMut::new();
        let headers = [(header::HOST, "a:1"), (HeaderName::from_static("x-api-key"), "k")]
            .map(|(name, value)| (name, HeaderValue::from_static(value)));
        let headers = || headers.iter().map(|(name, value)| (name, value));
        write_request(&mut out, &Method::POST, "/v1/messages?a=b", headers()).unwrap();
        assert_eq!(out, &b"POST /v1/messages?a=b HTTP/1.1\r\nhost: a:1\r\nx-api-key: k\r\n\r\n"[..]);
        for path in ["", "v1", "/a b", "/a\r\nhost: b", "/\u{e4}"] {
            assert!(write_request(&mut out, &Method::GET, path, headers()).is_err(), "{path:?}");
        }
        out.clear();
        let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from(3))]);
        write_answer(&mut out, StatusCode::TOO_MANY_REQUESTS, &headers);
        assert_eq!(out, &b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 3\r\n\r\n"[..]);
    }

    #[test]
    fn a_chunk_says_its_size() {
        for size in [0, 1, 9, 10, 15, 16, 255, 256, 4095, 65_536, usize::MAX] {
            let mut out = BytesMut::new();
            write_chunk_size(&mut out, size);
            assert_eq!(out, format!("{size:x}\r\n").as_bytes());
        }
    }
}
