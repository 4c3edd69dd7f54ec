//! Requests as apps see them: how many, how they ended, how long they took. The gateway is the server here.

use std::array::from_fn;
use std::sync::OnceLock;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};

use super::labels::{self, Label, NO_PROVIDER, NONE, REASONS, Reason};
use super::make::{DURATION_BUCKETS, FIRST_TOKEN_BUCKETS, Maker, OUTPUT_TOKEN_BUCKETS, OVERHEAD_BUCKETS};
use super::names::{Name, Names};
use super::rows::Rows;
use super::{Held, seconds};
use crate::api::operation::Operation;
use crate::error::ErrorKind;
use crate::store::RequestRecord;

/// The labels that OpenTelemetry's metrics share.
pub(super) const GEN_AI: [&str; 3] = ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"];
/// The same, and why it failed.
pub(super) const GEN_AI_ERROR: [&str; 4] =
    ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "error_type"];

/// The metrics of requests.
pub struct Requests {
    requests: IntCounterVec,
    duration: HistogramVec,
    time_to_first_token: HistogramVec,
    time_per_output_token: HistogramVec,
    client_gone: IntCounter,
    in_flight: IntGauge,
    streams: IntGauge,
    /// What the gateway itself took of a request; fed by the proxy.
    pub overhead: Histogram,
    counted: Rows<(u32, Option<u8>, u8, u8, u8), IntCounter>,
    served: Rows<(Operation, u8, u32), Served>,
}

/// Handles of one operation, provider and model.
struct Served {
    labels: [String; 3],
    durations: [OnceLock<Histogram>; REASONS],
    time_to_first_token: OnceLock<Histogram>,
    time_per_output_token: OnceLock<Histogram>,
}

impl Served {
    fn new(labels: [&str; 3]) -> Self {
        Self {
            labels: labels.map(str::to_owned),
            durations: from_fn(|_| OnceLock::new()),
            time_to_first_token: OnceLock::new(),
            time_per_output_token: OnceLock::new(),
        }
    }
}

impl Requests {
    pub(super) fn create(maker: &Maker<'_>) -> prometheus::Result<Self> {
        let requests = Self {
            requests: maker.counters(
                "perpetuo_requests_total",
                "Requests to the chat and embeddings routes.",
                &["workspace", "strategy", "provider", "code", "reason", "fault"],
            )?,
            duration: maker.histograms(
                "gen_ai_server_request_duration_seconds",
                "Time of a request, all attempts included.",
                &GEN_AI_ERROR,
                &DURATION_BUCKETS,
            )?,
            time_to_first_token: maker.histograms(
                "gen_ai_server_time_to_first_token_seconds",
                "Time from a request's head to the first content of its stream.",
                &GEN_AI,
                &FIRST_TOKEN_BUCKETS,
            )?,
            time_per_output_token: maker.histograms(
                "gen_ai_server_time_per_output_token_seconds",
                "Mean time between output tokens after the first, of streams that came to their end.",
                &GEN_AI,
                &OUTPUT_TOKEN_BUCKETS,
            )?,
            client_gone: maker.counter("perpetuo_client_gone_total", "Requests whose client left before the end.")?,
            in_flight: maker.gauge("perpetuo_inflight_requests", "Requests being served now.")?,
            streams: maker.gauge("perpetuo_inflight_streams", "Streams being sent now.")?,
            overhead: maker.histogram(
                "perpetuo_overhead_seconds",
                "Time the gateway itself took of a request.",
                &OVERHEAD_BUCKETS,
            )?,
            counted: Rows::default(),
            served: Rows::default(),
        };
        requests.start_at_zero();
        Ok(requests)
    }

    /// What can refuse a request before it is known whose it is.
    fn start_at_zero(&self) {
        for row in ErrorKind::ALL.map(ErrorKind::row).iter().filter(|row| row.source != crate::error::Source::Provider)
        {
            let (code, fault) = (labels::status(row.status).text, row.fault().as_str());
            self.requests.with_label_values(&[NONE, NONE, NONE, code, row.reason, fault]);
        }
    }

