//! The attempt loop: candidates in order, one after the other, until one has content; then commit and stream.
//!
//! This is the one place that retries and the one place that writes a success's head. The rule: the next candidate is tried
//! when the error's kind is retryable, the client has seen no byte, attempts and time are left.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use pingora::proxy::Session;
use tokio::sync::watch;

use super::admit::Admitted;
use super::attempt::{Attempts, Started};
use super::context::{RequestContext, Trace};
use super::respond;
use super::stream::LiveStream;
use super::{Gateway, Snapshot, shutting_down};
use crate::balance::Candidate;
use crate::balance::group::Choice;
use crate::balance::stats::Verdict;
use crate::config::Timeouts;
use crate::error::{Error, ErrorKind, Result, Source};
use crate::provider::Outgoing;

/// How one round of the loop ended.
enum Round {
    /// There is content.
    Content(Started),
    /// This candidate failed; the error says whether another may be tried.
    Failed(Error),
    /// The client left.
    Gone,
}

/// One admitted request being served.
pub(super) struct Serving<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) snapshot: &'a Snapshot,
    pub(super) admitted: &'a Admitted,
    pub(super) session: &'a mut Session,
    pub(super) context: &'a mut RequestContext,
}

impl Serving<'_> {
    /// Serves the request. The answer has been written when this returns `Ok`; an `Err` has been answered with nothing yet,
    /// or has broken a stream off.
    pub(super) async fn run(&mut self) -> Result<()> {
        let mut tried = HashSet::new();
        let mut last = None;
        while let Some((choice, outgoing)) = self.next(&mut tried, &mut last)? {
            self.context.traces.push(Trace::begin(choice.candidate.clone()));
            match self.round(&choice, &outgoing).await {
                Round::Content(started) => return self.deliver(started, &outgoing).await,
                Round::Gone => return Err(self.client_left()),
                Round::Failed(error) => {
                    self.settle(Some(error.clone()));
                    if !error.is_retryable() {
                        return Err(error);
                    }
                    last = Some(error);
                }
            }
        }
        let last = last.unwrap_or_else(|| Error::internal("the loop ended without an error"));
        let late = Instant::now() >= self.admitted.call.deadline && last.kind() == ErrorKind::ProviderTimeout;
        Err(if late { deadline_passed() } else { last })
    }

    /// The next candidate with its request, or `None` when the last error stands.
    ///
    /// A candidate that can't express the request is passed over without an attempt; when no other is left, its refusal is
    /// the answer.
    fn next(&self, tried: &mut HashSet<usize>, last: &mut Option<Error>) -> Result<Option<(Choice, Outgoing)>> {
        let attempts = u32::try_from(self.context.traces.len()).unwrap_or(u32::MAX);
        if attempts >= self.snapshot.config.retry.max_attempts || Instant::now() >= self.admitted.call.deadline {
            return Ok(None);
        }
        loop {
            let Some(choice) = self.select(tried, last.is_none()) else {
                return if last.is_some() { Ok(None) } else { Err(self.nobody()) };
            };
            tried.insert(choice.candidate.slot);
            match Attempts::prepare(&self.admitted.call, &choice) {
                Ok(outgoing) => return Ok(Some((choice, outgoing))),
                Err(refusal) => {
                    choice.candidate.stats.breaker.release();
                    last.get_or_insert(refusal);
                }
            }
        }
    }

    /// The best candidate that is neither tried nor cooling nor open. With `panic`, when there is none, an open one: every
    /// route being open says more about the breakers than about the routes.
    fn select(&self, tried: &HashSet<usize>, panic: bool) -> Option<Choice> {
        let Admitted { group, strategy, call } = self.admitted;
        let now = self.gateway.now();
        let fresh = |candidate: &Candidate| !tried.contains(&candidate.slot);
        let ready = |candidate: &Candidate| fresh(candidate) && candidate.cooling.cooling(now).is_none();
        let healthy = |candidate: &Candidate| ready(candidate) && candidate.stats.breaker.enter(now);
        let choice = group.select(*strategy, call.estimate, healthy);
        choice.or_else(|| if panic { group.select(*strategy, call.estimate, ready) } else { None })
    }

    /// Why no candidate can be asked at all.
    fn nobody(&self) -> Error {
        let now = self.gateway.now();
        let candidates = self.admitted.group.candidates().iter();
        match candidates.filter_map(|candidate| candidate.cooling.cooling(now)).min() {
            Some(wait) => Error::new(
                ErrorKind::ProviderRateLimited,
                "Every provider that serves this model is rate limited; see Retry-After.",
            )
            .with_retry_after(wait),
            None => Error::new(ErrorKind::NoCandidate, "No provider that serves this model is available now."),
        }
    }

    /// One attempt, raced against the client's leaving.
    async fn round(&mut self, choice: &Choice, outgoing: &Outgoing) -> Round {
        let left = self.admitted.call.deadline.saturating_duration_since(Instant::now());
        let more = self.context.traces.len() < self.admitted.group.candidates().len();
        // An attempt that others can follow must leave them time.
        let share = if more { left / 2 } else { left };
        let limit = share.min(self.snapshot.config.timeouts.first_token);
        let Some(trace) = self.context.traces.last_mut() else {
            return Round::Failed(Error::internal("an attempt without a trace"));
        };
        let mut halt = self.gateway.halt.subscribe();
        tokio::select! {
            biased;
            _ = self.session.downstream_session.read_body_or_idle(true) => Round::Gone,
            () = halted(&mut halt) => Round::Failed(shutting_down()),
            result = self.snapshot.attempts.run(&self.admitted.call, choice, outgoing, trace, limit) => match result {
                Ok(started) => Round::Content(started),
                Err(error) => Round::Failed(error),
            },
        }
    }

    /// Commits: from here on the client has seen who answers.
    async fn deliver(&mut self, started: Started, outgoing: &Outgoing) -> Result<()> {
        self.context.status = 200;
        self.context.first_content = Some(self.context.started.elapsed());
        let stream = self.admitted.call.head.stream;
        let head = respond::success_head(self.context, self.admitted.strategy, &outgoing.warnings, stream)?;
        match started {
            Started::Whole(answer) => {
                self.settle(None);
                self.gateway.finish(self.context).await;
                let written = respond::whole(self.session, head, answer.body).await;
                written.map_err(|_| self.client_left())
            }
            Started::Stream(live) => {
                self.context.streaming = true;
                self.stream(*live, head).await
            }
        }
    }

    /// Forwards a stream until it is over, watching both sides.
    async fn stream(&mut self, mut live: LiveStream, head: respond::Head) -> Result<()> {
        let mut head = Some(head);
        let mut halt = self.gateway.halt.subscribe();
        loop {
            let over = live.is_over();
            if over {
                self.settle(None);
                self.gateway.finish(self.context).await;
            }
            if respond::piece(self.session, head.take(), live.take(), over).await.is_err() {
                live.abort().await;
                return Err(self.client_left());
            }
            if over {
                live.finish(&self.snapshot.attempts.upstream).await;
                return Ok(());
            }
            let step = tokio::select! {
                biased;
                step = step(&mut live, &self.snapshot.config.timeouts, self.admitted.call.deadline) => step,
                () = halted(&mut halt) => Err(shutting_down()),
                _ = self.session.downstream_session.read_body_or_idle(true) => {
                    live.abort().await;
                    return Err(self.client_left());
                }
            };
            if let Some(trace) = self.context.traces.last_mut() {
                live.report(trace);
            }
            if let Err(error) = step {
                return Err(self.broken(live, error).await);
            }
        }
    }

    /// A stream that broke after its commit: what came before goes out; the error event is `fail_to_proxy`'s.
    async fn broken(&mut self, mut live: LiveStream, error: Error) -> Error {
        let credential = self.context.traces.last().map(|trace| trace.candidate.credential.clone());
        let error = match credential {
            Some(credential) => credential.blame(error),
            None => error,
        };
        let rest = live.take();
        live.abort().await;
        self.settle(Some(error.clone()));
        if respond::piece(self.session, None, rest, false).await.is_err() {
            return self.client_left();
        }
        error
    }

    /// The client left: whatever is under way ends without a verdict on the provider.
    fn client_left(&mut self) -> Error {
        self.context.client_gone = true;
        let error = Error::new(ErrorKind::ClientGone, "The client closed the connection.");
        if self.context.traces.last().is_some_and(|trace| trace.took.is_none()) {
            self.settle(Some(error.clone()));
        }
        error
    }

    /// Closes the last attempt: its time, its error, and what the balancer learns from it.
    fn settle(&mut self, error: Option<Error>) {
        let now = self.gateway.now();
        let Some(trace) = self.context.traces.last_mut() else { return };
        trace.took = Some(trace.started.elapsed());
        let verdict = error.as_ref().map_or(Verdict::Success, verdict);
        trace.candidate.stats.record(verdict, trace.first_content, now);
        if let Some(wait) = error.as_ref().and_then(cool_down) {
            trace.candidate.cooling.cool_down(wait, now);
        }
        trace.error = error;
    }
}

async fn step(live: &mut LiveStream, timeouts: &Timeouts, deadline: Instant) -> Result<()> {
    match tokio::time::timeout_at(deadline.into(), live.step(timeouts.idle)).await {
        Ok(step) => step,
        Err(_) => Err(deadline_passed()),
    }
}

/// Resolves when running requests must end.
async fn halted(halt: &mut watch::Receiver<bool>) {
    if halt.wait_for(|halt| *halt).await.is_err() {
        // The gateway, which holds the sender, outlives its requests.
        std::future::pending().await
    }
}

fn deadline_passed() -> Error {
    Error::new(ErrorKind::DeadlineExceeded, "The deadline of the request passed.")
}

/// What an error says about the provider: a 429 and a refused request say nothing about its health.
fn verdict(error: &Error) -> Verdict {
    let row = error.kind().row();
    let fault = row.source == Source::Provider && row.retryable && error.kind() != ErrorKind::ProviderRateLimited;
    if fault { Verdict::Failure } else { Verdict::Neutral }
}

fn cool_down(error: &Error) -> Option<Duration> {
    if error.kind() == ErrorKind::ProviderRateLimited { error.retry_after() } else { None }
}
