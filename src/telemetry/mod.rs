//! What is told of a request when it is over: a line of the access log (`line`, `text`) and spans (`otlp`), made from one record
//! (`end`) that the proxy fills in.
//!
//! Not here: the ledger (`meter`), counters (`metrics`), and how a collector is reached (the proxy's `collector`). Invariants: a
//! request never waits for a terminal, a disk or a collector: what can't be queued is dropped and counted; nothing secret is in
//! the record, and what clients wrote in it is bounded and escaped where it is shown.

mod end;
pub mod escape;
mod export;
mod line;
mod otlp;
pub mod outlet;
mod text;
mod trace;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;

use crate::config::{AccessFormat, Config};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::Metrics;
pub use end::{AttemptEnd, Client, Content, RequestEnd};
use export::Exporter;
pub use export::{Dial, Reply, Transport};
use outlet::{Destination, Losses, Outlet};
pub use trace::{Policy, TraceContext};

/// Lines that may wait for their file.
const QUEUE: usize = 16_384;
/// Bytes that may wait with them.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// What a line without content takes while it waits, roughly.
const LEAST_WEIGHT: usize = 2048;
/// How long the end of the process waits for a file or a collector that takes nothing.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// The access log and the export of spans. What a reload changes is exchanged under requests that are under way.
pub struct Telemetry {
    access: ArcSwapOption<AccessLog>,
    exporter: ArcSwapOption<Exporter>,
    metrics: Arc<Metrics>,
    dial: Dial,
}

/// A log that is being written, and what it was opened with.
struct AccessLog {
    settings: (AccessFormat, Option<PathBuf>),
    outlet: Outlet<Told>,
}

/// A line that waits. What was said is not in the record, as the exporter, which holds records longer, must not hold it.
struct Told {
    end: Arc<RequestEnd>,
    content: Option<Content>,
}

impl Telemetry {
    /// Opens what the configuration asks for; `dial` reaches collectors.
    ///
    /// Errors: `Internal`, with a text for the operator, for a file that can't be opened or headers that no request can hold.
    pub fn open(config: &Config, metrics: &Arc<Metrics>, dial: Dial) -> Result<Self> {
        let (access, exporter) = (ArcSwapOption::empty(), ArcSwapOption::empty());
        let telemetry = Self { access, exporter, metrics: Arc::clone(metrics), dial };
        telemetry.apply(config)?;
        Ok(telemetry)
    }

    /// Goes on with this configuration; what it does not change goes on as it was.
    ///
    /// Errors: as `open`; then everything goes on as it was.
    pub fn apply(&self, config: &Config) -> Result<()> {
        let access = self.access_log(config)?;
        let settings = &config.tracing;
        let same = self.exporter.load().as_ref().map(|exporter| exporter.settings().clone());
        let exporter = match &settings.endpoint {
            Some(_) if same.as_ref() == Some(settings) => self.exporter.load_full(),
            Some(_) => Some(Arc::new(Exporter::start(config, &self.metrics, self.dial)?)),
            None => None,
        };
        self.access.store(access);
        self.exporter.store(exporter);
        Ok(())
    }

    fn access_log(&self, config: &Config) -> Result<Option<Arc<AccessLog>>> {
        let settings = (config.log.access, config.log.access_file.clone());
        let now = self.access.load_full();
        if config.log.access == AccessFormat::Off {
            return Ok(None);
        }
        if let Some(log) = now.filter(|log| log.settings == settings) {
            return Ok(Some(log));
        }
        let destination = settings.1.clone().map_or(Destination::Stdout, Destination::File);
        let form = match config.log.access {
            AccessFormat::Text => Form::Text,
            AccessFormat::Auto if destination.is_terminal() => Form::Text,
            _ => Form::Json,
        };
        let colours = destination.takes_colours();
        let render = move |told: &Told, out: &mut Vec<u8>| match form {
            Form::Json => line::write(&told.end, told.content.as_ref(), out),
            Form::Text => text::write(&told.end, colours, out),
        };
        let losses = Losses::new("lines of the access log were dropped", self.metrics.telemetry.access_dropped.clone());
        let outlet =
            Outlet::open("access-log", &destination, (QUEUE, QUEUE_BYTES), losses, render).map_err(|cause| {
                Error::new(ErrorKind::Internal, format!("can't open the access log {destination}: {cause}"))
            })?;
        Ok(Some(Arc::new(AccessLog { settings, outlet })))
    }

    /// Opens the file of the access log anew, after something else moved the old one away.
    pub fn reopen(&self) {
        if let Some(log) = self.access.load().as_ref() {
            log.outlet.reopen();
        }
    }

    /// Whether anybody is told of requests.
    pub fn listens(&self) -> bool {
        self.access.load().is_some() || self.exporter.load().is_some()
    }

    /// Tells of a request that is over, and what was said in it where that is to be logged. Never blocks.
    pub fn tell(&self, end: RequestEnd, content: Option<Content>) {
        let shown = end.is_worth_a_line();
        let end = Arc::new(end);
        if let Some(log) = self.access.load().as_ref().filter(|_| shown) {
            let weight = LEAST_WEIGHT + content.as_ref().map_or(0, Content::bytes);
            log.outlet.send(Told { end: Arc::clone(&end), content }, weight);
        }
        if let Some(exporter) = self.exporter.load().as_ref().filter(|_| end.trace.sampled && shown) {
            exporter.send(end);
        }
    }

    /// Writes and sends what waits, as far as that is possible within a few seconds.
    pub fn shutdown(&self) {
        let (access, exporter) = (self.access.swap(None), self.exporter.swap(None));
        if let Some(exporter) = &exporter {
            exporter.stop();
        }
        if let Some(log) = access {
            log.outlet.close(LAST_WORDS);
        }
        if let Some(exporter) = exporter {
            exporter.wait(LAST_WORDS);
        }
    }
}

/// The form of an access line.
#[derive(Clone, Copy)]
enum Form {
    Json,
    Text,
}
