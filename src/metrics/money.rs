//! Counters of money that stay exact: they count pico-dollars, and only what is printed is a floating-point number.

use std::ops::{AddAssign, SubAssign};
use std::sync::{Mutex, PoisonError};

use prometheus::core::{Atomic, GenericCounter, GenericCounterVec, Number};

use crate::money::Money;

/// A counter of money, in dollars where it is read.
pub(super) type MoneyCounter = GenericCounter<AtomicMoney>;
/// The same with labels.
pub(super) type MoneyCounterVec = GenericCounterVec<AtomicMoney>;

/// An amount that the registry can read.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(super) struct Dollars(pub(super) Money);

impl Number for Dollars {
    fn from_i64(dollars: i64) -> Self {
        Self(Money(crate::money::PICO_PER_DOLLAR.saturating_mul(u128::from(dollars.unsigned_abs()))))
    }

    /// The floating-point number that is nearest to the amount: a division would round twice.
    fn into_f64(self) -> f64 {
        self.0.decimal().parse().unwrap_or_else(|_| self.0.dollars())
    }
}

impl AddAssign for Dollars {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl SubAssign for Dollars {
    fn sub_assign(&mut self, other: Self) {
        self.0 = Money(self.0.0.saturating_sub(other.0.0));
    }
}

/// An amount that many threads add to. No processor adds 128 bits at once; the lock is held for one addition.
#[derive(Debug)]
pub(super) struct AtomicMoney(Mutex<Dollars>);

impl AtomicMoney {
    fn change<R>(&self, change: impl FnOnce(&mut Dollars) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Atomic for AtomicMoney {
    type T = Dollars;

    fn new(amount: Dollars) -> Self {
        Self(Mutex::new(amount))
    }

    fn set(&self, amount: Dollars) {
        self.change(|held| *held = amount);
    }

    fn get(&self) -> Dollars {
        self.change(|held| *held)
    }

    fn inc_by(&self, amount: Dollars) {
        self.change(|held| *held += amount);
    }

    fn dec_by(&self, amount: Dollars) {
        self.change(|held| *held -= amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_million_pico_dollars_are_not_lost_beside_a_thousand_dollars() {
        let counter = MoneyCounter::new("cost", "Cost.").unwrap();
        counter.inc_by(Dollars::from_i64(1000));
        (0..1_000_000).for_each(|_| counter.inc_by(Dollars(Money(1))));
        assert_eq!(counter.get().into_f64(), 1_000.000_001);
    }

    proptest! {
        #[test]
        fn what_is_printed_says_every_pico_dollar_below_four_thousand(pico in 0_u128..4_000_000_000_000_000) {
            let printed = Dollars(Money(pico)).into_f64();
            prop_assert_eq!((printed * 1e12).round() as u128, pico);
        }
    }
}
