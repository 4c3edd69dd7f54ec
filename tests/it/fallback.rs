//! What fails over, invisibly; what is told at once; and what the gateway remembers of it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use perpetuo::simulator::{Behaviour, Simulator, Step, Truncation};
use perpetuo::store::AttemptRecord;
use serde_json::json;

use crate::support::{World, free_address, hello, hello_stream, said};

async fn simulator(name: &str) -> Simulator {
    Simulator::start(Behaviour::new(name)).await.unwrap()
}

/// A provider that always does this.
async fn always(step: Step) -> Simulator {
    Simulator::start(Behaviour::new("always").always(step)).await.unwrap()
}

/// A gateway with a first provider and a healthy second one for the alias `gpt-4`, and little patience.
struct Pair {
    world: World,
    first: Simulator,
    second: Simulator,
}

impl Pair {
    async fn start() -> Self {
        let world = World::start(|config| {
            config.timeouts.first_token = Duration::from_millis(500);
            config.timeouts.idle = Duration::from_millis(250);
        })
        .await;
        let (first, second) = (simulator("first").await, simulator("second").await);
        world.add("openai", &first, |_| ());
        world.add("groq", &second, |_| ());
        Self { world, first, second }
    }
}

fn error_body(status: u16) -> Step {
    let body = format!(
        r#"{{"error":{{"message":"quota of sk-openai-0123456789abcdef, says {status}","type":"their_type","param":"n","code":"their_code"}}}}"#
    );
    Step::Status { status, headers: Vec::new(), body: Some(body.into()) }
}

/// Failures of any request that may be tried elsewhere, and what they are booked as.
fn failures() -> Vec<(&'static str, Step, &'static str)> {
    vec![
        // First, while no connection is kept: on a kept one it would be taken for one that had gone stale.
        ("a reset before the head", Step::Reset, "provider_unreachable"),
        ("429", Step::retry_after(429, 0), "rate_limit_exceeded"),
        ("500", Step::status(500), "provider_error"),
        ("502", Step::status(502), "provider_error"),
        ("503", Step::status(503), "provider_overloaded"),
        ("504", Step::status(504), "provider_timeout"),
        ("529", Step::status(529), "provider_overloaded"),
        ("408", Step::status(408), "provider_timeout"),
        ("no head", Step::Hang, "provider_timeout"),
        ("a head and nothing more", Step::HangAfterHead, "provider_timeout"),
        ("a page of HTML", Step::HtmlOk, "provider_protocol_error"),
        ("broken JSON", Step::BadJson, "provider_protocol_error"),
    ]
}

/// Failures of a stream before its first content.
fn stream_failures() -> Vec<(&'static str, Step, &'static str)> {
    let role = r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
    let raw = |text: &str| Step::Raw {
        status: 200,
        content_type: "text/event-stream".to_owned(),
        chunks: vec![(Duration::ZERO, Bytes::from(text.to_owned()))],
    };
    vec![
        ("an error event first", Step::ErrorEventFirst, "provider_error"),
        ("an error event after the role", Step::ErrorEventAfter { events: 0 }, "provider_error"),
        ("nothing but a comment", raw(": hi\n\n"), "stream_truncated"),
        ("nothing but [DONE] that is cut", raw("data: [DON"), "stream_truncated"),
        ("the role and an end", Step::TruncateAfter { events: 0, how: Truncation::Clean }, "stream_truncated"),
        (
            "the role and a broken connection",
            Step::TruncateAfter { events: 0, how: Truncation::Abort },
            "stream_truncated",
        ),
        ("the role and silence", Step::Stall { after_events: 0 }, "provider_timeout"),
        ("half an event", raw(&format!("{role}\n\ndata: {{\"choices\"")), "stream_truncated"),
        ("an event that is no JSON", raw(&format!("{role}\n\ndata: hello\n\n")), "provider_protocol_error"),
    ]
}

#[tokio::test]
async fn a_whole_answer_falls_over_without_a_trace() {
    let mut failures = failures();
    failures.extend([
        ("half an answer", Step::TruncateAfter { events: 1, how: Truncation::Clean }, "provider_protocol_error"),
        ("a broken answer", Step::TruncateAfter { events: 1, how: Truncation::Abort }, "stream_truncated"),
        ("an answer that stalls", Step::Stall { after_events: 1 }, "provider_timeout"),
    ]);
    falls_over(failures, false).await;
}

#[tokio::test]
async fn a_stream_falls_over_without_a_trace() {
    let failures = failures().into_iter().chain(stream_failures()).collect();
    falls_over(failures, true).await;
}

