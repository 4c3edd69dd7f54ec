//! The list of faults: what upstreams, clients and the machine can do to a gateway, by number, and what it does then.
//!
//! Each fault has one test or more that are named `fault_NN_…`, here or, where the subject has a file of its own, there. Their doc
//! comments are the table in `docs/faults.md`; `PERPETUO_WRITE_DOCS=1 cargo test --test it faults` writes it anew.

mod client;
mod http2;
mod state;
mod upstream_head;
mod upstream_http2;
mod upstream_names;
mod upstream_stream;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use perpetuo::config::Config;
use perpetuo::simulator::{Behaviour, Simulator};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::{Answer, Call, EventStream, Hand, PATIENCE, Scrape, World, free_address, hello_stream, within};

/// A model that both providers of a [`Stage`] serve.
const SHARED: &str = "gpt-4";
/// One that only the first serves.
const ALONE: &str = "gpt-4o";

/// A gateway over an upstream that the test plays, and a healthy one that comes after it.
struct Stage {
    world: World,
    hand: Hand,
    healthy: Simulator,
}

impl Stage {
    /// With little patience.
    async fn set() -> Self {
        let world = World::start(|config| {
            config.timeouts.first_token = Duration::from_millis(800);
            config.timeouts.idle = Duration::from_millis(400);
            measure(config);
        });
        Self::over(world.await).await
    }

    async fn over(world: World) -> Self {
        let hand = Hand::start().await;
        let healthy = Simulator::start(Behaviour::new("healthy")).await.unwrap();
        world.add_at("openai", &hand.url(), |_| ());
        world.add("groq", &healthy, |_| ());
        Self { world, hand, healthy }
    }

    /// Sends a request; its answer is to be awaited.
    fn ask(&self, body: Value) -> JoinHandle<Answer> {
        let request = self.world.chat_request(self.world.client());
        tokio::spawn(async move { Answer::of(request.json(&body)).await })
    }

    /// The answer when the upstream sends these bytes in reply and closes.
    async fn reply(&self, body: Value, bytes: impl AsRef<[u8]>) -> Answer {
        let asked = self.ask(body);
        let mut call = self.hand.request().await;
        call.try_send(bytes).await;
        drop(call);
        answered(asked).await
    }

    /// A stream that has begun: the client has read the text of these chunks, and the upstream may go on.
    async fn begun(&self, chunks: &[Value]) -> (EventStream, Call) {
        let request = self.world.chat_request(self.world.client()).json(&hello_stream(ALONE));
        let asked = tokio::spawn(EventStream::of(request));
        let mut call = self.hand.request().await;
        call.send_stream_head().await;
        call.send(events(chunks)).await;
        let mut stream = within("the head", asked).await.unwrap();
        assert_eq!(stream.first_text().await, "One");
        (stream, call)
    }

    /// The answer to a stream that only the first upstream serves, made of these bytes.
    async fn stream(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let bytes = [STREAM_HEAD.as_bytes(), bytes.as_ref()].concat();
        self.reply(hello_stream(ALONE), bytes).await
    }

    /// A request is served by the healthy one when the first replies with these bytes.
    async fn falls_over(&self, name: &str, body: Value, bytes: impl AsRef<[u8]>) {
        let answer = self.reply(body, bytes).await;
        served_by_the_healthy(&answer, name);
    }
}

/// Serves figures.
fn measure(config: &mut Config) {
    config.metrics.enabled = true;
    config.metrics.listen = free_address();
}

/// Waits until a figure, summed up over the series with these labels, has this value.
async fn counted(world: &World, metric: &str, labels: &[(&str, &str)], value: f64) {
    let (page, deadline) = (world.gateway.config().metrics.listen, Instant::now() + PATIENCE);
    loop {
        let page = Scrape::of(page).await;
        if page.sum(metric, labels) == value {
            return;
        }
        assert!(Instant::now() < deadline, "{metric} is not {value}: {:?}", page.by(metric, &["provider", "reason"]));
        // What is counted after an answer is counted when it is.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn answered(asked: JoinHandle<Answer>) -> Answer {
    within("the answer", asked).await.unwrap()
}

fn served_by_the_healthy(answer: &Answer, name: &str) {
    let text = answer.text();
    assert_eq!((answer.status, answer.provider(), answer.attempts()), (200, "groq", 2), "{name}: {text}");
    assert!(text.contains("healthy") && !text.contains("\"error\""), "{name}: {text}");
}

const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

/// A whole answer of OpenAI's.
const ANSWER: &str = r#"{"id":"1","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hi","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}}}"#;

fn chunk(delta: &Value, finish: Option<&str>) -> Value {
    json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": ALONE,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
}

fn role() -> Value {
    chunk(&json!({"role": "assistant", "content": ""}), None)
}

fn text(text: &str) -> Value {
    chunk(&json!({"content": text}), None)
}

fn stop() -> Value {
    chunk(&json!({}), Some("stop"))
}

/// The last chunk, which holds the usage alone.
fn usage(usage: &Value) -> Value {
    json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": ALONE, "choices": [],
        "usage": usage})
}

