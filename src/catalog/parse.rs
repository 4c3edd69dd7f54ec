//! `models.toml`: a list of models, and aliases that point into it.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use toml::de::{DeArray, DeTable, DeValue};

use super::{Capabilities, Catalog, Kind, ModelEntry, Peak, PriceList, Prices, Rates, Sheet, Tier};
use crate::config::reader::{Reader, Source};
use crate::config::setting::{Setting, Words};
use crate::config::{Place, Problem, Problems};
use crate::money::Money;
use crate::usage::ServiceTier;

/// Reads a whole catalogue; every mistake at once.
pub(super) fn parse(text: &str, file: &str, providers: &[&'static str]) -> Result<Catalog, Problems> {
    let source = Source { file, text };
    let (table, found) = source.parse();
    let mut reading = Reading { source, providers, catalog: Catalog::default(), found };
    let mut aliases = Vec::new();
    for (key, value) in table {
        let at = source.place(key.span().start);
        match (key.get_ref().as_ref(), value.into_inner()) {
            ("model", DeValue::Array(list)) => list.into_iter().for_each(|item| reading.model(item)),
            ("alias", DeValue::Table(table)) => aliases.extend(table),
            ("model", _) => reading.refuse(at, "model", "expected tables, each under [[model]]"),
            ("alias", _) => reading.refuse(at, "alias", "expected a table under [alias]"),
            (other, _) => reading.refuse(at, other, "unknown key; a catalogue has [[model]] and [alias]"),
        }
    }
    // Aliases come last, because they may stand before the models that they name.
    for (name, value) in aliases {
        let at = source.place(name.span().start);
        reading.alias(name.get_ref(), at, value.get_ref());
    }
    Problems::or(reading.found, reading.catalog)
}

/// A catalogue on its way, and what is wrong with it so far.
struct Reading<'t> {
    source: Source<'t>,
    providers: &'t [&'static str],
    catalog: Catalog,
    found: Vec<Problem>,
}

impl<'t> Reading<'t> {
    fn refuse(&mut self, place: Place, key: &str, message: impl Into<String>) {
        self.found.push(Problem { place, key: key.to_owned(), message: message.into() });
    }

    fn model(&mut self, item: toml::Spanned<DeValue<'t>>) {
        let offset = item.span().start;
        let Some(mut table) = self.table(item, "model", "expected a table under [[model]]") else { return };
        let kind = kind_of(&table);
        let nested = self.nested("model", &mut table, kind);
        let changes = table.remove("prices").map(|written| self.changes(written, kind)).unwrap_or_default();
        let mut reader = Reader::entry(self.source, "model.", offset, table);
        let entry = read_model(&mut reader, self.providers, nested, changes);
        if let Some(Err(why)) = entry.map(|entry| self.catalog.insert(entry)) {
            reader.refuse("name", why);
        }
        self.found.extend(reader.finish());
    }

