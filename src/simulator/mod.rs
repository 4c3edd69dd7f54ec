//! Simulated providers: real HTTP servers that speak OpenAI's and Anthropic's APIs from a script.
//!
//! For `demo` and `simulate`, for the integration tests and the benchmarks. Answers are made up but deterministic; latency,
//! faults and broken bytes are scripted with [`Behaviour`] and [`Step`]; what arrived is kept as [`Seen`].
//! Not here: a model, authentication, and anything the gateway itself needs to run.
//!
//! Invariants: one port speaks HTTP/1.1 and HTTP/2 (prior knowledge); a credential is kept only as its SHA-256; what is
//! booked as `billed` is what was really given out, so that a test can compare it with the gateway's ledger.

mod anthropic;
mod behaviour;
pub mod demo;
mod exchange;
mod line;
mod openai;
mod perform;
mod play;
mod reply;
mod request;
mod seen;

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::{Error, Result};

pub use behaviour::{Behaviour, Step, Truncation};
pub use seen::{Outcome, Seen, Wire};

use exchange::Shop;
use line::{Lines, Link};

/// How long [`Simulator::wait_until`] waits before it says that nothing of the kind happened.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running simulated provider. Dropping it closes its port and every connection.
pub struct Simulator {
    address: SocketAddr,
    shop: Arc<Shop>,
    accepted: Arc<AtomicU64>,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Simulator {
    /// Starts on a free port of 127.0.0.1, without TLS.
    pub async fn start(behaviour: Behaviour) -> Result<Self> {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), behaviour).await
    }

    /// Starts at an address, without TLS; an address that is taken is an error that names it.
    pub async fn start_at(address: SocketAddr, behaviour: Behaviour) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|cause| Error::internal(format!("a simulated provider can't listen on {address}: {cause}")))?;
        Self::start_on(listener, behaviour)
    }

    /// Starts on a listener that is already bound, without TLS.
    pub fn start_on(listener: TcpListener, behaviour: Behaviour) -> Result<Self> {
        let hooks = line::Hooks { opened: without_delay, cut: with_reset };
        Self::launch(listener, hooks, behaviour)
    }

    /// Starts on any listener, for example one that speaks TLS. Must be called inside a Tokio runtime.
    pub fn serve<L>(listener: L, behaviour: Behaviour) -> Result<Self>
    where
        L: Listener<Addr = SocketAddr>,
    {
        Self::launch(listener, line::Hooks { opened: |_| {}, cut: |_| {} }, behaviour)
    }

    fn launch<L>(listener: L, hooks: line::Hooks<L::Io>, behaviour: Behaviour) -> Result<Self>
    where
        L: Listener<Addr = SocketAddr>,
    {
        let address = listener.local_addr().map_err(Error::internal)?;
        let (stop, stopped) = watch::channel(false);
        let shop = Arc::new(Shop::new(behaviour));
        let app = exchange::router(Arc::clone(&shop)).into_make_service_with_connect_info::<Link>();
        let accepted = Arc::new(AtomicU64::new(0));
        let lines = Lines::new(listener, hooks, stopped, Arc::clone(&accepted));
        let server = tokio::spawn(async move {
            // It ends only by being aborted; accept errors are retried inside.
            let _ = axum::serve(lines, app).await;
        });
        Ok(Self { address, shop, accepted, stop, server })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`, without a path: OpenAI's base is this and `/v1`, Groq's this and `/openai/v1`,
    /// Anthropic's this alone.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request received so far, in order of arrival, as far back as [`Behaviour::remember`] allows.
    pub fn seen(&self) -> Vec<Seen> {
        self.shop.board.seen()
    }

    /// How many connections were accepted so far, those without a request included.
    pub fn connections(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Adds steps to the end of the running script.
    pub fn then(&self, steps: impl IntoIterator<Item = Step>) {
        self.shop.script.extend(steps);
    }

    /// Waits until the requests seen so far satisfy the predicate, and returns them. It looks again after every change and
    /// gives up with an error after half a minute.
    pub async fn wait_until(&self, mut predicate: impl FnMut(&[Seen]) -> bool) -> Result<Vec<Seen>> {
        let mut changes = self.shop.board.subscribe();
        let found = tokio::time::timeout(PATIENCE, changes.wait_for(|seen| predicate(seen))).await;
        match found {
            Ok(Ok(seen)) => Ok(seen.clone()),
            Ok(Err(_)) | Err(_) => Err(Error::internal("the simulated provider never saw what was waited for")),
        }
    }

    /// Closes the port and every connection, and returns when the port is free again.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        self.server.abort();
        // The only error is the cancellation just asked for.
        let _ = (&mut self.server).await;
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.server.abort();
    }
}

/// Every write is its own segment, as a provider that streams tokens does it. A failure only costs latency.
fn without_delay(stream: &mut TcpStream) {
    let _ = stream.set_nodelay(true);
}

/// Makes the close that follows a TCP reset. A failure leaves an ordinary close.
fn with_reset(stream: &mut TcpStream) {
    let _ = stream.set_zero_linger();
}
