//! Every recorded request to Google, as a client of OpenAI's API would have sent it, translated and compared with what was
//! recorded. Left out are requests that OpenAI's API has no words for, with the reason.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::corpus_test::{recordings, text};
use super::{camel, embeddings, request};
use crate::api::chat::ChatRequest;
use crate::api::scan::Body;

/// The signature that stands for none.
const NO_SIGNATURE: &str = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=";

/// Google's JSON in one of its several spellings: names in camel case, neutral members gone, numbers as floats. What is a
/// client's own JSON (arguments, results, schemas) stays.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let own =
                ["args", "response", "parameters", "parametersJsonSchema", "responseSchema", "responseJsonSchema"];
            let members =
                members.iter().filter(|(_, value)| !value.is_null() && **value != false && **value != json!([]));
            let made = members.map(|(name, value)| {
                let name = camel(name);
                let value = if own.contains(&name.as_str()) { value.clone() } else { plain(value) };
                (name, value)
            });
            Value::Object(made.collect())
        }
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Number(number) => number.as_f64().into(),
        _ => value.clone(),
    }
}

/// A request as [`plain`] gives it, without what means nothing: empty texts, ids, the type of a file that has an address,
/// the role of an instruction, how functions are spread over tools, whether a schema is given under the newer name.
fn normal(request: &Value) -> Value {
    let mut request = plain(request);
    let members = request.as_object_mut().unwrap();
    members.remove("model");
    members.retain(|_, value| *value != json!([]) && *value != json!({}));
    if let Some(system) = members.get_mut("systemInstruction") {
        *system = json!({"parts": system["parts"]});
    }
    if let Some(config) = members.get_mut("generationConfig").and_then(Value::as_object_mut)
        && let Some(schema) = config.remove("responseSchema")
    {
        config.insert("responseJsonSchema".into(), schema);
    }
    let mut turns: Vec<Value> = Vec::new();
    for mut turn in members.remove("contents").unwrap().as_array().unwrap().iter().cloned() {
        if turn.get("role").is_none() {
            turn["role"] = "user".into();
        }
        let Some(parts) = turn["parts"].as_array_mut() else { continue };
        parts.retain(|part| part["text"] != "" || part.get("thoughtSignature").is_some());
        parts.iter_mut().for_each(normal_part);
        let more = parts.clone();
        match turns.last_mut().filter(|last| last["role"] == turn["role"]) {
            _ if more.is_empty() => {}
            Some(last) => last["parts"].as_array_mut().unwrap().extend(more),
            None => turns.push(turn),
        }
    }
    members.insert("contents".into(), turns.into());
    let (mut functions, mut own) = (Vec::new(), Vec::new());
    for tool in members.remove("tools").into_iter().flat_map(|tools| tools.as_array().unwrap().clone()) {
        for mut function in tool["functionDeclarations"].as_array().cloned().unwrap_or_default() {
            let members = function.as_object_mut().unwrap();
            if let Some(schema) = members.remove("parameters") {
                members.insert("parametersJsonSchema".into(), schema);
            }
            functions.push(function);
        }
        let mut rest = tool.as_object().unwrap().clone();
        rest.remove("functionDeclarations");
        own.extend(rest.into_iter().map(|(name, value)| json!({name: value})));
    }
    // Without functions there is nothing to choose.
    let config = members.get_mut("toolConfig").and_then(Value::as_object_mut);
    if let Some(config) = config
        .filter(|config| functions.is_empty() && config.get("functionCallingConfig") == Some(&json!({"mode": "AUTO"})))
    {
        config.remove("functionCallingConfig");
    }
    if !functions.is_empty() || !own.is_empty() {
        members.insert("tools".into(), json!({"functions": functions, "own": own}));
    }
    request
}

