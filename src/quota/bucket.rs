//! A bucket of so many units a minute: full at first, refilled steadily, taken from at once.
//!
//! Invariant: it never holds more than a minute's worth. It may go below zero, when more was used than was asked for.

/// Milliseconds of a minute.
const MINUTE_MS: f64 = 60_000.0;

/// What is left of a limit for a minute. Time is milliseconds of a clock that never goes back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    /// Units that are used up and not yet refilled; zero is a full bucket, whatever the limit.
    used: f64,
    refilled_ms: u64,
}

/// What a bucket would say of itself now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// The limit for a minute.
    pub limit: u64,
    /// Whole units that are left.
    pub remaining: u64,
    /// Until the bucket is full again, in milliseconds.
    pub reset_ms: u64,
}

impl Bucket {
    /// Takes so many units. More than the bucket can ever hold is asked of a full one, or such a request could never pass.
    ///
    /// Errors: the milliseconds until there are enough.
    pub(super) fn take(&mut self, units: u64, limit: u64, now_ms: u64) -> Result<(), u64> {
        self.refill(limit, now_ms);
        let lacking = self.used + (units.min(limit)) as f64 - limit as f64;
        if limit == 0 {
            return Err(MINUTE_MS as u64);
        }
        if lacking > 0.0 {
            return Err(time_for(lacking, limit).max(1));
        }
        self.used += units as f64;
        Ok(())
    }

    /// Puts back what was taken and not used, or takes what was used beyond it.
    pub(super) fn correct(&mut self, taken: u64, used: u64) {
        self.used = (self.used + used as f64 - taken as f64).max(0.0);
    }

    /// What is left.
    pub(super) fn level(&mut self, limit: u64, now_ms: u64) -> Level {
        self.refill(limit, now_ms);
        let remaining = (limit as f64 - self.used).max(0.0) as u64;
        Level { limit, remaining, reset_ms: time_for(self.used, limit) }
    }

    fn refill(&mut self, limit: u64, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.refilled_ms) as f64;
        self.refilled_ms = self.refilled_ms.max(now_ms);
        self.used = (self.used - passed * limit as f64 / MINUTE_MS).max(0.0);
    }
}

/// Milliseconds until so many units are refilled.
fn time_for(units: f64, limit: u64) -> u64 {
    (units * MINUTE_MS / (limit.max(1)) as f64).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ten_a_minute_are_ten_at_once_and_then_one_every_six_seconds() {
        let mut bucket = Bucket::default();
        assert!((0..10).all(|_| bucket.take(1, 10, 0).is_ok()));
        assert_eq!(bucket.take(1, 10, 0), Err(6000));
        assert_eq!(bucket.level(10, 0), Level { limit: 10, remaining: 0, reset_ms: 60_000 });
        assert_eq!(bucket.take(1, 10, 6000), Ok(()));
    }

    #[test]
    fn a_request_that_is_larger_than_the_limit_passes_a_full_bucket_and_is_paid_off() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(250, 100, 0), Ok(()));
        assert_eq!(bucket.take(1, 100, 60_000), Err(30_600));
        assert_eq!(bucket.take(1, 100, 90_600), Ok(()));
    }

    #[test]
    fn what_was_not_used_comes_back() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(100, 100, 0), Ok(()));
        bucket.correct(100, 40);
        assert_eq!(bucket.level(100, 0).remaining, 60);
    }

    #[test]
    fn a_limit_of_zero_lets_nothing_pass() {
        assert_eq!(Bucket::default().take(0, 0, 0), Err(60_000));
    }

    proptest! {
        #[test]
        fn no_window_of_time_passes_more_than_its_share(limit in 1_u64..200, steps in prop::collection::vec((0_u64..2000, 1_u64..5), 1..200)) {
            let mut bucket = Bucket::default();
            let (mut now, mut passed) = (0, 0);
            for (wait, units) in steps {
                now += wait;
                let units = units.min(limit);
                passed += if bucket.take(units, limit, now).is_ok() { units } else { 0 };
                let most = limit as f64 * (1.0 + now as f64 / MINUTE_MS);
                prop_assert!(passed as f64 <= most + 1e-6, "{passed} passed until {now} ms, {most} were allowed");
            }
        }
    }
}
