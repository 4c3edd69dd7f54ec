//! Upstream dialects: our request into a provider's bytes, its answer into ours.
//!
//! Sans-I/O: no socket, no clock, no async. What depends on time or randomness comes in as an argument. Not here: which
//! provider is asked (`balance`), how bytes travel (`proxy`), what tokens cost (`catalog`, `meter`).
//!
//! A [`Dialect`] is an API; a [`Provider`] is one line of [`PROVIDERS`]: a name, an address and the dialect it speaks.
//! A new compatible provider is one row of constants; a new dialect is its own folder and one row.

pub mod anthropic;
pub mod azure;
pub mod bedrock;
mod citations;
pub mod cohere;
mod detail;
mod endpoint;
mod failure;
mod fence;
pub mod gemini;
mod grant;
#[cfg(test)]
mod laws;
pub mod mistral;
mod numbered;
pub mod ollama;
pub mod openai;
mod pattern;
mod piece;
mod refusal;
#[cfg(test)]
mod tests_support;
mod wait;
mod warnings;

use std::cell::OnceCell;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::api::answer::{Chunk, ChunkChoice, WireUsage};
use crate::api::chat::ChatRequest;
use crate::api::head::ChatHead;
use crate::api::rope::Rope;
use crate::api::scan::Body;
use crate::config::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::frames::Framing;
use crate::sse::Event;
use crate::usage::{Bill, Usage};

pub use endpoint::Endpoint;
pub use failure::{Failure, ProviderMessage, event_failure, failure};
pub use grant::{Grant, Granted, granted};

/// One provider: a row of constants over a dialect.
pub struct Provider {
    /// Its name in the API, in `conf/models.toml`, in metrics and in the ledger.
    pub name: &'static str,
    /// What its own SDK calls the base URL; empty where there is none that fits all, so that a credential must name it.
    pub base_url: &'static str,
    /// The environment variable that its SDK reads the key from.
    pub key_variable: &'static str,
    /// Beginnings of model names that are surely its own, for names the catalogue does not know.
    pub prefixes: &'static [&'static str],
    /// Serves without a key: a model server on one's own machines.
    pub keyless: bool,
    /// The API it speaks.
    pub dialect: &'static dyn Dialect,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Provider").field(&self.name).finish()
    }
}

/// Every provider. The order is that of the documentation; it decides nothing.
pub static PROVIDERS: &[&Provider] = &[
    &openai::OPENAI,
    &anthropic::ANTHROPIC,
    &azure::AZURE,
    &bedrock::BEDROCK,
    &cohere::COHERE,
    &gemini::GEMINI,
    &gemini::VERTEX,
    &mistral::MISTRAL,
    &ollama::OLLAMA,
    &openai::compatible::GROQ,
    &openai::compatible::DEEPSEEK,
    &openai::compatible::XAI,
    &openai::compatible::OPENROUTER,
    &openai::compatible::TOGETHER,
    &openai::compatible::FIREWORKS,
    &openai::compatible::PERPLEXITY,
    &openai::compatible::CEREBRAS,
    &openai::compatible::MOONSHOT,
    &openai::compatible::ALIBABA,
    &openai::compatible::ZAI,
    &openai::compatible::HUGGINGFACE,
    &openai::compatible::NVIDIA,
    &openai::compatible::SAMBANOVA,
    &openai::compatible::VLLM,
    &openai::compatible::LLAMACPP,
    &openai::compatible::LMSTUDIO,
    &openai::compatible::VOYAGE,
    &openai::compatible::CUSTOM,
];

/// Looks a provider up by name.
pub fn find(name: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().copied().find(|provider| provider.name == name)
}

/// Where a request goes and with which credential.
pub struct Target<'a> {
    /// Whose API it is.
    pub provider: &'static Provider,
    /// The base URL, the provider's own or the credential's.
    pub endpoint: &'a Endpoint,
    /// The provider key.
    pub key: &'a Secret,
    /// What a key alone can't say (API version, region, …).
    pub options: &'a Map<String, Value>,
    /// The upstream name of the model.
    pub model: &'a str,
    /// When the request is made, for signatures.
    pub now: Timestamp,
}

/// A chat request on its way to one candidate.
pub struct ChatCall<'a> {
    /// The body as it came.
    pub body: &'a Body,
    /// What the gateway read of it.
    pub head: &'a ChatHead,
    parsed: OnceCell<ChatRequest>,
}

