//! The records of the store, as they are written. A new field gets a default, so that old records stay readable.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::api::operation::Operation;
use crate::api::strategy::StrategyName;
use crate::money::Money;
use crate::usage::{Certainty, CostSource, Usage};

/// A tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkspaceRecord {
    /// `ws_…`.
    pub id: String,
    /// For people.
    pub name: String,
    /// The strategy of requests and keys that name none.
    #[serde(default)]
    pub strategy: Option<StrategyName>,
    /// Limits of the workspace, by name.
    #[serde(default)]
    pub limits: Map<String, Value>,
    /// Whether slow streams get a second attempt beside the first.
    #[serde(default)]
    pub hedging: bool,
    /// Whether models without a known price are refused.
    #[serde(default)]
    pub refuse_unpriced: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A provider credential of a workspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CredentialRecord {
    /// `prov_…`.
    pub id: String,
    /// Whose it is.
    pub workspace: String,
    /// Which provider.
    pub provider: String,
    /// 1 comes first.
    pub priority: u32,
    /// Share among equal priorities.
    pub weight: u32,
    /// Another address than the provider's own.
    #[serde(default)]
    pub base_url: Option<String>,
    /// Public model name → upstream name.
    #[serde(default)]
    pub models: BTreeMap<String, String>,
    /// Whether it takes part.
    pub enabled: bool,
    /// The options that are no secrets.
    #[serde(default)]
    pub options: Map<String, Value>,
    /// The sealed key and secret options; see `vault`.
    pub sealed: String,
    /// The end of the key, for people.
    pub last_four: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A virtual key of a workspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// `key_…`.
    pub id: String,
    /// Whose it is.
    pub workspace: String,
    /// For people.
    pub name: String,
    /// HMAC-SHA256 of the key, in hexadecimal.
    pub hash: String,
    /// What the hash was made with, sealed; none in records from before this was kept. See `vault`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pepper: Option<String>,
    /// The end of the key, for people.
    pub last_four: String,
    /// The strategy of requests that name none.
    #[serde(default)]
    pub strategy: Option<StrategyName>,
    /// From when on it is refused.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// Since when it is refused for good.
    #[serde(default)]
    pub revoked_at: Option<Timestamp>,
    /// Limits of the key, by name.
    #[serde(default)]
    pub limits: Map<String, Value>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// One try at one provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// From 1.
    pub number: u32,
    /// Which provider.
    pub provider: String,
    /// Which credential.
    pub credential: String,
    /// The upstream name of the model.
    pub model: String,
    /// The provider's HTTP status; 0 when none came.
    pub status: u16,
    /// Why it failed: a code of the error table; absent on success.
    #[serde(default)]
    pub error: Option<String>,
    /// What it used.
    pub usage: Usage,
    /// What that costs.
    pub cost: Money,
    /// How sure the figure is.
    pub certainty: Certainty,
    /// From sending to the end, in milliseconds.
    pub latency_ms: u64,
    /// From sending to the first content, in milliseconds.
    #[serde(default)]
    pub first_token_ms: Option<u64>,
    /// Why this candidate was chosen: a word of `balance::reason`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who could not be asked then, and why: `provider:word` each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<String>,
    /// What the cost was taken from; absent where nothing could be priced, and in records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_source: Option<CostSource>,
    /// Why the figure is not exact: a word of `meter::Why`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The tier that the provider says it served from, where that is not the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<String>,
    /// What the provider calls the request: its `x-request-id` or the like, for its support and its books.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_request_id: Option<String>,
}

/// One request of a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// The answer's `x-request-id`.
    pub request_id: String,
    /// Whose it was.
    pub workspace: String,
    /// The virtual key's id.
    pub key: String,
    /// The model as the client named it.
    pub model: String,
    /// The upstream name of the model that answered.
    #[serde(default)]
    pub model_served: Option<String>,
    /// The provider that answered, or that was tried last.
    #[serde(default)]
    pub provider: Option<String>,
    /// The strategy.
    pub strategy: StrategyName,
    /// What was asked of the model.
    #[serde(default, skip_serializing_if = "Operation::is_chat")]
    pub operation: Operation,
    /// The client's HTTP status; 499 when it left.
    pub status: u16,
    /// Why it failed: a code of the error table.
    #[serde(default)]
    pub error: Option<String>,
    /// Whether it was a stream.
    pub stream: bool,
    /// Whether the client left before the end.
    pub client_gone: bool,
    /// From the head to the last byte, in milliseconds.
    pub latency_ms: u64,
    /// From the head to the first content, in milliseconds.
    #[serde(default)]
    pub first_token_ms: Option<u64>,
    /// When it came, to the millisecond.
    pub created_at: Timestamp,
    /// The tries, in order.
    pub attempts: Vec<AttemptRecord>,
}

impl RequestRecord {
    /// Tokens of all tries.
    pub fn tokens(&self) -> u64 {
        self.attempts.iter().map(|attempt| attempt.usage.total_tokens()).sum()
    }

    /// Cost of all tries.
    pub fn cost(&self) -> Money {
        self.attempts.iter().map(|attempt| attempt.cost).sum()
    }
}

/// What is appended in one piece: a request and its tries.
pub type Booking = RequestRecord;

/// What one virtual key spent on one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// The key's id.
    pub key: String,
    /// The day, in UTC.
    pub day: Date,
    /// The cost of all tries.
    pub cost: Money,
}

/// Sums over one day (or several) of one provider in one workspace. Every field but `latency` is about attempts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rollup {
    /// Tries.
    pub attempts: u64,
    /// Tries that failed by the provider's fault: retryable errors and refused credentials.
    pub errors: u64,
    /// Tokens by kind.
    pub usage: Usage,
    /// Cost.
    pub cost: Money,
    /// Tries whose price is not known.
    pub unpriced: u64,
    /// Tries whose tokens are estimated.
    pub estimated: u64,
    /// Latencies of successful tries.
    pub latency: Histogram,
    /// Tokens of the tries whose price is not known.
    #[serde(default)]
    pub unpriced_tokens: u64,
    /// The part of the cost that is estimated.
    #[serde(default)]
    pub estimated_cost: Money,
}

/// Latencies in milliseconds, in buckets that grow by a quarter of a power of two: quantiles are right within 10 %.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum_ms: u64,
    /// Bucket → how many.
    pub buckets: BTreeMap<u16, u64>,
}
