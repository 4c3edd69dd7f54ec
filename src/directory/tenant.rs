//! The tenants as the request path sees them. Shared by `Arc` and never changed in place: a change makes a new value.
//!
//! Nothing here derives `Debug`, because a credential holds its key.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::sealed::{Options, SEALED};
use crate::api::strategy::StrategyName;
use crate::config::Secret;
use crate::error::{Error, Source};
use crate::provider::{Endpoint, Provider};
use crate::quota::{Account, Allowance, Subject};
use crate::store::{CredentialRecord, KeyRecord, WorkspaceRecord};

/// Who sent a request: a virtual key and its workspace.
#[derive(Clone)]
pub struct Caller {
    /// The key that was presented.
    pub key: Arc<VirtualKey>,
    /// Its workspace, as it is at this moment.
    pub workspace: Arc<Workspace>,
}

impl Caller {
    /// Whose limits a request of the caller meets: the key's and the workspace's.
    pub fn subjects(&self) -> [Subject<'_>; 2] {
        let Self { key, workspace } = self;
        [
            Subject { what: "virtual key", allowance: &key.allowance, account: &key.account },
            Subject { what: "workspace", allowance: &workspace.allowance, account: &workspace.account },
        ]
    }
}

/// A tenant.
#[derive(Clone)]
pub struct Workspace {
    /// `ws_…`.
    pub id: String,
    /// For people.
    pub name: String,
    /// The strategy of requests and keys that name none.
    pub strategy: Option<StrategyName>,
    /// Whether slow streams get a second attempt beside the first.
    pub hedging: bool,
    /// Whether models without a known price are refused.
    pub refuse_unpriced: bool,
    /// Limits of the workspace, by name.
    pub limits: Map<String, Value>,
    /// The same, read.
    pub allowance: Allowance,
    /// What it has used of them; the same one through every change.
    pub account: Arc<Account>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its provider credentials: by priority, then in the order of their making. Disabled ones too.
    pub credentials: Vec<Arc<Credential>>,
    /// Another number after every change of the workspace or of its credentials; no two states in this process share one.
    pub revision: u64,
}

impl Workspace {
    /// A credential by id.
    pub fn credential(&self, id: &str) -> Option<&Arc<Credential>> {
        self.credentials.iter().find(|credential| credential.id == id)
    }

    /// What the store keeps of it.
    pub(super) fn record(&self) -> WorkspaceRecord {
        WorkspaceRecord {
            id: self.id.clone(),
            name: self.name.clone(),
            strategy: self.strategy,
            limits: self.limits.clone(),
            hedging: self.hedging,
            refuse_unpriced: self.refuse_unpriced,
            created_at: self.created_at,
        }
    }
}

/// A provider credential, unsealed.
#[derive(Clone)]
pub struct Credential {
    /// `prov_…`.
    pub id: String,
    /// Whose it is.
    pub workspace: String,
    /// Which provider.
    pub provider: &'static Provider,
    /// 1 comes first.
    pub priority: u32,
    /// Share among equal priorities.
    pub weight: u32,
    /// Where requests go: the credential's own base URL or the provider's.
    pub endpoint: Endpoint,
    /// Whether the endpoint is the credential's own.
    pub custom_base_url: bool,
    /// Public model name → upstream name.
    pub models: BTreeMap<String, String>,
    /// Whether it takes part: it is switched on, and its key could be unsealed.
    pub enabled: bool,
    /// Whether its key could be unsealed and its address understood.
    pub usable: bool,
    /// What a key alone can't say, secret values included.
    pub options: Options,
    /// The provider key; empty when the options authenticate, or nothing has to.
    pub key: Secret,
    /// The end of the key, for people.
    pub last_four: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// What the store keeps of it; its options show `[sealed]` where a value is secret.
    pub(super) record: CredentialRecord,
}

impl Credential {
    /// The base URL as it was given, if one was.
    pub fn base_url(&self) -> Option<&str> {
        self.record.base_url.as_deref()
    }

    /// The options with `[sealed]` in the place of every secret.
    pub const fn shown_options(&self) -> &Map<String, Value> {
        &self.record.options
    }

    /// Names the provider in an error that is its fault, and takes the key and every secret option out of its words.
    pub fn blame(&self, error: Error) -> Error {
        let secret = |name: &String| self.shown_options().get(name).is_some_and(|shown| shown == SEALED);
        let mut secrets = vec![self.key.expose()];
        for (_, value) in self.options.iter().filter(|(name, _)| secret(name)) {
            collect_texts(value, &mut secrets);
        }
        let error = secrets.into_iter().fold(error, Error::redacted);
        let at_fault = error.kind().row().source == Source::Provider;
        if at_fault { error.with_provider(self.provider.name) } else { error }
    }

    /// Whether it is switched on, usable or not.
    pub const fn switched_on(&self) -> bool {
        self.record.enabled
    }
}

/// Shorter texts are words, such as a region, and no secrets.
const SHORTEST_SECRET: usize = 8;

/// Every text inside a secret option.
fn collect_texts<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) if text.len() >= SHORTEST_SECRET => texts.push(text),
        Value::Array(items) => items.iter().for_each(|item| collect_texts(item, texts)),
        Value::Object(members) => members.values().for_each(|member| collect_texts(member, texts)),
        _ => {}
    }
}

/// A virtual key, without the key.
#[derive(Clone, Debug)]
pub struct VirtualKey {
    /// `key_…`.
    pub id: String,
    /// Whose it is.
    pub workspace: String,
    /// For people.
    pub name: String,
    /// The strategy of requests that name none.
    pub strategy: Option<StrategyName>,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
    /// Since when it is refused for good.
    pub revoked_at: Option<Timestamp>,
    /// Limits of the key, by name.
    pub limits: Map<String, Value>,
    /// The same, read.
    pub allowance: Allowance,
    /// What it has used of them.
    pub account: Arc<Account>,
    /// The end of the key, for people.
    pub last_four: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its HMAC in hexadecimal, as the store has it.
    pub(super) hash: String,
    /// What the HMAC was made with, sealed.
    pub(super) pepper: Option<String>,
}

impl VirtualKey {
    /// Whether it opens the door at this moment.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }

    pub(super) fn record(&self) -> KeyRecord {
        KeyRecord {
            id: self.id.clone(),
            workspace: self.workspace.clone(),
            name: self.name.clone(),
            hash: self.hash.clone(),
            pepper: self.pepper.clone(),
            last_four: self.last_four.clone(),
            strategy: self.strategy,
            expires_at: self.expires_at,
            revoked_at: self.revoked_at,
            limits: self.limits.clone(),
            created_at: self.created_at,
        }
    }
}

impl From<KeyRecord> for VirtualKey {
    fn from(record: KeyRecord) -> Self {
        Self {
            allowance: stored_allowance(&record.limits, &record.id),
            id: record.id,
            workspace: record.workspace,
            name: record.name,
            strategy: record.strategy,
            expires_at: record.expires_at,
            revoked_at: record.revoked_at,
            limits: record.limits,
            account: Arc::default(),
            last_four: record.last_four,
            created_at: record.created_at,
            hash: record.hash,
            pepper: record.pepper,
        }
    }
}

/// Stored limits, which an older or newer build may have written: what can't be read is logged and does not bound.
pub(super) fn stored_allowance(limits: &Map<String, Value>, whose: &str) -> Allowance {
    Allowance::read(limits).unwrap_or_else(|error| {
        tracing::error!(whose, %error, "the stored limits can't be read and are ignored");
        Allowance::default()
    })
}
