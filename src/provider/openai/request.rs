//! The few changes that a request of the same dialect needs.

use serde_json::{Map, Value, json};

use super::{ChatCall, OpenAi, Target, messages, tools};
use crate::api::chat::ResponseFormat;
use crate::api::rope::Rope;
use crate::api::scan::{Body, Edit};
use crate::error::{Error, ErrorKind, Result};

/// The schema of any object.
const ANY_OBJECT: &str = r#"{"type":"json_schema","json_schema":{"name":"object","schema":{"type":"object"}}}"#;

/// The chat body for the provider, and the names of the parameters that were taken out.
pub(super) fn chat(dialect: &OpenAi, call: &ChatCall<'_>, target: &Target<'_>) -> Result<(Rope, Vec<String>)> {
    let body = call.body;
    check(dialect, body, target.provider.name)?;
    let (mut edit, mut warnings) = common(dialect, body, target);
    if dialect.usage_unasked {
        edit.remove("stream_options");
    } else if call.head.stream && !call.head.include_usage {
        edit.set("stream_options", with_usage(body)?);
    }
    tools::choose(dialect, body, &mut edit, &mut warnings)?;
    if !dialect.json_object && matches!(body.get("response_format")?, Some(ResponseFormat::JsonObject)) {
        edit.set("response_format", ANY_OBJECT);
    }
    let schema = if dialect.json_schema { None } else { schema_in_words(body)? };
    if schema.is_some() {
        edit.set("response_format", r#"{"type":"json_object"}"#);
        warnings.push("response_format.json_schema".to_owned());
    }
    if let Some(messages) = messages::rewrite(dialect, body, target.model, schema, &mut warnings)? {
        edit.set("messages", messages);
    }
    if dialect.exacting {
        exact(body, target.model, &mut edit, &mut warnings)?;
    }
    Ok((edit.rope(), warnings))
}

/// What OpenAI itself would refuse.
fn exact(body: &Body, model: &str, edit: &mut Edit<'_>, warnings: &mut Vec<String>) -> Result<()> {
    if let Some(tools) = messages::without(body, "tools", &["cache_control"], "tools", warnings)? {
        edit.set("tools", tools);
    }
    let Some(bound) = body.raw("max_tokens").filter(|bound| *bound != "null" && reasons(model)) else { return Ok(()) };
    edit.remove("max_tokens");
    match body.raw("max_completion_tokens").filter(|newer| *newer != "null") {
        None => drop(edit.set("max_completion_tokens", bound)),
        Some(newer) if newer != bound => warnings.push("max_tokens".to_owned()),
        Some(_) => {}
    }
    Ok(())
}

/// Whether a model of OpenAI's reasons: the o series, and GPT from the fifth generation on.
fn reasons(model: &str) -> bool {
    let name = model.strip_prefix("ft:").unwrap_or(model);
    let generation = name.strip_prefix("gpt-").map(|rest| rest.split(|letter: char| !letter.is_ascii_digit()).next());
    match generation {
        Some(number) => number.and_then(|number| number.parse::<u32>().ok()).is_some_and(|number| number >= 5),
        None => name.strip_prefix('o').is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit())),
    }
}

/// The embeddings body for the provider, and the names of the parameters that were taken out.
pub(super) fn embeddings(dialect: &OpenAi, body: &Body, target: &Target<'_>) -> Result<(Rope, Vec<String>)> {
    let is_tokens = |input: Value| input.as_array().is_some_and(|items| !items.iter().all(Value::is_string));
    if !dialect.embeds_tokens && body.get("input")?.is_some_and(is_tokens) {
        let message = format!("The provider '{}' embeds texts, not tokens.", target.provider.name);
        return Err(Error::new(ErrorKind::UnsupportedParameter, message).with_param("input"));
    }
    let (edit, warnings) = common(dialect, body, target);
    Ok((edit.rope(), warnings))
}

