//! Every recorded exchange with Anthropic, translated and compared with a reading that shares no code with the translator.
//!
//! Not a place for recordings: they are read where they lie, beside the project, and their absence skips the tests.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{Messages, request};
use crate::api::chat::ChatRequest;
use crate::api::scan::Body;
use crate::provider::tests_support::{citations, gather, unnumbered};
use crate::provider::{AnswerContext, Dialect, End, StreamOut};
use crate::sse::{Decoder, Event};

/// The recordings of `POST /v1/messages`, by id; none where the corpus is not at hand.
fn recordings() -> Vec<Value> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus/anthropic");
    let Ok(entries) = std::fs::read_dir(folder) else {
        println!("skipped: no corpus");
        return Vec::new();
    };
    let mut all: Vec<Value> = entries
        .map(|entry| serde_json::from_slice(&std::fs::read(entry.unwrap().path()).unwrap()).unwrap())
        .filter(|record: &Value| record["endpoint"] == "messages")
        .collect();
    all.sort_by_key(|record| record["id"].to_string());
    all
}

fn answered() -> impl Iterator<Item = Value> {
    recordings().into_iter().filter(|record| record["response_status"] == 200)
}

fn context() -> AnswerContext {
    AnswerContext {
        provider: "anthropic",
        id: "chatcmpl-ours".to_owned(),
        created: 1_800_000_000,
        model: "ours".to_owned(),
        include_usage: true,
        json_object: false,
    }
}

