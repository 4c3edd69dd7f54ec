//! Every route of the admin API, in one table. The router is made of it and the tests walk it, so that no route can be served that
//! was not tried with every kind of caller.
//!
//! Not here: the console's static files, which need no token; who may do what (`auth`, `tenant`, and the handlers).

use axum::Router;
use axum::routing::{MethodFilter, MethodRouter, on};

use super::{AdminState, api_keys, export, health, live, logs, performance, providers, session, usage, workspaces};

/// A method that a route may have.
#[derive(Clone, Copy)]
enum Verb {
    Get,
    Post,
    Put,
    Delete,
}

impl Verb {
    const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }

    const fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Put => MethodFilter::PUT,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

/// A route: its method, its path, and what answers it. A workspace in a path is `{ws}`, something in that workspace `{id}`.
struct Row(Verb, &'static str, fn(MethodFilter) -> MethodRouter<AdminState>);

/// The table.
const ROUTES: &[Row] = &[
    Row(Verb::Get, "/workspaces", |verb| on(verb, workspaces::list)),
    Row(Verb::Post, "/workspaces", |verb| on(verb, workspaces::create)),
    Row(Verb::Get, "/workspaces/{ws}", |verb| on(verb, workspaces::read)),
    Row(Verb::Put, "/workspaces/{ws}", |verb| on(verb, workspaces::update)),
    Row(Verb::Delete, "/workspaces/{ws}", |verb| on(verb, workspaces::delete)),
    Row(Verb::Get, "/workspaces/{ws}/providers", |verb| on(verb, providers::list)),
    Row(Verb::Post, "/workspaces/{ws}/providers", |verb| on(verb, providers::create)),
    Row(Verb::Get, "/workspaces/{ws}/providers/{id}", |verb| on(verb, providers::read)),
    Row(Verb::Put, "/workspaces/{ws}/providers/{id}", |verb| on(verb, providers::update)),
    Row(Verb::Delete, "/workspaces/{ws}/providers/{id}", |verb| on(verb, providers::delete)),
    Row(Verb::Post, "/workspaces/{ws}/providers/{id}/test", |verb| on(verb, providers::test)),
    Row(Verb::Get, "/workspaces/{ws}/api-keys", |verb| on(verb, api_keys::list)),
    Row(Verb::Post, "/workspaces/{ws}/api-keys", |verb| on(verb, api_keys::create)),
    Row(Verb::Get, "/workspaces/{ws}/api-keys/{id}", |verb| on(verb, api_keys::read)),
    Row(Verb::Delete, "/workspaces/{ws}/api-keys/{id}", |verb| on(verb, api_keys::delete)),
    Row(Verb::Post, "/workspaces/{ws}/api-keys/{id}/revoke", |verb| on(verb, api_keys::revoke)),
    Row(Verb::Get, "/workspaces/{ws}/usage", |verb| on(verb, usage::total)),
    Row(Verb::Get, "/workspaces/{ws}/usage/by-provider", |verb| on(verb, usage::by_provider)),
    Row(Verb::Get, "/workspaces/{ws}/usage/by-key", |verb| on(verb, usage::by_key)),
    Row(Verb::Get, "/workspaces/{ws}/usage/by-model", |verb| on(verb, usage::by_model)),
    Row(Verb::Get, "/workspaces/{ws}/usage/by-day", |verb| on(verb, usage::by_day)),
    Row(Verb::Get, "/workspaces/{ws}/usage/series", |verb| on(verb, usage::series)),
    Row(Verb::Get, "/workspaces/{ws}/logs", |verb| on(verb, logs::page)),
    Row(Verb::Get, "/workspaces/{ws}/logs/export", |verb| on(verb, export::stream)),
    Row(Verb::Get, "/workspaces/{ws}/performance/latency", |verb| on(verb, performance::latency)),
    Row(Verb::Get, "/workspaces/{ws}/performance/errors", |verb| on(verb, performance::errors)),
    Row(Verb::Get, "/workspaces/{ws}/performance/live", |verb| on(verb, health::live)),
    Row(Verb::Get, "/workspaces/{ws}/live", |verb| on(verb, live::of_workspace)),
    Row(Verb::Post, "/workspaces/{ws}/route", |verb| on(verb, workspaces::route)),
    Row(Verb::Get, "/live", |verb| on(verb, live::of_all)),
    Row(Verb::Get, "/console/session", |verb| on(verb, session::read)),
];

/// Method and path of every route that needs a token.
pub fn routes() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROUTES.iter().map(|Row(verb, path, _)| (verb.name(), *path))
}

/// The routes, ready to be served once they are guarded.
pub(super) fn router() -> Router<AdminState> {
    ROUTES.iter().fold(Router::new(), |router, Row(verb, path, serve)| router.route(path, serve(verb.filter())))
}
