//! Every recorded chat and embeddings exchange in OpenAI's dialect, sent through the forwarder in random pieces and compared with
//! a reading that shares no code with it: the bytes are the same, except for the edits that `choice` and `stream` document.
//!
//! Not a place for recordings: they are read where they lie, beside the project, and their absence skips the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Map, Value, json};

use super::OPENAI;
use super::compatible as row;
use crate::api::answer::WireUsage;
use crate::api::head::ChatHead;
use crate::api::scan::Body;
use crate::config::Secret;
use crate::frames::{Decoder, Framing};
use crate::provider::tests_support::{as_described, identity, with_details, with_moments};
use crate::provider::{
    AnswerContext, ChatCall, End, Endpoint, Failure, Outgoing, Provider, StreamOut, Target, failure,
};
use crate::usage::Usage;

/// Folders of recordings and the row they go through; servers without a row of their own are `custom`.
const FOLDERS: &[(&str, &Provider)] = &[
    ("openai", &OPENAI),
    ("groq", &row::GROQ),
    ("deepseek", &row::DEEPSEEK),
    ("xai", &row::XAI),
    ("openrouter", &row::OPENROUTER),
    ("together", &row::TOGETHER),
    ("perplexity", &row::PERPLEXITY),
    ("cerebras", &row::CEREBRAS),
    ("moonshot", &row::MOONSHOT),
    ("alibaba", &row::ALIBABA),
    ("zai", &row::ZAI),
    ("huggingface", &row::HUGGINGFACE),
    ("vllm", &row::VLLM),
    ("llamacpp", &row::LLAMACPP),
    ("voyage", &row::VOYAGE),
    ("doubleword", &row::CUSTOM),
    ("venice", &row::CUSTOM),
    ("copilot", &row::CUSTOM),
    ("local", &row::CUSTOM),
    ("watsonx", &row::CUSTOM),
    ("snowflake", &row::CUSTOM),
    ("baseten", &row::CUSTOM),
    ("mistralrs", &row::CUSTOM),
    ("ai21", &row::CUSTOM),
    ("heroku", &row::CUSTOM),
];

struct Record {
    id: String,
    folder: &'static str,
    provider: &'static Provider,
    value: Value,
}

/// The recordings of chats and embeddings; none where the corpus is not at hand.
fn recordings() -> Vec<Record> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    if !corpus.is_dir() {
        println!("skipped: no corpus");
        return Vec::new();
    }
    let mut all = Vec::new();
    for (folder, provider) in FOLDERS {
        for entry in std::fs::read_dir(corpus.join(folder)).unwrap() {
            let file = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            let mut value: Value = serde_json::from_str(&with_moments(&file)).unwrap();
            if let Some(stream) = value["response_text"].as_str().map(with_moments) {
                value["response_text"] = stream.into();
            }
            if value["endpoint"] == "chat" || value["endpoint"] == "embeddings" {
                all.push(Record { id: text(&value["id"]).to_owned(), folder, provider, value });
            }
        }
    }
    all.sort_by(|a, b| a.id.cmp(&b.id));
    all
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn context(record: &Record, include_usage: bool) -> AnswerContext {
    AnswerContext {
        provider: record.provider.name,
        id: "chatcmpl-ours".to_owned(),
        created: 1_800_000_000,
        model: "ours".to_owned(),
        include_usage,
        json_object: false,
    }
}

/// A row of the table that a test prints.
#[derive(Default)]
struct Counts(BTreeMap<&'static str, BTreeMap<&'static str, usize>>);

impl Counts {
    fn add(&mut self, folder: &'static str, what: &'static str, number: usize) {
        *self.0.entry(folder).or_default().entry(what).or_default() += number;
    }

    fn print(&self, title: &str) {
        println!("{title}");
        let mut sums: BTreeMap<&str, usize> = BTreeMap::new();
        for (folder, counts) in &self.0 {
            println!("  {folder:<12} {counts:?}");
            counts.iter().for_each(|(what, number)| *sums.entry(what).or_default() += number);
        }
        println!("  {:<12} {sums:?}", "all");
    }
}

