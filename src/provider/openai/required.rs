//! Log probabilities and service tiers as OpenAI's description of its API has them: clients with closed types break on others.
//!
//! Invariant: what has a meaning of its own stays.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::choice::present;
use super::splice::Splice;

/// The log probabilities of a choice: OpenAI's two lists are always there, `null` where there is none.
pub(super) fn settle_logprobs(raw: &RawValue, splice: &mut Splice<'_>) {
    #[derive(Deserialize)]
    struct View<'a> {
        #[serde(borrow, default, deserialize_with = "present")]
        content: Option<&'a RawValue>,
        #[serde(borrow, default, deserialize_with = "present")]
        refusal: Option<&'a RawValue>,
    }
    let Ok(Some(view)) = serde_json::from_str::<Option<View<'_>>>(raw.get()) else { return };
    let lists = [("content", view.content), ("refusal", view.refusal)];
    let missing = lists.into_iter().filter(|(_, list)| list.is_none());
    splice.insert_inside(raw.get(), &missing.map(|(name, _)| format!("\"{name}\":null")).collect::<Vec<_>>());
}

/// The service tier in OpenAI's words where its meaning is known; any other goes through as it is.
pub(super) fn settle_tier(tier: Option<&RawValue>, splice: &mut Splice<'_>) {
    let Some(tier) = tier.map(RawValue::get) else { return };
    if let Some((_, ours)) = SERVICE_TIERS.iter().find(|(theirs, _)| *theirs == tier) {
        splice.replace(tier, *ours);
    }
}

/// Service tiers as JSON text: theirs and OpenAI's.
const SERVICE_TIERS: &[(&str, &str)] = &[
    // Snowflake.
    ("\"\"", "null"),
    // Groq.
    ("\"on_demand\"", "\"default\""),
    ("\"performance\"", "\"priority\""),
    // Anthropic's and Google's words, as resellers of their models let them through.
    ("\"standard\"", "\"default\""),
    ("\"provisioned\"", "\"scale\""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn log_probabilities_have_both_lists() {
        let text = r#"{"content":[]}"#;
        let mut splice = Splice::new(text.as_bytes());
        settle_logprobs(raw(text), &mut splice);
        assert_eq!(splice.apply().unwrap(), br#"{"refusal":null,"content":[]}"#);
        let mut splice = Splice::new(b"null");
        settle_logprobs(raw("null"), &mut splice);
        assert_eq!(splice.apply(), None);
    }

    #[test]
    fn a_service_tier_is_one_that_openai_has() {
        let text = r#""on_demand""#;
        let mut splice = Splice::new(text.as_bytes());
        settle_tier(Some(raw(text)), &mut splice);
        assert_eq!(splice.apply().unwrap(), br#""default""#);
    }
}
