//! Where the process stands between its start and its end, and what of it is still under way.
//!
//! Not here: what makes it go from one to the next (`server`, `takeover`). Invariant: a phase is left by one of the transitions
//! below, each of which checks where it comes from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::{Notify, watch};

use super::Planes;
use crate::handover::wire::Addresses;

/// Where the process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing is accepted yet.
    Starting,
    /// It serves.
    Serving,
    /// It serves what has begun, and what still comes, and will end.
    Draining,
    /// Another process is about to follow. It serves; its store is closed.
    Parting,
    /// Another process follows, at these addresses. What has begun is served; what still comes is passed on.
    Replaced(Addresses),
}

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// Requests, from their head to the end of their answer.
    Requests,
    /// Requests of the admin API.
    Admin,
    /// Connections of clients.
    Connections,
    /// Processes before this one, which may still have something to book.
    Predecessors,
}

/// The life of a process.
pub(super) struct Life {
    phase: watch::Sender<Phase>,
    /// The same as `phase` for the request path: connections are not kept.
    leaving: AtomicBool,
    /// Listeners are closed, and connections after their next answer.
    closing: watch::Sender<bool>,
    /// Idle connections are closed.
    hanging_up: watch::Sender<bool>,
    counts: [AtomicUsize; 4],
    /// A count came to zero.
    over: Notify,
}

impl Default for Life {
    /// Serving: a gateway that is a part of another program has no start and no end of its own.
    fn default() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Serving),
            leaving: AtomicBool::new(false),
            closing: watch::Sender::new(false),
            hanging_up: watch::Sender::new(false),
            counts: Default::default(),
            over: Notify::new(),
        }
    }
}

impl Life {
    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Whether connections are no longer kept for another request.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    pub(super) fn starting(&self) {
        self.go(&[Phase::Serving], Phase::Starting);
    }

    pub(super) fn started(&self) {
        self.go(&[Phase::Starting], Phase::Serving);
    }

    /// The other process does not follow.
    pub(super) fn staying(&self) {
        self.go(&[Phase::Parting], Phase::Serving);
    }

    /// False when another process is about to follow or does, or this one drains already.
    pub(super) fn draining(&self) -> bool {
        let begun = self.go(&[Phase::Starting, Phase::Serving], Phase::Draining);
        self.leaving.fetch_or(begun, Ordering::Relaxed);
        begun
    }

    /// False when this is not the moment for it.
    pub(super) fn parting(&self) -> bool {
        self.go(&[Phase::Serving], Phase::Parting)
    }

    pub(super) fn replaced(&self, by: Addresses) {
        if self.go(&[Phase::Parting], Phase::Replaced(by)) {
            self.leaving.store(true, Ordering::Relaxed);
        }
    }

    fn go(&self, from: &[Phase], to: Phase) -> bool {
        self.phase.send_if_modified(|phase| {
            let may = from.contains(phase);
            if may {
                *phase = to;
            }
            may
        })
    }

    /// The phase, once it is none that lasts but a moment.
    pub(super) async fn decided(&self) -> Phase {
        self.reached(|phase| *phase != Phase::Parting).await
    }

    /// Resolves when another process serves.
    pub(super) async fn until_replaced(&self) {
        self.reached(|phase| matches!(phase, Phase::Replaced(_))).await;
    }

    async fn reached(&self, wanted: impl FnMut(&Phase) -> bool) -> Phase {
        let reached = self.phase.subscribe().wait_for(wanted).await.map(|phase| *phase);
        match reached {
            Ok(phase) => phase,
            // Not while `self` is there, which holds the sender.
            Err(_) => std::future::pending().await,
        }
    }

    /// Where what these planes serve is served now, if not here.
    pub(super) fn successor(&self, planes: Planes) -> Option<SocketAddr> {
        let Phase::Replaced(addresses) = self.phase() else { return None };
        let address = match planes {
            Planes { data: true, .. } => Some(addresses.data),
            Planes { admin: true, .. } => Some(addresses.admin),
            _ => addresses.metrics,
        };
        address.map(reachable)
    }

