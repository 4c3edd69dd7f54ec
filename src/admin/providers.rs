//! `/workspaces/{ws}/providers`: the tenant's own provider credentials. A key goes in and never comes out.

use std::collections::BTreeMap;

use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::input::{Input, given};
use super::respond::{Answer, Created, Data, deleted};
use super::tenant::{Item, Tenant};
use super::{AdminState, TestResult, blocking};
use crate::config::Secret;
use crate::directory::{Credential, CredentialChange, Workspace, no_credential};
use crate::error::{Error, ErrorKind, Result};

/// A credential as it is shown.
#[derive(Serialize)]
pub(super) struct View {
    id: String,
    provider: &'static str,
    priority: u32,
    weight: u32,
    base_url: Option<String>,
    models: BTreeMap<String, String>,
    enabled: bool,
    /// Whether the stored key can be read; when not, it must be given again.
    usable: bool,
    options: Map<String, Value>,
    last_four: String,
    created_at: Timestamp,
}

impl From<&Credential> for View {
    fn from(credential: &Credential) -> Self {
        Self {
            id: credential.id.clone(),
            provider: credential.provider.name,
            priority: credential.priority,
            weight: credential.weight,
            base_url: credential.base_url().map(str::to_owned),
            models: credential.models.clone(),
            enabled: credential.switched_on(),
            usable: credential.usable,
            options: credential.shown_options().clone(),
            last_four: credential.last_four.clone(),
            created_at: credential.created_at,
        }
    }
}

/// A credential as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    provider: Option<String>,
    api_key: Option<String>,
    priority: Option<u32>,
    weight: Option<u32>,
    #[serde(default, deserialize_with = "given")]
    base_url: Option<Option<String>>,
    models: Option<BTreeMap<String, String>>,
    enabled: Option<bool>,
    options: Option<Map<String, Value>>,
}

impl From<Body> for CredentialChange {
    fn from(body: Body) -> Self {
        Self {
            api_key: body.api_key.map(Secret::new),
            priority: body.priority,
            weight: body.weight,
            base_url: body.base_url,
            models: body.models,
            enabled: body.enabled,
            options: body.options,
        }
    }
}

pub(super) async fn list(Tenant(workspace): Tenant) -> Data<Vec<View>> {
    Data(workspace.credentials.iter().map(|credential| View::from(&**credential)).collect())
}

pub(super) async fn create(
    State(state): State<AdminState>,
    Tenant(workspace): Tenant,
    Input(mut body): Input<Body>,
) -> Answer<Created<View>> {
    let provider = body.provider.take();
    let provider = provider.ok_or_else(|| Error::invalid("provider", "The field 'provider' is missing."))?;
    let make = move || state.directory.create_credential(&workspace.id, &provider, body.into(), (state.now)());
    Ok(Created(View::from(&*blocking(make).await?)))
}

pub(super) async fn read(Tenant(workspace): Tenant, Item(id): Item) -> Answer<Data<View>> {
    Ok(Data(View::from(find(&workspace, &id)?)))
}

/// Changes the fields that are given. The provider may be repeated, not changed.
pub(super) async fn update(
    State(state): State<AdminState>,
    Tenant(workspace): Tenant,
    Item(id): Item,
    Input(body): Input<Body>,
) -> Answer<Data<View>> {
    let held = find(&workspace, &id)?;
    if body.provider.as_ref().is_some_and(|provider| provider != held.provider.name) {
        return Err(Error::invalid("provider", "The provider of a credential can't be changed; make another.").into());
    }
    let change = move || state.directory.update_credential(&workspace.id, &id, body.into());
    Ok(Data(View::from(&*blocking(change).await?)))
}

pub(super) async fn delete(
    State(state): State<AdminState>,
    Tenant(workspace): Tenant,
    Item(id): Item,
) -> Answer<Data<Value>> {
    let answer = deleted(&id);
    blocking(move || state.directory.delete_credential(&workspace.id, &id)).await?;
    Ok(answer)
}

pub(super) async fn test(
    State(state): State<AdminState>,
    Tenant(workspace): Tenant,
    Item(id): Item,
) -> Answer<Data<TestResult>> {
    let credential = find(&workspace, &id)?;
    if !credential.usable {
        return Err(Error::new(ErrorKind::Conflict, "The stored key can't be read; give it again.").into());
    }
    Ok(Data(state.upstream.test(&workspace, credential).await))
}

fn find<'a>(workspace: &'a Workspace, id: &str) -> Result<&'a Credential> {
    workspace.credential(id).map(|credential| &**credential).ok_or_else(no_credential)
}