/// Refuses what would change its meaning without being said so.
fn check(dialect: &OpenAi, body: &Body, provider: &'static str) -> Result<()> {
    let refuse = |message: String, param| Err(Error::new(ErrorKind::UnsupportedParameter, message).with_param(param));
    if !dialect.chat {
        return refuse(format!("The provider '{provider}' has embeddings only."), "model");
    }
    if dialect.single_choice && body.get::<u64>("n")?.is_some_and(|n| n > 1) {
        return refuse(format!("The provider '{provider}' returns one choice only: 'n' must be 1."), "n");
    }
    Ok(())
}

/// What every request needs: the provider's name of the model, its names of parameters, and nothing that it refuses.
fn common<'a>(dialect: &OpenAi, body: &'a Body, target: &Target<'_>) -> (Edit<'a>, Vec<String>) {
    let mut edit = body.edit();
    edit.set("model", json_text(target.model)).remove("timeout");
    let mut warnings = Vec::new();
    for name in dialect.unsupported {
        let Some(value) = body.raw(name) else { continue };
        edit.remove(name);
        if !is_neutral(value) {
            warnings.push((*name).to_owned());
        }
    }
    for (theirs, ours) in dialect.renamed {
        let Some(value) = body.raw(ours) else { continue };
        edit.remove(ours);
        if value == "null" {
            continue;
        }
        if body.raw(theirs).is_some_and(|older| older != "null" && older != value) {
            warnings.push((*theirs).to_owned());
        }
        edit.set(theirs, value);
    }
    for (name, default) in dialect.unsaid {
        if body.raw(name).is_some_and(|value| is_same(value, default)) {
            edit.remove(name);
        }
    }
    (edit, warnings)
}

/// Whether two JSON texts are the same value, as far as defaults are concerned: `0` and `0.0` are.
fn is_same(value: &str, default: &str) -> bool {
    value == default || value.parse::<f64>().is_ok_and(|number| default.parse() == Ok(number))
}

/// Neutral values ask for nothing, so taking them out changes nothing.
fn is_neutral(value: &str) -> bool {
    matches!(value, "null" | "false" | "{}" | "[]" | "\"\"") || value.parse::<f64>() == Ok(0.0)
}

/// The client's stream options with the usage asked for: without it, nobody would know what a stream cost.
fn with_usage(body: &Body) -> Result<String> {
    let mut options: Map<String, Value> = body.get("stream_options")?.unwrap_or_default();
    options.insert("include_usage".to_owned(), Value::Bool(true));
    Ok(Value::Object(options).to_string())
}

/// A system message that asks for JSON of the request's schema, for providers that only know "any JSON object".
fn schema_in_words(body: &Body) -> Result<Option<String>> {
    let Some(ResponseFormat::JsonSchema { json_schema }) = body.get("response_format")? else {
        return Ok(None);
    };
    let schema = json_schema.schema.unwrap_or_else(|| json!({"type": "object"}));
    let about = json_schema.description.map(|text| format!(" It is for: {text}")).unwrap_or_default();
    let words = format!(
        "Answer with one JSON object and nothing else. It must be valid against this JSON schema, named \"{}\":{about}\n{schema}",
        json_schema.name
    );
    Ok(Some(json!({"role": "system", "content": words}).to_string()))
}

