//! How Google's models think, in one table. Not a catalogue: prices and context windows are not here.
//!
//! Sources: ai.google.dev "Gemini thinking", "OpenAI compatibility" (the budgets of the efforts), "Thought signatures".

use serde_json::{Map, Value, json};

/// How thinking is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thinking {
    /// Not at all.
    None,
    /// `thinkingBudget`, in tokens; a `least` of 0 means that thinking can be turned off.
    Budget {
        /// The smallest budget.
        least: u64,
        /// The largest budget.
        most: u64,
    },
    /// `thinkingLevel`. `LOW` and `HIGH` are always known.
    Level {
        /// Whether `MINIMAL` is known, which comes close to no thinking.
        minimal: bool,
        /// Whether `MEDIUM` is known.
        medium: bool,
    },
}

const ALL_LEVELS: Thinking = Thinking::Level { minimal: true, medium: true };
const PRO_LEVELS: Thinking = Thinking::Level { minimal: false, medium: true };

/// Beginnings of names; the first that fits decides.
const TABLE: &[(&str, Thinking)] = &[
    ("gemini-1", Thinking::None),
    ("gemini-2.0", Thinking::None),
    ("gemini-2.5-flash-image", Thinking::None),
    ("gemini-2.5-pro", Thinking::Budget { least: 128, most: 32_768 }),
    ("gemini-2.5", Thinking::Budget { least: 0, most: 24_576 }),
    ("gemini-3-pro", Thinking::Level { minimal: false, medium: false }),
    ("gemini-3.1-pro", PRO_LEVELS),
    ("gemini-3", ALL_LEVELS),
    ("gemini-flash", ALL_LEVELS),
    ("gemini-embedding", Thinking::None),
    // A newer one is taken to be like the newest large one known.
    ("gemini-", PRO_LEVELS),
];

/// How a model thinks. Gemma and names that are not Google's are taken not to.
pub(super) fn thinking(model: &str) -> Thinking {
    TABLE.iter().find(|(prefix, _)| model.starts_with(prefix)).map_or(Thinking::None, |(_, thinking)| *thinking)
}

impl Thinking {
    /// Whether a function call of the current turn is refused without its thought signature.
    pub(super) const fn wants_signatures(self) -> bool {
        matches!(self, Self::Level { .. })
    }

    /// The `thinkingConfig` of an effort, and whether it says exactly what was asked. `None` for an unknown word.
    pub(super) fn config(self, effort: &str) -> Option<(Map<String, Value>, bool)> {
        let rank =
            ["none", "minimal", "low", "medium", "high", "xhigh", "max"].iter().position(|word| *word == effort)?;
        let (config, exact) = match self {
            Self::None => (json!({}), rank == 0),
            Self::Budget { least, .. } if rank == 0 => (json!({"thinkingBudget": least}), least == 0),
            Self::Budget { most, .. } => {
                let budget = match rank {
                    ..=2 => 1024,
                    3 => 8192,
                    4 => 24_576,
                    _ => most,
                };
                (json!({"thinkingBudget": budget, "includeThoughts": true}), true)
            }
            Self::Level { minimal, medium } => {
                let (level, exact) = match rank {
                    0 => (if minimal { "MINIMAL" } else { "LOW" }, false),
                    1 if minimal => ("MINIMAL", true),
                    1 => ("LOW", false),
                    2 => ("LOW", true),
                    3 if medium => ("MEDIUM", true),
                    3 => ("HIGH", false),
                    4 => ("HIGH", true),
                    _ => ("HIGH", false),
                };
                (json!({"thinkingLevel": level, "includeThoughts": rank > 0}), exact)
            }
        };
        match config {
            Value::Object(config) => Some((config, exact)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_can_be_reached() {
        for (at, (prefix, row)) in TABLE.iter().enumerate() {
            let hidden = TABLE.iter().take(at).any(|(earlier, _)| prefix.starts_with(earlier));
            assert!(!hidden, "{prefix} is hidden");
            assert_eq!(thinking(prefix), *row);
        }
    }

    #[test]
    fn an_effort_becomes_what_the_model_knows() {
        let config = |model: &str, effort: &str| {
            let (config, exact) = thinking(model).config(effort).unwrap();
            (Value::Object(config), exact)
        };
        let budget = |tokens: u64| json!({"thinkingBudget": tokens, "includeThoughts": true});
        let level = |name: &str| json!({"thinkingLevel": name, "includeThoughts": true});
        assert_eq!(config("gemini-2.5-flash", "none"), (json!({"thinkingBudget": 0}), true));
        assert_eq!(config("gemini-2.5-pro", "none"), (json!({"thinkingBudget": 128}), false));
        assert_eq!(config("gemini-2.5-flash-lite", "medium"), (budget(8192), true));
        assert_eq!(config("gemini-2.5-pro", "xhigh"), (budget(32_768), true));
        assert_eq!(config("gemini-3-flash-preview", "minimal"), (level("MINIMAL"), true));
        assert_eq!(config("gemini-3-pro-preview", "medium"), (level("HIGH"), false));
        assert_eq!(config("gemini-3.1-pro-preview", "medium"), (level("MEDIUM"), true));
        assert_eq!(config("gemini-2.0-flash", "high"), (json!({}), false));
        assert!(thinking("gemini-3.5-flash").config("hard").is_none());
    }
}
