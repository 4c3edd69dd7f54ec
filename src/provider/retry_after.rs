//! How long a provider wants to be left alone, in every form in which providers say it.
//!
//! Seconds, whole or not; HTTP dates; durations as Go writes them (`6m0s`, `20ms`); RFC 3339; seconds or milliseconds since
//! 1970. Invariant: what comes out is at most [`MAX_RETRY_AFTER`]; a moment that has passed is zero.

use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;

/// Longest wait that is believed.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);
/// A number above this is a moment, not a wait: thirty years in seconds.
const EPOCH_SECONDS: f64 = 1e9;
/// And above this, one in milliseconds.
const EPOCH_MILLIS: f64 = 1e11;

/// `retry-after-ms`, then `retry-after` (RFC 9110 §10.2.3).
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let millis = text(headers, "retry-after-ms").and_then(|text| text.parse::<f64>().ok());
    let millis = millis.and_then(|millis| seconds(millis / 1000.0, now));
    let wait = millis.or_else(|| wait(text(headers, "retry-after")?, now))?;
    Some(wait.min(MAX_RETRY_AFTER))
}

/// The same for a 429, whose headers may only say when a limit is reset; `body` is what its body says.
pub(super) fn rate_limited(headers: &HeaderMap, body: Option<Duration>, now: Timestamp) -> Option<Duration> {
    let wait = retry_after(headers, now)
        .or_else(|| reset(headers, now))
        .or(body)
        .or_else(|| wait(text(headers, "x-ratelimit-reset")?, now))?;
    Some(wait.min(MAX_RETRY_AFTER))
}

/// When the limit that was hit is reset. Each of these headers has a sibling that says how much is left: the limits with
/// nothing left count, and the latest of them; when none admits to it, the earliest of all.
fn reset(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let resets = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str();
        let sibling = match name.strip_prefix("x-ratelimit-reset-") {
            Some(what) => format!("x-ratelimit-remaining-{what}"),
            None => format!("{}-remaining", name.strip_prefix("anthropic-ratelimit-")?.strip_suffix("-reset")?),
        };
        let sibling = if name.starts_with("anthropic") { format!("anthropic-ratelimit-{sibling}") } else { sibling };
        let wait = wait(value.to_str().ok()?.trim(), now)?;
        Some((text(headers, &sibling) == Some("0"), wait))
    });
    let resets: Vec<_> = resets.collect();
    let spent = resets.iter().filter(|(spent, _)| *spent).map(|(_, wait)| *wait).max();
    spent.or_else(|| resets.iter().map(|(_, wait)| *wait).min())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// One value in any of the forms.
fn wait(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(number) = text.parse::<f64>() {
        return seconds(number, now);
    }
    let date = || jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp());
    go_duration(text).or_else(|| Some(until(text.parse::<Timestamp>().ok().or_else(date)?, now)))
}

/// A number of seconds, or of whatever it must be to make sense.
fn seconds(number: f64, now: Timestamp) -> Option<Duration> {
    if !number.is_finite() {
        return None;
    }
    let since_1970 = if number >= EPOCH_MILLIS { number / 1000.0 } else { number };
    if since_1970 >= EPOCH_SECONDS {
        let moment = Timestamp::from_millisecond((since_1970 * 1000.0) as i64).ok()?;
        return Some(until(moment, now));
    }
    Duration::try_from_secs_f64(number.max(0.0)).ok()
}

fn until(moment: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(moment.duration_since(now)).unwrap_or_default()
}

