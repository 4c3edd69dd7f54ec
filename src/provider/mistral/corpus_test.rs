//! Every recorded exchange with Mistral's `/v1/chat/completions` and `/v1/embeddings`, run through the dialect and compared
//! with a reading that shares no code with it.
//!
//! Not a place for recordings: they are read where they lie, beside the project, and their absence skips the tests.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{MISTRAL, Mistral};
use crate::api::head::ChatHead;
use crate::api::scan::Body;
use crate::config::Secret;
use crate::frames::{Decoder, Framing};
use crate::provider::{AnswerContext, ChatCall, Dialect, End, Endpoint, StreamOut, Target};

fn recordings(endpoint: &str) -> Vec<Value> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus/mistral");
    let Ok(entries) = std::fs::read_dir(folder) else {
        println!("skipped: no corpus");
        return Vec::new();
    };
    let mut all: Vec<Value> = entries
        .map(|entry| serde_json::from_slice(&std::fs::read(entry.unwrap().path()).unwrap()).unwrap())
        .filter(|record: &Value| record["endpoint"] == endpoint)
        .collect();
    all.sort_by_key(|record| record["id"].to_string());
    all
}

fn context(include_usage: bool) -> AnswerContext {
    AnswerContext { include_usage, ..crate::provider::tests_support::context("mistral") }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What one choice says, whoever's shape it has.
#[derive(Debug, Default, PartialEq)]
struct Said {
    text: String,
    reasoning: String,
    calls: Vec<(String, String, String)>,
    finish: String,
}

impl Said {
    /// Adds a message or a delta of Mistral's.
    fn add(&mut self, said: &Value, foreign: bool) {
        match &said["content"] {
            Value::String(more) => self.text += more,
            Value::Array(chunks) => {
                assert!(foreign, "a list of chunks is not OpenAI's");
                for chunk in chunks {
                    self.text += text(&chunk["text"]);
                    for inner in chunk["thinking"].as_array().into_iter().flatten() {
                        self.reasoning += text(&inner["text"]);
                    }
                }
            }
            _ => {}
        }
        self.reasoning += text(&said["reasoning_content"]);
        for (at, call) in said["tool_calls"].as_array().into_iter().flatten().enumerate() {
            assert!(foreign || call["type"] == "function");
            let index = call["index"].as_u64().map_or(at, |index| index as usize);
            if self.calls.len() <= index {
                self.calls.resize(index + 1, Default::default());
            }
            let (id, name, arguments) = &mut self.calls[index];
            *id += text(&call["id"]);
            *name += text(&call["function"]["name"]);
            *arguments += text(&call["function"]["arguments"]);
        }
    }

    fn end(&mut self, choice: &Value) {
        let reason = text(&choice["finish_reason"]);
        self.finish += if reason == "model_length" { "length" } else { reason };
    }
}

/// Prompt, completion, total, cached; sound is part of the total and not of Mistral's prompt.
fn usage(value: &Value) -> [u64; 4] {
    let tokens = |pointer: &str| value.pointer(pointer).and_then(Value::as_u64);
    let cached = tokens("/prompt_tokens_details/cached_tokens").or(tokens("/num_cached_tokens")).unwrap_or(0);
    let sound = tokens("/prompt_tokens_details/audio_tokens").unwrap_or(0);
    let prompt = tokens("/prompt_tokens").unwrap() + sound;
    [prompt, tokens("/completion_tokens").unwrap(), tokens("/total_tokens").unwrap(), cached]
}

/// The usage object that a client gets: the prompt's count holds the sound.
fn told(recorded: &Value) -> Value {
    let mut told = recorded.clone();
    let [prompt, .., cached] = usage(recorded);
    told["prompt_tokens"] = prompt.into();
    crate::provider::tests_support::with_details(&mut told, cached, 0);
    told
}

fn booked(usage: crate::usage::Usage) -> [u64; 4] {
    [usage.prompt_tokens(), usage.output, usage.total_tokens(), usage.cached_read]
}

fn whole(answer: &Value, foreign: bool) -> Vec<Said> {
    let choices = answer["choices"].as_array().unwrap().iter();
    let read = |choice: &Value| {
        let mut said = Said::default();
        said.add(&choice["message"], foreign);
        said.end(choice);
        said
    };
    choices.map(read).collect()
}

fn chunks(chunks: &[Value], foreign: bool) -> BTreeMap<u64, Said> {
    let mut choices: BTreeMap<u64, Said> = BTreeMap::new();
    for choice in chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap()) {
        let said = choices.entry(choice["index"].as_u64().unwrap()).or_default();
        said.add(&choice["delta"], foreign);
        said.end(choice);
    }
    choices
}

