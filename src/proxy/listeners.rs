//! The listening sockets: bound here, or inherited from the process before; and a Pingora service on each.
//!
//! Invariant: a socket is bound before anything else is opened, so that a taken address ends the start with a clear word. Pingora
//! by itself would try for half a minute, and then leave a process that runs and does not listen.

use std::io::ErrorKind as Io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions};
use pingora::protocols::http::v2::server::H2Options;
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::clients::Clients;
use super::door::{Crowd, HeadGuard};
use super::life::What;
use super::socket::Socket;
use super::{Gateway, Listener, Planes};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::handover::wire::Addresses;
use crate::shed::{Resource, Scope, Shed};

/// How long nothing is accepted after an error.
const PAUSE: Duration = Duration::from_millis(100);
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

/// One listener as a Pingora service that ends when the gateway's [`Life`] says so. It keeps the idle connections until they are to
/// be closed: Pingora's own closes them with the listener, and a client that just then sends another request would lose it.
pub(super) struct Door {
    name: String,
    socket: Option<TcpListener>,
    clients: Arc<Clients>,
    crowd: Arc<Crowd>,
}

impl Door {
    fn new(bound: &Bound, gateway: &Arc<Gateway>, conf: &Arc<ServerConf>) -> Result<Self> {
        let name = format!("perpetuo on {}", bound.configured);
        let socket = bound.socket.try_clone().map_err(|cause| unable(bound.configured, &cause))?;
        let (gateway, planes) = (Arc::clone(gateway), bound.planes);
        let mut proxy = http_proxy(conf, Listener { gateway: Arc::clone(&gateway), planes });
        let mut options = HttpServerOptions::default();
        let config = gateway.config();
        options.h2c = config.server.h2c;
        options.h2_idle_timeout = Some(config.server.max_keepalive);
        proxy.server_options = Some(options);
        proxy.h2_options = Some(http2(&config));
        let pingora = Arc::new(HeadGuard { proxy: Arc::new(proxy), gateway: Arc::clone(&gateway) });
        let closing = gateway.life.closing();
        let clients = Arc::new(Clients { gateway, planes, pingora, closing });
        Ok(Self { name, socket: Some(socket), clients, crowd: Arc::default() })
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
        let Some(socket) = self.socket.take() else { return };
        let socket = match tokio::net::TcpListener::from_std(socket) {
            Ok(socket) => Arc::new(socket),
            Err(error) => return tracing::error!(%error, service = self.name, "the runtime can't listen"),
        };
        let mut accepting = JoinSet::new();
        for _ in 0..tasks {
            accepting.spawn(accept(Arc::clone(&socket), Arc::clone(&self.clients), Arc::clone(&self.crowd)));
        }
        drop(socket);
        while accepting.join_next().await.is_some() {}
        self.clients.gateway.life.hung_up().await;
        self.clients.pingora.http_cleanup().await;
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// Lets clients in until the listener is to be closed.
async fn accept(socket: Arc<tokio::net::TcpListener>, clients: Arc<Clients>, crowd: Arc<Crowd>) {
    let mut closing = clients.closing.clone();
    let mut closed = pin!(closing.wait_for(|closing| *closing));
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = &mut closed => return,
        };
        match accepted {
            Ok((stream, from)) => drop(tokio::spawn(welcome(stream, from, Arc::clone(&clients), Arc::clone(&crowd)))),
            // One client has left before it was let in, which must not hold up the others.
            Err(error) if matches!(error.kind(), Io::ConnectionAborted | Io::ConnectionReset) => {}
            Err(error) => {
                tracing::error!(%error, "a connection can't be accepted");
                // Too many open files are too many for the next one, too, until something ends.
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Serves a connection, where there is room for it.
async fn welcome(stream: TcpStream, from: SocketAddr, clients: Arc<Clients>, crowd: Arc<Crowd>) {
    let gateway = &clients.gateway;
    let _counted = gateway.life.count(What::Connections);
    let Some(_pass) = crowd.enter(Some(from.ip()), &gateway.config().limits) else {
        return gateway.metrics.access.shed(TOO_MANY_CONNECTIONS);
    };
    // The client may be gone already.
    if let Ok(socket) = Socket::accepted(stream, from) {
        clients.serve(socket).await;
    }
}
