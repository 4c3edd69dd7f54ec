//! What one workspace or virtual key has used: its buckets, its spending of the day and the month, what is under way.
//!
//! Not here: what it is allowed, which comes in with each call, so that a changed limit counts at once. Invariant: what was
//! taken is given back or settled exactly once, which [`super::Reservation`] sees to.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::Allowance;
use super::bucket::{Bucket, Level};
use crate::money::Money;

/// A moment on both clocks: one that never goes back, in milliseconds, and the calendar's.
#[derive(Clone, Copy, Debug)]
pub struct When {
    /// Milliseconds since some fixed moment of this process.
    pub ms: u64,
    /// The wall clock.
    pub at: Timestamp,
}

/// What a request takes: tokens and money, as expected before and as used afterwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Prompt and completion tokens.
    pub tokens: u64,
    /// Money.
    pub cost: Money,
}

/// Which limit a request ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Requests in a minute.
    Requests,
    /// Tokens in a minute.
    Tokens,
    /// Money in a day.
    Day,
    /// Money in a month.
    Month,
}

impl Limit {
    /// Every limit.
    pub const ALL: [Self; 4] = [Self::Requests, Self::Tokens, Self::Day, Self::Month];

    /// The word of metrics and error texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests_per_minute",
            Self::Tokens => "tokens_per_minute",
            Self::Day => "usd_per_day",
            Self::Month => "usd_per_month",
        }
    }
}

/// A limit that is used up, and how long until it may pass, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full {
    pub(super) limit: Limit,
    pub(super) wait_ms: u64,
}

/// What is left of the limits for a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Requests.
    pub requests: Option<Level>,
    /// Tokens.
    pub tokens: Option<Level>,
}

impl Standing {
    /// Of two, for each limit the one that is nearer its end.
    pub(super) fn tighter(self, other: Self) -> Self {
        let less = |a: Option<Level>, b: Option<Level>| match (a, b) {
            (Some(a), Some(b)) => Some(if b.remaining < a.remaining { b } else { a }),
            (one, None) | (None, one) => one,
        };
        Self { requests: less(self.requests, other.requests), tokens: less(self.tokens, other.tokens) }
    }
}

/// One subject's use.
#[derive(Debug, Default)]
pub struct Account {
    state: Mutex<State>,
    /// Requests under way; kept by `shed`.
    pub in_flight: AtomicU64,
    /// Bytes of bodies that are held; kept by `shed`.
    pub held_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    requests: Bucket,
    tokens: Bucket,
    day: Spending,
    month: Spending,
    /// Money that requests under way are expected to cost.
    reserved: Money,
}

/// Money of one day or month; another one begins at zero.
#[derive(Debug, Default)]
struct Spending {
    /// The first day of the period.
    begins: Option<Date>,
    spent: Money,
}

impl Spending {
    fn add(&mut self, begins: Date, cost: Money) {
        match self.begins {
            Some(current) if begins < current => {}
            Some(current) if begins == current => self.spent += cost,
            _ => *self = Self { begins: Some(begins), spent: cost },
        }
    }

    fn spent(&self, begins: Date) -> Money {
        if self.begins == Some(begins) { self.spent } else { Money::ZERO }
    }
}

impl Account {
    /// Takes one request of this amount, or nothing at all.
    pub(super) fn take(&self, allowance: &Allowance, amount: Amount, when: When) -> Result<(), Full> {
        let mut state = self.state();
        state.check_budgets(allowance, amount.cost, when.at)?;
        if let Some(limit) = allowance.requests_per_minute {
            let full = |wait_ms| Full { limit: Limit::Requests, wait_ms };
            state.requests.take(1, limit, when.ms).map_err(full)?;
        }
        if let Some(limit) = allowance.tokens_per_minute
            && let Err(wait_ms) = state.tokens.take(amount.tokens, limit, when.ms)
        {
            state.requests.correct(1, 0);
            return Err(Full { limit: Limit::Tokens, wait_ms });
        }
        state.reserved += amount.cost;
        Ok(())
    }

    /// Gives a whole request back, as if it had never come.
    pub(super) fn give_back(&self, taken: Amount) {
        let mut state = self.state();
        state.requests.correct(1, 0);
        state.release(taken, 0);
    }

    /// Replaces what was taken by what was used, for a request that came at this moment.
    pub(super) fn settle(&self, taken: Amount, used: Amount, came: Timestamp) {
        let mut state = self.state();
        state.release(taken, used.tokens);
        let (day, month) = periods(came);
        state.day.add(day, used.cost);
        state.month.add(month, used.cost);
    }

    /// What earlier processes spent on a day.
    pub fn spent_before(&self, day: Date, cost: Money) {
        let mut state = self.state();
        state.day.add(day, cost);
        state.month.add(day.first_of_month(), cost);
    }

    /// What is left of the limits for a minute.
    pub(super) fn standing(&self, allowance: &Allowance, when: When) -> Standing {
        let mut state = self.state();
        Standing {
            requests: allowance.requests_per_minute.map(|limit| state.requests.level(limit, when.ms)),
            tokens: allowance.tokens_per_minute.map(|limit| state.tokens.level(limit, when.ms)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn release(&mut self, taken: Amount, used_tokens: u64) {
        self.tokens.correct(taken.tokens, used_tokens);
        self.reserved = Money(self.reserved.0.saturating_sub(taken.cost.0));
    }

    fn check_budgets(&self, allowance: &Allowance, cost: Money, at: Timestamp) -> Result<(), Full> {
        let (day, month) = periods(at);
        let budgets = [
            (Limit::Day, allowance.per_day, self.day.spent(day), day.tomorrow()),
            (Limit::Month, allowance.per_month, self.month.spent(month), month.last_of_month().tomorrow()),
        ];
        for (limit, allowed, spent, next) in budgets {
            let Some(allowed) = allowed else { continue };
            // An empty budget is full even for what costs nothing, or an unpriced model would be free of it.
            if spent + self.reserved + cost > allowed || spent >= allowed {
                return Err(Full { limit, wait_ms: next.map_or(0, |next| until(next, at)) });
            }
        }
        Ok(())
    }
}

/// The day and the first day of the month of a moment, in UTC.
fn periods(at: Timestamp) -> (Date, Date) {
    let day = at.to_zoned(TimeZone::UTC).date();
    (day, day.first_of_month())
}

/// Milliseconds from a moment until a day begins.
fn until(day: Date, at: Timestamp) -> u64 {
    let begins = day.to_zoned(TimeZone::UTC).map_or(at, |zoned| zoned.timestamp());
    u64::try_from(begins.as_millisecond() - at.as_millisecond()).unwrap_or(0)
}
