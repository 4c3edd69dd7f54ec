//! When a route is left alone: after five failures in a row, or when half of the last 30 seconds' attempts failed.
//!
//! It then stays open for ten seconds, twice as long each time it must open again before it has had successes. After that
//! one attempt at a time probes it; the first success lets traffic back in, one at a time, two, four, eight, twice as many each second
//! for half a minute, so that a provider that has just recovered is not knocked over by everyone who waited for it.
//!
//! Not here: cool-downs after a 429, which belong to the credential; and panic, when most routes of a group are open and
//! breakers are ignored, which the ranking decides. Reading the state takes no lock.

#[cfg(test)]
mod tests;
mod window;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Moment;
use window::Window;

/// Failures in a row that open the route.
const IN_A_ROW: u32 = 5;
/// Attempts of the last 30 seconds that are enough to judge their share of failures.
const ENOUGH: u32 = 20;
/// How long it stays open the first time.
const OPEN_MS: u64 = 10_000;
/// The longest it stays open.
const MAX_OPEN_MS: u64 = 300_000;
/// A probe that told nothing for so long is given up.
const PROBE_PATIENCE_MS: u64 = 120_000;
/// How long traffic is let in slowly.
const SLOW_START_MS: u64 = 30_000;
/// Attempts of one route against the breaker's word that may be under way.
const MAX_PANIC: u32 = 100;
/// While it is, the limit doubles in each of these.
const DOUBLING_MS: u64 = 1000;

/// What the breaker says now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Requests pass.
    Closed,
    /// So many requests may be under way.
    SlowStart(u32),
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
            Self::SlowStart(_) => "slow_start",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// How an attempt got past the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// It was closed.
    Free,
    /// As one of the few of a slow start.
    Slow,
    /// As the probe.
    Probe,
    /// Against its word, because most routes are open.
    Panic,
}

/// The four phases in one word: two bits of phase, the rest a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed,
    /// Until then.
    Open(u64),
    /// A probe is under way since then.
    Probing(u64),
    /// Since then.
    Slow(u64),
}

impl Phase {
    const fn pack(self) -> u64 {
        match self {
            Self::Closed => 0,
            Self::Open(until) => until << 2 | 1,
            Self::Probing(since) => since << 2 | 2,
            Self::Slow(since) => since << 2 | 3,
        }
    }

    const fn unpack(word: u64) -> Self {
        match word & 3 {
            0 => Self::Closed,
            1 => Self::Open(word >> 2),
            2 => Self::Probing(word >> 2),
            _ => Self::Slow(word >> 2),
        }
    }
}

/// The breaker of one route.
#[derive(Debug, Default)]
pub struct Breaker {
    phase: AtomicU64,
    /// Attempts of the slow start that are under way.
    slow: AtomicU32,
    /// Attempts against its word that are under way.
    panic: AtomicU32,
    history: Mutex<History>,
}

/// What decides about the next transition. Who writes the phase holds its lock.
#[derive(Debug, Default)]
struct History {
    in_a_row: u32,
    window: Window,
    /// How often the time of being open has doubled.
    doublings: u32,
}

impl Breaker {
    /// What it says now; changes nothing.
    pub fn state(&self, now: Moment) -> State {
        match self.phase() {
            Phase::Closed => State::Closed,
            Phase::Open(until) if now.0 < until => State::Open,
            Phase::Open(_) => State::HalfOpen,
            Phase::Probing(since) if now.since(Moment(since)) < PROBE_PATIENCE_MS => State::Open,
            Phase::Probing(_) => State::HalfOpen,
            Phase::Slow(since) => match now.since(Moment(since)) {
                age if age < SLOW_START_MS => State::SlowStart(1 << (age / DOUBLING_MS)),
                _ => State::Closed,
            },
        }
    }

    /// How much longer it stays open, if it is and knows.
    pub fn opens_in(&self, now: Moment) -> Option<Duration> {
        match self.phase() {
            Phase::Open(until) => until.checked_sub(now.0).filter(|left| *left > 0).map(Duration::from_millis),
            _ => None,
        }
    }