fn normal_part(part: &mut Value) {
    let members = part.as_object_mut().unwrap();
    if members.get("thoughtSignature").is_some_and(|signature| signature == NO_SIGNATURE) {
        members.remove("thoughtSignature");
    }
    for name in ["functionCall", "functionResponse", "fileData"] {
        let Some(inner) = members.get_mut(name).and_then(Value::as_object_mut) else { continue };
        inner.remove(if name == "fileData" { "mimeType" } else { "id" });
        for part in inner.get_mut("parts").and_then(Value::as_array_mut).into_iter().flatten() {
            normal_part(part);
        }
    }
}

/// What a client of OpenAI's API would have sent to have Google receive this request.
fn to_openai(recorded: &Value) -> Result<Value, String> {
    let recorded = plain(recorded);
    let mut request = Map::new();
    let mut messages = Vec::new();
    let system = recorded["systemInstruction"]["parts"].as_array().into_iter().flatten();
    messages.extend(system.map(|part| json!({"role": "system", "content": part["text"]})));
    let mut open = VecDeque::new();
    for turn in recorded["contents"].as_array().ok_or("malformed on purpose")? {
        let parts = turn["parts"].as_array().map_or(&[] as &[Value], Vec::as_slice);
        match text(&turn["role"]) {
            "model" => messages.push(assistant(parts, messages.len(), &mut open)),
            "user" | "" => user(parts, &mut messages, &mut open)?,
            role => return Err(format!("role {role}")),
        }
    }
    request.insert("messages".into(), messages.into());
    let mut strict = false;
    for (name, value) in recorded.as_object().unwrap() {
        match name.as_str() {
            "contents" | "systemInstruction" | "tools" | "model" => {}
            "generationConfig" => generation(value, &mut request),
            "toolConfig" => {
                let calling = &value["functionCallingConfig"];
                let names = calling["allowedFunctionNames"].as_array().map_or(&[] as &[Value], Vec::as_slice);
                match (text(&calling["mode"]), names) {
                    ("AUTO", []) => drop(request.insert("tool_choice".into(), "auto".into())),
                    ("NONE", []) => drop(request.insert("tool_choice".into(), "none".into())),
                    ("ANY", []) => drop(request.insert("tool_choice".into(), "required".into())),
                    ("ANY", [name]) => {
                        let choice = json!({"type": "function", "function": {"name": name}});
                        request.insert("tool_choice".into(), choice);
                    }
                    ("VALIDATED", []) => strict = true,
                    _ => drop(request.insert("toolConfig".into(), value.clone())),
                }
                if value["includeServerSideToolInvocations"] == true {
                    request.insert("tool_config".into(), json!({"includeServerSideToolInvocations": true}));
                }
            }
            _ => drop(request.insert(name.clone(), value.clone())),
        }
    }
    let mut tools = Vec::new();
    for tool in recorded["tools"].as_array().into_iter().flatten() {
        for (name, value) in tool.as_object().unwrap() {
            if name != "functionDeclarations" {
                let mut own = value.as_object().unwrap().clone();
                own.insert("type".into(), name.clone().into());
                tools.push(Value::Object(own));
                continue;
            }
            for function in value.as_array().unwrap() {
                let parameters = function.get("parametersJsonSchema").or_else(|| function.get("parameters"));
                let mut made = json!({"name": function["name"], "parameters": parameters, "strict": strict});
                if let Some(description) = function.get("description") {
                    made["description"] = description.clone();
                }
                tools.push(json!({"type": "function", "function": made}));
            }
        }
    }
    request.insert("tools".into(), tools.into());
    request.insert("model".into(), "m".into());
    Ok(request.into())
}

