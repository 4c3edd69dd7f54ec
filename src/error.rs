//! The one error type, and the one table from an error to an answer.
//!
//! An [`Error`] says what went wrong ([`ErrorKind`]), who said so ([`Source`]), and what the client may read about it. The
//! cause, which may name internals, stays in the log. For operators each kind has one more word ([`Row::reason`]), which begins
//! with whose fault it is ([`Fault`]): that of metrics and of the access log.
//! This file is not where answers are rendered: see `api::envelope` for the JSON.
//!
//! Invariants: `message` never holds a secret or a provider's text about a key; every kind has exactly
//! one row in [`ErrorKind::row`]; whether another provider may be tried is decided there and nowhere else.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who refused or failed. Not the same as whose fault it was: a provider may well be right to refuse a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The caller sent something that can't be served.
    Client,
    /// This gateway failed or refused.
    Gateway,
    /// The upstream provider failed or refused.
    Provider,
}

/// Whose fault an error is: who has to act when there are many of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Whoever sent the request.
    Client,
    /// Nobody: a limit or a rule of the operator or the tenant was applied.
    Policy,
    /// The provider, or whoever holds the account there.
    Provider,
    /// The operator of this gateway.
    Gateway,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 4] = [Self::Client, Self::Policy, Self::Provider, Self::Gateway];

    /// The word of labels, which every [`Row::reason`] begins with.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Policy => "policy",
            Self::Provider => "provider",
            Self::Gateway => "gateway",
        }
    }
}

/// What went wrong; the closed vocabulary of `code` and of every error label in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The body is not JSON, or a field has a wrong type or value.
    InvalidRequest,
    /// A parameter the chosen provider can't express, and dropping it would change the meaning.
    UnsupportedParameter,
    /// Missing, malformed, unknown, revoked or expired virtual key, or a bad admin token.
    InvalidApiKey,
    /// A valid admin token whose role does not allow this.
    Forbidden,
    /// No such route or object.
    NotFound,
    /// No enabled provider of this workspace serves the model.
    ModelNotFound,
    /// No price is known of the model, and the workspace refuses such models.
    ModelUnpriced,
    /// The route exists, the method does not.
    MethodNotAllowed,
    /// The body is larger than `limits.max_body_bytes`.
    PayloadTooLarge,
    /// The request body is encoded in a way that is not accepted.
    UnsupportedMediaType,
    /// The client sent its body too slowly.
    RequestTimeout,
    /// The object changed or already exists.
    Conflict,
    /// The client left before the answer was complete.
    ClientGone,
    /// Another attempt of the same request had content earlier.
    HedgeLost,
    /// A rate limit of the virtual key or the workspace is reached.
    RateLimited,
    /// The budget of the virtual key or the workspace is spent.
    BudgetExceeded,
    /// This gateway sheds load or is draining.
    Overloaded,
    /// Every candidate is open or cooling down.
    NoCandidate,
    /// The deadline of the whole request passed.
    DeadlineExceeded,
    /// A bug or a failing store.
    Internal,
    /// The provider answered 429.
    ProviderRateLimited,
    /// The same, for good: the credential's quota or money is used up.
    ProviderQuotaExhausted,
    /// The provider answered 401 or 403: the stored credential does not work.
    ProviderKeyInvalid,
    /// The provider refused the request itself: 400, 404, 413, 422 and other 4xx.
    ProviderRejected,
    /// The provider answered 5xx.
    ProviderError,
    /// The provider answered 503 or 529: overloaded.
    ProviderOverloaded,
    /// No connection: DNS, TCP or TLS.
    ProviderUnreachable,
    /// Connect, first token, idle or per-attempt deadline.
    ProviderTimeout,
    /// The answer could not be understood: not JSON, wrong content type, an unknown shape.
    ProviderProtocol,
    /// The answer ended before it was complete.
    StreamTruncated,
}

