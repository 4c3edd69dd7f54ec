//! A provider's error answer as one of our errors: the only place where its status decides anything.
//!
//! Invariant: a 401 or 403 never carries the provider's text, which may quote the key.

use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::wait;
use crate::error::{Error, ErrorKind};

/// What an error body says, as far as the dialect could read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderMessage {
    /// The text for a human.
    pub message: Option<String>,
    /// The provider's own type.
    pub error_type: Option<String>,
    /// The provider's own code.
    pub code: Option<String>,
    /// The parameter it blames.
    pub param: Option<String>,
    /// The body says that the key is bad although the status does not.
    pub key_invalid: bool,
    /// The body says how long to wait; a header that says it, too, wins.
    pub retry_after: Option<Duration>,
    /// What it says beyond OpenAI's members, by its own names; passed on.
    pub more: Map<String, Value>,
}

/// An answer that is not a success.
#[derive(Debug)]
pub struct Failure<'a> {
    /// The HTTP status, or the one an error event stands for.
    pub status: u16,
    /// The answer's headers.
    pub headers: &'a HeaderMap,
    /// When it came, for dates in `Retry-After`.
    pub now: Timestamp,
}

/// Codes and types of an error that no wait will heal.
const PERMANENT: &[&str] =
    &["insufficient_quota", "credit_balance_exhausted", "enforced_spend_limit_reached", "billing_hard_limit_reached"];
/// How the code of a spending limit ends, whoever set it.
const SPEND_LIMIT: &str = "_spend_limit_exceeded";
/// How a provider says the same with a 400 and no code of its own.
const NO_CREDIT: &str = "Your credit balance is too low";

/// The error for the client and for the retry rule.
pub fn failure(failure: &Failure<'_>, said: ProviderMessage, provider: &'static str) -> Error {
    let status = failure.status;
    if said.key_invalid || (matches!(status, 401 | 403) && !is_flagged(status, &said)) {
        return key_invalid(status, provider);
    }
    let kind = kind_of(status, &said, provider);
    let reset = || if status == 429 { wait::reset(failure.headers, failure.now) } else { None };
    let wait = wait::retry_after(failure.headers, failure.now).or_else(|| said_wait(&said, kind)).or_else(reset);
    let wait = wait.filter(|_| kind != ErrorKind::ProviderQuotaExhausted);
    let error = spoken(kind, said, status, provider);
    let error = if kind == ErrorKind::ProviderRejected { error.with_status(status) } else { keeping(error, status) };
    match wait {
        Some(after) => error.with_retry_after(after),
        None => error,
    }
}

/// The error for one that came inside a 200, with the status it stands for. A stream that begins with an error is worth
/// another try elsewhere even where the same status as a head would be final: the request had been accepted.
pub fn event_failure(status: u16, said: ProviderMessage, provider: &'static str) -> Error {
    if said.key_invalid || matches!(status, 401 | 403) {
        return key_invalid(status, provider);
    }
    let kind = kind_of(status, &said, provider);
    let wait = said_wait(&said, kind);
    let error = match kind {
        ErrorKind::ProviderRejected => spoken(ErrorKind::ProviderError, said, status, provider).with_status(status),
        kind => keeping(spoken(kind, said, status, provider), status),
    };
    match wait {
        Some(after) => error.with_retry_after(after),
        None => error,
    }
}

/// The error with its own status where the kind's would hide what it is about: an empty purse, a request for too much.
fn keeping(error: Error, status: u16) -> Error {
    if matches!(status, 402 | 413) { error.with_status(status) } else { error }
}

fn key_invalid(status: u16, provider: &'static str) -> Error {
    let message = format!("The provider '{provider}' refused the credential that is stored for it (status {status}).");
    let status = if status == 403 { 403 } else { 401 };
    Error::new(ErrorKind::ProviderKeyInvalid, message).with_status(status).with_provider(provider)
}

/// An error of this kind with the provider's own words.
fn spoken(kind: ErrorKind, said: ProviderMessage, status: u16, provider: &'static str) -> Error {
    let message = said.message.filter(|text| !text.is_empty());
    let message = message.unwrap_or_else(|| format!("The provider '{provider}' answered with status {status}."));
    let mut error = Error::new(kind, message).with_provider(provider);
    if let Some(error_type) = said.error_type {
        error = error.with_type(error_type);
    }
    let broke = || (status == 402).then(|| "insufficient_quota".to_owned());
    if let Some(code) = said.code.or_else(broke) {
        error = error.with_code(code);
    }
    if let Some(param) = said.param {
        error = error.with_param(param);
    }
    error.with_more(said.more)
}

/// What a status means. 3xx is never followed: a redirect could lead a credential anywhere.
fn kind_of(status: u16, said: &ProviderMessage, provider: &str) -> ErrorKind {
    match status {
        400 | 429 if is_permanent(said) => ErrorKind::ProviderQuotaExhausted,
        // An empty purse is the account's matter, not the request's. With some providers a smaller request can still be paid.
        402 | 429 => ErrorKind::ProviderRateLimited,
        // Groq: more tokens at once than a minute of this account's tier has.
        413 if said.code.as_deref() == Some("rate_limit_exceeded") => ErrorKind::ProviderRateLimited,
        // The model failed: Bedrock's ModelErrorException, a generation that Hugging Face's servers broke off.
        424 => ErrorKind::ProviderError,
        408 | 504 => ErrorKind::ProviderTimeout,
        503 | 529 => ErrorKind::ProviderOverloaded,
        // "Flex tier capacity exceeded"; elsewhere it is a blocked text.
        498 if provider == "groq" => ErrorKind::ProviderOverloaded,
        400..=499 => ErrorKind::ProviderRejected,
        500..=599 => ErrorKind::ProviderError,
        _ => ErrorKind::ProviderProtocol,
    }
}

