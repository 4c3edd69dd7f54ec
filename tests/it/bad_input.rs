//! What no well-behaved client sends: each gets a clear 4xx in OpenAI's shape, nobody else notices, and the process goes on.

use std::fmt::Write as _;
use std::time::Duration;

use perpetuo::admin::auth::Role;
use perpetuo::simulator::{Behaviour, Simulator};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Answer, World, hello, within};

const CHAT: &str = "/v1/chat/completions";

/// A world with one healthy provider.
async fn open() -> (World, Simulator) {
    let world = World::start(|config| config.limits.max_body_bytes = 1024 * 1024).await;
    let openai = Simulator::start(Behaviour::new("openai")).await.unwrap();
    world.add("openai", &openai, |_| ());
    (world, openai)
}

/// Checks what every refusal has: a 4xx, the four keys with a text for people, and `x-request-id`.
fn refused(answer: &Answer, status: u16, what: &str) {
    assert_eq!(answer.status, status, "{what}: {}", answer.text());
    assert_eq!(answer.header("content-type"), "application/json", "{what}");
    assert!(!answer.header("x-request-id").is_empty(), "{what}: no x-request-id");
    let error = answer.error();
    let message = error["message"].as_str().unwrap_or_default();
    assert!(
        message.len() > 10 && error["type"] == "invalid_request_error" && error["code"].is_string(),
        "{what}: {error}"
    );
}

