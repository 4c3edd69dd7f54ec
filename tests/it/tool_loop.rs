//! A tool loop with reasoning over two turns: what the provider signed comes back to it unchanged, where it gave it.
//!
//! The client is one that sends the assistant's message back as it got it, or as OpenAI's SDKs put it together from the
//! deltas of a stream; and one that keeps nothing but the text and the calls.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::support::{Answer, EventStream, Hand, World, within};

/// A signature with every letter that base64 has a use for.
const SIGNATURE: &str = "EqQBCgIYAhIM+/Zz09==";

/// What a provider answers first: the content type and the body.
struct Said {
    content_type: &'static str,
    body: Vec<u8>,
}

fn whole(body: &Value) -> Said {
    Said { content_type: "application/json", body: body.to_string().into_bytes() }
}

fn events(events: &[Value]) -> Said {
    let body: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    Said { content_type: "text/event-stream", body: body.into_bytes() }
}

fn frames(frames: &[(&str, Value)]) -> Said {
    let body = frames.iter().flat_map(|(name, payload)| frame(name, payload.to_string().as_bytes())).collect();
    Said { content_type: "application/vnd.amazon.eventstream", body }
}

/// A message of AWS's event stream.
fn frame(name: &str, payload: &[u8]) -> Vec<u8> {
    let mut headers = b"\x0b:event-type\x07".to_vec();
    headers.extend_from_slice(&u16::try_from(name.len()).unwrap().to_be_bytes());
    headers.extend_from_slice(name.as_bytes());
    let total = u32::try_from(16 + headers.len() + payload.len()).unwrap();
    let mut bytes = [total.to_be_bytes(), u32::try_from(headers.len()).unwrap().to_be_bytes()].concat();
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes.extend_from_slice(&headers);
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes
}

/// Adds a delta as openai-python does (`accumulate_delta`), which fails on a list of objects without `index`.
fn accumulate(whole: &mut Map<String, Value>, delta: &Map<String, Value>) {
    for (name, new) in delta {
        match (whole.get_mut(name), new) {
            (None | Some(Value::Null), _) => drop(whole.insert(name.clone(), new.clone())),
            (Some(old), _) if matches!(name.as_str(), "index" | "type") => *old = new.clone(),
            (Some(Value::String(old)), Value::String(new)) => old.push_str(new),
            (Some(Value::Object(old)), Value::Object(new)) => accumulate(old, new),
            (Some(Value::Array(old)), Value::Array(new)) => {
                for item in new {
                    let index = item["index"].as_u64().unwrap_or_else(|| panic!("{name}: an item without an index"));
                    match old.get_mut(usize::try_from(index).unwrap()) {
                        Some(old) => accumulate(old.as_object_mut().unwrap(), item.as_object().unwrap()),
                        None => old.push(item.clone()),
                    }
                }
            }
            (Some(_), _) => {}
        }
    }
}

fn put_together(events: &[String]) -> Value {
    let mut message = Map::new();
    for chunk in events.iter().filter(|data| *data != "[DONE]") {
        let chunk: Value = serde_json::from_str(chunk).unwrap();
        if let Some(delta) = chunk.pointer("/choices/0/delta").and_then(Value::as_object) {
            accumulate(&mut message, delta);
        }
    }
    message.into()
}

/// A loop with one provider.
struct Loop {
    world: World,
    hand: Hand,
    /// What every request asks for beside its messages.
    more: Value,
}

impl Loop {
    async fn start(provider: &str, model: &str, more: Value) -> Self {
        let (hand, world) = (Hand::start().await, World::plain().await);
        world.add_at(provider, &hand.url(), |credential| {
            credential.models = Some([("model".to_owned(), model.to_owned())].into());
        });
        Self { world, hand, more }
    }

