//! Fault 44: what a connection of HTTP/2 to a provider can do, frame by frame.

use std::time::Duration;

use perpetuo::simulator::{Behaviour, Simulator};
use serde_json::json;
use tokio::task::JoinSet;

use super::{ALONE, ANSWER, SHARED, Stage, answered, events, role, served_by_the_healthy, text};
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, SETTINGS, fields, frame, head_of,
};
use crate::support::{Call, EventStream, Hand, World, hello, hello_stream, within};

/// A stage whose first upstream speaks HTTP/2.
async fn http2_stage() -> Stage {
    let world = World::start(|config| config.timeouts.first_token = Duration::from_secs(2)).await;
    let (hand, healthy) = (Hand::start().await, Simulator::start(Behaviour::new("healthy")).await.unwrap());
    world.add_at("openai", &hand.url(), |credential| {
        credential.options = Some(json!({"http2": true}).as_object().unwrap().clone());
    });
    world.add("groq", &healthy, |_| ());
    Stage { world, hand, healthy }
}

/// Shakes hands, and reads frames until one opens a request; its stream.
async fn http2_request(call: &mut Call, settings: &[u8]) -> u32 {
    call.take(24).await;
    call.send(frame(SETTINGS, 0, 0, settings)).await;
    loop {
        let (kind, stream) = http2_frame(call).await;
        if kind == HEADERS {
            return stream;
        }
    }
}

async fn http2_frame(call: &mut Call) -> (u8, u32) {
    let (length, kind, _, stream) = head_of(&call.take(9).await);
    call.take(length).await;
    (kind, stream)
}

/// HTTP/2: a stream that is reset or refused, and a connection that is taken back, are hidden while the client has seen nothing.
#[tokio::test]
async fn fault_44_http2_reset_and_goaway() {
    let code = |code: u32| code.to_be_bytes().to_vec();
    let goaway = |last: u32, code: u32| frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat());
    for name in ["internal error", "refused", "going away", "going away after it", "nonsense"] {
        let stage = http2_stage().await;
        let asked = stage.ask(hello(SHARED));
        let mut call = stage.hand.accept().await;
        let stream = http2_request(&mut call, &[]).await;
        let bytes = match name {
            "internal error" => frame(RST_STREAM, 0, stream, &code(2)),
            "refused" => frame(RST_STREAM, 0, stream, &code(7)),
            "going away" => goaway(0, 0),
            "going away after it" => [goaway(stream, 0), frame(RST_STREAM, 0, stream, &code(8))].concat(),
            _ => b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        };
        call.send(bytes).await;
        let answer = answered(asked).await;
        assert_eq!((answer.status, answer.provider()), (200, "groq"), "{name}: {}", answer.text());
    }
}

/// HTTP/2: a stream that the peer refused, or that it had not come to when it took its connection back, is sent again, which costs
/// neither an attempt nor the retry budget; three times at most.
#[tokio::test]
async fn fault_44_http2_refused_is_free() {
    let refused = |stream| frame(RST_STREAM, 0, stream, &7_u32.to_be_bytes());
    let going_away = |_| frame(GOAWAY, 0, 0, &[0; 8]);
    for again in [&refused as &dyn Fn(u32) -> Vec<u8>, &going_away] {
        let stage = http2_stage().await;
        let asked = stage.ask(hello(ALONE));
        let mut call = stage.hand.accept().await;
        let stream = http2_request(&mut call, &[]).await;
        call.send(again(stream)).await;
        let stream = tokio::select! {
            // By the same connection, if it is still there; else by another.
            (next, stream) = async {
                let mut next = stage.hand.accept().await;
                let stream = http2_request(&mut next, &[]).await;
                (next, stream)
            } => {
                call = next;
                stream
            }
            stream = next_head(&mut call) => stream,
        };
        let head = fields(&[(":status", "200"), ("content-type", "application/json")]);
        call.send(
            [frame(HEADERS, END_HEADERS, stream, &head), frame(DATA, END_STREAM, stream, ANSWER.as_bytes())].concat(),
        )
        .await;
        let answer = answered(asked).await;
        assert_eq!((answer.status, answer.attempts()), (200, 1), "{}", answer.text());
        let booked = stage.world.booking().await;
        assert_eq!((booked.attempts.len(), booked.attempts[0].usage.total_tokens()), (1, 4));
    }
    let stage = http2_stage().await;
    let asked = stage.ask(hello(SHARED));
    let mut call = stage.hand.accept().await;
    let mut stream = http2_request(&mut call, &[]).await;
    for _ in 0..2 {
        call.send(refused(stream)).await;
        stream = next_head(&mut call).await;
    }
    call.send(refused(stream)).await;
    served_by_the_healthy(&answered(asked).await, "refused for good");
}

