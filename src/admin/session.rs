//! `/console/session`: who speaks with this token, and what a page must know that no other route tells.

use serde::Serialize;

use super::auth::Role;
use super::respond::Data;
use super::tenant::Speaker;
use crate::provider::{PROVIDERS, Provider};

/// What the console needs.
#[derive(Serialize)]
pub(super) struct Session {
    subject: String,
    role: Role,
    version: &'static str,
    providers: Vec<Known>,
}

/// A provider that a credential can be made for.
#[derive(Serialize)]
struct Known {
    name: &'static str,
    /// Its address; empty where every customer has its own.
    base_url: &'static str,
    /// Whether it serves without a key.
    keyless: bool,
}

impl From<&&'static Provider> for Known {
    fn from(provider: &&'static Provider) -> Self {
        Self { name: provider.name, base_url: provider.base_url, keyless: provider.keyless }
    }
}

pub(super) async fn read(Speaker(identity): Speaker) -> Data<Session> {
    Data(Session {
        subject: identity.subject,
        role: identity.role,
        version: env!("CARGO_PKG_VERSION"),
        providers: PROVIDERS.iter().map(Known::from).collect(),
    })
}
