//! Streams: event by event, whole or visibly broken, and booked either way.

use std::time::{Duration, Instant};

use bytes::Bytes;
use perpetuo::simulator::{Behaviour, Simulator, Step, Truncation};
use perpetuo::store::RequestRecord;
use perpetuo::usage::Certainty;
use serde_json::{Value, json};

use crate::support::{EventStream, Hand, RawClient, World, hello_stream, said, within};

/// A model of each dialect, and the provider that serves it.
const DIALECTS: [(&str, &str); 2] = [("openai", "gpt-4o"), ("anthropic", "claude-haiku-4-5")];

/// A simulated provider of either dialect behind a gateway with little patience.
async fn stage(provider: &str) -> (World, Simulator) {
    let simulator = Simulator::start(Behaviour::new("acme")).await.unwrap();
    let world = World::start(|config| config.timeouts.idle = Duration::from_millis(250)).await;
    world.add(provider, &simulator, |_| ());
    (world, simulator)
}

async fn open(world: &World, http2: bool, body: &Value) -> EventStream {
    let client = if http2 { world.client_h2() } else { world.client() };
    EventStream::of(world.chat_request(client).json(body)).await
}

/// One token in the form of a provider.
fn token(provider: &str, text: &str) -> String {
    match provider {
        "openai" => openai(&json!({"content": text}), None),
        _ => anthropic(
            &json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
        ),
    }
}

/// What comes before the first token.
fn opening(provider: &str) -> String {
    if provider == "openai" {
        return openai(&json!({"role": "assistant", "content": ""}), None);
    }
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5", "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 3, "output_tokens": 1}});
    let block = json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}});
    [json!({"type": "message_start", "message": message}), block].iter().map(anthropic).collect()
}

/// What comes after the last token.
fn closing(provider: &str) -> String {
    if provider == "openai" {
        return openai(&json!({}), Some("stop")) + "data: [DONE]\n\n";
    }
    let delta = json!({"stop_reason": "end_turn", "stop_sequence": null});
    let events = [
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 3}}),
        json!({"type": "message_stop"}),
    ];
    events.iter().map(anthropic).collect()
}

fn anthropic(event: &Value) -> String {
    format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())
}

fn openai(delta: &Value, finish_reason: Option<&str>) -> String {
    format!("data: {}\n\n", chunk(delta, finish_reason))
}

/// A whole answer, each of its events a chunk of its own.
fn in_chunks(events: impl IntoIterator<Item = String>) -> String {
    let chunks: String = events.into_iter().map(|event| format!("{:x}\r\n{event}\r\n", event.len())).collect();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    format!("{head}{chunks}0\r\n\r\n")
}

fn chunk(delta: &Value, finish_reason: Option<&str>) -> String {
    json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})
    .to_string()
}

/// The error of the last event; before it no `[DONE]`, after it nothing.
fn last_error(events: &[String], story: &str) -> Value {
    assert!(!events.iter().any(|event| event == "[DONE]"), "{story}: {events:?}");
    let finished = events.iter().any(|event| {
        let event: Value = serde_json::from_str(event).unwrap();
        event.pointer("/choices/0/finish_reason").is_some_and(|reason| !reason.is_null())
    });
    assert!(!finished, "{story}: a finish was invented: {events:?}");
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert!(last["error"].is_object(), "{story}: no error at the end of {events:?}");
    last["error"].clone()
}

#[tokio::test]
async fn the_client_reads_each_event_before_the_provider_writes_the_next() {
    for (provider, model) in DIALECTS {
        for http2 in [false, true] {
            let (hand, world) = (Hand::start().await, World::plain().await);
            world.add_at(provider, &hand.url(), |_| ());
            let client = if http2 { world.client_h2() } else { world.client() };
            let asked = tokio::spawn(EventStream::of(world.chat_request(client).json(&hello_stream(model))));
            let mut call = hand.request().await;
            call.send_stream_head().await;
            call.send(opening(provider)).await;
            call.send(token(provider, "one")).await;
            let mut stream = within("the head", asked).await.unwrap();
            assert_eq!(stream.first_text().await, "one", "{provider}, HTTP/2: {http2}");
            for text in [" two", " three"] {
                call.send(token(provider, text)).await;
                assert_eq!(stream.first_text().await, text, "{provider}, HTTP/2: {http2}");
            }
            call.send(closing(provider)).await;
            let rest = stream.rest().await;
            assert_eq!(rest.last().unwrap(), "[DONE]", "{provider}, HTTP/2: {http2}");
            assert_eq!(stream.whole, Some(true));
        }
    }
}

