//! Tokens as they are billed, whatever a provider calls them.
//!
//! Not here: prices (`catalog`) and booking (`meter`). Each dialect converts its own convention into
//! [`Usage`]; [`Usage::prompt_tokens`] gives OpenAI's view back. What a provider says of its bill beside tokens is a [`Bill`].

use crate::money::Money;

/// Tokens of one attempt. `input`, `cached_read`, `cache_write` and `output` do not overlap; every other kind of token is part of
/// one of them. A kind that came later is left out where there is none of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    /// Prompt tokens billed at the full price: without those read from or written to a cache.
    pub input: u64,
    /// Prompt tokens read from a cache.
    pub cached_read: u64,
    /// Prompt tokens written to a cache, for however long.
    pub cache_write: u64,
    /// Completion tokens, reasoning included.
    pub output: u64,
    /// The part of `output` spent on reasoning.
    pub reasoning: u64,
    /// The part of `input` that was audio.
    pub audio_input: u64,
    /// The part of `output` that was audio.
    pub audio_output: u64,
    /// The part of `cache_write` that is kept for an hour, where the usual time is shorter.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_write_1h: u64,
    /// The part of `cached_read` that was audio.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cached_audio: u64,
    /// The part of `input` that was images.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub image_input: u64,
    /// The part of `output` that was images.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub image_output: u64,
    /// Searches of the web that the provider made and bills apart; no tokens.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub web_searches: u64,
}

/// The most tokens of one attempt that are believed.
pub const MOST_TOKENS: u64 = 1_000_000_000;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Usage {
    /// How many counts there are.
    pub const KINDS: usize = 12;

    /// OpenAI's `prompt_tokens`: everything the prompt was, cached or not.
    pub const fn prompt_tokens(&self) -> u64 {
        self.input.saturating_add(self.cached_read).saturating_add(self.cache_write)
    }

    /// OpenAI's `total_tokens`.
    pub const fn total_tokens(&self) -> u64 {
        self.prompt_tokens().saturating_add(self.output)
    }

    /// Whether a request can have used so much: no model reads or writes a thousandth of this at once.
    pub const fn is_believable(&self) -> bool {
        self.total_tokens() <= MOST_TOKENS
    }

    /// Adds every kind; nothing wraps.
    pub fn add(&mut self, more: &Self) {
        let (mut sums, more) = (self.counts(), more.counts());
        sums.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        *self = Self::from_counts(sums);
    }

    /// Every count, in the order of the fields; what is written to disk in this order is read back by [`Self::from_counts`].
    pub const fn counts(&self) -> [u64; Self::KINDS] {
        // Taken apart field by field, so that a field which is added can't be forgotten here.
        let Self {
            input,
            cached_read,
            cache_write,
            output,
            reasoning,
            audio_input,
            audio_output,
            cache_write_1h,
            cached_audio,
            image_input,
            image_output,
            web_searches,
        } = *self;
        [
            input,
            cached_read,
            cache_write,
            output,
            reasoning,
            audio_input,
            audio_output,
            cache_write_1h,
            cached_audio,
            image_input,
            image_output,
            web_searches,
        ]
    }

    /// The usage that has these counts.
    pub const fn from_counts(counts: [u64; Self::KINDS]) -> Self {
        let [
            input,
            cached_read,
            cache_write,
            output,
            reasoning,
            audio_input,
            audio_output,
            cache_write_1h,
            cached_audio,
            image_input,
            image_output,
            web_searches,
        ] = counts;
        Self {
            input,
            cached_read,
            cache_write,
            output,
            reasoning,
            audio_input,
            audio_output,
            cache_write_1h,
            cached_audio,
            image_input,
            image_output,
            web_searches,
        }
    }
}

/// What a provider says of the bill of one attempt, beside its tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bill {
    /// The tier that served.
    pub tier: ServiceTier,
    /// Whether it was served from one region only, for which some models cost more.
    pub regional: bool,
    /// What the provider charges, where it says so: it stands, whatever the catalogue thinks.
    pub cost: Option<Money>,
    /// The provider's figure is its last, whatever becomes of the answer.
    pub closed: bool,
    /// Tokens of other models that the answer was made with, by their names at the same provider.
    pub others: Vec<(String, Usage)>,
    /// Its counts can't be: negative, fractions, texts, beyond all bounds, or fewer than it said before.
    pub doubtful: bool,
}

