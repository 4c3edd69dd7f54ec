//! Service accounts: their signed word is exchanged for a token, once, and the token is used until shortly before its end.

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::support::{Answer, Call, Hand, World, hello, within};

/// A key that was made for this test and opens nothing.
const PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQCbTq0+wXCw8OtN
wV1dcLPTBgxy+xbo0/jUKfczkWdxfYr8CHpLijQI/Dj2/AndVRRLGFyfRuiBVQgt
E5SPzqzQLaLIL9NH6u4fzc+eFV2cYXx9Y0Ya3rbA7T7DdrXYgUadt/wjJ7wGKlXz
ZfMe1WahOIapd5e4OojOCv7HC6dKlZ+YFYuasy42qxsyE6ih2XWfDocpqYSg7ndR
6w6Nb2q96TgUVjp+8+G2sWWalRRlXdFr/yNlYs3nIUcDRwq458bexBOlnq3P52Ls
dGqwTy8cmQwZF8o+Y3EJAQlCwyFKp3YOs2bmUqjCwuXX5KxjyJoYVs6aWxBNm6sA
HAKVa4rBAgMBAAECggEABGpDs+A7vP582HwQ/ILDbHIgWwmRAbGCuiyXHVBWrRXu
LEb9C8omC3w43fndWY1JWV8L9UfWrNRRGiezkETmQhjthviP1nxW7JjZJFm/9H3b
nDyM9+8lWbHG6DdvAQygCGRcUMcoreHQyaWQGEQVnctDrgQ3MBy7IlUi//9oeB7y
ZSURM2r7tmkpotKrCRnbHIb+VJpPy5BxNSvIh1VW603+6CnA8e5teOsp99sjPYSM
1+5eEIvti9RW1iktpokxp4OAXZ6F2O6w3Nq+53mb3LhxIUtBcM7uIVAihcELTmAK
Cn+tk47ENY9li1nU60n6ksfMLRwhYQ9v03T20MEz4QKBgQDIwewra+1TFbVZntjy
y321611lZha6M50vSEHWFO6xglgJVP0h0ZUWEBtvp2yaKd5ru3BDDdtH6XjkLxVe
PX9ebZ9Uw5A7NtzAtv1bchSDR7VDBTGnRXLnsURDyYXYqMbJKTgEaPdciGWgPrkm
I71I4Q5rsq0M+wN1VX+C+ZYFoQKBgQDGCxS4vRDRltze5EuvvdreB2IpBTZfoND+
KqGN4wPIW4ne+6WrCmLDcdZqVHGwTT5CmRJFch9r4fpGOQJeHk+cMahlo3Y/3epO
l1WtZIVL322h9kGo3IF4MHwHUbNF0WlH/PGozO15S5Btpe5y9UeGM6ndVV1iDPfM
s/ZYkGExIQKBgQC4RV+833zgJW3nTCnAek3yPI7mstUrppKhwsZDdcU+g/DA6BTN
BO2+aZx1WQ0TWFkDM/Iwajibgk7ny9vmO7Z8e0yjZjouUAZCkfRuCoGPmrNjSBIy
gkmdJ5YMTp6fpxOHs2Dqk1pxwfTeKJST0Hw+t+0fp8q1vnWHLqozE1rD4QKBgQCZ
HIAMw795CtYATShm2rWX6sVtSWZcUIzDtFnqxJRsFrlk99GBhyoMSLqowliTIWT9
QDLsFetNEQzZtcGq2mxaKdozmkkV35AC6uWGhKy5mCe+jBD/aFuAfJunXPbpB5oJ
2flLtAP1PwKOgzbzEccWbmLph9IGuFfsn0XZ+uXpgQKBgB40oJtCR9qmyg+h3kgw
Coz++vw7oEzk5adtJ3MKHvPohwmOFvUM4L3yvwhkDmLJDSU7Zf/y5y8ll8X0kzIn
mHang7gcVjqqfMvKXyzD/kLLf/NDepF0wLaTNcixStBq8GXrwXES9MnLkpN5/iTc
wioySoM6nElvnQFX4JyZMKIY
-----END PRIVATE KEY-----
";
/// Its public half.
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAm06tPsFwsPDrTcFdXXCz
0wYMcvsW6NP41Cn3M5FncX2K/Ah6S4o0CPw49vwJ3VUUSxhcn0bogVUILROUj86s
0C2iyC/TR+ruH83PnhVdnGF8fWNGGt62wO0+w3a12IFGnbf8Iye8BipV82XzHtVm
oTiGqXeXuDqIzgr+xwunSpWfmBWLmrMuNqsbMhOoodl1nw6HKamEoO53UesOjW9q
vek4FFY6fvPhtrFlmpUUZV3Ra/8jZWLN5yFHA0cKuOfG3sQTpZ6tz+di7HRqsE8v
HJkMGRfKPmNxCQEJQsMhSqd2DrNm5lKowsLl1+SsY8iaGFbOmlsQTZurABwClWuK
wQIDAQAB
-----END PUBLIC KEY-----
";