fn event(data: impl std::fmt::Display) -> String {
    format!("data: {data}\n\n")
}

fn events(chunks: &[Value]) -> String {
    chunks.iter().map(event).collect()
}

const DONE: &str = "data: [DONE]\n\n";

/// The error at the end of a stream that broke: before it the text that came, no finish that nobody sent, no `[DONE]`.
fn broken(answer: &Answer, told: &str) -> Value {
    let events = answer.events();
    assert_eq!(crate::support::said(&events), told, "{events:?}");
    assert!(!answer.text().contains("[DONE]") && !answer.text().contains("\"finish_reason\":\"stop\""), "{events:?}");
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert!(last["error"].is_object(), "{events:?}");
    assert!(answer.whole, "HTTP itself ends as it should");
    last["error"].clone()
}

/// A test of a fault, as its source shows it.
struct Listed {
    /// What its doc comment says.
    says: String,
    name: String,
    /// Why it does not run, where it does not.
    ignored: Option<String>,
    file: String,
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Every test of a fault, by its number.
fn listed() -> BTreeMap<u32, Vec<Listed>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    walk(&root.join("tests/it"), &mut files);
    walk(&root.join("src"), &mut files);
    files.sort();
    let mut found = BTreeMap::<u32, Vec<Listed>>::new();
    for path in files {
        let file = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let source = std::fs::read_to_string(&path).unwrap();
        let (mut says, mut ignored) = (Vec::new(), None);
        for line in source.lines().map(str::trim) {
            if let Some(comment) = line.strip_prefix("///") {
                says.push(comment.trim().to_owned());
            } else if let Some(why) = line.strip_prefix("#[ignore = \"") {
                ignored = Some(why.trim_end_matches("\"]").to_owned());
            } else if !line.starts_with("#[") {
                let name =
                    line.trim_start_matches("async ").strip_prefix("fn ").and_then(|rest| rest.split('(').next());
                if let Some(number) = name.and_then(|name| name.strip_prefix("fault_")?.get(..2)?.parse().ok()) {
                    let (says, ignored) = (says.join(" "), ignored.take());
                    let name = name.unwrap().to_owned();
                    found.entry(number).or_default().push(Listed { says, name, ignored, file: file.clone() });
                }
                says.clear();
                ignored = None;
            }
        }
    }
    found
}

const INTRODUCTION: &str = "# Faults, and what the gateway does then\n\n\
Each of these is a test against a running gateway, over real sockets; few are tests of the part that decides.\n\
This page is made from the tests' names and comments: `PERPETUO_WRITE_DOCS=1 cargo test --test it faults` writes it anew.\n";

/// What each block of numbers is about.
const BLOCKS: [(u32, &str); 4] = [
    (1, "What a provider's stream holds"),
    (25, "The head of a provider's answer, and its connection"),
    (45, "Clients"),
    (71, "State, operation, upgrades"),
];

fn page(listed: &BTreeMap<u32, Vec<Listed>>) -> String {
    let mut page = INTRODUCTION.to_owned();
    for (number, tests) in listed {
        if let Some((_, title)) = BLOCKS.iter().find(|(first, _)| first == number) {
            write!(page, "\n## {title}\n\n| | what happens | test |\n| --- | --- | --- |\n").unwrap();
        }
        for Listed { says, name, ignored, file } in tests {
            let says = says.replace('|', "\\|");
            let note = ignored.as_ref().map(|why| format!(" *Not tested: {why}.*")).unwrap_or_default();
            let short = name.get(9..).unwrap_or_default();
            writeln!(page, "| {number} | {says}{note} | `{short}` in `{file}` |").unwrap();
        }
    }
    page
}

#[test]
fn the_page_of_faults_is_current_and_leaves_none_out() {
    let listed = listed();
    let missing: Vec<u32> = (1..=82).filter(|number| !listed.contains_key(number)).collect();
    assert!(missing.is_empty(), "no test for the faults {missing:?}");
    let silent: Vec<&str> =
        listed.values().flatten().filter(|test| test.says.is_empty()).map(|test| &*test.name).collect();
    assert!(silent.is_empty(), "tests that do not say what happens: {silent:?}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/faults.md");
    let page = page(&listed);
    if std::env::var_os("PERPETUO_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), page, "PERPETUO_WRITE_DOCS=1 writes it anew");
}
