//! Which provider is asked: by strategy, by the model's name, and what the client is told about it.

use std::time::Duration;

use jiff::Timestamp;
use perpetuo::api::strategy::StrategyName;
use perpetuo::directory::{NewKey, WorkspaceChange};
use perpetuo::simulator::{Behaviour, Simulator, Step};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, World, hello, hello_stream};

/// One simulator behind all three providers.
async fn trio() -> (World, Simulator) {
    let (world, simulator) = (World::plain().await, Simulator::start(Behaviour::new("all")).await.unwrap());
    for provider in ["openai", "anthropic", "groq"] {
        world.add(provider, &simulator, |_| ());
    }
    (world, simulator)
}

/// What was asked of whom: provider, upstream name.
fn served(answer: &Answer) -> (u16, &str, &str) {
    (answer.status, answer.provider(), answer.header("x-perpetuo-model"))
}

#[tokio::test]
async fn the_strategy_is_the_requests_then_the_keys_then_the_workspaces_then_the_configurations() {
    let simulator = Simulator::start(Behaviour::new("acme")).await.unwrap();
    let world = World::start(|config| config.routing.strategy = StrategyName::Reliable).await;
    world.add("openai", &simulator, |_| ());
    let strategy = |answer: Answer| answer.header("x-perpetuo-strategy").to_owned();
    assert_eq!(strategy(world.chat(&hello("gpt-4o")).await), "reliable", "the configuration's");

    let directory = world.gateway.directory();
    let change = WorkspaceChange { strategy: Some(Some(StrategyName::Cheapest)), ..WorkspaceChange::default() };
    directory.update_workspace(&world.workspace, change).unwrap();
    assert_eq!(strategy(world.chat(&hello("gpt-4o")).await), "cheapest", "the workspace's");

    let new = NewKey { strategy: Some(StrategyName::Fastest), ..NewKey::default() };
    let (_, key) = directory.create_key(&world.workspace, new, Timestamp::now()).unwrap();
    let with_key = |route: Option<&str>| {
        let request = world.client().post(world.url("/v1/chat/completions")).bearer_auth(key.expose());
        let request = route.into_iter().fold(request, |request, route| request.header("x-perpetuo-route", route));
        Answer::of(request.json(&hello("gpt-4o")))
    };
    assert_eq!(strategy(with_key(None).await), "fastest", "the key's");
    for name in ["default", "cheapest", "reliable", "fastest", "Default", " cheapest "] {
        let expected = name.trim().to_lowercase();
        assert_eq!(strategy(with_key(Some(name)).await), expected, "the request's");
    }
    let booked: Vec<_> = world.booked(9).await.into_iter().map(|booked| booked.strategy).collect();
    assert_eq!(booked[..3], [StrategyName::Reliable, StrategyName::Cheapest, StrategyName::Fastest]);
}

#[tokio::test]
async fn an_unknown_strategy_is_refused_with_the_four_names() {
    let (world, simulator) = trio().await;
    for wrong in ["quickest", "", "fastest,cheapest", "default;"] {
        let answer = world.chat_with("x-perpetuo-route", wrong, &hello("gpt-4o")).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{wrong:?}");
        assert_eq!(answer.error()["param"], "X-Perpetuo-Route");
        for name in ["fastest", "cheapest", "reliable", "default"] {
            assert!(answer.text().contains(name), "{wrong:?}: {name} is not named in {}", answer.text());
        }
    }
    assert!(simulator.seen().is_empty());
}

#[tokio::test]
async fn default_goes_by_priority_and_then_by_the_aliases_order() {
    let world = World::plain().await;
    let simulator = Simulator::start(Behaviour::new("all")).await.unwrap();
    for (provider, priority) in [("groq", 2), ("anthropic", 1), ("openai", 1)] {
        world.add(provider, &simulator, |credential| credential.priority = Some(priority));
    }
    simulator.then([Step::status(500), Step::status(500)]);
    let answer = world.chat(&hello("gpt-4")).await;
    assert_eq!((answer.status, answer.attempts()), (200, 3));
    let asked: Vec<_> = world.booking().await.attempts.into_iter().map(|attempt| attempt.provider).collect();
    assert_eq!(asked, ["openai", "anthropic", "groq"]);
}