/// One row of the table: how a kind is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// HTTP status when the error does not carry a provider's own.
    pub status: u16,
    /// OpenAI's `error.type`.
    pub error_type: &'static str,
    /// `error.code`, and the ledger's word.
    pub code: &'static str,
    /// The word of metrics and of the access log: `client_…`, `policy_…`, `provider_…` or `gateway_…`.
    pub reason: &'static str,
    /// Whether the next candidate may be tried while the client has seen nothing.
    pub retryable: bool,
    /// Who refused or failed.
    pub source: Source,
}

const fn row(
    status: u16,
    error_type: &'static str,
    code: &'static str,
    reason: &'static str,
    retryable: bool,
    source: Source,
) -> Row {
    Row { status, error_type, code, reason, retryable, source }
}

impl Row {
    /// Whose fault it is, as the reason says.
    pub const fn fault(&self) -> Fault {
        match self.reason.as_bytes() {
            [b'c', ..] => Fault::Client,
            [b'g', ..] => Fault::Gateway,
            [b'p', b'o', ..] => Fault::Policy,
            _ => Fault::Provider,
        }
    }
}

impl ErrorKind {
    /// Every kind, for tests and for metrics that must start at zero.
    pub const ALL: [Self; 30] = [
        Self::InvalidRequest,
        Self::UnsupportedParameter,
        Self::InvalidApiKey,
        Self::Forbidden,
        Self::NotFound,
        Self::ModelNotFound,
        Self::ModelUnpriced,
        Self::MethodNotAllowed,
        Self::PayloadTooLarge,
        Self::UnsupportedMediaType,
        Self::RequestTimeout,
        Self::Conflict,
        Self::ClientGone,
        Self::HedgeLost,
        Self::RateLimited,
        Self::BudgetExceeded,
        Self::Overloaded,
        Self::NoCandidate,
        Self::DeadlineExceeded,
        Self::Internal,
        Self::ProviderRateLimited,
        Self::ProviderQuotaExhausted,
        Self::ProviderKeyInvalid,
        Self::ProviderRejected,
        Self::ProviderError,
        Self::ProviderOverloaded,
        Self::ProviderUnreachable,
        Self::ProviderTimeout,
        Self::ProviderProtocol,
        Self::StreamTruncated,
    ];