/// A provider that is faster than its reader sends many events at once, each as a chunk of its own. They come as one.
#[tokio::test]
async fn events_that_came_together_go_out_together() {
    for (provider, model) in DIALECTS {
        let (hand, world) = (Hand::start().await, World::plain().await);
        world.add_at(provider, &hand.url(), |_| ());
        let mut client = RawClient::connect(world.address()).await;
        let body = hello_stream(model).to_string();
        client.send_chat_head(&world.key, &format!("content-length: {}\r\n", body.len())).await;
        client.send(body).await.unwrap();
        let mut call = hand.request().await;
        let words: Vec<String> = (0..50).map(|number| format!(" word{number}.")).collect();
        let tokens = words.iter().map(|word| token(provider, word));
        let events = std::iter::once(opening(provider)).chain(tokens).chain([closing(provider)]);
        call.send(in_chunks(events)).await;
        let answer = client.read_until("data: [DONE]\n\n\r\n0\r\n\r\n").await;
        assert!(words.iter().all(|word| answer.contains(word)), "{provider}: {answer}");
        assert_eq!(answer.matches("\r\ndata: ").count(), 1, "{provider}, one chunk for all: {answer}");
    }
}

/// An error that came together with content comes behind it: the client has what there was, and nobody else is asked.
#[tokio::test]
async fn an_error_that_came_with_content_comes_behind_it() {
    let (hand, world) = (Hand::start().await, World::plain().await);
    world.add_at("openai", &hand.url(), |_| ());
    let asked = tokio::spawn(EventStream::of(world.chat_request(world.client()).json(&hello_stream("gpt-4o"))));
    let mut call = hand.request().await;
    let error = "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n".to_owned();
    call.send(in_chunks([opening("openai"), token("openai", "some"), error])).await;
    let mut stream = within("the head", asked).await.unwrap();
    assert_eq!(stream.status, 200);
    assert_eq!(stream.first_text().await, "some");
    last_error(&stream.rest().await, "an error behind content");
}

/// A character cut between two reads reaches the client as it was: events are forwarded when they are whole.
#[tokio::test]
async fn fault_08_utf8_split_over_reads() {
    let (hand, world) = (Hand::start().await, World::plain().await);
    world.add_at("openai", &hand.url(), |_| ());
    let asked = tokio::spawn(EventStream::of(world.chat_request(world.client()).json(&hello_stream("gpt-4o"))));
    let mut call = hand.request().await;
    call.send_stream_head().await;
    call.send(opening("openai")).await;
    let event = format!("data: {}\r\n\r\n", chunk(&json!({"content": "grüß"}), None));
    for byte in event.as_bytes() {
        call.send([*byte]).await;
    }
    let mut stream = within("the head", asked).await.unwrap();
    assert_eq!(stream.first_text().await, "grüß");
    call.send(closing("openai")).await;
    assert_eq!(stream.rest().await.last().unwrap(), "[DONE]");
}

#[tokio::test]
async fn a_stream_has_the_head_that_clients_and_proxies_expect() {
    for (provider, model) in DIALECTS {
        let (world, _simulator) = stage(provider).await;
        let mut stream = open(&world, false, &hello_stream(model)).await;
        assert_eq!(stream.status, 200);
        for (name, value) in [
            ("content-type", "text/event-stream; charset=utf-8"),
            ("cache-control", "no-cache"),
            ("x-accel-buffering", "no"),
            ("content-length", ""),
            ("x-perpetuo-provider", provider),
            ("x-perpetuo-model", model),
            ("x-perpetuo-strategy", "default"),
            ("x-perpetuo-attempts", "1"),
        ] {
            assert_eq!(stream.header(name), value, "{provider}: {name}");
        }
        assert!(stream.header("x-request-id").starts_with("req_"));
        assert!(said(&stream.rest().await).starts_with("Hello from the simulated acme"));
    }
}

/// The gateway asks for usage whether or not the client did, books it, and shows it only to who asked.
#[tokio::test]
async fn fault_18_usage_that_the_client_did_not_ask_for() {
    for (provider, model) in DIALECTS {
        for http2 in [false, true] {
            for asked in [false, true] {
                let story = format!("{provider}, HTTP/2: {http2}, asked: {asked}");
                let (world, simulator) = stage(provider).await;
                let mut body = hello_stream(model);
                if asked {
                    body["stream_options"] = json!({"include_usage": true});
                }
                let events = open(&world, http2, &body).await.rest().await;
                let usages: Vec<Value> = events
                    .iter()
                    .filter_map(|event| serde_json::from_str::<Value>(event).ok())
                    .filter(|event| event["usage"].is_object())
                    .collect();
                assert_eq!(usages.len(), usize::from(asked), "{story}: {events:?}");
                assert_eq!(events.last().unwrap(), "[DONE]", "{story}");
                let billed = simulator.seen()[0].billed;
                if let Some(usage) = usages.first() {
                    assert_eq!(usage["choices"], json!([]), "{story}");
                    assert_eq!(usage["usage"]["prompt_tokens"], billed.prompt_tokens(), "{story}");
                    assert_eq!(usage["usage"]["completion_tokens"], billed.output, "{story}");
                }
                let booked = world.booking().await;
                let attempt = &booked.attempts[0];
                assert_eq!((attempt.usage, attempt.certainty), (billed, Certainty::Exact), "{story}");
                assert!(attempt.cost.dollars() > 0.0 && booked.first_token_ms.is_some(), "{story}");
            }
        }
    }
}

