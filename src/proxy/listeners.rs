//! The listening sockets: bound here, or inherited from the process before; and a Pingora service on each.
//!
//! Invariant: a socket is bound before anything else is opened, so that a taken address ends the start with a clear word. Pingora
//! by itself would try for half a minute, and then leave a process that runs and does not listen.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::configuration::ServerConf;
use pingora::server::{Fds, ListenFds, ShutdownWatch};
use pingora::services::Service;
use pingora::services::listening;

use super::door::{self, Crowd};
use super::life::{Life, What};
use super::{Gateway, Listener, Planes};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::handover::wire::Addresses;
use crate::shed::{Resource, Scope, Shed};

/// What Pingora buffers in front of a connection, in bytes, as long as it lasts. Heads and bodies are read into buffers of their
/// own, so nothing to read; to write what makes a head and a short answer one packet.
const READ_BUFFER: usize = 0;
const WRITE_BUFFER: usize = 4096;
/// Bytes that tell HTTP/2 from HTTP/1.
const PREFACE: usize = 24;
/// Streams of one HTTP/2 connection that may be open at the same time.
const MAX_STREAMS: u32 = 100;
/// Streams of it that the client may reset before they were looked at: a client that opens and resets them in a row costs work and
/// is never served.
const MAX_RESETS: usize = 20;
/// Streams of it that may be reset because of what the client sent.
const MAX_FAULTS: usize = 1024;
/// Bytes of an answer that are held for each of them while the client's window is closed.
const SEND_BUFFER: usize = 64 * 1024;
const TOO_MANY_CONNECTIONS: Shed = Shed { scope: Scope::Process, resource: Resource::Connections };

/// The listening sockets of a process.
pub struct Listeners {
    addresses: Addresses,
    /// Empty once they are closed.
    bound: Mutex<Vec<Bound>>,
}

struct Bound {
    configured: SocketAddr,
    planes: Planes,
    socket: TcpListener,
}

impl Listeners {
    /// Listens on every configured address.
    ///
    /// Errors: `Internal`, with a text for the operator that names the address.
    pub fn bind(config: &Config) -> Result<Self> {
        Self::inherit(config, Vec::new())
    }

    /// The same with sockets that listen already; those at addresses that are not configured any more are closed.
    ///
    /// Errors: as for `bind`.
    pub fn inherit(config: &Config, mut inherited: Vec<TcpListener>) -> Result<Self> {
        let bound = configured(config).into_iter().map(|(configured, planes)| {
            let fits = |socket: &TcpListener| socket.local_addr().is_ok_and(|address| address == configured);
            let ready = inherited.iter().position(fits).map(|at| Ok(inherited.swap_remove(at)));
            let socket = ready.unwrap_or_else(|| TcpListener::bind(configured));
            let socket = socket.and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
            let socket = socket.map_err(|cause| unable(configured, &cause))?;
            Ok(Bound { configured, planes, socket })
        });
        let bound = bound.collect::<Result<Vec<_>>>()?;
        let at = |wanted: fn(Planes) -> bool| bound.iter().find(|bound| wanted(bound.planes)).map(Bound::address);
        let data = at(|planes| planes.data).unwrap_or(config.server.listen);
        let admin = at(|planes| planes.admin).unwrap_or(data);
        let addresses = Addresses { data, admin, metrics: at(|planes| planes.metrics) };
        Ok(Self { addresses, bound: Mutex::new(bound) })
    }

