//! Embeddings: OpenAI's body as `POST /v2/embed`, and the answer back.
//!
//! Cohere wants to know what the texts are for. OpenAI's clients can't say; one that can sends `input_type`, and without it
//! they are taken for documents (`search_document`).

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::response::read_error;
use super::wire::{UsageWire, lenient};
use crate::api::scan::Body;
use crate::error::{Error, ErrorKind, Result};
use crate::provider::warnings::Warnings;
use crate::provider::{Answer, AnswerContext, Target, event_failure, protocol};
use crate::usage::{Bill, Usage};

/// How many texts Cohere takes at once.
const MAX_TEXTS: usize = 96;
/// Cohere's own parameters, passed on under their names.
const NATIVE: &[&str] = &["input_type", "max_tokens", "priority", "truncate"];
/// OpenAI's parameters that are read here, and our own.
const READ: &[&str] = &["model", "input", "dimensions", "encoding_format", "timeout"];

/// The body for Cohere, and the names of what could not be said.
pub(super) fn request(body: &Body, target: &Target<'_>) -> Result<(Bytes, Vec<String>)> {
    let members: Map<String, Value> = serde_json::from_slice(body.bytes()).map_err(Error::internal)?;
    let mut warnings = Warnings::default();
    warnings.add_unknown("", &members, &[NATIVE, READ].concat());
    let given = |name: &str| members.get(name).filter(|value| !value.is_null());
    let mut sent = Map::new();
    sent.insert("model".to_owned(), target.model.into());
    sent.insert("texts".to_owned(), json!(texts(members.get("input").unwrap_or(&Value::Null))?));
    sent.insert("input_type".to_owned(), "search_document".into());
    sent.insert("embedding_types".to_owned(), json!([encoding(given("encoding_format"))?]));
    for name in NATIVE {
        sent.extend(given(name).map(|value| ((*name).to_owned(), value.clone())));
    }
    sent.extend(given("dimensions").map(|value| ("output_dimension".to_owned(), value.clone())));
    Ok((Bytes::from(Value::Object(sent).to_string()), warnings.into_names()))
}

fn texts(input: &Value) -> Result<Vec<&str>> {
    let unsupported = |message: &'static str| Error::new(ErrorKind::UnsupportedParameter, message).with_param("input");
    let texts: Option<Vec<&str>> = match input {
        Value::String(text) => Some(vec![text]),
        Value::Array(items) => items.iter().map(Value::as_str).collect(),
        _ => None,
    };
    let texts = texts.ok_or_else(|| unsupported("The provider 'cohere' embeds texts, not tokens."))?;
    if texts.len() > MAX_TEXTS {
        return Err(unsupported("The provider 'cohere' embeds at most 96 texts at once."));
    }
    Ok(texts)
}

/// Both encodings are Cohere's own, too: its base64 holds the same 32-bit floats as OpenAI's.
fn encoding(format: Option<&Value>) -> Result<&'static str> {
    match format.map(Value::as_str) {
        None | Some(Some("float")) => Ok("float"),
        Some(Some("base64")) => Ok("base64"),
        Some(_) => {
            let message = "Invalid value for 'encoding_format': expected \"float\" or \"base64\".";
            Err(Error::invalid("encoding_format", message))
        }
    }
}

/// What is read of an answer; the numbers stay the text they are.
#[derive(Deserialize)]
struct AnswerWire<'a> {
    #[serde(borrow)]
    embeddings: Option<Embeddings<'a>>,
    #[serde(default, deserialize_with = "lenient")]
    meta: Option<UsageWire>,
}

#[derive(Deserialize)]
struct Embeddings<'a> {
    #[serde(borrow)]
    float: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    base64: Option<Vec<&'a RawValue>>,
}

