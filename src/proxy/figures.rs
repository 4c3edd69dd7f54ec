//! What the metrics page shows of a moment: read from the counters that the request path keeps, whenever the page is asked for.
//!
//! Not here: what is counted as it happens. Everything here costs only the one who reads the page.

use std::collections::HashMap;
use std::sync::PoisonError;

use http::StatusCode;
use tokio::runtime::RuntimeMetrics;

use super::Gateway;
use super::admit::unpresented;
use super::client::Client;
use super::life::Phase;
use crate::balance::Moment;
use crate::balance::stats::Refusal;
use crate::error::Result;
use crate::metrics::{CredentialState, Metrics, Owned, Picture, RouteState, Runtime};

impl Gateway {
    /// The page.
    pub(super) fn figures(&self) -> Result<String> {
        let _turn = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let (metrics, now) = (&self.metrics, self.now());
        metrics.access.buffered_bytes.set(i64::try_from(self.lasting.load.bytes()).unwrap_or(i64::MAX));
        metrics.attempts.retry_budget_level.set(self.lasting.budgets.retries_left(now));
        metrics.ledger.lag.set(self.lasting.meter.lag().as_secs_f64());
        let ending = matches!(self.life.phase(), Phase::Draining | Phase::Replaced(_));
        metrics.process.draining.set(i64::from(ending));
        if let Some(runtime) = self.watched.get() {
            metrics.process.show_runtime(look(&runtime.metrics()));
        }
        metrics.show(&self.picture(now));
        metrics.render(&self.registry)
    }

    /// How every route and credential is doing that was used since the start and is still there.
    fn picture(&self, now: Moment) -> Picture {
        let workspaces = self.lasting.directory.workspaces();
        let stats = self.lasting.stats.credentials();
        let mut owners = HashMap::new();
        for workspace in &workspaces {
            for credential in &workspace.credentials {
                let owned = || Owned {
                    credential: credential.id.clone(),
                    workspace: workspace.id.clone(),
                    provider: credential.provider.name,
                };
                owners.insert(credential.id.as_str(), (owned, workspace.revision));
            }
        }
        let credentials = stats.iter().filter_map(|(credential, stats)| {
            let (owned, revision) = owners.get(credential.as_str())?;
            Some(CredentialState {
                owned: owned(),
                cool_down: stats.cooling(now).unwrap_or_default(),
                refused: stats.refused(*revision).map(Refusal::as_str),
            })
        });
        let routes = self.lasting.stats.routes().into_iter().filter_map(|((credential, model), stats)| {
            let (owned, _) = owners.get(credential.as_str()).filter(|_| stats.is_known(now))?;
            Some(RouteState { owned: owned(), model, state: stats.breaker.state(now).as_str() })
        });
        Picture { routes: routes.collect(), credentials: credentials.collect() }
    }
}

fn look(runtime: &RuntimeMetrics) -> Runtime {
    let workers = runtime.num_workers();
    Runtime {
        workers,
        alive_tasks: runtime.num_alive_tasks(),
        queued_tasks: runtime.global_queue_depth(),
        busy: (0..workers).map(|worker| runtime.worker_total_busy_duration(worker)).sum(),
    }
}

/// Counts an answer of the admin API.
pub(super) fn admin_answered(client: &Client<'_>, status: StatusCode, metrics: &Metrics) {
    let head = client.head();
    metrics.access.admin_request(head.method.as_str(), head.uri.path(), status.as_u16());
    if status == StatusCode::UNAUTHORIZED {
        let presented = super::admit::bearer(client).is_some();
        metrics.access.token_refused(if presented { "unknown" } else { unpresented(client) });
    }
}