impl<'a> ChatCall<'a> {
    /// A call over this body.
    pub const fn new(body: &'a Body, head: &'a ChatHead) -> Self {
        Self { body, head, parsed: OnceCell::new() }
    }

    /// The whole typed request; parsed on first use, so that a provider of the same dialect never pays for it.
    pub fn request(&self) -> Result<&ChatRequest> {
        if let Some(parsed) = self.parsed.get() {
            return Ok(parsed);
        }
        let parsed = ChatRequest::parse(self.body)?;
        Ok(self.parsed.get_or_init(|| parsed))
    }
}

/// A request in the provider's own form.
pub struct Outgoing {
    /// `POST`, or `GET` for a probe.
    pub method: Method,
    /// Path and query, the base URL's path included.
    pub path: String,
    /// Headers of the dialect, the credential's among them (marked sensitive); `host`, `content-length`,
    /// `content-type` and `accept` are the sender's.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body, empty for a probe.
    pub body: Rope,
    /// What could not be expressed, by parameter name; goes into `x-perpetuo-warnings` or, in strict mode, refuses.
    pub warnings: Vec<String>,
}

/// What a translator must know of the request and of the moment.
#[derive(Clone, Debug)]
pub struct AnswerContext {
    /// The provider, for error texts.
    pub provider: &'static str,
    /// The id of an answer whose provider gives none: `chatcmpl-…`.
    pub id: String,
    /// Seconds since 1970.
    pub created: i64,
    /// The upstream name of the model.
    pub model: String,
    /// Whether the client asked for the usage chunk of a stream.
    pub include_usage: bool,
    /// Whether the client asked for a JSON object, any or one of a schema, which a dialect may have had to emulate.
    pub json_object: bool,
}

/// A whole answer in OpenAI's form.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The JSON text for the client.
    pub body: Bytes,
    /// What the provider says it cost in tokens.
    pub usage: Option<Usage>,
    /// What it says of the bill beside them.
    pub bill: Bill,
}

/// What was wrong with a stream that went on all the same: counted, not told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oddities {
    /// Streams that said that they are complete, and not why they ended.
    pub missing_finish: u64,
    /// Events that were no JSON, forwarded as they came.
    pub invalid_json: u64,
    /// Events that were no UTF-8: forwarded as they came, or with U+FFFD in the place of what was none.
    pub invalid_utf8: u64,
}

/// What a stream translator writes to.
#[derive(Debug, Default)]
pub struct StreamOut {
    /// Bytes for the client, in OpenAI's event form.
    pub bytes: Vec<u8>,
    /// Set with the first content (text, reasoning, refusal, tool call, or a finish without any): the commit point.
    pub content: bool,
    /// The newest figure of the provider.
    pub usage: Option<Usage>,
    /// What it says of the bill beside it.
    pub bill: Bill,
    /// The answer may be all there: nothing is open, and the provider's last word is to be expected next.
    pub written: bool,
    /// Bytes of generated text that passed, for an estimate when the provider's figure never comes.
    pub generated: u64,
    /// Where a member can be added to the usage chunk in `bytes`, if there is one.
    pub usage_end: Option<usize>,
    /// The stream said that it is complete; what follows is ignored.
    pub done: bool,
    /// What was wrong with it so far.
    pub odd: Oddities,
}

impl StreamOut {
    /// Writes a chunk as one event, in place as `sse::write_data` would frame it.
    pub(crate) fn chunk(
        &mut self,
        context: &AnswerContext,
        choices: &[ChunkChoice<'_>],
        usage: Option<Option<WireUsage>>,
    ) -> Result<()> {
        let AnswerContext { id, created, model, .. } = context;
        let chunk = Chunk { id, object: "chat.completion.chunk", created: *created, model, choices, usage };
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(b"data: ");
        serde_json::to_writer(&mut self.bytes, &chunk).map_err(Error::internal)?;
        self.bytes.extend_from_slice(b"\n\n");
        if choices.is_empty() {
            self.mark_usage_chunk(begin);
        }
        Ok(())
    }

    /// Notes that the event that was written from here on is the usage chunk.
    pub(crate) fn mark_usage_chunk(&mut self, begin: usize) {
        let event = self.bytes.get(begin..).unwrap_or_default().trim_ascii_end();
        self.usage_end = event.ends_with(b"}").then(|| begin + event.len() - 1);
    }
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The provider said so.
    Complete,
    /// The connection ended first.
    Truncated,
}

/// Turns one stream of a provider into OpenAI's chunks. State is named fields; nothing is captured.
pub trait StreamTranslator: Send {
    /// Takes one event. An error event of the provider, or one that can't be understood, is an `Err`; the caller decides
    /// by the commit point whether another provider is tried or the client gets an error event.
    fn event(&mut self, event: &Event, out: &mut StreamOut) -> Result<()>;

