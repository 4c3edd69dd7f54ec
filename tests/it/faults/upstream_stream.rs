//! Faults 1 to 24: what a provider's stream can hold, byte by byte.

use std::time::Duration;

use perpetuo::store::AttemptRecord;
use perpetuo::usage::Certainty;
use serde_json::{Value, json};

use super::upstream_head::json_answer;
use super::{
    ALONE, ANSWER, DONE, SHARED, STREAM_HEAD, Stage, answered, broken, counted, event, events, role,
    served_by_the_healthy, stop, text, usage,
};
use crate::support::{Answer, EventStream, Hand, World, hello, hello_stream, said, within};

const OVERLOADED: &str = r#"{"error":{"message":"Overloaded","type":"server_error","param":null,"code":null}}"#;

/// An error event before any content counts as a failure: the next provider is asked, and the client sees nothing of it.
#[tokio::test]
async fn fault_01_error_event_first() {
    let stage = Stage::set().await;
    let first = [STREAM_HEAD.to_owned(), event(OVERLOADED)].concat();
    stage.falls_over("at once", hello_stream(SHARED), first).await;
    let after_the_role = [STREAM_HEAD.to_owned(), event(role()), event(OVERLOADED)].concat();
    stage.falls_over("after the role", hello_stream(SHARED), after_the_role).await;
}

/// An error event after some tokens is the last thing the client reads: nothing follows it. What passed is booked as estimated.
#[tokio::test]
async fn fault_02_error_event_after_tokens() {
    let stage = Stage::set().await;
    let (mut stream, mut call) = stage.begun(&[role(), text("One")]).await;
    call.send(event(text(" two")) + &event(OVERLOADED) + DONE).await;
    let rest = stream.rest().await;
    let [two, last] = &rest[..] else { panic!("{rest:?}") };
    assert_eq!(two, &text(" two").to_string());
    let error: Value = serde_json::from_str(last).unwrap();
    assert_eq!((&error["error"]["message"], &error["error"]["provider"]), (&json!("Overloaded"), &json!("openai")));
    let booked = stage.world.booking().await;
    assert_eq!((booked.status, booked.attempts[0].certainty), (200, Certainty::Estimated));
    assert!(booked.attempts[0].usage.output > 0 && booked.attempts[0].cost.dollars() > 0.0);
    assert!(booked.attempts[0].error.is_some(), "a failure of the provider");
    assert!(stage.healthy.seen().is_empty(), "the client had seen content");
}

/// A stream that ends without a finish ends with `stream_truncated`; no finish is invented.
#[tokio::test]
async fn fault_03_clean_end_without_a_finish() {
    let stage = Stage::set().await;
    let answer = stage.stream(events(&[role(), text("Half")])).await;
    assert_eq!(broken(&answer, "Half")["code"], "stream_truncated");
    let booked = stage.world.booking().await;
    let attempt = &booked.attempts[0];
    assert_eq!((attempt.error.as_deref(), attempt.certainty), (Some("stream_truncated"), Certainty::Estimated));
}

/// A reset in the middle of a chunk is told in the same way.
#[tokio::test]
async fn fault_04_reset_in_a_chunk() {
    let stage = Stage::set().await;
    let request = stage.world.chat_request(stage.world.client()).json(&hello_stream(ALONE));
    let asked = tokio::spawn(EventStream::of(request));
    let mut call = stage.hand.request().await;
    call.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let first = events(&[role(), text("Half")]);
    call.send(format!("{:x}\r\n{first}\r\nffff\r\ndata: {{\"id\"", first.len())).await;
    let mut stream = within("the head", asked).await.unwrap();
    assert_eq!(stream.first_text().await, "Half");
    call.reset();
    let rest = stream.rest().await;
    assert!(rest.len() == 1 && rest[0].contains("stream_truncated"), "{rest:?}");
    assert_eq!(stream.whole, Some(true));
}

/// An event that the end cuts in half is dropped; the stream is told as truncated.
#[tokio::test]
async fn fault_05_half_an_event() {
    let stage = Stage::set().await;
    let half = event(text(" and more"));
    for cut in [5, half.len() / 2, half.len() - 2, half.len() - 1] {
        let answer = stage.stream(events(&[role(), text("Half")]) + &half[..cut]).await;
        assert_eq!(broken(&answer, "Half")["code"], "stream_truncated", "cut at {cut}");
    }
}

