//! Which route was chosen and why, and which are left alone. Counters are fed by the proxy, where it is decided; gauges are drawn
//! anew from a [`Picture`] whenever the metrics are read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec};

use super::labels;
use super::make::Maker;
use super::names::Names;
use crate::api::strategy::StrategyName;
use crate::provider::PROVIDERS;

/// Why a credential is out.
pub(super) const REFUSALS: [&str; 2] = ["key", "quota"];
/// The states of a breaker.
pub(super) const STATES: [&str; 4] = ["closed", "slow_start", "half_open", "open"];
/// How many credentials, and how many of their routes, have series of their own.
pub(super) const MAX_SHOWN: usize = 500;

/// The metrics of routing.
pub struct Routing {
    /// Candidates that were chosen, by `strategy` and `reason`.
    pub choices: IntCounterVec,
    /// 429s after which a credential cools down, by `provider`.
    pub cool_downs: IntCounterVec,
    /// Credentials that were refused and are out until they are changed, by `provider` and `reason`.
    pub credentials_disabled: IntCounterVec,
    /// Routes that fail and are left alone for a while, by `provider`.
    pub routes_opened: IntCounterVec,
    routes: IntGaugeVec,
    route_state: IntGaugeVec,
    cool_down: GaugeVec,
    refused: IntGaugeVec,
    shown: Mutex<Shown>,
}

/// Credentials, and models of theirs, that have series of their own.
#[derive(Default)]
struct Shown {
    credentials: HashSet<String>,
    routes: HashSet<(String, String)>,
}

/// How routes and credentials are doing at one moment.
#[derive(Debug, Default)]
pub struct Picture {
    /// Every route that was asked.
    pub routes: Vec<RouteState>,
    /// Every credential that could be asked.
    pub credentials: Vec<CredentialState>,
}

/// A credential, and whose it is.
#[derive(Clone, Debug)]
pub struct Owned {
    /// Its id.
    pub credential: String,
    /// Whose it is.
    pub workspace: String,
    /// Its provider.
    pub provider: &'static str,
}

/// How a route is doing.
#[derive(Clone, Debug)]
pub struct RouteState {
    /// Its credential.
    pub owned: Owned,
    /// The upstream name of its model.
    pub model: String,
    /// The word for the state of its breaker.
    pub state: &'static str,
}

/// How a credential is doing.
#[derive(Clone, Debug)]
pub struct CredentialState {
    /// The credential.
    pub owned: Owned,
    /// How much longer it cools down.
    pub cool_down: Duration,
    /// The word for why its provider refuses it, if it does.
    pub refused: Option<&'static str>,
}

impl Routing {
    pub(super) fn create(maker: &Maker<'_>) -> prometheus::Result<Self> {
        const PROVIDER: &[&str] = &["provider"];
        const OWNED: &[&str] = &["workspace", "credential", "provider"];
        let routing = Self {
            choices: maker.counters(
                "perpetuo_route_choices_total",
                "Candidates that were chosen, and why.",
                &["strategy", "reason"],
            )?,
            cool_downs: maker.counters(
                "perpetuo_credential_cool_downs_total",
                "Rate limits after which a credential was left alone for a while.",
                PROVIDER,
            )?,
            credentials_disabled: maker.counters(
                "perpetuo_credential_disabled_total",
                "Times that a provider refused a credential for good.",
                &["provider", "reason"],
            )?,
            routes_opened: maker.counters(
                "perpetuo_route_opened_total",
                "Times that a route failed so much that it was left alone for a while.",
                PROVIDER,
            )?,
            routes: maker.gauges(
                "perpetuo_routes",
                "Routes that were asked since the start, by the state of their breaker.",
                &["provider", "state"],
            )?,
            route_state: maker.gauges(
                "perpetuo_route_state",
                "The worst breaker of a credential's routes for a model: 0 closed, 1 recovering, 2 open.",
                &["workspace", "credential", "provider", "model"],
            )?,
            cool_down: maker.levels(
                "perpetuo_credential_cool_down_seconds",
                "How much longer a credential is left alone after a rate limit.",
                OWNED,
            )?,
            refused: maker.gauges(
                "perpetuo_credential_refused",
                "1 while a credential is out until it is changed.",
                &["workspace", "credential", "provider", "reason"],
            )?,
            shown: Mutex::default(),
        };
        routing.start_at_zero();
        Ok(routing)
    }

