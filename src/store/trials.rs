//! The store before disks that changed behind its back: cut, damaged, missing, of an older layout.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;

use super::rebuild::{Rebuilt, rebuild};
use super::sled::SledStore;
use super::suite::{booking, workspace};
use super::sums::{Merged, Sums, Writing, unpack};
use super::verify::verify;
use super::*;

pub(super) fn numbered(number: usize) -> Booking {
    booking("ws", &format!("r{number:03}"), "2026-01-01T00:00:00Z")
}

/// The requests in a store, in the order of booking, after a check that log and sums say the same.
pub(super) fn requests(store: &dyn Store) -> Vec<String> {
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

pub(super) fn expected(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(|number| format!("r{number:03}")).collect()
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
    let Rebuilt { entries, mended, lost, aside } = rebuild(dir.path()).unwrap();
    assert_eq!((entries, mended.len(), lost.len(), aside.len()), (41, 0, 0, 2));
    assert!(aside.iter().any(|old| old.join("db").exists()), "what was there is kept");
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
fn sums_that_say_something_else_than_the_journal_are_found_and_healed() {
    let dir = filled(10);
    let disk = sled::disk(dir.path(), sled::SUMS).unwrap();
    let run = Sums::read_only(Arc::clone(&disk)).unwrap().runs().remove(0);
    let mut rows = Merged::new(std::slice::from_ref(&run)).unwrap();
    let mut writing = Writing::begin(&*disk, run.of).unwrap();
    rows.next().unwrap().unwrap();
    while let Some((key, value)) = rows.next().unwrap() {
        writing.add(&key, &value).unwrap();
    }
    writing.finish().unwrap();
    let problems = verify(dir.path()).unwrap().problems;
    assert!(problems.iter().any(|problem| problem.contains("is missing")), "{problems:?}");
    rebuild(dir.path()).unwrap();
    assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
}

#[test]
fn sums_that_are_gone_or_damaged_are_told_and_made_anew() {
    let dir = filled(30);
    let sums = dir.path().join("sums");
    let run = files(&sums, ".sums").remove(0);
    let whole = std::fs::read(&run).unwrap();
    for at in [30, whole.len() - 5] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&run, bytes).unwrap();
        assert_ne!(verify(dir.path()).unwrap().problems, Vec::<String>::new(), "{at}");
    }
    let error = SledStore::open(dir.path()).err().unwrap();
    assert!(error.message().contains("perpetuo store rebuild"), "{error}");
    rebuild(dir.path()).unwrap();
    assert_eq!(requests(&reopened(dir.path())), expected(0..30));
    std::fs::remove_dir_all(sums).unwrap();
    assert_eq!(requests(&reopened(dir.path())), expected(0..30));
    assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
}

#[test]
fn of_sums_whose_segments_are_gone_a_rebuild_keeps_what_can_be_read() {
    let dir = filled(40);
    let store = reopened(dir.path());
    store.prune(&Keep { log_bytes: 4000, ..Keep::logs_since(jiff::Timestamp::MIN) }).unwrap();
    drop(store);
    let run = files(&dir.path().join("sums"), ".sums").remove(0);
    let mut bytes = std::fs::read(&run).unwrap();
    let end = bytes.len() - 3;
    bytes[end] ^= 1;
    std::fs::write(&run, bytes).unwrap();
    let rebuilt = rebuild(dir.path()).unwrap();
    assert!(rebuilt.lost.len() == 1 && rebuilt.lost[0].contains("blocks of it can be read"), "{rebuilt:?}");
    assert_eq!(reopened(dir.path()).rollups("ws", DayRange::default()).unwrap()[0].1.attempts, 40);
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

/// The same store as the second layout had it: sums among the tenants, each with the number of its last entry.
fn second_layout(dir: &Path, is_torn: bool) {
    let through = Sums::read_only(sled::disk(dir, sled::SUMS).unwrap()).unwrap().through();
    let mut merged = Merged::new(&Sums::read_only(sled::disk(dir, sled::SUMS).unwrap()).unwrap().runs()).unwrap();
    let db = sled::open_when_free(&dir.join("state")).unwrap();
    while let Some((key, value)) = merged.next().unwrap() {
        let Rollup { attempts, errors, usage, cost, latency, .. } = unpack(&value).unwrap();
        let tokens = [usage.input, usage.cached_read, usage.cache_write, usage.output, usage.reasoning, 0, 0];
        let latency = (latency.count, latency.sum_ms, latency.buckets.into_iter().collect::<Vec<_>>());
        let sum = (through + u64::from(is_torn), [attempts, errors, 0, 0], tokens, cost, latency);
        db.insert(key, serde_json::to_vec(&sum).unwrap()).unwrap();
    }
    db.insert(b"\0format", b"2").unwrap();
    db.flush().unwrap();
    std::fs::remove_dir_all(dir.join("sums")).unwrap();
}

#[test]
fn a_store_of_the_second_layout_is_carried_over_once_and_kept() {
    for is_torn in [false, true] {
        let dir = filled(30);
        second_layout(dir.path(), is_torn);
        assert!(!verify(dir.path()).unwrap().problems.is_empty());
        for _ in 0..2 {
            let store = reopened(dir.path());
            assert_eq!(requests(&store), expected(0..30));
            assert_eq!(store.tenancy().unwrap().workspaces, [workspace("ws")]);
        }
        let kept = |number| dir.path().join(format!("state-before-{number}")).join("db").exists();
        assert_eq!((kept(1), kept(2)), (true, false));
        assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
    }
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
