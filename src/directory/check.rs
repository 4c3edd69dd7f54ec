//! What may be stored: the rules for names, numbers, keys, model maps and addresses of a tenant, in one place for the admin
//! plane and the first start. Every refusal is a 400 that names the field.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::api::strategy::StrategyName;
use crate::config::Secret;
use crate::error::{Error, Result};
use crate::provider::{self, Endpoint, PROVIDERS, Provider};
use crate::quota::Allowance;
use crate::store::CredentialRecord;

/// The longest name of a workspace or key, the longest name of a model, in bytes.
const MAX_NAME: usize = 200;
/// The longest provider key, in bytes; access tokens of clouds reach a few thousand.
const MAX_KEY: usize = 16 * 1024;
/// The most entries of a model map.
const MAX_MODELS: usize = 1000;

/// A new workspace, or what changes in one. Absent fields stay; `Some(None)` clears.
#[derive(Clone, Debug, Default)]
pub struct WorkspaceChange {
    /// For people.
    pub name: Option<String>,
    /// The strategy of requests and keys that name none.
    pub strategy: Option<Option<StrategyName>>,
    /// Limits by name, all of them.
    pub limits: Option<Map<String, Value>>,
    /// Whether slow streams get a second attempt beside the first.
    pub hedging: Option<bool>,
    /// Whether models without a known price are refused.
    pub refuse_unpriced: Option<bool>,
}

impl WorkspaceChange {
    pub(super) fn check(&self) -> Result<()> {
        if let Some(text) = &self.name {
            name("name", text)?;
        }
        self.limits.as_ref().map_or(Ok(()), |limits| Allowance::read(limits).map(drop))
    }
}

/// A new credential, or what changes in one. Absent fields stay; `Some(None)` clears.
#[derive(Clone, Default)]
pub struct CredentialChange {
    /// The provider key.
    pub api_key: Option<Secret>,
    /// 1 to 1000; 1 comes first.
    pub priority: Option<u32>,
    /// 1 to 1000: share among equal priorities.
    pub weight: Option<u32>,
    /// Another address than the provider's own.
    pub base_url: Option<Option<String>>,
    /// Public model name → upstream name, all of them.
    pub models: Option<BTreeMap<String, String>>,
    /// Whether it takes part.
    pub enabled: Option<bool>,
    /// What a key alone can't say, all of it. `[sealed]` keeps the secret that is there.
    pub options: Option<Map<String, Value>>,
}

impl CredentialChange {
    pub(super) fn check(&self) -> Result<()> {
        if let Some(key) = &self.api_key {
            api_key(key)?;
        }
        share("priority", self.priority)?;
        share("weight", self.weight)?;
        self.models.as_ref().map_or(Ok(()), models)
    }

    /// Moves what is no secret into a record.
    pub(super) fn apply_plain(&mut self, record: &mut CredentialRecord) {
        record.priority = self.priority.unwrap_or(record.priority);
        record.weight = self.weight.unwrap_or(record.weight);
        record.enabled = self.enabled.unwrap_or(record.enabled);
        if let Some(models) = self.models.take() {
            record.models = models;
        }
        if let Some(base_url) = self.base_url.take() {
            record.base_url = base_url;
        }
    }
}

/// A new virtual key.
#[derive(Clone, Debug, Default)]
pub struct NewKey {
    /// For people; `default` when absent.
    pub name: Option<String>,
    /// The strategy of requests that name none.
    pub strategy: Option<StrategyName>,
    /// From when on it is refused; in the future.
    pub expires_at: Option<Timestamp>,
    /// Limits of the key, by name.
    pub limits: Map<String, Value>,
}

impl NewKey {
    pub(super) fn check(&self, now: Timestamp) -> Result<()> {
        if let Some(text) = &self.name {
            name("name", text)?;
        }
        match self.expires_at {
            Some(end) if end <= now => Err(invalid("expires_at", "it lies in the past")),
            _ => Ok(()),
        }
    }

