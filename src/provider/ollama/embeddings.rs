//! Embeddings: OpenAI's request as a call of `POST /api/embed`, and its answer back.

use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::response::error_in_answer;
use super::wire::Count;
use crate::api::scan::Body;
use crate::error::{Error, ErrorKind, Result};
use crate::provider::warnings::{Warnings, is_neutral};
use crate::provider::{Answer, AnswerContext, Outgoing, Target, protocol};
use crate::usage::{Bill, Usage};

/// What Ollama knows by the same name.
const KNOWN: &[&str] = &["input", "dimensions", "truncate", "options", "keep_alive"];

/// The call. Numbers come as JSON; the gateway gives them the form that `encoding_format` asks for.
pub(super) fn request(body: &Body, target: &Target<'_>) -> Result<Outgoing> {
    let mut sent = Map::new();
    let mut warnings = Warnings::default();
    sent.insert("model".to_owned(), target.model.into());
    for key in body.keys() {
        let Some(value) = body.get::<Value>(key)? else { continue };
        match key {
            "model" | "timeout" => {}
            "encoding_format" if value == "float" || value == "base64" => {}
            "input" if !is_text(&value) => {
                let message = "The provider 'ollama' embeds texts, not tokens.";
                return Err(Error::new(ErrorKind::UnsupportedParameter, message).with_param("input"));
            }
            known if KNOWN.contains(&known) => drop(sent.insert(known.to_owned(), value)),
            lost if !is_neutral(&value) => warnings.add(lost),
            _ => {}
        }
    }
    let body = serde_json::to_vec(&sent).map_err(Error::internal)?;
    super::outgoing(target, Method::POST, "/api/embed", body.into(), warnings.into_names())
}

fn is_text(input: &Value) -> bool {
    input.is_string() || input.as_array().is_some_and(|texts| texts.iter().all(Value::is_string))
}

#[derive(Deserialize)]
struct Embedded<'a> {
    model: Option<String>,
    #[serde(borrow)]
    embeddings: Option<Vec<&'a RawValue>>,
    prompt_eval_count: Option<Count>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// One embedding in OpenAI's shape.
#[derive(Serialize)]
struct Item<'a> {
    object: &'static str,
    index: usize,
    embedding: &'a RawValue,
}

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Item<'a>>,
    model: &'a str,
    usage: Value,
}

/// The answer; the numbers are passed on as they were written.
pub(super) fn answer(body: &Bytes, context: &AnswerContext) -> Result<Answer> {
    let read: Embedded<'_> = serde_json::from_slice(body).map_err(|cause| protocol(context.provider, cause))?;
    if read.error.is_some() {
        return Err(error_in_answer(body, context.provider));
    }
    let Some(embeddings) = read.embeddings else {
        return Err(protocol(context.provider, "neither embeddings nor an error"));
    };
    let usage = read.prompt_eval_count.map(|count| Usage { input: count.0, ..Usage::default() });
    let tokens = usage.unwrap_or_default().input;
    let items = embeddings.into_iter().enumerate();
    let list = List {
        object: "list",
        data: items.map(|(index, embedding)| Item { object: "embedding", index, embedding }).collect(),
        model: read.model.as_deref().unwrap_or(&context.model),
        usage: json!({"prompt_tokens": tokens, "total_tokens": tokens}),
    };
    let body = serde_json::to_vec(&list).map_err(Error::internal)?;
    Ok(Answer { body: body.into(), usage, bill: Bill::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::provider::Endpoint;
    use crate::provider::ollama::OLLAMA;
    use crate::provider::tests_support::context;

    fn send(body: &Value) -> Result<Outgoing> {
        let body = Body::scan(Bytes::from(body.to_string())).unwrap();
        let endpoint = Endpoint::parse("http://gpu:11434/ollama").unwrap();
        let (key, options, now) = (Secret::new(""), Map::new(), jiff::Timestamp::UNIX_EPOCH);
        let target =
            Target { provider: &OLLAMA, endpoint: &endpoint, key: &key, options: &options, model: "all-minilm", now };
        request(&body, &target)
    }

    #[test]
    fn texts_are_sent_and_what_is_lost_is_named() {
        let sent = send(&json!({"model": "m", "input": ["a", "b"], "dimensions": 8, "encoding_format": "base64",
            "user": "u", "timeout": 2, "keep_alive": "1m"}))
        .unwrap();
        assert_eq!(sent.path, "/ollama/api/embed");
        let body: Value = serde_json::from_slice(&sent.body.whole()).unwrap();
        assert_eq!(body, json!({"model": "all-minilm", "input": ["a", "b"], "dimensions": 8, "keep_alive": "1m"}));
        assert_eq!(sent.warnings, ["user"]);
        assert!(send(&json!({"model": "m", "input": "a", "encoding_format": "float"})).unwrap().warnings.is_empty());
        assert_eq!(send(&json!({"model": "m", "input": [1, 2]})).err().unwrap().param(), Some("input"));
    }

    #[test]
    fn numbers_come_back_as_they_were_written() {
        let body = Bytes::from_static(
            br#"{"model":"all-minilm","embeddings":[[0.010071029,-1e-3],[2]],"total_duration":1,"prompt_eval_count":8}"#,
        );
        let answer = answer(&body, &context("ollama")).unwrap();
        assert_eq!(
            answer.body,
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.010071029,-1e-3]},{"object":"embedding","index":1,"embedding":[2]}],"model":"all-minilm","usage":{"prompt_tokens":8,"total_tokens":8}}"#
        );
        assert_eq!(answer.usage.unwrap().input, 8);
        let kind =
            |body: &'static [u8]| super::answer(&Bytes::from_static(body), &context("ollama")).unwrap_err().kind();
        assert_eq!(kind(br#"{"error":"this model does not support embeddings"}"#), ErrorKind::ProviderError);
        assert_eq!(kind(b"{}"), ErrorKind::ProviderProtocol);
    }
}
