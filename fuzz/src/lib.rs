//! What several targets need: cuts, the reading of what the gateway writes to its clients, texts in JSON, and AWS's framing.

use perpetuo::sse::Decoder;
use serde_json::Value;
use serde_json::value::RawValue;

/// Cuts bytes into pieces whose sizes follow from a number; 0 leaves them whole, 1 cuts every byte off.
pub fn cut(bytes: &[u8], how: u8) -> Vec<&[u8]> {
    let (mut rest, mut state, mut pieces) = (bytes, u64::from(how), Vec::new());
    while !rest.is_empty() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let size = match how {
            0 => rest.len(),
            1 => 1,
            _ => 1 + (state >> 33) as usize % 24,
        };
        let (piece, after) = rest.split_at(size.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// Holds what a client is sent to the form of OpenAI's streams: whole events, each with JSON or `[DONE]`, which is the last. Gives
/// what they say, and whether it came to that. What is no UTF-8 in a provider's own bytes may be handed on, and so may be so many
/// events that are no JSON, which the gateway counts.
pub fn read_stream(bytes: &[u8], mut damaged: u64) -> (Vec<String>, bool) {
    let mut decoder = Decoder::new(usize::MAX);
    decoder.push(bytes);
    let (mut said, mut done) = (Vec::new(), false);
    while let Some(event) = decoder.next_event().expect("no limit") {
        let data = String::from_utf8_lossy(&event.data);
        assert!(!done, "more than [DONE]: {data}");
        done = data.trim() == "[DONE]";
        if !done && serde_json::from_str::<&RawValue>(&data).is_err() {
            assert!(damaged > 0, "no JSON: {data}");
            damaged -= 1;
        }
        said.push(data.into_owned());
    }
    assert!(!decoder.has_partial(), "the last event has no end: {:?}", String::from_utf8_lossy(bytes));
    (said, done)
}

/// Every text of a value, also those within JSON that is given as a text.
pub fn texts(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            into.push(text.clone());
            if let Ok(inner @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str(text) {
                texts(&inner, into);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, into)),
        Value::Object(members) => members.values().for_each(|member| texts(member, into)),
        _ => {}
    }
}

/// A message of AWS's binary framing with these headers, all of them texts.
pub fn aws_message(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    for (name, value) in headers {
        encoded.push(name.len() as u8);
        encoded.extend_from_slice(name.as_bytes());
        encoded.push(7);
        encoded.extend_from_slice(&(value.len() as u16).to_be_bytes());
        encoded.extend_from_slice(value.as_bytes());
    }
    aws_frame(&encoded, payload)
}

/// The same with headers of any bytes; the checksums are right.
pub fn aws_frame(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let total = (16 + headers.len() + payload.len()) as u32;
    let mut bytes = [total.to_be_bytes(), (headers.len() as u32).to_be_bytes()].concat();
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes.extend_from_slice(headers);
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes
}
