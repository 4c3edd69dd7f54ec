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

/// The error for the client and for the retry rule.
pub fn failure(failure: &Failure<'_>, said: ProviderMessage, provider: &'static str) -> Error {
    let status = failure.status;
    if said.key_invalid || matches!(status, 401 | 403) {
        return key_invalid(status, provider);
    }
    let kind = kind_of(status, &said, provider);
    let wait = wait(failure, kind, &said);
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
    match kind_of(status, &said, provider) {
        ErrorKind::ProviderRejected => spoken(ErrorKind::ProviderError, said, status, provider).with_status(status),
        kind => keeping(spoken(kind, said, status, provider), status),
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
        // An empty purse is the account's matter, not the request's, as OpenAI's 429 `insufficient_quota` is.
        402 | 429 => ErrorKind::ProviderRateLimited,
        // Groq: more tokens at once than a minute of this account's tier has.
        413 if said.code.as_deref() == Some("rate_limit_exceeded") => ErrorKind::ProviderRateLimited,
        408 | 504 => ErrorKind::ProviderTimeout,
        503 | 529 => ErrorKind::ProviderOverloaded,
        // "Flex tier capacity exceeded"; elsewhere it is a blocked text.
        498 if provider == "groq" => ErrorKind::ProviderOverloaded,
        400..=499 => ErrorKind::ProviderRejected,
        500..=599 => ErrorKind::ProviderError,
        _ => ErrorKind::ProviderProtocol,
    }
}

/// When to try again: what is said of this request first, then when the limits that were hit begin anew.
fn wait(failure: &Failure<'_>, kind: ErrorKind, said: &ProviderMessage) -> Option<Duration> {
    let stated = wait::retry_after(failure.headers, failure.now).or(said.retry_after);
    let limited = matches!(kind, ErrorKind::ProviderRateLimited | ErrorKind::ProviderOverloaded);
    if stated.is_some() || !limited || failure.status == 402 {
        return stated;
    }
    let told = said.message.as_deref().and_then(wait::in_words);
    told.or_else(|| if failure.status == 429 { wait::reset(failure.headers, failure.now) } else { None })
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
}
