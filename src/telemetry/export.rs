//! The way of spans to a collector: a bounded queue, and a thread that gathers batches and posts them as OTLP over HTTP.
//!
//! Invariants: [`Exporter::send`] never blocks; a collector that is down, slow or failing costs requests nothing: its batch is
//! tried again with growing waits for a while, what finds no room meanwhile is dropped, and everything dropped is counted.

use std::sync::mpsc::{Receiver as Ended, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::Builder;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use prometheus::IntCounter;
use serde::Deserialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;

use super::end::RequestEnd;
use super::otlp::{self, Resource};
use super::outlet::Losses;
use crate::config::{Config, Tracing};
use crate::error::{Error, Result};
use crate::metrics::Metrics;

/// Requests whose spans may wait.
const QUEUE: usize = 8192;
/// Requests of one batch.
const BATCH: usize = 256;
/// How long a batch is gathered.
const GATHER: Duration = Duration::from_secs(1);
/// How long a collector may take for a batch.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a batch is worth trying.
const WORTH: Duration = Duration::from_secs(60);
/// The first wait before a batch is tried again, and the longest.
const BACKOFF: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(30)];

/// How a collector is reached. Errors: what its settings make impossible.
pub type Dial = fn(&Config) -> Result<Box<dyn Transport>>;

/// Posts a body to the collector.
#[async_trait]
pub trait Transport: Send + Sync {
    /// One request. Errors: no answer.
    async fn post(&self, body: Bytes) -> Result<Reply>;
}

/// What a collector answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// When to come again.
    pub retry_after: Option<Duration>,
    /// The body.
    pub body: Bytes,
}

/// The way to the exporter's thread.
pub(super) struct Exporter {
    settings: Tracing,
    /// None once it was stopped.
    sender: RwLock<Option<Sender<Arc<RequestEnd>>>>,
    stop: watch::Sender<bool>,
    /// Disconnected once the thread has ended.
    ended: Mutex<Ended<()>>,
    losses: Arc<Losses>,
}

impl Exporter {
    pub(super) fn start(config: &Config, metrics: &Metrics, dial: Dial) -> Result<Self> {
        let transport = dial(config)?;
        let telemetry = &metrics.telemetry;
        let losses = Arc::new(Losses::new("spans did not reach the collector", telemetry.spans_dropped.clone()));
        let (sender, receiver) = channel(QUEUE);
        let (stop, stopped) = watch::channel(false);
        let (alive, ended) = sync_channel(1);
        let courier = Courier {
            receiver,
            stopped,
            transport,
            resource: resource(&config.tracing),
            losses: Arc::clone(&losses),
            exported: telemetry.spans_exported.clone(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::internal)?;
        let thread = move || {
            runtime.block_on(courier.run());
            drop(alive);
        };
        Builder::new().name("spans".to_owned()).spawn(thread).map_err(Error::internal)?;
        let sender = RwLock::new(Some(sender));
        Ok(Self { settings: config.tracing.clone(), sender, stop, ended: Mutex::new(ended), losses })
    }

    pub(super) const fn settings(&self) -> &Tracing {
        &self.settings
    }

    pub(super) fn send(&self, end: Arc<RequestEnd>) {
        let spans = otlp::count(&end);
        let sender = self.sender.read().unwrap_or_else(PoisonError::into_inner);
        if sender.as_ref().is_none_or(|sender| sender.try_send(end).is_err()) {
            drop(sender);
            self.losses.count(spans, &"the queue is full");
        }
    }

    /// Lets it send what waits and end.
    pub(super) fn stop(&self) {
        drop(self.sender.write().unwrap_or_else(PoisonError::into_inner).take());
        self.stop.send_replace(true);
    }

    /// Waits until it has ended, but not longer than this. False when it has not.
    pub(super) fn wait(&self, patience: Duration) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(ended.recv_timeout(patience), Err(RecvTimeoutError::Disconnected))
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.stop();
    }
}

