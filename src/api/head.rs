//! What every chat request is asked before anything else, cheaply: model, stream, deadline, and whether known members have the
//! JSON types that OpenAI's API gives them.
//!
//! Not here: the whole typed request (`chat`), which only a foreign dialect needs. Invariant: nothing is parsed that does not have
//! to be; a wrong type is a 400 that names the parameter.

use std::time::Duration;

use serde::Deserialize;

use super::chat::StreamOptions;
use super::scan::Body;
use super::walk;
use crate::error::{Error, Result};

/// What the gateway itself needs of a chat request.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatHead {
    /// The model as the client named it.
    pub model: String,
    /// Whether the client wants server-sent events.
    pub stream: bool,
    /// Whether the client asked for the usage chunk.
    pub include_usage: bool,
    /// The client's own deadline for the whole request.
    pub timeout: Option<Duration>,
    /// `max_completion_tokens` or `max_tokens`.
    pub max_output: Option<u64>,
    /// Whether a JSON object is asked for, any or one of a schema, which some dialects have to emulate.
    pub json_object: bool,
}

impl ChatHead {
    /// Reads and checks the head. Every failure is a 400 that names the parameter.
    pub fn read(body: &Body) -> Result<Self> {
        check_kinds(body)?;
        check_messages(body)?;
        let stream_options: Option<StreamOptions> = body.get("stream_options")?;
        let max_output = match body.get::<u64>("max_completion_tokens")? {
            Some(tokens) => Some(tokens),
            None => body.get::<u64>("max_tokens")?,
        };
        Ok(Self {
            model: read_model(body)?,
            stream: body.get::<bool>("stream")?.unwrap_or(false),
            include_usage: stream_options.and_then(|options| options.include_usage).unwrap_or(false),
            timeout: read_timeout(body)?,
            max_output,
            json_object: body.raw("response_format").is_some_and(asks_json_object),
        })
    }
}

/// The `model` of any request: a non-empty text of at most 256 visible ASCII characters, spaces not among them.
pub fn read_model(body: &Body) -> Result<String> {
    let model: Option<String> = body.get("model")?;
    let Some(model) = model.filter(|model| !model.is_empty()) else {
        return Err(Error::invalid("model", "You must provide a 'model' parameter."));
    };
    let sane = model.len() <= 256 && model.bytes().all(|byte| byte.is_ascii_graphic()) && !model.contains("..");
    if !sane {
        return Err(Error::invalid("model", "Invalid value for 'model': not a model name."));
    }
    Ok(model)
}

/// Whether a `response_format` is `{"type":"json_object"}` or has a schema.
fn asks_json_object(raw: &str) -> bool {
    #[derive(Deserialize)]
    struct Format<'a> {
        r#type: &'a str,
    }
    serde_json::from_str::<Format<'_>>(raw).is_ok_and(|format| matches!(format.r#type, "json_object" | "json_schema"))
}

/// The body field `timeout`, in seconds.
fn read_timeout(body: &Body) -> Result<Option<Duration>> {
    let Some(seconds) = body.get::<f64>("timeout")? else {
        return Ok(None);
    };
    seconds_to_duration(seconds).map(Some).ok_or_else(|| {
        Error::invalid("timeout", "Invalid value for 'timeout': expected a number of seconds above zero.")
    })
}

/// A positive, finite number of seconds as a duration.
pub fn seconds_to_duration(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero())
}

/// The JSON kinds a known member may have, by the first byte of its text.
const KINDS: &[(&str, &str, &[u8])] = &[
    ("messages", "an array", b"["),
    ("tools", "an array", b"["),
    ("functions", "an array", b"["),
    ("modalities", "an array", b"["),
    ("temperature", "a number", NUMBER),
    ("top_p", "a number", NUMBER),
    ("frequency_penalty", "a number", NUMBER),
    ("presence_penalty", "a number", NUMBER),
    ("n", "an integer", NUMBER),
    ("seed", "an integer", NUMBER),
    ("top_logprobs", "an integer", NUMBER),
    ("logprobs", "a boolean", b"tf"),
    ("store", "a boolean", b"tf"),
    ("parallel_tool_calls", "a boolean", b"tf"),
    ("stop", "a string or an array of strings", b"\"["),
    ("tool_choice", "a string or an object", b"\"{"),
    ("response_format", "an object", b"{"),
    ("logit_bias", "an object", b"{"),
    ("metadata", "an object", b"{"),
    ("reasoning_effort", "a string", b"\""),
    ("service_tier", "a string", b"\""),
    ("user", "a string", b"\""),
];
const NUMBER: &[u8] = b"-0123456789";

