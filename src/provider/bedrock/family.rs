//! What differs from one family of models to the next: how reasoning is asked for, and what an answer can be held to.
//!
//! Claude's models follow the same table as at Anthropic. A name that says nothing of its family (the ARN of an application's
//! inference profile) belongs to [`Family::Other`]; its client can still send `additionalModelRequestFields`.

use crate::provider::anthropic::model::{Traits, traits};

/// A family of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// Anthropic's.
    Claude(Traits),
    /// Amazon's, without reasoning.
    Nova,
    /// Amazon's second generation, with reasoning.
    Nova2,
    /// OpenAI's.
    Gpt,
    /// Those whose only parameters are Converse's own; whether they know schemas.
    Other { structured: bool },
}

/// Where cache points may stand (docs.aws.amazon.com/bedrock "Prompt caching", "Supported models").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caching {
    /// Nowhere: a request with one is refused.
    Nowhere,
    /// In instructions and messages.
    Messages,
    /// Behind tools, too.
    Everywhere,
}

/// Makers whose models are not held to a schema.
const UNSTRUCTURED: [&str; 6] = ["amazon.titan", "meta.", "cohere.", "ai21.", "writer.", "deepseek.r1"];

/// The family of a model id, an inference profile or an ARN.
pub(super) fn family(model: &str) -> Family {
    let after = |maker: &str| model.split_once(maker).map(|(_, name)| name);
    if let Some(name) = after("anthropic.") {
        // The oldest have names of their own at Bedrock.
        return Family::Claude(traits(if name.starts_with("claude-v") { "claude-2" } else { name }));
    }
    if let Some(generation) = after("amazon.nova-") {
        return if generation.starts_with("2-") { Family::Nova2 } else { Family::Nova };
    }
    if after("openai.gpt-").is_some() {
        return Family::Gpt;
    }
    let name = model.rsplit('/').next().unwrap_or_default();
    Family::Other { structured: !is_profile(model) && !UNSTRUCTURED.iter().any(|maker| name.contains(maker)) }
}

/// Where this model takes cache points. One that hides behind a profile's ARN may be any, and is believed.
pub(super) fn caching(model: &str) -> Caching {
    match family(model) {
        Family::Claude(_) => Caching::Everywhere,
        Family::Nova | Family::Nova2 => Caching::Messages,
        Family::Other { .. } if is_profile(model) => Caching::Everywhere,
        Family::Gpt | Family::Other { .. } => Caching::Nowhere,
    }
}

/// The ARN of an application's inference profile, which does not tell the model.
fn is_profile(model: &str) -> bool {
    model.starts_with("arn:") && model.contains(":application-inference-profile/")
}

impl Family {
    /// Whether `outputConfig.textFormat` is known.
    pub(super) const fn is_structured(self) -> bool {
        match self {
            Self::Claude(traits) => traits.structured,
            Self::Nova | Self::Nova2 => false,
            Self::Gpt => true,
            Self::Other { structured } => structured,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_found_in_every_form_of_a_name() {
        let arn =
            "arn:aws:bedrock:us-east-1:000000000000:inference-profile/us.anthropic.claude-3-7-sonnet-20250219-v1:0";
        assert_eq!(family(arn), Family::Claude(traits("claude-3-7-sonnet")));
        assert_eq!(family("global.anthropic.claude-opus-4-8"), Family::Claude(traits("claude-opus-4-8")));
        assert_eq!(family("anthropic.claude-v2:1"), Family::Claude(traits("claude-2")));
        assert_eq!(family("us.amazon.nova-2-lite-v1:0"), Family::Nova2);
        assert_eq!(family("amazon.nova-micro-v1:0"), Family::Nova);
        assert_eq!(family("openai.gpt-oss-120b-1:0"), Family::Gpt);
        assert!(family("minimax.minimax-m2").is_structured());
        assert!(!family("us.meta.llama3-3-70b-instruct-v1:0").is_structured());
        assert!(!family("arn:aws:bedrock:us-east-1:0:application-inference-profile/abc").is_structured());
    }
}
