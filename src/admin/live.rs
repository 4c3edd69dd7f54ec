//! `/live`, `/workspaces/{ws}/live`: the requests under way, oldest first. What is over is in the log.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;

use super::AdminState;
use super::respond::Data;
use super::tenant::{Speaker, Tenant};
use crate::api::strategy::StrategyName;
use crate::live::Entry;
use crate::usage::estimate_tokens;

/// The most that are shown; the oldest, which are the ones to look at.
const MOST: usize = 500;

/// What is under way.
#[derive(Serialize)]
pub(super) struct Live {
    /// How many there are, shown or not.
    under_way: usize,
    requests: Vec<View>,
}

/// One request.
#[derive(Serialize)]
struct View {
    request_id: String,
    workspace: String,
    workspace_name: String,
    key: String,
    key_name: String,
    model: String,
    strategy: StrategyName,
    stream: bool,
    created_at: Timestamp,
    elapsed_ms: u64,
    /// The attempt that is running or serves, from 1; 0 before the first one.
    attempt: u32,
    provider: Option<&'static str>,
    upstream_model: Option<String>,
    first_token_ms: Option<u64>,
    /// Estimated from the text that passed; 0 for an answer that comes whole.
    tokens: u64,
}

impl View {
    fn new(entry: &Entry, now: Instant) -> Self {
        let (attempt, candidate) = entry.progress.latest().unzip();
        Self {
            request_id: entry.request_id.clone(),
            workspace: entry.caller.workspace.id.clone(),
            workspace_name: entry.caller.workspace.name.clone(),
            key: entry.caller.key.id.clone(),
            key_name: entry.caller.key.name.clone(),
            model: entry.model.clone(),
            strategy: entry.strategy,
            stream: entry.stream,
            created_at: entry.created_at,
            elapsed_ms: entry.elapsed_ms(now),
            attempt: attempt.unwrap_or(0),
            provider: candidate.as_ref().map(|candidate| candidate.credential.provider.name),
            upstream_model: candidate.map(|candidate| candidate.model.clone()),
            first_token_ms: entry.progress.first_content_ms(),
            tokens: estimate_tokens(entry.progress.generated()),
        }
    }
}

pub(super) async fn of_workspace(State(state): State<AdminState>, Tenant(workspace): Tenant) -> Data<Live> {
    shown(&state.live.list(|id| id == workspace.id))
}

/// Of every workspace that the caller sees.
pub(super) async fn of_all(State(state): State<AdminState>, Speaker(identity): Speaker) -> Data<Live> {
    shown(&state.live.list(|id| identity.sees(id)))
}

fn shown(entries: &[Arc<Entry>]) -> Data<Live> {
    let now = Instant::now();
    let requests = entries.iter().take(MOST).map(|entry| View::new(entry, now)).collect();
    Data(Live { under_way: entries.len(), requests })
}