/// `[DONE]` without a finish is handed on as it came: the provider says that it is complete. It is counted.
#[tokio::test]
async fn fault_06_done_without_a_finish() {
    let stage = Stage::set().await;
    let answer = stage.stream(events(&[role(), text("All")]) + DONE).await;
    assert_eq!(answer.text(), events(&[role(), text("All")]) + DONE);
    let booked = stage.world.booking().await;
    assert_eq!((booked.status, booked.error), (200, None));
    let odd = [("provider", "openai"), ("reason", "missing_finish_reason")];
    counted(&stage.world, "perpetuo_oddities_total", &odd, 1.0).await;
}

/// Lines may end in CR, LF or CRLF, in any mixture and any cut: the events are the same.
#[tokio::test]
async fn fault_09_line_ends() {
    let stage = Stage::set().await;
    let chunks = [role(), text("One"), text(" two"), stop()];
    for [one, two] in [["\r\n", "\r\n"], ["\r", "\r"], ["\n", "\n"], ["\n", "\r\n"], ["\r\n", "\n"], ["\n", "\r"]] {
        let asked = stage.ask(hello_stream(ALONE));
        let mut call = stage.hand.request().await;
        call.send(STREAM_HEAD).await;
        let all: String = chunks.iter().map(|chunk| format!("data: {chunk}{one}{two}")).collect();
        for byte in (all + "data: [DONE]" + one + two).as_bytes() {
            call.send([*byte]).await;
        }
        drop(call);
        let answer = answered(asked).await;
        let got = answer.events();
        let expected: Vec<String> = chunks.iter().map(Value::to_string).chain(["[DONE]".to_owned()]).collect();
        assert_eq!(got, expected, "{one:?} {two:?}");
    }
}

/// A byte order mark, `data:` without a space, several data lines, unknown fields, `id:` and `retry:` are read as the grammar says.
#[tokio::test]
async fn fault_10_grammar_of_events() {
    let stage = Stage::set().await;
    let long = text(" two").to_string();
    let (head, tail) = long.split_at(long.find(',').unwrap() + 1);
    let stream = format!(
        "\u{feff}data:{}\n\nid: 7\nretry: 10\nnonsense\nfoo: bar\ndata: {}\n\ndata: {head}\ndata: {tail}\n\nevent: message\ndata: {}\n\n{DONE}",
        role(),
        text("One"),
        stop()
    );
    let answer = stage.stream(stream).await;
    let got = answer.events();
    assert_eq!((said(&got).as_str(), got.last().unwrap().as_str()), ("One two", "[DONE]"), "{got:?}");
    assert_eq!(stage.world.booking().await.error, None);
}

/// Comments and pings are no content: they neither commit a stream nor become chunks.
#[tokio::test]
async fn fault_11_comments_and_pings() {
    let stage = Stage::set().await;
    let pings = ": OPENROUTER PROCESSING\n\nevent: ping\ndata:\n\ndata: \n\n";
    stage.falls_over("nothing but pings", hello_stream(SHARED), format!("{STREAM_HEAD}{pings}")).await;
    let stream = [pings, &events(&[role(), text("One")]), pings, &events(&[stop()]), DONE].concat();
    let answer = stage.stream(stream).await;
    let expected: Vec<String> = [role(), text("One"), stop()].iter().map(Value::to_string).collect();
    assert_eq!(answer.events()[..3], expected);

    let (hand, world) = (Hand::start().await, World::plain().await);
    world.add_at("anthropic", &hand.url(), |_| ());
    let asked = tokio::spawn(Answer::of(world.chat_request(world.client()).json(&hello_stream("claude-haiku-4-5"))));
    let mut call = hand.request().await;
    call.send_stream_head().await;
    for (name, data) in anthropic_story() {
        call.send(format!("event: ping\ndata: {{\"type\": \"ping\"}}\n\nevent: {name}\ndata: {data}\n\n")).await;
    }
    drop(call);
    let answer = answered(asked).await;
    assert!(said(&answer.events()) == "Hi" && !answer.text().contains("ping"), "{}", answer.text());
}

fn anthropic_story() -> Vec<(&'static str, Value)> {
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5", "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 3, "output_tokens": 1}});
    let delta = json!({"type": "text_delta", "text": "Hi"});
    let end = json!({"stop_reason": "end_turn", "stop_sequence": null});
    vec![
        ("message_start", json!({"type": "message_start", "message": message})),
        (
            "content_block_start",
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        ),
        ("content_block_delta", json!({"type": "content_block_delta", "index": 0, "delta": delta})),
        ("content_block_stop", json!({"type": "content_block_stop", "index": 0})),
        ("message_delta", json!({"type": "message_delta", "delta": end, "usage": {"output_tokens": 3}})),
        ("message_stop", json!({"type": "message_stop"})),
    ]
}

