//! What the admin API asks of the proxy: whether a provider key works, and what a request would do.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::admit;
use super::attempt::Attempts;
use crate::admin::{TestResult, UpstreamOps};
use crate::api::head::ChatHead;
use crate::api::scan::Body;
use crate::api::strategy::StrategyName;
use crate::balance::group::{Excluded, excluded};
use crate::balance::plan::Planner;
use crate::balance::{Candidate, Moment, strategy};
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
            latency_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            error: error.as_ref().map(|error| error.kind().row().code.to_owned()),
            message: error.map(|error| error.message().to_owned()),
        }
    }

    async fn dry_run(&self, workspace: &Workspace, body: Bytes, asked: Option<StrategyName>) -> Result<Value> {
        let body = Body::scan(body)?;
        let head = ChatHead::read(&body)?;
        let group = self.planner.group(workspace, &head.model, Kind::Chat).await?;
        let name = asked.or(workspace.strategy).unwrap_or(self.config.routing.strategy);
        let estimate = admit::estimate(&body, &head);
        let now = Moment::now(self.started);
        let ranking = strategy::find(name);
        let order = strategy::rank(ranking, group.candidates().iter().map(Arc::as_ref), estimate);
        let candidates = order.into_iter().filter_map(|slot| group.candidates().get(slot));
        let (ready, passed_over): (Vec<_>, Vec<_>) =
            candidates.partition(|candidate| excluded(candidate, now).is_none());
        let describe = |candidate: &Arc<Candidate>| describe(candidate, ranking.score(candidate, estimate), now);
        let unused = workspace
            .credentials
            .iter()
            .filter(|credential| !group.candidates().iter().any(|candidate| candidate.credential.id == credential.id));
        Ok(json!({
            "model": head.model,
            "strategy": name,
            "candidates": ready.into_iter().map(describe).collect::<Vec<_>>(),
            "excluded": passed_over.into_iter().map(describe).chain(unused.map(|credential| unused_row(credential))).collect::<Vec<_>>(),
        }))
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
            self.attempts.upstream.exchange(credential, address, &outgoing, false, || ()).await
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

/// One candidate of a dry run.
fn describe(candidate: &Candidate, score: f64, now: Moment) -> Value {
    let reason = excluded(candidate, now).map(|excluded| match excluded {
        Excluded::Cooling(wait) => format!("cooling down for {} ms", wait.as_millis()),
        Excluded::Open => "breaker open".to_owned(),
    });
    let per_million = |price: crate::money::Money| price.times(1_000_000).dollars();
    json!({
        "id": candidate.credential.id,
        "provider": candidate.credential.provider.name,
        "model": candidate.model,
        "priority": candidate.credential.priority,
        "score": if score.is_finite() { json!(score) } else { Value::Null },
        "price": candidate.prices.as_ref().map(|prices| json!({
            "input": per_million(prices.base.input),
            "output": per_million(prices.base.output),
        })),
        "state": candidate.stats.breaker.state(now).as_str(),
        "error_rate": candidate.stats.error_rate(),
        "latency_ms": candidate.stats.latency_ms(),
        "in_flight": candidate.stats.in_flight(),
        "reason": reason,
    })
}

/// A credential that does not take part, and why.
fn unused_row(credential: &Credential) -> Value {
    let reason = if credential.enabled { "does not serve this model" } else { "disabled" };
    json!({ "id": credential.id, "provider": credential.provider.name, "reason": reason })
}
