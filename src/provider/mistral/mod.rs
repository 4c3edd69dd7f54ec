//! Mistral's chat completions and embeddings (docs.mistral.ai, `/v1/chat/completions`, `/v1/embeddings`): nearly OpenAI's
//! dialect, so bytes are forwarded wherever they can be, and OpenAI's own code does the forwarding.
//!
//! `request` and `messages` change what Mistral names otherwise and take out what it refuses: it answers 422 to any member
//! that it does not know. `answer` turns the few shapes that OpenAI does not have into OpenAI's: content in typed chunks,
//! calls without a type or an index, the finish `model_length`. `stream` does the same event by event.
//!
//! Reasoning comes as `reasoning_content`; Mistral signs nothing, so the same text sent back in `reasoning_content` becomes
//! the thinking chunk that it was, for models that take one. References stay in Mistral's own form, in
//! `provider_specific_fields.citations`, whatever else OpenAI has no place for in `content_chunks` beside them.
//!
//! The usage of a stream stands in its last chunk that has choices. A client that asked for the usage chunk gets it in
//! OpenAI's place; for one that did not, the chunk is forwarded with the usage in it.

mod answer;
mod error;
mod messages;
mod request;
mod stream;

#[cfg(test)]
mod corpus_test;

use bytes::Bytes;
use http::Method;

use super::openai::{OpenAi, outgoing};
use super::{Answer, AnswerContext, ChatCall, Dialect, Outgoing, Provider, ProviderMessage, StreamTranslator, Target};
use crate::api::scan::Body;
use crate::error::Result;

/// Mistral.
pub static MISTRAL: Provider = Provider {
    name: "mistral",
    base_url: "https://api.mistral.ai/v1",
    key_variable: "MISTRAL_API_KEY",
    prefixes: &["mistral-", "ministral-", "codestral", "magistral-", "pixtral-", "open-mistral", "devstral", "voxtral"],
    keyless: false,
    dialect: &Mistral,
};

/// What does the forwarding.
const FORWARD: OpenAi = OpenAi::PLAIN;

/// Mistral's deviations from OpenAI's dialect.
#[derive(Debug)]
pub struct Mistral;

impl Dialect for Mistral {
    fn chat(&self, call: &ChatCall<'_>, target: &Target<'_>) -> Result<Outgoing> {
        let (body, warnings) = request::chat(call, target)?;
        outgoing(target, Method::POST, "/chat/completions", body, warnings)
    }

    fn answer(&self, body: Bytes, context: &AnswerContext) -> Result<Answer> {
        answer::chat(&body, context)
    }

    fn stream(&self, context: AnswerContext) -> Box<dyn StreamTranslator> {
        Box::new(stream::Translator::new(context))
    }

    fn read_error(&self, body: &[u8]) -> ProviderMessage {
        error::read(body)
    }

    fn probe(&self, target: &Target<'_>) -> Result<Outgoing> {
        FORWARD.probe(target)
    }

    fn embeddings(&self, body: &Body, target: &Target<'_>) -> Result<Outgoing> {
        let (body, warnings) = request::embeddings(body, target)?;
        outgoing(target, Method::POST, "/embeddings", body, warnings)
    }

    fn embeddings_answer(&self, body: Bytes, context: &AnswerContext) -> Result<Answer> {
        answer::refuse_errors(&body, context)?;
        FORWARD.embeddings_answer(body, context)
    }
}