/// Whether a 403 is about what was said and not about the key: OpenRouter answers so for a text that a moderator flagged.
fn is_flagged(status: u16, said: &ProviderMessage) -> bool {
    let flagged = said.more.get("metadata").is_some_and(|metadata| metadata.get("flagged_input").is_some());
    let words = [said.code.as_deref(), said.error_type.as_deref()];
    status == 403 && (flagged || words.contains(&Some("content_policy_violation")))
}

/// Whether the body says that waiting does not help: the quota or the money of this credential is used up.
fn is_permanent(said: &ProviderMessage) -> bool {
    let words = [said.code.as_deref(), said.error_type.as_deref()];
    let permanent = |word: &str| PERMANENT.contains(&word) || word.ends_with(SPEND_LIMIT);
    words.into_iter().flatten().any(permanent)
        || said.message.as_deref().is_some_and(|message| message.starts_with(NO_CREDIT))
}

/// The wait that a body gives: in a field of its own or, about a limit, in words.
fn said_wait(said: &ProviderMessage, kind: ErrorKind) -> Option<Duration> {
    let limited = matches!(kind, ErrorKind::ProviderRateLimited | ErrorKind::ProviderOverloaded);
    let words = said.message.as_deref().filter(|_| limited);
    said.retry_after.or_else(|| wait::in_words(words?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(status: u16, pairs: &[(&'static str, &str)], said: ProviderMessage, provider: &'static str) -> Error {
        let headers = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let now = "2026-11-22T10:00:00Z".parse().unwrap();
        failure(&Failure { status, headers: &headers, now }, said, provider)
    }

    fn text(message: &str) -> ProviderMessage {
        ProviderMessage { message: Some(message.to_owned()), ..ProviderMessage::default() }
    }

    #[test]
    fn the_wait_is_the_headers_then_the_bodys_then_the_texts_then_the_limits() {
        let resets = [("x-ratelimit-reset-tokens", "9s"), ("x-ratelimit-remaining-tokens", "0")];
        let wait = |pairs: &[(&'static str, &str)], said| fail(429, pairs, said, "x").retry_after().unwrap().as_secs();
        let said = || text("Please try again in 4s.");
        assert_eq!(wait(&[resets.as_slice(), &[("retry-after", "2")]].concat(), said()), 2);
        let timed = ProviderMessage { retry_after: Some(Duration::from_secs(3)), ..said() };
        assert_eq!(wait(&resets, timed), 3);
        assert_eq!(wait(&resets, said()), 4);
        assert_eq!(wait(&resets, text("slow down")), 9);
        assert_eq!(fail(500, &resets, said(), "x").retry_after(), None, "it says nothing about limits");
    }

    #[test]
    fn an_empty_purse_is_worth_another_provider_and_keeps_its_status() {
        let error = fail(402, &[], text("Insufficient Balance"), "deepseek");
        assert_eq!(
            (error.kind(), error.status(), error.code()),
            (ErrorKind::ProviderRateLimited, 402, "insufficient_quota")
        );
        assert!(error.is_retryable());
        let limited = ProviderMessage { code: Some("rate_limit_exceeded".to_owned()), ..text("Request too large") };
        let error = fail(413, &[], limited, "groq");
        assert_eq!((error.kind(), error.status()), (ErrorKind::ProviderRateLimited, 413));
        assert_eq!(fail(413, &[], text("too long"), "x").kind(), ErrorKind::ProviderRejected);
        assert_eq!(fail(498, &[], text("flex"), "groq").kind(), ErrorKind::ProviderOverloaded);
        assert_eq!(fail(498, &[], text("blocked"), "cohere").kind(), ErrorKind::ProviderRejected);
    }

    #[test]
    fn a_quota_that_is_used_up_is_no_rate_limit() {
        let resets = [("x-ratelimit-reset-tokens", "6s")];
        let coded = |code: &str| ProviderMessage { code: Some(code.to_owned()), ..ProviderMessage::default() };
        for code in ["insufficient_quota", "credit_balance_exhausted", "project_spend_limit_exceeded"] {
            let spent = fail(429, &resets, coded(code), "acme");
            assert_eq!((spent.kind(), spent.code()), (ErrorKind::ProviderQuotaExhausted, code));
            assert_eq!((spent.status(), spent.is_retryable(), spent.retry_after()), (429, true, None), "{code}");
        }
        let broke = event_failure(400, text("Your credit balance is too low to access the API."), "acme");
        assert_eq!(broke.kind(), ErrorKind::ProviderQuotaExhausted);
        assert_eq!(event_failure(400, text("max_tokens is too large"), "acme").kind(), ErrorKind::ProviderError);
        let overloaded = fail(503, &resets, coded("slow_down"), "acme");
        assert_eq!((overloaded.kind(), overloaded.retry_after()), (ErrorKind::ProviderOverloaded, None));
    }

    #[test]
    fn a_text_that_was_flagged_says_nothing_about_the_key() {
        let metadata = serde_json::json!({"metadata": {"reasons": ["violence"], "flagged_input": "…"}});
        let more = metadata.as_object().cloned().unwrap_or_default();
        let flagged = ProviderMessage { more, ..text("Your input was flagged") };
        assert_eq!(fail(403, &[], flagged, "openrouter").kind(), ErrorKind::ProviderRejected);
        assert_eq!(fail(403, &[], text("No access"), "openrouter").kind(), ErrorKind::ProviderKeyInvalid);
    }
}
