//! The bill, to the pico-dollar: what is booked of each kind of answer, against prices multiplied by hand, the simulators'
//! own books, the reports and the metrics.

use std::time::Duration;

use perpetuo::config::Config;
use perpetuo::directory::CredentialChange;
use perpetuo::error::Error;
use perpetuo::money::Money;
use perpetuo::simulator::{Behaviour, Outcome, Seen, Simulator, Step, Truncation};
use perpetuo::store::{AttemptRecord, RequestRecord};
use perpetuo::usage::{Certainty, CostSource, Usage};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Hand, Scrape, World, free_address, hello, hello_stream, within};

/// A request whose prompt the simulators count as 100 tokens, and answer with 12.
fn hundred(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "word".repeat(100)}]})
}

async fn simulator(behaviour: Behaviour) -> Simulator {
    Simulator::start(behaviour).await.unwrap()
}

/// Asks and drains, stream or not.
async fn served(world: &World, body: &Value) -> Answer {
    let answer = world.chat(body).await;
    assert!(answer.status == 200 && answer.whole, "{}", answer.text());
    answer
}

fn only_attempt(record: &RequestRecord) -> &AttemptRecord {
    assert_eq!(record.attempts.len(), 1, "{record:?}");
    &record.attempts[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_dialect_is_billed_by_its_own_convention_streamed_or_not() {
    // 36 tokens at the full price, 64 from a cache, 12 of output; in dollars per million: gpt-4o 2.50, 1.25, 10;
    // claude-sonnet-4-6 3, 0.30, 15; gpt-oss-120b at Groq 0.15, 0.075, 0.60.
    let cases = [
        ("openai", "gpt-4o", 36 * 2_500_000 + 64 * 1_250_000 + 12 * 10_000_000),
        ("anthropic", "claude-sonnet-4-6", 36 * 3_000_000 + 64 * 300_000 + 12 * 15_000_000),
        ("groq", "openai/gpt-oss-120b", 36 * 150_000 + 64 * 75_000 + 12 * 600_000),
    ];
    let world = World::plain().await;
    let mut simulators = Vec::new();
    for (provider, _, _) in cases {
        simulators.push(simulator(Behaviour::new(provider).cached_tokens(64)).await);
        world.add(provider, simulators.last().unwrap(), |_| ());
    }
    for (place, (provider, model, cost)) in cases.into_iter().enumerate() {
        for stream in [false, true] {
            served(&world, &hundred(model, stream)).await;
            let record = world.booked(2 * place + usize::from(stream) + 1).await.pop().unwrap();
            let attempt = only_attempt(&record);
            let expected = Usage { input: 36, cached_read: 64, output: 12, ..Usage::default() };
            assert_eq!((attempt.provider.as_str(), attempt.usage), (provider, expected), "stream: {stream}");
            assert_eq!(
                (attempt.cost, attempt.certainty),
                (Money(cost), Certainty::Exact),
                "{provider}, stream: {stream}"
            );
            assert_eq!((record.tokens(), record.cost(), record.stream), (112, Money(cost), stream));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_client_reads_is_what_is_billed() {
    let world = World::plain().await;
    let [openai, anthropic] = [
        simulator(Behaviour::new("o").cached_tokens(64)).await,
        simulator(Behaviour::new("a").cached_tokens(64)).await,
    ];
    world.add("openai", &openai, |_| ());
    world.add("anthropic", &anthropic, |_| ());
    for (place, model) in ["gpt-4o", "claude-sonnet-4-6"].into_iter().enumerate() {
        let answer = served(&world, &hundred(model, false)).await;
        let whole = answer.json()["usage"].clone();
        let mut body = hundred(model, true);
        body["stream_options"] = json!({"include_usage": true});
        let events = served(&world, &body).await.events();
        let last: Value = serde_json::from_str(&events[events.len() - 2]).unwrap();
        for usage in [&whole, &last["usage"]] {
            let counts = [&usage["prompt_tokens"], &usage["completion_tokens"], &usage["total_tokens"]];
            assert_eq!(counts, [&json!(100), &json!(12), &json!(112)], "{model}: {usage}");
            assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 64, "{model}: {usage}");
            assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 0, "{model}: {usage}");
        }
        let cost = world.booked(2 * place + 2).await.pop().unwrap().cost().decimal();
        let headers = ["x-perpetuo-cost-usd", "x-perpetuo-cost-certainty"].map(|name| answer.header(name).to_owned());
        assert_eq!(headers, [cost.as_str(), "exact"], "{model}");
        assert_eq!(last["perpetuo"], json!({"cost_usd": cost, "cost_certainty": "exact"}), "{model}: {last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cost_that_nobody_knows_is_not_told() {
    let world = World::plain().await;
    let openai = simulator(Behaviour::new("openai")).await;
    world.add("openai", &openai, |_| ());
    let answer = served(&world, &hundred("openai/nobody-knows", false)).await;
    assert_eq!(answer.header("x-perpetuo-cost-certainty"), "unpriced");
    assert!(answer.headers.get("x-perpetuo-cost-usd").is_none());
    let mut body = hundred("openai/nobody-knows", true);
    body["stream_options"] = json!({"include_usage": true});
    let events = served(&world, &body).await.events();
    let last: Value = serde_json::from_str(&events[events.len() - 2]).unwrap();
    assert_eq!(last["perpetuo"], json!({"cost_usd": null, "cost_certainty": "unpriced"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_figure_that_comes_after_the_client_left_is_still_the_bill() {
    let (hand, world) = (Hand::start().await, World::plain().await);
    world.add_at("openai", &hand.url(), |_| ());
    let asked = world.chat_request(world.client()).json(&hundred("gpt-4o", true)).send();
    let asked = tokio::spawn(asked);
    let mut call = hand.request().await;
    call.send_stream_head().await;
    let chunk = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})
            .to_string()
    };
    call.send_event(&chunk(json!({"role": "assistant", "content": "hi"}), Value::Null)).await;
    call.send_event(&chunk(json!({}), json!("stop"))).await;
    let mut answer = within("a head", asked).await.unwrap().unwrap();
    let mut read = String::new();
    while !read.contains("\"stop\"") {
        read += std::str::from_utf8(&within("a chunk", answer.chunk()).await.unwrap().unwrap()).unwrap();
    }
    drop(answer);
    let usage = json!({"prompt_tokens": 31, "completion_tokens": 7, "total_tokens": 38});
    let figure = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": usage});
    call.send_event(&figure.to_string()).await;
    let record = world.booking().await;
    let attempt = only_attempt(&record);
    assert_eq!((record.client_gone, attempt.certainty), (true, Certainty::Exact));
    assert_eq!(attempt.usage, Usage { input: 31, output: 7, ..Usage::default() });
    assert_eq!(attempt.cost, Money(31 * 2_500_000 + 7 * 10_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_a_figure_is_estimated_by_what_it_says() {
    let text = "word".repeat(30);
    let answer = json!({"id": "a", "object": "chat.completion", "created": 1, "model": "gpt-4o", "choices": [
        {"index": 0, "finish_reason": "stop", "logprobs": null, "message": {"role": "assistant", "content": text}}]});
    let raw = Step::Raw {
        status: 200,
        content_type: "application/json".to_owned(),
        chunks: vec![(Duration::ZERO, answer.to_string().into())],
    };
    let openai = simulator(Behaviour::new("o").script([raw])).await;
    let world = World::plain().await;
    world.add("openai", &openai, |_| ());
    served(&world, &hello("gpt-4o")).await;
    let record = world.booking().await;
    let attempt = only_attempt(&record);
    assert_eq!((attempt.certainty, attempt.usage.output), (Certainty::Estimated, 30));
    assert_eq!(attempt.upstream_request_id.as_deref(), Some("req_sim00000000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_written_to_a_cache_have_their_own_price() {
    let answer = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-6",
        "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {
            "input_tokens": 10, "cache_creation_input_tokens": 1000, "cache_read_input_tokens": 500, "output_tokens": 7,
            "cache_creation": {"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 0},
        },
    });
    let raw = Step::Raw {
        status: 200,
        content_type: "application/json".to_owned(),
        chunks: vec![(Duration::ZERO, answer.to_string().into())],
    };
    let anthropic = simulator(Behaviour::new("a").script([raw])).await;
    let world = World::plain().await;
    world.add("anthropic", &anthropic, |_| ());
    let told = served(&world, &hello("claude-sonnet-4-6")).await.json()["usage"].clone();
    assert_eq!((&told["prompt_tokens"], &told["total_tokens"]), (&json!(1510), &json!(1517)));
    let record = world.booking().await;
    let attempt = only_attempt(&record);
    let expected = Usage { input: 10, cache_write: 1000, cached_read: 500, output: 7, ..Usage::default() };
    assert_eq!(attempt.usage, expected);
    assert_eq!(attempt.cost, Money(10 * 3_000_000 + 1000 * 3_750_000 + 500 * 300_000 + 7 * 15_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_choices_and_embeddings_are_billed_as_the_provider_counts_them() {
    let openai = simulator(Behaviour::new("openai")).await;
    let world = World::plain().await;
    world.add("openai", &openai, |_| ());
    let mut body = hundred("gpt-4o", false);
    body["n"] = json!(3);
    served(&world, &body).await;
    let embedding = json!({"model": "text-embedding-3-small", "input": ["word".repeat(10), "word".repeat(15)]});
    let request = world.request(Method::POST, "/v1/embeddings").json(&embedding);
    assert_eq!(Answer::of(request).await.status, 200);
    let records = world.booked(2).await;
    assert_eq!(only_attempt(&records[0]).usage.output, 36);
    let embedded = only_attempt(&records[1]);
    assert_eq!(embedded.usage, Usage { input: 25, ..Usage::default() });
    // 0.02 dollars per million.
    assert_eq!((embedded.cost, embedded.certainty), (Money(25 * 20_000), Certainty::Exact));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attempt_of_a_request_stands_in_its_record() {
    let failing = simulator(Behaviour::new("openai").always(Step::status(500))).await;
    let limited = simulator(Behaviour::new("groq").always(Step::retry_after(429, 1))).await;
    let cut =
        simulator(Behaviour::new("anthropic").always(Step::TruncateAfter { events: 1, how: Truncation::Clean })).await;
    let world = World::start(|config| config.retry.max_attempts = 4).await;
    for (provider, at) in [("openai", &failing), ("groq", &limited), ("anthropic", &cut)] {
        world.add(provider, at, |_| ());
    }
    let good = simulator(Behaviour::new("openai")).await;
    world.add("openai", &good, |_| ());
    let answer = served(&world, &hello("gpt-4")).await;
    assert_eq!(answer.attempts(), 4);

    let record = world.booking().await;
    let rows: Vec<_> = record
        .attempts
        .iter()
        .map(|attempt| (attempt.number, attempt.provider.as_str(), attempt.status, attempt.error.as_deref()))
        .collect();
    assert_eq!(rows[0], (1, "openai", 500, Some("provider_error")));
    assert_eq!(rows[1], (2, "groq", 429, Some("rate_limit_exceeded")));
    assert_eq!((rows[2].0, rows[2].1, rows[2].2), (3, "anthropic", 200));
    assert!(rows[2].3.is_some(), "an answer cut in half is a failure");
    assert_eq!(rows[3], (4, "openai", 200, None));
    for refused in &record.attempts[..2] {
        assert_eq!((refused.usage, refused.cost, refused.certainty), (Usage::default(), Money::ZERO, Certainty::Exact));
    }
    let halved = &record.attempts[2];
    assert_eq!(halved.certainty, Certainty::Estimated, "it answered, so it will bill something");
    assert!(halved.usage.input > 0 && halved.cost > Money::ZERO);
    let last = &record.attempts[3];
    assert_eq!(record.cost(), halved.cost + last.cost);
    let told = ["x-perpetuo-cost-usd", "x-perpetuo-cost-certainty"].map(|name| answer.header(name).to_owned());
    assert_eq!(told, [record.cost().decimal().as_str(), "estimated"], "the whole request, failed attempts included");
    assert_eq!((record.provider.as_deref(), record.status, &record.error), (Some("openai"), 200, &None));
    assert_eq!(record.model_served.as_deref(), Some(last.model.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_failed_everywhere_is_booked_with_its_failures() {
    let world = World::plain().await;
    let hanging = simulator(Behaviour::new("openai").always(Step::Hang)).await;
    world.add("openai", &hanging, |_| ());
    let mut body = hello("gpt-4o");
    body["timeout"] = json!(0.3);
    let answer = world.chat(&body).await;
    assert_eq!(answer.status, 504, "{}", answer.text());
    let record = world.booking().await;
    assert_eq!(record.status, 504);
    let attempt = only_attempt(&record);
    assert_eq!((attempt.certainty, attempt.usage.output), (Certainty::Estimated, 0));
    assert!(attempt.usage.input > 0, "the prompt was sent, so it may be billed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_a_price_is_unpriced_and_its_tokens_still_count() {
    let world = World::plain().await;
    let openai = simulator(Behaviour::new("openai")).await;
    world.add("openai", &openai, |_| ());
    for stream in [false, true] {
        served(&world, &hundred("openai/no-such-model-in-the-catalogue", stream)).await;
    }
    for record in world.booked(2).await {
        let attempt = only_attempt(&record);
        assert_eq!((attempt.certainty, attempt.cost), (Certainty::Unpriced, Money::ZERO));
        assert_eq!((attempt.why.as_deref(), attempt.cost_source), (Some("no_price"), None));
        assert_eq!(attempt.usage.total_tokens(), 112);
    }
    let usage = world.admin(Method::GET, &format!("/workspaces/{}/usage", world.workspace), None).await.json();
    assert_eq!((&usage["total_tokens"], &usage["total_cost"]), (&json!(224), &json!(0.0)));
    assert_eq!((&usage["unpriced"], &usage["unpriced_tokens"]), (&json!(2), &json!(224)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_can_refuse_models_without_a_price_before_anything_is_sent() {
    let world = World::plain().await;
    let simulators = [simulator(Behaviour::new("openai")).await, simulator(Behaviour::new("groq")).await];
    let unknown = |credential: &mut CredentialChange| {
        credential.models = Some([("gpt-4o".to_owned(), "no-such-model".to_owned())].into());
    };
    world.add("groq", &simulators[1], unknown);
    let choice = json!({"unpriced": "refuse"});
    let changed = world.admin(Method::PUT, &format!("/workspaces/{}", world.workspace), Some(&choice)).await.json();
    assert_eq!(changed["data"]["unpriced"], "refuse");

    let refused = world.chat(&hundred("gpt-4o", false)).await;
    let error = &refused.json()["error"];
    assert_eq!((refused.status, &error["code"], &error["param"]), (400, &json!("model_unpriced"), &json!("model")));
    assert!(error["message"].as_str().unwrap().contains("'gpt-4o'"), "{error}");
    assert_eq!(simulators[1].seen().len(), 0);

    world.add("openai", &simulators[0], |_| ());
    let route = format!("/workspaces/{}/route", world.workspace);
    let dry = &world.admin(Method::POST, &route, Some(&hundred("gpt-4o", false))).await.json()["data"];
    assert_eq!((&dry["excluded"][0]["provider"], &dry["excluded"][0]["reason"]), (&json!("groq"), &json!("no_price")));
    for _ in 0..3 {
        served(&world, &hundred("gpt-4o", false)).await;
    }
    assert_eq!((simulators[0].seen().len(), simulators[1].seen().len()), (3, 0), "who has a price serves");
    world.admin(Method::PUT, &format!("/workspaces/{}", world.workspace), Some(&json!({"unpriced": "allow"}))).await;
    served(&world, &hundred("groq/no-such-model", false)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_the_client_leaves_is_estimated_and_not_forgotten() {
    // Dollars per million: gpt-4o 2.50 and 10, claude-sonnet-4-6 3 and 15.
    let cases =
        [("openai", "gpt-4o", 2_500_000, 10_000_000), ("anthropic", "claude-sonnet-4-6", 3_000_000, 15_000_000)];
    let world = World::plain().await;
    let slow = Behaviour::new("slow").tokens(1000).token_delay(Duration::from_millis(20));
    for (place, (provider, model, input_price, output_price)) in cases.into_iter().enumerate() {
        let simulator = simulator(slow.clone()).await;
        world.add(provider, &simulator, |_| ());
        let mut stream = world.stream(&hundred(model, true)).await;
        for _ in 0..10 {
            stream.next().await.unwrap();
        }
        drop(stream);
        let seen = simulator.wait_until(|seen| seen[0].outcome == Outcome::Cancelled).await.unwrap();
        let record = world.booked(place + 1).await.pop().unwrap();
        assert_eq!((record.status, record.client_gone), (499, true));
        let AttemptRecord { usage, cost, certainty, error, why, .. } = only_attempt(&record);
        assert_eq!((*certainty, error.as_deref()), (Certainty::Estimated, Some("client_gone")));
        assert_eq!(why.as_deref(), Some("client_gone"));
        let expected = u128::from(usage.prompt_tokens()) * input_price + u128::from(usage.output) * output_price;
        assert_eq!(*cost, Money(expected));
        let (really, booked) = (&seen[0].billed, usage);
        assert!(booked.input >= really.input, "the prompt: {booked:?}, really {really:?}");
        assert!((5..1000).contains(&booked.output), "what passed and no more: {booked:?}, really {really:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_the_provider_cuts_is_estimated_too() {
    let world = World::plain().await;
    let cut = Step::TruncateAfter { events: 6, how: Truncation::Abort };
    let openai = simulator(Behaviour::new("openai").script([cut])).await;
    world.add("openai", &openai, |_| ());
    let answer = world.chat(&hundred("gpt-4o", true)).await;
    assert!(!answer.text().contains("[DONE]") && answer.text().contains("\"error\""), "{}", answer.text());
    let record = world.booking().await;
    let attempt = only_attempt(&record);
    assert_eq!((attempt.certainty, attempt.error.as_deref()), (Certainty::Estimated, Some("stream_truncated")));
    assert!(attempt.usage.input > 0 && attempt.usage.output >= 6, "{attempt:?}");
    assert_eq!(attempt.why.as_deref(), Some("truncated"));
    assert_eq!(record.error.as_deref(), Some("stream_truncated"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_before_it_is_whole_costs_what_came() {
    let world = World::plain().await;
    let text = "a ".repeat(500);
    let begun = format!(r#"{{"id":"c","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"#);
    let hanging = vec![(Duration::ZERO, begun.into()), (Duration::from_secs(60), "\"}}]}".into())];
    let content_type = "application/json".to_owned();
    let openai =
        simulator(Behaviour::new("openai").script([Step::Raw { status: 200, content_type, chunks: hanging }])).await;
    world.add("openai", &openai, |_| ());
    let mut body = hundred("gpt-4o", false);
    body["timeout"] = json!(1);
    assert_eq!(world.chat(&body).await.status, 504);
    let record = world.booking().await;
    let attempt = only_attempt(&record);
    assert_eq!((attempt.certainty, attempt.why.as_deref()), (Certainty::Estimated, Some("timeout")));
    assert!(attempt.usage.input > 0 && (250..350).contains(&attempt.usage.output), "{attempt:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_says_that_it_charges_is_what_is_booked() {
    let world = World::plain().await;
    let answer = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop",
        "message":{"role":"assistant","content":"Hi"}}],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10,
        "cost":0.0076509169}}"#;
    let content_type = "application/json".to_owned();
    let step = Step::Raw { status: 200, content_type, chunks: vec![(Duration::ZERO, answer.into())] };
    let simulator = simulator(Behaviour::new("openrouter").script([step.clone(), step])).await;
    for provider in ["openrouter", "custom"] {
        world.add(provider, &simulator, |credential| {
            credential.base_url = Some(Some(format!("{}/v1", simulator.url())))
        });
    }
    for model in ["openrouter/some/unknown-model", "custom/some/unknown-model"] {
        assert_eq!(world.chat(&hundred(model, false)).await.status, 200, "{model}");
    }
    let records = world.booked(2).await;
    let [reported, custom] = [0, 1].map(|place| only_attempt(&records[place]));
    assert_eq!((reported.cost, reported.certainty), (Money(7_650_916_900), Certainty::Exact));
    assert_eq!((reported.cost_source, reported.why.as_deref()), (Some(CostSource::Reported), None));
    assert_eq!(custom.certainty, Certainty::Unpriced, "nobody knows in what a server of one's own counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_catalogue_holds_from_the_reload_on_and_what_is_booked_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("models.toml");
    let model = "[[model]]\nname = \"gpt-4o\"\nprovider = \"openai\"\ninput = 1\noutput = 2\n";
    std::fs::write(&path, model).unwrap();
    let world = World::start(|config| config.models = Some(path.clone())).await;
    let openai = simulator(Behaviour::new("openai")).await;
    world.add("openai", &openai, |_| ());
    served(&world, &hundred("gpt-4o", false)).await;
    let changes = "[[model.prices]]\nfrom = 2020-01-01\ninput = 3\noutput = 4\n\
        [[model.prices]]\nfrom = 2999-01-01\ninput = 100\noutput = 100\n";
    std::fs::write(&path, format!("{model}{changes}")).unwrap();
    world.gateway.reload(|| Ok::<_, Error>(Config::clone(&world.gateway.config()))).unwrap();
    served(&world, &hundred("gpt-4o", false)).await;
    let costs: Vec<Money> = world.booked(2).await.iter().map(RequestRecord::cost).collect();
    assert_eq!(costs, [Money(100 * 1_000_000 + 12 * 2_000_000), Money(100 * 3_000_000 + 12 * 4_000_000)]);
    let usage = world.admin(Method::GET, &format!("/workspaces/{}/usage", world.workspace), None).await.json();
    assert_eq!(usage["total_cost"], json!((costs[0] + costs[1]).dollars()));
}

/// Sums of a simulator's books.
fn billed(seen: &[Seen]) -> Usage {
    seen.iter().fold(Usage::default(), |sum, seen| Usage {
        input: sum.input + seen.billed.input,
        cached_read: sum.cached_read + seen.billed.cached_read,
        output: sum.output + seen.billed.output,
        ..sum
    })
}

/// Three providers, and traffic of every kind through them: fallbacks, streams, both dialects, no price.
async fn busy_day(world: &World) -> Vec<(&'static str, Simulator)> {
    let flaky = [Step::status(500), Step::status(503)];
    let openai = simulator(Behaviour::new("openai").cached_tokens(10).script(flaky)).await;
    let anthropic = simulator(Behaviour::new("anthropic").cached_tokens(5).tokens(20)).await;
    let groq = simulator(Behaviour::new("groq").tokens(33)).await;
    let all = vec![("openai", openai), ("anthropic", anthropic), ("groq", groq)];
    for (provider, at) in &all {
        world.add(provider, at, |_| ());
    }
    for model in ["gpt-4", "gpt-4o", "claude-v2", "openai/gpt-oss-20b", "openai/unpriced", "gpt-4", "claude-sonnet-4-6"]
    {
        served(world, &hundred(model, false)).await;
        served(world, &hundred(model, true)).await;
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn our_books_are_the_providers_books() {
    let world = World::plain().await;
    let simulators = busy_day(&world).await;
    let records = world.booked(14).await;
    let fallbacks = records.iter().filter(|record| record.attempts.len() > 1).count();
    assert_eq!(fallbacks, 2, "the day had both failures");
    for (provider, simulator) in &simulators {
        let ours = records.iter().flat_map(|record| &record.attempts).filter(|attempt| attempt.provider == *provider);
        let (mut sum, mut attempts) = (Usage::default(), 0);
        for AttemptRecord { usage, .. } in ours {
            sum.input += usage.input;
            sum.cached_read += usage.cached_read;
            sum.output += usage.output;
            attempts += 1;
        }
        let seen = simulator.seen();
        assert_eq!((sum, attempts), (billed(&seen), seen.len()), "{provider}");
        assert!(sum.output > 0, "{provider} served something");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_the_log_and_the_metrics_tell_the_same() {
    let metrics = free_address();
    let world = World::start(|config| {
        config.metrics.enabled = true;
        config.metrics.listen = metrics;
    })
    .await;
    busy_day(&world).await;
    let records = world.booked(14).await;
    let at = |path: &str| format!("/workspaces/{}{path}", world.workspace);
    let usage = world.admin(Method::GET, &at("/usage"), None).await.json();
    let logs = world.admin(Method::GET, &at("/logs?limit=1000"), None).await.json();

    let tokens: u64 = records.iter().map(RequestRecord::tokens).sum();
    let cost: Money = records.iter().map(RequestRecord::cost).sum();
    assert_eq!((&usage["total_tokens"], &usage["total_cost"]), (&json!(tokens), &json!(cost.dollars())));
    let rows = logs["logs"].as_array().unwrap();
    assert_eq!(rows.len(), 14);
    assert_eq!(rows.iter().map(|row| row["tokens"].as_u64().unwrap()).sum::<u64>(), tokens);
    close(rows.iter().map(|row| row["cost"].as_f64().unwrap()).sum(), cost.dollars(), "the log");

    let scraped = Scrape::of(metrics).await;
    for (provider, row) in usage["by_provider"].as_object().unwrap() {
        let label = [("provider", provider.as_str())];
        assert_eq!(scraped.sum("perpetuo_tokens_total", &label), row["tokens"].as_f64().unwrap(), "{provider}");
        close(scraped.sum("perpetuo_cost_usd_total", &label), row["cost"].as_f64().unwrap(), provider);
    }
    let attempts: usize = records.iter().map(|record| record.attempts.len()).sum();
    assert_eq!(scraped.sum("perpetuo_requests_total", &[]), 14.0);
    assert_eq!(scraped.sum("perpetuo_attempts_total", &[]), attempts as f64);
    assert_eq!(scraped.sum("perpetuo_fallbacks_total", &[("provider", "openai")]), 2.0);
    assert_eq!(scraped.sum("perpetuo_unpriced_total", &[("provider", "openai")]), 2.0);
    assert_eq!(scraped.sum("gen_ai_server_request_duration_seconds_count", &[]), 14.0);
    assert_eq!(scraped.sum("perpetuo_ledger_dropped_total", &[]), 0.0);
    assert!(scraped.sum("perpetuo_overhead_seconds_count", &[]) >= 14.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_reached_a_provider_costs_nothing_and_is_still_answered_for() {
    let world = World::plain().await;
    let openai = simulator(Behaviour::new("openai")).await;
    world.add("openai", &openai, |_| ());
    assert_eq!(world.chat(&hello("no-such-model")).await.status, 404);
    assert_eq!(world.chat_with("X-Perpetuo-Route", "quickest", &hello_stream("gpt-4o")).await.status, 400);
    let record = world.booking().await;
    assert_eq!((record.status, record.error.as_deref()), (404, Some("model_not_found")));
    assert!(record.attempts.is_empty() && record.cost() == Money::ZERO);
    assert!(openai.seen().is_empty());
}

/// A request id that a client repeats makes nothing free: each attempt is booked once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fault_70_repeated_request_id() {
    let world = World::plain().await;
    let openai = simulator(Behaviour::new("openai")).await;
    world.add("openai", &openai, |_| ());
    const REQUESTS: usize = 400;
    let body = hundred("gpt-4o", false);
    let mut sent = tokio::task::JoinSet::new();
    for _ in 0..REQUESTS {
        let request = world.chat_request(world.client()).header("x-request-id", "always-the-same").json(&body);
        sent.spawn(async move { request.send().await.unwrap().bytes().await.unwrap() });
    }
    sent.join_all().await;
    let usage = world.admin(Method::GET, &format!("/workspaces/{}/usage", world.workspace), None).await.json();
    assert_eq!(usage["total_tokens"], billed(&openai.seen()).total_tokens());
    assert_eq!(world.booked(REQUESTS).await.len(), REQUESTS);
}

fn close(one: f64, other: f64, what: &str) {
    assert!((one - other).abs() < 1e-12, "{what}: {one} is not {other}");
}
