//! What the gateway adds to a request: the same calls straight to a simulated provider and through the gateway, interleaved in
//! one run, over kept-alive connections, with authentication, routing, metrics and the ledger on.
//!
//! Then what the ledger's share of it is: the same call through gateways that differ in nothing but where bookings go.
//!
//! Run it with `cargo bench --bench overhead`. Client, gateway and provider share this machine, so the figures are upper bounds;
//! compare the columns of one run, not runs.
#![expect(clippy::print_stdout, reason = "the table is the result")]
#![expect(clippy::expect_used, reason = "a benchmark that can't start has nothing to say")]

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use perpetuo::config::{Config, Secret};
use perpetuo::directory::{CredentialChange, NewKey, WorkspaceChange};
use perpetuo::error::Result;
use perpetuo::proxy::{self, Gateway, Listeners, Signals};
use perpetuo::simulator::{Behaviour, Simulator};
use perpetuo::store::memory::MemoryStore;
use perpetuo::store::{
    Booking, By, CredentialRecord, DayRange, Keep, KeyRecord, LogPage, LogQuery, RequestRecord, Rollup, SeriesQuery,
    Spent, Store, Tenancy, WorkspaceRecord,
};
use tempfile::TempDir;
use tokio::sync::Notify;

/// Alternations of direct and through the gateway.
const ROUNDS: usize = 5;
/// Alternations of the gateways that differ in their ledger.
const LEDGER_ROUNDS: usize = 10;
/// Callers at once, where there are many.
const CALLERS: usize = 32;

/// One row of the table.
struct Row {
    name: &'static str,
    provider: &'static str,
    path: &'static str,
    body: String,
    requests: usize,
}

/// Where the calls of a row go.
#[derive(Clone)]
struct Way {
    url: String,
    headers: Vec<(&'static str, String)>,
}

#[tokio::main]
async fn main() {
    let provider = Simulator::start(Behaviour::new("bench").remember(0).tokens(100)).await.expect("provider");
    let client = reqwest::Client::builder().http1_only().build().expect("client");
    let running = Running::start(&client, &provider, Books::Batch).await;
    println!("| work | direct p50 | through p50 | added p50 | added p99 |\n| --- | --- | --- | --- | --- |");
    for row in rows() {
        let direct = Way { url: format!("{}{}", provider.url(), row.path), headers: direct_headers(row.provider) };
        measure(&client, &row, &direct, &running.way()).await;
    }
    running.stop().await;
    ledger(&client, &provider).await;
}

/// Where bookings go.
#[derive(Clone, Copy, Debug)]
enum Books {
    /// Nowhere.
    Null,
    /// To the disk, together with others, while answers go out.
    Batch,
    /// To the disk before the answer ends.
    Sync,
}

/// Takes bookings and forgets them; everything else is in memory.
struct NullStore(MemoryStore);

/// A gateway in a thread of its own.
struct Running {
    address: SocketAddr,
    key: String,
    stop: Arc<Notify>,
    server: JoinHandle<()>,
    _data: TempDir,
}

impl Running {
    async fn start(client: &reqwest::Client, provider: &Simulator, books: Books) -> Self {
        let data = tempfile::tempdir().expect("data directory");
        let address = free_address();
        let config = config(address, data.path(), books);
        let gateway = match books {
            Books::Null => Gateway::with_store(config, Arc::new(NullStore(MemoryStore::new()))),
            Books::Batch | Books::Sync => Gateway::open(config),
        }
        .expect("gateway");
        let key = furnish(&gateway, provider);
        let stop = Arc::new(Notify::new());
        let server = std::thread::spawn({
            let stop = Stop(Arc::clone(&stop));
            move || {
                let listeners = Arc::new(Listeners::bind(&gateway.config()).expect("an address"));
                proxy::serve(&gateway, &listeners, stop).expect("a server");
            }
        });
        until_up(client, address).await;
        Self { address, key, stop, server, _data: data }
    }

    fn way(&self) -> Way {
        Way {
            url: format!("http://{}/v1/chat/completions", self.address),
            headers: vec![("authorization", format!("Bearer {}", self.key))],
        }
    }

    async fn stop(self) {
        self.stop.notify_one();
        let _ = tokio::task::spawn_blocking(move || self.server.join()).await;
    }
}

/// The ledger's share: three gateways in turns, one caller and many.
async fn ledger(client: &reqwest::Client, provider: &Simulator) {
    let mut gateways = Vec::new();
    for books in [Books::Null, Books::Batch, Books::Sync] {
        gateways.push((books, Running::start(client, provider, books).await));
    }
    let row = rows().remove(0);
    println!(
        "\n| bookings go | callers | p50 | p99 | p50 / null | p99 / null |\n| --- | --- | --- | --- | --- | --- |"
    );
    for callers in [1, CALLERS] {
        let mut times = vec![Vec::new(); gateways.len()];
        for round in 0..=LEDGER_ROUNDS {
            for ((_, gateway), times) in gateways.iter().zip(&mut times) {
                let taken = together(client, &gateway.way(), &row, callers).await;
                if round > 0 {
                    times.extend(taken);
                }
            }
        }
        let quantiles = times.iter_mut().map(|times| (quantile(times, 0.5), quantile(times, 0.99)));
        let quantiles: Vec<_> = quantiles.collect();
        let null = *quantiles.first().expect("the null store");
        for ((books, _), (p50, p99)) in gateways.iter().zip(&quantiles) {
            let ratio = |one: &Duration, other: Duration| one.as_secs_f64() / other.as_secs_f64();
            println!(
                "| {books:?} | {callers} | {} µs | {} µs | {:.2} | {:.2} |",
                p50.as_micros(),
                p99.as_micros(),
                ratio(p50, null.0),
                ratio(p99, null.1)
            );
        }
    }
    for (_, gateway) in gateways {
        gateway.stop().await;
    }
}

/// So many callers at once, a round's requests in all.
async fn together(client: &reqwest::Client, way: &Way, row: &Row, callers: usize) -> Vec<Duration> {
    let each = (row.requests / callers).max(1);
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let (client, way, body) = (client.clone(), way.clone(), row.body.clone());
        running.spawn(async move { calls(&client, &way, &body, each).await });
    }
    running.join_all().await.concat()
}

