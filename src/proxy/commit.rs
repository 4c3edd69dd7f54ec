//! From the commit point to the end: the head is written here and nowhere else, then the stream, and the end is told to both sides.
//!
//! Not here: what happens before there is content (`serve`, `race`). Invariants: a success is booked before its last byte goes
//! out; the cost that a client reads is the one that is booked.

use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prometheus::Histogram;
use tokio::time::{Sleep, sleep};

use super::attempt::Started;
use super::respond;
use super::serve::{Serving, deadline_passed, halted};
use super::shutting_down;
use super::stream::LiveStream;
use crate::config::Timeouts;
use crate::error::{Error, ErrorKind, Result};
use crate::provider::Outgoing;

/// How long the figure of an answer that is all there is waited for, once its client has left.
const LAST_WORD: Duration = Duration::from_secs(1);
/// A comment, which every reader of server-sent events skips.
const PING: &[u8] = b": ping\n\n";

impl Serving<'_, '_> {
    /// Commits: from here on the client has seen who answers.
    pub(super) async fn deliver(&mut self, started: Started, outgoing: &Outgoing) -> Result<()> {
        self.context.status = 200;
        let first = self.context.started.elapsed();
        self.context.first_content = Some(first);
        self.tell_who_serves(first);
        let stream = self.admitted.call.head.stream;
        if let (Started::Stream(_), Some(trace)) = (&started, self.context.traces.last_mut())
            && let (Some(attempt), Some(first)) = (&mut trace.attempt, trace.first_content)
        {
            attempt.first_token(first, self.gateway.now());
        }
        if matches!(started, Started::Whole(_)) {
            self.settle(None);
        }
        self.count_warnings(&outgoing.warnings);
        let head = respond::success_head(self.context, self.admitted.request.strategy, &outgoing.warnings, stream)?;
        match started {
            Started::Whole(answer) => {
                self.gateway.finish(self.context).await;
                self.context.keep_answer(&answer.body);
                let written = respond::whole(self.client, head, answer.body).await;
                written.map_err(|_| self.client_left())
            }
            Started::Stream(live) => {
                self.context.streaming = true;
                self.stream(live, head).await
            }
        }
    }

    /// Counts what the translation had to drop or change.
    fn count_warnings(&self, warnings: &[String]) {
        if let Some(trace) = self.context.traces.last().filter(|_| !warnings.is_empty()) {
            let provider = trace.candidate.credential.provider.name;
            self.gateway.metrics.attempts.warnings.with_label_values(&[provider]).inc_by(warnings.len() as u64);
        }
    }

    fn tell_who_serves(&self, first: Duration) {
        let serving = self.context.traces.last();
        self.context.tell(|progress| {
            progress.first_content(first);
            serving.iter().for_each(|trace| progress.attempt(self.context.attempts(), &trace.candidate));
        });
    }

    /// Forwards a stream until it is over, watching both sides.
    async fn stream(&mut self, mut live: Box<LiveStream>, head: respond::Head) -> Result<()> {
        let mut head = Some(head);
        let _counted = self.gateway.metrics.requests.streaming();
        let mut pace = self.pace();
        let mut halt = self.gateway.halt.subscribe();
        let mut halt = pin!(halted(&mut halt));
        let mut pings = Pings::every(self.snapshot.config.timeouts.ping);
        loop {
            let over = live.is_over();
            if over {
                self.settle(None);
                self.gateway.finish(self.context).await;
            }
            live.add_to_usage(|| self.context.total().member());
            let piece = live.take();
            self.context.keep_answer(&piece);
            pace.tick(!piece.is_empty());
            // Who takes a piece in sips must not hold the provider beyond the deadline of the request.
            let deadline = self.admitted.call.deadline;
            let written = {
                // Pinned here: to move it into the timeout costs more than to run it.
                let written = pin!(respond::piece(self.client, head.take(), piece, over));
                tokio::time::timeout_at(deadline.into(), written).await
            };
            if !matches!(written, Ok(Ok(()))) {
                return Err(self.left(live).await);
            }
            if over {
                Box::pin(live.finish(&self.snapshot.attempts.upstream)).await;
                return Ok(());
            }
            pings.written(pace.last);
            let Some(step) = self.next_step(&mut live, halt.as_mut(), &mut pings).await else {
                return Err(self.left(live).await);
            };
            if let Some(trace) = self.context.traces.last_mut() {
                live.report(trace);
            }
            self.context.tell(|progress| progress.passed(live.generated()));
            if let Err(error) = step {
                return Err(self.broken(live, error).await);
            }
        }
    }

