//! Where connections to upstreams come from and go to: Pingora's `Connector`, or `plain` where nothing is negotiated.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::listeners::ALPN;
use pingora::prelude::HttpPeer;
use pingora::protocols::http::client::HttpSession;
use pingora::protocols::http::v1::client::HttpSession as Http1;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::Peer;

use super::plain::{Plain, Pool};
use crate::config::Config;

/// Idle connections that Pingora keeps.
const MOST_IDLE: usize = 1024;

/// The connections of a process.
pub(super) struct Connections {
    connector: Connector,
    plain: Arc<Pool>,
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
        Self { connector, plain: Arc::default() }
    }

    /// A connection, and whether it has served before. The next request has a body or it has not.
    pub(super) async fn get(&self, peer: &HttpPeer, body: bool) -> pingora::Result<(HttpSession, bool)> {
        let Some(address) = is_plain(peer) else { return Box::pin(self.connector.get_http_session(peer)).await };
        let known = self.plain.take(address);
        let reused = known.is_some();
        let mut plain = match known {
            Some(plain) => plain,
            None => Box::pin(Plain::connect(address, peer.connection_timeout().unwrap_or(Duration::MAX))).await?,
        };
        if body {
            plain.hold_head();
        }
        Ok((HttpSession::H1(Http1::new_with_options(plain, peer)), reused))
    }

    /// Takes a connection back whose answer was read to its end.
    pub(super) async fn release(&self, session: HttpSession, peer: &HttpPeer) {
        match (is_plain(peer), session) {
            (Some(address), HttpSession::H1(mut http)) => {
                http.respect_keepalive();
                let stream = http.reuse().await.and_then(|stream| stream.into_any().downcast::<Plain>().ok());
                if let Some(plain) = stream {
                    self.plain.put(address, plain, Instant::now());
                }
            }
            // On the heap, as each of Pingora's own: every stream would hold the room for it until its end.
            (_, session) => Box::pin(self.connector.release_http_session(session, peer, None)).await,
        }
    }

    /// Speaks HTTP/1.1 to this peer from now on.
    pub(super) fn prefer_h1(&self, peer: &HttpPeer) {
        self.connector.prefer_h1(peer);
    }
}

/// The address of a peer that is spoken to in HTTP/1 without TLS.
fn is_plain(peer: &HttpPeer) -> Option<std::net::SocketAddr> {
    let plain = !peer.tls() && peer.options.alpn == ALPN::H1;
    peer.address().as_inet().copied().filter(|_| plain)
}
