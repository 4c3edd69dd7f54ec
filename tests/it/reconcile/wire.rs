//! What the providers of the reconciliation say, each in its own API: OpenAI's, Anthropic's, Gemini's.

use std::time::Duration;

use perpetuo::usage::Usage;
use serde_json::{Value, json};

use super::provider::{Ask, Fate, Plan};

/// An API.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wire {
    OpenAi,
    Anthropic,
    Gemini,
}

/// One event of a stream.
pub struct Piece {
    pub text: String,
    /// Tokens that it bills.
    pub tokens: u64,
    /// With it the whole figure has been told.
    pub figure: bool,
    /// How long after the one before it.
    pub wait: Duration,
}

impl Piece {
    fn frame(text: String) -> Self {
        Self { text, tokens: 0, figure: false, wait: Duration::ZERO }
    }
}

/// A token's text: two to six letters.
fn token(place: u64) -> &'static str {
    ["so", " it", " may", " goes", " along", " no", " and", " here"][usize::try_from(place * 5 % 8).unwrap()]
}

fn text(tokens: u64) -> String {
    (0..tokens).map(token).collect()
}

impl Wire {
    /// The header that names the request; Gemini has none.
    pub fn id_header(self, id: &str) -> String {
        match self {
            Self::OpenAi => format!("x-request-id: {id}\r\n"),
            Self::Anthropic => format!("request-id: {id}\r\n"),
            Self::Gemini => String::new(),
        }
    }

    pub fn error(self, status: u16) -> Value {
        match self {
            Self::OpenAi => json!({"error": {"message": "no", "type": "server_error", "param": null, "code": null}}),
            Self::Anthropic => json!({"type": "error", "error": {"type": "api_error", "message": "no"}}),
            Self::Gemini => json!({"error": {"code": status, "message": "no", "status": "INTERNAL"}}),
        }
    }

    pub fn error_event(self) -> String {
        let name = if self == Self::Anthropic { "event: error\n" } else { "" };
        format!("{name}data: {}\n\n", self.error(500))
    }

