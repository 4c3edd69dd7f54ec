//! Errors of OpenAI's dialect: its envelope, and what compatible servers put in its place, under any status.

use serde_json::{Map, Value};

use crate::error::Error;
use crate::provider::detail::{place, sentence};
use crate::provider::{ProviderMessage, event_failure};

/// An error object that came with status 200, in a body or as an event of a stream.
pub(super) fn error_object(error: &str, provider: &'static str) -> Error {
    let value: Value = serde_json::from_str(error).unwrap_or_default();
    event_failure(status_of(&value), said(&value), provider)
}

/// An error in the place of an answer or a chunk, without the envelope; `None` where the object holds none.
pub(super) fn misplaced_error(body: &[u8], provider: &'static str) -> Option<Error> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let said = said(&value);
    said.message.as_deref().filter(|message| !message.is_empty())?;
    Some(event_failure(status_of(&value), said, provider))
}

/// The status that an error object stands for: Groq writes `status_code`, Azure `status`, OpenRouter a numeric `code`.
fn status_of(error: &Value) -> u16 {
    let number = |key: &str| {
        let value = error.get(key)?;
        let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
        u16::try_from(number).ok().filter(|status| (400..600).contains(status))
    };
    if let Some(status) = number("status_code").or_else(|| number("status")).or_else(|| number("code")) {
        return status;
    }
    // MiniMax (platform.minimax.io, "Error codes").
    match error.pointer("/base_resp/status_code").and_then(Value::as_u64) {
        Some(1002 | 1039) => return 429,
        Some(1004) => return 401,
        Some(1008) => return 402,
        _ => {}
    }
    let word = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
    match (word("code"), word("type")) {
        ("rate_limit_exceeded" | "insufficient_quota", _) | (_, "insufficient_quota" | "rate_limit_error") => 429,
        ("server_is_overloaded" | "slow_down", _) | (_, "overloaded_error" | "engine_overloaded_error") => 503,
        ("invalid_api_key", _) | (_, "authentication_error") => 401,
        (_, "invalid_request_error") => 400,
        _ => 500,
    }
}

/// What an error body says: the envelope, or what compatible servers put in its place.
pub(super) fn read_error(body: &[u8]) -> ProviderMessage {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    // Gemini's compatible endpoint wraps the envelope into a list.
    let value = value.get(0).unwrap_or(&value);
    match value.get("error").filter(|error| !error.is_null()) {
        // xAI, Venice, Hugging Face: a text or several, with code and type beside it.
        Some(error @ (Value::String(_) | Value::Array(_))) => {
            let beside = said(value);
            let error_type = beside.error_type.or_else(|| Some(value.get("error_type")?.as_str()?.to_owned()));
            ProviderMessage { code: beside.code, error_type, ..said(error) }
        }
        Some(error) => said(error),
        None => said(value),
    }
}

/// What an error object, or a text in its place, says.
fn said(error: &Value) -> ProviderMessage {
    let text = |key: &str| match error.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    // vLLM's message may hold the details that otherwise stand alone; a list stands for itself at Hugging Face.
    let details = [error.get("detail"), error.get("message"), error.get("errors"), Some(error)];
    let details = details.into_iter().flatten().find(|details| details.as_array().is_some_and(|list| !list.is_empty()));
    let message = error.as_str().map(str::to_owned).or_else(|| text("message")).or_else(|| text("detail"));
    let message = message
        .or_else(|| details.map(sentence))
        .or_else(|| ["msg", "error_msg", "title"].iter().find_map(|key| text(key)))
        .or_else(|| error.pointer("/base_resp/status_msg")?.as_str().map(str::to_owned));
    ProviderMessage {
        // xAI refuses a key with status 400 and OpenAI's words.
        key_invalid: message.as_deref().is_some_and(|message| message.starts_with("Incorrect API key provided")),
        message,
        error_type: text("type"),
        code: text("code"),
        param: text("param").or_else(|| place(details?.get(0)?)),
        retry_after: None,
        more: more(error),
    }
}

