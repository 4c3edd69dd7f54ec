//! What OpenAI's description of its API requires of every answer and chunk, put in where a provider leaves it out: one real
//! identity, the members of choices, messages and log probabilities, and a known service tier.
//!
//! Clients with closed types break without them. Invariant: what the provider said stays, except for an identity that is
//! none (an empty id, the moment zero) or that changes in the middle of a stream.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::AnswerContext;
use super::splice::Splice;

/// Reads a member with its `null`, because a second one must not be put beside it.
pub(super) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Which answer this is, as far as the provider says it: JSON texts, `null` included.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said<'a> {
    pub id: Option<&'a RawValue>,
    pub object: Option<&'a RawValue>,
    pub created: Option<&'a RawValue>,
    pub model: Option<&'a RawValue>,
}

impl Said<'_> {
    /// Whether it names an answer. Azure's account of the prompt comes before there is one.
    pub(super) fn is_real(&self) -> bool {
        self.id.is_some_and(is_text) && self.model.is_some_and(is_text)
    }
}

/// Which answer this is, as JSON texts: what the provider says, or what the gateway says where that is nothing.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub id: String,
    pub created: String,
    pub model: String,
}

impl Identity {
    pub(super) fn of(said: &Said<'_>, context: &AnswerContext) -> Self {
        let text = |raw: Option<&RawValue>, ours: &str| match raw.filter(|raw| is_text(raw)) {
            Some(raw) => raw.get().to_owned(),
            None => serde_json::Value::from(ours).to_string(),
        };
        Self {
            id: text(said.id, &context.id),
            created: said.created.and_then(moment).unwrap_or(context.created).to_string(),
            model: text(said.model, &context.model),
        }
    }

    /// Makes a value's identity this one.
    pub(super) fn settle(&self, said: &Said<'_>, object: &str, splice: &mut Splice<'_>) {
        let object = format!("\"{object}\"");
        let wanted = [
            ("id", said.id, &self.id),
            ("object", said.object, &object),
            ("created", said.created, &self.created),
            ("model", said.model, &self.model),
        ];
        for (name, said, ours) in wanted {
            match said {
                None => splice.open(format!("\"{name}\":{ours}")),
                Some(raw) if raw.get() == ours => {}
                Some(raw) => splice.replace(raw.get(), ours.as_str()),
            }
        }
    }
}

fn is_text(raw: &RawValue) -> bool {
    raw.get().starts_with('"') && raw.get() != "\"\""
}

/// Seconds since 1970; some servers write them with a fraction.
fn moment(raw: &RawValue) -> Option<i64> {
    let text = raw.get().split('.').next()?;
    text.parse().ok().filter(|seconds| *seconds > 0)
}

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
    use crate::provider::tests_support::context;

    fn raw(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn an_identity_is_the_providers_where_that_is_real() {
        let (id, zero, model) = (raw(r#""a""#), raw("0"), raw(r#""""#));
        let said = Said { id: Some(id), object: None, created: Some(zero), model: Some(model) };
        let identity = Identity::of(&said, &context("openai"));
        assert_eq!(
            (identity.id.as_str(), identity.created.as_str(), identity.model.as_str()),
            ("\"a\"", "1700000000", "\"model\"")
        );
        assert_eq!(moment(raw("1752731406.25")), Some(1_752_731_406));
        assert!(!Said { id: Some(raw("null")), ..Said::default() }.is_real());
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
