//! What one request has come to so far: filled in as it goes, turned into one booking at its end.
//!
//! Invariant: every attempt that was started has a [`Trace`] in the list, whoever ended it; so nothing that reached a
//! provider can go unbooked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::life::Counted;
use super::routes::Route;
use crate::api::operation::Operation;
use crate::api::rope::Rope;
use crate::api::strategy::StrategyName;
use crate::balance::Candidate;
use crate::balance::attempt::Attempt;
use crate::balance::reason::Reason;
use crate::catalog::Catalog;
use crate::directory::Caller;
use crate::error::Error;
use crate::live::{Entry, Progress, Ticket};
use crate::meter::{Priced, Tariff, Used, Why, price};
use crate::metrics;
use crate::money::Money;
use crate::provider::Oddities;
use crate::quota::{Reservation, Standing};
use crate::shed::Permit;
use crate::store::{AttemptRecord, Booking};
use crate::telemetry::{Content, TraceContext};
use crate::usage::{Bill, Certainty, MOST_TOKENS, Usage, estimate_prompt, estimate_tokens};

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
    /// The prices that hold for it, whatever is loaded meanwhile.
    pub catalog: Option<Arc<Catalog>>,
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
    pub in_flight: Option<metrics::Held>,
    /// What is asked of a model; none for a request that is about something else.
    pub operation: Option<Operation>,
    /// How long it waited for others than providers: for the client's body, for a credential to cool down.
    pub waited: Duration,
    /// The retry budget did not allow another attempt.
    pub retries_spent: bool,
    /// The method that the path allows, for a 405.
    pub allow: Option<http::Method>,
    /// What it holds of the load that the gateway takes.
    pub permit: Option<Permit>,
    /// What it took of its limits, until it is booked.
    pub reservation: Option<Reservation>,
    /// The trace it belongs to.
    pub trace: Arc<TraceContext>,
    /// What it is for; none for an unknown path.
    pub route: Option<Route>,
    /// What was booked, to be told of at the end.
    pub record: Option<Booking>,
    /// What was said, where that is to be logged.
    pub content: Option<Content>,
    /// What is left of its limits, for the answer's head.
    pub standing: Standing,
    /// Its place among the requests under way, until it is booked.
    pub live: Option<Ticket>,
    /// Keeps the process from ending, until everything is over.
    pub under_way: Option<Counted>,
    /// Whether it is another process that answers it, and tells of it.
    pub passed_on: bool,
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

/// What a request costs, all its attempts together, as the ledger has it.
#[derive(Clone, Copy, Debug)]
pub struct Total {
    /// The sum.
    pub cost: Money,
    /// As sure as the least sure attempt.
    pub certainty: Certainty,
}

impl Total {
    /// Dollars as a decimal without loss; `None` where an attempt has no known price, as then no sum is true.
    pub fn cost_usd(&self) -> Option<String> {
        (self.certainty != Certainty::Unpriced).then(|| self.cost.decimal())
    }

    /// The member of a stream's usage chunk that tells it.
    pub fn member(&self) -> String {
        let cost = self.cost_usd().map_or_else(|| "null".to_owned(), |cost| format!("\"{cost}\""));
        format!(",\"perpetuo\":{{\"cost_usd\":{cost},\"cost_certainty\":\"{}\"}}", self.certainty.as_str())
    }
}

/// A prompt that may have reached a provider.
pub enum Sent {
    /// Until the attempt is closed.
    Body {
        /// The request's body.
        body: Rope,
        /// What this model's prompts had turned out to be of their estimates when it was sent.
        ratio: f64,
    },
    /// Its tokens, estimated where the provider counted none.
    Tokens(u64),
}

impl Sent {
    fn tokens(&self) -> u64 {
        match self {
            Self::Body { body, ratio } => (estimate_prompt(&body.whole()) as f64 * ratio).round() as u64,
            Self::Tokens(tokens) => *tokens,
        }
    }
}

