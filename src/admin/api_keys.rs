//! `/workspaces/{ws}/api-keys`: virtual keys. A key is shown in the answer that makes it, and never again.

use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::input::Input;
use super::respond::{Answer, Created, Data, deleted};
use super::tenant::{Item, Tenant};
use super::{AdminState, blocking};
use crate::api::strategy::StrategyName;
use crate::directory::{NewKey, VirtualKey, no_key};

/// A virtual key as it is shown.
#[derive(Serialize)]
pub(super) struct View {
    id: String,
    name: String,
    strategy: Option<StrategyName>,
    last_four: String,
    limits: Map<String, Value>,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    created_at: Timestamp,
    /// The key itself, in one answer only.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl From<&VirtualKey> for View {
    fn from(key: &VirtualKey) -> Self {
        Self {
            id: key.id.clone(),
            name: key.name.clone(),
            strategy: key.strategy,
            limits: key.limits.clone(),
            last_four: key.last_four.clone(),
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            created_at: key.created_at,
            key: None,
        }
    }
}

/// A virtual key as it is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    name: Option<String>,
    strategy: Option<StrategyName>,
    expires_at: Option<Timestamp>,
    #[serde(default)]
    limits: Map<String, Value>,
}

pub(super) async fn list(State(state): State<AdminState>, Tenant(workspace): Tenant) -> Data<Vec<View>> {
    Data(state.directory.keys(&workspace.id).iter().map(|key| View::from(&**key)).collect())
}

pub(super) async fn create(
    State(state): State<AdminState>,
    Tenant(workspace): Tenant,
    Input(body): Input<Body>,
) -> Answer<Created<View>> {
    let Body { name, strategy, expires_at, limits } = body;
    let new = NewKey { name, strategy, expires_at, limits };
    let (key, secret) = blocking(move || state.directory.create_key(&workspace.id, new, (state.now)())).await?;
    Ok(Created(View { key: Some(secret.expose().to_owned()), ..View::from(&*key) }))
}

pub(super) async fn read(
    State(state): State<AdminState>,
    Tenant(workspace): Tenant,
    Item(id): Item,
) -> Answer<Data<View>> {
    let key = state.directory.key(&workspace.id, &id).ok_or_else(no_key)?;
    Ok(Data(View::from(&*key)))
}

pub(super) async fn revoke(
    State(state): State<AdminState>,
    Tenant(workspace): Tenant,
    Item(id): Item,
) -> Answer<Data<View>> {
    let key = blocking(move || state.directory.revoke_key(&workspace.id, &id, (state.now)())).await?;
    Ok(Data(View::from(&*key)))
}

pub(super) async fn delete(
    State(state): State<AdminState>,
    Tenant(workspace): Tenant,
    Item(id): Item,
) -> Answer<Data<Value>> {
    let answer = deleted(&id);
    blocking(move || state.directory.delete_key(&workspace.id, &id)).await?;
    Ok(answer)
}
