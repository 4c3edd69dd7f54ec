//! Clients that leave, and many at once.

use std::time::{Duration, Instant};

use perpetuo::simulator::{Behaviour, Outcome, Seen, Simulator, Step};
use perpetuo::usage::Certainty;
use serde_json::Value;

use crate::support::{EventStream, Hand, RawClient, World, hello, hello_stream, said, within};

/// How soon a provider must notice that nobody listens any more.
const SOON: Duration = Duration::from_secs(1);

/// A gateway over a provider that does this once.
async fn stage(http2: bool, step: Step) -> (World, Simulator) {
    let simulator = Simulator::start(Behaviour::new("acme").script([step])).await.unwrap();
    let world = World::plain().await;
    world.add("openai", &simulator, |credential| {
        credential.options = Some(serde_json::json!({"http2": http2}).as_object().unwrap().clone());
    });
    (world, simulator)
}

/// Asks and leaves once the provider has the request, while the client still waits for a head.
async fn ask_and_leave(world: &World, simulator: &Simulator, http2: bool, body: &Value) -> Instant {
    let client = if http2 { world.client_h2() } else { world.client() };
    let asked = tokio::spawn(world.chat_request(client).json(body).send());
    simulator.wait_until(|seen| seen.iter().any(|seen| seen.body_complete)).await.unwrap();
    asked.abort();
    assert!(asked.await.unwrap_err().is_cancelled(), "there was an answer before the client left");
    Instant::now()
}

/// The provider notices at once, and the ledger knows what it was.
async fn cancelled(world: &World, simulator: &Simulator, left: Instant, story: &str) -> Seen {
    let seen = simulator.wait_until(|seen| seen[0].outcome == Outcome::Cancelled).await;
    let seen = seen.unwrap_or_else(|_| panic!("{story}: the provider was never cancelled"));
    assert!(left.elapsed() < SOON, "{story}: after {:?}", left.elapsed());
    let booked = world.booking().await;
    assert_eq!((booked.status, booked.client_gone), (499, true), "{story}");
    assert_eq!((booked.error.as_deref(), booked.attempts.len()), (Some("client_gone"), 1), "{story}");
    let attempt = &booked.attempts[0];
    assert_eq!((attempt.error.as_deref(), attempt.certainty), (Some("client_gone"), Certainty::Estimated), "{story}");
    assert!(attempt.usage.input > 0 && attempt.cost.dollars() > 0.0, "{story}: the prompt was sent: {attempt:?}");
    seen[0].clone()
}

