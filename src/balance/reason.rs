//! Why a candidate was chosen, and why one was not: the closed vocabulary of logs, metrics and the dry run.

use std::time::Duration;

/// Why a candidate has its place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The strategy's best.
    Best,
    /// As good as the best, and drawn among those.
    Tie,
    /// Drawn by weight among those of one priority.
    Weight,
    /// The better of two that were drawn.
    TwoChoices,
    /// Tried to see how it does now.
    Explore,
    /// The one request that tests a route that was open.
    Probe,
    /// Its cache is warm.
    Sticky,
    /// Next in the order, should the ones before fail.
    Fallback,
    /// It has failed lately; behind everyone who has not.
    Unhealthy,
    /// Expected to be too late, like everyone else that is left.
    OverDeadline,
    /// Without a known price, like everyone else that is left.
    NoPrice,
    /// Its breaker is ignored, because most are open.
    Panic,
}

impl Reason {
    /// Every reason, for metrics that must start at zero.
    pub const ALL: [Self; 12] = [
        Self::Best,
        Self::Tie,
        Self::Weight,
        Self::TwoChoices,
        Self::Explore,
        Self::Probe,
        Self::Sticky,
        Self::Fallback,
        Self::Unhealthy,
        Self::OverDeadline,
        Self::NoPrice,
        Self::Panic,
    ];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::Tie => "tie",
            Self::Weight => "weight",
            Self::TwoChoices => "two_choices",
            Self::Explore => "explore",
            Self::Probe => "probe",
            Self::Sticky => "sticky",
            Self::Fallback => "fallback",
            Self::Unhealthy => "unhealthy",
            Self::OverDeadline => "over_deadline",
            Self::NoPrice => "no_price",
            Self::Panic => "panic",
        }
    }
}

/// Why a candidate is not asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Excluded {
    /// This request asked it already.
    Tried,
    /// The provider refused its credential, which must be changed first.
    Disabled,
    /// Its credential cools down for so long.
    Cooling(Duration),
    /// Its breaker is open, or its probe is under way.
    Open,
    /// It has just recovered and has as many requests as it is trusted with.
    SlowStart,
    /// It is expected to answer after the deadline.
    OverDeadline,
    /// Nobody knows what it costs.
    NoPrice,
}

impl Excluded {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tried => "tried",
            Self::Disabled => "disabled",
            Self::Cooling(_) => "cooling",
            Self::Open => "open",
            Self::SlowStart => "slow_start",
            Self::OverDeadline => "over_deadline",
            Self::NoPrice => "no_price",
        }
    }
}
