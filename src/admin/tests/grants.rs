//! What a caller can grant: never more than it has itself.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{World, now};
use crate::money::{Money, PICO_PER_DOLLAR};
use crate::quota::{Amount, Reservation, When};

/// Names that a body could carry to give itself more than its maker has, or somebody else's identity.
const PRESUMPTIONS: [&str; 20] = [
    "workspace",
    "workspaces",
    "workspace_id",
    "id",
    "key",
    "hash",
    "pepper",
    "sealed",
    "last_four",
    "role",
    "roles",
    "admin",
    "scope",
    "scopes",
    "permissions",
    "allowed_routes",
    "created_at",
    "revoked_at",
    "owner",
    "sub",
];

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Some limits, none or all of them; small numbers, so that they meet each other.
fn limits(in_flight: bool) -> impl Strategy<Value = Map<String, Value>> {
    let names = ["requests_per_minute", "tokens_per_minute", "usd_per_day", "usd_per_month", "max_in_flight"];
    let count = if in_flight { names.len() } else { names.len() - 1 };
    prop::collection::vec(prop::option::of(0_u8..6), count).prop_map(move |numbers| {
        let written = names.iter().zip(numbers);
        written.filter_map(|(name, number)| Some(((*name).to_owned(), json!(number?)))).collect()
    })
}

/// Whether no limit of the first lies above that of the second.
fn within(inner: &Map<String, Value>, outer: &Map<String, Value>) -> bool {
    let number = |value: &Value| value.as_u64().unwrap();
    inner.iter().all(|(name, value)| outer.get(name).is_none_or(|most| number(value) <= number(most)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whoever makes a key, it is made if its limits lie within the workspace's, and then no request of it passes either.
    #[test]
    fn a_key_is_never_allowed_more_than_its_workspace(
        outer in limits(true),
        inner in limits(false),
        by_admin: bool,
    ) {
        block_on(async {
            let world = World::new();
            let workspace = format!("/workspaces/{}", world.ours);
            let set = world.call(&format!("PUT {workspace}"), json!({"limits": outer})).await;
            assert_eq!(set.status, 200, "{}", set.text);
            let token = if by_admin { world.admin() } else { world.tenant() };
            let asked = json!({"limits": inner}).to_string();
            let made = world.call_as(&token, &format!("POST {workspace}/api-keys"), asked).await;
            if !within(&inner, &outer) {
                let param = made.refused_param();
                let name = param.strip_prefix("limits.").unwrap();
                assert!(!within(&[(name.to_owned(), inner[name].clone())].into_iter().collect(), &outer));
                return;
            }
            assert_eq!(made.status, 201, "{}", made.text);
            let caller = world.directory.authenticate(made.data()["key"].as_str().unwrap(), now()).unwrap();
            let amount = Amount { tokens: 1, cost: Money(PICO_PER_DOLLAR) };
            let taken: Vec<Reservation> = std::iter::from_fn(|| {
                Reservation::take(&caller.subjects(), amount, When { ms: 0, at: now() }).ok()
            })
            .take(20)
            .collect();
            let least = outer.iter().chain(&inner).filter(|(name, _)| *name != "max_in_flight");
            let least = least.filter_map(|(_, value)| value.as_u64()).min();
            assert_eq!(taken.len() as u64, least.unwrap_or(20));
        });
    }
}

/// The limits of a workspace are lowered after its key was made.
#[tokio::test]
async fn a_key_is_bound_by_what_its_workspace_may_now() {
    let world = World::new();
    let made = world.call("POST /workspaces/{ws}/api-keys", json!({"limits": {"requests_per_minute": 5}})).await.data();
    world.call("PUT /workspaces/{ws}", json!({"limits": {"requests_per_minute": 1}})).await;
    let caller = world.directory.authenticate(made["key"].as_str().unwrap(), now()).unwrap();
    let take = || Reservation::take(&caller.subjects(), Amount::default(), When { ms: 0, at: now() });
    let _first = take().unwrap();
    assert_eq!(take().unwrap_err().whose, "workspace");
}

#[tokio::test]
async fn no_body_names_its_own_rights() {
    let world = World::new();
    let before = format!("{:?}", crate::store::Store::tenancy(&*world.store).unwrap());
    for (route, body) in [
        ("POST /workspaces", json!({"name": "x"})),
        ("PUT /workspaces/{ws}", json!({})),
        ("POST /workspaces/{ws}/api-keys", json!({"name": "x"})),
        ("POST /workspaces/{ws}/providers", json!({"provider": "openai", "api_key": "sk-0123456789"})),
    ] {
        for name in PRESUMPTIONS {
            for token in [world.admin(), world.tenant()] {
                let mut body = body.clone();
                body[name] = json!(world.theirs);
                let answer = world.call_as(&token, route, body.to_string()).await;
                let role = answer.status == 403 && route == "POST /workspaces";
                assert!(role || answer.refused_param() == name, "{route} takes {name}: {}", answer.text);
            }
        }
    }
    assert_eq!(before, format!("{:?}", crate::store::Store::tenancy(&*world.store).unwrap()));
}

#[tokio::test]
async fn only_a_workspace_bounds_what_is_under_way() {
    let world = World::new();
    let refused = world.call("POST /workspaces/{ws}/api-keys", json!({"limits": {"max_in_flight": 1}})).await;
    assert_eq!(refused.refused_param(), "limits.max_in_flight");
}

#[tokio::test]
async fn a_tenant_grants_itself_nothing() {
    let world = World::new();
    let call = |route: &'static str, body: &'static str| {
        let token = world.tenant();
        let world = &world;
        async move { world.call_as(&token, route, body).await }
    };
    assert_eq!(call("POST /workspaces", r#"{"name":"x"}"#).await.status, 403);
    assert_eq!(call("POST /workspaces", "not even JSON").await.status, 403);
    assert_eq!(call("PUT /workspaces/{ws}", r#"{"limits":{}}"#).await.status, 403);

    // What has no price passes any budget: who lives under one can close that way and not open it.
    let unpriced = |what: &str| json!({ "unpriced": what }).to_string();
    let put = async |token: String, body: String| world.call_as(&token, "PUT /workspaces/{ws}", body).await.status;
    assert_eq!(put(world.tenant(), unpriced("refuse")).await, 200);
    assert_eq!(put(world.tenant(), unpriced("allow")).await, 200, "there is no budget");
    assert_eq!(put(world.admin(), json!({"limits": {"usd_per_day": 5}}).to_string()).await, 200);
    assert_eq!(put(world.tenant(), unpriced("refuse")).await, 200);
    assert_eq!(put(world.tenant(), unpriced("allow")).await, 403);
    assert_eq!(put(world.admin(), unpriced("allow")).await, 200);
}

/// A token names its workspaces letter by letter.
#[tokio::test]
async fn a_token_with_patterns_for_workspaces_sees_nothing() {
    let world = World::new();
    let patterns = ["*", "", "ws_*", "ws_", "%", "/", "..", &world.ours.to_uppercase(), &world.ours[..30]];
    let patterns = patterns.map(str::to_owned);
    let token = world.jwt.mint(crate::admin::auth::Role::Workspace, &patterns, super::HOUR, now()).unwrap();
    assert_eq!(world.call_as(&token, "GET /workspaces", "").await.data(), json!([]));
    for path in [&*world.ours, "*", "%2a", "ws_", ".."] {
        assert_eq!(world.call_as(&token, &format!("GET /workspaces/{path}"), "").await.status, 404, "{path}");
    }
}
