//! `/workspaces`: tenants, and the dry run of their routing.

use axum::extract::State;
use http::HeaderMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::input::{Input, Raw, given};
use super::respond::{Answer, Created, Data, deleted};
use super::tenant::{Speaker, Tenant};
use super::{AdminState, blocking};
use crate::api::strategy::StrategyName;
use crate::directory::{Workspace, WorkspaceChange};
use crate::error::{Error, Result};

/// A workspace as it is shown.
#[derive(Serialize)]
pub(super) struct View {
    id: String,
    name: String,
    strategy: Option<StrategyName>,
    limits: Map<String, Value>,
    hedging: bool,
    unpriced: Unpriced,
    created_at: Timestamp,
}

impl From<&Workspace> for View {
    fn from(workspace: &Workspace) -> Self {
        Self {
            id: workspace.id.clone(),
            name: workspace.name.clone(),
            strategy: workspace.strategy,
            limits: workspace.limits.clone(),
            hedging: workspace.hedging,
            unpriced: if workspace.refuse_unpriced { Unpriced::Refuse } else { Unpriced::Allow },
            created_at: workspace.created_at,
        }
    }
}

/// A workspace as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    name: Option<String>,
    #[serde(default, deserialize_with = "given")]
    strategy: Option<Option<StrategyName>>,
    limits: Option<Map<String, Value>>,
    hedging: Option<bool>,
    unpriced: Option<Unpriced>,
}

impl Body {
    /// Whether it lets requests past a budget: what has no price is not counted in it.
    fn opens_budget(&self, workspace: &Workspace) -> bool {
        let budget = workspace.allowance.per_day.or(workspace.allowance.per_month);
        budget.is_some() && workspace.refuse_unpriced && self.unpriced == Some(Unpriced::Allow)
    }
}

/// What becomes of requests for models that no price is known of.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Unpriced {
    /// They are served, and their tokens booked without a cost.
    Allow,
    /// They are refused before anything is sent.
    Refuse,
}

impl From<Body> for WorkspaceChange {
    fn from(body: Body) -> Self {
        let refuse_unpriced = body.unpriced.map(|choice| choice == Unpriced::Refuse);
        let Body { name, strategy, limits, hedging, .. } = body;
        Self { name, strategy, limits, hedging, refuse_unpriced }
    }
}

pub(super) async fn list(State(state): State<AdminState>, Speaker(identity): Speaker) -> Data<Vec<View>> {
    let all = state.directory.workspaces();
    Data(
        all.iter().filter(|workspace| identity.sees(&workspace.id)).map(|workspace| View::from(&**workspace)).collect(),
    )
}

pub(super) async fn create(
    State(state): State<AdminState>,
    Speaker(identity): Speaker,
    body: Answer<Input<Body>>,
) -> Answer<Created<View>> {
    identity.require_admin()?;
    let Input(body) = body?;
    let made = blocking(move || state.directory.create_workspace(body.into(), (state.now)())).await?;
    Ok(Created(View::from(&*made)))
}

pub(super) async fn read(Tenant(workspace): Tenant) -> Data<View> {
    Data(View::from(&*workspace))
}

/// The limits are what the operator grants, so a tenant can't change its own, nor get past its budget.
pub(super) async fn update(
    State(state): State<AdminState>,
    Tenant(workspace): Tenant,
    Speaker(identity): Speaker,
    Input(body): Input<Body>,
) -> Answer<Data<View>> {
    if body.limits.is_some() || body.opens_budget(&workspace) {
        identity.require_admin()?;
    }
    let changed = blocking(move || state.directory.update_workspace(&workspace.id, body.into())).await?;
    Ok(Data(View::from(&*changed)))
}

pub(super) async fn delete(
    State(state): State<AdminState>,
    Tenant(workspace): Tenant,
    Speaker(identity): Speaker,
) -> Answer<Data<Value>> {
    identity.require_admin()?;
    let id = workspace.id.clone();
    blocking(move || state.directory.delete_workspace(&id)).await?;
    Ok(deleted(&workspace.id))
}

/// The dry run: the strategy comes by header, as it does on the data plane.
pub(super) async fn route(
    State(state): State<AdminState>,
    Tenant(workspace): Tenant,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Answer<Data<Value>> {
    let strategy = strategy(&headers)?;
    Ok(Data(state.upstream.dry_run(&workspace, body, strategy).await?))
}

fn strategy(headers: &HeaderMap) -> Result<Option<StrategyName>> {
    let Some(value) = headers.get("x-perpetuo-route") else { return Ok(None) };
    value.to_str().map_err(|_| Error::invalid("X-Perpetuo-Route", "The header is not text."))?.parse().map(Some)
}
