//! Faults 71 to 82: the disk, the clock, the configuration, the fleet. Most have a file of their own.

use std::process::Command;
use std::time::Duration;

use perpetuo::admin::auth::Role;
use perpetuo::directory::CredentialChange;
use perpetuo::simulator::{Behaviour, Simulator, Step};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use super::{ALONE, DONE, Stage, event, role, stop, text};
use crate::process::{Process, Site, command, hello as ask};
use crate::support::{Answer, Scrape, World, hello, hello_stream, said, within};

/// A disk that is full ends no request: serving goes on, readiness says what is wrong, nothing panics; what was booked before is there
/// after a start with room.
#[tokio::test(flavor = "multi_thread")]
async fn fault_72_disk_full() {
    let provider = Simulator::start(Behaviour::new("openai")).await.unwrap();
    let site = Site::new();
    site.configure("[log]\naccess = \"off\"\n");
    let mut process = site.serve().await;
    let [workspace, key, token] = ["workspace", "virtual key", "admin token"].map(|label| process.printed(label));
    let body = json!({"provider": "openai", "api_key": "sk-full", "base_url": format!("{}/v1", provider.url())});
    site.post(&token, &format!("/workspaces/{workspace}/providers"), body).await;
    assert_eq!(site.chat(&key, ask("openai/gpt-4o")).await.unwrap().status(), 200);
    let bill = format!("/workspaces/{workspace}/usage");
    let booked = async {
        while site.get(&token, &bill).await["total_tokens"] == 0 {
            // It is booked within the time of a batch.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("the first booking", booked).await;
    process.kill_9();

    // The signal that comes with the limit below is ignored, so that writing fails as on a full disk.
    let mut shell = Command::new("sh");
    let script = "trap '' XFSZ; exec \"$0\" serve --config \"$1\"";
    shell.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_perpetuo")).arg(site.config()).env_clear();
    let mut process = Process::start(&mut shell);
    process.until_healthy(&site.address).await;
    let limit = Command::new("prlimit").args(["--fsize=1024:1024", "--pid", &process.id().to_string()]).status();
    assert!(limit.unwrap().success(), "prlimit is part of util-linux");
    for turn in 0..200 {
        let answer = site.chat(&key, ask("openai/gpt-4o")).await.unwrap();
        assert_eq!(answer.status(), 200, "request {turn}");
    }
    let ready = async {
        while reqwest::get(site.url("/ready")).await.unwrap().status() != 503 {
            // The writer finds out by itself.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("readiness to say that the store can't be written", ready).await;
    let page = Scrape::of(site.metrics.parse().unwrap()).await;
    assert_eq!(page.sum("perpetuo_ledger_failing", &[]), 1.0, "what pages someone");
    assert!(page.sum("perpetuo_ledger_errors_total", &[]) > 0.0);
    assert!(!process.log.all().contains("panicked"), "{}", process.log.all());
    process.kill_9();

    let process = site.serve().await;
    let usage = site.get(&token, &bill).await;
    assert!(usage["total_tokens"].as_u64().unwrap() > 0, "what was on disk is on the bill: {usage}");
    assert_eq!(site.chat(&key, ask("openai/gpt-4o")).await.unwrap().status(), 200);
    drop(process);
}

/// A clock that is a minute off, in either direction, refuses no admin token; one that is further off does.
#[tokio::test]
async fn fault_75_clock_that_is_off() {
    let world = World::plain().await;
    // A token is good for an hour from this moment on.
    for (seconds, status, what) in [
        (50, 200, "made 50 seconds in the future"),
        (600, 401, "made ten minutes in the future"),
        (-3650, 200, "expired 50 seconds ago"),
        (-3670, 401, "expired 70 seconds ago"),
    ] {
        let moment = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
        let token = world.admin_token_from(Role::Admin, &[], moment);
        let request = world.client().get(world.url("/workspaces")).bearer_auth(token);
        assert_eq!(Answer::of(request).await.status, status, "{what}");
    }
}

/// Days are those of UTC, whatever the machine thinks is the time of day where it stands.
#[tokio::test(flavor = "multi_thread")]
async fn fault_75_days_of_utc() {
    let provider = Simulator::start(Behaviour::new("openai")).await.unwrap();
    for zone in ["XXX-14", "XXX+12"] {
        let site = Site::new();
        let mut process = Process::start(command(&["serve"]).arg("--config").arg(site.config()).env("TZ", zone));
        process.until_healthy(&site.address).await;
        let [workspace, key, token] = ["workspace", "virtual key", "admin token"].map(|label| process.printed(label));
        let body = json!({"provider": "openai", "api_key": "sk-utc", "base_url": format!("{}/v1", provider.url())});
        site.post(&token, &format!("/workspaces/{workspace}/providers"), body).await;
        let today = || jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
        let before = today();
        assert_eq!(site.chat(&key, ask("openai/gpt-4o")).await.unwrap().status(), 200);
        let bill = format!("/workspaces/{workspace}/usage?start_date={before}&end_date={}", today());
        let booked = async {
            while site.get(&token, &bill).await["total_tokens"] == 0 {
                // It is booked within the time of a batch.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within("the booking of today", booked).await;
        process.kill_9();
    }
}

/// A provider that comes back is asked by one request, however many there are; the others go where they went.
#[tokio::test(flavor = "multi_thread")]
async fn fault_76_one_probe_for_all() {
    let slow = Step::Slow { latency: Duration::from_secs(1), token_delay: Duration::ZERO };
    let (world, first) = (World::plain().await, Simulator::start(Behaviour::new("first").always(slow)).await.unwrap());
    let healthy = Simulator::start(Behaviour::new("healthy")).await.unwrap();
    world.add("openai", &first, |_| ());
    world.add("groq", &healthy, |_| ());
    first.then(vec![Step::status(500); 5]);
    for _ in 0..5 {
        assert_eq!(world.chat(&hello("gpt-4")).await.provider(), "groq");
    }
    assert_eq!(world.chat(&hello("gpt-4")).await.attempts(), 1, "it is left alone");
    let recovered = async {
        loop {
            let before = first.seen().len();
            let herd: JoinSet<_> =
                (0..30).map(|_| Answer::of(world.chat_request(world.client()).json(&hello("gpt-4")))).collect();
            assert!(herd.join_all().await.iter().all(|answer| (answer.status, answer.attempts()) == (200, 1)));
            match first.seen().len() - before {
                // A breaker says nothing when its time is over; it is seen by asking.
                0 => tokio::time::sleep(Duration::from_millis(100)).await,
                asked => return asked,
            }
        }
    };
    assert_eq!(within("the provider to be asked again", recovered).await, 1);
}

/// When every provider is out, the answer comes at once, with `Retry-After` and without asking anybody.
#[tokio::test]
async fn fault_77_all_providers_out() {
    let (world, mut simulators) = (World::plain().await, Vec::new());
    for provider in ["openai", "groq"] {
        let simulator = Simulator::start(Behaviour::new(provider).always(Step::retry_after(429, 30))).await.unwrap();
        world.add(provider, &simulator, |_| ());
        simulators.push(simulator);
    }
    assert_eq!(world.chat(&hello("gpt-4")).await.status, 429);
    let asked = |simulators: &[Simulator]| simulators.iter().map(|simulator| simulator.seen().len()).sum::<usize>();
    let before = asked(&simulators);
    for body in [hello("gpt-4"), hello_stream("gpt-4")] {
        for _ in 0..20 {
            let answer = world.chat(&body).await;
            let wait: u64 = answer.header("retry-after").parse().unwrap();
            assert!(answer.status == 429 && (1..=30).contains(&wait), "{}", answer.text());
        }
    }
    assert_eq!(asked(&simulators), before, "nobody was asked");
}

/// When every provider is down, no queue grows: a hundred requests may find out whether that is still so; the others are told at once
/// that nobody is there, with `Retry-After`.
#[tokio::test(flavor = "multi_thread")]
async fn fault_77_no_queue_before_a_dead_provider() {
    let world = World::start(|config| config.retry.max_attempts = 1).await;
    let dead = Simulator::start(Behaviour::new("dead").always(Step::Hang)).await.unwrap();
    world.add("openai", &dead, |_| ());
    dead.then(vec![Step::status(500); 5]);
    for _ in 0..5 {
        assert_eq!(world.chat(&hello(ALONE)).await.status, 502);
    }
    let mut crowd: JoinSet<_> =
        (0..130).map(|_| Answer::of(world.chat_request(world.client()).json(&hello(ALONE)))).collect();
    for _ in 0..30 {
        let answer = within("a refusal at once", crowd.join_next()).await.unwrap().unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (503, "no_provider_available"), "{}", answer.text());
        assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
        answer.error();
    }
    dead.wait_until(|seen| seen.len() == 105).await.unwrap();
    crowd.abort_all();
    drop(crowd);
    let room = async {
        loop {
            let asked = world.chat_request(world.client()).json(&hello(ALONE)).send();
            // Whoever is let in hangs there.
            match tokio::time::timeout(Duration::from_millis(200), asked).await {
                Ok(answer) => assert_eq!(answer.unwrap().status(), 503),
                Err(_) => return,
            }
        }
    };
    within("room after they left", room).await;
}

/// A stream goes on with the configuration and the credential that it began with; what is asked after a change gets the new ones.
#[tokio::test(flavor = "multi_thread")]
async fn fault_78_change_in_the_middle_of_a_stream() {
    let stage = Stage::set().await;
    let (mut stream, mut call) = stage.begun(&[role(), text("One")]).await;

    let mut config = perpetuo::config::Config::clone(&stage.world.gateway.config());
    config.limits.max_event_bytes = 10;
    config.timeouts.idle = Duration::from_millis(1);
    stage.world.gateway.reload(|| Ok::<_, perpetuo::error::Error>(config)).unwrap();
    let directory = stage.world.gateway.directory();
    for credential in &directory.workspace(&stage.world.workspace).unwrap().credentials {
        let off = CredentialChange { enabled: Some(false), ..CredentialChange::default() };
        directory.update_credential(&stage.world.workspace, &credential.id, off).unwrap();
    }
    assert_eq!(stage.world.chat(&hello(ALONE)).await.status, 404, "no provider serves it any more");

    call.send(event(text(" two")) + &event(stop()) + DONE).await;
    let rest = stream.rest().await;
    assert_eq!((said(&rest).as_str(), rest.last().unwrap().as_str()), (" two", "[DONE]"));
}

/// A stream of a key that is revoked meanwhile runs to its end; the next request is refused.
#[tokio::test(flavor = "multi_thread")]
async fn fault_79_key_revoked_in_the_middle_of_a_stream() {
    let stage = Stage::set().await;
    let world = &stage.world;
    let (mut stream, mut call) = stage.begun(&[role(), text("One")]).await;
    let path = format!("/workspaces/{}/api-keys", world.workspace);
    let keys = world.admin(Method::GET, &path, None).await.json();
    let id = keys["data"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(world.admin(Method::POST, &format!("{path}/{id}/revoke"), None).await.status, 200);
    assert_eq!(world.chat(&hello(ALONE)).await.code(), "invalid_api_key");
    call.send(event(stop()) + DONE).await;
    assert_eq!(stream.rest().await.last().unwrap(), "[DONE]");
}

/// A database that several gateways share, slow, down, or taken over by another.
#[test]
#[ignore = "a gateway has a store of its own; there is no shared database that could fail"]
fn fault_82_shared_database() {}
