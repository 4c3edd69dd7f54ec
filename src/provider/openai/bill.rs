//! What an answer of OpenAI's dialect says of its bill beside the tokens: the tier that served, and what some providers charge.
//!
//! Not here: the tokens (`usage`). Money is read from its text, digit by digit.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::money::Money;
use crate::usage::{Bill, ServiceTier};

/// xAI counts money in ticks of 10⁻¹⁰ dollars.
const PICO_PER_TICK: u128 = 100;

/// What is looked at in a usage object; the providers are those that write it so.
#[derive(Deserialize)]
struct View<'a> {
    /// OpenRouter: dollars. Perplexity: an object whose `total_cost` is dollars.
    #[serde(borrow)]
    cost: Option<&'a RawValue>,
    /// OpenRouter: the tokens were paid for with the customer's own key, which `cost` has no part of.
    #[serde(borrow)]
    is_byok: Option<&'a RawValue>,
    /// OpenRouter.
    #[serde(borrow)]
    cost_details: Option<&'a RawValue>,
    /// xAI.
    #[serde(borrow)]
    cost_in_usd_ticks: Option<&'a RawValue>,
    /// Mistral: the tier, which others write beside the usage.
    #[serde(borrow)]
    service_tier: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Details<'a> {
    #[serde(borrow)]
    upstream_inference_cost: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Total<'a> {
    #[serde(borrow)]
    total_cost: Option<&'a RawValue>,
}

/// Reads the tier, as the answer or a chunk of it names it; what names none changes nothing.
pub(super) fn read_tier(tier: Option<&RawValue>, bill: &mut Bill) {
    let word: Option<String> = tier.and_then(|tier| serde_json::from_str(tier.get()).ok());
    if let Some(word) = word {
        bill.tier = tier_of(&word);
    }
}

/// Groq's fast tier is `performance`.
fn tier_of(word: &str) -> ServiceTier {
    if word == "performance" { ServiceTier::Priority } else { ServiceTier::from_word(word) }
}

/// Reads a usage object; its money only where the provider is known to mean dollars.
pub(super) fn read_usage(usage: &RawValue, reports_cost: bool, bill: &mut Bill) {
    let Ok(view) = serde_json::from_str::<View<'_>>(usage.get()) else { return };
    read_tier(view.service_tier, bill);
    if let Some(cost) = view.cost().filter(|_| reports_cost) {
        bill.cost = Some(cost);
    }
}

impl View<'_> {
    fn cost(&self) -> Option<Money> {
        if let Some(ticks) = self.cost_in_usd_ticks {
            return ticks.get().parse().ok().map(|ticks: u64| Money(PICO_PER_TICK * u128::from(ticks)));
        }
        let cost = self.cost?;
        let Some(cost) = dollars(cost) else {
            let total: Total<'_> = serde_json::from_str(cost.get()).ok()?;
            return dollars(total.total_cost?);
        };
        let own_key = self.is_byok.is_some_and(|own| own.get() == "true");
        let details = self.cost_details.filter(|_| own_key).map(RawValue::get);
        let details: Option<Details<'_>> = details.and_then(|details| serde_json::from_str(details).ok());
        let beside = details.and_then(|details| dollars(details.upstream_inference_cost?));
        Some(cost + beside.unwrap_or_default())
    }
}

fn dollars(number: &RawValue) -> Option<Money> {
    Money::from_decimal(number.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bill(usage: &str, reports_cost: bool) -> Bill {
        let mut bill = Bill::default();
        read_usage(serde_json::from_str(usage).unwrap(), reports_cost, &mut bill);
        bill
    }

    #[test]
    fn what_a_provider_charges_is_read_to_the_last_digit() {
        let table = [
            (r#"{"cost":0.0076509169}"#, Some(7_650_916_900)),
            (
                r#"{"cost":0.0133176,"is_byok":false,"cost_details":{"upstream_inference_cost":0.0133176}}"#,
                Some(13_317_600_000),
            ),
            (
                r#"{"cost":0.0002,"is_byok":true,"cost_details":{"upstream_inference_cost":4.17e-3}}"#,
                Some(4_370_000_000),
            ),
            (r#"{"cost":0,"is_byok":true,"cost_details":{"upstream_inference_cost":null}}"#, Some(0)),
            (
                r#"{"cost":{"input_tokens_cost":0.00438,"request_cost":0.005,"total_cost":0.00939}}"#,
                Some(9_390_000_000),
            ),
            (r#"{"cost_in_usd_ticks":1330500}"#, Some(133_050_000)),
            (r#"{"cost":null}"#, None),
            (r#"{"cost":-1}"#, None),
            (r#"{"cost":"0.1"}"#, None),
            (r#"{"cost":{}}"#, None),
            (r#"{"cost":[]}"#, None),
            ("7", None),
        ];
        for (usage, cost) in table {
            assert_eq!(bill(usage, true).cost, cost.map(Money), "{usage}");
            assert_eq!(bill(usage, false).cost, None, "elsewhere nobody knows what it means: {usage}");
        }
    }

    #[test]
    fn a_tier_is_known_by_any_of_its_names() {
        let tier = |word: &str| {
            let mut bill = Bill { tier: ServiceTier::Flex, ..Bill::default() };
            read_tier(Some(serde_json::from_str(word).unwrap()), &mut bill);
            bill.tier
        };
        let table = [
            ("\"default\"", ServiceTier::Standard),
            ("\"on_demand\"", ServiceTier::Standard),
            ("\"\"", ServiceTier::Standard),
            ("\"priority\"", ServiceTier::Priority),
            ("\"performance\"", ServiceTier::Priority),
            ("\"provisioned\"", ServiceTier::Committed),
            ("\"scale\"", ServiceTier::Committed),
            ("\"ultrafast\"", ServiceTier::Other),
            ("null", ServiceTier::Flex),
            ("7", ServiceTier::Flex),
        ];
        table.into_iter().for_each(|(word, expected)| assert_eq!(tier(word), expected, "{word}"));
        assert_eq!(bill(r#"{"service_tier":"priority"}"#, false).tier, ServiceTier::Priority);
    }
}
