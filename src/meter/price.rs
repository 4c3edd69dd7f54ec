//! What a usage costs.
//!
//! Not here: prices (`catalog`). Invariants: what has no price is never silently free; what a provider charges is never
//! recalculated; whatever is not exact says why.

use super::why::Why;
use crate::catalog::{Prices, Rates};
use crate::money::Money;
use crate::usage::{Bill, Certainty, CostSource, ServiceTier, Usage};

/// What an attempt used.
pub struct Used<'a> {
    /// The tokens of the model that was asked.
    pub usage: &'a Usage,
    /// What the provider said beside them.
    pub bill: &'a Bill,
    /// Why the tokens are estimated; none where the provider counted them.
    pub estimated: Option<Why>,
}

/// The prices at the time of the request.
pub struct Tariff<'a> {
    /// Of the model that was asked, if known.
    pub own: Option<&'a Prices>,
    /// Of another model at the same provider, by the provider's name for it.
    pub other: &'a dyn Fn(&str) -> Option<&'a Prices>,
}

/// A cost, and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priced {
    /// The cost.
    pub cost: Money,
    /// How sure it is.
    pub certainty: Certainty,
    /// What it was taken from; none where nothing was priced.
    pub source: Option<CostSource>,
    /// Why it is not exact.
    pub why: Option<Why>,
}

impl Priced {
    const fn new(cost: Money, source: Option<CostSource>, why: Option<Why>) -> Self {
        let certainty = if why.is_some() { Certainty::Estimated } else { Certainty::Exact };
        Self { cost, certainty, source, why }
    }

    const fn unpriced(why: Why) -> Self {
        Self { cost: Money::ZERO, certainty: Certainty::Unpriced, source: None, why: Some(why) }
    }
}

/// What an attempt costs.
///
/// What the provider charges stands, for any model. Else the size of the whole prompt, cached tokens included, chooses the
/// rates of the tier that served; what has no price of its own costs what input or output costs. Without prices the cost is
/// zero and `Unpriced`, unless there was nothing to pay for.
pub fn price(used: &Used<'_>, tariff: &Tariff<'_>) -> Priced {
    let Used { usage, bill, estimated } = used;
    let reported = Some(CostSource::Reported);
    match (bill.cost, estimated) {
        (Some(cost), None) => return Priced::new(cost, reported, None),
        (None, None) if is_nothing(used) => return Priced::new(Money::ZERO, None, None),
        _ => {}
    }
    if bill.tier == ServiceTier::Committed {
        return Priced::unpriced(Why::Committed);
    }
    // What a provider had charged before the answer broke off is the least that it costs.
    let least = bill.cost.filter(|cost| *cost > Money::ZERO);
    let Some(prices) = tariff.own else {
        return least.map_or(Priced::unpriced(Why::NoPrice), |cost| Priced::new(cost, reported, *estimated));
    };
    let mut total = Total { prices, bill, cost: prices.request.unwrap_or_default(), doubt: *estimated };
    total.add(usage, prices);
    for (model, usage) in &bill.others {
        match (tariff.other)(model) {
            Some(prices) => total.add(usage, prices),
            None => total.doubt(Why::NoPriceOfOther),
        }
    }
    match least.filter(|least| *least > total.cost) {
        Some(cost) => Priced::new(cost, reported, total.doubt),
        None => Priced::new(total.cost, Some(CostSource::Catalogue), total.doubt),
    }
}

/// Whether there was nothing to pay for.
fn is_nothing(Used { usage, bill, .. }: &Used<'_>) -> bool {
    usage.total_tokens() == 0 && usage.web_searches == 0 && bill.others.is_empty()
}

/// A cost that is being added up.
struct Total<'a> {
    prices: &'a Prices,
    bill: &'a Bill,
    cost: Money,
    doubt: Option<Why>,
}

impl Total<'_> {
    fn add(&mut self, usage: &Usage, prices: &Prices) {
        let sheet = prices.service(self.bill.tier).unwrap_or_else(|| {
            self.doubt(Why::NoTierPrice);
            &prices.usual
        });
        let tokens = cost_of(usage, sheet.for_prompt(usage.prompt_tokens()));
        let percent = prices.regional_percent.filter(|_| self.bill.regional);
        self.cost += percent.map_or(tokens, |percent| tokens.percent(percent));
        if usage.web_searches > 0 {
            match self.prices.web_search {
                Some(fee) => self.cost += fee.times(usage.web_searches),
                None => self.doubt(Why::NoSearchPrice),
            }
        }
    }

    /// The first doubt is the one that is told.
    fn doubt(&mut self, why: Why) {
        self.doubt.get_or_insert(why);
    }
}

/// Each kind of token at its rate, none twice, and no more of a kind than there is of what it is part of.
fn cost_of(usage: &Usage, rates: &Rates) -> Money {
    let mut prompt = Part::new(usage.input);
    let heard = prompt.take(usage.audio_input);
    let seen = prompt.take(usage.image_input);
    let mut read = Part::new(usage.cached_read);
    let read_sound = read.take(usage.cached_audio);
    let mut written = Part::new(usage.cache_write);
    let for_an_hour = written.take(usage.cache_write_1h);
    let mut answer = Part::new(usage.output);
    let spoken = answer.take(usage.audio_output);
    let drawn = answer.take(usage.image_output);
    let thought = answer.take(usage.reasoning);

    let cached_read = rates.cached_read.unwrap_or(rates.input);
    let cache_write = rates.cache_write.unwrap_or(rates.input);
    let thinking = rates.thinking_output.filter(|_| usage.reasoning > 0);
    let text = thinking.unwrap_or(rates.output);
    let kinds = [
        (prompt.0, rates.input),
        (heard, rates.audio_input.unwrap_or(rates.input)),
        (seen, rates.image_input.unwrap_or(rates.input)),
        (read.0, cached_read),
        (read_sound, rates.cached_audio.unwrap_or(cached_read)),
        (written.0, cache_write),
        (for_an_hour, rates.cache_write_1h.unwrap_or(cache_write)),
        (answer.0, text),
        (spoken, rates.audio_output.unwrap_or(text)),
        (drawn, rates.image_output.unwrap_or(text)),
        (thought, rates.reasoning_output.unwrap_or(text)),
    ];
    kinds.into_iter().map(|(tokens, rate)| rate.times(tokens)).sum()
}

/// Tokens of which parts are taken.
struct Part(u64);

impl Part {
    const fn new(tokens: u64) -> Self {
        Self(tokens)
    }

    /// Takes so many, or all that are left.
    fn take(&mut self, tokens: u64) -> u64 {
        let taken = tokens.min(self.0);
        self.0 -= taken;
        taken
    }
}

#[cfg(test)]
mod tests;