/// Tokens of a usage object: prompt, completion, cached, written, reasoning.
fn tokens(usage: &Value) -> Option<[u64; 5]> {
    let number = |path: &str| usage.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let any = |paths: &[&str]| paths.iter().map(|path| number(path)).max().unwrap_or(0);
    let (prompt, completion, total) = (number("/prompt_tokens"), number("/completion_tokens"), number("/total_tokens"));
    if total == 0 {
        return None;
    }
    let reasoning = any(&["/completion_tokens_details/reasoning_tokens", "/reasoning_tokens"]);
    let cached = any(&[
        "/prompt_tokens_details/cached_tokens",
        "/prompt_cache_hit_tokens",
        "/cached_tokens",
        "/cache_read_input_tokens",
    ]);
    let written = any(&["/prompt_tokens_details/cache_write_tokens", "/cache_creation_input_tokens"]);
    if prompt == 0 && completion == 0 {
        return Some([total, 0, 0, 0, 0]);
    }
    let completion = if total > prompt + completion && total - prompt - completion == reasoning {
        completion + reasoning
    } else {
        completion
    };
    Some([prompt, completion, cached, written.min(prompt - cached), reasoning])
}

fn counted(usage: Usage) -> [u64; 5] {
    [usage.prompt_tokens(), usage.output, usage.cached_read, usage.cache_write, usage.reasoning]
}

/// The counts that a client adds up, by OpenAI's convention.
fn settle(usage: &mut Value) {
    let Some([prompt, completion, cached, _, reasoning]) = tokens(usage) else { return };
    let counts = [("prompt_tokens", prompt), ("completion_tokens", completion), ("total_tokens", prompt + completion)];
    for (name, count) in counts {
        usage[name] = count.into();
    }
    with_details(usage, cached, reasoning);
}

/// The edits inside choices and of usage, made on a parsed answer or chunk.
fn edited(original: &Value) -> Value {
    let mut value = original.clone();
    if let Some(usage) = value.get_mut("usage").filter(|_| original.get("choices").is_some()) {
        settle(usage);
    }
    for choice in value.get_mut("choices").and_then(Value::as_array_mut).into_iter().flatten() {
        let whole = choice.get("delta").is_none();
        let calls = !list(&choice["message"]["tool_calls"]).is_empty();
        if whole && choice["finish_details"]["type"] == "max_tokens" {
            choice["finish_reason"] = json!("length");
        }
        match choice.get("finish_reason").and_then(Value::as_str) {
            Some("eos") => choice["finish_reason"] = json!("stop"),
            Some("") if !whole => choice["finish_reason"] = Value::Null,
            Some("") => choice["finish_reason"] = json!(if calls { "tool_calls" } else { "stop" }),
            Some("stop" | "length" | "tool_calls" | "content_filter" | "function_call") | None => {}
            Some(other) => panic!("a finish reason that this test does not know: {other}"),
        }
        let whole_calls = choice.pointer_mut("/message/tool_calls").and_then(Value::as_array_mut);
        for function in whole_calls.into_iter().flatten().filter_map(|call| call.get_mut("function")?.as_object_mut()) {
            function.entry("arguments").or_insert_with(|| json!("{}"));
        }
        for part in ["delta", "message"] {
            let Some(message) = choice.get_mut(part).and_then(Value::as_object_mut) else { continue };
            for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
                if call["function"]["name"].is_string() && call["function"]["arguments"] == "null" {
                    call["function"]["arguments"] = json!("{}");
                }
            }
            let annotations = message.get("annotations").map(list).unwrap_or_default().iter().cloned();
            let (pages, others): (Vec<_>, Vec<_>) = annotations.partition(|item| item["type"] == "url_citation");
            if !others.is_empty() {
                message.insert("annotations".to_owned(), pages.into());
                message.insert("provider_specific_fields".to_owned(), json!({"annotations": others}));
            }
            let reasoning = message.get("reasoning").filter(|reasoning| !text(reasoning).is_empty()).cloned();
            let missing = text(message.get("reasoning_content").unwrap_or(&Value::Null)).is_empty();
            if let Some(reasoning) = reasoning.filter(|_| missing) {
                message.insert("reasoning_content".to_owned(), reasoning);
            }
        }
    }
    value
}

/// The `data:` payloads of a stream and, for each, its block as it came.
fn blocks(stream: &str) -> Vec<(String, String)> {
    let ending = if stream.contains("\r\n") { "\r\n\r\n" } else { "\n\n" };
    let mut found = Vec::new();
    for block in stream.split_inclusive(ending) {
        // Venice and others put more than one blank line between events.
        let block = block.trim_start_matches(['\r', '\n']);
        if let Some(data) = block.lines().find_map(|line| line.strip_prefix("data:")) {
            found.push((data.trim().to_owned(), block.to_owned()));
        }
    }
    found
}

