//! The admin plane as its clients meet it: requests into the router, answers out, no socket.

mod bodies;
mod console;
mod forged;
mod grants;
mod life;
mod matrix;
mod reports;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use jiff::Timestamp;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::auth::{Jwt, Role};
use super::{AdminState, CredentialHealth, TestResult, UpstreamOps, router};
use crate::api::strategy::StrategyName;
use crate::config::Secret;
use crate::directory::{Credential, Directory, Workspace, WorkspaceChange};
use crate::error::Result;
use crate::guard::Guard;
use crate::live::Table;
use crate::meter::{Meter, MeterOptions};
use crate::metrics::Metrics;
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::vault::{MasterKey, Vault, VirtualKeys};

const HOUR: Duration = Duration::from_secs(3600);
const JWT_SECRET: &str = "a secret of at least thirty-two bytes";

/// Noon of a day in summer.
fn now() -> Timestamp {
    "2026-07-15T12:00:00Z".parse().unwrap()
}

fn jwt(secret: &str) -> Jwt {
    Jwt::new(&Secret::new(secret), "perpetuo", "perpetuo-admin", 24 * HOUR)
}

fn directory(store: Arc<dyn Store>) -> Directory {
    let master = || MasterKey::from_text(&"07".repeat(32)).ok().unwrap();
    let keys = VirtualKeys::new(&master()).ok().unwrap();
    let directory = Directory::open(store, Vault::new(master()), keys).ok().unwrap();
    directory.set_guard(Arc::new(Guard::new(["gpu.internal"])));
    directory
}

/// Stands in for the proxy: the key `sk-good-…` works, and a dry run tells what it was asked.
struct Upstream;

#[async_trait]
impl UpstreamOps for Upstream {
    async fn test(&self, _: &Workspace, credential: &Credential) -> TestResult {
        let ok = credential.key.expose().starts_with("sk-good");
        let error = (!ok).then(|| "provider_key_invalid".to_owned());
        TestResult { ok, status: Some(if ok { 200 } else { 401 }), latency_ms: 7, error, message: None }
    }

    async fn dry_run(&self, workspace: &Workspace, body: Bytes, strategy: Option<StrategyName>) -> Result<Value> {
        Ok(json!({"workspace": workspace.id, "bytes": body.len(), "strategy": strategy}))
    }

    fn health(&self, workspace: &Workspace) -> Vec<CredentialHealth> {
        let healthy = |credential: &Arc<Credential>| CredentialHealth {
            id: credential.id.clone(),
            provider: credential.provider.name,
            state: "ready",
            refused: None,
            cooling_ms: None,
            in_flight: 0,
            routes: Vec::new(),
        };
        workspace.credentials.iter().map(healthy).collect()
    }
}

/// A gateway with two workspaces.
struct World {
    router: Router,
    directory: Arc<Directory>,
    store: Arc<MemoryStore>,
    live: Arc<Table>,
    jwt: Arc<Jwt>,
    ours: String,
    theirs: String,
}

/// An answer, read.
struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{} {}", self.status, self.text))
    }

    fn data(&self) -> Value {
        let json = self.json();
        assert_eq!(json["success"], true, "{json}");
        json["data"].clone()
    }

    fn id(&self) -> String {
        self.data()["id"].as_str().unwrap().to_owned()
    }

    /// The `param` of a 400.
    fn refused_param(&self) -> String {
        assert_eq!(self.status, 400, "{}", self.text);
        self.json()["error"]["param"].as_str().unwrap_or_default().to_owned()
    }
}

impl World {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let directory = Arc::new(directory(store.clone()));
        let workspace = |name: &str| {
            let change = WorkspaceChange { name: Some(name.to_owned()), ..WorkspaceChange::default() };
            directory.create_workspace(change, now()).unwrap_or_else(|error| panic!("{error:?}")).id.clone()
        };
        let (ours, theirs) = (workspace("ours"), workspace("theirs"));
        let jwt = Arc::new(jwt(JWT_SECRET));
        let metrics = Arc::new(Metrics::register(&prometheus::Registry::new()).unwrap());
        let live = Arc::new(Table::default());
        let options = MeterOptions { queue: 1, batch: Duration::ZERO, max_batch: 1, sync: false };
        let state = AdminState {
            directory: directory.clone(),
            store: store.clone(),
            meter: Meter::start(store.clone(), metrics, options).unwrap(),
            jwt: jwt.clone(),
            upstream: Arc::new(Upstream),
            live: live.clone(),
            now,
        };
        Self { router: router(state), directory, store, live, jwt, ours, theirs }
    }

    fn admin(&self) -> String {
        self.jwt.mint(Role::Admin, &[], HOUR, now()).unwrap()
    }

    fn tenant(&self) -> String {
        self.jwt.mint(Role::Workspace, std::slice::from_ref(&self.ours), HOUR, now()).unwrap()
    }

    async fn send(&self, request: Request<Body>) -> Answered {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answered { status: head.status, headers: head.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    /// One call. `route` is `METHOD /path`, with `{ws}` for our workspace.
    async fn call_as(&self, token: &str, route: &str, body: impl Into<String>) -> Answered {
        let (method, path) = route.split_once(' ').unwrap();
        let path = path.replace("{ws}", &self.ours);
        let request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {token}"));
        self.send(request.body(Body::from(body.into())).unwrap()).await
    }

    async fn call(&self, route: &str, body: Value) -> Answered {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        self.call_as(&self.admin(), route, text).await
    }

    async fn get(&self, path: &str) -> Answered {
        self.call(&format!("GET {path}"), Value::Null).await
    }
}
