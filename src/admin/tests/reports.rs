//! What a workspace used, and how well its providers did.

use serde_json::{Value, json};

use super::World;
use crate::api::operation::Operation;
use crate::api::strategy::StrategyName;
use crate::money::Money;
use crate::store::{AttemptRecord, RequestRecord, Store};
use crate::usage::{Certainty, Usage};

fn attempt(number: u32, provider: &str, status: u16, input: u64) -> AttemptRecord {
    AttemptRecord {
        number,
        provider: provider.to_owned(),
        credential: "prov_1".to_owned(),
        model: "m".to_owned(),
        status,
        error: (status != 200).then(|| "provider_error".to_owned()),
        usage: Usage { input, ..Usage::default() },
        cost: Money(u128::from(input) * 2_500_000),
        certainty: Certainty::Exact,
        latency_ms: 300,
        first_token_ms: None,
        reason: None,
        passed_over: Vec::new(),
        cost_source: None,
        why: None,
        service_tier: None,
        upstream_request_id: None,
    }
}

fn request(id: &str, workspace: &str, at: &str, attempts: Vec<AttemptRecord>) -> RequestRecord {
    let last = attempts.last().unwrap();
    RequestRecord {
        request_id: id.to_owned(),
        workspace: workspace.to_owned(),
        key: "key_1".to_owned(),
        model: "gpt-4".to_owned(),
        model_served: None,
        provider: Some(last.provider.clone()),
        strategy: StrategyName::Default,
        operation: Operation::Chat,
        status: last.status,
        error: None,
        stream: false,
        client_gone: false,
        latency_ms: 400,
        first_token_ms: None,
        created_at: at.parse().unwrap(),
        attempts,
    }
}

/// Three requests of ours on three days, one of them after a failed attempt, and one of theirs.
pub(super) fn world() -> World {
    let world = World::new();
    let bookings = [
        request("r1", &world.ours, "2026-07-01T00:00:00Z", vec![attempt(1, "openai", 200, 1000)]),
        request(
            "r2",
            &world.ours,
            "2026-07-14T23:59:59Z",
            vec![attempt(1, "openai", 500, 0), attempt(2, "groq", 200, 10)],
        ),
        request("r3", &world.ours, "2026-07-15T10:00:00Z", vec![attempt(1, "groq", 200, 5)]),
        request("r4", &world.theirs, "2026-07-15T11:00:00Z", vec![attempt(1, "anthropic", 200, 7)]),
    ];
    world.store.append(&bookings).unwrap();
    world
}

#[tokio::test]
async fn usage_has_exactly_the_promised_shape() {
    let world = world();
    let groq = json!({"tokens": 15, "cost": 0.0000375});
    assert_eq!(
        world.get("/workspaces/{ws}/usage").await.json(),
        json!({
            "total_tokens": 1015, "total_cost": 0.0025375,
            "by_provider": {"groq": groq, "openai": {"tokens": 1000, "cost": 0.0025}}
        })
    );
    let week = world.get("/workspaces/{ws}/usage/by-provider?days=7").await.json();
    assert_eq!(week, json!({"groq": groq, "openai": {"tokens": 0, "cost": 0.0}}));
    let fresh = format!("/workspaces/{}/usage?days=1", world.theirs);
    assert_eq!(world.get(&fresh).await.json()["total_tokens"], 7);
}