fn generation(config: &Value, request: &mut Map<String, Value>) {
    let number = |value: &Value| json!(value.as_f64().unwrap() as u64);
    for (name, value) in config.as_object().unwrap() {
        let (name, value) = match name.as_str() {
            "maxOutputTokens" => ("max_completion_tokens", number(value)),
            "temperature" => ("temperature", value.clone()),
            "topP" => ("top_p", value.clone()),
            "stopSequences" => ("stop", value.clone()),
            "seed" => ("seed", number(value)),
            "presencePenalty" => ("presence_penalty", value.clone()),
            "frequencyPenalty" => ("frequency_penalty", value.clone()),
            "responseLogprobs" => ("logprobs", value.clone()),
            "logprobs" => ("top_logprobs", number(value)),
            "responseMimeType" => {
                let schema = config.get("responseJsonSchema").or_else(|| config.get("responseSchema"));
                let format = match schema {
                    Some(schema) => {
                        let named = json!({"name": text(&schema["title"]), "schema": schema});
                        json!({"type": "json_schema", "json_schema": named})
                    }
                    None => json!({"type": "json_object"}),
                };
                ("response_format", format)
            }
            "responseJsonSchema" | "responseSchema" => continue,
            name => (name, value.clone()),
        };
        request.insert(name.to_owned(), value);
    }
}

