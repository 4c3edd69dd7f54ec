//! Trace contexts in and out, and spans as a collector gets them, over real HTTP; and collectors that are down, slow or unwilling.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use perpetuo::config::{Config, Propagate, Secret};
use perpetuo::simulator::{Behaviour, Simulator, Step};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::support::{Hand, World, free_address, hello, hello_stream, within};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A collector of OpenTelemetry's spans.
pub struct Collector {
    pub url: String,
    posts: watch::Receiver<Vec<(HeaderMap, Value)>>,
}

#[derive(Clone)]
struct Desk {
    posts: watch::Sender<Vec<(HeaderMap, Value)>>,
    answers: Arc<Mutex<VecDeque<(StatusCode, Value)>>>,
}

impl Collector {
    /// One that answers so, and then takes everything.
    pub async fn start(answers: impl IntoIterator<Item = (u16, Value)>) -> Self {
        let answers = answers.into_iter().map(|(status, body)| (StatusCode::from_u16(status).unwrap(), body));
        let (sender, posts) = watch::channel(Vec::new());
        let desk = Desk { posts: sender, answers: Arc::new(Mutex::new(answers.collect())) };
        let router = Router::new().route("/v1/traces", post(take)).with_state(desk);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, posts }
    }

    /// Every span of the posts so far, once there are so many; of posts that were refused, too.
    pub async fn spans(&mut self, count: usize) -> Vec<Value> {
        let posts = self.posts.wait_for(|posts| all_spans(posts).len() >= count);
        let posts = within(&format!("{count} spans"), posts).await.unwrap().clone();
        all_spans(&posts)
    }

    /// Everything that was sent but for the headers, as text.
    pub fn text(&self) -> String {
        self.posts.borrow().iter().map(|(_, body)| format!("{body}\n")).collect()
    }
}

