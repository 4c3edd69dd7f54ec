//! Google's token counts as ours.
//!
//! `promptTokenCount` holds what came from a cache and not what tools of Google's own put into the prompt; thoughts are
//! not part of `candidatesTokenCount`, unless the total shows that they are.

use serde::Deserialize;

use crate::api::answer::count;
use crate::usage::Usage;

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
    prompt_tokens_details: Option<Vec<Detail>>,
    cache_tokens_details: Option<Vec<Detail>>,
    candidates_tokens_details: Option<Vec<Detail>>,
    pub(super) service_tier: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    #[serde(default)]
    modality: serde_json::Value,
    #[serde(default, deserialize_with = "count")]
    token_count: u64,
}

/// The tokens of sound; Google's number for it is 4 where names are not wanted.
fn audio(details: Option<&[Detail]>) -> u64 {
    let sound = |detail: &&Detail| detail.modality == "AUDIO" || detail.modality == 4;
    details.unwrap_or_default().iter().filter(sound).map(|detail| detail.token_count).sum()
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
        let heard = audio(self.prompt_tokens_details.as_deref());
        Some(Usage {
            input,
            cached_read: cached,
            cache_write: 0,
            output: self.candidates_token_count.saturating_add(beside),
            reasoning: self.thoughts_token_count,
            audio_input: heard.saturating_sub(audio(self.cache_tokens_details.as_deref())).min(input),
            audio_output: audio(self.candidates_tokens_details.as_deref()),
            ..Usage::default()
        })
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
        assert_eq!((usage.total_tokens(), usage.audio_input), (142, 10));
        assert_eq!(serde_json::from_str::<UsageWire>(r#"{"trafficType":"ON_DEMAND"}"#).unwrap().to_usage(), None);
    }
}
