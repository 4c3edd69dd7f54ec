//! The binary as an operator meets it: its commands, its first start, its signals, and what is left of it after `kill -9`.
//!
//! Each test starts real processes on ports that were free a moment before, over a data directory of its own.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use perpetuo::simulator::{Behaviour, Simulator};
use serde_json::{Value, json};

use crate::support::{PATIENCE, free_address};

/// A directory with a configuration file, and the ports it names.
pub struct Site {
    pub directory: tempfile::TempDir,
    pub address: String,
    pub metrics: String,
}

impl Site {
    pub fn new() -> Self {
        let [address, metrics] = [(); 2].map(|()| free_address().to_string());
        let site = Self { directory: tempfile::tempdir().unwrap(), address, metrics };
        site.configure("");
        site
    }

    /// Writes the configuration: what every test needs, and `more` after it.
    pub fn configure(&self, more: &str) {
        let text = format!(
            "data_dir = {:?}\n[server]\nlisten = \"{}\"\nthreads = 2\n[metrics]\nlisten = \"{}\"\n\
             [security]\nallow_private_upstreams = [\"127.0.0.1\"]\n{more}",
            self.data_dir(),
            self.address,
            self.metrics
        );
        std::fs::write(self.config(), text).unwrap();
    }

    pub fn config(&self) -> PathBuf {
        self.directory.path().join("perpetuo.toml")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        command(arguments).arg("--config").arg(self.config()).output().unwrap()
    }

    /// Runs `serve` over another site's data, to its end.
    fn serve_over(&self, data_dir: &Path) -> Output {
        command(&["serve"]).arg("--config").arg(self.config()).env("PERPETUO__DATA_DIR", data_dir).output().unwrap()
    }

    /// Starts `serve` and waits until it answers.
    pub async fn serve(&self) -> Process {
        let process = Process::start(command(&["serve"]).arg("--config").arg(self.config()));
        process.until_healthy(&self.address).await;
        process
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn chat(&self, key: &str, body: Value) -> reqwest::Result<reqwest::Response> {
        reqwest::Client::new().post(self.url("/v1/chat/completions")).bearer_auth(key).json(&body).send().await
    }

    pub async fn get(&self, token: &str, path: &str) -> Value {
        let answer = reqwest::Client::new().get(self.url(path)).bearer_auth(token).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.unwrap()
    }

    pub async fn post(&self, token: &str, path: &str, body: Value) -> Value {
        let answer = reqwest::Client::new().post(self.url(path)).bearer_auth(token).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 201, "{path}");
        answer.json().await.unwrap()
    }
}

/// The binary, in an environment that holds nothing.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_perpetuo"));
    command.args(arguments).env_clear();
    command
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Lines as they come.
#[derive(Clone, Default)]
pub struct Lines(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Lines {
    fn read(&self, from: impl std::io::Read + Send + 'static) {
        let Self(shared) = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                shared.0.lock().unwrap().push(line);
                shared.1.notify_all();
            }
        });
    }

    pub fn all(&self) -> String {
        self.0.0.lock().unwrap().join("\n")
    }

    /// Waits for a line that holds these words.
    pub fn wait_for(&self, words: &str) {
        let lines = self.0.0.lock().unwrap();
        let missing = |lines: &mut Vec<String>| !lines.iter().any(|line| line.contains(words));
        let (lines, waited) = self.0.1.wait_timeout_while(lines, PATIENCE, missing).unwrap();
        assert!(!waited.timed_out(), "no line with '{words}' in:\n{}", lines.join("\n"));
    }
}

/// A running process; ended when dropped.
pub struct Process {
    child: Child,
    out: Lines,
    pub log: Lines,
}

