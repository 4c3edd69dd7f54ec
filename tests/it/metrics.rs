//! The metrics page: that it says what the ledger says, to the last token and pico-dollar, and what `docs/metrics.md` says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use perpetuo::catalog::Catalog;
use perpetuo::error::ErrorKind;
use perpetuo::provider::PROVIDERS;
use perpetuo::simulator::{Behaviour, Simulator, Step, Truncation};
use perpetuo::store::{AttemptRecord, RequestRecord};
use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, Scrape, Series, World, free_address, hello, hello_stream, within};

/// Requests of the mixed day that reach the ledger.
const BOOKED: usize = 15;

/// A world with a metrics page.
async fn world() -> (World, SocketAddr) {
    let page = free_address();
    let world = World::start(|config| {
        config.metrics.enabled = true;
        config.metrics.listen = page;
    })
    .await;
    (world, page)
}

/// Answers whole and in streams, a fallback, embeddings, thought, a price nobody knows, and everything that can go wrong.
async fn mixed_day(world: &World) -> Vec<Simulator> {
    let start = async |behaviour: Behaviour| Simulator::start(behaviour).await.unwrap();
    let openai = start(Behaviour::new("openai").cached_tokens(3).script([Step::status(500)])).await;
    let anthropic = start(Behaviour::new("anthropic").tokens(20)).await;
    world.add("openai", &openai, |_| ());
    world.add("anthropic", &anthropic, |_| ());
    for model in ["gpt-4", "gpt-4o", "claude-sonnet-4-6", "openai/unpriced"] {
        assert_eq!(world.chat(&hello(model)).await.status, 200, "{model}");
        assert!(world.chat(&hello_stream(model)).await.whole, "{model}");
    }
    let embedding = json!({"model": "text-embedding-3-small", "input": "Hello"});
    let request = world.request(Method::POST, "/v1/embeddings").json(&embedding);
    assert_eq!(Answer::of(request).await.status, 200);
    what_goes_wrong(world, [&openai, &anthropic]).await;
    vec![openai, anthropic]
}

/// Six requests that reach the ledger, and some that do not.
async fn what_goes_wrong(world: &World, [openai, anthropic]: [&Simulator; 2]) {
    openai.then([Step::TruncateAfter { events: 3, how: Truncation::Abort }]);
    assert!(world.chat(&hello_stream("gpt-4o")).await.text().contains("stream_truncated"));
    openai.then([Step::status(400)]);
    assert_eq!(world.chat(&hello("gpt-4o")).await.status, 400);
    openai.then([Step::Slow { latency: Duration::ZERO, token_delay: Duration::from_millis(50) }]);
    let mut stream = world.stream(&hello_stream("gpt-4o")).await;
    stream.first_text().await;
    drop(stream);
    openai.then([thought()]);
    assert_eq!(world.chat(&hello("gpt-4o")).await.status, 200);
    assert_eq!(world.chat(&hello("no-such-model")).await.status, 404);
    // The credential is refused, and stays out; the client learns whose key it is that does not work.
    anthropic.then([Step::status(401)]);
    assert_eq!(world.chat(&hello("claude-sonnet-4-6")).await.code(), "provider_key_invalid");
    assert_eq!(world.chat_with("X-Perpetuo-Route", "quickest", &hello("gpt-4o")).await.status, 400);
    assert_eq!(
        Answer::of(world.client().post(world.url("/v1/chat/completions")).bearer_auth("pk_x")).await.status,
        401
    );
    assert_eq!(world.admin(Method::GET, "/workspaces", None).await.status, 200);
    assert_eq!(Answer::of(world.client().get(world.url("/workspaces"))).await.status, 401);
}

/// An answer that says how much of it was thought.
fn thought() -> Step {
    let usage = json!({"prompt_tokens": 9, "completion_tokens": 8, "total_tokens": 17,
        "completion_tokens_details": {"reasoning_tokens": 5}});
    let message = json!({"role": "assistant", "content": "Yes."});
    let answer = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o", "usage": usage,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]});
    let chunks = vec![(Duration::ZERO, answer.to_string().into())];
    Step::Raw { status: 200, content_type: "application/json".into(), chunks }
}

/// The page once it has counted everything that the ledger has.
async fn settled(world: &World, page: SocketAddr) -> (Vec<RequestRecord>, Scrape) {
    let records = world.booked(BOOKED).await;
    assert_eq!(records.len(), BOOKED, "{records:#?}");
    (records, Scrape::of(page).await)
}

