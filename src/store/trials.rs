//! The store before disks that fail: full, broken, stuck, cut off in the middle, changed behind its back.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use proptest::prelude::*;

use super::disk::{Disk, DiskFile, MemoryDisk};
use super::journal::{Journal, SEGMENT_BYTES};
use super::ledger::Ledger;
use super::memory::MemoryRows;
use super::sled::SledStore;
use super::suite::{booking, workspace};
use super::verify::{Rebuilt, rebuild, verify};
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
    stuck: Mutex<bool>,
    freed: Condvar,
    /// Set once somebody waits for a stuck disk.
    waited_for: AtomicBool,
}

impl Faults {
    fn none() -> Arc<Self> {
        Arc::new(Self { room: AtomicI64::new(-1), ..Self::default() })
    }

    fn heal(&self) {
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
    faults: Arc<Faults>,
}

struct FaultyFile {
    file: Arc<dyn DiskFile>,
    faults: Arc<Faults>,
}

impl FaultyDisk {
    fn new() -> Self {
        Self { files: Arc::default(), faults: Faults::none() }
    }

    /// A store on it, as a process that starts would have it: with no rows of its own.
    fn open(&self, segment_bytes: u64) -> Result<Ledger<MemoryRows>> {
        let journal = Journal::open(Arc::new(self.clone()), segment_bytes, 1)?;
        Ledger::over(MemoryRows::default(), journal)
    }

    fn wrap(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(FaultyFile { file, faults: Arc::clone(&self.faults) })
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
        Ok(self.wrap(self.files.create(name)?))
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(self.files.open(name)?))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.files.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.remove(name)
    }
    fn sync(&self) -> io::Result<()> {
        self.faults.sync()
    }
}

impl DiskFile for FaultyFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let fits = self.faults.take(bytes.len())?;
        self.file.write_at(&bytes[..fits], offset)
    }
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.faults.sync()
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        if self.faults.uncuttable.load(Ordering::SeqCst) {
            return Err(io::Error::other("EIO"));
        }
        self.file.set_len(length)
    }
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }
}

fn numbered(number: usize) -> Booking {
    booking("ws", &format!("r{number:03}"), "2026-01-01T00:00:00Z")
}

/// The requests in a store, in the order of booking, after a check that log and sums say the same.
fn requests(store: &dyn Store) -> Vec<String> {
    let mut ids = Vec::new();
    let mut attempts = 0;
    store
        .export("ws", 0, DayRange::default(), &mut |_, record| {
            attempts += record.attempts.len() as u64;
            ids.push(record.request_id);
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
    let summed: u64 = store.rollups("ws", DayRange::default()).unwrap().iter().map(|(_, sums)| sums.attempts).sum();
    assert_eq!(attempts, summed, "the log and the sums tell the same");
    assert_eq!(store.logs("ws", &LogQuery::default()).unwrap().total, ids.len() as u64);
    ids
}

fn expected(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(|number| format!("r{number:03}")).collect()
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

#[test]
fn rows_that_are_behind_or_torn_are_brought_up_and_nothing_counts_twice() {
    let disk = FaultyDisk::new();
    let store = disk.open(SEGMENT_BYTES).unwrap();
    (0..5).for_each(|number| store.append(&[numbered(number)]).unwrap());
    drop(store);
    // A fold that was cut: the rows are there, the number that promises them is not.
    let rows = MemoryRows::default();
    let journal = || Journal::open(Arc::new(disk.clone()), SEGMENT_BYTES, 1).unwrap();
    let copied = Ledger::over(MemoryRows::default(), journal()).unwrap();
    let all = copied.rows_for_test();
    rows::Rows::apply(&rows, all.into_iter().filter(|(key, _)| !key.starts_with(b"\0")).collect()).unwrap();
    let store = Ledger::over(rows, journal()).unwrap();
    assert_eq!(requests(&store), expected(0..5));
}

/// A store on a real disk in small files, with a workspace and so many requests.
fn filled(requests: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open_with(dir.path(), 2000).unwrap();
    store.put_workspace(&workspace("ws")).unwrap();
    (0..requests).for_each(|number| store.append(&[numbered(number)]).unwrap());
    dir
}

fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.to_str().unwrap().ends_with(suffix)).collect();
    paths.sort();
    paths
}

fn reopened(dir: &Path) -> SledStore {
    SledStore::open_with(dir, 2000).unwrap()
}

#[test]
fn a_whole_store_is_found_whole_and_a_rebuild_of_it_changes_nothing() {
    let dir = filled(40);
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.problems.clone(), report.requests, report.entries), (Vec::<String>::new(), 40, 41));
    assert!(report.segments > 2 && report.rows > 5, "{report:?}");
    let Rebuilt { entries, mended, aside } = rebuild(dir.path()).unwrap();
    assert_eq!((entries, mended.len()), (41, 0));
    assert!(aside.unwrap().join("db").exists(), "the old rows are kept");
    assert_eq!(verify(dir.path()).unwrap(), report);
    assert_eq!(requests(&reopened(dir.path())), expected(0..40));
}

