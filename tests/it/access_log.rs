//! The access log: one line for each request, whatever became of it, that tells what the ledger tells; no secret in it, and
//! nobody who waits for it.

use std::path::PathBuf;
use std::time::Duration;

use perpetuo::config::{AccessFormat, Config};
use perpetuo::money::Money;
use perpetuo::simulator::{Behaviour, Outcome, Simulator, Step, Truncation};
use perpetuo::store::RequestRecord;
use reqwest::Method;
use serde_json::{Value, json};

use crate::process::{Furnished, command};
use crate::support::{Answer, World, free_address, hello, hello_stream, within};

/// A world whose access log is a file.
struct Logged {
    world: World,
    file: PathBuf,
}

impl Logged {
    async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::TempDir::new().unwrap();
        let file = dir.path().join("access.log");
        let path = file.clone();
        let world = World::start_in(dir, move |config| {
            config.log.access = AccessFormat::Json;
            config.log.access_file = Some(path);
            change(config);
        })
        .await;
        Self { world, file }
    }

    /// With one provider, which answers so.
    async fn with(behaviour: Behaviour) -> (Self, Simulator) {
        let simulator = Simulator::start(behaviour).await.unwrap();
        let logged = Self::start(|_| ()).await;
        logged.world.add("openai", &simulator, |_| ());
        (logged, simulator)
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap()
    }

    /// The lines that are about requests for a model, once there are so many.
    async fn lines(&self, count: usize) -> Vec<Value> {
        self.wait_for(count, |line| line["path"] == "/v1/chat/completions").await
    }

    async fn wait_for(&self, count: usize, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let lines = async {
            loop {
                let text = self.text();
                let whole = text.rfind('\n').map_or("", |end| &text[..end]);
                let lines = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
                let lines: Vec<Value> = lines.filter(|line| wanted(line)).collect();
                if lines.len() >= count {
                    return lines;
                }
                // A line is written after the answer, and nothing tells when.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(&format!("{count} lines"), lines).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_leaves_one_line_that_says_what_became_of_it() {
    let (logged, _provider) = Logged::with(Behaviour::new("openai").cached_tokens(4)).await;
    let answer = logged.world.chat_with("x-request-id", "my-request-1", &hello("gpt-4o")).await;
    let line = logged.lines(1).await.remove(0);
    let record = logged.world.booking().await;
    assert_eq!((&line["request_id"], &line["reason"]), (&json!("my-request-1"), &json!("ok")));
    assert_eq!((&line["level"], &line["status"], &line["method"]), (&json!("info"), &json!(200), &json!("POST")));
    assert_eq!((&line["workspace"], &line["key_id"]), (&json!(logged.world.workspace), &json!(record.key)));
    assert_eq!(
        (&line["model"], &line["provider"], &line["strategy"]),
        (&json!("gpt-4o"), &json!("openai"), &json!("default"))
    );
    assert_eq!(line["bytes_out"], answer.body.len());
    assert_eq!(line["bytes_in"], serde_json::to_vec(&hello("gpt-4o")).unwrap().len());
    assert_eq!(line["attempts"][0]["credential"], record.attempts[0].credential.as_str());
    assert_eq!(line["trace_id"].as_str().unwrap().len(), 32);
    assert!(line["total_ms"].as_u64().unwrap() >= line["ttft_ms"].as_u64().unwrap());
    assert!(line.get("client_address").is_none() && line.get("request_body").is_none(), "only where it is asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_turned_away_at_the_door_leaves_a_line_and_probes_leave_none() {
    let (logged, _provider) = Logged::with(Behaviour::new("openai")).await;
    let world = &logged.world;
    let client = world.client();
    let chat = world.url("/v1/chat/completions");
    for (request, status) in [
        (client.post(&chat).bearer_auth("pk_wrong").json(&hello("gpt-4o")), 401),
        (client.get(world.url("/health")), 200),
        (client.get(world.url("/ready")), 200),
        (client.get(world.url("/no/such/path?key=in-the-query")), 404),
        (client.get(&chat).bearer_auth(&world.key), 405),
        (client.post(&chat).bearer_auth(&world.key).body("{"), 400),
        (client.post(&chat).bearer_auth(&world.key).json(&hello("no-such-model")), 404),
        (client.get(world.url("/workspaces")), 401),
        (client.get(world.url("/v1/models")).bearer_auth(&world.key), 200),
    ] {
        assert_eq!(Answer::of(request).await.status, status);
    }
    // The world asks for its models to see whether it is up.
    let lines = logged.wait_for(8, |_| true).await;
    let rows = lines.iter().map(|line| {
        let text = |name: &str| line[name].as_str().unwrap_or_default();
        (line["status"].as_u64().unwrap(), text("path"), text("reason"), text("level"))
    });
    // A refusal and the next request may come by two connections, and end in any order.
    let mut rows: Vec<_> = rows.collect();
    rows.sort_unstable();
    assert_eq!(
        rows,
        [
            (200, "/v1/models", "ok", "info"),
            (200, "/v1/models", "ok", "info"),
            (400, "/v1/chat/completions", "client_invalid_request", "warn"),
            (401, "/v1/chat/completions", "client_invalid_api_key", "warn"),
            (401, "/workspaces", "client_invalid_api_key", "warn"),
            (404, "/no/such/path", "client_not_found", "warn"),
            (404, "/v1/chat/completions", "client_model_not_found", "warn"),
            (405, "/v1/chat/completions", "client_method_not_allowed", "warn"),
        ]
    );
    let of = |reason: &str| lines.iter().find(|line| line["reason"] == reason).unwrap();
    let refused = of("client_invalid_request");
    assert_eq!(refused["workspace"], world.workspace.as_str(), "who asked is told as far as it was known");
    assert!(refused.get("model").is_none() && of("client_model_not_found")["model"] == "no-such-model");
    assert!(!logged.text().contains("in-the-query"));
}

/// What a line and a record of the ledger must agree on.
fn agree(line: &Value, record: &RequestRecord) {
    let what = &record.request_id;
    assert_eq!(line["status"], record.status, "{what}");
    assert_eq!(line["client_gone"], record.client_gone, "{what}");
    assert_eq!(line["ttft_ms"], json!(record.first_token_ms), "{what}");
    assert_eq!(line["stream"], record.stream, "{what}");
    assert_eq!(line["tokens"]["total"], record.tokens(), "{what}");
    assert_eq!(line["reason"] == "ok", record.error.is_none(), "{what}");
    let attempts = line["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), record.attempts.len(), "{what}");
    for (attempt, record) in attempts.iter().zip(&record.attempts) {
        assert_eq!(attempt["provider"], record.provider.as_str(), "{what}");
        assert_eq!(attempt["status"], record.status, "{what}");
        assert_eq!(attempt["ms"], record.latency_ms, "{what}");
        assert_eq!(attempt["tokens"]["input"], record.usage.input, "{what}");
        assert_eq!(attempt["tokens"]["cached_read"], record.usage.cached_read, "{what}");
        assert_eq!(attempt["tokens"]["output"], record.usage.output, "{what}");
        assert_eq!(attempt["certainty"], record.certainty.as_str(), "{what}");
        assert_eq!(attempt["outcome"] == "ok", record.error.is_none(), "{what}");
    }
}

/// The `cost` of each line, digit by digit: a float would hide what is lost.
fn costs(text: &str) -> Vec<(String, Money)> {
    let cost = |line: &str| {
        let rest = line.split_once("},\"cost\":").unwrap().1;
        let digits = &rest[..rest.find(',').unwrap()];
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        Money(format!("{whole}{part:0<12}").parse().unwrap())
    };
    let lines = text.lines().filter(|line| line.contains("\"attempts\":["));
    lines.map(|line| (serde_json::from_str::<Value>(line).unwrap()["request_id"].to_string(), cost(line))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_and_the_ledger_tell_the_same_of_every_kind_of_request() {
    let metrics = free_address();
    let logged = Logged::start(|config| {
        config.metrics.enabled = true;
        config.metrics.listen = metrics;
    })
    .await;
    let world = &logged.world;
    let flaky = [Step::status(500), Step::Ok, Step::retry_after(429, 1)];
    let openai = Simulator::start(Behaviour::new("openai").cached_tokens(3).script(flaky)).await.unwrap();
    let cut = Step::TruncateAfter { events: 6, how: Truncation::Abort };
    let anthropic = Simulator::start(Behaviour::new("anthropic").tokens(20).script([Step::Ok, cut])).await.unwrap();
    let slow = Behaviour::new("groq").tokens(1000).token_delay(Duration::from_millis(20));
    let groq = Simulator::start(slow).await.unwrap();
    for (name, simulator) in [("openai", &openai), ("anthropic", &anthropic), ("groq", &groq)] {
        world.add(name, simulator, |_| ());
    }
    world.chat(&hello("gpt-4")).await;
    world.chat(&hello_stream("gpt-4o")).await;
    world.chat(&hello_stream("claude-sonnet-4-6")).await;
    world.chat(&hello("gpt-4o")).await;
    world.chat(&hello("openai/nobody-knows-its-price")).await;
    world.chat(&hello("no-such-model")).await;
    let mut left = world.stream(&hello_stream("groq/m")).await;
    left.first_text().await;
    drop(left);
    groq.wait_until(|seen| seen[0].outcome == Outcome::Cancelled).await.unwrap();

    let records = world.booked(7).await;
    let lines = logged.lines(7).await;
    assert_eq!((lines.len(), records.len()), (7, 7));
    for record in &records {
        let mut mine = lines.iter().filter(|line| line["request_id"] == record.request_id.as_str());
        agree(mine.next().unwrap(), record);
        assert!(mine.next().is_none(), "{} has two lines", record.request_id);
    }
    let costs = costs(&logged.text());
    for record in &records {
        let id = format!("\"{}\"", record.request_id);
        let (_, cost) = costs.iter().find(|(name, _)| *name == id).unwrap();
        assert_eq!(*cost, record.cost(), "{id}");
    }
    assert!(records.iter().any(|record| record.attempts.len() > 1), "one fell back");
    assert!(records.iter().any(|record| record.client_gone) && records.iter().any(|record| record.error.is_some()));

    let scraped = reqwest::get(format!("http://{metrics}/metrics")).await.unwrap().text().await.unwrap();
    let series = scraped.lines().filter(|line| line.starts_with("perpetuo_tokens_total"));
    let counted: f64 = series.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum();
    let told: u64 = lines.iter().map(|line| line["tokens"]["total"].as_u64().unwrap()).sum();
    assert_eq!(counted, told as f64, "and so do the metrics");
    assert!(scraped.contains("perpetuo_access_log_dropped_total 0"), "{scraped}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_and_the_content_are_logged_only_where_that_is_asked_for() {
    let simulator = Simulator::start(Behaviour::new("openai")).await.unwrap();
    let logged = Logged::start(|config| {
        config.log.client_address = true;
        config.log.content = true;
        config.log.content_bytes = 64;
    })
    .await;
    logged.world.add("openai", &simulator, |_| ());
    logged.world.chat_with("x-forwarded-for", "203.0.113.9", &hello("gpt-4o")).await;
    let streamed = logged.world.chat(&hello_stream("gpt-4o")).await;
    let lines = logged.lines(2).await;
    assert_eq!((&lines[0]["client_address"], &lines[0]["forwarded_for"]), (&json!("127.0.0.1"), &json!("203.0.113.9")));
    let asked = serde_json::to_string(&hello("gpt-4o")).unwrap();
    assert_eq!(lines[0]["request_body"], asked[..64]);
    assert_eq!(lines[1]["response_body"], streamed.text()[..64]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_no_prompt_and_no_answer_gets_into_a_line_and_nobody_can_forge_one() {
    let (logged, _provider) = Logged::with(Behaviour::new("openai")).await;
    let world = &logged.world;
    let key = world.key.clone();
    let token = world.admin_token(perpetuo::admin::auth::Role::Admin, &[]);
    let chat = world.url("/v1/chat/completions");
    let client = world.client();
    let mut body = hello("gpt-4o");
    body["messages"][0]["content"] = json!("canary-prompt");
    let mut keyed = hello("gpt-4o");
    keyed["model"] = json!(key);
    for request in [
        client.post(&chat).bearer_auth(&key).json(&body),
        client.post(&chat).bearer_auth(&key).json(&keyed),
        client.post(format!("{chat}?api_key={key}")).json(&body),
        client.get(world.url(&format!("/v1/models/{key}"))).bearer_auth(&key),
        client.get(world.url(&format!("/{token}"))),
        client.post(&chat).bearer_auth(&key).header("x-request-id", &key).json(&body),
        client.get(world.url("/x%0a%7B%22level%22:%22info%22%7D\u{1b}[31m")),
    ] {
        Answer::of(request).await;
    }
    let lines = logged.wait_for(8, |_| true).await;
    let text = logged.text();
    for canary in [key.as_str(), &token, "canary-prompt", "sk-openai-0123456789abcdef"] {
        assert!(!text.contains(canary), "{canary} stands in:\n{text}");
    }
    assert!(!text.contains('\u{1b}') && text.lines().count() == lines.len(), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_moved_away_goes_on_in_a_new_file_though_the_new_configuration_is_bad() {
    let (logged, _provider) = Logged::with(Behaviour::new("openai")).await;
    logged.world.chat(&hello("gpt-4o")).await;
    logged.lines(1).await;
    let old = logged.file.with_extension("log.1");
    std::fs::rename(&logged.file, &old).unwrap();
    let refused: Result<(), perpetuo::error::Error> =
        logged.world.gateway.reload(|| Err(perpetuo::error::Error::internal("a bad configuration")));
    assert!(refused.is_err());
    within("the new file", async {
        while !logged.file.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    logged.world.chat(&hello("gpt-4o")).await;
    assert_eq!(logged.lines(1).await.len(), 1, "the first line stayed in the old one");
    assert_eq!(std::fs::read_to_string(old).unwrap().matches("/v1/chat/completions").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_turns_the_log_off_and_on_under_a_running_gateway() {
    let (logged, _provider) = Logged::with(Behaviour::new("openai")).await;
    let reload = |access| {
        let mut config = (*logged.world.gateway.config()).clone();
        config.log.access = access;
        logged.world.gateway.reload(|| Ok::<_, perpetuo::error::Error>(config)).unwrap();
    };
    reload(AccessFormat::Off);
    logged.world.chat_with("x-request-id", "unseen", &hello("gpt-4o")).await;
    reload(AccessFormat::Json);
    logged.world.chat_with("x-request-id", "seen", &hello("gpt-4o")).await;
    let lines = logged.lines(1).await;
    assert_eq!(lines.iter().map(|line| &line["request_id"]).collect::<Vec<_>>(), ["seen"]);
}

/// A blocked pipe of the access log blocks no request; what is dropped is counted.
#[tokio::test(flavor = "multi_thread")]
async fn fault_81_log_pipe_blocked() {
    let dir = tempfile::TempDir::new().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Held open for both, so that it takes what fits and then nothing.
    let held = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let metrics = free_address();
    let path = pipe.clone();
    let mut world = World::start_in(dir, move |config| {
        config.log.access = AccessFormat::Json;
        config.log.access_file = Some(path);
        // Lines that fill the pipe and the queue with few requests.
        (config.log.content, config.log.content_bytes) = (true, 1 << 20);
        (config.metrics.enabled, config.metrics.listen) = (true, metrics);
    })
    .await;
    let simulator = Simulator::start(Behaviour::new("openai")).await.unwrap();
    world.add("openai", &simulator, |_| ());
    let mut body = hello("gpt-4o");
    body["messages"][0]["content"] = json!("x".repeat(1 << 20));
    for _ in 0..90 {
        assert_eq!(world.chat(&body).await.status, 200);
    }
    let scraped = reqwest::get(format!("http://{metrics}/metrics")).await.unwrap().text().await.unwrap();
    let dropped = scraped.lines().find_map(|line| line.strip_prefix("perpetuo_access_log_dropped_total "));
    assert!(dropped.unwrap().parse::<f64>().unwrap() > 0.0, "what found no room was counted");
    assert_eq!(world.booked(90).await.len(), 90, "and the bill is whole");
    within("the end", world.stop(true)).await;
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_the_admin_api_has_its_line_and_its_reason() {
    let (logged, _provider) = Logged::with(Behaviour::new("openai")).await;
    let path = format!("/workspaces/{}/usage", logged.world.workspace);
    logged.world.admin(Method::GET, &path, None).await;
    logged.world.admin(Method::GET, "/workspaces/ws_nobody", None).await;
    let lines = logged.wait_for(2, |line| line["path"].as_str().unwrap().starts_with("/workspaces")).await;
    assert_eq!((&lines[0]["status"], &lines[0]["reason"]), (&json!(200), &json!("ok")));
    assert_eq!((&lines[1]["status"], &lines[1]["reason"]), (&json!(404), &json!("client_not_found")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_writes_json_where_nobody_watches_and_takes_a_new_level_with_its_configuration() {
    let gateway = Furnished::start_with(Behaviour::new("openai"), "[log]\nlevel = \"warn\"\n").await;
    gateway.site.chat(&gateway.key, crate::process::hello("openai/gpt-4o")).await.unwrap();
    let line: Value = serde_json::from_str(&gateway.process.said("/v1/chat/completions\",")).unwrap();
    assert_eq!((&line["message"], &line["status"], &line["level"]), (&json!("request"), &json!(200), &json!("info")));

    gateway.site.configure("[log]\nlevel = \"info\"\n");
    gateway.process.signal("HUP");
    let line: Value = serde_json::from_str(&gateway.process.logged("configuration reloaded")).unwrap();
    assert_eq!((&line["level"], &line["message"]), (&json!("info"), &json!("configuration reloaded")));
    assert!(line["ts"].as_str().unwrap().ends_with('Z') && line["target"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_serves_and_ends_though_nobody_reads_what_it_prints() {
    let mut gateway = Furnished::start_with(Behaviour::new("openai"), "[log]\nlevel = \"trace\"\n").await;
    gateway.process.signal("TERM");
    gateway.process.exit().await;
    let mut child = command(&["serve"])
        .arg("--config")
        .arg(gateway.site.config())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let client = reqwest::Client::new();
    within("the listener", async {
        while client.get(gateway.site.url("/health")).send().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    // Each leaves a kilobyte on either pipe, which holds 64.
    for _ in 0..300 {
        let answer = gateway.site.chat(&gateway.key, crate::process::hello("openai/gpt-4o")).await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.bytes().await.unwrap();
    }
    assert!(std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let ended = within("its end", tokio::task::spawn_blocking(move || child.wait().unwrap())).await.unwrap();
    assert_eq!(ended.code(), Some(0));
}
