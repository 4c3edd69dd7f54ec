//! The side of the providers: connections, what they answer besides answers, and what they get to see.

use std::time::{Duration, Instant};

use bytes::Bytes;
use perpetuo::simulator::{Behaviour, Simulator, Step};
use reqwest::Version;
use serde_json::json;

use crate::support::{
    Answer, Authority, Hand, RawClient, World, free_address, hello, hello_stream, provider_key, within,
};

/// A whole answer of OpenAI's.
const ANSWER: &str = r#"{"id":"1","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hi","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}}}"#;

async fn simulator(name: &str) -> Simulator {
    Simulator::start(Behaviour::new(name)).await.unwrap()
}

/// A request that runs beside the test.
fn ask(world: &World) -> tokio::task::JoinHandle<Answer> {
    tokio::spawn(Answer::of(world.chat_request(world.client()).json(&hello("gpt-4o"))))
}

async fn answered(asked: tokio::task::JoinHandle<Answer>) -> Answer {
    within("the answer", asked).await.unwrap()
}

/// A kept connection that the provider has closed is replaced by a new one; that costs no attempt.
#[tokio::test]
async fn fault_37_kept_connection_closed_by_the_provider() {
    let (hand, world) = (Hand::start().await, World::plain().await);
    world.add_at("openai", &hand.url(), |_| ());
    let first = ask(&world);
    let mut call = hand.request().await;
    call.send_json(200, ANSWER).await;
    assert_eq!(answered(first).await.status, 200);

    // It takes the next request by the kept connection, and closes it without a word: it was about to be closed anyway.
    let second = ask(&world);
    assert!(call.next_request().await, "the connection was kept");
    drop(call);
    let mut call = hand.request().await;
    call.send_json(200, ANSWER).await;
    let answer = answered(second).await;
    assert_eq!((answer.status, answer.attempts()), (200, 1), "{}", answer.text());

    // It closes while nobody uses the connection.
    drop(call);
    let third = ask(&world);
    hand.request().await.send_json(200, ANSWER).await;
    let answer = answered(third).await;
    assert_eq!((answer.status, answer.attempts()), (200, 1), "{}", answer.text());
    assert_eq!(world.booked(3).await.iter().map(|booked| booked.attempts.len()).max(), Some(1));
}

#[tokio::test]
async fn a_fresh_connection_that_closes_is_a_failed_attempt() {
    let (hand, world) = (Hand::start().await, World::plain().await);
    world.add_at("openai", &hand.url(), |_| ());
    let asked = ask(&world);
    drop(hand.request().await);
    let answer = answered(asked).await;
    assert_eq!((answer.status, answer.code().as_str(), answer.attempts()), (502, "provider_unreachable", 1));
}

#[tokio::test]
async fn twenty_requests_share_one_connection() {
    let (simulator, world) = (simulator("acme").await, World::plain().await);
    world.add("openai", &simulator, |_| ());
    for _ in 0..10 {
        assert_eq!(world.chat(&hello("gpt-4o")).await.status, 200);
        let mut stream = world.stream(&hello_stream("gpt-4o")).await;
        assert_eq!(stream.rest().await.last().unwrap(), "[DONE]");
    }
    assert_eq!((simulator.seen().len(), simulator.connections()), (20, 1));
}

#[tokio::test]
async fn twenty_requests_share_one_connection_over_http2() {
    let (simulator, world) = (simulator("acme").await, World::plain().await);
    world.add("openai", &simulator, |credential| {
        credential.options = Some(json!({"http2": true}).as_object().unwrap().clone());
    });
    for _ in 0..10 {
        assert_eq!(world.chat(&hello("gpt-4o")).await.status, 200);
        let mut stream = world.stream(&hello_stream("gpt-4o")).await;
        assert_eq!(stream.rest().await.last().unwrap(), "[DONE]");
    }
    assert_eq!((simulator.seen().len(), simulator.connections()), (20, 1));
    assert_eq!(simulator.seen()[0].http_version, Version::HTTP_2);
}