#[test]
fn every_recorded_answer_says_the_same_and_most_are_the_same_bytes() {
    let (mut same, mut rewritten) = (0, 0);
    for record in recordings("chat").iter().filter(|record| record["response_status"] == 200) {
        let recorded = &record["response_body"];
        if !recorded.is_object() {
            continue;
        }
        let body = Bytes::from(recorded.to_string());
        let answer = Mistral.answer(body.clone(), &context(true)).unwrap();
        let got: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(whole(&got, false), whole(recorded, true), "{}", record["id"]);
        assert_eq!(booked(answer.usage.unwrap()), usage(&recorded["usage"]), "{}", record["id"]);
        assert_eq!(got["usage"], told(&recorded["usage"]));
        let is_same = answer.body == body;
        same += usize::from(is_same);
        rewritten += usize::from(!is_same);
    }
    println!("whole answers: {same} forwarded, {rewritten} rewritten, 0 left out (streams are another test's)");
}

/// A recorded stream's chunks, and its bytes as recorded or, without recorded framing, as Mistral frames it.
fn stream_of(record: &Value) -> Option<(Vec<Value>, String)> {
    if let Some(events) = record["response_events"].as_array() {
        let framed: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        return Some((events.clone(), framed + "data: [DONE]\n\n"));
    }
    let stream = record["response_text"].as_str()?;
    let lines = stream.lines().filter_map(|line| line.strip_prefix("data:")).filter(|line| line.trim() != "[DONE]");
    Some((lines.map(|line| serde_json::from_str(line).unwrap()).collect(), stream.to_owned()))
}

fn run(stream: &str, include_usage: bool, random: &mut u64) -> StreamOut {
    let (mut translator, mut out) = (Mistral.stream(context(include_usage)), StreamOut::default());
    let mut decoder = Decoder::new(Framing::Sse, 1 << 20);
    let mut rest = stream.as_bytes();
    while !rest.is_empty() {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        let (piece, tail) = rest.split_at((*random % 90 + 1).min(rest.len() as u64) as usize);
        rest = tail;
        decoder.push(piece);
        while let Some(event) = decoder.next_event().unwrap() {
            translator.event(&event, &mut out).unwrap();
        }
    }
    assert_eq!(translator.end(&mut out), End::Complete);
    out
}

fn data(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"));
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|line| *line != "[DONE]");
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_recorded_stream_says_the_same_however_it_is_cut() {
    let (mut same, mut rewritten) = (0, 0);
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for record in &recordings("chat") {
        let Some((recorded, stream)) = stream_of(record) else { continue };
        let counted = recorded.iter().rev().find(|chunk| chunk["usage"].is_object()).unwrap();
        let out = run(&stream, false, &mut random);
        assert_eq!(chunks(&data(&out.bytes), false), chunks(&recorded, true), "{}", record["id"]);
        assert_eq!(booked(out.usage.unwrap()), usage(&counted["usage"]), "{}", record["id"]);
        let is_same = out.bytes == stream.as_bytes();
        same += usize::from(is_same);
        rewritten += usize::from(!is_same);
        let out = run(&stream, true, &mut random);
        let (last, others) = {
            let mut all = data(&out.bytes);
            (all.pop().unwrap(), all)
        };
        assert_eq!(chunks(&others, false), chunks(&recorded, true), "{}", record["id"]);
        assert!(others.iter().all(|chunk| chunk["usage"].is_null()), "{}", record["id"]);
        assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &told(&counted["usage"])));
    }
    println!("streams: {same} forwarded, {rewritten} rewritten, 0 left out");
}

