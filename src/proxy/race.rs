//! One round of the loop: one attempt, and where the workspace wants it a hedge beside it, until one of them has content.
//!
//! A hedge is a second attempt at another candidate, begun when the first one takes longer for its first token than 19 of 20
//! requests do there. Who has content first is committed; the other is cancelled, and its cost is booked as estimated.
//! Invariants: hedges end at the commit point; both attempts are in the context's list when the round is over, the winner last.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use super::attempt::{Call, Started};
use super::context::{RequestContext, Trace};
use super::serve::{Picker, Serving, halted};
use super::{Snapshot, shutting_down};
use crate::balance::Moment;
use crate::balance::group::Choice;
use crate::catalog::Kind;
use crate::error::{Error, ErrorKind, Result};
use crate::provider::Outgoing;

/// An attempt that can begin.
pub(super) struct Ready {
    pub(super) choice: Choice,
    pub(super) outgoing: Outgoing,
    pub(super) trace: Trace,
}

/// How one round of the loop ended.
pub(super) enum Round {
    /// There is content.
    Content(Started, Outgoing),
    /// Nobody had any; the error says whether another candidate may be tried.
    Failed(Error),
    /// The client left.
    Gone,
}

/// How a race ended.
enum Raced {
    /// The first attempt has content; why the hedge had failed by then, if it had.
    First(Started, Option<Error>),
    /// The hedge has content; why the first attempt had failed by then, if it had.
    Hedge(Started, Option<Error>),
    /// Each attempt that began failed.
    Failed { first: Error, hedge: Option<Error> },
}

/// Why a round ended.
enum Ended {
    Raced(Raced),
    Gone,
    Halted,
}

impl Serving<'_, '_> {
    /// One round, raced against the client's leaving.
    pub(super) async fn round(&mut self, mut first: Box<Ready>, tried: &mut Vec<u32>) -> Round {
        let Self { gateway, snapshot, admitted, client, context } = self;
        context.tell(|progress| progress.attempt(context.attempts() + 1, &first.choice.candidate));
        let picker = Picker { gateway, snapshot, admitted };
        let due = hedge_due(context, &picker, &first);
        let mut hedge = None;
        let more = context.traces.len() + 1 < admitted.group.candidates().len();
        let mut halt = gateway.halt.subscribe();
        let limits = Limits { call: &admitted.call, snapshot, now: gateway.now(), more };
        let ended = tokio::select! {
            biased;
            _ = client.left() => Ended::Gone,
            () = halted(&mut halt) => Ended::Halted,
            raced = race(&limits, &mut first, &mut hedge, due, || picker.hedge(context, tried)) => Ended::Raced(raced),
        };
        self.gather(ended, first, hedge)
    }

    /// Puts the attempts into the context, closed but for the winner.
    fn gather(&mut self, ended: Ended, mut first: Box<Ready>, mut hedge: Option<Box<Ready>>) -> Round {
        let stream = self.admitted.call.head.stream;
        let lost = || Error::new(ErrorKind::HedgeLost, "Another provider had content earlier.");
        let count = |result| self.gateway.metrics.attempts.hedges.with_label_values(&[result]).inc();
        if hedge.is_some() {
            count(if matches!(ended, Ended::Raced(Raced::Hedge(..))) { "won" } else { "lost" });
        }
        let round = match ended {
            Ended::Raced(Raced::First(started, failed)) => {
                if let Some(hedge) = &mut hedge {
                    self.gateway.close(&mut hedge.trace, Some(failed.unwrap_or_else(lost)), stream);
                }
                self.context.traces.extend(hedge.map(|hedge| hedge.trace));
                self.context.traces.push(first.trace);
                return Round::Content(started, first.outgoing);
            }
            Ended::Raced(Raced::Hedge(started, failed)) => {
                self.gateway.close(&mut first.trace, Some(failed.unwrap_or_else(lost)), stream);
                self.context.traces.push(first.trace);
                let Some(hedge) = hedge else { return Round::Failed(Error::internal("a race without its winner")) };
                self.context.traces.push(hedge.trace);
                return Round::Content(started, hedge.outgoing);
            }
            Ended::Raced(Raced::Failed { first: error, hedge: other }) => {
                self.gateway.close(&mut first.trace, Some(error.clone()), stream);
                if let (Some(hedge), Some(other)) = (&mut hedge, other) {
                    self.gateway.close(&mut hedge.trace, Some(other), stream);
                }
                Round::Failed(error)
            }
            Ended::Gone => Round::Gone,
            Ended::Halted => {
                let error = shutting_down();
                for ready in std::iter::once(&mut first).chain(&mut hedge) {
                    self.gateway.close(&mut ready.trace, Some(error.clone()), stream);
                }
                Round::Failed(error)
            }
        };
        self.context.traces.push(first.trace);
        self.context.traces.extend(hedge.map(|hedge| hedge.trace));
        round
    }
}

