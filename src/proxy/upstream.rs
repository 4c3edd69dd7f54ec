//! One exchange with an upstream on a connection of `connections`: connect or reuse, send, read the head, read the body, give back.
//!
//! Knows bytes and timeouts; not dialects, not the client. Does what Pingora's own proxy loop would have done: a stale pooled
//! connection is tried again for free, informational heads are skipped, an early answer is read although the body was not
//! taken, HTTP/2 gets an absolute URI and no `Host`, a peer that can't HTTP/2 is remembered.
//!
//! Invariants: a connection goes back to the pool only when its response is done; TLS never runs without a server name.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::{ALPN, HttpPeer};
use pingora::{ErrorType, RetryType};

use super::connections::Connections;
use crate::api::rope::Rope;
use crate::config::Timeouts;
use crate::directory::Credential;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::{Connection, Metrics};
use crate::provider::{Endpoint, Outgoing};
use crate::seldom::Seldom;

/// At most one line of the log about connections in this time: in an outage each request fails.
const COMPLAINT_EVERY: Duration = Duration::from_secs(5);
/// Streams that share one HTTP/2 connection.
const MAX_H2_STREAMS: usize = 100;
/// Tries that cost no attempt, when a pooled connection turned out to be closed, or the peer did not take the request up.
const FREE_TRIES: usize = 3;
/// A pooled connection that the provider closed breaks within a round trip. What breaks later broke under the request, which the
/// provider may have worked on and may bill: it is not sent again here, where nobody would book it twice.
const STALE_WITHIN: Duration = Duration::from_millis(250);
/// Informational heads that are skipped before the answer counts as nonsense.
const MAX_INFORMATIONAL: usize = 16;
/// How long an upstream that stopped taking the body may need for its early answer.
const EARLY_ANSWER: Duration = Duration::from_millis(200);
/// How long the end of a response may lag behind its last event before the connection is given up.
const LINGER: Duration = Duration::from_millis(200);

/// Headers of a request that there is room for without moving any. One more would take twice the memory, for as long as a stream lasts.
const HEADERS: usize = 12;

/// Where providers say what they call a request: OpenAI's and most others' header, Anthropic's, Amazon's, Azure's.
const REQUEST_IDS: [&str; 4] = ["x-request-id", "request-id", "x-amzn-requestid", "apim-request-id"];

/// Where an exchange goes.
pub(super) struct Route<'a> {
    pub(super) endpoint: &'a Endpoint,
    /// What the operator says of HTTP/2; `None` leaves it to the negotiation.
    pub(super) http2: Option<bool>,
    /// Whose connection it is.
    pub(super) provider: &'static str,
}

impl<'a> From<&'a Credential> for Route<'a> {
    fn from(credential: &'a Credential) -> Self {
        let http2 = credential.options.get("http2").and_then(serde_json::Value::as_bool);
        Self { endpoint: &credential.endpoint, http2, provider: credential.provider.name }
    }
}

/// Opens exchanges.
pub(super) struct Upstream {
    connections: Arc<Connections>,
    timeouts: Timeouts,
    metrics: Option<Arc<Metrics>>,
    /// The line about a connection that could not be made.
    complaint: Seldom,
}

/// An exchange whose head has been read.
pub(super) struct Exchange {
    session: HttpSession,
    peer: HttpPeer,
}

impl Upstream {
    /// Over this connector. Connections are counted where there are metrics for them: those to providers.
    pub(super) fn new(connections: Arc<Connections>, timeouts: Timeouts, metrics: Option<Arc<Metrics>>) -> Self {
        Self { connections, timeouts, metrics, complaint: Seldom::new(COMPLAINT_EVERY) }
    }

    /// Sends a request and reads the head of its answer. `on_send` is told `true` right before the first byte may leave, and
    /// `false` when it turned out that the provider took none.
    ///
    /// Errors: `ProviderUnreachable`, `ProviderTimeout`.
    pub(super) async fn exchange(
        &self,
        route: &Route<'_>,
        address: SocketAddr,
        request: &Outgoing,
        stream: bool,
        mut on_send: impl FnMut(bool),
    ) -> Result<Box<Exchange>> {
        if route.endpoint.host.is_empty() {
            // Without a name Pingora would not look at the certificate.
            return Err(Error::internal("an endpoint without a host"));
        }
        let peer = self.peer(route, address);
        for _ in 0..FREE_TRIES {
            let (mut session, reused) = self.connect(route, &peer, !request.body.is_empty()).await?;
            session.set_read_timeout(None);
            session.set_write_timeout(Some(self.timeouts.idle));
            on_send(true);
            let sent = Instant::now();
            match send(&mut session, route.endpoint, request, stream).await {
                Ok(()) => return Ok(Box::new(Exchange { session, peer })),
                Err(cause) => {
                    session.shutdown().await;
                    self.remember(&cause, &peer);
                    let stale = reused
                        && sent.elapsed() < STALE_WITHIN
                        && matches!(cause.retry, RetryType::ReusedOnly | RetryType::Decided(true));
                    if !stale && !is_refused(&cause) {
                        return Err(unreachable(&cause));
                    }
                    on_send(false);
                }
            }
        }
        Err(Error::new(ErrorKind::ProviderUnreachable, "The provider keeps closing its connections."))
    }

