//! Signals of the process: SIGTERM, SIGINT and SIGHUP.

use async_trait::async_trait;
use perpetuo::proxy::Signals;
use tokio::signal::unix::{SignalKind, signal};

/// The signals of this process.
pub(super) struct Process<F> {
    reload: F,
}

impl<F: Fn() + Send + Sync> Process<F> {
    /// With what SIGHUP does.
    pub(super) const fn new(reload: F) -> Self {
        Self { reload }
    }
}

#[async_trait]
impl<F: Fn() + Send + Sync> Signals for Process<F> {
    async fn stop(&self) -> bool {
        let streams = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()));
        let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = streams else {
            tracing::error!("signals can't be watched; end this process with SIGKILL");
            return std::future::pending().await;
        };
        loop {
            tokio::select! {
                _ = terminate.recv() => return true,
                _ = interrupt.recv() => return false,
                _ = hangup.recv() => (self.reload)(),
            }
        }
    }
}
