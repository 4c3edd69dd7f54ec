//! The body as a collector reads it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::end::sample::ended;
use super::super::trace::TraceContext;
use super::*;
use crate::error::ErrorKind;

fn exported(ends: &[Arc<RequestEnd>]) -> Vec<Value> {
    let resource = Resource { attributes: vec![("service.name".to_owned(), "gateway".to_owned())] };
    let body: Value = serde_json::from_slice(&body(&resource, ends)).unwrap();
    let resource = &body["resourceSpans"][0];
    assert_eq!(
        resource["resource"]["attributes"][0],
        json!({"key": "service.name", "value": {"stringValue": "gateway"}})
    );
    assert_eq!(resource["scopeSpans"][0]["scope"]["name"], "perpetuo");
    resource["scopeSpans"][0]["spans"].as_array().unwrap().clone()
}

fn attribute(span: &Value, key: &str) -> Value {
    let mut all = span["attributes"].as_array().unwrap().iter().filter(|attribute| attribute["key"] == key);
    let value = all.next().map_or(Value::Null, |attribute| attribute["value"].clone());
    assert!(all.next().is_none(), "{key} stands twice");
    value.as_object().map_or(Value::Null, |value| value.values().next().unwrap().clone())
}

#[test]
fn a_request_is_a_server_span_and_each_attempt_a_client_span_below_it() {
    let end = Arc::new(ended());
    let spans = exported(&[Arc::clone(&end)]);
    assert_eq!((spans.len() as u64, count(&end)), (3, 3));
    let (request, attempts) = spans.split_first().unwrap();
    assert_eq!((&request["name"], &request["kind"]), (&json!("POST /v1/chat/completions"), &json!(2)));
    assert!(request.get("parentSpanId").is_none());
    assert_eq!(request["traceId"], format!("{:032x}", 0xabc));
    assert_eq!(request["status"]["code"], 0);
    for attempt in attempts {
        assert_eq!((&attempt["kind"], &attempt["parentSpanId"]), (&json!(3), &request["spanId"]));
        assert_eq!((&attempt["name"], &attempt["traceId"]), (&json!("chat gpt-4o"), &request["traceId"]));
    }
    assert_eq!((&attempts[0]["status"]["code"], &attempts[1]["status"]["code"]), (&json!(2), &json!(0)));
    assert_eq!(attribute(&attempts[0], "error.type"), "provider_error");
}

#[test]
fn times_are_those_that_were_measured() {
    let spans = exported(&[Arc::new(ended())]);
    let at = |ms: i128| {
        let began: Timestamp = "2026-11-26T18:00:00Z".parse().unwrap();
        json!((began.as_nanosecond() + ms * 1_000_000).to_string())
    };
    let times: Vec<_> = spans.iter().map(|span| (&span["startTimeUnixNano"], &span["endTimeUnixNano"])).collect();
    assert_eq!(times, [(&at(0), &at(300)), (&at(1), &at(41)), (&at(50), &at(300))]);
    assert_eq!(attribute(&spans[2], "gen_ai.response.time_to_first_chunk"), 0.02);
}

#[test]
fn tokens_are_told_in_opentelemetrys_convention() {
    let spans = exported(&[Arc::new(ended())]);
    let tokens = |key: &str| attribute(&spans[2], &format!("gen_ai.usage.{key}"));
    assert_eq!(
        (tokens("input_tokens"), tokens("output_tokens")),
        (json!("120"), json!("30")),
        "a cache's are part of it"
    );
    assert_eq!((tokens("cache_read.input_tokens"), tokens("reasoning.output_tokens")), (json!("20"), json!("10")));
    assert_eq!(tokens("cache_creation.input_tokens"), Value::Null);
    assert_eq!(
        (attribute(&spans[2], "server.address"), attribute(&spans[2], "server.port")),
        (json!("api.example"), json!("443"))
    );
    assert_eq!(attribute(&spans[2], "gen_ai.provider.name"), "openai");
    assert_eq!(attribute(&spans[2], "gen_ai.request.model"), "gpt-4o");
}

#[test]
fn a_clients_mistake_is_no_error_of_the_server_and_a_broken_stream_is_one() {
    let status = |status, error| {
        let spans = exported(&[Arc::new(RequestEnd { status, error: Some(error), ..ended() })]);
        (spans[0]["status"]["code"].clone(), attribute(&spans[0], "error.type"))
    };
    assert_eq!(status(401, ErrorKind::InvalidApiKey), (json!(0), json!("client_invalid_api_key")));
    assert_eq!(status(200, ErrorKind::StreamTruncated), (json!(2), json!(ErrorKind::StreamTruncated.row().reason)));
    assert_eq!(status(503, ErrorKind::Overloaded).0, 2);
}

#[test]
fn the_clients_span_is_the_remote_parent_and_its_state_goes_along() {
    let trace = TraceContext { parent: Some(9), state: Some("a=1".to_owned()), ..(*ended().trace).clone() };
    let spans = exported(&[Arc::new(RequestEnd { trace: Arc::new(trace), ..ended() })]);
    assert_eq!((&spans[0]["parentSpanId"], &spans[0]["flags"]), (&json!("0000000000000009"), &json!(0x301)));
    assert!(spans.iter().all(|span| span["traceState"] == "a=1"));
    assert_eq!(spans[1]["flags"], 0x101);
}

#[test]
fn names_are_few_whatever_clients_ask_for() {
    let end = RequestEnd {
        method: "MADE-UP".parse().unwrap(),
        path: "/made/up/pk_0123456789abcdef0123".to_owned(),
        route: None,
        booking: None,
        attempts: Vec::new(),
        ..ended()
    };
    let spans = exported(&[Arc::new(end)]);
    assert_eq!((spans.len(), &spans[0]["name"]), (1, &json!("HTTP")));
    assert_eq!(attribute(&spans[0], "http.request.method"), "_OTHER");
    assert_eq!(attribute(&spans[0], "url.path"), "/made/up/[redacted]");
}
