//! The process around the gateway: listeners on Pingora's server, and what signals do.
//!
//! SIGTERM drains: `/ready` turns 503, new requests are refused, running ones finish (or `server.drain` passes), the ledger is
//! flushed. What runs still is ended with an error and booked. SIGINT does that at once. SIGHUP reloads.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use pingora::apps::HttpServerOptions;
use pingora::proxy::ProxyServiceBuilder;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora::services::background::{BackgroundService, background_service};

use super::{Gateway, Listener, Planes};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Keep;

/// How often a draining process looks whether the last request is over.
const DRAIN_LOOK: Duration = Duration::from_millis(50);

/// How long a request that must end may take to say so.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What ends the process.
#[async_trait]
pub trait Signals: Send + Sync {
    /// Resolves when the process is to end; true means that running requests may finish first.
    async fn stop(&self) -> bool;
}

/// Serves on the configured listeners until a signal ends it. Blocks; the ledger is on disk when it returns.
pub fn serve(gateway: &Arc<Gateway>, signals: impl Signals + 'static) {
    let config = gateway.config();
    let conf = ServerConf {
        threads: config.server.threads,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    for (address, planes) in listeners(&config) {
        add_listener(&mut server, gateway, &address.to_string(), planes);
    }
    server.add_service(background_service("housekeeping", Housekeeping { gateway: Arc::clone(gateway) }));
    let watch = Watch { gateway: Arc::clone(gateway), signals: Box::new(signals), patience: config.server.drain };
    server.run(RunArgs { shutdown_signal: Box::new(watch) });
    gateway.lasting.meter.shutdown();
    gateway.lasting.telemetry.shutdown();
}

/// Whether every configured address can be listened on, for asking before anything is opened or printed: Pingora would try
/// for half a minute, and then leave a process that runs and does not listen.
///
/// Errors: `Internal`, with a text for the operator that names the address.
pub fn check_listeners(config: &Config) -> Result<()> {
    for (address, _) in listeners(config) {
        TcpListener::bind(address)
            .map_err(|cause| Error::new(ErrorKind::Internal, format!("can't listen on {address}: {cause}")))?;
    }
    Ok(())
}

/// The configured addresses, and what is served at each.
fn listeners(config: &Config) -> Vec<(SocketAddr, Planes)> {
    let shared = config.admin.listen.is_none();
    let data = Planes { data: true, admin: shared, console: shared, metrics: false };
    let admin = Planes { admin: true, console: true, ..Planes::default() };
    let metrics = Planes { metrics: true, ..Planes::default() };
    let metrics = config.metrics.enabled.then_some((config.metrics.listen, metrics));
    let admin = config.admin.listen.map(|address| (address, admin));
    std::iter::once((config.server.listen, data)).chain(admin).chain(metrics).collect()
}

fn add_listener(server: &mut Server, gateway: &Arc<Gateway>, address: &str, planes: Planes) {
    let listener = Listener { gateway: Arc::clone(gateway), planes };
    let mut options = HttpServerOptions::default();
    options.h2c = gateway.config().server.h2c;
    let mut service = ProxyServiceBuilder::new(&server.configuration, listener)
        .name(format!("perpetuo on {address}"))
        .server_options(options)
        .build();
    service.add_tcp(address);
    server.add_service(service);
}

/// Deletes what the request log no longer has to keep, once an hour.
struct Housekeeping {
    gateway: Arc<Gateway>,
}

#[async_trait]
impl BackgroundService for Housekeeping {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut hour = tokio::time::interval(Duration::from_secs(3600));
        loop {
            tokio::select! {
                _ = hour.tick() => self.prune().await,
                _ = shutdown.changed() => return,
            }
        }
    }
}

impl Housekeeping {
    async fn prune(&self) {
        let keep = keep(&self.gateway.config(), Timestamp::now());
        let store = Arc::clone(&self.gateway.lasting.store);
        match tokio::task::spawn_blocking(move || store.prune(&keep)).await {
            Ok(Ok(0)) => {}
            Ok(Ok(rows)) => tracing::info!(rows, "old rows of the request log deleted"),
            Ok(Err(error)) => tracing::error!(?error, "the request log could not be pruned"),
            Err(error) => tracing::error!(%error, "the request log could not be pruned"),
        }
    }
}

/// What is kept of the log and of the sums.
fn keep(config: &Config, now: Timestamp) -> Keep {
    let ago =
        |days: u32| now.checked_sub(jiff::SignedDuration::from_hours(24 * i64::from(days))).unwrap_or(Timestamp::MIN);
    Keep {
        logs: ago(config.logs.keep_days),
        log_bytes: config.logs.max_bytes,
        close: ago(1),
        minutes: ago(config.usage.keep_minutes_days),
        hours: ago(config.usage.keep_hours_days),
        days: ago(config.usage.keep_days),
    }
}

/// Tells Pingora when to end: after the drain.
struct Watch {
    gateway: Arc<Gateway>,
    signals: Box<dyn Signals>,
    patience: Duration,
}

#[async_trait]
impl ShutdownSignalWatch for Watch {
    async fn recv(&self) -> ShutdownSignal {
        let drain = self.signals.stop().await;
        self.gateway.draining.store(true, Relaxed);
        if drain {
            self.until_idle(self.patience).await;
        }
        // What still runs ends with an error that says why, and is booked.
        self.gateway.halt.send_replace(true);
        self.until_idle(LAST_WORDS).await;
        if drain { ShutdownSignal::GracefulTerminate } else { ShutdownSignal::FastShutdown }
    }
}

impl Watch {
    /// Waits until no request is being served, but not longer than this.
    async fn until_idle(&self, patience: Duration) {
        let idle = async {
            while self.gateway.metrics.requests.count_in_flight() > 0 {
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        let _ = tokio::time::timeout(patience, idle).await;
    }
}