    /// The table that must stand here.
    fn table(&mut self, item: toml::Spanned<DeValue<'t>>, key: &str, expected: &str) -> Option<DeTable<'t>> {
        let offset = item.span().start;
        if let DeValue::Table(table) = item.into_inner() {
            return Some(table);
        }
        self.refuse(self.source.place(offset), key, expected);
        None
    }

    /// The items of the list that must stand here.
    fn list(&mut self, written: toml::Spanned<DeValue<'t>>, key: &str, expected: &str) -> DeArray<'t> {
        let offset = written.span().start;
        if let DeValue::Array(list) = written.into_inner() {
            return list;
        }
        self.refuse(self.source.place(offset), key, expected);
        DeArray::default()
    }

    /// What the table `key` holds below its own prices: those of long prompts, and those of other service tiers.
    fn nested(&mut self, key: &str, table: &mut DeTable<'t>, kind: Kind) -> Nested {
        let tiers = self.tiers(key, table);
        let mut services = Vec::new();
        for (word, tier) in SERVICES {
            let key = format!("{key}.{word}");
            let sheet = table.remove(word).and_then(|written| self.service(&key, written, kind));
            services.extend(sheet.map(|sheet| (tier, sheet)));
        }
        let peak = table.remove("peak").and_then(|written| self.peak(&format!("{key}.peak"), written, kind));
        Nested { tiers, services, peak }
    }

    /// The prices at some hours of the day.
    fn peak(&mut self, key: &str, written: toml::Spanned<DeValue<'t>>, kind: Kind) -> Option<Box<Peak>> {
        let offset = written.span().start;
        let mut table = self.table(written, key, "expected a table with `hours` and its prices")?;
        let nested = self.nested(key, &mut table, kind);
        let mut reader = Reader::entry(self.source, &format!("{key}."), offset, table);
        let hours: Option<Vec<Hours>> = reader.required("hours");
        let weekdays = reader.take("weekdays", false);
        let prices = read_prices(&mut reader, kind, nested);
        self.found.extend(reader.finish());
        let hours = hours?.into_iter().map(|Hours(from, to)| (from, to)).collect();
        Some(Box::new(Peak { hours, weekdays, prices: prices? }))
    }

    fn service(&mut self, key: &str, written: toml::Spanned<DeValue<'t>>, kind: Kind) -> Option<Sheet> {
        let offset = written.span().start;
        let mut table = self.table(written, key, "expected a table with its prices")?;
        let tiers = self.tiers(key, &mut table);
        let mut reader = Reader::entry(self.source, &format!("{key}."), offset, table);
        let base = read_rates(&mut reader, kind);
        self.found.extend(reader.finish());
        Some(Sheet { base: base?, tiers })
    }

    /// What changes in the prices of a model, and when.
    fn changes(&mut self, written: toml::Spanned<DeValue<'t>>, kind: Kind) -> Vec<(Timestamp, Prices)> {
        const KEY: &str = "model.prices";
        let offset = written.span().start;
        let list = self.list(written, KEY, "expected tables, each under [[model.prices]]");
        let changes: Vec<_> = list.into_iter().filter_map(|item| self.change(KEY, item, kind)).collect();
        if !changes.is_sorted_by(|(left, _), (right, _)| left < right) {
            let place = self.source.place(offset);
            self.refuse(place, KEY, "the earliest `from` must come first, and each only once");
        }
        changes
    }

    fn change(&mut self, key: &str, item: toml::Spanned<DeValue<'t>>, kind: Kind) -> Option<(Timestamp, Prices)> {
        let offset = item.span().start;
        let mut table = self.table(item, key, "expected a table with `from` and its prices")?;
        let nested = self.nested(key, &mut table, kind);
        let mut reader = Reader::entry(self.source, &format!("{key}."), offset, table);
        let from: Option<Since> = reader.required("from");
        let prices = read_prices(&mut reader, kind, nested);
        self.found.extend(reader.finish());
        Some((from?.0, prices?))
    }

    fn tiers(&mut self, key: &str, table: &mut DeTable<'t>) -> Vec<Tier> {
        let Some(written) = table.remove("tiers") else { return Vec::new() };
        let (key, offset) = (format!("{key}.tiers"), written.span().start);
        let list = self.list(written, &key, "expected a list of tables, each with `above` and its prices");
        let tiers: Vec<Tier> = list.into_iter().filter_map(|item| self.tier(&key, item)).collect();
        if !tiers.is_sorted_by(|left, right| left.above < right.above) {
            let place = self.source.place(offset);
            self.refuse(place, &key, "the lowest threshold must come first, and each only once");
        }
        tiers
    }

    fn tier(&mut self, key: &str, item: toml::Spanned<DeValue<'t>>) -> Option<Tier> {
        let offset = item.span().start;
        let table = self.table(item, key, "expected a table with `above` and its prices")?;
        let mut reader = Reader::entry(self.source, &format!("{key}."), offset, table);
        let above = reader.required("above");
        // Only chat models have tiers.
        let rates = read_rates(&mut reader, Kind::Chat);
        self.found.extend(reader.finish());
        Some(Tier { above: above?, rates: rates? })
    }

    fn alias(&mut self, name: &str, place: Place, value: &DeValue<'_>) {
        let key = format!("alias.{name}");
        let targets = Vec::<String>::from_toml(value).filter(|list| !list.is_empty());
        let Some(targets) = targets else {
            return self.refuse(place, &key, "expected a list of \"provider/model\", not empty");
        };
        let mut entries = Vec::with_capacity(targets.len());
        let mut seen = HashSet::new();
        for target in &targets {
            let entry = target.split_once('/').and_then(|(provider, model)| self.catalog.entry(provider, model));
            match entry.cloned() {
                None => self.refuse(place.clone(), &key, format!("the catalogue has no \"{target}\"")),
                Some(_) if !seen.insert(target) => {
                    self.refuse(place.clone(), &key, format!("\"{target}\" stands twice"));
                }
                Some(entry) => entries.push(entry),
            }
        }
        if entries.iter().any(|entry| Some(entry.kind) != entries.first().map(|first| first.kind)) {
            self.refuse(place, &key, "chat and embedding models cannot stand for each other");
        }
        self.catalog.aliases.insert(name.to_owned(), entries);
    }
}

/// What stands in tables of its own below the prices of a model.
struct Nested {
    tiers: Vec<Tier>,
    services: Vec<(ServiceTier, Sheet)>,
    peak: Option<Box<Peak>>,
}

/// Service tiers that have prices of their own.
const SERVICES: [(&str, ServiceTier); 3] =
    [("flex", ServiceTier::Flex), ("priority", ServiceTier::Priority), ("batch", ServiceTier::Batch)];

/// What a model is for, before its table is read; a mistake in it is reported then.
fn kind_of(table: &DeTable<'_>) -> Kind {
    table.get("kind").and_then(|kind| Kind::from_toml(kind.get_ref())).unwrap_or_default()
}

/// Takes every key, so that all mistakes are seen; `None` when something that has no default is missing or wrong.
fn read_model(
    reader: &mut Reader<'_>,
    providers: &[&'static str],
    nested: Nested,
    changes: Vec<(Timestamp, Prices)>,
) -> Option<ModelEntry> {
    let name: Option<String> = reader.required("name");
    let provider: Option<String> = reader.required("provider");
    let upstream: Option<String> = reader.optional("upstream");
    let kind = reader.take("kind", Kind::Chat);
    let first = read_prices(reader, kind, nested);
    let context_window = reader.optional("context_window");
    let max_output = reader.optional("max_output");
    let capabilities = reader.take("capabilities", Vec::new());
    let known = provider.and_then(|name| {
        let known = providers.iter().copied().find(|known| *known == name);
        if known.is_none() {
            reader.refuse("provider", format!("unknown provider; known are {}", providers.join(", ")));
        }
        known
    });
    let name = name?;
    Some(ModelEntry {
        upstream: upstream.unwrap_or_else(|| name.clone()),
        name,
        provider: known?,
        kind,
        prices: Arc::new(PriceList { first: first?, changes }),
        context_window,
        max_output,
        capabilities: together(&capabilities),
    })
}

/// The prices of a model, or what changes in them.
fn read_prices(reader: &mut Reader<'_>, kind: Kind, Nested { tiers, services, peak }: Nested) -> Option<Prices> {
    let base = read_rates(reader, kind);
    let [request, web_search] = ["request", "web_search"].map(|key| reader.optional(key).map(|Fee(fee)| fee));
    let regional_percent = reader.optional("regional").map(|Factor(percent)| percent);
    let usual = Sheet { base: base?, tiers };
    Some(Prices { usual, services, request, web_search, regional_percent, peak })
}

/// The rates of a model, or of one of its tiers.
fn read_rates(reader: &mut Reader<'_>, kind: Kind) -> Option<Rates> {
    let input: Option<Price> = reader.required("input");
    let output: Option<Price> = match kind {
        Kind::Chat => reader.required("output"),
        Kind::Embeddings => Some(reader.take("output", Price(Money::ZERO))),
    };
    let mut optional = |key| reader.optional(key).map(|Price(price)| price);
    let special = Rates {
        cached_read: optional("cached_read"),
        cache_write: optional("cache_write"),
        cache_write_1h: optional("cache_write_1h"),
        audio_input: optional("audio_input"),
        audio_output: optional("audio_output"),
        cached_audio: optional("cached_audio"),
        image_input: optional("image_input"),
        image_output: optional("image_output"),
        thinking_output: optional("thinking_output"),
        reasoning_output: optional("reasoning_output"),
        ..Rates::default()
    };
    Some(Rates { input: input?.0, output: output?.0, ..special })
}

/// A price as one would publish it.
struct Price(Money);

impl Setting for Price {
    fn expected() -> String {
        "a price in USD per million tokens, from 0 to 1000000".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        Money::per_token(f64::from_toml(value)?).map(Self)
    }

    fn from_text(text: &str) -> Option<Self> {
        Money::per_token(text.parse().ok()?).map(Self)
    }
}

/// A price of one thing.
struct Fee(Money);

impl Setting for Fee {
    fn expected() -> String {
        "a price in USD of each".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        match value {
            DeValue::Float(number) => Self::from_text(number.as_str()),
            DeValue::Integer(number) => Self::from_text(number.as_str()),
            _ => None,
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        Money::from_decimal(text).map(Self)
    }
}

/// What something makes of a price, in percent.
struct Factor(u32);

impl Setting for Factor {
    fn expected() -> String {
        "a factor from 1 to 10, in hundredths".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        let factor = f64::from_toml(value)?;
        (1.0..=10.0).contains(&factor).then(|| Self((factor * 100.0).round() as u32))
    }

    fn from_text(text: &str) -> Option<Self> {
        Self::from_toml(DeValue::parse(text).ok()?.get_ref())
    }
}

/// Hours of a day, in minutes from its beginning.
struct Hours(u16, u16);

impl Setting for Hours {
    fn expected() -> String {
        "a time of the day in UTC such as \"01:00-04:00\"".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        Self::from_text(value.as_str()?)
    }

    fn from_text(text: &str) -> Option<Self> {
        let minute = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
            (hour <= 24 && minute < 60).then(|| hour * 60 + minute).filter(|minute| *minute <= 24 * 60)
        };
        let (from, to) = text.split_once('-')?;
        let (from, to) = (minute(from)?, minute(to)?);
        (from < to).then_some(Self(from, to))
    }
}

/// A moment: a day begins at midnight in UTC.
struct Since(Timestamp);

impl Setting for Since {
    fn expected() -> String {
        "a day such as 2026-09-01, or a moment such as 2026-09-01T07:00:00Z".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        match value {
            DeValue::Datetime(moment) => Self::from_text(&moment.to_string()),
            DeValue::String(text) => Self::from_text(text),
            _ => None,
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        let day = || text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok();
        text.parse().ok().or_else(|| Some(day()?.timestamp())).map(Self)
    }
}

impl Words for Kind {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("chat", Self::Chat), ("embeddings", Self::Embeddings)]
    }
}

/// A word in a list of capabilities.
#[derive(Clone, Copy)]
enum Capability {
    Tools,
    Vision,
    Documents,
    Audio,
    JsonSchema,
    Reasoning,
}

impl Words for Capability {
    fn words() -> Vec<(&'static str, Self)> {
        vec![
            ("tools", Self::Tools),
            ("vision", Self::Vision),
            ("documents", Self::Documents),
            ("audio", Self::Audio),
            ("json_schema", Self::JsonSchema),
            ("reasoning", Self::Reasoning),
        ]
    }
}

fn together(list: &[Capability]) -> Capabilities {
    let mut all = Capabilities::default();
    for capability in list {
        *match capability {
            Capability::Tools => &mut all.tools,
            Capability::Vision => &mut all.vision,
            Capability::Documents => &mut all.documents,
            Capability::Audio => &mut all.audio,
            Capability::JsonSchema => &mut all.json_schema,
            Capability::Reasoning => &mut all.reasoning,
        } = true;
    }
    all
}