/// A good request is served as if nothing had been, and only it reached the provider.
async fn goes_on(world: &World, openai: &Simulator) {
    let answer = world.chat(&hello("gpt-4o")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(openai.seen().len(), 1, "something bad went through");
}

async fn send_body(world: &World, body: impl Into<reqwest::Body>) -> Answer {
    Answer::of(world.chat_request(world.client()).body(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_chat_request_is_refused_by_name() {
    let (world, openai) = open().await;
    let hi = r#""messages":[{"role":"user","content":"hi"}]"#;
    let with = |more: &str| format!("{{\"model\":\"gpt-4o\",{hi},{more}}}");
    let cases = [
        (String::new(), None),
        ("{".to_owned(), None),
        ("null".to_owned(), None),
        ("[]".to_owned(), None),
        ("\"gpt-4o\"".to_owned(), None),
        ("model=gpt-4o".to_owned(), None),
        (with("\"x\":NaN"), None),
        (with("\"x\":01"), None),
        (with("\"x\":\"\u{1}\""), None),
        (with("\"x\":\"\\ud800\"") + "trailing", None),
        (format!("{{{hi}}}"), Some("model")),
        (format!("{{\"model\":\"\",{hi}}}"), Some("model")),
        (format!("{{\"model\":null,{hi}}}"), Some("model")),
        (format!("{{\"model\":4,{hi}}}"), Some("model")),
        (format!("{{\"model\":[\"gpt-4o\"],{hi}}}"), Some("model")),
        (r#"{"model":"gpt-4o"}"#.to_owned(), Some("messages")),
        (r#"{"model":"gpt-4o","messages":[]}"#.to_owned(), Some("messages")),
        (r#"{"model":"gpt-4o","messages":null}"#.to_owned(), Some("messages")),
        (r#"{"model":"gpt-4o","messages":"hi"}"#.to_owned(), Some("messages")),
        (r#"{"model":"gpt-4o","messages":["hi"]}"#.to_owned(), Some("messages")),
        (r#"{"model":"gpt-4o","messages":[{}]}"#.to_owned(), Some("messages[0].role")),
        (r#"{"model":"gpt-4o","messages":[{"role":7}]}"#.to_owned(), Some("messages[0].role")),
        (with("\"stream\":\"yes\""), Some("stream")),
        (with("\"temperature\":\"hot\""), Some("temperature")),
        (with("\"max_tokens\":-1"), Some("max_tokens")),
        (with("\"max_tokens\":1e999"), Some("max_tokens")),
        (with("\"tools\":{}"), Some("tools")),
        (with("\"stop\":7"), Some("stop")),
        (with("\"stream_options\":[]"), Some("stream_options")),
        (with("\"timeout\":0"), Some("timeout")),
        (with("\"timeout\":-3"), Some("timeout")),
        (with("\"timeout\":\"soon\""), Some("timeout")),
        (with("\"model\":\"gpt-4\""), Some("model")),
        (with("\"temperature\":1,\"temperature\":2"), Some("temperature")),
        (with("\"\\u006dodel\":\"gpt-4\""), Some("model")),
    ];
    for (body, param) in cases {
        let answer = send_body(&world, body.clone()).await;
        refused(&answer, 400, &body);
        assert_eq!(answer.error()["param"].as_str(), param, "{body}: {}", answer.text());
    }
    goes_on(&world, &openai).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_text_and_nests_without_end_are_refused() {
    let (world, openai) = open().await;
    let mut body = hello("gpt-4o").to_string().into_bytes();
    let at = body.windows(5).position(|five| five == b"Hello").unwrap();
    body[at] = 0xff;
    refused(&send_body(&world, body).await, 400, "invalid UTF-8");
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for depth in [128, 100_000] {
            let tail = if close == "}" { "1" } else { "" };
            let nest = format!("{}{tail}{}", open.repeat(depth), close.repeat(depth));
            let body = format!(
                "{{\"model\":\"gpt-4o\",\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}],\"x\":{nest}}}"
            );
            refused(&send_body(&world, body).await, 400, &format!("{depth} deep"));
        }
    }
    refused(&send_body(&world, vec![b'{'; 1024 * 1024 + 1]).await, 413, "a body over the limit");
    let endless = futures_of_zeros();
    refused(&send_body(&world, reqwest::Body::wrap_stream(endless)).await, 413, "chunks over the limit");
    let encoded = world.chat_request(world.client()).header("content-encoding", "gzip").body("x");
    refused(&Answer::of(encoded).await, 415, "a compressed body");
    goes_on(&world, &openai).await;
}

/// A body without a length that is larger than the limit.
fn futures_of_zeros() -> impl tokio_stream::Stream<Item = std::io::Result<Vec<u8>>> {
    tokio_stream::iter((0..40).map(|_| Ok(vec![b' '; 64 * 1024])))
}

/// A model name of line ends, `../`, `%00` or ten thousand letters never becomes a path or a header: 400 or 404.
#[tokio::test(flavor = "multi_thread")]
async fn fault_60_hostile_model_name() {
    let (world, openai) = open().await;
    let names = [
        "openai/gpt\r\nX-Evil: 1",
        "gpt-4o\n",
        "openai/../../admin",
        "..",
        "openai/gpt 4",
        "openai/gpt\u{0}",
        "openai/гпт",
        "openai/\u{202e}",
        "\u{feff}gpt-4o",
    ];
    for name in names.into_iter().map(str::to_owned).chain(["openai/".to_owned() + &"x".repeat(300)]) {
        let answer = world.chat(&hello(&name)).await;
        refused(&answer, 400, &name);
        assert_eq!(answer.error()["param"], "model");
        assert!(answer.headers.get("x-evil").is_none());
    }
    for unknown in
        ["no-such-model", "openai/", "/", "nobody/gpt-4o", "<script>", "gpt-4o%0d%0a", "anthropic/claude-sonnet-4-6"]
    {
        let answer = world.chat(&hello(unknown)).await;
        refused(&answer, 404, unknown);
        assert_eq!(answer.code(), "model_not_found");
        assert!(answer.error()["message"].as_str().unwrap().contains(unknown), "it says what was looked for");
    }
    for path in
        ["/v1/models/%0d%0aX-Evil:%201", "/v1/models/..%2f..%2fworkspaces", "/v1/models/%ff%fe", "/v1/models/nothing"]
    {
        let answer = Answer::of(world.request(Method::GET, path)).await;
        refused(&answer, 404, path);
        assert!(answer.headers.get("x-evil").is_none());
    }
    goes_on(&world, &openai).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_method_or_path_says_so() {
    let (world, openai) = open().await;
    let token = world.admin_token(Role::Admin, &[]);
    for (method, path, allow) in [
        (Method::GET, CHAT, "POST"),
        (Method::PUT, CHAT, "POST"),
        (Method::DELETE, "/v1/embeddings", "POST"),
        (Method::POST, "/v1/models", "GET"),
        (Method::POST, "/v1/models/gpt-4o", "GET"),
        (Method::POST, "/health", "GET"),
        (Method::PATCH, "/workspaces", "GET,HEAD,POST"),
    ] {
        let request = world.client().request(method.clone(), world.url(path)).bearer_auth(&token);
        let answer = Answer::of(request).await;
        refused(&answer, 405, &format!("{method} {path}"));
        let allowed = answer.header("allow").replace(' ', "");
        assert_eq!(allowed, allow, "{method} {path}");
    }
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v1/completions",
        "/v1//chat/completions",
        "/V1/chat/completions",
        "/v1/chat/completions/",
        "/v1/chat/%63ompletions",
        "/metrics",
        "/admin",
        "/workspacesx",
        "/favicon.ico",
    ] {
        let answer = Answer::of(world.request(Method::POST, path).json(&hello("gpt-4o"))).await;
        refused(&answer, 404, path);
        assert_eq!(answer.code(), "not_found");
    }
    let nowhere = world.client().get(world.url("/workspaces/ws_1/nothing")).bearer_auth(&token);
    refused(&Answer::of(nowhere).await, 404, "an unknown admin route");
    goes_on(&world, &openai).await;
}

/// No key, a malformed one, one in `x-api-key` alone, two in `Authorization`: 401 with one constant text. One in each of the two: 400.
#[tokio::test(flavor = "multi_thread")]
async fn fault_64_more_than_one_credential() {
    let (world, openai) = open().await;
    let key = world.key.clone();
    let bearer = |text: &str| ("authorization", text.to_owned());
    let cases: Vec<Vec<(&str, String)>> = vec![
        vec![],
        vec![bearer("")],
        vec![bearer("Bearer")],
        vec![bearer("Bearer ")],
        vec![bearer(&key)],
        vec![bearer(&format!("Basic {key}"))],
        vec![bearer(&format!("Bearer {key}x"))],
        vec![bearer(&format!("Bearer {}", &key[..key.len() - 1]))],
        vec![bearer(&format!("Bearer {}", key.to_uppercase()))],
        vec![bearer(&format!("Bearer {key} {key}"))],
        vec![bearer(&format!("Bearer {key},Bearer {key}"))],
        vec![bearer("Bearer pk_"), ("x-request-id", "mine".to_owned())],
        vec![bearer(&format!("Bearer {key}")), bearer(&format!("Bearer {key}"))],
        vec![("x-api-key", key.clone())],
        vec![bearer(&format!("Bearer {}", "A".repeat(6000)))],
    ];
    let mut texts = std::collections::HashSet::new();
    for headers in cases {
        let mut request = world.client().post(world.url(CHAT)).json(&hello("gpt-4o"));
        for (name, value) in &headers {
            request = request.header(*name, value);
        }
        let answer = Answer::of(request).await;
        refused(&answer, 401, &format!("{headers:?}"));
        assert_eq!(answer.code(), "invalid_api_key");
        texts.insert(answer.text());
    }
    for query in [format!("{CHAT}?key={key}"), format!("{CHAT}?api_key={key}"), format!("{CHAT}?access_token={key}")] {
        let answer = Answer::of(world.client().post(world.url(&query)).json(&hello("gpt-4o"))).await;
        refused(&answer, 401, "a key in the query");
        texts.insert(answer.text());
    }
    assert_eq!(texts.len(), 1, "one constant text: {texts:?}");
    for (bearer, other) in [(&*key, "other"), ("pk_wrong", &*key), (&*key, &*key)] {
        let request = world.client().post(world.url(CHAT)).json(&hello("gpt-4o")).bearer_auth(bearer);
        let answer = Answer::of(request.header("x-api-key", other)).await;
        refused(&answer, 400, "two keys");
        assert_eq!((answer.code().as_str(), answer.error()["param"].as_str()), ("invalid_request", Some("x-api-key")));
        assert!(!answer.text().contains(&key), "{}", answer.text());
    }
    for scheme in ["bearer", "BEARER", "Bearer "] {
        let request = world.client().get(world.url("/v1/models")).header("authorization", format!("{scheme} {key}"));
        assert_eq!(Answer::of(request).await.status, 200, "{scheme}: the scheme's case does not matter");
    }
    goes_on(&world, &openai).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_gateway_headers_are_named() {
    let (world, openai) = open().await;
    for value in ["quickest", "fastest,cheapest", "0", "fastest cheapest", "defaultx"] {
        let answer = world.chat_with("X-Perpetuo-Route", value, &hello("gpt-4o")).await;
        refused(&answer, 400, value);
        let error = answer.error();
        assert_eq!(error["param"], "X-Perpetuo-Route");
        for name in ["fastest", "cheapest", "reliable", "default"] {
            assert!(error["message"].as_str().unwrap().contains(name), "{value}: {error}");
        }
    }
    for value in ["", "soon", "0", "-1", "NaN", "inf", "1e400", "10s", "1,5"] {
        let answer = world.chat_with("X-Perpetuo-Timeout", value, &hello("gpt-4o")).await;
        refused(&answer, 400, &format!("timeout '{value}'"));
        assert_eq!(answer.error()["param"], "X-Perpetuo-Timeout");
    }
    let bytes =
        world.chat_request(world.client()).header("X-Perpetuo-Route", [0xe9_u8].as_slice()).json(&hello("gpt-4o"));
    refused(&Answer::of(bytes).await, 400, "a strategy that is not ASCII");
    goes_on(&world, &openai).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strange_request_id_is_replaced_and_never_reflected() {
    let (world, _openai) = open().await;
    for id in [String::new(), "a b".to_owned(), "x".repeat(129), "caf\u{e9}".to_owned()] {
        let request = world.chat_request(world.client()).header("x-request-id", id.as_bytes()).json(&hello("gpt-4o"));
        let answer = Answer::of(request).await;
        assert!(answer.status == 200 && answer.header("x-request-id").starts_with("req_"), "{id:?}");
    }
    let answer = world.chat_with("x-request-id", "trace-0042", &hello("gpt-4o")).await;
    assert_eq!(answer.header("x-request-id"), "trace-0042");
}

/// Writes bytes on a new connection, closes the sending side, and reads whatever comes until the end.
async fn raw(world: &World, bytes: &[u8]) -> String {
    let mut stream = within("a connection", TcpStream::connect(world.address())).await.unwrap();
    // The gateway may hang up before it has read everything.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = within("the end of the connection", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_wire_ends_its_connection_and_nothing_else() {
    let (world, openai) = open().await;
    let body = hello("gpt-4o").to_string();
    let head =
        |more: &str| format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n{more}\r\n", world.key);
    let length = body.len();
    let cases: Vec<Vec<u8>> = vec![
        b"\0\0\0\0".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"hello\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        format!("POST {CHAT} HTTP/1.1\r\nhost x\r\n\r\n").into_bytes(),
        format!("POST {CHAT} HTTP/1.1\r\nauthorization: Bearer \0\r\n\r\n").into_bytes(),
        head(&format!("content-length: {length}\r\ncontent-length: {}\r\n", length + 1)).into_bytes(),
        head("content-length: -5\r\n").into_bytes(),
        head("content-length: 99999999999999999999\r\n").into_bytes(),
        head("content-length: banana\r\n").into_bytes(),
        (head("transfer-encoding: chunked\r\n") + "zz\r\nnot a chunk\r\n").into_bytes(),
        (head(&format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n")) + "5\r\nhel").into_bytes(),
        (head(&format!("content-length: {length}\r\n")) + &body[..length / 2]).into_bytes(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        vec![0xff; 70_000],
        vec![b'A'; 200_000],
    ];
    for bytes in cases {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        let answer = raw(&world, &bytes).await;
        let status =
            answer.strip_prefix("HTTP/1.1 ").or(answer.strip_prefix("HTTP/1.0 ")).and_then(|rest| rest.get(..3));
        let fine = status.is_none_or(|status| status.starts_with('4'));
        assert!(fine, "{shown:?} was answered with {answer:?}");
        assert!(!answer.contains(&world.key), "{shown:?} quotes the key");
    }
    goes_on(&world, &openai).await;
}

/// What follows a broken or refused body is never taken for a request.
#[tokio::test(flavor = "multi_thread")]
async fn fault_50_after_a_broken_body() {
    let (world, openai) = open().await;
    let smuggled = format!("GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", world.key);
    let head =
        |lines: &str| format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n{lines}\r\n", world.key);
    let unread = "x".repeat(2 * 1024 * 1024);
    let cases = [
        (head("transfer-encoding: chunked\r\n") + "zz\r\n", 400),
        (head("transfer-encoding: chunked\r\n") + "5\r\nhello-there-is-more\r\n", 400),
        (head("transfer-encoding: chunked\r\n") + "fffffffffffffffff\r\n", 400),
        (head(&format!("content-length: {}\r\n", unread.len() + smuggled.len())) + &unread, 413),
        (head(&format!("content-length: {}\r\ncontent-encoding: gzip\r\n", smuggled.len())), 415),
    ];
    for (bytes, status) in cases {
        let mut stream = TcpStream::connect(world.address()).await.unwrap();
        // The gateway may answer and hang up before it has read everything.
        let _ = stream.write_all((bytes.clone() + &smuggled).as_bytes()).await;
        let mut answer = Vec::new();
        let _ = within("the gateway's close", stream.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let shown = &bytes[..bytes.len().min(300)];
        assert!(answer.is_empty() || answer.starts_with(&format!("HTTP/1.1 {status}")), "{shown}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), usize::from(!answer.is_empty()), "{shown}: {answer}");
        assert!(!answer.contains("keep-alive"), "{shown}: {answer}");
    }
    goes_on(&world, &openai).await;
}

/// A head of 2 MB or of 2,000 headers is refused; the gateway goes on.
#[tokio::test(flavor = "multi_thread")]
async fn fault_62_huge_and_countless_headers() {
    let (world, openai) = open().await;
    let body = hello("gpt-4o").to_string();
    let mut many = String::new();
    for number in 0..2000 {
        write!(many, "x-{number}: y\r\n").unwrap();
    }
    for headers in [format!("x-huge: {}\r\n", "y".repeat(2 * 1024 * 1024)), many] {
        let request = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n{headers}\r\n{body}",
            world.key,
            body.len()
        );
        let answer = raw(&world, request.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    goes_on(&world, &openai).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_comes_is_given_up() {
    let world = World::start(|config| config.timeouts.body = Duration::from_millis(200)).await;
    let openai = Simulator::start(Behaviour::new("openai")).await.unwrap();
    world.add("openai", &openai, |_| ());
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 100\r\n\r\n{{\"model\"",
        world.key
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    within("the refusal", stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("request_timeout"), "{answer}");
    goes_on(&world, &openai).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_api_refuses_what_it_does_not_understand() {
    let (world, openai) = open().await;
    let at = |path: &str| format!("/workspaces/{}{path}", world.workspace);
    let cases = [
        ("/providers", json!({"api_key": "sk-1"}), "provider"),
        ("/providers", json!({"provider": "nobody", "api_key": "sk-1"}), "provider"),
        ("/providers", json!({"provider": "openai"}), "api_key"),
        ("/providers", json!({"provider": "openai", "api_key": "sk with spaces"}), "api_key"),
        ("/providers", json!({"provider": "openai", "api_key": "sk\r\nX-Evil: 1"}), "api_key"),
        ("/providers", json!({"provider": "openai", "api_key": "sk-1", "priority": 0}), "priority"),
        ("/providers", json!({"provider": "openai", "api_key": "sk-1", "priority": "first"}), "priority"),
        (
            "/providers",
            json!({"provider": "openai", "api_key": "sk-1", "base_url": "http://169.254.169.254/"}),
            "base_url",
        ),
        ("/providers", json!({"provider": "openai", "api_key": "sk-1", "base_url": "https://10.0.0.1/v1"}), "base_url"),
        ("/providers", json!({"provider": "openai", "api_key": "sk-1", "base_url": "file:///etc/passwd"}), "base_url"),
        ("/providers", json!({"provider": "openai", "api_key": "sk-1", "models": {"a": "b\r\nc"}}), "models.a"),
        ("/providers", json!({"provider": "openai", "api_key": "sk-1", "apikey": "sk-2"}), "apikey"),
        ("/api-keys", json!({"name": ""}), "name"),
        ("/api-keys", json!({"name": "x".repeat(500)}), "name"),
        ("/api-keys", json!({"name": "n", "strategy": "quickest"}), "strategy"),
        ("/api-keys", json!({"name": "n", "expires_at": "tomorrow"}), "expires_at"),
    ];
    for (path, body, param) in cases {
        let answer = world.admin(Method::POST, &at(path), Some(&body)).await;
        refused(&answer, 400, &body.to_string());
        assert_eq!(answer.error()["param"], param, "{body}: {}", answer.text());
    }
    for query in [
        "/usage?days=0",
        "/usage?days=x",
        "/usage?start_date=2026-13-01",
        "/usage?nonsense=1",
        "/usage?days=1&days=2",
        "/logs?limit=0",
        "/logs?limit=99999",
        "/logs?page=0",
        "/logs?status=abc",
        "/usage?start_date=2026-02-02&end_date=2026-02-01",
    ] {
        refused(&world.admin(Method::GET, &at(query), None).await, 400, query);
    }
    let token = world.admin_token(Role::Admin, &[]);
    for (body, status) in [
        (&b"{"[..], 400),
        (b"[]", 400),
        (b"\xff", 400),
        (b"{\"name\":\"a\",\"name\":\"b\"}", 400),
        (&[b' '; 1_100_000], 413),
    ] {
        let request = world.client().post(world.url("/workspaces")).bearer_auth(&token).body(body.to_vec());
        refused(&Answer::of(request).await, status, &String::from_utf8_lossy(&body[..body.len().min(30)]));
    }
    goes_on(&world, &openai).await;
}
