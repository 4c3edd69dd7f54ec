//! Tokens as an attacker makes them. Each is refused with the one text that a missing token gets; and what of a token decides nothing
//! is ignored in one that is right.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use super::{JWT_SECRET, World, now};

/// Claims that are right, as text.
fn claims() -> String {
    let iat = now().as_second();
    json!({"iss": "perpetuo", "aud": "perpetuo-admin", "sub": "me", "role": "admin", "iat": iat, "exp": iat + 3600})
        .to_string()
}

/// The right claims with this text in the place of a claim's value.
fn with(name: &str, value: &str) -> String {
    let mut all: Value = serde_json::from_str(&claims()).unwrap();
    all[name] = json!("HERE");
    all.to_string().replace("\"HERE\"", value)
}

/// Head and claims, whatever they are, signed with HS256 and this secret.
fn signed(head: &str, claims: &str, secret: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

const HEAD: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// Claims behind the right head, with the right signature.
fn ours(claims: &str) -> String {
    signed(HEAD, claims, JWT_SECRET)
}

/// Every one of these is answered as if there were no token.
async fn refused(tokens: impl IntoIterator<Item = (String, String)>) {
    let world = World::new();
    let ask = async |token: Option<&str>| {
        let mut request = http::Request::get("/workspaces");
        if let Some(token) = token {
            request = request.header("authorization", [b"Bearer ", token.as_bytes()].concat());
        }
        world.send(request.body(axum::body::Body::empty()).unwrap()).await
    };
    assert_eq!(ask(Some(&ours(&claims()))).await.status, 200, "the attacks begin with a token that is right");
    let missing = ask(None).await;
    assert_eq!(missing.status, 401);
    for (what, token) in tokens {
        let answer = ask(Some(&token)).await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.text);
        assert_eq!((answer.text, answer.headers), (missing.text.clone(), missing.headers.clone()), "{what}");
    }
}

/// Admin tokens: `none` in every spelling, the signatures of other families, a public key as a secret.
#[tokio::test]
async fn fault_67_algorithms() {
    let good = ours(&claims());
    let signature = good.rsplit('.').next().unwrap();
    let mut tokens = Vec::new();
    let algorithms = [
        "none", "None", "nOnE", "NONE", "none ", " none", "", "hs256", "HS256 ", "HS384", "HS512", "RS256", "RS384",
        "RS512", "PS256", "ES256", "ES384", "EdDSA", "dir", "A256KW", "HMAC",
    ];
    for algorithm in algorithms {
        let head = json!({"alg": algorithm, "typ": "JWT"}).to_string();
        let bare = format!("{}.{}", URL_SAFE_NO_PAD.encode(&head), URL_SAFE_NO_PAD.encode(claims()));
        for (how, token) in [
            ("no signature", format!("{bare}.")),
            ("no third part", bare.clone()),
            ("another's signature", format!("{bare}.{signature}")),
            ("the HMAC of it", signed(&head, &claims(), JWT_SECRET)),
            ("an HMAC with no secret", signed(&head, &claims(), "")),
        ] {
            tokens.push((format!("{algorithm:?}, {how}"), token));
        }
    }
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        let (head, key) = (jsonwebtoken::Header::new(algorithm), EncodingKey::from_secret(JWT_SECRET.as_bytes()));
        let claims: Value = serde_json::from_str(&claims()).unwrap();
        tokens.push((format!("a right {algorithm:?}"), jsonwebtoken::encode(&head, &claims, &key).unwrap()));
    }
    for head in [
        "{}",
        "{\"typ\":\"JWT\"}",
        "{\"alg\":null}",
        "{\"alg\":[\"HS256\"]}",
        "{\"alg\":256}",
        "{\"alg\":{}}",
        "{\"alg\":\"none\",\"alg\":\"HS256\"}",
        "{\"alg\":\"HS256\",\"alg\":\"none\"}",
        "[]",
        "\"HS256\"",
        "",
        "{\"alg\":\"HS256\"}x",
    ] {
        tokens.push((format!("head {head}"), signed(head, &claims(), JWT_SECRET)));
    }
    // What is public, or easily guessed, is no secret: were it one, anybody could sign.
    let pair = rcgen::KeyPair::generate().unwrap();
    let (pem, raw) = (pair.public_key_pem(), STANDARD.encode(pair.public_key_raw()));
    for public in [&*pem, pem.trim(), &*raw, "", " ", "secret", "perpetuo", "perpetuo-admin", "secret-api-key", "null"]
    {
        for head in [HEAD, r#"{"alg":"RS256","typ":"JWT"}"#, r#"{"alg":"ES256","typ":"JWT"}"#] {
            tokens.push((format!("{head} with {public:?}"), signed(head, &claims(), public)));
        }
    }
    refused(tokens).await;
}

