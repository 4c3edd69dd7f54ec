//! One exchange with an upstream, in HTTP/1 on a `line` or as a stream of Pingora's HTTP/2: sends a request, reads the answer.
//!
//! Knows bytes; not dialects, not the client, nor where connections come from (`upstream`). Informational heads are skipped, an
//! early answer is read although the body was not taken, HTTP/2 gets an absolute URI and no `Host`.
//!
//! Invariant: a head is built from scratch, so nothing of the client's head can leak into it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::{BError, ErrorType, RetryType};

use super::connections::{Connection, Peer};
use super::line::{Line, PACKET, within};
use crate::api::rope::Rope;
use crate::error::{Error, ErrorKind, Result};
use crate::http1;
use crate::provider::{Endpoint, Outgoing};

/// Informational heads that are skipped before the answer counts as nonsense.
const MAX_INFORMATIONAL: usize = 16;
/// How long an upstream that stopped taking the body may need for its early answer.
const EARLY_ANSWER: Duration = Duration::from_millis(200);
/// Headers of a request, and bytes of its head, that there is room for without moving any.
const HEADERS: usize = 12;
const HEAD: usize = 768;
/// Bytes of an answer that there is room made for because its head says that they come.
const BELIEVED: usize = 1024 * 1024;

/// Where providers say what they call a request: OpenAI's and most others' header, Anthropic's, Amazon's, Azure's.
const REQUEST_IDS: [HeaderName; 4] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("request-id"),
    HeaderName::from_static("x-amzn-requestid"),
    HeaderName::from_static("apim-request-id"),
];

/// An exchange.
pub(super) struct Exchange {
    pub(super) wire: Wire,
    pub(super) peer: Peer,
}

/// What it runs on.
pub(super) enum Wire {
    Http1(Line),
    Http2(Box<HttpSession>),
}

impl Exchange {
    /// One that begins on this connection.
    pub(super) fn new(connection: Connection, peer: Peer) -> Self {
        let wire = match connection {
            Connection::Http1(stream) => Wire::Http1(Line::new(stream)),
            Connection::Http2(session) => Wire::Http2(session),
        };
        Self { wire, peer }
    }

