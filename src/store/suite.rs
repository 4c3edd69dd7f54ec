//! The tests of the contract, run on every store, and the records they use.

use jiff::Timestamp;
use serde_json::Map;

use super::*;
use crate::api::operation::Operation;
use crate::api::strategy::StrategyName;
use crate::money::Money;
use crate::store::memory::MemoryStore;
use crate::store::sled::SledStore;
use crate::usage::{Certainty, CostSource, Usage};

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn attempt(provider: &str, error: Option<&str>) -> AttemptRecord {
    AttemptRecord {
        number: 1,
        provider: provider.into(),
        credential: format!("prov_{provider}"),
        model: "gpt-4o".into(),
        status: if error.is_some() { 500 } else { 200 },
        error: error.map(Into::into),
        usage: Usage { input: 100, cached_read: 20, output: 30, reasoning: 10, ..Usage::default() },
        cost: Money(u128::from(u64::MAX) + 7),
        certainty: Certainty::Exact,
        latency_ms: 250,
        first_token_ms: Some(100),
        reason: Some("best".into()),
        passed_over: vec!["anthropic:open".into()],
        cost_source: Some(CostSource::Catalogue),
        why: None,
        service_tier: None,
        upstream_request_id: Some("req_1".into()),
    }
}

pub(crate) fn booking(workspace: &str, request_id: &str, created_at: &str) -> Booking {
    RequestRecord {
        request_id: request_id.into(),
        workspace: workspace.into(),
        key: "key_1".into(),
        model: "gpt-4o".into(),
        model_served: Some("gpt-4o-2024-08-06".into()),
        provider: Some("openai".into()),
        strategy: StrategyName::Fastest,
        operation: Operation::Chat,
        status: 200,
        error: None,
        stream: true,
        client_gone: false,
        latency_ms: 300,
        first_token_ms: Some(120),
        created_at: at(created_at),
        attempts: vec![attempt("groq", Some("provider_error")), attempt("openai", None)],
    }
}

pub(crate) fn workspace(id: &str) -> WorkspaceRecord {
    let created_at = at("2026-01-01T00:00:00Z");
    WorkspaceRecord {
        id: id.into(),
        name: "Team".into(),
        strategy: None,
        limits: Map::new(),
        hedging: false,
        refuse_unpriced: false,
        created_at,
    }
}

fn credential(workspace: &str, id: &str) -> CredentialRecord {
    CredentialRecord {
        id: id.into(),
        workspace: workspace.into(),
        provider: "openai".into(),
        priority: 1,
        weight: 1,
        base_url: None,
        models: [("fast".to_owned(), "gpt-4o-mini".to_owned())].into(),
        enabled: true,
        options: Map::new(),
        sealed: "v1.sealed".into(),
        last_four: "cdef".into(),
        created_at: at("2026-01-01T00:00:00Z"),
    }
}

fn key(workspace: &str, id: &str) -> KeyRecord {
    KeyRecord {
        id: id.into(),
        workspace: workspace.into(),
        name: "CI".into(),
        hash: "00".repeat(32),
        pepper: Some("v1.sealed".into()),
        last_four: "cdef".into(),
        strategy: Some(StrategyName::Cheapest),
        expires_at: None,
        revoked_at: None,
        limits: Map::new(),
        created_at: at("2026-01-01T00:00:00Z"),
    }
}

/// A month in which two workspaces asked; `ws` at the edges of days.
fn fill(store: &dyn Store) {
    let mut refused = booking("ws", "c", "2026-01-02T23:59:59.999Z");
    (refused.status, refused.provider) = (429, Some("groq".into()));
    store.append(&[booking("ws", "a", "2026-01-01T00:00:00Z"), refused]).unwrap();
    store.append(&[booking("ws", "b", "2026-01-02T12:00:00Z"), booking("ws", "d", "2026-01-03T00:00:00Z")]).unwrap();
    store.append(&[booking("ws2", "z", "2026-01-02T12:00:00Z"), booking("w", "y", "2026-01-02T12:00:00Z")]).unwrap();
}

fn ids(page: &LogPage) -> Vec<&str> {
    page.requests.iter().map(|record| record.request_id.as_str()).collect()
}

fn days(start: &str, end: &str) -> DayRange {
    DayRange { start: start.parse().ok(), end: end.parse().ok() }
}

fn query() -> LogQuery {
    LogQuery { limit: 50, ..LogQuery::default() }
}