/// What an answer says, whoever's words it uses.
#[derive(Debug, Default, PartialEq)]
struct Said {
    id: String,
    model: String,
    text: String,
    thinking: String,
    thinking_blocks: Vec<Value>,
    calls: Vec<(String, String, Value)>,
    finish: String,
    /// Prompt, completion, total, cached, written, reasoning.
    usage: [u64; 6],
    citations: usize,
    /// All blocks, when some of them have no place at OpenAI.
    native: Option<Value>,
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

const KNOWN_BLOCKS: [&str; 4] = ["text", "thinking", "redacted_thinking", "tool_use"];

/// Reads Anthropic's own message object.
fn read_message(message: &Value) -> Said {
    let mut said = Said { id: text(&message["id"]).into(), model: text(&message["model"]).into(), ..Said::default() };
    let blocks = message["content"].as_array().unwrap();
    for block in blocks {
        match text(&block["type"]) {
            "text" => {
                said.text += text(&block["text"]);
                said.citations += block["citations"].as_array().map_or(0, Vec::len);
            }
            "thinking" => {
                said.thinking += text(&block["thinking"]);
                said.thinking_blocks.push(block.clone());
            }
            "redacted_thinking" => said.thinking_blocks.push(block.clone()),
            "tool_use" => {
                let (id, name) = (text(&block["id"]).to_owned(), text(&block["name"]).to_owned());
                said.calls.push((id, name, block["input"].clone()));
            }
            _ => {}
        }
    }
    if blocks.iter().any(|block| !KNOWN_BLOCKS.contains(&text(&block["type"]))) {
        said.native = Some(message["content"].clone());
    }
    said.finish = match text(&message["stop_reason"]) {
        "end_turn" | "stop_sequence" | "pause_turn" => "stop",
        "max_tokens" => "length",
        "tool_use" => "tool_calls",
        "refusal" => "content_filter",
        other => panic!("a stop reason that this test does not know: {other}"),
    }
    .to_owned();
    let tokens = |name: &str| message["usage"][name].as_u64().unwrap_or(0);
    let (read, written) = (tokens("cache_read_input_tokens"), tokens("cache_creation_input_tokens"));
    let (prompt, output) = (tokens("input_tokens") + read + written, tokens("output_tokens"));
    let reasoning = message["usage"]["output_tokens_details"]["thinking_tokens"].as_u64().unwrap_or(0);
    said.usage = [prompt, output, prompt + output, read, written, reasoning];
    said
}

/// Puts a recorded stream together as Anthropic's documentation describes it.
fn read_events(stream: &str) -> Value {
    let mut message = Value::Null;
    let mut json: BTreeMap<u64, String> = BTreeMap::new();
    for line in stream.lines().filter_map(|line| line.strip_prefix("data:")) {
        let event: Value = serde_json::from_str(line).unwrap();
        let index = event["index"].as_u64().unwrap_or(0);
        let delta = &event["delta"];
        match text(&event["type"]) {
            "message_start" => message = event["message"].clone(),
            "content_block_start" => {
                message["content"].as_array_mut().unwrap().push(event["content_block"].clone());
            }
            "content_block_delta" => {
                let block = &mut message["content"][index as usize];
                let mut append =
                    |name: &str, more: &Value| block[name] = format!("{}{}", text(&block[name]), text(more)).into();
                match text(&delta["type"]) {
                    "text_delta" => append("text", &delta["text"]),
                    "thinking_delta" => append("thinking", &delta["thinking"]),
                    "signature_delta" => append("signature", &delta["signature"]),
                    "input_json_delta" => *json.entry(index).or_default() += text(&delta["partial_json"]),
                    "citations_delta" => {
                        let mut all = block["citations"].as_array().cloned().unwrap_or_default();
                        all.push(delta["citation"].clone());
                        block["citations"] = all.into();
                    }
                    other => panic!("a delta that this test does not know: {other}"),
                }
            }
            "content_block_stop" => {
                if let Some(input) = json.get(&index).filter(|input| !input.is_empty()) {
                    message["content"][index as usize]["input"] = serde_json::from_str(input).unwrap();
                }
            }
            "message_delta" => {
                message["stop_reason"] = delta["stop_reason"].clone();
                for (name, value) in event["usage"].as_object().unwrap() {
                    message["usage"][name] = value.clone();
                }
            }
            _ => {}
        }
    }
    message
}

/// Reads OpenAI's completion object.
fn read_completion(completion: &Value) -> Said {
    let choice = &completion["choices"][0];
    let message = &choice["message"];
    let list = |name: &str| message[name].as_array().cloned().unwrap_or_default();
    let calls = list("tool_calls");
    let calls = calls.iter().map(|call| {
        let arguments = serde_json::from_str(text(&call["function"]["arguments"])).unwrap();
        (text(&call["id"]).to_owned(), text(&call["function"]["name"]).to_owned(), arguments)
    });
    let usage = |pointer: &str| completion["usage"].pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    Said {
        id: text(&completion["id"]).into(),
        model: text(&completion["model"]).into(),
        text: text(&message["content"]).into(),
        thinking: text(&message["reasoning_content"]).into(),
        thinking_blocks: unnumbered(list("thinking_blocks")),
        calls: calls.collect(),
        finish: text(&choice["finish_reason"]).into(),
        usage: [
            usage("/prompt_tokens"),
            usage("/completion_tokens"),
            usage("/total_tokens"),
            usage("/prompt_tokens_details/cached_tokens"),
            usage("/prompt_tokens_details/cache_write_tokens"),
            usage("/completion_tokens_details/reasoning_tokens"),
        ],
        citations: citations(message).len(),
        native: message["provider_specific_fields"].get("content_blocks").cloned(),
    }
}

/// Puts OpenAI's chunks together as its SDKs do, checking what every chunk must have.
fn read_chunks(events: &[Event]) -> Value {
    let (done, chunks) = events.split_last().unwrap();
    assert_eq!(&done.data[..], b"[DONE]");
    let mut completion = json!({"choices": [{"message": {}}]});
    let mut calls: Vec<Value> = Vec::new();
    for (at, event) in chunks.iter().enumerate() {
        let chunk: Value = serde_json::from_slice(&event.data).unwrap();
        assert_eq!(chunk["object"], "chat.completion.chunk");
        completion["id"] = chunk["id"].clone();
        completion["model"] = chunk["model"].clone();
        let Some(choice) = chunk["choices"].get(0) else {
            assert_eq!(at, chunks.len() - 1, "the usage chunk is the last");
            completion["usage"] = chunk["usage"].clone();
            continue;
        };
        assert!(chunk["usage"].is_null() && chunk.get("usage").is_some(), "usage is null until the last chunk");
        assert_eq!(choice["delta"].get("role").is_some(), at == 0, "the role comes first and once");
        let reason = &choice["finish_reason"];
        assert_eq!(!reason.is_null(), at == chunks.len() - 2, "the finish comes last and once");
        completion["choices"][0]["finish_reason"] = reason.clone();
        for (name, value) in choice["delta"].as_object().unwrap() {
            let place = &mut completion["choices"][0]["message"][name];
            match value {
                Value::Array(more) if name == "tool_calls" => more.iter().for_each(|piece| add_call(&mut calls, piece)),
                more => gather(place, more),
            }
        }
    }
    completion["choices"][0]["message"]["tool_calls"] = calls.into();
    completion
}

fn add_call(calls: &mut Vec<Value>, piece: &Value) {
    let index = piece["index"].as_u64().unwrap() as usize;
    if index == calls.len() {
        assert_eq!(piece["type"], "function");
        calls.push(piece.clone());
        return;
    }
    let arguments = &mut calls[index]["function"]["arguments"];
    *arguments = format!("{}{}", text(arguments), text(&piece["function"]["arguments"])).into();
}

#[test]
fn every_recorded_answer_says_the_same_in_openais_words() {
    let mut passed = 0;
    for record in answered().filter(|record| record["response_body"].is_object()) {
        let body = Bytes::from(record["response_body"].to_string());
        let answer = Messages.answer(body, &context()).unwrap();
        let got = read_completion(&serde_json::from_slice(&answer.body).unwrap());
        assert_eq!(got, read_message(&record["response_body"]), "{}", record["id"]);
        assert_eq!(answer.usage.unwrap().total_tokens(), got.usage[2]);
        passed += 1;
    }
    println!("whole answers: {passed} passed, 0 skipped");
}

#[test]
fn every_recorded_stream_says_the_same_in_openais_chunks_however_it_is_cut() {
    let mut passed = 0;
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for record in answered().filter(|record| record["response_text"].is_string()) {
        let stream = text(&record["response_text"]);
        let mut translator = Messages.stream(context());
        let mut out = StreamOut::default();
        let mut decoder = Decoder::new(1 << 20);
        let mut rest = stream.as_bytes();
        while !rest.is_empty() {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let (piece, tail) = rest.split_at((random % 90 + 1).min(rest.len() as u64) as usize);
            rest = tail;
            decoder.push(piece);
            while let Some(event) = decoder.next_event().unwrap() {
                translator.event(&event, &mut out).unwrap();
            }
        }
        assert_eq!(translator.end(&mut out), End::Complete, "{}", record["id"]);
        assert!(out.done && out.content);
        let mut ours = Decoder::new(1 << 20);
        ours.push(&out.bytes);
        let events: Vec<Event> = std::iter::from_fn(|| ours.next_event().unwrap()).collect();
        let got = read_completion(&read_chunks(&events));
        assert_eq!(got, read_message(&read_events(stream)), "{}", record["id"]);
        assert_eq!(out.usage.unwrap().total_tokens(), got.usage[2]);
        passed += 1;
    }
    println!("streams: {passed} passed, 0 skipped");
}

#[test]
fn a_stream_that_breaks_off_is_never_complete_and_says_so_nowhere() {
    for record in answered().filter(|record| record["response_text"].is_string()) {
        let stream = text(&record["response_text"]);
        let events: Vec<&str> = stream.split_inclusive("\n\n").collect();
        let (before, last) = events.split_at(events.iter().position(|event| event.contains("message_stop")).unwrap());
        assert!(!last.is_empty());
        for kept in 0..=before.len() {
            let mut decoder = Decoder::new(1 << 20);
            before.iter().take(kept).for_each(|event| decoder.push(event.as_bytes()));
            let (mut translator, mut out) = (Messages.stream(context()), StreamOut::default());
            while let Some(event) = decoder.next_event().unwrap() {
                translator.event(&event, &mut out).unwrap();
            }
            assert_eq!(translator.end(&mut out), End::Truncated);
            let written = String::from_utf8(out.bytes).unwrap();
            assert!(!out.done && !written.contains("[DONE]") && !written.contains("\"finish_reason\":\""));
        }
    }
}

#[test]
fn every_recorded_refusal_is_read() {
    let mut passed = 0;
    for record in recordings().into_iter().filter(|record| record["response_status"] != 200) {
        let said = Messages.read_error(record["response_body"].to_string().as_bytes());
        let error = &record["response_body"]["error"];
        assert_eq!(said.message.as_deref(), error["message"].as_str());
        assert_eq!(said.error_type.as_deref(), error["type"].as_str());
        assert_eq!(said.key_invalid, record["response_status"] == 401);
        passed += 1;
    }
    println!("errors: {passed} passed");
}

/// What a client of OpenAI's API would have sent to have Anthropic receive this request; `Err` says why it can't.
fn to_openai(recorded: &Value) -> Result<Value, String> {
    let mut request = Map::new();
    let mut messages = Vec::new();
    match &recorded["system"] {
        Value::String(system) => messages.push(json!({"role": "system", "content": system})),
        Value::Array(blocks) => messages.push(json!({"role": "developer", "content": blocks})),
        _ => {}
    }
    for message in recorded["messages"].as_array().ok_or("malformed on purpose")? {
        message_to_openai(message, &mut messages)?;
    }
    request.insert("messages".into(), messages.into());
    let effort = recorded["output_config"].get("effort");
    let effort = effort.filter(|_| recorded["thinking"] == json!({"type": "adaptive"}));
    for (name, value) in recorded.as_object().unwrap() {
        let (name, value) = match name.as_str() {
            "messages" | "system" => continue,
            "max_tokens" => ("max_completion_tokens", value.clone()),
            "stop_sequences" => ("stop", value.clone()),
            "service_tier" if value == "standard_only" => ("service_tier", json!("default")),
            "thinking" if effort.is_some() => ("reasoning_effort", effort.cloned().unwrap()),
            "output_config" if effort.is_some() => continue,
            "output_config" if value.get("format").is_some() => {
                let schema = &value["format"]["schema"];
                let named = json!({"name": text(&schema["title"]), "schema": schema, "strict": true});
                ("response_format", json!({"type": "json_schema", "json_schema": named}))
            }
            "tools" => ("tools", value.as_array().unwrap().iter().map(tool_to_openai).collect()),
            "tool_choice" => ("tool_choice", choice_to_openai(value)),
            name => (name, value.clone()),
        };
        request.insert(name.into(), value);
    }
    Ok(request.into())
}

fn message_to_openai(message: &Value, messages: &mut Vec<Value>) -> Result<(), String> {
    let content = &message["content"];
    let blocks = match (text(&message["role"]), content) {
        (role @ ("user" | "assistant"), Value::String(_)) => {
            messages.push(json!({"role": role, "content": content}));
            return Ok(());
        }
        ("user" | "assistant", Value::Array(blocks)) => blocks,
        (role, _) => return Err(format!("role {role} in the middle")),
    };
    let made = if message["role"] == "user" { user_to_openai(blocks) } else { assistant_to_openai(blocks) };
    messages.extend(made.unwrap_or_else(|| {
        let fields = json!({"content_blocks": blocks});
        vec![json!({"role": message["role"], "content": null, "provider_specific_fields": fields})]
    }));
    Ok(())
}

fn user_to_openai(blocks: &[Value]) -> Option<Vec<Value>> {
    let mut messages = Vec::new();
    for block in blocks {
        if block["type"] != "tool_result" {
            messages.push(json!({"role": "user", "content": [part_to_openai(block)?]}));
            continue;
        }
        let content = match &block["content"] {
            Value::Array(parts) => parts.iter().map(part_to_openai).collect::<Option<Value>>()?,
            content => content.clone(),
        };
        let (id, is_error) = (&block["tool_use_id"], &block["is_error"]);
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": content, "is_error": is_error}));
    }
    Some(messages)
}

fn assistant_to_openai(blocks: &[Value]) -> Option<Vec<Value>> {
    let (mut thinking, mut parts, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    for block in blocks {
        match text(&block["type"]) {
            "thinking" | "redacted_thinking" => thinking.push(block.clone()),
            "text" => parts.push(block.clone()),
            "tool_use" => {
                let function = json!({"name": block["name"], "arguments": block["input"].to_string()});
                calls.push(json!({"id": block["id"], "type": "function", "function": function}));
            }
            _ => return None,
        }
    }
    let message = json!({"role": "assistant", "content": parts, "tool_calls": calls, "thinking_blocks": thinking});
    Some(vec![message])
}

fn part_to_openai(block: &Value) -> Option<Value> {
    let source = &block["source"];
    let data = || format!("data:{};base64,{}", text(&source["media_type"]), text(&source["data"]));
    let mut part = match (text(&block["type"]), text(&source["type"])) {
        ("text", _) => return Some(block.clone()),
        ("image", "url") => json!({"type": "image_url", "image_url": {"url": source["url"]}}),
        ("image", "base64") => json!({"type": "image_url", "image_url": {"url": data()}}),
        ("document", "base64") => json!({"type": "file", "file": {"file_data": data()}}),
        ("document", "file") => json!({"type": "file", "file": {"file_id": source["file_id"]}}),
        ("document", "text") => {
            use base64::Engine as _;
            let encoded = base64::engine::general_purpose::STANDARD.encode(text(&source["data"]));
            json!({"type": "file", "file": {"file_data": format!("data:text/plain;base64,{encoded}")}})
        }
        _ => return None,
    };
    for (name, value) in block.as_object().unwrap() {
        if name != "type" && name != "source" {
            part[name] = value.clone();
        }
    }
    Some(part)
}

fn tool_to_openai(tool: &Value) -> Value {
    if tool.get("type").is_some() {
        return tool.clone();
    }
    let mut made = json!({"type": "function", "function": {"parameters": tool["input_schema"]}});
    for (name, value) in tool.as_object().unwrap() {
        match name.as_str() {
            "input_schema" => {}
            "name" | "description" | "strict" => made["function"][name] = value.clone(),
            _ => made[name] = value.clone(),
        }
    }
    made
}

fn choice_to_openai(choice: &Value) -> Value {
    match text(&choice["type"]) {
        "any" => json!("required"),
        "tool" => json!({"type": "function", "function": {"name": choice["name"]}}),
        word => json!(word),
    }
}

/// The same request in one of its several spellings: contents as blocks, neutral members gone, numbers as floats.
fn normal(request: &Value) -> Value {
    let mut request = request.clone();
    let members = request.as_object_mut().unwrap();
    if members.get("stream") == Some(&Value::Bool(false)) {
        members.remove("stream");
    }
    if let Some(temperature) = members.get_mut("temperature") {
        *temperature = temperature.as_f64().into();
    }
    if let Some(system) = members.get_mut("system") {
        as_blocks(system);
    }
    let mut turns: Vec<Value> = Vec::new();
    for mut turn in members.remove("messages").unwrap().as_array().unwrap().iter().cloned() {
        as_blocks(&mut turn["content"]);
        for block in turn["content"].as_array_mut().unwrap() {
            if block["type"] == "tool_result" {
                let block = block.as_object_mut().unwrap();
                block.entry("content").and_modify(as_blocks).or_insert_with(|| json!([]));
                block.retain(|name, value| name != "is_error" || value == true);
            }
        }
        match turns.last_mut().filter(|last| last["role"] == turn["role"]) {
            Some(last) => {
                let more = turn["content"].as_array().unwrap().clone();
                last["content"].as_array_mut().unwrap().extend(more);
            }
            None => turns.push(turn),
        }
    }
    request["messages"] = turns.into();
    request
}

fn as_blocks(content: &mut Value) {
    if let Some(words) = content.as_str() {
        *content = if words.is_empty() { json!([]) } else { json!([{"type": "text", "text": words}]) };
    }
}

#[test]
fn every_recorded_request_can_be_made_through_openais_api() {
    let (mut passed, mut own_blocks, mut left_out) = (0, 0, BTreeMap::new());
    for record in answered() {
        let recorded = &record["request_body"];
        let request = match to_openai(recorded) {
            Ok(request) => request,
            Err(why) => {
                *left_out.entry(why).or_insert(0) += 1;
                continue;
            }
        };
        let body = Body::scan(Bytes::from(request.to_string())).unwrap();
        own_blocks += usize::from(request.to_string().contains("content_blocks"));
        let request = ChatRequest::parse(&body).unwrap_or_else(|error| panic!("{}: {error}", record["id"]));
        let model = text(&recorded["model"]);
        let made = request::translate(&request, model).unwrap_or_else(|error| panic!("{}: {error}", record["id"]));
        let sent = crate::api::literal::value(&made.request);
        let warnings = made.warnings.into_names();
        assert_eq!(normal(&sent), normal(recorded), "{}", record["id"]);
        assert!(warnings.is_empty(), "{}: {warnings:?}", record["id"]);
        passed += 1;
    }
    println!("requests: {passed} passed, {own_blocks} of them with Anthropic's own blocks; left out: {left_out:?}");
}