    fn body(&self, messages: &Value, stream: bool) -> Value {
        let tool = json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}});
        let mut body = json!({"model": "model", "stream": stream, "tools": [tool], "messages": messages});
        body.as_object_mut().unwrap().extend(self.more.as_object().unwrap().clone());
        body
    }

    /// The first turn: the assistant's message as its client holds it.
    async fn first(&self, said: Said) -> Value {
        let stream = said.content_type != "application/json";
        let request = self.world.chat_request(self.world.client());
        let request = request.json(&self.body(&json!([{"role": "user", "content": "go"}]), stream));
        let client = tokio::spawn(async move {
            if stream {
                put_together(&EventStream::of(request).await.rest().await)
            } else {
                Answer::of(request).await.json()["choices"][0]["message"].clone()
            }
        });
        let mut call = self.hand.request().await;
        let (content_type, length) = (said.content_type, said.body.len());
        call.send(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        ))
        .await;
        call.send(said.body).await;
        within("the first turn", client).await.unwrap()
    }

    /// The second turn: what the provider gets of it, and the names of what it does not get.
    async fn second(&self, message: &Value) -> (Value, String) {
        let result = json!({"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "42"});
        let body = self.body(&json!([{"role": "user", "content": "go"}, message, result]), false);
        let client = tokio::spawn(Answer::of(self.world.chat_request(self.world.client()).json(&body)));
        let mut call = self.hand.request().await;
        let sent = serde_json::from_slice(&call.body).unwrap();
        // An answer that all three understand.
        let text = json!({"id": "m", "content": [{"type": "text", "text": "done"}], "stop_reason": "end_turn",
            "candidates": [{"content": {"parts": [{"text": "done"}]}, "finishReason": "STOP"}],
            "output": {"message": {"role": "assistant", "content": [{"text": "done"}]}}, "stopReason": "end_turn"});
        call.send_json(200, &text.to_string()).await;
        let answer = within("the second turn", client).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        (sent, answer.header("x-perpetuo-warnings").to_owned())
    }
}

/// What a framework keeps that knows OpenAI's own fields only.
fn stripped(message: &Value) -> Value {
    let call = &message["tool_calls"][0];
    let call = json!({"id": call["id"], "type": "function", "function": call["function"]});
    json!({"role": "assistant", "content": message["content"], "tool_calls": [call]})
}

fn anthropic_blocks() -> Value {
    json!([
        {"type": "thinking", "thinking": "Hm, \u{2028} so", "signature": SIGNATURE},
        {"type": "redacted_thinking", "data": "EuYBCkQY+/=="},
        {"type": "text", "text": "I ask"},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
    ])
}

fn anthropic_answer() -> Said {
    whole(&json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
        "content": anthropic_blocks(), "stop_reason": "tool_use", "usage": {"input_tokens": 1, "output_tokens": 1}}))
}

fn anthropic_stream() -> Said {
    let blocks = anthropic_blocks();
    let start =
        |index: usize, block: Value| json!({"type": "content_block_start", "index": index, "content_block": block});
    let delta = |index: usize, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
    let stop = |index: usize| json!({"type": "content_block_stop", "index": index});
    let (head, tail) = SIGNATURE.split_at(7);
    events(&[
        json!({"type": "message_start", "message": {"id": "msg_1", "model": "claude-sonnet-4-5", "content": []}}),
        start(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
        delta(0, json!({"type": "thinking_delta", "thinking": "Hm, "})),
        delta(0, json!({"type": "thinking_delta", "thinking": "\u{2028} so"})),
        delta(0, json!({"type": "signature_delta", "signature": head})),
        delta(0, json!({"type": "signature_delta", "signature": tail})),
        stop(0),
        start(1, blocks[1].clone()),
        stop(1),
        start(2, json!({"type": "text", "text": ""})),
        delta(2, json!({"type": "text_delta", "text": "I ask"})),
        stop(2),
        start(3, json!({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}})),
        delta(3, json!({"type": "input_json_delta", "partial_json": "{\"a\": 1}"})),
        stop(3),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}),
        json!({"type": "message_stop"}),
    ])
}

#[tokio::test]
async fn anthropic_gets_its_thinking_back_as_it_signed_it() {
    for said in [anthropic_answer(), anthropic_stream()] {
        let turns = Loop::start("anthropic", "claude-sonnet-4-5", json!({"reasoning_effort": "low"})).await;
        let message = turns.first(said).await;
        assert_eq!(message["reasoning_content"], "Hm, \u{2028} so");
        let (sent, warnings) = turns.second(&message).await;
        assert_eq!(sent["messages"][1], json!({"role": "assistant", "content": anthropic_blocks()}));
        assert_eq!(sent["messages"][2]["content"][0]["tool_use_id"], "toolu_1");
        assert_eq!((&sent["thinking"]["type"], warnings.as_str()), (&json!("enabled"), ""));
    }
}