/// Members beyond OpenAI's: what failed (`failed_generation` of Groq), who failed (`metadata` of OpenRouter), which filter
/// was triggered (`innererror` of Azure).
fn more(error: &Value) -> Map<String, Value> {
    const KNOWN: [&str; 7] = ["message", "type", "param", "code", "provider", "object", "error"];
    let members = error.as_object().into_iter().flatten();
    let members = members.filter(|(name, value)| !KNOWN.contains(&name.as_str()) && !value.is_null());
    members.map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn error_bodies_are_read_in_the_shapes_that_exist() {
        let message = |body: &str| read_error(body.as_bytes()).message;
        assert_eq!(message(r#"{"error":{"message":"a"}}"#).as_deref(), Some("a"));
        assert_eq!(message(r#"{"error":"b"}"#).as_deref(), Some("b"));
        assert_eq!(message(r#"{"message":"c"}"#).as_deref(), Some("c"));
        assert_eq!(message(r#"{"detail":"d"}"#).as_deref(), Some("d"));
        assert_eq!(message("<html>"), None);
    }

    #[test]
    fn a_refused_key_is_known_by_its_words_where_the_status_is_another() {
        let said = read_error(br#"{"code":"invalid-argument","error":"Incorrect API key provided. See x.ai"}"#);
        assert!(said.key_invalid);
        assert_eq!(said.code.as_deref(), Some("invalid-argument"));
        assert!(!read_error(br#"{"code":"invalid-argument","error":"Model not found: x"}"#).key_invalid);
    }

    #[test]
    fn lists_of_what_is_wrong_become_one_sentence_and_name_the_place() {
        let list =
            r#"[{"loc":["body","messages",0],"msg":"field required","type":"missing"},{"loc":["body"],"msg":"no"}]"#;
        let said = read_error(format!(r#"{{"detail":{list}}}"#).as_bytes());
        assert_eq!(said.message.as_deref(), Some("messages.0: field required; no"));
        assert_eq!(said.param.as_deref(), Some("messages.0"));
        let said = read_error(br#"{"error":["too long","too wide"],"error_type":"validation"}"#);
        assert_eq!(
            (said.message.as_deref(), said.error_type.as_deref()),
            (Some("too long; too wide"), Some("validation"))
        );
        let said = read_error(br#"[{"error":{"code":400,"message":"bad key","status":"INVALID_ARGUMENT"}}]"#);
        assert_eq!((said.message.as_deref(), said.code.as_deref()), (Some("bad key"), Some("400")));
        let said = read_error(br#"{"type":"urn:x","title":"Not Found","status":404}"#);
        assert_eq!(said.message.as_deref(), Some("Not Found"));
    }

    #[test]
    fn what_an_error_says_beyond_openais_members_is_kept() {
        let said = read_error(
            br#"{"error":{"message":"m","type":"t","code":"tool_use_failed","failed_generation":"<f>","x":null},"user_id":"u"}"#,
        );
        assert_eq!(Value::from(said.more), serde_json::json!({"failed_generation": "<f>"}));
    }

    #[test]
    fn an_error_without_an_envelope_is_found_in_the_place_of_an_answer() {
        let kind = |body: &str| misplaced_error(body.as_bytes(), "x").map(|error| error.kind());
        assert_eq!(kind(r#"{"detail":"busy"}"#), Some(ErrorKind::ProviderError));
        assert_eq!(kind(r#"{"message":"slow","code":429}"#), Some(ErrorKind::ProviderRateLimited));
        assert_eq!(
            kind(r#"{"base_resp":{"status_code":1002,"status_msg":"limit"}}"#),
            Some(ErrorKind::ProviderRateLimited)
        );
        assert_eq!(
            kind(r#"{"base_resp":{"status_code":1004,"status_msg":"key"}}"#),
            Some(ErrorKind::ProviderKeyInvalid)
        );
        assert_eq!(kind(r#"{"id":"a"}"#), None);
    }
}