/// When a hedge is due, if one may be.
fn hedge_due(context: &RequestContext, picker: &Picker<'_>, first: &Ready) -> Option<Duration> {
    let wanted = context.caller.as_ref().is_some_and(|caller| caller.workspace.hedging);
    let call = &picker.admitted.call;
    let streams = call.head.stream && call.kind == Kind::Chat;
    let room = context.attempts() + 2 <= picker.snapshot.config.retry.max_attempts;
    if wanted && streams && room { first.choice.candidate.stats.p95_first_token() } else { None }
}

impl Picker<'_> {
    /// Another candidate, paid for by the hedging budget.
    fn hedge(&self, context: &RequestContext, tried: &mut Vec<u32>) -> Option<Box<Ready>> {
        let ready = self.pick(tried, &mut None).ok()?;
        let granted = self.gateway.lasting.budgets.hedge(context.workspace(), self.gateway.now());
        if !granted {
            // It was not asked, so a later round may.
            tried.pop();
        }
        if granted {
            context.tell(|progress| progress.attempt(context.attempts() + 2, &ready.choice.candidate));
        }
        granted.then_some(ready)
    }
}

/// What bounds the attempts of a request.
struct Limits<'a> {
    call: &'a Call,
    snapshot: &'a Snapshot,
    now: Moment,
    /// Others can follow.
    more: bool,
}

impl Limits<'_> {
    /// On the heap: what holds it stays small, and is moved more than once.
    fn run<'r>(&'r self, ready: &'r mut Ready) -> Pin<Box<impl Future<Output = Result<Started>> + 'r>> {
        let Ready { choice, outgoing, trace } = ready;
        let limit = self.limit(choice);
        Box::pin(self.snapshot.attempts.run(self.call, choice, outgoing, trace, limit))
    }

    /// The time until the first content: what the route's own history allows, and a share of what is left of the deadline.
    fn limit(&self, choice: &Choice) -> Duration {
        let left = self.call.deadline.saturating_duration_since(Instant::now());
        // An attempt that others can follow must leave them time.
        let share = if self.more { left / 2 } else { left };
        let most = self.snapshot.config.timeouts.first_token;
        // The head of an answer that comes whole says nothing about first tokens, nor they about it.
        let usual =
            if self.call.head.stream { choice.candidate.stats.first_token_timeout(most, self.now) } else { most };
        share.min(usual)
    }
}

/// Runs the first attempt, and once it is due a hedge beside it, which `hedge` brings.
async fn race(
    limits: &Limits<'_>,
    first: &mut Ready,
    slot: &mut Option<Box<Ready>>,
    due: Option<Duration>,
    hedge: impl FnOnce() -> Option<Box<Ready>>,
) -> Raced {
    let mut one = limits.run(first);
    if let Some(due) = due {
        tokio::select! {
            biased;
            result = &mut one => return alone(result),
            () = tokio::time::sleep(due) => {}
        }
        if let Some(second) = hedge() {
            let two = limits.run(slot.insert(second));
            return both(one, two).await;
        }
    }
    alone(one.await)
}

fn alone(result: Result<Started>) -> Raced {
    match result {
        Ok(started) => Raced::First(started, None),
        Err(first) => Raced::Failed { first, hedge: None },
    }
}

/// The first of two that has content; one that fails leaves the field to the other.
async fn both(
    mut one: impl Future<Output = Result<Started>> + Unpin,
    mut two: impl Future<Output = Result<Started>> + Unpin,
) -> Raced {
    let (mut first, mut hedge) = (None, None);
    loop {
        tokio::select! {
            biased;
            result = &mut one, if first.is_none() => match result {
                Ok(started) => return Raced::First(started, hedge),
                Err(error) => first = Some(error),
            },
            result = &mut two, if hedge.is_none() => match result {
                Ok(started) => return Raced::Hedge(started, first),
                Err(error) => hedge = Some(error),
            },
        }
        if let (Some(_), Some(_)) = (&first, &hedge) {
            let first = first.unwrap_or_else(|| Error::internal("an attempt without its error"));
            return Raced::Failed { first, hedge };
        }
    }
}
