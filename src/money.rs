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
/// The zeros of it.
const PICO_DIGITS: i32 = 12;
/// Digits that an amount may be written with; more would not fit the arithmetic.
const MAX_DIGITS: usize = 36;
/// The largest amount that is believed when it is read.
const MOST: u128 = 1_000_000_000 * PICO_PER_DOLLAR;

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The price per token of so many dollars per million tokens, exact to a millionth of a dollar per million.
    /// `None` for what is no price: negative, not finite, above a million dollars.
    pub fn per_token(dollars_per_million: f64) -> Option<Self> {
        let valid = dollars_per_million.is_finite() && (0.0..=1e6).contains(&dollars_per_million);
        valid.then(|| Self((dollars_per_million * 1e6).round() as u128))
    }

    /// So many dollars, in decimals as JSON writes them (`0.0076509`, `8.25e-05`); what is finer than a pico-dollar is rounded, halves
    /// up. `None` for what is no amount: negative, no number, above a billion dollars.
    pub fn from_decimal(dollars: &str) -> Option<Self> {
        let (mantissa, exponent) = match dollars.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (dollars, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = [whole, fraction].concat();
        if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let digits: u128 = digits.parse().ok()?;
        // 10^shift turns the digits into pico-dollars.
        let shift = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?.checked_add(PICO_DIGITS)?;
        let power = |exponent: u32| 10_u128.checked_pow(exponent);
        let pico = if digits == 0 {
            0
        } else if shift >= 0 {
            digits.checked_mul(power(shift.unsigned_abs())?)?
        } else {
            // A divisor that does not fit is larger than twice any amount.
            power(shift.unsigned_abs()).map_or(0, |divisor| digits / divisor + (digits % divisor) / divisor.div_ceil(2))
        };
        (pico <= MOST).then_some(Self(pico))
    }

    /// This price for so many tokens.
    pub const fn times(self, tokens: u64) -> Self {
        Self(self.0.saturating_mul(tokens as u128))
    }

    /// So many hundredths of this, halves up.
    pub const fn percent(self, percent: u32) -> Self {
        Self(self.0.saturating_mul(percent as u128).saturating_add(50) / 100)
    }

    /// Dollars to the last digit, as `0.000015` or `12`.
    pub fn decimal(self) -> String {
        // What one request costs fits into 64 bits, whose digits are found in a fraction of the time.
        let mut text = match u64::try_from(self.0) {
            Ok(pico) => format!("{}.{:012}", pico / PICO_PER_DOLLAR as u64, pico % PICO_PER_DOLLAR as u64),
            Err(_) => format!("{}.{:012}", self.0 / PICO_PER_DOLLAR, self.0 % PICO_PER_DOLLAR),
        };
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
        text
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

    #[test]
    fn an_amount_is_read_to_the_last_digit() {
        let table = [
            ("0", 0),
            ("0.0", 0),
            ("12", 12 * PICO_PER_DOLLAR),
            ("0.00939", 9_390_000_000),
            ("8.25e-05", 82_500_000),
            ("1E2", 100 * PICO_PER_DOLLAR),
            ("0.0076509169000000005", 7_650_916_900),
            ("0.0000000000005", 1),
            ("0.00000000000049", 0),
            ("1.5e-12", 2),
            ("1e-400", 0),
            ("0e400", 0),
            ("1000000000", MOST),
        ];
        for (text, pico) in table {
            assert_eq!(Money::from_decimal(text), Some(Money(pico)), "{text}");
        }
        let too_long = "1".repeat(MAX_DIGITS + 1);
        for text in
            ["", "-1", "-0.1", "+1", "1e", "x", ".", "1.2.3", "NaN", "1e40", "1e2147483647", "1000000000.1", &too_long]
        {
            assert_eq!(Money::from_decimal(text), None, "{text}");
        }
    }

    #[test]
    fn nothing_wraps_however_much_it_is() {
        let most = Money(u128::MAX);
        assert_eq!((most + Money(1), most.times(u64::MAX)), (most, most));
        assert_eq!([most, most].into_iter().sum::<Money>(), most);
        assert_eq!((most.percent(200), Money(5).percent(110)), (Money(u128::MAX / 100), Money(6)));
        // The dearest price that is believed, for more tokens than anybody has.
        assert_eq!(Money::per_token(1e6).unwrap().times(u64::MAX), Money(PICO_PER_DOLLAR * u128::from(u64::MAX)));
    }

    proptest::proptest! {
        #[test]
        fn what_is_printed_is_read_back(pico in 0..MOST) {
            proptest::prop_assert_eq!(Money::from_decimal(&Money(pico).decimal()), Some(Money(pico)));
        }
    }
}
