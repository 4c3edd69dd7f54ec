//! Tokens that are right, and claims that are not. Not here: tokens as an attacker makes them (`forged`).

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::{HOUR, JWT_SECRET, World, jwt, now};
use crate::admin::auth::{Jwt, Role};

/// Claims that are right.
fn claims() -> Value {
    let iat = now().as_second();
    json!({"iss": "perpetuo", "aud": "perpetuo-admin", "sub": "me", "role": "admin", "iat": iat, "exp": iat + 3600})
}

/// The right claims with one changed, or without it.
fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    if claims[name].is_null() {
        claims.as_object_mut().unwrap().remove(name);
    }
    claims
}

fn hs256(claims: &Value) -> String {
    let key = EncodingKey::from_secret(JWT_SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
}

fn accepts(jwt: &Jwt, token: &str) -> bool {
    jwt.verify(token, now()).is_ok()
}

#[test]
fn what_is_minted_is_accepted_until_it_expires() {
    let jwt = jwt(JWT_SECRET);
    let token = jwt.mint(Role::Workspace, &["ws_1".to_owned()], HOUR, now()).unwrap();
    let identity = jwt.verify(&token, now()).unwrap();
    assert!(identity.sees("ws_1") && !identity.sees("ws_2") && !identity.sees(""));
    let at = |seconds: i64| jiff::Timestamp::from_second(now().as_second() + seconds).unwrap();
    assert!(jwt.verify(&token, at(3659)).is_ok());
    assert!(jwt.verify(&token, at(3660)).is_err());
    assert!(jwt.verify(&token, at(-60)).is_ok());
    assert!(jwt.verify(&token, at(-61)).is_err());
}

#[test]
fn nothing_is_minted_that_would_be_refused() {
    let jwt = jwt(JWT_SECRET);
    let refused = |role, workspaces: &[String], ttl| {
        let error = jwt.mint(role, workspaces, ttl, now()).unwrap_err();
        error.param().unwrap().to_owned()
    };
    assert_eq!(refused(Role::Admin, &[], 25 * HOUR), "ttl");
    assert_eq!(refused(Role::Admin, &[], std::time::Duration::from_millis(1)), "ttl");
    assert_eq!(refused(Role::Workspace, &[], HOUR), "workspaces");
}

/// Admin tokens: expired, not yet valid, another issuer or audience, a missing claim: refused.
#[test]
fn fault_67_wrong_or_missing_claims() {
    let jwt = jwt(JWT_SECRET);
    assert!(accepts(&jwt, &hs256(&claims())));
    assert!(accepts(&jwt, &hs256(&with("aud", json!(["other", "perpetuo-admin"])))));
    let iat = now().as_second();
    for (name, value) in [
        ("exp", json!(iat - 61)),
        ("exp", Value::Null),
        ("exp", json!("never")),
        ("exp", json!(i64::MAX)),
        ("exp", json!(u64::MAX)),
        ("exp", json!(iat + 24 * 3600 + 1)),
        ("iat", Value::Null),
        ("iat", json!(iat + 120)),
        ("iat", json!(i64::MIN)),
        ("nbf", json!(iat + 120)),
        ("aud", json!("other")),
        ("aud", json!([])),
        ("aud", json!({"perpetuo-admin": 1})),
        ("aud", Value::Null),
        ("iss", json!("other")),
        ("iss", json!(7)),
        ("iss", Value::Null),
        ("sub", Value::Null),
        ("role", json!("root")),
        ("role", json!("Admin")),
        ("role", Value::Null),
        ("workspaces", json!("ws_1")),
    ] {
        assert!(!accepts(&jwt, &hs256(&with(name, value.clone()))), "{name}: {value}");
    }
}

/// Admin tokens: every refusal is a 401 with the same text.
#[tokio::test]
async fn fault_67_one_text() {
    let world = World::new();
    let request = |value: &[&str]| {
        let mut request = http::Request::get("/workspaces");
        for value in value {
            request = request.header("authorization", *value);
        }
        request.body(axum::body::Body::empty()).unwrap()
    };
    let good = format!("Bearer {}", world.admin());
    let expired = format!("Bearer {}", hs256(&with("exp", json!(now().as_second() - 3600))));
    let missing = world.send(request(&[])).await;
    assert_eq!(missing.status, 401);
    for headers in [&["Basic dTpw"][..], &["Bearer"], &["Bearer x"], &[&expired], &[&good, &good], &[&good[7..]]] {
        let answer = world.send(request(headers)).await;
        assert_eq!((answer.status.as_u16(), &answer.text), (401, &missing.text), "{headers:?}");
    }
    assert_eq!(world.send(request(&[&good])).await.status, 200);
}
