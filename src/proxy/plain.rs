//! Connections to upstreams that are spoken to in HTTP/1 without TLS: one's own vLLM or Ollama, a proxy that ends TLS.
//!
//! Pingora's own pool has a task for each idle connection, and its stream a packet for each head and 64 KB to read into; none of it
//! is needed where nothing is encrypted or negotiated. HTTP itself stays Pingora's. Not here: connections that TLS or HTTP/2 may
//! be spoken on (`connections`).
//!
//! Invariants: an idle connection on which anything has come, its end included, is never given out again; nothing that is idle is
//! kept for longer than [`IDLE`].

use std::collections::HashMap;
use std::io::{self, ErrorKind as Io, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use pingora::{Error, ErrorType};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

/// How long a connection may be idle.
const IDLE: Duration = Duration::from_secs(90);
/// How many may be.
const MOST: usize = 1024;
/// How often those that ended are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The idle connections, by address.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// The last one that was used comes last.
    by_address: HashMap<SocketAddr, Vec<(Box<Plain>, Instant)>>,
    count: usize,
    /// Whether a task looks for those that ended; there is none while nothing is idle.
    swept: bool,
}

impl Pool {
    /// An idle connection that is still open.
    pub(super) fn take(&self, address: SocketAddr) -> Option<Box<Plain>> {
        let mut idle = self.idle();
        loop {
            let (plain, _) = idle.by_address.get_mut(&address)?.pop()?;
            idle.count -= 1;
            if plain.is_quiet() {
                return Some(plain);
            }
        }
    }

