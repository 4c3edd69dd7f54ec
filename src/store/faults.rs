//! The store before disks that fail: full, broken, stuck, at every turn.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use super::disk::{Disk, DiskFile, MemoryDisk};
use super::journal::{Journal, SEGMENT_BYTES};
use super::ledger::Ledger;
use super::memory::MemoryRows;
use super::suite::at;
use super::sums::Sums;
use super::trials::{expected, numbered, requests};
use super::*;

/// What is wrong with a disk.
#[derive(Default)]
struct Faults {
    /// Bytes that can still be written; negative: no limit.
    room: AtomicI64,
    /// Whether syncing fails.
    broken: AtomicBool,
    /// Whether cutting fails too.
    uncuttable: AtomicBool,
    /// Only files whose name has this in it have faults; all of them where it is empty.
    only: Mutex<&'static str>,
    stuck: Mutex<bool>,
    freed: Condvar,
    /// Set once somebody waits for a stuck disk.
    waited_for: AtomicBool,
}

impl Faults {
    fn none() -> Arc<Self> {
        Arc::new(Self { room: AtomicI64::new(-1), ..Self::default() })
    }

    fn of(&self, only: &'static str) {
        *self.only.lock().unwrap() = only;
    }

    fn concern(&self, name: &str) -> bool {
        name.contains(*self.only.lock().unwrap())
    }

    fn heal(&self) {
        self.of("");
        self.room.store(-1, Ordering::SeqCst);
        self.broken.store(false, Ordering::SeqCst);
        self.uncuttable.store(false, Ordering::SeqCst);
        *self.stuck.lock().unwrap() = false;
        self.freed.notify_all();
    }

    /// How many of these bytes fit.
    fn take(&self, bytes: usize) -> io::Result<usize> {
        let room = self.room.load(Ordering::SeqCst);
        if room < 0 {
            return Ok(bytes);
        }
        let fits = (room as usize).min(bytes);
        self.room.store(room - fits as i64, Ordering::SeqCst);
        if fits == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(fits) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut stuck = self.stuck.lock().unwrap();
        while *stuck {
            self.waited_for.store(true, Ordering::SeqCst);
            stuck = self.freed.wait(stuck).unwrap();
        }
        if self.broken.load(Ordering::SeqCst) { Err(io::Error::other("EIO")) } else { Ok(()) }
    }
}

/// A disk in memory that outlives its stores and has faults.
#[derive(Clone)]
struct FaultyDisk {
    files: Arc<MemoryDisk>,
    /// The directory of the sums.
    sums: Arc<MemoryDisk>,
    faults: Arc<Faults>,
    /// Bytes that were read.
    read: Arc<AtomicU64>,
}

struct FaultyFile {
    name: String,
    file: Arc<dyn DiskFile>,
    disk: FaultyDisk,
}

impl FaultyDisk {
    fn new() -> Self {
        Self { files: Arc::default(), sums: Arc::default(), faults: Faults::none(), read: Arc::default() }
    }

    /// A store on it, as a process that starts would have it: with no rows of its own.
    fn open(&self, segment_bytes: u64) -> Result<Ledger<MemoryRows>> {
        let journal = Journal::open(Arc::new(self.clone()), segment_bytes, 1)?;
        let sums = Sums::open(Arc::new(Self { files: Arc::clone(&self.sums), ..self.clone() }))?;
        Ledger::over(MemoryRows::default(), sums, journal)
    }

    fn wrap(&self, name: &str, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(FaultyFile { name: name.to_owned(), file, disk: self.clone() })
    }
}

impl Disk for FaultyDisk {
    fn place(&self) -> String {
        "faulty".to_owned()
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.files.list()
    }
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(name, self.files.create(name)?))
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(name, self.files.open(name)?))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.files.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.remove(name)
    }
    fn sync(&self) -> io::Result<()> {
        if self.faults.concern("") { self.faults.sync() } else { Ok(()) }
    }
}

