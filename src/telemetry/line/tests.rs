//! The line, field by field: what is written here is what log pipelines were told to expect.

use serde_json::{Value, json};

use super::super::end::sample::ended;
use super::super::end::{Client, RequestEnd};
use super::*;
use crate::error::ErrorKind;

fn line(end: &RequestEnd) -> Value {
    line_with(end, None)
}

fn line_with(end: &RequestEnd, content: Option<&Content>) -> Value {
    let mut out = Vec::new();
    write(end, content, &mut out);
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_request_for_a_model_has_these_fields() {
    let line = line(&ended());
    let fields: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "ts",
        "level",
        "message",
        "request_id",
        "trace_id",
        "span_id",
        "workspace",
        "key_id",
        "method",
        "path",
        "status",
        "reason",
        "total_ms",
        "bytes_in",
        "bytes_out",
        "client_gone",
        "operation",
        "model",
        "model_served",
        "provider",
        "route",
        "strategy",
        "stream",
        "ttft_ms",
        "tokens",
        "cost",
        "certainty",
        "attempts",
    ];
    assert_eq!(fields, expected);
    assert_eq!((&line["ts"], &line["level"]), (&json!("2026-11-26T18:00:00.300Z"), &json!("info")));
    assert_eq!((&line["trace_id"], &line["span_id"]), (&json!(format!("{:032x}", 0xabc)), &json!("0000000000000001")));
    assert_eq!((&line["route"], &line["reason"]), (&json!("openai/gpt-4o-2024-08-06"), &json!("ok")));
    assert_eq!((&line["tokens"]["total"], &line["tokens"]["cached_read"]), (&json!(300), &json!(40)));
    let attempts = line["attempts"].as_array().unwrap();
    let outcomes: Vec<_> = attempts.iter().map(|attempt| (&attempt["provider"], &attempt["outcome"])).collect();
    assert_eq!(outcomes, [(&json!("groq"), &json!("provider_error")), (&json!("openai"), &json!("ok"))]);
    assert_eq!(attempts[1]["credential"], "prov_openai");
    assert_eq!(attempts[1]["span_id"], "0000000000000003");
}

#[test]
fn money_is_written_to_the_last_digit() {
    let mut out = Vec::new();
    write(&ended(), None, &mut out);
    let text = String::from_utf8(out).unwrap();
    // Twice 2⁶⁴ + 6 pico-dollars.
    assert!(text.contains("\"cost\":36893488.147419103244,"), "{text}");
}

#[test]
fn the_least_sure_attempt_decides_how_sure_the_sum_is() {
    let mut end = ended();
    let certainty = |end: &RequestEnd| line(end)["certainty"].clone();
    assert_eq!(certainty(&end), "exact");
    end.booking.as_mut().unwrap().attempts[0].certainty = Certainty::Estimated;
    assert_eq!(certainty(&end), "estimated");
    end.booking.as_mut().unwrap().attempts[1].certainty = Certainty::Unpriced;
    assert_eq!(certainty(&end), "unpriced");
    end.booking.as_mut().unwrap().attempts.clear();
    assert_eq!(certainty(&end), Value::Null, "nobody was asked");
}

#[test]
fn who_was_refused_at_the_door_has_a_line_too() {
    let end = RequestEnd {
        booking: None,
        workspace: None,
        key: None,
        status: 401,
        error: Some(ErrorKind::InvalidApiKey),
        ..ended()
    };
    let line = line(&end);
    assert_eq!((&line["status"], &line["level"], &line["workspace"]), (&json!(401), &json!("warn"), &Value::Null));
    assert_ne!(line["reason"], "ok");
    assert!(line.get("model").is_none() && line.get("attempts").is_none());
}

#[test]
fn the_level_says_whose_fault_it_was() {
    let level = |status, error| line(&RequestEnd { status, error, ..ended() })["level"].clone();
    assert_eq!(level(200, None), "info");
    assert_eq!(level(499, Some(ErrorKind::ClientGone)), "info");
    assert_eq!(level(429, Some(ErrorKind::RateLimited)), "warn");
    assert_eq!(level(200, Some(ErrorKind::StreamTruncated)), "error", "a stream that broke under its 200");
    assert_eq!(level(503, Some(ErrorKind::Overloaded)), "error");
    assert_eq!(level(404, None), "warn", "the admin API says no more than its status");
}

#[test]
fn what_strangers_wrote_is_bounded_escaped_and_holds_no_key() {
    let key = "pk_0123456789abcdef0123456789abcdef";
    let client = Client { address: "192.0.2.7".parse().unwrap(), forwarded_for: Some(format!("1.2.3.4, {key}")) };
    let end = RequestEnd {
        path: format!("/v1/{key}/\u{1b}[31m\r\n{{\"level\":\"info\"}}{}", "x".repeat(10_000)),
        request_id: key.to_owned(),
        client: Some(client),
        ..ended()
    };
    let mut out = Vec::new();
    write(&end, None, &mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(!text.contains("0123456789abcdef") && text.len() < 4000, "{text}");
    assert!(!text.trim_end().contains(char::is_control), "{text}");
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&line["client_address"], &line["forwarded_for"]), (&json!("192.0.2.7"), &json!("1.2.3.4, [redacted]")));
}

#[test]
fn content_stands_in_the_line_only_where_it_was_kept() {
    let mut content = Content::of("{\"q\":\"wörd\"}".as_bytes(), 8);
    content.answer(b"12345");
    content.answer(b"67890");
    let line = line_with(&ended(), Some(&content));
    assert_eq!((&line["request_body"], &line["response_body"]), (&json!("{\"q\":\"w\u{fffd}"), &json!("12345678")));
}
