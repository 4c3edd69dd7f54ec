//! Every recorded exchange with Azure OpenAI: sent to the recorded path, forwarded byte for byte, its usage and errors read.
//!
//! Not a place for recordings: they are read where they lie, beside the project, and their absence skips the tests.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{AZURE, Azure};
use crate::api::head::ChatHead;
use crate::api::scan::Body;
use crate::config::Secret;
use crate::error::ErrorKind;
use crate::frames::{Decoder, Framing};
use crate::provider::tests_support::{as_described, context, identity, with_details, with_moments};
use crate::provider::{AnswerContext, ChatCall, Dialect, End, Endpoint, StreamOut, Target};

/// The recordings of chats and embeddings, by id; none where the corpus is not at hand. Others are counted and named.
fn recordings() -> Vec<Value> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus/azure");
    let Ok(entries) = std::fs::read_dir(folder) else {
        println!("skipped: no corpus");
        return Vec::new();
    };
    let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
    let mut all = Vec::new();
    for entry in entries {
        let record: Value = serde_json::from_slice(&std::fs::read(entry.unwrap().path()).unwrap()).unwrap();
        match text(&record["endpoint"]) {
            "chat" | "embeddings" => all.push(record),
            other => *left_out.entry(format!("{other}: an API that is not spoken")).or_default() += 1,
        }
    }
    println!("left out: {left_out:?}");
    all.sort_by_key(|record| record["id"].to_string());
    all
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Prompt, cached, completion and reasoning tokens of OpenAI's usage object.
fn tokens(usage: &Value) -> [u64; 4] {
    [
        "/prompt_tokens",
        "/prompt_tokens_details/cached_tokens",
        "/completion_tokens",
        "/completion_tokens_details/reasoning_tokens",
    ]
    .map(|place| usage.pointer(place).and_then(Value::as_u64).unwrap_or(0))
}

fn counted(usage: Option<crate::usage::Usage>) -> [u64; 4] {
    let usage = usage.unwrap_or_default();
    [usage.prompt_tokens(), usage.cached_read, usage.output, usage.reasoning]
}

#[test]
fn every_recorded_request_goes_to_its_path_with_the_body_it_had() {
    let mut passed = 0;
    for record in recordings() {
        let recorded = text(&record["endpoint_url_path"]).trim_start_matches('/');
        let query = recorded.split_once("?api-version=");
        let options = Map::from_iter([("api_version".to_owned(), query.map_or("v1", |(_, version)| version).into())]);
        let model = match query {
            Some((path, _)) => path.split('/').nth(2).unwrap(),
            None => text(&record["request_body"]["model"]),
        };
        // Azure takes a body without a model; the gateway needs it to find Azure.
        let mut asked = record["request_body"].clone();
        asked["model"] = if asked["model"].is_null() { "alias".into() } else { asked["model"].clone() };
        let body = Body::scan(Bytes::from(asked.to_string())).unwrap();
        let endpoint = Endpoint::parse("https://resource.openai.azure.com").unwrap();
        let (key, now) = (Secret::new("key"), jiff::Timestamp::UNIX_EPOCH);
        let target = Target { provider: &AZURE, endpoint: &endpoint, key: &key, options: &options, model, now };
        let outgoing = if record["endpoint"] == "chat" {
            let head = ChatHead::read(&body).unwrap();
            Azure.chat(&ChatCall::new(&body, &head), &target).unwrap()
        } else {
            Azure.embeddings(&body, &target).unwrap()
        };
        assert_eq!(outgoing.path, format!("/{recorded}"), "{}", record["id"]);
        let mut expected = asked;
        expected["model"] = model.into();
        if expected["stream"] == true {
            expected["stream_options"] = json!({"include_usage": true});
        }
        assert_eq!(serde_json::from_slice::<Value>(&outgoing.body.whole()).unwrap(), expected, "{}", record["id"]);
        assert!(outgoing.warnings.is_empty());
        passed += 1;
    }
    println!("requests: {passed} passed");
}

