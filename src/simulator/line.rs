//! Connections: numbered, and each can be cut off, by a script or because the simulator stops.
//!
//! Not here: HTTP. axum serves what this listener accepts.
//! Invariant: a line that was cut fails every later read and write, so hyper drops it without another byte.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, watch};

/// What is done to a connection's transport when it opens and just before it is cut.
pub(super) struct Hooks<Io> {
    pub(super) opened: fn(&mut Io),
    pub(super) cut: fn(&mut Io),
}

/// A handler's hold on the connection its request came by.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) number: u64,
    cut: Arc<Notify>,
}

impl Link {
    /// Drops the connection at its next read or write.
    pub(super) fn cut(&self) {
        self.cut.notify_one();
    }
}

/// A listener whose connections are [`Line`]s.
pub(super) struct Lines<L: Listener> {
    listener: L,
    hooks: Hooks<L::Io>,
    stopped: watch::Receiver<bool>,
    accepted: Arc<AtomicU64>,
}

impl<L: Listener> Lines<L> {
    /// `accepted` counts the connections, for others to read.
    pub(super) const fn new(
        listener: L,
        hooks: Hooks<L::Io>,
        stopped: watch::Receiver<bool>,
        accepted: Arc<AtomicU64>,
    ) -> Self {
        Self { listener, hooks, stopped, accepted }
    }
}

impl<L: Listener<Addr = SocketAddr>> Listener for Lines<L> {
    type Io = Line<L::Io>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (mut io, peer) = self.listener.accept().await;
        (self.hooks.opened)(&mut io);
        let number = self.accepted.fetch_add(1, Ordering::Relaxed) + 1;
        let link = Link { number, cut: Arc::new(Notify::new()) };
        let ended = Box::pin(ended(Arc::clone(&link.cut), self.stopped.clone()));
        (Line { io, link, ended, on_cut: self.hooks.cut, dead: false }, peer)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

impl<L: Listener<Addr = SocketAddr>> Connected<IncomingStream<'_, Lines<L>>> for Link {
    fn connect_info(stream: IncomingStream<'_, Lines<L>>) -> Self {
        stream.io().link.clone()
    }
}

/// Ready when the line is cut or the simulator stops.
async fn ended(cut: Arc<Notify>, mut stopped: watch::Receiver<bool>) {
    tokio::select! {
        () = cut.notified() => {}
        // An error means that the simulator is gone, which is the same.
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
}

/// One accepted connection.
pub(super) struct Line<Io> {
    io: Io,
    link: Link,
    ended: Pin<Box<dyn Future<Output = ()> + Send>>,
    on_cut: fn(&mut Io),
    dead: bool,
}

impl<Io> Line<Io> {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if !self.dead && self.ended.as_mut().poll(context).is_ready() {
            self.dead = true;
            (self.on_cut)(&mut self.io);
        }
        if self.dead { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Line<Io> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(context)?;
        Pin::new(&mut this.io).poll_read(context, buf)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Line<Io> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(context)?;
        Pin::new(&mut this.io).poll_write(context, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(context)?;
        Pin::new(&mut this.io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(context)?;
        Pin::new(&mut this.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(context)?;
        Pin::new(&mut this.io).poll_write_vectored(context, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
