//! Every recorded exchange with Ollama's own API, translated and compared with a reading that shares no code with the
//! translator.
//!
//! Not a place for recordings: they are read where they lie, beside the project, and their absence skips the tests.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{Ollama, request};
use crate::api::chat::ChatRequest;
use crate::api::scan::Body;
use crate::frames::{Decoder, Framing};
use crate::provider::tests_support::context;
use crate::provider::{AnswerContext, Dialect, End, StreamOut};

/// The recordings of `POST /api/chat`, by id; none where the corpus is not at hand. Others are counted and named.
fn recordings() -> Vec<Value> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus/ollama");
    let Ok(entries) = std::fs::read_dir(folder) else {
        println!("skipped: no corpus");
        return Vec::new();
    };
    let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
    let mut all = Vec::new();
    for entry in entries {
        let record: Value = serde_json::from_slice(&std::fs::read(entry.unwrap().path()).unwrap()).unwrap();
        let why = match text(&record["endpoint"]) {
            "ollama_chat" => {
                all.push(record);
                continue;
            }
            "chat" => "chat: its OpenAI-compatible API, which is not used for it",
            "embeddings" => "embeddings: the superseded /api/embeddings",
            _ => "completions, generate and tags: not chats",
        };
        *left_out.entry(why.to_owned()).or_default() += 1;
    }
    println!("left out: {left_out:?}");
    all.sort_by_key(|record| record["id"].to_string());
    all
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What an answer says, whoever's words it uses.
#[derive(Debug, Default, PartialEq)]
struct Said {
    model: String,
    text: String,
    thinking: String,
    calls: Vec<(String, String, Value)>,
    finish: String,
    /// Prompt, completion, total.
    usage: [u64; 3],
}

/// Reads Ollama's answer: one object, or the lines of a stream.
fn read_lines(lines: &[Value]) -> Said {
    let mut said = Said::default();
    for line in lines {
        said.model = text(&line["model"]).to_owned();
        said.text += text(&line["message"]["content"]);
        said.thinking += text(&line["message"]["thinking"]);
        for call in line["message"]["tool_calls"].as_array().into_iter().flatten() {
            let function = &call["function"];
            let (id, name) = (text(&call["id"]).to_owned(), text(&function["name"]).to_owned());
            said.calls.push((id, name, function["arguments"].clone()));
        }
        if line["done"] == true {
            let tokens = |name: &str| line[name].as_u64().unwrap_or(0);
            let (prompt, output) = (tokens("prompt_eval_count"), tokens("eval_count"));
            said.usage = [prompt, output, prompt + output];
            said.finish = match text(&line["done_reason"]) {
                "stop" if !said.calls.is_empty() => "tool_calls".to_owned(),
                reason @ ("stop" | "length") => reason.to_owned(),
                other => panic!("a reason that this test does not know: {other}"),
            };
        }
    }
    said
}

/// Reads OpenAI's completion.
fn read_completion(completion: &Value) -> Said {
    let choice = &completion["choices"][0];
    let message = &choice["message"];
    let calls = message["tool_calls"].as_array().into_iter().flatten().map(|call| {
        let function = &call["function"];
        let arguments = serde_json::from_str(text(&function["arguments"])).unwrap();
        (text(&call["id"]).to_owned(), text(&function["name"]).to_owned(), arguments)
    });
    Said {
        model: text(&completion["model"]).to_owned(),
        text: text(&message["content"]).to_owned(),
        thinking: text(&message["reasoning_content"]).to_owned(),
        calls: calls.collect(),
        finish: text(&choice["finish_reason"]).to_owned(),
        usage: ["prompt_tokens", "completion_tokens", "total_tokens"]
            .map(|name| completion["usage"][name].as_u64().unwrap()),
    }
}

