//! What single steps of a request cost: the look-up of a key, the plan, each dialect's translation in both directions, events, the
//! estimate of tokens, a booking.
//!
//! Run it with `cargo bench --bench micro`; a word after `--` keeps the rows whose name contains it. Not here: whole requests
//! (`tests/bench/run`), the choice of a candidate (`routing`), the disk (`ledger`).
#![allow(clippy::expect_used, reason = "a benchmark that can't start has nothing to say")]

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use divan::{Bencher, black_box};
use jiff::Timestamp;
use perpetuo::api::head::ChatHead;
use perpetuo::api::scan::Body;
use perpetuo::config::{Config, Secret};
use perpetuo::directory::{CredentialChange, Directory, NewKey, WorkspaceChange};
use perpetuo::provider::{AnswerContext, ChatCall, Endpoint, PROVIDERS, Provider, StreamOut, Target};
use perpetuo::proxy::Gateway;
use perpetuo::sse;
use perpetuo::store::memory::MemoryStore;
use perpetuo::usage::estimate_prompt;
use serde_json::Map;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// One provider of each dialect.
fn dialects() -> impl Iterator<Item = &'static str> {
    ["openai", "anthropic", "bedrock", "cohere", "gemini", "mistral", "ollama"].into_iter()
}

fn provider(name: &str) -> &'static Provider {
    PROVIDERS.iter().copied().find(|provider| provider.name == name).expect("a provider of this name")
}

fn request(bytes: usize) -> Bytes {
    let text = "The quick brown fox asks the lazy dog what it would have answered. ".repeat(bytes / 67 + 1);
    format!(
        r#"{{"model":"m","max_tokens":400,"temperature":0.7,"messages":[{{"role":"system","content":"Be short."}},{{"role":"user","content":"{text}"}}]}}"#
    )
    .into()
}

/// A gateway with many tenants, and the key of one of them.
static GATEWAY: LazyLock<(Arc<Gateway>, Secret)> = LazyLock::new(|| {
    let data = tempfile::tempdir().expect("a directory");
    let text = format!("data_dir = {:?}\n[metrics]\nenabled = false\n[log]\naccess = \"off\"\n", data.path());
    let config = Config::parse(&text, "bench", std::iter::empty()).expect("configuration");
    let gateway = Gateway::with_store(config, Arc::new(MemoryStore::new())).expect("a gateway");
    let key = furnish(&gateway.directory());
    (gateway, key)
});

fn furnish(directory: &Directory) -> Secret {
    let now = Timestamp::now();
    let mut key = None;
    for number in 0..1000 {
        let change = WorkspaceChange { name: Some(format!("tenant {number}")), ..WorkspaceChange::default() };
        let workspace = directory.create_workspace(change, now).expect("a workspace").id.clone();
        let credential = CredentialChange { api_key: Some(Secret::new("sk-bench")), ..CredentialChange::default() };
        directory.create_credential(&workspace, "openai", credential, now).expect("a credential");
        key = Some(directory.create_key(&workspace, NewKey::default(), now).expect("a key").1);
    }
    key.expect("a key")
}

#[divan::bench]
fn look_up_of_a_key(bencher: Bencher<'_, '_>) {
    let (gateway, key) = &*GATEWAY;
    let (directory, now) = (gateway.directory(), Timestamp::now());
    bencher.bench(|| directory.authenticate(black_box(key.expose()), now).is_some());
}

#[divan::bench(args = [1_000, 100_000, 1_000_000])]
fn scan_and_head(bencher: Bencher<'_, '_>, bytes: usize) {
    let body = request(bytes);
    bencher.bench(|| ChatHead::read(&Body::scan(black_box(&body).clone()).expect("JSON")).expect("a chat"));
}

#[divan::bench(args = [1_000, 1_000_000])]
fn estimate_of_tokens(bencher: Bencher<'_, '_>, bytes: usize) {
    let body = request(bytes);
    bencher.bench(|| estimate_prompt(black_box(&body)));
}

