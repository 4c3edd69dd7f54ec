//! Where connections to upstreams come from and go to: HTTP/1 without TLS is a plain socket, all else Pingora's `Connector` makes.
//! Those that speak HTTP/1 wait in `pool` for their next request, those of HTTP/2 with Pingora.
//!
//! Invariants: a peer that can't HTTP/2 is remembered; no connection is given to a peer of another name.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::listeners::ALPN;
use pingora::prelude::HttpPeer;
use pingora::protocols::Stream;
use pingora::protocols::http::client::HttpSession;
use pingora::server::configuration::ServerConf;

use super::pool::Pool;
use super::socket::Socket;
use crate::config::{Config, Timeouts};

/// Idle connections that Pingora keeps.
const MOST_IDLE: usize = 1024;
/// Streams that share one HTTP/2 connection.
const MAX_H2_STREAMS: usize = 100;

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// The name that its certificate has; none without TLS.
    pub(super) tls: Option<String>,
    /// What the operator says of HTTP/2; `None` leaves it to the negotiation.
    pub(super) http2: Option<bool>,
}

impl Peer {
    /// Whether it is spoken to in HTTP/1 without TLS.
    const fn is_plain(&self) -> bool {
        self.tls.is_none() && !matches!(self.http2, Some(true))
    }

    /// The same as Pingora knows it.
    fn in_pingora(&self, timeouts: &Timeouts) -> HttpPeer {
        let mut peer = HttpPeer::new(self.address, self.tls.is_some(), self.tls.clone().unwrap_or_default());
        peer.options.alpn = match (&self.tls, self.http2) {
            (Some(_), Some(false)) | (None, None | Some(false)) => ALPN::H1,
            (Some(_), _) => ALPN::H2H1,
            // Without TLS there is nothing to negotiate with: HTTP/2 only where the operator says so.
            (None, Some(true)) => ALPN::H2,
        };
        peer.options.max_h2_streams = MAX_H2_STREAMS;
        peer.options.connection_timeout = Some(timeouts.connect);
        peer.options.total_connection_timeout = Some(timeouts.tls.max(timeouts.connect));
        peer
    }
}

/// A connection, or what it is for HTTP/2: a stream of one.
pub(super) enum Connection {
    Http1(Stream),
    Http2(Box<HttpSession>),
}

/// The connections of a process.
pub(super) struct Connections {
    connector: Connector,
    pool: Arc<Pool>,
}

impl Connections {
    /// None yet.
    pub(super) fn new(config: &Config) -> Self {
        let conf = ServerConf {
            ca_file: config.security.ca_file.as_ref().map(|path| path.display().to_string()),
            upstream_keepalive_pool_size: MOST_IDLE,
            ..ServerConf::default()
        };
        let connector = Connector::new(Some(ConnectorOptions::from_server_conf(&conf)));
        Self { connector, pool: Arc::default() }
    }

    /// A connection, and whether it has served before.
    pub(super) async fn get(&self, peer: &Peer, timeouts: &Timeouts) -> pingora::Result<(Connection, bool)> {
        if let Some(stream) = self.pool.take(peer) {
            return Ok((Connection::Http1(stream), true));
        }
        // On the heap, both: every stream would hold the room for it until its end.
        if peer.is_plain() {
            let socket = Box::pin(Socket::connect(peer.address, timeouts.connect)).await?;
            return Ok((Connection::Http1(socket), false));
        }
        let peer = peer.in_pingora(timeouts);
        let (session, reused) = Box::pin(self.connector.get_http_session(&peer)).await?;
        let connection = match session {
            HttpSession::H1(http1) => Connection::Http1(http1.into_inner()),
            session => Connection::Http2(Box::new(session)),
        };
        Ok((connection, reused))
    }

    /// Keeps a connection that is ready for another request.
    pub(super) fn keep(&self, stream: Stream, peer: &Peer) {
        self.pool.put(peer, stream, Instant::now());
    }

    /// Takes a stream of HTTP/2 back whose answer was read to its end.
    pub(super) async fn release(&self, session: HttpSession, peer: &Peer, timeouts: &Timeouts) {
        Box::pin(self.connector.release_http_session(session, &peer.in_pingora(timeouts), None)).await;
    }

    /// Speaks HTTP/1.1 to this peer from now on.
    pub(super) fn prefer_h1(&self, peer: &Peer, timeouts: &Timeouts) {
        self.connector.prefer_h1(&peer.in_pingora(timeouts));
    }
}
