//! What the providers' APIs check first: whose turn it is, and that every call is answered where it must be.

use std::collections::HashSet;

use serde_json::Value;

use crate::provider::Provider;

type Check = Result<(), String>;

/// Says what a provider would refuse a body for.
pub(super) fn check(provider: &Provider, model: &str, body: &Value) -> Check {
    match provider.name {
        "anthropic" => anthropic(body),
        "vertex" if model.starts_with("claude-") => anthropic(body),
        "bedrock" => converse(body),
        "gemini" | "vertex" => generate_content(body),
        "mistral" => mistral(body),
        _ => messages(body),
    }
}

fn refuse_if(wrong: bool, why: impl Into<String>) -> Check {
    if wrong { Err(why.into()) } else { Ok(()) }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Turns of two roles: they alternate, begin with the user and are not empty, and what a turn calls the next one answers.
fn turns(
    all: &[Value],
    parts: &str,
    call: impl Fn(&Value) -> Option<String>,
    result: impl Fn(&Value) -> Option<String>,
) -> Check {
    let mut open: Vec<String> = Vec::new();
    for (index, turn) in all.iter().enumerate() {
        let user = turn["role"] == "user";
        refuse_if(user != (index % 2 == 0), format!("the roles do not alternate at turn {index}"))?;
        let parts = list(&turn[parts]);
        refuse_if(parts.is_empty(), format!("turn {index} is empty"))?;
        let results: Vec<String> = parts.iter().filter_map(&result).collect();
        let (mut wanted, mut given) = (std::mem::take(&mut open), results.clone());
        wanted.sort();
        given.sort();
        refuse_if(wanted != given, format!("turn {index} answers {given:?} and not {wanted:?}"))?;
        open = parts.iter().filter_map(&call).collect();
        refuse_if(user && !open.is_empty(), "a user calls a tool")?;
        let distinct: HashSet<&String> = open.iter().collect();
        refuse_if(distinct.len() < open.len(), "two calls with one id")?;
    }
    Ok(())
}

fn anthropic(body: &Value) -> Check {
    let of = |kind: &'static str, id: &'static str| {
        move |block: &Value| (block["type"] == kind).then(|| text(&block[id]).to_owned())
    };
    turns(list(&body["messages"]), "content", of("tool_use", "id"), of("tool_result", "tool_use_id"))?;
    let blocks = list(&body["messages"]).iter().flat_map(|turn| list(&turn["content"]));
    for block in blocks.chain(list(&body["system"])) {
        refuse_if(block["type"] == "text" && text(&block["text"]).is_empty(), "an empty text")?;
    }
    for turn in list(&body["messages"]) {
        let is_result = |block: &Value| block["type"] == "tool_result";
        let content = list(&turn["content"]);
        let first = content.iter().take_while(|block| is_result(block)).count();
        refuse_if(first < content.iter().filter(|block| is_result(block)).count(), "a result behind other blocks")?;
    }
    let max = body["max_tokens"].as_u64().unwrap_or(0);
    refuse_if(max == 0, "no max_tokens")?;
    if body["thinking"]["type"] == "enabled" {
        let budget = body["thinking"]["budget_tokens"].as_u64().unwrap_or(0);
        refuse_if(budget < 1024 || budget >= max, "a budget that does not fit")?;
        refuse_if(body["temperature"].as_f64().is_some_and(|it| it != 1.0), "a temperature beside thinking")?;
        refuse_if(matches!(text(&body["tool_choice"]["type"]), "any" | "tool"), "a forced call beside thinking")?;
    }
    Ok(())
}

fn converse(body: &Value) -> Check {
    let of = |kind: &'static str| move |block: &Value| block[kind]["toolUseId"].as_str().map(str::to_owned);
    turns(list(&body["messages"]), "content", of("toolUse"), of("toolResult"))?;
    let used = body["messages"].to_string().contains("\"toolUse\":{");
    refuse_if(used && list(&body["toolConfig"]["tools"]).is_empty(), "calls without a toolConfig")
}

fn generate_content(body: &Value) -> Check {
    let of = |kind: &'static str| move |part: &Value| part[kind]["id"].as_str().map(str::to_owned);
    turns(list(&body["contents"]), "parts", of("functionCall"), of("functionResponse"))
}

/// OpenAI's own order: results directly follow the message that calls.
fn messages(body: &Value) -> Check {
    let mut open: Vec<&str> = Vec::new();
    for message in list(&body["messages"]) {
        if message["role"] == "tool" {
            let id = text(&message["tool_call_id"]);
            let place = open.iter().position(|call| *call == id).ok_or_else(|| format!("{id} answers no open call"))?;
            open.remove(place);
            continue;
        }
        refuse_if(!open.is_empty(), format!("{open:?} are not answered"))?;
        open = list(&message["tool_calls"]).iter().map(|call| text(&call["id"])).collect();
    }
    refuse_if(!open.is_empty(), format!("{open:?} are not answered"))
}

fn mistral(body: &Value) -> Check {
    messages(body)?;
    for call in list(&body["messages"]).iter().flat_map(|message| list(&message["tool_calls"])) {
        let id = text(&call["id"]);
        let fits = id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        refuse_if(!fits, format!("the id {id:?} is not nine letters and digits"))?;
    }
    Ok(())
}