#[tokio::test]
async fn a_model_is_found_by_its_name() {
    let (world, simulator) = trio().await;
    world.add("openai", &simulator, |credential| {
        credential.models = Some([("house-blend".to_owned(), "gpt-4o-mini".to_owned())].into());
    });
    let cases = [
        ("alias", "claude-v1", "openai", "gpt-4o-mini"),
        ("alias of another provider", "groq-fast", "openai", "gpt-4o-mini"),
        ("catalogue", "gpt-4o", "openai", "gpt-4o"),
        ("catalogue", "claude-haiku-4-5", "anthropic", "claude-haiku-4-5"),
        ("catalogue, with a slash", "openai/gpt-oss-20b", "groq", "openai/gpt-oss-20b"),
        ("catalogue, where the provider has its own name", "llama-3.3-70b", "groq", "llama-3.3-70b-versatile"),
        ("the provider's own name", "llama-3.3-70b-versatile", "groq", "llama-3.3-70b-versatile"),
        ("a class of models", "smart", "openai", "gpt-6.1-sol"),
        ("provider/model", "openai/gpt-4o", "openai", "gpt-4o"),
        ("provider/model, unknown", "groq/made-up-7b", "groq", "made-up-7b"),
        ("provider/model, with another slash", "groq/meta/made-up", "groq", "meta/made-up"),
        ("the credential's own name", "house-blend", "openai", "gpt-4o-mini"),
        ("prefix", "gpt-9-preview", "openai", "gpt-9-preview"),
        ("prefix", "claude-next", "anthropic", "claude-next"),
    ];
    for (how, model, provider, upstream) in cases {
        let answer = world.chat(&hello(model)).await;
        assert_eq!(served(&answer), (200, provider, upstream), "{how}: {model}: {}", answer.text());
        assert_eq!(simulator.seen().pop().unwrap().model.as_deref(), Some(upstream), "{how}: {model}");
    }
    let booked = world.booked(cases.len()).await;
    assert_eq!((booked[0].model.as_str(), booked[0].model_served.as_deref()), ("claude-v1", Some("gpt-4o-mini")));
}

#[tokio::test]
async fn a_public_name_falls_over_to_whoever_has_that_model_and_a_providers_own_name_stays_there() {
    let world = World::plain().await;
    let failing = Simulator::start(Behaviour::new("down").script(vec![Step::status(500); 9])).await.unwrap();
    let simulator = Simulator::start(Behaviour::new("up")).await.unwrap();
    world.add("openai", &failing, |_| ());
    world.add("openrouter", &simulator, |credential| {
        credential.base_url = Some(Some(format!("{}/v1", simulator.url())));
    });
    let answer = world.chat(&hello("gpt-4o")).await;
    assert_eq!(served(&answer), (200, "openrouter", "openai/gpt-4o"), "the same model elsewhere");
    let answer = world.chat(&hello("openai/gpt-4o")).await;
    assert!(answer.status >= 500 && simulator.seen().len() == 1, "who names a provider means it: {}", answer.text());
    let answer = world.chat(&hello("anthropic/claude-sonnet-4.6")).await;
    assert_eq!(served(&answer), (200, "openrouter", "anthropic/claude-sonnet-4.6"), "its own way to write it");
}

#[tokio::test]
async fn a_model_that_nobody_serves_is_told_by_name() {
    let (world, simulator) = trio().await;
    for model in ["made-up-7b", "mistral/large", "openai/", "text-embedding-3-small"] {
        let answer = world.chat(&hello(model)).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "model_not_found"), "{model}");
        assert_eq!(answer.error()["param"], "model", "{model}");
        assert!(answer.text().contains(model), "{model}: {}", answer.text());
    }
    assert!(simulator.seen().is_empty());
}

#[tokio::test]
async fn a_disabled_credential_takes_no_part() {
    let (world, simulator) = (World::plain().await, Simulator::start(Behaviour::new("acme")).await.unwrap());
    let id = world.add("openai", &simulator, |credential| credential.enabled = Some(false));
    assert_eq!(world.chat(&hello("gpt-4o")).await.status, 404);
    let change = perpetuo::directory::CredentialChange { enabled: Some(true), ..Default::default() };
    world.gateway.directory().update_credential(&world.workspace, &id, change).unwrap();
    assert_eq!(world.chat(&hello("gpt-4o")).await.status, 200, "from the very next request on");
}

#[tokio::test]
async fn every_answer_tells_its_request_id() {
    let (world, _simulator) = trio().await;
    for (given, kept) in [("mine-1", true), ("a b", false), ("", false), (&"x".repeat(129), false)] {
        let answer = world.chat_with("x-request-id", given, &hello("gpt-4o")).await;
        let id = answer.header("x-request-id");
        assert!(if kept { id == given } else { id.starts_with("req_") }, "{given:?} became {id:?}");
    }
    let refused = world.chat(&json!({"model": "gpt-4o"})).await;
    assert_eq!(refused.status, 400);
    assert!(refused.header("x-request-id").starts_with("req_"));
    let booked = world.booked(4).await;
    assert_eq!(booked[0].request_id, "mine-1");
}

