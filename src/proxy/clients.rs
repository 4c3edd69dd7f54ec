//! A client's connection: the direct way of usual requests, and Pingora's for all others.
//!
//! Pingora's way has room for everything that a proxy may do with a request, as long as a stream lasts. Directly go usual requests to
//! `/v1/` (`http1`); HTTP/2, heads that come slowly or look odd, the admin API, probes, and what is passed on to the process
//! that follows go Pingora's way by `Listener`, and so does what comes on their connections afterwards. Not here: who may connect
//! at all (`door`), what a head must look like (`framing`).
//!
//! Invariant: nothing of a request is taken off its connection before it is known which way it goes.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::apps::ServerApp;
use pingora::protocols::Peek;
use pingora::server::ShutdownWatch;
use tokio::time::{Sleep, sleep, timeout};

use super::client::Client;
use super::direct::Direct;
use super::door::HeadGuard;
use super::socket::Socket;
use super::{Gateway, Planes};
use crate::http1::Request;

/// Bytes that tell HTTP/2 from HTTP/1.
const PREFACE: usize = 24;

/// The clients of one listener.
pub(super) struct Clients {
    pub(super) gateway: Arc<Gateway>,
    pub(super) planes: Planes,
    /// Pingora's way.
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
            let Some(request) = self.usual(&mut socket) else {
                return Box::pin(self.pingoras_way(socket)).await;
            };
            // On the heap, so that a connection that waits for its next request takes no room for one.
            let Some(next) = Box::pin(self.answer(Direct::new(socket, request, kept))).await else { return };
            (socket, kept) = (next, true);
        }
    }

    /// A request that goes the direct way, if that is what has come.
    fn usual(&self, socket: &mut Socket) -> Option<Request> {
        if !self.planes.data || self.gateway.life.is_leaving() {
            return None;
        }
        let limit = self.gateway.config().limits.max_header_bytes;
        Request::take(socket.ahead_mut(), "/v1/", limit)
    }

    /// Answers a request. Gives the connection back for the next one.
    async fn answer(&self, direct: Direct) -> Option<Box<Socket>> {
        let mut client = Client::Direct(direct);
        let reusable = self.gateway.handle_in(&mut client, &mut self.gateway.begin(), self.planes).await;
        match client {
            Client::Direct(direct) if reusable => direct.finish(),
            _ => None,
        }
    }

    /// Pingora's way, for this request and all that come on its connection.
    async fn pingoras_way(&self, mut socket: Box<Socket>) {
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
}

/// Resolves when something of a request is here; false when the connection has ended.
async fn asked(socket: &mut Socket) -> bool {
    !socket.ahead().is_empty() || matches!(socket.fill().await, Ok(1..))
}
