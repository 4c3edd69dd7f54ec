//! Bodies that are not what they should be.

use serde_json::json;

use super::World;

const CANARY: &str = "sk-CANARY-0123456789";

#[tokio::test]
async fn a_bad_body_is_refused_by_the_field_and_never_quoted() {
    let world = World::new();
    for (body, param) in [
        (String::new(), ""),
        ("nonsense".to_owned(), ""),
        (format!("{{\"api_key\":\"{CANARY}\""), ""),
        (format!("[\"{CANARY}\"]"), ""),
        (format!("{{\"{}\":1}}", "\\ud800"), ""),
        ("[".repeat(200), ""),
        (format!("{{\"provider\":\"openai\",\"api_key\":\"{CANARY}\",\"api_key\":\"b\"}}"), "api_key"),
        (format!("{{\"provider\":\"openai\",\"api_key\":\"{CANARY}\",\"api\\u005fkey\":\"b\"}}"), "api_key"),
        (format!("{{\"provider\":\"openai\",\"api_key\":\"{CANARY}\",\"options\":{{\"a\":1,\"a\":2}}}}"), "a"),
        (format!("{{\"provider\":\"openai\",\"api_key\":\"{CANARY}\",\"models\":{{\"a\":\"b\",\"a\":\"c\"}}}}"), "a"),
        (format!("{{\"provider\":\"openai\",\"api_key\":[\"{CANARY}\"]}}"), "api_key"),
        (format!("{{\"provider\":\"openai\",\"api_key\":\"x\",\"priority\":\"{CANARY}\"}}"), "priority"),
        (format!("{{\"provider\":\"openai\",\"api_key\":\"x\",\"enabled\":\"{CANARY}\"}}"), "enabled"),
        (format!("{{\"provider\":\"openai\",\"api_key\":\"x\",\"models\":{{\"m\":[\"{CANARY}\"]}}}}"), "models.m"),
        (format!("{{\"provider\":\"openai\",\"Api_Key\":\"{CANARY}\"}}"), "Api_Key"),
        (format!("{{\"provider\":\"openai\",\"api_key\":\"{CANARY} \"}}"), "api_key"),
    ] {
        let answer = world.call_as(&world.admin(), "POST /workspaces/{ws}/providers", body.clone()).await;
        assert_eq!(answer.refused_param(), param, "{body}: {}", answer.text);
        assert!(!answer.text.contains("CANARY"), "{}", answer.text);
        assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
    }
}

#[tokio::test]
async fn a_workspace_and_a_key_name_their_bad_fields_too() {
    let world = World::new();
    for (route, body, param) in [
        ("POST /workspaces", json!({}), "name"),
        ("POST /workspaces", json!({"name": " "}), "name"),
        ("POST /workspaces", json!({"name": "a\nb"}), "name"),
        ("POST /workspaces", json!({"name": "x".repeat(201)}), "name"),
        ("POST /workspaces", json!({"name": "x", "strategy": "best"}), "strategy"),
        ("POST /workspaces", json!({"name": "x", "limits": {"rpm": "many"}}), "limits.rpm"),
        ("POST /workspaces", json!({"name": "x", "limits": {"rpm": -1}}), "limits.rpm"),
        ("POST /workspaces", json!({"name": "x", "id": "ws_mine"}), "id"),
        ("POST /workspaces/{ws}/api-keys", json!({"name": ""}), "name"),
        ("POST /workspaces/{ws}/api-keys", json!({"key": "pk_mine"}), "key"),
        ("POST /workspaces/{ws}/api-keys", json!({"expires_at": "tomorrow"}), "expires_at"),
    ] {
        let answer = world.call(route, body.clone()).await;
        assert_eq!(answer.refused_param(), param, "{body}: {}", answer.text);
    }
    let strategy = world.call("POST /workspaces", json!({"name": "x", "strategy": "best"})).await;
    assert!(strategy.text.contains("reliable"), "{}", strategy.text);
}

#[tokio::test]
async fn a_body_too_large_or_encoded_is_refused_for_that() {
    let world = World::new();
    let large = json!({"name": "x".repeat(1024 * 1024)}).to_string();
    let answer = world.call_as(&world.admin(), "POST /workspaces", large).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json()["error"]["code"], "payload_too_large");
    let encoded = http::Request::post("/workspaces")
        .header("authorization", format!("Bearer {}", world.admin()))
        .header("content-encoding", "gzip")
        .body(axum::body::Body::from("{}"))
        .unwrap();
    assert_eq!(world.send(encoded).await.status, 415);
}
