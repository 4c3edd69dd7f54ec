//! Streams as Anthropic sends them, and what a client reads of them.

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::error::ErrorKind;

fn translator(include_usage: bool) -> Translator {
    Translator::new(AnswerContext {
        provider: "anthropic",
        id: "chatcmpl-ours".to_owned(),
        created: 7,
        model: "ours".to_owned(),
        include_usage,
        json_object: false,
    })
}

fn feed(translator: &mut Translator, data: &str, out: &mut StreamOut) -> Result<()> {
    let data = Bytes::copy_from_slice(data.as_bytes());
    translator.event(&Event { name: None, raw: data.clone(), data }, out)
}

/// The deltas and finish reasons of a stream, and what the caller learns of it.
fn run(translator: &mut Translator, events: &[Value]) -> (Vec<Value>, StreamOut) {
    let mut out = StreamOut::default();
    for event in events {
        feed(translator, &event.to_string(), &mut out).unwrap();
    }
    let written = String::from_utf8(out.bytes.clone()).unwrap();
    let chunks = written.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap());
    let chunks = chunks.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap());
    (chunks.collect(), out)
}

fn start() -> Value {
    json!({"type": "message_start", "message": {"id": "msg_1", "model": "claude-x", "content": [],
        "usage": {"input_tokens": 9, "cache_read_input_tokens": 4, "output_tokens": 1}}})
}

fn begin(index: u64, block: &Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": block})
}

fn delta(index: u64, delta: &Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

fn stop(index: u64) -> Value {
    json!({"type": "content_block_stop", "index": index})
}

fn end(reason: &str) -> [Value; 2] {
    let usage = json!({"output_tokens": 12});
    [
        json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}),
        json!({"type": "message_stop"}),
    ]
}

#[test]
fn a_compaction_goes_out_whole_with_the_other_blocks() {
    let piece = |more: &Value| delta(0, &json!({"type": "compaction_delta", "content": more}));
    let events = [
        vec![
            start(),
            begin(0, &json!({"type": "compaction", "content": null})),
            piece(&json!("so ")),
            piece(&json!("far")),
        ],
        vec![
            stop(0),
            begin(1, &json!({"type": "text", "text": ""})),
            delta(1, &json!({"type": "text_delta", "text": "a"})),
        ],
        vec![stop(1)],
        end("end_turn").to_vec(),
    ];
    let (chunks, _) = run(&mut translator(false), &events.concat());
    let fields = &chunks.last().unwrap()["choices"][0]["delta"]["provider_specific_fields"];
    let blocks = json!([{"type": "compaction", "content": "so far"}, {"type": "text", "text": "a"}]);
    assert_eq!(fields["content_blocks"], blocks);
}

#[test]
fn an_object_that_was_asked_for_in_words_comes_without_its_fence() {
    let mut translator = translator(false);
    translator.context.json_object = true;
    let text = |text: &str| delta(0, &json!({"type": "text_delta", "text": text}));
    let events = [
        vec![
            start(),
            begin(0, &json!({"type": "text", "text": ""})),
            text("``"),
            text("`json\n{\"a\""),
            text(":1}\n`"),
        ],
        vec![text("``"), stop(0)],
        end("end_turn").to_vec(),
    ];
    let (chunks, _) = run(&mut translator, &events.concat());
    let said: String = deltas(&chunks).iter().filter_map(|delta| delta["content"].as_str()).collect();
    assert_eq!(said, "{\"a\":1}");
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
}

fn deltas(chunks: &[Value]) -> Vec<Value> {
    chunks.iter().map(|chunk| chunk["choices"][0]["delta"].clone()).collect()
}

#[test]
fn text_arrives_as_it_comes_and_the_usage_chunk_is_the_last() {
    let [reason, last] = end("end_turn");
    let events = [
        start(),
        json!({"type": "ping"}),
        json!({"type": "an_event_of_tomorrow", "delta": "of another shape"}),
        begin(0, &json!({"type": "text", "text": ""})),
        delta(0, &json!({"type": "text_delta", "text": "Grüezi"})),
        delta(0, &json!({"type": "a_delta_of_tomorrow"})),
        stop(0),
        reason,
        last,
    ];
    let mut translator = translator(true);
    let (chunks, out) = run(&mut translator, &events);
    assert_eq!(chunks.len(), 3);
    assert_eq!(
        chunks[0],
        json!({"id": "msg_1", "object": "chat.completion.chunk", "created": 7, "model": "claude-x", "usage": null,
            "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Grüezi"}, "logprobs": null,
                "finish_reason": null}]})
    );
    assert_eq!(chunks[1]["choices"][0]["finish_reason"], "stop");
    assert_eq!((&chunks[2]["choices"], &chunks[2]["usage"]["total_tokens"]), (&json!([]), &json!(25)));
    assert!(out.bytes.ends_with(DONE) && out.done);
    assert_eq!(out.generated, "Grüezi".len() as u64);
    assert_eq!(translator.end(&mut StreamOut::default()), End::Complete);
}

#[test]
fn nothing_is_committed_before_the_first_content() {
    let mut translator = translator(false);
    let (chunks, out) = run(&mut translator, &[start(), begin(0, &json!({"type": "text", "text": ""}))]);
    assert!(chunks.is_empty() && !out.content);
    assert_eq!(out.usage.unwrap().prompt_tokens(), 13);
    assert_eq!(translator.end(&mut StreamOut::default()), End::Truncated);
}