#[tokio::test]
async fn anthropic_is_not_asked_to_think_where_its_thinking_got_lost() {
    let own = json!({"thinking": {"type": "enabled", "budget_tokens": 2000}});
    for (more, named) in [(json!({"reasoning_effort": "low"}), "reasoning_effort"), (own, "thinking")] {
        let turns = Loop::start("anthropic", "claude-sonnet-4-5", more).await;
        let message = stripped(&turns.first(anthropic_answer()).await);
        let (sent, warnings) = turns.second(&message).await;
        assert_eq!(sent["messages"][1]["content"], json!([anthropic_blocks()[2], anthropic_blocks()[3]]));
        assert_eq!((sent.get("thinking"), warnings.as_str()), (None, named));
    }
}

fn converse_blocks() -> Value {
    json!([
        {"reasoningContent": {"reasoningText": {"text": "Hm", "signature": SIGNATURE}}},
        {"reasoningContent": {"redactedContent": STANDARD.encode([0xff, 0x00, 0x7f])}},
        {"text": "I ask"},
        {"toolUse": {"toolUseId": "tooluse_1", "name": "f", "input": {"a": 1}}},
    ])
}

fn converse_answer() -> Said {
    whole(&json!({"output": {"message": {"role": "assistant", "content": converse_blocks()}}, "stopReason": "tool_use",
        "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}}))
}

fn converse_stream() -> Said {
    let delta = |index: usize, delta: Value| ("contentBlockDelta", json!({"contentBlockIndex": index, "delta": delta}));
    let stop = |index: usize| ("contentBlockStop", json!({"contentBlockIndex": index}));
    let redacted = STANDARD.encode([0xff, 0x00, 0x7f]);
    let call = json!({"contentBlockIndex": 3, "start": {"toolUse": {"toolUseId": "tooluse_1", "name": "f"}}});
    frames(&[
        ("messageStart", json!({"role": "assistant"})),
        delta(0, json!({"reasoningContent": {"text": "Hm"}})),
        delta(0, json!({"reasoningContent": {"signature": SIGNATURE}})),
        stop(0),
        delta(1, json!({"reasoningContent": {"redactedContent": redacted}})),
        stop(1),
        delta(2, json!({"text": "I ask"})),
        stop(2),
        ("contentBlockStart", call),
        delta(3, json!({"toolUse": {"input": "{\"a\": 1}"}})),
        stop(3),
        ("messageStop", json!({"stopReason": "tool_use"})),
        ("metadata", json!({"usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}})),
    ])
}

#[tokio::test]
async fn bedrock_gets_its_reasoning_back_as_it_signed_it() {
    for said in [converse_answer(), converse_stream()] {
        let model = "anthropic.claude-sonnet-4-5-20250929-v1:0";
        let turns = Loop::start("bedrock", model, json!({"reasoning_effort": "low"})).await;
        let message = turns.first(said).await;
        let (sent, warnings) = turns.second(&message).await;
        assert_eq!(sent["messages"][1], json!({"role": "assistant", "content": converse_blocks()}));
        assert_eq!(sent["messages"][2]["content"][0]["toolResult"]["toolUseId"], "tooluse_1");
        assert_eq!(warnings, "");
    }
}

#[tokio::test]
async fn google_gets_its_thought_signature_back_with_the_call_that_it_signed() {
    let call = json!({"functionCall": {"name": "f", "args": {"a": 1}, "id": "call-1"}, "thoughtSignature": SIGNATURE});
    let answer = |parts: Value, reason: Value| json!({"responseId": "r", "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": reason}]});
    let thought = json!({"text": "Hm", "thought": true});
    let (ask, end) = (json!({"text": "I ask"}), json!({"text": ""}));
    let streamed = [
        answer(json!([thought]), Value::Null),
        answer(json!([ask]), Value::Null),
        answer(json!([call]), Value::Null),
        answer(json!([end]), json!("STOP")),
    ];
    for said in [whole(&answer(json!([thought, ask, call]), json!("STOP"))), events(&streamed)] {
        let turns = Loop::start("gemini", "gemini-3-pro-preview", json!({})).await;
        let message = turns.first(said).await;
        let (sent, warnings) = turns.second(&message).await;
        let parts = sent["contents"][1]["parts"].as_array().unwrap();
        assert_eq!(parts.last().unwrap(), &call);
        assert_eq!(sent["contents"][2]["parts"][0]["functionResponse"]["id"], "call-1");
        assert_eq!(warnings, "");

        let (sent, _) = turns.second(&stripped(&message)).await;
        let part = &sent["contents"][1]["parts"][1];
        let stand_in = STANDARD.decode(part["thoughtSignature"].as_str().unwrap()).unwrap();
        assert_eq!(stand_in, b"skip_thought_signature_validator");
    }
}
