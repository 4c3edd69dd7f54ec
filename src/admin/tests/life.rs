//! The life of a workspace, of a credential, of a virtual key.

use serde_json::{Value, json};

use super::{World, directory, now};

const CANARY: &str = "sk-good-CANARY-0123456789-wxyz";

#[tokio::test]
async fn a_workspace_is_made_read_changed_and_deleted() {
    let world = World::new();
    let body = json!({"name": "Team", "strategy": "cheapest", "limits": {"requests_per_minute": 60}});
    let made = world.call("POST /workspaces", body).await;
    assert_eq!(made.status, 201);
    let id = made.id();
    assert!(id.starts_with("ws_") && id.len() == 35, "{id}");

    let before = world.directory.workspace(&id).unwrap().revision;
    let changed = world.call(&format!("PUT /workspaces/{id}"), json!({"name": "Crew", "strategy": null})).await;
    assert_eq!(changed.status, 200);
    assert!(world.directory.workspace(&id).unwrap().revision > before);
    let data = world.get(&format!("/workspaces/{id}")).await.data();
    assert_eq!(data["name"], "Crew");
    assert_eq!(data["strategy"], Value::Null);
    assert_eq!(data["limits"]["requests_per_minute"], 60);
    assert_eq!(world.get("/workspaces").await.data().as_array().unwrap().len(), 3);

    let gone = world.call(&format!("DELETE /workspaces/{id}"), Value::Null).await;
    assert_eq!(gone.data(), json!({"id": id, "deleted": true}));
    assert_eq!(world.get(&format!("/workspaces/{id}")).await.status, 404);
}

