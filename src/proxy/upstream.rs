//! The way to an upstream: a connection of `connections`, an `exchange` on it, and another one where that costs nobody anything.
//!
//! Knows timeouts and errors; not dialects, not the client. A stale pooled connection is tried again for free, and a connection goes
//! back to where it came from when its answer is whole. Invariant: TLS never runs without a server name.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::{ErrorType, RetryType};

use super::connections::{Connection, Connections, Peer};
use super::exchange::{Exchange, Wire, is_refused};
use crate::config::Timeouts;
use crate::directory::Credential;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::{self, Metrics};
use crate::provider::{Endpoint, Outgoing};
use crate::seldom::Seldom;

/// At most one line of the log about connections in this time: in an outage each request fails.
const COMPLAINT_EVERY: Duration = Duration::from_secs(5);
/// Tries that cost no attempt, when a pooled connection turned out to be closed, or the peer did not take the request up.
const FREE_TRIES: usize = 3;
/// A pooled connection that the provider closed breaks within a round trip. What breaks later broke under the request, which the
/// provider may have worked on and may bill: it is not sent again here, where nobody would book it twice.
const STALE_WITHIN: Duration = Duration::from_millis(250);
/// How long the end of a response may lag behind its last event before the connection is given up.
const LINGER: Duration = Duration::from_millis(200);

/// Where an exchange goes.
pub(super) struct Route<'a> {
    pub(super) endpoint: &'a Endpoint,
    /// What the operator says of HTTP/2; `None` leaves it to the negotiation.
    pub(super) http2: Option<bool>,
    /// Whose connection it is.
    pub(super) provider: &'static str,
}

impl Route<'_> {
    fn peer(&self, address: SocketAddr) -> Peer {
        Peer { address, tls: self.endpoint.tls.then(|| self.endpoint.host.clone()), http2: self.http2 }
    }
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
        let peer = route.peer(address);
        for _ in 0..FREE_TRIES {
            let (connection, reused) = self.connect(route, &peer).await?;
            let mut exchange = Box::new(Exchange::new(connection, peer.clone()));
            on_send(true);
            let sent = Instant::now();
            match exchange.send(route.endpoint, request, stream, self.timeouts.idle).await {
                Ok(()) => return Ok(exchange),
                Err(cause) => {
                    exchange.shutdown().await;
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

    /// A connection that served before or a new one, and which of them it is.
    async fn connect(&self, route: &Route<'_>, peer: &Peer) -> Result<(Connection, bool)> {
        let began = Instant::now();
        let connected = self.connections.get(peer, &self.timeouts).await;
        let taken = match &connected {
            Ok((_, true)) => metrics::Connection::Reused,
            Ok((_, false)) => {
                metrics::Connection::New { tls: route.endpoint.tls, seconds: began.elapsed().as_secs_f64() }
            }
            Err(_) => metrics::Connection::Failed,
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

    /// A peer that negotiated HTTP/2 and could not keep it up is spoken to in HTTP/1.1 from now on.
    fn remember(&self, cause: &pingora::Error, peer: &Peer) {
        if matches!(cause.etype, ErrorType::H2Downgrade | ErrorType::InvalidH2) {
            self.connections.prefer_h1(peer, &self.timeouts);
        }
    }

    /// Says in the log why there is no connection, with what a certificate is refused for, but not for each.
    fn complain(&self, route: &Route<'_>, peer: &Peer, cause: &pingora::Error) {
        if self.complaint.is_due() {
            let (host, address) = (&route.endpoint.host, peer.address);
            tracing::warn!(provider = route.provider, host, %address, %cause, "no connection to a provider");
        }
    }

    /// Gives the connection back once the answer is whole; gives it up when something is still to come.
    pub(super) async fn finish(&self, mut exchange: Box<Exchange>) {
        let whole = matches!(exchange.read(LINGER).await, Ok(None));
        let Exchange { wire, peer } = *exchange;
        match wire {
            Wire::Http1(line) if whole && line.is_reusable() => self.connections.keep(line.into_stream(), &peer),
            Wire::Http1(mut line) => line.shutdown().await,
            Wire::Http2(mut session) => match whole && session.response_done() {
                true => self.connections.release(*session, &peer, &self.timeouts).await,
                false => session.shutdown().await,
            },
        }
    }
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
