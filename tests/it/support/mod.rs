//! A running gateway with one workspace and one key, and clients for it.
//!
//! ```ignore
//! let simulator = Simulator::start(Behaviour::new("acme")).await.unwrap();
//! let world = World::start(|config| config.retry.max_attempts = 2).await;
//! world.add("openai", &simulator, |credential| credential.priority = Some(2));
//! let answer = world.chat(&hello("gpt-4o")).await;
//! assert_eq!((answer.status, answer.attempts()), (200, 1));
//! let booked = world.booked(1).await;
//! ```

mod answer;
pub mod frames;
mod hand;
mod names;
mod raw;
mod scrape;
mod server;
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use perpetuo::admin::auth::{Jwt, Role};
use perpetuo::balance::discovery::{self, Lookup};
use perpetuo::config::{Config, Secret};
use perpetuo::directory::{CredentialChange, NewKey, WorkspaceChange};
use perpetuo::proxy::{Gateway, jwt_secret};
use perpetuo::simulator::Simulator;
use perpetuo::store::sled::SledStore;
use perpetuo::store::{LogQuery, RequestRecord, Store};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;

pub use answer::{Answer, EventStream, said};
pub use hand::{Call, Hand};
pub use names::Names;
pub use raw::RawClient;
pub use scrape::{Scrape, Series};
use server::Running;
pub use server::free_address;
pub use tls::Authority;

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Awaits, but not for ever.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

/// A chat request of one line.
pub fn hello(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "Hello, you"}]})
}

/// The same as a stream.
pub fn hello_stream(model: &str) -> Value {
    json!({"model": model, "stream": true, "messages": [{"role": "user", "content": "Hello, you"}]})
}

/// A running gateway, one workspace in it and one key for that. Dropping it ends the gateway.
pub struct World {
    pub gateway: Arc<Gateway>,
    pub store: Arc<dyn Store>,
    /// The workspace's id.
    pub workspace: String,
    /// The virtual key itself.
    pub key: String,
    running: Running,
    clients: [Client; 2],
    added: AtomicU32,
    /// Where everything lies; removed with the world.
    pub dir: TempDir,
}

impl World {
    /// Starts with the defaults.
    pub async fn plain() -> Self {
        Self::start(|_| ()).await
    }

