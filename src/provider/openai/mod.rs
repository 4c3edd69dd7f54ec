//! OpenAI's own dialect (developers.openai.com, "Chat Completions"), which is also the client's: bytes are forwarded, and
//! only what must change is changed. Compatible providers are rows of constants over it: see [`compatible`].
//!
//! Invariant: a body that needs no change reaches the provider as the very same bytes.

pub mod compatible;
mod request;
mod response;
mod stream;

use bytes::Bytes;
use http::Method;
use http::header::AUTHORIZATION;

use super::{
    Answer, AnswerContext, ChatCall, Dialect, Outgoing, Provider, ProviderMessage, StreamTranslator, Target,
    secret_header,
};
use crate::api::scan::Body;
use crate::error::Result;

/// OpenAI.
pub static OPENAI: Provider = Provider {
    name: "openai",
    base_url: "https://api.openai.com/v1",
    key_variable: "OPENAI_API_KEY",
    prefixes: &["gpt-", "chatgpt-", "o1", "o3", "o4", "text-embedding-", "ft:"],
    keyless: false,
    dialect: &OpenAi { unsupported: &[], single_choice: false },
};

/// The dialect, and where a compatible provider deviates from it. Each row gives the reason for each deviation.
#[derive(Debug)]
pub struct OpenAi {
    /// Parameters that the provider refuses although the answer's meaning does not hang on them: taken out and reported.
    pub unsupported: &'static [&'static str],
    /// Whether only one choice can be had.
    pub single_choice: bool,
}

impl Dialect for OpenAi {
    fn chat(&self, call: &ChatCall<'_>, target: &Target<'_>) -> Result<Outgoing> {
        let (body, warnings) = request::chat(self, call, target)?;
        outgoing(target, Method::POST, "/chat/completions", body, warnings)
    }

    fn answer(&self, body: Bytes, context: &AnswerContext) -> Result<Answer> {
        response::chat(body, context)
    }

    fn stream(&self, context: AnswerContext) -> Box<dyn StreamTranslator> {
        Box::new(stream::Forwarder::new(context))
    }

    fn read_error(&self, body: &[u8]) -> ProviderMessage {
        response::read_error(body)
    }

    fn probe(&self, target: &Target<'_>) -> Result<Outgoing> {
        outgoing(target, Method::GET, "/models", Bytes::new(), Vec::new())
    }

    fn embeddings(&self, body: &Body, target: &Target<'_>) -> Result<Outgoing> {
        let body = request::embeddings(body, target);
        outgoing(target, Method::POST, "/embeddings", body, Vec::new())
    }

    fn embeddings_answer(&self, body: Bytes, context: &AnswerContext) -> Result<Answer> {
        response::embeddings(body, context)
    }
}

/// A request with a bearer token.
pub(super) fn outgoing(
    target: &Target<'_>,
    method: Method,
    path: &str,
    body: Bytes,
    warnings: Vec<String>,
) -> Result<Outgoing> {
    let authorization = secret_header("Bearer ", target.key, target.provider.name)?;
    Ok(Outgoing {
        method,
        path: target.endpoint.join(path),
        headers: vec![(AUTHORIZATION, authorization)],
        body,
        warnings,
    })
}
