//! Every metric, each a field of [`Metrics`] or of one of its groups, registered on the registry it is given.
//!
//! Not here: where they are served (`proxy`), what a booking is (`meter`). `docs/metrics.md` says what each means. Names are
//! OpenTelemetry's where it has one, else begin with `perpetuo_`.
//!
//! Invariants: a booking becomes metrics in [`Metrics::observe`] only, so that they agree with the ledger; values of labels come
//! from closed sets (`labels`) or are bounded (`names`), so the number of series is bounded whatever clients send; what a request
//! needs is looked up by small numbers (`rows`), not by the texts of labels.

mod access;
mod attempts;
mod labels;
mod ledger;
mod make;
mod money;
mod names;
mod process;
mod requests;
mod routing;
mod rows;
mod spending;
mod telemetry;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use prometheus::{Histogram, IntGauge, Registry, TextEncoder};

use crate::api::operation::Operation;
use crate::catalog::Catalog;
use crate::config;
use crate::error::{Error, ErrorKind, Result};
use crate::store::RequestRecord;
pub use access::{Access, Arrival};
pub use attempts::{Attempts, Connection};
pub use ledger::Ledger;
use make::Maker;
use names::Names;
pub use process::{Process, Runtime};
pub use requests::Requests;
pub use routing::{CredentialState, Owned, Picture, RouteState, Routing};
pub use spending::Spending;
pub use telemetry::Telemetry;

/// The metrics. What [`Metrics::observe`] does not feed is fed where it happens, through the groups.
pub struct Metrics {
    /// Requests as apps see them.
    pub requests: Requests,
    /// Attempts at providers.
    pub attempts: Attempts,
    /// Tokens and money.
    pub spending: Spending,
    /// Routes and credentials.
    pub routing: Routing,
    /// Limits, load and access.
    pub access: Access,
    /// The ledger.
    pub ledger: Ledger,
    /// The access log and the export of spans.
    pub telemetry: Telemetry,
    /// The process.
    pub process: Process,
    names: Names,
}

impl Metrics {
    /// Registers every metric, the closed sets at zero. Errors: `Internal` when a name is taken on this registry.
    pub fn register(registry: &Registry) -> Result<Self> {
        Self::create(&Maker { registry }).map_err(Error::internal)
    }

    fn create(maker: &Maker<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            requests: Requests::create(maker)?,
            attempts: Attempts::create(maker)?,
            spending: Spending::create(maker)?,
            routing: Routing::create(maker)?,
            access: Access::create(maker)?,
            ledger: Ledger::create(maker)?,
            telemetry: Telemetry::create(maker)?,
            process: Process::create(maker)?,
            names: Names::create(maker)?,
        })
    }

    /// Names models as this catalogue does, and as many of them and of workspaces as this configuration allows.
    pub fn configure(&self, catalog: Arc<Catalog>, config: &config::Metrics) {
        self.names.use_catalog(catalog);
        self.names.bound(config);
    }

    /// The text exposition of everything on a registry, after a look at the process.
    pub fn render(&self, registry: &Registry) -> Result<String> {
        self.process.look();
        TextEncoder::new().encode_to_string(&registry.gather()).map_err(Error::internal)
    }

    /// Turns a booking into metrics: the one place where that happens.
    pub fn observe(&self, record: &RequestRecord) {
        let names = &self.names;
        let catalog = names.catalog();
        let workspace = names.workspace(&record.workspace);
        self.requests.observe(names, workspace, names.asked(&catalog, record), record);
        for (at, attempt) in (1..).zip(&record.attempts) {
            let provider = labels::provider(&attempt.provider);
            let model = names.model(&catalog, provider, &attempt.model);
            let route = attempts::Route { operation: record.operation, provider, model };
            self.attempts.observe(route, record, attempt);
            let last = at == record.attempts.len();
            self.spending.observe(names, workspace, (provider, model), attempt, last);
        }
        self.attempts.observe_retries(&record.attempts);
    }

    /// Counts a request that was refused before it was known what it asks for: it has no booking. `workspace` is empty where that
    /// was not known either.
    pub fn refused(&self, workspace: &str, status: u16, error: Option<ErrorKind>) {
        self.requests.refused(&self.names, self.names.workspace(workspace), status, error);
    }

    /// The histogram of the time between the chunks of a stream from this provider and upstream model; to be held as long as the
    /// stream lasts.
    pub fn time_per_output_chunk(&self, operation: Operation, provider: &str, model: &str) -> Option<Histogram> {
        let provider = labels::provider(provider);
        let catalog = self.names.catalog();
        let model = self.names.model(&catalog, provider, model);
        self.attempts.time_per_output_chunk(attempts::Route { operation, provider, model })
    }

    /// Shows how routes and credentials are doing.
    pub fn show(&self, picture: &Picture) {
        self.routing.show(&self.names, picture);
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// One of what a gauge counts, until it is dropped.
#[derive(Debug)]
pub struct Held(IntGauge);

impl Held {
    fn one(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}
