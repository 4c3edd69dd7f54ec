//! The four strategies by name, as clients, keys, workspaces and the configuration write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// How candidates are ranked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StrategyName {
    /// Least expected time.
    Fastest,
    /// Least expected cost.
    Cheapest,
    /// Lowest error rate.
    Reliable,
    /// By priority.
    #[default]
    Default,
}

impl StrategyName {
    /// All four, in the order in which error texts name them.
    pub const ALL: [Self; 4] = [Self::Fastest, Self::Cheapest, Self::Reliable, Self::Default];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fastest => "fastest",
            Self::Cheapest => "cheapest",
            Self::Reliable => "reliable",
            Self::Default => "default",
        }
    }
}

impl fmt::Display for StrategyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for StrategyName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|name| name.as_str() == text).ok_or_else(|| {
            Error::invalid("strategy", "Unknown routing strategy: use one of fastest, cheapest, reliable, default.")
        })
    }
}
