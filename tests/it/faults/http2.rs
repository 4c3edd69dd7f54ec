//! What a client of HTTP/2 can do with raw frames: floods that no library would send, windows that stay closed.

use std::time::Duration;

use perpetuo::config::Config;
use perpetuo::simulator::{Behaviour, Simulator};

use super::{ALONE, Stage, event, events, role, text};
use crate::support::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    fields, frame, setting,
};
use crate::support::{Answer, RawClient, World, client, hello, hello_stream, within};

/// Error codes of RFC 9113.
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;
/// How long a peer that takes nothing more is looked at.
const A_MOMENT: Duration = Duration::from_millis(500);

async fn open(change: impl FnOnce(&mut Config)) -> (World, Simulator) {
    let world = World::start(change).await;
    let openai = Simulator::start(Behaviour::new("openai")).await.unwrap();
    world.add("openai", &openai, |_| ());
    (world, openai)
}

/// A connection whose settings are agreed upon.
async fn connect(world: &World, settings: &[u8]) -> RawClient {
    let mut client = RawClient::connect(world.address()).await;
    let opening = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, settings)].concat();
    client.send(opening).await.unwrap();
    client
}

/// The head of a chat request as a header block.
fn chat_head(world: &World) -> Vec<u8> {
    let bearer = format!("Bearer {}", world.key);
    fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/v1/chat/completions"),
        (":authority", "gateway"),
        ("authorization", &bearer),
        ("content-type", "application/json"),
    ])
}

/// The error code of the GOAWAY that the connection ends with; `None` where it ends without one.
async fn end_of(client: &mut RawClient) -> Option<u32> {
    let mut code = None;
    while let Some(frame) = client.frame().await {
        if frame.kind == GOAWAY {
            code = Some(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap()));
        }
    }
    code
}

/// Others are served as before.
async fn goes_on(world: &World) {
    for http2 in [false, true] {
        let answer = Answer::of(world.chat_request(&client(http2)).json(&hello(ALONE))).await;
        assert_eq!(answer.status, 200, "HTTP/2: {http2}: {}", answer.text());
    }
}

/// Writes until the peer has taken nothing for a moment or has closed; the bytes that it took, at most `most`.
async fn pour(client: &mut RawClient, bytes: &[u8], most: usize) -> usize {
    let mut taken = 0;
    while taken < most {
        match tokio::time::timeout(A_MOMENT, client.send(bytes)).await {
            Ok(Ok(())) => taken += bytes.len(),
            Ok(Err(_)) | Err(_) => break,
        }
    }
    taken
}

/// HTTP/2: a connection may have a hundred streams open at once; more are refused, and those that are open go on.
#[tokio::test(flavor = "multi_thread")]
async fn fault_69_streams_of_one_connection() {
    let (world, openai) = open(|_| ()).await;
    let mut client = connect(&world, &[]).await;
    let head = chat_head(&world);
    // Heads without a body keep their streams open.
    let opened: Vec<u8> = (0..130).flat_map(|number| frame(HEADERS, END_HEADERS, 2 * number + 1, &head)).collect();
    client.send(opened).await.unwrap();
    let mut announced = None;
    let mut refused = Vec::new();
    while refused.len() < 30 {
        let frame = client.frame().await.expect("the connection stays");
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => announced = setting(&frame.payload, 3),
            RST_STREAM => {
                assert_eq!(frame.payload, REFUSED_STREAM.to_be_bytes());
                refused.push(frame.stream);
            }
            _ => {}
        }
    }
    assert_eq!(announced, Some(100));
    assert!(refused.iter().all(|stream| *stream > 2 * 99 + 1), "{refused:?}");
    client.send(frame(DATA, END_STREAM, 1, hello(ALONE).to_string().as_bytes())).await.unwrap();
    let answer = async {
        loop {
            let frame = client.frame().await.expect("the connection stays");
            if frame.kind == DATA && frame.stream == 1 {
                return String::from_utf8(frame.payload).unwrap();
            }
        }
    };
    assert!(within("the answer to the first stream", answer).await.contains("simulated"));
    assert_eq!(openai.seen().len(), 1);
}

/// HTTP/2: a client that opens streams and resets them at once, without end, is cut off; nobody is asked for it.
#[tokio::test(flavor = "multi_thread")]
async fn fault_69_rapid_reset() {
    let (world, openai) = open(|_| ()).await;
    let mut client = connect(&world, &[]).await;
    let head = chat_head(&world);
    let flood: Vec<u8> = (0..2000)
        .flat_map(|number| {
            let stream = 2 * number + 1;
            [frame(HEADERS, END_HEADERS, stream, &head), frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())].concat()
        })
        .collect();
    // It may hang up before it has taken everything.
    let _ = client.send(flood).await;
    let code = end_of(&mut client).await;
    assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{code:?}");
    assert!(openai.seen().is_empty());
    goes_on(&world).await;
}

