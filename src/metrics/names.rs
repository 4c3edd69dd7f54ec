//! Names that are not known beforehand, and their bound: workspaces and models. The first to come keep theirs; those that find
//! no room are `other`.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::{ArcSwap, Guard};
use hashbrown::HashMap;
use prometheus::{IntCounter, IntCounterVec};

use super::Maker;
use super::labels::{Label, NO_PROVIDER, NONE, OTHER, provider};
use crate::catalog::Catalog;
use crate::config;
use crate::store::RequestRecord;

/// Combinations of labels that a workspace has room for among its requests, on average.
const REQUESTS_EACH: usize = 20;
/// The same among tokens and money: providers and models.
const SPENDING_EACH: usize = 10;

/// What was put under `other`.
struct Collapsed {
    workspaces: IntCounter,
    models: IntCounter,
    series: IntCounter,
}

/// A name, and the number that stands for it in caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    pub(super) number: u32,
    pub(super) text: &'a str,
}

impl Name<'static> {
    pub(super) const NONE: Self = Self { number: 0, text: NONE };
    pub(super) const OTHER: Self = Self { number: 1, text: OTHER };
}

/// Those, as labels.
pub(super) const COLLAPSES: [&str; 3] = ["workspace", "model", "series"];

/// The first numbers are those of none and other.
const FIRST: u32 = 2;

/// Names in the order in which they came, each within its provider; those of workspaces in one place.
#[derive(Default)]
struct Known {
    by_provider: HashMap<u8, HashMap<String, u32>>,
    count: usize,
}

/// Names up to a bound.
#[derive(Default)]
struct Bounded {
    known: RwLock<Known>,
    most: AtomicUsize,
}

impl Bounded {
    /// The number of a name; none when there is no room for it.
    fn number(&self, provider: u8, name: &str) -> Option<u32> {
        let most = self.most.load(Relaxed);
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = known.by_provider.get(&provider).and_then(|names| names.get(name)) {
            return Some(*number);
        }
        if known.count >= most {
            return None;
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let next = FIRST.saturating_add(u32::try_from(known.count).unwrap_or(u32::MAX));
        let number = *known.by_provider.entry(provider).or_default().entry(name.to_owned()).or_insert(next);
        known.count += usize::from(number == next);
        Some(number)
    }
}

/// Every name.
#[derive(Clone)]
pub(super) struct Names {
    inner: Arc<Inner>,
}

struct Inner {
    workspaces: Bounded,
    models: Bounded,
    catalog: ArcSwap<Catalog>,
    collapsed: Collapsed,
}

impl Names {
    pub(super) fn create(maker: &Maker<'_>) -> prometheus::Result<Self> {
        let collapsed: IntCounterVec = maker.counters(
            "perpetuo_metrics_collapsed_total",
            "Figures that were put under other because a bound of this page was reached.",
            &["what"],
        )?;
        let [workspaces, models, series] = COLLAPSES.map(|what| collapsed.with_label_values(&[what]));
        let collapsed = Collapsed { workspaces, models, series };
        let (workspaces, models, catalog) = (Bounded::default(), Bounded::default(), ArcSwap::default());
        let names = Self { inner: Arc::new(Inner { workspaces, models, catalog, collapsed }) };
        names.bound(&config::Config::default().metrics);
        Ok(names)
    }

    /// Other bounds from now on; what has a name keeps it.
    pub(super) fn bound(&self, config: &config::Metrics) {
        self.inner.workspaces.most.store(config.max_workspaces, Relaxed);
        self.inner.models.most.store(config.max_models, Relaxed);
    }

    /// Another catalogue from now on.
    pub(super) fn use_catalog(&self, catalog: Arc<Catalog>) {
        self.inner.catalog.store(catalog);
    }

    pub(super) fn catalog(&self) -> Guard<Arc<Catalog>> {
        self.inner.catalog.load()
    }

    /// A workspace by its id; `none` for no id.
    pub(super) fn workspace<'a>(&self, id: &'a str) -> Name<'a> {
        if id.is_empty() {
            return Name::NONE;
        }
        let number = self.inner.workspaces.number(NO_PROVIDER.place, id);
        number.map_or_else(|| collapse(&self.inner.collapsed.workspaces), |number| Name { number, text: id })
    }

    /// A model by its upstream name.
    pub(super) fn model<'c>(&self, catalog: &'c Catalog, at: Label, upstream: &str) -> Name<'c> {
        match catalog.served(at.text, upstream) {
            Some(entry) => self.named(at, &entry.name),
            None => Name::OTHER,
        }
    }

    /// A model as the client named it, if that is a name of the catalogue; else as the last attempt has it.
    pub(super) fn asked<'c>(&self, catalog: &'c Catalog, record: &RequestRecord) -> Name<'c> {
        let Some(last) = record.attempts.last() else { return Name::NONE };
        let at = provider(&last.provider);
        match catalog.public_name(&record.model) {
            Some(name) => self.named(at, name),
            None => self.model(catalog, at, &last.model),
        }
    }

    fn named<'c>(&self, at: Label, name: &'c str) -> Name<'c> {
        let number = self.inner.models.number(at.place, name);
        number.map_or_else(|| collapse(&self.inner.collapsed.models), |number| Name { number, text: name })
    }

    /// How many series requests may have.
    pub(super) fn request_room(&self) -> usize {
        self.inner.workspaces.most.load(Relaxed).saturating_mul(REQUESTS_EACH)
    }

    /// How many rows tokens and money may have.
    pub(super) fn spending_room(&self) -> usize {
        self.inner.workspaces.most.load(Relaxed).saturating_mul(SPENDING_EACH)
    }

    /// Counts a figure that found no room for a series of its own; its workspace is another.
    pub(super) fn no_room(&self) -> Name<'static> {
        collapse(&self.inner.collapsed.series)
    }
}

fn collapse(counter: &IntCounter) -> Name<'static> {
    counter.inc();
    Name::OTHER
}