#[test]
fn every_recorded_answer_is_forwarded_and_its_usage_read() {
    let (mut passed, mut blocked) = (0, 0);
    for record in recordings() {
        if record["response_status"] != 200 || !record["response_body"].is_object() {
            continue;
        }
        let mut right: Value = serde_json::from_str(&with_moments(&record["response_body"].to_string())).unwrap();
        let body = Bytes::from(right.to_string());
        let answer = match text(&record["endpoint"]) {
            "chat" => Azure.answer(body.clone(), &context("azure")),
            _ => Azure.embeddings_answer(body.clone(), &context("azure")),
        };
        let error = &record["response_body"]["error"];
        if !error.is_null() {
            let failed = answer.unwrap_err();
            assert_eq!((failed.kind(), failed.message()), (ErrorKind::ProviderError, text(&error["message"])));
            assert_eq!(failed.status(), error["status"]);
            blocked += 1;
            continue;
        }
        let answer = answer.unwrap();
        if record["endpoint"] == "chat" {
            let identity = identity(std::slice::from_ref(&right), "chat.completion", &context("azure"));
            as_described(&mut right, &identity);
            let [_, cached, _, reasoning] = tokens(&right["usage"]);
            with_details(&mut right["usage"], cached, reasoning);
        }
        assert_eq!(serde_json::from_slice::<Value>(&answer.body).unwrap(), right, "{}", record["id"]);
        assert_eq!(counted(answer.usage), tokens(&record["response_body"]["usage"]), "{}", record["id"]);
        passed += 1;
    }
    println!("whole answers: {passed} passed, {blocked} blocked");
}

/// The bytes of a recorded stream; where only its events were recorded, framed as Azure frames them.
fn stream_of(record: &Value) -> Option<String> {
    let framed = |events: &Vec<Value>| events.iter().map(|event| format!("data: {event}\n\n")).collect();
    let whole = record["response_text"].as_str().filter(|_| record["stream"] == true).map(str::to_owned);
    let stream: Option<String> = whole.or_else(|| record["response_events"].as_array().map(framed));
    stream.map(|stream| with_moments(&stream))
}

/// The chunks of a stream.
fn data_of(stream: &str) -> Vec<Value> {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// Sends a stream through the forwarder in pieces of pseudo-random length.
fn forward(stream: &str, include_usage: bool, random: &mut u64) -> (StreamOut, End) {
    let mut translator = Azure.stream(AnswerContext { include_usage, ..context("azure") });
    let mut decoder = Decoder::new(Framing::Sse, 1 << 20);
    let mut out = StreamOut::default();
    let mut rest = stream.as_bytes();
    while !rest.is_empty() {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        let (piece, tail) = rest.split_at((*random % 300 + 1).min(rest.len() as u64) as usize);
        rest = tail;
        decoder.push(piece);
        while let Some(event) = decoder.next_event().unwrap() {
            translator.event(&event, &mut out).unwrap();
            let first = out.bytes.len() == event.raw.len();
            assert!(!first || !out.content, "the first chunk, with or without choices, is no content");
        }
    }
    let end = translator.end(&mut out);
    (out, end)
}

#[test]
fn every_recorded_stream_is_forwarded_and_its_usage_read() {
    let (mut passed, mut uncounted, mut filtered) = (0, 0, 0);
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for record in recordings() {
        let Some(stream) = stream_of(&record) else { continue };
        let chunks = data_of(&stream);
        filtered += usize::from(chunks[0]["choices"] == json!([]) && !chunks[0]["prompt_filter_results"].is_null());
        let usage = chunks.iter().map(|chunk| &chunk["usage"]).find(|usage| !usage.is_null());
        uncounted += usize::from(usage.is_none());
        let (out, end) = forward(&stream, true, &mut random);
        let text = String::from_utf8(out.bytes).unwrap();
        let identity = identity(&chunks, "chat.completion.chunk", &context("azure"));
        let given = data_of(&text);
        assert_eq!(given.len(), chunks.len());
        for (given, mut right) in given.into_iter().zip(chunks.iter().cloned()) {
            as_described(&mut right, &identity);
            assert_eq!(given, right, "{}", record["id"]);
        }
        assert!(text.ends_with("data: [DONE]\n\n") && out.content && out.generated > 0 && end == End::Complete);
        assert_eq!(counted(out.usage), usage.map(tokens).unwrap_or_default(), "{}", record["id"]);
        let (out, _) = forward(&stream, false, &mut random);
        let quiet = String::from_utf8(out.bytes).unwrap();
        assert_eq!(quiet.matches("data: ").count(), text.matches("data: ").count() - usize::from(usage.is_some()));
        passed += 1;
    }
    println!("streams: {passed} passed, {filtered} open with filter results, {uncounted} have no usage");
}

#[test]
fn every_recorded_refusal_is_read() {
    let mut passed = 0;
    for record in recordings().into_iter().filter(|record| record["response_status"] != 200) {
        let error = &record["response_body"]["error"];
        let said = Azure.read_error(record["response_body"].to_string().as_bytes());
        assert_eq!(said.message.as_deref(), error["message"].as_str());
        assert_eq!(said.code.as_deref(), error["code"].as_str());
        assert_eq!(said.error_type.as_deref(), error["type"].as_str());
        passed += 1;
    }
    println!("errors: {passed} passed");
}
