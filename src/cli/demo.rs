//! `perpetuo demo`: three simulated providers, the gateway in front of them, and a walk through what it does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clap::Args as ClapArgs;
use jiff::Timestamp;
use perpetuo::admin::auth::Role;
use perpetuo::config::{Config, Secret};
use perpetuo::directory::{CredentialChange, NewKey, WorkspaceChange};
use perpetuo::proxy::{self, Gateway, Listeners, Signals};
use perpetuo::simulator::demo::{DemoProviders, curl_lines};
use tokio::sync::Notify;

use super::{Outcome, logging, token};

/// Arguments of `demo`.
#[derive(ClapArgs)]
pub(super) struct Args {
    /// Where the gateway listens.
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// End after the walk instead of serving on.
    #[arg(long)]
    once: bool,
}

/// Who speaks in the demo.
struct Cast {
    address: SocketAddr,
    workspace: String,
    key: String,
    token: String,
}

/// Runs the demo until Ctrl-C, or once.
pub(super) fn run(args: &Args) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let providers = runtime.block_on(DemoProviders::start())?;
    let data_dir = std::env::temp_dir().join(format!("perpetuo-demo-{}", std::process::id()));
    let config = config(args.listen, &data_dir)?;
    logging::start(&config.log);
    let listeners = Arc::new(Listeners::bind(&config)?);
    let gateway = Gateway::open(config)?;
    let cast = furnish(&gateway, &providers, args.listen)?;
    let done = Arc::new(Notify::new());
    let walker = std::thread::spawn({
        let (done, once, gateway) = (Arc::clone(&done), args.once, Arc::clone(&gateway));
        move || {
            let walked = walk(&cast, &gateway).map_err(|error| error.to_string());
            if once || walked.is_err() {
                done.notify_one();
            } else {
                println!("The gateway serves on at http://{}; end it with Ctrl-C.\n", cast.address);
                println!("The console: http://{}/console/, with this admin token:\n{}\n", cast.address, cast.token);
                println!("Or try:\n");
                println!(
                    "{}",
                    curl_lines(&format!("http://{}", cast.address), &cast.key, &cast.token, &cast.workspace)
                );
            }
            walked
        }
    });
    proxy::serve(&gateway, &listeners, Stop(done))?;
    drop(gateway);
    let _ = std::fs::remove_dir_all(&data_dir);
    if walker.is_finished() {
        walker.join().map_err(|_| "the walk broke off")??
    }
    Ok(())
}

fn config(listen: SocketAddr, data_dir: &std::path::Path) -> Result<Config, Box<dyn std::error::Error>> {
    let text = format!(
        "data_dir = {data_dir:?}\n[server]\nlisten = \"{listen}\"\n[metrics]\nenabled = {}\n[security]\nallow_private_upstreams = [\"127.0.0.1\"]\n[log]\nlevel = \"warn\"\naccess = \"off\"\n",
        listen.port() == 3000
    );
    Config::parse(&text, "demo", std::iter::empty()).map_err(|problems| problems.to_string().into())
}

/// A workspace with the three providers, and a key.
fn furnish(
    gateway: &Gateway,
    providers: &DemoProviders,
    address: SocketAddr,
) -> Result<Cast, Box<dyn std::error::Error>> {
    let (directory, now) = (gateway.directory(), Timestamp::now());
    let change = WorkspaceChange { name: Some("demo".to_owned()), ..WorkspaceChange::default() };
    let workspace = directory.create_workspace(change, now)?.id.clone();
    // Equal priorities, so that each alias begins with its own provider.
    for (provider, base_url) in providers.base_urls() {
        let change = CredentialChange {
            api_key: Some(Secret::new(format!("simulated-key-of-{provider}"))),
            base_url: Some(Some(base_url)),
            ..CredentialChange::default()
        };
        directory.create_credential(&workspace, provider, change, now)?;
    }
    let (_, key) =
        directory.create_key(&workspace, NewKey { name: Some("demo".to_owned()), ..NewKey::default() }, now)?;
    let token = token::mint(&gateway.config(), Role::Admin, &[], Duration::from_secs(12 * 3600))?;
    Ok(Cast { address, workspace, key: key.expose().to_owned(), token })
}

/// A completion, a stream, a fallback and the bill.
fn walk(cast: &Cast, gateway: &Gateway) -> Result<(), Box<dyn std::error::Error>> {
    wait_until_open(cast.address)?;
    let hello = r#""messages":[{"role":"user","content":"Hello"}]"#;
    println!("── A completion ─ model gpt-4, the first provider answers");
    chat(cast, &format!(r#"{{"model":"gpt-4",{hello}}}"#))?;
    println!("── A stream ─ the same, token by token");
    chat(cast, &format!(r#"{{"model":"gpt-4","stream":true,"max_tokens":5,{hello}}}"#))?;
    println!(
        "── A fallback ─ model groq-fast: its first provider answers 500, the next one serves; the client sees none of it"
    );
    chat(cast, &format!(r#"{{"model":"groq-fast",{hello}}}"#))?;
    gateway.flush();
    println!("── The bill ─ GET /workspaces/{}/usage", cast.workspace);
    let path = format!("/workspaces/{}/usage", cast.workspace);
    request(cast.address, &format!("GET {path} HTTP/1.1"), &cast.token, "")
}

fn chat(cast: &Cast, body: &str) -> Outcome {
    println!("   POST /v1/chat/completions {body}");
    request(cast.address, "POST /v1/chat/completions HTTP/1.1", &cast.key, body)
}

/// Sends one request and prints the telling lines of its answer as they come.
fn request(address: SocketAddr, line: &str, bearer: &str, body: &str) -> Outcome {
    let mut connection = TcpStream::connect(address)?;
    let length = body.len();
    write!(
        connection,
        "{line}\r\nHost: {address}\r\nAuthorization: Bearer {bearer}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    let mut answer = BufReader::new(connection);
    let mut length = None;
    loop {
        let mut line = String::new();
        answer.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let name = line.to_ascii_lowercase();
        if let Some(value) = name.strip_prefix("content-length:") {
            length = value.trim().parse().ok();
        }
        if line.starts_with("HTTP/") || name.starts_with("x-perpetuo-") {
            println!("   {line}");
        }
    }
    match length {
        Some(length) => {
            let mut body = String::new();
            answer.take(length).read_to_string(&mut body)?;
            println!("   {body}\n");
        }
        None => {
            for line in answer.lines() {
                let line = line?;
                if line.starts_with("data:") {
                    println!("   {line}");
                }
            }
            println!();
        }
    }
    Ok(())
}

fn wait_until_open(address: SocketAddr) -> std::io::Result<()> {
    let mut last = Ok(());
    for _ in 0..250 {
        match TcpStream::connect(address) {
            Ok(_) => return Ok(()),
            Err(error) => last = Err(error),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    last
}

/// Ends on Ctrl-C, or when the walk is done.
struct Stop(Arc<Notify>);

#[async_trait]
impl Signals for Stop {
    async fn stop(&self) -> bool {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = self.0.notified() => {}
        }
        false
    }
}