/// Admin tokens: heads that name a key, a place to fetch one, or an extension.
#[tokio::test]
async fn fault_67_keys_that_the_token_names() {
    let attacker = "the attacker's secret of thirty-two bytes";
    let own_key = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(attacker), "alg": "HS256", "use": "sig"});
    let kids = [
        "../../../../dev/null",
        "/dev/null",
        "/proc/sys/kernel/randomize_va_space",
        "' UNION SELECT 'key' --",
        "x'; DROP TABLE keys; --",
        "key|/bin/true",
        "https://attacker.example/key",
        "",
        "\u{0}",
    ];
    let mut heads: Vec<Value> = kids.iter().map(|kid| json!({"alg": "HS256", "kid": kid})).collect();
    heads.extend([
        json!({"alg": "HS256", "kid": null}),
        json!({"alg": "HS256", "kid": 7}),
        json!({"alg": "HS256", "kid": ["a"]}),
        json!({"alg": "HS256", "jku": "https://attacker.example/keys"}),
        json!({"alg": "HS256", "x5u": "https://attacker.example/certificate"}),
        json!({"alg": "HS256", "x5c": ["MIIB"]}),
        json!({"alg": "HS256", "jwk": own_key}),
        json!({"alg": "HS256", "jwk": own_key, "kid": "1", "jku": "file:///dev/null"}),
    ]);
    let mut tokens = Vec::new();
    for head in &heads {
        for secret in [attacker, "", "key", "2\n", "2"] {
            tokens.push((format!("{head} signed with {secret:?}"), signed(&head.to_string(), &claims(), secret)));
        }
    }
    // An extension that must be understood is not, even in a token that is right.
    for head in [
        json!({"alg": "HS256", "crit": ["exp"]}),
        json!({"alg": "HS256", "crit": []}),
        json!({"alg": "HS256", "crit": ["b64"], "b64": false}),
        json!({"alg": "HS256", "typ": "at+jwt"}),
        json!({"alg": "HS256", "typ": "JWE"}),
        json!({"alg": "HS256", "typ": 7}),
        json!({"alg": "HS256", "kid": 7}),
    ] {
        tokens.push((head.to_string(), signed(&head.to_string(), &claims(), JWT_SECRET)));
    }
    refused(tokens).await;
}

/// What the head says beside its algorithm decides nothing: a right signature is right, and nothing is fetched or opened.
#[tokio::test]
async fn a_right_token_is_right_whatever_key_it_names() {
    let world = World::new();
    for head in [
        json!({"alg": "HS256"}),
        json!({"alg": "HS256", "typ": "jwt", "kid": "../../dev/null"}),
        json!({"alg": "HS256", "kid": null}),
        json!({"alg": "HS256", "jku": "https://attacker.example/keys"}),
    ] {
        let token = signed(&head.to_string(), &claims(), JWT_SECRET);
        assert_eq!(world.call_as(&token, "GET /workspaces", "").await.status, 200, "{head}");
    }
}

/// Admin tokens: claims that are missing, doubled, of another type or beyond every bound, in a token with a right signature.
#[tokio::test]
async fn fault_67_claims_of_every_kind() {
    let iat = now().as_second();
    let future = (iat + 120).to_string();
    let mut tokens = Vec::new();
    let odd = ["null", "true", "{}", "[]", "\"\"", "\"9999999999\"", "-1", "0", "1e99", "1.5", "18446744073709551616"];
    for name in ["exp", "iat"] {
        for value in odd {
            tokens.push((format!("{name} is {value}"), ours(&with(name, value))));
        }
        let missing = {
            let mut all: Value = serde_json::from_str(&claims()).unwrap();
            all.as_object_mut().unwrap().remove(name);
            all.to_string()
        };
        tokens.push((format!("no {name}"), ours(&missing)));
    }
    for (name, value) in [
        ("exp", (iat - 61).to_string()),
        ("exp", i64::MAX.to_string()),
        ("exp", i64::MIN.to_string()),
        ("exp", u64::MAX.to_string()),
        ("exp", format!("{}.0", iat + 3600)),
        ("exp", format!("{}", iat + 24 * 3600 + 1)),
        ("exp", format!("\"{}\"", iat + 3600)),
        ("exp", iat.to_string()),
        ("iat", future.clone()),
        ("iat", i64::MIN.to_string()),
        ("nbf", future),
        ("nbf", "\"now\"".to_owned()),
        ("nbf", "1.5".to_owned()),
        ("nbf", i64::MAX.to_string()),
        ("aud", "\"perpetuo\"".to_owned()),
        ("aud", "\"perpetuo-admin \"".to_owned()),
        ("aud", "\"Perpetuo-Admin\"".to_owned()),
        ("aud", "[]".to_owned()),
        ("aud", "[[\"perpetuo-admin\"]]".to_owned()),
        ("aud", "null".to_owned()),
        ("iss", "\"perpetuo-admin\"".to_owned()),
        ("iss", "\"perpetuo.attacker.example\"".to_owned()),
        ("iss", "null".to_owned()),
        ("sub", "null".to_owned()),
        ("sub", "[\"me\"]".to_owned()),
        ("role", "null".to_owned()),
        ("role", "\"ADMIN\"".to_owned()),
        ("role", "\"admin \"".to_owned()),
        ("role", "[\"admin\"]".to_owned()),
        ("role", "{\"admin\":null}x".to_owned()),
        ("role", "\"superuser\"".to_owned()),
        ("workspaces", "\"*\"".to_owned()),
        ("workspaces", "null".to_owned()),
    ] {
        tokens.push((format!("{name} is {value}"), ours(&with(name, &value))));
    }
    for name in ["iss", "aud", "sub", "role", "iat", "exp"] {
        let all: Value = serde_json::from_str(&claims()).unwrap();
        let twice = claims().replacen('{', &format!("{{\"{name}\":{},", all[name]), 1);
        tokens.push((format!("{name} twice"), ours(&twice)));
    }
    for body in ["", "null", "[]", "7", "\"admin\"", &format!("{}x", claims()), &format!("{0}{0}", claims())] {
        tokens.push((format!("claims {body}"), ours(body)));
    }
    refused(tokens).await;
}