/// Each failure leads to the second provider, and the first one is asked again by the next request.
async fn falls_over(failures: Vec<(&'static str, Step, &'static str)>, stream: bool) {
    let body = if stream { hello_stream("gpt-4") } else { hello("gpt-4") };
    for (name, step, code) in failures {
        let Pair { world, first, second } = Pair::start().await;
        first.then([step]);
        let answer = world.chat(&body).await;
        assert_eq!(
            (answer.status, answer.provider(), answer.attempts()),
            (200, "groq", 2),
            "{name}: {}",
            answer.text()
        );
        assert_eq!(answer.header("x-perpetuo-model"), "openai/gpt-oss-120b", "{name}");
        if stream {
            let events = answer.events();
            assert!(said(&events).starts_with("Hello from the simulated second"), "{name}: {events:?}");
            let roles = events.iter().filter(|event| event.contains("\"role\":\"assistant\"")).count();
            assert_eq!((roles, events.last().unwrap().as_str()), (1, "[DONE]"), "{name}: of one provider only");
        } else {
            let text = answer.json()["choices"][0]["message"]["content"].to_string();
            assert!(text.contains("Hello from the simulated second"), "{name}: {text}");
        }
        assert_eq!((first.seen().len(), second.seen().len()), (1, 1), "{name}: each was asked once");

        let booked = world.booking().await;
        let told = |attempt: &AttemptRecord| (attempt.number, attempt.provider.clone(), attempt.error.clone());
        let attempts: Vec<_> = booked.attempts.iter().map(told).collect();
        let expected = [(1, "openai".to_owned(), Some(code.to_owned())), (2, "groq".to_owned(), None)];
        assert_eq!(attempts, expected, "{name}");
        assert_eq!((booked.status, booked.error), (200, None), "{name}");

        // A success keeps the breaker closed.
        assert_eq!(world.chat(&body).await.provider(), "openai", "after {name}");
    }
}

/// 400, 404, 413 and 422 are told at once with the provider's words; nobody else is asked.
#[tokio::test]
async fn fault_33_refused_for_good() {
    let Pair { world, first, second } = Pair::start().await;
    for status in [400, 404, 413, 422] {
        for body in [hello("gpt-4"), hello_stream("gpt-4")] {
            first.then([error_body(status)]);
            let answer = world.chat(&body).await;
            assert_eq!((answer.status, answer.provider(), answer.attempts()), (status, "openai", 1));
            let error = answer.error();
            let expected = json!({
                "message": format!("quota of [redacted], says {status}"), "type": "their_type", "param": "n",
                "code": "their_code", "provider": "openai",
            });
            assert_eq!(error, expected);
            assert_eq!(answer.header("content-type"), "application/json");
            assert!(!answer.header("x-request-id").is_empty());
        }
    }
    assert!(second.seen().is_empty(), "nobody else was asked");
}

/// A refused provider key is not mistaken for a bad virtual key, and nothing of the provider's text about it is repeated.
#[tokio::test]
async fn fault_32_provider_key_is_not_the_clients() {
    for status in [401, 403] {
        let Pair { world, first, second } = Pair::start().await;
        first.then([error_body(status)]);
        let answer = world.chat(&hello("gpt-4")).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, "provider_key_invalid"));
        assert_eq!((answer.error()["provider"].as_str(), answer.provider()), (Some("openai"), "openai"));
        let text = answer.text();
        assert!(text.contains("'openai'") && !text.contains("quota") && !text.contains("sk-"), "{text}");
        assert!(!text.contains("their_"), "nothing of the provider's own words: {text}");
        assert!(second.seen().is_empty());

        let next = world.chat(&hello("gpt-4")).await;
        assert_eq!((next.status, next.provider(), next.attempts()), (200, "groq", 1), "it is out from then on");
        let credential = world.gateway.directory().workspace(&world.workspace).unwrap().credentials[0].id.clone();
        let change = perpetuo::directory::CredentialChange { weight: Some(2), ..Default::default() };
        world.gateway.directory().update_credential(&world.workspace, &credential, change).unwrap();
        assert_eq!(world.chat(&hello("gpt-4")).await.provider(), "openai", "until it is changed");
    }
}

#[tokio::test]
async fn when_all_fail_the_last_error_is_told_with_its_status() {
    let cases = [
        (Step::status(500), 502, "", ""),
        (Step::status(503), 503, "", "1"),
        (Step::status(529), 503, "", "1"),
        (Step::Reset, 502, "provider_unreachable", ""),
        (Step::HtmlOk, 502, "provider_protocol_error", ""),
        (Step::retry_after(429, 7), 429, "", "7"),
        (Step::Hang, 504, "provider_timeout", ""),
    ];
    for (step, status, code, retry_after) in cases {
        let Pair { world, first, second } = Pair::start().await;
        first.then([step.clone()]);
        second.then([step.clone()]);
        let answer = world.chat(&hello("gpt-4")).await;
        assert_eq!((answer.status, answer.provider(), answer.attempts()), (status, "groq", 2), "{step:?}");
        assert_eq!(answer.header("retry-after"), retry_after, "{step:?}");
        assert!(code.is_empty() || answer.code() == code, "{step:?}: {}", answer.text());
        assert_eq!((first.seen().len(), second.seen().len()), (1, 1), "{step:?}: each was asked once");
        let booked = world.booking().await;
        assert_eq!((booked.status, booked.attempts.len()), (status, 2), "{step:?}");
    }
}