#[test]
fn reasoning_ends_with_a_block_that_can_be_sent_back() {
    let redacted = json!({"type": "redacted_thinking", "data": "xyz"});
    let events = [
        begin(0, &json!({"type": "thinking", "thinking": "", "signature": ""})),
        delta(0, &json!({"type": "thinking_delta", "thinking": "a"})),
        delta(0, &json!({"type": "thinking_delta", "thinking": "b"})),
        delta(0, &json!({"type": "signature_delta", "signature": "sig"})),
        stop(0),
        begin(1, &redacted),
        stop(1),
    ];
    let (chunks, _) = run(&mut translator(false), &events);
    let whole = json!({"type": "thinking", "thinking": "ab", "signature": "sig", "index": 0});
    let redacted = json!({"type": "redacted_thinking", "data": "xyz", "index": 1});
    assert_eq!(
        deltas(&chunks),
        [
            json!({"role": "assistant", "reasoning_content": "a"}),
            json!({"reasoning_content": "b"}),
            json!({"thinking_blocks": [whole]}),
            json!({"thinking_blocks": [redacted]}),
        ]
    );
}

#[test]
fn arguments_come_in_pieces_and_a_call_without_any_gets_an_empty_object() {
    let tool = |id: &str| json!({"type": "tool_use", "id": id, "name": "f", "input": {}});
    let [reason, last] = end("tool_use");
    let events = [
        begin(1, &tool("one")),
        delta(1, &json!({"type": "input_json_delta", "partial_json": ""})),
        delta(1, &json!({"type": "input_json_delta", "partial_json": "{\"a\":"})),
        delta(1, &json!({"type": "input_json_delta", "partial_json": "1}"})),
        stop(1),
        begin(2, &tool("two")),
        delta(2, &json!({"type": "input_json_delta", "partial_json": ""})),
        reason,
        last,
    ];
    let (chunks, _) = run(&mut translator(false), &events);
    let first = |index: u64, id: &str| json!({"index": index, "id": id, "type": "function", "function": {"name": "f", "arguments": ""}});
    let more = |index: u64, text: &str| json!({"tool_calls": [{"index": index, "function": {"arguments": text}}]});
    assert_eq!(
        deltas(&chunks),
        [
            json!({"role": "assistant", "tool_calls": [first(0, "one")]}),
            more(0, "{\"a\":"),
            more(0, "1}"),
            json!({"tool_calls": [first(1, "two")]}),
            more(1, "{}"),
            json!({}),
        ]
    );
    assert_eq!(chunks[5]["choices"][0]["finish_reason"], "tool_calls");
    assert!(chunks[0].get("usage").is_none(), "the client did not ask");
}

#[test]
fn blocks_without_a_place_come_whole_with_the_last_chunk() {
    let search = json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}});
    let found = json!({"type": "web_search_tool_result", "tool_use_id": "s", "content": []});
    let page = json!({"type": "web_search_result_location", "url": "https://x.org", "title": "X"});
    let [reason, last] = end("pause_turn");
    let events = [
        begin(0, &search),
        delta(0, &json!({"type": "input_json_delta", "partial_json": "{\"query\":\"x\"}"})),
        stop(0),
        begin(1, &found),
        stop(1),
        begin(2, &json!({"type": "text", "text": "", "citations": []})),
        delta(2, &json!({"type": "citations_delta", "citation": page})),
        delta(2, &json!({"type": "text_delta", "text": "äh"})),
        stop(2),
        reason,
        last,
    ];
    let (chunks, out) = run(&mut translator(false), &events);
    let cited = json!({"start_index": 0, "end_index": 2, "url": "https://x.org", "title": "X"});
    let blocks = json!([
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}},
        found,
        {"type": "text", "text": "äh", "citations": [page]},
    ]);
    assert_eq!(
        deltas(&chunks),
        [
            json!({"role": "assistant"}),
            json!({"content": "äh"}),
            json!({"annotations": [{"type": "url_citation", "url_citation": cited, "index": 0}]}),
            json!({"provider_specific_fields": {"stop_reason": "pause_turn", "content_blocks": blocks}}),
        ]
    );
    assert!(out.content);
}

#[test]
fn a_refusal_says_why() {
    let details = json!({"type": "refusal", "explanation": "No."});
    let events = [
        json!({"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": details}}),
        json!({"type": "message_stop"}),
    ];
    let (chunks, out) = run(&mut translator(false), &events);
    assert_eq!(deltas(&chunks), [json!({"role": "assistant", "refusal": "No."})]);
    assert_eq!(chunks[0]["choices"][0]["finish_reason"], "content_filter");
    assert!(out.usage.is_none());
}

#[test]
fn an_error_event_is_an_error_of_its_kind_and_garbage_is_a_protocol_error() {
    let table = [
        (r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, "Overloaded"),
        (r#"{"type":"error","error":{"type":"rate_limit_error","message":"Slow"}}"#, "Slow"),
        (r#"{"error":{"type":"api_error","message":"Oops"}}"#, "Oops"),
    ];
    let kinds = [ErrorKind::ProviderOverloaded, ErrorKind::ProviderRateLimited, ErrorKind::ProviderError];
    for ((event, message), kind) in table.into_iter().zip(kinds) {
        let error = feed(&mut translator(false), event, &mut StreamOut::default()).unwrap_err();
        assert_eq!((error.kind(), error.message()), (kind, message));
    }
    let alone = json!({"type": "input_json_delta", "partial_json": "{"});
    for garbage in ["<html>", "{}", r#"{"type":"message_start"}"#, &delta(5, &alone).to_string()] {
        let error = feed(&mut translator(false), garbage, &mut StreamOut::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ProviderProtocol, "{garbage}");
    }
}
