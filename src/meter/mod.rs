//! The only writer of usage: prices a usage (`price`), books a request, feeds the metrics.
//!
//! Not here: what a provider's figures mean (`usage`, the dialects), how the ledger lies on disk (`store`). Invariants: the
//! request path never waits for the store, unless it was told to, and then not for ever; every booking is in metrics; one that does not reach the ledger is counted and logged.

mod price;
mod why;
mod writer;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{Builder, JoinHandle, Thread};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::seldom::Seldom;
use crate::store::{Booking, Store};

pub use price::{Priced, Tariff, Used, price};
use tokio::sync::oneshot;
pub use why::Why;
use writer::{CommitTime, Message, Oldest, Retry, Writer};

/// At most one line of the log about dropped bookings in this time.
const LOG_EVERY: Duration = Duration::from_secs(5);
/// How long the store may take before it counts as stuck, and an answer goes out though its booking is not on disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// How bookings are gathered.
#[derive(Clone, Copy, Debug)]
pub struct MeterOptions {
    /// Bookings that may wait; at least one.
    pub queue: usize,
    /// How long a batch is gathered after its first booking.
    pub batch: Duration,
    /// Bookings of one commit; at least one.
    pub max_batch: usize,
    /// Whether [`Meter::book_and_wait`] waits for the commit.
    pub sync: bool,
}

/// The way into the ledger. Clones share one writer; the last one dropped, or `shutdown`, commits what waits.
#[derive(Clone)]
pub struct Meter {
    inner: Arc<Inner>,
}

struct Inner {
    /// None after the shutdown.
    sender: RwLock<Option<SyncSender<Message>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// The writer's, to wake it while it gathers.
    thread: Thread,
    /// So many bookings that wait are worth a commit.
    enough: i64,
    stopping: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
    complaints: Complaints,
    commit_time: Arc<CommitTime>,
    oldest: Arc<Oldest>,
    capacity: usize,
    sync: bool,
}

impl Meter {
    /// Starts the writer's thread. Errors: `Internal` when the system has no thread.
    pub fn start(store: Arc<dyn Store>, metrics: Arc<Metrics>, options: MeterOptions) -> Result<Self> {
        Self::start_with(store, metrics, options, Retry::default())
    }

