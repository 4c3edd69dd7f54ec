//! How a route and a credential are doing, for people: the counters of the rankings without what rankings add to them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::{ERROR_TAU_MS, PoisonError, RouteStats, StatsBook};
use crate::balance::Moment;

/// The counters of a credential, by model.
pub type Routes = BTreeMap<String, Arc<RouteStats>>;

/// How one model at one credential has been doing lately. Times are `None` until something was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RouteView {
    /// Attempts, decayed over two minutes.
    pub attempts: f64,
    /// Share of them that failed by the provider's fault.
    pub error_rate: Option<f64>,
    /// Time to first token that half of the last streams stayed below.
    pub first_token_p50: Option<Duration>,
    /// The same for 19 of 20.
    pub first_token_p95: Option<Duration>,
    /// Time of the whole answer that half of the last answers stayed below.
    pub latency_p50: Option<Duration>,
    /// The same for 19 of 20.
    pub latency_p95: Option<Duration>,
    /// Mean time per token.
    pub per_token: Option<Duration>,
    /// How long ago it failed last.
    pub since_failure: Option<Duration>,
}

impl RouteStats {
    /// How it has been doing.
    pub fn view(&self, now: Moment) -> RouteView {
        let attempts = self.attempts(now);
        let failed = self.failed.sum(ERROR_TAU_MS, now).min(attempts);
        RouteView {
            attempts,
            error_rate: self.is_known(now).then(|| if attempts > 0.0 { failed / attempts } else { 0.0 }),
            first_token_p50: self.waits.quantile_of_any(0.5),
            first_token_p95: self.waits.quantile_of_any(0.95),
            latency_p50: self.totals.quantile_of_any(0.5),
            latency_p95: self.totals.quantile_of_any(0.95),
            per_token: self.tpot.read(now).map(|(each, _)| Duration::from_secs_f64(each.max(0.0) / 1000.0)),
            since_failure: self.since_failure(now).map(Duration::from_millis),
        }
    }
}

impl StatsBook {
    /// The routes of these credentials: for each, its models by their upstream names. All of the book is looked through once.
    pub fn routes_of(&self, credentials: &HashSet<&str>) -> HashMap<String, Routes> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: HashMap<String, Routes> = HashMap::new();
        for ((credential, model), stats) in routes.iter().filter(|((owner, _), _)| credentials.contains(&**owner)) {
            found.entry(credential.clone()).or_default().insert(model.clone(), Arc::clone(stats));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::stats::Timing;

    #[test]
    fn a_view_is_empty_until_something_was_measured_and_then_says_what_was() {
        let stats = RouteStats::default();
        assert_eq!(stats.view(Moment(0)), RouteView::default());
        let timing =
            Timing { first: Some(Duration::from_millis(300)), total: Duration::from_millis(1300), output: Some(101) };
        for _ in 0..3 {
            stats.first_token(Duration::from_millis(300), false, Moment(0));
            stats.answered(timing, Moment(0));
        }
        stats.failed(Moment(0));
        let view = stats.view(Moment(16));
        assert!(view.error_rate.is_some_and(|rate| (rate - 0.25).abs() < 0.01), "{view:?}");
        let near = |found: Option<Duration>, wanted: f64| {
            let found = found.unwrap().as_secs_f64() * 1000.0;
            assert!(found >= wanted && found < wanted * 1.17, "{found} for {wanted}");
        };
        near(view.first_token_p50, 300.0);
        near(view.latency_p95, 1300.0);
        assert_eq!(view.since_failure, Some(Duration::from_millis(16)));
    }

    #[test]
    fn a_credentials_routes_are_its_own() {
        let book = StatsBook::default();
        for (credential, model) in [("prov_1", "b"), ("prov_2", "c"), ("prov_1", "a"), ("prov_3", "d")] {
            drop(book.route(credential, model));
        }
        let found = book.routes_of(&HashSet::from(["prov_1", "prov_2", "prov_4"]));
        let models = |credential: &str| found.get(credential).map(|routes| routes.keys().cloned().collect::<Vec<_>>());
        assert_eq!((found.len(), models("prov_1")), (2, Some(vec!["a".to_owned(), "b".to_owned()])));
    }
}
