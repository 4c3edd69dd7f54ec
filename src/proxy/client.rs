//! A client's connection: the short way of the usual request, and Pingora's for all others.
//!
//! Usual is a request to `/v1/` in HTTP/1 whose head came in one piece. Its HTTP is Pingora's, the loop around it is not: Pingora's
//! has room for everything that a proxy may do with a request, as long as a stream lasts. HTTP/2, heads that come slowly or look
//! odd, the admin API, probes, and what is passed on to the process that follows go the long way by `Listener`, and so does what
//! comes on their connections afterwards. Not here: who may connect at all (`door`), what a head must look like (`framing`).
//!
//! Invariant: nothing of a request is taken off its connection before it is known which way it goes.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use memchr::memchr_iter;
use pingora::apps::ServerApp;
use pingora::http::ResponseHeader;
use pingora::protocols::Peek;
use pingora::proxy::Session;
use pingora::server::ShutdownWatch;
use tokio::time::{Sleep, sleep, timeout};

use super::door::HeadGuard;
use super::socket::Socket;
use super::{Gateway, Planes};
use crate::api::envelope;
use crate::error::{Error, ErrorKind};

/// Bytes that tell HTTP/2 from HTTP/1.
const PREFACE: usize = 24;

/// The clients of one listener.
pub(super) struct Clients {
    pub(super) gateway: Arc<Gateway>,
    pub(super) planes: Planes,
    /// The long way.
    pub(super) pingora: Arc<HeadGuard>,
    pub(super) closing: ShutdownWatch,
}

impl Clients {
    /// Serves one connection to its end.
    pub(super) async fn serve(&self, mut socket: Box<Socket>) {
        let mut hung_up = pin!(self.gateway.life.hung_up());
        let mut timer = pin!(sleep(Duration::ZERO));
        let mut kept = false;
        loop {
            tokio::select! {
                biased;
                came = asked(&mut socket) => if !came { return },
                () = &mut hung_up => return,
                () = self.tired(kept, timer.as_mut()) => return,
            }
            if self.gateway.life.is_leaving() || !is_usual(socket.ahead()) {
                return Box::pin(self.long_way(socket)).await;
            }
            // On the heap, so that a connection that waits for its next request takes no room for one.
            let Some(next) = Box::pin(self.answer(socket, kept)).await else { return };
            (socket, kept) = (next, true);
        }
    }

    /// Pingora's way, for this request and all that come on its connection.
    async fn long_way(&self, mut socket: Box<Socket>) {
        let config = self.gateway.config();
        if config.server.h2c {
            // Pingora looks whether HTTP/2 is spoken, and would wait for ever; what was seen is there to be read again.
            let seen = timeout(config.timeouts.head, socket.try_peek(&mut [0; PREFACE])).await;
            if seen.is_err() {
                self.gateway.metrics.access.slow_heads.inc();
            }
            if !matches!(seen, Ok(Ok(_))) {
                return;
            }
        }
        drop(config);
        self.pingora.process_new(socket, &self.closing).await;
    }

    /// Resolves when a connection has waited for its next request for too long.
    async fn tired(&self, kept: bool, mut timer: Pin<&mut Sleep>) {
        let config = self.gateway.config();
        let until = Instant::now() + if kept { config.server.max_keepalive } else { config.timeouts.head };
        drop(config);
        // It is moved when it fires, and not with each request.
        while Instant::now() < until {
            if timer.is_elapsed() || timer.deadline() > until.into() {
                timer.as_mut().reset(until.into());
            }
            timer.as_mut().await;
        }
        if !kept {
            self.gateway.metrics.access.slow_heads.inc();
        }
    }

    /// Answers a request whose head is here. Gives the connection back for the next one.
    async fn answer(&self, mut socket: Box<Socket>, kept: bool) -> Option<Box<Socket>> {
        let begun = socket.take_ahead();
        let mut session = Session::new_h1(socket);
        let http = &mut session.downstream_session;
        http.set_pipelined_prefix(begun);
        http.set_keepalive_reuses_remaining(kept.then_some(u32::MAX));
        match http.read_request().await {
            Ok(true) => {}
            Ok(false) => return None,
            Err(cause) => {
                refuse(&mut session, &cause).await;
                return None;
            }
        }
        if !self.gateway.handle_in(&mut session, &mut self.gateway.begin(), self.planes).await {
            return None;
        }
        let (stream, unread) = session.downstream_session.finish().await.ok()??.into_parts();
        let mut socket = stream.into_any().downcast::<Socket>().ok()?;
        socket.put_back(unread.unwrap_or_default());
        Some(socket)
    }
}

/// Resolves when something of a request is here; false when the connection has ended.
async fn asked(socket: &mut Socket) -> bool {
    !socket.ahead().is_empty() || matches!(socket.fill().await, Ok(1..))
}

/// Whether this is the whole head of a usual request.
fn is_usual(bytes: &[u8]) -> bool {
    let ends = |at| bytes.get(..=at).is_some_and(|head| head.ends_with(b"\r\n\r\n"));
    (bytes.starts_with(b"POST /v1/") || bytes.starts_with(b"GET /v1/")) && memchr_iter(b'\n', bytes).any(ends)
}

/// Answers a head that can't be read, and closes the connection.
async fn refuse(session: &mut Session, cause: &pingora::Error) {
    tracing::debug!(%cause, "a head can't be read");
    let error = Error::new(ErrorKind::InvalidRequest, "The head of the request is not valid HTTP/1.");
    let body = Bytes::from(envelope::json(&error));
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = StatusCode::BAD_REQUEST;
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    // The client may be gone; the connection is closed in any case.
    let _ = session.downstream_session.write_error_response(ResponseHeader::from(head), body).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_head_to_the_data_plane_is_usual() {
        assert!(is_usual(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n\r\n{"));
        assert!(is_usual(b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n"));
        for odd in [
            &b"P"[..],
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n",
            b"POST /v1/chat/completions HTTP/1.1\nhost: a\n\n",
            b"\r\nPOST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n\r\n",
            b"GET /workspaces HTTP/1.1\r\nhost: a\r\n\r\n",
            b"GET http://a/v1/models HTTP/1.1\r\nhost: a\r\n\r\n",
            b"CONNECT a:443 HTTP/1.1\r\nhost: a\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ] {
            assert!(!is_usual(odd), "{}", odd.escape_ascii());
        }
    }
}
