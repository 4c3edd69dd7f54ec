//! What models cost: per token by kind, by the length of the prompt, by service tier, by the hour, and from when on.
//!
//! Not here: what a usage comes to (`meter`), how prices are written (`parse`).

use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;

use crate::money::Money;
use crate::usage::ServiceTier;

/// What the tokens of one request cost, each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// A prompt token that no cache had.
    pub input: Money,
    /// A completion token, reasoning included.
    pub output: Money,
    /// A prompt token read from a cache; `input` applies when absent.
    pub cached_read: Option<Money>,
    /// A prompt token written to a cache for the usual time; `input` applies when absent.
    pub cache_write: Option<Money>,
    /// A prompt token written to a cache for an hour; `cache_write` applies when absent.
    pub cache_write_1h: Option<Money>,
    /// A prompt token that was sound; `input` applies when absent.
    pub audio_input: Option<Money>,
    /// A completion token that is sound; `output` applies when absent.
    pub audio_output: Option<Money>,
    /// A prompt token that was sound and read from a cache; `cached_read` applies when absent.
    pub cached_audio: Option<Money>,
    /// A prompt token that was an image; `input` applies when absent.
    pub image_input: Option<Money>,
    /// A completion token that is an image; `output` applies when absent.
    pub image_output: Option<Money>,
    /// Every completion token of an answer that was thought about; `output` applies when absent.
    pub thinking_output: Option<Money>,
    /// A completion token that was thought, where those alone cost something else; what other ones cost applies when absent.
    pub reasoning_output: Option<Money>,
}

/// The rates of one service tier: more for long prompts, where the provider does so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sheet {
    /// For prompts that are above no tier's threshold.
    pub base: Rates,
    /// For longer prompts, the lowest threshold first.
    pub tiers: Vec<Tier>,
}

/// The rates for prompts longer than a threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tier {
    /// The threshold: a prompt of more tokens than this, cached ones included, has these rates.
    pub above: u64,
    /// They apply to all tokens of the request, not only to those above the threshold.
    pub rates: Rates,
}

impl Sheet {
    /// The rates for a request whose whole prompt, cached or not, has so many tokens.
    pub fn for_prompt(&self, prompt_tokens: u64) -> &Rates {
        let tier = self.tiers.iter().rev().find(|tier| prompt_tokens > tier.above);
        tier.map_or(&self.base, |tier| &tier.rates)
    }
}

/// What a model charges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// In the usual service tier.
    pub usual: Sheet,
    /// In others, each once.
    pub services: Vec<(ServiceTier, Sheet)>,
    /// A request, beside its tokens.
    pub request: Option<Money>,
    /// A search of the web that the provider makes; unknown when absent.
    pub web_search: Option<Money>,
    /// What serving from one region only makes of the price of tokens, in percent.
    pub regional_percent: Option<u32>,
    /// Other prices at some hours of the day.
    pub peak: Option<Box<Peak>>,
}

/// Hours at which a model has other prices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    /// Minutes of the day in UTC, each from one up to another.
    pub hours: Vec<(u16, u16)>,
    /// Whether Saturdays and Sundays have none.
    pub weekdays: bool,
    /// The prices then; these have no peak.
    pub prices: Prices,
}

impl Peak {
    /// Whether the moment is one of these hours.
    fn holds(&self, moment: Timestamp) -> bool {
        let local = TimeZone::UTC.to_datetime(moment);
        let minute = local.hour().unsigned_abs() as u16 * 60 + local.minute().unsigned_abs() as u16;
        let weekend = matches!(local.weekday(), Weekday::Saturday | Weekday::Sunday);
        !(self.weekdays && weekend) && self.hours.iter().any(|(from, to)| (*from..*to).contains(&minute))
    }
}

impl Prices {
    /// Prices of one service tier and of prompts of any length.
    pub fn flat(base: Rates) -> Self {
        Self { usual: Sheet { base, tiers: Vec::new() }, ..Self::default() }
    }

    /// The rates of the usual tier for a request whose whole prompt, cached or not, has so many tokens.
    pub fn for_prompt(&self, prompt_tokens: u64) -> &Rates {
        self.usual.for_prompt(prompt_tokens)
    }

    /// What a tier charges; `None` where that is not known.
    pub fn service(&self, tier: ServiceTier) -> Option<&Sheet> {
        if tier == ServiceTier::Standard {
            return Some(&self.usual);
        }
        self.services.iter().find(|(served, _)| *served == tier).map(|(_, sheet)| sheet)
    }

    /// What a request of so many tokens costs without caches, sound and thought: for planning, not for the bill.
    pub fn expected(&self, prompt_tokens: u64, output_tokens: u64) -> Money {
        let rates = self.for_prompt(prompt_tokens);
        rates.input.times(prompt_tokens) + rates.output.times(output_tokens)
    }
}

/// What a model charges at any time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceList {
    /// Before the first change.
    pub first: Prices,
    /// Changes, the earliest first: from when on, and to what.
    pub changes: Vec<(Timestamp, Prices)>,
}

impl PriceList {
    /// The prices that were valid then.
    pub fn at(&self, moment: Timestamp) -> &Prices {
        let change = self.changes.iter().rev().find(|(from, _)| *from <= moment);
        let prices = change.map_or(&self.first, |(_, prices)| prices);
        prices.peak.as_ref().filter(|peak| peak.holds(moment)).map_or(prices, |peak| &peak.prices)
    }
}

impl From<Prices> for PriceList {
    fn from(first: Prices) -> Self {
        Self { first, changes: Vec::new() }
    }
}
