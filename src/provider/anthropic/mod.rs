//! Anthropic's Messages API (`POST /v1/messages`, version 2023-06-01) under OpenAI's chat completions.
//!
//! `request` builds what is sent, from the parameters, `messages` and `tools`; `response` and `stream` read what
//! comes back; `wire` holds Anthropic's shapes; `model` is the one table of what differs from model to model.
//!
//! What OpenAI's answer has no place for (server tools and their results, containers) is put into
//! `message.provider_specific_fields`; a client that sends such a message back has its blocks replayed unchanged.

mod block;
mod citation;
// Bedrock serves the same models and speaks of them by the same rules.
pub(super) mod messages;
pub(super) mod model;
pub(super) mod reasoning;
mod request;
pub(super) mod response;
pub(super) mod schema;
mod stream;
pub(super) mod tools;
pub(super) mod wire;

#[cfg(test)]
mod corpus_test;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};

use super::{
    Answer, AnswerContext, ChatCall, Dialect, Outgoing, Provider, ProviderMessage, StreamTranslator, Target,
    secret_header,
};
use crate::api::rope::Rope;
use crate::error::Result;

/// Anthropic itself.
pub static ANTHROPIC: Provider = Provider {
    name: "anthropic",
    base_url: "https://api.anthropic.com",
    key_variable: "ANTHROPIC_API_KEY",
    prefixes: &["claude-"],
    keyless: false,
    dialect: &Messages,
};

/// The Messages API.
#[derive(Debug)]
pub struct Messages;

impl Dialect for Messages {
    fn chat(&self, call: &ChatCall<'_>, target: &Target<'_>) -> Result<Outgoing> {
        request::chat(call, target)
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
        Ok(Outgoing {
            method: Method::GET,
            path: target.endpoint.join("/v1/models?limit=1"),
            headers: headers(target)?,
            body: Rope::default(),
            warnings: Vec::new(),
        })
    }
}

/// The headers of every request.
fn headers(target: &Target<'_>) -> Result<Vec<(HeaderName, HeaderValue)>> {
    Ok(vec![
        (HeaderName::from_static("x-api-key"), secret_header("", target.key, target.provider.name)?),
        (HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01")),
    ])
}
