//! What the gateway adds to a request: the same calls straight to a simulated provider and through the gateway, interleaved in
//! one run, over kept-alive connections, with authentication, routing, metrics and the ledger on.
//!
//! Run it with `cargo bench --bench overhead`. Client, gateway and provider share this machine, so the figures are upper bounds;
//! compare the columns of one run, not runs.
#![expect(clippy::print_stdout, reason = "the table is the result")]
#![expect(clippy::expect_used, reason = "a benchmark that can't start has nothing to say")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use perpetuo::config::{Config, Secret};
use perpetuo::directory::{CredentialChange, NewKey, WorkspaceChange};
use perpetuo::proxy::{self, Gateway, Listeners, Signals};
use perpetuo::simulator::{Behaviour, Simulator};
use tokio::sync::Notify;

/// Alternations of direct and through the gateway.
const ROUNDS: usize = 5;

/// One row of the table.
struct Row {
    name: &'static str,
    provider: &'static str,
    path: &'static str,
    body: String,
    requests: usize,
}

/// Where the calls of a row go.
struct Way {
    url: String,
    headers: Vec<(&'static str, String)>,
}

#[tokio::main]
async fn main() {
    let provider = Simulator::start(Behaviour::new("bench").remember(0).tokens(100)).await.expect("provider");
    let data = tempfile::tempdir().expect("data directory");
    let address = free_address();
    let gateway = Gateway::open(config(address, data.path())).expect("gateway");
    let key = furnish(&gateway, &provider);
    let stop = Arc::new(Notify::new());
    let server = std::thread::spawn({
        let (gateway, stop) = (Arc::clone(&gateway), Stop(Arc::clone(&stop)));
        move || {
            let listeners = Arc::new(Listeners::bind(&gateway.config()).unwrap());
            proxy::serve(&gateway, &listeners, stop).unwrap();
        }
    });
    let client = reqwest::Client::builder().http1_only().build().expect("client");
    until_up(&client, address).await;
    println!("| work | direct p50 | through p50 | added p50 | added p99 |\n| --- | --- | --- | --- | --- |");
    for row in rows() {
        let direct = Way { url: format!("{}{}", provider.url(), row.path), headers: direct_headers(row.provider) };
        let through = Way {
            url: format!("http://{address}/v1/chat/completions"),
            headers: vec![("authorization", format!("Bearer {key}"))],
        };
        measure(&client, &row, &direct, &through).await;
    }
    stop.notify_one();
    let _ = tokio::task::spawn_blocking(move || server.join()).await;
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

fn config(address: SocketAddr, data: &std::path::Path) -> Config {
    let text = format!(
        "data_dir = {data:?}\n[server]\nlisten = \"{address}\"\n[metrics]\nenabled = false\n[security]\nallow_private_upstreams = [\"127.0.0.1\"]\n[log]\naccess = \"off\"\n"
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
