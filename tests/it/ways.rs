//! The two ways of a request: directly off its connection, and by Pingora. Both are answered alike but for the case of the names of
//! some headers, which means nothing to a client and tells a test which way it was.

use std::collections::BTreeSet;

use perpetuo::simulator::{Behaviour, Simulator};

use crate::support::{RawClient, World, hello, hello_stream};

/// What makes a request one for Pingora and changes nothing else: an offer of HTTP/2, which nobody has to take.
const ODD: &str = "upgrade: h2c\r\n";

async fn open() -> (World, Simulator) {
    let world = World::start(|_| ()).await;
    let openai = Simulator::start(Behaviour::new("openai")).await.unwrap();
    world.add("openai", &openai, |_| ());
    (world, openai)
}

fn post(path: &str, key: &str, lines: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\nx-request-id: one\r\n{lines}content-length: {length}\r\n\r\n{body}"
    )
}

fn get(path: &str, key: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\nx-request-id: one\r\n{lines}\r\n")
}

/// A request with these lines in its head.
type Ask<'a> = &'a dyn Fn(&str) -> String;

/// Whether an answer was written directly: Pingora capitalizes the headers that it adds.
fn is_direct(answer: &str) -> bool {
    answer.contains("\r\ndate: ")
}

/// What an answer says: its first line, its headers in any order, its body without the sizes of its chunks, and nothing that is of the
/// moment.
fn told(answer: &str) -> (String, BTreeSet<String>, Vec<String>) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let head = head.to_lowercase();
    let mut lines = head.lines().map(str::to_owned);
    let status = lines.next().unwrap();
    let headers = lines.filter(|line| !line.starts_with("date: ")).collect();
    let counted = |line: &str| match line.split_once("chatcmpl-sim") {
        Some((before, after)) => {
            format!("{before}{}", after.trim_start_matches(|digit: char| digit.is_ascii_hexdigit()))
        }
        None => line.to_owned(),
    };
    (status, headers, body.lines().filter(|line| line.len() > 8).map(counted).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_answered_alike_whichever_way_it_goes() {
    let (world, openai) = open().await;
    let (chat, stream) = (hello("gpt-4o").to_string(), hello_stream("gpt-4o").to_string());
    let to_chat = |key: &str, lines: &str, body: &str| post("/v1/chat/completions", key, lines, body);
    let (key, wrong) = (world.key.as_str(), "pk_wrong");
    let requests: &[(&str, Ask)] = &[
        ("200", &|lines| to_chat(key, lines, &chat)),
        ("200", &|lines| to_chat(key, lines, &stream)),
        ("200", &|lines| get("/v1/models", key, lines)),
        ("200", &|lines| get("/v1/models/gpt-4o", key, lines)),
        ("404", &|lines| get("/v1/nothing?a=b", key, lines)),
        ("405", &|lines| get("/v1/chat/completions", key, lines)),
        ("401", &|lines| to_chat(wrong, lines, &chat)),
        ("400", &|lines| to_chat(key, lines, "{\"model\":")),
        ("400", &|lines| to_chat(key, lines, "")),
        ("415", &|lines| to_chat(key, &format!("content-encoding: gzip\r\n{lines}"), &chat)),
        ("413", &|lines| to_chat(key, lines, &chat).replace("content-length: ", "content-length: 99999999")),
        ("431", &|lines| to_chat(key, &format!("x: {}\r\n{lines}", "y".repeat(100_000)), &chat)),
    ];
    for (status, request) in requests {
        let mut answers = Vec::new();
        for odd in ["", ODD] {
            let text = request(&format!("connection: close\r\n{odd}"));
            let mut client = RawClient::connect(world.address()).await;
            client.send(&text).await.unwrap();
            answers.push((text, client.rest().await));
        }
        let [(text, direct), (_, pingoras)] = &answers[..] else { panic!("two ways") };
        assert!(direct.starts_with(&format!("HTTP/1.1 {status} ")), "{text}\n{direct}");
        assert_eq!(told(direct), told(pingoras), "{text}");
        // A head that is too large is none of the usual.
        assert_eq!((is_direct(direct), is_direct(pingoras)), (*status != "431", false), "{text}");
    }
    let seen = openai.seen();
    assert_eq!(seen.len(), 4, "each of the two chats went out twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_come_together_are_answered_in_their_order_on_one_connection() {
    let (world, openai) = open().await;
    let chat = |lines: &str| post("/v1/chat/completions", &world.key, lines, &hello("gpt-4o").to_string());
    let mut client = RawClient::connect(world.address()).await;
    let models = get("/v1/models", &world.key, "");
    // The third one is cut in its head, the fourth goes Pingora's way.
    let (begin, rest) = models.split_at(20);
    client.send([&chat(""), &models, begin].concat()).await.unwrap();
    for answer in ["chat.completion", "\"list\""] {
        let head = client.head().await;
        assert_eq!((head.status, head.header("connection")), (200, "keep-alive"));
        assert!(client.body(&head).await.contains(answer));
    }
    client.send([rest, &chat(ODD), &chat("connection: close\r\n")].concat()).await.unwrap();
    for answer in ["\"list\"", "chat.completion"] {
        let head = client.head().await;
        assert_eq!((head.status, head.header("connection")), (200, "keep-alive"));
        assert!(client.body(&head).await.contains(answer));
    }
    let last = client.rest().await.to_lowercase();
    assert!(last.contains("connection: close"), "{last}");
    assert_eq!(openai.seen().len(), 3);
}
