//! Every route of the table, for every kind of caller: what each is answered is what the rules below say, and nothing else.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Answered, HOUR, JWT_SECRET, World, jwt, now};
use crate::admin::auth::Role;
use crate::admin::routes;
use crate::store::Store;

/// Routes that only an admin may use, even in a workspace that is one's own.
const ADMIN_ALONE: [&str; 2] = ["POST /workspaces", "DELETE /workspaces/{ws}"];

/// What is answered to whom: a status below 300, or this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Served,
    Refused(u16),
}

/// The rules. Whatever a caller may not see is not there; a route that is not of [`ADMIN_ALONE`] is for whoever sees its workspace.
const RULES: [Rule; 7] = {
    use Answer::{Refused, Served};
    let refused = Refused(401);
    [
        Rule { caller: "admin", seen: Served, admin_alone: Served, foreign: Served, absent: Refused(404) },
        Rule { caller: "tenant", seen: Served, admin_alone: Refused(403), foreign: Refused(404), absent: Refused(404) },
        Rule { caller: "nobody", seen: refused, admin_alone: refused, foreign: refused, absent: refused },
        Rule { caller: "nonsense", seen: refused, admin_alone: refused, foreign: refused, absent: refused },
        Rule { caller: "expired", seen: refused, admin_alone: refused, foreign: refused, absent: refused },
        Rule { caller: "forger", seen: refused, admin_alone: refused, foreign: refused, absent: refused },
        Rule { caller: "virtual key", seen: refused, admin_alone: refused, foreign: refused, absent: refused },
    ]
};

/// What one caller is answered: in a workspace that its token may name, where only an admin may, in one that is another's, and in
/// one that does not exist.
struct Rule {
    caller: &'static str,
    seen: Answer,
    admin_alone: Answer,
    foreign: Answer,
    absent: Answer,
}

/// A workspace with something of everything in it.
struct House {
    workspace: String,
    credential: String,
    key: String,
    /// The virtual key itself.
    secret: String,
}

impl House {
    async fn furnish(world: &World) -> Self {
        let workspace = world.call("POST /workspaces", json!({"name": "a house of secrets"})).await.id();
        let body = json!({"provider": "openai", "api_key": "sk-0123456789", "models": {"a private name": "gpt-4o"}});
        let credential = world.call(&format!("POST /workspaces/{workspace}/providers"), body).await.id();
        let made = world.call(&format!("POST /workspaces/{workspace}/api-keys"), json!({})).await;
        let secret = made.data()["key"].as_str().unwrap().to_owned();
        Self { workspace, credential, key: made.id(), secret }
    }

    /// Ids that nothing has.
    fn nowhere() -> Self {
        let id = |kind: &str| format!("{kind}_{}", "0".repeat(32));
        Self { workspace: id("ws"), credential: id("prov"), key: id("key"), secret: String::new() }
    }

    /// What stands for `{id}` in this path.
    fn item(&self, path: &str) -> &str {
        match path.split('/').nth(3) {
            Some("providers") => &self.credential,
            Some("api-keys") => &self.key,
            _ => panic!("what is the id in {path}?"),
        }
    }
}

/// Every route as `METHOD /path`.
fn all() -> impl Iterator<Item = String> {
    routes().map(|(method, path)| format!("{method} {path}"))
}

/// A route in one workspace, of an item of perhaps another.
fn filled(route: &str, place: &House, item: &House) -> String {
    let id = if route.contains("{id}") { item.item(route) } else { "" };
    let query = if route.ends_with("/usage/series") { "?interval=hour" } else { "" };
    format!("{}{query}", route.replace("{ws}", &place.workspace).replace("{id}", id))
}

/// A body that the route takes. A new route that needs one is added here: without, the admin is refused and the test fails.
fn body(route: &str) -> &'static str {
    match route {
        "POST /workspaces" | "PUT /workspaces/{ws}" => r#"{"name":"x"}"#,
        "POST /workspaces/{ws}/providers" => r#"{"provider":"openai","api_key":"sk-0123456789"}"#,
        "PUT /workspaces/{ws}/providers/{id}" => r#"{"priority":5}"#,
        "POST /workspaces/{ws}/api-keys" | "POST /workspaces/{ws}/route" => "{}",
        _ => "",
    }
}

/// The bearer of this caller, who lives in this house.
fn bearer(world: &World, caller: &str, home: &House) -> String {
    let own = std::slice::from_ref(&home.workspace);
    let past = now() - Duration::from_secs(2 * 3600);
    match caller {
        "admin" => world.jwt.mint(Role::Admin, &[], HOUR, now()).unwrap(),
        "tenant" => world.jwt.mint(Role::Workspace, own, HOUR, now()).unwrap(),
        "expired" => world.jwt.mint(Role::Admin, &[], HOUR, past).unwrap(),
        "forger" => jwt(&JWT_SECRET.to_uppercase()).mint(Role::Admin, &[], HOUR, now()).unwrap(),
        "virtual key" => home.secret.clone(),
        "nonsense" => "x.y.z".to_owned(),
        _ => String::new(),
    }
}

