//! An administrator who makes, uses, revokes and deletes, and asks for every figure, about once a second.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::Stage;
use crate::support::client;

/// What is asked of a workspace that is in use.
const FIGURES: [&str; 11] = [
    "/usage",
    "/usage/by-provider",
    "/usage/by-key",
    "/usage/by-model",
    "/usage/series?interval=minute",
    "/logs?limit=20&details=true",
    "/logs/export?format=csv&limit=200",
    "/performance/latency",
    "/performance/errors",
    "/performance/live",
    "/live",
];

pub async fn go(stage: Arc<Stage>) {
    let client = client(false);
    for round in 0.. {
        if stage.over() {
            break;
        }
        if let Err(why) = cycle(&stage, &client, round).await {
            stage.odd(format!("administration: {why}"));
        }
        sleep(Duration::from_secs(1)).await;
    }
}

async fn cycle(stage: &Stage, client: &Client, round: usize) -> Result<(), String> {
    let admin = |method: Method, path: String, body: Option<Value>| ask(stage, client, method, path, body);
    let made = admin(Method::POST, "/workspaces".to_owned(), Some(json!({"name": format!("churn {round}")}))).await?;
    let workspace = format!("/workspaces/{}", made["data"]["id"].as_str().unwrap_or_default());
    let provider = json!({"provider": "openai", "api_key": "a-key-of-the-soak", "base_url": stage.desk.provider});
    let provider = admin(Method::POST, format!("{workspace}/providers"), Some(provider)).await?;
    let provider = format!("{workspace}/providers/{}", provider["data"]["id"].as_str().unwrap_or_default());
    let key = admin(Method::POST, format!("{workspace}/api-keys"), Some(json!({"name": "short-lived"}))).await?;
    let (id, key) = (key["data"]["id"].as_str().unwrap_or_default(), key["data"]["key"].as_str().unwrap_or_default());
    let id = format!("{workspace}/api-keys/{id}");
    with_key(stage, client, key, 200).await?;
    admin(Method::PUT, provider.clone(), Some(json!({"weight": 2}))).await?;
    admin(Method::POST, format!("{id}/revoke"), None).await?;
    with_key(stage, client, key, 401).await?;
    admin(Method::DELETE, id, None).await?;
    let chat = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]});
    admin(Method::POST, format!("{workspace}/route"), Some(chat)).await?;
    admin(Method::DELETE, provider, None).await?;
    admin(Method::DELETE, workspace, None).await?;
    let tenant = &stage.desk.tenants[round % stage.desk.tenants.len()].workspace;
    admin(Method::GET, format!("/workspaces/{tenant}{}", FIGURES[round % FIGURES.len()]), None).await?;
    Ok(())
}

async fn with_key(stage: &Stage, client: &Client, key: &str, expected: u16) -> Result<(), String> {
    let sent = client.get(stage.site.url("/v1/models")).bearer_auth(key).send().await;
    let answer = sent.map_err(|cause| format!("a key's models: {cause:?}"))?;
    if answer.status() == expected {
        Ok(())
    } else {
        Err(format!("a key's models: {}, not {expected}", answer.status()))
    }
}

async fn ask(
    stage: &Stage,
    client: &Client,
    method: Method,
    path: String,
    body: Option<Value>,
) -> Result<Value, String> {
    let request = client.request(method.clone(), stage.site.url(&path)).bearer_auth(&stage.desk.token);
    let request = if let Some(body) = body { request.json(&body) } else { request };
    let answer = request.send().await.map_err(|cause| format!("{method} {path}: {cause:?}"))?;
    let status = answer.status();
    let text = answer.text().await.map_err(|cause| format!("{method} {path}: {cause:?}"))?;
    if !status.is_success() {
        return Err(format!("{method} {path}: {status} {text}"));
    }
    Ok(serde_json::from_str(&text).unwrap_or_default())
}
