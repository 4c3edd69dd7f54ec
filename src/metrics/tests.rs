//! What a booking becomes, and that nothing that comes from outside makes the page grow.

use prometheus::proto::{Metric, MetricFamily, MetricType};

use super::routing::MAX_SHOWN;
use super::*;
use crate::money::{Money, PICO_PER_DOLLAR};
use crate::store::suite::{attempt, booking};
use crate::usage::{Certainty, Usage};

struct Page {
    registry: Registry,
    metrics: Metrics,
}

impl Page {
    fn new() -> Self {
        Self::bounded(&config::Config::default().metrics)
    }

    fn bounded(bounds: &config::Metrics) -> Self {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        metrics.configure(Arc::new(Catalog::built_in().unwrap()), bounds);
        Self { registry, metrics }
    }

    /// The sum of a metric's series that have these labels.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap_or_else(|| panic!("no {name}"));
        family.get_metric().iter().filter(|series| has(series, labels)).map(|series| value(family, series)).sum()
    }

    fn series(&self) -> usize {
        self.registry.gather().iter().map(|family| family.get_metric().len()).sum()
    }

    fn text(&self) -> String {
        self.metrics.render(&self.registry).unwrap()
    }
}

fn has(series: &Metric, labels: &[(&str, &str)]) -> bool {
    let pairs = series.get_label();
    labels.iter().all(|(name, value)| pairs.iter().any(|pair| pair.name() == *name && pair.value() == *value))
}

/// What a counter or a gauge says; how often a histogram was fed.
fn value(family: &MetricFamily, series: &Metric) -> f64 {
    match family.get_field_type() {
        MetricType::COUNTER => series.get_counter().get_value(),
        MetricType::HISTOGRAM => series.get_histogram().get_sample_count() as f64,
        _ => series.get_gauge().get_value(),
    }
}

fn record() -> RequestRecord {
    booking("ws", "r", "2026-01-01T00:00:00Z")
}