    /// The connection ended. May write what is still owed (`[DONE]` after a finish reason), never invents a finish.
    fn end(&mut self, out: &mut StreamOut) -> End;
}

/// One provider API.
pub trait Dialect: Send + Sync {
    /// A chat request in this API's form.
    ///
    /// Errors: `UnsupportedParameter` when dropping something would change the meaning; `InvalidRequest` with the
    /// parameter's path when the request can't be understood.
    fn chat(&self, call: &ChatCall<'_>, target: &Target<'_>) -> Result<Outgoing>;

    /// A whole chat answer (HTTP 200) in OpenAI's form. An error object inside it is an `Err`.
    fn answer(&self, body: Bytes, context: &AnswerContext) -> Result<Answer>;

    /// A translator for one stream.
    fn stream(&self, context: AnswerContext) -> Box<dyn StreamTranslator>;

    /// How its streams are cut into events.
    fn framing(&self) -> Framing {
        Framing::Sse
    }

    /// Whether its answers say what they cost, so that a model needs no price.
    fn reports_cost(&self) -> bool {
        false
    }

    /// What an error body says.
    fn read_error(&self, body: &[u8]) -> ProviderMessage;

    /// The tokens that an error body names: they were used before it failed, and may be billed.
    fn error_usage(&self, body: &[u8]) -> Option<Usage> {
        openai::error_usage(body)
    }

    /// The cheapest request that shows whether a key works, spending no tokens.
    fn probe(&self, target: &Target<'_>) -> Result<Outgoing>;

    /// The service account that must be asked for a token before any request, where a credential holds one in place of a key.
    /// The token goes into the header `authorization`, which requests of such a credential are without.
    ///
    /// Errors: a 400 on the option that is wrong.
    fn grant(&self, _key: &Secret, _options: &Map<String, Value>) -> Result<Option<Grant>> {
        Ok(None)
    }

    /// An embeddings request in this API's form.
    fn embeddings(&self, _body: &Body, target: &Target<'_>) -> Result<Outgoing> {
        Err(Error::new(
            ErrorKind::UnsupportedParameter,
            format!("The provider '{}' has no embeddings.", target.provider.name),
        ))
    }

    /// A whole embeddings answer in OpenAI's form.
    fn embeddings_answer(&self, _body: Bytes, context: &AnswerContext) -> Result<Answer> {
        Err(protocol(context.provider, "an embeddings answer was not expected"))
    }
}

/// An answer that can't be understood; the cause is for the log.
pub fn protocol(provider: &'static str, cause: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::ProviderProtocol,
        format!("The provider '{provider}' sent an answer that could not be understood."),
    )
    .with_provider(provider)
    .with_cause(cause)
}

/// A header that holds a credential; marked sensitive. A key that no header can hold is the credential's fault.
pub fn secret_header(prefix: &str, key: &Secret, provider: &'static str) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from([prefix, key.expose()].concat()).map_err(|_| {
        Error::new(
            ErrorKind::ProviderKeyInvalid,
            format!("The stored key of provider '{provider}' is not a valid header."),
        )
        .with_provider(provider)
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_row_is_complete_and_alone() {
        let mut names = HashSet::new();
        for provider in PROVIDERS {
            assert!(names.insert(provider.name), "{} stands twice", provider.name);
            if !provider.base_url.is_empty() {
                let endpoint = Endpoint::parse(provider.base_url).unwrap();
                assert!(endpoint.tls || provider.keyless, "{} must be reached over TLS", provider.name);
            }
            assert!(find(provider.name).is_some());
            assert!(provider.keyless || !provider.key_variable.is_empty());
        }
    }
}
