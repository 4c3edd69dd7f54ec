//! A provider with fixed answers, in OpenAI's form and, for `/messages`, in Anthropic's.
//!
//! What a request says decides: `"stream":true` for a stream of 100 events; then `"user":"step-N"` sends each event when the
//! client of stream `N` has the one before, `"user":"slow-N"` twenty of them a second apart, and anything else all at once.
//! Not here: errors. A benchmark over errors measures nothing.

use std::io::Result;
use std::rc::Rc;
use std::time::Duration;

use memchr::memmem;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::steps::Steps;
use crate::wire::Wire;

/// Deltas of a stream.
const EVENTS: usize = 100;
/// Deltas of a slow one, and the time between them.
const SLOW: (usize, Duration) = (20, Duration::from_secs(1));
/// How long an event waits for the client to have the one before.
const PATIENCE: Duration = Duration::from_secs(20);
const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nx-request-id: req_bench\r\ntransfer-encoding: chunked\r\n\r\n";

/// The answers, as they go over the wire.
struct Answers {
    whole: Vec<u8>,
    /// What comes with the head of a stream, its deltas, and its end.
    first: Vec<u8>,
    deltas: Vec<Vec<u8>>,
    last: Vec<u8>,
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, steps: Rc<Steps>) {
    let answers = Rc::new([openai(), anthropic()]);
    while let Ok((stream, _)) = listener.accept().await {
        let (answers, steps) = (Rc::clone(&answers), Rc::clone(&steps));
        tokio::task::spawn_local(async move {
            // A proxy that goes away is no news.
            let _ = connection(stream, &answers, &steps).await;
        });
    }
}

async fn connection(stream: TcpStream, answers: &[Answers; 2], steps: &Steps) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut wire = Wire::new(stream);
    while let Some(head) = wire.head(false).await? {
        let body = wire.whole(head.framing).await?;
        let [openai, anthropic] = answers;
        let answers = if head.path.ends_with("/messages") { anthropic } else { openai };
        if memmem::find(&body, b"\"stream\":true").is_none() {
            wire.stream.write_all(&answers.whole).await?;
            continue;
        }
        match (number(&body, b"\"step-"), number(&body, b"\"slow-")) {
            (Some(stream), _) => in_steps(&mut wire.stream, answers, &steps.of(stream)).await?,
            (_, Some(_)) => slowly(&mut wire.stream, answers).await?,
            _ => at_once(&mut wire.stream, answers).await?,
        }
    }
    Ok(())
}

async fn at_once(stream: &mut TcpStream, answers: &Answers) -> Result<()> {
    let all = [&answers.first[..], &answers.deltas.concat(), &answers.last].concat();
    stream.write_all(&all).await
}

async fn in_steps(stream: &mut TcpStream, answers: &Answers, step: &tokio::sync::Notify) -> Result<()> {
    stream.write_all(&answers.first).await?;
    for delta in &answers.deltas {
        stream.write_all(delta).await?;
        let _ = tokio::time::timeout(PATIENCE, step.notified()).await;
    }
    stream.write_all(&answers.last).await
}

async fn slowly(stream: &mut TcpStream, answers: &Answers) -> Result<()> {
    let (events, pause) = SLOW;
    stream.write_all(&answers.first).await?;
    for delta in answers.deltas.iter().take(events) {
        stream.write_all(delta).await?;
        tokio::time::sleep(pause).await;
    }
    stream.write_all(&answers.last).await
}

/// The number after this mark.
fn number(body: &[u8], mark: &[u8]) -> Option<u64> {
    let rest = &body[memmem::find(body, mark)? + mark.len()..];
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

fn whole(body: &str) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_bench\r\ncontent-length";
    format!("{head}: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn text() -> String {
    "It was answered in due course, as it always is. ".repeat(5)
}

fn openai() -> Answers {
    let usage = r#"{"prompt_tokens":250,"completion_tokens":100,"total_tokens":350,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#;
    let about = r#""created":1750000000,"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_bench""#;
    let event = |choices: &str, usage: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",{about},\"choices\":[{choices}],\"usage\":{usage}}}\n\n"
        )
    };
    let choice = |delta: &str, finish: &str| {
        event(&format!("{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}"), "null")
    };
    let message = format!("{{\"role\":\"assistant\",\"content\":\"{}\",\"refusal\":null,\"annotations\":[]}}", text());
    Answers {
        whole: whole(&format!(
            "{{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",{about},\"choices\":[{{\"index\":0,\"message\":{message},\"logprobs\":null,\"finish_reason\":\"stop\"}}],\"usage\":{usage}}}"
        )),
        first: [STREAM_HEAD.as_bytes(), &chunk(&choice(r#"{"role":"assistant","content":"","refusal":null}"#, "null"))]
            .concat(),
        deltas: (0..EVENTS).map(|n| chunk(&choice(&format!("{{\"content\":\" word{n}\"}}"), "null"))).collect(),
        last: [
            chunk(&choice("{}", "\"stop\"")),
            chunk(&event("", usage)),
            chunk("data: [DONE]\n\n"),
            b"0\r\n\r\n".to_vec(),
        ]
        .concat(),
    }
}

fn anthropic() -> Answers {
    let event = |name: &str, data: &str| chunk(&format!("event: {name}\ndata: {{\"type\":\"{name}\",{data}}}\n\n"));
    let about = r#""id":"msg_bench","type":"message","role":"assistant","model":"claude-sonnet-4-5-20250929""#;
    let usage = r#""input_tokens":250,"cache_creation_input_tokens":0,"cache_read_input_tokens":0"#;
    let start = format!(
        "\"message\":{{{about},\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{{{usage},\"output_tokens\":1,\"service_tier\":\"standard\"}}}}"
    );
    let delta = |n: usize| format!("\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\" word{n}\"}}");
    Answers {
        whole: whole(&format!(
            "{{{about},\"content\":[{{\"type\":\"text\",\"text\":\"{}\"}}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null,\"usage\":{{{usage},\"output_tokens\":100,\"service_tier\":\"standard\"}}}}",
            text()
        )),
        first: [
            STREAM_HEAD.as_bytes().to_vec(),
            event("message_start", &start),
            event("content_block_start", "\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}"),
        ]
        .concat(),
        deltas: (0..EVENTS).map(|n| event("content_block_delta", &delta(n))).collect(),
        last: [
            event("content_block_stop", "\"index\":0"),
            event(
                "message_delta",
                "\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":100}",
            ),
            chunk("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"),
            b"0\r\n\r\n".to_vec(),
        ]
        .concat(),
    }
}
