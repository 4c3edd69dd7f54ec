//! What a workspace or a virtual key is allowed: its `limits`, read once.
//!
//! Not here: what is used up (`account`). Invariant: a limit that is not known is refused by name, never ignored.

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::money::{Money, PICO_PER_DOLLAR};

/// The names of the limits, as the admin API takes and shows them.
const NAMES: [&str; 5] = ["requests_per_minute", "tokens_per_minute", "usd_per_day", "usd_per_month", "max_in_flight"];

/// The most dollars of a budget: a typing error above that is refused.
const MAX_USD: f64 = 1e12;
/// The most of anything that is counted.
const MAX_COUNT: f64 = 1e12;

/// Limits of one workspace or one virtual key; an absent one does not bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Requests in a minute.
    pub requests_per_minute: Option<u64>,
    /// Tokens in a minute, prompt and completion.
    pub tokens_per_minute: Option<u64>,
    /// Money in a day (UTC).
    pub per_day: Option<Money>,
    /// Money in a month (UTC).
    pub per_month: Option<Money>,
    /// Requests under way at the same time.
    pub max_in_flight: Option<u64>,
}

impl Allowance {
    /// Reads `limits` as they are written and stored: a number of at least 0 for each name.
    ///
    /// Errors: a 400 on the limit at fault (`limits.…`).
    pub fn read(limits: &Map<String, Value>) -> Result<Self> {
        let mut allowance = Self::default();
        for (name, value) in limits {
            let invalid = |why: String| {
                let param = format!("limits.{name}");
                let message = format!("Invalid value for '{param}': {why}.");
                Err(Error::invalid(param, message))
            };
            let number = value.as_f64().filter(|number| *number >= 0.0);
            let count =
                number.filter(|number| number.fract() == 0.0 && *number <= MAX_COUNT).map(|number| number as u64);
            let money = number.filter(|dollars| *dollars <= MAX_USD).map(dollars);
            let known = match name.as_str() {
                "requests_per_minute" => set(&mut allowance.requests_per_minute, count),
                "tokens_per_minute" => set(&mut allowance.tokens_per_minute, count),
                "max_in_flight" => set(&mut allowance.max_in_flight, count),
                "usd_per_day" => set(&mut allowance.per_day, money),
                "usd_per_month" => set(&mut allowance.per_month, money),
                _ => return invalid(format!("unknown limit; use one of {}", NAMES.join(", "))),
            };
            if !known {
                let what = if name.starts_with("usd") { "a number of dollars" } else { "a whole number" };
                return invalid(format!("{what} of at least 0 is expected"));
            }
        }
        Ok(allowance)
    }

    /// The first limit, by name, that lies above the other's.
    pub fn beyond(&self, other: &Self) -> Option<&'static str> {
        let above = |own: Option<u64>, other: Option<u64>| own.zip(other).is_some_and(|(own, other)| own > other);
        let dearer = |own: Option<Money>, other: Option<Money>| own.zip(other).is_some_and(|(own, other)| own > other);
        let [requests, tokens, day, month, in_flight] = NAMES;
        [
            (requests, above(self.requests_per_minute, other.requests_per_minute)),
            (tokens, above(self.tokens_per_minute, other.tokens_per_minute)),
            (day, dearer(self.per_day, other.per_day)),
            (month, dearer(self.per_month, other.per_month)),
            (in_flight, above(self.max_in_flight, other.max_in_flight)),
        ]
        .into_iter()
        .find_map(|(name, beyond)| beyond.then_some(name))
    }
}

fn set<T>(limit: &mut Option<T>, value: Option<T>) -> bool {
    let valid = value.is_some();
    *limit = value;
    valid
}

fn dollars(dollars: f64) -> Money {
    Money((dollars * PICO_PER_DOLLAR as f64) as u128)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(limits: &Value) -> Result<Allowance> {
        Allowance::read(limits.as_object().unwrap())
    }

    #[test]
    fn every_limit_is_read_under_its_name() {
        let all: Map<String, Value> = NAMES.iter().map(|name| ((*name).to_owned(), json!(3))).collect();
        let three = Some(Money(3 * PICO_PER_DOLLAR));
        let wanted = Allowance {
            requests_per_minute: Some(3),
            tokens_per_minute: Some(3),
            per_day: three,
            per_month: three,
            max_in_flight: Some(3),
        };
        assert_eq!(Allowance::read(&all).unwrap(), wanted);
        assert_eq!(read(&json!({})).unwrap(), Allowance::default());
    }

    #[test]
    fn one_allowance_lies_beyond_another_by_any_of_its_limits_that_both_have() {
        for name in NAMES {
            let of = |number: u32| Allowance::read(&[(name.to_owned(), json!(number))].into_iter().collect()).unwrap();
            assert_eq!(of(4).beyond(&of(3)), Some(name));
            assert_eq!([of(3).beyond(&of(3)), of(3).beyond(&of(4)), of(3).beyond(&Allowance::default())], [None; 3]);
        }
    }

    #[test]
    fn what_is_no_limit_is_refused_by_its_name() {
        for bad in [
            json!({"rpm": 1}),
            json!({"max_in_flight": -1}),
            json!({"usd_per_day": "5"}),
            json!({"tokens_per_minute": 0.5}),
        ] {
            let error = read(&bad).unwrap_err();
            let name = bad.as_object().unwrap().keys().next().unwrap();
            assert_eq!(error.param(), Some(format!("limits.{name}").as_str()), "{error}");
        }
    }
}
