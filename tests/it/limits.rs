//! Limits of workspaces and virtual keys, and load that is shed: what passes, what is refused and how the client is told.

use std::time::Duration;

use jiff::Timestamp;
use perpetuo::directory::{NewKey, WorkspaceChange};
use perpetuo::simulator::{Behaviour, Simulator, Step};
use reqwest::Method;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use crate::support::{Answer, World, hello, hello_stream, within};

fn limits(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// A world whose workspace has these limits, and its one provider.
async fn limited(value: &Value) -> (World, Simulator) {
    let (world, simulator) = (World::plain().await, Simulator::start(Behaviour::new("acme")).await.unwrap());
    world.add("openai", &simulator, |_| ());
    limit(&world, value);
    (world, simulator)
}

fn limit(world: &World, value: &Value) {
    let change = WorkspaceChange { limits: Some(limits(value)), ..WorkspaceChange::default() };
    world.gateway.directory().update_workspace(&world.workspace, change).unwrap();
}

#[tokio::test]
async fn of_many_concurrent_requests_exactly_the_limit_passes_and_the_rest_is_told_when_to_come_back() {
    let (world, simulator) = limited(&json!({"requests_per_minute": 10})).await;
    let body = hello("gpt-4o");
    let requests = (0..100).map(|_| Answer::of(world.chat_request(world.client()).json(&body)));
    let answers = requests.collect::<JoinSet<_>>().join_all().await;
    let passed = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((passed, simulator.seen().len()), (10, 10));
    for refused in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limit_exceeded"));
        assert_eq!(refused.header("x-ratelimit-limit-requests"), "10");
        assert_eq!(refused.header("x-ratelimit-remaining-requests"), "0");
        assert!((1..=6).contains(&refused.header("retry-after").parse::<u64>().unwrap()));
    }
    assert_eq!(world.booked(100).await.iter().filter(|booked| booked.status == 429).count(), 90, "refusals are logged");
}

#[tokio::test]
async fn tokens_are_reserved_as_expected_and_settled_as_billed() {
    let (world, _simulator) = limited(&json!({"tokens_per_minute": 1000})).await;
    let mut body = hello("gpt-4o");
    body["max_tokens"] = json!(900);
    let first = world.chat(&body).await;
    assert_eq!((first.status, first.header("x-ratelimit-limit-tokens")), (200, "1000"));
    let reserved: u64 = first.header("x-ratelimit-remaining-tokens").parse().unwrap();
    assert!(reserved < 100, "while it is served, what it may use is taken: {reserved} are left");

    let booked = world.booking().await;
    let second = world.chat(&body).await;
    assert_eq!(second.status, 200, "the first one used {} tokens only, and the rest came back", booked.tokens());
}

#[tokio::test]
async fn a_spent_budget_refuses_until_the_period_ends_and_tells_sdks_not_to_insist() {
    let (world, simulator) = limited(&json!({"usd_per_day": 1})).await;
    assert_eq!(world.chat(&hello("gpt-4o")).await.status, 200);
    let spent = world.booking().await.cost().dollars();
    assert!(spent > 0.0);
    limit(&world, &json!({"usd_per_day": spent}));
    let refused = world.chat(&hello("gpt-4o")).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "insufficient_quota"));
    assert_eq!(refused.header("x-should-retry"), "false");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() <= 24 * 3600);
    assert_eq!(simulator.seen().len(), 1);
}

#[tokio::test]
async fn a_keys_own_limit_binds_that_key_alone() {
    let (world, _simulator) = limited(&json!({})).await;
    let new = NewKey { limits: limits(&json!({"requests_per_minute": 1})), ..NewKey::default() };
    let (_, key) = world.gateway.directory().create_key(&world.workspace, new, Timestamp::now()).unwrap();
    let with_key = || {
        let request = world.client().post(world.url("/v1/chat/completions")).bearer_auth(key.expose());
        Answer::of(request.json(&hello("gpt-4o")))
    };
    assert_eq!(with_key().await.status, 200);
    let refused = with_key().await;
    assert_eq!(refused.status, 429);
    assert!(refused.text().contains("virtual key"), "{}", refused.text());
    assert_eq!(world.chat(&hello("gpt-4o")).await.status, 200, "another key of the workspace goes on");
}