#[divan::bench(args = dialects())]
fn request_of_1_kb(bencher: Bencher<'_, '_>, name: &str) {
    let provider = provider(name);
    let endpoint = Endpoint::parse("https://127.0.0.1/v1").expect("an address");
    let key = Secret::new(r#"{"access_key_id":"a","secret_access_key":"b","region":"c"}"#);
    let mut options = Map::new();
    options.insert("region".to_owned(), "eu-west-3".into());
    let body = Body::scan(request(1_000)).expect("JSON");
    let head = ChatHead::read(&body).expect("a chat");
    let target =
        Target { provider, endpoint: &endpoint, key: &key, options: &options, model: "up", now: Timestamp::now() };
    bencher.bench(|| provider.dialect.chat(&ChatCall::new(black_box(&body), &head), &target).is_ok());
}

fn context(provider: &Provider) -> AnswerContext {
    AnswerContext {
        provider: provider.name,
        id: "chatcmpl-bench".to_owned(),
        created: 1_750_000_000,
        model: "m".to_owned(),
        include_usage: true,
        json_object: false,
    }
}

const OPENAI_ANSWER: &str = r#"{"id":"chatcmpl-bench","object":"chat.completion","created":1750000000,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"It was answered in due course, as it always is.","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":250,"completion_tokens":100,"total_tokens":350,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}"#;
const ANTHROPIC_ANSWER: &str = r#"{"id":"msg_bench","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"It was answered in due course, as it always is."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":250,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":100}}"#;
const GEMINI_ANSWER: &str = r#"{"candidates":[{"content":{"parts":[{"text":"It was answered in due course, as it always is."}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":250,"candidatesTokenCount":100,"totalTokenCount":350},"modelVersion":"m","responseId":"r"}"#;

#[divan::bench(args = [("openai", OPENAI_ANSWER), ("anthropic", ANTHROPIC_ANSWER), ("gemini", GEMINI_ANSWER)])]
fn whole_answer(bencher: Bencher<'_, '_>, (name, answer): (&str, &'static str)) {
    let provider = provider(name);
    let (body, context) = (Bytes::from_static(answer.as_bytes()), context(provider));
    bencher.bench(|| provider.dialect.answer(black_box(&body).clone(), &context).expect("an answer"));
}

/// A stream of a hundred deltas.
fn stream(name: &str) -> Vec<u8> {
    let openai = |delta: &str| {
        format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{{delta}}},\"logprobs\":null,\"finish_reason\":null}}],\"usage\":null}}\n\n"
        )
    };
    let anthropic = |kind: &str, rest: &str| format!("event: {kind}\ndata: {{\"type\":\"{kind}\",{rest}}}\n\n");
    let (first, delta): (String, Box<dyn Fn(usize) -> String>) = match name {
        "openai" => (
            openai("\"role\":\"assistant\",\"content\":\"\""),
            Box::new(move |n| openai(&format!("\"content\":\" word{n}\""))),
        ),
        _ => (
            anthropic(
                "message_start",
                r#""message":{"id":"m","model":"m","usage":{"input_tokens":1,"output_tokens":1}}"#,
            ) + &anthropic("content_block_start", r#""index":0,"content_block":{"type":"text","text":""}"#),
            Box::new(move |n| {
                let delta = format!("\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\" word{n}\"}}");
                anthropic("content_block_delta", &delta)
            }),
        ),
    };
    (first + &(0..100).map(delta).collect::<String>()).into_bytes()
}

/// Divide by a hundred for one event.
#[divan::bench(args = ["openai", "anthropic"])]
fn stream_of_100_events(bencher: Bencher<'_, '_>, name: &str) {
    let (provider, bytes) = (provider(name), stream(name));
    bencher.bench(|| {
        let (mut decoder, mut out) = (sse::Decoder::new(1 << 20), StreamOut::default());
        let mut translator = provider.dialect.stream(context(provider));
        decoder.push(black_box(&bytes));
        while let Some(event) = decoder.next_event().expect("events") {
            translator.event(&event, &mut out).expect("a chunk");
        }
        out.bytes.len()
    });
}
