//! The end of a process: what `/ready` says, what still is served, what is cut, and when it is over. With real processes.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use perpetuo::simulator::Behaviour;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::process::{Furnished, hello, text};
use crate::support::within;

/// Streams that live at the same time.
pub const STREAMS: usize = 200;

/// A provider whose streams take four seconds, and that answers who wants one token in a tenth of one.
pub fn slow() -> Behaviour {
    Behaviour::new("openai").tokens(40).token_delay(Duration::from_millis(100)).remember(0)
}

fn one_token() -> Value {
    let mut body = hello("openai/gpt-4o");
    body["max_tokens"] = 1.into();
    body
}

fn a_stream() -> Value {
    let mut body = hello("openai/gpt-4o");
    body["stream"] = true.into();
    body
}

/// Applications that send one request after the other, each over connections of its own, and take nothing but success.
pub struct Load {
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    pub fn start(gateway: &Furnished) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let workers = (0..8).map(|number| {
            let (url, key) = (gateway.site.url("/v1/chat/completions"), gateway.key.clone());
            tokio::spawn(worker(number, url, key, Arc::clone(&stop)))
        });
        Self { workers: workers.collect(), stop }
    }

    /// Ends it, and gives the id of every request.
    pub async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for worker in self.workers {
            all.extend(worker.await.unwrap());
        }
        all
    }
}

/// Every fourth one speaks HTTP/2.
async fn worker(number: usize, url: String, key: String, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut client = reqwest::Client::builder();
    if number.is_multiple_of(4) {
        client = client.http2_prior_knowledge();
    }
    let client = client.build().unwrap();
    let mut ids = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let id = format!("load-{number}-{}", ids.len());
        let request = client.post(&url).bearer_auth(&key).header("x-request-id", &id).json(&one_token());
        let answer = request.send().await.unwrap_or_else(|error| panic!("{id}: {error:?}"));
        assert_eq!(answer.status(), 200, "{id}");
        assert!(answer.text().await.unwrap().contains("\"finish_reason\""), "{id}");
        ids.push(id);
    }
    ids
}

/// Streams that have all begun.
pub struct Streams(Vec<JoinHandle<String>>);

impl Streams {
    pub async fn begin(gateway: &Furnished) -> Self {
        Self::begin_named(gateway, "stream").await
    }

    pub async fn begin_named(gateway: &Furnished, name: &str) -> Self {
        let client = reqwest::Client::new();
        let (begun, mut all_begun) = mpsc::channel(STREAMS);
        let streams = (0..STREAMS).map(|number| {
            let request = client.post(gateway.site.url("/v1/chat/completions")).bearer_auth(&gateway.key);
            let id = format!("{name}-{number}");
            tokio::spawn(stream(id.clone(), request.header("x-request-id", id).json(&a_stream()), begun.clone()))
        });
        let streams = Self(streams.collect());
        for _ in 0..STREAMS {
            within("every stream to begin", all_begun.recv()).await.unwrap();
        }
        streams
    }

    /// Waits until the last one has ended as it should, and gives their ids.
    pub async fn end(self) -> Vec<String> {
        let mut ids = Vec::new();
        for stream in self.0 {
            ids.push(within("every stream to end", stream).await.unwrap());
        }
        ids
    }
}

async fn stream(id: String, request: reqwest::RequestBuilder, begun: mpsc::Sender<()>) -> String {
    let mut answer = request.send().await.unwrap_or_else(|error| panic!("{id}: {error:?}"));
    assert_eq!(answer.status(), 200, "{id}");
    let mut received = answer.chunk().await.unwrap().unwrap().to_vec();
    begun.send(()).await.unwrap();
    while let Some(chunk) = answer.chunk().await.unwrap_or_else(|error| panic!("{id} was cut: {error:?}")) {
        received.extend(chunk);
    }
    let received = text(&received);
    assert!(received.ends_with("data: [DONE]\n\n") && !received.contains("\"error\""), "{id}: {received}");
    id
}

