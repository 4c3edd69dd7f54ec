//! Request bodies of any size, on any wire, arrive unchanged or are refused early.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use perpetuo::simulator::{Behaviour, Simulator, Step};
use reqwest::Body;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::support::{Answer, Authority, RawClient, World, hello};

/// How the provider is reached.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wire {
    Http1,
    Http2,
    TlsHttp1,
    TlsHttp2,
}

/// How the client sends.
#[derive(Clone, Copy, Debug)]
struct Down {
    http2: bool,
    chunked: bool,
}

const DOWNS: [Down; 4] = [
    Down { http2: false, chunked: false },
    Down { http2: false, chunked: true },
    Down { http2: true, chunked: false },
    Down { http2: true, chunked: true },
];

/// A gateway in front of a provider that fails and one that works, by model.
struct Stage {
    world: World,
    good: Simulator,
    failing: Vec<(&'static str, Simulator)>,
    sent: u32,
}

impl Stage {
    async fn set(wire: Wire) -> Self {
        let authority = Authority::new();
        let ca_file = authority.file();
        let world = World::start(|config| config.security.ca_file = Some(ca_file)).await;
        let behaviour = Behaviour::new("good").remember(1);
        let good = match wire {
            Wire::Http1 | Wire::Http2 => Simulator::start(behaviour).await.unwrap(),
            Wire::TlsHttp1 => authority.simulator("localhost", &["http/1.1"], behaviour).await,
            Wire::TlsHttp2 => authority.simulator("localhost", &["h2", "http/1.1"], behaviour).await,
        };
        let root = match wire {
            Wire::Http1 | Wire::Http2 => good.url(),
            Wire::TlsHttp1 | Wire::TlsHttp2 => format!("https://localhost:{}", good.address().port()),
        };
        world.add_at("openai", &root, |credential| {
            credential.priority = Some(9);
            if wire == Wire::Http2 {
                credential.options = Some(json!({"http2": true}).as_object().unwrap().clone());
            }
        });
        let mut failing = Vec::new();
        for (name, step) in [("500", Step::status(500)), ("429", Step::status(429)), ("reset", Step::Reset)] {
            let simulator = Simulator::start(Behaviour::new(name).always(step).remember(1)).await.unwrap();
            failing.push((name, simulator));
        }
        Self { world, good, failing, sent: 0 }
    }

    /// Sends a body of this size, which a failing provider may get first, and checks what arrived.
    async fn send(&mut self, size: usize, down: Down, failure: Option<usize>) {
        self.sent += 1;
        let failing = failure.map(|place| &self.failing[place]);
        let story =
            format!("request {}, {size} bytes from {down:?}, first to {:?}", self.sent, failing.map(|(name, _)| name));
        let detour =
            failing.map(|(_, simulator)| self.world.add("openai", simulator, |detour| detour.priority = Some(1)));
        // A model of its own for each request keeps breakers out of the story.
        let model = format!("gpt-body-{}", self.sent);
        let right = body(&model, size);
        // Every third one names its provider, which a provider does not get to see.
        let prefix = if self.sent.is_multiple_of(3) { "openai/" } else { "" };
        let body = body(&format!("{prefix}{model}"), size + prefix.len());
        let client = if down.http2 { self.world.client_h2() } else { self.world.client() };
        let answer = Answer::of(self.world.chat_request(client).body(down.pack(&body))).await;
        assert_eq!(answer.status, 200, "{story}: {}", answer.text());
        assert_eq!(answer.attempts(), if failure.is_some() { 2 } else { 1 }, "{story}");
        let expected = sha256(&right);
        let seen = self.good.seen().pop().unwrap();
        assert_eq!((seen.body_len(), seen.body_sha256()), (size, expected.clone()), "{story}");
        if let Some((_, simulator)) = failing {
            assert_eq!(simulator.seen().pop().unwrap().body_sha256(), expected, "{story}: at the failing one");
        }
        if let Some(detour) = detour {
            self.world.gateway.directory().delete_credential(&self.world.workspace, &detour).unwrap();
        }
    }
}

impl Down {
    fn pack(self, body: &Bytes) -> Body {
        if !self.chunked {
            return Body::from(body.clone());
        }
        // Pieces that fit no buffer size.
        let pieces: Vec<_> = (0..body.len())
            .step_by(7919)
            .map(|from| Ok::<_, std::io::Error>(body.slice(from..body.len().min(from + 7919))))
            .collect();
        Body::wrap_stream(tokio_stream::iter(pieces))
    }
}

/// Letters in which every region is different; made once, because that takes a while.
static LETTERS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state: u64 = 42;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b'a' + u8::try_from((state >> 33) % 26).unwrap()
    };
    (0..20_000_000).map(|_| letter()).collect()
});