fn reason(code: Option<&str>) -> String {
    code.map_or("ok", |code| ErrorKind::from_code(code).unwrap().row().reason).to_owned()
}

/// Sums something by a key.
fn sums<T>(all: impl IntoIterator<Item = T>, what: impl Fn(T) -> (Vec<String>, u64)) -> BTreeMap<Vec<String>, f64> {
    let mut sums = BTreeMap::new();
    for (key, count) in all.into_iter().map(what).filter(|(_, count)| *count > 0) {
        *sums.entry(key).or_default() += count as f64;
    }
    sums
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_says_what_the_ledger_says() {
    let (world, page) = world().await;
    let _simulators = mixed_day(&world).await;
    let (records, page) = settled(&world, page).await;
    let attempts: Vec<&AttemptRecord> = records.iter().flat_map(|record| &record.attempts).collect();

    let mut requests = page.by("perpetuo_requests_total", &["workspace", "strategy", "provider", "code", "reason"]);
    requests.retain(|key, _| key[1] != "none");
    let asked = |record: &RequestRecord| {
        let provider = record.provider.clone().unwrap_or_else(|| "none".into());
        let (code, reason) = (record.status.to_string(), reason(record.error.as_deref()));
        (vec![record.workspace.clone(), record.strategy.to_string(), provider, code, reason], 1)
    };
    assert_eq!(requests, sums(&records, asked));
    let tried = |attempt: &AttemptRecord| (vec![attempt.provider.clone(), reason(attempt.error.as_deref())], 1);
    assert_eq!(page.by("perpetuo_attempts_total", &["provider", "outcome"]), sums(attempts.iter().copied(), tried));
    for (kind, count) in [
        ("input", (|attempt| attempt.usage.input) as fn(&AttemptRecord) -> u64),
        ("cached_read", |attempt| attempt.usage.cached_read),
        ("cache_write", |attempt| attempt.usage.cache_write),
        ("output", |attempt| attempt.usage.output),
    ] {
        let mut tokens = page.by("perpetuo_tokens_total", &["type", "provider", "certainty"]);
        tokens.retain(|key, _| key[0] == kind);
        let used = |attempt: &AttemptRecord| {
            let certainty = attempt.certainty.as_str().to_owned();
            (vec![kind.to_owned(), attempt.provider.clone(), certainty], count(attempt))
        };
        assert_eq!(tokens, sums(attempts.iter().copied(), used), "{kind}");
    }
    for provider in ["openai", "anthropic"] {
        let billed: u128 = attempts.iter().filter(|one| one.provider == provider).map(|one| one.cost.0).sum();
        let series = page.series.iter().filter(|series| series.name == "perpetuo_cost_usd_total");
        let mine = series.filter(|series| series.label("provider") == Some(provider));
        let shown: u128 = mine.map(|series| (series.value * 1e12).round() as u128).sum();
        assert!(billed > 0 && shown == billed, "{provider}: {shown} pico-dollars are not {billed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_counted_by_what_came_of_it() {
    let (world, page) = world().await;
    let _simulators = mixed_day(&world).await;
    let (records, page) = settled(&world, page).await;
    let attempts: Vec<&AttemptRecord> = records.iter().flat_map(|record| &record.attempts).collect();
    for (metric, labels, expected) in [
        ("perpetuo_requests_total", &[("strategy", "none")][..], 2.0),
        ("perpetuo_requests_total", &[("reason", "client_rejected_by_provider"), ("fault", "client")], 1.0),
        ("perpetuo_requests_total", &[("reason", "provider_stream_truncated"), ("code", "200")], 1.0),
        ("perpetuo_retries_total", &[("reason", "provider_error")], 1.0),
        ("perpetuo_fallbacks_total", &[("provider", "openai")], 1.0),
        ("perpetuo_client_gone_total", &[], 1.0),
        ("perpetuo_stream_truncated_total", &[("provider", "openai")], 1.0),
        ("perpetuo_reasoning_tokens_total", &[("model", "gpt-4o")], 5.0),
        ("perpetuo_unpriced_total", &[("provider", "openai"), ("model", "other")], 2.0),
        ("perpetuo_credential_refused", &[("provider", "anthropic"), ("reason", "key")], 1.0),
        ("perpetuo_auth_failures_total", &[("plane", "data"), ("why", "malformed")], 1.0),
        ("perpetuo_auth_failures_total", &[("plane", "admin"), ("why", "missing")], 1.0),
        ("perpetuo_admin_requests_total", &[("resource", "workspaces"), ("method", "GET"), ("code", "200")], 1.0),
        ("perpetuo_ledger_bookings_total", &[], BOOKED as f64),
        ("perpetuo_ledger_lag_seconds", &[], 0.0),
        ("gen_ai_server_request_duration_seconds_count", &[], BOOKED as f64),
        ("gen_ai_client_operation_duration_seconds_count", &[], attempts.len() as f64),
        ("gen_ai_client_operation_duration_seconds_count", &[("gen_ai_operation_name", "embeddings")], 1.0),
    ] {
        assert_eq!(page.sum(metric, labels), expected, "{metric} {labels:?}");
    }
    let wasted = |why: &str| page.sum("perpetuo_wasted_tokens_total", &[("why", why)]);
    let failed = attempts.iter().filter(|attempt| attempt.error.is_some()).map(|attempt| attempt.usage.total_tokens());
    assert_eq!(wasted("disconnect") + wasted("failure") + wasted("retry"), failed.sum::<u64>() as f64);
    assert!(wasted("disconnect") > 0.0 && wasted("failure") > 0.0);
    let prompts: u64 = attempts.iter().map(|attempt| attempt.usage.prompt_tokens()).sum();
    assert_eq!(page.sum("gen_ai_client_token_usage_sum", &[("gen_ai_token_type", "input")]), prompts as f64);
    let connections = page.sum("perpetuo_upstream_connections_total", &[("kind", "new")]);
    assert_eq!(page.sum("perpetuo_upstream_connect_seconds_count", &[]), connections);
    assert!(page.sum("perpetuo_http_requests_total", &[("connection", "reused")]) > BOOKED as f64 / 2.0);
}

/// One row of the tables of metrics.
struct Documented {
    kind: String,
    /// Each label, and its values where the row names them.
    labels: BTreeMap<String, BTreeSet<String>>,
}

struct Docs {
    metrics: BTreeMap<String, Documented>,
    /// Of labels whose set is closed.
    sets: BTreeMap<String, BTreeSet<String>>,
}

impl Docs {
    fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        let text = std::fs::read_to_string(path).unwrap();
        let mut docs = Self { metrics: BTreeMap::new(), sets: BTreeMap::new() };
        let mut reasons: BTreeSet<String> = ["ok".to_owned()].into();
        for row in text.lines().filter_map(|line| line.strip_prefix("| `")) {
            let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(str::trim).collect();
            let first = format!("`{}", cells[0]);
            match cells[..] {
                [_, kind, labels, _, _] => {
                    let documented = Documented { kind: kind.to_owned(), labels: labels_of(labels) };
                    assert!(docs.metrics.insert(quoted(&first)[0].clone(), documented).is_none(), "{first} twice");
                }
                [_, _, words] => reasons.extend(quoted(words)),
                [_, values] => {
                    quoted(&first).into_iter().for_each(|label| {
                        docs.sets.insert(label, quoted(values).into_iter().collect());
                    });
                }
                _ => panic!("{row}"),
            }
        }
        docs.close(&reasons);
        docs
    }

    /// What the tables leave to other places.
    fn close(&mut self, reasons: &BTreeSet<String>) {
        let known = ErrorKind::ALL.map(|kind| kind.row().reason.to_owned());
        let known = known.into_iter().chain(["ok".to_owned()]).collect();
        assert_eq!(*reasons, known, "left: the documentation, right: the table");
        let with = |more: &str| reasons.iter().cloned().chain([more.to_owned()]).collect::<BTreeSet<_>>();
        self.sets.insert("reason".into(), with("ok"));
        self.sets.insert("outcome".into(), with("ok"));
        self.sets.insert("error_type".into(), with("").into_iter().filter(|word| word != "ok").collect());
        let providers = PROVIDERS.iter().map(|provider| provider.name).chain(["none", "other"]).map(str::to_owned);
        let providers: BTreeSet<String> = providers.collect();
        let catalog = Catalog::built_in().unwrap();
        let models = providers.iter().flat_map(|provider| catalog.served_by(provider).map(str::to_owned));
        let aliases = catalog.aliases().map(|(alias, _)| alias.to_owned());
        let models: BTreeSet<_> = models.chain(aliases).chain(["none", "other"].map(str::to_owned)).collect();
        for (name, set) in [("provider", &providers), ("gen_ai_provider_name", &providers)] {
            self.sets.insert(name.into(), set.clone());
        }
        for name in ["model", "gen_ai_request_model"] {
            self.sets.insert(name.into(), models.clone());
        }
        self.sets.insert("version".into(), [env!("CARGO_PKG_VERSION").to_owned()].into());
    }

    /// Whether a label of a series may have the value that it has.
    fn allows(&self, metric: &str, label: &str, value: &str) -> bool {
        let own = &self.metrics[metric].labels[label];
        match label {
            _ if !own.is_empty() => own.contains(value),
            "workspace" => ["none", "other"].contains(&value) || value.starts_with("ws_"),
            "credential" => value.starts_with("prov_"),
            _ => self.sets[label].contains(value),
        }
    }
}

/// The words between backquotes.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// `` `a` `b` = `x` `y`; `c` ``: three labels, one of them with its values.
fn labels_of(cell: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut labels = BTreeMap::new();
    for part in cell.split(';') {
        let (names, values) = part.split_once(" = ").unwrap_or((part, ""));
        let mut names = quoted(names);
        let last = names.pop().map(|last| (last, quoted(values).into_iter().collect()));
        labels.extend(names.into_iter().map(|name| (name, BTreeSet::new())).chain(last));
    }
    labels
}

fn metric<'a>(docs: &Docs, series: &'a Series) -> &'a str {
    let ends = ["_bucket", "_sum", "_count"];
    let base =
        ends.iter().find_map(|end| series.name.strip_suffix(end)).filter(|base| docs.metrics.contains_key(*base));
    base.unwrap_or(&series.name)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_documented_and_every_documented_one_is_there_with_the_labels_it_should_have() {
    let (world, page) = world().await;
    let _simulators = mixed_day(&world).await;
    let (_, page) = settled(&world, page).await;
    let docs = Docs::read();
    let shown = page.metrics();
    let names = |all: &mut dyn Iterator<Item = &String>| all.cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&mut shown.keys()), names(&mut docs.metrics.keys()), "left: the page, right: the documentation");
    for (name, (kind, labels)) in &shown {
        let documented = &docs.metrics[name];
        assert_eq!((kind, labels), (&documented.kind, &documented.labels.keys().cloned().collect()), "{name}");
    }
    for series in &page.series {
        for (label, value) in series.labels.iter().filter(|(label, _)| *label != "le") {
            assert!(docs.allows(metric(&docs, series), label, value), "{series:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_invent_names_do_not_make_the_page_longer() {
    let (world, page) = world().await;
    let openai = Simulator::start(Behaviour::new("openai")).await.unwrap();
    world.add("openai", &openai, |_| ());
    let ask = async |number: usize| {
        let (served, unknown) = (format!("openai/made-up-{number}"), format!("made-up-{number}"));
        assert_eq!(world.chat(&hello(&served)).await.status, 200);
        assert_eq!(world.chat(&hello(&unknown)).await.status, 404);
        let odd = world.chat_request(world.client()).header("x-request-id", &unknown).bearer_auth(&unknown);
        assert_eq!(Answer::of(odd.json(&hello("gpt-4o"))).await.status, 401);
    };
    for number in 0..2 {
        ask(number).await;
    }
    world.booked(4).await;
    let before = Scrape::of(page).await;
    for number in 2..40 {
        ask(number).await;
    }
    world.booked(80).await;
    let after = Scrape::of(page).await;
    let before: BTreeSet<_> = before.series.iter().map(|series| (&series.name, &series.labels)).collect();
    let new = after.series.iter().filter(|series| !before.contains(&(&series.name, &series.labels)));
    assert_eq!(new.collect::<Vec<_>>(), [] as [&Series; 0]);
    assert!(!after.text.contains("made-up"));
    assert_eq!(after.sum("perpetuo_requests_total", &[("reason", "client_model_not_found")]), 40.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_nothing_to_complain_about() {
    let promtool = |input: Stdio| Command::new("promtool").args(["check", "metrics"]).stdin(input).output();
    if promtool(Stdio::null()).is_err() {
        println!("skipped: no promtool");
        return;
    }
    let (world, page) = world().await;
    let _simulators = mixed_day(&world).await;
    let (_, page) = settled(&world, page).await;
    let file = world.dir.path().join("metrics.txt");
    std::fs::write(&file, &page.text).unwrap();
    let checked = within("promtool", async { promtool(std::fs::File::open(&file).unwrap().into()) }).await.unwrap();
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && said.is_empty(), "{said}");
}
