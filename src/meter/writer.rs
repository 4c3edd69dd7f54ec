//! The one thread that writes the ledger: gathers bookings into batches and commits them.
//!
//! Invariants: bookings are committed in the order they were sent; a batch that the disk does not take is kept and tried again
//! until it does, while what is booked meanwhile waits in the queue; what is given up in the end, because the store can never
//! take it or the process ends, is counted and stands whole in the log.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{MeterOptions, millis};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::Metrics;
use crate::store::{Booking, Store};

/// What is sent to the writer.
pub(super) enum Message {
    /// A booking for the ledger, and who waits until it is committed.
    Book(Box<Booking>, Sent),
    /// Somebody waits until what was sent before is committed; told whether all was.
    Flush(SyncSender<bool>),
}

/// Of a booking that waits: since when, and who waits for it.
pub(super) struct Sent {
    at: Instant,
    answer: Option<oneshot::Sender<()>>,
}

impl Message {
    /// A booking that is sent now.
    pub(super) fn book(booking: Booking, answer: Option<oneshot::Sender<()>>) -> Self {
        Self::Book(Box::new(booking), Sent { at: Instant::now(), answer })
    }
}

/// How often a failed commit is tried again.
#[derive(Clone, Copy)]
pub(super) struct Retry {
    /// The first wait; each next one is twice as long.
    pub(super) first: Duration,
    /// The longest wait.
    pub(super) longest: Duration,
    /// Tries in all of what makes the store panic.
    pub(super) tries: u32,
    /// Tries in all while the process ends.
    pub(super) tries_at_end: u32,
}

impl Default for Retry {
    /// Under a second while the process ends.
    fn default() -> Self {
        Self { first: Duration::from_millis(10), longest: Duration::from_secs(2), tries: 6, tries_at_end: 6 }
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
    pub(super) commit_time: Arc<CommitTime>,
    pub(super) oldest: Arc<Oldest>,
}

/// What is committed in one piece.
#[derive(Default)]
struct Batch {
    bookings: Vec<Booking>,
    /// Who waits for one of these bookings.
    answers: Vec<oneshot::Sender<()>>,
    /// Who waits for everything.
    waiting: Vec<SyncSender<bool>>,
}

/// Why a try failed.
enum Failed {
    /// The disk did not take it; it may later.
    Disk(Error),
    /// The store will never take one of the bookings.
    Booking(Error),
    /// The store panicked.
    Panic,
}

impl Writer {
    /// Commits until every sender is gone and the queue is empty.
    pub(super) fn run(self) {
        let mut all_committed = true;
        while let Ok(first) = self.receiver.recv() {
            let batch = self.gather(first);
            let committed = batch.bookings.is_empty() || self.commit(&batch.bookings);
            self.oldest.set(None);
            all_committed &= committed;
            for answer in batch.answers.into_iter().filter(|_| committed) {
                let _ = answer.send(());
            }
            for waiting in batch.waiting {
                // Who waited may have given up.
                let _ = waiting.send(all_committed);
                all_committed = true;
            }
        }
    }

    /// Gathers until the batch is full or old enough, or until somebody waits for it.
    ///
    /// It parks instead of waiting at the queue: who sends a booking then has nobody to wake, which would cost a request more than
    /// the sending. [`super::Inner`] wakes it when there is enough for a batch.
    fn gather(&self, first: Message) -> Batch {
        let mut batch = Batch::default();
        self.take(&mut batch, first);
        let end = Instant::now() + self.options.batch;
        while batch.waiting.is_empty() && batch.bookings.len() < self.options.max_batch {
            match self.receiver.try_recv() {
                Ok(next) => self.take(&mut batch, next),
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    std::thread::park_timeout(left);
                }
            }
        }
        batch
    }

    fn take(&self, batch: &mut Batch, message: Message) {
        match message {
            Message::Book(booking, Sent { at, answer }) => {
                self.metrics.ledger.queue.dec();
                if batch.bookings.is_empty() {
                    self.oldest.set(Some(at));
                }
                batch.bookings.push(*booking);
                batch.answers.extend(answer);
            }
            Message::Flush(waiting) => batch.waiting.push(waiting),
        }
    }