/// A break after three tokens, and the code it is told and booked with.
fn breaks() -> Vec<(&'static str, Step, &'static str)> {
    vec![
        ("a clean end", Step::TruncateAfter { events: 3, how: Truncation::Clean }, "stream_truncated"),
        ("a broken connection", Step::TruncateAfter { events: 3, how: Truncation::Abort }, "stream_truncated"),
        ("silence", Step::Stall { after_events: 3 }, "provider_timeout"),
        ("an error event", Step::ErrorEventAfter { events: 3 }, ""),
    ]
}

#[tokio::test]
async fn a_broken_stream_is_never_closed_as_if_it_were_complete() {
    for (provider, model) in DIALECTS {
        for http2 in [false, true] {
            let (world, simulator) = stage(provider).await;
            // A second provider must not be asked: the client has seen content.
            let other = Simulator::start(Behaviour::new("other")).await.unwrap();
            world.add("groq", &other, |credential| {
                credential.models = Some([(model.to_owned(), "other".to_owned())].into());
            });
            for (turn, (name, step, code)) in breaks().into_iter().enumerate() {
                let story = format!("{provider}, HTTP/2: {http2}, {name}");
                simulator.then([step]);
                let mut stream = open(&world, http2, &hello_stream(model)).await;
                assert_eq!(stream.status, 200, "{story}");
                let events = stream.rest().await;
                assert_eq!(said(&events), "Hello from the", "{story}: what came before the break is kept");
                let error = last_error(&events, &story);
                assert_eq!(error["provider"], provider, "{story}");
                assert!(code.is_empty() || error["code"] == code, "{story}: {error}");
                let booked = world.booked(turn + 1).await.pop().unwrap();
                booked_as_broken(&booked, &story);
            }
            assert!(other.seen().is_empty(), "{provider}, HTTP/2: {http2}");
        }
    }
}

#[tokio::test]
async fn a_broken_stream_leaves_the_clients_connection_as_good_as_before() {
    let (world, simulator) = stage("openai").await;
    simulator.then([Step::TruncateAfter { events: 3, how: Truncation::Abort }]);
    let mut client = RawClient::connect(world.address()).await;
    for (end, status) in [("stream_truncated", 200), ("[DONE]", 200)] {
        let body = hello_stream("gpt-4o").to_string();
        client.send_chat_head(&world.key, &format!("content-length: {}\r\n", body.len())).await;
        client.send(body).await.unwrap();
        let head = client.head().await;
        assert_eq!((head.status, head.header("transfer-encoding")), (status, "chunked"));
        assert!(client.read_until("\r\n0\r\n\r\n").await.contains(end));
    }
}

fn booked_as_broken(booked: &RequestRecord, story: &str) {
    assert_eq!((booked.status, booked.client_gone, booked.attempts.len()), (200, false, 1), "{story}");
    let attempt = &booked.attempts[0];
    assert!(booked.error.is_some() && attempt.error == booked.error, "{story}: {booked:?}");
    assert_eq!(attempt.certainty, Certainty::Estimated, "{story}");
    assert!(
        attempt.usage.input > 0 && attempt.usage.output > 0 && attempt.cost.dollars() > 0.0,
        "{story}: {attempt:?}"
    );
}

#[tokio::test]
async fn the_deadline_ends_a_running_stream() {
    for (provider, model) in DIALECTS {
        let simulator = Simulator::start(Behaviour::new("acme").token_delay(Duration::from_millis(50)).tokens(1000));
        let (simulator, world) = (simulator.await.unwrap(), World::plain().await);
        world.add(provider, &simulator, |_| ());
        let mut body = hello_stream(model);
        body["timeout"] = json!(0.4);
        let before = Instant::now();
        let events = open(&world, false, &body).await.rest().await;
        assert!(before.elapsed() < Duration::from_secs(5), "{provider}");
        assert!(said(&events).starts_with("Hello"), "{provider}");
        assert_eq!(last_error(&events, provider)["code"], "deadline_exceeded");
        let booked = world.booking().await;
        assert_eq!((booked.status, booked.error.as_deref()), (200, Some("deadline_exceeded")));
        simulator.wait_until(|seen| seen[0].outcome == perpetuo::simulator::Outcome::Cancelled).await.unwrap();
    }
}