    /// Sends a request and reads the head of its answer. A piece of the request may take `patience` to be taken.
    pub(super) async fn send(
        &mut self,
        endpoint: &Endpoint,
        request: &Outgoing,
        stream: bool,
        patience: Duration,
    ) -> Result<(), BError> {
        let sent = match &mut self.wire {
            Wire::Http1(line) => {
                let head = head(endpoint, request, stream)?;
                line.write(head, &request.body, patience).await
            }
            Wire::Http2(session) => {
                session.set_read_timeout(None);
                session.set_write_timeout(Some(patience));
                session.write_request_header(Box::new(head_of_stream(endpoint, request, stream)?)).await?;
                write_body(session, &request.body).await
            }
        };
        if let Err(cause) = sent {
            // The upstream may have answered without taking the body (413, 429) and closed: that answer says more.
            return match Box::pin(tokio::time::timeout(EARLY_ANSWER, self.read_head())).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(said)) if is_refused(&said) => Err(said),
                _ => Err(cause),
            };
        }
        self.read_head().await
    }

    async fn read_head(&mut self) -> Result<(), BError> {
        for _ in 0..MAX_INFORMATIONAL {
            match &mut self.wire {
                Wire::Http1(line) => line.read_head().await?,
                Wire::Http2(session) => session.read_response_header().await?,
            }
            if !(100..200).contains(&self.status()) {
                return Ok(());
            }
        }
        Err(pingora::Error::explain(ErrorType::InvalidHTTPHeader, "nothing but informational answers"))
    }

    /// The status of the answer.
    pub(super) fn status(&self) -> u16 {
        match &self.wire {
            Wire::Http1(line) => line.head().status(),
            Wire::Http2(session) => session.response_header().map_or(0, |head| head.status.as_u16()),
        }
    }

    /// What the provider calls the request, if that is short and plain.
    pub(super) fn request_id(&self) -> Option<String> {
        let given = REQUEST_IDS.iter().map(|name| self.header(name)).find(|given| !given.is_empty())?;
        let sane = given.len() <= 128 && given.bytes().all(|byte| byte.is_ascii_graphic());
        sane.then(|| given.to_owned())
    }

    /// A header of the answer as text; empty where it is none.
    pub(super) fn header(&self, name: &HeaderName) -> &str {
        let value = match &self.wire {
            Wire::Http1(line) => line.head().get(name),
            Wire::Http2(session) => {
                session.response_header().and_then(|head| head.headers.get(name)).map(HeaderValue::as_bytes)
            }
        };
        value.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
    }

    /// The headers of the answer, for who needs them when the exchange is over.
    pub(super) fn headers(&self) -> HeaderMap {
        match &self.wire {
            Wire::Http1(line) => line.head().headers(),
            Wire::Http2(session) => session.response_header().map(|head| head.headers.clone()).unwrap_or_default(),
        }
    }

    /// The next bytes of the body; `None` at its end.
    ///
    /// Errors: `StreamTruncated` when the connection broke, `ProviderTimeout` after `idle` without a byte.
    pub(super) async fn read(&mut self, idle: Duration) -> Result<Option<Bytes>> {
        within(idle, self.receive()).await.unwrap_or_else(|| Err(stopped()))
    }

    /// The same where it has come already; `None` where it has not.
    pub(super) async fn ready(&mut self) -> Option<Result<Option<Bytes>>> {
        tokio::select! {
            biased;
            read = self.receive() => Some(read),
            () = std::future::ready(()) => None,
        }
    }

    /// The same, however long that takes.
    pub(super) async fn receive(&mut self) -> Result<Option<Bytes>> {
        let read = match &mut self.wire {
            Wire::Http1(line) => line.read().await,
            Wire::Http2(session) => session.read_response_body().await,
        };
        read.map_err(|cause| truncated().with_cause(cause))
    }

    /// The whole body, up to a limit.
    ///
    /// Errors: as `read`, and `ProviderProtocol` beyond the limit.
    pub(super) async fn read_all(&mut self, limit: usize, idle: Duration) -> Result<Bytes> {
        self.read_counting(limit, idle, &mut 0).await
    }

    /// The same; counts the bytes that came, so that they are known should this be dropped half-way.
    pub(super) async fn read_counting(&mut self, limit: usize, idle: Duration, came: &mut u64) -> Result<Bytes> {
        let Some(first) = self.read(idle).await? else { return Ok(Bytes::new()) };
        *came += first.len() as u64;
        let left = self.left();
        if first.len().saturating_add(left.unwrap_or_default()) > limit {
            return Err(too_large());
        }
        if left == Some(0) {
            return Ok(first);
        }
        let mut all = BytesMut::with_capacity(first.len() + left.unwrap_or_default().min(BELIEVED));
        all.extend_from_slice(&first);
        loop {
            let before = all.len();
            let goes_on = within(idle, self.read_on(&mut all)).await.unwrap_or_else(|| Err(stopped()))?;
            *came += (all.len() - before) as u64;
            if all.len() > limit {
                return Err(too_large());
            }
            if !goes_on {
                return Ok(all.freeze());
            }
        }
    }

    /// Reads the next bytes of the body behind these; false at its end.
    async fn read_on(&mut self, all: &mut BytesMut) -> Result<bool> {
        let read = match &mut self.wire {
            Wire::Http1(line) => line.read_into(all).await,
            Wire::Http2(session) => session.read_response_body().await.map(|bytes| {
                bytes.iter().for_each(|bytes| all.extend_from_slice(bytes));
                bytes.is_some()
            }),
        };
        read.map_err(|cause| truncated().with_cause(cause))
    }

    /// How many bytes of the body are to come, where that is known.
    fn left(&self) -> Option<usize> {
        match &self.wire {
            Wire::Http1(line) => line.left(),
            Wire::Http2(_) => None,
        }
    }

    /// Breaks the exchange off: closes the connection, or resets the HTTP/2 stream.
    pub(super) async fn abort(mut self: Box<Self>) {
        self.shutdown().await;
    }

    pub(super) async fn shutdown(&mut self) {
        match &mut self.wire {
            Wire::Http1(line) => line.shutdown().await,
            Wire::Http2(session) => session.shutdown().await,
        }
    }
}

