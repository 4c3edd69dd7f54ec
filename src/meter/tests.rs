//! The meter before a store that works, fails for a while, fails for good, or stands still.

use std::ops::ControlFlow;
use std::sync::Condvar;
use std::sync::atomic::AtomicU32;

use jiff::Timestamp;
use prometheus::Registry;

use super::*;
use crate::error::ErrorKind;
use crate::store::memory::MemoryStore;
use crate::store::sled::SledStore;
use crate::store::suite::booking;
use crate::store::{
    By, CredentialRecord, DayRange, Keep, KeyRecord, LogPage, LogQuery, RequestRecord, Rollup, SeriesQuery, Spent,
    Tenancy, WorkspaceRecord,
};

const OPTIONS: MeterOptions =
    MeterOptions { queue: 1000, batch: Duration::from_millis(5), max_batch: 100, sync: false };
const QUICK: Retry =
    Retry { first: Duration::from_micros(10), longest: Duration::from_micros(20), tries: 5, tries_at_end: 2 };

/// A store whose `append` does what it is told.
#[derive(Default)]
struct Scripted {
    kept: MemoryStore,
    /// Calls that still fail.
    failures: AtomicU32,
    /// A request that always fails its batch.
    poison: Option<&'static str>,
    /// Panics instead of failing.
    panics: bool,
    gate: Gate,
    sizes: Mutex<Vec<usize>>,
}

/// Holds the writer until it is opened, and knows that the writer is there.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    closed: bool,
    reached: bool,
}

impl Gate {
    fn set(&self, closed: bool) {
        self.state.lock().unwrap().closed = closed;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.reached = true;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| state.closed).unwrap());
    }

    fn await_writer(&self) {
        drop(self.changed.wait_while(self.state.lock().unwrap(), |state| !state.reached).unwrap());
    }
}

impl Store for Scripted {
    fn append(&self, bookings: &[Booking]) -> Result<()> {
        self.gate.pass();
        self.sizes.lock().unwrap().push(bookings.len());
        let fails = self.failures.load(Ordering::SeqCst) > 0;
        if fails {
            self.failures.fetch_sub(1, Ordering::SeqCst);
            assert!(!self.panics, "as told");
        }
        if fails {
            return Err(Error::new(ErrorKind::Internal, "as told"));
        }
        if bookings.iter().any(|booking| Some(booking.request_id.as_str()) == self.poison) {
            return Err(Error::new(ErrorKind::InvalidRequest, "as told"));
        }
        self.kept.append(bookings)
    }

    fn logs(&self, workspace: &str, query: &LogQuery) -> Result<LogPage> {
        self.kept.logs(workspace, query)
    }

    fn tenancy(&self) -> Result<Tenancy> {
        self.kept.tenancy()
    }
    fn put_workspace(&self, record: &WorkspaceRecord) -> Result<()> {
        self.kept.put_workspace(record)
    }
    fn delete_workspace(&self, id: &str) -> Result<()> {
        self.kept.delete_workspace(id)
    }
    fn put_credential(&self, record: &CredentialRecord) -> Result<()> {
        self.kept.put_credential(record)
    }
    fn delete_credential(&self, workspace: &str, id: &str) -> Result<()> {
        self.kept.delete_credential(workspace, id)
    }
    fn put_key(&self, record: &KeyRecord) -> Result<()> {
        self.kept.put_key(record)
    }
    fn delete_key(&self, workspace: &str, id: &str) -> Result<()> {
        self.kept.delete_key(workspace, id)
    }
    fn rollups_by(&self, workspace: &str, by: By, days: DayRange) -> Result<Vec<(String, Rollup)>> {
        self.kept.rollups_by(workspace, by, days)
    }
    fn series(&self, workspace: &str, query: &SeriesQuery) -> Result<Vec<(Timestamp, Rollup)>> {
        self.kept.series(workspace, query)
    }
    fn export(
        &self,
        workspace: &str,
        after: u64,
        days: DayRange,
        visit: &mut dyn FnMut(u64, RequestRecord) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.kept.export(workspace, after, days, visit)
    }
    fn spent(&self, workspace: &str, days: DayRange) -> Result<Vec<Spent>> {
        self.kept.spent(workspace, days)
    }
    fn prune(&self, keep: &Keep) -> Result<u64> {
        self.kept.prune(keep)
    }
    fn healthy(&self) -> bool {
        self.kept.healthy()
    }
}

