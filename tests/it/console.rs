//! What the console shows, over real HTTP: requests while they run, how providers do, and its own way to the data plane.

use perpetuo::simulator::{Behaviour, Simulator, Step};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Answer, World, hello, hello_stream, within};

async fn get(world: &World, path: &str) -> Value {
    let path = path.replace("{ws}", &world.workspace);
    let answer = world.admin(Method::GET, &path, None).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()["data"].clone()
}

/// The requests under way, once there are so many.
async fn under_way(world: &World, number: usize) -> Vec<Value> {
    let wanted = async {
        loop {
            let live = get(world, "/workspaces/{ws}/live").await;
            assert_eq!(live["under_way"], live["requests"].as_array().unwrap().len());
            if live["under_way"] == number {
                return live["requests"].as_array().unwrap().clone();
            }
            // Nobody is told when a client has left.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    within("the requests under way", wanted).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_seen_while_it_runs_and_found_in_the_log_when_it_is_over() {
    let failing = Simulator::start(Behaviour::new("first").always(Step::retry_after(429, 30))).await.unwrap();
    let stalling = Simulator::start(Behaviour::new("second").always(Step::Stall { after_events: 3 })).await.unwrap();
    let world = World::plain().await;
    world.add("openai", &failing, |credential| credential.models = Some([("m".into(), "gpt-4o".into())].into()));
    world.add("groq", &stalling, |credential| credential.models = Some([("m".into(), "fast".into())].into()));
    assert!(under_way(&world, 0).await.is_empty());

    let mut stream = world.stream(&hello_stream("m")).await;
    within("the first event", stream.next()).await;
    let rows = under_way(&world, 1).await;
    let row = &rows[0];
    assert_eq!(
        (&row["workspace"], &row["model"], &row["stream"]),
        (&json!(world.workspace), &json!("m"), &json!(true))
    );
    let serving = (&row["provider"], &row["upstream_model"], &row["attempt"]);
    assert_eq!(serving, (&json!("groq"), &json!("fast"), &json!(2)), "the second attempt serves");
    assert!(row["first_token_ms"].is_u64() && row["elapsed_ms"].as_u64() >= row["first_token_ms"].as_u64(), "{row}");
    let id = row["request_id"].clone();
    let health = get(&world, "/workspaces/{ws}/performance/live").await;
    assert_eq!(health["credentials"][1]["in_flight"], 1);

    drop(stream);
    under_way(&world, 0).await;
    let booked = world.booking().await;
    assert_eq!((json!(booked.request_id), booked.status, booked.attempts.len()), (id, 499, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_credential_says_whether_it_can_be_asked_and_how_it_does() {
    let world = World::start(|config| config.retry.max_attempts = 1).await;
    let mut simulators = Vec::new();
    let steps = [Step::Ok, Step::retry_after(429, 30), Step::retry_after(401, 0), Step::retry_after(500, 0), Step::Ok];
    for (place, step) in steps.into_iter().enumerate() {
        let simulator = Simulator::start(Behaviour::new("acme").always(step)).await.unwrap();
        world.add("openai", &simulator, |credential| {
            credential.models = Some([(format!("m{place}"), "gpt-4o".to_owned())].into());
            credential.enabled = Some(place != 4);
        });
        simulators.push(simulator);
    }
    let asked = get(&world, "/workspaces/{ws}/performance/live").await;
    assert!(asked["credentials"].as_array().unwrap().iter().all(|row| row["routes"] == json!([])), "nobody was asked");

    for (model, times) in [("m0", 3), ("m1", 1), ("m2", 1), ("m3", 5)] {
        for _ in 0..times {
            world.chat(&hello(model)).await;
        }
    }
    let health = get(&world, "/workspaces/{ws}/performance/live").await;
    let rows = health["credentials"].as_array().unwrap();
    let states: Vec<&str> = rows.iter().map(|row| row["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["ready", "cooling", "refused", "ready", "disabled"]);
    assert!((1..=30_000).contains(&rows[1]["cooling_ms"].as_u64().unwrap()));
    assert_eq!((&rows[0]["refused"], &rows[2]["refused"]), (&Value::Null, &json!("key")));

    let good = &rows[0]["routes"][0];
    assert_eq!(
        (&good["model"], &good["breaker"], &good["error_rate"]),
        (&json!("gpt-4o"), &json!("closed"), &json!(0.0))
    );
    assert!(good["latency_p50_ms"].is_u64() && good["latency_p95_ms"].is_u64(), "{good}");
    let bad = &rows[3]["routes"][0];
    assert_eq!((&bad["breaker"], &bad["latency_p50_ms"]), (&json!("open"), &Value::Null));
    assert!(bad["probe_in_ms"].as_u64().unwrap() > 0 && bad["failed_ms_ago"].is_u64(), "{bad}");
    assert!(bad["error_rate"].as_f64().unwrap() > 0.99, "{bad}");
    assert!(!health.to_string().contains("sk-"), "a health report quotes a key");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_playgrounds_way_is_the_data_plane_and_is_there_only_with_the_console() {
    let simulator = Simulator::start(Behaviour::new("acme")).await.unwrap();
    let world = World::plain().await;
    world.add("openai", &simulator, |_| ());
    let ask = |key: &str| {
        let request = world.client().post(world.url("/console/v1/chat/completions"));
        Answer::of(request.bearer_auth(key.to_owned()).json(&hello("gpt-4o")))
    };
    let answer = ask(&world.key).await;
    assert_eq!((answer.status, answer.provider()), (200, "openai"));
    assert_eq!(world.booking().await.status, 200, "and billed like any other");
    let admin = world.admin_token(perpetuo::admin::auth::Role::Admin, &[]);
    assert_eq!(ask(&admin).await.status, 401, "an admin token is no virtual key");
    let page = Answer::of(world.client().get(world.url("/console/"))).await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").contains("default-src 'self'"));

    let mut config = perpetuo::config::Config::clone(&world.gateway.config());
    config.admin.console = false;
    world.gateway.reload(|| Ok::<_, perpetuo::error::Error>(config)).unwrap();
    assert_eq!(ask(&world.key).await.status, 404);
    for path in ["/console/", "/console/session", "/console/v1/models"] {
        let gone = world.client().get(world.url(path)).send().await.unwrap();
        assert_eq!(gone.status(), StatusCode::NOT_FOUND, "{path}");
    }
    get(&world, "/workspaces/{ws}/live").await;
}