#[tokio::test]
async fn the_last_error_decides() {
    let Pair { world, first, second } = Pair::start().await;
    first.then([Step::status(500)]);
    second.then([error_body(400)]);
    let answer = world.chat(&hello("gpt-4")).await;
    assert_eq!((answer.status, answer.provider(), answer.attempts()), (400, "groq", 2));
    assert_eq!(answer.code(), "their_code");
}

#[tokio::test]
async fn attempts_are_limited_and_no_candidate_is_asked_twice() {
    for (allowed, candidates, asked) in [(1, 4, 1), (3, 4, 3), (10, 4, 4), (10, 1, 1)] {
        let world = World::start(|config| config.retry.max_attempts = allowed).await;
        let failing = always(Step::status(500)).await;
        for _ in 0..candidates {
            world.add("openai", &failing, |_| ());
        }
        let answer = world.chat(&hello("gpt-4o")).await;
        assert_eq!((answer.status, answer.attempts()), (502, asked), "{allowed} attempts, {candidates} candidates");
        assert_eq!(failing.seen().len(), asked as usize);
        let booked = world.booking().await;
        let mut credentials: Vec<_> = booked.attempts.iter().map(|attempt| &attempt.credential).collect();
        credentials.sort();
        credentials.dedup();
        assert_eq!(credentials.len(), asked as usize, "each credential once");
    }
}

#[tokio::test]
async fn the_clients_deadline_ends_all_attempts() {
    let world = World::plain().await;
    let (first, second) = (always(Step::Hang).await, always(Step::Hang).await);
    world.add("openai", &first, |_| ());
    world.add("groq", &second, |_| ());
    let mut body = hello("gpt-4");
    body["timeout"] = json!(0.4);
    let before = Instant::now();
    let by_body = world.chat(&body).await;
    let by_header = world.chat_with("x-perpetuo-timeout", "0.4", &hello("gpt-4")).await;
    let took = before.elapsed();
    assert!(took >= Duration::from_millis(700) && took < Duration::from_secs(4), "{took:?}");
    for answer in [by_body, by_header] {
        assert_eq!((answer.status, answer.attempts()), (504, 2), "{}", answer.text());
    }
    let seen = first.seen();
    assert_eq!(seen[0].json()["timeout"], json!(null), "the gateway's own field is not the provider's");
    assert_eq!(seen[0].header("x-perpetuo-timeout"), None);
}

#[tokio::test]
async fn a_deadline_that_passes_before_the_first_attempt_is_told_as_one() {
    let Pair { world, first, second } = Pair::start().await;
    let answer = world.chat_with("x-perpetuo-timeout", "0.000001", &hello("gpt-4")).await;
    assert_eq!((answer.status, answer.error()["code"].as_str()), (504, Some("deadline_exceeded")), "{}", answer.text());
    assert!(first.seen().is_empty() && second.seen().is_empty(), "nobody is asked who can't answer in time");
}

#[tokio::test]
async fn the_deadline_leaves_time_for_the_second_provider() {
    let Pair { world, first, second } = Pair::start().await;
    first.then([Step::Hang]);
    let mut body = hello("gpt-4");
    body["timeout"] = json!(0.6);
    let answer = world.chat(&body).await;
    assert_eq!((answer.status, answer.provider(), answer.attempts()), (200, "groq", 2), "{}", answer.text());
    assert_eq!(second.seen().len(), 1);
}

#[tokio::test]
async fn a_deadline_that_is_none_is_refused() {
    let (simulator, world) = (simulator("acme").await, World::plain().await);
    world.add("openai", &simulator, |_| ());
    for wrong in [json!(0), json!(-1), json!("soon"), json!(1e300)] {
        let mut body = hello("gpt-4o");
        body["timeout"] = wrong.clone();
        let answer = world.chat(&body).await;
        assert_eq!((answer.status, answer.error()["param"].as_str()), (400, Some("timeout")), "{wrong}");
    }
    for wrong in ["0", "-1", "soon", "NaN", "inf", ""] {
        let answer = world.chat_with("x-perpetuo-timeout", wrong, &hello("gpt-4o")).await;
        assert_eq!((answer.status, answer.error()["param"].as_str()), (400, Some("X-Perpetuo-Timeout")), "{wrong:?}");
    }
    assert!(simulator.seen().is_empty());
}