    /// A connection from the pool or a new one, and whether it is from the pool.
    async fn connect(&self, route: &Route<'_>, peer: &HttpPeer, body: bool) -> Result<(HttpSession, bool)> {
        let began = Instant::now();
        let connected = self.connections.get(peer, body).await;
        let taken = match &connected {
            Ok((_, true)) => Connection::Reused,
            Ok((_, false)) => Connection::New { tls: route.endpoint.tls, seconds: began.elapsed().as_secs_f64() },
            Err(_) => Connection::Failed,
        };
        if let Some(metrics) = &self.metrics {
            metrics.attempts.connected(route.provider, taken);
        }
        connected.map_err(|cause| {
            self.remember(&cause, peer);
            self.complain(route, peer, &cause);
            unreachable(&cause)
        })
    }

    fn peer(&self, route: &Route<'_>, address: SocketAddr) -> HttpPeer {
        let Route { endpoint, http2, .. } = *route;
        let mut peer = HttpPeer::new(address, endpoint.tls, endpoint.host.clone());
        peer.options.alpn = match (endpoint.tls, http2) {
            (true, Some(false)) | (false, None | Some(false)) => ALPN::H1,
            (true, _) => ALPN::H2H1,
            // Without TLS there is nothing to negotiate with: HTTP/2 only where the operator says so.
            (false, Some(true)) => ALPN::H2,
        };
        peer.options.max_h2_streams = MAX_H2_STREAMS;
        peer.options.connection_timeout = Some(self.timeouts.connect);
        peer.options.total_connection_timeout = Some(self.timeouts.tls.max(self.timeouts.connect));
        peer
    }

    /// A peer that negotiated HTTP/2 and could not keep it up is spoken to in HTTP/1.1 from now on.
    fn remember(&self, cause: &pingora::Error, peer: &HttpPeer) {
        if matches!(cause.etype, ErrorType::H2Downgrade | ErrorType::InvalidH2) {
            self.connections.prefer_h1(peer);
        }
    }

    /// Says in the log why there is no connection, with what a certificate is refused for, but not for each.
    fn complain(&self, route: &Route<'_>, peer: &HttpPeer, cause: &pingora::Error) {
        if self.complaint.is_due() {
            let (host, address) = (&route.endpoint.host, &peer._address);
            tracing::warn!(provider = route.provider, host, %address, %cause, "no connection to a provider");
        }
    }

    /// Gives the connection back once the response is done; gives it up when something is still to come.
    pub(super) async fn finish(&self, mut exchange: Box<Exchange>) {
        let done = matches!(exchange.read(LINGER).await, Ok(None)) && exchange.session.response_done();
        if done {
            self.connections.release(exchange.session, &exchange.peer).await;
        } else {
            exchange.session.shutdown().await;
        }
    }
}

impl Exchange {
    /// The status of the answer.
    pub(super) fn status(&self) -> u16 {
        self.session.response_header().map_or(0, |head| head.status.as_u16())
    }

    /// What the provider calls the request, if that is short and plain.
    pub(super) fn request_id(&self) -> Option<String> {
        let headers = &self.session.response_header()?.headers;
        let given = REQUEST_IDS.iter().find_map(|name| headers.get(*name))?.to_str().ok()?;
        let sane = (1..=128).contains(&given.len()) && given.bytes().all(|byte| byte.is_ascii_graphic());
        sane.then(|| given.to_owned())
    }

