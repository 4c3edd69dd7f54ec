//! Every recorded exchange with Google, translated and compared with a reading that shares no code with the translator.
//!
//! Not a place for recordings: they are read where they lie, beside the project, and their absence skips the tests. How
//! recorded requests are turned into OpenAI's is in `corpus_request`.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{GEMINI, VERTEX};
use crate::error::ErrorKind;
use crate::frames::Decoder;
use crate::provider::{AnswerContext, Dialect, End, Failure, StreamOut, failure};

/// The recordings of both providers, by id; none where the corpus is not at hand.
pub(super) fn recordings(endpoints: &[&str]) -> Vec<Value> {
    let mut all = Vec::new();
    for provider in ["gemini", "vertex"] {
        let folder = format!("{}/../shared/corpus/{provider}", env!("CARGO_MANIFEST_DIR"));
        let Ok(entries) = std::fs::read_dir(folder) else {
            println!("skipped: no corpus");
            continue;
        };
        let records = entries
            .map(|entry| serde_json::from_slice::<Value>(&std::fs::read(entry.unwrap().path()).unwrap()).unwrap());
        all.extend(records.filter(|record| endpoints.contains(&text(&record["endpoint"]))));
    }
    all.sort_by_key(|record| record["id"].to_string());
    all
}

fn answered(endpoint: &str) -> Vec<Value> {
    let mut all = recordings(&[endpoint]);
    all.retain(|record| record["response_status"] == 200);
    all
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn dialect(record: &Value) -> &'static dyn Dialect {
    if record["provider"] == "vertex" { VERTEX.dialect } else { GEMINI.dialect }
}

fn context(model: &str) -> AnswerContext {
    AnswerContext {
        provider: "gemini",
        id: "chatcmpl-ours".to_owned(),
        created: 1_800_000_000,
        model: model.to_owned(),
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
    /// Name, arguments, signature.
    calls: Vec<(String, Value, String)>,
    finish: String,
    /// Prompt, completion, total, cached, reasoning.
    usage: [u64; 5],
    /// Code, pictures and the like.
    native_parts: usize,
    citations: usize,
    probabilities: usize,
}

/// Reads Google's own events, of which a whole answer is one.
fn read_events(events: &[Value]) -> Said {
    let mut said = Said { id: "chatcmpl-ours".into(), model: "ours".into(), ..Said::default() };
    let (mut reason, mut grounding) = (Value::Null, Value::Null);
    for event in events {
        let found = |name: &str| event[name].as_str().map(str::to_owned);
        said.id = found("responseId").unwrap_or(said.id);
        said.model = found("modelVersion").unwrap_or(said.model);
        let usage = &event["usageMetadata"];
        let tokens = |name: &str| usage[name].as_u64().unwrap_or(0);
        if tokens("totalTokenCount") > 0 {
            let prompt = tokens("promptTokenCount") + tokens("toolUsePromptTokenCount");
            let total = tokens("totalTokenCount");
            said.usage =
                [prompt, total - prompt, total, tokens("cachedContentTokenCount"), tokens("thoughtsTokenCount")];
        }
        let candidate = &event["candidates"][0];
        for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
            read_part(part, &mut said);
        }
        if !candidate["finishReason"].is_null() {
            reason = candidate["finishReason"].clone();
        }
        if candidate["groundingMetadata"]["groundingSupports"].is_array() {
            grounding = candidate["groundingMetadata"].clone();
        }
        said.probabilities += candidate["logprobsResult"]["chosenCandidates"].as_array().map_or(0, Vec::len);
    }
    for support in grounding["groundingSupports"].as_array().into_iter().flatten() {
        let chunks = support["groundingChunkIndices"].as_array().into_iter().flatten();
        let page =
            |index: &Value| grounding["groundingChunks"][index.as_u64().unwrap() as usize]["web"]["uri"].is_string();
        said.citations += chunks.filter(|index| page(index)).count();
    }
    said.finish = match (reason.to_string().trim_matches('"'), said.calls.is_empty()) {
        ("MAX_TOKENS" | "2", _) => "length",
        ("SAFETY" | "MODEL_ARMOR", _) => "content_filter",
        ("STOP" | "1" | "NO_IMAGE" | "OTHER" | "UNEXPECTED_TOOL_CALL", true) => "stop",
        ("STOP" | "1" | "UNEXPECTED_TOOL_CALL", false) => "tool_calls",
        other => panic!("an end that this test does not know: {other:?}"),
    }
    .to_owned();
    said
}

