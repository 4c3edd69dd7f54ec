//! The admin plane: workspaces, provider credentials, virtual keys, and what they used. A plain axum [`Router`], whatever carries
//! it: the proxy calls it in-process through tower, tests call it directly.
//!
//! One file per resource; `routes` is the table of them. `auth` decides who speaks, `tenant` is the only way from a path to a workspace, `input` reads and
//! `respond` writes. Not here: what may be stored (`directory`), what is counted (`meter`).
//!
//! Invariants: no route without a token but the console's static files; another tenant's workspace is a 404 like one that does not
//! exist; no answer holds a provider key, a hash, or a secret option; a virtual key is shown once.

mod api_keys;
pub mod auth;
mod console;
mod export;
mod health;
mod input;
mod live;
mod logs;
mod performance;
mod providers;
mod respond;
mod routes;
mod session;
mod tenant;
#[cfg(test)]
mod tests;
mod usage;
mod workspaces;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::middleware::{from_fn_with_state, map_response};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::api::strategy::StrategyName;
use crate::directory::{Credential, Directory, Workspace};
use crate::error::{Error, Result};
use crate::live::Table;
use crate::meter::Meter;
use crate::store::Store;
use auth::Jwt;
pub use health::{CredentialHealth, RouteHealth};
pub use routes::routes;

/// What the routes work on.
#[derive(Clone)]
pub struct AdminState {
    /// The tenants.
    pub directory: Arc<Directory>,
    /// The ledger and its roll-ups.
    pub store: Arc<dyn Store>,
    /// What writes the ledger, so that a reader can wait for it.
    pub meter: Meter,
    /// Who may speak.
    pub jwt: Arc<Jwt>,
    /// What only the proxy can do.
    pub upstream: Arc<dyn UpstreamOps>,
    /// The requests under way.
    pub live: Arc<Table>,
    /// The time, for expiry, for `days` and for what is made.
    pub now: fn() -> Timestamp,
}

/// What the admin plane asks of the proxy: its connector and its balancer.
#[async_trait]
pub trait UpstreamOps: Send + Sync {
    /// Asks the provider whether the credential works, without spending tokens where its API allows. A credential that does
    /// not work is a result, not an error.
    async fn test(&self, workspace: &Workspace, credential: &Credential) -> TestResult;

    /// The candidates for a chat request, in order, and why others were excluded. Nothing is sent.
    ///
    /// Errors: as the chat route would answer before its first attempt.
    async fn dry_run(&self, workspace: &Workspace, body: Bytes, strategy: Option<StrategyName>) -> Result<Value>;

    /// How each credential of the workspace is doing at this moment, disabled ones too, in the workspace's order.
    fn health(&self, workspace: &Workspace) -> Vec<CredentialHealth>;
}

/// Whether a credential works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TestResult {
    /// Whether the provider accepted the key.
    pub ok: bool,
    /// The provider's HTTP status; absent when none came.
    pub status: Option<u16>,
    /// How long it took.
    pub latency_ms: u64,
    /// Why not: a code of the error table.
    pub error: Option<String>,
    /// Why not, in words that quote nothing of the key.
    pub message: Option<String>,
}

/// The routes.
pub fn router(state: AdminState) -> Router {
    routes::router()
        .method_not_allowed_fallback(respond::method_not_allowed)
        .route_layer(from_fn_with_state(state.clone(), auth::require))
        .merge(console::router())
        .fallback(respond::not_found)
        .layer(map_response(respond::harden))
        .with_state(state)
}

/// How long a reader waits for what was booked a moment ago; a ledger that is stuck must not hide what it has.
const LEDGER_PATIENCE: Duration = Duration::from_secs(2);

/// Reads the ledger once everything booked so far is in it: who has an answer finds it in the bill.
async fn read_ledger<T, F>(state: AdminState, read: F) -> Result<T>
where
    F: FnOnce(&dyn Store) -> Result<T> + Send + 'static,
    T: Send + 'static,
{
    blocking(move || {
        state.meter.flush_within(LEDGER_PATIENCE);
        read(&*state.store)
    })
    .await
}

/// Runs what may wait for the disk where waiting is allowed.
async fn blocking<T, F>(work: F) -> Result<T>
where
    F: FnOnce() -> Result<T> + Send + 'static,
    T: Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
}
