//! Request translation: any body for any provider. An error that names what it blames, or a request in the provider's own JSON that
//! loses no text of a message in silence.
//!
//! The input: which provider, which model, and the body.
#![no_main]

use bytes::Bytes;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use perpetuo::api::head::ChatHead;
use perpetuo::api::scan::Body;
use perpetuo::api::{chat::ChatRequest, embeddings};
use perpetuo::config::Secret;
use perpetuo::provider::{ChatCall, Endpoint, Outgoing, PROVIDERS, Target};
use perpetuo_fuzz::texts;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// Models of which dialects know rules of their own.
const MODELS: [&str; 8] = [
    "gpt-4o",
    "o3",
    "gpt-5",
    "claude-sonnet-4-5",
    "gemini-2.5-flash",
    "anthropic.claude-3-5-sonnet-20241022-v2:0",
    "amazon.nova-pro-v1:0",
    "mistral-large-latest",
];
/// What begins a text that must not be lost.
const NEEDLE: &str = "needle";

fuzz_target!(|input: &[u8]| {
    let Some(([which, model], bytes)) = input.split_first_chunk() else { return };
    let provider = PROVIDERS[usize::from(*which) % PROVIDERS.len()];
    let model = MODELS[usize::from(*model) % MODELS.len()];
    let Ok(body) = Body::scan(Bytes::copy_from_slice(bytes)) else { return };
    // Its grammar is checked by code of ours, which must not take more than a parser does.
    serde_json::from_slice::<&RawValue>(bytes).expect("a scanned body is JSON");
    // Numbers that no 64 bits hold go on as they were written, and can't be looked at here.
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
    let base_url = if provider.base_url.is_empty() { "https://x.example" } else { provider.base_url };
    let (endpoint, key) = (Endpoint::parse(base_url).expect("a base URL"), Secret::new("key"));
    let options = Map::from_iter([("project".to_owned(), json!("p"))]);
    let target =
        Target { provider, endpoint: &endpoint, key: &key, options: &options, model, now: Timestamp::UNIX_EPOCH };
    if embeddings::check(&body).is_ok()
        && let Ok(outgoing) = provider.dialect.embeddings(&body, &target)
    {
        native(&outgoing);
    }
    let Ok(head) = ChatHead::read(&body) else { return };
    if let Ok(outgoing) = provider.dialect.chat(&ChatCall::new(&body, &head), &target) {
        let native = native(&outgoing);
        if ChatRequest::parse(&body).is_ok() {
            nothing_lost(&value, &native, &outgoing.warnings, provider.name);
        }
    }
});

fn native(outgoing: &Outgoing) -> Value {
    assert!(outgoing.path.starts_with('/') && !outgoing.path.contains(char::is_whitespace), "{}", outgoing.path);
    serde_json::from_slice(&outgoing.body.whole()).expect("a request is JSON")
}

/// Texts of users and of the assistant, where they stand as OpenAI has them.
fn nothing_lost(body: &Value, native: &Value, warnings: &[String], provider: &str) {
    let mut found = Vec::new();
    texts(native, &mut found);
    for (place, message) in body["messages"].as_array().into_iter().flatten().enumerate() {
        let Some(said) = message["content"].as_str().filter(|text| text.starts_with(NEEDLE)) else { continue };
        let named = warnings.iter().any(|warning| warning.starts_with(&format!("messages[{place}]")));
        let is_there = || found.iter().any(|text| text.contains(said.trim()));
        if matches!(message["role"].as_str(), Some("user" | "assistant" | "system" | "developer")) {
            assert!(named || is_there(), "{provider} lost {said:?}: {native}, named: {warnings:?}");
        }
    }
}