fn start(store: &Arc<Scripted>, options: MeterOptions) -> (Meter, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::register(&Registry::new()).unwrap());
    let store: Arc<dyn Store> = Arc::clone(store) as _;
    (Meter::start_with(store, Arc::clone(&metrics), options, QUICK).unwrap(), metrics)
}

fn numbered(number: usize) -> Booking {
    booking("ws", &number.to_string(), "2026-01-01T00:00:00Z")
}

fn kept(store: &dyn Store) -> u64 {
    store.logs("ws", &LogQuery::default()).unwrap().total
}

#[test]
fn what_was_booked_before_a_flush_is_in_the_ledger_after_it() {
    let store = Arc::new(Scripted::default());
    let (meter, metrics) = start(&store, OPTIONS);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let meter = meter.clone();
            scope.spawn(move || (0..100).for_each(|n| assert!(meter.book(numbered(thread * 100 + n)))));
        }
    });
    assert!(meter.flush());
    assert_eq!(kept(&*store), 400);
    assert_eq!((metrics.ledger.queue.get(), metrics.ledger.dropped.get(), metrics.ledger.errors.get()), (0, 0, 0));
    assert_eq!(metrics.requests.in_all(), 400);
}

#[test]
fn bookings_that_wait_are_committed_together_up_to_the_largest_batch() {
    let store = Arc::new(Scripted::default());
    store.gate.set(true);
    let (meter, metrics) = start(&store, MeterOptions { max_batch: 10, batch: Duration::ZERO, ..OPTIONS });
    assert!(meter.book(numbered(0)));
    store.gate.await_writer();
    (1..=25).for_each(|n| assert!(meter.book(numbered(n))));
    assert_eq!(metrics.ledger.queue.get(), 25);
    store.gate.set(false);
    assert!(meter.flush());
    assert_eq!(*store.sizes.lock().unwrap(), [1, 10, 10, 5]);
}

#[test]
fn the_lag_is_that_of_the_oldest_booking_and_nothing_once_all_are_on_disk() {
    let store = Arc::new(Scripted::default());
    store.gate.set(true);
    let (meter, metrics) = start(&store, MeterOptions { batch: Duration::ZERO, ..OPTIONS });
    assert_eq!(meter.lag(), Duration::ZERO);
    assert!(meter.book(numbered(0)));
    store.gate.await_writer();
    assert!(meter.lag() > Duration::ZERO);
    store.gate.set(false);
    assert!(meter.flush());
    assert_eq!((meter.lag(), metrics.ledger.bookings.get()), (Duration::ZERO, 1));
}

#[test]
fn a_full_queue_is_counted_and_does_not_block() {
    let store = Arc::new(Scripted::default());
    store.gate.set(true);
    let (meter, metrics) = start(&store, MeterOptions { queue: 3, max_batch: 1, ..OPTIONS });
    assert!(meter.book(numbered(0)));
    store.gate.await_writer();
    let taken: Vec<_> = (1..=5).map(|n| meter.book(numbered(n))).collect();
    assert_eq!(taken, [true, true, true, false, false]);
    assert_eq!((metrics.ledger.dropped.get(), metrics.ledger.queue.get()), (2, 3));
    assert_eq!(metrics.requests.in_all(), 6, "a dropped booking is still in metrics");
    store.gate.set(false);
    assert!(meter.flush());
    assert_eq!(kept(&*store), 4);
}

#[test]
fn a_store_that_fails_at_first_loses_nothing_and_doubles_nothing() {
    let store = Arc::new(Scripted { failures: AtomicU32::new(4), ..Scripted::default() });
    let (meter, metrics) = start(&store, OPTIONS);
    (0..10).for_each(|n| assert!(meter.book(numbered(n))));
    assert!(meter.flush());
    assert_eq!(kept(&*store), 10);
    assert_eq!((metrics.ledger.errors.get(), metrics.ledger.dropped.get()), (4, 0));
}

#[test]
fn a_disk_that_fails_for_long_keeps_bookings_waiting_and_gets_each_once_in_the_end() {
    let store = Arc::new(Scripted { failures: AtomicU32::new(500), ..Scripted::default() });
    let (meter, metrics) = start(&store, OPTIONS);
    (0..300).for_each(|n| assert!(meter.book(numbered(n))));
    assert!(meter.flush());
    assert_eq!((kept(&*store), metrics.ledger.dropped.get(), metrics.ledger.errors.get()), (300, 0, 500));
    assert_eq!(metrics.ledger.failing.get(), 0);
}