fn tenants_come_back_and_a_deleted_workspace_takes_its_own_but_not_its_ledger(store: &dyn Store) {
    for id in ["ws", "ws2"] {
        store.put_workspace(&workspace(id)).unwrap();
        store.put_credential(&credential(id, "prov_1")).unwrap();
        store.put_credential(&credential(id, "prov_2")).unwrap();
        store.put_key(&key(id, "key_1")).unwrap();
        store.put_key(&key(id, "key_2")).unwrap();
    }
    store.append(&[booking("ws", "a", "2026-01-01T00:00:00Z")]).unwrap();
    let renamed = WorkspaceRecord { name: "Renamed".into(), ..workspace("ws2") };
    store.put_workspace(&renamed).unwrap();
    store.delete_credential("ws2", "prov_1").unwrap();
    store.delete_key("ws2", "key_2").unwrap();
    store.delete_key("ws2", "never was").unwrap();
    store.delete_workspace("ws").unwrap();

    let tenancy = store.tenancy().unwrap();
    assert_eq!(tenancy.workspaces, [renamed]);
    assert_eq!(tenancy.credentials, [credential("ws2", "prov_2")]);
    assert_eq!(tenancy.keys, [key("ws2", "key_1")]);
    assert_eq!(store.logs("ws", &query()).unwrap().total, 1);
    assert_eq!(store.rollups("ws", DayRange::default()).unwrap().len(), 2);
}

fn the_log_is_newest_first_and_pages_have_the_right_total(store: &dyn Store) {
    fill(store);
    let all = store.logs("ws", &query()).unwrap();
    assert_eq!((ids(&all), all.total), (vec!["d", "c", "b", "a"], 4));
    assert_eq!(all.requests[3], booking("ws", "a", "2026-01-01T00:00:00Z"));
    let second = store.logs("ws", &LogQuery { page: 1, limit: 3, ..query() }).unwrap();
    assert_eq!((ids(&second), second.total), (vec!["a"], 4));
    let beyond = store.logs("ws", &LogQuery { page: u64::MAX, limit: 1000, ..query() }).unwrap();
    assert_eq!((ids(&beyond), beyond.total), (vec![], 4));
    assert_eq!(store.logs("nobody", &query()).unwrap().total, 0);
}

fn the_log_is_filtered_by_provider_status_and_days(store: &dyn Store) {
    fill(store);
    let by_provider = store.logs("ws", &LogQuery { provider: Some("groq".into()), ..query() }).unwrap();
    assert_eq!((ids(&by_provider), by_provider.total), (vec!["c"], 1));
    let by_status = store.logs("ws", &LogQuery { status: Some(200), page: 1, limit: 2, ..query() }).unwrap();
    assert_eq!((ids(&by_status), by_status.total), (vec!["a"], 3));
    let of_days = |start, end| store.logs("ws", &LogQuery { days: days(start, end), ..query() }).unwrap();
    assert_eq!(ids(&of_days("2026-01-02", "2026-01-02")), ["c", "b"]);
    assert_eq!(ids(&of_days("2026-01-03", "")), ["d"]);
    assert_eq!(ids(&of_days("", "2026-01-01")), ["a"]);
    assert_eq!(of_days("", "9999-12-31").total, 4);
    assert_eq!(of_days("2026-01-03", "2026-01-01").total, 0);
}

fn the_log_is_the_same_wherever_its_index_was_noted(store: &dyn Store) {
    // Neither in the order of their times nor against it: 0, 7, 14, 1, 8, …
    let hours = (0..20).map(|place| place * 7 % 20);
    for hour in hours.clone() {
        let mut record = booking("ws", &format!("{hour:02}"), &format!("2026-01-01T{hour:02}:00:00Z"));
        record.provider = Some(if hour % 2 == 0 { "even" } else { "odd" }.into());
        store.append(&[record, booking("other", "x", "2026-01-01T12:00:00Z")]).unwrap();
        assert_eq!(store.prune(&Keep::logs_since(Timestamp::MIN)).unwrap(), 0);
    }
    let named = |hours: &mut dyn Iterator<Item = i32>| hours.map(|hour| format!("{hour:02}")).collect::<Vec<_>>();
    let page = store.logs("ws", &LogQuery { page: 1, limit: 6, ..query() }).unwrap();
    assert_eq!((page.total, ids(&page)), (20, named(&mut (8..14).rev()).iter().map(String::as_str).collect()));
    let odd = store.logs("ws", &LogQuery { provider: Some("odd".into()), ..query() }).unwrap();
    assert_eq!(ids(&odd), named(&mut (0..20).rev().filter(|hour| hour % 2 == 1)));
    assert_eq!(exported(store, "ws", 0), named(&mut hours.into_iter()));
}