/// Reads an answer.
pub(super) fn answer(body: &[u8], context: &AnswerContext) -> Result<Answer> {
    let wire: AnswerWire<'_> = serde_json::from_slice(body).map_err(|cause| protocol(context.provider, cause))?;
    let vectors = wire.embeddings.and_then(|Embeddings { float, base64 }| base64.or(float));
    let Some(vectors) = vectors else {
        let error = read_error(body);
        if error.message.is_some() {
            return Err(event_failure(500, error, context.provider));
        }
        return Err(protocol(context.provider, "neither embeddings nor an error"));
    };
    let billed = wire.meta.and_then(|meta| meta.billed_units);
    let usage = billed.map(|units| {
        let usage = units.to_usage();
        Usage { input: usage.input + units.image_tokens.unwrap_or(0), ..Usage::default() }
    });
    let tokens = usage.unwrap_or_default().input;
    let data =
        vectors.iter().enumerate().map(|(index, vector)| Embedding { object: "embedding", index, embedding: vector });
    let list = List {
        object: "list",
        data: data.collect(),
        model: &context.model,
        usage: json!({"prompt_tokens": tokens, "total_tokens": tokens}),
    };
    let body = serde_json::to_vec(&list).map_err(Error::internal)?;
    Ok(Answer { body: body.into(), usage, bill: Bill::default() })
}

/// OpenAI's answer.
#[derive(serde::Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Embedding<'a>>,
    model: &'a str,
    usage: Value,
}

#[derive(serde::Serialize)]
struct Embedding<'a> {
    object: &'static str,
    index: usize,
    embedding: &'a RawValue,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::provider::Endpoint;
    use crate::provider::cohere::COHERE;
    use crate::provider::tests_support::context;

    fn send(body: &Value) -> Result<(Value, Vec<String>)> {
        let body = Body::scan(Bytes::from(body.to_string())).unwrap();
        let endpoint = Endpoint::parse(COHERE.base_url).unwrap();
        let (key, options) = (Secret::new("key"), Map::new());
        let target = Target {
            provider: &COHERE,
            endpoint: &endpoint,
            key: &key,
            options: &options,
            model: "embed-v4.0",
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        let outgoing = COHERE.dialect.embeddings(&body, &target)?;
        assert_eq!(outgoing.path, "/v2/embed");
        Ok((serde_json::from_slice(&outgoing.body.whole()).unwrap(), outgoing.warnings))
    }

    #[test]
    fn texts_are_documents_unless_the_client_says_otherwise() {
        let (sent, warnings) = send(&json!({"model": "m", "input": "a", "dimensions": 256, "user": "u"})).unwrap();
        let expected = json!({"model": "embed-v4.0", "texts": ["a"], "input_type": "search_document",
            "embedding_types": ["float"], "output_dimension": 256});
        assert_eq!((sent, warnings), (expected, vec!["user".to_owned()]));
        let query = json!({"model": "m", "input": ["a", "b"], "input_type": "search_query", "encoding_format": "base64",
            "truncate": "NONE"});
        let (sent, warnings) = send(&query).unwrap();
        let expected = json!({"model": "embed-v4.0", "texts": ["a", "b"], "input_type": "search_query",
            "embedding_types": ["base64"], "truncate": "NONE"});
        assert_eq!((sent, warnings), (expected, vec![]));
    }

    #[test]
    fn what_cohere_does_not_embed_is_refused_by_name() {
        let refused = |input: Value| send(&json!({"model": "m", "input": input})).unwrap_err().kind();
        assert_eq!(refused(json!([1, 2])), ErrorKind::UnsupportedParameter);
        assert_eq!(refused(json!(vec!["a"; 97])), ErrorKind::UnsupportedParameter);
        let error = send(&json!({"model": "m", "input": "a", "encoding_format": "hex"})).unwrap_err();
        assert_eq!(error.param(), Some("encoding_format"));
    }

    #[test]
    fn the_numbers_stay_the_text_they_are() {
        let body = br#"{"id":"x","embeddings":{"float":[[0.10,-1e-3],[2]]},"meta":{"billed_units":{"input_tokens":2,"image_tokens":1}}}"#;
        let answer = answer(body, &context("cohere")).unwrap();
        let expected = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.10,-1e-3]},{"object":"embedding","index":1,"embedding":[2]}],"model":"model","usage":{"prompt_tokens":3,"total_tokens":3}}"#;
        assert_eq!((answer.body.as_ref(), answer.usage.unwrap().input), (expected.as_bytes(), 3));
        assert!(super::answer(br#"{"message":"no"}"#, &context("cohere")).is_err());
    }
}
