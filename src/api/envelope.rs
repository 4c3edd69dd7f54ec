//! OpenAI's error envelope: `{"error":{"message","type","param","code"}}`, all four keys always there.
//!
//! Not here: statuses and headers (`proxy::respond`), and what a client may read (`error`).

use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::Error;

#[derive(Serialize)]
struct Envelope<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Option<&'a str>,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'static str>,
    /// What the provider says beyond OpenAI's members.
    #[serde(flatten)]
    more: Option<&'a Map<String, Value>>,
}

/// The error as the JSON text of an answer's body.
pub fn json(error: &Error) -> String {
    let envelope = Envelope {
        error: Inner {
            message: error.message(),
            r#type: error.error_type(),
            param: error.param(),
            code: error.code(),
            provider: error.provider(),
            more: error.more(),
        },
    };
    serde_json::to_string(&envelope).unwrap_or_else(|_| {
        r#"{"error":{"message":"internal error","type":"server_error","param":null,"code":"internal_error"}}"#
            .to_owned()
    })
}

/// The error as the last event of a stream that had begun. Nothing follows it, least of all `[DONE]`.
pub fn event(error: &Error) -> Vec<u8> {
    let mut out = Vec::new();
    crate::sse::write_data(&mut out, json(error).as_bytes());
    out
}
