//! What becomes of each kind of message and part.

use super::*;

fn run(messages: &Value) -> Result<(Value, Value, Vec<String>)> {
    let messages: Vec<Message> = serde_json::from_value(messages.clone()).unwrap();
    let done = Conversation::translate(&messages)?;
    let (system, turns) = (crate::api::literal::value(&done.system), crate::api::literal::value(&done.turns));
    Ok((system, turns, done.warnings.into_names()))
}

fn refused(messages: &Value) -> (ErrorKind, String) {
    let error = run(messages).unwrap_err();
    (error.kind(), error.param().unwrap().to_owned())
}

fn parts(parts: &Value) -> Value {
    json!([{"role": "user", "content": parts}])
}

#[test]
fn roles_alternate_and_instructions_move_to_the_top() {
    let (system, turns, warnings) = run(&json!([
        {"role": "system", "content": "one"},
        {"role": "user", "content": "a"},
        {"role": "developer", "content": [{"type": "text", "text": "two", "cache_control": {"type": "ephemeral"}}]},
        {"role": "user", "content": ""},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": null},
        {"role": "assistant", "content": "c", "refusal": "d"},
    ]))
    .unwrap();
    let two = json!({"type": "text", "text": "two", "cache_control": {"type": "ephemeral"}});
    assert_eq!(system, json!([{"type": "text", "text": "one"}, two]));
    let text = |text: &str| json!({"type": "text", "text": text});
    assert_eq!(
        turns,
        json!([
            {"role": "user", "content": [text("a"), text("b")]},
            {"role": "assistant", "content": [text("c"), text("d")]},
        ])
    );
    assert!(warnings.is_empty());
}

#[test]
fn messages_of_white_space_are_left_out_and_marks_inside_of_results_move_to_the_result() {
    let mark = json!({"type": "ephemeral", "ttl": "1h"});
    let call = json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let (system, turns, _) = run(&json!([
        {"role": "system", "content": " \n"},
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "\n\n"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "1", "cache_control": mark}]},
    ]))
    .unwrap();
    assert_eq!(system, json!([]));
    let result = json!({"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "1"}],
        "cache_control": mark});
    assert_eq!(turns[1]["content"], json!([{"type": "tool_use", "id": "a", "name": "f", "input": {}}]));
    assert_eq!(turns[2]["content"], json!([result]));
}

#[test]
fn openais_breakpoint_marks_what_is_cached() {
    let mark = json!({"mode": "explicit"});
    let (_, turns, warnings) =
        run(&parts(&json!([{"type": "text", "text": "a", "prompt_cache_breakpoint": mark}]))).unwrap();
    assert_eq!(turns[0]["content"][0]["cache_control"], json!({"type": "ephemeral"}));
    assert!(warnings.is_empty());
}

#[test]
fn a_document_may_be_given_by_its_address() {
    let url = "https://x.example/a.pdf";
    for member in ["file_data", "file_id"] {
        let (_, turns, _) =
            run(&parts(&json!([{"type": "file", "file": {member: url, "filename": "a.pdf"}}]))).unwrap();
        let document = json!({"type": "document", "source": {"type": "url", "url": url}, "title": "a.pdf"});
        assert_eq!(turns[0]["content"], json!([document]));
    }
}

