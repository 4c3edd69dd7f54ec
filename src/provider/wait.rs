//! How long a provider says to wait where it sends no `Retry-After`: until a limit is filled again, or in the words of its
//! message. Not here: which of them counts (`failure`).

use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;

/// Until every limit that is used up is filled again. Providers name limits `x-ratelimit-reset-requests`,
/// `anthropic-ratelimit-tokens-reset` and alike, with what remains of each under the same name but for one word. A limit of
/// which something remains is not the one that was hit.
pub(super) fn until_reset(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let limits = headers.keys().map(|name| name.as_str()).filter(|name| is_reset(name));
    let used_up = limits.filter(|name| {
        let remaining = text(&name.replace("reset", "remaining"));
        remaining.is_none_or(|remaining| remaining.parse::<f64>().is_ok_and(|remaining| remaining <= 0.0))
    });
    used_up.filter_map(|name| moment(text(name)?, now)).max()
}

fn is_reset(name: &str) -> bool {
    name.contains("ratelimit") && name.split('-').any(|word| word == "reset")
}

/// A time or a duration, in every form that providers use: RFC 3339 (Anthropic), Go's durations (OpenAI, Groq), seconds
/// (Azure), seconds or milliseconds since 1970 (OpenRouter).
fn moment(text: &str, now: Timestamp) -> Option<Duration> {
    let until = |then: Timestamp| Duration::try_from(then.duration_since(now)).unwrap_or_default();
    if let Ok(then) = text.parse::<Timestamp>() {
        return Some(until(then));
    }
    match text.parse::<f64>() {
        Ok(millis) if millis >= 1e12 => Timestamp::from_millisecond(millis as i64).ok().map(until),
        Ok(seconds) if seconds >= 1e9 => Timestamp::from_second(seconds as i64).ok().map(until),
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => duration(text),
    }
}

/// "Please try again in 6m0s.", "Please retry after 26 seconds."
pub(super) fn in_words(message: &str) -> Option<Duration> {
    const BEFORE: &[&str] = &["try again in ", "retry in ", "retry after "];
    // What follows is cut out of the text as it is written; only letters of ASCII change here, and none changes its length.
    let lower = message.to_ascii_lowercase();
    let rest = BEFORE.iter().find_map(|before| lower.split_once(before)).map(|(_, rest)| rest)?;
    let mut words = rest.split_whitespace().map(|word| word.trim_end_matches(['.', ',', ')', ';']));
    let figure = words.next()?;
    let Ok(count) = figure.parse::<f64>() else { return duration(figure) };
    let unit = match words.next()? {
        word if word.starts_with("milli") || word == "ms" => 0.001,
        word if word.starts_with("sec") || word == "s" => 1.0,
        word if word.starts_with("min") || word == "m" => 60.0,
        word if word.starts_with("hour") || word == "h" => 3600.0,
        word if word.starts_with("day") => 86_400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(count * unit).ok()
}

/// A duration as Go writes it: `1h2m3.5s`, `120ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (figure, tail) = rest.split_at_checked(end)?;
        let end = tail.find(|letter: char| letter.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(end)?;
        let factor = match unit {
            "d" => 86_400.0,
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += figure.parse::<f64>().ok()? * factor;
        rest = tail;
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reset(pairs: &[(&'static str, &str)]) -> Option<Duration> {
        let headers = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        until_reset(&headers, "2026-11-22T10:00:00Z".parse().unwrap())
    }

    #[test]
    fn the_limit_that_is_used_up_says_when_it_is_filled_again() {
        let millis = |millis| Some(Duration::from_millis(millis));
        let openai = [
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "6m0s"),
            ("x-ratelimit-remaining-tokens", "100"),
            ("x-ratelimit-reset-tokens", "1h"),
        ];
        assert_eq!(reset(&openai), millis(360_000));
        let anthropic = [
            ("anthropic-ratelimit-input-tokens-remaining", "0"),
            ("anthropic-ratelimit-input-tokens-reset", "2026-11-22T10:00:12Z"),
            ("anthropic-ratelimit-requests-remaining", "3"),
            ("anthropic-ratelimit-requests-reset", "2026-11-22T10:00:59Z"),
        ];
        assert_eq!(reset(&anthropic), millis(12_000));
        assert_eq!(reset(&[("x-ratelimit-reset-tokens", "26")]), millis(26_000));
        assert_eq!(reset(&[("x-ratelimit-reset", "1795341605000")]), millis(5000));
        assert_eq!(reset(&[("x-ratelimit-reset", "1795341605")]), millis(5000));
        assert_eq!(reset(&[("x-ratelimit-reset-requests", "120ms")]), millis(120));
        assert_eq!(reset(&[("x-ratelimit-reset-requests", "soon"), ("x-ratelimit-limit-requests", "5")]), None);
    }

    #[test]
    fn a_wait_is_found_in_the_words_that_providers_use() {
        let millis = |millis| Some(Duration::from_millis(millis));
        assert_eq!(in_words("Limit 3, Used 3, Requested 1. Please try again in 20s. Visit https://x"), millis(20_000));
        assert_eq!(in_words("Please try again in 7m12.5s."), millis(432_500));
        assert_eq!(in_words("Please retry after 26 seconds. To increase"), millis(26_000));
        assert_eq!(in_words("Please retry in 34.25s."), millis(34_250));
        assert_eq!(in_words("Try again in 2 minutes."), millis(120_000));
        assert_eq!(in_words("Überlastet, bitte try again in ü"), None);
        assert_eq!(in_words("You exceeded your current quota."), None);
    }
}
