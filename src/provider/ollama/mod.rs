//! Ollama's own API (`POST /api/chat`, github.com/ollama/ollama, docs/api.md) under OpenAI's chat completions.
//!
//! `request` builds what is sent, from the parameters and `messages`; `response` and `stream` read what comes back;
//! `embeddings` does both for `POST /api/embed`; `wire` holds Ollama's shapes. Its OpenAI-compatible `/v1` is not used: it
//! can't say `options`, `think` or `keep_alive`.
//!
//! Reasoning comes as plain text without a signature: `message.reasoning_content`, sent back as `thinking`, is all that a
//! tool loop needs. Older servers give calls no ids; theirs are made from the answer's id and the call's place, so that the
//! whole answer and the stream name them alike, and a result finds its function's name by them.

mod embeddings;
mod messages;
mod request;
mod response;
mod stream;
mod wire;

#[cfg(test)]
mod corpus_test;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, Method};

use super::{
    Answer, AnswerContext, ChatCall, Dialect, Outgoing, Provider, ProviderMessage, StreamTranslator, Target,
    secret_header,
};
use crate::api::scan::Body;
use crate::error::Result;
use crate::frames::Framing;

/// Ollama on one's own machine, or behind a proxy that asks for a bearer key (ollama.com does).
pub static OLLAMA: Provider = Provider {
    name: "ollama",
    base_url: "http://localhost:11434",
    key_variable: "OLLAMA_API_KEY",
    prefixes: &[],
    keyless: true,
    dialect: &Ollama,
};

/// Ollama's API.
#[derive(Debug)]
pub struct Ollama;

impl Dialect for Ollama {
    fn chat(&self, call: &ChatCall<'_>, target: &Target<'_>) -> Result<Outgoing> {
        request::chat(call, target)
    }

    fn answer(&self, body: Bytes, context: &AnswerContext) -> Result<Answer> {
        response::answer(&body, context)
    }

    fn stream(&self, context: AnswerContext) -> Box<dyn StreamTranslator> {
        Box::new(stream::Translator::new(context))
    }

    fn framing(&self) -> Framing {
        Framing::NdJson
    }

    fn read_error(&self, body: &[u8]) -> ProviderMessage {
        response::read_error(body)
    }

    fn probe(&self, target: &Target<'_>) -> Result<Outgoing> {
        outgoing(target, Method::GET, "/api/tags", Bytes::new(), Vec::new())
    }

    fn embeddings(&self, body: &Body, target: &Target<'_>) -> Result<Outgoing> {
        embeddings::request(body, target)
    }

    fn embeddings_answer(&self, body: Bytes, context: &AnswerContext) -> Result<Answer> {
        embeddings::answer(&body, context)
    }
}

fn outgoing(target: &Target<'_>, method: Method, path: &str, body: Bytes, warnings: Vec<String>) -> Result<Outgoing> {
    Ok(Outgoing { method, path: target.endpoint.join(path), headers: headers(target)?, body: body.into(), warnings })
}

/// A key, where one is set.
fn headers(target: &Target<'_>) -> Result<Vec<(HeaderName, HeaderValue)>> {
    if target.key.expose().is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![(AUTHORIZATION, secret_header("Bearer ", target.key, target.provider.name)?)])
}
