//! A workspace and a model name → candidates; and the groups in which they are kept between requests.
//!
//! For each enabled credential the upstream name is the first of: the credential's own `models` map, the alias, the
//! catalogue, an explicit `provider/model`, a name as the provider itself spells it, and, for a name nobody knows, the
//! provider's declared prefixes. A name that the catalogue gives to some providers is never tried at others.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use hashbrown::{Equivalent, HashMap};

use super::discovery::Resolver;
use super::group::Group;
use super::stats::StatsBook;
use super::{Candidate, Place};
use crate::catalog::{ALIAS_OWNER, Catalog, Kind};
use crate::directory::{Credential, Workspace, is_upstream_model};
use crate::error::{Error, ErrorKind, Result};

/// Makes and keeps groups.
pub struct Planner {
    catalog: Arc<Catalog>,
    resolver: Arc<Resolver>,
    stats: Arc<StatsBook>,
    groups: RwLock<HashMap<GroupKey, Arc<Group>>>,
}

/// Workspace, model as asked, kind.
type GroupKey = (String, String, Kind);

/// The same, borrowed: it is looked up for each request. Its hash is that of a [`GroupKey`], as its members are those.
#[derive(Hash)]
struct Asked<'a>(&'a str, &'a str, Kind);

impl Equivalent<GroupKey> for Asked<'_> {
    fn equivalent(&self, key: &GroupKey) -> bool {
        (self.0, self.1, self.2) == (key.0.as_str(), key.1.as_str(), key.2)
    }
}

/// Above so many groups all are made anew: a client that invents model names must not fill the memory.
const MAX_GROUPS: usize = 50_000;

impl Planner {
    /// A planner over one catalogue; the counters outlive it.
    pub fn new(catalog: Arc<Catalog>, resolver: Arc<Resolver>, stats: Arc<StatsBook>) -> Self {
        Self { catalog, resolver, stats, groups: RwLock::default() }
    }

    /// The catalogue.
    pub const fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// The counters of all routes.
    pub fn stats(&self) -> &StatsBook {
        &self.stats
    }

    /// The group that serves a model for a workspace as it is now.
    ///
    /// Errors: `ModelNotFound` when no enabled credential serves it.
    pub async fn group(&self, workspace: &Workspace, model: &str, kind: Kind) -> Result<Arc<Group>> {
        let asked = Asked(&workspace.id, model, kind);
        let known = self.groups.read().unwrap_or_else(PoisonError::into_inner).get(&asked).cloned();
        if let Some(group) = known.filter(|group| group.revision == workspace.revision) {
            group.refresh();
            return Ok(group);
        }
        let candidates = self.candidates(workspace, model, kind);
        if candidates.is_empty() {
            return Err(not_found(model));
        }
        let group = Arc::new(Group::build(workspace.revision, candidates, Arc::clone(&self.resolver)).await?);
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        if groups.len() >= MAX_GROUPS {
            groups.clear();
        }
        groups.insert((workspace.id.clone(), model.to_owned(), kind), Arc::clone(&group));
        Ok(group)
    }

    /// Forgets the groups of other workspaces, and of other states of them, than these: by id the revision.
    pub fn keep(&self, revisions: &HashMap<&str, u64>) {
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        groups.retain(|(workspace, ..), group| revisions.get(workspace.as_str()) == Some(&group.revision));
    }

    fn candidates(&self, workspace: &Workspace, model: &str, kind: Kind) -> Vec<Candidate> {
        let (asked, form) = (model, self.form(model));
        enabled(workspace)
            .filter_map(|credential| {
                let (upstream, rank) = self.upstream(credential, model, kind, form)?;
                Some((credential, upstream, rank))
            })
            .enumerate()
            .map(|(slot, (credential, model, rank))| {
                let prices = self.catalog.price(credential.provider.name, &model).cloned();
                let place = Place { slot, rank, revision: workspace.revision };
                let unknown = prices.is_none() && !credential.provider.dialect.reports_cost();
                let candidate = Candidate::new(place, asked, Arc::clone(credential), model, prices, &self.stats);
                Candidate { barred: workspace.refuse_unpriced && unknown, ..candidate }
            })
            .collect()
    }

    fn form(&self, model: &str) -> Form {
        let pinned =
            || model.split_once('/').is_some_and(|(provider, rest)| self.catalog.entry(provider, rest).is_some());
        if !self.catalog.by_name(model).is_empty() || self.catalog.alias(model).is_some() {
            Form::Public
        } else if !pinned() && self.catalog.is_upstream(model) {
            Form::Upstream
        } else {
            Form::Free
        }
    }

