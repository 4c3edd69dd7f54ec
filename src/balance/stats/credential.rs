//! What a credential can't be asked for: a while after a 429, not at all once the provider refused it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::balance::Moment;

/// The longest cool-down.
pub const MAX_COOL_DOWN: Duration = Duration::from_secs(300);
/// The first cool-down after a 429 that names no time; each further 429 doubles it.
const FIRST_UNTOLD_MS: u64 = 1000;
/// Doublings of an untold cool-down: 32 seconds at most.
const MAX_DOUBLINGS: u32 = 5;

/// Whether a credential can be asked now.
#[derive(Debug, Default)]
pub struct CredentialStats {
    until: AtomicU64,
    /// 429s without a time since the last success.
    untold: AtomicU32,
    /// The revision at which the provider refused the credential, and in the lowest bit why; zero for none.
    refused: AtomicU64,
}

/// Why a provider will not serve a credential until someone does something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 401 or 403: the key is wrong.
    Key,
    /// Its quota or its money is used up.
    Quota,
}

impl Refusal {
    /// The word of logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Quota => "quota",
        }
    }
}

impl CredentialStats {
    /// Cools down after a 429, for what the provider says or for a guess that grows. A second 429 only extends the time.
    pub fn cool_down(&self, told: Option<Duration>, now: Moment) {
        let wait = told.map_or_else(|| self.guess(), |told| millis(told.min(MAX_COOL_DOWN)));
        self.until.fetch_max(now.0.saturating_add(wait), Relaxed);
    }

    fn guess(&self) -> u64 {
        FIRST_UNTOLD_MS << self.untold.fetch_add(1, Relaxed).min(MAX_DOUBLINGS)
    }

    /// It answered.
    pub fn success(&self) {
        self.untold.store(0, Relaxed);
    }

    /// How much longer it cools down, if it does.
    pub fn cooling(&self, now: Moment) -> Option<Duration> {
        let left = self.until.load(Relaxed).saturating_sub(now.0);
        (left > 0).then(|| Duration::from_millis(left))
    }

    /// The provider refused the credential as it was at this revision. Returns whether that is news, for the one log line
    /// about it.
    pub fn disable(&self, revision: u64, refusal: Refusal) -> bool {
        let word = revision << 1 | u64::from(refusal == Refusal::Quota);
        self.refused.swap(word, Relaxed) != word
    }

    /// Why this revision was refused, if it was. A change makes another revision, which gets a new chance.
    pub fn refused(&self, revision: u64) -> Option<Refusal> {
        let word = self.refused.load(Relaxed);
        let refusal = if word & 1 == 0 { Refusal::Key } else { Refusal::Quota };
        (word != 0 && word >> 1 == revision).then_some(refusal)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_429_that_names_no_time_is_believed_longer_each_time_until_an_answer_comes() {
        let stats = CredentialStats::default();
        let seconds = |stats: &CredentialStats, now| stats.cooling(Moment(now)).map(|left| left.as_secs());
        stats.cool_down(None, Moment(0));
        assert_eq!(seconds(&stats, 0), Some(1));
        stats.cool_down(None, Moment(1000));
        assert_eq!(seconds(&stats, 1000), Some(2));
        (0..20).for_each(|_| stats.cool_down(None, Moment(3000)));
        assert_eq!(seconds(&stats, 3000), Some(32));
        stats.success();
        stats.cool_down(None, Moment(100_000));
        assert_eq!(seconds(&stats, 100_000), Some(1));
    }

    #[test]
    fn a_refused_key_stays_out_until_it_is_changed() {
        let stats = CredentialStats::default();
        assert_eq!(stats.refused(0), None);
        assert!(stats.disable(7, Refusal::Quota), "the first time is news");
        assert!(!stats.disable(7, Refusal::Quota));
        assert_eq!(stats.refused(7), Some(Refusal::Quota));
        assert_eq!(stats.refused(8), None, "a new key gets its chance");
        assert!(stats.disable(8, Refusal::Key));
    }

    proptest! {
        /// The model: the latest of all ends, each at most 300 s after its 429.
        #[test]
        fn cool_downs_only_extend(events in prop::collection::vec((0u64..20_000, 0u64..500_000), 1..40)) {
            let stats = CredentialStats::default();
            let (mut now, mut end) = (0, 0);
            for (pause, wait) in events {
                now += pause;
                stats.cool_down(Some(Duration::from_millis(wait)), Moment(now));
                end = end.max(now + wait.min(300_000));
                let left = stats.cooling(Moment(now)).map_or(0, |left| left.as_millis() as u64);
                prop_assert_eq!(left, end.saturating_sub(now));
                prop_assert!(stats.cooling(Moment(end)).is_none());
            }
        }
    }
}
