//! The few changes that a request of the same dialect needs.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{ChatCall, OpenAi, Target};
use crate::api::scan::Body;
use crate::error::{Error, ErrorKind, Result};

/// The chat body for the provider, and the names of the parameters that were taken out.
pub(super) fn chat(dialect: &OpenAi, call: &ChatCall<'_>, target: &Target<'_>) -> Result<(Bytes, Vec<String>)> {
    let body = call.body;
    if dialect.single_choice && body.get::<u64>("n")?.is_some_and(|n| n > 1) {
        let message = format!("The provider '{}' returns one choice only: 'n' must be 1.", target.provider.name);
        return Err(Error::new(ErrorKind::UnsupportedParameter, message).with_param("n"));
    }
    let mut edit = body.edit();
    edit.set("model", json_text(target.model)).remove("timeout");
    if call.head.stream && !call.head.include_usage {
        edit.set("stream_options", with_usage(body)?);
    }
    let mut warnings = Vec::new();
    for name in dialect.unsupported {
        match body.raw(name) {
            None => {}
            // Neutral values ask for nothing, so taking them out changes nothing.
            Some("null" | "false" | "{}" | "0") => {
                edit.remove(name);
            }
            Some(_) => {
                edit.remove(name);
                warnings.push((*name).to_owned());
            }
        }
    }
    Ok((edit.apply(), warnings))
}

/// The embeddings body for the provider.
pub(super) fn embeddings(body: &Body, target: &Target<'_>) -> Bytes {
    let mut edit = body.edit();
    edit.set("model", json_text(target.model)).remove("timeout");
    edit.apply()
}

/// The client's stream options with the usage asked for: without it, nobody would know what a stream cost.
fn with_usage(body: &Body) -> Result<String> {
    let mut options: Map<String, Value> = body.get("stream_options")?.unwrap_or_default();
    options.insert("include_usage".to_owned(), Value::Bool(true));
    Ok(Value::Object(options).to_string())
}

fn json_text(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::head::ChatHead;
    use crate::config::Secret;
    use crate::provider::openai::{OPENAI, compatible::GROQ};
    use crate::provider::{Endpoint, Outgoing, Provider};

    fn send(provider: &'static Provider, body: &str) -> Result<Outgoing> {
        let body = Body::scan(Bytes::copy_from_slice(body.as_bytes())).unwrap();
        let head = ChatHead::read(&body).unwrap();
        let endpoint = Endpoint::parse(provider.base_url).unwrap();
        let (key, options) = (Secret::new("sk-test"), Map::new());
        let target = Target {
            provider,
            endpoint: &endpoint,
            key: &key,
            options: &options,
            model: "up",
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        provider.dialect.chat(&ChatCall::new(&body, &head), &target)
    }

    const TALK: &str = r#""messages":[{"role":"user","content":"hi"}]"#;

    #[test]
    fn only_the_model_and_our_own_deadline_change() {
        let sent =
            send(&OPENAI, &format!(r#"{{"timeout": 3, "model":"gpt-4o", "seed":12345678901234567890123, {TALK}}}"#));
        let sent = sent.unwrap();
        assert_eq!(sent.path, "/v1/chat/completions");
        assert_eq!(sent.body, format!(r#"{{ "model":"up", "seed":12345678901234567890123, {TALK}}}"#));
    }

    #[test]
    fn a_stream_asks_for_usage_and_keeps_the_other_options() {
        let sent = send(
            &OPENAI,
            &format!(r#"{{"model":"up",{TALK},"stream":true,"stream_options":{{"include_obfuscation":false}}}}"#),
        );
        let sent = String::from_utf8(sent.unwrap().body.to_vec()).unwrap();
        assert!(sent.ends_with(r#""stream_options":{"include_obfuscation":false,"include_usage":true}}"#), "{sent}");
    }

    #[test]
    fn groq_is_spared_what_it_refuses_and_the_client_is_told() {
        let sent =
            send(&GROQ, &format!(r#"{{"model":"up",{TALK},"logprobs":true,"top_logprobs":2,"logit_bias":{{}}}}"#));
        let sent = sent.unwrap();
        assert_eq!(sent.path, "/openai/v1/chat/completions");
        assert_eq!(sent.body, format!(r#"{{"model":"up",{TALK}}}"#));
        assert_eq!(sent.warnings, ["logprobs", "top_logprobs"]);
        let refused = send(&GROQ, &format!(r#"{{"model":"up",{TALK},"n":2}}"#)).err().unwrap();
        assert_eq!(refused.param(), Some("n"));
    }
}