#[tokio::test]
async fn what_a_provider_can_not_express_is_told_or_refused() {
    let (world, simulator) = trio().await;
    for mut body in [hello("claude-haiku-4-5"), hello_stream("claude-haiku-4-5")] {
        body["logit_bias"] = json!({"50256": -100});
        let answer = world.chat(&body).await;
        assert_eq!((answer.status, answer.provider()), (200, "anthropic"), "{}", answer.text());
        assert_eq!(answer.header("x-perpetuo-warnings"), "logit_bias");

        let strict = world.chat_with("x-perpetuo-strict", "true", &body).await;
        assert_eq!((strict.status, strict.code().as_str()), (400, "unsupported_parameter"), "{}", strict.text());
        assert_eq!(strict.error()["param"], "logit_bias");
    }
    assert_eq!(simulator.seen().len(), 2, "the strict ones were not sent");
    let fine = world.chat_with("x-perpetuo-strict", "true", &hello("claude-haiku-4-5")).await;
    assert_eq!((fine.status, fine.header("x-perpetuo-warnings")), (200, ""));
}

#[tokio::test]
async fn a_strict_request_is_served_by_the_candidate_that_can_express_it() {
    let (world, simulator) = trio().await;
    let mut body = hello("claude-v2");
    body["logit_bias"] = json!({"50256": -100});
    // The alias begins with Anthropic at equal priorities.
    for credential in &world.gateway.directory().workspace(&world.workspace).unwrap().credentials {
        let change = perpetuo::directory::CredentialChange { priority: Some(1), ..Default::default() };
        world.gateway.directory().update_credential(&world.workspace, &credential.id, change).unwrap();
    }
    assert_eq!(world.chat(&body).await.provider(), "anthropic");
    let strict = world.chat_with("x-perpetuo-strict", "true", &body).await;
    assert_eq!((strict.status, strict.provider(), strict.attempts()), (200, "openai", 1), "{}", strict.text());
    assert_eq!(simulator.seen()[1].json()["logit_bias"], body["logit_bias"]);
}

#[tokio::test]
async fn the_models_are_what_this_key_can_call() {
    let world = World::plain().await;
    let simulator = Simulator::start(Behaviour::new("acme")).await.unwrap();
    let list = || async {
        let answer = Answer::of(world.request(Method::GET, "/v1/models")).await;
        assert_eq!((answer.status, answer.json()["object"].as_str()), (200, Some("list")));
        answer.json()["data"].as_array().unwrap().clone()
    };
    let ids =
        |models: &[Value]| models.iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert!(list().await.is_empty(), "no provider, no model");
    world.add("anthropic", &simulator, |credential| {
        credential.models = Some([("house-blend".to_owned(), "claude-haiku-4-5".to_owned())].into());
    });
    let models = list().await;
    let names = ids(&models);
    assert!(names.is_sorted(), "a stable order");
    for name in ["claude-haiku-4-5", "claude-v1", "gpt-4", "house-blend"] {
        assert!(names.iter().any(|id| id == name), "{name} is missing");
    }
    assert!(!names.iter().any(|id| id == "gpt-4o"), "nobody here serves it");
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "each name stands once");
    let owner = |name: &str| models.iter().find(|model| model["id"] == name).map(|model| model["owned_by"].clone());
    for (name, owned_by) in [("claude-haiku-4-5", "anthropic"), ("house-blend", "anthropic"), ("gpt-4", "perpetuo")] {
        assert_eq!(owner(name), Some(json!(owned_by)), "{name}: of those who serve it, only this one is here");
    }
    for model in &models {
        assert_eq!((&model["object"], model["created"].is_u64()), (&json!("model"), true));
        assert!(!model["owned_by"].as_str().unwrap().is_empty());
    }
    for (path, status) in [
        ("/v1/models/claude-haiku-4-5", 200),
        ("/v1/models/house-blend", 200),
        ("/v1/models/gpt-4o", 404),
        ("/v1/models/openai%2Fgpt-oss-20b", 404),
    ] {
        let answer = Answer::of(world.request(Method::GET, path)).await;
        assert_eq!(answer.status, status, "{path}");
    }
    world.add("groq", &simulator, |_| ());
    for path in ["/v1/models/openai%2Fgpt-oss-20b", "/v1/models/openai/gpt-oss-20b"] {
        let answer = Answer::of(world.request(Method::GET, path)).await;
        assert_eq!((answer.status, answer.json()["id"].as_str()), (200, Some("openai/gpt-oss-20b")), "{path}");
    }
    let stranger = Answer::of(world.client().get(world.url("/v1/models"))).await;
    assert_eq!((stranger.status, stranger.code().as_str()), (401, "invalid_api_key"));
}

