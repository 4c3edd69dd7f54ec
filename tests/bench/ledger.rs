//! The ledger alone: records per second, the time of a commit, the start over many records, queries at that size, and the disk
//! and the memory that they take.
//!
//! Run it with `cargo bench --bench ledger`; `PERPETUO_RECORDS=10000000` for ten million records (one million without it).
//! Timings are of this machine and its disk; compare the rows of one run.
#![expect(clippy::print_stdout, reason = "the table is the result")]
#![expect(clippy::indexing_slicing, reason = "the places are this file's own")]
#![expect(clippy::expect_used, reason = "a benchmark that can't start has nothing to say")]

use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use perpetuo::api::operation::Operation;
use perpetuo::api::strategy::StrategyName;
use perpetuo::meter::{Meter, MeterOptions};
use perpetuo::metrics::Metrics;
use perpetuo::money::Money;
use perpetuo::store::sled::SledStore;
use perpetuo::store::{AttemptRecord, Booking, By, DayRange, Grain, Keep, LogQuery, SeriesQuery, Store};
use perpetuo::usage::{Certainty, Usage};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
/// Answers that wait at a time, and how often each does.
const CLIENTS: usize = 64;
const WAITS: usize = 300;
/// A query is asked so often; the middle one counts.
const ASKED: usize = 5;
const PROVIDERS: [(&str, &str); 4] =
    [("one", "gpt-4o-mini"), ("two", "claude-sonnet-4-5"), ("three", "gemini-2.5-flash"), ("four", "llama-3.3-70b")];