fn rollups_are_the_sum_of_the_attempts_of_the_days(store: &dyn Store) {
    fill(store);
    let of_days = |start, end| store.rollups("ws", days(start, end)).unwrap();
    let all = of_days("", "");
    assert_eq!(all.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["groq", "openai"]);
    let (groq, openai) = (&all[0].1, &all[1].1);
    assert_eq!((groq.attempts, groq.errors, groq.latency.count), (4, 4, 0));
    assert_eq!((openai.attempts, openai.errors, openai.latency.count), (4, 0, 4));
    assert_eq!(openai.cost, Money(4 * (u128::from(u64::MAX) + 7)));
    assert_eq!(openai.usage.total_tokens(), 4 * 150);
    assert_eq!(of_days("2026-01-02", "2026-01-02")[1].1.attempts, 2);
    assert_eq!(of_days("2026-01-03", "")[1].1.attempts, 1);
    assert_eq!(of_days("", "2026-01-02")[1].1.attempts, 3);
    assert!(of_days("2026-01-03", "2026-01-01").is_empty());
    assert!(store.rollups("nobody", DayRange::default()).unwrap().is_empty());
}

fn requests_that_are_alike_are_each_there(store: &dyn Store) {
    let first = booking("ws", "same", "2026-01-01T00:00:00Z");
    let twin = Booking { latency_ms: 999, ..first.clone() };
    store.append(&[first.clone(), twin, first]).unwrap();
    store.append(&[]).unwrap();
    assert_eq!(store.logs("ws", &query()).unwrap().total, 3);
    assert_eq!(store.rollups("ws", DayRange::default()).unwrap()[0].1.attempts, 3);
}

fn a_piece_with_a_bad_booking_is_not_there_at_all(store: &dyn Store) {
    let bad = booking("ws\0", "bad", "2026-01-01T00:00:00Z");
    assert!(store.append(&[booking("ws", "good", "2026-01-01T00:00:00Z"), bad]).is_err());
    assert_eq!(store.logs("ws", &query()).unwrap().total, 0);
    assert!(store.rollups("ws", DayRange::default()).unwrap().is_empty());
}

fn pruning_removes_old_rows_of_every_workspace_and_no_sum(store: &dyn Store) {
    fill(store);
    let many: Vec<_> = (0..2500).map(|n| booking("old", &n.to_string(), "2025-12-01T00:00:00Z")).collect();
    store.append(&many).unwrap();
    let before = store.rollups("ws", DayRange::default()).unwrap();
    let keep = Keep::logs_since(at("2026-01-02T23:59:59.999Z"));
    assert_eq!(store.prune(&keep).unwrap(), 2500 + 4);
    assert_eq!(ids(&store.logs("ws", &query()).unwrap()), ["d", "c"]);
    assert_eq!(exported(store, "ws", 0), ["c", "d"]);
    assert_eq!(store.logs("old", &query()).unwrap().total, 0);
    assert_eq!(store.rollups("ws", DayRange::default()).unwrap(), before);
    assert_eq!(store.prune(&keep).unwrap(), 0);
}

fn files_of_the_log_go_when_all_in_them_is_old_and_the_sums_stay(store: &dyn Store) {
    fill(store);
    let before = store.rollups("ws", DayRange::default()).unwrap();
    let closed = Keep { close: Timestamp::MAX, ..Keep::logs_since(at("2026-01-02T00:00:00Z")) };
    assert_eq!(store.prune(&closed).unwrap(), 1);
    assert_eq!(ids(&store.logs("ws", &query()).unwrap()), ["d", "c", "b"]);
    assert_eq!(store.prune(&Keep { logs: Timestamp::MIN, log_bytes: 0, ..closed }).unwrap(), 5);
    assert_eq!(store.logs("ws", &query()).unwrap().total, 0);
    store.append(&[booking("ws", "e", "2026-01-04T00:00:00Z")]).unwrap();
    assert_eq!(ids(&store.logs("ws", &query()).unwrap()), ["e"]);
    assert_eq!(store.rollups("ws", days("", "2026-01-03")).unwrap(), before);
}

