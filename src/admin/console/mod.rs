//! `/console/`: a page for people over the admin API. Static files that are part of the program, the same for everyone.
//!
//! Not here: any data. The page asks the API for it, with a token that it keeps for as long as its tab lives; the playground asks
//! `/console/v1/…`, which is the data plane itself (`proxy::routes`), with a virtual key. Invariants: nothing is loaded from
//! elsewhere; the policy that goes with every file lets no inline script run and no text become markup.

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION};
use http::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};

use super::respond;

/// What a browser may do with the page. `trusted-types 'none'` takes every way from a text to markup or code out of scripts.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// A file of the page.
pub(super) struct Asset {
    /// Its name below `/console/`.
    pub(super) name: &'static str,
    /// What it holds.
    pub(super) text: &'static str,
}

macro_rules! assets {
    ($($name:literal),* $(,)?) => {
        &[$(Asset { name: $name, text: include_str!(concat!("assets/", $name)) }),*]
    };
}

/// Every file.
pub(super) static ASSETS: &[Asset] = assets![
    "index.html",
    "style.css",
    "icon.svg",
    "app.js",
    "api.js",
    "dom.js",
    "format.js",
    "plot.js",
    "overview.js",
    "providers.js",
    "live.js",
    "logs.js",
    "spend.js",
    "keys.js",
    "playground.js",
];

/// The routes; they need no token, as there is nothing in them.
pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        // The page's own links are relative, so it needs the slash.
        .route("/console", get(|| async { (StatusCode::PERMANENT_REDIRECT, [(LOCATION, "/console/")]) }))
        .route("/console/", get(|headers: HeaderMap| async move { file("index.html", &headers) }))
        .route(
            "/console/{name}",
            get(|Path(name): Path<String>, headers: HeaderMap| async move { file(&name, &headers) }),
        )
}

fn file(name: &str, headers: &HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return respond::Failure(respond::no_route()).into_response();
    };
    let tag = asset.tag();
    let known = headers.get(IF_NONE_MATCH).is_some_and(|given| given.as_bytes() == tag.as_bytes());
    // A new version of the program must not meet scripts of the old one.
    let head = [
        (CACHE_CONTROL, "no-cache".to_owned()),
        (CONTENT_SECURITY_POLICY, POLICY.to_owned()),
        (CONTENT_TYPE, asset.content_type().to_owned()),
        (ETAG, tag),
    ];
    if known { (StatusCode::NOT_MODIFIED, head).into_response() } else { (head, asset.text).into_response() }
}

impl Asset {
    fn content_type(&self) -> &'static str {
        match self.name.rsplit_once('.') {
            Some((_, "html")) => "text/html; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            Some((_, "js")) => "text/javascript; charset=utf-8",
            Some((_, "svg")) => "image/svg+xml",
            _ => "application/octet-stream",
        }
    }

    fn tag(&self) -> String {
        let digest: [u8; 32] = Sha256::digest(self.text).into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        format!("\"{:016x}\"", u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}
