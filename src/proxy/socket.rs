//! A TCP connection without TLS, to a client or to an upstream, as a stream that Pingora's HTTP runs on.
//!
//! Pingora's own stream has a buffer for as long as it lasts. This one has room only for what is there: bytes that came before
//! anybody asked for them, and bytes that are to go out with the next ones in one packet. Not here: who is spoken to (`clients`,
//! `connections`), HTTP itself.
//!
//! Invariants: what was read ahead is read first; what was written is on its way after a flush.

use std::io::{self, ErrorKind as Io, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

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

use super::line::read_some;

/// Most bytes that wait for others. What is larger goes out by itself.
const HELD: usize = 4096;

/// A connection.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    /// What came and was not asked for yet.
    ahead: BytesMut,
    /// What was written and is still here.
    held: BytesMut,
    /// Who is at the other end, where somebody may ask.
    digest: Option<Arc<SocketDigest>>,
}

impl Socket {
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
        Self::new(stream, None).map_err(|cause| failed(ErrorType::ConnectError, cause))
    }

    /// One that was accepted.
    pub(super) fn accepted(stream: TcpStream, from: SocketAddr) -> io::Result<Box<Self>> {
        let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
        // It has none yet, so it takes this one.
        let _ = digest.peer_addr.set(Some(from.into()));
        Self::new(stream, Some(Arc::new(digest)))
    }

    fn new(stream: TcpStream, digest: Option<Arc<SocketDigest>>) -> io::Result<Box<Self>> {
        stream.set_nodelay(true)?;
        Ok(Box::new(Self { stream, ahead: BytesMut::new(), held: BytesMut::new(), digest }))
    }

    /// Reads ahead what has come, once anything has. Gives how many bytes that is: none at the end. To drop it loses nothing.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        read_some(&mut self.stream, &mut self.ahead).await
    }

    /// What was read ahead.
    pub(super) fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Takes so many bytes of that, if there are.
    pub(super) fn take_ahead(&mut self, most: usize) -> BytesMut {
        // What is taken whole is let go, and not held for as long as the connection waits.
        if most >= self.ahead.len() { std::mem::take(&mut self.ahead) } else { self.ahead.split_to(most) }
    }

    /// The same, for who takes bytes off its front.
    pub(super) fn ahead_mut(&mut self) -> &mut BytesMut {
        &mut self.ahead
    }

    /// What goes out with what is written next; to be written to.
    pub(super) fn held(&mut self) -> &mut BytesMut {
        &mut self.held
    }

    /// Writes what is held and then this; gives how many bytes of this were written, once any were.
    fn write_behind(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        while !self.held.is_empty() {
            let Self { stream, held, .. } = self;
            let written = ready!(match bytes {
                [] => Pin::new(stream).poll_write(context, held),
                bytes => Pin::new(stream).poll_write_vectored(context, &[IoSlice::new(held), IoSlice::new(bytes)]),
            })?;
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

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let length = self.ahead.len().min(into.remaining());
        into.put_slice(&self.ahead.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.held.len() + bytes.len() <= HELD {
            self.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        match ready!(self.write_behind(context, bytes))? {
            0 => Pin::new(&mut self.stream).poll_write(context, bytes),
            written => Poll::Ready(Ok(written)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.write_behind(context, &[]))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[async_trait]
impl Shutdown for Socket {
    async fn shutdown(&mut self) {
        // It is closed either way.
        let _ = AsyncWriteExt::shutdown(&mut self.stream).await;
    }
}

#[async_trait]
impl Peek for Socket {
    async fn try_peek(&mut self, into: &mut [u8]) -> io::Result<bool> {
        while self.ahead.len() < into.len() {
            if self.fill().await? == 0 {
                return Err(Io::UnexpectedEof.into());
            }
        }
        self.ahead.clone().copy_to_slice(into);
        Ok(true)
    }
}

impl UniqueID for Socket {
    fn id(&self) -> UniqueIDType {
        self.stream.as_raw_fd()
    }
}

impl GetSocketDigest for Socket {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.digest.clone()
    }
}

impl GetTimingDigest for Socket {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Socket {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl Ssl for Socket {}

#[cfg(test)]
pub(super) mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    pub(in super::super) async fn pair() -> (Box<Socket>, TcpStream, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(Socket::connect(address, PATIENCE), listener.accept());
        (ours.unwrap(), theirs.unwrap().0, address)
    }

    /// Resolves when something has come.
    pub(in super::super) async fn heard(socket: &Socket) {
        socket.stream.readable().await.unwrap();
    }

    #[tokio::test]
    async fn what_was_read_ahead_is_read_first() {
        let (mut ours, mut theirs, _) = pair().await;
        theirs.write_all(b"first, second").await.unwrap();
        while ours.ahead().len() < 13 {
            assert!(ours.fill().await.unwrap() > 0);
        }
        let mut seen = [0; 5];
        assert!(ours.try_peek(&mut seen).await.unwrap());
        assert_eq!(&seen, b"first", "a look takes nothing");
        assert_eq!(ours.take_ahead(7), &b"first, "[..]);
        theirs.write_all(b", third").await.unwrap();
        drop(theirs);
        let mut all = String::new();
        ours.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "second, third");
    }

    #[tokio::test]
    async fn a_head_goes_out_with_its_body_and_not_before() {
        let (mut ours, mut theirs, _) = pair().await;
        ours.write_all(b"head ").await.unwrap();
        assert_eq!(ours.held, &b"head "[..], "it left without its body");
        ours.write_all(b"body").await.unwrap();
        ours.flush().await.unwrap();
        let mut packet = [0; 64];
        let came = theirs.read(&mut packet).await.unwrap();
        assert_eq!(&packet[..came], b"head body", "they did not come together");
    }

    #[tokio::test]
    async fn a_body_that_the_socket_takes_in_pieces_comes_whole() {
        let (mut ours, mut theirs, _) = pair().await;
        let body: Vec<u8> = (0..8_000_000_u32).map(|number| number as u8).collect();
        let write = async {
            ours.write_all(b"head").await.unwrap();
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
    async fn who_does_not_listen_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let refused = Socket::connect(address, PATIENCE).await.unwrap_err();
        assert_eq!(refused.etype, ErrorType::ConnectRefused);
        assert!(refused.to_string().contains(&address.to_string()));
    }
}