    /// Series that exist from the start, so that a first one is a rise from zero.
    fn start_at_zero(&self) {
        for strategy in StrategyName::ALL.map(StrategyName::as_str) {
            self.choices.with_label_values(&[strategy, "best"]);
        }
        for provider in PROVIDERS.iter().map(|provider| provider.name) {
            for refusal in REFUSALS {
                self.credentials_disabled.with_label_values(&[provider, refusal]);
            }
            self.cool_downs.with_label_values(&[provider]);
            self.routes_opened.with_label_values(&[provider]);
        }
    }

    /// Draws the gauges anew. What is in no picture any more, such as a deleted credential, has no series any more.
    pub(super) fn show(&self, names: &Names, picture: &Picture) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        self.show_credentials(names, &picture.credentials, &mut shown.credentials);
        self.count_routes(&picture.routes);
        let worst = worst(names, &picture.routes);
        self.show_routes(names, &worst, &mut shown.routes);
    }

    fn show_credentials(&self, names: &Names, states: &[CredentialState], shown: &mut HashSet<String>) {
        self.cool_down.reset();
        self.refused.reset();
        let all: HashMap<String, &CredentialState> =
            states.iter().map(|state| (state.owned.credential.clone(), state)).collect();
        keep(shown, all.keys());
        for state in shown.iter().filter_map(|credential| all.get(credential)) {
            let Owned { credential, workspace, provider } = &state.owned;
            let workspace = names.workspace(workspace).text;
            let provider = labels::provider(provider).text;
            self.cool_down.with_label_values(&[workspace, credential, provider]).set(state.cool_down.as_secs_f64());
            for reason in REFUSALS {
                let out = i64::from(state.refused == Some(reason));
                self.refused.with_label_values(&[workspace, credential, provider, reason]).set(out);
            }
        }
    }

    fn count_routes(&self, states: &[RouteState]) {
        self.routes.reset();
        for route in states {
            for state in STATES {
                let gauge = self.routes.with_label_values(&[labels::provider(route.owned.provider).text, state]);
                gauge.add(i64::from(state == route.state));
            }
        }
    }

    fn show_routes(&self, names: &Names, all: &Worst<'_>, shown: &mut HashSet<(String, String)>) {
        self.route_state.reset();
        keep(shown, all.keys());
        for (model, (owned, severity)) in shown.iter().filter_map(|key| Some((&key.1, all.get(key)?))) {
            let labels = [
                names.workspace(&owned.workspace).text,
                &owned.credential,
                labels::provider(owned.provider).text,
                model.as_str(),
            ];
            self.route_state.with_label_values(&labels).set(*severity);
        }
    }
}

/// By credential and model.
type Worst<'a> = BTreeMap<(String, String), (&'a Owned, i64)>;

/// The worst state of each credential's routes to each model with a name.
fn worst<'a>(names: &Names, states: &'a [RouteState]) -> Worst<'a> {
    let catalog = names.catalog();
    let mut worst = Worst::new();
    for state in states {
        let model = names.model(&catalog, labels::provider(state.owned.provider), &state.model).text.to_owned();
        let severity = match state.state {
            "closed" => 0,
            "open" => 2,
            _ => 1,
        };
        let entry = worst.entry((state.owned.credential.clone(), model)).or_insert((&state.owned, severity));
        entry.1 = entry.1.max(severity);
    }
    worst
}

/// Forgets what is gone, and fills the room that there is.
fn keep<'a, K: Clone + Eq + Hash + 'a>(shown: &mut HashSet<K>, all: impl Iterator<Item = &'a K> + Clone) {
    let there: HashSet<&K> = all.clone().collect();
    shown.retain(|known| there.contains(known));
    for key in all {
        if shown.len() >= MAX_SHOWN {
            break;
        }
        if !shown.contains(key) {
            shown.insert(key.clone());
        }
    }
}