    fn start_with(store: Arc<dyn Store>, metrics: Arc<Metrics>, options: MeterOptions, retry: Retry) -> Result<Self> {
        let (sender, receiver) = sync_channel(options.queue.max(1));
        let stopping = Arc::new(AtomicBool::new(false));
        let commit_time = Arc::new(CommitTime::new());
        let oldest = Arc::new(Oldest::default());
        let writer = Writer {
            receiver,
            store,
            metrics: Arc::clone(&metrics),
            options,
            retry,
            stopping: Arc::clone(&stopping),
            commit_time: Arc::clone(&commit_time),
            oldest: Arc::clone(&oldest),
        };
        let (capacity, sync) = (options.queue, options.sync);
        let thread = Builder::new().name("ledger".into()).spawn(move || writer.run()).map_err(Error::internal)?;
        let handle = thread.thread().clone();
        let (sender, writer) = (RwLock::new(Some(sender)), Mutex::new(Some(thread)));
        let enough = i64::try_from(options.max_batch.min(capacity / 2).max(1)).unwrap_or(i64::MAX);
        metrics.ledger.queue_capacity.set(i64::try_from(capacity).unwrap_or(i64::MAX));
        let complaints = Complaints::new();
        let inner = Inner {
            sender,
            writer,
            thread: handle,
            enough,
            stopping,
            metrics,
            complaints,
            commit_time,
            oldest,
            capacity,
            sync,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Books a request: into metrics at once, into the ledger soon. Never blocks. False when the ledger can't take it.
    pub fn book(&self, booking: Booking) -> bool {
        self.send(booking, None)
    }

    /// The same, and where that was asked for, waits until the booking is on disk. False when the ledger can't take it, or
    /// does not in five seconds: then it still waits in the queue, is counted as late, and the answer need not wait for it.
    pub async fn book_and_wait(&self, booking: Booking) -> bool {
        if !self.inner.sync {
            return self.book(booking);
        }
        let (answer, committed) = oneshot::channel();
        if !self.send(booking, Some(answer)) {
            return false;
        }
        let in_time = tokio::time::timeout(PATIENCE, committed).await;
        let committed = matches!(in_time, Ok(Ok(())));
        if !committed {
            self.inner.metrics.ledger.late.inc();
        }
        committed
    }

    fn send(&self, booking: Booking, answer: Option<oneshot::Sender<()>>) -> bool {
        let inner = &self.inner;
        if inner.commit_time.is_over(PATIENCE) {
            inner.metrics.ledger.failing.set(1);
            inner.complaints.stuck(inner.metrics.ledger.queue.get());
        }
        inner.metrics.observe(&booking);
        // Counted before it is sent, as the writer may take it off the count before this thread runs on.
        inner.metrics.ledger.queue.inc();
        let sender = inner.sender.read().unwrap_or_else(PoisonError::into_inner);
        let why = match sender.as_ref().map(|sender| sender.try_send(Message::book(booking, answer))) {
            Some(Ok(())) => {
                if inner.metrics.ledger.queue.get() >= inner.enough {
                    inner.thread.unpark();
                }
                return true;
            }
            Some(Err(TrySendError::Full(_))) => "the queue is full",
            Some(Err(TrySendError::Disconnected(_))) | None => "the writer is gone",
        };
        drop(sender);
        inner.metrics.ledger.queue.dec();
        inner.metrics.ledger.dropped.inc();
        inner.complaints.dropped(why);
        false
    }

    /// Whether the next booking would be dropped.
    pub fn is_full(&self) -> bool {
        usize::try_from(self.inner.metrics.ledger.queue.get()).is_ok_and(|waiting| waiting >= self.inner.capacity)
    }

    /// How long the oldest booking that is not on disk has been waiting.
    pub fn lag(&self) -> Duration {
        self.inner.oldest.age()
    }

    /// Waits until everything booked before is committed. False when the writer is gone or gave a booking up since the
    /// last time.
    pub fn flush(&self) -> bool {
        self.flush_within(Duration::MAX)
    }

    /// The same, waiting no longer than this.
    pub fn flush_within(&self, patience: Duration) -> bool {
        // The lock is not held while waiting: a shutdown that waits for it would make bookings wait.
        let sender = self.inner.sender.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (done, committed) = sync_channel(1);
        let sent = sender.is_some_and(|sender| sender.send(Message::Flush(done)).is_ok());
        self.inner.thread.unpark();
        sent && committed.recv_timeout(patience).unwrap_or(false)
    }

    /// Commits what waits and ends the writer. What is booked later is counted as dropped.
    pub fn shutdown(&self) {
        self.inner.stop();
    }
}

impl Inner {
    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        drop(self.sender.write().unwrap_or_else(PoisonError::into_inner).take());
        let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        // It may wait before it tries a failed commit again.
        writer.thread().unpark();
        if writer.join().is_err() {
            tracing::error!("the ledger's writer ended by a panic");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Says in the log that bookings are dropped, but not for each.
struct Complaints {
    dropped: Seldom,
    stuck: Seldom,
    unsaid: AtomicU64,
}

impl Complaints {
    fn new() -> Self {
        Self { dropped: Seldom::new(LOG_EVERY), stuck: Seldom::new(LOG_EVERY), unsaid: AtomicU64::new(0) }
    }

    fn dropped(&self, why: &'static str) {
        self.unsaid.fetch_add(1, Ordering::Relaxed);
        if let Some(count) = self.due(self.dropped.age()) {
            tracing::error!(count, why, "bookings did not reach the ledger");
        }
    }

    fn stuck(&self, waiting: i64) {
        if self.stuck.is_due() {
            tracing::error!(waiting, "the disk of the ledger does not answer; bookings wait");
        }
    }

    /// How many to report now, if a line is due.
    fn due(&self, now: Duration) -> Option<u64> {
        self.dropped.is_due_after(now).then(|| self.unsaid.swap(0, Ordering::Relaxed))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests;