fn json_text(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::head::ChatHead;
    use crate::config::Secret;
    use crate::provider::openai::OPENAI;
    use crate::provider::openai::compatible::{
        CEREBRAS, CUSTOM, DEEPSEEK, GROQ, LMSTUDIO, OPENROUTER, PERPLEXITY, VLLM, VOYAGE, XAI, ZAI,
    };
    use crate::provider::{Endpoint, Outgoing, Provider};
    use bytes::Bytes;

    fn ask(
        provider: &'static Provider,
        (key, model): (&str, &str),
        ask: impl Fn(&Body, &Target<'_>) -> Result<Outgoing>,
        body: &str,
    ) -> Result<Outgoing> {
        let body = Body::scan(Bytes::copy_from_slice(body.as_bytes())).unwrap();
        let endpoint = Endpoint::parse(provider.base_url).or_else(|_| Endpoint::parse("http://gpu/v1")).unwrap();
        let (key, options) = (Secret::new(key), Map::new());
        let target = Target {
            provider,
            endpoint: &endpoint,
            key: &key,
            options: &options,
            model,
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        ask(&body, &target)
    }

    fn chat_with(provider: &'static Provider, key: (&str, &str), body: &str) -> Result<Outgoing> {
        let chat = |body: &Body, target: &Target<'_>| {
            let head = ChatHead::read(body).unwrap();
            provider.dialect.chat(&ChatCall::new(body, &head), target)
        };
        ask(provider, key, chat, body)
    }

    fn send(provider: &'static Provider, body: &str) -> Result<Outgoing> {
        with_model(provider, "up", body)
    }

    fn with_model(provider: &'static Provider, model: &str, body: &str) -> Result<Outgoing> {
        chat_with(provider, ("sk-test", model), body)
    }

    fn embed(provider: &'static Provider, body: &str) -> Outgoing {
        ask(provider, ("sk-test", "up"), |body, target| provider.dialect.embeddings(body, target), body).unwrap()
    }

    const TALK: &str = r#""messages":[{"role":"user","content":"hi"}]"#;

    #[test]
    fn only_the_model_and_our_own_deadline_change() {
        let sent =
            send(&OPENAI, &format!(r#"{{"timeout": 3, "model":"gpt-4o", "seed":12345678901234567890123, {TALK}}}"#));
        let sent = sent.unwrap();
        assert_eq!(sent.path, "/v1/chat/completions");
        assert_eq!(sent.body, format!(r#"{{ "model":"up", "seed":12345678901234567890123, {TALK}}}"#));
    }

    #[test]
    fn a_stream_asks_for_usage_and_keeps_the_other_options() {
        let sent = send(
            &OPENAI,
            &format!(r#"{{"model":"up",{TALK},"stream":true,"stream_options":{{"include_obfuscation":false}}}}"#),
        );
        let sent = String::from_utf8(sent.unwrap().body.whole().to_vec()).unwrap();
        assert!(sent.ends_with(r#""stream_options":{"include_obfuscation":false,"include_usage":true}}"#), "{sent}");
        let spared = send(&PERPLEXITY, &format!(r#"{{"model":"up",{TALK},"stream":true}}"#)).unwrap();
        assert_eq!(spared.body, format!(r#"{{"model":"up",{TALK},"stream":true}}"#));
    }

    #[test]
    fn groq_is_spared_what_it_refuses_and_the_client_is_told() {
        let sent =
            send(&GROQ, &format!(r#"{{"model":"up",{TALK},"logprobs":true,"top_logprobs":2,"logit_bias":{{}}}}"#));
        let sent = sent.unwrap();
        assert_eq!(sent.path, "/openai/v1/chat/completions");
        assert_eq!(sent.body, format!(r#"{{"model":"up",{TALK}}}"#));
        assert_eq!(sent.warnings, ["logprobs", "top_logprobs"]);
        let refused = send(&GROQ, &format!(r#"{{"model":"up",{TALK},"n":2}}"#)).err().unwrap();
        assert_eq!(refused.param(), Some("n"));
    }

    #[test]
    fn an_answer_goes_back_as_it_came_and_the_provider_finds_its_reasoning_under_its_own_name() {
        let said = |extra: &str| {
            format!(
                r#"{{"model":"up","messages":[{{"role":"user","content":"hi","name":"Ann"}},{{"role":"assistant","content":"a",{extra}}},{{"role":"user","content":"b","name":"Bo"}}]}}"#
            )
        };
        let sent = with_model(&GROQ, "gpt-oss-1", &said(r#""reasoning":"hm","reasoning_content":"hm""#)).unwrap();
        let plain = r#"{"model":"gpt-oss-1","messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"a","reasoning":"hm"},{"role":"user","content":"b"}]}"#;
        assert_eq!(sent.body, plain);
        assert_eq!(sent.warnings, ["messages[0].name"]);
        let sent = with_model(&GROQ, "gpt-oss-1", &said(r#""reasoning_content":"hm""#)).unwrap();
        assert_eq!(sent.body, plain);
        let other = with_model(&GROQ, "llama-3.3-70b", &said(r#""reasoning_content":"hm""#)).unwrap();
        assert_eq!(other.body, plain.replace(r#","reasoning":"hm""#, "").replace("gpt-oss-1", "llama-3.3-70b"));
        assert_eq!(other.warnings, ["messages[0].name", "messages[1].reasoning_content"]);
        // A word that is looked for may stand where it is no member of a message.
        let calls =
            r#"[ {"role":"user", "content":"hi"} , {"role":"assistant","tool_calls":[{"function":{"name":"f"}}]} ]"#;
        let kept = format!(r#"{{"model":"up","messages":{calls}}}"#);
        assert_eq!(send(&GROQ, &kept).unwrap().body, kept);
        let kept = said(r#""reasoning_content":"hm""#);
        assert_eq!(send(&DEEPSEEK, &kept).unwrap().body, kept);
    }

    #[test]
    fn instructions_reach_providers_that_do_not_know_the_developer() {
        let body = r#"{"model":"up","messages":[{"role":"developer","content":"be brief"},{"role":"user","content":"hi"}],"max_completion_tokens":5}"#;
        assert_eq!(send(&OPENAI, body).unwrap().body, body);
        let sent = send(&DEEPSEEK, body).unwrap();
        assert_eq!(
            sent.body,
            r#"{"model":"up","messages":[{"role":"system","content":"be brief"},{"role":"user","content":"hi"}],"max_tokens":5}"#
        );
        assert!(sent.warnings.is_empty());
    }

    #[test]
    fn what_other_providers_know_is_kept_from_openai_and_named() {
        let body = r#"{"model":"up","messages":[
            {"role":"user","content":[{"type":"text","text":"hi","cache_control":{"type":"ephemeral"}}],"cache_control":null},
            {"role":"assistant","content":"a","reasoning_content":"hm","thinking_blocks":[{}],"tool_calls":[
                {"id":"c","type":"function","function":{"name":"f","arguments":"{}"},"extra_content":{"google":{}}}]}],
            "tools":[{"type":"function","function":{"name":"f"},"cache_control":{"type":"ephemeral"}}]}"#;
        let sent = send(&OPENAI, body).unwrap();
        let value: Value = serde_json::from_slice(&sent.body.whole()).unwrap();
        let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
        assert_eq!(
            value,
            json!({"model": "up", "tools": [{"type": "function", "function": {"name": "f"}}], "messages": [
                {"role": "user", "content": [{"type": "text", "text": "hi"}]},
                {"role": "assistant", "content": "a", "tool_calls": [call]}]})
        );
        assert_eq!(
            sent.warnings,
            [
                "messages[0].content[0].cache_control",
                "messages[1].reasoning_content",
                "messages[1].thinking_blocks",
                "messages[1].tool_calls[0].extra_content",
            ]
        );
        assert_eq!(send(&CUSTOM, body).unwrap().body, body);
    }

    #[test]
    fn of_two_bounds_that_become_one_the_other_is_named() {
        let sent = send(
            &DEEPSEEK,
            r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":9,"max_completion_tokens":8}"#,
        )
        .unwrap();
        let bound = serde_json::from_slice::<serde_json::Value>(&sent.body.whole()).unwrap()["max_tokens"].clone();
        assert_eq!((bound, sent.warnings), (8.into(), vec!["max_tokens".to_owned()]));
    }

    #[test]
    fn models_that_reason_get_the_bound_under_its_newer_name() {
        let bounded = |model: &str, bounds: &str| {
            let body = Body::scan(format!(r#"{{"model":"a","messages":[],{bounds}}}"#).into()).unwrap();
            let (mut edit, mut warnings) = (body.edit(), Vec::new());
            exact(&body, model, &mut edit, &mut warnings).unwrap();
            let sent: Value = serde_json::from_slice(&edit.apply()).unwrap();
            (sent.get("max_tokens").cloned(), sent.get("max_completion_tokens").cloned(), warnings)
        };
        for model in ["o3-mini", "gpt-5", "gpt-5.1-mini", "gpt-10", "ft:gpt-5-mini:x"] {
            assert_eq!(bounded(model, r#""max_tokens":9"#), (None, Some(json!(9)), vec![]), "{model}");
        }
        for model in
            ["gpt-4o", "gpt-3.5-turbo", "gpt-oss-120b", "omni-moderation", "chatgpt-4o-latest", "my-deployment"]
        {
            assert_eq!(bounded(model, r#""max_tokens":9"#), (Some(json!(9)), None, vec![]), "{model}");
        }
        let both = bounded("o3", r#""max_tokens":9,"max_completion_tokens":8"#);
        assert_eq!(both, (None, Some(json!(8)), vec!["max_tokens".to_owned()]));
    }

    #[test]
    fn a_schema_is_put_into_words_where_it_is_not_known() {
        let body = format!(
            r#"{{"model":"up",{TALK},"response_format":{{"type":"json_schema","json_schema":{{"name":"city","schema":{{"type":"object","required":["name"]}}}}}}}}"#
        );
        let sent = send(&DEEPSEEK, &body).unwrap();
        let value: Value = serde_json::from_slice(&sent.body.whole()).unwrap();
        assert_eq!(value["response_format"], json!({"type": "json_object"}));
        assert_eq!(value["messages"][0]["role"], "system");
        assert!(value["messages"][0]["content"].as_str().unwrap().contains(r#"{"type":"object","required":["name"]}"#));
        assert_eq!(value["messages"][1]["content"], "hi");
        assert_eq!(sent.warnings, ["response_format.json_schema"]);
        assert_eq!(send(&OPENAI, &body).unwrap().body, body);
    }

    #[test]
    fn neutral_values_are_taken_out_without_a_word() {
        let sent = send(&CEREBRAS, &format!(r#"{{"model":"up",{TALK},"frequency_penalty":0.0,"presence_penalty":1}}"#));
        let sent = sent.unwrap();
        assert_eq!(sent.body, format!(r#"{{"model":"up",{TALK}}}"#));
        assert_eq!(sent.warnings, ["presence_penalty"]);
    }

    #[test]
    fn a_server_without_a_key_is_sent_none() {
        let body = format!(r#"{{"model":"up",{TALK}}}"#);
        assert!(chat_with(&VLLM, ("", "up"), &body).unwrap().headers.is_empty());
        assert!(chat_with(&CUSTOM, ("", "up"), &body).unwrap().headers.is_empty());
        let sent = chat_with(&VLLM, ("token", "up"), &body).unwrap();
        assert_eq!(sent.headers.first().unwrap().1, "Bearer token");
    }

    #[test]
    fn voyage_embeds_in_its_own_words_and_does_not_chat() {
        let sent = embed(
            &VOYAGE,
            r#"{"model":"voyage-4","input":["a"],"dimensions":256,"encoding_format":"float","user":"u","input_type":"query"}"#,
        );
        assert_eq!(sent.path, "/v1/embeddings");
        assert_eq!(sent.body, r#"{"model":"up","input":["a"],"input_type":"query","output_dimension":256}"#);
        assert_eq!(sent.warnings, ["user"]);
        let base64 = embed(&VOYAGE, r#"{"model":"up","input":"a","encoding_format":"base64"}"#);
        assert_eq!(base64.body, r#"{"model":"up","input":"a","encoding_format":"base64"}"#);
        let refused = send(&VOYAGE, &format!(r#"{{"model":"up",{TALK}}}"#)).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::UnsupportedParameter);
    }

    #[test]
    fn a_closed_schema_gets_nothing_that_it_does_not_have() {
        let body = r#"{"model":"up","prompt_cache_key":"k","store":false,"modalities":["text"],"service_tier":"default","messages":[
            {"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]},
            {"role":"assistant","content":null,"refusal":null,"annotations":[],"thinking_blocks":[{"x":1}],
             "tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"{}"},"extra_content":{"s":1}}]},
            {"role":"tool","tool_call_id":"c","content":"1"}]}"#;
        for provider in [&GROQ, &CEREBRAS] {
            let sent = send(provider, body).unwrap();
            let value: Value = serde_json::from_slice(&sent.body.whole()).unwrap();
            let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
            let messages = json!([
                {"role": "user", "content": [{"type": "text", "text": "a"}]},
                {"role": "assistant", "content": null, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c", "content": "1"},
            ]);
            assert_eq!(value, json!({"model": "up", "messages": messages}), "{}", provider.name);
            let lost = [
                "prompt_cache_key",
                "messages[0].content[0].cache_control",
                "messages[1].thinking_blocks",
                "messages[1].tool_calls[0].extra_content",
            ];
            assert_eq!(sent.warnings, lost);
        }
        let plain = format!(r#"{{"model":"up",{TALK}}}"#);
        assert_eq!(send(&GROQ, &plain).unwrap().body, plain);
    }

    #[test]
    fn annotations_that_stood_aside_go_back_to_where_they_came_from() {
        let ask = |fields: &str| {
            let answer = format!(r#"{{"role":"assistant","content":"x","annotations":[{{"a":1}}]{fields}}}"#);
            let sent = send(&OPENROUTER, &format!(r#"{{"model":"up","messages":[{answer}]}}"#)).unwrap();
            let value: Value = serde_json::from_slice(&sent.body.whole()).unwrap();
            (value["messages"][0].clone(), sent.warnings)
        };
        let file = r#"{"type":"file","file":{"hash":"h"},"index":0}"#;
        let both = json!([{"a": 1}, {"type": "file", "file": {"hash": "h"}}]);
        let (message, warnings) = ask(&format!(r#","provider_specific_fields":{{"annotations":[{file}]}}"#));
        assert_eq!(message, json!({"role": "assistant", "content": "x", "annotations": both}));
        assert!(warnings.is_empty());
        let (message, _) = ask(&format!(r#","provider_specific_fields":{{"b":2,"annotations":[{file}]}}"#));
        assert_eq!((&message["annotations"], &message["provider_specific_fields"]), (&both, &json!({"b": 2})));
        let (message, _) = ask("");
        assert_eq!(message["annotations"], json!([{"a": 1}]));
    }

    #[test]
    fn a_choice_of_tools_is_said_in_the_words_that_a_provider_has() {
        let ask = |provider, choice: &str| {
            let tool = |name: &str| format!(r#"{{"type":"function","function":{{"name":"{name}"}}}}"#);
            let (f, g) = (tool("f"), tool("g"));
            let sent = send(provider, &format!(r#"{{"model":"up",{TALK},"tools":[{f},{g}],"tool_choice":{choice}}}"#))?;
            let value: Value = serde_json::from_slice(&sent.body.whole()).unwrap();
            let names = value["tools"].as_array().map_or(0, Vec::len);
            Ok::<_, Error>((names, value["tool_choice"].as_str().unwrap_or("").to_owned(), sent.warnings.len()))
        };
        let one = r#"{"type":"function","function":{"name":"g"}}"#;
        assert_eq!(ask(&LMSTUDIO, one).unwrap(), (1, "required".to_owned(), 0));
        assert_eq!(ask(&LMSTUDIO, "\"none\"").unwrap(), (2, "none".to_owned(), 0));
        assert_eq!(ask(&ZAI, one).unwrap(), (1, String::new(), 1));
        assert_eq!(ask(&ZAI, "\"required\"").unwrap(), (2, String::new(), 1));
        assert_eq!(ask(&ZAI, "\"none\"").unwrap(), (0, String::new(), 0));
        assert_eq!(ask(&ZAI, "\"auto\"").unwrap(), (2, "auto".to_owned(), 0));
        let absent = ask(&ZAI, r#"{"type":"function","function":{"name":"h"}}"#);
        assert_eq!(absent.unwrap_err().param(), Some("tool_choice"));
    }

    #[test]
    fn values_that_ask_for_nothing_are_not_said_where_saying_them_is_an_error() {
        let sent = send(&XAI, &format!(r#"{{"model":"up",{TALK},"frequency_penalty":0.0,"presence_penalty":0.5}}"#));
        assert_eq!(sent.unwrap().body, format!(r#"{{"model":"up",{TALK},"presence_penalty":0.5}}"#));
        let sent = send(&LMSTUDIO, &format!(r#"{{"model":"up",{TALK},"response_format":{{"type":"json_object"}}}}"#));
        let value: Value = serde_json::from_slice(&sent.unwrap().body.whole()).unwrap();
        assert_eq!(value["response_format"]["json_schema"]["schema"], json!({"type": "object"}));
    }
}
