//! Models, their prices and their aliases: `conf/models.toml`, read and checked.
//!
//! Immutable once it is read. Not here: which credentials a workspace has (`store`), and the order in which candidates are
//! asked (`balance`).

mod parse;
mod prices;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::api::operation::Operation;
use crate::config::{Place, Problem, Problems};
use crate::provider::PROVIDERS;
pub use prices::{Peak, PriceList, Prices, Rates, Sheet, Tier};

/// The catalogue that is compiled in.
const BUILT_IN: &str = include_str!("../../conf/models.toml");

/// Who owns an alias, where a list of models says who owns each.
pub const ALIAS_OWNER: &str = "perpetuo";

/// What a model is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Chat completions.
    #[default]
    Chat,
    /// Embeddings.
    Embeddings,
}

impl From<Kind> for Operation {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Chat => Self::Chat,
            Kind::Embeddings => Self::Embeddings,
        }
    }
}

/// What a model can do beyond text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Calls functions.
    pub tools: bool,
    /// Sees images.
    pub vision: bool,
    /// Reads documents such as PDF.
    pub documents: bool,
    /// Hears or speaks.
    pub audio: bool,
    /// Keeps to a JSON schema.
    pub json_schema: bool,
    /// Thinks before it answers.
    pub reasoning: bool,
}

/// One model at one provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelEntry {
    /// The name that clients use.
    pub name: String,
    /// The provider's name, one of [`PROVIDERS`].
    pub provider: &'static str,
    /// The name that the provider uses.
    pub upstream: String,
    /// What it is for.
    pub kind: Kind,
    /// What it costs.
    pub prices: Arc<PriceList>,
    /// Tokens that fit into a prompt.
    pub context_window: Option<u64>,
    /// Tokens that fit into an answer.
    pub max_output: Option<u64>,
    /// What it can do.
    pub capabilities: Capabilities,
}

/// Every model and every alias.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    by_name: BTreeMap<String, Vec<Arc<ModelEntry>>>,
    by_upstream: HashMap<&'static str, HashMap<String, Arc<ModelEntry>>>,
    aliases: BTreeMap<String, Vec<Arc<ModelEntry>>>,
}

impl Catalog {
    /// The catalogue that is compiled in.
    ///
    /// Errors: every mistake in it, which a test rules out.
    pub fn built_in() -> Result<Self, Problems> {
        Self::parse(BUILT_IN, "conf/models.toml", &provider_names())
    }

    /// The catalogue in this file, or the one that is compiled in.
    ///
    /// Errors: every mistake that was found, or that the file can't be read.
    pub fn load(path: Option<&Path>) -> Result<Self, Problems> {
        let Some(path) = path else { return Self::built_in() };
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|cause| {
            let message = format!("cannot be read: {cause}");
            Problems(vec![Problem { place: Place::File(file.clone(), None), key: String::new(), message }])
        })?;
        Self::parse(&text, &file, &provider_names())
    }

    /// Reads a text, which messages call `file_name`. Only models of `providers` are allowed.
    ///
    /// Errors: every mistake that was found.
    pub fn parse(text: &str, file_name: &str, providers: &[&'static str]) -> Result<Self, Problems> {
        parse::parse(text, file_name, providers)
    }

    /// Every provider that serves this public name, in the order of the file.
    pub fn by_name(&self, name: &str) -> &[Arc<ModelEntry>] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// The models that stand for this alias, best first; never empty.
    pub fn alias(&self, name: &str) -> Option<&[Arc<ModelEntry>]> {
        self.aliases.get(name).map(Vec::as_slice)
    }

    /// The model that a provider calls so.
    pub fn entry(&self, provider: &str, upstream: &str) -> Option<&Arc<ModelEntry>> {
        self.by_upstream.get(provider)?.get(upstream)
    }

    /// What a model costs at a provider.
    pub fn price(&self, provider: &str, upstream: &str) -> Option<&Arc<PriceList>> {
        self.served(provider, upstream).map(|entry| &entry.prices)
    }

    /// The model that a provider serves under this name. It may say that it served a dated version (`gpt-4o-2024-08-06`); one
    /// that the catalogue does not list is the model of the undated name.
    pub fn served(&self, provider: &str, upstream: &str) -> Option<&Arc<ModelEntry>> {
        let exact = self.entry(provider, upstream);
        exact.or_else(|| self.entry(provider, without_date(upstream)?))
    }

    /// This name as the catalogue has it, if it is that of a model or an alias.
    pub fn public_name(&self, name: &str) -> Option<&str> {
        let model = self.by_name.get_key_value(name).map(|(name, _)| name.as_str());
        model.or_else(|| self.aliases.get_key_value(name).map(|(name, _)| name.as_str()))
    }

    /// Whether any provider calls a model so.
    pub fn is_upstream(&self, name: &str) -> bool {
        self.by_upstream.values().any(|models| models.contains_key(name))
    }

    /// The public names of a provider's models, in no order.
    pub fn served_by(&self, provider: &str) -> impl Iterator<Item = &str> {
        self.by_upstream.get(provider).into_iter().flat_map(HashMap::values).map(|entry| entry.name.as_str())
    }

    /// Every alias with the models that it stands for, by name.
    pub fn aliases(&self) -> impl Iterator<Item = (&str, &[Arc<ModelEntry>])> {
        self.aliases.iter().map(|(name, entries)| (name.as_str(), entries.as_slice()))
    }

    /// Adds a model. Says why not when it is there already.
    fn insert(&mut self, entry: ModelEntry) -> Result<(), &'static str> {
        let named = self.by_name.entry(entry.name.clone()).or_default();
        if named.iter().any(|other| other.provider == entry.provider) {
            return Err("this provider has a model of this name already");
        }
        let served = self.by_upstream.entry(entry.provider).or_default();
        if served.contains_key(&entry.upstream) {
            return Err("this provider has this upstream model already; a second name for it is an alias");
        }
        let entry = Arc::new(entry);
        served.insert(entry.upstream.clone(), Arc::clone(&entry));
        named.push(entry);
        Ok(())
    }
}

fn provider_names() -> Vec<&'static str> {
    PROVIDERS.iter().map(|provider| provider.name).collect()
}

/// The name without `-2024-08-06`, `-20240806` or `@20240806` at its end; `None` when there is no date.
fn without_date(name: &str) -> Option<&str> {
    let digits = |part: &str, length| part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit());
    let compact = name.rsplit_once(['-', '@']).filter(|(_, date)| digits(date, 8)).map(|(base, _)| base);
    compact.or_else(|| {
        let (rest, day) = name.rsplit_once('-')?;
        let (rest, month) = rest.rsplit_once('-')?;
        let (base, year) = rest.rsplit_once('-')?;
        (digits(day, 2) && digits(month, 2) && digits(year, 4)).then_some(base)
    })
}

#[cfg(test)]
mod tests;
