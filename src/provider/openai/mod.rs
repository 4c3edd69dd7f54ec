//! OpenAI's own dialect (developers.openai.com, "Chat Completions"), which is also the client's: bytes are forwarded, and
//! only what must change is changed. Compatible providers are rows of constants over it: see [`compatible`].
//!
//! Invariant: a body that needs no change, in either direction, passes as the very same bytes. The changes to answers are
//! listed in `choice`, `calls`, `identity`, `required`, `stream` and `usage`; OpenAI's own answers need none of them. What they
//! say of the bill is read in `usage` and `bill`.

mod bill;
mod calls;
mod choice;
pub mod compatible;
#[cfg(test)]
mod corpus_test;
mod failure;
mod identity;
mod messages;
mod request;
mod required;
mod response;
mod splice;
mod stream;
mod tools;
mod usage;

use bytes::Bytes;
use http::Method;
use http::header::AUTHORIZATION;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Answer, AnswerContext, ChatCall, Dialect, Outgoing, Provider, ProviderMessage, StreamTranslator, Target,
    secret_header,
};
use crate::api::rope::Rope;
use crate::api::scan::Body;
use crate::error::Result;
use crate::usage::Usage;

/// OpenAI.
pub static OPENAI: Provider = Provider {
    name: "openai",
    base_url: "https://api.openai.com/v1",
    key_variable: "OPENAI_API_KEY",
    prefixes: &["gpt-", "chatgpt-", "o1", "o3", "o4", "text-embedding-", "ft:"],
    keyless: false,
    dialect: &OpenAi { exacting: true, ..OpenAi::PLAIN },
};

/// The dialect, and where a compatible provider deviates from it. Each row gives the reason for each deviation.
#[derive(Debug)]
pub struct OpenAi {
    /// Whether it has chat completions at all.
    pub chat: bool,
    /// Whether it embeds tokens, too, and not only texts.
    pub embeds_tokens: bool,
    /// Parameters that the provider refuses although the answer's meaning does not hang on them: taken out and reported.
    pub unsupported: &'static [&'static str],
    /// Parameters under another name: the provider's and OpenAI's.
    pub renamed: &'static [(&'static str, &'static str)],
    /// Values, as JSON text, that are the provider's default and that it refuses when they are said.
    pub unsaid: &'static [(&'static str, &'static str)],
    /// Members of a message that the provider knows, where it refuses every other one, also in the message's parts and
    /// calls: those are taken out and reported. Empty where it takes any.
    pub message_known: &'static [&'static str],
    /// The member of an assistant's message under which it takes its reasoning back.
    pub reasoning: &'static str,
    /// Parts of the names of the models that take it back, where the others refuse it; empty where all take it.
    pub reasoning_models: &'static [&'static str],
    /// Whether it knows the role `developer`, which becomes `system` otherwise.
    pub developer: bool,
    /// Whether only one choice can be had.
    pub single_choice: bool,
    /// Whether streams tell the usage without being asked, so that `stream_options` can stay away.
    pub usage_unasked: bool,
    /// Whether it knows `response_format: json_schema`, which becomes any JSON object and a schema in words otherwise.
    pub json_schema: bool,
    /// Whether it knows `response_format: json_object`, which becomes the schema of any object otherwise.
    pub json_object: bool,
    /// What it can be told about the choice of tools.
    pub tool_choice: Choices,
    /// Whether it refuses members of messages and tools that it does not know ("Unknown parameter:
    /// `messages[0].content[0].cache_control`"), which clients send who also talk to others, and `max_tokens` for models that
    /// reason ("Use 'max_completion_tokens' instead").
    pub exacting: bool,
    /// Whether its usage says what an answer costs, in dollars.
    pub reports_cost: bool,
    /// The path of the request that shows whether a key works.
    pub probe: &'static str,
}

/// What a provider can be told about the choice of tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choices {
    /// All that OpenAI can.
    All,
    /// `none`, `auto`, `required`: one tool of several is chosen by sending it alone.
    Words,
    /// `auto`: none is chosen by sending none, and that one must be called can't be said.
    Auto,
}

impl OpenAi {
    /// Without any deviation.
    pub const PLAIN: Self = Self {
        chat: true,
        embeds_tokens: true,
        unsupported: &[],
        renamed: &[],
        unsaid: &[],
        message_known: &[],
        reasoning: "reasoning_content",
        reasoning_models: &[],
        developer: true,
        single_choice: false,
        usage_unasked: false,
        json_schema: true,
        json_object: true,
        tool_choice: Choices::All,
        exacting: false,
        reports_cost: false,
        probe: "/models",
    };
}

impl Dialect for OpenAi {
    fn chat(&self, call: &ChatCall<'_>, target: &Target<'_>) -> Result<Outgoing> {
        let (body, warnings) = request::chat(self, call, target)?;
        outgoing(target, Method::POST, "/chat/completions", body, warnings)
    }

    fn answer(&self, body: Bytes, context: &AnswerContext) -> Result<Answer> {
        response::chat(&body, context, self.reports_cost)
    }

    fn stream(&self, context: AnswerContext) -> Box<dyn StreamTranslator> {
        Box::new(stream::Forwarder::new(context, self.reports_cost))
    }

    fn reports_cost(&self) -> bool {
        self.reports_cost
    }

    fn read_error(&self, body: &[u8]) -> ProviderMessage {
        failure::read_error(body)
    }

    fn probe(&self, target: &Target<'_>) -> Result<Outgoing> {
        outgoing(target, Method::GET, self.probe, Bytes::new(), Vec::new())
    }

    fn embeddings(&self, body: &Body, target: &Target<'_>) -> Result<Outgoing> {
        let (body, warnings) = request::embeddings(self, body, target)?;
        outgoing(target, Method::POST, "/embeddings", body, warnings)
    }

    fn embeddings_answer(&self, body: Bytes, context: &AnswerContext) -> Result<Answer> {
        response::embeddings(&body, context, self.reports_cost)
    }
}

/// The usage that an error body names, beside its error or inside it.
pub(super) fn error_usage(body: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    struct View<'a> {
        #[serde(borrow)]
        usage: Option<&'a RawValue>,
        #[serde(borrow)]
        error: Option<&'a RawValue>,
    }
    let view: View<'_> = serde_json::from_slice(body).ok()?;
    let inside = || serde_json::from_str::<View<'_>>(view.error?.get()).ok()?.usage;
    let usage = view.usage.or_else(inside)?;
    usage::read(usage).filter(|_| !usage::is_absurd(usage))
}

/// A request with a bearer token.
pub(super) fn outgoing(
    target: &Target<'_>,
    method: Method,
    path: &str,
    body: impl Into<Rope>,
    warnings: Vec<String>,
) -> Result<Outgoing> {
    let mut headers = Vec::with_capacity(1);
    // A server that serves without a key may refuse an empty one.
    if !(target.provider.keyless && target.key.expose().is_empty()) {
        headers.push((AUTHORIZATION, secret_header("Bearer ", target.key, target.provider.name)?));
    }
    Ok(Outgoing { method, path: target.endpoint.join(path), headers, body: body.into(), warnings })
}