/// A client that leaves while it waits cancels its provider within a second; booked as 499.
#[tokio::test]
async fn fault_45_client_leaves_while_waiting() {
    for http2 in [false, true] {
        for body in [hello("gpt-4o"), hello_stream("gpt-4o")] {
            for step in [Step::Hang, Step::HangAfterHead] {
                let story = format!("HTTP/2: {http2}, {step:?}, {body}");
                let (world, simulator) = stage(http2, step).await;
                let left = ask_and_leave(&world, &simulator, http2, &body).await;
                cancelled(&world, &simulator, left, &story).await;
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_first_content_cancels_its_provider() {
    for http2 in [false, true] {
        let (world, simulator) = stage(http2, Step::Stall { after_events: 0 }).await;
        let left = ask_and_leave(&world, &simulator, http2, &hello_stream("gpt-4o")).await;
        cancelled(&world, &simulator, left, &format!("HTTP/2: {http2}")).await;
    }
}

/// A client that leaves a stream cancels its provider within a second; what passed is booked.
#[tokio::test]
async fn fault_45_client_leaves_a_stream() {
    for (down, up) in [(false, false), (false, true), (true, false), (true, true)] {
        let story = format!("HTTP/2 down: {down}, up: {up}");
        let (world, simulator) = stage(up, Step::Stall { after_events: 3 }).await;
        let client = if down { world.client_h2() } else { world.client() };
        let mut stream = EventStream::of(world.chat_request(client).json(&hello_stream("gpt-4o"))).await;
        assert_eq!(stream.status, 200, "{story}");
        let mut text = String::new();
        while text != "Hello from the" {
            text += &stream.first_text().await;
        }
        drop(stream);
        let seen = cancelled(&world, &simulator, Instant::now(), &story).await;
        let booked = world.booking().await;
        assert!(booked.attempts[0].usage.output > 0, "{story}: what was generated is booked");
        assert_eq!(seen.billed.output, 3, "{story}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_a_busy_stream_cancels_its_provider() {
    for http2 in [false, true] {
        let step = Step::Slow { latency: Duration::ZERO, token_delay: Duration::from_millis(10) };
        let simulator = Simulator::start(Behaviour::new("acme").tokens(2000).script([step])).await.unwrap();
        let world = World::plain().await;
        world.add("openai", &simulator, |_| ());
        let client = if http2 { world.client_h2() } else { world.client() };
        let mut stream = EventStream::of(world.chat_request(client).json(&hello_stream("gpt-4o"))).await;
        for _ in 0..5 {
            stream.first_text().await;
        }
        drop(stream);
        cancelled(&world, &simulator, Instant::now(), &format!("HTTP/2: {http2}")).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_its_body_is_on_its_way_ends_that() {
    for http2 in [false, true] {
        let (hand, world) = (Hand::start().await, World::plain().await);
        world.add_at("openai", &hand.url(), |_| ());
        let client = if http2 { world.client_h2() } else { world.client() };
        let body = hello("gpt-4o").to_string().replace("Hello", &"x".repeat(20_000_000));
        let asked = tokio::spawn(world.chat_request(client).body(body).send());
        let mut call = hand.accept().await;
        assert!(call.read_head().await);
        asked.abort();
        let left = Instant::now();
        call.closed().await;
        assert!(left.elapsed() < SOON, "HTTP/2: {http2}: {:?}", left.elapsed());
        assert!(world.booking().await.client_gone, "HTTP/2: {http2}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_not_replaced_at_the_next_provider() {
    let (world, first) = stage(false, Step::Hang).await;
    let second = Simulator::start(Behaviour::new("second")).await.unwrap();
    world.add("groq", &second, |_| ());
    let left = ask_and_leave(&world, &first, false, &hello("gpt-4")).await;
    cancelled(&world, &first, left, "two candidates").await;
    assert!(second.seen().is_empty());
    // Its leaving says nothing about the provider.
    assert_eq!(world.chat(&hello("gpt-4")).await.provider(), "openai");
}

#[tokio::test]
async fn a_client_that_leaves_in_its_own_body_reaches_nobody() {
    let (world, simulator) = stage(false, Step::Ok).await;
    let mut client = RawClient::connect(world.address()).await;
    client.send_chat_head(&world.key, "content-length: 1000\r\n").await;
    client.send("{\"model\":\"gpt-4o\"").await.unwrap();
    drop(client);
    assert_eq!(world.chat(&hello("gpt-4o")).await.status, 200);
    assert_eq!(simulator.seen().len(), 1, "only the whole request was sent on");
    assert_eq!(world.booking().await.status, 200);
}

/// A client that closes its sending side counts as gone: clients of this API never do so and go on reading, and tokens cost money.
#[tokio::test]
async fn fault_46_half_close() {
    let (world, simulator) = stage(false, Step::Hang).await;
    let mut client = RawClient::connect(world.address()).await;
    let body = hello("gpt-4o").to_string();
    client.send_chat_head(&world.key, &format!("content-length: {}\r\n", body.len())).await;
    client.send(body).await.unwrap();
    simulator.wait_until(|seen| seen.iter().any(|seen| seen.body_complete)).await.unwrap();
    client.close_sending().await;
    cancelled(&world, &simulator, Instant::now(), "half closed").await;
    assert!(client.is_closed().await, "it hears nothing more");
}

#[tokio::test]
async fn fifty_streams_at_once_are_all_served_and_booked() {
    for http2 in [false, true] {
        let behaviour = Behaviour::new("acme").tokens(20).token_delay(Duration::from_millis(10));
        let simulator = Simulator::start(behaviour).await.unwrap();
        let world = World::plain().await;
        world.add("openai", &simulator, |_| ());
        let client = if http2 { world.client_h2() } else { world.client() };
        let before = Instant::now();
        let asked: Vec<_> = (0..50)
            .map(|_| {
                let request = world.chat_request(client).json(&hello_stream("gpt-4o"));
                tokio::spawn(async move { EventStream::of(request).await.rest().await })
            })
            .collect();
        for asked in asked {
            let events = within("a stream", asked).await.unwrap();
            assert_eq!(said(&events).split(' ').count(), 20, "HTTP/2: {http2}");
            assert_eq!(events.last().unwrap(), "[DONE]", "HTTP/2: {http2}");
        }
        assert!(before.elapsed() < Duration::from_secs(8), "one after the other they would take ten seconds");
        let billed: u64 = simulator.seen().iter().map(|seen| seen.billed.total_tokens()).sum();
        let booked: u64 = world.booked(50).await.iter().map(perpetuo::store::RequestRecord::tokens).sum();
        assert_eq!(booked, billed, "HTTP/2: {http2}");
    }
}

/// A client that reads nothing holds its provider back, and not for ever.
#[tokio::test]
async fn fault_47_slow_reader() {
    // More than all buffers on the way can hold.
    let event =
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n", "x".repeat(1_000_000));
    let chunks: Vec<_> = std::iter::repeat_n((Duration::ZERO, event.into()), 60).collect();
    for http2 in [false, true] {
        let content_type = "text/event-stream".to_owned();
        let step = Step::Raw { status: 200, content_type, chunks: chunks.clone() };
        let simulator = Simulator::start(Behaviour::new("acme").script([step])).await.unwrap();
        let world = World::start(|config| config.timeouts.total = SOON).await;
        world.add("openai", &simulator, |_| ());
        let client = if http2 { world.client_h2() } else { world.client() };
        let unread = EventStream::of(world.chat_request(client).json(&hello_stream("gpt-4o"))).await;
        assert_eq!(unread.status, 200, "HTTP/2: {http2}");
        let booked = world.booking().await;
        assert!(booked.latency_ms < 6000, "HTTP/2: {http2}: {booked:?}");
        assert_eq!((booked.status, booked.client_gone), (499, true), "HTTP/2: {http2}");
        simulator.wait_until(|seen| seen[0].outcome == Outcome::Cancelled).await.unwrap();
    }
}

/// However long a client reads nothing, no more than a little of its answer is held for it; once it reads, it gets everything.
#[tokio::test(flavor = "multi_thread")]
async fn fault_47_bytes_for_a_slow_reader() {
    let (hand, world) = (Hand::start().await, World::plain().await);
    world.add_at("openai", &hand.url(), |_| ());
    let mut client = RawClient::connect(world.address()).await;
    let body = hello_stream("gpt-4o").to_string();
    client.send_chat_head(&world.key, &format!("content-length: {}\r\n", body.len())).await;
    client.send(body).await.unwrap();
    let mut call = hand.request().await;
    call.send_stream_head().await;
    let event =
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n", "x".repeat(1_000_000));
    let mut sent = 0;
    // A peer that takes nothing for so long takes nothing more.
    while sent < 200 && tokio::time::timeout(SOON / 2, call.try_send(&event)).await == Ok(true) {
        sent += 1;
    }
    // The buffers of two connections, as large as the system makes them, and an event.
    assert!(sent < 40, "{sent} MB were taken for a client that reads nothing");
    let reading = tokio::spawn(async move { client.read_until("data: [DONE]\n\n\r\n0\r\n\r\n").await.len() });
    // The event that was cut when the peer took no more is begun anew: its beginning is then a part of the next one's text.
    call.send("\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n")
        .await;
    assert!(within("the rest", reading).await.unwrap() > sent * 1_000_000);
}
