//! Attempts at providers: how they ended and how long they took, and what had to be done again. The gateway is the client here.

use std::array::from_fn;
use std::sync::OnceLock;

use prometheus::{Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec};

use super::labels::{self, Label, REASONS};
use super::make::{CONNECT_BUCKETS, DURATION_BUCKETS, FIRST_TOKEN_BUCKETS, Maker, OUTPUT_TOKEN_BUCKETS, TOKEN_BUCKETS};
use super::names::Name;
use super::requests::{GEN_AI, GEN_AI_ERROR};
use super::rows::Rows;
use super::seconds;
use crate::api::operation::Operation;
use crate::error::{ErrorKind, Source};
use crate::provider::{Oddities, PROVIDERS};
use crate::store::{AttemptRecord, RequestRecord};

/// How a hedge can end.
pub(super) const HEDGES: [&str; 2] = ["won", "lost"];
/// Where a connection comes from.
pub(super) const CONNECTIONS: [&str; 3] = ["new", "reused", "failed"];

/// What can be wrong with an answer that is served all the same.
pub(super) const ODDITIES: [&str; 4] = ["missing_finish_reason", "invalid_json", "invalid_utf8", "absurd_usage"];

/// The metrics of attempts.
pub struct Attempts {
    attempts: IntCounterVec,
    duration: HistogramVec,
    time_to_first_chunk: HistogramVec,
    time_per_output_chunk: HistogramVec,
    token_usage: HistogramVec,
    retries: IntCounterVec,
    fallbacks: IntCounterVec,
    truncated: IntCounterVec,
    /// Hedges, by `result`; fed by the proxy.
    pub hedges: IntCounterVec,
    /// Retries that the budget did not allow; fed by the proxy.
    pub retry_budget_exhausted: IntCounter,
    /// Retries that the budget of the process allows; fed when the metrics are read.
    pub retry_budget_level: Gauge,
    /// Parameters that a translation dropped or changed, by `provider`; fed by the proxy.
    pub warnings: IntCounterVec,
    oddities: IntCounterVec,
    connections: IntCounterVec,
    taken: Rows<(u8, usize), IntCounter>,
    /// Time to make a connection, by `tls`; fed by the proxy.
    connect: [Histogram; 2],
    tried: Rows<(Operation, u8, u32), Tried>,
}

/// Whose handles these are: an operation, a provider, a model.
#[derive(Clone, Copy)]
pub(super) struct Route<'a> {
    pub(super) operation: Operation,
    pub(super) provider: Label,
    pub(super) model: Name<'a>,
}

/// The handles of a route.
struct Tried {
    labels: [String; 3],
    outcomes: [OnceLock<IntCounter>; REASONS],
    durations: [OnceLock<Histogram>; REASONS],
    time_to_first_chunk: OnceLock<Histogram>,
    time_per_output_chunk: OnceLock<Histogram>,
    input: OnceLock<Histogram>,
    output: OnceLock<Histogram>,
}

impl Tried {
    fn new(route: Route<'_>) -> Self {
        Self {
            labels: [route.operation.as_str(), route.provider.text, route.model.text].map(str::to_owned),
            outcomes: from_fn(|_| OnceLock::new()),
            durations: from_fn(|_| OnceLock::new()),
            time_to_first_chunk: OnceLock::new(),
            time_per_output_chunk: OnceLock::new(),
            input: OnceLock::new(),
            output: OnceLock::new(),
        }
    }

    fn labels(&self) -> [&str; 3] {
        self.labels.each_ref().map(String::as_str)
    }
}

