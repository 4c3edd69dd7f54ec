//! Who asks, as the gateway sees it: a request on a session of Pingora's, or on its connection itself.
//!
//! Pingora's futures are on the heap while they run: a direct request would have room for them until its end. Not here: what is
//! read, and what is answered (`admit`, `respond`). Invariant: whichever it is, the same is read and written.

use std::net::IpAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderName, header};
use pingora::BError;
use pingora::http::ResponseHeader;
use pingora::protocols::GetSocketDigest;
use pingora::protocols::http::HttpTask;
use pingora::proxy::Session;

use super::direct::Direct;
use super::respond::Head;
use crate::metrics::Arrival;

/// A client with its request. There is one for each request, where it is answered: to put the usual one on the heap would cost more
/// than it saves.
#[expect(clippy::large_enum_variant)]
pub(super) enum Client<'s> {
    /// HTTP/2, everything unusual, and everything in another program of Pingora's.
    Pingora(&'s mut Session),
    /// The usual.
    Direct(Direct),
}

impl Client<'_> {
    /// The head of the request.
    pub(super) fn head(&self) -> &Parts {
        match self {
            Self::Pingora(session) => session.req_header(),
            Self::Direct(direct) => direct.head(),
        }
    }

    /// A header as text; one that is not ASCII is as good as absent.
    pub(super) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.head().headers.get(name)?.to_str().ok().map(str::trim)
    }

    /// Where the client is.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Pingora(session) => Some(session.client_addr()?.as_inet()?.ip()),
            Self::Direct(direct) => {
                direct.socket().get_socket_digest().and_then(|digest| Some(digest.peer_addr()?.as_inet()?.ip()))
            }
        }
    }

    /// By what kind of connection the request came.
    pub(super) fn arrival(&mut self) -> Arrival {
        let reused = match self {
            Self::Pingora(session) if session.downstream_session.is_http2() => return Arrival::Http2,
            Self::Pingora(session) => {
                // Pingora keeps this number with an HTTP/1 connection and counts it down with each request; a new one has none.
                let http = &mut session.downstream_session;
                let known = http.get_keepalive_reuses_remaining().is_some();
                if !known {
                    http.set_keepalive_reuses_remaining(Some(u32::MAX));
                }
                known
            }
            Self::Direct(direct) => direct.kept,
        };
        if reused { Arrival::Reused } else { Arrival::New }
    }

    /// How long the connection is kept behind the answer, if at all, and how long the client may take to take a piece of it.
    pub(super) fn begin(&mut self, keepalive: Option<Duration>, patience: Duration) {
        match self {
            Self::Pingora(session) => {
                session.set_keepalive(keepalive.map(|keepalive| keepalive.as_secs()));
                // What comes after a body is the next request, or an empty line of an old client: no sign that the client left.
                session.set_pipelining_enabled(true);
                session.set_write_timeout(Some(patience));
            }
            Self::Direct(direct) => direct.begin(keepalive.is_some(), patience),
        }
    }

    /// Closes the connection behind the answer.
    pub(super) fn close(&mut self) {
        match self {
            Self::Pingora(session) => session.set_keepalive(None),
            Self::Direct(direct) => direct.close(),
        }
    }

    /// Tells the client that its body is wanted, where it waits for that.
    pub(super) async fn invite(&mut self) -> Result<(), BError> {
        let waits = self.header(&header::EXPECT).is_some_and(|text| text.eq_ignore_ascii_case("100-continue"));
        match self {
            Self::Pingora(session) if waits => Box::pin(session.downstream_session.write_continue_response()).await,
            _ => Ok(()),
        }
    }

    /// The next piece of the body; `None` at its end.
    pub(super) async fn read(&mut self) -> Result<Option<Bytes>, BError> {
        match self {
            Self::Pingora(session) => Box::pin(session.downstream_session.read_request_body()).await,
            Self::Direct(direct) => direct.read().await,
        }
    }

    /// Reads the next piece behind these; false at the end.
    pub(super) async fn read_into(&mut self, all: &mut BytesMut) -> Result<bool, BError> {
        match self {
            Self::Pingora(session) => {
                let piece = Box::pin(session.downstream_session.read_request_body()).await?;
                piece.iter().for_each(|piece| all.extend_from_slice(piece));
                Ok(piece.is_some())
            }
            Self::Direct(direct) => direct.read_into(all).await,
        }
    }

    /// Whether nothing of the body is left to read.
    pub(super) fn is_body_done(&mut self) -> bool {
        match self {
            Self::Pingora(session) => session.downstream_session.is_body_done(),
            Self::Direct(direct) => direct.is_body_done(),
        }
    }

    /// Resolves when the client has left.
    pub(super) async fn left(&mut self) {
        match self {
            Self::Pingora(session) => drop(Box::pin(session.downstream_session.read_body_or_idle(true)).await),
            Self::Direct(direct) => direct.left().await,
        }
    }

    /// Writes a piece of the answer, behind its head where that comes now.
    pub(super) async fn write(&mut self, head: Option<Head>, bytes: Bytes, last: bool) -> Result<(), BError> {
        let session = match self {
            Self::Direct(direct) => return direct.write(head, bytes, last).await,
            Self::Pingora(session) => session,
        };
        let mut tasks = Vec::with_capacity(2);
        let (empty, headless) = (bytes.is_empty(), head.is_none());
        if let Some(head) = head {
            tasks.push(HttpTask::Header(Box::new(ResponseHeader::from(head)), empty && last));
        }
        if !empty || (last && headless) {
            tasks.push(HttpTask::Body((!empty).then_some(bytes), last));
        }
        if tasks.is_empty() {
            return Ok(());
        }
        Box::pin(session.write_response_tasks(tasks)).await.map(drop)
    }

    /// Bytes of the body that were read, and of the answer's that were written.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let (came, sent) = match self {
            Self::Pingora(session) => (session.body_bytes_read(), session.body_bytes_sent()),
            Self::Direct(direct) => (direct.came, direct.sent),
        };
        (came as u64, sent as u64)
    }
}
