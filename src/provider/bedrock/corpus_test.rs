//! Every recorded exchange with Bedrock's Converse, translated and compared with a reading that shares no code with the
//! translator.
//!
//! Not a place for recordings: they are read where they lie, beside the project, and their absence skips the tests. Left out
//! are Bedrock's other endpoints, which this dialect does not speak: InvokeModel (every model's own format), its stream,
//! `CountTokens`, and the OpenAI-compatible ones (chat, responses), which are OpenAI's dialect at another address.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{Converse, request};
use crate::api::chat::ChatRequest;
use crate::api::scan::Body;
use crate::error::ErrorKind;
use crate::frames::{Decoder, Framing};
use crate::provider::tests_support::{citations, context, gather};
use crate::provider::warnings::Warnings;
use crate::provider::{Dialect, End, StreamOut};
use crate::sse;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The recordings of these endpoints, by id; none where the corpus is not at hand.
fn recordings(endpoints: &[&str]) -> Vec<Value> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus/bedrock");
    let Ok(entries) = std::fs::read_dir(folder) else {
        println!("skipped: no corpus");
        return Vec::new();
    };
    let mut all: Vec<Value> = entries
        .map(|entry| serde_json::from_slice(&std::fs::read(entry.unwrap().path()).unwrap()).unwrap())
        .filter(|record: &Value| endpoints.contains(&text(&record["endpoint"])))
        .collect();
    all.sort_by_key(|record| record["id"].to_string());
    all
}

fn both() -> Vec<Value> {
    recordings(&["converse", "converse_stream"])
}

/// What an answer says, whoever's words it uses.
#[derive(Debug, Default, PartialEq)]
struct Said {
    text: String,
    reasoning: String,
    /// Text, signature and redacted content of each piece, joined.
    signed: Vec<String>,
    calls: Vec<(String, String, Value)>,
    finish: String,
    /// Prompt, completion, total, cached, written.
    usage: [u64; 5],
    citations: Vec<Value>,
    /// All blocks, when some of them have no place at OpenAI.
    native: Option<Value>,
    trace: Value,
}

/// Reads Converse's own answer.
fn read_answer(answer: &Value) -> Said {
    let mut said = Said { trace: answer["trace"].clone(), ..Said::default() };
    let blocks = &answer["output"]["message"]["content"];
    for block in blocks.as_array().unwrap() {
        let name = block.as_object().unwrap().keys().find(|name| *name != "type").unwrap();
        let inner = &block[name];
        match name.as_str() {
            "text" => said.text += text(inner),
            "citationsContent" => {
                inner["content"].as_array().unwrap().iter().for_each(|piece| said.text += text(&piece["text"]));
                said.citations.extend(inner["citations"].as_array().unwrap().clone());
            }
            "reasoningContent" => {
                let reasoning = &inner["reasoningText"];
                said.reasoning += text(&reasoning["text"]);
                let parts = [text(&reasoning["text"]), text(&reasoning["signature"]), text(&inner["redactedContent"])];
                said.signed.push(parts.join("|"));
            }
            "toolUse" if inner["type"] != "server_tool_use" => said.calls.push((
                text(&inner["toolUseId"]).to_owned(),
                text(&inner["name"]).to_owned(),
                inner["input"].clone(),
            )),
            "toolUse" | "toolResult" => said.native = Some(blocks.clone()),
            other => panic!("a block that this test does not know: {other}"),
        }
    }
    said.finish = match text(&answer["stopReason"]) {
        "end_turn" | "stop_sequence" => "stop",
        "max_tokens" => "length",
        "tool_use" => "tool_calls",
        "guardrail_intervened" => "content_filter",
        other => panic!("a stop reason that this test does not know: {other}"),
    }
    .to_owned();
    let tokens = |name: &str| answer["usage"][name].as_u64().unwrap_or(0);
    let (read, written) = (tokens("cacheReadInputTokens"), tokens("cacheWriteInputTokens"));
    let total = tokens("totalTokens");
    said.usage = [tokens("inputTokens") + read + written, tokens("outputTokens"), total, read, written];
    said
}

