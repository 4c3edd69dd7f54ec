//! Hours of the release binary under mixed traffic with faults; at the end it must stand as it began.
//!
//! The clients and providers are those of `reconcile`, paced; beside them come callers that no gateway wants (`trouble`), an
//! administrator who makes and deletes (`churn`), and an operator who reloads and rotates. `tests/soak/run` starts it; this test is
//! left out otherwise. What is measured is in `sample`, what must hold in `verdict`.
//!
//! `PERPETUO_BIN`, `PERPETUO_SOAK_MINUTES`, `PERPETUO_SOAK_RATE` (requests a second), `PERPETUO_SOAK_OUT`, `PERPETUO_SEED`.

mod churn;
mod desk;
mod sample;
mod trouble;
mod verdict;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::Client;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use self::desk::{Desk, KEYS, Tenant, WORKSPACES};
use self::sample::{Sample, Sampler};
use self::verdict::{Outcome, Verdict};
use crate::process::{Process, Site};
use crate::reconcile::dice::Dice;
use crate::reconcile::provider::Provider;
use crate::reconcile::traffic::{Case, Seen};
use crate::reconcile::wire::Wire;
use crate::support::{Scrape, client, hello};

/// Cases under way at once, at most.
const CONCURRENCY: usize = 256;
/// How long the gateway may take to let go of what was under way.
const REST: Duration = Duration::from_secs(120);

/// What a run is told.
struct Settings {
    length: Duration,
    rate: f64,
    seed: u64,
    out: PathBuf,
    program: PathBuf,
}

impl Settings {
    fn read() -> Self {
        let text = |name: &str| std::env::var(name).ok();
        let number = |name: &str, usual: f64| text(name).map_or(usual, |text| text.parse().unwrap());
        let minutes = number("PERPETUO_SOAK_MINUTES", 60.0);
        Self {
            length: Duration::from_secs_f64(minutes * 60.0),
            rate: number("PERPETUO_SOAK_RATE", 100.0),
            seed: number("PERPETUO_SEED", 20_261_126.0) as u64,
            out: text("PERPETUO_SOAK_OUT").unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").to_owned() + "/soak").into(),
            program: text("PERPETUO_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_perpetuo").to_owned()).into(),
        }
    }
}

/// What every part of the run looks at.
struct Stage {
    site: Site,
    process: Process,
    desk: Desk,
    until: Instant,
    seed: u64,
    /// What is against expectation, as it happens.
    odd: std::sync::Mutex<Vec<String>>,
    reloads: AtomicU64,
    refusals: AtomicU64,
}

impl Stage {
    fn odd(&self, what: String) {
        self.odd.lock().unwrap().push(what);
    }

