//! Averages in one atomic word each: a number and when it was written, or how often.
//!
//! A single word is what makes them consistent without a lock: a reader never sees the number of one writer with the time of
//! another. The price is precision that no average needs: 24 bits of value, 16 milliseconds of time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::balance::Moment;

/// Milliseconds per tick: 32 bits of them last two years.
const TICK_MS: u64 = 16;

/// A number and the moment of its last sample; nothing until the first one.
#[derive(Debug)]
pub(super) struct Timed(AtomicU64);

impl Default for Timed {
    fn default() -> Self {
        Self(AtomicU64::new(u64::from(f32::NAN.to_bits())))
    }
}

impl Timed {
    /// The number, and how many milliseconds ago its last sample came.
    pub(super) fn read(&self, now: Moment) -> Option<(f64, u64)> {
        unpack(self.0.load(Relaxed), now)
    }

    /// A mean in which a sample weighs `1 - e^(-dt/tau)`.
    pub(super) fn mean(&self, sample: f64, tau_ms: f64, now: Moment) {
        self.update(now, |old| old.map_or(sample, |(old, age)| blend(old, sample, age, tau_ms)));
    }

    /// The same, except that a sample above the mean becomes the mean at once (peak-EWMA).
    pub(super) fn peak(&self, sample: f64, tau_ms: f64, now: Moment) {
        self.update(now, |old| match old {
            Some((old, age)) if sample <= old => blend(old, sample, age, tau_ms),
            _ => sample,
        });
    }

    /// Forgets what was before this.
    pub(super) fn set(&self, value: f64, now: Moment) {
        self.update(now, |_| value);
    }

    /// Makes of the number, if there is one, and its age another.
    pub(super) fn change(&self, now: Moment, next: impl Fn(f64, u64) -> f64) {
        self.update(now, |old| old.map_or(f64::NAN, |(old, age)| next(old, age)));
    }

    /// Adds to a sum that decays by `e^(-dt/tau)`.
    pub(super) fn add(&self, amount: f64, tau_ms: f64, now: Moment) {
        self.update(now, |old| amount + old.map_or(0.0, |(old, age)| old * keep(age, tau_ms)));
    }

    /// What is left of such a sum.
    pub(super) fn sum(&self, tau_ms: f64, now: Moment) -> f64 {
        self.read(now).map_or(0.0, |(sum, age)| sum * keep(age, tau_ms))
    }

    fn update(&self, now: Moment, next: impl Fn(Option<(f64, u64)>) -> f64) {
        let tick = u32::try_from(now.0 / TICK_MS).unwrap_or(u32::MAX);
        let pack = |word| u64::from((next(unpack(word, now)) as f32).to_bits()) | (u64::from(tick) << 32);
        // The closure always gives a word, so this never fails.
        let _ = self.0.fetch_update(Relaxed, Relaxed, |word| Some(pack(word)));
    }
}

fn unpack(word: u64, now: Moment) -> Option<(f64, u64)> {
    let value = f32::from_bits(word as u32);
    let age = (now.0 / TICK_MS).saturating_sub(word >> 32) * TICK_MS;
    (!value.is_nan()).then(|| (f64::from(value), age))
}

/// The share of what was that is left after `age`.
fn keep(age_ms: u64, tau_ms: f64) -> f64 {
    (-(age_ms as f64) / tau_ms).exp()
}

/// What an old number has become on its way to another.
pub(super) fn blend(old: f64, new: f64, age_ms: u64, tau_ms: f64) -> f64 {
    new + (old - new) * keep(age_ms, tau_ms)
}

/// The weight of one sample in a long run of them.
const LASTING_WEIGHT: f64 = 0.05;

/// A mean by sample: plain for the first twenty, then each new one weighs a twentieth.
#[derive(Debug, Default)]
pub(super) struct Counted(AtomicU64);

impl Counted {
    /// The mean; nothing until the first sample.
    pub(super) fn get(&self) -> Option<f64> {
        let word = self.0.load(Relaxed);
        (word >> 32 > 0).then(|| f64::from(f32::from_bits(word as u32)))
    }

    /// Takes a sample in.
    pub(super) fn add(&self, sample: f64) {
        let _ = self.0.fetch_update(Relaxed, Relaxed, |word| {
            let count = ((word >> 32) + 1).min(u64::from(u16::MAX));
            Some(u64::from(next_mean(word as u32, count, sample)) | (count << 32))
        });
    }
}

/// The bits of the mean after its `count`th sample.
pub(super) fn next_mean(bits: u32, count: u64, sample: f64) -> u32 {
    let old = f64::from(f32::from_bits(bits));
    let weight = (1.0 / count as f64).max(LASTING_WEIGHT);
    let mean = if count == 1 { sample } else { old + weight * (sample - old) };
    (mean as f32).to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAU: f64 = 10_000.0;

    fn near(left: f64, right: f64) -> bool {
        (left - right).abs() < 0.01 * right.abs().max(1e-9)
    }

    #[test]
    fn a_peak_rises_at_once_and_falls_with_time() {
        let average = Timed::default();
        assert_eq!(average.read(Moment(0)), None);
        average.peak(500.0, TAU, Moment(0));
        average.peak(4000.0, TAU, Moment(16));
        assert_eq!(average.read(Moment(16)), Some((4000.0, 0)));
        average.peak(500.0, TAU, Moment(10_016));
        let (fallen, _) = average.read(Moment(10_016)).unwrap();
        assert!(near(fallen, 500.0 + 3500.0 * (-1.0_f64).exp()), "{fallen}");
    }

    #[test]
    fn a_mean_believes_a_sample_as_much_as_time_has_passed() {
        let average = Timed::default();
        average.mean(10.0, TAU, Moment(0));
        average.mean(1000.0, TAU, Moment(0));
        assert_eq!(average.read(Moment(0)), Some((10.0, 0)), "at the same moment nothing has changed yet");
        average.mean(1000.0, TAU, Moment(100_000));
        assert!(near(average.read(Moment(100_000)).unwrap().0, 1000.0));
    }

    #[test]
    fn a_sum_decays_and_does_not_mind_many_small_steps() {
        let (steps, leap) = (Timed::default(), Timed::default());
        steps.add(100.0, TAU, Moment(0));
        leap.add(100.0, TAU, Moment(0));
        (1..=2000).for_each(|step| steps.add(0.0, TAU, Moment(step * 5)));
        assert!(near(steps.sum(TAU, Moment(10_000)), leap.sum(TAU, Moment(10_000))));
        assert!(near(leap.sum(TAU, Moment(10_000)), 100.0 * (-1.0_f64).exp()));
    }

    #[test]
    fn a_counted_mean_is_plain_at_first_and_lasting_later() {
        let mean = Counted::default();
        [100.0, 200.0, 300.0].into_iter().for_each(|sample| mean.add(sample));
        assert!(near(mean.get().unwrap(), 200.0));
        (0..200).for_each(|_| mean.add(1000.0));
        assert!(near(mean.get().unwrap(), 1000.0));
    }
}