/// Reads OpenAI's completion.
fn read_completion(completion: &Value) -> Said {
    let choice = &completion["choices"][0];
    let message = &choice["message"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let calls = list(&message["tool_calls"]).into_iter().map(|call| {
        let (id, function) = (text(&call["id"]).to_owned(), &call["function"]);
        let arguments = text(&function["arguments"]);
        let input = serde_json::from_str(arguments).unwrap_or_else(|_| arguments.into());
        (id, text(&function["name"]).to_owned(), input)
    });
    let signed = list(&message["thinking_blocks"]).into_iter().map(|block| {
        let redacted = if block["encoding"] == "base64" {
            text(&block["data"]).to_owned()
        } else {
            STANDARD.encode(text(&block["data"]))
        };
        [text(&block["thinking"]), text(&block["signature"]), &redacted].join("|")
    });
    let usage = &completion["usage"];
    let tokens = |path: &str| usage.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let details = "/prompt_tokens_details";
    let fields = &message["provider_specific_fields"];
    Said {
        text: text(&message["content"]).to_owned(),
        reasoning: text(&message["reasoning_content"]).to_owned(),
        signed: signed.collect(),
        calls: calls.collect(),
        finish: text(&choice["finish_reason"]).to_owned(),
        usage: [
            tokens("/prompt_tokens"),
            tokens("/completion_tokens"),
            tokens("/total_tokens"),
            tokens(&format!("{details}/cached_tokens")),
            tokens(&format!("{details}/cache_write_tokens")),
        ],
        citations: citations(message).into_iter().map(native).collect(),
        native: fields.get("converse_blocks").cloned(),
        trace: fields["trace"].clone(),
    }
}

/// A citation without the place that it is given beside Converse's own words.
fn native(mut citation: Value) -> Value {
    let members = citation.as_object_mut().unwrap();
    assert!(["start_index", "end_index"].iter().all(|name| members.shift_remove(*name).is_some()));
    citation
}

#[test]
fn every_recorded_answer_says_the_same_in_openais_words() {
    let mut passed = 0;
    for record in recordings(&["converse"]).iter().filter(|record| record["response_status"] == 200) {
        let body = Bytes::from(record["response_body"].to_string());
        let answer = Converse.answer(body, &context("bedrock")).unwrap();
        let got = read_completion(&serde_json::from_slice(&answer.body).unwrap());
        let expected = read_answer(&record["response_body"]);
        assert_eq!(got, expected, "{}", record["id"]);
        assert_eq!(answer.usage.map_or(0, |usage| usage.total_tokens()), expected.usage[2], "{}", record["id"]);
        passed += 1;
    }
    println!("whole answers: {passed} passed, 0 left out");
}

/// The frames of a recorded stream as they came; built here where only the events were recorded.
fn frames(record: &Value) -> (Vec<u8>, Vec<(String, Value)>) {
    let events: Vec<(String, Value)> = record["response_events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| match event.get("event_type") {
            Some(name) => (text(name).to_owned(), event["payload"].clone()),
            None => {
                event.as_object().unwrap().iter().next().map(|(name, payload)| (name.clone(), payload.clone())).unwrap()
            }
        })
        .collect();
    if let Some(recorded) = record["response_base64"].as_str() {
        return (STANDARD.decode(recorded).unwrap(), events);
    }
    let built = events.iter().flat_map(|(name, payload)| frame(name, payload.to_string().as_bytes()));
    (built.collect(), events)
}