/// A chat request of exactly so many bytes.
fn body(model: &str, size: usize) -> Bytes {
    let mut text = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":""#).into_bytes();
    let end = br#""}]}"#;
    text.extend_from_slice(&LETTERS[..size - text.len() - end.len()]);
    text.extend_from_slice(end);
    text.into()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every size up to a megabyte, every way down, every failure on the way.
async fn bodies_arrive_unchanged_over(wire: Wire) {
    let mut stage = Stage::set(wire).await;
    for size in [60_000, 70_000, 1_000_000] {
        for down in DOWNS {
            for failure in [None, Some(0), Some(1), Some(2)] {
                stage.send(size, down, failure).await;
            }
        }
    }
    let seen = stage.good.seen().pop().unwrap();
    let expected =
        if matches!(wire, Wire::Http2 | Wire::TlsHttp2) { http::Version::HTTP_2 } else { http::Version::HTTP_11 };
    assert_eq!(seen.http_version, expected);
}

#[tokio::test]
async fn bodies_arrive_unchanged_over_http1() {
    bodies_arrive_unchanged_over(Wire::Http1).await;
}

#[tokio::test]
async fn bodies_arrive_unchanged_over_http2_without_tls() {
    bodies_arrive_unchanged_over(Wire::Http2).await;
}

#[tokio::test]
async fn bodies_arrive_unchanged_over_tls() {
    bodies_arrive_unchanged_over(Wire::TlsHttp1).await;
}

#[tokio::test]
async fn bodies_arrive_unchanged_over_http2_with_tls() {
    bodies_arrive_unchanged_over(Wire::TlsHttp2).await;
}

/// Twenty megabytes by each wire, each way down once, each failure once.
async fn twenty_megabytes_arrive_over(wire: Wire) {
    let mut stage = Stage::set(wire).await;
    for (down, failure) in DOWNS.into_iter().zip([None, Some(0), Some(1), Some(2)]) {
        stage.send(20_000_000, down, failure).await;
    }
}

#[tokio::test]
async fn twenty_megabytes_arrive_over_http1() {
    twenty_megabytes_arrive_over(Wire::Http1).await;
}

#[tokio::test]
async fn twenty_megabytes_arrive_over_http2_without_tls() {
    twenty_megabytes_arrive_over(Wire::Http2).await;
}

#[tokio::test]
async fn twenty_megabytes_arrive_over_tls() {
    twenty_megabytes_arrive_over(Wire::TlsHttp1).await;
}

#[tokio::test]
async fn twenty_megabytes_arrive_over_http2_with_tls() {
    twenty_megabytes_arrive_over(Wire::TlsHttp2).await;
}

/// A world with a small cap and one healthy provider.
async fn capped() -> (World, Simulator) {
    let simulator = Simulator::start(Behaviour::new("acme")).await.unwrap();
    let world = World::start(|config| {
        config.limits.max_body_bytes = 100_000;
        config.timeouts.body = Duration::from_millis(300);
    })
    .await;
    world.add("openai", &simulator, |_| ());
    (world, simulator)
}

#[tokio::test]
async fn a_body_that_is_declared_too_large_is_refused_before_it_is_sent() {
    let (world, simulator) = capped().await;
    let mut client = RawClient::connect(world.address()).await;
    client.send_chat_head(&world.key, "content-length: 20000000\r\n").await;
    let head = client.head().await;
    assert_eq!((head.status, head.header("connection")), (413, "close"), "{}", head.text);
    assert!(client.body(&head).await.contains("payload_too_large"));
    assert!(client.is_closed().await, "what follows would be taken for a request");
    assert_eq!(simulator.connections(), 0);
    assert_eq!(world.chat(&hello("gpt-4o")).await.status, 200, "a new connection is as good as ever");
}

/// A body of unknown length is refused with 413 as soon as it is too large, and not held.
#[tokio::test]
async fn fault_52_endless_chunked_body() {
    let (world, simulator) = capped().await;
    let mut client = RawClient::connect(world.address()).await;
    client.send_chat_head(&world.key, "transfer-encoding: chunked\r\n").await;
    let chunk = format!("{:x}\r\n{}\r\n", 10_000, "x".repeat(10_000));
    for _ in 0..11 {
        client.send(&chunk).await.unwrap();
    }
    let head = client.head().await;
    assert_eq!((head.status, head.header("connection")), (413, "close"), "{}", head.text);
    assert!(client.body(&head).await.contains("payload_too_large"));
    assert!(client.is_closed().await);
    assert_eq!(simulator.connections(), 0);
    assert_eq!(world.chat(&hello("gpt-4o")).await.status, 200);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_over_http2_as_well() {
    let (world, simulator) = capped().await;
    let body = body("gpt-4o", 1_000_000);
    for chunked in [false, true] {
        let down = Down { http2: true, chunked };
        let answer = Answer::of(world.chat_request(world.client_h2()).body(down.pack(&body))).await;
        assert_eq!((answer.status, answer.code().as_str()), (413, "payload_too_large"), "{down:?}");
        let next = Answer::of(world.chat_request(world.client_h2()).json(&hello("gpt-4o"))).await;
        assert_eq!(next.status, 200, "the next request after {down:?}");
    }
    assert_eq!(simulator.seen().len(), 2);
}

/// `Expect: 100-continue` from a client that may send gets its 100.
#[tokio::test]
async fn fault_49_expect_continue() {
    let (world, simulator) = capped().await;
    let body = hello("gpt-4o").to_string();
    let mut client = RawClient::connect(world.address()).await;
    let lines = format!("content-length: {}\r\nexpect: 100-continue\r\n", body.len());
    client.send_chat_head(&world.key, &lines).await;
    assert_eq!(client.head().await.status, 100);
    client.send(&body).await.unwrap();
    let head = client.head().await;
    assert_eq!(head.status, 200, "{}", head.text);
    assert!(client.body(&head).await.contains("Hello from the simulated acme"));
    assert_eq!(simulator.seen()[0].body, body);
    assert_eq!(simulator.seen()[0].header("expect"), None);
}

/// `Expect: 100-continue` without a valid key, or with too large a body, is refused without a 100.
#[tokio::test]
async fn fault_49_expect_continue_refused() {
    let (world, simulator) = capped().await;
    for (key, length, status) in [("pk_wrong", 100, 401), (world.key.as_str(), 20_000_000, 413)] {
        let mut client = RawClient::connect(world.address()).await;
        let lines = format!("content-length: {length}\r\nexpect: 100-continue\r\n");
        client.send_chat_head(key, &lines).await;
        assert_eq!(client.head().await.status, status, "no 100 before it");
    }
    assert_eq!(simulator.connections(), 0);
}

/// A body that is not in by `timeouts.body` is given up: 408.
#[tokio::test]
async fn fault_48_body_over_its_deadline() {
    let (world, simulator) = capped().await;
    let mut client = RawClient::connect(world.address()).await;
    client.send_chat_head(&world.key, "content-length: 1000\r\n").await;
    client.send("{\"model\":").await.unwrap();
    let before = Instant::now();
    let head = client.head().await;
    assert_eq!(head.status, 408, "{}", head.text);
    assert!(before.elapsed() < Duration::from_secs(5), "the body's timeout is what ends it");
    assert!(client.body(&head).await.contains("request_timeout"));
    assert!(client.is_closed().await);
    assert_eq!(simulator.connections(), 0);
}

#[tokio::test]
async fn what_follows_a_body_at_once_does_no_harm() {
    let (world, simulator) = capped().await;
    let body = hello("gpt-4o").to_string();
    let lines = format!("content-length: {}\r\n", body.len());
    // The line break of an old client, and the next request before the first answer.
    for turn in 0..10 {
        let mut client = RawClient::connect(world.address()).await;
        client.send_chat_head(&world.key, &lines).await;
        client.send(format!("{body}\r\n")).await.unwrap();
        client.send_chat_head(&world.key, &lines).await;
        client.send(&body).await.unwrap();
        for answer in ["first", "second"] {
            let head = client.head().await;
            assert_eq!(head.status, 200, "{answer} answer of turn {turn}: {}", head.text);
            assert!(client.body(&head).await.contains("Hello from the simulated acme"));
        }
    }
    assert!(simulator.seen().iter().all(|seen| seen.body == body));
    assert_eq!(simulator.seen().len(), 20);
}

/// Whatever is spoken on it, a connection that was read to the end of its answer is used again.
#[tokio::test]
async fn a_connection_serves_request_after_request() {
    for wire in [Wire::Http1, Wire::Http2, Wire::TlsHttp1, Wire::TlsHttp2] {
        let mut stage = Stage::set(wire).await;
        for size in [1000, 100_000, 1000] {
            stage.send(size, DOWNS[0], None).await;
        }
        assert_eq!(stage.good.connections(), 1, "{wire:?}");
    }
}
