//! The simulator over real HTTP, as a provider's client sees it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Client, Response, Version};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Behaviour, Outcome, Seen, Simulator, Step, Truncation};
use crate::sse::Decoder;
use crate::usage::Usage;

async fn simulator(behaviour: Behaviour) -> Simulator {
    Simulator::start(behaviour).await.unwrap()
}

async fn scripted(step: Step) -> Simulator {
    simulator(Behaviour::new("test").script([step])).await
}

fn hello(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "max_tokens": 100, "messages": [{"role": "user", "content": "Hello, you"}]})
}

async fn openai(client: &Client, simulator: &Simulator, body: &Value) -> reqwest::Result<Response> {
    client.post(format!("{}/v1/chat/completions", simulator.url())).bearer_auth("sk-right").json(body).send().await
}

async fn groq(simulator: &Simulator, body: &Value) -> Response {
    Client::new().post(format!("{}/openai/v1/chat/completions", simulator.url())).json(body).send().await.unwrap()
}

async fn anthropic(simulator: &Simulator, body: &Value) -> Response {
    let request = Client::new().post(format!("{}/v1/messages", simulator.url()));
    request.header("x-api-key", "sk-ant").header("anthropic-version", "2023-06-01").json(body).send().await.unwrap()
}

/// The data of every whole event.
fn events(bytes: &[u8]) -> Vec<String> {
    let mut decoder = Decoder::new(1 << 20);
    decoder.push(bytes);
    let mut events = Vec::new();
    while let Some(event) = decoder.next_event().unwrap() {
        events.push(String::from_utf8(event.data.to_vec()).unwrap());
    }
    assert!(!decoder.has_partial(), "cut inside an event");
    events
}

fn json_of(event: &str) -> Value {
    serde_json::from_str(event).unwrap()
}

/// What an OpenAI stream said.
fn said(events: &[String]) -> String {
    let texts = events.iter().filter(|event| *event != "[DONE]").map(|event| json_of(event));
    texts.filter_map(|event| Some(event.pointer("/choices/0/delta/content")?.as_str()?.to_owned())).collect()
}

/// Reads as far as it goes: the bytes, and whether the end was a clean one.
async fn drain(mut response: Response) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return (bytes, true),
            Err(_) => return (bytes, false),
        }
    }
}

async fn ended(simulator: &Simulator, outcome: Outcome) -> Seen {
    let seen = simulator.wait_until(|seen| seen.iter().any(|seen| seen.outcome == outcome)).await.unwrap();
    seen.into_iter().find(|seen| seen.outcome == outcome).unwrap()
}

#[tokio::test]
async fn openai_answers_json_and_the_request_is_remembered() {
    let simulator = simulator(Behaviour::new("acme").cached_tokens(2)).await;
    let body = hello("gpt-4o", false);
    let response = openai(&Client::new(), &simulator, &body).await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "req_sim00000000");
    assert!(response.headers().contains_key("content-length"));
    let answer: Value = response.json().await.unwrap();
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.starts_with("Hello from the simulated acme: 12 tokens"), "{text}");
    assert_eq!(text.split(' ').count(), 12);
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["usage"]["prompt_tokens"], 3, "ten bytes of text");
    assert_eq!(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 2);
    assert_eq!(answer["usage"]["total_tokens"], 15);

    let seen = ended(&simulator, Outcome::Finished).await;
    assert_eq!((seen.path.as_str(), seen.model.as_deref()), ("/v1/chat/completions", Some("gpt-4o")));
    assert_eq!((seen.stream, seen.http_version, seen.connection), (false, Version::HTTP_11, 1));
    assert_eq!(seen.json(), body);
    assert_eq!(seen.billed, Usage { input: 1, cached_read: 2, output: 12, ..Usage::default() });
}

