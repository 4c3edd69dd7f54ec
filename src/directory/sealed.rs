//! What of a credential is secret, and its form inside the vault: `{"api_key":"…","options":{…}}`. What virtual keys are hashed with
//! lies there too.

use std::ops::Deref;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::{Zeroize, Zeroizing};

use super::tenant::Credential;
use crate::config::Secret;
use crate::error::{Error, Result};
use crate::store::{CredentialRecord, KeyRecord};
use crate::vault::Vault;

/// What stands in the place of a secret option wherever options are shown or stored.
pub const SEALED: &str = "[sealed]";

/// Stands where a credential has its provider, and is the name of none.
const VIRTUAL_KEY: &str = "virtual key";

/// An option is secret when its name, or a name inside it, holds one of these words.
const SECRET_WORDS: [&str; 6] = ["key", "secret", "token", "password", "credential", "service_account"];

/// Options with secrets among them: no `Debug`, wiped when dropped.
#[derive(Clone, Default)]
pub struct Options(Map<String, Value>);

impl Deref for Options {
    type Target = Map<String, Value>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        self.0.values_mut().for_each(wipe);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        _ => {}
    }
}

/// The secret half of a credential.
pub(super) struct Secrets {
    pub(super) key: Secret,
    pub(super) options: Options,
}

impl Secrets {
    /// What a credential holds; the shown options name the secret ones.
    pub(super) fn of(credential: &Credential) -> Self {
        let secret = |name: &String| credential.shown_options().get(name).is_some_and(|shown| shown == SEALED);
        let options = credential.options.iter().filter(|(name, _)| secret(name));
        Self {
            key: credential.key.clone(),
            options: Options(options.map(|(name, value)| (name.clone(), value.clone())).collect()),
        }
    }

    /// Whether nothing is secret.
    pub(super) fn is_empty(&self) -> bool {
        self.key.expose().is_empty() && self.options.is_empty()
    }
}

impl Default for Secrets {
    fn default() -> Self {
        Self { key: Secret::new(""), options: Options::default() }
    }
}

/// The secret half as it is sealed.
#[derive(Serialize)]
struct Closing<'a> {
    api_key: &'a str,
    options: &'a Map<String, Value>,
}

/// The same as it is opened.
#[derive(Deserialize)]
struct Opened {
    api_key: String,
    #[serde(default)]
    options: Map<String, Value>,
}

/// Room for all but the strangest, because a buffer that grows leaves what it held behind.
const ROOM: usize = 32 * 1024;

/// Seals the secret half for this record's workspace, provider and id.
pub(super) fn seal(vault: &Vault, record: &CredentialRecord, secrets: &Secrets) -> Result<String> {
    let mut plain = Zeroizing::new(Vec::with_capacity(ROOM));
    let closing = Closing { api_key: secrets.key.expose(), options: &secrets.options };
    serde_json::to_writer(&mut *plain, &closing).map_err(Error::internal)?;
    let plain = Secret::new(String::from_utf8(std::mem::take(&mut *plain)).map_err(|_| Error::internal("no text"))?);
    vault.seal(&record.workspace, &record.provider, &record.id, &plain)
}

/// Opens what [`seal`] closed. Errors: the vault's, or `Internal` when the text inside is no such blob.
pub(super) fn open(vault: &Vault, record: &CredentialRecord) -> Result<Secrets> {
    let plain = vault.open(&record.workspace, &record.provider, &record.id, &record.sealed)?;
    // The cause is left out: serde_json quotes what it could not read.
    let opened: Opened =
        serde_json::from_str(plain.expose()).map_err(|_| Error::internal("a sealed credential has an unknown form"))?;
    Ok(Secrets { key: Secret::new(opened.api_key), options: Options(opened.options) })
}

/// Seals what a virtual key is hashed with for this key.
pub(super) fn seal_pepper(vault: &Vault, workspace: &str, id: &str, pepper: &Secret) -> Result<String> {
    vault.seal(workspace, VIRTUAL_KEY, id, pepper)
}

/// Opens what [`seal_pepper`] closed. Errors: the vault's.
pub(super) fn open_pepper(vault: &Vault, record: &KeyRecord, sealed: &str) -> Result<Secret> {
    vault.open(&record.workspace, VIRTUAL_KEY, &record.id, sealed)
}

/// Takes the secret values out of options and leaves [`SEALED`] in their place. A value that is [`SEALED`] already keeps
/// what `previous` has under that name. Errors: a 400 when there is nothing to keep.
pub(super) fn split(
    options: Map<String, Value>,
    previous: &Map<String, Value>,
) -> Result<(Map<String, Value>, Options)> {
    let mut shown = Map::new();
    let mut secret = Options::default();
    for (name, value) in options {
        if !is_secret(&name, &value) {
            shown.insert(name, value);
            continue;
        }
        let value = if value == SEALED {
            let kept = previous.get(&name).cloned();
            kept.ok_or_else(|| super::check::invalid(format!("options.{name}"), "there is no sealed value to keep"))?
        } else {
            value
        };
        shown.insert(name.clone(), Value::from(SEALED));
        secret.0.insert(name, value);
    }
    Ok((shown, secret))
}

/// The options as the dialects read them: secrets back in their places.
pub(super) fn merge(shown: &Map<String, Value>, secret: &Options) -> Options {
    Options(shown.iter().map(|(name, value)| (name.clone(), secret.get(name).unwrap_or(value).clone())).collect())
}

fn is_secret(name: &str, value: &Value) -> bool {
    let lower = name.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| lower.contains(word)) || value == SEALED || holds_secret(value)
}

fn holds_secret(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.iter().any(|(name, value)| is_secret(name, value)),
        Value::Array(items) => items.iter().any(holds_secret),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn every_secret_leaves_the_options_wherever_it_hides() {
        let options = object(&json!({
            "region": "eu-1", "access_key_id": "AKIA", "Secret_Access_Key": "x", "session_token": "y",
            "service_account": {"type": "z"}, "auth": {"deep": [{"password": "w"}]}
        }));
        let (shown, secret) = split(options.clone(), &Map::new()).unwrap();
        assert_eq!(
            secret.keys().collect::<Vec<_>>(),
            ["access_key_id", "Secret_Access_Key", "session_token", "service_account", "auth"]
        );
        assert_eq!(shown.get("region"), Some(&json!("eu-1")));
        assert_eq!(shown.values().filter(|value| **value == SEALED).count(), 5);
        assert_eq!(*merge(&shown, &secret), options);
    }

    #[test]
    fn what_is_wiped_holds_no_text_any_more() {
        let mut value = json!({"a": "secret", "b": [{"c": "secret"}, "secret", 7], "d": null});
        wipe(&mut value);
        assert_eq!(value, json!({"a": "", "b": [{"c": ""}, "", 7], "d": null}));
    }

    #[test]
    fn what_is_shown_can_be_sent_back_without_losing_the_secret() {
        let previous = object(&json!({"session_token": "old"}));
        let (_, secret) = split(object(&json!({"session_token": SEALED, "region": "r"})), &previous).unwrap();
        assert_eq!(secret.get("session_token"), Some(&json!("old")));
        let error = split(object(&json!({"other_token": SEALED})), &previous).err().unwrap();
        assert_eq!(error.param(), Some("options.other_token"));
    }
}
