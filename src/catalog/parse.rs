//! `models.toml`: a list of models, and aliases that point into it.

use std::collections::HashSet;

use toml::de::DeValue;

use super::{Capabilities, Catalog, Kind, ModelEntry, Prices, Rates, Tier};
use crate::config::reader::{Reader, Source};
use crate::config::setting::{Setting, Words};
use crate::config::{Place, Problem, Problems};
use crate::money::Money;

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
        let DeValue::Table(mut table) = item.into_inner() else {
            let place = self.source.place(offset);
            return self.refuse(place, "model", "expected a table under [[model]]");
        };
        let tiers = table.remove("tiers").map(|written| self.tiers(written)).unwrap_or_default();
        let mut reader = Reader::entry(self.source, "model.", offset, table);
        if let Some(mut entry) = read_model(&mut reader, self.providers) {
            entry.prices.tiers = tiers;
            if let Err(why) = self.catalog.insert(entry) {
                reader.refuse("name", why);
            }
        }
        self.found.extend(reader.finish());
    }

    fn tiers(&mut self, written: toml::Spanned<DeValue<'t>>) -> Vec<Tier> {
        let offset = written.span().start;
        let DeValue::Array(list) = written.into_inner() else {
            self.refuse_tiers(offset, "expected a list of tables, each with `above` and its prices");
            return Vec::new();
        };
        let tiers: Vec<Tier> = list.into_iter().filter_map(|item| self.tier(item)).collect();
        if !tiers.is_sorted_by(|left, right| left.above < right.above) {
            self.refuse_tiers(offset, "the lowest threshold must come first, and each only once");
        }
        tiers
    }

    fn refuse_tiers(&mut self, offset: usize, message: &str) {
        self.refuse(self.source.place(offset), "model.tiers", message);
    }

    fn tier(&mut self, item: toml::Spanned<DeValue<'t>>) -> Option<Tier> {
        let offset = item.span().start;
        let DeValue::Table(table) = item.into_inner() else {
            self.refuse_tiers(offset, "expected a table with `above` and its prices");
            return None;
        };
        let mut reader = Reader::entry(self.source, "model.tiers.", offset, table);
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

/// Takes every key, so that all mistakes are seen; `None` when something that has no default is missing or wrong.
fn read_model(reader: &mut Reader<'_>, providers: &[&'static str]) -> Option<ModelEntry> {
    let name: Option<String> = reader.required("name");
    let provider: Option<String> = reader.required("provider");
    let upstream: Option<String> = reader.optional("upstream");
    let kind = reader.take("kind", Kind::Chat);
    let rates = read_rates(reader, kind);
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
        prices: Prices { base: rates?, tiers: Vec::new() },
        context_window,
        max_output,
        capabilities: together(&capabilities),
    })
}

/// The prices of a model, or of one of its tiers.
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
        thinking_output: optional("thinking_output"),
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