#[test]
fn a_tool_loop_keeps_its_reasoning_its_calls_and_its_results() {
    let thinking = json!({"type": "thinking", "thinking": "t", "signature": "s"});
    let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "index": 0, "function": {"name": "f", "arguments": arguments}});
    let (_, turns, warnings) = run(&json!([
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "so", "reasoning_content": "t", "thinking_blocks": [thinking],
         "tool_calls": [call("a", "{\"x\": 1.0}"), call("f.g:0", "")]},
        {"role": "tool", "tool_call_id": "a", "name": "f", "content": "1", "cache_control": {"type": "ephemeral"}},
        {"role": "tool", "tool_call_id": "f.g:0", "content": [{"type": "text", "text": "2"}], "is_error": true},
        {"role": "user", "content": "on"},
    ]))
    .unwrap();
    let text = |text: &str| json!({"type": "text", "text": text});
    assert_eq!(
        turns[1]["content"],
        json!([
            thinking,
            text("so"),
            {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1.0}},
            {"type": "tool_use", "id": "f_g_0", "name": "f", "input": {}},
        ])
    );
    let mark = json!({"type": "ephemeral"});
    assert_eq!(
        turns[2]["content"],
        json!([
            {"type": "tool_result", "tool_use_id": "a", "content": [text("1")], "cache_control": mark},
            {"type": "tool_result", "tool_use_id": "f_g_0", "content": [text("2")], "is_error": true},
            text("on"),
        ])
    );
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn media_find_their_sources() {
    let text = STANDARD.encode("Grüezi");
    let (_, turns, warnings) = run(&parts(&json!([
        {"type": "image_url", "image_url": {"url": "https://x.org/a.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,AAAA", "detail": "auto"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE", "filename": "a.pdf"}},
        {"type": "file", "file": {"file_data": format!("data:text/markdown;charset=utf-8;base64,{text}")}},
        {"type": "file", "file": {"file_id": "file_1"}, "citations": {"enabled": true}},
    ])))
    .unwrap();
    assert_eq!(
        turns[0]["content"],
        json!([
            {"type": "image", "source": {"type": "url", "url": "https://x.org/a.png"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "AAAA"}},
            {"type": "document", "title": "a.pdf",
             "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Grüezi"}},
            {"type": "document", "source": {"type": "file", "file_id": "file_1"}, "citations": {"enabled": true}},
        ])
    );
    assert_eq!(warnings, ["messages[0].content[0].image_url.detail"]);
}

#[test]
fn an_image_is_borrowed_from_the_request() {
    let source = image(At { message: 0, part: None }, "data:image/png;base64,AAAA").unwrap();
    assert!(matches!(source, Source::Base64 { media_type: "image/png", data: "AAAA" }));
}

#[test]
fn an_answer_in_anthropics_own_blocks_is_sent_back_unchanged() {
    let blocks = json!([{"type": "server_tool_use", "id": "s"}, {"type": "text", "text": "a", "citations": []}]);
    let (_, turns, warnings) = run(&json!([
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a", "provider_specific_fields": {"content_blocks": blocks}},
    ]))
    .unwrap();
    assert_eq!(turns[1]["content"], blocks);
    assert!(warnings.is_empty());
}

#[test]
fn deprecated_function_calls_are_paired_by_an_id_that_is_always_the_same() {
    let (_, turns, _) = run(&json!([
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "1"},
    ]))
    .unwrap();
    assert_eq!(turns[1]["content"][0]["id"], "function_call_1");
    assert_eq!(turns[2]["content"][0]["tool_use_id"], "function_call_1");
}

#[test]
fn what_is_lost_is_named() {
    let (_, _, warnings) = run(&json!([
        {"role": "user", "name": "bob", "content": [{"type": "text", "text": "q", "mood": "gay"}]},
        {"role": "assistant", "content": "a", "reasoning_content": "no signature", "audio": {"id": "x"},
         "annotations": [], "color": "red"},
    ]))
    .unwrap();
    let expected = [
        "messages[0].name",
        "messages[0].content[0].mood",
        "messages[1].audio",
        "messages[1].color",
        "messages[1].reasoning_content",
    ];
    assert_eq!(warnings, expected);
}

#[test]
fn what_cant_be_said_is_refused_by_its_place() {
    use ErrorKind::{InvalidRequest, UnsupportedParameter};
    let call = |arguments: &str| json!([{"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": arguments}}]}]);
    let arguments = (InvalidRequest, "messages[0].tool_calls[0].function.arguments".to_owned());
    assert_eq!(refused(&call("{\"cut")), arguments);
    assert_eq!(refused(&call("[1]")), arguments);
    let audio =
        json!([{"type": "text", "text": "a"}, {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]);
    assert_eq!(refused(&parts(&audio)), (UnsupportedParameter, "messages[0].content[1].input_audio".to_owned()));
    let image = json!([{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]);
    assert_eq!(refused(&parts(&image)), (InvalidRequest, "messages[0].content[0].image_url.url".to_owned()));
    let zip = json!([{"type": "file", "file": {"file_data": "data:application/zip;base64,AAAA"}}]);
    assert_eq!(refused(&parts(&zip)), (UnsupportedParameter, "messages[0].content[0].file.file_data".to_owned()));
    let orphan = json!([{"role": "tool", "content": "1"}]);
    assert_eq!(refused(&orphan), (InvalidRequest, "messages[0].tool_call_id".to_owned()));
    let orphan = json!([{"role": "function", "name": "f", "content": "1"}]);
    assert_eq!(refused(&orphan), (InvalidRequest, "messages[0].role".to_owned()));
    let thoughts = json!([{"role": "assistant", "content": "a", "thinking_blocks": [{"type": "text"}]}]);
    assert_eq!(refused(&thoughts), (InvalidRequest, "messages[0].thinking_blocks".to_owned()));
    let silence = json!([{"role": "system", "content": "x"}, {"role": "user", "content": ""}]);
    assert_eq!(refused(&silence), (UnsupportedParameter, "messages".to_owned()));
}
