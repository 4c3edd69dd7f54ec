//! Faults 45 to 70: what a client can send, how slowly, and how often.

use std::time::{Duration, Instant};

use perpetuo::admin::auth::Role;
use perpetuo::config::Config;
use perpetuo::simulator::{Behaviour, Simulator};
use reqwest::Method;
use tokio::task::JoinSet;

use super::{ALONE, ANSWER, Stage, counted, measure};
use crate::support::{Answer, RawClient, World, free_address, hello, within};

const CHAT: &str = "/v1/chat/completions";

/// A world with one healthy provider.
async fn open(change: impl FnOnce(&mut Config)) -> (World, Simulator) {
    let world = World::start(change).await;
    let openai = Simulator::start(Behaviour::new("openai")).await.unwrap();
    world.add("openai", &openai, |_| ());
    (world, openai)
}

async fn plain() -> (World, Simulator) {
    open(|_| ()).await
}

/// One that waits for nothing.
async fn hasty() -> (World, Simulator) {
    open(|config| {
        config.timeouts.head = Duration::from_secs(1);
        config.server.max_keepalive = Duration::from_secs(1);
    })
    .await
}

/// Sends this body as it is.
async fn send(world: &World, body: impl Into<reqwest::Body>) -> Answer {
    Answer::of(world.chat_request(world.client()).body(body)).await
}

/// What a connection gets for these bytes, up to its end.
async fn raw(world: &World, bytes: impl AsRef<[u8]>) -> String {
    let mut client = RawClient::connect(world.address()).await;
    // The gateway may hang up before it has read everything.
    let _ = client.send(bytes).await;
    client.rest().await
}

/// The head of a chat request without its last line end.
fn head(world: &World, lines: &str) -> String {
    format!("POST {CHAT} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {}\r\n{lines}", world.key)
}

/// One refusal, and nothing after it.
fn refused_and_closed(answer: &str, status: u16, name: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: {answer}");
}

/// A head that comes byte by byte has until `timeouts.head`, however it is spread; so has one on a connection that was kept. It is
/// counted.
#[tokio::test(flavor = "multi_thread")]
async fn fault_48_slow_head() {
    let (world, openai) = open(|config| {
        measure(config);
        config.timeouts.head = Duration::from_millis(300);
        config.server.max_keepalive = Duration::from_secs(1);
    })
    .await;
    let whole = "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nx-slow: ";
    for at in [0, 13, whole.len() - 8] {
        let mut client = RawClient::connect(world.address()).await;
        let (start, rest) = whole.split_at(at);
        client.send(start).await.unwrap();
        let dripped = drip(&mut client, rest).await;
        assert!(dripped < 3000, "{start:?} was suffered for ever");
    }
    let mut silent = RawClient::connect(world.address()).await;
    assert!(silent.is_closed().await);
    counted(&world, "perpetuo_slow_heads_total", &[], 4.0).await;

    let mut kept = RawClient::connect(world.address()).await;
    kept.send(format!("GET /v1/models HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {}\r\n\r\n", world.key))
        .await
        .unwrap();
    let first = kept.head().await;
    assert_eq!(first.status, 200);
    kept.body(&first).await;
    assert!(drip(&mut kept, "GET /health").await < 3000, "a kept connection is no different");
    assert!(openai.seen().is_empty());
    assert_eq!(world.chat(&hello(ALONE)).await.status, 200, "others are served meanwhile");
}