#[test]
fn rows_that_are_gone_or_damaged_are_refused_or_made_anew_but_never_begun_anew() {
    let dir = filled(30);
    let db = dir.path().join("state/db");
    let length = std::fs::metadata(&db).unwrap().len() as usize;
    std::fs::write(&db, vec![0xA5; length]).unwrap();
    let error = SledStore::open(dir.path()).err().unwrap();
    assert!(error.message().contains("perpetuo store rebuild"), "{error}");
    assert_ne!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
    std::fs::remove_file(&db).unwrap();
    let error = SledStore::open(dir.path()).err().unwrap();
    assert!(error.message().contains("is damaged") && !db.exists(), "{error}");
    rebuild(dir.path()).unwrap();
    assert_eq!(requests(&reopened(dir.path())), expected(0..30));
    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    assert_eq!(requests(&reopened(dir.path())), expected(0..30));
}

#[test]
fn rows_that_say_something_else_than_the_journal_are_found_and_healed() {
    let dir = filled(10);
    let db = sled::open_when_free(&dir.path().join("state")).unwrap();
    let (key, _) = db.scan_prefix(b"p").next().unwrap().unwrap();
    db.remove(&key).unwrap();
    drop(db);
    let problems = verify(dir.path()).unwrap().problems;
    assert!(problems.iter().any(|problem| problem.contains("is missing")), "{problems:?}");
    rebuild(dir.path()).unwrap();
    assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
}

#[test]
fn a_journal_that_is_gone_is_not_begun_anew() {
    let dir = filled(3);
    std::fs::remove_dir_all(dir.path().join("journal")).unwrap();
    let error = SledStore::open(dir.path()).err().unwrap();
    assert!(error.message().contains("journal is missing"), "{error}");
    assert!(files(&dir.path().join("journal"), ".journal").is_empty());
}

#[test]
fn a_missing_segment_is_refused_and_a_rebuild_says_what_is_lost() {
    let dir = filled(40);
    let second = files(&dir.path().join("journal"), ".journal").remove(1);
    std::fs::remove_file(&second).unwrap();
    let error = SledStore::open(dir.path()).err().unwrap();
    assert!(error.message().contains("are missing"), "{error}");
    rebuild(dir.path()).unwrap();
    let report = verify(dir.path()).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(report.lost + report.entries - 1, 41, "one entry says that others are lost");
    assert_eq!(requests(&reopened(dir.path())).len() as u64, report.requests);
}

#[test]
fn an_index_that_is_gone_or_damaged_is_made_anew() {
    let dir = filled(40);
    let indexes = files(&dir.path().join("journal"), ".index");
    std::fs::remove_file(&indexes[0]).unwrap();
    std::fs::write(&indexes[1], b"nonsense").unwrap();
    assert_eq!(requests(&reopened(dir.path())), expected(0..40));
    assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
}

