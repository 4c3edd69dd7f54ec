//! `POST /v1/embeddings`: what the gateway must know of the request, and the form of the vectors. The rest goes through untouched.
//!
//! OpenAI's own SDK for Python asks for base64 unless it is told otherwise, and few other providers have it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::scan::Body;
use super::walk::span;
use crate::error::{Error, Result};

/// Checks the shape that every provider needs: an `input` that is a text, a list of texts or tokens.
pub fn check(body: &Body) -> Result<()> {
    match body.get::<Value>("input")? {
        Some(Value::String(_)) => Ok(()),
        Some(Value::Array(items)) if !items.is_empty() => Ok(()),
        Some(Value::Array(_)) => Err(Error::invalid("input", "'input' must not be empty.")),
        Some(_) => Err(Error::invalid("input", "'input' must be a string or an array.")),
        None => Err(Error::invalid("input", "You must provide an 'input' parameter.")),
    }
}

/// Whether the vectors are asked for as base64.
pub fn wants_base64(body: &Body) -> bool {
    body.raw("encoding_format") == Some("\"base64\"")
}

#[derive(Deserialize)]
struct View<'a> {
    #[serde(borrow)]
    data: Vec<Item<'a>>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    embedding: Option<&'a RawValue>,
}

/// An answer of OpenAI's form with each vector as base64 of its little-endian 32-bit floats. A vector that is no list of
/// numbers stays as it is, and so does everything around them.
pub fn in_base64(answer: Bytes) -> Bytes {
    let Ok(View { data }) = serde_json::from_slice(&answer) else { return answer };
    let vectors = data.iter().filter_map(|item| item.embedding);
    let mut made = Vec::with_capacity(answer.len());
    let mut copied = 0;
    for raw in vectors.map(RawValue::get) {
        let Some(text) = encoded(raw) else { continue };
        let Some(place) = span(&answer, raw) else { continue };
        made.extend_from_slice(answer.get(copied..place.start).unwrap_or_default());
        made.extend_from_slice(text.as_bytes());
        copied = place.end;
    }
    if copied == 0 {
        return answer;
    }
    made.extend_from_slice(answer.get(copied..).unwrap_or_default());
    made.into()
}

fn encoded(raw: &str) -> Option<String> {
    let numbers: Vec<f32> = serde_json::from_str(raw).ok()?;
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    Some(format!("\"{}\"", STANDARD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_become_little_endian_floats_and_nothing_else_changes() {
        let answer = r#"{"data":[{"embedding": [1, -0.5],"index":0}, {"index":1,"embedding":"AAAA"}], "usage":{"total_tokens":3.0}}"#;
        // 1.0 is 00 00 80 3f, -0.5 is 00 00 00 bf.
        let expected = r#"{"data":[{"embedding": "AACAPwAAAL8=","index":0}, {"index":1,"embedding":"AAAA"}], "usage":{"total_tokens":3.0}}"#;
        assert_eq!(in_base64(Bytes::from_static(answer.as_bytes())), expected);
        for same in ["{}", "no JSON", r#"{"data":[{"embedding":[null]}]}"#] {
            assert_eq!(in_base64(Bytes::from_static(same.as_bytes())), same);
        }
    }
}
