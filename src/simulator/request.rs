//! What a simulated provider reads of a request, whichever API it came by.
//!
//! Not here: validation. A simulated provider is lenient: what it doesn't understand it ignores, and only a body that is
//! no JSON object is refused. Invariant: every API's request becomes the same [`Ask`].

use axum::http::Method;
use serde_json::{Value, json};

use super::seen::Wire;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Chat,
    Embeddings,
    Models,
    Unknown,
}

impl Endpoint {
    pub(super) fn of(wire: Wire, method: &Method, path: &str) -> Self {
        let path = path.strip_prefix("/openai").unwrap_or(path);
        match (method.as_str(), path, wire) {
            ("POST", "/v1/chat/completions", Wire::OpenAi | Wire::Groq) => Self::Chat,
            ("POST", "/v1/messages", Wire::Anthropic) => Self::Chat,
            ("POST", "/v1/embeddings", Wire::OpenAi | Wire::Groq) => Self::Embeddings,
            ("GET", "/v1/models", _) => Self::Models,
            _ => Self::Unknown,
        }
    }
}

/// A tool that is to be called, with the schema of its arguments.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) schema: Value,
}

/// A request as far as the answer depends on it.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) wire: Wire,
    pub(super) endpoint: Endpoint,
    pub(super) model: String,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) choices: u64,
    pub(super) max_tokens: Option<u64>,
    /// Bytes of text in the messages, the instructions included.
    pub(super) prompt_bytes: u64,
    /// The tools to call; empty for an answer in text.
    pub(super) calls: Vec<Wanted>,
    /// The schema that the answer must fit.
    pub(super) schema: Option<Value>,
    /// The whole body.
    pub(super) body: Value,
}

impl Ask {
    pub(super) fn read(wire: Wire, endpoint: Endpoint, body: Value) -> Self {
        let flag = |path: &str| body.pointer(path).and_then(Value::as_bool).unwrap_or(false);
        let number = |path: &str| body.pointer(path).and_then(Value::as_u64);
        Self {
            wire,
            endpoint,
            model: text(body.get("model")).to_owned(),
            stream: endpoint == Endpoint::Chat && flag("/stream"),
            include_usage: flag("/stream_options/include_usage"),
            choices: if wire == Wire::OpenAi { number("/n").unwrap_or(1).clamp(1, 16) } else { 1 },
            max_tokens: number("/max_completion_tokens").or_else(|| number("/max_tokens")),
            prompt_bytes: text_bytes(body.get("messages")) + text_bytes(body.get("system")),
            calls: wanted_calls(wire, &body),
            schema: wanted_schema(&body),
            body,
        }
    }
}

/// A member's text; empty when it is none.
pub(super) fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}

/// How much text there is in a message, a list of parts or a whole conversation.
fn text_bytes(value: Option<&Value>) -> u64 {
    match value {
        Some(Value::String(text)) => text.len() as u64,
        Some(Value::Array(items)) => items.iter().map(|item| text_bytes(Some(item))).sum(),
        Some(Value::Object(members)) => text_bytes(members.get("text")) + text_bytes(members.get("content")),
        _ => 0,
    }
}

/// The tools to call: the one that `tool_choice` names, the first when any is required, the first when the last user message
/// says "call the tool", and all of them when it says "call the tools".
fn wanted_calls(wire: Wire, body: &Value) -> Vec<Wanted> {
    let mut tools: Vec<Wanted> = body
        .get("tools")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|tool| offered(wire, tool))
        .collect();
    let choice = body.get("tool_choice");
    let kind = choice.and_then(Value::as_str).unwrap_or_else(|| text(choice.and_then(|choice| choice.get("type"))));
    let named = choice.and_then(|choice| choice.pointer("/function/name").or_else(|| choice.get("name")));
    let asked = last_user_text(body).to_lowercase();
    if let Some(name) = named {
        tools.retain(|tool| tool.name == text(Some(name)));
    }
    let limit = if kind == "none" {
        0
    } else if named.is_some() || asked.contains("call the tools") {
        usize::MAX
    } else {
        usize::from(matches!(kind, "required" | "any") || asked.contains("call the tool"))
    };
    tools.truncate(limit);
    tools
}

fn offered(wire: Wire, tool: &Value) -> Option<Wanted> {
    let (tool, schema) = match wire {
        Wire::OpenAi | Wire::Groq => (tool.get("function")?, "parameters"),
        Wire::Anthropic => (tool, "input_schema"),
    };
    let name = tool.get("name")?.as_str()?.to_owned();
    Some(Wanted { name, schema: tool.get(schema).cloned().unwrap_or_default() })
}

/// The text of the last message if a user wrote it; a tool's result has none.
fn last_user_text(body: &Value) -> String {
    let last = body.get("messages").and_then(Value::as_array).and_then(|messages| messages.last());
    let Some(message) = last.filter(|message| text(message.get("role")) == "user") else {
        return String::new();
    };
    match message.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().map(|part| text(part.get("text"))).collect::<Vec<_>>().join(" "),
        _ => String::new(),
    }
}

/// The schema of a JSON answer: OpenAI's `response_format`, Anthropic's `output_config.format` and `output_format`.
fn wanted_schema(body: &Value) -> Option<Value> {
    const PLACES: [&str; 3] =
        ["/response_format/json_schema/schema", "/output_config/format/schema", "/output_format/schema"];
    if let Some(schema) = PLACES.iter().find_map(|place| body.pointer(place)) {
        return Some(schema.clone());
    }
    (text(body.pointer("/response_format/type")) == "json_object")
        .then(|| json!({"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}))
}
