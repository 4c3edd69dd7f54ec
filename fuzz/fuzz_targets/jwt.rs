//! Admin tokens: what nobody signed is refused, and of what is signed only what is in time, for us, and not too long-lived.
//!
//! The input: a form, numbers, and a token, a header or claims.
#![no_main]

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, Mac};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use perpetuo::admin::auth::{Jwt, Role};
use perpetuo::config::Secret;
use serde_json::Value;
use sha2::Sha256;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const MAX_TTL: i64 = 3600;
const NOW: i64 = 1_800_000_000;
/// How far clocks may be apart.
const LEEWAY: i64 = 60;

fuzz_target!(|input: &[u8]| {
    let Some(([form, a, b, by], rest)) = input.split_first_chunk() else { return };
    let place = usize::from(u16::from_be_bytes([*a, *b]));
    let jwt = Jwt::new(&Secret::new(SECRET), "perpetuo", "perpetuo-admin", Duration::from_secs(MAX_TTL as u64));
    let now = Timestamp::from_second(NOW).expect("a moment");
    let minted = jwt.mint(Role::Admin, &[], Duration::from_secs(600), now).expect("a token");
    let text = String::from_utf8_lossy(rest).into_owned();
    match form % 4 {
        0 => assert!(jwt.verify(&text, now).is_err(), "a token that nobody signed: {text}"),
        1 => {
            let mut token = minted.clone().into_bytes();
            let at = place % token.len();
            token[at] = *by;
            let token = String::from_utf8_lossy(&token).into_owned();
            // The last letter of a signature has bits that mean nothing; they must be zero.
            assert!(token == minted || jwt.verify(&token, now).is_err(), "a changed token: {token}");
        }
        2 => judge(&jwt, now, r#"{"alg":"HS256","typ":"JWT"}"#, &text),
        _ => {
            let claims = format!(
                r#"{{"iss":"perpetuo","aud":"perpetuo-admin","sub":"x","role":"admin","iat":{NOW},"exp":{}}}"#,
                NOW + 60
            );
            judge(&jwt, now, &text, &claims);
        }
    }
});

/// Signs a header and claims with the right secret; what is taken must be right in every way.
fn judge(jwt: &Jwt, now: Timestamp, header: &str, claims: &str) {
    let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key");
    mac.update(signed.as_bytes());
    let token = format!("{signed}.{}", BASE64.encode(mac.finalize().into_bytes()));
    let Ok(identity) = jwt.verify(&token, now) else { return };
    let header: Value = serde_json::from_str(header).expect("a header that was taken is JSON");
    assert_eq!(header["alg"], "HS256");
    let claims: Value = serde_json::from_str(claims).expect("claims that were taken are JSON");
    let [iat, exp] = ["iat", "exp"].map(|name| claims[name].as_i64().expect("a time"));
    assert!(iat <= NOW + LEEWAY && NOW < exp + LEEWAY && exp - iat <= MAX_TTL, "{claims}");
    assert!(claims.get("nbf").and_then(Value::as_i64).is_none_or(|nbf| nbf <= NOW + LEEWAY), "{claims}");
    assert_eq!(claims["iss"], "perpetuo");
    let audience = &claims["aud"];
    let names_us = |list: &Vec<Value>| list.iter().any(|it| it == "perpetuo-admin");
    assert!(audience == "perpetuo-admin" || audience.as_array().is_some_and(names_us), "{claims}");
    assert_eq!(identity.role == Role::Admin, claims["role"] == "admin");
}
