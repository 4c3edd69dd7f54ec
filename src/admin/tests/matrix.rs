//! Every route, for every kind of caller.

use serde_json::{Value, json};

use super::World;

/// Every route below a workspace, with a body that would be accepted. `{p}` and `{k}` are a credential and a key.
const ROUTES: [(&str, &str); 27] = [
    ("GET /workspaces/{w}", ""),
    ("PUT /workspaces/{w}", r#"{"name":"x"}"#),
    ("GET /workspaces/{w}/providers", ""),
    ("POST /workspaces/{w}/providers", r#"{"provider":"openai","api_key":"sk-0123456789"}"#),
    ("GET /workspaces/{w}/providers/{p}", ""),
    ("PUT /workspaces/{w}/providers/{p}", r#"{"priority":5}"#),
    ("POST /workspaces/{w}/providers/{p}/test", ""),
    ("GET /workspaces/{w}/api-keys", ""),
    ("POST /workspaces/{w}/api-keys", "{}"),
    ("GET /workspaces/{w}/api-keys/{k}", ""),
    ("GET /workspaces/{w}/usage", ""),
    ("GET /workspaces/{w}/usage/by-provider", ""),
    ("GET /workspaces/{w}/usage/by-key", ""),
    ("GET /workspaces/{w}/usage/by-model", ""),
    ("GET /workspaces/{w}/usage/by-day", ""),
    ("GET /workspaces/{w}/usage/series?interval=hour", ""),
    ("GET /workspaces/{w}/logs", ""),
    ("GET /workspaces/{w}/logs/export?format=csv", ""),
    ("GET /workspaces/{w}/performance/latency", ""),
    ("GET /workspaces/{w}/performance/errors", ""),
    ("GET /workspaces/{w}/performance/live", ""),
    ("GET /workspaces/{w}/live", ""),
    ("POST /workspaces/{w}/route", "{}"),
    ("POST /workspaces/{w}/api-keys/{k}/revoke", ""),
    ("DELETE /workspaces/{w}/api-keys/{k}", ""),
    ("DELETE /workspaces/{w}/providers/{p}", ""),
    ("DELETE /workspaces/{w}", ""),
];

/// A credential and a key of a workspace.
async fn furnish(world: &World, workspace: &str) -> (String, String) {
    let body = json!({"provider": "openai", "api_key": "sk-0123456789"});
    let credential = world.call(&format!("POST /workspaces/{workspace}/providers"), body).await.id();
    (credential, world.call(&format!("POST /workspaces/{workspace}/api-keys"), json!({})).await.id())
}

fn fill(route: &str, workspace: &str, (credential, key): &(String, String)) -> String {
    route.replace("{w}", workspace).replace("{p}", credential).replace("{k}", key)
}

#[tokio::test]
async fn no_route_answers_without_a_token() {
    let world = World::new();
    let items = furnish(&world, &world.ours).await;
    let others = [
        ("GET /workspaces", ""),
        ("POST /workspaces", r#"{"name":"x"}"#),
        ("GET /live", ""),
        ("GET /console/session", ""),
    ];
    let all = ROUTES.iter().copied().chain(others);
    for (route, body) in all {
        for token in ["", "x.y.z"] {
            let answer = world.call_as(token, &fill(route, &world.ours, &items), body).await;
            assert_eq!(answer.status, 401, "{route}");
            assert_eq!(answer.json()["error"]["code"], "invalid_api_key");
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
    }
}

#[tokio::test]
async fn the_admin_reaches_every_workspace() {
    let world = World::new();
    let items = furnish(&world, &world.theirs).await;
    for (route, body) in ROUTES {
        let answer = world.call_as(&world.admin(), &fill(route, &world.theirs, &items), body).await;
        assert!(answer.status.is_success(), "{route}: {} {}", answer.status, answer.text);
        assert_eq!(answer.headers["cache-control"], "no-store", "{route}");
    }
}

#[tokio::test]
async fn a_tenant_reaches_its_own_workspace_and_only_that() {
    let world = World::new();
    let ours = furnish(&world, &world.ours).await;
    let theirs = furnish(&world, &world.theirs).await;
    let before = format!("{:?}", crate::store::Store::tenancy(&*world.store).unwrap());
    let absent = format!("ws_{}", "0".repeat(32));
    for (route, body) in ROUTES {
        let foreign = world.call_as(&world.tenant(), &fill(route, &world.theirs, &theirs), body).await;
        let none = world.call_as(&world.tenant(), &fill(route, &absent, &theirs), body).await;
        assert_eq!(foreign.status, 404, "{route}");
        assert_eq!(foreign.text, none.text, "{route} tells whether a foreign workspace exists");
        // A foreign item under one's own workspace.
        if route.contains("{p}") || route.contains("{k}") {
            let crossed = world.call_as(&world.tenant(), &fill(route, &world.ours, &theirs), body).await;
            assert_eq!(crossed.status, 404, "{route}");
        }
    }
    assert_eq!(before, format!("{:?}", crate::store::Store::tenancy(&*world.store).unwrap()), "something was changed");
    for (route, body) in ROUTES {
        let own = world.call_as(&world.tenant(), &fill(route, &world.ours, &ours), body).await;
        let wanted = if route == "DELETE /workspaces/{w}" { own.status == 403 } else { own.status.is_success() };
        assert!(wanted, "{route}: {} {}", own.status, own.text);
    }
}

#[tokio::test]
async fn a_tenant_grants_itself_nothing() {
    let world = World::new();
    let call = |route: &'static str, body: &'static str| {
        let token = world.tenant();
        let world = &world;
        async move { world.call_as(&token, route, body).await }
    };
    assert_eq!(call("POST /workspaces", r#"{"name":"x"}"#).await.status, 403);
    assert_eq!(call("POST /workspaces", "not even JSON").await.status, 403);
    assert_eq!(call("PUT /workspaces/{ws}", r#"{"limits":{}}"#).await.status, 403);
    let listed = call("GET /workspaces", "").await.data();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["id"], Value::from(world.ours.clone()));
}

#[tokio::test]
async fn a_path_or_method_that_is_not_there_says_so() {
    let world = World::new();
    for path in [
        "/",
        "/nothing",
        "/workspaces/",
        "/workspaces/{ws}/nothing",
        "/workspaces/%ff",
        "/workspaces/{ws}/providers/%ff",
    ] {
        let answer = world.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.json()["error"]["message"].is_string(), "{path}");
    }
    let answer = world.call("PATCH /workspaces/{ws}", json!({})).await;
    assert_eq!(answer.status, 405);
    assert_eq!(answer.json()["error"]["code"], "method_not_allowed");
    let allow = answer.headers["allow"].to_str().unwrap();
    assert!(["GET", "PUT", "DELETE"].iter().all(|method| allow.contains(method)), "{allow}");
}