impl DiskFile for FaultyFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let faults = &self.disk.faults;
        let fits = if faults.concern(&self.name) { faults.take(bytes.len())? } else { bytes.len() };
        self.file.write_at(&bytes[..fits], offset)
    }
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.file.read_at(bytes, offset)?;
        self.disk.read.fetch_add(read as u64, Ordering::SeqCst);
        Ok(read)
    }
    fn sync(&self) -> io::Result<()> {
        if self.disk.faults.concern(&self.name) { self.disk.faults.sync() } else { Ok(()) }
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        if self.disk.faults.uncuttable.load(Ordering::SeqCst) {
            return Err(io::Error::other("EIO"));
        }
        self.file.set_len(length)
    }
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }
}

#[test]
fn a_full_disk_takes_nothing_by_half_and_everything_once_when_there_is_room_again() {
    for room in [0, 1, 50, 200, 500] {
        let disk = FaultyDisk::new();
        let store = disk.open(SEGMENT_BYTES).unwrap();
        store.append(&[numbered(0)]).unwrap();
        disk.faults.room.store(room, Ordering::SeqCst);
        let batch: Vec<Booking> = (1..20).map(numbered).collect();
        for _ in 0..3 {
            assert!(store.append(&batch).is_err());
        }
        assert!(!store.healthy());
        assert_eq!(requests(&store), expected([0]));
        disk.faults.heal();
        assert!(store.healthy());
        store.append(&batch).unwrap();
        assert_eq!(requests(&store), expected(0..20));
        drop(store);
        assert_eq!(requests(&disk.open(SEGMENT_BYTES).unwrap()), expected(0..20));
    }
}

#[test]
fn a_commit_whose_sync_failed_is_not_there_and_not_there_twice_after_it_was_tried_again() {
    let disk = FaultyDisk::new();
    let store = disk.open(SEGMENT_BYTES).unwrap();
    store.append(&[numbered(0)]).unwrap();
    disk.faults.broken.store(true, Ordering::SeqCst);
    disk.faults.uncuttable.store(true, Ordering::SeqCst);
    assert!(store.append(&[numbered(1), numbered(2)]).is_err());
    assert!(store.append(&[numbered(1), numbered(2)]).is_err());
    disk.faults.heal();
    store.append(&[numbered(1)]).unwrap();
    store.append(&[numbered(2)]).unwrap();
    assert_eq!(requests(&store), expected(0..3));
    drop(store);
    assert_eq!(requests(&disk.open(SEGMENT_BYTES).unwrap()), expected(0..3));
}

#[test]
fn what_was_written_can_be_read_while_the_disk_is_stuck_and_the_stuck_commit_comes_through() {
    let disk = FaultyDisk::new();
    let store = disk.open(SEGMENT_BYTES).unwrap();
    store.append(&[numbered(0)]).unwrap();
    *disk.faults.stuck.lock().unwrap() = true;
    std::thread::scope(|scope| {
        let stuck = scope.spawn(|| store.append(&[numbered(1)]));
        while !disk.faults.waited_for.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        assert_eq!(requests(&store), expected([0]));
        disk.faults.heal();
        stuck.join().unwrap().unwrap();
    });
    assert_eq!(requests(&store), expected([0, 1]));
}

#[test]
fn a_full_disk_at_the_turn_of_a_segment_loses_nothing() {
    let disk = FaultyDisk::new();
    let store = disk.open(1000).unwrap();
    let mut written = 0;
    for number in 0..60 {
        disk.faults.room.store((number as i64 * 37) % 400, Ordering::SeqCst);
        if store.append(&[numbered(number)]).is_err() {
            disk.faults.heal();
            store.append(&[numbered(number)]).unwrap();
        }
        written += 1;
        disk.faults.heal();
    }
    assert_eq!(requests(&store), expected(0..written));
    drop(store);
    assert_eq!(requests(&disk.open(1000).unwrap()), expected(0..written));
}