/// A recorded stream as bytes. Where only its events were recorded, the framing is OpenAI's.
fn stream_of(value: &Value) -> Option<String> {
    if let Some(events) = value["response_events"].as_array() {
        let lines: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        return Some(format!("{lines}data: [DONE]\n\n"));
    }
    value["response_text"].as_str().filter(|text| text.contains("data:")).map(str::to_owned)
}

/// What comes out of a stream that goes in in pieces of pseudo-random size.
fn forward(record: &Record, stream: &str, include_usage: bool, mut seed: u64) -> (StreamOut, Result<End, u16>) {
    let mut translator = record.provider.dialect.stream(context(record, include_usage));
    let mut decoder = Decoder::new(Framing::Sse, 1 << 24);
    let (mut out, mut rest) = (StreamOut::default(), stream.as_bytes());
    while !rest.is_empty() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let size = 1 + usize::try_from(seed >> 33).unwrap() % 700;
        let (piece, more) = rest.split_at(size.min(rest.len()));
        rest = more;
        decoder.push(piece);
        while !out.done {
            let Some(event) = decoder.next_event().unwrap() else { break };
            if let Err(error) = translator.event(&event, &mut out) {
                return (out, Err(error.status()));
            }
        }
    }
    let end = translator.end(&mut out);
    (out, Ok(end))
}

/// Whether this is a usage chunk of OpenAI's form.
fn is_usage_chunk(chunk: &Value) -> bool {
    list(&chunk["choices"]).is_empty() && !chunk["usage"].is_null()
}

/// The sum of usages that are told choice by choice, as llama.cpp does.
fn told_apart(chunks: &[Value]) -> Option<Usage> {
    let each: Vec<_> = chunks.iter().filter(|chunk| is_usage_chunk(chunk)).collect();
    let mut sum = Usage::default();
    for chunk in &each {
        let [prompt, output, cached_read, cache_write, reasoning] = tokens(&chunk["usage"])?;
        let input = prompt - cached_read - cache_write;
        sum.add(&Usage { input, cached_read, cache_write, output, reasoning, ..Usage::default() });
    }
    (each.len() > 1).then_some(sum)
}

/// The blocks that the client should see, and how many of them are not as they came. `None` for a block that is new.
fn expected(blocks: &[(String, String)], include_usage: bool, identity: &Value) -> Vec<(Value, Option<String>)> {
    let mut seen = Vec::new();
    let (mut moved, mut own_usage, mut ended) = (None, false, BTreeSet::new());
    let blocks = blocks.iter().take_while(|(data, _)| data != "[DONE]");
    let chunks: Vec<(Value, &String)> =
        blocks.map(|(data, block)| (serde_json::from_str(data).unwrap(), block)).collect();
    let values: Vec<Value> = chunks.iter().map(|(value, _)| value.clone()).collect();
    let (sum, last) = (told_apart(&values), values.iter().rposition(is_usage_chunk));
    for (at, (original, block)) in chunks.iter().enumerate() {
        let (choices, usage) = (list(&original["choices"]), &original["usage"]);
        let mut value = edited(original);
        if choices.is_empty() && !usage.is_null() {
            own_usage = true;
            if !include_usage {
                continue;
            }
            if let Some(sum) = sum {
                let whole = serde_json::to_value(WireUsage::from(sum)).unwrap();
                value["usage"] = if Some(at) == last { whole } else { Value::Null };
            }
        } else if include_usage && !usage.is_null() {
            let mut chunk = identity.clone();
            chunk["choices"] = json!([]);
            chunk["usage"] = value["usage"].take();
            moved = Some(chunk);
        }
        as_described(&mut value, identity);
        for choice in value["choices"].as_array_mut().into_iter().flatten() {
            if !choice["finish_reason"].is_null() && !ended.insert(choice["index"].to_string()) {
                choice["finish_reason"] = Value::Null;
            }
        }
        let unchanged = (value == *original).then(|| (*block).clone());
        seen.push((value, unchanged));
    }
    seen.extend(moved.filter(|_| !own_usage).map(|chunk| (chunk, None)));
    seen
}

