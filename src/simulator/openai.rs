//! OpenAI's API as a simulated provider writes it, with Groq's additions under `/openai/v1`.
//!
//! Not here: what is said (`reply`) and when (`play`). Shapes follow the API reference and recordings of both providers.
//! Invariants: the role comes first, the finish reason after the content, usage only when asked for, `[DONE]` last.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::play::Chunk;
use super::reply::{Call, Reply, Said};
use super::request::Ask;
use super::seen::Wire;
use crate::usage::{Usage, estimate_tokens};

/// A fixed time of creation, because answers are deterministic.
const CREATED: u64 = 1_735_689_600;
const DIMENSIONS: u64 = 8;

/// The answer as one JSON text.
pub(super) fn completion(ask: &Ask, reply: &Reply, number: u64) -> Value {
    let choices: Vec<Value> = (0..ask.choices)
        .map(|index| {
            json!({"index": index, "message": message(reply), "logprobs": null, "finish_reason": finish_reason(reply)})
        })
        .collect();
    let mut body = envelope(ask, number, "chat.completion");
    body.insert("choices".to_owned(), choices.into());
    body.insert("usage".to_owned(), usage(ask.wire, reply.usage));
    if ask.wire == Wire::Groq {
        body.insert("x_groq".to_owned(), json!({"id": groq_id(number)}));
    }
    Value::Object(body)
}

fn message(reply: &Reply) -> Value {
    match &reply.said {
        Said::Text(pieces) => {
            json!({"role": "assistant", "content": pieces.concat(), "refusal": null, "annotations": []})
        }
        Said::Calls(calls) => {
            let calls: Vec<Value> = calls.iter().enumerate().map(|(index, call)| whole_call(index, call)).collect();
            json!({"role": "assistant", "content": null, "tool_calls": calls, "refusal": null, "annotations": []})
        }
    }
}

fn whole_call(index: usize, call: &Call) -> Value {
    json!({
        "id": format!("call_sim{index}"),
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments.concat()},
    })
}

const fn finish_reason(reply: &Reply) -> &'static str {
    match (&reply.said, reply.cut) {
        (_, true) => "length",
        (Said::Text(_), false) => "stop",
        (Said::Calls(_), false) => "tool_calls",
    }
}

fn envelope(ask: &Ask, number: u64, object: &str) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("id".to_owned(), format!("chatcmpl-sim{number:08}").into());
    body.insert("object".to_owned(), object.into());
    body.insert("created".to_owned(), CREATED.into());
    body.insert("model".to_owned(), ask.model.as_str().into());
    if ask.wire == Wire::OpenAi {
        body.insert("service_tier".to_owned(), "default".into());
    }
    body.insert("system_fingerprint".to_owned(), "fp_simulated".into());
    body
}

fn usage(wire: Wire, usage: Usage) -> Value {
    let mut value = json!({
        "prompt_tokens": usage.prompt_tokens(),
        "completion_tokens": usage.output,
        "total_tokens": usage.total_tokens(),
        "prompt_tokens_details": {"cached_tokens": usage.cached_read, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    });
    if let (Wire::Groq, Some(members)) = (wire, value.as_object_mut()) {
        for time in ["queue_time", "prompt_time", "completion_time", "total_time"] {
            members.insert(time.to_owned(), 0.001.into());
        }
    }
    value
}

fn groq_id(number: u64) -> String {
    format!("req_sim{number:08}")
}

/// The answer as events.
pub(super) fn events(ask: &Ask, reply: &Reply, number: u64, delay: Duration) -> Vec<Chunk> {
    let writer = Writer { ask, number, delay };
    let mut chunks = Vec::new();
    for index in 0..ask.choices {
        writer.choice(index, reply, &mut chunks);
    }
    if ask.wire == Wire::Groq {
        writer.mark_groq(reply, &mut chunks);
    }
    if ask.include_usage {
        let mut body = envelope(ask, number, "chat.completion.chunk");
        body.insert("choices".to_owned(), json!([]));
        body.insert("usage".to_owned(), usage(ask.wire, reply.usage));
        chunks.push((Value::Object(body), false));
    }
    let mut chunks: Vec<Chunk> = chunks.into_iter().map(|(body, content)| writer.chunk(&body, content)).collect();
    chunks.push(Chunk::frame("data: [DONE]\n\n"));
    chunks
}

/// Writes the events of one answer.
struct Writer<'a> {
    ask: &'a Ask,
    number: u64,
    delay: Duration,
}

