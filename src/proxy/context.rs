//! What one request has come to so far: filled in as it goes, turned into one booking at its end.
//!
//! Invariant: every attempt that was started has a [`Trace`] in the list, whoever ended it; so nothing that reached a
//! provider can go unbooked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::life::Counted;
use crate::api::strategy::StrategyName;
use crate::balance::Candidate;
use crate::balance::attempt::Attempt;
use crate::balance::reason::Reason;
use crate::directory::Caller;
use crate::error::Error;
use crate::quota::{Reservation, Standing};
use crate::shed::Permit;
use crate::store::{AttemptRecord, Booking};
use crate::usage::{Usage, estimate_tokens};
use crate::{meter, metrics};

/// One request.
pub struct RequestContext {
    /// The answer's `x-request-id`.
    pub request_id: String,
    /// When its head was read.
    pub started: Instant,
    /// The same, on the wall clock.
    pub created_at: Timestamp,
    /// Who asks; none until the key was checked.
    pub caller: Option<Caller>,
    /// What is asked for; none until the body was read.
    pub asked: Option<Asked>,
    /// The attempts, in order.
    pub traces: Vec<Trace>,
    /// What the client was told, or would have been.
    pub error: Option<Error>,
    /// The status that the client saw.
    pub status: u16,
    /// When the first content went to the client.
    pub first_content: Option<Duration>,
    /// The client left before the end.
    pub client_gone: bool,
    /// The answer is a stream whose head has been written.
    pub streaming: bool,
    /// The ledger has it.
    pub booked: bool,
    /// Counts the request as being served until it is booked and answered.
    pub in_flight: Option<metrics::InFlight>,
    /// The retry budget did not allow another attempt.
    pub retries_spent: bool,
    /// The method that the path allows, for a 405.
    pub allow: Option<http::Method>,
    /// What it holds of the load that the gateway takes.
    pub permit: Option<Permit>,
    /// What it took of its limits, until it is booked.
    pub reservation: Option<Reservation>,
    /// What is left of its limits, for the answer's head.
    pub standing: Standing,
    /// Keeps the process from ending, until everything is over.
    pub under_way: Option<Counted>,
}

/// What a request asks for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The model as the client named it.
    pub model: String,
    /// The strategy that holds for it.
    pub strategy: StrategyName,
    /// Whether it wants a stream.
    pub stream: bool,
}

/// One attempt. Written by the attempt itself, so that it tells the truth even when the attempt is dropped half-way.
pub struct Trace {
    /// Who was asked.
    pub candidate: Arc<Candidate>,
    /// When it began.
    pub started: Instant,
    /// Bytes of the request body, once any of it may have reached the provider.
    pub sent_bytes: Option<u64>,
    /// The provider's HTTP status.
    pub status: u16,
    /// The newest figure of the provider.
    pub usage: Option<Usage>,
    /// Bytes of generated text that came.
    pub generated: u64,
    /// From the start to the first content.
    pub first_content: Option<Duration>,
    /// How long it took, once it ended.
    pub took: Option<Duration>,
    /// Why it failed.
    pub error: Option<Error>,
    /// The attempt as the balancer sees it, until it was told how it ended.
    pub attempt: Option<Attempt>,
    /// Why this candidate.
    pub reason: Reason,
    /// Who could not be asked then, and why.
    pub passed_over: Vec<(&'static str, &'static str)>,
}

impl Trace {
    /// An attempt that begins now.
    pub fn begin(attempt: Attempt, reason: Reason, passed_over: Vec<(&'static str, &'static str)>) -> Self {
        Self {
            candidate: Arc::clone(attempt.candidate()),
            started: Instant::now(),
            sent_bytes: None,
            status: 0,
            usage: None,
            generated: 0,
            first_content: None,
            took: None,
            error: None,
            attempt: Some(attempt),
            reason,
            passed_over,
        }
    }

    /// The tokens to book, and whether the provider said so itself.
    fn tokens(&self) -> (Usage, bool) {
        if let Some(usage) = self.usage {
            let cut_short = self.error.is_some() && self.generated > 0;
            let output = if cut_short { usage.output.max(estimate_tokens(self.generated)) } else { usage.output };
            return (Usage { output, ..usage }, !cut_short);
        }
        let billable = (self.status == 200 || self.status == 0) && self.sent_bytes.is_some();
        if !billable {
            // A provider that refuses or fails with a status charges nothing, and says nothing about tokens.
            return (Usage::default(), true);
        }
        let input = estimate_tokens(self.sent_bytes.unwrap_or_default());
        (Usage { input, output: estimate_tokens(self.generated), ..Usage::default() }, false)
    }

    fn record(&self, number: u32) -> AttemptRecord {
        let (usage, exact) = self.tokens();
        let (cost, certainty) = meter::price(&usage, self.candidate.prices.as_ref(), exact);
        AttemptRecord {
            number,
            provider: self.candidate.credential.provider.name.to_owned(),
            credential: self.candidate.credential.id.clone(),
            model: self.candidate.model.clone(),
            status: self.status,
            error: self.error.as_ref().map(|error| error.kind().row().code.to_owned()),
            usage,
            cost,
            certainty,
            latency_ms: millis(self.took.unwrap_or_else(|| self.started.elapsed())),
            first_token_ms: self.first_content.map(millis),
            reason: Some(self.reason.as_str().to_owned()),
            passed_over: self.passed_over.iter().map(|(who, why)| format!("{who}:{why}")).collect(),
        }
    }
}

impl RequestContext {
    /// A request whose head was just read.
    pub fn begin() -> Self {
        Self {
            request_id: String::new(),
            started: Instant::now(),
            created_at: Timestamp::now(),
            caller: None,
            asked: None,
            traces: Vec::new(),
            error: None,
            status: 0,
            first_content: None,
            client_gone: false,
            streaming: false,
            booked: false,
            in_flight: None,
            retries_spent: false,
            allow: None,
            permit: None,
            reservation: None,
            standing: Standing::default(),
            under_way: None,
        }
    }

    /// Attempts that have begun.
    pub fn attempts(&self) -> u32 {
        u32::try_from(self.traces.len()).unwrap_or(u32::MAX)
    }

    /// Whose request it is; empty until the key was checked.
    pub fn workspace(&self) -> &str {
        self.caller.as_ref().map_or("", |caller| &caller.workspace.id)
    }

    /// The booking, for a request that got far enough to have an owner and a model.
    pub fn booking(&self) -> Option<Booking> {
        let (caller, asked) = (self.caller.as_ref()?, self.asked.as_ref()?);
        let last = self.traces.last();
        Some(Booking {
            request_id: self.request_id.clone(),
            workspace: caller.workspace.id.clone(),
            key: caller.key.id.clone(),
            model: asked.model.clone(),
            model_served: last.map(|trace| trace.candidate.model.clone()),
            provider: last.map(|trace| trace.candidate.credential.provider.name.to_owned()),
            strategy: asked.strategy,
            status: if self.client_gone { 499 } else { self.status },
            error: self.error.as_ref().map(|error| error.kind().row().code.to_owned()),
            stream: asked.stream,
            client_gone: self.client_gone,
            latency_ms: millis(self.started.elapsed()),
            first_token_ms: self.first_content.map(millis),
            created_at: self.created_at,
            attempts: (1..).zip(&self.traces).map(|(number, trace)| trace.record(number)).collect(),
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
