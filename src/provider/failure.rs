//! A provider's error answer as one of our errors: the only place where its status decides anything.
//!
//! Invariant: a 401 or 403 never carries the provider's text, which may quote the key.

use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;

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

/// Longest wait that is believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// The error for the client and for the retry rule.
pub fn failure(failure: &Failure<'_>, said: ProviderMessage, provider: &'static str) -> Error {
    let status = failure.status;
    if said.key_invalid || matches!(status, 401 | 403) {
        return key_invalid(status, provider);
    }
    let kind = kind_of(status);
    let limited = kind == ErrorKind::ProviderRateLimited;
    let waiting = retry_after(failure.headers, failure.now)
        .or_else(|| said_wait(&said, limited))
        .or_else(|| wait::until_reset(failure.headers, failure.now).filter(|_| limited));
    let error = spoken(kind, said, status, provider);
    let error = if kind == ErrorKind::ProviderRejected { error.with_status(status) } else { error };
    waiting.into_iter().fold(error, |error, after| error.with_retry_after(after.min(MAX_RETRY_AFTER)))
}

/// The wait that a body gives in a field of its own or, about a limit, in words.
fn said_wait(said: &ProviderMessage, limited: bool) -> Option<Duration> {
    let words = said.message.as_deref().filter(|_| limited);
    said.retry_after.or_else(|| wait::in_words(words?))
}

/// The error for one that came inside a 200, with the status it stands for. A stream that begins with an error is worth
/// another try elsewhere even where the same status as a head would be final: the request had been accepted.
pub fn event_failure(status: u16, said: ProviderMessage, provider: &'static str) -> Error {
    if said.key_invalid || matches!(status, 401 | 403) {
        return key_invalid(status, provider);
    }
    let kind = kind_of(status);
    let waiting = said_wait(&said, kind == ErrorKind::ProviderRateLimited);
    let error = match kind {
        ErrorKind::ProviderRejected => spoken(ErrorKind::ProviderError, said, status, provider).with_status(status),
        kind => spoken(kind, said, status, provider),
    };
    waiting.into_iter().fold(error, |error, after| error.with_retry_after(after.min(MAX_RETRY_AFTER)))
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
const fn kind_of(status: u16) -> ErrorKind {
    match status {
        429 => ErrorKind::ProviderRateLimited,
        408 | 504 => ErrorKind::ProviderTimeout,
        // The model failed: Bedrock's ModelErrorException, a generation that Hugging Face's servers broke off.
        424 => ErrorKind::ProviderError,
        503 | 529 => ErrorKind::ProviderOverloaded,
        400..=499 => ErrorKind::ProviderRejected,
        500..=599 => ErrorKind::ProviderError,
        _ => ErrorKind::ProviderProtocol,
    }
}

/// `retry-after-ms`, then `retry-after` as seconds or as an HTTP date (RFC 9110 §10.2.3). A past date is zero.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let millis = text("retry-after-ms").and_then(|text| text.parse::<f64>().ok()).map(|millis| millis / 1000.0);
    let seconds = millis.or_else(|| text("retry-after")?.parse::<f64>().ok());
    if let Some(seconds) = seconds {
        let duration = Duration::try_from_secs_f64(seconds).ok()?;
        return Some(duration.min(MAX_RETRY_AFTER));
    }
    let date = jiff::fmt::rfc2822::parse(text("retry-after")?).ok()?.timestamp();
    let wait = Duration::try_from(date.duration_since(now)).unwrap_or_default();
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(pairs: &[(&'static str, &str)]) -> Option<Duration> {
        let headers = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        retry_after(&headers, "2026-11-22T10:00:00Z".parse().unwrap())
    }

    #[test]
    fn a_limit_without_a_header_for_the_wait_is_waited_for_as_the_words_or_the_limits_say() {
        let said = |status: u16, pairs: &[(&'static str, &str)], message: &str| {
            let headers = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            let now = "2026-11-22T10:00:00Z".parse().unwrap();
            let message = ProviderMessage { message: Some(message.to_owned()), ..ProviderMessage::default() };
            failure(&Failure { status, headers: &headers, now }, message, "x").retry_after()
        };
        let reset = ("x-ratelimit-reset-requests", "12s");
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(said(429, &[("retry-after", "3"), reset], "Please try again in 20s."), seconds(3));
        assert_eq!(said(429, &[reset], "Please try again in 20s."), seconds(20));
        assert_eq!(said(429, &[reset], "Slow down."), seconds(12));
        assert_eq!(said(400, &[reset], "Please try again in 20s."), None);
        assert_eq!(
            event_failure(
                429,
                ProviderMessage { message: Some("try again in 1s".to_owned()), ..Default::default() },
                "x"
            )
            .retry_after(),
            seconds(1)
        );
    }

    #[test]
    fn a_wait_is_read_in_every_form_providers_use() {
        assert_eq!(wait(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(wait(&[("retry-after", "0.5")]), Some(Duration::from_millis(500)));
        assert_eq!(wait(&[("retry-after-ms", "250"), ("retry-after", "1")]), Some(Duration::from_millis(250)));
        assert_eq!(wait(&[("retry-after", "Sun, 22 Nov 2026 10:00:30 GMT")]), Some(Duration::from_secs(30)));
        assert_eq!(wait(&[("retry-after", "Sun, 22 Nov 2026 09:00:00 GMT")]), Some(Duration::ZERO));
        assert_eq!(wait(&[("retry-after", "86400")]), Some(MAX_RETRY_AFTER));
        assert_eq!(wait(&[("retry-after", "soon")]), None);
        assert_eq!(wait(&[]), None);
    }
}
