//! Sums of records, and the same sums as `/usage` and `/metrics` tell them.

use std::collections::BTreeMap;

use perpetuo::money::Money;
use perpetuo::store::{AttemptRecord, RequestRecord};
use perpetuo::usage::Certainty;
use serde_json::{Value, json};

use crate::support::Scrape;

/// Where the admin API tells sums, below a workspace.
pub const PATHS: [&str; 5] = ["/usage", "/usage/by-provider", "/usage/by-key", "/usage/by-model", "/usage/by-day"];

/// What was spent, by name.
type Groups = BTreeMap<String, Spent>;

/// Sums of attempts.
#[derive(Clone, Copy, Default)]
struct Spent {
    tokens: u64,
    cost: Money,
    /// Attempts whose cost is estimated, and that cost.
    estimated: (u64, Money),
    /// Attempts without a price, and their tokens.
    unpriced: (u64, u64),
}

impl Spent {
    fn add(&mut self, AttemptRecord { usage, cost, certainty, .. }: &AttemptRecord) {
        self.tokens += usage.total_tokens();
        self.cost += *cost;
        match certainty {
            Certainty::Exact => {}
            Certainty::Estimated => self.estimated = (self.estimated.0 + 1, self.estimated.1 + *cost),
            Certainty::Unpriced => {
                self.unpriced = (self.unpriced.0 + 1, self.unpriced.1 + usage.total_tokens());
            }
        }
    }

    /// As the admin API tells it: doubts only where there are any.
    fn told(&self) -> Value {
        let mut told = json!({"tokens": self.tokens, "cost": self.cost.dollars()});
        if self.estimated.0 + self.unpriced.0 > 0 {
            told["estimated_cost"] = json!(self.estimated.1.dollars());
            told["unpriced"] = json!(self.unpriced.0);
            told["unpriced_tokens"] = json!(self.unpriced.1);
        }
        told
    }
}

/// Sums over records.
#[derive(Default)]
pub struct Totals {
    all: Spent,
    requests: u64,
    attempts: u64,
    gone: u64,
    /// By provider, key, model, day.
    by: [Groups; 4],
    /// By provider and kind.
    kinds: BTreeMap<(String, &'static str), u64>,
}

impl Totals {
    pub fn of(records: &[RequestRecord]) -> Self {
        let mut totals = Self::default();
        totals.add(records);
        totals
    }

    /// Adds more records.
    pub fn add(&mut self, records: &[RequestRecord]) {
        for record in records {
            self.requests += 1;
            self.gone += u64::from(record.client_gone);
            for attempt in &record.attempts {
                self.add_attempt(record, attempt);
            }
        }
    }

    fn add_attempt(&mut self, record: &RequestRecord, attempt: &AttemptRecord) {
        let AttemptRecord { usage, provider, model, .. } = attempt;
        self.attempts += 1;
        self.all.add(attempt);
        let day = record.created_at.strftime("%F").to_string();
        for (groups, name) in self.by.iter_mut().zip([provider, &record.key, model, &day]) {
            groups.entry(name.clone()).or_default().add(attempt);
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

    /// Against what `/usage` of a workspace and its groups told, in the order of [`PATHS`].
    pub fn check(&self, told: &[Value; 5]) {
        let [usage, groups @ ..] = told;
        assert_eq!(usage["total_tokens"], self.all.tokens);
        assert_eq!(usage["total_cost"], json!(self.all.cost.dollars()));
        for (told, groups) in groups.iter().zip(&self.by) {
            let expected: serde_json::Map<String, Value> =
                groups.iter().map(|(name, spent)| (name.clone(), spent.told())).collect();
            assert_eq!(*told, Value::Object(expected));
        }
    }

    /// Against `/metrics` of the gateway.
    pub fn check_metrics(&self, scraped: &Scrape) {
        let equal = |name: &str, labels: &[(&str, &str)], expected: u64| {
            assert_eq!(scraped.sum(name, labels), expected as f64, "{name} {labels:?}");
        };
        // The ledger has no row of a request that ended before it was known what it asks for.
        let name = "perpetuo_requests_total";
        assert_eq!(scraped.sum(name, &[]) - scraped.sum(name, &[("strategy", "none")]), self.requests as f64);
        equal("perpetuo_attempts_total", &[], self.attempts);
        equal("perpetuo_client_gone_total", &[], self.gone);
        equal("perpetuo_unpriced_total", &[], self.all.unpriced.0);
        equal("perpetuo_ledger_dropped_total", &[], 0);
        for ((provider, kind), count) in &self.kinds {
            equal("perpetuo_tokens_total", &[("provider", provider), ("type", kind)], *count);
        }
        for (provider, Spent { cost, .. }) in &self.by[0] {
            let told = scraped.sum("perpetuo_cost_usd_total", &[("provider", provider)]);
            // Floating point, added up in another order.
            assert!((told - cost.dollars()).abs() <= 1e-9 * cost.dollars().max(1.0), "{provider}: {told}, {cost:?}");
        }
    }
}