/// Admin tokens: the text of a right token, changed anywhere or wrapped in something.
#[tokio::test]
async fn fault_67_forms() {
    let good = ours(&claims());
    let [head, body, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut tokens: Vec<(String, String)> = [
        ("padded", format!("{head}.{body}.{}", URL_SAFE.encode(&bytes))),
        ("a padded body", format!("{head}.{}.{signature}", URL_SAFE.encode(claims()) + "=")),
        ("garbage behind", format!("{good}x")),
        ("a fourth part", format!("{good}.x")),
        ("an empty fourth part", format!("{good}.")),
        ("five parts", format!("{good}.a.b")),
        ("a space inside", format!("{head}. {body}.{signature}")),
        ("a space in the signature", format!("{head}.{body}.{}", spaced(signature))),
        ("a space in the body", format!("{head}.{}.{signature}", spaced(body))),
        ("a tab inside", format!("{head}.{body}\t.{signature}")),
        ("two tokens", format!("{good} {good}")),
        ("a list of tokens", format!("{good},{good}")),
        ("quoted", format!("\"{good}\"")),
        ("half a signature", format!("{head}.{body}.{}", &signature[..20])),
        ("no signature", format!("{head}.{body}.")),
        ("no body", format!("{head}..{signature}")),
        ("no head", format!(".{body}.{signature}")),
        ("upper case", good.to_uppercase()),
        ("as JSON", json!({"protected": head, "payload": body, "signature": signature}).to_string()),
        ("percent-encoded", good.replace('.', "%2e")),
        ("not ASCII", format!("{good}é")),
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
        ("huge", ours(&with("pad", &format!("\"{}\"", "x".repeat(9_000))))),
        ("huge and wrong", "x".repeat(60_000)),
        ("a deep head", signed(&format!("{{\"alg\":\"HS256\",\"x\":{}", "[".repeat(3000)), &claims(), JWT_SECRET)),
    ]
    .map(|(what, token)| (what.to_owned(), token))
    .into();
    // The last character of a signature has bits that mean nothing: another that says the same is another text all the same.
    let last = signature.chars().last().unwrap();
    for other in
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".chars().filter(|other| *other != last)
    {
        tokens.push((format!("ends in {other}"), format!("{}{other}", &good[..good.len() - 1])));
    }
    for at in (0..good.len()).step_by(7) {
        let mut changed = good.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        tokens.push((format!("another byte {at}"), String::from_utf8(changed).unwrap()));
    }
    refused(tokens).await;
}

fn spaced(text: &str) -> String {
    let (left, right) = text.split_at(text.len() / 2);
    format!("{left} {right}")
}

/// Two tokens that begin alike are two tokens: who speaks is decided by all of it, every time.
#[tokio::test]
async fn two_tokens_with_the_same_beginning_are_not_confused() {
    let world = World::new();
    let token = |role: &str| ours(&with("role", &format!("\"{role}\"")));
    let of = |workspace: &str| {
        let mut all: Value = serde_json::from_str(&with("role", "\"workspace\"")).unwrap();
        all["workspaces"] = json!([workspace]);
        ours(&all.to_string())
    };
    let tokens = [token("admin"), of(&world.ours), of(&world.theirs)];
    assert!(tokens.iter().all(|token| token[..60] == tokens[0][..60]), "they begin alike");
    for _ in 0..2 {
        let mut seen = Vec::new();
        for token in &tokens {
            let listed = world.call_as(token, "GET /workspaces", "").await.data();
            seen.push(listed.as_array().unwrap().iter().map(|row| row["id"].clone()).collect::<Vec<_>>());
        }
        assert_eq!(seen[0].len(), 2);
        assert_eq!(seen[1..], [vec![json!(world.ours)], vec![json!(world.theirs)]]);
    }
}
