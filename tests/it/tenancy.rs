//! Tenants over real HTTP: what one does, another neither sees, uses nor pays; and the product guide's walk, call by call.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use perpetuo::admin::auth::Role;
use perpetuo::simulator::{Behaviour, Simulator, Step};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Answer, Scrape, World, free_address, hello, within};

/// A tenant with a token of its own, a key, and a provider behind it.
struct Party {
    workspace: String,
    key: String,
    token: String,
    provider: Simulator,
    credential: String,
    /// The id of the key.
    key_id: String,
}

impl Party {
    async fn settle(world: &World, name: &str) -> Self {
        let admin = world.admin_token(Role::Admin, &[]);
        let made = made(world, &admin, "/workspaces", json!({"name": name})).await;
        let workspace = made["id"].as_str().unwrap().to_owned();
        let token = world.admin_token(Role::Workspace, std::slice::from_ref(&workspace));
        let provider = Simulator::start(Behaviour::new(name)).await.unwrap();
        let at = format!("/workspaces/{workspace}");
        let credential = json!({
            "provider": "openai", "api_key": format!("sk-of-{name}"), "base_url": format!("{}/v1", provider.url()),
            "models": {format!("private-of-{name}"): "gpt-4o"},
        });
        let credential = self::made(world, &token, &format!("{at}/providers"), credential).await;
        let key = self::made(world, &token, &format!("{at}/api-keys"), json!({"name": name})).await;
        Self {
            key: key["key"].as_str().unwrap().to_owned(),
            key_id: key["id"].as_str().unwrap().to_owned(),
            credential: credential["id"].as_str().unwrap().to_owned(),
            workspace,
            token,
            provider,
        }
    }

    /// A path under the party's workspace.
    fn at(&self, path: &str) -> String {
        format!("/workspaces/{}{path}", self.workspace)
    }
}

/// One call with any bearer.
async fn call(world: &World, bearer: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
    let request = world.client().request(method, world.url(path)).bearer_auth(bearer);
    Answer::of(match body {
        Some(body) => request.json(&body),
        None => request,
    })
    .await
}

async fn get(world: &World, bearer: &str, path: &str) -> Value {
    let answer = call(world, bearer, Method::GET, path, None).await;
    assert_eq!(answer.status, 200, "GET {path}: {}", answer.text());
    answer.json()
}

/// A POST that makes something: its `data`.
async fn made(world: &World, bearer: &str, path: &str, body: Value) -> Value {
    let answer = call(world, bearer, Method::POST, path, Some(body)).await;
    assert_eq!(answer.status, 201, "POST {path}: {}", answer.text());
    let mut body = answer.json();
    assert_eq!(body["success"], true);
    body["data"].take()
}

async fn chat(world: &World, key: &str, model: &str) -> Answer {
    call(world, key, Method::POST, "/v1/chat/completions", Some(hello(model))).await
}

