//! Paths → routes. One canonical form; everything else is a 404, and a known path with another method is a 405.

use http::Method;

use crate::error::{Error, ErrorKind, Result};

/// Which planes a listener serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planes {
    /// The OpenAI-compatible API and the health checks.
    pub data: bool,
    /// The admin API.
    pub admin: bool,
    /// `/console/`, a page over the admin API; `admin.console` can switch it off.
    pub console: bool,
    /// `/metrics`.
    pub metrics: bool,
}

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `POST /v1/chat/completions`.
    Chat,
    /// `POST /v1/embeddings`.
    Embeddings,
    /// `GET /v1/models`.
    Models,
    /// `GET /v1/models/{id}`; the id may hold slashes.
    Model(String),
    /// `GET /health`.
    Health,
    /// `GET /ready`.
    Ready,
    /// `GET /metrics`.
    Metrics,
    /// `/workspaces…`, `/live`, `/console…`: the admin API decides.
    Admin,
}

impl Route {
    /// What its paths look like.
    pub const fn pattern(&self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::Models => "/v1/models",
            Self::Model(_) => "/v1/models/{id}",
            Self::Health => "/health",
            Self::Ready => "/ready",
            Self::Metrics => "/metrics",
            Self::Admin => "/workspaces",
        }
    }

    /// Asked again and again by machines that watch this one.
    pub const fn is_probe(&self) -> bool {
        matches!(self, Self::Health | Self::Ready | Self::Metrics)
    }

    /// The route of a path on a listener, and the one method it takes; `None` where the route itself decides.
    ///
    /// Errors: `NotFound`.
    pub fn find(path: &str, planes: Planes) -> Result<(Self, Option<Method>)> {
        let below = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if planes.admin && (below("/workspaces") || path == "/live") {
            return Ok((Self::Admin, None));
        }
        let (route, method) = match path {
            // The playground's own way to the data plane, which may have another address: a page may only ask its own.
            "/console/v1/chat/completions" if planes.console => (Self::Chat, Method::POST),
            "/console/v1/models" if planes.console => (Self::Models, Method::GET),
            _ if planes.console && below("/console") => return Ok((Self::Admin, None)),
            "/v1/chat/completions" if planes.data => (Self::Chat, Method::POST),
            "/v1/embeddings" if planes.data => (Self::Embeddings, Method::POST),
            "/v1/models" if planes.data => (Self::Models, Method::GET),
            "/metrics" if planes.metrics => (Self::Metrics, Method::GET),
            "/health" => (Self::Health, Method::GET),
            "/ready" => (Self::Ready, Method::GET),
            _ => match path.strip_prefix("/v1/models/").filter(|id| planes.data && !id.is_empty()) {
                Some(id) => (Self::Model(decode(id)), Method::GET),
                None => return Err(Error::new(ErrorKind::NotFound, format!("Unknown request URL: {}.", shown(path)))),
            },
        };
        Ok((route, Some(method)))
    }
}

/// A model id in a path, where SDKs write its slashes as `%2F`.
fn decode(id: &str) -> String {
    percent_encoding::percent_decode_str(id).decode_utf8_lossy().into_owned()
}

/// A path short and plain enough to be repeated in an answer.
fn shown(path: &str) -> String {
    path.chars().filter(char::is_ascii_graphic).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Planes = Planes { data: true, admin: true, console: true, metrics: true };

    #[test]
    fn each_path_has_one_form() {
        let find = |path| Route::find(path, ALL).map(|(route, _)| route);
        assert_eq!(find("/v1/models").unwrap(), Route::Models);
        assert_eq!(find("/v1/models/openai%2Fgpt-4o").unwrap(), Route::Model("openai/gpt-4o".to_owned()));
        assert_eq!(find("/workspaces/ws_1/usage").unwrap(), Route::Admin);
        for wrong in ["/v1//models", "/v1/models/", "/V1/models", "/v1/%6dodels", "/workspacesx", "/", ""] {
            assert_eq!(find(wrong).unwrap_err().kind(), ErrorKind::NotFound, "{wrong}");
        }
    }

    #[test]
    fn a_listener_serves_only_its_planes() {
        let data = Planes { data: true, ..Planes::default() };
        assert!(Route::find("/workspaces", data).is_err());
        assert!(Route::find("/metrics", data).is_err());
        let admin = Planes { admin: true, ..Planes::default() };
        assert!(Route::find("/v1/chat/completions", admin).is_err());
        assert!(Route::find("/console/", admin).is_err(), "it was not asked for");
    }

    #[test]
    fn the_console_brings_its_own_way_to_the_data_plane() {
        let planes = Planes { admin: true, console: true, ..Planes::default() };
        let find = |path| Route::find(path, planes).map(|(route, _)| route);
        assert_eq!(find("/console/v1/chat/completions").unwrap(), Route::Chat);
        assert_eq!(find("/console/v1/models").unwrap(), Route::Models);
        assert_eq!(find("/console").unwrap(), Route::Admin);
        assert_eq!(find("/console/app.js").unwrap(), Route::Admin);
        for wrong in ["/consolex", "/v1/chat/completions", "/livex"] {
            assert_eq!(find(wrong).unwrap_err().kind(), ErrorKind::NotFound, "{wrong}");
        }
    }
}