/// The error of an answer that comes no further.
pub(super) fn stopped() -> Error {
    Error::new(ErrorKind::ProviderTimeout, "The provider stopped sending in the middle of its answer.")
}

/// The error of an answer that broke off.
pub(super) fn truncated() -> Error {
    Error::new(ErrorKind::StreamTruncated, "The provider's answer ended before it was complete.")
}

fn too_large() -> Error {
    Error::new(ErrorKind::ProviderProtocol, "The provider's answer is larger than this gateway accepts.")
}

/// Whether the peer says that it did nothing with the request (RFC 9113, 8.7): it refused the stream, or takes the connection back
/// and has not come to it. So it can be sent again, which costs nobody anything.
pub(super) fn is_refused(cause: &pingora::Error) -> bool {
    matches!(cause.retry, RetryType::Decided(true))
        && matches!(cause.etype, ErrorType::H2Error | ErrorType::H2Downgrade)
}

async fn write_body(session: &mut HttpSession, body: &Rope) -> Result<(), BError> {
    let mut pieces = body.pieces().cloned().peekable();
    while let Some(piece) = pieces.next() {
        session.write_request_body(piece, pieces.peek().is_none()).await?;
    }
    session.finish_request_body().await
}

/// The head of a request in HTTP/1, with room for a small body behind it.
fn head(endpoint: &Endpoint, request: &Outgoing, stream: bool) -> Result<BytesMut, BError> {
    let host = HeaderValue::try_from(endpoint.authority()).map_err(|cause| unfit("upstream host", cause))?;
    let headers = headers(request, stream, Some(host));
    let path = if request.path.is_empty() { "/" } else { &request.path };
    let mut head = BytesMut::with_capacity(HEAD + request.body.len().min(PACKET));
    let written =
        http1::write_request(&mut head, &request.method, path, headers.iter().map(|(name, value)| (name, value)));
    written.map_err(|flaw| pingora::Error::explain(ErrorType::InvalidHTTPHeader, flaw))?;
    Ok(head)
}

/// The same in HTTP/2.
fn head_of_stream(endpoint: &Endpoint, request: &Outgoing, stream: bool) -> Result<RequestHeader, BError> {
    let (mut head, ()) = http::Request::new(()).into_parts();
    head.method.clone_from(&request.method);
    let scheme = if endpoint.tls { "https" } else { "http" };
    let uri =
        Uri::builder().scheme(scheme).authority(endpoint.authority()).path_and_query(request.path.as_str()).build();
    head.uri = uri.map_err(|cause| unfit("upstream URI", cause))?;
    head.version = Version::HTTP_2;
    head.headers.extend(headers(request, stream, None));
    Ok(RequestHeader::from(head))
}

/// The headers of a request: the sender's own, and the dialect's, which count where both say something.
fn headers(request: &Outgoing, stream: bool, host: Option<HeaderValue>) -> Vec<(HeaderName, HeaderValue)> {
    let accept = if stream { "text/event-stream" } else { "application/json" };
    let own = [
        (header::ACCEPT, HeaderValue::from_static(accept)),
        // Answers are translated or scanned as they come; compressing them would only cost both sides time.
        (header::ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        (header::USER_AGENT, HeaderValue::from_static(concat!("perpetuo/", env!("CARGO_PKG_VERSION")))),
    ];
    let of_body = (request.method != Method::GET).then(|| {
        [
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (header::CONTENT_LENGTH, HeaderValue::from(request.body.len())),
        ]
    });
    let own = host.map(|host| (header::HOST, host)).into_iter().chain(own).chain(of_body.into_iter().flatten());
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::with_capacity(HEADERS);
    for (name, value) in own.chain(request.headers.iter().cloned()) {
        match headers.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => headers.push((name, value)),
        }
    }
    headers
}

/// The error of a request that no head can hold.
fn unfit(what: &'static str, cause: impl Into<http::Error>) -> BError {
    pingora::Error::because(ErrorType::InvalidHTTPHeader, what, cause.into())
}
