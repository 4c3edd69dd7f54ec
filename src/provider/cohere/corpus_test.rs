//! Every recorded exchange with Cohere's `/v2/chat` and `/v2/embed`, translated and compared with a reading that shares no
//! code with the translator.
//!
//! Not a place for recordings: they are read where they lie, beside the project, and their absence skips the tests.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{COHERE, Chat, request};
use crate::api::chat::ChatRequest;
use crate::api::scan::Body;
use crate::config::Secret;
use crate::frames::{Decoder, Framing};
use crate::provider::tests_support::{citations, gather, unnumbered};
use crate::provider::{AnswerContext, Dialect, End, Endpoint, StreamOut, Target};

fn recordings(endpoint: &str) -> Vec<Value> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus/cohere");
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

fn context() -> AnswerContext {
    AnswerContext { include_usage: true, ..crate::provider::tests_support::context("cohere") }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What an answer says, whoever's words it uses.
#[derive(Debug, Default, PartialEq)]
struct Said {
    id: String,
    text: String,
    reasoning: String,
    thinking: Vec<Value>,
    calls: Vec<(String, String, String)>,
    finish: String,
    usage: [u64; 3],
    citations: Vec<Value>,
    native_usage: Value,
}

/// Reads Cohere's own answer object.
fn read_cohere(answer: &Value) -> Said {
    let message = &answer["message"];
    let mut said = Said { id: text(&answer["id"]).into(), ..Said::default() };
    for item in message["content"].as_array().into_iter().flatten() {
        said.text += text(&item["text"]);
        if item["type"] == "thinking" {
            said.reasoning += text(&item["thinking"]);
            said.thinking.push(item.clone());
        }
    }
    said.reasoning += text(&message["tool_plan"]);
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        let arguments = text(&call["function"]["arguments"]);
        let arguments = if matches!(arguments, "" | "null") { "{}" } else { arguments };
        said.calls.push((text(&call["id"]).into(), text(&call["function"]["name"]).into(), arguments.into()));
    }
    said.finish = match text(&answer["finish_reason"]) {
        "COMPLETE" | "STOP_SEQUENCE" => "stop",
        "MAX_TOKENS" => "length",
        "TOOL_CALL" => "tool_calls",
        other => panic!("a finish reason that this test does not know: {other}"),
    }
    .to_owned();
    let billed = |name: &str| answer["usage"]["billed_units"][name].as_f64().unwrap() as u64;
    let (input, output) = (billed("input_tokens"), billed("output_tokens"));
    said.usage = [input, output, input + output];
    said.citations = message["citations"].as_array().cloned().unwrap_or_default();
    said.native_usage = answer["usage"].clone();
    said
}

/// Puts Cohere's events together as its documentation describes them.
fn collect_events(events: &[Value]) -> Value {
    let mut answer = json!({"message": {"content": [], "tool_calls": [], "citations": []}});
    let append = |place: &mut Value, more: &Value| *place = format!("{}{}", text(place), text(more)).into();
    for event in events {
        let delta = &event["delta"]["message"];
        match text(&event["type"]) {
            "message-start" => answer["id"] = event["id"].clone(),
            "tool-plan-delta" => append(&mut answer["message"]["tool_plan"], &delta["tool_plan"]),
            "content-start" => answer["message"]["content"].as_array_mut().unwrap().push(delta["content"].clone()),
            "content-delta" => {
                let item = answer["message"]["content"].as_array_mut().unwrap().last_mut().unwrap();
                for (name, more) in delta["content"].as_object().unwrap() {
                    append(&mut item[name], more);
                }
            }
            "tool-call-start" => {
                answer["message"]["tool_calls"].as_array_mut().unwrap().push(delta["tool_calls"].clone())
            }
            "tool-call-delta" => {
                let call = &mut answer["message"]["tool_calls"][event["index"].as_u64().unwrap() as usize];
                append(&mut call["function"]["arguments"], &delta["tool_calls"]["function"]["arguments"]);
            }
            "citation-start" => answer["message"]["citations"].as_array_mut().unwrap().push(delta["citations"].clone()),
            "message-end" => {
                for (name, value) in event["delta"].as_object().unwrap() {
                    answer[name] = value.clone();
                }
            }
            "content-end" | "tool-call-end" | "citation-end" => {}
            other => panic!("an event that this test does not know: {other}"),
        }
    }
    answer
}

