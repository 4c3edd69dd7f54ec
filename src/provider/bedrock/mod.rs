//! Amazon Bedrock's Converse API (`POST /model/{model}/converse` and `/converse-stream`) under OpenAI's chat completions.
//!
//! `request` builds what is sent, from the parameters, `messages` and `tools`; `auth` and `sigv4` sign it; `response` and
//! `stream` read what comes back; `thinking` carries reasoning both ways; `wire` holds Converse's shapes; `family` knows what
//! differs from model to model.
//!
//! What OpenAI's messages have no place for (results of server tools, blocks of tomorrow) is put into
//! `message.provider_specific_fields.converse_blocks`; a client that sends such a message back, or writes one, has its blocks
//! sent unchanged. The name differs from Anthropic's `content_blocks`, because neither provider takes the other's.
//!
//! A stream is complete with `messageStop`; the last chunk waits for the `metadata` behind it, which holds the usage and a
//! guardrail's trace, or for the end of the connection.
//!
//! The credential's `base_url` decides which region serves; see `auth`.

mod auth;
mod block;
mod family;
mod messages;
mod request;
mod response;
mod sigv4;
mod stream;
mod thinking;
mod tools;
mod wire;

#[cfg(test)]
mod corpus_test;

use bytes::Bytes;
use http::Method;

use super::{Answer, AnswerContext, ChatCall, Dialect, Outgoing, Provider, ProviderMessage, StreamTranslator, Target};
use crate::api::rope::Rope;
use crate::error::Result;
use crate::frames::Framing;

/// Amazon Bedrock.
pub static BEDROCK: Provider = Provider {
    name: "bedrock",
    base_url: "https://bedrock-runtime.us-east-1.amazonaws.com",
    key_variable: "AWS_BEARER_TOKEN_BEDROCK",
    prefixes: &["amazon.", "anthropic.claude-", "us.amazon.", "us.anthropic.", "eu.anthropic.", "global.anthropic."],
    keyless: false,
    dialect: &Converse,
};

/// The Converse API.
#[derive(Debug)]
pub struct Converse;

impl Dialect for Converse {
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
        Framing::AwsEventStream
    }

    fn read_error(&self, body: &[u8]) -> ProviderMessage {
        response::read_error(body)
    }

    /// Lists asynchronous invocations, the only thing that this host lists. A key that may invoke models but not list
    /// (`bedrock:ListAsyncInvokes`) is refused with a 403.
    fn probe(&self, target: &Target<'_>) -> Result<Outgoing> {
        let path = target.endpoint.join("/async-invoke?maxResults=1");
        let headers = auth::headers(target, &Method::GET, &path, b"")?;
        Ok(Outgoing { method: Method::GET, path, headers, body: Rope::default(), warnings: Vec::new() })
    }
}