    fn usage(self, usage: Usage) -> Value {
        let Usage { input, cached_read, cache_write, output, .. } = usage;
        match self {
            Self::OpenAi => json!({
                "prompt_tokens": input + cached_read, "completion_tokens": output, "total_tokens": usage.total_tokens(),
                "prompt_tokens_details": {"cached_tokens": cached_read, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
            }),
            Self::Anthropic => json!({
                "input_tokens": input, "cache_read_input_tokens": cached_read, "cache_creation_input_tokens": cache_write,
                "output_tokens": output,
            }),
            Self::Gemini => json!({
                "promptTokenCount": input + cached_read, "cachedContentTokenCount": cached_read,
                "candidatesTokenCount": output, "totalTokenCount": usage.total_tokens(),
            }),
        }
    }

    /// A whole answer.
    pub fn whole(self, id: &str, ask: &Ask, usage: Usage, uncounted: bool) -> Value {
        let said = text(usage.output);
        if ask.embeddings {
            let usage = json!({"prompt_tokens": usage.input, "total_tokens": usage.input});
            let data = json!([{"object": "embedding", "index": 0, "embedding": [0.6, 0.8]}]);
            return json!({"object": "list", "model": ask.model, "data": data, "usage": usage});
        }
        let mut answer = match self {
            Self::OpenAi => json!({
                "id": id, "object": "chat.completion", "created": 1, "model": ask.model,
                "choices": [{"index": 0, "logprobs": null, "finish_reason": "stop",
                    "message": {"role": "assistant", "content": said, "refusal": null}}],
                "usage": self.usage(usage),
            }),
            Self::Anthropic => json!({
                "id": id, "type": "message", "role": "assistant", "model": ask.model, "stop_reason": "end_turn",
                "stop_sequence": null, "content": [{"type": "text", "text": said}], "usage": self.usage(usage),
            }),
            Self::Gemini => json!({
                "responseId": id, "modelVersion": ask.model, "usageMetadata": self.usage(usage),
                "candidates": [{"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [{"text": said}]}}],
            }),
        };
        if uncounted {
            answer.as_object_mut().unwrap().remove("usage");
        }
        answer
    }

    /// A whole stream.
    pub fn events(self, id: &str, model: &str, prompt: Usage, plan: &Plan) -> Vec<Piece> {
        let whole = Usage { output: plan.tokens, ..prompt };
        let mut pieces = match self {
            Self::OpenAi => self.openai(id, model, whole, plan.fate == Fate::Uncounted),
            Self::Anthropic => self.anthropic(id, model, whole),
            Self::Gemini => self.gemini(id, model, whole),
        };
        for piece in &mut pieces {
            if piece.tokens > 0 {
                piece.wait = plan.pause;
            } else if piece.figure {
                piece.wait = plan.lag;
            }
        }
        pieces
    }

    fn openai(self, id: &str, model: &str, whole: Usage, uncounted: bool) -> Vec<Piece> {
        let chunk = |choices: Value, usage: Value| {
            let chunk = json!({"id": id, "object": "chat.completion.chunk", "created": 1, "model": model,
                "choices": choices, "usage": usage});
            Piece::frame(format!("data: {chunk}\n\n"))
        };
        let choice = |delta: Value, finish: Value| {
            chunk(json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]), Value::Null)
        };
        let mut pieces = vec![choice(json!({"role": "assistant", "content": "", "refusal": null}), Value::Null)];
        for place in 0..whole.output {
            let piece = choice(json!({"content": token(place)}), Value::Null);
            pieces.push(Piece { tokens: 1, ..piece });
        }
        pieces.push(choice(json!({}), json!("stop")));
        if !uncounted {
            pieces.push(Piece { figure: true, ..chunk(json!([]), self.usage(whole)) });
        }
        pieces.push(Piece::frame("data: [DONE]\n\n".to_owned()));
        pieces
    }

    fn anthropic(self, id: &str, model: &str, whole: Usage) -> Vec<Piece> {
        let event = |name: &str, mut members: Value| {
            members["type"] = json!(name);
            Piece::frame(format!("event: {name}\ndata: {members}\n\n"))
        };
        let message = json!({"id": id, "type": "message", "role": "assistant", "model": model, "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": self.usage(Usage { output: 1, ..whole })});
        let block = json!({"index": 0, "content_block": {"type": "text", "text": ""}});
        let mut pieces = vec![event("message_start", json!({"message": message})), event("content_block_start", block)];
        for place in 0..whole.output {
            let delta = json!({"index": 0, "delta": {"type": "text_delta", "text": token(place)}});
            pieces.push(Piece { tokens: 1, ..event("content_block_delta", delta) });
        }
        pieces.push(event("content_block_stop", json!({"index": 0})));
        let delta = json!({"stop_reason": "end_turn", "stop_sequence": null});
        let last = event("message_delta", json!({"delta": delta, "usage": {"output_tokens": whole.output}}));
        pieces.push(Piece { figure: true, ..last });
        pieces.push(event("message_stop", json!({})));
        pieces
    }

    /// Every event counts what came so far, the last one for good.
    fn gemini(self, id: &str, model: &str, whole: Usage) -> Vec<Piece> {
        let event = |said: &str, output: u64, finish: Option<&str>| {
            let mut candidate = json!({"index": 0, "content": {"role": "model", "parts": [{"text": said}]}});
            if let Some(finish) = finish {
                candidate["finishReason"] = json!(finish);
            }
            let usage = self.usage(Usage { output, ..whole });
            let event =
                json!({"responseId": id, "modelVersion": model, "candidates": [candidate], "usageMetadata": usage});
            Piece::frame(format!("data: {event}\n\n"))
        };
        let tokens = (0..whole.output).map(|place| Piece { tokens: 1, ..event(token(place), place + 1, None) });
        let last = Piece { figure: true, ..event("", whole.output, Some("STOP")) };
        tokens.chain([last]).collect()
    }
}
