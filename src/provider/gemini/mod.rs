//! Google's generateContent (v1beta at the Gemini API, v1 at Vertex AI) under OpenAI's chat completions.
//!
//! `request` builds what is sent, from the parameters, `messages` and `tools`; `read` reads a candidate, whole for
//! `response` and in pieces for `stream`; `vertex` is the same API at Google Cloud; `model` is the one table of what
//! differs from model to model.
//!
//! Thought signatures are given where Google gives them and taken back there: on a tool call as
//! `extra_content.google.thought_signature`, on the text as `message.provider_specific_fields.thought_signature`. An answer
//! with parts that OpenAI has no form for (code, pictures, server-side tools) has all of them in
//! `provider_specific_fields.content_parts`; a client that sends such a message back has its parts replayed unchanged.

mod embeddings;
mod grounding;
mod messages;
mod model;
mod partial;
mod read;
mod request;
mod response;
mod stream;
mod tools;
mod usage;
mod vertex;

#[cfg(test)]
mod corpus_request;
#[cfg(test)]
mod corpus_test;

use bytes::Bytes;
use http::{HeaderName, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::warnings;
use super::{
    Answer, AnswerContext, ChatCall, Dialect, Outgoing, Provider, ProviderMessage, StreamTranslator, Target,
    secret_header,
};
use crate::api::scan::Body;
use crate::error::{Error, Result};

pub use vertex::{VERTEX, Vertex};

/// The Gemini API.
pub static GEMINI: Provider = Provider {
    name: "gemini",
    base_url: "https://generativelanguage.googleapis.com",
    key_variable: "GEMINI_API_KEY",
    prefixes: &["gemini-", "gemma-"],
    keyless: false,
    dialect: &GenerateContent,
};

/// generateContent with an API key.
#[derive(Debug)]
pub struct GenerateContent;

impl Dialect for GenerateContent {
    fn chat(&self, call: &ChatCall<'_>, target: &Target<'_>) -> Result<Outgoing> {
        let request::Translated { body, warnings } =
            request::translate(call.request()?, target.model, target.provider.name)?;
        let body = serde_json::to_vec(&body).map_err(Error::internal)?;
        let verb = if call.head.stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        outgoing(target, Method::POST, &of_model(target, verb), body.into(), warnings.into_names())
    }

    fn answer(&self, body: Bytes, context: &AnswerContext) -> Result<Answer> {
        response::answer(&body, context)
    }

    fn stream(&self, context: AnswerContext) -> Box<dyn StreamTranslator> {
        Box::new(stream::Translator::new(context))
    }

    fn read_error(&self, body: &[u8]) -> ProviderMessage {
        response::read_error(body)
    }

    fn probe(&self, target: &Target<'_>) -> Result<Outgoing> {
        outgoing(target, Method::GET, "/v1beta/models?pageSize=1", Bytes::new(), Vec::new())
    }

    fn embeddings(&self, body: &Body, target: &Target<'_>) -> Result<Outgoing> {
        let asked = embeddings::read(body, target.provider.name)?;
        let sent = asked.batch(bare(target.model)).to_string();
        let path = of_model(target, "batchEmbedContents");
        outgoing(target, Method::POST, &path, sent.into(), asked.warnings.into_names())
    }

    fn embeddings_answer(&self, body: Bytes, context: &AnswerContext) -> Result<Answer> {
        embeddings::answer(&body, context)
    }
}

fn outgoing(target: &Target<'_>, method: Method, path: &str, body: Bytes, warnings: Vec<String>) -> Result<Outgoing> {
    let key = secret_header("", target.key, target.provider.name)?;
    Ok(Outgoing {
        method,
        path: target.endpoint.join(path),
        headers: vec![(HeaderName::from_static("x-goog-api-key"), key)],
        body: body.into(),
        warnings,
    })
}

fn of_model(target: &Target<'_>, verb: &str) -> String {
    format!("/v1beta/models/{}:{verb}", path_segment(bare(target.model)))
}

/// A model's name without the collection that Google lists it under.
fn bare(model: &str) -> &str {
    model.strip_prefix("models/").unwrap_or(model)
}

/// What a model's name may hold without leaving its place in a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'@');

fn path_segment(model: &str) -> String {
    utf8_percent_encode(model, SEGMENT).to_string()
}

/// A name as Google's JSON writes it: `top_k` → `topK`.
fn camel(name: &str) -> String {
    let mut pieces = name.split('_');
    let mut made = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let mut letters = piece.chars();
        made.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        made.push_str(letters.as_str());
    }
    made
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::api::head::ChatHead;
    use crate::config::Secret;
    use crate::provider::Endpoint;
    use crate::provider::tests_support::context;

    fn send(model: &str, request: &Value) -> Outgoing {
        let body = Body::scan(Bytes::from(request.to_string())).unwrap();
        let head = ChatHead::read(&body).unwrap();
        let endpoint = Endpoint::parse(GEMINI.base_url).unwrap();
        let (key, options) = (Secret::new("k"), Map::new());
        let now = jiff::Timestamp::UNIX_EPOCH;
        let target = Target { provider: &GEMINI, endpoint: &endpoint, key: &key, options: &options, model, now };
        GEMINI.dialect.chat(&ChatCall::new(&body, &head), &target).unwrap()
    }

    #[test]
    fn the_model_is_in_the_path_and_stays_there() {
        let talk =
            |stream: bool| json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "x"}]});
        let sent = send("gemini-2.5-flash", &talk(true));
        assert_eq!(sent.path, "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse");
        assert!(sent.headers[0].1.is_sensitive());
        assert_eq!(send("models/a/../b?x", &talk(false)).path, "/v1beta/models/a%2F..%2Fb%3Fx:generateContent");
        assert_eq!((camel("top_k"), camel("topK")), ("topK".to_owned(), "topK".to_owned()));
    }

    /// What a client makes of an answer, sent back with a result.
    fn second_turn(message: &Value) -> Value {
        let question = json!({"role": "user", "content": "weather?"});
        let id = &message["tool_calls"][0]["id"];
        let result = json!({"role": "tool", "tool_call_id": id, "content": "{\"t\": 9}"});
        let request = json!({"model": "m", "messages": [question, message, result]});
        let sent = send("gemini-3-flash-preview", &request);
        assert!(sent.warnings.is_empty(), "{:?}", sent.warnings);
        serde_json::from_slice::<Value>(&sent.body.whole()).unwrap()["contents"].clone()
    }

    #[test]
    fn signatures_survive_a_tool_loop() {
        let call = json!({"functionCall": {"name": "w", "args": {"c": "Bern"}}, "thoughtSignature": "sig-call"});
        let text = json!({"text": "Let me see.", "thoughtSignature": "sig-text"});
        let answered = json!({"responseId": "r", "candidates": [
            {"content": {"role": "model", "parts": [text, call]}, "finishReason": "STOP"}]});
        let answer = GEMINI.dialect.answer(Bytes::from(answered.to_string()), &context("gemini")).unwrap();
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        let contents = second_turn(&answer["choices"][0]["message"]);
        let mut with_id = call;
        with_id["functionCall"]["id"] = "call_r_0".into();
        assert_eq!(contents[1], json!({"role": "model", "parts": [text, with_id]}));
        let response = json!({"id": "call_r_0", "name": "w", "response": {"t": 9}});
        assert_eq!(contents[2], json!({"role": "user", "parts": [{"functionResponse": response}]}));
    }

    #[test]
    fn parts_without_a_place_survive_a_tool_loop() {
        let code = json!({"executableCode": {"language": "PYTHON", "code": "1"}, "thoughtSignature": "s"});
        let call = json!({"functionCall": {"name": "w", "args": {}}, "thoughtSignature": "t"});
        let answered = json!({"responseId": "r", "candidates": [
            {"content": {"role": "model", "parts": [code, call]}, "finishReason": "STOP"}]});
        let answer = GEMINI.dialect.answer(Bytes::from(answered.to_string()), &context("gemini")).unwrap();
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        let contents = second_turn(&answer["choices"][0]["message"]);
        assert_eq!(contents[1]["parts"][0], code);
        assert_eq!(contents[1]["parts"][1]["thoughtSignature"], "t");
        assert_eq!(contents[1]["parts"][1]["functionCall"]["id"], contents[2]["parts"][0]["functionResponse"]["id"]);
    }
}
