use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::handover::wire::Message;
use crate::store::memory::MemoryStore;
use crate::store::suite::{booking, workspace};

const PATIENCE: Duration = Duration::from_secs(10);

/// A relay over a store that outlives its closings, and that store.
fn relay() -> (Relay, Arc<MemoryStore>, Arc<AtomicUsize>) {
    let (store, opened) = (Arc::new(MemoryStore::new()), Arc::new(AtomicUsize::new(0)));
    let open: Open = Arc::new({
        let (store, opened) = (Arc::clone(&store), Arc::clone(&opened));
        move || {
            opened.fetch_add(1, Ordering::Relaxed);
            Ok(Arc::new(Handle(Arc::clone(&store))))
        }
    });
    (Relay::open(open).unwrap(), store, opened)
}

/// One opening of a store.
struct Handle(Arc<MemoryStore>);

impl Store for Handle {
    fn tenancy(&self) -> Result<Tenancy> {
        self.0.tenancy()
    }
    fn put_workspace(&self, record: &WorkspaceRecord) -> Result<()> {
        self.0.put_workspace(record)
    }
    fn delete_workspace(&self, id: &str) -> Result<()> {
        self.0.delete_workspace(id)
    }
    fn put_credential(&self, record: &CredentialRecord) -> Result<()> {
        self.0.put_credential(record)
    }
    fn delete_credential(&self, workspace: &str, id: &str) -> Result<()> {
        self.0.delete_credential(workspace, id)
    }
    fn put_key(&self, record: &KeyRecord) -> Result<()> {
        self.0.put_key(record)
    }
    fn delete_key(&self, workspace: &str, id: &str) -> Result<()> {
        self.0.delete_key(workspace, id)
    }
    fn append(&self, bookings: &[Booking]) -> Result<()> {
        self.0.append(bookings)
    }
    fn rollups_by(&self, workspace: &str, by: By, days: DayRange) -> Result<Vec<(String, Rollup)>> {
        self.0.rollups_by(workspace, by, days)
    }
    fn series(&self, workspace: &str, query: &SeriesQuery) -> Result<Vec<(Timestamp, Rollup)>> {
        self.0.series(workspace, query)
    }
    fn spent(&self, workspace: &str, days: DayRange) -> Result<Vec<Spent>> {
        self.0.spent(workspace, days)
    }
    fn logs(&self, workspace: &str, query: &LogQuery) -> Result<LogPage> {
        self.0.logs(workspace, query)
    }
    fn export(
        &self,
        workspace: &str,
        after: u64,
        days: DayRange,
        visit: &mut dyn FnMut(u64, RequestRecord) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.0.export(workspace, after, days, visit)
    }
    fn prune(&self, keep: &Keep) -> Result<u64> {
        self.0.prune(keep)
    }
    fn healthy(&self) -> bool {
        self.0.healthy()
    }
}

/// A booking whose moment is finer than what the store keeps.
fn fine(id: &str) -> Booking {
    booking("ws_1", id, "2026-03-01T12:00:00.123456789Z")
}

fn ids(store: &dyn Store) -> Vec<String> {
    let page = store.logs("ws_1", &LogQuery { limit: 100, ..LogQuery::default() }).unwrap();
    page.requests.into_iter().rev().map(|record| record.request_id).collect()
}

fn path() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("upgrade.sock");
    (dir, path)
}

#[test]
fn a_booking_waits_for_a_store_that_is_away_and_everything_else_is_refused() {
    let (relay, store, opened) = relay();
    relay.release(PATIENCE).unwrap();
    assert_eq!(relay.put_workspace(&workspace("ws_1")).unwrap_err().kind(), ErrorKind::Overloaded);
    assert!(relay.tenancy().is_err() && relay.release(PATIENCE).is_err());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| relay.append(&[fine("one")]));
        assert_eq!(ids(&*store), [""; 0]);
        relay.take_back();
        waiting.join().unwrap().unwrap();
    });
    assert_eq!(ids(&*store), ["one"]);
    relay.take_back();
    assert_eq!(opened.load(Ordering::Relaxed), 2, "a store that is here is not opened again");
}

#[test]
fn a_store_that_is_being_read_is_not_given_away_and_the_reading_breaks_off() {
    let (relay, _, _) = relay();
    relay.append(&[fine("one"), fine("two")]).unwrap();
    let mut seen = 0;
    let read = relay.export("ws_1", 0, DayRange::default(), &mut |_, _| {
        seen += 1;
        assert!(relay.release(Duration::ZERO).is_err(), "it is in use");
        *relay.place() = Place::Away;
        Ok(ControlFlow::Continue(()))
    });
    assert!(read.is_err() && seen == 1, "{seen}");
}

#[test]
fn bookings_follow_the_store_and_one_whose_answer_got_lost_is_sent_as_such() {
    let (relay, _, _) = relay();
    relay.release(PATIENCE).unwrap();
    let (_dir, path) = path();
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    relay.follow(Wire::over(here).unwrap(), path);
    std::thread::scope(|scope| {
        let booked = scope.spawn(|| relay.append(&[fine("one")]));
        let mut wire = Wire::over(there).unwrap();
        let heard = wire.receive(Some(PATIENCE)).unwrap();
        let Message::Book { bookings, again: false } = heard else { panic!("{heard:?}") };
        assert_eq!(bookings, [fine("one")], "nothing of it changes on the way");
        // It is on disk, and the answer gets lost.
        drop(wire);
        let mut wire = Wire::over(listener.accept().unwrap().0).unwrap();
        assert!(matches!(wire.receive(Some(PATIENCE)).unwrap(), Message::Book { again: true, .. }));
        wire.send(&Message::Booked).unwrap();
        booked.join().unwrap().unwrap();

        let booked = scope.spawn(|| relay.append(&[fine("two")]));
        assert!(matches!(wire.receive(Some(PATIENCE)).unwrap(), Message::Book { again: false, .. }));
        wire.send(&Message::Refused { why: "no".into() }).unwrap();
        assert!(booked.join().unwrap().is_err(), "whoever books has to try again");
    });
}

#[test]
fn with_nobody_there_a_booking_is_written_here_once() {
    let (relay, store, _) = relay();
    relay.release(PATIENCE).unwrap();
    let (_dir, path) = path();
    let (here, there) = UnixStream::pair().unwrap();
    relay.follow(Wire::over(here).unwrap(), path);
    // The other process took it to disk, and was killed before it said so.
    store.append(&[fine("one")]).unwrap();
    drop(there);
    relay.append(&[fine("one"), fine("two")]).unwrap();
    relay.append(&[fine("three")]).unwrap();
    assert_eq!(ids(&*store), ["one", "two", "three"]);
}

#[test]
fn two_requests_of_one_id_are_two() {
    let (relay, store, _) = relay();
    relay.append(&[fine("same")]).unwrap();
    let later = booking("ws_1", "same", "2026-03-01T12:00:00.124Z");
    assert_eq!(missing(&*store, vec![fine("same"), later.clone()]).unwrap(), [later]);
}