impl Writer<'_> {
    fn choice(&self, index: u64, reply: &Reply, chunks: &mut Vec<(Value, bool)>) {
        match &reply.said {
            Said::Text(pieces) => {
                chunks.push((
                    self.event(index, &json!({"role": "assistant", "content": "", "refusal": null}), None),
                    false,
                ));
                for piece in pieces {
                    chunks.push((self.event(index, &json!({"content": piece}), None), true));
                }
            }
            Said::Calls(calls) => {
                chunks.push((self.event(index, &json!({"role": "assistant", "content": null}), None), false));
                for (place, call) in calls.iter().enumerate() {
                    self.call(index, place, call, chunks);
                }
            }
        }
        chunks.push((self.event(index, &json!({}), Some(finish_reason(reply))), false));
    }

    fn call(&self, index: u64, place: usize, call: &Call, chunks: &mut Vec<(Value, bool)>) {
        let opening = json!({
            "index": place, "id": format!("call_sim{place}"), "type": "function",
            "function": {"name": call.name, "arguments": ""},
        });
        chunks.push((self.event(index, &json!({"tool_calls": [opening]}), None), false));
        for piece in &call.arguments {
            let delta = json!({"tool_calls": [{"index": place, "function": {"arguments": piece}}]});
            chunks.push((self.event(index, &delta, None), true));
        }
    }

    fn event(&self, index: u64, delta: &Value, finish_reason: Option<&str>) -> Value {
        let mut body = envelope(self.ask, self.number, "chat.completion.chunk");
        let choice = json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": finish_reason});
        body.insert("choices".to_owned(), json!([choice]));
        if self.ask.include_usage {
            body.insert("usage".to_owned(), Value::Null);
        }
        Value::Object(body)
    }

    /// Groq names the request in its first event, and gives usage in the last one unasked.
    fn mark_groq(&self, reply: &Reply, chunks: &mut [(Value, bool)]) {
        let id = groq_id(self.number);
        if let Some(first) = chunks.first_mut().and_then(|(body, _)| body.as_object_mut()) {
            first.insert("x_groq".to_owned(), json!({"id": id}));
        }
        if let Some(last) = chunks.last_mut().and_then(|(body, _)| body.as_object_mut()) {
            last.insert("x_groq".to_owned(), json!({"id": id, "usage": usage(Wire::Groq, reply.usage)}));
        }
    }

    fn chunk(&self, body: &Value, content: bool) -> Chunk {
        let after = if content { self.delay } else { Duration::ZERO };
        Chunk { after, bytes: format!("data: {body}\n\n").into(), content, tokens: u64::from(content) }
    }
}

/// The error that this API writes for a status.
pub(super) fn error(status: u16) -> Value {
    let (error_type, code, message) = match status {
        400 => ("invalid_request_error", Value::Null, "The simulated provider can't read this request."),
        401 => ("invalid_request_error", "invalid_api_key".into(), "Incorrect API key provided."),
        403 => ("invalid_request_error", "unsupported_country_region_territory".into(), "Not allowed."),
        404 => ("invalid_request_error", "model_not_found".into(), "The model or route does not exist."),
        429 => ("requests", "rate_limit_exceeded".into(), "Rate limit reached."),
        503 | 529 => ("server_error", "server_is_overloaded".into(), "The server is overloaded."),
        500.. => ("server_error", Value::Null, "The server had an error while processing your request."),
        _ => ("invalid_request_error", Value::Null, "The simulated provider refuses this request."),
    };
    json!({"error": {"message": message, "type": error_type, "param": null, "code": code}})
}

/// An error inside a stream; Groq names the event and repeats the status.
pub(super) fn error_event(wire: Wire) -> Bytes {
    let mut body = error(500);
    if wire != Wire::Groq {
        return format!("data: {body}\n\n").into();
    }
    if let Some(members) = body.pointer_mut("/error").and_then(Value::as_object_mut) {
        members.insert("status_code".to_owned(), 500.into());
    }
    format!("event: error\ndata: {body}\n\n").into()
}

/// The list of models.
pub(super) fn models(names: &[String]) -> Value {
    let data: Vec<Value> = names
        .iter()
        .map(|name| json!({"id": name, "object": "model", "created": CREATED, "owned_by": "simulator"}))
        .collect();
    json!({"object": "list", "data": data})
}

/// Embeddings, and what they cost.
pub(super) fn embeddings(ask: &Ask) -> (Value, Usage) {
    let inputs = inputs(ask.body.get("input"));
    let dimensions = ask.body.get("dimensions").and_then(Value::as_u64).unwrap_or(DIMENSIONS).clamp(1, 4096);
    let base64 = ask.body.get("encoding_format").and_then(Value::as_str) == Some("base64");
    let tokens = inputs.iter().map(input_tokens).sum();
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| {
            let vector = vector(input, dimensions);
            let embedding = if base64 { packed(&vector).into() } else { json!(vector) };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    let usage = Usage { input: tokens, ..Usage::default() };
    let counts = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    (json!({"object": "list", "data": data, "model": ask.model, "usage": counts}), usage)
}

/// One text or list of tokens each: a list of tokens alone is one input.
fn inputs(input: Option<&Value>) -> Vec<Value> {
    match input {
        Some(Value::Array(items)) if !items.iter().all(Value::is_number) => items.clone(),
        Some(input) => vec![input.clone()],
        None => vec![],
    }
}

fn input_tokens(input: &Value) -> u64 {
    match input {
        Value::String(text) => estimate_tokens(text.len() as u64),
        Value::Array(tokens) => tokens.len() as u64,
        _ => 0,
    }
}

/// A direction made from the input's digest, of length 1 as OpenAI's are.
fn vector(input: &Value, dimensions: u64) -> Vec<f32> {
    let text = input.to_string();
    let raw: Vec<f32> = (0..dimensions)
        .map(|dimension| {
            let digest = Sha256::new().chain_update(&text).chain_update(dimension.to_le_bytes()).finalize();
            f32::from(digest.first().copied().unwrap_or_default()) - 127.5
        })
        .collect();
    let length = raw.iter().map(|value| value * value).sum::<f32>().sqrt();
    raw.into_iter().map(|value| value / length).collect()
}

fn packed(vector: &[f32]) -> String {
    STANDARD.encode(vector.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
}