fn sums_are_pruned_by_their_own_age(store: &dyn Store) {
    fill(store);
    let moment = at("2026-01-03T00:00:00Z");
    store
        .prune(&Keep { minutes: moment, hours: at("2026-01-02T12:00:00Z"), ..Keep::logs_since(Timestamp::MIN) })
        .unwrap();
    let attempts = |grain| series(store, grain).iter().map(|(_, sums)| sums.attempts).sum::<u64>();
    assert_eq!([Grain::Minute, Grain::Hour, Grain::Day].map(attempts), [2, 6, 8]);
    store.prune(&Keep { days: moment, ..Keep::logs_since(Timestamp::MIN) }).unwrap();
    assert_eq!(attempts(Grain::Day), 2);
    assert_eq!(store.rollups("ws", DayRange::default()).unwrap()[0].1.attempts, 1);
}

fn the_same_sums_are_given_by_key_by_model_by_day_and_along_time(store: &dyn Store) {
    fill(store);
    let other = Booking { key: "key_2".into(), ..booking("ws", "e", "2026-01-03T00:59:59Z") };
    store.append(&[other]).unwrap();
    let by = |by| {
        let rows = store.rollups_by("ws", by, DayRange::default()).unwrap();
        rows.into_iter().map(|(name, sums)| (name, sums.attempts)).collect::<Vec<_>>()
    };
    assert_eq!(by(By::Key), [("key_1".to_owned(), 8), ("key_2".to_owned(), 2)]);
    assert_eq!(by(By::Model), [("gpt-4o".to_owned(), 10)]);
    assert_eq!(
        by(By::Day),
        ["2026-01-01", "2026-01-02", "2026-01-03"].map(str::to_owned).into_iter().zip([2, 4, 4]).collect::<Vec<_>>()
    );
    let times: Vec<_> =
        series(store, Grain::Hour).into_iter().map(|(begin, sums)| (begin.to_string(), sums.attempts)).collect();
    let expected = [
        ("2026-01-01T00:00:00Z", 2),
        ("2026-01-02T12:00:00Z", 2),
        ("2026-01-02T23:00:00Z", 2),
        ("2026-01-03T00:00:00Z", 4),
    ];
    assert_eq!(times, expected.map(|(begin, attempts)| (begin.to_owned(), attempts)));
    let wanted = SeriesQuery { key: Some("key_2".into()), provider: Some("groq".into()), ..of_all(Grain::Minute) };
    assert_eq!(store.series("ws", &wanted).unwrap().iter().map(|(_, sums)| sums.attempts).collect::<Vec<_>>(), [1]);
    let spent: Vec<_> =
        store.spent("ws", days("2026-01-03", "")).unwrap().into_iter().map(|spent| (spent.key, spent.cost)).collect();
    let cost = booking("ws", "", "2026-01-01T00:00:00Z").cost();
    assert_eq!(spent, [("key_1".to_owned(), cost), ("key_2".to_owned(), cost)]);
}

fn an_export_goes_on_where_it_was_whatever_is_booked_meanwhile(store: &dyn Store) {
    fill(store);
    let mut seen = Vec::new();
    store
        .export("ws", 0, DayRange::default(), &mut |number, record| {
            seen.push((number, record.request_id));
            Ok(if seen.len() < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })
        .unwrap();
    store
        .append(&[booking("ws", "early", "2025-01-01T00:00:00Z"), booking("ws2", "theirs", "2026-01-01T00:00:00Z")])
        .unwrap();
    assert_eq!(seen.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(exported(store, "ws", seen[1].0), ["b", "d", "early"]);
    assert_eq!(exported(store, "ws", u64::MAX), Vec::<String>::new());
}

fn exported(store: &dyn Store, workspace: &str, after: u64) -> Vec<String> {
    let mut ids = Vec::new();
    store
        .export(workspace, after, DayRange::default(), &mut |_, record| {
            ids.push(record.request_id);
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
    ids
}

fn of_all(grain: Grain) -> SeriesQuery {
    SeriesQuery { grain, key: None, provider: None, model: None, days: DayRange::default() }
}

fn series(store: &dyn Store, grain: Grain) -> Vec<(Timestamp, Rollup)> {
    store.series("ws", &of_all(grain)).unwrap()
}

fn bookings_from_many_threads_are_all_summed(store: &dyn Store) {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for n in 0..25 {
                    store.append(&[booking("ws", &format!("{thread}-{n}"), "2026-01-01T00:00:00Z")]).unwrap();
                }
            });
        }
    });
    assert_eq!(store.rollups("ws", DayRange::default()).unwrap()[0].1.attempts, 100);
    assert!(store.healthy());
}