async fn take(
    State(desk): State<Desk>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> (StatusCode, axum::Json<Value>) {
    let body = serde_json::from_slice(&body).unwrap();
    let (status, answer) = desk.answers.lock().unwrap().pop_front().unwrap_or((StatusCode::OK, json!({})));
    desk.posts.send_modify(|posts| posts.push((headers, body)));
    (status, axum::Json(answer))
}

fn all_spans(posts: &[(HeaderMap, Value)]) -> Vec<Value> {
    let spans = posts.iter().flat_map(|(_, body)| body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array());
    spans.flatten().cloned().collect()
}

fn attribute(attributes: &Value, key: &str) -> Value {
    let found = attributes.as_array().unwrap().iter().find(|attribute| attribute["key"] == key);
    found.map_or(Value::Null, |attribute| attribute["value"].as_object().unwrap().values().next().unwrap().clone())
}

/// The spans of requests for a model; the world itself asks for a list.
fn of_chats(spans: Vec<Value>) -> Vec<Value> {
    spans.into_iter().filter(|span| span["name"] != "GET /v1/models").collect()
}

async fn exporting(url: &str, change: impl FnOnce(&mut Config)) -> World {
    let endpoint = url.parse().unwrap();
    World::start(|config| {
        config.tracing.endpoint = Some(endpoint);
        change(config);
    })
    .await
}

async fn simulator(behaviour: Behaviour) -> Simulator {
    Simulator::start(behaviour).await.unwrap()
}

/// Sends a chat request in a trace.
async fn traced(world: &World, body: &Value) -> crate::support::Answer {
    let request = world.chat_request(world.client()).header("traceparent", PARENT).header("tracestate", "rojo=1");
    crate::support::Answer::of(request.header("baggage", "user=alice").json(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_fell_back_is_one_trace_from_the_client_to_the_provider_that_served() {
    let mut collector = Collector::start([]).await;
    let world = exporting(&collector.url, |config| {
        config.tracing.headers = Some(Secret::new("authorization=Bearer%20collector-token-1,x-scope=a"));
    })
    .await;
    let failing = simulator(Behaviour::new("openai").always(Step::status(500))).await;
    let serving = simulator(Behaviour::new("groq").cached_tokens(2)).await;
    world.add("openai", &failing, |_| ());
    world.add("groq", &serving, |_| ());
    let answer = traced(&world, &hello_stream("gpt-4")).await;
    assert_eq!((answer.status, answer.attempts()), (200, 2));

    let spans = of_chats(collector.spans(4).await);
    assert_eq!(spans.len(), 3, "{spans:?}");
    let (request, attempts) = spans.split_first().unwrap();
    assert!(spans.iter().all(|span| span["traceId"] == TRACE && span["traceState"] == "rojo=1"));
    assert_eq!((&request["kind"], &request["parentSpanId"]), (&json!(2), &json!("00f067aa0ba902b7")));
    assert_eq!(answer.header("traceresponse"), format!("00-{TRACE}-{}-01", request["spanId"].as_str().unwrap()));
    assert_eq!(attribute(&request["attributes"], "perpetuo.request.id"), answer.header("x-request-id"));
    let record = world.booking().await;
    for ((attempt, record), seen) in attempts.iter().zip(&record.attempts).zip([failing.seen(), serving.seen()]) {
        let span = attempt["spanId"].as_str().unwrap();
        assert_eq!(
            seen[0].header("traceparent"),
            Some(format!("00-{TRACE}-{span}-01").as_str()),
            "as the provider saw it"
        );
        assert_eq!((seen[0].header("tracestate"), seen[0].header("baggage")), (Some("rojo=1"), None));
        assert_eq!(attempt["parentSpanId"], request["spanId"]);
        assert_eq!(attempt["name"], format!("chat {}", record.model));
        assert_eq!(attribute(&attempt["attributes"], "gen_ai.provider.name"), record.provider.as_str());
        assert_eq!(attribute(&attempt["attributes"], "server.address"), "127.0.0.1");
    }
    assert_eq!(attribute(&attempts[0]["attributes"], "error.type"), "provider_error");
    let usage = &record.attempts[1].usage;
    let tokens = |key: &str| attribute(&attempts[1]["attributes"], &format!("gen_ai.usage.{key}"));
    assert_eq!(tokens("input_tokens"), usage.prompt_tokens().to_string());
    assert_eq!(tokens("output_tokens"), usage.output.to_string());

    let posts = collector.posts.borrow();
    assert_eq!(posts[0].0["authorization"], "Bearer collector-token-1");
    assert_eq!(
        (&posts[0].0["x-scope"], &posts[0].0["content-type"]),
        (&"a".parse().unwrap(), &"application/json".parse().unwrap())
    );
    let resource = &posts[0].1["resourceSpans"][0]["resource"]["attributes"];
    assert_eq!(attribute(resource, "service.name"), "perpetuo");
    assert_eq!(attribute(resource, "service.version"), env!("CARGO_PKG_VERSION"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_export_the_clients_context_goes_on_as_it_came_and_none_is_made_up() {
    let world = World::plain().await;
    let openai = simulator(Behaviour::new("openai")).await;
    world.add("openai", &openai, |_| ());
    let answer = traced(&world, &hello("gpt-4o")).await;
    world.chat(&hello("gpt-4o")).await;
    world.chat_with("traceparent", "00-not-a-trace", &hello("gpt-4o")).await;
    let seen: Vec<_> = openai.seen().iter().map(|seen| seen.header("traceparent").map(str::to_owned)).collect();
    assert_eq!(seen, [Some(PARENT.to_owned()), None, None]);
    assert!(openai.seen()[0].header("baggage").is_none() && answer.header("traceresponse").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_are_told_nothing_where_the_operator_forbids_it() {
    let world = World::start(|config| config.tracing.propagate = Propagate::Never).await;
    let openai = simulator(Behaviour::new("openai")).await;
    world.add("openai", &openai, |_| ());
    traced(&world, &hello("gpt-4o")).await;
    assert!(openai.seen()[0].header("traceparent").is_none() && openai.seen()[0].header("tracestate").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_sampled_is_not_exported_and_the_client_decides_first() {
    let mut collector = Collector::start([]).await;
    let world = exporting(&collector.url, |config| config.tracing.sample = 0.0).await;
    let openai = simulator(Behaviour::new("openai")).await;
    world.add("openai", &openai, |_| ());
    world.chat(&hello("gpt-4o")).await;
    world.chat_with("traceparent", &PARENT.replace("-01", "-00"), &hello("gpt-4o")).await;
    traced(&world, &hello("gpt-4o")).await;
    let spans = collector.spans(2).await;
    assert_eq!(spans.len(), 2, "the last one alone: a request and its attempt");
    assert!(spans.iter().all(|span| span["traceId"] == TRACE));
    assert!(openai.seen()[1].header("traceparent").unwrap().ends_with("-00"), "and the provider is told so");
}

/// A counter of `/metrics`.
async fn counter(metrics: std::net::SocketAddr, name: &str) -> u64 {
    let text = reqwest::get(format!("http://{metrics}/metrics")).await.unwrap().text().await.unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name}")).parse::<f64>().unwrap() as u64
}

async fn until_counted(metrics: std::net::SocketAddr, name: &str, least: u64) {
    within(name, async {
        while counter(metrics, name).await < least {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

const DROPPED: &str = "perpetuo_trace_spans_dropped_total";
const EXPORTED: &str = "perpetuo_trace_spans_exported_total";

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_collector_is_asked_again_and_gets_every_span_once() {
    let mut collector = Collector::start([(503, json!({})), (429, json!({}))]).await;
    let metrics = free_address();
    let world = exporting(&collector.url, |config| {
        (config.metrics.enabled, config.metrics.listen) = (true, metrics);
    })
    .await;
    let openai = simulator(Behaviour::new("openai")).await;
    world.add("openai", &openai, |_| ());
    traced(&world, &hello("gpt-4o")).await;
    until_counted(metrics, EXPORTED, 3).await;
    assert_eq!(counter(metrics, DROPPED).await, 0);
    let posts = collector.posts.borrow_and_update().clone();
    assert!(posts.len() >= 3 && posts[0].1 == posts[1].1 && posts[1].1 == posts[2].1, "the same batch each time");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_collector_refuses_is_dropped_counted_and_not_sent_again() {
    let partly = json!({"partialSuccess": {"rejectedSpans": "1"}});
    let mut collector = Collector::start([(500, json!({})), (200, partly)]).await;
    let metrics = free_address();
    let world = exporting(&collector.url, |config| {
        (config.metrics.enabled, config.metrics.listen) = (true, metrics);
    })
    .await;
    let openai = simulator(Behaviour::new("openai")).await;
    world.add("openai", &openai, |_| ());
    until_counted(metrics, DROPPED, 1).await;
    traced(&world, &hello("gpt-4o")).await;
    until_counted(metrics, DROPPED, 2).await;
    assert_eq!(counter(metrics, EXPORTED).await, 1, "the rest of the second batch");
    assert_eq!(collector.posts.borrow_and_update().len(), 2);
}

/// A trace collector that is down or never answers costs a request nothing.
#[tokio::test(flavor = "multi_thread")]
async fn fault_81_collector_down() {
    let silent = Hand::start().await;
    let down = format!("http://{}", free_address());
    for url in [silent.url(), down] {
        let metrics = free_address();
        let mut world = exporting(&url, |config| {
            (config.metrics.enabled, config.metrics.listen) = (true, metrics);
        })
        .await;
        let openai = simulator(Behaviour::new("openai")).await;
        world.add("openai", &openai, |_| ());
        for _ in 0..20 {
            assert_eq!(traced(&world, &hello("gpt-4o")).await.status, 200);
        }
        assert_eq!(world.booked(20).await.len(), 20);
        within("the end, though spans wait", world.stop(true)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_wait_are_sent_before_the_gateway_ends() {
    let mut collector = Collector::start([]).await;
    let mut world = exporting(&collector.url, |_| ()).await;
    let openai = simulator(Behaviour::new("openai")).await;
    world.add("openai", &openai, |_| ());
    for _ in 0..10 {
        traced(&world, &hello("gpt-4o")).await;
    }
    world.stop(true).await;
    let posts = collector.posts.borrow_and_update().clone();
    assert_eq!(of_chats(all_spans(&posts)).len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_names_the_trace() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_owned();
    let mut collector = Collector::start([]).await;
    let world = exporting(&collector.url, |config| {
        config.log.access = perpetuo::config::AccessFormat::Json;
        config.log.access_file = Some(path);
    })
    .await;
    let openai = simulator(Behaviour::new("openai")).await;
    world.add("openai", &openai, |_| ());
    traced(&world, &hello("gpt-4o")).await;
    let spans = of_chats(collector.spans(3).await);
    let mut world = world;
    world.stop(true).await;
    let text = std::fs::read_to_string(file.path()).unwrap();
    let line: Value = serde_json::from_str(text.lines().find(|line| line.contains("chat")).unwrap()).unwrap();
    assert_eq!((&line["trace_id"], &line["parent_span_id"]), (&json!(TRACE), &json!("00f067aa0ba902b7")));
    assert_eq!((&line["span_id"], &line["attempts"][0]["span_id"]), (&spans[0]["spanId"], &spans[1]["spanId"]));
}
