//! The ledger alone: records per second, the time of a commit, the start over many records, queries at that size, and the disk
//! that they take.
//!
//! Run it with `cargo bench --bench ledger`; `PERPETUO_RECORDS=10000000` for ten million records (one million without it).
//! Timings are of this machine and its disk; compare the rows of one run.
#![expect(clippy::print_stdout, reason = "the table is the result")]
#![expect(clippy::indexing_slicing, reason = "the places are this file's own")]
#![expect(clippy::expect_used, reason = "a benchmark that can't start has nothing to say")]

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use perpetuo::api::operation::Operation;
use perpetuo::api::strategy::StrategyName;
use perpetuo::money::Money;
use perpetuo::store::sled::SledStore;
use perpetuo::store::{AttemptRecord, Booking, By, DayRange, Grain, Keep, LogQuery, SeriesQuery, Store};
use perpetuo::usage::{Certainty, Usage};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Records of one commit under load, as the meter gathers them.
const BATCH: usize = 512;
const WORKSPACES: usize = 20;
/// The days over which the records are spread.
const DAYS: i64 = 30;
/// Milliseconds of the records' time between two prunings.
const PRUNE_EVERY: i64 = 12 * 3_600_000;
/// Records of the burst.
const BURST: usize = 200_000;
/// Small commits whose time is taken.
const COMMITS: usize = 500;
const PROVIDERS: [(&str, &str); 4] =
    [("one", "gpt-4o-mini"), ("two", "claude-sonnet-4-5"), ("three", "gemini-2.5-flash"), ("four", "llama-3.3-70b")];

fn main() {
    let records = std::env::var("PERPETUO_RECORDS").ok().and_then(|count| count.parse().ok()).unwrap_or(1_000_000);
    let dir = tempfile::tempdir_in(".").expect("a directory on the disk of this checkout");
    println!("| {records} records | figure |\n| --- | --- |");
    let (store, _) = timed("opening an empty store", || SledStore::open(dir.path()).expect("store"));
    fill(&store, records);
    burst(&store);
    commits(&store);
    queries(&store);
    timed("closing", || drop(store));
    let (store, _) = timed("start after a clean end", || SledStore::open(dir.path()).expect("store"));
    drop(store);
    disk(dir.path(), records);
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = work();
    let took = start.elapsed();
    println!("| {what} | {} |", milliseconds(took));
    (done, took)
}

fn milliseconds(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1e3)
}

fn fill(store: &SledStore, records: usize) {
    let mut random = StdRng::seed_from_u64(1);
    let begin = Timestamp::now().as_millisecond() - DAYS * 86_400_000;
    let step = DAYS * 86_400_000 / i64::try_from(records.max(1)).expect("a count");
    let (mut making, start) = (Duration::ZERO, Instant::now());
    let (mut number, mut pruned) = (0, begin);
    while number < records {
        let made = Instant::now();
        let end = records.min(number + BATCH);
        let batch: Vec<Booking> = (number..end).map(|n| record(&mut random, begin + step * n as i64)).collect();
        making += made.elapsed();
        store.append(&batch).expect("append");
        number = end;
        let now = begin + step * number as i64;
        if now - pruned > PRUNE_EVERY {
            pruned = now;
            store.prune(&keep(now)).expect("prune");
        }
    }
    let took = start.elapsed() - making;
    println!("| records per second, a month of them, pruned as it goes | {:.0} |", records as f64 / took.as_secs_f64());
}

/// What a gateway keeps at this millisecond.
fn keep(now: i64) -> Keep {
    let ago = |days: i64| Timestamp::from_millisecond(now - days * 86_400_000).expect("a moment");
    Keep { logs: ago(60), log_bytes: u64::MAX, close: ago(1), minutes: ago(2), hours: ago(31), days: ago(1100) }
}

/// As many records as there can be, of this moment.
fn burst(store: &SledStore) {
    let mut random = StdRng::seed_from_u64(3);
    let mut took = Duration::ZERO;
    for _ in 0..BURST / BATCH {
        let now = Timestamp::now().as_millisecond();
        let batch: Vec<Booking> = (0..BATCH).map(|_| record(&mut random, now)).collect();
        let start = Instant::now();
        store.append(&batch).expect("append");
        took += start.elapsed();
    }
    println!("| records per second, all of now, {BATCH} to a commit | {:.0} |", BURST as f64 / took.as_secs_f64());
}