    /// The upstream name of a model at a credential, and its place in the alias.
    fn upstream(&self, credential: &Credential, model: &str, kind: Kind, form: Form) -> Option<(String, usize)> {
        let provider = credential.provider.name;
        if let Some(upstream) = credential.models.get(model) {
            return Some((upstream.clone(), 0));
        }
        match form {
            Form::Public => self.public(provider, model, kind),
            Form::Upstream => {
                let entry = self.catalog.entry(provider, model).filter(|entry| entry.kind == kind);
                entry.map(|entry| (entry.upstream.clone(), 0))
            }
            Form::Free => {
                let explicit = model.strip_prefix(provider).and_then(|rest| rest.strip_prefix('/'));
                let own =
                    || credential.provider.prefixes.iter().any(|prefix| model.starts_with(prefix)).then_some(model);
                let name = explicit.or_else(own).filter(|name| is_upstream_model(name))?;
                Some((name.to_owned(), 0))
            }
        }
    }

    /// What a provider calls an alias or a name of the catalogue, and its place in the alias.
    fn public(&self, provider: &str, model: &str, kind: Kind) -> Option<(String, usize)> {
        let alias = self.catalog.alias(model);
        let mut entries = alias.unwrap_or_else(|| self.catalog.by_name(model)).iter().enumerate();
        let (place, entry) = entries.find(|(_, entry)| entry.provider == provider && entry.kind == kind)?;
        Some((entry.upstream.clone(), if alias.is_some() { place } else { 0 }))
    }

    /// The names this workspace can call: public name → owner, sorted, each once. The owner is the provider of the
    /// credential with the first priority, or [`ALIAS_OWNER`].
    pub fn models(&self, workspace: &Workspace) -> Vec<(String, String)> {
        let credentials: Vec<_> = enabled(workspace).collect();
        let mut names = BTreeMap::new();
        for credential in &credentials {
            for name in credential.models.keys() {
                names.entry(name.as_str()).or_insert(credential.provider.name);
            }
        }
        for (alias, entries) in self.catalog.aliases() {
            let reached =
                |credential: &&Arc<Credential>| entries.iter().any(|entry| entry.provider == credential.provider.name);
            if credentials.iter().any(reached) {
                names.entry(alias).or_insert(ALIAS_OWNER);
            }
        }
        for credential in &credentials {
            for name in self.catalog.served_by(credential.provider.name) {
                names.entry(name).or_insert(credential.provider.name);
            }
        }
        names.into_iter().map(|(name, owner)| (name.to_owned(), owner.to_owned())).collect()
    }

    /// One model that this workspace can call, and its owner: a name of [`Planner::models`], or any other way to write one
    /// that the catalogue has. A name nobody has heard of may be served, too; only its provider can tell.
    pub fn model(&self, workspace: &Workspace, name: &str) -> Option<(String, String)> {
        let listed = self.models(workspace).into_iter().find(|(listed, _)| listed == name);
        listed.or_else(|| {
            let form = self.form(name);
            let mut credentials = enabled(workspace);
            let serves = |credential: &&Arc<Credential>| {
                let upstream = |kind| self.upstream(credential, name, kind, form).map(|(upstream, _)| upstream);
                let mut known = [Kind::Chat, Kind::Embeddings].into_iter().filter_map(upstream);
                known.any(|upstream| self.catalog.entry(credential.provider.name, &upstream).is_some())
            };
            credentials.find(serves).map(|credential| (name.to_owned(), credential.provider.name.to_owned()))
        })
    }
}

/// How a client wrote the name of a model.
#[derive(Clone, Copy)]
enum Form {
    /// An alias, or a public name of the catalogue.
    Public,
    /// As a provider of the catalogue spells it; `provider/model` is not among them where the provider has that model.
    Upstream,
    /// `provider/model`, or a name nobody knows.
    Free,
}

fn enabled(workspace: &Workspace) -> impl Iterator<Item = &Arc<Credential>> {
    workspace.credentials.iter().filter(|credential| credential.enabled)
}

fn not_found(model: &str) -> Error {
    let message = format!("The model '{model}' is not served by any enabled provider of this workspace.");
    Error::new(ErrorKind::ModelNotFound, message).with_param("model")
}