fn assert_answer(route: &str, caller: &str, place: &str, wanted: Answer, answer: &Answered) {
    let met = match wanted {
        Answer::Served => answer.status.is_success(),
        Answer::Refused(status) => answer.status == status,
    };
    assert!(met, "{caller}, {place}: {route}: {wanted:?} and not {} {}", answer.status, answer.text);
    assert_eq!(answer.headers["cache-control"], "no-store", "{route}");
    if answer.status == 401 {
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
}

#[tokio::test]
async fn every_route_answers_every_caller_as_the_rules_say() {
    let world = World::new();
    for route in all() {
        for rule in &RULES {
            // New ones each time: the last route of a workspace deletes it.
            let (home, foreign) = (House::furnish(&world).await, House::furnish(&world).await);
            let token = bearer(&world, rule.caller, &home);
            let ask = async |place: &House, item: &House| {
                world.call_as(&token, &filled(&route, place, item), body(&route)).await
            };
            let alone = ADMIN_ALONE.contains(&&*route);
            if route.contains("{ws}") {
                let absent = ask(&House::nowhere(), &home).await;
                assert_answer(&route, rule.caller, "absent", rule.absent, &absent);
                let before = format!("{:?}", world.store.tenancy().unwrap());
                let theirs = ask(&foreign, &foreign).await;
                assert_answer(&route, rule.caller, "foreign", rule.foreign, &theirs);
                if rule.foreign != Answer::Served {
                    assert_eq!(told(&theirs), told(&absent), "{route} tells that it exists");
                    assert_eq!(before, format!("{:?}", world.store.tenancy().unwrap()), "{route} changed something");
                }
            }
            let wanted = if alone { rule.admin_alone } else { rule.seen };
            assert_answer(&route, rule.caller, "own", wanted, &ask(&home, &home).await);
        }
    }
}

/// An own workspace in the path, and behind it the id of something of another's.
#[tokio::test]
async fn something_of_another_workspace_is_as_absent_as_what_never_was() {
    let world = World::new();
    let (home, foreign) = (House::furnish(&world).await, House::furnish(&world).await);
    let before = format!("{:?}", world.store.tenancy().unwrap());
    let mut tried = 0;
    for route in all().filter(|route| route.contains("{id}")) {
        for caller in ["tenant", "admin"] {
            let token = bearer(&world, caller, &home);
            let crossed = world.call_as(&token, &filled(&route, &home, &foreign), body(&route)).await;
            let nothing = world.call_as(&token, &filled(&route, &home, &House::nowhere()), body(&route)).await;
            assert_eq!(crossed.status, 404, "{caller}: {route}: {}", crossed.text);
            assert_eq!(told(&crossed), told(&nothing), "{route} tells that it exists");
            tried += 1;
        }
    }
    assert!(tried >= 14, "only {tried}");
    assert_eq!(before, format!("{:?}", world.store.tenancy().unwrap()), "something was changed");
}

/// An answer, byte for byte.
fn told(answer: &Answered) -> String {
    format!("{} {:?} {}", answer.status, answer.headers, answer.text)
}

/// Routes without a workspace show a tenant its own alone.
#[tokio::test]
async fn what_is_about_all_workspaces_shows_those_that_the_token_names() {
    let world = World::new();
    let (home, foreign) = (House::furnish(&world).await, House::furnish(&world).await);
    let token = bearer(&world, "tenant", &home);
    for route in all().filter(|route| route.starts_with("GET ") && !route.contains("{ws}")) {
        let answer = world.call_as(&token, &route, "").await;
        assert_eq!(answer.status, 200, "{route}");
        for secret in [&foreign.workspace, &world.ours, &world.theirs, &foreign.credential, &foreign.key] {
            assert!(!answer.text.contains(secret), "{route} shows {secret}");
        }
    }
    let listed = world.call_as(&token, "GET /workspaces", "").await.data();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["id"], Value::from(home.workspace));
}

#[tokio::test]
async fn a_path_or_method_that_is_not_there_says_so() {
    let world = World::new();
    for path in [
        "/",
        "/nothing",
        "/workspaces/",
        "/workspaces/{ws}/nothing",
        "/workspaces/%ff",
        "/workspaces/{ws}/providers/%ff",
    ] {
        let answer = world.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.json()["error"]["message"].is_string(), "{path}");
    }
    let answer = world.call("PATCH /workspaces/{ws}", json!({})).await;
    assert_eq!(answer.status, 405);
    assert_eq!(answer.json()["error"]["code"], "method_not_allowed");
    let allow = answer.headers["allow"].to_str().unwrap();
    assert!(["GET", "PUT", "DELETE"].iter().all(|method| allow.contains(method)), "{allow}");
}
