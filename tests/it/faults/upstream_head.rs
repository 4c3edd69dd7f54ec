//! Faults 25 to 44: the head of a provider's answer, and what a connection to it can do.

use jiff::{SignedDuration, Timestamp};
use perpetuo::simulator::{Behaviour, Simulator};
use perpetuo::usage::Certainty;
use serde_json::json;

use super::{
    ALONE, ANSWER, DONE, SHARED, STREAM_HEAD, Stage, answered, counted, events, role, served_by_the_healthy, stop, text,
};
use crate::process::{Site, hello as ask};
use crate::support::{Authority, World, hello, hello_stream};

/// A whole JSON answer with these header lines, each ended by CRLF.
pub(super) fn json_answer(status: u16, lines: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n{lines}\r\n{body}"
    )
}

fn page(status: u16) -> String {
    let body = "<html><body><h1>Bad gateway, by nginx on host db-7.internal</h1></body></html>";
    let length = body.len();
    format!(
        "HTTP/1.1 {status} X\r\ncontent-type: text/html\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

/// A page of HTML under 502, 503 or 504 becomes an error of the gateway's; nothing of the page is repeated.
#[tokio::test]
async fn fault_26_page_under_an_error_status() {
    for (status, expected) in [(502, 502), (503, 503), (504, 504)] {
        let stage = Stage::set().await;
        stage.falls_over(&format!("{status}"), hello(SHARED), page(status)).await;
        let answer = stage.reply(hello(ALONE), page(status)).await;
        assert_eq!(answer.status, expected, "{}", answer.text());
        assert_eq!(answer.error()["provider"], "openai");
        assert!(!answer.text().contains("nginx") && !answer.text().contains("html"), "{}", answer.text());
    }
}

/// A compressed answer, which was not asked for, counts as a failure; it is never unpacked, so that it can't be a bomb.
#[tokio::test]
async fn fault_27_compressed_answer() {
    for coding in ["gzip", "br", "zstd", "deflate", "x-gzip", "gzip, gzip"] {
        let stage = Stage::set().await;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\nconnection: close\r\n");
        let whole = format!("{head}content-type: application/json\r\n\r\n\u{1f}\u{8b}");
        stage.falls_over(coding, hello(SHARED), whole).await;
        let stream = format!("{head}content-type: text/event-stream\r\n\r\n\u{1f}\u{8b}");
        stage.falls_over(coding, hello_stream(SHARED), stream).await;
    }
    let unsaid =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n\x1f\x8b\x08\x00\x00\x00";
    Stage::set().await.falls_over("gzip that does not say so", hello(SHARED), unsaid).await;
}

/// JSON where a stream was asked for, or a stream where JSON was, counts as a failure.
#[tokio::test]
async fn fault_28_stream_and_json_mixed_up() {
    let stage = Stage::set().await;
    stage.falls_over("JSON for a stream", hello_stream(SHARED), json_answer(200, "", ANSWER)).await;
    let stream = [STREAM_HEAD, &events(&[role(), text("One"), stop()]), DONE].concat();
    stage.falls_over("a stream for JSON", hello(SHARED), stream).await;
}

/// A 429 is told with its wait in whole seconds, in whatever form the provider wrote it, and with one where it named none.
#[tokio::test]
async fn fault_29_forms_of_a_wait() {
    let date = (Timestamp::now() + SignedDuration::from_secs(40)).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let cases = [
        ("retry-after: 7\r\n".to_owned(), 6..=7),
        ("retry-after: 6.4\r\n".to_owned(), 6..=7),
        ("retry-after-ms: 2500\r\n".to_owned(), 2..=3),
        (format!("retry-after: {date}\r\n"), 30..=40),
        ("retry-after: soon\r\n".to_owned(), 1..=60),
        (String::new(), 1..=60),
    ];
    for (lines, expected) in cases {
        let stage = Stage::set().await;
        let refusal = json_answer(429, &lines, r#"{"error":{"message":"Slow down","type":"requests"}}"#);
        let answer = stage.reply(hello(ALONE), refusal).await;
        let wait: u64 = answer.header("retry-after").parse().unwrap();
        assert_eq!(answer.status, 429, "{lines}");
        assert!(expected.contains(&wait), "{lines:?}: {wait}");
    }
}

/// 529 and 503 are failures of the moment: the next provider is asked.
#[tokio::test]
async fn fault_30_overloaded() {
    for status in [529, 503] {
        let stage = Stage::set().await;
        let overloaded = json_answer(status, "", r#"{"error":{"message":"Overloaded","type":"overloaded_error"}}"#);
        stage.falls_over(&format!("{status}"), hello(SHARED), &overloaded).await;
        stage.falls_over(&format!("{status}, streaming"), hello_stream(SHARED), &overloaded).await;
    }
}

/// A 500 that names a usage is tried elsewhere; what it names is on the bill of its own attempt, and counted as waste.
#[tokio::test]
async fn fault_31_error_with_usage() {
    let stage = Stage::set().await;
    let usage = r#""usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}"#;
    let beside = format!(r#"{{"error":{{"message":"Internal"}},{usage}}}"#);
    let inside = format!(r#"{{"error":{{"message":"Internal",{usage}}}}}"#);
    for (turn, body) in [beside, inside].iter().enumerate() {
        stage.falls_over("500", hello(SHARED), json_answer(500, "", body)).await;
        let booked = stage.world.booked(turn + 1).await.pop().unwrap();
        let [failed, served] = &booked.attempts[..] else { panic!("{booked:?}") };
        assert_eq!((failed.status, failed.error.as_deref()), (500, Some("provider_error")));
        assert_eq!((failed.usage.input, failed.usage.output, failed.certainty), (9, 1, Certainty::Exact));
        assert!(failed.cost.dollars() > 0.0 && served.error.is_none() && served.usage.total_tokens() > 0);
    }
    let without = json_answer(500, "", r#"{"error":{"message":"Internal"},"usage":{"prompt_tokens":-9}}"#);
    stage.falls_over("500", hello(SHARED), without).await;
    assert_eq!(stage.world.booked(3).await[2].attempts[0].usage.total_tokens(), 0, "what can't be is not billed");
    counted(&stage.world, "perpetuo_wasted_tokens_total", &[("why", "retry")], 20.0).await;
}

/// Informational heads without end are a failure, too.
#[tokio::test]
async fn fault_35_flood_of_informational_heads() {
    let stage = Stage::set().await;
    let flood = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n".repeat(1000) + &json_answer(200, "", ANSWER);
    stage.falls_over("1,000 times 103", hello(SHARED), flood).await;
}

/// A reset before the head, after it, or in the body is hidden while the client has seen nothing.
#[tokio::test]
async fn fault_36_resets() {
    let whole = json_answer(200, "", ANSWER);
    let head = whole.find("\r\n\r\n").unwrap() + 4;
    let stream = [STREAM_HEAD, &events(&[role()])].concat();
    let cases = [
        ("before the head", hello(SHARED), String::new()),
        ("in the head", hello(SHARED), whole[..head / 2].to_owned()),
        ("after the head", hello(SHARED), whole[..head].to_owned()),
        ("in the body", hello(SHARED), whole[..head + 100].to_owned()),
        ("in the head of a stream", hello_stream(SHARED), STREAM_HEAD[..30].to_owned()),
        ("before the first content", hello_stream(SHARED), stream),
    ];
    for (name, body, bytes) in cases {
        let stage = Stage::set().await;
        let asked = stage.ask(body);
        let mut call = stage.hand.request().await;
        call.send(bytes).await;
        call.reset();
        served_by_the_healthy(&answered(asked).await, name);
    }
}

/// A certificate that has expired, or holds not yet, is none.
#[tokio::test]
async fn fault_39_tls_certificate_out_of_its_time() {
    let authority = Authority::new();
    let world = World::start(|config| config.security.ca_file = Some(authority.file())).await;
    let years = [("expired", 2000, 2001), ("not yet valid", 2100, 2101)];
    for (name, from, until) in years {
        let simulator = authority.simulator_valid("localhost", (from, until), Behaviour::new(name)).await;
        let root = format!("https://localhost:{}", simulator.address().port());
        let id = world.add_at("openai", &root, |_| ());
        let answer = world.chat(&hello(ALONE)).await;
        assert_eq!((answer.status, answer.code().as_str()), (502, "provider_unreachable"), "{name}");
        assert!(simulator.seen().is_empty(), "{name}");
        world.gateway.directory().delete_credential(&world.workspace, &id).unwrap();
    }
}

/// A head that never comes is waited for until `timeouts.first_token`; the next provider is asked.
#[tokio::test]
async fn fault_41_head_that_never_comes() {
    let stage = Stage::set().await;
    for (body, some) in [(hello(SHARED), ""), (hello_stream(SHARED), "HTTP/1.1 200 OK\r\ncontent-type: text/")] {
        let asked = stage.ask(body);
        let mut call = stage.hand.request().await;
        call.send(some).await;
        served_by_the_healthy(&answered(asked).await, some);
        call.closed().await;
    }
}

/// A head that can be read in two ways, or has no end, is a failure, and its connection is not used again.
#[tokio::test]
async fn fault_42_malformed_head() {
    let length = ANSWER.len();
    let head = |lines: &str| format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{lines}\r\n{ANSWER}");
    let many: String = (0..300).map(|number| format!("x-{number}: y\r\n")).collect();
    let refused = [
        ("lengths that differ", head(&format!("content-length: {length}\r\ncontent-length: {}\r\n", length + 1))),
        ("no length", head("content-length: banana\r\n")),
        ("a negative length", head("content-length: -1\r\n")),
        ("300 headers", head(&format!("content-length: {length}\r\n{many}"))),
        ("a header of 2 MB", head(&format!("content-length: {length}\r\nx: {}\r\n", "y".repeat(2_000_000)))),
        ("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned()),
        ("no status", "HTTP/1.1 OK\r\n\r\n".to_owned()),
        ("a header without a colon", head(&format!("content-length: {length}\r\nnonsense\r\n"))),
        ("a chunk that is none", head("transfer-encoding: chunked\r\n")),
    ];
    for (name, bytes) in refused {
        let stage = Stage::set().await;
        let asked = stage.ask(hello(SHARED));
        let mut call = stage.hand.request().await;
        call.try_send(bytes).await;
        served_by_the_healthy(&answered(asked).await, name);
        call.closed().await;
    }
}

/// A length beside chunks, or a folded line, is refused or read as RFC 9112 says; never is what follows taken for another answer.
#[tokio::test]
async fn fault_42_ambiguous_head() {
    let chunked = format!("{:x}\r\n{ANSWER}\r\n0\r\n\r\n", ANSWER.len());
    let cases = [
        ("a length beside chunks", format!("content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n{chunked}")),
        ("a folded line", format!("x-folded: a\r\n b\r\ncontent-length: {}\r\n\r\n{ANSWER}", ANSWER.len())),
        ("equal lengths", format!("content-length: {0}\r\ncontent-length: {0}\r\n\r\n{ANSWER}", ANSWER.len())),
    ];
    for (name, rest) in cases {
        let stage = Stage::set().await;
        let asked = stage.ask(hello(SHARED));
        let mut call = stage.hand.request().await;
        call.try_send(format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{rest}")).await;
        let answer = answered(asked).await;
        let as_sent = answer.text() == ANSWER && answer.attempts() == 1;
        if !as_sent {
            served_by_the_healthy(&answer, name);
        }
    }
}

/// A head without end is given up before it fills the memory.
#[tokio::test(flavor = "multi_thread")]
async fn fault_42_endless_head() {
    let stage = Stage::set().await;
    let asked = stage.ask(hello(SHARED));
    let mut call = stage.hand.request().await;
    call.send("HTTP/1.1 200 OK\r\n").await;
    let line = format!("x-more: {}\r\n", "y".repeat(8000));
    let mut lines = 0;
    while call.try_send(&line).await && lines < 10_000 {
        lines += 1;
    }
    assert!(lines < 10_000, "80 MB of head were taken");
    served_by_the_healthy(&answered(asked).await, "an endless head");
}

/// A body shorter than its length is a failure.
#[tokio::test]
async fn fault_43_body_shorter_than_its_length() {
    let stage = Stage::set().await;
    let length = ANSWER.len() + 10;
    let short =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{ANSWER}");
    stage.falls_over("ten bytes are missing", hello(SHARED), short).await;
}

/// Bytes after the end of a body are no part of it, nor of the next answer: their connection is not used again.
#[tokio::test]
async fn fault_43_body_longer_than_its_length() {
    let stage = Stage::set().await;
    let other = ANSWER.replace("Hi", "Stolen");
    for _ in 0..2 {
        let asked = stage.ask(hello(ALONE));
        let mut call = stage.hand.request().await;
        let length = ANSWER.len();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
        call.send(format!("{head}{ANSWER}{head}{other}")).await;
        let answer = answered(asked).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, ANSWER));
        // The next request comes by another connection, which `request` above accepts.
        call.closed().await;
    }
}

/// A stream that is reset after its first content is told as broken.
#[tokio::test]
async fn fault_36_reset_after_content() {
    let stage = Stage::set().await;
    let (mut stream, call) = stage.begun(&[role(), text("One")]).await;
    call.reset();
    let rest = stream.rest().await;
    assert!(rest.len() == 1 && rest[0].contains("stream_truncated"), "{rest:?}");
    assert_eq!(stream.whole, Some(true), "HTTP itself ends as it should");
    let attempt = &stage.world.booking().await.attempts[0];
    assert_eq!((attempt.error.as_deref(), attempt.certainty), (Some("stream_truncated"), Certainty::Estimated));
    assert!(attempt.usage.output > 0, "what passed is booked");
}

/// Why there is no connection stands in the log: what is wrong with a certificate, who was to be reached.
#[tokio::test(flavor = "multi_thread")]
async fn fault_39_said_in_the_log() {
    let plain = Simulator::start(Behaviour::new("plain")).await.unwrap();
    let site = Site::new();
    let mut process = site.serve().await;
    let [workspace, key, token] = ["workspace", "virtual key", "admin token"].map(|label| process.printed(label));
    let base_url = format!("https://{}/v1", plain.address());
    let body = json!({"provider": "openai", "api_key": "sk-of-the-log", "base_url": base_url});
    site.post(&token, &format!("/workspaces/{workspace}/providers"), body).await;
    assert_eq!(site.chat(&key, ask("openai/gpt-4o")).await.unwrap().status(), 502);
    let line = process.logged("no connection to a provider");
    assert!(line.contains("openai") && line.contains("127.0.0.1") && line.contains("TLS"), "{line}");
    assert!(!line.contains("sk-of-the-log"));
    process.kill_9();
}
