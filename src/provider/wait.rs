//! When a provider may be asked again: read from headers and from words, in every form that providers use.
//!
//! Not here: which of several statements counts (`failure`). Invariant: no wait is longer than [`LONGEST`].

use std::time::Duration;

use http::HeaderMap;
use jiff::{SignedDuration, Timestamp};

/// Longest wait that is believed.
const LONGEST: Duration = Duration::from_secs(300);

/// `retry-after-ms`, then `retry-after`: seconds or an HTTP date (RFC 9110 §10.2.3), and the other forms of a moment.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let millis = text(headers, "retry-after-ms").and_then(|text| text.parse::<f64>().ok());
    match millis {
        Some(millis) => seconds(millis / 1000.0),
        None => moment(text(headers, "retry-after")?, now),
    }
}

/// When the limits begin anew: of those with nothing left the last one, for all of them must allow the request; where none
/// says so the first one, because the others may have been no hindrance.
pub(super) fn reset(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let (mut exhausted, mut all) = (None, None);
    for (name, value) in headers {
        let name = name.as_str();
        let value = value.to_str().ok().map(str::trim);
        let Some(wait) = value.filter(|_| is_reset(name)).and_then(|value| moment(value, now)) else { continue };
        if text(headers, &name.replace("reset", "remaining")) == Some("0") {
            exhausted = exhausted.max(Some(wait));
        }
        all = Some(all.map_or(wait, |least: Duration| least.min(wait)));
    }
    exhausted.or(all)
}

/// `x-ratelimit-reset-tokens` (OpenAI, Groq), `anthropic-ratelimit-tokens-reset`, `ratelimitbysize-reset` (Mistral) and such.
fn is_reset(name: &str) -> bool {
    name.contains("ratelimit") && name.contains("reset")
}

/// "Please try again in 1m0.36s.", "Please retry after 26 seconds", "Please retry in 34.5s."
pub(super) fn in_words(message: &str) -> Option<Duration> {
    const OPENINGS: [&str; 3] = ["again in ", "retry after ", "retry in "];
    let lower = message.to_ascii_lowercase();
    let rest = OPENINGS.iter().find_map(|opening| lower.split_once(opening))?.1;
    let mut words = rest.split_ascii_whitespace().map(|word| word.trim_end_matches(['.', ',', ';', '!', ')']));
    let (first, second) = (words.next()?, words.next().unwrap_or_default());
    duration(first).or_else(|| duration(&format!("{first} {second}")))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// Seconds from now, a duration with units, or a date: of HTTP, of RFC 3339, or as seconds or milliseconds since 1970. A
/// past one is zero.
fn moment(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(number) = text.parse::<f64>() {
        // Nobody asks for a wait of thirty years.
        let since_1970 = match number {
            1e12.. => number / 1000.0,
            1e9.. => number,
            _ => return seconds(number),
        };
        return seconds((since_1970 - now.as_second() as f64).max(0.0));
    }
    if let Some(duration) = duration(text) {
        return Some(duration);
    }
    let date = text.parse().ok().or_else(|| Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp()))?;
    let wait = Duration::try_from(now.duration_until(date)).unwrap_or_default();
    Some(wait.min(LONGEST))
}

/// "6m0s", "120ms", "26 seconds".
fn duration(text: &str) -> Option<Duration> {
    let duration = text.parse::<SignedDuration>().ok()?;
    Duration::try_from(duration).ok().map(|wait| wait.min(LONGEST))
}

fn seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number).ok().map(|wait| wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-22T10:00:00Z";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_wait_is_read_in_every_form_providers_use() {
        let wait = |pairs: &[(&'static str, &str)]| retry_after(&headers(pairs), NOW.parse().unwrap());
        assert_eq!(wait(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(wait(&[("retry-after", "0.5")]), Some(Duration::from_millis(500)));
        assert_eq!(wait(&[("retry-after-ms", "250"), ("retry-after", "1")]), Some(Duration::from_millis(250)));
        assert_eq!(wait(&[("retry-after", "Sun, 22 Nov 2026 10:00:30 GMT")]), Some(Duration::from_secs(30)));
        assert_eq!(wait(&[("retry-after", "Sun, 22 Nov 2026 09:00:00 GMT")]), Some(Duration::ZERO));
        assert_eq!(wait(&[("retry-after", "2026-11-22T10:00:20Z")]), Some(Duration::from_secs(20)));
        assert_eq!(wait(&[("retry-after", "1m2s")]), Some(Duration::from_secs(62)));
        assert_eq!(wait(&[("retry-after", "86400")]), Some(LONGEST));
        for bad in ["soon", "-1", "NaN", "inf", ""] {
            assert_eq!(wait(&[("retry-after", bad)]), None, "{bad}");
        }
        assert_eq!(wait(&[]), None);
    }

    #[test]
    fn the_limit_that_was_hit_says_when_it_begins_anew() {
        let wait = |pairs: &[(&'static str, &str)]| reset(&headers(pairs), NOW.parse().unwrap());
        let tokens = [("x-ratelimit-reset-requests", "2m59.56s"), ("x-ratelimit-reset-tokens", "7.66s")];
        assert_eq!(wait(&tokens), Some(Duration::from_millis(7660)));
        let requests = [&tokens[..], &[("x-ratelimit-remaining-requests", "0")]].concat();
        assert_eq!(wait(&requests), Some(Duration::from_millis(179_560)));
        assert_eq!(wait(&[("x-ratelimit-reset-requests", "120ms")]), Some(Duration::from_millis(120)));
        assert_eq!(wait(&[("ratelimitbysize-reset", "19")]), Some(Duration::from_secs(19)));
        let date = [("anthropic-ratelimit-tokens-reset", "2026-11-22T10:00:05Z")];
        assert_eq!(wait(&date), Some(Duration::from_secs(5)));
        let second = NOW.parse::<Timestamp>().unwrap().as_second() + 40;
        assert_eq!(wait(&[("x-ratelimit-reset", &second.to_string())]), Some(Duration::from_secs(40)));
        assert_eq!(wait(&[("x-ratelimit-reset", &(second * 1000).to_string())]), Some(Duration::from_secs(40)));
        assert_eq!(wait(&[("x-ratelimit-limit-tokens", "5")]), None);
    }

    #[test]
    fn words_say_it_too() {
        let cases = [
            ("Rate limit reached. Please try again in 1m0.5s. Visit https://x.org", 60_500),
            ("Please try again in 120ms.", 120),
            ("tier. Please retry after 26 seconds. Please contact", 26_000),
            ("Please retry in 34.5s.", 34_500),
            ("Try again in 2 minutes", 120_000),
        ];
        for (message, millis) in cases {
            assert_eq!(in_words(message), Some(Duration::from_millis(millis)), "{message}");
        }
        for message in ["try again later", "please retry after a while", "again in", "retry in -5s"] {
            assert_eq!(in_words(message), None, "{message}");
        }
    }
}