/// A stream of one ordinary token and one very long one.
fn long_event(bytes: usize) -> Step {
    let piece = |data: &str| (Duration::ZERO, Bytes::from(format!("data: {data}\n\n")));
    Step::Raw {
        status: 200,
        content_type: "text/event-stream".to_owned(),
        chunks: vec![
            piece(&chunk(&json!({"role": "assistant", "content": "short"}), None)),
            piece(&chunk(&json!({"content": "x".repeat(bytes)}), None)),
            piece(&chunk(&json!({}), Some("stop"))),
            piece("[DONE]"),
        ],
    }
}

/// An event of 10 MB goes through.
#[tokio::test]
async fn fault_12_event_of_ten_megabytes() {
    let (world, simulator) = stage("openai").await;
    simulator.then([long_event(10_000_000)]);
    let events = open(&world, false, &hello_stream("gpt-4o")).await.rest().await;
    assert_eq!(said(&events).len(), "short".len() + 10_000_000);
    assert_eq!(events.last().unwrap(), "[DONE]");
}

/// An event over `limits.max_event_bytes` ends the stream with an error event; its bytes are not held.
#[tokio::test]
async fn fault_12_event_over_the_limit() {
    let simulator = Simulator::start(Behaviour::new("acme").script([long_event(100_000)])).await.unwrap();
    let world = World::start(|config| config.limits.max_event_bytes = 64 * 1024).await;
    world.add("openai", &simulator, |_| ());
    let events = open(&world, false, &hello_stream("gpt-4o")).await.rest().await;
    assert_eq!(said(&events), "short");
    assert_eq!(last_error(&events, "too long")["code"], "event_too_large");
    assert!(events.iter().map(String::len).sum::<usize>() < 10_000);

    // One that never ends is not read to its end.
    let (hand, world) = (Hand::start().await, World::start(|config| config.limits.max_event_bytes = 64 * 1024).await);
    world.add_at("openai", &hand.url(), |_| ());
    let asked = tokio::spawn(EventStream::of(world.chat_request(world.client()).json(&hello_stream("gpt-4o"))));
    let mut call = hand.request().await;
    call.send_stream_head().await;
    call.send(opening("openai")).await;
    call.send(token("openai", "short")).await;
    call.send("data: ").await;
    let mut sent = 0;
    while sent < 1000 && call.try_send("x".repeat(100_000)).await {
        sent += 1;
    }
    assert!(sent < 300, "{sent} times 100 KB of one event were taken");
    let events = within("the head", asked).await.unwrap().rest().await;
    assert_eq!(last_error(&events, "endless")["code"], "event_too_large");
}

#[tokio::test]
async fn a_whole_answer_above_the_limit_falls_over() {
    let long = format!(r#"{{"choices":[{{"message":{{"content":"{}"}}}}]}}"#, "x".repeat(200_000));
    let step = Step::Status { status: 200, headers: Vec::new(), body: Some(long.into()) };
    let first = Simulator::start(Behaviour::new("first").always(step)).await.unwrap();
    let second = Simulator::start(Behaviour::new("second")).await.unwrap();
    let world = World::start(|config| config.limits.max_answer_bytes = 100_000).await;
    world.add("openai", &first, |_| ());
    world.add("groq", &second, |_| ());
    let answer = world.chat(&crate::support::hello("gpt-4")).await;
    assert_eq!((answer.status, answer.provider(), answer.attempts()), (200, "groq", 2), "{}", answer.text());
}

/// A stream that told its finish and not `[DONE]` is completed with it, and is a success.
#[tokio::test]
async fn fault_07_no_done_after_a_finish() {
    let (hand, world) = (Hand::start().await, World::plain().await);
    world.add_at("openai", &hand.url(), |_| ());
    let asked = tokio::spawn(EventStream::of(world.chat_request(world.client()).json(&hello_stream("gpt-4o"))));
    let mut call = hand.request().await;
    call.send_stream_head().await;
    call.send(opening("openai")).await;
    call.send(token("openai", "all of it")).await;
    call.send_event(&chunk(&json!({}), Some("stop"))).await;
    drop(call);
    let events = within("the head", asked).await.unwrap().rest().await;
    assert_eq!((said(&events).as_str(), events.last().unwrap().as_str()), ("all of it", "[DONE]"));
}