#[tokio::test]
async fn what_is_not_sure_of_a_bill_is_told_beside_it_and_only_then() {
    let world = world();
    let doubtful = |number, certainty, why: &str| AttemptRecord {
        certainty,
        why: Some(why.to_owned()),
        cost: if certainty == Certainty::Unpriced { Money::ZERO } else { Money(2_000_000) },
        ..attempt(number, "groq", 200, 30)
    };
    let attempts = vec![
        doubtful(1, Certainty::Estimated, "client_gone"),
        doubtful(2, Certainty::Unpriced, "no_price"),
        doubtful(3, Certainty::Unpriced, "committed"),
    ];
    world.store.append(&[request("r9", &world.ours, "2026-07-15T12:00:00Z", attempts)]).unwrap();
    let usage = world.get("/workspaces/{ws}/usage").await.json();
    let doubts = |row: &Value| ["estimated_cost", "unpriced", "unpriced_tokens"].map(|name| row[name].clone());
    let expected = [json!(0.000_002), json!(2), json!(60)];
    assert_eq!(doubts(&usage), expected);
    assert_eq!(doubts(&usage["by_provider"]["groq"]), expected);
    assert!(usage["by_provider"]["openai"].get("unpriced").is_none(), "exact to the last cent: {usage}");
    for (path, row) in [("by-key", "key_1"), ("by-model", "m"), ("by-day", "2026-07-15")] {
        let groups = world.get(&format!("/workspaces/{{ws}}/usage/{path}")).await.json();
        assert_eq!(doubts(&groups[row]), expected, "{path}");
    }
    let log = world.get("/workspaces/{ws}/logs?details=true&limit=1").await.json();
    assert_eq!(log["logs"][0]["attempts"][1]["why"], "no_price");
    let table = world.get("/workspaces/{ws}/logs/export?format=csv&start_date=2026-07-15").await.text;
    assert!(table.lines().any(|line| line.contains(",estimated,") && line.contains(",client_gone,")), "{table}");
}

#[tokio::test]
async fn the_same_usage_is_told_by_key_by_model_by_day_and_along_time() {
    let world = world();
    let all = json!({"tokens": 1015, "cost": 0.0025375});
    assert_eq!(world.get("/workspaces/{ws}/usage/by-key").await.json(), json!({"key_1": all}));
    assert_eq!(world.get("/workspaces/{ws}/usage/by-model").await.json(), json!({"m": all}));
    assert_eq!(
        world.get("/workspaces/{ws}/usage/by-day?days=2").await.json(),
        json!({"2026-07-14": {"tokens": 10, "cost": 0.000025}, "2026-07-15": {"tokens": 5, "cost": 0.0000125}})
    );
    assert_eq!(
        world.get("/workspaces/{ws}/usage/series?interval=minute&provider=openai&days=2").await.json(),
        json!({"interval": "minute", "series": [
            {"start": "2026-07-14T23:59:00Z", "tokens": 0, "cost": 0.0, "attempts": 1, "errors": 1}
        ]})
    );
}

#[tokio::test]
async fn an_export_is_a_line_for_each_request_or_attempt_and_goes_on_at_its_cursor() {
    let world = world();
    let answer = world.get("/workspaces/{ws}/logs/export?limit=2").await;
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    let lines: Vec<Value> = answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line["request_id"].as_str().unwrap()).collect::<Vec<_>>(), ["r1", "r2"]);
    assert_eq!((&lines[0]["cost_usd"], &lines[0]["tokens"]), (&json!("0.0025"), &json!(1000)));
    assert_eq!(lines[1]["attempts"][0]["status"], 500);
    let cursor = lines[1]["cursor"].as_str().unwrap();
    let rest = world.get(&format!("/workspaces/{{ws}}/logs/export?format=csv&cursor={cursor}")).await;
    assert_eq!(rest.headers["content-type"], "text/csv; charset=utf-8");
    let rows: Vec<Vec<&str>> = rest.text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 2);
    let column = |name: &str| rows[0].iter().position(|column| *column == name).map(|at| rows[1][at]);
    assert_eq!(
        [column("request_id"), column("provider"), column("cost_usd")].map(Option::unwrap),
        ["r3", "groq", "0.0000125"]
    );
    let all = world.get("/workspaces/{ws}/logs/export?format=csv&start_date=2026-07-14&end_date=2026-07-14").await.text;
    assert_eq!(all.lines().count(), 3, "a line for each of two attempts: {all}");
}

#[tokio::test]
async fn days_are_whole_and_both_ends_count() {
    let world = world();
    for (query, tokens) in [
        ("days=1", 5),
        ("days=2", 15),
        ("days=14", 15),
        ("days=15", 1015),
        ("start_date=2026-07-14", 15),
        ("end_date=2026-07-14", 1010),
        ("start_date=2026-07-14&end_date=2026-07-14", 10),
        ("start_date=&end_date=", 1015),
        ("start_date=2030-01-01", 0),
    ] {
        let usage = world.get(&format!("/workspaces/{{ws}}/usage?{query}")).await.json();
        assert_eq!(usage["total_tokens"], tokens, "{query}");
    }
}

