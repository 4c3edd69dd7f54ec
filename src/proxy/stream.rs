//! A stream between two sides: upstream bytes → events → translation → bytes for the client.
//!
//! Not here: when the client's head is written (`serve`). Nothing is held back beyond the event that is being read; what has come
//! together goes out together.

use std::borrow::Cow;
use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::{Sleep, sleep};

use super::context::Trace;
use super::exchange::{Exchange, stopped, truncated};
use super::upstream::Upstream;
use crate::config::Limits;
use crate::error::{Error, ErrorKind, Result};
use crate::eventstream::Broken;
use crate::frames::{Decoder, Framing};
use crate::provider::{End, StreamOut, StreamTranslator};
use crate::sse::Event;

/// Reads of a stream that nobody listens to any more.
const MAX_LAST_READS: usize = 64;
/// Reads that one step gathers, and bytes for the client from which on it gathers no more: a fast provider must not keep a client
/// waiting for what is there.
const MAX_GATHERED: usize = 128;
const ENOUGH_BYTES: usize = 32 * 1024;

/// A stream that is being read.
pub(super) struct LiveStream {
    exchange: Box<Exchange>,
    decoder: Decoder,
    translator: Box<dyn StreamTranslator>,
    out: StreamOut,
    /// Why the stream broke right behind what was gathered, which the client gets first.
    broke: Option<Error>,
    /// Ends a step that takes too long. One for the whole stream: to move its end costs less than to set another.
    timer: Pin<Box<Sleep>>,
}

impl LiveStream {
    /// A stream whose head was a 200.
    pub(super) fn open(
        exchange: Box<Exchange>,
        framing: Framing,
        translator: Box<dyn StreamTranslator>,
        limits: &Limits,
    ) -> Self {
        let decoder = Decoder::new(framing, limits.max_event_bytes);
        let timer = Box::pin(sleep(Duration::ZERO));
        Self { exchange, decoder, translator, out: StreamOut::default(), broke: None, timer }
    }

    /// Reads what has come, until then at the latest, and translates whatever became complete. A provider that answers faster than
    /// its answer is read sends many events in one packet, each as a chunk of its own: one write for all of them costs the client
    /// and this side a fraction of one for each.
    ///
    /// Errors: the provider's error event, `StreamTruncated`, `ProviderProtocol`, `ProviderTimeout`. What was translated
    /// before the error is still there to be taken.
    pub(super) async fn step(&mut self, until: Instant) -> Result<()> {
        self.read_once(until).await?;
        for _ in 1..MAX_GATHERED {
            if self.out.done || self.broke.is_some() || self.out.bytes.len() >= ENOUGH_BYTES {
                break;
            }
            let Some(read) = self.exchange.ready().await else { break };
            self.broke = read.and_then(|read| self.take_in(read)).err();
        }
        Ok(())
    }

    /// The first read of a step.
    async fn read_once(&mut self, until: Instant) -> Result<()> {
        if let Some(error) = self.broke.take() {
            return Err(error);
        }
        self.timer.as_mut().reset(until.into());
        let read = tokio::select! {
            biased;
            read = self.exchange.receive() => read?,
            () = self.timer.as_mut() => return Err(stopped()),
        };
        self.take_in(read)
    }

    /// Takes one read in: bytes, or the end.
    fn take_in(&mut self, read: Option<Bytes>) -> Result<()> {
        match read {
            Some(bytes) => self.push(&bytes),
            None => self.end(),
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.decoder.push(bytes);
        self.translate()
    }

    fn translate(&mut self) -> Result<()> {
        while !self.out.done {
            let event = self.decoder.next_event().map_err(|cause| unreadable(&cause))?;
            let Some(event) = event else { break };
            if let Err(error) = self.translator.event(&event, &mut self.out) {
                self.read_leniently(event, error)?;
            }
        }
        Ok(())
    }

    /// An event that could not be read because it is no UTF-8 is read once more with U+FFFD in the place of what is none. Where
    /// its bytes are forwarded, they are the ones that came.
    fn read_leniently(&mut self, event: Event, error: Error) -> Result<()> {
        let Cow::Owned(data) = String::from_utf8_lossy(&event.data) else { return Err(error) };
        self.translator.event(&Event { data: data.into(), ..event }, &mut self.out)?;
        self.out.odd.invalid_utf8 += 1;
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.decoder.finish();
        self.translate()?;
        if self.out.done {
            return Ok(());
        }
        match self.translator.end(&mut self.out) {
            End::Complete => {
                self.out.done = true;
                Ok(())
            }
            End::Truncated => Err(truncated()),
        }
    }

    /// Whether the commit point has been reached.
    pub(super) fn has_content(&self) -> bool {
        self.out.content
    }

    /// Whether the stream said that it is complete.
    pub(super) fn is_over(&self) -> bool {
        self.out.done
    }

    /// What is ready for the client.
    pub(super) fn take(&mut self) -> Bytes {
        self.out.usage_end = None;
        std::mem::take(&mut self.out.bytes).into()
    }

    /// Adds a member to the usage chunk, if there is one in what is ready.
    pub(super) fn add_to_usage(&mut self, member: impl FnOnce() -> String) {
        if let Some(end) = self.out.usage_end.take().filter(|end| *end <= self.out.bytes.len()) {
            self.out.bytes.splice(end..end, member().into_bytes());
        }
    }

    /// Reads what has come already, and waits for the provider's last word where the answer may be all there. Nobody reads it:
    /// it is for the bill.
    pub(super) async fn await_last_word(&mut self, patience: Duration) {
        let end = Instant::now() + patience;
        for _ in 0..MAX_LAST_READS {
            if self.out.bill.closed || self.out.done {
                return;
            }
            let wait = if self.out.written { end.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            let step = self.read_once(Instant::now() + wait).await;
            self.out.bytes.clear();
            if step.is_err() {
                return;
            }
        }
    }

    /// Writes what is known so far into the attempt's trace.
    pub(super) fn report(&self, trace: &mut Trace) {
        trace.usage = self.out.usage;
        trace.bill.clone_from(&self.out.bill);
        trace.generated = self.out.generated;
        trace.odd = self.out.odd;
    }

    /// Bytes of generated text so far.
    pub(super) const fn generated(&self) -> u64 {
        self.out.generated
    }

    /// Gives the connection back after a complete stream; bytes after its end give it up.
    pub(super) async fn finish(self: Box<Self>, upstream: &Upstream) {
        if self.decoder.has_partial() {
            self.exchange.abort().await;
        } else {
            upstream.finish(self.exchange).await;
        }
    }

    /// Breaks the stream off at the provider.
    pub(super) async fn abort(self: Box<Self>) {
        self.exchange.abort().await;
    }
}

/// The error of an event that can't be taken off the stream. One that is too large has a code of its own.
fn unreadable(cause: &Broken) -> Error {
    let message = "The provider sent an event that is damaged or larger than this gateway accepts.";
    let error = Error::new(ErrorKind::ProviderProtocol, message).with_cause(cause);
    if matches!(cause, Broken::TooLarge(_)) { error.with_code("event_too_large") } else { error }
}