fn read_part(part: &Value, said: &mut Said) {
    let signature = text(&part["thoughtSignature"]).to_owned();
    if let Some(call) = part["functionCall"].as_object() {
        if let Some(name) = call.get("name") {
            let args = call.get("args").filter(|args| args.is_object()).cloned().unwrap_or_else(|| json!({}));
            said.calls.push((text(name).to_owned(), args, signature));
        }
        for piece in call.get("partialArgs").and_then(Value::as_array).into_iter().flatten() {
            let (_, args, _) = said.calls.last_mut().unwrap();
            let name = text(&piece["jsonPath"]).strip_prefix("$.").unwrap();
            args[name] = format!("{}{}", text(&args[name]), text(&piece["stringValue"])).into();
        }
    } else if part["text"].is_string() {
        let place = if part["thought"] == true { &mut said.thinking } else { &mut said.text };
        place.push_str(text(&part["text"]));
    } else {
        said.native_parts += 1;
    }
}

/// Reads OpenAI's completion object.
fn read_completion(completion: &Value) -> Said {
    let choice = &completion["choices"][0];
    let message = &choice["message"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let calls = list(&message["tool_calls"]).into_iter().map(|call| {
        let signature = text(&call["extra_content"]["google"]["thought_signature"]).to_owned();
        assert!(!text(&call["id"]).is_empty() && text(&call["id"]).len() <= 40, "{}", call["id"]);
        let arguments = serde_json::from_str(text(&call["function"]["arguments"])).unwrap();
        (text(&call["function"]["name"]).to_owned(), arguments, signature)
    });
    let calls = calls.collect();
    let usage = |pointer: &str| completion["usage"].pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let parts = list(&message["provider_specific_fields"]["content_parts"]);
    let native = |part: &&Value| part.get("text").is_none() && part.get("functionCall").is_none();
    Said {
        id: text(&completion["id"]).into(),
        model: text(&completion["model"]).into(),
        text: text(&message["content"]).into(),
        thinking: text(&message["reasoning_content"]).into(),
        calls,
        finish: text(&choice["finish_reason"]).into(),
        usage: [
            usage("/prompt_tokens"),
            usage("/completion_tokens"),
            usage("/total_tokens"),
            usage("/prompt_tokens_details/cached_tokens"),
            usage("/completion_tokens_details/reasoning_tokens"),
        ],
        native_parts: parts.iter().filter(native).count(),
        citations: list(&message["annotations"]).len(),
        probabilities: list(&choice["logprobs"]["content"]).len(),
    }
}

/// Puts the chunks of a stream together as a client of OpenAI's API does.
fn read_chunks(written: &[u8]) -> Value {
    let written = std::str::from_utf8(written).unwrap();
    let mut data: Vec<&str> =
        written.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap()).collect();
    assert_eq!(data.pop(), Some("[DONE]"));
    let (mut message, mut tokens, mut completion) = (Map::new(), Vec::new(), json!({}));
    let mut finish = Value::Null;
    for (at, chunk) in data.iter().map(|data| serde_json::from_str::<Value>(data).unwrap()).enumerate() {
        if at > 0 {
            assert_eq!((&chunk["id"], &chunk["model"]), (&completion["id"], &completion["model"]));
        }
        for name in ["id", "model"] {
            completion[name] = chunk[name].clone();
        }
        if chunk["usage"].is_object() {
            assert_eq!(chunk["choices"], json!([]));
            completion["usage"] = chunk["usage"].clone();
            continue;
        }
        let choice = &chunk["choices"][0];
        assert_eq!(choice["delta"]["role"] == "assistant", at == 0);
        for (name, more) in choice["delta"].as_object().unwrap() {
            match (message.get_mut(name), more) {
                (Some(Value::String(text)), Value::String(more)) => text.push_str(more),
                (Some(Value::Array(list)), Value::Array(more)) => list.extend(more.clone()),
                _ => drop(message.insert(name.clone(), more.clone())),
            }
        }
        tokens.extend(choice["logprobs"]["content"].as_array().cloned().unwrap_or_default());
        finish = choice["finish_reason"].clone();
    }
    completion["choices"] = json!([{"finish_reason": finish, "message": message, "logprobs": {"content": tokens}}]);
    completion
}

