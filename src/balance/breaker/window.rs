//! Attempts and failures of the last 30 seconds, in steps of five.

use crate::balance::Moment;

/// Length of a step.
pub(super) const STEP_MS: u64 = 5000;
/// Steps in the window.
pub(super) const STEPS: u64 = 6;

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Window([Step; STEPS as usize]);

#[derive(Clone, Copy, Debug, Default)]
struct Step {
    number: u64,
    attempts: u32,
    failed: u32,
}

impl Window {
    /// Counts one attempt.
    pub(super) fn add(&mut self, now: Moment, failed: bool) {
        let number = now.0 / STEP_MS;
        let Some(step) = self.0.get_mut((number % STEPS) as usize) else { return };
        if step.number != number {
            *step = Step { number, ..Step::default() };
        }
        step.attempts += 1;
        step.failed += u32::from(failed);
    }

    /// Attempts, and how many of them failed.
    pub(super) fn counts(&self, now: Moment) -> (u32, u32) {
        let current = now.0 / STEP_MS;
        let recent = self.0.iter().filter(|step| step.number + STEPS > current);
        recent.fold((0, 0), |(attempts, failed), step| (attempts + step.attempts, failed + step.failed))
    }
}
