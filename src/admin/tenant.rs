//! The way from a path to a workspace. There is no other: every route under `/workspaces/{ws}` takes a [`Tenant`], and that
//! is where its caller's right to it is checked.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;

use super::AdminState;
use super::auth::{Identity, refused};
use super::respond::Failure;
use crate::directory::{Workspace, no_workspace};
use crate::error::Result;

/// The workspace of the path, which the caller may see.
pub(super) struct Tenant(pub(super) Arc<Workspace>);

/// The `{id}` of the path; looked up within the [`Tenant`], never alone.
pub(super) struct Item(pub(super) String);

/// Who speaks.
pub(super) struct Speaker(pub(super) Identity);

impl FromRequestParts<AdminState> for Tenant {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &AdminState) -> Result<Self, Failure> {
        let Speaker(identity) = Speaker::from_request_parts(parts, state).await?;
        let id = path_param(parts, state, "ws").await?;
        let workspace = identity.sees(&id).then(|| state.directory.workspace(&id)).flatten();
        workspace.map(Self).ok_or_else(|| Failure(no_workspace()))
    }
}

impl FromRequestParts<AdminState> for Item {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &AdminState) -> Result<Self, Failure> {
        path_param(parts, state, "id").await.map(Self)
    }
}

impl FromRequestParts<AdminState> for Speaker {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &AdminState) -> Result<Self, Failure> {
        parts.extensions.get::<Identity>().cloned().map(Self).ok_or_else(|| Failure(refused()))
    }
}

async fn path_param(parts: &mut Parts, state: &AdminState, name: &str) -> Result<String, Failure> {
    let params = RawPathParams::from_request_parts(parts, state).await.ok();
    let found = params.as_ref().and_then(|all| all.iter().find(|(key, _)| *key == name));
    found.map(|(_, value)| value.to_owned()).ok_or_else(|| Failure(super::respond::no_route()))
}