/// HTTP/2: a header list in frame after frame, without end, ends its connection before it fills the memory.
#[tokio::test(flavor = "multi_thread")]
async fn fault_62_flood_of_continuations() {
    let (world, openai) = open(|_| ()).await;
    let head = chat_head(&world);
    let large = "y".repeat(100);
    let pieces = [fields(&[("x-more", &large)]).repeat(100), fields(&[("x", "y")]), Vec::new()];
    for piece in pieces {
        let mut client = connect(&world, &[]).await;
        client.send(frame(HEADERS, END_STREAM, 1, &head)).await.unwrap();
        let taken = pour(&mut client, &frame(CONTINUATION, 0, 1, &piece).repeat(10), 64 << 20).await;
        assert!(taken < 16 << 20, "{taken} bytes of a header list were taken in pieces of {}", piece.len());
        end_of(&mut client).await;
    }
    assert!(openai.seen().is_empty());
    goes_on(&world).await;
}

/// HTTP/2: a client that asks without end for answers to its PINGs and SETTINGS, and reads none, is not read any further.
#[tokio::test(flavor = "multi_thread")]
async fn fault_69_flood_of_pings_and_settings() {
    let (world, _openai) = open(|_| ()).await;
    for flood in
        [frame(PING, 0, 0, b"12345678"), frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 1, 0])]
    {
        let mut client = connect(&world, &[]).await;
        let taken = pour(&mut client, &flood.repeat(1000), 256 << 20).await;
        assert!(taken < 128 << 20, "{taken} bytes were taken, and as many answers are held");
    }
    goes_on(&world).await;
}

/// HTTP/2: a head that never ends, or never begins, has its time as one of HTTP/1 has.
#[tokio::test(flavor = "multi_thread")]
async fn fault_48_slow_head_of_http2() {
    let (world, openai) = open(|config| {
        config.timeouts.head = Duration::from_millis(300);
        config.server.max_keepalive = Duration::from_secs(1);
    })
    .await;
    let mut half = RawClient::connect(world.address()).await;
    half.send("PRI * HTTP/2.0\r\n").await.unwrap();
    assert!(half.is_closed().await, "half a preface");
    let mut silent = connect(&world, &[]).await;
    end_of(&mut silent).await;
    let mut endless = connect(&world, &[]).await;
    endless.send(frame(HEADERS, 0, 1, &chat_head(&world))).await.unwrap();
    end_of(&mut endless).await;
    assert!(openai.seen().is_empty());
    goes_on(&world).await;
}

/// HTTP/2: a body that does not come is given up as one of HTTP/1 is.
#[tokio::test(flavor = "multi_thread")]
async fn fault_48_slow_body_of_http2() {
    let (world, openai) = open(|config| {
        config.timeouts.head = Duration::from_millis(300);
        config.limits.min_body_rate = 10_000;
    })
    .await;
    let mut client = connect(&world, &[]).await;
    client.send(frame(HEADERS, END_HEADERS, 1, &chat_head(&world))).await.unwrap();
    client.send(frame(DATA, 0, 1, b"{")).await.unwrap();
    let told = async {
        loop {
            let frame = client.frame().await.expect("the connection stays");
            if frame.kind == DATA && frame.stream == 1 {
                return String::from_utf8(frame.payload).unwrap();
            }
        }
    };
    assert!(within("the refusal", told).await.contains("request_timeout"));
    assert!(openai.seen().is_empty());
}

/// HTTP/2: a client that grants no window holds its provider back, whatever that has to say; once it grants one, it gets everything.
#[tokio::test(flavor = "multi_thread")]
async fn fault_47_closed_window() {
    let stage = Stage::over(World::plain().await).await;
    // SETTINGS_INITIAL_WINDOW_SIZE of 0.
    let mut client = connect(&stage.world, &[0, 4, 0, 0, 0, 0]).await;
    let body = hello_stream(ALONE).to_string();
    let asked = [frame(HEADERS, END_HEADERS, 1, &chat_head(&stage.world)), frame(DATA, END_STREAM, 1, body.as_bytes())];
    client.send(asked.concat()).await.unwrap();
    let mut call = stage.hand.request().await;
    call.send_stream_head().await;
    call.send(events(&[role()])).await;
    let large = event(text(&"x".repeat(1_000_000)));
    let mut sent = 0;
    while sent < 200 && tokio::time::timeout(A_MOMENT, call.try_send(&large)).await == Ok(true) {
        sent += 1;
    }
    assert!(sent < 40, "{sent} MB were taken for a client that reads nothing");
    let [stream, all] =
        [1, 0].map(|stream| frame(WINDOW_UPDATE, 0, stream, &((1_u32 << 31) - 1 - 65_535).to_be_bytes()));
    client.send([stream, all].concat()).await.unwrap();
    let mut came = 0;
    while came < sent * 1_000_000 {
        let frame = client.frame().await.expect("the connection stays");
        came += if frame.kind == DATA { frame.payload.len() } else { 0 };
    }
}
