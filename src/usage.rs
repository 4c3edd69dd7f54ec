//! Tokens as they are billed, whatever a provider calls them.
//!
//! Not here: prices (`catalog`) and booking (`meter`). Each dialect converts its own convention into
//! [`Usage`], whose fields never overlap; [`Usage::prompt_tokens`] gives OpenAI's view back.

/// Tokens of one attempt, in kinds that do not overlap except `reasoning` and `audio_output`, which are part of `output`,
/// and `audio_input`, which is part of `input`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    /// Prompt tokens billed at the full price: without those read from or written to a cache.
    pub input: u64,
    /// Prompt tokens read from a cache.
    pub cached_read: u64,
    /// Prompt tokens written to a cache.
    pub cache_write: u64,
    /// Completion tokens, reasoning included.
    pub output: u64,
    /// The part of `output` spent on reasoning.
    pub reasoning: u64,
    /// The part of `input` that was audio.
    pub audio_input: u64,
    /// The part of `output` that was audio.
    pub audio_output: u64,
}

impl Usage {
    /// OpenAI's `prompt_tokens`: everything the prompt was, cached or not.
    pub const fn prompt_tokens(&self) -> u64 {
        self.input.saturating_add(self.cached_read).saturating_add(self.cache_write)
    }

    /// OpenAI's `total_tokens`.
    pub const fn total_tokens(&self) -> u64 {
        self.prompt_tokens().saturating_add(self.output)
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
