//! A usual request on its connection: its body is read and its answer written without a session of Pingora's.
//!
//! Not here: which request is usual (`http1`), what comes before and after it (`clients`), what is answered. Invariants: of a body
//! no more is taken than its length; what comes behind it is left for the next request; an answer in pieces is whole only once its
//! last chunk is written.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderValue, header};
use pingora::protocols::http::date::get_cached_date;
use pingora::{BError, Error, ErrorType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::line::within;
use super::respond::Head;
use super::socket::Socket;
use crate::http1::{self, Request};

/// Most bytes of a body that are copied to go out with what stands before them.
const COPIED: usize = 4096;

/// A request.
pub(super) struct Direct {
    socket: Box<Socket>,
    head: Parts,
    /// Bytes of the body that were not read yet.
    left: usize,
    /// Whether the connection has served before, and whether it will again.
    pub(super) kept: bool,
    keeps: bool,
    /// Whether the answer comes in chunks.
    chunked: bool,
    /// How long the client may take to take a piece.
    patience: Duration,
    /// The client has left.
    gone: bool,
    /// Bytes of the body, and of the answer's.
    pub(super) came: usize,
    pub(super) sent: usize,
}

impl Direct {
    pub(super) fn new(socket: Box<Socket>, request: Request, kept: bool) -> Self {
        let Request { head, length, keeps } = request;
        let (patience, left) = (Duration::MAX, length);
        Self { socket, head, left, kept, keeps, chunked: false, patience, gone: false, came: 0, sent: 0 }
    }

    pub(super) const fn head(&self) -> &Parts {
        &self.head
    }

    pub(super) const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// What holds until the answer is written.
    pub(super) fn begin(&mut self, keeps: bool, patience: Duration) {
        self.keeps &= keeps;
        self.patience = patience;
    }

    /// Closes the connection behind the answer.
    pub(super) fn close(&mut self) {
        self.keeps = false;
    }

    /// The next piece of the body; `None` at its end. To drop this loses nothing.
    ///
    /// Errors: `ConnectionClosed`, `ReadError`.
    pub(super) async fn read(&mut self) -> Result<Option<Bytes>, BError> {
        if self.left == 0 {
            return Ok(None);
        }
        if self.socket.ahead().is_empty() && self.socket.fill().await.map_err(unread)? == 0 {
            return Err(closed());
        }
        let piece = self.socket.take_ahead(self.left);
        self.count(piece.len());
        Ok(Some(piece.freeze()))
    }

    /// Reads the next piece of the body behind these, into the room that there is; false at its end. To drop this loses nothing.
    ///
    /// Errors: as for `read`.
    pub(super) async fn read_into(&mut self, all: &mut BytesMut) -> Result<bool, BError> {
        let room = self.left.min(all.capacity() - all.len());
        if room == 0 || !self.socket.ahead().is_empty() {
            let piece = self.read().await?;
            piece.iter().for_each(|piece| all.extend_from_slice(piece));
            return Ok(piece.is_some());
        }
        let came = self.socket.read_buf(&mut bytes::BufMut::limit(&mut *all, room)).await.map_err(unread)?;
        self.count(came);
        if came == 0 { Err(closed()) } else { Ok(true) }
    }

    fn count(&mut self, came: usize) {
        self.left -= came;
        self.came += came;
    }

    /// Whether nothing of the body is left.
    pub(super) const fn is_body_done(&self) -> bool {
        self.left == 0
    }

    /// Resolves when the client has left. What it sends meanwhile is its next request, which nobody reads yet.
    pub(super) async fn left(&mut self) {
        if self.socket.ahead().is_empty() && !self.gone {
            self.gone = !matches!(self.socket.fill().await, Ok(1..));
        }
        if !self.gone {
            std::future::pending().await
        }
    }

    /// Writes a piece of the answer, behind its head where that comes now.
    ///
    /// Errors: `WriteError`, `WriteTimedout`.
    pub(super) async fn write(&mut self, head: Option<Head>, bytes: Bytes, last: bool) -> Result<(), BError> {
        if let Some(mut head) = head {
            // Beyond a body that was not read nobody knows where the next request begins.
            self.keeps &= self.is_body_done();
            self.chunked = head.headers.contains_key(header::TRANSFER_ENCODING);
            head.headers.insert(header::DATE, get_cached_date());
            let connection = if self.keeps { "keep-alive" } else { "close" };
            head.headers.insert(header::CONNECTION, HeaderValue::from_static(connection));
            http1::write_answer(self.socket.held(), head.status, &head.headers);
        }
        self.sent += bytes.len();
        let Self { socket, chunked, patience, .. } = self;
        let written = within(*patience, write(socket, *chunked, &bytes, last)).await;
        let late = || Error::explain(ErrorType::WriteTimedout, "the client does not take its answer");
        let error = |cause| Error::because(ErrorType::WriteError, "while an answer was written", cause);
        written.ok_or_else(late)?.map_err(error)
    }

    /// The connection, when the answer is written and it is to be used again.
    pub(super) fn finish(self) -> Option<Box<Socket>> {
        (self.keeps && self.is_body_done() && !self.gone).then_some(self.socket)
    }
}

async fn write(socket: &mut Socket, chunked: bool, bytes: &[u8], last: bool) -> io::Result<()> {
    if chunked && !bytes.is_empty() {
        http1::write_chunk_size(socket.held(), bytes.len());
    }
    if bytes.len() <= COPIED {
        socket.held().extend_from_slice(bytes);
    } else {
        socket.write_all(bytes).await?;
    }
    if chunked {
        let ends = [(!bytes.is_empty(), "\r\n"), (last, "0\r\n\r\n")];
        ends.iter().filter(|(ends, _)| *ends).for_each(|(_, end)| socket.held().extend_from_slice(end.as_bytes()));
    }
    socket.flush().await
}

fn closed() -> BError {
    Error::explain(ErrorType::ConnectionClosed, "the body of the request broke off")
}

fn unread(cause: io::Error) -> BError {
    Error::because(ErrorType::ReadError, "while a body was read", cause)
}