fn account(token_uri: &str) -> Map<String, Value> {
    let account = json!({"type": "service_account", "project_id": "acme-1", "private_key_id": "key-7",
        "private_key": PRIVATE_KEY, "client_email": "gateway@acme-1.iam.gserviceaccount.com", "token_uri": token_uri});
    json!({"service_account": account}).as_object().unwrap().clone()
}

/// A gateway with such an account, its token endpoint and its API.
struct Scene {
    world: World,
    tokens: Hand,
    api: Hand,
}

impl Scene {
    async fn start() -> Self {
        let (tokens, api, world) = (Hand::start().await, Hand::start().await, World::plain().await);
        world.add_at("vertex", &api.url(), |credential| {
            credential.api_key = None;
            credential.models = Some([("gemini-2.5-flash".to_owned(), "gemini-2.5-flash".to_owned())].into());
            credential.options = Some(account(&format!("{}/token", tokens.url())));
        });
        Self { world, tokens, api }
    }

    fn ask(&self) -> tokio::task::JoinHandle<Answer> {
        let model = hello("gemini-2.5-flash");
        tokio::spawn(Answer::of(self.world.chat_request(self.world.client()).json(&model)))
    }
}

async fn grant(call: &mut Call, token: &str, expires_in: u64) {
    let body = json!({"access_token": token, "expires_in": expires_in, "token_type": "Bearer"});
    call.send_json(200, &body.to_string()).await;
}