impl Attempts {
    pub(super) fn create(maker: &Maker<'_>) -> prometheus::Result<Self> {
        const PROVIDER: &[&str] = &["provider"];
        let connect = maker.histograms(
            "perpetuo_upstream_connect_seconds",
            "Time to make a new connection, TLS handshake included.",
            &["tls"],
            &CONNECT_BUCKETS,
        )?;
        let attempts = Self {
            attempts: maker.counters(
                "perpetuo_attempts_total",
                "Attempts at providers.",
                &["provider", "model", "outcome"],
            )?,
            duration: maker.histograms(
                "gen_ai_client_operation_duration_seconds",
                "Time of an attempt at a provider.",
                &GEN_AI_ERROR,
                &DURATION_BUCKETS,
            )?,
            time_to_first_chunk: maker.histograms(
                "gen_ai_client_operation_time_to_first_chunk_seconds",
                "Time from sending a request to the first content of a stream.",
                &GEN_AI,
                &FIRST_TOKEN_BUCKETS,
            )?,
            time_per_output_chunk: maker.histograms(
                "gen_ai_client_operation_time_per_output_chunk_seconds",
                "Time between two chunks of a stream.",
                &GEN_AI,
                &OUTPUT_TOKEN_BUCKETS,
            )?,
            token_usage: maker.histograms(
                "gen_ai_client_token_usage",
                "Tokens of an attempt.",
                &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_token_type"],
                &TOKEN_BUCKETS,
            )?,
            retries: maker.counters(
                "perpetuo_retries_total",
                "Attempts that another attempt had to follow, by why they failed.",
                &["reason"],
            )?,
            fallbacks: maker.counters(
                "perpetuo_fallbacks_total",
                "Attempts that an attempt at another credential followed, by the provider that was left.",
                PROVIDER,
            )?,
            truncated: maker.counters(
                "perpetuo_stream_truncated_total",
                "Attempts whose answer ended before it was complete.",
                PROVIDER,
            )?,
            hedges: maker.counters("perpetuo_hedges_total", "Second attempts beside a slow first one.", &["result"])?,
            retry_budget_exhausted: maker
                .counter("perpetuo_retry_budget_exhausted_total", "Retries that the retry budget did not allow.")?,
            retry_budget_level: maker
                .level("perpetuo_retry_budget_level", "Retries that the budget of the process allows now.")?,
            warnings: maker.counters(
                "perpetuo_warnings_total",
                "Parameters that a translation had to drop or change.",
                PROVIDER,
            )?,
            oddities: maker.counters(
                "perpetuo_oddities_total",
                "What was wrong with answers that were served all the same.",
                &["provider", "reason"],
            )?,
            connections: maker.counters(
                "perpetuo_upstream_connections_total",
                "Connections taken for attempts: made anew, from the pool, or not to be had.",
                &["provider", "kind"],
            )?,
            connect: ["no", "yes"].map(|tls| connect.with_label_values(&[tls])),
            taken: Rows::default(),
            tried: Rows::default(),
        };
        attempts.start_at_zero();
        Ok(attempts)
    }

    fn start_at_zero(&self) {
        for result in HEDGES {
            self.hedges.with_label_values(&[result]);
        }
        for row in
            ErrorKind::ALL.map(ErrorKind::row).iter().filter(|row| row.source == Source::Provider && row.retryable)
        {
            self.retries.with_label_values(&[row.reason]);
        }
        for provider in PROVIDERS.iter().map(|provider| provider.name) {
            for counter in [&self.fallbacks, &self.truncated, &self.warnings] {
                counter.with_label_values(&[provider]);
            }
            for reason in ODDITIES {
                self.oddities.with_label_values(&[provider, reason]);
            }
        }
    }

    /// Counts what was wrong with an answer that was served all the same, and whether its usage could not be believed.
    pub fn odd(&self, provider: &str, odd: &Oddities, usage: bool) {
        let Oddities { missing_finish, invalid_json, invalid_utf8 } = *odd;
        let counts = [missing_finish, invalid_json, invalid_utf8, u64::from(usage)];
        for (reason, count) in ODDITIES.into_iter().zip(counts).filter(|(_, count)| *count > 0) {
            self.oddities.with_label_values(&[labels::provider(provider).text, reason]).inc_by(count);
        }
    }

    /// The histogram of the time between the chunks of a stream; to be held as long as the stream lasts.
    pub(super) fn time_per_output_chunk(&self, route: Route<'_>) -> Option<Histogram> {
        self.with(route, |tried| {
            let make = || self.time_per_output_chunk.with_label_values(&tried.labels());
            tried.time_per_output_chunk.get_or_init(make).clone()
        })
    }

