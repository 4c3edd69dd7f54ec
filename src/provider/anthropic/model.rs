//! What differs between Anthropic's models, in one table. Not a catalogue: prices and context windows are not here.
//!
//! Sources: platform.claude.com "Models overview", "Adaptive thinking", "Effort", "Structured outputs", "Migration guide".

/// What a model can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::provider) struct Traits {
    /// `max_tokens` when the client names no bound: the model's own maximum, which is what no bound means at OpenAI.
    pub(in crate::provider) max_output: u64,
    /// How thinking is asked for.
    pub(in crate::provider) thinking: Thinking,
    /// Which sampling parameters it takes.
    pub(in crate::provider) sampling: Sampling,
    /// Whether `output_config.format` is known.
    pub(in crate::provider) structured: bool,
}

/// How thinking is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::provider) enum Thinking {
    /// Not at all.
    None,
    /// `{"type":"enabled","budget_tokens":…}`.
    Budget,
    /// `{"type":"adaptive"}` with `output_config.effort`.
    Adaptive {
        /// Whether the effort `xhigh` is known.
        xhigh: bool,
        /// What `reasoning_effort: none` becomes.
        off: Off,
    },
}

/// How an adaptive model is kept from thinking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::provider) enum Off {
    /// By not asking.
    Omit,
    /// By `{"type":"disabled"}`.
    Disable,
    /// It always thinks; the lowest effort is nearest.
    Never,
}

/// Which sampling parameters a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::provider) enum Sampling {
    /// `temperature` and `top_p`.
    Both,
    /// One of the two.
    One,
    /// Only the defaults.
    Fixed,
}

const fn row(max_output: u64, thinking: Thinking, sampling: Sampling, structured: bool) -> Traits {
    Traits { max_output, thinking, sampling, structured }
}

const fn adaptive(xhigh: bool, off: Off) -> Thinking {
    Thinking::Adaptive { xhigh, off }
}

/// Beginnings of names; the first that fits decides.
const TABLE: &[(&str, Traits)] = &[
    ("claude-2", row(4096, Thinking::None, Sampling::Both, false)),
    ("claude-instant", row(4096, Thinking::None, Sampling::Both, false)),
    ("claude-3-5-", row(8192, Thinking::None, Sampling::Both, false)),
    ("claude-3-7-", row(64_000, Thinking::Budget, Sampling::Both, false)),
    ("claude-3-", row(4096, Thinking::None, Sampling::Both, false)),
    ("claude-haiku-4", row(64_000, Thinking::Budget, Sampling::One, true)),
    ("claude-sonnet-4-6", row(128_000, adaptive(false, Off::Omit), Sampling::One, true)),
    ("claude-sonnet-4-5", row(64_000, Thinking::Budget, Sampling::One, true)),
    ("claude-sonnet-4", row(64_000, Thinking::Budget, Sampling::Both, false)),
    ("claude-opus-4-1", row(32_000, Thinking::Budget, Sampling::One, true)),
    ("claude-opus-4-5", row(64_000, Thinking::Budget, Sampling::One, true)),
    ("claude-opus-4-6", row(128_000, adaptive(false, Off::Omit), Sampling::One, true)),
    ("claude-opus-4-7", row(128_000, adaptive(true, Off::Omit), Sampling::Fixed, true)),
    ("claude-opus-4-8", row(128_000, adaptive(true, Off::Omit), Sampling::Fixed, true)),
    ("claude-opus-4", row(32_000, Thinking::Budget, Sampling::Both, false)),
    ("claude-opus-5-5", row(128_000, adaptive(true, Off::Never), Sampling::Fixed, true)),
    ("claude-opus-5", row(128_000, adaptive(true, Off::Disable), Sampling::Fixed, true)),
    ("claude-sonnet-5-5", row(128_000, adaptive(true, Off::Never), Sampling::Fixed, true)),
    ("claude-sonnet-5", row(128_000, adaptive(true, Off::Disable), Sampling::Fixed, true)),
    // A newer one is taken to be like the newest known.
    ("claude-", row(64_000, adaptive(true, Off::Never), Sampling::Fixed, true)),
];

/// A name that is not Anthropic's is served by a compatible server, which knows the API as it first was.
const FOREIGN: Traits = row(16_384, Thinking::Budget, Sampling::Both, true);

/// The traits of a model.
pub(in crate::provider) fn traits(model: &str) -> Traits {
    TABLE.iter().find(|(prefix, _)| model.starts_with(prefix)).map_or(FOREIGN, |(_, traits)| *traits)
}

/// The budget of an effort, for [`Thinking::Budget`]. `max` is Anthropic's own word above `xhigh`.
pub(super) fn budget(effort: &str) -> Option<u64> {
    match effort {
        "minimal" => Some(1024),
        "low" => Some(2048),
        "medium" => Some(8192),
        "high" => Some(16_384),
        "xhigh" | "max" => Some(32_768),
        _ => None,
    }
}

/// The smallest budget that Anthropic takes.
pub(super) const MIN_BUDGET: u64 = 1024;

/// The effort of an adaptive model.
pub(super) fn effort(effort: &str) -> Option<&'static str> {
    match effort {
        "minimal" | "low" => Some("low"),
        "medium" => Some("medium"),
        "high" => Some("high"),
        "xhigh" => Some("xhigh"),
        "max" => Some("max"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_can_be_reached() {
        for (at, (prefix, traits)) in TABLE.iter().enumerate() {
            let earlier = TABLE.iter().take(at).find(|(earlier, _)| prefix.starts_with(earlier));
            assert_eq!(earlier.map(|(earlier, _)| earlier), None, "{prefix} is hidden");
            assert_eq!(super::traits(prefix), *traits);
        }
    }

    #[test]
    fn names_with_dates_and_unknown_names_find_their_row() {
        assert_eq!(traits("claude-3-opus-20240229").max_output, 4096);
        assert_eq!(traits("claude-opus-4-20250514").max_output, 32_000);
        assert_eq!(traits("claude-opus-4-8").sampling, Sampling::Fixed);
        assert!(matches!(traits("claude-fable-7").thinking, Thinking::Adaptive { off: Off::Never, .. }));
        assert_eq!(traits("glm-5").thinking, Thinking::Budget);
    }
}
