//! What keeps a bad hour of a provider from becoming the client's: hedges, budgets, waiting, disabled credentials; and that
//! the gateway says what it did.

use std::time::Duration;

use perpetuo::config::Secret;
use perpetuo::directory::{CredentialChange, WorkspaceChange};
use perpetuo::simulator::{Behaviour, Simulator, Step};
use perpetuo::usage::Certainty;
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{Answer, World, free_address, hello, hello_stream, said};

async fn simulator(name: &str) -> Simulator {
    Simulator::start(Behaviour::new(name)).await.unwrap()
}

/// A world with a provider in each place of the order.
async fn world_of(names: &[&str]) -> (World, Vec<Simulator>) {
    let world = World::plain().await;
    let mut simulators = Vec::new();
    for name in names {
        simulators.push(simulator(name).await);
        world.add("openai", simulators.last().unwrap(), |_| ());
    }
    (world, simulators)
}

fn hedging(world: &World, on: bool) {
    let change = WorkspaceChange { hedging: Some(on), ..WorkspaceChange::default() };
    world.gateway.directory().update_workspace(&world.workspace, change).unwrap();
}

#[tokio::test]
async fn a_stream_that_is_late_is_hedged_and_the_slow_attempt_is_cancelled_and_booked() {
    let (world, simulators) = world_of(&["slow", "quick"]).await;
    hedging(&world, true);
    // Sixty usual streams show what late means, and earn the budget for one hedge.
    for _ in 0..60 {
        world.stream(&hello_stream("gpt-4o")).await.rest().await;
    }
    simulators[0].then([Step::HangAfterHead]);
    let mut stream = world.stream(&hello_stream("gpt-4o")).await;
    let events = stream.rest().await;
    assert!(said(&events).contains("quick"), "{events:?}");
    assert_eq!((events.last().unwrap().as_str(), stream.header("x-perpetuo-attempts")), ("[DONE]", "2"));
    assert_eq!(simulators[1].seen().len(), 1);

    let booked = world.booked(61).await.pop().unwrap();
    let [slow, quick] = &booked.attempts[..] else { panic!("{booked:?}") };
    assert_eq!((slow.error.as_deref(), quick.error.as_deref()), (Some("hedge_lost"), None));
    assert_eq!((slow.certainty, quick.certainty), (Certainty::Estimated, Certainty::Exact));
    assert!(slow.cost.dollars() > 0.0, "what the loser was asked may be billed");
    assert_eq!((slow.why.as_deref(), quick.why.as_deref()), (Some("hedge_lost"), None));

    simulators[0].then([Step::HangAfterHead]);
    let body =
        json!({"model": "gpt-4o", "stream": true, "timeout": 1, "messages": [{"role": "user", "content": "Hi"}]});
    let mut stream = world.stream(&body).await;
    stream.rest().await;
    let second = world.booked(62).await.pop().unwrap();
    assert_ne!(
        second.attempts[0].error.as_deref(),
        Some("hedge_lost"),
        "the budget holds one hedge for fifty requests"
    );
}

#[tokio::test]
async fn an_attempt_that_fails_beside_its_hedge_is_booked_with_its_own_error() {
    let (world, simulators) = world_of(&["broken", "steady"]).await;
    hedging(&world, true);
    for _ in 0..60 {
        world.stream(&hello_stream("gpt-4o")).await.rest().await;
    }
    let garbage = vec![(Duration::from_millis(300), "data: no JSON\n\n".into())];
    let content_type = "text/event-stream".to_owned();
    simulators[0].then([Step::Raw { status: 200, content_type, chunks: garbage }]);
    simulators[1].then([Step::Slow { latency: Duration::from_secs(1), token_delay: Duration::ZERO }]);
    let events = world.stream(&hello_stream("gpt-4o")).await.rest().await;
    assert!(said(&events).contains("steady"), "{events:?}");
    let booked = world.booked(61).await.pop().unwrap();
    let errors: Vec<_> = booked.attempts.iter().map(|attempt| attempt.error.as_deref()).collect();
    assert_eq!(errors, [Some("provider_protocol_error"), None]);
}

#[tokio::test]
async fn without_the_workspaces_wish_nothing_is_hedged() {
    let (world, simulators) = world_of(&["slow", "quick"]).await;
    for _ in 0..60 {
        world.stream(&hello_stream("gpt-4o")).await.rest().await;
    }
    let slow = Step::Slow { latency: Duration::from_millis(300), token_delay: Duration::ZERO };
    simulators[0].then([slow]);
    world.stream(&hello_stream("gpt-4o")).await.rest().await;
    assert!(simulators[1].seen().is_empty());
}

#[tokio::test]
async fn in_an_outage_retries_run_out_and_sdks_are_told_not_to_add_theirs() {
    let failing = || async { Simulator::start(Behaviour::new("down").always(Step::status(500))).await.unwrap() };
    let (world, simulators) = (World::plain().await, [failing().await, failing().await]);
    simulators.iter().for_each(|simulator| drop(world.add("openai", simulator, |_| ())));
    let mut told = None;
    for _ in 0..200 {
        let answer = world.chat(&hello("gpt-4o")).await;
        assert_eq!(answer.status, 502, "{}", answer.text());
        if answer.header("x-should-retry") == "false" {
            told = Some(answer.attempts());
            break;
        }
    }
    assert_eq!(told, Some(1), "the upstream's error is the answer, after one attempt");
}