    /// The limits, none of them above that of the workspace. A limit that the workspace gets later bounds the key all the same:
    /// a request takes from both.
    pub(super) fn allowance(&self, of_workspace: &Allowance) -> Result<Allowance> {
        let allowance = Allowance::read(&self.limits)?;
        if allowance.max_in_flight.is_some() {
            return Err(invalid("limits.max_in_flight", "only a workspace has this limit"));
        }
        match allowance.beyond(of_workspace) {
            Some(name) => Err(invalid(format!("limits.{name}"), "it is above the limit of the workspace")),
            None => Ok(allowance),
        }
    }
}

/// A provider by name; the refusal lists them all.
pub(super) fn known_provider(text: &str) -> Result<&'static Provider> {
    provider::find(text).ok_or_else(|| {
        let names: Vec<&str> = PROVIDERS.iter().map(|provider| provider.name).collect();
        invalid("provider", format!("unknown provider; use one of {}", names.join(", ")))
    })
}

/// Where a credential's requests go.
pub(super) fn endpoint(provider: &Provider, base_url: Option<&str>) -> Result<Endpoint> {
    match base_url {
        Some(text) => Endpoint::parse(text),
        None if provider.base_url.is_empty() => {
            let why =
                format!("the provider '{}' has no address of its own, so the credential must name one", provider.name);
            Err(invalid("base_url", why))
        }
        None => Endpoint::parse(provider.base_url),
    }
}

/// A 400 about one field.
pub(super) fn invalid(param: impl Into<String>, why: impl std::fmt::Display) -> Error {
    let param = param.into();
    let message = format!("Invalid value for '{param}': {why}.");
    Error::invalid(param, message)
}

fn name(param: &str, text: &str) -> Result<()> {
    if text.trim().is_empty() || text.len() > MAX_NAME || text.chars().any(char::is_control) {
        return Err(invalid(param, format!("a text of 1 to {MAX_NAME} bytes without control characters is expected")));
    }
    Ok(())
}

fn api_key(key: &Secret) -> Result<()> {
    let text = key.expose();
    if text.is_empty() {
        return Err(invalid("api_key", "it is empty"));
    }
    if text.len() > MAX_KEY || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(invalid("api_key", "one line of visible ASCII without spaces is expected"));
    }
    Ok(())
}

fn share(param: &str, value: Option<u32>) -> Result<()> {
    match value {
        Some(number) if !(1..=1000).contains(&number) => Err(invalid(param, "a number from 1 to 1000 is expected")),
        _ => Ok(()),
    }
}

fn models(models: &BTreeMap<String, String>) -> Result<()> {
    if models.len() > MAX_MODELS {
        return Err(invalid("models", format!("at most {MAX_MODELS} entries are accepted")));
    }
    for (public, upstream) in models {
        if public.trim().is_empty() || public.len() > MAX_NAME || public.chars().any(char::is_control) {
            return Err(invalid("models", "a public model name is empty, too long or holds control characters"));
        }
        if !is_upstream_model(upstream) {
            let why = "visible ASCII is expected, without spaces, URL syntax or dot segments";
            return Err(invalid(format!("models.{public}"), why));
        }
    }
    Ok(())
}

/// Whether a text can be an upstream model's name. With some providers it becomes part of a path, so that it must not be
/// able to leave it: visible ASCII, no `?`, `#`, `%` or `\`, no segment that is empty, `.` or `..`.
pub fn is_upstream_model(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#%\\\"<>`".contains(&byte);
    name.len() <= MAX_NAME
        && name.bytes().all(plain)
        && name.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_name_stays_in_its_path() {
        let arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.meta.llama3-1-8b-instruct-v1:0";
        for good in ["gpt-4o", "meta-llama/Llama-3.3-70B", "accounts/fireworks/models/x", "@cf/meta/llama", "a..b", arn]
        {
            assert!(is_upstream_model(good), "{good}");
        }
        for bad in [
            "",
            "/",
            "a/",
            "a//b",
            "..",
            "../v1/files",
            "a/../b",
            "a/./b",
            "a?b",
            "a#b",
            "%2e%2e",
            "a\\b",
            "a b",
            "a\r\nb",
            "ü",
        ] {
            assert!(!is_upstream_model(bad), "{bad}");
        }
        assert!(!is_upstream_model(&"x".repeat(201)));
    }
}