fn names(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_served_and_billed_where_its_key_belongs() {
    let world = World::plain().await;
    let (ours, theirs) = (Party::settle(&world, "ours").await, Party::settle(&world, "theirs").await);
    for _ in 0..3 {
        assert_eq!(chat(&world, &ours.key, "gpt-4o").await.status, 200);
    }
    assert_eq!((ours.provider.seen().len(), theirs.provider.seen().len()), (3, 0));
    assert!(ours.provider.seen()[0].authorization_matches("sk-of-ours"));

    let usage = get(&world, &ours.token, &ours.at("/usage")).await;
    assert!(usage["total_tokens"].as_u64().unwrap() > 0);
    let untouched = get(&world, &theirs.token, &theirs.at("/usage")).await;
    assert_eq!(untouched, json!({"total_tokens": 0, "total_cost": 0.0, "by_provider": {}}));
    assert_eq!(get(&world, &ours.token, &ours.at("/logs")).await["total"], 3);
    assert_eq!(get(&world, &theirs.token, &theirs.at("/logs")).await["total"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_models_list_shows_a_tenants_own_names_alone() {
    let world = World::plain().await;
    let (ours, theirs) = (Party::settle(&world, "ours").await, Party::settle(&world, "theirs").await);
    let list = get(&world, &ours.key, "/v1/models").await;
    let ids: Vec<&str> = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert!(ids.contains(&"private-of-ours") && ids.contains(&"gpt-4") && !ids.contains(&"private-of-theirs"));
    assert_eq!(get(&world, &ours.key, "/v1/models").await, list, "the order is stable");

    let foreign = call(&world, &ours.key, Method::GET, "/v1/models/private-of-theirs", None).await;
    assert_eq!((foreign.status, foreign.code().as_str()), (404, "model_not_found"));
    let asked = chat(&world, &ours.key, "private-of-theirs").await;
    assert_eq!((asked.status, asked.code().as_str()), (404, "model_not_found"));
    assert!(theirs.provider.seen().is_empty());
    let (_, bare) = world.tenant();
    assert_eq!(get(&world, &bare, "/v1/models").await["data"], json!([]), "without a provider there is no model");
}

/// Every route under a workspace, and a body for those that may take one.
fn routes_of(party: &Party) -> Vec<(Method, String, Option<Value>)> {
    let below = perpetuo::admin::routes().filter(|(_, path)| path.contains("{ws}"));
    let filled = below.map(|(method, path)| {
        let id = if path.contains("/providers/") { &party.credential } else { &party.key_id };
        let body = if path.contains("/providers") {
            json!({"provider": "openai", "api_key": "sk-intruder"})
        } else {
            json!({"name": "taken over"})
        };
        let body = matches!(method, "POST" | "PUT").then_some(body);
        (method.parse().unwrap(), path.replace("{ws}", &party.workspace).replace("{id}", id), body)
    });
    filled.collect()
}

/// The tenant comes from the token and not from the path: another tenant's workspace is a 404.
#[tokio::test(flavor = "multi_thread")]
async fn fault_61_other_tenants_workspace() {
    let world = World::plain().await;
    let (ours, theirs) = (Party::settle(&world, "ours").await, Party::settle(&world, "theirs").await);
    let before = get(&world, &ours.token, &ours.at("/providers")).await;
    for (method, path, body) in routes_of(&ours) {
        let answer = call(&world, &theirs.token, method.clone(), &path, body.clone()).await;
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text());
        let nowhere = path.replace(&ours.workspace, "ws_that_never_was");
        let same = call(&world, &theirs.token, method.clone(), &nowhere, body.clone()).await;
        assert_eq!(answer.text(), same.text(), "{method} {path} tells that it exists");
        for (bearer, what) in [(&ours.key, "a virtual key"), (&"nonsense".to_owned(), "nonsense")] {
            let answer = call(&world, bearer, method.clone(), &path, body.clone()).await;
            assert_eq!(answer.status, 401, "{method} {path} with {what}");
        }
    }
    // An own workspace in the path and the other's object behind it.
    for (method, path, body) in routes_of(&ours) {
        let crossed = path.replace(&ours.workspace, &theirs.workspace);
        if crossed.contains(&ours.credential) || crossed.contains(&ours.key_id) {
            let answer = call(&world, &theirs.token, method.clone(), &crossed, body).await;
            assert_eq!(answer.status, 404, "{method} {crossed}: {}", answer.text());
        }
    }
    assert_eq!(get(&world, &ours.token, &ours.at("/providers")).await, before);
    assert_eq!(chat(&world, &ours.key, "gpt-4o").await.status, 200);
}

/// Whatever a request names, its key decides whose providers serve it and whose bill it is on; and what it says of an address or a
/// key of a provider goes nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_a_request_leads_to_another_tenants_provider() {
    let world = World::plain().await;
    let (ours, theirs) = (Party::settle(&world, "ours").await, Party::settle(&world, "theirs").await);
    let attacker = Simulator::start(Behaviour::new("attacker")).await.unwrap();
    let models = [
        "private-of-theirs".to_owned(),
        theirs.credential.clone(),
        format!("{}/gpt-4o", theirs.credential),
        format!("{}/gpt-4o", theirs.workspace),
        format!("openai/{}/gpt-4o", theirs.credential),
        format!("../{}/openai/gpt-4o", theirs.workspace),
    ];
    for model in &models {
        chat(&world, &ours.key, model).await;
    }
    let names =
        ["workspace", "workspace_id", "X-Perpetuo-Workspace", "credential", "provider_id", "key_id", "user", "tenant"];
    let values = [&theirs.workspace, &theirs.credential, &theirs.key_id];
    for name in names {
        for value in values {
            let mut body = hello("gpt-4o");
            body[name] = json!(value);
            call(&world, &ours.key, Method::POST, "/v1/chat/completions", Some(body)).await;
            let path = format!("/v1/chat/completions?{name}={value}");
            let request = world.client().post(world.url(&path)).bearer_auth(&ours.key).header(name, value);
            let request = request.header("OpenAI-Organization", value).header("OpenAI-Project", value);
            Answer::of(request.json(&hello("gpt-4o"))).await;
        }
    }
    for name in ["api_base", "base_url", "api_key", "api_version", "custom_llm_provider", "extra_headers", "proxy"] {
        let mut body = hello("gpt-4o");
        body[name] = if name == "extra_headers" { json!({"authorization": "Bearer x"}) } else { json!(attacker.url()) };
        call(&world, &ours.key, Method::POST, "/v1/chat/completions", Some(body)).await;
    }
    assert!(theirs.provider.seen().is_empty() && attacker.seen().is_empty());
    let seen = ours.provider.seen();
    assert!(seen.len() >= 40, "only {} of the requests were served", seen.len());
    assert!(seen.iter().all(|seen| seen.authorization_matches("sk-of-ours")));
    let untouched = get(&world, &theirs.token, &theirs.at("/usage")).await;
    assert_eq!(untouched, json!({"total_tokens": 0, "total_cost": 0.0, "by_provider": {}}));
    assert_eq!(get(&world, &theirs.token, &theirs.at("/logs")).await["total"], 0);

    // Filters are words, not patterns.
    for filter in ["provider=%25", "provider=*", "provider=open%25", "provider=openai'%20OR%20'1'='1"] {
        assert_eq!(get(&world, &ours.token, &ours.at(&format!("/logs?{filter}"))).await["total"], 0, "{filter}");
    }
}

/// No secret is built in: each gateway makes its own, and what one has signed or minted is nothing to another.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_takes_no_token_and_no_key_of_another() {
    let (one, other) = (World::plain().await, World::plain().await);
    let token = one.admin_token(Role::Admin, &[]);
    assert_eq!(call(&one, &token, Method::GET, "/workspaces", None).await.status, 200);
    assert_eq!(call(&other, &token, Method::GET, "/workspaces", None).await.status, 401);
    assert_eq!(call(&other, &one.key, Method::GET, "/v1/models", None).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_token_rules_its_own_house_and_nothing_else() {
    let world = World::plain().await;
    let (ours, theirs) = (Party::settle(&world, "ours").await, Party::settle(&world, "theirs").await);
    let listed = get(&world, &ours.token, "/workspaces").await;
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    assert_eq!(listed["data"][0]["id"], ours.workspace.as_str());
    let renamed = call(&world, &ours.token, Method::PUT, &ours.at(""), Some(json!({"name": "new"}))).await;
    assert_eq!((renamed.status, &renamed.json()["data"]["name"]), (200, &json!("new")));
    for (method, path, body) in [
        (Method::POST, "/workspaces".to_owned(), Some(json!({"name": "mine"}))),
        (Method::PUT, ours.at(""), Some(json!({"limits": {"requests_per_minute": 1e9}}))),
        (Method::DELETE, ours.at(""), None),
    ] {
        let answer = call(&world, &ours.token, method.clone(), &path, body).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "forbidden"), "{method} {path}");
    }
    let both = world.admin_token(Role::Workspace, &[ours.workspace.clone(), theirs.workspace.clone()]);
    assert_eq!(get(&world, &both, "/workspaces").await["data"].as_array().unwrap().len(), 2);
    let data_plane = call(&world, &ours.token, Method::GET, "/v1/models", None).await;
    assert_eq!(data_plane.status, 401, "an admin token is no virtual key");
}

/// A revoked key is refused at the very next request.
#[tokio::test(flavor = "multi_thread")]
async fn fault_79_key_revoked() {
    let world = World::plain().await;
    let ours = Party::settle(&world, "ours").await;
    for revoke in [true, false] {
        let key = made(&world, &ours.token, &ours.at("/api-keys"), json!({"name": "short-lived"})).await;
        let (id, secret) = (key["id"].as_str().unwrap(), key["key"].as_str().unwrap());
        assert_eq!(chat(&world, secret, "gpt-4o").await.status, 200);
        let path = ours.at(&format!("/api-keys/{id}"));
        let ended = match revoke {
            true => call(&world, &ours.token, Method::POST, &format!("{path}/revoke"), None).await,
            false => call(&world, &ours.token, Method::DELETE, &path, None).await,
        };
        assert_eq!(ended.status, 200, "{}", ended.text());
        let refused = chat(&world, secret, "gpt-4o").await;
        assert_eq!((refused.status, refused.code().as_str()), (401, "invalid_api_key"));
        let unknown = chat(&world, &format!("pk_{}", "0".repeat(43)), "gpt-4o").await;
        assert_eq!(refused.text(), unknown.text(), "the refusal does not tell which part was wrong");
        assert_eq!(call(&world, secret, Method::GET, "/v1/models", None).await.status, 401);
    }
    assert_eq!(ours.provider.seen().len(), 2, "nothing refused reached the provider");
    assert_eq!(get(&world, &ours.token, &ours.at("/logs")).await["total"], 2, "what it used before stays on the bill");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_key_is_refused_from_its_moment_on() {
    let world = World::plain().await;
    let ours = Party::settle(&world, "ours").await;
    let past = json!({"name": "late", "expires_at": Timestamp::now() - SignedDuration::from_secs(1)});
    let refused = call(&world, &ours.token, Method::POST, &ours.at("/api-keys"), Some(past)).await;
    assert_eq!((refused.status, refused.error()["param"].as_str()), (400, Some("expires_at")));

    let end = Timestamp::now() + SignedDuration::from_millis(1500);
    let key = made(&world, &ours.token, &ours.at("/api-keys"), json!({"name": "soon", "expires_at": end})).await;
    let secret = key["key"].as_str().unwrap();
    assert_eq!(chat(&world, secret, "gpt-4o").await.status, 200);
    let until_refused = async {
        while chat(&world, secret, "gpt-4o").await.status == 200 {
            assert!(Timestamp::now() < end + SignedDuration::from_secs(1), "it outlived its end");
        }
    };
    within("the key's end", until_refused).await;
    assert!(Timestamp::now() >= end, "it was refused too early");
    assert_eq!(chat(&world, secret, "gpt-4o").await.code(), "invalid_api_key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_workspace_takes_its_keys_with_it() {
    let world = World::plain().await;
    let (ours, theirs) = (Party::settle(&world, "ours").await, Party::settle(&world, "theirs").await);
    assert_eq!(chat(&world, &ours.key, "gpt-4o").await.status, 200);
    assert_eq!(world.admin(Method::DELETE, &ours.at(""), None).await.status, 200);
    assert_eq!(chat(&world, &ours.key, "gpt-4o").await.code(), "invalid_api_key");
    assert_eq!(call(&world, &ours.token, Method::GET, &ours.at("/usage"), None).await.status, 404);
    assert_eq!(world.admin(Method::GET, &ours.at("/usage"), None).await.status, 404);
    assert_eq!(chat(&world, &theirs.key, "gpt-4o").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_plane_is_on_its_own_listener_and_nowhere_else() {
    let (admin, metrics) = (free_address(), free_address());
    let world = World::start(|config| {
        config.admin.listen = Some(admin);
        config.metrics.enabled = true;
        config.metrics.listen = metrics;
    })
    .await;
    let token = world.admin_token(Role::Admin, &[]);
    let status = async |address, bearer: &str, path: &str| {
        let request = world.client().get(format!("http://{address}{path}")).bearer_auth(bearer);
        let answer = within(path, request.send()).await.unwrap();
        assert!(answer.headers().contains_key("x-request-id"), "{address}{path}");
        answer.status()
    };
    let data = world.address();
    for (path, bearer, open) in
        [("/workspaces", &token, admin), ("/v1/models", &world.key, data), ("/metrics", &token, metrics)]
    {
        for address in [data, admin, metrics] {
            let expected = if address == open { StatusCode::OK } else { StatusCode::NOT_FOUND };
            assert_eq!(status(address, bearer, path).await, expected, "{path} at {address}");
        }
    }
    assert_eq!(status(data, "pk_wrong", "/v1/models").await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(admin, "a.b.c", "/workspaces").await, StatusCode::UNAUTHORIZED);
    let scraped = Scrape::of(metrics).await;
    for (plane, why) in [("data", "malformed"), ("admin", "unknown")] {
        let refused = scraped.sum("perpetuo_auth_failures_total", &[("plane", plane), ("why", why)]);
        assert_eq!(refused, 1.0, "refusals of both planes are counted: {plane}");
    }
    for address in [data, admin, metrics] {
        assert_eq!(status(address, "", "/health").await, StatusCode::OK);
        assert_eq!(status(address, "", "/ready").await, StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_product_guide_holds_line_by_line() {
    let world = World::plain().await;
    let admin = world.admin_token(Role::Admin, &[]);
    let [openai, groq] = [Behaviour::new("openai"), Behaviour::new("groq").always(Step::status(500))];
    let (openai, groq) = (Simulator::start(openai).await.unwrap(), Simulator::start(groq).await.unwrap());

    let workspace = made(&world, &admin, "/workspaces", json!({"name": "My App"})).await;
    assert_eq!(names(&workspace), ["created_at", "hedging", "id", "limits", "name", "strategy", "unpriced"].into());
    let at = |path: &str| format!("/workspaces/{}{path}", workspace["id"].as_str().unwrap());
    assert!(workspace["id"].as_str().unwrap().starts_with("ws_"));

    let body = json!({"provider": "openai", "api_key": "sk-guide-9876", "priority": 2, "base_url": format!("{}/v1", openai.url())});
    let credential = made(&world, &admin, &at("/providers"), body).await;
    assert!(credential["id"].as_str().unwrap().starts_with("prov_"));
    assert_eq!((&credential["provider"], &credential["priority"]), (&json!("openai"), &json!(2)));
    assert_eq!(credential["last_four"], "9876");
    let body = json!({"provider": "groq", "api_key": "gsk-guide", "priority": 1, "base_url": format!("{}/openai/v1", groq.url())});
    made(&world, &admin, &at("/providers"), body).await;

    let key = made(&world, &admin, &at("/api-keys"), json!({"name": "production"})).await;
    let secret = key["key"].as_str().unwrap();
    assert!(
        key["id"].as_str().unwrap().starts_with("key_") && secret.starts_with("pk_") && key["name"] == "production"
    );
    let again = get(&world, &admin, &at("/api-keys")).await;
    assert!(again["data"][0].get("key").is_none(), "the key is shown once");

    let answer = chat(&world, secret, "groq-fast").await;
    assert_eq!((answer.status, answer.provider(), answer.attempts()), (200, "openai", 2), "{}", answer.text());
    let tokens = answer.json()["usage"]["total_tokens"].as_u64().unwrap();
    let prompt = answer.json()["usage"]["prompt_tokens"].as_u64().unwrap();
    // gpt-4o-mini costs 0.15 and 0.60 dollars per million.
    let cost = (prompt * 150_000 + (tokens - prompt) * 600_000) as f64 / 1e12;

    let openai_row = json!({"tokens": tokens, "cost": cost});
    let rows = json!({"groq": {"tokens": 0, "cost": 0.0}, "openai": openai_row});
    let usage = get(&world, &admin, &at("/usage")).await;
    assert_eq!(usage, json!({"total_tokens": tokens, "total_cost": cost, "by_provider": rows}));
    assert_eq!(get(&world, &admin, &at("/usage/by-provider?days=7")).await, rows);
    let yesterday = get(&world, &admin, &at("/usage?end_date=2020-01-01")).await;
    assert_eq!(yesterday, json!({"total_tokens": 0, "total_cost": 0.0, "by_provider": {}}));

    let logs = get(&world, &admin, &at("/logs?page=1&limit=50")).await;
    assert_eq!(names(&logs), ["limit", "logs", "page", "total"].into());
    assert_eq!((&logs["total"], &logs["page"], &logs["limit"]), (&json!(1), &json!(1), &json!(50)));
    let row = &logs["logs"][0];
    let columns = ["cost", "created_at", "latency_ms", "model", "provider", "request_id", "status", "tokens"];
    assert_eq!(names(row), columns.into());
    assert_eq!(row["request_id"], answer.header("x-request-id"));
    assert_eq!((&row["model"], &row["provider"], &row["status"]), (&json!("groq-fast"), &json!("openai"), &json!(200)));
    assert_eq!((&row["tokens"], &row["cost"]), (&json!(tokens), &json!(cost)));
    assert_eq!(get(&world, &admin, &at("/logs?provider=anthropic")).await["total"], 0);
    assert_eq!(get(&world, &admin, &at("/logs?provider=openai&status=200")).await["total"], 1);

    let latency = get(&world, &admin, &at("/performance/latency")).await;
    assert!(latency["openai"]["average_latency_ms"].is_u64() && latency["openai"]["p99_ms"].is_u64(), "{latency}");
    assert_eq!(latency["groq"]["average_latency_ms"], Value::Null, "nothing of it succeeded");
    let errors = get(&world, &admin, &at("/performance/errors")).await;
    assert_eq!((&errors["openai"]["error_rate"], &errors["groq"]["error_rate"]), (&json!(0.0), &json!(1.0)));

    let path = at(&format!("/providers/{}/test", credential["id"].as_str().unwrap()));
    let tested = call(&world, &admin, Method::POST, &path, None).await;
    assert_eq!((tested.status, &tested.json()["data"]["ok"]), (200, &json!(true)), "{}", tested.text());
    let probe = openai.seen().pop().unwrap();
    assert_eq!((probe.method.as_str(), probe.billed.total_tokens()), ("GET", 0), "a test spends no tokens");
    assert_eq!(get(&world, &admin, &at("/logs")).await["total"], 1, "and is no request of a client");

    the_dry_run(&world, &admin, &at("/route")).await;
    assert_eq!(openai.seen().len(), 2, "a dry run sends nothing");
}

/// `POST /workspaces/{ws}/route` at the end of the guide's walk.
async fn the_dry_run(world: &World, admin: &str, path: &str) {
    let dry = call(world, admin, Method::POST, path, Some(hello("groq-fast"))).await;
    assert_eq!(dry.status, 200, "{}", dry.text());
    let plan = dry.json()["data"].clone();
    let order = |plan: &Value| -> Vec<String> {
        let candidates = plan["candidates"].as_array().unwrap();
        candidates.iter().map(|candidate| candidate["provider"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        (plan["strategy"].as_str(), order(&plan)),
        (Some("default"), vec!["groq".to_owned(), "openai".to_owned()])
    );
    for name in ["provider", "model", "score", "price", "state"] {
        assert!(plan["candidates"][0].get(name).is_some(), "no '{name}' in {plan}");
    }
    let request = world.client().post(world.url(path)).bearer_auth(admin).header("X-Perpetuo-Route", "cheapest");
    let cheapest = Answer::of(request.json(&hello("gpt-4o"))).await.json()["data"].clone();
    assert_eq!((cheapest["strategy"].as_str(), order(&cheapest)), (Some("cheapest"), vec!["openai".to_owned()]));
    assert_eq!(cheapest["excluded"][0]["reason"], "does not serve this model");
    let unknown = call(world, admin, Method::POST, path, Some(hello("no-such-model"))).await;
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "model_not_found"));
}
