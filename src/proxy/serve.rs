//! The attempt loop: candidates in order, one after the other, until one has content; then `commit` takes over.
//!
//! This is the one place that retries. The rule: the next candidate is tried when the error's kind is retryable, the client has
//! seen no byte, and attempts, time and the retry budget are left. A race between an attempt and its hedge is one round (`race`).

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::admit::Admitted;
use super::attempt::Attempts;
use super::client::Client;
use super::context::{RequestContext, Trace};
use super::race::{Ready, Round};
use super::{Gateway, Snapshot, shutting_down, tell};
use crate::balance::Candidate;
use crate::balance::attempt::{Effect, Outcome, Verdict};
use crate::balance::budget::Retry;
use crate::balance::group::Nobody;
use crate::balance::request::Request;
use crate::balance::stats::Refusal;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::Metrics;

/// The first wait before the same route is tried again, and the longest.
const BACKOFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// One admitted request being served.
pub(super) struct Serving<'a, 'c> {
    pub(super) gateway: &'a Gateway,
    pub(super) snapshot: &'a Snapshot,
    pub(super) admitted: &'a Admitted,
    pub(super) client: &'a mut Client<'c>,
    pub(super) context: &'a mut RequestContext,
}

/// What a request has gone through so far.
#[derive(Default)]
pub(super) struct Progress {
    /// Slots that were tried or passed over.
    pub(super) tried: Vec<u32>,
    /// Why the last attempt failed, or why a candidate could not even be asked.
    last: Option<Error>,
    /// It has waited for a credential to cool down.
    waited: bool,
}

impl Serving<'_, '_> {
    /// Serves the request. The answer has been written when this returns `Ok`; an `Err` has been answered with nothing yet,
    /// or has broken a stream off.
    pub(super) async fn run(&mut self) -> Result<()> {
        let mut progress = Progress::default();
        self.gateway.lasting.budgets.request(self.context.workspace(), self.gateway.now());
        while let Some(ready) = self.next(&mut progress).await? {
            match self.round(ready, &mut progress.tried).await {
                Round::Content(started, outgoing) => return self.deliver(started, &outgoing).await,
                Round::Gone => return Err(self.client_left()),
                Round::Failed(error) if error.is_retryable() => progress.last = Some(error),
                Round::Failed(error) => return Err(error),
            }
        }
        // Without any error the deadline passed before the first attempt.
        let last = progress.last.unwrap_or_else(deadline_passed);
        let late = Instant::now() >= self.admitted.call.deadline && last.kind() == ErrorKind::ProviderTimeout;
        Err(if late { deadline_passed() } else { last })
    }

    /// The next candidate with its request, or `None` when the last error stands.
    async fn next(&mut self, progress: &mut Progress) -> Result<Option<Box<Ready>>> {
        loop {
            if self.context.attempts() >= self.snapshot.config.retry.max_attempts
                || Instant::now() >= self.admitted.call.deadline
            {
                return Ok(None);
            }
            let picker = Picker { gateway: self.gateway, snapshot: self.snapshot, admitted: self.admitted };
            let nobody = match picker.pick(&mut progress.tried, &mut progress.last) {
                Ok(ready) if self.may_try(progress.last.as_ref()) => return Ok(Some(ready)),
                Ok(_) => return Ok(None),
                Err(nobody) => nobody,
            };
            let Some(wait) = self.worth_waiting(nobody, progress) else {
                return if progress.last.is_some() { Ok(None) } else { Err(no_candidate(nobody)) };
            };
            self.pause(wait).await?;
        }
    }

    /// Whether the retry budgets allow one more attempt after this error; the first one is free.
    fn may_try(&mut self, last: Option<&Error>) -> bool {
        let Some(last) = last.filter(|_| self.context.attempts() > 0) else { return true };
        let retry = if last.kind() == ErrorKind::ProviderTimeout { Retry::AfterTimeout } else { Retry::Plain };
        let granted = self.gateway.lasting.budgets.retry(self.context.workspace(), retry, self.gateway.now());
        if !granted {
            self.context.retries_spent = true;
            self.gateway.metrics.attempts.retry_budget_exhausted.inc();
        }
        granted
    }