/// A request as they are: every tenth failed over, ids as random as real ones.
fn record(random: &mut StdRng, at: i64) -> Booking {
    let (provider, model) = PROVIDERS[random.random_range(0..PROVIDERS.len())];
    let workspace = random.random_range(0..WORKSPACES);
    // A request takes up to a minute, and is booked when it is over.
    let created_at = Timestamp::from_millisecond(at - random.random_range(0..60_000)).expect("a moment");
    let latency_ms = random.random_range(300..20_000);
    let mut attempts = vec![attempt(random, (provider, model), latency_ms)];
    if random.random_range(0..10) == 0 {
        let error = Some("provider_rate_limited".to_owned());
        attempts.insert(
            0,
            AttemptRecord { status: 429, error, usage: Usage::default(), cost: Money::ZERO, ..attempts[0].clone() },
        );
        attempts[1].number = 2;
    }
    Booking {
        request_id: format!("req_{:032x}", random.random::<u128>()),
        workspace: format!("ws_{workspace:032x}"),
        key: format!("key_{:032x}", random.random_range(0..10) + 100 * workspace),
        model: model.to_owned(),
        model_served: Some(model.to_owned()),
        provider: Some(provider.to_owned()),
        strategy: StrategyName::Default,
        operation: Operation::Chat,
        status: if random.random_range(0..50) == 0 { 502 } else { 200 },
        error: None,
        stream: random.random(),
        client_gone: false,
        latency_ms,
        first_token_ms: Some(latency_ms / 3),
        created_at,
        attempts,
    }
}

fn attempt(random: &mut StdRng, (provider, model): (&str, &str), latency_ms: u64) -> AttemptRecord {
    let usage = Usage {
        input: random.random_range(20..8000),
        cached_read: random.random_range(0..2) * random.random_range(0..4000),
        output: random.random_range(1..2000),
        ..Usage::default()
    };
    AttemptRecord {
        number: 1,
        provider: provider.to_owned(),
        credential: format!("prov_{:032x}", provider.len()),
        model: model.to_owned(),
        status: 200,
        error: None,
        usage,
        cost: Money(u128::from(usage.total_tokens()) * 2_500_000),
        certainty: Certainty::Exact,
        latency_ms,
        first_token_ms: Some(latency_ms / 3),
        reason: None,
        passed_over: Vec::new(),
        cost_source: None,
        why: None,
        service_tier: None,
    }
}

/// The time of commits of a few records each, as they are under little load.
fn commits(store: &SledStore) {
    let mut random = StdRng::seed_from_u64(2);
    let now = Timestamp::now().as_millisecond();
    let mut took: Vec<Duration> = (0..COMMITS)
        .map(|_| {
            let batch: Vec<Booking> = (0..8).map(|_| record(&mut random, now)).collect();
            let start = Instant::now();
            store.append(&batch).expect("append");
            start.elapsed()
        })
        .collect();
    took.sort_unstable();
    for (name, share) in [("p50", 50), ("p99", 99)] {
        println!("| a commit of 8 records, {name} | {} |", milliseconds(took[COMMITS * share / 100]));
    }
}

fn queries(store: &SledStore) {
    let workspace = format!("ws_{:032x}", 3);
    let days = |start: i64, end: i64| {
        let day = |ago: i64| {
            let moment = Timestamp::from_millisecond(Timestamp::now().as_millisecond() - ago * 86_400_000);
            Some(moment.expect("a moment").to_zoned(jiff::tz::TimeZone::UTC).date())
        };
        DayRange { start: day(start), end: day(end) }
    };
    let all = LogQuery { limit: 50, ..LogQuery::default() };
    let total = store.logs(&workspace, &all).expect("logs").total;
    let some = |query: &LogQuery| LogQuery { provider: Some("two".into()), status: Some(502), ..query.clone() };
    let deep = LogQuery { page: total / 100, ..all.clone() };
    let dated = LogQuery { days: days(20, 10), ..all.clone() };
    println!("| records of the workspace that is asked for | {total} |");
    for (name, query) in [
        ("logs, first page", all.clone()),
        ("logs, page in the middle", deep),
        ("logs, first page of ten days", dated.clone()),
        ("logs by provider and status, first page", some(&all)),
        ("logs by provider and status, page in the middle", LogQuery { page: total / 100 / 200, ..some(&all) }),
        ("logs by provider and status of ten days", some(&dated)),
    ] {
        timed(name, || store.logs(&workspace, &query).expect("logs"));
    }
    for (name, by) in [("provider", By::Provider), ("key", By::Key), ("model", By::Model), ("day", By::Day)] {
        timed(&format!("usage by {name}, {DAYS} days"), || {
            store.rollups_by(&workspace, by, DayRange::default()).expect("usage")
        });
    }
    let hours = SeriesQuery { grain: Grain::Hour, key: None, provider: None, model: None, days: days(7, 0) };
    timed("usage by hour, 7 days", || store.series(&workspace, &hours).expect("usage"));
    let mut rows = 0_u64;
    let (_, took) = timed("export of the workspace", || {
        store.export(&workspace, 0, DayRange::default(), &mut |_, _| {
            rows += 1;
            Ok(ControlFlow::Continue(()))
        })
    });
    println!("| exported records per second | {:.0} |", rows as f64 / took.as_secs_f64());
}

fn disk(dir: &Path, records: usize) {
    for part in ["journal", "state"] {
        let bytes = size(&dir.join(part));
        println!("| {part}, MB per million requests | {:.1} |", bytes as f64 / records as f64);
    }
}

fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"));
    entries
        .map(
            |entry| {
                if entry.path().is_dir() { size(&entry.path()) } else { entry.metadata().map_or(0, |data| data.len()) }
            },
        )
        .sum()
}