/// The events of a recorded stream, and its bytes: as recorded, or framed as Google does where only events are left.
fn stream_of(record: &Value) -> (Vec<Value>, String) {
    if let Some(stream) = record["response_text"].as_str() {
        let events = stream.lines().filter_map(|line| line.strip_prefix("data:"));
        return (events.map(|data| serde_json::from_str(data).unwrap()).collect(), stream.to_owned());
    }
    let events = record["response_events"].as_array().unwrap().clone();
    let stream = events.iter().map(|event| format!("data: {event}\r\n\r\n")).collect();
    (events, stream)
}

#[test]
fn every_recorded_answer_says_the_same_in_openais_shape() {
    let mut passed = 0;
    for record in answered("generateContent") {
        let body = Bytes::from(record["response_body"].to_string());
        let answer = dialect(&record).answer(body, &context("ours")).unwrap();
        let got = read_completion(&serde_json::from_slice(&answer.body).unwrap());
        assert_eq!(got, read_events(std::slice::from_ref(&record["response_body"])), "{}", record["id"]);
        assert_eq!(answer.usage.map_or(0, |usage| usage.total_tokens()), got.usage[2]);
        passed += 1;
    }
    println!("whole answers: {passed} passed, 0 skipped");
}

#[test]
fn every_recorded_stream_says_the_same_in_openais_chunks_however_it_is_cut() {
    let (mut passed, mut random) = (0, 0x9E37_79B9_7F4A_7C15_u64);
    for record in answered("streamGenerateContent") {
        let (events, stream) = stream_of(&record);
        let dialect = dialect(&record);
        let (mut translator, mut out) = (dialect.stream(context("ours")), StreamOut::default());
        let mut decoder = Decoder::new(dialect.framing(), 1 << 22);
        let mut rest = stream.as_bytes();
        while !rest.is_empty() {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let (piece, tail) = rest.split_at((random % 400 + 1).min(rest.len() as u64) as usize);
            rest = tail;
            decoder.push(piece);
            while let Some(event) = decoder.next_event().unwrap() {
                translator.event(&event, &mut out).unwrap();
            }
        }
        assert_eq!(translator.end(&mut out), End::Complete, "{}", record["id"]);
        assert!(out.done && out.content);
        let got = read_completion(&read_chunks(&out.bytes));
        assert_eq!(got, read_events(&events), "{}", record["id"]);
        assert_eq!(out.usage.map_or(0, |usage| usage.total_tokens()), got.usage[2]);
        passed += 1;
    }
    println!("streams: {passed} passed, 0 skipped");
}