/// `1h2m3.5s`, `20ms`: numbers, each with its unit.
pub(super) fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at_checked(end)?;
        let length = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let (unit, more) = unit.split_at_checked(length)?;
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * scale;
        rest = more;
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(total).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn now() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    fn told(pairs: &[(&'static str, &str)]) -> Option<Duration> {
        retry_after(&headers(pairs), now())
    }

    fn limited(pairs: &[(&'static str, &str)]) -> Option<u64> {
        rate_limited(&headers(pairs), Some(Duration::from_secs(99)), now()).map(|wait| wait.as_secs())
    }

    #[test]
    fn a_wait_is_read_in_every_form_providers_use() {
        assert_eq!(told(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(told(&[("retry-after", "0.5")]), Some(Duration::from_millis(500)));
        assert_eq!(told(&[("retry-after-ms", "250"), ("retry-after", "1")]), Some(Duration::from_millis(250)));
        assert_eq!(told(&[("retry-after-ms", "soon"), ("retry-after", "1")]), Some(Duration::from_secs(1)));
        assert_eq!(told(&[("retry-after", "Sun, 22 Nov 2026 10:00:30 GMT")]), Some(Duration::from_secs(30)));
        assert_eq!(told(&[("retry-after", "Sun, 22 Nov 2026 09:00:00 GMT")]), Some(Duration::ZERO));
        assert_eq!(told(&[("retry-after", "2026-11-22T10:01:00Z")]), Some(Duration::from_secs(60)));
        assert_eq!(told(&[("retry-after", "2026-11-22T11:00:10+01:00")]), Some(Duration::from_secs(10)));
        assert_eq!(told(&[("retry-after", "1m2s")]), Some(Duration::from_secs(62)));
        assert_eq!(told(&[("retry-after", "86400")]), Some(MAX_RETRY_AFTER));
        assert_eq!(told(&[("retry-after", "-3")]), Some(Duration::ZERO));
        for nonsense in ["soon", "", "NaN", "inf", "5 minutes", "m5", "5"] {
            assert_eq!(told(&[("retry-after", nonsense)]).is_some(), nonsense == "5", "{nonsense:?}");
        }
        assert_eq!(told(&[]), None);
    }

    #[test]
    fn of_two_limits_the_one_that_was_hit_counts() {
        let both = [("x-ratelimit-reset-requests", "6m0s"), ("x-ratelimit-reset-tokens", "20ms")];
        assert_eq!(limited(&both), Some(0), "a day's limit is not the one of this second");
        let day = [both[0], both[1], ("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-remaining-tokens", "5")];
        assert_eq!(limited(&day), Some(300));
        let dates = [
            ("anthropic-ratelimit-requests-reset", "2026-11-22T10:00:20Z"),
            ("anthropic-ratelimit-tokens-reset", "2026-11-22T10:00:40Z"),
            ("anthropic-ratelimit-tokens-remaining", "0"),
        ];
        assert_eq!(limited(&dates), Some(40));
        assert_eq!(limited(&[both[0], ("retry-after", "3")]), Some(3), "what is meant for us comes first");
    }

    #[test]
    fn the_body_speaks_before_a_header_that_has_to_be_guessed() {
        assert_eq!(limited(&[]), Some(99));
        let only =
            |value: &str| rate_limited(&headers(&[("x-ratelimit-reset", value)]), None, now()).unwrap().as_secs();
        let epoch = now().as_second() + 45;
        assert_eq!(only("45"), 45);
        assert_eq!(only(&epoch.to_string()), 45);
        assert_eq!(only(&(epoch * 1000).to_string()), 45);
        assert_eq!(limited(&[("x-ratelimit-reset", "45")]), Some(99));
    }

    proptest! {
        #[test]
        fn no_text_makes_us_wait_for_more_than_five_minutes_or_fall_over(text in "\\PC{0,30}") {
            prop_assert!(wait(&text, now()).is_none_or(|wait| wait <= Duration::MAX));
            if let Ok(value) = text.parse::<http::HeaderValue>() {
                let mut headers = HeaderMap::new();
                headers.insert("retry-after", value);
                prop_assert!(retry_after(&headers, now()).is_none_or(|wait| wait <= MAX_RETRY_AFTER));
            }
        }

        #[test]
        fn a_duration_of_go_is_read_back(h in 0u64..100, m in 0u64..60, s in 0u64..60, ms in 1u64..1000) {
            let text = format!("{h}h{m}m{s}s{ms}ms");
            let expected = Duration::from_secs(h * 3600 + m * 60 + s) + Duration::from_millis(ms);
            prop_assert_eq!(go_duration(&text).unwrap().as_millis(), expected.as_millis());
        }
    }
}