/// Reads OpenAI's completion object.
fn read_openai(completion: &Value) -> Said {
    let choice = &completion["choices"][0];
    let message = &choice["message"];
    let list = |name: &str| message[name].as_array().cloned().unwrap_or_default();
    let call = |call: &Value| {
        assert_eq!(call["type"], "function");
        let part = |pointer: &str| text(call.pointer(pointer).unwrap()).to_owned();
        (part("/id"), part("/function/name"), part("/function/arguments"))
    };
    let usage = |name: &str| completion["usage"][name].as_u64().unwrap();
    Said {
        id: text(&completion["id"]).into(),
        text: text(&message["content"]).into(),
        reasoning: text(&message["reasoning_content"]).into(),
        thinking: unnumbered(list("thinking_blocks")),
        calls: list("tool_calls").iter().map(call).collect(),
        finish: text(&choice["finish_reason"]).into(),
        usage: [usage("prompt_tokens"), usage("completion_tokens"), usage("total_tokens")],
        citations: citations(message),
        native_usage: message["provider_specific_fields"]["usage"].clone(),
    }
}

/// Puts OpenAI's chunks together as its SDKs do, checking what every chunk must have.
fn collect_chunks(bytes: &[u8]) -> Value {
    let stream = std::str::from_utf8(bytes).unwrap();
    let mut lines: Vec<&str> =
        stream.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap()).collect();
    assert_eq!(lines.pop(), Some("[DONE]"));
    let mut completion = json!({"choices": [{"message": {"tool_calls": []}}]});
    let count = lines.len();
    for (at, line) in lines.into_iter().enumerate() {
        let chunk: Value = serde_json::from_str(line).unwrap();
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert!(completion.get("id").is_none_or(|id| *id == chunk["id"]), "the id is stable");
        completion["id"] = chunk["id"].clone();
        let Some(choice) = chunk["choices"].get(0) else {
            assert_eq!(at, count - 1, "the usage chunk is the last");
            completion["usage"] = chunk["usage"].clone();
            continue;
        };
        assert_eq!(choice["delta"].get("role").is_some(), at == 0, "the role comes first and once");
        assert_eq!(!choice["finish_reason"].is_null(), at == count - 2, "the finish comes last and once");
        completion["choices"][0]["finish_reason"] = choice["finish_reason"].clone();
        for (name, value) in choice["delta"].as_object().unwrap() {
            let place = &mut completion["choices"][0]["message"][name];
            match value {
                Value::Array(pieces) if name == "tool_calls" => {
                    for piece in pieces {
                        let calls = place.as_array_mut().unwrap();
                        match calls.get_mut(piece["index"].as_u64().unwrap() as usize) {
                            None => calls.push(piece.clone()),
                            Some(call) => {
                                let place = &mut call["function"]["arguments"];
                                *place = format!("{}{}", text(place), text(&piece["function"]["arguments"])).into();
                            }
                        }
                    }
                }
                more => gather(place, more),
            }
        }
    }
    completion
}

