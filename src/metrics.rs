//! Every metric, each a field of [`Metrics`], registered on the registry it is given.
//!
//! Not here: where they are served (`proxy`), what a booking is (`meter`). Names are OpenTelemetry's where it has one, else
//! begin with `perpetuo_`. Invariants: labels come from closed sets (provider names, codes of the error table, strategies),
//! so the number of series is bounded whatever clients send; a booking becomes metrics in [`Metrics::observe`] only.

mod control;
mod telemetry;

use prometheus::core::Collector;
use prometheus::{
    CounterVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::api::strategy::StrategyName;
use crate::error::{Error, ErrorKind, Result, Source};
use crate::provider::{self, PROVIDERS};
use crate::store::{AttemptRecord, RequestRecord};
use crate::usage::Certainty;
pub use control::Control;
pub use telemetry::Telemetry;

/// The label of a provider that is none of ours.
const OTHER: &str = "other";
/// The label of a request that no provider saw.
const NONE: &str = "none";
/// The label of what did not fail.
const OK: &str = "ok";
/// The kinds of billed tokens; they do not overlap.
const TOKEN_TYPES: [&str; 4] = ["input", "cached_read", "cache_write", "output"];

const TOKEN_BUCKETS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
const DURATION_BUCKETS: [f64; 17] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68, 655.36];
const FIRST_TOKEN_BUCKETS: [f64; 22] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.48, 40.96, 81.92,
    163.84, 327.68, 655.36,
];
const OUTPUT_TOKEN_BUCKETS: [f64; 15] =
    [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0];
const OVERHEAD_BUCKETS: [f64; 14] =
    [0.000_05, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];
const COMMIT_BUCKETS: [f64; 12] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];

/// The metrics. What [`Metrics::observe`] does not feed is fed where it happens, through the field.
#[derive(Clone)]
pub struct Metrics {
    /// Tokens of an attempt, by `gen_ai_provider_name` and `gen_ai_token_type`.
    pub client_token_usage: HistogramVec,
    /// Time of an attempt, by `gen_ai_provider_name`.
    pub client_operation_duration: HistogramVec,
    /// Time of a request, by `gen_ai_provider_name`.
    pub server_request_duration: HistogramVec,
    /// Time to the first token of a request, by `gen_ai_provider_name`.
    pub server_time_to_first_token: HistogramVec,
    /// Time between tokens after the first one of a request, by `gen_ai_provider_name`.
    pub server_time_per_output_token: HistogramVec,
    /// Requests, by `strategy`, `status_class`, `code` and `provider`.
    pub requests: IntCounterVec,
    /// Attempts, by `provider` and `outcome`.
    pub attempts: IntCounterVec,
    /// Attempts that another candidate followed, by the `provider` that was left.
    pub fallbacks: IntCounterVec,
    /// Tokens, by `provider`, `type` and `certainty`.
    pub tokens: IntCounterVec,
    /// Dollars, by `provider`.
    pub cost: CounterVec,
    /// Attempts without a known price, by `provider`.
    pub unpriced: IntCounterVec,
    /// Attempts whose stream ended early, by `provider`.
    pub stream_truncated: IntCounterVec,
    /// Requests that clients left.
    pub client_gone: IntCounter,
    /// Requests being served; fed by the proxy.
    pub inflight_requests: IntGauge,
    /// Time that the gateway itself took; fed by the proxy.
    pub overhead: Histogram,
    /// Refused virtual keys and admin tokens; fed where they are refused.
    pub auth_failures: IntCounter,
    /// What the gateway decided: routes, retries, limits.
    pub control: Control,
    /// What the access log and the export of spans lost.
    pub telemetry: Telemetry,
    /// Reloads of the configuration, by `result` (`success`, `failure`); fed where it is loaded.
    pub config_reloads: IntCounterVec,
    /// Bookings that never reached the ledger; fed by the meter.
    pub ledger_dropped: IntCounter,
    /// Bookings that wait for the ledger; fed by the meter.
    pub ledger_queue: IntGauge,
    /// Time of a commit of the ledger; fed by the meter.
    pub ledger_commit: Histogram,
    /// Failed commits of the ledger; fed by the meter.
    pub ledger_errors: IntCounter,
    /// 1 while the ledger's disk takes nothing; fed by the meter.
    pub ledger_failing: IntGauge,
    /// Answers that went out before their booking was on disk, though they should have waited; fed by the meter.
    pub ledger_late: IntCounter,
    /// Always 1, by `version`.
    pub build_info: IntGaugeVec,
}