    /// How long to wait before candidates are looked for again, where there is none now: for the first credential that has
    /// cooled down, or a little before the only route is asked again.
    fn worth_waiting(&self, nobody: Nobody, progress: &mut Progress) -> Option<Duration> {
        let retry = &self.snapshot.config.retry;
        let left = self.admitted.call.deadline.saturating_duration_since(Instant::now());
        let Some(last) = &progress.last else {
            let wait = nobody.wait.filter(|wait| *wait <= retry.max_wait && *wait < left && !progress.waited);
            progress.waited = wait.is_some();
            return wait;
        };
        let alone = self.admitted.group.candidates().len() == 1 && self.context.attempts() > 0;
        let worth = !matches!(last.kind(), ErrorKind::ProviderRateLimited | ErrorKind::ProviderQuotaExhausted);
        if !(retry.same_route && alone && worth) {
            return None;
        }
        progress.tried.clear();
        let [first, longest] = BACKOFF;
        let most = (first * 2_u32.saturating_pow(self.context.attempts().saturating_sub(1))).min(longest);
        Some(most.mul_f64(rand::random()).min(left))
    }

    /// Waits, unless the client leaves or the gateway must end.
    async fn pause(&mut self, wait: Duration) -> Result<()> {
        let (mut halt, began) = (self.gateway.halt.subscribe(), Instant::now());
        let ended = tokio::select! {
            biased;
            _ = self.client.left() => Err(self.client_left()),
            () = halted(&mut halt) => Err(shutting_down()),
            () = tokio::time::sleep(wait) => Ok(()),
        };
        self.context.waited += began.elapsed();
        ended
    }

    /// The client left: whatever is under way ends without a verdict on the provider.
    pub(super) fn client_left(&mut self) -> Error {
        self.context.client_gone = true;
        let error = Error::new(ErrorKind::ClientGone, "The client closed the connection.");
        self.settle(Some(&error));
        error
    }

    /// Closes what is still under way, with this end.
    pub(super) fn settle(&mut self, error: Option<&Error>) {
        for trace in self.context.traces.iter_mut().filter(|trace| trace.took.is_none()) {
            self.gateway.close(trace, error.cloned(), self.admitted.call.head.stream);
        }
    }
}

/// Looks for candidates.
pub(super) struct Picker<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) snapshot: &'a Snapshot,
    pub(super) admitted: &'a Admitted,
}

impl Picker<'_> {
    /// The best candidate that is not tried, with its request.
    ///
    /// One that can't express the request is passed over without an attempt; when no other is left, its refusal is the answer.
    pub(super) fn pick(&self, tried: &mut Vec<u32>, refusal: &mut Option<Error>) -> Result<Box<Ready>, Nobody> {
        loop {
            let request = self.request(tried);
            let (choice, attempt) = self.admitted.group.select(&request)?;
            tried.push(u32::try_from(choice.candidate.slot).unwrap_or(u32::MAX));
            match Attempts::prepare(&self.admitted.call, &choice) {
                Ok(mut outgoing) => {
                    let (span_id, headers) = tell::child(&self.admitted.call.trace);
                    outgoing.headers.extend(headers);
                    let passed_over = self.admitted.group.passed_over(&request);
                    let reason = choice.reason.as_str();
                    self.gateway.metrics.routing.choices.with_label_values(&[request.strategy.as_str(), reason]).inc();
                    tracing::debug!(candidate = ?choice.candidate, reason, ?passed_over, "a candidate was chosen");
                    let trace = Trace::begin(attempt, choice.reason, passed_over, span_id);
                    return Ok(Box::new(Ready { choice, outgoing, trace }));
                }
                Err(error) => drop(refusal.get_or_insert(error)),
            }
        }
    }

    /// The request as a ranking sees it now.
    fn request(&self, tried: &[u32]) -> Request {
        let now = Instant::now();
        let left = self.admitted.call.deadline.saturating_duration_since(now);
        Request {
            now: self.gateway.moment(now),
            seed: rand::random(),
            left_ms: u64::try_from(left.as_millis()).ok(),
            tried: tried.to_vec(),
            ..self.admitted.request.clone()
        }
    }
}