/// One attempt. Written by the attempt itself, so that it tells the truth even when the attempt is dropped half-way.
pub struct Trace {
    /// Who was asked.
    pub candidate: Arc<Candidate>,
    /// What its span is called.
    pub span_id: u64,
    /// When it began.
    pub started: Instant,
    /// The prompt, once any of it may have reached the provider.
    pub sent: Option<Sent>,
    /// The provider's HTTP status.
    pub status: u16,
    /// What the provider calls the request.
    pub upstream_request_id: Option<String>,
    /// The newest figure of the provider.
    pub usage: Option<Usage>,
    /// What it says of the bill beside it.
    pub bill: Bill,
    /// What was wrong with its stream.
    pub odd: Oddities,
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
    pub fn begin(
        attempt: Attempt,
        reason: Reason,
        passed_over: Vec<(&'static str, &'static str)>,
        span_id: u64,
    ) -> Self {
        Self {
            candidate: Arc::clone(attempt.candidate()),
            span_id,
            started: Instant::now(),
            sent: None,
            status: 0,
            upstream_request_id: None,
            usage: None,
            bill: Bill::default(),
            odd: Oddities::default(),
            generated: 0,
            first_content: None,
            took: None,
            error: None,
            attempt: Some(attempt),
            reason,
            passed_over,
        }
    }

    /// Lets the body go, once its tokens are counted or estimated.
    pub fn let_go(&mut self) {
        let sent = self.sent.take().filter(|_| self.believed().is_none());
        self.sent = sent.map(|sent| Sent::Tokens(sent.tokens()));
    }

    /// The provider's figure, if it can be.
    pub fn believed(&self) -> Option<Usage> {
        self.usage.filter(|_| !self.is_absurd())
    }

    /// Whether the provider told a figure that can't be.
    pub fn is_absurd(&self) -> bool {
        self.bill.doubtful || self.usage.is_some_and(|usage| !usage.is_believable())
    }

    /// A figure that can't be, with what was counted from what passed in the place of its unbelievable halves.
    fn mended(&self, usage: Usage) -> Usage {
        let sound = |tokens| (1..=MOST_TOKENS).contains(&tokens);
        let prompt = if sound(usage.prompt_tokens()) {
            Usage { output: 0, reasoning: 0, audio_output: 0, image_output: 0, ..usage }
        } else {
            Usage { input: self.sent.as_ref().map_or(0, Sent::tokens), ..Usage::default() }
        };
        let output = if sound(usage.output) { usage.output } else { estimate_tokens(self.generated) };
        Usage { output, reasoning: usage.reasoning.min(output), ..prompt }
    }

    /// The tokens of the model that was asked, and why they are estimated, where the provider did not say so itself.
    fn tokens(&self) -> (Usage, Option<Why>) {
        let why = || Some(Why::no_figure(self.error.as_ref().map(Error::kind)));
        if self.is_absurd() {
            return (self.mended(self.usage.unwrap_or_default()), Some(Why::AbsurdFigure));
        }
        if let Some(usage) = self.usage {
            if self.error.is_none() || self.bill.closed {
                return (usage, None);
            }
            return (Usage { output: usage.output.max(estimate_tokens(self.generated)), ..usage }, why());
        }
        let Some(sent) = self.sent.as_ref().filter(|_| matches!(self.status, 0 | 200)) else {
            // A provider that refuses or fails with a status charges nothing, and says nothing about tokens.
            return (Usage::default(), None);
        };
        (Usage { input: sent.tokens(), output: estimate_tokens(self.generated), ..Usage::default() }, why())
    }