#[tokio::test]
async fn a_rate_limited_credential_is_left_alone_as_long_as_it_asks() {
    let Pair { world, first, second } = Pair::start().await;
    first.then([Step::retry_after(429, 60)]);
    for (attempts, asked) in [(2, 1), (1, 1), (1, 1)] {
        let answer = world.chat(&hello("gpt-4")).await;
        assert_eq!((answer.status, answer.provider(), answer.attempts()), (200, "groq", attempts));
        assert_eq!(first.seen().len(), asked, "it cools down");
    }
    // Another model of the same credential is limited as well.
    let other = world.chat(&hello("gpt-4o")).await;
    assert_eq!((other.status, other.attempts(), first.seen().len()), (429, 0, 1));

    second.then([Step::retry_after(429, 30)]);
    let last = world.chat(&hello("gpt-4")).await;
    assert_eq!((last.status, last.attempts(), last.header("retry-after")), (429, 1, "30"));
    let none = world.chat(&hello("gpt-4")).await;
    assert_eq!((none.status, none.code().as_str(), none.attempts()), (429, "rate_limit_exceeded", 0));
    let wait: u64 = none.header("retry-after").parse().unwrap();
    assert!((28..=30).contains(&wait), "the shortest wait of all: {wait}");
    assert_eq!((first.seen().len(), second.seen().len()), (1, 4), "nobody was asked");
}

#[tokio::test]
async fn a_short_cool_down_ends() {
    let Pair { world, first, second: _second } = Pair::start().await;
    let short =
        Step::Status { status: 429, headers: vec![("retry-after-ms".to_owned(), "300".to_owned())], body: None };
    first.then([short]);
    assert_eq!(world.chat(&hello("gpt-4")).await.provider(), "groq");
    let begin = Instant::now();
    let mut providers: Vec<String> = Vec::new();
    while begin.elapsed() < Duration::from_secs(5) && providers.last().is_none_or(|last| last != "openai") {
        let answer = world.chat(&hello("gpt-4")).await;
        assert_eq!(answer.status, 200);
        providers.push(answer.provider().to_owned());
    }
    assert_eq!(providers.first().map(String::as_str), Some("groq"), "still cooling");
    assert_eq!(providers.last().map(String::as_str), Some("openai"), "and back again");
}

#[tokio::test]
async fn five_failures_in_a_row_open_the_breaker() {
    let world = World::plain().await;
    let (first, second) = (always(Step::status(500)).await, simulator("second").await);
    world.add("openai", &first, |_| ());
    world.add("groq", &second, |_| ());
    for turn in 1..=5 {
        assert_eq!(world.chat(&hello("gpt-4")).await.attempts(), 2, "request {turn} still asks it");
    }
    for _ in 0..3 {
        let answer = world.chat(&hello("gpt-4")).await;
        assert_eq!((answer.status, answer.provider(), answer.attempts()), (200, "groq", 1));
    }
    assert_eq!(first.seen().len(), 5);
    // Another model of the same credential has a breaker of its own.
    assert_eq!(world.chat(&hello("gpt-4o")).await.attempts(), 1);
    assert_eq!(first.seen().len(), 6);
}

#[tokio::test]
async fn a_429_neither_opens_the_breaker_nor_closes_it() {
    let Pair { world, first, second: _second } = Pair::start().await;
    first.then(std::iter::repeat_n(Step::retry_after(429, 0), 8));
    for turn in 0..8 {
        let answer = world.chat(&hello("gpt-4")).await;
        assert_eq!(
            (answer.status, answer.provider(), answer.attempts()),
            (200, "groq", 2),
            "request {turn} asks it again"
        );
    }
    assert_eq!(world.chat(&hello("gpt-4")).await.provider(), "openai");
}

#[tokio::test]
async fn the_only_candidate_is_asked_although_its_breaker_is_open() {
    let world = World::plain().await;
    let only = simulator("only").await;
    only.then(std::iter::repeat_n(Step::status(500), 6));
    world.add("openai", &only, |_| ());
    for _ in 0..6 {
        assert_eq!(world.chat(&hello("gpt-4o")).await.status, 502);
    }
    assert_eq!(world.chat(&hello("gpt-4o")).await.status, 200, "better than a refusal without asking");
}

#[tokio::test]
async fn a_refused_connection_falls_over() {
    let (second, world) = (simulator("second").await, World::plain().await);
    world.add_at("openai", &format!("http://{}", free_address()), |_| ());
    world.add("groq", &second, |_| ());
    for body in [hello("gpt-4"), hello_stream("gpt-4")] {
        let answer = world.chat(&body).await;
        assert_eq!((answer.status, answer.provider(), answer.attempts()), (200, "groq", 2));
    }
}
