//! Callers that no gateway wants: bad input, wrong keys, half requests, bytes a second, silence. Each has the answer it must get.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Stage;
use crate::reconcile::dice::Dice;
use crate::support::client;

const CHAT: &str = "/v1/chat/completions";
/// Between two troubles.
const PACE: Duration = Duration::from_millis(100);
/// How long a connection may stay without what it should send.
const PATIENCE: Duration = Duration::from_secs(30);

pub async fn cause(stage: Arc<Stage>) {
    let clients = [false, true].map(client);
    let mut running = JoinSet::new();
    for number in 0.. {
        if stage.over() {
            break;
        }
        while running.try_join_next().is_some() {}
        let mut dice = Dice::of(stage.seed, &[number, 2]);
        let client = clients[usize::from(dice.permille(400))].clone();
        let stage = Arc::clone(&stage);
        running.spawn(async move {
            let kind = dice.below(20);
            let result =
                if kind < 12 { refused(&stage, &client, kind).await } else { raw(&stage, kind, &mut dice).await };
            if let Err(why) = result {
                stage.odd(format!("trouble {kind}: {why}"));
            }
        });
        sleep(PACE).await;
    }
    running.join_all().await;
}

/// A whole request that must be refused, and how.
async fn refused(stage: &Stage, client: &Client, kind: u64) -> Result<(), String> {
    let key = &stage.desk.noise.keys[0];
    let post = |body: String| client.post(stage.site.url(CHAT)).header("content-type", "application/json").body(body);
    let hello = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "case 0 "}]}).to_string();
    let get = |path: &str| client.request(Method::GET, stage.site.url(path));
    let (request, expected): (RequestBuilder, u16) = match kind {
        0 => (post("{\"model\":".to_owned()).bearer_auth(key), 400),
        1 => (post(hello.replace("messages", "messages\u{1}")).bearer_auth(key), 400),
        2 => (post(hello).bearer_auth("pk_wrong"), 401),
        3 => (post(hello), 401),
        4 => (post(hello.replace("gpt-4o", "no-such-model")).bearer_auth(key), 404),
        5 => (post("[".repeat(100_000)).bearer_auth(key), 400),
        6 => (get("/v1/models").bearer_auth(key), 200),
        7 => (get("/v1/nothing").bearer_auth(key), 404),
        8 => (get(CHAT).bearer_auth(key), 405),
        9 => (get("/workspaces").bearer_auth("no.token.atall"), 401),
        10 => (post(hello).bearer_auth(key).header("content-encoding", "gzip"), 415),
        _ => (post(hello.replace("case 0 ", &"x".repeat(9 * 1024 * 1024))).bearer_auth(key), 413),
    };
    match timeout(PATIENCE, request.send()).await {
        Ok(Ok(answer)) if answer.status() == expected => Ok(()),
        // The connection may be closed while the body is still being sent.
        Ok(Err(_)) if expected == 413 => Ok(()),
        other => Err(format!("not {expected}: {other:?}")),
    }
}

/// Bytes on a connection of their own. The gateway must close it, in its own time.
async fn raw(stage: &Stage, kind: u64, dice: &mut Dice) -> Result<(), String> {
    let mut stream = TcpStream::connect(&stage.site.address).await.map_err(|cause| cause.to_string())?;
    let key = &stage.desk.noise.keys[0];
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
    );
    let sent = match kind {
        12 => (0..dice.between(1, 2000)).map(|_| dice.below(256) as u8).collect(),
        13 => [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &[0xff; 200]].concat(),
        14 => format!("{head}x-large: {}\r\n\r\n", "x".repeat(100_000)).into_bytes(),
        15 => head.as_bytes()[..usize::try_from(dice.below(head.len() as u64)).unwrap()].to_vec(),
        16 => format!("{head}content-length: 1000\r\n\r\n{{\"model\"").into_bytes(),
        17 => format!("{head}transfer-encoding: chunked\r\n\r\nzz\r\n").into_bytes(),
        18 => format!("{head}content-length: 1000\r\n\r\n").into_bytes(),
        _ => Vec::new(),
    };
    // The gateway may hang up before it has read everything.
    let _ = stream.write_all(&sent).await;
    if dice.permille(300) {
        return Ok(());
    }
    let (mut reader, mut writer) = stream.into_split();
    let dribble = async {
        while kind == 18 && writer.write_all(b" ").await.is_ok() {
            sleep(Duration::from_millis(200)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    let closed = async {
        tokio::select! {
            () = dribble => {}
            _ = reader.read_to_end(&mut answer) => {}
        }
    };
    timeout(PATIENCE, closed).await.map_err(|_| format!("never closed behind {} bytes", sent.len()))?;
    let first = String::from_utf8_lossy(answer.get(..12).unwrap_or_default()).into_owned();
    if first.starts_with("HTTP/1.1 5") || first.starts_with("HTTP/1.1 2") {
        return Err(format!("answered {first}"));
    }
    Ok(())
}
