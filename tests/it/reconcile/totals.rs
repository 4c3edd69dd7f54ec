//! Sums of records, and the same sums as `/usage` and `/metrics` tell them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use perpetuo::money::Money;
use perpetuo::store::{AttemptRecord, RequestRecord};
use perpetuo::usage::Certainty;
use serde_json::{Value, json};

use super::admin;
use crate::support::{Scrape, World};

/// Tokens and cost, by name.
type Groups = BTreeMap<String, (u64, Money)>;

/// Sums over records.
#[derive(Default)]
pub struct Totals {
    tokens: u64,
    cost: Money,
    requests: u64,
    attempts: u64,
    gone: u64,
    unpriced: u64,
    /// By provider, key, model, day.
    by: [Groups; 4],
    /// By provider and kind.
    kinds: BTreeMap<(String, &'static str), u64>,
}

impl Totals {
    pub fn of(records: &[RequestRecord]) -> Self {
        let mut totals = Self::default();
        for record in records {
            totals.requests += 1;
            totals.gone += u64::from(record.client_gone);
            for attempt in &record.attempts {
                totals.add(record, attempt);
            }
        }
        totals
    }

    fn add(&mut self, record: &RequestRecord, attempt: &AttemptRecord) {
        let AttemptRecord { usage, cost, provider, model, .. } = attempt;
        self.attempts += 1;
        self.unpriced += u64::from(attempt.certainty == Certainty::Unpriced);
        self.tokens += usage.total_tokens();
        self.cost += *cost;
        let day = record.created_at.strftime("%F").to_string();
        for (groups, name) in self.by.iter_mut().zip([provider, &record.key, model, &day]) {
            let group = groups.entry(name.clone()).or_default();
            group.0 += usage.total_tokens();
            group.1 += *cost;
        }
        let kinds = [
            ("input", usage.input),
            ("cached_read", usage.cached_read),
            ("cache_write", usage.cache_write),
            ("output", usage.output),
        ];
        for (kind, count) in kinds {
            *self.kinds.entry((provider.clone(), kind)).or_default() += count;
        }
    }

    /// Against `/usage` of a workspace.
    pub async fn check(&self, world: &World, workspace: &str) {
        let usage = admin(world, workspace, "/usage").await;
        assert_eq!(usage["total_tokens"], self.tokens);
        assert_eq!(usage["total_cost"], json!(self.cost.dollars()));
        let paths = ["/usage/by-provider", "/usage/by-key", "/usage/by-model", "/usage/by-day"];
        for (path, groups) in paths.into_iter().zip(&self.by) {
            let told = admin(world, workspace, path).await;
            let expected: serde_json::Map<String, Value> = groups
                .iter()
                .map(|(name, (tokens, cost))| (name.clone(), json!({"tokens": tokens, "cost": cost.dollars()})))
                .collect();
            assert_eq!(told, Value::Object(expected), "{path}");
        }
    }

    /// Against `/metrics` of the gateway.
    pub async fn check_metrics(&self, metrics: SocketAddr) {
        let scraped = Scrape::of(metrics).await;
        let equal = |name: &str, labels: &[(&str, &str)], expected: u64| {
            assert_eq!(scraped.sum(name, labels), expected as f64, "{name} {labels:?}");
        };
        equal("perpetuo_requests_total", &[], self.requests);
        equal("perpetuo_attempts_total", &[], self.attempts);
        equal("perpetuo_client_gone_total", &[], self.gone);
        equal("perpetuo_unpriced_total", &[], self.unpriced);
        equal("perpetuo_ledger_dropped_total", &[], 0);
        for ((provider, kind), count) in &self.kinds {
            equal("perpetuo_tokens_total", &[("provider", provider), ("type", kind)], *count);
        }
        for (provider, (_, cost)) in &self.by[0] {
            let told = scraped.sum("perpetuo_cost_usd_total", &[("provider", provider)]);
            // Floating point, added up in another order.
            assert!((told - cost.dollars()).abs() <= 1e-9 * cost.dollars().max(1.0), "{provider}: {told}, {cost:?}");
        }
    }
}