#[tokio::test]
async fn a_credential_is_stored_and_its_secrets_are_never_shown() {
    let world = World::new();
    let body = json!({
        "provider": "openai", "api_key": CANARY, "priority": 2, "weight": 3, "base_url": "https://eu.example.com/v1",
        "models": {"gpt-4": "gpt-4o"}, "options": {"region": "eu", "session_token": "CANARY-two"}
    });
    let made = world.call("POST /workspaces/{ws}/providers", body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let id = made.id();
    let path = format!("/workspaces/{{ws}}/providers/{id}");
    let answers = [
        made.text.clone(),
        world.get(&path).await.text,
        world.get("/workspaces/{ws}/providers").await.text,
        world.call(&format!("PUT {path}"), json!({"priority": 1, "enabled": false})).await.text,
        world.call(&format!("POST {path}/test"), Value::Null).await.text,
    ];
    assert!(answers.iter().all(|text| !text.contains("CANARY")), "{answers:?}");
    assert!(!format!("{:?}", crate::store::Store::tenancy(&*world.store).unwrap()).contains("CANARY"));

    let data = world.get(&path).await.data();
    assert_eq!(data["last_four"], "wxyz");
    assert_eq!(data["options"], json!({"region": "eu", "session_token": "[sealed]"}));
    assert_eq!(data["models"], json!({"gpt-4": "gpt-4o"}));
    assert_eq!((&data["priority"], &data["weight"], &data["enabled"]), (&json!(1), &json!(3), &json!(false)));

    let workspace = world.directory.workspace(&world.ours).unwrap();
    let held = workspace.credential(&id).unwrap();
    assert_eq!(held.key.expose(), CANARY);
    assert_eq!(held.options["session_token"], "CANARY-two");
    assert_eq!(held.endpoint.host, "eu.example.com");
    assert!(!held.enabled);

    world.call(&format!("DELETE {path}"), Value::Null).await;
    assert_eq!(world.get(&path).await.status, 404);
    assert!(world.directory.workspace(&world.ours).unwrap().credentials.is_empty());
}

#[tokio::test]
async fn a_credential_is_tested_without_being_used() {
    let world = World::new();
    for (key, ok) in [(CANARY, true), ("sk-bad-0123456789", false)] {
        let made = world.call("POST /workspaces/{ws}/providers", json!({"provider": "groq", "api_key": key})).await;
        let tested = world.call(&format!("POST /workspaces/{{ws}}/providers/{}/test", made.id()), Value::Null).await;
        assert_eq!(tested.status, 200);
        assert_eq!(tested.data()["ok"], ok);
    }
}

#[tokio::test]
async fn a_stored_key_never_follows_a_changed_address() {
    let world = World::new();
    let body = json!({"provider": "openai", "api_key": CANARY, "options": {"session_token": "t"}});
    let made = world.call("POST /workspaces/{ws}/providers", body).await;
    let path = format!("PUT /workspaces/{{ws}}/providers/{}", made.id());
    let elsewhere = "https://attacker.example/v1";

    let refused = world.call(&path, json!({"base_url": elsewhere})).await;
    assert_eq!(refused.refused_param(), "api_key");
    let refused = world.call(&path, json!({"base_url": elsewhere, "api_key": "sk-new-0123456789"})).await;
    assert_eq!(refused.refused_param(), "options");
    let kept = json!({"base_url": elsewhere, "api_key": "sk-new-0123456789", "options": {"session_token": "[sealed]"}});
    assert_eq!(world.call(&path, kept).await.refused_param(), "options.session_token");
    let held = world.directory.workspace(&world.ours).unwrap();
    assert_eq!(held.credentials[0].endpoint.host, "api.openai.com");

    let same_host = json!({"base_url": "https://api.openai.com/v1/of-another-tenant"});
    assert_eq!(world.call(&path, same_host).await.refused_param(), "api_key");
    let same_address = json!({"base_url": "https://api.openai.com/v1/"});
    assert_eq!(world.call(&path, same_address).await.status, 200);
    let given_again = json!({"base_url": elsewhere, "api_key": "sk-new-0123456789", "options": {}});
    assert_eq!(world.call(&path, given_again).await.status, 200);
    assert_eq!(world.directory.workspace(&world.ours).unwrap().credentials[0].key.expose(), "sk-new-0123456789");
}

#[tokio::test]
async fn a_credential_must_be_sound() {
    let world = World::new();
    let good = json!({"provider": "openai", "api_key": "sk-0123456789"});
    let cases = [
        ("provider", json!("no-such")),
        ("provider", Value::Null),
        ("api_key", json!("")),
        ("api_key", json!("two\nlines")),
        ("api_key", json!("with space")),
        ("api_key", json!("schlüssel")),
        ("api_key", Value::Null),
        ("priority", json!(0)),
        ("priority", json!(1001)),
        ("priority", json!(-1)),
        ("priority", json!("1")),
        ("weight", json!(0)),
        ("base_url", json!("http://api.openai.com")),
        ("base_url", json!("https://169.254.169.254/latest")),
        ("base_url", json!("https://localhost/")),
        ("base_url", json!("https://user:pw@example.com/")),
        ("base_url", json!("nonsense")),
        ("models.gpt-4", json!({"gpt-4": "x\r\ny"})),
        ("models.gpt-4", json!({"gpt-4": "../files"})),
        ("models", json!({"": "x"})),
        ("surprise", json!(1)),
    ];
    for (param, value) in cases {
        let mut body = good.clone();
        body[param.split('.').next().unwrap()] = value.clone();
        let answer = world.call("POST /workspaces/{ws}/providers", body).await;
        assert_eq!(answer.refused_param(), param, "{value}: {}", answer.text);
    }
    let unknown = world.call("POST /workspaces/{ws}/providers", json!({"provider": "x", "api_key": "k"})).await;
    assert!(["openai", "anthropic", "groq"].iter().all(|name| unknown.text.contains(name)), "{}", unknown.text);
    let allowed = json!({"provider": "openai", "api_key": "k", "base_url": "http://gpu.internal:8000/v1"});
    assert_eq!(world.call("POST /workspaces/{ws}/providers", allowed).await.status, 201);
}

#[tokio::test]
async fn a_virtual_key_opens_the_door_until_it_is_revoked() {
    let world = World::new();
    let made = world.call("POST /workspaces/{ws}/api-keys", json!({"name": "ci", "strategy": "fastest"})).await;
    assert_eq!(made.status, 201);
    let key = made.data()["key"].as_str().unwrap().to_owned();
    let path = format!("/workspaces/{{ws}}/api-keys/{}", made.id());
    let caller = world.directory.authenticate(&key, now()).unwrap();
    assert_eq!((&caller.key.id, &caller.workspace.id), (&made.id(), &world.ours));

    for path in [path.as_str(), "/workspaces/{ws}/api-keys"] {
        let shown = world.get(path).await.text;
        assert!(!shown.contains(&key) && !shown.contains("hash") && shown.contains(&key[key.len() - 4..]), "{shown}");
    }
    let revoked = world.call(&format!("POST {path}/revoke"), Value::Null).await;
    assert_eq!(revoked.status, 200);
    assert_eq!(revoked.data()["revoked_at"], "2026-07-15T12:00:00Z");
    assert!(world.directory.authenticate(&key, now()).is_none());
    assert!(directory(world.store.clone()).authenticate(&key, now()).is_none(), "a restart revived it");

    assert_eq!(world.call(&format!("DELETE {path}"), Value::Null).await.data()["deleted"], true);
    assert_eq!(world.call(&format!("DELETE {path}"), Value::Null).await.status, 404);
}

#[tokio::test]
async fn a_deleted_or_expired_key_and_a_key_of_a_deleted_workspace_are_refused() {
    let world = World::new();
    let make = |body: Value| world.call("POST /workspaces/{ws}/api-keys", body);
    let made =
        [make(json!({})).await, make(json!({"expires_at": "2026-07-15T13:00:00Z"})).await, make(json!({})).await];
    let [deleted, expiring, orphan] = made.each_ref().map(|made| made.data()["key"].as_str().unwrap().to_owned());
    let opens = |key: &str, at: &str| world.directory.authenticate(key, at.parse().unwrap()).is_some();

    world.call(&format!("DELETE /workspaces/{{ws}}/api-keys/{}", made[0].id()), Value::Null).await;
    assert!(!opens(&deleted, "2026-07-15T12:00:00Z"));
    assert!(opens(&expiring, "2026-07-15T12:59:59Z"));
    assert!(!opens(&expiring, "2026-07-15T13:00:00Z"));
    world.call("DELETE /workspaces/{ws}", Value::Null).await;
    assert!(!opens(&orphan, "2026-07-15T12:00:00Z"));
    assert!(!opens("pk_nonsense", "2026-07-15T12:00:00Z"));

    let past = json!({"expires_at": "2026-07-15T12:00:00Z"});
    let path = format!("POST /workspaces/{}/api-keys", world.theirs);
    assert_eq!(world.call(&path, past).await.refused_param(), "expires_at");
}

#[tokio::test]
async fn the_dry_run_passes_the_body_and_the_strategy_on() {
    let world = World::new();
    let request = |strategy: &str| {
        http::Request::post(format!("/workspaces/{}/route", world.ours))
            .header("authorization", format!("bearer {}", world.admin()))
            .header("x-perpetuo-route", strategy)
            .body(axum::body::Body::from("{\"model\":\"gpt-4\"}"))
            .unwrap()
    };
    let answer = world.send(request("cheapest")).await;
    assert_eq!(answer.data(), json!({"workspace": world.ours, "bytes": 17, "strategy": "cheapest"}));
    assert_eq!(world.send(request("best")).await.refused_param(), "strategy");
}
