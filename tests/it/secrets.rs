//! Canaries: secrets are planted wherever one is kept, providers and clients are made to quote them, and then everything that
//! leaves the gateway is searched: answers, logs, metrics and files.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use perpetuo::config::{AccessFormat, Config, Secret};
use perpetuo::simulator::{Behaviour, Simulator, Step};
use perpetuo::store::LogQuery;
use reqwest::Method;
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::process::{Furnished, Process, Site, command, text};
use crate::support::{Answer, World, free_address, hello, hello_stream, within};
use crate::tracing::Collector;

/// The stored provider keys.
const PROVIDER_KEY: &str = "sk-canary-provider-8d1f0c7b5a3e";
/// A secret inside the options of a credential.
const OPTION: &str = "canary-session-token-2b9e6f4a1c8d";
/// A secret deeper inside.
const DEEP_OPTION: &str = "canary-private-key-77aa01fe93bc";
/// What the collector of spans is told, so that it takes them.
const COLLECTOR: &str = "canary-collector-token-5c4b3a29";
/// What signs admin tokens.
const JWT_SECRET: &str = "canary-jwt-secret-0f1e2d3c4b5a69788796a5b4c3d2e1f0";
/// What a user says; no secret of ours, and still nobody else's business.
const PROMPT: &str = "canary-prompt-the-patient-has-a-cold";
/// What a model answers.
const REPLY: &str = "canary-reply-drink-tea";

/// Everything that was logged in this process, of this crate down to TRACE, of others as the program shows it.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn capture() -> &'static Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Self::default();
            let filter = EnvFilter::new("warn,perpetuo=trace");
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(log.clone()).with_ansi(false).init();
            log
        })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// A gateway full of canaries.
struct Aviary {
    world: World,
    metrics: std::net::SocketAddr,
    log: &'static Log,
    /// Everything that clients were told.
    told: Vec<String>,
}

impl Aviary {
    async fn open() -> Self {
        Self::open_with(|_, _| ()).await
    }

    /// With these changes, which are told the world's directory.
    async fn open_with(change: impl FnOnce(&mut Config, &Path)) -> Self {
        let log = Log::capture();
        let metrics = free_address();
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().to_owned();
        let world = World::start_in(dir, |config| {
            config.jwt.hs256_secret = Some(Secret::new(JWT_SECRET));
            config.metrics.enabled = true;
            config.metrics.listen = metrics;
            config.retry.max_attempts = 1;
            change(config, &path);
        })
        .await;
        Self { world, metrics, log, told: Vec::new() }
    }

    /// A provider that answers so, behind a credential with every kind of secret.
    async fn provider(&self, name: &str, step: Step) -> Simulator {
        let simulator = Simulator::start(Behaviour::new(name).always(step)).await.unwrap();
        self.credential(name, &simulator);
        simulator
    }

    fn credential(&self, name: &str, simulator: &Simulator) -> String {
        self.world.add(name, simulator, |credential| {
            credential.api_key = Some(Secret::new(PROVIDER_KEY));
            credential.options =
                json!({"session_token": OPTION, "service_account": {"private_key": DEEP_OPTION}}).as_object().cloned();
        })
    }

    fn note(&mut self, answer: &Answer) {
        self.told.push(format!("{} {:?} {}", answer.status, answer.headers, answer.text()));
    }

    /// Searches what was told and logged for each of these.
    fn search(&self, canaries: &[&str]) {
        let log = self.log.text();
        for canary in canaries {
            for told in &self.told {
                assert!(!told.contains(canary), "an answer quotes {canary}: {told}");
            }
            assert!(!log.contains(canary), "the log quotes {canary}: {}", lines_with(&log, canary));
        }
    }
}

fn lines_with(log: &str, word: &str) -> String {
    log.lines().filter(|line| line.contains(word)).collect::<Vec<_>>().join("\n")
}

/// Every secret in one text, as a careless provider would quote it.
fn quote() -> String {
    format!("Bad key {PROVIDER_KEY} with {OPTION} and {DEEP_OPTION}")
}

/// An error body of OpenAI's with secrets in every member.
fn careless_error() -> Value {
    json!({"error": {"message": quote(), "type": PROVIDER_KEY, "code": PROVIDER_KEY, "param": PROVIDER_KEY}})
}

fn raw(content_type: &str, body: impl Into<String>) -> Step {
    let chunks = vec![(Duration::ZERO, body.into().into())];
    Step::Raw { status: 200, content_type: content_type.to_owned(), chunks }
}

