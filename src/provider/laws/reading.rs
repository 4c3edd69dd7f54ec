//! What a client reads out of a stream of OpenAI's chunks, put together as SDKs do.

use std::collections::BTreeMap;

use serde_json::Value;

/// A stream as its client understands it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Said {
    pub(super) choices: BTreeMap<u64, Choice>,
    /// Prompt, completion, total.
    pub(super) usage: Option<[u64; 3]>,
    pub(super) done: bool,
}

/// One choice.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Choice {
    pub(super) text: String,
    pub(super) reasoning: String,
    pub(super) refusal: String,
    /// Id, name and arguments of each call.
    pub(super) calls: BTreeMap<u64, [String; 3]>,
    pub(super) finish: Option<String>,
}

impl Said {
    /// Whether every choice, of which there is one, says why it ended.
    pub(super) fn is_whole(&self) -> bool {
        !self.choices.is_empty() && self.choices.values().all(|choice| choice.finish.is_some())
    }

    /// Whether anything tells the client that this is all.
    pub(super) fn looks_complete(&self) -> bool {
        self.done || self.is_whole()
    }
}

/// Reads a stream.
pub(super) fn read(bytes: &[u8]) -> Said {
    let mut said = Said::default();
    let text = std::str::from_utf8(bytes).expect("an answer is UTF-8");
    for data in text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim) {
        if data == "[DONE]" {
            said.done = true;
            continue;
        }
        let chunk: Value = serde_json::from_str(data).unwrap_or_else(|cause| panic!("{cause}: {data}"));
        if let Some(usage) = chunk["usage"].as_object() {
            let count = |name: &str| usage.get(name).and_then(Value::as_u64).unwrap_or(0);
            for (details, members) in [("prompt", ["cached", "audio"]), ("completion", ["reasoning", "audio"])] {
                for member in members {
                    let place = format!("/usage/{details}_tokens_details/{member}_tokens");
                    assert!(chunk.pointer(&place).is_some_and(Value::is_u64), "no {place} in {data}");
                }
            }
            said.usage = Some(["prompt_tokens", "completion_tokens", "total_tokens"].map(count));
        }
        for choice in chunk["choices"].as_array().into_iter().flatten() {
            let Some(index) = choice["index"].as_u64() else { continue };
            said.choices.entry(index).or_default().add(choice);
        }
    }
    said
}

impl Choice {
    fn add(&mut self, choice: &Value) {
        let delta = &choice["delta"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.text += &text(&delta["content"]);
        self.reasoning += &text(&delta["reasoning_content"]);
        self.refusal += &text(&delta["refusal"]);
        for (place, piece) in delta["tool_calls"].as_array().into_iter().flatten().enumerate() {
            let call = self.calls.entry(piece["index"].as_u64().unwrap_or(place as u64)).or_default();
            let pieces = [&piece["id"], &piece["function"]["name"], &piece["function"]["arguments"]];
            for (whole, piece) in call.iter_mut().zip(pieces) {
                *whole += &text(piece);
            }
        }
        self.finish = choice["finish_reason"].as_str().map(str::to_owned).or(self.finish.take());
    }
}