#[test]
fn a_stream_that_breaks_off_is_never_complete_and_says_so_nowhere() {
    for record in answered("streamGenerateContent") {
        let (events, _) = stream_of(&record);
        let first = events.iter().position(|event| event["candidates"][0].get("finishReason").is_some()).unwrap();
        for kept in 0..=first {
            let (mut translator, mut out) = (dialect(&record).stream(context("ours")), StreamOut::default());
            let mut decoder = Decoder::new(dialect(&record).framing(), 1 << 22);
            for event in events.iter().take(kept) {
                decoder.push(format!("data: {event}\r\n\r\n").as_bytes());
            }
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
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let endpoints = ["generateContent", "streamGenerateContent", "batchEmbedContents", "models", "countTokens"];
    for record in recordings(&endpoints).into_iter().filter(|record| record["response_status"] != 200) {
        let said = dialect(&record).read_error(record["response_body"].to_string().as_bytes());
        let error = &record["response_body"]["error"];
        assert_eq!(said.message.as_deref(), error["message"].as_str(), "{}", record["id"]);
        assert_eq!(said.error_type.as_deref(), error["status"].as_str());
        let bad_key = error.to_string().contains("API_KEY_INVALID");
        assert_eq!(said.key_invalid, bad_key);
        let status = record["response_status"].as_u64().unwrap() as u16;
        let heard = Failure { status, headers: &http::HeaderMap::new(), now: jiff::Timestamp::UNIX_EPOCH };
        let kind = failure(&heard, said, "gemini").kind();
        let expected = if bad_key { ErrorKind::ProviderKeyInvalid } else { ErrorKind::ProviderRejected };
        assert_eq!(kind, expected);
        *kinds.entry(format!("{kind:?}")).or_default() += 1;
    }
    println!("errors passed: {kinds:?}");
}

#[test]
fn every_recorded_embedding_is_openais() {
    let mut passed = 0;
    for record in ["batchEmbedContents", "embedContent", "predict"].into_iter().flat_map(answered) {
        let body = &record["response_body"];
        let answer = dialect(&record).embeddings_answer(Bytes::from(body.to_string()), &context("ours")).unwrap();
        let made: Value = serde_json::from_slice(&answer.body).unwrap();
        let vectors: Vec<Value> = match body.as_object().unwrap() {
            whole if whole.contains_key("predictions") => {
                body["predictions"].as_array().unwrap().iter().map(|it| it["embeddings"]["values"].clone()).collect()
            }
            whole if whole.contains_key("embedding") => vec![body["embedding"]["values"].clone()],
            _ => body["embeddings"].as_array().unwrap().iter().map(|it| it["values"].clone()).collect(),
        };
        let got: Vec<Value> = made["data"].as_array().unwrap().iter().map(|it| it["embedding"].clone()).collect();
        assert_eq!(got, vectors, "{}", record["id"]);
        let counted = body["usageMetadata"]["promptTokenCount"].as_u64();
        let counted = counted.or_else(|| body["predictions"][0]["embeddings"]["statistics"]["token_count"].as_u64());
        assert_eq!(made["usage"]["prompt_tokens"].as_u64(), Some(counted.unwrap_or(0)));
        passed += 1;
    }
    println!("embeddings: {passed} passed, 0 skipped");
}

#[test]
fn claudes_recorded_answers_at_vertex_are_read_as_anthropics() {
    let mut passed = 0;
    for record in answered("messages") {
        // Of streams, only the message that an SDK made of them was recorded.
        let body = record.get("response_body").filter(|body| body.is_object());
        let body = body.unwrap_or(&record["response_events"][0]);
        let answer = VERTEX.dialect.answer(Bytes::from(body.to_string()), &context("claude-haiku-4-5")).unwrap();
        let made: Value = serde_json::from_slice(&answer.body).unwrap();
        let blocks = body["content"].as_array().unwrap().iter();
        let said: String = blocks.filter(|it| it["type"] == "text").map(|it| text(&it["text"])).collect();
        assert_eq!(text(&made["choices"][0]["message"]["content"]), said, "{}", record["id"]);
        assert_eq!(made["usage"]["completion_tokens"], body["usage"]["output_tokens"]);
        passed += 1;
    }
    println!("Claude at Vertex: {passed} answers passed, 0 skipped");
}