/// A disk that is full, and one that fails to sync.
fn break_it(faults: &Faults, only: &'static str, is_full: bool) {
    faults.of(only);
    if is_full {
        faults.room.store(70, Ordering::SeqCst);
    } else {
        faults.broken.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_segment_whose_turn_fails_goes_on_and_loses_nothing() {
    for (only, is_full) in [(".index", true), (".index", false), (".journal", true), (".journal", false)] {
        let disk = FaultyDisk::new();
        let store = disk.open(3000).unwrap();
        let mut written = 0;
        while written < 40 {
            break_it(&disk.faults, only, is_full && written % 3 == 0);
            if store.append(&[numbered(written)]).is_err() {
                disk.faults.heal();
                store.append(&[numbered(written)]).unwrap();
            }
            disk.faults.heal();
            written += 1;
        }
        assert_eq!(requests(&store), expected(0..written), "{only} {is_full}");
        drop(store);
        assert_eq!(requests(&disk.open(3000).unwrap()), expected(0..written), "{only} {is_full}");
    }
}

#[test]
fn sums_that_can_not_be_written_stay_in_memory_and_count_once() {
    for is_full in [true, false] {
        let disk = FaultyDisk::new();
        let store = disk.open(SEGMENT_BYTES).unwrap();
        (0..5).for_each(|number| store.append(&[numbered(number)]).unwrap());
        break_it(&disk.faults, ".sums", is_full);
        let keep = Keep::logs_since(jiff::Timestamp::MIN);
        assert!(store.prune(&keep).is_err());
        (5..10).for_each(|number| store.append(&[numbered(number)]).unwrap());
        assert_eq!(requests(&store), expected(0..10));
        assert!(store.prune(&keep).is_err());
        assert_eq!(requests(&store), expected(0..10));
        disk.faults.heal();
        store.prune(&keep).unwrap();
        assert_eq!(requests(&store), expected(0..10));
        drop(store);
        assert_eq!(requests(&disk.open(SEGMENT_BYTES).unwrap()), expected(0..10));
    }
}

#[test]
fn a_checkpoint_that_can_not_be_written_keeps_the_segments() {
    for is_full in [true, false] {
        let disk = FaultyDisk::new();
        let store = disk.open(2000).unwrap();
        store.put_workspace(&super::suite::workspace("ws")).unwrap();
        (0..40).for_each(|number| store.append(&[numbered(number)]).unwrap());
        break_it(&disk.faults, ".checkpoint", is_full);
        let keep = Keep { log_bytes: 0, ..Keep::logs_since(jiff::Timestamp::MIN) };
        assert!(store.prune(&keep).is_err());
        assert_eq!(requests(&store), expected(0..40));
        disk.faults.heal();
        assert!(store.prune(&keep).unwrap() > 10);
        assert_eq!(store.rollups("ws", DayRange::default()).unwrap()[0].1.attempts, 40);
    }
}

#[test]
fn writers_go_on_while_a_checkpoint_or_the_sums_wait_for_the_disk() {
    for only in [".checkpoint", ".sums"] {
        let disk = FaultyDisk::new();
        let store = disk.open(2000).unwrap();
        (0..40).for_each(|number| store.append(&[numbered(number)]).unwrap());
        disk.faults.of(only);
        *disk.faults.stuck.lock().unwrap() = true;
        std::thread::scope(|scope| {
            let keep = Keep { log_bytes: 0, ..Keep::logs_since(at("2025-01-01T00:00:00Z")) };
            let pruning = scope.spawn({
                let store = &store;
                move || store.prune(&keep)
            });
            while !disk.faults.waited_for.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            (40..60).for_each(|number| store.append(&[numbered(number)]).unwrap());
            assert_eq!(requests(&store), expected(0..60));
            disk.faults.heal();
            assert!(pruning.join().unwrap().unwrap() > 10);
        });
        assert_eq!(store.rollups("ws", DayRange::default()).unwrap()[0].1.attempts, 60);
    }
}

#[test]
fn after_a_clean_end_the_journal_need_not_be_read_again() {
    let disk = FaultyDisk::new();
    let store = disk.open(SEGMENT_BYTES).unwrap();
    (0..40).for_each(|_| store.append(&(0..50).map(numbered).collect::<Vec<_>>()).unwrap());
    let bytes = store.journal_bytes();
    drop(store);
    disk.read.store(0, Ordering::SeqCst);
    let journal = Journal::open(Arc::new(disk.clone()), SEGMENT_BYTES, 1).unwrap();
    assert_eq!(journal.next(), 2001);
    let read = disk.read.load(Ordering::SeqCst);
    assert!(read < bytes / 4, "{read} of {bytes}");
}