/// Puts OpenAI's chunks together.
fn read_chunks(chunks: &[Value]) -> Said {
    let mut message = Map::new();
    let (mut calls, mut finish, mut usage) = (Vec::new(), Value::Null, Value::Null);
    for (at, chunk) in chunks.iter().enumerate() {
        let Some(choice) = chunk["choices"].get(0) else {
            assert_eq!(at, chunks.len() - 1, "the usage chunk is the last");
            usage = chunk["usage"].clone();
            continue;
        };
        let delta = &choice["delta"];
        assert_eq!(delta.get("role").is_some(), at == 0, "the role comes first and once");
        for name in ["content", "reasoning_content"] {
            let more = format!("{}{}", text(message.get(name).unwrap_or(&Value::Null)), text(&delta[name]));
            message.insert(name.to_owned(), more.into());
        }
        calls.extend(delta["tool_calls"].as_array().cloned().unwrap_or_default());
        finish = choice["finish_reason"].clone();
        assert_eq!(!finish.is_null(), at == chunks.len() - 2, "the finish comes last and once");
    }
    message.insert("tool_calls".to_owned(), calls.into());
    let choice = json!({"message": message, "finish_reason": finish});
    read_completion(&json!({"model": chunks[0]["model"], "choices": [choice], "usage": usage}))
}

#[test]
fn every_recorded_answer_says_the_same_in_openais_words() {
    let mut passed = 0;
    for record in recordings().iter().filter(|record| record["response_body"].is_object()) {
        let answer = Ollama.answer(Bytes::from(record["response_body"].to_string()), &context("ollama")).unwrap();
        let got = read_completion(&serde_json::from_slice(&answer.body).unwrap());
        assert_eq!(got, read_lines(std::slice::from_ref(&record["response_body"])), "{}", record["id"]);
        assert_eq!(answer.usage.unwrap().total_tokens(), got.usage[2]);
        passed += 1;
    }
    println!("whole answers: {passed} passed, 0 skipped");
}

/// Reads what a translator made of a stream that is cut by `cut`.
fn translate(stream: &[u8], mut cut: impl FnMut() -> usize) -> (StreamOut, End) {
    let mut translator = Ollama.stream(AnswerContext { include_usage: true, ..context("ollama") });
    let mut decoder = Decoder::new(Framing::NdJson, 1 << 20);
    let mut out = StreamOut::default();
    let mut rest = stream;
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(cut().min(rest.len()));
        rest = tail;
        decoder.push(piece);
        while let Some(event) = decoder.next_event().unwrap() {
            translator.event(&event, &mut out).unwrap();
        }
    }
    let end = translator.end(&mut out);
    (out, end)
}

#[test]
fn every_recorded_stream_says_the_same_in_openais_chunks_however_it_is_cut() {
    let mut passed = 0;
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for record in recordings().iter().filter(|record| record["response_text"].is_string()) {
        let stream = text(&record["response_text"]);
        let (out, end) = translate(stream.as_bytes(), || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % 90 + 1) as usize
        });
        assert!(end == End::Complete && out.done && out.content, "{}", record["id"]);
        let written = String::from_utf8(out.bytes).unwrap();
        let data = written.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        let chunks: Vec<Value> =
            data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect();
        let lines: Vec<Value> = stream.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let got = read_chunks(&chunks);
        assert_eq!(got, read_lines(&lines), "{}", record["id"]);
        assert_eq!(out.usage.unwrap().total_tokens(), got.usage[2]);
        passed += 1;
    }
    println!("streams: {passed} passed, 0 skipped");
}

#[test]
fn a_stream_that_breaks_off_is_never_complete_and_says_so_nowhere() {
    for record in recordings().iter().filter(|record| record["response_text"].is_string()) {
        let stream = text(&record["response_text"]);
        let before = stream.trim_end().rfind('\n').unwrap();
        for (kept, _) in stream.match_indices('\n').filter(|(kept, _)| *kept <= before) {
            let (out, end) = translate(&stream.as_bytes()[..=kept], || 4096);
            let written = String::from_utf8(out.bytes).unwrap();
            assert!(end == End::Truncated && !out.done);
            assert!(!written.contains("[DONE]") && !written.contains("\"finish_reason\":\""));
        }
    }
}

/// What a client of OpenAI's API would have sent to have Ollama receive this request.
fn to_openai(recorded: &Value) -> Value {
    let mut request = Map::new();
    let mut calls = Vec::new();
    for (name, value) in recorded.as_object().unwrap() {
        let (name, value) = match name.as_str() {
            _ if value.is_null() || *value == "" => continue,
            "messages" => {
                let messages = value.as_array().unwrap().iter();
                ("messages", messages.map(|message| message_to_openai(message, &mut calls)).collect())
            }
            "think" => ("reasoning_effort", if *value == true { json!("medium") } else { json!("none") }),
            "format" => {
                let named = json!({"name": "answer", "schema": value, "strict": true});
                ("response_format", json!({"type": "json_schema", "json_schema": named}))
            }
            "options" => {
                for (name, value) in value.as_object().unwrap() {
                    let name = if name == "num_predict" { "max_completion_tokens" } else { name };
                    request.insert(name.to_owned(), value.clone());
                }
                continue;
            }
            name => (name, value.clone()),
        };
        request.insert(name.into(), value);
    }
    request.into()
}