impl Store for NullStore {
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
    fn append(&self, _: &[Booking]) -> Result<()> {
        Ok(())
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
        true
    }
}

async fn measure(client: &reqwest::Client, row: &Row, direct: &Way, through: &Way) {
    let (mut there, mut here) = (Vec::new(), Vec::new());
    let upstream_body = row.body.replace(&format!("{}/", row.provider), "");
    for round in 0..=ROUNDS {
        let first = calls(client, direct, &upstream_body, row.requests).await;
        let second = calls(client, through, &row.body, row.requests).await;
        // The first round warms connections and caches up.
        if round > 0 {
            there.extend(first);
            here.extend(second);
        }
    }
    let (d50, d99) = (quantile(&mut there, 0.5), quantile(&mut there, 0.99));
    let (t50, t99) = (quantile(&mut here, 0.5), quantile(&mut here, 0.99));
    let us = |duration: Duration| format!("{} µs", duration.as_micros());
    let added = |with: Duration, without: Duration| us(with.saturating_sub(without));
    println!("| {} | {} | {} | {} | {} |", row.name, us(d50), us(t50), added(t50, d50), added(t99, d99));
}

async fn calls(client: &reqwest::Client, way: &Way, body: &str, requests: usize) -> Vec<Duration> {
    let mut times = Vec::with_capacity(requests);
    for _ in 0..requests {
        let mut request = client.post(&way.url).header("content-type", "application/json").body(body.to_owned());
        for (name, value) in &way.headers {
            request = request.header(*name, value);
        }
        let started = Instant::now();
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "a benchmark over errors measures nothing");
        answer.bytes().await.expect("a whole answer");
        times.push(started.elapsed());
    }
    times
}

fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort();
    let place = (times.len() as f64 * share) as usize;
    times.get(place.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn rows() -> Vec<Row> {
    let chat = |model: &str, size: usize, stream: bool| {
        let text = "x".repeat(size);
        // Anthropic demands `max_tokens`; OpenAI takes it too, so one body serves both.
        format!(
            r#"{{"model":"{model}","max_tokens":100,"stream":{stream},"messages":[{{"role":"user","content":"{text}"}}]}}"#
        )
    };
    let row = |name, provider, path, body, requests| Row { name, provider, path, body, requests };
    let (openai, anthropic) = ("/v1/chat/completions", "/v1/messages");
    vec![
        row("OpenAI → OpenAI, 1 KB, JSON", "openai", openai, chat("openai/m", 1000, false), 400),
        row("OpenAI → Anthropic and back, 1 KB, JSON", "anthropic", anthropic, chat("anthropic/m", 1000, false), 400),
        row("OpenAI → OpenAI, 1 MB, JSON", "openai", openai, chat("openai/m", 1_000_000, false), 60),
        row("a stream of 100 tokens, same dialect", "openai", openai, chat("openai/m", 1000, true), 100),
        row("a stream of 100 tokens, translated", "anthropic", anthropic, chat("anthropic/m", 1000, true), 100),
    ]
}

fn direct_headers(provider: &str) -> Vec<(&'static str, String)> {
    match provider {
        "anthropic" => vec![("x-api-key", "key".to_owned()), ("anthropic-version", "2023-06-01".to_owned())],
        _ => vec![("authorization", "Bearer key".to_owned())],
    }
}

fn config(address: SocketAddr, data: &std::path::Path, books: Books) -> Config {
    let durability = if matches!(books, Books::Sync) { "sync" } else { "batch" };
    let text = format!(
        "data_dir = {data:?}\n[meter]\ndurability = \"{durability}\"\n[server]\nlisten = \"{address}\"\n[metrics]\nenabled = false\n[security]\nallow_private_upstreams = [\"127.0.0.1\"]\n[log]\naccess = \"off\"\n"
    );
    Config::parse(&text, "bench", std::iter::empty()).expect("configuration")
}

fn furnish(gateway: &Gateway, provider: &Simulator) -> String {
    let (directory, now) = (gateway.directory(), Timestamp::now());
    let workspace = WorkspaceChange { name: Some("bench".to_owned()), ..WorkspaceChange::default() };
    let workspace = directory.create_workspace(workspace, now).expect("workspace").id.clone();
    for (name, base_url) in [("openai", format!("{}/v1", provider.url())), ("anthropic", provider.url())] {
        let change = CredentialChange {
            api_key: Some(Secret::new("a-simulated-key")),
            base_url: Some(Some(base_url)),
            ..CredentialChange::default()
        };
        directory.create_credential(&workspace, name, change, now).expect("credential");
    }
    let (_, key) = directory.create_key(&workspace, NewKey::default(), now).expect("key");
    key.expose().to_owned()
}

fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
}

async fn until_up(client: &reqwest::Client, address: SocketAddr) {
    while client.get(format!("http://{address}/health")).send().await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

struct Stop(Arc<Notify>);

#[async_trait]
impl Signals for Stop {
    async fn stop(&self) -> bool {
        self.0.notified().await;
        false
    }
}
