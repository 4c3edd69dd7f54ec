//! The process around the gateway: Pingora's server, and what signals do.
//!
//! A signal to end drains. For `server.grace` everything is as before, but `/ready` is 503 and connections are not kept, so that
//! load balancers turn away. Then listeners are closed; what is still asked on open connections is served, and the process ends as
//! soon as nothing is under way, at the latest after `server.drain`: what runs then ends with an error that says why, and is
//! booked. A second signal ends it at once in that way. Nothing here waits longer than there is something to wait for.
//!
//! A process that was followed by another one (`takeover`) ends when its last request and its last connection have.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora::services::background::{BackgroundService, background_service};
use sd_notify::NotifyState;

use super::Gateway;
use super::life::{Phase, What};
use super::listeners::Listeners;
use crate::config::Config;
use crate::error::Result;
use crate::store::Keep;

/// How long a request that must end may take to say so.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long idle connections may take to close, and what was sent on them before to arrive.
const HANG_UP: Duration = Duration::from_millis(50);

/// What ends the process.
#[async_trait]
pub trait Signals: Send + Sync {
    /// Resolves when the process is to end; true means that running requests may finish first. Asked again while they do.
    async fn stop(&self) -> bool;
}

/// Serves on these sockets until a signal ends it. Blocks; the ledger is on disk when it returns.
///
/// Errors: the system has no room for more sockets.
pub fn serve(gateway: &Arc<Gateway>, listeners: &Arc<Listeners>, signals: impl Signals + 'static) -> Result<()> {
    gateway.life.starting();
    let config = gateway.config();
    let conf = ServerConf { threads: config.server.threads, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    for door in listeners.services(gateway, &server.configuration)? {
        server.add_service(door);
    }
    server.add_service(background_service("housekeeping", Housekeeping { gateway: Arc::clone(gateway) }));
    let watch = Watch {
        gateway: Arc::clone(gateway),
        listeners: Arc::clone(listeners),
        signals: Box::new(signals),
        grace: config.server.grace,
        patience: config.server.drain,
    };
    server.run(RunArgs { shutdown_signal: Box::new(watch) });
    gateway.lasting.meter.shutdown();
    gateway.lasting.telemetry.shutdown();
    Ok(())
}

/// Deletes what the request log no longer has to keep, once an hour, and forgets tenants that are gone, once a minute.
struct Housekeeping {
    gateway: Arc<Gateway>,
}

#[async_trait]
impl BackgroundService for Housekeeping {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut hour = tokio::time::interval(Duration::from_secs(3600));
        let mut minute = tokio::time::interval(Duration::from_secs(60));
        loop {
            tokio::select! {
                _ = hour.tick() => self.prune().await,
                _ = minute.tick() => self.gateway.forget_the_gone(),
                _ = shutdown.changed() => return,
            }
        }
    }
}

impl Housekeeping {
    async fn prune(&self) {
        if matches!(self.gateway.life.phase(), Phase::Replaced(_) | Phase::Parting) {
            return;
        }
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

/// Tells Pingora when to end: when nothing is left to do.
struct Watch {
    gateway: Arc<Gateway>,
    listeners: Arc<Listeners>,
    signals: Box<dyn Signals>,
    grace: Duration,
    patience: Duration,
}

#[async_trait]
impl ShutdownSignalWatch for Watch {
    async fn recv(&self) -> ShutdownSignal {
        let life = &*self.gateway.life;
        life.started();
        tell_supervisor(&[NotifyState::Ready]);
        tokio::select! {
            drain = self.signals.stop() => self.leave(drain).await,
            () = life.until_replaced() => tokio::select! {
                drain = self.signals.stop() => self.leave(drain).await,
                () = self.outlive() => {}
            }
        }
        // Nothing that matters is under way any more, and Pingora's own ways to end would make it wait.
        ShutdownSignal::FastShutdown
    }
}

impl Watch {
    /// Ends, after a drain if there is to be one.
    async fn leave(&self, drain: bool) {
        let life = &*self.gateway.life;
        tell_supervisor(&[NotifyState::Stopping]);
        if drain {
            tokio::select! {
                () = self.drain() => {}
                _ = self.signals.stop() => tracing::warn!("a second signal; what still runs is ended"),
            }
        }
        life.draining();
        self.close();
        let cut = life.counted(What::Requests);
        if cut > 0 {
            tracing::warn!(requests = cut, "ending what still runs");
        }
        // What still runs ends with an error that says why, and is booked.
        self.gateway.halt.send_replace(true);
        let _ = tokio::time::timeout(LAST_WORDS, life.none(What::Requests)).await;
    }

    /// Returns when nothing is under way any more, or patience ends.
    async fn drain(&self) {
        let life = &*self.gateway.life;
        // One that is being followed will know in a moment whether it is.
        let followed = matches!(life.decided().await, Phase::Replaced(_));
        let drains = !followed && life.draining();
        tracing::info!(requests = life.counted(What::Requests), "draining; a second signal ends it at once");
        if drains && !self.grace.is_zero() {
            tokio::time::sleep(self.grace).await;
        }
        self.close();
        let _ = tokio::time::timeout(self.patience, self.idle()).await;
    }

    /// Returns when no request is served, idle connections are closed and no other process has anything to book here.
    async fn idle(&self) {
        let life = &*self.gateway.life;
        loop {
            life.none(What::Requests).await;
            life.hang_up();
            let _ = tokio::time::timeout(HANG_UP, life.none(What::Connections)).await;
            if life.counted(What::Requests) == 0 {
                break;
            }
        }
        life.none(What::Predecessors).await;
    }

    /// Returns when this process, which was replaced, has nothing left to do: no request, and no connection on which one could
    /// come. A client that keeps an idle one longer than it is kept anyway has none on it.
    async fn outlive(&self) {
        let life = &*self.gateway.life;
        self.close();
        loop {
            life.none(What::Requests).await;
            let kept = self.gateway.config().server.max_keepalive;
            let closed = tokio::time::timeout(kept, life.none(What::Connections)).await.is_ok();
            if closed || life.counted(What::Requests) == 0 {
                break;
            }
        }
        life.hang_up();
        life.none(What::Predecessors).await;
    }

    fn close(&self) {
        self.gateway.life.close();
        self.listeners.close();
    }
}

/// Tells systemd, where it started this process.
pub(super) fn tell_supervisor(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!(%error, "systemd can't be told how this process stands");
    }
}