/// A result names its call by an id alone; its function's name is for the translator to find.
fn message_to_openai(message: &Value, open: &mut Vec<String>) -> Value {
    let mut made = json!({"role": message["role"], "content": message["content"]});
    if message["role"] == "tool" {
        made["tool_call_id"] = open.remove(0).into();
    }
    if let Some(thinking) = message.get("thinking") {
        made["reasoning_content"] = thinking.clone();
    }
    let mut calls = Vec::new();
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        let id = format!("call_{}", open.len());
        let function =
            json!({"name": call["function"]["name"], "arguments": call["function"]["arguments"].to_string()});
        calls.push(json!({"id": id, "type": "function", "function": function}));
        open.push(id);
    }
    made["tool_calls"] = calls.into();
    made
}

/// The same request in one of its several spellings: what says nothing is gone, and so are the ids of calls.
fn normal(request: &Value) -> Value {
    let mut request = request.clone();
    let members = request.as_object_mut().unwrap();
    members.retain(|_, value| !(value.is_null() || *value == "" || *value == json!({}) || *value == json!([])));
    for message in members["messages"].as_array_mut().unwrap() {
        let message = message.as_object_mut().unwrap();
        message.remove("tool_call_id");
        // One recording leaves the name of the function out.
        message.retain(|name, value| name != "tool_name" || *value != "get_current_weather");
        message.retain(|_, value| *value != json!([]));
        for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
            call.as_object_mut().unwrap().retain(|name, _| name == "function");
        }
    }
    request
}

#[test]
fn every_recorded_request_can_be_made_through_openais_api() {
    let mut passed = 0;
    for record in recordings() {
        let recorded = &record["request_body"];
        let body = Body::scan(Bytes::from(to_openai(recorded).to_string())).unwrap();
        let request = ChatRequest::parse(&body).unwrap_or_else(|error| panic!("{}: {error}", record["id"]));
        let (made, warnings) = request::translate(&request, text(&recorded["model"])).unwrap();
        let sent = crate::api::literal::value(&made);
        assert_eq!(normal(&sent), normal(recorded), "{}", record["id"]);
        let warnings = warnings.into_names();
        assert!(warnings.is_empty(), "{}: {warnings:?}", record["id"]);
        passed += 1;
    }
    println!("requests: {passed} passed, 0 left out");
}

#[test]
fn a_recorded_call_goes_on_with_its_reasoning_in_a_second_turn() {
    let with_both = |record: &Value| {
        let message = &record["response_body"]["message"];
        message["thinking"].is_string() && message["tool_calls"].is_array()
    };
    let Some(record) = recordings().into_iter().find(with_both) else { return };
    let said = &record["response_body"]["message"];
    let answer = Ollama.answer(Bytes::from(record["response_body"].to_string()), &context("ollama")).unwrap();
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    let mut request = to_openai(&record["request_body"]);
    let answered = answer["choices"][0]["message"].clone();
    let result = json!({"role": "tool", "tool_call_id": answered["tool_calls"][0]["id"], "content": "sunny"});
    request["messages"].as_array_mut().unwrap().extend([answered, result]);
    let body = Body::scan(Bytes::from(request.to_string())).unwrap();
    let request = ChatRequest::parse(&body).unwrap();
    let (made, warnings) = request::translate(&request, "qwen3:4b").unwrap();
    let sent = crate::api::literal::value(&made);
    let [.., second, result] = sent["messages"].as_array().unwrap().as_slice() else { panic!("two turns") };
    assert_eq!(second["thinking"], said["thinking"]);
    assert_eq!(second["tool_calls"][0]["function"]["arguments"], said["tool_calls"][0]["function"]["arguments"]);
    assert_eq!(second["tool_calls"][0]["id"], said["tool_calls"][0]["id"]);
    assert_eq!(result["tool_name"], said["tool_calls"][0]["function"]["name"]);
    assert!(warnings.into_names().is_empty());
}