impl Metrics {
    /// Registers every metric, the closed sets at zero. Errors: `Internal` when a name is taken on this registry.
    pub fn register(registry: &Registry) -> Result<Self> {
        let metrics = Self::create(&Maker { registry }).map_err(Error::internal)?;
        metrics.start_at_zero();
        Ok(metrics)
    }

    /// The text exposition of everything on a registry.
    pub fn render(registry: &Registry) -> Result<String> {
        TextEncoder::new().encode_to_string(&registry.gather()).map_err(Error::internal)
    }

    /// Counts a request as being served until the guard is dropped.
    pub fn in_flight(&self) -> InFlight {
        self.inflight_requests.inc();
        InFlight(self.inflight_requests.clone())
    }

    /// Turns a booking into metrics: the one place where that happens.
    pub fn observe(&self, record: &RequestRecord) {
        let provider = record.provider.as_deref().map_or(NONE, provider_label);
        let code = record.error.as_deref().map_or(OK, code_label);
        let class = class_label(record.status);
        self.requests.with_label_values(&[record.strategy.as_str(), class, code, provider]).inc();
        self.server_request_duration.with_label_values(&[provider]).observe(seconds(record.latency_ms));
        if let Some(first) = record.first_token_ms {
            self.server_time_to_first_token.with_label_values(&[provider]).observe(seconds(first));
        }
        if let Some(pace) = time_per_output_token(record) {
            self.server_time_per_output_token.with_label_values(&[provider]).observe(pace);
        }
        if record.client_gone {
            self.client_gone.inc();
        }
        for attempt in &record.attempts {
            self.observe_attempt(attempt);
        }
        self.observe_fallbacks(&record.attempts);
    }

    fn observe_attempt(&self, attempt: &AttemptRecord) {
        let provider = provider_label(&attempt.provider);
        let outcome = attempt.error.as_deref().map_or(OK, code_label);
        self.attempts.with_label_values(&[provider, outcome]).inc();
        if outcome == ErrorKind::StreamTruncated.row().code {
            self.stream_truncated.with_label_values(&[provider]).inc();
        }
        self.client_operation_duration.with_label_values(&[provider]).observe(seconds(attempt.latency_ms));
        self.cost.with_label_values(&[provider]).inc_by(attempt.cost.dollars());
        if attempt.certainty == Certainty::Unpriced {
            self.unpriced.with_label_values(&[provider]).inc();
        }
        self.observe_tokens(provider, attempt);
    }

    fn observe_tokens(&self, provider: &str, attempt: &AttemptRecord) {
        let usage = &attempt.usage;
        let counts = [usage.input, usage.cached_read, usage.cache_write, usage.output];
        for (kind, count) in TOKEN_TYPES.into_iter().zip(counts).filter(|(_, count)| *count > 0) {
            self.tokens.with_label_values(&[provider, kind, attempt.certainty.as_str()]).inc_by(count);
        }
        // An attempt without tokens, most often a failed one, says nothing about how large requests are.
        if usage.total_tokens() > 0 {
            let shape =
                |kind, count| self.client_token_usage.with_label_values(&[provider, kind]).observe(count as f64);
            shape("input", usage.prompt_tokens());
            shape("output", usage.output);
        }
    }

    /// A fallback is a change of credential; a retry on the same one is none.
    fn observe_fallbacks(&self, attempts: &[AttemptRecord]) {
        for pair in attempts.windows(2) {
            if let [left, next] = pair
                && (&left.provider, &left.credential) != (&next.provider, &next.credential)
            {
                self.fallbacks.with_label_values(&[provider_label(&left.provider)]).inc();
            }
        }
    }