    /// Keeps a connection whose last answer was read to its end.
    pub(super) fn put(self: &Arc<Self>, address: SocketAddr, plain: Box<Plain>, now: Instant) {
        let mut idle = self.idle();
        if idle.count >= MOST || !plain.is_quiet() {
            return;
        }
        idle.count += 1;
        idle.by_address.entry(address).or_default().push((plain, now));
        if !std::mem::replace(&mut idle.swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes what has ended or was idle for too long; false when nothing is left.
    fn shed(&self, now: Instant) -> bool {
        let mut idle = self.idle();
        for plains in idle.by_address.values_mut() {
            plains.retain(|(plain, since)| now.saturating_duration_since(*since) < IDLE && plain.is_quiet());
        }
        idle.by_address.retain(|_, plains| !plains.is_empty());
        idle.count = idle.by_address.values().map(Vec::len).sum();
        idle.swept = idle.count > 0;
        idle.swept
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

/// A connection.
#[derive(Debug)]
pub(super) struct Plain {
    stream: TcpStream,
    /// What was written and is still here: a head that waits for its body.
    held: BytesMut,
    /// Until the next flush, what is written is held.
    holds: bool,
}

impl Plain {
    /// Connects.
    ///
    /// Errors: `ConnectTimedout`, `ConnectRefused`, `ConnectError`.
    pub(super) async fn connect(address: SocketAddr, patience: Duration) -> pingora::Result<Box<Self>> {
        let failed = |kind, cause: io::Error| Error::because(kind, format!("connecting to {address}"), cause);
        let connected = tokio::time::timeout(patience, TcpStream::connect(address)).await;
        let stream = connected.map_err(|late| failed(ErrorType::ConnectTimedout, late.into()))?;
        let stream = stream.map_err(|cause| match cause.kind() {
            Io::ConnectionRefused => failed(ErrorType::ConnectRefused, cause),
            _ => failed(ErrorType::ConnectError, cause),
        })?;
        stream.set_nodelay(true).map_err(|cause| failed(ErrorType::ConnectError, cause))?;
        Ok(Box::new(Self { stream, held: BytesMut::new(), holds: false }))
    }

    /// Lets the head that is written next go out with the body behind it, in one packet if they fit into one. There must be a body.
    pub(super) fn hold_head(&mut self) {
        self.holds = true;
    }

    /// Whether nothing has come, not even the end.
    fn is_quiet(&self) -> bool {
        matches!(self.stream.try_read(&mut [0]), Err(cause) if cause.kind() == Io::WouldBlock)
    }

    /// Writes what is held and then this; gives how many bytes of this were written, once any were.
    fn write_behind(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        while !self.held.is_empty() {
            let both = [IoSlice::new(&self.held), IoSlice::new(bytes)];
            let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, &both))?;
            if written == 0 {
                return Poll::Ready(Err(Io::WriteZero.into()));
            }
            let of_held = written.min(self.held.len());
            self.held.advance(of_held);
            if written > of_held {
                return Poll::Ready(Ok(written - of_held));
            }
        }
        Poll::Ready(Ok(0))
    }
}

impl AsyncRead for Plain {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.holds {
            self.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        match ready!(self.write_behind(context, bytes))? {
            0 => Pin::new(&mut self.stream).poll_write(context, bytes),
            written => Poll::Ready(Ok(written)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.holds) {
            return Poll::Ready(Ok(()));
        }
        ready!(self.write_behind(context, &[]))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[async_trait]
impl Shutdown for Plain {
    async fn shutdown(&mut self) {
        // It is closed either way.
        let _ = AsyncWriteExt::shutdown(&mut self.stream).await;
    }
}

impl UniqueID for Plain {
    fn id(&self) -> UniqueIDType {
        self.stream.as_raw_fd()
    }
}

impl Ssl for Plain {}

impl GetTimingDigest for Plain {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Plain {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Plain {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl Peek for Plain {}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn pair() -> (Box<Plain>, TcpStream, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(Plain::connect(address, PATIENCE), listener.accept());
        (ours.unwrap(), theirs.unwrap().0, address)
    }

    /// Resolves when something has come.
    async fn heard(plain: &Plain) {
        plain.stream.readable().await.unwrap();
    }

    #[tokio::test]
    async fn a_head_goes_out_with_its_body_and_not_before() {
        let (mut ours, mut theirs, _) = pair().await;
        ours.hold_head();
        ours.write_all(b"head ").await.unwrap();
        ours.flush().await.unwrap();
        assert_eq!(ours.held, &b"head "[..], "it left without its body");
        ours.write_all(b"body").await.unwrap();
        ours.flush().await.unwrap();
        let mut packet = [0; 64];
        let came = theirs.read(&mut packet).await.unwrap();
        assert_eq!(&packet[..came], b"head body", "they did not come together");
        ours.write_all(b"more").await.unwrap();
        theirs.read_exact(&mut packet[..4]).await.unwrap();
    }

    #[tokio::test]
    async fn a_body_that_the_socket_takes_in_pieces_comes_whole() {
        let (mut ours, mut theirs, _) = pair().await;
        let body: Vec<u8> = (0..8_000_000_u32).map(|number| number as u8).collect();
        let write = async {
            ours.hold_head();
            ours.write_all(b"head").await.unwrap();
            ours.flush().await.unwrap();
            ours.write_all(&body).await.unwrap();
            ours.flush().await.unwrap();
            Shutdown::shutdown(&mut *ours).await;
        };
        let mut came = Vec::new();
        let (_, read) = tokio::join!(write, theirs.read_to_end(&mut came));
        assert_eq!(read.unwrap(), body.len() + 4);
        assert!(came.starts_with(b"head") && came[4..] == body);
    }

    #[tokio::test]
    async fn what_was_used_last_is_used_next_and_what_ended_never_again() {
        let pool = Arc::new(Pool::default());
        let (first, _theirs, address) = pair().await;
        let (second, their_second, _) = pair().await;
        let (third, mut their_third, _) = pair().await;
        let id = first.id();
        for plain in [first, second, third] {
            pool.put(address, plain, Instant::now());
        }
        drop(their_second);
        their_third.write_all(b"unasked").await.unwrap();
        for place in 1..3 {
            let plain = pool.idle().by_address.get_mut(&address).unwrap().remove(1).0;
            heard(&plain).await;
            pool.idle().by_address.get_mut(&address).unwrap().insert(place, (plain, Instant::now()));
        }
        assert_eq!(pool.take(address).unwrap().id(), id);
        assert!(pool.take(address).is_none());
    }

    #[tokio::test]
    async fn what_is_idle_for_too_long_is_closed() {
        let pool = Arc::new(Pool::default());
        let (plain, mut theirs, address) = pair().await;
        let now = Instant::now();
        pool.put(address, plain, now);
        assert!(pool.shed(now + IDLE / 2));
        assert!(!pool.shed(now + IDLE), "nothing is left");
        assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn who_does_not_listen_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let refused = Plain::connect(address, PATIENCE).await.unwrap_err();
        assert_eq!(refused.etype, ErrorType::ConnectRefused);
        assert!(refused.to_string().contains(&address.to_string()));
    }
}
