//! The usage object as compatible providers write it: OpenAI's counts, and where else they put the same ones.
//!
//! OpenAI's convention: the completion holds the reasoning, the prompt what was cached and what was heard, the total is their
//! sum. What is booked follows it, and what the client reads is put right where a provider counts otherwise.
//!
//! Invariant: [`Usage::prompt_tokens`] of the result is the provider's `prompt_tokens`, whatever its details claim; only sound
//! that the total shows to stand beside it is added.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::splice::Splice;
use crate::api::answer::{WireUsage, count, lenient};
use crate::usage::Usage;

/// What compatible providers say beside OpenAI's own counts.
#[derive(Deserialize)]
struct Elsewhere {
    /// DeepSeek: the cached part of the prompt. Older versions had no `prompt_tokens_details`.
    #[serde(default, deserialize_with = "count")]
    prompt_cache_hit_tokens: u64,
    /// Moonshot and Hugging Face's router: the same.
    #[serde(default, deserialize_with = "count")]
    cached_tokens: u64,
    /// Servers that speak Anthropic's API, too: the same, and what was written.
    #[serde(default, deserialize_with = "count")]
    cache_read_input_tokens: u64,
    #[serde(default, deserialize_with = "count")]
    cache_creation_input_tokens: u64,
    /// Copilot: the reasoning part of the completion.
    #[serde(default, deserialize_with = "count")]
    reasoning_tokens: u64,
    #[serde(default, deserialize_with = "lenient")]
    prompt_tokens_details: Option<Seen>,
    #[serde(default, deserialize_with = "lenient")]
    completion_tokens_details: Option<Seen>,
    /// OpenRouter: the tools that it ran itself.
    #[serde(default, deserialize_with = "lenient")]
    server_tool_use_details: Option<ToolUse>,
}

/// What the details hold beside OpenAI's own counts.
#[derive(Deserialize)]
struct Seen {
    #[serde(default, deserialize_with = "count")]
    image_tokens: u64,
}

#[derive(Deserialize)]
struct ToolUse {
    #[serde(default, deserialize_with = "count")]
    web_search_requests: u64,
}

/// Reads a usage object; `None` for anything that is none, and for one without any count.
pub(super) fn read(raw: &RawValue) -> Option<Usage> {
    let wire: WireUsage = serde_json::from_str(raw.get()).ok()?;
    let more: Elsewhere = serde_json::from_str(raw.get()).ok()?;
    if wire == WireUsage::default() {
        return None;
    }
    let details = wire.prompt_tokens_details;
    let cached =
        first([details.cached_tokens, more.prompt_cache_hit_tokens, more.cached_tokens, more.cache_read_input_tokens]);
    let written = first([details.cache_write_tokens, more.cache_creation_input_tokens]);
    let reasoning = first([wire.completion_tokens_details.reasoning_tokens, more.reasoning_tokens]);
    // Embeddings of Voyage have a total and nothing else.
    let only_total = wire.prompt_tokens == 0 && wire.completion_tokens == 0 && reasoning == 0;
    let named = wire.prompt_tokens + wire.completion_tokens;
    let uncounted = if only_total { 0 } else { wire.total_tokens.saturating_sub(named) };
    // xAI counts reasoning beside the completion, not inside it, and Google's compatible address in the total alone; Mistral
    // counts sound beside the prompt. The total tells.
    let unnamed = reasoning == 0 && details.audio_tokens == 0;
    let thought_beside = if unnamed || uncounted == reasoning { uncounted } else { 0 };
    let heard_beside = if thought_beside == 0 && uncounted == details.audio_tokens { uncounted } else { 0 };
    let prompt = if only_total { wire.total_tokens } else { wire.prompt_tokens + heard_beside };
    // One provider in OpenRouter's pool reports the same tokens as read and as written.
    let cached_read = cached.min(prompt);
    let cache_write = written.min(prompt - cached_read);
    Some(Usage {
        input: prompt - cached_read - cache_write,
        cached_read,
        cache_write,
        output: wire.completion_tokens + thought_beside,
        reasoning: reasoning.max(thought_beside),
        audio_input: details.audio_tokens,
        audio_output: wire.completion_tokens_details.audio_tokens,
        image_input: more.prompt_tokens_details.map_or(0, |seen| seen.image_tokens),
        image_output: more.completion_tokens_details.map_or(0, |seen| seen.image_tokens),
        web_searches: more.server_tool_use_details.map_or(0, |tools| tools.web_search_requests),
        ..Usage::default()
    })
}

/// The first count that says something.
fn first<const N: usize>(counts: [u64; N]) -> u64 {
    counts.into_iter().find(|count| *count > 0).unwrap_or(0)
}

/// The three counts that a client adds up, as they stand there.
#[derive(Deserialize)]
struct Sums<'a> {
    #[serde(borrow)]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    total_tokens: Option<&'a RawValue>,
}

/// Puts those of the three counts right, inside the text that this object is a piece of, that differ from what is booked: a
/// client's own sums must agree with its bill. Whatever else the object says stays.
pub(super) fn settle(raw: &RawValue, splice: &mut Splice<'_>) {
    let Some(booked) = read(raw) else { return };
    let Ok(sums) = serde_json::from_str::<Sums<'_>>(raw.get()) else { return };
    let counts = [
        (sums.prompt_tokens, booked.prompt_tokens()),
        (sums.completion_tokens, booked.output),
        (sums.total_tokens, booked.total_tokens()),
    ];
    for (said, ours) in counts.into_iter().filter_map(|(said, ours)| Some((said?.get(), ours))) {
        if said.parse() != Ok(ours) {
            splice.replace(said, ours.to_string());
        }
    }
}