fn check_kinds(body: &Body) -> Result<()> {
    for (key, expected, first_bytes) in KINDS {
        let Some(raw) = body.raw(key) else { continue };
        let fits = raw == "null" || raw.as_bytes().first().is_some_and(|byte| first_bytes.contains(byte));
        if !fits {
            return Err(Error::invalid(*key, format!("Invalid type for '{key}': expected {expected}.")));
        }
    }
    Ok(())
}

fn check_messages(body: &Body) -> Result<()> {
    let Some(raw) = body.raw("messages").filter(|raw| *raw != "null") else {
        return Err(Error::invalid("messages", "You must provide a 'messages' parameter."));
    };
    let mut count = 0;
    for (index, message) in walk::objects(raw, ["role", "content"]).enumerate() {
        check_message(index, message)?;
        count += 1;
    }
    if count == 0 {
        return Err(Error::invalid("messages", "'messages' must not be empty."));
    }
    Ok(())
}

/// What every message must have, whoever answers.
fn check_message(index: usize, message: Option<[Option<&str>; 2]>) -> Result<()> {
    let Some([role, content]) = message else {
        return Err(Error::invalid("messages", "Invalid type for 'messages': expected an array of objects."));
    };
    let role = role.filter(|role| *role != "null");
    let blame = |text: String| Err(Error::invalid(format!("messages[{index}].role"), text));
    match role {
        None => blame(format!("Message {index} has no 'role'.")),
        Some(role) if !role.starts_with('"') => blame(format!("The 'role' of message {index} must be a string.")),
        Some(_) => match content.unwrap_or("null") {
            "null" => Ok(()),
            content if content.starts_with(['"', '[']) => Ok(()),
            _ => {
                let param = format!("messages[{index}].content");
                Err(Error::invalid(param, "Message content must be a string or an array of content parts."))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ChatHead> {
        ChatHead::read(&Body::scan(text.to_owned().into()).unwrap())
    }

    fn blamed(text: &str) -> String {
        read(text).unwrap_err().param().unwrap_or_default().to_owned()
    }

    #[test]
    fn the_head_is_read_without_the_rest() {
        let head = read(
            r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"stream":true,"timeout":1.5,
                "max_tokens":7,"stream_options":{"include_usage":true},"response_format":{"type":"json_object"}}"#,
        )
        .unwrap();
        assert_eq!((head.model.as_str(), head.stream, head.include_usage), ("gpt-4o", true, true));
        assert_eq!((head.timeout, head.max_output), (Some(Duration::from_millis(1500)), Some(7)));
        assert!(head.json_object);
    }

    #[test]
    fn a_wrong_type_is_blamed_by_name() {
        let with =
            |member: &str| blamed(&format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],{member}}}"#));
        assert_eq!(with(r#""temperature":"hot""#), "temperature");
        assert_eq!(with(r#""stream":"yes""#), "stream");
        assert_eq!(with(r#""max_tokens":"many""#), "max_tokens");
        assert_eq!(with(r#""tools":{}"#), "tools");
        assert_eq!(with(r#""timeout":-1"#), "timeout");
        assert_eq!(with(r#""stream_options":7"#), "stream_options");
        assert_eq!(blamed(r#"{"messages":[{"role":"user"}]}"#), "model");
        assert_eq!(blamed(r#"{"model":"a/../b","messages":[{"role":"user"}]}"#), "model");
        assert_eq!(blamed(r#"{"model":"m"}"#), "messages");
        assert_eq!(blamed(r#"{"model":"m","messages":[]}"#), "messages");
        assert_eq!(blamed(r#"{"model":"m","messages":[{"content":"x"}]}"#), "messages[0].role");
        assert_eq!(blamed(r#"{"model":"m","messages":[{"role":"user","content":5}]}"#), "messages[0].content");
    }
}