fn assistant(parts: &[Value], turn: usize, open: &mut VecDeque<(String, String)>) -> Value {
    let (mut thoughts, mut said, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    let mut signature = Value::Null;
    // OpenAI's order: thoughts, text, calls. Anything else is replayed as it came.
    let mut rank = 0;
    let mut own = false;
    for part in parts {
        let now = match part {
            part if part["thought"] == true && part.get("thoughtSignature").is_none() => {
                thoughts.push(text(&part["text"]));
                0
            }
            part if part.get("functionCall").is_some() => {
                let call = &part["functionCall"];
                let id = call["id"].as_str().map_or_else(|| format!("made_{turn}_{}", calls.len()), str::to_owned);
                open.push_back((id.clone(), text(&call["name"]).to_owned()));
                let function = json!({"name": call["name"], "arguments": call["args"].to_string()});
                let mut made = json!({"id": id, "type": "function", "function": function});
                if let Some(signature) = part.get("thoughtSignature") {
                    made["extra_content"] = json!({"google": {"thought_signature": signature}});
                }
                calls.push(made);
                2
            }
            part if part.get("text").is_some() && part["thought"] != true => {
                own |= !signature.is_null();
                signature = part.get("thoughtSignature").cloned().unwrap_or_default();
                said.push(json!({"type": "text", "text": part["text"]}));
                1
            }
            _ => {
                own = true;
                rank
            }
        };
        own |= now < rank;
        rank = now;
    }
    own |= thoughts.len() > 1;
    let mut message = json!({"role": "assistant", "content": said, "reasoning_content": thoughts.concat()});
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    if own {
        message["provider_specific_fields"] = json!({"content_parts": parts});
    } else if !signature.is_null() {
        message["provider_specific_fields"] = json!({"thought_signature": signature});
    }
    message
}

fn user(parts: &[Value], messages: &mut Vec<Value>, open: &mut VecDeque<(String, String)>) -> Result<(), String> {
    for part in parts {
        let Some(response) = part.get("functionResponse") else {
            messages.push(json!({"role": "user", "content": [part_to_openai(part)?]}));
            continue;
        };
        let name = text(&response["name"]);
        let by_id = open.iter().position(|(id, _)| response["id"] == *id);
        let at = by_id.or_else(|| open.iter().position(|(_, open)| open == name));
        let (id, _) = open.remove(at.ok_or("a result without its call")?).unwrap();
        let mut content = vec![json!({"type": "text", "text": response["response"].to_string()})];
        for part in response["parts"].as_array().into_iter().flatten() {
            content.push(part_to_openai(part)?);
        }
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": content}));
    }
    Ok(())
}

fn part_to_openai(part: &Value) -> Result<Value, String> {
    if part.get("text").is_some() {
        return Ok(json!({"type": "text", "text": part["text"]}));
    }
    if let Some(file) = part.get("fileData") {
        return Ok(json!({"type": "file", "file": {"file_id": file["fileUri"]}}));
    }
    let inline = part.get("inlineData").ok_or("a part of another kind")?;
    let (mime, data) = (text(&inline["mimeType"]), text(&inline["data"]));
    let url = format!("data:{mime};base64,{data}");
    Ok(match mime.split_once('/') {
        Some(("image", _)) => json!({"type": "image_url", "image_url": {"url": url}}),
        Some(("audio", "mpeg")) => json!({"type": "input_audio", "input_audio": {"data": data, "format": "mp3"}}),
        Some(("audio", format)) => json!({"type": "input_audio", "input_audio": {"data": data, "format": format}}),
        _ => json!({"type": "file", "file": {"file_data": url}}),
    })
}

#[test]
fn every_recorded_request_can_be_made_through_openais_api() {
    let (mut passed, mut own_parts, mut left_out, mut wrong) = (0, 0, BTreeMap::new(), Vec::new());
    for record in recordings(&["generateContent", "streamGenerateContent"]) {
        let recorded = &record["request_body"];
        let outcome = match (record["response_status"] == 200, recorded.is_object()) {
            (false, _) => Err("refused by Google".to_owned()),
            (_, false) => Err("no request recorded".to_owned()),
            _ => to_openai(recorded),
        };
        let request = match outcome {
            Ok(request) => request,
            Err(why) => {
                *left_out.entry(why).or_insert(0) += 1;
                continue;
            }
        };
        own_parts += usize::from(request.to_string().contains("content_parts"));
        let body = Body::scan(Bytes::from(request.to_string())).unwrap();
        let request = ChatRequest::parse(&body).unwrap_or_else(|error| panic!("{}: {error}", record["id"]));
        let model = record["model"].as_str().filter(|model| *model != "MODEL").unwrap_or("gemini-2.5-flash");
        let provider = if record["provider"] == "vertex" { "vertex" } else { "gemini" };
        let made = match request::translate(&request, model, provider) {
            Ok(made) => made,
            Err(error) => {
                wrong.push(format!("{}: {error}", record["id"]));
                continue;
            }
        };
        let (sent, expected) = (normal(&made.body.into()), normal(recorded));
        let warnings = made.warnings.into_names();
        if sent != expected || !warnings.is_empty() {
            wrong.push(format!("{}: {warnings:?}\n sent {sent}\n not  {expected}", record["id"]));
        }
        passed += 1;
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
    println!("requests: {passed} passed, {own_parts} of them with Google's own parts; left out: {left_out:?}");
}

#[test]
fn every_recorded_embedding_request_can_be_made_through_openais_api() {
    let mut passed = 0;
    for record in recordings(&["batchEmbedContents", "embedContent", "predict"]) {
        let recorded = plain(&record["request_body"]);
        let single = std::slice::from_ref(&recorded);
        let list = recorded["requests"].as_array().or_else(|| recorded["instances"].as_array());
        let list = list.map_or(single, Vec::as_slice);
        let said = |one: &Value| one["content"]["parts"][0].get("text").unwrap_or(&one["content"]).clone();
        let inputs: Vec<Value> = list.iter().map(said).collect();
        let mut request = json!({"model": "m", "input": inputs});
        if let Some(dimensions) = list[0]["outputDimensionality"].as_f64() {
            request["dimensions"] = json!(dimensions as u64);
        }
        if let Some(task) = list[0].get("taskType") {
            request["task_type"] = task.clone();
        }
        let asked = embeddings::read(&Body::scan(Bytes::from(request.to_string())).unwrap(), "gemini").unwrap();
        let made = match text(&record["endpoint"]) {
            "predict" => asked.instances(),
            "embedContent" => asked.single("vertex").unwrap(),
            _ => asked.batch(text(&list[0]["model"]).strip_prefix("models/").unwrap()),
        };
        assert_eq!(plain(&made), recorded, "{}", record["id"]);
        passed += 1;
    }
    println!("embedding requests: {passed} passed, 0 skipped");
}