/// A provider's 401 is told at once as `provider_key_invalid`, and its credential is out until it is changed.
#[tokio::test]
async fn fault_32_provider_key_refused() {
    let (world, simulators) = world_of(&["first", "second"]).await;
    simulators[0].then([Step::status(401)]);
    assert_eq!(world.chat(&hello("gpt-4o")).await.code(), "provider_key_invalid");
    for _ in 0..3 {
        assert_eq!(world.chat(&hello("gpt-4o")).await.status, 200);
    }
    assert_eq!((simulators[0].seen().len(), simulators[1].seen().len()), (1, 3));

    let directory = world.gateway.directory();
    let refused = directory.workspace(&world.workspace).unwrap().credentials[0].id.clone();
    let change = CredentialChange { api_key: Some(Secret::new("sk-another-key")), ..CredentialChange::default() };
    directory.update_credential(&world.workspace, &refused, change).unwrap();
    assert_eq!(world.chat(&hello("gpt-4o")).await.status, 200);
    assert_eq!(simulators[0].seen().len(), 2, "the new key gets its chance");
}

#[tokio::test]
async fn a_spent_quota_falls_over_and_disables_the_credential() {
    let metrics = free_address();
    let world = World::start(|config| {
        config.metrics.enabled = true;
        config.metrics.listen = metrics;
    })
    .await;
    let simulators = [simulator("first").await, simulator("second").await];
    simulators.iter().for_each(|simulator| drop(world.add("openai", simulator, |_| ())));
    let body = json!({"error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "param": null, "code": "insufficient_quota"}});
    simulators[0].then([Step::Status { status: 429, headers: Vec::new(), body: Some(body.to_string().into()) }]);
    for _ in 0..3 {
        assert_eq!(world.chat(&hello("gpt-4o")).await.status, 200);
    }
    assert_eq!((simulators[0].seen().len(), simulators[1].seen().len()), (1, 3));
    let page = Answer::of(world.client().get(format!("http://{metrics}/metrics"))).await.text();
    assert!(page.contains("perpetuo_credential_disabled_total{provider=\"openai\",reason=\"quota\"} 1"), "{page}");
}

#[tokio::test]
async fn a_short_cool_down_of_the_only_credential_is_waited_for() {
    let (world, simulators) = world_of(&["only"]).await;
    simulators[0].then([Step::Status {
        status: 429,
        headers: vec![("retry-after-ms".into(), "300".into())],
        body: None,
    }]);
    assert_eq!(world.chat(&hello("gpt-4o")).await.status, 429, "one attempt is made at a candidate");
    let second = world.chat(&hello("gpt-4o")).await;
    assert_eq!((second.status, simulators[0].seen().len()), (200, 2), "{}", second.text());
}

#[tokio::test]
async fn the_only_route_is_tried_again_where_the_operator_wants_it() {
    let only = simulator("only").await;
    let world = World::start(|config| config.retry.same_route = true).await;
    world.add("openai", &only, |_| ());
    only.then([Step::status(500), Step::status(503)]);
    let answer = world.chat(&hello("gpt-4o")).await;
    assert_eq!((answer.status, answer.attempts()), (200, 3), "{}", answer.text());
}

#[tokio::test]
async fn a_provider_that_dies_under_load_costs_clients_nothing_while_two_are_healthy() {
    for strategy in ["fastest", "reliable", "default", "cheapest"] {
        let (world, simulators) = world_of(&["dying", "second", "third"]).await;
        let deaths = [Step::status(503), Step::Reset, Step::HtmlOk, Step::BadJson, Step::status(500)];
        simulators[0].then(deaths.into_iter().cycle().take(400));
        let mut failed = 0;
        for _ in 0..10 {
            let requests = (0..40).map(|turn| {
                let body = if turn % 2 == 0 { hello("gpt-4o") } else { hello_stream("gpt-4o") };
                Answer::of(world.chat_request(world.client()).header("x-perpetuo-route", strategy).json(&body))
            });
            let answers = requests.collect::<JoinSet<_>>().join_all().await;
            failed +=
                answers.iter().filter(|answer| answer.status != 200 || answer.text().contains("\"error\"")).count();
        }
        assert_eq!(failed, 0, "{strategy}: of 400 requests");
        assert!(simulators[0].seen().len() < 100, "{strategy}: the dying one is soon left alone");
    }
}

#[tokio::test]
async fn the_log_says_why_a_candidate_was_chosen_and_who_could_not_be() {
    let (world, simulators) = world_of(&["first", "second"]).await;
    simulators[0].then([Step::retry_after(429, 60)]);
    assert_eq!(world.chat(&hello("gpt-4o")).await.status, 200);
    assert_eq!(world.chat(&hello("gpt-4o")).await.status, 200);
    world.booked(2).await;
    let path = format!("/workspaces/{}/logs?details=true", world.workspace);
    let logs = world.admin(Method::GET, &path, None).await.json();
    let newest = &logs["logs"][0]["attempts"][0];
    assert_eq!((&newest["reason"], &newest["passed_over"]), (&json!("best"), &json!(["openai:cooling"])));
    let path = format!("/workspaces/{}/route", world.workspace);
    let dry = world.admin(Method::POST, &path, Some(&hello("gpt-4o"))).await.json();
    assert_eq!(dry["data"]["excluded"][0]["reason"], "cooling");
    assert_eq!(dry["data"]["candidates"][0]["reason"], "best");
}