    /// The next step of a stream, or `None` when the client left. A client that waits for long is told meanwhile that it is not
    /// forgotten; the provider's own time to be silent runs on.
    async fn next_step(
        &mut self,
        live: &mut LiveStream,
        mut halt: Pin<&mut impl Future<Output = ()>>,
        pings: &mut Pings,
    ) -> Option<Result<()>> {
        let mut step = pin!(step(live, &self.snapshot.config.timeouts, self.admitted.call.deadline));
        loop {
            tokio::select! {
                biased;
                step = &mut step => return Some(step),
                () = &mut halt => return Some(Err(shutting_down())),
                _ = self.client.left() => return None,
                () = pings.due() => {}
            }
            respond::piece(self.client, None, Bytes::from_static(PING), false).await.ok()?;
            pings.written(Some(Instant::now()));
        }
    }

    /// The client left a stream. The provider is told at once, unless it has said all but its figure: that one makes the bill
    /// exact, and stops nothing that costs.
    async fn left(&mut self, mut live: Box<LiveStream>) -> Error {
        live.await_last_word(LAST_WORD).await;
        if let Some(trace) = self.context.traces.last_mut().filter(|trace| trace.took.is_none()) {
            live.report(trace);
        }
        live.abort().await;
        self.client_left()
    }

    fn pace(&self) -> Pace {
        let operation = self.context.operation.unwrap_or_default();
        let histogram = self.context.traces.last().and_then(|trace| {
            let (provider, model) = (trace.candidate.credential.provider.name, &trace.candidate.model);
            self.gateway.metrics.time_per_output_chunk(operation, provider, model)
        });
        Pace { histogram, last: None }
    }

    /// A stream that broke after its commit: what came before goes out; the error event is `Gateway::fail`'s.
    async fn broken(&mut self, mut live: Box<LiveStream>, error: Error) -> Error {
        let credential = self.context.traces.last().map(|trace| trace.candidate.credential.clone());
        let error = match credential {
            Some(credential) => credential.blame(error),
            None => error,
        };
        let rest = live.take();
        live.abort().await;
        self.settle(Some(&error));
        if respond::piece(self.client, None, rest, false).await.is_err() {
            return self.client_left();
        }
        error
    }
}

/// When the client of a silent stream is due a sign of life. The timer is moved when it fires, and not with every event.
struct Pings {
    /// Zero for never.
    every: Duration,
    written: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Pings {
    fn every(every: Duration) -> Self {
        Self { every, written: Instant::now(), timer: Box::pin(sleep(every)) }
    }

    /// Something was written then.
    fn written(&mut self, when: Option<Instant>) {
        self.written = when.unwrap_or(self.written).max(self.written);
    }

    /// Resolves when nothing has been written for so long.
    async fn due(&mut self) {
        if self.every.is_zero() {
            return std::future::pending().await;
        }
        loop {
            self.timer.as_mut().await;
            let due = self.written + self.every;
            if Instant::now() >= due {
                return;
            }
            self.timer.as_mut().reset(due.into());
        }
    }
}

/// Measures the time between the chunks of a stream.
struct Pace {
    histogram: Option<Histogram>,
    last: Option<Instant>,
}

impl Pace {
    /// A piece is there; whether the client gets anything by it.
    fn tick(&mut self, carries: bool) {
        if !carries {
            return;
        }
        let now = Instant::now();
        let last = self.last.replace(now);
        if let (Some(histogram), Some(last)) = (&self.histogram, last) {
            histogram.observe(now.duration_since(last).as_secs_f64());
        }
    }
}

async fn step(live: &mut LiveStream, timeouts: &Timeouts, deadline: Instant) -> Result<()> {
    let step = live.step(deadline.min(Instant::now() + timeouts.idle)).await;
    step.map_err(|error| {
        let late = error.kind() == ErrorKind::ProviderTimeout && Instant::now() >= deadline;
        if late { deadline_passed() } else { error }
    })
}