    /// A connection to a provider was taken from the pool, or made in this time; none could be had without either.
    pub fn connected(&self, provider: &str, taken: Connection) {
        let place = match taken {
            Connection::New { tls, seconds } => {
                let [plain, encrypted] = &self.connect;
                if tls { encrypted } else { plain }.observe(seconds);
                0
            }
            Connection::Reused => 1,
            Connection::Failed => 2,
        };
        let (provider, kind) = (labels::provider(provider), CONNECTIONS.get(place).copied().unwrap_or(labels::OTHER));
        let series = |kind| self.connections.with_label_values(&[provider.text, kind]);
        let make = || {
            // A provider's series begin together, so that the first of each kind is a rise from zero.
            for kind in CONNECTIONS {
                series(kind);
            }
            series(kind)
        };
        self.taken.with((provider.place, place), usize::MAX, make, IntCounter::inc);
    }

    pub(super) fn observe(&self, route: Route<'_>, record: &RequestRecord, attempt: &AttemptRecord) {
        let reason = labels::reason(attempt.error.as_deref());
        if attempt.error.as_deref() == Some(ErrorKind::StreamTruncated.row().code) {
            self.truncated.with_label_values(&[route.provider.text]).inc();
        }
        self.with(route, |tried| {
            let [operation, provider, model] = tried.labels();
            let place = usize::from(reason.label.place);
            if let (Some(outcome), Some(duration)) = (tried.outcomes.get(place), tried.durations.get(place)) {
                let word = reason.label.text;
                outcome.get_or_init(|| self.attempts.with_label_values(&[provider, model, word])).inc();
                let labels = [operation, provider, model, labels::error_type(reason)];
                let make = || self.duration.with_label_values(&labels);
                duration.get_or_init(make).observe(seconds(attempt.latency_ms));
            }
            if let Some(first) = attempt.first_token_ms.filter(|_| record.stream) {
                let make = || self.time_to_first_chunk.with_label_values(&tried.labels());
                tried.time_to_first_chunk.get_or_init(make).observe(seconds(first));
            }
            self.observe_usage(tried, attempt);
        });
    }

    /// An attempt without tokens, most often a failed one, says nothing about how large requests are.
    fn observe_usage(&self, tried: &Tried, attempt: &AttemptRecord) {
        let usage = &attempt.usage;
        if usage.total_tokens() == 0 {
            return;
        }
        let [operation, provider, model] = tried.labels();
        let make = |kind| self.token_usage.with_label_values(&[operation, provider, model, kind]);
        tried.input.get_or_init(|| make("input")).observe(usage.prompt_tokens() as f64);
        tried.output.get_or_init(|| make("output")).observe(usage.output as f64);
    }

    /// A retry is an attempt after one that failed; a fallback is one at another credential. A hedge that was lost is neither.
    pub(super) fn observe_retries(&self, attempts: &[AttemptRecord]) {
        for pair in attempts.windows(2) {
            let [left, next] = pair else { continue };
            let Some(code) = left.error.as_deref().filter(|code| *code != ErrorKind::HedgeLost.row().code) else {
                continue;
            };
            self.retries.with_label_values(&[labels::reason(Some(code)).label.text]).inc();
            if (&left.provider, &left.credential) != (&next.provider, &next.credential) {
                self.fallbacks.with_label_values(&[labels::provider(&left.provider).text]).inc();
            }
        }
    }

    fn with<R>(&self, route: Route<'_>, then: impl FnOnce(&Tried) -> R) -> Option<R> {
        let key = (route.operation, route.provider.place, route.model.number);
        // Names are bounded, and so are these.
        self.tried.with(key, usize::MAX, || Tried::new(route), then)
    }
}

/// Where a connection came from.
#[derive(Clone, Copy, Debug)]
pub enum Connection {
    /// Made anew.
    New {
        /// Whether there was a TLS handshake.
        tls: bool,
        /// How long that took, in seconds.
        seconds: f64,
    },
    /// From the pool.
    Reused,
    /// Not to be had.
    Failed,
}