    fn create(maker: &Maker<'_>) -> prometheus::Result<Self> {
        const PROVIDER: &[&str] = &["provider"];
        const GEN_AI: &[&str] = &["gen_ai_provider_name"];
        Ok(Self {
            client_token_usage: maker.histograms(
                "gen_ai_client_token_usage",
                "Tokens of an attempt.",
                &["gen_ai_provider_name", "gen_ai_token_type"],
                &TOKEN_BUCKETS,
            )?,
            client_operation_duration: maker.histograms(
                "gen_ai_client_operation_duration_seconds",
                "Time of an attempt at a provider.",
                GEN_AI,
                &DURATION_BUCKETS,
            )?,
            server_request_duration: maker.histograms(
                "gen_ai_server_request_duration_seconds",
                "Time of a request, fallbacks included.",
                GEN_AI,
                &DURATION_BUCKETS,
            )?,
            server_time_to_first_token: maker.histograms(
                "gen_ai_server_time_to_first_token_seconds",
                "Time from a request's head to its first content.",
                GEN_AI,
                &FIRST_TOKEN_BUCKETS,
            )?,
            server_time_per_output_token: maker.histograms(
                "gen_ai_server_time_per_output_token_seconds",
                "Mean time between output tokens after the first.",
                GEN_AI,
                &OUTPUT_TOKEN_BUCKETS,
            )?,
            requests: maker.counters(
                "perpetuo_requests_total",
                "Requests answered.",
                &["strategy", "status_class", "code", "provider"],
            )?,
            attempts: maker.counters("perpetuo_attempts_total", "Attempts at providers.", &["provider", "outcome"])?,
            fallbacks: maker.counters(
                "perpetuo_fallbacks_total",
                "Attempts that another candidate followed, by the provider that was left.",
                PROVIDER,
            )?,
            tokens: maker.counters(
                "perpetuo_tokens_total",
                "Tokens, in kinds that do not overlap.",
                &["provider", "type", "certainty"],
            )?,
            cost: maker.put(CounterVec::new(opts("perpetuo_cost_usd_total", "Cost in dollars."), PROVIDER)?)?,
            unpriced: maker.counters("perpetuo_unpriced_total", "Attempts without a known price.", PROVIDER)?,
            stream_truncated: maker.counters(
                "perpetuo_stream_truncated_total",
                "Streams that ended before they were complete.",
                PROVIDER,
            )?,
            client_gone: maker.counter("perpetuo_client_gone_total", "Requests whose client left early.")?,
            inflight_requests: maker.gauge("perpetuo_inflight_requests", "Requests being served now.")?,
            overhead: maker.histogram(
                "perpetuo_overhead_seconds",
                "Time the gateway itself took of a request.",
                &OVERHEAD_BUCKETS,
            )?,
            auth_failures: maker.counter("perpetuo_auth_failures_total", "Refused virtual keys and admin tokens.")?,
            control: Control::create(maker)?,
            telemetry: Telemetry::create(maker)?,
            config_reloads: maker.counters(
                "perpetuo_config_reloads_total",
                "Reloads of the configuration.",
                &["result"],
            )?,
            ledger_dropped: maker.counter("perpetuo_ledger_dropped_total", "Bookings the ledger did not take.")?,
            ledger_queue: maker.gauge("perpetuo_ledger_queue", "Bookings that wait for the ledger.")?,
            ledger_commit: maker.histogram(
                "perpetuo_ledger_commit_seconds",
                "Time of a commit of the ledger.",
                &COMMIT_BUCKETS,
            )?,
            ledger_errors: maker.counter("perpetuo_ledger_errors_total", "Failed commits of the ledger.")?,
            ledger_failing: maker.gauge("perpetuo_ledger_failing", "1 while the ledger's disk takes nothing.")?,
            ledger_late: maker.counter("perpetuo_ledger_late_total", "Answers that did not wait for their booking.")?,
            build_info: maker
                .put(IntGaugeVec::new(opts("perpetuo_build_info", "The running version; always 1."), &["version"])?)?,
        })
    }