#[tokio::test]
async fn a_connection_survives_refusals_and_errors() {
    let (simulator, world) = (simulator("acme").await, World::plain().await);
    world.add("openai", &simulator, |_| ());
    // The refused key comes last: nobody is asked after it.
    for status in [429, 500, 400, 503, 404, 502, 401] {
        simulator.then([Step::retry_after(status, 0)]);
        let answer = world.chat(&hello("gpt-4o")).await;
        assert_ne!(answer.status, 200, "{status}");
        if status != 401 {
            assert_eq!(world.chat(&hello("gpt-4o")).await.status, 200, "after {status}");
        }
    }
    assert_eq!((simulator.seen().len(), simulator.connections()), (13, 1));
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_was_taken_is_heard() {
    let talk = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "x".repeat(20_000_000)}]});
    let talk = Bytes::from(talk.to_string());
    for (http2, status) in [(false, 413), (false, 429), (true, 413), (true, 429)] {
        let (simulator, world) = (simulator("acme").await, World::plain().await);
        world.add("openai", &simulator, |credential| {
            credential.options = Some(json!({"http2": http2}).as_object().unwrap().clone());
        });
        simulator.then([Step::EarlyStatus { status }]);
        let answer = Answer::of(world.chat_request(world.client()).body(talk.clone())).await;
        assert_eq!(answer.status, status, "HTTP/2: {http2}: {}", answer.text());
        assert!(!simulator.seen()[0].body_complete);
        assert_eq!(simulator.seen().len(), 1, "the body was sent once");
    }
}

/// Informational heads before the answer are passed over and not handed on.
#[tokio::test]
async fn fault_35_informational_heads() {
    let (hand, world) = (Hand::start().await, World::plain().await);
    world.add_at("openai", &hand.url(), |_| ());
    let asked = ask(&world);
    let mut call = hand.request().await;
    call.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n").await;
    call.send("HTTP/1.1 103 Early Hints\r\nlink: </b.css>\r\n\r\n").await;
    call.send_json(200, ANSWER).await;
    let answer = answered(asked).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, ANSWER));
    assert_eq!(answer.header("link"), "");
}

