//! The listening sockets: bound here, or inherited from the process before; and a Pingora service on each.
//!
//! Invariant: a socket is bound before anything else is opened, so that a taken address ends the start with a clear word. Pingora
//! by itself would try for half a minute, and then leave a process that runs and does not listen.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ServerApp};
use pingora::protocols::Stream;
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::configuration::ServerConf;
use pingora::server::{Fds, ListenFds, ShutdownWatch};
use pingora::services::Service;
use pingora::services::listening;

use super::life::{Life, What};
use super::{Gateway, Listener, Planes};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::handover::wire::Addresses;

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
        options.h2c = gateway.config().server.h2c;
        proxy.server_options = Some(options);
        let life = Arc::clone(&gateway.life);
        let keeper = Doorkeeper { proxy: Arc::new(proxy), life: Arc::clone(&life) };
        let mut service = listening::Service::new(format!("perpetuo on {address}"), keeper);
        service.add_tcp(&address);
        Ok(Self { service, sockets: Arc::new(sockets.into()), life })
    }
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

/// Counts connections, and keeps the idle ones until they are to be closed: Pingora closes them with the listener, and a client
/// that just then sends another request would lose it.
struct Doorkeeper {
    proxy: Arc<HttpProxy<Listener>>,
    life: Arc<Life>,
}

#[async_trait]
impl ServerApp for Doorkeeper {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let _counted = self.life.count(What::Connections);
        self.proxy.process_new(stream, shutdown).await
    }

    async fn cleanup(&self) {
        self.life.hung_up().await;
        self.proxy.http_cleanup().await;
    }
}
