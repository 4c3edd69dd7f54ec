//! What the admin API asks of the proxy: whether a provider key works, and what a request would do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::admit;
use super::attempt::Attempts;
use super::context::millis;
use crate::admin::{CredentialHealth, RouteHealth, TestResult, UpstreamOps};
use crate::api::head::ChatHead;
use crate::api::scan::Body;
use crate::api::strategy::StrategyName;
use crate::balance::plan::Planner;
use crate::balance::reason::Excluded;
use crate::balance::request::Request;
use crate::balance::stats::{Refusal, RouteStats, Routes, SEED_TPOT_MS, SEED_TTFT_MS};
use crate::balance::{Candidate, Moment};
use crate::catalog::Kind;
use crate::config::Config;
use crate::directory::{Credential, Workspace};
use crate::error::{Error, Result};
use crate::provider::{Failure, Target, failure};

/// The proxy, as the admin API sees it.
pub(super) struct Operations {
    pub(super) config: Arc<Config>,
    pub(super) planner: Arc<Planner>,
    pub(super) attempts: Arc<Attempts>,
    /// The zero of every [`Moment`].
    pub(super) started: Instant,
}

#[async_trait]
impl UpstreamOps for Operations {
    async fn test(&self, _: &Workspace, credential: &Credential) -> TestResult {
        let started = Instant::now();
        let limit = self.attempts.timeouts.first_token;
        let asked = tokio::time::timeout(limit, self.probe(credential)).await;
        let asked = asked.unwrap_or_else(|_| {
            let error = Error::new(crate::error::ErrorKind::ProviderTimeout, "The provider did not answer in time.");
            (None, Err(error))
        });
        let (status, outcome) = asked;
        let error = outcome.err().map(|error| credential.blame(error));
        TestResult {
            ok: error.is_none(),
            status,
            latency_ms: millis(started.elapsed()),
            error: error.as_ref().map(|error| error.kind().row().code.to_owned()),
            message: error.map(|error| error.message().to_owned()),
        }
    }

    async fn dry_run(&self, workspace: &Workspace, body: Bytes, asked: Option<StrategyName>) -> Result<Value> {
        let body = Body::scan(body)?;
        let head = ChatHead::read(&body)?;
        let group = self.planner.group(workspace, &head.model, Kind::Chat).await?;
        let name = asked.or(workspace.strategy).unwrap_or(self.config.routing.strategy);
        let (now, seed) = (Moment::now(self.started), rand::random());
        let request = Request { now, seed, ..admit::request(&body, &head, name, 0) };
        let (order, excluded) = group.explain(&request);
        let candidate = |slot: usize| group.candidates().get(slot);
        let ready = order.iter().filter_map(|placed| {
            let why = Why { score: Some(placed.score), reason: placed.reason.as_str(), wait: None };
            Some(describe(candidate(placed.slot)?, &why, &request))
        });
        let passed_over = excluded.iter().filter_map(|(slot, why)| {
            let wait = if let Excluded::Cooling(wait) = why { Some(wait.as_millis() as u64) } else { None };
            let why = Why { score: None, reason: why.as_str(), wait };
            Some(describe(candidate(*slot)?, &why, &request))
        });
        let unused = workspace
            .credentials
            .iter()
            .filter(|credential| !group.candidates().iter().any(|candidate| candidate.credential.id == credential.id));
        Ok(json!({
            "model": head.model,
            "strategy": name,
            "candidates": ready.collect::<Vec<_>>(),
            "excluded": passed_over.chain(unused.map(|credential| unused_row(credential))).collect::<Vec<_>>(),
        }))
    }

    fn health(&self, workspace: &Workspace) -> Vec<CredentialHealth> {
        let now = Moment::now(self.started);
        let ids = workspace.credentials.iter().map(|held| &*held.id).collect();
        let mut routes = self.planner.stats().routes_of(&ids);
        let all = workspace.credentials.iter();
        all.map(|held| {
            let routes = routes.remove(&held.id).unwrap_or_default();
            let stats = self.planner.stats().credential(&held.id);
            credential_health(held, stats.refused(workspace.revision), stats.cooling(now), &routes, now)
        })
        .collect()
    }
}