#[test]
fn a_stream_that_breaks_off_is_never_complete() {
    for record in &recordings("chat") {
        let Some((recorded, _)) = stream_of(record) else { continue };
        let finish = recorded.iter().position(|chunk| !chunk["choices"][0]["finish_reason"].is_null()).unwrap();
        for kept in 0..=finish {
            let mut decoder = Decoder::new(Framing::Sse, 1 << 20);
            recorded.iter().take(kept).for_each(|chunk| decoder.push(format!("data: {chunk}\n\n").as_bytes()));
            let (mut translator, mut out) = (Mistral.stream(context(true)), StreamOut::default());
            while let Some(event) = decoder.next_event().unwrap() {
                translator.event(&event, &mut out).unwrap();
            }
            assert_eq!(translator.end(&mut out), End::Truncated);
            assert!(!out.done && !String::from_utf8(out.bytes).unwrap().contains("[DONE]"));
        }
    }
}

#[test]
fn every_recorded_error_is_read() {
    let mut passed = 0;
    for record in recordings("chat").iter().chain(&recordings("embeddings")).chain(&recordings("models")) {
        if record["response_status"] == 200 {
            continue;
        }
        let body = &record["response_body"];
        let said = Mistral.read_error(body.to_string().as_bytes());
        assert_eq!(said.message.as_deref(), body["message"].as_str().or(body["detail"].as_str()), "{}", record["id"]);
        assert!(said.message.is_some());
        assert_eq!((said.code.as_deref(), said.error_type.as_deref()), (body["code"].as_str(), body["type"].as_str()));
        passed += 1;
    }
    println!("errors: {passed} passed");
}

fn with_target<T>(model: &str, run: impl FnOnce(&Target<'_>) -> T) -> T {
    let endpoint = Endpoint::parse(MISTRAL.base_url).unwrap();
    let (key, options) = (Secret::new("key"), Map::new());
    run(&Target {
        provider: &MISTRAL,
        endpoint: &endpoint,
        key: &key,
        options: &options,
        model,
        now: jiff::Timestamp::UNIX_EPOCH,
    })
}

/// What a client of OpenAI's API would have sent to have Mistral receive this request.
fn to_openai(recorded: &Value) -> Value {
    let mut request = Map::new();
    for (name, value) in recorded.as_object().unwrap() {
        let (name, value) = match name.as_str() {
            "messages" => (name.as_str(), value.as_array().unwrap().iter().map(message_to_openai).collect()),
            "random_seed" => ("seed", value.clone()),
            "max_tokens" => ("max_completion_tokens", value.clone()),
            "tool_choice" if value == "any" => ("tool_choice", json!("required")),
            name => (name, value.clone()),
        };
        request.insert(name.to_owned(), value);
    }
    if request.get("stream") == Some(&json!(true)) {
        request.insert("stream_options".to_owned(), json!({"include_usage": true}));
    }
    request.into()
}

fn message_to_openai(message: &Value) -> Value {
    let mut made = message.clone();
    let Some(parts) = made["content"].as_array_mut() else { return made };
    for part in parts.iter_mut() {
        match text(&part["type"]) {
            "document_url" => {
                let mut file = json!({"file_data": part["document_url"]});
                if part["document_name"].is_string() {
                    file["filename"] = part["document_name"].clone();
                }
                *part = json!({"type": "file", "file": file});
            }
            "input_audio" => {
                *part = json!({"type": "input_audio", "input_audio": {"data": part["input_audio"], "format": "mp3"}});
            }
            _ => {}
        }
    }
    let is_thinking = |part: &Value| part["type"] == "thinking";
    if parts.iter().any(is_thinking) {
        let inner = parts.iter().filter(|part| is_thinking(part)).flat_map(|part| part["thinking"].as_array().unwrap());
        let reasoning: String = inner.map(|inner| text(&inner["text"])).collect();
        let said: String = parts.iter().filter(|part| !is_thinking(part)).map(|part| text(&part["text"])).collect();
        made["reasoning_content"] = reasoning.into();
        made["content"] = said.into();
    }
    made
}

/// The same request in one of its several spellings: `null` gone, ids numbered in their order, thinking in one text.
fn normal(request: &Value) -> Value {
    let mut request = request.clone();
    let members = request.as_object_mut().unwrap();
    members.retain(|_, value| !value.is_null());
    let mut ids: Vec<Value> = Vec::new();
    let mut number = |id: &mut Value| {
        let at = ids.iter().position(|known| known == id).unwrap_or(ids.len());
        if at == ids.len() {
            ids.push(id.clone());
        }
        *id = at.into();
    };
    for message in members.get_mut("messages").unwrap().as_array_mut().unwrap() {
        for part in message.get_mut("content").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(inner) = part.get_mut("thinking").and_then(Value::as_array_mut) {
                let whole: String = inner.iter().map(|inner| text(&inner["text"])).collect();
                *inner = vec![json!({"type": "text", "text": whole})];
            }
        }
        for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
            number(&mut call["id"]);
        }
        if let Some(id) = message.get_mut("tool_call_id") {
            number(id);
        }
    }
    request
}