#[tokio::test]
async fn who_waits_goes_on_when_the_booking_is_committed_and_not_before() {
    let store = Arc::new(Scripted::default());
    store.gate.set(true);
    let (meter, metrics) = start(&store, MeterOptions { sync: true, ..OPTIONS });
    let mut waiting = Box::pin(meter.book_and_wait(numbered(0)));
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("the store has nothing yet"),
        () = async { store.gate.await_writer() } => {}
    }
    store.gate.set(false);
    assert!(waiting.await);
    assert_eq!((kept(&*store), metrics.ledger.late.get()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_does_not_wait_for_ever_for_a_stuck_disk_and_its_booking_is_kept() {
    let store = Arc::new(Scripted::default());
    store.gate.set(true);
    let (meter, metrics) = start(&store, MeterOptions { sync: true, ..OPTIONS });
    assert!(!meter.book_and_wait(numbered(0)).await);
    assert_eq!(metrics.ledger.late.get(), 1);
    store.gate.set(false);
    assert!(meter.flush());
    assert_eq!(kept(&*store), 1);
}

#[test]
fn a_store_that_panics_is_a_store_that_failed() {
    let store = Arc::new(Scripted { failures: AtomicU32::new(1), panics: true, ..Scripted::default() });
    let (meter, metrics) = start(&store, OPTIONS);
    assert!(meter.book(numbered(0)));
    assert!(meter.flush());
    assert_eq!((kept(&*store), metrics.ledger.errors.get()), (1, 1));
}

#[test]
fn one_booking_that_can_never_be_committed_does_not_take_others_with_it() {
    let store = Arc::new(Scripted { poison: Some("3"), ..Scripted::default() });
    let (meter, metrics) = start(&store, OPTIONS);
    (0..10).for_each(|n| assert!(meter.book(numbered(n))));
    assert!(!meter.flush(), "the lost booking was not reported");
    assert_eq!((kept(&*store), metrics.ledger.dropped.get()), (9, 1));
    assert!(meter.book(numbered(11)));
    assert!(meter.flush(), "the meter did not recover");
}

#[test]
fn a_shutdown_commits_what_waits_and_later_bookings_are_counted() {
    let store = Arc::new(Scripted::default());
    let (meter, metrics) = start(&store, MeterOptions { batch: Duration::from_secs(3600), ..OPTIONS });
    (0..50).for_each(|n| assert!(meter.book(numbered(n))));
    meter.shutdown();
    assert_eq!(kept(&*store), 50);
    assert!(!meter.book(numbered(50)));
    assert!(!meter.flush());
    meter.shutdown();
    assert_eq!((metrics.ledger.dropped.get(), metrics.ledger.queue.get()), (1, 0));
}

#[test]
fn a_shutdown_does_not_wait_long_for_a_store_that_fails_for_good() {
    let store = Arc::new(Scripted { failures: AtomicU32::new(u32::MAX), ..Scripted::default() });
    let metrics = Arc::new(Metrics::register(&Registry::new()).unwrap());
    let patient = Retry { first: Duration::from_secs(3600), longest: Duration::from_secs(3600), ..QUICK };
    let meter = Meter::start_with(Arc::clone(&store) as _, Arc::clone(&metrics), OPTIONS, patient).unwrap();
    store.gate.set(true);
    assert!(meter.book(numbered(0)));
    store.gate.await_writer();
    store.gate.set(false);
    meter.shutdown();
    assert_eq!(metrics.ledger.dropped.get(), 1);
}

#[test]
fn the_last_handle_commits_what_waits_to_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::register(&Registry::new()).unwrap());
    let meter = Meter::start(Arc::new(SledStore::open(dir.path()).unwrap()), metrics, OPTIONS).unwrap();
    let other = meter.clone();
    (0..20).for_each(|n| assert!(meter.book(numbered(n))));
    drop(meter);
    assert!(other.book(numbered(20)));
    drop(other);
    assert_eq!(kept(&SledStore::open(dir.path()).unwrap()), 21);
}

#[test]
fn complaints_come_once_in_a_while_and_count_what_was_not_said() {
    let complaints = Complaints::new();
    complaints.unsaid.store(1, Ordering::Relaxed);
    assert_eq!(complaints.due(Duration::ZERO), Some(1));
    complaints.unsaid.store(7, Ordering::Relaxed);
    assert_eq!(complaints.due(LOG_EVERY / 2), None);
    assert_eq!(complaints.due(LOG_EVERY), Some(7));
}
