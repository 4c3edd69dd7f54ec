//! The console's files, and the routes that are for it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use http::Request;
use serde_json::{Value, json};

use super::{World, now};
use crate::admin::console::ASSETS;
use crate::api::strategy::StrategyName;
use crate::directory::Caller;
use crate::live::{Entry, Progress};

#[tokio::test]
async fn the_page_is_there_without_a_token_and_lets_a_browser_do_nothing_else() {
    let world = World::new();
    for asset in ASSETS {
        let path = if asset.name == "index.html" { "/console/".to_owned() } else { format!("/console/{}", asset.name) };
        let answer = world.send(Request::get(path).body(axum::body::Body::empty()).unwrap()).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, asset.text), "{}", asset.name);
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        for wanted in ["default-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "trusted-types 'none'"] {
            assert!(policy.contains(wanted), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer");
        let again = Request::get(format!("/console/{}", asset.name)).header("if-none-match", &answer.headers["etag"]);
        let again = world.send(again.body(axum::body::Body::empty()).unwrap()).await;
        assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""));
    }
    let moved = world.send(Request::get("/console").body(axum::body::Body::empty()).unwrap()).await;
    assert_eq!((moved.status.as_u16(), moved.headers["location"].to_str().unwrap()), (308, "/console/"));
    for path in ["/console/nothing.js", "/console/..%2fmod.rs", "/console/a/b"] {
        let missing = world.send(Request::get(path).body(axum::body::Body::empty()).unwrap()).await;
        assert_eq!(missing.status, 404, "{path}");
    }
}

#[tokio::test]
async fn data_is_not_cached_not_sniffed_and_in_no_frame() {
    let world = World::new();
    for path in ["/workspaces", "/workspaces/{ws}/live", "/console/session", "/workspaces/ws_none"] {
        let answer = world.get(path).await;
        assert_eq!(answer.headers["cache-control"], "no-store", "{path}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(answer.headers["content-security-policy"], "default-src 'none'; frame-ancestors 'none'", "{path}");
    }
}

/// What the policy would forbid must not be tried, and no file may stay behind in the folder.
#[test]
fn the_files_are_all_served_and_none_needs_what_the_policy_forbids() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/console/assets");
    let there: BTreeSet<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(there, ASSETS.iter().map(|asset| asset.name.to_owned()).collect());
    for asset in ASSETS {
        let text = asset.text.replace("http://www.w3.org/2000/svg", "");
        let sinks = ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"];
        let foreign = ["http://", "https://", "//cdn", "@import", "url("];
        let inline = ["style=\"", "onclick=", "onload=", "onerror=", "javascript:", "<style", "<script>"];
        let kept = ["localStorage", "document.cookie"];
        for word in sinks.iter().chain(&foreign).chain(&inline).chain(&kept) {
            assert!(!text.contains(word), "{} has {word}", asset.name);
        }
        assert!(text.lines().count() < 600, "{} is too long", asset.name);
    }
}

#[tokio::test]
async fn a_session_says_who_speaks_and_which_providers_there_are() {
    let world = World::new();
    let told = world.get("/console/session").await.data();
    assert_eq!((&told["role"], &told["version"]), (&json!("admin"), &json!(env!("CARGO_PKG_VERSION"))));
    let names: Vec<&str> =
        told["providers"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"openai") && names.contains(&"custom"), "{names:?}");
    let tenant = world.call_as(&world.tenant(), "GET /console/session", "").await.data();
    assert_eq!(tenant["role"], "workspace");
}

fn entry(world: &World, workspace: &str, id: &str) -> Entry {
    let new = crate::directory::NewKey { name: Some("app".to_owned()), ..Default::default() };
    let (key, _) = world.directory.create_key(workspace, new, now()).ok().unwrap();
    Entry {
        request_id: id.to_owned(),
        caller: Caller { key, workspace: world.directory.workspace(workspace).unwrap() },
        model: "<script>gpt".to_owned(),
        strategy: StrategyName::Fastest,
        stream: true,
        created_at: now(),
        started: Instant::now(),
        progress: Progress::default(),
    }
}

#[tokio::test]
async fn requests_under_way_are_shown_to_those_who_may_see_their_workspace() {
    let world = World::new();
    let ours = world.live.enter(entry(&world, &world.ours, "req_ours")).unwrap();
    let theirs = world.live.enter(entry(&world, &world.theirs, "req_theirs")).unwrap();
    ours.progress().passed(400);
    let ids = |data: &Value| -> Vec<String> {
        data["requests"].as_array().unwrap().iter().map(|row| row["request_id"].as_str().unwrap().to_owned()).collect()
    };
    let all = world.get("/live").await.data();
    assert_eq!((ids(&all), &all["under_way"]), (vec!["req_ours".to_owned(), "req_theirs".to_owned()], &json!(2)));
    let row = &all["requests"][0];
    assert_eq!(
        (&row["model"], &row["strategy"], &row["key_name"]),
        (&json!("<script>gpt"), &json!("fastest"), &json!("app"))
    );
    assert_eq!((&row["attempt"], &row["provider"], &row["first_token_ms"]), (&json!(0), &Value::Null, &Value::Null));
    assert!(row["tokens"].as_u64().unwrap() > 0, "{row}");
    for path in ["GET /live", "GET /workspaces/{ws}/live"] {
        let own = world.call_as(&world.tenant(), path, "").await.data();
        assert_eq!(ids(&own), ["req_ours"], "{path}");
    }
    drop((ours, theirs));
    assert_eq!(world.get("/live").await.data()["under_way"], 0);
}

#[tokio::test]
async fn the_log_tells_more_of_a_request_for_whom_it_concerns() {
    let world = super::reports::world();
    let logs = world.get("/workspaces/{ws}/logs?details=true&provider=groq&limit=1").await.json();
    let row = &logs["logs"][0];
    assert_eq!((&row["key"], &row["strategy"], &row["stream"]), (&json!("key_1"), &json!("default"), &json!(false)));
    let attempt = &row["attempts"][0];
    assert_eq!((&attempt["input_tokens"], &attempt["output_tokens"]), (&json!(5), &json!(0)));
    assert_eq!((&attempt["cost"], &attempt["certainty"]), (&json!(0.0000125), &json!("exact")));
    assert!(world.get("/workspaces/{ws}/logs").await.json()["logs"][0].get("key").is_none());
}