    /// Where what is served.
    pub const fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Gives the sockets to somebody.
    pub(super) fn show<T>(&self, to: impl FnOnce(&[BorrowedFd<'_>]) -> T) -> T {
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        to(&bound.iter().map(|bound| bound.socket.as_fd()).collect::<Vec<_>>())
    }

    /// Lets go of the sockets; those of the services are closed by `Life::close`.
    pub(super) fn close(&self) {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// A service for each.
    pub(super) fn services(&self, gateway: &Arc<Gateway>, conf: &Arc<ServerConf>) -> Result<Vec<Door>> {
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        bound.iter().map(|bound| Door::new(bound, gateway, conf)).collect()
    }
}

impl Bound {
    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap_or(self.configured)
    }
}

fn unable(address: SocketAddr, cause: &std::io::Error) -> Error {
    Error::new(ErrorKind::Internal, format!("can't listen on {address}: {cause}"))
}

/// The configured addresses, and what is served at each.
fn configured(config: &Config) -> Vec<(SocketAddr, Planes)> {
    let shared = config.admin.listen.is_none();
    let data = Planes { data: true, admin: shared, console: shared, metrics: false };
    let admin = Planes { admin: true, console: true, ..Planes::default() };
    let metrics = Planes { metrics: true, ..Planes::default() };
    let metrics = config.metrics.enabled.then_some((config.metrics.listen, metrics));
    let admin = config.admin.listen.map(|address| (address, admin));
    std::iter::once((config.server.listen, data)).chain(admin).chain(metrics).collect()
}

/// One listener as a Pingora service that ends when the gateway's [`Life`] says so.
pub(super) struct Door {
    service: listening::Service<Doorkeeper>,
    sockets: ListenFds,
    life: Arc<Life>,
}

impl Door {
    fn new(bound: &Bound, gateway: &Arc<Gateway>, conf: &Arc<ServerConf>) -> Result<Self> {
        let address = bound.configured.to_string();
        let socket = bound.socket.try_clone().map_err(|cause| unable(bound.configured, &cause))?;
        let mut sockets = Fds::new();
        sockets.add(address.clone(), socket.into_raw_fd());
        let mut proxy = http_proxy(conf, Listener { gateway: Arc::clone(gateway), planes: bound.planes });
        let mut options = HttpServerOptions::default();
        let config = gateway.config();
        options.h2c = config.server.h2c;
        options.h2_idle_timeout = Some(config.server.max_keepalive);
        proxy.server_options = Some(options);
        proxy.h2_options = Some(http2(&config));
        let life = Arc::clone(&gateway.life);
        let server = Arc::new(HeadGuard { proxy: Arc::new(proxy), gateway: Arc::clone(gateway) });
        let keeper = Doorkeeper { server, crowd: Arc::default(), life: Arc::clone(&life) };
        let mut service = listening::Service::new(format!("perpetuo on {address}"), keeper);
        service.add_listener(ListenerConfig::tcp(&address).l4_buffer(L4BufferSettings::new(READ_BUFFER, WRITE_BUFFER)));
        Ok(Self { service, sockets: Arc::new(sockets.into()), life })
    }
}

/// What a client may do on one connection of HTTP/2. Beyond it the connection is closed with an error of the protocol; how many
/// CONTINUATION frames a header list may have follows from its size, and answers to PING and SETTINGS are never queued.
fn http2(config: &Config) -> H2Options {
    let mut options = H2Options::default();
    options
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(config.limits.max_header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(Some(MAX_FAULTS))
        .max_send_buffer_size(SEND_BUFFER);
    options
}

#[async_trait]
impl Service for Door {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, tasks: usize) {
        self.service.start_service(Some(Arc::clone(&self.sockets)), self.life.closing(), tasks).await;
    }

    fn name(&self) -> &str {
        self.service.name()
    }
}

/// Counts connections, turns away what is too many, and keeps the idle ones until they are to be closed: Pingora closes them with the
/// listener, and a client that just then sends another request would lose it.
struct Doorkeeper {
    server: Arc<HeadGuard>,
    crowd: Arc<Crowd>,
    life: Arc<Life>,
}

#[async_trait]
impl ServerApp for Doorkeeper {
    async fn process_new(self: &Arc<Self>, mut stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let _counted = self.life.count(What::Connections);
        let config = self.server.gateway.config();
        let address = stream.get_socket_digest().and_then(|digest| Some(digest.peer_addr()?.as_inet()?.ip()));
        let Some(_pass) = self.crowd.enter(address, &config.limits) else {
            self.server.gateway.metrics.access.shed(TOO_MANY_CONNECTIONS);
            return None;
        };
        if self.server.proxy.server_options.as_ref().is_some_and(|options| options.h2c) {
            // Pingora looks whether HTTP/2 is spoken, and would wait for ever; what was seen is there to be read again.
            let peeked = tokio::time::timeout(config.timeouts.head, stream.try_peek(&mut [0; PREFACE])).await;
            if peeked.is_err() {
                self.server.gateway.metrics.access.slow_heads.inc();
            }
            peeked.ok()?.ok()?;
        }
        drop(config);
        self.server.process_new(stream, shutdown).await
    }

    async fn cleanup(&self) {
        self.life.hung_up().await;
        self.server.http_cleanup().await;
    }
}

/// The proxy, with a deadline for each head of HTTP/1.
struct HeadGuard {
    proxy: Arc<HttpProxy<Listener>>,
    gateway: Arc<Gateway>,
}

#[async_trait]
impl HttpServerApp for HeadGuard {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if session.is_http2() {
            return self.proxy.process_new_http(session, shutdown).await;
        }
        let config = self.gateway.config();
        // A connection that has served a request may be idle before the next one.
        let idle = session.get_keepalive_reuses_remaining().map_or(Duration::ZERO, |_| config.server.max_keepalive);
        let patience = config.timeouts.head.saturating_add(idle);
        drop(config);
        let late = || self.gateway.metrics.access.slow_heads.inc();
        door::with_head_in(patience, self.proxy.process_new_http(session, shutdown), late).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.proxy.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.proxy.server_options()
    }

    async fn http_cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}