/// The stream of the next request on this connection; waits for ever when it has ended.
async fn next_head(call: &mut Call) -> u32 {
    loop {
        let Some(head) = call.try_take(9).await else { return std::future::pending().await };
        let (length, kind, _, stream) = head_of(&head);
        call.take(length).await;
        if kind == HEADERS {
            return stream;
        }
    }
}

/// HTTP/2: a peer that allows one stream at a time gets one at a time by each connection, and all are served.
#[tokio::test(flavor = "multi_thread")]
async fn fault_44_http2_one_stream_at_a_time() {
    let stage = http2_stage().await;
    let asked: Vec<_> = (0..3).map(|_| stage.ask(hello(ALONE))).collect();
    let serving = async {
        let mut connections = JoinSet::new();
        loop {
            let mut call = stage.hand.accept().await;
            connections.spawn(async move {
                // SETTINGS_MAX_CONCURRENT_STREAMS of 1.
                let mut stream = http2_request(&mut call, &[0, 3, 0, 0, 0, 1]).await;
                loop {
                    let head = fields(&[(":status", "200"), ("content-type", "application/json")]);
                    let answer = frame(DATA, END_STREAM, stream, ANSWER.as_bytes());
                    call.send([frame(HEADERS, END_HEADERS, stream, &head), answer].concat()).await;
                    stream = next_head(&mut call).await;
                }
            });
        }
    };
    let all = async {
        for asked in asked {
            let answer = answered(asked).await;
            assert_eq!((answer.status, answer.attempts()), (200, 1), "{}", answer.text());
        }
    };
    tokio::select! {
        () = all => {}
        () = serving => {}
    }
}

/// HTTP/2: a peer that grants no window for the body is given up in time.
#[tokio::test]
async fn fault_44_http2_without_a_window() {
    let stage = http2_stage().await;
    let mut body = hello(SHARED);
    body["messages"][0]["content"] = json!("x".repeat(200_000));
    let asked = stage.ask(body);
    let mut call = stage.hand.accept().await;
    // SETTINGS_INITIAL_WINDOW_SIZE of 0.
    http2_request(&mut call, &[0, 4, 0, 0, 0, 0]).await;
    let answer = within("the other provider", answered(asked)).await;
    served_by_the_healthy(&answer, "no window");
}

/// HTTP/2: a stream that is reset after its first content is told as broken.
#[tokio::test]
async fn fault_44_http2_reset_after_content() {
    let stage = http2_stage().await;
    let asked =
        tokio::spawn(EventStream::of(stage.world.chat_request(stage.world.client()).json(&hello_stream(ALONE))));
    let mut call = stage.hand.accept().await;
    let number = http2_request(&mut call, &[]).await;
    let head = fields(&[(":status", "200"), ("content-type", "text/event-stream")]);
    let first = frame(DATA, 0, number, events(&[role(), text("One")]).as_bytes());
    call.send([frame(HEADERS, END_HEADERS, number, &head), first].concat()).await;
    let mut stream = within("the head", asked).await.unwrap();
    assert_eq!(stream.first_text().await, "One");
    call.send(frame(RST_STREAM, 0, number, &2_u32.to_be_bytes())).await;
    let rest = stream.rest().await;
    assert!(rest.len() == 1 && rest[0].contains("stream_truncated"), "{rest:?}");
}