/// The ledger has these requests, each once, and all of them succeeded.
pub async fn assert_booked_once(gateway: &Furnished, mut expected: Vec<String>) {
    let logs = gateway.logs().await;
    let mut booked: Vec<String> = logs.iter().map(|log| log["request_id"].as_str().unwrap().to_owned()).collect();
    assert!(logs.iter().all(|log| log["status"] == 200), "every request succeeded");
    booked.sort_unstable();
    expected.sort_unstable();
    let missing: Vec<_> = expected.iter().filter(|id| booked.binary_search(id).is_err()).collect();
    assert!(missing.is_empty(), "not in the ledger: {missing:?}");
    assert_eq!(booked, expected, "each is there once, and nothing else");
    let tokens: u64 = logs.iter().map(|log| log["tokens"].as_u64().unwrap()).sum();
    assert_eq!(gateway.usage().await["total_tokens"], tokens, "the sums are those of the records");
}

async fn ready(gateway: &Furnished) -> (u16, Value) {
    let answer = reqwest::get(gateway.site.url("/ready")).await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_says_that_it_is_and_the_health_command_says_the_same() {
    let mut gateway = Furnished::start(Behaviour::new("openai")).await;
    assert_eq!(ready(&gateway).await, (200, json!({"status": "ok"})));
    for arguments in [&["health"][..], &["health", "--live"]] {
        let said = gateway.site.run(arguments);
        assert!(said.status.success() && text(&said.stdout).contains("\"ok\""), "{}", text(&said.stderr));
    }
    gateway.process.kill_9();
    let said = gateway.site.run(&["health"]);
    assert!(!said.status.success() && said.stdout.is_empty(), "nobody is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_gateway_ends_though_connections_are_open() {
    for signal in ["TERM", "INT"] {
        let mut gateway = Furnished::start(Behaviour::new("openai")).await;
        // One that was used and is kept, and one that was never used, as load balancers make them in advance.
        let client = reqwest::Client::new();
        let answer = client.get(gateway.site.url("/health")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.bytes().await.unwrap();
        let _unused = TcpStream::connect(&gateway.site.address).unwrap();
        assert_eq!(gateway.site.chat(&gateway.key, hello("openai/gpt-4o")).await.unwrap().status(), 200);

        gateway.process.signal(signal);
        assert_eq!(gateway.process.exit().await.code(), Some(0), "SIG{signal}: {}", gateway.process.log.all());
        assert!(!gateway.site.data_dir().join("upgrade.sock").exists(), "it leaves no socket behind");
        gateway.process = gateway.site.serve().await;
        assert_eq!(gateway.logs().await.len(), 1, "SIG{signal}: the ledger was flushed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_its_grace_a_gateway_serves_everything_and_tells_balancers_to_turn_away() {
    let mut gateway = Furnished::start_server(slow(), "grace = \"1h\"").await;
    let client = reqwest::Client::new();
    let kept = client.get(gateway.site.url("/ready")).send().await.unwrap();
    assert_ne!(kept.headers()["connection"], "close");
    kept.bytes().await.unwrap();
    gateway.process.signal("TERM");
    gateway.process.log.wait_for("draining");
    let (status, answer) = ready(&gateway).await;
    assert_eq!((status, &answer["status"]), (503, &json!("draining")));
    assert!(answer["reason"].as_str().unwrap().contains("shutting down"), "{answer}");
    let said = gateway.site.run(&["health"]);
    assert!(!said.status.success() && text(&said.stderr).contains("draining"));
    assert!(gateway.site.run(&["health", "--live"]).status.success());

    let url = gateway.site.url("/v1/chat/completions");
    let answer = client.post(url).bearer_auth(&gateway.key).json(&one_token()).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["connection"].to_str().unwrap()), (200, "close"));
    answer.bytes().await.unwrap();

    gateway.process.signal("TERM");
    assert_eq!(gateway.process.exit().await.code(), Some(0), "a second signal ends the grace");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_cuts_no_stream_and_loses_no_request_of_who_heeds_ready() {
    let mut gateway = Furnished::start_server(slow(), "grace = \"500ms\"").await;
    let streams = Streams::begin(&gateway).await;
    let load = Load::start(&gateway);
    gateway.process.signal("TERM");
    gateway.process.log.wait_for("draining");
    assert_eq!(ready(&gateway).await.0, 503);
    let mut booked = load.end().await;
    booked.extend(streams.end().await);
    assert_eq!(gateway.process.exit().await.code(), Some(0), "{}", gateway.process.log.all());
    assert!(TcpStream::connect(&gateway.site.address).is_err());

    gateway.process = gateway.site.serve().await;
    assert_booked_once(&gateway, booked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_on_an_open_connection_while_it_drains_is_served() {
    let mut gateway = Furnished::start(slow()).await;
    let mut live = gateway.site.chat(&gateway.key, a_stream()).await.unwrap();
    live.chunk().await.unwrap().unwrap();
    let client = reqwest::Client::new();
    client.get(gateway.site.url("/health")).send().await.unwrap().bytes().await.unwrap();
    gateway.process.signal("TERM");
    within("the listener to close", async {
        while TcpStream::connect(&gateway.site.address).is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let url = gateway.site.url("/v1/chat/completions");
    let answer = client.post(url).bearer_auth(&gateway.key).json(&one_token()).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["connection"].to_str().unwrap()), (200, "close"));
    answer.bytes().await.unwrap();
    let mut received = Vec::new();
    while let Some(chunk) = live.chunk().await.unwrap() {
        received.extend(chunk);
    }
    assert!(text(&received).ends_with("data: [DONE]\n\n"));
    assert_eq!(gateway.process.exit().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_outlasts_the_drain_or_a_second_signal_ends_with_an_error_and_is_booked() {
    let endless = Behaviour::new("openai").tokens(10_000).token_delay(Duration::from_millis(20));
    for (drain, signals) in [("200ms", &["TERM"][..]), ("200ms", &["INT"]), ("1h", &["TERM", "INT"])] {
        let mut gateway = Furnished::start_server(endless.clone(), &format!("drain = \"{drain}\"")).await;
        let mut stream = gateway.site.chat(&gateway.key, a_stream()).await.unwrap();
        stream.chunk().await.unwrap().unwrap();
        for signal in signals {
            gateway.process.signal(signal);
            gateway.process.log.wait_for("draining");
        }
        let mut received = Vec::new();
        while let Ok(Some(chunk)) = stream.chunk().await {
            received.extend(chunk);
        }
        let received = text(&received);
        assert!(!received.contains("[DONE]") && received.contains("shutting down"), "{signals:?}: {received}");
        assert_eq!(gateway.process.exit().await.code(), Some(0), "{}", gateway.process.log.all());

        gateway.process = gateway.site.serve().await;
        let logs = gateway.logs().await;
        assert_eq!(logs.len(), 1, "{signals:?}: what reached a provider is on the bill");
        assert!(logs[0]["tokens"].as_u64().unwrap() > 0 && logs[0]["cost"].as_f64().unwrap() > 0.0, "{logs:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reloads_catalogue_and_token_secret_and_takes_nothing_of_what_is_half_bad() {
    let gateway = Furnished::start(Behaviour::new("openai")).await;
    let models = gateway.site.directory.path().join("models.toml");
    let secret = gateway.site.directory.path().join("jwt.secret");
    let configure = || {
        gateway.site.configure(&format!("[jwt]\nhs256_secret = \"file:{}\"\n", secret.display()));
        let text = std::fs::read_to_string(gateway.site.config()).unwrap();
        std::fs::write(gateway.site.config(), format!("models = {models:?}\n{text}")).unwrap();
    };
    let listed = async || {
        let url = gateway.site.url("/v1/models");
        let answer = reqwest::Client::new().get(url).bearer_auth(&gateway.key).send().await.unwrap();
        answer.text().await.unwrap().contains("\"my-own-model\"")
    };
    let known = async |token: &str| {
        let url = gateway.site.url("/workspaces");
        reqwest::Client::new().get(url).bearer_auth(token).send().await.unwrap().status() == 200
    };
    std::fs::write(&secret, "a secret of more than 32 bytes for signing tokens\n").unwrap();
    let model =
        "[[model]]\nname = \"my-own-model\"\nprovider = \"openai\"\nupstream = \"gpt-4o\"\ninput = 1.0\noutput = 2.0\n";

    std::fs::write(&models, "[[model]]\nname = \"my-own-model\"\nprovider = \"nobody\"\n").unwrap();
    configure();
    gateway.process.signal("HUP");
    gateway.process.log.wait_for("the old one stays");
    assert!(!listed().await && known(&gateway.token).await, "a bad catalogue keeps the old secret, too");

    std::fs::write(&models, model).unwrap();
    gateway.process.signal("HUP");
    gateway.process.log.wait_for("configuration reloaded");
    assert!(listed().await, "{}", gateway.process.log.all());
    assert!(!known(&gateway.token).await, "tokens of the old secret are refused");
    let minted = gateway.site.run(&["token"]);
    assert!(known(text(&minted.stdout).trim()).await, "tokens of the new one are taken");
}