async fn serve(call: &mut Call, token: &str) {
    assert!(call.head.contains(&format!("authorization: bearer {token}\r\n")), "{}", call.head);
    assert!(call.head.contains("/v1/projects/acme-1/locations/global/"), "{}", call.head);
    let body = json!({"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}]});
    call.send_json(200, &body.to_string()).await;
}

async fn answered(asked: tokio::task::JoinHandle<Answer>) -> Answer {
    within("the answer", asked).await.unwrap()
}

#[tokio::test]
async fn a_signed_word_is_exchanged_once_for_all_who_wait_and_its_token_is_kept() {
    let scene = Scene::start().await;
    let asked = [scene.ask(), scene.ask()];
    let mut exchange = scene.tokens.request().await;
    let body = String::from_utf8(exchange.body.clone()).unwrap();
    assert!(exchange.head.contains("content-type: application/x-www-form-urlencoded\r\n"), "{}", exchange.head);
    let assertion = body.strip_prefix("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=");
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&[format!("{}/token", scene.tokens.url())]);
    let key = DecodingKey::from_rsa_pem(PUBLIC_KEY.as_bytes()).unwrap();
    let word = jsonwebtoken::decode::<Value>(assertion.unwrap(), &key, &validation).unwrap();
    assert_eq!(word.header.kid.as_deref(), Some("key-7"));
    assert_eq!(word.claims["iss"], "gateway@acme-1.iam.gserviceaccount.com");
    assert_eq!(word.claims["scope"], "https://www.googleapis.com/auth/cloud-platform");
    grant(&mut exchange, "ya29.first", 3600).await;

    let mut calls = [scene.api.request().await, scene.api.request().await];
    for call in &mut calls {
        serve(call, "ya29.first").await;
    }
    for asked in asked {
        assert_eq!(answered(asked).await.status, 200);
    }
    // Were the token not kept, this one would wait for an exchange that nobody answers.
    let third = scene.ask();
    let [mut one, mut other] = calls;
    tokio::select! {
        _ = one.next_request() => serve(&mut one, "ya29.first").await,
        _ = other.next_request() => serve(&mut other, "ya29.first").await,
    }
    assert_eq!(answered(third).await.status, 200);
}

#[tokio::test]
async fn a_token_at_its_end_is_exchanged_anew() {
    let scene = Scene::start().await;
    let asked = scene.ask();
    let mut exchange = scene.tokens.request().await;
    grant(&mut exchange, "ya29.short", 30).await;
    let mut call = scene.api.request().await;
    serve(&mut call, "ya29.short").await;
    assert_eq!(answered(asked).await.status, 200);

    let asked = scene.ask();
    assert!(exchange.next_request().await);
    grant(&mut exchange, "ya29.long", 3600).await;
    assert!(call.next_request().await);
    serve(&mut call, "ya29.long").await;
    assert_eq!(answered(asked).await.status, 200);
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_at_once() {
    let scene = Scene::start().await;
    let asked = scene.ask();
    let mut exchange = scene.tokens.request().await;
    grant(&mut exchange, "ya29.revoked", 3600).await;
    let mut call = scene.api.request().await;
    call.send_json(401, "{}").await;
    assert!(exchange.next_request().await);
    grant(&mut exchange, "ya29.new", 3600).await;
    assert!(call.next_request().await);
    serve(&mut call, "ya29.new").await;
    assert_eq!(answered(asked).await.status, 200);
}

#[tokio::test]
async fn an_account_that_is_refused_is_an_invalid_key_and_a_silent_endpoint_a_failed_provider() {
    let scene = Scene::start().await;
    let asked = scene.ask();
    let mut exchange = scene.tokens.request().await;
    exchange.send_json(400, r#"{"error":"invalid_grant","error_description":"gateway@acme-1 is gone"}"#).await;
    let answer = answered(asked).await;
    assert_eq!(answer.code(), "provider_key_invalid");
    assert!(!answer.text().contains("gateway@acme-1"), "{}", answer.text());

    let scene = Scene::start().await;
    let asked = scene.ask();
    let mut exchange = scene.tokens.request().await;
    exchange.send_json(503, "{}").await;
    assert_eq!(answered(asked).await.code(), "provider_overloaded");
}

#[tokio::test]
async fn an_account_is_sealed_and_its_endpoint_must_be_one_that_may_be_reached() {
    let world = World::plain().await;
    let path = format!("/workspaces/{}/providers", world.workspace);
    let body = |token_uri: &str| json!({"provider": "vertex", "options": account(token_uri)});
    let made = world.admin(Method::POST, &path, Some(&body("https://oauth2.googleapis.com/token"))).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let listed = world.admin(Method::GET, &path, None).await;
    for answer in [&made, &listed] {
        assert!(answer.text().contains("[sealed]"), "{}", answer.text());
        assert!(!answer.text().contains("PRIVATE KEY") && !answer.text().contains("gserviceaccount"));
    }
    let refused = world.admin(Method::POST, &path, Some(&body("http://169.254.169.254/token"))).await;
    assert_eq!((refused.status, refused.error()["param"].as_str()), (400, Some("options")));
    let broken = json!({"provider": "vertex", "options": {"service_account": {"private_key": "x"}}});
    let refused = world.admin(Method::POST, &path, Some(&broken)).await;
    assert_eq!((refused.status, refused.error()["param"].as_str()), (400, Some("options.service_account")));
}