impl Operations {
    /// The status of the probe, and what it means.
    async fn probe(&self, credential: &Credential) -> (Option<u16>, Result<()>) {
        let exchange = async {
            let target = Target {
                provider: credential.provider,
                endpoint: &credential.endpoint,
                key: &credential.key,
                options: &credential.options,
                model: "",
                now: Timestamp::now(),
            };
            let outgoing = credential.provider.dialect.probe(&target)?;
            let address = self.attempts.resolver.resolve(&credential.endpoint).await?;
            let authorized = self.attempts.authorized(credential, &outgoing).await?;
            let outgoing = authorized.as_ref().unwrap_or(&outgoing);
            self.attempts.upstream.exchange(&credential.into(), address, outgoing, false, |_| ()).await
        };
        let mut exchange = match exchange.await {
            Ok(exchange) => exchange,
            Err(error) => return (None, Err(error)),
        };
        let (status, headers) = (exchange.status(), exchange.headers());
        let body = exchange.read_all(self.attempts.limits.max_answer_bytes, self.attempts.timeouts.idle).await;
        self.attempts.upstream.finish(exchange).await;
        if status == 200 {
            return (Some(status), body.map(|_| ()));
        }
        let said = credential.provider.dialect.read_error(&body.unwrap_or_default());
        let failed = Failure { status, headers: &headers, now: Timestamp::now() };
        (Some(status), Err(failure(&failed, said, credential.provider.name)))
    }
}

fn credential_health(
    credential: &Credential,
    refused: Option<Refusal>,
    cooling: Option<Duration>,
    routes: &Routes,
    now: Moment,
) -> CredentialHealth {
    let state = match () {
        () if !credential.usable => "unreadable",
        () if !credential.enabled => "disabled",
        () if refused.is_some() => "refused",
        () if cooling.is_some() => "cooling",
        () => "ready",
    };
    let asked = routes.iter().filter(|(_, stats)| stats.is_known(now) || stats.in_flight() > 0);
    CredentialHealth {
        id: credential.id.clone(),
        provider: credential.provider.name,
        state,
        refused: refused.map(Refusal::as_str),
        cooling_ms: cooling.map(millis),
        in_flight: routes.values().map(|stats| stats.in_flight()).sum(),
        routes: asked.map(|(model, stats)| route_health(model, stats, now)).collect(),
    }
}

fn route_health(model: &str, stats: &RouteStats, now: Moment) -> RouteHealth {
    let view = stats.view(now);
    RouteHealth {
        model: model.to_owned(),
        breaker: stats.breaker.state(now).as_str(),
        probe_in_ms: stats.breaker.opens_in(now).map(millis),
        in_flight: stats.in_flight(),
        attempts: view.attempts,
        error_rate: view.error_rate,
        first_token_p50_ms: view.first_token_p50.map(millis),
        first_token_p95_ms: view.first_token_p95.map(millis),
        latency_p50_ms: view.latency_p50.map(millis),
        latency_p95_ms: view.latency_p95.map(millis),
        ms_per_token: view.per_token.map(|each| each.as_secs_f64() * 1000.0),
        failed_ms_ago: view.since_failure.map(millis),
    }
}

/// Why a candidate stands where it does in a dry run.
struct Why {
    score: Option<f64>,
    reason: &'static str,
    /// Milliseconds until it is free again.
    wait: Option<u64>,
}

/// One candidate of a dry run.
fn describe(candidate: &Candidate, why: &Why, &Request { now, date, .. }: &Request) -> Value {
    let stats = &candidate.stats;
    let (ttft, tpot) = stats.speed(now, || (SEED_TTFT_MS, SEED_TPOT_MS));
    let known = |value: f64| stats.is_known(now).then_some(value);
    let per_million = |price: crate::money::Money| price.times(1_000_000).dollars();
    json!({
        "id": candidate.credential.id,
        "provider": candidate.credential.provider.name,
        "model": candidate.model,
        "priority": candidate.credential.priority,
        "price": candidate.prices.as_ref().map(|prices| &prices.at(date).usual.base).map(|rates| json!({
            "input": per_million(rates.input),
            "output": per_million(rates.output),
        })),
        "state": stats.breaker.state(now).as_str(),
        "error_rate": stats.error_rate(now),
        "first_token_ms": known(ttft),
        "ms_per_token": known(tpot),
        "in_flight": stats.in_flight(),
        "score": why.score,
        "reason": why.reason,
        "retry_after_ms": why.wait,
    })
}

/// A credential that does not take part, and why.
fn unused_row(credential: &Credential) -> Value {
    let reason = if credential.enabled { "does not serve this model" } else { "disabled" };
    json!({ "id": credential.id, "provider": credential.provider.name, "reason": reason })
}