/// Answers that quote secrets: as errors of every status, in headers, in a 200 that is none, in events before and after the
/// first content.
fn careless_answers(anthropic: bool) -> Vec<Step> {
    let body = match anthropic {
        true => json!({"type": "error", "error": {"type": PROVIDER_KEY, "message": quote()}}),
        false => careless_error(),
    };
    let headers = ["www-authenticate", "location", "x-debug", "retry-after", "x-request-id"];
    let headers: Vec<_> = headers.map(|name| (name.to_owned(), PROVIDER_KEY.to_owned())).into();
    let mut steps: Vec<Step> = [302, 400, 401, 403, 404, 413, 422, 429, 500, 503]
        .into_iter()
        .map(|status| Step::Status { status, headers: headers.clone(), body: Some(body.to_string().into()) })
        .collect();
    steps.push(Step::Status { status: 500, headers, body: Some(quote().into()) });
    steps.push(raw("application/json", quote()));
    steps.push(raw("application/json", format!("{{\"choices\":\"{}\",\"content\":\"{0}\"}}", quote())));
    steps.push(raw(&format!("text/{PROVIDER_KEY}"), "hello"));
    steps.push(raw("application/json", body.to_string()));
    let event = if anthropic { format!("event: error\ndata: {body}\n\n") } else { format!("data: {body}\n\n") };
    let content = if anthropic {
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\
         \"model\":\"m\",\"content\":[],\"stop_reason\":null,\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\n\
         event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
         event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hi\"}}\n\n"
    } else {
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}]}\n\n"
    };
    for start in ["", content] {
        steps.push(raw("text/event-stream", format!("{start}{event}")));
        steps.push(raw("text/event-stream", format!("{start}data: {}\n\n", quote())));
        steps.push(raw(
            "text/event-stream",
            format!("{start}event: {PROVIDER_KEY}\ndata: {{\"type\":\"{PROVIDER_KEY}\"\n\n"),
        ));
    }
    steps
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_quotes_its_key_is_not_repeated() {
    for (provider, model) in [("openai", "gpt-4o"), ("anthropic", "claude-sonnet-4-6"), ("groq", "groq/m")] {
        let mut aviary = Aviary::open().await;
        let simulator = Simulator::start(Behaviour::new(provider).always(Step::Hang)).await.unwrap();
        let (mut asked, mut failures) = (0, 0);
        for step in careless_answers(provider == "anthropic") {
            for body in [hello(model), hello_stream(model)] {
                // A new one each time: a credential that was refused or limited is not asked again.
                let credential = aviary.credential(provider, &simulator);
                simulator.then([step.clone()]);
                asked += 1;
                let answer = aviary.world.chat(&body).await;
                failures += usize::from(answer.status >= 400 || answer.text().contains("\"error\""));
                aviary.note(&answer);
                aviary.world.gateway.directory().delete_credential(&aviary.world.workspace, &credential).unwrap();
            }
        }
        assert!(failures > 30, "{provider}: only {failures} of the answers were failures");
        let seen = simulator.seen();
        assert_eq!(seen.len(), asked, "{provider}: every answer was used");
        assert!(seen.iter().all(|seen| seen.authorization_matches(PROVIDER_KEY)), "{provider}");
        aviary.search(&[PROVIDER_KEY, OPTION, DEEP_OPTION, JWT_SECRET, &aviary.world.key]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_api_takes_secrets_and_gives_none_back() {
    let mut aviary = Aviary::open().await;
    let simulator = aviary
        .provider(
            "openai",
            Step::Status { status: 500, headers: vec![], body: Some(careless_error().to_string().into()) },
        )
        .await;
    let at = format!("/workspaces/{}", aviary.world.workspace);
    let credential = json!({
        "provider": "anthropic", "api_key": PROVIDER_KEY, "base_url": simulator.url(),
        "options": {"session_token": OPTION, "service_account": {"private_key": DEEP_OPTION}, "region": "eu-1"},
    });
    let made = aviary.world.admin(Method::POST, &format!("{at}/providers"), Some(&credential)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()["data"]["id"].as_str().unwrap().to_owned();
    assert_eq!(
        made.json()["data"]["options"],
        json!({"session_token": "[sealed]", "service_account": "[sealed]", "region": "eu-1"})
    );
    aviary.note(&made);
    let one = format!("{at}/providers/{id}");
    let mut calls = vec![
        (Method::GET, format!("{at}/providers"), None),
        (Method::GET, one.clone(), None),
        (Method::PUT, one.clone(), Some(json!({"priority": 7}))),
        (Method::POST, format!("{one}/test"), None),
        (Method::GET, format!("{at}/api-keys"), None),
        (Method::GET, format!("{at}/logs"), None),
        (Method::POST, format!("{at}/route"), Some(hello("gpt-4o"))),
    ];
    // A key in the wrong place is refused, and not quoted.
    for misplaced in [
        json!({"provider": PROVIDER_KEY}),
        json!({"provider": {"name": PROVIDER_KEY}}),
        json!({"provider": "openai", "api_key": [PROVIDER_KEY]}),
        json!({"provider": "openai", "api_key": format!("{PROVIDER_KEY} {OPTION}")}),
        json!({"provider": "openai", "api_key": "sk-1", "priority": PROVIDER_KEY}),
        json!({"provider": "openai", "api_key": "sk-1", "base_url": format!("https://{PROVIDER_KEY}:{OPTION}@example.com/v1")}),
        json!({"provider": "openai", "api_key": "sk-1", "models": PROVIDER_KEY}),
        json!({"provider": "openai", "api_key": "sk-1", "options": PROVIDER_KEY}),
    ] {
        calls.push((Method::POST, format!("{at}/providers"), Some(misplaced)));
    }
    calls.push((Method::DELETE, one, None));
    for (method, path, body) in calls {
        let answer = aviary.world.admin(method, &path, body.as_ref()).await;
        aviary.note(&answer);
    }
    let token = aviary.world.admin_token(perpetuo::admin::auth::Role::Admin, &[]);
    aviary.search(&[PROVIDER_KEY, OPTION, DEEP_OPTION, JWT_SECRET, &aviary.world.key, &token]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_key_in_the_wrong_place_is_not_written_down() {
    let mut aviary = Aviary::open().await;
    let _provider = aviary.provider("openai", Step::Ok).await;
    let key = aviary.world.key.clone();
    let chat = aviary.world.url("/v1/chat/completions");
    let client = aviary.world.client().clone();
    let sent = [
        client.post(format!("{chat}?key={key}")).json(&hello("gpt-4o")),
        client.post(&chat).header("authorization", &key).json(&hello("gpt-4o")),
        client.post(&chat).header("authorization", format!("Basic {key}")).json(&hello("gpt-4o")),
        client.post(&chat).bearer_auth(&key).header("x-api-key", &key).json(&hello("gpt-4o")),
        client.post(&chat).bearer_auth(&key).header("x-perpetuo-route", &key).json(&hello("gpt-4o")),
        client.post(&chat).bearer_auth(&key).header("x-perpetuo-timeout", &key).json(&hello("gpt-4o")),
        client.post(&chat).bearer_auth(&key).body(format!("{{\"model\": {key}}}")),
        client.get(aviary.world.url("/workspaces")).bearer_auth(&key),
    ];
    for request in sent {
        let answer = Answer::of(request).await;
        assert!((400..500).contains(&answer.status), "{}", answer.text());
        aviary.note(&answer);
    }
    aviary.search(&[&key]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_in_anything_that_leaves_the_gateway_or_stays_on_its_disk() {
    let mut collector = Collector::start([]).await;
    let endpoint = collector.url.parse().unwrap();
    let mut aviary = Aviary::open_with(|config, dir| {
        config.log.access = AccessFormat::Json;
        config.log.access_file = Some(dir.join("access.log"));
        config.log.client_address = true;
        config.tracing.endpoint = Some(endpoint);
        config.tracing.headers = Some(Secret::new(format!("authorization=Bearer%20{COLLECTOR}")));
    })
    .await;
    let said = json!({
        "id": "x", "object": "chat.completion", "created": 1, "model": "gpt-4o",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": REPLY}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    });
    let simulator = aviary.provider("openai", raw("application/json", said.to_string())).await;
    let careless = Step::Status { status: 400, headers: vec![], body: Some(careless_error().to_string().into()) };
    let chat = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": PROMPT}]});
    for step in [None, Some(careless), None] {
        simulator.then(step);
        let answer = aviary.world.chat(&chat).await;
        if answer.status != 200 {
            aviary.note(&answer);
        }
    }
    aviary.world.booked(3).await;
    everything_that_can_be_read(&mut aviary).await;
    let scraped = within("metrics", reqwest::get(format!("http://{}/metrics", aviary.metrics))).await.unwrap();
    let metrics = scraped.text().await.unwrap();
    assert!(metrics.contains("perpetuo_requests_total"), "{metrics}");
    collector.spans(6).await;
    // The journal is compressed: what is in it is read here, and its bytes below.
    let store = &aviary.world.store;
    let logs = store.logs(&aviary.world.workspace, &LogQuery { limit: 1000, ..LogQuery::default() }).unwrap();
    let kept = format!("{:?} {:?}", store.tenancy().unwrap(), logs.requests);
    assert!(kept.contains("sealed: \"v1.") && logs.requests.len() == 3, "{kept}");

    aviary.world.stop(true).await;
    let token = aviary.world.admin_token(perpetuo::admin::auth::Role::Admin, &[]);
    let key = aviary.world.key.clone();
    let canaries = [PROVIDER_KEY, OPTION, DEEP_OPTION, JWT_SECRET, COLLECTOR, PROMPT, REPLY, &key, &token];
    aviary.search(&canaries);
    let spans = collector.text();
    assert!(spans.contains(&aviary.world.workspace), "{spans}");
    for canary in canaries {
        assert!(!metrics.contains(canary), "the metrics quote {canary}");
        assert!(!spans.contains(canary), "the spans quote {canary}");
        assert!(!kept.contains(canary), "the store holds {canary}");
    }
    assert!(aviary.log.text().contains("a candidate was chosen"), "nothing was captured:\n{}", aviary.log.text());
    let access = std::fs::read_to_string(aviary.world.dir.path().join("access.log")).unwrap();
    assert!(access.lines().filter(|line| line.contains("/v1/chat/completions")).count() == 3, "{access}");
    let mut files = 0;
    search_files(aviary.world.dir.path(), &canaries, &mut files);
    assert!(files >= 4, "only {files} files were searched");
}

/// Notes the answer to every GET of the admin API, exports and details among them, and every file of the console.
async fn everything_that_can_be_read(aviary: &mut Aviary) {
    let credentials = aviary.world.gateway.directory().workspace(&aviary.world.workspace).unwrap().credentials.clone();
    let keys = aviary.world.gateway.directory().keys(&aviary.world.workspace);
    let mut paths = Vec::new();
    for (_, path) in perpetuo::admin::routes().filter(|(method, _)| *method == "GET") {
        let id = if path.contains("/providers/") { &credentials[0].id } else { &keys[0].id };
        paths.push(path.replace("{ws}", &aviary.world.workspace).replace("{id}", id));
    }
    let logs = format!("/workspaces/{}/logs", aviary.world.workspace);
    paths.extend(["?details=true", "/export?format=csv", "/export?format=ndjson"].map(|more| format!("{logs}{more}")));
    paths.extend(
        ["", "app.js", "style.css", "providers.js", "keys.js", "playground.js"].map(|file| format!("/console/{file}")),
    );
    for path in paths {
        let answer = aviary.world.admin(Method::GET, &path, None).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        aviary.note(&answer);
    }
}

/// The program itself with every line of its log, on both of its outputs: provider keys, the secrets of its configuration, tokens
/// and virtual keys, right ones and wrong ones, through requests, refusals, a reload and the end.
#[tokio::test(flavor = "multi_thread")]
async fn the_program_prints_no_secret_however_much_it_logs() {
    const MASTER: &str = "c0ffee11c0ffee22c0ffee33c0ffee44c0ffee55c0ffee66c0ffee77c0ffee88";
    let site = Site::new();
    site.configure(
        "master_key = \"env:MASTER\"\n[jwt]\nhs256_secret = \"env:TOKENS\"\n[log]\nlevel = \"trace\"\nformat = \"json\"\n\
         access = \"json\"\nclient_address = true\n",
    );
    let with_secrets = |arguments: &[&str]| {
        let mut command = command(arguments);
        command.arg("--config").arg(site.config()).env("MASTER", MASTER).env("TOKENS", JWT_SECRET);
        command.env("GROQ_API_KEY", PROVIDER_KEY);
        command
    };
    let first = Process::start(&mut with_secrets(&["serve"]));
    first.until_healthy(&site.address).await;
    let checked = with_secrets(&["check"]).output().unwrap();
    let careless = Step::Status { status: 401, headers: vec![], body: Some(careless_error().to_string().into()) };
    let refused = Behaviour::new("openai").always(careless);
    let mut again = with_secrets(&["serve"]);
    let mut gateway = Furnished::over(refused, site, first).await;
    let printed = [gateway.process.log.all(), text(&checked.stdout), text(&checked.stderr)].concat();

    // The first start shows a key and a token; the second one nothing.
    gateway.process.signal("TERM");
    assert_eq!(gateway.process.exit().await.code(), Some(0));
    gateway.process = Process::start(&mut again);
    gateway.process.until_healthy(&gateway.site.address).await;
    let wrong = format!("{}x", gateway.key);
    for key in [&gateway.key, &wrong] {
        let answer = gateway.site.chat(key, hello("openai/gpt-4o")).await.unwrap();
        assert!(answer.status().is_client_error() || answer.status().is_server_error());
    }
    for path in [format!("/v1/models?key={}", gateway.key), format!("/workspaces?token={}", gateway.token)] {
        reqwest::get(gateway.site.url(&path)).await.unwrap();
    }
    gateway.usage().await;
    gateway.process.signal("HUP");
    gateway.process.log.wait_for("configuration reloaded");
    gateway.process.signal("TERM");
    assert_eq!(gateway.process.exit().await.code(), Some(0));

    let printed = [printed, gateway.process.log.all(), gateway.process.out()].concat();
    assert!(printed.contains("TRACE") || printed.contains("trace"), "it did not log everything:\n{printed}");
    assert!(printed.contains("/v1/chat/completions"), "there is no access log:\n{printed}");
    for canary in [PROVIDER_KEY, MASTER, JWT_SECRET, "sk-process", &gateway.key, &gateway.token] {
        assert!(!printed.contains(canary), "{canary} is printed:\n{}", lines_with(&printed, canary));
    }
}

/// What holds a secret can't be printed by mistake, in a panic's message or anywhere else: it has no `Debug`.
#[test]
fn nothing_that_holds_a_secret_has_a_debug_form() {
    trait Printable<Marker> {
        fn none() {}
    }
    impl<T: ?Sized> Printable<()> for T {}
    impl<T: ?Sized + std::fmt::Debug> Printable<u8> for T {}
    // Of a type with `Debug`, it would not be clear which of the two is meant, and this would not compile.
    macro_rules! without_debug {
        ($($holder:ty),*) => { $(<$holder as Printable<_>>::none();)* };
    }
    without_debug!(
        Secret,
        perpetuo::vault::MasterKey,
        perpetuo::vault::Vault,
        perpetuo::vault::VirtualKeys,
        perpetuo::directory::Credential,
        perpetuo::directory::CredentialChange,
        perpetuo::directory::Options,
        perpetuo::directory::Workspace,
        perpetuo::directory::Caller,
        perpetuo::directory::Directory,
        perpetuo::admin::auth::Jwt,
        perpetuo::admin::AdminState
    );
}

/// Searches every byte of every file below a directory, also as UTF-16, hexadecimal and base64 would show it.
fn search_files(directory: &Path, canaries: &[&str], files: &mut usize) {
    use base64::Engine as _;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            search_files(&path, canaries, files);
            continue;
        }
        *files += 1;
        let bytes = std::fs::read(&path).unwrap();
        for canary in canaries {
            let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(&canary[..canary.len() / 3 * 3]);
            let hex: String = canary.bytes().map(|byte| format!("{byte:02x}")).collect();
            for needle in [canary.as_bytes(), encoded.as_bytes(), hex.as_bytes()] {
                let found = bytes.windows(needle.len()).any(|window| window == needle);
                assert!(!found, "{} holds {canary}", path.display());
            }
        }
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn the_master_key_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::plain().await;
    let mode = std::fs::metadata(world.dir.path().join("master.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_configuration_never_quotes_what_is_secret_in_it() {
    let parse = |text: &str, env: &[(&str, &str)]| {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::parse(text, "p.toml", env)
    };
    let good = parse(&format!("[jwt]\nhs256_secret = \"{JWT_SECRET}\"\n"), &[]).unwrap();
    assert!(!format!("{good:?}").contains(JWT_SECRET));
    let short = "canary-short";
    for (text, env) in [
        (format!("[jwt]\nhs256_secret = \"{short}\"\n"), vec![]),
        (format!("[security]\nmaster_key = \"{JWT_SECRET}\"\n"), vec![]),
        (format!("[security]\nold_master_keys = [\"{JWT_SECRET}\", \"{JWT_SECRET}\"]\n"), vec![]),
        (format!("[security]\nold_master_keys = \"{JWT_SECRET}\"\n"), vec![]),
        (format!("[jwt]\nhs256_secrets = \"{JWT_SECRET}\"\n"), vec![]),
        (format!("[jwt]\nhs256_secret = [\"{JWT_SECRET}\"]\n"), vec![]),
        ("[security]\nmaster_key = \"env:KEY\"\n".to_owned(), vec![("KEY", short)]),
        ("[jwt]\nhs256_secret = \"env:KEY\"\n".to_owned(), vec![("KEY", short)]),
        (String::new(), vec![("PERPETUO__JWT__HS256_SECRET", short)]),
    ] {
        let said = parse(&text, &env).expect_err(&text).to_string();
        assert!(!said.contains(JWT_SECRET) && !said.contains(short), "{said}");
    }
}
