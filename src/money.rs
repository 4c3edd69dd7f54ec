//! Money as an integer: pico-dollars (10⁻¹² USD). Floating point only when printed.
//!
//! A price of one dollar per million tokens is 1,000,000 pico-dollars per token, so every published price is exact.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

/// An amount, or a price per token, in pico-dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Money(pub u128);

/// Pico-dollars in one dollar.
pub const PICO_PER_DOLLAR: u128 = 1_000_000_000_000;

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The price per token of so many dollars per million tokens, exact to a millionth of a dollar per million.
    /// `None` for what is no price: negative, not finite, above a million dollars.
    pub fn per_token(dollars_per_million: f64) -> Option<Self> {
        let valid = dollars_per_million.is_finite() && (0.0..=1e6).contains(&dollars_per_million);
        valid.then(|| Self((dollars_per_million * 1e6).round() as u128))
    }

    /// This price for so many tokens.
    pub const fn times(self, tokens: u64) -> Self {
        Self(self.0.saturating_mul(tokens as u128))
    }

    /// Dollars to the last digit, as `0.000015` or `12`.
    pub fn decimal(self) -> String {
        let text = format!("{}.{:012}", self.0 / PICO_PER_DOLLAR, self.0 % PICO_PER_DOLLAR);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }

    /// Dollars, for printing only.
    pub fn dollars(self) -> f64 {
        self.0 as f64 / PICO_PER_DOLLAR as f64
    }
}

impl Add for Money {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${:.6}", self.dollars())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_prices_are_exact() {
        let price = Money::per_token(0.075).unwrap();
        assert_eq!(price, Money(75_000));
        assert_eq!(price.times(1_000_000), Money(75 * PICO_PER_DOLLAR / 1000));
        assert_eq!(
            [0, 15_000_000, 12 * PICO_PER_DOLLAR, 1].map(|pico| Money(pico).decimal()),
            ["0", "0.000015", "12", "0.000000000001"]
        );
        assert_eq!(Money::per_token(-1.0), None);
        assert_eq!(Money::per_token(f64::NAN), None);
    }
}
