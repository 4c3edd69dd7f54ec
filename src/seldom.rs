//! What may be said only now and then: in an outage every request fails, and a line of the log for each would be an outage of its own.
//!
//! Invariant: however many threads ask, one of them is let through in each stretch of time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// At most once in so much time.
#[derive(Debug)]
pub struct Seldom {
    every: Duration,
    start: Instant,
    /// Milliseconds after `start` from which on it may be said again.
    next_ms: AtomicU64,
}

impl Seldom {
    /// The first time is at once.
    pub fn new(every: Duration) -> Self {
        Self { every, start: Instant::now(), next_ms: AtomicU64::new(0) }
    }

    /// Whether it may be said now; if so, it counts as said.
    pub fn is_due(&self) -> bool {
        self.is_due_after(self.age())
    }

    /// How long ago it was made.
    pub fn age(&self) -> Duration {
        self.start.elapsed()
    }

    /// The same, so long after it was made.
    pub fn is_due_after(&self, elapsed: Duration) -> bool {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 2);
        let (now, next) = (millis(elapsed), self.next_ms.load(Ordering::Relaxed));
        let following = now.saturating_add(millis(self.every));
        now >= next && self.next_ms.compare_exchange(next, following, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_at_once_and_then_once_in_a_while() {
        let seldom = Seldom::new(Duration::from_secs(5));
        let at = |ms| seldom.is_due_after(Duration::from_millis(ms));
        assert_eq!([0, 0, 4_999, 5_000, 5_001, 20_000].map(at), [true, false, false, true, false, true]);
    }
}
