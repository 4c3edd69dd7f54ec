//! The bill against the providers' own books, request by request.
//!
//! Providers of three APIs book what they give out. Clients ask, read, leave at any moment, run out of time; providers refuse,
//! hang, reset, break off, fail behind a head, keep their figure to themselves. Then every attempt in our ledger must be found in
//! their books and every request in theirs in ours, exact wherever they said what they bill, and the sums must be the sums.
//!
//! `PERPETUO_RECONCILE=100000` sets how many requests, `PERPETUO_SEED` which.

pub mod books;
pub mod dice;
pub mod provider;
pub mod totals;
pub mod traffic;
pub mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use perpetuo::admin::auth::Role;
use perpetuo::api::strategy::StrategyName;
use perpetuo::config::Secret;
use perpetuo::directory::{CredentialChange, NewKey, WorkspaceChange};
use perpetuo::store::RequestRecord;
use reqwest::Method;
use tokio::task::JoinSet;

use self::provider::Provider;
use self::totals::{PATHS, Totals};
use self::traffic::{Case, Seen};
use self::wire::Wire;
use crate::support::{Answer, Scrape, World, client, free_address, within};

const REQUESTS: u64 = 2000;
const SEED: u64 = 20_261_126;
/// Requests under way at once.
const CONCURRENCY: usize = 128;
const WORKSPACES: usize = 4;
/// Virtual keys of each workspace, each with a strategy of its own.
const KEYS: [StrategyName; 3] = [StrategyName::Default, StrategyName::Fastest, StrategyName::Cheapest];
/// The provider in whose place nobody listens.
const DEAD: &str = "groq";

/// A tenant.
struct Tenant {
    workspace: String,
    keys: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn our_books_and_the_providers_agree_request_by_request() {
    let number = |name: &str, usual| std::env::var(name).map_or(usual, |text| text.parse().unwrap());
    let (requests, seed) = (number("PERPETUO_RECONCILE", REQUESTS), number("PERPETUO_SEED", SEED));
    println!("{requests} requests, seed {seed}");
    let metrics = free_address();
    let world = World::start(|config| {
        config.metrics.enabled = true;
        config.metrics.listen = metrics;
        config.retry.max_attempts = 4;
        config.retry.same_route = true;
        config.timeouts.first_token = Duration::from_millis(1500);
        config.timeouts.idle = Duration::from_millis(1500);
    })
    .await;
    let providers = [
        Provider::start("openai", Wire::OpenAi, seed).await,
        Provider::start("anthropic", Wire::Anthropic, seed).await,
        Provider::start("gemini", Wire::Gemini, seed).await,
    ];
    let tenants: Vec<Tenant> = (0..WORKSPACES).map(|place| tenant(&world, &providers, place)).collect();

    let seen = play(&world, &tenants, requests, seed).await;
    quiet(&world, metrics).await;

    let mut records = Vec::new();
    for tenant in &tenants {
        let booked = export(&world, &tenant.workspace).await;
        Totals::of(&booked).check(&usage(&world, &tenant.workspace).await);
        records.extend(booked);
    }
    Totals::of(&records).check_metrics(&Scrape::of(metrics).await);
    let entries: Vec<_> = providers.iter().flat_map(Provider::books).collect();
    let table = books::compare(&records, &entries, &seen);
    println!("{table}");
    let shown: Vec<&String> = table.wrong.iter().take(10).collect();
    assert!(shown.is_empty(), "seed {seed}, the first of {}: {shown:#?}", table.wrong.len());
    assert!(table.unread <= requests / 1000, "estimates are behind in {} cases", table.unread);
    assert!(table.exact > requests / 2 && table.aborted > 0 && table.failed_over > 0, "too little happened");
}

/// A workspace with all providers, in an order of its own; one has a provider in front that is down, the others hedge.
fn tenant(world: &World, providers: &[Provider], place: usize) -> Tenant {
    let (directory, now) = (world.gateway.directory(), Timestamp::now());
    let change = WorkspaceChange { name: Some(format!("w{place}")), hedging: Some(place != 2), ..Default::default() };
    let workspace = directory.create_workspace(change, now).unwrap().id.clone();
    let mixed = |model: &str| Some(BTreeMap::from([("mix".to_owned(), model.to_owned())]));
    let add = |name: &str, base_url: String, model: &str, priority: usize| {
        let change = CredentialChange {
            api_key: Some(Secret::new("a-key-of-the-reconciliation")),
            base_url: Some(Some(base_url)),
            models: mixed(model),
            priority: Some(u32::try_from(priority).unwrap()),
            ..CredentialChange::default()
        };
        directory.create_credential(&workspace, name, change, now).unwrap();
    };
    for (at, provider) in providers.iter().enumerate() {
        let (path, model) = match provider.name {
            "openai" => ("/v1", "gpt-4o"),
            "anthropic" => ("", "claude-sonnet-4-5"),
            _ => ("", "gemini-2.5-flash"),
        };
        add(provider.name, format!("{}{path}", provider.url), model, 2 + (at + place) % providers.len());
    }
    if place == 2 {
        add(DEAD, format!("http://{}/openai/v1", free_address()), "openai/gpt-oss-120b", 1);
    }
    let keys = KEYS.map(|strategy| {
        let key = NewKey { strategy: Some(strategy), ..NewKey::default() };
        directory.create_key(&workspace, key, now).unwrap().1.expose().to_owned()
    });
    Tenant { workspace, keys: keys.into() }
}

/// Sends everything, so many at once.
async fn play(world: &World, tenants: &[Tenant], requests: u64, seed: u64) -> Vec<Seen> {
    let clients = [false, true].map(client);
    let (mut running, mut seen) = (JoinSet::new(), Vec::new());
    for number in 0..requests {
        if running.len() >= CONCURRENCY {
            seen.push(running.join_next().await.unwrap().unwrap());
        }
        let case = Case::draw(seed, number, WORKSPACES, KEYS.len());
        let key = tenants[case.workspace].keys[case.key].clone();
        running.spawn(case.clone().ask(clients[usize::from(case.http2)].clone(), world.url(""), key));
    }
    seen.extend(running.join_all().await);
    seen
}

/// Waits until nothing is under way, and everything is on disk.
async fn quiet(world: &World, metrics: std::net::SocketAddr) {
    let idle = async {
        let mut before = None;
        loop {
            let scraped = Scrape::of(metrics).await;
            let [running, booked] =
                ["perpetuo_inflight_requests", "perpetuo_requests_total"].map(|name| scraped.sum(name, &[]));
            if running == 0.0 && before == Some(booked) {
                return;
            }
            before = (running == 0.0).then_some(booked);
            // What a client sent before it left may still be read.
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    within("an idle gateway", idle).await;
    world.gateway.flush();
}

/// The ledger of a workspace, through the admin API.
async fn export(world: &World, workspace: &str) -> Vec<RequestRecord> {
    let path = format!("/workspaces/{workspace}/logs/export?format=ndjson");
    let request = world.client().get(world.url(&path)).bearer_auth(world.admin_token(Role::Admin, &[]));
    let answer = Answer::of(request).await;
    assert!(answer.status == 200 && answer.whole);
    answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the admin API tells of a workspace's use.
async fn usage(world: &World, workspace: &str) -> [serde_json::Value; 5] {
    let mut told = PATHS.map(serde_json::Value::from);
    for (told, path) in told.iter_mut().zip(PATHS) {
        *told = world.admin(Method::GET, &format!("/workspaces/{workspace}{path}"), None).await.json();
    }
    told
}