#[test]
fn every_recorded_request_can_be_made_through_openais_api() {
    let (mut passed, mut left_out) = (0, BTreeMap::new());
    for record in recordings("chat").iter() {
        let recorded = &record["request_body"];
        if !recorded.is_object() {
            *left_out.entry("no request was recorded").or_insert(0) += 1;
            continue;
        }
        let body = Body::scan(Bytes::from(to_openai(recorded).to_string())).unwrap();
        let head = ChatHead::read(&body).unwrap_or_else(|error| panic!("{}: {error}", record["id"]));
        let outgoing =
            with_target(text(&recorded["model"]), |target| Mistral.chat(&ChatCall::new(&body, &head), target))
                .unwrap_or_else(|error| panic!("{}: {error}", record["id"]));
        let mut expected = recorded.clone();
        let mut warnings: Vec<&str> = Vec::new();
        // Mistral refused these two; they are not sent.
        if expected.as_object_mut().unwrap().remove("logprobs").is_some() {
            warnings.push("logprobs");
        }
        if expected.as_object_mut().unwrap().remove("top_logprobs").is_some() {
            warnings.push("top_logprobs");
        }
        let sent: Value = serde_json::from_slice(&outgoing.body.whole()).unwrap();
        assert_eq!(normal(&sent), normal(&expected), "{}", record["id"]);
        assert_eq!(outgoing.warnings, warnings, "{}", record["id"]);
        passed += 1;
    }
    println!("requests: {passed} passed; left out: {left_out:?}");
}

#[test]
fn reasoning_goes_back_into_the_chunk_that_it_came_in() {
    let mut passed = 0;
    for record in recordings("chat")
        .iter()
        .filter(|record| record["response_body"]["choices"][0]["message"]["content"].is_array())
    {
        let recorded = &record["response_body"];
        let answer = Mistral.answer(Bytes::from(recorded.to_string()), &context(true)).unwrap();
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        let messages = json!([{"role": "user", "content": "q"}, answer["choices"][0]["message"], {"role": "user", "content": "r"}]);
        let body = Body::scan(Bytes::from(json!({"model": "m", "messages": messages}).to_string())).unwrap();
        let head = ChatHead::read(&body).unwrap();
        let outgoing =
            with_target("magistral-medium-latest", |target| Mistral.chat(&ChatCall::new(&body, &head), target))
                .unwrap();
        let sent: Value = serde_json::from_slice(&outgoing.body.whole()).unwrap();
        let mut content = recorded["choices"][0]["message"]["content"].clone();
        content[0].as_object_mut().unwrap().remove("closed");
        assert_eq!(sent["messages"][1]["content"], content, "{}", record["id"]);
        assert_eq!(outgoing.warnings, Vec::<String>::new());
        passed += 1;
    }
    println!("reasoning: {passed} passed");
}

#[test]
fn every_recorded_embedding_is_forwarded() {
    let (mut passed, mut requests) = (0, 0);
    for record in recordings("embeddings") {
        let recorded = &record["request_body"];
        let body = Body::scan(Bytes::from(recorded.to_string())).unwrap();
        let outgoing = with_target(text(&recorded["model"]), |target| Mistral.embeddings(&body, target)).unwrap();
        assert_eq!(outgoing.body, recorded.to_string());
        requests += 1;
        if record["response_status"] != 200 {
            continue;
        }
        let body = Bytes::from(record["response_body"].to_string());
        let answer = Mistral.embeddings_answer(body.clone(), &context(false)).unwrap();
        assert_eq!(answer.body, body);
        assert_eq!(answer.usage.unwrap().input, record["response_body"]["usage"]["prompt_tokens"].as_u64().unwrap());
        passed += 1;
    }
    println!("embeddings: {passed} answers and {requests} requests passed");
}
