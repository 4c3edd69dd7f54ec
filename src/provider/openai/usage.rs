//! The usage object as compatible providers write it: OpenAI's counts, and where else they put the same ones.
//!
//! OpenAI's convention: the completion holds the reasoning, the prompt what was cached and what was heard, the total is their
//! sum. What is booked follows it, and what the client reads is put right where a provider counts otherwise, and completed
//! where it leaves the details out.
//!
//! Invariant: [`Usage::prompt_tokens`] of the result is the provider's `prompt_tokens`, whatever its details claim; only sound
//! that the total shows to stand beside it is added.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::choice::present;
use super::splice::Splice;
use crate::api::answer::{WireUsage, count, lenient};
use crate::usage::{MOST_TOKENS, Usage};

/// What compatible providers say beside OpenAI's own counts.
#[derive(Deserialize)]
struct Elsewhere {
    /// DeepSeek: the cached part of the prompt. Older versions had no `prompt_tokens_details`.
    #[serde(default, deserialize_with = "count")]
    prompt_cache_hit_tokens: u64,
    /// Moonshot and Hugging Face's router: the same.
    #[serde(default, deserialize_with = "count")]
    cached_tokens: u64,
    /// Mistral: the same.
    #[serde(default, deserialize_with = "count")]
    num_cached_tokens: u64,
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

/// A usage object as OpenAI itself writes it: what there is to read, and nothing to put right.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: WholePrompt,
    completion_tokens_details: WholeCompletion,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WholePrompt {
    cached_tokens: u64,
    audio_tokens: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WholeCompletion {
    reasoning_tokens: u64,
    audio_tokens: u64,
    #[serde(default, rename = "accepted_prediction_tokens")]
    _accepted: u64,
    #[serde(default, rename = "rejected_prediction_tokens")]
    _rejected: u64,
}

/// Reads a usage object that has all that OpenAI's own has, nothing else, and sums that are right: such a one needs neither
/// [`settle`] nor a look for costs. `None` for any other.
pub(super) fn whole(raw: &RawValue) -> Option<Usage> {
    let told: Whole = serde_json::from_str(raw.get()).ok()?;
    let (prompt, completion) = (told.prompt_tokens_details, told.completion_tokens_details);
    let sums = told.prompt_tokens.checked_add(told.completion_tokens)? == told.total_tokens;
    let parts = [prompt.audio_tokens, completion.audio_tokens, completion.reasoning_tokens];
    let believed = told.total_tokens > 0 && parts.iter().all(|part| *part <= told.total_tokens);
    let believed = believed && told.total_tokens <= MOST_TOKENS;
    (sums && believed).then_some(Usage {
        input: told.prompt_tokens.checked_sub(prompt.cached_tokens)?,
        cached_read: prompt.cached_tokens,
        output: told.completion_tokens,
        reasoning: completion.reasoning_tokens,
        audio_input: prompt.audio_tokens,
        audio_output: completion.audio_tokens,
        ..Usage::default()
    })
}

/// Reads a usage object; `None` for anything that is none, and for one without any count.
pub(super) fn read(raw: &RawValue) -> Option<Usage> {
    let wire: WireUsage = serde_json::from_str(raw.get()).ok()?;
    let more: Elsewhere = serde_json::from_str(raw.get()).ok()?;
    if wire == WireUsage::default() {
        return None;
    }
    let details = wire.prompt_tokens_details;
    let cached = first([
        details.cached_tokens,
        more.prompt_cache_hit_tokens,
        more.cached_tokens,
        more.num_cached_tokens,
        more.cache_read_input_tokens,
    ]);
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

/// Whether a usage object says what can't be. What it says of the kinds inside the three sums is not looked at: it never makes
/// the sums larger.
pub(super) fn is_absurd(raw: &RawValue) -> bool {
    let Ok(said) = serde_json::from_str::<Said<'_>>(raw.get()) else { return raw.get() != "null" };
    let counts = [said.prompt_tokens, said.completion_tokens, said.total_tokens];
    let sound = |count: &RawValue| match count.get().parse::<f64>() {
        Ok(number) => number.fract() == 0.0 && (0.0..=MOST_TOKENS as f64).contains(&number),
        Err(_) => count.get() == "null",
    };
    !counts.into_iter().flatten().all(sound)
}

/// The first count that says something.
fn first<const N: usize>(counts: [u64; N]) -> u64 {
    counts.into_iter().find(|count| *count > 0).unwrap_or(0)
}

/// What OpenAI's object has, as it stands there.
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    completion_tokens: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    total_tokens: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    prompt_tokens_details: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    completion_tokens_details: Option<&'a RawValue>,
}

/// Those of a details object that are looked at.
#[derive(Default, Deserialize)]
struct SaidDetails<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    cached_tokens: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    reasoning_tokens: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    audio_tokens: Option<&'a RawValue>,
}

/// A count: its name, what the provider says, what is booked.
type Count<'a> = (&'static str, Option<&'a RawValue>, u64);

/// Makes the usage object of a chat, inside the text that it is a piece of, say in OpenAI's shape what is booked: a client's
/// own sums must agree with its bill. Whatever else the object says stays.
pub(super) fn settle(raw: &RawValue, splice: &mut Splice<'_>) {
    let Some(booked) = read(raw) else { return };
    let Ok(said) = serde_json::from_str::<Said<'_>>(raw.get()) else { return };
    let mut missing = counted(
        [
            ("prompt_tokens", said.prompt_tokens, booked.prompt_tokens()),
            ("completion_tokens", said.completion_tokens, booked.output),
            ("total_tokens", said.total_tokens, booked.total_tokens()),
        ],
        splice,
    );
    let [prompt, completion] = [said.prompt_tokens_details, said.completion_tokens_details]
        .map(|details| details.filter(|raw| raw.get().starts_with('{')))
        .map(|details| details.and_then(|raw| serde_json::from_str::<SaidDetails<'_>>(raw.get()).ok()))
        .map(Option::unwrap_or_default);
    let cached = [
        ("cached_tokens", prompt.cached_tokens, booked.cached_read),
        ("audio_tokens", prompt.audio_tokens, booked.audio_input),
    ];
    let thought = [
        ("reasoning_tokens", completion.reasoning_tokens, booked.reasoning),
        ("audio_tokens", completion.audio_tokens, booked.audio_output),
    ];
    missing.extend(settle_details("prompt_tokens_details", said.prompt_tokens_details, cached, splice));
    missing.extend(settle_details("completion_tokens_details", said.completion_tokens_details, thought, splice));
    splice.insert_inside(raw.get(), &missing);
}

/// The same of embeddings, whose usage has a prompt and a total.
pub(super) fn settle_prompt(raw: &RawValue, splice: &mut Splice<'_>) {
    let booked = read(raw).unwrap_or_default();
    let Ok(said) = serde_json::from_str::<Said<'_>>(raw.get()) else { return };
    let prompt = ("prompt_tokens", said.prompt_tokens, booked.prompt_tokens());
    let total = ("total_tokens", said.total_tokens, booked.total_tokens());
    let missing = counted([prompt, total], splice);
    splice.insert_inside(raw.get(), &missing);
}

/// Puts those right that differ from what is booked; gives those that are missing.
fn counted<const N: usize>(counts: [Count<'_>; N], splice: &mut Splice<'_>) -> Vec<String> {
    let mut missing = Vec::new();
    for (name, said, ours) in counts {
        match said.map(RawValue::get) {
            None => missing.push(format!("\"{name}\":{ours}")),
            Some(said) if said.parse() == Ok(ours) => {}
            Some(said) => splice.replace(said, ours.to_string()),
        }
    }
    missing
}

/// Does the same inside a details object; gives the whole object where there is none.
fn settle_details(
    name: &str,
    said: Option<&RawValue>,
    counts: [Count<'_>; 2],
    splice: &mut Splice<'_>,
) -> Option<String> {
    let missing = counted(counts, splice);
    match said.map(RawValue::get) {
        None => return Some(format!("\"{name}\":{{{}}}", missing.join(","))),
        Some(object) if object.starts_with('{') => splice.insert_inside(object, &missing),
        Some(other) => splice.replace(other, format!("{{{}}}", missing.join(","))),
    }
    None
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

    fn settled_text(text: &str) -> String {
        settled(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn a_client_reads_the_counts_that_are_booked() {
        let details = |cached: u64, heard: u64, thought: u64| {
            format!(
                r#""prompt_tokens_details":{{"cached_tokens":{cached},"audio_tokens":{heard}}},"completion_tokens_details":{{"reasoning_tokens":{thought},"audio_tokens":0}}"#
            )
        };
        let table = [
            // xAI, Google's compatible address, Mistral: beside the completion, in the total alone, beside the prompt.
            (
                r#"{ "prompt_tokens":12, "completion_tokens":1,"total_tokens":303,"x":1e2,"prompt_tokens_details":null,"completion_tokens_details":{"reasoning_tokens":290}}"#.to_owned(),
                r#"{ "prompt_tokens":12, "completion_tokens":291,"total_tokens":303,"x":1e2,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"audio_tokens":0,"reasoning_tokens":290}}"#.to_owned(),
            ),
            (
                r#"{"completion_tokens":6,"prompt_tokens":66,"total_tokens":100}"#.to_owned(),
                format!(r#"{{{},"completion_tokens":34,"prompt_tokens":66,"total_tokens":100}}"#, details(0, 0, 28)),
            ),
            (
                r#"{"prompt_tokens":11,"total_tokens":401,"completion_tokens":15,"prompt_tokens_details":{"audio_tokens":375},"completion_tokens_details":{}}"#.to_owned(),
                r#"{"prompt_tokens":386,"total_tokens":401,"completion_tokens":15,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":375},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}}"#.to_owned(),
            ),
            // DeepSeek: the cache by another name. A total that is no sum.
            (
                format!(r#"{{"prompt_tokens":5,"completion_tokens":2,"total_tokens":0,"prompt_cache_hit_tokens":4,{}}}"#, details(0, 0, 0)),
                format!(r#"{{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7,"prompt_cache_hit_tokens":4,{}}}"#, details(4, 0, 0)),
            ),
            (
                r#"{"prompt_tokens":3,"completion_tokens":2}"#.to_owned(),
                format!(r#"{{"total_tokens":5,{},"prompt_tokens":3,"completion_tokens":2}}"#, details(0, 0, 0)),
            ),
        ];
        for (theirs, ours) in table {
            assert_eq!(settled_text(&theirs), ours);
            assert_eq!(settled_text(&ours), ours, "what is right stays as it is");
        }
        for other in ["7", "{}", "null", r#"{"prompt_tokens":null}"#] {
            assert_eq!(settled_text(other), other);
        }
    }

    #[test]
    fn an_object_like_openais_own_is_read_the_same_way_at_once() {
        let details = r#""prompt_tokens_details":{"cached_tokens":4,"audio_tokens":2},"completion_tokens_details":{"audio_tokens":1,"reasoning_tokens":3,"rejected_prediction_tokens":9}"#;
        let text = format!(r#"{{"total_tokens":17,"prompt_tokens":10,"completion_tokens":7,{details}}}"#);
        let at_once = |text: &str| whole(serde_json::from_str(text).unwrap());
        assert!(at_once(&text).is_some());
        assert_eq!(at_once(&text), read_text(&text));
        assert_eq!(settled_text(&text), text, "there is nothing to put right");
        for other in [
            text.replace("17", "18"),
            text.replace("\"cached_tokens\":4", "\"cached_tokens\":11"),
            text.replace(",\"audio_tokens\":2", ""),
            text.replace("{\"total", "{\"cost\":1,\"total"),
            text.replace("10", "\"10\""),
            text.replace("10", "-10"),
            text.replace("\"cached_tokens\":4", "\"cached_tokens\":null"),
        ] {
            assert_eq!(at_once(&other), None, "{other}");
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