    /// Whether listeners are to be closed, for Pingora.
    pub(super) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    /// Closes the listeners, and connections after their next answer.
    pub(super) fn close(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        self.closing.send_replace(true);
    }

    /// Closes idle connections.
    pub(super) fn hang_up(&self) {
        self.hanging_up.send_replace(true);
    }

    /// Resolves when idle connections are to be closed.
    pub(super) async fn hung_up(&self) {
        // An error means that the gateway is gone.
        let _ = self.hanging_up.subscribe().wait_for(|hung| *hung).await.map(|hung| *hung);
    }

    /// Counts one more, until what is returned is dropped.
    pub(super) fn count(self: &Arc<Self>, what: What) -> Counted {
        self.of(what).fetch_add(1, Ordering::AcqRel);
        Counted { life: Arc::clone(self), what }
    }

    pub(super) fn counted(&self, what: What) -> usize {
        self.of(what).load(Ordering::Acquire)
    }

    /// Resolves when none of these is left.
    pub(super) async fn none(&self, what: What) {
        loop {
            let mut over = std::pin::pin!(self.over.notified());
            over.as_mut().enable();
            if self.counted(what) == 0 {
                return;
            }
            over.await;
        }
    }

    const fn of(&self, what: What) -> &AtomicUsize {
        let [requests, admin, connections, predecessors] = &self.counts;
        match what {
            What::Requests => requests,
            What::Admin => admin,
            What::Connections => connections,
            What::Predecessors => predecessors,
        }
    }
}

/// One of what is counted.
pub struct Counted {
    life: Arc<Life>,
    what: What,
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.life.of(self.what).fetch_sub(1, Ordering::AcqRel) == 1 {
            self.life.over.notify_waiters();
        }
    }
}

/// The address to connect to for one that is listened on.
pub(super) const fn reachable(listened: SocketAddr) -> SocketAddr {
    let ip = match listened.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listened.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Addresses {
        let at = |port| SocketAddr::from(([0, 0, 0, 0], port));
        Addresses { data: at(3000), admin: at(3001), metrics: None }
    }

    #[test]
    fn nobody_follows_a_process_that_drains_and_nobody_drains_one_that_is_being_followed() {
        let life = Life::default();
        life.starting();
        assert!(!life.parting(), "it has not even started");
        life.started();
        assert!(life.parting() && !life.parting() && !life.draining());
        life.staying();
        assert!(life.draining() && life.is_leaving() && !life.parting());
        life.replaced(addresses());
        assert_eq!(life.phase(), Phase::Draining);
    }

    #[test]
    fn each_plane_is_passed_on_to_an_address_that_can_be_reached() {
        let life = Life::default();
        let data = Planes { data: true, admin: true, ..Planes::default() };
        assert_eq!(life.successor(data), None);
        assert!(life.parting());
        life.replaced(addresses());
        assert_eq!(life.successor(data).unwrap().to_string(), "127.0.0.1:3000");
        let admin = Planes { admin: true, ..Planes::default() };
        assert_eq!(life.successor(admin).unwrap().to_string(), "127.0.0.1:3001");
        assert_eq!(life.successor(Planes { metrics: true, ..Planes::default() }), None);
    }

    #[tokio::test]
    async fn none_waits_for_the_last_of_its_kind() {
        let life = Arc::new(Life::default());
        let [one, other, foreign] = [What::Requests, What::Requests, What::Connections].map(|what| life.count(what));
        let mut none = std::pin::pin!(life.none(What::Requests));
        drop(one);
        assert!(futures_are_pending(none.as_mut()).await);
        drop(other);
        none.await;
        drop(foreign);
    }

    async fn futures_are_pending(future: std::pin::Pin<&mut impl Future>) -> bool {
        tokio::time::timeout(std::time::Duration::ZERO, future).await.is_err()
    }
}