fn check_stream(record: &Record, stream: &str, counts: &mut Counts) {
    let (id, blocks) = (&record.id, blocks(stream));
    assert!(blocks.len() > 1, "{id}: no stream");
    let failed = blocks.iter().any(|(data, _)| data.contains("\"error\":"));
    let values: Vec<Value> = blocks.iter().filter_map(|(data, _)| serde_json::from_str(data).ok()).collect();
    let last =
        values.iter().rev().find_map(|value| tokens(&value["usage"]).or_else(|| tokens(&value["x_groq"]["usage"])));
    let last = told_apart(&values).map_or(last, |sum| Some(counted(sum)));
    let identity = identity(&values, "chat.completion.chunk", &context(record, false));
    for (include_usage, seed) in [(false, 1), (true, 2), (true, 3)] {
        let (out, end) = forward(record, stream, include_usage, seed);
        assert_eq!(out.usage.map(counted), last, "{id}");
        if failed {
            assert!(matches!(end, Err(400..600)), "{id}: {end:?}");
            continue;
        }
        assert_eq!(end, Ok(End::Complete), "{id}");
        let mut bytes = String::from_utf8(out.bytes).unwrap();
        assert!(bytes.trim_end().ends_with("data: [DONE]"), "{id}");
        let mut edits = 0;
        for (value, unchanged) in expected(&blocks, include_usage, &identity) {
            let first = unchanged.unwrap_or_else(|| {
                edits += 1;
                bytes.split_inclusive("\n\n").next().unwrap().to_owned()
            });
            let rest = bytes.strip_prefix(first.as_str()).unwrap_or_else(|| panic!("{id}: {first} is not in {bytes}"));
            let data = first.lines().find_map(|line| line.strip_prefix("data:")).unwrap();
            assert_eq!(serde_json::from_str::<Value>(data).unwrap(), value, "{id}");
            bytes = rest.to_owned();
        }
        assert!(bytes.starts_with("data: [DONE]") && bytes.len() < 20, "{id}: {bytes}");
        if seed < 3 {
            counts.add(record.folder, if include_usage { "edited, asked for usage" } else { "edited" }, edits);
        }
    }
    counts.add(record.folder, if failed { "streams with an error" } else { "streams" }, 1);
    check_truncated(record, &blocks);
}

/// Broken off after any event, a stream is complete only if each choice that has begun has a finish reason.
fn check_truncated(record: &Record, blocks: &[(String, String)]) {
    let (mut so_far, mut choices) = (String::new(), BTreeMap::new());
    for (data, block) in blocks {
        if data == "[DONE]" || data.contains("\"error\":") {
            break;
        }
        so_far += block;
        let value: Value = serde_json::from_str(data).unwrap();
        for choice in list(&value["choices"]) {
            *choices.entry(choice["index"].as_u64()).or_insert(false) |= !text(&choice["finish_reason"]).is_empty();
        }
        let finished = !choices.is_empty() && choices.values().all(|finished| *finished);
        // Every place would be quadratic; the last ones are those that matter.
        if blocks.len() > 40 && so_far.len() % 7 != 0 && !finished {
            continue;
        }
        let half = format!("{so_far}data: {{\"choices\":[");
        let (_, end) = forward(record, &half, false, 5);
        let right = if finished { End::Complete } else { End::Truncated };
        assert_eq!(end, Ok(right), "{}", record.id);
    }
}

fn check_whole(record: &Record, body: &Value, counts: &mut Counts) {
    let id = &record.id;
    let bytes = Bytes::from(serde_json::to_vec_pretty(body).unwrap());
    let chat = record.value["endpoint"] == "chat";
    let dialect = record.provider.dialect;
    let answer = if chat {
        dialect.answer(bytes.clone(), &context(record, false))
    } else {
        dialect.embeddings_answer(bytes.clone(), &context(record, false))
    };
    if body.get("error").is_some_and(|error| !error.is_null()) {
        assert!((400..600).contains(&answer.unwrap_err().status()), "{id}");
        counts.add(record.folder, "errors in a 200", 1);
        return;
    }
    let answer = answer.unwrap_or_else(|error| panic!("{id}: {error:?}"));
    let mut right = edited(body);
    if chat {
        let identity = identity(std::slice::from_ref(body), "chat.completion", &context(record, false));
        as_described(&mut right, &identity);
    }
    for (name, ours) in [("object", "list".to_owned()), ("model", context(record, false).model)] {
        if !chat && body.get(name).is_none() {
            right[name] = ours.into();
        }
    }
    if !chat && body["usage"].is_object() && body["usage"].get("prompt_tokens").is_none() {
        right["usage"]["prompt_tokens"] = body["usage"]["total_tokens"].clone();
    }
    if right == *body {
        assert_eq!(answer.body.as_ptr(), bytes.as_ptr(), "{id}: the bytes were copied");
    } else {
        assert!(serde_json::from_slice::<Value>(&answer.body).unwrap() == right, "{id}: another edit");
        counts.add(record.folder, "edited", 1);
    }
    assert_eq!(answer.usage.map(counted), tokens(&body["usage"]), "{id}");
    counts.add(record.folder, if chat { "answers" } else { "embeddings" }, 1);
}