    /// What the attempt used, all models together, and what that cost at this time.
    fn priced(&self, date: Timestamp, catalog: Option<&Catalog>) -> (Usage, Priced) {
        let (mut usage, estimated) = self.tokens();
        let provider = self.candidate.credential.provider.name;
        let own = self.candidate.prices.as_ref().map(|prices| prices.at(date));
        let other = |model: &str| catalog?.price(provider, model).map(|prices| prices.at(date));
        let priced = price(&Used { usage: &usage, bill: &self.bill, estimated }, &Tariff { own, other: &other });
        self.bill.others.iter().for_each(|(_, more)| usage.add(more));
        (usage, priced)
    }

    fn record(&self, number: u32, date: Timestamp, catalog: Option<&Catalog>) -> AttemptRecord {
        let (usage, Priced { cost, certainty, source, why }) = self.priced(date, catalog);
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
            cost_source: source,
            why: why.map(|why| why.as_str().to_owned()),
            service_tier: self.bill.tier.as_str().map(str::to_owned),
            upstream_request_id: self.upstream_request_id.clone(),
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
            catalog: None,
            error: None,
            status: 0,
            first_content: None,
            client_gone: false,
            streaming: false,
            booked: false,
            in_flight: None,
            operation: None,
            waited: Duration::ZERO,
            retries_spent: false,
            allow: None,
            permit: None,
            reservation: None,
            trace: Arc::default(),
            route: None,
            record: None,
            content: None,
            standing: Standing::default(),
            live: None,
            under_way: None,
            passed_on: false,
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

    /// What the request costs so far, by the figures that would be booked now.
    pub fn total(&self) -> Total {
        let mut total = Total { cost: Money::ZERO, certainty: Certainty::Exact };
        for trace in &self.traces {
            let (_, priced) = trace.priced(self.created_at, self.catalog.as_deref());
            total.cost += priced.cost;
            total.certainty = match (total.certainty, priced.certainty) {
                (Certainty::Unpriced, _) | (_, Certainty::Unpriced) => Certainty::Unpriced,
                (Certainty::Estimated, _) | (_, Certainty::Estimated) => Certainty::Estimated,
                _ => Certainty::Exact,
            };
        }
        total
    }

    /// What the gateway itself took of the time up to now: without what attempts took, which may have run beside each other, and
    /// without waiting for somebody else.
    pub fn overhead(&self) -> Duration {
        let mut attempts: Vec<_> = self.traces.iter().filter_map(|trace| Some((trace.started, trace.took?))).collect();
        attempts.sort_unstable();
        let (mut upstream, mut until) = (Duration::ZERO, self.started);
        for (started, took) in attempts {
            let end = started + took;
            upstream += end.saturating_duration_since(started.max(until));
            until = until.max(end);
        }
        self.started.elapsed().saturating_sub(upstream).saturating_sub(self.waited)
    }

    /// What those who look at the requests under way may know of it, once it has an owner and a model.
    pub fn entry(&self) -> Option<Entry> {
        let (caller, asked) = (self.caller.clone()?, self.asked.as_ref()?);
        Some(Entry {
            request_id: self.request_id.clone(),
            caller,
            model: asked.model.clone(),
            strategy: asked.strategy,
            stream: asked.stream,
            created_at: self.created_at,
            started: self.started,
            progress: Progress::default(),
        })
    }

    /// Tells those who look.
    pub fn tell(&self, what: impl FnOnce(&Progress)) {
        if let Some(ticket) = &self.live {
            what(ticket.progress());
        }
    }

    /// The booking, for a request that got far enough to have an owner and a model. It is priced by what was valid when it came.
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
            operation: self.operation.unwrap_or_default(),
            status: if self.client_gone { 499 } else { self.status },
            error: self.error.as_ref().map(|error| error.kind().row().code.to_owned()),
            stream: asked.stream,
            client_gone: self.client_gone,
            latency_ms: millis(self.started.elapsed()),
            first_token_ms: self.first_content.map(millis),
            created_at: self.created_at,
            attempts: (1..)
                .zip(&self.traces)
                .map(|(number, trace)| trace.record(number, self.created_at, self.catalog.as_deref()))
                .collect(),
        })
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
