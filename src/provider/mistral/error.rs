//! Mistral's errors: a flat object, `detail` as text or as a list of what is wrong where, and the one inside the other.

use serde_json::Value;

use crate::error::Error;
use crate::provider::detail::{place, sentence};
use crate::provider::{ProviderMessage, event_failure};

/// What an error body says.
pub(super) fn read(body: &[u8]) -> ProviderMessage {
    said(&serde_json::from_slice(body).unwrap_or_default())
}

/// An error that came with status 200, in a body or as an event of a stream.
pub(super) fn in_answer(body: &[u8], provider: &'static str) -> Error {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = value.get("error").filter(|error| error.is_object()).unwrap_or(&value);
    let status = ["raw_status_code", "status_code", "code"].iter().find_map(|name| error.get(name)?.as_u64());
    let status = status.and_then(|status| u16::try_from(status).ok()).filter(|status| (400..600).contains(status));
    event_failure(status.unwrap_or(500), said(&value), provider)
}

fn said(value: &Value) -> ProviderMessage {
    let error = value.get("error").unwrap_or(value);
    if let Some(text) = error.as_str() {
        return ProviderMessage { message: Some(text.to_owned()), ..ProviderMessage::default() };
    }
    let text = |name: &str| match error.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let message = error.get("message").filter(|message| !message.is_null());
    // A message may hold the details that otherwise stand alone.
    let details = [message.and_then(|message| message.get("detail")), error.get("detail"), message];
    let details = details.into_iter().flatten().find(|detail| detail.is_array() || detail.is_string());
    let blames_model = text("type").as_deref() == Some("invalid_model");
    let place = details.and_then(|details| details.get(0)).and_then(place);
    ProviderMessage {
        message: details.map(sentence),
        error_type: text("type"),
        code: text("code"),
        param: text("param").or(place).or_else(|| blames_model.then(|| "model".to_owned())),
        key_invalid: false,
        retry_after: None,
        ..ProviderMessage::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn every_shape_of_an_error_is_read() {
        let flat = read(br#"{"object":"error","message":"Invalid model: x","type":"invalid_model","param":null,"code":"1500","raw_status_code":400}"#);
        assert_eq!((flat.message.as_deref(), flat.code.as_deref()), (Some("Invalid model: x"), Some("1500")));
        assert_eq!((flat.error_type.as_deref(), flat.param.as_deref()), (Some("invalid_model"), Some("model")));
        assert_eq!(read(br#"{"detail":"Invalid API Key"}"#).message.as_deref(), Some("Invalid API Key"));
        let list = r#"[{"type":"extra_forbidden","loc":["body","messages",0,"user","name"],"msg":"Extra inputs are not permitted"}]"#;
        for body in [
            format!(r#"{{"detail":{list}}}"#),
            format!(r#"{{"object":"error","message":{{"detail":{list}}},"type":"invalid_request_error"}}"#),
            format!(r#"{{"object":"Error","message":{list},"code":3001}}"#),
        ] {
            let said = read(body.as_bytes());
            assert_eq!(said.message.as_deref(), Some("messages.0.user.name: Extra inputs are not permitted"), "{body}");
            assert_eq!(said.param.as_deref(), Some("messages.0.user.name"));
        }
        assert_eq!(read(b"<html>"), ProviderMessage::default());
    }

    #[test]
    fn an_error_inside_an_answer_has_the_status_that_it_names() {
        let kind = |body: &str| in_answer(body.as_bytes(), "mistral").kind();
        assert_eq!(kind(r#"{"object":"error","message":"x","raw_status_code":429}"#), ErrorKind::ProviderRateLimited);
        assert_eq!(kind(r#"{"error":{"message":"x","code":503}}"#), ErrorKind::ProviderOverloaded);
        assert_eq!(kind(r#"{"object":"error","message":"x","code":"1500"}"#), ErrorKind::ProviderError);
    }
}