fn frame(event_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut headers = b"\x0b:event-type\x07".to_vec();
    headers.extend_from_slice(&(event_type.len() as u16).to_be_bytes());
    headers.extend_from_slice(event_type.as_bytes());
    let mut bytes = ((headers.len() + payload.len() + 16) as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(&(headers.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes.extend_from_slice(&headers);
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes
}

/// Puts a recorded stream together as AWS's documentation describes it.
fn read_events(events: &[(String, Value)]) -> Value {
    let mut blocks: BTreeMap<u64, Value> = BTreeMap::new();
    let mut inputs: BTreeMap<u64, String> = BTreeMap::new();
    let mut answer = json!({});
    for (name, payload) in events {
        let index = payload["contentBlockIndex"].as_u64().unwrap_or(0);
        match name.as_str() {
            "contentBlockStart" => drop(blocks.insert(index, payload["start"].clone())),
            "contentBlockDelta" => {
                let block = blocks.entry(index).or_insert_with(|| json!({}));
                let (kind, delta) = payload["delta"].as_object().unwrap().iter().next().unwrap();
                let join = |place: &mut Value, more: &str| *place = format!("{}{more}", text(place)).into();
                match kind.as_str() {
                    "text" => join(&mut block["text"], text(delta)),
                    "toolUse" => *inputs.entry(index).or_default() += text(&delta["input"]),
                    "reasoningContent" => {
                        for (name, more) in delta.as_object().unwrap() {
                            match name.as_str() {
                                "redactedContent" => join(&mut block["reasoningContent"][name], text(more)),
                                name => join(&mut block["reasoningContent"]["reasoningText"][name], text(more)),
                            }
                        }
                    }
                    "citation" => {
                        let mut all = block["citations"].as_array().cloned().unwrap_or_default();
                        all.push(delta.clone());
                        block["citations"] = all.into();
                    }
                    "toolResult" => block["toolResult"]["content"] = delta.clone(),
                    other => panic!("a delta that this test does not know: {other}"),
                }
            }
            "messageStop" | "metadata" => {
                answer.as_object_mut().unwrap().extend(payload.as_object().unwrap().clone());
            }
            _ => {}
        }
    }
    for (index, input) in inputs {
        let parsed = if input.is_empty() { json!({}) } else { serde_json::from_str(&input).unwrap_or(input.into()) };
        blocks.get_mut(&index).unwrap()["toolUse"]["input"] = parsed;
    }
    let whole = |block: Value| match block.get("citations").cloned() {
        Some(citations) => json!({"citationsContent": {"content": [{"text": block["text"]}], "citations": citations}}),
        None => block,
    };
    answer["output"] = json!({"message": {"content": blocks.into_values().map(whole).collect::<Vec<_>>()}});
    answer
}

/// Puts our chunks together into a completion, as an SDK does.
fn read_chunks(bytes: &[u8]) -> Value {
    let mut decoder = sse::Decoder::new(1 << 20);
    decoder.push(bytes);
    let events: Vec<_> = std::iter::from_fn(|| decoder.next_event().unwrap()).collect();
    let (last, chunks) = events.split_last().unwrap();
    assert_eq!(last.data.as_ref(), b"[DONE]");
    let mut completion = json!({"choices": [{"message": {}}]});
    let mut calls: Vec<Value> = Vec::new();
    for (at, chunk) in chunks.iter().enumerate() {
        let chunk: Value = serde_json::from_slice(&chunk.data).unwrap();
        if chunk["usage"].is_object() {
            completion["usage"] = chunk["usage"].clone();
        }
        let Some(choice) = chunk["choices"].get(0) else { continue };
        assert_eq!(choice["delta"].get("role").is_some(), at == 0);
        if !choice["finish_reason"].is_null() {
            completion["choices"][0]["finish_reason"] = choice["finish_reason"].clone();
        }
        for (name, value) in choice["delta"].as_object().unwrap() {
            let place = &mut completion["choices"][0]["message"][name.as_str()];
            match (name.as_str(), value) {
                ("tool_calls", Value::Array(pieces)) => pieces.iter().for_each(|piece| add_call(&mut calls, piece)),
                ("role", _) => {}
                (_, more) => gather(place, more),
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

/// Translates a stream in pieces of pseudo-random sizes.
fn translate(stream: &[u8], random: &mut u64) -> (StreamOut, End) {
    let mut context = context("bedrock");
    context.include_usage = true;
    let (mut translator, mut out) = (Converse.stream(context), StreamOut::default());
    let mut decoder = Decoder::new(Framing::AwsEventStream, 1 << 20);
    let mut rest = stream;
    while !rest.is_empty() {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        let (piece, tail) = rest.split_at((*random % 300 + 1).min(rest.len() as u64) as usize);
        rest = tail;
        decoder.push(piece);
        while let Some(event) = decoder.next_event().unwrap() {
            translator.event(&event, &mut out).unwrap();
        }
    }
    let end = translator.end(&mut out);
    (out, end)
}

fn streams() -> Vec<Value> {
    let mut all = recordings(&["converse_stream"]);
    all.retain(|record| record["response_status"] == 200);
    all
}

#[test]
fn every_recorded_stream_says_the_same_in_openais_chunks_however_it_is_cut() {
    let (mut as_they_came, mut rebuilt, mut unfinished) = (0, 0, 0);
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for record in streams() {
        let (bytes, events) = frames(&record);
        let (out, end) = translate(&bytes, &mut random);
        // Some fixtures hold the events up to a place that their authors cared for.
        if !events.iter().any(|(name, _)| name == "messageStop") {
            assert_eq!(end, End::Truncated);
            unfinished += 1;
            continue;
        }
        assert_eq!(end, End::Complete, "{}", record["id"]);
        assert!(out.done && out.content);
        let expected = read_answer(&read_events(&events));
        assert_eq!(read_completion(&read_chunks(&out.bytes)), expected, "{}", record["id"]);
        assert_eq!(out.usage.map_or(0, |usage| usage.total_tokens()), expected.usage[2]);
        if record["response_base64"].is_string() { as_they_came += 1 } else { rebuilt += 1 }
    }
    println!(
        "streams: {as_they_came} passed in their own frames, {rebuilt} in frames made here; {unfinished} without an end"
    );
}

#[test]
fn a_stream_that_breaks_off_is_never_complete_and_says_so_nowhere() {
    for record in streams() {
        let (_, events) = frames(&record);
        let before = events.iter().position(|(name, _)| name == "messageStop").unwrap_or(events.len());
        for kept in 0..=before {
            let bytes: Vec<u8> = events
                .iter()
                .take(kept)
                .flat_map(|(name, payload)| frame(name, payload.to_string().as_bytes()))
                .collect();
            let (out, end) = translate(&bytes, &mut 7);
            assert_eq!(end, End::Truncated);
            let written = String::from_utf8(out.bytes).unwrap();
            assert!(!out.done && !written.contains("[DONE]") && !written.contains("\"finish_reason\":\""));
        }
    }
}

#[test]
fn the_decoder_reads_recorded_frames_as_the_recorders_did() {
    let (mut streams_read, mut events_read) = (0, 0);
    for record in recordings(&["converse_stream", "invoke_stream"]) {
        let Some(recorded) = record["response_base64"].as_str() else { continue };
        let mut decoder = Decoder::new(Framing::AwsEventStream, 1 << 20);
        decoder.push(&STANDARD.decode(recorded).unwrap());
        for expected in record["response_events"].as_array().unwrap() {
            let event = decoder.next_event().unwrap().unwrap();
            assert_eq!(event.name.as_deref().unwrap(), text(&expected["event_type"]).as_bytes());
            let mut payload = expected["payload"].clone();
            payload.as_object_mut().unwrap().remove("_decoded");
            assert_eq!(serde_json::from_slice::<Value>(&event.data).unwrap(), payload, "{}", record["id"]);
            events_read += 1;
        }
        assert!(decoder.next_event().unwrap().is_none() && !decoder.has_partial());
        streams_read += 1;
    }
    println!("frames: {events_read} events of {streams_read} streams");
}

#[test]
fn every_recorded_refusal_is_read() {
    let mut passed = 0;
    for record in both().iter().filter(|record| record["response_status"] != 200) {
        let said = Converse.read_error(record["response_body"].to_string().as_bytes());
        assert_eq!(said.message.as_deref(), record["response_body"]["message"].as_str());
        let status = record["response_status"].as_u64().unwrap() as u16;
        let (headers, now) = (http::HeaderMap::new(), jiff::Timestamp::UNIX_EPOCH);
        let error =
            crate::provider::failure(&crate::provider::Failure { status, headers: &headers, now }, said, "bedrock");
        let kind = if status == 403 { ErrorKind::ProviderKeyInvalid } else { ErrorKind::ProviderRejected };
        assert_eq!((error.kind(), error.status()), (kind, status));
        passed += 1;
    }
    println!("errors: {passed} passed");
}

/// What a client of OpenAI's API would have sent to have Bedrock receive this request; `Err` says why it can't.
fn to_openai(recorded: &Value) -> Result<Value, String> {
    let mut request = Map::new();
    let mut messages = Vec::new();
    if let Some(system) = recorded.get("system").filter(|system| *system != &json!([])) {
        let parts = parts_to_openai(system.as_array().unwrap()).ok_or("a system block of another kind")?;
        messages.push(json!({"role": "system", "content": parts}));
    }
    for message in recorded["messages"].as_array().ok_or("malformed on purpose")? {
        message_to_openai(message, &mut messages)?;
    }
    request.insert("messages".into(), messages.into());
    for (name, value) in recorded.as_object().unwrap() {
        match name.as_str() {
            "messages" | "system" | "modelId" => {}
            "inferenceConfig" => {
                for (name, value) in value.as_object().unwrap() {
                    let name = match name.as_str() {
                        "maxTokens" => "max_tokens",
                        "topP" => "top_p",
                        "stopSequences" => "stop",
                        name => name,
                    };
                    request.insert(name.into(), value.clone());
                }
            }
            "toolConfig" => {
                request.insert("tools".into(), tools_to_openai(&value["tools"]));
                let choice = match value["toolChoice"].as_object().and_then(|choice| choice.iter().next()) {
                    None => continue,
                    Some((word, _)) if word == "any" => json!("required"),
                    Some((word, named)) if word == "tool" => json!({"type": "function", "function": named}),
                    Some((word, _)) => json!(word),
                };
                request.insert("tool_choice".into(), choice);
            }
            "outputConfig" => {
                let named = &value["textFormat"]["structure"]["jsonSchema"];
                let mut format = named.clone();
                format["schema"] = serde_json::from_str(text(&named["schema"])).unwrap();
                request.insert("response_format".into(), json!({"type": "json_schema", "json_schema": format}));
            }
            "serviceTier" => drop(request.insert("service_tier".into(), value["type"].clone())),
            "additionalModelRequestFields" if value.get("thinking").is_some() => {
                request.extend(value.as_object().unwrap().clone());
            }
            "additionalModelRequestFields" if value.get("inferenceConfig").is_some() => {
                request.insert("top_k".into(), value["inferenceConfig"]["topK"].clone());
            }
            name => drop(request.insert(name.into(), value.clone())),
        }
    }
    Ok(request.into())
}

fn message_to_openai(message: &Value, messages: &mut Vec<Value>) -> Result<(), String> {
    let blocks = message["content"].as_array().ok_or("malformed on purpose")?;
    let made = if message["role"] == "user" { user_to_openai(blocks) } else { assistant_to_openai(blocks) };
    messages.extend(made.unwrap_or_else(|| {
        let fields = json!({"converse_blocks": blocks});
        vec![json!({"role": message["role"], "content": null, "provider_specific_fields": fields})]
    }));
    Ok(())
}

fn user_to_openai(blocks: &[Value]) -> Option<Vec<Value>> {
    let mut messages: Vec<Value> = Vec::new();
    for block in blocks {
        if let Some(result) = block.get("toolResult") {
            let content = parts_to_openai(result["content"].as_array()?)?;
            let failed = result["status"] == "error";
            let id = &result["toolUseId"];
            messages.push(json!({"role": "tool", "tool_call_id": id, "content": content, "is_error": failed}));
        } else if block.get("cachePoint").is_some() {
            messages.last_mut()?["cache_control"] = json!({"type": "ephemeral"});
        } else {
            let content = parts_to_openai(std::slice::from_ref(block))?;
            messages.push(json!({"role": "user", "content": content}));
        }
    }
    Some(messages)
}

fn assistant_to_openai(blocks: &[Value]) -> Option<Vec<Value>> {
    let (mut thinking, mut parts, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    for block in blocks {
        let (name, inner) = block.as_object()?.iter().next()?;
        match name.as_str() {
            "reasoningContent" if parts.is_empty() && calls.is_empty() => {
                thinking.push(super::thinking::from_converse(inner)?.0);
            }
            "toolUse" => {
                let function = json!({"name": inner["name"], "arguments": inner["input"].to_string()});
                calls.push(json!({"id": inner["toolUseId"], "type": "function", "function": function}));
            }
            "text" if calls.is_empty() => parts.push(block.clone()),
            _ => return None,
        }
    }
    let content = parts_to_openai(&parts)?;
    Some(vec![json!({"role": "assistant", "content": content, "tool_calls": calls, "thinking_blocks": thinking})])
}

fn parts_to_openai(blocks: &[Value]) -> Option<Vec<Value>> {
    let mut parts: Vec<Value> = Vec::new();
    for block in blocks {
        let (name, inner) = block.as_object()?.iter().next()?;
        let url = |kind: &str| Some(format!("data:{kind};base64,{}", inner["source"]["bytes"].as_str()?));
        let format = text(&inner["format"]);
        match name.as_str() {
            "text" => parts.push(json!({"type": "text", "text": inner})),
            "cachePoint" => parts.last_mut()?["cache_control"] = json!({"type": "ephemeral"}),
            "image" => {
                let url = url(&format!("image/{format}"))?;
                parts.push(json!({"type": "image_url", "image_url": {"url": url}}));
            }
            "video" => parts.push(json!({"type": "file", "file": {"file_data": url(&format!("video/{format}"))?}})),
            "document" => {
                let kind = if format == "pdf" { "application/pdf" } else { "text/plain" };
                // A name with a character that Bedrock forbids was put there by who removed a secret.
                let name = inner["name"].as_str().filter(|name| !name.contains('_'))?;
                parts.push(json!({"type": "file", "file": {"file_data": url(kind)?, "filename": name}}));
            }
            _ => return None,
        }
    }
    Some(parts)
}

fn tools_to_openai(tools: &Value) -> Value {
    let mut made: Vec<Value> = Vec::new();
    for tool in tools.as_array().unwrap() {
        if tool.get("cachePoint").is_some() {
            made.last_mut().unwrap()["cache_control"] = json!({"type": "ephemeral"});
        } else if let Some(system) = tool.get("systemTool") {
            made.push(json!({"type": "system", "systemTool": system}));
        } else {
            let mut function = tool["toolSpec"].clone();
            function["parameters"] = function["inputSchema"]["json"].clone();
            function.as_object_mut().unwrap().remove("inputSchema");
            made.push(json!({"type": "function", "function": function}));
        }
    }
    made.into()
}

/// The same request in one of its several spellings: neutral members gone, numbers as floats, schemas read.
fn normal(request: &Value) -> Value {
    let mut request = request.clone();
    let members = request.as_object_mut().unwrap();
    members.remove("modelId");
    members.retain(|_, value| *value != json!({}) && *value != json!([]));
    if let Some(config) = members.get_mut("inferenceConfig") {
        config.as_object_mut().unwrap().retain(|_, value| *value != json!([]));
        for name in ["temperature", "topP"] {
            if let Some(value) = config.get_mut(name) {
                *value = value.as_f64().into();
            }
        }
    }
    if let Some(schema) = request.pointer_mut("/outputConfig/textFormat/structure/jsonSchema/schema") {
        let read: Value = serde_json::from_str(text(schema)).unwrap();
        // Objects that do not say whether they are open are closed on the way.
        *schema = crate::provider::anthropic::schema::enforceable(&read, &mut Warnings::default()).unwrap();
    }
    if let Some(tools) = request.pointer_mut("/toolConfig/tools") {
        for spec in tools.as_array_mut().unwrap().iter_mut().filter_map(|tool| tool.get_mut("toolSpec")) {
            let spec = spec.as_object_mut().unwrap();
            spec.retain(|name, value| (name != "description" || value != "") && (name != "strict" || value == true));
        }
    }
    let mut turns: Vec<Value> = Vec::new();
    for mut turn in request["messages"].as_array().unwrap().clone() {
        for block in turn["content"].as_array_mut().unwrap() {
            // What one SDK adds to the objects it keeps.
            if let Some(call) = block.get_mut("toolUse") {
                call.as_object_mut().unwrap().retain(|name, value| name != "type" || value != "tool_use");
            }
            if let Some(result) = block.get_mut("toolResult") {
                result.as_object_mut().unwrap().retain(|name, value| name != "status" || value != "success");
            }
        }
        match turns.last_mut().filter(|last| last["role"] == turn["role"]) {
            Some(last) => last["content"].as_array_mut().unwrap().extend(turn["content"].as_array().unwrap().clone()),
            None => turns.push(turn),
        }
    }
    request["messages"] = turns.into();
    request
}

#[test]
fn every_recorded_request_can_be_made_through_openais_api() {
    let (mut passed, mut own_blocks, mut instructed, mut left_out) = (0, 0, 0, BTreeMap::new());
    for record in both() {
        let recorded = &record["request_body"];
        let made = match recorded {
            Value::Null => Err("only the response was recorded".to_owned()),
            _ if record["response_status"] == 400 => Err("refused by Bedrock".to_owned()),
            recorded => to_openai(recorded),
        };
        let request = match made {
            Ok(request) => request,
            Err(why) => {
                *left_out.entry(why).or_insert(0) += 1;
                continue;
            }
        };
        let mut with_model = request.clone();
        with_model["model"] = "m".into();
        own_blocks += usize::from(request.to_string().contains("converse_blocks"));
        let body = Body::scan(Bytes::from(with_model.to_string())).unwrap();
        let request = ChatRequest::parse(&body).unwrap_or_else(|error| panic!("{}: {error}", record["id"]));
        let model = text(&record["model"]);
        let made = request::translate(&request, model).unwrap_or_else(|error| panic!("{}: {error}", record["id"]));
        let sent = crate::api::literal::value(&made.request);
        let warnings = made.warnings.into_names();
        if warnings == ["response_format"] {
            // A fixture asks a model for a schema that this one was never held to.
            assert!(model.contains("claude-3-sonnet") && recorded.get("outputConfig").is_some());
            assert!(text(&sent["system"][0]["text"]).contains("It must match this JSON schema: {"));
            instructed += 1;
            continue;
        }
        assert_eq!(normal(&sent), normal(recorded), "{} {model}", record["id"]);
        assert!(warnings.is_empty(), "{}: {warnings:?}", record["id"]);
        passed += 1;
    }
    println!(
        "requests: {passed} passed, {own_blocks} of them with Converse's own blocks, {instructed} with an instruction"
    );
    println!("requests left out: {left_out:?}");
}