    /// The kind of a `code` of this table.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.row().code == code)
    }

    /// The table.
    pub const fn row(self) -> Row {
        use Source::{Client, Gateway, Provider};
        const INVALID: &str = "invalid_request_error";
        match self {
            Self::InvalidRequest => row(400, INVALID, "invalid_request", "client_invalid_request", false, Client),
            Self::UnsupportedParameter => {
                row(400, INVALID, "unsupported_parameter", "client_unsupported_parameter", false, Client)
            }
            Self::InvalidApiKey => row(401, INVALID, "invalid_api_key", "client_invalid_api_key", false, Client),
            Self::Forbidden => row(403, INVALID, "forbidden", "policy_forbidden", false, Client),
            Self::NotFound => row(404, INVALID, "not_found", "client_not_found", false, Client),
            Self::ModelNotFound => row(404, INVALID, "model_not_found", "client_model_not_found", false, Client),
            Self::ModelUnpriced => row(400, INVALID, "model_unpriced", "policy_model_unpriced", false, Client),
            Self::MethodNotAllowed => {
                row(405, INVALID, "method_not_allowed", "client_method_not_allowed", false, Client)
            }
            Self::PayloadTooLarge => row(413, INVALID, "payload_too_large", "client_payload_too_large", false, Client),
            Self::UnsupportedMediaType => {
                row(415, INVALID, "unsupported_media_type", "client_unsupported_media_type", false, Client)
            }
            Self::RequestTimeout => row(408, INVALID, "request_timeout", "client_request_timeout", false, Client),
            Self::Conflict => row(409, INVALID, "conflict", "client_conflict", false, Client),
            Self::ClientGone => row(499, INVALID, "client_gone", "client_gone", false, Client),
            Self::HedgeLost => row(499, INVALID, "hedge_lost", "policy_hedge_lost", false, Gateway),
            Self::RateLimited => row(429, "rate_limit_error", "rate_limited", "policy_rate_limited", false, Client),
            Self::BudgetExceeded => {
                row(429, "insufficient_quota", "budget_exceeded", "policy_budget_exceeded", false, Client)
            }
            Self::Overloaded => row(503, "server_error", "overloaded", "gateway_overloaded", false, Gateway),
            Self::NoCandidate => {
                row(503, "server_error", "no_provider_available", "provider_none_available", false, Gateway)
            }
            Self::DeadlineExceeded => {
                row(504, "server_error", "deadline_exceeded", "provider_deadline_exceeded", false, Gateway)
            }
            Self::Internal => row(500, "server_error", "internal_error", "gateway_internal_error", false, Gateway),
            Self::ProviderRateLimited => {
                row(429, "rate_limit_error", "rate_limit_exceeded", "provider_rate_limited", true, Provider)
            }
            Self::ProviderQuotaExhausted => {
                row(429, "insufficient_quota", "provider_quota_exhausted", "provider_quota_exhausted", true, Provider)
            }
            Self::ProviderKeyInvalid => {
                row(401, "provider_error", "provider_key_invalid", "provider_key_invalid", false, Provider)
            }
            Self::ProviderRejected => {
                row(400, INVALID, "provider_rejected", "client_rejected_by_provider", false, Provider)
            }
            Self::ProviderError => row(502, "provider_error", "provider_error", "provider_error", true, Provider),
            Self::ProviderOverloaded => {
                row(503, "provider_error", "provider_overloaded", "provider_overloaded", true, Provider)
            }
            Self::ProviderUnreachable => {
                row(502, "provider_error", "provider_unreachable", "provider_unreachable", true, Provider)
            }
            Self::ProviderTimeout => row(504, "provider_error", "provider_timeout", "provider_timeout", true, Provider),
            Self::ProviderProtocol => {
                row(502, "provider_error", "provider_protocol_error", "provider_protocol_error", true, Provider)
            }
            Self::StreamTruncated => {
                row(502, "provider_error", "stream_truncated", "provider_stream_truncated", true, Provider)
            }
        }
    }
}

/// Something that failed, with what the client may know about it.
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    details: Option<Box<Details>>,
}

/// What only some errors carry; boxed so that a `Result` stays small.
#[derive(Clone, Default)]
struct Details {
    param: Option<String>,
    provider: Option<&'static str>,
    status: Option<u16>,
    error_type: Option<String>,
    code: Option<String>,
    retry_after: Option<Duration>,
    cause: Option<String>,
    more: Map<String, Value>,
}