#[tokio::test]
async fn a_credential_can_be_checked_but_not_read() {
    let simulator = simulator(Behaviour::new("acme")).await;
    openai(&Client::new(), &simulator, &hello("m", false)).await.unwrap();
    anthropic(&simulator, &hello("m", false)).await;
    let seen = simulator.seen();
    assert!(seen[0].authorization_matches("sk-right") && !seen[0].authorization_matches("sk-wrong"));
    assert!(seen[1].authorization_matches("sk-ant") && !seen[1].authorization_matches("sk-right"));
    let shown = format!("{seen:?}");
    assert!(!shown.contains("sk-right") && !shown.contains("sk-ant"), "{shown}");
}

#[tokio::test]
async fn openai_streams_role_content_finish_usage_done() {
    let simulator = simulator(Behaviour::new("acme").tokens(3)).await;
    let mut body = hello("m", true);
    body["stream_options"] = json!({"include_usage": true});
    let response = openai(&Client::new(), &simulator, &body).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    let events = events(&response.bytes().await.unwrap());
    assert_eq!(events.len(), 7, "role, three tokens, finish, usage, done");
    assert_eq!(json_of(&events[0])["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(json_of(&events[0])["usage"], Value::Null);
    assert_eq!(said(&events), "Hello from the");
    assert_eq!(json_of(&events[4])["choices"][0]["finish_reason"], "stop");
    assert_eq!(json_of(&events[5])["choices"], json!([]));
    assert_eq!(json_of(&events[5])["usage"]["completion_tokens"], 3);
    assert_eq!(events[6], "[DONE]");
}

#[tokio::test]
async fn openai_gives_no_usage_unasked_but_groq_does() {
    let simulator = simulator(Behaviour::new("acme").tokens(2)).await;
    let response = openai(&Client::new(), &simulator, &hello("m", true)).await.unwrap();
    assert!(!response.text().await.unwrap().contains("usage"));
    let events = events(&groq(&simulator, &hello("m", true)).await.bytes().await.unwrap());
    assert_eq!(json_of(&events[0])["x_groq"]["id"], "req_sim00000001");
    assert_eq!(json_of(&events[3])["x_groq"]["usage"]["completion_tokens"], 2);
    assert_eq!(json_of(&events[3])["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn anthropic_answers_json_and_events_in_order() {
    let simulator = simulator(Behaviour::new("acme").tokens(2).cached_tokens(1)).await;
    let response = anthropic(&simulator, &hello("claude", false)).await;
    assert!(response.headers().contains_key("request-id"));
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["content"], json!([{"type": "text", "text": "Hello from"}]));
    assert_eq!(answer["usage"]["input_tokens"], 2, "without the cached one");
    assert_eq!(answer["usage"]["cache_read_input_tokens"], 1);

    let events = events(&anthropic(&simulator, &hello("claude", true)).await.bytes().await.unwrap());
    let kinds: Vec<Value> = events.iter().map(|event| json_of(event)["type"].clone()).collect();
    let expected = "message_start content_block_start ping content_block_delta content_block_delta content_block_stop \
                    message_delta message_stop";
    assert_eq!(kinds, expected.split(' ').collect::<Vec<_>>());
    assert_eq!(json_of(&events[6])["delta"]["stop_reason"], "end_turn");
    assert_eq!(json_of(&events[6])["usage"]["output_tokens"], 2);
}

fn weather(wrap: impl Fn(&str, Value) -> Value) -> Value {
    let schema = json!({"type": "object", "required": ["city", "days", "unit"], "properties": {
        "city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["celsius"]}, "note": {"type": "string"}}});
    json!([wrap("weather", schema.clone()), wrap("traffic", schema)])
}

const ARGUMENTS: &str = r#"{"city":"example","days":1,"unit":"celsius"}"#;

#[tokio::test]
async fn tools_are_called_when_required_and_when_the_user_says_so() {
    let simulator = simulator(Behaviour::new("acme")).await;
    let client = Client::new();
    let mut body = hello("m", false);
    body["tools"] =
        weather(|name, schema| json!({"type": "function", "function": {"name": name, "parameters": schema}}));
    let plain: Value = openai(&client, &simulator, &body).await.unwrap().json().await.unwrap();
    assert!(plain["choices"][0]["message"]["content"].is_string(), "nobody asked for a call");

    body["tool_choice"] = json!({"type": "function", "function": {"name": "traffic"}});
    let named: Value = openai(&client, &simulator, &body).await.unwrap().json().await.unwrap();
    let call = &named["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!((&call["name"], &call["arguments"]), (&json!("traffic"), &json!(ARGUMENTS)));
    assert_eq!(named["choices"][0]["finish_reason"], "tool_calls");

    body["tool_choice"] = json!("auto");
    body["stream"] = json!(true);
    body["messages"][0]["content"] = json!("Please call the tools");
    let events = events(&openai(&client, &simulator, &body).await.unwrap().bytes().await.unwrap());
    let mut arguments = [String::new(), String::new()];
    for event in events.iter().filter(|event| *event != "[DONE]").map(|event| json_of(event)) {
        if let Some(call) = event.pointer("/choices/0/delta/tool_calls/0") {
            arguments[call["index"].as_u64().unwrap() as usize] += call["function"]["arguments"].as_str().unwrap();
        }
    }
    assert_eq!(arguments, [ARGUMENTS, ARGUMENTS]);
}

#[tokio::test]
async fn anthropic_calls_a_tool_and_answers_after_its_result() {
    let simulator = simulator(Behaviour::new("acme")).await;
    let mut body = hello("m", false);
    body["tools"] = weather(|name, schema| json!({"name": name, "input_schema": schema}));
    body["messages"][0]["content"] = json!([{"type": "text", "text": "call the tool"}]);
    let answer: Value = anthropic(&simulator, &body).await.json().await.unwrap();
    assert_eq!(answer["stop_reason"], "tool_use");
    assert_eq!(answer["content"][0]["name"], "weather");
    assert_eq!(answer["content"][0]["input"], json_of(ARGUMENTS));

    let result =
        json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_sim0", "content": "sun"}]});
    body["messages"].as_array_mut().unwrap().push(result);
    let answer: Value = anthropic(&simulator, &body).await.json().await.unwrap();
    assert_eq!(answer["stop_reason"], "end_turn");
}

#[tokio::test]
async fn a_schema_is_answered_with_json_that_fits_and_max_tokens_cuts() {
    let simulator = simulator(Behaviour::new("acme")).await;
    let schema = json!({"type": "object", "required": ["steps", "next"], "$defs": {"step": {"type": "boolean"}}, "properties": {
        "steps": {"type": "array", "items": {"$ref": "#/$defs/step"}}, "next": {"type": ["null", "number"]}}});
    let mut body = hello("m", false);
    body["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    let client = Client::new();
    let answer: Value = openai(&client, &simulator, &body).await.unwrap().json().await.unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], r#"{"steps":[true],"next":1.5}"#);
    body["max_tokens"] = json!(1);
    let answer: Value = openai(&client, &simulator, &body).await.unwrap().json().await.unwrap();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 1);
}

#[tokio::test]
async fn embeddings_are_unit_vectors_as_numbers_or_base64() {
    let simulator = simulator(Behaviour::new("acme")).await;
    let ask = |body: Value| Client::new().post(format!("{}/v1/embeddings", simulator.url())).json(&body).send();
    let answer: Value = ask(json!({"model": "e", "input": ["abcd", "efgh"]})).await.unwrap().json().await.unwrap();
    assert_eq!(answer["usage"]["prompt_tokens"], 2);
    let vector: Vec<f64> = serde_json::from_value(answer["data"][1]["embedding"].clone()).unwrap();
    let length: f64 = vector.iter().map(|value| value * value).sum();
    assert!((length - 1.0).abs() < 1e-3, "{length}");
    assert_ne!(answer["data"][0]["embedding"], answer["data"][1]["embedding"]);

    let body = json!({"model": "e", "input": [1, 2, 3], "dimensions": 3, "encoding_format": "base64"});
    let answer: Value = ask(body).await.unwrap().json().await.unwrap();
    assert_eq!(answer["data"].as_array().unwrap().len(), 1);
    assert_eq!(answer["data"][0]["embedding"].as_str().unwrap().len(), 16, "twelve bytes");
    assert_eq!(answer["usage"]["prompt_tokens"], 3);
}

#[tokio::test]
async fn models_are_listed_in_the_form_the_headers_ask_for() {
    let simulator = simulator(Behaviour::new("acme").models(["one", "two"])).await;
    let url = format!("{}/v1/models", simulator.url());
    let answer: Value = Client::new().get(&url).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["data"][1]["object"], "model");
    let request = Client::new().get(&url).header("x-api-key", "k");
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["last_id"], "two");
    let lost = Client::new().get(format!("{}/v2/what", simulator.url())).send().await.unwrap();
    assert_eq!(lost.status(), 404);
    assert_eq!(simulator.seen().len(), 3);
}

#[tokio::test]
async fn http2_without_tls_shares_one_connection_on_the_same_port() {
    let simulator = simulator(Behaviour::new("acme")).await;
    let client = Client::builder().http2_prior_knowledge().build().unwrap();
    for stream in [false, true] {
        let response = openai(&client, &simulator, &hello("m", stream)).await.unwrap();
        assert_eq!(response.version(), Version::HTTP_2);
        response.bytes().await.unwrap();
    }
    openai(&Client::new(), &simulator, &hello("m", false)).await.unwrap();
    let seen = simulator.seen();
    let connections: Vec<u64> = seen.iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [1, 1, 2]);
    assert_eq!((seen[1].http_version, seen[2].http_version), (Version::HTTP_2, Version::HTTP_11));
    assert_eq!(simulator.connections(), 2);
}

#[tokio::test]
async fn steps_are_used_in_order_and_then_all_is_well() {
    let steps = [Step::retry_after(429, 7), Step::status(529), Step::Ok];
    let simulator = simulator(Behaviour::new("acme").script(steps).script_for("m", [Step::status(503)])).await;
    let client = Client::new();
    let limited = openai(&client, &simulator, &hello("m", false)).await.unwrap();
    assert_eq!(limited.status(), 429);
    assert_eq!(limited.headers()["retry-after"], "7");
    assert_eq!(limited.json::<Value>().await.unwrap()["error"]["code"], "rate_limit_exceeded");
    let overloaded = anthropic(&simulator, &hello("m", false)).await;
    assert_eq!(overloaded.status(), 529);
    assert_eq!(overloaded.json::<Value>().await.unwrap()["error"]["type"], "overloaded_error");
    let mut statuses = Vec::new();
    for model in ["other", "other", "m", "m"] {
        statuses.push(openai(&client, &simulator, &hello(model, false)).await.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 503, 200]);
    simulator.then([Step::status(404)]);
    assert_eq!(openai(&client, &simulator, &hello("m", false)).await.unwrap().status(), 404);
    assert!(simulator.seen()[..2].iter().all(|seen| seen.billed == Usage::default()), "nobody pays for a refusal");
}

#[tokio::test]
async fn a_models_name_can_ask_for_a_fault() {
    let simulator = simulator(Behaviour::new("acme")).await;
    let client = Client::new();
    for (model, status) in [("sim-429", 429), ("x/sim-500", 500), ("claude-sim-529-b", 529), ("sim-ulator", 200)] {
        let response = openai(&client, &simulator, &hello(model, false)).await.unwrap();
        assert_eq!(response.status(), status, "{model}");
    }
    assert!(openai(&client, &simulator, &hello("sim-reset", false)).await.is_err());
    let (bytes, clean) = drain(openai(&client, &simulator, &hello("sim-truncate", true)).await.unwrap()).await;
    assert_eq!((said(&events(&bytes)).as_str(), clean), ("Hello from the", false));
    let (bytes, _) = drain(openai(&client, &simulator, &hello("sim-error-event", true)).await.unwrap()).await;
    assert_eq!(json_of(events(&bytes).last().unwrap())["error"]["type"], "server_error");
}

#[tokio::test]
async fn a_flaky_provider_fails_the_first_of_every_n_in_two_ways() {
    let simulator = simulator(Behaviour::new("acme").flaky(2)).await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(openai(&Client::new(), &simulator, &hello("m", false)).await.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [500, 200, 429, 200, 500, 200]);
}

#[tokio::test]
async fn a_client_that_leaves_a_hanging_provider_is_noticed() {
    for (step, version) in [(Step::Hang, Version::HTTP_11), (Step::Hang, Version::HTTP_2)] {
        let simulator = scripted(step).await;
        let builder = Client::builder();
        let client = if version == Version::HTTP_2 { builder.http2_prior_knowledge() } else { builder };
        let client = client.build().unwrap();
        let body = hello("m", true);
        tokio::select! {
            answer = openai(&client, &simulator, &body) => panic!("it answered: {answer:?}"),
            seen = simulator.wait_until(|seen| seen.iter().any(|seen| seen.body_complete)) => { seen.unwrap(); }
        }
        let seen = ended(&simulator, Outcome::Cancelled).await;
        assert_eq!((seen.http_version, seen.billed), (version, Usage::default()));
    }
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_pays_for_what_it_got() {
    for http2 in [false, true] {
        let simulator = scripted(Step::Stall { after_events: 2 }).await;
        let builder = Client::builder();
        let client = if http2 { builder.http2_prior_knowledge() } else { builder }.build().unwrap();
        let mut response = openai(&client, &simulator, &hello("m", true)).await.unwrap();
        let mut bytes = Vec::new();
        while !String::from_utf8_lossy(&bytes).contains(" from") {
            bytes.extend_from_slice(&response.chunk().await.unwrap().unwrap());
        }
        assert_eq!(simulator.seen()[0].outcome, Outcome::Pending);
        drop(response);
        let seen = ended(&simulator, Outcome::Cancelled).await;
        assert_eq!(seen.billed, Usage { input: 3, output: 2, ..Usage::default() });
    }
}

#[tokio::test]
async fn silence_after_the_head_is_a_head_and_nothing_else() {
    let simulator = scripted(Step::HangAfterHead).await;
    let mut response = openai(&Client::new(), &simulator, &hello("m", true)).await.unwrap();
    assert_eq!(response.status(), 200);
    let silence = tokio::time::timeout(Duration::from_millis(50), response.chunk()).await;
    assert!(silence.is_err(), "{silence:?}");
}

#[tokio::test]
async fn a_reset_comes_before_the_head_in_both_versions_of_http() {
    for http2 in [false, true] {
        let simulator = scripted(Step::Reset).await;
        let builder = Client::builder();
        let client = if http2 { builder.http2_prior_knowledge() } else { builder }.build().unwrap();
        let body = hello("m", false);
        let error = openai(&client, &simulator, &body).await.unwrap_err();
        assert!(error.is_request() && !error.is_connect(), "{error:?}");
        assert_eq!(openai(&client, &simulator, &body).await.unwrap().status(), 200, "the next one is served");
        assert_eq!(simulator.seen()[1].connection, 2);
    }
}

#[tokio::test]
async fn a_reset_is_one_for_tcp_too() {
    let simulator = simulator(Behaviour::new("acme").always(Step::Reset)).await;
    let mut stream = TcpStream::connect(simulator.address()).await.unwrap();
    stream.write_all(b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
    let error = stream.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// A listener that speaks TLS, made from what tests have.
struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, peer) = self.listener.accept().await.unwrap();
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

#[tokio::test]
async fn any_listener_can_be_served_for_example_one_with_tls() {
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = identity.cert.der().clone();
    let key = PrivateKeyDer::try_from(identity.signing_key.serialize_der()).unwrap();
    let server =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tls = Tls { listener, acceptor: TlsAcceptor::from(Arc::new(server)) };
    let simulator = Simulator::serve(tls, Behaviour::new("acme")).unwrap();

    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(simulator.address()).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let mut stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap();
    stream.write_all(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut head = [0; 15];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
}

#[tokio::test]
async fn a_truncated_stream_never_looks_complete() {
    for (how, clean) in [(Truncation::Clean, true), (Truncation::Abort, false)] {
        let simulator = scripted(Step::TruncateAfter { events: 2, how }).await;
        simulator.then([Step::TruncateAfter { events: 0, how }, Step::TruncateAfter { events: 99, how }]);
        for words in ["Hello from", ""] {
            let response = openai(&Client::new(), &simulator, &hello("m", true)).await.unwrap();
            let (bytes, ended_clean) = drain(response).await;
            assert_eq!((said(&events(&bytes)).as_str(), ended_clean), (words, clean));
        }
        let (bytes, ended_clean) = drain(anthropic(&simulator, &hello("m", true)).await).await;
        let last = json_of(events(&bytes).last().unwrap());
        assert_eq!((&last["type"], ended_clean), (&json!("content_block_delta"), clean));
    }
}

#[tokio::test]
async fn a_truncated_json_answer_is_half_of_one() {
    for (how, clean) in [(Truncation::Clean, true), (Truncation::Abort, false)] {
        let simulator = scripted(Step::TruncateAfter { events: 1, how }).await;
        let response = openai(&Client::new(), &simulator, &hello("m", false)).await.unwrap();
        let (bytes, ended_clean) = drain(response).await;
        assert_eq!(ended_clean, clean);
        assert!(bytes.starts_with(b"{\"id\"") && serde_json::from_slice::<Value>(&bytes).is_err());
    }
}

#[tokio::test]
async fn an_error_event_has_its_apis_form() {
    let simulator = scripted(Step::ErrorEventFirst).await;
    simulator.then([Step::ErrorEventAfter { events: 1 }, Step::ErrorEventFirst, Step::ErrorEventFirst]);
    let first = openai(&Client::new(), &simulator, &hello("m", true)).await.unwrap();
    assert_eq!(first.status(), 200);
    let events = events(&first.bytes().await.unwrap());
    assert_eq!(events.len(), 1);
    assert_eq!(json_of(&events[0])["error"]["type"], "server_error");

    let text = anthropic(&simulator, &hello("m", true)).await.text().await.unwrap();
    assert!(text.contains("\"text\":\"Hello\"") && !text.contains("message_stop"));
    assert!(text.ends_with(
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n"
    ));
    let text = groq(&simulator, &hello("m", true)).await.text().await.unwrap();
    assert!(text.starts_with("event: error\n") && text.contains("\"status_code\":500"));
    assert_eq!(openai(&Client::new(), &simulator, &hello("m", false)).await.unwrap().status(), 500);
}

#[tokio::test]
async fn raw_bytes_keep_their_cuts() {
    let pieces = ["data: {\"a\"", ": 1}\n", "\ndata: [DONE]\n\n"].map(|piece| (Duration::ZERO, Bytes::from(piece)));
    let chunks = pieces.to_vec();
    let simulator = scripted(Step::Raw { status: 203, content_type: "text/event-stream".to_owned(), chunks }).await;
    let mut response = openai(&Client::new(), &simulator, &hello("m", true)).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (203, &"text/event-stream".parse().unwrap())
    );
    let mut received = Vec::new();
    while let Some(chunk) = response.chunk().await.unwrap() {
        received.push(chunk);
    }
    assert_eq!(received, pieces.map(|(_, piece)| piece));
}

#[tokio::test]
async fn wrong_content_is_served_as_if_it_were_right() {
    let simulator = scripted(Step::HtmlOk).await;
    simulator.then([Step::BadJson, Step::BadJson]);
    let client = Client::new();
    let page = openai(&client, &simulator, &hello("m", true)).await.unwrap();
    assert_eq!((page.status().as_u16(), &page.headers()["content-type"]), (200, &"text/html".parse().unwrap()));
    let bad = openai(&client, &simulator, &hello("m", false)).await.unwrap();
    assert_eq!(bad.headers()["content-type"], "application/json");
    assert!(bad.json::<Value>().await.is_err());
    let bad = openai(&client, &simulator, &hello("m", true)).await.unwrap().bytes().await.unwrap();
    assert!(serde_json::from_str::<Value>(&events(&bad)[0]).is_err());
}

#[tokio::test]
async fn an_early_status_does_not_wait_for_the_body() {
    let simulator = scripted(Step::EarlyStatus { status: 413 }).await;
    let endless = tokio_stream::pending::<Result<Bytes, std::io::Error>>();
    let request = Client::new().post(format!("{}/v1/chat/completions", simulator.url()));
    let response = request.body(reqwest::Body::wrap_stream(endless)).send().await.unwrap();
    assert_eq!(response.status(), 413);
    assert!(!simulator.seen()[0].body_complete);
    assert_eq!(openai(&Client::new(), &simulator, &hello("m", false)).await.unwrap().status(), 200);
}

#[tokio::test]
async fn large_bodies_arrive_whole_with_a_length_and_in_chunks() {
    let simulator = simulator(Behaviour::new("acme")).await;
    let mut body = hello("m", false);
    body["messages"][0]["content"] = json!("x".repeat(5 << 20));
    let bytes = Bytes::from(serde_json::to_vec(&body).unwrap());
    let url = format!("{}/v1/chat/completions", simulator.url());
    let parts: Vec<Result<Bytes, std::io::Error>> =
        bytes.chunks(70_001).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
    Client::new().post(&url).body(bytes.clone()).send().await.unwrap();
    Client::new().post(&url).body(reqwest::Body::wrap_stream(tokio_stream::iter(parts))).send().await.unwrap();
    let seen = simulator.seen();
    assert_eq!(
        (seen[0].header("content-length"), seen[1].header("transfer-encoding")),
        (Some(bytes.len().to_string().as_str()), Some("chunked"))
    );
    assert_eq!(seen[0].body, bytes);
    assert_eq!(seen[0].body_sha256(), seen[1].body_sha256());
    let refused = Client::new().post(&url).body("not json").send().await.unwrap();
    assert_eq!(refused.status(), 400);
}

#[tokio::test]
async fn memory_is_bounded_when_asked_for() {
    let simulator = simulator(Behaviour::new("acme").remember(2)).await;
    for _ in 0..5 {
        openai(&Client::new(), &simulator, &hello("m", false)).await.unwrap();
    }
    let seen = simulator.wait_until(|seen| seen.iter().all(|seen| seen.outcome == Outcome::Finished)).await.unwrap();
    assert_eq!(seen.iter().map(|seen| seen.number).collect::<Vec<_>>(), [3, 4]);
}

#[tokio::test]
async fn after_the_shutdown_the_port_is_free_and_open_answers_break() {
    let simulator = scripted(Step::HangAfterHead).await;
    let address = simulator.address();
    let response = openai(&Client::new(), &simulator, &hello("m", true)).await.unwrap();
    simulator.shutdown().await;
    assert!(!drain(response).await.1);
    let listener = TcpListener::bind(address).await.unwrap();
    let again = Simulator::start_on(listener, Behaviour::new("acme")).unwrap();
    assert_eq!(openai(&Client::new(), &again, &hello("m", false)).await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_demo_has_three_characters_and_lines_to_paste() {
    let demo = super::demo::DemoProviders::start().await.unwrap();
    let first = groq(&demo.flaky, &hello("m", false)).await.status();
    let second = groq(&demo.flaky, &hello("m", false)).await.status();
    assert_eq!((first.as_u16(), second.as_u16()), (500, 200));
    let cheap: Value = anthropic(&demo.cheap, &hello("m", false)).await.json().await.unwrap();
    assert!(cheap["content"][0]["text"].as_str().unwrap().contains("simulated anthropic: 20 tokens (cheap)"));

    let lines = super::demo::curl_lines("http://127.0.0.1:3000", "pk_x", "jwt_y", "ws_z");
    assert_eq!(lines.matches("curl ").count(), 4);
    assert_eq!(lines.matches("Bearer pk_x").count(), 3);
    assert!(lines.contains("http://127.0.0.1:3000/workspaces/ws_z/usage") && lines.contains("Bearer jwt_y"));
}
