//! What may stand at the door: how many connections there are, and how long a head may take.
//!
//! A connection that sends nothing, or a byte now and then, costs memory and a file for as long as it is suffered. Pingora bounds
//! the time of one read and not that of a head; here a head has one deadline. Beyond its caps a listener closes new connections
//! at once. Not here: requests and their bodies (`admit`), what a head must look like (`framing`).
//!
//! Invariant: what was let in is counted out when its [`Pass`] is dropped.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;

use super::{Gateway, Listener};
use crate::config::Limits;

tokio::task_local! {
    /// Whether the head that this task waits for is in.
    static HEAD_IS_IN: Arc<AtomicBool>;
}

/// Tells that the head of a request is in.
pub(super) fn head_is_in() {
    // An HTTP/2 stream has a task of its own, and no head that could be slow.
    let _ = HEAD_IS_IN.try_with(|flag| flag.store(true, Ordering::Relaxed));
}

/// Serves one request, if its head is in within this time; dropping `serving` closes the connection, and `late` is told.
async fn with_head_in<T>(
    patience: Duration,
    serving: impl Future<Output = Option<T>>,
    late: impl FnOnce(),
) -> Option<T> {
    let flag = Arc::new(AtomicBool::new(false));
    let serving = HEAD_IS_IN.scope(Arc::clone(&flag), serving);
    tokio::pin!(serving);
    tokio::select! {
        biased;
        served = &mut serving => return served,
        () = tokio::time::sleep(patience) => {}
    }
    if flag.load(Ordering::Relaxed) {
        return serving.await;
    }
    late();
    None
}

/// The proxy, with a deadline for each head of HTTP/1.
pub(super) struct HeadGuard {
    pub(super) proxy: Arc<HttpProxy<Listener>>,
    pub(super) gateway: Arc<Gateway>,
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
        with_head_in(patience, self.proxy.process_new_http(session, shutdown), late).await
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

/// The connections of one listener.
#[derive(Default)]
pub(super) struct Crowd {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One connection that was let in.
pub(super) struct Pass {
    crowd: Arc<Crowd>,
    address: Option<IpAddr>,
}

impl Crowd {
    /// Lets one more connection in, if there is room for it and for its address.
    pub(super) fn enter(self: &Arc<Self>, address: Option<IpAddr>, limits: &Limits) -> Option<Pass> {
        let mut open = self.open();
        let own = address.and_then(|address| open.by_address.get(&address).copied()).unwrap_or(0);
        if open.all >= limits.max_connections || own >= limits.max_connections_per_address {
            return None;
        }
        open.all += 1;
        if let Some(address) = address {
            *open.by_address.entry(address).or_default() += 1;
        }
        Some(Pass { crowd: Arc::clone(self), address })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut open = self.crowd.open();
        open.all = open.all.saturating_sub(1);
        let Some(address) = self.address else { return };
        if let Entry::Occupied(mut own) = open.by_address.entry(address) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn who_leaves_makes_room_for_all_and_for_its_address() {
        let limits = Limits { max_connections: 3, max_connections_per_address: 2, ..Config::default().limits };
        let crowd = Arc::new(Crowd::default());
        let [one, other] = [1, 2].map(|last| Some(IpAddr::from([192, 0, 2, last])));
        let first = crowd.enter(one, &limits);
        let second = crowd.enter(one, &limits);
        assert!(first.is_some() && second.is_some());
        assert!(crowd.enter(one, &limits).is_none(), "its address has its share");
        let third = crowd.enter(other, &limits);
        assert!(third.is_some());
        assert!(crowd.enter(other, &limits).is_none(), "all are in");
        drop((first, second, third));
        assert!(crowd.open().by_address.is_empty());
        assert!(crowd.enter(one, &limits).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_head_is_waited_for_with_a_limit() {
        let patience = Duration::from_secs(1);
        let late = AtomicBool::new(false);
        let tell = || late.store(true, Ordering::Relaxed);
        let prompt = async {
            head_is_in();
            tokio::time::sleep(Duration::from_secs(60)).await;
            Some(7)
        };
        assert_eq!(with_head_in(patience, prompt, tell).await, Some(7));
        assert!(!late.load(Ordering::Relaxed));
        assert_eq!(with_head_in(patience, std::future::pending::<Option<u8>>(), tell).await, None);
        assert!(late.load(Ordering::Relaxed));
    }
}
