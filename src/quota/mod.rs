//! Rate limits and budgets of workspaces and virtual keys: reserved before a request is served, settled when it is booked.
//!
//! Sans-I/O: time comes in as an argument. Not here: load shedding (`shed`), the retry budget (`balance`), the ledger, which
//! stays the truth about money. An [`Allowance`] is what is allowed, an [`Account`] what is used.
//!
//! Invariants: a request takes from its key and its workspace, or from neither; requests under way count with what they
//! are expected to use, so that no number of concurrent requests passes a limit; every reservation ends exactly once.

mod account;
mod allowance;
mod bucket;

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use account::Full;
pub use account::{Account, Amount, Limit, Standing, When};
pub use allowance::Allowance;
pub use bucket::Level;

/// Somebody with limits.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// `virtual key` or `workspace`, for error texts.
    pub what: &'static str,
    /// What it may use.
    pub allowance: &'a Allowance,
    /// What it has used.
    pub account: &'a Arc<Account>,
}

/// What a request has taken from the accounts of its subjects. Dropped without [`settle`](Self::settle), it gives the tokens and
/// the money back; the request itself stays counted, because it was served an answer, if only an error.
#[derive(Debug)]
pub struct Reservation {
    accounts: Vec<Arc<Account>>,
    taken: Amount,
    came: When,
}

/// Why a request may not pass now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refusal {
    /// The limit it ran into.
    pub limit: Limit,
    /// Whose limit that is.
    pub whose: &'static str,
    /// What that limit is.
    allowed: f64,
    /// When it may pass.
    pub wait: Duration,
}

impl Reservation {
    /// Takes a request of this amount from every subject, or from none.
    pub fn take(subjects: &[Subject<'_>], amount: Amount, when: When) -> Result<Self, Refusal> {
        let mut reservation = Self { accounts: Vec::with_capacity(subjects.len()), taken: amount, came: when };
        for subject in subjects {
            if let Err(full) = subject.account.take(subject.allowance, amount, when) {
                reservation.accounts.drain(..).for_each(|account| account.give_back(amount));
                return Err(Refusal::new(subject, full));
            }
            reservation.accounts.push(Arc::clone(subject.account));
        }
        Ok(reservation)
    }

    /// Replaces what was expected by what was used.
    pub fn settle(mut self, used: Amount) {
        let (taken, came) = (self.taken, self.came.at);
        self.accounts.drain(..).for_each(|account| account.settle(taken, used, came));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let (taken, came) = (self.taken, self.came.at);
        self.accounts.drain(..).for_each(|account| account.settle(taken, Amount::default(), came));
    }
}

/// What is left to a request of these subjects: for each limit the tightest.
pub fn standing(subjects: &[Subject<'_>], when: When) -> Standing {
    let standings = subjects.iter().map(|subject| subject.account.standing(subject.allowance, when));
    standings.fold(Standing::default(), Standing::tighter)
}

impl Refusal {
    fn new(subject: &Subject<'_>, full: Full) -> Self {
        let allowance = subject.allowance;
        let allowed = match full.limit {
            Limit::Requests => allowance.requests_per_minute.map(|limit| limit as f64),
            Limit::Tokens => allowance.tokens_per_minute.map(|limit| limit as f64),
            Limit::Day => allowance.per_day.map(|limit| limit.dollars()),
            Limit::Month => allowance.per_month.map(|limit| limit.dollars()),
        };
        let wait = Duration::from_millis(full.wait_ms);
        Self { limit: full.limit, whose: subject.what, allowed: allowed.unwrap_or_default(), wait }
    }
}

impl From<Refusal> for Error {
    /// A 429 in the words that OpenAI's clients know: `rate_limit_exceeded`, which they try again, or `insufficient_quota`.
    fn from(refusal: Refusal) -> Self {
        let Refusal { limit, whose, allowed, wait } = refusal;
        let (kind, error_type, code) = match limit {
            Limit::Requests => (ErrorKind::RateLimited, "requests", "rate_limit_exceeded"),
            Limit::Tokens => (ErrorKind::RateLimited, "tokens", "rate_limit_exceeded"),
            Limit::Day | Limit::Month => (ErrorKind::BudgetExceeded, "insufficient_quota", "insufficient_quota"),
        };
        let limit = limit.as_str();
        let message = format!("The limit {limit} = {allowed} of this {whose} is reached; see Retry-After.");
        Self::new(kind, message).with_type(error_type).with_code(code).with_retry_after(wait)
    }
}

/// A time as OpenAI writes it in `x-ratelimit-reset-…`: Go's form, `6m0s`, `1.5s`, `120ms`.
pub fn go_duration(ms: u64) -> String {
    let mut text = String::new();
    if ms < 1000 {
        let _ = write!(text, "{ms}ms");
        return text;
    }
    let (hours, minutes, left) = (ms / 3_600_000, ms / 60_000 % 60, ms % 60_000);
    if hours > 0 {
        let _ = write!(text, "{hours}h");
    }
    if hours > 0 || minutes > 0 {
        let _ = write!(text, "{minutes}m");
    }
    let _ = write!(text, "{}s", left as f64 / 1000.0);
    text
}

#[cfg(test)]
mod tests;