#[test]
fn after_old_segments_were_removed_a_rebuild_begins_with_the_checkpoint() {
    let dir = filled(40);
    let store = reopened(dir.path());
    let before = store.rollups("ws", DayRange::default()).unwrap();
    let keep = Keep { log_bytes: 4000, ..Keep::logs_since(jiff::Timestamp::MIN) };
    let removed = store.prune(&keep).unwrap();
    assert!(removed > 10, "{removed}");
    drop(store);
    assert_eq!(files(&dir.path().join("journal"), ".checkpoint").len(), 1);
    assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
    rebuild(dir.path()).unwrap();
    let store = reopened(dir.path());
    assert_eq!(store.rollups("ws", DayRange::default()).unwrap(), before);
    assert_eq!(store.tenancy().unwrap().workspaces.len(), 1);
    assert_eq!(store.logs("ws", &LogQuery::default()).unwrap().total, 40 - removed);
    drop(store);
    let checkpoint = files(&dir.path().join("journal"), ".checkpoint").remove(0);
    let mut bytes = std::fs::read(&checkpoint).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&checkpoint, bytes).unwrap();
    assert!(verify(dir.path()).unwrap().problems.iter().any(|problem| problem.contains("checkpoint")));
    assert!(rebuild(dir.path()).is_err() && dir.path().join("state/db").exists(), "the good rows stay");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Bytes changed or cut anywhere in the journal: it is told, and a rebuild keeps every request but those that were hit.
    #[test]
    fn damage_anywhere_in_the_journal_is_found_and_healed(which: prop::sample::Index, at: prop::sample::Index, cut: bool) {
        let dir = filled(30);
        let segments = files(&dir.path().join("journal"), ".journal");
        let segment = which.get(&segments);
        let is_last = Some(segment) == segments.last();
        let mut bytes = std::fs::read(segment).unwrap();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= 0x40 }
        std::fs::write(segment, &bytes).unwrap();
        let report = verify(dir.path()).unwrap();
        prop_assert_ne!(&report.problems, &Vec::<String>::new());
        if !is_last && (cut || at < 24) {
            prop_assert!(SledStore::open_with(dir.path(), 2000).is_err());
        }
        rebuild(dir.path()).unwrap();
        prop_assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
        let left = requests(&reopened(dir.path()));
        let lost = 30 - left.len();
        prop_assert!(left.is_sorted() && (cut || lost <= 1), "{} lost", lost);
    }
}

/// A store of the first layout, as it was written then.
fn first_layout(dir: &Path) {
    let db = ::sled::open(dir).unwrap();
    let put = |key: &[u8], value: &[u8]| drop(db.insert(key, value).unwrap());
    put(b"\0format", b"1");
    put(b"\0commits", b"7");
    put(b"wws\0", &serde_json::to_vec(&workspace("ws")).unwrap());
    let mut sums = Rollup::default();
    for number in 0..3 {
        let record = numbered(number);
        record.attempts.iter().filter(|attempt| attempt.provider == "openai").for_each(|attempt| sums.add(attempt));
        let mut key = b"lws\0".to_vec();
        key.extend_from_slice(&(record.created_at.as_millisecond() ^ i64::MIN).to_be_bytes());
        key.extend_from_slice(format!("\0{}\0\0\0\0\0", record.request_id).as_bytes());
        put(&key, &serde_json::to_vec(&record).unwrap());
    }
    put(b"rws\x002026-01-01\0openai", &serde_json::to_vec(&sums).unwrap());
    put(b"sws\x002026-01-01\0key_1", b"77");
    db.flush().unwrap();
    std::fs::write(dir.join("perpetuo.commits"), "00000000000000000007\n").unwrap();
}

#[test]
fn a_store_of_the_first_layout_is_carried_over_once_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    first_layout(dir.path());
    // A carrying over that a crash cut short leaves this.
    std::fs::create_dir(dir.path().join("journal.unfinished")).unwrap();
    for _ in 0..2 {
        let store = SledStore::open(dir.path()).unwrap();
        assert_eq!(store.tenancy().unwrap().workspaces, [workspace("ws")]);
        let log = store.logs("ws", &LogQuery { limit: 50, ..LogQuery::default() }).unwrap();
        assert_eq!(log.requests, [2, 1, 0].map(numbered));
        let sums = store.rollups("ws", DayRange::default()).unwrap();
        assert_eq!(sums.iter().map(|(name, sums)| (name.as_str(), sums.attempts)).collect::<Vec<_>>(), [("openai", 3)]);
        let spent = store.spent("ws", DayRange::default()).unwrap();
        assert_eq!((spent.len(), spent[0].key.as_str(), spent[0].cost.0), (1, "key_1", 77));
    }
    assert!(dir.path().join("before-journal-1/db").exists() && !dir.path().join("before-journal-2").exists());
    assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
}

#[test]
fn a_store_of_the_first_layout_without_its_main_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    first_layout(dir.path());
    std::fs::remove_file(dir.path().join("db")).unwrap();
    let error = SledStore::open(dir.path()).err().unwrap();
    assert!(error.message().contains("is damaged"), "{error}");
    assert!(!dir.path().join("db").exists() && !dir.path().join("state").exists());
}