#[tokio::test]
async fn a_query_that_is_not_understood_is_refused_by_name() {
    let world = world();
    for (query, param) in [
        ("usage?days=0", "days"),
        ("usage?days=-1", "days"),
        ("usage?days=many", "days"),
        ("usage?days=99999999999", "days"),
        ("usage?days=1&days=2", "days"),
        ("usage?days=1&start_date=2026-07-01", "days"),
        ("usage?start_date=yesterday", "start_date"),
        ("usage?start_date=2026-02-30", "start_date"),
        ("usage?start_date=20260701", "start_date"),
        ("usage?end_date=2026-07-01T00:00", "end_date"),
        ("usage?start_date=2026-07-02&end_date=2026-07-01", "end_date"),
        ("usage?from=2026-07-01", "from"),
        ("usage/by-provider?page=1", "page"),
        ("usage/by-key?provider=openai", "provider"),
        ("usage/series?interval=week", "interval"),
        ("logs/export?format=xml", "format"),
        ("logs/export?cursor=first", "cursor"),
        ("logs/export?page=1", "page"),
        ("logs?page=0", "page"),
        ("logs?limit=0", "limit"),
        ("logs?limit=1001", "limit"),
        ("logs?status=ok", "status"),
        ("logs?model=gpt-4", "model"),
        ("performance/latency?x=1", "x"),
        ("performance/errors?days=a", "days"),
    ] {
        let answer = world.get(&format!("/workspaces/{{ws}}/{query}")).await;
        assert_eq!(answer.refused_param(), param, "{query}");
    }
}

#[tokio::test]
async fn the_log_is_paged_newest_first_and_is_ones_own() {
    let world = world();
    let ids = |page: &Value| -> Vec<String> {
        page["logs"].as_array().unwrap().iter().map(|row| row["request_id"].as_str().unwrap().to_owned()).collect()
    };
    let all = world.get("/workspaces/{ws}/logs").await.json();
    assert_eq!((&all["total"], &all["page"], &all["limit"]), (&json!(3), &json!(1), &json!(50)));
    assert_eq!(ids(&all), ["r3", "r2", "r1"]);
    assert_eq!(
        all["logs"][1],
        json!({
            "request_id": "r2", "model": "gpt-4", "provider": "groq", "tokens": 10, "cost": 0.000025,
            "status": 200, "latency_ms": 400, "created_at": "2026-07-14T23:59:59Z"
        })
    );
    for (query, wanted) in [
        ("page=2&limit=2", &["r1"][..]),
        ("page=3&limit=2", &[]),
        ("provider=groq&status=200", &["r3", "r2"]),
        ("status=500", &[]),
        ("end_date=2026-07-14", &["r2", "r1"]),
        ("page=1&limit=50&provider=&status=&start_date=&end_date=", &["r3", "r2", "r1"]),
    ] {
        let page = world.get(&format!("/workspaces/{{ws}}/logs?{query}")).await.json();
        assert_eq!(ids(&page), wanted, "{query}");
    }
}

#[tokio::test]
async fn performance_tells_each_providers_latency_and_failures() {
    let world = world();
    let latency = world.get("/workspaces/{ws}/performance/latency").await.json();
    assert_eq!(latency["openai"]["average_latency_ms"], 300);
    for name in ["p50_ms", "p90_ms", "p99_ms"] {
        let value = latency["groq"][name].as_f64().unwrap();
        assert!((270.0..=330.0).contains(&value), "{name}: {value}");
    }
    let today = world.get("/workspaces/{ws}/performance/errors").await.json();
    assert_eq!(today["openai"], json!({"error_rate": 0.5, "attempts": 2, "errors": 1}));
    assert_eq!(today["groq"], json!({"error_rate": 0.0, "attempts": 2, "errors": 0}));
    let failed_only = world.get("/workspaces/{ws}/performance/latency?days=2").await.json();
    assert_eq!(failed_only["openai"]["average_latency_ms"], Value::Null);
}