/// The events of a recorded stream; recordings without framing have only these.
fn events_of(record: &Value) -> Option<Vec<Value>> {
    if let Some(events) = record["response_events"].as_array() {
        return Some(events.clone());
    }
    let lines = record["response_text"].as_str()?.lines().filter_map(|line| line.strip_prefix("data:"));
    let lines = lines.filter(|line| line.trim() != "[DONE]");
    Some(lines.map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// The stream as bytes: as recorded, or framed as Cohere frames it.
fn stream_of(record: &Value, events: &[Value]) -> String {
    match record["response_text"].as_str() {
        Some(stream) => stream.to_owned(),
        None => events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", text(&event["type"]))).collect(),
    }
}

#[test]
fn every_recorded_answer_says_the_same_in_openais_words() {
    let mut passed = 0;
    for record in recordings("chat_v2").iter().filter(|record| record["response_status"] == 200) {
        if !record["response_body"].is_object() {
            continue;
        }
        let answer = Chat.answer(Bytes::from(record["response_body"].to_string()), &context()).unwrap();
        let got = read_openai(&serde_json::from_slice(&answer.body).unwrap());
        assert_eq!(got, read_cohere(&record["response_body"]), "{}", record["id"]);
        assert_eq!(answer.usage.unwrap().total_tokens(), got.usage[2]);
        passed += 1;
    }
    println!("whole answers: {passed} passed, 0 left out (streams are another test's)");
}

#[test]
fn every_recorded_stream_says_the_same_in_openais_chunks_however_it_is_cut() {
    let (mut passed, mut failed_at_cohere) = (0, 0);
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for record in &recordings("chat_v2") {
        let Some(events) = events_of(record) else { continue };
        let stream = stream_of(record, &events);
        let ends_in_error = events.last().unwrap()["delta"]["finish_reason"] == "ERROR";
        let (mut translator, mut out) = (Chat.stream(context()), StreamOut::default());
        let mut decoder = Decoder::new(Framing::Sse, 1 << 20);
        let mut rest = stream.as_bytes();
        let mut error = None;
        while !rest.is_empty() {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let (piece, tail) = rest.split_at((random % 90 + 1).min(rest.len() as u64) as usize);
            rest = tail;
            decoder.push(piece);
            while let Some(event) = decoder.next_event().unwrap() {
                error = error.or(translator.event(&event, &mut out).err());
            }
        }
        if ends_in_error {
            assert_eq!(error.unwrap().message(), text(&events.last().unwrap()["delta"]["error"]));
            assert!(!out.done, "an error is no end");
            failed_at_cohere += 1;
            continue;
        }
        assert!(error.is_none(), "{}: {error:?}", record["id"]);
        assert_eq!(translator.end(&mut out), End::Complete);
        assert!(out.done && out.content);
        let got = read_openai(&collect_chunks(&out.bytes));
        assert_eq!(got, read_cohere(&collect_events(&events)), "{}", record["id"]);
        assert_eq!(out.usage.unwrap().total_tokens(), got.usage[2]);
        passed += 1;
    }
    println!("streams: {passed} passed, {failed_at_cohere} ended in an error at Cohere and here, 0 left out");
}

#[test]
fn a_stream_that_breaks_off_is_never_complete() {
    for record in &recordings("chat_v2") {
        let Some(events) = events_of(record) else { continue };
        for kept in (0..events.len()).step_by(7) {
            let mut decoder = Decoder::new(Framing::Sse, 1 << 20);
            events.iter().take(kept).for_each(|event| decoder.push(format!("data: {event}\n\n").as_bytes()));
            let (mut translator, mut out) = (Chat.stream(context()), StreamOut::default());
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
fn every_recorded_error_is_read() {
    let mut passed = 0;
    for record in recordings("chat_v2").iter().chain(&recordings("embeddings")) {
        if record["response_status"] == 200 {
            continue;
        }
        let said = Chat.read_error(record["response_body"].to_string().as_bytes());
        assert_eq!(said.message.as_deref(), record["response_body"]["message"].as_str());
        assert_eq!(said.code.as_deref(), Some("model_not_found"));
        assert_eq!(record["response_status"], 404);
        passed += 1;
    }
    println!("errors: {passed} passed");
}

/// What a client of OpenAI's API would have sent to have Cohere receive this request; `Err` says why it can't.
fn to_openai(recorded: &Value) -> Result<Value, &'static str> {
    let mut request = Map::new();
    for (name, value) in recorded.as_object().ok_or("no request was recorded")? {
        let (name, value) = match name.as_str() {
            "messages" => {
                (name.as_str(), value.as_array().unwrap().iter().map(message_to_openai).collect::<Result<_, _>>()?)
            }
            "stop_sequences" => ("stop", value.clone()),
            "tool_choice" if value == "REQUIRED" => ("tool_choice", json!("required")),
            "tool_choice" => ("tool_choice", json!("none")),
            "response_format" => match value.get("schema") {
                Some(schema) => {
                    let named = json!({"name": "x", "schema": schema});
                    ("response_format", json!({"type": "json_schema", "json_schema": named}))
                }
                None => ("response_format", value.clone()),
            },
            name => (name, value.clone()),
        };
        request.insert(name.to_owned(), value);
    }
    Ok(request.into())
}

fn message_to_openai(message: &Value) -> Result<Value, &'static str> {
    let mut made = message.clone();
    let members = made.as_object_mut().unwrap();
    if let Some(plan) = members.remove("tool_plan") {
        members.insert("reasoning_content".to_owned(), plan);
    }
    if let Some(Value::Array(items)) = members.get_mut("content") {
        if items.iter().any(|item| item["type"] == "document") {
            return Err("a tool's result as a document, which OpenAI has no form for");
        }
        let thinking: Vec<Value> = items.iter().filter(|item| item["type"] == "thinking").cloned().collect();
        items.retain(|item| item["type"] != "thinking");
        if !thinking.is_empty() {
            members.insert("thinking_blocks".to_owned(), thinking.into());
        }
    }
    Ok(made)
}

/// The same request in one of its several spellings: contents as items, what says nothing gone, numbers as floats.
fn normal(request: &Value) -> Value {
    let mut request = request.clone();
    let members = request.as_object_mut().unwrap();
    members.retain(|_, value| !value.is_null() && *value != json!(false) && *value != json!([]));
    if let Some(temperature) = members.get_mut("temperature") {
        *temperature = temperature.as_f64().into();
    }
    for message in members.get_mut("messages").unwrap().as_array_mut().unwrap() {
        let message = message.as_object_mut().unwrap();
        if let Some(words) = message.get("content").and_then(Value::as_str) {
            message.insert("content".to_owned(), json!([{"type": "text", "text": words}]));
        }
        message.retain(|_, value| !value.is_null() && *value != json!([]));
    }
    request
}

#[test]
fn every_recorded_request_can_be_made_through_openais_api() {
    let (mut passed, mut left_out) = (0, BTreeMap::new());
    for record in recordings("chat_v2").iter().filter(|record| record["response_status"] == 200) {
        let recorded = &record["request_body"];
        let request = match to_openai(recorded) {
            Ok(request) => request,
            Err(why) => {
                *left_out.entry(why).or_insert(0) += 1;
                continue;
            }
        };
        let body = Body::scan(Bytes::from(request.to_string())).unwrap();
        let request = ChatRequest::parse(&body).unwrap_or_else(|error| panic!("{}: {error}", record["id"]));
        let (made, warnings) = request::translate(&request, text(&recorded["model"]))
            .unwrap_or_else(|error| panic!("{}: {error}", record["id"]));
        assert_eq!(normal(&crate::api::literal::value(&made)), normal(recorded), "{}", record["id"]);
        assert_eq!(warnings.into_names(), Vec::<String>::new(), "{}", record["id"]);
        passed += 1;
    }
    println!("requests: {passed} passed; left out: {left_out:?}");
}

#[test]
fn a_tool_loop_goes_on_where_it_stopped() {
    let mut passed = 0;
    for record in recordings("chat_v2").iter().filter(|record| record["response_status"] == 200) {
        // A call without arguments goes on as one with none: an empty object.
        let said =
            record["response_body"]["message"].to_string().replace(r#""arguments":"null""#, r#""arguments":"{}""#);
        let said: Value = serde_json::from_str(&said).unwrap();
        if !said["tool_calls"].is_array() {
            continue;
        }
        let answer = Chat.answer(Bytes::from(record["response_body"].to_string()), &context()).unwrap();
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        let result = json!({"role": "tool", "tool_call_id": said["tool_calls"][0]["id"], "content": "1"});
        let messages = json!([{"role": "user", "content": "q"}, answer["choices"][0]["message"], result]);
        let request = json!({"model": "m", "messages": messages}).to_string();
        let request = ChatRequest::parse(&Body::scan(Bytes::from(request)).unwrap()).unwrap();
        let (made, warnings) = request::translate(&request, "m").unwrap();
        let sent = crate::api::literal::value(&made);
        for name in ["tool_plan", "content", "tool_calls"] {
            let (sent, said) = (&sent["messages"][1][name], &said[name]);
            assert_eq!(sent, if *said == json!([]) { &Value::Null } else { said }, "{}: {name}", record["id"]);
        }
        assert_eq!(warnings.into_names(), Vec::<String>::new());
        passed += 1;
    }
    println!("tool loops: {passed} passed");
}

#[test]
fn every_recorded_embedding_arrives_and_could_have_been_asked_for() {
    let (mut passed, mut requests) = (0, 0);
    for record in recordings("embeddings") {
        let recorded = &record["request_body"];
        let asked = json!({"model": recorded["model"], "input": recorded["texts"], "input_type": recorded["input_type"],
            "truncate": recorded["truncate"]});
        let body = Body::scan(Bytes::from(asked.to_string())).unwrap();
        let endpoint = Endpoint::parse(COHERE.base_url).unwrap();
        let (key, options) = (Secret::new("key"), Map::new());
        let target = Target {
            provider: &COHERE,
            endpoint: &endpoint,
            key: &key,
            options: &options,
            model: text(&recorded["model"]),
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        let outgoing = Chat.embeddings(&body, &target).unwrap();
        let mut sent: Value = serde_json::from_slice(&outgoing.body.whole()).unwrap();
        let mut recorded = recorded.clone();
        recorded.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        // The first version of the API has a default for this one.
        if recorded.get("embedding_types").is_none() {
            sent.as_object_mut().unwrap().remove("embedding_types");
        }
        assert_eq!(sent, recorded, "{}", record["id"]);
        requests += 1;
        if record["response_status"] != 200 {
            continue;
        }
        let body = &record["response_body"];
        let answer = Chat.embeddings_answer(Bytes::from(body.to_string()), &context()).unwrap();
        let got: Value = serde_json::from_slice(&answer.body).unwrap();
        let vectors: Vec<Value> = got["data"].as_array().unwrap().iter().map(|one| one["embedding"].clone()).collect();
        assert_eq!(json!(vectors), body["embeddings"]["float"]);
        assert_eq!(got["usage"]["prompt_tokens"], body["meta"]["billed_units"]["input_tokens"]);
        passed += 1;
    }
    println!("embeddings: {passed} answers and {requests} requests passed");
}