#[tokio::test]
async fn embeddings_are_routed_metered_and_fall_over_like_chat() {
    let world = World::plain().await;
    let (first, second) = (
        Simulator::start(Behaviour::new("first").script([Step::status(500)])).await.unwrap(),
        Simulator::start(Behaviour::new("second")).await.unwrap(),
    );
    world.add("openai", &first, |_| ());
    world.add("openai", &second, |_| ());
    let body = json!({"model": "text-embedding-3-small", "input": ["one", "two"], "dimensions": 8, "unknown": 1e2});
    let answer = Answer::of(world.request(Method::POST, "/v1/embeddings").json(&body)).await;
    assert_eq!((answer.status, answer.attempts()), (200, 2), "{}", answer.text());
    assert_eq!(answer.json()["data"].as_array().unwrap().len(), 2);
    let seen = second.seen().remove(0);
    assert_eq!((seen.path.as_str(), seen.body), ("/v1/embeddings", body.to_string().into()));
    let booked = world.booking().await;
    assert_eq!((booked.tokens(), booked.stream), (seen.billed.total_tokens(), false));
    assert!(booked.cost().dollars() > 0.0);

    for (model, status) in [("gpt-4o", 404), ("text-embedding-3-small", 400)] {
        let body = json!({"model": model, "input": if status == 400 { json!([]) } else { json!("x") }});
        let answer = Answer::of(world.request(Method::POST, "/v1/embeddings").json(&body)).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
}

#[tokio::test]
async fn fastest_learns_who_is_quicker() {
    let world = World::plain().await;
    let slow = Simulator::start(Behaviour::new("slow").latency(Duration::from_millis(150))).await.unwrap();
    let quick = Simulator::start(Behaviour::new("quick")).await.unwrap();
    world.add("openai", &slow, |_| ());
    world.add("groq", &quick, |_| ());
    let ask = || async { world.chat_with("x-perpetuo-route", "fastest", &hello_stream("gpt-4")).await };
    for turn in 0..100 {
        let answer = ask().await;
        assert_eq!((answer.status, answer.attempts()), (200, 1), "request {turn}");
    }
    let (slow, quick) = (slow.seen().len(), quick.seen().len());
    // At first both are as good; whoever is new is soon tried; later, three in a hundred look whether something has changed.
    assert!(slow < 50, "{slow} went to the slow one, {quick} to the quick one");
}

#[tokio::test]
async fn cheapest_asks_who_costs_least() {
    let (world, _simulator) = trio().await;
    // Prices of the alias' models: gpt-oss-120b at Groq is the cheapest of the three.
    for (route, provider) in [("cheapest", "groq"), ("default", "openai")] {
        let answer = world.chat_with("x-perpetuo-route", route, &hello("gpt-4")).await;
        assert_eq!((answer.status, answer.provider()), (200, provider), "{route}");
    }
    let booked = world.booked(2).await;
    assert!(booked[0].cost() < booked[1].cost(), "and it was: {:?} < {:?}", booked[0].cost(), booked[1].cost());
}

#[tokio::test]
async fn cheapest_takes_an_unknown_price_last() {
    let (world, simulator) = (World::plain().await, Simulator::start(Behaviour::new("all")).await.unwrap());
    let named = |upstream: &str| Some([("blend".to_owned(), upstream.to_owned())].into());
    world.add("openai", &simulator, |credential| credential.models = named("gpt-unpriced"));
    world.add("anthropic", &simulator, |credential| credential.models = named("claude-opus-4-5"));
    let answer = world.chat_with("x-perpetuo-route", "cheapest", &hello("blend")).await;
    assert_eq!(served(&answer), (200, "anthropic", "claude-opus-4-5"), "unknown is not free");
}

#[tokio::test]
async fn reliable_avoids_who_fails() {
    let world = World::plain().await;
    let (shaky, steady) = (
        Simulator::start(Behaviour::new("shaky")).await.unwrap(),
        Simulator::start(Behaviour::new("steady")).await.unwrap(),
    );
    world.add("openai", &shaky, |_| ());
    world.add("groq", &steady, |_| ());
    let ask = || async { world.chat_with("x-perpetuo-route", "reliable", &hello("gpt-4")).await };
    // Its failures are hidden from the client.
    shaky.then((0..3).map(|_| Step::status(500)));
    for turn in 0..60 {
        assert_eq!(ask().await.status, 200, "request {turn}");
    }
    let (shaky, steady) = (shaky.seen().len(), steady.seen().len());
    assert!(shaky < 20, "{shaky} went to the shaky one, {steady} to the steady one");
}
