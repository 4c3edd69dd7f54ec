//! Anthropic's Messages API as a simulated provider writes it.
//!
//! Not here: what is said (`reply`) and when (`play`). Shapes follow the API reference and recordings.
//! Invariants: every content block is started, filled and stopped before the next; a ping follows the first start; the final
//! usage is in `message_delta`, while `message_start` holds a placeholder for the output, as the real one does.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::play::Chunk;
use super::reply::{Reply, Said};
use super::request::Ask;
use crate::usage::Usage;

/// The answer as one JSON text.
pub(super) fn message(ask: &Ask, reply: &Reply, number: u64) -> Value {
    let content: Vec<Value> = match &reply.said {
        Said::Text(pieces) => vec![json!({"type": "text", "text": pieces.concat()})],
        Said::Calls(calls) => calls
            .iter()
            .enumerate()
            .map(|(index, call)| {
                // Arguments cut short by max_tokens are no JSON; the real API then gives an empty object.
                let input = serde_json::from_str(&call.arguments.concat()).unwrap_or_else(|_| json!({}));
                json!({"type": "tool_use", "id": tool_id(index), "name": call.name, "input": input})
            })
            .collect(),
    };
    envelope(ask, number, &content, Some(stop_reason(reply)), &usage(reply.usage, reply.usage.output))
}

fn envelope(ask: &Ask, number: u64, content: &[Value], stop_reason: Option<&str>, usage: &Value) -> Value {
    json!({
        "id": format!("msg_sim{number:08}"),
        "type": "message",
        "role": "assistant",
        "model": ask.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": null,
        "usage": usage,
    })
}

const fn stop_reason(reply: &Reply) -> &'static str {
    match (&reply.said, reply.cut) {
        (_, true) => "max_tokens",
        (Said::Text(_), false) => "end_turn",
        (Said::Calls(_), false) => "tool_use",
    }
}

fn usage(usage: Usage, output: u64) -> Value {
    json!({
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cached_read,
        "cache_creation": {"ephemeral_5m_input_tokens": usage.cache_write, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output,
        "service_tier": "standard",
    })
}

fn tool_id(index: usize) -> String {
    format!("toolu_sim{index}")
}

/// The answer as events.
pub(super) fn events(ask: &Ask, reply: &Reply, number: u64, delay: Duration) -> Vec<Chunk> {
    let start = envelope(ask, number, &[], None, &usage(reply.usage, 1));
    let mut chunks = vec![frame("message_start", &json!({"message": start}))];
    match &reply.said {
        Said::Text(pieces) => {
            let deltas = pieces.iter().map(|piece| json!({"type": "text_delta", "text": piece}));
            block(0, &json!({"type": "text", "text": ""}), deltas, delay, &mut chunks);
        }
        Said::Calls(calls) => {
            for (index, call) in calls.iter().enumerate() {
                let opening = json!({"type": "tool_use", "id": tool_id(index), "name": call.name, "input": {}});
                let deltas =
                    call.arguments.iter().map(|piece| json!({"type": "input_json_delta", "partial_json": piece}));
                block(index, &opening, deltas, delay, &mut chunks);
            }
        }
    }
    let delta = json!({"stop_reason": stop_reason(reply), "stop_sequence": null});
    let counts = usage(reply.usage, reply.usage.output);
    chunks.push(frame("message_delta", &json!({"delta": delta, "usage": counts})));
    chunks.push(frame("message_stop", &json!({})));
    chunks
}

fn block(index: usize, opening: &Value, deltas: impl Iterator<Item = Value>, delay: Duration, chunks: &mut Vec<Chunk>) {
    chunks.push(frame("content_block_start", &json!({"index": index, "content_block": opening})));
    if index == 0 {
        chunks.push(frame("ping", &json!({})));
    }
    for delta in deltas {
        let bytes = event("content_block_delta", &json!({"index": index, "delta": delta}));
        chunks.push(Chunk { after: delay, bytes, content: true, tokens: 1 });
    }
    chunks.push(frame("content_block_stop", &json!({"index": index})));
}

fn frame(name: &str, members: &Value) -> Chunk {
    Chunk::frame(event(name, members))
}

fn event(name: &str, members: &Value) -> Bytes {
    let mut data = serde_json::Map::new();
    data.insert("type".to_owned(), name.into());
    data.extend(members.as_object().cloned().unwrap_or_default());
    format!("event: {name}\ndata: {}\n\n", Value::Object(data)).into()
}

/// The error that this API writes for a status.
pub(super) fn error(status: u16) -> Value {
    let (error_type, message) = match status {
        401 => ("authentication_error", "invalid x-api-key"),
        402 => ("billing_error", "Your credit balance is too low."),
        403 => ("permission_error", "Not allowed."),
        404 => ("not_found_error", "Not found."),
        413 => ("request_too_large", "Request exceeds the maximum size."),
        429 => ("rate_limit_error", "This request would exceed the rate limit."),
        503 | 529 => ("overloaded_error", "Overloaded"),
        500.. => ("api_error", "Internal server error"),
        _ => ("invalid_request_error", "The simulated provider can't read this request."),
    };
    json!({"type": "error", "error": {"type": error_type, "message": message}, "request_id": "req_simulated"})
}

/// An error inside a stream.
pub(super) fn error_event() -> Bytes {
    event("error", &json!({"error": {"type": "overloaded_error", "message": "Overloaded"}}))
}

/// The list of models.
pub(super) fn models(names: &[String]) -> Value {
    let data: Vec<Value> = names
        .iter()
        .map(|name| json!({"type": "model", "id": name, "display_name": name, "created_at": "2025-01-01T00:00:00Z"}))
        .collect();
    json!({"data": data, "has_more": false, "first_id": names.first(), "last_id": names.last()})
}
