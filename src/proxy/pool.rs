//! Idle connections to upstreams that are spoken to in HTTP/1.
//!
//! Pingora's own pool has a task for each of them; here one looks after all. Not here: how they are made, and those of HTTP/2
//! (`connections`).
//!
//! Invariants: an idle connection on which anything has come, its end included, is never given out again; nothing that is idle is
//! kept for longer than [`IDLE`].

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use pingora::protocols::Stream;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::task::unconstrained;

use super::connections::Peer;

/// How long a connection may be idle.
const IDLE: Duration = Duration::from_secs(90);
/// How many may be.
const MOST: usize = 1024;
/// How often those that ended are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The idle connections, by where they lead.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// The last one that was used comes last.
    by_peer: HashMap<Peer, Vec<(Stream, Instant)>>,
    count: usize,
    /// Whether a task looks for those that ended; there is none while nothing is idle.
    swept: bool,
}

impl Pool {
    /// An idle connection that is still open.
    pub(super) fn take(&self, peer: &Peer) -> Option<Stream> {
        let mut idle = self.idle();
        loop {
            let (mut stream, _) = idle.by_peer.get_mut(peer)?.pop()?;
            idle.count -= 1;
            if is_quiet(&mut stream) {
                return Some(stream);
            }
        }
    }

    /// Keeps a connection whose last answer was read to its end.
    pub(super) fn put(self: &Arc<Self>, peer: &Peer, mut stream: Stream, now: Instant) {
        let mut idle = self.idle();
        if idle.count >= MOST || !is_quiet(&mut stream) {
            return;
        }
        idle.count += 1;
        match idle.by_peer.get_mut(peer) {
            Some(streams) => streams.push((stream, now)),
            None => drop(idle.by_peer.insert(peer.clone(), vec![(stream, now)])),
        }
        if !std::mem::replace(&mut idle.swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes what has ended or was idle for too long; false when nothing is left.
    fn shed(&self, now: Instant) -> bool {
        let mut idle = self.idle();
        for streams in idle.by_peer.values_mut() {
            streams.retain_mut(|(stream, since)| now.saturating_duration_since(*since) < IDLE && is_quiet(stream));
        }
        idle.by_peer.retain(|_, streams| !streams.is_empty());
        idle.count = idle.by_peer.values().map(Vec::len).sum();
        idle.swept = idle.count > 0;
        idle.swept
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether nothing has come, not even the end.
fn is_quiet(stream: &mut Stream) -> bool {
    // It must be asked, however much this task has read already.
    let mut look = pin!(unconstrained(std::future::poll_fn(|context| {
        Pin::new(&mut *stream).poll_read(context, &mut ReadBuf::new(&mut [0]))
    })));
    look.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

/// Sheds until nothing is left.
async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        if !pool.upgrade().is_some_and(|pool| pool.shed(Instant::now())) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use pingora::protocols::UniqueID;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::socket::Socket;
    use super::super::socket::tests::{heard, pair};
    use super::*;

    #[tokio::test]
    async fn what_was_used_last_is_used_next_and_what_ended_never_again() {
        let pool = Arc::new(Pool::default());
        let (first, _theirs, address) = pair().await;
        let (second, their_second, _) = pair().await;
        let (third, mut their_third, _) = pair().await;
        let (peer, id) = (Peer { address, tls: None, http2: None }, first.id());
        for socket in [first, second, third] {
            pool.put(&peer, socket, Instant::now());
        }
        drop(their_second);
        their_third.write_all(b"unasked").await.unwrap();
        for place in 1..3 {
            let stream = pool.idle().by_peer.get_mut(&peer).unwrap().remove(1).0;
            heard(stream.as_any().downcast_ref::<Socket>().unwrap()).await;
            pool.idle().by_peer.get_mut(&peer).unwrap().insert(place, (stream, Instant::now()));
        }
        let named = Peer { tls: Some("name".to_owned()), ..peer.clone() };
        assert!(pool.take(&named).is_none(), "it leads to another one");
        assert_eq!(pool.take(&peer).unwrap().id(), id);
        assert!(pool.take(&peer).is_none());
    }

    #[tokio::test]
    async fn what_is_idle_for_too_long_is_closed() {
        let pool = Arc::new(Pool::default());
        let (socket, mut theirs, address) = pair().await;
        let now = Instant::now();
        pool.put(&Peer { address, tls: None, http2: None }, socket, now);
        assert!(pool.shed(now + IDLE / 2));
        assert!(!pool.shed(now + IDLE), "nothing is left");
        assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
    }
}