impl Gateway {
    /// Closes one attempt: its time, its error, and what the balancer and the budgets learn from it.
    pub(super) fn close(&self, trace: &mut Trace, error: Option<Error>, stream: bool) {
        let over = Instant::now();
        let (now, took) = (self.moment(over), over.saturating_duration_since(trace.started));
        trace.took = Some(took);
        let outcome = Outcome {
            verdict: error.as_ref().map_or(Verdict::Success, Verdict::of),
            first: trace.first_content.filter(|_| stream),
            total: took,
            usage: trace.believed(),
            retry_after: error.as_ref().and_then(Error::retry_after),
            now,
            random: rand::random(),
        };
        if let Some(attempt) = trace.attempt.take() {
            report(&trace.candidate, attempt.record(&outcome), &self.metrics);
        }
        let provider = trace.candidate.credential.provider.name;
        match outcome.verdict {
            Verdict::Success => self.lasting.budgets.success(&trace.candidate.credential.workspace, now),
            Verdict::RateLimited => self.metrics.routing.cool_downs.with_label_values(&[provider]).inc(),
            _ => {}
        }
        trace.error = error;
        self.metrics.attempts.odd(provider, &trace.odd, trace.is_absurd());
        trace.let_go();
    }
}

/// Resolves when running requests must end.
pub(super) async fn halted(halt: &mut watch::Receiver<bool>) {
    if halt.wait_for(|halt| *halt).await.is_err() {
        // The gateway, which holds the sender, outlives its requests.
        std::future::pending().await
    }
}

pub(super) fn deadline_passed() -> Error {
    Error::new(ErrorKind::DeadlineExceeded, "The deadline of the request passed.")
}

/// Why no candidate can be asked at all.
fn no_candidate(nobody: Nobody) -> Error {
    match nobody {
        Nobody { wait: Some(wait), .. } => Error::new(
            ErrorKind::ProviderRateLimited,
            "Every provider that serves this model is rate limited; see Retry-After.",
        )
        .with_retry_after(wait),
        Nobody { refused: Some((refusal, provider)), .. } => {
            let (kind, what) = match refusal {
                Refusal::Key => (ErrorKind::ProviderKeyInvalid, "was refused"),
                Refusal::Quota => (ErrorKind::ProviderQuotaExhausted, "has used up its quota"),
            };
            let message = format!(
                "The credential that is stored for the provider '{provider}' {what}; it is not asked again until it is changed."
            );
            Error::new(kind, message).with_provider(provider)
        }
        _ => Error::new(ErrorKind::NoCandidate, "No provider that serves this model is available now."),
    }
}

/// Tells the operator what must be known: a credential that is out, a route that is left alone.
fn report(candidate: &Candidate, effect: Effect, metrics: &Metrics) {
    let (provider, credential, model) =
        (candidate.credential.provider.name, &candidate.credential.id, &candidate.model);
    if let Some(refusal) = effect.disabled {
        let reason = refusal.as_str();
        metrics.routing.credentials_disabled.with_label_values(&[provider, reason]).inc();
        tracing::error!(
            provider,
            credential,
            reason,
            "the provider refuses a credential; it is out until it is changed"
        );
    }
    if effect.opened {
        metrics.routing.routes_opened.with_label_values(&[provider]).inc();
        tracing::warn!(provider, credential, model, "a route fails and is left alone for a while");
    }
}