/// A page, broken JSON, an unknown shape or an error under status 200 counts as a failure: the next provider is asked.
#[tokio::test]
async fn fault_25_no_answer_under_200() {
    let zipped = Step::Status {
        status: 200,
        headers: vec![("content-encoding".to_owned(), "gzip".to_owned())],
        body: Some(Bytes::from_static(b"\x1f\x8b\x08\x00")),
    };
    let wrong = [
        ("a page", Step::HtmlOk),
        ("broken JSON", Step::BadJson),
        ("gzip", zipped),
        ("no choices", Step::Status { status: 200, headers: vec![], body: Some("{}".into()) }),
        (
            "an error under 200",
            Step::Status { status: 200, headers: vec![], body: Some(r#"{"error":{"message":"no"}}"#.into()) },
        ),
        ("204", Step::Status { status: 204, headers: vec![], body: Some("".into()) }),
    ];
    for (name, step) in wrong {
        let (first, second) = (simulator("first").await, simulator("second").await);
        let world = World::plain().await;
        world.add("openai", &first, |_| ());
        world.add("groq", &second, |_| ());
        first.then([step.clone(), step.clone(), step]);
        for body in [hello("gpt-4"), hello_stream("gpt-4")] {
            let answer = world.chat(&body).await;
            assert_eq!((answer.status, answer.provider(), answer.attempts()), (200, "groq", 2), "{name}: {body}");
            assert!(answer.text().contains("simulated"), "{name}: {}", answer.text());
        }
        assert_eq!(first.seen().len(), 2, "{name}");
        // Nobody else serves this one.
        let alone = world.chat(&hello("gpt-4o")).await;
        assert_eq!((alone.status, alone.provider()), (502, "openai"), "{name}: {}", alone.text());
        assert!(alone.error()["type"].is_string() && !alone.header("x-request-id").is_empty(), "{name}");
    }
}

/// A redirect is not followed: 502.
#[tokio::test]
async fn fault_34_redirect() {
    let (first, elsewhere) = (simulator("first").await, simulator("elsewhere").await);
    let world = World::plain().await;
    world.add("openai", &first, |_| ());
    for status in [301, 302, 303, 307, 308] {
        let location = format!("{}/v1/chat/completions", elsewhere.url());
        first.then([Step::Status { status, headers: vec![("location".to_owned(), location)], body: Some("".into()) }]);
        let answer = world.chat(&hello("gpt-4o")).await;
        assert_eq!((answer.status, answer.code().as_str()), (502, "provider_protocol_error"), "{status}");
        assert_eq!(answer.header("location"), "");
    }
    assert_eq!(elsewhere.connections(), 0);
}

/// A certificate of an unknown authority or for another name, or no TLS at all: nothing is sent, least of all in clear.
#[tokio::test]
async fn fault_39_tls_without_proof() {
    let (known, unknown) = (Authority::new(), Authority::new());
    let plain = simulator("plain").await;
    let stranger = unknown.simulator("localhost", &["h2", "http/1.1"], Behaviour::new("stranger")).await;
    let other = known.simulator("other.test", &["h2", "http/1.1"], Behaviour::new("other")).await;
    for (name, simulator) in [("without TLS", plain), ("unknown authority", stranger), ("another name", other)] {
        let world = World::start(|config| config.security.ca_file = Some(known.file())).await;
        let root = format!("https://localhost:{}", simulator.address().port());
        world.add_at("openai", &root, |_| ());
        let answer = world.chat(&hello("gpt-4o")).await;
        assert_eq!((answer.status, answer.code().as_str()), (502, "provider_unreachable"), "{name}");
        assert_eq!(answer.provider(), "openai", "{name}");
        assert!(simulator.seen().is_empty(), "{name}: nothing was sent, least of all in clear");
    }
}

/// A refused connection is a failed attempt: the next provider is asked, and nothing is billed.
#[tokio::test]
async fn fault_38_connection_refused() {
    let (second, world) = (simulator("second").await, World::plain().await);
    let id = world.add_at("openai", &format!("http://{}", free_address()), |_| ());
    let alone = world.chat(&hello("gpt-4o")).await;
    assert_eq!((alone.status, alone.code().as_str()), (502, "provider_unreachable"));
    world.add("groq", &second, |_| ());
    let answer = world.chat(&hello("gpt-4")).await;
    assert_eq!((answer.status, answer.provider(), answer.attempts()), (200, "groq", 2));
    let booked = world.booked(2).await;
    let failed = &booked[1].attempts[0];
    assert_eq!(
        (failed.credential.as_str(), failed.status, failed.error.as_deref()),
        (id.as_str(), 0, Some("provider_unreachable"))
    );
    assert_eq!(failed.usage.total_tokens(), 0, "nothing was sent");
}

/// A TLS handshake that stalls ends at `timeouts.tls`; the next provider is asked.
#[tokio::test]
async fn fault_39_tls_handshake_that_stalls() {
    let (second, world) = (
        simulator("second").await,
        World::start(|config| {
            config.timeouts.connect = Duration::from_millis(200);
            config.timeouts.tls = Duration::from_millis(200);
        })
        .await,
    );
    // A listener that never speaks: TCP stands, TLS does not.
    let mute = Hand::start().await;
    world.add_at("openai", &mute.url().replace("http://127.0.0.1", "https://localhost"), |_| ());
    world.add("groq", &second, |_| ());
    let before = Instant::now();
    let answer = world.chat(&hello("gpt-4")).await;
    assert_eq!((answer.status, answer.provider(), answer.attempts()), (200, "groq", 2), "{}", answer.text());
    assert!(before.elapsed() < Duration::from_secs(5));
}

/// What a provider sees of a request: these headers and no others.
const OPENAI_HEADERS: [&str; 7] =
    ["accept", "accept-encoding", "authorization", "content-length", "content-type", "host", "user-agent"];
const ANTHROPIC_HEADERS: [&str; 8] = [
    "accept",
    "accept-encoding",
    "anthropic-version",
    "content-length",
    "content-type",
    "host",
    "user-agent",
    "x-api-key",
];

#[tokio::test]
async fn nothing_of_a_clients_head_reaches_a_provider() {
    let world = World::plain().await;
    let (openai, anthropic) = (simulator("openai").await, simulator("anthropic").await);
    world.add("openai", &openai, |_| ());
    world.add("anthropic", &anthropic, |_| ());
    for (provider, model, simulator) in [("openai", "gpt-4o", &openai), ("anthropic", "claude-haiku-4-5", &anthropic)] {
        let body = hello(model).to_string();
        let mut client = RawClient::connect(world.address()).await;
        let lines = format!(
            "content-length: {}\r\ncookie: session=secret\r\nx-forwarded-for: 10.1.2.3\r\nforwarded: for=10.1.2.3\r\n\
             user-agent: curl/1\r\naccept-encoding: gzip, br\r\naccept: text/plain\r\nopenai-organization: org-mine\r\n\
             anthropic-beta: everything\r\nx-request-id: mine-1\r\nte: trailers\r\nconnection: keep-alive, x-weird\r\n\
             x-weird: 1\r\nreferer: http://intern/\r\n",
            body.len()
        );
        client.send_chat_head(&world.key, &lines).await;
        client.send(&body).await.unwrap();
        let head = client.head().await;
        assert_eq!((head.status, head.header("x-request-id")), (200, "mine-1"), "{}", head.text);
        let seen = simulator.seen().pop().unwrap();
        let mut names: Vec<_> = seen.headers.keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        let expected: &[&str] = if provider == "openai" { &OPENAI_HEADERS } else { &ANTHROPIC_HEADERS };
        assert_eq!(names, expected, "{provider}");
        assert!(seen.header("user-agent").unwrap().starts_with("perpetuo/"));
        assert_eq!(seen.header("accept-encoding"), Some("identity"));
        assert_eq!(seen.header("host"), Some(simulator.address().to_string().as_str()));
        assert!(seen.authorization_matches(&provider_key(provider)), "{provider}: the provider's own key");
        let all = format!("{seen:?}{}", String::from_utf8_lossy(&seen.body));
        assert!(!all.contains(&world.key) && !all.contains("10.1.2.3") && !all.contains("secret"), "{provider}");
    }
}

#[tokio::test]
async fn a_provider_that_restarts_costs_no_attempt() {
    for http2 in [false, true] {
        let (first, world) = (simulator("acme").await, World::plain().await);
        world.add("openai", &first, |credential| {
            credential.options = Some(json!({"http2": http2}).as_object().unwrap().clone());
        });
        assert_eq!(world.chat(&hello("gpt-4o")).await.status, 200);
        let address = first.address();
        first.shutdown().await;
        let _second = Simulator::start_at(address, Behaviour::new("acme")).await.unwrap();
        for body in [hello("gpt-4o"), hello_stream("gpt-4o")] {
            let answer = world.chat(&body).await;
            assert_eq!((answer.status, answer.attempts()), (200, 1), "HTTP/2: {http2}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn many_requests_at_once_share_few_connections_over_http2() {
    let simulator = Simulator::start(Behaviour::new("acme").latency(Duration::from_millis(20))).await.unwrap();
    let world = World::plain().await;
    world.add("openai", &simulator, |credential| {
        credential.options = Some(json!({"http2": true}).as_object().unwrap().clone());
    });
    assert_eq!(world.chat(&hello("gpt-4o")).await.status, 200);
    let asked: Vec<_> = (0..50).map(|_| ask(&world)).collect();
    for asked in asked {
        assert_eq!(answered(asked).await.status, 200);
    }
    // Requests that come in the same moment may each find the connection taken for an instant.
    assert!(simulator.connections() < 20, "{} connections", simulator.connections());
}