    /// Starts with the defaults and these changes.
    pub async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let dir = TempDir::new().unwrap();
        Self::start_in(dir, change).await
    }

    /// Starts with other addresses of hosts than the system knows.
    pub async fn start_with(lookup: Arc<dyn Lookup>, change: impl FnOnce(&mut Config)) -> Self {
        Self::start_over(TempDir::new().unwrap(), lookup, change).await
    }

    /// Starts in a directory, which may hold the data of an earlier world; this one gets a workspace and a key of its own.
    pub async fn start_in(dir: TempDir, change: impl FnOnce(&mut Config)) -> Self {
        Self::start_over(dir, discovery::system(), change).await
    }

    async fn start_over(dir: TempDir, lookup: Arc<dyn Lookup>, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = base_config(&dir);
        change(&mut config);
        for _ in 0..10 {
            config.server.listen = free_address();
            let store: Arc<dyn Store> = Arc::new(SledStore::open(&dir.path().join("store")).unwrap());
            let gateway = Gateway::with_lookup(config.clone(), Arc::clone(&store), Arc::clone(&lookup)).unwrap();
            let (workspace, key) = furnish(&gateway);
            let clients = [false, true].map(client);
            let mut running = Running::start(&gateway);
            // Another process may have taken the port meanwhile: then it does not know the key.
            if running.answers(&clients[0], config.server.listen, &key).await {
                return Self { gateway, store, workspace, key, running, clients, added: AtomicU32::new(0), dir };
            }
            running.stop(false).await;
        }
        panic!("no free port in ten tries");
    }

    /// `http://127.0.0.1:PORT` and this path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// Where the gateway listens.
    pub fn address(&self) -> std::net::SocketAddr {
        self.gateway.config().server.listen
    }

    /// Adds a credential that leads to a simulated provider; returns its id. Its key is [`World::provider_key`].
    pub fn add(&self, provider: &str, at: &Simulator, change: impl FnOnce(&mut CredentialChange)) -> String {
        self.add_at(provider, &at.url(), change)
    }

    /// The same for any server, given its URL without a path.
    pub fn add_at(&self, provider: &str, root: &str, change: impl FnOnce(&mut CredentialChange)) -> String {
        let path = match provider {
            "openai" => "/v1",
            "groq" => "/openai/v1",
            _ => "",
        };
        let mut credential = CredentialChange {
            api_key: Some(Secret::new(provider_key(provider))),
            base_url: Some(Some(format!("{root}{path}"))),
            priority: Some(self.added.fetch_add(1, Ordering::Relaxed) + 1),
            ..CredentialChange::default()
        };
        change(&mut credential);
        let directory = self.gateway.directory();
        directory.create_credential(&self.workspace, provider, credential, Timestamp::now()).unwrap().id.clone()
    }

    /// A client that speaks HTTP/1.1.
    pub const fn client(&self) -> &Client {
        &self.clients[0]
    }

    /// A client that speaks HTTP/2 without TLS.
    pub const fn client_h2(&self) -> &Client {
        &self.clients[1]
    }

    /// A request with the key, by HTTP/1.1.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client().request(method, self.url(path)).bearer_auth(&self.key)
    }

    /// A chat request with the key, still without a body.
    pub fn chat_request(&self, client: &Client) -> RequestBuilder {
        client.post(self.url("/v1/chat/completions")).bearer_auth(&self.key).header("content-type", "application/json")
    }

    /// Asks and reads the whole answer.
    pub async fn chat(&self, body: &Value) -> Answer {
        Answer::of(self.chat_request(self.client()).json(body)).await
    }

    /// The same with one more header.
    pub async fn chat_with(&self, name: &str, value: &str, body: &Value) -> Answer {
        Answer::of(self.chat_request(self.client()).header(name, value).json(body)).await
    }

    /// Asks for a stream and reads its head.
    pub async fn stream(&self, body: &Value) -> EventStream {
        EventStream::of(self.chat_request(self.client()).json(body)).await
    }

    /// Asks the admin API as an administrator.
    pub async fn admin(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let request = self.client().request(method, self.url(path)).bearer_auth(self.admin_token(Role::Admin, &[]));
        Answer::of(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    /// A token for the admin API.
    pub fn admin_token(&self, role: Role, workspaces: &[String]) -> String {
        self.admin_token_from(role, workspaces, Timestamp::now())
    }

    /// The same, made at this moment.
    pub fn admin_token_from(&self, role: Role, workspaces: &[String], now: Timestamp) -> String {
        let config = self.gateway.config();
        let secret = jwt_secret(&config).unwrap();
        let jwt = Jwt::new(&secret, &config.jwt.issuer, &config.jwt.audience, config.jwt.max_ttl);
        jwt.mint(role, workspaces, Duration::from_secs(3600), now).unwrap()
    }

    /// Another workspace with a key: its id and the key.
    pub fn tenant(&self) -> (String, String) {
        furnish(&self.gateway)
    }

    /// The world's log, oldest first, once it holds at least so many requests.
    pub async fn booked(&self, requests: usize) -> Vec<RequestRecord> {
        let wanted = async {
            loop {
                self.gateway.flush();
                let query = LogQuery { limit: 1000, ..LogQuery::default() };
                let mut page = self.store.logs(&self.workspace, &query).unwrap().requests;
                if page.len() >= requests {
                    page.reverse();
                    return page;
                }
                // A request is booked after its answer, and nothing tells when.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(&format!("{requests} bookings"), wanted).await
    }

    /// The only booking there is to be.
    pub async fn booking(&self) -> RequestRecord {
        let mut all = self.booked(1).await;
        assert_eq!(all.len(), 1, "more than one request was booked");
        all.remove(0)
    }

    /// Ends the gateway, with or without waiting for running requests, and returns when it has ended.
    pub async fn stop(&mut self, drain: bool) {
        self.running.stop(drain).await;
    }
}

/// The key that [`World::add`] stores for a provider.
pub fn provider_key(provider: &str) -> String {
    format!("sk-{provider}-0123456789abcdef")
}

fn base_config(dir: &TempDir) -> Config {
    let text = format!(
        "data_dir = {:?}\n[metrics]\nenabled = false\n[security]\nallow_private_upstreams = [\"127.0.0.1\", \"localhost\"]\n\
         [meter]\nbatch = \"1ms\"\n[log]\naccess = \"off\"\n",
        dir.path()
    );
    Config::parse(&text, "test", std::iter::empty()).unwrap()
}

fn furnish(gateway: &Gateway) -> (String, String) {
    let (directory, now) = (gateway.directory(), Timestamp::now());
    let change = WorkspaceChange { name: Some("test".to_owned()), ..WorkspaceChange::default() };
    let workspace = directory.create_workspace(change, now).unwrap().id.clone();
    let (_, key) = directory.create_key(&workspace, NewKey::default(), now).unwrap();
    (workspace, key.expose().to_owned())
}

/// A new client, with connections of its own.
pub fn client(http2: bool) -> Client {
    let builder = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
    let builder = if http2 { builder.http2_prior_knowledge() } else { builder.http1_only() };
    builder.build().unwrap()
}
