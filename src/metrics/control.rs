//! What the gateway decided: which route, whether once more, whether at all. Fed by the proxy, where it is decided.
//!
//! Labels come from closed sets: strategies, reasons, provider names, limits.

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::Maker;
use crate::api::strategy::StrategyName;
use crate::provider::PROVIDERS;
use crate::quota::Limit;
use crate::shed::Shed;

/// Why a credential is out.
const REFUSALS: [&str; 2] = ["key", "quota"];
/// How a hedge can end.
const HEDGES: [&str; 2] = ["won", "lost"];

/// The metrics of decisions.
#[derive(Clone)]
pub struct Control {
    /// Candidates that were chosen, by `strategy` and `reason`; fed by the proxy.
    pub choices: IntCounterVec,
    /// 429s after which a credential cools down, by `provider`; fed by the proxy.
    pub cool_downs: IntCounterVec,
    /// Credentials that were refused and are out until they are changed, by `provider` and `reason`; fed by the proxy.
    pub credentials_disabled: IntCounterVec,
    /// Routes that fail and are left alone for a while, by `provider`; fed by the proxy.
    pub routes_opened: IntCounterVec,
    /// Attempts that the retry budget did not allow; fed by the proxy.
    pub retry_budget_exhausted: IntCounter,
    /// Hedges, by `result`; fed by the proxy.
    pub hedges: IntCounterVec,
    /// Requests that ran into a limit of their key or workspace, by `limit`; fed where they are refused.
    pub rate_limited: IntCounterVec,
    /// Requests that were shed, by `scope` and `resource`; fed where they are refused.
    pub shed: IntCounterVec,
    /// Bytes of request bodies that are held; fed when the metrics are read.
    pub buffered_bytes: IntGauge,
}

impl Control {
    pub(super) fn create(maker: &Maker<'_>) -> prometheus::Result<Self> {
        const PROVIDER: &[&str] = &["provider"];
        Ok(Self {
            choices: maker.counters(
                "perpetuo_route_choices_total",
                "Candidates that were chosen, and why.",
                &["strategy", "reason"],
            )?,
            cool_downs: maker.counters(
                "perpetuo_credential_cool_downs_total",
                "Rate limits after which a credential was left alone for a while.",
                PROVIDER,
            )?,
            credentials_disabled: maker.counters(
                "perpetuo_credential_disabled_total",
                "Credentials that their provider refused; out until they are changed.",
                &["provider", "reason"],
            )?,
            routes_opened: maker.counters(
                "perpetuo_route_opened_total",
                "Routes that failed and were left alone for a while.",
                PROVIDER,
            )?,
            retry_budget_exhausted: maker
                .counter("perpetuo_retry_budget_exhausted_total", "Attempts that the retry budget did not allow.")?,
            hedges: maker.counters("perpetuo_hedges_total", "Second attempts beside a slow first one.", &["result"])?,
            rate_limited: maker.counters(
                "perpetuo_rate_limited_total",
                "Requests that ran into a limit of their virtual key or workspace.",
                &["limit"],
            )?,
            shed: maker.counters(
                "perpetuo_shed_total",
                "Requests that were shed because too much was under way.",
                &["scope", "resource"],
            )?,
            buffered_bytes: maker.gauge("perpetuo_buffered_bytes", "Bytes of request bodies that are held now.")?,
        })
    }

    /// Series that exist from the start, so that a first one is a rise from zero.
    pub(super) fn start_at_zero(&self) {
        for strategy in StrategyName::ALL.map(StrategyName::as_str) {
            self.choices.with_label_values(&[strategy, "best"]);
        }
        for provider in PROVIDERS.iter().map(|provider| provider.name) {
            for refusal in REFUSALS {
                self.credentials_disabled.with_label_values(&[provider, refusal]);
            }
            self.cool_downs.with_label_values(&[provider]);
            self.routes_opened.with_label_values(&[provider]);
        }
        for result in HEDGES {
            self.hedges.with_label_values(&[result]);
        }
        for limit in Limit::ALL {
            self.rate_limited.with_label_values(&[limit.as_str()]);
        }
        for shed in Shed::ALL {
            self.shed.with_label_values(&shed.labels());
        }
    }
}