    fn over(&self) -> bool {
        Instant::now() >= self.until
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "an hour of the release binary: tests/soak/run"]
async fn it_stands_as_it_began() {
    let settings = Settings::read();
    println!(
        "{:?} at {} requests a second, seed {}: {:?}",
        settings.length, settings.rate, settings.seed, settings.program
    );
    let providers = [
        Provider::start("openai", Wire::OpenAi, settings.seed).await,
        Provider::start("anthropic", Wire::Anthropic, settings.seed).await,
        Provider::start("gemini", Wire::Gemini, settings.seed).await,
    ];
    let site = desk::site();
    let process =
        Process::start(Command::new(&settings.program).env_clear().arg("serve").arg("--config").arg(site.config()));
    process.until_healthy(&site.address).await;
    let desk = Desk::furnish(&site, process.printed("admin token"), &providers).await;
    // What a first request brings about belongs to the start.
    let first = site.chat(&desk.noise.keys[0], hello("no-such-model")).await.unwrap();
    assert_eq!(first.status(), 404);
    let sampler = Sampler::new(process.id(), &site);
    let start = rested(&sampler, None).await;
    let stage = Arc::new(Stage {
        site,
        process,
        desk,
        until: Instant::now() + settings.length,
        seed: settings.seed,
        odd: std::sync::Mutex::default(),
        reloads: AtomicU64::new(0),
        refusals: AtomicU64::new(0),
    });

    let beside = JoinSet::from_iter([
        tokio::spawn(trouble::cause(Arc::clone(&stage))),
        tokio::spawn(churn::go(Arc::clone(&stage))),
        tokio::spawn(operate(Arc::clone(&stage))),
    ]);
    let samples = tokio::spawn(sampler.clone().watch(settings.length));
    let seen = play(&stage, settings.rate).await;
    for ended in beside.join_all().await {
        ended.unwrap();
    }
    let samples = samples.await.unwrap();
    quiet(&stage).await;
    let books: Vec<_> = providers.iter().flat_map(Provider::books).collect();
    drop(providers);
    let end = rested(&sampler, Some(&start)).await;

    let verdict = Verdict::of(&stage, Outcome { samples, start, end, seen, books }).await;
    let text = verdict.write(&settings.out);
    println!("\n{text}\nin {}", settings.out.display());
    assert!(verdict.holds(), "see the table");
}

/// A sample of the gateway at rest: as soon as it holds no more than at its start, else when patience ends.
async fn rested(sampler: &Sampler, start: Option<&Sample>) -> Sample {
    let patience = Instant::now() + if start.is_some() { REST } else { Duration::from_secs(3) };
    loop {
        // Nothing tells when connections are gone and when their tasks have ended.
        sleep(Duration::from_secs(1)).await;
        let sample = sampler.take().await;
        if Instant::now() > patience || start.is_some_and(|start| sample.rests_like(start)) {
            return sample;
        }
    }
}

/// Sends cases at an even pace until the time is over, and awaits them all.
async fn play(stage: &Arc<Stage>, rate: f64) -> Vec<Seen> {
    let clients = [false, true].map(client);
    let mut tick = interval(Duration::from_secs_f64(1.0 / rate));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut running, mut seen) = (JoinSet::new(), Vec::new());
    for number in 0.. {
        tick.tick().await;
        if stage.over() {
            break;
        }
        while let Some(ended) = running.try_join_next() {
            seen.push(ended.unwrap());
        }
        if running.len() >= CONCURRENCY {
            seen.push(running.join_next().await.unwrap().unwrap());
        }
        running.spawn(one(Arc::clone(stage), clients.clone(), number));
    }
    seen.extend(running.join_all().await);
    seen
}

/// One case: some with a large body, some read slowly, some over a connection of their own.
async fn one(stage: Arc<Stage>, clients: [Client; 2], number: u64) -> Seen {
    let mut case = Case::draw(stage.seed, number, WORKSPACES, KEYS.len());
    let mut dice = Dice::of(stage.seed, &[number, 1]);
    if dice.permille(5) {
        case = case.of_letters(usize::try_from(dice.between(100_000, 3_000_000)).unwrap());
    }
    if dice.permille(20) {
        case = case.read_at(dice.millis(5, 60));
    }
    let client = if dice.permille(50) { client(case.http2) } else { clients[usize::from(case.http2)].clone() };
    let key = stage.desk.tenants[case.workspace].keys[case.key].clone();
    let (stays, what) = (case.stays(), format!("{case:?}"));
    let seen = case.ask(client, stage.site.url(""), key).await;
    if stays && !(seen.whole || seen.broken) {
        stage.odd(format!("an answer without an end: {seen:?} of {what}"));
    }
    seen
}

/// Reloads, now and then a configuration that must be refused; puts the access log away first, as logrotate does.
async fn operate(stage: Arc<Stage>) {
    for round in 0_u64.. {
        sleep(Duration::from_secs(10)).await;
        if stage.over() {
            break;
        }
        if round % 4 == 3 {
            stage.site.configure("[retry]\nmax_attempts = 99\n");
            stage.refusals.fetch_add(1, Ordering::Relaxed);
        } else {
            desk::configure(&stage.site, round);
            stage.reloads.fetch_add(1, Ordering::Relaxed);
        }
        let _ = std::fs::remove_file(desk::access_log(&stage.site));
        stage.process.signal("HUP");
    }
}

/// Waits until nothing is under way and everything is on disk.
async fn quiet(stage: &Stage) {
    let patience = Instant::now() + REST;
    let mut before = None;
    while Instant::now() < patience {
        let scraped = Scrape::of(stage.site.metrics.parse().unwrap()).await;
        let names = ["perpetuo_inflight_requests", "perpetuo_ledger_lag_seconds", "perpetuo_requests_total"];
        let [running, lag, booked] = names.map(|name| scraped.sum(name, &[]));
        if running + lag == 0.0 && before == Some(booked) {
            return;
        }
        before = (running + lag == 0.0).then_some(booked);
        // What a client sent before it left may still be read.
        sleep(Duration::from_millis(500)).await;
    }
    stage.odd("it never came to rest".to_owned());
}
