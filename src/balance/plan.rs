//! A workspace and a model name → candidates; and the groups in which they are kept between requests.
//!
//! For each enabled credential the upstream name is the first of: the credential's own `models` map, the alias, the
//! catalogue, an explicit `provider/model`, and, for a name nobody knows, the provider's declared prefixes.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::discovery::Resolver;
use super::group::Group;
use super::stats::StatsBook;
use super::{Candidate, Place};
use crate::catalog::{Catalog, Kind};
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

/// Above so many groups all are made anew: a client that invents model names must not fill the memory.
const MAX_GROUPS: usize = 50_000;

impl Planner {
    /// A planner over one catalogue; the counters outlive it.
    pub fn new(catalog: Arc<Catalog>, resolver: Arc<Resolver>, stats: Arc<StatsBook>) -> Self {
        Self { catalog, resolver, stats, groups: RwLock::default() }
    }

    /// The catalogue.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The group that serves a model for a workspace as it is now.
    ///
    /// Errors: `ModelNotFound` when no enabled credential serves it.
    pub async fn group(&self, workspace: &Workspace, model: &str, kind: Kind) -> Result<Arc<Group>> {
        let key = (workspace.id.clone(), model.to_owned(), kind);
        let known = self.groups.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
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
        groups.insert(key, Arc::clone(&group));
        Ok(group)
    }

    fn candidates(&self, workspace: &Workspace, model: &str, kind: Kind) -> Vec<Candidate> {
        let (asked, known) = (model, !self.catalog.by_name(model).is_empty() || self.catalog.alias(model).is_some());
        let enabled = workspace.credentials.iter().filter(|credential| credential.enabled);
        enabled
            .filter_map(|credential| {
                let (upstream, rank) = self.upstream(credential, model, kind, known)?;
                Some((credential, upstream, rank))
            })
            .enumerate()
            .map(|(slot, (credential, model, rank))| {
                let prices = self.catalog.price(credential.provider.name, &model).cloned();
                let place = Place { slot, rank, revision: workspace.revision };
                Candidate::new(place, asked, Arc::clone(credential), model, prices, &self.stats)
            })
            .collect()
    }

    /// The upstream name of a model at a credential, and its place in the alias.
    fn upstream(&self, credential: &Credential, model: &str, kind: Kind, known: bool) -> Option<(String, usize)> {
        let provider = credential.provider.name;
        if let Some(upstream) = credential.models.get(model) {
            return Some((upstream.clone(), 0));
        }
        if let Some(entries) = self.catalog.alias(model) {
            let place = entries.iter().position(|entry| entry.provider == provider && entry.kind == kind);
            return place.and_then(|rank| Some((entries.get(rank)?.upstream.clone(), rank)));
        }
        let mut entries = self.catalog.by_name(model).iter();
        if let Some(entry) = entries.find(|entry| entry.provider == provider && entry.kind == kind) {
            return Some((entry.upstream.clone(), 0));
        }
        if known {
            return None;
        }
        if let Some(rest) = model.strip_prefix(provider).and_then(|rest| rest.strip_prefix('/')) {
            return is_upstream_model(rest).then(|| (rest.to_owned(), 0));
        }
        let own = credential.provider.prefixes.iter().any(|prefix| model.starts_with(prefix));
        (own && is_upstream_model(model)).then(|| (model.to_owned(), 0))
    }

    /// The names this workspace can call: public name → owner, sorted.
    pub fn models(&self, workspace: &Workspace) -> Vec<(String, String)> {
        let enabled = || workspace.credentials.iter().filter(|credential| credential.enabled);
        let mut names: Vec<(String, String)> = self
            .catalog
            .names()
            .filter(|(name, _)| {
                enabled().any(|credential| {
                    [Kind::Chat, Kind::Embeddings]
                        .into_iter()
                        .any(|kind| self.upstream(credential, name, kind, true).is_some())
                })
            })
            .map(|(name, owner)| (name.to_owned(), owner.to_owned()))
            .collect();
        for credential in enabled() {
            let own = credential.models.keys().map(|name| (name.clone(), credential.provider.name.to_owned()));
            names.extend(own);
        }
        names.sort();
        names.dedup_by(|left, right| left.0 == right.0);
        names
    }
}

fn not_found(model: &str) -> Error {
    let message = format!("The model '{model}' is not served by any enabled provider of this workspace.");
    Error::new(ErrorKind::ModelNotFound, message).with_param("model")
}