/// Sends byte after byte until the peer hangs up; how many it took.
async fn drip(client: &mut RawClient, text: &str) -> usize {
    for (turn, byte) in text.bytes().chain(std::iter::repeat(b'x')).take(3000).enumerate() {
        if client.send([byte]).await.is_err() {
            return turn;
        }
        // The pace is what is tested.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    3000
}

/// A body slower than `limits.min_body_rate` is given up long before `timeouts.body`: 408.
#[tokio::test(flavor = "multi_thread")]
async fn fault_48_slow_body() {
    let (world, openai) = open(|config| {
        config.timeouts.head = Duration::from_millis(300);
        config.timeouts.body = Duration::from_secs(600);
        config.limits.min_body_rate = 10_000;
    })
    .await;
    for framing in ["content-length: 100000\r\n\r\n", "transfer-encoding: chunked\r\n\r\n186a0\r\n"] {
        let mut client = RawClient::connect(world.address()).await;
        client.send(head(&world, framing)).await.unwrap();
        drip(&mut client, "{").await;
        let answer = client.rest().await;
        assert!(answer.is_empty() || answer.contains("request_timeout"), "{answer}");
    }
    // One that keeps its pace may take longer than the head may.
    let body = hello(ALONE).to_string();
    let mut client = RawClient::connect(world.address()).await;
    let padded = format!("{}{body}", " ".repeat(20_000));
    client.send(head(&world, &format!("content-length: {}\r\n\r\n", padded.len()))).await.unwrap();
    for piece in padded.as_bytes().chunks(5_000) {
        client.send(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(120)).await;
    }
    assert_eq!(client.head().await.status, 200);
    assert_eq!(openai.seen().len(), 1);
}

/// A head that two servers could read in two ways is refused, its connection closed, and nothing behind it is a request.
#[tokio::test(flavor = "multi_thread")]
async fn fault_50_smuggling() {
    let (world, openai) = hasty().await;
    let body = hello(ALONE).to_string();
    let length = body.len();
    let smuggled = format!("GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", world.key);
    let chunked = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    let cases = [
        (
            "CL and TE",
            head(&world, &format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n{chunked}")),
        ),
        ("TE and CL", head(&world, &format!("transfer-encoding: chunked\r\nContent-Length: 4\r\n\r\n{chunked}"))),
        ("equal lengths", head(&world, &format!("content-length: {length}\r\ncontent-length: {length}\r\n\r\n{body}"))),
        ("lengths in a list", head(&world, &format!("content-length: {length}, {length}\r\n\r\n{body}"))),
        ("lengths that differ", head(&world, &format!("content-length: {length}\r\ncontent-length: 0\r\n\r\n{body}"))),
        ("a sign", head(&world, &format!("content-length: +{length}\r\n\r\n{body}"))),
        (
            "chunked twice",
            head(&world, &format!("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n{chunked}")),
        ),
        ("chunked, chunked", head(&world, &format!("transfer-encoding: chunked, chunked\r\n\r\n{chunked}"))),
        ("gzip, chunked", head(&world, &format!("transfer-encoding: gzip, chunked\r\n\r\n{chunked}"))),
        ("identity", head(&world, &format!("transfer-encoding: identity\r\n\r\n{body}"))),
        ("xchunked", head(&world, &format!("transfer-encoding: xchunked\r\n\r\n{chunked}"))),
        ("a space before the colon", head(&world, &format!("content-length : {length}\r\n\r\n{body}"))),
        ("a folded line", head(&world, &format!("x-a: b\r\n c: d\r\ncontent-length: {length}\r\n\r\n{body}"))),
        ("bare LF", head(&world, &format!("content-length: {length}\r\n\r\n{body}")).replace("\r\n", "\n")),
        ("one bare LF", head(&world, &format!("x-a: b\ncontent-length: {length}\r\n\r\n{body}"))),
        ("bare CR", head(&world, &format!("x-a: b\rc: d\r\ncontent-length: {length}\r\n\r\n{body}"))),
        ("NUL", head(&world, &format!("x-a: b\0c\r\ncontent-length: {length}\r\n\r\n{body}"))),
        ("no Host", head(&world, &format!("content-length: {length}\r\n\r\n{body}")).replace("host: gateway\r\n", "")),
        ("two Hosts", head(&world, &format!("host: other\r\ncontent-length: {length}\r\n\r\n{body}"))),
        (
            "HTTP/1.0 with TE",
            head(&world, &format!("transfer-encoding: chunked\r\n\r\n{chunked}")).replace("HTTP/1.1", "HTTP/1.0"),
        ),
    ];
    for (name, bytes) in cases {
        let answer = raw(&world, bytes + &smuggled).await;
        refused_and_closed(&answer, 400, name);
    }
    assert!(openai.seen().is_empty(), "nothing doubtful reached a provider");
    assert_eq!(world.chat(&hello(ALONE)).await.status, 200);
}

/// Chunks that are none are refused; extensions and trailers of chunks are read and dropped, and what follows is its own request.
#[tokio::test(flavor = "multi_thread")]
async fn fault_50_chunks() {
    let (world, openai) = hasty().await;
    let body = hello(ALONE).to_string();
    let length = body.len();
    for bad in ["0x10\r\n", "-1\r\n", "\r\n", "g\r\n", "1 \n", "10000000000000000\r\n"] {
        let request = head(&world, "transfer-encoding: chunked\r\n\r\n") + bad + &body;
        let answer = raw(&world, request).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{bad:?}: {answer}");
    }
    assert!(openai.seen().is_empty());
    let mut client = RawClient::connect(world.address()).await;
    let extended = format!("{length:x};name=\"value\"\r\n{body}\r\n0;last\r\nx-trailer: {}\r\n\r\n", world.key);
    client.send(head(&world, "transfer-encoding: chunked\r\n\r\n") + &extended).await.unwrap();
    let answer = client.head().await;
    if answer.status == 200 {
        client.body(&answer).await;
        assert_eq!(openai.seen()[0].body, body, "neither the extension nor the trailer went on");
        assert!(openai.seen()[0].header("x-trailer").is_none());
    } else {
        assert_eq!(answer.status, 400, "{}", answer.text);
    }
}

/// A request to go on in another protocol is refused and its connection closed, whatever stands behind it. Only the offer of HTTP/2,
/// which clients make that speak HTTP/1.1 just as well, is passed over, as HTTP allows: then no bytes are a tunnel.
#[tokio::test(flavor = "multi_thread")]
async fn fault_51_upgrade() {
    let (world, openai) = hasty().await;
    let body = hello(ALONE).to_string();
    let smuggled = format!("GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", world.key);
    for protocol in ["websocket", "WebSocket", "TLS/1.0", "h2c, websocket", "foo"] {
        let lines = format!("connection: upgrade\r\nupgrade: {protocol}\r\ncontent-length: {}\r\n\r\n", body.len());
        let answer = raw(&world, head(&world, &lines) + &body + &smuggled).await;
        refused_and_closed(&answer, 400, protocol);
        assert!(
            answer.contains("\"type\":\"invalid_request_error\"")
                && answer.to_lowercase().contains("connection: close")
        );
    }
    let plain = "GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n".to_owned();
    refused_and_closed(&raw(&world, plain + &smuggled).await, 400, "before any key");
    assert!(openai.seen().is_empty());

    let lines = format!(
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut client = RawClient::connect(world.address()).await;
    client.send(head(&world, &lines) + &body + "tunnelled bytes that are no request\r\n\r\n").await.unwrap();
    let answer = client.head().await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(client.body(&answer).await.contains("simulated"));
    let rest = client.rest().await;
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 400"), "{rest}");
    assert_eq!((openai.seen().len(), openai.seen()[0].body.as_ref()), (1, body.as_bytes()));
}

/// A compressed request body is refused with 415 before it is read: it can't be a bomb.
#[tokio::test]
async fn fault_53_compressed_request() {
    let (world, openai) = plain().await;
    for coding in ["gzip", "br", "deflate", "zstd", "gzip, identity"] {
        let request = world.chat_request(world.client()).header("content-encoding", coding).json(&hello(ALONE));
        let answer = Answer::of(request).await;
        assert_eq!((answer.status, answer.code().as_str()), (415, "unsupported_media_type"), "{coding}");
    }
    assert!(openai.seen().is_empty());
}

/// JSON that nests a hundred thousand levels deep is refused, not followed.
#[tokio::test]
async fn fault_54_deep_json() {
    let (world, openai) = plain().await;
    let messages = r#""messages":[{"role":"user","content":"hi"}]"#;
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        for (place, rest) in [("x", messages), ("messages", r#""x":1"#)] {
            let inner = if open == "[" { "" } else { "1" };
            let nest = format!("{}{inner}{}", open.repeat(100_000), close.repeat(100_000));
            let answer = send(&world, format!(r#"{{"model":"gpt-4o",{rest},"{place}":{nest}}}"#)).await;
            assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"));
        }
    }
    assert!(openai.seen().is_empty());
}

/// A key that stands twice in the body is refused by name, however it is written: who reads the first and who reads the last would
/// not read the same request.
#[tokio::test]
async fn fault_55_doubled_keys() {
    let (world, openai) = plain().await;
    let messages = r#""messages":[{"role":"user","content":"hi"}]"#;
    for (first, second) in [("model", "model"), ("model", r"mod\u0065l"), ("stream", "stream"), ("x", "x")] {
        let value = if first == "stream" { "true" } else { r#""gpt-4o""# };
        let model = if first == "model" { "" } else { r#""model":"gpt-4o","# };
        let answer = send(&world, format!(r#"{{{model}"{first}":{value},{messages},"{second}":{value}}}"#)).await;
        assert_eq!((answer.status, answer.error()["param"].as_str()), (400, Some(first)), "{}", answer.text());
    }
    assert!(openai.seen().is_empty());
}

/// Names in another case are other names: they choose nothing, and go on untouched.
#[tokio::test]
async fn fault_56_case_of_names() {
    let (world, openai) = plain().await;
    let body =
        r#"{"MODEL":"claude-haiku-4-5","model":"gpt-4o","Stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let answer = send(&world, body).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    assert_eq!(openai.seen()[0].body, body);
    let only = r#"{"Model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#;
    let answer = send(&world, only).await;
    assert_eq!((answer.status, answer.error()["param"].as_str()), (400, Some("model")));
}

/// Text that is no UTF-8, or follows a byte order mark, is refused; lone surrogates and `\u0000` in escapes go on byte by byte.
#[tokio::test]
async fn fault_57_strange_text() {
    let (world, openai) = plain().await;
    let with =
        |text: &[u8]| [br#"{"model":"gpt-4o","messages":[{"role":"user","content":""#, text, br#""}]}"#].concat();
    for bad in [&b"\xff"[..], b"\xc3", b"\xed\xa0\x80", b"a\0b", b"\xf8\x88\x80\x80\x80"] {
        assert_eq!(send(&world, with(bad)).await.status, 400, "{bad:?}");
    }
    assert_eq!(send(&world, [b"\xef\xbb\xbf", &with(b"hi")[..]].concat()).await.status, 400, "a byte order mark");
    assert!(openai.seen().is_empty());
    for strange in [&br"\ud800"[..], br"a\u0000b", br"\ude00\ud83d", "\u{202e}\u{feff}é".as_bytes()] {
        let body = with(strange);
        let answer = send(&world, body.clone()).await;
        match answer.status {
            200 => assert_eq!(openai.seen().last().unwrap().body, body),
            status => assert_eq!(status, 400, "{}", answer.text()),
        }
    }
}

/// Numbers go on as they were written, also those that no 64 bits hold.
#[tokio::test]
async fn fault_58_numbers_as_written() {
    let stage = Stage::set().await;
    let numbers = r#""a":9007199254740993,"b":-0,"c":1.10,"d":1E+2,"e":123456789012345678901234567890,"f":1e999,"seed":18446744073709551616"#;
    let body = format!(r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"hi"}}],{numbers}}}"#);
    let request = stage.world.chat_request(stage.world.client()).body(body.clone());
    let asked = tokio::spawn(Answer::of(request));
    let mut call = stage.hand.request().await;
    call.send_json(200, ANSWER).await;
    assert_eq!(within("the answer", asked).await.unwrap().status, 200);
    assert_eq!(String::from_utf8_lossy(&call.body), body);
}

/// Fields that nobody here knows go on untouched, white space included.
#[tokio::test]
async fn fault_59_unknown_fields() {
    let (world, openai) = plain().await;
    let body = "{ \"model\" : \"gpt-4o\",\n\t\"x_new\": {\"deep\": [1, {\"é\": null}]}, \"messages\": [{\"role\": \"user\", \
                \"content\": \"hi\", \"x_inner\": true}] , \"metadata\": {} }";
    assert_eq!(send(&world, body).await.status, 200);
    assert_eq!(openai.seen()[0].body, body);
}

/// A workspace id that climbs, or is written otherwise, finds nothing.
#[tokio::test(flavor = "multi_thread")]
async fn fault_61_climbing_workspace_id() {
    let (world, _openai) = plain().await;
    let (other, _) = world.tenant();
    let token = world.admin_token(Role::Workspace, std::slice::from_ref(&world.workspace));
    let own = &world.workspace;
    for id in [
        format!("{own}/../{other}"),
        format!("{own}/%2e%2e/{other}"),
        format!("{own}%2f..%2f{other}"),
        format!("..%2f{other}"),
        format!("{other}%00"),
        format!("{own};{other}"),
        other.to_uppercase(),
    ] {
        let mut client = RawClient::connect(world.address()).await;
        let request = format!(
            "GET /workspaces/{id}/usage HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
        );
        client.send(request).await.unwrap();
        let answer = client.head().await;
        assert!(matches!(answer.status, 400 | 404), "{id}: {}", answer.text);
    }
}

/// A head over `limits.max_header_bytes` is a 431, 1,000 headers or a bad name a 400; each closes its connection.
#[tokio::test(flavor = "multi_thread")]
async fn fault_62_headers() {
    let (world, openai) = plain().await;
    let body = hello(ALONE).to_string();
    let end = format!("content-length: {}\r\n\r\n{body}", body.len());
    let many: String = (0..1000).map(|number| format!("x-{number}: y\r\n")).collect();
    for (name, lines, status) in [
        ("a large one", format!("x-large: {}\r\n", "y".repeat(70_000)), 431),
        ("200 that are large together", (0..200).map(|n| format!("x-{n}: {}\r\n", "y".repeat(400))).collect(), 431),
        ("1,000", many, 400),
        ("a bad name", "x(y): z\r\n".to_owned(), 400),
        ("no name", ": z\r\n".to_owned(), 400),
    ] {
        refused_and_closed(&raw(&world, head(&world, &lines) + &end).await, status, name);
    }
    let fine = format!("x-large: {}\r\n", "y".repeat(30_000));
    let mut client = RawClient::connect(world.address()).await;
    client.send(head(&world, &fine) + &end).await.unwrap();
    assert_eq!(client.head().await.status, 200);
    assert_eq!(openai.seen().len(), 1);
}

/// A key in the URL is refused, also beside a valid one: URLs end up in logs. The gateway's own log does not hold it.
#[tokio::test(flavor = "multi_thread")]
async fn fault_63_key_in_the_query() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("access.log");
    let (world, openai) = open(|config| {
        config.log.access = perpetuo::config::AccessFormat::Json;
        config.log.access_file = Some(file.clone());
    })
    .await;
    for query in [
        format!("?key={}", world.key),
        "?api_key=anything".to_owned(),
        format!("?x=1&Access_Token={}", world.key),
        format!("?whatever={}", world.key),
    ] {
        for own in [false, true] {
            let request = world.client().post(world.url(&format!("{CHAT}{query}"))).json(&hello(ALONE));
            let request = if own { request.bearer_auth(&world.key) } else { request };
            let answer = Answer::of(request).await;
            assert_eq!((answer.status, answer.code().as_str()), (401, "invalid_api_key"), "{query}, valid: {own}");
        }
    }
    assert!(openai.seen().is_empty());
    let harmless = world.client().post(world.url(&format!("{CHAT}?api-version=2024-10-21"))).bearer_auth(&world.key);
    assert_eq!(Answer::of(harmless.json(&hello(ALONE))).await.status, 200, "other parameters are ignored");
    let logged = async {
        while std::fs::read_to_string(&file).unwrap_or_default().lines().count() < 9 {
            // Lines are written beside the requests.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("the lines of the log", logged).await;
    assert!(!std::fs::read_to_string(&file).unwrap().contains(&world.key), "the key is in the log");
}

/// `Host` and an absolute URL decide nothing: the route is that of the path, and so is who may take it.
#[tokio::test(flavor = "multi_thread")]
async fn fault_65_host_header() {
    let (world, openai) = plain().await;
    let get = |target: &str, host: &str, key: &str| {
        format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n")
    };
    for host in ["a/v1/models?x", "gateway/health", "a@b", "[::1", "a b", "x:99999", "/health", ""] {
        let answer = raw(&world, get("/v1/models", host, "pk_wrong")).await;
        let refused = ["HTTP/1.1 401", "HTTP/1.1 400"].iter().any(|status| answer.starts_with(status));
        assert!(refused, "{host:?}: {answer}");
        let answer = raw(&world, get("/workspaces", host, &world.key)).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{host:?}: {answer}");
    }
    let absolute = raw(&world, get("http://gateway/v1/models", "gateway", "pk_wrong")).await;
    assert!(!absolute.starts_with("HTTP/1.1 200"), "{absolute}");
    assert!(openai.seen().is_empty());
}

/// A path has one form; whatever is written otherwise is a 404, before any key is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn fault_66_forms_of_a_path() {
    let (world, openai) = plain().await;
    let body = hello(ALONE).to_string();
    for path in [
        "/v1//chat/completions",
        "//v1/chat/completions",
        "/v1/%63hat/completions",
        "/v1/chat/completions;x",
        "/v1/chat/completions/",
        "/v1/chat/./completions",
        "/workspaces/../v1/chat/completions",
        "/v1/chat/completions/..",
        "/v1/chat%2fcompletions",
        "/V1/Chat/Completions",
        "\\v1\\chat\\completions",
        "/v1/chat/completions%00",
        "/v1/models/../chat/completions",
        "/health/../workspaces",
        "/workspaces%2f",
    ] {
        for key in [world.key.as_str(), "pk_wrong"] {
            let request = format!(
                "POST {path} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {key}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let answer = raw(&world, request).await;
            let refused =
                ["400", "404", "405", "401"].iter().any(|status| answer.starts_with(&format!("HTTP/1.1 {status}")));
            let admin = path.starts_with("/workspaces/");
            assert!(refused && (admin || !answer.starts_with("HTTP/1.1 401")), "{path}: {answer}");
        }
    }
    assert!(openai.seen().is_empty());
}

/// Who sends many wrong keys waits longer and longer for each refusal; a right key from the same address does not wait.
#[tokio::test(flavor = "multi_thread")]
async fn fault_68_brute_force() {
    let (world, _openai) = plain().await;
    let wrong = |number: usize| {
        let request = world.client().get(world.url("/v1/models")).bearer_auth(format!("pk_{number:043}"));
        Answer::of(request)
    };
    let began = Instant::now();
    for number in 0..60 {
        let answer = wrong(number).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "invalid_api_key"));
    }
    assert!(began.elapsed() > Duration::from_secs(1), "sixty refusals came at once");
    let mut waiting: JoinSet<Answer> = (100..120).map(wrong).collect();
    let good = hello(ALONE);
    tokio::select! {
        biased;
        _ = waiting.join_next() => panic!("a wrong key did not wait"),
        answer = world.chat(&good) => assert_eq!(answer.status, 200),
    }
    assert!(waiting.join_all().await.iter().all(|answer| answer.status == 401));
}

/// The beginning of a key is known, and its rest is guessed at from many addresses: the guesses wait for each other, the right key
/// for nothing.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn fault_68_brute_force_from_many_addresses() {
    let (world, _openai) = plain().await;
    let beginning = &world.key[..11];
    let guess = |number: u8| {
        // All of 127.0.0.0/8 is this machine.
        let address = std::net::Ipv4Addr::new(127, 0, 1, number);
        let client =
            reqwest::Client::builder().local_address(std::net::IpAddr::from(address)).no_proxy().build().unwrap();
        Answer::of(client.get(world.url("/v1/models")).bearer_auth(format!("{beginning}{number:041}")))
    };
    for number in 0..60 {
        assert_eq!(guess(number).await.status, 401);
    }
    let mut waiting: JoinSet<Answer> = (100..110).map(guess).collect();
    let good = hello(ALONE);
    tokio::select! {
        biased;
        _ = waiting.join_next() => panic!("a guess did not wait"),
        answer = world.chat(&good) => assert_eq!(answer.status, 200),
    }
    assert!(waiting.join_all().await.iter().all(|answer| answer.status == 401));
}

/// More connections than `limits.max_connections`, or from one address than its share, are closed at once; those that are in are
/// served, the admin API on its own listener answers, and room that is given up is used again.
#[tokio::test(flavor = "multi_thread")]
async fn fault_69_storm_of_connections() {
    for by_address in [false, true] {
        let admin = free_address();
        let (world, _openai) = open(|config| {
            config.admin.listen = Some(admin);
            match by_address {
                true => config.limits.max_connections_per_address = 40,
                false => config.limits.max_connections = 40,
            }
        })
        .await;
        assert_eq!(world.chat(&hello(ALONE)).await.status, 200, "by a connection that is kept");
        let mut crowd = Vec::new();
        for _ in 0..1000 {
            crowd.push(RawClient::connect(world.address()).await);
        }
        assert!(crowd.last_mut().unwrap().is_closed().await, "the last one found no room");
        assert_eq!(world.chat(&hello(ALONE)).await.status, 200, "who is in is served");
        let token = world.admin_token(Role::Admin, &[]);
        let admin = world.client().request(Method::GET, format!("http://{admin}/workspaces")).bearer_auth(token);
        assert_eq!(Answer::of(admin).await.status, 200, "the admin API answers");
        drop(crowd);
        let served = async {
            loop {
                let request = crate::support::client(false).get(world.url("/v1/models")).bearer_auth(&world.key);
                if request.send().await.is_ok_and(|answer| answer.status() == 200) {
                    return;
                }
                // The gateway learns of a close when it learns of it.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within("room after the storm", served).await;
    }
}

/// A refusal of HTTP/2's own: a header list beyond all bounds ends its stream, and the connection goes on.
#[tokio::test(flavor = "multi_thread")]
async fn fault_62_headers_of_http2() {
    let (world, openai) = plain().await;
    let large = world.chat_request(world.client_h2()).header("x-large", "y".repeat(200_000)).json(&hello(ALONE));
    match large.send().await {
        Ok(answer) => assert!(matches!(answer.status().as_u16(), 400 | 431), "{}", answer.status()),
        Err(error) => assert!(error.is_request(), "{error}"),
    }
    assert!(openai.seen().is_empty());
    let fine = Answer::of(world.chat_request(&crate::support::client(true)).json(&hello(ALONE))).await;
    assert_eq!(fine.status, 200);
}