/// Hundreds of thousands of chunks of one byte each are read as quickly as they come.
#[tokio::test(flavor = "multi_thread")]
async fn fault_13_one_byte_chunks() {
    let stage = Stage::over(World::plain().await).await;
    let long = "x".repeat(300_000);
    let body = events(&[role(), text(&long), stop()]) + DONE;
    let mut wire = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for byte in body.as_bytes() {
        wire.extend_from_slice(&[b'1', b'\r', b'\n', *byte, b'\r', b'\n']);
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    let answer = stage.reply(hello_stream(ALONE), wire).await;
    assert_eq!(said(&answer.events()).len(), long.len());
    assert!(answer.text().ends_with(DONE));
}

/// Chunks without `choices`, or with none in it, are handed on; a usage that stands alone is booked.
#[tokio::test]
async fn fault_14_chunks_without_choices() {
    let stage = Stage::set().await;
    let bare = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": ALONE, "x": 1.50});
    let empty =
        json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": ALONE, "choices": []});
    let counts = usage(&json!({"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}));
    let stream = events(&[role(), bare.clone(), text("One"), empty.clone(), stop(), counts]) + DONE;
    let answer = stage.stream(stream).await;
    assert_eq!(answer.text(), events(&[role(), bare, text("One"), empty, stop()]) + DONE);
    let attempt = &stage.world.booking().await.attempts[0];
    assert_eq!((attempt.usage.prompt_tokens(), attempt.usage.output, attempt.certainty), (9, 2, Certainty::Exact));
}

/// `usage: null` says nothing, and of counts that grow from chunk to chunk the last ones are booked, once.
#[tokio::test]
async fn fault_15_usage_in_every_chunk() {
    let stage = Stage::set().await;
    let mut chunks = vec![role()];
    for output in 1..=4 {
        let mut piece = text("x");
        piece["usage"] = match output % 2 {
            0 => Value::Null,
            _ => json!({"prompt_tokens": 9, "completion_tokens": output, "total_tokens": 9 + output}),
        };
        chunks.push(piece);
    }
    let mut last = stop();
    last["usage"] = json!({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14});
    chunks.push(last);
    let answer = stage.stream(events(&chunks) + DONE).await;
    assert_eq!(said(&answer.events()), "xxxx");
    let attempt = &stage.world.booking().await.attempts[0];
    assert_eq!((attempt.usage.prompt_tokens(), attempt.usage.output, attempt.certainty), (9, 5, Certainty::Exact));
}

/// Without any usage what passed is counted, and booked as estimated.
#[tokio::test]
async fn fault_16_no_usage() {
    let stage = Stage::set().await;
    let answer = stage.stream(events(&[role(), text("one two three four"), stop()]) + DONE).await;
    assert!(answer.text().ends_with(DONE));
    let attempt = &stage.world.booking().await.attempts[0];
    assert_eq!(attempt.certainty, Certainty::Estimated);
    assert!(attempt.usage.input > 0 && attempt.usage.output > 0 && attempt.cost.dollars() > 0.0, "{attempt:?}");
}

/// Counts that are negative, fractions, texts, beyond all bounds or fewer than before break nothing: what can't be believed is counted
/// from what passed, and the attempt is booked as estimated, `absurd_figure`, and counted.
#[tokio::test]
async fn fault_17_absurd_usage() {
    let stage = Stage::set().await;
    let absurd = [
        json!({"prompt_tokens": -5, "completion_tokens": -1, "total_tokens": -6}),
        json!({"prompt_tokens": 1.5, "completion_tokens": 2.7, "total_tokens": 4.2}),
        json!({"prompt_tokens": "9", "completion_tokens": "many", "total_tokens": []}),
        json!({"prompt_tokens": u64::MAX, "completion_tokens": u64::MAX, "total_tokens": u64::MAX}),
        json!({"prompt_tokens": 9, "completion_tokens": 9_007_199_254_740_993_u64}),
        json!({"prompt_tokens": 1e300, "completion_tokens": 1e300}),
    ];
    for (turn, counts) in absurd.iter().enumerate() {
        let answer = stage.stream(events(&[role(), text("One"), stop(), usage(counts)]) + DONE).await;
        assert_eq!(answer.text(), events(&[role(), text("One"), stop()]) + DONE, "{counts}");
        booked_as_absurd(&stage.world.booked(turn + 1).await[turn].attempts[0], counts);
        let whole = ANSWER.replace(r#""usage":{"#, r#""was":{"#).replacen('{', &format!(r#"{{"usage":{counts},"#), 1);
        let answer = stage.reply(hello(ALONE), json_answer(200, "", &whole)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let records = stage.world.booked(2 * absurd.len()).await;
    for (record, counts) in records.iter().skip(1).step_by(2).zip(&absurd) {
        booked_as_absurd(&record.attempts[0], counts);
    }
    let odd = [("provider", "openai"), ("reason", "absurd_usage")];
    counted(&stage.world, "perpetuo_oddities_total", &odd, 2.0 * absurd.len() as f64).await;

    let none = stage.stream(events(&[role(), text("One"), stop(), usage(&json!("none"))]) + DONE).await;
    assert_eq!(none.text(), events(&[role(), text("One"), stop()]) + DONE, "a text in the place of all counts");
    let fewer = [9, 5].map(|output| usage(&json!({"prompt_tokens": 3, "completion_tokens": output})));
    let answer = stage.stream(events(&[role(), text("One"), stop()]) + &events(&fewer) + DONE).await;
    assert!(answer.text().ends_with(DONE));
    let last = stage.world.booked(2 * absurd.len() + 2).await.pop().unwrap();
    assert_eq!(last.attempts[0].usage.output, 5, "the last word stands");
    booked_as_absurd(&last.attempts[0], &json!("fewer than before"));
    let negative = |data: &str| data.replace(r#""output_tokens":3"#, r#""output_tokens":-3"#).into_bytes();
    let (said, rest) = from_anthropic(&stage.world, negative).await;
    assert_eq!((said.as_str(), rest.last().unwrap().as_str()), ("Hi", "[DONE]"));
    let last = stage.world.booked(2 * absurd.len() + 3).await.pop().unwrap();
    booked_as_absurd(&last.attempts[0], &json!("of Anthropic"));
    assert_eq!(stage.world.chat(&hello_stream(SHARED)).await.status, 200, "it goes on");
}

fn booked_as_absurd(attempt: &AttemptRecord, counts: &Value) {
    assert_eq!(attempt.certainty, Certainty::Estimated, "{counts}: {attempt:?}");
    assert_eq!(attempt.why.as_deref(), Some("absurd_figure"), "{counts}");
    let (prompt, output) = (attempt.usage.prompt_tokens(), attempt.usage.output);
    assert!((1..100).contains(&prompt) && (1..100).contains(&output), "{counts}: {attempt:?}");
    assert!(attempt.cost.dollars() > 0.0 && attempt.cost.dollars() < 0.01, "{counts}: {attempt:?}");
}

/// An event that is no JSON is hidden before the first content, as a failure of the provider. After it, a damaged chunk is forwarded as
/// it came to clients of the same dialect, and counted; any other text, and what would have to be translated, ends the stream with an
/// error that does not repeat it.
#[tokio::test]
async fn fault_19_event_that_is_no_json() {
    let stage = Stage::set().await;
    let bad = "data: {\"choices\": [\n\n";
    let first = [STREAM_HEAD, &events(&[role()]), bad].concat();
    stage.falls_over("before content", hello_stream(SHARED), first).await;
    let whole = [&events(&[role(), text("One")]), bad, &events(&[text(" two"), stop()]), DONE].concat();
    let answer = stage.stream(&whole).await;
    assert_eq!(answer.text(), whole);
    let odd = [("provider", "openai"), ("reason", "invalid_json")];
    counted(&stage.world, "perpetuo_oddities_total", &odd, 1.0).await;
    let cut = stage.stream([&events(&[role(), text("One")]), bad].concat()).await;
    assert!(cut.text().contains(bad) && cut.text().contains("stream_truncated"), "it finishes nothing: {}", cut.text());

    let (mut stream, mut call) = stage.begun(&[role(), text("One")]).await;
    call.send(format!("data: Bad gateway\n\n{DONE}")).await;
    let rest = stream.rest().await;
    assert!(rest.len() == 1 && rest[0].contains("provider_protocol_error") && !rest[0].contains("gateway"), "{rest:?}");

    let half = |data: &str| if data.contains("content_block_stop") { "{\"type\"".into() } else { data.into() };
    let (said, rest) = from_anthropic(&stage.world, half).await;
    assert!(said == "Hi" && rest.len() == 1 && rest[0].contains("provider_protocol_error"), "{rest:?}");
}

/// The first text of a stream that Anthropic serves, whose events are changed on their way, and the events after it.
async fn from_anthropic(world: &World, change: impl Fn(&str) -> Vec<u8>) -> (String, Vec<String>) {
    let hand = Hand::start().await;
    world.add_at("anthropic", &hand.url(), |_| ());
    let request = world.chat_request(world.client()).json(&hello_stream("claude-haiku-4-5"));
    let asked = tokio::spawn(EventStream::of(request));
    let mut call = hand.request().await;
    call.send_stream_head().await;
    let story = anthropic_story();
    let (before, after) = story.split_at(3);
    let sent = |(name, data): &(&str, Value)| {
        [format!("event: {name}\ndata: ").into_bytes(), change(&data.to_string()), b"\n\n".to_vec()].concat()
    };
    call.send(before.iter().flat_map(sent).collect::<Vec<_>>()).await;
    let mut stream = within("the head", asked).await.unwrap();
    let first = stream.first_text().await;
    call.try_send(after.iter().flat_map(sent).collect::<Vec<_>>()).await;
    drop(call);
    (first, stream.rest().await)
}

/// Bytes that are no UTF-8 are handed on as they came; where an event is written anew, U+FFFD stands in their place. Both is counted.
#[tokio::test]
async fn fault_20_invalid_utf8() {
    let stage = Stage::set().await;
    let mut bytes = (events(&[role(), text("One"), text("@"), stop()]) + DONE).into_bytes();
    let at = bytes.iter().position(|byte| *byte == b'@').unwrap();
    bytes[at] = 0xff;
    let answer = stage.stream(&bytes).await;
    assert_eq!(answer.body, bytes, "{}", answer.text());
    assert_eq!(stage.world.booking().await.error, None);
    let count = |provider, count| {
        let odd = [("provider", provider), ("reason", "invalid_utf8")];
        let world = &stage.world;
        async move { counted(world, "perpetuo_oddities_total", &odd, count).await }
    };
    count("openai", 1.0).await;

    let damaged = |data: &str| match data.split_once("Hi") {
        Some((before, after)) => [before.as_bytes(), b"H\xff", after.as_bytes()].concat(),
        None => data.into(),
    };
    let (said, rest) = from_anthropic(&stage.world, damaged).await;
    assert_eq!((said.as_str(), rest.last().unwrap().as_str()), ("H\u{fffd}", "[DONE]"));
    count("anthropic", 1.0).await;
}

/// Pieces of parallel tool calls are handed on as they came, in their order; indexes that begin in disorder are put right, and each
/// piece stays with its call.
#[tokio::test]
async fn fault_21_tool_calls_in_pieces() {
    let stage = Stage::set().await;
    let delta = |call: Value| super::chunk(&json!({"tool_calls": [call]}), None);
    let open = |index: u32| {
        let function = json!({"name": "f", "arguments": ""});
        delta(json!({"index": index, "id": format!("call_{index}"), "type": "function", "function": function}))
    };
    let piece = |index: u32, arguments: &str| delta(json!({"index": index, "function": {"arguments": arguments}}));
    for order in [[0, 1], [1, 0]] {
        let pieces = [piece(0, "{\"a\""), piece(1, "{"), piece(0, ":1}"), piece(1, "}")];
        let end = super::chunk(&json!({}), Some("tool_calls"));
        let chunks = [vec![role(), open(order[0]), open(order[1])], pieces.to_vec(), vec![end]].concat();
        let answer = stage.stream(events(&chunks) + DONE).await;
        if order == [0, 1] {
            assert_eq!(answer.text(), events(&chunks) + DONE);
        }
        assert_eq!(
            calls(&answer),
            [("call_0", "{\"a\":1}"), ("call_1", "{}")].map(|(id, said)| (id.into(), said.into()))
        );
    }
}

/// The calls of a stream as an SDK puts them together: their ids and arguments.
fn calls(answer: &Answer) -> Vec<(String, String)> {
    let mut calls = std::collections::BTreeMap::<u64, (String, String)>::new();
    for chunk in answer.events().iter().filter_map(|event| serde_json::from_str::<Value>(event).ok()) {
        let call = &chunk["choices"][0]["delta"]["tool_calls"][0];
        let Some(index) = call["index"].as_u64() else { continue };
        let (id, arguments) = calls.entry(index).or_default();
        id.push_str(call["id"].as_str().unwrap_or_default());
        arguments.push_str(call["function"]["arguments"].as_str().unwrap_or_default());
    }
    let mut calls: Vec<_> = calls.into_values().collect();
    calls.sort();
    calls
}

/// What comes after `[DONE]` is not handed on, and its connection is not used again; nor is a finish that is said twice.
#[tokio::test]
async fn fault_22_data_after_the_end() {
    let stage = Stage::set().await;
    for after in [event(text("more")), "data: {\"half\"".to_owned(), DONE.to_owned()] {
        let asked = stage.ask(hello_stream(ALONE));
        let mut call = stage.hand.request().await;
        let body = events(&[role(), text("One"), stop()]) + DONE;
        let all = format!("{}{DONE}{after}", events(&[role(), text("One"), stop(), stop()]));
        call.send(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{all}\r\n",
            all.len()
        ))
        .await;
        let answer = answered(asked).await;
        assert_eq!(answer.text(), body);
        call.closed().await;
    }
}

/// A stream that stalls ends at `timeouts.idle`: hidden before the first content, told after it.
#[tokio::test]
async fn fault_23_stalled_stream() {
    let stage = Stage::set().await;
    for (model, told) in [(SHARED, false), (ALONE, true)] {
        let asked = stage.ask(hello_stream(model));
        let mut call = stage.hand.request().await;
        call.send_stream_head().await;
        call.send(events(&[role()])).await;
        if told {
            call.send(events(&[text("One")])).await;
        }
        let answer = answered(asked).await;
        match told {
            true => assert_eq!(broken(&answer, "One")["code"], "provider_timeout"),
            false => served_by_the_healthy(&answer, "silence after the role"),
        }
        call.closed().await;
    }
}

/// While the provider of a stream that has begun is silent, its client gets a comment every `timeouts.ping`, which no SDK takes for
/// content; none before the first content, and none where it is zero. They do not prolong the provider's own time.
#[tokio::test(flavor = "multi_thread")]
async fn fault_23_pings() {
    for (ping, http2) in [(50, false), (50, true), (0, false)] {
        let world = World::start(|config| {
            config.timeouts.idle = Duration::from_secs(1);
            config.timeouts.ping = Duration::from_millis(ping);
        });
        let stage = Stage::over(world.await).await;
        let client = if http2 { stage.world.client_h2() } else { stage.world.client() };
        let asked = tokio::spawn(Answer::of(stage.world.chat_request(client).json(&hello_stream(ALONE))));
        let mut call = stage.hand.request().await;
        call.send_stream_head().await;
        // Silence before the first content is hidden, and so are its pings.
        tokio::time::sleep(Duration::from_millis(300)).await;
        call.send(events(&[role(), text("One")])).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        call.send(event(text(" two"))).await;
        let answer = answered(asked).await;
        let whole = answer.text();
        assert_eq!(broken(&answer, "One two")["code"], "provider_timeout", "it was silent for as long as it may be");
        let (before, after) = whole.split_once(" two").unwrap();
        assert!(whole.starts_with("data: "), "{whole}");
        let pings = [before, after].map(|part| part.matches(": ping\n\n").count());
        match ping {
            0 => assert_eq!(pings, [0, 0]),
            // How many depends on how busy the machine is; one is due every 50 ms.
            _ => assert!(pings[0] >= 1 && pings[1] >= 3, "{pings:?}: {whole}"),
        }
    }
}

/// A byte now and then keeps no stream alive beyond the deadline of its request.
#[tokio::test(flavor = "multi_thread")]
async fn fault_24_trickle() {
    let stage = Stage::set().await;
    let mut body = hello_stream(ALONE);
    body["timeout"] = json!(0.6);
    let asked = stage.ask(body);
    let mut call = stage.hand.request().await;
    call.send_stream_head().await;
    call.send(events(&[role(), text("One")])).await;
    let mut dripped = 0;
    while call.try_send(":").await && dripped < 3000 {
        dripped += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(dripped < 3000, "the trickle was never cut");
    assert_eq!(broken(&answered(asked).await, "One")["code"], "deadline_exceeded");
}
