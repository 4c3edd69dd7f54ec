//! Google's token counts as ours.
//!
//! `promptTokenCount` holds what came from a cache and not what tools of Google's own put into the prompt; thoughts are
//! not part of `candidatesTokenCount`, unless the total shows that they are.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::api::answer::count;
use crate::usage::{Bill, ServiceTier, Usage};

/// `usageMetadata`. Absent figures are zero, unknown ones ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct UsageWire {
    #[serde(deserialize_with = "count")]
    prompt_token_count: u64,
    #[serde(deserialize_with = "count")]
    candidates_token_count: u64,
    #[serde(deserialize_with = "count")]
    thoughts_token_count: u64,
    #[serde(deserialize_with = "count")]
    cached_content_token_count: u64,
    #[serde(deserialize_with = "count")]
    tool_use_prompt_token_count: u64,
    #[serde(deserialize_with = "count")]
    total_token_count: u64,
    #[serde(alias = "promptTokenDetails")]
    prompt_tokens_details: Option<Vec<Detail>>,
    cache_tokens_details: Option<Vec<Detail>>,
    candidates_tokens_details: Option<Vec<Detail>>,
    pub(super) service_tier: Option<String>,
    /// Vertex: the same, and whether it was paid for ahead.
    traffic_type: Value,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    #[serde(default)]
    modality: Value,
    #[serde(default, deserialize_with = "count")]
    token_count: u64,
}

/// A kind of content: Google's name, and its number where names are not wanted.
#[derive(Clone, Copy)]
struct Modality(&'static str, u64);

const IMAGE: Modality = Modality("IMAGE", 2);
const AUDIO: Modality = Modality("AUDIO", 4);

/// The tokens of one kind.
fn of(Modality(name, number): Modality, details: Option<&[Detail]>) -> u64 {
    let is_it = |detail: &&Detail| detail.modality == name || detail.modality == number;
    details.unwrap_or_default().iter().filter(is_it).map(|detail| detail.token_count).sum()
}

/// The searches of the web that an answer or a chunk tells of. Google bills them apart from the tokens.
pub(super) fn searches(members: &Map<String, Value>) -> u64 {
    let candidates = members.get("candidates").and_then(Value::as_array);
    let queries = candidates.into_iter().flatten().filter_map(|candidate| {
        candidate.get("groundingMetadata")?.get("webSearchQueries")?.as_array().map(|queries| queries.len() as u64)
    });
    queries.sum()
}

impl UsageWire {
    /// The tokens, or `None` where the object holds no figure, as in most chunks of Vertex.
    pub(super) fn to_usage(&self) -> Option<Usage> {
        if self.total_token_count == 0 && self.prompt_token_count == 0 && self.candidates_token_count == 0 {
            return None;
        }
        let cached = self.cached_content_token_count.min(self.prompt_token_count);
        let input = self.prompt_token_count.saturating_sub(cached).saturating_add(self.tool_use_prompt_token_count);
        // Some models at Vertex count thoughts among the candidates; the total tells which.
        let sum = self.prompt_token_count + self.tool_use_prompt_token_count + self.candidates_token_count;
        let beside = if self.total_token_count == sum { 0 } else { self.thoughts_token_count };
        let (prompt, kept) = (self.prompt_tokens_details.as_deref(), self.cache_tokens_details.as_deref());
        let made = self.candidates_tokens_details.as_deref();
        let fresh = |kind| of(kind, prompt).saturating_sub(of(kind, kept)).min(input);
        Some(Usage {
            input,
            cached_read: cached,
            cache_write: 0,
            output: self.candidates_token_count.saturating_add(beside),
            reasoning: self.thoughts_token_count,
            audio_input: fresh(AUDIO),
            audio_output: of(AUDIO, made),
            cached_audio: of(AUDIO, kept).min(cached),
            image_input: fresh(IMAGE),
            image_output: of(IMAGE, made),
            ..Usage::default()
        })
    }

    /// What it says of the bill beside the tokens.
    pub(super) fn bill(&self) -> Bill {
        let tier = match (&self.service_tier, &self.traffic_type) {
            (Some(tier), _) | (None, Value::String(tier)) => ServiceTier::from_word(tier),
            // By number: on demand, and provisioned throughput.
            (None, Value::Number(number)) => match number.as_u64() {
                Some(0 | 1) => ServiceTier::Standard,
                Some(2) => ServiceTier::Committed,
                _ => ServiceTier::Other,
            },
            (None, _) => ServiceTier::Standard,
        };
        Bill { tier, ..Bill::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thoughts_among_the_candidates_are_not_counted_twice() {
        let read = |total: u64| {
            let counts = serde_json::json!({"promptTokenCount": 10, "candidatesTokenCount": 30, "thoughtsTokenCount": 20,
                "totalTokenCount": total});
            let usage = serde_json::from_value::<UsageWire>(counts).unwrap().to_usage().unwrap();
            (usage.output, usage.reasoning)
        };
        assert_eq!(read(60), (50, 20));
        assert_eq!(read(40), (30, 20));
        assert_eq!(read(0), (50, 20));
    }

    #[test]
    fn images_searches_and_tiers_are_told_apart() {
        let wire: UsageWire =
            serde_json::from_value(serde_json::json!({"promptTokenCount": 268, "candidatesTokenCount": 1300,
            "totalTokenCount": 1568, "trafficType": "ON_DEMAND_FLEX",
            "promptTokensDetails": [{"modality": 2, "tokenCount": 258}, {"modality": "TEXT", "tokenCount": 10}],
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}]}))
            .unwrap();
        let usage = wire.to_usage().unwrap();
        assert_eq!((usage.image_input, usage.image_output, usage.output), (258, 1290, 1300));
        assert_eq!(wire.bill().tier, ServiceTier::Flex);
        let tier = |usage: Value| serde_json::from_value::<UsageWire>(usage).unwrap().bill().tier;
        assert_eq!(tier(serde_json::json!({"trafficType": "PROVISIONED_THROUGHPUT"})), ServiceTier::Committed);
        assert_eq!(tier(serde_json::json!({"trafficType": 1})), ServiceTier::Standard);
        assert_eq!(
            tier(serde_json::json!({"serviceTier": "priority", "trafficType": "ON_DEMAND"})),
            ServiceTier::Priority
        );
        let answer = serde_json::json!({"candidates": [{"groundingMetadata": {"webSearchQueries": ["a", "b"]}}, {}]});
        assert_eq!(searches(answer.as_object().unwrap()), 2);
    }

    #[test]
    fn no_token_is_counted_twice_and_none_is_lost() {
        let wire: UsageWire = serde_json::from_str(
            r#"{"promptTokenCount":100,"cachedContentTokenCount":80,"toolUsePromptTokenCount":30,"candidatesTokenCount":5,
                "thoughtsTokenCount":7,"totalTokenCount":142,"trafficType":"ON_DEMAND",
                "promptTokensDetails":[{"modality":"AUDIO","tokenCount":60},{"modality":"TEXT","tokenCount":40}],
                "cacheTokensDetails":[{"modality":"AUDIO","tokenCount":50}]}"#,
        )
        .unwrap();
        let usage = wire.to_usage().unwrap();
        assert_eq!((usage.input, usage.cached_read, usage.output, usage.reasoning), (50, 80, 12, 7));
        assert_eq!((usage.total_tokens(), usage.audio_input, usage.cached_audio), (142, 10, 50));
        assert_eq!(serde_json::from_str::<UsageWire>(r#"{"trafficType":"ON_DEMAND"}"#).unwrap().to_usage(), None);
    }
}