/// Which of its service tiers a provider says that it served from. A price that differs by tier is in the catalogue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ServiceTier {
    /// The usual one, or none was named.
    #[default]
    Standard,
    /// Answered within a day, for half the price.
    Batch,
    /// Cheaper and slower.
    Flex,
    /// Dearer and faster.
    Priority,
    /// Capacity that is paid for by the hour: these tokens have no price of their own.
    Committed,
    /// A word that is not known here.
    Other,
}

impl ServiceTier {
    /// Reads what a provider calls its tier, in any case.
    pub fn from_word(word: &str) -> Self {
        const WORDS: [(ServiceTier, &[&str]); 5] = [
            (ServiceTier::Standard, &["", "auto", "default", "standard", "on_demand", "traffic_type_unspecified"]),
            (ServiceTier::Batch, &["batch"]),
            (ServiceTier::Flex, &["flex", "on_demand_flex"]),
            (ServiceTier::Priority, &["priority", "on_demand_priority"]),
            (ServiceTier::Committed, &["provisioned", "provisioned_throughput", "reserved", "scale"]),
        ];
        let is_it = |words: &[&str]| words.iter().any(|known| known.eq_ignore_ascii_case(word));
        WORDS.iter().find(|(_, words)| is_it(words)).map_or(Self::Other, |(tier, _)| *tier)
    }

    /// The word used in the ledger; none for the usual tier.
    pub const fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Standard => None,
            Self::Batch => Some("batch"),
            Self::Flex => Some("flex"),
            Self::Priority => Some("priority"),
            Self::Committed => Some("committed"),
            Self::Other => Some("other"),
        }
    }
}

/// What a cost was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CostSource {
    /// The provider said what it charges.
    Reported,
    /// Tokens by the catalogue's prices.
    Catalogue,
}

impl CostSource {
    /// The word used in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Catalogue => "catalogue",
        }
    }
}

/// How sure a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    /// The provider said so.
    Exact,
    /// Counted from what passed, because the provider's figure never came.
    Estimated,
    /// Tokens are known, a price is not.
    Unpriced,
}

impl Certainty {
    /// The word used in the ledger and in labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Estimated => "estimated",
            Self::Unpriced => "unpriced",
        }
    }
}

/// Tokens of a text, when nobody counted them: four bytes a token, the usual rule of thumb for English.
pub const fn estimate_tokens(bytes: u64) -> u64 {
    bytes.div_ceil(4)
}

/// Characters in a row that no text has: images, sound and files in base64 do.
const BLOB: usize = 1024;
/// Tokens of a blob, whose size says little about them: those of a usual image.
const BLOB_TOKENS: u64 = 1000;

/// Tokens of a request's body, when nobody counted them: its text by its bytes, and each image or file as one usual image.
pub fn estimate_prompt(body: &[u8]) -> u64 {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_');
    let (mut text, mut blobs) = (0, 0);
    for run in body.chunk_by(|left, right| is_base64(left) && is_base64(right)) {
        if run.len() < BLOB {
            text += run.len() as u64;
        } else {
            blobs += 1;
        }
    }
    estimate_tokens(text).saturating_add(BLOB_TOKENS * blobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_not_estimated_by_its_bytes() {
        let text = "How are you today? ".repeat(100);
        assert_eq!(estimate_prompt(text.as_bytes()), estimate_tokens(text.len() as u64));
        let image = format!("{text}\"data:image/png;base64,{}\"", "iVBOR/+w".repeat(100_000));
        let estimated = estimate_prompt(image.as_bytes());
        assert!((BLOB_TOKENS + 400..BLOB_TOKENS + 600).contains(&estimated), "{estimated}");
        assert_eq!(estimate_prompt(b""), 0);
    }

    #[test]
    fn every_kind_is_added_and_none_wraps() {
        let mut sum = Usage { input: u64::MAX, web_searches: 1, ..Usage::default() };
        sum.add(&Usage { input: 1, image_output: 2, web_searches: 3, ..Usage::default() });
        assert_eq!(sum, Usage { input: u64::MAX, image_output: 2, web_searches: 4, ..Usage::default() });
    }

    #[test]
    fn a_record_without_the_later_kinds_is_read_and_written_as_it_was() {
        let old =
            r#"{"input":1,"cached_read":2,"cache_write":3,"output":4,"reasoning":5,"audio_input":6,"audio_output":7}"#;
        let usage: Usage = serde_json::from_str(old).unwrap();
        assert_eq!((usage.cache_write_1h, serde_json::to_string(&usage).unwrap().as_str()), (0, old));
    }
}