#[tokio::test]
async fn a_limit_is_set_by_the_admin_api_and_unknown_ones_are_refused_by_name() {
    let (world, _simulator) = limited(&json!({})).await;
    let keys = format!("/workspaces/{}/api-keys", world.workspace);
    let made =
        world.admin(Method::POST, &keys, Some(&json!({"name": "app", "limits": {"tokens_per_minute": 5}}))).await;
    assert_eq!((made.status, &made.json()["data"]["limits"]["tokens_per_minute"]), (201, &json!(5)));
    let refused = world.admin(Method::POST, &keys, Some(&json!({"name": "app", "limits": {"rpm": 5}}))).await;
    assert_eq!((refused.status, &refused.error()["param"]), (400, &json!("limits.rpm")));
    assert!(refused.text().contains("requests_per_minute"), "{}", refused.text());
}

#[tokio::test]
async fn a_full_workspace_is_told_to_wait_and_others_are_served() {
    let (world, simulator) = limited(&json!({"max_in_flight": 1})).await;
    simulator.then([Step::Stall { after_events: 1 }]);
    let mut held = world.stream(&hello_stream("gpt-4o")).await;
    within("the first event", held.next()).await;
    let refused = world.chat(&hello("gpt-4o")).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limit_exceeded"));
    assert_eq!(refused.header("retry-after"), "1");

    let (workspace, key) = world.tenant();
    assert_ne!(workspace, world.workspace);
    let request = world.client().get(world.url("/v1/models")).bearer_auth(key);
    assert_eq!(Answer::of(request).await.status, 200);
    drop(held);
    let served = async {
        while world.chat(&hello("gpt-4o")).await.status != 200 {
            // The gateway learns of the client's leaving when it learns of it.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("room after the stream was left", served).await;
}

#[tokio::test]
async fn a_full_gateway_sheds_before_the_body_is_read_and_stays_manageable() {
    let simulator = Simulator::start(Behaviour::new("acme")).await.unwrap();
    let world = World::start(|config| config.limits.max_in_flight = 1).await;
    world.add("openai", &simulator, |_| ());
    simulator.then([Step::Stall { after_events: 1 }]);
    let mut held = world.stream(&hello_stream("gpt-4o")).await;
    within("the first event", held.next()).await;

    let shed = world.chat(&hello("gpt-4o")).await;
    assert_eq!((shed.status, shed.code().as_str(), shed.header("retry-after")), (503, "overloaded", "1"));
    assert_eq!(world.admin(Method::GET, "/workspaces", None).await.status, 200, "admin is exempt");
    let ready = Answer::of(world.client().get(world.url("/ready"))).await;
    assert_eq!(ready.status, 200, "so is health");
}

#[tokio::test]
async fn bodies_that_would_not_fit_are_refused_by_their_declared_length() {
    let simulator = Simulator::start(Behaviour::new("acme")).await.unwrap();
    let world = World::start(|config| config.limits.max_buffered_bytes_per_workspace = 2000).await;
    world.add("openai", &simulator, |_| ());
    let mut large = hello("gpt-4o");
    large["messages"][0]["content"] = json!("x".repeat(3000));
    let refused = world.chat(&large).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "1"));
    assert!(refused.text().contains("bytes"), "{}", refused.text());
    let chunked = reqwest::Body::wrap_stream(tokio_stream::iter([Ok::<_, std::io::Error>(large.to_string())]));
    let refused = Answer::of(world.chat_request(world.client()).body(chunked)).await;
    assert_eq!(refused.status, 429, "nor does a body of unknown length pass");
    assert_eq!(world.chat(&hello("gpt-4o")).await.status, 200, "what was refused holds nothing");
    assert_eq!(simulator.seen().len(), 1);
}
