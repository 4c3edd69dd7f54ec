//! Signals of the process: SIGTERM and SIGINT end it, SIGHUP reloads, SIGUSR2 upgrades.

use std::io;

use async_trait::async_trait;
use perpetuo::proxy::Signals;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Mutex;

/// The signals of this process.
pub(super) struct Process<R, U> {
    reload: R,
    upgrade: U,
    /// Watched from the first call on without a gap, so that no second signal gets lost.
    watched: Mutex<Option<Watched>>,
}

struct Watched {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    upgrade: Signal,
}

impl Watched {
    fn begin() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }
}

impl<R: Fn() + Send + Sync, U: Fn() + Send + Sync> Process<R, U> {
    /// With what SIGHUP and SIGUSR2 do.
    pub(super) const fn new(reload: R, upgrade: U) -> Self {
        Self { reload, upgrade, watched: Mutex::const_new(None) }
    }
}

#[async_trait]
impl<R: Fn() + Send + Sync, U: Fn() + Send + Sync> Signals for Process<R, U> {
    async fn stop(&self) -> bool {
        let mut watched = self.watched.lock().await;
        if watched.is_none() {
            *watched = Watched::begin()
                .inspect_err(|error| tracing::error!(%error, "signals can't be watched; end this process with SIGKILL"))
                .ok();
        }
        let Some(watched) = &mut *watched else { return std::future::pending().await };
        loop {
            tokio::select! {
                _ = watched.terminate.recv() => return true,
                _ = watched.interrupt.recv() => return true,
                _ = watched.hangup.recv() => (self.reload)(),
                _ = watched.upgrade.recv() => (self.upgrade)(),
            }
        }
    }
}
