//! Why a figure of the bill is not exact: the closed vocabulary of the ledger's `why`.

use crate::error::ErrorKind;

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// The client left before the provider's figure came.
    ClientGone,
    /// The provider took too long, and was left.
    Timeout,
    /// The answer broke off.
    Truncated,
    /// Another attempt had content earlier, and this one was left.
    HedgeLost,
    /// The gateway ended.
    Stopped,
    /// The attempt failed otherwise after the request had been sent.
    Failed,
    /// The answer was complete, and the provider told no tokens.
    NoFigure,
    /// The provider told tokens that can't be: what could not be believed was counted from what passed.
    AbsurdFigure,
    /// No price is known of the model.
    NoPrice,
    /// No price is known of the service tier: the usual one was taken.
    NoTierPrice,
    /// Served from capacity that is paid for by the hour.
    Committed,
    /// The provider searched the web, and what it takes for that is not known.
    NoSearchPrice,
    /// Another model took part in the answer, and no price is known of it.
    NoPriceOfOther,
}

impl Why {
    /// Every reason.
    pub const ALL: [Self; 13] = [
        Self::ClientGone,
        Self::Timeout,
        Self::Truncated,
        Self::HedgeLost,
        Self::Stopped,
        Self::Failed,
        Self::NoFigure,
        Self::AbsurdFigure,
        Self::NoPrice,
        Self::NoTierPrice,
        Self::Committed,
        Self::NoSearchPrice,
        Self::NoPriceOfOther,
    ];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientGone => "client_gone",
            Self::Timeout => "timeout",
            Self::Truncated => "truncated",
            Self::HedgeLost => "hedge_lost",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::NoFigure => "no_figure",
            Self::AbsurdFigure => "absurd_figure",
            Self::NoPrice => "no_price",
            Self::NoTierPrice => "no_tier_price",
            Self::Committed => "committed",
            Self::NoSearchPrice => "no_search_price",
            Self::NoPriceOfOther => "no_price_of_other_model",
        }
    }

    /// Why the provider's figure of an attempt never came, from how it ended.
    pub const fn no_figure(end: Option<ErrorKind>) -> Self {
        match end {
            None => Self::NoFigure,
            Some(ErrorKind::ClientGone) => Self::ClientGone,
            Some(ErrorKind::ProviderTimeout | ErrorKind::DeadlineExceeded) => Self::Timeout,
            Some(ErrorKind::StreamTruncated) => Self::Truncated,
            Some(ErrorKind::HedgeLost) => Self::HedgeLost,
            Some(ErrorKind::Overloaded) => Self::Stopped,
            Some(_) => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_word_of_its_own() {
        let words: std::collections::HashSet<_> = Why::ALL.map(Why::as_str).into();
        assert_eq!(words.len(), Why::ALL.len());
    }
}