    /// A header of the answer as text; empty where it is none.
    pub(super) fn header(&self, name: HeaderName) -> &str {
        let value = self.session.response_header().and_then(|head| head.headers.get(name));
        value.and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The headers of the answer, for who needs them when the exchange is over.
    pub(super) fn headers(&self) -> HeaderMap {
        self.session.response_header().map(|head| head.headers.clone()).unwrap_or_default()
    }

    /// The next bytes of the body; `None` at its end.
    ///
    /// Errors: `StreamTruncated` when the connection broke, `ProviderTimeout` after `idle` without a byte.
    pub(super) async fn read(&mut self, idle: Duration) -> Result<Option<Bytes>> {
        match self.ready().await {
            Some(read) => read,
            None => tokio::time::timeout(idle, self.receive()).await.unwrap_or_else(|_| Err(stopped())),
        }
    }

    /// The same where it has come already, without a look at the clock; `None` where it has not.
    pub(super) async fn ready(&mut self) -> Option<Result<Option<Bytes>>> {
        tokio::select! {
            biased;
            read = self.receive() => Some(read),
            () = std::future::ready(()) => None,
        }
    }

    /// The same, however long that takes.
    pub(super) async fn receive(&mut self) -> Result<Option<Bytes>> {
        self.session.read_response_body().await.map_err(|cause| truncated().with_cause(cause))
    }

    /// The whole body, up to a limit.
    ///
    /// Errors: as `read`, and `ProviderProtocol` beyond the limit.
    pub(super) async fn read_all(&mut self, limit: usize, idle: Duration) -> Result<Bytes> {
        self.read_counting(limit, idle, &mut 0).await
    }

    /// The same; counts the bytes that came, so that they are known should this be dropped half-way.
    pub(super) async fn read_counting(&mut self, limit: usize, idle: Duration, came: &mut u64) -> Result<Bytes> {
        let mut all = BytesMut::new();
        while let Some(bytes) = self.read(idle).await? {
            *came += bytes.len() as u64;
            if all.len() + bytes.len() > limit {
                return Err(Error::new(
                    ErrorKind::ProviderProtocol,
                    "The provider's answer is larger than this gateway accepts.",
                ));
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all.freeze())
    }

    /// Breaks the exchange off: closes the connection, or resets the HTTP/2 stream.
    pub(super) async fn abort(mut self: Box<Self>) {
        self.session.shutdown().await;
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

async fn send(
    session: &mut HttpSession,
    endpoint: &Endpoint,
    request: &Outgoing,
    stream: bool,
) -> Result<(), Box<pingora::Error>> {
    let http2 = session.as_http2().is_some();
    let head = head(endpoint, request, http2, stream)?;
    session.write_request_header(Box::new(head)).await?;
    if let Err(cause) = write_body(session, &request.body).await {
        // The upstream may have answered without taking the body (413, 429) and closed: that answer says more.
        return match Box::pin(tokio::time::timeout(EARLY_ANSWER, read_head(session))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(said)) if is_refused(&said) => Err(said),
            _ => Err(cause),
        };
    }
    read_head(session).await
}

async fn write_body(session: &mut HttpSession, body: &Rope) -> Result<(), Box<pingora::Error>> {
    let mut pieces = body.pieces().cloned().peekable();
    while let Some(piece) = pieces.next() {
        session.write_request_body(piece, pieces.peek().is_none()).await?;
    }
    session.finish_request_body().await
}

async fn read_head(session: &mut HttpSession) -> Result<(), Box<pingora::Error>> {
    for _ in 0..MAX_INFORMATIONAL {
        session.read_response_header().await?;
        let informational = session.response_header().is_some_and(|head| head.status.is_informational());
        if !informational {
            return Ok(());
        }
    }
    Err(pingora::Error::explain(ErrorType::InvalidHTTPHeader, "nothing but informational answers"))
}

/// The head, built from scratch: nothing of the client's head can leak into it.
fn head(
    endpoint: &Endpoint,
    request: &Outgoing,
    http2: bool,
    stream: bool,
) -> Result<RequestHeader, Box<pingora::Error>> {
    let (mut head, ()) = http::Request::new(()).into_parts();
    head.method.clone_from(&request.method);
    let headers = &mut head.headers;
    headers.reserve(HEADERS);
    if http2 {
        let scheme = if endpoint.tls { "https" } else { "http" };
        let uri =
            Uri::builder().scheme(scheme).authority(endpoint.authority()).path_and_query(request.path.as_str()).build();
        head.uri = uri.map_err(|cause| unfit("upstream URI", cause))?;
        head.version = Version::HTTP_2;
    } else {
        let path = if request.path.is_empty() { "/" } else { &request.path };
        head.uri = Uri::try_from(path).map_err(|cause| unfit("upstream path", cause))?;
        let host = HeaderValue::try_from(endpoint.authority()).map_err(|cause| unfit("upstream host", cause))?;
        headers.insert(header::HOST, host);
    }
    let accept = if stream { "text/event-stream" } else { "application/json" };
    headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
    // Answers are translated or scanned as they come; compressing them would only cost both sides time.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("perpetuo/", env!("CARGO_PKG_VERSION"))));
    if request.method != Method::GET {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(request.body.len()));
    }
    for (name, value) in &request.headers {
        headers.insert(name.clone(), value.clone());
    }
    Ok(RequestHeader::from(head))
}

/// The error of a request that no head can hold.
fn unfit(what: &'static str, cause: impl Into<http::Error>) -> Box<pingora::Error> {
    pingora::Error::because(ErrorType::InvalidHTTPHeader, what, cause.into())
}

/// Whether the peer says that it did nothing with the request (RFC 9113, 8.7): it refused the stream, or takes the connection back
/// and has not come to it. So it can be sent again, which costs nobody anything.
fn is_refused(cause: &pingora::Error) -> bool {
    matches!(cause.retry, RetryType::Decided(true))
        && matches!(cause.etype, ErrorType::H2Error | ErrorType::H2Downgrade)
}

/// A Pingora error before the head of the answer, as one of ours.
fn unreachable(cause: &pingora::Error) -> Error {
    use ErrorType::{ConnectTimedout, ReadTimedout, TLSHandshakeTimedout, WriteTimedout};
    let kind = match cause.etype {
        ConnectTimedout | TLSHandshakeTimedout | ReadTimedout | WriteTimedout => ErrorKind::ProviderTimeout,
        _ => ErrorKind::ProviderUnreachable,
    };
    let message = match kind {
        ErrorKind::ProviderTimeout => "The provider did not accept the request in time.",
        _ => "The provider could not be reached, or closed the connection without an answer.",
    };
    Error::new(kind, message).with_cause(cause)
}