fn check_error(record: &Record, counts: &mut Counts) {
    let (id, body) = (&record.id, &record.value["response_body"]);
    let status = u16::try_from(record.value["response_status"].as_u64().unwrap()).unwrap();
    let said = record.provider.dialect.read_error(body.to_string().as_bytes());
    let right =
        ["/error/message", "/error", "/message", "/detail"].iter().find_map(|path| body.pointer(path)?.as_str());
    assert!(right.is_some() && said.message.as_deref() == right, "{id}: {:?} is not {right:?}", said.message);
    let code = body.pointer("/error/code").or(body.get("code")).filter(|code| !code.is_null());
    assert_eq!(said.code, code.map(|code| code.to_string().trim_matches('"').to_owned()), "{id}");
    let (headers, now) = (HeaderMap::new(), jiff::Timestamp::UNIX_EPOCH);
    let error = failure(&Failure { status, headers: &headers, now }, said, record.provider.name);
    let right = if status >= 500 { 502 } else { status };
    assert_eq!(error.status(), right, "{id}");
    assert_eq!(error.is_retryable(), status >= 500 || status == 429, "{id}");
    if matches!(status, 401 | 403) {
        assert_eq!(error.code(), "provider_key_invalid", "{id}");
    }
    counts.add(record.folder, "errors", 1);
}

#[test]
fn every_recorded_answer_passes_unchanged_or_with_the_documented_edits() {
    let mut counts = Counts::default();
    let all = recordings();
    for record in &all {
        if record.value["response_status"] != 200 {
            check_error(record, &mut counts);
        } else if let Some(stream) = stream_of(&record.value) {
            check_stream(record, &stream, &mut counts);
        } else {
            check_whole(record, &record.value["response_body"], &mut counts);
        }
    }
    counts.print(&format!("{} recordings; answers, streams, errors; edits among them:", all.len()));
}

fn send(record: &Record, body: &Body) -> crate::error::Result<Outgoing> {
    let provider = record.provider;
    let endpoint = Endpoint::parse(provider.base_url).or_else(|_| Endpoint::parse("http://gpu/v1")).unwrap();
    let (key, options) = (Secret::new("sk-test"), Map::new());
    let model: String = body.get("model").unwrap().unwrap();
    let now = jiff::Timestamp::UNIX_EPOCH;
    let target = Target { provider, endpoint: &endpoint, key: &key, options: &options, model: &model, now };
    if record.value["endpoint"] == "embeddings" {
        return provider.dialect.embeddings(body, &target);
    }
    let head = ChatHead::read(body)?;
    provider.dialect.chat(&ChatCall::new(body, &head), &target)
}

/// A recorded request is one that the provider took, so nothing that a row says about the provider may touch it: the very same
/// bytes are sent, except that the usage of a stream is asked for.
#[test]
fn every_recorded_request_passes_unchanged() {
    let mut counts = Counts::default();
    for record in recordings().iter().filter(|record| record.value["response_status"] == 200) {
        let recorded = &record.value["request_body"];
        if !recorded.is_object() {
            counts.add(record.folder, "left out: no request recorded", 1);
            continue;
        }
        let body = Body::scan(Bytes::from(recorded.to_string())).unwrap();
        let sent = send(record, &body).unwrap_or_else(|error| panic!("{}: {error}", record.id));
        let asked =
            recorded["stream"] == true && recorded.pointer("/stream_options/include_usage") != Some(&json!(true));
        if asked && record.folder != "perplexity" {
            let mut right = recorded.clone();
            right["stream_options"]["include_usage"] = json!(true);
            assert_eq!(serde_json::from_slice::<Value>(&sent.body.whole()).unwrap(), right, "{}", record.id);
            counts.add(record.folder, "asked for usage", 1);
        } else {
            assert_eq!(sent.body.whole().as_ptr(), body.bytes().as_ptr(), "{}: the bytes were copied", record.id);
        }
        assert!(sent.warnings.is_empty(), "{}: {:?}", record.id, sent.warnings);
        counts.add(record.folder, "passed", 1);
    }
    counts.print("requests");
}