    /// Counts a request as being served until the guard is dropped.
    pub fn in_flight(&self) -> Held {
        Held::one(&self.in_flight)
    }

    /// How many are being served now.
    pub fn count_in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    /// How many were counted.
    #[cfg(test)]
    pub(crate) fn in_all(&self) -> u64 {
        let families = prometheus::core::Collector::collect(&self.requests);
        families.iter().flat_map(|family| family.get_metric()).map(|one| one.get_counter().get_value() as u64).sum()
    }

    /// Counts a stream as being sent until the guard is dropped.
    pub fn streaming(&self) -> Held {
        Held::one(&self.streams)
    }

    /// Counts a request that was refused before it was known what it asks for, so that the ledger has no row of it.
    pub(super) fn refused(&self, names: &Names, workspace: Name<'_>, status: u16, error: Option<ErrorKind>) {
        let reason = labels::reason(error.map(|kind| kind.row().code));
        self.count(names, workspace, None, NO_PROVIDER, (labels::status(status), reason));
    }

    pub(super) fn observe(&self, names: &Names, workspace: Name<'_>, model: Name<'_>, record: &RequestRecord) {
        let provider = record.provider.as_deref().map_or(NO_PROVIDER, labels::provider);
        let reason = labels::reason(record.error.as_deref());
        self.count(names, workspace, Some(record), provider, (labels::status(record.status), reason));
        if record.client_gone {
            self.client_gone.inc();
        }
        let operation = record.operation;
        let make = || Served::new([operation.as_str(), provider.text, model.text]);
        self.served.with((operation, provider.place, model.number), usize::MAX, make, |served| {
            self.time(served, record, reason);
        });
    }

    fn count(
        &self,
        names: &Names,
        workspace: Name<'_>,
        record: Option<&RequestRecord>,
        provider: Label,
        (code, reason): (Label, Reason),
    ) {
        let strategy = record.map(|record| record.strategy);
        let word = strategy.map_or(NONE, |strategy| strategy.as_str());
        let make = |workspace| {
            self.requests.with_label_values(&[
                workspace,
                word,
                provider.text,
                code.text,
                reason.label.text,
                reason.fault,
            ])
        };
        let key = |workspace: Name<'_>| {
            (workspace.number, strategy.map(|strategy| strategy as u8), provider.place, code.place, reason.label.place)
        };
        let own = self.counted.with(key(workspace), names.request_room(), || make(workspace.text), IntCounter::inc);
        if own.is_none() {
            let other = names.no_room();
            self.counted.with(key(other), usize::MAX, || make(other.text), IntCounter::inc);
        }
    }

    fn time(&self, served: &Served, record: &RequestRecord, reason: Reason) {
        let [operation, provider, model] = served.labels.each_ref().map(String::as_str);
        if let Some(cell) = served.durations.get(usize::from(reason.label.place)) {
            let error = labels::error_type(reason);
            let make = || self.duration.with_label_values(&[operation, provider, model, error]);
            cell.get_or_init(make).observe(seconds(record.latency_ms));
        }
        let labels = [operation, provider, model];
        if let Some(first) = record.first_token_ms.filter(|_| record.stream) {
            let make = || self.time_to_first_token.with_label_values(&labels);
            served.time_to_first_token.get_or_init(make).observe(seconds(first));
        }
        if let Some(pace) = time_per_output_token(record) {
            let make = || self.time_per_output_token.with_label_values(&labels);
            served.time_per_output_token.get_or_init(make).observe(pace);
        }
    }
}

/// Seconds a token after the first one of a stream that came to its end.
fn time_per_output_token(record: &RequestRecord) -> Option<f64> {
    let first = record.first_token_ms.filter(|_| record.stream && record.error.is_none())?;
    let answered = record.attempts.last()?;
    let tokens = answered.usage.output.checked_sub(1).filter(|tokens| *tokens > 0)?;
    Some(seconds(record.latency_ms.saturating_sub(first)) / tokens as f64)
}
