//! The one thread that writes the ledger: gathers bookings into batches and commits them.
//!
//! Invariants: bookings are committed in the order they were sent; a batch that fails is kept and tried again, which the
//! store makes safe; what is given up in the end is counted and stands whole in the log.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use super::MeterOptions;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::store::{Booking, Store};

/// What is sent to the writer.
pub(super) enum Message {
    /// A booking for the ledger.
    Book(Box<Booking>),
    /// Somebody waits until what was sent before is committed; told whether all was.
    Flush(SyncSender<bool>),
}

/// How often a failed commit is tried again.
#[derive(Clone, Copy)]
pub(super) struct Retry {
    /// The first wait; each next one is twice as long.
    pub(super) first: Duration,
    /// The longest wait.
    pub(super) longest: Duration,
    /// Tries in all.
    pub(super) tries: u32,
    /// Tries in all while the process ends.
    pub(super) tries_at_end: u32,
}

impl Default for Retry {
    /// About half a minute, which a full disk or a stalled volume may need; under a second while the process ends.
    fn default() -> Self {
        Self { first: Duration::from_millis(10), longest: Duration::from_secs(2), tries: 22, tries_at_end: 6 }
    }
}

/// The thread's state.
pub(super) struct Writer {
    pub(super) receiver: Receiver<Message>,
    pub(super) store: Arc<dyn Store>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) options: MeterOptions,
    pub(super) retry: Retry,
    pub(super) stopping: Arc<AtomicBool>,
}

/// What is committed in one piece.
#[derive(Default)]
struct Batch {
    bookings: Vec<Booking>,
    waiting: Vec<SyncSender<bool>>,
}

impl Writer {
    /// Commits until every sender is gone and the queue is empty.
    pub(super) fn run(self) {
        let mut all_committed = true;
        while let Ok(first) = self.receiver.recv() {
            let batch = self.gather(first);
            all_committed &= batch.bookings.is_empty() || self.commit(&batch.bookings);
            for waiting in batch.waiting {
                // Who waited may have given up.
                let _ = waiting.send(all_committed);
                all_committed = true;
            }
        }
    }

    /// Gathers until the batch is full or old enough, or until somebody waits for it.
    fn gather(&self, first: Message) -> Batch {
        let mut batch = Batch::default();
        self.take(&mut batch, first);
        let end = Instant::now() + self.options.batch;
        while batch.waiting.is_empty() && batch.bookings.len() < self.options.max_batch {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(next) = self.receiver.recv_timeout(left) else { break };
            self.take(&mut batch, next);
        }
        batch
    }

    fn take(&self, batch: &mut Batch, message: Message) {
        match message {
            Message::Book(booking) => {
                self.metrics.ledger_queue.dec();
                batch.bookings.push(*booking);
            }
            Message::Flush(waiting) => batch.waiting.push(waiting),
        }
    }

    /// Commits a batch; when that fails to the end, its bookings one by one, as one of them may be the reason.
    fn commit(&self, bookings: &[Booking]) -> bool {
        let mut wait = self.retry.first;
        let mut tried = 0;
        loop {
            let Err(error) = self.append(bookings) else { return true };
            tried += 1;
            tracing::error!(?error, tried, bookings = bookings.len(), "the ledger did not take a batch");
            let ending = self.stopping.load(Ordering::Acquire);
            if tried >= if ending { self.retry.tries_at_end } else { self.retry.tries } {
                break;
            }
            std::thread::park_timeout(wait);
            wait = (wait * 2).min(self.retry.longest);
        }
        let lost = bookings.iter().filter(|booking| !self.commit_alone(booking)).count();
        lost == 0
    }

    fn commit_alone(&self, booking: &Booking) -> bool {
        let Err(error) = self.append(std::slice::from_ref(booking)) else { return true };
        self.metrics.ledger_dropped.inc();
        let record = serde_json::to_string(booking).unwrap_or_default();
        tracing::error!(?error, record, "the ledger lost a booking");
        false
    }

    /// One try. A store that panics has failed; the writer goes on.
    fn append(&self, bookings: &[Booking]) -> Result<()> {
        let start = Instant::now();
        let appended = catch_unwind(AssertUnwindSafe(|| self.store.append(bookings)))
            .unwrap_or_else(|_| Err(Error::internal("the store panicked")));
        match &appended {
            Ok(()) => self.metrics.ledger_commit.observe(start.elapsed().as_secs_f64()),
            Err(_) => self.metrics.ledger_errors.inc(),
        }
        appended
    }
}