fn pages_are_in_order_and_whole_while_others_write(store: &dyn Store) {
    let time = |n: u64| format!("2026-01-01T{:02}:{:02}:{:02}Z", n / 3600 % 24, n / 60 % 60, n % 60);
    let write = |n: u64| {
        let status = if n.is_multiple_of(3) { 502 } else { 200 };
        store.append(&[Booking { status, ..booking("ws", &format!("{n:05}"), &time(n)) }]).unwrap();
    };
    (0..100).for_each(write);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (100..400).for_each(write);
            done.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        let mut before = 0;
        while !done.load(std::sync::atomic::Ordering::SeqCst) {
            let page = store.logs("ws", &LogQuery { page: 1, limit: 20, status: Some(502), ..query() }).unwrap();
            assert!(page.total >= before && page.requests.len() as u64 == (page.total - 20).min(20));
            assert!(ids(&page).is_sorted_by(|one, next| one > next), "newest first, none twice: {:?}", ids(&page));
            assert!(page.requests.iter().all(|record| record.status == 502));
            before = page.total;
        }
    });
    let last = store.logs("ws", &LogQuery { page: 3, limit: 100, ..query() }).unwrap();
    assert_eq!((last.total, ids(&last).len(), ids(&last)[99]), (400, 100, "00000"));
}

macro_rules! on_every_store {
    ($($test:ident)*) => {
        mod in_memory {
            use super::*;
            $(#[test] fn $test() { super::$test(&MemoryStore::new()); })*
        }
        mod on_disk {
            use super::*;
            $(#[test] fn $test() {
                let dir = tempfile::tempdir().unwrap();
                super::$test(&SledStore::open(dir.path()).unwrap());
            })*
        }
        /// Every few bookings begin a new file.
        mod on_disk_in_small_files {
            use super::*;
            $(#[test] fn $test() {
                let dir = tempfile::tempdir().unwrap();
                super::$test(&SledStore::open_with(dir.path(), 1000).unwrap());
                let report = verify::verify(dir.path()).unwrap();
                assert_eq!(report.problems, Vec::<String>::new());
            })*
        }
    };
}

on_every_store! {
    tenants_come_back_and_a_deleted_workspace_takes_its_own_but_not_its_ledger
    the_log_is_newest_first_and_pages_have_the_right_total
    the_log_is_filtered_by_provider_status_and_days
    the_log_is_the_same_wherever_its_index_was_noted
    rollups_are_the_sum_of_the_attempts_of_the_days
    requests_that_are_alike_are_each_there
    files_of_the_log_go_when_all_in_them_is_old_and_the_sums_stay
    sums_are_pruned_by_their_own_age
    the_same_sums_are_given_by_key_by_model_by_day_and_along_time
    an_export_goes_on_where_it_was_whatever_is_booked_meanwhile
    a_piece_with_a_bad_booking_is_not_there_at_all
    pruning_removes_old_rows_of_every_workspace_and_no_sum
    bookings_from_many_threads_are_all_summed
    pages_are_in_order_and_whole_while_others_write
}

mod reopened {
    use super::*;

    #[test]
    fn everything_is_there_after_the_store_was_dropped() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..5 {
            let store = SledStore::open(dir.path()).unwrap();
            assert_eq!(store.logs("ws", &query()).unwrap().total, round);
            store.append(&[booking("ws", &round.to_string(), "2026-01-01T00:00:00Z")]).unwrap();
            store.put_workspace(&workspace(&format!("ws{round}"))).unwrap();
        }
        let store = SledStore::open(dir.path()).unwrap();
        assert_eq!(store.rollups("ws", DayRange::default()).unwrap()[0].1.attempts, 5);
        assert_eq!(store.tenancy().unwrap().workspaces.len(), 5);
    }

    #[test]
    fn a_second_opener_is_told_that_the_store_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let store = SledStore::open(dir.path()).unwrap();
        let error = SledStore::open(dir.path()).err().unwrap();
        assert!(error.message().contains("in use by another process"), "{error}");
        assert!(store.healthy());
    }

    #[test]
    fn a_path_that_is_no_directory_is_refused_with_what_to_do() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = SledStore::open(file.path()).err().unwrap();
        assert!(error.message().contains("readable and writable"), "{error}");
    }
}