    /// Commits a batch. Where one of its bookings is the reason that it can't be, they are committed one by one.
    fn commit(&self, bookings: &[Booking]) -> bool {
        if self.try_until_it_works(bookings) {
            return true;
        }
        let lost = bookings.iter().filter(|booking| !self.commit_alone(booking)).count();
        lost == 0
    }

    fn try_until_it_works(&self, bookings: &[Booking]) -> bool {
        let mut wait = self.retry.first;
        for tried in 1.. {
            let Err(failed) = self.append(bookings) else { break };
            let ending = self.stopping.load(Ordering::Acquire);
            let most = match failed {
                Failed::Booking(_) => 1,
                _ if ending => self.retry.tries_at_end,
                Failed::Disk(_) => u32::MAX,
                Failed::Panic => self.retry.tries,
            };
            tracing::error!(error = ?failed.error(), tried, bookings = bookings.len(), "the ledger did not take a batch");
            if tried >= most {
                return false;
            }
            self.pause(wait);
            wait = (wait * 2).min(self.retry.longest);
        }
        true
    }

    /// Waits so long, or until the process ends.
    fn pause(&self, wait: Duration) {
        let end = Instant::now() + wait;
        while !self.stopping.load(Ordering::Acquire) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            // It may be woken for another reason: because bookings have gathered.
            std::thread::park_timeout(left);
        }
    }

    fn commit_alone(&self, booking: &Booking) -> bool {
        let Err(failed) = self.append(std::slice::from_ref(booking)) else { return true };
        self.metrics.ledger.dropped.inc();
        let record = serde_json::to_string(booking).unwrap_or_default();
        tracing::error!(error = ?failed.error(), record, "the ledger lost a booking");
        false
    }

    /// One try. A store that panics has failed; the writer goes on.
    fn append(&self, bookings: &[Booking]) -> Result<(), Failed> {
        self.commit_time.begin();
        let start = Instant::now();
        let appended = match catch_unwind(AssertUnwindSafe(|| self.store.append(bookings))) {
            Ok(appended) => appended.map_err(|error| match error.kind() {
                ErrorKind::Internal => Failed::Disk(error),
                _ => Failed::Booking(error),
            }),
            Err(_) => Err(Failed::Panic),
        };
        self.commit_time.end();
        match &appended {
            Ok(()) => {
                self.metrics.ledger.commit.observe(start.elapsed().as_secs_f64());
                self.metrics.ledger.bookings.inc_by(bookings.len() as u64);
            }
            Err(_) => self.metrics.ledger.errors.inc(),
        }
        self.metrics.ledger.failing.set(i64::from(appended.is_err()));
        appended
    }
}

impl Failed {
    const fn error(&self) -> Option<&Error> {
        match self {
            Self::Disk(error) | Self::Booking(error) => Some(error),
            Self::Panic => None,
        }
    }
}

/// When the oldest booking that is not on disk was sent: the first one of the batch that the writer has in hand, as it takes them
/// in their order and takes the next one at once.
#[derive(Default)]
pub(super) struct Oldest(Mutex<Option<Instant>>);

impl Oldest {
    fn set(&self, sent: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = sent;
    }

    /// How long ago that was; nothing when everything is on disk.
    pub(super) fn age(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map_or(Duration::ZERO, |sent| sent.elapsed())
    }
}

/// Since when the writer waits for the store, for those who do not wait.
pub(super) struct CommitTime {
    start: Instant,
    /// Milliseconds after `start`, and one; 0 while it does not wait.
    since: AtomicU64,
}

impl CommitTime {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), since: AtomicU64::new(0) }
    }

    fn begin(&self) {
        self.since.store(millis(self.start.elapsed()) + 1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    /// Whether the store has not answered for so long.
    pub(super) fn is_over(&self, limit: Duration) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since > 0 && millis(self.start.elapsed()).saturating_sub(since) >= millis(limit)
    }
}
