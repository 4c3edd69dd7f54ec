//! When a route is left alone: five failures in a row open it for ten seconds, then one probe at a time decides.
//!
//! Not here: cool-downs after a 429, which belong to the credential (`stats`).

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use super::Moment;

/// Failures in a row that open the route.
const THRESHOLD: u32 = 5;
/// How long it then stays open, in milliseconds.
const OPEN_MS: u64 = 10_000;

/// What the breaker says now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Requests pass.
    Closed,
    /// One probe may pass.
    HalfOpen,
    /// Nothing passes.
    Open,
}

impl State {
    /// The word used in the dry run and in labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// The breaker of one route.
#[derive(Debug, Default)]
pub struct Breaker {
    failures: AtomicU32,
    open_until: AtomicU64,
    probing: AtomicBool,
}

impl Breaker {
    /// What it says now; changes nothing.
    pub fn state(&self, now: Moment) -> State {
        if self.failures.load(Relaxed) < THRESHOLD {
            State::Closed
        } else if now.0 >= self.open_until.load(Relaxed) && !self.probing.load(Relaxed) {
            State::HalfOpen
        } else {
            State::Open
        }
    }

    /// Takes the permission for one attempt. Half-open, only one caller gets it until its outcome is recorded.
    pub fn enter(&self, now: Moment) -> bool {
        match self.state(now) {
            State::Closed => true,
            State::HalfOpen => !self.probing.swap(true, Relaxed),
            State::Open => false,
        }
    }

    /// An attempt succeeded.
    pub fn success(&self) {
        self.failures.store(0, Relaxed);
        self.probing.store(false, Relaxed);
    }

    /// An attempt failed.
    pub fn failure(&self, now: Moment) {
        if self.failures.fetch_add(1, Relaxed) + 1 >= THRESHOLD {
            self.open_until.store(now.0 + OPEN_MS, Relaxed);
        }
        self.probing.store(false, Relaxed);
    }

    /// An attempt ended without telling anything.
    pub fn release(&self) {
        self.probing.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_open_it_and_one_probe_closes_it() {
        let breaker = Breaker::default();
        for _ in 0..THRESHOLD {
            assert!(breaker.enter(Moment(0)));
            breaker.failure(Moment(0));
        }
        assert!(!breaker.enter(Moment(OPEN_MS - 1)));
        assert!(breaker.enter(Moment(OPEN_MS)), "one probe passes");
        assert!(!breaker.enter(Moment(OPEN_MS)), "a second one does not");
        breaker.success();
        assert_eq!(breaker.state(Moment(OPEN_MS)), State::Closed);
    }

    #[test]
    fn a_failed_probe_opens_it_again_and_a_silent_one_frees_the_place() {
        let breaker = Breaker::default();
        (0..THRESHOLD).for_each(|_| breaker.failure(Moment(0)));
        assert!(breaker.enter(Moment(OPEN_MS)));
        breaker.failure(Moment(OPEN_MS));
        assert_eq!(breaker.state(Moment(OPEN_MS + 1)), State::Open);
        assert!(breaker.enter(Moment(2 * OPEN_MS)));
        breaker.release();
        assert!(breaker.enter(Moment(2 * OPEN_MS)));
    }
}
