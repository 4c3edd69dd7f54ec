//! Where a secret comes from: written down, or named by `env:NAME` or `file:PATH`.
//!
//! Invariant: no message quotes what was written, because it may be the secret itself.

use std::collections::BTreeMap;

use toml::de::DeValue;
use zeroize::Zeroizing;

use super::reader::Reader;
use super::secret::Secret;
use super::setting::Setting;

/// The least length of a secret in bytes: below it, guessing is cheaper than asking.
const LEAST: usize = 16;

/// How a secret was written.
enum SecretSource {
    Literal(Secret),
    Environment(String),
    File(String),
}

impl Setting for SecretSource {
    fn expected() -> String {
        "\"env:NAME\" or \"file:PATH\"".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        Self::from_text(value.as_str()?)
    }

    fn from_text(text: &str) -> Option<Self> {
        match text.split_once(':') {
            Some(("env", name)) => (!name.is_empty()).then(|| Self::Environment(name.to_owned())),
            Some(("file", path)) => (!path.is_empty()).then(|| Self::File(path.to_owned())),
            _ => (!text.is_empty()).then(|| Self::Literal(Secret::new(text))),
        }
    }
}

/// Whether a secret may stand in the file itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Literal {
    Allowed,
    Refused,
}

/// Takes a secret and fetches it. A line break at its end, as editors leave it in files, is not part of it.
pub(super) fn take_secret(
    reader: &mut Reader<'_>,
    path: &'static str,
    literal: Literal,
    env: &BTreeMap<String, String>,
) -> Option<Secret> {
    let source: SecretSource = reader.optional(path)?;
    source.fetch(literal, env).map_err(|message| reader.refuse(path, message)).ok()
}

/// The same for a list of them.
pub(super) fn take_secrets(
    reader: &mut Reader<'_>,
    path: &'static str,
    literal: Literal,
    env: &BTreeMap<String, String>,
) -> Vec<Secret> {
    let sources: Vec<SecretSource> = reader.take(path, Vec::new());
    let mut fetch = |source: SecretSource| source.fetch(literal, env).map_err(|message| reader.refuse(path, message));
    sources.into_iter().filter_map(|source| fetch(source).ok()).collect()
}

impl SecretSource {
    /// Errors: why not, in words that don't quote it.
    fn fetch(self, literal: Literal, env: &BTreeMap<String, String>) -> Result<Secret, String> {
        let secret = match self {
            Self::Literal(_) if literal == Literal::Refused => {
                return Err("the secret itself must not stand here: write \"env:NAME\" or \"file:PATH\"".to_owned());
            }
            Self::Literal(secret) => secret,
            Self::Environment(name) => {
                let text = env.get(&name).ok_or_else(|| "the environment variable it names is not set".to_owned())?;
                trimmed(text)
            }
            Self::File(file) => {
                let text = std::fs::read_to_string(file).map(Zeroizing::new);
                trimmed(&text.map_err(|cause| format!("the file it names cannot be read: {}", cause.kind()))?)
            }
        };
        let long = secret.expose().len() >= LEAST;
        long.then_some(secret).ok_or_else(|| format!("too short: a secret needs at least {LEAST} bytes"))
    }
}

fn trimmed(text: &str) -> Secret {
    Secret::new(text.trim_end_matches(['\r', '\n']))
}
