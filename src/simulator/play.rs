//! An answer's body, played piece by piece in time.
//!
//! Not here: what the pieces say. Invariants: a piece is booked when it is handed to HTTP, not when it is planned; the exchange
//! is finished with the last piece, because many clients leave right after it; a stalled body never ends by itself.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Sleep, sleep};
use tokio_stream::Stream;

use super::seen::Exchange;

/// The pause that makes hyper write out what it holds before the next piece.
pub(super) const FLUSH: Duration = Duration::from_millis(1);

/// One piece of a body.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    /// How long after the piece before it.
    pub(super) after: Duration,
    pub(super) bytes: Bytes,
    /// Whether it carries content, as opposed to the frames around it.
    pub(super) content: bool,
    /// Tokens billed for it.
    pub(super) tokens: u64,
}

impl Chunk {
    /// A frame around the content: at once and for free.
    pub(super) fn frame(bytes: impl Into<Bytes>) -> Self {
        Self { after: Duration::ZERO, bytes: bytes.into(), content: false, tokens: 0 }
    }
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// As HTTP wants it.
    Clean,
    /// The connection, or the HTTP/2 stream, is dropped.
    Abort,
    /// Never.
    Stall,
}

/// The body being played.
pub(super) struct Play {
    exchange: Exchange,
    chunks: VecDeque<Chunk>,
    ending: Ending,
    nap: Option<Pin<Box<Sleep>>>,
}

impl Play {
    pub(super) fn new(exchange: Exchange, chunks: Vec<Chunk>, ending: Ending) -> Self {
        let mut play = Self { exchange, chunks: chunks.into(), ending, nap: None };
        play.prepare();
        play
    }

    /// Sets the pause before what comes next.
    fn prepare(&mut self) {
        let pause = match (self.chunks.front(), self.ending) {
            (Some(chunk), _) => chunk.after,
            (None, Ending::Abort) => FLUSH,
            (None, Ending::Clean | Ending::Stall) => Duration::ZERO,
        };
        self.nap = (!pause.is_zero()).then(|| Box::pin(sleep(pause)));
    }

    fn end(&mut self) -> Poll<Option<io::Result<Bytes>>> {
        match self.ending {
            Ending::Clean => {
                self.exchange.finish();
                Poll::Ready(None)
            }
            Ending::Abort => {
                self.exchange.finish();
                Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into())))
            }
            Ending::Stall => Poll::Pending,
        }
    }
}

impl Stream for Play {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(nap) = &mut this.nap {
            if nap.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            this.nap = None;
        }
        let Some(chunk) = this.chunks.pop_front() else {
            return this.end();
        };
        this.exchange.bill_output(chunk.tokens);
        if this.chunks.is_empty() && this.ending == Ending::Clean {
            this.exchange.finish();
        }
        this.prepare();
        Poll::Ready(Some(Ok(chunk.bytes)))
    }
}