/// A usage object in OpenAI's own form.
pub(super) fn written(usage: Usage) -> String {
    serde_json::to_string(&WireUsage::from(usage)).unwrap_or_else(|_| "null".to_owned())
}

/// The text of a usage object with its counts put right.
pub(super) fn settled(raw: &RawValue) -> String {
    let mut splice = Splice::new(raw.get().as_bytes());
    settle(raw, &mut splice);
    let changed = splice.apply().and_then(|text| String::from_utf8(text).ok());
    changed.unwrap_or_else(|| raw.get().to_owned())
}

/// The total of a usage object that lacks `prompt_tokens`, which OpenAI's schema requires even of embeddings.
pub(super) fn lone_total(raw: &RawValue) -> Option<u64> {
    let usage: Value = serde_json::from_str(raw.get()).ok()?;
    if usage.get("prompt_tokens").is_some() {
        return None;
    }
    usage.get("total_tokens")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Option<Usage> {
        read(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn cached_tokens_are_found_wherever_they_stand() {
        for place in ["prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens"] {
            let usage = read_text(&format!(
                r#"{{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12,"{place}":8,"prompt_tokens_details":null}}"#
            ));
            let usage = usage.unwrap();
            assert_eq!((usage.input, usage.cached_read, usage.output), (2, 8, 2), "{place}");
        }
    }

    #[test]
    fn reasoning_beside_the_completion_is_billed_and_reasoning_inside_it_is_not_billed_twice() {
        let beside = r#"{"prompt_tokens":12,"completion_tokens":1,"total_tokens":303,"completion_tokens_details":{"reasoning_tokens":290}}"#;
        assert_eq!(read_text(beside).unwrap().output, 291);
        let inside = r#"{"prompt_tokens":12,"completion_tokens":291,"total_tokens":303,"completion_tokens_details":{"reasoning_tokens":290}}"#;
        assert_eq!(read_text(inside).unwrap().output, 291);
    }

    #[test]
    fn reasoning_that_only_the_total_holds_is_billed() {
        let usage = read_text(r#"{"prompt_tokens":66,"completion_tokens":6,"total_tokens":100}"#).unwrap();
        assert_eq!((usage.input, usage.output, usage.reasoning, usage.total_tokens()), (66, 34, 28, 100));
    }

    #[test]
    fn sound_that_stands_beside_the_prompt_is_part_of_it() {
        let usage = read_text(
            r#"{"prompt_tokens":11,"completion_tokens":15,"total_tokens":401,"prompt_tokens_details":{"cached_tokens":9,"audio_tokens":375}}"#,
        );
        let usage = usage.unwrap();
        assert_eq!((usage.input, usage.cached_read, usage.audio_input, usage.total_tokens()), (377, 9, 375, 401));
    }

    #[test]
    fn a_client_reads_the_sums_that_are_booked() {
        let settled = |text: &str| super::settled(serde_json::from_str(text).unwrap());
        let table = [
            // xAI, Google's compatible address, Mistral: beside the completion, in the total alone, beside the prompt.
            (
                r#"{ "prompt_tokens":12, "completion_tokens":1,"total_tokens":303,"x":1e2,"completion_tokens_details":{"reasoning_tokens":290}}"#,
                r#"{ "prompt_tokens":12, "completion_tokens":291,"total_tokens":303,"x":1e2,"completion_tokens_details":{"reasoning_tokens":290}}"#,
            ),
            (
                r#"{"completion_tokens":6,"prompt_tokens":66,"total_tokens":100}"#,
                r#"{"completion_tokens":34,"prompt_tokens":66,"total_tokens":100}"#,
            ),
            (
                r#"{"prompt_tokens":11,"total_tokens":401,"completion_tokens":15,"prompt_tokens_details":{"audio_tokens":375}}"#,
                r#"{"prompt_tokens":386,"total_tokens":401,"completion_tokens":15,"prompt_tokens_details":{"audio_tokens":375}}"#,
            ),
            // A total that is no sum.
            (
                r#"{"prompt_tokens":5,"completion_tokens":2,"total_tokens":0}"#,
                r#"{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}"#,
            ),
        ];
        for (theirs, ours) in table {
            assert_eq!(settled(theirs), ours);
            assert_eq!(settled(ours), ours, "what is right stays as it is");
        }
        for other in ["7", "{}", "null", r#"{"prompt_tokens":null}"#, r#"{"prompt_tokens":3,"completion_tokens":2}"#] {
            assert_eq!(settled(other), other);
        }
    }

    #[test]
    fn details_that_exceed_the_prompt_do_not_make_it_longer() {
        let usage = read_text(
            r#"{"prompt_tokens":2168,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":2161,"cache_write_tokens":2161}}"#,
        );
        let usage = usage.unwrap();
        assert_eq!((usage.input, usage.cached_read, usage.cache_write, usage.prompt_tokens()), (0, 2161, 7, 2168));
    }

    #[test]
    fn a_total_alone_is_the_prompt_and_nothing_is_no_usage() {
        assert_eq!(read_text(r#"{"total_tokens":12}"#).unwrap().input, 12);
        assert_eq!(read_text("{}"), None);
        assert_eq!(read_text("7"), None);
    }
}
