//! A provider's error answer as one of our errors: the only place where its status decides anything.
//!
//! Invariant: a 401 or 403 never carries the provider's text, which may quote the key.

use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;

use super::retry_after::{MAX_RETRY_AFTER, rate_limited, retry_after};
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

/// Codes and types of a 429 that no wait will heal.
const PERMANENT: &[&str] =
    &["insufficient_quota", "credit_balance_exhausted", "enforced_spend_limit_reached", "billing_hard_limit_reached"];
/// How the code of a spending limit ends, whoever set it.
const SPEND_LIMIT: &str = "_spend_limit_exceeded";
/// How a provider says the same with a 400 and no code of its own.
const NO_CREDIT: &str = "Your credit balance is too low";

/// The error for the client and for the retry rule.
pub fn failure(failure: &Failure<'_>, said: ProviderMessage, provider: &'static str) -> Error {
    let status = failure.status;
    if said.key_invalid || matches!(status, 401 | 403) {
        return key_invalid(status, provider);
    }
    let kind = kind_of(status, &said);
    let wait = match kind {
        ErrorKind::ProviderRateLimited => rate_limited(failure.headers, said.retry_after, failure.now),
        _ => retry_after(failure.headers, failure.now).or(said.retry_after.map(|wait| wait.min(MAX_RETRY_AFTER))),
    };
    let error = spoken(kind, said, status, provider);
    let error = if kind == ErrorKind::ProviderRejected { error.with_status(status) } else { error };
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
    match kind_of(status, &said) {
        ErrorKind::ProviderRejected => spoken(ErrorKind::ProviderError, said, status, provider).with_status(status),
        kind => spoken(kind, said, status, provider),
    }
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
    if let Some(code) = said.code {
        error = error.with_code(code);
    }
    if let Some(param) = said.param {
        error = error.with_param(param);
    }
    error
}

/// What a status means. 3xx is never followed: a redirect could lead a credential anywhere.
fn kind_of(status: u16, said: &ProviderMessage) -> ErrorKind {
    match status {
        400 | 429 if is_permanent(said) => ErrorKind::ProviderQuotaExhausted,
        429 => ErrorKind::ProviderRateLimited,
        408 | 504 => ErrorKind::ProviderTimeout,
        503 | 529 => ErrorKind::ProviderOverloaded,
        400..=499 => ErrorKind::ProviderRejected,
        500..=599 => ErrorKind::ProviderError,
        _ => ErrorKind::ProviderProtocol,
    }
}

/// Whether the body says that waiting does not help: the quota or the money of this credential is used up.
fn is_permanent(said: &ProviderMessage) -> bool {
    let words = [said.code.as_deref(), said.error_type.as_deref()];
    let permanent = |word: &str| PERMANENT.contains(&word) || word.ends_with(SPEND_LIMIT);
    words.into_iter().flatten().any(permanent)
        || said.message.as_deref().is_some_and(|message| message.starts_with(NO_CREDIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, code: &str) -> Error {
        let headers = [("x-ratelimit-reset-tokens", "6s")];
        let headers = headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let said = ProviderMessage { code: Some(code.to_owned()), ..ProviderMessage::default() };
        failure(&Failure { status, headers: &headers.into_iter().collect(), now: Timestamp::UNIX_EPOCH }, said, "acme")
    }

    #[test]
    fn a_quota_that_is_used_up_is_no_rate_limit() {
        let limited = answered(429, "rate_limit_exceeded");
        assert_eq!(limited.kind(), ErrorKind::ProviderRateLimited);
        assert_eq!(limited.retry_after(), Some(Duration::from_secs(6)), "the limit's reset is a wait, too");
        for code in ["insufficient_quota", "credit_balance_exhausted", "project_spend_limit_exceeded"] {
            let spent = answered(429, code);
            assert_eq!((spent.kind(), spent.code()), (ErrorKind::ProviderQuotaExhausted, code));
            assert_eq!((spent.status(), spent.is_retryable(), spent.retry_after()), (429, true, None), "{code}");
        }
        assert_eq!(answered(503, "slow_down").kind(), ErrorKind::ProviderOverloaded);
        assert_eq!(answered(503, "slow_down").retry_after(), None, "a reset says nothing about an overload");
    }

    #[test]
    fn a_400_about_missing_credit_is_the_credentials_problem_and_not_the_clients() {
        let said = |message: &str| ProviderMessage { message: Some(message.to_owned()), ..ProviderMessage::default() };
        let broke = event_failure(400, said("Your credit balance is too low to access the API."), "acme");
        assert_eq!(broke.kind(), ErrorKind::ProviderQuotaExhausted);
        let wrong = event_failure(400, said("max_tokens is too large"), "acme");
        assert_eq!(wrong.kind(), ErrorKind::ProviderError);
    }
}
