//! An exchange in HTTP/1 on a connection to an upstream: writes the request, reads the answer.
//!
//! Not here: what the bytes mean (`http1`), where the connection comes from (`connections`), how long anything may take but a write.
//! Invariant: a connection is reusable only when its answer is whole and nothing came behind it.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use pingora::protocols::Stream;
use pingora::{BError, Error, ErrorType, RetryType};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

use crate::api::rope::Rope;
use crate::http1::{Body, Head};

/// Most bytes of a request that are put together to go out in one packet.
pub(super) const PACKET: usize = 4096;
/// Most bytes that are read at a time without knowing that they come.
const AHEAD: usize = 16 * 1024;

/// An exchange.
pub(super) struct Line {
    stream: Stream,
    /// What came and was not read yet.
    buffer: BytesMut,
    head: Head,
    body: Body,
}

impl Line {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, buffer: BytesMut::new(), head: Head::default(), body: Body::default() }
    }

    /// Sends a request.
    ///
    /// Errors: `WriteError`, `WriteTimedout` where a piece is not taken in this time.
    pub(super) async fn write(&mut self, mut head: BytesMut, body: &Rope, patience: Duration) -> pingora::Result<()> {
        let together = head.len() + body.len() <= PACKET;
        if together {
            body.pieces().for_each(|piece| head.extend_from_slice(piece));
        }
        self.write_piece(&head, patience).await?;
        for piece in body.pieces().filter(|_| !together) {
            self.write_piece(piece, patience).await?;
        }
        let flushed = within(patience, self.stream.flush()).await.ok_or_else(slow)?;
        flushed.map_err(unwritten)
    }

    async fn write_piece(&mut self, piece: &[u8], patience: Duration) -> pingora::Result<()> {
        within(patience, self.stream.write_all(piece)).await.ok_or_else(slow)?.map_err(unwritten)
    }

    /// Reads the head of an answer, be it one that only informs.
    ///
    /// Errors: `ConnectionClosed`, `ReadError`, which on a connection that was used before may mean that the peer had closed it by then;
    /// `InvalidHTTPHeader`.
    pub(super) async fn read_head(&mut self) -> pingora::Result<()> {
        loop {
            let read = Head::read(&mut self.buffer);
            if let Some((head, body)) = read.map_err(|flaw| Error::explain(ErrorType::InvalidHTTPHeader, flaw))? {
                (self.head, self.body) = (head, body);
                return Ok(());
            }
            let came = read_some(&mut self.stream, &mut self.buffer).await;
            let closed = match came {
                Ok(0) => Error::explain(ErrorType::ConnectionClosed, "before the head of the answer was whole"),
                Ok(_) => continue,
                // What is no error of the system is one of TLS.
                Err(cause) if cause.raw_os_error().is_none() => return Err(unread(cause)),
                Err(cause) => unread(cause),
            };
            return Err(may_be_stale(closed));
        }
    }

    /// The head that was read last.
    pub(super) const fn head(&self) -> &Head {
        &self.head
    }

    /// The next piece of the body; `None` at its end. To drop this loses nothing.
    ///
    /// Errors: `ConnectionClosed`, `ReadError`.
    pub(super) async fn read(&mut self) -> pingora::Result<Option<Bytes>> {
        loop {
            let next = self.body.next(&mut self.buffer).map_err(|flaw| Error::explain(ErrorType::ReadError, flaw))?;
            if next.is_some() || self.body.is_whole() {
                return Ok(next);
            }
            if read_some(&mut self.stream, &mut self.buffer).await.map_err(unread)? == 0 {
                self.body.end().map_err(|flaw| Error::explain(ErrorType::ConnectionClosed, flaw))?;
            }
        }
    }

    /// Reads the next piece of the body behind these, into the room that there is; false at its end. To drop this loses nothing.
    ///
    /// Errors: as for `read`.
    pub(super) async fn read_into(&mut self, all: &mut BytesMut) -> pingora::Result<bool> {
        let left = self.body.left().unwrap_or_default();
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(all.capacity() - all.len());
        if room == 0 || !self.buffer.is_empty() {
            let piece = self.read().await?;
            piece.iter().for_each(|piece| all.extend_from_slice(piece));
            return Ok(piece.is_some());
        }
        let came = self.stream.read_buf(&mut (&mut *all).limit(room)).await.map_err(unread)?;
        if came == 0 {
            self.body.end().map_err(|flaw| Error::explain(ErrorType::ConnectionClosed, flaw))?;
        }
        self.body.came(came);
        Ok(true)
    }

    /// How many bytes of the body are to come, where that is known.
    pub(super) fn left(&self) -> Option<usize> {
        self.body.left().and_then(|left| usize::try_from(left).ok())
    }

    /// Whether another request may be sent on the connection.
    pub(super) fn is_reusable(&self) -> bool {
        self.body.keeps_connection() && self.buffer.is_empty()
    }

    /// The connection.
    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }

    /// Closes the connection.
    pub(super) async fn shutdown(&mut self) {
        // It is closed either way.
        let _ = self.stream.shutdown().await;
    }
}

/// Reads what has come, once anything has, behind what is there; how many bytes, none at the end. Takes only the room that they need.
/// To drop this loses nothing.
pub(super) async fn read_some(
    stream: &mut (impl AsyncRead + Unpin + ?Sized),
    buffer: &mut BytesMut,
) -> io::Result<usize> {
    std::future::poll_fn(|context| {
        let mut room = [MaybeUninit::uninit(); AHEAD];
        let mut into = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut *stream).poll_read(context, &mut into))?;
        buffer.extend_from_slice(into.filled());
        Poll::Ready(Ok(into.filled().len()))
    })
    .await
}

/// What comes of this within that time. The clock is looked at only where there is something to wait for.
pub(super) async fn within<T>(patience: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = future => Some(done),
        () = async { tokio::time::sleep(patience).await } => None,
    }
}

fn slow() -> BError {
    Error::explain(ErrorType::WriteTimedout, "the upstream does not take the request")
}

fn unwritten(cause: io::Error) -> BError {
    Error::because(ErrorType::WriteError, "while a request was written", cause)
}

fn unread(cause: io::Error) -> BError {
    Error::because(ErrorType::ReadError, "while an answer was read", cause)
}

/// Where the connection had been used before, the peer may have closed it before the request came.
fn may_be_stale(mut error: BError) -> BError {
    error.retry = RetryType::ReusedOnly;
    error
}