fn main() {
    if let Ok(role) = std::env::var(ROLE) {
        return play(&role);
    }
    let records = std::env::var("PERPETUO_RECORDS").ok().and_then(|count| count.parse().ok()).unwrap_or(1_000_000);
    let dir = tempfile::tempdir_in(".").expect("a directory on the disk of this checkout");
    println!("| {records} requests, {WORKSPACES} workspaces | |\n| --- | --- |");
    let store = SledStore::open(dir.path()).expect("store");
    fill(&store, records);
    burst(&store);
    commits(&store);
    let store = waiting(store);
    println!("| resident after that, at most | {} |", memory("VmHWM"));
    timed("closing", || drop(store));
    ask("start after a clean end", dir.path(), "open");
    let mut writing = Command::new(std::env::current_exe().expect("a program"));
    let mut writing =
        writing.env(ROLE, "write").env(PLACE, dir.path()).stdout(Stdio::piped()).spawn().expect("a process");
    let mut line = String::new();
    BufReader::new(writing.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    writing.kill().expect("kill -9");
    writing.wait().expect("its end");
    ask("start after `kill -9` under load", dir.path(), "open");
    ask("queries", dir.path(), "query");
    disk(dir.path(), records + BURST + COMMITS * 8 + CLIENTS * WAITS);
}

/// What a process of its own does with the store, so that its memory is its own.
const ROLE: &str = "PERPETUO_LEDGER_ROLE";
const PLACE: &str = "PERPETUO_LEDGER_DIR";

fn ask(what: &str, dir: &Path, role: &str) {
    let own = std::env::current_exe().expect("a program");
    let output = Command::new(own).env(ROLE, role).env(PLACE, dir).output().expect("a process");
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    print!("{}", String::from_utf8_lossy(&output.stdout).replace("opening", what));
}

fn play(role: &str) {
    let dir = std::env::var(PLACE).expect("a directory");
    let (store, took) = {
        let start = Instant::now();
        (SledStore::open(Path::new(&dir)).expect("store"), start.elapsed())
    };
    match role {
        "open" => println!("| opening | {}, {} resident |", milliseconds(took), memory("VmRSS")),
        "query" => {
            queries(&store);
            println!("| resident after the queries, at most | {} |", memory("VmHWM"));
        }
        _ => {
            let mut random = StdRng::seed_from_u64(4);
            for round in 0.. {
                let now = Timestamp::now().as_millisecond();
                store.append(&(0..BATCH).map(|_| record(&mut random, now)).collect::<Vec<_>>()).expect("append");
                if round == 60 {
                    println!("killed in the middle of this");
                }
            }
        }
    }
}

/// A line of what the system says of this process.
fn memory(name: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.map_or_else(|| "?".to_owned(), |kilobytes| format!("{} MB", kilobytes / 1024))
}

/// Records per second where every answer waits for its own to be on disk, as with `durability = "sync"`.
fn waiting(store: SledStore) -> SledStore {
    let store = Arc::new(store);
    let metrics = Arc::new(Metrics::register(&prometheus::Registry::new()).expect("metrics"));
    let options = MeterOptions { queue: 65_536, batch: Duration::ZERO, max_batch: 1024, sync: true };
    let meter = Meter::start(Arc::clone(&store) as Arc<dyn Store>, metrics, options).expect("a thread");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("threads");
    let start = Instant::now();
    runtime.block_on(async {
        let clients: Vec<_> = (0..CLIENTS as u64)
            .map(|client| {
                let meter = meter.clone();
                tokio::spawn(async move {
                    let mut random = StdRng::seed_from_u64(5 + client);
                    for _ in 0..WAITS {
                        assert!(meter.book_and_wait(record(&mut random, Timestamp::now().as_millisecond())).await);
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.expect("a client");
        }
    });
    let rate = (CLIENTS * WAITS) as f64 / start.elapsed().as_secs_f64();
    println!("| records per second, {CLIENTS} answers at a time waiting for the disk (`sync`) | {rate:.0} |");
    meter.shutdown();
    drop(meter);
    Arc::into_inner(store).expect("nobody else has it")
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
    let rate = records as f64 / took.as_secs_f64();
    println!("| records per second, a month of them, {BATCH} to a commit (`batch`), pruned as it goes | {rate:.0} |");
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
        upstream_request_id: None,
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
    println!("| requests of the workspace that is asked for | {total} |");
    for (name, query) in [
        ("logs, page 1 of 50", all.clone()),
        ("logs, page 1000", LogQuery { page: 999, ..all.clone() }),
        ("logs, the middle page", deep),
        ("logs, page 1 of ten days", dated.clone()),
        ("logs by provider and status, page 1", some(&all)),
        ("logs by provider and status, the middle page", LogQuery { page: total / 100 / 200, ..some(&all) }),
        ("logs by provider and status of ten days", some(&dated)),
    ] {
        median(name, || store.logs(&workspace, &query).expect("logs"));
    }
    for (name, by) in [("provider", By::Provider), ("key", By::Key), ("model", By::Model), ("day", By::Day)] {
        median(&format!("usage by {name}, {DAYS} days"), || {
            store.rollups_by(&workspace, by, DayRange::default()).expect("usage")
        });
    }
    let series = |grain, days| SeriesQuery { grain, key: None, provider: None, model: None, days };
    for (name, query) in [
        ("usage by hour, 7 days", series(Grain::Hour, days(7, 0))),
        ("usage by hour, 30 days", series(Grain::Hour, days(30, 0))),
        ("usage by minute, a day", series(Grain::Minute, days(1, 1))),
    ] {
        median(name, || store.series(&workspace, &query).expect("usage"));
    }
    let mut rows = 0_u64;
    let start = Instant::now();
    let export = |rows: &mut u64, most: u64| {
        store.export(&workspace, 0, DayRange::default(), &mut |_, _| {
            *rows += 1;
            Ok(if *rows < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })
    };
    export(&mut rows, u64::MAX).expect("export");
    println!("| exported records per second | {:.0} |", rows as f64 / start.elapsed().as_secs_f64());
    median("export, the first record", || export(&mut 0, 1).expect("export"));
}

/// The middle of some times.
fn median<T>(what: &str, mut work: impl FnMut() -> T) {
    let mut took: Vec<Duration> = (0..ASKED)
        .map(|_| {
            let start = Instant::now();
            let _ = work();
            start.elapsed()
        })
        .collect();
    took.sort_unstable();
    println!("| {what} | {} |", milliseconds(took[ASKED / 2]));
}

fn disk(dir: &Path, records: usize) {
    let mut files = Vec::new();
    list(dir, &mut files);
    let mut sum = 0;
    for (name, belongs) in [
        ("journal", &(|path: &str| path.ends_with(".journal")) as &dyn Fn(&str) -> bool),
        ("indexes", &|path| path.contains(".index")),
        ("sums", &|path| path.ends_with(".sums")),
        ("tenants and the rest", &|path| ![".journal", ".index", ".sums"].iter().any(|part| path.contains(part))),
    ] {
        let bytes: u64 = files.iter().filter(|(path, _)| belongs(path)).map(|(_, bytes)| bytes).sum();
        sum += bytes;
        println!("| {name}, MB per million requests | {:.1} |", bytes as f64 / records as f64);
    }
    println!("| **all, MB per million requests** | {:.1} |", sum as f64 / records as f64);
}

fn list(dir: &Path, files: &mut Vec<(String, u64)>) {
    for entry in std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry")) {
        if entry.path().is_dir() {
            list(&entry.path(), files);
        } else {
            files.push((entry.path().display().to_string(), entry.metadata().map_or(0, |data| data.len())));
        }
    }
}