impl Error {
    /// An error of this kind with the text the client will read.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), details: None }
    }

    /// A 400 about one parameter, named as OpenAI names it (`messages[0].content`).
    pub fn invalid(param: impl Into<String>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidRequest, message).with_param(param)
    }

    /// An internal failure: the client reads a constant text, the log reads the cause.
    pub fn internal(cause: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Internal, "The gateway failed to process the request.").with_cause(cause)
    }

    fn details_mut(&mut self) -> &mut Details {
        self.details.get_or_insert_default()
    }

    /// Names the offending parameter.
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.details_mut().param = Some(param.into());
        self
    }

    /// Names the provider that failed.
    pub fn with_provider(mut self, provider: &'static str) -> Self {
        self.details_mut().provider = Some(provider);
        self
    }

    /// Keeps a provider's own status instead of the table's.
    pub fn with_status(mut self, status: u16) -> Self {
        self.details_mut().status = Some(status);
        self
    }

    /// Keeps a provider's own `type` for the envelope.
    pub fn with_type(mut self, error_type: impl Into<String>) -> Self {
        self.details_mut().error_type = Some(error_type.into());
        self
    }

    /// Keeps a provider's own `code` for the envelope; metrics still use the table's.
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.details_mut().code = Some(code.into());
        self
    }

    /// When the client, or this gateway, may try again.
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.details_mut().retry_after = Some(after);
        self
    }

    /// What a provider's error says beyond OpenAI's members, for the envelope.
    pub fn with_more(mut self, more: Map<String, Value>) -> Self {
        if !more.is_empty() {
            self.details_mut().more = more;
        }
        self
    }

    /// What happened inside; for the log only.
    pub fn with_cause(mut self, cause: impl fmt::Display) -> Self {
        self.details_mut().cause = Some(cause.to_string());
        self
    }

    /// Takes a secret out of every text of the error; for errors that repeat what a provider said.
    pub fn redacted(mut self, secret: &str) -> Self {
        let clean = |text: &str| text.replace(secret, "[redacted]");
        if !secret.is_empty() {
            self.message = clean(&self.message).into();
            if let Some(details) = &mut self.details {
                let texts = [&mut details.param, &mut details.error_type, &mut details.code, &mut details.cause];
                for text in texts.into_iter().flatten() {
                    *text = clean(text);
                }
                let more = clean(&Value::Object(std::mem::take(&mut details.more)).to_string());
                details.more = serde_json::from_str(&more).unwrap_or_default();
            }
        }
        self
    }

    /// What went wrong.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The word of metrics and of the access log; `client_gone`, `provider_timeout`.
    pub const fn reason(&self) -> &'static str {
        self.kind.row().reason
    }

    /// The text the client reads.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The HTTP status of the answer.
    pub fn status(&self) -> u16 {
        self.details.as_ref().and_then(|d| d.status).unwrap_or(self.kind.row().status)
    }

    /// OpenAI's `error.type`.
    pub fn error_type(&self) -> &str {
        self.details.as_ref().and_then(|d| d.error_type.as_deref()).unwrap_or(self.kind.row().error_type)
    }

    /// OpenAI's `error.code`.
    pub fn code(&self) -> &str {
        self.details.as_ref().and_then(|d| d.code.as_deref()).unwrap_or(self.kind.row().code)
    }

    /// OpenAI's `error.param`.
    pub fn param(&self) -> Option<&str> {
        self.details.as_ref().and_then(|d| d.param.as_deref())
    }

    /// The provider that failed, if one did.
    pub fn provider(&self) -> Option<&'static str> {
        self.details.as_ref().and_then(|d| d.provider)
    }

    /// When to try again, if known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.details.as_ref().and_then(|d| d.retry_after)
    }

    /// The inner cause; never for the client.
    pub fn cause(&self) -> Option<&str> {
        self.details.as_ref().and_then(|d| d.cause.as_deref())
    }

    /// What the provider's error says beyond OpenAI's members; never a member that the envelope has.
    pub fn more(&self) -> Option<&Map<String, Value>> {
        self.details.as_ref().map(|details| &details.more)
    }

    /// Whether the next candidate may be tried while the client has seen nothing.
    pub const fn is_retryable(&self) -> bool {
        self.kind.row().retryable
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.row().code, self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({self}")?;
        if let Some(cause) = self.cause() {
            write!(f, "; cause: {cause}")?;
        }
        f.write_str(")")
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_kind_has_its_own_code_and_a_status_an_http_client_understands() {
        let mut codes = HashSet::new();
        for kind in ErrorKind::ALL {
            let row = kind.row();
            assert!(codes.insert(row.code), "{} stands twice", row.code);
            assert!((400..600).contains(&row.status), "{kind:?}");
        }
    }

    #[test]
    fn every_reason_is_said_once_and_begins_with_whose_fault_it_is() {
        let mut reasons = HashSet::new();
        for row in ErrorKind::ALL.map(ErrorKind::row) {
            assert!(reasons.insert(row.reason), "{} stands twice", row.reason);
            assert_eq!(row.reason.split('_').next(), Some(row.fault().as_str()), "{}", row.reason);
            assert!(row.source != Source::Client || row.fault() != Fault::Provider, "{}", row.reason);
        }
    }

    #[test]
    fn only_a_providers_failure_may_be_tried_elsewhere() {
        for kind in ErrorKind::ALL {
            let row = kind.row();
            assert!(!row.retryable || row.source == Source::Provider, "{kind:?}");
        }
        assert!(!ErrorKind::ProviderKeyInvalid.row().retryable);
        assert!(!ErrorKind::ProviderRejected.row().retryable);
    }
}
