//! Cohere's API, version 2 (docs.cohere.com, `POST /v2/chat`, `POST /v2/embed`), under OpenAI's.
//!
//! `request` builds what is sent, from the parameters, `messages` and `tools`; `response` and `stream` read what comes
//! back; `wire` holds Cohere's shapes; `embed` is the embeddings. Version 1 and rerank are not here.
//!
//! **Usage.** Cohere counts twice: `tokens` is what the model saw, Cohere's own preamble of a thousand tokens and more
//! included; `billed_units` is what is paid for. Both the ledger and the client get `billed_units`, so that they agree with
//! each other and with the invoice; `tokens` stands in for it only where it is missing. The whole object, cached tokens
//! included, is in `provider_specific_fields.usage`.
//!
//! **Reasoning.** Thinking and the plan that precedes calls (`tool_plan`) are both `reasoning_content`, the thinking also
//! `thinking_blocks`. Sent back, `thinking_blocks` become thinking again; `reasoning_content` beyond them is the plan of a
//! message with calls, and thinking otherwise.

mod citation;
mod embed;
mod messages;
mod request;
mod response;
mod stream;
mod tools;
mod wire;

#[cfg(test)]
mod corpus_test;

use bytes::Bytes;
use http::Method;

use super::openai::outgoing;
use super::{Answer, AnswerContext, ChatCall, Dialect, Outgoing, Provider, ProviderMessage, StreamTranslator, Target};
use crate::api::scan::Body;
use crate::error::Result;

/// Cohere.
pub static COHERE: Provider = Provider {
    name: "cohere",
    base_url: "https://api.cohere.com",
    key_variable: "COHERE_API_KEY",
    prefixes: &["command-", "c4ai-"],
    keyless: false,
    dialect: &Chat,
};

/// The second version of the API.
#[derive(Debug)]
pub struct Chat;

impl Dialect for Chat {
    fn chat(&self, call: &ChatCall<'_>, target: &Target<'_>) -> Result<Outgoing> {
        let (body, warnings) = request::chat(call, target)?;
        outgoing(target, Method::POST, "/v2/chat", body, warnings)
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
        outgoing(target, Method::GET, "/v1/models?page_size=1", Bytes::new(), Vec::new())
    }

    fn embeddings(&self, body: &Body, target: &Target<'_>) -> Result<Outgoing> {
        let (body, warnings) = embed::request(body, target)?;
        outgoing(target, Method::POST, "/v2/embed", body, warnings)
    }

    fn embeddings_answer(&self, body: Bytes, context: &AnswerContext) -> Result<Answer> {
        embed::answer(&body, context)
    }
}