    /// Series that exist from the start, so that a first failure is a rise from zero and not a new series.
    fn start_at_zero(&self) {
        self.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        self.control.start_at_zero();
        for result in ["success", "failure"] {
            self.config_reloads.with_label_values(&[result]);
        }
        for provider in PROVIDERS.iter().map(|provider| provider.name) {
            self.start_provider_at_zero(provider);
        }
        for strategy in StrategyName::ALL.map(StrategyName::as_str) {
            for kind in ErrorKind::ALL.map(ErrorKind::row) {
                self.requests.with_label_values(&[strategy, class_label(kind.status), kind.code, NONE]);
            }
            for provider in PROVIDERS {
                self.requests.with_label_values(&[strategy, "2xx", OK, provider.name]);
            }
        }
    }

    fn start_provider_at_zero(&self, provider: &str) {
        self.attempts.with_label_values(&[provider, OK]);
        for row in ErrorKind::ALL.map(ErrorKind::row).iter().filter(|row| row.source == Source::Provider) {
            self.attempts.with_label_values(&[provider, row.code]);
        }
        for kind in TOKEN_TYPES {
            self.tokens.with_label_values(&[provider, kind, Certainty::Exact.as_str()]);
        }
        self.cost.with_label_values(&[provider]);
        for counter in [&self.fallbacks, &self.unpriced, &self.stream_truncated] {
            counter.with_label_values(&[provider]);
        }
    }
}

/// Makes metrics on a registry.
struct Maker<'r> {
    registry: &'r Registry,
}

impl Maker<'_> {
    fn put<C: Collector + Clone + 'static>(&self, metric: C) -> prometheus::Result<C> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.put(IntCounter::with_opts(opts(name, help))?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.put(IntCounterVec::new(opts(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.put(IntGauge::with_opts(opts(name, help))?)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        self.put(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?)
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> prometheus::Result<HistogramVec> {
        self.put(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help)
}

/// The name of a provider as a label.
fn provider_label(name: &str) -> &'static str {
    provider::find(name).map_or(OTHER, |provider| provider.name)
}

/// A code of the error table as a label.
fn code_label(code: &str) -> &'static str {
    ErrorKind::from_code(code).map_or(OTHER, |kind| kind.row().code)
}