impl Process {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, log) = (Lines::default(), Lines::default());
        out.read(child.stdout.take().unwrap());
        log.read(child.stderr.take().unwrap());
        Self { child, out, log }
    }

    pub async fn until_healthy(&self, address: &str) {
        let client = reqwest::Client::new();
        let deadline = Instant::now() + PATIENCE;
        while client.get(format!("http://{address}/health")).send().await.is_err() {
            assert!(Instant::now() < deadline, "it never listened:\n{}", self.log.all());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub async fn exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it did not end:\n{}", self.log.all());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn kill_9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Everything on standard output so far.
    pub fn out(&self) -> String {
        self.out.all()
    }

    /// Waits for a line on standard error that holds these words, and returns it.
    pub fn logged(&self, words: &str) -> String {
        self.log.wait_for(words);
        self.log.all().lines().find(|line| line.contains(words)).unwrap().to_owned()
    }

    /// The same on standard output.
    pub fn said(&self, words: &str) -> String {
        self.out.wait_for(words);
        self.out.all().lines().find(|line| line.contains(words)).unwrap().to_owned()
    }

    /// What stands behind a label in what the first start printed.
    pub fn printed(&self, label: &str) -> String {
        self.out.wait_for("Chat:");
        let out = self.out.all();
        let line = out.lines().find_map(|line| line.trim().strip_prefix(label)).unwrap_or_else(|| panic!("{out}"));
        line.trim().to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gateway that has been started once, with one simulated provider behind it.
pub struct Furnished {
    pub site: Site,
    pub process: Process,
    pub provider: Simulator,
    pub workspace: String,
    pub key: String,
    pub token: String,
}

impl Furnished {
    pub async fn start(behaviour: Behaviour) -> Self {
        Self::start_with(behaviour, "").await
    }

    /// The same with more in the configuration.
    pub async fn start_with(behaviour: Behaviour, more: &str) -> Self {
        let site = Site::new();
        site.configure(more);
        Self::furnish(behaviour, site).await
    }

    /// The same with more in `[server]`.
    pub async fn start_server(behaviour: Behaviour, more: &str) -> Self {
        let site = Site::new();
        let written = std::fs::read_to_string(site.config()).unwrap();
        std::fs::write(site.config(), written.replace("threads = 2", &format!("threads = 2\n{more}"))).unwrap();
        Self::furnish(behaviour, site).await
    }

    async fn furnish(behaviour: Behaviour, site: Site) -> Self {
        let process = site.serve().await;
        Self::over(behaviour, site, process).await
    }

    /// The same over a gateway that is at its first start.
    pub async fn over(behaviour: Behaviour, site: Site, process: Process) -> Self {
        let provider = Simulator::start(behaviour).await.unwrap();
        let [workspace, key, token] = ["workspace", "virtual key", "admin token"].map(|label| process.printed(label));
        let body = json!({"provider": "openai", "api_key": "sk-process", "base_url": format!("{}/v1", provider.url())});
        site.post(&token, &format!("/workspaces/{workspace}/providers"), body).await;
        Self { site, process, provider, workspace, key, token }
    }

    pub async fn usage(&self) -> Value {
        self.site.get(&self.token, &format!("/workspaces/{}/usage", self.workspace)).await
    }

    /// Every entry of the request log.
    pub async fn logs(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for page in 1.. {
            let path = format!("/workspaces/{}/logs?limit=1000&page={page}", self.workspace);
            let Value::Array(logs) = self.site.get(&self.token, &path).await["logs"].take() else { panic!("no logs") };
            if logs.is_empty() {
                break;
            }
            all.extend(logs);
        }
        all
    }

    /// Waits until the ledger holds at least so many tokens.
    async fn until_booked(&self, tokens: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.usage().await["total_tokens"].as_u64().unwrap() < tokens {
            assert!(Instant::now() < deadline, "{tokens} tokens never came into the ledger");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub fn hello(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "Hello, who are you?"}]})
}

#[test]
fn check_prints_every_mistake_with_its_place() {
    let site = Site::new();
    std::fs::write(
        site.config(),
        "[server]\nlisten = \"nowhere\"\ntreads = 4\n[retry]\nmax_attempts = 99\n[routing]\nstrategy = \"quickest\"\n",
    )
    .unwrap();
    let output = site.run(&["check"]);
    assert!(!output.status.success());
    let said = text(&output.stderr);
    for (line, word) in [(2, "server.listen"), (3, "treads"), (5, "max_attempts"), (7, "strategy")] {
        let place = format!("perpetuo.toml:{line}:");
        assert!(said.lines().any(|said| said.contains(&place) && said.contains(word)), "{place} {word} in:\n{said}");
    }
    site.configure("");
    let output = site.run(&["check"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!site.data_dir().exists(), "a check changes nothing");
}

#[cfg(unix)]
#[test]
fn an_environment_that_is_no_text_is_no_reason_to_panic() {
    use std::os::unix::ffi::OsStrExt as _;
    let site = Site::new();
    let mut command = command(&["check"]);
    command.arg("--config").arg(site.config()).env("SOMETHING", std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn check_finds_the_mistakes_of_the_catalogue_too() {
    let site = Site::new();
    let models = site.directory.path().join("models.toml");
    std::fs::write(&models, "[[model]]\nname = \"m\"\nprovider = \"nobody\"\ninput = -1.0\noutput = 1.0\n").unwrap();
    std::fs::write(site.config(), format!("models = {models:?}\n")).unwrap();
    let output = site.run(&["check"]);
    assert!(!output.status.success());
    let said = text(&output.stderr);
    assert!(said.contains("models.toml:3") && said.contains("models.toml:4"), "{said}");
}

#[test]
fn the_admin_api_is_never_open_to_a_network_by_accident() {
    let site = Site::new();
    std::fs::write(site.config(), "[server]\nlisten = \"0.0.0.0:0\"\n[metrics]\nenabled = false\n").unwrap();
    let output = site.run(&["serve"]);
    assert!(!output.status.success());
    let said = text(&output.stderr);
    assert!(said.contains("server.listen") && said.contains("[admin] listen") && said.contains("reachable"), "{said}");
    assert_eq!(text(&output.stdout), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn token_prints_a_token_alone_and_the_admin_api_takes_it() {
    let gateway = Furnished::start(Behaviour::new("openai")).await;
    let minted = |arguments: &[&str]| {
        let output = gateway.site.run(&[&["token"], arguments].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let printed = text(&output.stdout);
        let token = printed.strip_suffix('\n').unwrap().to_owned();
        assert!(token.split('.').count() == 3 && !token.contains(char::is_whitespace), "{printed}");
        token
    };
    let admin = minted(&["--role", "admin", "--ttl", "10m"]);
    let all = gateway.site.get(&admin, "/workspaces").await;
    assert_eq!(all["data"][0]["id"], gateway.workspace.as_str());

    let theirs = minted(&["--role", "workspace", "--workspace", "ws_of_somebody_else"]);
    assert_eq!(gateway.site.get(&theirs, "/workspaces").await["data"], json!([]));

    for wrong in [&["--role", "workspace"][..], &["--role", "king"], &["--ttl", "9999h"], &["--ttl", "soon"]] {
        let output = gateway.site.run(&[&["token"], wrong].concat());
        assert!(!output.status.success() && output.stdout.is_empty(), "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_shows_the_key_once_and_it_works() {
    let mut gateway = Furnished::start(Behaviour::new("openai")).await;
    let out = gateway.process.out.all();
    assert!(gateway.key.starts_with("pk_") && out.contains("curl"), "{out}");
    let answer = gateway.site.chat(&gateway.key, hello("openai/gpt-4o")).await.unwrap();
    assert_eq!(answer.status(), 200);

    gateway.process.signal("TERM");
    assert_eq!(gateway.process.exit().await.code(), Some(0));
    gateway.process = gateway.site.serve().await;
    let answer = gateway.site.chat(&gateway.key, hello("openai/gpt-4o")).await.unwrap();
    assert_eq!(answer.status(), 200, "the same key after a restart");
    for said in [gateway.process.out.all(), gateway.process.log.all()] {
        assert!(
            !said.contains(&gateway.key) && !said.contains("curl"),
            "nothing of the first start is said twice: {said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_takes_provider_keys_from_the_environment() {
    let site = Site::new();
    let mut command = command(&["serve"]);
    command
        .arg("--config")
        .arg(site.config())
        .env("OPENAI_API_KEY", "sk-from-env-0001")
        .env("GROQ_API_KEY", "gsk-0002");
    let process = Process::start(&mut command);
    process.until_healthy(&site.address).await;
    assert_eq!(process.printed("providers"), "openai, groq");
    let (workspace, token) = (process.printed("workspace"), process.printed("admin token"));
    let providers = site.get(&token, &format!("/workspaces/{workspace}/providers")).await;
    assert_eq!(providers["data"][0]["last_four"], "0001");
    assert!(!process.out.all().contains("sk-from-env") && !process.log.all().contains("sk-from-env"));
}

#[test]
fn the_demo_walks_through_everything_and_ends() {
    let address = free_address().to_string();
    let output = command(&["demo", "--once", "--listen", &address]).output().unwrap();
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{out}\n{}", text(&output.stderr));
    let parts: Vec<&str> = ["── A completion", "── A stream", "── A fallback", "── The bill"]
        .into_iter()
        .map(|part| out.split(part).nth(1).unwrap_or_else(|| panic!("{part} is missing in:\n{out}")))
        .collect();
    assert!(parts[0].contains("HTTP/1.1 200") && parts[0].contains("\"content\":"), "{out}");
    assert!(parts[1].contains("data: [DONE]"), "{out}");
    assert!(parts[2].contains("x-perpetuo-attempts: 2") && parts[2].contains("HTTP/1.1 200"), "{out}");
    let bill = parts[3].lines().find_map(|line| serde_json::from_str::<Value>(line.trim()).ok()).unwrap();
    assert!(bill["total_tokens"].as_u64().unwrap() > 0 && bill["total_cost"].as_f64().unwrap() > 0.0, "{bill}");
}

/// A reload with an invalid configuration is refused as a whole; the old one stays.
#[tokio::test(flavor = "multi_thread")]
async fn fault_78_invalid_configuration() {
    let gateway = Furnished::start(Behaviour::new("openai")).await;
    let strategy = async || {
        let answer = gateway.site.chat(&gateway.key, hello("openai/gpt-4o")).await.unwrap();
        answer.headers()["x-perpetuo-strategy"].to_str().unwrap().to_owned()
    };
    assert_eq!(strategy().await, "default");

    gateway.site.configure("[routing]\nstrategy = \"quickest\"\n");
    gateway.process.signal("HUP");
    gateway.process.log.wait_for("the old one stays");
    assert!(gateway.process.log.all().contains("routing.strategy"), "{}", gateway.process.log.all());
    assert_eq!(strategy().await, "default");

    gateway.site.configure("[routing]\nstrategy = \"cheapest\"\n");
    gateway.process.signal("HUP");
    gateway.process.log.wait_for("configuration reloaded");
    assert_eq!(strategy().await, "cheapest");

    let metrics = reqwest::get(format!("http://{}/metrics", gateway.site.metrics)).await.unwrap().text().await.unwrap();
    for result in ["success", "failure"] {
        let line = format!("perpetuo_config_reloads_total{{result=\"{result}\"}} 1");
        assert!(metrics.contains(&line), "{line} in:\n{metrics}");
    }
}

/// Sends requests one after the other until it is told to stop, or nobody answers any more.
async fn traffic(url: String, key: String, stop: Arc<AtomicBool>) {
    let client = reqwest::Client::new();
    while !stop.load(Ordering::Relaxed) {
        let sent = client.post(&url).bearer_auth(&key).json(&hello("openai/gpt-4o")).send().await;
        if sent.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_in_the_middle_of_traffic_loses_nothing_that_was_booked() {
    let mut gateway = Furnished::start(Behaviour::new("openai")).await;
    let mut before = 0;
    for round in 1..=5 {
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let url = gateway.site.url("/v1/chat/completions");
                tokio::spawn(traffic(url, gateway.key.clone(), Arc::clone(&stop)))
            })
            .collect();
        gateway.until_booked(before + 500).await;
        let booked = gateway.usage().await["total_tokens"].as_u64().unwrap();
        gateway.process.kill_9();
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.await.unwrap();
        }

        gateway.process = gateway.site.serve().await;
        let after = gateway.usage().await["total_tokens"].as_u64().unwrap();
        assert!(after >= booked, "round {round}: {booked} tokens were booked, {after} are there");
        let logs = gateway.logs().await;
        let tokens: u64 = logs.iter().map(|log| log["tokens"].as_u64().unwrap()).sum();
        assert_eq!(tokens, after, "round {round}: the log and the sums tell the same");
        let mut ids: Vec<&str> = logs.iter().map(|log| log["request_id"].as_str().unwrap()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), logs.len(), "round {round}: each request is there once");
        before = after;
    }
    let really: u64 = gateway.provider.seen().iter().map(|seen| seen.billed.total_tokens()).sum();
    assert!(before <= really, "nothing is billed that the provider did not give");
}

/// A client is not held up because many others are connected: the table of open files has room for all of them from the start.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn there_is_room_for_the_open_files_of_all_connections() {
    let site = Site::new();
    site.configure("[limits]\nmax_connections = 2000\n");
    let process = site.serve().await;
    let told = |file: &str, line: &str| {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", process.id())).unwrap();
        text.lines().find_map(|found| Some(found.strip_prefix(line)?.to_owned())).unwrap()
    };
    let limits = told("limits", "Max open files");
    let [soft, hard] = limits.split_whitespace().take(2).collect::<Vec<_>>()[..] else { panic!("{limits}") };
    assert_eq!(soft, hard, "the soft limit is as high as it may be");
    let table: u64 = told("status", "FDSize:").trim().parse().unwrap();
    assert!(table >= 4000.min(hard.parse().unwrap_or(u64::MAX)), "{table} files fit, two for each connection must");
}

/// What is in the gateway's memory does not get onto the disk by a crash, and what is on the disk is for its owner alone.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn no_core_is_dumped_and_nobody_else_reads_the_data() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::ExitStatusExt as _;
    let site = Site::new();
    let mut process = site.serve().await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    for private in [site.data_dir(), site.data_dir().join("store")] {
        let mode = std::fs::metadata(&private).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", private.display());
    }
    // The process still sees itself, for its metrics.
    let metrics = reqwest::get(format!("http://{}/metrics", site.metrics)).await.unwrap().text().await.unwrap();
    for name in ["process_open_fds", "process_max_fds", "process_resident_memory_bytes"] {
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        assert!(value.is_some_and(|value| value > 0.0), "{name} in:\n{metrics}");
    }
    process.signal("ABRT");
    let end = process.exit().await;
    assert!(!end.success() && !end.core_dumped(), "{end}");
}

/// A second process over the same data is refused with a clear text.
#[tokio::test(flavor = "multi_thread")]
async fn fault_74_store_opened_twice() {
    let site = Site::new();
    let first = site.serve().await;
    let output = Site::new().serve_over(&site.data_dir());
    assert!(!output.status.success());
    let said = text(&output.stderr);
    assert!(said.contains("another process") && said.contains(site.data_dir().to_str().unwrap()), "{said}");
    assert_eq!(text(&output.stdout), "");
    first.until_healthy(&site.address).await;
}

#[test]
fn a_taken_port_ends_the_start_with_a_clear_word() {
    let site = Site::new();
    let taken = TcpListener::bind(&site.metrics).unwrap();
    let output = site.run(&["serve"]);
    assert!(!output.status.success());
    let said = text(&output.stderr);
    assert!(said.contains(&site.metrics) && said.contains("can't listen"), "{said}");
    assert!(output.stdout.is_empty() && !site.data_dir().exists(), "nothing was made before");
    drop(taken);
}