#[test]
fn every_name_follows_the_law_and_has_help() {
    let page = Page::new();
    page.metrics.observe(&record());
    for family in page.registry.gather() {
        let name = family.name();
        assert!(["gen_ai_", "perpetuo_", "process_"].iter().any(|prefix| name.starts_with(prefix)), "{name}");
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
    let page = Page::new();
    let mut record = record();
    record.attempts[1].cost = Money(PICO_PER_DOLLAR / 4 + 1);
    record.attempts[1].usage.reasoning = 7;
    page.metrics.observe(&record);
    let asked = [("workspace", "ws"), ("strategy", "fastest"), ("code", "200"), ("reason", "ok"), ("fault", "none")];
    assert_eq!(page.sum("perpetuo_requests_total", &asked), 1.0);
    let failed = [("provider", "groq"), ("outcome", "provider_error")];
    assert_eq!(page.sum("perpetuo_attempts_total", &failed), 1.0);
    assert_eq!(page.sum("perpetuo_attempts_total", &[("provider", "openai"), ("outcome", "ok")]), 1.0);
    assert_eq!(page.sum("perpetuo_fallbacks_total", &[("provider", "groq")]), 1.0);
    assert_eq!(page.sum("perpetuo_retries_total", &[("reason", "provider_error")]), 1.0);
    let whose = [("workspace", "ws"), ("provider", "openai"), ("model", "gpt-4o")];
    assert_eq!(page.sum("perpetuo_cost_usd_total", &whose), 0.250_000_000_001);
    assert_eq!(page.sum("perpetuo_reasoning_tokens_total", &whose), 7.0);
    assert_eq!(page.sum("perpetuo_tokens_total", &[]), record.tokens() as f64);
    let op =
        [("gen_ai_operation_name", "chat"), ("gen_ai_provider_name", "openai"), ("gen_ai_request_model", "gpt-4o")];
    for name in ["server_time_to_first_token", "server_time_per_output_token", "server_request_duration"] {
        assert_eq!(page.sum(&format!("gen_ai_{name}_seconds"), &op), 1.0, "{name}");
    }
    assert_eq!(page.sum("gen_ai_client_token_usage", &op), 2.0);
}

#[test]
fn a_retry_on_the_same_credential_is_no_fallback_and_a_lost_hedge_is_neither() {
    let page = Page::new();
    let mut record = record();
    record.attempts = vec![attempt("openai", Some("provider_timeout")), attempt("openai", None)];
    page.metrics.observe(&record);
    record.attempts = vec![attempt("groq", Some("hedge_lost")), attempt("openai", None)];
    page.metrics.observe(&record);
    assert_eq!(page.sum("perpetuo_fallbacks_total", &[]), 0.0);
    assert_eq!(page.sum("perpetuo_retries_total", &[]), 1.0);
}

#[test]
fn a_client_that_left_and_a_truncated_stream_are_counted() {
    let page = Page::new();
    let mut record = record();
    (record.client_gone, record.status, record.error) = (true, 499, Some("client_gone".into()));
    record.attempts[1].error = Some("stream_truncated".into());
    page.metrics.observe(&record);
    assert_eq!(page.sum("perpetuo_client_gone_total", &[]), 1.0);
    assert_eq!(page.sum("perpetuo_stream_truncated_total", &[("provider", "openai")]), 1.0);
    let left = [("code", "499"), ("reason", "client_gone"), ("fault", "client")];
    assert_eq!(page.sum("perpetuo_requests_total", &left), 1.0);
    assert!(!page.text().contains("gen_ai_server_time_per_output_token_seconds_count"));
}

#[test]
fn tokens_that_were_paid_for_in_vain_say_why() {
    let page = Page::new();
    let spent = |error: Option<&str>, tokens| {
        let mut attempt = attempt("openai", error);
        (attempt.usage, attempt.cost) = (Usage { output: tokens, ..Usage::default() }, Money(u128::from(tokens)));
        attempt
    };
    let mut record = record();
    record.attempts = vec![spent(Some("provider_timeout"), 1), spent(Some("hedge_lost"), 2), spent(None, 4)];
    page.metrics.observe(&record);
    record.attempts = vec![spent(Some("provider_timeout"), 8), spent(Some("client_gone"), 16)];
    page.metrics.observe(&record);
    record.attempts = vec![spent(Some("stream_truncated"), 32)];
    page.metrics.observe(&record);
    for (why, tokens) in [("retry", 9.0), ("hedge", 2.0), ("disconnect", 16.0), ("failure", 32.0)] {
        assert_eq!(page.sum("perpetuo_wasted_tokens_total", &[("why", why)]), tokens, "{why}");
        assert_eq!(page.sum("perpetuo_wasted_cost_usd_total", &[("why", why)]), tokens / 1e12, "{why}");
    }
}

#[test]
fn ten_thousand_made_up_names_make_the_page_no_longer_and_no_sum_wrong() {
    let page = Page::new();
    let hostile = |number: usize| {
        let mut record = record();
        record.workspace = format!("ws_{number}");
        record.model = format!("made-up-{number}");
        record.attempts[1].model = format!("made-up-{number}");
        record.attempts[0].model = format!("gpt-4o-{number:08}");
        record
    };
    for number in 0..10_000 {
        page.metrics.observe(&hostile(number));
    }
    let series = page.series();
    for number in 10_000..20_000 {
        page.metrics.observe(&hostile(number));
        page.metrics.refused(&format!("ws_{number}"), 404, Some(ErrorKind::ModelNotFound));
    }
    assert!(page.series() <= series + 1, "{series} became {}", page.series());
    assert!(series < 2500, "{series}");
    assert!(!page.text().contains("made-up"));
    assert_eq!(page.sum("perpetuo_requests_total", &[]), 30_000.0);
    assert_eq!(page.sum("perpetuo_attempts_total", &[]), 40_000.0);
    assert_eq!(page.sum("perpetuo_tokens_total", &[]), record().tokens() as f64 * 20_000.0);
    assert!(page.sum("perpetuo_metrics_collapsed_total", &[("what", "workspace")]) > 19_000.0);
    assert_eq!(page.sum("perpetuo_requests_total", &[("workspace", "ws_99")]), 1.0, "the first hundred keep theirs");
}

#[test]
fn one_workspace_that_uses_everything_has_a_bound_too() {
    let bounds = config::Metrics { max_workspaces: 1, ..config::Config::default().metrics };
    let page = Page::bounded(&bounds);
    let catalog = Catalog::built_in().unwrap();
    let models: Vec<_> = catalog.served_by("openai").collect();
    assert!(models.len() > 20, "{}", models.len());
    for model in &models {
        let mut record = record();
        record.attempts[1].model = (*model).to_owned();
        record.attempts.iter_mut().for_each(|attempt| attempt.cost = Money(7));
        page.metrics.observe(&record);
    }
    let own = page.sum("perpetuo_cost_usd_total", &[("workspace", "ws")]);
    let other = page.sum("perpetuo_cost_usd_total", &[("workspace", "other")]);
    assert!(own > 0.0 && other > 0.0, "{own} {other}");
    assert_eq!(((own + other) * 1e12).round() as usize, 14 * models.len());
    assert!(page.sum("perpetuo_metrics_collapsed_total", &[("what", "series")]) > 0.0);
}

#[test]
fn what_is_in_no_closed_set_is_other() {
    let page = Page::new();
    let mut record = record();
    record.provider = Some("made-up-provider".into());
    record.error = Some("made-up-code".into());
    record.status = 418;
    record.attempts = vec![attempt("made-up-provider", Some("made-up-code"))];
    page.metrics.observe(&record);
    assert!(!page.text().contains("made-up"));
    let asked = [("code", "other"), ("reason", "other"), ("fault", "gateway"), ("provider", "other")];
    assert_eq!(page.sum("perpetuo_requests_total", &asked), 1.0);
    assert_eq!(page.sum("perpetuo_attempts_total", &[("outcome", "other"), ("model", "other")]), 1.0);
}

#[test]
fn an_attempt_without_a_price_is_counted_and_its_tokens_say_so() {
    let page = Page::new();
    let mut record = record();
    (record.attempts[1].certainty, record.attempts[1].cost) = (Certainty::Unpriced, Money::ZERO);
    page.metrics.observe(&record);
    assert_eq!(page.sum("perpetuo_unpriced_total", &[("workspace", "ws"), ("provider", "openai")]), 1.0);
    assert!(page.sum("perpetuo_tokens_total", &[("certainty", "unpriced")]) > 0.0);
}

#[test]
fn failures_that_never_happened_stand_at_zero() {
    let text = Page::new().text();
    for series in [
        "perpetuo_requests_total{code=\"500\",fault=\"gateway\",provider=\"none\",reason=\"gateway_internal_error\",strategy=\"none\",workspace=\"none\"} 0",
        "perpetuo_ledger_dropped_total 0",
        "perpetuo_config_reloads_total{result=\"failure\"} 0",
        "perpetuo_shed_total{resource=\"ledger\",scope=\"process\"} 0",
        "perpetuo_retries_total{reason=\"provider_timeout\"} 0",
        "perpetuo_wasted_cost_usd_total{why=\"hedge\"} 0",
    ] {
        assert!(text.lines().any(|line| line == series), "{series}");
    }
}

#[test]
fn the_page_shows_the_worst_of_a_credentials_routes_and_forgets_it_with_the_credential() {
    let page = Page::new();
    let owned = |credential: &str| Owned { credential: credential.into(), workspace: "ws".into(), provider: "openai" };
    let route = |model: &str, state| RouteState { owned: owned("prov_1"), model: model.into(), state };
    let credential = |refused| CredentialState {
        owned: owned("prov_1"),
        cool_down: std::time::Duration::from_millis(1500),
        refused,
    };
    page.metrics.show(&Picture {
        routes: vec![route("gpt-4o", "closed"), route("made-up", "open"), route("made-up-too", "half_open")],
        credentials: vec![credential(Some("quota"))],
    });
    assert_eq!(page.sum("perpetuo_route_state", &[("model", "gpt-4o"), ("credential", "prov_1")]), 0.0);
    assert_eq!(page.sum("perpetuo_route_state", &[("model", "other"), ("workspace", "ws")]), 2.0);
    assert_eq!(page.sum("perpetuo_routes", &[("provider", "openai"), ("state", "open")]), 1.0);
    assert_eq!(page.sum("perpetuo_credential_cool_down_seconds", &[("credential", "prov_1")]), 1.5);
    assert_eq!(page.sum("perpetuo_credential_refused", &[("reason", "quota")]), 1.0);
    assert_eq!(page.sum("perpetuo_credential_refused", &[("reason", "key")]), 0.0);
    page.metrics.show(&Picture::default());
    assert!(!page.text().contains("prov_1"));
}

#[test]
fn credentials_without_end_are_shown_up_to_a_bound_and_the_same_ones_each_time() {
    let page = Page::new();
    let state = |number: usize| CredentialState {
        owned: Owned { credential: format!("prov_{number}"), workspace: "ws".into(), provider: "openai" },
        cool_down: std::time::Duration::ZERO,
        refused: Some("key"),
    };
    let shown = |count: usize| {
        page.metrics.show(&Picture { routes: Vec::new(), credentials: (0..count).map(state).collect() });
        page.sum("perpetuo_credential_refused", &[])
    };
    assert_eq!(shown(3), 3.0);
    assert_eq!(shown(10 * MAX_SHOWN), MAX_SHOWN as f64);
    assert!((0..3).all(|number| page.text().contains(&format!("\"prov_{number}\""))));
}

#[test]
fn a_registry_takes_the_metrics_once() {
    let page = Page::new();
    assert!(Metrics::register(&page.registry).is_err());
}