    /// Whether an attempt would pass now.
    pub fn admits(&self, now: Moment) -> bool {
        match self.state(now) {
            State::Closed | State::HalfOpen => true,
            State::SlowStart(limit) => self.slow.load(Relaxed) < limit,
            State::Open => false,
        }
    }

    /// Takes the permission for one attempt, which is given back by [`Breaker::leave`]. Half-open, only one caller gets it.
    pub fn enter(&self, now: Moment) -> Option<Pass> {
        match self.state(now) {
            State::Closed => Some(Pass::Free),
            State::SlowStart(limit) => {
                let next = |under_way| (under_way < limit).then_some(under_way + 1);
                self.slow.fetch_update(Relaxed, Relaxed, next).is_ok().then_some(Pass::Slow)
            }
            State::HalfOpen => {
                let _history = self.lock();
                let free = self.state(now) == State::HalfOpen;
                free.then(|| self.set(Phase::Probing(now.0))).map(|()| Pass::Probe)
            }
            State::Open => None,
        }
    }

    /// Takes the permission for one attempt against the breaker's word, while few are under way: a provider that is down or says
    /// nothing must not make a queue of everyone who asks.
    pub fn enter_anyway(&self) -> Option<Pass> {
        let next = |under_way| (under_way < MAX_PANIC).then_some(under_way + 1);
        self.panic.fetch_update(Relaxed, Relaxed, next).is_ok().then_some(Pass::Panic)
    }

    /// The attempt is over. A probe that told nothing leaves its place to the next one.
    pub fn leave(&self, pass: Pass) {
        match pass {
            Pass::Free => {}
            Pass::Panic => drop(self.panic.fetch_sub(1, Relaxed)),
            Pass::Slow => drop(self.slow.fetch_sub(1, Relaxed)),
            Pass::Probe => {
                let _history = self.lock();
                if matches!(self.phase(), Phase::Probing(_)) {
                    self.set(Phase::Open(0));
                }
            }
        }
    }

    /// The attempt succeeded.
    pub fn success(&self, pass: Pass, now: Moment) {
        let mut history = self.lock();
        history.doublings = history.doublings.saturating_sub(1);
        match self.phase() {
            Phase::Open(_) | Phase::Probing(_) => {
                if matches!(pass, Pass::Probe | Pass::Panic) {
                    history.forget();
                    self.set(Phase::Slow(now.0));
                }
            }
            Phase::Closed | Phase::Slow(_) => {
                history.in_a_row = 0;
                history.window.add(now, false);
                if self.state(now) == State::Closed {
                    self.set(Phase::Closed);
                }
            }
        }
    }

    /// The attempt failed. `random` moves the time of being open by up to a fifth, so that not everyone comes back at once.
    /// Returns whether this opened the route.
    pub fn failure(&self, pass: Pass, now: Moment, random: u64) -> bool {
        let mut history = self.lock();
        let opens = match self.phase() {
            // Whoever began before it opened says nothing new.
            Phase::Open(_) => false,
            Phase::Probing(_) => pass == Pass::Probe,
            Phase::Closed | Phase::Slow(_) => {
                history.in_a_row += 1;
                history.window.add(now, true);
                history.is_too_much(now)
            }
        };
        if opens {
            self.set(Phase::Open(now.0 + open_for(history.doublings, random)));
            history.doublings = (history.doublings + 1).min(16);
            history.forget();
        }
        opens
    }

    fn phase(&self) -> Phase {
        Phase::unpack(self.phase.load(Relaxed))
    }

    fn set(&self, phase: Phase) {
        self.phase.store(phase.pack(), Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History {
    fn is_too_much(&self, now: Moment) -> bool {
        let (attempts, failed) = self.window.counts(now);
        self.in_a_row >= IN_A_ROW || (attempts >= ENOUGH && failed * 2 >= attempts)
    }

    fn forget(&mut self) {
        self.in_a_row = 0;
        self.window = Window::default();
    }
}

/// How long it stays open: doubled so often, within a fifth, 300 s at most.
fn open_for(doublings: u32, random: u64) -> u64 {
    let whole = (OPEN_MS << doublings).min(MAX_OPEN_MS);
    let jitter = whole * 4 / 10;
    (whole - jitter / 2 + random % (jitter + 1)).min(MAX_OPEN_MS)
}