fn resource(settings: &Tracing) -> Resource {
    let own = [
        ("service.name", settings.service_name.as_str()),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.instance.id", &uuid::Uuid::new_v4().to_string()),
        ("telemetry.sdk.name", "perpetuo"),
        ("telemetry.sdk.language", "rust"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let more = settings.resource_attributes.iter().map(|pair| (pair.name.clone(), pair.value.clone()));
    let own = own.into_iter().filter(|(key, _)| !settings.resource_attributes.iter().any(|pair| pair.name == *key));
    Resource { attributes: own.chain(more).collect() }
}

/// The thread's state.
struct Courier {
    receiver: Receiver<Arc<RequestEnd>>,
    stopped: watch::Receiver<bool>,
    transport: Box<dyn Transport>,
    resource: Resource,
    losses: Arc<Losses>,
    exported: IntCounter,
}

/// What came of one try.
enum Tried {
    Taken,
    /// Try again, not before this time has passed.
    Later(Option<Duration>, String),
    /// It will never be taken.
    Refused(String),
}

impl Courier {
    async fn run(mut self) {
        let mut waits = Waits::default();
        while let Some(first) = self.receiver.recv().await {
            let batch = self.gather(first).await;
            self.deliver(&batch, &mut waits).await;
        }
    }

    async fn gather(&mut self, first: Arc<RequestEnd>) -> Vec<Arc<RequestEnd>> {
        let mut batch = vec![first];
        let until = tokio::time::Instant::now() + GATHER;
        while batch.len() < BATCH {
            match tokio::time::timeout_at(until, self.receiver.recv()).await {
                Ok(Some(end)) => batch.push(end),
                Ok(None) | Err(_) => break,
            }
        }
        batch
    }

    /// Tries until the batch is taken, or not worth it any more; once while the process ends.
    async fn deliver(&mut self, batch: &[Arc<RequestEnd>], waits: &mut Waits) {
        let body = otlp::body(&self.resource, batch);
        let spans = batch.iter().map(|end| otlp::count(end)).sum();
        let began = Instant::now();
        loop {
            let (wait, why) = match self.attempt(body.clone(), spans).await {
                Tried::Taken => return *waits = Waits::default(),
                Tried::Refused(why) => return self.losses.count(spans, &why),
                Tried::Later(wait, why) => (wait, why),
            };
            let wait = waits.next(wait, rand::random());
            if *self.stopped.borrow() || began.elapsed() + wait > WORTH {
                return self.losses.count(spans, &why);
            }
            tracing::debug!(why, ?wait, "the collector took no spans; they are sent again");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // The process ends, or nobody is left to say so.
                _ = self.stopped.wait_for(|stopped| *stopped) => {}
            }
        }
    }

    async fn attempt(&self, body: Bytes, spans: u64) -> Tried {
        let reply = match tokio::time::timeout(PATIENCE, self.transport.post(body)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => return Tried::Later(None, format!("{error:?}")),
            Err(_) => return Tried::Later(None, "it did not answer in time".to_owned()),
        };
        match reply.status {
            200..300 => {
                let rejected = rejected(&reply.body).min(spans);
                self.exported.inc_by(spans - rejected);
                if rejected > 0 {
                    self.losses.count(rejected, &"the collector rejected them");
                }
                Tried::Taken
            }
            // The four that OTLP calls worth another try.
            status @ (429 | 502..=504) => Tried::Later(reply.retry_after, format!("it answered {status}")),
            status => Tried::Refused(format!("it answered {status}")),
        }
    }
}

/// Spans that a collector did not want of a batch it took.
fn rejected(body: &[u8]) -> u64 {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Answer {
        partial_success: Partial,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Partial {
        /// A text, as JSON's numbers are too small for 64 bits; some write a number all the same.
        rejected_spans: serde_json::Value,
    }
    let answer: Answer = serde_json::from_slice(body).unwrap_or_default();
    let count = answer.partial_success.rejected_spans;
    count.as_u64().or_else(|| count.as_str()?.parse().ok()).unwrap_or(0)
}

/// How long to wait before the next try, longer each time.
#[derive(Default)]
struct Waits {
    failures: u32,
}

impl Waits {
    /// `asked` is the collector's wish; `random` is between 0 and 1.
    fn next(&mut self, asked: Option<Duration>, random: f64) -> Duration {
        let [first, longest] = BACKOFF;
        let most = (first * 2_u32.saturating_pow(self.failures.min(16))).min(longest);
        self.failures = self.failures.saturating_add(1);
        // Spread, so that a fleet does not come back all at once.
        most.mul_f64(0.5 + random / 2.0).max(asked.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