const fn class_label(status: u16) -> &'static str {
    match status {
        200..300 => "2xx",
        400..500 => "4xx",
        500..600 => "5xx",
        _ => OTHER,
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// Seconds a token after the first one of a stream that came to its end.
fn time_per_output_token(record: &RequestRecord) -> Option<f64> {
    let first = record.first_token_ms.filter(|_| record.stream && record.error.is_none())?;
    let answered = record.attempts.last()?;
    let tokens = answered.usage.output.checked_sub(1).filter(|tokens| *tokens > 0)?;
    Some(seconds(record.latency_ms.saturating_sub(first)) / tokens as f64)
}

/// One request being served.
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::{Money, PICO_PER_DOLLAR};
    use crate::store::suite::{attempt, booking};
    use prometheus::proto::MetricType;

    fn metrics() -> (Registry, Metrics) {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        (registry, metrics)
    }

    fn record() -> RequestRecord {
        booking("ws", "r", "2026-01-01T00:00:00Z")
    }

    #[test]
    fn every_name_follows_the_law_and_has_help() {
        let (registry, metrics) = metrics();
        let mut record = record();
        record.attempts[0].error = Some("stream_truncated".into());
        record.attempts[1].certainty = Certainty::Unpriced;
        metrics.observe(&record);
        let families = registry.gather();
        assert_eq!(families.len(), 36, "a metric has no series or is not registered");
        for family in families {
            let name = family.name();
            assert!(name.starts_with("gen_ai_") || name.starts_with("perpetuo_"), "{name}");
            assert!(family.help().ends_with('.'), "{name} has no help");
            let has_unit = ["_seconds", "_bytes", "_usage"].iter().any(|unit| name.ends_with(unit));
            match family.get_field_type() {
                MetricType::COUNTER => assert!(name.ends_with("_total"), "{name}"),
                MetricType::HISTOGRAM => assert!(has_unit, "{name}"),
                _ => assert!(!name.ends_with("_total"), "{name}"),
            }
        }
    }

    #[test]
    fn a_booking_becomes_counts_of_requests_attempts_fallbacks_and_tokens() {
        let (_, metrics) = metrics();
        let mut record = record();
        record.attempts[1].cost = Money(PICO_PER_DOLLAR / 4);
        metrics.observe(&record);
        let (groq, openai) = (provider_label("groq"), provider_label("openai"));
        assert_eq!(metrics.requests.with_label_values(&["fastest", "2xx", "ok", openai]).get(), 1);
        assert_eq!(metrics.attempts.with_label_values(&[groq, "provider_error"]).get(), 1);
        assert_eq!(metrics.attempts.with_label_values(&[openai, "ok"]).get(), 1);
        assert_eq!(metrics.fallbacks.with_label_values(&[groq]).get(), 1);
        assert!(metrics.tokens.with_label_values(&[openai, "cached_read", "exact"]).get() >= 20);
        assert!(metrics.cost.with_label_values(&[openai]).get() >= 0.25);
        assert_eq!(metrics.server_time_to_first_token.with_label_values(&[openai]).get_sample_sum(), 0.12);
        let pace = metrics.server_time_per_output_token.with_label_values(&[openai]).get_sample_sum();
        assert!((pace - 0.18 / 29.0).abs() < 1e-9, "{pace}");
        assert_eq!(metrics.client_gone.get(), 0);
    }

    #[test]
    fn a_retry_on_the_same_credential_is_no_fallback() {
        let (_, metrics) = metrics();
        let mut record = record();
        record.attempts = vec![attempt("openai", Some("provider_timeout")), attempt("openai", None)];
        metrics.observe(&record);
        assert_eq!(metrics.fallbacks.with_label_values(&[provider_label("openai")]).get(), 0);
    }

    #[test]
    fn a_client_that_left_and_a_truncated_stream_are_counted() {
        let (_, metrics) = metrics();
        let mut record = record();
        (record.client_gone, record.status, record.error) = (true, 499, Some("client_gone".into()));
        record.attempts[1].error = Some("stream_truncated".into());
        metrics.observe(&record);
        let openai = provider_label("openai");
        assert_eq!(metrics.client_gone.get(), 1);
        assert_eq!(metrics.stream_truncated.with_label_values(&[openai]).get(), 1);
        assert_eq!(metrics.requests.with_label_values(&["fastest", "4xx", "client_gone", openai]).get(), 1);
        assert_eq!(metrics.server_time_per_output_token.with_label_values(&[openai]).get_sample_count(), 0);
    }

    #[test]
    fn what_clients_and_providers_name_makes_no_series() {
        let (registry, metrics) = metrics();
        let mut record = record();
        record.provider = Some("made-up-provider".into());
        record.error = Some("made-up-code".into());
        record.attempts = vec![attempt("made-up-provider", Some("made-up-code"))];
        record.model = "made-up-model".into();
        metrics.observe(&record);
        let text = Metrics::render(&registry).unwrap();
        assert!(!text.contains("made-up"), "{text}");
        assert!(text.contains("perpetuo_attempts_total{outcome=\"other\",provider=\"other\"} 1"), "{text}");
    }

    #[test]
    fn failures_that_never_happened_stand_at_zero() {
        let (registry, _) = metrics();
        let text = Metrics::render(&registry).unwrap();
        for kind in ErrorKind::ALL {
            let code = format!("code=\"{}\",provider=\"none\"", kind.row().code);
            assert!(text.contains(&code), "{code}");
        }
        assert!(text.contains("perpetuo_ledger_dropped_total 0"));
        assert!(text.contains("perpetuo_config_reloads_total{result=\"failure\"} 0"));
    }

    #[test]
    fn a_registry_takes_the_metrics_once() {
        let (registry, _) = metrics();
        assert!(Metrics::register(&registry).is_err());
    }
}
